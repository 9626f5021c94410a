"""Wires what pages and apps use: the keys that they seal cards to, their limits, the hosted fields.

What never may live here: how any of it works.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from gateway.api.edge_keys import EdgeKeyHandlers
from gateway.checkout.inventory import load_inventory
from gateway.checkout.pages import CheckoutPages
from gateway.config import Config
from gateway.cross_origin import CrossOrigin
from gateway.custody import Custody, utc_now
from gateway.merchants import Merchants
from gateway.metrics import Metrics
from gateway.page_guard import PageGuard, PageLimits
from gateway.publishing import Duty, Publishing
from gateway.request_event import EventLog, Incident
from gateway.sealed import Unsealing
from gateway.velocity import Velocity
from gateway.visits import Visits
from vault.edge_key_rotation import TURN_SECONDS, EdgeKeyRotation
from vault.edge_keys import REFRESH_SECONDS, EdgeKeys
from vault.errors import CustodyError
from vault.nonce_table import NonceTable

LOOK_SECONDS: Final = 1.0
SWEEP_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Hosting:
    """The parts, and what they do on a clock."""

    cross: CrossOrigin
    visits: Visits
    guard: PageGuard
    unsealing: Unsealing
    edge_keys: EdgeKeyHandlers
    checkout: CheckoutPages
    duties: Sequence[Duty]


async def open_hosting(
    config: Config,
    custody: Custody,
    merchants: Merchants,
    publishing: Publishing,
    log: EventLog,
    metrics: Metrics,
) -> Hosting:
    """Open them, and know the keys that there are.

    Raises StartRefused when a script is not the one of the inventory.
    """
    settings = config.checkout
    keys = EdgeKeys(
        custody.tokenize,
        origin=config.ledger.origin,
        now=utc_now,
        on_refused=metrics.edge_key_refused,
    )
    rotation = EdgeKeyRotation(
        custody.reveal,
        custody.ledger,
        origin=config.ledger.origin,
        now=utc_now,
        rotate=timedelta(hours=settings.edge_key_hours),
        overlap=timedelta(hours=settings.edge_key_overlap_hours),
    )
    refreshing, rotating = _refreshing(keys, metrics), _rotating(rotation, publishing, keys)
    await refreshing()
    await rotating()
    cross = CrossOrigin(merchants)
    guard = _guard(config, log, metrics)
    visits = Visits(merchants, cross, guard)
    return Hosting(
        cross,
        visits,
        guard,
        Unsealing(keys, now=utc_now, observe=metrics.unsealed),
        EdgeKeyHandlers(keys, visits, cross, origin=config.ledger.origin),
        CheckoutPages(
            load_inventory(),
            merchants,
            metrics,
            guard,
            env=config.env,
            ledger_origin=config.ledger.origin,
        ),
        (
            (REFRESH_SECONDS, refreshing),
            (LOOK_SECONDS, rotating),
            (SWEEP_SECONDS, _sweeping(custody)),
        ),
    )


def _guard(config: Config, log: EventLog, metrics: Metrics) -> PageGuard:
    settings = config.checkout
    return PageGuard(
        PageLimits(
            settings.address_per_second,
            settings.address_burst,
            settings.key_per_second,
            settings.key_burst,
        ),
        Velocity(
            time.monotonic,
            usual_share=settings.usual_declines,
            network_failures_max=settings.network_failures,
        ),
        metrics=metrics,
        monotonic=time.monotonic,
        suspected=lambda scope: log.incident(
            Incident("card_testing_suspected", level="error", error=scope)
        ),
    )


def _refreshing(keys: EdgeKeys, metrics: Metrics) -> Callable[[], Awaitable[None]]:
    async def refresh() -> None:
        """Know the keys that another gateway made, and forget those that are gone."""
        try:
            await keys.refresh()
        except CustodyError:
            return
        published = keys.published()
        metrics.edge_keys_published(len(published))
        if published:
            metrics.edge_key_aged((utc_now() - published[0].not_before).total_seconds())

    return refresh


def _rotating(
    rotation: EdgeKeyRotation, publishing: Publishing, keys: EdgeKeys
) -> Callable[[], Awaitable[None]]:
    next_turn = 0.0

    async def turn() -> None:
        """One gateway rotates, the one that signs the ledger; whichever finds no key makes one.

        So two that start at once may make two: both are good, and nothing else follows.
        """
        nonlocal next_turn
        at = time.monotonic()
        if keys.published() and (at < next_turn or not publishing.publisher.is_elected):
            return
        try:
            await keys.refresh()
            await rotation.turn(usable=bool(keys.published()))
            await keys.refresh()
            next_turn = at + TURN_SECONDS
        except CustodyError:
            return

    return turn


def _sweeping(custody: Custody) -> Callable[[], Awaitable[None]]:
    nonces = NonceTable(custody.database)

    async def sweep() -> None:
        """A nonce is remembered for as long as what it was sealed into could be accepted."""
        try:
            await nonces.sweep(utc_now())
        except CustodyError:
            return

    return sweep
