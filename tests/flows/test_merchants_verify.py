"""The official SDKs' own checks take what a merchant receives, scrubbed or not, and nothing else.

The simulated processor calls back over the public listener, the gateway posts to a real receiver,
and the SDK that a merchant would use reads the bytes and headers as they came.
"""

import asyncio
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from gateway.sandbox.callbacks import Callback
from tests.cards import VISA
from tests.flows.called_back import (
    SECRETS,
    CalledBackSeller,
    Counter,
    adyen_item,
    new_called_back_seller,
    stripe_event,
)
from tests.flows.deployment import Deployment, Store
from tests.flows.leaks import first_leak
from tests.flows.merchant import Merchant, new_idempotency_key
from tests.flows.merchants_side import Hook, new_hook, receiving, taken
from tests.flows.processor import ProcessorControl
from tests.flows.receiver import Arrival, Receiver, in_turn, ok
from tests.flows.wire import Wire

pytestmark = [pytest.mark.embedded, pytest.mark.guards("T-52")]

TYPES = {"stripe": "payment_intent.succeeded", "adyen": "AUTHORISATION"}
NOTE = f"paid with {VISA[:4]} {VISA[4:8]} {VISA[8:12]} {VISA[12:]}"


@pytest.fixture(scope="module")
def seller(deployment: Deployment) -> Iterator[CalledBackSeller]:
    yield asyncio.run(new_called_back_seller(deployment))
    for processor in TYPES:
        deployment.processor.do("call_back_no_more", processor=processor)


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


def event_of(route: str) -> Callback:
    reference = new_idempotency_key()
    return stripe_event(reference) if route == "stripe" else adyen_item(reference)


async def came(hook: Hook, route: str, event: Callback, times: int = 1) -> Any:  # noqa: ANN401
    """Post it in the processor's name, and give what the merchant got."""
    assert (await hook.counter.post(route, event)).status == 200
    return await hook.arrived(times)


@pytest.mark.parametrize("route", TYPES)
async def test_what_was_not_scrubbed_has_the_processor_s_own_signature(
    counter: Counter, receiver: Receiver, tmp_path: Path, route: str
) -> None:
    """The bytes are the processor's. Where several signatures may stand, ours is beside it."""
    hook, event = await new_hook(counter, receiver, route), event_of(route)
    arrival = await came(hook, route, event)
    theirs, ours, nobody = SECRETS[route], hook.secret(), SECRETS[route][:-2] + "00"
    verdicts = await taken(tmp_path, route, (arrival, theirs), (arrival, ours), (arrival, nobody))
    with_ours = TYPES[route] if route == "stripe" else None
    assert verdicts == [TYPES[route], with_ours, None]
    if route == "stripe":
        assert arrival.body == event._body()  # type: ignore[attr-defined]  # a StripeEvent
    assert arrival.header("webhook-id").startswith("cb_")


@pytest.mark.parametrize("signature", ["original", "own"])
@pytest.mark.parametrize("route", TYPES)
async def test_what_was_scrubbed_is_taken_with_the_merchant_s_secret(
    counter: Counter, receiver: Receiver, tmp_path: Path, route: str, signature: str
) -> None:
    hook = await new_hook(counter, receiver, route, signature=signature)
    arrival = await came(hook, route, event_of(route).noting(NOTE))
    assert first_leak(arrival.body) is None
    assert VISA[-4:].encode() in arrival.body
    verdicts = await taken(tmp_path, route, (arrival, hook.secret()), (arrival, SECRETS[route]))
    assert verdicts == [TYPES[route], None]


@pytest.mark.parametrize("route", TYPES)
async def test_by_its_own_secret_alone_if_the_merchant_wants_it(
    counter: Counter, receiver: Receiver, tmp_path: Path, route: str
) -> None:
    hook = await new_hook(counter, receiver, route, signature="own")
    arrival = await came(hook, route, event_of(route))
    verdicts = await taken(tmp_path, route, (arrival, hook.secret()), (arrival, SECRETS[route]))
    assert verdicts == [TYPES[route], None]


FOLLOWS_SECONDS = 90.0  # another gateway of the deployment may deliver: it has secrets for a minute


@pytest.mark.parametrize("route", TYPES)
async def test_a_secret_is_rotated_without_a_gap(
    counter: Counter, receiver: Receiver, tmp_path: Path, route: str
) -> None:
    """Stripe's posts hold both signatures meanwhile; of Adyen's one, the newer secret's."""
    hook = await new_hook(counter, receiver, route, signature="own")
    first = await came(hook, route, event_of(route))
    await hook.add_secret()
    old, new = hook.secret(0), hook.secret(1)

    async def verdicts(arrival: Arrival) -> list[bool]:
        posts = ((arrival, old), (arrival, new))
        return [one is not None for one in await taken(tmp_path, route, *posts)]

    async def until(wanted: list[bool], event: Callable[[], Callback]) -> None:
        async with asyncio.timeout(FOLLOWS_SECONDS):
            while await verdicts(await came(hook, route, event(), next(times))) != wanted:  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(1)

    times = count(2)
    assert await verdicts(first) == [True, False]
    await until([route == "stripe", True], lambda: event_of(route).noting(NOTE))
    await hook.remove_secret(0)
    await until([False, True], lambda: event_of(route))


async def test_a_later_try_is_signed_anew(
    counter: Counter, receiver: Receiver, tmp_path: Path
) -> None:
    """Of a processor's simulator itself, on the whole way: the first answer was a failure."""
    hook = await new_hook(counter, receiver, "stripe", signature="own")
    receiver.script(hook.path, in_turn(ok(500), ok()))
    counter.call_back("stripe", counter.merchant.urls)
    counter.processor.do("plant_in_next_callback", text=NOTE)
    await counter.pay(new_idempotency_key())
    last = await hook.arrived(2)
    counter.processor.do("call_back_no_more", processor="stripe")
    first = receiver.arrivals(hook.path)[0]
    assert first.header("stripe-signature") != last.header("stripe-signature")
    assert first.header("webhook-id") == last.header("webhook-id")
    posts = [(first, hook.secret()), (last, hook.secret())]
    assert await taken(tmp_path, "stripe", *posts) == [TYPES["stripe"]] * 2
