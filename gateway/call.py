"""A call to a processor as it came in: its body read, its operation found, or why not. Pure.

One URL may serve many operations: then the body says which. A body that two readers could take
for different ones has none. What never lives here: cards, and what is put in their place.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from gateway.codecs.bodies import format_of, read_as
from gateway.codecs.splice import Document, Field, Format, Shape
from gateway.errors import Malformed
from gateway.plain_paths import folded
from gateway.preset import Operation, Preset
from gateway.preset_conditions import Condition, Scalar
from gateway.resign import Verified
from gateway.selectors import Finder, Match
from vault.tokens import TOKEN_BYTES

_ESCAPES: Final = (b"\\", b"%", b"&#")


# --- what came ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, repr=False)
class Call:
    """A call to a processor as it came in: `path` and `query` raw, its body complete."""

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    proof: Verified | None = None  # where a body is signed: that it was, by its caller

    @property
    def content_type(self) -> str:
        """The body's type as it was sent; nothing if there are two, which is doubtful."""
        values = [value for name, value in self.headers if name.lower() == "content-type"]
        return values[0] if len(values) == 1 else ""

    @property
    def media_type(self) -> str:
        return self.content_type.partition(";")[0].strip().lower()


class Refusal(StrEnum):
    """Why a call is not made: public codes."""

    TOKEN_UNKNOWN = "token_unknown"  # noqa: S105 - no password
    TOKEN_UNDECLARED = "token_undeclared"  # noqa: S105
    TOKEN_MISMATCH = "token_mismatch"  # noqa: S105
    RAW_CARD_NUMBER = "raw_card_number"
    RAW_CVC = "raw_cvc"
    INVALID_FIELD = "invalid_field"
    FIELD_REPEATED = "field_repeated"
    FIELD_REFUSED = "field_refused"
    TOO_MANY_CARDS = "too_many_cards"
    SEVERAL_OPERATIONS = "several_operations"
    SIGNED_BODY = "signed_body"
    MALFORMED = "malformed_request"
    UNSUPPORTED = "unsupported_media_type"


REFUSALS: Final[Mapping[Refusal, tuple[int, str]]] = {
    Refusal.TOKEN_UNKNOWN: (422, "There is no such token"),
    Refusal.TOKEN_UNDECLARED: (422, "A token may not stand in this field"),
    Refusal.TOKEN_MISMATCH: (422, "This field holds another token than the number field"),
    Refusal.RAW_CARD_NUMBER: (422, "This field takes a token, not a card number"),
    Refusal.RAW_CVC: (422, "This field takes the card's token, or 000, not a code"),
    Refusal.INVALID_FIELD: (422, "This field does not hold what it must"),
    Refusal.FIELD_REPEATED: (422, "This field is given twice"),
    Refusal.FIELD_REFUSED: (422, "What stands here cannot be opened, so it is not passed on"),
    Refusal.TOO_MANY_CARDS: (422, "One call may open 16 cards at most"),
    Refusal.SEVERAL_OPERATIONS: (422, "Ask for one operation in a call, so that it is on record"),
    Refusal.SIGNED_BODY: (422, "A signed body cannot be changed without breaking its signature"),
    Refusal.MALFORMED: (400, "The body is not of its content type"),
    Refusal.UNSUPPORTED: (415, "This call does not accept the body's content type"),
}
"""Status and words of each, for the table of answers."""


@dataclass(frozen=True, slots=True)
class CallRefused:
    """Nothing is opened and nothing sent; `field` is a name that is fit to be shown."""

    code: Refusal
    field: str


# --- reading it ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, repr=False)
class ReadCall:
    """A call with its body read; `operation` is None for one that is no declared operation."""

    preset: Preset
    call: Call
    document: Document
    finder: Finder
    operation: Operation | None

    def find(self, selector: str) -> tuple[Match, ...]:
        """Find the values that a selector names."""
        return self.finder.find(selector)

    def first(self, selectors: Sequence[str], fits: Callable[[str], object]) -> str | None:
        """Return the first text at these selectors that fits."""
        for selector in selectors:
            for match in self.find(selector):
                text = text_of(match.field)
                if text and fits(text):
                    return text
        return None


def repeated(finder: Finder, document: Document, selector: str) -> bool:
    """Whether two readers could take different values of one field."""
    seen: set[tuple[str, ...]] = set()
    for match in finder.find(selector):
        if match.captured in seen or document.repeats(match.field.name):
            return True
        seen.add(match.captured)
    return False


def read_call(preset: Preset, call: Call) -> ReadCall | CallRefused:
    """Read a call's body and find its operation."""
    candidates = preset.candidates(call.method, call.path)
    document = _document(preset, candidates, call)
    if isinstance(document, CallRefused):
        return document
    finder = Finder(document, call.body, fold=folds(preset, document))
    try:
        operation = _operation(preset, candidates, call, document, finder)
    except Malformed:  # a selector of the preset's cannot be followed without doubt
        return CallRefused(Refusal.MALFORMED, "body")
    if isinstance(operation, CallRefused):
        return operation
    if call.query and preset.serves_graphql(call.path):
        return CallRefused(Refusal.SEVERAL_OPERATIONS, "query")  # some read it before the body
    return ReadCall(preset, call, document, finder, operation)


def folds(preset: Preset, document: Document) -> bool:
    """Whether names are compared without their spelling."""
    return preset.fold_names or document.format is Format.XML


def text_of(field: Field) -> str | None:
    """Return a value's text; null is none."""
    if field.shape is Shape.WORD and field.text == "null":
        return None
    return field.text


def is_empty(field: Field) -> bool:
    return field.text == "" or (field.shape is Shape.WORD and field.text == "null")


def _document(
    preset: Preset, candidates: Sequence[Operation], call: Call
) -> Document | CallRefused:
    if not call.body or (not candidates and not preset.refused and _is_plain(call.body)):
        return Document.of(Format.FORM, ())
    format_ = format_of(call.content_type)
    if any(each.format == "graphql" for each in candidates) and format_ is Format.JSON:
        format_ = Format.GRAPHQL
    if candidates and not any(preset.accepts(each, call.media_type) for each in candidates):
        return CallRefused(Refusal.UNSUPPORTED, "content-type")
    reason = "unknown"
    if format_ is not None:
        try:
            return read_as(format_, call.content_type, call.body)
        except Malformed as error:
            reason = error.reason or ""
    if not candidates:  # it passes as it is, or not: no field of it is known
        return Document.of(Format.FORM, ())
    if format_ is None:
        return CallRefused(Refusal.UNSUPPORTED, "content-type")
    signed = reason == "xml_signed"
    return CallRefused(Refusal.SIGNED_BODY if signed else Refusal.MALFORMED, "body")


def _is_plain(body: bytes) -> bool:
    """Whether no token can stand in it unseen, so that it need not be read."""
    return not any(mark in body for mark in _ESCAPES) and TOKEN_BYTES.search(body) is None


def _operation(
    preset: Preset,
    candidates: Sequence[Operation],
    call: Call,
    document: Document,
    finder: Finder,
) -> Operation | CallRefused | None:
    asked = (path for each in candidates for one in each.when for path in one.paths)
    twice = next((path for path in asked if repeated(finder, document, path)), None)
    if twice is not None:
        return CallRefused(Refusal.FIELD_REPEATED, twice)
    fitting = [each for each in candidates if _fits(each, document, finder)]
    if any(each.roots for each in fitting) and len(document.roots) > 1:
        return CallRefused(Refusal.SEVERAL_OPERATIONS, "body")
    taken = [each for each in fitting if not call.body or preset.accepts(each, call.media_type)]
    if fitting and not taken:
        return CallRefused(Refusal.UNSUPPORTED, "content-type")
    return taken[0] if taken else None


def _fits(operation: Operation, document: Document, finder: Finder) -> bool:
    # Folded: who is lax about a root's spelling must not get around the record.
    return (
        not operation.roots
        or any(
            fnmatchcase(folded(root), folded(each))
            for root in document.roots
            for each in operation.roots
        )
    ) and all(_holds(condition, finder) for condition in operation.when)


def _holds(condition: Condition, finder: Finder) -> bool:
    found = (match for path in condition.paths for match in finder.find(path))
    texts = [text for match in found if (text := text_of(match.field)) is not None]
    if condition.exists is not None:
        return bool(texts) is condition.exists
    return any(text == _spelled(one) for text in texts for one in condition.equals)


def _spelled(value: Scalar) -> str:
    """Spell a value as a body does."""
    return str(value).lower() if isinstance(value, bool) else str(value)
