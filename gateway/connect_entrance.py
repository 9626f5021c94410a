"""One connection to the CONNECT listener, until it is a tunnel or is turned away.

Bytes and deadlines only: a whole head, nothing behind it before it is answered, and an answer
that the client has the time to read. What a head says is `connect_head`'s business, whether it
is granted that of `connect`.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from gateway.connect_head import END, HEAD_BYTES_MAX
from gateway.connections import Limits, Seat
from gateway.errors import Malformed


class Reception(Protocol):
    """Who decides what becomes of a head."""

    limits: Limits

    def entered(self, entrance: "Entrance") -> None: ...
    def left(self, entrance: "Entrance") -> None: ...
    def read(self, entrance: "Entrance", head: bytes | None) -> None: ...


class Entrance(asyncio.Protocol):
    """One connection, from its first byte to the end of its CONNECT."""

    def __init__(self, tunnels: Reception, seat: Seat) -> None:
        self._tunnels = tunnels
        self._head = bytearray()
        self._is_read = False
        self._timer: asyncio.TimerHandle | None = None
        self.seat = seat
        self.transport: asyncio.Transport | None = None
        self.is_over = False
        """Answered, handed over or gone."""
        self._has_surplus = False

    @property
    def address(self) -> str | None:
        """Whose connection it is."""
        peer = None if self.transport is None else self.transport.get_extra_info("peername")
        return str(peer[0]) if isinstance(peer, tuple) else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self._tunnels.entered(self)
        self._wait(self._tunnels.limits.keepalive_seconds, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - how it went
        self.is_over = True
        self._end_wait()
        self._tunnels.left(self)
        self.seat.leave()

    def data_received(self, data: bytes) -> None:
        if self.is_over:
            return  # answered: what still comes is not read
        if self._is_read:
            self._has_surplus = True
            return
        self._head += data
        end = self._head.find(END)
        if end < 0 and len(self._head) <= HEAD_BYTES_MAX and self._head[:1].isupper():
            return
        self._is_read = True
        self._end_wait()
        whole = end >= 0 and len(self._head) == end + len(END)
        self._tunnels.read(self, bytes(self._head) if whole else b"")

    def _too_slow(self) -> None:
        self._is_read = True
        self._tunnels.read(self, None)

    def refuse_surplus(self) -> None:
        """Raise Malformed if something followed the head: before our 200 it is for nobody.

        It could be a request that only a proxy between the client and us takes for one.
        """
        if self._has_surplus:
            raise Malformed("framing")

    def refuse(self, answer: bytes) -> None:
        """Answer, and close when the client has had the time to read it."""
        if self.is_over or self.transport is None:
            return
        self.is_over = True
        self.transport.write(answer)
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._wait(self._tunnels.limits.lingering_seconds, self.transport.close)
        else:
            self.transport.close()

    def hand_over(self) -> asyncio.Transport:
        """Give the connection away: what comes from now on is for another protocol."""
        assert self.transport is not None
        self.is_over = True
        self._end_wait()
        self._tunnels.left(self)
        return self.transport

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, then)

    def _end_wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
