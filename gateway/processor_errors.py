"""Errors of our own in a processor's shape, so that its SDK raises what it should. Pure.

An SDK that gets a document it does not know crashes or repeats the call. What never lives here:
which error it is, and words made of what was sent; both come from the caller.
"""

import re
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

import msgspec

from gateway.codecs.splice import BOM, Format
from gateway.preset import ErrorRule, ErrorShape, Preset
from vault.authorization import State

PLACEHOLDER: Final = re.compile(r"\{(type|code|message|field|status)\}")


@dataclass(frozen=True, slots=True)
class ProcessorError:
    """An answer that the processor's SDK understands."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Problem:
    """What is to be said: `status` and `state` are ours, `field` is a name fit to be shown.

    `retry` tells the SDK whether repeating the call is safe and useful; None leaves it the choice.
    """

    code: str
    message: str
    status: int
    state: State = State.NOT_SENT
    retry: bool | None = None
    field: str | None = None


def shaped(preset: Preset, problem: Problem, format_: Format | None = None) -> ProcessorError:
    """Show a problem as the processor would to a client that writes its calls in this format."""
    shape = _shape(preset, format_)
    rule = _rule(shape, problem)
    status = rule.status or problem.status
    headers: list[tuple[str, str]] = []
    if shape.retry_header is not None and problem.retry is not None:
        headers.append((shape.retry_header, "true" if problem.retry else "false"))
    if rule.bare:
        return ProcessorError(status, tuple(headers), b"")
    values: dict[str, str | int | None] = {
        "type": rule.type,
        "code": problem.code,
        "message": problem.message,
        "field": problem.field,
        "status": status,
    }
    write = _json if shape.content_type == "application/json" else _xml
    body = PLACEHOLDER.sub(lambda found: write(values[found[1]]), shape.body).encode()
    headers.insert(0, ("content-type", shape.content_type))
    return ProcessorError(status, tuple(headers), BOM + body if shape.bom else body)


def _shape(preset: Preset, format_: Format | None) -> ErrorShape:
    """Return the first shape for this format; the last one is for all (`preset_rules`)."""
    return next(each for each in preset.errors if format_ in each.formats or not each.formats)


def _rule(shape: ErrorShape, problem: Problem) -> ErrorRule:
    """Return the first rule that fits; the last one fits all (`gateway/preset_rules.py`)."""
    return next(
        rule
        for rule in shape.rules
        if problem.code in rule.codes
        or problem.status in rule.statuses
        or problem.state in rule.states
        or not (rule.codes or rule.statuses or rule.states)
    )


def _json(value: str | int | None) -> str:
    return msgspec.json.encode(value).decode()


def _xml(value: str | int | None) -> str:
    return escape("" if value is None else str(value), {'"': "&quot;"})
