"""Posts whose signature does not fix their body: each goes with the first that came, for days."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from tests.vault.fake_node import FakeCluster, fake_cluster
from tests.vault.inboxes import OTHER, Inbox, opened_inbox
from tests.vault.stores import Store
from vault.transmission_table import TRANSMISSIONS_KEPT, TransmissionTable

pytestmark = [pytest.mark.embedded, pytest.mark.guards("T-52")]

ID = "69cd13f0-d67a-11e5-baa3-778b53f4ae55"
FIRST, ALTERED = (sha256(body).digest() for body in (b"genuine", b"altered"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as made:
        yield made


@pytest.fixture
async def here(store: Store, cluster: FakeCluster, tmp_path: Path) -> AsyncIterator[Inbox]:
    async with opened_inbox(store, cluster, tmp_path / "spool") as made:
        yield made


async def binds(
    here: Inbox, digest: bytes, *, tenant: str = "", route: str = "paypal", id_: str = ID
) -> bool:
    store = here.court.store
    table = TransmissionTable(store.database)
    at = store.clock.at
    return await table.binds(tenant or here.court.tenant, route, id_, digest, at)


async def test_a_transmission_goes_with_its_first_body_alone(here: Inbox) -> None:
    assert await binds(here, FIRST)
    assert await binds(here, FIRST)
    assert not await binds(here, ALTERED)
    assert await binds(here, FIRST)
    assert await binds(here, ALTERED, id_="another")
    assert await binds(here, ALTERED, route="paypal_2")
    assert await binds(here, ALTERED, tenant=OTHER)


async def test_of_many_at_once_one_body_wins(here: Inbox) -> None:
    digests = [FIRST, ALTERED] * 3
    told = await asyncio.gather(*(binds(here, digest) for digest in digests))
    assert sum(told) == 3
    assert {digest for digest, is_it in zip(digests, told, strict=True) if is_it} in (
        {FIRST},
        {ALTERED},
    )


async def test_it_is_remembered_for_longer_than_it_is_taken_and_then_cleared_away(
    here: Inbox,
) -> None:
    for at in range(15):
        assert await binds(here, FIRST, id_=f"old-{at}")
    here.court.store.clock.at += TRANSMISSIONS_KEPT
    assert not await binds(here, ALTERED, id_="old-0")
    here.court.store.clock.at += timedelta(seconds=1)
    for at in range(3):
        assert await binds(here, FIRST, id_=f"new-{at}")
    assert await here.court.store.value("SELECT count(*) FROM callback_transmission") == 3
