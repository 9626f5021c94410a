"""How much of something each caller may use: calls a second, and calls at a time. Pure state.

What lives here: a bucket of tokens and a count for each caller: a tenant of a route, an address, a
key. What never may: a queue (whoever is refused is told when to come back), clocks of its own, and
callers without end.

A bucket holds `burst` tokens, gets `per_second` back, and a call takes one. Of more tenants than
`TENANTS_MAX` those that have called least lately are forgotten, never one with a call under way:
a tenant that comes back later finds a full bucket, which is what time gives it anyway.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from gateway.errors import RateLimited

PER_SECOND: Final = 200.0
BURST: Final = 400
CONCURRENCY: Final = 256  # twice a route's connections: a queue before them is no offense
TENANTS_MAX: Final = 1024
_ONE: Final = 1 - 1e-6  # a token, if it came in many parts
CROWDED_SECONDS: Final = 1  # nobody knows when a call ends; most do within a second


@dataclass(slots=True)
class _Use:
    """What one tenant has left, as of a moment."""

    tokens: float
    at: float
    under_way: int = 0


class CallLimits:
    """What callers may do; each alone, so none can use up another's."""

    def __init__(
        self,
        now: Callable[[], float],
        *,
        per_second: float = PER_SECOND,
        burst: int = BURST,
        concurrency: int = CONCURRENCY,
        tenants_max: int = TENANTS_MAX,
    ) -> None:
        """`now` gives seconds of a clock that only moves forward."""
        assert per_second > 0, "a limit of nothing is a route that should not be there"
        assert burst >= 1, "a bucket holds one call at least"
        self._now = now
        self._per_second = per_second
        self._burst = burst
        self._concurrency = concurrency
        self._tenants_max = tenants_max
        self._uses: dict[str, _Use] = {}  # the latest to call are last

    @contextmanager
    def enter(self, tenant: str) -> Iterator[None]:
        """Hold a place for as long as a call is under way. Raises RateLimited."""
        use = self._use(tenant)
        if use.under_way >= self._concurrency:
            raise RateLimited(CROWDED_SECONDS)
        if use.tokens < _ONE:
            raise RateLimited(math.ceil((1 - use.tokens) / self._per_second))
        use.tokens -= 1
        use.under_way += 1
        try:
            yield
        finally:
            use.under_way -= 1

    def check(self, caller: str) -> None:
        """Use nothing up. Raises RateLimited when there is nothing left."""
        use = self._use(caller)
        if use.tokens < _ONE:
            raise RateLimited(math.ceil((1 - use.tokens) / self._per_second))

    def spend(self, caller: str) -> None:
        """Use one call up, if one is left."""
        use = self._use(caller)
        use.tokens = max(0.0, use.tokens - 1)

    def is_fresh(self, caller: str) -> bool:
        """Whether it has hardly called of late: all but one of its calls are left."""
        return self._use(caller).tokens > self._burst - 1 - (1 - _ONE)

    def _use(self, tenant: str) -> _Use:
        now = self._now()
        use = self._uses.pop(tenant, None) or _Use(self._burst, now)
        earned = max(0.0, now - use.at) * self._per_second
        use.tokens, use.at = min(self._burst, use.tokens + earned), now
        self._make_room()
        self._uses[tenant] = use
        return use

    def _make_room(self) -> None:
        if len(self._uses) >= self._tenants_max:
            idle = next((name for name, use in self._uses.items() if not use.under_way), None)
            if idle is not None:
                del self._uses[idle]
