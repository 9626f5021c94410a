"""The table of calls, decided without a network."""

import itertools
import json
from datetime import timedelta
from typing import Any

import pytest

from gateway.sandbox import books as books_module
from gateway.sandbox.books import Books, Counts
from gateway.sandbox.params import Params
from gateway.sandbox.stripe_api import Call, answered
from gateway.sandbox.wire import WireAnswer
from tests.cards import DECLINED, STORED_THEN_DECLINED, THREE_D_SECURE, VISA
from tests.gateway.sandbox.harness import Clock

PRICE = {"amount": "1000", "currency": "EUR"}
CONFIRMED = PRICE | {"confirm": "true"}
MANUAL = CONFIRMED | {"capture_method": "manual"}


@pytest.fixture
def books() -> Books:
    numbers = itertools.count(1)
    return Books(
        new_id=lambda prefix: f"{prefix or 'issuer_number'}_{next(numbers)}",
        now=Clock(),
        fingerprint_key=b"0" * 32,
        counts=Counts(),
    )


def card(parent: str, number: str = VISA) -> dict[str, str]:
    fields = {"number": number, "exp_month": "12", "exp_year": "2040", "cvc": "123"}
    return {f"{parent}[{name}]": value for name, value in fields.items()}


def brought(number: str = VISA) -> dict[str, str]:
    return {"payment_method_data[type]": "card"} | card("payment_method_data[card]", number)


def ask(books: Books, method: str, path: str, fields: dict[str, str] | None = None) -> WireAnswer:
    return answered(books, Call(method, path, Params(list((fields or {}).items()))))


def post(books: Books, path: str, fields: dict[str, str] | None = None) -> dict[str, Any]:
    answer = ask(books, "POST", path, fields)
    assert answer.status == 200, answer.body
    body = json.loads(answer.body)
    assert isinstance(body, dict)
    return body


def refusal(books: Books, path: str, fields: dict[str, str] | None = None) -> tuple[int, str]:
    answer = ask(books, "POST", path, fields)
    error = json.loads(answer.body)["error"]
    return answer.status, error.get("code") or error["type"]


def intent(books: Books, fields: dict[str, str]) -> str:
    return f"/v1/payment_intents/{post(books, '/v1/payment_intents', fields)['id']}"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v1/payment_methods"),
        ("POST", "/v1/payment_methods/pm_1"),
        ("POST", "/v1/payment_intents/pi_1/melt"),
        ("POST", "/v1/payment_intents/"),
        ("POST", "/v1/payment_intents/pi_1/confirm/x"),
        ("POST", "/v2/payment_intents"),
        ("DELETE", "/v1/customers/cus_1"),
    ],
)
def test_no_such_call(books: Books, method: str, path: str) -> None:
    assert ask(books, method, path).status == 404


@pytest.mark.parametrize(
    "collection",
    ["payment_methods", "customers", "setup_intents", "payment_intents", "charges", "refunds"],
)
def test_no_such_object(books: Books, collection: str) -> None:
    answer = ask(books, "GET", f"/v1/{collection}/x_{VISA}")
    assert answer.status == 404
    assert VISA.encode() not in answer.body


def test_every_object_is_found_again(books: Books) -> None:
    path = intent(books, CONFIRMED | brought())
    charge = json.loads(ask(books, "GET", path).body)["latest_charge"]
    made = [
        post(books, "/v1/payment_methods", {"type": "card"} | card("card")),
        post(books, "/v1/customers", {"source[object]": "card"} | card("source")),
        post(books, "/v1/setup_intents"),
        post(books, "/v1/refunds", {"charge": charge}),
    ]
    for thing in made:
        found = ask(books, "GET", f"/v1/{thing['object']}s/{thing['id']}")
        assert json.loads(found.body) == thing
    shown = json.loads(ask(books, "GET", f"/v1/charges/{charge}").body)
    assert (shown["object"], shown["refunded"]) == ("charge", True)


def test_nothing_kept_holds_a_number(books: Books) -> None:
    post(books, "/v1/payment_methods", {"type": "card"} | card("card"))
    post(books, "/v1/tokens", card("card"))
    intent(books, CONFIRMED | brought())
    assert VISA not in repr(books)


def test_the_fingerprint_is_the_numbers(books: Books) -> None:
    def fingerprint(number: str) -> object:
        made = post(books, "/v1/payment_methods", {"type": "card"} | card("card", number))
        return made["card"]["fingerprint"]

    assert fingerprint(VISA) == fingerprint(VISA)
    assert fingerprint(VISA) != fingerprint(DECLINED)


@pytest.mark.parametrize(
    ("path", "fields", "code"),
    [
        ("/v1/payment_methods", {}, "parameter_missing"),
        ("/v1/payment_methods", {"type": "sepa_debit"}, "parameter_invalid"),
        ("/v1/payment_intents", {"currency": "eur"}, "parameter_missing"),
        ("/v1/payment_intents", {"amount": "1"}, "parameter_missing"),
        ("/v1/payment_intents", {"amount": "1", "currency": "euro"}, "parameter_invalid"),
        ("/v1/payment_intents", PRICE | {"capture_method": "x"}, "parameter_invalid"),
        ("/v1/payment_intents", PRICE | {"payment_method": "pm_0"}, "resource_missing"),
        ("/v1/payment_intents", PRICE | {"payment_method_data[type]": "x"}, "parameter_invalid"),
        ("/v1/payment_intents", CONFIRMED, "parameter_missing"),
        ("/v1/setup_intents", {"confirm": "true"}, "parameter_missing"),
        ("/v1/charges", PRICE, "parameter_missing"),
        ("/v1/charges", PRICE | {"source": "tok_0"}, "resource_missing"),
        ("/v1/refunds", {}, "parameter_missing"),
        ("/v1/refunds", {"charge": "ch_0"}, "resource_missing"),
        ("/v1/refunds", {"payment_intent": "pi_0"}, "resource_missing"),
    ],
)
def test_wrong_parameters(books: Books, path: str, fields: dict[str, str], code: str) -> None:
    assert refusal(books, path, fields)[1] == code


def test_confirm_twice(books: Books) -> None:
    path = intent(books, PRICE | brought())
    assert post(books, f"{path}/confirm", {"capture_method": "manual"})["amount_capturable"] == 1000
    assert refusal(books, f"{path}/confirm") == (400, "payment_intent_unexpected_state")
    assert books.counts.charges == 1


def test_another_card_after_a_decline(books: Books) -> None:
    path = intent(books, PRICE)
    assert refusal(books, f"{path}/confirm", brought(DECLINED)) == (402, "card_declined")
    assert refusal(books, f"{path}/confirm") == (400, "parameter_missing")
    paid = post(books, f"{path}/confirm", brought())
    assert (paid["status"], paid["last_payment_error"]) == ("succeeded", None)


def test_a_challenged_intent_may_be_canceled(books: Books) -> None:
    path = intent(books, CONFIRMED | brought(THREE_D_SECURE))
    assert (
        post(books, f"{path}/cancel", {"cancellation_reason": "abandoned"})["status"] == "canceled"
    )
    assert refusal(books, f"{path}/cancel") == (400, "payment_intent_unexpected_state")


def test_capture_no_more_than_held(books: Books) -> None:
    path = intent(books, MANUAL | brought())
    more = refusal(books, f"{path}/capture", {"amount_to_capture": "1001"})
    assert more == (400, "parameter_invalid")
    captured = post(books, f"{path}/capture", {"expand[0]": "latest_charge"})
    assert captured["latest_charge"]["amount_captured"] == 1000
    assert refusal(books, f"{path}/capture") == (400, "payment_intent_unexpected_state")


def test_refunds_by_parts(books: Books) -> None:
    path = intent(books, CONFIRMED | brought())
    of = {"payment_intent": path.rpartition("/")[2]}
    assert post(books, "/v1/refunds", of | {"amount": "600"})["amount"] == 600
    assert refusal(books, "/v1/refunds", of | {"amount": "401"})[1] == "amount_too_large"
    assert post(books, "/v1/refunds", of)["amount"] == 400
    assert refusal(books, "/v1/refunds", of)[1] == "charge_already_refunded"


def test_nothing_to_refund(books: Books) -> None:
    held = {"payment_intent": intent(books, MANUAL | brought()).rpartition("/")[2]}
    assert refusal(books, "/v1/refunds", held)[1] == "charge_not_captured"
    unpaid = {"payment_intent": intent(books, PRICE).rpartition("/")[2]}
    assert refusal(books, "/v1/refunds", unpaid)[1] == "payment_intent_unexpected_state"


def test_charge_held_then_captured(books: Books) -> None:
    held = post(books, "/v1/charges", PRICE | {"capture": "false"} | card("card"))
    assert (held["paid"], held["captured"]) == (True, False)
    path = f"/v1/charges/{held['id']}/capture"
    assert refusal(books, path, {"amount": "1001"})[1] == "parameter_invalid"
    assert post(books, path, {"amount": "900"})["amount_captured"] == 900
    assert refusal(books, path)[1] == "charge_unexpected_state"


def test_cards_that_cannot_be_kept(books: Books) -> None:
    fields = {"source[object]": "card"}
    assert refusal(books, "/v1/customers", fields | card("source", DECLINED))[0] == 402
    kept = post(books, "/v1/customers", fields | card("source", STORED_THEN_DECLINED))
    assert kept["default_source"] is not None


def test_setup_intent_by_steps(books: Books) -> None:
    made = post(books, "/v1/setup_intents", brought(DECLINED))
    path = f"/v1/setup_intents/{made['id']}"
    assert made["status"] == "requires_confirmation"
    assert refusal(books, f"{path}/confirm")[0] == 402
    assert post(books, f"{path}/confirm", brought())["status"] == "succeeded"
    assert refusal(books, f"{path}/confirm")[1] == "setup_intent_unexpected_state"


def test_a_decline_is_carried_out_a_wrong_parameter_is_not(books: Books) -> None:
    assert ask(books, "POST", "/v1/payment_intents", CONFIRMED | brought(DECLINED)).executed
    assert not ask(books, "POST", "/v1/payment_intents", {}).executed


def test_only_so_much_is_kept(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books_module, "OBJECTS_MAX", 2)
    first = post(books, "/v1/customers")
    for _ in range(2):
        post(books, "/v1/customers")
    assert len(books.customers) == 2
    assert ask(books, "GET", f"/v1/customers/{first['id']}").status == 404


def test_payment_intents_are_found_by_their_metadata_but_not_at_once(books: Books) -> None:
    named = CONFIRMED | brought() | {"metadata[order_id]": "order 1"}
    made = [post(books, "/v1/payment_intents", named) for _ in range(3)]
    post(books, "/v1/payment_intents", named | {"metadata[order_id]": "order 2"})
    query = {"query": "metadata['order_id']:'order 1'"}
    found = searched(books, query)
    assert (found["object"], found["data"], found["has_more"]) == ("search_result", [], False)
    assert isinstance(books.now, Clock)
    books.now.advance(timedelta(seconds=3))
    found = searched(books, query | {"limit": "2"})
    assert [each["id"] for each in found["data"]] == [made[2]["id"], made[1]["id"]]
    assert found["has_more"] is True
    assert found["data"][0]["metadata"] == {"order_id": "order 1"}
    for wrong in ({"query": "amount>1"}, query | {"limit": "101"}, {}):
        assert ask(books, "GET", "/v1/payment_intents/search", wrong).status == 400


def searched(books: Books, fields: dict[str, str]) -> dict[str, Any]:
    answer = ask(books, "GET", "/v1/payment_intents/search", fields)
    assert answer.status == 200, answer.body
    found: dict[str, Any] = json.loads(answer.body)
    return found
