"""A processor's API as its official SDK calls it, with tokens for cards.

By base URL, on a port of the route's own, or in a tunnel: a request becomes a `Submission` for
`authorize`, and what became of it an HTTP answer. What goes wrong is answered in the processor's
own error shape, so that its SDK neither crashes nor repeats what it must not. Calls that are no
declared operation pass through, provided that they carry nothing that looks like a token.
"""

import hashlib
import re
from collections.abc import Callable
from typing import Final

from aiohttp import web

from gateway.arrival import (
    OWN_IDEMPOTENCY_HEADER,
    Arrival,
    Callers,
    at_the_root,
    by_base_url,
    read_arrival,
)
from gateway.authorize import Authorize, Submission
from gateway.call import Call, CallRefused, ReadCall, Refusal, read_call, text_of
from gateway.codecs.splice import splice
from gateway.errors import (
    BadField,
    ClientGone,
    GatewayError,
    NotFound,
    UpstreamReflectedPan,
)
from gateway.exchange import Replied
from gateway.lanes import Lane, Lanes
from gateway.merchants import Caller
from gateway.metrics import Metrics
from gateway.order import Order, login_slots, pass_through_refusal, read_order
from gateway.out_answers import OutAnswers
from gateway.reply import Reflected
from gateway.reply_cards import Owner, ReplyCards
from gateway.stopwatch import PROCESSOR_STAGES, Stopwatch
from vault.errors import CustodyError
from vault.tokens import Env

_IDEMPOTENCY_KEY: Final = re.compile("[\\x20-\\x7e]{1,255}")


class Outbound:
    """The handlers of calls to processors."""

    def __init__(  # noqa: PLR0913 - the parts of one wiring
        self,
        lanes: Lanes,
        *,
        callers: Callers,
        authorize: Authorize,
        reply_cards: ReplyCards,
        answers: OutAnswers,
        metrics: Metrics,
        env: Env,
        monotonic: Callable[[], float],
    ) -> None:
        self._lanes = lanes
        self._callers = callers
        self._authorize = authorize
        self._reply_cards = reply_cards
        self._answers = answers
        self._metrics = metrics
        self._env: Env = env
        self._monotonic = monotonic

    async def handle(self, request: web.Request) -> web.Response:
        """`/out/{route}/…`. Raises NotFound for a route that does not exist: it has no shape."""
        lane = self._lanes.get(request.match_info["route"])
        if lane is None:
            raise NotFound
        return await self._answer(by_base_url(request, lane))

    async def at_root(self, request: web.Request, lane: Lane) -> web.Response:
        """On a port of the route's own."""
        return await self._answer(at_the_root(request, lane))

    async def in_tunnel(self, request: web.Request, lane: Lane, key: str) -> web.Response:
        """In a tunnel that was opened with `key`, which is asked for again at each request."""
        return await self._answer(at_the_root(request, lane, key))

    async def _answer(self, arrival: Arrival) -> web.Response:
        watch = Stopwatch(self._monotonic)
        try:
            response = await self._carry(arrival, watch)
        except ClientGone:
            raise  # nobody is left to hear it in any shape
        except (GatewayError, CustodyError) as error:
            response = self._answers.failed(arrival, error)
        response.headers["Server-Timing"] = watch.server_timing()
        self._time(arrival.lane, watch)
        return response

    async def _carry(self, arrival: Arrival, watch: Stopwatch) -> web.Response:
        lane = arrival.lane
        if lane.injects and arrival.path == lane.preset.credential.token_path:
            return await self._exchange(arrival, watch)
        with watch.running("auth"):
            early = None if self._callers.needs_body(arrival) else await self._callers.of(arrival)
        call = await read_arrival(arrival)
        with watch.running("auth"):
            caller = early or await self._callers.of(arrival, call)
            call = await self._callers.proved(lane, caller, call)
        with lane.limits.enter(caller.tenant):
            return await self._told(arrival, caller, call, watch)

    async def _told(
        self, arrival: Arrival, caller: Caller, call: Call, watch: Stopwatch
    ) -> web.Response:
        lane = arrival.lane
        read = read_call(lane.preset, call)
        if isinstance(read, CallRefused):
            return self._answers.refused(arrival, read)
        if lane.injects and lane.preset.credential.sent == "body" and call.body:
            login = login_slots(read)
            if (len(login.name), len(login.key)) != (1, 1):  # one of the caller's would pass
                return self._answers.refused(arrival, CallRefused(Refusal.INVALID_FIELD, "login"))
        if read.operation is None:
            return await self._pass_through(arrival, caller, read, watch)
        order = read_order(read, read.operation, env=self._env)
        if isinstance(order, CallRefused):
            return self._answers.refused(arrival, order)
        submission = _submission(arrival, caller, read, order)
        told = await self._authorize.handle(submission, watch)
        return self._answers.told(arrival, told)

    async def _exchange(self, arrival: Arrival, watch: Stopwatch) -> web.Response:
        """Give an SDK that wants an access token what it calls with: panward's key."""
        with watch.running("auth"):
            key = await self._callers.exchanged(arrival)
        return self._answers.granted(key)

    # --- calls that are no declared operation ---------------------------------------------------

    async def _pass_through(
        self, arrival: Arrival, caller: Caller, read: ReadCall, watch: Stopwatch
    ) -> web.Response:
        lane, call = arrival.lane, read.call
        if not lane.preset.passes_through(call.method, call.path):
            raise NotFound
        refusal = pass_through_refusal(read)
        if refusal is not None:
            return self._answers.refused(arrival, refusal)
        secret = await lane.secret(caller.tenant)
        login = lane.login(secret)
        body = call.body if login is None else splice(call.body, login_slots(read).put(login))
        with lane.breaker.admitted() as admission:
            with watch.running("processor"):
                outcome = await lane.send(caller.tenant, call, secret, body)
            lane.heard(admission, outcome)
        if not isinstance(outcome, Replied):
            return self._answers.not_passed(arrival, outcome)
        with watch.running("scrub"):
            owner = Owner(caller.tenant, caller.actor)
            cleaned = await self._reply_cards.cleaned(lane.preset, owner, outcome, ())
        if isinstance(cleaned, Reflected):
            code = UpstreamReflectedPan.code
            return self._answers.withheld(arrival, code, outcome.status)
        if cleaned.card_like:
            self._metrics.scan_hits("out_reply", "card_like", cleaned.card_like)
        return self._answers.passed(arrival, outcome.status, cleaned)

    def _time(self, lane: Lane, watch: Stopwatch) -> None:
        for stage, seconds in watch.seconds.items():
            self._metrics.stage(stage, seconds)
        self._metrics.forward_overhead(lane.name, watch.total() - watch.of(PROCESSOR_STAGES))


def _submission(arrival: Arrival, caller: Caller, read: ReadCall, order: Order) -> Submission:
    return Submission(
        tenant=caller.tenant,
        actor=caller.actor,
        source_address=arrival.request.remote or "",
        lane=arrival.lane,
        operation=order.operation,
        call=read.call,
        order=order,
        idempotency_key=_idempotency_key(arrival, read),
    )


def _login_digest(arrival: Arrival) -> str:
    digest = hashlib.sha256()
    for header in arrival.lane.preset.credential.headers:
        for value in arrival.request.headers.getall(header, []):
            digest.update(f"{header}={value}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _idempotency_key(arrival: Arrival, read: ReadCall) -> bytes | None:
    """The key under which the processor, or we alone, know a repeat. Raises BadField."""
    idempotency = arrival.lane.preset.idempotency
    if idempotency.field is not None:
        name = idempotency.field
        found = [match.field for match in read.find(name)]
        keys = [text_of(field) or "" for field in found]
    else:
        name = idempotency.header or OWN_IDEMPOTENCY_HEADER
        keys = list(arrival.request.headers.getall(name, []))
    if len(keys) > 1:  # the processor might go by the other one
        raise BadField(name, "repeated")
    if keys and not _IDEMPOTENCY_KEY.fullmatch(keys[0]):
        raise BadField(name, "format")
    if not keys:
        return None
    scopes = [
        f"{scope}={value}"
        for scope in idempotency.scope_headers
        for value in arrival.request.headers.getall(scope, [])
    ]
    if not arrival.lane.injects and name != OWN_IDEMPOTENCY_HEADER:
        # Another account of the same merchant's, by its own key: there the processor tells repeats
        # apart by account too. Where it knows no key, a new key of the same account must not run.
        scopes.append(_login_digest(arrival))
    return "\0".join((keys[0], *scopes)).encode("utf-8", "surrogateescape")
