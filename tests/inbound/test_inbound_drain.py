"""A gateway that is told to end: what has no end of its own is ended, the rest is waited for."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import WSMsgType

from tests.flows.deployment import Deployment, eventually
from tests.flows.merchant import Account
from tests.inbound.client import shopping
from tests.inbound.framing import direct
from tests.inbound.stage import running_inbound

pytestmark = pytest.mark.embedded


async def test_sockets_and_streams_of_events_do_not_hold_up_the_end(
    deployment: Deployment, account: Account, tmp_path: Path
) -> None:
    with running_inbound(deployment, account, tmp_path, "drained") as stage:
        async with shopping(stage) as shopper:
            way = direct(stage.port, stage.hostname, stage.ca_file)
            reader, writer = await way.connect()
            asked = "GET /v/sse?events=100000&pause=0.2 HTTP/1.1"
            writer.write(f"{asked}\r\nHost: {stage.hostname}\r\n\r\n".encode())
            assert (await reader.readuntil(b"data: event 0")).startswith(b"HTTP/1.1 200")
            socket = await shopper.session.ws_connect(f"{shopper.base}/v/ws")
            await socket.send_str("hello")
            assert (await socket.receive()).data == "hello"
            slow = asyncio.create_task(shopper.send("GET", "/v/slow?seconds=2"))

            async def asked_slowly() -> bool:
                return b"/v/slow" in stage.merchant.received

            await eventually(asked_slowly, "it did not arrive")
            assert await asyncio.to_thread(stage.gateway.stop) == 0
            assert (await slow).body == b"ok", "what has an end is waited for"
            last = await socket.receive()
            assert (last.type, last.data) == (WSMsgType.CLOSE, 1001)
            writer.close()
