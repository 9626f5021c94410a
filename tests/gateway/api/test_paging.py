"""Lists, a page at a time."""

from datetime import UTC, datetime, timedelta

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.paging import LIMIT_DEFAULT, LIMIT_MAX, Page, read_page
from gateway.errors import BadField

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def page(query: str) -> Page:
    return read_page(make_mocked_request("GET", f"/v1/things?{query}"), also={"colour"})


def test_without_parameters_there_is_a_first_page() -> None:
    assert page("") == Page(LIMIT_DEFAULT, None)
    assert page("colour=red&limit=1").limit == 1
    assert page(f"limit={LIMIT_MAX}").limit == LIMIT_MAX


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=-1", "limit"),
        ("limit=1e1", "limit"),
        ("limit=٣", "limit"),
        ("limit=", "limit"),
        ("cursor=", "cursor"),
        ("cursor=!!!", "cursor"),
        ("cursor=YWJj", "cursor"),
        ("cursor=%C3%A9", "cursor"),
        ("size=3", "query"),
        ("limit=1&limit=2", "query"),
    ],
)
def test_what_is_not_a_parameter_is_refused(query: str, field: str) -> None:
    with pytest.raises(BadField) as refused:
        page(query)
    assert refused.value.field == field


@given(count=st.integers(0, 5), limit=st.integers(1, 4))
def test_the_cursor_is_the_place_of_the_last_row_shown(count: int, limit: int) -> None:
    places = [(AT - timedelta(microseconds=n), f"pwt_{n}") for n in range(count)]
    answer = Page(limit, None).answer([{"n": n} for n in range(count)], places)
    data, following = answer["data"], answer["next"]
    assert data == [{"n": n} for n in range(min(count, limit))]
    if count > limit:
        assert page(f"cursor={following}").after == places[limit - 1]
    else:
        assert following is None
