"""A call that is signed over its body, checked as it came and signed again as it leaves. Pure.

CyberSource's clients sign the digest of the body, so a body in which a token became a number
needs a new signature. Two schemes: its HTTP Signature (an early draft of RFC 9421), and a JSON
Web Token (RFC 7519) under HS256. Only what was verified can be signed again: `signed_again`
takes nothing else. What never lives here: where secrets come from, and a body for longer than
it takes to hash it. A digest made here is of a body with a card number in it, from which the
number could be found by trying: it goes to the processor and into nothing else.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

HEADER_CHARACTERS_MAX: Final = 8192
SECRET_BYTES: Final = (16, 512)
DATE_TOLERANCE: Final = timedelta(minutes=5)  # what the processor allows too
TOKEN_SECONDS: Final = 120  # how long a token of its SDKs is good, and so ours
TOKEN_SECONDS_MAX: Final = 900
TOKEN_SKEW_SECONDS: Final = 60

Body = bytes | bytearray


class Reason(StrEnum):
    """Why a signed call is refused: public words."""

    MALFORMED = "signature_malformed"
    ALGORITHM = "signature_algorithm"
    RS256 = "rs256_cannot_be_signed_again"  # that key is the merchant's certificate, not here
    COVERAGE = "signature_coverage"  # something that must be signed is not, or cannot be
    STALE = "signature_stale"
    TARGET = "signature_target"  # a token that was made for another call
    DIGEST = "digest_mismatch"
    SIGNATURE = "signature_mismatch"


@dataclass(frozen=True, slots=True, repr=False)
class SignedCall:
    """A call as it came. `target` is path and query as the processor gets them."""

    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    body: Body


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key id and its secret; `merchant_id` is put in the place of the one that came."""

    id: str
    secret: bytes = field(repr=False)
    merchant_id: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """The call is not what its sender signed, or cannot be signed again."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Verified:
    """Proof that whoever holds a key's secret signed a call; also what to sign again, and how."""

    key_id: str
    signed: "_HttpSignature | _Token" = field(repr=False)


def signing_key(key_id: str, secret: str, merchant_id: str | None = None) -> SigningKey | None:
    """Read a key as it is stored, its secret in base64; None for what is none."""
    try:
        raw = base64.b64decode(secret, validate=True)
    except (binascii.Error, ValueError):
        return None
    shortest, longest = SECRET_BYTES
    fits = _KEY_ID.fullmatch(key_id) and shortest <= len(raw) <= longest
    if not fits or (merchant_id is not None and not _VALUE.fullmatch(merchant_id)):
        return None
    return SigningKey(key_id, raw, merchant_id)


def key_id_of(headers: Sequence[tuple[str, str]]) -> str | None:
    """Say by whose key a call claims to be signed; None where no one key can be read.

    It only says whose secret to look up: nothing is believed before `verified`.
    """
    parsed = _parsed(headers)
    return None if isinstance(parsed, Refusal) else parsed.key_id


def verified(call: SignedCall, key: SigningKey, *, now: datetime) -> Verified | Refusal:
    """Check a call as it came: that this key signed it, all of it that counts, and just now."""
    parsed = _parsed(call.headers)
    if isinstance(parsed, Refusal):
        return parsed
    if parsed.key_id != key.id:
        return Refusal(Reason.SIGNATURE)
    refusal = parsed.refused(call, key.secret, now)
    return refusal or Verified(key.id, parsed.bound(call))


def signed_again(
    proof: Verified, body: Body, key: SigningKey, *, host: str, now: datetime
) -> tuple[tuple[str, str], ...]:
    """Give the headers that take the place of those of the same name.

    `body` is what leaves and `host` is what leaves as `Host`; `key` is the merchant's at the
    processor. Any `Date` stays what it was, so the call cannot wait.
    """
    return proof.signed.renewed(body, key, host=host, now=now)


def _parsed(headers: Sequence[tuple[str, str]]) -> "_HttpSignature | _Token | Refusal":
    signatures = _values(headers, "signature")
    authorizations = _values(headers, "authorization")
    if len(signatures) + len(authorizations) != 1:  # with both, two readers could differ
        return Refusal(Reason.MALFORMED)
    (text,) = signatures or authorizations
    if len(text) > HEADER_CHARACTERS_MAX:
        return Refusal(Reason.MALFORMED)
    return _http_signature(text) if signatures else _token(text)


# --- HTTP Signature -----------------------------------------------------------------------

ALGORITHM: Final = "HmacSHA256"
DIGEST_START: Final = "SHA-256="
BODY_METHODS: Final = frozenset({"POST", "PUT", "PATCH"})
_TARGET_NAMES: Final = frozenset({"request-target", "(request-target)"})
_DATE_NAMES: Final = frozenset({"date", "v-c-date"})
_FROM_HEADERS: Final = frozenset({"host", "digest", "v-c-merchant-id"}) | _DATE_NAMES

_PARTS: Final = frozenset({"keyid", "algorithm", "headers", "signature"})
_PART: Final = re.compile(r'([a-z]{1,16})="([\x20\x21\x23-\x5b\x5d-\x7e]{1,1024})"')
_KEY_ID: Final = re.compile("[A-Za-z0-9_-]{1,64}")
_VALUE: Final = re.compile(r"[\x20-\x7e]{1,8192}")  # a line end would be read as another line


@dataclass(frozen=True, slots=True, repr=False)
class _HttpSignature:
    key_id: str
    covered: tuple[str, ...]
    signature: str
    values: Mapping[str, str] = field(default_factory=dict[str, str])

    def refused(self, call: SignedCall, secret: bytes, now: datetime) -> Refusal | None:
        bound = self.bound(call)
        if not bound.covers(has_body=bool(call.body) or call.method in BODY_METHODS):
            return Refusal(Reason.COVERAGE)
        if not all(_is_recent(bound.values[name], now) for name in _DATE_NAMES & {*bound.covered}):
            return Refusal(Reason.STALE)
        if "digest" in bound.covered and not _same(bound.values["digest"], _digest_of(call.body)):
            return Refusal(Reason.DIGEST)
        if not _same(self.signature, _signed(bound.covered, bound.values, secret)):
            return Refusal(Reason.SIGNATURE)
        return None

    def bound(self, call: SignedCall) -> "_HttpSignature":
        """Take in the values of the names that are signed, those that came exactly once."""
        found = {name: _values(call.headers, name) for name in _FROM_HEADERS & {*self.covered}}
        values = {name: texts[0] for name, texts in found.items() if len(texts) == 1}
        for name in _TARGET_NAMES & {*self.covered}:
            values[name] = f"{call.method.lower()} {call.target}"
        return _HttpSignature(self.key_id, self.covered, self.signature, values)

    def covers(self, *, has_body: bool) -> bool:
        """Whether all is signed that must be, once, and nothing that would change on the way."""
        names = {*self.covered}
        return (
            len(names) == len(self.covered)
            and names == self.values.keys()
            and all(map(_VALUE.fullmatch, self.values.values()))
            and {"host", "v-c-merchant-id"} <= names
            and len(names & _TARGET_NAMES) == 1
            and bool(names & _DATE_NAMES)
            and ("digest" in names or not has_body)
        )

    def renewed(
        self, body: Body, key: SigningKey, *, host: str, now: datetime
    ) -> tuple[tuple[str, str], ...]:
        del now  # the date that was signed stays
        changed = {"v-c-merchant-id": key.merchant_id or self.values["v-c-merchant-id"]}
        if "digest" in self.values:
            changed["digest"] = _digest_of(body)
        signature = _signed(self.covered, {**self.values, "host": host, **changed}, key.secret)
        changed["signature"] = (
            f'keyid="{key.id}", algorithm="{ALGORITHM}", headers="{" ".join(self.covered)}",'
            f' signature="{signature}"'
        )
        return tuple(changed.items())


def _http_signature(text: str) -> _HttpSignature | Refusal:
    """Read the header: its four parts, each once, in any order."""
    parts: dict[str, str] = {}
    for each in re.split(", ?", text):
        part = _PART.fullmatch(each)
        if part is None or part[1] in parts:
            return Refusal(Reason.MALFORMED)
        parts[part[1]] = part[2]
    if parts.keys() != _PARTS or not _KEY_ID.fullmatch(parts["keyid"]):
        return Refusal(Reason.MALFORMED)
    if parts["algorithm"] != ALGORITHM:
        return Refusal(Reason.ALGORITHM)
    covered = tuple(parts["headers"].split(" "))
    return _HttpSignature(parts["keyid"], covered, parts["signature"])


def _signed(names: Sequence[str], values: Mapping[str, str], secret: bytes) -> str:
    lines = "\n".join(f"{name}: {values[name]}" for name in names)
    return base64.b64encode(hmac.digest(secret, lines.encode("ascii"), "sha256")).decode()


def _digest_of(body: Body) -> str:
    return DIGEST_START + base64.b64encode(hashlib.sha256(body).digest()).decode()


def _is_recent(date: str, now: datetime) -> bool:
    """Whether an HTTP date is of about now; some clients write the year with two digits."""
    try:
        at = parsedate_to_datetime(date)
        return abs(now - (at if at.tzinfo else at.replace(tzinfo=UTC))) <= DATE_TOLERANCE
    except (ValueError, OverflowError):
        return False


# --- JSON Web Token -----------------------------------------------------------------------

_BEARER: Final = re.compile(r"[Bb]earer ([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")


class _JoseHeader(msgspec.Struct, frozen=True):
    """What a token says about its key (RFC 7515 section 4); other members are of no account."""

    kid: str
    alg: str
    crit: msgspec.Raw | None = None


class _Claims(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What a token says about the call it was made for, and nothing beside it."""

    digest: str | None = None
    digest_algorithm: str | None = msgspec.field(name="digestAlgorithm", default=None)
    iat: int
    exp: int
    method: str = msgspec.field(name="request-method")
    host: str = msgspec.field(name="request-host")
    target: str = msgspec.field(name="request-resource-path")
    iss: str
    jti: str
    version: str = msgspec.field(name="v-c-jwt-version")
    merchant_id: str = msgspec.field(name="v-c-merchant-id")

    def __repr__(self) -> str:
        return "_Claims"


_JOSE: Final = msgspec.json.Decoder(_JoseHeader)
_CLAIMS: Final = msgspec.json.Decoder(_Claims)


@dataclass(frozen=True, slots=True, repr=False)
class _Token:
    key_id: str
    signed_text: str
    signature: str
    claims: _Claims
    merchant_header: bool = False

    def refused(self, call: SignedCall, secret: bytes, now: datetime) -> Refusal | None:
        if not _same(self.signature, _token_signature(self.signed_text, secret)):
            return Refusal(Reason.SIGNATURE)
        claims, at = self.claims, now.timestamp()
        lasts = 0 <= claims.exp - claims.iat <= TOKEN_SECONDS_MAX
        if (
            not lasts
            or not claims.iat - TOKEN_SKEW_SECONDS <= at <= claims.exp + TOKEN_SKEW_SECONDS
        ):
            return Refusal(Reason.STALE)
        if (claims.method, claims.target) != (call.method.upper(), call.target):
            return Refusal(Reason.TARGET)
        return self._refused_body(call)

    def _refused_body(self, call: SignedCall) -> Refusal | None:
        claims = self.claims
        if claims.digest is None:
            has_body = bool(call.body) or call.method in BODY_METHODS
            return Refusal(Reason.COVERAGE) if has_body else None
        if claims.digest_algorithm != "SHA-256":
            return Refusal(Reason.ALGORITHM)
        matches = _same(DIGEST_START + claims.digest, _digest_of(call.body))
        return None if matches else Refusal(Reason.DIGEST)

    def bound(self, call: SignedCall) -> "_Token":
        has_header = bool(_values(call.headers, "v-c-merchant-id"))
        return _Token(self.key_id, self.signed_text, self.signature, self.claims, has_header)

    def renewed(
        self, body: Body, key: SigningKey, *, host: str, now: datetime
    ) -> tuple[tuple[str, str], ...]:
        claims, at = self.claims, int(now.timestamp())
        has_digest = claims.digest is not None
        made = msgspec.structs.replace(
            claims,
            digest=_digest_of(body).removeprefix(DIGEST_START) if has_digest else None,
            iat=at,
            exp=at + TOKEN_SECONDS,
            host=host,
            iss=key.merchant_id or claims.iss,
            jti=_renewed_id(claims.jti, key.secret),
            merchant_id=key.merchant_id or claims.merchant_id,
        )
        head = {"kid": key.id, "alg": "HS256", "typ": "JWT"}
        text = f"{_encoded(head)}.{_encoded(made)}"
        bearer = ("authorization", f"Bearer {text}.{_token_signature(text, key.secret)}")
        renamed = self.merchant_header and key.merchant_id is not None
        return (bearer, ("v-c-merchant-id", made.merchant_id)) if renamed else (bearer,)


def _token(text: str) -> _Token | Refusal:
    found = _BEARER.fullmatch(text)
    if found is None:
        return Refusal(Reason.MALFORMED)
    head, payload, signature = found.groups()
    try:
        jose = _JOSE.decode(_decoded(head))
        if jose.alg == "RS256":
            return Refusal(Reason.RS256)
        if jose.alg != "HS256":
            return Refusal(Reason.ALGORITHM)
        claims = _CLAIMS.decode(_decoded(payload))
    except (msgspec.DecodeError, ValueError, RecursionError):  # its text may quote what came
        return Refusal(Reason.MALFORMED)
    if jose.crit is not None or not _KEY_ID.fullmatch(jose.kid):
        return Refusal(Reason.MALFORMED)
    return _Token(jose.kid, f"{head}.{payload}", signature, claims)


def _renewed_id(jti: str, secret: bytes) -> str:
    """Make the new token's id out of the old one's.

    So a call that is replayed to us is a replay to the processor too, which tells by this id.
    """
    made = hmac.digest(secret, b"jti " + jti.encode("utf-8", "surrogatepass"), "sha256")
    return str(UUID(bytes=made[:16], version=4))


def _token_signature(text: str, secret: bytes) -> str:
    return _unpadded(hmac.digest(secret, text.encode("ascii"), "sha256"))


def _encoded(document: object) -> str:
    return _unpadded(msgspec.json.encode(document))


def _unpadded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


# --- both ---------------------------------------------------------------------------------


def _values(headers: Sequence[tuple[str, str]], wanted: str) -> list[str]:
    return [value for name, value in headers if name.lower() == wanted]


def _same(came: str, made: str) -> bool:
    """Compare in constant time; text that is not ASCII equals nothing we make."""
    return came.isascii() and hmac.compare_digest(came, made)
