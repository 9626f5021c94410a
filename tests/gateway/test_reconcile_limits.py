"""Looking into doubts costs no payment: limits hold, circuits are let alone, errors are words."""

import time

import pytest

from gateway.breaker import FAILURES_MAX, PAUSE_SECONDS, Breaker, Circuit
from gateway.errors import UpstreamUnavailable
from gateway.exchange import Replied
from gateway.lanes import Guards
from gateway.limits import CallLimits
from tests.gateway.asked_processor import (
    doubt,
    listed,
    replied,
    sending_again,
    to_send_again,
    world,
)
from vault.authorization import State

pytestmark = [pytest.mark.guards("F-23")]


async def test_a_search_that_is_down_does_not_stop_payments() -> None:
    here = world(lambda *_: replied({}, status=503))
    for _ in range(FAILURES_MAX):
        assert (await here.reconcile.look_into(doubt())).word == "no_answer"
    assert here.lane.breaker.circuit is Circuit.CLOSED
    with here.lane.breaker.admitted():
        pass


async def test_a_search_is_never_the_probe() -> None:
    now = [0.0]
    breaker = Breaker(lambda: now[0], lambda: 0.0)
    refused = []

    def answer(*_: str) -> Replied:
        try:
            with breaker.admitted():
                pass
        except UpstreamUnavailable:
            refused.append("a payment, while a search was the probe")
        return listed()

    here = world(answer, guards=Guards(CallLimits(time.monotonic), breaker))
    for _ in range(FAILURES_MAX):
        breaker.settled(breaker.admit(), ok=False)
    now[0] += 5 * PAUSE_SECONDS
    await here.reconcile.look_into(doubt())
    assert refused == []
    with breaker.admitted():
        pass


@pytest.mark.parametrize("way", ["asked", "sent_again"])
async def test_a_tenant_s_limits_hold_for_the_gateway_s_own_calls(way: str) -> None:
    limits = CallLimits(lambda: 0.0, burst=1)
    guards = Guards(limits, Breaker(time.monotonic, lambda: 0.5))
    here = sending_again(guards=guards)
    with limits.enter("t_one"):
        pass
    about = doubt("stripe") if way == "asked" else to_send_again()
    assert (await here.reconcile.look_into(about)).word == "failed"
    assert (here.wire.seen, here.sends.given) == ([], [])


async def test_what_the_preset_reads_as_another_call_now_is_not_sent_again() -> None:
    here = sending_again()
    await here.reconcile.look_into(to_send_again(operation="charges.create"))
    assert here.sends.given == []
    await here.reconcile.look_into(to_send_again())
    assert len(here.sends.given) == 1


async def test_only_what_was_completed_is_told_as_settled() -> None:
    here = sending_again()
    assert (await here.reconcile.look_into(to_send_again())).word == "replayed"
    here.sends.state = State.UNKNOWN
    assert (await here.reconcile.look_into(to_send_again())).word != "replayed"
    assert len(here.sends.given) == 2


async def test_whatever_goes_wrong_is_a_word() -> None:
    def broken(*_: str) -> Replied:
        raise ZeroDivisionError

    assert (await world(broken).reconcile.look_into(doubt())).word == "failed"
