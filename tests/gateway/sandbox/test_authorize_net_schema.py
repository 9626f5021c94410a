"""The order of elements, and what they may hold, as the published schema has it."""

from typing import Any

import pytest

from gateway.sandbox.authorize_net_document import Element
from gateway.sandbox.authorize_net_schema import OffSchema, check
from tests.cards import VISA_ALT

LOGIN = {"name": "login", "transactionKey": "key"}
CARD = {"cardNumber": VISA_ALT, "expirationDate": "2034-12"}


def element(name: str, value: object) -> Element:
    """Make an element of what stands for it in JSON."""
    if not isinstance(value, dict):
        return Element(name, str(value))
    inside = [
        element(str(key), each)
        for key, inner in value.items()
        for each in (inner if isinstance(inner, list) else [inner])
    ]
    return Element(name, "", tuple(inside))


def document(**transaction: Any) -> Element:  # noqa: ANN401 - any field
    sent = {"merchantAuthentication": LOGIN, "transactionRequest": transaction}
    return element("createTransactionRequest", sent)


def refusal(sent: Element) -> str:
    with pytest.raises(OffSchema) as caught:
        check(sent)
    return caught.value.text


def test_takes_what_is_in_order() -> None:
    check(
        document(
            transactionType="authCaptureTransaction",
            amount="1.00",
            payment={"creditCard": CARD | {"cardCode": "123"}},
            order={"invoiceNumber": "1", "description": "d"},
            customer={"id": "1"},
            billTo={"firstName": "Ada", "zip": "1"},
            transactionSettings={"setting": [{"settingName": "a"}, {"settingName": "b"}]},
            userFields={"userField": [{"name": "a", "value": "b"}] * 3},
        )
    )


def test_refuses_what_is_out_of_order_in_the_validators_words() -> None:
    text = refusal(document(transactionType="voidTransaction", payment={}, amount="1"))
    assert text.startswith(
        "The element 'transactionRequest' in namespace 'AnetApi/xml/v1/schema/AnetApiSchema.xsd' "
        "has invalid child element 'amount' in namespace"
    )
    assert "List of possible elements expected: 'profile, solution" in text


@pytest.mark.parametrize(
    ("sent", "child"),
    [
        (document(amount="1", transactionType="voidTransaction"), "amount"),
        (document(transactionType="voidTransaction", refTransId="1", authCode="1"), "authCode"),
        (document(transactionType="voidTransaction", billTo={"zip": "1", "city": "c"}), "city"),
        (document(transactionType="voidTransaction", amount=["1", "2"]), "amount"),
        (
            document(
                transactionType="voidTransaction",
                payment={"creditCard": {"expirationDate": "2034-12", "cardNumber": VISA_ALT}},
            ),
            "expirationDate",
        ),
        (element("createTransactionRequest", {"transactionRequest": {}}), "transactionRequest"),
    ],
    ids=["required_first", "later_first", "address", "twice", "card", "login_missing"],
)
def test_refuses_any_other_order(sent: Element, child: str) -> None:
    assert f"has invalid child element '{child}'" in refusal(sent)


def test_a_name_that_is_nobodys_is_not_repeated() -> None:
    text = refusal(document(transactionType="voidTransaction", **{VISA_ALT: "1"}))
    assert "'(unknown)'" in text
    assert VISA_ALT not in text


def test_says_what_is_missing() -> None:
    text = refusal(element("getTransactionDetailsRequest", {}))
    assert "has incomplete content" in text
    assert "'merchantAuthentication'" in text
    card = {"creditCard": {"cardNumber": VISA_ALT}}
    assert "'expirationDate'" in refusal(document(transactionType="voidTransaction", payment=card))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cardNumber": VISA_ALT + "0"}, "cardNumber' element is invalid"),
        ({"cardNumber": VISA_ALT + "0"}, "greater than the MaxLength"),
        ({"cardNumber": "111"}, "less than the MinLength"),
        ({"expirationDate": "2034-12-31"}, "expirationDate' element is invalid"),
        ({"cardCode": "12345"}, "cardCode' element is invalid"),
    ],
    ids=["number", "too_long", "too_short", "date", "code"],
)
def test_lengths_are_held_without_repeating_the_value(fields: dict[str, str], words: str) -> None:
    card = CARD | fields
    text = refusal(document(transactionType="voidTransaction", payment={"creditCard": card}))
    assert words in text
    assert not any(value in text for value in fields.values())


@pytest.mark.parametrize(
    "amount",
    ["", "ten", "1,00", "1e3", VISA_ALT],
    ids=["empty", "word", "comma", "exponent", "too_long"],
)
def test_an_amount_is_a_decimal(amount: str) -> None:
    text = refusal(document(transactionType="voidTransaction", amount=amount))
    assert "is not a valid Decimal value" in text
    assert not amount or amount not in text


def test_types_are_a_closed_list() -> None:
    text = refusal(document(transactionType=VISA_ALT))
    assert "The Enumeration constraint failed" in text
    assert VISA_ALT not in text


def test_a_key_longer_than_the_schemas_is_refused() -> None:
    login = LOGIN | {"transactionKey": "k" * 17}
    text = refusal(element("authenticateTestRequest", {"merchantAuthentication": login}))
    assert "transactionKey' element is invalid" in text
