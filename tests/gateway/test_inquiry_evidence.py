"""A payment that is listed, but does not fit in everything, is not taken for one not received."""

import pytest

from gateway.inquiry import NotReceived
from tests.gateway.test_inquiry import listed, payment, said

pytestmark = [pytest.mark.guards("F-23")]


def test_one_from_before_a_clock_that_is_ahead_may_be_ours() -> None:
    """By the processor's clock it was made six minutes before the gateway says it was sent."""
    answer = said(listed(payment(requested_on="2026-05-04T11:53:59Z")))
    assert not isinstance(answer, NotReceived), answer


@pytest.mark.parametrize("echoed", [1001, "ORDER-1", "order-1 "])
def test_one_whose_reference_is_written_otherwise_may_be_ours(echoed: object) -> None:
    answer = said(listed(payment(reference=echoed)))
    assert not isinstance(answer, NotReceived), answer
