"""Codes of cards are told by their names; results of checking one are none."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import preset
from gateway.callback_codes import codes_among, codes_in, is_code, may_be_there
from gateway.callback_scrub import Cleaned, scrubbed
from gateway.codecs import json as json_codec
from gateway.preset_callbacks import CallbackEvents
from gateway.signatures import SCHEMES
from tests.cards import VISA, VISA_ALT

RULES = CallbackEvents(schemes=("stripe",), type=("type",), id=("id",))
XML_TYPE = (("Content-Type", "text/xml"),)
FORM_TYPE = (("Content-Type", "application/x-www-form-urlencoded"),)


def of(body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> Cleaned:
    name = "mollie_classic" if headers == FORM_TYPE else "stripe"
    return scrubbed(RULES, SCHEMES[name], headers, body)


def of_json(document: object) -> object:
    return json.loads(of(json.dumps({"id": "e", "x": document}).encode()).body)["x"]


CODES = [
    *("cvc", "CVV", "cvv2", "CVV_2", "cvc2", "cvn", "cvd", "csc", "cid", "cav2", "cv2", "cvNumber"),
    *("cvc_code", "cvc_number", "cvcs", "cvv2Value", "CVCCode", "cvv2CodeValue", "CvC", "card-cvv"),
    *("cardSecurityCode", "card_security", "cardCode", "card.code", "creditcardcvv", "CARDCVV"),
    *("Security Code", "security_code", "securityCodeValue", "cardVerificationValue2"),
    *("verification_value", "verificationValue", "card_verification", "cardVerificationNumber"),
    *("encrypted_cvv", "payment.card.cvc", "billing cvc", "cvc\x00", "cvc_no", "cvvText"),
]
NO_CODES = [
    *("avs_result", "cvc_check", "cvcCheck", "cvvResult", "cvv_result_code", "cvc_response_code"),
    *("cvvResponse", "CVCResultCode", "cvv_status", "cvcMatched", "cvcResultRaw", "cvc_length"),
    *("security", "verification", "code", "response_code", "exp", "expiry", "exp_month", "last4"),
    *("rcvd", "received", "cavv", "incident", "decided", "acid", "email_verification_code"),
    *("card_code_result", "cvc_expiry", "security_code_status", "zip", "card.exp", "cvc_attempts"),
]


@pytest.mark.guards("T-44")
@pytest.mark.parametrize("name", CODES)
def test_a_code_becomes_zeros_by_whichever_name(name: str) -> None:
    assert of_json({name: "737"}) == {name: "000"}
    assert of_json({"card": [{name: " 1234 "}]}) == {"card": [{name: "0000"}]}
    assert of_json({name: 37}) == {name: 0}
    assert of_json([{name: "12 3"}, {"n": VISA}]) == [{name: "0000"}, {"n": f"{'*' * 12}4242"}]
    assert may_be_there(json.dumps({name: 1}).encode())


@pytest.mark.parametrize("name", NO_CODES)
@pytest.mark.parametrize("value", ["737", "1230", 101, "pass", "M", True, None])
def test_what_came_of_a_check_stays(name: str, value: object) -> None:
    assert of_json({name: value}) == {name: value}
    assert of_json({"card": [{name: value}]}) == {"card": [{name: value}]}


@pytest.mark.parametrize(
    "document",
    [
        {"cvc": "unchecked", "cvv": "M", "cvv2": "000", "csc": 0, "cvc_code": "Y", "cid": "C-1234"},
        {"cvc": {"check": "101", "result": {"code": "100"}, "length": 3, "status": 200}},
        {"checks": {"cvc_check": "pass", "address_line1_check": None}, "expiry": "12/30"},
        {"processor_response": {"avs_code": "Y", "cvv_code": "4", "response_code": "0000"}},
        {"credit_card_verification": {"last_4": "4242", "amount": "100", "cvv_response_code": "1"}},
        {"cid": {"shop": 1234}, "card": {"last4": "1111", "exp_year": 2030}},
        {"cvc": ["matched"], "note": "cvc check 101, CVC result: 200, security code checked 100"},
        {"note": "cvc 12/30, cvv 123.45, cvv 2026-11-22, cvv12345, xcvc=123"},
    ],
)
def test_what_is_beside_a_code_stays(document: object) -> None:
    assert of_json(document) == document


@pytest.mark.guards("T-44")
@pytest.mark.parametrize(
    ("document", "after"),
    [
        ({"cvc": {"value": "123"}}, {"cvc": {"value": "000"}}),
        ({"cvc": {"data": {"plain": "123"}}}, {"cvc": {"data": {"plain": "000"}}}),
        ({"cvcs": ["123", {"v": 99}]}, {"cvcs": ["000", {"v": 0}]}),
        ({"cvc": [["123"]]}, {"cvc": [["000"]]}),
        ({"cvc": [1, 2, 3]}, {"cvc": [0, 0, 0]}),
        ({"cvc": ["1", "0", "3"]}, {"cvc": ["0", "0", "0"]}),
        ({"security": {"code": "123"}}, {"security": {"code": "000"}}),
        ({"verification": {"value": "123"}}, {"verification": {"value": "000"}}),
        ({"verification": {"cvc": "123"}}, {"verification": {"cvc": "000"}}),
        ({"checks": {"card_cvc": "123"}}, {"checks": {"card_cvc": "000"}}),
        ({"cvc": "\uff11\uff12\uff13"}, {"cvc": "000"}),
        ({"a": '{"cvc":"123"}'}, {"a": '{"cvc":"000"}'}),
        ({"a": r"{\"cvv2Value\": 1, \"cvv\": 1234}"}, {"a": r"{\"cvv2Value\": 1, \"cvv\": 0000}"}),
        ({"a": "number=4242&cvc=123&x=1"}, {"a": "number=4242&cvc=000&x=1"}),
        ({"a": "é <cvc>123</cvc>"}, {"a": "é <cvc>000</cvc>"}),
        (
            {"a": f"card {VISA_ALT} cvc 123 exp 12/30, security code: 4321"},
            {"a": f"card {'*' * 12}1111 cvc 000 exp 12/30, security code: 0000"},
        ),
    ],
)
def test_codes_in_places_of_all_kinds(document: object, after: object) -> None:
    assert of_json(document) == after


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("<a><cvc><v>123</v></cvc></a>", "<a><cvc><v>000</v></cvc></a>"),
        ("<a><cvc value='123'/></a>", "<a><cvc value='000'/></a>"),
        ("<a cvv2Value='123'/>", "<a cvv2Value='000'/>"),
        ("<a><cvc>1&#50;3</cvc></a>", "<a><cvc>000</cvc></a>"),
        ("<x:a xmlns:x='u'><x:cvc>123</x:cvc></x:a>", "<x:a xmlns:x='u'><x:cvc>000</x:cvc></x:a>"),
        ("<a><cvv>123</cvv><cvv>456</cvv></a>", "<a><cvv>000</cvv><cvv>000</cvv></a>"),
        ("<a><n>cvc: 123 &amp; so</n></a>", "<a><n>cvc: 000 &amp; so</n></a>"),
        ("<a><CVCResultCode code='12' d='123'/></a>", "<a><CVCResultCode code='12' d='123'/></a>"),
    ],
)
def test_codes_in_xml(body: str, after: str) -> None:
    assert of(body.encode(), XML_TYPE).body.decode() == after


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("card[cvc][value]=123", "card[cvc][value]=000"),
        ("card%5Bcvv2%5D=123&b=1", "card%5Bcvv2%5D=000&b=1"),
        ("cvc[]=1&cvc[]=23", "cvc[]=0&cvc[]=00"),
        ("card.cvc=+123", "card.cvc=000"),
        ("note=cvc+123+%C3%A9", "note=cvc+000+%C3%A9"),
        ("cvc_check=123&cvc=pass", "cvc_check=123&cvc=pass"),
    ],
)
def test_codes_in_forms(body: str, after: str) -> None:
    assert of(body.encode(), FORM_TYPE).body.decode() == after


def test_codes_in_what_is_neither() -> None:
    assert of(b"\xffcvc=123;").body == b"\xffcvc=000;"


def test_codes_in_headers() -> None:
    headers = (
        *(("X-Card-CVC", "123"), ("X-Note", "cvv: 1234"), ("X-Cvc-Check", "100")),
        ("Strict-Transport-Security", "max-age=31536000"),
    )
    assert of(b'{"id":"e"}', headers).headers == (
        *(("X-Card-CVC", "000"), ("X-Note", "cvv: 0000"), ("X-Cvc-Check", "100")),
        ("Strict-Transport-Security", "max-age=31536000"),
    )
    unchanged = headers[2:]
    assert of(b'{"id":"e"}', unchanged).headers is unchanged


PARTS = (
    *("cvc", "CVV", "cid", "cav", "cv", "card", "security", "Code", "value", "2", "number"),
    *("check", "result", "x", "verification", "_", "-", "s", "Card", "response"),
)
NAMES = st.one_of(
    st.sampled_from([*CODES, *NO_CODES]),
    st.lists(
        st.sampled_from(PARTS),
        max_size=5,
    ).map("".join),
)


@given(st.lists(NAMES, min_size=1, max_size=3), st.sampled_from(["123", 77, ["1", "2"]]))
def test_the_quick_look_misses_nothing(names: list[str], value: object) -> None:
    document = value
    for name in names:
        document = {name: document}
    body = json.dumps(document).encode()
    found = list(codes_among(json_codec.read(body).fields))
    assert may_be_there(body) or not found


@given(name=st.sampled_from(["cvc", "CVV2", "security code", "card_code"]), filler=st.text())
def test_the_quick_look_misses_no_code_in_a_text(name: str, filler: str) -> None:
    text = f"{filler} {name}: 123"
    assert codes_in(text)
    assert may_be_there(text.encode("utf-8", "surrogatepass"))


def test_a_code_by_name_alone() -> None:
    assert is_code("x-card-cvc", " 123 ")
    assert not any(is_code(name, "123") for name in ("x-cvc-check", "cvc.result", "", "..", "[0]"))
    assert not any(is_code("cvc", text) for text in ("", "12", "12345", "000", "pass", "12a"))


@pytest.mark.parametrize("name", preset.names())
def test_no_preset_s_own_words_are_taken_for_a_code(name: str) -> None:
    """What a preset reads of a callback is not damaged by what it is called."""
    rules = preset.load(name).callbacks
    assert rules is not None
    for paths in (rules.amount, rules.currency, rules.decline_code, rules.type, rules.at):
        assert not [path for path in paths if is_code(path, "123")]
