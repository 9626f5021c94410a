"""The simulated Adyen, as its callers meet it."""

import json
from typing import Any

import aiohttp
import pytest

from gateway.sandbox.processor import Processor
from tests.cards import AMEX, MASTERCARD, VISA_19, VISA_ALT, luhn_broken, luhn_completed
from tests.gateway.sandbox.harness import API_KEY, OTHER_KEY, case_name

PAYMENTS = "/v72/payments"
CLASSIC = "/pal/servlet/Payment/v68/"
TOKEN = "pwt_test_0123456789abcdefghjkmnpqrstv"
CHALLENGED = luhn_completed("545454545454545")
REDIRECTED = luhn_completed("421234567890123")
KEY = {"x-api-key": API_KEY}


def method(number: str = VISA_ALT, holder: str | None = "J. Smith") -> dict[str, Any]:
    cvc = "7373" if number == AMEX else "737"
    fields = {"type": "scheme", "number": number, "expiryMonth": "03", "expiryYear": "2032"}
    return fields | {"cvc": cvc} | ({} if holder is None else {"holderName": holder})


def payment(number: str = VISA_ALT, holder: str = "J. Smith", **others: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
    return {
        "amount": {"currency": "EUR", "value": 1099},
        "reference": "order-1",
        "merchantAccount": "ShopCOM",
        "paymentMethod": method(number, holder),
        "returnUrl": "https://shop.example/back",
    } | others


def classic(number: str = VISA_ALT, holder: str = "J. Smith", **others: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
    order = payment(number, holder, card=method(number, holder), **others)
    del order["paymentMethod"]
    return order


class Asked:
    """An answer, read."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.raw = body
        self.body: dict[str, Any] = json.loads(body)

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - any JSON
        return self.body[name]

    @property
    def error(self) -> tuple[int, str, str]:
        assert self["status"] == self.status
        return self.status, self["errorCode"], self["errorType"]


class Shop:
    """A plain client with an API key."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http

    async def post(self, path: str, body: object, **headers: str) -> Asked:
        return await self.ask("POST", path, json.dumps(body).encode(), KEY | headers)

    async def ask(self, verb: str, path: str, body: bytes, headers: dict[str, str]) -> Asked:
        sent = {"Content-Type": "application/json", "Authorization": ""} | headers
        async with self._http.request(verb, path, data=body, headers=sent) as reply:
            assert reply.content_type == "application/json"
            return Asked(reply.status, dict(reply.headers), await reply.read())


@pytest.fixture
def shop(http: aiohttp.ClientSession) -> Shop:
    return Shop(http)


# --- payments -----------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "/checkout"])
@pytest.mark.parametrize("number", [VISA_ALT, MASTERCARD, AMEX, VISA_19], ids=case_name)
async def test_authorised(shop: Shop, processor: Processor, number: str, prefix: str) -> None:
    answer = await shop.post(prefix + PAYMENTS, payment(number))
    assert (answer.status, answer["resultCode"]) == (200, "Authorised")
    assert answer["merchantReference"] == "order-1"
    assert answer["amount"] == {"currency": "EUR", "value": 1099}
    more = answer["additionalData"]
    assert (more["cardBin"], more["cardSummary"]) == (number[:6], number[-4:])
    assert (len(more["authCode"]), more["cvcResult"]) == (6, "1 Matches")
    assert answer.headers["pspReference"] == answer["pspReference"]
    assert len(answer["pspReference"]) == 16
    assert processor.numbers_received == (number,)
    assert [call.processor for call in processor.received] == ["adyen"]
    assert (processor.counts.charges, processor.counts.declines) == (1, 0)


@pytest.mark.parametrize(
    ("holder", "acquirer_code", "result", "code"),
    [
        ("DECLINED", 2, "Refused", "2"),
        ("CARD_EXPIRED", 6, "Refused", "6"),
        ("BLOCK_CARD", 5, "Refused", "5"),
        ("ERROR", 4, "Error", "4"),
        ("UNKNOWN", 0, "Error", "0"),
        ("NOT_ENOUGH_BALANCE", 12, "Refused", "12"),
    ],
)
async def test_not_authorised_is_200_all_the_same(
    shop: Shop, processor: Processor, holder: str, acquirer_code: int, result: str, code: str
) -> None:
    asked: dict[str, Any]
    for asked in (
        payment(holder=holder),
        payment(additionalData={"RequestedTestAcquirerResponseCode": acquirer_code}),
        payment(additionalData={"RequestedTestAcquirerResponseCode": str(acquirer_code)}),
    ):
        answer = await shop.post(PAYMENTS, asked)
        assert (answer.status, answer["resultCode"]) == (200, result)
        assert answer["refusalReasonCode"] == code
        assert answer["refusalReason"]
        assert "authCode" not in answer["additionalData"]
    assert processor.counts.charges == 0
    assert processor.counts.declines == (3 if result == "Refused" else 0)


async def test_the_issuers_own_words(shop: Shop) -> None:
    answer = await shop.post(PAYMENTS, payment(holder="DECLINED : 05 : Do not honor"))
    assert answer["additionalData"]["refusalReasonRaw"] == "05 : Do not honor"
    assert answer["refusalReasonCode"] == "2"


async def test_received_is_neither(shop: Shop, processor: Processor) -> None:
    answer = await shop.post(PAYMENTS, payment(holder="PENDING"))
    assert answer["resultCode"] == "Received"
    assert "refusalReasonCode" not in answer.body
    assert (processor.counts.charges, processor.counts.declines) == (0, 0)


# --- 3-D Secure ---------------------------------------------------------------------------

ALWAYS = {"attemptAuthentication": "always"}
NATIVE = ALWAYS | {"threeDSRequestData": {"nativeThreeDS": "preferred"}}


@pytest.mark.parametrize(
    ("order", "result"),
    [
        (payment(REDIRECTED), "RedirectShopper"),
        (payment(CHALLENGED), "ChallengeShopper"),
        (payment(authenticationData=ALWAYS), "RedirectShopper"),
        (payment(authenticationData=NATIVE), "ChallengeShopper"),
        (payment(holder="REDIRECT_SHOPPER"), "RedirectShopper"),
        (payment(additionalData={"executeThreeD": "true"}), "RedirectShopper"),
    ],
    ids=["card", "native_card", "asked_for", "asked_for_native", "holder", "the_older_way"],
)
async def test_the_shopper_comes_back(
    shop: Shop, processor: Processor, order: dict[str, Any], result: str
) -> None:
    answer = await shop.post(PAYMENTS, order)
    assert (answer.status, answer["resultCode"]) == (200, result)
    assert processor.counts.charges == 0
    if result == "RedirectShopper":
        assert (answer["action"]["type"], answer["action"]["method"]) == ("redirect", "GET")
        brought = {"redirectResult": answer["action"]["url"].rpartition("=")[2]}
    else:
        assert answer["action"]["subtype"] == "challenge"
        brought = {"threeDSResult": answer["action"]["token"]}
    done = await shop.post(f"{PAYMENTS}/details", {"details": brought})
    assert (done.status, done["resultCode"]) == (200, "Authorised")
    assert processor.counts.charges == 1
    again = await shop.post(f"{PAYMENTS}/details", {"details": brought})
    assert again.error == (422, "14_0408", "validation")


async def test_authentication_is_not_asked_for_by_its_mere_settings(shop: Shop) -> None:
    settings = {"threeDSRequestData": {"nativeThreeDS": "preferred"}}
    answer = await shop.post(PAYMENTS, payment(authenticationData=settings))
    assert answer["resultCode"] == "Authorised"


async def test_a_shopper_who_fails_or_is_refused_afterwards(
    shop: Shop, processor: Processor
) -> None:
    for holder, suffix, code in (("J. Smith", ".failed", "11"), ("DECLINED", "", "2")):
        sent = await shop.post(PAYMENTS, payment(holder=holder, authenticationData=ALWAYS))
        brought = sent["action"]["paymentData"] + suffix
        done = await shop.post(f"{PAYMENTS}/details", {"paymentData": brought})
        assert (done["resultCode"], done["refusalReasonCode"]) == ("Refused", code)
    assert (processor.counts.charges, processor.counts.declines) == (0, 2)


# --- modifications ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "amount", "count"),
    [
        ("captures", True, "captures"),
        ("cancels", False, "cancels"),
        ("refunds", True, "refunds"),
        ("reversals", False, "refunds"),
        ("amountUpdates", True, None),
    ],
)
async def test_modifications_are_received(
    shop: Shop, processor: Processor, verb: str, count: str | None, *, amount: bool
) -> None:
    paid = (await shop.post(PAYMENTS, payment()))["pspReference"]
    body: dict[str, Any] = {"merchantAccount": "ShopCOM", "reference": "mod-1"}
    if amount:
        lacking = await shop.post(f"{PAYMENTS}/{paid}/{verb}", body)
        assert lacking.error == (422, "100", "validation")
        body["amount"] = {"currency": "EUR", "value": 500}
    answer = await shop.post(f"{PAYMENTS}/{paid}/{verb}", body)
    assert (answer.status, answer["status"]) == (201, "received")
    assert answer["paymentPspReference"] == paid
    assert answer["pspReference"] not in {paid, ""}
    assert count is None or getattr(processor.counts, count) == 1
    unknown = await shop.post(f"{PAYMENTS}/NOBODYSPAYMENT00/{verb}", body)
    assert unknown.error == (422, "167", "validation")


async def test_cancel_by_the_shops_own_reference(shop: Shop, processor: Processor) -> None:
    body = {"merchantAccount": "ShopCOM", "paymentReference": "order-1"}
    answer = await shop.post("/v72/cancels", body)
    assert (answer.status, answer["status"], processor.counts.cancels) == (201, "received", 1)


# --- cards that are not charged, and calls without a card ---------------------------------


async def test_a_stored_card_is_paid_with(shop: Shop, processor: Processor) -> None:
    body = {"merchantAccount": "ShopCOM", "shopperReference": "anna", "paymentMethod": method()}
    stored = await shop.post("/v72/storedPaymentMethods", body)
    assert (stored.status, stored["lastFour"]) == (201, VISA_ALT[-4:])
    listed = await shop.ask(
        "GET", "/v72/storedPaymentMethods?merchantAccount=ShopCOM&shopperReference=anna", b"", KEY
    )
    assert [each["id"] for each in listed["storedPaymentMethods"]] == [stored["id"]]
    order = payment(paymentMethod={"type": "scheme", "storedPaymentMethodId": stored["id"]})
    assert (await shop.post(PAYMENTS, order))["resultCode"] == "Authorised"
    order["paymentMethod"]["storedPaymentMethodId"] = "nobodys"
    assert (await shop.post(PAYMENTS, order)).error == (422, "800", "validation")
    assert processor.counts.charges == 1


async def test_a_card_stored_with_a_payment(shop: Shop) -> None:
    order = payment(storePaymentMethod=True, shopperReference="anna")
    more = (await shop.post(PAYMENTS, order))["additionalData"]
    kept = {"type": "scheme", "storedPaymentMethodId": more["recurring.recurringDetailReference"]}
    assert (await shop.post(PAYMENTS, payment(paymentMethod=kept)))["resultCode"] == "Authorised"


async def test_a_card_that_cannot_be_stored(shop: Shop, processor: Processor) -> None:
    body = {"merchantAccount": "S", "shopperReference": "a", "paymentMethod": method()}
    body["paymentMethod"]["holderName"] = "DECLINED"  # type: ignore[index]  # a dict
    refused = await shop.post("/v72/storedPaymentMethods", body)
    assert refused.error == (422, "905", "validation")
    assert processor.counts.declines == 1


async def test_balance_and_card_details(shop: Shop, processor: Processor) -> None:
    asked = {"merchantAccount": "ShopCOM", "paymentMethod": method()}
    balance = await shop.post("/v72/paymentMethods/balance", asked)
    assert (balance.status, balance["resultCode"]) == (200, "Success")
    for number in (MASTERCARD, MASTERCARD[:6]):
        card = {"merchantAccount": "ShopCOM", "cardNumber": number}
        details = await shop.post("/v72/cardDetails", card)
        assert details["brands"] == [{"type": "mc", "supported": True}]
    assert processor.numbers_received == (VISA_ALT, MASTERCARD, MASTERCARD[:6])


async def test_session_and_methods(shop: Shop) -> None:
    session = await shop.post("/v72/sessions", payment())
    assert (session.status, session["id"][:2]) == (201, "CS")
    methods = await shop.post("/v72/paymentMethods", {"merchantAccount": "ShopCOM"})
    assert [each["type"] for each in methods["paymentMethods"]] == ["scheme"]


# --- the classic API ----------------------------------------------------------------------


async def test_classic_authorise_and_modifications(shop: Shop, processor: Processor) -> None:
    paid = await shop.post(f"{CLASSIC}authorise", classic())
    assert (paid.status, paid["resultCode"], len(paid["authCode"])) == (200, "Authorised", 6)
    assert processor.numbers_received == (VISA_ALT,)
    body = {
        "merchantAccount": "ShopCOM",
        "originalReference": paid["pspReference"],
        "modificationAmount": {"currency": "EUR", "value": 1},
    }
    for verb in ("capture", "cancel", "refund", "cancelOrRefund"):
        answer = await shop.post(f"{CLASSIC}{verb}", body)
        assert (answer.status, answer["response"]) == (200, f"[{verb}-received]")
        unknown = await shop.post(f"{CLASSIC}{verb}", body | {"originalReference": "X"})
        assert unknown.error == (422, "167", "validation")
    counts = processor.counts
    assert (counts.charges, counts.captures, counts.cancels, counts.refunds) == (1, 1, 1, 2)


async def test_classic_refusal(shop: Shop) -> None:
    answer = await shop.post(f"{CLASSIC}authorise", classic(holder="CARD_EXPIRED"))
    assert (answer.status, answer["resultCode"]) == (200, "Refused")
    assert answer["refusalReason"] == "Expired Card"
    assert "authCode" not in answer.body


async def test_classic_three_d_secure(shop: Shop, processor: Processor) -> None:
    sent = await shop.post(f"{CLASSIC}authorise", classic(REDIRECTED))
    assert (sent["resultCode"], processor.counts.charges) == ("RedirectShopper", 0)
    proof = {"merchantAccount": "ShopCOM", "md": sent["md"], "paResponse": "x"}
    done = await shop.post(f"{CLASSIC}authorise3d", proof)
    assert (done["resultCode"], processor.counts.charges) == ("Authorised", 1)
    brought = await shop.post(f"{CLASSIC}authorise3d", classic())
    assert (brought["resultCode"], processor.counts.charges) == ("Authorised", 2)


async def test_payout_and_bin_lookup(shop: Shop, processor: Processor) -> None:
    payout = await shop.post("/pal/servlet/Payout/v68/payout", classic())
    assert (payout["resultCode"], processor.counts.refunds) == ("Authorised", 1)
    card = {"merchantAccount": "ShopCOM", "cardNumber": VISA_ALT}
    lookup = "/pal/servlet/BinLookup/v54/"
    available = await shop.post(f"{lookup}get3dsAvailability", card)
    assert available["threeDS2supported"] is True
    cost = await shop.post(f"{lookup}getCostEstimate", card)
    assert cost["resultCode"] == "Success"
    assert processor.counts.charges == 0


# --- what it refuses ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(TOKEN, id="token"),
        pytest.param(luhn_broken("99" + VISA_ALT[2:15]), id="pan_like_token"),
        pytest.param(int(VISA_ALT), id="not_a_text"),
    ],
)
async def test_only_a_card_number_is_taken_as_one(
    shop: Shop, processor: Processor, number: str
) -> None:
    """So that an authorisation proves that a token was turned into its number."""
    stored = {"merchantAccount": "S", "shopperReference": "a", "paymentMethod": method(number)}
    calls = [
        (PAYMENTS, payment(number)),
        ("/v72/storedPaymentMethods", stored),
        ("/v72/paymentMethods/balance", stored),
        ("/v72/cardDetails", {"merchantAccount": "S", "cardNumber": number}),
        (f"{CLASSIC}authorise", classic(number)),
        (
            "/pal/servlet/BinLookup/v54/getCostEstimate",
            {"merchantAccount": "S", "cardNumber": number},
        ),
    ]
    for path, body in calls:
        answer = await shop.post(path, body)
        assert answer.error == (422, "101", "validation"), path
        assert str(number) not in answer.raw.decode()
    assert processor.numbers_received == (str(number),) * len(calls)
    assert str(number) not in repr(processor.received)
    assert processor.counts.charges == 0


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"expiryMonth": "13"}, "129"),
        ({"expiryMonth": 3}, "129"),
        ({"expiryMonth": "03", "expiryYear": "2031"}, "129"),
        ({"expiryYear": "2030"}, "129"),
        ({"expiryYear": TOKEN}, "129"),
        ({"cvc": "7373"}, "103"),
        ({"cvc": TOKEN}, "103"),
        ({"cvc": 737}, "103"),
        ({"type": "ideal"}, "14_018"),
    ],
)
async def test_the_other_fields_of_a_card(shop: Shop, wrong: dict[str, Any], code: str) -> None:
    order = payment()
    order["paymentMethod"] |= wrong
    assert (await shop.post(PAYMENTS, order)).error == (422, code, "validation")


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"merchantAccount": ""}, (403, "901", "security")),
        ({"amount": {"value": 1}}, (422, "100", "validation")),
        ({"amount": {"value": "1", "currency": "EUR"}}, (422, "100", "validation")),
        ({"amount": {"value": -1, "currency": "EUR"}}, (422, "137", "validation")),
        ({"amount": {"value": 1, "currency": "euro"}}, (422, "138", "validation")),
        ({"reference": None}, (422, "130", "validation")),
    ],
)
async def test_the_other_fields_of_a_payment(
    shop: Shop, wrong: dict[str, Any], error: tuple[int, str, str]
) -> None:
    assert (await shop.post(PAYMENTS, payment(**wrong))).error == error


@pytest.mark.parametrize("key", ["nobodys", ""])
@pytest.mark.parametrize("path", [PAYMENTS, f"{CLASSIC}authorise"])
async def test_an_unknown_key_is_turned_away(
    shop: Shop, processor: Processor, path: str, key: str
) -> None:
    answer = await shop.ask("POST", path, json.dumps(payment()).encode(), {"x-api-key": key})
    assert answer.error == (401, "000", "security")
    assert [call.account for call in processor.received] == [None]


async def test_basic_by_password(shop: Shop, processor: Processor) -> None:
    header = aiohttp.encode_basic_auth("ws@Company.Shop", OTHER_KEY)
    body = json.dumps(payment()).encode()
    answer = await shop.ask("POST", PAYMENTS, body, {"Authorization": header})
    assert answer["resultCode"] == "Authorised"
    assert [call.account for call in processor.received] == ["acct_2"]


async def test_accounts_do_not_see_each_other(shop: Shop) -> None:
    paid = (await shop.post(PAYMENTS, payment()))["pspReference"]
    body = {"merchantAccount": "Other", "reference": "x"}
    theirs = await shop.post(f"{PAYMENTS}/{paid}/cancels", body, **{"x-api-key": OTHER_KEY})
    assert theirs.error == (422, "167", "validation")


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", PAYMENTS),
        ("POST", f"{PAYMENTS}/X/melts"),
        ("DELETE", "/v72/storedPaymentMethods"),
        ("GET", f"{CLASSIC}authorise"),
        ("POST", f"{CLASSIC}melt"),
        ("POST", "/pal/servlet/nothing"),
    ],
)
async def test_no_such_call(shop: Shop, verb: str, path: str) -> None:
    answer = await shop.ask(verb, path, b"", KEY)
    assert answer.error == (404, "000", "validation")


@pytest.mark.parametrize("body", [b"[]", b"{", b"\xff", b"card[number]=1", b'{"a":' * 9999])
async def test_bodies_that_are_not_json_objects(shop: Shop, body: bytes) -> None:
    assert (await shop.ask("POST", PAYMENTS, body, KEY)).error == (400, "702", "validation")


# --- idempotency keys, mishaps, echo ------------------------------------------------------


async def test_the_same_key_and_body_gets_the_same_answer(shop: Shop, processor: Processor) -> None:
    first = await shop.post(PAYMENTS, payment(), **{"Idempotency-Key": "one"})
    turned = dict(reversed(payment().items()))
    again = await shop.post(PAYMENTS, turned, **{"Idempotency-Key": "one"})
    assert again.raw == first.raw
    for name in ("pspReference", "Idempotency-Key"):
        assert again.headers[name] == first.headers[name]
    assert (processor.counts.charges, processor.counts.replays) == (1, 1)


@pytest.mark.parametrize("key", ["one", "k" * 65])
async def test_another_body_or_too_long_a_key(shop: Shop, processor: Processor, key: str) -> None:
    await shop.post(PAYMENTS, payment(), **{"Idempotency-Key": "one"})
    other = payment(reference="order-2")
    refused = await shop.post(PAYMENTS, other, **{"Idempotency-Key": key})
    assert refused.error == (422, "704", "validation")
    assert processor.counts.charges == 1


async def test_what_reached_no_acquirer_frees_the_key(shop: Shop) -> None:
    key = {"Idempotency-Key": "one"}
    assert (await shop.post(PAYMENTS, payment(TOKEN), **key)).status == 422
    assert (await shop.post(PAYMENTS, payment(), **key))["resultCode"] == "Authorised"


async def test_a_lost_answer_is_found_again(shop: Shop, processor: Processor) -> None:
    processor.lose_next_answer()
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await shop.post(PAYMENTS, payment(), **{"Idempotency-Key": "one"})
    found = await shop.post(PAYMENTS, payment(), **{"Idempotency-Key": "one"})
    assert (found["resultCode"], processor.counts.charges) == ("Authorised", 1)


@pytest.mark.parametrize(("status", "kind"), [(500, "internal"), (429, "validation")])
async def test_a_failure_in_its_own_shape(
    shop: Shop, processor: Processor, status: int, kind: str
) -> None:
    processor.fail_next(status)
    assert (await shop.post(PAYMENTS, payment())).error == (status, "000", kind)


async def test_echo(shop: Shop, processor: Processor) -> None:
    processor.echo_numbers("body")
    assert VISA_ALT in (await shop.post(PAYMENTS, payment()))["description"]
    processor.echo_numbers("error")
    assert VISA_ALT in (await shop.post(PAYMENTS, payment()))["message"]
