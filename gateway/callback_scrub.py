"""Takes card numbers and codes out of what a processor posts, before anything keeps it. Pure.

1. What looks like a card's number is masked to its last four (PCI DSS 3.4.1), however it is
   spelled: in the body, in a document that the body carries in base64, in the values of headers.
2. Where a preset says that an id stands, its bytes are left: 2.8 % of random ids of 16 digits look
   like cards, and an id that was changed is of no payment. Those numbers are handed back, and the
   ones that turn out to be cards are masked after all (`masked_also`).
3. A field that is named like a card's code gets zeros (PCI DSS 3.3.1).

JSON stays JSON, XML stays XML, a form stays a form, and what held nothing keeps its bytes; it is
looked through until nothing more is found, and what cannot be made clean is refused. What never
lives here: signatures, what an event means, and whose card a number is.
"""

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol
from urllib.parse import quote_from_bytes, unquote_to_bytes

from gateway.codecs import form, json, xml
from gateway.codecs.bodies import format_of
from gateway.codecs.splice import BOM, Document, Field, Format, Replacement, Shape, splice
from gateway.errors import Malformed, UndeclaredCard
from gateway.inbound.areas import BODY, Area
from gateway.inbound.looking import Fields, Located, Look, Seen, in_each, is_clean
from gateway.inbound.written import escaped
from gateway.plain_paths import folded
from gateway.preset_callbacks import CallbackEvents
from gateway.scan import Hit, find_cards
from gateway.selectors import Finder
from vault.pan import Pan

PASSES_MAX: Final = 8  # one is enough but for what is hidden in what was hidden
DOUBTFUL_MAX: Final = 64
"""Of one post. What is beyond is masked: no processor has so many ids that look like cards."""

_PAYLOADS: Final = {"braintree": "bt_payload"}  # a form's field with a document, in base64

_READERS: Final = {Format.JSON: json.read, Format.XML: xml.read, Format.FORM: form.read}
_OPENING: Final = {b"{": Format.JSON, b"[": Format.JSON, b"<": Format.XML}
_CODE: Final = re.compile("[0-9]{3,4}")
_BARE_CODE: Final = re.compile("[1-9][0-9]{0,3}")  # a number has lost its zeros in front
_LAST_STEP: Final = re.compile(r'([A-Za-z0-9_-]+?)(?:"?\])?(?:\[[0-9]*\])*\Z')
_CODE_NAME: Final = re.compile(
    "(?:.*card)?(?:(?:cvc|cvv|cvn|cvd|cav|csc|cid)2?(?:code|number|value)?"
    "|(?:security|verification)(?:code|number|value))|.*cardcode"
)
_MAY_HAVE_CODE: Final = re.compile(
    rb"(?i)(?:(?:cvc|cvv|cvn|cvd|cav|csc|cid)2?(?:code|number|value)?|cardcode"
    rb'|(?:security|verification)(?:code|number|value))"\s*:[\s\["]*[0-9]'
)
_MAY_SPELL_OTHERWISE: Final = re.compile(rb"\\|[0-9.]{12}[eE.]")
_WRITTEN: Final = re.compile(rb"%[0-9A-Fa-f]{2}|[/=\r\n]")
_LINE_END: Final = re.compile(rb"\r?\n")


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
    post = _Post(rules, _PAYLOADS.get(scheme.name), tuple(scheme.content_types))
    return _cleaned(post, tuple(headers), body, _Ids(()))


def masked_also(cleaned: Cleaned, which: Sequence[bool]) -> Cleaned:
    """Mask also those of the doubtful numbers of which this says that they are cards."""
    cards = [pan for pan, is_card in zip(cleaned.doubtful, which, strict=True) if is_card]
    if not cards:
        return cleaned
    again = _cleaned(cleaned.post, cleaned.headers, cleaned.body, _Ids(cards))
    return replace(again, masked=cleaned.masked + again.masked)


class _Ids:
    """Numbers in the places of ids: which are known for cards, and which may be."""

    def __init__(self, cards: Sequence[Pan]) -> None:
        self._cards = cards
        self.doubtful: list[Pan] = []

    def are_cards(self, hit: Hit) -> bool:
        return sum(map(self._is_card, hit.numbers)) > 0  # each is asked: `any` would stop

    def _is_card(self, number: Pan) -> bool:
        if number in self._cards:
            return True
        if number not in self.doubtful:
            if len(self.doubtful) == DOUBTFUL_MAX:
                return True
            self.doubtful.append(number)
        return False


def _cleaned(post: _Post, headers: tuple[tuple[str, str], ...], body: bytes, ids: _Ids) -> Cleaned:
    kept, in_headers = _clean_headers(post, headers, ids)
    if _is_surely_clean(body):
        return Cleaned(kept, body, in_headers, tuple(ids.doubtful), post)
    format_ = _format(post, headers, body)
    body, in_body = _clean(post, format_, body, ids)
    return Cleaned(kept, body, in_headers + in_body, tuple(ids.doubtful), post)


def _is_surely_clean(body: bytes) -> bool:
    """Whether a post in JSON need not even be read: so it is with nearly all."""
    if body[:1] != b"{" or _MAY_SPELL_OTHERWISE.search(body):
        return False
    found = find_cards(body)
    is_found = bool(found.hits) or found.exhausted
    return not is_found and not _MAY_HAVE_CODE.search(body.translate(None, b"-_"))


# --- headers --------------------------------------------------------------------------------


def _clean_headers(
    post: _Post, headers: tuple[tuple[str, str], ...], ids: _Ids
) -> tuple[tuple[tuple[str, str], ...], int]:
    if is_clean(_raw(text)[0] for header in headers for text in header):
        return headers, 0
    kept, masked = [], 0
    for name, value in headers:
        is_id = name.lower() == post.rules.id_header
        cleaned, count = _clean_value(value, ids if is_id else None)
        masked += count
        if cleaned is not None and not find_cards(_raw(name)[0]).hits:
            kept.append((name, cleaned))
        else:
            masked += 1
    return (tuple(kept), masked) if masked else (headers, 0)


def _clean_value(value: str, ids: _Ids | None) -> tuple[str | None, int]:
    """Return a header's value without cards, or None if it cannot be made clean."""
    raw, codec = _raw(value)
    masked = 0
    for _ in range(PASSES_MAX):
        found = find_cards(raw)
        hits = [hit for hit in found.hits if ids is None or ids.are_cards(hit)]
        if not hits:
            return (None if found.exhausted else raw.decode(codec, "replace")), masked
        masked += len(hits)
        raw = bytes(splice(raw, (Replacement(hit.start, hit.end, hit.masked()) for hit in hits)))
    return None, masked


def _raw(text: str) -> tuple[bytes, str]:
    try:
        return text.encode("latin-1"), "latin-1"
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace"), "utf-8"


# --- a body, or the document in it ----------------------------------------------------------


def _format(post: _Post, headers: Sequence[tuple[str, str]], body: bytes) -> Format | None:
    """Say what a body can be read as: nearly anything passes for a form, so looks come first."""
    called = [value for name, value in headers if name.lower() == "content-type"]
    looks = _OPENING.get(body.removeprefix(BOM).lstrip(b" \t\r\n")[:1])
    formats = (looks, *map(format_of, called), *map(format_of, post.content_types))
    for each in dict.fromkeys(formats):
        if each in _READERS and _read(each, body) is not None:
            return each
    return None


def _read(format_: Format | None, body: bytes) -> Document | None:
    try:
        return _READERS[format_](body) if format_ in _READERS else None
    except Malformed:
        return None


def _clean(post: _Post, format_: Format | None, body: bytes, ids: _Ids) -> tuple[bytes, int]:
    masked = 0
    for _ in range(PASSES_MAX):
        document = _read(format_, body)
        if format_ is not None and document is None:
            break  # what was masked had a part in how it is written
        finder = None if document is None else Finder(document, body, fold=False)
        look = _Body(post, Area(BODY, body, document, finder), ids)
        edits = _apart(look.edits())
        if not edits:
            if look.exhausted:
                break
            return body, masked + look.masked_inside
        masked += len(edits) + look.masked_inside
        body = bytes(splice(body, edits))
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
    ids: _Ids
    exhausted: bool = False
    masked_inside: int = 0
    """Of a document that the body carries: the one edit of the whole is counted beside."""
    _inside: list[Field] = field(default_factory=list)

    def edits(self) -> Iterator[Replacement]:
        if self.post.payload is not None and self.area.format is Format.FORM:
            yield from self._payloads(self.post.payload)
        seen = Look(self.area, self._inside).all()
        codes = list(self._codes())
        if not seen.in_bytes and not seen.in_texts and not codes and not seen.exhausted:
            return
        declared = list(self._declared())
        if declared:
            yield from self._in_ids(declared)
            seen = Look(self.area, (*declared, *self._inside)).all()
            places = {each.start for each in declared}
            codes = [each for each in codes if each.start not in places]
        self.exhausted |= seen.exhausted
        for each in codes:
            zeros = b"0" if each.shape is Shape.NUMBER else b"0" * len((each.text or "").strip())
            yield Replacement(each.start, each.end, zeros)
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
        pieces = (Replacement(each.start, each.end, each.hit.masked()) for each in found)
        value = bytes(splice(text, pieces))
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
        for selector in _selectors(self.post.rules):
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
            if self.ids.are_cards(located.hit):
                by_field.setdefault(index, []).append(located)
        for index, found in by_field.items():
            yield self._in_text(declared[index], texts[index], found)

    def _codes(self) -> Iterator[Field]:
        """Yield the fields that hold a card's code by their name and by what stands there."""
        for each in self.area.fields:
            text = (each.text or "").strip()
            code = _BARE_CODE if each.shape is Shape.NUMBER else _CODE
            if each.shape is not Shape.KEY and code.fullmatch(text) and text.strip("0"):
                name = _LAST_STEP.search(each.name[-64:])
                if name and _CODE_NAME.fullmatch(folded(name[1]).replace("_", "")):
                    yield each

    def _payloads(self, name: str) -> Iterator[Replacement]:
        """Clean the documents that a form carries, and write them as they were written."""
        for each in self.area.fields:
            document = _unpacked(each.text) if each.name == name else None
            if document is None:
                continue
            self._inside.append(each)
            inner = replace(self.post, payload=None)
            format_ = Format.XML if _read(Format.XML, document) is not None else None
            cleaned, masked = _clean(inner, format_, document, self.ids)
            if cleaned is not document:
                self.masked_inside += masked - 1
                raw = self.area.raw[each.start : each.end]
                yield Replacement(each.start, each.end, _packed(cleaned, raw))


def _selectors(rules: CallbackEvents) -> Iterator[str]:
    """Yield the paths of what keeps its bytes; where a post has items, below each of them."""
    for selectors in (
        *(rules.id, *rules.id_parts, rules.at, rules.numbers),
        *(rules.action_reference, rules.payment_reference, rules.merchant_reference),
    ):
        for each in selectors:
            yield each
            if rules.items is not None and not each.startswith(("$", "/")):
                yield f"{rules.items}{'' if each.startswith('[') else '.'}{each}"


def _found(finder: Finder, selector: str) -> Iterator[Field]:
    try:
        matches = finder.find(selector)
    except Malformed:  # two readers may see two values: then nothing there is taken for an id
        return
    yield from (match.field for match in matches)


def _unpacked(text: str | None) -> bytes | None:
    """Return what is carried, or None if it is no base64 in lines."""
    try:
        return b64decode(_LINE_END.sub(b"", (text or "").encode()), validate=True) or None
    except (binascii.Error, ValueError):
        return None


def _packed(document: bytes, before: bytes) -> bytes:
    """Write a document in base64 in a form: in lines as long, and escaped alike."""
    plain = unquote_to_bytes(before)
    end = _LINE_END.search(plain)
    text = b64encode(document)
    if end is not None:
        width = end.start() or len(text)
        lines = [text[at : at + width] for at in range(0, len(text), width)]
        text = end[0].join(lines) + (end[0] if plain.endswith(end[0]) else b"")
    spelled = {unquote_to_bytes(one): one for one in _WRITTEN.findall(before)}
    each = (text[at : at + 1] for at in range(len(text)))
    return b"".join(spelled.get(one) or quote_from_bytes(one, safe="").encode() for one in each)
