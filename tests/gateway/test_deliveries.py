"""Deliveries to real TLS servers from a real queue: whatever an endpoint does, nothing is lost."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from gateway.addresses import NOTHING_PRIVATE
from gateway.deliveries import (
    RETRIES,
    Deliveries,
    Ended,
    WebhookUrl,
    retry_after,
)
from gateway.https_client import UrlRefused
from gateway.upstream import Upstream, UpstreamRoute
from tests.databases import Database
from tests.gateway.raw_servers import (
    LOOPBACK,
    NAME,
    OK,
    Certificates,
    Connection,
    Script,
    Server,
    at,
    repeating,
    reply,
    serving,
)
from tests.vault.merchant_queue import MerchantQueue
from tests.vault.stores import migrated, opened
from vault.delivery_queue import LEASE
from vault.errors import KeysUnavailable

pytestmark = pytest.mark.embedded

SECRETS = {"standard.1": "whsec_" + "A" * 32}
HUGE = b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n" + b"x" * 100_000


class Keys:
    """Secrets that are there, or not."""

    is_away = False

    async def webhook_secrets(self, tenant: str, endpoint: str) -> Mapping[str, str] | None:
        if self.is_away:
            raise KeysUnavailable
        return SECRETS


class Unwatching:
    """Hears everything, and keeps how deliveries ended."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []

    def delivery_tried(self, form: str, outcome: Ended, seconds: float) -> None:
        self.outcomes.append(outcome)

    def upstream_phase_ended(self, route: str, phase: object, seconds: float) -> None: ...

    def upstream_failed(self, route: str, phase: object, code: object) -> None: ...


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def shop(database: Database) -> AsyncIterator[MerchantQueue]:
    async with opened(await migrated(database)) as store:
        yield await MerchantQueue(store).open()


def worker(
    shop: MerchantQueue, certificates: Certificates, *, keys: Keys | None = None, allow: bool = True
) -> Deliveries:
    observer = Unwatching()

    def client(url: WebhookUrl) -> Upstream:
        route = UpstreamRoute(
            name="webhook",
            host=url.host,
            port=url.port,
            timeout_seconds=2.0,
            address_allow=LOOPBACK if allow else NOTHING_PRIVATE,
            ca_file=certificates.ca_file,
            reply_bytes_max=65_536,
        )
        return Upstream(route, observer, lookup=at("127.0.0.1"))

    return Deliveries(
        shop.queue,
        keys or Keys(),
        client=client,
        now=shop.store.clock,
        monotonic=asyncio.get_running_loop().time,
        chance=lambda: 0.5,
        metrics=observer,
        address_allow=LOOPBACK,
    )


def numbers(server: Server) -> list[int]:
    """What arrived, in its order."""
    return [int(found[1]) for one in server.requests if (found := re.search(rb'"n":(\d+)', one))]


async def drain(deliveries: Deliveries) -> None:
    """Work until nothing is due and nothing under way."""
    async with asyncio.timeout(30):
        while await deliveries.turn() or deliveries._work.begun:
            pass


def url_of(server: Server) -> str:
    return f"https://{NAME}:{server.port}/hook/?shop=1"


def scripted(*answers: bytes) -> Script:
    """Give these answers, one a request over all connections, then OK."""
    left = list(answers)

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.say(left.pop(0) if left else OK)

    return script


async def test_a_post_arrives_where_the_merchant_said(
    shop: MerchantQueue, certificates: Certificates
) -> None:
    async with serving(repeating(OK), certificates.server) as server:
        delivery = await shop.wait(await shop.endpoint(url_of(server)))
        async with worker(shop, certificates) as deliveries:
            await drain(deliveries)
    assert await shop.state(delivery) == "delivered"
    assert server.requests[0].startswith(b"POST /hook/?shop=1 HTTP/1.1\r\n")
    assert b"\r\nwebhook-signature: v1," in server.requests[0]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (reply(b"", status="500 No"), "status"),
        (reply(b"", "Location: https://other.test/", status="302 Found"), "upstream_redirect"),
        (b"nonsense\r\n\r\n", "upstream_protocol_error"),
    ],
)
async def test_what_is_no_success_is_tried_again(
    shop: MerchantQueue, certificates: Certificates, answer: bytes, error: str
) -> None:
    async with serving(scripted(answer), certificates.server) as server:
        delivery = await shop.wait(await shop.endpoint(url_of(server)))
        async with worker(shop, certificates) as deliveries:
            await drain(deliveries)
            assert await shop.store.value("SELECT last_error FROM delivery") == error
            due = await shop.store.value("SELECT due FROM delivery")
            assert due == shop.now + RETRIES[0]
            shop.store.clock.advance(seconds=5)
            await drain(deliveries)
    assert numbers(server) == [1, 1]
    assert await shop.state(delivery) == "delivered"


async def test_a_huge_reply_is_not_read_and_counts_by_its_status(
    shop: MerchantQueue, certificates: Certificates
) -> None:
    async with serving(repeating(HUGE), certificates.server) as server:
        delivery = await shop.wait(await shop.endpoint(url_of(server)))
        async with worker(shop, certificates) as deliveries:
            await drain(deliveries)
    assert await shop.state(delivery) == "delivered"


async def test_410_disables_and_what_waits_arrives_when_it_is_enabled(
    shop: MerchantQueue, certificates: Certificates
) -> None:
    async with serving(scripted(reply(b"", status="410 Gone")), certificates.server) as server:
        endpoint = await shop.endpoint(url_of(server))
        await shop.wait(endpoint)
        async with worker(shop, certificates) as deliveries:
            await drain(deliveries)
            await shop.wait(endpoint)
            await drain(deliveries)
            assert numbers(server) == [1]
            await shop.table.enable(shop.tenant, endpoint, shop.now)
            await drain(deliveries)
    assert numbers(server) == [1, 1, 2]


async def test_retry_after_is_kept(shop: MerchantQueue, certificates: Certificates) -> None:
    answer = reply(b"", "Retry-After: 3600", status="503 Later")
    async with serving(scripted(answer), certificates.server) as server:
        await shop.wait(await shop.endpoint(url_of(server)))
        async with worker(shop, certificates) as deliveries:
            await drain(deliveries)
    assert await shop.store.value("SELECT due FROM delivery") == shop.now + timedelta(hours=1)


async def test_one_that_is_silent_or_dead_delays_no_other(
    shop: MerchantQueue, certificates: Certificates
) -> None:
    async def silent(connection: Connection) -> None:
        await connection.silence()

    async with (
        serving(silent, certificates.server) as slow,
        serving(repeating(OK), certificates.server) as well,
    ):
        for url in (url_of(slow), f"https://{NAME}:1/"):
            endpoint = await shop.endpoint(url, concurrency=32)
            for _ in range(60):
                await shop.wait(endpoint)
        healthy = await shop.endpoint(url_of(well))
        for _ in range(40):
            await shop.wait(healthy)
        async with worker(shop, certificates) as deliveries, asyncio.timeout(10):
            began = asyncio.get_running_loop().time()
            while len(numbers(well)) < 40:
                await deliveries.turn()
            assert asyncio.get_running_loop().time() - began < 1.9  # before the first timeout


async def test_an_hour_of_outage_drains_in_order(
    shop: MerchantQueue, certificates: Certificates
) -> None:
    """Each subject's in its order; and once it is back, nothing waits for its own next try."""
    is_away = True

    async def flapping(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.say(reply(b"", status="502 Away") if is_away else OK)

    subjects = [uuid4() for _ in range(7)]
    async with serving(flapping, certificates.server) as server:
        endpoint = await shop.endpoint(url_of(server))
        async with worker(shop, certificates) as deliveries:
            for minute in range(60):
                await shop.wait(endpoint, subject=subjects[minute % 7])
                shop.store.clock.advance(minutes=1)
                await drain(deliveries)
            assert await shop.waiting() == 60
            assert len(server.requests) < 40  # one that is away is not pressed
            is_away = False
            server.requests.clear()
            shop.store.clock.advance(minutes=15)
            await drain(deliveries)
    arrived = numbers(server)
    assert sorted(arrived) == list(range(1, 61))
    for one in range(7):
        mine = [n for n in arrived if n % 7 == one]
        assert mine == sorted(mine)


async def test_two_workers_deliver_each_once(
    shop: MerchantQueue, certificates: Certificates
) -> None:
    async with serving(repeating(OK), certificates.server) as server:
        endpoint = await shop.endpoint(url_of(server), concurrency=8)
        for _ in range(80):
            await shop.wait(endpoint)
        async with worker(shop, certificates) as one, worker(shop, certificates) as two:
            await asyncio.gather(drain(one), drain(two))
            await drain(one)
    assert sorted(numbers(server)) == list(range(1, 81))


async def test_a_worker_that_dies_before_it_settles_costs_a_lease(
    shop: MerchantQueue, certificates: Certificates
) -> None:
    async with serving(repeating(OK), certificates.server) as server:
        delivery = await shop.wait(await shop.endpoint(url_of(server)))
        assert len(await shop.queue.claim(shop.now, 10, {})) == 1  # and dies
        async with worker(shop, certificates) as deliveries:
            await drain(deliveries)
            assert numbers(server) == []
            shop.store.clock.advance(seconds=LEASE.total_seconds())
            await drain(deliveries)
    assert numbers(server) == [1]
    assert await shop.state(delivery) == "delivered"


async def test_a_private_address_is_not_dialed(
    shop: MerchantQueue, certificates: Certificates
) -> None:
    async with serving(repeating(OK), certificates.server) as server:
        await shop.wait(await shop.endpoint(url_of(server)))
        async with worker(shop, certificates, allow=False) as deliveries:
            await drain(deliveries)
    assert server.connections == 0
    assert await shop.store.value("SELECT last_error FROM delivery") == "egress_denied"


async def test_without_the_key_service_nothing_counts_against_the_endpoint(
    shop: MerchantQueue, certificates: Certificates
) -> None:
    keys = Keys()
    keys.is_away = True
    async with serving(repeating(OK), certificates.server) as server:
        delivery = await shop.wait(await shop.endpoint(url_of(server)))
        async with worker(shop, certificates, keys=keys) as deliveries:
            await drain(deliveries)
            assert await shop.store.value("SELECT tries FROM delivery") == 0
            keys.is_away = False
            shop.store.clock.advance(seconds=5)
            await drain(deliveries)
    assert await shop.state(delivery) == "delivered"


async def test_after_the_last_try_it_is_dead(
    shop: MerchantQueue, certificates: Certificates
) -> None:
    async with serving(repeating(reply(b"", status="500 No")), certificates.server) as server:
        delivery = await shop.wait(await shop.endpoint(url_of(server)))
        async with worker(shop, certificates) as deliveries:
            for _ in range(len(RETRIES) + 1):
                await drain(deliveries)
                shop.store.clock.advance(hours=12)
    assert len(server.requests) == len(RETRIES) + 1
    assert await shop.state(delivery) == "dead"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("", 0), ("7", 7), ("999999999999", 86400), ("soon", 0), ("-5", 0)),
        ("Mon, 02 Mar 2026 00:00:30 GMT", 30),
        ("Sun, 01 Mar 2026 00:00:00 GMT", 0),
    ],
)
def test_how_long_to_wait_is_read_in_both_forms(text: str, seconds: int) -> None:
    at = datetime(2026, 3, 2, tzinfo=UTC)
    assert retry_after((("Retry-After", text),), at) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["http://a.test/", "https://u:p@a.test/", "https://a.test/#x", "https://10.0.0.1/", ""]
)
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UrlRefused):
        WebhookUrl.parse(text)


def test_an_address_stays_as_it_was_written() -> None:
    assert WebhookUrl.parse("https://a.test/hook/?x=%2F") == ("a.test", 443, "/hook/", "x=%2F")
    assert WebhookUrl.parse("https://a.test") == ("a.test", 443, "/", "")
