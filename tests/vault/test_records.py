"""The bytes that are sealed and hashed: final, unambiguous, of constant length."""

import base64
import hashlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import cards
from vault.records import (
    CVC_RECORD_BYTES,
    PAN_RECORD_BYTES,
    context_of,
    digest_input,
    digits_in,
    fingerprint_input,
    record_of,
)

VECTOR = "AQADcGFuAAR0ZXN0AAR0XzAxACVwd3RfdGVzdF8wMTIzNDU2Nzg5YWJjZGVmZ2hqa21ucHFyc2Rh"
DIGITS = st.text("0123456789", min_size=8, max_size=19)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789_-", max_size=20)


def test_the_context_has_its_published_bytes() -> None:
    context = context_of("pan", "test", "t_01", "pwt_test_0123456789abcdefghjkmnpqrsda")
    assert base64.b64encode(context).decode() == VECTOR
    assert len(context) == 57


@pytest.mark.guards("T-20")
@given(st.tuples(NAMES, NAMES), st.tuples(NAMES, NAMES))
def test_two_places_never_share_a_context(one: tuple[str, str], other: tuple[str, str]) -> None:
    same = context_of("pan", "test", *one) == context_of("pan", "test", *other)
    assert same == (one == other)


@pytest.mark.guards("T-20")
def test_purpose_and_environment_are_in_the_context() -> None:
    contexts = {
        context_of(purpose, env, "t_01", "x")
        for purpose in ("pan", "cvc", "reply", "probe")
        for env in ("test", "live")
    }
    assert len(contexts) == 8


@given(DIGITS, st.binary(min_size=40, max_size=40))
def test_a_record_gives_its_digits_back(digits: str, fill: bytes) -> None:
    record = record_of(digits, PAN_RECORD_BYTES, fill)
    assert digits_in(record, PAN_RECORD_BYTES) == digits


@pytest.mark.guards("T-68")
@pytest.mark.parametrize("digits", [cards.VISA_13, cards.VISA, cards.UNIONPAY_19])
def test_a_record_hides_how_long_the_number_is_and_never_repeats(digits: str) -> None:
    records = {record_of(digits, PAN_RECORD_BYTES, os.urandom(40)) for _ in range(50)}
    assert {len(record) for record in records} == {40}
    assert len({record[-16:] for record in records}) == 50


@pytest.mark.guards("T-68")
def test_the_longest_digits_leave_sixteen_random_bytes() -> None:
    for digits, size in ((cards.UNIONPAY_19, PAN_RECORD_BYTES), ("1234", CVC_RECORD_BYTES)):
        fill = bytes(range(100, 100 + size))
        assert record_of(digits, size, fill)[-16:] == fill[-16:]


def test_a_fill_of_another_length_is_our_bug() -> None:
    with pytest.raises(AssertionError):
        record_of("123", CVC_RECORD_BYTES, bytes(23))


@pytest.mark.parametrize(
    "record",
    [
        b"",
        bytes(40),
        b"\x02\x0341" + bytes(36),
        b"\x01\x03123" + bytes(34),
        b"\x01\x03123" + bytes(36),
        b"\x01\x27" + b"1" * 38,
        b"\x01\xff" + b"1" * 38,
        b"\x01\x0312x" + bytes(35),
        b"\x01\x00" + b"1" * 38,
        b"\x01\x04" + b"\xef\xbc\x911" + bytes(34),
    ],
)
def test_what_is_no_record_gives_no_digits(record: bytes) -> None:
    assert digits_in(record, PAN_RECORD_BYTES) is None


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(record: bytes) -> None:
    digits = digits_in(record, PAN_RECORD_BYTES)
    assert digits is None or record_of(digits, PAN_RECORD_BYTES, record) == record


def test_the_hash_inputs_have_their_bytes() -> None:
    assert fingerprint_input("t_01", "123") == b"\x01\x00\x04t_01\x00\x03123"
    hashed = hashlib.sha256(b"body").digest()
    assert digest_input("request", "t_01", b"body") == b"\x01\x00\x07request\x00\x04t_01" + hashed


@pytest.mark.guards("T-22")
@given(st.tuples(NAMES, DIGITS), st.tuples(NAMES, DIGITS))
def test_hash_inputs_differ_for_another_tenant_or_number(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    assert (fingerprint_input(*one) == fingerprint_input(*other)) == (one == other)
