"""Answers that repeat the card number."""

import base64
import json
from urllib.parse import unquote

import pytest

from gateway.sandbox.echo import EchoPlace, echoed
from gateway.sandbox.refusals import card_error
from gateway.sandbox.stripe_api import Answer, refused
from tests.cards import AMEX, VISA

ANSWER = Answer(200, b'{\n  "id": "pi_1",\n  "description": "two socks"\n}')


def body(place: EchoPlace, *numbers: str) -> bytes:
    return echoed(ANSWER, numbers or (VISA,), place).body


def description(place: EchoPlace) -> str:
    return str(json.loads(body(place))["description"])


def test_in_plain() -> None:
    assert VISA in description("body")
    assert AMEX in body("body", VISA, AMEX).decode()


def test_spaced() -> None:
    assert VISA.encode() not in body("spaced")
    assert description("spaced").replace(" ", "") == VISA


def test_as_a_json_number() -> None:
    assert json.loads(body("json_number"))["description"] == [int(VISA)]
    assert json.loads(body("json_number", "pwt_x"))["description"] == []


def test_escaped() -> None:
    assert VISA.encode() not in body("escaped")
    assert description("escaped") == VISA


def test_percent_encoded() -> None:
    assert VISA.encode() not in body("percent")
    assert unquote(description("percent")) == VISA


def test_base64() -> None:
    assert base64.b64decode(description("base64")) == VISA.encode()


def test_inside_a_longer_base64() -> None:
    text = description("base64_inside")
    assert VISA.encode() in base64.b64decode(text)
    assert base64.b64encode(VISA.encode()).rstrip(b"=").decode() not in text


def test_in_an_error() -> None:
    answer = echoed(ANSWER, [VISA], "error")
    assert answer.status == 402
    assert VISA in json.loads(answer.body)["error"]["message"]


def test_in_the_message_of_what_is_an_error_already() -> None:
    answer = echoed(refused(card_error("incorrect_number", "No.")), [VISA], "body")
    assert answer.status == 402
    assert VISA in json.loads(answer.body)["error"]["message"]


def test_in_a_header() -> None:
    answer = echoed(ANSWER, [VISA], "header")
    assert dict(answer.headers)["Request-Id"] == f"req_{VISA}"
    assert answer.body == ANSWER.body


@pytest.mark.parametrize(("numbers", "place"), [([VISA], None), ([], "body")])
def test_nothing_to_echo(numbers: list[str], place: EchoPlace | None) -> None:
    assert echoed(ANSWER, numbers, place) is ANSWER


def test_the_rest_of_the_body_stays() -> None:
    assert json.loads(body("escaped"))["id"] == "pi_1"
