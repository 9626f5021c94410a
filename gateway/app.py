"""Opens the parts, wires them, closes them; knows everything.

The public application is built without the `reveal` login: nothing that it holds can open a
card. In one process that is a boundary of code; only separate processes make it one of memory.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import SystemRandom
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from gateway.api.authorizations import AuthorizationHandlers
from gateway.api.health import Health
from gateway.api.tokens import Tokens
from gateway.authorize import Authorize
from gateway.config import Config, ListenerConfig, LoginConfig, Route, vault_access
from gateway.connections import Limits
from gateway.in_flight import InFlight
from gateway.lanes import Lane
from gateway.listeners import Listener, server_context, start_listener
from gateway.merchants import Merchants
from gateway.metrics import Metrics
from gateway.middleware import Gate, Net
from gateway.outbound import Outbound
from gateway.request_event import EventLog, Incident
from gateway.tokenize import Tokenize
from gateway.upstream import Upstream, UpstreamRoute, context_of
from vault.authorization_table import AuthorizationTable
from vault.authorizations import Authorizations
from vault.card_vault import CardOpener, CardVault
from vault.claim_table import ClaimTable
from vault.db import Database, check_server, migrate
from vault.deployment import (
    Boot,
    Pins,
    check_keys,
    check_log,
    check_login,
    probe_store,
    put_start_on_record,
    put_stop_on_record,
    recognize,
    replica_name,
    state_folder_of_one,
)
from vault.errors import CustodyError, LedgerSealed, Overloaded
from vault.ids import new_uuid7
from vault.keys import RevealKeys, TokenizeKeys
from vault.ledger.forms import base64url
from vault.ledger.store import Ledger
from vault.spool import Spool
from vault.sweeper import Sweeper
from vault.tenant_table import TenantTable
from vault.token_table import TokenTable
from vault.transit import Transit

VERSION: Final = "0.1.0"
DRAIN_MARGIN_SECONDS: Final = 10.0
GAUGE_SECONDS: Final = 5.0
WATCH_SECONDS: Final = 1.0
PROXIED: Final = ("/out/",)


class WriterGone(Exception):
    """The ledger's writer has ended without being told to."""


def utc_now() -> datetime:
    """The clock of this process: the one place that reads it."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Custody:
    """The vault package's parts, open."""

    database: Database
    tokenize: Transit
    reveal: Transit
    pins: Pins
    ledger: Ledger
    boot: Boot
    tokenize_keys: TokenizeKeys
    reveal_keys: RevealKeys


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway that answers: where, and what a caller may ask of it from inside the process."""

    public_url: str
    private_url: str
    ops_url: str
    custody: Custody
    health: Health


@asynccontextmanager
async def running(config: Config, log: EventLog, metrics: Metrics) -> AsyncIterator[Running]:
    """Start the gateway of a configuration, and end it in order.

    Raises StartRefused with what to change; any KeysError or StoreUnavailable when what it needs
    is away.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(state_folder_of_one(config.state_folder))
        custody = await _open_custody(config, stack, metrics)
        yield await _open_gateway(config, custody, stack, log, metrics)


# --- custody ------------------------------------------------------------------------------


async def _open_custody(config: Config, stack: AsyncExitStack, metrics: Metrics) -> Custody:
    runtime_dsn = config.secret(config.database.runtime_dsn_file)
    if config.database.owner_dsn_file is not None:
        owner_dsn = config.secret(config.database.owner_dsn_file)
        await migrate(owner_dsn, runtime_role=urlsplit(runtime_dsn).username or "")
    await check_server(runtime_dsn)
    tokenize = await _transit(config, config.vault.tokenize, stack, metrics)
    reveal = await _transit(config, config.vault.reveal, stack, metrics)
    await check_login(tokenize)
    keys = await check_keys(tokenize)
    database = await Database.open(runtime_dsn)
    stack.push_async_callback(database.close)
    pins = await recognize(
        database, tokenize, keys, env=config.env, origin=config.ledger.origin, at=utc_now()
    )
    await check_log(database)
    boot = Boot(
        id=new_uuid7(utc_now()),
        replica=replica_name(config.state_folder),
        version=VERSION,
        config_hash=base64url(hashlib.sha256(config.path.read_bytes()).digest()),
    )
    ledger = Ledger(database, replica=boot.replica, boot=boot.id, now=utc_now, observer=metrics)
    ledger.start()
    stack.push_async_callback(ledger.close)
    await put_start_on_record(
        database,
        ledger,
        boot,
        env=config.env,
        origin=config.ledger.origin,
        public_key=await reveal.public_key("ledger"),
        now=utc_now,
    )
    stack.push_async_callback(_put_stop_on_record, ledger)
    tokenize_keys = TokenizeKeys(
        tokenize,
        config.env,
        fingerprint_version=pins.fingerprint_version,
        digest_version=pins.digest_version,
        observer=metrics,
    )
    stack.push_async_callback(tokenize_keys.close)
    reveal_keys = RevealKeys(
        reveal, config.env, digest_version=pins.digest_version, observer=metrics
    )
    stack.push_async_callback(reveal_keys.close)
    return Custody(database, tokenize, reveal, pins, ledger, boot, tokenize_keys, reveal_keys)


async def _put_stop_on_record(ledger: Ledger) -> None:
    """An orderly end is on record; without a store it is one of the ends that are not."""
    try:
        await put_stop_on_record(ledger, now=utc_now)
    except CustodyError:
        return


async def _transit(
    config: Config, login: LoginConfig, stack: AsyncExitStack, metrics: Metrics
) -> Transit:
    transit = Transit(vault_access(config, login), observer=metrics)
    stack.push_async_callback(transit.close)
    await transit.start()
    return transit


# --- the edge -----------------------------------------------------------------------------


async def _open_gateway(
    config: Config, custody: Custody, stack: AsyncExitStack, log: EventLog, metrics: Metrics
) -> Running:
    tokens = TokenTable(custody.database)
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
    if spool.holds_any():
        custody.ledger.seal("spool")
        await authorizations.drain_spool()
    await authorizations.end_orphans()
    merchants = Merchants(
        TenantTable(custody.database), env=config.env, now=utc_now, monotonic=time.monotonic
    )
    handlers = Tokens(
        cards,
        Tokenize(cards, metrics=metrics, now=utc_now),
        merchants,
        env=config.env,
        now=utc_now,
    )
    in_flight = InFlight(lambda kind: log.incident(Incident("task_failed", error=kind.__name__)))
    lanes = {route.name: await _lane(route, custody, stack, metrics) for route in config.routes}
    chance = SystemRandom().random
    outbound = Outbound(
        lanes,
        merchants=merchants,
        authorize=Authorize(
            authorizations=authorizations,
            tokens=tokens,
            opener=CardOpener(custody.reveal_keys),
            in_flight=in_flight,
            metrics=metrics,
            monotonic=time.monotonic,
        ),
        metrics=metrics,
        env=config.env,
        monotonic=time.monotonic,
        chance=chance,
    )
    health = Health(_probes(custody, in_flight), metrics=metrics, monotonic=time.monotonic)
    drain_seconds = (
        max((route.preset.timeout_seconds for route in config.routes), default=0.0)
        + DRAIN_MARGIN_SECONDS
    )
    opened = []
    for name, app, listener in (
        ("public", public_application(handlers), config.listeners.public),
        (
            "private",
            private_application(
                handlers,
                AuthorizationHandlers(table, authorizations, merchants, env=config.env),
                outbound,
            ),
            config.listeners.private,
        ),
        ("ops", ops_application(health), config.listeners.ops),
    ):
        net = Net(name, _gate(name, listener), log=log, metrics=metrics, chance=chance)
        opened.append(
            await start_listener(
                app,
                server_context(
                    config.file(listener.certificate_file), config.file(listener.private_key_file)
                ),
                (listener.host, listener.port),
                net=net,
                limits=Limits(
                    keepalive_seconds=listener.keepalive_seconds,
                    shutdown_seconds=drain_seconds,
                    connections_per_address_max=listener.connections_per_address_max,
                ),
            )
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
    duties = [
        *sweeper.duties(),
        (GAUGE_SECONDS, _gauges(table, tokens, custody, spool, metrics)),
        (WATCH_SECONDS, _watch(custody.ledger)),
    ]
    await stack.enter_async_context(_repeating(duties))
    stack.push_async_callback(_drain, opened, health, in_flight, drain_seconds)
    public, private, ops = (f"https://{host}:{one.port}" for host, one in _hosts(config, opened))
    return Running(public, private, ops, custody, health)


async def _lane(route: Route, custody: Custody, stack: AsyncExitStack, metrics: Metrics) -> Lane:
    preset = route.preset
    upstream = UpstreamRoute(
        name=route.name,
        host=route.host,
        port=route.port,
        timeout_seconds=preset.timeout_seconds,
        connect_seconds=preset.connect_seconds,
        address_allow=route.address_allow,
        ca_file=route.ca_file,
        concurrency=route.concurrency,
        reply_bytes_max=preset.reply_bytes_max,
    )
    context = context_of(upstream)
    lane = Lane(route, lambda: Upstream(upstream, metrics, context=context), custody.reveal_keys)
    stack.push_async_callback(lane.close)
    return lane


def public_application(tokens: Tokens) -> web.Application:
    """What faces the Internet: it can make tokens."""
    app = web.Application()
    app.router.add_post("/v1/tokens", tokens.create)
    return app


def private_application(
    tokens: Tokens, authorizations: AuthorizationHandlers, outbound: Outbound
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
    router.add_route("*", "/out/{route}/{path:.*}", outbound.handle)
    return app


def ops_application(health: Health) -> web.Application:
    """What Prometheus and the load balancer use."""
    app = web.Application()
    app.router.add_get("/metrics", health.metrics, allow_head=False)
    app.router.add_get("/healthz", health.healthz, allow_head=False)
    app.router.add_get("/readyz", health.readyz, allow_head=False)
    return app


def _gate(name: str, listener: ListenerConfig) -> Gate:
    hosts = frozenset({listener.host, "localhost", *listener.names})
    return Gate(hosts=hosts, proxied=PROXIED if name == "private" else ())


def _hosts(config: Config, opened: Sequence[Listener]) -> list[tuple[str, Listener]]:
    listeners = config.listeners
    configured = (listeners.public, listeners.private, listeners.ops)
    return [(one.host, listener) for one, listener in zip(configured, opened, strict=True)]


# --- what goes on meanwhile ---------------------------------------------------------------


def _probes(custody: Custody, in_flight: InFlight) -> dict[str, Callable[[], Awaitable[None]]]:
    async def ledger() -> None:
        if custody.ledger.sealed_because is not None:
            raise LedgerSealed

    async def load() -> None:
        if in_flight.is_full:
            raise Overloaded

    async def store() -> None:
        await probe_store(custody.database, custody.boot.replica)

    async def tokenize() -> None:
        await custody.tokenize_keys.probe()

    return {
        "vault_tokenize": tokenize,
        "vault_reveal": custody.reveal_keys.probe,
        "store": store,
        "ledger": ledger,
        "load": load,
    }


def _gauges(
    table: AuthorizationTable,
    tokens: TokenTable,
    custody: Custody,
    spool: Spool,
    metrics: Metrics,
) -> Callable[[], Awaitable[None]]:
    async def refresh() -> None:
        """What can only be counted by asking: open and unknown intents, live CVCs, the ledger."""
        metrics.ledger_size(custody.ledger.size)
        metrics.ledger_state(
            sealed=custody.ledger.sealed_because is not None, spooled=len(spool.waiting())
        )
        try:
            counts = await table.open_counts()
            metrics.cvc_stored(await tokens.live_cvcs())
        except CustodyError:
            return
        flat = [(route, one) for route, ones in counts.items() for one in ones]
        metrics.unknown_open(
            {route: (c.count, c.oldest_seconds) for route, c in flat if c.state == "unknown"}
        )
        opened = [one for _, one in flat if one.state == "attempted"]
        metrics.intents_open(
            sum(one.count for one in opened),
            max((one.oldest_seconds for one in opened), default=0.0),
        )

    return refresh


def _watch(ledger: Ledger) -> Callable[[], Awaitable[None]]:
    async def watch() -> None:
        """End the process with its writer: what it answers from then on would be on no record."""
        if not ledger.is_writing:
            raise WriterGone

    return watch


@asynccontextmanager
async def _repeating(
    duties: Sequence[tuple[float, Callable[[], Awaitable[None]]]],
) -> AsyncIterator[None]:
    """Keep duties going for as long as the gateway runs; none of them holds a payment."""

    async def repeat(seconds: float, duty: Callable[[], Awaitable[None]]) -> None:
        while True:
            await duty()
            await asyncio.sleep(seconds)

    alone: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(repeat(seconds, duty)) for seconds, duty in duties]
            yield
            for task in tasks:
                task.cancel()
    except BaseExceptionGroup as several:
        if len(several.exceptions) > 1:
            raise
        alone = several.exceptions[0]
    if alone is not None:  # as it was: whoever started us knows a StartRefused, not a group
        raise alone


async def _drain(
    opened: Sequence[Listener], health: Health, in_flight: InFlight, seconds: float
) -> None:
    """Readiness says no; no new connections; what is under way ends, at most `seconds` later."""
    health.drain()
    for listener in opened:
        listener.stop_accepting()
    await in_flight.drain(seconds)
    for listener in opened:
        await listener.close()
