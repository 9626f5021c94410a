"""TLS of the listeners: which versions, ciphers and protocols, and on which event loops."""

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme
import uvloop

from gateway.connections import Limits
from gateway.listeners import server_context
from tests.gateway.raw_client import get, hang_up, post, rest, serving, status
from vault.errors import StartRefused

CLOSE = b"Connection: close\r\n"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def context(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    folder = tmp_path_factory.mktemp("tls")
    leaf = authority.issue_cert("localhost")
    leaf.private_key_pem.write_to_path(str(folder / "key.pem"))
    (folder / "chain.pem").write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    return server_context(folder / "chain.pem", folder / "key.pem")


@pytest.fixture
def client(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.mark.guards("T-17")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_is_new_and_authenticated(
    context: ssl.SSLContext, client: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    client.minimum_version = client.maximum_version = version
    client.set_alpn_protocols(["h2", "http/1.1"])
    async with serving(context=context) as shell:
        reader, writer = await shell.connect(client)
        channel = writer.get_extra_info("ssl_object")
        assert channel.selected_alpn_protocol() == "http/1.1"
        assert any(mode in channel.cipher()[0] for mode in ("GCM", "CHACHA20"))
        writer.write(get(b"/marker", CLOSE))
        assert status(await rest(reader)) == 200
        await hang_up(writer)


@pytest.mark.guards("T-17")
async def test_tls_without_authenticated_encryption_is_refused(
    context: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("ECDHE+AES:!AESGCM:!AESCCM")
    async with serving(context=context) as shell:
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await shell.connect(client)
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2


async def test_a_plain_caller_of_a_tls_port_gets_nothing(context: ssl.SSLContext) -> None:
    async with serving(context=context) as shell:
        reply = await shell.exchange(get(b"/marker"))
        assert not reply.startswith(b"HTTP")
        assert shell.seen == []


def test_a_key_that_does_not_fit_stops_the_start(authority: trustme.CA, tmp_path: Path) -> None:
    one, other = authority.issue_cert("localhost"), authority.issue_cert("localhost")
    one.cert_chain_pems[0].write_to_path(str(tmp_path / "chain.pem"))
    other.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    with pytest.raises(StartRefused) as refused:
        server_context(tmp_path / "chain.pem", tmp_path / "key.pem")
    assert refused.value.__context__ is None
    with pytest.raises(StartRefused):
        server_context(tmp_path / "none.pem", tmp_path / "none.pem")


async def test_all_of_this_holds_on_uvloop_too(
    context: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    async def story() -> None:
        limits = Limits(keepalive_seconds=0.5, shutdown_seconds=1, connections_per_address_max=1)
        async with serving(limits, context=context) as shell:
            reader, writer = await shell.connect(client)
            with pytest.raises((ConnectionError, ssl.SSLError)):
                await shell.connect(client)
            writer.write(post(b"{}"))
            assert status(await rest(reader)) == 200  # and then closed, being idle
            await hang_up(writer)
            assert [path for _, path, _ in shell.seen] == ["/v1/tokens"]

    def on_uvloop() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(story())

    await asyncio.to_thread(on_uvloop)
