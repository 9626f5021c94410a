"""What processors' posts say, by the presets: posts in the form that each of them sends."""

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import preset
from gateway.callback_events import (
    ALONE_TIMES_MAX,
    ITEMS_MAX,
    CallbackEvent,
    read_events,
    read_notice,
    unreadable,
)
from gateway.callback_rules import problems_of_callbacks
from gateway.errors import Malformed
from gateway.preset_callbacks import CallbackEffect, CallbackEvents
from gateway.preset_conditions import Condition
from vault.payment_events import Effect

NO_HEADERS: tuple[tuple[str, str], ...] = ()
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
PRESETS = {name: preset.load(name) for name in preset.names()}


@dataclass(frozen=True)
class Named:
    name: str


def rules_of(name: str) -> CallbackEvents:
    rules = PRESETS[name].callbacks
    assert rules is not None
    return rules


def read(name: str, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> CallbackEvent:
    rules = rules_of(name)
    (event,) = read_events(rules, Named(rules.schemes[0]), headers, body)
    return event


def said(event: CallbackEvent) -> tuple[object, ...]:
    """Give what an event speaks of."""
    return (
        event.action_reference,
        event.payment_reference,
        event.merchant_reference,
        event.amount,
        event.currency,
    )


def post(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=False, indent=1).encode()


# --- Stripe -------------------------------------------------------------------------------


def stripe(type_: str, **fields: object) -> bytes:
    return post(
        {
            "id": "evt_1QabcDEF",
            "object": "event",
            "created": int(NOON.timestamp()),
            "data": {"object": fields},
            "type": type_,
        }
    )


INTENT: Mapping[str, Any] = {
    "id": "pi_3Q",
    "object": "payment_intent",
    "amount": 1999,
    "currency": "eur",
    "metadata": {"order_id": "order 7"},
}
CHARGE: Mapping[str, Any] = {**INTENT, "id": "ch_3Q", "payment_intent": "pi_3Q"}
REFUND = {"id": "re_3Q", "payment_intent": "pi_3Q", "charge": "ch_3Q", "amount": 500}
DECLINE = {"type": "card_error", "code": "card_declined", "decline_code": "insufficient_funds"}


def test_stripe_says_of_which_payment_it_speaks() -> None:
    event = read("stripe", stripe("payment_intent.succeeded", **INTENT))
    assert (event.event_id, event.type, event.at) == (
        "evt_1QabcDEF",
        "payment_intent.succeeded",
        NOON,
    )
    assert said(event) == ("pi_3Q", "pi_3Q", "order 7", 1999, "EUR")
    assert said(read("stripe", stripe("charge.refunded", **CHARGE)))[:2] == ("ch_3Q", "pi_3Q")
    assert said(read("stripe", stripe("refund.created", **REFUND)))[:2] == ("re_3Q", "pi_3Q")
    declined = read(
        "stripe", stripe("payment_intent.payment_failed", **INTENT, last_payment_error=DECLINE)
    )
    assert (declined.effect, declined.decline_code) == (Effect.DECLINED, "insufficient_funds")


@pytest.mark.parametrize(
    ("type_", "fields", "effect"),
    [
        ("payment_intent.succeeded", INTENT, Effect.CAPTURED),
        (
            "payment_intent.amount_capturable_updated",
            {**INTENT, "status": "requires_capture"},
            Effect.APPROVED,
        ),
        ("payment_intent.payment_failed", INTENT, None),  # not an issuer's word
        ("payment_intent.canceled", INTENT, Effect.VOIDED),
        ("payment_intent.created", INTENT, None),
        ("setup_intent.succeeded", {"id": "seti_1"}, Effect.APPROVED),
        ("charge.succeeded", {**CHARGE, "captured": False}, Effect.APPROVED),
        ("charge.succeeded", {**CHARGE, "captured": True}, Effect.CAPTURED),
        ("charge.failed", CHARGE, Effect.DECLINED),
        ("charge.refunded", CHARGE, Effect.REFUNDED),
        ("refund.created", {**REFUND, "status": "pending"}, None),
        ("refund.updated", {**REFUND, "status": "succeeded"}, Effect.REFUNDED),
        ("charge.refund.updated", {**REFUND, "status": "failed"}, Effect.REFUND_FAILED),
        ("refund.failed", REFUND, Effect.REFUND_FAILED),
        ("charge.dispute.created", {"id": "dp_1"}, Effect.DISPUTE_OPENED),
        ("charge.dispute.funds_withdrawn", {"id": "dp_1"}, Effect.CHARGEBACK),
        ("charge.dispute.funds_reinstated", {"id": "dp_1"}, Effect.CHARGEBACK_REVERSED),
        ("customer.created", {"id": "cus_1"}, None),
    ],
)
def test_stripe_s_types_mean(
    type_: str, fields: Mapping[str, object], effect: Effect | None
) -> None:
    assert read("stripe", stripe(type_, **fields)).effect is effect


def test_a_thin_event_of_stripe_is_one() -> None:
    event = read(
        "stripe",
        post(
            {
                "id": "evt_test_65",
                "object": "v2.core.event",
                "type": "v1.billing.meter.no_meter_found",
                "created": "2026-11-22T12:00:00.000Z",
                "related_object": {"id": "mtr_1"},
            }
        ),
    )
    assert (event.at, event.action_reference, event.effect) == (NOON, "mtr_1", None)


# --- Adyen: items -------------------------------------------------------------------------


def item(code: str, psp: str, *, success: str = "true", **more: object) -> dict[str, object]:
    return {
        "NotificationRequestItem": {
            "additionalData": {"hmacSignature": f"signature of {psp}="},
            "amount": {"currency": "EUR", "value": 1130},
            "eventCode": code,
            "eventDate": "2026-11-22T13:00:00+01:00",
            "merchantAccountCode": "TestMerchant",
            "merchantReference": "TestPayment-1407325143704",
            "pspReference": psp,
            "reason": "1234:7777:12/2012",
            "success": success,
            **more,
        }
    }


def batch(*items: object, **more: object) -> bytes:
    return post({"live": "false", "notificationItems": list(items), **more})


def read_batch(body: bytes) -> tuple[CallbackEvent, ...]:
    return read_events(rules_of("adyen"), Named("adyen_item"), NO_HEADERS, body)


@pytest.mark.parametrize(
    ("code", "success", "effect"),
    [
        ("AUTHORISATION", "true", Effect.APPROVED),
        ("AUTHORISATION", "false", Effect.DECLINED),
        ("CAPTURE", "true", Effect.CAPTURED),
        ("CAPTURE", "false", Effect.CAPTURE_FAILED),
        ("CAPTURE_FAILED", "true", Effect.CAPTURE_FAILED),
        ("CANCELLATION", "true", Effect.VOIDED),
        ("REFUND", "true", Effect.REFUNDED),
        ("REFUND", "false", Effect.REFUND_FAILED),
        ("REFUND_FAILED", "true", Effect.REFUND_FAILED),
        ("NOTIFICATION_OF_CHARGEBACK", "true", Effect.DISPUTE_OPENED),
        ("CHARGEBACK", "true", Effect.CHARGEBACK),
        ("CHARGEBACK_REVERSED", "true", Effect.CHARGEBACK_REVERSED),
        ("CANCEL_OR_REFUND", "true", None),
        ("REPORT_AVAILABLE", "true", None),
    ],
)
def test_adyen_s_codes_mean(code: str, success: str, effect: Effect | None) -> None:
    (event,) = read_batch(batch(item(code, "7914073381342284", success=success)))
    assert (event.effect, event.type, event.at) == (effect, code, NOON)
    assert event.event_id == f"{code}:7914073381342284:{success}"
    assert event.decline_code is None  # `reason` is not signed


def test_one_item_is_the_post_as_it_came() -> None:
    body = batch(item("CAPTURE", "B", originalReference="A"))
    (event,) = read_batch(body)
    assert event.body is body
    assert said(event) == ("B", "A", "TestPayment-1407325143704", 1130, "EUR")


def test_each_of_several_items_is_a_post_with_its_own_bytes() -> None:
    first = b'{ "NotificationRequestItem":{"eventCode":"AUTHORISATION","pspReference":"A\\u0041",'
    first += b'"success":"true","amount":{"value":1.0e1},"additionalData":{"hmacSignature":"1="}}}'
    second = b'{"NotificationRequestItem" : {"eventCode":"REFUND","pspReference":"B",'
    second += b'"success":"false","additionalData":{"hmacSignature":"2=","empty":{}} } }'
    before, behind = b'\xef\xbb\xbf{ "live" : "false",\r\n "notificationItems": ', b', "x":[{}] }\n'
    events = read_batch(before + b"[" + first + b" ,\n" + second + b" ]" + behind)
    assert [event.event_id for event in events] == ["AUTHORISATION:AA:true", "REFUND:B:false"]
    assert [event.body for event in events] == [
        before + b"[" + each + b"]" + behind for each in (first, second)
    ]
    for event in events:
        (again,) = read_batch(event.body)
        assert again == event


def test_what_stands_in_a_post_twice_is_once_in_it() -> None:
    one, other = item("CAPTURE", "A"), item("CAPTURE", "B")
    events = read_batch(batch(one, other, one, item("CAPTURE", "A", reason="again")))
    assert [event.event_id for event in events] == ["CAPTURE:A:true", "CAPTURE:B:true"]


def test_a_list_that_stands_in_a_post_twice_is_refused() -> None:
    items = b"[" + post(item("CAPTURE", "A")) + b"," + post(item("CAPTURE", "B")) + b"]"
    with pytest.raises(Malformed):
        read_batch(b'{"notificationItems":' + items + b',"notificationItems":' + items + b"}")
    earlier = b'{"other":' + items + b',"notificationItems":' + items + b"}"
    with pytest.raises(Malformed):
        read_batch(earlier)


@pytest.mark.parametrize(
    "body",
    [
        batch(),
        batch({}),
        batch(["x"]),
        batch({"NotificationRequestItem": "x"}),
        batch(*[item("CAPTURE", str(number)) for number in range(ITEMS_MAX + 1)]),
        post({"notificationItems": {"a": 1}}),
        post([item("CAPTURE", "A")]),
        b"",
        b"\xff",
        b'{"a":1}{"b":2}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_post_of_items_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        read_batch(body)


def test_as_many_items_as_are_allowed_are_read() -> None:
    items = [item("CAPTURE", str(number)) for number in range(ITEMS_MAX)]
    events = read_batch(batch(*items))
    assert [json.loads(event.body)["notificationItems"] for event in events] == [
        [each] for each in items
    ]


@pytest.mark.guards("T-44")
@pytest.mark.parametrize("count", [3, 10, ITEMS_MAX])
def test_what_stands_around_the_items_is_not_kept_once_for_each(count: int) -> None:
    items = [item("CAPTURE", str(number)) for number in range(count)]
    of_items = len(batch(*items))
    with pytest.raises(Malformed):
        read_batch(batch(*items, junk="x" * of_items * 3))
    events = read_batch(batch(*items, junk="x" * (of_items // count // 2)))
    assert sum(len(event.body) for event in events) <= ALONE_TIMES_MAX * of_items * 2


@given(count=st.integers(1, 30), around=st.integers(0, 20_000), inside=st.integers(0, 500))
def test_all_events_together_are_bounded_by_their_post(
    count: int, around: int, inside: int
) -> None:
    items = [item("CAPTURE", str(number), note="y" * inside) for number in range(count)]
    body = batch(*items, junk="x" * around)
    try:
        events = read_batch(body)
    except Malformed:
        assert around > 100 + inside
        return
    assert len(events) == count
    assert sum(len(event.body) for event in events) <= ALONE_TIMES_MAX * len(body)


def test_a_post_of_adyen_s_other_form_is_one_event() -> None:
    body = post({"type": "merchant.created", "createdAt": "2026-11-22T12:00:00Z", "data": {}})
    (event,) = read_events(rules_of("adyen"), Named("adyen_header"), NO_HEADERS, body)
    assert event.event_id == f"sha256:{sha256(body).hexdigest()}"
    assert (event.type, event.at, event.effect) == ("merchant.created", NOON, None)


# --- the others ---------------------------------------------------------------------------


def test_checkout_com() -> None:
    document = {
        "id": "evt_az5sblvku4ge3dwpztvyizgcau",
        "type": "payment_declined",
        "created_on": "2026-11-22T12:00:00Z",
        "data": {
            "id": "pay_1",
            "action_id": "act_1",
            "amount": 6540,
            "currency": "GBP",
            "reference": "ORD-1",
            "response_code": "20051",
        },
    }
    event = read("checkout_com", post(document))
    assert (event.effect, event.decline_code, event.at) == (Effect.DECLINED, "20051", NOON)
    assert said(event) == ("act_1", "pay_1", "ORD-1", 6540, "GBP")


BRAINTREE = """<?xml version="1.0" encoding="UTF-8"?>
<notification>
  <timestamp type="datetime">2026-11-22T12:00:00Z</timestamp>
  <kind>{kind}</kind>
  <subject><transaction><id>abc123</id><type>{type}</type><amount>19.90</amount>
    <currency-iso-code>EUR</currency-iso-code><order-id>order-7</order-id>
    <refunded-transaction-id nil="true"/><processor-response-code>2001</processor-response-code>
  </transaction></subject>
</notification>"""


def braintree(kind: str, type_: str = "sale") -> tuple[str, bytes]:
    payload = b64encode(BRAINTREE.format(kind=kind, type=type_).encode()).decode()
    wrapped = "\n".join(payload[at : at + 60] for at in range(0, len(payload), 60)) + "\n"
    return wrapped, urlencode({"bt_signature": "pub|hex", "bt_payload": wrapped}).encode()


def test_braintree() -> None:
    payload, body = braintree("transaction_settlement_declined")
    event = read("braintree", body)
    assert event.event_id == f"sha256:{sha256(''.join(payload.split()).encode()).hexdigest()}"
    assert (event.effect, event.at, event.decline_code) == (Effect.LATE_DECLINE, NOON, "2001")
    assert said(event) == ("abc123", None, "order-7", 1990, "EUR")
    assert event.body is body
    assert read("braintree", braintree("transaction_settled")[1]).effect is Effect.CAPTURED
    credited = read("braintree", braintree("transaction_settled", "credit")[1])
    assert credited.effect is Effect.REFUNDED
    assert read("braintree", braintree("check")[1]).effect is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"bt_signature=x",
        b"bt_payload=",
        b"bt_payload=%21",
        b"bt_payload=PGEvPg&bt_payload=PGEvPg==",
        b"bt_payload=" + b64encode(b"{}"),
        b"bt_payload=%C3%A9",
    ],
)
def test_what_is_no_form_of_braintree_s_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        read("braintree", body)


WPG = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE paymentService PUBLIC "-//WorldPay//DTD WorldPay PaymentService v1//EN"
 "http://dtd.worldpay.com/paymentService_v1.dtd">
<paymentService version="1.4" merchantCode="M"><notify><orderStatusEvent orderCode="order:1">
<payment><paymentMethod>VISA-SSL</paymentMethod>
<amount value="1000" currencyCode="GBP" exponent="2" debitCreditIndicator="credit"/>
<lastEvent>REFUNDED</lastEvent><ISO8583ReturnCode code="5" description="REFUSED"/></payment>
<journal journalType="{type}" sent="n">{date}
<accountTx accountType="IN_PROCESS"><amount value="400" currencyCode="GBP"/></accountTx></journal>
</orderStatusEvent></notify></paymentService>"""
BOOKED = '<bookingDate><date dayOfMonth="22" month="11" year="2026"/></bookingDate>'


def test_worldpay_wpg() -> None:
    event = read("worldpay_wpg", WPG.format(type="REFUNDED", date=BOOKED).encode())
    assert event.event_id == "order%3A1:REFUNDED:2026:11:22:400"
    assert (event.type, event.effect, event.at) == ("REFUNDED", Effect.REFUNDED, None)
    assert said(event) == ("order:1", None, "order:1", 1000, "GBP")
    undated = WPG.format(type="AUTHORISED", date="").encode()
    authorized = read("worldpay_wpg", undated)
    assert authorized.event_id == f"sha256:{sha256(undated).hexdigest()}"
    assert authorized.effect is Effect.APPROVED


def test_authorize_net() -> None:
    document = {
        "notificationId": "d0e8e7fe-c3e7-4add-a480-27bc5ce28a18",
        "eventType": "net.authorize.payment.authcapture.created",
        "eventDate": "2026-11-22T12:00:00.0000001Z",
        "payload": {"responseCode": 1, "authAmount": 45.0, "id": "2154067319"},
    }
    event = read("authorize_net", post(document))
    assert (event.effect, event.at, event.amount) == (Effect.CAPTURED, NOON, None)
    assert event.action_reference == "2154067319"
    document["payload"] = {"responseCode": 2, "id": "2154067319"}
    assert read("authorize_net", post(document)).effect is Effect.DECLINED


def test_paypal_tells_a_payment_s_decline_from_a_capture_s() -> None:
    resource: dict[str, Any] = {
        "id": "27M47624FP291604U",
        "custom_id": "order-7",
        "amount": {"currency_code": "JPY", "value": "900"},
        "supplementary_data": {"related_ids": {"order_id": "5O1"}},
    }
    document = {
        "id": "WH-1",
        "create_time": "2026-11-22T12:00:00.000Z",
        "event_type": "PAYMENT.CAPTURE.DENIED",
        "resource": resource,
    }
    event = read("paypal", post(document))
    assert (event.event_id, event.effect, event.at) == ("WH-1", Effect.DECLINED, NOON)
    assert said(event) == ("27M47624FP291604U", "5O1", "order-7", 900, "JPY")
    resource["supplementary_data"]["related_ids"]["authorization_id"] = "AUTH"
    event = read("paypal", post(document))
    assert (event.effect, event.payment_reference) == (Effect.CAPTURE_FAILED, "AUTH")


def test_razorpay_s_id_is_in_a_header_and_not_believed() -> None:
    """It is not signed: a post could be sent again under any other."""
    payment = {"id": "pay_1", "amount": 1000000, "currency": "INR", "order_id": "order_1"}
    refund = {"id": "rfnd_1", "payment_id": "pay_1", "amount": 5000, "currency": "INR"}
    document: dict[str, Any] = {
        "event": "refund.processed",
        "created_at": int(NOON.timestamp()),
        "payload": {"payment": {"entity": payment}, "refund": {"entity": refund}},
    }
    body = post(document)
    event = read("razorpay", body, (("X-Razorpay-Event-Id", "ev_1"),))
    assert (event.effect, event.at) == (Effect.REFUNDED, NOON)
    assert said(event) == ("rfnd_1", "pay_1", "order_1", 5000, "INR")
    assert event.event_id == f"sha256:{sha256(body).hexdigest()}"
    assert read("razorpay", body, NO_HEADERS) == event


def test_square() -> None:
    payment = {
        "id": "KkAk",
        "status": "COMPLETED",
        "amount_money": {"amount": 100, "currency": "USD"},
    }
    document = {
        "type": "payment.updated",
        "event_id": "13b867cf-db3d-4b1c-90b6-2f32a9d78124",
        "created_at": "2026-11-22T12:00:00.037339943Z",
        "data": {"type": "payment", "object": {"payment": payment}},
    }
    event = read("square", post(document))
    assert event.effect is Effect.CAPTURED
    assert event.at == NOON.replace(microsecond=37339)
    assert said(event) == ("KkAk", "KkAk", None, 100, "USD")


def test_a_refund_of_square_names_its_payment() -> None:
    refund = {
        "id": "KkAk_rVZ",
        "payment_id": "KkAk",
        "status": "COMPLETED",
        "amount_money": {"amount": 40, "currency": "USD"},
    }
    document = {
        "type": "refund.updated",
        "event_id": "bc316346-6691-4243-88ed-6d651a0d0c47",
        "created_at": "2026-11-22T12:00:00Z",
        "data": {"type": "refund", "object": {"refund": refund}},
    }
    event = read("square", post(document))
    assert event.effect is Effect.REFUNDED
    assert said(event) == ("KkAk_rVZ", "KkAk", None, 40, "USD")


def test_worldpay_access() -> None:
    details = {
        "type": "refused",
        "transactionReference": "order-7",
        "amount": {"value": 250, "currencyCode": "GBP"},
    }
    document = {
        "eventId": "6c6f7ad6",
        "eventTimestamp": "2026-11-22T12:00:00",
        "eventDetails": details,
    }
    event = read("worldpay_access", post(document))
    assert (event.event_id, event.effect, event.at) == ("6c6f7ad6", Effect.DECLINED, NOON)
    assert said(event) == (None, None, "order-7", 250, "GBP")


def test_cybersource_s_events_are_kept_without_effect() -> None:
    body = post({"webhookId": "w", "eventType": "payments.x", "eventDate": "2026-11-22T12:00:00Z"})
    event = read("cybersource", body)
    assert event.event_id == f"sha256:{sha256(body).hexdigest()}"  # webhookId names no event
    assert (event.type, event.effect) == ("payments.x", None)


def test_mollie() -> None:
    body = post({"id": "event_1", "type": "payment-link.paid", "entityId": "pl_1"})
    event = read("mollie", body)
    assert (event.event_id, event.effect) == ("payment-link.paid:event_1", None)
    assert read_notice(b"id=tr_12345\n") == "tr_12345"
    for other in (b"", b"id=", b"id=a&id=b", b"id=a%20b", b"x=1", b"id=" + b"a" * 129):
        with pytest.raises(Malformed):
            read_notice(other)
    with pytest.raises(Malformed):
        read_events(rules_of("mollie"), Named("mollie_classic"), NO_HEADERS, b"id=tr_12345")


# --- ids, amounts, times ------------------------------------------------------------------

PLAIN = CallbackEvents(
    schemes=("stripe",),
    type=("type",),
    id=("id", "other"),
    at=("at",),
    amount=("amount",),
    currency=("currency",),
)


def plain(rules: CallbackEvents = PLAIN, /, **fields: object) -> CallbackEvent:
    (event,) = read_events(rules, Named("stripe"), NO_HEADERS, post(fields))
    return event


@pytest.mark.parametrize("id_", ["", "a" * 256, "é", "a\nb", "a b", None, True, ["x"], {}])
def test_what_is_no_id_is_replaced_by_a_digest_of_the_content(id_: object) -> None:
    event = plain(id=id_)
    assert event.event_id == f"sha256:{sha256(event.body).hexdigest()}"
    assert event.type == "unknown"


def test_the_first_id_that_is_one_counts() -> None:
    assert plain(id="a" * 255, other="b").event_id == "a" * 255
    assert plain(id="a b", other="b").event_id == "b"
    assert plain(id=7).event_id == "7"


def test_parts_of_an_id_do_not_run_into_one_another() -> None:
    rules = msgspec.structs.replace(PLAIN, id=(), id_parts=(("a",), ("b",)))
    assert plain(rules, a="x:y", b="z").event_id != plain(rules, a="x", b="y:z").event_id
    assert plain(rules, a="x%3Ay", b="z").event_id != plain(rules, a="x:y", b="z").event_id
    assert plain(rules, a="x").event_id.startswith("sha256:")


@pytest.mark.parametrize(
    ("unit", "amount", "currency", "minor"),
    [
        ("minor", 1999, "eur", 1999),
        ("minor", "1999", "EUR", 1999),
        ("minor", 0, "EUR", 0),
        ("minor", 1999, None, 1999),
        ("minor", -5, "EUR", None),
        ("minor", 19.5, "EUR", None),
        ("minor", True, "EUR", None),
        ("minor", 10**13, "EUR", None),
        ("major", "19.99", "EUR", 1999),
        ("major", 19.99, "EUR", 1999),
        ("major", "900", "JPY", 900),
        ("major", "900.00", "JPY", 900),
        ("major", "1.234", "KWD", 1234),
        ("major", "1.234", "EUR", None),
        ("major", "19.99", None, None),
        ("major", "1e999999999", "EUR", None),
        ("major", "NaN", "EUR", None),
        ("major", "-1.00", "EUR", None),
    ],
    ids=repr,
)
def test_amounts(
    unit: Literal["minor", "major"], amount: object, currency: str | None, minor: int | None
) -> None:
    rules = msgspec.structs.replace(PLAIN, amount_unit=unit)
    assert plain(rules, amount=amount, currency=currency).amount == minor


@pytest.mark.parametrize(
    "at",
    [
        1795348800,
        "1795348800",
        1795348800000,
        "2026-11-22T12:00:00Z",
        "2026-11-22T12:00:00.000000000Z",
        "2026-11-22T13:00:00+01:00",
        "2026-11-22T13:00:00+0100",
        "2026-11-22 12:00:00 UTC",
        "2026-11-22T12:00:00",
    ],
    ids=repr,
)
def test_times(at: object) -> None:
    assert plain(at=at).at == NOON


@pytest.mark.parametrize(
    "at", ["", "today", "2026-11-22", "2026-13-22T12:00:00Z", 12, 10**18, True, "2026-W01-1", -1]
)
def test_what_is_no_time_is_none(at: object) -> None:
    assert plain(at=at).at is None


# --- whatever comes -----------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "type", "data", "object", "success", "amount", "value"]), inner
        )
    ),
    max_leaves=12,
)
bodies = st.one_of(
    st.binary(max_size=200),
    values.map(lambda value: json.dumps(value).encode()),
    st.lists(values, max_size=4).map(lambda items: batch(*items)),
    st.lists(
        st.dictionaries(st.sampled_from(["eventCode", "pspReference", "success", "amount"]), values)
    ).map(lambda items: batch(*({"NotificationRequestItem": each} for each in items))),
    st.binary(max_size=60).map(lambda data: b"bt_payload=" + b64encode(data)),
    st.text(max_size=30).map(lambda text: WPG.format(type=text, date="").encode()),
)


@given(name=st.sampled_from(sorted(PRESETS)), body=bodies, header=st.text(max_size=300))
def test_whatever_comes_is_read_or_refused(name: str, body: bytes, header: str) -> None:
    rules = rules_of(name)
    for scheme in rules.schemes:
        try:
            events = read_events(rules, Named(scheme), [("x-razorpay-event-id", header)], body)
        except Malformed:
            continue
        assert 1 <= len(events) <= ITEMS_MAX
        for event in events:
            assert 1 <= len(event.event_id) <= 255
            assert event.event_id.isascii()
            assert event.event_id.isprintable()
            assert event.at is None or event.at.tzinfo is UTC


# --- what a preset must say ---------------------------------------------------------------


def test_what_no_rule_reads_is_received_without_effect() -> None:
    event = unreadable(b"[]")
    assert event.event_id == f"sha256:{sha256(b'[]').hexdigest()}"
    assert (event.type, event.effect, event.body) == ("unknown", None, b"[]")


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"schemes": ()}, "schemes: at least one"),
        ({"schemes": ("strip",)}, "schemes: there is no scheme strip"),
        ({"schemes": ("stripe", "stripe")}, "schemes: stripe is given twice"),
        ({"id_header": "x-id"}, "id, id_parts, id_header: one"),
        ({"id_parts": (("a",),)}, "id, id_parts, id_header: one"),
        ({"id": (), "id_parts": (("a",), ())}, "id_parts: each"),
        ({"id": (), "id_header": "X-Id"}, "id_header: 'X-Id' is no"),
        ({"id": (), "id_header": "x-id", "items": "a[*]"}, "id_header: the items"),
        ({"items": "a.b"}, "items: a name"),
        ({"items": "a[*].b[*]"}, "items: a name"),
        ({"type": ()}, "type: where"),
        ({"amount_unit": "major", "currency": ()}, "currency: without"),
        ({"type": ("a..b",)}, "type: 'a..b'"),
        ({"numbers": ("$.a",)}, "numbers: '$.a': a post is asked by plain paths"),
        ({"effects": (CallbackEffect(types=(), effect=Effect.VOIDED),)}, "effects 1: types: at"),
        ({"effects": (CallbackEffect(types=("a*b",), effect=Effect.VOIDED),)}, "'a*b' is no type"),
        (
            {
                "effects": (
                    CallbackEffect(
                        types=("a*",), where=(Condition(path="a"),), effect=Effect.VOIDED
                    ),
                )
            },
            "effects 1: where: a path, and either",
        ),
    ],
)
def test_what_makes_no_sense_is_said(change: dict[str, Any], finding: str) -> None:
    assert list(problems_of_callbacks(PLAIN)) == []
    found = list(problems_of_callbacks(msgspec.structs.replace(PLAIN, **change)))
    assert any(finding in each for each in found), found


def test_a_type_with_a_star_is_any_that_begins_so() -> None:
    effects = (CallbackEffect(types=("payment.*",), effect=Effect.APPROVED),)
    rules = msgspec.structs.replace(PLAIN, effects=effects)
    assert plain(rules, type="payment.x").effect is Effect.APPROVED
    assert plain(rules, type="payments").effect is None


def test_each_page_tells_of_callbacks() -> None:
    pages = Path(__file__).parents[2] / "docs" / "processors"
    for name in PRESETS:
        assert "## Callbacks" in (pages / f"{name}.md").read_text(), name
