"""Deliveries in trouble of any kind: one that goes wrong harms no other, and none is lost by it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.deliveries import RETRY_AFTER_MAX, WebhookUrl, retry_after
from gateway.https_client import UrlRefused
from tests.databases import Database
from tests.gateway.raw_servers import (
    NAME,
    OK,
    Certificates,
    Connection,
    repeating,
    reply,
    serving,
)
from tests.gateway.test_deliveries import Keys, drain, numbers, scripted, url_of, worker
from tests.vault.merchant_queue import MerchantQueue
from tests.vault.stores import migrated, opened
from vault.delivery_queue import LEASE, Settled

pytestmark = pytest.mark.embedded

DATES = "Mon, 02 Mar 2026 00:00:30 GMT +9999 -0000 24:60:60 Feb 30 99999 -1 ( : , ² EST"


class FaultyKeys(Keys):
    """Secrets of one endpoint are such that our own code fails."""

    def __init__(self, faulty: str) -> None:
        self.faulty = faulty

    async def webhook_secrets(self, tenant: str, endpoint: str) -> Mapping[str, str] | None:
        if endpoint == self.faulty:
            raise RuntimeError
        return await super().webhook_secrets(tenant, endpoint)


class SlowKeys(Keys):
    """Secrets for which a lease's time passes."""

    def __init__(self, queue: MerchantQueue, seconds: float) -> None:
        self.queue, self.seconds = queue, seconds

    async def webhook_secrets(self, tenant: str, endpoint: str) -> Mapping[str, str] | None:
        self.queue.store.clock.advance(seconds=self.seconds)
        self.seconds = 0
        return await super().webhook_secrets(tenant, endpoint)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def queue(database: Database) -> AsyncIterator[MerchantQueue]:
    async with opened(await migrated(database)) as store:
        yield await MerchantQueue(store).open()


# --- our own faults, and our own end --------------------------------------------------------


async def test_a_fault_of_ours_with_one_delivery_ends_no_other(
    queue: MerchantQueue, certificates: Certificates
) -> None:
    async with serving(repeating(OK), certificates.server) as server:
        faulty = await queue.endpoint(url_of(server))
        bad = await queue.wait(faulty)
        good = await queue.wait(await queue.endpoint(url_of(server)))
        async with worker(queue, certificates, keys=FaultyKeys(faulty)) as deliveries:
            await drain(deliveries)
    assert [await queue.state(one) for one in (bad, good)] == ["waiting", "delivered"]
    found = await queue.table.delivery(queue.tenant, str(bad))
    assert found is not None
    assert (found.tries, found.last_error) == (1, "internal_error")


async def test_what_has_arrived_is_settled_before_a_worker_leaves(
    queue: MerchantQueue, certificates: Certificates
) -> None:
    """Else whoever comes next would send it again."""
    is_asked, may_go_on = asyncio.Event(), asyncio.Event()

    async def held(connection: Connection) -> None:
        while True:
            await connection.request()
            is_asked.set()
            await may_go_on.wait()
            await connection.say(OK)

    async with serving(held, certificates.server) as server:
        delivery = await queue.wait(await queue.endpoint(url_of(server)))
        async with worker(queue, certificates) as deliveries:
            await deliveries.turn()
            await is_asked.wait()
            may_go_on.set()
    assert await queue.state(delivery) == "delivered"


async def test_what_is_being_settled_when_a_worker_is_told_to_leave_is_settled(
    queue: MerchantQueue, certificates: Certificates
) -> None:
    async with serving(repeating(OK), certificates.server) as server:
        delivery = await queue.wait(await queue.endpoint(url_of(server)))
        async with worker(queue, certificates) as deliveries:
            settle = queue.queue.settle
            async with queue.store.session() as other, other.transaction():

                async def held(results: Sequence[Settled], at: datetime) -> None:
                    if results:
                        await other.execute("SELECT 1 FROM delivery FOR UPDATE")
                    await settle(results, at)

                with pytest.MonkeyPatch.context() as patched:
                    patched.setattr(deliveries._queue, "settle", held)
                    turns = asyncio.create_task(drain(deliveries))
                    await queue.store.until_blocked()
                    turns.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await turns
    assert await queue.state(delivery) == "delivered"


async def test_a_worker_leaves_soon_whatever_an_endpoint_does(
    queue: MerchantQueue, certificates: Certificates
) -> None:
    """What was under way is taken up by others, when its lease is over."""

    async def silent(connection: Connection) -> None:
        await connection.silence()

    async with serving(silent, certificates.server) as server:
        delivery = await queue.wait(await queue.endpoint(url_of(server)))
        async with asyncio.timeout(1.9), worker(queue, certificates) as deliveries:
            await deliveries.turn()  # its timeout is two seconds
    assert await queue.state(delivery) == "waiting"
    assert await queue.queue.claim(queue.now, 10, {}) == []
    queue.store.clock.advance(seconds=LEASE.total_seconds())
    assert len(await queue.queue.claim(queue.now, 10, {})) == 1


async def test_a_worker_that_is_ended_by_an_error_leaves_no_connection(
    queue: MerchantQueue, certificates: Certificates
) -> None:
    deliveries = worker(queue, certificates)

    async def ended() -> None:
        async with deliveries:
            await drain(deliveries)
            raise RuntimeError

    async with serving(repeating(OK), certificates.server) as server:
        await queue.wait(await queue.endpoint(url_of(server)))
        with pytest.raises(BaseExceptionGroup):
            await ended()
    assert [of.client._posting.closed for of in deliveries._clients.values()] == [True]  # type: ignore[attr-defined]  # an Upstream


# --- leases and clocks ----------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [46.0, 3600.0])
async def test_nothing_is_sent_when_its_lease_may_end_on_the_way(
    queue: MerchantQueue, certificates: Certificates, seconds: float
) -> None:
    """A process that stood still, or a clock that was set: another worker has it by now."""
    async with serving(repeating(OK), certificates.server) as server:
        await queue.wait(await queue.endpoint(url_of(server)))
        async with worker(queue, certificates, keys=SlowKeys(queue, seconds)) as deliveries:
            await deliveries.turn()
            assert numbers(server) == []
            queue.store.clock.advance(seconds=LEASE.total_seconds())
            await drain(deliveries)
    assert numbers(server) == [1]


async def test_two_who_hold_one_lease_after_another_settle_it_once(queue: MerchantQueue) -> None:
    """The one that came late has failed: that undoes no success, and is no try."""
    delivery = await queue.wait(await queue.endpoint())
    (late,) = await queue.queue.claim(queue.now, 10, {})
    queue.store.clock.advance(seconds=LEASE.total_seconds())
    (other,) = await queue.queue.claim(queue.now, 10, {})
    await queue.queue.settle([Settled(other, "delivered", queue.now, 200)], queue.now)
    await queue.queue.settle([Settled(late, "dead", queue.now, 500, "status")], queue.now)
    found = await queue.table.delivery(queue.tenant, str(delivery))
    assert found is not None
    assert (found.state, found.tries, found.last_status) == ("delivered", 1, 200)


async def test_a_clock_that_is_set_back_delays_and_loses_nothing(
    queue: MerchantQueue, certificates: Certificates
) -> None:
    async with serving(scripted(reply(b"", status="500 No")), certificates.server) as server:
        delivery = await queue.wait(await queue.endpoint(url_of(server)))
        async with worker(queue, certificates) as deliveries:
            await drain(deliveries)
            queue.store.clock.advance(hours=-2)
            await drain(deliveries)
            assert numbers(server) == [1]
            queue.store.clock.advance(hours=2, seconds=5)
            await drain(deliveries)
    assert numbers(server) == [1, 1]
    assert await queue.state(delivery) == "delivered"


# --- what endpoints do ----------------------------------------------------------------------


async def test_a_reply_that_drips_is_cut_off(
    queue: MerchantQueue, certificates: Certificates
) -> None:
    """A byte now and then keeps nobody longer than silence; the status was there before."""

    async def dripping(connection: Connection) -> None:
        await connection.request()
        await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
        while True:
            await connection.say(b"x")
            await asyncio.sleep(0.05)

    async def dripping_head(connection: Connection) -> None:
        await connection.request()
        await connection.say(b"HTTP/1.1 200 OK\r\n")
        while True:
            await connection.say(b"x")
            await asyncio.sleep(0.05)

    async with (
        serving(dripping, certificates.server) as body,
        serving(dripping_head, certificates.server) as head,
    ):
        told = await queue.wait(await queue.endpoint(url_of(body)))
        untold = await queue.wait(await queue.endpoint(url_of(head)))
        async with worker(queue, certificates) as deliveries, asyncio.timeout(8):
            await drain(deliveries)
    assert [await queue.state(one) for one in (told, untold)] == ["delivered", "waiting"]


async def test_endless_interim_replies_are_no_answer(
    queue: MerchantQueue, certificates: Certificates
) -> None:
    async def interim(connection: Connection) -> None:
        await connection.request()
        while True:
            await connection.say(b"HTTP/1.1 103 Early\r\n\r\n")
            await asyncio.sleep(0.01)

    async with serving(interim, certificates.server) as server:
        delivery = await queue.wait(await queue.endpoint(url_of(server)))
        async with worker(queue, certificates) as deliveries, asyncio.timeout(8):
            await drain(deliveries)
    assert await queue.state(delivery) == "waiting"


async def test_clients_are_as_many_as_are_kept(
    queue: MerchantQueue, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A merchant who gives his endpoint a new URL all day long makes no client for each."""
    monkeypatch.setattr("gateway.deliveries.CLIENTS_MAX", 2)
    async with serving(repeating(OK), certificates.server) as server:
        endpoint = await queue.endpoint(url_of(server))
        async with worker(queue, certificates) as deliveries:
            for n in range(4):
                await queue.store.do(
                    "UPDATE webhook_endpoint SET url = $1", f"https://{NAME}:{server.port}/{n}"
                )
                await queue.wait(endpoint)
                await drain(deliveries)
            assert len(deliveries._clients) == 2
    assert len(numbers(server)) == 4


@settings(max_examples=500, deadline=None)
@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(st.sampled_from(DATES.split()), max_size=10).map(" ".join),
        st.integers().map(str),
    )
)
def test_whatever_retry_after_says_is_a_time_within_a_day(text: str) -> None:
    at = datetime.fromisoformat("2026-03-02T00:00:00+00:00")
    wait = retry_after((("retry-after", text),), at)
    assert timedelta(0) <= wait <= RETRY_AFTER_MAX


@pytest.mark.parametrize(
    "host",
    [
        *("127.1", "0x7f000001", "2130706433", "017700000001", "0", "localhost", "[::1]"),
        *("[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1%25eth0]"),
        *("169.254.169.254", "100.64.0.1", "a.test\\@b.test", "a.test:0", "①②⑦.0.0.1"),
    ],
)
@pytest.mark.guards("T-44")
def test_no_spelling_of_a_private_address_is_taken(host: str) -> None:
    with pytest.raises(UrlRefused):
        WebhookUrl.parse(f"https://{host}/")
