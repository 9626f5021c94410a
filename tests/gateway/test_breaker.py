"""A circuit opens when it must, and never stays so for want of a word."""

import math
from contextlib import suppress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.breaker import (
    FAILURES_MAX,
    PAUSE_MAX_SECONDS,
    PROBE_SECONDS,
    WINDOW_SECONDS,
    Admission,
    Breaker,
    Circuit,
    ended_well,
)
from gateway.errors import UpstreamUnavailable
from gateway.exchange import Failure, NotSent, Phase, Replied, Unknown
from gateway.problems import PROBLEMS, Fault, answer, retry_after
from vault.authorization import State


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def seen() -> list[Circuit]:
    return []


@pytest.fixture
def breaker(clock: Clock, seen: list[Circuit]) -> Breaker:
    return Breaker(clock, lambda: 0.0, changed=seen.append)


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.settled(breaker.admit(), ok=False)


def circuit_of(breaker: Breaker) -> Circuit:
    return breaker.circuit


def wait_of(breaker: Breaker) -> int:
    with pytest.raises(UpstreamUnavailable) as refused:
        breaker.admit()
    return refused.value.retry_after_seconds


@pytest.mark.guards("F-21")
@pytest.mark.guards("F-25")
def test_a_run_of_failures_opens_it(breaker: Breaker, seen: list[Circuit]) -> None:
    fail(breaker, FAILURES_MAX - 1)
    assert circuit_of(breaker) is Circuit.CLOSED
    fail(breaker)
    assert circuit_of(breaker) is Circuit.OPEN
    assert wait_of(breaker) == 1
    assert seen == [Circuit.CLOSED, Circuit.OPEN]


def test_one_success_ends_a_run(breaker: Breaker) -> None:
    for _ in range(5):
        fail(breaker, FAILURES_MAX - 1)
        breaker.settled(breaker.admit(), ok=True)
    assert circuit_of(breaker) is Circuit.CLOSED


def test_what_says_nothing_ends_no_run(breaker: Breaker) -> None:
    fail(breaker, FAILURES_MAX - 1)
    with breaker.admitted():
        pass
    fail(breaker)
    assert circuit_of(breaker) is Circuit.OPEN


def test_failures_far_apart_are_no_run(breaker: Breaker, clock: Clock) -> None:
    for _ in range(20):
        fail(breaker)
        clock.seconds += WINDOW_SECONDS / (FAILURES_MAX - 1) + 0.1
    assert circuit_of(breaker) is Circuit.CLOSED
    clock.seconds += WINDOW_SECONDS
    fail(breaker, FAILURES_MAX - 1)
    assert circuit_of(breaker) is Circuit.CLOSED
    fail(breaker)
    assert circuit_of(breaker) is Circuit.OPEN


@pytest.mark.guards("F-36")
def test_the_pause_grows_to_its_bound_and_starts_again(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, FAILURES_MAX)
    waits = []
    for _ in range(8):
        waits.append(wait_of(breaker))
        clock.seconds += waits[-1]
        fail(breaker)  # the probe
    assert waits == [1, 2, 4, 8, 16, 20, 20, 20]
    clock.seconds += PAUSE_MAX_SECONDS
    breaker.settled(breaker.admit(), ok=True)
    fail(breaker, FAILURES_MAX)
    assert wait_of(breaker) == 1


@pytest.mark.guards("F-36")
def test_chance_spreads_the_pause(clock: Clock) -> None:
    waits = []
    for draw in (0.0, 0.5, 0.999):
        breaker = Breaker(clock, lambda draw=draw: draw)  # type: ignore[misc]  # bound now
        fail(breaker, FAILURES_MAX)
        before = clock.seconds
        while circuit_of(breaker) is Circuit.OPEN:
            clock.seconds += 0.01
            with suppress(UpstreamUnavailable):
                breaker.admit()
        waits.append(clock.seconds - before)
    assert waits == pytest.approx([1.0, 0.75, 0.5], abs=0.02)


def test_exactly_one_call_is_the_probe(breaker: Breaker, clock: Clock, seen: list[Circuit]) -> None:
    fail(breaker, FAILURES_MAX)
    clock.seconds += 0.99
    assert wait_of(breaker) == 1
    clock.seconds += 0.01
    probe = breaker.admit()
    assert circuit_of(breaker) is Circuit.HALF_OPEN
    assert [wait_of(breaker) for _ in range(10)] == [1] * 10
    breaker.settled(probe, ok=True)
    assert circuit_of(breaker) is Circuit.CLOSED
    for _ in range(10):
        breaker.admit()
    assert seen == [Circuit.CLOSED, Circuit.OPEN, Circuit.HALF_OPEN, Circuit.CLOSED]


def test_one_failure_after_closing_does_not_open_it(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, FAILURES_MAX)
    clock.seconds += 1
    breaker.settled(breaker.admit(), ok=True)
    fail(breaker, FAILURES_MAX - 1)
    assert circuit_of(breaker) is Circuit.CLOSED


def test_a_probe_that_is_canceled_makes_room(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, FAILURES_MAX)
    clock.seconds += 1
    with pytest.raises(ZeroDivisionError), breaker.admitted():
        wait_of(breaker) / 0
    assert circuit_of(breaker) is Circuit.HALF_OPEN
    breaker.settled(breaker.admit(), ok=True)
    assert circuit_of(breaker) is Circuit.CLOSED


def test_a_probe_that_never_reports_makes_room_in_time(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, FAILURES_MAX)
    clock.seconds += 1
    lost = breaker.admit()
    clock.seconds += PROBE_SECONDS - 0.01
    wait_of(breaker)
    clock.seconds += 0.01
    probe = breaker.admit()
    for ok in (True, False):  # it comes too late to be believed
        breaker.settled(lost, ok=ok)
        breaker.released(lost)
        assert circuit_of(breaker) is Circuit.HALF_OPEN
        wait_of(breaker)
    breaker.settled(probe, ok=True)
    assert circuit_of(breaker) is Circuit.CLOSED


def test_what_was_under_way_when_it_opened_changes_nothing(breaker: Breaker, clock: Clock) -> None:
    late = [breaker.admit() for _ in range(20)]
    fail(breaker, FAILURES_MAX)
    for admission in late:
        breaker.settled(admission, ok=False)
        breaker.settled(admission, ok=True)
        breaker.released(admission)
    assert circuit_of(breaker) is Circuit.OPEN
    assert wait_of(breaker) == 1
    clock.seconds += 1
    breaker.admit()
    for admission in late:
        breaker.settled(admission, ok=True)
        breaker.released(admission)
    assert circuit_of(breaker) is Circuit.HALF_OPEN
    wait_of(breaker)


def test_releasing_what_was_settled_changes_nothing(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, FAILURES_MAX)
    clock.seconds += 1
    with breaker.admitted() as probe:
        breaker.settled(probe, ok=False)
    assert circuit_of(breaker) is Circuit.OPEN
    assert wait_of(breaker) == 2


# --- what a send says of its processor ----------------------------------------------------


@pytest.mark.guards("F-25")
@pytest.mark.parametrize(
    ("status", "ok"),
    [(200, True), (402, True), (404, True), (429, True), (499, True), (500, False), (503, False)],
)
def test_a_refusal_is_an_answer_and_a_breakdown_is_none(status: int, *, ok: bool) -> None:
    assert ended_well(Replied(status, (), b"", 1.0, 1.0)) is ok


def test_only_what_the_processor_did_counts_against_it() -> None:
    against = {
        Failure.DNS,
        Failure.UNREACHABLE,
        Failure.CONNECT_TIMEOUT,
        Failure.TLS_ERROR,
        Failure.TIMEOUT,
        Failure.RESET,
    }
    for failure in Failure:
        expected = False if failure in against else None
        assert ended_well(NotSent(Phase.TLS, failure)) is expected
        assert ended_well(Unknown(Phase.SENT, failure, None)) is expected


# --- the refusal --------------------------------------------------------------------------


def test_the_refusal_says_that_nothing_was_sent_and_when_to_come_back() -> None:
    refused = UpstreamUnavailable(7)
    assert (refused.code, refused.retryable) == ("upstream_unavailable", True)
    assert refused.state is State.NOT_SENT
    row = PROBLEMS[UpstreamUnavailable]
    assert (row.status, row.fault) == (503, Fault.PROCESSOR)
    assert [retry_after(refused, draw=draw) for draw in (0.0, 0.999)] == [7, 11]
    assert answer(refused, "r", draw=0.0).headers["Retry-After"] == "7"


# --- whatever happens ---------------------------------------------------------------------


class Circuits(RuleBasedStateMachine):
    """Calls that end in any order, or never, while time goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.draw = 0.0
        self.breaker = Breaker(self.clock, lambda: self.draw)
        self.live: list[Admission] = []
        self.probed_at = -math.inf
        self.probe: Admission | None = None

    @rule()
    def call(self) -> None:
        before = self.breaker.circuit
        admission = None
        wait = 0
        try:
            admission = self.breaker.admit()
        except UpstreamUnavailable as refused:
            wait = refused.retry_after_seconds
        if admission is None:
            assert before is not Circuit.CLOSED
            assert 1 <= wait <= PAUSE_MAX_SECONDS
            return
        if before is not Circuit.CLOSED:
            over = self.clock.seconds - self.probed_at >= PROBE_SECONDS
            assert self.probe is None or over, "two probes at a time"
            self.probe, self.probed_at = admission, self.clock.seconds
        self.live.append(admission)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), end=st.sampled_from(["ok", "failed", "released"]))
    def end(self, data: st.DataObject, end: str) -> None:
        admission = self.live.pop(data.draw(st.integers(0, len(self.live) - 1)))
        if end == "released":
            self.breaker.released(admission)
        else:
            self.breaker.settled(admission, ok=end == "ok")
        if admission is self.probe:
            self.probe = None
            expected = {"ok": Circuit.CLOSED, "failed": Circuit.OPEN, "released": Circuit.HALF_OPEN}
            assert self.breaker.circuit is expected[end]

    @rule(seconds=st.floats(0, 30), draw=st.floats(0, 0.99))
    def time_goes_on(self, seconds: float, draw: float) -> None:
        self.clock.seconds += seconds
        self.draw = draw

    @invariant()
    def it_is_never_wedged(self) -> None:
        left = self.breaker._closed_until - self.clock.seconds
        assert left <= max(PAUSE_MAX_SECONDS, PROBE_SECONDS)


TestCircuits = Circuits.TestCase
TestCircuits.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
