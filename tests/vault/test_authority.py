"""The certificate authority, in a real OpenBao: what it signs, shows, and how it is replaced."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.vault.places import Place, place_of_openbao
from vault.authority import (
    AlreadyPrepared,
    Authority,
    Issued,
    NothingPrepared,
    new_names,
    public_authority,
)
from vault.embedded.bootstrap import EmbeddedParts
from vault.errors import KeysMisconfigured
from vault.transit_answers import Answer, Verdict
from vault.transit_items import Request

pytestmark = pytest.mark.embedded

HOST = "api.stripe.com"


@pytest.fixture
def place(embedded: EmbeddedParts) -> Place:
    return place_of_openbao(embedded)


@pytest.fixture
async def authority(place: Place) -> AsyncIterator[Authority]:
    async with place.transit("reveal") as transit:
        yield Authority(transit.ask)


@pytest.fixture
async def public(place: Place) -> AsyncIterator[Authority]:
    async with public_authority(place.access("tokenize")) as found:
        yield found


@pytest.fixture
async def glass(place: Place) -> AsyncIterator[Authority]:
    async with place.transit("break-glass") as transit:
        yield Authority(transit.ask)


def request_of(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, *names: str) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names:
        alternative = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(alternative, critical=False)
    digest = hashes.SHA256() if isinstance(key, ec.EllipticCurvePrivateKey) else None
    return builder.sign(key, digest).public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def now() -> datetime:
    return datetime.now(UTC)


async def test_a_leaf_is_for_a_server_of_one_name_for_three_days(
    authority: Authority, key: ec.EllipticCurvePrivateKey
) -> None:
    issued = await authority.sign(HOST, request_of(key))
    leaf, issuer = x509.load_pem_x509_certificates(issued.chain)
    extensions = leaf.extensions
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName(HOST)]
    assert leaf.public_key() == key.public_key()
    assert timedelta(days=3) <= issued.not_after - issued.not_before < timedelta(days=3, hours=1)
    assert issued.not_before < now() - timedelta(minutes=4)  # for clocks that are behind
    constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
    assert issued.issuer == issuer.public_bytes(serialization.Encoding.PEM)
    assert await authority.issuer() == issued.issuer
    named = {type(extension.value) for extension in extensions}
    assert named >= {x509.SubjectKeyIdentifier, x509.AuthorityKeyIdentifier, x509.KeyUsage}


@pytest.mark.guards("T-63")
async def test_names_that_a_request_smuggles_in_are_left_out(
    authority: Authority, key: ec.EllipticCurvePrivateKey
) -> None:
    issued = await authority.sign(HOST, request_of(key, "evil.example"))
    leaf = x509.load_pem_x509_certificates(issued.chain)[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName(HOST)]


@pytest.mark.parametrize("host", ["*.stripe.com", "two names", "a.example,b.example", "", "a,b"])
async def test_what_is_no_one_name_gets_no_certificate(
    authority: Authority, key: ec.EllipticCurvePrivateKey, host: str
) -> None:
    with pytest.raises(KeysMisconfigured):
        await authority.sign(host, request_of(key))


async def test_another_kind_of_key_gets_none_either(authority: Authority) -> None:
    with pytest.raises(KeysMisconfigured):
        await authority.sign(HOST, request_of(ed25519.Ed25519PrivateKey.generate()))


@pytest.mark.parametrize("host", [HOST, "127.0.0.1", "::1"])
async def test_the_chain_passes_strict_verification_with_the_root_alone(
    authority: Authority,
    public: Authority,
    key: ec.EllipticCurvePrivateKey,
    host: str,
    tmp_path: Path,
) -> None:
    """As Python 3.13 verifies by default."""
    issued = await authority.sign(host, request_of(key))
    roots = await public.roots(at=now())
    client = ssl.create_default_context(cadata=b"".join(r.certificate for r in roots).decode())
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    assert await greeted(client, served(issued, key, tmp_path), host)


async def greeted(client: ssl.SSLContext, server: ssl.SSLContext, host: str) -> bool:
    """Whether a client takes the server for `host`."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server) as listening:
        port = listening.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client, server_hostname=host
        )
        said = await reader.read()
        writer.close()
        await writer.wait_closed()
    return said == b"hello"


def served(issued: Issued, key: ec.EllipticCurvePrivateKey, folder: Path) -> ssl.SSLContext:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "leaf.pem").write_bytes(issued.chain + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "leaf.pem")
    return context


async def test_a_replacement_overlaps(
    authority: Authority,
    public: Authority,
    glass: Authority,
    key: ec.EllipticCurvePrivateKey,
    tmp_path: Path,
) -> None:
    """Both roots are given out first, then the new one signs; what was signed goes on."""
    (old,) = [root for root in await public.roots(at=now()) if root.in_force]
    before = await authority.sign(HOST, request_of(key))

    await glass.prepare("panward test")
    new, same = await public.roots(at=now())
    assert (same, new.in_force, same.in_force) == (old, False, True)
    assert (await authority.sign(HOST, request_of(key))).issuer == before.issuer
    with pytest.raises(AlreadyPrepared):
        await glass.prepare("panward test")

    await glass.activate()
    after = await authority.sign(HOST, request_of(key))
    assert after.issuer != before.issuer
    assert [root.in_force for root in await public.roots(at=now())] == [True, False]
    both = ssl.create_default_context(cadata=(new.certificate + old.certificate).decode())
    both.verify_flags |= ssl.VERIFY_X509_STRICT
    assert await greeted(both, served(before, key, tmp_path), HOST)
    assert await greeted(both, served(after, key, tmp_path), HOST)
    only_old = ssl.create_default_context(cadata=old.certificate.decode())
    with pytest.raises(ssl.SSLCertVerificationError):
        await greeted(only_old, served(after, key, tmp_path), HOST)
    with pytest.raises(NothingPrepared):
        await glass.activate()

    assert await glass.retire() == 2  # a root and an issuer
    assert [root.sha256 for root in await public.roots(at=now())] == [new.sha256]
    assert (await authority.sign(HOST, request_of(key))).issuer == after.issuer
    assert await glass.retire() == 0


async def test_a_root_that_has_expired_is_given_out_no_more(public: Authority) -> None:
    assert await public.roots(at=now() + timedelta(days=3651)) == []


@pytest.mark.guards("T-63")
async def test_who_may_sign_may_not_replace_and_the_other_way_round(
    place: Place, authority: Authority, glass: Authority, key: ec.EllipticCurvePrivateKey
) -> None:
    with pytest.raises(KeysMisconfigured):
        await authority.prepare("panward test")
    await glass.prepare("panward test")
    with pytest.raises(KeysMisconfigured):
        await authority.activate()
    await glass.activate()
    with pytest.raises(KeysMisconfigured):
        await authority.retire()
    await glass.retire()
    with pytest.raises(KeysMisconfigured):
        await glass.sign(HOST, request_of(key))
    for role in ("tokenize", "credentials"):
        async with place.transit(role) as transit:
            with pytest.raises(KeysMisconfigured):
                await Authority(transit.ask).sign(HOST, request_of(key))


def test_no_two_pairs_have_the_same_names() -> None:
    one, other = new_names("panward test"), new_names("panward test")
    assert not {*one} & {*other}
    assert all(name.startswith("panward test ") for name in one)


def answering(**data: object) -> Authority:
    async def ask(_: Request) -> Answer:
        return Answer(Verdict.ANSWERED, msgspec.Raw(msgspec.json.encode(data)))

    return Authority(ask)


async def test_an_engine_that_answers_with_something_else_is_not_believed(
    authority: Authority, key: ec.EllipticCurvePrivateKey
) -> None:
    pem = (await authority.issuer()).decode()
    signed = {"certificate": pem, "issuing_ca": pem, "ca_chain": [pem]}
    with pytest.raises(KeysMisconfigured):  # a certificate, for no name at all
        await answering(**signed).sign(HOST, request_of(key))
    with pytest.raises(KeysMisconfigured):
        await answering(issuer_id="default", certificate="none").issuer()


async def test_where_no_engine_is_there_is_no_authority(place: Place) -> None:
    async def ask(_: Request) -> Answer:
        return Answer(Verdict.REFUSED)

    for work in (Authority(ask).roots(at=now()), Authority(ask).issuer()):
        with pytest.raises(KeysMisconfigured):
            await work
