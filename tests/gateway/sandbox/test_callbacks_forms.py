"""What the simulated processors call back with: their own forms, and signatures that hold.

The signatures are checked by the published vectors and, for Stripe, by its official SDK: never by
the gateway's own code.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
import stripe

from gateway.sandbox import adyen_callbacks, checkout_com_callbacks, stripe_callbacks
from gateway.sandbox.adyen_callbacks import AdyenItem, Amount
from gateway.sandbox.callbacks import CallingProcessor
from gateway.sandbox.processor import Processor
from tests.cards import CHECKOUT_FUNDS, DECLINED
from tests.flows.receiver import Arrival, Receiver
from tests.gateway.sandbox.calling_shop import (
    ADYEN_SECRET,
    CHECKOUT_SECRET,
    STRIPE_SECRET,
    Shop,
    adyen_payment,
    checkout_payment,
    event_of,
    item_of,
    type_of,
)
from tests.gateway.sandbox.harness import NOW, bracketed, payment

DOCUMENTED = AdyenItem(
    amount=Amount(currency="EUR", value=1130),
    event_code="AUTHORISATION",
    event_date="2031-05-15T12:00:00+00:00",
    merchant_account_code="TestMerchant",
    merchant_reference="TestPayment-1407325143704",
    payment_method="visa",
    psp_reference="7914073381342284",
    success="true",
)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with Receiver.started(tmp_path) as started:
        yield started


@pytest.fixture
def shop(http: aiohttp.ClientSession, processor: Processor, receiver: Receiver) -> Shop:
    return Shop(http, processor, receiver)


# --- signatures ---------------------------------------------------------------------------


def test_stripes_signature() -> None:
    body = b'{\n  "id": "evt_test_webhook",\n  "object": "event"\n}'
    at = datetime.fromtimestamp(1_700_000_000, UTC)
    assert stripe_callbacks.signature("whsec_test_secret", body, at=at) == (
        "t=1700000000,v1=4f1cd7feda9826e746b7d482c4badebb657398df1099e1046364f6196a230150"
    )


def test_adyens_signature() -> None:
    expected = "coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0="
    assert adyen_callbacks.signature(ADYEN_SECRET, DOCUMENTED) == expected
    assert adyen_callbacks.signature(ADYEN_SECRET, DOCUMENTED.noting("other")) == expected


def test_checkout_coms_signature() -> None:
    body = b'{"id":"evt_1","type":"payment_approved"}'
    expected = "1bbda891aaeb357486412e6aff060857f6c994438ea7fa43a0d4f3c9497b909b"
    assert checkout_com_callbacks.signature(CHECKOUT_SECRET, body) == expected


@pytest.mark.parametrize("secret", ["", "00", "xy" * 32, "0" * 63])
def test_what_is_no_key_of_adyens(secret: str) -> None:
    with pytest.raises(ValueError, match="hexadecimal"):
        adyen_callbacks.key_of(secret)


# --- what is reported ---------------------------------------------------------------------


async def came(shop: Shop, of: CallingProcessor, *types: str) -> list[Arrival]:
    """Wait until these came, and check how each is signed."""
    await shop.processor.callbacks.settled()
    arrivals = sorted(shop.receiver.arrivals(f"/{of}"), key=lambda each: each.number)
    assert [type_of(each) for each in arrivals] == list(types)
    for arrival in arrivals:
        SIGNED[of](arrival)
    counts = shop.processor.callbacks.counts
    assert (counts.acknowledged, counts.faults, counts.given_up) == (len(types), 0, 0)
    return arrivals


def signed_by_stripe(arrival: Arrival) -> None:
    """As the official SDK sees it; at the simulated time, so that it is told no tolerance."""
    header = arrival.header("Stripe-Signature")
    event = stripe.Webhook.construct_event(arrival.body, header, STRIPE_SECRET, tolerance=None)  # type: ignore[arg-type]  # the SDK's
    assert event.id.startswith("evt_")
    assert header is not None
    assert f"t={int(NOW.timestamp())}," in header


def signed_by_adyen(arrival: Arrival) -> None:
    """As the manual says it, once more."""
    item = item_of(arrival)
    names = ("pspReference", "originalReference", "merchantAccountCode", "merchantReference")
    fields = [item.get(name, "") for name in names]
    fields += [str(item["amount"]["value"]), item["amount"]["currency"]]
    fields += [item["eventCode"], item["success"]]
    key = bytes.fromhex(ADYEN_SECRET)
    digest = hmac.new(key, ":".join(fields).encode(), hashlib.sha256).digest()
    assert item["additionalData"]["hmacSignature"] == base64.b64encode(digest).decode()


def signed_by_checkout_com(arrival: Arrival) -> None:
    expected = hmac.new(CHECKOUT_SECRET.encode(), arrival.body, hashlib.sha256).hexdigest()
    assert arrival.header("Cko-Signature") == expected


SIGNED = {
    "stripe": signed_by_stripe,
    "adyen": signed_by_adyen,
    "checkout_com": signed_by_checkout_com,
}


async def test_a_story_at_stripe(shop: Shop) -> None:
    shop.expects("stripe")
    manual = payment() | {"capture_method": "manual", "metadata[order_id]": "order-1"}
    id_ = await shop.pay("stripe", **manual)
    await shop.stripe(f"payment_intents/{id_}/capture", amount_to_capture="500")
    await shop.stripe("refunds", payment_intent=id_, amount="200")
    shop.processor.charge_back("stripe", id_)
    held, captured, refunded, disputed = [
        event_of(each)["data"]["object"]
        for each in await came(
            shop,
            "stripe",
            "payment_intent.amount_capturable_updated",
            "payment_intent.succeeded",
            "charge.refunded",
            "charge.dispute.created",
        )
    ]
    assert (held["id"], held["status"], held["amount"]) == (id_, "requires_capture", 1099)
    assert held["metadata"] == {"order_id": "order-1"}
    assert (captured["status"], captured["amount_received"]) == ("succeeded", 500)
    assert (refunded["payment_intent"], refunded["amount_refunded"]) == (id_, 200)
    assert (disputed["object"], disputed["payment_intent"]) == ("dispute", id_)
    assert disputed["amount"] == 500
    ids = {shown.id for shown in shop.processor.callbacks.recent}
    assert len(ids) == 4


async def test_other_ends_at_stripe(shop: Shop) -> None:
    shop.expects("stripe")
    declined = await shop.pay("stripe", **payment(DECLINED))
    canceled = await shop.pay("stripe", capture_method="manual")
    await shop.stripe(f"payment_intents/{canceled}/cancel")
    failed, _, ended = [
        event_of(each)["data"]["object"]
        for each in await came(
            shop,
            "stripe",
            "payment_intent.payment_failed",
            "payment_intent.amount_capturable_updated",
            "payment_intent.canceled",
        )
    ]
    assert (failed["id"], failed["last_payment_error"]["type"]) == (declined, "card_error")
    assert (ended["id"], ended["status"]) == (canceled, "canceled")


async def test_charges_of_the_older_api(shop: Shop) -> None:
    shop.expects("stripe")
    fields = {"amount": "100", "currency": "eur", "capture": "false"}
    charge = await shop.stripe("charges", **fields, **bracketed())
    await shop.stripe(f"charges/{charge['id']}/capture")
    await shop.stripe("charges", **fields, **bracketed(DECLINED))
    shop.processor.charge_back("stripe", charge["id"])
    types = ("charge.succeeded", "charge.captured", "charge.failed", "charge.dispute.created")
    arrivals = await came(shop, "stripe", *types)
    assert event_of(arrivals[1])["data"]["object"]["id"] == charge["id"]


async def test_a_story_at_adyen(shop: Shop) -> None:
    shop.expects("adyen", authorization="Basic c2hvcDpwYXNzd29yZA==")
    id_ = await shop.pay("adyen")
    amount = {"currency": "EUR", "value": 500}
    capture = await shop.adyen(f"/v72/payments/{id_}/captures", amount=amount, reference="c-1")
    refund = await shop.adyen(f"/v72/payments/{id_}/refunds", amount=amount)
    shop.processor.charge_back("adyen", id_)
    types = ("AUTHORISATION", "CAPTURE", "REFUND", "CHARGEBACK")
    arrivals = await came(shop, "adyen", *types)
    paid, captured, refunded, disputed = [item_of(each) for each in arrivals]
    assert (paid["pspReference"], paid["success"]) == (id_, "true")
    assert paid["amount"] == {"currency": "EUR", "value": 1099}
    assert (paid["merchantAccountCode"], paid["merchantReference"]) == ("ShopCOM", "order-1")
    assert (captured["pspReference"], captured["amount"]) == (capture["pspReference"], amount)
    assert captured["merchantReference"] == "c-1"
    assert refunded["pspReference"] == refund["pspReference"]
    assert {each["originalReference"] for each in (captured, refunded, disputed)} == {id_}
    headers = {each.header("Authorization") for each in arrivals}
    assert headers == {"Basic c2hvcDpwYXNzd29yZA=="}


async def test_other_ends_at_adyen(shop: Shop) -> None:
    shop.expects("adyen")
    id_ = await shop.pay("adyen", **adyen_payment("DECLINED"))
    await shop.pay("adyen", reference="order-2")
    classic = adyen_payment()
    classic["card"] = classic.pop("paymentMethod")
    at = "/pal/servlet/Payment/v68/"
    paid = await shop.adyen(at + "authorise", **classic)
    original = {"originalReference": paid["pspReference"]}
    amount = {"modificationAmount": classic["amount"]}
    await shop.adyen(at + "capture", **original, **amount)
    await shop.adyen(at + "cancel", **original)
    await shop.adyen(at + "refund", **original, **amount)
    await shop.adyen(at + "cancelOrRefund", **original)
    await shop.adyen("/v72/cancels", paymentReference="order-2")
    await shop.adyen("/v72/cancels", paymentReference="order-3")  # which is nobody's
    types = ("AUTHORISATION", "AUTHORISATION", "AUTHORISATION", "CAPTURE", "CANCELLATION")
    more = ("REFUND", "CANCEL_OR_REFUND", "TECHNICAL_CANCEL")
    arrivals = await came(shop, "adyen", *types, *more)
    declined = item_of(arrivals[0])
    assert (declined["pspReference"], declined["success"]) == (id_, "false")
    assert declined["reason"] == "Refused"


async def test_a_story_at_checkout_com(shop: Shop) -> None:
    shop.expects("checkout_com")
    paid = await shop.checkout("payments", **checkout_payment(), capture=False)
    id_ = paid["id"]
    capture = await shop.checkout(f"payments/{id_}/captures", amount=500)
    refund = await shop.checkout(f"payments/{id_}/refunds", amount=200, reference="r-1")
    shop.processor.charge_back("checkout_com", id_)
    await shop.pay("checkout_com", **checkout_payment(CHECKOUT_FUNDS))
    types = ("payment_approved", "payment_captured", "payment_refunded")
    arrivals = await came(shop, "checkout_com", *types, "dispute_received", "payment_declined")
    approved, captured, refunded, disputed, declined = [event_of(each)["data"] for each in arrivals]
    assert (approved["id"], approved["action_id"]) == (id_, paid["action_id"])
    assert (approved["reference"], approved["amount"]) == ("order-1", 1099)
    assert (captured["action_id"], captured["amount"]) == (capture["action_id"], 500)
    assert (refunded["action_id"], refunded["amount"]) == (refund["action_id"], 200)
    assert refunded["reference"] == "r-1"
    assert (disputed["payment_id"], disputed["amount"]) == (id_, 500)
    assert declined["response_code"] == "20051"


async def test_other_ends_at_checkout_com(shop: Shop) -> None:
    shop.expects("checkout_com")
    await shop.pay("checkout_com")
    await shop.pay("checkout_com", amount=0)
    held = await shop.pay("checkout_com", capture=False)
    await shop.checkout(f"payments/{held}/voids")
    types = ("payment_approved", "payment_captured", "card_verified", "payment_approved")
    await came(shop, "checkout_com", *types, "payment_voided")


@pytest.mark.parametrize("of", ["stripe", "adyen", "checkout_com"])
async def test_only_payments_can_be_disputed(shop: Shop, of: CallingProcessor) -> None:
    declined = {
        "stripe": payment(DECLINED),
        "adyen": adyen_payment("DECLINED"),
        "checkout_com": checkout_payment(CHECKOUT_FUNDS),
    }
    for id_ in (await shop.pay(of, **declined[of]), "nobodys"):
        with pytest.raises(LookupError):
            shop.processor.charge_back(of, id_)
