"""A peer that cannot prove who it is gets no application byte, and no setting changes that."""

import asyncio
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from gateway.dialing import tls_context
from gateway.exchange import Failure, NotSent, Phase, Replied
from tests.gateway.raw_servers import (
    CANARY,
    NAME,
    OK,
    Certificates,
    Connection,
    Observer,
    Script,
    TlsByHand,
    context_of,
    post,
    repeating,
    route_to,
    serving,
    upstream_to,
)
from vault.errors import StartRefused

NOW = datetime.now(UTC)  # certificates are judged by the real clock
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


class Signer:
    """The tests' authority, to sign what trustme would not."""

    def __init__(self, ca: trustme.CA) -> None:
        self.certificate = x509.load_pem_x509_certificate(ca.cert_pem.bytes())
        key = load_pem_private_key(ca.private_key_pem.bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.key = key

    def server(self, *, self_signed: bool, key_identifier: bool = True) -> ssl.SSLContext:
        own = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
        signer = own if self_signed else self.key
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name if self_signed else self.certificate.subject)
            .public_key(own.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + DAY)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        )
        if key_identifier:
            identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
            builder = builder.add_extension(identifier, critical=False)
        certificate = builder.sign(signer, hashes.SHA256())
        pem = certificate.public_bytes(Encoding.PEM)
        key = own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return context_of(trustme.LeafCert(key, pem, []))

    def revoking(self, *serials: int, until: datetime) -> bytes:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(NOW - 2 * DAY)
            .next_update(until)
        )
        for serial in serials:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(serial)
                .revocation_date(NOW - 2 * DAY)
                .build()
            )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def old_tls(certificates: Certificates) -> ssl.SSLContext:
    context = context_of(certificates.ca.issue_cert(NAME))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.deprecated_call():
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.deprecated_call():
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def cipher_without_aead(certificates: Certificates) -> ssl.SSLContext:
    context = context_of(certificates.ca.issue_cert(NAME))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA")
    return context


def client_certificate_wanted(certificates: Certificates) -> ssl.SSLContext:
    context = context_of(certificates.ca.issue_cert(NAME))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    certificates.ca.configure_trust(context)
    return context


BAD_SERVERS: dict[str, Callable[[Certificates], ssl.SSLContext]] = {
    "expired": lambda c: context_of(
        c.ca.issue_cert(NAME, not_before=NOW - 2 * DAY, not_after=NOW - DAY)
    ),
    "not yet valid": lambda c: context_of(
        c.ca.issue_cert(NAME, not_before=NOW + DAY, not_after=NOW + 2 * DAY)
    ),
    "another name": lambda c: context_of(c.ca.issue_cert("other.test")),
    "a name below": lambda c: context_of(c.ca.issue_cert(f"sub.{NAME}")),
    "a wildcard above": lambda c: context_of(c.ca.issue_cert("*.test.test", "*.other")),
    "the address alone": lambda c: context_of(c.ca.issue_cert("127.0.0.1")),
    "the common name alone": lambda c: context_of(c.ca.issue_cert(common_name=NAME)),
    "unknown authority": lambda _: context_of(trustme.CA().issue_cert(NAME)),
    "self-signed": lambda c: Signer(c.ca).server(self_signed=True),
    "no key identifier": lambda c: Signer(c.ca).server(self_signed=False, key_identifier=False),
    "TLS 1.1": old_tls,
    "no AEAD": cipher_without_aead,
    "wants a certificate": client_certificate_wanted,
}


def hearing(context: ssl.SSLContext, received: list[bytes]) -> Script:
    async def script(connection: Connection) -> None:
        tls = TlsByHand(connection, context)
        if await tls.shake_hands():
            while data := await tls.read():
                received.append(data)

    return script


@pytest.mark.guards("T-48")
@pytest.mark.guards("F-27")
@pytest.mark.parametrize("kind", BAD_SERVERS)
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_peer_that_proves_nothing_gets_nothing(
    certificates: Certificates, kind: str, method: str
) -> None:
    observer = Observer()
    received: list[bytes] = []
    async with (
        serving(hearing(BAD_SERVERS[kind](certificates), received), None) as server,
        upstream_to(route_to(server.port, certificates), observer) as upstream,
    ):
        outcome = await upstream.send(method, "/", "", [("Authorization", "x")], CANARY)
    assert outcome == NotSent(Phase.TLS, Failure.TLS_ERROR)
    assert observer.failures == [(Phase.TLS, Failure.TLS_ERROR)]
    assert received == []
    assert server.received  # it did come that far
    assert CANARY not in server.received


@pytest.mark.guards("T-48")
async def test_the_same_certificate_made_well_is_accepted(certificates: Certificates) -> None:
    """What makes the refusals above mean something."""
    received: list[bytes] = []
    context = Signer(certificates.ca).server(self_signed=False)
    async with serving(hearing(context, received), None) as server:
        route = route_to(server.port, certificates, timeout_seconds=0.3)
        async with upstream_to(route) as upstream:
            await post(upstream)
    assert CANARY in b"".join(received)
    assert CANARY not in server.received
    async with (
        serving(repeating(OK), context) as server,
        upstream_to(route_to(server.port, certificates)) as upstream,
    ):
        assert isinstance(await post(upstream), Replied)


@pytest.mark.guards("T-48")
async def test_without_a_ca_file_the_systems_authorities_count(certificates: Certificates) -> None:
    async with (
        serving(repeating(OK), certificates.server) as server,
        upstream_to(route_to(server.port, certificates, ca_file=None)) as upstream,
    ):
        assert await post(upstream) == NotSent(Phase.TLS, Failure.TLS_ERROR)
    assert server.received == b""


@pytest.mark.guards("T-48")
async def test_plain_http_on_the_port_gets_no_request(certificates: Certificates) -> None:
    async def script(connection: Connection) -> None:
        await connection.some()
        await connection.say(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async with (
        serving(script, None) as server,
        upstream_to(route_to(server.port, certificates)) as upstream,
    ):
        assert await post(upstream) == NotSent(Phase.TLS, Failure.TLS_ERROR)
    assert server.received.startswith(b"\x16\x03")  # a ClientHello
    assert CANARY not in server.received
    assert b"POST" not in server.received


@pytest.mark.guards("F-21")
async def test_a_handshake_cut_off_is_not_sent(certificates: Certificates) -> None:
    async def script(connection: Connection) -> None:
        await connection.some()

    async with (
        serving(script, None) as server,
        upstream_to(route_to(server.port, certificates)) as upstream,
    ):
        assert await post(upstream) == NotSent(Phase.TLS, Failure.UNREACHABLE)
    assert CANARY not in server.received


@pytest.mark.guards("F-22")
async def test_a_handshake_without_an_answer_is_not_sent(certificates: Certificates) -> None:
    async def script(connection: Connection) -> None:
        await connection.silence()

    loop = asyncio.get_running_loop()
    async with serving(script, None) as server:
        route = route_to(server.port, certificates, connect_seconds=0.2)
        async with upstream_to(route) as upstream:
            began = loop.time()
            assert await post(upstream) == NotSent(Phase.TLS, Failure.CONNECT_TIMEOUT)
            assert loop.time() - began < 0.7
    assert CANARY not in server.received


@pytest.mark.guards("T-48")
async def test_a_revoked_certificate_is_refused(certificates: Certificates, tmp_path: Path) -> None:
    signer = Signer(certificates.ca)
    leaf = certificates.ca.issue_cert(NAME)
    serial = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).serial_number
    crl_file = tmp_path / "crl.pem"
    for crl, accepted in (
        (signer.revoking(until=NOW + DAY), True),
        (signer.revoking(serial + 1, until=NOW + DAY), True),
        (signer.revoking(serial, until=NOW + DAY), False),
        (signer.revoking(until=NOW - DAY), False),  # out of date: who knows what was revoked since
    ):
        crl_file.write_bytes(crl)
        async with (
            serving(repeating(OK), context_of(leaf)) as server,
            upstream_to(route_to(server.port, certificates, crl_file=crl_file)) as upstream,
        ):
            outcome = await post(upstream)
        assert isinstance(outcome, Replied) is accepted
        if not accepted:
            assert outcome == NotSent(Phase.TLS, Failure.TLS_ERROR)
            assert server.received == b""


async def test_a_client_certificate_is_shown(certificates: Certificates, tmp_path: Path) -> None:
    leaf = certificates.ca.issue_cert("shop.test")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(leaf.cert_chain_pems[0].bytes())
    key.write_bytes(leaf.private_key_pem.bytes())
    async with serving(repeating(OK), client_certificate_wanted(certificates)) as server:
        route = route_to(server.port, certificates, client_certificate=(chain, key))
        async with upstream_to(route) as upstream:
            assert isinstance(await post(upstream), Replied)


@pytest.mark.guards("T-48")
async def test_a_client_certificate_that_comes_too_late_is_unknown_at_most(
    certificates: Certificates,
) -> None:
    """In TLS 1.3 the server judges the client after the client has begun to send."""
    context = client_certificate_wanted(certificates)
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    async with (
        serving(repeating(OK), context) as server,
        upstream_to(route_to(server.port, certificates)) as upstream,
    ):
        outcome = await post(upstream)
    assert not isinstance(outcome, Replied)
    assert server.received == b""  # here it was not even that


# --- the context --------------------------------------------------------------------------


@pytest.mark.guards("T-48")
def test_the_context_is_strict(certificates: Certificates) -> None:
    context = tls_context(ca_file=certificates.ca_file, crl_file=None, client_certificate=None)
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_flags & ssl.VERIFY_X509_STRICT
    assert not context.hostname_checks_common_name or ssl.HAS_NEVER_CHECK_COMMON_NAME
    assert all(cipher["aead"] for cipher in context.get_ciphers())


@pytest.mark.parametrize("kind", ["ca_file", "crl_file", "client_certificate", "encrypted key"])
@pytest.mark.parametrize("content", [None, b"", b"canary"])
def test_a_file_that_cannot_be_used_refuses_the_start(
    certificates: Certificates, tmp_path: Path, kind: str, content: bytes | None
) -> None:
    bad = tmp_path / "canary.pem"
    if content is not None:
        bad.write_bytes(content)
    ca_file, crl_file, pair = certificates.ca_file, None, None
    if kind == "ca_file":
        ca_file = bad
    elif kind == "crl_file":
        crl_file = bad
    elif kind == "client_certificate":
        pair = (bad, bad)
    else:
        pair = _encrypted(certificates, tmp_path)
    with pytest.raises(StartRefused) as refused:
        tls_context(ca_file=ca_file, crl_file=crl_file, client_certificate=pair)
    assert "canary" not in str(refused.value)
    assert refused.value.__context__ is None


def _encrypted(certificates: Certificates, folder: Path) -> tuple[Path, Path]:
    """A key that would ask for its password on the terminal."""
    leaf = certificates.ca.issue_cert("shop.test")
    key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
    chain_file, key_file = folder / "chain.pem", folder / "key.pem"
    chain_file.write_bytes(leaf.cert_chain_pems[0].bytes())
    encryption = BestAvailableEncryption(b"secret")
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return chain_file, key_file
