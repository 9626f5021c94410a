"""The demo's cards, and the search for them: what it must find, and what it must not."""

from datetime import UTC, datetime

import pytest

from gateway.demo.cards import FORMS, Search, demo_cards
from tests import cards
from vault.card import Card

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SEARCH = Search([cards.VISA, cards.AMEX])
DUMP = b"COPY public.token (id, ciphertext) FROM stdin;\npwt_test_x\tvault:v1:8SDd3WHDOjf7mq69\n"


def test_each_card_is_valid_and_known_as_a_test_card() -> None:
    for card in demo_cards(NOW.year).values():
        Card.parse(card.number, card.exp_month, card.exp_year, card.cvc, at=NOW)
        assert card.number in cards.ALL


def test_a_card_prints_neither_its_number_nor_its_code() -> None:
    for card in demo_cards(NOW.year).values():
        assert card.number not in repr(card)
        assert f"'{card.cvc}'" not in repr(card)
        assert card.masked == f"•••• {card.number[-4:]}"


@pytest.mark.parametrize("number", SEARCH.numbers, ids=["visa", "amex"])
@pytest.mark.parametrize("form", FORMS, ids=lambda name: name.replace(" ", "-"))
def test_a_number_is_found_in_every_form(form: str, number: str) -> None:
    assert SEARCH.finds(DUMP + FORMS[form](number) + b"\n" + DUMP)


def test_in_what_is_large_the_plain_forms_are_found() -> None:
    for form in ("plain", "hex", "base64", "base64 after 1 byte", "base64 after 2 bytes"):
        assert SEARCH.finds_plain(DUMP + FORMS[form](cards.VISA))


def test_nothing_is_found_where_nothing_is() -> None:
    others = f"{cards.MASTERCARD} {cards.VISA[:-1]} {cards.VISA[-4:]}".encode()
    assert not SEARCH.finds(DUMP + others)
    assert not SEARCH.finds_plain(DUMP + others)


def test_a_search_that_finds_nothing_knows_that_it_is_blind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not SEARCH.is_blind(DUMP)
    monkeypatch.setattr(Search, "finds", lambda self, content: False)
    assert SEARCH.is_blind(DUMP)
