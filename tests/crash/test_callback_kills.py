"""Killed between every two steps of a callback, from the processor's post to the merchant's answer.

The whole gateway, ended by SIGKILL from inside when it has taken a step; PostgreSQL, OpenBao, the
processor and the merchant live on. The processor posts until it is answered, as a real one does.
However it went, there is one entry, one row, one effect, one delivery to each endpoint; and the
merchant hears of it at least once, each time under one id.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Collection, Iterator, Mapping

import pytest

from tests.crash.callback_steps import Step
from tests.crash.callback_story import (
    EVENTS,
    OWN,
    CallbackStory,
    Left,
    new_listening_seller,
    only_gateway,
    told_story,
)
from tests.crash.stage import Place, Stage
from tests.flows.called_back import CalledBackSeller
from tests.flows.deployment import Store
from tests.flows.receiver import Receiver, dead, ok

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.guards("T-53"),
    pytest.mark.guards("F-48"),
    pytest.mark.timeout(300),
]

NOTHING = Left(entries=0)
RECEIVED = Left(entries=1)
QUEUED = Left(entries=1, queued=3)  # the processor's post, and two events: received, resolved
ARRIVED = Left(entries=1, queued=3, arrived=True)
CASES: Mapping[Step, Collection[Left]] = {
    Step.FOUND: [NOTHING],
    Step.PROVEN: [NOTHING],
    Step.READ: [NOTHING],
    Step.DECIDED: [NOTHING],
    Step.INSERTED: [NOTHING],
    Step.COMMITTING: [NOTHING, RECEIVED],
    Step.COMMITTED: [RECEIVED],
    Step.ANSWERING: [RECEIVED],
    Step.QUEUED: [RECEIVED],
    Step.TOLD: [QUEUED],
    Step.CLAIMED: [QUEUED],
    Step.POSTING: [QUEUED],
    Step.ANSWERED: [ARRIVED],
    Step.SETTLING: [ARRIVED],
    Step.SETTLED: [Left(entries=1, queued=3, arrived=True, settled=True)],
}
"""What must be left of one callback."""

SHORT = {Step.INSERTED, Step.COMMITTED, Step.QUEUED, Step.CLAIMED, Step.SETTLING}
"""The others end as one of these does: they take their seconds in `make test-long`."""

SELDOM = {
    *(Step.INSERTED, Step.COMMITTING, Step.COMMITTED, Step.QUEUED, Step.TOLD),
    *(Step.CLAIMED, Step.SETTLING, Step.SETTLED),
}
"""All of a batch are inserted, committed, told and settled at once: taken once, maybe."""

ROUNDS = 4
EVENTS_AT_ONCE = 4


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with Receiver.started(tmp_path_factory.mktemp("receiver")) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def only(stage: Stage, receiver: Receiver) -> Iterator[Place]:
    with only_gateway(stage, receiver) as place:
        yield place


@pytest.fixture(scope="module")
def seller(stage: Stage, receiver: Receiver) -> CalledBackSeller:
    return asyncio.run(new_listening_seller(stage, receiver))


@pytest.fixture
async def story(
    stage: Stage, only: Place, seller: CalledBackSeller, receiver: Receiver, store: Store
) -> AsyncIterator[CallbackStory]:
    async with told_story(stage, only, seller, receiver, store) as story:
        yield story
    for path in (OWN, EVENTS):
        receiver.script(path, ok())
    receiver.forget()


@pytest.mark.parametrize(
    "step",
    [step if step in SHORT else pytest.param(step, marks=pytest.mark.long) for step in CASES],
)
async def test_a_gateway_that_dies_between_two_steps(story: CallbackStory, step: Step) -> None:
    await story.begin()
    story.place.gateway.doom(step)
    story.call_back()
    await story.dies()
    assert await story.left() in CASES[step]
    await story.goes_on()
    await story.check()


async def test_a_gateway_that_dies_while_the_merchant_has_not_answered(
    story: CallbackStory, receiver: Receiver
) -> None:
    """It hears of it again, under the same id."""
    await story.begin()
    receiver.script(OWN, dead())
    story.call_back()
    (first,) = await receiver.arrived(1, OWN)
    story.place.gateway.kill()
    await story.dies()
    receiver.script(OWN, ok())
    await story.goes_on()
    came = receiver.arrivals(OWN)
    assert len(came) == 2
    assert {one.header("webhook-id") for one in came} == {first.header("webhook-id")}
    await story.check()


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_many_at_once_and_a_death_among_them(story: CallbackStory) -> None:
    seed = random.randrange(2**32)  # noqa: S311 - moments, not secrets
    print(f"seed {seed}")  # noqa: T201 - shown with a failure
    chance = random.Random(seed)  # noqa: S311 - as said
    deaths = [step for _ in range(ROUNDS) for step in chance.sample(list(CASES), len(CASES))]
    for step in deaths:
        await story.begin(EVENTS_AT_ONCE)
        nth = 1 if step in SELDOM else chance.randint(1, EVENTS_AT_ONCE)
        story.place.gateway.doom(step, nth=nth)
        story.call_back()
        await story.dies()
        await story.goes_on()
        await story.check()
