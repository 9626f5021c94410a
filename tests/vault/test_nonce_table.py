"""Nonces of sealed cards: used once, by one tenant, on whichever replica, until their end."""

import asyncio
import secrets
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.vault.ledger.test_store import appending, together
from tests.vault.rows import create, delete, new_cvc, new_fingerprint, new_row, new_tenant, now
from tests.vault.stores import Store
from vault.errors import SealedReplayed, TokenUnknown
from vault.nonce_table import KEPT_AFTER, NONCE_BYTES, SWEEP_ROWS_MAX, Nonce, NonceTable
from vault.token_table import TokenExists, TokenTable

pytestmark = pytest.mark.embedded


def nonce(tenant: str, *, value: bytes | None = None, minutes: int = 5) -> Nonce:
    ends = now() + timedelta(minutes=minutes)
    return Nonce(tenant, value or secrets.token_bytes(NONCE_BYTES), ends)


async def tokens_of(store: Store, tenant: str) -> int:
    rows = await store.rows("SELECT count(*) AS n FROM token WHERE tenant = $1", tenant)
    return int(rows[0]["n"])


@pytest.mark.guards("T-77")
async def test_of_one_box_sent_often_to_two_replicas_there_is_one_token(store: Store) -> None:
    tenant = new_tenant()
    once = nonce(tenant)
    units = [replace(create(new_row(tenant)), nonce=once) for _ in range(20)]
    async with store.replica() as one, store.replica() as other:
        tasks = appending(one.ledger, *units[::2]) + appending(other.ledger, *units[1::2])
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    refused = [each for each in ended if isinstance(each, BaseException)]
    assert len(refused) == len(units) - 1
    assert {type(each) for each in refused} == {SealedReplayed}
    assert await tokens_of(store, tenant) == 1


async def test_each_tenant_has_its_own(store: Store) -> None:
    one, other = new_tenant(), new_tenant()
    value = secrets.token_bytes(NONCE_BYTES)
    units = [
        replace(create(new_row(tenant)), nonce=nonce(tenant, value=value))
        for tenant in (one, other)
    ]
    async with store.replica() as replica:
        await asyncio.gather(*appending(replica.ledger, *units))
    assert [await tokens_of(store, tenant) for tenant in (one, other)] == [1, 1]


async def test_what_is_refused_for_another_reason_uses_nothing_up(store: Store) -> None:
    tenant = new_tenant()
    taken = new_row(tenant)
    once = nonce(tenant)
    async with store.replica() as replica:
        first = replace(create(replace(taken, reusable=True)), nonce=nonce(tenant))
        await asyncio.gather(*appending(replica.ledger, first))
        again = replace(
            create(replace(new_row(tenant), reusable=True)),
            fingerprint=first.fingerprint,
            nonce=once,
        )
        ended = await asyncio.gather(*appending(replica.ledger, again), return_exceptions=True)
        assert type(ended[0]).__name__ == "TokenExists"
        unit = replace(create(new_row(tenant)), nonce=once)
        await asyncio.gather(*appending(replica.ledger, unit))
    assert await tokens_of(store, tenant) == 2


async def test_nobody_gets_the_token_that_a_replayed_box_did_not_become(store: Store) -> None:
    """The first of a batch is refused for its nonce: the next with its card has a token made."""
    tenant = new_tenant()
    once, fresh = nonce(tenant), nonce(tenant)
    card = new_fingerprint()
    reusable = [create(new_row(tenant, reusable=True), card) for _ in range(5)]
    with_nonces = zip(reusable, (once, once, fresh, fresh, None), strict=True)
    units = [replace(unit, nonce=each) for unit, each in with_nonces]
    async with store.replica() as replica:
        await asyncio.gather(*appending(replica.ledger, replace(reusable[0], nonce=once)))
        await asyncio.gather(*appending(replica.ledger, delete(reusable[0].row)))
        ended = await together(store, replica, *units)
    names = [type(each).__name__ for each in ended]
    assert names == ["SealedReplayed", "SealedReplayed", "list", "TokenExists", "TokenExists"]
    known = {each.row.id for each in ended if isinstance(each, TokenExists)}
    assert known == {units[2].row.id}
    assert await tokens_of(store, tenant) == 1


@pytest.mark.guards("T-77")
async def test_a_sealed_code_is_attached_once(store: Store) -> None:
    row = new_row(new_tenant())
    async with store.replica() as replica:
        await asyncio.gather(*appending(replica.ledger, create(row)))
    table = TokenTable(store.database)
    try:
        once = nonce(row.tenant)
        assert await table.attach_cvc(row, new_cvc(), once)
        with pytest.raises(SealedReplayed):
            await table.attach_cvc(row, new_cvc(), once)
        assert await table.attach_cvc(row, None, nonce(row.tenant))
    finally:
        await table.close()


async def test_one_is_forgotten_when_its_time_is_up_and_not_before(store: Store) -> None:
    tenant = new_tenant()
    short, long = nonce(tenant, minutes=1), nonce(tenant, minutes=10)
    units = [replace(create(new_row(tenant)), nonce=each) for each in (short, long)]
    async with store.replica() as replica:
        await asyncio.gather(*appending(replica.ledger, *units))
    assert await NonceTable(store.database).sweep(short.ends + KEPT_AFTER) == 1
    left = await store.rows("SELECT nonce FROM sealed_nonce WHERE tenant = $1", tenant)
    assert [bytes(each["nonce"]) for each in left] == [long.value]


async def test_a_busy_hour_is_forgotten_in_one_sweep(store: Store) -> None:
    """A sweep comes twice a minute, and sealed cards by hundreds a second."""
    tenant, many = new_tenant(), 2 * SWEEP_ROWS_MAX + 1
    await store.rows(
        "INSERT INTO sealed_nonce (tenant, nonce, ends)"
        " SELECT $1, decode(lpad(to_hex(n), 32, '0'), 'hex'), $2"
        " FROM generate_series(1, $3::int) n",
        *(tenant, now(), many),
    )
    assert await NonceTable(store.database).sweep(now() + KEPT_AFTER) == many


@pytest.mark.guards("T-77")
async def test_a_gateway_whose_clock_is_ahead_forgets_none_that_another_still_accepts(
    store: Store,
) -> None:
    """Nor one whose box was looked at in time, and comes here when its time is up."""
    tenant = new_tenant()
    once = nonce(tenant)
    first, again = (replace(create(new_row(tenant)), nonce=once) for _ in range(2))
    async with store.replica() as replica:
        await asyncio.gather(*appending(replica.ledger, first))
        await NonceTable(store.database).sweep(once.ends + timedelta(minutes=5))
        ended = await asyncio.gather(*appending(replica.ledger, again), return_exceptions=True)
    assert isinstance(ended[0], SealedReplayed)


async def test_where_a_card_came_from_is_forgotten_after_a_day(store: Store) -> None:
    tenant = new_tenant()
    young, old = (
        replace(
            new_row(tenant), made_from="192.0.2.0/24", created_at=now() - timedelta(hours=hours)
        )
        for hours in (23, 25)
    )
    async with store.replica() as replica:
        await asyncio.gather(*appending(replica.ledger, create(young), create(old)))
    table = TokenTable(store.database)
    try:
        assert await table.forget_networks(now() - timedelta(hours=24)) >= 1
        loaded = [await table.load(tenant, row.id) for row in (young, old)]
    finally:
        await table.close()
    assert [row.made_from for row in loaded if row] == ["192.0.2.0/24", None]


async def test_a_code_is_kept_for_no_token_that_is_gone(store: Store) -> None:
    row = new_row(new_tenant())
    table = TokenTable(store.database)
    try:
        with pytest.raises(TokenUnknown):
            await table.attach_cvc(row, new_cvc(), nonce(row.tenant))
    finally:
        await table.close()


@pytest.mark.guards("T-77")
async def test_a_box_that_gave_a_code_makes_no_token(store: Store) -> None:
    row = new_row(new_tenant())
    once = nonce(row.tenant)
    table = TokenTable(store.database)
    async with store.replica() as replica:
        await asyncio.gather(*appending(replica.ledger, create(row)))
        try:
            assert await table.attach_cvc(row, None, once)
        finally:
            await table.close()
        unit = replace(create(new_row(row.tenant)), nonce=once)
        (ended,) = await asyncio.gather(*appending(replica.ledger, unit), return_exceptions=True)
    assert type(ended) is SealedReplayed
