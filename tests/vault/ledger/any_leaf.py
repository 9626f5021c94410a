"""Any entry at all, as JSON has it: made from the types, not by the code that writes them."""

import re
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from msgspec import NODEFAULT, inspect

from tests.vault.ledger.samples import ORIGIN, VKEY
from vault.ledger.entry import TYPES

Json = dict[str, Any]


def any_leaf() -> st.SearchStrategy[Json]:
    return st.one_of([_objects(inspect.type_info(known)) for known in TYPES.values()])


def _objects(described: inspect.Type) -> st.SearchStrategy[Json]:
    assert isinstance(described, inspect.StructType)
    needed: dict[str, st.SearchStrategy[object]] = {}
    optional: dict[str, st.SearchStrategy[object]] = {}
    for field in described.fields:
        absent = not field.required and field.default is NODEFAULT
        (optional if absent else needed)[field.encode_name] = _values(field.type)
    if described.tag_field:
        needed[described.tag_field] = st.just(described.tag)
    return st.fixed_dictionaries(needed, optional=optional).map(_consistent)


def _values(described: inspect.Type) -> st.SearchStrategy[object]:
    return VALUES[type(described)](described)


VALUES: dict[type[inspect.Type], Callable[[Any], st.SearchStrategy[object]]] = {
    inspect.Metadata: lambda of: st.from_regex(
        re.compile(f"(?:{of.extra['form']})", re.ASCII), fullmatch=True
    ),
    inspect.IntType: lambda of: st.integers(of.ge, of.le),
    inspect.BoolType: lambda of: st.booleans(),
    inspect.LiteralType: lambda of: st.sampled_from(of.values),
    inspect.EnumType: lambda of: st.sampled_from([word.value for word in of.cls]),
    inspect.VarTupleType: lambda of: st.lists(
        _values(of.item_type), min_size=of.min_length or 0, max_size=3
    ),
    inspect.StructType: _objects,
}


def _consistent(fields: Json) -> Json:
    """Make agree what must."""
    agree = AGREE.get(fields.get("type", "actor" if {"id", "kind"} == fields.keys() else ""))
    if agree is not None:
        agree(fields)
    return fields


def _attempts_count(fields: Json) -> None:
    fields["intent"] = fields["id"]
    repeated = fields.get("of", fields["id"]) != fields["id"]
    fields["attempt"] = max(fields["attempt"], 2) if repeated else 1
    if not repeated:
        fields.pop("of", None)


def _only_answers_have_results(fields: Json) -> None:
    if fields["finding"] != "answered":
        fields["result"] = "error"


def _log_has_its_key(fields: Json) -> None:
    fields["vkey"] = fields["origin"] + VKEY.removeprefix(ORIGIN)


def _later_version(fields: Json) -> None:
    fields["from"], fields["to"] = sorted({fields["from"], fields["to"]} | {1, 2})[-2:]
    if "vkey" in fields:
        fields["key"] = "ledger"
    elif fields["key"] == "ledger":
        fields["key"] = "pan"


def _known_actor(fields: Json) -> None:
    fields["id"] = {"anonymous": "none", "system": "writer"}.get(fields["kind"], "k_4f8z")


def _in_order(name: str) -> Callable[[Json], None]:
    def sort(fields: Json) -> None:
        fields[name] = sorted(set(fields[name]))

    return sort


AGREE: dict[str, Callable[[Json], None]] = {
    "actor": _known_actor,
    "authorization.attempted": _attempts_count,
    "authorization.resolved": _only_answers_have_results,
    "detail.erased": _in_order("entries"),
    "key.rotated": _later_version,
    "log.opened": _log_has_its_key,
    "token.updated": _in_order("changed"),
}
