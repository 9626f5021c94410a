"""One send: what arrives, what comes back, and which side of the line it ended on."""

import asyncio
import gzip
import logging
from collections.abc import Iterator

import pytest

from gateway import dialing
from gateway.exchange import Failure, NotSent, Phase, Replied
from tests.gateway.raw_servers import (
    CANARY,
    CHUNKED,
    OK,
    Certificates,
    Observer,
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


def head_lines(request: bytes) -> list[str]:
    return request.partition(b"\r\n\r\n")[0].decode().split("\r\n")


# --- what arrives -------------------------------------------------------------------------


async def test_a_request_arrives_byte_for_byte(certificates: Certificates) -> None:
    async with (
        serving(repeating(OK), certificates.server) as server,
        upstream_to(route_to(server.port, certificates)) as upstream,
    ):
        outcome = await upstream.send(
            "POST",
            "/v1/a%2fb/../c;x=%7e",
            "q=%5B1%5D&empty=&+",
            [("Authorization", "Bearer x"), ("X-Twice", "1"), ("X-Twice", "2")],
            b"card[number]=1\r\n\r\n\x00",
        )
    assert isinstance(outcome, Replied)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.decode().split("\r\n") == [
        "POST /v1/a%2fb/../c;x=%7e?q=%5B1%5D&empty=&+ HTTP/1.1",
        f"Host: processor.test:{server.port}",
        "Authorization: Bearer x",
        "X-Twice: 1",
        "X-Twice: 2",
        "Accept-Encoding: identity",
        "Content-Length: 19",
    ]
    assert body == b"card[number]=1\r\n\r\n\x00"


@pytest.mark.guards("T-50")
async def test_what_concerns_the_callers_connection_stays_behind(
    certificates: Certificates,
) -> None:
    theirs = [
        ("Host", "other.test"),
        ("Connection", "close"),
        ("Content-Length", "1"),
        ("Transfer-Encoding", "chunked"),
        ("Accept-Encoding", "gzip"),
        ("Expect", "100-continue"),
        ("Upgrade", "h2c"),
        ("Proxy-Authorization", "Basic Zm9v"),
        ("TE", "trailers"),
    ]
    async with (
        serving(repeating(OK), certificates.server) as server,
        upstream_to(route_to(server.port, certificates)) as upstream,
    ):
        await upstream.send("POST", "/", "", theirs, b"abc")
    assert head_lines(server.requests[0])[1:] == [
        f"Host: processor.test:{server.port}",
        "Accept-Encoding: identity",
        "Content-Length: 3",
    ]


@pytest.mark.guards("T-50")
async def test_a_cookie_is_not_given_back(certificates: Certificates) -> None:
    cookie = reply(b"ok", "Set-Cookie: session=1; Path=/")
    async with (
        serving(repeating(cookie), certificates.server) as server,
        upstream_to(route_to(server.port, certificates)) as upstream,
    ):
        await post(upstream)
        await post(upstream)
    assert b"ookie" not in server.requests[1]


@pytest.mark.parametrize(
    ("method", "path", "query", "header"),
    [
        ("CONNECT", "/", "", ("A", "b")),
        ("get", "/", "", ("A", "b")),
        ("GET / HTTP/1.1\r\nX", "/", "", ("A", "b")),
        ("GET", "", "", ("A", "b")),
        ("GET", "v1", "", ("A", "b")),
        ("GET", "/a b", "", ("A", "b")),
        ("GET", "/a?b", "", ("A", "b")),
        ("GET", "/a#b", "", ("A", "b")),
        ("GET", "/\r\nX: y", "", ("A", "b")),
        ("GET", "/\u00e9", "", ("A", "b")),
        ("GET", "/\n", "", ("A", "b")),
        ("GET", "/", "a b", ("A", "b")),
        ("GET", "/", "a#b", ("A", "b")),
        ("GET", "/", "a\n", ("A", "b")),
        ("GET", "/", "", ("A", "b\r\nX: y")),
        ("GET", "/", "", ("A", "b\x00")),
        ("GET", "/", "", ("A", "b\n")),
        ("GET", "/", "", ("A", "\u00e9")),
        ("GET", "/", "", ("A:", "b")),
        ("GET", "/", "", ("A b", "b")),
        ("GET", "/", "", ("", "b")),
    ],
)
async def test_what_reads_as_two_requests_is_not_sent(
    certificates: Certificates, method: str, path: str, query: str, header: tuple[str, str]
) -> None:
    async with (
        serving(repeating(OK), certificates.server) as server,
        upstream_to(route_to(server.port, certificates)) as upstream,
    ):
        outcome = await upstream.send(method, path, query, [header], b"")
    assert outcome == NotSent(Phase.CHECK, Failure.REQUEST_INVALID)
    assert server.connections == 0


async def test_a_bytearray_may_be_wiped_afterwards(certificates: Certificates) -> None:
    body = bytearray(b"x" * 300_000)
    async with (
        serving(repeating(OK), certificates.server) as server,
        upstream_to(route_to(server.port, certificates)) as upstream,
    ):
        assert isinstance(await post(upstream, body), Replied)
        body[:] = bytes(len(body))
        body.clear()  # nothing holds a view of it
    assert server.requests[0].endswith(b"x" * 300_000)


# --- what comes back ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "answer", "status", "body"),
    [
        ("POST", OK, 200, b"ok"),
        ("POST", reply(b"", status="402 Payment Required"), 402, b""),
        ("POST", b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        ("POST", b"HTTP/1.0 500 Oops\r\nContent-Length: 3\r\n\r\n\x00\xff\n", 500, b"\x00\xff\n"),
        (
            "POST",
            CHUNKED + b"3\r\nabc\r\n1;x=y\r\nd\r\n0\r\nTrailer: x\r\n\r\n",
            200,
            b"abcd",
        ),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n", 200, b""),
        (
            "POST",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hint\r\nA: b\r\n\r\n" + OK,
            200,
            b"ok",
        ),
        ("POST", reply(b"ok", "Content-Encoding: identity"), 200, b"ok"),
        ("POST", b"HTTP/1.1 102 Processing\r\n\r\n" * 10 + OK, 200, b"ok"),
    ],
)
async def test_a_whole_reply_is_returned_as_it_came(
    certificates: Certificates, method: str, answer: bytes, status: int, body: bytes
) -> None:
    observer = Observer()
    async with (
        serving(repeating(answer), certificates.server) as server,
        upstream_to(route_to(server.port, certificates), observer) as upstream,
    ):
        outcome = await upstream.send(method, "/", "", [], b"x" if method == "POST" else b"")
    assert isinstance(outcome, Replied)
    assert (outcome.status, outcome.body) == (status, body)
    assert 0 < outcome.first_byte_ms <= outcome.ms < 5000
    assert observer.failures == []
    assert observer.phases[-3:] == [Phase.SENDING, Phase.SENT, Phase.REPLY][-3:] or (
        observer.phases[-2:] == [Phase.SENT, Phase.REPLY]
    )


@pytest.mark.guards("T-07")
async def test_headers_that_could_split_an_answer_are_dropped(certificates: Certificates) -> None:
    answer = reply(
        b"ok",
        "Connection: X-Secret, keep-alive",
        "X-Secret: 1",
        "Keep-Alive: timeout=5",
        "Upgrade: h2c",
        "Request-Id: req_1",
        "X-Odd: caf\u00e9",
        "X-Tab: a\tb",
    )
    async with (
        serving(repeating(answer), certificates.server) as server,
        upstream_to(route_to(server.port, certificates)) as upstream,
    ):
        outcome = await post(upstream)
    assert isinstance(outcome, Replied)
    assert outcome.headers == (
        ("Content-Length", "2"),
        ("Request-Id", "req_1"),
        ("X-Tab", "a\tb"),
    )


async def test_a_reply_prints_nothing_of_its_content(certificates: Certificates) -> None:
    answer = reply(CANARY, f"X-Echo: {CANARY.decode()}")
    async with (
        serving(repeating(answer), certificates.server) as server,
        upstream_to(route_to(server.port, certificates)) as upstream,
    ):
        outcome = await post(upstream)
    assert isinstance(outcome, Replied)
    assert outcome.body == CANARY
    assert CANARY.decode() not in repr(outcome)


async def test_post_uses_connections_again_and_other_methods_do_not(
    certificates: Certificates,
) -> None:
    async with (
        serving(repeating(OK), certificates.server) as server,
        upstream_to(route_to(server.port, certificates)) as upstream,
    ):
        for _ in range(3):
            assert isinstance(await post(upstream), Replied)
        assert server.connections == 1
        for method in ("GET", "PUT", "DELETE"):
            assert isinstance(await upstream.send(method, "/", "", [], b""), Replied)
        assert server.connections == 4


@pytest.mark.guards("T-47")
async def test_a_connection_idle_for_long_is_not_used_again(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialing, "KEEPALIVE_SECONDS", 0.05)
    async with (
        serving(repeating(OK), certificates.server) as server,
        upstream_to(route_to(server.port, certificates)) as upstream,
    ):
        await post(upstream)
        await asyncio.sleep(0.1)
        await post(upstream)
    assert server.connections == 2


@pytest.mark.guards("T-09")
async def test_nothing_is_inflated(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if a compressed reply were not refused for its head."""
    monkeypatch.setattr("gateway.upstream.failure_of_head", lambda *_: None)
    compressed = gzip.compress(b"x" * 10_000)
    async with (
        serving(
            repeating(reply(compressed, "Content-Encoding: gzip")), certificates.server
        ) as server,
        upstream_to(route_to(server.port, certificates)) as upstream,
    ):
        outcome = await post(upstream)
    assert isinstance(outcome, Replied)
    assert outcome.body == compressed
