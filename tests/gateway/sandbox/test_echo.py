"""Answers that repeat the card number."""

import base64
import json
from typing import get_args
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import pytest

from gateway.sandbox.echo import EchoPlace, echoed
from gateway.sandbox.refusals import card_error
from gateway.sandbox.stripe_api import refused
from gateway.sandbox.wire import WireAnswer
from tests.cards import AMEX, VISA

JSON = "application/json"
ANSWER = WireAnswer(200, b'{\n  "id": "pi_1",\n  "description": "two socks"\n}', JSON)


def failure(status: int) -> WireAnswer:
    return WireAnswer(status, b'{"error": {"message": "no"}}', JSON)


def careless(place: EchoPlace | None, *numbers: str, answer: WireAnswer = ANSWER) -> WireAnswer:
    return echoed(answer, numbers, place, failure=failure)


def body(place: EchoPlace, *numbers: str) -> bytes:
    return careless(place, *(numbers or (VISA,))).body


def xml(place: EchoPlace, text: bytes) -> ET.Element:
    answer = careless(place, VISA, answer=WireAnswer(200, text, "application/xml; charset=utf-8"))
    return ET.fromstring(answer.body)  # noqa: S314 - our own


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
    answer = careless("error", VISA)
    assert answer.status == 402
    assert VISA in json.loads(answer.body)["error"]["message"]


def test_in_the_message_of_what_is_an_error_already() -> None:
    refusal = refused(card_error("incorrect_number", "No."))
    answer = careless("body", VISA, answer=refusal)
    assert answer.status == 402
    assert VISA in json.loads(answer.body)["error"]["message"]


def test_in_a_header() -> None:
    answer = careless("header", VISA)
    assert dict(answer.headers)["Request-Id"] == f"req_{VISA}"
    assert answer.body == ANSWER.body


@pytest.mark.parametrize(("numbers", "place"), [([VISA], None), ([], "body")])
def test_nothing_to_echo(numbers: list[str], place: EchoPlace | None) -> None:
    assert careless(place, *numbers) is ANSWER


def test_the_rest_of_the_body_stays() -> None:
    assert json.loads(body("escaped"))["id"] == "pi_1"


# --- answers of other shapes --------------------------------------------------------------


def test_a_message_at_the_top() -> None:
    answer = careless("body", VISA, answer=WireAnswer(422, b'{"message": "no"}', JSON))
    assert VISA in json.loads(answer.body)["message"]


def test_a_byte_order_mark_stays() -> None:
    answer = careless("body", VISA, answer=WireAnswer(200, b'\xef\xbb\xbf{"id": "1"}', JSON))
    assert answer.body.startswith(b"\xef\xbb\xbf{")
    assert VISA in json.loads(answer.body.decode("utf-8-sig"))["description"]


@pytest.mark.parametrize("text", [b"", b"[1]", b"<a>"])
def test_json_without_a_place_stays(text: bytes) -> None:
    assert careless("body", VISA, answer=WireAnswer(200, text, JSON)).body == text


def test_neither_json_nor_xml() -> None:
    answer = WireAnswer(307, b"elsewhere", "text/plain")
    assert careless("body", VISA, answer=answer) == answer


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("body", f"card {VISA} received"),
        ("json_number", VISA),
        ("escaped", VISA),
        ("percent", "".join(f"%{ord(digit):X}" for digit in VISA)),
        ("base64", base64.b64encode(VISA.encode()).decode()),
    ],
    ids=lambda value: value if value in get_args(EchoPlace) else "",
)
def test_xml(place: EchoPlace, text: str) -> None:
    named = b"<a><messages><text>I00001 &amp; fine</text></messages><b>1</b></a>"
    assert [each.text for each in xml(place, named).iter()][2:] == [text, "1"]
    assert xml(place, b"<a><id>1</id></a>").findtext("description") == text


def test_xml_character_references() -> None:
    answer = WireAnswer(200, b"<a/><!-- --></a>", "text/xml")
    assert VISA.encode() not in careless("escaped", VISA, answer=answer).body


def test_an_error_of_an_xml_processor() -> None:
    def failed(status: int) -> WireAnswer:
        return WireAnswer(status, b"<e><message>no</message></e>", "application/xml")

    answer = echoed(ANSWER, [VISA], "error", failure=failed)
    assert f"<message>The card {VISA} could".encode() in answer.body
