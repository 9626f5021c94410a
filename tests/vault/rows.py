"""Units of the ledger as custody makes them, without a key service: what is sealed is made up."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from msgspec import UNSET

from tests.vault.ledger.samples import drawn, new_actor, new_replica, new_uuid
from vault.authorization import Finding, Kind, Result, State
from vault.claim_table import ClaimHold
from vault.intent_table import IntentFacts, OpenIntent, SettleIntent, Settlement
from vault.ledger.entry import (
    AuthorizationAttempted,
    AuthorizationCompleted,
    AuthorizationNotSent,
    AuthorizationResolved,
    AuthorizationUnknown,
    Opening,
    Outcome,
    TokenCreated,
    TokenDeleted,
    TokenUpdated,
)
from vault.ledger.unit import Line, Statement, committed
from vault.token_table import (
    ChangeToken,
    CreateToken,
    CvcRow,
    DeleteToken,
    FingerprintValue,
    TokenRow,
)
from vault.tokens import new_id, new_token

ACTOR = new_actor()


def new_tenant() -> str:
    return "t_" + drawn(12)


def now() -> datetime:
    return datetime.now(UTC)


# --- tokens ---------------------------------------------------------------------------------


def new_row(tenant: str, **changes: object) -> TokenRow:
    row = TokenRow(
        id=new_token("test"),
        tenant=tenant,
        pan_like=None,
        format="opaque",
        brand="visa",
        pan_length=16,
        last4="4242",
        bin="424242",
        exp_month=12,
        exp_year=2031,
        ciphertext="vault:v1:" + secrets.token_urlsafe(60),
        key_version=1,
        fingerprint=new_id("fp"),
        reusable=False,
        single_use=False,
        expires_at=None,
        customer_reference=None,
        created_at=now(),
    )
    return replace(row, **changes)  # type: ignore[arg-type]


def new_fingerprint() -> FingerprintValue:
    return FingerprintValue(1, secrets.token_bytes(32))


def new_cvc(seconds: float = 900) -> CvcRow:
    return CvcRow("vault:v3:" + secrets.token_urlsafe(30), 3, now() + timedelta(seconds=seconds))


def create(
    row: TokenRow, fingerprint: FingerprintValue | None = None, cvc: CvcRow | None = None
) -> CreateToken:
    entry = TokenCreated(
        id=new_uuid(),
        actor=ACTOR,
        tenant=row.tenant,
        token=row.id,
        format="pan_like" if row.format == "pan_like" else "opaque",
        key_version=row.key_version,
        single_use=row.single_use,
    )
    line = committed(
        entry, {"customer_reference": row.customer_reference}, salt=secrets.token_bytes(32)
    )
    return CreateToken(row, fingerprint or new_fingerprint(), cvc, (line,))


def change(row: TokenRow, **to: object) -> ChangeToken:
    new = replace(row, **to)  # type: ignore[arg-type]
    entry = TokenUpdated(
        id=new_uuid(),
        actor=ACTOR,
        tenant=row.tenant,
        token=row.id,
        changed=("expiry",),
        reason="patch",
    )
    return ChangeToken(
        row.tenant,
        row.id,
        new.exp_month,
        new.exp_year,
        new.expires_at,
        new.customer_reference,
        (Line(entry),),
    )


def delete(row: TokenRow) -> DeleteToken:
    return DeleteToken(row.tenant, row.id, (Line(deleted_entry(row)),))


def deleted_entry(row: TokenRow, reason: Literal["request", "used"] = "request") -> TokenDeleted:
    return TokenDeleted(id=new_uuid(), actor=ACTOR, tenant=row.tenant, token=row.id, reason=reason)


def statement(lines: int = 1) -> Statement:
    """Make something that is on record and changes no row."""
    return Statement(tuple(Line(deleted_entry(new_row("t_none"))) for _ in range(lines)))


def ids_of(unit: Statement | CreateToken | OpenIntent | SettleIntent) -> list[UUID]:
    return [UUID(line.entry.id) for line in unit.lines]


# --- intents --------------------------------------------------------------------------------


@dataclass
class Sender:
    """A process that opens and settles intents, of one tenant."""

    tenant: str = field(default_factory=new_tenant)
    replica: str = field(default_factory=new_replica)
    boot: UUID = field(default_factory=lambda: UUID(new_uuid()))

    def row(self, **changes: object) -> TokenRow:
        return new_row(self.tenant, **changes)

    def opens(
        self,
        *rows: TokenRow,
        cvc: bool = False,
        hold: ClaimHold | None = None,
        first: str | None = None,
        attempt: int = 1,
        **facts: object,
    ) -> OpenIntent:
        """An intent that opens the numbers of these cards, and with `cvc` their codes too."""
        keys: Sequence[Literal["pan", "cvc"]] = ("pan", "cvc") if cvc else ("pan",)
        openings = tuple(Opening(key=key, token=row.id, version=1) for row in rows for key in keys)
        intent = new_uuid()
        entry = AuthorizationAttempted(
            id=intent,
            intent=intent,
            actor=ACTOR,
            tenant=self.tenant,
            kind=Kind.AUTHORIZE,
            attempt=attempt,
            of=first or UNSET,
            route="stripe",
            operation="payment_intents.confirm",
            opens=openings,
        )
        known: dict[str, Any] = {
            "intent": intent,
            "first": first or intent,
            "attempt": attempt,
            "tenant": self.tenant,
            "route": "stripe",
            "operation": "payment_intents.confirm",
            "kind": "authorize",
            "opens": openings,
            "amount": 1999,
            "currency": "EUR",
            "merchant_reference": None,
            "key_digest": hold.key_digest if hold else None,
            **facts,
        }
        return OpenIntent(IntentFacts(**known), hold, self.replica, self.boot, (Line(entry),))

    def settles(
        self,
        opened: OpenIntent,
        state: State,
        result: Result | None = None,
        *,
        burned: Sequence[TokenRow] = (),
        **more: object,
    ) -> SettleIntent:
        """What became of an intent; for `completed` and `resolved` with its result."""
        facts = opened.facts
        known: dict[str, Any] = {
            "finding": Finding.ANSWERED if state is State.RESOLVED else None,
            **more,
        }
        lines = (
            Line(outcome_entry(facts.intent, self.tenant, state, result)),
            *(Line(deleted_entry(row, "used")) for row in burned),
        )
        settlement = Settlement(facts.intent, state, result, **known)
        tokens = tuple(row.id for row in burned)
        return SettleIntent(facts.first, (settlement,), lines, None, tokens)


def outcome_entry(intent: str, tenant: str, state: State, result: Result | None = None) -> Outcome:
    common: dict[str, Any] = {
        "id": new_uuid(),
        "intent": intent,
        "actor": ACTOR,
        "tenant": tenant,
    }
    match state:
        case State.COMPLETED:
            assert result is not None
            return AuthorizationCompleted(ms=12, result=result, status=200, **common)
        case State.NOT_SENT:
            return AuthorizationNotSent(phase="connect", reason="upstream_unreachable", **common)
        case State.UNKNOWN:
            return AuthorizationUnknown(phase="sent", reason="upstream_timeout", **common)
        case State.RESOLVED:
            assert result is not None
            return AuthorizationResolved(
                method="inquiry", finding=Finding.ANSWERED, result=result, **common
            )
        case _:
            raise AssertionError(state)
