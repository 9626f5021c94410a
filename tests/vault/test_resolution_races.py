"""In whatever order merchants repeat and somebody finds out: one send at a time, one charge.

On the real tables. The processor is a number: how often it has charged. One that keeps keys
charges once for all sends of a key; one that does not charges for each that arrives.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.vault.doubtful import UNKNOWN, Court, court
from tests.vault.fake_node import FakeCluster, fake_cluster
from tests.vault.stores import Store
from vault.authorization import Claimed, Finding, RepeatRules, Result, State, Stored
from vault.authorizations import Answer, Call, Ending, Intent
from vault.doubt_table import Doubt
from vault.errors import TokenInUse
from vault.intent_table import ClaimLost
from vault.reconciler import Look
from vault.resolutions import Evidence

pytestmark = [pytest.mark.embedded, pytest.mark.guards("T-26", "F-23")]

Send = Literal["answered", "answer lost", "never arrived", "not sent"]
Step = Literal["look"] | Send

ANSWER = Answer(200, (), b"{}")
APPROVED = Ending(State.COMPLETED, Result.APPROVED, status=200)
NOT_SENT = Ending(State.NOT_SENT, phase="connect", reason="upstream_unreachable")

_STEPS = st.sampled_from([*get_args(Send), "look", "look"])
_SCHEDULES = st.lists(st.lists(_STEPS, min_size=1, max_size=4), min_size=1, max_size=6)


@dataclass
class World:
    """One request at one processor, and who looks into it."""

    here: Court
    call: Call
    keeps_keys: bool
    charges: int = 0
    under_way: int = 0
    had_answer: bool = False

    @property
    def rules(self) -> RepeatRules:
        return RepeatRules(replay_seconds=86_400 if self.keeps_keys else None)

    async def look_into(self, doubt: Doubt) -> Look:
        """Say how it is: a list that is complete, asked when nothing is under way."""
        assert doubt.first
        if self.charges:
            said = Evidence("inquiry", Finding.ANSWERED, Result.APPROVED)
            return Look("answered", said, ANSWER)
        if self.under_way:
            return Look("too_early")
        return Look("not_received", Evidence("inquiry", Finding.NOT_RECEIVED))

    async def step(self, step: Step) -> None:
        if step == "look":
            self.here.store.clock.advance(minutes=1)
            await self.here.reconciler.turn()
            return
        claim, hold = await self.here.record.claim(self.call, self.rules)
        if isinstance(claim, Stored):
            assert self.charges == 1, "an answer to what was never charged"
        if not isinstance(claim, Claimed):
            return
        try:
            intent = await self.here.record.attempt(self.call, (), claim, hold)
        except (ClaimLost, TokenInUse):
            await self.here.record.free(hold)
            return
        await self.sent(intent, step)

    async def sent(self, intent: Intent, step: Send) -> None:
        self.under_way += 1
        assert self.under_way == 1, "two sends of one request at once"
        await asyncio.sleep(0)
        if step in ("answered", "answer lost") and not (self.keeps_keys and self.charges):
            self.charges += 1
        self.under_way -= 1
        ending = {"answered": APPROVED, "not sent": NOT_SENT}.get(step, UNKNOWN)
        answer = ANSWER if ending is APPROVED else None
        assert await self.here.record.settle(intent, ending, answer)


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as made:
        yield made


@pytest.fixture
async def here(store: Store, cluster: FakeCluster, tmp_path: Path) -> AsyncIterator[Court]:
    async with court(store, cluster, tmp_path / "spool") as made:
        yield made


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(schedule=_SCHEDULES, keeps=st.sampled_from(["keys", "none"]), number=st.integers(0, 2**64))
async def test_one_send_at_a_time_and_one_charge(
    here: Court,
    schedule: list[list[Step]],
    keeps: str,
    number: int,
) -> None:
    key = f"{number}-{here.store.clock.at.timestamp()}".encode()
    world = World(here, await here.call(key), keeps == "keys")
    here.oracle.look_into = world.look_into  # type: ignore[method-assign]
    for at_once in schedule:
        await asyncio.gather(*(world.step(step) for step in at_once))
    assert world.charges <= 1
    here.store.clock.advance(days=1)  # whatever is open ends: nobody sends any more
    await here.reconciler.turn()
    assert await here.table.open() == []
    last, _ = await here.record.claim(world.call, world.rules)
    assert isinstance(last, Stored) is (world.charges == 1)
    report = await here.store.report()
    assert report.violations == ()
    assert report.open_intents == ()
