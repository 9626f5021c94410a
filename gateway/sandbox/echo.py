"""Answers of a careless processor, which repeat the card number that was sent to it. Pure.

Each place is one way in which numbers have come back from real systems.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Literal

import msgspec

from gateway.sandbox.refusals import card_error
from gateway.sandbox.stripe_api import Answer, refused

EchoPlace = Literal[
    "body",
    "spaced",
    "json_number",
    "escaped",
    "percent",
    "base64",
    "base64_inside",
    "error",
    "header",
]

_FIELD: Final = "description"
_PLACEHOLDER: Final = "{the number}"


def echoed(answer: Answer, numbers: Sequence[str], place: EchoPlace | None) -> Answer:
    """Put the call's own card numbers into its answer; a call without any keeps its answer."""
    if place is None or not numbers:
        return answer
    if place == "header":
        header = ("Request-Id", f"req_{'_'.join(numbers)}")
        return replace(answer, headers=(*answer.headers, header))
    if place == "error":
        return _quoted_in_an_error(numbers)
    return _in_body(answer, _WRITTEN[place](numbers))


def _quoted_in_an_error(numbers: Sequence[str]) -> Answer:
    message = f"The card {' and '.join(numbers)} could not be processed."
    return refused(card_error("processing_error", message))


def _in_body(answer: Answer, value: bytes) -> Answer:
    body = msgspec.json.decode(answer.body, type=dict[str, object])
    shown = body.get("error", body)
    assert isinstance(shown, dict)
    shown["message" if "error" in body else _FIELD] = _PLACEHOLDER
    written = msgspec.json.format(msgspec.json.encode(body), indent=2)
    return replace(answer, body=written.replace(msgspec.json.encode(_PLACEHOLDER), value))


def _plain(numbers: Sequence[str]) -> bytes:
    return _text(f"card {' and '.join(numbers)} received")


def _spaced(numbers: Sequence[str]) -> bytes:
    return _text(", ".join(" ".join(_fours(number)) for number in numbers))


def _fours(number: str) -> list[str]:
    return [number[start : start + 4] for start in range(0, len(number), 4)]


def _json_number(numbers: Sequence[str]) -> bytes:
    return f"[{', '.join(number for number in numbers if number.isdecimal())}]".encode()


def _escaped(numbers: Sequence[str]) -> bytes:
    escaped = "".join(f"\\u{ord(character):04x}" for character in " ".join(numbers))
    return f'"{escaped}"'.encode()


def _percent(numbers: Sequence[str]) -> bytes:
    return _text("".join(f"%{ord(character):02X}" for character in "&".join(numbers)))


def _base64(numbers: Sequence[str]) -> bytes:
    return _text(base64.b64encode("\n".join(numbers).encode()).decode())


def _base64_inside(numbers: Sequence[str]) -> bytes:
    """Not at a boundary of three bytes: no part of it is the number's own base64."""
    return _text(base64.b64encode(f"card={'&card='.join(numbers)};".encode()).decode())


def _text(value: str) -> bytes:
    return msgspec.json.encode(value)


_WRITTEN: Final[Mapping[EchoPlace, Callable[[Sequence[str]], bytes]]] = {
    "body": _plain,
    "spaced": _spaced,
    "json_number": _json_number,
    "escaped": _escaped,
    "percent": _percent,
    "base64": _base64,
    "base64_inside": _base64_inside,
}
