"""What a bad processor can do to a send: never a wrong state, a second arrival, a wrong reply."""

import asyncio
import logging
from collections.abc import Iterator

import pytest

from gateway.exchange import Failure, Phase, Replied, Unknown
from tests.gateway.raw_servers import (
    CANARY,
    CHUNKED,
    OK,
    Certificates,
    Connection,
    Observer,
    Script,
    TlsByHand,
    drip,
    once,
    post,
    repeating,
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


# --- after the line ------------------------------------------------


async def _close_unread(connection: Connection) -> None:
    """Close without a word."""


async def _close_after_request(connection: Connection) -> None:
    await connection.request()


async def _close_inside_request(connection: Connection) -> None:
    await connection.some()


async def _reset_after_request(connection: Connection) -> None:
    await connection.request()
    connection.reset()


async def _reset_at_once(connection: Connection) -> None:
    connection.reset()


async def _drip_head(connection: Connection) -> None:
    await connection.request()
    await connection.say(b"HTTP/1.1 200 OK\r\n")
    while True:
        await connection.say(b"A: b\r\n")
        await asyncio.sleep(0.05)


async def _late_bad_chunk(connection: Connection) -> None:
    await connection.request()
    await connection.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await asyncio.sleep(0.1)
    await connection.say(b"ZZ\r\nabc\r\n0\r\n\r\n")
    await connection.silence()


def endless(head: bytes, more: bytes) -> Script:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.say(head)
        while True:
            await connection.say(more)

    return script


H = b"HTTP/1.1 200 OK\r\n"
FAULTS: list[tuple[str, Script, Failure]] = [
    ("closes unread", _close_unread, Failure.RESET),
    ("closes after request", _close_after_request, Failure.RESET),
    ("closes inside request", _close_inside_request, Failure.RESET),
    ("resets after request", _reset_after_request, Failure.RESET),
    ("resets at once", _reset_at_once, Failure.RESET),
    ("half a head", once(b"HTTP/1.1 200 OK\r\nContent-Le"), Failure.RESET),
    ("half a body", once(H + b"Content-Length: 10\r\n\r\nabc"), Failure.RESET),
    ("half the chunks", once(CHUNKED + b"3\r\nabc\r\n"), Failure.RESET),
    ("says nothing", say_nothing, Failure.TIMEOUT),
    ("drips", drip, Failure.TIMEOUT),
    ("drips its head", _drip_head, Failure.TIMEOUT),
    ("declares 1 GB", repeating(H + b"Content-Length: 1073741824\r\n\r\nabc"), Failure.TOO_LARGE),
    ("one byte too much", repeating(reply(b"x" * 1001)), Failure.TOO_LARGE),
    ("endless chunks", endless(CHUNKED, b"400\r\n" + b"x" * 1024 + b"\r\n"), Failure.TOO_LARGE),
    ("gzip", repeating(reply(b"x", "Content-Encoding: gzip")), Failure.PROTOCOL_ERROR),
    ("gzip twice", repeating(reply(b"x", "Content-Encoding: identity", "content-encoding: br")),
     Failure.PROTOCOL_ERROR),
    ("no length", once(H + b"\r\nabc"), Failure.PROTOCOL_ERROR),
    ("two lengths", once(H + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
     Failure.PROTOCOL_ERROR),
    ("length and chunks", once(H + b"Content-Length: 3\r\n" + CHUNKED[len(H):] + b"0\r\n\r\n"),
     Failure.PROTOCOL_ERROR),
    ("negative length", once(H + b"Content-Length: -3\r\n\r\nabc"), Failure.PROTOCOL_ERROR),
    ("other coding", once(H + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
     Failure.PROTOCOL_ERROR),
    ("coding last", once(H + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
     Failure.PROTOCOL_ERROR),
    ("bad chunk", repeating(CHUNKED + b"ZZ\r\nabc\r\n0\r\n\r\n"), Failure.PROTOCOL_ERROR),
    ("late bad chunk", _late_bad_chunk, Failure.PROTOCOL_ERROR),
    ("huge chunk", repeating(CHUNKED + b"F" * 17 + b"\r\nabc"), Failure.PROTOCOL_ERROR),
    ("garbage", repeating(b"\x00\x01\x02\r\n\r\n"), Failure.PROTOCOL_ERROR),
    ("no HTTP", repeating(b"220 smtp.test ESMTP\r\n"), Failure.PROTOCOL_ERROR),
    ("HTTP/2.0", repeating(b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
     Failure.PROTOCOL_ERROR),
    ("status 999", repeating(reply(b"", status="999 No")), Failure.PROTOCOL_ERROR),
    ("101", repeating(b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nabc"),
     Failure.PROTOCOL_ERROR),
    ("long header", repeating(reply(b"", "A: " + "x" * 1_000_000)), Failure.PROTOCOL_ERROR),
    ("many headers", repeating(reply(b"", *["A: b"] * 10_000)), Failure.PROTOCOL_ERROR),
    ("endless headers", endless(H, b"A: b\r\n" * 1000), Failure.PROTOCOL_ERROR),
    ("CR in a header", repeating(reply(b"", "A: b\rC: d")), Failure.PROTOCOL_ERROR),
    ("NUL in a header", repeating(reply(b"", "A: b\x00")), Failure.PROTOCOL_ERROR),
    ("interim flood", endless(b"", b"HTTP/1.1 103 E\r\nA: b\r\n\r\n" * 500),
     Failure.PROTOCOL_ERROR),
    ("endless blank lines", endless(b"", b"\r\n" * 1000), Failure.PROTOCOL_ERROR),
    ("endless status line", endless(b"HTTP/1.1 200 ", b"x" * 1000), Failure.PROTOCOL_ERROR),
    ("endless header", endless(H + b"A: ", b"x" * 1000), Failure.PROTOCOL_ERROR),
    ("endless header's name", endless(H, b"x" * 1000), Failure.PROTOCOL_ERROR),
    ("endless trailers", endless(CHUNKED + b"0\r\n", b"A: b\r\n" * 1000), Failure.PROTOCOL_ERROR),
    ("endless trailer", endless(CHUNKED + b"0\r\nA: ", b"x" * 1000), Failure.PROTOCOL_ERROR),
    ("endless chunk extension", endless(CHUNKED + b"1;", b"x" * 1000), Failure.PROTOCOL_ERROR),
    ("endless chunk size", endless(CHUNKED, b"0" * 1000), Failure.PROTOCOL_ERROR),
    ("chunks of one byte", endless(CHUNKED, b"1\r\nx\r\n" * 500), Failure.TOO_LARGE),
    ("a chunk too long", repeating(CHUNKED + b"1\r\nxyz\r\n0\r\n\r\n"), Failure.PROTOCOL_ERROR),
    ("a negative chunk", repeating(CHUNKED + b"-1\r\nx\r\n0\r\n\r\n"), Failure.PROTOCOL_ERROR),
    ("bare LF in chunks", repeating(CHUNKED + b"1\nx\n0\n\n"), Failure.PROTOCOL_ERROR),
    ("a space before the colon", repeating(H + b"Content-Length : 2\r\n\r\nok"),
     Failure.PROTOCOL_ERROR),
    ("a header without a name", repeating(reply(b"ok", ": b")), Failure.PROTOCOL_ERROR),
    ("a header without a colon", repeating(reply(b"ok", "A")), Failure.PROTOCOL_ERROR),
    ("a huge length", repeating(H + b"Content-Length: " + b"9" * 30 + b"\r\n\r\nok"),
     Failure.PROTOCOL_ERROR),
    ("lengths in a list", repeating(H + b"Content-Length: 2, 2\r\n\r\nok"),
     Failure.PROTOCOL_ERROR),
    ("a status of two digits", repeating(reply(b"", status="20 OK")), Failure.PROTOCOL_ERROR),
    ("a request", repeating(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), Failure.PROTOCOL_ERROR),
    ("eleven interim replies", repeating(b"HTTP/1.1 103 E\r\n\r\n" * 11 + OK),
     Failure.PROTOCOL_ERROR),
    ("redirect 304", repeating(b"HTTP/1.1 304 Not Modified\r\n\r\n"), Failure.REDIRECT),
]  # fmt: skip


@pytest.mark.guards("T-49")
def test_the_behaviors_are_many() -> None:
    assert len({name for name, _, _ in FAULTS}) >= 40


@pytest.mark.guards("T-47")
@pytest.mark.guards("T-49")
@pytest.mark.guards("F-23")
@pytest.mark.guards("F-24")
@pytest.mark.guards("F-29")
@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize(
    ("script", "code"), [case[1:] for case in FAULTS], ids=[c[0] for c in FAULTS]
)
async def test_a_fault_after_sending_is_unknown_and_nothing_arrives_twice(
    certificates: Certificates, script: Script, code: Failure, method: str
) -> None:
    observer = Observer()
    loop = asyncio.get_running_loop()
    async with serving(script, certificates.server) as server:
        route = route_to(server.port, certificates, timeout_seconds=0.5, reply_bytes_max=1000)
        async with upstream_to(route, observer) as upstream:
            began = loop.time()
            outcome = await upstream.send(method, "/v1/charges", "", [], CANARY)
            assert loop.time() - began < 5, "the deadline of half a second did not end it"
    assert isinstance(outcome, Unknown)
    assert outcome.code is code
    assert observer.failures == [(outcome.phase, code)]
    assert server.connections == 1
    assert bytes(server.received).count(CANARY) <= 1


@pytest.mark.guards("F-24")
@pytest.mark.parametrize(
    "answer",
    [
        reply(b"0123456789", "Content-Type: text/plain"),
        CHUNKED + b"5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n",
    ],
)
async def test_a_reply_cut_anywhere_is_unknown(certificates: Certificates, answer: bytes) -> None:
    count = 0

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.say(answer[:count])

    async with (
        serving(script, certificates.server) as server,
        upstream_to(route_to(server.port, certificates)) as upstream,
    ):
        for count in range(len(answer)):
            outcome = await post(upstream)
            assert isinstance(outcome, Unknown), count
            assert outcome.code is Failure.RESET, count
        count = len(answer)
        whole = await post(upstream)
    assert isinstance(whole, Replied)
    assert whole.body == b"0123456789"


@pytest.mark.guards("F-29")
async def test_the_status_of_an_unknown_is_told_if_it_is_known(certificates: Certificates) -> None:
    async with (
        serving(repeating(reply(b"x" * 1001, status="201 Created")), certificates.server) as server,
        upstream_to(route_to(server.port, certificates, reply_bytes_max=1000)) as upstream,
    ):
        assert await post(upstream) == Unknown(Phase.REPLY, Failure.TOO_LARGE, 201)


@pytest.mark.guards("T-49")
async def test_a_gigabyte_is_not_read(certificates: Certificates) -> None:
    said = 0

    async def script(connection: Connection) -> None:
        nonlocal said
        await connection.request()
        await connection.say(CHUNKED)
        while said < 1 << 30:
            await connection.say(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            said += 65536

    async with serving(script, certificates.server) as server:
        route = route_to(server.port, certificates, reply_bytes_max=1_000_000)
        async with upstream_to(route) as upstream:
            assert await post(upstream) == Unknown(Phase.REPLY, Failure.TOO_LARGE, 200)
    assert said < 32 << 20  # what fits into buffers on the way


@pytest.mark.guards("T-49")
@pytest.mark.parametrize(
    ("head", "more"),
    [(b"", b"\r\n"), (CHUNKED + b"1;", b"x"), (CHUNKED, b"0")],
    ids=["blank lines", "a chunk's extension", "a chunk's size"],
)
async def test_what_a_parser_only_skips_is_not_read_for_ever(
    certificates: Certificates, head: bytes, more: bytes
) -> None:
    """It holds no memory, but a whole core for as long as a send may take."""
    said = 0

    async def script(connection: Connection) -> None:
        nonlocal said
        await connection.request()
        await connection.say(head)
        while True:
            await connection.say(more * 32768)
            said += len(more) * 32768

    async with serving(script, certificates.server) as server:
        route = route_to(server.port, certificates, reply_bytes_max=100_000)
        async with upstream_to(route) as upstream:
            outcome = await post(upstream)
    assert isinstance(outcome, Unknown)
    assert outcome.code is Failure.PROTOCOL_ERROR
    assert said < 16 << 20  # what fits into buffers on the way


@pytest.mark.guards("T-07")
async def test_what_a_parser_forgives_makes_no_second_line(certificates: Certificates) -> None:
    answer = b"HTTP/1.1 200 OK\nA: b\r\n c\nB: d\nContent-Length: 2\n\nok"
    async with (
        serving(repeating(answer), certificates.server) as server,
        upstream_to(route_to(server.port, certificates)) as upstream,
    ):
        outcome = await post(upstream)
    assert isinstance(outcome, Replied)
    assert outcome.body == b"ok"
    assert not any(set(name + value) & set("\r\n") for name, value in outcome.headers)


@pytest.mark.guards("T-49")
@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1", b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n"]
)
async def test_a_peer_that_will_not_let_go_is_left(
    certificates: Certificates, answer: bytes
) -> None:
    """It does not answer TLS's goodbye: then nothing but hanging up ends the connection."""
    left = asyncio.Event()

    async def script(connection: Connection) -> None:
        tls = TlsByHand(connection, certificates.server)
        try:
            await tls.shake_hands()
            await tls.read()
            await tls.say(answer)
            await connection.silence()
        finally:
            left.set()

    async with serving(script, None) as server:
        route = route_to(server.port, certificates, timeout_seconds=0.2, reply_bytes_max=1000)
        async with upstream_to(route) as upstream:
            assert isinstance(await post(upstream), Unknown)
            await asyncio.wait_for(left.wait(), 10)
