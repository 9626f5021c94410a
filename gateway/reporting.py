"""Wires what processors report, and what merchants are told of it.

Callbacks are received without the `reveal` login: what faces the Internet opens no card and signs
nothing for merchants. What never may live here: how any of it works.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Final

from gateway.addresses import HTTPS_PORT, AddressAllow
from gateway.api.callbacks import InboxHandlers
from gateway.api.webhooks import WebhookHandlers
from gateway.callback_sources import CallbackSources
from gateway.callbacks import PATH, CallbackHandlers, Proofs
from gateway.config import Config
from gateway.custody import Custody, utc_now
from gateway.deliveries import (
    POLL_SECONDS,
    REPLY_BYTES_MAX,
    TIMEOUT_SECONDS,
    Client,
    Deliveries,
    WebhookUrl,
)
from gateway.lanes import Lanes
from gateway.merchants import Merchants
from gateway.metrics import Metrics
from gateway.notice_rounds import NoticeRounds
from gateway.publishing import Duty
from gateway.signing_certificates import SigningCertificates
from gateway.status_asking import StatusAsking
from gateway.upstream import Upstream, UpstreamRoute, context_of
from gateway.webhook_endpoints import WebhookEndpoints, schemes_by_route
from vault.callback_endpoint_table import CallbackEndpointTable
from vault.callback_table import CallbackTable
from vault.callbacks import Callbacks
from vault.delivery_queue import DeliveryQueue
from vault.doubt_table import DoubtTable
from vault.errors import CustodyError, StartRefused
from vault.known_cards import KnownCards
from vault.telling import TELLING_SECONDS, Telling
from vault.transmission_table import TransmissionTable
from vault.webhook_table import WebhookTable

MATCH_SECONDS: Final = 2.0
GAUGE_SECONDS: Final = 5.0
ASK_SECONDS: Final = 2.0
SWEEP_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Reporting:
    """The parts, and what they do on a clock."""

    callbacks: CallbackHandlers
    inbox: InboxHandlers
    webhooks: WebhookHandlers
    duties: Sequence[Duty]


async def open_reporting(  # noqa: PLR0913 - the parts of one wiring
    config: Config,
    custody: Custody,
    lanes: Lanes,
    merchants: Merchants,
    stack: AsyncExitStack,
    *,
    metrics: Metrics,
    chance: Callable[[], float],
) -> Reporting:
    """Open them. Raises StartRefused when the file of pinned roots cannot be read."""
    endpoints = CallbackEndpointTable(custody.database)
    stack.push_async_callback(endpoints.close)
    table = CallbackTable(custody.database)
    stack.push_async_callback(table.close)
    callbacks = Callbacks(
        ledger=custody.ledger,
        table=table,
        doubts=DoubtTable(custody.database),
        boot=custody.boot.id,
        now=utc_now,
    )
    handlers = CallbackHandlers(
        endpoints,
        callbacks,
        custody.tokenize_keys,
        {route.name: route.preset.callbacks for route in config.routes},
        _proofs(config, custody, metrics),
        public_url=public_url_of(config),
        metrics=metrics,
        now=utc_now,
    )
    rounds = NoticeRounds(endpoints, StatusAsking(lanes), callbacks, now=utc_now)
    webhooks = WebhookTable(custody.database)
    telling = Telling(custody.database, now=utc_now)
    deliveries = await stack.enter_async_context(_deliveries(config, custody, metrics, chance))
    return Reporting(
        handlers,
        InboxHandlers(table, merchants),
        WebhookHandlers(_endpoints(config, custody, webhooks), webhooks, merchants, now=utc_now),
        (
            (MATCH_SECONDS, _quietly(callbacks.match_late)),
            (ASK_SECONDS, _quietly(rounds.turn)),
            (TELLING_SECONDS, _quietly(lambda: _all_told(telling))),
            (POLL_SECONDS, deliveries.run),
            (GAUGE_SECONDS, _quietly(lambda: _counted(webhooks, metrics))),
            (SWEEP_SECONDS, _quietly(lambda: table.forget_bodies(utc_now()))),
            (SWEEP_SECONDS, _quietly(lambda: webhooks.sweep(utc_now()))),
        ),
    )


def public_url_of(config: Config) -> str:
    """Return where processors reach the public listener; Square signs it."""
    listener = config.listeners.public
    host = listener.names[0] if listener.names else listener.host
    own = f"https://{f'[{host}]' if ':' in host else host}:{listener.port}"
    return (config.callbacks.public_url or own).rstrip("/")


def callback_url(config: Config, endpoint_id: str) -> str:
    """Return what to register at the processor."""
    return f"{public_url_of(config)}{PATH}{endpoint_id}"


def _proofs(config: Config, custody: Custody, metrics: Metrics) -> Proofs:
    named = config.callbacks.signing_roots_file
    roots: tuple[bytes, ...] = ()
    if named is not None:
        try:
            roots = (config.file(named).read_bytes(),)
        except OSError:
            roots = ()
        if not roots:
            raise StartRefused(f"callbacks.signing_roots_file: {config.file(named)}: no such file")
    return Proofs(
        SigningCertificates(roots, metrics, now=utc_now) if roots else None,
        roots,
        CallbackSources(time.monotonic),
        KnownCards(custody.database, custody.tokenize_keys),
        TransmissionTable(custody.database),
    )


def _endpoints(config: Config, custody: Custody, table: WebhookTable) -> WebhookEndpoints:
    return WebhookEndpoints(
        table,
        custody.reveal_keys,
        routes=schemes_by_route(config.routes),
        allow=AddressAllow.parse(config.deliveries.address_allow),
        now=utc_now,
    )


def _deliveries(
    config: Config, custody: Custody, metrics: Metrics, chance: Callable[[], float]
) -> Deliveries:
    settings = config.deliveries
    allow = AddressAllow.parse(settings.address_allow)
    ca_file = None if settings.ca_file is None else config.file(settings.ca_file)

    def route_of(url: WebhookUrl) -> UpstreamRoute:
        return UpstreamRoute(
            name="webhook",
            host=url.host,
            port=url.port,
            timeout_seconds=TIMEOUT_SECONDS,
            address_allow=allow,
            ca_file=ca_file,
            reply_bytes_max=REPLY_BYTES_MAX,
        )

    context = context_of(route_of(WebhookUrl("localhost", HTTPS_PORT, "/", "")))

    def client(url: WebhookUrl) -> Client:
        return Upstream(route_of(url), metrics, context=context)

    return Deliveries(
        DeliveryQueue(custody.database),
        custody.reveal_keys,
        client=client,
        now=utc_now,
        monotonic=time.monotonic,
        chance=chance,
        metrics=metrics,
        address_allow=allow,
        concurrency=settings.concurrency,
    )


async def _all_told(telling: Telling) -> None:
    while await telling.turn():
        pass


async def _counted(webhooks: WebhookTable, metrics: Metrics) -> None:
    counts = await webhooks.counts(utc_now())
    metrics.deliveries_open(
        {
            "waiting": counts.waiting,
            "overdue_seconds": counts.overdue_seconds,
            "dead": counts.dead,
            "paused": counts.paused,
            "disabled": counts.disabled,
            "behind": counts.behind,
        }
    )


def _quietly(work: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[None]]:
    async def turn() -> None:
        """Repeat a turn that failed at the next; metrics of the store show why."""
        with suppress(CustodyError):
            await work()

    return turn
