"""Logins in bodies, what is refused whatever the operation, and tokens hidden between fields."""

import json
from collections.abc import Callable
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.call import Call, CallRefused, ReadCall, Refusal, read_call
from gateway.codecs.splice import BOM, splice
from gateway.order import OpenedCard, Order, fill, login_slots, pass_through_refusal, read_order
from gateway.preset import Preset
from tests import cards
from tests.gateway.preset_bodies import PRESETS
from vault.card import Expiry
from vault.pan import Cvc, Pan
from vault.tokens import token_of

TOKEN = token_of("test", 4)
CARD = OpenedCard(TOKEN, Pan.parse(cards.VISA_ALT), Cvc.parse("737"), Expiry(2031, 3))
ANET, BRAINTREE, CYBERSOURCE, WPG = (
    PRESETS[name] for name in ("authorize_net", "braintree", "cybersource", "worldpay_wpg")
)
REQUEST = "/xml/v1/request.api"
JSON, XML = "application/json", "application/xml"
NAMESPACE = "{AnetApi/xml/v1/schema/AnetApiSchema.xsd}"


def _asked(
    preset: Preset, path: str, body: str | bytes, type_: str
) -> Order | CallRefused | ReadCall:
    data = body.encode() if isinstance(body, str) else body
    read = read_call(preset, Call("POST", path, "", (("Content-Type", type_),), data))
    if isinstance(read, CallRefused):
        return read
    if read.operation is None:
        return pass_through_refusal(read) or read
    return read_order(read, read.operation, env="test")


def _order(body: str | bytes, type_: str, preset: Preset = ANET, path: str = REQUEST) -> Order:
    order = _asked(preset, path, body, type_)
    assert isinstance(order, Order), order
    return order


def _xml(
    name: str, key: str, number: str = TOKEN, *, root: str = "createTransactionRequest"
) -> str:
    return (
        f'<?xml version="1.0"?><{root} xmlns="AnetApi/xml/v1/schema/AnetApiSchema.xsd">'
        f"<merchantAuthentication><name>{name}</name><transactionKey>{key}</transactionKey>"
        "</merchantAuthentication><transactionRequest><transactionType>authOnlyTransaction"
        f"</transactionType><payment><creditCard><cardNumber>{number}</cardNumber></creditCard>"
        f"</payment></transactionRequest></{root}>"
    )


def _json(name: str, key: str, number: str = TOKEN) -> str:
    transaction = {
        "transactionType": "authOnlyTransaction",
        "payment": {"creditCard": {"cardNumber": number}},
    }
    return json.dumps(
        {
            "createTransactionRequest": {
                "merchantAuthentication": {"name": name, "transactionKey": key},
                "transactionRequest": transaction,
            }
        }
    )


# --- logins -------------------------------------------------------------------------------

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), min_size=1)


@given(TEXTS, TEXTS)
def test_a_login_in_xml_becomes_the_processor_s_and_nothing_else_changes(
    user: str, key: str
) -> None:
    order = _order(_xml("ours", "our-key"), XML)
    filled = bytes(fill(order, {TOKEN: CARD}, {"user": user, "api_key": key}))
    root = ET.fromstring(filled)  # noqa: S314 - made above
    login = root[0]
    assert [each.text for each in login] == [user, key]
    assert root.findtext(f".//{NAMESPACE}cardNumber") == cards.VISA_ALT
    start, end = filled.index(b"</merchantAuthentication>"), len(filled)
    expected = _xml("", "", cards.VISA_ALT).encode()
    assert filled[start:end] == expected[expected.index(b"</merchantAuthentication>") :]


@given(TEXTS, TEXTS)
def test_one_in_json_too(user: str, key: str) -> None:
    order = _order(BOM + _json("ours", "our-key").encode(), JSON)
    filled = bytes(fill(order, {TOKEN: CARD}, {"user": user, "api_key": key}))
    assert filled.startswith(BOM)
    assert json.loads(filled.removeprefix(BOM)) == json.loads(_json(user, key, cards.VISA_ALT))


@pytest.mark.parametrize("inside", ["plain", "a&b", "a]]>b", "<![CDATA["])
def test_a_login_within_cdata_is_written_as_it_is_there(inside: str) -> None:
    order = _order(_xml("<![CDATA[ours]]>", "<![CDATA[our&key]]>"), XML)
    filled = bytes(fill(order, {TOKEN: CARD}, {"user": inside, "api_key": inside}))
    root = ET.fromstring(filled)  # noqa: S314 - made above
    assert [each.text for each in root[0]] == [inside, inside]


def test_without_a_login_given_the_merchant_s_own_stays() -> None:
    body = _xml("merchant", "merchant-key")
    order = _order(body, XML)
    assert fill(order, {TOKEN: CARD}) == body.replace(TOKEN, cards.VISA_ALT).encode()


@pytest.mark.parametrize(("type_", "write"), [(XML, _xml), (JSON, _json)])
def test_a_payment_is_the_same_under_another_login(type_: str, write: Callable[..., str]) -> None:
    one, other, paid = (
        _order(body, type_).identity("POST", REQUEST, "")
        for body in (
            write("ours", "our-key"),
            write("another-name", "k"),
            write("ours", "our-key", token_of("test", 5)),
        )
    )
    assert one == other
    assert one != paid
    assert b"our-key" not in one


def test_a_call_that_only_passes_gets_the_login_too() -> None:
    body = _xml("ours", "our-key", root="getTransactionDetailsRequest").replace(TOKEN, "")
    read = _asked(ANET, REQUEST, body, XML)
    assert isinstance(read, ReadCall)
    login = login_slots(read).put({"user": "a", "api_key": "b"})
    expected = _xml("a", "b", "", root="getTransactionDetailsRequest")
    assert splice(body.encode(), login) == expected.encode()


def test_a_login_is_never_shown() -> None:
    order = _order(_xml("s3cr3t-name", "s3cr3t-key"), XML)
    assert "s3cr3t" not in repr(order)
    assert "s3cr3t" not in repr(order.login)


# --- what must not be sent at all ---------------------------------------------------------


@pytest.mark.parametrize(
    ("inside", "refused"),
    [('{"encryptedRequest": "eyJ"}', True), ('{"encryptedRequest": ""}', False),
     ('{"encryptedRequest": null}', False), ('{"a": "encryptedRequest"}', False)],
)  # fmt: skip
def test_a_body_that_cannot_be_looked_into_is_refused(inside: str, *, refused: bool) -> None:
    asked = _asked(CYBERSOURCE, "/pts/v2/payments", inside, JSON)
    expected = CallRefused(Refusal.FIELD_REFUSED, "encryptedRequest")
    assert (asked == expected) is refused


@pytest.mark.parametrize("track", ["track1", "track2"])
def test_a_magnetic_stripe_holds_a_number_and_is_refused(track: str) -> None:
    payment = {"trackData": {track: f";{cards.VISA}=3012"}}
    document = {"createTransactionRequest": {"transactionRequest": {"payment": payment}}}
    asked = _asked(ANET, REQUEST, json.dumps(document), JSON)
    assert isinstance(asked, CallRefused)
    assert (asked.code, asked.field) == (
        Refusal.FIELD_REFUSED,
        f"*.transactionRequest.payment.trackData.{track}",
    )


# --- text, amounts, in names that fold ----------------------------------------------------


@pytest.mark.guards("T-41", "T-42")
@pytest.mark.parametrize("name", ["order_id", "order-id", "orderId"])
def test_a_text_field_is_one_however_it_is_spelled(name: str) -> None:
    body = (
        f"<transaction><{name}>see {TOKEN}</{name}><amount>19.99</amount><currency-iso-code>EUR"
        f"</currency-iso-code><credit-card><number>{TOKEN}</number></credit-card></transaction>"
    )
    order = _order(body, XML, BRAINTREE, "/merchants/shop/transactions")
    assert (order.amount, order.currency) == (1999, "EUR")
    filled = fill(order, {TOKEN: CARD}).decode()
    assert f"<{name}>see {TOKEN}</{name}>" in filled
    assert f"<number>{cards.VISA_ALT}</number>" in filled


@pytest.mark.parametrize("name", ["order_idx", "orderid2", "order.id"])
def test_another_name_is_no_text(name: str) -> None:
    body = f"<transaction><{name}>{TOKEN}</{name}></transaction>"
    asked = _asked(BRAINTREE, "/merchants/shop/transactions", body, XML)
    assert isinstance(asked, CallRefused)
    assert asked.code is Refusal.TOKEN_UNDECLARED


@pytest.mark.parametrize(
    ("amount", "currency", "units"),
    [
        ("19.99", "EUR", 1999),
        ("19.9", "eur", 1990),
        ("20", "USD", 2000),
        ("20", "JPY", 20),
        ("1.234", "KWD", 1234),
        ("1.5", "JPY", None),
        ("19.999", "EUR", None),
        ("-1.00", "EUR", None),
        ("1e3", "EUR", None),
        ("19,99", "EUR", None),
        ("19.99", "EURO", None),
        (cards.VISA, "EUR", None),
    ],
)
def test_an_amount_in_major_units_is_recorded_in_minor_ones(
    amount: str, currency: str, units: int | None
) -> None:
    document = {
        "orderInformation": {"amountDetails": {"totalAmount": amount, "currency": currency}}
    }
    order = _order(json.dumps(document), JSON, CYBERSOURCE, "/pts/v2/payments")
    assert order.amount == units


def test_worldpay_s_amount_and_reference_are_attributes() -> None:
    body = (
        '<!DOCTYPE paymentService PUBLIC "-//WorldPay//DTD" "http://dtd.worldpay.com/x.dtd">'
        '<paymentService><submit><order orderCode="order-1"><amount currencyCode="GBP" '
        f'value="1000"/><paymentDetails><VISA-SSL><cardNumber>{TOKEN}</cardNumber><expiryDate>'
        f'<date month="{TOKEN}" year="{TOKEN}"/></expiryDate></VISA-SSL></paymentDetails></order>'
        "</submit></paymentService>"
    )
    order = _order(body, "text/xml", WPG, "/jsp/merchant/xml/paymentService.jsp")
    assert (order.amount, order.currency, order.merchant_reference) == (1000, "GBP", "order-1")
    expected = body.replace(f'month="{TOKEN}" year="{TOKEN}"', 'month="03" year="2031"')
    assert fill(order, {TOKEN: CARD}) == expected.replace(TOKEN, cards.VISA_ALT).encode()


# --- between the fields -------------------------------------------------------------------


@pytest.mark.guards("T-28", "T-41", "T-42")
@pytest.mark.parametrize(
    "hidden",
    [
        f"<!-- {TOKEN} -->",
        f"<?x {TOKEN}?>",
        f"<x><![CDATA[{TOKEN}]]></x>",
        f'<x y="{TOKEN}"/>',
        f'<x xmlns:y="{TOKEN}"/>',
        f"<{TOKEN}/>",
        "<x>" + TOKEN.replace("_", "&#95;") + "</x>",
        f"<x>{TOKEN}<y/></x>",
    ],
)
@pytest.mark.parametrize("where", ["before", "inside", "after"])
def test_a_token_that_hides_in_xml_is_refused(hidden: str, where: str) -> None:
    if where != "inside" and not hidden.startswith(("<!--", "<?")):
        where = "inside"
    body = _xml("a", "b").partition("?>")[2]
    body = {
        "before": hidden + body,
        "inside": body.replace("<transactionRequest>", f"{hidden}<transactionRequest>"),
        "after": body + hidden,
    }[where]
    asked = _asked(ANET, REQUEST, body, XML)
    assert isinstance(asked, CallRefused)
    assert asked.code is Refusal.TOKEN_UNDECLARED
    assert TOKEN not in asked.field


@pytest.mark.guards("T-28", "T-41", "T-42")
@pytest.mark.parametrize(
    "body",
    [
        f'{{"{TOKEN}": 1}}',
        '{{"a": "{}"}}'.format(TOKEN.replace("_", "\\u005f")),
        '{{"{}": 1}}'.format(TOKEN.replace("_", "\\u005f")),
        f'{{"a": ["x", {{"b": "see {TOKEN}"}}]}}',
    ],
)
@pytest.mark.parametrize("path", ["/v72/payments", "/v72/anything"])
def test_one_that_hides_in_json_too(body: str, path: str) -> None:
    asked = _asked(PRESETS["adyen"], path, body, JSON)
    assert isinstance(asked, CallRefused)
    assert asked.code is Refusal.TOKEN_UNDECLARED


@pytest.mark.guards("T-10", "T-28")
@pytest.mark.parametrize(
    ("before", "name", "content", "after"),
    [
        ("", "note", TOKEN, ""),
        ("", "file", TOKEN, ""),
        ("", TOKEN, "x", ""),
        (f"{TOKEN}\r\n", "note", "x", ""),
        ("", "note", "x", f"\r\n{TOKEN}"),
    ],
)
def test_one_in_a_multipart_upload_too(before: str, name: str, content: str, after: str) -> None:
    file = '; filename="a.bin"' if name == "file" else ""
    body = (
        f'{before}--x\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n{content}\r\n'
        f"--x--\r\n{after}"
    )
    asked = _asked(PRESETS["stripe"], "/v1/files", body, "multipart/form-data; boundary=x")
    assert isinstance(asked, CallRefused)
    assert asked.code is Refusal.TOKEN_UNDECLARED


@pytest.mark.guards("T-28")
@pytest.mark.parametrize(
    "query",
    [
        f'mutation {{ tokenizeCreditCard(input: {{note: "{TOKEN}"}}) {{ x }} }}',
        f"mutation {{ tokenizeCreditCard(input: {{}}) {{ x }} }} # {TOKEN}",
        f'mutation ($a: S = "{TOKEN}") {{ tokenizeCreditCard(input: {{}}) {{ x }} }}',
        f'mutation {{ tokenizeCreditCard(input: {{creditCard: {{cvv: "{TOKEN}"}}}}) {{ x }} }}',
    ],
)
def test_one_in_a_query_s_text_too(query: str) -> None:
    asked = _asked(BRAINTREE, "/graphql", json.dumps({"query": query}), JSON)
    assert isinstance(asked, CallRefused)
    assert asked.code in {Refusal.TOKEN_UNDECLARED, Refusal.TOKEN_MISMATCH}


@pytest.mark.parametrize("bom", [b"", BOM])
def test_a_byte_order_mark_stays_where_it_was(bom: bytes) -> None:
    for body, type_ in ((_xml("a", "b"), XML), (_json("a", "b"), JSON)):
        order = _order(bom + body.encode(), type_)
        expected = body.replace(TOKEN, cards.VISA_ALT).encode()
        assert fill(order, {TOKEN: CARD}) == bom + expected
