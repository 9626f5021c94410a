"""The demo's view of the simulated processor, over the socket on which that takes commands.

Commands are those of `gateway/sandbox/control.py`; what comes back is masked, but for `numbers`.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from gateway.demo.scene import StoryBroke
from gateway.sandbox.books import Counts
from gateway.sandbox.calling_back import CallbackCounts
from gateway.sandbox.control import Command

ANSWER_SECONDS: Final = 5.0


class ReceivedCall(msgspec.Struct, frozen=True):
    """A call as the processor may show it: its card fields are masked."""

    method: str
    path: str
    cards: Mapping[str, str]
    account: str | None = None
    idempotency_key: str | None = None


class _CallbacksState(msgspec.Struct, frozen=True):
    counts: CallbackCounts


class ProcessorState(msgspec.Struct, frozen=True):
    """What it counted, the calls it remembers, and what became of its callbacks."""

    counts: Counts
    received: Sequence[ReceivedCall]
    callbacks: _CallbacksState


class _Numbers(msgspec.Struct):
    numbers: list[str]


class SandboxProcessor:
    """The simulated processor, as the demo asks and commands it."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def state(self) -> ProcessorState:
        return msgspec.json.decode(await self._exchange("GET", "/state"), type=ProcessorState)

    async def numbers(self) -> Sequence[str]:
        """Every number it was sent, in full and in order: to be compared, never shown."""
        return msgspec.json.decode(await self._exchange("GET", "/numbers"), type=_Numbers).numbers

    async def do(self, command: Command) -> None:
        await self._exchange("POST", "/do", msgspec.json.encode(command))

    async def _exchange(self, method: str, path: str, body: bytes = b"") -> bytes:
        """HTTP/1.0: one exchange, and the end of the connection is the end of the answer."""
        head = f"{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_unix_connection(str(self._socket))
            try:
                writer.write(head.encode() + body)
                status_line = await reader.readline()
                answer = await reader.read()
            finally:
                writer.close()
        if status_line.split(b" ")[1:2] not in ([b"200"], [b"204"]):
            raise StoryBroke("the simulated processor refuses a command")
        return answer.partition(b"\r\n\r\n")[2]
