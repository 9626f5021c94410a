"""The writer when PostgreSQL, or the way to it, fails: nothing is lost, doubled or made up."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import chain

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.databases import fresh_database
from tests.vault.ledger.test_store import (
    appending,
    fails_once,
    freeze_commits,
    odd,
    stays_well,
    together,
)
from tests.vault.postgres_relay import AtCommit, Relay, relayed
from tests.vault.rows import Sender, create, ids_of, new_row, new_tenant, statement
from tests.vault.stores import Replica, Store, migrated, opened, until
from vault import db
from vault.authorization import State
from vault.db import Database
from vault.embedded.bootstrap import EmbeddedParts
from vault.errors import LedgerUnavailable, StoreFull, StoreUnavailable
from vault.ledger import store as writer
from vault.ledger import writer_connection
from vault.ledger.unit import Placed, Unit
from vault.token_table import CreateToken

pytestmark = pytest.mark.embedded


@asynccontextmanager
async def behind_relay(store: Store) -> AsyncIterator[tuple[Replica, Relay]]:
    """Run a ledger whose way to PostgreSQL the test has in its hands."""
    async with relayed(store.dsns.runtime_dsn) as relay:
        database = await Database.open(relay.dsn)
        try:
            async with store.replica(database=database) as replica:
                yield replica, relay
        finally:
            await database.close()


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the pace is another: what is tried again, and how often, is as it is."""
    monkeypatch.setattr(writer, "RETRY_SECONDS", 0.02)


@pytest.fixture
async def relayed_replica(store: Store) -> AsyncIterator[tuple[Replica, Relay]]:
    async with behind_relay(store) as parts:
        yield parts


def new_tokens(number: int) -> list[CreateToken]:
    tenant = new_tenant()
    return [create(new_row(tenant)) for _ in range(number)]


async def acknowledged_iff_present(
    store: Store, units: Sequence[CreateToken], outcomes: Sequence[object]
) -> None:
    """Each unit is there exactly once, row and entry, if its author was told so; else not."""
    rows = await store.rows(
        "SELECT entry.id, idx, leaf_hash, token.id AS token FROM entry JOIN token"
        " ON encode(body, 'escape') LIKE '%' || token.id || '%' WHERE type = 'token.created'"
    )
    found = {row["token"]: (row["id"], row["idx"], row["leaf_hash"]) for row in rows}
    assert len(found) == len(rows) == await store.count("token")
    for unit, outcome in zip(units, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            assert unit.row.id not in found
        else:
            assert isinstance(outcome, list)
            (place,) = outcome
            assert isinstance(place, Placed)
            assert found[unit.row.id] == (*ids_of(unit), place.idx, place.leaf)


# --- a COMMIT without an answer -------------------------------------------------------------


@pytest.mark.guards("F-12")
@pytest.mark.parametrize("plan", AtCommit)
async def test_a_commit_without_an_answer_is_found_out_about(
    store: Store,
    relayed_replica: tuple[Replica, Relay],
    monkeypatch: pytest.MonkeyPatch,
    plan: AtCommit,
) -> None:
    monkeypatch.setattr(writer_connection, "COMMIT_SECONDS", 0.3)
    replica, relay = relayed_replica
    units = new_tokens(5)
    relay.at_commit = [plan]

    outcomes = await together(store, replica, *units)

    assert ("doubtful" in replica.appends.results) is True
    assert not any(isinstance(one, BaseException) for one in outcomes)
    await acknowledged_iff_present(store, units, outcomes)
    again = sum(entries for entries, result in replica.appends.seen if result == "ok")
    assert again == (0 if plan.reaches_server else 5)
    await stays_well(store, replica)


@pytest.mark.guards("F-12")
async def test_doubt_may_last(store: Store, relayed_replica: tuple[Replica, Relay]) -> None:
    """The look for what became of it, and what follows, may fare no better."""
    replica, relay = relayed_replica
    relay.at_commit = [
        AtCommit.ANSWER_LOST,
        AtCommit.LOST,
        AtCommit.ANSWER_LOST,
        AtCommit.LOST,
    ]
    units = new_tokens(3)
    outcomes = await together(store, replica, *units)
    await acknowledged_iff_present(store, units, outcomes)
    assert [result for _, result in replica.appends.seen] == ["doubtful"] * 4 + ["ok"]
    await stays_well(store, replica)


@pytest.mark.guards("F-12")
@settings(max_examples=18, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["to server", "to client"]), st.floats(0, 1), st.integers(1, 4))
async def test_wherever_the_connection_is_cut_acknowledged_means_present(
    store: Store, way: str, where: float, number: int
) -> None:
    async with behind_relay(store) as (replica, relay):
        await asyncio.gather(*appending(replica.ledger, *new_tokens(number)))
        relay.count()
        await asyncio.gather(*appending(replica.ledger, *new_tokens(number)))
        units = new_tokens(number)
        relay.cut_after[way] = int(where * relay.passed[way])
        outcomes = await asyncio.gather(*appending(replica.ledger, *units), return_exceptions=True)
        for outcome in outcomes:
            assert isinstance(outcome, list | StoreUnavailable)
        relay.cut_after.clear()
        await stays_well(store, replica)
        every = await store.rows("SELECT id FROM token")
        made = {row["id"] for row in every}
        for unit, outcome in zip(units, outcomes, strict=True):
            assert (unit.row.id in made) is isinstance(outcome, list)


@pytest.mark.guards("F-12")
@pytest.mark.parametrize("plan", [AtCommit.LOST, AtCommit.ANSWER_LOST])
async def test_others_may_append_meanwhile(
    store: Store, relayed_replica: tuple[Replica, Relay], plan: AtCommit
) -> None:
    replica, relay = relayed_replica
    async with store.replica() as other:
        units = new_tokens(3)
        relay.at_commit, relay.then = [plan], relay.refuse
        tasks = appending(replica.ledger, *units)
        await until(lambda: not relay.at_commit)
        for _ in range(5):
            await other.ledger.append(statement())
        relay.refusing = False
        outcomes = await asyncio.gather(*tasks)
        await acknowledged_iff_present(store, units, outcomes)
        await stays_well(store, replica, other)


@pytest.mark.guards("F-12", "T-61")
@pytest.mark.parametrize("plan", [AtCommit.LOST, AtCommit.ANSWER_LOST])
async def test_an_author_who_gave_up_meanwhile(
    store: Store, relayed_replica: tuple[Replica, Relay], plan: AtCommit
) -> None:
    replica, relay = relayed_replica
    follows = statement()
    relay.at_commit, relay.then = [plan], relay.refuse
    (task,) = appending(replica.ledger, odd(follows=follows), seconds=0.5)
    with pytest.raises(LedgerUnavailable):
        await task
    relay.refusing = False
    await until(lambda: replica.ledger._in_doubt is None)  # who waits for a try is told it failed
    await stays_well(store, replica)
    followed = await store.value(
        "SELECT EXISTS (SELECT 1 FROM entry WHERE id = $1)", *ids_of(follows)
    )
    assert followed is plan.reaches_server


@pytest.mark.guards("T-61")
async def test_what_is_owed_to_the_ledger_waits_until_it_can_be_appended(
    store: Store, relayed_replica: tuple[Replica, Relay]
) -> None:
    """Otherwise an intent that nobody acts on would stay open for as long as its process runs."""
    replica, relay = relayed_replica
    follows = statement()
    await freeze_commits(store)
    async with store.session(owner=True) as other:
        await other.execute("SELECT pg_advisory_lock(1)")
        (task,) = appending(replica.ledger, odd(follows=follows), seconds=0.1)
        await store.until_blocked()
        with pytest.raises(LedgerUnavailable):
            await task
        relay.cut_before = b"BEGIN"  # of what is owed
        relay.then = relay.refuse
        await other.execute("SELECT pg_advisory_unlock(1)")
        await until(lambda: not relay.cut_before)
    with pytest.raises(StoreUnavailable):
        await replica.ledger.append(statement())
    relay.refusing = False
    await store.until("SELECT EXISTS (SELECT 1 FROM entry WHERE id = $1)", *ids_of(follows))
    await stays_well(store, replica)
    assert await store.count("entry") == 5


@pytest.mark.guards("F-12")
async def test_a_backend_that_is_ended_during_commit(
    store: Store, relayed_replica: tuple[Replica, Relay]
) -> None:
    replica, _ = relayed_replica
    units = new_tokens(3)
    await freeze_commits(store)
    async with store.session(owner=True) as other, store.session() as peer:
        await other.execute("SELECT pg_advisory_lock(1)")
        tasks = appending(replica.ledger, *units)
        await store.until_blocked()
        await peer.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks"
            " WHERE locktype = 'advisory' AND NOT granted"
        )
        await other.execute("SELECT pg_advisory_unlock(1)")
        outcomes = await asyncio.gather(*tasks)
    await acknowledged_iff_present(store, units, outcomes)
    assert "doubtful" in replica.appends.results
    await stays_well(store, replica)


@pytest.mark.guards("F-13")
@pytest.mark.parametrize("lock_timeout", ["2s", "100ms"])
async def test_holding_the_lock_proves_that_the_old_transaction_has_ended(
    store: Store, monkeypatch: pytest.MonkeyPatch, lock_timeout: str
) -> None:
    """The client's patience ends while the server is still at it, and commits after all."""
    monkeypatch.setattr(writer_connection, "COMMIT_SECONDS", 0.2)
    monkeypatch.setitem(db.SETTINGS, "lock_timeout", lock_timeout)
    units = new_tokens(3)
    async with store.replica() as replica, store.session(owner=True) as other:
        await freeze_commits(store)
        await other.execute("SELECT pg_advisory_lock(1)")
        tasks = appending(replica.ledger, *units)
        await store.until_blocked()
        if lock_timeout == "100ms":  # it may be tried more than once
            await until(lambda: "failed" in replica.appends.results)
        await store.until_blocked(2)  # the old transaction, and who waits for its end
        assert not any(task.done() for task in tasks)
        monkeypatch.setattr(writer_connection, "COMMIT_SECONDS", 2)
        await other.execute("SELECT pg_advisory_unlock(1)")
        outcomes = await asyncio.gather(*tasks)
        await acknowledged_iff_present(store, units, outcomes)
        await stays_well(store, replica)
        assert [entries for entries, _ in replica.appends.seen if entries] == [1]


@pytest.mark.guards("F-13")
async def test_a_commit_that_was_not_replicated_is_in_doubt(store: Store) -> None:
    """PostgreSQL then reports success with a warning; a later write that has none clears it."""
    async with store.replica() as replica:
        await store.do(WARNS_THREE_TIMES)
        unit = new_tokens(1)
        outcomes = await asyncio.gather(*appending(replica.ledger, *unit))
        await acknowledged_iff_present(store, unit, outcomes)
        assert [result for _, result in replica.appends.seen] == ["doubtful"] * 3 + ["ok"]
        await stays_well(store, replica)


async def test_other_messages_of_the_server_raise_no_doubt(store: Store) -> None:
    async with store.replica() as replica:
        await store.do(WARNS_THREE_TIMES.replace("WARNING 'canceling wait'", "NOTICE 'by the way'"))
        await replica.ledger.append(statement())
        assert replica.appends.results == {"ok"}


WARNS_THREE_TIMES = """
CREATE SEQUENCE tries; GRANT USAGE ON SEQUENCE tries TO panward_runtime;
CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF nextval('tries') <= 3 THEN RAISE WARNING 'canceling wait'; END IF; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER warn AFTER UPDATE ON head DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION warn();
"""


async def test_a_commit_that_fails_for_good_is_tried_again(store: Store) -> None:
    async with store.replica() as replica:
        await fails_once(store, "23000", at_commit=True)
        units = new_tokens(2)
        outcomes = await together(store, replica, *units)
        await acknowledged_iff_present(store, units, outcomes)
        assert [result for _, result in replica.appends.seen] == ["doubtful", "ok", "ok"]
        await stays_well(store, replica)


# --- locks and retries ----------------------------------------------------------------------


@pytest.mark.guards("F-16")
async def test_a_lock_that_is_not_free_is_waited_for_within_the_deadline(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(db.SETTINGS, "lock_timeout", "100ms")
    late, soon = new_tokens(1), new_tokens(1)
    async with store.replica() as replica:
        async with store.head_locked():
            (waits,) = appending(replica.ledger, *late)
            (gives_up,) = appending(replica.ledger, *soon, seconds=0.2)
            with pytest.raises(LedgerUnavailable):
                await gives_up
            await until(lambda: "again" in replica.appends.results)
            assert not waits.done()
        await acknowledged_iff_present(store, late, [await waits])
        await stays_well(store, replica)


@pytest.mark.parametrize("code", ["40001", "40P01", "55P03"])
async def test_a_batch_that_was_refused_before_it_wrote_goes_again_in_its_order(
    store: Store, code: str
) -> None:
    async with store.replica() as replica:
        await fails_once(store, code)
        placed = await together(store, replica, *(statement() for _ in range(5)))
        indices = [places[0].idx for places in placed if isinstance(places, list)]
        assert indices == list(range(2, 7))
        assert [result for _, result in replica.appends.seen] == ["again", "ok"]
        await stays_well(store, replica)


async def test_a_refused_batch_whose_connection_is_gone_too(
    store: Store, relayed_replica: tuple[Replica, Relay]
) -> None:
    replica, relay = relayed_replica
    await fails_once(store, "40001")
    relay.cut_before = b"ROLLBACK\x00"
    units = new_tokens(2)
    await acknowledged_iff_present(store, units, await together(store, replica, *units))
    assert relay.cut_before == b""
    await stays_well(store, replica)


@pytest.mark.guards("F-18")
@pytest.mark.parametrize(("code", "error"), [("53100", StoreFull), ("58030", StoreUnavailable)])
async def test_a_disk_that_is_full_or_fails_fails_the_batch(
    store: Store, code: str, error: type[StoreUnavailable]
) -> None:
    async with store.replica() as replica:
        await fails_once(store, code)
        outcomes = await together(store, replica, *new_tokens(2))
        assert [type(one) for one in outcomes] == [error, error]
        assert await store.count("token") == 0
        await stays_well(store, replica)


@pytest.mark.guards("F-18")
@pytest.mark.parametrize(("code", "error"), [("53100", StoreFull), ("58030", StoreUnavailable)])
async def test_after_a_full_disk_nothing_new_begins_until_a_write_has_committed(
    store: Store, monkeypatch: pytest.MonkeyPatch, code: str, error: type[StoreUnavailable]
) -> None:
    monkeypatch.setattr(writer, "TEST_WRITE_SECONDS", 0.02)
    sender = Sender()
    async with store.replica() as replica:
        under_way = sender.opens()
        await replica.ledger.append(under_way)
        await fills(store, code)
        (outcome,) = await together(store, replica, sender.opens())
        assert type(outcome) is error
        async with store.head_locked():  # at once: nobody waits to be refused
            for refused in (sender.opens(), *new_tokens(1)):
                with pytest.raises(error):
                    await replica.ledger.append(refused)
        with pytest.raises(error):  # tried, unlike those
            await replica.ledger.append(sender.settles(under_way, State.UNKNOWN), seconds=10)
        assert replica.ledger.sealed_because is None
        failed = len(replica.appends.seen)
        await until(lambda: len(replica.appends.seen) > failed + 2)  # though nobody asks
        assert replica.appends.results == {"failed", "ok"}
        with pytest.raises(error):
            await replica.ledger.append(sender.opens())

        await store.do("DROP TRIGGER full_disk ON head")
        async with asyncio.timeout(10):
            while not await appends(replica, sender.opens()):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        await replica.ledger.append(sender.settles(under_way, State.UNKNOWN))
        await stays_well(store, replica)


@pytest.mark.guards("F-18")
async def test_what_ends_something_shows_that_there_is_room_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "TEST_WRITE_SECONDS", 100)
    async with store.replica() as replica:
        await fills(store, "53100")
        await together(store, replica, Sender().opens())
        await store.do("DROP TRIGGER full_disk ON head")
        await replica.ledger.append(statement())
        await replica.ledger.append(Sender().opens())


@pytest.mark.guards("F-18")
async def test_a_writer_that_waits_for_room_can_be_closed(store: Store) -> None:
    async with store.replica() as replica:
        await fills(store, "53100")
        await together(store, replica, Sender().opens())
        await asyncio.wait_for(replica.ledger.close(), 3)


async def fills(store: Store, code: str) -> None:
    """Let each transaction of the ledger fail, as on a full disk."""
    await store.do(
        f"""
        CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$;
        CREATE TRIGGER full_disk BEFORE UPDATE ON head
          FOR EACH ROW EXECUTE FUNCTION full_disk();
        """
    )


@pytest.mark.guards("F-20", "F-53")
@pytest.mark.parametrize("code", ["XX001", "XX002"])
async def test_damaged_pages_seal(store: Store, code: str) -> None:
    async with store.replica() as replica:
        await fails_once(store, code)
        (outcome,) = await together(store, replica, statement())
        assert type(outcome) is StoreUnavailable
        assert replica.ledger.sealed_because == "corrupt"


# --- connections ----------------------------------------------------------------------------


@pytest.mark.guards("F-14")
async def test_an_idle_connection_that_was_lost_costs_nobody_anything(
    store: Store, relayed_replica: tuple[Replica, Relay]
) -> None:
    replica, relay = relayed_replica
    relay.cut_all()
    await asyncio.sleep(0.05)  # the client is told by its socket
    await replica.ledger.append(statement())
    assert replica.appends.results == {"ok"}
    await stays_well(store, replica)


@pytest.mark.guards("F-10")
async def test_without_a_database_all_are_refused_at_once_and_later_it_goes_on(
    store: Store, relayed_replica: tuple[Replica, Relay]
) -> None:
    replica, relay = relayed_replica
    relay.refusing = True
    relay.cut_all()
    outcomes = await asyncio.gather(
        *appending(replica.ledger, *new_tokens(5)), return_exceptions=True
    )
    assert {type(one) for one in outcomes} == {StoreUnavailable}
    relay.refusing = False
    await replica.ledger.append(statement())
    await stays_well(store, replica)


@pytest.mark.guards("F-14")
async def test_a_primary_that_was_demoted_is_left(store: Store) -> None:
    async with store.replica() as replica:
        await store.do(f"ALTER DATABASE {store.dsns.name} SET default_transaction_read_only = on")
        replica.ledger._line.drop()
        with pytest.raises(StoreUnavailable):
            await replica.ledger.append(statement())
        async with store.session(owner=True) as owner:
            await owner.execute("SET default_transaction_read_only = off")
            await owner.execute(
                f"ALTER DATABASE {store.dsns.name} RESET default_transaction_read_only"
            )
        await replica.ledger.append(statement())
        await stays_well(store, replica)


@pytest.mark.guards("F-11")
@pytest.mark.parametrize("when", ["before", "in doubt", "at the look"])
async def test_a_database_that_falls_silent_is_left_in_time(
    store: Store,
    relayed_replica: tuple[Replica, Relay],
    monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:
    monkeypatch.setattr(writer_connection, "WORK_SECONDS", 0.3)
    monkeypatch.setattr(db, "CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(writer_connection, "COMMIT_SECONDS", 0.3)
    replica, relay = relayed_replica
    relay.then = relay.hush
    match when:
        case "before":
            relay.hush()
        case "in doubt":
            relay.at_commit = [AtCommit.LOST]
        case _:
            relay.at_commit = [AtCommit.LOST, AtCommit.SWALLOWED]
    (task,) = appending(replica.ledger, statement(), seconds=0.2)
    with pytest.raises(LedgerUnavailable):
        await task
    await until(lambda: relay.silent)
    relay.silent = False  # for what comes: what was lost is lost
    async with asyncio.timeout(10):
        while not await appends(replica):
            pass
    await stays_well(store, replica)


async def appends(replica: Replica, unit: Unit | None = None) -> bool:
    try:
        await replica.ledger.append(unit or statement(), seconds=1)
    except (LedgerUnavailable, StoreUnavailable):
        return False
    return True


@pytest.mark.guards("F-12")
@pytest.mark.parametrize("plan", [AtCommit.LOST, AtCommit.ANSWER_LOST, None])
def test_under_uvloop_too(embedded: EmbeddedParts, plan: AtCommit | None) -> None:
    """There a lost connection may raise what is no PostgresError."""

    async def story() -> None:
        async with (
            fresh_database(embedded) as dsns,
            opened(await migrated(dsns)) as store,
            behind_relay(store) as (replica, relay),
        ):
            if plan is None:
                relay.cut_after["to server"] = 1
            else:
                relay.at_commit = [plan]
            units = new_tokens(3)
            tasks = appending(replica.ledger, *units)
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(outcomes[0], StoreUnavailable) is (plan is None)
            await acknowledged_iff_present(store, units, outcomes)
            await stays_well(store, replica)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story())


@pytest.mark.guards("T-60", "F-12")
async def test_two_replicas_under_fire_keep_one_order(store: Store) -> None:
    """Connections are cut at any moment under load; what was acknowledged is there, once."""
    async with behind_relay(store) as (one, first), behind_relay(store) as (two, second):
        units = [new_tokens(40) for _ in range(6)]
        tasks = []
        for number, some in enumerate(units):
            tasks += appending((one, two)[number % 2].ledger, *some)
            await asyncio.sleep(0.03)
            (first, second)[number % 2].at_commit = [AtCommit.LOST, AtCommit.ANSWER_LOST]
            await asyncio.sleep(0.03)
            (first, second)[number % 3 % 2].cut_all()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        first.at_commit = second.at_commit = []
        await acknowledged_iff_present(store, list(chain(*units)), outcomes)
        await stays_well(store, one, two)
