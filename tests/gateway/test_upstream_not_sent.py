"""What fails before the first byte is not sent, and a send that is canceled leaves nothing."""

import asyncio
import logging
import socket
from collections.abc import Iterator

import pytest

from gateway.exchange import Failure, NotSent, Phase, Replied
from gateway.upstream import Upstream
from tests.gateway.raw_servers import (
    CANARY,
    OK,
    Certificates,
    Connection,
    Observer,
    Script,
    at,
    drip,
    post,
    reply,
    route_to,
    say_nothing,
    serving,
    upstream_to,
)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def silent(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever happens in these tests, nothing is logged: it could quote the request."""
    caplog.set_level(logging.INFO)
    yield
    assert [record.getMessage() for record in caplog.records] == []


# --- before the line ----------------------------------------------------------------------


@pytest.mark.guards("F-21")
async def test_a_refused_connection_is_not_sent(certificates: Certificates) -> None:
    observer = Observer()
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound and not listening: refused
        port = reserved.getsockname()[1]
        async with upstream_to(route_to(port, certificates), observer) as upstream:
            outcome = await post(upstream)
    assert outcome == NotSent(Phase.CONNECT, Failure.UNREACHABLE)
    assert observer.failures == [(Phase.CONNECT, Failure.UNREACHABLE)]


@pytest.mark.guards("F-22")
async def test_a_connection_that_is_never_taken_is_not_sent(certificates: Certificates) -> None:
    """The kernel drops a SYN when the queue of connections is full."""
    loop = asyncio.get_running_loop()
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)  # noqa: FBT003 - the standard library's own
            filler.connect_ex(address)
        route = route_to(address[1], certificates, connect_seconds=0.3)
        async with upstream_to(route) as upstream:
            began = loop.time()
            outcome = await post(upstream)
            assert 0.25 < loop.time() - began < 5
        for filler in fillers:
            filler.close()
    assert outcome == NotSent(Phase.CONNECT, Failure.CONNECT_TIMEOUT)


async def test_the_total_deadline_holds_before_sending_too(certificates: Certificates) -> None:
    async with serving(say_nothing, None) as server:
        route = route_to(server.port, certificates, timeout_seconds=0.2)
        async with upstream_to(route) as upstream:
            outcome = await post(upstream)
    assert outcome == NotSent(Phase.TLS, Failure.CONNECT_TIMEOUT)
    assert CANARY not in server.received


async def test_a_send_without_a_place_is_not_sent(certificates: Certificates) -> None:
    asked = asyncio.Event()
    answer = asyncio.Event()

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            asked.set()
            await answer.wait()
            await connection.say(OK)

    async with serving(script, certificates.server) as server:
        route = route_to(server.port, certificates, concurrency=1, connect_seconds=0.2)
        async with upstream_to(route) as upstream, asyncio.TaskGroup() as group:
            first = group.create_task(post(upstream))
            await asked.wait()
            assert await upstream.send("GET", "/", "", [], b"") == NotSent(
                Phase.QUEUE, Failure.OVERLOADED
            )
            assert len(server.requests) == 1
            waiting = group.create_task(post(upstream))
            await asyncio.sleep(0)
            answer.set()
    assert isinstance(first.result(), Replied)
    assert isinstance(waiting.result(), Replied)


# --- cancellation -------------------------------------------------------------------------


@pytest.mark.parametrize("script", [say_nothing, drip], ids=["waiting", "reading"])
async def test_cancellation_is_passed_on_and_leaves_nothing_behind(
    certificates: Certificates, script: Script
) -> None:
    async with serving(script, certificates.server) as server:
        route = route_to(server.port, certificates, concurrency=1, connect_seconds=0.5)
        async with upstream_to(route) as upstream:
            for _ in range(2):  # the second finds the first one's place free
                task = asyncio.create_task(post(upstream))
                await server.arrived.wait()
                server.arrived.clear()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
    assert server.connections == 2


async def test_cancellation_while_connecting_is_passed_on(certificates: Certificates) -> None:
    async with (
        serving(say_nothing, None) as server,
        upstream_to(route_to(server.port, certificates)) as upstream,
    ):
        task = asyncio.create_task(post(upstream))
        await server.connected.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_sends_do_not_mix_up_their_replies(certificates: Certificates) -> None:
    async def echo(connection: Connection) -> None:
        while True:
            request = await connection.request()
            await connection.say(reply(request.partition(b"\r\n\r\n")[2]))

    async def one(upstream: Upstream, body: bytes) -> None:
        outcome = await post(upstream, body)
        assert isinstance(outcome, Replied)
        assert outcome.body == body

    async with (
        serving(echo, certificates.server) as server,
        upstream_to(
            route_to(server.port, certificates, concurrency=8), lookup=at("127.0.0.1")
        ) as upstream,
        asyncio.TaskGroup() as group,
    ):
        for number in range(200):
            group.create_task(one(upstream, b"%d" % number))
    assert server.connections <= 8
