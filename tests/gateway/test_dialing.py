"""Who is dialed: only checked addresses, only a verified peer. Until then no byte has left."""

import asyncio
import socket
import ssl
from collections.abc import Sequence

import pytest

from gateway import dialing
from gateway.addresses import NOTHING_PRIVATE, AddressAllow
from gateway.dialing import AddressDenied, CheckedResolver, LookupFailed
from gateway.exchange import Failure, NotSent, Phase, Replied
from gateway.upstream import Upstream, UpstreamRoute
from tests.gateway.raw_servers import (
    LOOPBACK,
    NAME,
    OK,
    Certificates,
    Observer,
    at,
    post,
    repeating,
    route_to,
    serving,
    upstream_to,
)

BOTH_LOOPBACKS = AddressAllow.parse(["127.0.0.1/32", "::1/128"])
FORBIDDEN = [
    "::1",
    "127.0.0.2",
    "10.0.0.1",
    "169.254.169.254",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "0.0.0.0",  # noqa: S104 - Linux dials itself
    "fe80::1%lo",
    "not an address",
]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Names:
    """A name service that answers what it is told to, and counts."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: Sequence[str] = addresses
        self.error: OSError | None = None
        self.asked = 0

    async def __call__(self, _host: str, _port: int) -> Sequence[str]:
        self.asked += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return self.addresses


# --- the resolver alone -------------------------------------------------------------------


def resolver(
    names: Names, clock: Clock, allow: AddressAllow = LOOPBACK, host: str = NAME
) -> CheckedResolver:
    return CheckedResolver(host, allow, lookup=names, clock=clock)


async def addresses_of(checked: CheckedResolver, host: str = NAME) -> list[str]:
    return [result["host"] for result in await checked.resolve(host, 443)]


@pytest.mark.guards("T-44")
@pytest.mark.parametrize("address", FORBIDDEN)
@pytest.mark.parametrize("others", [[], ["127.0.0.1"], ["8.8.8.8", "127.0.0.1"]])
async def test_one_forbidden_answer_is_enough(address: str, others: list[str]) -> None:
    for answers in ([*others, address], [address, *others]):
        with pytest.raises(AddressDenied):
            await addresses_of(resolver(Names(*answers), Clock()))


@pytest.mark.guards("T-44")
async def test_a_name_is_asked_for_once_a_minute() -> None:
    names, clock = Names("127.0.0.1"), Clock()
    checked = resolver(names, clock)
    for _ in range(3):
        assert await addresses_of(checked) == ["127.0.0.1"]
    clock.seconds += 59.9
    await addresses_of(checked)
    assert names.asked == 1
    clock.seconds += 0.1
    names.addresses = ["8.8.8.8"]
    assert await addresses_of(checked) == ["8.8.8.8"]
    assert names.asked == 2


async def test_many_at_once_ask_once() -> None:
    names = Names("127.0.0.1")
    checked = resolver(names, Clock())
    await asyncio.gather(*(addresses_of(checked) for _ in range(50)))
    assert names.asked == 1


@pytest.mark.guards("F-30")
async def test_the_last_good_answer_serves_for_ten_minutes() -> None:
    names, clock = Names("127.0.0.1"), Clock()
    checked = resolver(names, clock)
    await addresses_of(checked)
    names.error = socket.gaierror()
    clock.seconds += 599.9
    assert await addresses_of(checked) == ["127.0.0.1"]
    assert await addresses_of(checked) == ["127.0.0.1"]
    assert names.asked == 2  # within a second of a failure nobody asks
    clock.seconds += 0.1
    with pytest.raises(LookupFailed):
        await addresses_of(checked)
    clock.seconds += 1
    names.error = None
    assert await addresses_of(checked) == ["127.0.0.1"]


@pytest.mark.guards("T-44")
async def test_after_a_forbidden_answer_the_last_good_one_does_not_serve() -> None:
    names, clock = Names("127.0.0.1"), Clock()
    checked = resolver(names, clock)
    await addresses_of(checked)
    names.addresses = ["169.254.169.254"]
    clock.seconds += 60
    for _ in range(2):
        with pytest.raises(AddressDenied):
            await addresses_of(checked)


@pytest.mark.guards("F-30")
async def test_a_slow_answer_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialing, "LOOKUP_SECONDS", 0.05)

    async def never(_host: str, _port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        raise AssertionError

    checked = CheckedResolver(NAME, LOOPBACK, lookup=never, clock=Clock())
    with pytest.raises(LookupFailed):
        await addresses_of(checked)


async def test_no_answer_is_a_failure() -> None:
    with pytest.raises(LookupFailed):
        await addresses_of(resolver(Names(), Clock()))


async def test_a_canceled_question_is_asked_again() -> None:
    asked = asyncio.Event()

    async def slow_once(_host: str, _port: int) -> Sequence[str]:
        if not asked.is_set():
            asked.set()
            await asyncio.Event().wait()
        return ["127.0.0.1"]

    checked = CheckedResolver(NAME, LOOPBACK, lookup=slow_once, clock=Clock())
    task = asyncio.create_task(addresses_of(checked))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await addresses_of(checked) == ["127.0.0.1"]


@pytest.mark.guards("T-44")
async def test_no_other_host_is_resolved() -> None:
    names = Names("127.0.0.1")
    for host in ("evil.test", NAME + ".", "localhost", "127.1"):
        with pytest.raises(AddressDenied):
            await addresses_of(resolver(names, Clock()), host)
    assert names.asked == 0


@pytest.mark.parametrize(
    ("answers", "kept"),
    [
        (["8.8.8.8", "8.8.4.4", "1.1.1.1"], ["8.8.8.8", "8.8.4.4"]),
        (["8.8.8.8", "8.8.8.8"], ["8.8.8.8"]),
        (
            ["2606:4700::1", "2606:4700::2", "8.8.8.8", "8.8.4.4"],
            ["2606:4700::1", "8.8.8.8"],
        ),
        (["8.8.8.8", "8.8.4.4", "2606:4700::1"], ["8.8.8.8", "2606:4700::1"]),
    ],
)
async def test_two_addresses_are_kept_of_different_families_if_may_be(
    answers: list[str], kept: list[str]
) -> None:
    assert await addresses_of(resolver(Names(*answers), Clock())) == kept


async def test_localhost_is_never_a_question() -> None:
    names = Names("8.8.8.8")
    checked = resolver(names, Clock(), BOTH_LOOPBACKS, host="localhost")
    assert await addresses_of(checked, "localhost") == ["127.0.0.1", "::1"]
    with pytest.raises(LookupFailed):
        await addresses_of(resolver(names, Clock(), NOTHING_PRIVATE, "localhost"), "localhost")
    assert names.asked == 0


async def test_the_systems_own_lookup_gives_addresses() -> None:
    assert "127.0.0.1" in await dialing.system_lookup("localhost", 443)


# --- what is dialed -----------------------------------------------------------------------


@pytest.mark.guards("T-44")
@pytest.mark.guards("F-30")
async def test_rebinding_reaches_no_forbidden_listener(certificates: Certificates) -> None:
    names, clock = Names("127.0.0.1"), Clock()
    async with (
        serving(repeating(OK), certificates.server) as server,
        serving(repeating(OK), certificates.server, host="::1", port=server.port) as forbidden,
    ):
        upstream = Upstream(
            route_to(server.port, certificates), Observer(), lookup=names, clock=clock
        )
        assert isinstance(await upstream.send("GET", "/", "", [], b""), Replied)
        for address in FORBIDDEN:
            for names.addresses in ([address], ["127.0.0.1", address]):
                clock.seconds += 60
                outcome = await upstream.send("GET", "/", "", [], b"")
                assert outcome == NotSent(Phase.DNS, Failure.EGRESS_DENIED)
        await upstream.close()
    assert (len(server.requests), forbidden.connections) == (1, 0)


@pytest.mark.guards("T-44")
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_nothing_private_is_dialed_unless_the_route_lists_it(
    certificates: Certificates, method: str
) -> None:
    observer = Observer()
    async with serving(repeating(OK), certificates.server) as server:
        route = route_to(server.port, certificates, address_allow=NOTHING_PRIVATE)
        async with upstream_to(route, observer) as upstream:
            outcome = await upstream.send(method, "/", "", [], b"")
    assert outcome == NotSent(Phase.DNS, Failure.EGRESS_DENIED)
    assert observer.failures == [(Phase.DNS, Failure.EGRESS_DENIED)]
    assert server.connections == 0


@pytest.mark.guards("T-43")
@pytest.mark.guards("T-44")
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "::1", "127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1", "localhost"]
)
async def test_an_address_literal_is_checked_though_no_resolver_sees_it(
    certificates: Certificates, host: str
) -> None:
    """Even if a configuration got by `checked_host` somehow."""
    async with (
        serving(repeating(OK), certificates.server) as server,
        serving(repeating(OK), certificates.server, host="::1", port=server.port) as other,
    ):
        route = route_to(server.port, certificates, host=host, address_allow=NOTHING_PRIVATE)
        async with upstream_to(route) as upstream:
            outcome = await post(upstream)
    assert isinstance(outcome, NotSent)
    assert server.connections == other.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_a_listed_address_may_be_the_host(certificates: Certificates, host: str) -> None:
    bound = "::1" if host == "::1" else "127.0.0.1"
    async with serving(repeating(OK), certificates.server, host=bound) as server:
        route = route_to(server.port, certificates, host=host, address_allow=BOTH_LOOPBACKS)
        async with upstream_to(route) as upstream:
            assert isinstance(await post(upstream), Replied)


@pytest.mark.guards("F-21")
async def test_another_address_is_tried_if_the_first_refuses(certificates: Certificates) -> None:
    async with serving(repeating(OK), certificates.server) as server:
        route = route_to(server.port, certificates, address_allow=BOTH_LOOPBACKS)
        async with upstream_to(route, lookup=at("::1", "127.0.0.1")) as upstream:
            assert isinstance(await post(upstream), Replied)
    assert len(server.requests) == 1


@pytest.mark.guards("F-30")
async def test_a_name_without_an_address_is_not_sent(certificates: Certificates) -> None:
    names = Names()
    names.error = socket.gaierror()
    async with upstream_to(route_to(443, certificates), lookup=names) as upstream:
        assert await post(upstream) == NotSent(Phase.DNS, Failure.DNS)


@pytest.mark.guards("F-30")
async def test_a_name_service_that_hangs_is_not_sent(certificates: Certificates) -> None:
    async def never(_host: str, _port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        raise AssertionError

    route = route_to(443, certificates, connect_seconds=0.1)
    async with upstream_to(route, lookup=never) as upstream:
        assert await post(upstream) == NotSent(Phase.DNS, Failure.DNS)


@pytest.mark.guards("T-44")
async def test_the_server_hears_the_name_and_not_the_address(certificates: Certificates) -> None:
    heard: list[str | None] = []

    def listen(_: object, name: str | None, __: object) -> None:
        heard.append(name)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificates.ca.issue_cert(NAME).configure_cert(context)
    context.sni_callback = listen
    async with (
        serving(repeating(OK), context) as server,
        upstream_to(route_to(server.port, certificates)) as upstream,
    ):
        assert isinstance(await post(upstream), Replied)
    assert heard == [NAME]


def test_a_route_cannot_say_that_it_is_not_verified() -> None:
    fields = set(UpstreamRoute.__dataclass_fields__)
    assert fields == {
        "name",
        "host",
        "port",
        "timeout_seconds",
        "connect_seconds",
        "address_allow",
        "ca_file",
        "crl_file",
        "crl_check",
        "spki_pins",
        "client_certificate",
        "egress_proxy",
        "egress_proxy_login",
        "concurrency",
        "reply_bytes_max",
    }


async def test_closing_closes_the_connections(certificates: Certificates) -> None:
    async with serving(repeating(OK), certificates.server) as server:
        upstream = Upstream(route_to(server.port, certificates), Observer(), lookup=at("127.0.0.1"))
        assert isinstance(await post(upstream), Replied)
        await upstream.close()
        outcome = await post(upstream)
    assert isinstance(outcome, NotSent)
    assert len(server.requests) == 1
