"""Cards where none is declared: what a route's policy makes of each find. Pure.

What cannot be changed without breaking the message (a path, a name in XML, a part whose length is
told) is refused by every policy but `report`. What never lives here: how a card is found.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from gateway.codecs.splice import Field, Format, Shape
from gateway.errors import UndeclaredCard
from gateway.inbound.areas import Area
from gateway.inbound.looking import (
    Fields,
    Located,
    Look,
    Read,
    has_length,
    in_each,
    is_binary_part,
    is_certain,
)
from gateway.inbound.plan import Action, Draft, Edit, Finding, Target, bytes_of
from gateway.inbound.rules import Undeclared
from gateway.inbound.written import escaped
from gateway.scan import Hit, Kind
from vault.card import UNKNOWN, Card
from vault.pan import Pan
from vault.tokens import PAN_LIKE_DIGITS_MIN

_COMMENT: Final = b"<!--"
_COMMENT_END: Final = b"-->"
_UNTOUCHED: Final = frozenset(
    {
        *("host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"),
        *("expect", "sec-websocket-key", "sec-websocket-accept", "date", "etag", "if-none-match"),
    }
)
"""Of the connection and of caches: no application writes a card there."""
_SEPARATING: Final = "content-type"  # its boundary is by chance a number now and then

_Write = Callable[[Sequence[str]], bytes]


class Policy:
    """Treats all finds of one message in one way."""

    def __init__(self, draft: Draft, undeclared: Undeclared) -> None:
        self._draft = draft
        self._undeclared = undeclared

    def body(self, area: Area, without: Iterable[Field], *, windows: bool = False) -> None:
        """Treat a body or a query, save for some of its fields. Raises UndeclaredCard."""
        if not area.raw:
            return
        seen = Look(area, without, windows=windows).all()
        self._check(area.name, exhausted=seen.exhausted)
        around = Fields(area)
        placed = [(each, around.around(each)) for each in seen.in_bytes]
        rewritten = {}
        for read in seen.in_texts:
            shown = [
                each.hit for each, field in placed if field is not None and field == read.field
            ]
            if read.field.shape is Shape.NUMBER or not _all_in(read.found, shown):
                rewritten[read.field.start] = read
                self._check_lost(area, read, shown)
        whole = set(rewritten)
        for each, field in placed:
            if field is None or field.start not in whole:
                self._in_bytes(area, each, field)
                if field is not None and field.shape is Shape.NUMBER:
                    whole.add(field.start)  # it is replaced as a whole
        for read in rewritten.values():
            self._in_text(area, read)

    def headers(self, areas: Sequence[Area], looked_at: Sequence[Area]) -> None:
        """Treat the values of some headers, and the names of all. Raises UndeclaredCard."""
        seen = in_each([area.raw for area in looked_at], windows=False, binary=False)
        self._check("header", exhausted=seen.exhausted)
        for index, each in seen.found:
            area = looked_at[index]
            if area.header == _SEPARATING and self._undeclared != "refuse":
                self._note(area.name, each.hit, "report")
            else:
                self._in_bytes(area, each, None)
        self.fixed("header", names_of(areas))

    def fixed(self, place: str, text: str) -> None:
        """Treat what nobody can change, such as a path. Raises UndeclaredCard."""
        seen = in_each([bytes_of(text)], windows=False, binary=False)
        self._check(place, exhausted=seen.exhausted)
        for _, each in seen.found:
            if self._undeclared != "report" and is_certain(each):
                raise UndeclaredCard(place)
            self._note(place, each.hit, "report")

    def piece(self, target: Target, hits: Iterable[Hit], place: str) -> None:
        """Treat what was found in bytes of which no fields are known. Raises UndeclaredCard."""
        for hit in hits:
            if not self._is_left(place, hit):
                quote = b'"' if hit.is_json_number else b""
                write, action = self._instead(hit, place)
                self._edit(target, hit.start, hit.end, _between(quote, write))
                self._note(place, hit, action)

    # --- one find -------------------------------------------------------------------------

    def _in_bytes(self, area: Area, found: Located, field: Field | None) -> None:
        place, hit = area.place(field), found.hit
        if self._is_left(place, hit):
            return
        start, end, quote = found.start, found.end, b""
        if field is not None and field.shape is Shape.NUMBER:
            write, action = self._instead(hit, place, plain=True)
            start, end, quote = field.start, field.end, b'"'
        elif area.format is Format.FIXED_WIDTH:
            write, action = self._as_wide(found, place)
        elif _keeps_length(area, field):
            is_binary = field is not None and is_binary_part(area.raw, field)
            if self._undeclared == "tokenize" and not is_binary:
                raise UndeclaredCard(place)
            write, action = _always(hit.masked(same_length=True)), "mask"
        else:
            if field is None and area.format is Format.XML and not _in_comment(area.raw, start):
                raise UndeclaredCard(place)
            write, action = self._instead(hit, place)
        self._edit(area.target, start, end, _between(quote, write))
        self._note(place, hit, action)

    def _in_text(self, area: Area, read: Read) -> None:
        """Write a field anew, of which the cards are seen only once it is read."""
        field, place = read.field, area.place(read.field)
        writes: list[tuple[Located, _Write]] = []
        for each in read.found:
            if not self._is_left(place, each.hit):
                write, action = self._instead(each.hit, place)
                writes.append((each, write))
                self._note(place, each.hit, action)
        if not writes:
            return
        if field.shape is Shape.NUMBER:
            self._edit(area.target, field.start, field.end, _between(b'"', writes[0][1]))
            return
        if escaped(area.format, area.raw, field, "") is None:
            raise UndeclaredCard(place)

        def rewrite(made: Sequence[str]) -> bytes:
            pieces, at = [], 0
            for located, write in writes:
                pieces += [read.text[at : located.start], write(made)]
                at = located.end
            text = b"".join((*pieces, read.text[at:])).decode("utf-8", "surrogatepass")
            written = escaped(area.format, area.raw, field, text)
            assert written is not None, "the format did not change"
            return written

        self._edit(area.target, field.start, field.end, rewrite)

    def _is_left(self, place: str, hit: Hit) -> bool:
        """Whether a find is only told of. Raises UndeclaredCard."""
        if self._undeclared == "report" or hit.kind is Kind.WINDOW:
            self._note(place, hit, "report")
            return True
        if self._undeclared == "refuse":
            raise UndeclaredCard(place)
        return False

    # --- what stands there instead --------------------------------------------------------

    def _instead(self, hit: Hit, place: str, *, plain: bool = False) -> tuple[_Write, Action]:
        """Give what takes the place of a find; `plain` for the one number of a field."""
        if self._undeclared == "mask":
            return _always(hit.numbers[0].mask.encode() if plain else hit.masked()), "mask"
        wanted = [self._draft.want(_card(each, hit), "opaque", place) for each in hit.numbers]
        if plain:
            return (lambda made: made[wanted[0]].encode()), "tokenize"
        return (lambda made: hit.spelled([made[each] for each in wanted])), "tokenize"

    def _as_wide(self, found: Located, place: str) -> tuple[_Write, Action]:
        """In a row of fixed width a token has to be as long as its number."""
        hit, width = found.hit, found.end - found.start
        if self._undeclared == "mask":
            return _always(hit.masked(same_length=True)), "mask"
        numbers = hit.numbers
        samples = ["9" * len(each) for each in numbers]
        is_short = any(len(each) < PAN_LIKE_DIGITS_MIN for each in numbers)
        if is_short or len(hit.spelled(samples)) > width:
            raise UndeclaredCard(place)
        wanted = [self._draft.want(_card(each, hit), "pan_like", place) for each in numbers]
        return (lambda made: hit.spelled([made[each] for each in wanted]).ljust(width)), "tokenize"

    def _check(self, place: str, *, exhausted: bool) -> None:
        """What was not looked at to its end may hold more."""
        if exhausted and self._undeclared != "report":
            raise UndeclaredCard(place)

    def _check_lost(self, area: Area, read: Read, shown: Iterable[Hit]) -> None:
        """What stands in the bytes of a field and not in its text would be lost, and not safe."""
        if read.field.shape is Shape.NUMBER or self._undeclared == "report":
            return
        numbers = [number for each in read.found for number in each.hit.numbers]
        certain = (hit for hit in shown if hit.kind is not Kind.WINDOW)
        if any(number not in numbers for hit in certain for number in hit.numbers):
            raise UndeclaredCard(area.place(read.field))

    def _edit(self, target: Target, start: int, end: int, write: _Write) -> None:
        def written(made: Sequence[str], _masks: Mapping[str, str]) -> bytes:
            return write(made)

        self._draft.edits.append(Edit(target, start, end, written))

    def _note(self, place: str, hit: Hit, action: Action) -> None:
        length = len(hit.numbers[0]) if hit.numbers else 0
        found = Finding(place, hit.kind, hit.encoding, hit.brand, length, action, declared=False)
        self._draft.findings.append(found)


def may_hold_cards(header: Area) -> bool:
    """Whether anybody would write a card into such a header."""
    return header.header not in _UNTOUCHED


def names_of(headers: Iterable[Area]) -> str:
    return "\n".join(each.header for each in headers)


def _card(number: Pan, hit: Hit) -> Card:
    """Take a number that the scanner has found good: of several, nobody says the brand."""
    return Card(number, None, None, hit.brand if len(hit.numbers) == 1 else UNKNOWN)


def _all_in(found: Iterable[Located], shown: Iterable[Hit]) -> bool:
    """Whether the bytes show every number that is read in a text."""
    known = [number for hit in shown for number in hit.numbers]
    return all(number in known for each in found for number in each.hit.numbers)


def _keeps_length(area: Area, field: Field | None) -> bool:
    if area.format is not Format.MULTIPART or field is None or field.text is not None:
        return False
    return has_length(area.raw, field) or is_binary_part(area.raw, field)


def _in_comment(raw: bytes, at: int) -> bool:
    return raw.rfind(_COMMENT, 0, at) > raw.rfind(_COMMENT_END, 0, at)


def _always(value: bytes) -> _Write:
    return lambda _made: value


def _between(quote: bytes, write: _Write) -> _Write:
    return (lambda made: quote + write(made) + quote) if quote else write
