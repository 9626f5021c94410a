"""The cards of the demo, and whether one of them is in what somebody stole, read or heard. Pure.

They are numbers for testing, and yet treated as cards: shown masked, looked for everywhere.
What never lives here: where the bytes come from that are searched.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Final

import msgspec

from gateway.echoes import Sought, contains_any

YEARS_VALID: Final = 3
MASK: Final = "••••"


@dataclass(frozen=True, slots=True)
class DemoCard:
    """A published test card, as a shopper types it in."""

    number: str = field(repr=False)
    cvc: str = field(repr=False)
    exp_month: int
    exp_year: int

    @property
    def masked(self) -> str:
        return f"{MASK} {self.number[-4:]}"


class _Written(msgspec.Struct):
    number: str
    cvc: str


def demo_cards(year: int) -> Mapping[str, DemoCard]:
    """Read the cards, by name; they expire some years after this one."""
    text = (resources.files("gateway.demo") / "test_cards.toml").read_text("ascii")
    written = msgspec.toml.decode(text, type=dict[str, _Written])
    return {
        name: DemoCard(card.number, card.cvc, exp_month=12, exp_year=year + YEARS_VALID)
        for name, card in written.items()
    }


# --- is one of them in there? -------------------------------------------------------------


class Search:
    """Looks for numbers in every spelling that comes to mind, and in what is wrapped twice."""

    def __init__(self, numbers: Sequence[str]) -> None:
        self.numbers = tuple(numbers)
        self._sought = [Sought(number) for number in numbers]
        self._short = [form(number) for number in numbers for form in _SHORT_FORMS]

    def is_blind(self, content: bytes) -> bool:
        """Whether it would miss a number that is put into this very content, in some form."""
        return not all(
            Search([number]).finds(content + b"\n" + form(number) + b"\n")
            for number in self.numbers
            for form in FORMS.values()
        )

    def finds(self, content: bytes) -> bool:
        """Whether a number is in text or what text holds: bytes in hex, bytes in base64."""
        wrapped = b"\n".join(_unwrapped(content))
        return contains_any(content, self._sought) or contains_any(wrapped, self._sought)

    def finds_plain(self, content: bytes) -> bool:
        """As above for tens of megabytes: plain, hex and base64 only."""
        return any(form in content for form in self._short)


_HEX: Final = re.compile(rb"(?:[0-9a-fA-F]{2}){8,}")
_BASE64: Final = re.compile(rb"[0-9A-Za-z+/_-]{16,}")
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")


def _unwrapped(content: bytes) -> Iterator[bytes]:
    """Yield what the hexadecimal in a text stands for, and the base64, wherever that begins."""
    for run in _HEX.findall(content):
        yield bytes.fromhex(run.decode())
    for run in _BASE64.findall(content):
        for start in range(4):
            text = run[start:].translate(_STANDARD)
            yield binascii.a2b_base64(text[: len(text) - (len(text) % 4 == 1)] + b"==")


Form = Callable[[str], bytes]


def _plain(number: str) -> bytes:
    return number.encode()


def _hex(number: str) -> bytes:
    return number.encode().hex().encode()


def _base64(number: str) -> bytes:
    return base64.b64encode(number.encode())


def _base64_after(before: bytes) -> Form:
    """Its base64 behind other bytes: without the letters that hold bits of those or of none."""

    def form(number: str) -> bytes:
        encoded = base64.b64encode(before + number.encode())
        return encoded[-(-len(before) * 8 // 6) : (len(before) + len(number)) * 8 // 6]

    return form


FORMS: Final[Mapping[str, Form]] = {
    "plain": _plain,
    "in fours": lambda number: " ".join(re.findall(".{1,4}", number)).encode(),
    "with hyphens": lambda number: "-".join(re.findall(".{1,4}", number)).encode(),
    "reversed": lambda number: number[::-1].encode(),
    "UTF-16": lambda number: number.encode("utf-16-le"),
    "hex": _hex,
    "upper-case hex": lambda number: _hex(number).upper(),
    "hex of hex": lambda number: _hex(_hex(number).decode()),
    "base64": _base64,
    "base64 after 1 byte": _base64_after(b"-"),
    "base64 after 2 bytes": _base64_after(b"--"),
    "hex of base64": lambda number: _hex(_base64(number).decode()),
    "base64 of hex": lambda number: _base64(_hex(number).decode()),
    "percent-encoded": lambda number: "".join(f"%3{digit}" for digit in number).encode(),
}
"""How a number might be stored by somebody who thinks that this hides it."""

_SHORT_FORMS: Final = (_plain, _hex, *(_base64_after(bytes(before)) for before in range(3)))
