"""A peer that cannot prove who it is gets no application byte, and no setting changes that."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.exchange import Failure, NotSent, Phase, Replied
from gateway.upstream_tls import spki_pin
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
from tests.gateway.tls_authority import (
    DAY,
    NOW,
    Authority,
    der_of,
    self_signed,
    serial_of,
    wanting_certificates,
)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def old_tls(version: ssl.TLSVersion) -> Callable[[trustme.CA], ssl.SSLContext]:
    def server(ca: trustme.CA) -> ssl.SSLContext:
        context = context_of(ca.issue_cert(NAME))
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.deprecated_call():
            context.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.deprecated_call():
            context.maximum_version = version
        return context

    return server


def tls_1_2_with(ciphers: str) -> Callable[[trustme.CA], ssl.SSLContext]:
    def server(ca: trustme.CA) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers(ciphers)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        key_type = trustme.KeyType.RSA if "RSA" in ciphers else trustme.KeyType.ECDSA
        ca.issue_cert(NAME, key_type=key_type).configure_cert(context)
        return context

    return server


def short_key(ca: trustme.CA) -> ssl.SSLContext:
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505 - what must be refused
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    Authority.of(ca).leaf(key=key).configure_cert(context)
    return context


def of_authority(*, below: dict[str, object], leaf: dict[str, bool]) -> object:
    """A server whose certificate another one, below the tests' authority, has signed."""

    def server(ca: trustme.CA) -> ssl.SSLContext:
        return context_of(Authority.of(ca).below(**below).leaf(**leaf))  # type: ignore[arg-type]

    return server


CLIENTS_ONLY = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])

BAD_SERVERS: dict[str, object] = {
    "expired": lambda ca: context_of(
        ca.issue_cert(NAME, not_before=NOW - 2 * DAY, not_after=NOW - DAY)
    ),
    "not yet valid": lambda ca: context_of(
        ca.issue_cert(NAME, not_before=NOW + DAY, not_after=NOW + 2 * DAY)
    ),
    "another name": lambda ca: context_of(ca.issue_cert("other.test")),
    "a name below": lambda ca: context_of(ca.issue_cert(f"sub.{NAME}")),
    "a wildcard above": lambda ca: context_of(ca.issue_cert("*.test.test", "*.other")),
    "a wildcard of the top": lambda ca: context_of(ca.issue_cert("*.test")),
    "the address alone": lambda ca: context_of(ca.issue_cert("127.0.0.1")),
    "the common name alone": lambda ca: context_of(ca.issue_cert(common_name=NAME)),
    "unknown authority": lambda _: context_of(trustme.CA().issue_cert(NAME)),
    "self-signed": lambda _: context_of(self_signed()),
    "no key identifier": lambda ca: context_of(Authority.of(ca).leaf(key_identifier=False)),
    "an expired authority": of_authority(below={"until": NOW - DAY}, leaf={}),
    "an authority that is none": of_authority(below={"is_ca": False}, leaf={}),
    "a chain with a gap": of_authority(below={}, leaf={"with_chain": False}),
    "a client's certificate": lambda ca: context_of(Authority.of(ca).leaf(CLIENTS_ONLY)),
    "a key of 1024 bits": short_key,
    "TLS 1.0": old_tls(ssl.TLSVersion.TLSv1),
    "TLS 1.1": old_tls(ssl.TLSVersion.TLSv1_1),
    "CBC alone": tls_1_2_with("ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA"),
    "CCM alone": tls_1_2_with("ECDHE-ECDSA-AES128-CCM"),
    "no forward secrecy": tls_1_2_with("AES128-GCM-SHA256:RSA+AESGCM:!ECDHE:!DHE"),
    "finite fields": tls_1_2_with("DHE-RSA-AES128-GCM-SHA256"),
    "wants a certificate": wanting_certificates,
}


def hearing(context: ssl.SSLContext, received: list[bytes]) -> Script:
    async def script(connection: Connection) -> None:
        tls = TlsByHand(connection, context)
        if await tls.shake_hands():
            while data := await tls.read():
                received.append(data)

    return script


async def refused(
    certificates: Certificates, context: ssl.SSLContext, *methods: str, **route: object
) -> bool:
    """Whether a send ends at the handshake, with no application byte arrived."""
    observer = Observer()
    received: list[bytes] = []
    async with (
        serving(hearing(context, received), None) as server,
        upstream_to(route_to(server.port, certificates, **route), observer) as upstream,
    ):
        method, *_ = methods or ("POST",)
        outcome = await upstream.send(method, "/", "", [("Authorization", "x")], CANARY)
    assert server.received  # it did come that far
    assert CANARY not in server.received
    return (
        outcome == NotSent(Phase.TLS, Failure.TLS_ERROR)
        and observer.failures == [(Phase.TLS, Failure.TLS_ERROR)]
        and received == []
    )


@pytest.mark.guards("T-48")
@pytest.mark.guards("F-27")
@pytest.mark.parametrize("kind", BAD_SERVERS)
async def test_a_peer_that_proves_nothing_gets_nothing(
    certificates: Certificates, kind: str
) -> None:
    make = BAD_SERVERS[kind]
    assert callable(make)
    assert await refused(certificates, make(certificates.ca))


@pytest.mark.guards("T-48")
async def test_no_method_is_an_exception(certificates: Certificates) -> None:
    context = context_of(trustme.CA().issue_cert(NAME))
    for method in ("GET", "PUT", "DELETE", "HEAD"):
        assert await refused(certificates, context, method)


@pytest.mark.guards("T-48")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    "why", ["revoked", "a list out of date", "no list of this authority", "a bad pin", "a gap"]
)
async def test_a_peer_that_the_route_does_not_take_gets_nothing(
    certificates: Certificates, tmp_path: Path, version: ssl.TLSVersion, why: str
) -> None:
    authority = Authority.of(certificates.ca)
    below = authority.below()
    leaf = below.leaf() if why == "a gap" else authority.leaf()
    crl_file = tmp_path / "crl.pem"
    route: dict[str, object] = {"crl_file": crl_file}
    match why:
        case "revoked":
            crl_file.write_bytes(authority.revoking(serial_of(leaf), until=NOW + DAY))
        case "a list out of date":  # who knows what was revoked since
            crl_file.write_bytes(authority.revoking(until=NOW - DAY))
        case "no list of this authority":
            crl_file.write_bytes(Authority.of(trustme.CA()).revoking(until=NOW + DAY))
        case "a gap":  # the leaf is vouched for, who vouches for the authority is not known
            crl_file.write_bytes(below.revoking(until=NOW + DAY))
            route["crl_check"] = "chain"
        case _:
            route = {"spki_pins": (spki_pin(der_of(authority.leaf())), bytes(32))}
    context = context_of(leaf)
    context.minimum_version = context.maximum_version = version
    assert await refused(certificates, context, **route)


@pytest.mark.guards("T-48")
async def test_the_same_certificates_made_well_are_accepted(certificates: Certificates) -> None:
    """What makes the refusals above mean something."""
    authority = Authority.of(certificates.ca)
    for leaf in (
        authority.leaf(),
        authority.below().leaf(),
        authority.leaf(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])),
        authority.leaf(key=rsa.generate_private_key(65537, 2048)),
        certificates.ca.issue_cert(f"*.{NAME.partition('.')[2]}", NAME),
    ):
        assert not await refused(certificates, context_of(leaf), timeout_seconds=0.1)
        async with (
            serving(repeating(OK), context_of(leaf)) as server,
            upstream_to(route_to(server.port, certificates)) as upstream,
        ):
            assert isinstance(await post(upstream), Replied)


@pytest.mark.guards("T-48")
@pytest.mark.parametrize(
    "ciphers", ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-CHACHA20-POLY1305"]
)
async def test_tls_1_2_with_a_good_cipher_is_accepted(
    certificates: Certificates, ciphers: str
) -> None:
    context = tls_1_2_with(ciphers)(certificates.ca)
    async with (
        serving(repeating(OK), context) as server,
        upstream_to(route_to(server.port, certificates)) as upstream,
    ):
        assert isinstance(await post(upstream), Replied)


@pytest.mark.guards("T-48")
async def test_without_a_ca_file_the_systems_authorities_count(certificates: Certificates) -> None:
    assert await refused(certificates, certificates.server, ca_file=None)


@pytest.mark.guards("T-48")
@pytest.mark.parametrize(
    "speech",
    {
        "plain HTTP": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        "plain HTTP 200": OK,
        "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
        "zeros": bytes(4096),
        "garbage": bytes(range(256)) * 4,
        "an alert": b"\x15\x03\x03\x00\x02\x02\x28",
        "a warning, then garbage": b"\x15\x03\x03\x00\x02\x01\x00" + b"\xff" * 64,
        "a record that is too long": b"\x16\x03\x03\xff\xff" + bytes(64),
        "data before keys": b"\x17\x03\x03\x00\x05hello",
        "a broken hello": b"\x16\x03\x03\x00\x04\x02\x00\x00\x00",
    }.items(),
    ids=lambda item: item[0],
)
async def test_what_is_no_tls_gets_no_request(
    certificates: Certificates, speech: tuple[str, bytes]
) -> None:
    async def script(connection: Connection) -> None:
        await connection.some()
        await connection.say(speech[1])
        await connection.silence()

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
@pytest.mark.parametrize("drips", [False, True])
async def test_a_handshake_without_an_end_is_not_sent(
    certificates: Certificates, *, drips: bool
) -> None:
    """Connecting is bounded as a whole: a peer that goes on and on is left as one that hangs."""

    async def script(connection: Connection) -> None:
        await connection.some()
        while drips:
            await connection.say(b"\x15\x03\x03\x00\x02\x01\x5a"[:1])
            await asyncio.sleep(0.15)
            await connection.say(b"\x03\x03\x00\x02\x01\x5a")  # "no certificate", a warning
        await connection.silence()

    loop = asyncio.get_running_loop()
    async with serving(script, None) as server:
        route = route_to(server.port, certificates, connect_seconds=0.2, timeout_seconds=30.0)
        async with upstream_to(route) as upstream:
            began = loop.time()
            outcome = await post(upstream)
            assert loop.time() - began < 0.7
    assert outcome == NotSent(Phase.TLS, Failure.CONNECT_TIMEOUT)
    assert CANARY not in server.received


@pytest.mark.guards("T-48")
async def test_a_client_certificate_that_comes_too_late_is_unknown_at_most(
    certificates: Certificates,
) -> None:
    """In TLS 1.3 the server judges the client after the client has begun to send."""
    context = wanting_certificates(certificates.ca, ssl.TLSVersion.TLSv1_3)
    async with (
        serving(repeating(OK), context) as server,
        upstream_to(route_to(server.port, certificates)) as upstream,
    ):
        outcome = await post(upstream)
    assert not isinstance(outcome, Replied)
    assert server.received == b""  # here it was not even that
