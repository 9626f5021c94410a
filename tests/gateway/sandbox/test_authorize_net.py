"""The simulated Authorize.Net: transactions in XML and in JSON, without a network."""

import itertools
import json
from datetime import timedelta
from typing import Any

import pytest

from gateway.sandbox.authorize_net import AuthorizeNet
from gateway.sandbox.books import Counts
from gateway.sandbox.wire import SandboxCredential, Simulated, WireCall
from tests.cards import (
    AMEX,
    DISCOVER,
    MASTERCARD,
    UNIONPAY_19,
    VISA,
    VISA_13,
    VISA_ALT,
    luhn_broken,
    luhn_completed,
)
from tests.gateway.sandbox.harness import Clock

TOKEN = "pwt_test_0123456789abcdefghjkmnpqrstv"
PAN_LIKE = luhn_broken("991111111111111")
BOM = b"\xef\xbb\xbf"
URL = "/xml/v1/request.api"
JSON = {"content-type": "application/json"}
ACCOUNTS = {
    "acct_1": SandboxCredential(api_key="transaction_key1", user="login_1", secret=""),
    "acct_2": SandboxCredential(api_key="transaction_key2", user="login_2", secret=""),
}


class Shop:
    """A merchant that speaks JSON."""

    def __init__(self) -> None:
        ids = itertools.count(1)
        self.clock = Clock()
        self.counts = Counts()
        self.processor = AuthorizeNet(
            ACCOUNTS,
            new_id=lambda prefix: f"{prefix}{next(ids)}",
            now=self.clock,
            counts=self.counts,
        )

    def ask(self, request: str, fields: dict[str, Any], *, account: int = 1) -> dict[str, Any]:
        login = {"name": f"login_{account}", "transactionKey": f"transaction_key{account}"}
        document = {request: {"merchantAuthentication": login, "refId": "ref"} | fields}
        answer = self.processor.answered(call(json.dumps(document).encode()))
        assert answer.status == 200
        assert answer.content_type == "application/json; charset=utf-8"
        assert answer.body.startswith(BOM)
        told = json.loads(answer.body[len(BOM) :])
        assert isinstance(told, dict)
        return told

    def transact(self, type_: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
        told = self.ask("createTransactionRequest", asked(type_, **fields))
        assert told["refId"] == "ref"
        return told["transactionResponse"]  # type: ignore[no-any-return]

    def pay(self, amount: str = "10.00", number: str = VISA_ALT, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
        return self.transact(
            "authCaptureTransaction", amount=amount, payment=card(number), **fields
        )

    def refused(self, request: str, fields: dict[str, Any]) -> tuple[str, str]:
        told = self.ask(request, fields)
        assert "transactionResponse" not in told
        assert told["messages"]["resultCode"] == "Error"
        return error_in(told)

    def details(self, id_: str) -> dict[str, Any]:
        told = self.ask("getTransactionDetailsRequest", {"transId": id_})
        return told["transaction"]  # type: ignore[no-any-return]


def call(body: bytes, headers: dict[str, str] = JSON, method: str = "POST") -> WireCall:
    return WireCall(method, URL, "", headers, body)


def asked(type_: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
    return {"transactionRequest": {"transactionType": type_} | fields}


def card(number: str = VISA_ALT, **others: str) -> dict[str, Any]:
    code = "1234" if number == AMEX else "123"
    fields = {"cardNumber": number, "expirationDate": "2034-12", "cardCode": code}
    return {"creditCard": fields | others}


def error_in(told: dict[str, Any]) -> tuple[str, str]:
    message = told["messages"]["message"][0]
    return message["code"], message["text"]


def reason(response: dict[str, Any]) -> tuple[str, str]:
    """Return the response code and the reason's."""
    for error in response.get("errors", ()):
        return response["responseCode"], error["errorCode"]
    return response["responseCode"], response["messages"][0]["code"]


@pytest.fixture
def shop() -> Shop:
    return Shop()


def test_is_one_of_the_simulated(shop: Shop) -> None:
    simulated: Simulated = shop.processor
    assert simulated.name == "authorize_net"
    assert simulated.takes(URL)
    assert not simulated.takes("/xml/v1")
    assert simulated.idempotency_key(call(b"")) is None


# --- decisions ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "card_type"),
    [
        (VISA, "Visa"),
        (VISA_13, "Visa"),
        (luhn_completed("400700000002"), "Visa"),
        (MASTERCARD, "MasterCard"),
        (AMEX, "AmericanExpress"),
        (DISCOVER, "Discover"),
    ],
    ids=["visa", "visa_13", "published_13", "mastercard", "amex", "discover"],
)
def test_approves(shop: Shop, number: str, card_type: str) -> None:
    response = shop.pay(number=number)
    assert reason(response) == ("1", "1")
    assert response["accountNumber"] == f"XXXX{number[-4:]}"
    assert response["accountType"] == card_type
    assert len(response["authCode"]) == 6
    assert len(response["transId"]) == 11
    assert (shop.counts.charges, shop.counts.declines) == (1, 0)


def test_declines_by_zip(shop: Shop) -> None:
    response = shop.pay(billTo={"zip": "46282"})
    assert reason(response) == ("2", "2")
    assert response["authCode"] == ""
    assert shop.details(response["transId"])["transactionStatus"] == "declined"
    assert (shop.counts.charges, shop.counts.declines) == (0, 1)


@pytest.mark.parametrize(
    ("amount", "told"),
    [
        ("2.00", ("2", "2")),
        ("8.00", ("3", "8")),
        ("252.00", ("4", "252")),
        ("193", ("4", "193")),
        ("252.01", ("1", "1")),
        ("77", ("1", "1")),
    ],
)
def test_the_published_number_gives_the_reason_its_amount_names(
    shop: Shop, amount: str, told: tuple[str, str]
) -> None:
    assert reason(shop.pay(amount, VISA_13)) == told


@pytest.mark.parametrize(
    ("zip_", "code", "told"),
    [("46203", "901", ("E", "N")), ("12345", "900", ("Y", "M")), ("", "123", ("P", "P"))],
)
def test_zip_and_code_set_the_other_answers(
    shop: Shop, zip_: str, code: str, told: tuple[str, str]
) -> None:
    response = shop.transact(
        "authOnlyTransaction",
        amount="1.00",
        payment=card(cardCode=code),
        billTo={"zip": zip_},
    )
    assert (response["avsResultCode"], response["cvvResultCode"]) == told


@pytest.mark.parametrize("number", [TOKEN, UNIONPAY_19, "111"], ids=["token", "19", "short"])
def test_a_number_off_the_schema_is_refused_without_repeating_it(shop: Shop, number: str) -> None:
    fields = asked("authCaptureTransaction", amount="1.00", payment=card(number))
    code, text = shop.refused("createTransactionRequest", fields)
    assert code == "E00003"
    assert "AnetApiSchema.xsd:cardNumber' element is invalid" in text
    assert number not in text
    assert shop.counts == Counts()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"payment": card(PAN_LIKE)}, "6"),
        ({"payment": card("pwt_token")}, "6"),
        ({"payment": card("1111")}, "6"),
        ({"payment": card(expirationDate="13/30")}, "7"),
        ({"payment": card(expirationDate="2031-04")}, "8"),
        ({"amount": "0"}, "5"),
        ({"payment": {"bankAccount": {}}}, "33"),
        ({"payment": {}}, "33"),
    ],
)
def test_what_no_issuer_is_asked_about_is_an_error(
    shop: Shop, fields: dict[str, Any], told: str
) -> None:
    sent = {"amount": "1.00", "payment": card()} | fields
    answer = shop.ask("createTransactionRequest", asked("authCaptureTransaction", **sent))
    assert error_in(answer) == ("E00027", "The transaction was unsuccessful.")
    response = answer["transactionResponse"]
    assert reason(response) == ("3", told)
    assert (response["transId"], response["accountNumber"]) == ("0", "")
    assert shop.counts == Counts()


@pytest.mark.parametrize("expiry", ["2031-05", "0531", "05/31", "05-2031", "052031"])
def test_reads_a_date_in_each_of_its_forms(shop: Shop, expiry: str) -> None:
    response = shop.transact(
        "authOnlyTransaction", amount="1.00", payment=card(expirationDate=expiry)
    )
    assert reason(response) == ("1", "1")


# --- duplicates ---------------------------------------------------------------------------


def test_the_same_charge_within_two_minutes_is_a_duplicate(shop: Shop) -> None:
    assert reason(shop.pay()) == ("1", "1")
    shop.clock.advance(timedelta(seconds=119))
    assert reason(shop.pay()) == ("3", "11")
    shop.clock.advance(timedelta(seconds=1))
    assert reason(shop.pay()) == ("1", "1")
    assert shop.counts.charges == 2


@pytest.mark.parametrize(
    "other",
    [{"amount": "10.01"}, {"number": MASTERCARD}, {"order": {"invoiceNumber": "i2"}}],
    ids=["amount", "card", "invoice"],
)
def test_another_charge_is_no_duplicate(shop: Shop, other: dict[str, Any]) -> None:
    shop.pay()
    assert reason(shop.pay(**other)) == ("1", "1")


@pytest.mark.parametrize(("seconds", "told"), [("0", ("1", "1")), ("600", ("3", "11"))])
def test_the_window_can_be_set(shop: Shop, seconds: str, told: tuple[str, str]) -> None:
    setting = {"settingName": "duplicateWindow", "settingValue": seconds}
    shop.pay()
    shop.clock.advance(timedelta(seconds=300))
    assert reason(shop.pay(transactionSettings={"setting": [setting]})) == told


# --- a transaction's life -----------------------------------------------------------------


def test_authorizes_then_captures_less(shop: Shop) -> None:
    made = shop.transact("authOnlyTransaction", amount="10.00", payment=card())["transId"]
    assert shop.details(made)["transactionStatus"] == "authorizedPendingCapture"
    later = {"refTransId": made}
    assert reason(shop.transact("priorAuthCaptureTransaction", amount="10.01", **later))[1] == "47"
    captured = shop.transact("priorAuthCaptureTransaction", amount="8.00", **later)
    assert (reason(captured), captured["transId"]) == (("1", "1"), made)
    assert reason(shop.transact("priorAuthCaptureTransaction", **later)) == ("1", "311")
    assert shop.details(made)["settleAmount"] == 8.0
    assert shop.counts.captures == 1


def test_captures_what_was_authorized_elsewhere(shop: Shop) -> None:
    sent = {"amount": "5.00", "payment": card()}
    assert reason(shop.transact("captureOnlyTransaction", **sent)) == ("3", "12")
    assert reason(shop.transact("captureOnlyTransaction", **sent, authCode="A1B2C3"))[0] == "1"


def test_voids_once_and_not_what_was_declined(shop: Shop) -> None:
    made = shop.pay()["transId"]
    assert reason(shop.transact("voidTransaction", refTransId=made)) == ("1", "1")
    assert reason(shop.transact("voidTransaction", refTransId=made)) == ("1", "310")
    declined = shop.pay(billTo={"zip": "46282"}, amount="3")["transId"]
    assert reason(shop.transact("voidTransaction", refTransId=declined)) == ("3", "16")
    assert reason(shop.transact("priorAuthCaptureTransaction", refTransId=made)) == ("3", "16")
    assert reason(shop.transact("voidTransaction", refTransId="1")) == ("3", "16")
    assert shop.counts.cancels == 1


def test_refunds_in_parts_by_the_last_four(shop: Shop) -> None:
    made = shop.pay("10.00")["transId"]
    last_four = {"creditCard": {"cardNumber": VISA_ALT[-4:], "expirationDate": "XXXX"}}

    def refund(amount: str, payment: dict[str, Any] = last_four) -> tuple[str, str]:
        sent = {"amount": amount, "payment": payment, "refTransId": made}
        return reason(shop.transact("refundTransaction", **sent))

    assert refund("4.00") == ("1", "1")
    assert refund("6.01") == ("3", "55")
    assert refund("1.00", card(MASTERCARD)) == ("3", "54")
    assert (
        refund("1.00", {"creditCard": {"cardNumber": "9999", "expirationDate": "XXXX"}})[1] == "54"
    )
    assert refund("1.00", {}) == ("3", "33")
    assert refund("6.00", card()) == ("1", "1")
    assert shop.counts.refunds == 2


def test_refunds_a_card_that_was_not_charged_and_nothing_that_was_not_captured(shop: Shop) -> None:
    sent = {"amount": "4.00", "payment": card()}
    assert reason(shop.transact("refundTransaction", **sent)) == ("1", "1")
    held = shop.transact("authOnlyTransaction", **sent)["transId"]
    assert reason(shop.transact("refundTransaction", **sent, refTransId=held)) == ("3", "54")
    last_four = {"creditCard": {"cardNumber": "1111", "expirationDate": "XXXX"}}
    assert reason(shop.transact("refundTransaction", amount="1", payment=last_four)) == ("3", "6")


def test_a_refund_names_its_charge(shop: Shop) -> None:
    made = shop.pay("10.00", order={"invoiceNumber": "i1", "description": "shoes"})
    refund = shop.transact(
        "refundTransaction", amount="1.00", payment=card(), refTransId=made["transId"]
    )
    assert refund["refTransID"] == made["transId"]
    assert shop.details(refund["transId"])["refTransId"] == made["transId"]
    details = shop.details(made["transId"])
    assert details["order"] == {"invoiceNumber": "i1", "description": "shoes"}
    assert (details["responseCode"], details["authAmount"]) == (1, 10.0)
    assert details["payment"]["creditCard"]["cardNumber"] == f"XXXX{VISA_ALT[-4:]}"


def test_no_details_of_what_is_not_there_or_anothers(shop: Shop) -> None:
    made = {"transId": shop.pay()["transId"]}
    told = shop.ask("getTransactionDetailsRequest", made, account=2)
    assert error_in(told) == ("E00040", "The record cannot be found.")
    assert shop.refused("getTransactionDetailsRequest", {"transId": "1"})[0] == "E00040"


def test_own_fields_come_back(shop: Shop) -> None:
    fields = [{"name": "a", "value": TOKEN}, {"name": "b", "value": "<&>"}]
    assert shop.pay(userFields={"userField": fields})["userFields"] == fields
