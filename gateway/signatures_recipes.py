"""Callbacks that are signed in a header, over the body as it came: one line of a table each. Pure.

The code is checked before anything of the body is read, and the time after the code, so that only
a genuine callback can be called stale. What never lives here: schemes that sign in the body
(`signatures_adyen`, `signatures_braintree`) or with a private key (`signatures_paypal`).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from gateway.signatures_layouts import (
    Bare,
    Claim,
    CyberSource,
    Layout,
    StandardWebhooks,
    Stripe,
    WorldpayAccess,
    Written,
)
from gateway.signatures_macs import (
    BASE64,
    HEX,
    HEX_512,
    Claimed,
    Mac,
    any_key,
    ascii_key,
    base64_key,
    hex_key,
    hexadecimal,
    in_base64,
    prefixed_base64_key,
    upper_hexadecimal,
)
from gateway.signatures_terms import CannotSign, Forged, Genuine, Posted, Random, Secret, Secrets

TOLERANCE: Final = timedelta(minutes=5)
"""Both ways: a time to come, signed ahead, would be good for as long as its maker likes."""
KEPT_FOR: Final = timedelta(minutes=4)
"""Younger than this, a signature can still be checked by the merchant when it gets there."""

# JSON in tokens and what is between them. A quote always takes all to its end, or to the end of
# the body, so that one pass is enough for whatever comes.
_JSON_SPACE: Final = re.compile(rb'("(?:[^"\\]|\\.?)*+(?:"|\Z))|[ \t\r\n]++', re.DOTALL)


def compact(body: bytes) -> bytes:
    """Take out the white space between the tokens of a JSON text."""
    return _JSON_SPACE.sub(lambda found: found[1] or b"", body)


def plain_id(random: Random) -> str:
    return random(4).hex()


def uuid_id(random: Random) -> str:
    return str(UUID(bytes=random(16), version=4))


def numeric_id(random: Random) -> str:
    return str(int.from_bytes(random(4), "big"))


def hex_text(random: Random) -> str:
    return random(32).hex()


@dataclass(frozen=True, slots=True)
class Recipe:
    """A scheme's line: where, by what, and over what else if the body itself does not match."""

    layout: Layout
    mac: Mac
    new_text: Callable[[Random], str] = hex_text
    new_id: Callable[[Random], str] = plain_id
    also: Callable[[bytes], bytes] | None = None

    def proven(self, posted: Posted, secrets: Secrets, *, at: datetime) -> Genuine | Forged:
        claim = self.layout.read(posted)
        if isinstance(claim, str):
            return Forged(claim)
        if not self.mac.has_key(secrets.signing):
            return Forged("secret_missing")
        if not self.mac.matches(self._messages(claim, posted), secrets.signing, claim.claimed):
            return Forged("signature_mismatch")
        return Genuine() if _is_within(TOLERANCE, claim, at) else Forged("signature_stale")

    def signed(
        self, posted: Posted, secret: Secret, *, at: datetime, keep: bool
    ) -> tuple[Written, bytes]:
        """Sign, beside what is there if it can still be of use, else in its place."""
        keys = self.mac.keys(secret.text)
        if not keys:
            raise CannotSign
        found = self.layout.read(posted) if keep else "signature_missing"
        beside = not isinstance(found, str) and _is_within(KEPT_FOR, found, at)
        claim = self.layout.fresh(posted, at) if isinstance(found, str) or not beside else found
        code = self.mac.made(keys[0], claim.before + posted.body)
        made = Claimed(code, secret.key_id)
        return self.layout.written(posted.headers, claim, made, beside=beside), posted.body

    def new_secret(self, random: Random) -> Secret:
        return Secret(self.new_id(random), self.new_text(random))

    def _messages(self, claim: Claim, posted: Posted) -> Iterator[bytes]:
        yield claim.before + posted.body
        if self.also is not None:
            yield claim.before + self.also(posted.body)


def _is_within(tolerance: timedelta, claim: Claim, at: datetime) -> bool:
    return claim.sent_at is None or abs(at.timestamp() - claim.sent_at) <= tolerance.total_seconds()


_ASCII_HEX: Final = Mac(ascii_key, (hexadecimal,))
_ASCII_BASE64: Final = Mac(ascii_key, (in_base64,))

RECIPES: Final[Mapping[str, Recipe]] = {
    "stripe": Recipe(
        Stripe(),
        _ASCII_HEX,
        lambda random: f"whsec_{hex_text(random)}",
    ),
    "adyen_header": Recipe(
        Bare("hmacsignature", BASE64),
        Mac(hex_key, (in_base64,)),
        lambda random: random(32).hex().upper(),
    ),
    "checkout": Recipe(Bare("cko-signature", HEX), _ASCII_HEX),
    # Some of its senders are known to sign the JSON without the white space that they send.
    "authorize_net": Recipe(
        Bare("x-anet-signature", HEX_512, "sha512="),
        Mac(ascii_key, (upper_hexadecimal,), "sha512"),
        lambda random: random(64).hex().upper(),
        also=compact,
    ),
    "square": Recipe(Bare("x-square-hmacsha256-signature", BASE64, signs_url=True), _ASCII_BASE64),
    # Its page does not say how secret and code are written.
    "worldpay_access": Recipe(
        WorldpayAccess(),
        Mac(any_key, (hexadecimal, upper_hexadecimal, in_base64)),
        new_id=numeric_id,
    ),
    "cybersource": Recipe(
        CyberSource(),
        Mac(base64_key, (in_base64,)),
        lambda random: in_base64(random(32)),
        uuid_id,
    ),
    "razorpay": Recipe(Bare("x-razorpay-signature", HEX), _ASCII_HEX),
    "mollie_nextgen": Recipe(Bare("x-mollie-signature", HEX, "sha256=", several=True), _ASCII_HEX),
    "standard_webhooks": Recipe(
        StandardWebhooks(),
        Mac(prefixed_base64_key, (in_base64,)),
        lambda random: f"whsec_{in_base64(random(32))}",
    ),
}
