"""Where a request's time goes: the gateway, HashiCorp Vault, the store, the processor."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

VAULT_STAGES: Final = frozenset({"digest", "decrypt", "seal"})
STORE_STAGES: Final = frozenset({"auth", "claim", "rows", "intent", "outcome"})
PROCESSOR_STAGES: Final = frozenset({"processor"})


class Stopwatch:
    """Seconds by stage, on a clock that is passed in."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._started = monotonic()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def running(self, stage: str) -> Iterator[None]:
        started = self._monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + self._monotonic() - started

    def total(self) -> float:
        """Seconds since the start."""
        return self._monotonic() - self._started

    def of(self, stages: frozenset[str]) -> float:
        """Seconds in these stages."""
        return sum(seconds for stage, seconds in self.seconds.items() if stage in stages)

    def server_timing(self) -> str:
        """The Server-Timing header (W3C Server Timing): milliseconds, by whose they are."""
        vault, store = self.of(VAULT_STAGES), self.of(STORE_STAGES)
        processor = self.of(PROCESSOR_STAGES)
        gateway = max(self.total() - vault - store - processor, 0.0)
        parts = (
            ("gateway", gateway),
            ("vault", vault),
            ("store", store),
            ("processor", processor),
        )
        return ", ".join(f"{name};dur={seconds * 1000:.1f}" for name, seconds in parts)
