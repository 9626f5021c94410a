"""An authority for tests that signs what trustme would not, and revokes."""

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.gateway.raw_servers import NAME, context_of

NOW = datetime.now(UTC)  # certificates are judged by the real clock
DAY = timedelta(days=1)
HASH = hashes.SHA256()

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Authority:
    """A certificate and its key, to sign others with."""

    def __init__(
        self, certificate: x509.Certificate, key: Key, above: Sequence[x509.Certificate] = ()
    ) -> None:
        self.certificate = certificate
        self.key = key
        self.chain = (certificate, *above)  # without the root

    @classmethod
    def of(cls, ca: trustme.CA) -> "Authority":
        """The tests' own authority."""
        key = load_pem_private_key(ca.private_key_pem.bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        root = cls(x509.load_pem_x509_certificate(ca.cert_pem.bytes()), key)
        root.chain = ()
        return root

    def below(self, *, is_ca: bool = True, until: datetime = NOW + DAY) -> "Authority":
        """An authority that this one vouches for, or one that only behaves like it."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder("below", key, until).add_extension(
            x509.BasicConstraints(ca=is_ca, path_length=None), critical=True
        )
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=is_ca,
            crl_sign=is_ca,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = builder.add_extension(usage, critical=True).sign(self.key, HASH)
        return Authority(certificate, key, self.chain)

    def leaf(
        self,
        *extensions: x509.ExtensionType,
        key: Key | None = None,
        key_identifier: bool = True,
        with_chain: bool = True,
        name: str = NAME,
    ) -> trustme.LeafCert:
        """A server's certificate for the processor's name."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(name, key, NOW + DAY, key_identifier=key_identifier)
        for extension in (x509.SubjectAlternativeName([x509.DNSName(name)]), *extensions):
            builder = builder.add_extension(extension, critical=False)
        return _leaf(builder.sign(self.key, HASH), key, self.chain if with_chain else ())

    def revoking(self, *serials: int, until: datetime) -> bytes:
        """A revocation list, in PEM."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(until - 3 * DAY)
            .next_update(until)
        )
        for serial in serials:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(serial)
                .revocation_date(until - 3 * DAY)
                .build()
            )
        return builder.sign(self.key, HASH).public_bytes(Encoding.PEM)

    def _builder(
        self, common_name: str, key: Key, until: datetime, *, key_identifier: bool = True
    ) -> x509.CertificateBuilder:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)]))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - 3 * DAY)
            .not_valid_after(until)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
        )
        if key_identifier:
            identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
            builder = builder.add_extension(identifier, critical=False)
        return builder


def self_signed(host: str = NAME) -> trustme.LeafCert:
    """A certificate for the right name that nobody but itself vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
        .sign(key, HASH)
    )
    return _leaf(certificate, key, ())


def serial_of(leaf: trustme.LeafCert) -> int:
    return x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).serial_number


def der_of(leaf: trustme.LeafCert) -> bytes:
    return ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())


def wanting_certificates(
    ca: trustme.CA, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
) -> ssl.SSLContext:
    """A server that knows its clients."""
    context = context_of(ca.issue_cert(NAME))
    context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    ca.configure_trust(context)
    return context


def _leaf(
    certificate: x509.Certificate, key: Key, chain: Sequence[x509.Certificate]
) -> trustme.LeafCert:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    own, *above = [each.public_bytes(Encoding.PEM) for each in (certificate, *chain)]
    return trustme.LeafCert(private, own, above)
