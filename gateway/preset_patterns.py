"""How the paths, hosts, headers and text fields of a preset are spelled as patterns. Pure.

What never lives here: the types of a preset, and what follows from a match.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from gateway.plain_paths import folded

HOST_PLACEHOLDER: Final = "{prefix}"

_PLACEHOLDERS: Final = {"{version}": "[0-9]{1,4}"}  # any other is part of one segment
_SEGMENT: Final = "[A-Za-z0-9_.-]+"
_PREFIX: Final = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"  # one label's: no dot, so no other domain


def segments(template: str) -> str:
    """Spell a path template as a pattern: a placeholder never reaches beyond its segment."""
    return "".join(
        _PLACEHOLDERS.get(part, _SEGMENT) if part.startswith("{") else re.escape(part)
        for part in re.split(r"(\{[a-z_]+\})", template)
    )


# The number of patterns is that of the presets' lines: no request adds one.
@lru_cache(maxsize=1024)
def host_pattern(pattern: str) -> re.Pattern[str]:
    """Spell a host of a preset as a pattern of names."""
    return re.compile(_PREFIX.join(re.escape(part) for part in pattern.split(HOST_PLACEHOLDER)))


@lru_cache(maxsize=4096)
def text_pattern(selector: str, *, form: bool, fold: bool = False) -> re.Pattern[str]:
    """Spell a text field's selector as a pattern of names.

    In a form `*` stands for any characters but brackets: `metadata[*]` is one level. Elsewhere it
    is one name or index, and at the end all that stands below: `metadata.*`.
    """
    if fold:
        selector = folded(selector)
    if form:
        return re.compile("[^][]*".join(map(re.escape, selector.split("*"))))
    below = selector.endswith(".*")
    steps = selector.removesuffix(".*").replace("[*]", "").split(".")
    one = r'(?:[^].["[]+|\["[^"]*"\])'
    path = r"\.".join(
        (one if step == "*" else re.escape(step)) + r"(?:\[[0-9]+\])*" for step in steps
    )
    return re.compile(path + (r"(?:[.\[].*)" if below else ""), re.DOTALL)


def any_header(listed: Iterable[str]) -> re.Pattern[str]:
    """Spell a list of headers, `*` for the rest of a name, as one pattern."""
    patterns = ("[^][]*".join(map(re.escape, each.split("*"))) for each in listed)
    return re.compile("|".join(patterns) or "(?!)")  # of none, what nothing matches
