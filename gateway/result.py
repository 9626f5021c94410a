"""What a processor's reply means for the payment: by the rules of its preset. Pure.

What never lives here: cards, and what the merchant hears.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.preset import Operation, Preset, ResultRule
from gateway.preset_conditions import Condition, Scalar
from gateway.reading import Reading, read_reply
from gateway.reply import Reflected, Scrubbed
from vault.authorization import Result

_REFERENCE: Final = re.compile("[!-~]{1,255}")


@dataclass(frozen=True, slots=True)
class References:
    """What a reply is remembered by."""

    processor_reference: str | None = None
    decline_code: str | None = None
    authorization_code: str | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """The processor said what became of the call; `executed` is false if it was not even tried."""

    result: Result
    references: References
    executed: bool


@dataclass(frozen=True, slots=True)
class UnknownOutcome:
    """The reply leaves open what became of the call; `reason` is a public code."""

    reason: str
    references: References


def read_result(
    preset: Preset, operation: Operation, status: int, reply: Scrubbed | Reflected
) -> Settled | UnknownOutcome:
    """Tell what a reply means. Of a withheld one nothing is remembered but that."""
    body = reply.body if isinstance(reply, Scrubbed) else reply.withheld_body
    reading = read_reply(body, fold=preset.fold_names)
    said = _said(preset, operation, status, reading)
    references = References()
    if isinstance(reply, Scrubbed):
        references = _references(preset, reading, declined=said is Result.DECLINED)
    if isinstance(said, Result):
        return Settled(said, references, executed=status not in preset.not_executed_statuses)
    return UnknownOutcome(said, references)


def _said(preset: Preset, operation: Operation, status: int, reading: Reading) -> Result | str:
    """Return the result, or the reason why there is none."""
    for rule in preset.results:
        if _fits(rule, operation, status, reading):
            return rule.reason if rule.reason is not None else Result(rule.result)
    if 400 <= status < 500:  # noqa: PLR2004 - RFC 9110 15.5: refused before an issuer saw it
        return Result.ERROR
    return "upstream_error" if status >= 500 else "upstream_protocol_error"  # noqa: PLR2004


def _fits(rule: ResultRule, operation: Operation, status: int, reading: Reading) -> bool:
    return (
        (not rule.kinds or operation.kind in rule.kinds)
        and (not rule.operations or operation.name in rule.operations)
        and any(said in {str(status), f"{status // 100}xx"} for said in rule.statuses)
        and all(holds(condition, reading) for condition in rule.where)
    )


def holds(condition: Condition, reading: Reading) -> bool:
    """Whether a reply has at a path what it must."""
    values = [value for path in condition.paths for value in reading.values(path)]
    if condition.exists is not None:
        return bool(values) is condition.exists
    return any(_same(value, said) for value in values for said in condition.equals)


def _same(value: object, said: Scalar) -> bool:
    """Compare by type too: to Python, true is 1. In XML all is text."""
    return type(value) is type(said) and value == said


def _references(preset: Preset, reading: Reading, *, declined: bool) -> References:
    paths = preset.references
    return References(
        processor_reference=_first(reading, paths.processor),
        decline_code=_first(reading, paths.decline_code) if declined else None,
        authorization_code=_first(reading, paths.authorization_code),
    )


def _first(reading: Reading, paths: Sequence[str]) -> str | None:
    found = (_text(value) for path in paths for value in reading.values(path))
    return next((each for each in found if each and _REFERENCE.fullmatch(each)), None)


def _text(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""
