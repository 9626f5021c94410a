"""Opens what a browser or an app has sealed, and holds it to what it was sealed for.

A sealed box (libsodium) proves nothing of its sender, and opens as often as it is sent. So what is
in it names its key, its tenant, the page that it was typed on, a nonce and an end (T-77), and here
each of them is looked at; the nonce is used up where the card is stored. What never may live here:
a private key, or an answer that says more of a box than that it is refused.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol, TypeVar

from nacl.bindings import sodium_unpad
from nacl.exceptions import CryptoError

from gateway.card_body import CardBody, SealedCard, SealedCvc
from gateway.errors import GatewayError
from gateway.strict_json import decode
from vault.errors import EdgeKeyUnknown, SealedRefused
from vault.nonce_table import Nonce

PADDED_BYTES: Final = 512
"""Every message is padded to a multiple of this (ISO/IEC 7816-4): its length tells no brand."""
LIFE_MAX: Final = timedelta(minutes=15)


class EdgeKeyRing(Protocol):
    """Who has the private keys."""

    async def open(self, kid: str, sealed: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Sender:
    """Who may have sealed: the tenant of the key that came with it, and the pages on its list.

    `page` is the origin that the browser itself named, of a page that sends what it sealed.
    """

    tenant: str
    origins: Callable[[], Awaitable[Collection[str]]]
    page: str | None


Body = TypeVar("Body", SealedCard, SealedCvc)


class Unsealing:
    """The one place where a box is opened."""

    def __init__(
        self,
        keys: EdgeKeyRing,
        *,
        now: Callable[[], datetime],
        observe: Callable[[str], None] = lambda _result: None,
    ) -> None:
        """`observe` is told what became of each box: opened, key_unknown, or why not."""
        self._keys = keys
        self._now = now
        self._observe = observe

    async def card(self, sealed: str, kid: str, sender: Sender) -> tuple[CardBody, Nonce]:
        """Return the card, and the nonce that it uses up.

        Raises SealedRefused; EdgeKeyUnknown; any KeysError; StoreUnavailable.
        """
        body, nonce = await self._opened(sealed, kid, sender, SealedCard)
        return body.card, nonce

    async def cvc(self, sealed: str, kid: str, sender: Sender, *, token: str) -> tuple[str, Nonce]:
        """Return the code that was sealed for this token. Raises what `card` does."""
        body, nonce = await self._opened(sealed, kid, sender, SealedCvc)
        if body.token != token:
            raise SealedRefused("token")
        return body.cvc, nonce

    async def _opened(
        self, sealed: str, kid: str, sender: Sender, kind: type[Body]
    ) -> tuple[Body, Nonce]:
        try:
            opened = await self._checked(sealed, kid, sender, kind)
        except SealedRefused as refused:
            self._observe(refused.reason)
            raise
        except EdgeKeyUnknown:
            self._observe("key_unknown")
            raise
        self._observe("opened")
        return opened

    async def _checked(
        self, sealed: str, kid: str, sender: Sender, kind: type[Body]
    ) -> tuple[Body, Nonce]:
        body = _read(await self._keys.open(kid, _box(sealed)), kind)
        if body.kid != kid:
            raise SealedRefused("kid")
        if body.tenant != sender.tenant:
            raise SealedRefused("tenant")
        if sender.page not in (None, body.origin) or body.origin not in await sender.origins():
            raise SealedRefused("origin")
        at = self._now()
        if not at.timestamp() < body.expires_at <= (at + LIFE_MAX).timestamp():
            raise SealedRefused("expired")
        ends = datetime.fromtimestamp(body.expires_at, UTC)
        return body, Nonce(body.tenant, base64.urlsafe_b64decode(body.nonce + "=="), ends)


def _box(sealed: str) -> bytes:
    try:
        return base64.b64decode(sealed, validate=True)
    except binascii.Error:
        pass
    raise SealedRefused("form")


def _read(padded: bytes, kind: type[Body]) -> Body:
    try:
        return decode(sodium_unpad(padded, PADDED_BYTES), kind)
    except (CryptoError, GatewayError):  # nothing is said of what was in it
        pass
    raise SealedRefused("form")
