"""Callbacks signed for merchants: they, and their processor's own SDK, take them for genuine."""

import base64
import hashlib
import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from gateway.signatures import (
    SCHEMES,
    CannotSign,
    Forged,
    Genuine,
    Posted,
    Secret,
    Secrets,
    new_secret,
    signed,
    verified,
)
from tests.gateway.callback_senders import (
    AT,
    BODY,
    HEX_KEY,
    SENDERS,
    URL,
    Sender,
    item_post,
    items_posted,
    judged,
    reason,
    with_header,
)

pytestmark = pytest.mark.guards("T-54")

ALL = tuple(SENDERS.values())
SEVERAL = ("stripe", "braintree", "mollie_nextgen", "worldpay_access", "standard_webhooks")
MERCHANT = {name: new_secret(SCHEMES[name], os.urandom) for name in SENDERS}


def again(sender: Sender, secret: Secret, *, keep: bool, post: Posted | None = None) -> Posted:
    post = post or sender.post()
    headers, body = signed(
        SCHEMES[sender.scheme], post.headers, post.body, secret, at=AT, url=URL, keep=keep
    )
    return Posted(headers, body, URL)


@pytest.mark.parametrize("sender", ALL, ids=lambda each: each.scheme)
def test_a_post_signed_again_is_the_merchants(sender: Sender) -> None:
    secret = MERCHANT[sender.scheme]
    post = again(sender, secret, keep=False)
    assert judged(sender.scheme, post, secret) == Genuine()
    assert reason(sender, post) == "signature_mismatch"
    names = [name for name, _ in sender.post().headers]
    assert [name for name, _ in post.headers] == names
    if sender.header is not None:
        assert post.body == sender.post().body


@pytest.mark.parametrize("sender", ALL, ids=lambda each: each.scheme)
def test_ours_stands_beside_the_original_where_there_is_room(sender: Sender) -> None:
    secret = MERCHANT[sender.scheme]
    post = again(sender, secret, keep=True)
    assert judged(sender.scheme, post, secret) == Genuine()
    kept = None if sender.scheme in SEVERAL else "signature_mismatch"
    assert reason(sender, post) == kept


@pytest.mark.parametrize("name", ["stripe", "cybersource", "standard_webhooks"])
@pytest.mark.parametrize("age", [241, 3600, -241])
def test_what_is_about_to_be_stale_is_signed_anew(name: str, age: int) -> None:
    sender = SENDERS[name]
    old = replace(sender, seconds=sender.seconds - age).post()
    post = again(sender, MERCHANT[name], keep=True, post=old)
    assert judged(name, post, MERCHANT[name], at=AT + timedelta(seconds=290)) == Genuine()


@pytest.mark.parametrize("sender", ALL, ids=lambda each: each.scheme)
def test_a_header_that_cannot_be_read_is_replaced(sender: Sender) -> None:
    if sender.header is None:
        return
    secret = MERCHANT[sender.scheme]
    broken = with_header(sender, lambda _: "garbage")
    doubled = replace(broken, headers=[*broken.headers, *broken.headers])
    if sender.scheme == "standard_webhooks":
        with pytest.raises(CannotSign):  # two ids
            again(sender, secret, keep=True, post=doubled)
        return
    post = again(sender, secret, keep=True, post=doubled)
    assert judged(sender.scheme, post, secret) == Genuine()


@pytest.mark.parametrize("name", ["paypal", "worldpay_wpg", "mollie_classic"])
def test_some_schemes_have_no_secret_to_sign_with(name: str) -> None:
    with pytest.raises(CannotSign):
        signed(SCHEMES[name], (), b"", Secret("1", "x"), at=AT, keep=False)
    with pytest.raises(CannotSign):
        new_secret(SCHEMES[name], os.urandom)


@pytest.mark.parametrize("sender", ALL, ids=lambda each: each.scheme)
def test_nothing_is_signed_with_an_empty_secret(sender: Sender) -> None:
    with pytest.raises(CannotSign):
        again(sender, Secret("1", ""), keep=False)


@pytest.mark.parametrize("body", [b"", b"{}", b"bt_payload=", b'{"notificationItems":[]}'])
@pytest.mark.parametrize("name", ["adyen_item", "braintree"])
def test_what_cannot_be_read_cannot_be_signed(name: str, body: bytes) -> None:
    with pytest.raises(CannotSign):
        again(SENDERS[name], MERCHANT[name], keep=True, post=Posted((), body, ""))


def test_signing_an_item_changes_its_signature_alone() -> None:
    it = SENDERS["adyen_item"]
    post = it.post()
    item = json.loads(post.body)["notificationItems"][0]["NotificationRequestItem"]
    made = again(it, Secret("1", HEX_KEY[::-1]), keep=True).body
    changed = json.loads(made)["notificationItems"][0]["NotificationRequestItem"]
    ours = changed["additionalData"].pop("hmacSignature")
    theirs = item["additionalData"].pop("hmacSignature")
    assert changed == item
    assert made == post.body.replace(theirs.encode(), ours.encode())
    unsigned = items_posted(item)
    with pytest.raises(CannotSign):
        again(it, it.secret, keep=False, post=unsigned)


def test_both_pairs_of_a_form_can_be_read() -> None:
    it = SENDERS["braintree"]
    form = parse_qs(again(it, MERCHANT["braintree"], keep=True).body.decode())
    pairs = dict(each.split("|") for each in form["bt_signature"][0].split("&"))
    assert pairs.keys() == {"public_key", MERCHANT["braintree"].key_id}
    assert base64.b64decode(form["bt_payload"][0]) == BODY


@pytest.mark.parametrize("keep", [True, False])
def test_stripes_own_library_accepts_what_we_sign(*, keep: bool) -> None:
    now = datetime.now(UTC)
    sender = replace(SENDERS["stripe"], seconds=int(now.timestamp()))
    secret = MERCHANT["stripe"]
    original = sender.post()
    headers, body = signed(
        SCHEMES["stripe"], original.headers, original.body, secret, at=now, keep=keep
    )
    value = dict(headers)["Stripe-Signature"]
    for text in (secret.text, *([sender.secret.text] if keep else [])):
        assert stripe.Webhook.construct_event(body, value, text).id == "evt_1"


@pytest.mark.parametrize("name", sorted(SENDERS))
def test_new_secrets_differ_and_have_the_schemes_form(name: str) -> None:
    drawn: list[int] = []

    def random(count: int) -> bytes:
        drawn.append(count)
        return hashlib.shake_256(bytes(drawn)).digest(count)

    first, second = (new_secret(SCHEMES[name], random) for _ in range(2))
    assert first.text != second.text
    assert first.key_id != second.key_id
    assert max(drawn) >= 16
    form = {"stripe": "whsec_", "standard_webhooks": "whsec_"}.get(name, "")
    assert first.text.startswith(form)
    lengths = {"authorize_net": 128, "braintree": 32, "cybersource": 44}
    assert len(first.text) == lengths.get(name, len(first.text))


# --- round trips --------------------------------------------------------------------------


@given(
    sender=st.sampled_from([each for each in ALL if each.header is not None]),
    body=st.binary(max_size=400),
    seed=st.binary(min_size=64, max_size=64),
    keep=st.booleans(),
    at=st.datetimes(datetime(2001, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_what_is_signed_is_genuine(
    sender: Sender, body: bytes, seed: bytes, at: datetime, *, keep: bool
) -> None:
    scheme = SCHEMES[sender.scheme]
    secret = new_secret(scheme, lambda count: hashlib.shake_256(seed).digest(count))
    more = (("webhook-id", "msg_1"), ("x-other", "1"))
    headers, same = signed(scheme, more, body, secret, at=at, url=URL, keep=keep)
    assert same == body
    secrets = Secrets((secret,))
    assert verified(scheme, Posted(headers, body, URL), secrets, at=at) == Genuine()
    longer = Posted(headers, body + b".", URL)
    assert verified(scheme, longer, secrets, at=at) == Forged("signature_mismatch")


_TEXT = st.text(st.characters(exclude_characters=":", exclude_categories=["Cs"]), max_size=40)


@given(
    _TEXT,
    _TEXT,
    st.text(st.characters(exclude_categories=["Cs"]), max_size=80),
    st.integers(-99, 99999),
)
def test_items_signed_are_genuine(psp: str, account: str, reference: str, value: int) -> None:
    it = SENDERS["adyen_item"]
    item: dict[str, object] = {
        "pspReference": psp,
        "merchantAccountCode": account,
        "merchantReference": reference,
        "amount": {"value": value, "currency": "EUR"},
        "eventCode": "REFUND",
        "success": "true",
    }
    assert reason(it, item_post(it, item)) is None
    secret = MERCHANT["adyen_item"]
    assert (
        judged("adyen_item", again(it, secret, keep=False, post=item_post(it, item)), secret)
        == Genuine()
    )


@given(xml=st.binary(min_size=30, max_size=300), keep=st.booleans())
def test_forms_signed_are_genuine(xml: bytes, *, keep: bool) -> None:
    it, secret = SENDERS["braintree"], MERCHANT["braintree"]
    post = again(it, secret, keep=keep, post=it.post(xml))
    assert judged("braintree", post, secret) == Genuine()
