"""The simulated Authorize.Net on the wire: credentials, XML and JSON, what it finds and keeps."""

import json
from xml.etree import ElementTree as ET

import pytest

from gateway.sandbox.books import Counts
from gateway.sandbox.wire import WireAnswer
from tests.cards import VISA_ALT
from tests.gateway.sandbox.test_authorize_net import (
    BOM,
    JSON,
    TOKEN,
    Shop,
    asked,
    call,
    error_in,
)

NAMESPACE = "AnetApi/xml/v1/schema/AnetApiSchema.xsd"
XML = {"content-type": "application/xml"}


@pytest.fixture
def shop() -> Shop:
    return Shop()


XML_SALE = f"""<?xml version="1.0" encoding="utf-8"?>
<createTransactionRequest xmlns="{NAMESPACE}">
  <merchantAuthentication><name>login_1</name><transactionKey>transaction_key1</transactionKey>
  </merchantAuthentication><clientId>sdk</clientId><refId>a &amp; b</refId>
  <transactionRequest><transactionType>authCaptureTransaction</transactionType><amount>5</amount>
    <payment><creditCard><cardNumber>{VISA_ALT}</cardNumber><expirationDate>1234</expirationDate>
    </creditCard></payment></transactionRequest>
</createTransactionRequest>"""


def parsed(answer: WireAnswer) -> ET.Element:
    assert answer.body.startswith(BOM + b'<?xml version="1.0" encoding="utf-8"?>')
    assert answer.content_type == "application/xml; charset=utf-8"
    return ET.fromstring(answer.body.decode("utf-8-sig"))  # noqa: S314 - our own


def in_order(element: ET.Element) -> list[str]:
    return [child.tag.removeprefix(f"{{{NAMESPACE}}}") for child in element]


@pytest.mark.parametrize("content_type", ["application/xml", "text/xml; charset=utf-8"])
@pytest.mark.parametrize("head", [b"", BOM], ids=["plain", "bom"])
def test_speaks_xml(shop: Shop, content_type: str, head: bytes) -> None:
    sent = call(head + XML_SALE.encode(), {"content-type": content_type})
    assert shop.processor.account_of(sent) == "acct_1"
    assert shop.processor.numbers_in(sent) == (VISA_ALT,)
    answer = shop.processor.answered(sent)
    root = parsed(answer)
    assert root.tag == f"{{{NAMESPACE}}}createTransactionResponse"
    assert in_order(root) == ["refId", "messages", "transactionResponse"]
    names = {"a": NAMESPACE}
    assert root.findtext("a:refId", namespaces=names) == "a & b"
    assert root.findtext("a:transactionResponse/a:responseCode", namespaces=names) == "1"
    path = "a:transactionResponse/a:messages/a:message/a:code"
    assert root.findtext(path, namespaces=names) == "1"
    assert VISA_ALT.encode() not in answer.body


def test_json_has_no_root_and_its_messages_last(shop: Shop) -> None:
    told = shop.ask("createTransactionRequest", asked("voidTransaction", refTransId="1"))
    assert list(told) == ["transactionResponse", "refId", "messages"]


@pytest.mark.parametrize(
    "login",
    [
        {"name": "login_1", "transactionKey": "transaction_key2"},
        {"name": "transaction_key1", "transactionKey": "login_1"},
        {},
    ],
)
def test_refuses_credentials_that_are_nobodys(shop: Shop, login: dict[str, str]) -> None:
    document = {"authenticateTestRequest": {"merchantAuthentication": login}}
    sent = call(json.dumps(document).encode())
    assert shop.processor.account_of(sent) is None
    answer = shop.processor.answered(sent)
    told = json.loads(answer.body.decode("utf-8-sig"))
    assert (answer.status, error_in(told)[0]) == (200, "E00007")


def test_tells_whether_credentials_are_good(shop: Shop) -> None:
    told = shop.ask("authenticateTestRequest", {})
    assert told["messages"]["resultCode"] == "Ok"
    assert error_in(told) == ("I00001", "Successful.")


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (b"", JSON, "E00003"),
        (b"{", JSON, "E00003"),
        (b"[]", JSON, "E00003"),
        (b'{"a":"\\ud800"}', JSON, "E00003"),
        (b'{"a":{},"b":{}}', JSON, "E00003"),
        (b'{"deleteEverythingRequest":{}}', JSON, "E00004"),
        (b"<a>", XML, "E00003"),
        (b"\xff", XML, "E00003"),
        (b"<authenticateTestRequest/>", XML, "E00003"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]>" + XML_SALE.encode()[39:], XML, "E00003"),
        (XML_SALE.encode(), {"content-type": "text/plain"}, "E00002"),
        (XML_SALE.encode(), {}, "E00002"),
    ],
    ids=range(12),
)
def test_refuses_what_it_cannot_read(
    shop: Shop, body: bytes, headers: dict[str, str], code: str
) -> None:
    answer = shop.processor.answered(call(body, headers))
    assert answer.status == 200
    assert answer.body.startswith(BOM)
    assert f"{code}".encode() in answer.body
    assert b"ErrorResponse" in answer.body or headers == JSON
    assert shop.counts == Counts()


def test_takes_posts_only(shop: Shop) -> None:
    answer = shop.processor.answered(call(XML_SALE.encode(), XML, "GET"))
    assert b"E00003" in answer.body


def test_finds_every_number_field(shop: Shop) -> None:
    payment = {"creditCard": {"cardNumber": TOKEN}}
    profiles = [{"payment": payment}, {"payment": {"creditCard": {"cardNumber": VISA_ALT}}}]
    document = {"createCustomerProfileRequest": {"profile": {"paymentProfiles": profiles}}}
    assert shop.processor.numbers_in(call(json.dumps(document).encode())) == (TOKEN, VISA_ALT)
    assert shop.processor.numbers_in(call(b"{")) == ()


def test_no_number_is_shown_or_kept(shop: Shop) -> None:
    response = shop.pay(number=VISA_ALT)
    kept = repr(shop.processor._books)
    assert response["transId"] in kept
    assert VISA_ALT not in kept + json.dumps(response)


def test_fails_as_asked(shop: Shop) -> None:
    answer = shop.processor.failure(500)
    assert (answer.status, answer.executed) == (500, False)
    assert b"E00001" in answer.body
