"""The aiohttp applications, one an audience: which path goes to which handler. Nothing else.

The public application is built without the `reveal` login: nothing that it holds can open a card.
"""

from aiohttp import web

from gateway.api.authorizations import AuthorizationHandlers
from gateway.api.health import Health
from gateway.api.ledger import LedgerHandlers, TileHandlers
from gateway.api.tokens import Tokens
from gateway.lanes import Lane
from gateway.outbound import Outbound


def public_application(tokens: Tokens) -> web.Application:
    """What faces the Internet: it can make tokens."""
    app = web.Application()
    app.router.add_post("/v1/tokens", tokens.create)
    return app


def private_application(
    tokens: Tokens,
    authorizations: AuthorizationHandlers,
    outbound: Outbound,
    ledger: LedgerHandlers,
) -> web.Application:
    """What merchants' back ends use."""
    app = web.Application()
    router = app.router
    router.add_post("/v1/tokens", tokens.create)
    router.add_get("/v1/tokens", tokens.list, allow_head=False)
    router.add_delete("/v1/tokens", tokens.erase)
    router.add_get("/v1/tokens/{token}", tokens.get, allow_head=False)
    router.add_patch("/v1/tokens/{token}", tokens.change)
    router.add_delete("/v1/tokens/{token}", tokens.delete)
    router.add_get("/v1/authorizations", authorizations.list, allow_head=False)
    router.add_get("/v1/authorizations/{authorization}", authorizations.get, allow_head=False)
    router.add_get("/v1/ledger/checkpoint", ledger.checkpoint, allow_head=False)
    router.add_get("/v1/ledger/proof/{event}", ledger.proof, allow_head=False)
    router.add_get("/v1/ledger/events", ledger.list, allow_head=False)
    router.add_get("/v1/ledger/events/{event}", ledger.get, allow_head=False)
    router.add_get("/v1/ledger/events/{event}/detail", ledger.detail, allow_head=False)
    router.add_route("*", "/out/{route}/{path:.*}", outbound.handle)
    return app


def ops_application(health: Health, tiles: TileHandlers) -> web.Application:
    """What Prometheus, the load balancer and auditors use."""
    app = web.Application()
    app.router.add_get("/metrics", health.metrics, allow_head=False)
    app.router.add_get("/healthz", health.healthz, allow_head=False)
    app.router.add_get("/readyz", health.readyz, allow_head=False)
    app.router.add_get("/ledger/checkpoint", tiles.checkpoint, allow_head=False)
    app.router.add_get("/ledger/checkpoints/{size}", tiles.old_checkpoint, allow_head=False)
    app.router.add_get("/ledger/tile/{rest:.+}", tiles.tile, allow_head=False)
    app.router.add_get("/ledger/vkey", tiles.vkey, allow_head=False)
    return app


def route_application(outbound: Outbound, lane: Lane) -> web.Application:
    """A port of one route's own, for SDKs that take a host and a port but no path."""

    async def handle(request: web.Request) -> web.Response:
        return await outbound.at_root(request, lane)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    return app
