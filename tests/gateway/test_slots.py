import json

import msgspec
import pytest

from gateway.call import Call, CallRefused, ReadCall, Refusal, read_call
from gateway.preset import CardFields, Operation
from gateway.slots import CARDS_MAX, Part, Slots, find_slots
from tests import cards
from tests.gateway.preset_bodies import PRESETS
from vault.authorization import Kind
from vault.tokens import token_of

TOKENS = [token_of("test", number) for number in range(CARDS_MAX + 2)]
TOKEN, OTHER, *_ = TOKENS
JSON, XML, FORM = "application/json", "application/xml", "application/x-www-form-urlencoded"


def _found(body: str, *declared: CardFields, type_: str = JSON) -> Slots | CallRefused:
    operation = Operation(
        name="a",
        method="POST",
        path="/a",
        kind=Kind.AUTHORIZE,
        cards=declared,
        content_types=(type_,),
    )
    preset = msgspec.structs.replace(PRESETS["adyen"], operations=(operation,))
    read = read_call(preset, Call("POST", "/a", "", (("content-type", type_),), body.encode()))
    assert isinstance(read, ReadCall), read
    return find_slots(read, declared, env="test")


def _parts(found: Slots | CallRefused) -> list[tuple[Part, str]]:
    assert isinstance(found, Slots), found
    return [(slot.part, slot.token) for slot in found.slots]


LIST = CardFields(number="c[*].n", cvc="c[*].v", expiry="c[*].e")


def test_a_wildcard_keeps_a_number_and_its_code_together() -> None:
    document = {"c": [{"n": TOKEN, "v": "000"}, {"v": OTHER, "n": OTHER, "e": OTHER}]}
    assert _parts(_found(json.dumps(document), LIST)) == [
        (Part.NUMBER, TOKEN),
        (Part.CVC, TOKEN),
        (Part.CVC, OTHER),
        (Part.NUMBER, OTHER),
        (Part.YEAR_AND_MONTH, OTHER),
    ]


@pytest.mark.guards("T-28")
@pytest.mark.parametrize(
    ("items", "code", "field"),
    [
        ([{"n": TOKEN, "v": OTHER}, {"n": OTHER}], Refusal.TOKEN_MISMATCH, "c[0].v"),
        ([{"n": TOKEN}, {"v": "000"}], Refusal.RAW_CVC, "c[1].v"),
        ([{"n": TOKEN}, {"e": TOKEN}], Refusal.TOKEN_MISMATCH, "c[1].e"),
        ([{"n": TOKEN}, {"n": cards.VISA}], Refusal.RAW_CARD_NUMBER, "c[1].n"),
    ],
)
def test_what_stands_in_another_item_does_not_count(
    items: list[dict[str, str]], code: Refusal, field: str
) -> None:
    assert _found(json.dumps({"c": items}), LIST) == CallRefused(code, field)


def test_a_wildcard_for_a_name_keeps_them_together_too() -> None:
    card = CardFields(number="d.*.n", cvc="d.*.v")
    body = f"<d><VISA-SSL><n>{TOKEN}</n><v>000</v></VISA-SSL><x><n>{OTHER}</n></x></d>"
    found = _parts(_found(body, card, type_=XML))
    assert found == [(Part.NUMBER, TOKEN), (Part.CVC, TOKEN), (Part.NUMBER, OTHER)]
    body = f"<d><a><n>{TOKEN}</n></a><b><v>{TOKEN}</v></b></d>"
    assert _found(body, card, type_=XML) == CallRefused(Refusal.TOKEN_MISMATCH, "d.b.v")


@pytest.mark.guards("T-11", "T-28")
@pytest.mark.parametrize("second", ["", "x", TOKEN])
def test_siblings_of_one_name_are_one_field_given_twice(second: str) -> None:
    body = f"<d><a><n>{TOKEN}</n></a><a><n>{second}</n></a></d>"
    for number in ("d.a.n", "d.*.n"):
        found = _found(body, CardFields(number=number), type_=XML)
        assert found == CallRefused(Refusal.FIELD_REPEATED, number)


def test_an_array_and_a_single_one_can_be_declared_as_two() -> None:
    declared = (CardFields(number="c[*].n", cvc="c[*].v"), CardFields(number="c.n", cvc="c.v"))
    for body in (f'{{"c":[{{"n":"{TOKEN}","v":"000"}}]}}', f'{{"c":{{"n":"{TOKEN}","v":"000"}}}}'):
        assert _parts(_found(body, *declared)) == [(Part.NUMBER, TOKEN), (Part.CVC, TOKEN)]
    body = f"<c><n>{TOKEN}</n><v>000</v></c>"
    in_xml = (CardFields(number="c[*].n", cvc="c[*].v"), CardFields(number="c.n", cvc="c.v"))
    assert _parts(_found(body, *in_xml, type_=XML)) == [(Part.NUMBER, TOKEN), (Part.CVC, TOKEN)]


@pytest.mark.parametrize(
    ("format_", "accepted"),
    [
        ("YYYY-MM", ["2030-12", "1230", "12", "", TOKEN, "XXXX"]),
        ("MM/YYYY", ["12/2030", "1/30", TOKEN]),
        ("MM/YY", ["12/30", TOKEN]),
        ("MMYY", ["1230", TOKEN]),
        ("MMYYYY", ["122030", TOKEN]),
    ],
)
def test_a_whole_expiry_date_passes_as_it_is_or_is_the_token(
    format_: str, accepted: list[str]
) -> None:
    card = msgspec.convert({"number": "n", "expiry": "e", "expiry_format": format_}, CardFields)
    for text in accepted:
        parts = _parts(_found(json.dumps({"n": TOKEN, "e": text}), card))
        assert parts[1:] == ([(Part(format_), TOKEN)] if text == TOKEN else [])
    for text in (OTHER, f"{TOKEN} "):
        found = _found(json.dumps({"n": TOKEN, "e": text}), card)
        assert found == CallRefused(Refusal.TOKEN_MISMATCH, "e")
    for text in ("2030-12-01", cards.VISA, "12 30", "ab", "12345-678"):
        found = _found(json.dumps({"n": TOKEN, "e": text}), card)
        assert found == CallRefused(Refusal.INVALID_FIELD, "e")


def test_attributes_hold_dates_and_tokens_like_elements() -> None:
    card = CardFields(number="d.n", exp_month="d.@month", exp_year="d.@year", month_format="MM")
    body = f'<d month="{TOKEN}" year="2030"><n>{TOKEN}</n></d>'
    assert _parts(_found(body, card, type_=XML)) == [
        (Part.MONTH_PADDED, TOKEN),
        (Part.NUMBER, TOKEN),
    ]


@pytest.mark.parametrize("number", ["1234", "XXXX1234", "XXXX"])
def test_last_four_pass_only_where_they_are_listed(number: str) -> None:
    listed = CardFields(number="n", number_forms=("last4",))
    found = _found(json.dumps({"n": number}), listed)
    assert found == (
        CallRefused(Refusal.TOKEN_UNKNOWN, "n") if number == "XXXX" else Slots((), frozenset([7]))
    )
    unlisted = _found(json.dumps({"n": number}), CardFields(number="n"))
    assert unlisted == CallRefused(Refusal.TOKEN_UNKNOWN, "n")


def test_so_many_cards_and_no_more() -> None:
    items = [{"n": token, "v": token} for token in TOKENS]
    assert len(_parts(_found(json.dumps({"c": items[:CARDS_MAX]}), LIST))) == 2 * CARDS_MAX
    found = _found(json.dumps({"c": items[: CARDS_MAX + 1]}), LIST)
    assert found == CallRefused(Refusal.TOO_MANY_CARDS, "body")
    same = [{"n": TOKEN}] * (CARDS_MAX + 1)
    assert len(_parts(_found(json.dumps({"c": same}), LIST))) == CARDS_MAX + 1


@pytest.mark.guards("T-28")
@pytest.mark.parametrize("value", [5, True, [TOKEN], {"a": TOKEN}, 1.5])
def test_a_number_field_holds_a_text(value: object) -> None:
    found = _found(json.dumps({"n": value}), CardFields(number="n"))
    if isinstance(value, list | dict):
        assert found == Slots((), frozenset())
    else:
        assert found == CallRefused(Refusal.TOKEN_UNKNOWN, "n")


@pytest.mark.parametrize("type_", [JSON, XML, FORM])
def test_declared_fields_are_told_whatever_they_hold(type_: str) -> None:
    body = {JSON: '{"n":""}', XML: "<n></n>", FORM: "n="}[type_]
    found = _found(body, CardFields(number="n"), type_=type_)
    assert isinstance(found, Slots)
    assert (found.slots, len(found.declared)) == ((), 1)
