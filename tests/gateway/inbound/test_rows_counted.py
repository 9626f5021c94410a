"""Which files' rows are free of the limit by address: those that a route asks for."""

import pytest

from gateway.inbound.rules import Filter
from gateway.inbound_bodies import names_type
from tests.gateway.inbound.filter_requests import CSV, FORM, route


@pytest.mark.guards("T-24")
@pytest.mark.parametrize(
    ("filters", "is_free"),
    [
        ((Filter("pan", content_type=CSV),), True),
        ((Filter("pan"),), False),  # of forms, and of files by the way
        ((Filter("pan", content_type=FORM), Filter("pan")), False),
        ((Filter("pan", content_type=CSV, phase="response", operation="mask"),), False),
    ],
)
def test_rows_are_free_where_a_filter_names_their_type(
    filters: tuple[Filter, ...], *, is_free: bool
) -> None:
    assert names_type(route(*filters), "Text/CSV; header=present") is is_free
    assert not names_type(route(*filters), "a/b")
