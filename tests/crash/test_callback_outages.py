"""An hour without PostgreSQL, and one without OpenBao, while a processor goes on trying.

The whole gateway, whose clock is set forward; what it stands on is really away. Nothing is
acknowledged meanwhile; afterwards all of it is on record once, and arrives in its order. (An hour
without the merchant's endpoint: tests/gateway/test_deliveries.py.)
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from tests.crash.callback_story import (
    CallbackStory,
    new_listening_seller,
    only_gateway,
    told_story,
)
from tests.crash.stage import Place, Stage
from tests.flows.called_back import CalledBackSeller
from tests.flows.deployment import Store, eventually
from tests.flows.receiver import Receiver

pytestmark = [pytest.mark.embedded, pytest.mark.guards("F-48"), pytest.mark.timeout(300)]

QUARTERS = (0.25, 0.5, 0.75, 1.0)
REFUSED_SECONDS = 60.0


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
    only.stop()  # the next one begins with a right clock, and knows no secret yet


async def an_hour_goes_by(story: CallbackStory) -> None:
    """Each is refused again and again, and none is acknowledged."""
    for hours in QUARTERS:
        await story.goes_by(hours=hours)
        before = [len(post.refused) for post in story.posts]

        async def is_refused(before: list[int] = before) -> bool:
            now = [len(post.refused) for post in story.posts]
            return all(more > less for more, less in zip(now, before, strict=True))

        await eventually(is_refused, "it is not refused", seconds=REFUSED_SECONDS)
    assert not any(post.is_acknowledged for post in story.posts)


async def test_an_hour_without_the_database(story: CallbackStory, stage: Stage) -> None:
    await story.begin(3)
    await asyncio.to_thread(stage.children.tell, "stop postgres")
    try:
        story.call_back()
        await an_hour_goes_by(story)
    finally:
        await asyncio.to_thread(stage.children.tell, "start postgres")
    store = await stage.deployment.store()
    try:
        story.counter = replace(story.counter, store=store)
        await story.drains()
        await story.check()
    finally:
        await store.close()


async def test_an_hour_without_the_key_service(story: CallbackStory, stage: Stage) -> None:
    """Its secrets are not known yet: nothing can be proven, and nothing is believed."""
    await story.begin(3)
    with stage.deployment.frozen(stage.deployment.openbao):
        story.call_back()
        await an_hour_goes_by(story)
        assert (await story.left()).entries == 0
    await story.drains()
    await story.check()
