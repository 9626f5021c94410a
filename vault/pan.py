"""A card number and a card's code: carried anywhere, printed nowhere.

Here live the two types that hold card digits, how they are read from text, and the Luhn test.
What never may: brands, dates, keys, input or output, and any message with a digit in it.

`reveal` is the one way to the digits. CPython cannot wipe a `str`, so whoever reveals keeps
what it got for as short a time as it can.
"""

import hmac
import re
from collections.abc import Callable
from typing import Final, Literal, NoReturn, Self, final, get_args

from vault.errors import InvalidCard

Reason = Literal["not_digits", "length", "luhn", "format", "expired", "too_far", "range"]
"""Why a field of a card was refused: public, and all that is ever said about it."""

REASONS: Final = frozenset(get_args(Reason))

PAN_DIGITS_MIN: Final = 12  # ISO/IEC 7812-1 allows fewer; no brand issues them
PAN_DIGITS_MAX: Final = 19
CVC_DIGITS_MIN: Final = 3
CVC_DIGITS_MAX: Final = 4
BIN_DIGITS: Final = 6
LAST_DIGITS: Final = 4
BIN_FROM_DIGITS: Final = 13  # of 12 digits, six and the last four would leave only two to guess

ASCII_DIGITS: Final = "0123456789"  # not str.isdigit, int() or \d: they take other scripts' too
_SEPARATORS: Final = " -"
_GROUPED: Final = re.compile("[0-9]+(?:[ -][0-9]+)*")
_UNSEPARATED: Final = str.maketrans("", "", _SEPARATORS)
_DOUBLED: Final = bytes.maketrans(b"0123456789", b"0246813579")  # twice a digit, its digits added


def passes_luhn(digits: str) -> bool:
    """Whether the last of these ASCII digits checks the others (ISO/IEC 7812-1, annex B)."""
    backwards = digits.encode("ascii")[::-1]
    # Each ASCII digit counts 48 too much, which the last term takes away again.
    total = sum(backwards[::2]) + sum(backwards[1::2].translate(_DOUBLED)) - 48 * len(backwards)
    return total % 10 == 0


class _Unprintable:
    """Digits that no printer, copier or encoder gets at."""

    # The digits stand behind a bound method, for printers that walk attributes; without a
    # `__dict__` there is nothing for `vars` to walk.
    __slots__ = ("_open",)
    _open: Callable[[], str]

    def __init__(self) -> None:
        raise TypeError("digits are parsed, not constructed")

    @classmethod
    def _holding(cls, digits: str) -> Self:
        made = object.__new__(cls)
        made._open = digits.__str__
        return made

    def reveal(self) -> str:
        """Return the digits: to seal, to send, to check. A test lists who may call this."""
        return self._open()

    def __len__(self) -> int:
        return len(self._open())

    # A hash would be an unkeyed fingerprint (PCI DSS 3.5.1.1), and a KeyError prints its key.
    __hash__ = None  # type: ignore[assignment]  # how Python spells unhashable

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Unprintable) or type(other) is not type(self):
            return NotImplemented
        return hmac.compare_digest(self._open(), other._open())

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __format__(self, spec: str) -> str:
        return repr(self)  # whatever the spec, which could ask for padding to the digits' length

    def __reduce__(self) -> NoReturn:  # pickle, copy, deepcopy, dataclasses.asdict
        raise TypeError("card digits are not copied, pickled or encoded")

    def __getstate__(self) -> NoReturn:
        raise TypeError("card digits have no state to give")


@final
class Pan(_Unprintable):
    """A card number of 12 to 19 digits; whether it fits a brand is `vault.card`'s to say."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read digits in ASCII, single spaces or hyphens between them left out.

        All else is refused rather than cleaned (full-width digits, no-break spaces, `_`, signs):
        what one reader drops and the next one keeps is how a number slips past a check.
        """
        digits = text.translate(_UNSEPARATED)
        reason = _number_refused(text, digits)
        if reason is None:
            return cls._holding(digits)
        del text, digits  # nothing to find for a traceback that prints locals
        raise InvalidCard("number", reason)

    @property
    def last4(self) -> str:
        return self._open()[-LAST_DIGITS:]

    @property
    def mask(self) -> str:
        """As long as the number, and nothing of it but the last four (PCI DSS 3.4.1)."""
        return "*" * (len(self) - LAST_DIGITS) + self.last4

    @property
    def bin(self) -> str | None:
        """The first six digits; with the last four, all that may be shown (PCI DSS 3.4.1)."""
        return self._open()[:BIN_DIGITS] if len(self) >= BIN_FROM_DIGITS else None


@final
class Cvc(_Unprintable):
    """A card verification code, which must not outlive its authorization (PCI DSS 3.3.1)."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read three or four digits in ASCII; leading zeros count. Which of the two: the brand."""
        reason = _code_refused(text)
        if reason is None:
            return cls._holding(text)
        del text
        raise InvalidCard("cvc", reason)


def _number_refused(text: str, digits: str) -> Reason | None:
    if text.strip(ASCII_DIGITS + _SEPARATORS):
        return "not_digits"
    if not PAN_DIGITS_MIN <= len(digits) <= PAN_DIGITS_MAX:
        return "length"
    return None if _GROUPED.fullmatch(text) else "format"


def _code_refused(text: str) -> Reason | None:
    if text.strip(ASCII_DIGITS):
        return "not_digits"
    return None if CVC_DIGITS_MIN <= len(text) <= CVC_DIGITS_MAX else "length"
