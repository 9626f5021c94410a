"""What has begun reaches its end, whoever goes away, and what fails unheard is told by its type."""

import asyncio
import gc

import pytest

from gateway.in_flight import InFlight
from vault.errors import Overloaded


class Broke(Exception):
    """A failure whose text must not be told."""


@pytest.fixture
def unheard() -> list[type[BaseException]]:
    return []


@pytest.fixture
def in_flight(unheard: list[type[BaseException]]) -> InFlight:
    return InFlight(unheard.append)


async def value() -> int:
    await asyncio.sleep(0)
    return 7


async def test_the_result_is_the_callers(in_flight: InFlight) -> None:
    assert await in_flight.to_its_end(value()) == 7
    assert in_flight.open == 0


async def test_a_failure_that_the_caller_hears_is_not_told_again(
    in_flight: InFlight, unheard: list[type[BaseException]]
) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise Broke

    with pytest.raises(Broke):
        await in_flight.to_its_end(fail())
    await asyncio.sleep(0)
    assert unheard == []
    assert in_flight.open == 0


@pytest.mark.guards("F-32")
async def test_a_caller_that_goes_away_stops_nothing(
    in_flight: InFlight, unheard: list[type[BaseException]]
) -> None:
    begun, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await go_on.wait()
        ended.set()

    caller = asyncio.create_task(in_flight.to_its_end(work()))
    await begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert in_flight.open == 1
    gc.collect()  # nothing but in_flight holds the task now
    go_on.set()
    assert await in_flight.drain(5) == 0
    assert ended.is_set()
    assert unheard == []


async def test_a_failure_that_nobody_hears_is_told_by_its_type(
    in_flight: InFlight, unheard: list[type[BaseException]]
) -> None:
    go_on = asyncio.Event()

    async def fail() -> None:
        await go_on.wait()
        raise Broke("4-1-1-1")

    caller = asyncio.create_task(in_flight.to_its_end(fail()))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go_on.set()
    await in_flight.drain(5)
    await asyncio.sleep(0)
    assert unheard == [Broke]


async def test_a_failure_in_the_moment_of_leaving_is_told(
    in_flight: InFlight, unheard: list[type[BaseException]]
) -> None:
    async def fail() -> None:
        raise Broke

    caller = asyncio.create_task(in_flight.to_its_end(fail()))
    await asyncio.sleep(0)  # the caller waits
    await asyncio.sleep(0)  # the work has failed, the caller has not heard of it yet
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await asyncio.sleep(0)
    assert unheard == [Broke]


async def test_work_that_somebody_cancels_all_the_same_is_told(
    in_flight: InFlight, unheard: list[type[BaseException]]
) -> None:
    found: list[asyncio.Task[object] | None] = []

    async def work() -> None:
        found.append(asyncio.current_task())
        await asyncio.Event().wait()

    caller = asyncio.create_task(in_flight.to_its_end(work()))
    await asyncio.sleep(0.01)
    (task,) = found
    assert task is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await asyncio.sleep(0)
    assert unheard == [asyncio.CancelledError]
    assert in_flight.open == 0


async def test_what_is_too_much_is_refused_before_it_begins(
    unheard: list[type[BaseException]],
) -> None:
    in_flight = InFlight(unheard.append, tasks_max=2)
    go_on = asyncio.Event()
    begun: list[int] = []

    async def work(number: int) -> None:
        begun.append(number)
        await go_on.wait()

    callers = [asyncio.create_task(in_flight.to_its_end(work(number))) for number in (1, 2)]
    full = [in_flight.is_full]
    await asyncio.sleep(0.01)
    full.append(in_flight.is_full)
    with pytest.raises(Overloaded):
        await in_flight.to_its_end(work(3))
    go_on.set()
    await asyncio.gather(*callers)
    assert begun == [1, 2]
    assert [*full, in_flight.is_full] == [False, True, False]
    assert await in_flight.to_its_end(value()) == 7


async def test_draining_waits_also_for_what_begins_meanwhile(in_flight: InFlight) -> None:
    async def second() -> None:
        await asyncio.sleep(0.02)

    async def first() -> None:
        await asyncio.sleep(0.02)
        task = asyncio.create_task(in_flight.to_its_end(second()))
        await asyncio.sleep(0)
        task.cancel()

    caller = asyncio.create_task(in_flight.to_its_end(first()))
    await asyncio.sleep(0)
    assert in_flight.open == 1
    assert await in_flight.drain(5) == 0
    await caller


async def test_draining_ends_in_time_and_counts_what_is_left(in_flight: InFlight) -> None:
    go_on = asyncio.Event()
    ended: list[int] = []

    async def work(number: int) -> None:
        await go_on.wait()
        ended.append(number)

    callers = [asyncio.create_task(in_flight.to_its_end(work(number))) for number in range(3)]
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await in_flight.drain(0.05) == 3
    assert 0.04 < loop.time() - began < 1
    assert await in_flight.drain(0) == 3
    go_on.set()  # nothing was stopped by that
    await asyncio.gather(*callers)
    assert sorted(ended) == [0, 1, 2]


async def test_a_canceled_drain_stops_nothing(in_flight: InFlight) -> None:
    go_on = asyncio.Event()

    async def work() -> bool:
        return await go_on.wait()

    caller = asyncio.create_task(in_flight.to_its_end(work()))
    await asyncio.sleep(0)
    drain = asyncio.create_task(in_flight.drain(5))
    await asyncio.sleep(0)
    drain.cancel()
    with pytest.raises(asyncio.CancelledError):
        await drain
    go_on.set()
    assert await caller is True


@pytest.mark.guards("T-32")
async def test_a_task_is_named_by_a_number(in_flight: InFlight) -> None:
    async def name() -> str:
        task = asyncio.current_task()
        assert task is not None
        return task.get_name()

    assert (await in_flight.to_its_end(name())).removeprefix("Task-").isdecimal()
