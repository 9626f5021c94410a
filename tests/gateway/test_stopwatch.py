"""Where the time goes."""

import pytest

from gateway.stopwatch import PROCESSOR_STAGES, Stopwatch


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_each_stage_is_counted_for_whose_it_is() -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    for stage, seconds in (("digest", 0.002), ("claim", 0.003), ("processor", 0.1)):
        with watch.running(stage):
            clock.seconds += seconds
    with watch.running("claim"):
        clock.seconds += 0.001
    clock.seconds += 0.004
    assert watch.server_timing() == (
        "gateway;dur=4.0, vault;dur=2.0, store;dur=4.0, processor;dur=100.0"
    )
    assert watch.total() == pytest.approx(0.11)
    assert watch.of(PROCESSOR_STAGES) == pytest.approx(0.1)


def test_a_stage_that_fails_is_counted_too() -> None:
    clock = Clock()
    watch = Stopwatch(clock)

    def broken() -> None:
        with watch.running("rows"):
            clock.seconds += 1.0
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        broken()
    assert watch.seconds == {"rows": 1.0}
