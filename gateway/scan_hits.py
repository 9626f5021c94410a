"""What the scanner finds: a place, what it holds, and what can stand there instead. Pure.

What never lives here: how it is found, and what is done about it. Nothing here prints a digit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from vault.pan import Pan


class Kind(StrEnum):
    """What a hit is."""

    PAN = "pan"
    TRACK_1 = "track_1"
    TRACK_2 = "track_2"
    EMV = "emv"
    WINDOW = "window"
    """Within a longer run of digits: by chance in most of them, so only ever reported."""


Spell = Callable[[Sequence[str]], bytes]
Mask = Callable[[], bytes]


@dataclass(slots=True, repr=False, eq=False)
class Hit:
    """One place of a body that holds card numbers. Not frozen: making one took twice as long."""

    kind: Kind
    start: int
    end: int
    """In the bytes given: `body[start:end]` is what has to go."""
    encoding: str
    """How it is spelled, outermost first, "/" between: `plain`, `base64/percent` and so on."""
    brand: str
    numbers: tuple[Pan, ...]
    """Several where one container, such as a run of base64, holds several."""
    spell: Spell = field(kw_only=True)
    mask: Mask = field(kw_only=True)
    """Of the very length of the place."""
    short_mask: Mask | None = field(default=None, kw_only=True)
    is_json_number: bool = field(default=False, kw_only=True)
    """Whether it stands bare where JSON has a number, so that a text there needs quotes."""

    def spelled(self, texts: Sequence[str]) -> bytes:
        """Spell texts as the numbers are: who undoes the encoding reads them in their place."""
        assert len(texts) == len(self.numbers), "a text for each number"
        return self.spell(texts)

    def masked(self, *, same_length: bool = False) -> bytes:
        """Give the last four with the rest starred; of a track, nothing."""
        if same_length or self.short_mask is None:
            return self.mask()
        return self.short_mask()

    def moved(self, by: int) -> "Hit":
        """Give the same hit for a body that begins elsewhere."""
        if not by:
            return self
        return Hit(
            self.kind,
            self.start + by,
            self.end + by,
            self.encoding,
            self.brand,
            self.numbers,
            spell=self.spell,
            mask=self.mask,
            short_mask=self.short_mask,
            is_json_number=self.is_json_number,
        )


@dataclass(frozen=True, slots=True, repr=False)
class Found:
    """All that was found, in order and without overlaps."""

    hits: tuple[Hit, ...]
    exhausted: bool
    """Whether a limit was met (hits or work), so that there may be more: who refuses, refuses."""


def replaced(body: bytes, hits: Sequence[Hit], pieces: Sequence[bytes], start: int = 0) -> bytes:
    """Put a piece in the place of each hit; what is before `start` is left out."""
    parts, at = [], start
    for hit, piece in zip(hits, pieces, strict=True):
        parts += [body[at : hit.start], piece]
        at = hit.end
    return b"".join((*parts, body[at:]))
