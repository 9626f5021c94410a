"""What a merchant's SDK hears of a call to its processor: always in the processor's own shape.

`Panward-Processor-Status` is there only when the processor really answered; `Panward-State` says
what is known of the call. What never lives here: what happened.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from aiohttp import web

from gateway.access_tokens import granted_here
from gateway.arrival import OWN_IDEMPOTENCY_HEADER, Arrival
from gateway.authorize import PASSING, Told
from gateway.call import REFUSALS, CallRefused
from gateway.errors import GatewayError, UpstreamFailed
from gateway.exchange import NotSent, Unknown
from gateway.metrics import Metrics
from gateway.problems import PROBLEMS, Described, Fault, describe, retry_after
from gateway.processor_errors import Problem, shaped
from gateway.reply import Scrubbed
from gateway.request_event import REQUEST_EVENT
from vault.authorization import State
from vault.errors import CustodyError, TokenUnknown

SEMANTIC: Final = 422
UNAVAILABLE: Final = 503
_OF_THE_MOMENT: Final = frozenset({401, 403, 429})  # refused now: an earlier one need not have been


def _send_problems() -> dict[str, tuple[int, str]]:
    """By code, the status and title of what can end a send: from the one table of problems."""
    return {
        kind.code: (row.status, row.title)
        for kind, row in PROBLEMS.items()
        if issubclass(kind, UpstreamFailed | CustodyError | GatewayError)
    }


_SEND_PROBLEMS: Final = _send_problems()
_SEND_PROBLEM: Final = (502, "The processor could not be used")


class OutAnswers:
    """Shapes answers, counts them, and tells the request's event."""

    def __init__(self, metrics: Metrics, chance: Callable[[], float]) -> None:
        """`chance` gives numbers in [0, 1), to spread the retries of many callers."""
        self._metrics = metrics
        self._chance = chance

    def told(self, arrival: Arrival, told: Told) -> web.Response:
        """What became of an operation."""
        if told.answer is None:
            code = told.problem or "internal_error"
            response = self._ended(arrival, code, told.state, retryable=told.retryable)
        else:
            response = web.Response(status=told.answer.status, body=told.answer.body)
            _add(response, told.answer.headers)
        event = arrival.request[REQUEST_EVENT]
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

    def passed(self, arrival: Arrival, status: int, reply: Scrubbed) -> web.Response:
        """A reply to a call that was no operation."""
        response = web.Response(status=status, body=reply.body)
        _add(response, arrival.lane.returned(reply.headers))
        response.headers["Panward-Processor-Status"] = str(status)
        return response

    def granted(self, key: str) -> web.Response:
        """An access token for an SDK that exchanges its key for one: the key itself."""
        body = msgspec.json.encode(granted_here(key))
        return web.Response(body=body, headers={"Content-Type": "application/json"})

    def not_passed(self, arrival: Arrival, outcome: NotSent | Unknown) -> web.Response:
        """A call that was no operation, and got no reply."""
        is_not_sent = isinstance(outcome, NotSent)
        state = State.NOT_SENT if is_not_sent else State.UNKNOWN
        retryable = is_not_sent and outcome.code in PASSING
        return self._ended(arrival, outcome.code.value, state, retryable=retryable)

    def withheld(self, arrival: Arrival, code: str, status: int) -> web.Response:
        """A reply that could not be cleaned."""
        response = self._ended(arrival, code, State.COMPLETED, retryable=False)
        response.headers["Panward-Processor-Status"] = str(status)
        return response

    def refused(self, arrival: Arrival, refused: CallRefused) -> web.Response:
        """A call that must not be made as it is: nothing was claimed, opened or sent."""
        status, words = REFUSALS[refused.code]
        self._metrics.refused(refused.code.value)
        arrival.request[REQUEST_EVENT].code = refused.code.value
        problem = Problem(
            refused.code.value,
            f"{words}: {refused.field}",
            status,
            retry=False,
            field=refused.field,
        )
        return _shaped(arrival, problem)

    def failed(self, arrival: Arrival, error: GatewayError | CustodyError) -> web.Response:
        """An error before anything was sent."""
        described = describe(error)
        event = arrival.request[REQUEST_EVENT]
        event.code, event.fault = described.code, described.row.fault
        self._metrics.refused(described.code)
        problem = Problem(
            described.code,
            described.row.title,
            SEMANTIC if isinstance(error, TokenUnknown) else described.row.status,
            state=error.state or _before_the_claim(arrival, described),
            retry=described.retryable,
        )
        response = _shaped(arrival, problem)
        wait = retry_after(error, draw=self._chance())
        if wait is not None:
            response.headers["Retry-After"] = str(wait)
        return response

    def _ended(self, arrival: Arrival, code: str, state: State, *, retryable: bool) -> web.Response:
        """A send that ended without an answer of the processor's."""
        status, title = _SEND_PROBLEMS.get(code, _SEND_PROBLEM)
        arrival.request[REQUEST_EVENT].code = code
        self._metrics.refused(code)
        response = _shaped(arrival, Problem(code, title, status, state, retryable))
        if status == UNAVAILABLE:
            response.headers["Retry-After"] = str(1 + int(self._chance() * 5))
        return response


def _before_the_claim(arrival: Arrival, described: Described) -> State:
    """Say what is known of a request nobody has looked up: with a key, it may be a repeat.

    Unless it is refused for what it is: then an earlier one like it was refused too.
    """
    if described.row.fault is Fault.CLIENT and described.row.status not in _OF_THE_MOMENT:
        return State.NOT_SENT
    idempotency = arrival.lane.preset.idempotency
    name = idempotency.header or OWN_IDEMPOTENCY_HEADER
    repeats = idempotency.field is not None or name in arrival.request.headers
    return State.UNKNOWN if repeats else State.NOT_SENT


def _shaped(arrival: Arrival, problem: Problem) -> web.Response:
    error = shaped(arrival.lane.preset, problem, arrival.format)
    response = web.Response(status=error.status, body=error.body)
    _add(response, error.headers)
    response.headers["Panward-State"] = problem.state.value
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
