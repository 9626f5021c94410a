"""A block of rows through the filters: what has to be stored, and what is written instead. Pure.

A block that is refused is halved until the row is found that is the cause. A row that would not
keep its width is refused before anything is stored. What never lives here: files, and the store.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from gateway.card_files.asked import absent_of
from gateway.card_files.report import Counted, Refused, column_of, counted
from gateway.card_files.rows import Block, head_bytes, parts, unlined
from gateway.codecs import csv
from gateway.codecs.splice import Format
from gateway.errors import (
    BodyUnreadable,
    CardFieldRefused,
    GatewayError,
    Malformed,
    UndeclaredCard,
    UnsupportedMedia,
)
from gateway.inbound.filtering import Plan, WantedCard, plan_rows
from gateway.inbound.rules import InboundConfig
from gateway.scan import Kind
from vault.card import is_published_test_number
from vault.tokens import token_of

OPAQUE_CHARACTERS: Final = len(token_of("test", 0))

_UNREAD: Final = frozenset({"csv", "csv_row_length", "csv_line_end"})
_ROW_REFUSED: Final = (
    BodyUnreadable,
    CardFieldRefused,
    Malformed,
    UndeclaredCard,
    UnsupportedMedia,
)


class RowRefused(Exception):
    """A row cannot be passed on; it names the row, the column and why, and holds nothing of it."""

    def __init__(self, row: Refused) -> None:
        where = f"row {row.row}" if row.row else "the header"
        super().__init__(f"{where} is refused{_in(row.column)}: {row.reason}")
        self.row = row


@dataclass(frozen=True, slots=True)
class Manner:
    """How a file is read and treated."""

    route: InboundConfig
    format: Format
    now: Callable[[], datetime]
    record_length: int | None = None
    keep_out: bool = False
    """Rows that are refused are left out; otherwise they end the work."""
    live: bool = False
    """Published test numbers are refused, as in a live deployment."""
    wants_columns: bool = False
    """A column that is named and is not in a CSV's header ends the work; a route takes files of
    more than one kind."""
    masks_header: bool = False
    """A card number in a CSV's header is masked; otherwise it ends the work."""


@dataclass(frozen=True, slots=True, repr=False)
class Planned:
    """A block, of which the cards are not stored yet."""

    raw: bytes
    """What it was in the file."""
    rows: int
    next_row: int
    plans: tuple[Plan, ...] = ()
    head: bytes = b""
    """What is written in front of it."""
    counted: tuple[Counted, ...] = ()
    refused: tuple[Refused, ...] = ()
    passes: bytes | None = None
    """What is written of a block that has no rows."""
    cards: tuple[WantedCard, ...] = field(default=())


class Planner:
    """Plans the blocks of one file, in their order."""

    def __init__(self, manner: Manner, *, head: bytes | None = None) -> None:
        """`head` is a CSV's header, where the first block is not the file's."""
        self._manner = manner
        self._head: bytes | None = None  # as it is written
        self._of_head: tuple[Counted, ...] = ()
        if head is not None:
            self._plan_head(head)

    def planned(self, block: Block) -> Planned:
        """Raises RowRefused."""
        if not block.rows and not block.head_bytes:
            return Planned(block.body, 0, block.first_row, passes=block.body)
        is_first = block.head_bytes > 0 and self._head is None
        if is_first:
            self._plan_head(block.body[: block.head_bytes])
        found: list[tuple[Plan, Block]] = []
        refused: list[Refused] = []
        if block.rows:
            self._plan(block, found, refused)
        finds = (each for plan, _ in found for each in plan.findings)
        lines = self._without_head(counted(finds, self._manner.format), len(found))
        return Planned(
            raw=self._raw(block, is_first=is_first),
            rows=block.rows,
            next_row=block.first_row + block.rows,
            plans=tuple(plan for plan, _ in found),
            head=(self._head or b"") if is_first else b"",
            counted=(*self._of_head, *lines) if is_first else lines,
            refused=tuple(refused),
            cards=tuple(card for plan, _ in found for card in plan.cards),
        )

    def written(self, planned: Planned, tokens: Sequence[str]) -> bytes:
        """Give what is written of a block, a token for each of its cards in order."""
        if planned.passes is not None:
            return planned.passes
        pieces = [planned.head]
        at = 0
        for plan in planned.plans:
            made = tokens[at : at + len(plan.cards)]
            at += len(plan.cards)
            body = plan.apply(made).body[len(self._head or b"") :]
            length = self._manner.record_length
            pieces.append(body if length is None else unlined(body, length))
        return b"".join(pieces)

    def _plan(self, block: Block, found: list[tuple[Plan, Block]], refused: list[Refused]) -> None:
        reason = column = ""
        try:
            found.append((self._plan_of(block), block))
        except _ROW_REFUSED as error:
            column, reason = _words(error, self._manner.format)
        if not reason:
            return
        smaller = parts(block, self._manner.format)
        if len(smaller) > 1:
            for each in smaller:
                self._plan(each, found, refused)
            return
        stops = not self._manner.keep_out
        if reason in _UNREAD and block.body.count(b"\n", block.head_bytes) > 1:
            stops, reason = True, "csv_open_quote"  # that may have taken in rows behind it
        for row in range(block.first_row + 1, block.first_row + block.rows + 1):
            one = Refused(row, column, reason)
            if stops:
                raise RowRefused(one)
            refused.append(one)

    def _plan_of(self, block: Block) -> Plan:
        manner = self._manner
        plan = plan_rows(
            manner.route, manner.format, block.body, at=manner.now(), first_row=block.first_row
        )
        if manner.live:
            for each in plan.cards:
                if is_published_test_number(each.card.pan):
                    raise CardFieldRefused(each.field, "test_number")
        if manner.format is Format.FIXED_WIDTH:
            tried = plan.apply([_sample(each) for each in plan.cards]).body
            if list(map(len, tried.split(b"\n"))) != list(map(len, block.body.split(b"\n"))):
                raise Malformed("fixed_width_row_length")
        return plan

    def _plan_head(self, head: bytes) -> None:
        manner = self._manner
        reason = column = ""
        try:
            plan = plan_rows(manner.route, manner.format, head, at=manner.now(), first_row=0)
        except _ROW_REFUSED as error:
            column, reason = _words(error, manner.format)
        else:
            if manner.wants_columns:
                self._check_columns(head)
            self._of_head = counted(plan.findings, manner.format)
            holds_card = any(each.found.kind != Kind.WINDOW.value for each in self._of_head)
            if not holds_card or (manner.masks_header and not plan.cards):
                self._head = plan.apply(()).body
                assert head_bytes(self._head) == len(self._head), "another header"
                return
            reason = "card_in_header"
        raise RowRefused(Refused(0, column, reason))

    def _check_columns(self, head: bytes) -> None:
        """Refuse a name that is no column's: what it was meant for would go on as it is."""
        column = absent_of(self._manner.route, Format.CSV, csv.read(head).columns)
        if column is not None:
            raise RowRefused(Refused(0, column, "no_such_column"))

    def _without_head(self, lines: tuple[Counted, ...], times: int) -> tuple[Counted, ...]:
        """Each plan found once more what is in the header."""
        if not self._of_head:
            return lines
        of_head = {each.found: each.count * times for each in self._of_head}
        left = (Counted(each.found, each.count - of_head.get(each.found, 0)) for each in lines)
        return tuple(each for each in left if each.count > 0)

    def _raw(self, block: Block, *, is_first: bool) -> bytes:
        if self._manner.record_length is not None:
            return unlined(block.body, self._manner.record_length)
        return block.body if is_first else block.body[block.head_bytes :]


def _words(error: GatewayError, format_: Format) -> tuple[str, str]:
    """Say where and why in words of ours."""
    column = column_of(error.field or "", format_)
    return column, error.reason or error.code


def _sample(wanted: WantedCard) -> str:
    """A text as long as the token will be."""
    return "0" * (len(wanted.card.pan) if wanted.format == "pan_like" else OPAQUE_CHARACTERS)


def _in(column: str) -> str:
    return f" in {column}" if column else ""
