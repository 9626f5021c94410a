"""Reading bodies: of which type, how large, how fast; and callers who leave."""

import asyncio
import gzip
import zlib

import pytest

from gateway.bodies import Pace
from gateway.connections import Limits
from tests.gateway.framing_vectors import CHUNKED, MARKER, TOKENS, chunked
from tests.gateway.raw_client import (
    BODY_BYTES_MAX,
    JSON,
    get,
    hang_up,
    headers,
    post,
    rest,
    serving,
    status,
    until,
)

CLOSE = b"Connection: close\r\n"
QUICK = Limits(keepalive_seconds=0.3, shutdown_seconds=1.0, lingering_seconds=0.05)


@pytest.mark.guards("T-09")
@pytest.mark.parametrize(
    "encoding",
    [b"gzip", b"GZIP", b"deflate", b"br", b"zstd", b"gzip, gzip", b"identity, gzip", b"x", b""],
)
async def test_a_packed_body_is_refused_unread(encoding: bytes) -> None:
    bomb = gzip.compress(bytes(1 << 22)) if b"gzip" in encoding else zlib.compress(bytes(1 << 22))
    async with serving(QUICK) as shell:
        for path in (b"/v1/tokens", b"/unread"):
            sent = post(bomb, b"Content-Encoding: " + encoding + b"\r\n", path=path)
            assert status(await shell.exchange(sent)) == 415
        assert shell.seen == []
        assert shell.count("http_protocol_errors_total", kind="encoding") == 2


async def test_a_body_that_says_it_is_not_packed_is_read() -> None:
    async with serving() as shell:
        reply = await shell.exchange(post(b"{}", CLOSE, b"Content-Encoding: identity\r\n"))
        assert status(reply) == 200


@pytest.mark.guards("T-10")
@pytest.mark.parametrize(
    ("content_type", "code"),
    [
        (b"application/json", 200),
        (b"application/json; charset=utf-8", 200),
        (b"Application/JSON ;  Charset=UTF-8", 200),
        (b'application/json; charset="utf-8"', 200),
        (b"application/json;", 200),
        (b"application/json; charset=utf-7", 415),
        (b"application/json; charset=utf-8; a=b", 415),
        (b"application/json, text/plain", 415),
        (b"application/jsonp", 415),
        (b"text/json", 415),
        (b"multipart/form-data; boundary=a", 415),
        (b"application/x-www-form-urlencoded", 415),
        (b"", 415),
    ],
)
async def test_a_body_is_of_the_declared_type(content_type: bytes, code: int) -> None:
    async with serving() as shell:
        sent = post(b"{}", CLOSE).replace(b"application/json", content_type)
        assert status(await shell.exchange(sent)) == code


@pytest.mark.guards("T-01")
async def test_two_content_types_are_refused() -> None:
    async with serving(QUICK) as shell:
        assert status(await shell.exchange(post(b"{}", JSON))) == 400


@pytest.mark.guards("F-33")
@pytest.mark.parametrize("declared", [BODY_BYTES_MAX + 1, 10 << 30])
async def test_a_body_declared_too_large_is_refused_before_it_is_read(declared: int) -> None:
    async with serving(QUICK) as shell:
        reply = await shell.exchange(TOKENS + b"Content-Length: %d\r\n\r\n{" % declared + MARKER)
        assert status(reply) == 413
        assert headers(reply)["connection"] == "close"
        assert shell.seen == []


@pytest.mark.guards("F-33")
async def test_endless_chunks_are_refused_at_the_limit() -> None:
    async with serving(QUICK) as shell:
        reader, writer = await shell.connect()
        writer.write(TOKENS + CHUNKED + b"\r\n")
        await shell.application.entered.wait()
        chunk = b"400\r\n" + bytes(0x400) + b"\r\n"
        for _ in range(BODY_BYTES_MAX // 0x400 + 1):
            writer.write(chunk)
        assert status(await rest(reader)) == 413
        await hang_up(writer)


async def test_a_body_of_exactly_the_limit_is_read() -> None:
    async with serving() as shell:
        body = b"[" + b" " * (BODY_BYTES_MAX - 2) + b"]"
        assert status(await shell.exchange(post(body, CLOSE))) == 200
        assert (
            status(await shell.exchange(TOKENS + CHUNKED + CLOSE + b"\r\n" + chunked(body))) == 200
        )
        assert [found for _, _, found in shell.seen] == [body, body]


@pytest.mark.guards("T-08")
@pytest.mark.parametrize(
    "framing", [b"Content-Length: 4000\r\n", CHUNKED], ids=["length", "chunks"]
)
@pytest.mark.parametrize("begun", [b"", b"2\r\n{}\r\n"], ids=["nothing", "some"])
async def test_a_body_that_stops_coming_is_given_up(framing: bytes, begun: bytes) -> None:
    pace = Pace(start_seconds=0.2, seconds_max=5.0)
    async with serving(QUICK, pace=pace) as shell:
        reply = await shell.exchange(TOKENS + framing + b"\r\n" + begun)
        assert status(reply) == 408
        assert headers(reply)["connection"] == "close"
        assert shell.count("http_protocol_errors_total", kind="slow") == 1


@pytest.mark.guards("T-08")
async def test_a_body_that_drips_is_given_up_by_its_rate() -> None:
    pace = Pace(start_seconds=0.2, bytes_per_second_min=1000, seconds_max=60.0)
    async with serving(QUICK, pace=pace) as shell:
        reader, writer = await shell.connect()
        writer.write(TOKENS + b"Content-Length: 4000\r\n\r\n")
        reading = asyncio.ensure_future(rest(reader))
        while not reading.done():
            writer.write(b" ")
            await asyncio.sleep(0.02)
        assert status(await reading) == 408
        await hang_up(writer)


def test_the_pace_is_a_start_then_a_rate_and_an_end() -> None:
    pace = Pace(start_seconds=3.0, bytes_per_second_min=1024, seconds_max=10.0)
    assert pace.seconds_until(0) == 3.0
    assert pace.seconds_until(2048) == 5.0
    assert pace.seconds_until(1 << 20) == 10.0


@pytest.mark.guards("F-31")
async def test_a_caller_who_leaves_in_the_middle_of_a_body_starts_nothing() -> None:
    async with serving() as shell:
        _, writer = await shell.connect()
        writer.write(TOKENS + b"Content-Length: 100\r\n\r\n{")
        await shell.application.entered.wait()
        await hang_up(writer)
        await until(shell.events)
        (event,) = shell.events()
        assert (event["status"], event["code"]) == (499, "client_closed_request")
        assert shell.seen == []


@pytest.mark.guards("F-32")
async def test_a_caller_who_leaves_after_a_whole_request_stops_nothing() -> None:
    async with serving() as shell:
        _, writer = await shell.connect()
        writer.write(get(b"/wait"))
        await shell.application.entered.wait()
        await hang_up(writer)
        shell.application.go_on.set()
        await until(shell.events)
        assert shell.seen == [("GET", "/wait", b"")]
