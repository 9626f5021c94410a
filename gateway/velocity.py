"""Whether somebody tries out cards: what is declined, weighed against what goes well. Pure state.

What lives here: a balance for each network of a tenant and one for each tenant, and how long either
is refused. What never may: cards or anything made of one, queues, clocks of its own, and tenants or
networks without end.

Whoever tests stolen or guessed cards needs an answer of the processor to each. So outcomes are
counted, of cards that a browser brought in (with a publishable key, which anybody can read):

    network  a decline adds one, an approval takes half of one away, for whoever has one good card
             has as many approvals as he likes. At ten this network is refused, alone. Ten declines
             of a network in an hour are held against the tenant, and no more, whatever else it has
             approved: one attacker with one network closes no shop, and few keep none closed.
    tenant   a decline adds one, an approval takes `relief` away. `relief` is chosen so that with
             a quarter more declines than `usual_share` both are equal: an ordinary shop stays near
             nothing, however much it sells, and an attack comes to the limit within as many
             attempts in a large shop as in a small one. A share of the last ten minutes would not
             do: in a shop with 2,000 sales in them, 470 attempts hide.

A card that is not well-formed tells an attacker nothing that arithmetic would not, and costs a
script nothing: it is held against its network only, by a balance of its own, or else fifty wrong
digits would close a shop.

Time drains every balance. A tenant at its limit is refused for a minute, then tried with half the
evidence still standing, and at the limit again refused for twice as long, up to a quarter of an
hour: each trial is a gift to the attacker, and a sale to the merchant. What ends during a refusal
began before it and counts for nothing.
"""

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from gateway.errors import CardTesting

WINDOW_SECONDS: Final = 600.0  # ten declines of a network are forgotten in this time
USUAL_SHARE: Final = 0.2  # card-not-present sales are declined at 5 to 20 %
NETWORK_FAILURES_MAX: Final = 10
NETWORK_RELIEF: Final = 0.5
TENANT_FAILURES_MAX: Final = 40
TENANT_WINDOW_SECONDS: Final = 3600.0
TOLERANCE: Final = 4 / 3  # by how much the odds may be above the usual ones before they tell

REFUSAL_SECONDS: Final = 60.0
REFUSAL_MAX_SECONDS: Final = 900.0
REFUSAL_GROWTH: Final = 2.0

NETWORKS_MAX: Final = 16_384  # some 4 MB
TENANTS_MAX: Final = 1024

_Key = TypeVar("_Key", bound=Hashable)


class _Balances(Generic[_Key]):
    """How much more went wrong than well; a key with nothing against it is not remembered."""

    def __init__(self, *, ceiling: float, drained_per_second: float, keys_max: int) -> None:
        self._ceiling = ceiling
        self._drained_per_second = drained_per_second
        self._keys_max = keys_max
        self._levels: dict[_Key, tuple[float, float]] = {}  # level, as of; latest changed last

    def __len__(self) -> int:
        return len(self._levels)

    def of(self, key: _Key, now: float) -> float:
        known = self._levels.get(key)
        if known is None:
            return 0.0
        level, at = known
        return max(0.0, level - max(0.0, now - at) * self._drained_per_second)

    def change(self, key: _Key, by: float, now: float) -> float:
        level = min(self._ceiling, self.of(key, now) + by)
        self.put(key, level, now)
        return level

    def put(self, key: _Key, level: float, at: float) -> None:
        self._levels.pop(key, None)
        if level <= 0:
            return
        if len(self._levels) >= self._keys_max:
            del self._levels[next(iter(self._levels))]
        self._levels[key] = level, at

    def seconds_until(self, level: float, key: _Key, now: float) -> float:
        return (self.of(key, now) - level) / self._drained_per_second


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Until when a tenant is refused, and for how long it has been this time."""

    until: float
    seconds: float


class Velocity:
    """What became of the cards that browsers brought in lately, for every tenant."""

    def __init__(  # noqa: PLR0913 - the limits, each with its default
        self,
        now: Callable[[], float],
        *,
        window_seconds: float = WINDOW_SECONDS,
        usual_share: float = USUAL_SHARE,
        network_failures_max: int = NETWORK_FAILURES_MAX,
        tenant_failures_max: int = TENANT_FAILURES_MAX,
        networks_max: int = NETWORKS_MAX,
        tenants_max: int = TENANTS_MAX,
    ) -> None:
        """`now` gives seconds of a clock that only moves forward."""
        assert 0 < usual_share < 1, "a share that leaves room on both sides"
        assert min(network_failures_max, tenant_failures_max) > 0, "nobody could pay"
        self._now = now
        self._relief = usual_share / (1 - usual_share) * TOLERANCE
        self._network_open = network_failures_max - 1  # at or below: room for one more
        self._tenant_max = float(tenant_failures_max)
        self._tenants_max = tenants_max
        per_second = network_failures_max / window_seconds
        self._declined, self._mistyped = (
            _Balances[tuple[str, str]](
                ceiling=2.0 * network_failures_max,  # refused for eleven minutes at most
                drained_per_second=per_second,
                keys_max=networks_max,
            )
            for _ in range(2)
        )
        self._weighed = _Balances[tuple[str, str]](  # of a network, against its tenant
            ceiling=float(network_failures_max),
            drained_per_second=network_failures_max / TENANT_WINDOW_SECONDS,
            keys_max=networks_max,
        )
        self._tenants = _Balances[str](
            ceiling=self._tenant_max,
            drained_per_second=self._tenant_max / TENANT_WINDOW_SECONDS,
            keys_max=tenants_max,
        )
        self._refusals: dict[str, _Refusal] = {}  # the latest begun are last

    @property
    def tenants_refused(self) -> int:
        """How many tenants are refused at this moment."""
        now = self._now()
        return sum(now < refusal.until for refusal in self._refusals.values())

    def check(self, tenant: str, network: str | None) -> None:
        """Let a card of this network in, or not. Changes nothing. Raises CardTesting."""
        now = self._now()
        if network is not None:
            key = tenant, network
            for balances in (self._declined, self._mistyped):
                wait = balances.seconds_until(self._network_open, key, now)
                if wait > 0:
                    raise CardTesting(math.ceil(wait), "network")
        refusal = self._refusals.get(tenant)
        if refusal is not None and now < refusal.until:
            raise CardTesting(math.ceil(refusal.until - now), "tenant")

    def mistyped(self, tenant: str, network: str) -> None:
        """Count a card that was not well-formed."""
        self._mistyped.change((tenant, network), 1, self._now())

    def tokenized(self, tenant: str, network: str) -> None:
        """Count a card that became a token."""
        self._mistyped.change((tenant, network), -1, self._now())

    def failed(self, tenant: str, network: str | None) -> None:
        """Count a decline."""
        now = self._now()
        if network is not None:
            key = tenant, network
            self._declined.change(key, 1, now)
            if self._weighed.of(key, now) > self._network_open:
                return
            self._weighed.change(key, 1, now)
        self._weigh(tenant, 1, now)

    def went_well(self, tenant: str, network: str | None) -> None:
        """Count an approval."""
        now = self._now()
        if network is not None:
            self._declined.change((tenant, network), -NETWORK_RELIEF, now)
        self._weigh(tenant, -self._relief, now)

    def _weigh(self, tenant: str, by: float, now: float) -> None:
        last = self._refusals.get(tenant)
        if last is not None and now < last.until:
            return
        level = self._tenants.change(tenant, by, now)
        if level >= self._tenant_max:
            self._refuse(tenant, last, now)
        elif level <= 0 and last is not None:
            del self._refusals[tenant]  # all is as if it had never been

    def _refuse(self, tenant: str, last: _Refusal | None, now: float) -> None:
        seconds = REFUSAL_SECONDS
        if last is not None:
            seconds = min(REFUSAL_MAX_SECONDS, last.seconds * REFUSAL_GROWTH)
        self._refusals.pop(tenant, None)
        if len(self._refusals) >= self._tenants_max:
            del self._refusals[next(iter(self._refusals))]
        self._refusals[tenant] = _Refusal(now + seconds, seconds)
        self._tenants.put(tenant, self._tenant_max / 2, now + seconds)
