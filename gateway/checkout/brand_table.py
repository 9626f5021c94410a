"""The brand table as data for a browser: written from `vault.card`, never by hand.

`python -m gateway.checkout.brand_table` prints what `checkout/src/brands.json` holds; a test
compares the two. What never may live here: a rule of its own about numbers.
"""

import json
import sys
from typing import Final

from vault.card import BrandRow, brand_rows
from vault.pan import PAN_DIGITS_MAX, PAN_DIGITS_MIN

_COUNTS_OF_ALL: Final = tuple(range(PAN_DIGITS_MIN, PAN_DIGITS_MAX + 1))


def brand_table() -> str:
    """Give the table as JSON, a row a line.

    A row: brand, its lengths, the lengths of its code (0: it may have none), whether Luhn must
    hold, the digit counts of which the row has a say (none listed: all), its prefixes.
    """
    rows = ",\n".join(_written(row) for row in brand_rows())
    return f"[\n{rows}\n]\n"


def _written(row: BrandRow) -> str:
    counts = () if row.digit_counts == _COUNTS_OF_ALL else row.digit_counts
    brand = row.brand
    prefixes = " ".join(row.prefixes)
    return json.dumps(
        [brand.name, brand.lengths, brand.cvc_lengths, brand.luhn_required, counts, prefixes],
        separators=(",", ":"),
    )


if __name__ == "__main__":
    sys.stdout.write(brand_table())
