"""Ids in Crockford's base 32, UUIDs of version 7, and an authorization's public id."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vault.ids import (
    CROCKFORD,
    authorization_id,
    crockford_encode,
    crockford_number,
    intent_of,
    new_uuid7,
    uuid7,
)

# The ledger's published vector.
INTENT = "01936b2e-7c00-7abc-8def-0123456789ab"
AUTHORIZATION = "aut_01jdnjwz00fay8vvr14d2pf2db"


def test_the_alphabet_has_no_look_alikes() -> None:
    assert len(set(CROCKFORD)) == 32
    assert list(CROCKFORD) == sorted(CROCKFORD)
    assert set("ilou").isdisjoint(CROCKFORD)


def test_numbers_are_written_big_end_first() -> None:
    assert crockford_number(0, 1) == "0"
    assert crockford_number(31, 1) == "z"
    assert crockford_number(32, 2) == "10"
    assert crockford_number(13 << 5 | 10, 2) == "da"
    assert crockford_number(1, 4) == "0001"
    assert crockford_number((1 << 130) - 1, 26) == "z" * 26


@pytest.mark.parametrize("value", [-1, 32])
def test_a_number_that_does_not_fit_is_our_mistake(value: int) -> None:
    with pytest.raises(AssertionError):
        crockford_number(value, 1)


def test_bytes_take_the_fewest_characters() -> None:
    lengths = [len(crockford_encode(bytes(count))) for count in (0, 1, 4, 5, 10, 16)]
    assert lengths == [0, 2, 7, 8, 16, 26]
    assert crockford_encode(b"\xff" * 5) == "z" * 8
    assert crockford_encode(b"\x00\x01") == "0001"


@settings(deadline=None)
@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_encoded_bytes_keep_their_order(one: bytes, other: bytes) -> None:
    assert (one < other) == (crockford_encode(one) < crockford_encode(other))


# --- UUIDs --------------------------------------------------------------------------------


def test_uuid7_by_the_rfc() -> None:
    """RFC 9562, A.6: its time and its random bits."""
    rand_a, rand_b = 0xCC3, 0x18C4DC0C0C07398F
    tail = (rand_a << 64 | rand_b).to_bytes(10, "big")
    assert str(uuid7(0x017F22E279B0, tail)) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@settings(deadline=None)
@given(st.integers(0, (1 << 48) - 1), st.binary(min_size=10, max_size=10))
def test_uuid7_is_of_its_version_and_keeps_time_and_chance(at_ms: int, tail: bytes) -> None:
    made = uuid7(at_ms, tail)
    assert made.version == 7
    assert made.variant == RFC_4122
    assert made.int >> 80 == at_ms
    kept = ~(0xF << 76 | 0b11 << 62)
    assert made.int & (1 << 80) - 1 & kept == int.from_bytes(tail, "big") & kept


@pytest.mark.parametrize(
    ("at_ms", "tail"), [(-1, bytes(10)), (1 << 48, bytes(10)), (0, bytes(9)), (0, bytes(16))]
)
def test_a_uuid7_out_of_bounds_is_our_mistake(at_ms: int, tail: bytes) -> None:
    with pytest.raises(AssertionError):
        uuid7(at_ms, tail)


def test_new_uuid7_takes_the_time_in_any_zone_and_differs_each_time() -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, 678_999, tzinfo=UTC)
    ids = {new_uuid7(now) for _ in range(1000)}
    assert len(ids) == 1000
    assert {made.int >> 80 for made in ids} == {1_767_323_045_678}
    elsewhere = now.astimezone(timezone(timedelta(hours=-12)))
    assert new_uuid7(elsewhere).int >> 80 == 1_767_323_045_678
    assert new_uuid7(now + timedelta(milliseconds=1)) > max(ids)


# --- authorizations -----------------------------------------------------------------------


def test_the_public_id_of_an_authorization() -> None:
    assert authorization_id(INTENT) == AUTHORIZATION
    assert intent_of(AUTHORIZATION) == INTENT


@settings(deadline=None)
@given(st.uuids())
def test_an_intent_comes_back_from_its_authorization(intent: UUID) -> None:
    public = authorization_id(str(intent))
    assert len(public) == 30
    assert intent_of(public) == str(intent)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "aut_",
        AUTHORIZATION[:-1],
        AUTHORIZATION + "0",
        AUTHORIZATION + "\n",
        AUTHORIZATION.upper(),
        AUTHORIZATION.replace("aut_", "AUT_"),
        AUTHORIZATION.replace("aut_", "k_"),
        AUTHORIZATION.replace("j", "i"),
        AUTHORIZATION.replace("j", "l"),
        AUTHORIZATION.replace("j", "o"),
        AUTHORIZATION.replace("j", "u"),
        AUTHORIZATION.replace("1", "\uff11"),
        "aut_8" + "0" * 25,  # 2 to the 128th
        INTENT,
    ],
)
def test_what_is_no_authorization_gives_none(text: str) -> None:
    assert intent_of(text) is None


def test_the_first_and_the_last_authorization() -> None:
    assert intent_of("aut_" + "0" * 26) == str(UUID(int=0))
    assert intent_of("aut_7" + "z" * 25) == str(UUID(int=(1 << 128) - 1))
