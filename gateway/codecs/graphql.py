"""A GraphQL request over HTTP: JSON, with the literals of its query. Pure.

Its values are those of the JSON around it (`variables.input.creditCard.number`), and in place of
`query` each literal in it, with the bytes that stand for it in the JSON; what is between two
literals is a field `query`, so that every byte of the text belongs to one. Literals are named by
what they are given to:

- `query:charge.input.card.number`: a root field's argument, the members and `[0]` items in it
- `query:charge/refunds.first`: an argument of a field below it
- `query:charge@include.if`: an argument of a directive, here of a root field
- `query:$input.card`: what a variable is by default
- `query:...card/image.size`: the same within a fragment
- `query:(Other)charge.input`: the same within an operation that is not the one to be run

Where a variable stands, its value is the JSON's. Fields are named, not their aliases: `roots` is
what the mutation does. A batch, which is several requests in an array, and fragments at the root
of a mutation, which no client writes, are malformed; so is a request that leaves open which
operation is to be run. What is put in a literal's place is digits, `/`, `-` or a token: nothing
that JSON or GraphQL would escape. What never lives here: which values matter.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from graphql.error import GraphQLError
from graphql.language import (
    ArgumentNode,
    DefinitionNode,
    DirectiveNode,
    FieldNode,
    FloatValueNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    ObjectFieldNode,
    ObjectValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    StringValueNode,
    ValueNode,
    VariableDefinitionNode,
    VariableNode,
    parse,
)
from msgspec import structs

from gateway.codecs import json
from gateway.codecs.splice import BOM, Document, Field, Format, Shape
from gateway.errors import Malformed

QUERY_CHARACTERS_MAX: Final = 32_768
TOKENS_MAX: Final = 4_000
DEPTH_MAX: Final = 32  # of selections, and of a value

_QUERY: Final = "query"
_OPERATION_NAME: Final = "operationName"
_UNIT: Final = re.compile(  # of a JSON string: a run of plain text, or what stands for a character
    rb"[^\\]++|\\u[dD][89abAB][0-9A-Fa-f]{2}\\u[0-9A-Fa-f]{4}|\\u[0-9A-Fa-f]{4}|\\."
)


def read(body: bytes) -> Document:
    """Return the values of the JSON and the literals of the query, in the order of their places."""
    if body.removeprefix(BOM).lstrip(b" \t\r\n").startswith(b"["):
        raise Malformed("graphql_batch")
    around = json.read(body)
    query = _member(around, _QUERY)
    if query is None or query.text is None or query.shape is not Shape.TEXT:
        raise Malformed("graphql")
    scanner = _Scanner(query.text, _operation_name(around))
    inside = _placed(body, query, query.text, scanner.literals)
    at = around.fields.index(query)
    fields = (*around.fields[:at], *inside, *around.fields[at + 1 :])
    document = Document.of(Format.GRAPHQL, fields, scanner.names, roots=scanner.roots)
    return replace(document, repeated=document.repeated | around.repeated)


def _operation_name(around: Document) -> str:
    """Return the name of the operation to be run; nothing if it is not said."""
    name = _member(around, _OPERATION_NAME)
    if name is None or (name.shape is Shape.WORD and name.text == "null"):
        return ""
    if name.text is None or name.shape is not Shape.TEXT:
        raise Malformed("graphql")
    return name.text


def _member(document: Document, name: str) -> Field | None:
    """Return a value of the outermost object, whose name may be there once."""
    if document.repeats(name):
        raise Malformed("graphql")
    values = (each for each in document.fields if each.name == name and each.shape is not Shape.KEY)
    return next(values, None)


def _parsed(query: str) -> Sequence[DefinitionNode]:
    if len(query) > QUERY_CHARACTERS_MAX:
        raise Malformed("graphql_too_large")
    with suppress(GraphQLError, RecursionError):  # which of them for depth, versions differ
        return parse(query, max_tokens=TOKENS_MAX).definitions
    raise Malformed("graphql")


# --- what the query says ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, repr=False)
class _Literal:
    """A literal: its place in the decoded query, without the quotes."""

    name: str
    text: str
    start: int
    end: int
    shape: Shape


class _Scanner:
    """One pass over one query: `names` is all that is given, as often as it is."""

    def __init__(self, query: str, run: str) -> None:
        self.literals: list[_Literal] = []
        self.names: list[str] = []
        self.roots: tuple[str, ...] = ()
        self._query = query
        definitions = _parsed(query)
        chosen = _chosen(definitions, run)
        if chosen.operation is OperationType.MUTATION:
            self.roots = tuple(_root_names(chosen))
        for each in definitions:
            if isinstance(each, OperationDefinitionNode):
                name = each.name.value if each.name is not None else ""
                self._operation(each, "" if each is chosen else f"({name})")
            elif isinstance(each, FragmentDefinitionNode):
                self._directives(each.directives, f"...{each.name.value}")
                self._selections(each.selection_set, f"...{each.name.value}/", 1)
            else:  # of a schema, which no one sends to be run
                raise Malformed("graphql")
        self.literals.sort(key=lambda literal: literal.start)

    def _operation(self, operation: OperationDefinitionNode, prefix: str) -> None:
        for variable in operation.variable_definitions:
            self._variable(variable, prefix)
        self._directives(operation.directives, prefix)
        self._selections(operation.selection_set, prefix, 1)

    def _variable(self, variable: VariableDefinitionNode, prefix: str) -> None:
        name = f"{prefix}${variable.variable.name.value}"
        self._directives(variable.directives, name)
        if variable.default_value is not None:
            self._given(name, variable.default_value)

    def _selections(self, selected: SelectionSetNode | None, prefix: str, depth: int) -> None:
        if selected is None:
            return
        if depth > DEPTH_MAX:
            raise Malformed("graphql_too_large")
        for each in selected.selections:
            if isinstance(each, FieldNode):
                name = f"{prefix}{each.name.value}"
                self._arguments(each.arguments, name)
                self._directives(each.directives, name)
                self._selections(each.selection_set, f"{name}/", depth + 1)
            elif isinstance(each, FragmentSpreadNode):
                self._directives(each.directives, f"{prefix}...{each.name.value}")
            else:
                assert isinstance(each, InlineFragmentNode), "the third and last (GraphQL 2.4)"
                self._directives(each.directives, f"{prefix}...")
                self._selections(each.selection_set, f"{prefix}.../", depth + 1)

    def _directives(self, directives: Iterable[DirectiveNode], name: str) -> None:
        for each in directives:
            self._arguments(each.arguments, f"{name}@{each.name.value}")

    def _arguments(self, arguments: Iterable[ArgumentNode], name: str) -> None:
        for each in arguments:
            self._given(f"{name}.{each.name.value}", each.value)

    def _given(self, name: str, value: ValueNode) -> None:
        self.names.append(f"{_QUERY}:{name}")
        self._literal(name, value, 1)

    def _literal(self, name: str, value: ValueNode, depth: int) -> None:
        if depth > DEPTH_MAX:
            raise Malformed("graphql_too_large")
        if isinstance(value, ObjectValueNode):
            for member in value.fields:
                self._object_field(name, member, depth)
        elif isinstance(value, ListValueNode):
            for index, item in enumerate(value.values):
                self._literal(f"{name}[{index}]", item, depth + 1)
        elif not isinstance(value, VariableNode):
            self._found(f"{_QUERY}:{name}", value)

    def _object_field(self, name: str, member: ObjectFieldNode, depth: int) -> None:
        name = f"{name}.{member.name.value}"
        self.names.append(f"{_QUERY}:{name}")
        self._literal(name, member.value, depth + 1)

    def _found(self, name: str, value: ValueNode) -> None:
        assert value.loc is not None, "the parser keeps places unless it is told not to"
        start, end = value.loc.start, value.loc.end
        if isinstance(value, StringValueNode):
            quote = len('"""') if value.block else len('"')
            literal = _Literal(name, value.value, start + quote, end - quote, Shape.TEXT)
        else:
            is_number = isinstance(value, IntValueNode | FloatValueNode)
            shape = Shape.NUMBER if is_number else Shape.WORD
            literal = _Literal(name, self._query[start:end], start, end, shape)
        self.literals.append(literal)


def _chosen(definitions: Sequence[DefinitionNode], run: str) -> OperationDefinitionNode:
    """Return the operation that the server will run (GraphQL 6.1), if there can be no doubt."""
    operations = [each for each in definitions if isinstance(each, OperationDefinitionNode)]
    names = [each.name.value if each.name is not None else "" for each in operations]
    if len(operations) > 1 and ("" in names or len(set(names)) < len(names)):
        raise Malformed("graphql")
    fitting = [each for each, name in zip(operations, names, strict=True) if run in {"", name}]
    if len(fitting) != 1:
        raise Malformed("graphql")
    return fitting[0]


def _root_names(mutation: OperationDefinitionNode) -> Iterator[str]:
    for each in mutation.selection_set.selections:
        if not isinstance(each, FieldNode):
            raise Malformed("graphql_fragment")
        yield each.name.value


# --- where it stands in the body ----------------------------------------------------------


def _placed(body: bytes, around: Field, query: str, literals: Sequence[_Literal]) -> list[Field]:
    """Give the literals, and what is between them, their places in the body."""
    if not literals:
        return [around]
    places = _places(body[around.start : around.end], around.start)
    fields = []
    done = 0
    for each in literals:
        start, end = places[each.start], places[each.end]
        fields.append(
            structs.replace(around, text=query[done : each.start], start=places[done], end=start)
        )
        fields.append(Field(each.name, each.text, start, end, each.shape))
        done = each.end
    fields.append(structs.replace(around, text=query[done:], start=places[done]))
    return fields


def _places(raw: bytes, start: int) -> list[int]:
    """Return where each character of a JSON string begins, and where the last one ends."""
    places: list[int] = []
    for unit in _UNIT.finditer(raw):
        at = start + unit.start()
        if unit[0].startswith(b"\\"):
            places.append(at)
        elif unit[0].isascii():
            places.extend(range(at, start + unit.end()))
        else:
            for character in unit[0].decode():
                places.append(at)
                at += len(character.encode())
    places.append(start + len(raw))
    return places
