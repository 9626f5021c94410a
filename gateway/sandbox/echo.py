"""Answers of a careless processor, which repeat the card number that was sent to it. Pure.

Each place is one way in which numbers have come back from real systems. JSON and XML answers get
the number into a text that their readers look at; others are left as they are.
"""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Literal

import msgspec

from gateway.sandbox.wire import WireAnswer

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

_BOM: Final = b"\xef\xbb\xbf"
_FIELD: Final = "description"
_PLACEHOLDER: Final = "{the number}"
_ERROR_STATUS: Final = 402
_XML_TEXT: Final = re.compile(rb"(<(text|message)>)[^<]*(</\2>)")  # Authorize.Net's, Braintree's


def echoed(
    answer: WireAnswer,
    numbers: Sequence[str],
    place: EchoPlace | None,
    *,
    failure: Callable[[int], WireAnswer],
) -> WireAnswer:
    """Put the call's own card numbers into its answer; a call without any keeps its answer.

    `failure` makes an error of the processor's own, for the place of that name.
    """
    if place is None or not numbers:
        return answer
    if place == "header":
        header = ("Request-Id", f"req_{'_'.join(numbers)}")
        return replace(answer, headers=(*answer.headers, header))
    if place == "error":
        answer = failure(_ERROR_STATUS)
    if "xml" in answer.content_type:
        return replace(answer, body=_in_xml(answer.body, place, numbers))
    if "json" in answer.content_type:
        return replace(answer, body=_in_json(answer.body, place, numbers))
    return answer


def _in_json(body: bytes, place: EchoPlace, numbers: Sequence[str]) -> bytes:
    mark = _BOM if body.startswith(_BOM) else b""
    try:
        shown = msgspec.json.decode(body.removeprefix(_BOM), type=dict[str, object])
    except msgspec.DecodeError:  # empty, or a list
        return body
    error = shown.get("error")
    if isinstance(error, dict):
        error["message"] = _PLACEHOLDER
    else:
        shown["message" if "message" in shown else _FIELD] = _PLACEHOLDER
    written = msgspec.json.format(msgspec.json.encode(shown), indent=2)
    value = _as_json(place, numbers)
    return mark + written.replace(msgspec.json.encode(_PLACEHOLDER), value)


def _in_xml(body: bytes, place: EchoPlace, numbers: Sequence[str]) -> bytes:
    value = _as_xml(place, numbers)
    written, found = _XML_TEXT.subn(lambda text: text[1] + value + text[3], body, count=1)
    if found:
        return written
    head, end, tail = body.rpartition(b"</")
    return b"".join((head, b"<description>", value, b"</description>", end, tail))


def _as_json(place: EchoPlace, numbers: Sequence[str]) -> bytes:
    if place == "json_number":
        return f"[{', '.join(number for number in numbers if number.isdecimal())}]".encode()
    if place == "escaped":
        escaped = "".join(f"\\u{ord(character):04x}" for character in " ".join(numbers))
        return f'"{escaped}"'.encode()
    return msgspec.json.encode(_TEXTS[place](numbers))


def _as_xml(place: EchoPlace, numbers: Sequence[str]) -> bytes:
    if place == "json_number":  # XML has no numbers
        return _spelled("".join(number for number in numbers if number.isdecimal()))
    if place == "escaped":
        return "".join(f"&#{ord(character)};" for character in " ".join(numbers)).encode()
    return _spelled(_TEXTS[place](numbers))


def _spelled(text: str) -> bytes:
    return text.replace("&", "&amp;").replace("<", "&lt;").encode()


def _plain(numbers: Sequence[str]) -> str:
    return f"card {' and '.join(numbers)} received"


def _refused(numbers: Sequence[str]) -> str:
    return f"The card {' and '.join(numbers)} could not be processed."


def _spaced(numbers: Sequence[str]) -> str:
    return ", ".join(" ".join(_fours(number)) for number in numbers)


def _fours(number: str) -> list[str]:
    return [number[start : start + 4] for start in range(0, len(number), 4)]


def _percent(numbers: Sequence[str]) -> str:
    return "".join(f"%{ord(character):02X}" for character in "&".join(numbers))


def _base64(numbers: Sequence[str]) -> str:
    return base64.b64encode("\n".join(numbers).encode()).decode()


def _base64_inside(numbers: Sequence[str]) -> str:
    """Not at a boundary of three bytes: no part of it is the number's own base64."""
    return base64.b64encode(f"card={'&card='.join(numbers)};".encode()).decode()


_TEXTS: Final[Mapping[str, Callable[[Sequence[str]], str]]] = {
    "body": _plain,
    "spaced": _spaced,
    "percent": _percent,
    "base64": _base64,
    "base64_inside": _base64_inside,
    "error": _refused,
}
