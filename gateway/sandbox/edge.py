"""The network side of the simulated processors: one call in, one answer or mishap out.

Decides nothing about payments. Nothing here is logged, and no body outlives its call.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from aiohttp import web

from gateway.sandbox.behavior import (
    Behavior,
    CloseBeforeReading,
    Drip,
    Fail,
    LoseAnswer,
    Mishap,
    Redirect,
)
from gateway.sandbox.books import Counts
from gateway.sandbox.calling_back import CallingBack
from gateway.sandbox.echo import echoed
from gateway.sandbox.journal import Carried, Journal, KeepsCharges
from gateway.sandbox.objects import Charge
from gateway.sandbox.processors import chosen
from gateway.sandbox.received import Memory, Received, masked
from gateway.sandbox.replays import HonorsKeys, KeptAnswer, KeyRefused, Place, Replays
from gateway.sandbox.wire import Simulated, WireAnswer, WireCall

BODY_BYTES_MAX: Final = 1024 * 1024
_BROKEN_OFF: Final = 400
_TOO_LARGE: Final = 413
_BUG: Final = 500

SILENT: Final = logging.getLogger("gateway.sandbox.http")
"""aiohttp's own logger would quote malformed requests, which may carry a card number."""
SILENT.setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True, slots=True, repr=False)
class _Arrived:
    """A call that was read, at the processor that it is for."""

    simulated: Simulated
    call: WireCall
    numbers: tuple[str, ...]
    account: str | None
    key: str | None
    mishap: Mishap | None


class Edge:
    """Answers calls, each by way of its processor, the remembered keys and the behavior."""

    def __init__(  # noqa: PLR0913 - the parts of one wiring
        self,
        *,
        processors: Sequence[Simulated],
        counts: Counts,
        behavior: Behavior,
        memory: Memory,
        replays: Replays,
        journal: Journal,
        callbacks: CallingBack,
        new_id: Callable[[str], str],
        now: Callable[[], datetime],
    ) -> None:
        self._processors = processors
        self._counts = counts
        self._behavior = behavior
        self._memory = memory
        self._replays = replays
        self._journal = journal
        self._callbacks = callbacks
        self._new_id = new_id
        self._now = now

    def application(self) -> web.Application:
        application = web.Application(client_max_size=BODY_BYTES_MAX)
        application.router.add_route("*", "/{path:.*}", self.handle)
        return application

    async def handle(self, request: web.Request) -> web.StreamResponse:
        mishap = self._behavior.next_mishap()
        self._counts.requests += 1
        if isinstance(mishap, CloseBeforeReading):
            return _hung_up(request)
        simulated = chosen(self._processors, _target(request)[0])
        numbers: tuple[str, ...] = ()
        try:
            call = await _read(request)
            numbers = simulated.numbers_in(call)
            answer = await self._answered(_arrived(simulated, call, numbers, mishap))
        except _Unreadable as unreadable:
            answer = simulated.failure(unreadable.status)
        except Exception:  # noqa: BLE001 - the one net: counted, and no words of it go anywhere
            self._counts.faults += 1
            answer = simulated.failure(_BUG)
        await self._behavior.gate.passed("answer")
        await asyncio.sleep(self._behavior.delay_seconds)
        answer = echoed(answer, numbers, self._behavior.echo, failure=simulated.failure)
        return await _sent(request, answer, mishap, self._behavior.drip)

    async def _answered(self, arrived: _Arrived) -> WireAnswer:
        self._remember(arrived)
        simulated, account, key = arrived.simulated, arrived.account, arrived.key
        if account is None:
            return simulated.answered(arrived.call)  # which refuses it
        if key is None or not isinstance(simulated, HonorsKeys):
            await self._behavior.gate.passed("request")
            answer, charges = self._carried_out(arrived)
            self._write_down(arrived, account, charges)
            self._callbacks.tell(simulated, account)
            return answer
        try:
            return await self._once(arrived, Place(simulated.name, account, key), simulated)
        except KeyRefused as refused:
            return simulated.key_refused(refused.trouble)

    async def _once(self, arrived: _Arrived, place: Place, honors: HonorsKeys) -> WireAnswer:
        """Carry the call out, unless its key was seen before."""
        first = self._replays.begin(place, arrived.call, honors, at=self._now())
        if first is not None:
            self._counts.replays += 1
            return honors.repeated(first)
        answer, charges = None, 0
        try:
            await self._behavior.gate.passed("request")
            answer, charges = self._carried_out(arrived)
        finally:
            kept = self._replays.end(place, answer)
        self._write_down(arrived, place.account, charges, kept)
        self._callbacks.tell(arrived.simulated, place.account)
        return answer

    def _carried_out(self, arrived: _Arrived) -> tuple[WireAnswer, int]:
        """Return the answer, and how many charges the call made."""
        before = self._counts.charges
        answer = _answer(arrived)
        return answer, self._counts.charges - before

    def _write_down(
        self, arrived: _Arrived, account: str, charges: int, kept: KeptAnswer | None = None
    ) -> None:
        simulated = arrived.simulated
        kept_charges: tuple[Charge, ...] = ()
        charge_ids: tuple[str, ...] = ()
        if isinstance(simulated, KeepsCharges):
            kept_charges = simulated.take_changed(account)
        else:
            charge_ids = tuple(self._new_id("charge") for _ in range(charges))
        if kept_charges or charge_ids or kept is not None:
            carried = Carried(
                processor=simulated.name,
                account=account,
                counts=self._counts,
                charges=kept_charges,
                charge_ids=charge_ids,
                key=arrived.key,
                kept=kept,
            )
            self._journal.carried_out(arrived.call.path, carried)

    def _remember(self, arrived: _Arrived) -> None:
        call, numbers = arrived.call, arrived.numbers
        received = Received(
            at=self._now(),
            processor=arrived.simulated.name,
            method=call.method,
            path=call.path,
            account=arrived.account,
            idempotency_key=arrived.key,
            masked=masked(call, numbers),
            sent=self._memory.kept_of(call),
        )
        self._memory.add(received, numbers)
        self._journal.arrived(call.path, arrived.key, numbers)


class _Unreadable(Exception):
    """A call whose body cannot be had."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def _arrived(
    simulated: Simulated, call: WireCall, numbers: tuple[str, ...], mishap: Mishap | None
) -> _Arrived:
    account, key = simulated.account_of(call), simulated.idempotency_key(call)
    return _Arrived(simulated, call, numbers, account, key, mishap)


def _answer(arrived: _Arrived) -> WireAnswer:
    simulated, call = arrived.simulated, arrived.call
    match arrived.mishap:
        case Fail(status, after_charge):
            if after_charge:
                simulated.answered(call)
            return simulated.failure(status)
        case Redirect(url, status):
            headers = (("Location", url),)
            return WireAnswer(status, b"", "text/plain", headers, executed=False)
        case _:
            return simulated.answered(call)


async def _read(request: web.Request) -> WireCall:
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        status = _TOO_LARGE
    except (web.RequestPayloadError, ConnectionError):
        status = _BROKEN_OFF  # nobody will read the answer
    else:
        path, query = _target(request)
        return WireCall(request.method, path, query, _headers(request), body)
    raise _Unreadable(status)


def _target(request: web.Request) -> tuple[str, str]:
    """Path and query exactly as they were sent: a signature may be over them."""
    path, _, query = request.raw_path.partition("?")
    return path, query


def _headers(request: web.Request) -> dict[str, str]:
    """By lower-case name; those sent more than once in one (RFC 9110, 5.3)."""
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        lower = name.lower()
        headers[lower] = f"{headers[lower]}, {value}" if lower in headers else value
    return headers


async def _sent(
    request: web.Request, answer: WireAnswer, mishap: Mishap | None, drip: Drip | None
) -> web.StreamResponse:
    if isinstance(mishap, LoseAnswer) and not mishap.half:
        return _hung_up(request)
    response = web.StreamResponse(status=answer.status, headers=dict(answer.headers))
    response.headers["Content-Type"] = answer.content_type
    response.content_length = len(answer.body)
    await response.prepare(request)
    if isinstance(mishap, LoseAnswer):
        await response.write(answer.body[: len(answer.body) // 2])
        return _hung_up(request)
    for piece in _pieces(answer.body, drip):
        await response.write(piece)
        if drip is not None:
            await asyncio.sleep(drip.pause_seconds)
    await response.write_eof()
    return response


def _pieces(body: bytes, drip: Drip | None) -> list[bytes]:
    size = len(body) if drip is None else drip.piece_bytes
    return [body[start : start + size] for start in range(0, len(body), max(size, 1))]


def _hung_up(request: web.Request) -> web.StreamResponse:
    """Close the connection under the answer; aiohttp then gives up writing it."""
    if request.transport is not None:  # pragma: no branch - None: the caller was faster
        request.transport.close()
    return web.Response()
