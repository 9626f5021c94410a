"""Sending a vector of `framing_vectors` on some way, and what became of it.

What lives here: the ways (straight over TLS, through a reverse proxy), the reading of all that
comes back, and what the merchant's application counted. What never may: a vector.
"""

import asyncio
import re
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.inbound.framing_pen import Vector, Verdict
from tests.inbound.merchant_app import MerchantApp, Seen

QUIET_SECONDS: Final = 0.8
"""A way that says nothing for so long says nothing more: what it still holds back is waited for
by `settled`."""
LINGERING_SECONDS: Final = 5.0
"""A listener that refuses reads on for a moment, so that its refusal is read, and then hangs up."""
PATIENCE_SECONDS: Final = 20.0
AT_ONCE: Final = 24
"""Connections: a listener bears so many of one address."""

_REPLY = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r]")
_CASE = re.compile(rb"(?i)\r\nx-case: ([\w-]+)\r\n")


@dataclass(frozen=True)
class Way:
    """How a client gets to the listener."""

    name: str
    port: int
    context: ssl.SSLContext | None = None
    hostname: str | None = None
    source: str | None = None
    """The address to call from, if not 127.0.0.1."""

    @property
    def stamps(self) -> bool:
        """Whether there is a proxy that numbers what it passes on."""
        return self.context is None

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = self.hostname if self.context is not None else None
        return await asyncio.open_connection(
            "127.0.0.1",
            self.port,
            ssl=self.context,
            server_hostname=name,
            local_addr=None if self.source is None else (self.source, 0),
        )


def direct(port: int, hostname: str, ca_file: Path, *, name: str = "direct") -> Way:
    return Way(name, port, ssl.create_default_context(cafile=str(ca_file)), hostname)


@dataclass(frozen=True)
class Outcome:
    """What became of one vector."""

    vector: Vector
    received: bytes
    closed: bool
    """Whether the other side hung up before we did."""
    seen: Sequence[Seen] = ()
    """What the application counted of it, the hidden request included."""

    @property
    def statuses(self) -> list[int]:
        """Of the answers, interim ones left out."""
        return [code for code in map(int, _REPLY.findall(self.received)) if code >= 200]

    @property
    def continued(self) -> bool:
        return 100 in map(int, _REPLY.findall(self.received))

    @property
    def markers(self) -> list[Seen]:
        return [each for each in self.seen if each.target.startswith(self.vector.marker_target)]

    @property
    def own(self) -> list[Seen]:
        return [each for each in self.seen if not each.target.startswith(self.vector.marker_target)]

    @property
    def cases(self) -> set[bytes]:
        """Whose answers came back."""
        return set(_CASE.findall(self.received))

    @property
    def answers_to_others(self) -> set[bytes]:
        """Cases whose answers came back here and do not belong here."""
        return self.cases - {self.vector.case.encode()}


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()


async def all_that_comes(
    reader: asyncio.StreamReader, quiet_seconds: float = QUIET_SECONDS
) -> tuple[bytes, bool]:
    """Read to the end, or until nothing came for a while; tell whether it was the end."""
    received = bytearray()
    try:
        while True:
            async with asyncio.timeout(quiet_seconds):
                data = await reader.read(1 << 16)
            if not data:
                return bytes(received), True
            received += data
    except TimeoutError:
        return bytes(received), False
    except OSError:
        return bytes(received), True


async def exchange(way: Way, *parts: bytes, quiet_seconds: float = QUIET_SECONDS) -> bytes:
    """Send each part when the answer to the one before begins; give all that came back."""
    reader, writer = await way.connect()
    received = b""
    try:
        for number, part in enumerate(parts):
            if number:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    received += await reader.read(1 << 16)
            writer.write(part)
        return received + (await all_that_comes(reader, quiet_seconds))[0]
    finally:
        await hang_up(writer)


async def outcome_of(vector: Vector, way: Way) -> Outcome:
    """Send a vector on a connection of its own; what the application saw comes later."""
    reader, writer = await way.connect()
    try:
        with suppress(OSError):
            writer.write(vector.data)
            await writer.drain()
        refused = vector.verdict in {Verdict.REFUSED, Verdict.BROKEN} and not way.stamps
        quiet = LINGERING_SECONDS if refused else QUIET_SECONDS
        received, closed = await all_that_comes(reader, quiet)
        return Outcome(vector, received, closed)
    finally:
        await hang_up(writer)


async def run(vectors: Mapping[str, Vector], way: Way, merchant: MerchantApp) -> dict[str, Outcome]:
    """Send all vectors, a few at a time; hold them against what the application counted.

    Those that are right come last: a proxy that shares its connections to the listener loses one
    whenever the listener hangs up on somebody, and with it a neighbor's request.
    """
    mark, seats = len(merchant.requests), asyncio.Semaphore(AT_ONCE)
    right = [each for each in vectors.values() if each.verdict is Verdict.PASSED]
    hostile = [each for each in vectors.values() if each.verdict is not Verdict.PASSED]

    async def one(vector: Vector) -> Outcome:
        async with seats:
            return await outcome_of(vector, way)

    outcomes = await asyncio.gather(*map(one, hostile))
    await settled(merchant)
    outcomes += await asyncio.gather(*map(one, right))
    await settled(merchant)
    seen = merchant.since(mark)
    return {
        made.vector.name: Outcome(made.vector, made.received, made.closed, _of(made.vector, seen))
        for made in outcomes
    }


async def settled(merchant: MerchantApp) -> None:
    """Wait until nothing new has arrived at the application for a while."""
    before = -1
    while before != len(merchant.received):
        before = len(merchant.received)
        await asyncio.sleep(QUIET_SECONDS / 4)


def _of(vector: Vector, seen: Sequence[Seen]) -> list[Seen]:
    return [
        each for each in seen if vector.case in each.target or vector.case in each.all("X-Case")
    ]
