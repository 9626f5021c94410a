"""How later evidence about a send becomes a unit of the ledger: a `resolved`, never an edit.

Evidence comes from an inquiry, a callback, an audit log, an operator's word, or from a deadline.
What a send in doubt came to ends the doubt; what contradicts an outcome that is on record names
the entry that it contradicts. What never lives here: where evidence comes from.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from secrets import token_bytes
from typing import ClassVar, Final, Self
from uuid import UUID

from msgspec import UNSET

from vault.authorization import CONSUMES_CVC, Finding, Result, State
from vault.db import Connection
from vault.doubt_table import Doubt, DoubtfulSend, EndedSend
from vault.errors import CustodyError
from vault.ids import new_uuid7
from vault.intent_table import (
    AlreadyRecorded,
    SealedAnswer,
    SettleIntent,
    Settlement,
    TransitionRefused,
)
from vault.ledger.entry import Actor, AuthorizationResolved, TokenDeleted
from vault.ledger.forms import Method
from vault.ledger.unit import Line, Placed, committed

RECONCILER: Final = Actor(id="reconciler", kind="system")
STATEMENT_CHARACTERS_MAX: Final = 1000

_ENDED: Final = frozenset({State.COMPLETED, State.NOT_SENT, State.RESOLVED})


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found out, and how. Only an answer has a result other than `error`."""

    method: Method
    finding: Finding
    result: Result = Result.ERROR
    status: int | None = None
    processor_reference: str | None = None
    decline_code: str | None = None
    authorization_code: str | None = None
    words: str | None = None  # what else speaks for it: an id, or what an operator says

    def __post_init__(self) -> None:
        assert self.finding is Finding.ANSWERED or self.result is Result.ERROR
        assert len(self.words or "") <= STATEMENT_CHARACTERS_MAX


@dataclass(frozen=True, slots=True)
class Scribe:
    """Who puts evidence on record, in what boot; None: one that has made no send itself."""

    actor: Actor
    boot: UUID | None
    now: Callable[[], datetime]


def resolution(
    doubt: Doubt, evidence: Evidence, answer: SealedAnswer | None, by: Scribe
) -> SettleIntent:
    """Make the unit that ends a doubt, for all of its sends: they were one request.

    Tokens for one use are spent by what consumes a CVC, and where nobody will ever know.
    """
    spent = evidence.result in CONSUMES_CVC or evidence.finding is Finding.GIVEN_UP
    burned = doubt.singles if spent else ()
    resolved = [_line(doubt.tenant, send, evidence, by) for send in doubt.sends]
    return SettleIntent(
        first=doubt.first,
        settlements=tuple(_settlement(send.intent, evidence) for send in doubt.sends),
        lines=(*resolved, *_deleted(doubt.tenant, burned, by)),
        answer=answer,
        burned=burned,
    )


@dataclass(frozen=True, slots=True)
class Contradict(SettleIntent):
    """Evidence against an outcome that is on record: the entry that it contradicts is named."""

    order: ClassVar[int] = 51

    @classmethod
    async def check(
        cls,
        connection: Connection,
        units: Sequence[Self],
        at: datetime,  # noqa: ARG003 - it is never too late
    ) -> Mapping[int, CustodyError]:
        rows = await connection.fetch(
            "SELECT intent, state, last_idx FROM intent_state WHERE intent = ANY($1)",
            [UUID(one.intent) for unit in units for one in unit.settlements],
        )
        last = {str(row["intent"]): (State(row["state"]), row["last_idx"]) for row in rows}
        known = await connection.fetch(
            "SELECT id FROM entry WHERE id = ANY($1)", [unit.lines[0].entry.id for unit in units]
        )
        recorded = {str(row["id"]) for row in known}
        refused: dict[int, CustodyError] = {}
        for position, unit in enumerate(units):
            intent = unit.settlements[0].intent
            state, idx = last.pop(intent, (None, None))  # the second of a batch comes too late
            entry = unit.lines[0].entry
            assert isinstance(entry, AuthorizationResolved)
            if str(entry.id) in recorded:
                refused[position] = AlreadyRecorded()
            elif state not in _ENDED or entry.supersedes != idx:
                refused[position] = TransitionRefused(intent, state)
        return refused

    @classmethod
    async def apply(
        cls, connection: Connection, units: Sequence[Self], placed: Sequence[Sequence[Placed]]
    ) -> None:
        await super(Contradict, cls).apply(connection, units, placed)
        # What a repeat was told until now is what turned out not to be true.
        await connection.execute(
            "DELETE FROM answer WHERE intent = ANY($1)",
            [UUID(one.intent) for unit in units for one in unit.settlements],
        )


def contradiction(
    tenant: str,
    first: str,
    ended: EndedSend,
    evidence: Evidence,
    by: Scribe,
    *,
    singles: tuple[str, ...] = (),
) -> Contradict:
    """Make the unit that says otherwise than what is on record of a send.

    `singles` are tokens for one use that it opened and nobody else has taken since.
    """
    burned = singles if evidence.result in CONSUMES_CVC else ()
    return Contradict(
        first,
        (_settlement(ended.intent, evidence),),
        (_line(tenant, ended, evidence, by), *_deleted(tenant, burned, by)),
        burned=burned,
    )


def _deleted(tenant: str, tokens: Sequence[str], by: Scribe) -> list[Line]:
    return [
        Line(
            TokenDeleted(
                id=str(new_uuid7(by.now())),
                tenant=tenant,
                actor=by.actor,
                token=token,
                reason="used",
            )
        )
        for token in tokens
    ]


def _line(tenant: str, send: DoubtfulSend | EndedSend, evidence: Evidence, by: Scribe) -> Line:
    entry = AuthorizationResolved(
        id=str(new_uuid7(by.now())),
        tenant=tenant,
        actor=by.actor,
        origin_boot=send.boot if send.boot != str(by.boot) else UNSET,
        intent=send.intent,
        method=evidence.method,
        finding=evidence.finding,
        result=evidence.result,
        status=evidence.status or UNSET,
        supersedes=send.last_idx if isinstance(send, EndedSend) else UNSET,
    )
    words = {
        "processor_reference": evidence.processor_reference,
        "decline_code": evidence.decline_code,
        "authorization_code": evidence.authorization_code,
        "evidence": evidence.words,
    }
    return committed(entry, words, salt=token_bytes(32))


def _settlement(intent: str, evidence: Evidence) -> Settlement:
    return Settlement(
        intent=intent,
        state=State.RESOLVED,
        result=evidence.result,
        finding=evidence.finding,
        status=evidence.status,
        processor_reference=evidence.processor_reference,
        decline_code=evidence.decline_code,
        authorization_code=evidence.authorization_code,
    )
