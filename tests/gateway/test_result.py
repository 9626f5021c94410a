import json

import msgspec
import pytest

from gateway import preset
from gateway.order import OpenedCard
from gateway.preset import Operation
from gateway.preset_conditions import Condition
from gateway.reply import Reflected, Scrubbed, scrub
from gateway.result import References, Settled, UnknownOutcome, read_result
from tests import cards
from vault.authorization import Result
from vault.card import Expiry
from vault.pan import Cvc, Pan
from vault.tokens import token_of

STRIPE = preset.load("stripe")
NUMBER = cards.VISA_ALT
CARD = OpenedCard(token_of("test", 4), Pan.parse(NUMBER), Cvc.parse("737"), Expiry(2031, 3))


def _operation(path: str) -> Operation:
    (operation,) = STRIPE.candidates("POST", path)
    return operation


CREATE = "/v1/payment_intents"
CAPTURE = "/v1/payment_intents/pi_1/capture"
CANCEL = "/v1/payment_intents/pi_1/cancel"
METHODS = "/v1/payment_methods"
SETUP = "/v1/setup_intents"
CHARGES = "/v1/charges"
REFUNDS = "/v1/refunds"


def _read(path: str, status: int, document: object) -> Settled | UnknownOutcome:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return read_result(STRIPE, _operation(path), status, Scrubbed((), body, 0, 0))


@pytest.mark.parametrize(
    ("path", "status", "document", "result"),
    [
        (METHODS, 200, {"id": "pm_1"}, Result.STORED),
        (METHODS, 402, {"error": {"type": "card_error"}}, Result.DECLINED),
        (CREATE, 200, {"status": "succeeded"}, Result.APPROVED),
        (CREATE, 200, {"status": "requires_capture"}, Result.APPROVED),
        (CREATE, 201, {"status": "requires_action"}, Result.PENDING),
        (CREATE, 200, {"status": "processing"}, Result.PENDING),
        (CREATE, 200, {"status": "requires_confirmation"}, Result.PENDING),
        (CREATE, 200, {"status": "requires_payment_method"}, Result.PENDING),
        (
            CREATE,
            200,
            {"status": "requires_payment_method", "last_payment_error": None},
            Result.PENDING,
        ),
        (
            CREATE,
            200,
            {"status": "requires_payment_method", "last_payment_error": {"code": "x"}},
            Result.DECLINED,
        ),
        (CREATE, 402, {"error": {"type": "card_error", "code": "x"}}, Result.DECLINED),
        (CREATE, 402, {"error": {"type": "invalid_request_error"}}, Result.ERROR),
        (CREATE, 400, {"error": {"type": "invalid_request_error"}}, Result.ERROR),
        (CREATE, 400, b"<html>", Result.ERROR),
        (CREATE, 409, {"error": {"code": "lock_timeout"}}, Result.ERROR),
        (CAPTURE, 200, {"status": "succeeded"}, Result.APPROVED),
        (CAPTURE, 200, {"status": "processing"}, Result.PENDING),
        (CANCEL, 200, {"status": "canceled"}, Result.APPROVED),
        (SETUP, 200, {"status": "succeeded"}, Result.APPROVED),
        (SETUP, 200, {"status": "requires_payment_method"}, Result.PENDING),
        (
            SETUP,
            200,
            {"status": "requires_payment_method", "last_setup_error": {}},
            Result.DECLINED,
        ),
        (CHARGES, 200, {"status": "succeeded", "paid": True}, Result.APPROVED),
        (CHARGES, 200, {"status": "pending"}, Result.PENDING),
        (CHARGES, 200, {"status": "failed"}, Result.DECLINED),
        (REFUNDS, 200, {"status": "succeeded"}, Result.APPROVED),
        (REFUNDS, 200, {"status": "pending"}, Result.PENDING),
        (REFUNDS, 200, {"status": "failed"}, Result.DECLINED),
    ],
)
def test_what_stripe_s_replies_mean(
    path: str, status: int, document: object, result: Result
) -> None:
    read = _read(path, status, document)
    assert isinstance(read, Settled)
    assert read.result is result
    assert read.executed


@pytest.mark.guards("F-25")
@pytest.mark.parametrize("status", [401, 403, 429])
def test_a_reply_to_what_was_not_executed_says_so(status: int) -> None:
    read = _read(CREATE, status, {"error": {"type": "invalid_request_error"}})
    assert isinstance(read, Settled)
    assert (read.result, read.executed) == (Result.ERROR, False)


@pytest.mark.guards("F-25", "F-29")
@pytest.mark.parametrize(
    ("path", "status", "document", "reason"),
    [
        (CREATE, 500, {"error": {"type": "api_error"}}, "upstream_error"),
        (CREATE, 503, b"", "upstream_error"),
        (CREATE, 200, b"", "upstream_protocol_error"),
        (CREATE, 200, b'{"status":"succeeded"', "upstream_protocol_error"),
        (CREATE, 200, b"[" * 100_000, "upstream_protocol_error"),
        (CREATE, 200, {"status": "something_new"}, "upstream_protocol_error"),
        (CREATE, 200, {"status": True}, "upstream_protocol_error"),
        (CREATE, 200, ["succeeded"], "upstream_protocol_error"),
        (METHODS, 200, {"status": "succeeded"}, "upstream_protocol_error"),
        (CANCEL, 200, {"status": "succeeded"}, "upstream_protocol_error"),
        (CREATE, 304, {"status": "succeeded"}, "upstream_protocol_error"),
        (CREATE, 409, {"error": {"code": "idempotency_key_in_use"}}, "upstream_in_flight"),
    ],
)
def test_a_reply_that_leaves_it_open_is_unknown(
    path: str, status: int, document: object, reason: str
) -> None:
    read = _read(path, status, document)
    assert isinstance(read, UnknownOutcome)
    assert read.reason == reason


def test_a_byte_order_mark_before_the_reply_is_no_part_of_it() -> None:
    read = _read(CREATE, 200, b'\xef\xbb\xbf{"status":"succeeded"}')
    assert isinstance(read, Settled)


@pytest.mark.parametrize(
    ("status", "document", "references"),
    [
        (
            200,
            {
                "id": "pi_1",
                "status": "succeeded",
                "latest_charge": {"payment_method_details": {"card": {"authorization_code": "A7"}}},
                "failure_code": "old",
            },
            References("pi_1", None, "A7"),
        ),
        (
            402,
            {
                "error": {
                    "type": "card_error",
                    "code": "card_declined",
                    "decline_code": "insufficient_funds",
                    "payment_intent": {"id": "pi_2"},
                }
            },
            References("pi_2", "insufficient_funds"),
        ),
        (
            402,
            {"error": {"type": "card_error", "code": "expired_card"}},
            References(None, "expired_card"),
        ),
        (400, {"error": {"code": "resource_missing"}}, References()),
        (500, {"id": "pi_3"}, References("pi_3")),
        (200, {"id": 7, "status": "succeeded"}, References("7")),
        (200, {"id": "", "status": "succeeded"}, References()),
        (200, {"id": "a b", "status": "succeeded"}, References()),
        (200, {"id": "x" * 256, "status": "succeeded"}, References()),
        (200, b"text", References()),
    ],
)
def test_what_a_reply_is_remembered_by(
    status: int, document: object, references: References
) -> None:
    assert _read(CREATE, status, document).references == references


@pytest.mark.guards("F-28")
def test_a_withheld_reply_is_read_and_nothing_of_it_is_remembered() -> None:
    body = json.dumps({"id": NUMBER[::-1], "status": "succeeded"}).encode()
    reflected = scrub((), body, (CARD,))
    assert isinstance(reflected, Reflected)
    read = read_result(STRIPE, _operation(CREATE), 200, reflected)
    assert read == Settled(Result.APPROVED, References(), executed=True)


def test_true_is_not_one() -> None:
    rule = preset.ResultRule(
        statuses=("2xx",),
        where=(Condition(path="paid", equals=(1,)),),
        result="approved",
    )
    changed = msgspec.structs.replace(STRIPE, results=(rule,))
    for paid, expected in ((1, Settled), (True, UnknownOutcome), ("1", UnknownOutcome)):
        body = json.dumps({"paid": paid}).encode()
        read = read_result(changed, _operation(CREATE), 200, Scrubbed((), body, 0, 0))
        assert type(read) is expected
