"""What can be known after a kill without asking the gateway: its log, its rows, the processor.

The ledger is read from the database entry by entry, and compared with what the shop was told and
with what the processor wrote down when it came.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import asyncpg

from tests.crash.shop import Book
from vault.authorization import State
from vault.ids import intent_of
from vault.ledger.entry import (
    AuthorizationAttempted,
    AuthorizationUnknown,
    Entry,
    OfIntent,
    TokenCreated,
    decode,
)
from vault.ledger.tree import leaf_hash


@dataclass(frozen=True)
class Arrivals:
    """What the simulated processor wrote down: numbers (digests) with their times, and charges."""

    numbers: Mapping[str, list[float]]
    charges: Mapping[str, int]  # by idempotency key

    @classmethod
    def read(cls, path: Path) -> "Arrivals":
        numbers: dict[str, list[float]] = defaultdict(list)
        charges: Counter[str] = Counter()
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        for line in lines:
            said = json.loads(line)
            if said["number_sha256"] is not None:
                numbers[said["number_sha256"]].append(said["at"])
            else:
                charges[said["idempotency_key"]] += 1
        return cls(numbers, charges)


@dataclass
class Log:
    """The ledger so far, by what it is about."""

    entries: list[Entry] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)
    created: set[str] = field(default_factory=set)
    attempted: dict[str, list[datetime]] = field(default_factory=lambda: defaultdict(list))
    states: dict[str, list[State]] = field(default_factory=lambda: defaultdict(list))
    _first: dict[str, str] = field(default_factory=dict)

    async def read_on(self, dsn: str) -> None:
        """Read the entries that are new."""
        connection = await asyncpg.connect(dsn)
        try:
            rows = await connection.fetch(
                "SELECT body FROM entry WHERE idx >= $1 ORDER BY idx", len(self.entries)
            )
        finally:
            await connection.close()
        for row in rows:
            self.leaves.append(leaf_hash(row["body"]))
            self._add(decode(row["body"]))

    def _add(self, entry: Entry) -> None:
        self.entries.append(entry)
        if isinstance(entry, TokenCreated):
            self.created.add(entry.token)
        if isinstance(entry, AuthorizationAttempted):
            self._first[entry.intent] = entry.of or entry.intent
            for opening in entry.opens:
                if opening.key == "pan":
                    self.attempted[opening.token].append(datetime.fromisoformat(entry.ts))
        if isinstance(entry, OfIntent):
            self.states[self._first[entry.intent]].append(entry.state)

    # --- what must hold ----------------------------------------------------------------------

    def holds(self, book: Book) -> None:
        """Check that whatever the shop was told is on record."""
        missing = book.numbers.keys() - self.created
        assert not missing, f"{len(missing)} acknowledged tokens without their entry"
        for told in book.told:
            states = self.states[intent_of(told.authorization) or ""]
            recorded = State(told.state) in states
            if told.is_pending or told.state == State.COMPLETED:
                # By way of the spool, or after another replica thought it dead.
                recorded = recorded or State.RESOLVED in states
            assert recorded, f"{told} is not on record: {states}"

    def precedes(self, arrivals: Arrivals, book: Book) -> None:
        """Check that each number that arrived had an intent of its own before."""
        for token, times in _by_token(arrivals, book):
            intents = self.attempted[token]
            assert len(intents) >= len(times), f"{token} was sent without an intent"
            for intent, arrival in zip(intents, times, strict=False):
                assert intent.timestamp() <= arrival, f"{token} was sent before its intent"

    def has_intents(self, arrivals: Arrivals, book: Book) -> None:
        """Check the same where times say nothing: each number that arrived had an intent."""
        for token, times in _by_token(arrivals, book):
            assert len(self.attempted[token]) >= len(times), f"{token} was sent without an intent"

    def crashed(self, *, since: int) -> int:
        """Check how what a dead process had open was ended, from an index on; give how many."""
        unknown = [one for one in self.entries[since:] if isinstance(one, AuthorizationUnknown)]
        orphans = [one for one in unknown if one.phase == "crash"]
        for one in orphans:
            assert (one.reason, one.actor.id) == ("crash", "reconciler"), one
            assert one.origin_boot != one.boot, one
        return len(orphans)

    def has_leaves(self, book: Book) -> None:
        """Check that each entry of which the shop has a receipt is where it was, and the same."""
        for index, leaf in book.leaves.items():
            assert self.leaves[index].hex() == leaf, f"entry {index} is another one"


def _by_token(arrivals: Arrivals, book: Book) -> Iterator[tuple[str, list[float]]]:
    """Give the token of each number that arrived, and when it did."""
    tokens = {
        hashlib.sha256(number.encode()).hexdigest(): token for token, number in book.numbers.items()
    }
    for digest, times in arrivals.numbers.items():
        yield tokens[digest], times


async def stored_tokens(dsn: str) -> set[str]:
    connection = await asyncpg.connect(dsn)
    try:
        return {row["id"] for row in await connection.fetch("SELECT id FROM token")}
    finally:
        await connection.close()


async def states_of_intents(dsn: str) -> Mapping[str, int]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch("SELECT state, count(*) AS n FROM intent_state GROUP BY 1")
    finally:
        await connection.close()
    return {row["state"]: row["n"] for row in rows}


async def let_leases_end(dsn: str) -> int:
    """Let the 30 s pass that a claim without an intent holds its key; give how many there were."""
    connection = await asyncpg.connect(dsn)
    try:
        status = await connection.execute(
            "UPDATE claim SET lease_until = lease_until - interval '30 s'"
            " WHERE intent IS NULL AND lease_until > now()"
        )
    finally:
        await connection.close()
    return int(status.rpartition(" ")[2])
