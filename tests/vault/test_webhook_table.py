"""Endpoints and their queue: leases, order, pauses, and what is swept."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal
from uuid import uuid4

import pytest

from tests.vault.merchant_queue import MerchantQueue
from tests.vault.stores import Store
from vault.delivery_queue import FAILURES_MAX, LEASE, Claimed, Settled
from vault.webhook_table import DeliveryFilter

pytestmark = pytest.mark.embedded


@pytest.fixture
async def shop(store: Store) -> MerchantQueue:
    return await MerchantQueue(store).open()


async def claim(shop: MerchantQueue, limit: int = 100, **busy: int) -> Sequence[Claimed]:
    return await shop.queue.claim(shop.now, limit, busy)


async def settle(
    shop: MerchantQueue, outcome: Literal["delivered", "failed", "dead", "gone"], *claimed: Claimed
) -> None:
    due = shop.now + (timedelta(hours=1) if outcome == "failed" else timedelta(0))
    await shop.queue.settle([Settled(one, outcome, due) for one in claimed], shop.now)


async def test_what_is_claimed_is_nobody_else_s_until_its_lease_is_over(
    shop: MerchantQueue,
) -> None:
    delivery = await shop.wait(await shop.endpoint())
    (first,) = await claim(shop)
    assert (first.id, first.body, first.tries) == (delivery, b'{"n":1}', 0)
    assert await claim(shop) == []
    shop.store.clock.advance(seconds=LEASE.total_seconds())
    (again,) = await claim(shop)
    await settle(shop, "failed", first)  # it lost its lease: the word of the other counts
    assert await shop.store.value("SELECT tries FROM delivery") == 0
    await settle(shop, "delivered", again)
    await settle(shop, "delivered", again)
    assert await shop.store.value("SELECT tries FROM delivery") == 1
    assert await shop.state(delivery) == "delivered"


async def test_a_subject_s_next_waits_for_the_one_ahead_whatever_happens_to_it(
    shop: MerchantQueue,
) -> None:
    endpoint, subject = await shop.endpoint(), uuid4()
    first, second = [await shop.wait(endpoint, subject=subject) for _ in range(2)]
    other = await shop.wait(endpoint)
    taken = await claim(shop)
    assert [one.id for one in taken] == [first, other]
    await settle(shop, "delivered", taken[1])
    await settle(shop, "failed", taken[0])
    assert await claim(shop) == []
    shop.store.clock.advance(hours=1)
    (again,) = await claim(shop)
    assert again.id == first
    await settle(shop, "dead", again)
    assert [one.id for one in await claim(shop)] == [second]


async def test_an_endpoint_gets_no_more_at_once_than_it_takes_and_its_share(
    shop: MerchantQueue,
) -> None:
    greedy, modest = await shop.endpoint(concurrency=8), await shop.endpoint(concurrency=2)
    for _ in range(20):
        await shop.wait(greedy)
    await shop.wait(modest)
    by = [one.endpoint for one in await claim(shop, 6, **{greedy: 1})]
    assert by.count(greedy) == 3
    assert by.count(modest) == 1
    assert len(await claim(shop, 100, **{greedy: 5})) == 3
    assert await claim(shop, 100, **{greedy: 8}) == []


async def test_two_replicas_claim_each_once(shop: MerchantQueue) -> None:
    endpoint = await shop.endpoint(concurrency=32)
    for _ in range(10):
        await shop.wait(endpoint)
    async with shop.store.session() as other, other.transaction():
        await other.fetch("SELECT 1 FROM delivery ORDER BY idx LIMIT 4 FOR UPDATE")
        assert len(await claim(shop)) == 6  # what somebody is at is left to him, without waiting
    assert len(await claim(shop)) == 4
    assert await claim(shop) == []


async def test_ten_failures_pause_an_endpoint_and_one_probe_decides(shop: MerchantQueue) -> None:
    endpoint = await shop.endpoint(concurrency=32)
    waiting = [await shop.wait(endpoint) for _ in range(FAILURES_MAX + 20)]
    taken = await claim(shop, 32)
    await settle(shop, "failed", *taken[:20])
    shop.store.clock.advance(seconds=2)
    await settle(shop, "failed", *taken[20:])  # under way as it was paused
    pause = await shop.store.value("SELECT paused_until FROM webhook_endpoint")
    assert pause == shop.now + timedelta(seconds=28)
    assert await shop.store.value("SELECT failures FROM webhook_endpoint") == FAILURES_MAX
    shop.store.clock.advance(seconds=28)
    assert await claim(shop) == []  # nothing is due
    shop.store.clock.advance(hours=1)
    (probe,) = await claim(shop)
    assert await claim(shop) == []
    await settle(shop, "failed", probe)
    pause = await shop.store.value("SELECT paused_until FROM webhook_endpoint")
    assert pause == shop.now + timedelta(seconds=60)
    shop.store.clock.advance(seconds=60)
    (probe,) = await claim(shop)
    await settle(shop, "delivered", probe)
    rest = [one.id for one in await claim(shop)]  # also what was to be tried an hour from now
    assert sorted(rest) == sorted(set(waiting) - {probe.id})


async def test_one_that_is_gone_gets_what_waited_when_it_is_enabled(shop: MerchantQueue) -> None:
    endpoint = await shop.endpoint()
    await shop.wait(endpoint)
    (one,) = await claim(shop)
    await settle(shop, "gone", one)
    found = await shop.table.get(shop.tenant, endpoint)
    assert found is not None
    assert (found.state, found.disabled_because) == ("disabled", "gone")
    shop.store.clock.advance(days=4)
    assert await claim(shop) == []
    assert await shop.table.sweep(shop.now) == 0
    assert await shop.table.enable(shop.tenant, endpoint, shop.now)
    assert await shop.table.sweep(shop.now) == 0
    assert [again.id for again in await claim(shop)] == [one.id]


async def test_what_nobody_wants_for_a_month_is_dead_and_may_be_replayed(
    shop: MerchantQueue,
) -> None:
    endpoint = await shop.endpoint()
    delivery = await shop.wait(endpoint)
    shop.store.clock.advance(days=30, seconds=1)
    assert await shop.table.sweep(shop.now) == 0  # nobody has tried it yet
    await shop.table.disable(shop.tenant, endpoint, "merchant", shop.now)
    assert await shop.table.sweep(shop.now) == 1
    assert await shop.state(delivery) == "dead"
    assert not await shop.table.replay("t_other", str(delivery), shop.now)
    assert await shop.table.replay(shop.tenant, str(delivery), shop.now)
    assert not await shop.table.replay(shop.tenant, str(delivery), shop.now)
    await shop.table.enable(shop.tenant, endpoint, shop.now)
    (one,) = await claim(shop)
    await settle(shop, "delivered", one)
    shop.store.clock.advance(days=31)
    assert await shop.table.sweep(shop.now) == 2
    assert await shop.store.count("delivery") == await shop.store.count("event") == 0


async def test_what_stood_behind_one_that_is_dead_has_its_days_from_then_on(
    shop: MerchantQueue,
) -> None:
    """Also at an endpoint that fails all the while, where nothing is kept for ever."""
    endpoint, subject = await shop.endpoint(), uuid4()
    _, second, third = [await shop.wait(endpoint, subject=subject) for _ in range(3)]
    shop.store.clock.advance(days=20)
    (one,) = await claim(shop)
    await settle(shop, "dead", one)
    due = "SELECT due FROM delivery WHERE id = $1"
    assert await shop.store.value(due, second) == shop.now
    assert await shop.store.value(due, third) == shop.now - timedelta(days=20)
    await shop.store.do("UPDATE webhook_endpoint SET paused_until = $1", shop.now)
    shop.store.clock.advance(days=11)
    assert await shop.table.sweep(shop.now) == 1
    assert await shop.state(second) == "waiting"


async def test_lists_and_counts_are_a_tenant_s_own(shop: MerchantQueue) -> None:
    endpoint = await shop.endpoint()
    delivery = await shop.wait(endpoint)
    shop.store.clock.advance(seconds=9)
    listed = await shop.table.deliveries(shop.tenant, DeliveryFilter(endpoint), limit=5)
    assert [one.id for one in listed] == [str(delivery)]
    assert await shop.table.delivery(shop.tenant, str(delivery)) == listed[0]
    assert await shop.table.deliveries("t_other", DeliveryFilter(), limit=5) == []
    assert await shop.table.get("t_other", endpoint) is None
    counts = await shop.table.counts(shop.now)
    assert (counts.waiting, counts.overdue_seconds, counts.dead) == (1, 9.0, 0)
    assert await shop.table.remove(shop.tenant, endpoint, shop.now)
    assert await shop.state(delivery) == "dead"
    assert await shop.table.list(shop.tenant) == []
