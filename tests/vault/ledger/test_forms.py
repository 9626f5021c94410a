"""Forms of values, and of what is made up of them."""

import re
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.ledger.forms import Count, Name, Uuid, base64url, leaf_form, time_text


class Inner(msgspec.Struct):
    name: Name
    count: Count


class Outer(msgspec.Struct, tag_field="type", tag="outer.thing"):
    at: Uuid
    flag: bool
    rows: tuple[Inner, ...]
    more: Inner | msgspec.UnsetType = msgspec.UNSET
    v: int = 1
    zone: Name | msgspec.UnsetType = msgspec.UNSET


ID = "01936b2e-7c00-7abc-8def-0123456789ab"
INNER = Inner(name="a.b-c_1", count=12)
ENCODER = msgspec.json.Encoder(order="sorted")


@pytest.mark.parametrize(
    "value",
    [
        Outer(at=ID, flag=True, rows=()),
        Outer(at=ID, flag=False, rows=(INNER,), zone="z"),
        Outer(at=ID, flag=False, rows=(INNER, INNER), more=INNER),
    ],
)
def test_a_form_matches_what_the_encoder_writes(value: Outer) -> None:
    assert leaf_form(Outer).fullmatch(ENCODER.encode(value))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (b'"flag":true', b'"flag":1'),
        (b'"flag":true', b'"flag": true'),
        (b'"rows":[]', b'"rows":null'),
        (b'"rows":[]', b'"rows":[{"count":01,"name":"a"}]'),
        (b'"rows":[]', b'"rows":[{"count":-1,"name":"a"}]'),
        (b'"rows":[]', b'"rows":[{"count":1.0,"name":"a"}]'),
        (b'"rows":[]', b'"rows":[{"name":"a","count":1}]'),
        (b'"rows":[]', b'"rows":[{"count":1,"name":"a"},]'),
        (b'"rows":[]', b'"rows":[{"count":1,"name":""}]'),
        (b'"rows":[]', b'"rows":[{"count":1,"name":"\xc3\xa9"}]'),
        (b"outer.thing", b"outer-thing"),
        (b'"v":1}', b'"v":1}\n'),
        (b'"v":1}', b'"v":1,"v":1}'),
        (b'"v":1}', b'"v":1,"x":1}'),
        (b'"v":1}', b'"v":1,"zone":null}'),
        (ID.encode(), ID.upper().encode()),
        (b"7abc", b"4abc"),
    ],
)
def test_a_form_matches_nothing_else(right: bytes, wrong: bytes) -> None:
    body = ENCODER.encode(Outer(at=ID, flag=True, rows=()))
    assert body.count(right) == 1
    assert not leaf_form(Outer).fullmatch(body.replace(right, wrong))


def test_fields_can_be_left_out() -> None:
    form = leaf_form(Inner, without=frozenset({"count"}))
    assert form.fullmatch(b'{"name":"a"}')
    assert not form.fullmatch(b'{"count":1,"name":"a"}')


def test_a_form_needs_text_with_a_form() -> None:
    class Loose(msgspec.Struct):
        text: str

    with pytest.raises(TypeError):
        leaf_form(Loose)


def test_the_first_field_is_always_there() -> None:
    class Headless(msgspec.Struct):
        first: Name | msgspec.UnsetType = msgspec.UNSET

    with pytest.raises(AssertionError):
        leaf_form(Headless)


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, 678_999, tzinfo=UTC), "2026-01-02T03:04:05.678Z"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00.000Z"),
        (
            datetime(2026, 1, 1, 23, 30, tzinfo=timezone(timedelta(hours=-1))),
            "2026-01-02T00:30:00.000Z",
        ),
    ],
)
def test_times_are_utc_with_milliseconds(at: datetime, text: str) -> None:
    assert time_text(at) == text


def test_a_time_without_zone_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        time_text(datetime(2026, 1, 2))  # noqa: DTZ001 - this is the case


@given(st.binary())
def test_base64url_has_no_padding(data: bytes) -> None:
    text = base64url(data)
    assert re.fullmatch("[A-Za-z0-9_-]*", text)
    assert len(text) == -(-len(data) * 4 // 3)


def test_base64url_of_a_digest() -> None:
    assert base64url(sha256(b"").digest()) == "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
