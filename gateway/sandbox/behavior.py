"""How the simulated processors misbehave, when a test or the demo asks for it.

Says only what was asked for; the edge does it, whichever of them a call is for. One-time mishaps
are taken in the order in which they were asked for, one by each call that arrives.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from gateway.sandbox.echo import EchoPlace


class LoseAnswer(msgspec.Struct, frozen=True):
    """The call is carried out, but no byte of the answer comes back, or half of it."""

    half: bool = False


class Fail(msgspec.Struct, frozen=True):
    """The call gets this status; it is carried out first or not at all."""

    status: int
    after_charge: bool = False


class Redirect(msgspec.Struct, frozen=True):
    """The call is sent elsewhere, and not carried out."""

    url: str
    status: int = 307


class CloseBeforeReading(msgspec.Struct, frozen=True):
    """The connection is closed when the head of the call is there: its body is never looked at."""


Mishap = LoseAnswer | Fail | Redirect | CloseBeforeReading

Point = Literal["request", "answer"]
"""Where calls wait: read but not carried out, or carried out but not answered."""


class Drip(msgspec.Struct, frozen=True):
    """Answers come in pieces, with a pause after each."""

    piece_bytes: int = 1
    pause_seconds: float = 0.01


class Gate:
    """A point at which calls are held until they are released."""

    def __init__(self) -> None:
        self._shut_at: Point | None = None
        self._opened = asyncio.Event()
        self._arrived = asyncio.Event()
        self._held = 0

    def shut(self, at: Point) -> None:
        self._move_to(at)

    def open(self) -> None:
        self._move_to(None)

    def _move_to(self, at: Point | None) -> None:
        """Wake whoever waits: they look again whether it is still here."""
        self._shut_at = at
        self._opened.set()
        self._opened = asyncio.Event()

    async def passed(self, point: Point) -> None:
        """Return when a call may go past this point."""
        while self._shut_at == point:
            self._held += 1
            self._arrived.set()
            try:
                await self._opened.wait()
            finally:
                self._held -= 1

    async def holding(self, calls: int) -> None:
        """Return when so many calls are held at once."""
        while self._held < calls:
            self._arrived.clear()
            await self._arrived.wait()


@dataclass(slots=True)
class Behavior:
    """What was asked for."""

    mishaps: deque[Mishap] = field(default_factory=deque[Mishap])
    echo: EchoPlace | None = None
    delay_seconds: float = 0.0
    drip: Drip | None = None
    gate: Gate = field(default_factory=Gate)

    def next_mishap(self) -> Mishap | None:
        return self.mishaps.popleft() if self.mishaps else None

    def behave(self) -> None:
        """As an honest processor does."""
        self.mishaps.clear()
        self.echo, self.delay_seconds, self.drip = None, 0.0, None
        self.gate.open()
