"""What a lax processor could read as more than we did: it is on record, or it does not pass."""

import json
from xml.etree import ElementTree as ET

import msgspec
import pytest

from gateway import preset
from gateway.call import Call, CallRefused, Refusal, read_call
from gateway.commands.options import fail
from gateway.order import Order, fill, pass_through_refusal, read_order
from gateway.preset import Preset, ReplyCard, ResultRule
from gateway.preset_conditions import Condition
from gateway.preset_rules import problems_of
from vault.authorization import Kind

AUTHORIZE_NET = preset.load("authorize_net")
LOGIN = {"user": "login", "api_key": "key"}
JSON = "application/json"


def _call(body: str, content_type: str, path: str = "/xml/v1/request.api") -> Call:
    return Call("POST", path, "", (("content-type", content_type),), body.encode())


def _changed(name: str, **changes: object) -> Preset:

    return msgspec.structs.replace(preset.load(name), **changes)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (
            (
                '{"createTransactionRequest":{"merchantAuthentication":'
                '{"name":5,"transactionKey":null}}}'
            ),
            JSON,
        ),
        (
            (
                "<createTransactionRequest><merchantAuthentication><name/>"
                "<transactionKey>k</transactionKey></merchantAuthentication></createTransactionRequest>"
            ),
            "application/xml",
        ),
    ],
    ids=["json", "xml"],
)
def test_a_login_has_a_place_to_be_put_in(body: str, content_type: str) -> None:
    read = read_call(AUTHORIZE_NET, _call(body, content_type))
    assert not isinstance(read, CallRefused)
    assert read.operation is not None
    refused = read_order(read, read.operation, env="test")
    assert isinstance(refused, CallRefused)
    assert refused.code is Refusal.INVALID_FIELD


def test_a_login_that_is_put_in_leaves_xml() -> None:
    body = (
        "<createTransactionRequest><merchantAuthentication><name>n</name>"
        "<transactionKey><![CDATA[k]]></transactionKey></merchantAuthentication>"
        "</createTransactionRequest>"
    )
    read = read_call(AUTHORIZE_NET, _call(body, "application/xml"))
    assert not isinstance(read, CallRefused)
    assert read.operation is not None
    order = read_order(read, read.operation, env="test")
    assert isinstance(order, Order)
    login = {"user": "a&b<", "api_key": "c&d]]>e"}
    filled = ET.fromstring(bytes(fill(order, {}, login)))  # noqa: S314 - our own
    assert [each.text for each in filled.iter() if each.text] == ["a&b<", "c&d]]>e"]


@pytest.mark.parametrize("root", ["CreateTransactionRequest", "CREATETRANSACTIONREQUEST"])
def test_a_root_in_other_letters_is_on_record(root: str) -> None:
    read = read_call(AUTHORIZE_NET, _call(json.dumps({root: {}}), JSON))
    assert not isinstance(read, CallRefused)
    assert read.operation is not None
    assert read.operation.kind is Kind.AUTHORIZE


def test_what_cannot_be_looked_into_passes_nowhere() -> None:
    call = _call('{"encryptedRequest":"eyJ"}', JSON, "/pts/v2/other")
    read = read_call(preset.load("cybersource"), call)
    assert not isinstance(read, CallRefused)
    refused = pass_through_refusal(read)
    assert refused == CallRefused(Refusal.FIELD_REFUSED, "encryptedRequest")


def test_of_two_operations_the_one_that_takes_the_body_s_type_is_meant() -> None:
    first, second = AUTHORIZE_NET.operations[:2]

    operations = (
        msgspec.structs.replace(first, when=(), content_types=("text/xml",)),
        msgspec.structs.replace(second, when=(), content_types=(JSON,)),
    )
    own = _changed("authorize_net", operations=operations)
    read = read_call(own, _call('{"createTransactionRequest":{}}', JSON))
    assert not isinstance(read, CallRefused)
    assert read.operation == operations[1]
    other = read_call(own, _call("<createTransactionRequest/>", "application/xml"))
    assert other == CallRefused(Refusal.UNSUPPORTED, "content-type")


def test_a_reply_is_asked_by_plain_paths() -> None:
    rule = ResultRule(
        statuses=("2xx",), where=(Condition(path="$.a", equals=("b",)),), result="approved"
    )
    assert problems_of(_changed("adyen", results=(rule,)))
    card = ReplyCard(number="n", exp_month="m", exp_year="$.y")
    assert problems_of(_changed("adyen", reply_cards=(card,)))


def test_a_field_s_brackets_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fail("operation x: cards: card[number] is given twice")
    assert "card[number]" in capsys.readouterr().err
