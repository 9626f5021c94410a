"""The writer when all goes well, and when a unit, an author or the process does not."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar, Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.vault.rows import create, deleted_entry, ids_of, new_row, new_tenant, statement
from tests.vault.stores import Replica, Store, settled
from vault.db import Connection
from vault.errors import (
    CustodyError,
    LedgerSealed,
    LedgerUnavailable,
    Overloaded,
    StoreUnavailable,
    TokenInUse,
)
from vault.ledger import store as writer
from vault.ledger.entry import decode
from vault.ledger.store import Ledger
from vault.ledger.tree import EMPTY_ROOT, leaf_hash
from vault.ledger.unit import Line, Placed, Statement, Unit
from vault.observer import Silent

pytestmark = pytest.mark.embedded


@dataclass(frozen=True)
class Odd(Unit):
    """A unit of the test's own: refused, poisonous, or followed by another."""

    order: ClassVar[int] = 5
    lines: Sequence[Line]
    refused: type[CustodyError] | None = None
    raised: BaseException | None = None
    follows: Unit | None = None
    opens: bool = False

    @property
    def opens_cards(self) -> bool:
        return self.opens

    def when_abandoned(self) -> Unit | None:
        return self.follows

    @classmethod
    async def check(
        cls, connection: Connection, units: Sequence[Self], at: datetime
    ) -> Mapping[int, CustodyError]:
        return {n: unit.refused() for n, unit in enumerate(units) if unit.refused is not None}

    @classmethod
    async def apply(
        cls, connection: Connection, units: Sequence[Self], placed: Sequence[Sequence[Placed]]
    ) -> None:
        for unit in units:
            if unit.raised is not None:
                raise unit.raised


def odd(**changes: object) -> Odd:
    return replace(Odd(statement().lines), **changes)  # type: ignore[arg-type]


def appending(ledger: Ledger, *units: Unit, seconds: float = 10) -> "list[Appending]":
    return [asyncio.create_task(ledger.append(unit, seconds=seconds)) for unit in units]


Appending = asyncio.Task[Sequence[Placed]]


async def stays_well(store: Store, *replicas: Replica) -> None:
    """The log passes the auditor's rules, and every writer appends to it as if nothing was."""
    for replica in replicas:
        await replica.ledger.append(statement(), seconds=10)
    report = await store.report()
    assert report.violations == ()
    assert report.size == await store.count("entry")


# --- placing --------------------------------------------------------------------------------


async def test_an_entry_is_where_its_author_is_told(store: Store) -> None:
    async with store.replica() as replica:
        unit = statement()

        (place,) = await replica.ledger.append(unit)

        (row,) = await store.rows("SELECT * FROM entry WHERE id = $1", *ids_of(unit))
        assert (row["idx"], row["leaf_hash"]) == (place.idx, place.leaf) == (2, place.leaf)
        assert row["leaf_hash"] == leaf_hash(row["body"])
        assert (row["type"], row["intent"]) == ("token.deleted", None)
        entry = decode(row["body"])
        assert (entry.replica, entry.boot, entry.n) == (replica.name, str(replica.boot), 2)
        assert place.at == store.clock.at
        assert replica.ledger.is_writing
        assert replica.ledger.size == 3


async def test_an_empty_log_has_the_root_of_nothing(store: Store) -> None:
    async with store.replica(start=False) as replica:
        assert replica.ledger.size == 0
    assert await store.value("SELECT root FROM head") == EMPTY_ROOT


async def test_lines_of_a_unit_stand_together(store: Store) -> None:
    async with store.replica() as replica:
        placed = await asyncio.gather(
            *appending(replica.ledger, *(statement(lines=3) for _ in range(20)))
        )
        for places in placed:
            assert [place.idx for place in places] == list(range(places[0].idx, places[0].idx + 3))
        await stays_well(store, replica)


async def test_details_are_kept_beside_what_commits_to_them(store: Store) -> None:
    async with store.replica() as replica:
        unit = create(new_row(new_tenant(), customer_reference="c_1"))

        await replica.ledger.append(unit)

    (row,) = await store.rows("SELECT * FROM detail")
    (entry,) = await store.entries("token.created")
    assert str(row["id"]) == entry.id
    assert unit.lines[0].detail is not None
    assert (row["salt"], row["body"]) == (
        unit.lines[0].detail.salt,
        b'{"customer_reference":"c_1"}',
    )


async def test_the_last_entry_of_each_replica_is_known_to_its_next_start(store: Store) -> None:
    async with store.replica() as one, store.replica() as two:
        await one.ledger.append(statement(lines=2))
        rows = await store.rows("SELECT * FROM replica")
    assert {(row["id"], row["boot"], row["n"]) for row in rows} == {
        (one.name, one.boot, 3),
        (two.name, two.boot, 0),
    }


@pytest.mark.guards("T-60")
async def test_one_writer_is_fifo(store: Store) -> None:
    async with store.replica() as replica:
        placed = await asyncio.gather(
            *appending(replica.ledger, *(statement() for _ in range(600)))
        )
        indices = [place.idx for (place,) in placed]
        assert indices == list(range(2, 602))
        await stays_well(store, replica)


@pytest.mark.guards("T-60")
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(1, 40), st.booleans()), min_size=1, max_size=30
    )
)
async def test_two_writers_make_one_order_whatever_the_interleaving(
    store: Store, turns: list[tuple[int, int, bool]]
) -> None:
    async with store.replica() as one, store.replica() as two:
        replicas = (one, two)
        before = [await store.count("entry"), 1]
        tasks: list[tuple[int, Appending]] = []
        for which, number, pauses in turns:
            units = (statement() for _ in range(number))
            tasks += [(which, task) for task in appending(replicas[which].ledger, *units)]
            if pauses:
                await tasks[-1][1]
        for which in (0, 1):
            placed = [await task for of, task in tasks if of == which]
            indices = [place.idx for (place,) in placed]
            assert indices == sorted(set(indices))
        every = sorted(place.idx for _, task in tasks for place in task.result())
        assert every == list(range(before[0], before[0] + len(every)))
        await stays_well(store, *replicas)


# --- natural batching -----------------------------------------------------------------------


async def test_what_waits_for_the_lock_leaves_together(store: Store) -> None:
    async with store.replica() as replica:
        async with store.head_locked():
            first = appending(replica.ledger, statement())
            await store.until_blocked()
            others = appending(replica.ledger, *(statement() for _ in range(9)))
            await settled()
        await asyncio.gather(*first, *others)
        assert replica.appends.sizes == [10]


async def test_an_idle_append_waits_for_nobody(store: Store) -> None:
    async with store.replica() as replica:
        for _ in range(3):
            await replica.ledger.append(statement())
        assert replica.appends.sizes == [1, 1, 1]


async def test_a_transaction_takes_no_more_than_its_share(store: Store) -> None:
    async with store.replica() as replica:
        async with store.head_locked():
            tasks = appending(replica.ledger, *(statement() for _ in range(600)))
            await store.until_blocked()
        await asyncio.gather(*tasks)
        assert replica.appends.sizes == [256, 256, 88]


@pytest.mark.guards("F-11")
async def test_a_full_queue_refuses_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "QUEUE_UNITS_MAX", 5)
    async with store.replica() as replica:
        async with store.head_locked():
            tasks = appending(replica.ledger, *(statement() for _ in range(5)))
            await settled()
            with pytest.raises(Overloaded):
                await replica.ledger.append(statement())
        await asyncio.gather(*tasks)
        await stays_well(store, replica)


# --- one unit's misfortune is its own -------------------------------------------------------


async def together(
    store: Store, replica: Replica, *units: Unit
) -> list[Sequence[Placed] | BaseException]:
    """Append units in one transaction."""
    async with store.head_locked():
        tasks = appending(replica.ledger, *units)
        await store.until_blocked()
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_refused_unit_fails_alone(store: Store) -> None:
    async with store.replica() as replica:
        one, two, three, four = await together(
            store, replica, statement(), odd(refused=TokenInUse), odd(), statement()
        )
        assert isinstance(two, TokenInUse)
        indices = [places[0].idx for places in (one, four, three) if isinstance(places, list)]
        assert indices == [2, 3, 4]  # the kinds in their order
        assert replica.appends.sizes == [3]
        await stays_well(store, replica)


async def test_a_batch_of_refused_units_leaves_nothing(store: Store) -> None:
    async with store.replica() as replica:
        refused = await together(store, replica, *(odd(refused=TokenInUse) for _ in range(3)))
        assert [type(one) for one in refused] == [TokenInUse] * 3
        assert replica.appends.seen == [(0, "ok")]
        assert await store.count("entry") == 2
        await stays_well(store, replica)


async def test_a_line_that_is_no_entry_fails_its_unit_alone(store: Store) -> None:
    token = "no token"
    bad = Line(deleted_entry(new_row("t_none", id=token)))
    async with store.replica() as replica:
        one, two, three = await together(
            store, replica, statement(), Statement((*statement().lines, bad)), statement()
        )
        assert type(two) is CustodyError
        assert isinstance(one, list)
        assert isinstance(three, list)
        assert await store.count("entry") == 4
        await stays_well(store, replica)


@pytest.mark.guards("T-61")
async def test_a_refusal_is_told_when_its_reason_is_durable(store: Store) -> None:
    """The reason may be a neighbor: whoever is told of it must be able to rely on it."""
    async with store.replica() as replica:
        await fails_once(store, "58030")
        outcomes = await together(store, replica, odd(refused=TokenInUse), statement())
        assert [type(one) for one in outcomes] == [StoreUnavailable] * 2

        await fails_once(store, "23000", at_commit=True)
        outcomes = await together(store, replica, odd(refused=TokenInUse), statement())
        assert [type(one) for one in outcomes] == [TokenInUse, list]
        assert replica.appends.results == {"failed", "doubtful", "ok"}


async def fails_once(store: Store, code: str, *, at_commit: bool = False) -> None:
    """The next transaction with an entry fails: at the insert, or not before COMMIT."""
    deferred = "DEFERRABLE INITIALLY DEFERRED" if at_commit else ""
    await store.do(
        f"""
        DROP SEQUENCE IF EXISTS tries;
        CREATE SEQUENCE tries;
        GRANT USAGE ON SEQUENCE tries TO panward_runtime;
        CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          IF nextval('tries') = 1 THEN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END IF;
          RETURN NULL; END $$;
        DROP TRIGGER IF EXISTS fail ON entry;
        CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON entry {deferred}
          FOR EACH ROW EXECUTE FUNCTION fail();
        """
    )


# --- authors who give up --------------------------------------------------------------------


async def test_who_gives_up_in_the_queue_is_not_appended(store: Store) -> None:
    async with store.replica() as replica:
        async with store.head_locked():
            with pytest.raises(LedgerUnavailable):
                await replica.ledger.append(odd(follows=statement()), seconds=0.05)
            (canceled,) = appending(replica.ledger, odd(follows=statement()))
            await settled()
            canceled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await canceled
        await replica.ledger.append(statement())
        assert await store.count("entry") == 3
        await stays_well(store, replica)


async def test_what_has_waited_too_long_is_dropped_before_its_author_knows(store: Store) -> None:
    async with store.replica() as replica:
        ledger = replica.ledger
        async with store.head_locked():
            (task,) = appending(ledger, statement(), seconds=1)
            await store.until_blocked()
            ledger._queue[0].give_up_at -= 1
        with pytest.raises(LedgerUnavailable):
            await task
        assert await store.count("entry") == 2


@pytest.mark.guards("T-61")
@pytest.mark.parametrize("how", ["deadline", "canceled"])
async def test_what_became_durable_for_nobody_is_followed_by_what_says_so(
    store: Store, how: str
) -> None:
    follows = statement()
    async with store.replica() as replica, store.session(owner=True) as other:
        await freeze_commits(store)
        await other.execute("SELECT pg_advisory_lock(1)")
        seconds = 0.2 if how == "deadline" else 10
        (task,) = appending(replica.ledger, odd(follows=follows), seconds=seconds)
        await store.until_blocked()
        if how == "canceled":
            task.cancel()
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
        assert isinstance(outcome, LedgerUnavailable | asyncio.CancelledError)
        await other.execute("SELECT pg_advisory_unlock(1)")
        await store.until("SELECT EXISTS (SELECT 1 FROM entry WHERE id = $1)", *ids_of(follows))
        assert await store.count("entry") == 4
        await stays_well(store, replica)


async def test_an_author_canceled_at_the_moment_of_acknowledgment_is_gone_too(
    store: Store,
) -> None:
    follows = statement()
    async with store.replica() as replica:
        (task,) = appending(replica.ledger, odd(follows=follows))
        while replica.ledger.size == 2:  # noqa: ASYNC110 - this very turn of the loop is meant
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await store.until("SELECT EXISTS (SELECT 1 FROM entry WHERE id = $1)", *ids_of(follows))


async def test_a_deadline_in_the_very_moment_of_acknowledgment_is_too_late() -> None:
    waiting = writer._Waiting(statement(), asyncio.get_running_loop().create_future(), 0)
    waiting.future.set_result([])
    waiting.give_up()
    assert await waiting.future == []


async def test_without_a_follow_up_nothing_follows(store: Store) -> None:
    async with store.replica() as replica:
        (task,) = appending(replica.ledger, statement())
        while replica.ledger.size == 2:  # noqa: ASYNC110 - this very turn of the loop is meant
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await stays_well(store, replica)
        assert await store.count("entry") == 4


async def freeze_commits(store: Store) -> None:
    """From now on, COMMIT of an entry waits for advisory lock 1, and then goes on."""
    await store.do(
        """
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0 AS $$ BEGIN
          PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON entry DEFERRABLE INITIALLY DEFERRED
          FOR EACH ROW EXECUTE FUNCTION wait();
        """
    )


# --- the end --------------------------------------------------------------------------------


async def test_close_appends_what_waits_and_refuses_what_comes(store: Store) -> None:
    async with store.replica() as replica:
        tasks = appending(replica.ledger, *(statement() for _ in range(300)))
        await settled()
        await replica.ledger.close()
        assert len([places for task in tasks for places in task.result()]) == 300
        with pytest.raises(LedgerUnavailable):
            await asyncio.wait_for(replica.ledger.append(statement(), seconds=60), 5)
    assert await store.count("entry") == 302


async def test_a_ledger_that_was_never_started_refuses_and_can_be_closed(store: Store) -> None:
    ledger = Ledger(
        store.database,
        replica="r_00000000-0",
        boot=ids_of(statement())[0],
        now=store.clock,
        observer=Silent(),
    )
    with pytest.raises(LedgerUnavailable):
        await ledger.append(statement())
    await ledger.close()


async def test_close_ends_although_the_lock_cannot_be_had(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "APPEND_SECONDS", 0.1)
    monkeypatch.setattr(writer, "COMMIT_SECONDS", 0.1)
    async with store.replica() as replica, store.head_locked():
        tasks = appending(replica.ledger, statement())
        await store.until_blocked()
        tasks += appending(replica.ledger, statement())
        await settled()
        await replica.ledger.close()
        for task in tasks:
            with pytest.raises(LedgerUnavailable):
                await task
    assert await store.count("entry") == 2


async def test_close_during_a_commit_that_is_not_answered(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "APPEND_SECONDS", 0.1)
    monkeypatch.setattr(writer, "COMMIT_SECONDS", 0.1)
    async with store.replica() as replica, store.session(owner=True) as other:
        await freeze_commits(store)
        await other.execute("SELECT pg_advisory_lock(1)")
        (task,) = appending(replica.ledger, statement())
        await store.until_blocked()
        monkeypatch.setattr(writer, "COMMIT_SECONDS", 30)
        await asyncio.wait_for(_close(replica.ledger, monkeypatch), 5)
        with pytest.raises(LedgerUnavailable):
            await task


async def _close(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "COMMIT_SECONDS", 0.2)
    await ledger.close()


async def test_when_the_writer_dies_nobody_waits(store: Store) -> None:
    async with store.replica() as replica:
        started = asyncio.get_running_loop().time()
        async with store.head_locked():
            tasks = appending(replica.ledger, odd(raised=ZeroDivisionError()), statement())
            await store.until_blocked()
            tasks += appending(replica.ledger, *(statement() for _ in range(300)))
            await settled()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(one) for one in outcomes} == {LedgerUnavailable}
        with pytest.raises(LedgerUnavailable):
            await replica.ledger.append(statement(), seconds=60)
        assert not replica.ledger.is_writing
        assert asyncio.get_running_loop().time() - started < 10
    assert await store.count("entry") == 2
    async with store.replica() as other:
        await stays_well(store, other)


# --- the seal -------------------------------------------------------------------------------


@pytest.mark.guards("F-19")
async def test_a_sealed_ledger_takes_everything_but_what_opens_a_card(store: Store) -> None:
    async with store.replica() as replica:
        replica.ledger.seal("spool")
        await replica.ledger.append(statement())
        async with store.head_locked():  # at once: nobody waits to be refused
            with pytest.raises(LedgerSealed):
                await replica.ledger.append(odd(opens=True), seconds=0.05)
        replica.ledger.unseal("spool")
        await replica.ledger.append(odd(opens=True))


async def test_what_waits_when_the_seal_comes_is_refused_too(store: Store) -> None:
    async with store.replica() as replica:
        async with store.head_locked():
            opens, other = appending(replica.ledger, odd(opens=True), statement())
            await store.until_blocked()
            replica.ledger.seal("spool")
        with pytest.raises(LedgerSealed):
            await opens
        await other


async def test_only_the_cause_that_is_gone_is_taken_back(store: Store) -> None:
    async with store.replica() as replica:
        ledger = replica.ledger
        ledger.seal("spool")
        ledger.seal("root_mismatch")
        assert ledger.sealed_because == "spool"
        ledger.unseal("spool")
        assert ledger.sealed_because == "root_mismatch"
        ledger.unseal("spool")
        with pytest.raises(LedgerSealed):
            await ledger.append(odd(opens=True))


async def test_an_error_of_the_store_is_ours_without_a_past(store: Store) -> None:
    async with store.replica() as replica:
        poisonous = create(new_row(new_tenant(), customer_reference="not allowed"))
        with pytest.raises(StoreUnavailable) as caught:
            await replica.ledger.append(poisonous)
        assert caught.value.__context__ is None
        assert "not allowed" not in str(caught.value)
        await stays_well(store, replica)
