"""When cards stop being disclosed, and why, for every replica of a deployment.

A proven inconsistency seals: a row that all replicas see, an entry of the ledger, and this
process at once. It ends by an operator's word, or where the cause is lateness, when that is
over. An undrained spool is one replica's own affair (`vault/authorizations.py`). What never
may live here: the proof.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from secrets import token_bytes
from typing import Final, get_args

from vault.db import Connection, Database
from vault.errors import CustodyError
from vault.ids import new_uuid7
from vault.ledger.entry import Actor, LogSealed, LogUnsealed
from vault.ledger.forms import SealCause
from vault.ledger.store import Ledger
from vault.ledger.unit import Line, Statement, committed

PUBLISHER: Final = Actor(id="publisher", kind="system")
OWN: Final = "spool"  # this replica's alone, and never a row


class Seals:
    """The seals of a deployment, as this replica sets and sees them."""

    def __init__(self, database: Database, ledger: Ledger, *, now: Callable[[], datetime]) -> None:
        self._database = database
        self._ledger = ledger
        self._now = now
        self._rows: dict[str, int] = {}  # as last seen: since the log had so many entries

    async def seal(self, cause: SealCause) -> None:
        """Stop disclosures here at once, then everywhere. Raises nothing of the store's."""
        self._ledger.seal(cause)
        try:
            fresh, size = await self._database.transact(_inserted(cause, self._now()))
        except CustodyError:
            return  # `watch` does it again
        self._rows.setdefault(cause, size)
        if fresh:
            await self._put_on_record(
                LogSealed(id=str(new_uuid7(self._now())), actor=PUBLISHER, cause=cause)
            )

    async def unseal(self, cause: SealCause) -> None:
        """Take back what is over by itself. Raises StoreUnavailable, LedgerUnavailable."""
        if cause not in self._ledger.seal_causes:
            return
        causes, _ = await self._database.read(_causes)
        if cause in causes:
            entry = LogUnsealed(id=str(new_uuid7(self._now())), actor=PUBLISHER, cause=cause)
            await self._ledger.append(Statement([Line(entry)]))
            await self._database.transact(_deleted(cause))
        self._rows.pop(cause, None)
        self._ledger.unseal(cause)

    async def watch(self) -> None:
        """See what others have sealed or unsealed, and tell them what is sealed here.

        A row that is gone lifts nothing by itself: who may delete it may not say why. The entry
        that says so does. Raises StoreUnavailable.
        """
        before = dict(self._rows)  # what is sealed while we look must not look like lifted
        causes, size = await self._database.read(_causes)
        for cause, since in before.items():
            if cause not in causes and await self._database.read(_is_lifted(cause, since)):
                self._rows.pop(cause, None)
                self._ledger.unseal(cause)
        for cause in causes:
            self._rows.setdefault(cause, size)
            self._ledger.seal(cause)
        for cause in self._ledger.seal_causes - causes - {OWN}:
            await self.seal(_CAUSES[cause])

    async def _put_on_record(self, entry: LogSealed | LogUnsealed) -> None:
        try:
            await self._ledger.append(Statement([Line(entry)]))
        except CustodyError:
            return  # a ledger that cannot be appended to says by that alone what is wrong


async def lift(
    database: Database,
    ledger: Ledger,
    actor: Actor,
    *,
    statement: str,
    now: Callable[[], datetime],
    also: Iterable[SealCause] = (),
) -> list[str]:
    """End all seals on an operator's word, which is recorded; return their causes.

    Raises StoreUnavailable, LedgerUnavailable.
    """
    sealed, _ = await database.read(_causes)
    causes = sealed | set(also)
    for cause in sorted(causes - _CAUSES.keys()):
        await database.transact(_deleted(cause))  # no release's: it never sealed by our word
    for cause in sorted(causes & _CAUSES.keys()):
        entry = LogUnsealed(id=str(new_uuid7(now())), actor=actor, cause=_CAUSES[cause])
        line = committed(entry, {"statement": statement}, salt=token_bytes(32))
        await ledger.append(Statement([line]))
        await database.transact(_deleted(cause))
    return sorted(causes)


_CAUSES: Final[Mapping[str, SealCause]] = {cause: cause for cause in get_args(SealCause)}


async def _causes(connection: Connection) -> tuple[frozenset[str], int]:
    """Return what is sealed, and how many entries the log had just before."""
    size = await connection.fetchval("SELECT coalesce(max(idx) + 1, 0) FROM entry")
    rows = await connection.fetch("SELECT cause FROM seal")
    return frozenset(row["cause"] for row in rows), size


def _inserted(
    cause: SealCause, at: datetime
) -> Callable[[Connection], Awaitable[tuple[bool, int]]]:
    async def work(connection: Connection) -> tuple[bool, int]:
        size = await connection.fetchval("SELECT coalesce(max(idx) + 1, 0) FROM entry")
        status = await connection.execute(
            "INSERT INTO seal (cause, at) VALUES ($1, $2) ON CONFLICT DO NOTHING", cause, at
        )
        return status == "INSERT 0 1", size

    return work


def _is_lifted(cause: str, since: int) -> Callable[[Connection], Awaitable[bool]]:
    async def work(connection: Connection) -> bool:
        found = await connection.fetchval(
            "SELECT EXISTS (SELECT 1 FROM entry WHERE type = 'ledger.unsealed' AND idx >= $1"
            " AND convert_from(body, 'UTF8')::jsonb->>'cause' = $2)",
            since,
            cause,
        )
        return bool(found)

    return work


def _deleted(cause: str) -> Callable[[Connection], Awaitable[bool]]:
    async def work(connection: Connection) -> bool:
        return await connection.execute("DELETE FROM seal WHERE cause = $1", cause) == "DELETE 1"

    return work
