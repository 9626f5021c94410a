"""Through an egress proxy: it learns a name and a port, and nothing that it says is believed."""

import asyncio
import gc
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress

import pytest
import trustme
import uvloop

from gateway.addresses import NOTHING_PRIVATE, AddressAllow, Host
from gateway.dialing import CheckedResolver
from gateway.exchange import Failure, NotSent, Phase, Replied, Unknown
from gateway.upstream import UpstreamRoute
from gateway.upstream_proxy import HEAD_BYTES_MAX, Tunnel
from tests.gateway.raw_servers import (
    CANARY,
    NAME,
    OK,
    Certificates,
    Connection,
    Observer,
    Script,
    Server,
    at,
    context_of,
    post,
    repeating,
    route_to,
    say_nothing,
    serving,
    upstream_to,
)

PROXY = "proxy.test"
AGREED = b"HTTP/1.1 200 Connection established\r\n\r\n"
LOGIN = "panward:open sesame"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def silent(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever happens in these tests, nothing is logged: it could quote the request."""
    caplog.set_level(logging.INFO)
    yield
    assert [record.getMessage() for record in caplog.records] == []


def carrying(port: int, agreed: bytes = AGREED) -> Script:
    """Behave like a proxy whose every name leads to one port."""

    async def script(connection: Connection) -> None:
        await connection.request()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await connection.say(agreed)

        async def back() -> None:
            with suppress(OSError):
                while data := await reader.read(65536):
                    await connection.say(data)
            connection.reset()

        async with asyncio.TaskGroup() as group:
            group.create_task(back())
            try:
                while True:
                    writer.write(await connection.some())
            except OSError:
                writer.transport.abort()

    return script


def through(proxy: Server, certificates: Certificates, **changes: object) -> UpstreamRoute:
    changes = {"egress_proxy": Host(PROXY, proxy.port), **changes}
    return route_to(443, certificates, **changes)


@pytest.mark.guards("T-46")
@pytest.mark.guards("T-50")
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_the_proxy_hears_the_name_and_the_processor_all_else(
    certificates: Certificates, method: str
) -> None:
    heard: list[str | None] = []

    def listen(_: object, name: str | None, __: object) -> None:
        heard.append(name)

    context = context_of(certificates.ca.issue_cert(NAME))
    context.sni_callback = listen
    observer = Observer()
    async with (
        serving(repeating(OK), context) as server,
        serving(carrying(server.port), None) as proxy,
        upstream_to(through(proxy, certificates, egress_proxy_login=LOGIN), observer) as upstream,
    ):
        headers = [("Authorization", "Bearer x"), ("Proxy-Authorization", "Basic eDp5")]
        outcome = await upstream.send(method, "/v1/charges", "", headers, CANARY)
    assert isinstance(outcome, Replied)
    (asked,) = proxy.requests
    assert asked == (
        b"CONNECT processor.test:443 HTTP/1.1\r\nHost: processor.test:443\r\n"
        b"Proxy-Authorization: Basic cGFud2FyZDpvcGVuIHNlc2FtZQ==\r\n\r\n"
    )
    assert CANARY not in proxy.received
    assert b"Bearer" not in proxy.received
    (request,) = server.requests
    assert request.startswith(f"{method} /v1/charges HTTP/1.1\r\nHost: {NAME}\r\n".encode())
    assert b"roxy" not in request
    assert request.endswith(CANARY)
    assert heard == [NAME]
    assert observer.phases == [
        Phase.CHECK,
        Phase.QUEUE,
        Phase.CONNECT,
        Phase.DNS,
        Phase.CONNECT,
        Phase.TLS,
        Phase.SENDING,
        Phase.SENT,
        Phase.REPLY,
    ]


async def test_a_tunnel_is_used_again_by_posts_alone(certificates: Certificates) -> None:
    async with (
        serving(repeating(OK), certificates.server) as server,
        serving(carrying(server.port), None) as proxy,
        upstream_to(through(proxy, certificates)) as upstream,
    ):
        for _ in range(3):
            assert isinstance(await post(upstream), Replied)
        assert proxy.connections == 1
        for _ in range(2):
            assert isinstance(await upstream.send("GET", "/", "", [], b""), Replied)
    assert proxy.connections == 3
    assert all(b"Authorization" not in request for request in proxy.requests)


ANSWERS: dict[str, bytes] = {
    "forbidden": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
    "login wanted": b"HTTP/1.1 407 Login\r\nProxy-Authenticate: Basic\r\n\r\n",
    "no way": b"HTTP/1.1 502 Bad Gateway\r\n\r\n",
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1/\r\n\r\n",
    "interim": b"HTTP/1.1 100 Continue\r\n\r\n",
    "interim and agreed": b"HTTP/1.1 103 Hint\r\n\r\n" + AGREED,
    "switching": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "three digits in name": b"HTTP/1.1 2000 OK\r\n\r\n",
    "another version": b"HTTP/2.0 200 OK\r\n\r\n",
    "no version": b"200 OK\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "tls at once": b"\x16\x03\x03\x00\x04\x02\x00\x00\x00\r\n\r\n",
    "nothing": b"",
    "half": AGREED[:-2],
    "more than agreed": AGREED + b"\x16\x03\x03",
    "a reply behind it": AGREED + OK,
    "a long head": b"HTTP/1.1 200 OK\r\nA: " + b"x" * HEAD_BYTES_MAX + b"\r\n\r\n",
    "an endless head": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 100_000,
}


@pytest.mark.guards("F-21")
@pytest.mark.guards("T-48")
@pytest.mark.parametrize("answer", ANSWERS)
async def test_a_proxy_that_does_not_carry_gets_nothing_and_nothing_is_sent(
    certificates: Certificates, answer: str
) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.say(ANSWERS[answer])

    observer = Observer()
    async with (
        serving(script, None) as proxy,
        upstream_to(through(proxy, certificates), observer) as upstream,
    ):
        outcome = await post(upstream)
    assert outcome == NotSent(Phase.CONNECT, Failure.UNREACHABLE)
    assert observer.failures == [(Phase.CONNECT, Failure.UNREACHABLE)]
    assert bytes(proxy.received) == b"".join(proxy.requests)
    assert CANARY not in proxy.received


@pytest.mark.parametrize("status", [b"HTTP/1.0 200 OK", b"HTTP/1.1 200", b"HTTP/1.1 299 Yes"])
async def test_any_success_is_an_agreement_whatever_else_it_says(
    certificates: Certificates, status: bytes
) -> None:
    """RFC 9110 9.3.6: such a reply has no body, though it may say so."""
    agreed = status + b"\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with (
        serving(repeating(OK), certificates.server) as server,
        serving(carrying(server.port, agreed), None) as proxy,
        upstream_to(through(proxy, certificates)) as upstream,
    ):
        assert isinstance(await post(upstream), Replied)


@pytest.mark.guards("F-22")
@pytest.mark.parametrize("when", ["at once", "after the head", "dripping", "once agreed"])
async def test_a_proxy_that_hangs_is_left_in_time(certificates: Certificates, when: str) -> None:
    async def script(connection: Connection) -> None:
        if when != "at once":
            await connection.request()
        if when == "once agreed":
            await connection.say(AGREED)
        while when == "dripping":
            await connection.say(b"H")
            await asyncio.sleep(0.02)
        await connection.silence()

    loop = asyncio.get_running_loop()
    async with serving(script, None) as proxy:
        route = through(proxy, certificates, connect_seconds=0.2, timeout_seconds=30.0)
        async with upstream_to(route) as upstream:
            began = loop.time()
            outcome = await post(upstream)
            assert loop.time() - began < 5
    phase = Phase.TLS if when == "once agreed" else Phase.CONNECT
    assert outcome == NotSent(phase, Failure.CONNECT_TIMEOUT)
    assert CANARY not in proxy.received


@pytest.mark.guards("T-48")
@pytest.mark.parametrize("name", [PROXY, "127.0.0.1", NAME])
async def test_a_proxy_that_reads_along_is_no_processor(
    certificates: Certificates, name: str
) -> None:
    """Its own certificate, whoever it is for, does not do; nor ours for its own name."""
    authority = trustme.CA() if name == NAME else certificates.ca
    async with (
        serving(repeating(OK), context_of(authority.issue_cert(name))) as server,
        serving(carrying(server.port), None) as proxy,
        upstream_to(through(proxy, certificates)) as upstream,
    ):
        assert await post(upstream) == NotSent(Phase.TLS, Failure.TLS_ERROR)
    assert server.received == b""


@pytest.mark.guards("T-48")
async def test_pins_hold_behind_a_proxy(certificates: Certificates) -> None:
    async with (
        serving(repeating(OK), certificates.server) as server,
        serving(carrying(server.port), None) as proxy,
        upstream_to(through(proxy, certificates, spki_pins=(bytes(32),))) as upstream,
    ):
        assert await post(upstream) == NotSent(Phase.TLS, Failure.TLS_ERROR)
    assert server.received == b""


@pytest.mark.guards("T-44")
@pytest.mark.parametrize("defense", ["both", "only the socket"])
async def test_a_proxy_at_a_forbidden_address_is_not_dialed(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, defense: str
) -> None:
    if defense == "only the socket":
        monkeypatch.setattr("gateway.dialing.CheckedResolver._addresses", _unchecked)
    async with serving(say_nothing, None) as proxy:
        route = through(proxy, certificates, address_allow=NOTHING_PRIVATE)
        async with upstream_to(route) as upstream:
            outcome = await post(upstream)
    assert isinstance(outcome, NotSent)
    assert outcome.code is Failure.EGRESS_DENIED
    assert proxy.connections == 0


async def _unchecked(self: CheckedResolver, port: int) -> Sequence[str]:
    return await self._ask(port)


@pytest.mark.guards("T-44")
async def test_only_the_proxys_name_is_looked_up(certificates: Certificates) -> None:
    asked: list[tuple[str, int]] = []

    async def lookup(host: str, port: int) -> Sequence[str]:
        asked.append((host, port))
        return ["127.0.0.1"]

    async with (
        serving(repeating(OK), certificates.server) as server,
        serving(carrying(server.port), None) as proxy,
        upstream_to(through(proxy, certificates), lookup=lookup) as upstream,
    ):
        assert isinstance(await post(upstream), Replied)
    assert asked == [(PROXY, proxy.port)]


@pytest.mark.guards("F-30")
async def test_a_proxy_without_an_address_is_not_sent(certificates: Certificates) -> None:
    route = route_to(443, certificates, egress_proxy=Host(PROXY, 3128))
    async with upstream_to(route, lookup=at()) as upstream:
        assert await post(upstream) == NotSent(Phase.DNS, Failure.DNS)


@pytest.mark.guards("F-21")
async def test_the_proxys_other_address_is_tried(certificates: Certificates) -> None:
    async with (
        serving(repeating(OK), certificates.server) as server,
        serving(carrying(server.port), None) as proxy,
    ):
        allow = AddressAllow.parse(["127.0.0.1/32", "::1/128"])
        route = through(proxy, certificates, address_allow=allow)
        async with upstream_to(route, lookup=at("::1", "127.0.0.1")) as upstream:
            assert isinstance(await post(upstream), Replied)
        async with upstream_to(route, lookup=at("::1")) as upstream:
            assert await post(upstream) == NotSent(Phase.CONNECT, Failure.UNREACHABLE)


@pytest.mark.guards("F-22")
async def test_an_address_that_hangs_leaves_time_for_the_other(certificates: Certificates) -> None:
    async with (
        serving(repeating(OK), certificates.server) as server,
        serving(carrying(server.port), None) as proxy,
        serving(say_nothing, None, host="::1", port=proxy.port) as hanging,
    ):
        allow = AddressAllow.parse(["127.0.0.1/32", "::1/128"])
        route = through(proxy, certificates, address_allow=allow, connect_seconds=0.6)
        async with upstream_to(route, lookup=at("::1", "127.0.0.1")) as upstream:
            assert isinstance(await post(upstream), Replied)
    assert (hanging.connections, proxy.connections) == (1, 1)
    assert CANARY not in hanging.received


@pytest.mark.guards("T-46")
async def test_the_environment_chooses_no_other_proxy(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        serving(repeating(OK), None) as sink,
        serving(repeating(OK), certificates.server) as server,
        serving(carrying(server.port), None) as proxy,
    ):
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, f"http://user:pass@127.0.0.1:{sink.port}")
        monkeypatch.setenv("NO_PROXY", "*")
        async with upstream_to(through(proxy, certificates)) as upstream:
            assert isinstance(await post(upstream), Replied)
    assert (sink.connections, proxy.connections) == (0, 1)


@pytest.mark.guards("T-47")
@pytest.mark.guards("F-24")
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_what_breaks_behind_the_line_is_unknown_and_arrives_once(
    certificates: Certificates, method: str
) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        connection.reset()

    async with (
        serving(script, certificates.server) as server,
        serving(carrying(server.port), None) as proxy,
        upstream_to(through(proxy, certificates)) as upstream,
    ):
        outcome = await upstream.send(method, "/", "", [], CANARY)
    assert outcome == Unknown(Phase.SENT, Failure.RESET, None)
    assert (proxy.connections, len(server.requests)) == (1, 1)


async def test_a_send_that_is_canceled_leaves_no_socket_behind(certificates: Certificates) -> None:
    async with (
        serving(say_nothing, None) as proxy,
        upstream_to(through(proxy, certificates)) as upstream,
    ):
        task = asyncio.create_task(post(upstream))
        await proxy.arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        gc.collect()  # a socket that is forgotten and open is a warning, and so an error


@pytest.mark.guards("T-46")
def test_the_way_through_a_proxy_is_the_same_on_uvloop(certificates: Certificates) -> None:
    async def both() -> tuple[object, object, bytes]:
        async with (
            serving(repeating(OK), certificates.server) as server,
            serving(carrying(server.port), None) as proxy,
            upstream_to(through(proxy, certificates, connect_seconds=0.5)) as upstream,
        ):
            good = await post(upstream)
        async with (
            serving(say_nothing, None) as proxy,
            upstream_to(through(proxy, certificates, connect_seconds=0.1)) as upstream,
        ):
            return good, await post(upstream), bytes(proxy.received)

    good, bad, received = uvloop.run(both())
    assert isinstance(good, Replied)
    assert bad == NotSent(Phase.CONNECT, Failure.CONNECT_TIMEOUT)
    assert CANARY not in received


def test_what_is_asked_for_is_one_request() -> None:
    tunnel = Tunnel(Host(PROXY, 3128), Host("2001:db8::1", 8443), login="a:b\r\nX: y")
    assert tunnel.request() == (
        b"CONNECT [2001:db8::1]:8443 HTTP/1.1\r\nHost: [2001:db8::1]:8443\r\n"
        b"Proxy-Authorization: Basic YTpiDQpYOiB5\r\n\r\n"
    )


def test_a_login_is_printed_nowhere(certificates: Certificates) -> None:
    route = route_to(443, certificates, egress_proxy_login=LOGIN)
    tunnel = Tunnel(Host(PROXY, 3128), Host(NAME, 443), LOGIN)
    assert "sesame" not in repr(route) + repr(tunnel)
