"""The gate, the net and the reading of bodies, over real sockets."""

import asyncio
import gzip
import random
import uuid
import zlib

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from gateway.connections import Limits
from gateway.errors import GatewayError, Malformed, NotFound
from gateway.middleware import Gate, Pace, new_request_id
from tests.gateway.framing_vectors import CHUNKED, FRAMING, MARKER, TOKENS, chunked
from tests.gateway.raw_client import (
    BODY_BYTES_MAX,
    CANARY,
    HOST,
    JSON,
    Shell,
    document,
    get,
    hang_up,
    headers,
    post,
    rest,
    serving,
    status,
)

CLOSE = b"Connection: close\r\n"
QUICK = Limits(keepalive_seconds=0.3, shutdown_seconds=1.0, lingering_seconds=0.05)


# --- every error ends as an answer ----------------------------------------------------------


@pytest.mark.guards("T-15")
@pytest.mark.parametrize(
    ("sent", "code", "word"),
    [
        (get(b"/nowhere", CLOSE), 404, "not_found"),
        (get(b"/unread", CLOSE), 405, "method_not_allowed"),
        (b"TRACE /v1/tokens HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", 405, "method_not_allowed"),
        (b"HEAD /marker HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", 405, "method_not_allowed"),
        (b"OPTIONS /marker HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", 405, "method_not_allowed"),
        (get(b"/fail", CLOSE), 500, "internal_error"),
        (post(b"[" * BODY_BYTES_MAX + b"]", CLOSE), 413, "body_too_large"),
        (post(b"{}", CLOSE).replace(JSON, b"Content-Type: a/b\r\n"), 415, "unsupported_media_type"),
    ],
)
async def test_an_error_is_answered_from_the_one_table(sent: bytes, code: int, word: str) -> None:
    async with serving() as shell:
        reply = await shell.exchange(sent)
        assert status(reply) == code
        assert headers(reply)["content-type"] == "application/problem+json"
        (event,) = shell.events()
        assert (event["status"], event["code"]) == (code, word)
        assert event["request_id"] == headers(reply)["panward-request-id"]
        if not sent.startswith(b"HEAD"):
            problem = document(reply)
            assert (problem["status"], problem["code"]) == (code, word)
            assert problem["request_id"] == event["request_id"]
        assert shell.seen == []


async def test_405_names_what_is_allowed() -> None:
    async with serving() as shell:
        reply = await shell.exchange(b"PUT /v1/tokens HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n")
        assert headers(reply)["allow"] == "GET, POST"


@pytest.mark.guards("T-15")
@pytest.mark.guards("T-32")
async def test_an_unforeseen_error_is_500_without_words_and_logged_by_its_type() -> None:
    async with serving() as shell:
        reply = await shell.exchange(get(b"/fail", CLOSE))
        assert document(reply) == {
            "title": "Internal error",
            "status": 500,
            "code": "internal_error",
            "retryable": False,
            "request_id": headers(reply)["panward-request-id"],
        }
        (event,) = shell.events()
        assert event["error"] == "builtins.ValueError"
        assert event["fault"] == "ours"
        assert CANARY.encode() not in reply + shell.stream.getvalue()


def malformed(draw: random.Random) -> bytes:
    """Damage a request that holds the canary in every place; most of the results are refused."""
    canary = CANARY.encode()
    body = b'{"card":{"number":"%b"},"%b":%b}' % (canary, canary, canary)
    lines = [
        b"POST /v1/tokens/%b?card=%b HTTP/1.1" % (canary, canary),
        b"Host: 127.0.0.1",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
        b"User-Agent: %b" % canary,
        b"Cookie: card=%b" % canary,
        b"X-%b: %b" % (canary, canary),
        b"Authorization: Bearer %b" % canary,
    ]
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(lines))
        line = lines[at]
        cut = draw.randrange(len(line) + 1)
        noise = bytes(draw.choices(range(256), k=draw.randint(1, 3)))
        lines[at] = draw.choice([line[:cut] + noise + line[cut:], line[:cut], canary, line + noise])
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


async def nothing_leaks(count: int) -> None:
    draw = random.Random(20260102)  # noqa: S311 - a failure must happen again
    async with serving(QUICK) as shell:
        for _ in range(count):
            reply = await shell.exchange(malformed(draw), half_close=True)
            assert CANARY.encode() not in reply
        assert CANARY.encode() not in shell.stream.getvalue()
        assert CANARY.encode() not in shell.metrics.exposition(at=0.0)
        assert len(shell.events()) > count // 2


@pytest.mark.guards("T-15")
@pytest.mark.guards("T-36")
@pytest.mark.guards("T-37")
async def test_a_card_in_a_malformed_request_is_in_no_answer_log_or_metric() -> None:
    await nothing_leaks(2000)


@pytest.mark.long
@pytest.mark.guards("T-15")
async def test_nor_in_ten_thousand_of_them() -> None:
    await nothing_leaks(10_000)


@pytest.mark.guards("T-15")
@pytest.mark.parametrize("vector", FRAMING.values(), ids=FRAMING)
async def test_a_card_near_bad_framing_is_told_nowhere(vector: bytes) -> None:
    head, _, tail = vector.partition(b"\r\n")
    canary = b"X-A: %b\r\n" % CANARY.encode()
    async with serving(QUICK) as shell:
        reply = await shell.exchange(head + b"\r\n" + canary + tail + CANARY.encode())
        assert CANARY.encode() not in reply + shell.stream.getvalue()


# --- one event a request --------------------------------------------------------------------


@pytest.mark.guards("T-36")
async def test_a_request_is_one_event_of_a_closed_list_of_fields() -> None:
    async with serving() as shell:
        canary = CANARY.encode()
        sent = get(
            b"/out/stripe/v1/charges/%b?a=%b" % (canary, canary),
            CLOSE,
            b"Referer: %b\r\nUser-Agent: %b\r\nCookie: a=%b\r\n" % (canary, canary, canary),
        )
        assert status(await shell.exchange(sent)) == 200
        (event,) = shell.events()
        assert event.pop("request_id")
        assert isinstance(event.pop("ms"), float)
        assert event == {
            "event": "request",
            "at": "2026-01-02T03:04:05.678900Z",
            "listener": "public",
            "method": "GET",
            "route": "/out/{route}/{path}",
            "status": 200,
        }


async def test_a_request_is_counted_by_its_template() -> None:
    async with serving() as shell:
        for path in (b"/out/a/b", b"/out/c/d", b"/nowhere", b"/v1/%74okens"):
            await shell.exchange(get(path, CLOSE))
        counted = {"listener": "public", "code": "200", "fault": "none"}
        route = "/out/{route}/{path}"
        assert shell.count("http_requests_total", route=route, **counted) == 2
        refused = {"listener": "public", "code": "404", "fault": "client"}
        assert shell.count("http_requests_total", route="unmatched", **refused) == 1
        assert shell.count("http_requests_total", route="refused", **refused) == 1


def test_request_ids_are_uuids() -> None:
    for sample in (bytes(16), b"\xff" * 16, bytes(range(16))):
        found = uuid.UUID(new_request_id(sample))
        assert (found.version, found.variant) == (4, uuid.RFC_4122)
    assert new_request_id(bytes(16)) != new_request_id(bytes(15) + b"\x01")


# --- paths and hosts ------------------------------------------------------------------------

GATE = Gate(frozenset({"panward.test", "[::1]"}), ("/out/",))


def outcome(method: str, path: str, host: str) -> type[GatewayError] | None:
    request = make_mocked_request(method, "/", headers={"Host": host})
    request._message = request._message._replace(path=path)  # as it came, not as a URL
    try:
        GATE.check(request)
    except GatewayError as error:
        return type(error)
    return None


@pytest.mark.guards("T-01")
@pytest.mark.parametrize(
    "headers",
    [
        {"Transfer-Encoding": "chunked", "Content-Length": "1"},
        {"Transfer-Encoding": "identity"},
        {"X_A": "1"},
        {"Upgrade": "h2c"},
        {"Connection": "Upgrade"},
    ],
    ids=["te and length", "te", "underscore", "upgrade", "connection"],
)
def test_the_gate_does_not_rely_on_the_parser(headers: dict[str, str]) -> None:
    request = make_mocked_request("POST", "/", headers={"Host": "panward.test", **headers})
    with pytest.raises(Malformed):
        GATE.check(request)


@pytest.mark.guards("T-05")
@given(st.text("/v1tokens.%;\\ \x00\n%2e%2F~éA-_", max_size=30).map(lambda text: "/" + text))
def test_our_paths_are_plain_or_not_found(path: str) -> None:
    plain = set(path.partition("?")[0]) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/_.-"
    )
    assert outcome("GET", path, "panward.test") is (None if plain else NotFound)


@pytest.mark.guards("T-05")
@pytest.mark.parametrize(
    "path",
    [
        b"/v1/%74okens",
        b"/v1%2ftokens",
        b"/v1/tokens;x=1",
        b"/v1/tokens%00",
        b"/v1\\tokens",
        b"/V1/tokens",
        b"//v1/tokens",
        b"/v1//tokens",
        b"/v1/./tokens",
        b"/v1/a/../tokens",
        b"/v1/%2e%2e/tokens",
        b"/v1/tokens/",
        b"/%6fut/stripe/v1",
        b"/v1/tokens#a",
    ],
)
async def test_another_spelling_of_a_path_is_not_that_path(path: bytes) -> None:
    async with serving(QUICK) as shell:
        assert status(await shell.exchange(get(path, CLOSE))) in {400, 404}
        assert shell.seen == []


async def test_a_proxied_path_arrives_as_it_was_written() -> None:
    async with serving() as shell:
        path = b"/out/stripe/v1/%2e%2e/a;b=c/%2F"
        assert status(await shell.exchange(get(path, CLOSE))) == 200
        assert shell.seen == [("GET", path.decode(), b"")]


@pytest.mark.guards("T-04")
@pytest.mark.parametrize(
    ("host", "welcome"),
    [
        ("panward.test", True),
        ("PANWARD.test:443", True),
        ("[::1]", True),
        ("[::1]:8443", True),
        ("", False),
        ("panward.test.", False),
        ("xpanward.test", False),
        ("panward.test.evil.example", False),
        ("panward.test:", False),
        ("panward.test:443:443", False),
        ("panward.test:٣", False),
        ("panward.test:999999", False),
        ("evil.example", False),
    ],
)
def test_host_is_one_of_the_configured(host: str, *, welcome: bool) -> None:
    assert (outcome("GET", "/v1/tokens", host) is None) == welcome


# --- bodies ---------------------------------------------------------------------------------


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
async def test_a_body_that_stops_coming_is_given_up(framing: bytes) -> None:
    pace = Pace(start_seconds=0.2, seconds_max=5.0)
    async with serving(QUICK, pace=pace) as shell:
        reply = await shell.exchange(TOKENS + framing + b"\r\n2\r\n{}\r\n")
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
        await told(shell)
        (event,) = shell.events()
        assert (event["status"], event["code"]) == (499, "client_closed_request")
        assert shell.seen == []


async def told(shell: Shell) -> None:
    while not shell.events():  # noqa: ASYNC110 - a log has no event
        await asyncio.sleep(0.01)


@pytest.mark.guards("F-32")
async def test_a_caller_who_leaves_after_a_whole_request_stops_nothing() -> None:
    async with serving() as shell:
        _, writer = await shell.connect()
        writer.write(get(b"/wait"))
        await shell.application.entered.wait()
        await hang_up(writer)
        shell.application.go_on.set()
        await told(shell)
        assert shell.seen == [("GET", "/wait", b"")]
