"""Bodies that a preset says of itself: for each of its operations with cards, in each format.

They are built from the preset's selectors by other means than those that read them, so that what
was put in place of a token can be compared with a body that was built with the number.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

from gateway import preset as presets
from gateway.call import Call
from gateway.codecs.bodies import format_of
from gateway.codecs.splice import Format
from gateway.preset import CardFields, Operation, Preset

PRESETS = {name: presets.load(name) for name in presets.names()}
MUTATION = "tokenizeCreditCard"
XML_START = '<?xml version="1.0" encoding="UTF-8"?>'

_STEP = re.compile(r"([^.\[]+)|\[(\d+|\*)\]")
_BRACKETS = re.compile(r"\[[^0-9*\]]")
_ANY_NAME = {"*": "CARD-SSL"}


@dataclass(frozen=True, slots=True, repr=False)
class Case:
    """One operation's card, in one format."""

    preset: Preset
    operation: Operation
    card: CardFields
    content_type: str
    in_query: bool = False

    @property
    def name(self) -> str:
        where = "query" if self.in_query else self.content_type
        at = self.operation.cards.index(self.card)
        return f"{self.preset.name}-{self.operation.name}-{at}-{where}"

    def __repr__(self) -> str:
        return self.name

    @property
    def format(self) -> Format:
        if self.operation.format == "graphql":
            return Format.GRAPHQL
        found = format_of(self.content_type)
        assert found is not None
        return found

    @property
    def beside(self) -> str:
        """A field that nothing declares, below the root where there is one."""
        first = self.card.number.partition(".")[0]
        if first == "*":
            return f"{self.operation.roots[0]}.note"
        has_root = self.format is Format.XML or first in self.operation.roots
        return f"{first}.note" if has_root else "note"

    def call(self, body: bytes) -> Call:
        path = re.sub(r"\{version\}", "68", self.operation.paths[0])
        path = re.sub(r"\{[a-z_]+\}", "id_1", path)
        headers = (("Content-Type", f"{self.content_type}; charset=UTF-8"),)
        return Call(self.operation.method, path, "", headers, body)

    def body(self, card: Mapping[str, str], more: Mapping[str, str] | None = None) -> bytes:
        """Build a body with these texts in the card's fields, by their names in the preset."""
        parts = {part: getattr(self.card, part) for part in card}
        values = {selector: card[part] for part, selector in parts.items() if selector}
        if self.in_query:
            return _query(values, more or {})
        values = {**self._conditions(set(values)), **values, **(more or {})}
        values = {self._spelled(selector): text for selector, text in values.items()}
        if self.format is Format.FORM:
            return "&".join(f"{name}={quote(text)}" for name, text in values.items()).encode()
        if self.format is Format.XML:
            return _xml(values)
        tree = _tree(values)
        if self.format is Format.GRAPHQL:
            mutation = f"mutation ($input: I!) {{ {MUTATION}(input: $input) {{ id }} }}"
            tree = {"query": mutation, **tree}
        return json.dumps(tree).encode()

    def _conditions(self, given: set[str]) -> dict[str, str]:
        """What must stand in the body for it to be this operation's."""
        found = {}
        for condition in self.operation.when:
            text = str(condition.equals[0]) if condition.equals else "x"
            if not given.intersection(condition.paths):
                found[condition.paths[0]] = text
        return found

    def _spelled(self, selector: str) -> str:
        """Put names for wildcards, and write names as this format's clients do."""
        roots = self.operation.roots
        if selector.startswith("*") and roots:
            selector = roots[0] + selector[1:]
        spelled = selector.replace(".*.", ".CARD-SSL.")
        if self.format is Format.XML:
            spelled = spelled.replace("[*]", "")
            return spelled.replace("_", "-") if self.preset.fold_names else spelled
        return spelled.replace("[*]", "[0]")


def cases() -> list[Case]:
    return list(_cases())


def _cases() -> Iterator[Case]:
    for preset in PRESETS.values():
        for operation in preset.operations:
            for card in operation.cards:
                if card.number.startswith("query:"):
                    yield Case(preset, operation, card, "application/json", in_query=True)
                    continue
                for content_type in operation.content_types or preset.content_types:
                    form = format_of(content_type) is Format.FORM
                    both = "application/json" in preset.content_types
                    if form is bool(_BRACKETS.search(card.number)) or (form and not both):
                        yield Case(preset, operation, card, content_type)


# --- writers ------------------------------------------------------------------------------


def _tree(values: Mapping[str, str]) -> dict[str, object]:
    """Nest values by their paths."""
    root: dict[str, object] = {}
    for path, text in values.items():
        steps: list[str | int] = [name or int(index) for name, index in _STEP.findall(path)]
        node: object = root
        for step, after in zip(steps, [*steps[1:], None], strict=True):
            below: object = text if after is None else [] if isinstance(after, int) else {}
            if isinstance(node, list):
                assert isinstance(step, int)
                if len(node) <= step:
                    node.append(below)
                node = node[step]
            else:
                assert isinstance(node, dict)
                node = node.setdefault(step, below)
    return root


def _xml(values: Mapping[str, str]) -> bytes:
    (root, below), *others = _tree(values).items()
    assert not others, "XML has one root"
    assert isinstance(below, dict)
    return (XML_START + _element(root, below)).encode()


def _element(name: str, below: object) -> str:
    if not isinstance(below, dict):
        return f"<{name}>{escape(str(below))}</{name}>"
    attributes = "".join(
        f" {each[1:]}={quoteattr(str(text))}" for each, text in below.items() if each[0] == "@"
    )
    inside = "".join(_element(each, more) for each, more in below.items() if each[0] != "@")
    return f"<{name}{attributes}>{inside}</{name}>"


def _query(values: Mapping[str, str], more: Mapping[str, str]) -> bytes:
    """A GraphQL request whose card stands in the query itself."""
    members = ", ".join(
        f"{selector.rpartition('.')[2]}: {json.dumps(text)}" for selector, text in values.items()
    )
    query = f"mutation {{ {MUTATION}(input: {{creditCard: {{{members}}}}}) {{ id }} }}"
    return json.dumps({"query": query, "variables": dict(more)}).encode()
