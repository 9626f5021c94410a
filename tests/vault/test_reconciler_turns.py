"""One turn of looking into doubts: it ends, and a processor that hangs holds up no other."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.vault.doubtful import Court, court
from tests.vault.fake_node import FakeCluster, fake_cluster
from tests.vault.stores import Store, until
from vault.doubt_table import CLAIMS_MAX, Doubt
from vault.reconciler import ROUNDS_MAX, Look, Reconciler

pytestmark = [pytest.mark.embedded, pytest.mark.guards("F-23")]


class Hanging:
    """Looks into nothing on one route until it is let go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.seen: list[str] = []
        self.heard: list[str] = []

    async def look_into(self, doubt: Doubt) -> Look:
        self.seen.append(doubt.route)
        if doubt.route == "stripe":
            await self.go.wait()
        return Look("not_found")

    def reconciled(self, route: str, result: str) -> None:
        self.heard.append(route)


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as made:
        yield made


@pytest.fixture
async def here(store: Store, cluster: FakeCluster, tmp_path: Path) -> AsyncIterator[Court]:
    async with court(store, cluster, tmp_path / "spool") as made:
        yield made
        assert (await store.report()).violations == ()


async def test_a_processor_that_hangs_holds_up_nobody_else(here: Court) -> None:
    for number in range(CLAIMS_MAX + 1):
        await here.in_doubt(reference=f"slow-{number}")
        here.store.clock.advance(milliseconds=5)
    for number in range(2):
        await here.in_doubt(reference=f"quick-{number}", route="quick")
        here.store.clock.advance(milliseconds=5)
    hanging = Hanging()
    reconciler = Reconciler(
        table=here.table,
        doubts=here.doubts,
        inquirer=hanging,
        observer=hanging,
        now=here.store.clock,
    )
    here.store.clock.advance(seconds=60)
    turn = asyncio.create_task(reconciler.turn())
    await until(lambda: hanging.heard == ["quick", "quick"])
    assert not turn.done()
    hanging.go.set()
    await turn
    assert len(hanging.heard) == CLAIMS_MAX + 3


async def test_a_turn_ends_however_much_is_due(here: Court) -> None:
    most = CLAIMS_MAX * ROUNDS_MAX
    for number in range(most + 3):
        await here.in_doubt(reference=f"order-{number}")
    assert len(await here.turn(seconds=60)) == most
