"""Inside a tunnel: the same HTTP as everywhere, held to the host that CONNECT named."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.connections import Seats
from gateway.known_keys import CACHE_SECONDS
from tests.gateway.connect_harness import (
    SHORT,
    STRIPE,
    ConnectShell,
    connect_serving,
    get,
    one_answer,
    post,
)
from tests.gateway.framing_vectors import CHUNKED, chunked
from tests.gateway.raw_client import hang_up, rest, status, until
from tests.vault.places import place_of_openbao
from vault.embedded.bootstrap import EmbeddedParts

pytestmark = pytest.mark.embedded


@pytest.fixture
async def shell(embedded: EmbeddedParts, tmp_path: Path) -> AsyncIterator[ConnectShell]:
    async with connect_serving(place_of_openbao(embedded), tmp_path) as made:
        yield made


def inside(shell: ConnectShell) -> list[dict[str, object]]:
    return [event for event in shell.events() if event["method"] != "CONNECT"]


async def test_many_requests_share_a_tunnel_and_each_is_told_once(shell: ConnectShell) -> None:
    reader, writer = await shell.tunnel()
    for size in (1, 70_000, 1_000_000):
        writer.write(post(b"a" * size))
        code, body = await one_answer(reader)
        assert (code, json.loads(body)) == (200, {"route": "stripe", "bytes": size})
    await hang_up(writer)
    assert [event["listener"] for event in shell.events()] == ["connect"] * 4
    assert [event["status"] for event in inside(shell)] == [200, 200, 200]
    labels = {"listener": "connect", "route": "/{path}", "code": "200", "fault": "none"}
    assert shell.count("http_requests_total", **labels) == 3
    labels["route"] = "CONNECT"
    assert shell.count("http_requests_total", **labels) == 1


@pytest.mark.guards("T-50")
async def test_a_key_that_was_revoked_ends_with_its_next_request(shell: ConnectShell) -> None:
    reader, writer = await shell.tunnel()
    writer.write(get())
    assert (await one_answer(reader))[0] == 200
    row = shell.keys.rows[shell.key.id]
    shell.keys.rows[shell.key.id] = replace(row, revoked_at=datetime(2026, 1, 1, tzinfo=UTC))
    shell.clock.seconds += CACHE_SECONDS
    writer.write(get())
    assert (await one_answer(reader))[0] == 401
    assert len(shell.calls.seen) == 1
    await hang_up(writer)


@pytest.mark.guards("T-04")
@pytest.mark.parametrize(
    "host",
    [
        *(b"evil.example", b"checkout-test.adyen.com", b"api.stripe.com:444", b"127.0.0.1"),
        *(b"api.stripe.com.", b"xapi.stripe.com", b"user@api.stripe.com", b""),
    ],
)
async def test_a_request_for_another_host_than_the_tunnel_s_is_misdirected(
    shell: ConnectShell, host: bytes
) -> None:
    reader, writer = await shell.tunnel()
    writer.write(get(b"/v1/a", host) + get(b"/v1/b"))
    reply = await rest(reader)
    assert (status(reply), reply.count(b"HTTP/1.1 ")) == (421, 1)
    assert shell.calls.seen == []
    assert [event["code"] for event in inside(shell)] == ["misdirected_request"]
    await hang_up(writer)


@pytest.mark.guards("T-04")
@pytest.mark.parametrize("name", ["checkout-test.adyen.com", "127.0.0.1", "Evil.Example"])
async def test_so_is_one_whose_tls_asked_for_another(shell: ConnectShell, name: str) -> None:
    careless = shell.trusting()
    careless.check_hostname = False
    reader, writer = await shell.tunnel(name=name, context=careless)
    writer.write(get())
    assert status(await rest(reader)) == 421
    assert shell.calls.seen == []
    await hang_up(writer)


@pytest.mark.guards("T-04")
@pytest.mark.parametrize(
    "head",
    [
        b"GET https://api.stripe.com/v1/a HTTP/1.1\r\nHost: api.stripe.com\r\n\r\n",
        b"GET /v1/a HTTP/1.1\r\nHost: api.stripe.com\r\nHost: api.stripe.com\r\n\r\n",
        b"GET /v1/a HTTP/1.1\r\nHost: api.stripe.com\r\nUpgrade: h2c\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: api.stripe.com\r\n\r\n",
        post(b"0\r\n\r\n", b"Transfer-Encoding: chunked\r\n"),
        b"GET /v1/a HTTP/1.1\r\n\r\n",
    ],
    ids=["absolute", "two hosts", "upgrade", "connect", "te and cl", "no host"],
)
async def test_the_gate_is_the_one_of_every_listener(shell: ConnectShell, head: bytes) -> None:
    reader, writer = await shell.tunnel()
    writer.write(head + get(b"/smuggled"))
    reply = await rest(reader)
    assert status(reply) in {400, 421}
    assert reply.count(b"HTTP/1.1 ") == 1
    assert shell.calls.seen == []
    await hang_up(writer)


@pytest.mark.guards("T-05")
async def test_paths_are_the_processor_s_and_pass_as_they_are(shell: ConnectShell) -> None:
    reader, writer = await shell.tunnel()
    paths = [b"/", b"//a/../b;x=1", b"/v1/%2e%2e/a%2Fb?c=%00&d=/", b"/out/stripe/v1/charges"]
    for path in paths:
        writer.write(get(path))
        assert (await one_answer(reader))[0] == 200
    await hang_up(writer)
    assert [seen[2].encode() for seen in shell.calls.seen] == paths


async def test_a_chunked_body_arrives_whole(shell: ConnectShell) -> None:
    reader, writer = await shell.tunnel()
    head = b"POST /v1/files HTTP/1.1\r\nHost: api.stripe.com\r\n" + CHUNKED + b"\r\n"
    writer.write(head + chunked(b"a" * 1000))
    assert (await one_answer(reader))[0] == 200
    assert shell.calls.seen[0][3] == b"a" * 1000
    await hang_up(writer)


async def test_a_request_in_the_same_packet_as_the_end_of_the_handshake_is_served(
    shell: ConnectShell,
) -> None:
    """It reaches the handler before the handler is told of its connection."""
    for _ in range(5):
        reader, writer = await shell.tunnel()
        writer.write(get())
        assert (await one_answer(reader))[0] == 200
        await hang_up(writer)


async def test_a_client_that_hangs_up_stops_nothing_and_leaves_its_seat(
    shell: ConnectShell,
) -> None:
    _, writer = await shell.tunnel()
    writer.write(get(b"/wait"))
    await shell.calls.entered.wait()
    await hang_up(writer)
    await until(lambda: shell.seats_taken == 0)
    shell.calls.go_on.set()
    await until(lambda: shell.calls.seen)
    for _ in range(3):
        _, writer = await shell.tunnel()
        await hang_up(writer)
    await until(lambda: shell.seats_taken == 0)
    assert {line["event"] for line in shell.lines()} == {"request"}


async def test_a_tunnel_that_is_gone_before_it_is_made_is_not_made(shell: ConnectShell) -> None:
    seats = Seats(1, None)
    handler = shell.listener._insides.handler(seats.take("a"))
    handler.connection_lost(None)
    assert handler.is_gone
    assert seats.taken == 0


@pytest.mark.guards("T-17")
async def test_tls_is_as_on_every_listener(shell: ConnectShell) -> None:
    client = shell.trusting()
    client.set_alpn_protocols(["h2", "http/1.1"])
    _, writer = await shell.tunnel(context=client)
    channel = writer.get_extra_info("ssl_object")
    assert channel.selected_alpn_protocol() == "http/1.1"
    await hang_up(writer)
    old = shell.trusting()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.set_ciphers("ECDHE+AES:!AESGCM:!AESCCM")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await shell.tunnel(context=old)


async def test_an_idle_tunnel_is_closed(embedded: EmbeddedParts, tmp_path: Path) -> None:
    async with connect_serving(place_of_openbao(embedded), tmp_path, SHORT) as shell:
        reader, writer = await shell.tunnel(STRIPE)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        await hang_up(writer)
