"""Values that narrow a list, and public ids."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from uuid import UUID

import pytest

from gateway.api.narrowing import NAME, matching, one_of, place_of, time_of, uuid_of
from gateway.api.paging import Page
from gateway.errors import BadField
from vault.telling import callback_id, event_id

ID = UUID("01936b2e-7c00-7abc-8def-0123456789ab")
AT = datetime(2031, 5, 1, 12, tzinfo=UTC)


def test_what_is_not_given_narrows_nothing() -> None:
    assert matching({}, "route", NAME) is None
    assert one_of({}, "state", ("a",)) is None
    assert time_of({}, "since") is None


def test_what_fits_is_taken() -> None:
    query = {"route": "stripe.eu-1_b", "state": "a", "since": "2031-05-01T14:00:00+02:00"}
    assert matching(query, "route", NAME) == "stripe.eu-1_b"
    assert one_of(query, "state", ("a", "b")) == "a"
    assert time_of(query, "since") == AT


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (lambda query: matching(query, "given", NAME), "format"),
        (lambda query: one_of(query, "given", ("a", "b")), "unknown_value"),
        (lambda query: time_of(query, "given"), "format"),
    ],
    ids=["matching", "one_of", "time_of"],
)
def test_what_does_not_fit_is_refused_by_its_name(
    read: Callable[[Mapping[str, str]], object], reason: str
) -> None:
    for text in ("", "A canary", "a\n", "2031-05-01T14:00:00"):
        with pytest.raises(BadField) as refused:
            read({"given": text})
        assert (refused.value.field, refused.value.reason) == ("given", reason)
        assert "canary" not in str(refused.value)


def test_public_ids_and_no_others() -> None:
    assert uuid_of("cb", callback_id(ID)) == uuid_of("evt", event_id(ID)) == str(ID)
    body = callback_id(ID).removeprefix("cb_")
    for other in (f"evt_{body}", body, f"cb_{body}0", f"cb_8{body[1:]}", f"cb_{body.upper()}", ""):
        assert uuid_of("cb", other) is None, other


def test_a_cursor_names_a_row_that_has_a_uuid() -> None:
    assert place_of(Page(20, None)) is None
    assert place_of(Page(20, (AT, str(ID)))) == (AT, str(ID))
    with pytest.raises(BadField):
        place_of(Page(20, (AT, "we_1")))
