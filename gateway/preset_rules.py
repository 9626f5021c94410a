"""What a preset must hold to make sense, beyond its types: for `check-config` and the start. Pure.

Every finding is a sentence that says what to change. What never lives here: the types, and
anything a request asks.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final
from xml.etree import ElementTree as ET

import msgspec

from gateway.callback_rules import problems_of_callbacks
from gateway.codecs.bodies import format_of
from gateway.codecs.splice import Format
from gateway.plain_paths import folded
from gateway.preset import PRESET_NAME, ErrorShape, Inquiry, Operation, Preset, ResultRule
from gateway.preset_conditions import Condition
from gateway.preset_patterns import HOST_PLACEHOLDER, segments, text_pattern
from gateway.processor_errors import PLACEHOLDER, Problem, shaped
from gateway.selectors import problem_of
from vault.authorization import Kind, State

SECONDS_MAX: Final = 600
BYTES_MAX: Final = 16 * 1_048_576
REPLAY_SECONDS_MAX: Final = 30 * 86_400
OK: Final = 200
ERRORS: Final = 400  # the first status of one: RFC 9110 15.5
CARDS_MAX: Final = 16  # an intent lists what it opens: a number and a code each

_HOST: Final = re.compile(r"(?=.{4,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")
_HEADER: Final = re.compile(r"[a-z0-9-]+\*?")
_OPERATION_NAME: Final = re.compile("[a-z][a-z0-9_]*(?:\\.[a-z][a-z0-9_]*)*")
_TEMPLATE: Final = re.compile(r"(?:/(?:[A-Za-z0-9_-]|\{[a-z_]+\})(?:[A-Za-z0-9_.-]|\{[a-z_]+\})*)+")
_STATUSES: Final = re.compile("[1-5]xx|[1-5][0-9]{2}")
_REASON: Final = re.compile("[a-z][a-z_]*")


def problems_of(preset: Preset) -> list[str]:
    """List what is wrong with a preset; an empty list is a preset that can be used."""
    return [finding for rule in _RULES for finding in rule(preset)]


def remarks_on(preset: Preset) -> list[str]:
    """List what an operator should know about a preset that can be used."""
    return [] if preset.verified else [f"{preset.title} is unverified: prove it in its sandbox"]


def _identity(preset: Preset) -> Iterator[str]:
    if not PRESET_NAME.fullmatch(preset.name):
        yield "name: lower-case letters, digits and underscores, at most 32"
    hosts = (*preset.hosts.live, *preset.hosts.test)
    if not hosts:
        yield "hosts: at least one"
    for host in hosts:
        named = host.replace(HOST_PLACEHOLDER, "x", 1)
        if not _HOST.fullmatch(named) or HOST_PLACEHOLDER in host.partition(".")[2]:
            yield f"hosts: {host!r} is no lower-case DNS name, with {{prefix}} in its first label"
    yield from _twice("hosts", hosts)


def _limits(preset: Preset) -> Iterator[str]:
    for name, value, most in (
        ("timeout_seconds", preset.timeout_seconds, SECONDS_MAX),
        ("connect_seconds", preset.connect_seconds, preset.timeout_seconds),
        ("body_bytes_max", preset.body_bytes_max, BYTES_MAX),
        ("reply_bytes_max", preset.reply_bytes_max, BYTES_MAX),
    ):
        if not 0 < value <= most:
            yield f"{name}: more than 0, and not more than {most}"
    for status in preset.not_executed_statuses:
        if status not in range(400, 500):
            yield f"not_executed_statuses: {status} is no refusal"


def _idempotency(preset: Preset) -> Iterator[str]:
    idempotency = preset.idempotency
    if not 0 <= idempotency.replay_seconds <= REPLAY_SECONDS_MAX:
        yield f"idempotency.replay_seconds: not more than {REPLAY_SECONDS_MAX}"
    places = (idempotency.header, idempotency.field)
    if None not in places:
        yield "idempotency: either a header or a field"
    if idempotency.replay_seconds and places == (None, None):
        yield "idempotency.replay_seconds: a repeat needs a key that the processor sees"
    if idempotency.header is not None and not preset.forwards(idempotency.header):
        yield "headers.request_dropped: the idempotency key would not reach the processor"


def _credential(preset: Preset) -> Iterator[str]:
    credential = preset.credential
    places = {*credential.presented, credential.sent}
    if "header" in places and credential.header is None:
        yield "credential.header: the name of the header that holds the key"
    if credential.header is not None and credential.header not in credential.headers:
        yield "credential.headers: must list the key's own header"
    if "body" in places and not (credential.name and credential.key):
        yield "credential: name and key say where the login stands in the body"
    if (credential.sent == "oauth") != (credential.token_path is not None):
        yield "credential.token_path: where a key is exchanged for a token, with `oauth` alone"
    if "injected" in credential.modes and not credential.presented:
        yield "credential.presented: where an SDK puts the key that is taken out"


def _headers(preset: Preset) -> Iterator[str]:
    idempotency = preset.idempotency.header
    named = (
        ("credential.headers", preset.credential.headers),
        ("headers.request_dropped", preset.headers.request_dropped),
        ("headers.reply_passed", preset.headers.reply_passed),
        ("idempotency.header", () if idempotency is None else (idempotency,)),
        ("idempotency.scope_headers", preset.idempotency.scope_headers),
    )
    for where, headers in named:
        for header in headers:
            if not _HEADER.fullmatch(header):
                yield f"{where}: {header!r} is no lower-case header name"
    if preset.returns("location") or preset.returns("set-cookie"):
        yield "headers.reply_passed: redirects and cookies of a processor never pass"
    for framing in ("content-length", "transfer-encoding", "connection", "content-encoding"):
        if preset.returns(framing):
            yield f"headers.reply_passed: {framing} is of the processor's answer, not of ours"


def _operations(preset: Preset) -> Iterator[str]:
    operations = preset.operations
    yield from _twice("operations: name", (each.name for each in operations))
    paths = (
        f"{each.method} {segments(path)}"
        for each in operations
        if not each.asks_the_body
        for path in each.paths
    )
    yield from _twice("operations: path", paths)
    for operation in operations:
        for finding in _operation(preset, operation):
            yield f"operation {operation.name}: {finding}"


def _operation(preset: Preset, operation: Operation) -> Iterator[str]:
    if not _OPERATION_NAME.fullmatch(operation.name):
        yield "name: words of lower-case letters, digits and underscores, joined by dots"
    if not operation.paths or not all(map(_TEMPLATE.fullmatch, operation.paths)):
        yield "path: segments of [A-Za-z0-9_.-], or placeholders in braces"
    for content_type in operation.content_types or preset.content_types:
        if format_of(content_type) is None:
            yield f"content_types: there is no codec for {content_type}"
    if operation.cards and operation.kind is Kind.OTHER:
        yield "kind: a call that opens a card is never `other`"
    if len(operation.cards) > CARDS_MAX:
        yield f"cards: at most {CARDS_MAX}"
    for condition in operation.when:
        yield from _condition(condition)
    yield from _declared(preset, operation)


def _declared(preset: Preset, operation: Operation) -> Iterator[str]:
    declared = tuple(name for card in operation.cards for name in card.fields())
    yield from _twice("cards", declared)
    forms = any("form" in each for each in operation.content_types or preset.content_types)
    for field in declared:
        for text in preset.selectors(operation, "text"):
            name = folded(field) if preset.fold_names else field
            if text_pattern(text, form=forms, fold=preset.fold_names).fullmatch(name):
                yield f"text: {field} is a card's field"
    recorded = (
        *preset.selectors(operation, "amount"),
        *preset.selectors(operation, "currency"),
        *preset.selectors(operation, "merchant_reference"),
    )
    for selector in (*declared, *recorded):
        yield from _selector("selectors", selector)


def _preset_selectors(preset: Preset) -> Iterator[str]:
    credential, references = preset.credential, preset.references
    field = preset.idempotency.field
    named = (
        ("refused", preset.refused),
        ("credential", (*credential.name, *credential.key)),
        ("idempotency.field", () if field is None else (field,)),
        (
            "references",
            (*references.processor, *references.decline_code, *references.authorization_code),
        ),
        (
            "reply_cards",
            tuple(
                selector
                for each in preset.reply_cards
                for selector in (each.number, each.exp_month, each.exp_year, each.cvc)
                if selector is not None
            ),
        ),
    )
    for where, selectors in named:
        for selector in selectors:
            yield from _selector(where, selector, of_reply=where in {"references", "reply_cards"})


def _selector(where: str, selector: str, *, of_reply: bool = False) -> Iterator[str]:
    problem = problem_of(selector, Format.JSON if of_reply else None)
    if of_reply and problem is not None:
        problem = problem_of(selector, Format.XML)
    if of_reply and selector.startswith(("$", "/")):
        problem = "a reply is asked by plain paths: it may be JSON or XML"
    if problem is not None:
        yield f"{where}: {selector!r}: {problem}"


def _results(preset: Preset) -> Iterator[str]:
    names = {operation.name for operation in preset.operations}
    for number, rule in enumerate(preset.results, start=1):
        for finding in _result(rule):
            yield f"results {number}: {finding}"
        for name in rule.operations:
            if name not in names:
                yield f"results {number}: there is no operation {name}"


def _result(rule: ResultRule) -> Iterator[str]:
    if not rule.statuses or not all(_STATUSES.fullmatch(status) for status in rule.statuses):
        yield "statuses are like 402 or 2xx, at least one"
    if (rule.result == "unknown") != (rule.reason is not None):
        yield "a reason for `unknown`, and for nothing else"
    if rule.reason is not None and not _REASON.fullmatch(rule.reason):
        yield "a reason is one word of lower-case letters"
    for condition in rule.where:
        yield from _condition(condition, of_reply=True)


def _inquiries(preset: Preset) -> Iterator[str]:
    named = (name for each in preset.inquiries for name in each.operations)
    yield from _twice("inquiries: operations", named)
    for number, inquiry in enumerate(preset.inquiries, start=1):
        for finding in _inquiry(preset, inquiry):
            yield f"inquiries {number}: {finding}"


def _inquiry(preset: Preset, inquiry: Inquiry) -> Iterator[str]:
    asked = f"{inquiry.path}{inquiry.query}{inquiry.body}"
    unknown = [name for name in inquiry.operations if preset.operation(name) is None]
    yield from (f"there is no operation {name}" for name in unknown)
    for wrong, finding in (
        ("_reference}" not in asked, "ask by {merchant_reference} or {processor_reference}"),
        (
            preset.candidates(inquiry.method, re.sub("[{}]", "", inquiry.path)),
            "path: a call that asks must be none that is recorded",
        ),
        (
            inquiry.settled_after_seconds < preset.timeout_seconds,
            "settled_after_seconds: not while the call itself may still be under way",
        ),
        (
            inquiry.complete and preset.idempotency.scope_headers,
            "complete: it may have been of an account that idempotency.scope_headers name",
        ),
        (not _is_pattern(inquiry.asks_for), "asks_for: a regular expression"),
        (inquiry.payments_max < 1, "payments_max: at least 1"),
    ):
        if wrong:
            yield finding
    for where, path in _paths_of(inquiry):
        yield from _selector(where, path, of_reply=True)
    for condition in inquiry.where:
        yield from _condition(condition, of_reply=True)
    for rule in inquiry.results:
        yield from _result(rule)


def _callbacks(preset: Preset) -> Iterator[str]:
    if preset.callbacks is not None:
        yield from (f"callbacks: {each}" for each in problems_of_callbacks(preset.callbacks))


def _paths_of(inquiry: Inquiry) -> Iterator[tuple[str, str]]:
    named = {each: getattr(inquiry, each) for each in ("payments", "total", "more")}
    named |= {each: getattr(inquiry, each) for each in ("amount", "currency", "at")}
    yield from ((where, path) for where, path in named.items() if path is not None)
    yield from (("reference", path) for path in inquiry.reference)


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def _condition(condition: Condition, *, of_reply: bool = False) -> Iterator[str]:
    for path in condition.paths:
        yield from _selector("path", path, of_reply=of_reply)
    if bool(condition.equals) == (condition.exists is not None):
        yield f"{condition.paths[0] if condition.paths else 'path'} needs either `is` or `exists`"


_MAY_BE_CHARGED: Final = (
    ("some_code", 502, State.UNKNOWN),
    ("some_code", 504, State.UNKNOWN),
    ("idempotency_key_in_flight", 409, State.UNKNOWN),
    ("upstream_reflected_pan", 502, State.COMPLETED),  # an answer that nobody may see
    ("upstream_reflected_pan", 502, State.RESOLVED),
)


def _errors(preset: Preset) -> Iterator[str]:
    if not preset.errors or preset.errors[-1].formats:
        yield "errors: the last shape must be for all others, so it names no formats"
        return
    for shape in preset.errors:
        yield from _error_shape(preset, shape)


def _error_shape(preset: Preset, shape: ErrorShape) -> Iterator[str]:
    rules = shape.rules
    if not rules or rules[-1].codes or rules[-1].statuses or rules[-1].states:
        yield "errors.rules: the last one must fit all others, so it names no codes or statuses"
        return
    for rule in rules:
        if rule.status is not None and rule.status != OK and rule.status not in range(400, 600):
            yield f"errors.rules: {rule.status} is no status of an error"
    if not {"code", "message"} <= set(PLACEHOLDER.findall(shape.body)):
        yield "errors.body: needs {code} and {message}"
    format_ = shape.formats[0] if shape.formats else None
    for code, status, state in _MAY_BE_CHARGED:
        if shaped(preset, Problem(code, "a message", status, state), format_).status < ERRORS:
            yield "errors.rules: an unknown outcome would read as an answer about the payment"
    problem = Problem("some_code", 'a "message" & <more>', 400, field="some_field")
    if not _is_document(shape, shaped(preset, problem, format_).body):
        yield "errors.body: not a document of its content type with its placeholders filled"


def _is_document(shape: ErrorShape, body: bytes) -> bool:
    try:
        if shape.content_type == "application/json":
            msgspec.json.decode(body.removeprefix(b"\xef\xbb\xbf"))
        else:
            ET.fromstring(body)  # noqa: S314 - the operator's own file
    except (msgspec.DecodeError, ET.ParseError):
        return False
    return True


def _twice(where: str, names: Iterable[str]) -> Iterator[str]:
    for name, count in Counter(names).items():
        if count > 1:
            yield f"{where}: {name} is given twice"


_RULES: Final[tuple[Callable[[Preset], Iterator[str]], ...]] = (
    _identity,
    _limits,
    _idempotency,
    _credential,
    _headers,
    _operations,
    _preset_selectors,
    _results,
    _inquiries,
    _callbacks,
    _errors,
)
