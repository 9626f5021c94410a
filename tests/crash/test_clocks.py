"""A gateway whose clock is wrong by an hour, while another one's is right, under load.

Leases, lifetimes and times in the record are by the gateways' clocks. One that is ahead takes the
others' work for a dead process's, one that is behind has its own taken so. Neither may charge
twice or lose what was told; the record says what is wrong with its times, and nothing else.
"""

import asyncio
import random
from datetime import datetime
from pathlib import Path

import pytest

from gateway.commands.ledger import check_log
from tests.crash.published import published
from tests.crash.shop import Door, Shop
from tests.crash.stage import Place, Stage, staged
from tests.crash.witnesses import Arrivals, Log, states_of_intents, stored_tokens
from tests.flows.deployment import eventually

pytestmark = [pytest.mark.embedded, pytest.mark.guards("T-60"), pytest.mark.timeout(300)]

HOUR = 3600
LOAD_SECONDS = 1.5


@pytest.mark.parametrize("seconds", [LOAD_SECONDS, pytest.param(20.0, marks=pytest.mark.long)])
async def test_clocks_that_jump_charge_nobody_twice(tmp_path: Path, seconds: float) -> None:
    with staged(tmp_path / "deployment") as stage:
        right, wrong = stage.place("right"), stage.place("wrong")
        _ = right.gateway, wrong.gateway
        doors = [
            Door(each.urls.public, each.urls.private, each.urls.ops) for each in (right, wrong)
        ]
        shop = Shop(stage.deployment.parts.folder, random.Random(0), doors)  # noqa: S311 - a mix
        await trade(stage, wrong, shop, seconds)
        await check_it_all(stage, shop)


async def trade(stage: Stage, wrong: Place, shop: Shop, seconds: float) -> None:
    """Have orders taken while one clock jumps on, back, and right again."""
    enough = asyncio.Event()
    stage.deployment.processor.do("delay", seconds=0.2)
    async with asyncio.TaskGroup() as group:
        group.create_task(shop.busy(enough))
        for off in (HOUR, -HOUR, 0):
            await asyncio.sleep(seconds)
            await asyncio.to_thread(wrong.gateway.tell, f"clock {off}")
        await asyncio.sleep(seconds)
        enough.set()
    stage.deployment.processor.behave()


async def check_it_all(stage: Stage, shop: Shop) -> None:
    parts, log = stage.deployment.parts, Log()
    dsn = parts.runtime_dsn

    async def is_settled() -> bool:
        return "attempted" not in await states_of_intents(dsn) and await shop.all_ready()

    await eventually(is_settled, "something is never ended", seconds=30)
    for _ in range(5):
        await shop.ask_again(shop.book.unsettled())
    await log.read_on(dsn)
    log.holds(shop.book)
    log.has_leaves(shop.book)
    assert log.created == await stored_tokens(dsn)
    times = [datetime.fromisoformat(entry.ts).timestamp() for entry in log.entries]
    assert max(times) - min(times) > 1.5 * HOUR, "no clock was wrong"
    arrivals = Arrivals.read(parts.folder / "sandbox-arrivals.jsonl")
    assert arrivals.charges
    assert max(arrivals.charges.values()) == 1
    log.has_intents(arrivals, shop.book)
    verdict = await check_log(dsn, [])
    rules = {violation.rule.value for violation in verdict.report.violations}
    assert rules <= {"V8"}, verdict.report.violations[:3]
    print(f"{log.crashed(since=0)} of {len(shop.book.payments)} taken for dead, rules {rules}")  # noqa: T201 - shown with -s
    found = await published(dsn)
    assert found.checkpoints > 1
