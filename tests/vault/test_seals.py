"""Seals: what one replica finds stops all of them, and lateness only where that is wanted."""

from datetime import datetime, timedelta

import pytest

from tests.vault.stores import Clock, Replica, Store
from vault.freshness import Ages, Freshness, Limits, is_late
from vault.ledger.entry import Actor, LogSealed, LogUnsealed
from vault.seals import Seals, lift

CONSOLE = Actor(id="op_console", kind="operator")


def seals_of(store: Store, replica: Replica) -> Seals:
    return Seals(store.database, replica.ledger, now=store.clock)


def why(replica: Replica) -> str | None:
    return replica.ledger.sealed_because


@pytest.mark.embedded
async def test_every_replica_stops_and_goes_on_with_the_one_that_found_it(store: Store) -> None:
    async with store.replica() as one, store.replica() as other:
        here, there = seals_of(store, one), seals_of(store, other)
        await here.seal("root_mismatch")
        assert why(one) == "root_mismatch"
        assert why(other) is None
        await there.watch()
        assert why(other) == "root_mismatch"
        await there.seal("root_mismatch")  # it finds the same
        await lift(store.database, other.ledger, CONSOLE, statement="seen to", now=store.clock)
        for seals in (here, there):
            await seals.watch()
        assert why(one) is None
        assert why(other) is None
        assert await store.types() == ["ledger.sealed", "ledger.unsealed"], "one entry each"
        found = await store.entries("ledger.unsealed")
        assert isinstance(found[0], LogUnsealed)
        assert found[0].actor == CONSOLE
        assert await store.value("SELECT body FROM detail") == b'{"statement":"seen to"}'


@pytest.mark.embedded
async def test_what_the_writer_finds_reaches_the_others(store: Store) -> None:
    async with store.replica() as one, store.replica() as other:
        one.ledger.seal("fork")
        await seals_of(store, one).watch()
        await seals_of(store, other).watch()
        assert why(other) == "fork"
        (sealed,) = await store.entries("ledger.sealed")
        assert isinstance(sealed, LogSealed)
        assert sealed.cause == "fork"


@pytest.mark.embedded
async def test_an_undrained_spool_is_one_replicas_own_affair(store: Store) -> None:
    async with store.replica() as one, store.replica() as other:
        one.ledger.seal("spool")
        await seals_of(store, one).watch()
        await seals_of(store, other).watch()
        assert why(other) is None
        assert await store.count("seal") == 0
        one.ledger.unseal("spool")


@pytest.mark.embedded
async def test_a_seal_outlives_the_process_that_set_it(store: Store) -> None:
    async with store.replica() as one:
        await seals_of(store, one).seal("corrupt")
    async with store.replica() as successor:
        await seals_of(store, successor).watch()
        assert why(successor) == "corrupt"


# --- lateness -------------------------------------------------------------------------------

MINUTE = timedelta(minutes=1)
START = Clock().at


def late(published: float | None, *cosigned: float, witnesses: int = 0, now: float = 60) -> bool:
    """Times in minutes since an hour before the look."""
    names = frozenset(f"w{n}" for n in range(max(witnesses, len(cosigned))))
    limits = Limits(MINUTE, 15 * MINUTE, witnesses, names, seals=False)

    def minutes(number: float) -> datetime:
        return START + number * MINUTE

    ages = Ages(7, None if published is None else minutes(published), tuple(map(minutes, cosigned)))
    return is_late(ages, limits, since=START, now=minutes(now))


def test_when_it_is_late() -> None:
    assert late(58.9)
    assert late(None)
    assert late(59.5, 44, witnesses=1)
    assert late(59.5, 46, 44, witnesses=2)
    assert late(59.5, witnesses=1)


def test_when_it_is_not_late() -> None:
    assert not late(59.5)
    assert not late(None, now=0.5)
    assert not late(-30, now=0.5), "it was late before we came: it gets its time again"
    assert not late(59.5, 46, witnesses=1)
    assert not late(59.5, 46, 47, 3, witnesses=2)
    assert not late(4.5, witnesses=1, now=5)
    assert not late(59.5, 3, witnesses=0)


@pytest.mark.embedded
@pytest.mark.guards("F-52")
@pytest.mark.parametrize("wanted", [False, True])
async def test_lateness_seals_only_where_that_is_wanted_and_ends_by_itself(
    store: Store, *, wanted: bool
) -> None:
    class Watch:
        def ledger_published(self, size: int, at: datetime) -> None:
            pass

        def ledger_witnessed(self, at: datetime) -> None:
            pass

    told: list[bool] = []
    limits = Limits(MINUTE, 15 * MINUTE, 0, frozenset(), seals=wanted)
    async with store.replica() as replica:
        freshness = Freshness(
            store.database, seals_of(store, replica), limits,
            now=store.clock, observer=Watch(), changed=told.append,
        )  # fmt: skip
        await freshness.check()
        assert told == []
        store.clock.advance(seconds=61)
        await freshness.check()
        assert told == [True]
        assert why(replica) == ("stale" if wanted else None)
        await store.do("INSERT INTO publication (one, size, at) VALUES (1, 2, $1)", store.clock.at)
        await freshness.check()
        assert told == [True, False]
        assert why(replica) is None
        expected = ["ledger.sealed", "ledger.unsealed"] if wanted else []
        assert await store.types() == expected
