"""Asking a processor what became of a call: what to send, and what its reply says. Pure.

A wrong answer here would settle a payment that is in doubt, so everything must fit: exactly one
payment with the reference, amount and currency that were sent, at about that time. One more that
might be it, or a list that may not be all of them, is no answer; nor is a list that was empty too
early, or at a processor that does not say that its list is complete.

What never lives here: sending, and what is recorded of it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Final, Literal
from urllib.parse import quote

import msgspec
from msgspec import structs

from gateway.call import Call
from gateway.preset import JSON, Inquiry, Preset
from gateway.reading import OfJson, Reading
from gateway.reply import Scrubbed
from gateway.result import References, Settled, holds, read_result
from vault.authorization import Result
from vault.money import minor_units_of

CLOCK_SKEW: Final = timedelta(minutes=5)  # between the processor's clock and ours

_PLACEHOLDER: Final = re.compile(r"\{(merchant_reference|processor_reference)\}")
_FINAL: Final = frozenset({Result.APPROVED, Result.DECLINED, Result.STORED, Result.ERROR})
_DIGITS_MAX: Final = 15


@dataclass(frozen=True, slots=True)
class Question:
    """What is known of a call that is asked about. `since` and `until` are when it was sent."""

    operation: str
    merchant_reference: str | None
    processor_reference: str | None
    amount: int | None
    currency: str | None
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Found:
    """The payment is there; `body` is what the processor shows of it."""

    result: Result
    references: References
    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class NotReceived:
    """The processor has never had it."""


@dataclass(frozen=True, slots=True)
class Unclear:
    """This says nothing, for now or ever."""

    why: Literal["too_early", "no_answer", "ambiguous", "not_found"]


Said = Found | NotReceived | Unclear

TOO_EARLY: Final = Unclear("too_early")
NO_ANSWER: Final = Unclear("no_answer")  # refused, or not what it should look like
AMBIGUOUS: Final = Unclear("ambiguous")
NOT_FOUND: Final = Unclear("not_found")


def request_of(inquiry: Inquiry, question: Question) -> Call | None:
    """Make the call that asks; None where too little is on record to know the right payment."""
    if question.merchant_reference is None or question.amount is None or question.currency is None:
        return None
    known = {
        "merchant_reference": question.merchant_reference,
        "processor_reference": question.processor_reference,
    }
    asked = f"{inquiry.path}{inquiry.query}{inquiry.body}"
    for name in _PLACEHOLDER.findall(asked):
        text = known[name]
        if text is None or re.fullmatch(inquiry.asks_for, text) is None:
            return None
    headers = [("Accept", JSON)]
    if inquiry.body is not None:
        headers.append(("Content-Type", JSON))
    return Call(
        method=inquiry.method,
        path=_filled(inquiry.path, known, _in_url),
        query=_filled(inquiry.query, known, _in_url),
        headers=headers,
        body=_filled(inquiry.body or "", known, _in_json).encode(),
    )


def read_answer(
    preset: Preset, inquiry: Inquiry, question: Question, *, status: int, body: bytes, at: datetime
) -> Said:
    """Tell what a reply to the question says, at this time."""
    if not 200 <= status < 300:  # noqa: PLR2004 - RFC 9110 15.3
        return NO_ANSWER
    listed = _listed(preset, inquiry, body)
    if isinstance(listed, Unclear):
        return listed
    candidates = [each for each in listed if _may_be(inquiry, question, each, preset)]
    is_settled = at >= question.until + timedelta(seconds=inquiry.settled_after_seconds)
    if not candidates:
        if not is_settled:
            return TOO_EARLY
        # A payment that was left out may be the one by another clock, or with its reference spelled
        # another way: only where there is none at all, none was received.
        return NotReceived() if inquiry.complete and not listed else NOT_FOUND
    if len(candidates) > 1 or not _is_it(inquiry, question, candidates[0]):
        return AMBIGUOUS
    return _said_of(preset, inquiry, question, candidates[0], is_settled=is_settled)


# --- the list -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Payment:
    """One of the list, as it came and as it is asked."""

    shown: object
    reading: Reading


def _listed(preset: Preset, inquiry: Inquiry, body: bytes) -> list[_Payment] | Unclear:
    """Return the payments of a list, if it is one and whole."""
    try:
        document: object = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return NO_ANSWER
    reading = OfJson(document, fold=preset.fold_names)
    lists = reading.values(inquiry.payments)
    if len(lists) != 1 or not isinstance(lists[0], list):
        return NO_ANSWER
    shown: list[object] = lists[0]
    if inquiry.total is not None and list(reading.values(inquiry.total)) != [len(shown)]:
        return AMBIGUOUS
    if inquiry.more is not None and list(reading.values(inquiry.more)) != [False]:
        return AMBIGUOUS
    if len(shown) >= inquiry.payments_max:
        return AMBIGUOUS
    return [_Payment(each, OfJson(each, fold=preset.fold_names)) for each in shown]


def _may_be(inquiry: Inquiry, question: Question, payment: _Payment, preset: Preset) -> bool:
    """Whether it could be the one: whatever of it cannot be read does not speak against it."""
    if not all(holds(condition, payment.reading) for condition in inquiry.where):
        return False
    references = [each for path in inquiry.reference for each in payment.reading.values(path)]
    if references and question.merchant_reference not in references:
        return False
    at = _time(payment.reading.values(inquiry.at))
    last = question.until + timedelta(seconds=preset.timeout_seconds) + CLOCK_SKEW
    return at is None or question.since - CLOCK_SKEW <= at <= last


def _is_it(inquiry: Inquiry, question: Question, payment: _Payment) -> bool:
    """Whether everything that must fit is there and fits."""
    reading = payment.reading
    references = [each for path in inquiry.reference for each in reading.values(path)]
    currencies = [str(each).upper() for each in reading.values(inquiry.currency)]
    return (
        question.merchant_reference in references
        and currencies == [question.currency]
        and _amount(inquiry, reading, currencies[0]) == question.amount
        and _time(reading.values(inquiry.at)) is not None
    )


def _amount(inquiry: Inquiry, reading: Reading, currency: str) -> int | None:
    values = reading.values(inquiry.amount)
    if len(values) != 1 or isinstance(values[0], bool) or len(str(values[0])) > _DIGITS_MAX:
        return None
    try:
        amount = Decimal(str(values[0]))
    except InvalidOperation:
        return None
    if not amount.is_finite():
        return None
    if inquiry.amount_unit == "major":
        return minor_units_of(amount, currency)
    return int(amount) if amount == int(amount) else None


def _time(values: Sequence[object]) -> datetime | None:
    if len(values) != 1 or isinstance(values[0], bool):
        return None
    try:
        if isinstance(values[0], int):
            return datetime.fromtimestamp(values[0], UTC)
        at = datetime.fromisoformat(str(values[0]))
    except (ValueError, OverflowError, OSError):
        return None
    return at.astimezone(UTC) if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _said_of(
    preset: Preset, inquiry: Inquiry, question: Question, payment: _Payment, *, is_settled: bool
) -> Said:
    """Read the payment as if it had been the reply to the call."""
    operation = preset.operation(question.operation)
    if operation is None:
        return NO_ANSWER
    body = msgspec.json.encode(payment.shown)
    told = structs.replace(preset, results=(*inquiry.results, *preset.results))
    said = read_result(told, operation, inquiry.status, Scrubbed((), body, 0, 0))
    if not isinstance(said, Settled):
        return NO_ANSWER
    if said.result not in _FINAL and not is_settled:
        return TOO_EARLY  # it may be under way, or the list may be behind
    return Found(said.result, said.references, inquiry.status, body)


# --- the question -------------------------------------------------------------------------


def _filled(template: str, known: Mapping[str, str | None], write: Callable[[str], str]) -> str:
    return _PLACEHOLDER.sub(lambda found: write(known[found[1]] or ""), template)


def _in_url(text: str) -> str:
    return quote(text, safe="")


def _in_json(text: str) -> str:
    return msgspec.json.encode(text)[1:-1].decode()
