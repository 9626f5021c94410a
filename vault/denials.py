"""Refusals of access as the ledger has them: one entry for a cause, a tenant and a minute.

A refusal is cheap to provoke, so what is on record of it is bounded: refusals are counted in
memory, and groups are appended when their minute is over. Counts are exact; beyond
`GROUPS_A_MINUTE_MAX` groups a tenant is no longer named. What never may live here: what was
presented, and the decision to refuse.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from secrets import token_bytes
from typing import ClassVar, Final, Self
from uuid import UUID

from msgspec import UNSET

from vault.db import Connection
from vault.errors import CustodyError
from vault.ids import new_uuid7
from vault.intent_table import AlreadyRecorded
from vault.ledger.entry import AccessDenied, Actor
from vault.ledger.forms import DeniedCause
from vault.ledger.store import Ledger
from vault.ledger.unit import Line, Placed, Unit, committed

FLUSH_SECONDS: Final = 10.0
GROUPS_A_MINUTE_MAX: Final = 100
MINUTES_OWED_MAX: Final = 60
NOBODY: Final = Actor(id="none", kind="anonymous")

_MINUTE_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class PutDenials(Unit):
    """The groups of a minute: they change no row, and appending them twice is appending once."""

    order: ClassVar[int] = 0
    lines: Sequence[Line]

    @classmethod
    async def check(
        cls,
        connection: Connection,
        units: Sequence[Self],
        at: datetime,  # noqa: ARG003 - it is never too late
    ) -> Mapping[int, CustodyError]:
        firsts = [UUID(unit.lines[0].entry.id) for unit in units]
        rows = await connection.fetch("SELECT id FROM entry WHERE id = ANY($1)", firsts)
        recorded = {row["id"] for row in rows}
        refused: dict[int, CustodyError] = {}
        for position, first in enumerate(firsts):
            if first in recorded:
                refused[position] = AlreadyRecorded()
            recorded.add(first)
        return refused

    @classmethod
    async def apply(
        cls, connection: Connection, units: Sequence[Self], placed: Sequence[Sequence[Placed]]
    ) -> None:
        """Change nothing."""


@dataclass(slots=True)
class _Group:
    """What is known of the refusals of a group: an actor and an address if all have one."""

    actor: Actor
    address: str | None
    count: int = 1

    def add(self, actor: Actor, address: str | None) -> None:
        self.count += 1
        if actor != self.actor:
            self.actor = NOBODY
        if address != self.address:
            self.address = None


class Denials:
    """Counts refusals, and puts them on record."""

    def __init__(self, ledger: Ledger, *, now: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._now = now
        self._minute = 0
        self._groups: dict[tuple[DeniedCause, str | None], _Group] = {}
        self._owed: deque[PutDenials] = deque(maxlen=MINUTES_OWED_MAX)  # the oldest goes first

    def note(
        self,
        cause: DeniedCause,
        *,
        tenant: str | None,
        source_address: str | None,
        actor: Actor | None = None,
    ) -> None:
        """Count a refusal. `tenant` and `actor` are those of a credential that was proved."""
        self._end_minute()
        key = cause, tenant
        if key not in self._groups and len(self._groups) >= GROUPS_A_MINUTE_MAX:
            key = cause, None
        group = self._groups.get(key)
        if group is None:
            self._groups[key] = _Group(actor or NOBODY, source_address)
        else:
            group.add(actor or NOBODY, source_address)

    async def flush(self) -> None:
        """Append what is owed of minutes that are over; what fails is owed still."""
        self._end_minute()
        await self._pay()

    async def close(self) -> None:
        """Append all, while the ledger can still be appended to."""
        self._owe()
        await self._pay()

    def _end_minute(self) -> None:
        minute = int(self._now().timestamp()) // _MINUTE_SECONDS
        if minute != self._minute:
            self._owe()
            self._minute = minute

    def _owe(self) -> None:
        if self._groups:
            lines = [self._line(*key, group) for key, group in self._groups.items()]
            self._owed.append(PutDenials(lines))
            self._groups.clear()

    async def _pay(self) -> None:
        for unit in list(self._owed):
            try:
                await self._ledger.append(unit)
            except AlreadyRecorded:  # its acknowledgment was lost
                pass
            except CustodyError:
                return  # the others would not fare better now
            if unit in self._owed:
                self._owed.remove(unit)

    def _line(self, cause: DeniedCause, tenant: str | None, group: _Group) -> Line:
        entry = AccessDenied(
            id=str(new_uuid7(self._now())),
            actor=group.actor,
            cause=cause,
            count=group.count,
            tenant=UNSET if tenant is None else tenant,
        )
        return committed(entry, {"source_address": group.address}, salt=token_bytes(32))
