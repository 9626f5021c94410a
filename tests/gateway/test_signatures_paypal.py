"""PayPal's callbacks: a certificate of its own under a pinned root, of now, and its key."""

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.signatures import (
    SCHEMES,
    Forged,
    Genuine,
    NeedsCertificate,
    Posted,
    Secrets,
    verified,
)
from gateway.signatures_paypal import transmission_of
from tests.gateway.callback_senders import URL

pytestmark = pytest.mark.guards("T-52")

AT = datetime(2031, 5, 6, 12, tzinfo=UTC)  # no day on which this could run: the time is told
PAYPAL = SCHEMES["paypal"]
CERTIFICATE_URL = "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-1d93a270"
BODY = b'{"id":"WH-1","event_type":"PAYMENT.CAPTURE.COMPLETED"}'
SECRETS = Secrets(webhook_id="3RN13029J36659323")
DAY = timedelta(days=1)
HOST = "messageverificationcerts.paypal.com"
REFUSED = Forged("certificate_refused")

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
KEYS: list[rsa.RSAPrivateKey] = [rsa.generate_private_key(65537, 2048) for _ in range(2)]
LEAF_KEY, OTHER_KEY = KEYS


@dataclass(frozen=True)
class Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def authority(name: str, above: Authority | None = None, *, is_ca: bool = True) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    return Authority(certified(name, key, above or key, is_ca=is_ca, names=()), key)


def certified(  # noqa: PLR0913 - a certificate in its parts
    name: str,
    key: PrivateKey,
    above: Authority | ec.EllipticCurvePrivateKey,
    *,
    names: Sequence[str] = (HOST,),
    is_ca: bool = False,
    days: tuple[int, int] = (-1, 30),
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = above.key if isinstance(above, Authority) else above
    issuer = above.certificate.subject if isinstance(above, Authority) else subject
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(AT + days[0] * DAY)
        .not_valid_after(AT + days[1] * DAY)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=is_ca,
                crl_sign=is_ca,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if names:
        alternative = x509.SubjectAlternativeName([x509.DNSName(each) for each in names])
        builder = builder.add_extension(alternative, critical=False)
    if not is_ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(signer, SHA256())


ROOT = authority("root")
BELOW = authority("below", ROOT)
LEAF = certified("leaf", LEAF_KEY, BELOW)


def der(*certificates: x509.Certificate) -> tuple[bytes, ...]:
    return tuple(each.public_bytes(Encoding.DER) for each in certificates)


CHAIN = der(LEAF, BELOW.certificate)


def post(  # noqa: PLR0913 - a post in its parts
    body: bytes = BODY,
    *,
    key: rsa.RSAPrivateKey = LEAF_KEY,
    webhook: str = "3RN13029J36659323",
    crc: str | None = None,
    hash_: HashAlgorithm | None = None,
    pss: bool = False,
    changed: dict[str, str] | None = None,
) -> Posted:
    """Sign as the processor's guide says; every part can be made wrong."""
    parts = {
        "id": "69cd13f0-d67a-11e5-baa3-778b53f4ae55",
        "time": "2031-05-06T12:00:00Z",
        "algo": "SHA256withRSA",
        "url": CERTIFICATE_URL,
        **(changed or {}),
    }
    code = crc if crc is not None else str(zlib.crc32(body))
    message = "|".join((parts["id"], parts["time"], webhook, code)).encode()
    way: padding.AsymmetricPadding = padding.PKCS1v15()
    if pss:
        way = padding.PSS(padding.MGF1(SHA256()), padding.PSS.DIGEST_LENGTH)
    signature = key.sign(message, way, hash_ or SHA256())
    headers = (
        ("PAYPAL-TRANSMISSION-ID", parts["id"]),
        ("PAYPAL-TRANSMISSION-TIME", parts["time"]),
        ("PAYPAL-TRANSMISSION-SIG", base64.b64encode(signature).decode()),
        ("PAYPAL-CERT-URL", parts["url"]),
        ("PAYPAL-AUTH-ALGO", parts["algo"]),
    )
    return Posted(headers, body, URL)


def judged(
    posted: Posted,
    chain: Sequence[bytes] = CHAIN,
    roots: Sequence[bytes] = (ROOT.pem,),
    secrets: Secrets = SECRETS,
) -> object:
    return verified(PAYPAL, posted, secrets, at=AT, certificates=tuple(chain), roots=tuple(roots))


def test_a_callback_is_proven_by_the_certificate_that_it_names() -> None:
    assert judged(post(), chain=()) == NeedsCertificate(CERTIFICATE_URL)
    assert judged(post()) == Genuine()


def test_certificates_come_in_either_form() -> None:
    bundle = LEAF.public_bytes(Encoding.PEM) + BELOW.pem
    assert judged(post(), chain=(bundle,), roots=(authority("other").pem + ROOT.pem,)) == Genuine()
    assert judged(post(), roots=(authority("other").der, ROOT.der)) == Genuine()


def test_the_checksum_is_signed_as_a_decimal_without_sign() -> None:
    big = next(body for at in range(99) if zlib.crc32(body := b'{"id":"WH-%d"}' % at) >= 2**31)
    checksum = zlib.crc32(big)
    assert judged(post(big)) == Genuine()
    for text in (f"{checksum:x}", f"{checksum:X}", str(checksum - 2**32), f"0{checksum}", ""):
        assert judged(post(big, crc=text)) == Forged("signature_mismatch")


@pytest.mark.parametrize(
    "posted",
    [
        pytest.param(replace(post(), body=BODY + b" "), id="another_body"),
        pytest.param(replace(post(), body=b""), id="empty_body"),
        pytest.param(post(key=OTHER_KEY), id="another_key"),
        pytest.param(post(webhook="8PT597110X687430L"), id="another_webhook"),
        pytest.param(post(hash_=SHA512()), id="another_hash"),
        pytest.param(post(hash_=SHA1()), id="sha1"),  # noqa: S303 - refused
        pytest.param(post(pss=True), id="another_padding"),
    ],
)
def test_what_the_key_did_not_sign_is_refused(posted: Posted) -> None:
    assert judged(posted) == Forged("signature_mismatch")


@pytest.mark.parametrize(
    "name", ["PAYPAL-TRANSMISSION-ID", "PAYPAL-TRANSMISSION-TIME", "PAYPAL-AUTH-ALGO"]
)
def test_each_header_is_there_once(name: str) -> None:
    whole = post()
    for headers in (
        [each for each in whole.headers if each[0] != name],
        [*whole.headers, *(each for each in whole.headers if each[0] == name)],
    ):
        assert judged(replace(whole, headers=headers)) == Forged("signature_malformed")


def test_a_callback_without_a_signature_is_refused() -> None:
    whole = post()
    headers = [each for each in whole.headers if not each[0].endswith("-SIG")]
    assert judged(replace(whole, headers=headers)) == Forged("signature_missing")
    doubled = replace(whole, headers=[*whole.headers, *whole.headers])
    assert judged(doubled) == Forged("signature_malformed")


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("algo", "SHA1withRSA"),
        ("algo", "sha256withrsa"),
        ("algo", "none"),
        ("id", "a|b"),
        ("id", ""),
        ("time", "2026-11-23T12:00:00Z|x"),
        ("time", "now"),
        ("time", "2026-11-23 12:00:00Z"),
    ],
)
def test_a_part_of_another_form_is_refused(part: str, value: str) -> None:
    assert judged(post(changed={part: value})) == Forged("signature_malformed")


@pytest.mark.parametrize("change", ["!", "=", "\n", "A" * 4097])
def test_a_signature_in_another_spelling_is_refused(change: str) -> None:
    whole = post()
    headers = [
        (name, text + change if name.endswith("-SIG") else text) for name, text in whole.headers
    ]
    assert judged(replace(whole, headers=headers)) == Forged("signature_malformed")


@pytest.mark.parametrize(
    "url",
    [
        "http://api.paypal.com/c",
        "https://paypal.com/c",
        "https://api.paypal.com.example/c",
        "https://apipaypal.com/c",
        "https://api.paypal.com@evil.example/c",
        "https://api.paypal.com:8443/c",
        "https://evil.example/.paypal.com/c",
        "https://evil.example#.paypal.com/c",
        "https://evil.example\\.paypal.com/c",
        "https://api.paypal.com/c?to=evil",
        "https://api.paypal.com/../c",
        "https://api.paypal.com",
        "HTTPS://API.PAYPAL.COM/c",
        "https://api.paypal.com/c\n",
        "https://.paypal.com/c",
        "https://api.payp\u0430l.com/c",
        "https://" + "a." * 5000 + "paypal.com/c",
        "",
    ],
    ids=range(18),
)
def test_only_an_address_of_the_processor_is_to_be_fetched(url: str) -> None:
    assert judged(post(changed={"url": url}), chain=()) == REFUSED


@pytest.mark.parametrize("webhook", [None, "", " ", "a|b"])
def test_without_the_webhook_id_nothing_is_genuine(webhook: str | None) -> None:
    secrets = Secrets(webhook_id=webhook)
    assert judged(post(webhook=webhook or ""), secrets=secrets) == Forged("secret_missing")


# --- the certificate ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ["evil.example"],
        ["paypal.com.evil.example"],
        ["messageverificationcerts-paypal.com"],
        ["evilpaypal.com"],
        ["*.com"],
        ["*.*.paypal.com"],
        [],
    ],
    ids=lambda names: names[0] if names else "none",
)
def test_a_certificate_for_another_name_is_refused(names: list[str]) -> None:
    leaf = certified(HOST, LEAF_KEY, BELOW, names=names)
    assert judged(post(), chain=der(leaf, BELOW.certificate)) == REFUSED


@pytest.mark.parametrize("names", [["a.b.paypal.com"], ["*.paypal.com"], ["evil.example", HOST]])
def test_any_name_of_the_processor_will_do(names: list[str]) -> None:
    leaf = certified("leaf", LEAF_KEY, BELOW, names=names)
    assert judged(post(), chain=der(leaf, BELOW.certificate)) == Genuine()


@pytest.mark.parametrize("days", [(-30, -1), (1, 30)], ids=["over", "not_yet"])
def test_a_certificate_of_another_time_is_refused(days: tuple[int, int]) -> None:
    leaf = certified("leaf", LEAF_KEY, BELOW, days=days)
    assert judged(post(), chain=der(leaf, BELOW.certificate)) == REFUSED


def test_a_certificate_that_no_pinned_root_vouches_for_is_refused() -> None:
    assert judged(post(), roots=(authority("root").pem,)) == REFUSED
    assert judged(post(), roots=()) == REFUSED
    assert judged(post(), chain=der(LEAF)) == REFUSED  # the one between is missing
    lone = certified("lone", LEAF_KEY, authority("unknown"))
    assert judged(post(), chain=der(lone, BELOW.certificate)) == REFUSED
    assert judged(post(), chain=(*CHAIN, authority("root").der)) == Genuine()


def test_a_certificate_of_one_who_may_not_issue_is_refused() -> None:
    posing = authority("posing", ROOT, is_ca=False)
    leaf = certified("leaf", LEAF_KEY, posing)
    assert judged(post(), chain=der(leaf, posing.certificate)) == REFUSED


def test_a_certificate_for_another_use_or_of_another_key_is_refused() -> None:
    client = certified("leaf", LEAF_KEY, BELOW, usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    curve = certified("leaf", ec.generate_private_key(ec.SECP256R1()), BELOW)
    small = certified("leaf", rsa.generate_private_key(65537, 1024), BELOW)  # noqa: S505 - refused
    for leaf in (client, curve, small):
        assert judged(post(), chain=der(leaf, BELOW.certificate)) == REFUSED


def test_the_first_certificate_is_the_signers() -> None:
    other = certified("other", OTHER_KEY, BELOW)
    mixed = der(other, BELOW.certificate, LEAF)
    assert judged(post(), chain=mixed) == Forged("signature_mismatch")


@pytest.mark.parametrize(
    "broken", [b"", b"-----BEGIN CERTIFICATE-----", b"0", b"\x30\x82" * 99, b"0" * 2**20]
)
def test_broken_certificates_are_refused(broken: bytes) -> None:
    assert judged(post(), chain=(broken,)) == REFUSED
    assert judged(post(), chain=(*CHAIN, broken)) == REFUSED
    assert judged(post(), roots=(broken,)) == REFUSED


# --- its age, and what it is known by -------------------------------------------------------


@pytest.mark.parametrize(
    ("time", "verdict"),
    [
        ("2031-05-06T12:00:00Z", Genuine()),
        ("2031-05-02T12:00:00Z", Genuine()),
        ("2031-05-06T12:05:00.000Z", Genuine()),
        ("2031-05-06T14:05:00+02:00", Genuine()),
        ("2031-05-02T11:59:59Z", Forged("signature_stale")),
        ("2031-05-02T13:59:59+02:00", Forged("signature_stale")),
        ("2031-05-06T12:05:01Z", Forged("signature_stale")),
        ("2099-01-01T00:00:00Z", Forged("signature_stale")),
        ("2031-13-06T12:00:00Z", Forged("signature_malformed")),
        ("2031-05-06T25:00:00Z", Forged("signature_malformed")),
    ],
)
def test_what_is_older_than_its_last_repeat_is_refused(time: str, verdict: object) -> None:
    assert judged(post(changed={"time": time})) == verdict


def test_an_age_is_told_to_nobody_who_did_not_sign_it() -> None:
    old = post(key=OTHER_KEY, changed={"time": "2020-01-01T00:00:00Z"})
    assert judged(old) == Forged("signature_mismatch")


def test_a_transmission_is_known_by_what_is_signed_of_it() -> None:
    name = transmission_of(post())
    assert name == transmission_of(post())
    assert name is not None
    assert name.startswith("69cd13f0-d67a-11e5-baa3-778b53f4ae55|")
    assert len(name) <= 128
    again = replace(post(), body=BODY + b"\n")  # written anew, as only PayPal could sign it
    assert transmission_of(again) not in {None, name}
    assert transmission_of(Posted((), BODY, URL)) is None
