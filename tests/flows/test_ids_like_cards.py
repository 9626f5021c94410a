"""A number in the place of an id: masked where it is a card of the tenant, else kept to the byte.

Ids of processors are numbers at times, and some look like cards by chance. Which are cards, the
tenant's own stored ones tell; over the real listeners, to what is kept and what a merchant gets.
"""

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from gateway.sandbox.adyen_callbacks import AdyenItem
from tests.cards import luhn_completed
from tests.flows.called_back import (
    SECRETS,
    CalledBackSeller,
    Counter,
    adyen_item,
    new_called_back_seller,
    stripe_event,
)
from tests.flows.deployment import Deployment, Store
from tests.flows.merchant import Merchant, new_idempotency_key
from tests.flows.merchants_side import new_hook, receiving, taken
from tests.flows.processor import ProcessorControl
from tests.flows.receiver import Receiver
from tests.flows.wire import Wire

pytestmark = pytest.mark.embedded


@pytest.fixture(scope="module")
def seller(deployment: Deployment) -> CalledBackSeller:
    return asyncio.run(new_called_back_seller(deployment))


@pytest.fixture
def counter(
    deployment: Deployment,
    seller: CalledBackSeller,
    wire: Wire,
    store: Store,
    processor: ProcessorControl,
) -> Counter:
    merchant = Merchant(seller.seller.account, deployment.urls, wire)
    return Counter(deployment, seller.seller, merchant, seller.paths, store, processor)


@pytest.fixture
def receiver(deployment: Deployment, tmp_path: Path) -> Iterator[Receiver]:
    with receiving(deployment, tmp_path) as started:
        yield started


def number_like_a_card() -> str:
    return luhn_completed("4929" + "".join(secrets.choice("0123456789") for _ in range(11)))


def item_of(reference: str) -> AdyenItem:
    return msgspec.structs.replace(adyen_item(new_idempotency_key()), psp_reference=reference)


async def kept(counter: Counter, number: str) -> tuple[bool, list[bytes]]:
    """Whether any row of the tenant's holds the number, and the bodies of the last post."""
    rows = await counter.store.fetch(
        "SELECT * FROM callback WHERE tenant = $1 ORDER BY idx DESC", counter.merchant.tenant
    )
    texts = [str(value) for row in rows for value in row.values()]
    return any(number in text for text in texts), [bytes(row["body"]) for row in rows]


async def test_a_card_of_the_tenant_is_masked_where_an_id_stands(
    counter: Counter, receiver: Receiver, tmp_path: Path
) -> None:
    number = number_like_a_card()
    await counter.merchant.token(number)
    hook = await new_hook(counter, receiver, "adyen")
    assert (await counter.post("adyen", item_of(number))).status == 200
    arrival = await hook.arrived()
    assert number.encode() not in arrival.body + arrival.head
    assert number[-4:].encode() in arrival.body
    is_there, bodies = await kept(counter, number)
    assert not is_there
    assert bodies[0].count(number[-4:].encode()) == 1
    posts = (arrival, hook.secret()), (arrival, SECRETS["adyen"])
    assert await taken(tmp_path, "adyen", *posts) == ["AUTHORISATION", None]


@pytest.mark.parametrize("whose", ["nobody's", "another tenant's"])
async def test_a_number_that_is_no_card_of_the_tenant_is_kept_to_the_byte(
    counter: Counter, receiver: Receiver, tmp_path: Path, whose: str
) -> None:
    number = number_like_a_card()
    if whose == "another tenant's":
        other = await new_called_back_seller(counter.deployment)
        stranger = Merchant(other.seller.account, counter.merchant.urls, counter.wire)
        await stranger.token(number)
    hook, item = await new_hook(counter, receiver, "adyen"), item_of(number)
    assert (await counter.post("adyen", item)).status == 200
    arrival = await hook.arrived()
    assert arrival.body == item.posted(SECRETS["adyen"], at=None).body  # type: ignore[arg-type]  # of no use
    posts = (arrival, SECRETS["adyen"])
    assert await taken(tmp_path, "adyen", posts) == ["AUTHORISATION"]
    is_there, bodies = await kept(counter, number)
    assert is_there
    assert bodies[0] == arrival.body


async def test_one_that_is_a_card_and_one_that_is_not_in_one_post(
    counter: Counter, receiver: Receiver
) -> None:
    """Each by itself; in free text a number is masked whoever's it is."""
    mine, ids, free = (number_like_a_card() for _ in range(3))
    await counter.merchant.token(mine)
    hook = await new_hook(counter, receiver, "stripe", signature="own")
    event = stripe_event(
        new_idempotency_key(), id=ids, payment_intent=mine, statement_descriptor=f"card {free}"
    )
    assert (await counter.post("stripe", event)).status == 200
    arrival = await hook.arrived()
    assert ids.encode() in arrival.body
    for number in (mine, free):
        assert number.encode() not in arrival.body
        assert number[-4:].encode() in arrival.body
        assert not (await kept(counter, number))[0]
