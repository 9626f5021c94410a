"""Braintree's GraphQL by its SDK, and its REST API in JSON, as SDKs of other languages have it."""

import base64
import json
import secrets
from typing import Any, Final

import pytest

from tests.cards import VISA_ALT
from tests.flows.conftest import Witness
from tests.flows.merchant import Merchant, new_idempotency_key
from tests.flows.processor import ProcessorControl
from tests.flows.sdk_story import MODES
from tests.flows.sdks import Desk, Mode, SdkWay
from tests.flows.wire import Reply, Wire

pytestmark = pytest.mark.embedded

TOKENIZE: Final = (
    "mutation ($input: TokenizeCreditCardInput!)"
    " { tokenizeCreditCard(input: $input) { paymentMethod { id } } }"
)
ONE: Final = """
    tokenizeCreditCard(input: {creditCard: {
      number: "%s", expirationMonth: "12", expirationYear: "2034", cvv: "000"}})
    { paymentMethod { id details { ... on CreditCardDetails { last4 } } } }
"""
AUTHORIZE: Final = (
    "mutation ($input: AuthorizePaymentMethodInput!) { authorizePaymentMethod(input: $input)"
    " { transaction { id status statusHistory { status ... on AuthorizedEvent"
    " { processorResponse { legacyCode authorizationId } } } } } }"
)
CAPTURE: Final = (
    "mutation ($input: CaptureTransactionInput!) { captureTransaction(input: $input)"
    " { transaction { id status } } }"
)


@pytest.fixture(params=MODES)
def braintree(request: pytest.FixtureRequest, desk: Desk) -> SdkWay:
    """By a port of the route's own, and through the proxy: by the host that GraphQL has."""
    mode: Mode = request.param
    return desk.way("braintree", mode)


async def asked(way: SdkWay, definition: str, **inputs: object) -> Any:  # noqa: ANN401 - its document
    params: dict[str, object] = {"definition": definition}
    if inputs:
        params["variables"] = {"input": inputs}
    reply = await way("graphql_client.query", params=params)
    assert reply.error is None, reply
    return reply.object


async def latest(till: Merchant) -> dict[str, Any]:
    record: dict[str, Any] = (await till.api("GET", "/v1/authorizations?limit=1")).json()["data"][0]
    return record


def card(number: str) -> dict[str, str]:
    return {"number": number, "expirationMonth": "12", "expirationYear": "2034", "cvv": "000"}


async def test_a_card_by_graphql_is_kept_charged_and_captured(
    braintree: SdkWay, till: Merchant, processor: ProcessorControl
) -> None:
    token = await till.token(VISA_ALT)
    made = await asked(braintree, TOKENIZE, creditCard=card(token))
    kept = made["data"]["tokenizeCreditCard"]["paymentMethod"]["id"]
    assert processor.numbers[-1] == VISA_ALT
    record = await latest(till)
    assert (record["operation"], record["kind"], record["result"]) == (
        "graphql.store",
        "store_card",
        "stored",
    )
    assert (record["tokens"], record["processor_reference"]) == ([token], kept)

    order = {"amount": "10.99", "orderId": f"order-{secrets.token_hex(4)}"}
    paid = await asked(braintree, AUTHORIZE, paymentMethodId=kept, transaction=order)
    transaction = paid["data"]["authorizePaymentMethod"]["transaction"]
    assert transaction["status"] == "AUTHORIZED"
    record = await latest(till)
    assert (record["kind"], record["result"]) == ("authorize", "approved")
    assert record["merchant_reference"] == order["orderId"]
    assert record["processor_reference"] == transaction["id"]
    assert record["authorization_code"]

    await asked(braintree, CAPTURE, transactionId=transaction["id"])
    record = await latest(till)
    assert (record["kind"], record["result"]) == ("capture", "approved")


async def test_a_number_that_stands_in_the_query_itself(
    braintree: SdkWay, till: Merchant, processor: ProcessorControl
) -> None:
    token = await till.token(VISA_ALT)
    made = await asked(braintree, f"mutation {{ {ONE % token} }}")
    details = made["data"]["tokenizeCreditCard"]["paymentMethod"]["details"]
    assert details["last4"] == VISA_ALT[-4:]
    assert processor.numbers[-1] == VISA_ALT


async def test_a_decline_by_graphql(braintree: SdkWay, till: Merchant) -> None:
    token = await till.token(VISA_ALT)
    made = await asked(braintree, TOKENIZE, creditCard=card(token))
    kept = made["data"]["tokenizeCreditCard"]["paymentMethod"]["id"]
    paid = await asked(
        braintree, AUTHORIZE, paymentMethodId=kept, transaction={"amount": "2001.00"}
    )
    transaction = paid["data"]["authorizePaymentMethod"]["transaction"]
    assert transaction["status"] == "PROCESSOR_DECLINED"
    record = await latest(till)
    assert (record["state"], record["result"]) == ("completed", "declined")


async def test_a_refusal_by_graphql_is_a_validation_error(
    braintree: SdkWay, till: Merchant, other_shop: Merchant, nothing_happens: Witness
) -> None:
    """HTTP 200, as Braintree has it, with errors that the SDK leaves to its caller."""
    mine, foreign = await till.token(VISA_ALT), await other_shop.token(VISA_ALT)
    placed = card(mine) | {"cardholderName": mine}
    async with nothing_happens():
        for one, code in (
            (card(VISA_ALT), "raw_card_number"),
            (card(foreign), "token_unknown"),
            (placed, "token_undeclared"),
        ):
            said = await asked(braintree, TOKENIZE, creditCard=one)
            (error,) = said["errors"]
            assert (said["data"], error["extensions"]["errorClass"]) == (None, "VALIDATION")
            assert error["extensions"]["panward"] == code
        said = await asked(braintree, f"mutation {{ a: {ONE % mine} b: {ONE % mine} }}")
        assert said["errors"][0]["extensions"]["panward"] == "several_operations"


async def test_keys_that_are_refused_by_graphql(
    desk: Desk, till: Merchant, nothing_happens: Witness
) -> None:
    token = await till.token(VISA_ALT)
    params = {"definition": TOKENIZE, "variables": {"input": {"creditCard": card(token)}}}
    async with nothing_happens():
        for key, error in (
            (desk.revoked, "AuthenticationError"),
            (desk.unscoped, "AuthorizationError"),
        ):
            way = desk.by_base("braintree", keys=key.logins["braintree"])
            reply = await way("graphql_client.query", params=params)
            assert (reply.error, reply.requests) == (error, 1)


# --- in JSON ------------------------------------------------------------------------------


class InJson:
    """A client that speaks JSON, and camelCase, to the route's own port."""

    def __init__(self, desk: Desk, wire: Wire) -> None:
        basic = base64.b64encode(f"panward:{desk.seller.key.text}".encode()).decode()
        self._headers = {
            "Authorization": f"Basic {basic}",
            "Content-Type": "application/json",
            "X-ApiVersion": "6",
        }
        self._url = f"{desk.beside.roots['braintree']}/merchants/shop/transactions"
        self._wire = wire

    async def __call__(self, number: str, *, key: str | None = None) -> Reply:
        credit_card = {"number": number, "expirationDate": "12/2034", "cvv": "000"}
        sale = {"type": "sale", "amount": "10.99", "creditCard": credit_card}
        body = json.dumps({"transaction": sale}).encode()
        more = {} if key is None else {"Panward-Idempotency-Key": key}
        return await self._wire("POST", self._url, body, headers=self._headers | more)


async def test_json_is_as_good_as_xml(
    desk: Desk, wire: Wire, till: Merchant, processor: ProcessorControl, nothing_happens: Witness
) -> None:
    in_json, key = InJson(desk, wire), new_idempotency_key()
    token = await till.token(VISA_ALT)
    paid = await in_json(token, key=key)
    assert paid.status == 201
    assert processor.numbers[-1] == VISA_ALT
    assert (await till.authorization(paid))["result"] == "approved"
    async with nothing_happens():
        again = await in_json(token, key=key)
        assert (again.status, again.body) == (paid.status, paid.body)
        assert again.headers["Idempotent-Replayed"] == "true"
        refused = await in_json(VISA_ALT)
        assert (refused.status, refused.json()["apiErrorResponse"]["panward"]) == (
            422,
            "raw_card_number",
        )
