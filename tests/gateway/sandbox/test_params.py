"""Reading a form with bracketed keys."""

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sandbox.params import FIELDS_MAX, Params
from gateway.sandbox.refusals import Refusal

FORM = b"amount=1099&metadata[a]=1&metadata%5Bb%5D=2+3&metadata[c][d]=4&expand[]=x&expand[0]=y&e="


@given(st.dictionaries(st.text(min_size=1), st.text(min_size=1)))
def test_reads_what_the_standard_library_writes(fields: dict[str, str]) -> None:
    params = Params.parse(urlencode(fields).encode())
    assert dict(params.in_order()) == fields


def test_members() -> None:
    params = Params.parse(FORM)
    assert params.under("metadata") == {"a": "1", "b": "2 3"}
    assert params.listed("expand") == {"x", "y"}
    assert params.text("e") is None
    assert params.text("nothing") is None


def test_fields_by_the_end_of_their_key() -> None:
    params = Params(
        [("number", "1"), ("a[number]", "2"), ("a[b][number]", ""), ("a[numbers]", "4")]
    )
    assert params.ending("number") == {"number": "1", "a[number]": "2"}


@pytest.mark.parametrize("form", [b"\xff", b"a=%FF", b"&".join([b"a=1"] * (FIELDS_MAX + 1))])
def test_unreadable(form: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        Params.parse(form)
    assert (refused.value.status, refused.value.executed) == (400, False)
    assert refused.value.__context__ is None


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "1e3", "¹", "100000000", "9" * 5000])
def test_amounts_that_are_none(text: str) -> None:
    with pytest.raises(Refusal) as refused:
        Params([("amount", text)]).amount("amount")
    assert refused.value.error.param == "amount"


def test_amounts() -> None:
    assert Params([("amount", "99999999")]).amount("amount") == 99_999_999
    assert Params().amount("amount") is None


def test_flags() -> None:
    params = Params([("yes", "true"), ("no", "false"), ("other", "1")])
    assert params.flag("yes")
    assert not params.flag("no", unless_given=True)
    assert params.flag("absent", unless_given=True)
    with pytest.raises(Refusal):
        params.flag("other")


def test_order_is_not_the_senders() -> None:
    one, other = Params([("a", "1"), ("b", "2")]), Params([("b", "2"), ("a", "1")])
    assert list(one.in_order()) == list(other.in_order())
