"""Certificates that callbacks name: from the processor's own server, chained to pinned roots."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.errors import UpstreamUnavailable
from gateway.https_client import Unwatched
from gateway.signing_certificates import (
    AWAY_FOR,
    BYTES_MAX,
    FETCHES_MAX,
    FETCHES_WITHIN,
    GOOD_MAX,
    KEPT_FOR,
    OTHERS_MAX,
    REFUSED_FOR,
    TENANT_FETCHES_MAX,
    HowToFetch,
    SigningCertificates,
)
from tests.gateway.raw_servers import (
    LOOPBACK,
    Connection,
    Script,
    Server,
    at,
    context_of,
    once,
    reply,
    serving,
)
from tests.gateway.tls_authority import DAY, HASH, NOW

HOST = "api.paypal.com"
URL = f"https://{HOST}/v1/notifications/certs/CERT-1"
SHOP = "t_shop"
SIGNER = "messageverificationcerts.paypal.com"
Key = rsa.RSAPrivateKey


def key_of(bits: int = 2048) -> Key:
    return rsa.generate_private_key(65_537, bits)


class Issuer:
    """An authority as the web has them: a root, and one below it that signs."""

    def __init__(self) -> None:
        self.root_key, self.key = key_of(), key_of()
        self.root = self._authority("root", self.root_key, "root", self.root_key)
        self.below = self._authority("below", self.key, "root", self.root_key)

    @property
    def pinned(self) -> bytes:
        return self.root.public_bytes(Encoding.PEM)

    def chain(
        self, name: str = SIGNER, *, until: datetime = NOW + DAY, key: Key | None = None
    ) -> bytes:
        """Give a signer's certificate and the one above it, in PEM."""
        key = key or key_of()
        builder = (
            _builder("leaf", key, "below", self.key, until)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        )
        leaf = builder.sign(self.key, HASH)
        return leaf.public_bytes(Encoding.PEM) + self.below.public_bytes(Encoding.PEM)

    @staticmethod
    def _authority(name: str, key: Key, issuer: str, by: Key) -> x509.Certificate:
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        return (
            _builder(name, key, issuer, by, NOW + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(by, HASH)
        )


def _builder(name: str, key: Key, issuer: str, by: Key, until: datetime) -> x509.CertificateBuilder:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    return (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - 3 * DAY)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False
        )
    )


@dataclass
class Clock:
    """Tells the time that a test sets."""

    at: datetime = NOW

    def __call__(self) -> datetime:
        return self.at


@dataclass
class World:
    """A processor's server, and who asks it."""

    certificates: SigningCertificates
    server: Server
    clock: Clock


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture(scope="module")
def web() -> trustme.CA:
    """The authority that vouches for the server itself: it says nothing of who signs."""
    return trustme.CA()


@asynccontextmanager
async def asking(
    web: trustme.CA, issuer: Issuer, script: Script, folder: Path, *, host: str = HOST
) -> AsyncIterator[World]:
    ca_file = folder / "web.pem"
    web.cert_pem.write_to_path(str(ca_file))
    context: ssl.SSLContext = context_of(web.issue_cert(host))
    async with serving(script, context) as server:
        how = HowToFetch(
            ca_file=ca_file,
            address_allow=LOOPBACK,
            port=server.port,
            lookup=at("127.0.0.1"),
            timeout_seconds=2.0,
        )
        clock = Clock()
        made = SigningCertificates([issuer.pinned], Unwatched(), now=clock, how=how)
        yield World(made, server, clock)


async def test_a_chain_is_fetched_once_and_kept(
    web: trustme.CA, issuer: Issuer, tmp_path: Path
) -> None:
    chain = issuer.chain(until=NOW + 3 * DAY)
    async with asking(web, issuer, once(reply(chain)), tmp_path) as world:
        found = await world.certificates.of(SHOP, URL)
        assert found is not None
        assert [x509.load_der_x509_certificate(each) for each in found] == list(
            x509.load_pem_x509_certificates(chain)
        )
        assert world.server.requests[0].startswith(b"GET /v1/notifications/certs/CERT-1 HTTP/1.1")
        world.clock.at += KEPT_FOR - timedelta(seconds=1)
        assert await world.certificates.of(SHOP, URL) == found
        assert world.server.connections == 1
        world.clock.at += timedelta(seconds=1)
        assert await world.certificates.of(SHOP, URL) == found
        assert world.server.connections == 2


async def test_a_chain_with_something_expired_that_it_does_not_need_is_fetched_once(
    web: trustme.CA, issuer: Issuer, tmp_path: Path
) -> None:
    """As where an old root has signed the new one, too: servers go on sending that."""
    old = x509.load_pem_x509_certificates(issuer.chain(until=NOW - DAY))[0]
    chain = issuer.chain() + old.public_bytes(Encoding.PEM)
    async with asking(web, issuer, once(reply(chain)), tmp_path) as world:
        assert await world.certificates.of(SHOP, URL) is not None
        world.clock.at += timedelta(hours=1)
        assert await world.certificates.of(SHOP, URL) is not None
        assert world.server.connections == 1


async def test_it_is_not_kept_beyond_its_own_end(
    web: trustme.CA, issuer: Issuer, tmp_path: Path
) -> None:
    chain = issuer.chain(until=NOW + timedelta(hours=1))
    async with asking(web, issuer, once(reply(chain)), tmp_path) as world:
        assert await world.certificates.of(SHOP, URL) is not None
        world.clock.at += timedelta(hours=1, seconds=1)
        assert await world.certificates.of(SHOP, URL) is None
        assert world.server.connections == 2


@pytest.mark.guards("T-44")
@pytest.mark.parametrize(
    "url",
    [
        f"http://{HOST}/v1/c",
        "https://paypal.com/v1/c",
        "https://evilpaypal.com/v1/c",
        "https://api.paypal.com.evil.example/v1/c",
        "https://evil.example/api.paypal.com/v1/c",
        "https://api.paypal.com@evil.example/v1/c",
        "https://evil.example#.paypal.com/v1/c",
        "https://evil.example\\.paypal.com/v1/c",
        f"https://{HOST}:8443/v1/c",
        f"https://{HOST}/v1/c?to=evil",
        f"https://{HOST}/",
        f"https://{HOST}",
        "https://127.0.0.1/v1/c",
        f"HTTPS://{HOST}/v1/c\r\nX: y",
        "",
    ],
)
async def test_nobody_else_is_asked(
    url: str, web: trustme.CA, issuer: Issuer, tmp_path: Path
) -> None:
    async with asking(web, issuer, once(reply(issuer.chain())), tmp_path) as world:
        assert await world.certificates.of(SHOP, url) is None
        assert world.server.connections == 0


def _bad_chains(issuer: Issuer) -> dict[str, bytes]:
    good = issuer.chain()
    leaf = x509.load_pem_x509_certificates(good)[0].public_bytes(Encoding.PEM)
    return {
        "expired": issuer.chain(until=NOW - DAY),
        "of another name": issuer.chain("messageverificationcerts.paypal.com.evil.example"),
        "of another domain": issuer.chain("evil.example"),
        "of another root": Issuer().chain(),
        "without what is between": leaf,
        "a short key": issuer.chain(key=key_of(1024)),
        "the root alone": issuer.pinned,
        "many": good + issuer.below.public_bytes(Encoding.PEM) * 8,
        "cut": good[: len(good) // 2],
        "nothing": b"",
        "no certificate": b"<html>moved</html>",
    }


@pytest.mark.guards("T-44")
async def test_a_chain_that_proves_nothing_is_refused_and_that_remembered(
    web: trustme.CA, issuer: Issuer, tmp_path: Path
) -> None:
    for name, chain in _bad_chains(issuer).items():
        async with asking(web, issuer, once(reply(chain)), tmp_path) as world:
            assert await world.certificates.of(SHOP, URL) is None, name
            world.clock.at += REFUSED_FOR - timedelta(seconds=1)
            assert await world.certificates.of(SHOP, URL) is None, name
            assert world.server.connections == 1, name


async def test_a_good_chain_is_asked_for_again_after_a_bad_one(
    web: trustme.CA, issuer: Issuer, tmp_path: Path
) -> None:
    replies = [reply(b"nothing"), reply(issuer.chain())]

    async def script(connection: object) -> None:
        await once(replies.pop(0))(connection)  # type: ignore[arg-type]  # as it came

    async with asking(web, issuer, script, tmp_path) as world:
        assert await world.certificates.of(SHOP, URL) is None
        world.clock.at += REFUSED_FOR
        assert await world.certificates.of(SHOP, URL) is not None


async def test_redirects_and_what_is_too_large_are_refused(
    web: trustme.CA, issuer: Issuer, tmp_path: Path
) -> None:
    chain = issuer.chain()
    for script in (
        once(reply(chain, f"Location: {URL}2", status="302 Found")),
        once(reply(chain, status="404 Not Found")),
        once(reply(chain + b"\n" * BYTES_MAX)),
    ):
        async with asking(web, issuer, script, tmp_path) as world:
            assert await world.certificates.of(SHOP, URL) is None
            assert world.server.connections == 1


async def test_a_server_that_is_away_is_no_refusal(
    web: trustme.CA, issuer: Issuer, tmp_path: Path
) -> None:
    busy = once(reply(b"", status="503 Service Unavailable"))
    async with asking(web, issuer, busy, tmp_path) as world:
        for _ in range(3):
            with pytest.raises(UpstreamUnavailable) as raised:
                await world.certificates.of(SHOP, URL)
            assert raised.value.__context__ is None
        assert world.server.connections == 1
        world.clock.at += AWAY_FOR
        with pytest.raises(UpstreamUnavailable):
            await world.certificates.of(SHOP, URL)
        assert world.server.connections == 2


async def test_a_server_that_cannot_prove_itself_is_not_asked(
    web: trustme.CA, issuer: Issuer, tmp_path: Path
) -> None:
    answer = once(reply(issuer.chain()))
    async with asking(web, issuer, answer, tmp_path, host="evil.example") as world:
        with pytest.raises(UpstreamUnavailable):
            await world.certificates.of(SHOP, URL)
        assert world.server.requests == []


async def test_many_who_wait_share_one_fetch(
    web: trustme.CA, issuer: Issuer, tmp_path: Path
) -> None:
    async with asking(web, issuer, once(reply(issuer.chain())), tmp_path) as world:
        found = await asyncio.gather(*(world.certificates.of(SHOP, URL) for _ in range(30)))
        assert all(each == found[0] is not None for each in found)
        assert world.server.connections == 1


async def ask_for_many(world: World, tenant: str, stem: str, count: int) -> int:
    """Name so many URLs in a tenant's callbacks; return of how many it was known what they are."""
    known = 0
    for number in range(count):
        try:
            assert await world.certificates.of(tenant, f"{URL}{stem}{number}") is None
        except UpstreamUnavailable:
            continue
        known += 1
    return known


def by_path(chain: bytes, *good: str) -> Script:
    """Answer with a chain at URLs that end like this, and with 404 at all others."""

    async def script(connection: Connection) -> None:
        path = (await connection.request()).split(b" ")[1].decode()
        is_good = bool(good) and path.endswith(good)
        await connection.say(reply(chain) if is_good else reply(b"", status="404 Not Found"))

    return script


@pytest.mark.guards("T-52")
async def test_only_so_many_are_asked_in_a_minute(
    web: trustme.CA, issuer: Issuer, tmp_path: Path
) -> None:
    async with asking(web, issuer, by_path(b""), tmp_path) as world:
        of_one = await ask_for_many(world, SHOP, "-a", FETCHES_MAX)
        assert of_one == world.server.connections == TENANT_FETCHES_MAX
        assert await world.certificates.of(SHOP, f"{URL}-a0") is None  # is remembered
        assert await ask_for_many(world, "t_other", "-b", 1) == 1  # another is not held up
        for number in range(10):
            await ask_for_many(world, f"t_{number}", f"-c{number}-", 10)
        assert world.server.connections == FETCHES_MAX
        world.clock.at += FETCHES_WITHIN
        assert await ask_for_many(world, SHOP, "-d", 1) == 1


@pytest.mark.guards("T-52")
async def test_what_is_refused_never_takes_the_place_of_what_is_good(
    web: trustme.CA, issuer: Issuer, tmp_path: Path
) -> None:
    chain = issuer.chain(until=NOW + 2 * DAY)
    async with asking(web, issuer, by_path(chain, "CERT-1"), tmp_path) as world:
        found = await world.certificates.of(SHOP, URL)
        assert found is not None
        for minute in range(6):
            for tenant in range(6):
                await ask_for_many(world, f"t_{tenant}", f"-{minute}-{tenant}-", 20)
            world.clock.at += FETCHES_WITHIN
        asked = world.server.connections
        assert asked > OTHERS_MAX
        assert await world.certificates.of(SHOP, URL) == found
        assert world.server.connections == asked  # it was still there
        assert len(world.certificates._others) <= OTHERS_MAX


@pytest.mark.guards("T-52")
async def test_what_was_good_is_asked_again_however_much_else_is_asked(
    web: trustme.CA, issuer: Issuer, tmp_path: Path
) -> None:
    chain = issuer.chain(until=NOW + 2 * DAY)
    async with asking(web, issuer, by_path(chain, "CERT-1"), tmp_path) as world:
        found = await world.certificates.of(SHOP, URL)
        world.clock.at += KEPT_FOR
        for tenant in (SHOP, *(f"t_{number}" for number in range(6))):
            await ask_for_many(world, tenant, f"-{tenant}-", 10)
        assert await ask_for_many(world, "t_new", "-e", 1) == 0  # nobody's turn for now
        assert await world.certificates.of(SHOP, URL) == found


@pytest.mark.guards("T-52")
async def test_what_was_good_and_is_no_more_is_not_believed(
    web: trustme.CA, issuer: Issuer, tmp_path: Path
) -> None:
    replies = [reply(issuer.chain(until=NOW + 2 * DAY)), reply(b"nothing")]

    async def script(connection: Connection) -> None:
        await once(replies.pop(0))(connection)

    async with asking(web, issuer, script, tmp_path) as world:
        assert await world.certificates.of(SHOP, URL) is not None
        world.clock.at += KEPT_FOR
        assert await world.certificates.of(SHOP, URL) is None
        assert not world.certificates._good


@pytest.mark.guards("T-52")
async def test_of_good_ones_the_tenant_s_go_that_named_most(
    web: trustme.CA, issuer: Issuer, tmp_path: Path
) -> None:
    chain = issuer.chain(until=NOW + 2 * DAY)
    async with asking(web, issuer, once(reply(chain)), tmp_path) as world:
        assert await world.certificates.of("t_other", URL) is not None
        for number in range(GOOD_MAX + 3):  # the same under names that are the server's too
            assert await world.certificates.of(SHOP, f"{URL}-{number}") is not None
            world.clock.at += FETCHES_WITHIN / TENANT_FETCHES_MAX
        asked = world.server.connections
        assert len(world.certificates._good) == GOOD_MAX
        assert await world.certificates.of("t_other", URL) is not None
        assert world.server.connections == asked


async def test_one_too_many_takes_no_place(web: trustme.CA, issuer: Issuer, tmp_path: Path) -> None:
    async with asking(web, issuer, by_path(b""), tmp_path) as world:
        await ask_for_many(world, SHOP, "-a", 50)
        assert len(world.certificates._others) == TENANT_FETCHES_MAX
