"""Events without an id are known by what is signed of them, however a repeat is written."""

import base64
import json
from dataclasses import replace
from hashlib import sha256
from urllib.parse import quote_plus

import pytest

from gateway.callback_events import CallbackEvent, read_events
from gateway.preset import load
from gateway.signatures import SCHEMES, Genuine, Posted, Secret, Secrets, signed, verified
from tests.gateway.callback_senders import AT, HEX_KEY, URL

pytestmark = pytest.mark.guards("T-52")

ADYEN, BRAINTREE = SCHEMES["adyen_item"], SCHEMES["braintree"]
KEY = Secret("1", HEX_KEY)
PAIR = Secret("public", "private")
REPORT = {
    "additionalData": {"hmacSignature": "x"},
    "amount": {"currency": "EUR", "value": 0},
    "eventCode": "REPORT_AVAILABLE",
    "eventDate": "2026-11-22T12:00:00+00:00",
    "merchantAccountCode": "Shop",
    "merchantReference": "",
    "pspReference": "",  # so it has no id
    "reason": "https://example.com/report.csv",
    "success": "true",
}


def event_of(preset: str, scheme: str, posted: Posted) -> CallbackEvent:
    """Read what is genuine."""
    secrets = Secrets((KEY if preset == "adyen" else PAIR,))
    assert verified(SCHEMES[scheme], posted, secrets, at=AT) == Genuine()
    rules = load(preset).callbacks
    assert rules is not None
    (event,) = read_events(rules, SCHEMES[scheme], posted.headers, posted.body)
    return event


def adyen(item: dict[str, object], **how: int) -> Posted:
    document = {"live": "false", "notificationItems": [{"NotificationRequestItem": item}]}
    body = json.dumps(document, **how).encode()  # type: ignore[arg-type]  # ways to write it
    headers, body = signed(ADYEN, (), body, KEY, at=AT, keep=False)
    return Posted(headers, body, URL)


def test_what_adyen_does_not_sign_makes_no_other_event() -> None:
    first = event_of("adyen", "adyen_item", adyen(REPORT))
    assert first.event_id.startswith("sha256:")
    for again in (
        adyen(REPORT, indent=2),
        adyen({**REPORT, "reason": "other"}),
        adyen({**REPORT, "additionalData": {"hmacSignature": "x", "more": "y"}}),
        adyen({**REPORT, "eventDate": "2027-01-01T00:00:00+00:00"}),
    ):
        assert event_of("adyen", "adyen_item", again).event_id == first.event_id
    for name in ("eventCode", "merchantAccountCode", "merchantReference"):
        other = adyen({**REPORT, name: "OTHER"})
        assert event_of("adyen", "adyen_item", other).event_id != first.event_id


def braintree(payload: str) -> Posted:
    body = f"bt_signature=x%7Cy&bt_payload={quote_plus(payload)}".encode()
    _, body = signed(BRAINTREE, (), body, PAIR, at=AT, keep=False)
    return Posted((), body, URL)


def test_the_line_s_end_of_braintree_s_payload_makes_no_other_event() -> None:
    xml = b"<notification><kind>check</kind></notification>"
    payload = base64.b64encode(xml).decode()
    whole = braintree(payload + "\n")
    cut = replace(whole, body=whole.body.removesuffix(b"%0A"))
    assert cut.body != whole.body
    ids = {event_of("braintree", "braintree", each).event_id for each in (whole, cut)}
    assert ids == {f"sha256:{sha256(payload.encode()).hexdigest()}"}
