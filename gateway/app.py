"""Wires the parts of a gateway, and ends them in order; knows everything.

The public application is built without the `reveal` login: nothing that it holds can open a
card. In one process that is a boundary of code; only separate processes make it one of memory.
"""

import ssl
import time
from collections.abc import (
    AsyncIterator,
    Collection,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from secrets import SystemRandom
from typing import Final
from weakref import WeakKeyDictionary

from aiohttp import web

from gateway.api.authorizations import AuthorizationHandlers
from gateway.api.health import Health
from gateway.api.ledger import LedgerHandlers, TileHandlers
from gateway.api.tokens import Tokens
from gateway.api.webhooks import add_routes
from gateway.applications import (
    callback_application,
    inbound_application,
    ops_application,
    private_application,
    public_application,
    route_application,
)
from gateway.arrival import Callers
from gateway.auditors import Auditors
from gateway.authorize import Authorize
from gateway.breaker import Breaker
from gateway.config import Config, Route
from gateway.config_file import ListenerConfig
from gateway.connect import ConnectListener, ConnectSettings, start_connect
from gateway.connections import Limits
from gateway.custody import Custody, open_custody, utc_now
from gateway.duties import gauges, probes, refreshed_crls, repeating, watch
from gateway.fronting import contexts_by_name, open_fronting
from gateway.hosting import Hosting, open_hosting
from gateway.in_flight import InFlight
from gateway.inbound_proxy import InboundProxy
from gateway.lanes import Guards, Lane
from gateway.leaf_certificates import LeafCertificates
from gateway.limits import CallLimits
from gateway.listeners import Listener, server_context, start_listener
from gateway.merchants import Merchants
from gateway.metrics import Metrics
from gateway.middleware import Gate, Net
from gateway.out_answers import OutAnswers
from gateway.outbound import Outbound
from gateway.publishing import Duty, Publishing, open_publishing
from gateway.reconcile import Reconcile
from gateway.reply_cards import ReplyCards
from gateway.reporting import Reporting, open_reporting
from gateway.request_event import EventLog, Incident
from gateway.tokenize import Tokenize
from gateway.upstream import Upstream, UpstreamRoute, context_of
from vault.auditor_table import AuditorTable
from vault.authority import Authority
from vault.authorization_table import AuthorizationTable
from vault.authorizations import Authorizations
from vault.card_vault import CardOpener, CardVault
from vault.claim_table import ClaimTable
from vault.deployment import state_folder_of_one
from vault.doubt_table import DoubtTable
from vault.doubts import Doubts
from vault.milestones import UNWATCHED, Milestones
from vault.own_events import OwnEvents
from vault.reconciler import RECONCILE_SECONDS, Reconciler
from vault.spool import Spool
from vault.sweeper import Sweeper
from vault.tenant_table import TenantTable
from vault.token_table import TokenTable

DRAIN_MARGIN_SECONDS: Final = 10.0
PROBE_MARGIN_SECONDS: Final = 15.0
GAUGE_SECONDS: Final = 5.0
WATCH_SECONDS: Final = 1.0
CRL_SECONDS: Final = 600.0
PROXIED: Final = ("/out/",)
ALL_PROXIED: Final = ("/",)
CALLED_BACK: Final = ("/callbacks/",)
INBOUND_HEADER_BYTES_MAX: Final = 16_384  # merchants' cookies are theirs to bound
INBOUND_HEADERS_MAX: Final = 100

_chance: Final = SystemRandom().random


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway that answers: where, and what a caller may ask of it from inside the process."""

    public_url: str
    private_url: str
    ops_url: str
    proxy_url: str | None
    inbound_url: str | None
    custody: Custody
    health: Health

    def urls(self) -> Mapping[str, str]:
        """Where each audience finds it, of those that there are."""
        named = {
            "public": self.public_url,
            "private": self.private_url,
            "ops": self.ops_url,
            "proxy": self.proxy_url,
            "inbound": self.inbound_url,
        }
        return {name: url for name, url in named.items() if url is not None}


@asynccontextmanager
async def running(
    config: Config, log: EventLog, metrics: Metrics, milestones: Milestones = UNWATCHED
) -> AsyncIterator[Running]:
    """Start the gateway of a configuration, and end it in order.

    Raises StartRefused with what to change; any KeysError or StoreUnavailable when what it needs
    is away.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(state_folder_of_one(config.state_folder))
        custody = await open_custody(config, stack, metrics)
        publishing = await open_publishing(config, custody, stack, log, metrics, milestones)
        await publishing.seals.watch()  # what was sealed stays so until somebody lifts it
        stories = await _open_stories(config, custody, publishing, stack, log, metrics)
        yield await _open_listeners(config, stories, stack, log, metrics)


# --- the stories --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stories:
    """What requests are carried out by, before anybody can make one."""

    custody: Custody
    publishing: Publishing
    tokens: TokenTable
    table: AuthorizationTable
    spool: Spool
    authorizations: Authorizations
    sweeper: Sweeper
    merchants: Merchants
    handlers: Tokens
    hosting: Hosting
    inbound: InboundProxy | None
    lanes: Mapping[str, Lane]
    outbound: Outbound
    in_flight: InFlight
    crls: Mapping[ssl.SSLContext, Path]
    reconciler: Reconciler
    reporting: Reporting


async def _open_stories(
    config: Config,
    custody: Custody,
    publishing: Publishing,
    stack: AsyncExitStack,
    log: EventLog,
    metrics: Metrics,
) -> _Stories:
    tokens = TokenTable(custody.database, on_foreign=publishing.foreign_token)
    stack.push_async_callback(tokens.close)
    claims = ClaimTable(custody.database)
    stack.push_async_callback(claims.close)
    table = AuthorizationTable(custody.database)
    cards = CardVault(custody.tokenize_keys, tokens, custody.ledger, env=config.env, now=utc_now)
    spool = Spool(config.state_folder / "spool", custody.boot.id)
    authorizations = Authorizations(
        ledger=custody.ledger,
        claims=claims,
        table=table,
        keys=custody.reveal_keys,
        spool=spool,
        replica=custody.boot.replica,
        boot=custody.boot.id,
        now=utc_now,
    )
    await _put_in_order(custody, spool, authorizations)
    merchants = Merchants(
        TenantTable(custody.database), env=config.env, now=utc_now, monotonic=time.monotonic
    )
    hosting = await open_hosting(config, custody, merchants, publishing, log, metrics)
    inbound = await open_fronting(config, custody, cards, hosting.guard, log, metrics)
    if inbound is not None:
        stack.push_async_callback(inbound.close)
    in_flight = InFlight(lambda kind: log.incident(Incident("task_failed", error=kind.__name__)))
    crls: WeakKeyDictionary[ssl.SSLContext, Path] = WeakKeyDictionary()  # those in use
    lanes = {route.name: _lane(route, custody, stack, metrics, crls) for route in config.routes}
    reply_cards = ReplyCards(cards, now=utc_now)
    doubt_table = DoubtTable(custody.database)
    doubts = Doubts(
        ledger=custody.ledger,
        table=doubt_table,
        keys=custody.reveal_keys,
        boot=custody.boot.id,
        now=utc_now,
    )
    authorize = Authorize(
        authorizations=authorizations,
        tokens=tokens,
        opener=CardOpener(custody.reveal_keys),
        reply_cards=reply_cards,
        in_flight=in_flight,
        metrics=metrics,
        monotonic=time.monotonic,
        doubts=doubts,
        milestones=publishing.milestones,
        pages=hosting.guard,
    )
    reconciler = Reconciler(
        table=doubt_table,
        doubts=doubts,
        inquirer=Reconcile(
            lanes,
            table=doubt_table,
            doubts=doubts,
            authorize=authorize,
            reply_cards=reply_cards,
            env=config.env,
            now=utc_now,
            monotonic=time.monotonic,
        ),
        observer=metrics,
        now=utc_now,
    )
    outbound = Outbound(
        lanes,
        callers=Callers(merchants, custody.reveal_keys, now=utc_now),
        authorize=authorize,
        reply_cards=reply_cards,
        answers=OutAnswers(metrics, _chance),
        metrics=metrics,
        env=config.env,
        monotonic=time.monotonic,
    )
    reporting = await open_reporting(
        config, custody, lanes, merchants, stack, metrics=metrics, chance=_chance
    )
    sweeper = Sweeper(
        cards=cards,
        tokens=tokens,
        claims=claims,
        table=table,
        authorizations=authorizations,
        boot=custody.boot.id,
        now=utc_now,
    )
    handlers = Tokens(
        cards,
        Tokenize(cards, hosting.unsealing, hosting.guard, metrics=metrics, now=utc_now),
        hosting.visits,
        env=config.env,
        now=utc_now,
    )
    return _Stories(
        custody,
        publishing,
        tokens,
        table,
        spool,
        authorizations,
        sweeper,
        merchants,
        handlers,
        hosting,
        inbound,
        lanes,
        outbound,
        in_flight,
        crls,
        reconciler,
        reporting,
    )


async def _put_in_order(custody: Custody, spool: Spool, authorizations: Authorizations) -> None:
    """End what an earlier life of this process left open, before there is anything new."""
    if spool.holds_any():
        custody.ledger.seal("spool")
        await authorizations.drain_spool()
    await authorizations.end_orphans()


def _lane(
    route: Route,
    custody: Custody,
    stack: AsyncExitStack,
    metrics: Metrics,
    crls: MutableMapping[ssl.SSLContext, Path],
) -> Lane:
    preset = route.preset
    upstream = UpstreamRoute(
        name=route.name,
        host=route.host,
        port=route.port,
        timeout_seconds=preset.timeout_seconds,
        connect_seconds=preset.connect_seconds,
        address_allow=route.address_allow,
        ca_file=route.ca_file,
        crl_file=route.crl_file,
        crl_check=route.crl_check,
        spki_pins=route.spki_pins,
        egress_proxy=route.egress_proxy,
        egress_proxy_login=route.egress_proxy_login,
        concurrency=route.concurrency,
        reply_bytes_max=preset.reply_bytes_max,
    )
    shared = context_of(upstream)
    if route.crl_file is not None:
        crls[shared] = route.crl_file

    def make(certificate: tuple[str, str] | None) -> Upstream:
        own = certificate is not None
        context = context_of(upstream, client_certificate_pem=certificate) if own else shared
        if own and route.crl_file is not None:
            crls[context] = route.crl_file
        return Upstream(upstream, metrics, context=context)

    guards = Guards(
        CallLimits(
            time.monotonic,
            per_second=route.rate_per_second,
            burst=route.rate_burst,
            concurrency=route.tenant_concurrency,
        ),
        Breaker(
            time.monotonic,
            _chance,
            probe_seconds=preset.timeout_seconds + PROBE_MARGIN_SECONDS,
            changed=lambda circuit: metrics.circuit_changed(route.name, circuit),
        ),
    )
    lane = Lane(route, make, custody.reveal_keys, guards, now=utc_now, monotonic=time.monotonic)
    stack.push_async_callback(lane.close)
    return lane


# --- the listeners ------------------------------------------------------------------------


async def _open_listeners(
    config: Config, stories: _Stories, stack: AsyncExitStack, log: EventLog, metrics: Metrics
) -> Running:
    custody = stories.custody
    health = Health(probes(custody, stories.in_flight), metrics=metrics, monotonic=time.monotonic)
    drain_seconds = DRAIN_MARGIN_SECONDS + max(
        (route.preset.timeout_seconds for route in config.routes), default=0.0
    )
    opened: dict[str, Listener | ConnectListener] = {}
    for audience in _audiences(config, stories, health):
        listener = audience.listener
        opened[audience.name] = await start_listener(
            audience.app,
            _context(config, listener, passes_on=audience.gate.passes_on),
            (listener.host, listener.port),
            net=Net(
                audience.name,
                audience.gate,
                log=log,
                metrics=metrics,
                chance=_chance,
                denied=stories.publishing.denied,
            ),
            limits=_limits(audience, drain_seconds),
        )
    if config.listeners.connect is not None:
        opened["connect"] = await _connect(config, stories, drain_seconds, log, metrics)
    await stack.enter_async_context(repeating(_duties(stories, metrics)))
    stack.push_async_callback(
        _drain, list(opened.values()), health, stories.in_flight, drain_seconds
    )
    # Ends before what is under way does: nothing is begun any more that nobody waits for.
    await stack.enter_async_context(repeating([(RECONCILE_SECONDS, stories.reconciler.turn)]))
    listeners = config.listeners
    return Running(
        f"https://{listeners.public.host}:{opened['public'].port}",
        f"https://{listeners.private.host}:{opened['private'].port}",
        f"https://{listeners.ops.host}:{opened['ops'].port}",
        _proxy_url(config, opened),
        f"https://{listeners.inbound.host}:{opened['inbound'].port}" if listeners.inbound else None,
        custody,
        health,
    )


def _duties(stories: _Stories, metrics: Metrics) -> Sequence[Duty]:
    """What goes on beside the requests, for as long as there can be any."""
    custody = stories.custody
    return (
        *stories.sweeper.duties(),
        *stories.publishing.duties,
        *stories.hosting.duties,
        *stories.reporting.duties,
        (CRL_SECONDS, refreshed_crls(stories.crls)),
        (GAUGE_SECONDS, gauges(stories.table, stories.tokens, custody, stories.spool, metrics)),
        (WATCH_SECONDS, watch(custody.ledger)),
    )


def _signed_hosts(config: Config) -> set[str]:
    """The hosts that an SDK says that signs its `Host`: the processor's, wherever it is pointed."""
    return {
        host
        for route in config.routes
        if route.preset.credential.sent == "signature"
        for host in (*route.preset.hosts.live, *route.preset.hosts.test)
    }


async def _connect(
    config: Config, stories: _Stories, drain_seconds: float, log: EventLog, metrics: Metrics
) -> ConnectListener:
    connect = config.listeners.connect
    assert connect is not None
    tls = None
    if connect.certificate_file is not None and connect.private_key_file is not None:
        tls = server_context(
            config.file(connect.certificate_file), config.file(connect.private_key_file)
        )
    limits = Limits(
        keepalive_seconds=connect.keepalive_seconds,
        shutdown_seconds=drain_seconds,
        connections_per_address_max=connect.connections_per_address_max,
    )
    authority = Authority(stories.custody.reveal.ask)
    return await start_connect(
        ConnectSettings((connect.host, connect.port), tls, limits),
        {place: stories.lanes[each.name] for each in config.routes for place in each.connect_names},
        leaves=LeafCertificates(authority, now=utc_now, monotonic=time.monotonic),
        merchants=stories.merchants,
        calls=stories.outbound,
        log=log,
        metrics=metrics,
        chance=_chance,
        denied=stories.publishing.denied,
    )


def _proxy_url(config: Config, opened: Mapping[str, Listener | ConnectListener]) -> str | None:
    connect = config.listeners.connect
    if connect is None:
        return None
    scheme = "http" if connect.certificate_file is None else "https"
    return f"{scheme}://{connect.host}:{opened['connect'].port}"


@dataclass(frozen=True, slots=True)
class _Audience:
    """A listener: what it serves, and whom it lets in."""

    name: str
    app: web.Application
    listener: ListenerConfig
    gate: Gate


def _audiences(config: Config, stories: _Stories, health: Health) -> Iterator[_Audience]:
    listeners, outbound = config.listeners, stories.outbound
    authorizations = AuthorizationHandlers(
        stories.table, stories.authorizations, stories.merchants, env=config.env
    )
    ledger = LedgerHandlers(
        stories.publishing.log, OwnEvents(stories.custody.database), stories.merchants
    )
    private = private_application(stories.handlers, authorizations, outbound, ledger)
    add_routes(private.router, stories.reporting.inbox, stories.reporting.webhooks)
    ops = ops_application(health, _tiles(config, stories))
    signed = _signed_hosts(config)
    yield _audience("public", _public(stories), listeners.public, (), old_clients=CALLED_BACK)
    yield _audience("private", private, listeners.private, PROXIED, also=signed)
    yield _audience("ops", ops, listeners.ops, ())
    for name, one in listeners.of_route.items():
        app = route_application(outbound, stories.lanes[name])
        yield _audience(f"route_{name}", app, one, ALL_PROXIED, also=signed)
    if listeners.callbacks is not None:
        app = callback_application(stories.reporting.callbacks)
        yield _audience("callbacks", app, listeners.callbacks, (), old_clients=CALLED_BACK)
    if listeners.inbound is not None and stories.inbound is not None:
        gate = Gate(
            hosts=stories.inbound.hosts,
            proxied=ALL_PROXIED,
            trusted=tuple(map(ip_network, listeners.inbound.trusted_proxies)),
            passes_on=True,
        )
        app = inbound_application(stories.inbound)
        yield _Audience("inbound", app, listeners.inbound, gate)


def _audience(
    name: str,
    app: web.Application,
    listener: ListenerConfig,
    proxied: tuple[str, ...],
    *,
    also: Collection[str] = (),
    old_clients: tuple[str, ...] = (),
) -> _Audience:
    gate = Gate(
        hosts=frozenset({listener.host, "localhost", *listener.names, *also}),
        proxied=proxied,
        trusted=tuple(map(ip_network, listener.trusted_proxies)),
        old_clients=old_clients,
    )
    return _Audience(name, app, listener, gate)


def _limits(audience: _Audience, drain_seconds: float) -> Limits:
    limits = Limits(
        keepalive_seconds=audience.listener.keepalive_seconds,
        shutdown_seconds=drain_seconds,
        connections_per_address_max=audience.listener.connections_per_address_max,
    )
    if not audience.gate.passes_on:
        return limits
    return replace(
        limits,
        line_bytes_max=INBOUND_HEADER_BYTES_MAX,
        field_bytes_max=INBOUND_HEADER_BYTES_MAX,
        headers_max=INBOUND_HEADERS_MAX,
    )


def _public(stories: _Stories) -> web.Application:
    hosting = stories.hosting
    return public_application(
        stories.handlers,
        hosting.edge_keys,
        hosting.checkout,
        hosting.cross,
        stories.reporting.callbacks,
    )


def _tiles(config: Config, stories: _Stories) -> TileHandlers:
    custody = stories.custody
    auditors = Auditors(
        AuditorTable(custody.database), env=config.env, now=utc_now, monotonic=time.monotonic
    )

    async def public_keys() -> Mapping[int, bytes]:
        return await custody.reveal.public_keys("ledger")

    return TileHandlers(stories.publishing.log, auditors, public_keys=public_keys)


def _context(config: Config, listener: ListenerConfig, *, passes_on: bool) -> ssl.SSLContext:
    ca_file = listener.client_ca_file
    context = server_context(
        config.file(listener.certificate_file),
        config.file(listener.private_key_file),
        client_ca=None if ca_file is None else config.file(ca_file),
    )
    if passes_on:
        contexts_by_name(config.inbound, context)
    return context


async def _drain(
    opened: Sequence[Listener | ConnectListener],
    health: Health,
    in_flight: InFlight,
    seconds: float,
) -> None:
    """Readiness says no; no new connections; what is under way ends, at most `seconds` later."""
    health.drain()
    for listener in opened:
        listener.stop_accepting()
    await in_flight.drain(seconds)
    for listener in opened:
        await listener.close()
