"""A tenant's doubts are its own: nobody else settles or sees them; one account may be two's."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.vault.doubtful import Court, court
from tests.vault.fake_node import FakeCluster, fake_cluster
from tests.vault.stores import Store
from tests.vault.test_reconciler import APPROVED, REQUEST
from vault.doubts import Resolved

pytestmark = [pytest.mark.embedded, pytest.mark.guards("F-23")]

OTHER = "t_other000"


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as made:
        yield made


@pytest.fixture
async def here(store: Store, cluster: FakeCluster, tmp_path: Path) -> AsyncIterator[Court]:
    async with court(store, cluster, tmp_path / "spool") as made:
        yield made
        assert (await store.report()).violations == ()


async def test_another_tenant_s_ending_is_not_shown(here: Court) -> None:
    intent = await here.in_doubt()
    assert await here.turn(days=8) == ["given_up"]
    assert await here.table.ended(here.tenant, intent.first) is not None
    assert await here.table.ended(OTHER, intent.first) is None
    assert await here.doubts.contradict(OTHER, intent.first, APPROVED) is Resolved.NOTHING


async def test_nothing_is_kept_in_another_tenant_s_name(here: Court) -> None:
    intent = await here.in_doubt()
    await here.doubts.keep(OTHER, intent.first, REQUEST, lifetime=timedelta(hours=1))
    assert await here.store.count("kept_request") == 0


async def test_what_is_kept_late_is_kept_no_longer(here: Court) -> None:
    intent = await here.in_doubt()
    here.store.clock.advance(minutes=30)
    await here.doubts.keep(here.tenant, intent.first, REQUEST, lifetime=timedelta(hours=1))
    kept_for = await here.store.value(
        "SELECT k.expires_at - a.created_at FROM kept_request k JOIN authorizations a USING (first)"
    )
    assert kept_for == timedelta(hours=1)


async def test_a_rival_may_be_another_tenant_s(here: Court) -> None:
    """Two tenants may have credentials of one account."""
    await here.in_doubt()
    (doubt,) = await here.table.open()
    await here.attempts(replace(await here.call(), tenant=OTHER))
    around = timedelta(minutes=5)
    assert await here.table.has_rival(
        doubt,
        ["payment_intents.create"],
        since=doubt.since - around,
        until=doubt.until + around,
    )
