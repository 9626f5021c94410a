"""A month and a year that stand in one field, as people and programs write them. Pure.

What never may live here: whether such a date is over.
"""

import re
from typing import Final

_MONTH_FIRST: Final = re.compile("([0-9]{1,2}) ?[/-] ?([0-9]{4}|[0-9]{2})")
_YEAR_FIRST: Final = re.compile("([0-9]{4})-([0-9]{2})")  # ISO 8601, and `<input type=month>`
_TOGETHER: Final = re.compile("([0-9]{2})([0-9]{2})")


def month_and_year(text: str) -> tuple[str, str] | None:
    """Tell the two apart: MM/YY, MMYY, MM/YYYY, MM-YYYY, YYYY-MM; None for all else.

    Six digits in a row are refused: one writes MMYYYY and the next YYYYMM.
    """
    year_first = _YEAR_FIRST.fullmatch(text)
    if year_first is not None:
        return year_first[2], year_first[1]
    found = _MONTH_FIRST.fullmatch(text) or _TOGETHER.fullmatch(text)
    return None if found is None else (found[1], found[2])
