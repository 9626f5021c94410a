"""Requests to a merchant's endpoint over real sockets: what arrives, comes back, and fails."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.addresses import NOTHING_PRIVATE
from gateway.dialing import Lookup
from gateway.errors import (
    ClientGone,
    Malformed,
    MerchantBusy,
    MerchantFailed,
    MerchantProtocolError,
    MerchantTimeout,
    MerchantTlsError,
    MerchantUnreachable,
)
from gateway.inbound import merchant_sessions
from gateway.inbound.merchant import Merchant, MerchantRoute
from gateway.inbound.merchant_exchange import Body
from tests.gateway.raw_servers import (
    CHUNKED,
    LOOPBACK,
    NAME,
    OK,
    Certificates,
    Connection,
    Server,
    at,
    drip,
    once,
    repeating,
    reply,
    say_nothing,
    serving,
)
from tests.gateway.tls_authority import self_signed

Answer = tuple[int, bytes]
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def silent(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever happens in these tests, nothing is logged: it could quote the request."""
    caplog.set_level(logging.INFO)
    yield
    assert [record.getMessage() for record in caplog.records] == []


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    yield
    await asyncio.sleep(0)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not {task for task in others if "aiohttp" in repr(task) or "merchant" in repr(task)}


def route_to(server: Server, certificates: Certificates | None, **changes: object) -> MerchantRoute:
    route = MerchantRoute(
        name="shop",
        scheme="https" if certificates else "http",
        host=NAME,
        port=server.port,
        timeout_seconds=2.0,
        connect_seconds=1.0,
        address_allow=LOOPBACK,
        ca_file=certificates.ca_file if certificates else None,
    )
    return replace(route, **changes)  # type: ignore[arg-type]  # its own fields, as given


@asynccontextmanager
async def merchant_at(
    route: MerchantRoute, lookup: Lookup | None = None
) -> AsyncIterator[Merchant]:
    merchant = Merchant(route, clock=time.monotonic, lookup=lookup or at("127.0.0.1"))
    try:
        yield merchant
    finally:
        await merchant.close()


async def ask(
    merchant: Merchant, method: str = "GET", body: Body = None, length: int | None = None
) -> Answer:
    async with merchant.send(
        method, "/pay", [("Host", "shop.example")], body, length=length
    ) as answer:
        return answer.status, b"".join([piece async for piece in answer.chunks()])


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        await asyncio.sleep(0)
        yield part


def head_lines(request: bytes) -> list[str]:
    return request.partition(b"\r\n\r\n")[0].decode().split("\r\n")


async def unchunked(connection: Connection) -> bytes:
    """Read a request in chunks, as it is on the wire."""
    seen = b""
    while not seen.endswith(b"0\r\n\r\n"):
        seen += await connection.some()
    return seen


# --- what arrives -------------------------------------------------------------------------


async def test_a_request_arrives_byte_for_byte(certificates: Certificates) -> None:
    headers = [
        ("Host", "shop.example"),
        ("X-Twice", "1"),
        ("X-Twice", "2"),
        ("X-Name", "Zoë"),
        ("Accept-Encoding", "identity"),
    ]
    async with (
        serving(repeating(OK), certificates.server) as server,
        merchant_at(route_to(server, certificates)) as merchant,
        merchant.send("POST", "//a%2fb/../c;x=%7e?q=%5B1%5D&+?", headers, b"a=1\r\n", length=5),
        merchant.send("GET", "/a?", headers, None, length=None),
    ):
        pass
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.decode().split("\r\n") == [
        "POST //a%2fb/../c;x=%7e?q=%5B1%5D&+? HTTP/1.1",
        "Host: shop.example",
        "X-Twice: 1",
        "X-Twice: 2",
        "X-Name: Zoë",
        "Accept-Encoding: identity",
        "Content-Length: 5",
    ]
    assert body == b"a=1\r\n"
    assert head_lines(server.requests[1])[0] == "GET /a? HTTP/1.1"


async def test_a_stream_of_a_known_length_keeps_it(certificates: Certificates) -> None:
    async with (
        serving(repeating(OK), certificates.server) as server,
        merchant_at(route_to(server, certificates)) as merchant,
    ):
        body = pieces(b"ab", b"", b"cde")
        assert await ask(merchant, "PUT", body, length=5) == (200, b"ok")
        assert await ask(merchant, "POST", b"x" * 200_000, length=200_000) == (200, b"ok")
    assert server.connections == 1
    assert "Content-Length: 5" in head_lines(server.requests[0])
    assert server.requests[0].endswith(b"\r\n\r\nabcde")
    assert "Content-Length: 200000" in head_lines(server.requests[1])
    assert server.requests[1].endswith(b"\r\n\r\n" + b"x" * 200_000)


async def test_a_stream_of_no_known_length_is_chunked(certificates: Certificates) -> None:
    seen: list[bytes] = []

    async def script(connection: Connection) -> None:
        seen.append(await unchunked(connection))
        await connection.say(OK)

    async with (
        serving(script, certificates.server) as server,
        merchant_at(route_to(server, certificates)) as merchant,
    ):
        assert await ask(merchant, "POST", pieces(b"abc", b"d")) == (200, b"ok")
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert b"Content-Length" not in head
    assert body == b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"


async def test_a_large_upload_waits_for_its_reader(certificates: Certificates) -> None:
    """Constant memory: no more is asked of the client than the endpoint takes."""
    asked = 0
    go_on = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        nonlocal asked
        for _ in range(64):
            asked += 1
            yield b"x" * MEGABYTE

    async def script(connection: Connection) -> None:
        await connection.some()
        await go_on.wait()

    async with (
        serving(script, certificates.server) as server,
        merchant_at(route_to(server, certificates, timeout_seconds=0.5)) as merchant,
    ):
        with pytest.raises(MerchantTimeout):
            await ask(merchant, "POST", endless(), length=64 * MEGABYTE)
        go_on.set()
    assert 1 <= asked < 40


@pytest.mark.guards("T-50")
async def test_a_cookie_is_not_given_back(certificates: Certificates) -> None:
    cookies = reply(b"ok", "Set-Cookie: a=1", "Set-Cookie: b=2")
    async with (
        serving(repeating(cookies), certificates.server) as server,
        merchant_at(route_to(server, certificates)) as merchant,
    ):
        async with merchant.send("GET", "/", [], None, length=None) as answer:
            told = [value for name, value in answer.headers if name == "Set-Cookie"]
        await ask(merchant)
    assert told == ["a=1", "b=2"]
    assert b"ookie" not in server.requests[1]


@pytest.mark.guards("T-46")
async def test_a_proxy_of_the_environment_is_not_used(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        serving(say_nothing, None) as sink,
        serving(repeating(OK), certificates.server) as server,
        merchant_at(route_to(server, certificates)) as merchant,
    ):
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{sink.port}")
        assert await ask(merchant) == (200, b"ok")
    assert sink.connections == 0


async def test_what_is_not_one_request_is_not_sent(certificates: Certificates) -> None:
    async with (
        serving(repeating(OK), certificates.server) as server,
        merchant_at(route_to(server, certificates)) as merchant,
    ):
        with pytest.raises(Malformed):
            async with merchant.send("GET", "/ HTTP/1.1\r\nX: y", [], None, length=None):
                pass
    assert server.connections == 0


# --- a body that fails --------------------------------------------------------------------


async def broken_off(error: Exception) -> AsyncIterator[bytes]:
    yield b"first"
    raise error


@pytest.mark.parametrize("length", [None, 100])
async def test_a_body_that_breaks_off_is_never_complete(
    certificates: Certificates, length: int | None
) -> None:
    async def script(connection: Connection) -> None:
        await connection.silence()

    gone = ClientGone()
    async with (
        serving(script, certificates.server) as server,
        merchant_at(route_to(server, certificates)) as merchant,
    ):
        with pytest.raises(ClientGone) as raised:
            await ask(merchant, "POST", broken_off(gone), length)
    assert raised.value is gone
    assert not bytes(server.received).endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("parts", [[b"abc"], [b"abcdef"], []])
async def test_a_body_of_another_length_is_a_bug(
    certificates: Certificates, parts: list[bytes]
) -> None:
    async with (
        serving(say_nothing, certificates.server) as server,
        merchant_at(route_to(server, certificates)) as merchant,
    ):
        with pytest.raises(ValueError, match="as long as it was told"):
            await ask(merchant, "POST", pieces(*parts), length=5)
    assert b"abcdef" not in server.received


async def test_a_body_that_breaks_off_behind_an_early_answer_ends_that_too(
    certificates: Certificates,
) -> None:
    begun = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        await begun.wait()
        raise ClientGone

    async def script(connection: Connection) -> None:
        await connection.some()
        await connection.say(CHUNKED, b"2\r\nok\r\n")
        await connection.silence()

    async with (
        serving(script, certificates.server) as server,
        merchant_at(route_to(server, certificates, timeout_seconds=60.0)) as merchant,
        merchant.send("POST", "/", [], body(), length=None) as answer,
        asyncio.timeout(5),
    ):
        chunks = answer.chunks()
        assert await anext(chunks) == b"ok"
        begun.set()
        with pytest.raises(ClientGone):
            await anext(chunks)


async def test_an_answer_may_come_before_the_upload_has_ended(certificates: Certificates) -> None:
    closed = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            closed.set()

    async def script(connection: Connection) -> None:
        await connection.some()
        await connection.say(reply(b"no", status="413 Content Too Large"))
        await connection.silence()

    async with (
        serving(script, certificates.server) as server,
        merchant_at(route_to(server, certificates)) as merchant,
    ):
        assert await ask(merchant, "POST", body(), length=1_000_000) == (413, b"no")
        assert closed.is_set()  # and nobody reads from the client any more
        assert await ask(merchant, "POST", b"x", length=1) == (413, b"no")
    assert server.connections == 2  # on the first, the rest of the upload was still to come


async def test_a_slow_client_does_not_use_up_the_merchants_time(certificates: Certificates) -> None:
    async def slow() -> AsyncIterator[bytes]:
        for _ in range(2):
            await asyncio.sleep(0.4)
            yield b"x"

    async with (
        serving(repeating(OK), certificates.server) as server,
        merchant_at(route_to(server, certificates, timeout_seconds=0.25)) as merchant,
    ):
        assert await ask(merchant, "POST", slow(), length=2) == (200, b"ok")


# --- what comes back ----------------------------------------------------------------------


@pytest.mark.guards("T-45")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_passed_on_and_not_followed(
    certificates: Certificates, status: int
) -> None:
    async with serving(repeating(OK), certificates.server) as sink:
        location = f"Location: https://{NAME}:{sink.port}/"
        away = reply(b"", location, status=f"{status} Elsewhere")
        async with (
            serving(repeating(away), certificates.server) as server,
            merchant_at(route_to(server, certificates)) as merchant,
        ):
            for method, body in (("GET", None), ("POST", b"card")):
                async with merchant.send(method, "/", [], body, length=None) as answer:
                    assert answer.status == status
                    assert ("Location", location.partition(" ")[2]) in answer.headers
    assert sink.connections == 0
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 1000\r\n\r\n"),
    ],
)
async def test_an_answer_without_a_body_ends_with_its_head(
    certificates: Certificates, method: str, said: bytes
) -> None:
    async with (
        serving(repeating(said), certificates.server) as server,
        merchant_at(route_to(server, certificates)) as merchant,
    ):
        for _ in range(2):
            status = int(said.split()[1])
            assert await ask(merchant, method) == (status, b"")
    assert server.connections == 1


async def test_a_part_is_passed_on_as_it_is(certificates: Certificates) -> None:
    part = reply(b"2345", "Content-Range: bytes 2-5/10", status="206 Partial Content")
    headers = [("Range", "bytes=2-5"), ("If-Range", '"x"')]
    async with (
        serving(repeating(part), certificates.server) as server,
        merchant_at(route_to(server, certificates)) as merchant,
        merchant.send("GET", "/", headers, None, length=None) as answer,
    ):
        assert answer.status == 206
        assert ("Content-Range", "bytes 2-5/10") in answer.headers
        assert answer.length == 4
        assert "Range: bytes=2-5" in head_lines(server.requests[0])


async def test_trailers_stay_out_of_the_headers(certificates: Certificates) -> None:
    said = CHUNKED.replace(b"\r\n\r\n", b"\r\nTrailer: X-Sum\r\n\r\n")
    said += b"2\r\nok\r\n0\r\nX-Sum: 1\r\nSet-Cookie: a=1\r\n\r\n"
    async with (
        serving(repeating(said), certificates.server) as server,
        merchant_at(route_to(server, certificates)) as merchant,
        merchant.send("GET", "/", [], None, length=None) as answer,
    ):
        assert b"".join([piece async for piece in answer.chunks()]) == b"ok"
        assert answer.headers == ()


@pytest.mark.guards("T-09")
async def test_what_is_compressed_stays_so_and_is_told(certificates: Certificates) -> None:
    said = reply(b"\x1f\x8bxx", "Content-Encoding: gzip")
    async with (
        serving(repeating(said), certificates.server) as server,
        merchant_at(route_to(server, certificates)) as merchant,
        merchant.send("GET", "/", [], None, length=None) as answer,
    ):
        assert answer.encoding == "gzip"
        assert [piece async for piece in answer.chunks()] == [b"\x1f\x8bxx"]


async def test_an_old_server_ends_its_answer_with_the_connection(
    certificates: Certificates,
) -> None:
    said = b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\nall of it"
    async with (
        serving(once(said), certificates.server) as server,
        merchant_at(route_to(server, certificates)) as merchant,
    ):
        for _ in range(2):
            assert await ask(merchant) == (200, b"all of it")
    assert server.connections == 2


async def test_a_large_answer_waits_for_its_reader(certificates: Certificates) -> None:
    said = 0

    async def script(connection: Connection) -> None:
        nonlocal said
        await connection.request()
        await connection.say(f"HTTP/1.1 200 OK\r\nContent-Length: {64 * MEGABYTE}\r\n\r\n".encode())
        for _ in range(64):
            await connection.say(b"x" * MEGABYTE)
            said += 1

    async with (
        serving(script, certificates.server) as server,
        merchant_at(route_to(server, certificates)) as merchant,
        merchant.send("GET", "/", [], None, length=None) as answer,
    ):
        chunks = answer.chunks()
        largest = total = len(await anext(chunks))
        await asyncio.sleep(0.2)  # as long as a reader may be slow, no more comes
        assert said < 40
        async for piece in chunks:
            largest, total = max(largest, len(piece)), total + len(piece)
    assert total == 64 * MEGABYTE
    assert largest < 2 * MEGABYTE


# --- what fails ---------------------------------------------------------------------------

HEAD_10 = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
BROKEN: dict[str, bytes] = {
    "no HTTP": b"\x00\x01\x02\r\n\r\n",
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "length and chunks": CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\n")
    + b"2\r\nok\r\n0\r\n\r\n",
    "another coding": CHUNKED.replace(b"chunked", b"gzip, chunked") + b"2\r\nok\r\n0\r\n\r\n",
    "cut off": HEAD_10 + b"12345",
    "cut off in chunks": CHUNKED + b"5\r\nok",
    "no last chunk": CHUNKED + b"2\r\nok\r\n",
    "bad chunk": CHUNKED + b"xyz\r\nok\r\n",
    "bad chunk later": CHUNKED + b"2\r\nok\r\nzz\r\n",
    "unasked upgrade": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n"
    b"Connection: upgrade\r\n\r\nhello",
    "flood of 1xx": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 11 + OK,
    "endless header": b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 200_000,
    "endless headers": b"HTTP/1.1 200 OK\r\n" + b"X-A: a\r\n" * 20_000,
    "blank lines": b"\r\n" * 1_000_000,
    "NUL in a header": b"HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/2": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
}


@pytest.mark.guards("T-49")
@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_broken_answer_is_one_error(
    certificates: Certificates, kind: str, method: str
) -> None:
    async with (
        serving(once(BROKEN[kind]), certificates.server) as server,
        merchant_at(route_to(server, certificates)) as merchant,
    ):
        with pytest.raises(MerchantProtocolError) as raised:
            await ask(merchant, method, b"card" if method == "POST" else None)
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None
    assert len(server.requests) == 1  # on a fresh connection nothing is repeated


@pytest.mark.guards("T-49")
async def test_blank_lines_without_end_are_no_answer(certificates: Certificates) -> None:
    """The parser skips them: nothing but their number tells."""

    async def script(connection: Connection) -> None:
        await connection.request()
        while True:
            await connection.say(b"\r\n" * 50_000)

    async with (
        serving(script, certificates.server) as server,
        merchant_at(route_to(server, certificates)) as merchant,
    ):
        with pytest.raises(MerchantProtocolError):
            await ask(merchant)


@pytest.mark.guards("T-49")
async def test_some_interim_answers_are_passed_over(certificates: Certificates) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with (
        serving(repeating(hints * 10 + OK), certificates.server) as server,
        merchant_at(route_to(server, certificates)) as merchant,
    ):
        for _ in range(2):
            assert await ask(merchant) == (200, b"ok")
    assert server.connections == 1


@pytest.mark.guards("T-01")
async def test_a_second_answer_is_nobodys(certificates: Certificates) -> None:
    async with (
        serving(repeating(OK + reply(b"stray")), certificates.server) as server,
        merchant_at(route_to(server, certificates)) as merchant,
    ):
        for _ in range(3):
            assert await ask(merchant, "POST", b"x", 1) == (200, b"ok")


async def silent_answer(connection: Connection) -> None:
    await connection.request()
    await connection.silence()


async def stalled_answer(connection: Connection) -> None:
    await connection.request()
    await connection.say(HEAD_10, b"12345")
    await connection.silence()


async def endless_chunk_extension(connection: Connection) -> None:
    await connection.request()
    await connection.say(CHUNKED, b"2;")
    while True:
        await connection.say(b"x")
        await asyncio.sleep(0.02)


@pytest.mark.guards("T-49")
@pytest.mark.parametrize("script", [silent_answer, stalled_answer, endless_chunk_extension])
async def test_an_answer_that_stops_is_not_waited_for(
    certificates: Certificates, script: object
) -> None:
    async with (
        serving(script, certificates.server) as server,  # type: ignore[arg-type]
        merchant_at(route_to(server, certificates, timeout_seconds=0.2)) as merchant,
    ):
        began = time.monotonic()
        with pytest.raises(MerchantTimeout) as raised:
            await ask(merchant, "POST", b"x", 1)
        assert time.monotonic() - began < 1.5
    assert raised.value.__context__ is None


async def test_an_answer_that_goes_on_is_waited_for(certificates: Certificates) -> None:
    """Longer than the limit altogether, but never for one piece: events of a server, say."""
    got = b""
    async with (
        serving(drip, certificates.server) as server,
        merchant_at(route_to(server, certificates, timeout_seconds=0.25)) as merchant,
        merchant.send("GET", "/", [], None, length=None) as answer,
    ):
        async for piece in answer.chunks():
            got += piece
            if len(got) == 8:
                break
    assert got == b"x" * 8


async def test_nobody_there(certificates: Certificates) -> None:
    async with serving(repeating(OK), certificates.server) as server:
        pass
    async with merchant_at(route_to(server, certificates)) as merchant:
        with pytest.raises(MerchantUnreachable) as raised:
            await ask(merchant, "POST", b"x", 1)
    assert raised.value.__context__ is None


@pytest.mark.guards("T-44")
@pytest.mark.parametrize("address", ["127.0.0.2", "169.254.169.254", "10.0.0.1"])
async def test_a_forbidden_address_is_not_dialed(certificates: Certificates, address: str) -> None:
    async with (
        serving(repeating(OK), certificates.server, host="127.0.0.2") as server,
        merchant_at(route_to(server, certificates), at("127.0.0.1", address)) as merchant,
    ):
        with pytest.raises(MerchantUnreachable):
            await ask(merchant)
    assert server.connections == 0


@pytest.mark.guards("T-44")
async def test_without_tls_only_a_listed_address_is_dialed() -> None:
    async with serving(repeating(OK), None) as server:
        async with merchant_at(route_to(server, None)) as merchant:
            assert await ask(merchant, "POST", b"x", 1) == (200, b"ok")
        for route in (
            route_to(server, None, address_allow=NOTHING_PRIVATE, host="93.184.215.14"),
            route_to(server, None, address_allow=LOOPBACK, host="93.184.215.14"),
            route_to(server, None),
        ):
            async with merchant_at(route, at("127.0.0.1", "93.184.215.14")) as merchant:
                with pytest.raises(MerchantUnreachable):
                    await ask(merchant)
    assert server.connections == 1


@pytest.mark.guards("T-48")
async def test_a_certificate_of_nobody_gets_no_request(
    certificates: Certificates, tmp_path: Path
) -> None:
    strangers = Certificates(tmp_path)
    wrong_name = certificates.ca.issue_cert("other.test")
    contexts = [strangers.server]
    for leaf in (wrong_name, self_signed()):
        context = type(strangers.server)(strangers.server.protocol)
        leaf.configure_cert(context)
        contexts.append(context)
    for context in contexts:
        async with (
            serving(repeating(OK), context) as server,
            merchant_at(route_to(server, certificates)) as merchant,
        ):
            with pytest.raises(MerchantTlsError) as raised:
                await ask(merchant, "POST", b"card", 4)
        assert raised.value.__context__ is None
        assert not server.received


async def test_plain_http_at_a_tls_endpoint_is_no_answer(certificates: Certificates) -> None:
    async with (
        serving(once(OK), None) as server,
        merchant_at(route_to(server, certificates, connect_seconds=0.2)) as merchant,
    ):
        with pytest.raises(MerchantFailed):
            await ask(merchant, "POST", b"card", 4)
    assert b"card" not in server.received


# --- connections --------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
async def test_a_connection_is_used_again(certificates: Certificates, method: str) -> None:
    async with (
        serving(repeating(OK), certificates.server) as server,
        merchant_at(route_to(server, certificates)) as merchant,
    ):
        for _ in range(5):
            assert await ask(merchant, method, None) == (200, b"ok")
    assert (server.connections, len(server.requests)) == (1, 5)


def closing_second() -> tuple[list[int], object]:
    """Answer a connection's first request, and hang up on its second when that is here."""
    kept: list[int] = []

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await connection.request()
        kept.append(1)

    return kept, script


@pytest.mark.guards("T-47")
@pytest.mark.parametrize(
    ("method", "body", "arrivals"),
    [
        ("GET", None, 3),
        ("HEAD", None, 3),
        ("GET", b"x", 2),
        ("POST", b"x", 2),
        ("POST", None, 2),
        ("PUT", b"x", 2),
        ("DELETE", None, 2),
        ("OPTIONS", None, 2),
    ],
)
async def test_only_what_is_safe_is_sent_again(
    certificates: Certificates, method: str, body: bytes | None, arrivals: int
) -> None:
    hung_up, script = closing_second()
    async with (
        serving(script, certificates.server) as server,  # type: ignore[arg-type]
        merchant_at(route_to(server, certificates)) as merchant,
    ):
        await ask(merchant, "POST", b"first", 5)
        if arrivals == 3:
            assert (await ask(merchant, method, body))[0] == 200
        else:
            with pytest.raises(MerchantProtocolError):
                await ask(merchant, method, body)
    assert hung_up == [1]
    assert len(server.requests) == arrivals


@pytest.mark.guards("T-47")
async def test_a_timeout_is_no_reason_to_send_again(certificates: Certificates) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.say(OK)
        await connection.request()
        await connection.silence()

    async with (
        serving(script, certificates.server) as server,
        merchant_at(route_to(server, certificates, timeout_seconds=0.2)) as merchant,
    ):
        await ask(merchant)
        with pytest.raises(MerchantTimeout):
            await ask(merchant)
    assert len(server.requests) == 2


async def test_an_idle_connection_is_given_up(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merchant_sessions, "KEEPALIVE_SECONDS", 0.05)
    async with (
        serving(repeating(OK), certificates.server) as server,
        merchant_at(route_to(server, certificates)) as merchant,
    ):
        await ask(merchant)
        await asyncio.sleep(0.1)
        await ask(merchant)
    assert server.connections == 2


async def test_a_full_route_is_busy_and_then_free_again(certificates: Certificates) -> None:
    async with (
        serving(repeating(OK), certificates.server) as server,
        merchant_at(route_to(server, certificates, concurrency=1, connect_seconds=0.1)) as merchant,
    ):
        async with merchant.send("GET", "/", [], None, length=None):
            with pytest.raises(MerchantBusy) as raised:
                await ask(merchant)
        assert await ask(merchant) == (200, b"ok")
    assert raised.value.__context__ is None


async def test_who_waits_gets_the_place_that_comes_free(certificates: Certificates) -> None:
    async with (
        serving(repeating(OK), certificates.server) as server,
        merchant_at(route_to(server, certificates, concurrency=2)) as merchant,
    ):
        answers = await asyncio.gather(*(ask(merchant, "POST", b"x", 1) for _ in range(20)))
    assert answers == [(200, b"ok")] * 20
    assert server.connections <= 2


@pytest.mark.guards("T-08")
async def test_slow_senders_leave_places_to_others(certificates: Certificates) -> None:
    route = {"concurrency": 4, "connect_seconds": 0.1}
    async with (
        serving(repeating(OK), certificates.server) as server,
        merchant_at(route_to(server, certificates, **route)) as merchant,
    ):
        slow = [asyncio.ensure_future(ask(merchant, "POST", endless_wait())) for _ in range(6)]
        await asyncio.wait(slow, return_when=asyncio.FIRST_COMPLETED)
        assert await ask(merchant) == (200, b"ok")
        assert await ask(merchant, "POST", b"x", 1) == (200, b"ok")
        with pytest.raises(MerchantBusy):
            await ask(merchant, "POST", endless_wait())
        for each in slow:
            each.cancel()
        await asyncio.wait(slow)
        assert await ask(merchant, "POST", in_pieces(b"x")) == (200, b"ok")


async def test_places_come_back_whatever_happens(certificates: Certificates) -> None:
    async with (
        serving(once(b"junk\r\n\r\n"), certificates.server) as server,
        merchant_at(route_to(server, certificates, concurrency=1)) as merchant,
    ):
        for _ in range(3):
            with pytest.raises(MerchantProtocolError):
                await ask(merchant)
            with pytest.raises(ZeroDivisionError):
                await ask(merchant, "POST", broken_off(ZeroDivisionError()))
            asking = asyncio.ensure_future(ask(merchant, "POST", endless_wait()))
            await asyncio.sleep(0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking


async def in_pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for each in pieces:
        yield each


async def endless_wait() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


async def test_an_answer_that_is_left_unread_closes_its_connection(
    certificates: Certificates,
) -> None:
    async with (
        serving(repeating(HEAD_10, b"12345"), certificates.server) as server,
        merchant_at(route_to(server, certificates)) as merchant,
    ):
        for _ in range(2):
            async with merchant.send("GET", "/", [], None, length=None) as answer:
                assert answer.length == 10
    assert server.connections == 2
