"""Rule V9: every published test card is found in a leaf, and nothing in a hundred thousand."""

import base64
import re
from collections.abc import Callable

import pytest

from tests import cards
from tests.vault.ledger.samples import (
    STAMP,
    VKEY,
    drawn,
    full,
    new_hash,
    new_replica,
    new_token,
    new_uuid,
)
from vault.ledger.card_scan import holds_card
from vault.ledger.entry import encode

CLEAN = b'{"actor":{"id":"k_4f8z","kind":"secret_key"},"n":41,"route":"%b","v":1}'


def grouped(digits: str) -> str:
    if len(digits) == 15:
        return f"{digits[:4]}-{digits[4:10]}-{digits[10:]}"
    return "-".join(digits[at : at + 4] for at in range(0, len(digits), 4))


def in_base64(digits: str, before: int) -> str:
    return base64.urlsafe_b64encode(bytes(before) + digits.encode() + bytes(2)).decode().rstrip("=")


WRITTEN: dict[str, Callable[[str], str]] = {
    "plain": str,
    "in words": lambda digits: f"pan_{digits}_end",
    "in fours": grouped,
    "with spaces": lambda digits: grouped(digits).replace("-", " "),
    "after a number": lambda digits: "7" * 8 + digits,
    "hex": lambda digits: digits.encode().hex(),
    "hex after a digit": lambda digits: "1" + digits.encode().hex(),
    "base64": lambda digits: in_base64(digits, 0),
    "base64 in the second place": lambda digits: in_base64(digits, 1),
    "base64 in the third place": lambda digits: in_base64(digits, 2),
    "base64 behind letters": lambda digits: "x" + in_base64(digits, 0),
    "standard base64": lambda digits: base64.b64encode(b"\xff" + digits.encode()).decode(),
}


@pytest.mark.parametrize("way", WRITTEN)
@pytest.mark.parametrize("card", cards.ALL)
def test_a_card_is_found(way: str, card: str) -> None:
    assert holds_card(CLEAN % WRITTEN[way](card).encode())


@pytest.mark.parametrize("card", cards.ALL)
def test_a_card_is_found_in_place_of_another_value(card: str) -> None:
    assert holds_card(b'{"n":%b,"v":1}' % card.encode())
    assert holds_card(b'{"actor":{"id":"k_%b"}}' % card.encode())
    assert holds_card(b'{"token":"%b"}' % card.encode())
    as_hash = base64.urlsafe_b64encode(card.encode().rjust(32, b"\x00")).rstrip(b"=")
    assert holds_card(b'{"detail":"%b"}' % as_hash)


def test_hex_is_decoded_and_not_only_searched() -> None:
    """A long run of digits is searched for cards; the hex of this one has none in it by chance."""
    card = cards.luhn_completed("400001004826072")
    assert holds_card(CLEAN % card.encode().hex().encode())
    assert not holds_card(CLEAN % cards.luhn_broken(card[:-1]).encode().hex().encode())


@pytest.mark.parametrize(
    "text",
    [
        cards.luhn_broken(cards.VISA[:-1]),
        grouped(cards.luhn_broken(cards.AMEX[:-1])),
        cards.luhn_completed("0" * 15),  # no card begins so
        cards.luhn_completed("7" * 15),
        cards.luhn_completed("176700000000"),  # milliseconds since 1970
        cards.luhn_completed("176700000000123"),  # microseconds
        cards.luhn_completed("4242424242"),  # too short
        "0" * 40,
        in_base64(cards.luhn_broken(cards.VISA[:-1]), 0),
        in_base64(cards.luhn_completed("4242424242"), 0),
        VKEY,
    ],
)
def test_what_is_no_card_is_not_found(text: str) -> None:
    assert not holds_card(CLEAN % text.encode())


@pytest.mark.parametrize(
    "value",
    [
        f"01936b2e-7c00-7abc-8def-{cards.luhn_completed('67712345678')}",  # a Maestro of 12
        "pwt_test_" + cards.VISA + "a" * 12,
        "k_" + cards.VISA_13 + "a",
        f"r_{cards.VISA[:8]}-{cards.MAESTRO[-4:]}",
    ],
)
def test_what_is_drawn_at_random_is_known_by_its_shape(value: str) -> None:
    assert not holds_card(b'{"id":"%b"}' % value.encode())
    assert not holds_card(b'{"id":"%b","n":"%b"}' % (value.encode(), new_uuid().encode()))


def test_each_type_of_entry_is_clean() -> None:
    for draft in full():
        assert not holds_card(encode(draft, STAMP))


DRAWN = re.compile(
    rb'"(?:(?P<uuid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})'
    rb"|(?P<token>pwt_test_.{28})"
    rb"|(?P<hash>[A-Za-z0-9_-]{43})"
    rb"|(?P<key>k_.{16})"
    rb"|(?P<tenant>t_.{26})"
    rb'|(?P<replica>r_.{8}-[0-9]+))"'
)
ANEW: dict[str | None, Callable[[], str]] = {
    "uuid": new_uuid,
    "token": new_token,
    "hash": new_hash,
    "key": lambda: "k_" + drawn(16),
    "tenant": lambda: "t_" + drawn(26),
    "replica": new_replica,
}


def test_nothing_is_found_in_a_hundred_thousand_leaves() -> None:
    """An alarm must not be a guess, whatever is drawn."""
    leaves = [encode(draft, STAMP) for draft in full()]
    assert all(len(DRAWN.findall(leaf)) >= 3 for leaf in leaves)
    checked = 0
    while checked < 100_000:
        for leaf in leaves:
            anew = DRAWN.sub(lambda found: b'"%b"' % ANEW[found.lastgroup]().encode(), leaf)
            assert not holds_card(anew), anew
            checked += 1
