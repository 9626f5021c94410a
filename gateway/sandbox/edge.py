"""The network side of the simulated processor: one call in, one answer or mishap out.

Decides nothing about payments. Nothing here is logged, and no body outlives its call.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

from aiohttp import web

from gateway.sandbox.accounts import Accounts, refuse_unknown
from gateway.sandbox.behavior import (
    Behavior,
    CloseBeforeReading,
    Drip,
    Fail,
    LoseAnswer,
    Mishap,
    Redirect,
)
from gateway.sandbox.echo import echoed
from gateway.sandbox.journal import Carried, Journal
from gateway.sandbox.params import Params
from gateway.sandbox.received import Memory, Received, masked
from gateway.sandbox.refusals import Refusal, malformed, simulated_failure, too_large
from gateway.sandbox.replays import KeptAnswer, Replays
from gateway.sandbox.stripe_api import Answer, Call, answered, refused

BODY_BYTES_MAX: Final = 1024 * 1024
_FORM: Final = "application/x-www-form-urlencoded"

SILENT: Final = logging.getLogger("gateway.sandbox.http")
"""aiohttp's own logger would quote malformed requests, which may carry a card number."""
SILENT.setLevel(logging.CRITICAL + 1)


class Edge:
    """Answers calls, each by way of the accounts, the remembered keys and the behavior."""

    def __init__(  # noqa: PLR0913 - the parts of one wiring
        self,
        *,
        accounts: Accounts,
        behavior: Behavior,
        memory: Memory,
        replays: Replays,
        journal: Journal,
        new_id: Callable[[str], str],
        now: Callable[[], datetime],
    ) -> None:
        self._accounts = accounts
        self._behavior = behavior
        self._memory = memory
        self._replays = replays
        self._journal = journal
        self._new_id = new_id
        self._now = now

    def application(self) -> web.Application:
        application = web.Application(client_max_size=BODY_BYTES_MAX)
        application.router.add_route("*", "/{path:.*}", self.handle)
        return application

    async def handle(self, request: web.Request) -> web.StreamResponse:
        mishap = self._behavior.next_mishap()
        self._accounts.counts.requests += 1
        if isinstance(mishap, CloseBeforeReading):
            return _hung_up(request)
        numbers: tuple[str, ...] = ()
        try:
            call = await _read(request)
            numbers = tuple(call.params.ending("number").values())
            answer = await self._answered(request, call, mishap)
        except Refusal as refusal:
            answer = refused(refusal)
        except Exception:  # noqa: BLE001 - the one net: counted, and no words of it go anywhere
            self._accounts.counts.faults += 1
            answer = refused(simulated_failure(500))
        await self._behavior.gate.passed("answer")
        await asyncio.sleep(self._behavior.delay_seconds)
        answer = echoed(self._numbered(answer), numbers, self._behavior.echo)
        return await _sent(request, answer, mishap, self._behavior.drip)

    async def _answered(self, request: web.Request, call: Call, mishap: Mishap | None) -> Answer:
        authorization = request.headers.get("Authorization")
        account = self._accounts.named_by(authorization)
        key = request.headers.get("Idempotency-Key") if call.method == "POST" else None
        self._remember(call, account, key)
        account = refuse_unknown(authorization, account)
        if key is None:
            await self._behavior.gate.passed("request")
            answer = self._carried_out(account, call, mishap)
            self._write_down(account, call)
            return answer
        return await self._once(account, key, call, mishap)

    async def _once(self, account: str, key: str, call: Call, mishap: Mishap | None) -> Answer:
        """Carry the call out, unless its key was seen before."""
        first = self._replays.begin(account, key, call, at=self._now())
        if first is not None:
            self._accounts.counts.replays += 1
            return replace(first, headers=(*first.headers, ("Idempotent-Replayed", "true")))
        answer = None
        try:
            await self._behavior.gate.passed("request")
            answer = self._carried_out(account, call, mishap)
        finally:
            kept = self._replays.end(account, key, answer)
        self._write_down(account, call, key, kept)
        return answer

    def _carried_out(self, account: str, call: Call, mishap: Mishap | None) -> Answer:
        match mishap:
            case Fail(status, after_charge):
                if after_charge:
                    answered(self._accounts.books(account), call)
                return refused(simulated_failure(status))
            case Redirect(url, status):
                return Answer(status, b"", executed=False, headers=(("Location", url),))
            case _:
                return answered(self._accounts.books(account), call)

    def _write_down(
        self, account: str, call: Call, key: str | None = None, kept: KeptAnswer | None = None
    ) -> None:
        charges = self._accounts.books(account).take_changed()
        if charges or kept is not None:
            carried = Carried(account, self._accounts.counts, charges, key, kept)
            self._journal.carried_out(call.path, carried)

    def _remember(self, call: Call, account: str | None, key: str | None) -> None:
        received = Received(
            at=self._now(),
            method=call.method,
            path=call.path,
            account=account,
            idempotency_key=key,
            masked=masked(call.params),
            params=self._memory.kept_of(call.params),
        )
        self._memory.add(received, call.params)
        self._journal.arrived(call.path, key, call.params.ending("number").values())

    def _numbered(self, answer: Answer) -> Answer:
        return replace(answer, headers=(("Request-Id", self._new_id("req")), *answer.headers))


async def _read(request: web.Request) -> Call:
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        failure = too_large()
    except (web.RequestPayloadError, ConnectionError):
        failure = malformed("The body of this request ended too early.")  # nobody will read it
    else:
        return _parsed(request, body)
    raise failure


def _parsed(request: web.Request, body: bytes) -> Call:
    if body and request.content_type != _FORM:
        raise malformed("The body of this request must be a form.")
    fields = body or request.rel_url.raw_query_string.encode()
    return Call(request.method, request.rel_url.raw_path, Params.parse(fields))


async def _sent(
    request: web.Request, answer: Answer, mishap: Mishap | None, drip: Drip | None
) -> web.StreamResponse:
    if isinstance(mishap, LoseAnswer) and not mishap.half:
        return _hung_up(request)
    response = web.StreamResponse(status=answer.status, headers=dict(answer.headers))
    response.content_type = "application/json"
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
