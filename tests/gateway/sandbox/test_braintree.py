"""The simulated Braintree's REST calls, in XML and in JSON, without a network."""

import base64
import itertools
import json
from typing import Any

import pytest

from gateway.sandbox.books import Counts
from gateway.sandbox.braintree import Braintree
from gateway.sandbox.wire import SandboxCredential, Simulated, WireAnswer, WireCall
from tests.cards import AMEX, DISCOVER, MASTERCARD, VISA, VISA_ALT, luhn_broken, luhn_completed
from tests.gateway.sandbox.harness import Clock, case_name

TOKEN = "pwt_test_0123456789abcdefghjkmnpqrstv"
PAN_LIKE = luhn_broken("991111111111111")
FAILS_VERIFICATION = luhn_completed("4000" + "1" * 11)
ACCOUNTS = {
    "acct_1": SandboxCredential(api_key="private_1", user="public_1", secret=""),
    "acct_2": SandboxCredential(api_key="private_2", user="public_2", secret=""),
}
MERCHANT = "/merchants/merchant_1"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


HEADERS = {
    "authorization": basic("public_1", "private_1"),
    "x-apiversion": "6",
    "content-type": "application/json",
}


class Shop:
    """A merchant that speaks JSON."""

    def __init__(self) -> None:
        ids = itertools.count(1)
        self.clock = Clock()
        self.counts = Counts()
        self.braintree = Braintree(
            ACCOUNTS,
            new_id=lambda prefix: f"{prefix}{next(ids)}",
            now=self.clock,
            counts=self.counts,
        )

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> WireAnswer:
        sent = b"" if body is None else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.braintree.answered(WireCall(method, MERCHANT + path, "", HEADERS | named, sent))

    def post(self, path: str, body: object = None, status: int = 201) -> dict[str, Any]:
        return told(self.ask("POST", path, body), status)

    def put(self, path: str, body: object = None, status: int = 200) -> dict[str, Any]:
        return told(self.ask("PUT", path, body), status)

    def get(self, path: str, status: int = 200) -> dict[str, Any]:
        return told(self.ask("GET", path), status)

    def sale(self, amount: str = "10.00", **others: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
        body = transaction(amount, **others)
        return self.post("/transactions", body)["transaction"]  # type: ignore[no-any-return]

    def refusal(self, path: str, body: object, method: str = "POST") -> tuple[str, str]:
        """Return the attribute and the code of the one error."""
        answer = told(self.ask(method, path, body), 422)["api_error_response"]
        assert "transaction" not in answer
        return found_error(answer["errors"])


def told(answer: WireAnswer, status: int) -> dict[str, Any]:
    assert answer.status == status, answer.body
    body = json.loads(answer.body)
    assert isinstance(body, dict)
    return body


def found_error(tree: dict[str, Any]) -> tuple[str, str]:
    for error in tree["errors"]:
        return error["attribute"], error["code"]
    (inner,) = [value for name, value in tree.items() if name != "errors"]
    return found_error(inner)


def card(number: str = VISA_ALT, **others: str) -> dict[str, Any]:
    cvv = "1234" if number == AMEX else "123"
    return {"number": number, "expiration_date": "12/2034", "cvv": cvv} | others


def transaction(amount: str = "10.00", **others: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
    fields = {"type": "sale", "amount": amount, "credit_card": card()}
    return {"transaction": fields | others}


@pytest.fixture
def shop() -> Shop:
    return Shop()


def test_is_one_of_the_simulated(shop: Shop) -> None:
    simulated: Simulated = shop.braintree
    assert simulated.name == "braintree"
    assert simulated.takes("/merchants/x/transactions")
    assert simulated.takes("/graphql")
    assert not simulated.takes("/v1/charges")
    assert not simulated.takes("/graphql/x")


# --- decisions ----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [VISA_ALT, MASTERCARD, AMEX, DISCOVER], ids=case_name)
def test_approves(shop: Shop, number: str) -> None:
    sale = shop.sale(credit_card=card(number))
    assert (sale["status"], sale["processor_response_code"]) == ("authorized", "1000")
    assert len(sale["processor_authorization_code"]) == 6
    assert sale["credit_card"]["last_4"] == number[-4:]
    assert (shop.counts.charges, shop.counts.declines) == (1, 0)


@pytest.mark.parametrize(
    ("amount", "status", "code", "message"),
    [
        ("2000.00", "processor_declined", "2000", "Do Not Honor"),
        ("2001", "processor_declined", "2001", "Insufficient Funds"),
        ("2999.99", "processor_declined", "2999", "Processor Declined"),
        ("3000.00", "failed", "3000", "Processor Network Unavailable - Try Again"),
        ("5001.00", "gateway_rejected", None, "Gateway Rejected: application_incomplete"),
    ],
)
def test_declines_by_amount(
    shop: Shop, amount: str, status: str, code: str | None, message: str
) -> None:
    answer = shop.post("/transactions", transaction(amount), 422)["api_error_response"]
    assert answer["message"] == message
    assert answer["transaction"]["status"] == status
    assert answer["transaction"]["processor_response_code"] == code
    assert answer["transaction"]["processor_authorization_code"] is None
    assert (shop.counts.charges, shop.counts.declines) == (0, 1)
    assert (
        shop.get(f"/transactions/{answer['transaction']['id']}")["transaction"]["status"] == status
    )


@pytest.mark.parametrize("amount", ["1999.99", "3001.00", "5001.01"])
def test_approves_beside_the_amounts_that_decline(shop: Shop, amount: str) -> None:
    assert shop.sale(amount)["status"] == "authorized"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (TOKEN, "81716"),
        (PAN_LIKE, "81715"),
        ("1111", "81716"),
        (VISA_ALT[:-1] + "٢", "81715"),
        (f"{VISA_ALT[:-1]}2", "81715"),
        (VISA, "81717"),
        ("", "81714"),
    ],
    ids=["token", "pan_like", "last_four", "arabic_digit", "not_luhn", "no_test_number", "empty"],
)
@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("/transactions", "transaction"),
        ("/customers", "customer"),
        ("/verifications", "verification"),
    ],
)
def test_takes_nothing_but_a_test_card_number(
    shop: Shop, path: str, root: str, number: str, code: str
) -> None:
    body = {root: {"type": "sale", "amount": "1.00", "credit_card": card(number)}}
    assert shop.refusal(path, body) == ("number", code)
    answer = shop.ask("POST", path, body)
    assert not number or number.encode() not in answer.body
    assert shop.counts == Counts()


@pytest.mark.parametrize(
    ("fields", "attribute", "code"),
    [
        ({"type": ""}, "type", "91524"),
        ({"type": "theft"}, "type", "91523"),
        ({"amount": ""}, "amount", "81502"),
        ({"amount": "1.005"}, "amount", "81503"),
        ({"amount": "-1"}, "amount", "81503"),
        ({"amount": "0.00"}, "amount", "81531"),
        ({"credit_card": {}}, "base", "91508"),
        ({"credit_card": None, "payment_method_token": "none"}, "payment_method_token", "91518"),
        ({"credit_card": None, "payment_method_nonce": "none"}, "payment_method_nonce", "91565"),
        ({"credit_card": card(expiration_date="")}, "expiration_date", "81709"),
        ({"credit_card": card(expiration_date="13/2030")}, "expiration_date", "81710"),
        ({"credit_card": card(expiration_date="122030")}, "expiration_date", "81710"),
        (
            {"credit_card": {"number": VISA_ALT, "expiration_month": "0", "expiration_year": "30"}},
            "expiration_month",
            "81712",
        ),
        (
            {"credit_card": {"number": VISA_ALT, "expiration_month": "1", "expiration_year": "9"}},
            "expiration_year",
            "81713",
        ),
        ({"credit_card": card(cvv="12")}, "cvv", "81707"),
        ({"credit_card": card(AMEX, cvv="123")}, "cvv", "81707"),
    ],
)
def test_refuses_what_is_not_valid(
    shop: Shop, fields: dict[str, Any], attribute: str, code: str
) -> None:
    assert shop.refusal("/transactions", transaction(**fields)) == (attribute, code)


@pytest.mark.parametrize(("cvv", "answer"), [("200", "N"), ("201", "U"), ("301", "S"), ("", "I")])
def test_the_code_sets_its_answer(shop: Shop, cvv: str, answer: str) -> None:
    assert shop.sale(credit_card=card(cvv=cvv))["cvv_response_code"] == answer


# --- a transaction's life -----------------------------------------------------------------


def test_settles_less_and_then_refunds_in_parts(shop: Shop) -> None:
    path = f"/transactions/{shop.sale('10.00')['id']}"
    assert shop.refusal(f"{path}/refund", None) == ("base", "91506")
    too_much = {"transaction": {"amount": "10.01"}}
    assert shop.refusal(f"{path}/submit_for_settlement", too_much, "PUT") == ("amount", "91522")
    less = {"transaction": {"amount": "8.00"}}
    settled = shop.put(f"{path}/submit_for_settlement", less)["transaction"]
    assert (settled["status"], settled["amount"]) == ("submitted_for_settlement", "8.00")
    assert shop.refusal(f"{path}/submit_for_settlement", None, "PUT") == ("base", "91507")
    assert shop.put(f"{path}/settle")["transaction"]["status"] == "settled"
    part = shop.post(f"{path}/refund", {"transaction": {"amount": "3.00"}})["transaction"]
    assert (part["type"], part["amount"]) == ("credit", "3.00")
    assert shop.refusal(f"{path}/refund", {"transaction": {"amount": "5.01"}}) == (
        "amount",
        "91521",
    )
    rest = shop.post(f"{path}/refund")["transaction"]
    assert rest["amount"] == "5.00"
    assert shop.refusal(f"{path}/refund", None) == ("base", "91512")
    assert shop.refusal(f"/transactions/{rest['id']}/refund", None) == ("base", "91505")
    assert shop.get(path)["transaction"]["refund_ids"] == [part["id"], rest["id"]]
    assert (shop.counts.captures, shop.counts.refunds) == (1, 2)


def test_a_part_settles_as_a_transaction_of_its_own(shop: Shop) -> None:
    sale = shop.sale("10.00")
    path = f"/transactions/{sale['id']}/submit_for_partial_settlement"
    first = shop.post(path, {"transaction": {"amount": "4.00"}})["transaction"]
    assert first["authorized_transaction_id"] == sale["id"]
    assert first["status"] == "submitted_for_settlement"
    assert shop.refusal(path, {"transaction": {"amount": "6.01"}}) == ("amount", "91522")
    assert shop.refusal(path, None) == ("amount", "81502")
    shop.post(path, {"transaction": {"amount": "6.00"}})
    parent = shop.get(f"/transactions/{sale['id']}")["transaction"]
    assert parent["status"] == "settlement_pending"
    assert len(parent["partial_settlement_transaction_ids"]) == 2
    assert (shop.counts.charges, shop.counts.captures) == (1, 2)


def test_voids_once_and_not_what_is_settled(shop: Shop) -> None:
    path = f"/transactions/{shop.sale()['id']}"
    assert shop.put(f"{path}/void")["transaction"]["status"] == "voided"
    assert shop.refusal(f"{path}/void", None, "PUT") == ("base", "91504")
    assert shop.refusal(f"{path}/settle", None, "PUT") == ("base", "91575")
    part = f"{path}/submit_for_partial_settlement"
    assert shop.refusal(part, {"transaction": {"amount": "1"}}) == ("base", "915103")
    history = shop.get(path)["transaction"]["status_history"]
    assert [event["status"] for event in history] == ["authorized", "voided"]
    assert shop.counts.cancels == 1


def test_a_call_that_comes_twice_is_carried_out_twice(shop: Shop) -> None:
    call = WireCall(
        "POST", "/merchants/m/transactions", "", HEADERS | {"idempotency-key": "k"}, b""
    )
    assert shop.braintree.idempotency_key(call) is None
    assert shop.sale()["id"] != shop.sale()["id"]
    assert shop.counts.charges == 2


def test_credits_a_card(shop: Shop) -> None:
    credit = shop.sale("5.00", type="credit")
    assert (credit["type"], credit["status"]) == ("credit", "submitted_for_settlement")
    shop.post("/transactions", transaction("2000.00", type="credit"), 422)
    assert (shop.counts.refunds, shop.counts.declines, shop.counts.charges) == (1, 1, 0)


# --- storing ------------------------------------------------------------------------------


def test_stores_a_customer_with_a_card_and_charges_it(shop: Shop) -> None:
    sent = {"customer": {"id": "c1", "first_name": "Ada", "credit_card": card()}}
    customer = shop.post("/customers", sent)["customer"]
    assert customer["first_name"] == "Ada"
    token = customer["credit_cards"][0]["token"]
    sale = shop.sale(credit_card=None, payment_method_token=token)
    assert sale["credit_card"]["token"] == token
    assert shop.refusal("/customers", sent) == ("id", "91609")
    assert shop.get("/customers/c1")["customer"]["credit_cards"][0]["last_4"] == VISA_ALT[-4:]
    assert shop.get(f"/payment_methods/any/{token}")["credit_card"]["customer_id"] == "c1"


@pytest.mark.parametrize("path", ["/payment_methods", "/payment_methods/credit_card"])
@pytest.mark.parametrize("root", ["credit_card", "payment_method"])
def test_stores_a_card_for_a_customer(shop: Shop, path: str, root: str) -> None:
    shop.post("/customers", {"customer": {"id": "c1"}})
    stored = shop.post(path, {root: {"customer_id": "c1"} | card(MASTERCARD)})["credit_card"]
    assert stored["card_type"] == "MasterCard"
    assert shop.get("/customers/c1")["customer"]["credit_cards"][0]["token"] == stored["token"]
    assert shop.refusal(path, {root: card()}) == ("customer_id", "91704")
    assert shop.refusal(path, {root: card(customer_id="none")}) == ("customer_id", "91705")
    assert shop.refusal(path, {root: card(TOKEN, customer_id="c1")}) == ("number", "81716")


def test_stores_what_was_charged_if_asked_to(shop: Shop) -> None:
    wanted = {"store_in_vault_on_success": True, "submit_for_settlement": True}
    sale = shop.sale(options=wanted)
    assert sale["status"] == "submitted_for_settlement"
    assert shop.sale(credit_card=None, payment_method_token=sale["credit_card"]["token"])
    assert shop.sale()["credit_card"]["token"] is None


def test_verifies_by_number(shop: Shop) -> None:
    verified = shop.post("/verifications", {"verification": {"credit_card": card()}})
    id_ = verified["verification"]["id"]
    assert shop.get(f"/verifications/{id_}")["verification"]["status"] == "verified"
    refused = {"verification": {"credit_card": card(FAILS_VERIFICATION)}}
    answer = shop.post("/verifications", refused, 422)["api_error_response"]
    assert answer["verification"]["status"] == "processor_declined"
    assert answer["verification"]["processor_response_code"] == "2000"
    assert shop.sale(credit_card=card(FAILS_VERIFICATION))["status"] == "authorized"


def test_a_card_that_fails_its_verification_is_not_stored(shop: Shop) -> None:
    asked = card(FAILS_VERIFICATION) | {"options": {"verify_card": True}}
    answer = shop.post("/customers", {"customer": {"id": "c1", "credit_card": asked}}, 422)
    assert answer["api_error_response"]["verification"]["status"] == "processor_declined"
    shop.get("/customers/c1", 404)


def test_gives_a_client_token(shop: Shop) -> None:
    value = shop.post("/client_token")["client_token"]["value"]
    assert json.loads(base64.b64decode(value))["version"] == 2
