"""The gate, the net and the reading of bodies, over real sockets."""

import random
import uuid

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from gateway.connections import Limits
from gateway.errors import GatewayError, Malformed, NotFound
from gateway.middleware import Gate, new_request_id
from tests.gateway.framing_vectors import FRAMING
from tests.gateway.raw_client import (
    BODY_BYTES_MAX,
    CANARY,
    HOST,
    JSON,
    document,
    get,
    headers,
    post,
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
        assert event["fault"] == ("ours" if code == 500 else "client")
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


@pytest.mark.parametrize(
    ("path", "code", "fault"),
    [
        (b"/upstream", 504, "processor"),
        (b"/processor", 500, "processor"),
        (b"/shaped", 502, "processor"),
        (b"/fail", 500, "ours"),
        (b"/unknown-key", 401, "client"),
        (b"/marker", 200, None),
    ],
)
async def test_whose_fault_an_answer_is(path: bytes, code: int, fault: str | None) -> None:
    async with serving() as shell:
        reply = await shell.exchange(get(path, CLOSE))
        (event,) = shell.events()
        assert (status(reply), event.get("fault")) == (code, fault)
        assert shell.count("auth_failures_total", kind="key") == (path == b"/unknown-key")


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
