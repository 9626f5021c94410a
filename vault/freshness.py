"""How long ago the log was signed and cosigned, as every replica sees it.

Lateness alerts. It stops disclosures only where the operator has chosen so, and that ends with
the lateness: what is late is not wrong.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from vault.db import Connection, Database
from vault.errors import CustodyError
from vault.seals import Seals

CHECK_SECONDS: Final = 5.0
_EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)


class FreshnessObserver(Protocol):
    """Is told the latest times, and when lateness begins and ends."""

    def ledger_published(self, size: int, at: datetime) -> None: ...

    def ledger_witnessed(self, at: datetime) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """When it is late; `quorum` is how many of the witnesses must have cosigned lately."""

    checkpoint: timedelta
    cosignature: timedelta
    quorum: int
    witnesses: frozenset[str]
    seals: bool


@dataclass(frozen=True, slots=True)
class Ages:
    """What is on record about the latest signature, and each witness's latest."""

    size: int
    published: datetime | None
    cosigned: tuple[datetime, ...]


class Freshness:
    """A watch that runs in every gateway."""

    def __init__(
        self,
        database: Database,
        seals: Seals,
        limits: Limits,
        *,
        now: Callable[[], datetime],
        observer: FreshnessObserver,
        changed: Callable[[bool], None],
    ) -> None:
        self._database = database
        self._seals = seals
        self._limits = limits
        self._now = now
        self._observer = observer
        self._changed = changed
        self._since = now()
        self._late = False

    async def check(self) -> None:
        """Look, report, and seal or unseal where that is wanted. Raises nothing of the store's."""
        try:
            ages = await self._database.read(self._ages)
            self._report(ages)
            late = is_late(ages, self._limits, since=self._since, now=self._now())
            if late != self._late:
                self._late = late
                self._changed(late)
            if self._limits.seals and late:
                await self._seals.seal("stale")
            elif not late and not is_late(ages, self._limits, since=_EVER, now=self._now()):
                await self._seals.unseal("stale")  # not by the grace of a gateway that just came
        except CustodyError:
            return

    async def _ages(self, connection: Connection) -> Ages:
        row = await connection.fetchrow("SELECT size, at FROM publication WHERE one = 1")
        cosigned = await connection.fetch(
            # One look at the end of the index for each: there are as many rows as checkpoints.
            "SELECT last.at FROM unnest($1::text[]) AS w (name), LATERAL (SELECT at FROM"
            " cosignature c WHERE c.witness = w.name ORDER BY at DESC LIMIT 1) AS last",
            sorted(self._limits.witnesses),
        )
        return Ages(
            row["size"] if row is not None else 0,
            row["at"] if row is not None else None,
            tuple(one["at"] for one in cosigned),
        )

    def _report(self, ages: Ages) -> None:
        if ages.published is not None:
            self._observer.ledger_published(ages.size, ages.published)
        if ages.cosigned:
            self._observer.ledger_witnessed(max(ages.cosigned))


def is_late(ages: Ages, limits: Limits, *, since: datetime, now: datetime) -> bool:
    """Tell whether a signature or too many cosignatures are overdue; pure.

    `since` is when this gateway began to look: what was late before is given its time again.
    """
    signed = max(ages.published or since, since)
    if now - signed > limits.checkpoint:
        return True
    in_time = sum(now - max(at, since) <= limits.cosignature for at in ages.cosigned)
    never = len(limits.witnesses) - len(ages.cosigned)
    if now - since <= limits.cosignature:
        in_time += max(never, 0)
    return in_time < limits.quorum
