"""The aiohttp applications, one an audience: which path goes to which handler. Nothing else.

The public application is built without the `reveal` login: nothing that it holds can open a card.
"""

from aiohttp import web

from gateway.api.authorizations import AuthorizationHandlers
from gateway.api.edge_keys import EdgeKeyHandlers
from gateway.api.health import Health
from gateway.api.ledger import LedgerHandlers, TileHandlers
from gateway.api.tokens import Tokens
from gateway.callbacks import CallbackHandlers
from gateway.checkout.pages import CheckoutPages
from gateway.cross_origin import CrossOrigin
from gateway.inbound_proxy import InboundProxy
from gateway.lanes import Lane
from gateway.outbound import Outbound


def public_application(
    tokens: Tokens,
    edge_keys: EdgeKeyHandlers,
    checkout: CheckoutPages,
    cross: CrossOrigin,
    callbacks: CallbackHandlers,
) -> web.Application:
    """What faces the Internet: it can make tokens, and serve the fields that a card is typed in."""
    app = web.Application()
    router = app.router
    router.add_post("/v1/tokens", tokens.create)
    router.add_post("/v1/tokens/{token}/cvc", tokens.attach_cvc)
    router.add_get("/v1/edge-keys", edge_keys.get, allow_head=False)
    for path in ("/v1/tokens", "/v1/tokens/{token}/cvc", "/v1/edge-keys"):
        router.add_options(path, cross.preflight)
    router.add_get("/checkout/v1/fields", checkout.fields, allow_head=False)
    router.add_post("/checkout/v1/csp-reports", checkout.report)
    router.add_get("/checkout/v1/{file}", checkout.script, allow_head=False)
    _add_callbacks(app, callbacks)
    return app


def callback_application(callbacks: CallbackHandlers) -> web.Application:
    """What processors call, by itself: where callers are asked for a certificate."""
    app = web.Application()
    _add_callbacks(app, callbacks)
    return app


def _add_callbacks(app: web.Application, callbacks: CallbackHandlers) -> None:
    app.router.add_post("/callbacks/{endpoint}", callbacks.post)
    app.router.add_get("/callbacks/{endpoint}", callbacks.get, allow_head=False)


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
    router.add_post("/v1/tokens/{token}/cvc", tokens.attach_cvc)
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


def inbound_application(inbound: InboundProxy) -> web.Application:
    """What stands in front of merchants' own endpoints: every path is theirs."""

    async def end_streams(_app: web.Application) -> None:
        inbound.end_streams()

    app = web.Application()
    app.on_shutdown.append(end_streams)  # before requests under way are waited for
    app.router.add_route("*", "/{path:.*}", inbound.handle, expect_handler=inbound.expect)
    return app
