"""Over all presets: a card goes to where its preset says, and every other byte stays."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.call import Call, CallRefused, ReadCall, Refusal, read_call
from gateway.codecs.splice import BOM, Format, Replacement, splice
from gateway.order import OpenedCard, Order, fill, read_order
from gateway.preset import CardFields
from tests import cards
from tests.gateway.preset_bodies import Case, cases
from vault.card import Expiry
from vault.pan import Cvc, Pan
from vault.tokens import pan_like_of, token_of

TOKEN = token_of("test", 4)
PAN_LIKE = pan_like_of(Pan.parse(cards.VISA), lambda bound: bound // 3)
CARD = OpenedCard(TOKEN, Pan.parse(cards.VISA_ALT), Cvc.parse("737"), Expiry(2031, 3))
CASES = cases()
EXPIRIES = {
    "YYYY-MM": "2031-03",
    "MM/YYYY": "03/2031",
    "MM/YY": "03/31",
    "MMYY": "0331",
    "MMYYYY": "032031",
}


def _real(card: CardFields) -> dict[str, str]:
    return {
        "number": cards.VISA_ALT,
        "cvc": "737",
        "exp_month": "03" if card.month_format == "MM" else "3",
        "exp_year": "2031" if card.year_format == "YYYY" else "31",
        "expiry": EXPIRIES[card.expiry_format],
    }


def _read(case: Case, call: Call) -> ReadCall:
    read = read_call(case.preset, call)
    assert isinstance(read, ReadCall), read
    assert read.operation is case.operation
    return read


@dataclass(frozen=True, slots=True)
class Sent:
    """What stands in each of a card's fields, and what should once it is filled."""

    before: Mapping[str, str]
    after: Mapping[str, str]
    more: Mapping[str, str]
    bom: bytes

    def bodies(self, case: Case) -> tuple[bytes, bytes]:
        """The body as it is sent, and built with the card in the places of the tokens."""
        before, after = (case.body(card, self.more) for card in (self.before, self.after))
        return self.bom + before, self.bom + after


@st.composite
def _sent(draw: st.DrawFn, case: Case) -> Sent:
    token = draw(st.sampled_from([TOKEN, PAN_LIKE]))
    real = _real(case.card)
    before, after = {"number": token}, {"number": real["number"]}
    for part in ("cvc", "exp_month", "exp_year", "expiry"):
        if getattr(case.card, part) is None:
            continue
        stands = [token, "000", "0000"] if part == "cvc" else [token, "12", "2030", ""]
        text = draw(st.sampled_from([None, *stands]))
        if text is not None:
            before[part] = text
            after[part] = real[part] if text == token or part == "cvc" else text
    text = draw(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"])))
    bom = BOM if case.format is not Format.FORM and draw(st.booleans()) else b""
    return Sent(before, after, {case.beside: text}, bom)


def _parses(case: Case, body: bytes) -> bool:
    """Whether a reader that is none of ours takes it."""
    body = body.removeprefix(BOM)
    if case.format is Format.FORM:
        return bool(parse_qsl(body.decode(), strict_parsing=True, keep_blank_values=True))
    if case.format is Format.XML:
        return ET.fromstring(body) is not None  # noqa: S314 - made above
    return isinstance(json.loads(body), dict)


@pytest.mark.guards("T-11", "T-28", "T-40")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@settings(max_examples=20)
@given(data=st.data())
def test_a_card_stands_where_its_preset_says_and_nowhere_else(
    case: Case, data: st.DataObject
) -> None:
    sent = data.draw(_sent(case))
    body, expected = sent.bodies(case)
    read = _read(case, case.call(body))
    order = read_order(read, case.operation, env="test")
    assert isinstance(order, Order), order
    (token,) = order.tokens
    filled = bytes(fill(order, {token: CARD}))
    assert filled == expected
    assert _parses(case, filled)
    assert (filled.count(cards.VISA_ALT.encode()), filled.count(token.encode())) == (1, 0)
    assert _put_back(case, filled, order) == body


def _put_back(case: Case, filled: bytes, order: Order) -> bytes:
    """Find each field again in what was filled, and write what had stood there."""
    places = [(slot.start, slot.end) for slot in order.slots]
    before = _read(case, case.call(order.body)).document.fields
    after = _read(case, case.call(filled)).document.fields
    pairs = zip(before, after, strict=True)
    return bytes(
        splice(
            filled,
            [
                Replacement(now.start, now.end, order.body[old.start : old.end])
                for old, now in pairs
                if (old.start, old.end) in places
            ],
        )
    )


@pytest.mark.guards("T-12")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_number_and_a_code_in_the_clear_are_refused_by_every_preset(case: Case) -> None:
    for card, code in (
        ({"number": cards.VISA}, Refusal.RAW_CARD_NUMBER),
        ({"number": TOKEN, "cvc": "737"}, Refusal.RAW_CVC),
    ):
        if "cvc" in card and case.card.cvc is None:
            continue
        refused = read_order(_read(case, case.call(case.body(card))), case.operation, env="test")
        assert isinstance(refused, CallRefused)
        assert refused.code is code
        assert cards.VISA not in refused.field


@pytest.mark.guards("T-28", "T-41")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_token_beside_the_declared_fields_is_refused_by_every_preset(case: Case) -> None:
    body = case.body({"number": TOKEN}, {case.beside: f"see {TOKEN}"})
    refused = read_order(_read(case, case.call(body)), case.operation, env="test")
    assert isinstance(refused, CallRefused)
    assert (refused.code, refused.field.endswith("note")) == (Refusal.TOKEN_UNDECLARED, True)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_a_wildcard_stands_for_can_be_the_same_in_all_of_a_card_s_selectors(
    case: Case,
) -> None:
    """Otherwise no code and no date beside the number would ever be its own."""
    assert len({each.count("*") for each in case.card.fields()}) == 1


def test_every_operation_with_a_card_has_a_case() -> None:
    covered = {(case.preset.name, case.operation.name, case.card) for case in CASES}
    assert covered == {
        (case.preset.name, operation.name, card)
        for case in CASES
        for operation in case.preset.operations
        for card in operation.cards
    }
    assert len({case.name for case in CASES}) == len(CASES)
