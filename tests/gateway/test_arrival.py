"""What of a call goes on towards a processor: all but what is between the caller and us."""

from types import SimpleNamespace
from typing import cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway import preset as presets
from gateway.arrival import at_the_root, read_arrival
from gateway.lanes import Lane

LANE = cast("Lane", SimpleNamespace(preset=presets.load("stripe")))


@pytest.mark.guards("T-50")
async def test_our_keys_stay_here_whatever_comes_after() -> None:
    """Those who come after drop them too; this one does so by itself."""

    async def handle(request: web.Request) -> web.Response:
        call = await read_arrival(at_the_root(request, LANE))
        shown = [[name.lower(), value] for name, value in call.headers]
        return web.json_response([call.method, call.path, call.query, shown, call.body.decode()])

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    headers = {
        "Panward-Key": "pwsk_test_x",
        "PROXY-AUTHORIZATION": "Basic cHdza190ZXN0X3g6",
        "Authorization": "Bearer the-merchants-own",
        "Stripe-Version": "2026-01-01",
    }
    async with TestClient(TestServer(app)) as client:
        reply = await client.post("/v1/a%2Fb?c=d", data=b"a=1", headers=headers)
        method, path, query, shown, body = await reply.json()
    assert (method, path, query, body) == ("POST", "/v1/a%2Fb", "c=d", "a=1")
    assert ["authorization", "Bearer the-merchants-own"] in shown
    assert ["stripe-version", "2026-01-01"] in shown
    assert not {"panward-key", "proxy-authorization"} & {name for name, _ in shown}
