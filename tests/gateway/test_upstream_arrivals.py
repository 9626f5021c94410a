"""One send arrives once, at one place, and gets its own answer, whatever invites the opposite."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.exchange import Failure, Phase, Replied, Unknown
from tests.gateway.raw_servers import (
    CANARY,
    OK,
    Certificates,
    Connection,
    post,
    repeating,
    reply,
    route_to,
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


# --- exactly one arrival ------------------------------------------------------------------


@pytest.mark.guards("T-47")
@pytest.mark.parametrize("method", ["POST", "PUT", "GET", "DELETE", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("defense", ["both", "only the middleware", "only the trace"])
async def test_a_flaky_keep_alive_makes_no_second_arrival(
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    defense: str,
) -> None:
    """Every other request is answered, the rest are cut; each defense must hold alone."""
    if defense == "only the trace":
        monkeypatch.setattr("gateway.upstream._Attempt.only_once", _hides_nothing)
    if defense == "only the middleware":
        monkeypatch.setattr("gateway.upstream.MAYBE_SENT", frozenset[Phase]())

    async def flaky(connection: Connection) -> None:
        while True:
            await connection.request()
            if len(server.requests) % 2 == 0:
                return
            await connection.say(b"HTTP/1.1 204 No Content\r\n\r\n")

    body = b"" if method in ("GET", "HEAD") else CANARY
    async with (
        serving(flaky, certificates.server) as server,
        upstream_to(route_to(server.port, certificates)) as upstream,
    ):
        for sends in range(1, 7):
            await upstream.send(method, "/v1/charges", "", [], body)
            assert len(server.requests) <= sends


@pytest.mark.guards("T-47")
@pytest.mark.parametrize("body", [b"", CANARY])
async def test_not_even_used_connections_make_a_second_arrival(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    """As if all methods shared connections and aiohttp were free to send again."""
    monkeypatch.setattr("gateway.upstream._Attempt.only_once", _hides_nothing)
    both = asyncio.Event()

    async def answer_once(connection: Connection) -> None:
        await connection.request()
        if len(server.requests) == 2:
            both.set()
        await both.wait()
        await connection.say(OK)
        await connection.request()

    async with (
        serving(answer_once, certificates.server) as server,
        upstream_to(route_to(server.port, certificates)) as upstream,
    ):
        monkeypatch.setattr(upstream, "_others", upstream._posting)
        await asyncio.gather(post(upstream), post(upstream))
        outcome = await upstream.send("PUT", "/v1/charges", "", [], body)
        monkeypatch.undo()
    assert isinstance(outcome, Unknown)
    assert (server.connections, len(server.requests)) == (2, 3)


async def _hides_nothing(self: object, request: object, handler: object) -> object:
    assert callable(handler)
    return await handler(request)


@pytest.mark.guards("T-47")
@pytest.mark.parametrize(
    "stray",
    [
        reply(b"GHOST", status="408 Request Timeout"),
        reply(b"GHOST")[:-3],
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
async def test_what_a_server_says_unasked_answers_no_request(
    certificates: Certificates, stray: bytes
) -> None:
    strayed = asyncio.Event()

    async def script(connection: Connection) -> None:
        request = await connection.request()
        await connection.say(reply(request[-1:]))
        await asyncio.sleep(0.02)  # the first reply is read and its connection idle
        await connection.say(stray)
        strayed.set()
        while True:
            request = await connection.request()
            await connection.say(reply(request[-1:]))

    async with (
        serving(script, certificates.server) as server,
        upstream_to(route_to(server.port, certificates)) as upstream,
    ):
        for body in (b"1", b"2", b"3"):
            outcome = await post(upstream, body)
            assert isinstance(outcome, Replied)
            assert outcome.body == body
            await strayed.wait()
            await asyncio.sleep(0.02)
            strayed.clear()
    assert server.connections == 3


@pytest.mark.guards("T-47")
@pytest.mark.parametrize("split", [0, 1, 5])
async def test_a_doubled_reply_answers_no_other_request(
    certificates: Certificates, split: int
) -> None:
    """Also when the second one comes in the same bytes as the end of the first."""

    async def script(connection: Connection) -> None:
        while True:
            request = await connection.request()
            answer = reply(b"...." + request[-1:])
            first = len(answer) - split
            await connection.say(answer[:first])
            await asyncio.sleep(0.02)
            await connection.say(answer[first:] + reply(b"GHOST"))

    async with (
        serving(script, certificates.server) as server,
        upstream_to(route_to(server.port, certificates)) as upstream,
    ):
        for body in (b"1", b"2", b"3"):
            outcome = await post(upstream, body)
            assert isinstance(outcome, Replied)
            assert outcome.body == b"...." + body
            await asyncio.sleep(0.04)
    assert len(server.requests) == 3


# --- ways around --------------------------------------------------------------------------


@pytest.mark.guards("T-45")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_redirect_is_not_followed(
    certificates: Certificates, status: int, method: str
) -> None:
    async with serving(repeating(OK), certificates.server) as sink:
        targets = iter([f"https://127.0.0.1:{sink.port}/", "/elsewhere"])

        async def script(connection: Connection) -> None:
            while True:
                await connection.request()
                location = f"Location: {next(targets)}"
                await connection.say(reply(b"", location, status=f"{status} Found"))

        async with (
            serving(script, certificates.server) as server,
            upstream_to(route_to(server.port, certificates)) as upstream,
        ):
            for sends in (1, 2):
                outcome = await upstream.send(method, "/", "", [], b"")
                assert outcome == Unknown(Phase.REPLY, Failure.REDIRECT, status)
                assert len(server.requests) == sends
    assert sink.connections == 0


@pytest.mark.guards("T-46")
@pytest.mark.guards("T-50")
async def test_the_environment_brings_no_credentials(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine processor.test login a password b\ndefault login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with (
        serving(repeating(OK), certificates.server) as server,
        upstream_to(route_to(server.port, certificates)) as upstream,
    ):
        assert isinstance(await post(upstream), Replied)
    assert b"uthorization" not in server.requests[0]


@pytest.mark.guards("T-46")
async def test_the_environment_chooses_no_proxy(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        serving(repeating(OK), None) as sink,
        serving(repeating(OK), certificates.server) as server,
    ):
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{sink.port}")
        async with upstream_to(route_to(server.port, certificates)) as upstream:
            assert isinstance(await post(upstream), Replied)
    assert (sink.connections, len(server.requests)) == (0, 1)
