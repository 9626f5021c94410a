"""A log as the writer writes it, and its rows as the database has them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import UNSET, UnsetType

from tests.vault.ledger.samples import (
    AT,
    ORIGIN,
    VKEY,
    WRITER,
    new_actor,
    new_hash,
    new_uuid,
)
from vault.authorization import Finding, Kind, Result, State
from vault.ledger.check import LogCheck, Report
from vault.ledger.entry import (
    AuthorizationAttempted,
    AuthorizationCompleted,
    AuthorizationNotSent,
    AuthorizationResolved,
    AuthorizationUnknown,
    Draft,
    GatewayStarted,
    GatewayStopped,
    LogOpened,
    OldBoot,
    Opening,
    Stamp,
    TokenCreated,
    TokenDeleted,
    encode,
)
from vault.ledger.rules import Rule
from vault.ledger.tree import leaf_hash, root_of

TENANT: Final = "t_01"
ACTOR: Final = new_actor()
REPLICA: Final = "r_7k2m9x4d-0"
OTHER_REPLICA: Final = "r_7k2m9x4d-1"


@dataclass
class Row:
    """An entry as the database has it."""

    index: int
    body: bytes
    leaf: bytes
    type: str
    intent: str | None


@dataclass
class Log:
    """A log that is written as the writer writes it."""

    rows: list[Row] = field(default_factory=list)
    boots: dict[str, tuple[str, int]] = field(default_factory=dict)  # id and next n

    def add(self, draft: Draft, *, replica: str = REPLICA, n: int | None = None) -> int:
        """Append, and return the index."""
        boot, counted = self.boots[replica]
        place = counted if n is None else n
        self.boots[replica] = (boot, place + 1)
        body = encode(draft, Stamp(AT, replica, boot, place))
        return self.add_bytes(body, draft.type, draft.intent_id)

    def add_bytes(self, body: bytes, type_column: str, intent: str | None = None) -> int:
        index = len(self.rows)
        self.rows.append(Row(index, body, leaf_hash(body), type_column, intent))
        return index

    def boot(self, replica: str = REPLICA, boot: str | None = None) -> None:
        self.boots[replica] = (boot or new_uuid(), 0)

    def start(self, replica: str = REPLICA, previous: OldBoot | UnsetType = UNSET) -> int:
        self.boot(replica)
        return self.add(started(previous), replica=replica)

    def check(self) -> Report:
        return check(self.rows, len(self.rows), root_of(row.leaf for row in self.rows))

    def broken(self) -> list[tuple[Rule, int | None]]:
        return [(found.rule, found.index) for found in self.check().violations]


def check(rows: Sequence[Row], size: int, root: bytes) -> Report:
    log = LogCheck()
    for row in rows:
        log.feed(row.index, row.body, row.leaf, row.type, row.intent)
    return log.finish(size, root)


def opened_log() -> Log:
    log = Log()
    log.boot()
    log.add(opened())
    log.add(started())
    return log


def opened() -> LogOpened:
    return LogOpened(actor=WRITER, id=new_uuid(), env="test", origin=ORIGIN, vkey=VKEY)


def started(previous: OldBoot | UnsetType = UNSET) -> GatewayStarted:
    return GatewayStarted(
        actor=WRITER,
        id=new_uuid(),
        config=new_hash(),
        role="all",
        version="0.1.0",
        previous=previous,
    )


def stopped() -> GatewayStopped:
    return GatewayStopped(actor=WRITER, id=new_uuid())


def created(token: str) -> TokenCreated:
    return TokenCreated(
        actor=ACTOR,
        id=new_uuid(),
        token=token,
        format="opaque",
        key_version=1,
        single_use=False,
        tenant=TENANT,
    )


def deleted(token: str) -> TokenDeleted:
    return TokenDeleted(actor=ACTOR, id=new_uuid(), token=token, reason="request", tenant=TENANT)


def attempted(
    intent: str, token: str | None = None, *, attempt: int = 1, of: str | UnsetType = UNSET
) -> AuthorizationAttempted:
    return AuthorizationAttempted(
        actor=ACTOR,
        id=intent,
        intent=intent,
        tenant=TENANT,
        attempt=attempt,
        of=of,
        kind=Kind.AUTHORIZE,
        opens=(Opening(key="pan", token=token, version=1),) if token else (),
        operation="payment_intents.confirm",
        route="stripe",
    )


def outcome(intent: str, state: State, supersedes: int | UnsetType = UNSET) -> Draft:
    common: dict[str, Any] = {
        "actor": ACTOR,
        "id": new_uuid(),
        "intent": intent,
        "tenant": TENANT,
    }
    match state:
        case State.COMPLETED:
            return AuthorizationCompleted(ms=12, result=Result.APPROVED, status=200, **common)
        case State.NOT_SENT:
            return AuthorizationNotSent(phase="decrypt", reason="vault_sealed", **common)
        case State.UNKNOWN:
            return AuthorizationUnknown(phase="sent", reason="upstream_timeout", **common)
        case State.RESOLVED:
            return AuthorizationResolved(
                method="inquiry",
                finding=Finding.NOT_RECEIVED,
                result=Result.ERROR,
                supersedes=supersedes,
                **common,
            )
        case _:
            raise AssertionError(state)
