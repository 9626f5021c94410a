"""Slow heads, slow bodies, slow reading: each is cut off in time, and nobody else waits for it.

All kinds run at once, so that the deadlines are waited for only once.
"""

import asyncio
import time

import pytest

from tests.inbound.framing import Way, direct, outcome_of
from tests.inbound.framing_pen import Vector, Verdict
from tests.inbound.slow import BODIES, HEADS, READERS, Borne, Slow, Target, slow_body
from tests.inbound.stage import InboundStage

pytestmark = pytest.mark.embedded

DEADLINE_SECONDS = 10.0
"""Of a head, a body and a write, as the listener has them by default."""
SLACK_SECONDS = 8.0
LINGERING_SECONDS = 2.0
GIVEN_UP_SECONDS = 30.0
CROWD = 24
GOOD_SECONDS_MAX = 8.0  # before the slow ones are cut off, on a busy machine as well
STREAMED, WHOLE = "/v", "/form"
MANY = dict(HEADS) | BODIES | READERS


@pytest.fixture(scope="module")
def straight(inbound: InboundStage) -> Way:
    return direct(inbound.port, inbound.hostname, inbound.ca_file)


@pytest.fixture(scope="module")
def borne(inbound: InboundStage, straight: Way) -> dict[str, Borne]:
    """Run every kind at once, those with a body on a route of either sort."""

    async def all_at_once() -> dict[str, Borne]:
        running = {
            name: kind(Target(straight, inbound.hostname), _patience(kind))
            for name, kind in MANY.items()
        }
        whole = Target(straight, inbound.hostname, WHOLE)
        running |= {f"whole_{name}": kind(whole, GIVEN_UP_SECONDS) for name, kind in BODIES.items()}
        ends = await asyncio.gather(*running.values())
        return dict(zip(running, ends, strict=True))

    return asyncio.run(all_at_once())


def _patience(kind: Slow) -> float:
    reading = DEADLINE_SECONDS + SLACK_SECONDS
    return reading if kind in READERS.values() else GIVEN_UP_SECONDS


@pytest.mark.guards("T-08")
@pytest.mark.parametrize("name", [*HEADS, *BODIES, *(f"whole_{name}" for name in BODIES)])
def test_who_sends_slowly_is_cut_off(name: str, borne: dict[str, Borne]) -> None:
    end = borne[name]
    assert end.seconds < DEADLINE_SECONDS + LINGERING_SECONDS + SLACK_SECONDS
    answered = end.received.startswith(b"HTTP/1.1 2")
    assert answered == (name == "idle_after_an_answer")


@pytest.mark.guards("T-08")
@pytest.mark.parametrize("name", READERS)
def test_who_reads_slowly_is_cut_off(name: str, borne: dict[str, Borne]) -> None:
    assert not borne[name].whole


@pytest.mark.guards("T-08")
async def test_nothing_that_was_cut_off_looks_whole_to_the_application(
    inbound: InboundStage, borne: dict[str, Borne]
) -> None:
    """A body that ended early is not a body: the application must not take it for one."""
    assert borne
    slow = {f"{prefix}/x" for prefix in (STREAMED, WHOLE)}
    posted = [seen for seen in inbound.merchant.requests if seen.method == "POST"]
    assert [seen.target for seen in posted if seen.target in slow] == []


@pytest.mark.guards("T-08")
async def test_nobody_waits_for_a_crowd_of_slow_ones(inbound: InboundStage, straight: Way) -> None:
    target = Target(straight, inbound.hostname)
    async with asyncio.TaskGroup() as group:
        crowd = [group.create_task(slow_body(target, GIVEN_UP_SECONDS)) for _ in range(CROWD)]
        for number in range(20):
            began = time.monotonic()
            outcome = await outcome_of(_good(inbound, number), straight)
            assert outcome.statuses == [200]
            assert time.monotonic() - began < GOOD_SECONDS_MAX
        for one in crowd:
            one.cancel()


def _good(inbound: InboundStage, number: int) -> Vector:
    case = f"good-{number}"
    head = (
        f"GET {STREAMED}/{case} HTTP/1.1\r\nHost: {inbound.hostname}\r\nConnection: close\r\n\r\n"
    )
    return Vector("good", case, head.encode(), Verdict.PASSED)
