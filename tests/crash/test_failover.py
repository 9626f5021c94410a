"""A fail-over to a standby: to one that has everything, and to one that lags.

A real standby, made by `pg_basebackup` and streamed to, is promoted and takes the primary's
address. One that lacks acknowledged entries would let the log be written a second time from there
on: neither a gateway that runs nor one that starts may go on with it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.crash.panward import panward
from tests.crash.published import published
from tests.crash.stage import Place, Stage, staged, wire_to
from tests.crash.standby import Standby, streaming
from tests.flows.deployment import eventually
from tests.flows.merchant import Merchant, card, new_account, payment
from tests.flows.wire import Reply, Wire

pytestmark = [pytest.mark.embedded, pytest.mark.guards("T-75"), pytest.mark.timeout(300)]

EX_CONFIG = 78
SECONDS = 60.0


@dataclass
class Failing:
    """A merchant at a gateway whose primary has a standby."""

    stage: Stage
    place: Place
    merchant: Merchant
    wire: Wire
    standby: Standby

    async def pay(self) -> Reply:
        return await self.merchant.pay(payment(await self.merchant.token()))

    async def size(self) -> int:
        """How large the ledger is, where the gateway has it now."""
        store = await self.stage.deployment.store()
        try:
            size: int = await store.fetchval("SELECT size FROM head")
        finally:
            await store.close()
        return size

    async def readiness(self) -> dict[str, Any]:
        """What readiness says of each part."""
        reply = await self.wire("GET", f"{self.place.urls.ops}/readyz")
        said: dict[str, Any] = reply.json()
        return said


@asynccontextmanager
async def failing(tmp_path: Path) -> AsyncIterator[Failing]:
    with staged(tmp_path / "deployment") as stage:
        account = await new_account(stage.deployment, routes=("stripe",))
        async with (
            streaming(stage, tmp_path / "standby") as standby,
            wire_to(stage.deployment.client_context()) as wire,
        ):
            place = stage.place("one")
            _ = place.gateway
            try:
                yield Failing(stage, place, Merchant(account, place.urls, wire), wire, standby)
            finally:
                place.stop()


@pytest.mark.long
async def test_one_that_has_everything_is_gone_on_with(tmp_path: Path) -> None:
    async with failing(tmp_path) as found:
        assert (await found.pay()).status == 200
        before = await found.size()
        found.stage.children.tell("stop postgres")  # in order: the standby gets all there is
        await found.standby.promote()
        found.standby.take_the_address()
        await eventually(lambda: is_paid(found), "the gateway does not go on", seconds=SECONDS)
        assert await found.size() > before
        await eventually(lambda: all_is_published(found), "nobody publishes", seconds=SECONDS)
        published_there = await published(found.standby.dsn)
        assert published_there.signed_size > before


async def is_paid(found: Failing) -> bool:
    token = await found.merchant.api("POST", "/v1/tokens", {"card": card()})
    if token.status != 201:
        assert token.status == 503, token.body
        return False
    reply = await found.merchant.pay(payment(token.json()["id"]))
    assert reply.status in {200, 503}, reply.body
    return reply.status == 200


async def all_is_published(found: Failing) -> bool:
    there = await published(found.standby.dsn)
    return there.size == there.signed_size


async def test_one_that_lags_is_refused(tmp_path: Path) -> None:
    async with failing(tmp_path) as found:
        token = await found.merchant.token()
        await found.standby.has_caught_up(await found.size())
        lagging = await found.standby.size()
        await found.standby.server.stop()
        assert (await found.merchant.pay(payment(token))).status == 200  # which it will not have
        await eventually(lambda: all_is_published_here(found), "nobody publishes", seconds=SECONDS)
        found.stage.children.tell("stop postgres")
        await found.standby.start()
        await found.standby.promote()
        found.standby.take_the_address()
        assert await found.size() == lagging
        charges = found.stage.deployment.processor.counts.charges
        await eventually(
            lambda: is_sealed(found), "it goes on with a log that is shorter", seconds=SECONDS
        )
        refused = await found.merchant.pay(payment(token))
        assert (refused.status, refused.error["code"]) == (503, "ledger_sealed")
        assert found.stage.deployment.processor.counts.charges == charges
        assert await found.size() <= lagging + 2, "the seal is all that it has written"
        await eventually(lambda: is_told(found), "the other replicas are not told", seconds=SECONDS)
        await is_no_start(found)


async def all_is_published_here(found: Failing) -> bool:
    there = await published(found.stage.deployment.parts.runtime_dsn)
    return there.size == there.signed_size


async def is_sealed(found: Failing) -> bool:
    return bool((await found.readiness())["checks"]["ledger"] != "ok")


async def is_told(found: Failing) -> bool:
    """Whether the seal is a row, with its cause, where every replica sees it."""
    store = await found.stage.deployment.store()
    try:
        return [row["cause"] for row in await store.fetch("SELECT cause FROM seal")] == ["rollback"]
    finally:
        await store.close()


async def is_no_start(found: Failing) -> None:
    found.place.stop()
    refused = await panward("up", "--config", str(found.place.file))
    assert (refused.status, refused.out) == (EX_CONFIG, ""), refused.err
    assert "rollback" in refused.err
