"""Natural batching: nobody waits without need, nobody gets another's outcome, nobody is lost."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from vault.batching import Batching
from vault.errors import KeysTimedOut, Overloaded

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


class ItemFailed(Exception):
    """What a call holds against one item."""


@dataclass
class FakeCall:
    """A call that the test lets return when it likes; items that are negative fail."""

    calls: list[list[int]] = field(default_factory=list)
    returns: asyncio.Event = field(default_factory=asyncio.Event)
    error: BaseException | None = None

    async def __call__(self, items: Sequence[int]) -> list[str | Exception]:
        self.calls.append(list(items))
        await self.returns.wait()
        if self.error is not None:
            raise self.error
        return [outcome_of(item) for item in items]


def outcome_of(item: int) -> str | Exception:
    return ItemFailed(item) if item < 0 else str(item)


async def settled() -> None:
    """Let everything run that can run without time passing."""
    for _ in range(10):
        await asyncio.sleep(0)


def submitted(batching: Batching[int, str], *items: int) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(batching.submit(item)) for item in items]


async def in_flight(call: FakeCall, batching: Batching[int, str], item: int) -> asyncio.Task[str]:
    (task,) = submitted(batching, item)
    await settled()
    assert call.calls[-1] == [item]
    return task


def on_each_loop(
    test: Callable[[], Awaitable[None]],
) -> Callable[[Callable[[], asyncio.AbstractEventLoop]], None]:
    @pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
    def run(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        with asyncio.Runner(loop_factory=loop) as runner:

            async def main() -> None:
                async with asyncio.timeout(10):
                    await test()

            runner.run(main())

    return run


@on_each_loop
async def test_a_lone_item_leaves_at_once() -> None:
    call = FakeCall()
    batching = Batching(call)
    task = await in_flight(call, batching, 1)
    call.returns.set()
    assert await task == "1"


@on_each_loop
async def test_what_arrives_during_a_call_leaves_together_with_the_next() -> None:
    call = FakeCall()
    batching = Batching(call)
    first = await in_flight(call, batching, 1)
    others = submitted(batching, 2, 3, 4)
    await settled()
    assert call.calls == [[1]]
    call.returns.set()
    assert await asyncio.gather(first, *others) == ["1", "2", "3", "4"]
    assert call.calls == [[1], [2, 3, 4]]


@on_each_loop
async def test_a_call_takes_no_more_than_its_share() -> None:
    call = FakeCall()
    batching = Batching(call, items_max=128)
    tasks = submitted(batching, *range(129))
    call.returns.set()
    await asyncio.gather(*tasks)
    assert call.calls == [list(range(128)), [128]]


@on_each_loop
async def test_the_line_can_fall_idle_and_start_again() -> None:
    call = FakeCall()
    call.returns.set()
    batching = Batching(call)
    assert await batching.submit(1) == "1"
    await settled()
    assert await batching.submit(2) == "2"
    assert call.calls == [[1], [2]]


@on_each_loop
async def test_an_item_that_fails_concerns_its_own_waiter_only() -> None:
    call = FakeCall()
    call.returns.set()
    one, bad, two = submitted(Batching(call), 1, -1, 2)
    assert (await one, await two) == ("1", "2")
    with pytest.raises(ItemFailed):
        await bad


@on_each_loop
async def test_a_full_queue_refuses_at_once_and_takes_items_again_when_there_is_room() -> None:
    call = FakeCall()
    batching = Batching(call, queue_items_max=2)
    tasks = [await in_flight(call, batching, 1), *submitted(batching, 2, 3)]
    await settled()
    with pytest.raises(Overloaded):
        await batching.submit(4)
    call.returns.set()
    await asyncio.gather(*tasks)
    assert await batching.submit(5) == "5"
    assert [4] not in call.calls


@on_each_loop
async def test_who_gives_up_while_waiting_is_not_sent_and_frees_the_place() -> None:
    call = FakeCall()
    batching = Batching(call, queue_items_max=2)
    first = await in_flight(call, batching, 1)
    gone, stays = submitted(batching, 2, 3)
    await settled()
    gone.cancel()
    await settled()
    (late,) = submitted(batching, 4)
    await settled()
    call.returns.set()
    assert [await first, await stays, await late] == ["1", "3", "4"]
    assert call.calls == [[1], [3, 4]]
    assert gone.cancelled()


@on_each_loop
async def test_who_gives_up_during_the_call_disturbs_nobody() -> None:
    call = FakeCall()
    batching = Batching(call)
    tasks = submitted(batching, 1, 2, -3)
    await settled()
    tasks[0].cancel()
    tasks[2].cancel()
    await settled()
    call.returns.set()
    assert await tasks[1] == "2"
    assert tasks[0].cancelled()
    assert tasks[2].cancelled()


@on_each_loop
async def test_a_call_that_raises_fails_all_its_items_with_that_class_and_the_line_goes_on() -> (
    None
):
    call = FakeCall(error=KeysTimedOut())
    call.returns.set()
    batching = Batching(call)
    outcomes = await asyncio.gather(*submitted(batching, 1, 2), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [KeysTimedOut, KeysTimedOut]
    assert str(outcomes[0]) == str(KeysTimedOut())
    assert outcomes[0] is not outcomes[1]
    call.error = None
    assert await batching.submit(3) == "3"


@on_each_loop
async def test_an_error_shows_its_waiter_no_frame_of_the_call() -> None:
    async def call(items: Sequence[int]) -> list[str | Exception]:
        secret = f"of another request: {items}"
        raise KeysTimedOut from ValueError(secret)

    with pytest.raises(KeysTimedOut) as caught:
        await Batching(call).submit(1)
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert "of another request" not in "".join(shown.format())


@on_each_loop
async def test_a_call_that_owes_outcomes_fails_all_its_items() -> None:
    async def call(items: Sequence[int]) -> list[str | Exception]:
        return ["1"]

    outcomes = await asyncio.gather(*submitted(Batching(call), 1, 2), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [RuntimeError, RuntimeError]


@on_each_loop
async def test_an_observer_that_raises_leaves_nobody_waiting() -> None:
    def waited(seconds: float) -> None:
        raise ItemFailed

    with pytest.raises(ItemFailed):
        await Batching(FakeCall(), waited=waited).submit(1)


@on_each_loop
async def test_items_of_one_caller_leave_together_and_come_back_in_order() -> None:
    call = FakeCall()
    call.returns.set()
    batching = Batching(call)
    assert await batching.submit_all([3, 1, 2]) == ["3", "1", "2"]
    assert call.calls == [[3, 1, 2]]
    assert await batching.submit_all([]) == []


@on_each_loop
async def test_of_several_items_the_first_that_fails_is_raised() -> None:
    call = FakeCall()
    call.returns.set()
    with pytest.raises(ItemFailed) as caught:
        await Batching(call).submit_all([1, -2, -3])
    assert caught.value.args == (-2,)


@on_each_loop
async def test_several_items_for_which_there_is_no_room_are_refused() -> None:
    call = FakeCall()
    batching = Batching(call, queue_items_max=2)
    with pytest.raises(Overloaded):
        await batching.submit_all([1, 2, 3])


@on_each_loop
async def test_closing_lets_the_call_end_and_refuses_everything_else() -> None:
    call = FakeCall()
    batching = Batching(call)
    first = await in_flight(call, batching, 1)
    (waiting,) = submitted(batching, 2)
    await settled()
    closing = asyncio.create_task(batching.close())
    with pytest.raises(Overloaded):
        await waiting
    with pytest.raises(Overloaded):
        await batching.submit(3)
    assert not closing.done()
    call.returns.set()
    await closing
    assert await first == "1"
    assert call.calls == [[1]]


@on_each_loop
async def test_closing_an_idle_line_needs_no_call() -> None:
    call = FakeCall()
    await Batching(call).close()
    assert call.calls == []


@on_each_loop
async def test_a_canceled_call_leaves_nobody_waiting() -> None:
    call = FakeCall(error=asyncio.CancelledError())
    batching = Batching(call)
    first = await in_flight(call, batching, 1)
    gone, waiting = submitted(batching, 2, 3)
    await settled()
    gone.get_loop().call_soon(gone.cancel)
    call.returns.set()
    outcomes = await asyncio.gather(first, waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Overloaded, Overloaded]


@on_each_loop
async def test_it_says_how_long_the_oldest_item_of_a_call_waited() -> None:
    waits: list[float] = []
    call = FakeCall()
    batching = Batching(call, waited=waits.append)
    first = await in_flight(call, batching, 1)
    others = submitted(batching, 2, 3)
    await asyncio.sleep(0.02)
    call.returns.set()
    await asyncio.gather(first, *others)
    assert len(waits) == 2
    assert waits[0] < waits[1]
    assert waits[1] >= 0.019  # the loop clock is coarse


Numbered = tuple[int, int]  # the item's place, and a number that may be negative
SUBMIT, CANCEL, TICK, RETURN, FAIL = range(5)
STEPS = st.lists(
    st.tuples(st.integers(SUBMIT, FAIL), st.integers(-50, 1000)), min_size=1, max_size=60
)


@given(steps=STEPS, items_max=st.integers(1, 5), queue_items_max=st.integers(1, 8))
@pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
def test_every_waiter_hears_of_its_own_item_exactly_once(
    loop: Callable[[], asyncio.AbstractEventLoop],
    steps: list[tuple[int, int]],
    items_max: int,
    queue_items_max: int,
) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(walk(steps, items_max, queue_items_max))


async def walk(steps: list[tuple[int, int]], items_max: int, queue_items_max: int) -> None:
    """Do what the steps say, bring everything to its end, then check every promise at once."""
    call = SteppedCall()
    batching = Batching(call, items_max=items_max, queue_items_max=queue_items_max)
    tasks: list[asyncio.Task[Numbered]] = []
    for step, number in steps:
        if step == SUBMIT:
            tasks.append(asyncio.create_task(batching.submit((len(tasks), number))))
        elif step == CANCEL and tasks:
            tasks[number % len(tasks)].cancel()
        elif step == TICK:
            await asyncio.sleep(0)
        else:
            call.finish(fail=step == FAIL)
    await to_their_end(tasks, call)
    await to_their_end([asyncio.create_task(batching.close())], call)
    sent = [place for items in call.calls for place, _ in items]
    assert sent == sorted(set(sent))  # in the order they came, none twice
    assert all(len(items) <= items_max for items in call.calls)
    for place, task in enumerate(tasks):
        if not task.cancelled():
            check_own_outcome(task, place, was_sent=place in sent)


async def to_their_end(tasks: Sequence[asyncio.Task[object]], call: "SteppedCall") -> None:
    while not all(task.done() for task in tasks):
        call.finish(fail=False)
        await asyncio.sleep(0)


def check_own_outcome(task: asyncio.Task[Numbered], place: int, *, was_sent: bool) -> None:
    match task.exception():
        case None:
            assert task.result()[0] == place
        case ItemFailed() as error:
            assert error.args == (place,)
        case KeysTimedOut():
            assert was_sent
        case error:
            assert isinstance(error, Overloaded)
            assert not was_sent


class SteppedCall:
    """A call that returns or raises when told to."""

    def __init__(self) -> None:
        self.calls: list[list[Numbered]] = []
        self.waiting: asyncio.Future[bool] | None = None

    async def __call__(self, items: Sequence[tuple[int, int]]) -> list[tuple[int, int] | Exception]:
        self.calls.append(list(items))
        self.waiting = asyncio.get_running_loop().create_future()
        fail = await self.waiting
        if fail:
            raise KeysTimedOut
        return [ItemFailed(place) if number < 0 else (place, number) for place, number in items]

    def finish(self, *, fail: bool) -> None:
        if self.waiting is not None:
            self.waiting.set_result(fail)
            self.waiting = None
