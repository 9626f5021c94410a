"""What proves that the log is not the one we wrote: it seals, and nothing is built on it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Self

import pytest

from tests.vault.ledger.test_store import appending, odd, stays_well
from tests.vault.ledger.test_store_faults import behind_relay
from tests.vault.postgres_relay import AtCommit
from tests.vault.rows import statement
from tests.vault.stores import Store, until
from vault.db import Connection
from vault.errors import CustodyError, LedgerSealed, LedgerUnavailable
from vault.ledger.tree import CompactRange
from vault.ledger.unit import Line, Placed, Unit

pytestmark = pytest.mark.embedded


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vault.ledger.store.RETRY_SECONDS", 0.02)


Tamper = Callable[[Store], Awaitable[None]]


async def rewind(store: Store, size: int) -> None:
    """Make the database an older copy of itself, as its owner can."""
    async with store.session(owner=True) as owner, owner.transaction():
        await owner.execute("ALTER TABLE entry DISABLE TRIGGER no_rewrite")
        await owner.execute("DELETE FROM entry WHERE idx >= $1", size)
        await owner.execute("ALTER TABLE entry ENABLE TRIGGER no_rewrite")
        await set_head(store, size)


async def set_head(store: Store, size: int) -> None:
    """Make the head that of the entries that there are."""
    rows = await store.rows("SELECT leaf_hash FROM entry WHERE idx < $1 ORDER BY idx", size)
    tree = CompactRange()
    for row in rows:
        tree.append(row["leaf_hash"])
    await store.do(
        "UPDATE head SET size = $1, root = $2, peaks = $3", size, tree.root(), tree.peaks_bytes()
    )


async def edit(store: Store, statement_text: str) -> None:
    async with store.session(owner=True) as owner, owner.transaction():
        await owner.execute("ALTER TABLE entry DISABLE TRIGGER no_rewrite")
        await owner.execute("ALTER TABLE head DISABLE TRIGGER no_drop")
        await owner.execute(statement_text)
        await owner.execute("ALTER TABLE entry ENABLE TRIGGER no_rewrite")
        await owner.execute("ALTER TABLE head ENABLE TRIGGER no_drop")


async def other_root(store: Store) -> None:
    await store.do("UPDATE head SET root = sha256('another')")


async def other_peaks(store: Store) -> None:
    await store.do("UPDATE head SET peaks = sha256('another') || substr(peaks, 33)")


async def peaks_of_another_size(store: Store) -> None:
    """From 5 to 6: as many peaks, and so the same root."""
    await store.do("UPDATE head SET size = size + 1")


async def too_few_peaks(store: Store) -> None:
    await store.do("UPDATE head SET peaks = ''")


async def no_head(store: Store) -> None:
    await edit(store, "DELETE FROM head")


async def older_copy(store: Store) -> None:
    await rewind(store, 3)


async def rewritten(store: Store) -> None:
    """Same size, all consistent in itself, and not what this process saw acknowledged."""
    await edit(store, "UPDATE entry SET leaf_hash = sha256('another') WHERE idx = 3")
    await set_head(store, await store.count("entry"))


TAMPERED: Mapping[str, tuple[Tamper, str]] = {
    "root": (other_root, "root_mismatch"),
    "peaks": (other_peaks, "root_mismatch"),
    "size": (peaks_of_another_size, "fork"),
    "number of peaks": (too_few_peaks, "root_mismatch"),
    "no head": (no_head, "root_mismatch"),
    "older copy": (older_copy, "rollback"),
    "rewritten": (rewritten, "rollback"),
}


@pytest.mark.guards("T-31", "T-60", "F-53")
@pytest.mark.parametrize("how", TAMPERED)
async def test_nothing_is_built_on_a_head_that_was_changed(store: Store, how: str) -> None:
    tamper, cause = TAMPERED[how]
    async with store.replica() as replica:
        for _ in range(3):
            await replica.ledger.append(statement())
        (head,) = await store.rows("SELECT * FROM head")
        await tamper(store)
        before = await store.rows("SELECT size, root, peaks FROM head")

        with pytest.raises(LedgerUnavailable):
            await replica.ledger.append(statement(), seconds=10)

        assert replica.ledger.sealed_because == cause
        with pytest.raises(LedgerSealed):
            await replica.ledger.append(odd(opens=True))
        with pytest.raises(LedgerUnavailable):
            await replica.ledger.append(statement(), seconds=10)
        assert await store.rows("SELECT size, root, peaks FROM head") == before
        assert await store.count("entry") == (3 if how == "older copy" else 5)
        assert head["size"] == 5


@pytest.mark.guards("T-31")
async def test_a_head_put_right_again_is_built_on_and_stays_sealed_for_cards(
    store: Store,
) -> None:
    async with store.replica() as replica:
        (head,) = await store.rows("SELECT * FROM head")
        await other_root(store)
        with pytest.raises(LedgerUnavailable):
            await replica.ledger.append(statement(), seconds=10)
        await store.do("UPDATE head SET root = $1", head["root"])
        await replica.ledger.append(statement(), seconds=10)
        await stays_well(store, replica)
        with pytest.raises(LedgerSealed):
            await replica.ledger.append(odd(opens=True))


async def longer_but_rewritten(store: Store) -> None:
    """An older copy to which others have appended since: longer than what was acknowledged."""
    await rewind(store, 3)
    async with store.replica(start=False) as other:
        await asyncio.gather(*appending(other.ledger, *(statement() for _ in range(5))))


async def holes(store: Store) -> None:
    await store.do("UPDATE head SET size = size + 1, peaks = peaks || sha256('one more')")


@pytest.mark.guards("T-60", "T-75", "F-53")
@pytest.mark.parametrize(
    ("tamper", "cause"),
    [
        (older_copy, "rollback"),
        (rewritten, "rollback"),
        (longer_but_rewritten, "rollback"),
        (other_root, "rollback"),
        (no_head, "rollback"),
        (holes, "root_mismatch"),
    ],
)
async def test_a_new_connection_must_lead_to_what_was_acknowledged(
    store: Store, tamper: Tamper, cause: str
) -> None:
    """A failover to a standby that lagged, a backup put in place of the database."""
    async with behind_relay(store) as (replica, relay):
        for _ in range(3):
            await replica.ledger.append(statement())
        relay.cut_all()
        await tamper(store)
        size = await store.count("entry")

        with pytest.raises(LedgerUnavailable):
            await replica.ledger.append(statement(), seconds=10)

        assert replica.ledger.sealed_because == cause
        assert await store.count("entry") == size


async def test_a_new_connection_follows_what_others_have_appended(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vault.ledger.writer_connection.PAGE_ENTRIES", 7)
    async with behind_relay(store) as (replica, relay), store.replica() as other:
        await replica.ledger.append(statement())
        relay.cut_all()
        await asyncio.gather(*appending(other.ledger, *(statement() for _ in range(30))))
        await replica.ledger.append(statement(), seconds=10)
        assert replica.ledger.sealed_because is None
        await stays_well(store, replica, other)


@dataclass(frozen=True)
class Meddler(Unit):
    """Something in the same transaction that moves the head, past all that the lock can do."""

    order: ClassVar[int] = 5
    lines: Sequence[Line]

    @classmethod
    async def check(
        cls, connection: Connection, units: Sequence[Self], at: datetime
    ) -> Mapping[int, CustodyError]:
        await connection.execute("UPDATE head SET size = size + 1")
        return {}

    @classmethod
    async def apply(
        cls, connection: Connection, units: Sequence[Self], placed: Sequence[Sequence[Placed]]
    ) -> None:
        """Change nothing more."""


async def test_a_head_that_has_moved_is_not_overwritten(store: Store) -> None:
    async with store.replica() as replica:
        with pytest.raises(LedgerUnavailable):
            await replica.ledger.append(Meddler(statement().lines), seconds=10)
        assert replica.ledger.sealed_because == "fork"
        assert await store.count("entry") == await store.value("SELECT size FROM head") == 2
        await replica.ledger.append(statement(), seconds=10)
        assert (await store.report()).violations == ()


async def test_half_of_a_batch_is_impossible(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vault.ledger.store.APPEND_SECONDS", 0.1)  # how long the end may take
    monkeypatch.setattr("vault.ledger.store.COMMIT_SECONDS", 0.4)
    monkeypatch.setattr("vault.ledger.writer_connection.COMMIT_SECONDS", 0.4)
    async with behind_relay(store) as (first, relay):
        await first.ledger.close()  # what is under test has seen nothing acknowledged
        database = first.ledger._line._database
        async with store.replica(database=database, start=False) as replica:
            relay.at_commit = [AtCommit.ANSWER_LOST]
            relay.then = relay.refuse
            (task,) = appending(replica.ledger, statement(lines=2), seconds=0.8)
            await until(lambda: not relay.at_commit)
            await store.until("SELECT count(*) = 4 FROM entry")
            await rewind(store, 3)
            relay.refusing = False
            with pytest.raises(LedgerUnavailable):
                await task
            await until(lambda: replica.ledger.sealed_because is not None)
            assert replica.ledger.sealed_because == "corrupt"
            assert await store.count("entry") == 3
