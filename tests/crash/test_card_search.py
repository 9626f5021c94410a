"""The search that the last test trusts must not be blind."""

import base64
import json
import random
import struct
from pathlib import Path

import pytest

from tests.cards import ALL, AMEX, MASTERCARD, VISA_19
from tests.crash.card_search import EMPTY, CardSearch, spellings


@pytest.fixture(scope="module")
def search() -> CardSearch:
    return CardSearch()


def test_finds_every_spelling_anywhere(search: CardSearch) -> None:
    noise = random.Random(7)  # noqa: S311 - something around the needle
    for number in ALL:
        for name, spelled in spellings(number):
            before, after = (noise.randbytes(noise.randrange(99)) for _ in range(2))
            found = search.within(before + spelled + after, "here")
            assert number[-4:] in {hit.last4 for hit in found}, name


def test_knows_what_encoders_write(search: CardSearch) -> None:
    text = f"card={MASTERCARD};"
    for content in (
        text.encode("utf-16-be"),
        text.encode("utf-16-le"),
        base64.b64encode(text.encode()),
        base64.urlsafe_b64encode(f"-{text}".encode()),
        base64.b64encode(f"--{text}".encode()),
        text.encode().hex().encode(),
        struct.pack("<q", int(MASTERCARD)),
        bytes.fromhex(MASTERCARD),
        json.dumps({"n": int(MASTERCARD)}).encode(),
    ):
        assert [hit.last4 for hit in search.within(content, "")] == [MASTERCARD[-4:]]


def test_says_nothing_of_other_bytes(search: CardSearch) -> None:
    noise = random.Random(8).randbytes(1 << 20)  # noqa: S311 - what no number is in
    assert search.within(noise + EMPTY * 3 + noise.hex().encode(), "here") == []


def test_looks_through_a_folder(search: CardSearch, tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "page").write_bytes(EMPTY * 2 + AMEX.encode() + EMPTY)
    (tmp_path / "same").write_bytes(EMPTY * 2 + AMEX.encode() + EMPTY)
    (tmp_path / f"{VISA_19}.txt").touch()
    hits = search.in_folder(tmp_path)
    assert {(hit.last4, hit.spelling) for hit in hits} == {
        (AMEX[-4:], "plain"),
        (VISA_19[-4:], "plain"),
    }


def test_a_hit_does_not_repeat_the_number(search: CardSearch) -> None:
    (hit,) = search.within(AMEX.encode(), "here")
    assert search.within(repr(hit).encode(), "there") == []
