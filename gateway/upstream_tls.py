"""TLS towards processors: the only contexts there are, and what a peer has to prove to them.

What lives here: a route's authorities, revocation lists, pins, and the certificate that we show.
What never may: a certificate that is not verified, a socket, a private key on a disk.

A pin is SHA-256 over a SubjectPublicKeyInfo (RFC 7469 2.4). Any certificate of the chain that
OpenSSL verified may match: the leaf, or an authority that one's processor stays with. It is asked
for on top of the ordinary verification, before the handshake counts as done, so no byte of a
request can be ahead of it. CPython shows that chain in public since 3.13; the same C method stands
behind it in 3.11 and 3.12, which get no more than fixes, and whatever fails there matches no pin.
"""

import base64
import binascii
import hashlib
import os
import re
import ssl
from _ssl import ENCODING_DER
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from vault.errors import StartRefused

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"
"""Of TLS 1.2; all of 1.3's are AEAD. The level, 112 bits, is not left to how OpenSSL was built."""

CRL_BYTES_MAX: Final = 64 * 1024 * 1024
PIN_BYTES: Final = 32

CrlCheck = Literal["leaf", "chain"]
_CRL_CHECKS: Final = {"leaf": ssl.VERIFY_CRL_CHECK_LEAF, "chain": ssl.VERIFY_CRL_CHECK_CHAIN}
_PEM_BEGINS: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")


class PinMismatch(ssl.SSLError):
    """No certificate of the peer's chain has a key that the route names."""


class ClientCertificateRefused(Exception):
    """The client certificate, or its key, cannot be used."""

    def __init__(self) -> None:
        super().__init__(type(self).__doc__)


def tls_context(
    *,
    ca_file: Path | None,
    crl_file: Path | None,
    client_certificate: tuple[Path, Path] | None,
    client_certificate_pem: tuple[str, str] | None = None,
    crl_check: CrlCheck = "leaf",
    spki_pins: Sequence[bytes] = (),
) -> ssl.SSLContext:
    """Build the only kind of context there is: verified by chain, name and date, TLS 1.2 or newer.

    `ca_file` replaces the system's authorities; `crl_file` refuses what is on it, and everything
    once it is missing or out of date; a client certificate is a chain and its key, in files or as
    PEM text. Raises StartRefused for a file, ClientCertificateRefused for a text.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks names and demands certificates
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.options |= ssl.OP_NO_RENEGOTIATION  # a peer is judged once, and stays who it was
    if spki_pins:
        context.sslobject_class = _pinned(spki_pins)
    if not _load_files(context, ca_file, client_certificate):
        raise StartRefused("an upstream's ca_file or client certificate cannot be loaded")
    if crl_file is not None:
        context.verify_flags |= _CRL_CHECKS[crl_check]
        load_crl(context, crl_file)
    if client_certificate_pem is not None:
        _load_client_certificate(context, *client_certificate_pem)
    return context


def _load_files(
    context: ssl.SSLContext, ca_file: Path | None, client_certificate: tuple[Path, Path] | None
) -> bool:
    try:
        if ca_file is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(ca_file)
        if client_certificate is not None:
            chain, key = client_certificate
            context.load_cert_chain(chain, key, password="")  # refused, never prompted for
    except OSError:  # ssl's errors are OSErrors
        return False
    return True


def load_crl(context: ssl.SSLContext, crl_file: Path) -> None:
    """Add what is in `crl_file` to a context, also to one in use: of two lists the newer counts.

    Raises StartRefused unless it holds revocation lists alone: OpenSSL would take a certificate
    in the same file for an authority.
    """
    try:
        with crl_file.open("rb") as file:
            content = file.read(CRL_BYTES_MAX + 1)
        loaded = len(content) <= CRL_BYTES_MAX and _holds_crls_alone(content)
        if loaded:
            with _in_memory(content) as path:  # what was looked at, whatever the file is by now
                context.load_verify_locations(path)
    except OSError:
        loaded = False
    if not loaded:
        raise StartRefused("an upstream's crl_file holds no revocation lists, or not them alone")


def _holds_crls_alone(content: bytes) -> bool:
    return set(_PEM_BEGINS.findall(content)) == {b"X509 CRL"}


def _load_client_certificate(context: ssl.SSLContext, chain: str, key: str) -> None:
    """Take a chain and its key that are nowhere on a disk."""
    try:
        with _in_memory(chain.encode()) as chain_path, _in_memory(key.encode()) as key_path:
            context.load_cert_chain(chain_path, key_path, password="")
    except (OSError, UnicodeError):
        loaded = False
    else:
        loaded = True
    if not loaded:
        raise ClientCertificateRefused


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """Give OpenSSL, which reads files only, a path to what never was one.

    A process may open its own descriptors whether or not it is dumpable; none of its children
    gets them.
    """
    with os.fdopen(os.memfd_create("pem", os.MFD_CLOEXEC), "wb", buffering=0) as file:
        file.write(content)
        yield f"/proc/self/fd/{file.fileno()}"


# --- pins ---------------------------------------------------------------------------------


def read_pin(text: str) -> bytes:
    """Read a pin as it is written down: base64 of SHA-256. Raises ValueError."""
    try:
        pin = base64.b64decode(text.removeprefix("sha256/"), validate=True)
    except binascii.Error:
        pin = b""
    if len(pin) != PIN_BYTES:
        raise ValueError("a pin is the SHA-256 of a SubjectPublicKeyInfo, in base64")
    return pin


def spki_pin(certificate: bytes) -> bytes:
    """Make the pin of a certificate in DER."""
    key = x509.load_der_x509_certificate(certificate).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()


def _pinned(pins: Sequence[bytes]) -> type[ssl.SSLObject]:
    """Make the kind of connection whose handshake ends well only for one of these keys."""

    class Pinned(ssl.SSLObject):
        """TLS with a peer that is known by its key as well."""

        def do_handshake(self) -> None:
            super().do_handshake()
            if not _is_pinned(self, pins):
                raise PinMismatch

    return Pinned


def _is_pinned(tls: ssl.SSLObject, pins: Sequence[bytes]) -> bool:
    try:
        return any(spki_pin(certificate) in pins for certificate in _verified_chain(tls))
    except Exception:  # noqa: BLE001 - whatever it is: what cannot be read matches no pin
        return False


def _verified_chain(tls: ssl.SSLObject) -> list[bytes]:
    """Return the chain that was accepted, in DER, the leaf first."""
    public = getattr(tls, "get_verified_chain", None)
    if public is not None:
        return list(public())
    private = tls._sslobj.get_verified_chain()  # type: ignore[attr-defined]  # noqa: SLF001 - 3.13's
    return [certificate.public_bytes(ENCODING_DER) for certificate in private]
