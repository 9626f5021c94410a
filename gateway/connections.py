"""Who is let in: connections are counted as they are accepted, before TLS and before HTTP.

A full house refuses at once, so that a flood costs neither handshakes nor descriptors. What
lives here knows no HTTP beyond one fixed refusal.
"""

import asyncio
import contextlib
import errno
import functools
import resource
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.metrics import Metrics
from vault.errors import StartRefused

BACKLOG: Final = 512
ACCEPTS_AT_ONCE: Final = 64  # then others have their turn on the event loop
LISTENERS: Final = 6  # public, private, ops, connect, inbound, and one of a route's own
CONNECTIONS_MAX: Final = 4096
FILES_RESERVED: Final = 128
"""Descriptors that connections never take: processors, Vault, PostgreSQL, logs."""
PAUSE_SECONDS: Final = 1.0
SETTLE_SECONDS: Final = 2.0

LINE_BYTES_MAX: Final = 4096
FIELD_BYTES_MAX: Final = 4096
HEADERS_MAX: Final = 64

FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n"
    b"Retry-After: 2\r\nConnection: close\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one listener bears; the times are also how long a caller may take."""

    keepalive_seconds: float = 10.0
    """Also the deadline for a request's head. Behind a proxy: longer than the proxy's own."""
    shutdown_seconds: float = 85.0
    """At least the longest preset's total and ten seconds."""
    connections_max: int = CONNECTIONS_MAX
    connections_per_address_max: int | None = None
    handshake_seconds: float = 10.0
    lingering_seconds: float = 2.0
    """How long the rest of a refused body is read, so that the refusal is."""
    write_seconds: float = 10.0
    line_bytes_max: int = LINE_BYTES_MAX
    field_bytes_max: int = FIELD_BYTES_MAX
    headers_max: int = HEADERS_MAX


def connections_for(files_max: int) -> int:
    """How many connections one of several listeners may hold, out of so many file descriptors."""
    return max(1, min(CONNECTIONS_MAX, (files_max // 2 - FILES_RESERVED) // LISTENERS))


class Seats:
    """How many connections are open, in all and from one place."""

    def __init__(self, seats_max: int, per_address_max: int | None) -> None:
        self._seats_max = seats_max
        self._per_address_max = per_address_max
        self._by_address: Counter[str] = Counter()
        self.taken = 0

    def refusal(self, address: str) -> str | None:
        """Why there is no seat, in a word, or None."""
        if self.taken >= self._seats_max:
            return "connections"
        if self._per_address_max is not None and self._by_address[address] >= self._per_address_max:
            return "address"
        return None

    def take(self, address: str) -> "Seat":
        self.taken += 1
        self._by_address[address] += 1
        return Seat(self, address)

    def free(self, address: str) -> None:
        self.taken -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]


class Seat:
    """One connection's place, given back once."""

    __slots__ = ("_address", "_seats")

    def __init__(self, seats: Seats, address: str) -> None:
        self._seats: Seats | None = seats
        self._address = address

    def leave(self) -> None:
        seats, self._seats = self._seats, None
        if seats is not None:
            seats.free(self._address)


def whose(address: str) -> str:
    """Name the party behind an address: with IPv6 one party has a /64 at least (RFC 6177)."""
    if ":" not in address or "." in address:
        return address
    return socket.inet_pton(socket.AF_INET6, address.partition("%")[0])[:8].hex()


class Door:
    """Accepts connections while there are seats, and has TLS done before anything else."""

    def __init__(
        self,
        listening: socket.socket,
        welcome: Callable[[Seat], asyncio.Protocol],
        context: ssl.SSLContext | None,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        files_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._listening = listening
        self._welcome = welcome
        self._context = context
        self._limits = limits
        self._metrics = metrics
        self._seats = Seats(
            min(limits.connections_max, connections_for(files_max)),
            limits.connections_per_address_max,
        )
        self._loop = asyncio.get_running_loop()
        self._arriving: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None

    def open(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening.fileno(), self._accept)

    def close(self) -> None:
        """Take those who already wait, then nobody."""
        if self._pause is None:
            self._accept()
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listening.fileno())
        self._listening.close()

    async def settle(self) -> None:
        """Let those who are being let in come in, or turn them away."""
        if self._arriving:
            await asyncio.wait(self._arriving, timeout=SETTLE_SECONDS)
        for task in self._arriving:
            task.cancel()
        if self._arriving:
            await asyncio.wait(self._arriving)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                connection, peer = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError:  # no descriptors, no memory: accepting at once would spin
                self._metrics.connection_shed("accept")
                self._loop.remove_reader(self._listening.fileno())
                self._pause = self._loop.call_later(PAUSE_SECONDS, self.open)
                return
            self._admit(connection, whose(peer[0]))

    def _admit(self, connection: socket.socket, address: str) -> None:
        connection.settimeout(0)
        reason = self._seats.refusal(address)
        if reason is not None:
            self._metrics.connection_shed(reason)
            _send_away(connection, told=self._context is None)
            return
        # A caller that reads nothing, not even to be told so, is cut off by the kernel.
        wait_ms = int(self._limits.write_seconds * 1000)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, wait_ms)
        task = self._loop.create_task(self._serve(connection, self._seats.take(address)))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    async def _serve(self, connection: socket.socket, seat: Seat) -> None:
        secured = self._context is not None
        try:
            await self._loop.connect_accepted_socket(
                functools.partial(self._welcome, seat),
                connection,
                ssl=self._context,
                ssl_handshake_timeout=self._limits.handshake_seconds if secured else None,
                ssl_shutdown_timeout=self._limits.write_seconds if secured else None,
            )
        except OSError:  # no TLS, bad TLS, too slow, gone: nobody to tell
            self._metrics.connection_shed("handshake")
            seat.leave()
        except BaseException:
            seat.leave()
            raise


def _send_away(connection: socket.socket, *, told: bool) -> None:
    """Refuse at no cost; under TLS, an answer would cost the handshake that we refuse."""
    with connection, contextlib.suppress(OSError):
        if told:
            connection.send(FULL)
            connection.recv(4096)  # unread bytes would turn the close into a reset


def listen(address: tuple[str, int], *, reuse_port: bool = False) -> socket.socket:
    """Open a listening socket; raises StartRefused."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        listening = socket.create_server(
            address, family=family, backlog=BACKLOG, reuse_port=reuse_port
        )
    except OSError as error:
        number = error.errno
    else:
        listening.settimeout(0)
        return listening
    reason = errno.errorcode.get(number or 0, "unknown")
    raise StartRefused(f"cannot listen on {address[0]} port {address[1]}: {reason}")
