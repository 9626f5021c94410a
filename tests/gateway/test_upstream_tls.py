"""A route's own demands on its peer (pins, lists), and the certificate it shows."""

import base64
import hashlib
import os
import ssl
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import pytest
import trustme
import uvloop
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from gateway import upstream_tls
from gateway.exchange import Failure, NotSent, Outcome, Phase, Replied
from gateway.upstream import Upstream, UpstreamRoute
from gateway.upstream import context_of as context_of_route
from gateway.upstream_tls import (
    ClientCertificateRefused,
    load_crl,
    read_pin,
    spki_pin,
    tls_context,
)
from tests.gateway.raw_servers import (
    CANARY,
    NAME,
    OK,
    Certificates,
    Connection,
    Observer,
    at,
    context_of,
    post,
    repeating,
    reply,
    route_to,
    serving,
    upstream_to,
)
from tests.gateway.tls_authority import (
    DAY,
    NOW,
    Authority,
    der_of,
    serial_of,
    wanting_certificates,
)
from vault.errors import StartRefused

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


async def send_to(
    context: ssl.SSLContext, certificates: Certificates, **route: object
) -> tuple[Outcome, bytes]:
    async with (
        serving(repeating(OK), context) as server,
        upstream_to(route_to(server.port, certificates, **route)) as upstream,
    ):
        outcome = await post(upstream)
    return outcome, bytes(server.received)


# --- the context --------------------------------------------------------------------------


@pytest.mark.guards("T-48")
def test_the_context_is_strict(certificates: Certificates) -> None:
    context = tls_context(ca_file=certificates.ca_file, crl_file=None, client_certificate=None)
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION
    assert not context.post_handshake_auth
    assert not context.hostname_checks_common_name or ssl.HAS_NEVER_CHECK_COMMON_NAME
    assert context.security_level >= 2
    assert all(cipher["aead"] for cipher in context.get_ciphers())
    assert all("kx-ecdhe" in c["kea"] or c["kea"] == "kx-any" for c in context.get_ciphers())


@pytest.mark.guards("T-46")
def test_the_environment_gets_no_copy_of_the_keys(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    context = tls_context(ca_file=certificates.ca_file, crl_file=None, client_certificate=None)
    assert context.keylog_filename is None


class Lenient(ssl.SSLContext):
    """As another build of Python, or a configuration of OpenSSL, would have every context begin."""

    def __new__(cls, protocol: int) -> Self:
        context = super().__new__(cls, protocol)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        return context


@pytest.mark.guards("T-48")
def test_no_build_and_no_configuration_makes_it_lenient(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    lenient = SimpleNamespace(**{**vars(ssl), "SSLContext": Lenient})
    monkeypatch.setattr(upstream_tls, "ssl", lenient)
    assert Lenient(ssl.PROTOCOL_TLS_CLIENT).security_level == 0
    context = tls_context(ca_file=certificates.ca_file, crl_file=None, client_certificate=None)
    assert context.security_level == 2
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
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
        chain, key = encrypted(certificates)
        pair = tmp_path / "chain.pem", tmp_path / "key.pem"
        pair[0].write_text(chain)
        pair[1].write_text(key)
    with pytest.raises(StartRefused) as refused:
        tls_context(ca_file=ca_file, crl_file=crl_file, client_certificate=pair)
    assert "canary" not in str(refused.value)
    assert refused.value.__context__ is None


def encrypted(certificates: Certificates) -> tuple[str, str]:
    """A key that would ask for its password on the terminal."""
    leaf = certificates.ca.issue_cert("shop.test")
    key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
    encryption = BestAvailableEncryption(b"secret")
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return leaf.cert_chain_pems[0].bytes().decode(), pem.decode()


# --- revocation ---------------------------------------------------------------------------


@pytest.mark.guards("T-48")
async def test_what_a_fresh_list_does_not_name_is_accepted(
    certificates: Certificates, tmp_path: Path
) -> None:
    authority = Authority.of(certificates.ca)
    below = authority.below()
    leaf = below.leaf()
    crl_file = tmp_path / "crl.pem"
    for crl_check, lists in (
        ("leaf", [below.revoking(serial_of(leaf) + 1, until=NOW + DAY)]),
        ("chain", [below.revoking(until=NOW + DAY), authority.revoking(until=NOW + DAY)]),
    ):
        crl_file.write_bytes(b"".join(lists))
        outcome, _ = await send_to(
            context_of(leaf), certificates, crl_file=crl_file, crl_check=crl_check
        )
        assert isinstance(outcome, Replied)


@pytest.mark.guards("T-48")
async def test_a_revoked_authority_is_found_where_the_whole_chain_is_checked(
    certificates: Certificates, tmp_path: Path
) -> None:
    authority = Authority.of(certificates.ca)
    below = authority.below()
    crl_file = tmp_path / "crl.pem"
    revoked = authority.revoking(below.certificate.serial_number, until=NOW + DAY)
    crl_file.write_bytes(below.revoking(until=NOW + DAY) + revoked)
    outcome, received = await send_to(
        context_of(below.leaf()), certificates, crl_file=crl_file, crl_check="chain"
    )
    assert (outcome, received) == (NotSent(Phase.TLS, Failure.TLS_ERROR), b"")


@pytest.mark.guards("T-48")
async def test_a_newer_list_counts_without_a_restart(
    certificates: Certificates, tmp_path: Path
) -> None:
    authority = Authority.of(certificates.ca)
    leaf = authority.leaf()
    crl_file = tmp_path / "crl.pem"
    crl_file.write_bytes(authority.revoking(until=NOW - DAY))
    async with serving(repeating(OK), context_of(leaf)) as server:
        route = route_to(server.port, certificates, crl_file=crl_file)
        context = context_of_route(route)
        upstream = Upstream(route, Observer(), context=context, lookup=at("127.0.0.1"))
        assert isinstance(await upstream.send("GET", "/", "", [], b""), NotSent)
        crl_file.write_bytes(authority.revoking(until=NOW + DAY))
        load_crl(context, crl_file)
        assert isinstance(await upstream.send("GET", "/", "", [], b""), Replied)
        crl_file.write_bytes(authority.revoking(serial_of(leaf), until=NOW + 2 * DAY))
        load_crl(context, crl_file)
        assert isinstance(await upstream.send("GET", "/", "", [], b""), NotSent)
        await upstream.close()


@pytest.mark.guards("T-48")
async def test_a_list_brings_no_authority_along(certificates: Certificates, tmp_path: Path) -> None:
    other = trustme.CA()
    crl_file = tmp_path / "crl.pem"
    revoking = Authority.of(other).revoking(until=NOW + DAY)
    crl_file.write_bytes(revoking + other.cert_pem.bytes())
    with pytest.raises(StartRefused):
        await send_to(context_of(other.issue_cert(NAME)), certificates, crl_file=crl_file)


def test_a_list_that_is_too_long_is_not_half_of_one(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crl_file = tmp_path / "crl.pem"
    crl = Authority.of(certificates.ca).revoking(until=NOW + DAY)
    crl_file.write_bytes(crl + crl)
    monkeypatch.setattr(upstream_tls, "CRL_BYTES_MAX", len(crl))
    with pytest.raises(StartRefused):
        tls_context(ca_file=certificates.ca_file, crl_file=crl_file, client_certificate=None)


# --- pins ---------------------------------------------------------------------------------


@pytest.mark.guards("T-48")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_any_certificate_of_the_chain_may_be_the_pinned_one(
    certificates: Certificates, version: ssl.TLSVersion
) -> None:
    authority = Authority.of(certificates.ca)
    below = authority.below()
    leaf = below.leaf()
    context = context_of(leaf)
    context.minimum_version = context.maximum_version = version
    for pinned in (
        der_of(leaf),
        below.certificate.public_bytes(Encoding.DER),
        authority.certificate.public_bytes(Encoding.DER),
    ):
        pins = (bytes(32), spki_pin(pinned))
        outcome, _ = await send_to(context, certificates, spki_pins=pins)
        assert isinstance(outcome, Replied)


@pytest.mark.guards("T-48")
async def test_a_certificate_that_is_only_sent_along_matches_no_pin(
    certificates: Certificates,
) -> None:
    """What counts is the chain that was verified: anybody may send any certificate."""
    leaf = Authority.of(certificates.ca).leaf()
    pinned = Authority.of(trustme.CA()).leaf()
    leaf.cert_chain_pems.append(pinned.cert_chain_pems[0])
    outcome, received = await send_to(
        context_of(leaf), certificates, spki_pins=(spki_pin(der_of(pinned)),)
    )
    assert (outcome, received) == (NotSent(Phase.TLS, Failure.TLS_ERROR), b"")


@pytest.mark.guards("T-48")
async def test_a_pinned_key_does_not_stand_for_a_name(certificates: Certificates) -> None:
    leaf = certificates.ca.issue_cert("other.test")
    outcome, received = await send_to(
        context_of(leaf), certificates, spki_pins=(spki_pin(der_of(leaf)),)
    )
    assert (outcome, received) == (NotSent(Phase.TLS, Failure.TLS_ERROR), b"")


@pytest.mark.guards("T-48")
async def test_a_chain_that_cannot_be_read_matches_no_pin(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_such_method(_: object) -> list[bytes]:
        raise AttributeError

    leaf = Authority.of(certificates.ca).leaf()
    monkeypatch.setattr(upstream_tls, "_verified_chain", no_such_method)
    outcome, received = await send_to(
        context_of(leaf), certificates, spki_pins=(spki_pin(der_of(leaf)),)
    )
    assert (outcome, received) == (NotSent(Phase.TLS, Failure.TLS_ERROR), b"")


@pytest.mark.guards("T-48")
def test_pins_hold_on_uvloop_too(certificates: Certificates) -> None:
    """The loop that the gateway runs on has a TLS of its own."""
    leaf = Authority.of(certificates.ca).leaf()

    async def both() -> tuple[Outcome, bytes, Outcome]:
        bad, received = await send_to(context_of(leaf), certificates, spki_pins=(bytes(32),))
        good, _ = await send_to(context_of(leaf), certificates, spki_pins=(spki_pin(der_of(leaf)),))
        return bad, received, good

    bad, received, good = uvloop.run(both())
    assert (bad, received) == (NotSent(Phase.TLS, Failure.TLS_ERROR), b"")
    assert isinstance(good, Replied)


def test_a_pin_is_read_as_it_is_usually_written(certificates: Certificates) -> None:
    """As `openssl x509 -pubkey | openssl pkey -pubin -outform der | openssl dgst` says it."""
    authority = Authority.of(certificates.ca)
    key = authority.certificate.public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    said = hashlib.sha256(spki).digest()
    pin = spki_pin(authority.certificate.public_bytes(Encoding.DER))
    assert pin == said
    text = base64.b64encode(said).decode()
    assert read_pin(text) == read_pin(f"sha256/{text}") == pin
    for bad in ("", "sha256/", text[:-4], text + "AAAA", said.hex(), "sha1/" + text, text + "\n"):
        with pytest.raises(ValueError, match="SHA-256"):
            read_pin(bad)


# --- our own certificate ------------------------------------------------------------------


def open_files() -> set[str]:
    return {each.name for each in Path("/proc/self/fd").iterdir()}


def pem_of(ca: trustme.CA, name: str) -> tuple[str, str]:
    leaf = ca.issue_cert(name, common_name=name)
    return leaf.cert_chain_pems[0].bytes().decode(), leaf.private_key_pem.bytes().decode()


async def test_a_client_certificate_in_files_is_shown(
    certificates: Certificates, tmp_path: Path
) -> None:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    for file, text in zip((chain, key), pem_of(certificates.ca, "shop.test"), strict=True):
        file.write_text(text)
    server = wanting_certificates(certificates.ca)
    outcome, _ = await send_to(server, certificates, client_certificate=(chain, key))
    assert isinstance(outcome, Replied)


@pytest.mark.guards("T-50")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_each_tenants_certificate_goes_with_its_own_credential(
    certificates: Certificates, version: ssl.TLSVersion
) -> None:
    """Two pools of one route, at the same time, with connections that are used again."""
    pairs: list[tuple[str, str]] = []

    async def script(connection: Connection) -> None:
        while True:
            request = await connection.request()
            line = next(x for x in request.split(b"\r\n") if x.startswith(b"Authorization: "))
            tls = connection._writer.get_extra_info("ssl_object")
            (((_, shown),),) = [x for x in tls.getpeercert()["subject"] if x[0][0] == "commonName"]
            pairs.append((shown, line.decode().removeprefix("Authorization: Bearer ")))
            await connection.say(reply(b"ok"))

    tenants = ("one.test", "two.test")
    async with serving(script, wanting_certificates(certificates.ca, version)) as server:
        route = route_to(server.port, certificates, concurrency=4)
        upstreams = {name: of_tenant(route, certificates, name) for name in tenants}
        for number in range(100):
            name = tenants[number % 2]
            headers = [("Authorization", f"Bearer {name}")]
            outcome = await upstreams[name].send("POST", "/", "", headers, CANARY)
            assert isinstance(outcome, Replied)
        for upstream in upstreams.values():
            await upstream.close()
    assert len(pairs) == 100
    assert set(pairs) == {(name, name) for name in tenants}
    assert server.connections == 2


def of_tenant(route: UpstreamRoute, certificates: Certificates, name: str) -> Upstream:
    context = context_of_route(route, client_certificate_pem=pem_of(certificates.ca, name))
    return Upstream(route, Observer(), context=context, lookup=at("127.0.0.1"))


@pytest.mark.guards("T-35")
def test_a_key_in_memory_is_on_no_disk_and_leaves_nothing_open(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    load = ssl.SSLContext.load_cert_chain

    def recorded(self: ssl.SSLContext, chain: str, key: str, password: str) -> None:
        loaded.extend(str(Path(path).readlink()) for path in (chain, key))
        load(self, chain, key, password)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", recorded)
    before = open_files()
    pair = pem_of(certificates.ca, "shop.test")
    tls_context(
        ca_file=certificates.ca_file,
        crl_file=None,
        client_certificate=None,
        client_certificate_pem=pair,
    )
    assert len(loaded) == 2
    assert all(path.startswith("/memfd:") for path in loaded)
    assert open_files() == before


def test_a_pair_that_cannot_be_used_is_refused_without_a_word_of_it(
    certificates: Certificates,
) -> None:
    chain, key = pem_of(certificates.ca, "shop.test")
    _, another = pem_of(certificates.ca, "shop.test")
    for pair in (
        ("", ""),
        (chain, ""),
        (chain, another),
        (key, chain),
        ("canary", "canary"),
        (chain, "\ud800"),
        encrypted(certificates),
    ):
        with pytest.raises(ClientCertificateRefused) as refused:
            tls_context(
                ca_file=certificates.ca_file,
                crl_file=None,
                client_certificate=None,
                client_certificate_pem=pair,
            )
        assert str(refused.value) == ClientCertificateRefused.__doc__
        assert refused.value.__context__ is None


UNDUMPABLE = """
import ctypes, os, sys
from concurrent.futures.thread import ThreadPoolExecutor
from gateway.upstream_tls import tls_context
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
assert ctypes.CDLL(None).prctl(4, 0, 0, 0, 0) == 0
assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0
chain, key = sys.stdin.read().split("|")
def load():
    return tls_context(ca_file=None, crl_file=None, client_certificate=None,
                       client_certificate_pem=(chain, key))
load()
with ThreadPoolExecutor(1) as threads:
    threads.submit(load).result()
print("loaded")
"""


def test_a_process_that_is_not_dumpable_can_load_them(certificates: Certificates) -> None:
    """As the gateway is: then its /proc belongs to root, and only it may look into its own."""
    pair = "|".join(pem_of(certificates.ca, "shop.test"))
    done = subprocess.run(  # noqa: S603 - this interpreter
        [sys.executable, "-c", UNDUMPABLE],
        input=pair,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},  # without coverage's: it could not write its file
    )
    assert (done.stdout, done.stderr) == ("loaded\n", "")
