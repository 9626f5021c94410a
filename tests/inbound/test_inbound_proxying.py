"""A request goes on, and an answer comes back, as HTTP has it: heads, hosts, framing, answers.

The application behind reads what arrives by hand, so what it says is what was on the wire.
"""

import asyncio
import json
import re
import ssl

import aiohttp
import pytest

from tests.cards import AMEX, MASTERCARD, VISA
from tests.flows.merchant import FORM, JSON
from tests.inbound.client import Shopper
from tests.inbound.framing import exchange, hang_up
from tests.inbound.merchant_app import Seen
from tests.inbound.stage import BODY_BYTES_MAX, POSTS

pytestmark = pytest.mark.embedded

NO_PROXY = "127.0.0.2"
"""Loopback too, but no reverse proxy that is trusted."""
CLAIMED = "192.0.2.77"
CLAIMS = (
    f"X-Forwarded-For: {CLAIMED}",
    f"Forwarded: for={CLAIMED};proto=http",
    f"X-Real-IP: {CLAIMED}",
    f"CF-Connecting-IP: {CLAIMED}",
    "X-Forwarded-Proto: http",
    f"X-Forwarded-Host: {CLAIMED}",
    f"X-Forwarded-Prefix: /{CLAIMED}",
    f"X-Original-URL: /{CLAIMED}",
)


def status_of(received: bytes) -> int:
    found = re.match(rb"HTTP/1\.1 ([0-9]{3}) ", received)
    assert found is not None, received[:200]
    return int(found[1])


def head_of(received: bytes) -> list[tuple[str, str]]:
    lines = received.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    return [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]


def body_of(received: bytes) -> bytes:
    return received.partition(b"\r\n\r\n")[2]


def answering(shopper: Shopper, path: str, *lines: str, body: bytes = b"") -> str:
    """Let the application answer a path with these lines, and this body."""
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"
    shopper.stage.merchant.answers[path] = head + body
    return path


def the_one(shopper: Shopper) -> Seen:
    (seen,) = shopper.stage.merchant.requests
    return seen


# --- heads on their way in ----------------------------------------------------------------


@pytest.mark.guards("T-01")
async def test_what_belongs_to_one_connection_goes_no_further(shopper: Shopper) -> None:
    received = await shopper.raw(
        "GET /seen?a=1&&b",
        "Connection: X-Dropped, x-also-dropped",
        *("X-Dropped: 1", "X-Also-Dropped: 2", "Keep-Alive: timeout=5", "Proxy-Connection: close"),
        *("TE: trailers", "Trailer: X-Sum", "Proxy-Authorization: Basic eDp5", "HTTP2-Settings: x"),
        *("Accept-Encoding: gzip, br", "X-Kept: a", "x-kept: b", "Cookie: c=1", "Via: 1.1 other"),
    )
    assert status_of(received) == 200
    seen = the_one(shopper)
    assert seen.target == "/seen?a=1&&b"
    names = {name.lower() for name, _ in seen.headers}
    ours = {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "forwarded"}
    told = {"host", "via", "accept-encoding", "panward-request-id", "x-kept", "cookie"}
    assert names == ours | told
    assert seen.all("X-Kept") == ["a", "b"]
    assert seen.all("Accept-Encoding") == ["identity"]
    assert seen.header("Via") == "1.1 other, 1.1 panward"
    assert seen.header("Panward-Request-Id") == dict(head_of(received))["panward-request-id"]


@pytest.mark.guards("T-06")
async def test_what_a_caller_says_of_itself_is_not_believed(shopper: Shopper) -> None:
    await shopper.raw("GET /x", *CLAIMS, source=NO_PROXY)
    seen = the_one(shopper)
    assert CLAIMED not in json.dumps(seen.headers)
    name = shopper.stage.hostname
    assert seen.header("X-Forwarded-For") == seen.header("X-Real-IP") == NO_PROXY
    assert seen.header("X-Forwarded-Proto") == "https"
    assert seen.header("X-Forwarded-Host") == name
    assert seen.header("Forwarded") == f'for={NO_PROXY};host="{name}";proto=https'


@pytest.mark.guards("T-06")
async def test_what_a_trusted_proxy_says_is_added_to(shopper: Shopper) -> None:
    await shopper.raw("GET /x", *CLAIMS)
    seen = the_one(shopper)
    assert seen.header("X-Forwarded-For") == f"{CLAIMED}, 127.0.0.1"
    assert seen.header("X-Real-IP") == CLAIMED
    assert seen.header("X-Forwarded-Proto") == "http"
    forwarded = seen.header("Forwarded") or ""
    assert forwarded.startswith(f"for={CLAIMED};proto=http, for=127.0.0.1;")


async def test_the_endpoint_hears_the_name_that_its_route_says(shopper: Shopper) -> None:
    stage = shopper.stage
    for path, host in (("/x", stage.hostname), ("/own/x", f"127.0.0.1:{stage.merchant.port}")):
        stage.merchant.forget()
        await shopper.raw(f"GET {path}")
        assert the_one(shopper).all("Host") == [host]


async def test_only_we_say_what_panward_says(shopper: Shopper) -> None:
    forged = ("Panward-Cards: 9", "panward-request-id: req_x", "Panward-Anything: 1")
    await shopper.raw("GET /x", *forged)
    names = [name.lower() for name, _ in the_one(shopper).headers]
    assert [name for name in names if name.startswith("panward-")] == ["panward-request-id"]
    assert the_one(shopper).header("Panward-Request-Id") != "req_x"
    seen = await shopper.arrives("/tokenize/x", b"a=1", FORM, {"X-Note": f"{VISA} {AMEX}"})
    assert seen.all("Panward-Cards") == ["2"]


async def test_a_host_that_has_no_route_is_refused(shopper: Shopper) -> None:
    for host in ("evil.test", "127.0.0.1", f"{POSTS}.evil.test", f"{POSTS}:x"):
        assert status_of(await shopper.raw("GET /x", f"Host: {host}")) == 400
    assert not shopper.stage.merchant.requests


async def test_a_method_that_no_route_has_is_refused(shopper: Shopper) -> None:
    received = await shopper.raw("GET /x", f"Host: {POSTS}")
    assert status_of(received) == 405
    assert dict(head_of(received))["allow"] == "POST"
    for method in ("TRACE", "CONNECT"):
        assert status_of(await shopper.raw(f"{method} /x")) in {400, 405}
    assert not shopper.stage.merchant.requests
    lines = (f"Host: {POSTS}", "Content-Length: 2", "Content-Type: text/plain")
    assert status_of(await shopper.raw("POST /x", *lines, body=b"ok")) == 200


async def test_each_name_has_its_certificate(shopper: Shopper) -> None:
    for name, others in ((POSTS, False), (shopper.stage.hostname, True)):
        _, writer = await shopper.way(hostname=name).connect()
        tls = writer.get_extra_info("ssl_object")
        assert isinstance(tls, ssl.SSLObject)
        shown = str(tls.getpeercert())
        assert (f"'{name}'" in shown, "'flask.test'" in shown) == (True, others)
        await hang_up(writer)


# --- bodies on their way in ---------------------------------------------------------------


UNWANTED: tuple[tuple[int, tuple[str, ...]], ...] = (
    (413, ("POST /form/x", f"Content-Type: {FORM}", f"Content-Length: {BODY_BYTES_MAX + 1}")),
    (413, ("POST /x", "Content-Type: text/plain", f"Content-Length: {1 << 40}")),
    (415, ("POST /form/x", "Content-Type: text/plain", "Content-Length: 5")),
    (415, ("POST /x", "Content-Encoding: lzma", "Content-Length: 5")),
    (400, ("POST /x", f"Host: {POSTS}x", "Content-Length: 5")),
    (405, ("PUT /x", f"Host: {POSTS}", "Content-Length: 5")),
    (400, ("POST /a/../x", "Content-Length: 5")),
    (417, ("POST /x", "Expect: 200-ok", "Content-Length: 5")),
)
"""A refusal, and what asks for it."""


@pytest.mark.guards("T-02")
async def test_a_body_that_nobody_wants_is_not_asked_for(shopper: Shopper) -> None:
    asked = (shopper.raw(*lines, "Expect: 100-continue") for _, lines in UNWANTED)
    answers = await asyncio.gather(*asked)
    assert list(map(status_of, answers)) == [status for status, _ in UNWANTED]
    assert not shopper.stage.merchant.received


@pytest.mark.parametrize("path", ["/x", "/form/x", "/tokenize/x"])
async def test_a_trailer_is_never_a_header(shopper: Shopper, path: str) -> None:
    body = b"3\r\na=1\r\n0\r\nX-Role: admin\r\nAuthorization: Basic eDp5\r\n\r\n"
    lines = (f"Content-Type: {FORM}", "Transfer-Encoding: chunked", "Trailer: X-Role")
    assert status_of(await shopper.raw(f"POST {path}", *lines, body=body)) == 200
    seen = the_one(shopper)
    assert seen.body == b"a=1"
    names = {name.lower() for name, _ in (*seen.headers, *seen.trailers)}
    assert not names & {"x-role", "authorization", "trailer"}


async def test_an_answer_may_come_before_the_body_has(shopper: Shopper) -> None:
    """The application refuses by the head; nobody waits for the other ten megabytes."""
    reader, writer = await shopper.way().connect()
    lines = ("POST /early HTTP/1.1", f"Host: {shopper.stage.hostname}", "Content-Length: 10485760")
    writer.write("\r\n".join((*lines, "Content-Type: image/png", "", "")).encode() + b"x" * 9000)
    received = await reader.readuntil(b"\r\n\r\n")
    assert status_of(received) == 413
    assert await reader.readexactly(9) == b"too large"
    await hang_up(writer)


# --- answers ------------------------------------------------------------------------------


async def test_an_answer_is_the_merchants_alone(shopper: Shopper) -> None:
    path = answering(
        shopper,
        "/page",
        "HTTP/1.1 200 OK",
        *("Connection: close, X-Dropped", "X-Dropped: 1", "Keep-Alive: timeout=9", "Upgrade: h2c"),
        *("Trailer: X-Sum", "Proxy-Authenticate: Basic", 'Alt-Svc: h3=":443"', "Server: Shop/1"),
        *("Set-Cookie: a=1; Path=/", "Set-Cookie: b=2; HttpOnly", "Panward-Request-Id: forged"),
        *("Cache-Control: max-age=60", "Content-Type: text/html", "Transfer-Encoding: chunked"),
        body=b"4\r\npage\r\n0\r\nX-Sum: 1\r\n\r\n",
    )
    received = await shopper.raw(f"GET {path}")
    head = head_of(received)
    assert [value for name, value in head if name == "set-cookie"] == [
        "a=1; Path=/",
        "b=2; HttpOnly",
    ]
    (request_id,) = [value for name, value in head if name == "panward-request-id"]
    assert request_id == the_one(shopper).header("Panward-Request-Id")
    assert dict(head)["server"] == "Shop/1"
    assert dict(head)["cache-control"] == "max-age=60"
    kept = {"set-cookie", "cache-control", "content-type", "server", "panward-request-id"}
    assert {name for name, _ in head} == kept | {"transfer-encoding", "connection", "date"}
    assert body_of(received) == b"4\r\npage\r\n0\r\n\r\n"


async def test_an_answer_to_head_has_a_length_and_no_body(shopper: Shopper) -> None:
    received = await shopper.raw("HEAD /x")
    assert dict(head_of(received))["content-length"] == "2"
    assert body_of(received) == b""
    assert the_one(shopper).method == "HEAD"


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_a_body_ends_with_its_head(shopper: Shopper, status: int) -> None:
    path = answering(shopper, "/none", f"HTTP/1.1 {status} x", 'ETag: "1"', "X-Own: 1")
    received = await shopper.raw(f"GET {path}", 'If-None-Match: "1"')
    head = dict(head_of(received))
    assert status_of(received) == status
    assert (head["etag"], head["x-own"]) == ('"1"', "1")
    assert body_of(received) == b""
    assert not head.keys() & {"content-type", "transfer-encoding"}
    assert "content-length" not in head or status == 304
    assert the_one(shopper).header("If-None-Match") == '"1"'


async def test_a_part_of_an_answer_may_be_asked_for(shopper: Shopper) -> None:
    lines = ("HTTP/1.1 206 Partial Content", "Content-Range: bytes 0-4/9", "Content-Length: 5")
    path = answering(shopper, "/part", *lines, body=b"parts")
    received = await shopper.raw(f"GET {path}", "Range: bytes=0-4", 'If-Range: "1"')
    assert status_of(received) == 206
    assert dict(head_of(received))["content-range"] == "bytes 0-4/9"
    assert body_of(received) == b"parts"
    assert the_one(shopper).header("Range") == "bytes=0-4"


async def test_where_fields_of_answers_are_treated_nobody_asks_for_a_part(shopper: Shopper) -> None:
    await shopper.raw("GET /replies/x", "Range: bytes=0-4", 'If-Range: "1"')
    assert {name.lower() for name, _ in the_one(shopper).headers}.isdisjoint({"range", "if-range"})


async def test_a_redirect_is_passed_on(shopper: Shopper) -> None:
    port, name = shopper.stage.merchant.port, shopper.stage.hostname
    there = f"http://127.0.0.1:{port}/own/next?a=1"
    for path, given in (("/go", there), ("/own/go", f"https://{name}/own/next?a=1")):
        lines = ("HTTP/1.1 303 See Other", f"Location: {there}", "Content-Length: 0")
        reply = await shopper.send(
            "POST", answering(shopper, path, *lines), b"a=1", {"Content-Type": FORM, "Host": name}
        )
        assert (reply.status, reply.headers["Location"]) == (303, given)
    assert [seen.path for seen in shopper.stage.merchant.requests] == ["/go", "/own/go"]


BEGUN = b"a page that goes on"


@pytest.mark.parametrize("path", ["/cut", "/replies/cut"])
@pytest.mark.parametrize(
    ("framing", "body"),
    [
        ("Content-Length: 1000", BEGUN),
        ("Transfer-Encoding: chunked", b"13\r\n" + BEGUN + b"\r\n"),
        ("Transfer-Encoding: chunked", b"13\r\n" + BEGUN + b"\r\nzz\r\n"),
        ("Transfer-Encoding: chunked", b"ff\r\n" + BEGUN),
    ],
)
async def test_an_answer_that_breaks_off_does_not_look_whole(
    shopper: Shopper, path: str, framing: str, body: bytes
) -> None:
    answering(shopper, path, "HTTP/1.1 200 OK", f"Content-Type: {JSON}", framing, body=body)
    received = await shopper.raw(f"GET {path}")
    if status_of(received) == 200:
        received_body = body_of(received)
        assert not received_body.endswith(b"0\r\n\r\n")
        assert len(received_body) < 1000
        with pytest.raises(aiohttp.ClientError):
            await shopper.send("GET", path)
    else:
        assert status_of(received) == 502


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/down/x", (502, "merchant_unreachable", None, None)),
        ("/hasty/slow?seconds=3", (504, "merchant_timeout", None, None)),
    ],
)
async def test_an_endpoint_that_does_not_answer(
    shopper: Shopper, path: str, told: tuple[object, ...]
) -> None:
    for method, body in (("GET", None), ("POST", b"a=1")):
        reply = await shopper.send(method, path, body)
        assert reply.told() == told
        assert "Content-Security-Policy" in reply.headers, "an answer of our own has all of ours"


async def test_connections_to_the_endpoint_are_used_again(shopper: Shopper) -> None:
    for number in range(10):
        await shopper.send("GET", f"/x?{number}")
        await shopper.arrives("/x", b"x" * 100_000, "image/png")
        card = json.dumps({"number": MASTERCARD, "exp_month": 12, "exp_year": 2034}).encode()
        await shopper.arrives("/form/x", card, JSON)
    by_route: dict[bool, set[int]] = {True: set(), False: set()}
    for seen in shopper.stage.merchant.requests:
        by_route[seen.path.startswith("/form")].add(seen.connection)
    assert [len(each) for each in by_route.values()] == [1, 1]


async def test_requests_in_one_piece_are_answered_in_turn(shopper: Shopper) -> None:
    name = shopper.stage.hostname
    one = f"GET /seen?n=%d HTTP/1.1\r\nHost: {name}\r\n\r\n".encode()
    last = one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    received = await exchange(shopper.way(), b"".join((one % 1, one % 2, last % 3)))
    assert re.findall(rb"/seen\?n=(\d)", received) == [b"1", b"2", b"3"]
