"""The simulated Braintree's GraphQL, without a network."""

import base64
import itertools
import json
from typing import Any

import pytest

from gateway.sandbox.books import Counts
from gateway.sandbox.braintree import Braintree
from gateway.sandbox.wire import SandboxCredential, WireCall
from tests.cards import AMEX, VISA_ALT, luhn_completed
from tests.gateway.sandbox.harness import Clock

TOKEN = "pwt_test_0123456789abcdefghjkmnpqrstv"
ACCOUNT = SandboxCredential(api_key="private_1", user="public_1", secret="")
HEADERS = {
    "authorization": "Basic " + base64.b64encode(b"public_1:private_1").decode(),
    "braintree-version": "2018-09-10",
    "content-type": "application/json",
}
TOKENIZE = """mutation Store($input: TokenizeCreditCardInput!) {
  tokenizeCreditCard(input: $input) {
    clientMutationId
    paymentMethod { id usage details { __typename ... on CreditCardDetails { last4 brandCode } } }
  }
}"""
CHARGE = """mutation($input: ChargePaymentMethodInput!) {
  chargePaymentMethod(input: $input) {
    transaction {
      id legacyId status orderId amount { value currencyCode }
      statusHistory {
        __typename status
        ... on ProcessorDeclinedEvent { declineType processorResponse { legacyCode message } }
        ... on GatewayRejectedEvent { gatewayRejectionReason }
      }
    }
  }
}"""


class Shop:
    """A merchant that speaks GraphQL."""

    def __init__(self) -> None:
        ids = itertools.count(1)
        self.counts = Counts()
        self.braintree = Braintree(
            {"acct_1": ACCOUNT},
            new_id=lambda prefix: f"{prefix}{next(ids)}",
            now=Clock(),
            counts=self.counts,
        )

    def answer(self, query: str, input_: object = None, **headers: str) -> dict[str, Any]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        call = WireCall("POST", "/graphql", "", HEADERS | named, body(query, input_))
        answer = self.braintree.answered(call)
        assert answer.status == 200
        assert answer.content_type.startswith("application/json")
        told = json.loads(answer.body)
        assert told["extensions"]["requestId"]
        assert isinstance(told, dict)
        return told

    def data(self, query: str, input_: object = None) -> dict[str, Any]:
        told = self.answer(query, input_)
        assert "errors" not in told, told
        (inside,) = told["data"].values()
        assert isinstance(inside, dict)
        return inside

    def error(self, query: str, input_: object = None, **headers: str) -> dict[str, Any]:
        (error,) = self.answer(query, input_, **headers)["errors"]
        return error["extensions"] | {"message": error["message"]}  # type: ignore[no-any-return]

    def tokenized(self, number: str = VISA_ALT) -> str:
        asked = {"creditCard": card(number)}
        return self.data(TOKENIZE, asked)["paymentMethod"]["id"]  # type: ignore[no-any-return]

    def rest(self, method: str, path: str, fields: object = None) -> int:
        headers = HEADERS | {"x-apiversion": "6"}
        sent = b"" if fields is None else json.dumps(fields).encode()
        return self.braintree.answered(WireCall(method, path, "", headers, sent)).status


def body(query: str, input_: object = None) -> bytes:
    return json.dumps({"query": query, "variables": {"input": input_}}).encode()


def card(number: str = VISA_ALT) -> dict[str, str]:
    cvv = "1234" if number == AMEX else "123"
    return {"number": number, "expirationMonth": "12", "expirationYear": "2034", "cvv": cvv}


def sale(method: str, amount: str = "10.00") -> dict[str, Any]:
    return {"paymentMethodId": method, "transaction": {"amount": amount, "orderId": "o1"}}


@pytest.fixture
def shop() -> Shop:
    return Shop()


def test_pings(shop: Shop) -> None:
    assert shop.answer("{ ping }")["data"] == {"ping": "pong"}


def test_a_card_is_tokenized_and_charged_once(shop: Shop) -> None:
    stored = shop.data(TOKENIZE, {"clientMutationId": "m1", "creditCard": card()})
    method = stored["paymentMethod"]
    assert stored["clientMutationId"] == "m1"
    assert method["usage"] == "SINGLE_USE"
    assert method["details"] == {
        "__typename": "CreditCardDetails",
        "last4": VISA_ALT[-4:],
        "brandCode": "VISA",
    }
    made = shop.data(CHARGE, sale(method["id"]))["transaction"]
    assert (made["status"], made["orderId"]) == ("SUBMITTED_FOR_SETTLEMENT", "o1")
    assert made["amount"] == {"value": "10.00", "currencyCode": "USD"}
    again = shop.error(CHARGE, sale(method["id"]))
    assert (again["errorClass"], again["legacyCode"]) == ("VALIDATION", "91564")
    assert shop.counts.charges == 1


def test_takes_a_literal_as_it_takes_a_variable(shop: Shop) -> None:
    literal = (
        'mutation { tokenizeCreditCard(input: {creditCard: {number: "%s",'
        ' expirationMonth: "12", expirationYear: "2034"}}) { paymentMethod { id } } }'
    )
    assert shop.data(literal % VISA_ALT)["paymentMethod"]["id"]
    assert shop.error(literal % TOKEN)["legacyCode"] == "81716"
    for number in (VISA_ALT, TOKEN):
        call = WireCall("POST", "/graphql", "", HEADERS, body(literal % number))
        assert shop.braintree.numbers_in(call) == (number,)


def test_takes_nothing_but_a_card_number(shop: Shop) -> None:
    error = shop.error(TOKENIZE, {"creditCard": card(TOKEN)})
    assert error["legacyCode"] == "81716"
    assert error["inputPath"] == ["input", "creditCard", "number"]
    assert TOKEN not in error["message"]
    call = WireCall("POST", "/graphql", "", HEADERS, body(TOKENIZE, {"creditCard": card(TOKEN)}))
    assert shop.braintree.numbers_in(call) == (TOKEN,)


def test_a_decline_is_data_and_no_error(shop: Shop) -> None:
    made = shop.data(CHARGE, sale(shop.tokenized(), "2001.00"))["transaction"]
    assert made["status"] == "PROCESSOR_DECLINED"
    (event,) = made["statusHistory"]
    assert event["processorResponse"] == {"legacyCode": "2001", "message": "Insufficient Funds"}
    assert event["declineType"] == "SOFT_DECLINED"
    rejected = shop.data(CHARGE, sale(shop.tokenized(), "5001"))["transaction"]
    assert rejected["statusHistory"][0]["gatewayRejectionReason"] == "APPLICATION_INCOMPLETE"
    assert (shop.counts.charges, shop.counts.declines) == (0, 2)


def test_authorizes_captures_and_reverses(shop: Shop) -> None:
    query = "mutation($input: AuthorizeCreditCardInput!) { authorizeCreditCard(input: $input) "
    query += "{ transaction { id status } } }"
    made = shop.data(query, sale(shop.tokenized()))["transaction"]
    assert made["status"] == "AUTHORIZED"
    capture = "mutation($input: CaptureTransactionInput!) { captureTransaction(input: $input) "
    capture += "{ transaction { status amount { value } } } }"
    asked = {"transactionId": made["id"], "transaction": {"amount": "4.00"}}
    assert shop.data(capture, asked)["transaction"]["amount"]["value"] == "4.00"
    assert shop.error(capture, asked)["legacyCode"] == "91507"
    assert reversal(shop, made["id"]) == {"__typename": "Transaction", "status": "VOIDED"}
    assert (shop.counts.captures, shop.counts.cancels) == (1, 1)


def reversal(shop: Shop, id_: str) -> dict[str, Any]:
    query = "mutation($input: ReverseTransactionInput!) { reverseTransaction(input: $input) "
    query += "{ reversal { __typename ... on Transaction { status } ... on Refund { status } } } }"
    return shop.data(query, {"transactionId": id_})["reversal"]  # type: ignore[no-any-return]


def test_refunds_what_is_settled(shop: Shop) -> None:
    made = shop.data(CHARGE, sale(shop.tokenized()))["transaction"]
    query = "mutation($input: RefundTransactionInput!) { refundTransaction(input: $input) "
    query += "{ refund { status amount { value } refundedTransaction { legacyId } } } }"
    asked = {"transactionId": made["id"], "refund": {"amount": "3.00"}}
    assert shop.error(query, asked)["legacyCode"] == "91506"
    assert shop.rest("PUT", f"/merchants/m/transactions/{made['legacyId']}/settle") == 200
    refund = shop.data(query, asked)["refund"]
    assert refund["amount"]["value"] == "3.00"
    assert refund["refundedTransaction"]["legacyId"] == made["legacyId"]
    assert reversal(shop, made["legacyId"])["__typename"] == "Refund"
    assert shop.counts.refunds == 2


def test_vaults_a_card_and_charges_it_again_and_again(shop: Shop) -> None:
    query = "mutation($input: VaultPaymentMethodInput!) { vaultPaymentMethod(input: $input) "
    query += "{ paymentMethod { id usage } verification { status } } }"
    vaulted = shop.data(query, {"paymentMethodId": shop.tokenized()})
    assert vaulted["paymentMethod"]["usage"] == "MULTI_USE"
    assert vaulted["verification"]["status"] == "VERIFIED"
    for _ in range(2):
        shop.data(CHARGE, sale(vaulted["paymentMethod"]["id"]))
    failing = {"paymentMethodId": shop.tokenized(luhn_completed("4000" + "1" * 11))}
    refused = shop.data(query, failing)
    assert refused["paymentMethod"] is None
    assert refused["verification"]["status"] == "PROCESSOR_DECLINED"


@pytest.mark.parametrize(
    ("collection", "fields"),
    [
        ("transactions", {"transaction": {"type": "sale", "amount": "1.00"}}),
        ("customers", {"customer": {}}),
        ("payment_methods", {"payment_method": {"customer_id": "c1"}}),
        ("verifications", {"verification": {"options": {"amount": "1.00"}}}),
    ],
)
def test_rest_takes_what_graphql_tokenized_once(
    shop: Shop, collection: str, fields: dict[str, dict[str, Any]]
) -> None:
    assert shop.rest("POST", "/merchants/m/customers", {"customer": {"id": "c1"}}) == 201
    (inside,) = fields.values()
    with_nonce = {root: inside | {"payment_method_nonce": shop.tokenized()} for root in fields}
    assert shop.rest("POST", f"/merchants/m/{collection}", with_nonce) == 201
    assert shop.rest("POST", f"/merchants/m/{collection}", with_nonce) == 422


@pytest.mark.parametrize("kind", ["PaymentMethod", "CreditCard"])
def test_verifies_without_using_the_card_up(shop: Shop, kind: str) -> None:
    query = f"mutation($input: Verify{kind}Input!) {{ verify{kind}(input: $input) "
    query += "{ verification { status processorResponse { legacyCode } } } }"
    method = shop.tokenized()
    assert shop.data(query, {"paymentMethodId": method})["verification"]["status"] == "VERIFIED"
    assert shop.data(CHARGE, sale(method))
    assert shop.counts.charges == 1


MISSPELT = (
    f'mutation {{ tokenizeCreditCard(input: {{creditCard: {{nr: "{VISA_ALT}"}}}}) {{ token }} }}'
)
ELSEWHERE = f'mutation {{ refundTransaction(input: {{card: "{VISA_ALT}"}}) {{ refund {{ id }} }} }}'


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("mutation {", id="cut_off"),
        pytest.param("{ pong }", id="no_such_query"),
        pytest.param("mutation { voidTransaction(input: {}) { id } }", id="no_such_mutation"),
        pytest.param(MISSPELT, id="misspelt"),
        pytest.param(ELSEWHERE, id="elsewhere"),
        pytest.param(TOKENIZE, id="a_text_for_an_object"),
    ],
)
def test_what_does_not_fit_is_refused_without_repeating_it(shop: Shop, query: str) -> None:
    told = shop.answer(query, VISA_ALT)
    assert told["data"] is None
    assert {error["extensions"]["errorClass"] for error in told["errors"]} == {"VALIDATION"}
    assert VISA_ALT not in json.dumps(told)


def test_no_such_payment_method(shop: Shop) -> None:
    error = shop.error(CHARGE, sale("none"))
    assert (error["legacyCode"], error["inputPath"]) == ("91732", ["input", "paymentMethodId"])


def test_no_such_transaction(shop: Shop) -> None:
    query = (
        'mutation { reverseTransaction(input: {transactionId: "*"}) { reversal { __typename } } }'
    )
    assert shop.error(query)["errorClass"] == "NOT_FOUND"


def test_refuses_keys_that_are_nobodys_and_a_call_without_its_version(shop: Shop) -> None:
    wrong = "Basic " + base64.b64encode(b"public_1:private_2").decode()
    assert shop.error("{ ping }", authorization=wrong)["errorClass"] == "AUTHENTICATION"
    assert shop.error("{ ping }", braintree_version="")["errorClass"] == "VALIDATION"


@pytest.mark.parametrize(
    "sent", [b"", b"{", b"[]", b'{"query": 1}', b"{ ping }", b'{"query": "\\ud800"}']
)
def test_refuses_what_is_no_request(shop: Shop, sent: bytes) -> None:
    call = WireCall("POST", "/graphql", "", HEADERS, sent)
    told = json.loads(shop.braintree.answered(call).body)
    assert told["errors"][0]["extensions"]["errorClass"] == "VALIDATION"
    assert shop.braintree.numbers_in(call) == ()


def test_numbers_are_found_in_lists_and_not_in_a_broken_query(shop: Shop) -> None:
    sent = {"query": "mutation {", "variables": {"all": [{"number": VISA_ALT}, {"number": 1}]}}
    call = WireCall("POST", "/graphql", "", HEADERS, json.dumps(sent).encode())
    assert shop.braintree.numbers_in(call) == (VISA_ALT,)


def test_no_number_is_kept(shop: Shop) -> None:
    shop.data(CHARGE, sale(shop.tokenized()))
    assert VISA_ALT not in repr(shop.braintree._books)
