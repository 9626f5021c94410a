"""Callbacks whose signature fits, in a form that two readers could take in two ways."""

import re
import time
from dataclasses import replace
from typing import Final

import pytest

from gateway.signatures import Posted
from tests.gateway.callback_senders import (
    HEX_KEY,
    ITEM,
    SECONDS,
    SENDERS,
    another,
    braintree_code,
    braintree_post,
    item_code,
    item_post,
    items_posted,
    mac_of,
    reason,
    with_header,
)

pytestmark = pytest.mark.guards("T-52")

MISMATCH: Final = "signature_mismatch"
MALFORMED: Final = "signature_malformed"
MISSING: Final = "signature_missing"


@pytest.mark.parametrize(
    "value",
    [
        "t={t},v0={mac}",
        "t={t},v2={mac}",
        "t={t}",
        "v1={mac}",
        "t={t},t={t},v1={mac}",
        "t=1,t={t},v1={mac}",
        "t={t}, v1={mac}",
        "t={t};v1={mac}",
        "T={t},V1={mac}",
        "t={t},v1",
        "t={t},=x,v1={mac}",
        "t={t},v1={mac},v1=short",
        "t={t},v1={mac},",
        "t={t}" + ",v1={mac}" * 9,
    ],
)
def test_a_stripe_header_that_can_be_read_in_two_ways_is_malformed(value: str) -> None:
    sender = SENDERS["stripe"]
    mac = mac_of(sender.post(), sender)
    forged = with_header(sender, lambda _: value.format(t=SECONDS, mac=mac))
    assert reason(sender, forged) == MALFORMED


def test_a_weaker_code_of_stripe_is_not_looked_at() -> None:
    sender = SENDERS["stripe"]
    good = mac_of(sender.post(), sender)
    forged = with_header(sender, lambda _: f"t={SECONDS},v0={good},v1={another(good)}")
    assert reason(sender, forged) == MISMATCH


@pytest.mark.parametrize(
    "value",
    [
        "t={t};t={t};keyId={id};sig={mac}",
        "t={t};keyId={id}",
        "t={t};keyId={id};sig={mac};alg=none",
        "t={t},keyId={id},sig={mac}",
        "t={t};keyid={id};sig={mac}",
        "t={t};keyId={id}/../x;sig={mac}",
    ],
)
def test_a_header_of_cybersource_has_its_three_parts(value: str) -> None:
    sender = SENDERS["cybersource"]
    mac = mac_of(sender.post(), sender)
    text = value.format(t=SECONDS * 1000, id=sender.secret.key_id, mac=mac)
    assert reason(sender, with_header(sender, lambda _: text)) == MALFORMED


@pytest.mark.parametrize("hash_", ["SHA1", "sha256", "SHA512", "NONE", ""])
def test_worldpay_signatures_by_another_hash_do_not_count(hash_: str) -> None:
    sender = SENDERS["worldpay_access"]
    forged = with_header(sender, lambda text: text.replace("SHA256", hash_))
    assert reason(sender, forged) == MALFORMED


@pytest.mark.parametrize("version", ["v1a,", "v0,", "V1,", "v1 ,", ""])
def test_standard_webhooks_of_another_version_do_not_count(version: str) -> None:
    sender = SENDERS["standard_webhooks"]
    forged = with_header(sender, lambda text: text.replace("v1,", version))
    assert reason(sender, forged) == MALFORMED


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp"])
def test_standard_webhooks_need_all_three_headers_once(name: str) -> None:
    sender = SENDERS["standard_webhooks"]
    lines = list(sender.post().headers)
    without = [each for each in lines if each[0] != name]
    again = [*lines, *(each for each in lines if each[0] == name)]
    for forged in (without, again):
        assert reason(sender, replace(sender.post(), headers=forged)) == MALFORMED


def test_a_standard_webhook_cannot_be_cut_elsewhere() -> None:
    """`msg_1.<time>.<body>`: an id with a point in it would let the time be moved."""
    sender = SENDERS["standard_webhooks"]
    post = sender.post()
    moved = {"webhook-id": f"msg_1.{SECONDS}", "webhook-timestamp": str(SECONDS)}
    headers_ = [(name, moved.get(name, text)) for name, text in post.headers]
    assert reason(sender, replace(post, headers=headers_)) == MALFORMED


@pytest.mark.parametrize(("count", "expected"), [(8, None), (9, MALFORMED)])
def test_the_number_of_signatures_is_limited(count: int, expected: str | None) -> None:
    sender = SENDERS["mollie_nextgen"]
    assert reason(sender, with_header(sender, lambda text: ",".join([text] * count))) == expected


# --- Adyen's items ------------------------------------------------------------------------

ADYEN = SENDERS["adyen_item"]


def genuine_item(**changed: object) -> dict[str, object]:
    item: dict[str, object] = dict(ITEM, **changed)
    item_post(ADYEN, item)
    return item


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_forged_item_of_a_batch_forges_it_all(place: int) -> None:
    items = [genuine_item(merchantReference=f"order-{at}") for at in range(3)]
    assert reason(ADYEN, items_posted(*items)) is None
    items[place]["success"] = "false"
    assert reason(ADYEN, items_posted(*items)) == MISMATCH


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pspReference", "7914073381342286"),
        ("originalReference", "7914073381342286"),
        ("merchantAccountCode", "Another"),
        ("merchantReference", "order:2"),
        ("amount", {"currency": "EUR", "value": 1131}),
        ("amount", {"currency": "USD", "value": 1130}),
        ("eventCode", "CAPTURE"),
        ("success", "false"),
    ],
)
def test_each_signed_field_is(name: str, value: object) -> None:
    assert reason(ADYEN, items_posted(genuine_item() | {name: value})) == MISMATCH


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("success", True),
        ("success", "TRUE"),
        ("eventCode", None),
        ("eventCode", "A:B"),
        ("pspReference", 7914073381342285),
        ("amount", {"currency": "EUR", "value": "1130"}),
        ("amount", {"currency": "EUR", "value": 1130.0}),
        ("amount", {"currency": "eur", "value": 1130}),
        ("additionalData", {"hmacSignature": 1}),
    ],
)
def test_a_signed_field_of_another_form_is_refused(name: str, value: object) -> None:
    assert reason(ADYEN, items_posted(genuine_item() | {name: value})) == MALFORMED


def test_text_cannot_wander_from_field_to_field() -> None:
    """The fields are joined by `:` and not escaped, so all of this is the same signed text."""
    item = genuine_item(merchantReference="x:y")
    moved = item | {
        "pspReference": f"{item['pspReference']}:",
        "originalReference": item["merchantAccountCode"],
        "merchantAccountCode": "x",
        "merchantReference": "y",
    }
    assert item_code(HEX_KEY, moved) == item_code(HEX_KEY, item)
    assert reason(ADYEN, items_posted(item)) is None
    joined = item | {
        "merchantAccountCode": f"{item['merchantAccountCode']}:x",
        "merchantReference": "y",
    }
    assert item_code(HEX_KEY, joined) == item_code(HEX_KEY, item)
    for forged in (moved, joined):
        assert reason(ADYEN, items_posted(forged)) == MALFORMED


@pytest.mark.parametrize(
    ("found", "put"),
    [
        (b'"success": "true"', b'"success": "false", "success": "true"'),
        (b'"success": "true"', b'"success": "true", "success": "false"'),
        (b'"success": "true"', b'"success": "true", "\\u0073uccess": "false"'),
        (b'"currency"', b'"value": 1, "currency"'),
        (b'"hmacSignature"', b'"hmacSignature": "", "hmacSignature"'),
        (b'"live"', b'"notificationItems": [], "live"'),
        (b'"live"', b'"live": "true", "live"'),
        (b'{"Notif', b'{"Other": {}, "Notif'),
        (b'[{"Notif', b'[{}, {"Notif'),
        (b'[{"Notif', b'[1, {"Notif'),
        (b'[{"Notif', b'[{"NotificationRequestItem": {}}, {"Notif'),
        (b'[{"Notif', b'[{"NotificationRequestItem": []}, {"Notif'),
        (b"}}]}", b'}}, {"Other": {"success": "false"}}]}'),
        (b"}}]}", b"}}]} {}"),
        (b"}}]}", b"}}]"),
        (b'"notificationItems": [', b'"notificationItems": {"0": ['),
        (b'"notificationItems"', b'"NotificationItems"'),
        (b'"order:1"', b'"order:\xff1"'),
    ],
)
def test_a_body_that_could_be_read_in_two_ways_is_refused(found: bytes, put: bytes) -> None:
    post = item_post(ADYEN, dict(ITEM))
    assert found in post.body
    assert reason(ADYEN, replace(post, body=post.body.replace(found, put, 1))) == MALFORMED


def test_an_item_without_a_signature_is_refused() -> None:
    items = [genuine_item(), genuine_item()]
    items[1]["additionalData"] = {}
    assert reason(ADYEN, items_posted(*items)) == MISSING


@pytest.mark.parametrize(("commas", "expected"), [(9_000, None), (10_001, MALFORMED)])
def test_the_size_of_what_must_be_read_unproven_is_limited(
    commas: int, expected: str | None
) -> None:
    assert reason(ADYEN, items_posted(genuine_item(reason="," * commas))) == expected


@pytest.mark.parametrize("count", [0, 101])
def test_the_number_of_items_is_limited(count: int) -> None:
    assert reason(ADYEN, items_posted(*(genuine_item() for _ in range(count)))) == MALFORMED


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"[" * 300_000,
        b'{"notificationItems":' * 25_000,
        b'{"notificationItems":[' + b"{}," * 170_000 + b"{}]}",
        b'"' + b"\\u0061" * 80_000,
        b'{"a":' + b"9" * 500_000 + b"}",
    ],
)
def test_a_body_that_is_hard_to_read_is_refused_at_little_cost(raw: bytes) -> None:
    began = time.process_time()
    assert reason(ADYEN, Posted((), raw, "")) == MALFORMED
    assert time.process_time() - began < 0.5


# --- Braintree's form ---------------------------------------------------------------------

BRAINTREE = SENDERS["braintree"]


def test_what_anybody_can_have_signed_is_no_callback() -> None:
    """A challenge is signed for whoever asks, by the key that signs callbacks."""
    challenge = "20f9f8ed05f77439fe955c977e4c8a53"
    pairs = f"public_key|{braintree_code(BRAINTREE, challenge)}"
    assert reason(BRAINTREE, braintree_post(pairs, challenge)) == MALFORMED


@pytest.mark.parametrize(
    ("found", "put", "expected"),
    [
        (rb"\Z", b"&bt_payload=YQ==", MALFORMED),
        (rb"\Z", b"&bt_payload[]=YQ==", MALFORMED),
        (rb"\Z", b"&kind=check", MALFORMED),
        (b"bt_payload", b"bt%5Fpayload", MALFORMED),
        (b"bt_signature=", b"bt_signature=&bt_signature=", MALFORMED),
        (b"bt_signature", b"signature", MISSING),
        (b"&", b";", MALFORMED),
        (b"%0A", b"", MISMATCH),
        (rb"\Z", b"%ZZ", MALFORMED),
        (rb"\Z", b"%FF", MALFORMED),
        (rb"\Z", b"%3C", MALFORMED),
        (b"%7C", b"%7C%7C", MALFORMED),
        (b"public_key", b"public_key%7Cx%26" * 9, MALFORMED),
        (b"bt_signature=", b"bt_signature=" + b"x" * 500_000, MALFORMED),
    ],
)
def test_a_form_of_braintree_is_its_two_fields(found: bytes, put: bytes, expected: str) -> None:
    post = BRAINTREE.post()
    changed = re.sub(found, lambda _: put, post.body, count=0 if found == b"%0A" else 1)
    assert reason(BRAINTREE, replace(post, body=changed)) == expected
