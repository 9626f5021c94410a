"""One tenant's share of a route: never more than was said, never less than it waited for."""

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RateLimited
from gateway.limits import BURST, CONCURRENCY, PER_SECOND, CallLimits


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def call(limits: CallLimits, tenant: str = "t_one") -> int:
    """Make a short call: 0, or the seconds to wait."""
    try:
        with limits.enter(tenant):
            return 0
    except RateLimited as refused:
        return refused.retry_after_seconds


def test_a_burst_goes_and_then_what_time_gives(clock: Clock) -> None:
    limits = CallLimits(clock, per_second=2.0, burst=3)
    assert [call(limits) for _ in range(5)] == [0, 0, 0, 1, 1]
    clock.seconds += 0.5
    assert [call(limits) for _ in range(2)] == [0, 1]
    clock.seconds += 1000
    assert [call(limits) for _ in range(4)] == [0, 0, 0, 1]


@pytest.mark.parametrize(("per_second", "wait"), [(1000.0, 1), (1.0, 1), (0.5, 2), (0.1, 10)])
def test_the_wait_is_told_in_whole_seconds(clock: Clock, per_second: float, wait: int) -> None:
    limits = CallLimits(clock, per_second=per_second, burst=1)
    assert call(limits) == 0
    assert call(limits) == wait
    clock.seconds += wait
    assert call(limits) == 0


@given(
    st.floats(0.01, 1000),
    st.integers(1, 20),
    st.lists(st.floats(0, 3), min_size=1, max_size=60),
)
def test_whoever_waits_as_told_is_let_in(
    per_second: float, burst: int, pauses: list[float]
) -> None:
    clock = Clock()
    limits = CallLimits(clock, per_second=per_second, burst=burst)
    went = 0
    for pause in pauses:
        clock.seconds += pause
        wait = call(limits)
        if wait:
            clock.seconds += wait
            assert call(limits) == 0
        went += 1
    assert went <= burst + (clock.seconds - 1000.0) * per_second + 1e-3


def test_a_clock_that_falls_back_takes_nothing(clock: Clock) -> None:
    limits = CallLimits(clock, per_second=1.0, burst=2)
    assert call(limits) == 0
    clock.seconds -= 500
    assert call(limits) == 0
    assert call(limits) == 1


def test_only_so_many_are_under_way(clock: Clock) -> None:
    limits = CallLimits(clock, concurrency=2)
    with limits.enter("t_one"), limits.enter("t_one"):
        assert call(limits) == 1
        assert call(limits, "t_two") == 0
    assert call(limits) == 0


def test_a_call_that_fails_gives_its_place_back(clock: Clock) -> None:
    limits = CallLimits(clock, concurrency=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), limits.enter("t_one"):
            raise ZeroDivisionError
    assert call(limits) == 0


def test_a_refused_call_costs_nothing(clock: Clock) -> None:
    limits = CallLimits(clock, per_second=1.0, burst=2, concurrency=1)
    with limits.enter("t_one"):
        assert [call(limits) for _ in range(10)] == [1] * 10
    assert call(limits) == 0


@pytest.mark.guards("F-35")
def test_one_tenant_uses_up_nothing_of_anothers(clock: Clock) -> None:
    limits = CallLimits(clock, per_second=1.0, burst=2)
    assert [call(limits, "t_one") for _ in range(4)] == [0, 0, 1, 1]
    assert [call(limits, "t_two") for _ in range(3)] == [0, 0, 1]


def test_tenants_without_end_are_not_remembered(clock: Clock) -> None:
    limits = CallLimits(clock, tenants_max=10)
    for number in range(1000):
        assert call(limits, f"t_{number}") == 0
    assert len(limits._uses) == 10


def test_a_tenant_with_a_call_under_way_is_not_forgotten(clock: Clock) -> None:
    limits = CallLimits(clock, tenants_max=2, concurrency=1)
    with limits.enter("t_one"):
        for number in range(20):
            assert call(limits, f"t_other_{number}") == 0
        assert call(limits) == 1
        assert len(limits._uses) == 2
    with ExitStack() as stack:  # and where all have one, none is
        for number in range(5):
            stack.enter_context(limits.enter(f"t_{number}"))
        assert call(limits, "t_0") == 1


def test_who_has_not_called_for_longest_is_forgotten(clock: Clock) -> None:
    limits = CallLimits(clock, per_second=0.001, burst=1, tenants_max=2)
    call(limits, "t_one")
    call(limits, "t_two")
    assert call(limits, "t_one") > 0
    call(limits, "t_three")
    assert call(limits, "t_one") > 0
    assert call(limits, "t_two") == 0


def test_the_defaults_stop_nobody_in_earnest(clock: Clock) -> None:
    limits = CallLimits(clock)
    for _ in range(60):
        assert not any(call(limits) for _ in range(int(PER_SECOND)))
        clock.seconds += 1
    assert BURST >= PER_SECOND
    assert CONCURRENCY >= 128  # a route's connections, by default
