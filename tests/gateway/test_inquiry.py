"""Exactly one payment that fits in everything is an answer; whatever is less says nothing."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange import is_sendable
from gateway.inquiry import (
    AMBIGUOUS,
    CLOCK_SKEW,
    NO_ANSWER,
    NOT_FOUND,
    TOO_EARLY,
    Found,
    NotReceived,
    Question,
    Said,
    read_answer,
    request_of,
)
from gateway.preset import Inquiry, Preset, load
from vault.authorization import Result

SENT = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)
SOON, LATER = SENT + timedelta(seconds=90), SENT + timedelta(hours=2)
CHECKOUT, STRIPE, CYBERSOURCE = load("checkout_com"), load("stripe"), load("cybersource")
QUESTION = Question("payments.create", "order-1", None, 1999, "EUR", SENT, SENT)


def inquiry_of(preset: Preset) -> Inquiry:
    (inquiry,) = preset.inquiries
    return inquiry


def payment(**others: object) -> dict[str, object]:
    """Show a payment as Checkout.com's list does."""
    shown: dict[str, object] = {
        "id": "pay_1",
        "requested_on": "2026-05-04T12:00:01.103019Z",
        "amount": 1999,
        "currency": "EUR",
        "reference": "order-1",
        "status": "Authorized",
        "approved": True,
        "auth_code": "831000",
    }
    return shown | others


def listed(*payments: object, **others: object) -> dict[str, object]:
    return {"limit": 100, "skip": 0, "total_count": len(payments), "data": payments} | others


def said(body: object, *, at: datetime = LATER, status: int = 200, **asked: object) -> Said:
    question = replace(QUESTION, **asked)  # type: ignore[arg-type]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_answer(CHECKOUT, inquiry_of(CHECKOUT), question, status=status, body=content, at=at)


# --- the question -------------------------------------------------------------------------


def test_a_reference_is_asked_for_as_it_is() -> None:
    call = request_of(inquiry_of(CHECKOUT), replace(QUESTION, merchant_reference="a b/c&d=ü#"[:8]))
    assert call is not None
    assert (call.method, call.path) == ("GET", "/payments")
    assert call.query == "limit=100&skip=0&reference=a%20b%2Fc%26d%3D"
    call = request_of(inquiry_of(CYBERSOURCE), QUESTION)
    assert call is not None
    assert json.loads(call.body)["query"] == "clientReferenceInformation.code:order-1"
    assert call.media_type == "application/json"


@pytest.mark.parametrize(
    ("preset", "reference"),
    [
        (STRIPE, "it's"),
        (STRIPE, "a\\b"),
        (STRIPE, "x' OR metadata['order_id']:'y"),
        (CYBERSOURCE, "1 OR 2"),
        (CYBERSOURCE, "*"),
        (CYBERSOURCE, "-1"),
        (CHECKOUT, "naïve"),
    ],
)
def test_what_would_be_read_as_another_query_is_not_asked(preset: Preset, reference: str) -> None:
    assert request_of(inquiry_of(preset), replace(QUESTION, merchant_reference=reference)) is None


@pytest.mark.parametrize("unknown", ["merchant_reference", "amount", "currency"])
def test_without_what_must_fit_nobody_is_asked(unknown: str) -> None:
    lacking: Any = {unknown: None}
    assert request_of(inquiry_of(CHECKOUT), replace(QUESTION, **lacking)) is None


def test_a_processor_s_reference_that_is_not_known_is_not_asked_for() -> None:
    inquiry = Inquiry(**{
        each: getattr(inquiry_of(CHECKOUT), each) for each in Inquiry.__struct_fields__
    } | {"path": "/payments/{processor_reference}"})  # fmt: skip
    assert request_of(inquiry, QUESTION) is None
    call = request_of(inquiry, replace(QUESTION, processor_reference="pay_1"))
    assert call is not None
    assert call.path == "/payments/pay_1"


@given(st.text(min_size=1, max_size=100), st.sampled_from([CHECKOUT, STRIPE, CYBERSOURCE]))
def test_whatever_the_reference_the_call_can_be_read_as_one_only(
    reference: str, preset: Preset
) -> None:
    call = request_of(inquiry_of(preset), replace(QUESTION, merchant_reference=reference))
    if call is not None:
        assert is_sendable(call.method, call.path, call.query, call.headers)
        assert not call.body or reference in json.loads(call.body)["query"]


# --- the answer ---------------------------------------------------------------------------


@pytest.mark.guards("F-23")
def test_the_one_that_fits_is_the_answer() -> None:
    found = said(listed(payment()))
    assert isinstance(found, Found)
    assert (found.result, found.status) == (Result.APPROVED, 201)
    assert found.references.processor_reference == "pay_1"
    assert found.references.authorization_code == "831000"
    assert json.loads(found.body) == payment()


@pytest.mark.parametrize(
    ("shown", "result"),
    [
        ({"status": "Declined", "approved": False}, Result.DECLINED),
        ({"status": "Captured"}, Result.APPROVED),
        ({"status": "Voided", "approved": None}, Result.APPROVED),
        ({"status": "Partially Refunded", "approved": None}, Result.APPROVED),
        ({"status": "Pending", "approved": None}, Result.PENDING),
    ],
)
def test_what_became_of_it(shown: dict[str, object], result: Result) -> None:
    found = said(listed(payment(**shown)))
    assert isinstance(found, Found)
    assert found.result is result


@pytest.mark.parametrize(
    "other",
    [
        {"id": "pay_2"},
        {"id": "pay_2", "amount": 1},
        {"id": "pay_2", "requested_on": None},
        {"id": "pay_2", "reference": None},
    ],
)
def test_another_that_may_be_it_makes_it_ambiguous(other: dict[str, object]) -> None:
    assert said(listed(payment(), payment(**other))) == AMBIGUOUS


@pytest.mark.parametrize(
    "other",
    [
        {"requested_on": "2026-05-04T11:54:59Z"},
        {"requested_on": "2026-05-04T12:06:01Z"},
        {"reference": "order-11"},
    ],
)
def test_one_that_cannot_be_it_is_left_out(other: dict[str, object]) -> None:
    assert isinstance(said(listed(payment(), payment(id="pay_2", **other))), Found)
    assert said(listed(payment(**other))) == NOT_FOUND, "a clock may be wrong: this proves nothing"


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": 1998},
        {"amount": "1999.5"},
        {"amount": None},
        {"amount": True},
        {"amount": 19.99},
        {"amount": "NaN"},
        {"currency": "USD"},
        {"currency": None},
        {"requested_on": "yesterday"},
        {"reference": None},
    ],
)
def test_one_that_does_not_fit_in_everything_is_no_answer(wrong: dict[str, object]) -> None:
    assert said(listed(payment(**wrong))) == AMBIGUOUS


def test_a_list_that_may_not_be_all_is_no_answer() -> None:
    assert said(listed(payment(), total_count=2)) == AMBIGUOUS
    assert said(listed(total_count=1)) == AMBIGUOUS
    many = [payment(id=f"pay_{n}", requested_on="2020-01-01T00:00:00Z") for n in range(100)]
    assert said(listed(*many)) == AMBIGUOUS


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 200),
        (b"not json", 200),
        ({"data": {}, "total_count": 0}, 200),
        ({"total_count": 0}, 200),
        ([], 200),
        (listed(), 404),
        (listed(payment()), 500),
        (listed(payment(status="Something new", approved=None)), 200),
    ],
)
def test_what_is_no_list_is_no_answer(body: object, status: int) -> None:
    assert said(body, status=status) == NO_ANSWER


def test_a_list_that_is_empty_too_early_says_nothing() -> None:
    assert said(listed(), at=SOON) == TOO_EARLY
    assert said(listed(), at=LATER) == NotReceived()
    assert said(listed(), at=LATER, until=LATER) == TOO_EARLY  # sent again in the meantime


def test_one_that_is_not_final_too_early_says_nothing() -> None:
    pending = listed(payment(status="Pending", approved=None))
    assert said(pending, at=SOON) == TOO_EARLY
    assert isinstance(said(listed(payment()), at=SOON), Found)


def test_where_the_list_is_not_said_to_be_complete_none_proves_nothing() -> None:
    body = json.dumps({"data": [], "has_more": False}).encode()
    asked = replace(QUESTION, operation="payment_intents.create")
    answer = read_answer(STRIPE, inquiry_of(STRIPE), asked, status=200, body=body, at=LATER)
    assert answer == NOT_FOUND


@pytest.mark.parametrize(
    ("status", "more", "expected"),
    [("succeeded", {}, Result.APPROVED), ("requires_payment_method", {"last_payment_error": {
        "decline_code": "insufficient_funds"}}, Result.DECLINED)],
)  # fmt: skip
def test_a_payment_intent(status: str, more: dict[str, object], expected: Result) -> None:
    intent = {
        "id": "pi_1",
        "created": int(SENT.timestamp()) + 1,
        "amount": 1999,
        "currency": "eur",
        "metadata": {"order_id": "order-1"},
        "status": status,
    }
    body = json.dumps({"data": [intent | more], "has_more": False}).encode()
    asked = replace(QUESTION, operation="payment_intents.create")
    answer = read_answer(STRIPE, inquiry_of(STRIPE), asked, status=200, body=body, at=SOON)
    assert isinstance(answer, Found)
    assert (answer.result, answer.references.processor_reference) == (expected, "pi_1")
    more_pages = body.replace(b"false", b"true")
    later = read_answer(STRIPE, inquiry_of(STRIPE), asked, status=200, body=more_pages, at=SOON)
    assert later == AMBIGUOUS


def transaction(reason: str, code: str, *names: str) -> dict[str, object]:
    return {
        "id": f"6{reason}",
        "submitTimeUtc": "2026-05-04T12:00:02Z",
        "clientReferenceInformation": {"code": "order-1"},
        "orderInformation": {"amountDetails": {"totalAmount": "19.99", "currency": "EUR"}},
        "applicationInformation": {
            "reasonCode": reason,
            "rCode": code,
            "applications": [{"name": name, "rCode": code} for name in names],
        },
    }


@pytest.mark.parametrize(
    ("reason", "code", "expected"),
    [
        ("100", "1", Result.APPROVED),
        ("110", "1", Result.APPROVED),
        ("203", "0", Result.DECLINED),
        ("480", "1", Result.PENDING),
        ("475", "0", Result.PENDING),
        ("150", "-1", None),
    ],
)
def test_a_transaction_among_its_follow_ons(
    reason: str, code: str, expected: Result | None
) -> None:
    summaries = [transaction("100", "1", "ics_bill"), transaction(reason, code, "ics_auth")]
    found = {"totalCount": 2, "_embedded": {"transactionSummaries": summaries}}
    answer = read_answer(
        CYBERSOURCE,
        inquiry_of(CYBERSOURCE),
        QUESTION,
        status=201,
        body=json.dumps(found).encode(),
        at=LATER,
    )
    if expected is None:
        assert answer == NO_ANSWER
    else:
        assert isinstance(answer, Found)
        assert (answer.result, answer.references.processor_reference) == (expected, f"6{reason}")


_SHOWN = st.fixed_dictionaries(
    {},
    optional={
        "id": st.just("pay_1"),
        "amount": st.sampled_from([1999, 1998, "1999", None, True, -1, 1e30]),
        "currency": st.sampled_from(["EUR", "eur", "USD", None]),
        "reference": st.sampled_from(["order-1", "order-2", None]),
        "requested_on": st.sampled_from(
            ["2026-05-04T12:00:01Z", "2026-05-04T18:00:01Z", "x", None, 1777896001]
        ),
        "status": st.sampled_from(["Authorized", "Declined", "Pending", "?", None]),
        "approved": st.sampled_from([True, False, None]),
    },
)


@given(st.lists(_SHOWN, max_size=3), st.sampled_from([SOON, LATER]))
def test_nothing_is_found_that_does_not_fit_in_everything(
    payments: list[dict[str, object]], at: datetime
) -> None:
    answer = said(listed(*payments), at=at)
    near = [
        each
        for each in payments
        if each.get("reference") in (None, "order-1")
        and each.get("requested_on") != "2026-05-04T18:00:01Z"
    ]
    if isinstance(answer, Found):
        (one,) = near
        assert one["reference"] == "order-1"
        assert str(one["currency"]).upper() == "EUR"
        assert int(str(one["amount"])) == 1999
    if isinstance(answer, NotReceived):
        assert not payments
        assert at - CLOCK_SKEW > SENT
