"""A log as it is published: below an address, or as a folder of files (C2SP tlog-tiles).

What lives here: reading both, page by page, and saying where a file is not what its place asks
for. What never may: what an entry must be (`vault/ledger`), and trust in whoever keeps the files.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from os import scandir
from pathlib import Path
from typing import Final, Protocol

from gateway.errors import GatewayError
from gateway.https_client import HttpsClient, Unreachable
from vault.ledger.check import LogCheck
from vault.ledger.examiners import Order
from vault.ledger.held import SignedHead, Source
from vault.ledger.note import NOTE_BYTES_MAX, NoteRefused
from vault.ledger.pages import PAGE_ENTRIES, Page, page_of
from vault.ledger.rules import Rule
from vault.ledger.tiles import LENGTH_BYTES, TILE_WIDTH, TileName
from vault.ledger.tree import HASH_BYTES, leaf_hash

CHECKPOINT: Final = "checkpoint"
CHECKPOINTS: Final = "checkpoints"
READS_AT_ONCE: Final = 8
FILE_BYTES_MAX: Final = TILE_WIDTH * (LENGTH_BYTES + 65_535)
OK: Final = 200
NOT_FOUND: Final = 404


class OriginFailed(GatewayError):
    """The log cannot be read where it is published."""

    code = "origin_failed"

    def __init__(self, message: str) -> None:
        super().__init__()
        self.args = (message,)


class LogFiles(Protocol):
    """Where the files are."""

    async def read(self, path: str) -> bytes | None:
        """Return a file; None where there is none. Raises OriginFailed."""

    def sizes(self) -> Sequence[int]:
        """Return the sizes of older checkpoints, as far as they can be listed."""

    def narrower(self, name: TileName) -> Sequence[TileName]:
        """Return the partial tiles of the same place, as far as they can be listed."""


class HttpOrigin:
    """Files below an https address."""

    def __init__(self, client: HttpsClient) -> None:
        self._client = client

    async def read(self, path: str) -> bytes | None:
        try:
            answer = await self._client.get(f"/{path}")
        except Unreachable as unreachable:
            problem = f"the origin does not answer ({unreachable.failure.value})"
        else:
            if answer.status in (OK, NOT_FOUND):
                return answer.body if answer.status == OK else None
            problem = f"the origin answers with status {answer.status}"
        raise OriginFailed(problem)

    def sizes(self) -> Sequence[int]:
        return ()

    def narrower(self, _name: TileName) -> Sequence[TileName]:
        return ()


class ExportFolder:
    """Files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def read(self, path: str) -> bytes | None:
        file = self._folder / path
        try:
            with file.open("rb") as stream:
                return stream.read(FILE_BYTES_MAX + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            pass
        raise OriginFailed(f"{file} cannot be read")

    def sizes(self) -> Sequence[int]:
        names = _names(self._folder / CHECKPOINTS)
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def narrower(self, name: TileName) -> Sequence[TileName]:
        full = TileName(name.level, name.index)
        names = _names(self._folder / f"{full.path}.p")
        widths = sorted(int(text) for text in names if text.isascii() and text.isdigit())
        return [TileName(name.level, name.index, width) for width in widths if width < name.width]


def _names(folder: Path) -> list[str]:
    try:
        with scandir(folder) as entries:
            return [entry.name for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return []


@dataclass(slots=True)
class _Tile:
    """A tile of level 0 with its entries, as far as they can be read."""

    first: int
    bodies: list[bytes]
    leaves: list[bytes]


class TiledLog:
    """A log in files, as `check` wants it: what its checkpoint says, and pages in order."""

    dsn: str | None = None
    head: tuple[int, bytes] | None = None  # beside the entries there is none

    def __init__(self, files: LogFiles, check: LogCheck) -> None:
        self._files = files
        self._check = check
        self._size = 0
        self.latest = b""

    async def begin(self) -> int:
        """Read the checkpoint; return how many entries it says there are. Raises OriginFailed."""
        raw = await self._files.read(CHECKPOINT)
        if raw is None:
            raise OriginFailed("there is no checkpoint")
        try:
            head = SignedHead.parse(raw[: NOTE_BYTES_MAX + 1], Source.LATEST)
        except NoteRefused as refused:  # its text is one of ours
            problem = str(refused)
        else:
            self._check.expect(head)
            self._size, self.latest = head.checkpoint.size, raw
            return self._size
        self._check.violate(Rule.CHECKPOINT, None, f"the checkpoint cannot be read: {problem}")
        return 0

    async def orders(self, *, joins: bool) -> AsyncIterator[Order]:
        """Yield pages to be examined, as far as there are entries. Raises OriginFailed."""
        sizes = [size for size in self._files.sizes() if size <= self._size]
        for first in range(0, self._size, PAGE_ENTRIES):
            end = min(first + PAGE_ENTRIES, self._size)
            for size in [size for size in sizes if first < size <= end]:
                await self._expect_older(size)
            marks = self._check.marks(first, end - first)
            is_empty = True
            for page in await self._pages(first, end):
                is_empty = False
                yield Order(page=page, marks=marks, joins=joins)
            if is_empty:
                return

    async def compare_tile(self, name: TileName, hashes: bytes) -> None:
        """Compare a tile above level 0 with what it must hold. Raises OriginFailed."""
        raw = await self._read(name)
        if raw is None:
            self._violate(name, 0, "a tile is missing")
        elif raw != hashes:
            place = _place_of_difference(name, raw, hashes)
            self._violate(name, place, "a tile is not that of the tiles below")
        await self._compare_narrower(name, hashes)

    # --- reading --------------------------------------------------------------------------

    async def _expect_older(self, size: int) -> None:
        raw = await self._files.read(f"{CHECKPOINTS}/{size}")
        head = None
        if raw is not None:
            try:
                head = SignedHead.parse(raw[: NOTE_BYTES_MAX + 1], Source.STORED)
            except NoteRefused:
                head = None
        if head is None or head.checkpoint.size != size:
            message = f"the stored checkpoint of size {size} cannot be read"
            self._check.violate(Rule.CHECKPOINT, None, message)
        else:
            self._check.expect(head)

    async def _pages(self, first: int, end: int) -> list[Page]:
        """Read some tiles; where entries cannot be read a page ends before them."""
        names = [
            TileName(0, start // TILE_WIDTH, min(TILE_WIDTH, end - start))
            for start in range(first, end, TILE_WIDTH)
        ]
        turns = asyncio.Semaphore(READS_AT_ONCE)
        tiles = await asyncio.gather(*(self._tile(name, turns) for name in names))
        pages: list[Page] = []
        bodies: list[bytes] = []
        leaves: list[bytes] = []
        start = first
        for tile in tiles:
            if tile.first != start + len(bodies):
                pages += [page_of(start, bodies, leaves)] if bodies else []
                start, bodies, leaves = tile.first, [], []
            bodies += tile.bodies
            leaves += tile.leaves
        return [*pages, *([page_of(start, bodies, leaves)] if bodies else [])]

    async def _tile(self, name: TileName, turns: asyncio.Semaphore) -> _Tile:
        async with turns:
            bundled = TileName(None, name.index, name.width)
            raw, hashes = await self._read(bundled), await self._read(name)
            bodies = list(_entries(raw or b"", name.width))
            self._look_at_bundle(bundled, raw, bodies)
            if hashes is None:
                self._violate(name, 0, "a tile is missing")
                leaves = [leaf_hash(body) for body in bodies]
            else:
                at = range(0, len(bodies) * HASH_BYTES, HASH_BYTES)
                leaves = [hashes[start : start + HASH_BYTES] for start in at]
                if len(hashes) != name.width * HASH_BYTES:
                    self._violate(name, len(hashes) // HASH_BYTES, "a tile has another length")
                await self._compare_narrower(name, hashes)
        return _Tile(name.index * TILE_WIDTH, bodies, leaves)

    def _look_at_bundle(self, name: TileName, raw: bytes | None, bodies: Sequence[bytes]) -> None:
        if raw is None:
            self._violate(name, 0, "a bundle of entries is missing")
        elif len(bodies) < name.width:
            self._violate(name, len(bodies), "a bundle cannot be read from here on")
        elif sum(map(len, bodies)) + LENGTH_BYTES * name.width != len(raw):
            self._violate(name, name.width - 1, "a bundle goes on after its entries")

    async def _read(self, name: TileName) -> bytes | None:
        """Read a tile; in place of a partial one the full one may be left."""
        raw = await self._files.read(name.path)
        if raw is not None or name.width == TILE_WIDTH:
            if raw is not None and name.level is None:
                await self._compare_narrower(name, raw)
            return raw
        full = await self._files.read(TileName(name.level, name.index).path)
        if full is None:
            return None
        if name.level is not None:
            return full[: name.width * HASH_BYTES]
        bodies = list(_entries(full, name.width))
        return full[: sum(map(len, bodies)) + LENGTH_BYTES * len(bodies)]

    async def _compare_narrower(self, name: TileName, raw: bytes) -> None:
        """Compare the partial tiles of earlier times with what became of them."""
        for partial in self._files.narrower(name):
            earlier = await self._files.read(partial.path) or b""
            if partial.level is None:
                bodies = list(_entries(raw, partial.width))
                now = raw[: sum(map(len, bodies)) + LENGTH_BYTES * len(bodies)]
            else:
                now = raw[: partial.width * HASH_BYTES]
            if earlier != now:
                place = _place_of_difference(partial, earlier, now)
                message = "a partial tile is not the beginning of the later one"
                self._violate(partial, place, message)

    def _violate(self, name: TileName, place: int, message: str) -> None:
        place = min(place, name.width - 1)
        index = (name.index * TILE_WIDTH + place) << name.height
        self._check.violate(Rule.NODE if name.height else Rule.TILE, index, message)


def _place_of_difference(name: TileName, raw: bytes, right: bytes) -> int:
    """Return which hash, or which entry, is the first that differs."""
    pairs = enumerate(zip(raw, right, strict=False))
    at = next((at for at, (one, other) in pairs if one != other), min(len(raw), len(right)))
    if name.level is not None:
        return at // HASH_BYTES
    return len(list(_entries(right[:at], name.width)))


def _entries(raw: bytes, width: int) -> Iterator[bytes]:
    """Read the entries of a bundle as far as they are whole."""
    at = 0
    for _ in range(width):
        start = at + LENGTH_BYTES
        at = start + int.from_bytes(raw[at:start])
        if start > len(raw) or at > len(raw):
            return
        yield raw[start:at]
