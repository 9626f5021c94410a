"""Listeners over real sockets: framing, time, size, and how they end."""

import asyncio
import socket
from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.http_parser import HttpRequestParser

from gateway.bodies import Pace
from gateway.connections import Limits, Seat, Seats, listen
from gateway.listeners import (
    SafeHandler,
    refuse_loose_routes,
    start_listener,
    verify,
)
from gateway.middleware import CSP_NOTHING
from tests.gateway.framing_vectors import CHUNKED, FRAMING, MARKER, TOKENS, VERSIONS, chunked
from tests.gateway.raw_client import (
    CANARY,
    POLICY,
    Shell,
    get,
    hang_up,
    headers,
    post,
    rest,
    serving,
    status,
    until,
)
from vault.errors import StartRefused

SHORT = Limits(keepalive_seconds=0.3, shutdown_seconds=1.0, lingering_seconds=0.05)
CLOSE = b"Connection: close\r\n"
EXPECTATIONS = {
    "usual": b"100-continue",
    "upper case": b"100-CONTINUE",
    "empty": b"",
    "unknown": b"200-ok",
    "a card": CANARY.encode(),
    "list": b"100-continue, x",
}


@pytest.mark.guards("T-01")
@pytest.mark.guards("T-03")
@pytest.mark.guards("T-04")
@pytest.mark.parametrize("tail", [b"", MARKER], ids=["alone", "followed"])
@pytest.mark.parametrize("vector", FRAMING.values(), ids=FRAMING)
async def test_a_head_that_can_be_read_in_two_ways_is_refused_and_the_connection_closed(
    vector: bytes, tail: bytes
) -> None:
    async with serving(SHORT) as shell:
        reply = await shell.exchange(vector + tail)
        assert status(reply) == 400
        assert reply.count(b"HTTP/1.1 ") == 1
        assert headers(reply)["connection"] == "close"
        assert [line["code"] for line in shell.events()] == ["malformed_request"]
        assert shell.seen == []


@pytest.mark.guards("T-01")
@pytest.mark.parametrize("tail", [b"", MARKER], ids=["alone", "followed"])
@pytest.mark.parametrize("vector", VERSIONS.values(), ids=VERSIONS)
async def test_only_the_one_version_is_spoken(vector: bytes, tail: bytes) -> None:
    async with serving(SHORT) as shell:
        reply = await shell.exchange(vector + tail)
        assert status(reply) in {400, 505}
        assert reply.count(b"Panward-Request-Id") == 1
        assert headers(reply)["connection"] == "close"
        assert shell.seen == []


async def test_another_version_is_told_which_one_is_spoken() -> None:
    async with serving(SHORT) as shell:
        for version in ("1.0", "2.0", "0.9"):
            assert status(await shell.exchange(VERSIONS[version])) == 505
        assert shell.count("http_protocol_errors_total", kind="version") == 3


async def test_what_is_written_in_the_one_way_gets_in() -> None:
    async with serving() as shell:
        assert status(await shell.exchange(post(b"{}", CLOSE))) == 200
        assert status(await shell.exchange(TOKENS + CHUNKED + CLOSE + b"\r\n" + chunked(b"[]")))
        assert status(await shell.exchange(get(b"/v1/tokens", CLOSE))) == 200
        with_port = b"GET /marker HTTP/1.1\r\nHost: LOCALHOST:8443\r\n" + CLOSE + b"\r\n"
        assert status(await shell.exchange(with_port)) == 200
        no_body = get(b"/v1/tokens", CLOSE, b"Content-Length: 0\r\n")
        assert status(await shell.exchange(no_body)) == 200
        assert shell.seen == [
            ("POST", "/v1/tokens", b"{}"),
            ("POST", "/v1/tokens", b"[]"),
            ("GET", "/v1/tokens", b""),
            ("GET", "/marker", b""),
            ("GET", "/v1/tokens", b""),
        ]


async def test_requests_byte_by_byte_and_in_a_pipeline_are_each_seen_once() -> None:
    async with serving() as shell:
        reader, writer = await shell.connect()
        for byte in post(b'{"a":1}'):
            writer.write(bytes([byte]))
            await writer.drain()
        writer.write(MARKER + get(b"/marker", CLOSE))
        assert (await rest(reader)).count(b"HTTP/1.1 200 ") == 3
        await hang_up(writer)
        assert [path for _, path, _ in shell.seen] == ["/v1/tokens", "/marker", "/marker"]


@pytest.mark.guards("T-02")
@pytest.mark.parametrize("path", [b"/v1/tokens", b"/nowhere", b"/out/stripe/v1/charges"])
@pytest.mark.parametrize("value", EXPECTATIONS.values(), ids=EXPECTATIONS)
async def test_expect_is_refused_before_the_body_and_never_echoed(
    path: bytes, value: bytes
) -> None:
    async with serving(SHORT) as shell:
        head = post(b"{}", b"Expect: " + value + b"\r\n", path=path).removesuffix(b"{}")
        reply = await shell.exchange(head)  # the body is not sent: nobody asked for it
        assert status(reply) == 417
        assert CANARY.encode() not in reply
        assert b" 100 " not in reply
        assert headers(reply)["connection"] == "close"
        assert shell.seen == []
        assert shell.count("http_protocol_errors_total", kind="expect") == 1


@pytest.mark.guards("T-03")
async def test_what_follows_an_upgrade_is_not_a_request() -> None:
    head = post(b"{}", b"Upgrade: websocket\r\nConnection: Upgrade\r\n")
    async with serving(SHORT) as shell:
        reply = await shell.exchange(head + MARKER)
        assert (status(reply), reply.count(b"HTTP/1.1")) == (400, 1)
        assert shell.seen == []


async def test_every_answer_has_our_headers_and_none_names_the_server() -> None:
    async with serving() as shell:
        for sent in (
            get(b"/v1/tokens", CLOSE),
            get(b"/nowhere", CLOSE),
            get(b"/fail", CLOSE),
            b"not HTTP\r\n\r\n",
            VERSIONS["2.0"],
            get(b"/v1/tokens", b"Expect: a\r\n"),
        ):
            found = headers(await shell.exchange(sent))
            assert found["cache-control"] == "no-store"
            assert found["x-content-type-options"] == "nosniff"
            assert found["strict-transport-security"] == "max-age=31536000"
            assert found["content-security-policy"] == (
                "default-src 'none'; frame-ancestors 'none'"
            )
            assert found["panward-request-id"]
            assert "server" not in found


async def test_a_page_keeps_its_own_content_security_policy() -> None:
    async with serving() as shell:
        found = headers(await shell.exchange(get(b"/fields", CLOSE)))
        assert found["content-security-policy"] == POLICY
        assert "server" not in found


async def test_a_policy_that_came_from_elsewhere_is_not_passed_on() -> None:
    async with serving() as shell:
        found = headers(await shell.exchange(get(b"/from-elsewhere", CLOSE)))
        assert found["content-security-policy"] == CSP_NOTHING


# --- time ---------------------------------------------------------------------------------


@pytest.mark.guards("T-08")
@pytest.mark.parametrize("begun", [b"", b"GET /v1/to", b"GET /marker HTTP/1.1\r\nHost: 127"])
async def test_a_head_has_a_deadline(begun: bytes) -> None:
    async with serving(SHORT) as shell:
        started = asyncio.get_running_loop().time()
        assert await shell.exchange(begun) == b""
        assert asyncio.get_running_loop().time() - started < 3.0
        assert shell.seen == []


@pytest.mark.guards("T-08")
async def test_a_head_that_drips_has_the_same_deadline() -> None:
    async with serving(SHORT) as shell:
        reader, writer = await shell.connect()
        reading = asyncio.ensure_future(rest(reader))
        for byte in MARKER * 1000:
            if reading.done():
                break
            writer.write(bytes([byte]))
            await asyncio.sleep(0.05)
        assert reading.done()
        assert await reading == b""
        await hang_up(writer)


@pytest.mark.guards("T-08")
@pytest.mark.guards("T-01")
async def test_a_broken_chunk_is_answered_at_once_though_the_body_was_asked_for() -> None:
    async with serving(pace=Pace(start_seconds=60, seconds_max=60)) as shell:
        reader, writer = await shell.connect()
        writer.write(TOKENS + CHUNKED + b"\r\n2\r\n{}\r\n")
        await shell.application.entered.wait()
        writer.write(b"zz\r\n" + MARKER)
        reply = await rest(reader)
        assert (status(reply), reply.count(b"HTTP/1.1")) == (400, 1)
        assert shell.seen == []
        await hang_up(writer)


@pytest.mark.guards("T-01")
async def test_a_broken_chunk_behind_another_request_is_answered_in_its_turn() -> None:
    async with serving(pace=Pace(start_seconds=60, seconds_max=60)) as shell:
        reader, writer = await shell.connect()
        writer.write(get(b"/wait"))
        await shell.application.entered.wait()
        writer.write(TOKENS + CHUNKED + b"\r\n2\r\n{}\r\n")
        await until(lambda: shell.connections[0]._messages)
        writer.write(b"zz\r\n" + MARKER)
        await until(lambda: len(shell.connections[0]._messages) == 2)
        shell.application.go_on.set()
        reply = await rest(reader)
        assert reply.count(b"HTTP/1.1 200 ") == reply.count(b"HTTP/1.1 400 ") == 1
        assert shell.seen == [("GET", "/wait", b"")]
        await hang_up(writer)


@pytest.mark.guards("T-08")
async def test_a_caller_who_does_not_read_is_cut_off() -> None:
    limits = Limits(keepalive_seconds=60, write_seconds=0.3, shutdown_seconds=1)
    async with serving(limits) as shell:
        reader, writer = await shell.connect()
        writer.write(get(b"/wait"))
        await shell.application.entered.wait()
        accepted(shell).setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 0)  # the other lock
        transport = writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        shell.application.go_on.set()
        writer.write(get(b"/big"))
        await until(lambda: not shell.seats_taken)
        transport.resume_reading()
        assert len(await rest(reader)) < 1 << 24
        await hang_up(writer)


@pytest.mark.guards("T-08")
async def test_a_caller_who_reads_late_but_in_time_gets_all() -> None:
    async with serving(Limits(keepalive_seconds=1, write_seconds=60)) as shell:
        reader, writer = await shell.connect()
        transport = writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        writer.write(get(b"/big", CLOSE))
        await until(lambda: shell.connections and shell.connections[0].writing_paused)
        transport.resume_reading()
        assert len((await rest(reader)).partition(b"\r\n\r\n")[2]) == 1 << 24
        await hang_up(writer)


async def test_a_connection_that_is_gone_is_not_waited_for() -> None:
    async with serving() as shell:
        handler = handler_of(shell)
        handler.pause_writing()
        assert handler._stall is None


@pytest.mark.guards("T-01")
async def test_rubbish_behind_a_whole_request_does_not_spoil_it() -> None:
    async with serving() as shell:
        reader, writer = await shell.connect()
        writer.write(get(b"/wait"))
        await shell.application.entered.wait()
        writer.write(b"rubbish\r\n\r\n")
        await until(lambda: shell.connections[0]._messages)
        shell.application.go_on.set()
        reply = await rest(reader)
        assert reply.count(b"HTTP/1.1 200 ") == reply.count(b"HTTP/1.1 400 ") == 1
        await hang_up(writer)


def accepted(shell: Shell) -> socket.socket:
    """Find the other end of the only connection."""
    transport = shell.connections[0].transport
    assert transport is not None
    found = transport.get_extra_info("socket")._sock
    assert isinstance(found, socket.socket)
    return found


# --- ends ---------------------------------------------------------------------------------


async def test_a_request_under_way_ends_though_the_listener_does() -> None:
    async with serving(Limits(keepalive_seconds=60, shutdown_seconds=5)) as shell:
        reader, writer = await shell.connect()
        writer.write(get(b"/wait"))
        await shell.application.entered.wait()
        shell.listener.stop_accepting()
        with pytest.raises(OSError, match="Connect call failed"):
            await shell.connect()
        closing = asyncio.ensure_future(shell.listener.close())
        await asyncio.sleep(0)
        shell.application.go_on.set()
        assert status(await rest(reader)) == 200
        await closing
        await hang_up(writer)


async def test_an_answer_that_has_begun_is_cut_and_not_followed_by_another() -> None:
    async with serving() as shell:
        reply = await shell.exchange(get(b"/fail-late"))
        assert reply.count(b"HTTP/1.1") == 1
        assert CANARY.encode() not in reply + shell.stream.getvalue()
        (event,) = shell.events()
        assert (event["error"], event["code"]) == ("builtins.ValueError", "internal_error")


@pytest.mark.guards("T-07")
@pytest.mark.guards("T-32")
async def test_an_answer_that_cannot_be_written_is_told_by_its_type_alone() -> None:
    async with serving() as shell:
        shell.noisy = True
        assert await shell.exchange(get(b"/unwritable")) == b""
        assert CANARY.encode() not in shell.stream.getvalue()
        told = [line for line in shell.lines() if line["event"] == "connection_error"]
        assert [line["error"] for line in told] == ["builtins.ValueError"]


async def test_a_request_that_outlives_the_end_is_canceled_and_told() -> None:
    async with serving(Limits(keepalive_seconds=60, shutdown_seconds=0.1)) as shell:
        _, writer = await shell.connect()
        writer.write(get(b"/wait"))
        await shell.application.entered.wait()
        await shell.listener.close()
        (event,) = shell.events()
        assert (event["status"], event["code"]) == (499, "canceled")
        await hang_up(writer)


async def test_a_start_that_fails_leaves_no_socket_behind() -> None:
    async def broken(_app: web.Application) -> None:
        raise RuntimeError

    async with serving() as shell:
        app = web.Application()
        app.on_startup.append(broken)
        with listen(("127.0.0.1", 0)) as probe:
            address = probe.getsockname()
        with pytest.raises(RuntimeError):
            await start_listener(app, None, address, net=shell.net, limits=Limits())
        listen(address).close()


@pytest.mark.guards("T-10")
async def test_a_body_read_by_aiohttp_is_refused_at_the_second_byte() -> None:
    async with serving() as shell:
        assert status(await shell.exchange(post(b"{}", CLOSE, path=b"/read"))) == 413


# --- settings -----------------------------------------------------------------------------


async def test_a_live_connection_has_the_settings() -> None:
    limits = Limits(keepalive_seconds=7.5)
    async with serving(limits) as shell:
        _, writer = await shell.connect()
        writer.write(get(b"/wait"))
        await shell.application.entered.wait()
        server = shell.listener._runner.server
        assert server is not None
        (connection,) = server.connections
        assert type(connection) is SafeHandler
        assert connection.max_line_size == connection.max_field_size == 4096
        assert connection.max_headers == 64
        assert connection.keepalive_timeout == 7.5
        assert connection._lingering_time == 2.0
        assert connection.access_logger is None
        assert not connection.debug
        assert not server.handler_cancellation
        shell.application.go_on.set()
        await hang_up(writer)


def handler_of(shell: Shell, seat: Seat | None = None, limits: Limits | None = None) -> SafeHandler:
    server = shell.listener._runner.server
    assert server is not None
    seat = seat or Seats(1, None).take("")
    loop = asyncio.get_running_loop()
    return SafeHandler(server, shell.net, limits or Limits(), seat, loop=loop)


@pytest.mark.parametrize("name", ["field_bytes_max", "line_bytes_max", "headers_max"])
async def test_a_setting_that_did_not_arrive_stops_the_start(name: str) -> None:
    async with serving() as shell:

        def make(seat: Seat) -> SafeHandler:
            return handler_of(shell, seat, replace(Limits(), **{name: 8190}))

        verify(lambda seat: handler_of(shell, seat), Limits())
        with pytest.raises(StartRefused):
            verify(make, Limits())


@pytest.mark.guards("T-09")
async def test_a_parser_that_inflates_stops_the_start() -> None:
    async with serving() as shell:

        def make(seat: Seat) -> SafeHandler:
            handler = handler_of(shell, seat)
            handler._parser = HttpRequestParser(
                handler, handler._loop, 65536, max_line_size=4096, auto_decompress=True
            )
            return handler

        with pytest.raises(StartRefused):
            verify(make, Limits())


@pytest.mark.guards("T-13")
async def test_a_route_names_its_methods() -> None:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response()

    for add in ("any", "head"):
        app = web.Application()
        if add == "any":
            app.router.add_route("*", "/v1/tokens", handler)
        else:
            app.router.add_get("/v1/tokens", handler)
        with pytest.raises(StartRefused, match="/v1/tokens"):
            refuse_loose_routes(app, ("/out/",))
        assert app.router.routes()
    app = web.Application()
    app.router.add_route("*", "/out/{route}/{path:.*}", handler)
    refuse_loose_routes(app, ("/out/",))
    with pytest.raises(StartRefused):
        refuse_loose_routes(app, ())
