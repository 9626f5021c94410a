"""What a gateway that is started again finds out by itself about a payment that it died of.

It asks the processor, where that can be asked: what was never received may be made, what was
carried out is told as it was. Nothing is sent for it, and the record says how it is known.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.crash.paying import HELD_CHARGED, Paying
from tests.crash.stage import Place, Stage, Witness, wire_to
from tests.flows.deployment import Store
from tests.flows.merchant import JSON, Merchant, new_idempotency_key
from tests.flows.reconciling import looked_into
from tests.flows.seller import Seller, new_seller
from tests.flows.wire import Reply
from vault.ledger.entry import AuthorizationResolved

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.guards("F-23", "F-40"),
    pytest.mark.timeout(300),
]

NEVER_LEFT = ("S2", "S3", "S4")
ARRIVED = (HELD_CHARGED, "S6")


@pytest.fixture(scope="module")
def doomed(stage: Stage) -> Iterator[Place]:
    with stage.placed("asking") as place:
        yield place


@pytest.fixture(scope="module")
def seller(stage: Stage) -> Seller:
    return asyncio.run(new_seller(stage.deployment))


class Till(Paying):
    """A seller at a processor that can be asked by the merchant's own reference."""

    seller: Seller
    reference: str

    async def checkout(self, key: str | None) -> Reply:
        _ = self.place.gateway
        source = {"type": "card", "number": self.token, "expiry_month": 12, "expiry_year": 2034}
        price = {"amount": 1099, "currency": "EUR", "reference": self.reference}
        body = {"source": source | {"cvv": self.token}} | price
        login = self.seller.key.logins["checkout"]["api_key"]
        headers = {"Authorization": f"Bearer {login}", "Content-Type": JSON}
        if key is not None:
            headers["Cko-Idempotency-Key"] = key
        url = f"{self.merchant.urls.private}/out/checkout_com/payments"
        return await self.merchant.wire("POST", url, json.dumps(body).encode(), headers=headers)

    async def how(self) -> tuple[str, str, str]:
        """How it was resolved: method, finding and result."""
        entry = (await self.witness.entries())[-1]
        assert isinstance(entry, AuthorizationResolved)
        assert entry.actor.id == "reconciler"
        return entry.method, entry.finding, entry.result


@pytest.fixture
async def till(stage: Stage, doomed: Place, seller: Seller, store: Store) -> AsyncIterator[Till]:
    _ = doomed.gateway
    async with wire_to(stage.deployment.client_context()) as wire:
        merchant = Merchant(seller.account, doomed.urls, wire)
        token = await merchant.token()
        before = stage.deployment.processor.counts
        witness = Witness(stage.deployment, store, seller.account.tenant, before)
        till = Till(stage, doomed, merchant, witness, token)
        till.seller, till.reference = seller, new_idempotency_key()
        yield till
    stage.deployment.processor.behave()


async def first(store: Store, token: str) -> str:
    """The first attempt of the one payment with this token."""
    found = await store.fetchval(
        "SELECT first FROM authorizations WHERE tokens @> ARRAY[$1]", token
    )
    return str(found)


@pytest.mark.parametrize(
    "case",
    [case if case == "S3" else pytest.param(case, marks=pytest.mark.long) for case in NEVER_LEFT],
)
@pytest.mark.parametrize("with_key", [True, False])
async def test_one_that_never_left_is_not_received(
    till: Till, store: Store, case: str, *, with_key: bool
) -> None:
    key = new_idempotency_key() if with_key else None
    await till.die_of(case, lambda: till.checkout(key))
    _ = till.place.gateway
    assert await looked_into(store, await first(store, till.token)) == "error"
    assert await till.how() == ("inquiry", "not_received", "error")
    assert (await till.witness.left()).charges == 0
    if with_key:
        made = await till.checkout(key)
        assert (made.status, made.headers["Panward-State"]) == (201, "completed")
        assert (await till.witness.left()).charges == 1


@pytest.mark.parametrize(
    "case",
    [case if case == "S6" else pytest.param(case, marks=pytest.mark.long) for case in ARRIVED],
)
@pytest.mark.parametrize("with_key", [True, False])
async def test_one_that_was_carried_out_is_found(
    till: Till, store: Store, case: str, *, with_key: bool
) -> None:
    key = new_idempotency_key() if with_key else None
    await till.die_of(case, lambda: till.checkout(key))
    till.processor.behave()
    _ = till.place.gateway
    assert await looked_into(store, await first(store, till.token)) == "approved"
    assert await till.how() == ("inquiry", "answered", "approved")
    assert (await till.witness.left()).charges == 1
    assert (await till.on_record())["processor_reference"]
    if with_key:
        before = till.processor.counts
        again = await till.checkout(key)
        assert (again.status, again.headers["Idempotent-Replayed"]) == (201, "true")
        assert till.processor.counts.charges == before.charges
