"""What the gateway would do with a recorded call, told without a value of it. Pure.

For a look before going live: a call recorded with card numbers, or with tokens already, either
way. Values are told by what they look like, never as they are; names are told if they can be no
more than names. What never lives here: a second opinion. Whether a call may be made is asked of
`gateway/call.py` and `gateway/order.py`, as it is in earnest; where card numbers stand in the
places of tokens it is asked again, with tokens that nobody was given.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from msgspec import Struct

from gateway import strays
from gateway.call import (
    REFUSALS,
    Call,
    CallRefused,
    ReadCall,
    Refusal,
    folds,
    is_empty,
    read_call,
)
from gateway.codecs.splice import Field, Format, Replacement, Shape, splice
from gateway.echoes import count_card_like
from gateway.errors import Malformed, TooLarge
from gateway.order import Order, login_slots, pass_through_refusal, read_order
from gateway.plain_paths import LITERALS
from gateway.preset import CardFields, Operation, Preset
from gateway.slots import Part
from vault.pan import PAN_DIGITS_MAX, PAN_DIGITS_MIN
from vault.tokens import Env, is_token, looks_pan_like, token_of

Role = Literal[
    "number",
    "cvc",
    "exp_month",
    "exp_year",
    "expiry",
    "amount",
    "currency",
    "merchant_reference",
    "login",
    "text",
    "undeclared",
]
Holds = Literal[
    "nothing",
    "token",  # of this environment
    "other_token",  # of another environment, or with a slip in it
    "pan_like",  # 15 digits and more that begin with 99 and fail Luhn: the form of one
    "card_like",  # of a field of a card's number: 12 to 19 digits; elsewhere: it passes for a card
    "zeros",  # 000 or 0000
    "digits",
    "text_with_token",
    "value",
]
Becomes = Literal["card_number", "stored_code", "expiry_date", "processor_login", "unchanged"]

SENT: Final = "sent"
NOT_FOUND: Final = "not_found"
_RAW: Final = frozenset({Refusal.RAW_CARD_NUMBER, Refusal.RAW_CVC})
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CODE_DIGITS: Final = (3, 4)


class ExplainedField(Struct, frozen=True):
    """One field of the call: what it is to the preset, what stands there, what would.

    `becomes` is None if nothing would be sent.
    """

    field: str
    role: Role
    start: int
    end: int
    holds: Holds
    becomes: Becomes | None


class Explanation(Struct, frozen=True):
    """What would be done.

    `verdict` is `sent`, or the code of the refusal; `with_tokens` is the same question with a
    token for each card number, and 000 for each code, that stands where a token would be taken.
    """

    preset: str
    verified: bool
    method: str
    path: str | None
    operation: str | None
    kind: str
    on_record: bool
    format: str | None
    fields: tuple[ExplainedField, ...]
    headers_dropped: tuple[str, ...]
    headers_replaced: tuple[str, ...]
    idempotency: str | None
    replay_seconds: int
    timeout_seconds: float
    verdict: str
    words: str
    with_tokens: str
    with_tokens_words: str
    card_like: tuple[str, ...]

    @property
    def is_ready(self) -> bool:
        """Whether it would be sent, or lacks nothing but tokens in the places of numbers."""
        return self.verdict == SENT or (self.verdict in _RAW and self.with_tokens == SENT)


@dataclass(frozen=True, slots=True, repr=False)
class _Judged:
    """A call, and what the gateway says to it."""

    preset: Preset
    call: Call
    read: ReadCall | None
    order: Order | None
    verdict: str
    words: str

    @property
    def operation(self) -> Operation | None:
        """Which it is, as far as that is known: of a body that was not read, only by its path."""
        if self.read is not None:
            return self.read.operation
        known = self.preset.candidates(self.call.method, self.call.path)
        return known[0] if len(known) == 1 and not known[0].asks_the_body else None


def explain(preset: Preset, call: Call, *, env: Env) -> Explanation:
    """Tell what would become of a call under a preset."""
    recorded = _judged(preset, call, env)
    tokenized = recorded
    if recorded.verdict in _RAW and recorded.read is not None and recorded.operation is not None:
        body = _with_tokens(recorded.read, recorded.operation, env)
        tokenized = _judged(preset, replace(call, body=body), env)
    operation = recorded.operation
    names = _names(header.lower() for header, _ in call.headers)
    return Explanation(
        preset=preset.name,
        verified=preset.verified,
        method=call.method if call.method in _METHODS else "(another method)",
        path=" or ".join(operation.paths) if operation is not None else None,
        operation=operation.name if operation is not None else None,
        kind=operation.kind.value if operation is not None else "other",
        on_record=operation is not None,
        format=recorded.read.document.format.value if recorded.read and call.body else None,
        fields=_fields(recorded, tokenized, env) if recorded.read is not None else (),
        headers_dropped=tuple(name for name in names if not preset.forwards(name)),
        headers_replaced=tuple(name for name in names if name in preset.credential.headers),
        idempotency=preset.idempotency.header or preset.idempotency.field,
        replay_seconds=_replay_seconds(preset, operation),
        timeout_seconds=preset.timeout_seconds,
        verdict=recorded.verdict,
        words=recorded.words,
        with_tokens=tokenized.verdict,
        with_tokens_words=tokenized.words,
        card_like=tuple(_card_like(recorded)),
    )


def _judged(preset: Preset, call: Call, env: Env) -> _Judged:
    """Ask the gateway, in the order in which it asks itself."""
    if len(call.body) > preset.body_bytes_max:
        return _Judged(preset, call, None, None, TooLarge.code, "the body is too large")
    read = None
    try:
        found = read_call(preset, call)
        if isinstance(found, CallRefused):
            return _refused(preset, call, None, found)
        read = found
        if read.operation is None and not preset.passes_through(call.method, call.path):
            words = "the processor could take this path for an operation's, so it does not pass"
            return _Judged(preset, call, read, None, NOT_FOUND, words)
        if read.operation is None:
            asked: Order | CallRefused | None = pass_through_refusal(read)
        else:
            asked = read_order(read, read.operation, env=env)
    except Malformed:  # a JSONPath over a body in which a name is given twice
        read, asked = None, CallRefused(Refusal.MALFORMED, "body")
    if isinstance(asked, CallRefused):
        return _refused(preset, call, read, asked)
    return _Judged(preset, call, read, asked, SENT, "it would be sent")


def _refused(preset: Preset, call: Call, read: ReadCall | None, refused: CallRefused) -> _Judged:
    words = f"{REFUSALS[refused.code][1]}: {refused.field}"
    if refused.code is Refusal.UNSUPPORTED:
        known = preset.candidates(call.method, call.path)
        types = (type_ for each in known for type_ in each.content_types or preset.content_types)
        words = f"{words}. It takes {', '.join(dict.fromkeys(types))}"
    return _Judged(preset, call, read, None, refused.code.value, words)


def _replay_seconds(preset: Preset, operation: Operation | None) -> int:
    """For how long a call whose outcome is unknown may be sent again under its key."""
    honored = operation is not None and operation.replay
    return preset.idempotency.replay_seconds if honored else 0


def _names(names: Iterator[str]) -> tuple[str, ...]:
    """Return header names, once each, as far as they are fit to be shown."""
    return tuple(dict.fromkeys(strays.shown(name, "(another)") for name in sorted(names)))


# --- the same call with tokens ------------------------------------------------------------


def _with_tokens(read: ReadCall, operation: Operation, env: Env) -> bytes:
    """Put a made-up token where a card number is, and 000 where a code is."""
    tokens: dict[str | None, str] = {}
    replacements: dict[int, Replacement] = {}
    for card in operation.cards:
        for role, field, _ in _declared(read, card):
            held = _holds(field, role, env)
            if role == "number" and held == "card_like":
                stands = tokens.setdefault(field.text, token_of(env, len(tokens)))
            elif role == "cvc" and held == "digits" and len(field.text or "") in _CODE_DIGITS:
                stands = "000"
            else:
                continue
            replacements.setdefault(field.start, _replacement(read, field, stands))
    return bytes(splice(read.call.body, replacements.values()))


def _replacement(read: ReadCall, field: Field, text: str) -> Replacement:
    """Write it as the body does: a number of JSON becomes a text."""
    quoted = field.shape is Shape.NUMBER
    in_literal = read.document.format is Format.GRAPHQL and field.name.startswith(LITERALS)
    quote = (b'\\"' if in_literal else b'"') if quoted else b""
    return Replacement(field.start, field.end, quote + text.encode() + quote)


# --- fields -------------------------------------------------------------------------------

_Meant = tuple[Role, Field, str]
"""A field, what it is, and what it is called if its own name is not fit to be shown."""

_PARTS: Final[Mapping[Part, Becomes]] = {Part.NUMBER: "card_number", Part.CVC: "stored_code"}


def _fields(recorded: _Judged, tokenized: _Judged, env: Env) -> tuple[ExplainedField, ...]:
    """Tell the fields that mean something, in the order of the body."""
    assert recorded.read is not None
    becomes = _becomes(recorded.read, tokenized)
    told: dict[int, ExplainedField] = {}
    for role, field, selector in _meant(recorded.read, recorded.operation):
        held = _holds(field, role, env)
        if role == "undeclared" and held not in {"card_like", "text_with_token", "token"}:
            continue
        told.setdefault(
            field.start,
            ExplainedField(
                field=strays.shown(field.name, selector),
                role=role,
                start=field.start,
                end=field.end,
                holds=held,
                becomes=becomes.get(field.start),
            ),
        )
    return tuple(told[start] for start in sorted(told))


def _becomes(read: ReadCall, tokenized: _Judged) -> Mapping[int, Becomes]:
    """What would stand in each field, by where it starts in the record.

    With tokens in place the same fields stand in the same order, at other places.
    """
    after = tokenized.read
    if after is None or tokenized.verdict != SENT:
        return {}
    slots = tokenized.order.slots if tokenized.order is not None else ()
    parts = {slot.start: _PARTS.get(slot.part, "expiry_date") for slot in slots}
    login = login_slots(after)
    parts |= {each.start: "processor_login" for each in (*login.name, *login.key)}
    pairs = zip(read.document.fields, after.document.fields, strict=True)
    return {
        field.start: parts.get(other.start, "unchanged")
        for field, other in pairs
        if field.shape is not Shape.KEY
    }


def _meant(read: ReadCall, operation: Operation | None) -> Iterator[_Meant]:
    """Yield what each field is to the preset, the strongest first, and by which selector."""
    for card in operation.cards if operation is not None else ():
        yield from _declared(read, card)
    login = login_slots(read)
    for field in (*login.name, *login.key):
        yield "login", field, "(the login)"
    if operation is not None:
        yield from _on_record(read, operation)
    form = read.document.format in {Format.FORM, Format.MULTIPART}
    fold = folds(read.preset, read.document)
    for field in read.document.fields:
        if field.shape is not Shape.KEY:
            is_text = operation is not None and read.preset.is_text(
                operation, field.name, form=form, fold=fold
            )
            yield "text" if is_text else "undeclared", field, "(a name that is not shown)"


def _declared(read: ReadCall, card: CardFields) -> Iterator[_Meant]:
    named: Sequence[tuple[Role, str | None]] = (
        ("number", card.number),
        ("cvc", card.cvc),
        ("exp_month", card.exp_month),
        ("exp_year", card.exp_year),
        ("expiry", card.expiry),
    )
    for role, selector in named:
        if selector is not None:
            for match in read.find(selector):
                yield role, match.field, selector


def _on_record(read: ReadCall, operation: Operation) -> Iterator[_Meant]:
    roles: Sequence[Literal["amount", "currency", "merchant_reference"]] = (
        "amount",
        "currency",
        "merchant_reference",
    )
    for role in roles:
        for selector in read.preset.selectors(operation, role):
            for match in read.find(selector):
                yield role, match.field, selector


def _holds(field: Field, role: Role, env: Env) -> Holds:
    """Tell what a field holds, and nothing of it."""
    text = field.text or ""
    digits = 0 if any(map(str.isalpha, text)) else sum(map(str.isdigit, text))
    of_card = role in {"number", "cvc"}
    held: Holds = "value"
    if is_empty(field):
        held = "nothing"
    elif strays.TOKEN.search(text):
        whole = strays.TOKEN.fullmatch(text)
        held = "token" if is_token(text, env) else "other_token" if whole else "text_with_token"
    elif of_card and looks_pan_like(text):
        held = "pan_like"
    elif _is_card_like(field, text) or (
        role == "number" and digits in range(PAN_DIGITS_MIN, PAN_DIGITS_MAX + 1)
    ):
        held = "card_like"
    elif role == "cvc" and text in {"000", "0000"}:
        held = "zeros"
    elif text.isdecimal():
        held = "digits"
    return held


def _is_card_like(field: Field, text: str) -> bool:
    return field.text is not None and count_card_like(text.encode("utf-8", "replace")) > 0


# --- what looks like a card where none is declared ----------------------------------------


def _card_like(judged: _Judged) -> Iterator[str]:
    """Name the places: nobody opens or hides what stands there, it goes on as it is."""
    call = judged.call
    for place, text in (("path", call.path), ("query", call.query)):
        if count_card_like(text.encode("utf-8", "replace")):
            yield place
    for name, value in call.headers:
        if count_card_like(f"{name}\n{value}".encode("utf-8", "replace")):
            yield strays.shown(name.lower(), "header")
    numbers: set[int] = set()
    if judged.read is not None and judged.operation is not None:
        cards = (each for card in judged.operation.cards for each in _declared(judged.read, card))
        numbers = {field.start for role, field, _ in cards if role == "number"}
    yield from dict.fromkeys(_card_like_in_body(judged, numbers))


def _card_like_in_body(judged: _Judged, numbers: set[int]) -> Iterator[str]:
    """Look at the fields, and at what is between them: a comment, a name, a file."""
    body = judged.call.body
    fields = judged.read.document.fields if judged.read is not None else ()
    for field in fields:
        written = body[field.start : field.end]
        text = written if field.text is None else field.text.encode("utf-8", "replace")
        name = field.name.encode("utf-8", "replace")
        if field.start not in numbers and count_card_like(text + b"\n" + name):
            yield strays.shown(field.name, "body")
    values = (field for field in fields if field.shape is not Shape.KEY)
    if count_card_like(bytes(splice(body, (Replacement(f.start, f.end, b".") for f in values)))):
        yield "body"
