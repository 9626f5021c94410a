"""A relay in front of PostgreSQL that loses what the test wants lost.

It passes bytes both ways between a client and the server's Unix socket, until it is told to cut
the connection at a byte, or what to do with the next COMMIT. The server is the real one: what it
made of what it got is in the database.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

_CHUNK_BYTES = 65_536
_COMMIT = b"COMMIT\x00"


class AtCommit(Enum):
    """What becomes of a COMMIT: whether the server gets it, and what the client sees."""

    LOST = "the connection is cut before the server has it"
    ANSWER_LOST = "the connection is cut when the server has carried it out"
    SWALLOWED = "the server never gets it, and the client hears nothing"
    ANSWER_SWALLOWED = "the server carries it out, and the client hears nothing"

    @property
    def reaches_server(self) -> bool:
        return self in (AtCommit.ANSWER_LOST, AtCommit.ANSWER_SWALLOWED)

    @property
    def cuts(self) -> bool:
        return self in (AtCommit.LOST, AtCommit.ANSWER_LOST)


@dataclass
class Relay:
    """Where it listens, and what it does; all of it may be changed while it runs."""

    server: str
    dsn: str = ""
    at_commit: list[AtCommit] = field(default_factory=list)  # one each, for the next ones
    cut_after: dict[str, int] = field(default_factory=dict)  # bytes "to server", "to client"
    cut_before: bytes = b""  # a statement that is not to reach the server, once
    silent: bool = False
    refusing: bool = False
    then: Callable[[], None] = lambda: None  # when all of that has been done
    passed: dict[str, int] = field(default_factory=dict)
    connections: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def count(self) -> None:
        """Count passing bytes from here on."""
        self.passed = {"to server": 0, "to client": 0}

    def refuse(self) -> None:
        """Let nobody in any more."""
        self.refusing = True

    def hush(self) -> None:
        """Pass nothing on any more, and end nothing."""
        self.silent = True

    def _did_what_it_should(self) -> None:
        if not self.at_commit and not self.cut_before:
            self.then()

    def cut_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        self.connections += 1
        to_server_reader, to_server = await asyncio.open_unix_connection(self.server)
        ends = (writer, to_server)
        self._writers.update(ends)
        swallow = asyncio.Event()
        pumps = [
            asyncio.create_task(self._to_server(reader, ends, swallow)),
            asyncio.create_task(self._to_client(to_server_reader, ends, swallow)),
        ]
        self._tasks.update(pumps)
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.transport.abort()
        await asyncio.gather(*pumps, return_exceptions=True)
        self._tasks.difference_update(pumps)
        self._writers.difference_update(ends)

    async def _to_server(
        self,
        reader: asyncio.StreamReader,
        ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
        swallow: asyncio.Event,
    ) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            if _COMMIT in data and self.at_commit:
                plan = self.at_commit.pop(0)
                self._did_what_it_should()
                if plan.reaches_server:
                    swallow.set()  # whatever the server says from here on
                    if plan.cuts:
                        ends[0].transport.pause_reading()  # type: ignore[attr-defined]
                    ends[1].write(data)
                    continue
                if plan.cuts:
                    return
                continue
            if self.cut_before and self.cut_before in data:
                self.cut_before = b""
                self._did_what_it_should()
                return
            if not self._pass(data, ends[1], "to server"):
                return

    async def _to_client(
        self,
        reader: asyncio.StreamReader,
        ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
        swallow: asyncio.Event,
    ) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            if swallow.is_set():
                if not ends[0].transport.is_reading():  # type: ignore[attr-defined]
                    return  # the answer has come, and goes no further
                continue
            if not self._pass(data, ends[0], "to client"):
                return

    def _pass(self, data: bytes, writer: asyncio.StreamWriter, way: str) -> bool:
        """Pass bytes on; false when this was the last of them."""
        if self.silent:
            return True
        self.passed[way] = self.passed.get(way, 0) + len(data)
        left = self.cut_after.get(way)
        if left is None:
            writer.write(data)
            return True
        self.cut_after[way] = left - len(data)
        if left >= len(data):
            writer.write(data)
            return True
        writer.write(data[: max(left, 0)])
        self.cut_after.clear()
        return False

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def relayed(dsn: str) -> AsyncIterator[Relay]:
    """Run a relay; its `dsn` is the given one, by way of it."""
    parts = urlsplit(dsn)
    options = {name: values[0] for name, values in parse_qs(parts.query).items()}
    server = f"{options['host']}/.s.PGSQL.{options['port']}"
    with tempfile.TemporaryDirectory(prefix="relay-") as folder:
        relay = Relay(server)
        relay.dsn = dsn.replace(f"host={options['host']}", f"host={folder}")
        listener = await asyncio.start_unix_server(
            relay.serve, str(Path(folder) / f".s.PGSQL.{options['port']}")
        )
        try:
            yield relay
        finally:
            listener.close()
            await relay.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(listener.wait_closed(), 1)
