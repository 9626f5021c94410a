"""Callbacks as each processor's guide says to sign them, by code of their own: no code of ours."""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import quote_plus

from gateway.signatures import (
    SCHEMES,
    Forged,
    Genuine,
    NeedsCertificate,
    NeedsSource,
    Posted,
    Secret,
    Secrets,
    verified,
)

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SECONDS = int(AT.timestamp())
URL = "https://pay.example.com/callbacks/cbe_0001"
BODY = b'{"id": "evt_1", "type": "payment", "payload": {"amount": 1130, "note": "a b"}}'
Hash = Literal["sha1", "sha256", "sha512"]

HEX_KEY = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"
BASE64_KEY = base64.b64encode(bytes(range(32))).decode()


def hexed(key: bytes, message: bytes, hash_: Hash = "sha256") -> str:
    return hmac.new(key, message, hash_).hexdigest()


def based(key: bytes, message: bytes, hash_: Hash = "sha256") -> str:
    return base64.b64encode(hmac.new(key, message, hash_).digest()).decode()


@dataclass(frozen=True)
class Sender:
    """A processor, and every part of its signature that can be made wrong."""

    scheme: str
    secret: Secret
    header: str | None
    sign: "Callable[[Sender, bytes], Posted]"
    body: bytes = BODY
    hash: Hash = "sha256"
    seconds: int = SECONDS
    url: str = URL
    names_key: bool = False
    timed: bool = False

    def post(self, body: bytes | None = None) -> Posted:
        return self.sign(self, self.body if body is None else body)

    def other(self, text: str) -> "Sender":
        return replace(self, secret=replace(self.secret, text=text))


def judged(
    scheme: str, posted: Posted, *secrets: Secret, at: datetime = AT
) -> Genuine | Forged | NeedsCertificate | NeedsSource:
    return verified(SCHEMES[scheme], posted, Secrets(secrets), at=at)


def reason(sender: Sender, posted: Posted, at: datetime = AT) -> str | None:
    """Say why a post is refused by one who holds the sender's secret; None: it is not."""
    outcome = judged(sender.scheme, posted, sender.secret, at=at)
    if isinstance(outcome, Forged):
        return outcome.reason
    assert outcome == Genuine(), outcome
    return None


def posted(sender: Sender, value: str, body: bytes, *more: tuple[str, str]) -> Posted:
    assert sender.header is not None
    content = ("Content-Type", "application/json")
    return Posted((content, (sender.header, value), *more), body, sender.url)


def _stripe(it: Sender, body: bytes) -> Posted:
    message = f"{it.seconds}.".encode() + body
    code = hexed(it.secret.text.encode(), message, it.hash)
    return posted(it, f"t={it.seconds},v1={code}", body)


def _adyen_header(it: Sender, body: bytes) -> Posted:
    return posted(it, based(bytes.fromhex(it.secret.text), body, it.hash), body)


def _hex(prefix: str = "") -> Callable[[Sender, bytes], Posted]:
    def sign(it: Sender, body: bytes) -> Posted:
        return posted(it, prefix + hexed(it.secret.text.encode(), body, it.hash), body)

    return sign


def _authorize_net(it: Sender, body: bytes) -> Posted:
    return posted(it, f"sha512={hexed(it.secret.text.encode(), body, it.hash).upper()}", body)


def _square(it: Sender, body: bytes) -> Posted:
    return posted(it, based(it.secret.text.encode(), it.url.encode() + body, it.hash), body)


def _worldpay(it: Sender, body: bytes) -> Posted:
    code = hexed(it.secret.text.encode(), body, it.hash)
    return posted(it, f"{it.secret.key_id}/SHA256/{code}", body)


def _cybersource(it: Sender, body: bytes) -> Posted:
    time = it.seconds * 1000
    code = based(base64.b64decode(it.secret.text), f"{time}.".encode() + body, it.hash)
    return posted(it, f"t={time};keyId={it.secret.key_id};sig={code}", body)


def _standard(it: Sender, body: bytes) -> Posted:
    key = base64.b64decode(it.secret.text.removeprefix("whsec_"))
    code = based(key, f"msg_1.{it.seconds}.".encode() + body, it.hash)
    more = (("webhook-id", "msg_1"), ("webhook-timestamp", str(it.seconds)))
    return posted(it, f"v1,{code}", body, *more)


ITEM = {
    "pspReference": "7914073381342285",
    "merchantAccountCode": "TestMerchant",
    "merchantReference": "order:1",
    "amount": {"currency": "EUR", "value": 1130},
    "eventCode": "AUTHORISATION",
    "success": "true",
    "additionalData": {"hmacSignature": "", "a.b": "c"},
    "reason": "1234:7777:12/2030",
}


def item_code(secret: str, item: dict[str, object], hash_: Hash = "sha256") -> str:
    amount = item.get("amount") or {}
    assert isinstance(amount, dict)
    names = ("pspReference", "originalReference", "merchantAccountCode", "merchantReference")
    fields = [
        *(item.get(name) or "" for name in names),
        *(amount.get("value", ""), amount.get("currency", "")),
        *(item["eventCode"], item["success"]),
    ]
    return based(bytes.fromhex(secret), ":".join(map(str, fields)).encode(), hash_)


def item_post(it: Sender, *items: dict[str, object]) -> Posted:
    """Sign each item as it is now."""
    for item in items:
        item["additionalData"] = {
            "a.b": "c",
            "hmacSignature": item_code(it.secret.text, item, it.hash),
        }
    return items_posted(*items)


def items_posted(*items: object) -> Posted:
    wrapped = [{"NotificationRequestItem": item} for item in items]
    body = json.dumps({"live": "false", "notificationItems": wrapped}).encode()
    return Posted((("Content-Type", "application/json"),), body, URL)


def _adyen_item(it: Sender, body: bytes) -> Posted:
    return item_post(it, dict(ITEM, merchantReference=hashlib.sha256(body).hexdigest()))


def braintree_post(pairs: str, payload: str) -> Posted:
    body = f"bt_signature={quote_plus(pairs)}&bt_payload={quote_plus(payload)}".encode()
    return Posted((("Content-Type", "application/x-www-form-urlencoded"),), body, URL)


def braintree_code(it: Sender, payload: str) -> str:
    key = hashlib.sha1(it.secret.text.encode()).digest()  # noqa: S324 - the processor's own
    return hexed(key, payload.encode(), it.hash)


def _braintree(it: Sender, body: bytes) -> Posted:
    payload = base64.encodebytes(body).decode()
    return braintree_post(f"{it.secret.key_id}|{braintree_code(it, payload)}", payload)


SENDERS = {
    each.scheme: each
    for each in (
        Sender("stripe", Secret("1", "whsec_test_secret"), "Stripe-Signature", _stripe, timed=True),
        Sender("adyen_item", Secret("1", HEX_KEY), None, _adyen_item),
        Sender("adyen_header", Secret("1", HEX_KEY), "HmacSignature", _adyen_header),
        Sender("checkout", Secret("1", "sig-key"), "Cko-Signature", _hex()),
        Sender(
            "braintree",
            Secret("public_key", "private_key"),
            None,
            _braintree,
            hash="sha1",
            names_key=True,
        ),
        Sender(
            "authorize_net",
            Secret("1", HEX_KEY * 2),
            "X-ANET-Signature",
            _authorize_net,
            hash="sha512",
        ),
        Sender("square", Secret("1", "signature-key"), "x-square-hmacsha256-signature", _square),
        Sender(
            "worldpay_access", Secret("1", "w" * 40), "Event-Signature", _worldpay, names_key=True
        ),
        Sender(
            "cybersource",
            Secret("5a1c1c4e-8f6a-4b8e-9a53-0c2f7f6f9a11", BASE64_KEY),
            "v-c-signature",
            _cybersource,
            names_key=True,
            timed=True,
        ),
        Sender("razorpay", Secret("1", "key_secret"), "X-Razorpay-Signature", _hex()),
        Sender("mollie_nextgen", Secret("1", "molly"), "X-Mollie-Signature", _hex("sha256=")),
        Sender(
            "standard_webhooks",
            Secret("1", f"whsec_{BASE64_KEY}"),
            "webhook-signature",
            _standard,
            timed=True,
        ),
    )
}


_MAC = re.compile(rb"[0-9A-Fa-f]{40,}|[A-Za-z0-9+/]{43}=")


def mac_of(post: Posted, sender: Sender) -> str:
    """Find the code in a post."""
    if sender.header is not None:
        found = _MAC.findall(dict(post.headers)[sender.header].encode())
        return str(found[-1].decode())
    pattern = rb'hmacSignature": "([^"]+)"' if sender.scheme == "adyen_item" else rb"%7C([0-9a-f]+)"
    match = re.search(pattern, post.body)
    assert match is not None
    return match[1].decode()


def with_header(sender: Sender, change: Callable[[str], str], post: Posted | None = None) -> Posted:
    post = post or sender.post()
    headers = [
        (name, change(text) if name == sender.header else text) for name, text in post.headers
    ]
    return replace(post, headers=headers)


def another(mac: str) -> str:
    """The same form, with one character changed."""
    return ("1" if mac[0] != "1" else "2") + mac[1:]
