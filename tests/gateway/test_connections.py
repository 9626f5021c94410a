"""Who is let in, and what a full house does."""

import asyncio
import os
import resource
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
import trustme

from gateway import connections
from gateway.connections import Limits, Seats, connections_for, listen, whose
from gateway.listeners import server_context
from tests.gateway.raw_client import Shell, get, hang_up, rest, serving, status, until
from vault.errors import StartRefused

CLOSE = b"Connection: close\r\n"


async def answered(shell: Shell) -> bool:
    return status(await shell.exchange(get(b"/marker", CLOSE))) == 200


@pytest.mark.guards("T-08")
async def test_one_address_gets_so_many_connections_and_no_more() -> None:
    limits = Limits(keepalive_seconds=5, connections_per_address_max=2)
    async with serving(limits) as shell:
        one, other = await shell.connect(), await shell.connect()
        refused = await shell.exchange(b"")
        assert status(refused) == 503
        assert b"Retry-After" in refused
        assert shell.count("requests_shed_total", **{"class": "connection", "reason": "address"})
        await hang_up(one[1])
        await hang_up(other[1])
        await until(lambda: not shell.seats_taken)
        assert await answered(shell)


@pytest.mark.guards("T-08")
async def test_all_together_get_so_many_connections_and_no_more() -> None:
    async with serving(Limits(keepalive_seconds=5, connections_max=1)) as shell:
        _, writer = await shell.connect()
        assert status(await shell.exchange(b"")) == 503
        labels = {"class": "connection", "reason": "connections"}
        assert shell.count("requests_shed_total", **labels) == 1
        await hang_up(writer)
        await until(lambda: not shell.seats_taken)
        assert await answered(shell)


async def test_a_seat_is_given_back_once() -> None:
    seats = Seats(2, 2)
    one, other = seats.take("a"), seats.take("a")
    assert (seats.refusal("a"), seats.refusal("b")) == ("connections", "connections")
    one.leave()
    one.leave()
    assert (seats.refusal("a"), seats.taken) == (None, 1)
    other.leave()
    assert seats.taken == 0


def test_the_caps_leave_descriptors_for_the_rest_of_the_process() -> None:
    assert connections_for(1 << 20) == 4096
    for files_max in (64, 256, 1024, 4096, 20_000):
        assert 1 <= connections_for(files_max) <= max(1, files_max // 2 - 128)


def test_a_party_is_an_address_or_a_network_of_version_6() -> None:
    assert whose("192.0.2.1") == "192.0.2.1"
    assert whose("2001:db8:1:2:3::1") == whose("2001:db8:1:2::9")
    assert whose("2001:db8:1:2::9") != whose("2001:db8:1:3::9")
    assert whose("fe80::1%eth0") == whose("fe80::2")
    assert whose("::ffff:192.0.2.1") != whose("::ffff:192.0.2.2")


async def test_a_crowd_is_let_in_by_turns() -> None:
    async with serving(Limits(connections_max=4096)) as shell:
        crowd = [socket.create_connection(("127.0.0.1", shell.port)) for _ in range(80)]
        await until(lambda: shell.seats_taken == 80)
        for one in crowd:
            one.close()
        await until(lambda: not shell.seats_taken)


class Impatient:
    """A listening socket whose first caller has left before it was accepted."""

    def __init__(self) -> None:
        self.asked = 0

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        self.asked += 1
        raise ConnectionAbortedError if self.asked == 1 else BlockingIOError


async def test_a_caller_who_left_already_is_passed_over() -> None:
    async with serving() as shell:
        door = shell.listener._door
        door._listening, listening = cast("socket.socket", Impatient()), door._listening
        door._accept()
        assert cast("Impatient", door._listening).asked == 2
        door._listening = listening
        assert await answered(shell)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    folder: Path = tmp_path_factory.mktemp("tls")
    leaf = trustme.CA().issue_cert("localhost")
    leaf.private_key_pem.write_to_path(str(folder / "key.pem"))
    leaf.cert_chain_pems[0].write_to_path(str(folder / "chain.pem"))
    return server_context(folder / "chain.pem", folder / "key.pem")


@pytest.mark.guards("T-08")
@pytest.mark.parametrize("begun", [b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n"])
async def test_a_handshake_has_a_deadline_and_a_seat(context: ssl.SSLContext, begun: bytes) -> None:
    limits = Limits(handshake_seconds=0.3, connections_max=1, keepalive_seconds=60)
    async with serving(limits, context=context) as shell:
        reader, writer = await shell.connect()
        writer.write(begun)
        assert await shell.exchange(b"") == b""  # full: told nothing, for that would cost TLS
        assert not (await rest(reader)).startswith(b"HTTP")
        await until(lambda: not shell.seats_taken)
        labels = {"class": "connection", "reason": "handshake"}
        assert shell.count("requests_shed_total", **labels) == 1
        await hang_up(writer)


async def test_who_is_still_being_let_in_does_not_hold_up_the_end(
    context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SETTLE_SECONDS", 0.1)
    async with serving(Limits(), context=context) as shell:
        reader, writer = await shell.connect()
        await until(lambda: shell.seats_taken)
        await shell.listener.close()
        assert await rest(reader) == b""
        assert shell.seats_taken == 0
        await hang_up(writer)


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Let this process open nothing more, as if it had opened too much."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.dup(0)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.guards("F-37")
async def test_without_descriptors_accepting_rests_and_begins_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "PAUSE_SECONDS", 0.1)
    loop = asyncio.get_running_loop()
    async with serving() as shell:
        with socket.socket() as caller:
            caller.settimeout(0)
            with no_descriptor_left():
                await loop.sock_connect(caller, ("127.0.0.1", shell.port))
                await asyncio.sleep(0.15)  # long enough for thousands of tries
            labels = {"class": "connection", "reason": "accept"}
            assert 1 <= shell.count("requests_shed_total", **labels) <= 4
            await loop.sock_sendall(caller, get(b"/marker", CLOSE))
            assert status(await loop.sock_recv(caller, 65536)) == 200
            assert shell.count("requests_shed_total", **labels) <= 4


async def test_a_pause_does_not_outlive_the_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "PAUSE_SECONDS", 0.05)
    loop = asyncio.get_running_loop()
    async with serving() as shell:
        with socket.socket() as caller:
            caller.settimeout(0)
            with no_descriptor_left():
                await loop.sock_connect(caller, ("127.0.0.1", shell.port))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                shell.listener.stop_accepting()
            await asyncio.sleep(0.1)
        await shell.listener.close()


@pytest.mark.guards("T-08")
async def test_a_caller_who_reads_nothing_is_given_up_by_the_kernel_too() -> None:
    async with serving(Limits(write_seconds=7.0)) as shell:
        _, writer = await shell.connect()
        writer.write(get(b"/wait"))
        await shell.application.entered.wait()
        transport = shell.connections[0].transport
        assert transport is not None
        accepted = transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        shell.application.go_on.set()
        await hang_up(writer)


def test_a_port_in_use_stops_the_start() -> None:
    with listen(("127.0.0.1", 0)) as taken:
        with pytest.raises(StartRefused, match="EADDRINUSE") as refused:
            listen(taken.getsockname())
        assert refused.value.__context__ is None


def test_workers_may_share_a_port() -> None:
    with (
        listen(("127.0.0.1", 0), reuse_port=True) as one,
        listen(one.getsockname(), reuse_port=True) as other,
    ):
        assert one.getsockname() == other.getsockname()


async def test_a_listener_speaks_version_6() -> None:
    with listen(("::1", 0)) as listening:
        assert listening.family is socket.AF_INET6
