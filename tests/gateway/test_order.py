import json
from dataclasses import replace
from urllib.parse import parse_qsl, quote, unquote, urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import preset
from gateway.call import REFUSALS, Call, CallRefused, Refusal, read_call
from gateway.order import (
    OpenedCard,
    Opens,
    Order,
    fill,
    pass_through_refusal,
    read_order,
)
from gateway.preset import JSON, CardFields, Operation, Preset
from gateway.slots import Part
from tests import cards
from vault.authorization import Kind
from vault.card import Expiry
from vault.errors import CvcExpired, ExpiryUnknown
from vault.pan import Cvc, Pan
from vault.tokens import pan_like_of, token_of

TOKEN = token_of("test", 4)
OTHER = token_of("test", 5)
LIVE = token_of("live", 6)
PAN_LIKE = pan_like_of(Pan.parse(cards.VISA), lambda bound: bound // 3)
GROUPS = [cards.VISA[at : at + 4] for at in range(0, 16, 4)]
STRIPE = preset.load("stripe")
FORM_TYPE = ("Content-Type", "application/x-www-form-urlencoded")
CARD = OpenedCard(TOKEN, Pan.parse(cards.VISA_ALT), Cvc.parse("737"), Expiry(2031, 3))

TWO_CARDS = Operation(
    name="two",
    method="POST",
    path="/two",
    content_types=(JSON,),
    kind=Kind.AUTHORIZE,
    cards=(
        CardFields(
            number="pay.number",
            exp_month="pay.month",
            exp_year="pay.year",
            cvc="pay.cvc",
            month_format="MM",
            year_format="YY",
            number_forms=("last4",),
        ),
        CardFields(number="other[0].number"),
    ),
    text=("note",),
    amount=("amount.value",),
    currency=("amount.currency",),
    merchant_reference=("note", "order"),
)


def _call(
    body: str | bytes,
    *,
    path: str = "/v1/payment_methods",
    query: str = "",
    headers: tuple[tuple[str, str], ...] = (FORM_TYPE,),
) -> Call:
    return Call("POST", path, query, headers, body.encode() if isinstance(body, str) else body)


def _asked(call: Call, preset: Preset = STRIPE) -> Order | CallRefused | None:
    """Ask for the order of a call; None for one that passes through."""
    read = read_call(preset, call)
    if isinstance(read, CallRefused):
        return read
    if read.operation is None:
        return pass_through_refusal(read)
    return read_order(read, read.operation, env="test")


def _read(body: str | bytes, path: str = "/v1/payment_methods") -> Order | CallRefused | None:
    return _asked(_call(body, path=path))


def _order(body: str | bytes, path: str = "/v1/payment_methods") -> Order:
    order = _read(body, path)
    assert isinstance(order, Order), order
    return order


def _refused(body: str | bytes, path: str = "/v1/payment_methods") -> tuple[str, str]:
    refused = _read(body, path)
    assert isinstance(refused, CallRefused)
    return refused.code.value, refused.field


def _json(document: object, operation: Operation = TWO_CARDS) -> Order | CallRefused | None:
    body = json.dumps(document).encode()
    call = Call("POST", "/two", "", (("content-type", "application/json; charset=UTF-8"),), body)
    return _asked(call, msgspec.structs.replace(STRIPE, operations=(operation,)))


# --- what is opened -----------------------------------------------------------------------


@pytest.mark.parametrize("field", ["card[number]", "card%5Bnumber%5D"])
def test_a_token_in_the_number_field_is_opened_there(field: str) -> None:
    body = f"type=card&{field}={TOKEN}&card[exp_month]=3&card[exp_year]=2031"
    order = _order(body)
    assert order.tokens == (TOKEN,)
    assert order.opens == (Opens("pan", TOKEN),)
    assert fill(order, {TOKEN: CARD}) == body.replace(TOKEN, cards.VISA_ALT).encode()


def test_every_part_of_a_card_is_opened_where_the_same_token_stands_for_it() -> None:
    body = f"card[cvc]={TOKEN}&card[exp_year]={TOKEN}&card[exp_month]={TOKEN}&card[number]={TOKEN}"
    order = _order(body)
    assert [slot.part for slot in order.slots] == [Part.CVC, Part.YEAR, Part.MONTH, Part.NUMBER]
    assert order.tokens == (TOKEN,)
    assert order.opens == (Opens("cvc", TOKEN), Opens("pan", TOKEN))
    expected = f"card[cvc]=737&card[exp_year]=2031&card[exp_month]=3&card[number]={cards.VISA_ALT}"
    assert fill(order, {TOKEN: CARD}) == expected.encode()


@pytest.mark.parametrize("stands_for_it", ["000", "0000", "%30%30%30"])
def test_zeros_beside_a_token_stand_for_the_stored_code(stands_for_it: str) -> None:
    order = _order(f"card[number]={TOKEN}&card[cvc]={stands_for_it}")
    assert order.opens == (Opens("pan", TOKEN), Opens("cvc", TOKEN))
    filled = fill(order, {TOKEN: CARD})
    assert filled == f"card[number]={cards.VISA_ALT}&card[cvc]=737".encode()


def test_without_a_stored_code_nothing_is_sent() -> None:
    order = _order(f"card[number]={TOKEN}&card[cvc]=000")
    without = OpenedCard(TOKEN, CARD.pan, None, CARD.expiry)
    with pytest.raises(CvcExpired):
        fill(order, {TOKEN: without})


@pytest.mark.parametrize("field", ["exp_month", "exp_year"])
def test_without_a_date_nothing_is_sent_where_one_is_asked_for(field: str) -> None:
    number_only = OpenedCard(TOKEN, CARD.pan, None, None)
    order = _order(f"card[number]={TOKEN}&card[{field}]={TOKEN}")
    assert order.dated == {TOKEN}
    with pytest.raises(ExpiryUnknown):
        fill(order, {TOKEN: number_only})

    sent_with_it = _order(f"card[number]={TOKEN}&card[{field}]=3")
    assert sent_with_it.dated == frozenset()
    assert cards.VISA_ALT.encode() in fill(sent_with_it, {TOKEN: number_only})


def test_a_token_of_digits_is_looked_up_under_its_own_text() -> None:
    order = _order(f"card[number]={PAN_LIKE}&card[cvc]={PAN_LIKE}")
    assert order.tokens == (PAN_LIKE,)
    filled = fill(order, {PAN_LIKE: CARD})
    assert filled == f"card[number]={cards.VISA_ALT}&card[cvc]=737".encode()


@pytest.mark.parametrize(
    "body",
    [
        "",
        "amount=100",
        "card[number]=&card[cvc]=&card[exp_month]=&card[exp_year]=",
        "card[exp_month]=12&card[exp_year]=30",
        "payment_method=pm_1",
    ],
)
def test_a_call_that_opens_nothing_is_an_order_too(body: str) -> None:
    order = _order(body)
    assert (order.slots, order.opens, order.tokens) == ((), (), ())
    assert fill(order, {}) == body.encode()


def test_several_cards_and_padded_dates_in_json() -> None:
    document = {
        "pay": {"number": TOKEN, "month": TOKEN, "year": TOKEN, "cvc": "000"},
        "other": [{"number": OTHER}],
    }
    order = _json(document)
    assert isinstance(order, Order)
    assert order.opens == (Opens("pan", TOKEN), Opens("cvc", TOKEN), Opens("pan", OTHER))
    second = OpenedCard(OTHER, Pan.parse(cards.AMEX), None, Expiry(2030, 12))
    assert json.loads(fill(order, {TOKEN: CARD, OTHER: second})) == {
        "pay": {"number": cards.VISA_ALT, "month": "03", "year": "31", "cvc": "737"},
        "other": [{"number": cards.AMEX}],
    }


@pytest.mark.parametrize("number", ["1234", None, ""])
def test_other_forms_that_are_listed_pass_as_they_are(number: str | None) -> None:
    order = _json({"pay": {"number": number, "cvc": None, "month": 3, "year": "30"}})
    assert isinstance(order, Order)
    assert order.slots == ()


# --- what is refused ----------------------------------------------------------------------


@pytest.mark.guards("T-28")
@pytest.mark.parametrize(
    "value",
    [
        LIVE,
        TOKEN[:-1] + ("0" if TOKEN[-1] != "0" else "1"),
        TOKEN.upper(),
        TOKEN[:-1],
        f"{TOKEN}{TOKEN}",
        f"{TOKEN}+{OTHER}",
        f"+{TOKEN}",
        "tok_visa",
        "%ff",
        "1234",
        "4" * 11,
        "4" * 20,
    ],
)
def test_a_number_field_takes_nothing_but_one_token(value: str) -> None:
    assert _refused(f"card[number]={value}") == ("token_unknown", "card[number]")


@pytest.mark.guards("T-12")
@pytest.mark.parametrize(
    "value",
    [
        cards.VISA,
        cards.VISA_13,
        cards.UNIONPAY_19,
        quote("{} {}-{}.{}".format(*GROUPS)),
        quote("".join(chr(0xFF10 + int(digit)) for digit in cards.VISA)),
        quote("{}\u00a0{}\u200b{}_{}".format(*GROUPS)),
        cards.luhn_completed("99" + "0" * 13),
    ],
)
def test_a_card_number_is_refused_by_its_own_code(value: str) -> None:
    assert _refused(f"card[number]={value}") == ("raw_card_number", "card[number]")


@pytest.mark.guards("T-12")
@pytest.mark.parametrize("number", [int(cards.VISA), int(PAN_LIKE)])
def test_so_is_one_that_is_a_json_number(number: int) -> None:
    refused = _json({"pay": {"number": number}})
    assert refused == CallRefused(Refusal.RAW_CARD_NUMBER, "pay.number")


@pytest.mark.parametrize(
    "value", ["737", "7373", "00", "00000", "0", "%zz", "x", "%D9%A0%D9%A0%D9%A0"]
)
def test_a_code_in_digits_is_refused(value: str) -> None:
    refused = _refused(f"card[number]={TOKEN}&card[cvc]={value}")
    assert refused == ("raw_cvc", "card[cvc]")


@pytest.mark.parametrize("number", ["", "card[number]=&"])
@pytest.mark.parametrize("value", ["000", "737"])
def test_zeros_beside_no_token_are_a_code(number: str, value: str) -> None:
    assert _refused(f"{number}card[cvc]={value}") == ("raw_cvc", "card[cvc]")


@pytest.mark.parametrize("field", ["cvc", "exp_month", "exp_year"])
@pytest.mark.parametrize("number", [f"card[number]={OTHER}&", ""])
def test_another_token_than_the_number_s_is_refused(field: str, number: str) -> None:
    refused = _refused(f"{number}card[{field}]={TOKEN}")
    assert refused == ("token_mismatch", f"card[{field}]")


@pytest.mark.parametrize("value", ["12345", "1a", cards.VISA, "%ff", "-1", "%D9%A1"])
@pytest.mark.parametrize("field", ["exp_month", "exp_year"])
def test_an_expiry_field_takes_a_few_digits(field: str, value: str) -> None:
    refused = _refused(f"card[number]={TOKEN}&card[{field}]={value}")
    assert refused == ("invalid_field", f"card[{field}]")


@pytest.mark.guards("T-11", "T-28")
@pytest.mark.parametrize("field", ["number", "cvc", "exp_month", "exp_year"])
def test_a_card_s_field_given_twice_is_refused(field: str) -> None:
    refused = _refused(f"card[{field}]={TOKEN}&a=1&card%5B{field}%5D={TOKEN}")
    assert refused == ("field_repeated", f"card[{field}]")


@pytest.mark.guards("T-11")
def test_so_is_one_whose_parent_is_given_twice() -> None:
    body = f'{{"pay":{{"number":"{TOKEN}"}},"pay":{{}}}}'.encode()
    call = Call("POST", "/two", "", (("content-type", JSON),), body)
    refused = _asked(call, msgspec.structs.replace(STRIPE, operations=(TWO_CARDS,)))
    assert refused == CallRefused(Refusal.FIELD_REPEATED, "pay.number")


def test_other_fields_may_be_given_twice() -> None:
    assert _order(f"expand[]=a&expand[]=b&card[number]={TOKEN}").tokens == (TOKEN,)


# --- tokens elsewhere ---------------------------------------------------------------------


@pytest.mark.guards("T-28", "T-41", "T-42")
@pytest.mark.parametrize(
    ("field", "named"),
    [
        ("billing_details[name]", "billing_details[name]"),
        ("card[number][]", "card[number][]"),
        ("card[token]", "card[token]"),
        ("payment_method_data[card][number]", "payment_method_data[card][number]"),
        ("return_url", "return_url"),
        ("metadata[a][b]", "metadata[a][b]"),
        (f"metadata[{TOKEN}]", "body"),
        ("", "body"),
    ],
)
@pytest.mark.parametrize("value", [TOKEN, f"see {LIVE}", f"https://x/?card={TOKEN}"])
def test_a_token_where_none_is_declared_is_refused_naming_the_field(
    field: str, named: str, value: str
) -> None:
    refused = _refused(f"card[number]={TOKEN}&{quote(field)}={quote(value)}")
    assert refused == ("token_undeclared", named)


@pytest.mark.guards("T-41", "T-42")
@pytest.mark.parametrize(
    "field", ["description", "metadata[order_id]", "statement_descriptor_suffix", "transfer_group"]
)
def test_a_token_in_a_text_field_stays_text(field: str) -> None:
    body = f"{field}=card+{OTHER}&card[number]={TOKEN}"
    order = _order(body)
    assert order.tokens == (TOKEN,)
    assert fill(order, {TOKEN: CARD}).startswith(f"{field}=card+{OTHER}&".encode())


@pytest.mark.guards("T-41", "T-42")
@pytest.mark.parametrize(
    ("call", "named"),
    [
        (_call("", path=f"/v1/{TOKEN}"), "path"),
        (_call("", query=f"a={TOKEN}"), "a"),
        (_call("", query=f"card[number]={TOKEN}"), "card[number]"),
        (_call("", headers=(("X-Card", TOKEN),)), "x-card"),
        (_call("", headers=(("Referer", f"https://shop/?t={TOKEN}"),)), "referer"),
    ],
)
def test_a_token_before_the_body_is_refused(call: Call, named: str) -> None:
    refused = CallRefused(Refusal.TOKEN_UNDECLARED, named)
    assert _asked(call) == refused
    assert _asked(replace(call, path=call.path.replace("payment_methods", "products"))) == refused


@pytest.mark.guards("T-12")
def test_the_rest_of_a_call_is_not_searched_for_card_numbers() -> None:
    order = _order(f"card[number]={TOKEN}&metadata[id]={cards.VISA}&order={PAN_LIKE}")
    assert order.tokens == (TOKEN,)


# --- content types ------------------------------------------------------------------------


@pytest.mark.guards("T-10")
@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("content-type", "application/json"),),
        (("content-type", "multipart/form-data; boundary=x"),),
        (("content-type", "application/x-www-form-urlencoded; charset=utf-16"),),
        (FORM_TYPE, FORM_TYPE),
    ],
)
def test_a_body_of_another_type_is_refused(headers: tuple[tuple[str, str], ...]) -> None:
    call = _call(f"card[number]={TOKEN}", headers=headers)
    refused = _asked(call)
    assert refused == CallRefused(Refusal.UNSUPPORTED, "content-type")
    assert isinstance(_asked(_call("", headers=headers)), Order)


@pytest.mark.parametrize("parameters", ["", ";charset=UTF-8", '; charset="utf-8"'])
def test_its_charset_may_be_given(parameters: str) -> None:
    headers = (("CONTENT-TYPE", f"Application/X-WWW-Form-Urlencoded {parameters}"),)
    call = _call(f"card[number]={TOKEN}", headers=headers)
    assert isinstance(_asked(call), Order)


def test_a_body_that_is_not_of_its_type_is_refused() -> None:
    assert _refused(f"%zz=1&card[number]={TOKEN}") == ("malformed_request", "body")


# --- calls of no operation ----------------------------------------------------------------


@pytest.mark.guards("T-28")
@pytest.mark.parametrize(
    ("headers", "body", "named"),
    [
        ((FORM_TYPE,), f"description={TOKEN}", "description"),
        ((FORM_TYPE,), f"a=%70{TOKEN[1:]}", "a"),
        ((FORM_TYPE,), f"%zz={TOKEN}", "body"),
        ((("content-type", JSON),), f'{{"a":{{"b":"{TOKEN}"}}}}', "a.b"),
        ((("content-type", JSON),), f'{{"a":"{TOKEN}"', "body"),
        ((("content-type", "multipart/form-data; boundary=x"),), f"--x\r\n\r\n{TOKEN}", "body"),
        ((), TOKEN, "body"),
    ],
)
def test_a_call_of_no_operation_has_no_token_anywhere(
    headers: tuple[tuple[str, str], ...], body: str, named: str
) -> None:
    call = _call(body, path="/v1/products", headers=headers)
    assert _asked(call) == CallRefused(Refusal.TOKEN_UNDECLARED, named)


@pytest.mark.parametrize("body", ["", "a=1", f"card={cards.VISA}&{PAN_LIKE}=1", "%zz"])
def test_without_one_it_passes(body: str) -> None:
    assert _asked(_call(body, path="/v1/products")) is None
    assert _asked(_call(body, path="/v1/products", headers=())) is None


# --- what is recorded ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "recorded"),
    [
        ("amount=1999&currency=eur&metadata[order_id]=o-1", (1999, "EUR", "o-1")),
        ("amount=0&currency=EUR&description=Two+shirts", (0, "EUR", "Two shirts")),
        ("amount=%ff&currency=%ff", (None, None, None)),
        ("amount=-1&currency=euro", (None, None, None)),
        ("amount=19.99&currency=e", (None, None, None)),
        (f"amount={cards.VISA}&currency=123", (None, None, None)),
        ("amount=999999999999", (999_999_999_999, None, None)),
        ("metadata[order_id]=&description=&transfer_group=g", (None, None, "g")),
        (f"description={'x' * 101}&transfer_group=g", (None, None, "g")),
        ("description=a%00b&transfer_group=g", (None, None, "g")),
        (f"description={cards.VISA}&transfer_group=g", (None, None, "g")),
        (f"metadata[order_id]=card+{quote(' '.join(GROUPS))}", (None, None, None)),
        (f"description={quote(chr(0xFF14))}", (None, None, None)),
        (f"description={quote('Gebühr')}", (None, None, "Gebühr")),
    ],
)
def test_amount_currency_and_reference_are_recorded_if_they_can_be(
    body: str, recorded: tuple[int | None, str | None, str | None]
) -> None:
    order = _order(body, "/v1/payment_intents")
    assert (order.amount, order.currency, order.merchant_reference) == recorded


def test_they_are_found_in_json_too() -> None:
    order = _json({"amount": {"value": 5, "currency": "usd"}, "note": None, "order": "o"})
    assert isinstance(order, Order)
    assert (order.amount, order.currency, order.merchant_reference) == (5, "USD", "o")


def test_the_identity_of_a_request_is_all_of_it_with_tokens_in_place() -> None:
    order = _order(f"card[number]={TOKEN}")
    same = order.identity("POST", "/v1/a", "b")
    assert same == _order(f"card[number]={TOKEN}").identity("POST", "/v1/a", "b")
    assert TOKEN.encode() in same
    others = {
        order.identity("PUT", "/v1/a", "b"),
        order.identity("POST", "/v1/ab", ""),
        order.identity("POST", "/v1/a", "bc"),
        _order(f"card[number]={OTHER}").identity("POST", "/v1/a", "b"),
    }
    assert len({same, *others}) == 5


# --- for any body -------------------------------------------------------------------------

_NAMES = st.sampled_from(
    [
        "card[number]",
        "card[cvc]",
        "card[exp_month]",
        "card[exp_year]",
        "description",
        "metadata[a]",
        "billing[name]",
        TOKEN,
        "x",
    ]
)
_VALUES = st.sampled_from(
    [TOKEN, OTHER, LIVE, PAN_LIKE, "000", "12", "", f"a {TOKEN}", cards.VISA, "free text"]
) | st.text(max_size=5)
_DECLARED = frozenset(STRIPE.candidates("POST", "/v1/payment_methods")[0].cards[0].fields())
_FREE = ("description", "metadata[a]")


@pytest.mark.guards("T-28", "T-41", "T-42")
@given(st.lists(st.tuples(_NAMES, _VALUES), max_size=6), st.sampled_from(["", "[]"]))
def test_whatever_the_body_cards_go_to_declared_fields_and_every_other_byte_stays(
    pairs: list[tuple[str, str]], literal: str
) -> None:
    body = urlencode(pairs, safe=literal, errors="replace")
    read = _read(body)
    assert read is not None
    if isinstance(read, CallRefused):
        assert read.code in REFUSALS
        assert TOKEN not in read.field
        return
    filled = bytes(fill(read, dict.fromkeys(read.tokens, CARD)))
    pieces = zip(body.encode().split(b"&"), filled.split(b"&"), strict=True)
    changed = [(old.partition(b"="), new.partition(b"=")) for old, new in pieces if old != new]
    for (old_name, _, _), (new_name, _, digits) in changed:
        assert old_name == new_name
        assert unquote(old_name.decode()) in _DECLARED
        assert digits.isdigit()
    for name, value in parse_qsl(filled.decode(), keep_blank_values=True):
        assert TOKEN not in value or name in _FREE
        assert LIVE not in value or name in _FREE


@given(st.binary(max_size=80))
def test_any_bytes_give_an_order_or_a_refusal(body: bytes) -> None:
    for content_type in (FORM_TYPE[1], JSON, "application/xml", "text/csv", "application/x-ndjson"):
        operation = msgspec.structs.replace(TWO_CARDS, content_types=(content_type,))
        preset_ = msgspec.structs.replace(STRIPE, operations=(operation,))
        call = _call(body, path="/two", headers=(("content-type", content_type),))
        assert isinstance(_asked(call, preset_), Order | CallRefused)
    assert isinstance(_asked(_call(body, path="/v1/products")), CallRefused | None)


def test_every_refusal_has_words_and_a_status() -> None:
    assert set(REFUSALS) == set(Refusal)
    assert {status for status, _ in REFUSALS.values()} == {400, 415, 422}


def test_an_order_prints_nothing_of_its_body() -> None:
    order = _order(f"card[number]={TOKEN}&a=secret")
    assert "secret" not in repr(order)
    assert "secret" not in repr(_call("a=secret"))
    assert cards.VISA_ALT not in repr(CARD)
    assert "737" not in repr(CARD)
