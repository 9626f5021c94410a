"""What each SDK makes of answers: the table that our own error answers are written after.

The statuses and bodies are those that panward gives (see the presets); which class an SDK
raises for them, and whether it sends again, is the SDK's own doing, and is held here.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.cards import VISA_ALT
from tests.sdks.conftest import Canned, CannedServer, Sdks
from tests.sdks.driver import Reply, Target

BOM = b"\xef\xbb\xbf"
ANET = "AnetApi/xml/v1/schema/AnetApiSchema.xsd"
SECRET = base64.b64encode(b"a secret of thirty-two bytes, no").decode()
KEYS = {
    "adyen": {"api_key": "an-api-key"},
    "authorizenet": {"user": "login", "api_key": "0123456789abcdef"},
    "braintree": {"merchant": "shop", "user": "public", "api_key": "private"},
    "checkout": {"user": "pk_sbox_" + "a" * 27, "api_key": "sk_sbox_" + "a" * 27},
    "cybersource": {"merchant": "shop", "user": "a-key-id", "secret": SECRET},
    "stripe": {"api_key": "sk_test_of_nobody"},
}
PAYMENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "adyen": (
        "checkout.payments_api.payments",
        {"paymentMethod": {"type": "scheme", "number": VISA_ALT}, "reference": "o-1"},
    ),
    "authorizenet": (
        "createTransaction",
        {
            "refId": "o-1",
            "transactionRequest": {
                "transactionType": "authOnlyTransaction",
                "amount": "10.99",
                "payment": {"creditCard": {"cardNumber": VISA_ALT, "expirationDate": "2034-12"}},
            },
        },
    ),
    "braintree": (
        "transaction.sale",
        {"amount": "10.99", "credit_card": {"number": VISA_ALT, "expiration_date": "12/2034"}},
    ),
    "checkout": (
        "payments.request_payment",
        {"amount": 1099, "source": {"type": "card", "number": VISA_ALT}},
    ),
    "cybersource": (
        "PaymentsApi.create_payment",
        {"payment_information": {"card": {"number": VISA_ALT}}},
    ),
    "stripe": (
        "payment_intents.create",
        {"amount": 1099, "payment_method_data": {"card": {"number": VISA_ALT}}},
    ),
}


def as_json(status: int, said: Mapping[str, object]) -> Canned:
    return Canned(status, json.dumps(said).encode())


def as_xml(status: int, text: str, *, bom: bytes = b"") -> Canned:
    return Canned(status, bom + f'<?xml version="1.0"?>{text}'.encode(), "application/xml")


def anet(root: str, code: str, result: str = "Error", more: str = "") -> Canned:
    message = f"<message><code>{code}</code><text>said</text></message>"
    messages = f"<messages><resultCode>{result}</resultCode>{message}</messages>"
    return as_xml(200, f'<{root} xmlns="{ANET}">{messages}{more}</{root}>', bom=BOM)


def braintree(inside: str) -> str:
    errors = '<errors><errors type="array"/></errors>'
    return f"<api-error-response>{errors}<message>no</message>{inside}</api-error-response>"


@dataclass(frozen=True, slots=True)
class Row:
    """An answer, and what the SDK makes of it."""

    sdk: str
    answer: Canned
    error: str | None
    code: str | None = None
    sent: int = 1
    style: str = "sync"


STRIPE_NO = {"error": {"type": "invalid_request_error", "code": "token_unknown", "message": "no"}}
ADYEN_NO = {"status": 403, "errorCode": "010", "message": "no", "errorType": "security"}
CHECKOUT_NO = {"request_id": "r", "error_type": "invalid", "error_codes": ["token_unknown"]}
CYBERSOURCE_NO = {"status": "INVALID_REQUEST", "reason": "INVALID_DATA", "message": "no"}
ANET_NO = anet("ErrorResponse", "E00007")
BRAINTREE_NO = as_xml(422, braintree(""))
BRAINTREE_PAID = "<transaction><id>t1</id><status>{}</status><amount>10.99</amount></transaction>"
LOST = Canned(None)

ROWS = [
    *(
        Row("stripe", as_json(status, STRIPE_NO), error, code, style=style)
        for style in ("sync", "httpx", "aiohttp")
        for status, error, code in (
            (400, "InvalidRequestError", "token_unknown"),
            (401, "AuthenticationError", None),  # the body has it, the error does not
            (403, "PermissionError", None),
            (409, "APIError", None),
            (429, "RateLimitError", None),
            (502, "APIError", None),
            (503, "APIError", None),
            (504, "APIError", None),
        )
    ),
    *(Row("stripe", LOST, "APIConnectionError", style=style) for style in ("sync", "httpx")),
    Row("stripe", as_json(400, STRIPE_NO), "InvalidRequestError", "token_unknown", 1, "module"),
    Row("stripe", as_json(504, STRIPE_NO), "APIError", None, 3, "module"),
    *(
        Row("adyen", as_json(status, ADYEN_NO), error, "010")
        for status, error in (
            (400, "AdyenAPIValidationError"),
            (401, "AdyenAPIAuthenticationError"),
            (403, "AdyenAPIInvalidPermission"),
            (409, "AdyenAPIResponseError"),
            (422, "AdyenAPIUnprocessableEntity"),
            (429, "AdyenAPIResponseError"),
            (500, "AdyenAPICommunicationError"),
            (502, "AdyenAPIResponseError"),
            (503, "AdyenAPIResponseError"),
            (504, "AdyenAPIResponseError"),
        )
    ),
    Row("adyen", LOST, "ConnectionError"),  # of requests: the SDK lets it by
    *(
        Row("checkout", as_json(status, CHECKOUT_NO), "CheckoutApiException", "token_unknown")
        for status in (401, 403, 409, 422, 429, 500, 502, 503, 504)
    ),
    Row("checkout", LOST, "CheckoutException"),
    *(
        Row("cybersource", as_json(status, CYBERSOURCE_NO), "ApiException", "INVALID_DATA", 1, as_)
        for as_ in ("http_signature", "jwt")
        for status in (400, 401, 409, 429, 502, 503, 504)
    ),
    Row("cybersource", LOST, "ProtocolError"),  # of urllib3: the SDK lets it by
    Row("authorizenet", ANET_NO, None),
    Row("authorizenet", replace(ANET_NO, body=ANET_NO.body.removeprefix(BOM)), "XMLSyntaxError"),
    *(Row("authorizenet", replace(ANET_NO, status=status), None) for status in (400, 429, 504)),
    Row("authorizenet", LOST, None),
    Row("braintree", BRAINTREE_NO, None),
    *(
        Row("braintree", replace(BRAINTREE_NO, status=status), error)
        for status, error in (
            (400, "UnexpectedError"),
            (401, "AuthenticationError"),
            (403, "AuthorizationError"),
            (409, "UnexpectedError"),
            (429, "TooManyRequestsError"),
            (500, "ServerError"),
            (502, "UnexpectedError"),
            (503, "ServiceUnavailableError"),
            (504, "GatewayTimeoutError"),
        )
    ),
    Row("braintree", LOST, "ConnectionError"),  # of requests: the SDK lets it by
]


def named(row: Row) -> str:
    return f"{row.sdk}-{row.style}-{row.answer.status or 'lost'}-{row.error}"


async def pay(sdks: Sdks, server: CannedServer, sdk: str, style: str = "sync") -> Reply:
    call, params = PAYMENTS[sdk]
    where = {"authorizenet": "/xml/v1/request.api", "braintree": ""}.get(sdk, "/out/route")
    target = Target(KEYS[sdk], server.url + where, style=style)
    return await sdks[sdk](target, call, params=params, idempotency_key="order-1")


@pytest.mark.parametrize("row", ROWS, ids=named)
async def test_what_an_sdk_makes_of_a_refusal(sdks: Sdks, canned: CannedServer, row: Row) -> None:
    canned.answer = row.answer
    reply = await pay(sdks, canned, row.sdk, row.style)
    assert (reply.error, reply.code) == (row.error, row.code)
    assert (len(canned.came), reply.requests) == (row.sent, row.sent)
    keys = {headers.get("idempotency-key") for _, headers, _ in canned.came}
    assert keys == {"order-1" if row.sdk in {"stripe", "adyen"} else None}


PAID = {
    "adyen": (as_json(200, {"resultCode": "Authorised"}), {"resultCode": "Authorised"}),
    "authorizenet": (
        anet(
            "createTransactionResponse",
            "I00001",
            "Ok",
            "<transactionResponse><responseCode>1</responseCode></transactionResponse>",
        ),
        {
            "messages": {"resultCode": "Ok", "message": {"code": "I00001", "text": "said"}},
            "transactionResponse": {"responseCode": "1"},
        },
    ),
    "braintree": (
        as_xml(201, BRAINTREE_PAID.format("authorized")),
        {"id": "t1", "status": "authorized", "amount": "10.99"},
    ),
    "checkout": (as_json(201, {"approved": True}), {"approved": True}),
    "cybersource": (as_json(201, {"status": "AUTHORIZED"}), {"status": "AUTHORIZED"}),
    "stripe": (as_json(200, {"status": "succeeded"}), {"status": "succeeded"}),
}


@pytest.mark.parametrize("sdk", PAID)
async def test_an_sdk_reads_a_payment(sdks: Sdks, canned: CannedServer, sdk: str) -> None:
    canned.answer, expected = PAID[sdk]
    reply = await pay(sdks, canned, sdk)
    assert (reply.error, reply.object) == (None, expected)
    ((path, _, _),) = canned.came
    assert (
        path
        == {
            "adyen": "/out/route/v72/payments",
            "authorizenet": "/xml/v1/request.api",
            "braintree": "/merchants/shop/transactions",
            "checkout": "/out/route/payments",
            "cybersource": "/out/route/pts/v2/payments",
            "stripe": "/out/route/v1/payment_intents",
        }[sdk]
    )


async def test_authorize_net_tells_a_refusal_by_its_document_alone(
    sdks: Sdks, canned: CannedServer
) -> None:
    """A status of 400 and more leaves its merchant with None, and so does no answer at all."""
    canned.answer = ANET_NO
    reply = await pay(sdks, canned, "authorizenet")
    assert reply.object["messages"]["message"]["code"] == "E00007"
    for canned.answer in (replace(ANET_NO, status=400), LOST):
        assert (await pay(sdks, canned, "authorizenet")).object is None


async def test_braintree_gives_a_refusal_as_a_result(sdks: Sdks, canned: CannedServer) -> None:
    canned.answer = BRAINTREE_NO
    refused = await pay(sdks, canned, "braintree")
    assert refused.object == {"message": "no", "codes": [], "is_success": False}
    canned.answer = as_xml(422, braintree(BRAINTREE_PAID.format("processor_declined")))
    declined = await pay(sdks, canned, "braintree")
    assert declined.object["status"] == "processor_declined"


async def test_cybersource_signs_for_its_own_host(sdks: Sdks, canned: CannedServer) -> None:
    """With a signature it sends the processor's name as `Host`; with a JWT, that of the address."""
    canned.answer = as_json(201, {"status": "AUTHORIZED"})
    for style in ("http_signature", "jwt"):
        await pay(sdks, canned, "cybersource", style)
    (_, signed, _), (_, jwt, _) = canned.came
    assert signed["host"] == "apitest.cybersource.com"
    assert jwt["host"] == canned.url.removeprefix("https://")
    assert "digest" in signed
    assert "digest" not in jwt
    assert jwt["authorization"].startswith("Bearer ")
