"""The simulated Braintree on the wire: credentials, XML and JSON, what it finds and keeps."""

import json
from xml.etree import ElementTree as ET

import pytest

from gateway.sandbox.books import Counts
from gateway.sandbox.wire import WireAnswer, WireCall
from tests.cards import VISA_ALT
from tests.gateway.sandbox.test_braintree import (
    HEADERS,
    MERCHANT,
    TOKEN,
    Shop,
    basic,
    card,
    transaction,
)


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": basic("public_1", "private_2")},
        {"authorization": basic("private_1", "public_1")},
        {"authorization": "Bearer private_1"},
        {"authorization": "Basic *"},
        {"authorization": ""},
    ],
)
def test_refuses_keys_that_are_nobodys(shop: Shop, headers: dict[str, str]) -> None:
    assert shop.ask("POST", "/transactions", transaction(), **headers).status == 401
    assert shop.counts == Counts()


def test_says_whose_call_it_is_and_keeps_merchants_apart(shop: Shop) -> None:
    second = {"authorization": basic("public_2", "private_2")}
    path = f"/transactions/{shop.sale()['id']}"
    assert shop.ask("GET", path).status == 200
    assert shop.ask("GET", path, **second).status == 404
    call = WireCall("GET", path, "", HEADERS | second, b"")
    assert shop.braintree.account_of(call) == "acct_2"


def test_refuses_a_call_without_its_version(shop: Shop) -> None:
    assert shop.ask("POST", "/transactions", transaction(), x_apiversion="").status == 426


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/transactions"),
        ("POST", "/transactions/none/void"),
        ("PUT", "/transactions/none/void"),
        ("PUT", "/transactions/none/melt"),
        ("GET", "/transactions/none"),
        ("GET", "/verifications/none"),
        ("GET", "/payment_methods/credit_card/none"),
        ("DELETE", "/customers/none"),
        ("GET", "/"),
        ("GET", ""),
    ],
)
def test_no_such_call(shop: Shop, method: str, path: str) -> None:
    answer = shop.ask(method, path)
    assert answer.status == 404
    assert b"none" not in answer.body


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{"),
        ("application/json", b"[]"),
        ("application/json", b'{"a":"\\ud800"}'),
        ("application/xml", b"<transaction>"),
        ("application/xml", b"<!DOCTYPE t [<!ENTITY a 'b'>]><transaction>&a;</transaction>"),
        ("application/xml", b"\xff"),
        ("application/x-www-form-urlencoded", b"a=b"),
    ],
)
def test_refuses_what_it_cannot_read(shop: Shop, content_type: str, body: bytes) -> None:
    headers = HEADERS | {"content-type": content_type}
    call = WireCall("POST", f"{MERCHANT}/transactions", "", headers, body)
    assert shop.braintree.answered(call).status == 400
    assert shop.braintree.numbers_in(call) == ()


XML_SALE = f"""<?xml version="1.0"?>
<transaction>
  <type>sale</type><amount>10.00</amount><order-id>a &amp; b</order-id>
  <credit-card><number>{VISA_ALT}</number><expirationMonth>12</expirationMonth>
    <expiration_year>34</expiration_year></credit-card>
  <options><submit-for-settlement type="boolean">true</submit-for-settlement></options>
</transaction>""".encode()


def parsed(answer: WireAnswer) -> ET.Element:
    return ET.fromstring(answer.body)  # noqa: S314 - our own


def test_speaks_xml(shop: Shop) -> None:
    headers = HEADERS | {"content-type": "application/xml; charset=utf-8"}
    call = WireCall("POST", f"{MERCHANT}/transactions", "", headers, XML_SALE)
    assert shop.braintree.numbers_in(call) == (VISA_ALT,)
    answer = shop.braintree.answered(call)
    assert (answer.status, answer.content_type) == (201, "application/xml; charset=utf-8")
    root = parsed(answer)
    assert root.tag == "transaction"
    assert root.findtext("status") == "submitted_for_settlement"
    assert root.findtext("order-id") == "a & b"
    assert root.findtext("processor-response-code") == "1000"
    assert root.findtext("credit-card/expiration-year") == "2034"
    assert [event.tag for event in root.iterfind("status-history/*")] == ["status-event"] * 2
    assert root.findtext("created-at[@type='datetime']") == "2031-05-15T12:00:00Z"
    assert root.find("settlement-batch-id[@nil='true']") is not None
    assert VISA_ALT.encode() not in answer.body


def test_answers_in_what_is_accepted(shop: Shop) -> None:
    answer = shop.ask("POST", "/transactions", transaction("2000.00"), accept="application/xml")
    root = parsed(answer)
    assert root.tag == "api-error-response"
    assert root.findtext("transaction/status") == "processor_declined"
    errors = root.find("errors/errors")
    assert errors is not None
    assert errors.get("type") == "array"
    wrong = shop.ask("POST", "/transactions", transaction("0"), accept="application/xml")
    found = parsed(wrong).findtext("errors/transaction/errors/error/code")
    assert found == "81531"


def test_finds_every_number_field(shop: Shop) -> None:
    body = json.dumps(
        {"customer": {"credit_card": {"number": TOKEN}, "list": [{"number": VISA_ALT}]}}
    ).encode()
    call = WireCall("POST", f"{MERCHANT}/customers", "", HEADERS, body)
    assert shop.braintree.numbers_in(call) == (TOKEN, VISA_ALT)


def test_no_number_is_shown_or_kept(shop: Shop) -> None:
    sale = shop.sale(options={"store_in_vault": True})
    shop.post("/customers", {"customer": {"id": "c1", "credit_card": card()}})
    kept = repr(shop.braintree._books)
    assert sale["id"] in kept
    assert VISA_ALT not in kept + json.dumps(sale)


def test_fails_as_asked(shop: Shop) -> None:
    answer = shop.braintree.failure(503)
    assert (answer.status, answer.executed) == (503, False)
