"""Misbehavior on request: what is taken when, and who waits where."""

import asyncio

from gateway.sandbox.behavior import Behavior, CloseBeforeReading, Fail, Gate


def test_mishaps_are_taken_in_order_and_once() -> None:
    behavior = Behavior()
    behavior.mishaps += [Fail(500), CloseBeforeReading()]
    taken = [behavior.next_mishap() for _ in range(3)]
    assert taken == [Fail(500), CloseBeforeReading(), None]


async def test_behaving_again_ends_all() -> None:
    behavior = Behavior(echo="body", delay_seconds=9.0)
    behavior.mishaps.append(Fail(500))
    behavior.gate.shut("request")
    behavior.behave()
    await behavior.gate.passed("request")
    assert behavior.next_mishap() is None
    assert (behavior.echo, behavior.delay_seconds, behavior.drip) == (None, 0.0, None)


async def test_a_gate_holds_at_its_own_point() -> None:
    gate = Gate()
    await gate.passed("request")
    gate.shut("answer")
    await gate.passed("request")
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(gate.passed("answer")) for _ in range(2)]
        await gate.holding(2)
        assert not any(task.done() for task in waiting)
        gate.open()


async def test_moving_a_gate_lets_go_whom_it_held() -> None:
    gate = Gate()
    gate.shut("request")
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(gate.passed("request"))
        await gate.holding(1)
        gate.shut("answer")


async def test_whoever_gives_up_is_no_longer_held() -> None:
    gate = Gate()
    gate.shut("request")
    task = asyncio.create_task(gate.passed("request"))
    await gate.holding(1)
    task.cancel()
    await asyncio.wait([task])
    assert gate._held == 0
