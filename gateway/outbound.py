"""`/out/{route}/…`: a processor's API as its official SDK calls it, with tokens for cards.

Here a request becomes a `Submission` for `authorize`, and what became of it an HTTP answer. What
goes wrong is answered in the processor's own error shape, so that its SDK neither crashes nor
repeats what it must not. Calls that are no declared operation pass through, provided that they
carry nothing that looks like a token.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web

from gateway.authorize import PASSING, Authorize, Submission, Told
from gateway.errors import BadField, ClientGone, GatewayError, NotFound, UpstreamFailed
from gateway.exchange import NotSent, Replied, Unknown
from gateway.lanes import Lane, Lanes
from gateway.merchants import Caller, Merchants, basic_user, bearer_key
from gateway.metrics import Metrics
from gateway.middleware import read_whole_body
from gateway.order import (
    REFUSALS,
    Order,
    OrderRefused,
    pass_through_refusal,
    read_order,
)
from gateway.order import Call as WireCall
from gateway.preset import Operation
from gateway.problems import PROBLEMS, describe, retry_after
from gateway.processor_errors import ProcessorError, problem
from gateway.reply import Reflected, scrub
from gateway.request_event import REQUEST_EVENT
from gateway.stopwatch import PROCESSOR_STAGES, Stopwatch
from vault.authorization import State
from vault.errors import CustodyError, TokenUnknown
from vault.tokens import Env

KEY_HEADER: Final = "Panward-Key"
_IDEMPOTENCY_KEY: Final = re.compile("[\\x20-\\x7e]{1,255}")


class Outbound:
    """The handler of `/out/{route}/…`."""

    def __init__(  # noqa: PLR0913 - the parts of one wiring
        self,
        lanes: Lanes,
        *,
        merchants: Merchants,
        authorize: Authorize,
        metrics: Metrics,
        env: Env,
        monotonic: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        """`chance` gives numbers in [0, 1), to spread the retries of many callers."""
        self._lanes = lanes
        self._merchants = merchants
        self._authorize = authorize
        self._metrics = metrics
        self._env: Env = env
        self._monotonic = monotonic
        self._chance = chance

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one call. Raises NotFound for a route that does not exist: it has no shape."""
        lane = self._lanes.get(request.match_info["route"])
        if lane is None:
            raise NotFound
        watch = Stopwatch(self._monotonic)
        try:
            response = await self._carry(request, lane, watch)
        except ClientGone:
            raise  # nobody is left to hear it in any shape
        except (GatewayError, CustodyError) as error:
            response = self._failed(request, lane, error)
        response.headers["Server-Timing"] = watch.server_timing()
        self._time(lane, watch)
        return response

    async def _carry(self, request: web.Request, lane: Lane, watch: Stopwatch) -> web.Response:
        with watch.running("auth"):
            caller = await self._caller(request, lane)
        call = await self._call(request, lane)
        operation = lane.preset.match(call.method, call.path)
        if operation is None:
            return await self._pass_through(request, lane, caller, call, watch)
        order = read_order(lane.preset, operation, call, env=self._env)
        if isinstance(order, OrderRefused):
            return self._refused(request, lane, order)
        submission = _submission(request, lane, caller, call, operation, order)
        told = await self._authorize.handle(submission, watch)
        return self._told(request, lane, told)

    async def _caller(self, request: web.Request, lane: Lane) -> Caller:
        """Who calls: by what the SDK sends as its API key, or by a header of ours."""
        if lane.injects:
            presented = lane.preset.credential.presented
            text = bearer_key(request.headers) if "bearer" in presented else None
            if text is None and "basic_user" in presented:
                text = basic_user(request.headers)
        else:
            text = request.headers.get(KEY_HEADER)
        caller = await self._merchants.authenticate(text)
        event = request[REQUEST_EVENT]
        event.tenant, event.key = caller.tenant, caller.key
        caller.require_route(lane.name)
        return caller

    async def _call(self, request: web.Request, lane: Lane) -> WireCall:
        """The call as it goes on, without what is between the caller and us."""
        raw, _, query = request.raw_path.partition("?")
        path = raw.removeprefix(f"/out/{lane.name}")
        body = await read_whole_body(request, lane.preset.body_bytes_max)
        credentials = frozenset({KEY_HEADER.lower(), *lane.preset.credential.headers})
        headers = [
            (name, value)
            for name, value in request.headers.items()
            if not lane.injects or name.lower() not in credentials
        ]
        return WireCall(request.method, path, query, headers, body)

    # --- calls that are no declared operation ---------------------------------------------------

    async def _pass_through(
        self, request: web.Request, lane: Lane, caller: Caller, call: WireCall, watch: Stopwatch
    ) -> web.Response:
        if not lane.preset.passes_through(call.method, call.path):
            raise NotFound
        refusal = pass_through_refusal(call)
        if refusal is not None:
            return self._refused(request, lane, refusal)
        secret = await lane.secret(caller.tenant)
        with watch.running("processor"):
            outcome = await lane.send(caller.tenant, call, secret, call.body)
        if isinstance(outcome, NotSent | Unknown):
            is_not_sent = isinstance(outcome, NotSent)
            state = State.NOT_SENT if is_not_sent else State.UNKNOWN
            retryable = is_not_sent and outcome.code in PASSING
            return self._problem(request, lane, outcome.code.value, state, retryable=retryable)
        return self._passed(lane, outcome)

    def _passed(self, lane: Lane, reply: Replied) -> web.Response:
        cleaned = scrub(reply.headers, reply.body, ())
        assert not isinstance(cleaned, Reflected), "nothing was sent that could come back"
        if cleaned.card_like:
            self._metrics.scan_hits("out_reply", "card_like", cleaned.card_like)
        response = web.Response(status=reply.status, body=cleaned.body)
        _add(response, lane.returned(cleaned.headers))
        response.headers["Panward-Processor-Status"] = str(reply.status)
        return response

    # --- answers --------------------------------------------------------------------------------

    def _told(self, request: web.Request, lane: Lane, told: Told) -> web.Response:
        if told.answer is None:
            code = told.problem or "internal_error"
            response = self._problem(request, lane, code, told.state, retryable=told.retryable)
        else:
            response = web.Response(status=told.answer.status, body=told.answer.body)
            _add(response, told.answer.headers)
        event = request[REQUEST_EVENT]
        event.state, event.authorization = told.state.value, told.authorization
        response.headers["Panward-Authorization"] = told.authorization
        response.headers["Panward-State"] = told.state.value
        if told.processor_status is not None:
            response.headers["Panward-Processor-Status"] = str(told.processor_status)
        if told.replayed:
            response.headers["Idempotent-Replayed"] = "true"
        if told.pending:
            response.headers["Ledger-Pending"] = "true"
        return response

    def _refused(self, request: web.Request, lane: Lane, refused: OrderRefused) -> web.Response:
        """A call that must not be made as it is: nothing was claimed, opened or sent."""
        status, words = REFUSALS[refused.code]
        self._metrics.refused(refused.code.value)
        request[REQUEST_EVENT].code = refused.code.value
        shaped = problem(
            lane.preset,
            refused.code.value,
            f"{words}: {refused.field}",
            status=status,
            retry=False,
            field=refused.field,
        )
        return _shaped(shaped, State.NOT_SENT)

    def _failed(
        self, request: web.Request, lane: Lane, error: GatewayError | CustodyError
    ) -> web.Response:
        """An error before anything was sent, in the processor's shape."""
        described = describe(error)
        event = request[REQUEST_EVENT]
        event.code, event.fault = described.code, described.row.fault
        self._metrics.refused(described.code)
        state = getattr(error, "state", None) or State.NOT_SENT
        status = SEMANTIC if isinstance(error, TokenUnknown) else described.row.status
        shaped = problem(
            lane.preset,
            described.code,
            described.row.title,
            status=status,
            retry=described.retryable,
        )
        response = _shaped(shaped, state)
        wait = retry_after(error, draw=self._chance())
        if wait is not None:
            response.headers["Retry-After"] = str(wait)
        return response

    def _problem(
        self, request: web.Request, lane: Lane, code: str, state: State, *, retryable: bool
    ) -> web.Response:
        """A send that ended without an answer of the processor's."""
        status, title = SEND_PROBLEMS.get(code, SEND_PROBLEM)
        event = request[REQUEST_EVENT]
        event.code = code
        self._metrics.refused(code)
        shaped = problem(lane.preset, code, title, status=status, retry=retryable)
        response = _shaped(shaped, state)
        if status == UNAVAILABLE:
            response.headers["Retry-After"] = str(1 + int(self._chance() * 5))
        return response

    def _time(self, lane: Lane, watch: Stopwatch) -> None:
        for stage, seconds in watch.seconds.items():
            self._metrics.stage(stage, seconds)
        self._metrics.forward_overhead(lane.name, watch.total() - watch.of(PROCESSOR_STAGES))


SEMANTIC: Final = 422
UNAVAILABLE: Final = 503


def _send_problems() -> dict[str, tuple[int, str]]:
    """By code, the status and title of what can end a send: from the one table of problems."""
    return {
        kind.code: (row.status, row.title)
        for kind, row in PROBLEMS.items()
        if issubclass(kind, UpstreamFailed | CustodyError | GatewayError)
    }


SEND_PROBLEMS: Final = _send_problems()
SEND_PROBLEM: Final = (502, "The processor could not be used")


def _submission(
    request: web.Request,
    lane: Lane,
    caller: Caller,
    call: WireCall,
    operation: Operation,
    order: Order,
) -> Submission:
    keys = request.headers.getall(lane.preset.idempotency.header, [])
    key = keys[0] if keys else None
    if len(keys) > 1:  # the processor might go by the other one
        raise BadField(lane.preset.idempotency.header, "repeated")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        raise BadField(lane.preset.idempotency.header, "format")
    return Submission(
        tenant=caller.tenant,
        actor=caller.actor,
        source_address=request.remote or "",
        lane=lane,
        operation=operation,
        call=call,
        order=order,
        idempotency_key=key.encode("ascii") if key is not None else None,
    )


def _shaped(error: ProcessorError, state: State) -> web.Response:
    response = web.Response(status=error.status, body=error.body)
    _add(response, error.headers)
    response.headers["Panward-State"] = state.value
    return response


def _add(response: web.Response, headers: Sequence[tuple[str, str]]) -> None:
    """Set headers of a reply; the first of a name replaces aiohttp's own."""
    seen: set[str] = set()
    for name, value in headers:
        if name.lower() in seen:
            response.headers.add(name, value)
        else:
            response.headers[name] = value
        seen.add(name.lower())
