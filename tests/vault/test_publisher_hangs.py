"""A publisher whose neighbors hang, vanish or change their clocks: it ends, rests and goes on."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.vault.publishing import Stand, sizes, standing
from tests.vault.stores import Connection, Store, settled
from tests.vault.test_publisher import grown
from vault import publication
from vault import publisher as publisher_module
from vault.db import SETTINGS
from vault.ledger.note import Note
from vault.publisher import REFUSED_AGAIN, REPEAT, Publisher
from vault.transit import Secret

pytestmark = pytest.mark.embedded


@pytest.fixture
async def stand(store: Store, tmp_path: Path) -> AsyncIterator[Stand]:
    async with standing(store, tmp_path) as made:
        yield made


# --- what hangs -----------------------------------------------------------------------------


async def test_an_end_does_not_wait_for_a_postgresql_that_hangs(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The duty is canceled in the middle of its transaction: a frozen machine, a hung disk."""
    await grown(stand)
    await stand.append(3)
    publisher = stand.publisher()
    stopped: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def store_on_a_stopped_server(connection: Connection, *more: Any) -> None:  # noqa: ANN401 - as it is
        pid = connection.get_server_pid()
        os.kill(pid, signal.SIGSTOP)
        stopped.set_result(pid)
        await publication.store(connection, *more)

    monkeypatch.setattr(publisher_module, "store", store_on_a_stopped_server)
    turn = asyncio.create_task(publisher.publish())
    pid = await stopped
    try:
        await settled()  # its statement is on the way
        turn.cancel()
        done, _ = await asyncio.wait({turn}, timeout=10)
        assert done, "it waits for a server that does not answer"
        assert not publisher.is_elected
    finally:
        os.kill(pid, signal.SIGCONT)
        await asyncio.wait({turn})
        await publisher.close()
    monkeypatch.undo()
    async with stand.publishing() as successor:
        await elected(stand, successor)
    assert sizes(stand.signed()) == [12, 15, 15], "the first of them was not published"


async def elected(stand: Stand, publisher: Publisher) -> None:
    """Publish as soon as the lock is free: the server drops it a little after a connection."""
    await stand.store.until(
        "SELECT NOT EXISTS (SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE locktype = 'advisory' AND datname = current_database())"
    )
    await publisher.publish()
    assert publisher.is_elected


async def test_a_key_service_that_hangs_ends_the_turn(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "TURN_SECONDS_MAX", 0.3)

    async def never(*_: object) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    async with stand.publishing() as publisher:
        await publisher.publish()
        stand.store.clock.at += REPEAT  # the same head again: no page is read that gives it time
        with monkeypatch.context() as hanging:
            hanging.setattr(stand.service, "sign", never)
            async with asyncio.timeout(10):
                await publisher.publish()
        assert stand.reasons.seen
        assert not publisher.is_elected
        monkeypatch.undo()
        await elected(stand, publisher)
    assert await stand.seals() == []


async def test_an_election_that_breaks_off_leaves_no_lock_behind(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock was given, and nobody heard: it must go with the connection."""
    fetchval = asyncpg.Connection.fetchval

    async def unheard(connection: Connection, statement: str, *values: object) -> object:
        answer: object = await fetchval(connection, statement, *values)
        if "pg_try_advisory_lock" in statement:
            raise TimeoutError
        return answer

    async with stand.publishing() as publisher, stand.publishing() as other:
        with monkeypatch.context() as broken:
            broken.setattr(asyncpg.Connection, "fetchval", unheard)
            await publisher.publish()
        assert not publisher.is_elected
        await elected(stand, other)


def test_a_dead_hosts_lock_ends_soon() -> None:
    """PostgreSQL notices a host that went without a word by TCP's keepalives alone."""
    seconds = int(SETTINGS["tcp_keepalives_idle"]) + int(SETTINGS["tcp_keepalives_interval"]) * int(
        SETTINGS["tcp_keepalives_count"]
    )
    assert 0 < seconds <= 10


# --- clocks ---------------------------------------------------------------------------------


async def test_a_clock_set_back_does_not_silence_the_publisher(stand: Stand) -> None:
    async with stand.publishing() as publisher:
        await publisher.publish()
        await stand.append(1)
        good = await stand.store.value("SELECT root FROM head")
        await stand.tamper("UPDATE head SET root = sha256('')")
        await publisher.publish()  # and rests
        await stand.tamper("UPDATE head SET root = $1", good)
        stand.store.clock.advance(hours=-1)
        await publisher.publish()
    latest = await stand.latest()
    assert latest is not None
    assert latest.size >= 3


async def test_a_clock_set_back_does_not_end_the_repeating(stand: Stand) -> None:
    async with stand.publishing() as publisher:
        await publisher.publish()
        stand.store.clock.advance(hours=-1)
        await publisher.publish()
    assert len(stand.service.signatures) == 2, "silence must show"


# --- who steps down -------------------------------------------------------------------------


@pytest.mark.guards("T-60")
async def test_who_is_outrun_steps_down(stand: Stand) -> None:
    async with stand.publishing() as publisher:
        await publisher.publish()
        assert stand.service.secret is not None
        stand.service.secret = Secret(stand.service.secret.data, stand.service.secret.version + 1)
        await stand.append(1)
        await publisher.publish()
        assert stand.reasons.seen == ["outrun"]
        assert not publisher.is_elected
    assert len(stand.service.signatures) == 1


async def test_who_refuses_steps_down_and_rests(stand: Stand) -> None:
    """Another gateway may see it otherwise, and a broken log is not read every second."""
    await grown(stand)
    async with stand.publishing() as publisher:
        await publisher.publish()
        await stand.tamper("UPDATE head SET root = sha256('')")
        await publisher.publish()
        assert not publisher.is_elected
        for _ in range(3):
            await publisher.publish()
        assert stand.reasons.seen == ["root_mismatch"]
        stand.store.clock.at += REFUSED_AGAIN + timedelta(seconds=1)
        await publisher.publish()
        assert stand.reasons.seen == ["root_mismatch"] * 2


async def test_who_stepped_down_shows_and_exports_nothing(stand: Stand) -> None:
    asked: list[str] = []

    class Witness:
        async def show(self, note: Note) -> None:
            asked.append("show")

    async def out(note: Note) -> None:
        asked.append("export")

    publisher = stand.publisher()
    publisher._witnesses, publisher._exporting = Witness(), out
    await publisher.publish()
    await publisher.close()
    await publisher.show()
    await publisher.export()
    assert asked == []


async def test_the_time_of_the_latest_signature_is_for_all_to_see(stand: Stand) -> None:
    async with stand.publishing() as publisher:
        await publisher.publish()
        stand.store.clock.at += REPEAT
        await publisher.publish()
    (row,) = await stand.store.rows("SELECT size, at FROM publication")
    assert (row["size"], row["at"]) == (2, stand.store.clock.at)
