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
KEY_SHARE: Final = 8
NETWORK_SHARE: Final = 8  # of addresses: carriers put many shoppers behind few
STRANGERS_PER_SECOND: Final = 5.0
STRANGERS_BURST: Final = 100
CODES_PER_SECOND: Final = 1 / 60
CODES_BURST: Final = 10
KEY_RETRY_SECONDS: Final = 5
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
        """`suspected` is told when calls begin to be refused for what others do: a scope."""

        def calls(scope: float, callers_max: int, *, of_key: bool = False) -> CallLimits:
            second, burst = (
                (limits.key_per_second, limits.key_burst)
                if of_key
                else (limits.address_per_second, limits.address_burst)
            )
            return CallLimits(
                monotonic,
                per_second=second * scope,
                burst=round(burst * scope),
                concurrency=CONCURRENCY * (KEY_SHARE if of_key else 1),
                tenants_max=callers_max,
            )

        self._addresses = calls(1, ADDRESSES_MAX)
        self._networks = calls(NETWORK_SHARE, ADDRESSES_MAX)
        self._keys = calls(1, KEYS_MAX, of_key=True)
        self._strangers = CallLimits(
            monotonic,
            per_second=STRANGERS_PER_SECOND,
            burst=STRANGERS_BURST,
            tenants_max=ADDRESSES_MAX,
        )
        self._codes = CallLimits(
            monotonic, per_second=CODES_PER_SECOND, burst=CODES_BURST, tenants_max=ADDRESSES_MAX
        )
        self._velocity = velocity
        self._monotonic = monotonic
        self._quiet_until = 0.0
        self._metrics = metrics
        self._suspected = suspected

    # --- who calls ------------------------------------------------------------------------

    def check_stranger(self, address: str) -> None:
        """Look nothing up for who has asked for too much that is not there. Raises RateLimited."""
        try:
            self._strangers.check(one_caller(address))
        except RateLimited:
            self._metrics.page_refused("stranger")
            raise

    def is_strange(self, address: str) -> None:
        """Count a key that is none."""
        self._strangers.spend(one_caller(address))

    @contextmanager
    def enter(self, address: str) -> Iterator[None]:
        """Hold a place for one call of a page, from before its body is read. Raises RateLimited.

        By address and by network alone: whoever has many of the first has few of the second, and
        bodies that never end use up nobody else's places.
        """
        with (
            self._limited("address", self._addresses, one_caller(address)),
            self._limited("network_calls", self._networks, network_of(address)),
        ):
            yield

    @contextmanager
    def key(self, caller: Caller, address: str) -> Iterator[None]:
        """Hold a place of the key's, once there is something to do. Raises RateLimited.

        Anybody can copy the key out of the page and use it up. Then who has hardly called yet is
        let in all the same: a shopper pays once, who floods comes again and again.
        """
        entered = False
        try:
            with self._keys.enter(caller.key):
                entered = True
                yield
        except RateLimited:
            if entered:
                raise
        if not entered:
            self._refuse("key")
            if not self._addresses.is_fresh(one_caller(address)):
                raise RateLimited(KEY_RETRY_SECONDS)
            yield

    @contextmanager
    def code(self, caller: Caller, address: str, token: str) -> Iterator[None]:
        """Let a code for a stored card in. Raises RateLimited, CardTesting.

        Whoever knows a token and the page's key could overwrite its code again and again.
        """
        with self._limited("code", self._codes, token), self.card(caller.tenant, address):
            yield

    # --- whose cards are good -------------------------------------------------------------

    @contextmanager
    def card(self, tenant: str, address: str) -> Iterator[str]:
        """Let a card in, and give the network that it comes from. Raises CardTesting."""
        network = network_of(address)
        self._check(tenant, network)
        try:
            yield network
        except InvalidCard:
            self._velocity.mistyped(tenant, network)
            raise
        self._velocity.tokenized(tenant, network)

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
            self._refuse(testing.scope)
            raise

    def _refuse(self, scope: str) -> None:
        """Count it, and tell of it once a minute."""
        self._metrics.page_refused(scope)
        at = self._monotonic()
        if at >= self._quiet_until:
            self._quiet_until = at + QUIET_SECONDS
            self._suspected(scope)

    @contextmanager
    def _limited(
        self, scope: Literal["address", "network_calls", "code"], limits: CallLimits, who: str
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


def one_caller(address: str) -> str:
    """An IPv4 address; of IPv6 the /64, which is the least that anybody gets."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return "unknown"
    return address if parsed.version == 4 else str(ip_network((parsed, 64), strict=False))  # noqa: PLR2004
