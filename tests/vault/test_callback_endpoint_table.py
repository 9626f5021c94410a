"""Callback endpoints and notices, as PostgreSQL keeps them."""

import asyncio
import re
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.vault.rows import new_tenant, now
from tests.vault.stores import Store
from vault import callback_endpoint_table
from vault.callback_endpoint_table import CallbackEndpoint, CallbackEndpointTable
from vault.errors import StoreUnavailable
from vault.tenant_table import Tenant, TenantTable

pytestmark = pytest.mark.embedded

HOUR = timedelta(hours=1)
AT = now()


@pytest.fixture
def table(shared_store: Store) -> CallbackEndpointTable:
    return CallbackEndpointTable(shared_store.database)


@pytest.fixture
async def tenant(shared_store: Store) -> str:
    made = new_tenant()
    await TenantTable(shared_store.database).add(Tenant(made, f"shop-{made[-8:].lower()}", AT))
    return made


@pytest.fixture
async def endpoint(table: CallbackEndpointTable, tenant: str) -> CallbackEndpoint:
    made = await table.add_endpoint(tenant, "stripe", "stripe", at=AT)
    assert made is not None
    return made


async def test_an_endpoint_is_found_by_its_id_and_nothing_else(
    table: CallbackEndpointTable, endpoint: CallbackEndpoint, tenant: str
) -> None:
    assert re.fullmatch("cbe_[0-9a-hjkmnp-tv-z]{32}", endpoint.id)
    assert (endpoint.tenant, endpoint.route, endpoint.scheme) == (tenant, "stripe", "stripe")
    assert (endpoint.created_at, endpoint.ends_at) == (AT, None)
    assert await table.endpoint(endpoint.id, AT) == endpoint
    for other in (endpoint.id[:-1], endpoint.id.upper(), endpoint.id + "\0", ""):
        assert await table.endpoint(other, AT) is None
    assert list(await table.endpoints(tenant)) == [endpoint]
    assert endpoint in await table.endpoints()


@pytest.mark.parametrize("odd", ["\0", "\udcff", "cbe_\ud800", "x" * 10_000_000])
async def test_what_is_no_id_harms_nobody_who_asks_at_the_same_time(
    table: CallbackEndpointTable, endpoint: CallbackEndpoint, odd: str
) -> None:
    asked = [table.endpoint(each, AT) for each in (endpoint.id, odd, endpoint.id)]
    assert await asyncio.gather(*asked) == [endpoint, None, endpoint]


async def test_one_that_is_replaced_goes_on_until_the_overlap_is_over(
    table: CallbackEndpointTable, endpoint: CallbackEndpoint, tenant: str
) -> None:
    made = await table.rotate_endpoint(endpoint.id, 72 * HOUR, at=AT + HOUR)
    assert made is not None
    assert made == replace(endpoint, id=made.id, created_at=AT + HOUR)
    assert made.id != endpoint.id
    assert await table.endpoint(made.id, AT + 1000 * HOUR) == made
    until = AT + 73 * HOUR
    old = replace(endpoint, ends_at=until)
    assert await table.endpoint(endpoint.id, until - timedelta(seconds=1)) == old
    assert await table.endpoint(endpoint.id, until) is None
    assert list(await table.endpoints(tenant)) == [old, made]


async def test_who_rotates_twice_gets_one_successor(
    table: CallbackEndpointTable, endpoint: CallbackEndpoint, tenant: str
) -> None:
    made = await asyncio.gather(
        *(table.rotate_endpoint(endpoint.id, HOUR, at=AT) for _ in range(8))
    )
    assert sum(one is not None for one in made) == 1
    assert len(await table.endpoints(tenant)) == 2


async def test_one_that_ended_stays_ended(
    table: CallbackEndpointTable, endpoint: CallbackEndpoint
) -> None:
    made = await table.rotate_endpoint(endpoint.id, 72 * HOUR, at=AT)
    assert made is not None
    for ending in (endpoint.id, made.id):  # in an overlap too
        assert await table.end_endpoint(ending, at=AT + HOUR)
        assert await table.endpoint(ending, AT + HOUR) is None
        assert not await table.end_endpoint(ending, at=AT + 2 * HOUR)
        assert await table.rotate_endpoint(ending, HOUR, at=AT + 2 * HOUR) is None
    assert not await table.end_endpoint("cbe_", at=AT)


async def test_another_tenant_s_endpoint_is_out_of_reach(
    table: CallbackEndpointTable, endpoint: CallbackEndpoint
) -> None:
    other = new_tenant()
    assert await table.rotate_endpoint(endpoint.id, HOUR, at=AT, tenant=other) is None
    assert not await table.end_endpoint(endpoint.id, at=AT, tenant=other)
    assert await table.endpoints(other) == []
    assert await table.endpoint(endpoint.id, AT) == endpoint
    assert await table.end_endpoint(endpoint.id, at=AT, tenant=endpoint.tenant)


async def test_a_tenant_has_only_so_many_in_force(
    table: CallbackEndpointTable,
    endpoint: CallbackEndpoint,
    tenant: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(callback_endpoint_table, "ENDPOINTS_MAX", 2)
    assert await table.add_endpoint(tenant, "adyen", "adyen_item", at=AT) is not None
    assert await table.add_endpoint(tenant, "adyen", "adyen_item", at=AT) is None
    await table.end_endpoint(endpoint.id, at=AT)
    assert await table.add_endpoint(tenant, "adyen", "adyen_item", at=AT) is not None


async def test_a_tenant_that_does_not_exist_has_none(table: CallbackEndpointTable) -> None:
    with pytest.raises(StoreUnavailable):
        await table.add_endpoint(new_tenant(), "stripe", "stripe", at=AT)


# --- notices --------------------------------------------------------------------------------


async def test_however_often_it_is_said_it_is_asked_once(
    table: CallbackEndpointTable, endpoint: CallbackEndpoint, shared_store: Store
) -> None:
    for n in range(5):
        assert await table.notice(endpoint, "tr_1", AT + n * HOUR)
    (row,) = await shared_store.rows(
        "SELECT * FROM callback_notice WHERE endpoint = $1", endpoint.id
    )
    assert (row["due"], row["received_at"], row["tries"]) == (AT, AT + 4 * HOUR, 0)
    claims = await asyncio.gather(*(table.claim_notices(AT + 5 * HOUR, 100) for _ in range(4)))
    (claimed,) = [one for claim in claims for one in claim if one.endpoint == endpoint.id]
    assert (claimed.tenant, claimed.route, claimed.reference, claimed.tries) == (
        endpoint.tenant,
        "stripe",
        "tr_1",
        1,
    )
    await table.settle_notice(claimed, again=None)
    assert await of(table, endpoint, AT + 9 * HOUR) == []


async def of(table: CallbackEndpointTable, endpoint: CallbackEndpoint, at: object) -> list[str]:
    claimed = await table.claim_notices(at, 1000)  # type: ignore[arg-type]
    return [one.reference for one in claimed if one.endpoint == endpoint.id]


async def test_one_whose_claimant_died_or_that_was_put_off_is_due_again(
    table: CallbackEndpointTable, endpoint: CallbackEndpoint
) -> None:
    await table.notice(endpoint, "tr_1", AT)
    claimed = [one for one in await table.claim_notices(AT, 1000) if one.endpoint == endpoint.id]
    assert await of(table, endpoint, AT + timedelta(seconds=59)) == []
    assert await of(table, endpoint, AT + timedelta(seconds=60)) == ["tr_1"]
    await table.settle_notice(claimed[0], again=AT + HOUR)
    assert await of(table, endpoint, AT + HOUR - timedelta(seconds=1)) == []
    assert await of(table, endpoint, AT + HOUR) == ["tr_1"]


async def test_news_that_come_while_it_is_asked_are_not_lost(
    table: CallbackEndpointTable, endpoint: CallbackEndpoint
) -> None:
    await table.notice(endpoint, "tr_1", AT)
    claimed = [one for one in await table.claim_notices(AT, 1000) if one.endpoint == endpoint.id]
    await table.notice(endpoint, "tr_1", AT + timedelta(seconds=1))
    await table.settle_notice(claimed[0], again=None)
    await table.settle_notice(claimed[0], again=AT + HOUR)
    assert await of(table, endpoint, AT + timedelta(seconds=1)) == ["tr_1"]


async def test_an_endpoint_has_only_so_many_notices(
    table: CallbackEndpointTable, endpoint: CallbackEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callback_endpoint_table, "NOTICES_MAX", 2)
    kept = [await table.notice(endpoint, f"tr_{n}", AT) for n in (1, 2, 3)]
    assert kept == [True, True, False]
    assert await table.notice(endpoint, "tr_2", AT + HOUR)  # one that is there already
    assert sorted(await of(table, endpoint, AT + HOUR)) == ["tr_1", "tr_2"]


async def test_a_tenant_has_only_so_many_notices(
    table: CallbackEndpointTable,
    endpoint: CallbackEndpoint,
    tenant: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(callback_endpoint_table, "NOTICES_OF_TENANT_MAX", 2)
    other = await table.add_endpoint(tenant, "stripe", "stripe", at=AT)
    assert other is not None
    assert await table.notice(endpoint, "tr_1", AT)
    assert await table.notice(other, "tr_1", AT)
    assert not await table.notice(other, "tr_2", AT)
    assert await table.notice(other, "tr_1", AT + HOUR)  # one that is there already
    assert await of(table, endpoint, AT + HOUR) == ["tr_1"]


@pytest.mark.guards("T-44")
async def test_a_flood_at_one_endpoint_holds_up_no_other(
    table: CallbackEndpointTable, endpoint: CallbackEndpoint, tenant: str
) -> None:
    early = AT - 1000 * HOUR  # before whatever else is due in this store
    for n in range(40):
        assert await table.notice(endpoint, f"tr_{n}", early)
    other = await table.add_endpoint(tenant, "stripe", "stripe", at=AT)
    assert other is not None
    assert await table.notice(other, "tr_late", early + HOUR)
    claimed = await table.claim_notices(early + HOUR, 2)
    assert [one.endpoint for one in claimed] == [endpoint.id, other.id]
    claimed = await table.claim_notices(early + HOUR, 1000)
    assert len(claimed) == callback_endpoint_table.NOTICES_AT_ONCE


async def test_one_that_is_said_again_has_all_its_tries(
    table: CallbackEndpointTable, endpoint: CallbackEndpoint
) -> None:
    await table.notice(endpoint, "tr_1", AT)
    for hours in range(3):
        assert await of(table, endpoint, AT + hours * HOUR) == ["tr_1"]
    await table.notice(endpoint, "tr_1", AT + 4 * HOUR)
    claimed = await table.claim_notices(AT + 4 * HOUR, 1000)
    assert [one.tries for one in claimed if one.endpoint == endpoint.id] == [1]
