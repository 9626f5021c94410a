"""An endpoint that is away for days, by a simulated clock: whatever ends dead was tried first."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from gateway.deliveries import RETRIES
from tests.databases import Database
from tests.gateway.raw_servers import OK, Certificates, Connection, reply, serving
from tests.gateway.test_deliveries import drain, numbers, url_of, worker
from tests.vault.merchant_queue import MerchantQueue
from tests.vault.stores import migrated, opened

pytestmark = pytest.mark.embedded

AWAY = reply(b"", status="502 Away")
TRIES = len(RETRIES) + 1


class Shop:
    """A merchant's server that is away or back, or takes all but one message."""

    is_away = True
    refused: bytes | None = None

    async def __call__(self, connection: Connection) -> None:
        while True:
            post = await connection.request()
            is_refused = self.refused is not None and self.refused in post
            await connection.say(AWAY if self.is_away or is_refused else OK)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def queue(database: Database) -> AsyncIterator[MerchantQueue]:
    async with opened(await migrated(database)) as store:
        yield await MerchantQueue(store).open()


async def states(queue: MerchantQueue, deliveries: list[UUID]) -> list[str]:
    return [await queue.state(one) for one in deliveries]


async def test_an_outage_of_two_weeks_in_which_each_is_tried_in_its_order(
    queue: MerchantQueue, certificates: Certificates
) -> None:
    """Those behind one that fails have days of their own, from when it is their turn."""
    shop, subject = Shop(), uuid4()
    async with serving(shop, certificates.server) as server:
        endpoint = await queue.endpoint(url_of(server))
        mine = [await queue.wait(endpoint, subject=subject) for _ in range(3)]
        others = [await queue.wait(endpoint) for _ in range(4)]
        async with worker(queue, certificates) as deliveries:
            for _ in range(24 * 14):
                queue.store.clock.advance(hours=1)
                await queue.table.sweep(queue.now)
                await drain(deliveries)
            tried = numbers(server)
            assert [tried.count(n) for n in range(1, 8)] == [TRIES] * 7
            of_subject = [n for n in tried if n <= 3]
            assert of_subject == sorted(of_subject)
            assert await states(queue, mine + others) == ["dead"] * 7

            shop.is_away = False
            server.requests.clear()
            late = await queue.wait(endpoint, subject=subject)
            queue.store.clock.advance(minutes=15)
            for one in mine:
                assert await queue.table.replay(queue.tenant, str(one), queue.now)
            await drain(deliveries)
    assert numbers(server) == [1, 2, 3, 8]
    assert await states(queue, [*mine, late]) == ["delivered"] * 4


async def test_what_waits_behind_one_that_is_refused_arrives_when_that_is_dead(
    queue: MerchantQueue, certificates: Certificates
) -> None:
    """The endpoint is well, and is never paused: it refuses one message alone."""
    shop, subject = Shop(), uuid4()
    shop.is_away, shop.refused = False, b'"n":1}'
    async with serving(shop, certificates.server) as server:
        endpoint = await queue.endpoint(url_of(server))
        first, second = [await queue.wait(endpoint, subject=subject) for _ in range(2)]
        async with worker(queue, certificates) as deliveries:
            for _ in range(24 * 4):
                queue.store.clock.advance(hours=1)
                await queue.wait(endpoint)
                await queue.table.sweep(queue.now)
                await drain(deliveries)
    arrived = numbers(server)
    assert arrived.count(1) == TRIES
    assert arrived.count(2) == 1
    assert await states(queue, [first, second]) == ["dead", "delivered"]


async def test_a_gateway_that_was_away_tries_what_waited_before_it_gives_up(
    queue: MerchantQueue, certificates: Certificates
) -> None:
    """The days that nobody worked are not the endpoint's."""
    shop = Shop()
    shop.is_away = False
    async with serving(shop, certificates.server) as server:
        delivery = await queue.wait(await queue.endpoint(url_of(server)))
        queue.store.clock.advance(days=40)
        await queue.table.sweep(queue.now)
        async with worker(queue, certificates) as deliveries:
            await drain(deliveries)
    assert await queue.state(delivery) == "delivered"


async def test_an_endpoint_that_has_failed_for_a_month_holds_nothing_longer(
    queue: MerchantQueue,
) -> None:
    """What nobody got round to in so long may be replayed."""
    endpoint = await queue.endpoint()
    taken = [await queue.wait(endpoint) for _ in range(2)]
    await queue.store.do(
        "UPDATE webhook_endpoint SET failures = 10, paused_until = $1",
        queue.now + timedelta(minutes=15),
    )
    queue.store.clock.advance(days=29)
    assert await queue.table.sweep(queue.now) == 0
    queue.store.clock.advance(days=1, seconds=1)
    assert await queue.table.sweep(queue.now) == 2
    assert await states(queue, taken) == ["dead"] * 2
    assert await queue.table.replay(queue.tenant, str(taken[0]), queue.now)
    await queue.table.remove(queue.tenant, endpoint, queue.now)
    assert not await queue.table.replay(queue.tenant, str(taken[1]), queue.now)
