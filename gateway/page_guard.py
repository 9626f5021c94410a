"""What a page may do with a publishable key: how often, and for how long while cards are refused.

Anybody can read a page's key, so what it is good for is bounded: calls by address and by key
(T-21), and new cards while too many of them turn out not to be good (T-24). In memory: each process
bounds for itself. What never may live here: a card, or what was wrong with one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Final, Literal

from gateway.errors import CardTesting, RateLimited
from gateway.limits import CallLimits
from gateway.merchants import Caller
from gateway.metrics import Metrics
from gateway.source_address import network_of
from gateway.velocity import Velocity
from vault.authorization import Kind, Result
from vault.errors import InvalidCard

CONCURRENCY: Final = 64
QUIET_SECONDS: Final = 60.0
ADDRESSES_MAX: Final = 20_000
KEYS_MAX: Final = 10_000
TRIES_A_CARD: Final = frozenset({Kind.AUTHORIZE, Kind.VERIFY, Kind.STORE_CARD})
_GOOD: Final = frozenset({Result.APPROVED, Result.STORED})


@dataclass(frozen=True, slots=True)
class PageLimits:
    """How often: a second and in a burst, for one network address and for one key."""

    address_per_second: float = 1.0
    address_burst: int = 30
    key_per_second: float = 100.0
    key_burst: int = 400


class PageGuard:
    """Bounds what publishable keys do, and hears what became of their cards."""

    def __init__(
        self,
        limits: PageLimits,
        velocity: Velocity,
        *,
        metrics: Metrics,
        monotonic: Callable[[], float],
        suspected: Callable[[str], None] = lambda _scope: None,
    ) -> None:
        """`suspected` is told when cards begin to be refused: network or tenant."""
        self._addresses = CallLimits(
            monotonic,
            per_second=limits.address_per_second,
            burst=limits.address_burst,
            concurrency=CONCURRENCY,
            tenants_max=ADDRESSES_MAX,
        )
        self._keys = CallLimits(
            monotonic,
            per_second=limits.key_per_second,
            burst=limits.key_burst,
            concurrency=CONCURRENCY * 4,
            tenants_max=KEYS_MAX,
        )
        self._velocity = velocity
        self._monotonic = monotonic
        self._quiet_until = 0.0
        self._metrics = metrics
        self._suspected = suspected

    @contextmanager
    def enter(self, caller: Caller, address: str) -> Iterator[None]:
        """Hold a place for one call of a page. Raises RateLimited."""
        with (
            self._limited("address", self._addresses, _one_caller(address)),
            self._limited("key", self._keys, caller.key),
        ):
            yield

    @contextmanager
    def card(self, caller: Caller, address: str) -> Iterator[str]:
        """Let a card in, and give the network that it comes from. Raises CardTesting."""
        network = network_of(address)
        self._check(caller.tenant, network)
        try:
            yield network
        except InvalidCard:
            self._velocity.mistyped(caller.tenant, network)
            raise
        self._velocity.tokenized(caller.tenant, network)

    def admit(self, tenant: str, network: str | None, kind: Kind) -> None:
        """Let a page's card be tried at a processor. Raises CardTesting."""
        if network is not None and kind in TRIES_A_CARD:
            self._check(tenant, network)

    def judge(self, tenant: str, network: str | None, kind: Kind, result: Result | None) -> None:
        """Hear what a processor said of a card that came from a page and is not kept."""
        if network is None or kind not in TRIES_A_CARD:
            return
        if result is Result.DECLINED:
            self._velocity.failed(tenant, network)
        elif result in _GOOD:
            self._velocity.went_well(tenant, network)

    def _check(self, tenant: str, network: str) -> None:
        try:
            self._velocity.check(tenant, network)
        except CardTesting as testing:
            self._metrics.page_refused(testing.scope)
            at = self._monotonic()
            if at >= self._quiet_until:  # one line a minute says enough
                self._quiet_until = at + QUIET_SECONDS
                self._suspected(testing.scope)
            raise

    @contextmanager
    def _limited(
        self, scope: Literal["address", "key"], limits: CallLimits, who: str
    ) -> Iterator[None]:
        entered = False
        try:
            with limits.enter(who):
                entered = True
                yield
        except RateLimited:
            if not entered:
                self._metrics.page_refused(scope)
            raise


def _one_caller(address: str) -> str:
    """An IPv4 address; of IPv6 the /64, which is the least that anybody gets."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return "unknown"
    return address if parsed.version == 4 else str(ip_network((parsed, 64), strict=False))  # noqa: PLR2004
