import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.codecs.splice import Document, Field, Format, Replacement, splice


def test_every_other_byte_stays() -> None:
    body = b"\xef\xbb\xbfa=1&b=2&&c"
    spliced = splice(body, [Replacement(9, 10, b"two"), Replacement(5, 6, b"")])
    assert spliced == b"\xef\xbb\xbfa=&b=two&&c"


def test_no_replacement_is_the_same_body() -> None:
    assert splice(b"body", []) == b"body"


def test_the_result_can_be_overwritten_after_it_was_sent() -> None:
    spliced = splice(b"a=token", [Replacement(2, 7, b"digits")])
    spliced[:] = bytes(len(spliced))
    assert spliced == bytes(8)


@pytest.mark.parametrize(
    "places", [[(0, 3), (2, 4)], [(3, 2)], [(2, 9)]], ids=["overlapping", "backwards", "outside"]
)
def test_places_that_cannot_be_are_a_bug_of_ours(places: list[tuple[int, int]]) -> None:
    with pytest.raises(AssertionError, match="overlapping"):
        splice(b"body", [Replacement(start, end, b"") for start, end in places])


@given(st.lists(st.binary(max_size=6), min_size=1, max_size=8), st.data())
def test_putting_the_same_bytes_in_place_changes_nothing(
    pieces: list[bytes], data: st.DataObject
) -> None:
    body = b"".join(pieces)
    replacements = []
    at = 0
    for piece in pieces:
        if data.draw(st.booleans()):
            replacements.append(Replacement(at, at + len(piece), piece))
        at += len(piece)
    assert splice(body, replacements) == body


def test_a_name_is_repeated_by_itself_and_by_what_it_stands_in() -> None:
    document = Document.of(Format.JSON, (), ["a", "b.c", "b.c", "d", "d", "e[0]"])
    assert document.repeats("b.c")
    assert document.repeats("b.c.number")
    assert document.repeats("d[0]")
    assert not document.repeats("a")
    assert not document.repeats("b")
    assert not document.repeats("dd")


def test_a_field_prints_nothing_of_what_it_holds() -> None:
    field = Field("name", "secret text", 0, 11)
    assert "secret" not in repr(field)
    assert "secret" not in repr(Document.of(Format.FORM, [field], ["secret"]))
    assert "secret" not in repr(Replacement(0, 1, b"secret"))
