"""A preset: what one processor's API looks like, as data.

Pure, save `load`, which reads a file of this package. Here live the types of
`gateway/processors/*.toml`, and the questions they answer by themselves: which operation is this,
is this field text, does this header pass. What a preset must hold to make sense is in
`gateway/preset_rules.py`. What never lives here: a processor's name.
"""

import re
from functools import lru_cache
from importlib.resources import files
from typing import Final, Literal

import msgspec

from vault.authorization import Kind
from vault.errors import StartRefused

FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"

PRESET_NAME: Final = re.compile("[a-z][a-z0-9_]{0,31}")

# T-05: what a proxy and a processor could read differently has no operation and does not pass.
# That is every escape, an empty segment, and the segments `.` and `..`.
_PLAIN_PATH: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9_.-]+)+")
_SEGMENT: Final = "[A-Za-z0-9_.-]+"


class Hosts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who is called. A host of both kinds of keys counts as live."""

    live: tuple[str, ...]
    test: tuple[str, ...] = ()


class Credential(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whose key stands where in a call."""

    modes: tuple[Literal["injected", "own"], ...]
    presented: tuple[Literal["bearer", "basic_user"], ...]
    sent: Literal["bearer", "basic_user"]
    headers: tuple[str, ...]


class Headers(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What passes: requests by a list of what does not, replies by a list of what does."""

    request_dropped: tuple[str, ...]
    reply_passed: tuple[str, ...]


class Idempotency(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the processor looks for a key, and how long a repeat under it is the same call."""

    header: str
    replay_seconds: int = 0


class CardFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where one card stands: only here does a token turn into what it stands for."""

    number: str
    exp_month: str | None = None
    exp_year: str | None = None
    cvc: str | None = None
    month_format: Literal["M", "MM"] = "M"
    year_format: Literal["YYYY", "YY"] = "YYYY"
    number_forms: tuple[Literal["last4"], ...] = ()  # what else than a token may stand there

    def fields(self) -> tuple[str, ...]:
        """Return every field where a token may turn into something of its card."""
        return tuple(filter(None, (self.number, self.exp_month, self.exp_year, self.cvc)))


class Operation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One kind of call: it is recorded, and may open cards."""

    name: str
    method: Literal["POST", "PUT", "PATCH", "DELETE", "GET"]
    path: str
    content_type: str
    kind: Kind
    cards: tuple[CardFields, ...] = ()
    # In place of the preset's own, where an operation has others.
    text: tuple[str, ...] | None = None
    amount: tuple[str, ...] | None = None
    currency: tuple[str, ...] | None = None
    merchant_reference: tuple[str, ...] | None = None


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"equals": "is"}):
    """What has to stand at a path of the reply; null counts as nothing."""

    path: str
    equals: tuple[str | int | bool, ...] = ()
    exists: bool | None = None


class ResultRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a reply means if all of this holds."""

    statuses: tuple[str, ...]  # 402, or a class: 2xx
    kinds: tuple[Kind, ...] = ()  # none: all
    where: tuple[Condition, ...] = ()
    result: Literal["approved", "declined", "pending", "stored", "error", "unknown"]
    reason: str | None = None  # of `unknown`


class References(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a reply has what it is remembered by: the first of these that holds text."""

    processor: tuple[str, ...] = ()
    decline_code: tuple[str, ...] = ()
    authorization_code: tuple[str, ...] = ()


class ErrorRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How errors of these codes or statuses are shown; with neither, all the others."""

    type: str
    codes: tuple[str, ...] = ()
    statuses: tuple[int, ...] = ()
    status: int | None = None  # in place of the error's own


class Errors(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The shape of an error that this processor's SDK understands."""

    content_type: Literal["application/json"]
    body: str  # with {type}, {code}, {message} and {field}
    retry_header: str | None = None
    rules: tuple[ErrorRule, ...]


class Preset(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A processor."""

    name: str
    title: str
    verified: bool  # its calls were proven against the processor, or its own SDK
    timeout_seconds: float
    connect_seconds: float = 3.0
    tls_seconds: float = 3.0
    body_bytes_max: int
    reply_bytes_max: int
    not_executed_statuses: tuple[int, ...]
    text: tuple[str, ...] = ()
    amount: tuple[str, ...] = ()
    currency: tuple[str, ...] = ()
    merchant_reference: tuple[str, ...] = ()
    hosts: Hosts
    credential: Credential
    headers: Headers
    idempotency: Idempotency
    errors: Errors
    references: References
    results: tuple[ResultRule, ...]
    operations: tuple[Operation, ...]

    def match(self, method: str, path: str) -> Operation | None:
        """Tell the operation of a call; the path is the raw one, without a query."""
        if not _PLAIN_PATH.fullmatch(path):
            return None
        return self._matching(method, path, exact=True)

    def passes_through(self, method: str, path: str) -> bool:
        """Whether a call that is no operation may be made at all.

        Not if a processor that is lax about case could take it for one: it would move money with
        nothing in the ledger.
        """
        return bool(_PLAIN_PATH.fullmatch(path)) and not self._matching(method, path, exact=False)

    def selectors(
        self,
        operation: Operation,
        what: Literal["text", "amount", "currency", "merchant_reference"],
    ) -> tuple[str, ...]:
        """Return an operation's own selectors, or what the preset says for all of them."""
        own: tuple[str, ...] | None = getattr(operation, what)
        if own is not None:
            return own
        for_all: tuple[str, ...] = getattr(self, what)
        return for_all

    def is_text(self, operation: Operation, name: str) -> bool:
        """Whether a field is declared as text, in which a token stays a token."""
        return any(_pattern(each).fullmatch(name) for each in self.selectors(operation, "text"))

    def forwards(self, header: str) -> bool:
        """Whether a request's header goes on to the processor; credentials are not asked here."""
        return not _in_list(header, self.headers.request_dropped)

    def returns(self, header: str) -> bool:
        """Whether a reply's header goes back to the merchant."""
        return _in_list(header, self.headers.reply_passed)

    def _matching(self, method: str, path: str, *, exact: bool) -> Operation | None:
        for operation in self.operations:
            if operation.method == method and _path(operation.path, exact=exact).fullmatch(path):
                return operation
        return None


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
        raise StartRefused("there is no preset of this name")
    return parse(file.read_bytes())


def segments(template: str) -> str:
    """Spell a path template as a pattern: `{id}` is one whole segment."""
    return "".join(
        _SEGMENT if part.startswith("{") else re.escape(part)
        for part in re.split(r"(\{[a-z_]+\})", template)
    )


# The number of templates and patterns is that of the presets' lines: no request adds one.
@lru_cache(maxsize=4096)
def _path(template: str, *, exact: bool) -> re.Pattern[str]:
    return re.compile(segments(template), 0 if exact else re.IGNORECASE)


@lru_cache(maxsize=4096)
def _pattern(selector: str) -> re.Pattern[str]:
    """`*` stands for any characters but brackets: `metadata[*]` is one level of metadata."""
    return re.compile("[^][]*".join(re.escape(part) for part in selector.split("*")))


def _in_list(header: str, listed: tuple[str, ...]) -> bool:
    return any(_pattern(each).fullmatch(header.lower()) for each in listed)
