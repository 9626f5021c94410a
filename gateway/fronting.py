"""Wires what stands in front of merchants' own endpoints.

It is built without the `reveal` login: nothing here can open a card. What never may live here: how
any of it works.
"""

import ssl
import time
from collections.abc import Sequence
from ipaddress import ip_network

from gateway.config import Config
from gateway.custody import Custody, utc_now
from gateway.inbound.endpoints import Endpoint
from gateway.inbound.merchant import Merchant, MerchantRoute
from gateway.inbound_cards import InboundCards
from gateway.inbound_proxy import InboundLane, InboundProxy, template_of
from gateway.listeners import server_context
from gateway.metrics import Metrics
from gateway.page_guard import PageGuard
from gateway.request_event import EventLog
from vault.card_vault import CardVault
from vault.errors import StartRefused
from vault.tenant_table import TenantTable


async def open_fronting(
    config: Config,
    custody: Custody,
    cards: CardVault,
    guard: PageGuard,
    log: EventLog,
    metrics: Metrics,
) -> InboundProxy | None:
    """Open the routes, if there are any. Raises StartRefused, StoreUnavailable."""
    listener = config.listeners.inbound
    if listener is None:
        return None
    await _check_tenants(config.inbound, TenantTable(custody.database))
    metrics.declare_templates(template_of(endpoint.route) for endpoint in config.inbound)
    lanes = []
    for endpoint in config.inbound:
        merchant = Merchant(_merchant_route(endpoint), clock=time.monotonic)
        stored = InboundCards(endpoint.route, cards, guard, metrics=metrics, now=utc_now)
        lanes.append(InboundLane(endpoint, merchant, stored))
    return InboundProxy(
        lanes,
        trusted=tuple(map(ip_network, listener.trusted_proxies)),
        log=log,
        metrics=metrics,
        now=utc_now,
        monotonic=time.monotonic,
    )


def contexts_by_name(endpoints: Sequence[Endpoint], context: ssl.SSLContext) -> None:
    """Let a listener show a route's own certificate to who asks for one of its hosts (RFC 6066 3).

    Raises StartRefused.
    """
    by_name = {
        host: server_context(*endpoint.certificate)
        for endpoint in endpoints
        if endpoint.certificate is not None
        for host in endpoint.route.hosts
    }
    if not by_name:
        return

    def named(tls: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        own = by_name.get((name or "").lower())
        if own is not None:
            tls.context = own

    context.sni_callback = named


async def _check_tenants(endpoints: Sequence[Endpoint], tenants: TenantTable) -> None:
    known = {tenant.id for tenant in await tenants.list()}
    for endpoint in endpoints:
        if endpoint.route.tenant not in known:
            raise StartRefused(f"inbound.{endpoint.route.name}: there is no tenant of this id")


def _merchant_route(endpoint: Endpoint) -> MerchantRoute:
    route = endpoint.route
    return MerchantRoute(
        name=route.name,
        scheme=endpoint.scheme,
        host=endpoint.host.name,
        port=endpoint.host.port,
        address_allow=endpoint.address_allow,
        ca_file=endpoint.ca_file,
        timeout_seconds=route.timeout_seconds,
        concurrency=route.concurrency,
    )
