"""Money: whole minor units and a currency; no conversion, no arithmetic."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Self

# ISO 8583 field 4 has twelve digits, and no processor takes more. The bound also keeps a card
# number that a caller put into the wrong field from being recorded as an amount.
MINOR_UNITS_MAX: Final = 999_999_999_999

# ISO 4217: digits after the point, where they are not two.
_NO_DECIMALS: Final = re.compile(
    "BIF|CLP|DJF|GNF|ISK|JPY|KMF|KRW|PYG|RWF|UGX|UYI|VND|VUV|XAF|XOF|XPF"
)
_THREE_DECIMALS: Final = re.compile("BHD|IQD|JOD|KWD|LYD|OMR|TND")

_AMOUNT: Final = re.compile("[0-9]{1,12}")
_CURRENCY: Final = re.compile("[A-Za-z]{3}")


@dataclass(frozen=True, slots=True)
class Money:
    """An amount as processors and the ledger write it: 1999 EUR is 19.99 euros."""

    minor_units: int
    currency: str

    def __post_init__(self) -> None:
        assert 0 <= self.minor_units <= MINOR_UNITS_MAX, "an amount out of bounds"
        assert _CURRENCY.fullmatch(self.currency), "not a currency"

    @classmethod
    def parse(cls, minor_units: int | str, currency: str) -> Self | None:
        """Read an amount out of a request, or give None for what is none.

        No error: it is the processor's to refuse, ours only to record what is known. Nor is the
        currency looked up in ISO 4217's list, which changes oftener than this code.
        """
        if isinstance(minor_units, bool) or not _CURRENCY.fullmatch(currency):
            return None
        if isinstance(minor_units, str):
            if not _AMOUNT.fullmatch(minor_units):
                return None
            minor_units = int(minor_units)
        if not 0 <= minor_units <= MINOR_UNITS_MAX:
            return None
        return cls(minor_units, currency.upper())


def minor_units_of(amount: Decimal, currency: str) -> int | None:
    """Give 1999 for 19.99 EUR; None if the currency has no such fraction, or it is too much."""
    code = currency.upper()
    decimals = 0 if _NO_DECIMALS.fullmatch(code) else 3 if _THREE_DECIMALS.fullmatch(code) else 2
    shifted = amount.scaleb(decimals)
    units = int(shifted)
    return units if units == shifted and 0 <= units <= MINOR_UNITS_MAX else None
