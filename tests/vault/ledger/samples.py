"""Entries as a gateway writes them, with ids drawn anew each time."""

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from vault.authorization import Finding, Kind, Result
from vault.ledger.entry import (
    AccessDenied,
    Actor,
    AuthorizationAttempted,
    AuthorizationCompleted,
    AuthorizationNotSent,
    AuthorizationResolved,
    AuthorizationUnknown,
    CallbackReceived,
    DetailErased,
    Draft,
    EdgeKeyCreated,
    EdgeKeyDestroyed,
    GatewayStarted,
    GatewayStopped,
    KeyRotated,
    LogOpened,
    LogSealed,
    LogUnsealed,
    OldBoot,
    OldLog,
    Opening,
    Stamp,
    TokenCreated,
    TokenDeleted,
    TokenUpdated,
    callback_actor,
)
from vault.ledger.forms import base64url

_TO_CROCKFORD: Final = b"0123456789abcdefghjkmnpqrstvwxyz" * 8
AT: Final = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
ORIGIN: Final = "ledger.example/gateway-1"
VKEY: Final = ORIGIN + "+0310466d+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"


def drawn(length: int) -> str:
    return secrets.token_bytes(length).translate(_TO_CROCKFORD).decode()


def new_uuid() -> str:
    """A UUIDv7 of early 2026."""
    random = bytearray(b"\x01\x9b" + secrets.token_bytes(14))
    random[6] = 0x70 | random[6] & 0x0F
    random[8] = 0x80 | random[8] & 0x3F
    return str(UUID(bytes=bytes(random)))


def new_token() -> str:
    return "pwt_test_" + drawn(28)


def new_kid() -> str:
    return "ek_0" + drawn(25)


def new_hash() -> str:
    return base64url(secrets.token_bytes(32))


def new_replica() -> str:
    return f"r_{drawn(8)}-{secrets.randbelow(64)}"


def new_actor() -> Actor:
    return Actor(id="k_" + drawn(16), kind="secret_key")


WRITER: Final = Actor(id="writer", kind="system")
STAMP: Final = Stamp(AT, "r_7k2m9x4d-0", "01936b2e-0000-7000-8000-000000000001", 41)


def full() -> list[Draft]:
    """One of each type, with every field that it may have."""
    intent = new_uuid()
    tenant = "t_" + drawn(26)
    actor = new_actor()
    openings = (
        Opening(key="pan", token=new_token(), version=1),
        Opening(key="cvc", token=new_token(), version=12),
    )
    return [
        LogOpened(
            actor=Actor(id="bootstrap", kind="system"),
            id=new_uuid(),
            env="test",
            origin=ORIGIN,
            vkey=VKEY,
            previous=OldLog(origin="ledger.example/gateway-0", root=new_hash(), size=12),
        ),
        GatewayStarted(
            actor=WRITER,
            id=new_uuid(),
            config=new_hash(),
            role="all",
            version="0.1.0",
            previous=OldBoot(boot=new_uuid(), n=7),
        ),
        GatewayStopped(actor=WRITER, id=new_uuid()),
        TokenCreated(
            actor=actor,
            id=new_uuid(),
            token=new_token(),
            format="pan_like",
            key_version=3,
            single_use=True,
            tenant=tenant,
            detail=new_hash(),
            expires_at="2026-02-28T23:59:59.999Z",
        ),
        TokenUpdated(
            actor=actor,
            id=new_uuid(),
            token=new_token(),
            changed=("customer_reference", "expires_at", "expiry"),
            reason="patch",
            tenant=tenant,
            detail=new_hash(),
        ),
        TokenDeleted(
            actor=actor, id=new_uuid(), token=new_token(), reason="request", tenant=tenant
        ),
        AuthorizationAttempted(
            actor=actor,
            id=intent,
            intent=intent,
            tenant=tenant,
            attempt=2,
            kind=Kind.AUTHORIZE,
            opens=openings,
            operation="payment_intents.confirm",
            route="stripe",
            detail=new_hash(),
            of=new_uuid(),
        ),
        AuthorizationCompleted(
            actor=actor,
            id=new_uuid(),
            intent=intent,
            tenant=tenant,
            ms=431,
            result=Result.APPROVED,
            status=200,
            detail=new_hash(),
            origin_boot=new_uuid(),
        ),
        AuthorizationNotSent(
            actor=actor,
            id=new_uuid(),
            intent=intent,
            tenant=tenant,
            phase="decrypt",
            reason="vault_sealed",
            origin_boot=new_uuid(),
        ),
        AuthorizationUnknown(
            actor=actor,
            id=new_uuid(),
            intent=intent,
            tenant=tenant,
            phase="reply",
            reason="upstream_reset",
            status=200,
            detail=new_hash(),
            origin_boot=new_uuid(),
        ),
        AuthorizationResolved(
            actor=Actor(id="reconciler", kind="system"),
            id=new_uuid(),
            intent=intent,
            tenant=tenant,
            method="inquiry",
            finding=Finding.ANSWERED,
            result=Result.DECLINED,
            status=402,
            supersedes=17,
            detail=new_hash(),
            origin_boot=new_uuid(),
        ),
        KeyRotated(
            actor=Actor(id="rotation", kind="system"),
            id=new_uuid(),
            key="ledger",
            from_version=1,
            to_version=2,
            vkey=VKEY,
        ),
        EdgeKeyCreated(actor=Actor(id="rotation", kind="system"), id=new_uuid(), kid=new_kid()),
        EdgeKeyDestroyed(
            actor=Actor(id="op_console", kind="operator"), id=new_uuid(), kid=new_kid()
        ),
        DetailErased(
            actor=actor, id=new_uuid(), tenant=tenant, entries=(0, 7, 1_000_000), reason="request"
        ),
        LogSealed(
            actor=Actor(id="publisher", kind="system"),
            id=new_uuid(),
            cause="fork",
            detail=new_hash(),
        ),
        LogUnsealed(
            actor=Actor(id="op_4f8z", kind="operator"),
            id=new_uuid(),
            cause="rollback",
            detail=new_hash(),
        ),
        CallbackReceived(
            actor=callback_actor("cbe_" + "0" * 32),
            id=new_uuid(),
            route="stripe",
            signature="valid",
            tenant=tenant,
            detail=new_hash(),
            intent=intent,
        ),
        AccessDenied(
            actor=Actor(id="none", kind="anonymous"),
            id=new_uuid(),
            cause="key",
            count=3,
            detail=new_hash(),
            tenant=tenant,
        ),
    ]


EVERYWHERE: Final = frozenset({"v", "type", "id", "ts", "boot", "n", "replica", "actor"})

# The fields of each type beside those: always there, and there when they apply.
FIELDS: Final[Mapping[str, tuple[frozenset[str], frozenset[str]]]] = {
    name: (frozenset(always.split()), frozenset(sometimes.split()))
    for name, always, sometimes in (
        ("log.opened", "env origin vkey", "previous"),
        ("gateway.started", "version config role", "previous"),
        ("gateway.stopped", "", ""),
        ("token.created", "tenant token format key_version single_use", "expires_at detail"),
        ("token.updated", "tenant token changed reason", "detail"),
        ("token.deleted", "tenant token reason", ""),
        (
            "authorization.attempted",
            "tenant intent kind attempt route operation opens",
            "of detail",
        ),
        ("authorization.completed", "tenant intent result status ms", "origin_boot detail"),
        ("authorization.not_sent", "tenant intent phase reason", "origin_boot"),
        ("authorization.unknown", "tenant intent phase reason", "status origin_boot detail"),
        (
            "authorization.resolved",
            "tenant intent method finding result",
            "status supersedes origin_boot detail",
        ),
        ("key.rotated", "key from to", "vkey"),
        ("edge_key.created", "kid", ""),
        ("edge_key.destroyed", "kid", ""),
        ("detail.erased", "tenant entries reason", ""),
        ("ledger.sealed", "cause", "detail"),
        ("ledger.unsealed", "cause", "detail"),
        ("callback.received", "route signature tenant", "detail intent"),
        ("access.denied", "cause count", "tenant detail"),
    )
}
