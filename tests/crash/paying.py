"""A payment of which a gateway dies: one card of one tenant, and who watches it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from tests.crash.stage import Place, Stage, Witness
from tests.flows.deployment import eventually
from tests.flows.merchant import Merchant, payment
from tests.flows.processor import ProcessorControl
from tests.flows.wire import Reply
from vault.milestones import Milestone

HELD_READ = "S5, read by the processor"
HELD_CHARGED = "S5, carried out by it"
HELD = {HELD_READ: "request", HELD_CHARGED: "answer"}
"""During S5 there is nothing in the gateway that could be passed: the processor says when."""


@dataclass
class Paying:
    """A tenant of its own for a test, with one card."""

    stage: Stage
    place: Place
    merchant: Merchant
    witness: Witness
    token: str

    @property
    def processor(self) -> ProcessorControl:
        return self.stage.deployment.processor

    async def pay(self, key: str | None, route: str = "stripe") -> Reply:
        """Pay; a gateway that does not run is started before."""
        _ = self.place.gateway
        return await self.merchant.pay(payment(self.token, cvc="000"), key=key, route=route)

    async def die(self, case: str, key: str | None, route: str = "stripe") -> None:
        """Pay, and have the gateway die of it."""
        await self.die_of(case, lambda: self.pay(key, route))

    async def die_of(self, case: str, call: Callable[[], Awaitable[Reply]]) -> None:
        """Have the gateway die of a call."""
        if case not in HELD:
            self.place.gateway.doom(Milestone(case))
            await _lost(call)
            self.place.died()
            return
        before = self.processor.counts
        self.processor.do("hold", at=HELD[case])
        async with asyncio.TaskGroup() as group:
            lost = group.create_task(_lost(call))
            await asyncio.to_thread(self.processor.until_held, before)
            if HELD[case] == "answer":
                await eventually(lambda: self._charged(before.charges), "no charge")
            self.place.gateway.kill()
            await lost
        self.place.died()

    async def _charged(self, before: int) -> bool:
        return self.processor.counts.charges > before

    async def on_record(self) -> dict[str, Any]:
        """Look the one payment up, as a merchant who heard nothing would."""
        _ = self.place.gateway
        found = await self.merchant.api("GET", f"/v1/authorizations?token={self.token}")
        (one,) = found.json()["data"]
        record: dict[str, Any] = one
        return record


async def _lost(call: Callable[[], Awaitable[Reply]]) -> None:
    with pytest.raises(aiohttp.ClientError):
        await call()
