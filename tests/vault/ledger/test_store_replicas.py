"""Several writers on one database, as tasks and as processes; stopped, killed, cut off.

The outside record is what authors were told. Whatever happens: all of it is in the log, once,
at its place, and the log has one order without gaps.
"""

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import asyncpg
import pytest

from tests.embedded_process import EmbeddedProcess
from tests.vault.ledger.appending_process import AppendingProcess
from tests.vault.ledger.test_store import appending, stays_well
from tests.vault.rows import statement
from tests.vault.stores import Connection, Store, opened, shared_database

pytestmark = pytest.mark.embedded


@contextmanager
def processes(
    dsn: str, folder: Path, number: int, *, callers: int = 8, **settings: str
) -> Iterator[list[AppendingProcess]]:
    """Run replicas, and end them in order if they are still there."""
    made = [
        AppendingProcess.started(
            dsn, folder / f"acknowledged-{secrets.token_hex(4)}", callers=callers, **settings
        )
        for _ in range(number)
    ]
    try:
        yield made
    finally:
        for process in made:
            process.send(signal.SIGCONT)
            process.close()


@pytest.fixture
async def store(store: Store) -> Store:
    """The log is opened: the first start is one replica's alone."""
    async with store.replica():
        return store


async def nothing_is_lost(store: Store, replicas: Sequence[AppendingProcess]) -> int:
    """Check the log against what authors were told; return how much that was."""
    report = await store.report()
    assert report.violations == ()
    assert report.size == await store.count("entry")
    told = [one for replica in replicas for one in replica.acknowledged()]
    rows = await store.rows("SELECT id, idx, leaf_hash FROM entry")
    there = {str(row["id"]): (row["idx"], row["leaf_hash"]) for row in rows}
    assert len(there) == len(rows)
    assert len({one.idx for one in told}) == len(told)
    for one in told:
        assert there[one.id] == (one.idx, one.leaf)
    orphans = await store.value(
        "SELECT count(*) FROM intent_state i LEFT JOIN entry e ON e.idx = i.last_idx"
        " WHERE e.type IS DISTINCT FROM 'authorization.' || i.state"
    )
    assert orphans == 0
    return len(told)


# --- all goes well --------------------------------------------------------------------------


@pytest.mark.guards("T-60")
async def test_three_writers_of_one_process_make_one_order(store: Store) -> None:
    async with store.replica() as one, store.replica() as two, store.replica() as three:
        placed = await asyncio.gather(
            *(
                task
                for _ in range(40)
                for replica in (one, two, three)
                for task in appending(replica.ledger, *(statement() for _ in range(3)))
            )
        )
        indices = sorted(place.idx for (place,) in placed)
        assert indices == list(range(indices[0], indices[0] + 360))
        await stays_well(store, one, two, three)


@pytest.mark.guards("T-60")
async def test_three_processes_make_one_order(store: Store, tmp_path: Path) -> None:
    with processes(store.dsns.runtime_dsn, tmp_path, 3) as replicas:
        for replica in replicas:
            await replica.until_acknowledged(100)
    assert await nothing_is_lost(store, replicas) >= 300
    assert all(replica.close() == 0 for replica in replicas)


# --- a replica that is stopped or killed ----------------------------------------------------


HOLDS_THE_LOCK = """
SELECT EXISTS (SELECT 1 FROM pg_stat_activity JOIN pg_locks USING (pid)
  WHERE datname = current_database() AND state = 'idle in transaction'
    AND relation = 'head'::regclass AND mode = 'RowShareLock' AND granted)
"""


async def stopped_with_the_lock(store: Store, replica: AppendingProcess) -> None:
    """Stop a process at a moment at which it holds the head lock."""
    async with asyncio.timeout(60), store.session() as peer:  # of one role: it sees the other
        while True:
            replica.send(signal.SIGSTOP)
            await asyncio.sleep(0.05)  # what the server does for it is done by then
            if await peer.fetchval(HOLDS_THE_LOCK):
                return
            replica.send(signal.SIGCONT)
            await asyncio.sleep(0.003 + secrets.randbelow(10) / 1000)


@pytest.mark.guards("F-16")
async def test_a_writer_stopped_with_the_lock_holds_the_others_for_no_longer_than_its_session(
    store: Store, tmp_path: Path
) -> None:
    dsn = store.dsns.runtime_dsn
    with (
        processes(dsn, tmp_path, 1, idle_in_transaction_session_timeout="500ms") as (stopped,),
        processes(dsn, tmp_path, 1) as (other,),
    ):
        await stopped.until_acknowledged(20)
        await other.until_acknowledged(20)
        other.send(signal.SIGSTOP)  # so that nobody else is seen with the lock
        await stopped_with_the_lock(store, stopped)
        other.send(signal.SIGCONT)

        waited = await other.until_acknowledged(20)

        assert waited < 3
        stopped.send(signal.SIGCONT)
        await stopped.until_acknowledged(20)  # on a new connection, its doubt settled
    await nothing_is_lost(store, [stopped, other])


@pytest.mark.guards("F-12", "F-16")
async def test_a_writer_that_slept_through_its_own_commit_finds_out_about_it(
    store: Store, tmp_path: Path
) -> None:
    """Stopped anywhere, its session ended meanwhile: what it was about may be done or not."""
    dsn = store.dsns.runtime_dsn
    ended = 0
    with processes(dsn, tmp_path, 2, callers=4) as replicas:
        for replica in replicas:
            await replica.until_acknowledged(10)
        async with store.session() as peer:
            while ended < 6:
                replica = secrets.choice(replicas)
                replica.send(signal.SIGSTOP)
                await asyncio.sleep(secrets.randbelow(20) / 1000)
                ended += await end_a_writer(peer)
                replica.send(signal.SIGCONT)
                await replica.until_acknowledged(3)
        for replica in replicas:
            await replica.until_acknowledged(10)
    await nothing_is_lost(store, replicas)


async def test_what_a_killed_writer_was_told_is_there_and_the_others_go_on(
    store: Store, tmp_path: Path
) -> None:
    with processes(store.dsns.runtime_dsn, tmp_path, 3) as replicas:
        for replica in replicas:
            await replica.until_acknowledged(20)
        for replica in replicas[:2]:
            await replica.until_acknowledged(5)
            replica.kill()
        await replicas[2].until_acknowledged(100)
    await nothing_is_lost(store, replicas)


# --- the server's side ----------------------------------------------------------------------


END_A_WRITER = """
SELECT count(*) FROM (
  SELECT pg_terminate_backend(pid) FROM (
    SELECT pid FROM pg_stat_activity WHERE datname = current_database()
      AND application_name = 'panward' AND state <> 'idle'
    ORDER BY (query = 'COMMIT') DESC, random() LIMIT 1) one) ended
"""


async def end_a_writer(peer: Connection) -> int:
    """End a backend that is at work, best of all at a COMMIT; return how many."""
    with suppress(asyncpg.InsufficientPrivilegeError):  # it is just coming or going
        return int(await peer.fetchval(END_A_WRITER))
    return 0


@pytest.mark.guards("F-12")
@pytest.mark.parametrize("rounds", [40, pytest.param(500, marks=pytest.mark.long)])
async def test_backends_that_are_ended_under_load(
    store: Store, tmp_path: Path, rounds: int
) -> None:
    ended = 0
    with processes(store.dsns.runtime_dsn, tmp_path, 2) as replicas:
        for replica in replicas:
            await replica.until_acknowledged(10)
        async with store.session() as peer:
            while ended < rounds:
                ended += await end_a_writer(peer)
                await asyncio.sleep(secrets.randbelow(60) / 1000)
        for replica in replicas:
            await replica.until_acknowledged(20)
    assert await nothing_is_lost(store, replicas) > rounds


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedProcess]:
    """One that may be stopped, ten times in ten minutes: nobody else has tests on it."""
    process = EmbeddedProcess.started(tmp_path_factory.mktemp("own-server"))
    process.do("allow createdb")
    yield process
    process.close()


@asynccontextmanager
async def own_store(server: EmbeddedProcess) -> AsyncIterator[Store]:
    async with opened(await shared_database(server.parts)) as made:
        yield made


@pytest.mark.guards("F-10", "F-12")
@pytest.mark.parametrize("rounds", [3, pytest.param(8, marks=pytest.mark.long)])
async def test_a_server_that_stops_at_once_has_lost_nothing_of_what_was_told(
    own_server: EmbeddedProcess, tmp_path: Path, rounds: int
) -> None:
    async with own_store(own_server) as before, before.replica():
        dsns = before.dsns
    with processes(dsns.runtime_dsn, tmp_path, 2, callers=16) as replicas:
        for _ in range(rounds):
            for replica in replicas:
                await replica.until_acknowledged(30, seconds=60)
            await asyncio.sleep(secrets.randbelow(100) / 1000)
            server = own_server.pids()["postgres"]
            stop_at_once(server)
            own_server.until_restarted("postgres", server, seconds=30)
        for replica in replicas:
            await replica.until_acknowledged(30, seconds=60)
    async with opened(dsns) as after:
        assert await nothing_is_lost(after, replicas) >= rounds * 60


def stop_at_once(postmaster: int) -> None:
    """Like `pg_ctl stop -m immediate`: no checkpoint, no answer to anybody."""
    os.kill(postmaster, signal.SIGQUIT)
