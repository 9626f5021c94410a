"""Certificates of an embedded deployment: authorities of its own, and what they issue.

Two authorities that do not know each other: one for the gateway's listeners, which clients
are told to trust, and one between us and OpenBao. Extensions are as RFC 5280 asks, so that
strict verification (Python's VERIFY_X509_STRICT) accepts the chain. Time comes as an argument.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vault.embedded.layout import Layout
from vault.private_files import write_private

LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "::1")

_AUTHORITY_LIFE: Final = timedelta(days=3650)
_LEAF_LIFE: Final = timedelta(days=397)  # the longest that browsers accept
_RENEW_BEFORE: Final = timedelta(days=30)
_CLOCK_SKEW: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """Issues certificates for servers and clients."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, name: str, *, at: datetime) -> Self:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        builder = _builder(subject, subject, key, (at - _CLOCK_SKEW, at + _AUTHORITY_LIFE))
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def load(cls, folder: Path) -> Self:
        certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey), "a key that we did not make"
        return cls(certificate, key)

    def save(self, folder: Path) -> None:
        write_private(folder / "ca.key", _pem(self._key))
        write_private(folder / "ca.pem", self._certificate.public_bytes(serialization.Encoding.PEM))

    def server(self, *, at: datetime, names: Sequence[str] = LOOPBACK_NAMES) -> Leaf:
        alternative = x509.SubjectAlternativeName([_general_name(name) for name in names])
        return self._issue(names[0], ExtendedKeyUsageOID.SERVER_AUTH, alternative, at)

    def client(self, name: str, *, at: datetime) -> Leaf:
        alternative = x509.SubjectAlternativeName([x509.DNSName(name)])
        return self._issue(name, ExtendedKeyUsageOID.CLIENT_AUTH, alternative, at)

    def _issue(
        self,
        name: str,
        usage: x509.ObjectIdentifier,
        alternative: x509.SubjectAlternativeName,
        at: datetime,
    ) -> Leaf:
        key = ec.generate_private_key(ec.SECP256R1())
        life = (at - _CLOCK_SKEW, at + _LEAF_LIFE)
        issuer_id = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        certificate = (
            _builder(_name(name), self._certificate.subject, key, life)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(alternative, critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id.value),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        return Leaf(certificate.public_bytes(serialization.Encoding.PEM), _pem(key))


def keep(layout: Layout, *, at: datetime) -> None:
    """See that there are two authorities, and certificates that last for a while."""
    for folder, name in ((layout.tls, "panward"), (layout.openbao_run, "panward to OpenBao")):
        if not (folder / "ca.pem").exists():
            Authority.create(f"{name} (test)", at=at).save(folder)
    listeners = Authority.load(layout.tls)
    internal = Authority.load(layout.openbao_run)
    _keep_leaf(layout.tls, "server", lambda: listeners.server(at=at), at=at)
    _keep_leaf(layout.openbao_run, "server", lambda: internal.server(at=at), at=at)
    _keep_leaf(layout.openbao_run, "client", lambda: internal.client("panward", at=at), at=at)


def _keep_leaf(folder: Path, name: str, issue: Callable[[], Leaf], *, at: datetime) -> None:
    """See that `name`.pem and `name`.key are there and last for a while."""
    path = folder / f"{name}.pem"
    if path.exists():
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        if at < certificate.not_valid_after_utc - _RENEW_BEFORE:
            return
    leaf = issue()
    write_private(folder / f"{name}.key", leaf.key)
    write_private(path, leaf.certificate)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    life: tuple[datetime, datetime],
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(life[0])
        .not_valid_after(life[1])
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(text: str) -> x509.GeneralName:
    try:
        address = ip_address(text)
    except ValueError:
        return x509.DNSName(text)
    return x509.IPAddress(address)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
