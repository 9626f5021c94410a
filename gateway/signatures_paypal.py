"""PayPal's callbacks: signed with a private key whose certificate they name. Pure.

A certificate is believed only if it leads to a pinned root, is for a name under paypal.com, and is
valid now; and only an address there is ever given out to be fetched. What is signed of the body is
its CRC-32: whoever has seen a whole post can make another body that fits its headers, and nothing
here can tell. Hence a transmission goes with the first body that came with it, and no other
(`transmission_of`); one older than PayPal repeats its posts is refused, so that what is remembered
of them can be forgotten. What never lives here: the fetch, and that memory.
"""

import base64
import binascii
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from gateway.signatures_layouts import missing_or_malformed, one
from gateway.signatures_terms import Forged, Genuine, NeedsCertificate, Posted, Secrets

CERTIFICATES_MAX: Final = 8
CERTIFICATE_BYTES_MAX: Final = 65_536
KEY_BITS: Final = (2048, 4096)
ALGORITHM: Final = "SHA256withRSA"
AGE_MAX: Final = timedelta(days=4)  # it repeats a post for three, and does not say with which time
AHEAD_MAX: Final = timedelta(minutes=5)

_SIGNATURE: Final = "paypal-transmission-sig"
_URL: Final = re.compile(
    r"https://(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,4}paypal\.com/[A-Za-z0-9/_-]{1,256}"
)
_ID: Final = re.compile("[A-Za-z0-9-]{1,64}")  # no bar, which would end it
_TIME: Final = re.compile(
    "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}"
    r"(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:[0-9]{2})"
)
_NAME: Final = re.compile(r"(?:\*|[a-z0-9-]{1,63})(?:\.[a-z0-9-]{1,63}){0,3}\.paypal\.com")


@dataclass(frozen=True, slots=True, repr=False)
class _Transmission:
    id: str
    time: str
    sent_at: datetime
    signature: bytes
    url: str


def proven(
    posted: Posted,
    secrets: Secrets,
    *,
    at: datetime,
    certificates: Sequence[bytes],
    roots: Sequence[bytes],
) -> Genuine | Forged | NeedsCertificate:
    """Check a post; without certificates, say which one it needs."""
    sent = _transmission(posted)
    if isinstance(sent, Forged):
        return sent
    webhook = secrets.webhook_id or ""
    if not _ID.fullmatch(webhook):
        return Forged("secret_missing")
    if not certificates:
        return NeedsCertificate(sent.url)
    key = trusted_key(certificates, roots, at)
    if key is None:
        return Forged("certificate_refused")
    message = f"{sent.id}|{sent.time}|{webhook}|{zlib.crc32(posted.body)}".encode("ascii")
    try:
        key.verify(sent.signature, message, PKCS1v15(), SHA256())
    except InvalidSignature:
        return Forged("signature_mismatch")
    is_of_now = -AHEAD_MAX <= at - sent.sent_at <= AGE_MAX
    return Genuine() if is_of_now else Forged("signature_stale")


def transmission_of(posted: Posted) -> str | None:
    """Return what is signed of a post: only one body may ever come with it; None: nothing is.

    With the time and the checksum: were a repeat written anew, it would be signed anew.
    """
    sent = _transmission(posted)
    if isinstance(sent, Forged):
        return None
    return f"{sent.id}|{sent.time}|{zlib.crc32(posted.body)}"


def trusted_key(
    certificates: Sequence[bytes], roots: Sequence[bytes], at: datetime
) -> RSAPublicKey | None:
    """Return the key of the first certificate, if a pinned root vouches for it (RFC 5280)."""
    given, pinned = _read(certificates), _read(roots)
    if not given or not pinned:
        return None
    leaf, *rest = given
    name = _name(leaf)
    if name is None:
        return None
    try:
        verifier = PolicyBuilder().store(Store(pinned)).time(at).build_server_verifier(name)
        verifier.verify(leaf, rest)
        key = leaf.public_key()
    except (VerificationError, ValueError):
        return None
    shortest, longest = KEY_BITS
    is_fit = isinstance(key, RSAPublicKey) and shortest <= key.key_size <= longest
    return key if isinstance(key, RSAPublicKey) and is_fit else None


def _transmission(posted: Posted) -> _Transmission | Forged:
    text = one(posted.headers, _SIGNATURE)
    if text is None:
        return Forged(missing_or_malformed(posted.headers, _SIGNATURE))
    id_ = one(posted.headers, "paypal-transmission-id") or ""
    time = one(posted.headers, "paypal-transmission-time") or ""
    signature, sent_at = _decoded(text), _moment(time)
    named = one(posted.headers, "paypal-auth-algo") == ALGORITHM
    if signature is None or sent_at is None or not named or not _ID.fullmatch(id_):
        return Forged("signature_malformed")
    url = one(posted.headers, "paypal-cert-url") or ""
    if not _URL.fullmatch(url):
        return Forged("certificate_refused")
    return _Transmission(id_, time, sent_at, signature, url)


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if _TIME.fullmatch(text) else None
    except ValueError:
        return None


def _decoded(text: str) -> bytes | None:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if base64.b64encode(raw).decode("ascii") == text else None


def _name(leaf: x509.Certificate) -> x509.DNSName | None:
    """Return a name under the processor's domain that the certificate is for."""
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = extension.value.get_values_for_type(x509.DNSName)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return None
    fit = [each.replace("*", "any", 1) for each in names if _NAME.fullmatch(each)]
    return x509.DNSName(fit[0]) if fit else None


def _read(encoded: Sequence[bytes]) -> list[x509.Certificate]:
    """Read certificates, in PEM (several in one text) or DER; none at all if one is broken."""
    if sum(map(len, encoded)) > CERTIFICATE_BYTES_MAX * CERTIFICATES_MAX:
        return []
    found: list[x509.Certificate] = []
    try:
        for each in encoded:
            if each.lstrip().startswith(b"-----BEGIN"):
                found += x509.load_pem_x509_certificates(each)
            else:
                found.append(x509.load_der_x509_certificate(each))
    except ValueError:
        return []
    return found
