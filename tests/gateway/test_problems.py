"""The one table of answers: complete in both directions, and holding no byte of a request."""

import inspect
import json
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import errors as edge
from gateway.errors import GatewayError, UpstreamFailed
from gateway.problems import MEDIA_TYPE, PROBLEMS, Fault, answer, describe, retry_after
from tests.cards import VISA
from vault import errors as custody
from vault.authorization import State
from vault.errors import CustodyError, InvalidCard

REQUEST_ID = "0197-request"


def declared(module: ModuleType, root: type[Exception]) -> set[type[Exception]]:
    return {
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, root) and kind.__module__ == module.__name__
    }


EVERY: set[type[Exception]] = declared(edge, GatewayError) | declared(custody, CustodyError)


def example(kind: type[Exception]) -> Exception:  # noqa: C901, PLR0911 - a form each
    """Make one error of a kind, whatever it asks for."""
    if issubclass(kind, UpstreamFailed):
        return kind(State.UNKNOWN, retryable=True)
    match kind:
        case edge.BadField | edge.CardFieldRefused | custody.InvalidCard:
            return kind("number", "luhn")
        case edge.Malformed | edge.UnsupportedMedia | edge.BodyUnreadable | edge.InflationRefused:
            return kind("framing")
        case edge.UndeclaredCard:
            return edge.UndeclaredCard("number")
        case edge.MethodNotAllowed:
            return edge.MethodNotAllowed({"POST", "GET"})
        case edge.CallbackRefused:
            return edge.CallbackRefused("signature_mismatch")
        case edge.CardTesting:
            return edge.CardTesting(7, "tenant")
        case custody.SealedRefused:
            return custody.SealedRefused("expired")
        case edge.RateLimited:
            return edge.RateLimited(7)
        case _:
            return kind()


def name(kind: type[Exception]) -> str:
    return kind.__name__


BY_NAME: list[type[Exception]] = sorted(EVERY, key=name)


def document(error: Exception) -> dict[str, object]:
    body = answer(error, REQUEST_ID, draw=0.5).body
    assert isinstance(body, bytes)
    found = json.loads(body)
    assert isinstance(found, dict)
    return found


def test_every_error_has_a_row_and_every_row_an_error() -> None:
    assert set(PROBLEMS) == EVERY


def test_a_code_has_one_meaning() -> None:
    roots = {GatewayError, CustodyError}
    codes = [kind.code for kind in EVERY - roots if issubclass(kind, GatewayError | CustodyError)]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("kind", BY_NAME, ids=name)
def test_an_answer_is_a_problem_document(kind: type[Exception]) -> None:
    error = example(kind)
    response = answer(error, REQUEST_ID, draw=0.5)
    found = document(error)
    row = PROBLEMS[kind]
    assert response.status == found["status"] == row.status
    assert response.headers["Content-Type"] == MEDIA_TYPE
    assert found["title"] == row.title
    assert found["code"] == describe(error).code
    assert found["retryable"] is describe(error).retryable
    assert found["request_id"] == REQUEST_ID
    assert set(found) <= {
        *("title", "status", "code", "retryable", "request_id", "state", "field", "reason")
    }
    assert row.fault is not Fault.NONE
    assert (row.status >= 500) == (row.fault is not Fault.CLIENT) or row.status == 505


def test_a_refused_card_names_the_field_and_the_reason() -> None:
    found = document(InvalidCard("number", "luhn"))
    assert (found["status"], found["field"], found["reason"]) == (422, "card.number", "luhn")


def test_the_state_is_told_where_there_is_one() -> None:
    assert document(edge.UpstreamTimeout(State.UNKNOWN, retryable=True))["state"] == "unknown"
    assert document(edge.UpstreamDnsFailed(State.NOT_SENT, retryable=True))["state"] == "not_sent"
    assert "state" not in document(custody.KeysSealed())


class Unheard(CustodyError):
    """A new error that nobody gave a row."""

    code = "unheard_of"


@pytest.mark.guards("T-15")
@pytest.mark.parametrize(
    "error", [ValueError(VISA), KeyError(VISA), Unheard()], ids=["value", "key", "new"]
)
def test_what_has_no_row_is_500_without_words(error: Exception) -> None:
    described = describe(error)
    assert not described.foreseen
    assert document(error) == {
        "title": "Internal error",
        "status": 500,
        "code": "internal_error",
        "retryable": False,
        "request_id": REQUEST_ID,
    }


@pytest.mark.guards("T-15")
@pytest.mark.parametrize(
    "word",
    [VISA, f"card_{VISA}", VISA[:8], "a b", "é", '"', "", "x" * 200],
    ids=["card", "card in a name", "part of a card", "space", "letter", "quote", "empty", "long"],
)
def test_a_word_that_is_not_ours_is_left_out(word: str) -> None:
    found = document(edge.BadField(word, word))
    assert "field" not in found
    assert "reason" not in found


@given(st.text())
def test_no_card_number_comes_back_as_a_field(word: str) -> None:
    assert VISA not in json.dumps(document(edge.BadField(word + VISA, VISA + word)))


def test_who_is_unknown_is_told_how_to_be_known() -> None:
    response = answer(edge.NotAuthenticated(), REQUEST_ID, draw=0.0)
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="panward"'


def test_a_wrong_method_is_told_the_right_ones() -> None:
    response = answer(edge.MethodNotAllowed({"POST", "GET"}), REQUEST_ID, draw=0.0)
    assert response.headers["Allow"] == "GET, POST"


@pytest.mark.parametrize("kind", BY_NAME, ids=name)
def test_who_should_wait_is_told_how_long(kind: type[Exception]) -> None:
    error = example(kind)
    row = PROBLEMS[kind]
    waits = {retry_after(error, draw=draw) for draw in (0.0, 0.3, 0.6, 0.999999)}
    if issubclass(kind, edge.RateLimited):
        assert waits == {7}
    elif kind is custody.EdgeKeyUnknown:
        assert waits == {None}  # seal it anew, at once
    elif kind is edge.LedgerNotPublished:
        assert waits == {1}
    elif row.status == 503 or (row.status == 409 and describe(error).retryable):
        least, most = (5, 30) if row.sealed else (1, 5)
        assert (min(w for w in waits if w), max(w for w in waits if w)) == (least, most)
    else:
        assert waits == {None}


def test_what_will_not_pass_by_itself_is_not_called_retryable() -> None:
    for lasting in (custody.KeysMisconfigured(), custody.LedgerSealed(), custody.RecordCorrupt()):
        assert not describe(lasting).retryable
    for passing in (custody.KeysSealed(), custody.StoreUnavailable(), custody.Overloaded()):
        assert describe(passing).retryable


def test_messages_of_errors_are_fixed() -> None:
    for kind in EVERY:
        assert str(example(kind)) == kind.__doc__
