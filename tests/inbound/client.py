"""A client of inbound routes: any request, answers in which no card number may be, and a back end
that asks what became of the cards."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from tests.flows.merchant import Merchant
from tests.flows.wire import Reply, Wire
from tests.inbound.framing import Way, direct, exchange
from tests.inbound.merchant_app import Seen
from tests.inbound.stage import InboundStage

PATIENCE: Final = 8.0
Headers = Mapping[str, str] | list[tuple[str, str]]


class _Loopback(AbstractResolver):
    """Every name is this machine's."""

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        found = {"hostname": host, "host": "127.0.0.1", "port": port, "family": family}
        return [cast("ResolveResult", found | {"proto": 0, "flags": 0})]

    async def close(self) -> None:
        """Hold nothing open."""


@dataclass(frozen=True)
class Shopper:
    """Who calls the merchant's public name, and the merchant's back end beside it."""

    stage: InboundStage
    session: aiohttp.ClientSession
    wire: Wire
    office: Merchant

    @property
    def base(self) -> str:
        return f"https://{self.stage.hostname}:{self.stage.port}"

    async def send(
        self, method: str, target: str, body: bytes | None = None, headers: Headers | None = None
    ) -> Reply:
        return await self.wire(method, self.base + target, body, headers=headers)

    def way(self, source: str | None = None, hostname: str | None = None) -> Way:
        """Give the way straight to the listener, from another address than 127.0.0.1 if need be."""
        stage = self.stage
        plain = direct(stage.port, hostname or stage.hostname, stage.ca_file)
        return replace(plain, source=source)

    async def raw(
        self, first: str, *lines: str, body: bytes = b"", source: str | None = None
    ) -> bytes:
        """Send a request as it is written, on a connection of its own; give all that came back."""
        told = [line for line in lines if line.lower().startswith("host:")]
        own = [] if told else [f"Host: {self.stage.hostname}"]
        head = "\r\n".join((f"{first} HTTP/1.1", *own, "Connection: close", *lines, "", ""))
        return await exchange(self.way(source), head.encode() + body, quiet_seconds=PATIENCE)

    async def arrives(
        self, target: str, body: bytes, content_type: str, headers: Mapping[str, str] | None = None
    ) -> Seen:
        """Post a body, and give it as the merchant's application got it."""
        mark = len(self.stage.merchant.requests)
        sent = {"Content-Type": content_type} | dict(headers or {})
        reply = await self.send("POST", target, body, sent)
        assert reply.status == 200, reply.body
        (seen,) = self.stage.merchant.since(mark)
        return seen

    async def refusal(self, target: str, body: bytes, headers: Headers) -> tuple[Any, ...]:
        """Post a body that must be refused, with nothing of it at the merchant's."""
        merchant = self.stage.merchant
        mark, received = len(merchant.requests), len(merchant.received)
        reply = await self.send("POST", target, body, headers)
        assert len(merchant.requests) == mark, "it was passed on"
        assert len(merchant.received) == received, "something of it was passed on"
        return reply.told()

    async def card(self, token: str) -> dict[str, Any]:
        reply = await self.office.api("GET", f"/v1/tokens/{token}")
        assert reply.status == 200, reply.body
        return reply.json()


@asynccontextmanager
async def shopping(stage: InboundStage) -> AsyncIterator[Shopper]:
    context = ssl.create_default_context(cafile=str(stage.ca_file))
    connector = aiohttp.TCPConnector(ssl=context, resolver=_Loopback(), limit=0)
    own = aiohttp.TCPConnector(ssl=stage.deployment.client_context(), limit=0)
    timeout = aiohttp.ClientTimeout(total=30)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
        aiohttp.ClientSession(connector=own, timeout=timeout) as back_end,
    ):
        office = Merchant(stage.account, stage.urls, Wire(back_end))
        yield Shopper(stage, session, Wire(session), office)
    await _all_closed()


async def _all_closed() -> None:
    """Wait for the ends of TLS that aiohttp leaves to the loop: else the loop ends before them."""
    selector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
    for _ in range(400):
        if len(selector.get_map()) <= 1:  # the loop's own
            return
        await asyncio.sleep(0.01)
