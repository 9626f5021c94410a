"""Edge keys: the X25519 key pairs to which browsers and apps seal cards, as a gateway uses them.

HashiCorp Vault's KV engine holds each pair under its kid, with the signature that transit's
`edge-sign` made over the public half. Here a record is checked before it is published or opens
anything: a page that pins the verifying key, and we, hold the same signature to be good.

A private key is in this process from the refresh that read it to the first one after it was
destroyed or is over: as base64 in the answer's text, and as 32 bytes that libsodium is given.
CPython wipes neither. What ends a recorded box is `kv/destroy` (`edge_key_rotation`), not this
process's memory. What never may live here: a write to HashiCorp Vault, and what is in a box.
"""

import asyncio
import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final, Protocol
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from nacl.bindings import (
    crypto_box_PUBLICKEYBYTES,
    crypto_box_seal_open,
    crypto_box_SEALBYTES,
    crypto_box_SECRETKEYBYTES,
    crypto_scalarmult_base,
)
from nacl.exceptions import CryptoError

from vault.errors import EdgeKeyUnknown, KeysMisconfigured, SealedRefused
from vault.ids import BITS_A_CHARACTER, CROCKFORD, CROCKFORD_CLASS, crockford_encode, uuid7
from vault.transit import Secret

FOLDER: Final = "edge"  # of the KV engine
SIGNING_KEY: Final = "edge-sign"  # of transit
FIRST_VERSION: Final = 1  # a record is written once: what lies over it is nobody's
LIFE_MAX: Final = timedelta(days=14)
"""No key is in use longer: what is older is not even read."""

REFRESH_SECONDS: Final = 10.0
LOOK_AGAIN_SECONDS: Final = 1.0  # for a kid that we do not know yet: at most so often
YOUNG: Final = timedelta(minutes=5)  # who names an older one that we do not know is late, or lies
SKEW: Final = timedelta(seconds=10)  # between clocks
SETTLED: Final = timedelta(minutes=1)  # after which a lagging node knows of a key too

_TITLE: Final = "panward/edge-key/v1"
_KID: Final = re.compile(f"ek_[0-7]{CROCKFORD_CLASS}{{25}}")
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
_SIGNATURE_BYTES: Final = 64
_VERSION: Final = re.compile("[1-9][0-9]{0,8}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UUID_VERSION: Final = 7


# --- kids and times -----------------------------------------------------------------------


def kid_of(uuid: UUID) -> str:
    """Write a UUIDv7 as a kid, so that kids sort by time and tell their age."""
    return f"ek_{crockford_encode(uuid.bytes)}"


def uuid_of(kid: str) -> UUID | None:
    """Give a kid's UUIDv7 back, or None if this is no kid."""
    if _KID.fullmatch(kid) is None:
        return None
    number = 0
    for character in kid.removeprefix("ek_"):
        number = number << BITS_A_CHARACTER | CROCKFORD.index(character)
    uuid = UUID(int=number)
    return uuid if uuid.version == _UUID_VERSION else None


def made_at(kid: str) -> datetime | None:
    """Say when a kid was made, to the second; None if this is no kid, or of no year we know."""
    uuid = uuid_of(kid)
    if uuid is None:
        return None
    try:
        return _EPOCH + timedelta(seconds=(uuid.int >> 80) // 1000)
    except OverflowError:
        return None


def _first_kid(at: datetime) -> str:
    """Give the first kid of a moment, in their order."""
    return kid_of(uuid7((at - _EPOCH) // timedelta(milliseconds=1), bytes(10)))


def time_text(at: datetime) -> str:
    """Write a time as records and signatures have it: UTC, whole seconds."""
    return at.astimezone(UTC).strftime(_TIME)


def edge_key_text(
    origin: str, kid: str, public_key: bytes, not_before: datetime, not_after: datetime
) -> bytes:
    """Return what is signed. `origin` is the ledger's: no other deployment's signature fits."""
    encoded = base64.b64encode(public_key).decode("ascii")
    lines = (_TITLE, origin, kid, encoded, time_text(not_before), time_text(not_after))
    return "".join(f"{line}\n" for line in lines).encode()


# --- a key --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EdgeKey:
    """The half of an edge key that everybody may have."""

    kid: str
    public_key: bytes
    not_before: datetime
    not_after: datetime
    signature: bytes
    signed_by: int


class Refused(ValueError):
    """A record is not what one of ours is; `reason` is version, form, times, pair or signature."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, repr=False)
class _Pair:
    """A key with its private half, which nothing prints."""

    key: EdgeKey
    private_key: bytes


class EdgeKeyStore(Protocol):
    """The part of HashiCorp Vault that is asked here, under a login that changes nothing."""

    async def list_secrets(self, path: str) -> list[str]: ...

    async def read_secret(self, path: str) -> Secret | None: ...

    async def public_keys(self, key: str) -> Mapping[int, bytes]: ...


def _ignore(_reason: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What one refresh found; replaced as a whole by the next."""

    pairs: Mapping[str, _Pair] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    signing_keys: Mapping[int, bytes] = field(default_factory=dict)


class EdgeKeys:
    """The keys of a deployment as this process knows them since the last refresh."""

    def __init__(
        self,
        store: EdgeKeyStore,
        *,
        origin: str,
        now: Callable[[], datetime],
        on_refused: Callable[[str], None] = _ignore,
    ) -> None:
        """`on_refused` hears the reason, once for each record that begins to be refused."""
        self._store = store
        self._origin = origin
        self._now = now
        self._on_refused = on_refused
        self._known = _Known()
        self._gone: frozenset[str] = frozenset()  # destroyed: that is for ever
        self._refreshing = asyncio.Lock()
        self._looking = asyncio.Lock()
        self._looked_at: float | None = None

    # --- what is published ----------------------------------------------------------------

    def published(self) -> tuple[EdgeKey, ...]:
        """Return the keys in use, newest first: seal to the first."""
        now = self._now()
        keys = (pair.key for pair in self._known.pairs.values())
        used = [key for key in keys if key.not_before <= now < key.not_after]
        return tuple(sorted(used, key=lambda key: key.kid, reverse=True))

    def signing_keys(self) -> Mapping[int, bytes]:
        """Return the 32 bytes of each version of `edge-sign`: pages may pin them."""
        return MappingProxyType(self._known.signing_keys)

    @property
    def refused(self) -> Mapping[str, str]:
        """The kids whose records are neither published nor used, and why."""
        return MappingProxyType(self._known.refused)

    # --- what is opened -------------------------------------------------------------------

    async def open(self, kid: str, sealed: bytes) -> bytes:
        """Open a box (libsodium's `crypto_box_seal`).

        Raises EdgeKeyUnknown for a key that is not in use, SealedRefused for what is no box to
        it; any KeysError, when the key is new to us and HashiCorp Vault does not say.
        """
        pair = self._usable(kid)
        if pair is None and self._may_be_new(kid):
            await self._look_for(kid)
            pair = self._usable(kid)
        if pair is None:
            raise EdgeKeyUnknown
        if len(sealed) >= crypto_box_SEALBYTES:
            try:
                return crypto_box_seal_open(sealed, pair.key.public_key, pair.private_key)
            except CryptoError:
                pass
        raise SealedRefused("box")

    def _usable(self, kid: str) -> _Pair | None:
        pair = self._known.pairs.get(kid)
        return pair if pair is not None and self._now() < pair.key.not_after else None

    def _may_be_new(self, kid: str) -> bool:
        """Whether another gateway may have made it since the last refresh."""
        at = made_at(kid)
        return (
            at is not None
            and -SKEW <= self._now() - at <= YOUNG
            and kid not in self._gone
            and kid not in self._known.refused
        )

    async def _look_for(self, kid: str) -> None:
        """Refresh for all who ask now; kids that somebody makes up cost one look a second."""
        clock = asyncio.get_running_loop().time
        async with self._looking:
            looked = self._looked_at
            if kid in self._known.pairs or (
                looked is not None and clock() - looked < LOOK_AGAIN_SECONDS
            ):
                return
            try:
                await self.refresh()
            finally:
                self._looked_at = clock()

    # --- how they come to be known --------------------------------------------------------

    async def refresh(self) -> None:
        """Read every key that may be in use anew: one may have been destroyed before its time.

        Raises any KeysError; then what was known stays known, each key to its end.
        """
        async with self._refreshing:
            signing_keys = await self._store.public_keys(SIGNING_KEY)
            oldest, end = _first_kid(self._now() - LIFE_MAX), _first_kid(self._now() + SKEW)
            names = await self._store.list_secrets(FOLDER)  # of destroyed ones too, for ever
            listed = {kid for kid in names if oldest <= kid < end and made_at(kid) is not None}
            pairs: dict[str, _Pair] = {}
            refused: dict[str, str] = {}
            gone = listed & self._gone
            for kid in sorted(listed - gone):
                try:
                    pair = await self._read(kid, signing_keys)
                except Refused as error:
                    refused[kid] = error.reason
                    continue
                if pair is None and self._is_settled(kid):
                    gone.add(kid)
                if pair is not None and self._now() < pair.key.not_after:
                    pairs[kid] = pair
            self._learn(_Known(pairs, refused, dict(signing_keys)))
            self._gone = frozenset(gone)

    async def _read(self, kid: str, signing_keys: Mapping[int, bytes]) -> _Pair | None:
        """Read one, None where it is gone. Raises Refused; any other KeysError."""
        try:
            secret = await self._store.read_secret(f"{FOLDER}/{kid}")
        except KeysMisconfigured:  # something else than text is stored, or it may not be read
            pass
        else:
            return None if secret is None else _checked(kid, secret, self._origin, signing_keys)
        raise Refused("form")

    def _is_settled(self, kid: str) -> bool:
        """Whether an empty answer is the truth, and not that of a node that lags."""
        at = made_at(kid)
        return at is not None and self._now() - at > SETTLED

    def _learn(self, found: _Known) -> None:
        before, self._known = self._known, found
        for kid, reason in found.refused.items():
            if before.refused.get(kid) != reason:
                self._on_refused(reason)


# --- a record -----------------------------------------------------------------------------


def record_of(key: EdgeKey, private_key: bytes) -> dict[str, str]:
    """Write a key as the KV engine holds it."""
    return {
        "private_key": base64.b64encode(private_key).decode("ascii"),
        "public_key": base64.b64encode(key.public_key).decode("ascii"),
        "not_before": time_text(key.not_before),
        "not_after": time_text(key.not_after),
        "signature": base64.b64encode(key.signature).decode("ascii"),
        "signed_by": str(key.signed_by),
    }


def verifies(key: EdgeKey, origin: str, signing_keys: Mapping[int, bytes]) -> bool:
    """Whether a version of `edge-sign` that counts has signed just this for this deployment."""
    verifying = signing_keys.get(key.signed_by)
    if verifying is None:
        return False
    text = edge_key_text(origin, key.kid, key.public_key, key.not_before, key.not_after)
    try:
        Ed25519PublicKey.from_public_bytes(verifying).verify(key.signature, text)
    except (InvalidSignature, ValueError):
        return False
    return True


def _checked(kid: str, secret: Secret, origin: str, signing_keys: Mapping[int, bytes]) -> _Pair:
    """Read a record and hold it to everything that can be checked. Raises Refused."""
    if secret.version != FIRST_VERSION:
        raise Refused("version")
    pair = _parsed(kid, secret.data)
    key = pair.key
    life = key.not_after - key.not_before
    if key.not_before != made_at(kid) or not timedelta(0) < life <= LIFE_MAX:
        raise Refused("times")
    if crypto_scalarmult_base(pair.private_key) != key.public_key:
        raise Refused("pair")
    if not verifies(key, origin, signing_keys):
        raise Refused("signature")
    return pair


def _parsed(kid: str, data: Mapping[str, str]) -> _Pair:
    """Raises Refused."""
    try:
        key = EdgeKey(
            kid,
            _bytes_of(data["public_key"], crypto_box_PUBLICKEYBYTES),
            _time_of(data["not_before"]),
            _time_of(data["not_after"]),
            _bytes_of(data["signature"], _SIGNATURE_BYTES),
            _version_of(data["signed_by"]),
        )
        return _Pair(key, _bytes_of(data["private_key"], crypto_box_SECRETKEYBYTES))
    except (KeyError, ValueError):  # its text may quote the key
        pass
    raise Refused("form")


def _bytes_of(text: str, length: int) -> bytes:
    data = base64.b64decode(text, validate=True)
    if len(data) != length or base64.b64encode(data).decode("ascii") != text:
        raise ValueError("another length, or another spelling")
    return data


def _time_of(text: str) -> datetime:
    at = datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    if time_text(at) != text:
        raise ValueError("another spelling")
    return at


def _version_of(text: str) -> int:
    if _VERSION.fullmatch(text) is None:
        raise ValueError("no version")
    return int(text)
