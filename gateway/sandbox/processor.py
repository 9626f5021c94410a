"""Simulated card processors on TLS, on one port, shaped like the real APIs: for demo and tests.

They decide by published test card, honor idempotency keys where the real one does, and take
nothing but a card number in a number field, so that an approved payment proves that a token was
turned into its number. They listen on loopback only, keep everything in memory and write no log,
unless a test that kills them asks for a journal. What a test or the demo wants them to do wrong
is asked for here.
"""

import asyncio
import contextlib
import secrets
import ssl
import string
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web

from gateway.sandbox.accounts import credentials_of
from gateway.sandbox.behavior import (
    Behavior,
    CloseBeforeReading,
    Drip,
    Fail,
    LoseAnswer,
    Point,
    Redirect,
)
from gateway.sandbox.books import Counts
from gateway.sandbox.callbacks import CallingProcessor, CallsBack
from gateway.sandbox.calling_back import CallingBack
from gateway.sandbox.echo import EchoPlace
from gateway.sandbox.edge import SILENT, Edge
from gateway.sandbox.journal import Journal, KeepsCharges, StateFile, new_keys
from gateway.sandbox.processors import build
from gateway.sandbox.received import Memory, Received
from gateway.sandbox.replays import Place, Replays
from gateway.sandbox.wire import SandboxCredential, Simulated

LOOPBACK: Final = "127.0.0.1"
CLOSING_SECONDS: Final = 1.0
KEEPALIVE_SECONDS: Final = 75.0
_ID_CHARACTERS: Final = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class Running:
    """Where they listen."""

    host: str
    port: int

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"


class Processor:
    """All of the processors: what they saw, and what they are to do wrong."""

    def __init__(
        self,
        api_keys: Sequence[str],
        *,
        now: Callable[[], datetime],
        credentials: Mapping[str, SandboxCredential] | None = None,
        remember_numbers: bool = False,
        arrivals: Path | None = None,
        state: Path | None = None,
    ) -> None:
        """Each key is an account; `credentials` replace those that follow from the keys.

        `remember_numbers` keeps what was received in full: only for tests.
        Only with it: `arrivals`, a file to write down what comes, and `state`, one from which
        charges and idempotency keys come back.
        """
        if not remember_numbers and (arrivals or state):
            raise ValueError("files of what was received need `remember_numbers`")
        kept = None if state is None else StateFile.open(state)
        keys = new_keys() if kept is None else kept.keys
        self._journal = Journal(kept, arrivals, now=now)
        self._behavior = Behavior()
        self._memory = Memory(remember_numbers=remember_numbers)
        self._counts = Counts()
        processors = build(
            {**credentials_of(api_keys), **(credentials or {})},
            new_id=new_id,
            now=now,
            counts=self._counts,
            fingerprint_key=keys.fingerprint,
        )
        replays = Replays(keys.replays)
        self._processors = {each.name: each for each in processors}
        self.callbacks = CallingBack(processors, now=now)
        self._restore(processors, replays)
        self._edge = Edge(
            processors=processors,
            counts=self._counts,
            behavior=self._behavior,
            memory=self._memory,
            replays=replays,
            journal=self._journal,
            callbacks=self.callbacks,
            new_id=new_id,
            now=now,
        )

    def _restore(self, processors: Sequence[Simulated], replays: Replays) -> None:
        """Go on where an earlier life ended: charges, keys and counts."""
        named = {each.name: each for each in processors}
        for carried in self._journal.earlier():
            simulated = named[carried.processor]
            if isinstance(simulated, KeepsCharges):
                simulated.restore(carried.account, carried.charges)
            for name in carried.counts.__struct_fields__:
                setattr(self._counts, name, getattr(carried.counts, name))
            if carried.key is not None and carried.kept is not None:
                place = Place(carried.processor, carried.account, carried.key)
                replays.restore(place, carried.kept)

    @contextlib.asynccontextmanager
    async def serve(self, ssl_context: ssl.SSLContext, *, port: int = 0) -> AsyncIterator[Running]:
        """Listen on loopback; calls that are held are let go at the end."""
        runner = web.AppRunner(
            self._edge.application(),
            access_log=None,
            handle_signals=False,
            keepalive_timeout=KEEPALIVE_SECONDS,
            logger=SILENT,
            shutdown_timeout=CLOSING_SECONDS,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, LOOPBACK, port, ssl_context=ssl_context).start()
            async with self.callbacks.running():
                yield Running(LOOPBACK, runner.addresses[0][1])
        finally:
            self._behavior.gate.open()
            await _ended(runner)
            self._journal.close()

    # --- what it saw ----------------------------------------------------------------------

    @property
    def counts(self) -> Counts:
        """A copy, so that before and after can be compared."""
        return msgspec.structs.replace(self._counts)

    @property
    def received(self) -> tuple[Received, ...]:
        return self._memory.calls

    @property
    def numbers_received(self) -> tuple[str, ...]:
        """Every value of a number field, in full; a RuntimeError without `remember_numbers`."""
        return self._memory.numbers_in_full()

    def forget_received(self) -> None:
        self._memory.forget()

    # --- what it is to do wrong -----------------------------------------------------------

    def lose_next_answer(self, *, half: bool = False) -> None:
        """Carry the next call out, then close the connection before or amid the answer."""
        self._behavior.mishaps.append(LoseAnswer(half))

    def fail_next(self, status: int, *, after_charge: bool = False) -> None:
        self._behavior.mishaps.append(Fail(status, after_charge))

    def redirect_next(self, url: str, *, status: int = 307) -> None:
        self._behavior.mishaps.append(Redirect(url, status))

    def close_before_reading(self) -> None:
        """Close the next call's connection without reading its body."""
        self._behavior.mishaps.append(CloseBeforeReading())

    def echo_numbers(self, in_: EchoPlace | None = "body") -> None:
        """Repeat the number of every call in its answer, there; None ends it."""
        self._behavior.echo = in_

    def drip(self, piece_bytes: int | None = 1, *, pause_seconds: float = 0.01) -> None:
        """Send answers in small pieces; None ends it."""
        self._behavior.drip = None if piece_bytes is None else Drip(piece_bytes, pause_seconds)

    @property
    def delay_seconds(self) -> float:
        """How long each answer waits once its call is carried out."""
        return self._behavior.delay_seconds

    @delay_seconds.setter
    def delay_seconds(self, seconds: float) -> None:
        self._behavior.delay_seconds = seconds

    def hold(self, at: Point = "request") -> None:
        """Keep calls waiting, before they are carried out or before they are answered."""
        self._behavior.gate.shut(at)

    async def holding(self, calls: int = 1) -> None:
        """Return when so many calls are held."""
        await self._behavior.gate.holding(calls)

    def release(self) -> None:
        self._behavior.gate.open()

    def charge_back(self, processor: CallingProcessor, payment: str) -> None:
        """Let a shopper dispute this payment; a LookupError where there is no such one."""
        simulated = self._processors[processor]
        assert isinstance(simulated, CallsBack)  # those are
        self.callbacks.tell(simulated, simulated.charge_back(payment))

    def behave(self) -> None:
        """End all of it; where callbacks go stays."""
        self._behavior.behave()
        self.callbacks.behave()


async def _ended(runner: web.AppRunner) -> None:
    """Stop listening; a caller that keeps its end of a TLS connection open is not waited for."""
    assert runner.server is not None  # it was set up
    connections = runner.server.connections
    transports = [each.transport for each in connections if each.transport is not None]
    await runner.cleanup()
    for transport in transports:
        transport.abort()
    await asyncio.sleep(0)  # aborted sockets are closed in the loop's next turn


def new_id(prefix: str) -> str:
    """`pi_` and 24 random characters; the characters alone where there is no prefix."""
    characters = "".join(secrets.choice(_ID_CHARACTERS) for _ in range(24))
    return f"{prefix}_{characters}" if prefix else characters
