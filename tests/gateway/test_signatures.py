"""Callbacks are proven as processors publish that they sign them, by any of several secrets."""

import base64
import hmac
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from gateway.signatures import (
    SCHEMES,
    Forged,
    Genuine,
    NeedsSource,
    Posted,
    Reply,
    Secret,
    Secrets,
    challenge_reply,
    new_secret,
    signed,
    verified,
)
from tests.gateway.callback_senders import (
    AT,
    BODY,
    SENDERS,
    URL,
    Sender,
    based,
    braintree_code,
    braintree_post,
    hexed,
    items_posted,
    judged,
    reason,
)

pytestmark = pytest.mark.guards("T-52")

Vector = Mapping[str, object]
VECTORS: list[Vector] = json.loads(
    (Path(__file__).parent / "callback_vectors.json").read_text(encoding="utf-8")
)
BY_NAME = {str(each["name"]): each for each in VECTORS}
NAMES = {"authorizenet": "authorize_net"}
ALL = tuple(SENDERS.values())


def scheme_of(vector: Vector) -> str:
    name = str(vector["scheme"])
    return NAMES.get(name, name.replace("-", "_"))


def secret_of(vector: Vector) -> Secret:
    return Secret("1", str(vector.get("secret") or vector.get("secret_hex")))


# --- what processors publish --------------------------------------------------------------

IN_HEADER = [each for each in VECTORS if "body" in each and "timestamp" not in each]
ITEMS = [each for each in VECTORS if each["scheme"] == "adyen-item"]


@pytest.mark.parametrize("vector", IN_HEADER, ids=lambda each: each["name"])
def test_a_published_callback_is_genuine(vector: Vector) -> None:
    value = str(vector["expect"])
    if vector["scheme"] == "mollie-nextgen":
        assert value.startswith("sha256=")
    body = str(vector["body"]).encode()
    post = Posted([(str(vector["header"]), value)], body, str(vector.get("url", "")))
    assert judged(scheme_of(vector), post, secret_of(vector)) == Genuine()
    forged = replace(post, body=body + b"x")
    assert judged(scheme_of(vector), forged, secret_of(vector)) == Forged("signature_mismatch")


@pytest.mark.parametrize("vector", IN_HEADER, ids=lambda each: each["name"])
def test_we_sign_as_is_published(vector: Vector) -> None:
    body, url = str(vector["body"]).encode(), str(vector.get("url", ""))
    scheme = SCHEMES[scheme_of(vector)]
    headers, same = signed(scheme, (), body, secret_of(vector), at=AT, url=url, keep=False)
    assert (headers, same) == (((str(vector["header"]).lower(), vector["expect"]),), body)


@pytest.mark.parametrize("name", ["stripe", "standard-webhooks"])
def test_a_published_callback_with_a_time_is_genuine_at_that_time(name: str) -> None:
    vector = BY_NAME[name]
    seconds = cast("int", vector["timestamp"])
    headers = {
        "stripe": [("Stripe-Signature", str(vector["expect"]))],
        "standard-webhooks": [
            ("webhook-id", str(vector.get("id"))),
            ("webhook-timestamp", str(seconds)),
            ("webhook-signature", str(vector["expect"])),
        ],
    }[name]
    post = Posted(headers, str(vector["body"]).encode(), "")
    at = datetime.fromtimestamp(seconds, UTC)
    assert judged(scheme_of(vector), post, secret_of(vector), at=at) == Genuine()
    late = at + timedelta(seconds=301)
    assert judged(scheme_of(vector), post, secret_of(vector), at=late) == Forged("signature_stale")
    again, _ = signed(
        SCHEMES[scheme_of(vector)], headers, post.body, secret_of(vector), at=at, keep=False
    )
    assert again == tuple(headers)


@pytest.mark.parametrize("vector", ITEMS, ids=lambda each: each["name"])
def test_published_items_of_adyen_are_genuine(vector: Vector) -> None:
    """The reference is what is left between four fields in front and four behind."""
    psp, original, account, rest = str(vector["signed"]).split(":", 3)
    reference, value, currency, event, success = rest.rsplit(":", 4)
    item = vector.get("item") or {
        "pspReference": psp,
        "originalReference": original,
        "merchantAccountCode": account,
        "merchantReference": reference,
        "amount": {"value": int(value), "currency": currency},
        "eventCode": event,
        "success": success,
        "additionalData": {"hmacSignature": vector["expect"]},
    }
    post = items_posted(item)
    assert judged("adyen_item", post, secret_of(vector)) == Genuine()
    _, body = signed(
        SCHEMES["adyen_item"], post.headers, post.body, secret_of(vector), at=AT, keep=False
    )
    assert body == post.body


def test_a_published_challenge_is_answered() -> None:
    vector = BY_NAME["braintree-challenge"]
    secret = Secret(str(vector["public_key"]), str(vector["private_key"]))
    secrets = Secrets((Secret("none", ""), secret, Secret("later", "x")))
    challenge = str(vector["challenge"])
    assert challenge_reply(SCHEMES["braintree"], challenge, secrets) == vector["expect"]
    assert challenge_reply(SCHEMES["stripe"], challenge, secrets) is None
    assert challenge_reply(SCHEMES["braintree"], challenge, Secrets()) is None


@pytest.mark.parametrize(
    "value", ["", "a" * 19, "a" * 33, "A" * 20, "g" * 20, "a" * 20 + "\n", "é" * 20, "YWJj=" * 5]
)
def test_only_a_challenge_is_signed_on_demand(value: str) -> None:
    secrets = Secrets((Secret("public", "private"),))
    assert challenge_reply(SCHEMES["braintree"], value, secrets) is None


# --- the table ----------------------------------------------------------------------------


def test_every_scheme_of_the_table() -> None:
    assert set(SCHEMES) == {*SENDERS, "worldpay_wpg", "mollie_classic", "paypal"}
    assert all(name == scheme.name for name, scheme in SCHEMES.items())
    assert SCHEMES["adyen_item"].reply == Reply(200, b"[accepted]", "text/plain")
    assert SCHEMES["worldpay_wpg"].reply == Reply(200, b"[OK]", "text/plain")
    assert [each.name for each in SCHEMES.values() if each.challenge] == ["braintree"]
    assert [each.name for each in SCHEMES.values() if each.health_get] == ["cybersource"]
    assert [each.name for each in SCHEMES.values() if each.may_be_http_1_0] == ["mollie_classic"]


def test_what_is_not_signed_is_not_called_so() -> None:
    post = Posted((), b"id=tr_1", URL)
    assert judged("mollie_classic", post) == Genuine(is_signed=False)
    assert judged("worldpay_wpg", post) == NeedsSource((".worldpay.com",))


def test_stored_secrets_are_read() -> None:
    secrets = Secrets.of({"key.a.b": "1", "key.": "2", "webhook_id": "W", "later": "3"})
    assert secrets == Secrets((Secret("a.b", "1"), Secret("", "2")), webhook_id="W")
    assert Secrets.of({"authorization": "Basic x"}).authorization == "Basic x"
    for each in (secrets, *secrets.signing, Posted((), b"body", "")):
        assert "object at" in repr(each)


@pytest.mark.parametrize(
    ("came", "is_right"),
    [
        ([("authorization", "Basic dTpw")], True),
        ([("AUTHORIZATION", "Basic dTpw")], True),
        ([], False),
        ([("Authorization", "")], False),
        ([("Authorization", "Basic dTpx")], False),
        ([("Authorization", "basic dTpw")], False),
        ([("Authorization", "Basic dTpw\u0660")], False),
        ([("Authorization", "Basic dTpw")] * 2, False),
        ([("Authorization", "Basic dTpw"), ("authorization", "x")], False),
    ],
)
@pytest.mark.parametrize("scheme", ["checkout", "adyen_item", "worldpay_wpg", "mollie_classic"])
def test_the_header_that_was_agreed_on_is_asked_for(
    scheme: str, came: list[tuple[str, str]], *, is_right: bool
) -> None:
    post = SENDERS[scheme].post() if scheme in SENDERS else Posted((), b"", URL)
    secret = SENDERS[scheme].secret if scheme in SENDERS else Secret("1", "x")
    secrets = Secrets((secret,), authorization="Basic dTpw")
    outcome = verified(
        SCHEMES[scheme], replace(post, headers=[*post.headers, *came]), secrets, at=AT
    )
    assert (outcome == Forged("authorization_mismatch")) is not is_right


def test_an_empty_authorization_is_never_agreed_on() -> None:
    post = SENDERS["checkout"].post()
    empty = replace(post, headers=[*post.headers, ("authorization", "")])
    secrets = Secrets((SENDERS["checkout"].secret,), authorization="")
    for each in (post, empty):
        outcome = verified(SCHEMES["checkout"], each, secrets, at=AT)
        assert outcome == Forged("authorization_mismatch")


# --- rotation -----------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("sender", ALL, ids=lambda each: each.scheme)
def test_any_of_several_secrets_proves_a_post(sender: Sender, place: int) -> None:
    secrets = [new_secret(SCHEMES[sender.scheme], os.urandom) for _ in range(2)]
    without = list(secrets)
    secrets.insert(place, sender.secret)
    assert judged(sender.scheme, sender.post(), *secrets) == Genuine()
    assert judged(sender.scheme, sender.post(), *without) == Forged("signature_mismatch")


@pytest.mark.parametrize("sender", ALL, ids=lambda each: each.scheme)
def test_every_secret_is_compared(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that a check takes must not tell which of the secrets fits."""
    compared: list[bytes] = []
    compare = hmac.compare_digest

    def counting(a: bytes, b: bytes) -> bool:
        compared.append(a)
        return compare(a, b)

    monkeypatch.setattr("gateway.signatures_macs.hmac.compare_digest", counting)
    others = [new_secret(SCHEMES[sender.scheme], os.urandom) for _ in range(2)]
    assert judged(sender.scheme, sender.post(), sender.secret, *others) == Genuine()
    first = len(compared)
    assert judged(sender.scheme, sender.post(), *others, sender.secret) == Genuine()
    assert first >= 3
    assert len(compared) == 2 * first


def test_a_header_may_hold_the_signatures_of_several_secrets() -> None:
    """As processors write them while a secret is rotated."""
    old, new = "old_secret", "new_secret"
    it = SENDERS["mollie_nextgen"]
    codes = [f"sha256={hexed(text.encode(), BODY)}" for text in (new, old)]
    lines = [("X-Mollie-Signature", each) for each in codes]
    joined = [("X-Mollie-Signature", ", ".join(codes))]
    for headers in (lines, joined):
        for text in (old, new):
            assert judged(it.scheme, Posted(headers, BODY, ""), Secret("1", text)) == Genuine()
    access = ",".join(
        f"{at}/SHA256/{hexed(text.encode(), BODY)}" for at, text in ((2, new), (1, old))
    )
    for key_id, text in (("1", old), ("2", new)):
        post = Posted([("Event-Signature", access)], BODY, "")
        assert judged("worldpay_access", post, Secret(key_id, text)) == Genuine()
        wrong = Secret("3", text)
        assert judged("worldpay_access", post, wrong) == Forged("signature_mismatch")


def test_worldpay_may_write_secret_and_code_as_it_likes() -> None:
    raw = bytes(range(32))
    written = (raw.hex(), raw.hex().upper(), base64.b64encode(raw).decode())
    for text in written:
        for key in (text.encode(), raw):
            for code in (hexed(key, BODY), hexed(key, BODY).upper(), based(key, BODY)):
                post = Posted([("Event-Signature", f"7/SHA256/{code}")], BODY, "")
                assert judged("worldpay_access", post, Secret("7", text)) == Genuine()


def test_braintree_may_sign_a_line_end_that_it_does_not_post() -> None:
    it = SENDERS["braintree"]
    payload = base64.b64encode(BODY).decode()
    code = braintree_code(it, f"{payload}\n")
    assert reason(it, braintree_post(f"other|{'0' * 40}&public_key|{code}", payload)) is None
