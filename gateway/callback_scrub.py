"""Takes card numbers and codes out of what a processor posts, before anything keeps it. Pure.

1. What looks like a card's number is masked to its last four (PCI DSS 3.4.1), however it is
   spelled: in the body, in a document that the body carries in base64, in the values of headers.
2. Where a preset says that an id of the processor's stands, and the number is all of it, its bytes
   are left: 2.8 % of random ids of 16 digits look like cards, and an id that was changed is of no
   payment. Those numbers are handed back, and the ones that turn out to be cards are masked after
   all (`masked_also`). A merchant's own reference is any text: one that looks like a card was never
   put on record, so there is nothing to find by it.
3. What is called a card's code gets zeros (`callback_codes`; PCI DSS 3.3.1).

JSON stays JSON, XML stays XML, a form stays a form, and what held nothing keeps its bytes; it is
looked through until nothing more is found, and what cannot be made clean is refused; so is what
holds more numbers than any processor posts, before it takes long. What never lives here:
signatures, what an event means, and whose card a number is.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from gateway.callback_codes import codes_among, codes_in, is_code, may_be_there, zeros
from gateway.callback_ids import Ids, id_selectors
from gateway.callback_payloads import PAYLOADS, packed, unpacked
from gateway.codecs import form, json, xml
from gateway.codecs.bodies import format_of
from gateway.codecs.splice import BOM, Document, Field, Format, Replacement, Shape, splice
from gateway.errors import Malformed, UndeclaredCard
from gateway.inbound.areas import BODY, Area
from gateway.inbound.looking import Fields, Located, Look, Seen, in_each, is_clean
from gateway.inbound.written import escaped
from gateway.preset_callbacks import CallbackEvents
from gateway.scan import find_cards
from gateway.selectors import Finder
from vault.pan import Pan

AT_ONCE_BYTES_MAX: Final = 8 * 1024
"""A larger post is for a thread: with many values or cards it takes a good part of a second."""

PASSES_MAX: Final = 8  # one is enough but for what is hidden in what was hidden
NUMBERS_MAX: Final = 1000
"""Of one post. What has more is refused: it is no report of a payment, and slow to clean."""


_COUNTED_AT_ONCE: Final = 16 * 1024
_READERS: Final = {Format.JSON: json.read, Format.XML: xml.read, Format.FORM: form.read}
_OPENING: Final = {b"{": Format.JSON, b"[": Format.JSON, b"<": Format.XML}
_MAY_SPELL_OTHERWISE: Final = re.compile(rb"\\|[0-9.]{12}[eE.]")


class Scheme(Protocol):
    """How a processor posts; the name tells where the document is."""

    @property
    def name(self) -> str: ...

    @property
    def content_types(self) -> Collection[str]: ...


@dataclass(frozen=True, slots=True, repr=False)
class _Post:
    """What is known of a post beforehand."""

    rules: CallbackEvents
    payload: str | None
    content_types: tuple[str, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Cleaned:
    """A post without cards; `doubtful` are numbers in the places of ids, each once."""

    headers: tuple[tuple[str, str], ...]
    body: bytes
    masked: int
    doubtful: tuple[Pan, ...]
    post: _Post


def scrubbed(
    rules: CallbackEvents, scheme: Scheme, headers: Sequence[tuple[str, str]], body: bytes
) -> Cleaned:
    """Mask what must not be kept. Raises UndeclaredCard if that cannot be done."""
    post = _Post(rules, PAYLOADS.get(scheme.name), tuple(scheme.content_types))
    return _cleaned(post, tuple(headers), body, Ids(()))


def masked_also(cleaned: Cleaned, which: Sequence[bool]) -> Cleaned:
    """Mask also those of the doubtful numbers of which this says that they are cards."""
    cards = [pan for pan, is_card in zip(cleaned.doubtful, which, strict=True) if is_card]
    if not cards:
        return cleaned
    again = _cleaned(cleaned.post, cleaned.headers, cleaned.body, Ids(cards))
    return replace(again, masked=cleaned.masked + again.masked)


def _cleaned(post: _Post, headers: tuple[tuple[str, str], ...], body: bytes, ids: Ids) -> Cleaned:
    kept, in_headers = _clean_headers(post, headers, ids)
    if _is_surely_clean(body):
        return Cleaned(kept, body, in_headers, tuple(ids.doubtful), post)
    document = _document(post, headers, body)
    body, in_body = _clean(post, document, body, ids)
    return Cleaned(kept, body, in_headers + in_body, tuple(ids.doubtful), post)


def _is_surely_clean(body: bytes) -> bool:
    """Whether a post in JSON need not even be read: so it is with nearly all.

    Raises UndeclaredCard for more numbers than there may be.
    """
    is_found = _holds_numbers(body)
    is_plain = body[:1] == b"{" and not _MAY_SPELL_OTHERWISE.search(body)
    return is_plain and not is_found and not may_be_there(body)


def _holds_numbers(body: bytes) -> bool:
    """Look for any. Raises UndeclaredCard at once when there are too many."""
    count, exhausted = 0, False
    for at in range(0, len(body), _COUNTED_AT_ONCE):
        found = find_cards(body[at : at + _COUNTED_AT_ONCE])
        exhausted |= found.exhausted
        count += sum(len(hit.numbers) for hit in found.hits)
        if count > NUMBERS_MAX:
            raise UndeclaredCard("body")
    if len(body) > _COUNTED_AT_ONCE:
        whole = find_cards(body)  # what stands where two of those pieces meet, too
        return bool(whole.hits) or whole.exhausted
    return count > 0 or exhausted


# --- headers --------------------------------------------------------------------------------


def _clean_headers(
    post: _Post, headers: tuple[tuple[str, str], ...], ids: Ids
) -> tuple[tuple[tuple[str, str], ...], int]:
    texts = [_raw(text)[0] for header in headers for text in header]
    if is_clean(texts) and not may_be_there(b"\n".join(texts)):
        return headers, 0
    kept, masked = [], 0
    for name, value in headers:
        is_id = name.lower() == post.rules.id_header
        cleaned, count = _clean_value(name, value, ids if is_id else None)
        masked += count
        if cleaned is not None and not find_cards(_raw(name)[0]).hits:
            kept.append((name, cleaned))
        else:
            masked += 1
    return (tuple(kept), masked) if masked else (headers, 0)


def _clean_value(name: str, value: str, ids: Ids | None) -> tuple[str | None, int]:
    """Return a header's value without cards, or None if it cannot be made clean."""
    places = [(0, len(value))] if is_code(name, value) else codes_in(value)
    masked = len(places)
    for start, end in places:
        value = value[:start] + "0" * (end - start) + value[end:]
    raw, codec = _raw(value)
    for _ in range(PASSES_MAX):
        found = find_cards(raw)
        located = (Located(hit, hit.start, hit.end) for hit in found.hits)
        cards = [each for each in located if ids is None or not ids.has_one(each, raw)]
        if not cards:
            return (None if found.exhausted else raw.decode(codec, "replace")), masked
        masked += len(cards)
        masks = (Replacement(each.start, each.end, each.hit.masked()) for each in cards)
        raw = bytes(splice(raw, masks))
    return None, masked


def _raw(text: str) -> tuple[bytes, str]:
    try:
        return text.encode("latin-1"), "latin-1"
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace"), "utf-8"


# --- a body, or the document in it ----------------------------------------------------------


def _document(post: _Post, headers: Sequence[tuple[str, str]], body: bytes) -> Document | None:
    """Read a body as what it can be: nearly anything passes for a form, so looks come first."""
    called = [value for name, value in headers if name.lower() == "content-type"]
    looks = _OPENING.get(body.removeprefix(BOM).lstrip(b" \t\r\n")[:1])
    formats = (looks, *map(format_of, called), *map(format_of, post.content_types))
    for each in dict.fromkeys(formats):
        document = _read(each, body)
        if document is not None:
            return document
    return None


def _read(format_: Format | None, body: bytes) -> Document | None:
    try:
        return _READERS[format_](body) if format_ in _READERS else None
    except Malformed:
        return None


def _clean(post: _Post, document: Document | None, body: bytes, ids: Ids) -> tuple[bytes, int]:
    format_ = None if document is None else document.format
    masked = 0
    for _ in range(PASSES_MAX):
        finder = None if document is None else Finder(document, body, fold=False)
        look = _Body(post, Area(BODY, body, document, finder), ids)
        edits = _apart(look.edits())
        if not edits:
            if look.exhausted:
                break
            return body, masked + look.masked_inside
        masked += len(edits) + look.masked_inside
        body = bytes(splice(body, edits))
        document = _read(format_, body)
        if masked > NUMBERS_MAX or (document is None and format_ is not None):
            break  # too many; or what was masked had a part in how it is written
    raise UndeclaredCard("body")


def _apart(edits: Iterator[Replacement]) -> list[Replacement]:
    # What overlaps is left: the next pass finds it, if it is still there.
    apart: list[Replacement] = []
    for each in sorted(edits, key=lambda one: (one.start, -one.end)):
        if not apart or each.start >= apart[-1].end:
            apart.append(each)
    return apart


@dataclass(slots=True, repr=False)
class _Body:
    """One pass over one body."""

    post: _Post
    area: Area
    ids: Ids
    exhausted: bool = False
    masked_inside: int = 0
    """Of a document that the body carries: the one edit of the whole is counted beside."""
    _inside: list[Field] = field(default_factory=list)

    def edits(self) -> Iterator[Replacement]:
        if self.post.payload is not None and self.area.format is Format.FORM:
            yield from self._payloads(self.post.payload)
        seen = Look(self.area, self._inside).all()
        codes = list(codes_among(self.area.fields))
        in_texts = list(self._codes_in_texts())
        if (
            not seen.in_bytes
            and not seen.in_texts
            and not codes
            and not in_texts
            and not seen.exhausted
        ):
            return
        declared = list(self._declared())
        if declared:
            yield from self._in_ids(declared)
            seen = Look(self.area, (*declared, *self._inside)).all()
            places = {each.start for each in declared}
            codes = [each for each in codes if each.start not in places]
        self.exhausted |= seen.exhausted
        yield from (Replacement(each.start, each.end, zeros(each)) for each in codes)
        yield from in_texts
        yield from self._elsewhere(seen)

    def _elsewhere(self, seen: Seen) -> Iterator[Replacement]:
        """Mask what stands where no id does."""
        around = Fields(self.area)
        shown = set()
        for each in seen.in_bytes:
            holder = around.around(each)
            if holder is not None:
                shown.add(holder.start)
            yield self._in_bytes(each, holder)
        for read in seen.in_texts:  # what the bytes do not show
            if read.field.start not in shown:
                yield self._in_text(read.field, read.text, read.found)

    def _in_bytes(self, found: Located, holder: Field | None) -> Replacement:
        hit, start, end = found.hit, found.start, found.end
        quoted = b'"%b"' % hit.numbers[0].mask.encode()
        if holder is not None and holder.shape is Shape.NUMBER:
            return Replacement(holder.start, holder.end, quoted)
        if holder is None and self.area.format is Format.XML:
            return Replacement(start, end, b"x" * (end - start))  # a name in XML has no stars
        is_bare = hit.is_json_number and self.area.document is None
        return Replacement(start, end, quoted if is_bare else hit.masked())

    def _in_text(self, holder: Field, text: bytes, found: Sequence[Located]) -> Replacement:
        """Write a field anew, with masks in the places of what was found in its text."""
        if holder.shape is Shape.NUMBER:
            quoted = b'"%b"' % found[0].hit.numbers[0].mask.encode()
            return Replacement(holder.start, holder.end, quoted)
        masks = [Replacement(each.start, each.end, each.hit.masked()) for each in found]
        return self._edited(holder, text, masks)

    def _edited(self, holder: Field, text: bytes, edits: list[Replacement]) -> Replacement:
        value = bytes(splice(text, edits))
        if text != self.area.raw[holder.start : holder.end]:
            plain = value.decode("utf-8", "surrogatepass")
            written = escaped(self.area.format, self.area.raw, holder, plain)
            assert written is not None, "a field of a format that we read"
            value = written
        return Replacement(holder.start, holder.end, value)

    # --- ids --------------------------------------------------------------------------------

    def _declared(self) -> Iterator[Field]:
        document = self.area.document
        if document is None or self.area.finder is None:
            return
        seen = set()
        for selector in id_selectors(self.post.rules):
            for each in _found(self.area.finder, selector):
                if each.shape not in {Shape.KEY, Shape.WORD} and each.start not in seen:
                    seen.add(each.start)
                    yield each

    def _in_ids(self, declared: Sequence[Field]) -> Iterator[Replacement]:
        raw = self.area.raw
        texts = [
            raw[each.start : each.end]
            if each.text is None
            else each.text.encode("utf-8", "surrogatepass")
            for each in declared
        ]
        here = in_each(texts, windows=False, binary=False)
        self.exhausted |= here.exhausted
        by_field: dict[int, list[Located]] = {}
        for index, located in here.found:
            if not self.ids.has_one(located, texts[index]):
                by_field.setdefault(index, []).append(located)
        for index, found in by_field.items():
            yield self._in_text(declared[index], texts[index], found)

    # --- codes that a text names --------------------------------------------------------------

    def _codes_in_texts(self) -> Iterator[Replacement]:
        if self.area.document is None:
            for start, end in codes_in(self.area.raw.decode("latin-1")):
                yield Replacement(start, end, b"0" * (end - start))
        for each in self.area.fields:
            if each.text is not None and each.shape in {Shape.TEXT, Shape.ATTRIBUTE}:
                edits = list(_zeroed(each.text))
                if edits:
                    yield self._edited(each, each.text.encode("utf-8", "surrogatepass"), edits)

    def _payloads(self, name: str) -> Iterator[Replacement]:
        """Clean the documents that a form carries, and write them as they were written."""
        for each in self.area.fields:
            document = unpacked(each.text) if each.name == name else None
            if document is None:
                continue
            self._inside.append(each)
            inner = replace(self.post, payload=None)
            _holds_numbers(document)  # and not too many
            cleaned, masked = _clean(inner, _read(Format.XML, document), document, self.ids)
            if cleaned is not document:
                self.masked_inside += masked - 1
                raw = self.area.raw[each.start : each.end]
                yield Replacement(each.start, each.end, packed(cleaned, raw))


def _zeroed(text: str) -> Iterator[Replacement]:
    """Put zeros for the codes that a text names, in its bytes, which are counted once."""
    at = counted = 0
    for start, end in codes_in(text):
        at += len(text[counted:start].encode("utf-8", "surrogatepass"))
        counted = start
        yield Replacement(at, at + end - start, b"0" * (end - start))


def _found(finder: Finder, selector: str) -> Iterator[Field]:
    try:
        matches = finder.find(selector)
    except Malformed:  # two readers may see two values: then nothing there is taken for an id
        return
    yield from (match.field for match in matches)
