"""Errors of our own in a processor's shape, so that its SDK raises what it should. Pure.

An SDK that gets a document it does not know crashes or repeats the call. What never lives here:
which error it is, and words made of what was sent; both come from the caller.
"""

import re
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.preset import ErrorRule, Errors, Preset

PLACEHOLDER: Final = re.compile(r"\{(type|code|message|field)\}")


@dataclass(frozen=True, slots=True)
class ProcessorError:
    """An answer that the processor's SDK understands."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def problem(
    preset: Preset,
    code: str,
    message: str,
    *,
    status: int,
    retry: bool | None = None,
    field: str | None = None,
) -> ProcessorError:
    """Show an error as the processor would.

    `retry` tells the SDK whether repeating the call is safe and useful; None leaves it the choice.
    """
    errors = preset.errors
    rule = _rule(errors, code, status)
    headers: list[tuple[str, str]] = [("content-type", errors.content_type)]
    if errors.retry_header is not None and retry is not None:
        headers.append((errors.retry_header, "true" if retry else "false"))
    values = {"type": rule.type, "code": code, "message": message, "field": field}
    body = PLACEHOLDER.sub(lambda found: _json(values[found[1]]), errors.body)
    return ProcessorError(rule.status or status, tuple(headers), body.encode())


def _rule(errors: Errors, code: str, status: int) -> ErrorRule:
    """Return the first rule that fits; the last one fits all (`gateway/preset_rules.py`)."""
    return next(
        rule
        for rule in errors.rules
        if code in rule.codes or status in rule.statuses or not (rule.codes or rule.statuses)
    )


def _json(value: str | None) -> str:
    return msgspec.json.encode(value).decode()
