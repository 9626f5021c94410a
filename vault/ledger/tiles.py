"""The log as static files (C2SP tlog-tiles): which there are, and which hashes they hold. Pure.

Here live the names of tiles and entry bundles, their contents, and the way from a proof to the
tiles that its hashes are made of. What never may: where files lie, and any input or output.

A tile of level L holds up to 256 nodes of tree level 8·L. Only full tiles go up: a partial one
is never hashed into the level above.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final

from vault.ledger.note import NoteRefused
from vault.ledger.tree import HASH_BYTES, SIZE_MAX, node_hash, root_of

TILE_WIDTH: Final = 256
TILE_HEIGHT: Final = 8  # tree levels in a tile
LEVEL_MAX: Final = 63
LENGTH_BYTES: Final = 2
ENTRY_BYTES_MAX: Final = 2 ** (8 * LENGTH_BYTES) - 1

_PATH: Final = re.compile(
    r"tile/(?:(?P<entries>entries)|(?P<level>[0-9]{1,2}))"
    r"/(?P<index>(?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?"
)


@dataclass(frozen=True, slots=True)
class TileName:
    """A tile, or where `level` is None a bundle of entries; narrower than 256: a partial one."""

    level: int | None
    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        assert self.level is None or 0 <= self.level <= LEVEL_MAX
        assert 0 <= self.index <= SIZE_MAX // TILE_WIDTH
        assert 1 <= self.width <= TILE_WIDTH

    def __lt__(self, other: "TileName") -> bool:
        return self._place < other._place

    @property
    def path(self) -> str:
        """Where it lies below the log's prefix."""
        level = "entries" if self.level is None else str(self.level)
        above, last = divmod(self.index, 1000)
        groups = [f"{last:03}"]
        while above:
            above, group = divmod(above, 1000)
            groups.append(f"x{group:03}")
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{level}/{'/'.join(reversed(groups))}{partial}"

    @property
    def height(self) -> int:
        """The level in the tree of the nodes that it holds; a bundle's are leaves."""
        return TILE_HEIGHT * (self.level or 0)

    @property
    def _place(self) -> tuple[int, int, int]:
        return (-1 if self.level is None else self.level, self.index, self.width)


def parse_tile_path(path: str) -> TileName | None:
    """Read a path in its one spelling; None for what is no tile's."""
    found = _PATH.fullmatch(path)
    if not found:
        return None
    level = None if found["entries"] else int(found["level"])
    index = int(found["index"].replace("x", "").replace("/", ""))
    width = int(found["width"] or TILE_WIDTH)
    if (level or 0) > LEVEL_MAX or index > SIZE_MAX // TILE_WIDTH or width > TILE_WIDTH:
        return None
    name = TileName(level, index, width)
    return name if name.path == path else None


# --- which there are ----------------------------------------------------------------------


def tiles_of(size: int, *, since: int = 0) -> Iterator[TileName]:
    """Name all that a log of `size` has and one of `since` has not: bundles, then tiles."""
    assert 0 <= since <= size <= SIZE_MAX
    yield from _of_level(None, size, since)
    level = 0
    while nodes := size >> TILE_HEIGHT * level:
        yield from _of_level(level, nodes, since >> TILE_HEIGHT * level)
        level += 1


def _of_level(level: int | None, nodes: int, had: int) -> Iterator[TileName]:
    """Name the full tiles and the partial one of so many nodes, if there were `had` before."""
    if nodes == had:
        return
    for index in range(had // TILE_WIDTH, nodes // TILE_WIDTH):
        yield TileName(level, index)
    if nodes % TILE_WIDTH:
        yield TileName(level, nodes // TILE_WIDTH, nodes % TILE_WIDTH)


def exists(name: TileName, size: int) -> bool:
    """Whether a log of `size` has all nodes of the tile: the full one, or a partial one."""
    return name.index * TILE_WIDTH + name.width <= size >> name.height


# --- what they hold -----------------------------------------------------------------------


def bundle(bodies: Iterable[bytes]) -> bytes:
    """Write entries, each after its length."""
    return b"".join(len(body).to_bytes(LENGTH_BYTES) + body for body in bodies)


def parse_bundle(raw: bytes, width: int) -> list[bytes]:
    """Read the entries of a bundle of so many. Raises NoteRefused."""
    bodies: list[bytes] = []
    at = 0
    while at < len(raw) and len(bodies) < width:
        start = at + LENGTH_BYTES
        at = start + int.from_bytes(raw[at:start])
        bodies.append(raw[start:at])
    if at != len(raw) or len(bodies) != width:  # an entry cut short ends beyond the bundle
        raise NoteRefused("the bundle does not hold so many entries")
    return bodies


def parse_tile(raw: bytes, width: int) -> list[bytes]:
    """Read the hashes of a tile of so many. Raises NoteRefused."""
    if len(raw) != width * HASH_BYTES:
        raise NoteRefused("the tile does not hold so many hashes")
    return [raw[at : at + HASH_BYTES] for at in range(0, len(raw), HASH_BYTES)]


def tile_root(hashes: Sequence[bytes]) -> bytes:
    """Return the root over a full tile's hashes: its place is one level up.

    Also over what `span_tile` takes of one. Both are full subtrees.
    """
    assert 0 < len(hashes) <= TILE_WIDTH
    assert len(hashes).bit_count() == 1
    return root_of(hashes)


# --- from proofs to tiles -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Span:
    """A full subtree: the leaves from `index << level` up to `(index + 1) << level`."""

    level: int
    index: int


def inclusion_spans(index: int, size: int) -> list[list[Span]]:
    """Name what the hashes of `tree.inclusion_proof` are made of.

    One list a hash: its full subtrees, the biggest first, to be folded.
    """
    assert 0 <= index < size
    return [sibling for _, _, sibling in _way_down(index, size)][::-1]


def consistency_spans(old: int, size: int) -> list[list[Span]]:
    """Name what the hashes of `tree.consistency_proof` are made of, as `inclusion_spans`."""
    assert 0 <= old <= size
    if old in (0, size):
        return []
    way = list(_way_down(old - 1, size, until=old))
    first, end, _ = way[-1]
    # Where the last subtree is the whole old tree, the verifier has its root.
    last = [_spans(first, end)] if first else []
    return last + [sibling for _, _, sibling in way[::-1]]


def span_tile(span: Span) -> tuple[TileName, int, int]:
    """Say which tile holds a subtree, and where: `tile_root(hashes[first:end])` is its hash.

    The tile is as narrow as it may be; any wider one of that place holds the same hashes.
    """
    level, height = divmod(span.level, TILE_HEIGHT)
    index, first = divmod(span.index << height, TILE_WIDTH)
    end = first + (1 << height)
    return TileName(level, index, end), first, end


def fold(hashes: Sequence[bytes]) -> bytes:
    """Make one hash of full subtrees that lie side by side, the biggest first."""
    assert hashes
    return reduce(lambda right, left: node_hash(left, right), reversed(hashes))


def _way_down(
    index: int, size: int, *, until: int | None = None
) -> Iterator[tuple[int, int, list[Span]]]:
    """Go from the root to a leaf, or to a subtree that ends at `until`.

    Of each step: the leaves of the subtree, and what its sibling is made of.
    """
    first, end = 0, size
    while end - first > 1 and end != until:
        middle = first + _left_size(end - first)
        if index < middle:
            sibling = _spans(middle, end)
            end = middle
        else:
            sibling = _spans(first, middle)
            first = middle
        yield first, end, sibling


def _spans(first: int, end: int) -> list[Span]:
    """Cut leaves into full subtrees; `first` is where one of any smaller size can start."""
    spans: list[Span] = []
    while first < end:
        level = (end - first).bit_length() - 1
        assert not first & ((1 << level) - 1)
        spans.append(Span(level, first >> level))
        first += 1 << level
    return spans


def _left_size(size: int) -> int:
    """Return the largest power of two below `size`: where RFC 6962 splits a tree."""
    return 1 << ((size - 1).bit_length() - 1)
