"""Names that some readers take for a declared one: nothing of a card passes under them."""

import pytest

from gateway.errors import CardFieldRefused
from gateway.inbound.rules import Filter
from tests import cards
from tests.gateway.inbound.filter_requests import (
    FORM,
    JSON,
    LINES,
    MULTIPART,
    body_of,
    multipart,
    planned,
    route,
)
from vault.tokens import token_of

declared = Filter("card_number", cvc="card_code")
SHOP = route(declared)
SPELLED = (
    *("Card_Number", "CARD_NUMBER", "card.number", "card number", "card+number"),
    *("+card_number", "%20card_number", "card_number%00x", "!card_number", "cardNumber"),
    *("card%5Bnumber%5D", "card-number"),
)


def refusal(content_type: str, body: str, *, query: str = "") -> tuple[str | None, str | None]:
    with pytest.raises(CardFieldRefused) as caught:
        planned(SHOP, content_type, body.encode(), query=query)
    return caught.value.field, caught.value.reason


@pytest.mark.guards("T-12")
@pytest.mark.parametrize("name", SPELLED)
def test_a_form_field_that_could_pass_for_a_declared_one_is_refused(name: str) -> None:
    assert refusal(FORM, f"a=1&{name}={cards.VISA}") == ("card_number", "spelled_otherwise")
    assert refusal(FORM, "a=1", query=f"{name}={cards.VISA}")[1] == "spelled_otherwise"


@pytest.mark.guards("T-12")
@pytest.mark.parametrize("between", ["a=1;", "a=1; ", "a=1& ", ";", "a=%zz;]=;"])
def test_what_rack_splits_a_form_at(between: str) -> None:
    assert refusal(FORM, f"{between}card_number={cards.VISA}")[1] == "spelled_otherwise"
    assert refusal(FORM, f"{between}card_code=123")[0] == "card_code"


@pytest.mark.guards("T-12")
def test_the_declared_name_in_the_query_is_read_for_that_of_the_body() -> None:
    assert refusal(FORM, "a=1", query=f"card_number={cards.VISA}")[1] == "spelled_otherwise"
    assert refusal("", "", query="card_code=123")[1] == "spelled_otherwise"


@pytest.mark.guards("T-12")
@pytest.mark.parametrize("name", ["Card_Number", "CARDNUMBER", "card-number", "card_\\u004eumber"])
def test_a_key_of_json_that_readers_find_without_regard_to_case(name: str) -> None:
    assert refusal(JSON, f'{{"{name}": "{cards.VISA}"}}')[1] == "spelled_otherwise"
    assert refusal(JSON, f'{{"{name}": {cards.VISA}}}')[1] == "spelled_otherwise"
    assert refusal(LINES, f'{{"{name}": "{cards.VISA}"}}')[1] == "spelled_otherwise"


@pytest.mark.guards("T-10")
@pytest.mark.parametrize(
    "named", ["name='card_number'", 'name=" card_number"', 'name="CardNumber"']
)
def test_a_part_that_could_pass_for_a_declared_one(named: str) -> None:
    body = multipart((named, "", cards.VISA)).decode()
    assert refusal(MULTIPART, body)[1] == "spelled_otherwise"


@pytest.mark.guards("T-10")
@pytest.mark.parametrize(
    ("type_", "content"),
    [
        ("text/csv", cards.VISA),  # a header, and no row
        (FORM, cards.VISA),  # a name, and no value
        (JSON, f'{{"{cards.VISA}": ""}}'),
        (LINES, f'{{"{cards.VISA}": null}}'),
        ("application/xml", f"<a><!--{cards.VISA}--></a>"),
    ],
)
def test_a_part_of_a_type_is_one_text_to_most_servers(type_: str, content: str) -> None:
    body = multipart(('name="card_number"', f"Content-Type: {type_}\r\n", content)).decode()
    assert refusal(MULTIPART, body) == ("card_number", "not_a_value")


@pytest.mark.guards("T-12")
def test_a_key_within_a_declared_field_is_no_value_either() -> None:
    assert refusal(JSON, f'{{"card_number": {{"{cards.VISA}": ""}}}}')[1] == "not_a_value"


@pytest.mark.parametrize(
    "body",
    [
        "Card_Number=&cardnumber=soon&card+number=1234567890",
        f"Card_Number={token_of('test', 1)}&card_number={token_of('test', 1)}",
        "number=1234567890123456&code=123&Card_Code=000&a=;b=123;c",
    ],
)
def test_what_holds_nothing_of_a_card_is_let_be(body: str) -> None:
    assert body_of(SHOP, FORM, body.encode()) == body.encode()


def test_what_is_declared_or_allowed_itself_is_treated_as_that() -> None:
    both = route(declared, Filter("CardNumber"))
    body = f"CardNumber={cards.VISA}".encode()
    assert body_of(both, FORM, body) == f"CardNumber={token_of('test', 1)}".encode()
    order = route(declared, allow=("Card-Number",))
    body = b"Card-Number=1234567890123456"
    assert body_of(order, FORM, body) == body


def test_where_the_scanner_changes_what_it_finds_it_sees_to_numbers() -> None:
    shop = route(declared, undeclared="tokenize")
    written = body_of(shop, FORM, f"Card_Number={cards.VISA}".encode())
    assert written == f"Card_Number={token_of('test', 1)}".encode()


def test_a_code_to_be_removed_is_not_passed_under_another_name() -> None:
    shop = route(Filter("cvc", operation="remove"))
    with pytest.raises(CardFieldRefused):
        planned(shop, JSON, b'{"CVC": "123"}')
