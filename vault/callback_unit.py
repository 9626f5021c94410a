"""Events of processors as units of the ledger: the inbox row, the entry, and what they change.

One unit: either the event is received with all that follows from it, or nothing happened. What
was decided from was looked up before; under the head's lock it must still be so, or the author
looks again. Hence no order of events, answers and repeats comes to another end.

What never lives here: what an event means (`vault/payment_events.py`).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final, Self
from uuid import UUID

from vault.callback_table import COLUMNS, EVIDENCE, LINK, CallbackRow, Candidate, links
from vault.db import Connection
from vault.errors import CustodyError
from vault.intent_table import SettleIntent
from vault.ledger.unit import Line, Placed, Unit
from vault.resolutions import Contradict

STATEMENT_BYTES_MAX: Final = 4 << 20

Version = tuple[int, datetime | None]
"""Which state of a request was seen: the index of what was last said of it, and its evidence."""


class AlreadyReceived(CustodyError):
    """The event is on record."""


class Moved(CustodyError):
    """What was looked up is not so any more: look again."""


@dataclass(frozen=True, slots=True)
class Effects:
    """What follows from an event for the requests that it speaks of.

    `seen` are all that were looked at, also those of which nothing follows. `evidence`: whose rows
    show from now on what an event says, and when that came about.
    """

    seen: tuple[Candidate, ...] = ()
    changes: tuple[SettleIntent, ...] = ()
    evidence: tuple[tuple[str, datetime], ...] = ()
    codes_of: tuple[str, ...] = ()  # requests whose codes must be gone, though they were given back

    @property
    def lines(self) -> tuple[Line, ...]:
        return tuple(line for change in self.changes for line in change.lines)

    @property
    def touches(self) -> set[str]:
        return {change.first for change in self.changes} | {first for first, _ in self.evidence}


@dataclass(frozen=True, slots=True)
class _Reported(Unit):
    """Shared by an event that comes in and one that is matched later."""

    row: CallbackRow
    effects: Effects
    lines: Sequence[Line]

    @classmethod
    async def check(
        cls, connection: Connection, units: Sequence[Self], at: datetime
    ) -> Mapping[int, CustodyError]:
        versions = await _versions(connection, units)
        illegal = await _illegal(connection, units, at)
        tokens = await _free_singles(connection, units)
        refused: dict[int, CustodyError] = {}
        touched: set[str] = set()
        for position, unit in enumerate(units):
            effects = unit.effects
            seen = {one.first: (one.idx, one.evidence_at) for one in effects.seen}
            burned = {token for change in effects.changes for token in change.burned}
            is_moved = any(versions.get(first) != version for first, version in seen.items())
            if is_moved or not touched.isdisjoint(seen) or position in illegal or burned - tokens:
                refused[position] = Moved()
                continue
            touched |= effects.touches
            tokens -= burned
        return refused

    @classmethod
    async def apply(
        cls, connection: Connection, units: Sequence[Self], placed: Sequence[Sequence[Placed]]
    ) -> None:
        for kind in (SettleIntent, Contradict):
            changes: list[SettleIntent] = []
            places: list[Sequence[Placed]] = []
            for unit, of_unit in zip(units, placed, strict=True):
                at = len(of_unit) - len(unit.effects.lines)  # after what is the event's own
                for change in unit.effects.changes:
                    if type(change) is kind:
                        changes.append(change)
                        places.append(of_unit[at : at + len(change.lines)])
                    at += len(change.lines)
            if changes:
                await kind.apply(connection, changes, places)
        evidence = [pair for unit in units for pair in unit.effects.evidence]
        if evidence:
            firsts, times = zip(*evidence, strict=True)
            await connection.execute(EVIDENCE, [UUID(first) for first in firsts], list(times))
        codes_of = [UUID(first) for unit in units for first in unit.effects.codes_of]
        if codes_of:
            await connection.execute(_FORGET_CODES, codes_of)


@dataclass(frozen=True, slots=True)
class ReceiveCallback(_Reported):
    """An event is received; the first line is its own."""

    order: ClassVar[int] = 60

    @property
    def begins(self) -> bool:
        """A processor tries again: while the store lacks room it has to."""
        return True

    @classmethod
    async def check(
        cls, connection: Connection, units: Sequence[Self], at: datetime
    ) -> Mapping[int, CustodyError]:
        rows = await connection.fetch(
            "SELECT c.tenant, c.route, c.event_id FROM callback c"
            " JOIN unnest($1::text[], $2::text[], $3::text[]) AS w (tenant, route, event_id)"
            " USING (tenant, route, event_id)",
            [unit.row.tenant for unit in units],
            [unit.row.route for unit in units],
            [unit.row.event_id for unit in units],
        )
        known = {(row["tenant"], row["route"], row["event_id"]) for row in rows}
        refused: dict[int, CustodyError] = {}
        fresh: list[int] = []
        for position, unit in enumerate(units):
            identity = (unit.row.tenant, unit.row.route, unit.row.event_id)
            if identity in known:  # on record, or earlier in this batch
                refused[position] = AlreadyReceived()
            else:
                known.add(identity)
                fresh.append(position)
        moved = await super(ReceiveCallback, cls).check(
            connection, [units[position] for position in fresh], at
        )
        return refused | {fresh[position]: error for position, error in moved.items()}

    @classmethod
    async def apply(
        cls, connection: Connection, units: Sequence[Self], placed: Sequence[Sequence[Placed]]
    ) -> None:
        idx = COLUMNS.index("idx")
        rows = [list(_values(unit.row)) for unit in units]
        for row, of_unit in zip(rows, placed, strict=True):
            row[idx] = of_unit[0].idx
        for some in _bounded(rows):
            await connection.execute(_INSERT, *zip(*some, strict=True))
        await super(ReceiveCallback, cls).apply(connection, units, placed)


@dataclass(frozen=True, slots=True)
class MatchCallback(_Reported):
    """An event that was received before its request was known has its effect now.

    It changes an outcome, or it were no unit: so one that was matched meanwhile is `Moved`.
    """

    order: ClassVar[int] = 61
    first: str
    action: str | None

    @classmethod
    async def apply(
        cls, connection: Connection, units: Sequence[Self], placed: Sequence[Sequence[Placed]]
    ) -> None:
        named = [(unit.row.id, unit.first, unit.action) for unit in units]
        await connection.execute(LINK, *links(named))
        await super(MatchCallback, cls).apply(connection, units, placed)


async def _versions(connection: Connection, units: Sequence[_Reported]) -> Mapping[str, Version]:
    firsts = {one.first for unit in units for one in unit.effects.seen}
    if not firsts:
        return {}
    rows = await connection.fetch(
        "SELECT first, idx, evidence_at FROM authorizations WHERE first = ANY($1)",
        [UUID(first) for first in firsts],
    )
    return {str(row["first"]): (row["idx"], row["evidence_at"]) for row in rows}


async def _illegal(connection: Connection, units: Sequence[_Reported], at: datetime) -> set[int]:
    """Units with a change that its own kind refuses: what callbacks bring stands above no rule."""
    found: set[int] = set()
    for kind in (SettleIntent, Contradict):
        of_kind = [
            (position, change)
            for position, unit in enumerate(units)
            for change in unit.effects.changes
            if type(change) is kind
        ]
        if of_kind:
            refused = await kind.check(connection, [change for _, change in of_kind], at)
            found |= {of_kind[place][0] for place in refused}
    return found


async def _free_singles(connection: Connection, units: Sequence[_Reported]) -> set[str]:
    """Tokens that are to be burned and are still there for it."""
    wanted = [
        (token, UUID(change.first))
        for unit in units
        for change in unit.effects.changes
        for token in change.burned
    ]
    if not wanted:
        return set()
    rows = await connection.fetch(
        "SELECT t.id FROM token t JOIN unnest($1::text[], $2::uuid[]) AS w (id, first) USING (id)"
        " WHERE t.single_use AND coalesce(t.held_by, w.first) = w.first",
        [token for token, _ in wanted],
        [first for _, first in wanted],
    )
    return {row["id"] for row in rows}


def _values(row: CallbackRow) -> Sequence[object]:
    values: dict[str, object] = {name: getattr(row, name) for name in COLUMNS}
    values["id"] = UUID(row.id)
    for name in ("first", "action"):
        values[name] = UUID(str(values[name])) if values[name] else None
    values["effect"] = row.effect.value if row.effect else None
    values["headers"] = None if row.headers is None else json.dumps(row.headers)
    return list(values.values())


def _bounded(rows: Sequence[Sequence[object]]) -> Iterator[Sequence[Sequence[object]]]:
    """Part rows so that a statement carries only so many bytes of bodies: it is held twice."""
    body = COLUMNS.index("body")
    begin = size = 0
    for end, row in enumerate(rows):
        content = row[body]
        length = len(content) if isinstance(content, bytes) else 0
        if size + length > STATEMENT_BYTES_MAX and end > begin:
            yield rows[begin:end]
            begin, size = end, 0
        size += length
    yield rows[begin:]


_OTHER_TYPES: Final = {
    **dict.fromkeys(("id", "first", "action"), "uuid"),
    **dict.fromkeys(("event_at", "received_at"), "timestamptz"),
    **dict.fromkeys(("amount", "idx"), "bigint"),
    "is_scrubbed": "bool",
    "body": "bytea",
}
_ARRAYS: Final = ", ".join(
    f"${number}::{_OTHER_TYPES.get(name, 'text')}[]" for number, name in enumerate(COLUMNS, 1)
)
_INSERT: Final = (
    f"INSERT INTO callback ({', '.join(COLUMNS)})"  # noqa: S608 - ours
    f" SELECT * FROM unnest({_ARRAYS})"
)

# PCI DSS 3.3.1: an answer that was pending gave the code back, for the next step of the payment.
_FORGET_CODES: Final = """
DELETE FROM cvc USING authorizations a WHERE a.first = ANY($1) AND cvc.token = ANY(a.tokens)
  AND coalesce(cvc.claimed_by, a.first) = a.first
"""
