"""What custody reports about itself while it works: counts and durations, never content.

The gateway's metrics implement this; everything else may use `Silent`.
"""

from datetime import datetime
from typing import Protocol


class Observer(Protocol):
    """Durations are in seconds; every word is from a closed list."""

    def transit_called(self, operation: str, items: int, seconds: float, result: str) -> None: ...

    def transit_waited(self, operation: str, seconds: float) -> None: ...

    def transit_item_failed(self, operation: str, kind: str) -> None: ...

    def transit_mismatched(self) -> None: ...

    def store_called(self, operation: str, seconds: float, result: str) -> None: ...

    def ledger_appended(self, entries: int, seconds: float, result: str) -> None: ...

    def ledger_published(self, size: int, at: datetime) -> None: ...

    def ledger_publish_failed(self, reason: str) -> None: ...


class Silent:
    """Reports to nobody."""

    def transit_called(self, operation: str, items: int, seconds: float, result: str) -> None:
        pass

    def transit_waited(self, operation: str, seconds: float) -> None:
        pass

    def transit_item_failed(self, operation: str, kind: str) -> None:
        pass

    def transit_mismatched(self) -> None:
        pass

    def store_called(self, operation: str, seconds: float, result: str) -> None:
        pass

    def ledger_appended(self, entries: int, seconds: float, result: str) -> None:
        pass

    def ledger_published(self, size: int, at: datetime) -> None:
        pass

    def ledger_publish_failed(self, reason: str) -> None:
        pass
