"""Keys that were looked up a moment ago: a busy caller costs one look-up in five seconds.

So a revoked key counts for that long, and for that long a database may be away. What never lives
here: whether a key is good.
"""

from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

CACHE_SECONDS: Final = 5.0
CACHED_KEYS_MAX: Final = 10_000

Name = TypeVar("Name", str, bytes)
"""By what a key is found: its id, or the digest of an alias."""
Row = TypeVar("Row")


class KnownKeys(Generic[Row]):
    """Rows by the name that they were asked for by."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._rows: dict[str | bytes, tuple[float, Row]] = {}

    def has_met(self, name: Name) -> bool:
        """Whether it was found before, however long ago: who asks for it is no stranger."""
        return name in self._rows

    async def row(self, name: Name, read: Callable[[Name], Awaitable[Row | None]]) -> Row | None:
        """Return the row, read anew when it was last read too long ago. Raises what `read` does."""
        at = self._monotonic()
        known = self._rows.get(name)
        if known is not None and at - known[0] < CACHE_SECONDS:
            return known[1]
        row = await read(name)
        if row is None:  # not remembered: a stranger's guesses must not push real keys out
            self._rows.pop(name, None)
            return None
        if len(self._rows) >= CACHED_KEYS_MAX:
            self._rows.clear()
        self._rows[name] = (at, row)
        return row
