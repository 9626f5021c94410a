"""What a merchant receives passes the checks that he would make of it."""

import base64
import hashlib
import hmac
import json
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from standardwebhooks import Webhook

from gateway.signatures import SCHEMES, Genuine, Posted, Secret, Secrets, verified
from gateway.webhook_form import Forgotten, Unsignable, post_of
from vault.delivery_queue import Claimed
from vault.ids import new_uuid7

AT = datetime.now(UTC).replace(microsecond=0)
KEY, NEXT = ("whsec_" + base64.b64encode(bytes([n]) * 24).decode() for n in (1, 2))
OURS = "whsec_merchant"
THEIRS = "whsec_processor"
MESSAGE: UUID = new_uuid7(AT)
BODY = b'{"id":"evt_1","type":"charge.refunded"}'
STANDARD = {"standard.1": KEY}


@pytest.fixture(autouse=True)
def by_the_real_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What checks posts asks it: this file may have been read a while ago."""
    monkeypatch.setattr(sys.modules[__name__], "AT", datetime.now(UTC).replace(microsecond=0))


def stripe_header(body: bytes, secret: str, at: datetime | None = None) -> str:
    moment = int((at or AT).timestamp())
    mac = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={mac}"


def claimed(**changes: object) -> Claimed:
    headers = [
        ["Content-Type", "application/json"],
        ["Stripe-Signature", stripe_header(BODY, THEIRS)],
    ]
    made = Claimed(
        id=MESSAGE,
        endpoint="we_x",
        tenant="t_shop00",
        url="https://shop.test/hook",
        form="callbacks",
        signature="original",
        message=MESSAGE,
        tries=0,
        leased_until=AT,
        headers=json.dumps(headers),
        body=BODY,
        scheme="stripe",
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # its own fields, as given


def is_genuine(post_headers: tuple[tuple[str, str], ...], body: bytes, secret: str) -> bool:
    posted = Posted(post_headers, body, "https://shop.test/hook")
    secrets = Secrets((Secret("any", secret),))
    return isinstance(verified(SCHEMES["stripe"], posted, secrets, at=AT), Genuine)


def test_an_event_is_signed_with_every_secret_in_force() -> None:
    event = claimed(form="events", headers=None, scheme=None, signature="own")
    post = post_of(event, {**STANDARD, "standard.2": NEXT, "callback.a": OURS}, at=AT)
    for secret in (KEY, NEXT):
        assert Webhook(secret).verify(post.body, dict(post.headers)) == json.loads(BODY)
    again = post_of(event, STANDARD, at=AT + timedelta(seconds=9))
    assert dict(again.headers)["webhook-id"] == dict(post.headers)["webhook-id"]
    with pytest.raises(Unsignable):
        post_of(event, {"callback.a": OURS}, at=AT)


def test_what_was_not_scrubbed_goes_on_as_it_came_with_ours_beside() -> None:
    post = post_of(claimed(), {**STANDARD, "callback.a": OURS}, at=AT)
    assert post.body == BODY
    assert is_genuine(post.headers, post.body, THEIRS)
    assert is_genuine(post.headers, post.body, OURS)
    assert Webhook(KEY).verify(post.body, dict(post.headers))
    bare = post_of(claimed(), {}, at=AT)
    assert json.loads(claimed().headers or "") == [list(each) for each in bare.headers]


@pytest.mark.parametrize("changes", [{"is_scrubbed": True}, {"signature": "own"}])
def test_what_was_scrubbed_is_signed_with_ours_alone(changes: dict[str, object]) -> None:
    post = post_of(claimed(**changes), {**STANDARD, "callback.a": OURS}, at=AT)
    assert is_genuine(post.headers, post.body, OURS)
    assert not is_genuine(post.headers, post.body, THEIRS)
    assert Webhook(KEY).verify(post.body, dict(post.headers))


@pytest.mark.parametrize("scheme", ["paypal", "stripe", "not_known"])
def test_what_cannot_be_signed_anew_carries_standard_webhooks_alone(scheme: str) -> None:
    post = post_of(claimed(is_scrubbed=True, scheme=scheme), STANDARD, at=AT)
    names = [name.lower() for name, _ in post.headers]
    assert names == ["content-type", "webhook-id", "webhook-timestamp", "webhook-signature"]
    with pytest.raises(Unsignable):
        post_of(claimed(is_scrubbed=True, scheme=scheme), {}, at=AT)


@pytest.mark.parametrize("signature", ["original", "own"])
def test_paypal_s_signature_is_not_passed_on(signature: str) -> None:
    """It proves a checksum of the body: whoever has it could make a body of his own that fits."""
    headers = [
        ["Content-Type", "application/json"],
        *(["PAYPAL-TRANSMISSION-" + name, "x"] for name in ("SIG", "ID", "TIME")),
        ["Paypal-Cert-Url", "https://api.paypal.com/cert"],
    ]
    post = post_of(
        claimed(scheme="paypal", headers=json.dumps(headers), signature=signature), STANDARD, at=AT
    )
    names = [name.lower() for name, _ in post.headers]
    assert names == ["content-type", "webhook-id", "webhook-timestamp", "webhook-signature"]
    assert Webhook(KEY).verify(post.body, dict(post.headers))


@pytest.mark.parametrize("scheme", ["stripe", "square", "not_known"])
def test_what_stands_where_our_signature_does_is_not_passed_on(scheme: str) -> None:
    """Nobody has signed those headers: with them a post of ours would prove nothing."""
    headers = [["Webhook-Signature", "v1,x"], ["webhook-id", "x"], ["WEBHOOK-TIMESTAMP", "1"]]
    post = post_of(claimed(scheme=scheme, headers=json.dumps(headers)), STANDARD, at=AT)
    assert len(post.headers) == 3
    assert Webhook(KEY).verify(post.body, dict(post.headers))


def test_text_that_is_none_is_signed_by_its_scheme_alone() -> None:
    post = post_of(claimed(body=b"\xff", is_scrubbed=True), {"callback.a": OURS, **STANDARD}, at=AT)
    assert is_genuine(post.headers, b"\xff", OURS)
    assert "webhook-signature" not in dict(post.headers)


def test_a_body_that_is_forgotten_is_not_made_up() -> None:
    with pytest.raises(Forgotten):
        post_of(claimed(body=None), STANDARD, at=AT)
