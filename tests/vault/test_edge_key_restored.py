"""Edge keys when HashiCorp Vault is restored from a snapshot, and when the ledger is away."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from tests.vault.edge_key_places import DAY, START, Places, edge_key_places
from tests.vault.stores import Store
from tests.vault.test_edge_key_rotation import CREATED, DESTROYED, recorded_of
from vault.embedded.bootstrap import EmbeddedParts
from vault.errors import LedgerUnavailable

pytestmark = pytest.mark.embedded


@pytest.fixture
async def places(embedded: EmbeddedParts) -> AsyncIterator[Places]:
    async with edge_key_places(embedded) as made:
        yield made


async def test_a_key_that_a_restored_snapshot_does_not_have_is_made_anew(
    places: Places, shared_store: Store
) -> None:
    login = places.maker()
    async with shared_store.replica() as replica:
        rotation = places.rotation(replica.ledger, login)
        assert await rotation.turn()
        login.hidden |= places.kids
        places.clock.at += timedelta(minutes=2)
        assert await rotation.turn()
    assert len(places.kids) == 2


async def test_a_key_that_a_restored_snapshot_brings_back_is_destroyed_again(
    places: Places, shared_store: Store
) -> None:
    """By the gateway that destroyed it before, though it does not start anew."""
    login = places.maker()
    async with shared_store.replica() as replica:
        rotation = places.rotation(replica.ledger, login)
        await rotation.turn()
        for _ in range(5):
            places.clock.at += DAY
            await rotation.turn()
        assert not await rotation.turn()
        before = len(login.destroyed)
        assert login.destroyed.count(min(places.kids)) > 1
        assert not await rotation.turn(), "only when a new key was made"
        assert len(login.destroyed) == before
    assert await recorded_of(shared_store, min(places.kids)) == [CREATED, DESTROYED]


async def test_where_no_key_can_be_used_a_new_one_is_made_soon(
    places: Places, shared_store: Store
) -> None:
    """As when the newest was destroyed by hand: that it is listed says nothing."""
    gateway = places.gateway()
    async with shared_store.replica() as replica:
        rotation = places.rotation(replica.ledger)
        await rotation.turn()
        (lost,) = places.kids
        await places.reveal.destroy_secret(f"edge/{lost}", [1])
        for minute in range(8):
            places.clock.at = START + timedelta(minutes=minute)
            await gateway.refresh()
            await rotation.turn(usable=bool(gateway.published()))
    (made,) = gateway.published()
    assert places.kids == {lost, made.kid}, "one, and not one a turn"


async def test_a_key_that_is_over_is_destroyed_while_the_ledger_is_away(
    places: Places, shared_store: Store
) -> None:
    async with shared_store.replica() as replica:
        await places.rotation(replica.ledger).turn()
    (old,) = places.kids
    places.clock.at += 2 * DAY
    with pytest.raises(LedgerUnavailable):
        await places.rotation(replica.ledger).turn()
    assert await places.tokenize.read_secret(f"edge/{old}") is None
    async with shared_store.replica() as replica:
        assert await places.rotation(replica.ledger).turn()
    assert await recorded_of(shared_store, old) == [CREATED, DESTROYED]
