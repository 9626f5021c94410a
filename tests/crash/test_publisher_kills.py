"""The publisher killed at each of its steps, in a whole gateway, while merchants pay.

Two gateways at a time. The one that publishes is ended by SIGKILL from inside at a step; the other
takes over, and is the next to be killed. Where the dead one was in its work shows in what is
remembered, signed and published; whatever that is, the log goes on as one history.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

import aiohttp
import pytest

from tests.crash.panward import panward
from tests.crash.published import published, publishers
from tests.crash.stage import Place, Stage, wire_to
from tests.flows.deployment import Store, eventually
from tests.flows.merchant import Merchant, new_account, payment
from vault.milestones import Milestone

pytestmark = [pytest.mark.embedded, pytest.mark.guards("F-40"), pytest.mark.timeout(300)]

STEPS = [milestone for milestone in Milestone if milestone.value.startswith("P")]
TAKES_OVER_SECONDS = 60.0  # two on a quiet machine
SHOPPERS = 2


@dataclass
class Log:
    """What the two memories and the database have, as `panward ledger status` tells it."""

    size: int
    signed: int
    in_vault: int
    good: bool


async def log_of(place: Place) -> Log:
    ended = await panward("ledger", "status", "--config", str(place.file), "--json")
    said = json.loads(ended.out)
    return Log(said["size"], said["signed_size"], said["remembered"]["vault"], said["good"])


@asynccontextmanager
async def shoppers(stage: Stage, places: list[Place]) -> AsyncIterator[list[int]]:
    """Have merchants pay at either gateway, whichever answers; give what they counted: answers."""
    account = await new_account(stage.deployment, routes=("stripe",))
    stop, answered = asyncio.Event(), [0]

    async def shop(number: int) -> None:
        async with wire_to(stage.deployment.client_context()) as wire:
            turn = number
            while not stop.is_set():
                turn += 1
                merchant = Merchant(account, places[turn % 2].urls, wire)
                with suppress(aiohttp.ClientError):
                    reply = await merchant.pay(payment(await merchant.token()))
                    assert reply.status == 200, reply.body
                    answered[0] += 1
                await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as group:
        for number in range(SHOPPERS):
            group.create_task(shop(number))
        try:
            yield answered
        finally:
            stop.set()


async def test_whichever_step_it_dies_at_the_next_one_goes_on(stage: Stage, store: Store) -> None:
    with stage.placed("one") as runner, stage.placed("two") as successor:
        _ = runner.gateway
        await soon(partial(publishes_more_than, store, 0), "nobody publishes")
        _ = successor.gateway
        last = await relay(stage, store, runner, successor)
        await soon(partial(all_published, store), "the last entries are not published")
        await check_the_record(stage, store, last)


async def relay(stage: Stage, store: Store, runner: Place, successor: Place) -> Place:
    """Kill whoever publishes at each step in turn; give the one that publishes at the end."""
    async with shoppers(stage, [runner, successor]) as answered:
        for step in STEPS:
            runner.gateway.doom(step)
            await asyncio.to_thread(runner.died)
            size = await store.fetchval("SELECT size FROM publication")
            await soon(partial(elected, store), f"nobody takes over at {step}")
            runner.begin()
            await soon(partial(publishes_more_than, store, size), f"it ends at {step}")
            runner.until_ready()
            runner, successor = successor, runner
        assert answered[0] > len(STEPS), "hardly anybody paid"
    return runner


async def soon(what: Callable[[], Awaitable[bool]], why: str) -> None:
    await eventually(what, why, seconds=TAKES_OVER_SECONDS)


async def publishes_more_than(store: Store, size: int) -> bool:
    """Whether a larger head is published."""
    found = await store.fetchval("SELECT coalesce(max(size), 0) FROM publication")
    return bool(found > size)


async def elected(store: Store) -> bool:
    return len(await publishers(store)) == 1


async def all_published(store: Store) -> bool:
    behind = "SELECT head.size - publication.size FROM head, publication"
    return bool(await store.fetchval(behind) == 0)


async def check_the_record(stage: Stage, store: Store, place: Place) -> None:
    """One history, nothing sealed, one publisher, and no charge twice."""
    found = await published(stage.deployment.parts.runtime_dsn)
    assert found.checkpoints >= len(STEPS)
    assert await elected(store)
    assert await store.fetchval("SELECT count(*) FROM seal") == 0
    sealed = "SELECT count(*) FROM entry WHERE type IN ('ledger.sealed', 'ledger.unsealed')"
    assert await store.fetchval(sealed) == 0
    log = await log_of(place)
    assert log.good
    assert log.in_vault == log.signed == log.size
    assert signatures(stage) >= found.checkpoints
    ended = await panward("ledger", "verify", "--config", str(place.file))
    assert ended.status == 0, ended.out


def signatures(stage: Stage) -> int:
    """How many signatures OpenBao's audit log lists."""
    lines = stage.deployment.parts.vault_audit_log_file.read_bytes().splitlines()
    return sum(b'"type":"request"' in line and b'"transit/sign/ledger"' in line for line in lines)
