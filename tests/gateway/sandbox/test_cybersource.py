"""The simulated CyberSource: it believes no call that is not signed, and takes real cards only."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from email.utils import format_datetime
from itertools import count
from typing import Any

import pytest

from gateway.sandbox.books import Counts
from gateway.sandbox.cybersource import HAL, CyberSource
from gateway.sandbox.cybersource_document import AMOUNTS
from gateway.sandbox.wire import SandboxCredential, WireAnswer, WireCall
from tests.cards import AMEX, VISA_ALT, luhn_completed
from tests.gateway.sandbox.harness import Clock

HOST = "apitest.cybersource.com"
SECRET = b"0123456789abcdef0123456789abcdef"
TOKEN = "pwt_test_0123456789abcdefghjkmnpqrsda"
CHALLENGED = luhn_completed("400000000000250")
PAYMENTS = "/pts/v2/payments"
ACCOUNTS = {
    name: SandboxCredential(
        api_key="", user=f"key-{name}", secret=base64.b64encode(secret).decode()
    )
    for name, secret in (("acct_1", SECRET), ("acct_2", SECRET[::-1]))
}


def payment(number: str = VISA_ALT, amount: str = "10.00", **more: object) -> dict[str, object]:
    card = {"number": number, "expirationMonth": "12", "expirationYear": "2034"}
    return {
        "clientReferenceInformation": {"code": "order-1"},
        "paymentInformation": {"card": {**card, "securityCode": "123"}},
        "orderInformation": {"amountDetails": {"totalAmount": amount, "currency": "USD"}},
        **more,
    }


@dataclass
class Shop:
    """A merchant of the simulation, who signs by the processor's guide."""

    clock: Clock = field(default_factory=Clock)
    counts: Counts = field(default_factory=Counts)
    account: str = "acct_1"

    def __post_init__(self) -> None:
        numbers = count(1)
        self.sandbox = CyberSource(
            ACCOUNTS,
            new_id=lambda prefix: f"{prefix}{next(numbers)}",
            now=self.clock,
            counts=self.counts,
        )

    def mac(self, text: str) -> bytes:
        secret = base64.b64decode(ACCOUNTS[self.account].secret)
        return hmac.new(secret, text.encode(), hashlib.sha256).digest()

    def call(
        self,
        path: str,
        document: object = None,
        *,
        method: str = "POST",
        target: str = "request-target",
        merchant: str | None = None,
    ) -> WireCall:
        body = b"" if document is None else json.dumps(document).encode()
        values = {"host": HOST, "date": format_datetime(self.clock(), usegmt=True)}
        values[target] = f"{method.lower()} {path}"
        if method == "POST":
            digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
            values["digest"] = f"SHA-256={digest}"
        values["v-c-merchant-id"] = merchant or self.account
        text = "\n".join(f"{name}: {value}" for name, value in values.items())
        signature = (
            f'keyid="key-{self.account}", algorithm="HmacSHA256", headers="{" ".join(values)}",'
            f' signature="{base64.b64encode(self.mac(text)).decode()}"'
        )
        del values[target]
        path, _, query = path.partition("?")
        return WireCall(method, path, query, {**values, "signature": signature}, body)

    def token_call(self, document: object, **claims: object) -> WireCall:
        body, at = json.dumps(document).encode(), int(self.clock().timestamp())
        head = {"alg": claims.pop("alg", "HS256"), "kid": f"key-{self.account}", "typ": "JWT"}
        said = {
            "digest": base64.b64encode(hashlib.sha256(body).digest()).decode(),
            "digestAlgorithm": "SHA-256",
            "iat": at,
            "exp": at + 120,
            "request-method": "POST",
            "request-host": HOST,
            "request-resource-path": PAYMENTS,
            "iss": self.account,
            "jti": "one",
            "v-c-jwt-version": "2",
            "v-c-merchant-id": self.account,
            **claims,
        }
        parts = [base64.urlsafe_b64encode(json.dumps(each).encode()) for each in (head, said)]
        text = b".".join(part.rstrip(b"=") for part in parts).decode()
        signature = base64.urlsafe_b64encode(self.mac(text)).rstrip(b"=").decode()
        headers = {"host": HOST, "authorization": f"Bearer {text}.{signature}"}
        return WireCall("POST", PAYMENTS, "", headers, body)

    def post(self, path: str, document: object) -> tuple[int, dict[str, Any]]:
        return read(self.sandbox.answered(self.call(path, document)))

    def paid(self, **more: object) -> str:
        status, document = self.post(PAYMENTS, payment(**more))  # type: ignore[arg-type]
        assert status == 201
        return str(document["id"])


def read(answer: WireAnswer) -> tuple[int, dict[str, Any]]:
    assert answer.content_type == HAL
    assert dict(answer.headers)["v-c-correlation-id"]
    return answer.status, json.loads(answer.body)


@pytest.fixture
def shop() -> Shop:
    return Shop()


# --- who calls ----------------------------------------------------------------------------


def test_a_signed_call_is_carried_out(shop: Shop) -> None:
    status, document = shop.post(PAYMENTS, payment())
    assert (status, document["status"]) == (201, "AUTHORIZED")
    assert len(document["id"]) == 22
    assert document["id"].isdigit()
    assert document["processorInformation"]["approvalCode"]
    assert document["clientReferenceInformation"]["code"] == "order-1"
    assert shop.counts == Counts(charges=1)


def test_the_older_name_of_the_target_and_a_query_are_signed_as_they_are(shop: Shop) -> None:
    call = shop.call(f"/tss/v2/transactions/{shop.paid()}?a=b%20c", method="GET",
                     target="(request-target)")  # fmt: skip
    assert shop.sandbox.account_of(call) == "acct_1"
    assert read(shop.sandbox.answered(call))[1]["applicationInformation"]["status"] == "AUTHORIZED"


def changed(name: str, value: str) -> Callable[[WireCall], WireCall]:
    return lambda call: replace(call, headers={**call.headers, name: value})


@pytest.mark.parametrize(
    "spoiled",
    [
        lambda call: replace(call, body=call.body + b" "),
        lambda call: replace(call, path="/pts/v2/credits"),
        lambda call: replace(call, query="a=b"),
        lambda call: replace(call, method="PUT"),
        lambda call: replace(call, headers={}),
        changed("host", "api.cybersource.com"),
        changed("v-c-merchant-id", "acct_2"),
        changed("signature", "keyid"),
        lambda call: changed("signature", call.headers["signature"].replace("key-acct_1", "x"))(
            call
        ),
        lambda call: changed("signature", call.headers["signature"].replace("digest ", ""))(call),
    ],
    ids=["body", "path", "query", "method", "none", "host", "merchant", "form", "key", "names"],
)
def test_a_call_that_is_not_as_it_was_signed_is_refused(
    shop: Shop, spoiled: Callable[[WireCall], WireCall]
) -> None:
    call = spoiled(shop.call(PAYMENTS, payment()))
    assert shop.sandbox.account_of(call) is None
    assert read(shop.sandbox.answered(call)) == (
        401,
        {"response": {"rmsg": "Authentication Failed"}},
    )
    assert shop.counts == Counts()


def test_a_call_that_waited_is_refused(shop: Shop) -> None:
    call = shop.call(PAYMENTS, payment())
    shop.clock.advance(timedelta(minutes=5))
    assert shop.sandbox.account_of(call) == "acct_1"
    shop.clock.advance(timedelta(seconds=1))
    assert shop.sandbox.account_of(call) is None


def test_a_key_serves_its_own_merchant_only(shop: Shop) -> None:
    assert shop.sandbox.account_of(shop.call(PAYMENTS, payment(), merchant="acct_2")) is None


def test_a_token_signs_too_and_once(shop: Shop) -> None:
    call = shop.token_call(payment())
    assert shop.sandbox.account_of(call) == "acct_1"
    assert read(shop.sandbox.answered(call))[0] == 201
    assert read(shop.sandbox.answered(call))[0] == 401


@pytest.mark.parametrize(
    "claims",
    [
        {"alg": "RS256"},
        {"alg": "none"},
        {"request-host": "127.0.0.1"},
        {"request-method": "PUT"},
        {"request-resource-path": "/pts/v2/credits"},
        {"v-c-merchant-id": "panward"},
        {"iss": "panward"},
        {"digest": ""},
        {"exp": 1},
        {"iat": None},
        {"jti": ""},
    ],
    ids=str,
)
def test_a_token_for_something_else_is_refused(shop: Shop, claims: dict[str, object]) -> None:
    assert shop.sandbox.account_of(shop.token_call(payment(), **claims)) is None


def test_what_is_no_token_is_refused(shop: Shop) -> None:
    for text in ("Bearer a", "Bearer a.b.c", "Bearer e30.e30.x", "Basic eDp5"):
        call = WireCall("POST", PAYMENTS, "", {"authorization": text}, b"{}")
        assert read(shop.sandbox.answered(call))[0] == 401


# --- what it decides ----------------------------------------------------------------------


@pytest.mark.parametrize("number", [TOKEN, "99" + VISA_ALT[2:], VISA_ALT[:-1] + "2", "411", 4111])
def test_a_number_field_takes_a_card_number_and_nothing_else(shop: Shop, number: object) -> None:
    status, document = shop.post(PAYMENTS, payment(number))  # type: ignore[arg-type]
    assert status == 400
    assert (document["status"], document["details"][0]["field"]) == (
        "INVALID_REQUEST",
        "paymentInformation.card.number",
    )
    assert str(number) not in json.dumps(document)
    assert shop.counts.charges == 0


def test_the_numbers_in_a_call(shop: Shop) -> None:
    assert shop.sandbox.numbers_in(shop.call(PAYMENTS, payment(TOKEN))) == (TOKEN,)
    assert shop.sandbox.numbers_in(shop.call("/tms/v1/x", {"card": {"number": AMEX}})) == (AMEX,)
    nothings: tuple[object, ...] = (None, [], {"card": "x"}, {"paymentInformation": {"card": {}}})
    for nothing in nothings:
        assert shop.sandbox.numbers_in(shop.call(PAYMENTS, nothing)) == ()
    broken = replace(shop.call(PAYMENTS, payment()), body=b'{"card')
    assert shop.sandbox.numbers_in(broken) == ()


@pytest.mark.parametrize("amount", sorted(AMOUNTS), ids=str)
def test_the_amount_decides(shop: Shop, amount: object) -> None:
    verdict = AMOUNTS[amount]  # type: ignore[index]
    status, document = shop.post(PAYMENTS, payment(amount=str(amount)))
    assert (status, document["status"]) == (201, verdict.status)
    assert document["errorInformation"]["reason"] == verdict.reason
    assert document["processorInformation"]["responseCode"] == verdict.code
    declined = verdict.status == "DECLINED"
    assert ("approvalCode" in document["processorInformation"]) is not declined
    assert shop.counts == (Counts(declines=1) if declined else Counts(charges=1))


def test_a_card_whose_holder_is_challenged(shop: Shop) -> None:
    for path in (PAYMENTS, "/risk/v1/authentications"):
        status, document = shop.post(path, payment(CHALLENGED))
        assert (status, document["status"]) == (201, "PENDING_AUTHENTICATION")
        assert document["consumerAuthenticationInformation"]["acsUrl"].startswith("https://")
    assert shop.counts.charges == 0
    proof = {"authenticationTransactionId": "x"}
    proven = payment(CHALLENGED, consumerAuthenticationInformation=proof)
    assert shop.post(PAYMENTS, proven)[1]["status"] == "AUTHORIZED"


@pytest.mark.parametrize(
    ("change", "field_"),
    [
        ({"expirationMonth": "13"}, "expirationMonth"),
        ({"expirationYear": "2030"}, "expirationYear"),
        ({"expirationYear": "31"}, "expirationMonth"),
        ({"securityCode": TOKEN}, "securityCode"),
        ({"number": None}, "number"),
    ],
)
def test_a_wrong_field_is_named(shop: Shop, change: dict[str, object], field_: str) -> None:
    document: dict[str, Any] = payment()
    document["paymentInformation"]["card"] |= change
    status, answer = shop.post(PAYMENTS, document)
    assert status == 400
    assert answer["details"][0]["field"] == f"paymentInformation.card.{field_}"
    assert answer["reason"] == ("MISSING_FIELD" if field_ == "number" else "INVALID_DATA")


@pytest.mark.parametrize(
    "money", [{}, {"totalAmount": "1e3"}, {"totalAmount": "1.001"}, {"currency": "usd"}]
)
def test_money_must_be_money(shop: Shop, money: dict[str, str]) -> None:
    details = {"currency": "USD", **({"totalAmount": "1.00"} if money else {}), **money}
    document = payment() | {"orderInformation": {"amountDetails": details}}
    assert shop.post(PAYMENTS, document)[0] == 400


def test_bodies_that_it_cannot_read(shop: Shop) -> None:
    assert shop.post(PAYMENTS, [])[0] == 400
    assert shop.post(PAYMENTS, {"encryptedRequest": "a.b.c.d.e"})[0] == 400


def test_a_transaction_id_is_used_once_in_a_quarter_of_an_hour(shop: Shop) -> None:
    document = payment(clientReferenceInformation={"transactionId": "t-1"})
    assert shop.post(PAYMENTS, document)[0] == 201
    assert shop.post(PAYMENTS, document)[1]["reason"] == "INVALID_DATA"
    assert shop.counts.charges == 1
    shop.clock.advance(timedelta(minutes=15))
    assert shop.post(PAYMENTS, document)[0] == 201


# --- afterwards ---------------------------------------------------------------------------

MONEY = {"orderInformation": {"amountDetails": {"totalAmount": "4.00"}}}


def test_capture_refund_and_void(shop: Shop) -> None:
    paid = shop.paid()
    _, captured = shop.post(f"{PAYMENTS}/{paid}/captures", MONEY)
    assert captured["status"] == "PENDING"
    capture = f"/pts/v2/captures/{captured['id']}"
    assert shop.post(f"{capture}/refunds", MONEY)[1]["status"] == "PENDING"
    assert shop.post(f"{capture}/refunds", MONEY)[0] == 400
    assert shop.post(f"{capture}/voids", {})[1]["status"] == "VOIDED"
    assert shop.post(f"{capture}/voids", {})[0] == 400
    assert shop.counts == Counts(charges=1, captures=1, refunds=1, cancels=1)


def test_a_reversed_payment_is_at_its_end(shop: Shop) -> None:
    paid = shop.paid()
    assert shop.post(f"{PAYMENTS}/{paid}/reversals", {})[1]["status"] == "REVERSED"
    assert shop.post(f"{PAYMENTS}/{paid}/captures", MONEY)[0] == 400
    assert shop.post(f"{PAYMENTS}/{paid}/reversals", {})[0] == 400


def test_a_payment_that_was_captured_at_once(shop: Shop) -> None:
    paid = shop.paid(processingInformation={"capture": True})
    assert shop.counts.captures == 1
    assert shop.post(f"{PAYMENTS}/{paid}/captures", MONEY)[0] == 400
    assert shop.post(f"{PAYMENTS}/{paid}/refunds", MONEY)[0] == 201


def test_another_merchant_finds_nothing(shop: Shop) -> None:
    paid = shop.paid()
    shop.account = "acct_2"
    assert shop.post(f"{PAYMENTS}/{paid}/voids", {})[0] == 404
    shop.account = "acct_1"
    assert shop.post(f"/pts/v2/captures/{paid}/voids", {})[0] == 404


def test_the_calls_beside_payments(shop: Shop) -> None:
    for path, status in (
        ("/pts/v2/credits", "PENDING"),
        ("/pts/v2/payouts", "ACCEPTED"),
        ("/risk/v1/authentication-setups", "COMPLETED"),
        ("/risk/v1/authentications", "AUTHENTICATION_SUCCESSFUL"),
        ("/risk/v1/authentication-results", "AUTHENTICATION_SUCCESSFUL"),
        ("/risk/v1/decisions", "ACCEPTED"),
    ):
        found, document = shop.post(path, payment())
        assert (found, document["status"]) == (201, status)
    assert shop.post("/risk/v1/nothing", payment())[0] == 404
    assert shop.post("/pts/v2/nothing", payment())[0] == 404
    assert shop.counts == Counts(refunds=2)


def test_a_stored_card_comes_back_masked(shop: Shop) -> None:
    status, document = shop.post("/tms/v1/instrumentidentifiers", {"card": {"number": AMEX}})
    assert (status, document["object"]) == (201, "instrumentIdentifier")
    assert document["card"]["number"] == f"{AMEX[:6]}XXXXX{AMEX[-4:]}"
    refused = shop.post("/tms/v1/instrumentidentifiers", {"card": {"number": TOKEN}})[1]
    assert refused["details"][0]["field"] == "card.number"


def test_failures_that_are_asked_for(shop: Shop) -> None:
    assert read(shop.sandbox.failure(502))[1]["status"] == "SERVER_ERROR"
    assert read(shop.sandbox.failure(400))[1]["status"] == "INVALID_REQUEST"


def test_what_it_is_to_the_edge(shop: Shop) -> None:
    assert shop.sandbox.takes(PAYMENTS)
    assert shop.sandbox.takes("/tms/v1/instrumentidentifiers")
    assert not shop.sandbox.takes("/v1/charges")
    assert shop.sandbox.idempotency_key(shop.call(PAYMENTS, payment())) is None


def test_nothing_of_a_card_is_kept(shop: Shop) -> None:
    shop.paid()
    shop.post("/tms/v1/instrumentidentifiers", {"card": {"number": VISA_ALT}})
    assert VISA_ALT not in repr(vars(shop.sandbox))


def test_transactions_are_found_by_the_merchant_s_reference() -> None:
    shop = Shop()
    made = shop.paid(amount="10.00")
    shop.paid(amount="1051.00")
    shop.paid(amount="1059.00", clientReferenceInformation={"code": "order-2"})
    follow = f"{PAYMENTS}/{made}/captures"
    assert shop.post(follow, payment(amount="4.00"))[0] == 201
    status, found = shop.post("/tss/v2/searches", search("order-1"))
    assert (status, found["totalCount"], found["count"]) == (201, 3, 3)
    captured, declined, approved = found["_embedded"]["transactionSummaries"]
    assert approved["id"] == made
    assert approved["submitTimeUtc"] == shop.clock().strftime("%Y-%m-%dT%H:%M:%SZ")
    assert approved["orderInformation"]["amountDetails"] == {
        "totalAmount": "10.00",
        "currency": "USD",
    }
    services = [
        [one["name"] for one in each["applicationInformation"]["applications"]]
        for each in (captured, declined, approved)
    ]
    assert services == [["ics_bill"], ["ics_auth"], ["ics_auth"]]
    assert declined["applicationInformation"]["rCode"] == "0"
    assert approved["applicationInformation"]["reasonCode"] == "100"
    _, one = shop.post("/tss/v2/searches", search("order-1", limit=1))
    assert (one["totalCount"], one["count"]) == (3, 1)
    _, review = shop.post("/tss/v2/searches", search("order-2"))
    (waiting,) = review["_embedded"]["transactionSummaries"]
    assert waiting["applicationInformation"]["reasonCode"] == "480"
    for wrong in (search("a OR b"), search("order-1", limit=0), {}):
        assert shop.post("/tss/v2/searches", wrong)[0] == 400


def search(reference: str, limit: int = 100) -> dict[str, object]:
    return {"query": f"clientReferenceInformation.code:{reference}", "limit": limit}
