"""Scans a stream in constant memory: a number is found wherever its pieces are cut. Pure.

The last bytes are kept back until what follows is known, for a number may have begun in them.
What never lives here: what is done about a find.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.scan import find_cards
from gateway.scan_hits import Hit

_AFTER: Final = 256
"""Bytes that have to follow a hit for it to be whole."""
KEPT_BACK: Final = 4096 - _AFTER
_BEFORE: Final = 64
"""Bytes already let go that are looked at again: whether a digit stood before."""


@dataclass(frozen=True, slots=True, repr=False)
class Piece:
    """Bytes that may go on, and what is in them; `hits` are places in `raw`."""

    raw: bytes
    hits: Sequence[Hit]
    exhausted: bool = False


class ScanStream:
    """One direction of one stream."""

    def __init__(
        self, *, windows: bool = False, binary: bool = False, at_lines: bool = False
    ) -> None:
        """With `at_lines`, what ends with a line is let go at once: a page waits for events."""
        self._windows = windows
        self._binary = binary
        self._at_lines = at_lines
        self._before = b""
        self._kept = b""

    def feed(self, data: bytes) -> list[Piece]:
        self._kept += data
        if self._at_lines and (end := self._kept.rfind(b"\n") + 1):
            return self._let_go(end)
        if len(self._kept) <= KEPT_BACK + _AFTER:
            return []
        return self._let_go(len(self._kept) - KEPT_BACK)

    def end(self) -> list[Piece]:
        return self._let_go(len(self._kept)) if self._kept else []

    def _let_go(self, cut: int) -> list[Piece]:
        """Let go of what is before `cut`, or before or after the hit that stands across it."""
        skipped = len(self._before)
        window = self._before + self._kept
        found = find_cards(window, windows=self._windows, binary=self._binary)
        hits = [hit.moved(-skipped) for hit in found.hits if hit.start >= skipped]
        for hit in hits:
            if hit.start < cut < hit.end:
                far_enough = hit.end + _AFTER <= len(self._kept) or hit.start == 0
                cut = hit.end if far_enough else hit.start
        if not cut:
            return []
        raw, self._kept = self._kept[:cut], self._kept[cut:]
        self._before = (self._before + raw)[-_BEFORE:]
        return [Piece(raw, [hit for hit in hits if hit.end <= cut], found.exhausted)]
