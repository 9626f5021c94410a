"""Plain paths: how one of a preset's selectors is compared with the names of fields. Pure.

A path is read once. It becomes a look-up of one name, a look-up of the names that differ in
nothing but indices, or, where `*` stands for a name, a pattern that is tried on each. What the
paths mean is said in `gateway/selectors.py`. What never lives here: a document.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from gateway.codecs.json import below
from gateway.codecs.splice import Format

LITERALS: Final = "query:"
INDEX: Final = re.compile(r"\[([0-9]+)\]")

_NAME: Final = "[A-Za-z0-9_-]"
_QUOTED: Final = r'\["[^"\\]*+(?:\\.[^"\\]*+)*+"\]'
_STEP: Final = re.compile(
    rf"\[(?P<index>0|[1-9][0-9]{{0,5}}|\*)\]|(?P<quoted>{_QUOTED})"
    rf"|(?P<dot>\.?)(?:(?P<star>\*)|(?P<attribute>@?)(?P<name>{_NAME}+))"
)
_INDEXED: Final = re.compile(r"\[(?:[0-9]|\*)")
_ANY: Final = rf"({_NAME}+|{_QUOTED})"
_ANY_BELOW: Final = rf"(?:\.|(?=\[))({_NAME}+|{_QUOTED})"
_ANY_INDEX: Final = r"(?:\[[0-9]+\])?"
_PART: Final = re.compile(rf"((?P<quoted>{_QUOTED})|[^:]+)(?::(.+))?")
_SPECIAL_LITERAL: Final = re.compile(r"[A-Za-z0-9_.$@/()\[\]-]+")  # not of an argument of a root
_FORM_NAME: Final = re.compile(  # two `*` in one run would try every way to share a long name
    r"(?!\[)(?!.*\*[^][]*\*)(?:[^][\x00-\x1f\x7f]|\[[^][\x00-\x1f\x7f]*\])+"
)
_ESCAPED: Final = re.compile(r"\\(.)")
_FOLDED: Final = str.maketrans(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz", "-_"
)  # ASCII alone: no letter of another script may pass for one of these


def folded(name: str) -> str:
    """Spell a name so that `creditCard`, `credit-card` and `credit_card` are one."""
    return name.translate(_FOLDED)


def without_indices(name: str) -> str:
    return INDEX.sub("", name) if "[" in name else name


@dataclass(frozen=True, slots=True)
class Plan:
    """How a plain path is compared with names: by a look-up, as far as that leads."""

    pattern: re.Pattern[str]
    key: str | None = None  # what a name is without indices, if one is known
    exact: str | None = None  # the only name that fits


# The number of selectors is that of the presets' lines: no request adds one.
@lru_cache(maxsize=8192)
def plan_of(selector: str, format_: Format, *, fold: bool) -> Plan | None:
    if format_ is Format.FORM:
        return _form_plan(selector, fold=fold) if _FORM_NAME.fullmatch(selector) else None
    if format_ is Format.MULTIPART:
        return _part_plan(selector, fold=fold)
    if format_ is Format.GRAPHQL and selector.startswith(LITERALS):
        inside = selector.removeprefix(LITERALS)
        plan = _step_plan(inside, fold=fold, prefix=LITERALS)
        if plan is None and _SPECIAL_LITERAL.fullmatch(inside):
            return _form_plan(selector, fold=fold)
        return plan
    return _step_plan(selector, fold=fold, is_xml=format_ is Format.XML)


def _form_plan(selector: str, *, fold: bool, run: str = r"([^][]*)") -> Plan:
    if fold:
        selector = folded(selector)
    pattern = re.compile(run.join(map(re.escape, selector.split("*"))))
    return Plan(pattern, exact=None if "*" in selector else selector)


def _part_plan(selector: str, *, fold: bool) -> Plan | None:
    found = _PART.fullmatch(selector)
    if found is None or not (found["quoted"] or _FORM_NAME.fullmatch(found[1])):
        return None
    part = _form_plan(found[1], fold=fold, run="([^][:]*)")
    if found[3] is None:
        return part
    inside = _step_plan(found[3], fold=fold) or plan_of(found[3], Format.FORM, fold=fold)
    if inside is None:
        return None
    exact = None
    if part.exact is not None and inside.exact is not None:
        exact = f"{part.exact}:{inside.exact}"
    return Plan(re.compile(f"{part.pattern.pattern}:{inside.pattern.pattern}"), exact=exact)


def _step_plan(selector: str, *, fold: bool, is_xml: bool = False, prefix: str = "") -> Plan | None:
    steps = [_Step(re.escape(prefix), prefix, prefix)]
    at = 0
    while at < len(selector):
        found = _STEP.match(selector, at)
        if found is None or not _may_stand(found, is_xml=is_xml):
            return None
        steps.append(_step(found, fold=fold, is_xml=is_xml))
        at = found.end()
    key = _joined(step.key for step in steps)
    return Plan(
        pattern=re.compile("".join(step.pattern for step in steps)),
        key=None if key is None else without_indices(key),
        exact=None if is_xml else _joined(step.exact for step in steps),
    )


@dataclass(frozen=True, slots=True)
class _Step:
    """What one step adds to a plan; None where there is no one text."""

    pattern: str
    key: str | None
    exact: str | None


def _may_stand(found: re.Match[str], *, is_xml: bool) -> bool:
    """Whether a step may stand where it does: a name behind a dot, an attribute at the end."""
    if found["index"] or found["quoted"]:
        return True
    is_first = found.start() == 0
    if found["attribute"]:
        return is_xml and not is_first and found.end() == len(found.string) and bool(found["dot"])
    return is_first != bool(found["dot"])


def _step(found: re.Match[str], *, fold: bool, is_xml: bool) -> _Step:
    index = found["index"]
    if index:
        pattern = r"\[([0-9]+)\]" if index == "*" else re.escape(found[0])
        may_lack = is_xml and index in {"0", "*"}
        return _Step(
            f"(?:{pattern})?" if may_lack else pattern, "", None if index == "*" else found[0]
        )
    is_indexed = _INDEXED.match(found.string, found.end()) or found["attribute"]
    suffix = _ANY_INDEX if is_xml and not is_indexed else ""
    if found["star"]:
        no_attribute = r'(?!\["@)' if is_xml else ""
        return _Step(no_attribute + (_ANY_BELOW if found["dot"] else _ANY) + suffix, None, None)
    text = found[0]
    if found["quoted"]:
        text = below("", _ESCAPED.sub(r"\1", text[2:-2]))
        text = text if text.startswith("[") or not found.start() else f".{text}"
    if fold:
        text = folded(text)
    return _Step(re.escape(text) + suffix, text, text)


def _joined(texts: Iterable[str | None]) -> str | None:
    found = list(texts)
    return None if None in found else "".join(filter(None, found))
