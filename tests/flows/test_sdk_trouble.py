"""What SDKs hear when something goes wrong: each its own error, and never a second charge."""

import asyncio
from dataclasses import replace
from typing import Final

import pytest

from tests.cards import VISA_ALT
from tests.flows.conftest import Witness
from tests.flows.deployment import Store
from tests.flows.dialect import No
from tests.flows.dialects import DIALECTS
from tests.flows.merchant import Merchant, new_idempotency_key
from tests.flows.processor import ProcessorControl
from tests.flows.sdk_story import CODE_IS_STORED, Story, each_way
from tests.flows.sdks import Desk, SdkWay

pytestmark = pytest.mark.embedded

SILENT: Final = No(None, None, None)
"""What Authorize.Net's SDK makes of everything but a document: nothing."""
OWN_KEY: Final = "Panward-Idempotency-Key"
REPLAYED: Final = ("checkout", "stripe")
"""Where the preset says that the processor still knows the key."""
OUR_KEYS: Final = ("braintree", "cybersource")
"""Where the processor knows none: the header is ours alone."""


def went_wrong(story: Story, code: str, status: int) -> No:
    """How an SDK tells that something went wrong on the way."""
    return SILENT if story.sdk == "authorizenet" else story.dialect.no(code, status)


def keyed(way: SdkWay, key: str) -> SdkWay:
    """Give a way that says our idempotency key, where the processor has none."""
    if way.sdk.name not in OUR_KEYS:
        return way
    return replace(way, target=replace(way.target, headers={OWN_KEY: key}))


@pytest.mark.parametrize("sdk", DIALECTS)
@pytest.mark.guards("F-22")
async def test_a_processor_that_is_too_slow(
    desk: Desk, till: Merchant, sdk: str, processor: ProcessorControl, store: Store
) -> None:
    story = Story(till, sdk, desk.by_base(sdk, "_quick"), kind="_quick")
    token, step = await story.payment()
    processor.do("delay", seconds=1.5)
    reply = await story.do(step)
    assert story.dialect.told(reply) == went_wrong(story, "upstream_timeout", 504)
    assert reply.requests == 1
    record = await story.record(token)
    assert (record["state"], record["result"]) == ("unknown", None)
    assert await store.fetchval(CODE_IS_STORED, token) == 0  # it may have been used


@each_way
@pytest.mark.guards("F-21")
async def test_a_fault_of_the_processors(
    story: Story, processor: ProcessorControl, store: Store
) -> None:
    """Its own answer, as it is; whether it charged, nobody knows. The next one is as usual."""
    token, step = await story.payment()
    processor.do("fail_next", status=500)
    reply = await story.do(step)
    assert story.dialect.told(reply).error == went_wrong(story, "", 500).error
    assert reply.status in {500, None}
    assert reply.requests == 1
    record = await story.record(token)
    assert (record["state"], record["result"]) == ("unknown", None)
    assert await store.fetchval(CODE_IS_STORED, token) == 0
    _, step = await story.payment()
    assert story.dialect.word(await story.do(step)) == story.dialect.words["approved"]


@each_way
@pytest.mark.guards("F-24")
async def test_an_answer_that_was_lost(story: Story, processor: ProcessorControl) -> None:
    """Charged once: a repeat finds the first answer, or is not made."""
    key = new_idempotency_key()
    token, step = await story.payment()
    again = story.by(keyed(story.way, key))
    before = processor.counts
    processor.do("lose_next_answer")
    lost = await again.do(step, key=key)
    assert story.dialect.told(lost) == went_wrong(story, "upstream_reset", 502)
    assert (await story.record(token))["state"] == "unknown"
    if story.sdk == "authorizenet":
        return
    repeated = await again.do(step, key=key)
    if story.sdk in REPLAYED:
        assert story.dialect.word(repeated) == story.dialect.words["approved"]
        record = await story.record(token)
        assert (record["state"], record["result"]) == ("completed", "approved")
        attempts = [each["state"] for each in record["attempts"]]
        assert attempts == ["resolved", "completed"]
        assert processor.counts.replays == before.replays + 1
    else:
        assert story.dialect.told(repeated) == went_wrong(story, "outcome_unknown", 502)
        assert processor.counts.requests == before.requests + 1
    assert processor.counts.charges == before.charges + 1


@each_way
@pytest.mark.guards("F-24")
async def test_a_repeat_where_the_sdk_has_no_place_for_a_key(
    story: Story, processor: ProcessorControl
) -> None:
    """Authorize.Net itself takes the same charge, a moment later, for a mistake."""
    if story.sdk != "authorizenet":
        return
    (_, first), (_, number) = await story.payment(), await story.card()
    card = {"creditCard": {"cardNumber": number, "expirationDate": "2034-12", "cardCode": "000"}}
    before = processor.counts
    processor.do("lose_next_answer")
    await story.do(first)
    again = await story.do(first.with_field("transactionRequest.payment", card))
    assert story.dialect.word(again) == "3"
    assert processor.counts.charges == before.charges + 1
    assert (await story.record())["result"] == "error"


@pytest.mark.parametrize("sdk", [sdk for sdk in DIALECTS if sdk != "authorizenet"])
@pytest.mark.parametrize("mode", ["base", "proxy"])
@pytest.mark.guards("T-26")
async def test_a_key_that_was_used_for_something_else(
    story: Story, processor: ProcessorControl
) -> None:
    key = new_idempotency_key()
    story = story.by(keyed(story.way, key))
    _, number = await story.card()
    first, other = (story.dialect.pay(story.bill(number)) for _ in range(2))
    assert (await story.do(first, key=key)).error is None
    before = processor.counts
    refused = await story.do(other, key=key)
    assert story.dialect.told(refused) == story.dialect.no("idempotency_key_reused", 422)
    assert refused.requests == 1
    same = await story.do(first, key=key)
    assert story.dialect.word(same) == story.dialect.words["approved"]
    assert processor.counts == before


@pytest.mark.parametrize("sdk", [sdk for sdk in DIALECTS if sdk != "authorizenet"])
@pytest.mark.guards("T-26")
async def test_a_repeat_while_the_first_is_under_way(
    desk: Desk, till: Merchant, sdk: str, processor: ProcessorControl
) -> None:
    """From another process of the merchant's, and through the proxy: one claim, however it came."""
    key = new_idempotency_key()
    story = Story(till, sdk, keyed(desk.by_base(sdk), key))
    other = story.by(keyed(desk.second(sdk), key))
    _, step = await story.payment()
    before = processor.counts
    processor.do("hold")
    first = asyncio.create_task(story.do(step, key=key))
    await asyncio.to_thread(processor.until_held, before)
    refused = await other.do(step, key=key)
    assert other.dialect.told(refused) == other.dialect.no("idempotency_key_in_flight", 409)
    processor.do("release")
    assert story.dialect.word(await first) == story.dialect.words["approved"]
    again = await other.do(step, key=key)
    assert other.dialect.word(again) == other.dialect.words["approved"]
    assert processor.counts.requests == before.requests + 1
    assert processor.numbers[-1] == VISA_ALT


# --- who calls ----------------------------------------------------------------------------


@pytest.mark.parametrize("sdk", DIALECTS)
async def test_a_key_that_is_not_good_for_the_route(
    desk: Desk, till: Merchant, sdk: str, nothing_happens: Witness
) -> None:
    """Wrong, revoked, or without the route's scope."""
    usual = desk.by_base(sdk)
    _, step = await Story(till, sdk, usual).payment()
    wrong = {name: text[:-2] + "22" for name, text in usual.target.keys.items()}
    if sdk == "cybersource":
        wrong = {**usual.target.keys, "secret": "A" * 43 + "="}
    async with nothing_happens():
        for keys, code, status in (
            (wrong, "not_authenticated" if sdk != "cybersource" else "signature_refused", 401),
            (desk.revoked.logins[sdk], "not_authenticated", 401),
            (desk.unscoped.logins[sdk], "not_permitted", 403),
        ):
            story = Story(till, sdk, desk.by_base(sdk, keys=keys))
            reply = await story.do(step)
            assert story.dialect.told(reply) == story.dialect.no(code, status)
            assert reply.requests == 1


REFUSED_TUNNEL: Final = {
    "adyen": "ProxyError",
    "authorizenet": None,
    "braintree": "ProxyError",
    "checkout": "CheckoutException",
    "cybersource": "MaxRetryError",
    "stripe": "APIConnectionError",
}
"""What each SDK makes of a 407 or 403 to its CONNECT."""


@pytest.mark.parametrize("sdk", REFUSED_TUNNEL)
async def test_no_tunnel_for_a_key_that_is_not_good_for_the_route(
    desk: Desk, till: Merchant, sdk: str, nothing_happens: Witness
) -> None:
    usual = desk.by_proxy(sdk)
    _, step = await Story(till, sdk, usual).payment()
    async with nothing_happens():
        for key in (desk.seller.key.text[:-2] + "22", desk.revoked.text, desk.unscoped.text):
            story = Story(till, sdk, desk.by_proxy(sdk, key=key))
            reply = await story.do(step)
            assert (reply.error, reply.object) == (REFUSED_TUNNEL[sdk], None)
