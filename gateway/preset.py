"""A preset: what one processor's API looks like, as data.

Pure, save `load`, which reads a file of this package. Here live the types of
`gateway/processors/*.toml`, and the questions they answer by themselves: which operations may
this path be, is this field text, does this header pass. What a preset must hold to make sense is
in `gateway/preset_rules.py`. What never lives here: a processor's name.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from importlib.resources import files
from typing import Final, Literal

import msgspec

from gateway.codecs.splice import Format
from gateway.plain_paths import folded
from gateway.preset_callbacks import CallbackEvents
from gateway.preset_conditions import Condition, Selectors
from gateway.preset_patterns import any_header, host_pattern, segments, text_pattern
from vault.authorization import Kind, State
from vault.errors import StartRefused

FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"

PRESET_NAME: Final = re.compile("[a-z][a-z0-9_]{0,31}")

# T-05: what a proxy and a processor could read differently has no operation and does not pass.
# That is every escape, an empty segment, and the segments `.` and `..`.
_PLAIN_PATH: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9_.-]+)+")
_SUFFIX: Final = re.compile(r"\.(?:xml|json)$", re.IGNORECASE)
METHODS: Final = ("POST", "PUT", "PATCH", "DELETE", "GET")

Place = Literal["bearer", "basic_user", "basic_password", "header", "body", "signature", "oauth"]
"""Where a key stands: in `Authorization`, in a header of its own, in the body, in what signs, or
only in the exchange for an access token."""


class Hosts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who is called: names, or patterns with one `{prefix}` of the merchant's own.

    A host of both kinds of keys counts as live.
    """

    live: tuple[str, ...]
    test: tuple[str, ...] = ()

    def are_live(self, host: str) -> bool:
        return any(host_pattern(each).fullmatch(host) for each in self.live)

    def are_test(self, host: str) -> bool:
        return any(host_pattern(each).fullmatch(host) for each in self.test)


class Credential(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whose key stands where in a call."""

    modes: tuple[Literal["injected", "own"], ...]
    presented: tuple[Place, ...] = ()  # where an SDK puts its key: panward's, in `injected`
    sent: Place  # where the processor's own goes
    headers: tuple[str, ...]  # never logged
    header: str | None = None  # of `header`
    alias: Literal["checkout_com", "authorize_net", "signing_key"] | None = None
    name: Selectors = ()  # of `body`: where the name of the login stands, and its key
    key: Selectors = ()
    token_path: str | None = None  # of `oauth`: where a key is exchanged (RFC 6749 4.4)


class Headers(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What passes: requests by a list of what does not, replies by a list of what does."""

    request_dropped: tuple[str, ...]
    reply_passed: tuple[str, ...]


class Idempotency(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the processor looks for a key, and how long a repeat under it is the same call."""

    header: str | None = None
    field: str | None = None
    replay_seconds: int = 0
    scope_headers: tuple[str, ...] = ()  # with another value in these, it is another key


class CardFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where one card stands: only here does a token turn into what it stands for.

    What a wildcard stands for is the same in all of one card's selectors.
    """

    number: str
    exp_month: str | None = None
    exp_year: str | None = None
    expiry: str | None = None  # both in one field
    cvc: str | None = None
    month_format: Literal["M", "MM"] = "M"
    year_format: Literal["YYYY", "YY"] = "YYYY"
    expiry_format: Literal["YYYY-MM", "MM/YYYY", "MM/YY", "MMYY", "MMYYYY"] = "YYYY-MM"
    number_forms: tuple[Literal["last4"], ...] = ()  # what else than a token may stand there

    def fields(self) -> Selectors:
        """Return every field where a token may turn into something of its card."""
        named = (self.number, self.exp_month, self.exp_year, self.expiry, self.cvc)
        return tuple(filter(None, named))


class Operation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One kind of call: it is recorded, and may open cards."""

    name: str
    method: Literal["POST", "PUT", "PATCH", "DELETE", "GET"]
    path: str | tuple[str, ...]
    kind: Kind
    # What the body must be, where one URL serves many operations.
    roots: tuple[str, ...] = ()
    when: tuple[Condition, ...] = ()
    format: Literal["graphql"] | None = None  # what the content type does not say
    cards: tuple[CardFields, ...] = ()
    replay: bool = True  # whether the processor honors idempotency keys here
    # In place of the preset's own, where an operation has others.
    content_types: tuple[str, ...] | None = None
    text: Selectors | None = None
    amount: Selectors | None = None
    amount_unit: Literal["minor", "major"] | None = None
    currency: Selectors | None = None
    merchant_reference: Selectors | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,) if isinstance(self.path, str) else self.path

    @property
    def asks_the_body(self) -> bool:
        """Whether method and path alone do not tell it."""
        return bool(self.roots or self.when)


class ResultRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a reply means if all of this holds."""

    statuses: tuple[str, ...]  # 402, or a class: 2xx
    kinds: tuple[Kind, ...] = ()  # none: all
    operations: tuple[str, ...] = ()  # none: all
    where: tuple[Condition, ...] = ()
    result: Literal["approved", "declined", "pending", "stored", "error", "unknown"]
    reason: str | None = None  # of `unknown`


class References(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a reply has what it is remembered by: the first of these that holds text."""

    processor: Selectors = ()
    decline_code: Selectors = ()
    authorization_code: Selectors = ()


class ReplyCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a reply holds a card that was not sent: its number becomes a token.

    It is a card only with an expiry date beside: a bare number may be an invoice's.
    """

    number: str
    exp_month: str
    exp_year: str
    cvc: str | None = None  # becomes zeros: nobody stores a code that was not typed (PCI 3.3.1)


class Inquiry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How to ask what became of calls whose answer was lost. Declared only where documented."""

    operations: tuple[str, ...]
    method: Literal["GET", "POST"]
    path: str  # these three with {merchant_reference} and {processor_reference}
    query: str = ""
    body: str | None = None  # JSON
    asks_for: str = "[ -~]+"  # what a reference must be made of: queries have a language of theirs
    payments: str  # where the reply lists them
    payments_max: int  # a list as long may not be all
    total: str | None = None  # where it says how many there are
    more: str | None = None  # where it says that there are others
    where: tuple[Condition, ...] = ()  # what is none of these operations' does not count
    reference: Selectors  # of one of the list, and so on: what must be as it was sent
    amount: str
    amount_unit: Literal["minor", "major"] = "minor"
    currency: str
    at: str  # RFC 3339, or Unix seconds
    results: tuple[ResultRule, ...] = ()  # before the preset's own
    status: int = 200  # with what the processor answers such a call
    settled_after_seconds: int  # earlier, nothing but a final result counts
    complete: bool = False  # whether what is not found then was never received


class ErrorRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How errors of these codes, statuses or states are shown; with none of them, all others."""

    type: str = ""
    codes: tuple[str, ...] = ()
    statuses: tuple[int, ...] = ()
    states: tuple[State, ...] = ()
    status: int | None = None  # in place of the error's own
    bare: bool = False  # no document: one would read as an answer about the payment


class ErrorShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The shape of an error that this processor's SDK understands."""

    formats: tuple[Format, ...] = ()  # of the call's body; none: all
    content_type: Literal["application/json", "application/xml", "text/xml"]
    bom: bool = False
    body: str  # with {type}, {code}, {message}, {field} and {status}
    retry_header: str | None = None
    rules: tuple[ErrorRule, ...]


class Preset(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True):
    """A processor. What each call asks of it is put in order once (`dict`), when first asked."""

    name: str
    title: str
    verified: bool  # its calls were proven against the processor, or its own SDK
    timeout_seconds: float
    connect_seconds: float = 3.0
    body_bytes_max: int
    reply_bytes_max: int
    not_executed_statuses: tuple[int, ...]
    content_types: tuple[str, ...]
    fold_names: bool = False  # creditCard, credit-card and credit_card are one name to it
    text: Selectors = ()
    refused: Selectors = ()  # what must not be sent through here at all
    amount: Selectors = ()
    amount_unit: Literal["minor", "major"] = "minor"
    currency: Selectors = ()
    merchant_reference: Selectors = ()
    hosts: Hosts
    credential: Credential
    headers: Headers
    idempotency: Idempotency = Idempotency()
    errors: tuple[ErrorShape, ...]
    references: References
    results: tuple[ResultRule, ...]
    inquiries: tuple[Inquiry, ...] = ()
    reply_cards: tuple[ReplyCard, ...] = ()
    callbacks: CallbackEvents | None = None
    operations: tuple[Operation, ...]

    def candidates(self, method: str, path: str) -> tuple[Operation, ...]:
        """List what a call may be; the path is the raw one, without a query."""
        if not _PLAIN_PATH.fullmatch(path):
            return ()
        return tuple(self._matching(method, path, exact=True))

    def passes_through(self, method: str, path: str) -> bool:
        """Whether a call that is no operation may be made at all.

        Not if a processor that is lax about case could take it for one: it would move money with
        nothing in the ledger. One whose body is no operation's has been looked at.
        """
        if not _PLAIN_PATH.fullmatch(path):
            return False
        candidates = self.candidates(method, path)
        if candidates:
            return all(each.asks_the_body for each in candidates)
        plain = _SUFFIX.sub("", path)  # Rails serves `/a.xml` as `/a`
        methods = METHODS if method == "POST" else (method,)  # and POST may say it is another
        return not any(self._matching(each, plain, exact=False) for each in methods)

    def serves_graphql(self, path: str) -> bool:
        """Whether a query in the URL could be what is run, by whatever method."""
        near = (one for method in METHODS for one in self._matching(method, path, exact=False))
        return any(operation.format == "graphql" for operation in near)

    def accepts(self, operation: Operation, media_type: str) -> bool:
        """Whether a body of this type, without parameters, is one of the operation's."""
        own = operation.content_types
        return media_type in (self.content_types if own is None else own)

    def selectors(
        self,
        operation: Operation,
        what: Literal["text", "amount", "currency", "merchant_reference"],
    ) -> Selectors:
        """Return an operation's own selectors, or what the preset says for all of them."""
        own: Selectors | None = getattr(operation, what)
        if own is not None:
            return own
        for_all: Selectors = getattr(self, what)
        return for_all

    def unit(self, operation: Operation) -> Literal["minor", "major"]:
        """Tell whether amounts are written in cents or in euros."""
        return operation.amount_unit or self.amount_unit

    def is_text(self, operation: Operation, name: str, *, form: bool, fold: bool = False) -> bool:
        """Whether a field is declared as text, in which a token stays a token."""
        if fold:
            name = folded(name)
        return any(
            text_pattern(each, form=form, fold=fold).fullmatch(name)
            for each in self.selectors(operation, "text")
        )

    def inquiry_about(self, operation: str) -> Inquiry | None:
        """Return how to ask what became of a call of this operation, if that can be asked."""
        return next((each for each in self.inquiries if operation in each.operations), None)

    def operation(self, name: str) -> Operation | None:
        """Return an operation by its name: a record may be older than the preset."""
        return next((each for each in self.operations if each.name == name), None)

    def forwards(self, header: str) -> bool:
        """Whether a request's header goes on to the processor; credentials are not asked here."""
        return self._dropped.fullmatch(header.lower()) is None

    def returns(self, header: str) -> bool:
        """Whether a reply's header goes back to the merchant."""
        return self._passed.fullmatch(header.lower()) is not None

    def _matching(self, method: str, path: str, *, exact: bool) -> list[Operation]:
        index = self._by_path if exact else self._by_path_in_any_case
        near = index.get((method, path.count("/")), ())
        return [operation for pattern, operation in near if pattern.fullmatch(path)]

    @cached_property
    def _by_path(self) -> "_Index":
        return _index(self.operations, re.NOFLAG)

    @cached_property
    def _by_path_in_any_case(self) -> "_Index":
        return _index(self.operations, re.IGNORECASE)

    @cached_property
    def _dropped(self) -> re.Pattern[str]:
        return any_header(self.headers.request_dropped)

    @cached_property
    def _passed(self) -> re.Pattern[str]:
        return any_header(self.headers.reply_passed)


def parse(data: bytes) -> Preset:
    """Read a preset file, or refuse the start with what is wrong about it."""
    try:
        return msgspec.toml.decode(data, type=Preset)
    except msgspec.DecodeError as error:
        wrong = str(error)  # quotes the operator's own file, which holds no card data
    raise StartRefused(f"not a preset: {wrong}")


def load(name: str) -> Preset:
    """Read one of the presets that come with panward."""
    file = files("gateway.processors").joinpath(f"{name}.toml")
    if not PRESET_NAME.fullmatch(name) or not file.is_file():
        raise StartRefused(f"there is no preset of this name; there are: {', '.join(names())}")
    return parse(file.read_bytes())


def names() -> list[str]:
    """Name the presets that come with panward."""
    found = (each.name for each in files("gateway.processors").iterdir())
    return sorted(each.removesuffix(".toml") for each in found if each.endswith(".toml"))


_Index = Mapping[tuple[str, int], Sequence[tuple[re.Pattern[str], Operation]]]
"""Operations by method and number of segments: with most, a path need not be compared."""


def _index(operations: Iterable[Operation], flags: re.RegexFlag) -> _Index:
    index: dict[tuple[str, int], list[tuple[re.Pattern[str], Operation]]] = {}
    for operation in operations:
        by_length: dict[int, list[str]] = {}
        for path in operation.paths:  # a placeholder is within a segment
            by_length.setdefault(path.count("/"), []).append(segments(path))
        for length, patterns in by_length.items():
            pattern = re.compile("|".join(patterns), flags)
            index.setdefault((operation.method, length), []).append((pattern, operation))
    return index
