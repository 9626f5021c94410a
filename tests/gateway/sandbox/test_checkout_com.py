"""The simulated Checkout.com, as its callers meet it."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from gateway.sandbox.processor import Processor
from tests.cards import AMEX, MASTERCARD, VISA, luhn_broken, luhn_completed
from tests.gateway.sandbox.harness import API_KEY, OTHER_KEY, case_name

TOKEN = "pwt_test_0123456789abcdefghjkmnpqrstv"
FUNDS = luhn_completed("454424916767367")
LATE = luhn_completed("409525480264250")
KEY = {"Authorization": f"Bearer {API_KEY}"}


def card(number: object = VISA, **others: object) -> dict[str, Any]:
    cvv = "1051" if number == AMEX else "100"
    fields = {"type": "card", "number": number, "expiry_month": 12, "expiry_year": 2034}
    return fields | {"cvv": cvv, "name": "J. Smith"} | others


def payment(number: object = VISA, **others: object) -> dict[str, Any]:
    order = {"source": card(number), "amount": 1099, "currency": "EUR", "reference": "order-1"}
    return order | others


class Asked:
    """An answer, read; an empty body is an empty object."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.raw = body
        self.body: dict[str, Any] = json.loads(body or b"{}")

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - any JSON
        return self.body[name]

    @property
    def error(self) -> tuple[int, str]:
        [code] = self["error_codes"]
        assert self["request_id"] == self.headers["Cko-Request-Id"]
        return self.status, code


class Shop:
    """A plain client with a secret key."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http

    async def post(self, path: str, body: object = None, **headers: str) -> Asked:
        sent = b"" if body is None else json.dumps(body).encode()
        return await self.ask("POST", path, sent, KEY | headers)

    async def get(self, path: str) -> Asked:
        return await self.ask("GET", path, b"", KEY)

    async def ask(self, verb: str, path: str, body: bytes, headers: dict[str, str]) -> Asked:
        sent = {"Content-Type": "application/json"} | headers
        async with self._http.request(verb, path, data=body, headers=sent) as reply:
            return Asked(reply.status, dict(reply.headers), await reply.read())


@pytest.fixture
def shop(http: aiohttp.ClientSession) -> Shop:
    return Shop(http)


# --- payments -----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [VISA, MASTERCARD, AMEX], ids=case_name)
async def test_approved(shop: Shop, processor: Processor, number: str) -> None:
    answer = await shop.post("/payments", payment(number))
    assert (answer.status, answer["approved"], answer["status"]) == (201, True, "Authorized")
    assert (answer["response_code"], answer["response_summary"]) == ("10000", "Approved")
    assert len(answer["auth_code"]) == 6
    assert (answer["source"]["bin"], answer["source"]["last4"]) == (number[:6], number[-4:])
    assert answer["id"].startswith("pay_")
    assert answer.headers["Cko-Request-Id"].startswith("req_")
    assert processor.numbers_received == (number,)
    assert [call.processor for call in processor.received] == ["checkout_com"]
    assert (processor.counts.charges, processor.counts.declines) == (1, 0)
    shown = await shop.get(f"/payments/{answer['id']}")
    assert (shown.status, shown["status"], shown["reference"]) == (200, "Captured", "order-1")


@pytest.mark.parametrize(
    ("number", "code"), [(FUNDS, "20051"), (LATE, "20068")], ids=["funds", "late"]
)
async def test_declined_is_201_all_the_same(
    shop: Shop, processor: Processor, number: str, code: str
) -> None:
    answer = await shop.post("/payments", payment(number))
    assert (answer.status, answer["approved"], answer["status"]) == (201, False, "Declined")
    assert answer["response_code"] == code
    assert "auth_code" not in answer.body
    assert (processor.counts.charges, processor.counts.declines) == (0, 1)


async def test_no_amount_verifies_the_card(shop: Shop, processor: Processor) -> None:
    order = payment()
    del order["amount"]
    answer = await shop.post("/payments", order)
    assert (answer.status, answer["approved"], answer["status"]) == (201, True, "Card Verified")
    assert processor.counts.charges == 0


@pytest.mark.parametrize(
    ("number", "status"), [(VISA, "Captured"), (FUNDS, "Declined")], ids=["yes", "no"]
)
async def test_three_d_secure_is_pending_until_somebody_asks(
    shop: Shop, processor: Processor, number: str, status: str
) -> None:
    sent = await shop.post("/payments", payment(number, **{"3ds": {"enabled": True}}))
    assert (sent.status, sent["status"]) == (202, "Pending")
    assert sent["_links"]["redirect"]["href"].endswith(sent["id"])
    early = await shop.post(f"/payments/{sent['id']}/captures")
    assert (early.status, processor.counts.charges) == (403, 0)
    for _ in range(2):
        shown = await shop.get(f"/payments/{sent['id']}")
        assert shown["status"] == status
    assert processor.counts.charges + processor.counts.declines == 1


async def test_a_payout(shop: Shop, processor: Processor) -> None:
    for number, expected in ((VISA, 202), (TOKEN, 422)):
        order = {"amount": 5, "currency": "EUR", "destination": card(number)}
        assert (await shop.post("/payments", order)).status == expected
    assert processor.numbers_received == (VISA, TOKEN)
    kept = (await shop.post("/instruments", card()))["id"]
    for id_, expected in ((kept, 202), ("src_nobodys", 422)):
        order = {"amount": 5, "currency": "EUR", "destination": {"type": "id", "id": id_}}
        assert (await shop.post("/payments", order)).status == expected
    assert (processor.counts.charges, processor.counts.refunds) == (0, 2)


# --- what is done with a payment ----------------------------------------------------------


async def held(shop: Shop) -> str:
    answer = await shop.post("/payments", payment(capture=False))
    assert answer["status"] == "Authorized"
    return f"/payments/{answer['id']}"


async def test_capture_then_refund(shop: Shop, processor: Processor) -> None:
    path = await held(shop)
    assert (await shop.post(f"{path}/refunds")).status == 403
    captured = await shop.post(f"{path}/captures", {"amount": 1000, "reference": "cap-1"})
    assert (captured.status, captured["reference"]) == (202, "cap-1")
    assert captured["action_id"].startswith("act_")
    assert (await shop.post(f"{path}/captures")).status == 403
    assert (await shop.post(f"{path}/voids")).status == 403
    assert (await shop.post(f"{path}/refunds", {"amount": 400})).status == 202
    too_much = await shop.post(f"{path}/refunds", {"amount": 601})
    assert too_much.error == (422, "amount_invalid")
    assert (await shop.post(f"{path}/refunds")).status == 202
    assert (await shop.get(path))["status"] == "Refunded"
    counts = processor.counts
    assert (counts.charges, counts.captures, counts.refunds, counts.cancels) == (1, 1, 2, 0)


async def test_void(shop: Shop, processor: Processor) -> None:
    path = await held(shop)
    assert (await shop.post(f"{path}/voids")).status == 202
    assert (await shop.get(path))["status"] == "Voided"
    assert (await shop.post(f"{path}/captures")).status == 403
    assert (processor.counts.cancels, processor.counts.captures) == (1, 0)


async def test_reversal_is_what_is_possible(shop: Shop, processor: Processor) -> None:
    path = await held(shop)
    assert (await shop.post(f"{path}/reversals")).status == 202
    paid = await shop.post("/payments", payment())
    assert (await shop.post(f"/payments/{paid['id']}/reversals")).status == 202
    assert (processor.counts.cancels, processor.counts.refunds) == (1, 1)


async def test_more_is_authorized(shop: Shop) -> None:
    path = await held(shop)
    answer = await shop.post(f"{path}/authorizations", {"amount": 1})
    assert (answer.status, answer["approved"], answer["amount"]) == (201, True, 1100)


async def test_retries_of_a_decline_are_canceled(shop: Shop) -> None:
    declined = await shop.post("/payments", payment(FUNDS))
    assert (await shop.post(f"/payments/{declined['id']}/cancellations")).status == 202


# --- cards that are not charged -----------------------------------------------------------


async def test_payments_are_listed_by_reference_the_newest_first(shop: Shop) -> None:
    made = [await shop.post("/payments", payment(reference="a b/c")) for _ in range(3)]
    await shop.post("/payments", payment(reference="another"))
    waiting = await shop.post("/payments", payment(reference="a b/c", **{"3ds": {"enabled": True}}))
    assert waiting.status == 202
    listed = await shop.get("/payments?limit=2&skip=1&reference=a%20b%2Fc")
    assert (listed["limit"], listed["skip"], listed["total_count"]) == (2, 1, 4)
    assert [each["id"] for each in listed["data"]] == [made[2]["id"], made[1]["id"]]
    assert {"amount", "currency", "requested_on", "approved"} <= listed["data"][0].keys()
    everything = await shop.get("/payments?limit=100&reference=a%20b%2Fc")
    newest = everything["data"][0]
    assert (newest["id"], newest["status"], newest["amount"]) == (waiting["id"], "Pending", 1099)
    assert (await shop.get("/payments?reference=nobody"))["data"] == []
    for wrong in ("limit=10", "reference=x&limit=101", "reference=x&skip=a"):
        assert (await shop.get(f"/payments?{wrong}")).status == 422


async def test_only_cards_become_tokens(shop: Shop) -> None:
    answer = await shop.post("/tokens", card(type="applepay"))
    assert answer.error == (422, "type_invalid")


async def test_a_token_is_good_for_one_payment(shop: Shop, processor: Processor) -> None:
    public = {"Authorization": "Bearer acct_1"}  # as it follows from the key's place
    sent = json.dumps(card()).encode()
    made = await shop.ask("POST", "/tokens", sent, public)
    assert (made.status, made["type"], made["last4"]) == (201, "card", VISA[-4:])
    order = payment(source={"type": "token", "token": made["token"]})
    assert (await shop.post("/payments", order))["approved"] is True
    assert (await shop.post("/payments", order)).error == (422, "token_invalid")
    body = json.dumps(order).encode()
    assert (await shop.ask("POST", "/payments", body, public)).status == 401
    assert processor.counts.charges == 1


@pytest.mark.parametrize("by_token", [False, True])
async def test_an_instrument_is_paid_with(shop: Shop, *, by_token: bool) -> None:
    made = card()
    if by_token:
        made = {"type": "token", "token": (await shop.post("/tokens", card()))["token"]}
    kept = await shop.post("/instruments", made)
    assert (kept.status, kept["last4"]) == (201, VISA[-4:])
    assert (await shop.get(f"/instruments/{kept['id']}"))["last4"] == VISA[-4:]
    for _ in range(2):
        order = payment(source={"type": "id", "id": kept["id"]})
        assert (await shop.post("/payments", order))["source"]["id"] == kept["id"]


async def test_a_card_that_cannot_be_stored(shop: Shop, processor: Processor) -> None:
    refused = await shop.post("/instruments", card(FUNDS))
    assert refused.error == (422, "card_verification_declined")
    assert processor.counts.declines == 1


async def test_three_d_secure_alone(shop: Shop, processor: Processor) -> None:
    answer = await shop.post("/sessions", {"source": card(), "amount": 1, "currency": "EUR"})
    assert (answer.status, answer["status"]) == (201, "pending")
    assert processor.numbers_received == (VISA,)


# --- what it refuses ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(TOKEN, id="token"),
        pytest.param(luhn_broken("99" + VISA[2:15]), id="pan_like_token"),
        pytest.param(int(VISA), id="not_a_text"),
    ],
)
async def test_only_a_card_number_is_taken_as_one(
    shop: Shop, processor: Processor, number: str | int
) -> None:
    """So that an approval proves that a token was turned into its number."""
    calls = [
        ("/payments", payment(number)),
        ("/payments", {"currency": "EUR", "destination": card(number)}),
        ("/tokens", card(number)),
        ("/instruments", card(number)),
        ("/sessions", {"source": card(number)}),
    ]
    for path, body in calls:
        answer = await shop.post(path, body)
        assert answer.error == (422, "card_number_invalid"), path
        assert answer["error_type"] == "request_invalid"
        assert str(number) not in answer.raw.decode()
    assert processor.numbers_received == (str(number),) * len(calls)
    assert str(number) not in repr(processor.received)
    assert processor.counts.charges == 0


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"expiry_month": 13}, "card_expiry_month_invalid"),
        ({"expiry_month": "12"}, "card_expiry_month_invalid"),
        ({"expiry_month": 4, "expiry_year": 2031}, "card_expiry_month_invalid"),
        ({"expiry_year": 2030}, "card_expiry_year_invalid"),
        ({"expiry_year": True}, "card_expiry_year_invalid"),
        ({"expiry_year": TOKEN}, "card_expiry_year_invalid"),
        ({"cvv": "1000"}, "cvv_invalid"),
        ({"cvv": TOKEN}, "cvv_invalid"),
        ({"cvv": 100}, "cvv_invalid"),
        ({"number": None}, "card_number_required"),
        ({"type": "paypal"}, "source_type_invalid"),
        ({"type": None}, "payment_source_required"),
        ({"type": "id"}, "source_id_unknown"),
    ],
)
async def test_the_other_fields_of_a_card(shop: Shop, wrong: dict[str, Any], code: str) -> None:
    order = payment(source=card(**wrong))
    assert (await shop.post("/payments", order)).error == (422, code)


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"currency": None}, "currency_required"),
        ({"currency": "euro"}, "currency_invalid"),
        ({"amount": "10"}, "amount_invalid"),
        ({"amount": -1}, "amount_invalid"),
        ({"amount": 10**10}, "amount_invalid"),
    ],
)
async def test_the_other_fields_of_a_payment(shop: Shop, wrong: dict[str, Any], code: str) -> None:
    assert (await shop.post("/payments", payment(**wrong))).error == (422, code)


@pytest.mark.parametrize("authorization", ["Bearer nobodys", "", API_KEY, "Bearer acct_1"], ids=str)
async def test_an_unknown_key_is_turned_away(
    shop: Shop, processor: Processor, authorization: str
) -> None:
    sent = {"Authorization": authorization}
    answer = await shop.ask("POST", "/payments", json.dumps(payment()).encode(), sent)
    assert (answer.status, answer.raw) == (401, b"")
    assert answer.headers["Cko-Request-Id"]
    assert [call.account for call in processor.received] == [None]


async def test_accounts_do_not_see_each_other(shop: Shop) -> None:
    paid = await shop.post("/payments", payment())
    other = {"Authorization": f"Bearer {OTHER_KEY}"}
    theirs = await shop.ask("GET", f"/payments/{paid['id']}", b"", other)
    assert (theirs.status, theirs.raw) == (404, b"")


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", "/instruments/src_nobodys"),
        ("GET", "/tokens/tok_1"),
        ("DELETE", "/payments"),
        ("POST", "/payments/pay_nobodys/captures"),
        ("POST", "/payments/pay_1/melts"),
        ("POST", "/instruments/src_1/captures"),
    ],
)
async def test_no_such_call(shop: Shop, verb: str, path: str) -> None:
    assert (await shop.ask(verb, path, b"", KEY)).status == 404


@pytest.mark.parametrize("body", [b"[]", b"{", b"\xff", b"number=1", b'{"a":' * 9999])
async def test_bodies_that_are_not_json_objects(shop: Shop, body: bytes) -> None:
    answer = await shop.ask("POST", "/payments", body, KEY)
    assert answer.error == (422, "request_body_malformed")


# --- idempotency keys, mishaps, echo ------------------------------------------------------


def keyed(key: str = "one") -> dict[str, str]:
    return {"Cko-Idempotency-Key": key}


async def test_the_same_key_gets_the_same_answer(shop: Shop, processor: Processor) -> None:
    first = await shop.post("/payments", payment(), **keyed())
    for order in (payment(), payment(amount=5)):  # published is no word of bodies
        again = await shop.post("/payments", order, **keyed())
        assert (again.status, again.raw) == (201, first.raw)
        assert again.headers["Cko-Request-Id"] != first.headers["Cko-Request-Id"]
    refund = f"/payments/{first['id']}/refunds"
    refunds = [await shop.post(refund, {"amount": 1}, **keyed("two")) for _ in range(2)]
    assert refunds[0].raw == refunds[1].raw
    counts = processor.counts
    assert (counts.charges, counts.refunds, counts.replays) == (1, 1, 3)


async def test_a_key_elsewhere_is_refused_or_means_nothing(
    shop: Shop, processor: Processor
) -> None:
    first = await shop.post("/payments", payment(), **keyed())
    other = await shop.post(f"/payments/{first['id']}/refunds", **keyed())
    assert other.error == (422, "idempotency_key_reused")
    assert (await shop.post(f"/payments/{first['id']}/reversals", **keyed())).status == 202
    tokens = [(await shop.post("/tokens", card(), **keyed()))["token"] for _ in range(2)]
    assert tokens[0] != tokens[1]
    assert processor.counts.replays == 0
    long = await shop.post("/payments", payment(), **keyed("k" * 256))
    assert long.error == (422, "idempotency_key_invalid")


async def test_a_key_in_use(shop: Shop, processor: Processor) -> None:
    processor.hold()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(shop.post("/payments", payment(), **keyed()))
        await processor.holding(1)
        assert (await shop.post("/payments", payment(), **keyed())).status == 409
        processor.release()
    assert first.result().status == 201
    assert processor.counts.charges == 1


async def test_what_failed_is_carried_out_anew(shop: Shop, processor: Processor) -> None:
    """Only what was processed is kept: a failure after the charge charges twice, as there."""
    processor.fail_next(500, after_charge=True)
    failed = await shop.post("/payments", payment(), **keyed())
    assert failed.error == (500, "told_to_fail")
    assert (await shop.post("/payments", payment(), **keyed())).status == 201
    assert processor.counts.charges == 2


async def test_a_lost_answer_is_found_again(shop: Shop, processor: Processor) -> None:
    processor.lose_next_answer()
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await shop.post("/payments", payment(), **keyed())
    assert (await shop.post("/payments", payment(), **keyed()))["approved"] is True
    assert processor.counts.charges == 1


async def test_echo(shop: Shop, processor: Processor) -> None:
    for place in ("body", "error"):
        processor.echo_numbers(place)
        answer = await shop.post("/payments", payment())
        assert VISA in answer["description"]
