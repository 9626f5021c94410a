"""The notifications of the simulated Adyen, one item each, and their signature. Pure.

The signature stands in the item and covers eight of its fields, not the reason.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Self

import msgspec

from gateway.sandbox.callbacks import Post

if TYPE_CHECKING:
    from datetime import datetime

KEY_BYTES: Final = 32

_HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": "application/json; charset=utf-8",
    "User-Agent": "Adyen HttpClient 1.0",
}


class Amount(msgspec.Struct, frozen=True, kw_only=True):
    """Minor units."""

    currency: str
    value: int


class AdyenItem(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One item, in the order of Adyen's own; `success` is a text there."""

    additional_data: Mapping[str, str] = {}
    amount: Amount
    event_code: str
    event_date: str
    merchant_account_code: str
    merchant_reference: str
    operations: tuple[str, ...] = ()
    original_reference: str | None = None
    payment_method: str
    psp_reference: str
    reason: str = ""
    success: str

    @property
    def type(self) -> str:
        return self.event_code

    @property
    def id(self) -> str:
        return self.psp_reference

    @property
    def payment(self) -> str:
        return self.original_reference or self.psp_reference

    def noting(self, text: str) -> Self:
        return msgspec.structs.replace(self, reason=text)

    def posted(self, secret: str | None, *, at: "datetime") -> Post:  # noqa: ARG002 - of no use
        """Sign it: a repeat is the same to the last byte."""
        item = self
        if secret is not None:
            signed = {**self.additional_data, "hmacSignature": signature(secret, self)}
            item = msgspec.structs.replace(self, additional_data=signed)
        items = [{"NotificationRequestItem": item}]
        return Post(_HEADERS, msgspec.json.encode({"live": "false", "notificationItems": items}))


def key_of(secret: str) -> bytes:
    """Decode the key as the Customer Area shows it; a ValueError where it is none."""
    key = bytes.fromhex(secret)
    if len(key) != KEY_BYTES:
        raise ValueError("an HMAC key of Adyen's has 64 hexadecimal digits")
    return key


def signature(secret: str, item: AdyenItem) -> str:
    """Sign the eight fields, joined as they are: nothing is escaped."""
    signed = ":".join(
        (
            item.psp_reference,
            item.original_reference or "",
            item.merchant_account_code,
            item.merchant_reference,
            str(item.amount.value),
            item.amount.currency,
            item.event_code,
            item.success,
        )
    )
    return base64.b64encode(hmac.digest(key_of(secret), signed.encode(), hashlib.sha256)).decode()
