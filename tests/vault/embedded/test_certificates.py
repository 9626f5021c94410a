import asyncio
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from vault.embedded import certificates
from vault.embedded.certificates import Authority
from vault.embedded.layout import Layout

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.make_folders()
    return layout


def _contexts(server: Path, client: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Both ends verify strictly; each trusts the `ca.pem` beside the other's certificate."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(server / "server.pem", server / "server.key")
    serving.load_verify_locations(server / "ca.pem")
    serving.verify_mode = ssl.CERT_REQUIRED
    calling = ssl.create_default_context(cafile=server / "ca.pem")
    calling.load_cert_chain(client / "client.pem", client / "client.key")
    for context in (serving, calling):
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    return serving, calling


async def _greet(serving: ssl.SSLContext, calling: ssl.SSLContext, name: str) -> bytes:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=serving) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=calling, server_hostname=name
        )
        try:
            writer.write(b"hello\n")
            return await reader.readline()
        finally:
            writer.close()


@pytest.mark.parametrize("name", certificates.LOOPBACK_NAMES)
async def test_both_ends_pass_strict_verification(layout: Layout, name: str) -> None:
    certificates.keep(layout, at=datetime.now(UTC))
    run = layout.openbao_run

    assert await _greet(*_contexts(run, run), name) == b"hello\n"


async def test_a_name_that_is_not_ours_is_refused(layout: Layout) -> None:
    certificates.keep(layout, at=datetime.now(UTC))
    run = layout.openbao_run

    with pytest.raises(ssl.SSLCertVerificationError):
        await _greet(*_contexts(run, run), "example.com")


async def test_a_listener_s_certificate_opens_no_door_at_openbao(layout: Layout) -> None:
    """Two authorities: whoever gets a certificate of the public one is no client of OpenBao."""
    certificates.keep(layout, at=datetime.now(UTC))
    stranger = Authority.load(layout.tls).client("panward", at=datetime.now(UTC))
    (layout.tls / "client.pem").write_bytes(stranger.certificate)
    (layout.tls / "client.key").write_bytes(stranger.key)

    assert await _greet(*_contexts(layout.openbao_run, layout.tls), "localhost") == b""


def _serials(layout: Layout) -> Iterator[int]:
    for path in sorted(layout.folder.rglob("*.pem")):
        yield x509.load_pem_x509_certificate(path.read_bytes()).serial_number


def test_certificates_stay_until_a_month_before_their_end(layout: Layout) -> None:
    certificates.keep(layout, at=NOW)
    made = list(_serials(layout))

    certificates.keep(layout, at=NOW + timedelta(days=360))

    assert list(_serials(layout)) == made


def test_certificates_are_renewed_in_time_by_the_same_authorities(layout: Layout) -> None:
    certificates.keep(layout, at=NOW)
    authority = (layout.tls / "ca.pem").read_bytes()
    made = set(_serials(layout))

    certificates.keep(layout, at=NOW + timedelta(days=370))

    assert (layout.tls / "ca.pem").read_bytes() == authority
    assert len(made & set(_serials(layout))) == 2  # the authorities


def test_keys_are_readable_by_us_alone(layout: Layout) -> None:
    certificates.keep(layout, at=NOW)

    keys = list(layout.folder.rglob("*.key"))

    assert len(keys) == 5
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}
