"""Small calls to other servers: verified, once, and every failure without its words."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.addresses import NOTHING_PRIVATE, AddressAllow, HostRefused
from gateway.exchange import Failure, Phase
from gateway.https_client import Fetched, HttpsClient, HttpsUrl, Unreachable, Unwatched, UrlRefused
from gateway.metrics import Metrics
from tests.gateway.raw_servers import (
    CANARY,
    LOOPBACK,
    OK,
    Certificates,
    Script,
    Server,
    at,
    context_of,
    drip,
    once,
    repeating,
    reply,
    say_nothing,
    serving,
)
from tests.gateway.tls_authority import self_signed
from vault.errors import StartRefused


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@dataclass
class Watch(Unwatched):
    """Remembers failures."""

    failures: list[tuple[str, Failure]] = field(default_factory=list)

    def upstream_failed(self, route: str, phase: Phase, code: Failure) -> None:
        self.failures.append((route, code))


@asynccontextmanager
async def client_of(
    server: Server,
    certificates: Certificates,
    *,
    path: str = "",
    allow: AddressAllow = LOOPBACK,
    watch: Watch | None = None,
) -> AsyncIterator[HttpsClient]:
    client = HttpsClient(
        f"https://processor.test:{server.port}{path}",
        watch or Watch(),
        name="witness",
        ca_file=certificates.ca_file,
        address_allow=allow,
        headers=[("Authorization", "Bearer x")],
        timeout_seconds=1.0,
        reply_bytes_max=100,
        lookup=at("127.0.0.1"),
    )
    try:
        yield client
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("text", "host", "port", "path"),
    [
        ("https://ledger.example", "ledger.example", 443, ""),
        ("https://ledger.example/", "ledger.example", 443, ""),
        ("https://Ledger.Example:8443/a/b/", "ledger.example", 8443, "/a/b"),
        ("https://127.0.0.1:1/x", "127.0.0.1", 1, "/x"),
        ("https://localhost:1", "localhost", 1, ""),
    ],
)
def test_an_address_is_read(text: str, host: str, port: int, path: str) -> None:
    assert HttpsUrl.parse(text, LOOPBACK) == (host, port, path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ledger.example",
        "http://ledger.example",
        "HTTPS://ledger.example",
        "https://",
        "https:///path",
        "https://ledger.example:0",
        "https://ledger.example:99999",
        "https://user@ledger.example",
        "https://user:secret@ledger.example",
        "https://ledger.example?q",
        "https://ledger.example/a?q",
        "https://ledger.example/a#f",
        "https://ledger.example/a b",
        "https://ledger.example/\r\nX: y",
        "https://ledger.example\\@other.example",
        "https://10.0.0.1",
        "https://2130706433",
        "https://0x7f.1",
    ],
)
def test_what_is_no_plain_https_address_is_refused(text: str) -> None:
    with pytest.raises(UrlRefused) as refused:
        HttpsUrl.parse(text, LOOPBACK)
    assert isinstance(refused.value, HostRefused)
    assert refused.value.__context__ is None
    assert "secret" not in str(refused.value)


def test_a_private_address_is_refused_unless_it_is_listed() -> None:
    for text in ("https://127.0.0.1", "https://localhost"):
        HttpsUrl.parse(text, LOOPBACK)
        with pytest.raises(UrlRefused):
            HttpsUrl.parse(text, NOTHING_PRIVATE)


async def test_what_is_sent_and_what_comes_back(certificates: Certificates) -> None:
    answer = reply(b"body", "Content-Type: text/plain", status="409 Conflict")
    async with (
        serving(repeating(answer), certificates.server) as server,
        client_of(server, certificates, path="/w/") as client,
    ):
        assert await client.get("/a/checkpoint") == Fetched(409, "text/plain", b"body")
        assert (await client.post("/add-checkpoint", b"old 0\n")).status == 409
        await client.post("/add-checkpoint", b"{}", "application/json")
    get, post, other = [request.decode().split("\r\n") for request in server.requests]
    assert get[0] == "GET /w/a/checkpoint HTTP/1.1"
    assert "Authorization: Bearer x" in get
    assert not any(line.startswith("Content-Type") for line in get)
    assert post[0] == "POST /w/add-checkpoint HTTP/1.1"
    assert {"Authorization: Bearer x", "Content-Type: text/plain; charset=utf-8"} <= {*post}
    assert post[-1] == "old 0\n"
    assert "Content-Type: application/json" in other


async def test_two_types_of_one_body_are_none(certificates: Certificates) -> None:
    answer = reply(b"ok", "Content-Type: text/plain", "Content-Type: text/x.tlog.size")
    async with (
        serving(repeating(answer), certificates.server) as server,
        client_of(server, certificates) as client,
    ):
        assert (await client.get("/")).content_type == ""


ENDS: dict[str, tuple[Script, Failure]] = {
    "redirect": (
        once(reply(b"", "Location: https://other.test/", status="302 Found")),
        Failure.REDIRECT,
    ),
    "large": (once(reply(bytes(101))), Failure.TOO_LARGE),
    "drip": (drip, Failure.TOO_LARGE),
    "endless": (once(b"HTTP/1.1 200 OK\r\n\r\nno end is told"), Failure.PROTOCOL_ERROR),
    "garbage": (once(b"garbage \x00\xff\r\n\r\n"), Failure.PROTOCOL_ERROR),
    "gone": (once(), Failure.RESET),
    "silent": (say_nothing, Failure.TIMEOUT),
}


@pytest.mark.guards("T-45")
@pytest.mark.parametrize(("script", "failure"), ENDS.values(), ids=ENDS)
async def test_no_definite_answer_is_one_error(
    certificates: Certificates, script: Script, failure: Failure
) -> None:
    watch = Watch()
    async with (
        serving(script, certificates.server) as server,
        client_of(server, certificates, watch=watch) as client,
    ):
        with pytest.raises(Unreachable) as refused:
            async with asyncio.timeout(4):
                await client.post("/add-checkpoint", CANARY)
    assert (refused.value.failure, refused.value.maybe_sent) == (failure, True)
    assert refused.value.__context__ is None
    assert watch.failures == [("witness", failure)]
    assert len(server.requests) <= 1
    assert server.connections == 1


async def test_a_server_that_cannot_prove_itself_gets_nothing(certificates: Certificates) -> None:
    async with (
        serving(repeating(OK), context_of(self_signed())) as server,
        client_of(server, certificates) as client,
    ):
        with pytest.raises(Unreachable) as refused:
            await client.post("/", CANARY)
    assert (refused.value.failure, refused.value.maybe_sent) == (Failure.TLS_ERROR, False)
    assert server.received == b""


@pytest.mark.guards("T-44")
async def test_a_name_that_leads_inside_is_not_called(certificates: Certificates) -> None:
    async with (
        serving(repeating(OK), certificates.server) as server,
        client_of(server, certificates, allow=NOTHING_PRIVATE) as client,
    ):
        with pytest.raises(Unreachable) as refused:
            await client.get("/")
    assert refused.value.failure is Failure.EGRESS_DENIED
    assert server.connections == 0


async def test_nobody_there_is_unreachable(certificates: Certificates) -> None:
    async with serving(repeating(OK), certificates.server) as server:
        pass
    async with client_of(server, certificates) as client:
        with pytest.raises(Unreachable) as refused:
            await client.get("/")
    assert (refused.value.failure, refused.value.maybe_sent) == (Failure.UNREACHABLE, False)


async def test_what_would_read_as_two_requests_is_not_sent(certificates: Certificates) -> None:
    async with (
        serving(repeating(OK), certificates.server) as server,
        client_of(server, certificates) as client,
    ):
        for path in ("/a b", "/a\r\nX: y", "/a?q"):
            with pytest.raises(Unreachable):
                await client.get(path)
    assert server.connections == 0


async def test_cancellation_goes_through(certificates: Certificates) -> None:
    async with (
        serving(say_nothing, certificates.server) as server,
        client_of(server, certificates) as client,
    ):
        asking = asyncio.create_task(client.get("/"))
        await server.arrived.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_a_file_that_holds_no_authority_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(StartRefused):
        HttpsClient(
            "https://ledger.example", Metrics(), name="witness", ca_file=tmp_path / "ca.pem"
        )
