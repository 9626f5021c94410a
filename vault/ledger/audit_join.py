"""The second witness: HashiCorp Vault's audit log against the ledger's intents. Pure.

Each item that was asked to be decrypted under `pan` or `cvc` carries the name of the intent that
it belongs to. One without an earlier intent is a card that was opened off the record: the one
check that sees code which never called the ledger. It proves coverage; order only within the
tolerance of two clocks. The other way round, an intent that names items none of which was asked
for was never sent: its numbers have not been in anybody's hands.

Some 100 bytes are remembered of an intent that was sent.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

import msgspec

from vault.ledger.compact_index import CompactIndex
from vault.ledger.entry import AuthorizationAttempted, Entry, OfIntent
from vault.ledger.pages import INTENT_BYTES, Examined, Opening

TOLERANCE_MS: Final = 2_000
REPEAT_MS: Final = 5_000
PATHS: Final[Mapping[str, str]] = {"transit/decrypt/pan": "pan", "transit/decrypt/cvc": "cvc"}
MEDDLING: Final = ("transit/export/", "transit/backup/", "transit/byok-export/")
VIOLATIONS_KEPT_MAX: Final = 1_000
RECORD_START: Final = b'{"time":"'  # in a record itself, such quotation marks are escaped
CRASHES_A_LINE_MAX: Final = 8

_COUNT_BITS: Final = 8
_COUNT_MAX: Final = (1 << _COUNT_BITS) - 1

# One spelling only: another one of the same item would not be seen as its repetition.
_POSITION: Final = re.compile("0|[1-9][0-9]?")
_UUID: Final = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class _Item(msgspec.Struct):
    reference: str | None = None


class _Data(msgspec.Struct):
    batch_input: list[_Item] | None = None


class _Request(msgspec.Struct):
    path: str = ""
    data: _Data | None = None


class _Record(msgspec.Struct):
    type: str
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    request: _Request


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A decrypt (or an act upon a card key) that no intent stands for."""

    line: int
    message: str


class AuditJoin:
    """Fed the ledger's entries first, then the lines of the audit log."""

    def __init__(self) -> None:
        self.decrypts = 0
        self.torn = 0  # records that a crash of the server cut off: what they ask was not done
        self.unmatched: list[Unmatched] = []
        self.unmatched_total = 0
        self._intents = CompactIndex(INTENT_BYTES)  # time, and how many items
        self._cvcs = CompactIndex(INTENT_BYTES)  # of those that open one: a bit for each place
        self._ended = CompactIndex(INTENT_BYTES)  # time
        self._opened = CompactIndex(INTENT_BYTES)  # a bit for each item
        self._opened_at = CompactIndex(INTENT_BYTES + 1)  # time of each
        self._heard: tuple[bytes, bytes] | None = None  # first and last record

    def add_page(self, page: Examined) -> None:
        """Remember the intents of a page, and the ends."""
        for opening in page.intents:
            number = milliseconds(opening.at) << _COUNT_BITS | len(opening.keys)
            self._intents.put(opening.intent, number)
            cvcs = sum(1 << place for place, key in enumerate(opening.keys) if key == "c")
            if cvcs:
                self._cvcs.put(opening.intent, cvcs)
        for intent, at in page.ends:
            self._ended.add(intent, milliseconds(at))

    def add_entry(self, entry: Entry) -> None:
        """Remember an intent, or its end."""
        if not isinstance(entry, OfIntent):
            return
        intent, page = UUID(entry.intent).bytes, Examined(0, 1)
        if isinstance(entry, AuthorizationAttempted):
            keys = "".join(opening.key[0] for opening in entry.opens)
            page.intents.append(Opening(intent, entry.ts, keys))
        else:
            page.ends.append((intent, entry.ts))
        self.add_page(page)

    def add_lines(self, lines: Iterable[bytes], *, first_line: int = 1) -> None:
        """Check each line of an audit log, in its order."""
        for number, line in enumerate(lines, first_line):
            if line.startswith(RECORD_START):
                time = line[len(RECORD_START) : line.find(b'"', len(RECORD_START))]
                self._heard = (self._heard[0] if self._heard else time, time)
            if b"transit/" in line:
                self._add_line(number, line)

    def opened(self, intent: str) -> bool:
        """Whether an item of this intent was asked for: if not, its card was never opened."""
        return self._opened.get(UUID(intent).bytes) is not None

    def not_opened(self) -> int:
        """Count the intents that name items of which none was ever asked for.

        Only those within the time that the audit log covers: of others it says nothing.
        """
        if self._heard is None:
            return 0
        first, last = (milliseconds(time.decode("ascii", "replace")) for time in self._heard)
        return sum(
            first <= number >> _COUNT_BITS <= last
            for intent, number in self._intents.items()
            if number & _COUNT_MAX and self._opened.get(intent) is None
        )

    def _add_line(self, number: int, line: bytes) -> None:
        records = list(_records(line))
        if records[-1] is None:
            self._violate(number, "is no audit record")
        for record in records:
            if record is not None:
                self._add_record(number, record)
        self.torn += records[:-1].count(None)

    def _add_record(self, number: int, record: _Record) -> None:
        path = record.request.path
        if record.type == "request" and path.startswith(MEDDLING):
            self._violate(number, "asks for a key to leave")
        if record.type != "request" or path not in PATHS:
            return
        data = record.request.data
        items = data.batch_input if data is not None and data.batch_input is not None else []
        if not items:
            self._violate(number, "decrypts without a batch")
        for item in items:
            self.decrypts += 1
            problem = self._problem(item.reference or "", PATHS[path], record.time)
            if problem is not None:
                self._violate(number, problem)

    def _problem(self, reference: str, key: str, time: datetime) -> str | None:
        name, _, position = reference.partition("/")
        intent = _binary(name)
        number = None if intent is None else self._intents.get(intent)
        if intent is None or number is None:
            return "decrypts without an intent on record"
        began, items = number >> _COUNT_BITS, number & _COUNT_MAX
        if not _POSITION.fullmatch(position) or int(position) >= items:
            return "decrypts an item that its intent does not name"
        place, at = int(position), round(time.timestamp() * 1000)
        if ((self._cvcs.get(intent) or 0) >> place & 1) != (key == "cvc"):
            return "decrypts under another key than its intent names"
        self._opened.put(intent, (self._opened.get(intent) or 0) | 1 << place)
        return self._untimely(intent, place, began, at)

    def _untimely(self, intent: bytes, place: int, began: int, at: int) -> str | None:
        if began > at + TOLERANCE_MS:
            return "decrypts before its intent"
        ended = self._ended.get(intent)
        if ended is not None and ended + TOLERANCE_MS < at:
            return "decrypts after its intent ended"
        item = intent + bytes([place])
        if self._opened_at.add(item, at):
            return None
        first = self._opened_at.get(item)
        assert first is not None
        return "decrypts the same item again later" if at - first > REPEAT_MS else None

    def _violate(self, line: int, message: str) -> None:
        self.unmatched_total += 1
        if len(self.unmatched) < VIOLATIONS_KEPT_MAX:
            self.unmatched.append(Unmatched(line, message))


def _records(line: bytes) -> Iterator[_Record | None]:
    """Yield what a line consists of: one record, and None for a piece that is none.

    A server that is killed while it writes leaves a record without its end, or without the end
    of its line, and its successor writes on behind it.
    """
    starts, at = [0], line.find(RECORD_START, 1)
    while at > 0 and len(starts) <= CRASHES_A_LINE_MAX:
        starts.append(at)
        at = line.find(RECORD_START, at + 1)
    ends = [*starts[1:], len(line)]
    first = 0
    while first < len(starts):
        for last in range(len(ends) - 1, first - 1, -1):
            record = _decoded(line[starts[first] : ends[last]])
            if record is not None:
                break
        else:
            record, last = None, first
        yield record
        first = last + 1


def milliseconds(text: str) -> int:
    """Read a time of an entry or a record; one that is none is the earliest."""
    try:
        return max(0, int(msgspec.convert(text, datetime).timestamp() * 1000))
    except (msgspec.ValidationError, OverflowError):
        return 0


def _binary(uuid: str) -> bytes | None:
    return bytes.fromhex(uuid.replace("-", "")) if _UUID.fullmatch(uuid) else None


def _decoded(piece: bytes) -> _Record | None:
    try:
        return msgspec.json.decode(piece, type=_Record)
    except msgspec.DecodeError:
        return None
