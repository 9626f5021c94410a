"""The second witness: HashiCorp Vault's audit log against the ledger's intents. Pure.

Each item that was asked to be decrypted under `pan` or `cvc` carries the name of the intent that
it belongs to. One without an earlier intent is a card that was opened off the record: the one
check that sees code which never called the ledger. It proves coverage; order only within the
tolerance of two clocks.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Final

import msgspec

from vault.ledger.entry import AuthorizationAttempted, Entry, Outcome

TOLERANCE: Final = timedelta(seconds=2)
REPEAT: Final = timedelta(seconds=5)
PATHS: Final[Mapping[str, str]] = {"transit/decrypt/pan": "pan", "transit/decrypt/cvc": "cvc"}
MEDDLING: Final = ("transit/export/", "transit/backup/", "transit/byok-export/")
VIOLATIONS_KEPT_MAX: Final = 1_000
RECORD_START: Final = b'{"time":"'  # in a record itself, such quotation marks are escaped
CRASHES_A_LINE_MAX: Final = 8

# One spelling only: another one of the same item would not be seen as its repetition.
_POSITION: Final = re.compile("0|[1-9][0-9]?")


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


@dataclass(frozen=True, slots=True)
class _Intent:
    at: datetime
    keys: tuple[str, ...]


@dataclass(slots=True)
class AuditJoin:
    """Fed the ledger's entries first, then the lines of the audit log."""

    decrypts: int = 0
    torn: int = 0  # records that a crash of the server cut off: what they ask for was not done
    unmatched: list[Unmatched] = field(default_factory=list)
    unmatched_total: int = 0
    _intents: dict[str, _Intent] = field(default_factory=dict)
    _ended: dict[str, datetime] = field(default_factory=dict)
    _opened: dict[str, datetime] = field(default_factory=dict)

    def add_entry(self, entry: Entry) -> None:
        """Remember an intent, or its end."""
        at = datetime.fromisoformat(entry.ts)
        if isinstance(entry, AuthorizationAttempted):
            keys = tuple(opening.key for opening in entry.opens)
            self._intents[entry.intent] = _Intent(at, keys)
        elif isinstance(entry, Outcome):
            self._ended.setdefault(entry.intent, at)

    def add_lines(self, lines: Iterable[bytes], *, first_line: int = 1) -> None:
        """Check each line of an audit log, in its order."""
        for number, line in enumerate(lines, first_line):
            if b"transit/" in line:
                self._add_line(number, line)

    def opened(self, intent: str) -> bool:
        """Whether an item of this intent was asked for: if not, its card was never opened."""
        return any(reference.startswith(f"{intent}/") for reference in self._opened)

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

    def _problem(self, reference: str, key: str, at: datetime) -> str | None:
        name, _, position = reference.partition("/")
        intent = self._intents.get(name)
        if intent is None:
            return "decrypts without an intent on record"
        if not _POSITION.fullmatch(position) or int(position) >= len(intent.keys):
            return "decrypts an item that its intent does not name"
        if intent.keys[int(position)] != key:
            return "decrypts under another key than its intent names"
        if intent.at > at + TOLERANCE:
            return "decrypts before its intent"
        ended = self._ended.get(name)
        if ended is not None and ended + TOLERANCE < at:
            return "decrypts after its intent ended"
        first = self._opened.setdefault(reference, at)
        return "decrypts the same item again later" if at - first > REPEAT else None

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


def _decoded(piece: bytes) -> _Record | None:
    try:
        return msgspec.json.decode(piece, type=_Record)
    except msgspec.DecodeError:
        return None
