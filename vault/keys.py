"""Seal, open, fingerprint, digest: our verbs over transit, each for one item.

Here lives what our keys are used for, and that concurrent items share a call. What never may:
SQL, tenants' rules, and a card number in anything that can be printed. The bytes themselves are
`vault.records`' business.

Two classes for two logins. `TokenizeKeys` stands on the public side and is given nothing that
could decrypt; `RevealKeys` opens, and each opening carries the name of a recorded intent.
"""

import asyncio
import hmac
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count, cycle
from typing import Final, Self

from vault.api_keys import signing_secret_name
from vault.batching import Batching
from vault.errors import CustodyError, KeysMisconfigured, KeysUnavailable, RecordCorrupt
from vault.key_lanes import Lanes
from vault.observer import Observer
from vault.pan import Cvc, Pan
from vault.records import (
    CVC_RECORD_BYTES,
    PAN_RECORD_BYTES,
    DigestPurpose,
    context_of,
    cvc_in,
    digest_input,
    fingerprint_input,
    pan_in,
    record_of,
)
from vault.secret_shelves import SecretShelves, changed
from vault.tokens import Env
from vault.transit import Opener, Sealer
from vault.transit_answers import KeyVersionTooNew
from vault.transit_items import DecryptItem, Encrypted, EncryptItem, HmacItem

FEW_CARDS: Final = 16
MANY_LANES: Final = 2
REPLY_LIMITS: Final = (64, 512)  # items of up to 64 KiB each: 6 MB a call at the most
TOO_NEW_SECONDS_MAX: Final = 2.0  # measured: 50 to 100 ms after a rotation
TOO_NEW_PAUSE_SECONDS: Final = 0.05
_KNOWN: Final = fingerprint_input("", "probe")  # no card's: those are digits, of a tenant

_Sealing = Batching[EncryptItem, Encrypted]
_Opening = Batching[DecryptItem, bytes]


@dataclass(frozen=True, slots=True)
class Sealed:
    """A ciphertext as a row holds it."""

    ciphertext: str
    key_version: int


@dataclass(frozen=True, slots=True)
class Keyed:
    """A keyed hash and the version of its key; comparing under another version says nothing."""

    version: int
    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Protected:
    """A card as it may be stored."""

    fingerprint: Keyed
    pan: Sealed
    cvc: Sealed | None


@dataclass(frozen=True, slots=True, repr=False)
class _CardItems:
    """What one card asks of transit, each for another operation or key."""

    fingerprint: HmacItem
    pan: EncryptItem
    cvc: EncryptItem | None


@dataclass(frozen=True, slots=True)
class _Hashing:
    """Keyed hashes under one pinned version."""

    lane: Batching[HmacItem, bytes]
    version: int

    async def of(self, item: HmacItem) -> Keyed:
        return Keyed(self.version, await self.lane.submit(item))

    @classmethod
    def through(cls, lanes: Lanes, transit: Sealer, key: str, version: int) -> Self:
        lane: Batching[HmacItem, bytes] = lanes.lane("hmac", partial(transit.hmac, key, version))
        return cls(lane, version)

    async def of_all(self, contents: Sequence[bytes]) -> list[Keyed]:
        made = await self.lane.submit_all([HmacItem(content) for content in contents])
        return [Keyed(self.version, value) for value in made]


async def _sealed(lane: _Sealing, item: EncryptItem) -> Sealed:
    made = await lane.submit(item)
    return Sealed(made.ciphertext, made.key_version)


async def _opened(lane: _Opening, sealed: Sealed, context: bytes, reference: str) -> bytes:
    """Open one ciphertext.

    Right after a rotation a standby refuses the new version for a moment. Only the item concerned
    goes again, and its neighbors do not wait for it.
    """
    if not sealed.ciphertext.startswith(f"vault:v{sealed.key_version}:"):
        raise RecordCorrupt  # rewrapping goes by the column, so it must not lie
    item = DecryptItem(sealed.ciphertext, context, reference)
    loop = asyncio.get_running_loop()
    until = loop.time() + TOO_NEW_SECONDS_MAX
    while loop.time() < until:
        try:
            return await lane.submit(item)
        except KeyVersionTooNew:
            pass
        await asyncio.sleep(TOO_NEW_PAUSE_SECONDS)
    raise KeysUnavailable


# --- the two halves -------------------------------------------------------------------------


class TokenizeKeys:
    """What the way in needs: seal and hash. Nothing here can open what it sealed."""

    def __init__(
        self,
        transit: Sealer,
        env: Env,
        *,
        fingerprint_version: int,
        digest_version: int,
        observer: Observer,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._env: Env = env
        self._lanes = Lanes(observer)
        self._pans: _Sealing = self._lanes.lane("encrypt", partial(transit.encrypt, "pan"))
        self._cvcs: _Sealing = self._lanes.lane("encrypt", partial(transit.encrypt, "cvc"))
        self._fingerprints = _Hashing.through(
            self._lanes, transit, "fingerprint", fingerprint_version
        )
        self._digests = _Hashing.through(self._lanes, transit, "digest", digest_version)
        self._known: Keyed | None = None
        self._transit = transit
        self._secrets = SecretShelves(transit, now=now)
        self._cards = self._lanes.lane("encrypt", self._protect_batch)
        self._many = cycle(
            [self._lanes.lane("encrypt", self._protect_batch) for _ in range(MANY_LANES)]
        )

    async def protect(self, pan: Pan, cvc: Cvc | None, *, tenant: str, token: str) -> Protected:
        """Fingerprint and seal a card: the cards of a batch share a call to each operation.

        One queue for all that a card needs: a task for each of its items would cost more than
        the items.
        """
        return await self._cards.submit(self._card_items(pan, cvc, tenant, token))

    async def protect_all(
        self, cards: Sequence[tuple[Pan, Cvc | None, str]], *, tenant: str
    ) -> list[Protected]:
        """Protect several, each with the token it is for; one that fails, fails all.

        A few go with those of other callers. Many have lanes of their own: nobody's single card
        stands behind them, and one call is under way while we are busy with the one before.
        """
        lane = next(self._many) if len(cards) > FEW_CARDS else self._cards
        return await lane.submit_all(
            [self._card_items(pan, cvc, tenant, token) for pan, cvc, token in cards]
        )

    async def _protect_batch(self, cards: Sequence[_CardItems]) -> list[Protected | Exception]:
        version = self._fingerprints.version
        codes = [card.cvc for card in cards if card.cvc is not None]
        hashes, pans, cvcs = await asyncio.gather(
            self._transit.hmac("fingerprint", version, [card.fingerprint for card in cards]),
            self._transit.encrypt("pan", [card.pan for card in cards]),
            self._transit.encrypt("cvc", codes),  # no call if there are none
        )
        waiting = iter(cvcs)
        return [
            _protected(version, made, pan, None if card.cvc is None else next(waiting))
            for card, made, pan in zip(cards, hashes, pans, strict=True)
        ]

    async def seal_pan(self, pan: Pan, *, tenant: str, token: str) -> Sealed:
        return await _sealed(self._pans, self._pan_item(pan, tenant, token))

    async def seal_cvc(self, cvc: Cvc, *, tenant: str, token: str) -> Sealed:
        return await _sealed(self._cvcs, self._cvc_item(cvc, tenant, token))

    async def fingerprint(self, pan: Pan, *, tenant: str) -> Keyed:
        """Hash a whole number with a key (PCI DSS 3.5.1.1); never leaves the vault package."""
        return await self._fingerprints.of(HmacItem(fingerprint_input(tenant, pan.reveal())))

    # Items are made here, and nowhere is a record kept under a name: the frames above wait, and
    # may end up in a traceback with their locals.

    def _card_items(self, pan: Pan, cvc: Cvc | None, tenant: str, token: str) -> _CardItems:
        return _CardItems(
            HmacItem(fingerprint_input(tenant, pan.reveal())),
            self._pan_item(pan, tenant, token),
            None if cvc is None else self._cvc_item(cvc, tenant, token),
        )

    def _pan_item(self, pan: Pan, tenant: str, token: str) -> EncryptItem:
        return EncryptItem(
            record_of(pan.reveal(), PAN_RECORD_BYTES, secrets.token_bytes(PAN_RECORD_BYTES)),
            context_of("pan", self._env, tenant, token),
        )

    def _cvc_item(self, cvc: Cvc, tenant: str, token: str) -> EncryptItem:
        return EncryptItem(
            record_of(cvc.reveal(), CVC_RECORD_BYTES, secrets.token_bytes(CVC_RECORD_BYTES)),
            context_of("cvc", self._env, tenant, token),
        )

    async def digest(self, purpose: DigestPurpose, tenant: str, content: bytes) -> Keyed:
        """Hash a body or an idempotency key, tokens in place."""
        return await self._digests.of(HmacItem(digest_input(purpose, tenant, content)))

    async def callback_secrets(self, tenant: str, route: str) -> Mapping[str, str] | None:
        """Give what proves a processor's callbacks; None when nothing is set.

        Kept for a minute at most.
        """
        return await self._secrets.get(f"callback/{tenant}/{route}")

    async def probe(self) -> Keyed:
        """Do the way in's real work once; give the hash of a constant.

        The hash never changes while this is the HashiCorp Vault that it always was: a caller
        compares it with the one stored at the first start.
        """
        where = context_of("probe", self._env, "", secrets.token_hex(16))
        _, known = await asyncio.gather(
            _sealed(self._pans, EncryptItem(secrets.token_bytes(PAN_RECORD_BYTES), where)),
            self._fingerprints.of(HmacItem(_KNOWN)),
        )
        if self._known is None:
            self._known = known
        if not hmac.compare_digest(known.value, self._known.value):
            raise KeysMisconfigured
        return known

    async def close(self) -> None:
        await self._lanes.close()


def _protected(
    version: int,
    made: bytes | CustodyError,
    pan: Encrypted | CustodyError,
    cvc: Encrypted | CustodyError | None,
) -> Protected | CustodyError:
    """Bring one card's results together; whatever failed of it fails all of it."""
    if isinstance(made, CustodyError):
        return made
    if isinstance(pan, CustodyError):
        return pan
    if isinstance(cvc, CustodyError):
        return cvc
    return Protected(
        Keyed(version, made),
        Sealed(pan.ciphertext, pan.key_version),
        None if cvc is None else Sealed(cvc.ciphertext, cvc.key_version),
    )


class RevealKeys:
    """What the way out needs: open cards, seal answers, the processors' credentials."""

    def __init__(
        self,
        transit: Opener,
        env: Env,
        *,
        digest_version: int,
        observer: Observer,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._env: Env = env
        self._transit = transit
        self._lanes = Lanes(observer)
        self._pans: _Opening = self._lanes.lane("decrypt", partial(transit.decrypt, "pan"))
        self._cvcs: _Opening = self._lanes.lane("decrypt", partial(transit.decrypt, "cvc"))
        self._replies_in: _Sealing = self._lanes.lane(
            "encrypt", partial(transit.encrypt, "reply"), REPLY_LIMITS
        )
        self._replies_out: _Opening = self._lanes.lane(
            "decrypt", partial(transit.decrypt, "reply"), REPLY_LIMITS
        )
        self._digests = _Hashing.through(self._lanes, transit, "digest", digest_version)
        self._numbers = count()
        self._secrets = SecretShelves(transit, now=now)

    async def open_pan(self, sealed: Sealed, *, tenant: str, token: str, reference: str) -> Pan:
        """Open a card number for an act on record: `reference` is `<intent>/<n>`.

        Whoever calls compares length and last four with the row: the context proves the place,
        the row proves that it is the number the merchant means.
        """
        context = context_of("pan", self._env, tenant, token)
        pan = pan_in(await _opened(self._pans, sealed, context, reference))
        if pan is None:
            raise RecordCorrupt
        return pan

    async def open_cvc(self, sealed: Sealed, *, tenant: str, token: str, reference: str) -> Cvc:
        """Open a card's code. KeyVersionRetired means that its time is over."""
        context = context_of("cvc", self._env, tenant, token)
        cvc = cvc_in(await _opened(self._cvcs, sealed, context, reference))
        if cvc is None:
            raise RecordCorrupt
        return cvc

    async def seal_reply(self, body: bytes, *, tenant: str, intent: str) -> Sealed:
        """Seal an answer of 1 to 65,536 bytes, card numbers scrubbed, for a repeated request."""
        context = context_of("reply", self._env, tenant, intent)
        return await _sealed(self._replies_in, EncryptItem(body, context))

    async def open_reply(self, sealed: Sealed, *, tenant: str, intent: str) -> bytes:
        context = context_of("reply", self._env, tenant, intent)
        return await _opened(self._replies_out, sealed, context, str(next(self._numbers)))

    async def digest(self, purpose: DigestPurpose, tenant: str, content: bytes) -> Keyed:
        """Hash a body or an idempotency key, tokens in place."""
        return await self._digests.of(HmacItem(digest_input(purpose, tenant, content)))

    async def processor_secret(self, tenant: str, route: str) -> Mapping[str, str] | None:
        """Give a route's credentials; None when none are set. Kept for a minute at most."""
        return await self._secrets.get(f"processor/{tenant}/{route}")

    async def signing_secret(self, tenant: str, key_id: str) -> str | None:
        """Give the base64 secret that was issued with a signing key; None when none was."""
        stored = await self.processor_secret(tenant, signing_secret_name(key_id))
        return None if stored is None else stored.get("secret")

    async def webhook_secrets(self, tenant: str, endpoint: str) -> Mapping[str, str] | None:
        """Give what signs posts to a merchant's endpoint; None when nothing is set.

        Kept for a minute at most: what another replica put is in force here within that time.
        """
        return await self._secrets.get(f"webhook/{tenant}/{endpoint}")

    async def put_webhook_secrets(
        self, tenant: str, endpoint: str, changes: Mapping[str, str | None]
    ) -> bool:
        """Put these names, None taking one away; what else there is stays.

        So that two who rotate at once lose nothing: False when others were quicker each time, and
        nothing was put. Raises any KeysError; after a timeout it may have been.
        """
        path = f"webhook/{tenant}/{endpoint}"
        try:
            return await changed(self._transit, path, changes)
        finally:
            self._secrets.forget(path)

    async def digests(
        self, tenant: str, contents: Sequence[tuple[DigestPurpose, bytes]]
    ) -> list[Keyed]:
        """Hash several contents of one request, in one call if there is room."""
        return await self._digests.of_all(
            [digest_input(purpose, tenant, content) for purpose, content in contents]
        )

    async def probe(self) -> None:
        """Do a real round trip; of an answer's key, since no card is opened without an intent."""
        where = context_of("probe", self._env, "", secrets.token_hex(16))
        plaintext = secrets.token_bytes(32)
        sealed = await _sealed(self._replies_in, EncryptItem(plaintext, where))
        opened = await _opened(self._replies_out, sealed, where, str(next(self._numbers)))
        if not hmac.compare_digest(opened, plaintext):
            raise RecordCorrupt

    async def close(self) -> None:
        await self._lanes.close()
