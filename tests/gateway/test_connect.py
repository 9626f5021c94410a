"""Who gets a tunnel, and what becomes of everybody else."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.addresses import Host
from gateway.connect import ConnectSettings, start_connect
from gateway.leaf_certificates import LeafCertificates
from tests.gateway.connect_harness import (
    LOOPBACK,
    OTHER,
    SHORT,
    STRIPE,
    USUAL,
    ConnectShell,
    basic,
    connect,
    connect_serving,
    get,
    one_answer,
)
from tests.gateway.raw_client import hang_up, headers, rest, status, until
from tests.vault.places import Place, place_of_openbao
from vault.authority import Issued
from vault.embedded.bootstrap import EmbeddedParts
from vault.errors import KeysMisconfigured, KeysSealed, StartRefused
from vault.tenant_table import ApiKeyRow

pytestmark = pytest.mark.embedded

SMUGGLED = get(b"/smuggled")


@pytest.fixture
def place(embedded: EmbeddedParts) -> Place:
    return place_of_openbao(embedded)


@pytest.fixture
async def shell(place: Place, tmp_path: Path) -> AsyncIterator[ConnectShell]:
    async with connect_serving(place, tmp_path, SHORT) as made:
        yield made


def refused(reply: bytes) -> int:
    """Whether it is one answer without a body, after which the connection is closed."""
    found = headers(reply)
    assert (reply.count(b"\r\n\r\n"), reply[-4:]) == (1, b"\r\n\r\n")
    assert (found["content-length"], found["connection"]) == ("0", "close")
    assert found["panward-request-id"]
    return status(reply)


def slow_store(
    shell: ConnectShell, monkeypatch: pytest.MonkeyPatch
) -> tuple[asyncio.Event, asyncio.Event]:
    """Let a look-up begin, and end when the test says so."""
    asked, go_on = asyncio.Event(), asyncio.Event()
    found = shell.keys.key

    async def key(key_id: str) -> ApiKeyRow | None:
        asked.set()
        await go_on.wait()
        return await found(key_id)

    monkeypatch.setattr(shell.keys, "key", key)
    return asked, go_on


# --- who calls ------------------------------------------------------------------------------


@pytest.mark.guards("T-50")
async def test_without_a_key_in_force_there_is_no_tunnel(shell: ConnectShell) -> None:
    publishable = shell.keys.made("publishable_key")
    row = shell.keys.rows[publishable.id]
    shell.keys.rows[publishable.id] = replace(row, scopes=frozenset())  # as each of them is
    revoked = shell.keys.made(revoked_at=datetime(2026, 1, 1, tzinfo=UTC)).text
    key = shell.key.text
    for field in (
        b"",
        b"Proxy-Authorization: Basic\r\n",
        b"Proxy-Authorization: Digest a=b\r\n",
        basic("user", "word"),
        basic(revoked, ""),
        basic("", key[:-1]),
        basic(key, key),  # which of the two would be anybody's guess
        b"Authorization: Bearer " + key.encode() + b"\r\n",
    ):
        reply = await shell.exchange(connect(STRIPE, field))
        assert refused(reply) == 407
        assert headers(reply)["proxy-authenticate"] == 'Basic realm="panward"'
    assert shell.count("auth_failures_total", kind="key") == 8
    assert refused(await shell.exchange(connect(STRIPE, basic(publishable.text, "")))) == 403
    assert {event["status"] for event in shell.events()} == {407, 403}
    assert shell.calls.seen == []


@pytest.mark.parametrize("form", ["user", "word", "bearer"])
async def test_a_key_counts_in_each_place_where_clients_put_it(
    shell: ConnectShell, form: str
) -> None:
    key = shell.key.text
    fields = {
        "user": basic(key, ""),
        "word": basic("x", key),
        "bearer": b"Proxy-Authorization: Bearer " + key.encode() + b"\r\n",
    }
    reader, writer = await asyncio.open_connection("127.0.0.1", shell.port)
    writer.write(connect(STRIPE, fields[form], version=b"1.0"))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 Connection established\r\n\r\n"
    await hang_up(writer)
    (event,) = shell.events()
    assert (event["status"], event["method"], event["tenant"]) == (200, "CONNECT", "t_one")
    assert event["key"] == shell.key.id
    assert key not in shell.stream.getvalue().decode()


# --- where to -------------------------------------------------------------------------------


@pytest.mark.guards("T-43")
@pytest.mark.parametrize(
    "target",
    [
        *("evil.example:443", "api.stripe.com:444", "api.stripe.com:80", "127.0.0.1:443"),
        *("127.0.0.1:22", "[::1]:8443", "169.254.169.254:80", "localhost:8443", "127.1:8443"),
        *("api.stripe.com.evil.example:443", "api.stripe.com.:443", "2130706433:8443"),
    ],
)
async def test_no_place_but_a_route_s_own(shell: ConnectShell, target: str) -> None:
    host, _, port = target.rpartition(":")
    reply = await shell.exchange(connect(Host(host, int(port)), shell.authorization))
    assert refused(reply) == 403
    assert [event["code"] for event in shell.events()] == ["not_permitted"]


async def test_nor_one_for_which_the_key_has_no_scope(shell: ConnectShell) -> None:
    assert refused(await shell.exchange(connect(OTHER, shell.authorization))) == 403


async def test_an_address_that_is_a_route_s_own_has_a_certificate_too(
    shell: ConnectShell,
) -> None:
    reader, writer = await shell.tunnel(LOOPBACK)
    writer.write(get(b"/v1/x", b"127.0.0.1:8443"))
    assert (await one_answer(reader))[0] == 200
    await hang_up(writer)


# --- how it is written ----------------------------------------------------------------------


@pytest.mark.guards("T-01")
@pytest.mark.parametrize(
    ("field", "code"),
    [
        (b"Transfer-Encoding: chunked\r\n", 400),
        (b"Content-Length: 40\r\n", 400),
        (b"Host: evil.example\r\n", 400),
        (b"Upgrade: h2c\r\n", 400),
        (b"Expect: 100-continue\r\n", 400),
        (b"X-A: b\r\n folded\r\n", 400),
        (b"X-A: b\n\r\n", 400),
    ],
)
@pytest.mark.parametrize("tail", [b"", SMUGGLED], ids=["alone", "followed"])
async def test_a_head_that_can_be_read_in_two_ways_opens_nothing(
    shell: ConnectShell, field: bytes, code: int, tail: bytes
) -> None:
    reply = await shell.exchange(connect(STRIPE, shell.authorization, field) + tail)
    assert refused(reply) == code
    assert shell.calls.seen == []
    assert [event["code"] for event in shell.events()] == ["malformed_request"]


@pytest.mark.guards("T-01")
@pytest.mark.parametrize("pause", ["", "a moment"])
async def test_what_is_sent_before_the_answer_is_for_nobody(
    shell: ConnectShell, pause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go_on = slow_store(shell, monkeypatch)
    reader, writer = await asyncio.open_connection("127.0.0.1", shell.port)
    writer.write(connect(STRIPE, shell.authorization) + (b"" if pause else SMUGGLED))
    if pause:
        await asked.wait()
        writer.write(SMUGGLED)
        await until(lambda: all(e._has_surplus for e in shell.listener._tunnels._entrances))
    go_on.set()
    assert refused(await rest(reader)) == 400
    assert shell.calls.seen == []
    await hang_up(writer)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"GET http://api.stripe.com/ HTTP/1.1\r\nHost: api.stripe.com\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 405),
        (b"CONNECT api.stripe.com:443 HTTP/2.0\r\n\r\n", 505),
        (b"CONNECT u@api.stripe.com:443 HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # TLS, where plain is spoken
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\n" + b"X-A: " + b"a" * 20_000, 400),
        (b"CONNECT a:1 HTTP/1.1\r\n" + b"X-A: a\r\n" * 3_000 + b"\r\n", 400),
    ],
    ids=["forward", "own", "h2", "userinfo", "tls", "preface", "empty", "huge", "many"],
)
async def test_nothing_but_connect_is_spoken(shell: ConnectShell, sent: bytes, code: int) -> None:
    reply = await shell.exchange(sent)
    assert refused(reply) == code
    assert ("allow" in headers(reply)) is (code == 405)
    await until(lambda: shell.seats_taken == 0)


@pytest.mark.guards("T-08")
async def test_a_slow_head_has_its_time(shell: ConnectShell) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", shell.port)
    silent_reader, silent = await asyncio.open_connection("127.0.0.1", shell.port)
    for byte in b"CONNECT":
        writer.write(bytes([byte]))
        await asyncio.sleep(0.01)
    assert refused(await rest(reader)) == 408
    assert refused(await rest(silent_reader)) == 408
    assert {event["code"] for event in shell.events()} == {"request_timeout"}
    await hang_up(writer)
    await hang_up(silent)
    await until(lambda: shell.seats_taken == 0)


@pytest.mark.guards("T-08")
async def test_a_client_that_never_begins_tls_has_its_time_too(shell: ConnectShell) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", shell.port)
    writer.write(connect(STRIPE, shell.authorization))
    assert (await rest(reader)).startswith(b"HTTP/1.1 200 ")
    labels = {"class": "connection", "reason": "handshake"}
    assert shell.count("requests_shed_total", **labels) == 1
    assert shell.seats_taken == 0
    await hang_up(writer)


async def test_plain_http_in_the_tunnel_is_not_served(shell: ConnectShell) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", shell.port)
    writer.write(connect(STRIPE, shell.authorization))
    await reader.readuntil(b"\r\n\r\n")
    writer.write(get())
    assert b"HTTP/" not in await rest(reader)
    assert shell.calls.seen == []
    await hang_up(writer)


async def test_a_client_that_leaves_gives_its_seat_back(
    shell: ConnectShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go_on = slow_store(shell, monkeypatch)
    _, writer = await asyncio.open_connection("127.0.0.1", shell.port)
    writer.write(connect(STRIPE, shell.authorization))
    await asked.wait()
    await hang_up(writer)
    await until(lambda: shell.seats_taken == 0)
    go_on.set()
    await until(shell.events)
    assert shell.calls.seen == []
    for sent in (b"", b"CONN", connect(STRIPE, shell.authorization)):
        _, writer = await asyncio.open_connection("127.0.0.1", shell.port)
        writer.write(sent)
        await hang_up(writer)
    await until(lambda: shell.seats_taken == 0)


@pytest.mark.guards("T-08")
async def test_a_full_house_refuses_at_once(place: Place, tmp_path: Path) -> None:
    async with connect_serving(place, tmp_path, replace(USUAL, connections_max=1)) as shell:
        _, writer = await shell.tunnel()
        assert status(await shell.exchange(connect(STRIPE, shell.authorization))) == 503
        await hang_up(writer)


# --- when the key service or the store is away ----------------------------------------------


async def test_without_a_certificate_the_answer_is_503_before_any_tls(
    shell: ConnectShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sealed(_host: str, _csr: bytes) -> Issued:
        raise KeysSealed

    monkeypatch.setattr(shell.leaves._authority, "sign", sealed)
    reply = await shell.exchange(connect(STRIPE, shell.authorization))
    assert refused(reply) == 503
    assert headers(reply)["retry-after"] == "2"
    assert [event["code"] for event in shell.events()] == ["vault_sealed"]


async def test_without_the_store_nobody_is_let_in(shell: ConnectShell) -> None:
    shell.keys.away = True
    assert refused(await shell.exchange(connect(STRIPE, shell.authorization))) == 503


async def test_a_mistake_of_ours_says_nothing(
    shell: ConnectShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_host: str) -> ssl.SSLContext:
        raise ValueError(shell.key.text)

    monkeypatch.setattr(shell.leaves, "context_for", broken)
    reply = await shell.exchange(connect(STRIPE, shell.authorization))
    assert refused(reply) == 500
    assert shell.key.text.encode() not in reply + shell.stream.getvalue()
    assert [event["error"] for event in shell.events()] == ["builtins.ValueError"]


class NoAuthority:
    """A HashiCorp Vault without a PKI engine."""

    async def sign(self, _host: str, _csr: bytes) -> Issued:
        raise KeysMisconfigured

    async def issuer(self) -> bytes:
        raise KeysMisconfigured


async def test_without_an_authority_the_start_is_refused_and_says_what_is_missing() -> None:
    leaves = LeafCertificates(NoAuthority(), now=lambda: datetime.now(UTC), monotonic=lambda: 0)
    nothing: Any = None
    with pytest.raises(StartRefused, match=r"pki-root and pki.*begin with a new folder"):
        await start_connect(
            ConnectSettings(("127.0.0.1", 0), None, USUAL),
            {},
            leaves=leaves,
            merchants=nothing,
            calls=nothing,
            log=nothing,
            metrics=nothing,
            chance=lambda: 0.5,
        )


# --- the end --------------------------------------------------------------------------------


async def test_at_the_end_what_is_under_way_inside_is_answered(
    place: Place, tmp_path: Path
) -> None:
    async with connect_serving(place, tmp_path) as shell:
        reader, writer = await shell.tunnel()
        writer.write(get(b"/wait"))
        await shell.calls.entered.wait()
        _, waiting = await asyncio.open_connection("127.0.0.1", shell.port)
        await until(lambda: shell.seats_taken == 2)
        shell.listener.stop_accepting()
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", shell.port)
        closing = asyncio.ensure_future(shell.listener.close())
        await asyncio.sleep(0)
        shell.calls.go_on.set()
        assert (await one_answer(reader))[0] == 200
        await closing
        await until(lambda: shell.seats_taken == 0)
        await hang_up(waiting)
        await hang_up(writer)
