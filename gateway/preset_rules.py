"""What a preset must hold to make sense, beyond its types: for `check-config` and the start. Pure.

Every finding is a sentence that says what to change. What never lives here: the types, and
anything a request asks.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from gateway.codecs import json
from gateway.preset import (
    FORM,
    JSON,
    PRESET_NAME,
    Operation,
    Preset,
    ResultRule,
    segments,
)
from gateway.processor_errors import PLACEHOLDER, problem
from vault.authorization import Kind

SECONDS_MAX: Final = 600
BYTES_MAX: Final = 16 * 1_048_576
REPLAY_SECONDS_MAX: Final = 30 * 86_400
OPENS_MAX: Final = 32  # an intent lists what it opens, and no more than so many
OPENED_BY_A_CARD: Final = 2  # number and CVC

_CONTENT_TYPES: Final = frozenset({FORM, JSON})
_HOST: Final = re.compile(r"(?=.{4,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")
_HEADER: Final = re.compile(r"[a-z0-9-]+\*?")
_OPERATION_NAME: Final = re.compile("[a-z][a-z0-9_]*(?:\\.[a-z][a-z0-9_]*)*")
_TEMPLATE: Final = re.compile(r"(?:/(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*|\{[a-z_]+\}))+")
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
        if not _HOST.fullmatch(host):
            yield f"hosts: {host!r} is no lower-case DNS name"
    yield from _twice("hosts", hosts)


def _limits(preset: Preset) -> Iterator[str]:
    for name, value, most in (
        ("timeout_seconds", preset.timeout_seconds, SECONDS_MAX),
        ("connect_seconds", preset.connect_seconds, preset.timeout_seconds),
        ("tls_seconds", preset.tls_seconds, preset.timeout_seconds),
        ("body_bytes_max", preset.body_bytes_max, BYTES_MAX),
        ("reply_bytes_max", preset.reply_bytes_max, BYTES_MAX),
    ):
        if not 0 < value <= most:
            yield f"{name}: more than 0, and not more than {most}"
    if not 0 <= preset.idempotency.replay_seconds <= REPLAY_SECONDS_MAX:
        yield f"idempotency.replay_seconds: not more than {REPLAY_SECONDS_MAX}"
    for status in preset.not_executed_statuses:
        if status not in range(400, 500):
            yield f"not_executed_statuses: {status} is no refusal"


def _headers(preset: Preset) -> Iterator[str]:
    named = (
        ("credential.headers", preset.credential.headers),
        ("headers.request_dropped", preset.headers.request_dropped),
        ("headers.reply_passed", preset.headers.reply_passed),
        ("idempotency.header", (preset.idempotency.header,)),
    )
    for where, headers in named:
        for header in headers:
            if not _HEADER.fullmatch(header):
                yield f"{where}: {header!r} is no lower-case header name"
    if not preset.forwards(preset.idempotency.header):
        yield "headers.request_dropped: the idempotency key would not reach the processor"
    if preset.returns("location") or preset.returns("set-cookie"):
        yield "headers.reply_passed: redirects and cookies of a processor never pass"


def _operations(preset: Preset) -> Iterator[str]:
    operations = preset.operations
    yield from _twice("operations: name", (each.name for each in operations))
    paths = (f"{each.method} {segments(each.path)}" for each in operations)
    yield from _twice("operations: path", paths)
    for operation in operations:
        for finding in _operation(preset, operation):
            yield f"operation {operation.name}: {finding}"


def _operation(preset: Preset, operation: Operation) -> Iterator[str]:
    if not _OPERATION_NAME.fullmatch(operation.name):
        yield "name: words of lower-case letters, digits and underscores, joined by dots"
    if not _TEMPLATE.fullmatch(operation.path):
        yield "path: segments of [A-Za-z0-9_.-], or whole ones in braces"
    if operation.content_type not in _CONTENT_TYPES:
        yield "content_type: there is no codec for it"
    if operation.cards and operation.kind is Kind.OTHER:
        yield "kind: a call that opens a card is never `other`"
    if len(operation.cards) * OPENED_BY_A_CARD > OPENS_MAX:
        yield f"cards: at most {OPENS_MAX // OPENED_BY_A_CARD}"
    yield from _declared(preset, operation)


def _declared(preset: Preset, operation: Operation) -> Iterator[str]:
    declared = tuple(name for card in operation.cards for name in card.fields())
    yield from _twice("cards", declared)
    for field in declared:
        if preset.is_text(operation, field):
            yield f"text: {field} is a card's field"
        if operation.content_type == JSON and not json.is_path(field):
            yield f"cards: {field} is no path"


def _results(preset: Preset) -> Iterator[str]:
    for number, rule in enumerate(preset.results, start=1):
        for finding in _result(rule):
            yield f"results {number}: {finding}"
    references = preset.references
    for path in (*references.processor, *references.decline_code, *references.authorization_code):
        if not json.is_path(path):
            yield f"references: {path!r} is no path"


def _result(rule: ResultRule) -> Iterator[str]:
    if not rule.statuses or not all(_STATUSES.fullmatch(status) for status in rule.statuses):
        yield "statuses are like 402 or 2xx, at least one"
    if (rule.result == "unknown") != (rule.reason is not None):
        yield "a reason for `unknown`, and for nothing else"
    if rule.reason is not None and not _REASON.fullmatch(rule.reason):
        yield "a reason is one word of lower-case letters"
    for condition in rule.where:
        if not json.is_path(condition.path):
            yield f"{condition.path!r} is no path"
        if bool(condition.equals) == (condition.exists is not None):
            yield f"{condition.path} needs either `is` or `exists`"


def _errors(preset: Preset) -> Iterator[str]:
    rules = preset.errors.rules
    if not rules or rules[-1].codes or rules[-1].statuses:
        yield "errors.rules: the last one must fit all others, so it names no codes or statuses"
        return
    for rule in rules:
        if rule.status is not None and rule.status not in range(400, 600):
            yield f"errors.rules: {rule.status} would read as success"
    shown = problem(preset, "some_code", 'a "message"', status=400, field="some_field")
    try:
        document: object = msgspec.json.decode(shown.body)
    except msgspec.DecodeError:
        document = None
    if document is None:
        yield "errors.body: not JSON with its placeholders filled"
    if not {"code", "message"} <= set(PLACEHOLDER.findall(preset.errors.body)):
        yield "errors.body: needs {code} and {message}"


def _twice(where: str, names: Iterable[str]) -> Iterator[str]:
    for name, count in Counter(names).items():
        if count > 1:
            yield f"{where}: {name} is given twice"


_RULES: Final[tuple[Callable[[Preset], Iterator[str]], ...]] = (
    _identity,
    _limits,
    _headers,
    _operations,
    _results,
    _errors,
)
