"""Where a request's time goes: the gateway, HashiCorp Vault, the store, the processor."""

from collections.abc import Callable
from typing import Final

VAULT_STAGES: Final = frozenset({"digest", "decrypt", "seal"})
STORE_STAGES: Final = frozenset({"auth", "claim", "rows", "intent", "outcome"})
PROCESSOR_STAGES: Final = frozenset({"processor"})


class Stopwatch:
    """Seconds by stage, on a clock that is passed in."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.monotonic = monotonic
        self.seconds: dict[str, float] = {}
        self._started = monotonic()

    def running(self, stage: str) -> "_Stage":
        return _Stage(self, stage)

    def total(self) -> float:
        """Seconds since the start."""
        return self.monotonic() - self._started

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


class _Stage:
    """One stage, for as long as it takes. A class: a generator costs three times as much."""

    __slots__ = ("_name", "_started", "_watch")

    def __init__(self, watch: Stopwatch, name: str) -> None:
        self._watch = watch
        self._name = name
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = self._watch.monotonic()

    def __exit__(self, *_: object) -> None:
        seconds = self._watch.seconds
        taken = self._watch.monotonic() - self._started
        seconds[self._name] = seconds.get(self._name, 0.0) + taken
