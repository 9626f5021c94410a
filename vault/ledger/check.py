"""The log as a whole: what pages' summaries come to, and what that breaks.

What lives here is fed pages in order and recomputes the one root that all of them have, at each
size that was signed. What needs more than the entries: V6 the audit log of HashiCorp Vault
(`audit_join`), V10 the processor's settlement. What never may be here: a message that quotes a
leaf, which may be anything.

After an unreadable or missing entry later ones may break rules too: the first finding counts.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from vault.ledger.entry import DetailErased, KeyRotated, LogOpened, decode
from vault.ledger.examination import examine
from vault.ledger.forms import time_text
from vault.ledger.held import SignedHead, Source, Trust
from vault.ledger.looking_back import Boots, Intents, Keys, OpenIntent, UnstoppedBoot
from vault.ledger.note import NoteRefused
from vault.ledger.pages import PAGE_ENTRIES, Examined, Group, Mark, Page, Stored
from vault.ledger.rules import Rule, Violation
from vault.ledger.summary import GOES_BACK, SKEW, goes_back
from vault.ledger.tiles import TILE_WIDTH, TileName, fold, tile_root
from vault.ledger.tree import EMPTY_ROOT, HASH_BYTES, CompactRange

VIOLATIONS_KEPT_MAX: Final = 1000
TIMEOUT_SECONDS: Final = 75.0  # the longest of a preset


@dataclass(frozen=True, slots=True)
class Report:
    """What was found; `violations` are the first of `violations_total`, by index.

    A warning breaks no promise: a clock was set back, a key was rotated by another hand.
    """

    size: int
    root: bytes
    violations: tuple[Violation, ...]
    violations_total: int
    open_intents: tuple[OpenIntent, ...]
    unstopped_boots: tuple[UnstoppedBoot, ...]
    warnings: tuple[Violation, ...] = ()
    warnings_total: int = 0
    checkpoints: int = 0  # signed heads that are a beginning of this log
    signed_size: int = 0  # of the largest of them
    is_pinned: bool = False  # by a key that the auditor brought
    details_kept: int = 0
    details_missing: int = 0  # and not recorded as erased
    newest: str = ""


class LogCheck:
    """Fed all of a log in order, says which rules it breaks."""

    def __init__(self, trust: Trust | None = None) -> None:
        self._trust = trust or Trust()
        self._next_index = 0
        self._count = 0
        self._tree = CompactRange()
        self._is_whole = True  # so far, no entry is missing
        self._fed: list[tuple[int, bytes, bytes, str, str | None]] = []
        self._findings = _Findings()
        self._intents = Intents()
        self._boots = Boots()
        self._keys = Keys()
        self._details = _Details()
        self._heads: dict[int, list[SignedHead]] = {}
        self._origin: str | None = None
        self._checkpoints = 0
        self._signed_size = 0
        self._held_size = 0
        self._last_time = ""
        self._newest = ("", 0)
        self.tiles = TileRows()

    # --- what is expected -----------------------------------------------------------------

    def expect(self, head: SignedHead) -> None:
        """Ask that the log begin with what was signed; before the page that it ends in."""
        self._heads.setdefault(head.checkpoint.size, []).append(head)

    def marks(self, first: int, count: int) -> list[int]:
        """Return the sizes in a page that something is expected of."""
        return sorted(size for size in self._heads if first < size <= first + count)

    @property
    def newest(self) -> str:
        """The latest time in the log so far."""
        return self._newest[0]

    def violate(self, rule: Rule, index: int | None, message: str) -> None:
        """Take note of what the caller found."""
        self._findings.add([Violation(rule, index, message)])

    # --- what is there --------------------------------------------------------------------

    def feed(
        self, index: int, body: bytes, leaf: bytes, type_column: str, intent_column: str | None
    ) -> None:
        """Take the next entry, as it is stored."""
        following = self._fed[-1][0] + 1 if self._fed else index
        if index != following or (self._fed and not index % PAGE_ENTRIES):
            self._absorb_fed()
        self._fed.append((index, body, leaf, type_column, intent_column))

    def absorb(self, page: Examined) -> None:
        """Take the next page."""
        if page.first != self._next_index:
            self._is_whole = False
            message = "the index does not follow the one before"
            self._findings.add([Violation(Rule.INDEX, page.first, message)])
        self._next_index = page.first + page.count
        self._count += page.count
        self._findings.add(page.violations)
        self._details.follow(page)
        self._look_back(page)
        for mark in page.marks:
            self._check_heads(mark)
        self._grow(page)

    def finish(
        self,
        head_size: int | None,
        head_root: bytes | None,
        *,
        as_of: datetime | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Report:
        """Compare with the head, if the log has one beside it, and report.

        `as_of`: by then an outcome must be there; None: it may still come.
        """
        self._absorb_fed()
        root = self._tree.root()
        if head_size is not None and self._count != head_size:
            self.violate(Rule.HEAD, None, "the head counts another number of entries")
        if head_root is not None and root != head_root:
            self.violate(Rule.HEAD, None, "the entries have another root than the head")
        self._check_heads_elsewhere()
        self._findings.warn(self._keys.unannounced())
        if as_of is not None:
            timeout = timedelta(seconds=timeout_seconds)
            self._findings.add(self._intents.late(as_of, timeout))
        return self._report(root)

    # --- one page -------------------------------------------------------------------------

    def _absorb_fed(self) -> None:
        if self._fed:
            fed, self._fed = self._fed, []
            self.absorb(examine(_page_of_rows(fed)))

    def _look_back(self, page: Examined) -> None:
        rotations: list[tuple[int, KeyRotated]] = []
        for index, body in page.told:
            entry = decode(body)
            if isinstance(entry, LogOpened) and index == 0:
                self._origin = entry.origin
                self._announce(index, entry.vkey)
            elif isinstance(entry, KeyRotated):
                rotations.append((index, entry))
                if isinstance(entry.vkey, str):
                    self._announce(index, entry.vkey)
            elif isinstance(entry, DetailErased):
                self._details.erase(entry.entries)
        self._findings.add(self._boots.follow(page))
        self._findings.add(self._intents.follow(page))
        self._findings.add(self._keys.follow(page, rotations))
        self._findings.warn(page.warnings)
        if page.first_time < self._last_time and goes_back(self._last_time, page.first_time):
            self._findings.warn([Violation(Rule.V8, page.first, GOES_BACK)])
        self._last_time = page.last_time or self._last_time

    def _announce(self, index: int, vkey: str) -> None:
        try:
            self._trust.announce(index, vkey)
        except NoteRefused:
            self.violate(Rule.V1, index, "the key that is named is none")

    def _grow(self, page: Examined) -> None:
        self._newest = max(self._newest, (page.newest, page.newest_index))
        is_full = not page.leaves and page.count > 0
        if self._is_whole:
            self.tiles.extend(page.tiles)
        if not is_full:
            leaves = page.leaves
            at = range(0, len(leaves), HASH_BYTES)
            self._tree.extend([leaves[start : start + HASH_BYTES] for start in at])
            return
        pages, beyond = divmod(self._tree.size, PAGE_ENTRIES)
        if beyond:  # an entry is missing: no root can be the right one
            self._tree = CompactRange(page.first, [bytes(HASH_BYTES)] * page.first.bit_count())
            pages = page.first // PAGE_ENTRIES
        above = CompactRange(pages, self._tree.peaks)
        above.append(page.peaks[0])
        self._tree = CompactRange(above.size * PAGE_ENTRIES, above.peaks)

    # --- signed heads ---------------------------------------------------------------------

    def _check_heads(self, mark: Mark) -> None:
        """Compare what was signed with the log at that size, before the page is a part of it."""
        root = fold([*self._tree.peaks, *mark.peaks]) if self._is_whole else b""
        newest = max(self._newest, (mark.newest, mark.newest_index))
        for head in self._heads.pop(mark.size, ()):
            times = self._check_signatures(head)
            self._compare(head, root)
            for at in times:
                if at and newest[0] > time_text(datetime.fromtimestamp(at, UTC) + SKEW):
                    message = "the time is later than that of a cosignature that covers it"
                    self.violate(Rule.V8, newest[1], message)

    def _check_heads_elsewhere(self) -> None:
        for size, heads in sorted(self._heads.items()):
            for head in heads:
                self._check_signatures(head)
                if size == 0:
                    self._compare(head, EMPTY_ROOT)
                else:
                    what = f"the {head.source.value} checkpoint of size {size}"
                    self.violate(Rule.CHECKPOINT, self._next_index, f"the log ends before {what}")
        self._heads.clear()

    def _check_signatures(self, head: SignedHead) -> Sequence[int]:
        what = f"the {head.source.value} checkpoint of size {head.checkpoint.size}"
        if self._origin not in (None, head.checkpoint.origin):
            self.violate(Rule.CHECKPOINT, None, f"{what} is another log's")
        try:
            return self._trust.check(head)
        except NoteRefused as refused:  # its text is one of ours
            self.violate(Rule.CHECKPOINT, None, f"{what} is not good: {refused}")
        return ()

    def _compare(self, head: SignedHead, root: bytes) -> None:
        size = head.checkpoint.size
        if head.checkpoint.root == root:
            self._checkpoints += 1
            if head.source is Source.HELD:
                self._held_size = max(size, self._held_size)
            else:
                self._signed_size = max(size, self._signed_size)
            return
        what = f"the {head.source.value} checkpoint of size {size}"
        # A log that was rewritten and signed again is as good as new: nothing of it says how far
        # it is the one that was.
        first = self._held_size
        if head.source is not Source.HELD:
            first = max(first, self._signed_size)
        self.violate(Rule.CHECKPOINT, first, f"from here on the log is not that of {what}")

    def _report(self, root: bytes) -> Report:
        found = self._findings
        return Report(
            self._count,
            root,
            found.violations(),
            found.violations_total,
            tuple(self._intents.unfinished()),
            tuple(self._boots.unstopped()),
            found.warnings(),
            found.warnings_total,
            self._checkpoints,
            self._signed_size,
            self._trust.is_pinned,
            self._details.kept,
            self._details.missing,
            self._newest[0],
        )


class TileRows:
    """Tiles above level 0 as they fill, from the roots of the full ones below."""

    def __init__(self) -> None:
        self._rows: list[list[bytes]] = []
        self._filled: list[int] = []  # tiles of each level
        self._done: list[tuple[TileName, bytes]] = []

    def extend(self, roots: bytes) -> None:
        """Add roots of full tiles of level 0, in order."""
        for at in range(0, len(roots), HASH_BYTES):
            self._add(1, roots[at : at + HASH_BYTES])

    def drain(self) -> list[tuple[TileName, bytes]]:
        """Return the tiles that have become full, with their hashes."""
        done, self._done = self._done, []
        return done

    def partial(self) -> list[tuple[TileName, bytes]]:
        """Return those that are not full, as they are now."""
        return [
            (TileName(level, self._filled[level - 1], len(row)), b"".join(row))
            for level, row in enumerate(self._rows, 1)
            if row
        ]

    def _add(self, level: int, root: bytes) -> None:
        if len(self._rows) < level:
            self._rows.append([])
            self._filled.append(0)
        row = self._rows[level - 1]
        row.append(root)
        if len(row) == TILE_WIDTH:
            self._done.append((TileName(level, self._filled[level - 1]), b"".join(row)))
            self._filled[level - 1] += 1
            above = tile_root(row)
            row.clear()
            self._add(level + 1, above)


class _Findings:
    """The first findings, and how many there are."""

    def __init__(self) -> None:
        self._violations: list[Violation] = []
        self._warnings: list[Violation] = []
        self.violations_total = 0
        self.warnings_total = 0

    def add(self, found: Iterable[Violation]) -> None:
        for one in found:
            self.violations_total += 1
            if len(self._violations) < VIOLATIONS_KEPT_MAX:
                self._violations.append(one)

    def warn(self, found: Sequence[Violation]) -> None:
        self.warnings_total += len(found)
        self._warnings += found[: VIOLATIONS_KEPT_MAX - len(self._warnings)]

    def violations(self) -> tuple[Violation, ...]:
        """By index; at the end those of the whole."""
        return tuple(sorted(self._violations, key=_place))

    def warnings(self) -> tuple[Violation, ...]:
        return tuple(sorted(self._warnings, key=_place))


def _place(found: Violation) -> tuple[bool, int]:
    """What is of one entry comes before what is of entries from one on, or of the whole."""
    is_of_one = found.index is not None and found.rule not in {Rule.CHECKPOINT, Rule.NODE}
    return not is_of_one, sys.maxsize if found.index is None else found.index


class _Details:
    """Which details are there: a bit for each entry whose are not."""

    def __init__(self) -> None:
        self._missing = bytearray()
        self.kept = 0

    def follow(self, page: Examined) -> None:
        self.kept += page.details_kept
        for index in page.details_missing:
            byte, bit = divmod(index, 8)
            self._missing.extend(bytes(max(0, byte + 1 - len(self._missing))))
            self._missing[byte] |= 1 << bit

    def erase(self, indices: Iterable[int]) -> None:
        """Take note of what is on record as erased."""
        for byte, bit in (divmod(index, 8) for index in indices):
            if byte < len(self._missing):
                self._missing[byte] &= ~(1 << bit)

    @property
    def missing(self) -> int:
        return int.from_bytes(self._missing).bit_count()


def _page_of_rows(rows: Sequence[tuple[int, bytes, bytes, str, str | None]]) -> Page:
    places: dict[str, list[int]] = {}
    for place, (_, _, _, type_column, _) in enumerate(rows):
        places.setdefault(type_column, []).append(place)
    groups = []
    for name, at in places.items():
        _, bodies, leaves, _, intents = zip(*(rows[place] for place in at), strict=True)
        stored = Stored([b"" if intent is None else UUID(intent).bytes for intent in intents])
        groups.append(Group(name, at, bodies, b"".join(leaves), stored))
    return Page(rows[0][0], len(rows), groups)
