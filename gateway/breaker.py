"""Whether a processor is asked at all just now: one circuit a route. Pure state.

What lives here: what counts as a failure, and the three states between which a route goes. What
never may: sends, records, clocks and chance of its own.

    closed     every call goes. A run of failures without one success between them, all within
               `WINDOW_SECONDS`, opens it.
    open       no call goes, until the pause is over.
    half_open  one call goes, the probe. If it ends well the circuit closes, else it opens again
               and for longer. If it ends without a word, or never, the next call is the probe.

A report counts for the state in which its call was admitted: what was under way while the circuit
opened neither closes it again nor makes the pause longer.

Whoever is refused has sent nothing with this call. That is all it says: of an earlier call with
the same idempotency key it knows nothing.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

from gateway.errors import UpstreamUnavailable
from gateway.exchange import Failure, NotSent, Outcome, Replied, Unknown

FAILURES_MAX: Final = 5
WINDOW_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 1.0
PAUSE_MAX_SECONDS: Final = 20.0  # a processor that is back is in use within half a minute
PAUSE_GROWTH: Final = 2.0
PAUSE_SPREAD: Final = 0.5  # the part of a pause that chance decides: replicas do not probe as one
PROBE_SECONDS: Final = 90.0  # above the longest time that a send may take
SERVER_ERRORS: Final = 500

_ITS_FAILURES: Final = frozenset(
    {
        Failure.DNS,
        Failure.UNREACHABLE,
        Failure.CONNECT_TIMEOUT,
        Failure.TLS_ERROR,
        Failure.TIMEOUT,
        Failure.RESET,
    }
)


class Circuit(StrEnum):
    """The state of a route: a closed list, for metrics."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Admission:
    """A call that may go, and when in the circuit's life that was."""

    turn: int


class Breaker:
    """The circuit of one route."""

    def __init__(
        self,
        now: Callable[[], float],
        chance: Callable[[], float],
        *,
        probe_seconds: float = PROBE_SECONDS,
        changed: Callable[[Circuit], None] = lambda _: None,
    ) -> None:
        """`chance` gives numbers in [0, 1); `changed` hears of each new state, and of the first."""
        self._now = now
        self._chance = chance
        self._probe_seconds = probe_seconds
        self._changed = changed
        self._failures: deque[float] = deque(maxlen=FAILURES_MAX)
        self._circuit = Circuit.CLOSED
        self._turn = 0
        self._openings = 0  # in a row, without a probe that ended well
        self._closed_until = 0.0  # to callers: the end of the pause, or of the probe's time
        changed(self._circuit)

    @property
    def circuit(self) -> Circuit:
        return self._circuit

    def admit(self) -> Admission:
        """Let a call go. Raises UpstreamUnavailable, with the seconds to wait."""
        if self._circuit is not Circuit.CLOSED:
            left = self._closed_until - self._now()
            if left > 0:
                probing = self._circuit is Circuit.HALF_OPEN  # which will not take that long
                raise UpstreamUnavailable(1 if probing else math.ceil(left))
            self._closed_until = self._now() + self._probe_seconds
            self._enter(Circuit.HALF_OPEN)
        return Admission(self._turn)

    @contextmanager
    def admitted(self) -> Iterator[Admission]:
        """Let a call go, and free its place at the end if it has not been told how it went."""
        admission = self.admit()
        try:
            yield admission
        finally:
            self.released(admission)

    def settled(self, admission: Admission, *, ok: bool) -> None:
        """Hear how a call went."""
        if admission.turn != self._turn:
            return
        if ok:
            self._succeeded()
        else:
            self._failed()

    def released(self, admission: Admission) -> None:
        """Hear that a call ended and says nothing of the processor: it may never have been sent.

        Of a call that was settled, this changes nothing.
        """
        if admission.turn == self._turn and self._circuit is Circuit.HALF_OPEN:
            self._closed_until = self._now()

    def _succeeded(self) -> None:
        self._failures.clear()
        self._openings = 0
        if self._circuit is not Circuit.CLOSED:
            self._enter(Circuit.CLOSED)

    def _failed(self) -> None:
        now = self._now()
        self._failures.append(now)
        is_run = len(self._failures) == FAILURES_MAX and now - self._failures[0] <= WINDOW_SECONDS
        if is_run or self._circuit is Circuit.HALF_OPEN:
            self._closed_until = now + self._pause()
            self._openings += 1
            self._enter(Circuit.OPEN)

    def _pause(self) -> float:
        grown = PAUSE_SECONDS * PAUSE_GROWTH ** min(self._openings, 16)
        return min(grown, PAUSE_MAX_SECONDS) * (1 - PAUSE_SPREAD * self._chance())

    def _enter(self, circuit: Circuit) -> None:
        self._turn += 1
        self._failures.clear()
        if circuit is not self._circuit:
            self._circuit = circuit
            self._changed(circuit)


def ended_well(outcome: Outcome) -> bool | None:
    """Whether a send speaks for its processor or against it; None: it says nothing of it.

    A refusal is an answer: 4xx and 429 too. What we would not send, or not read, is our judgment.
    """
    match outcome:
        case Replied(status):
            return status < SERVER_ERRORS
        case NotSent(_, code) | Unknown(_, code, _):
            return False if code in _ITS_FAILURES else None
        case _ as unreachable:
            assert_never(unreachable)
