"""How steps come to promises kept or not, and how both are told."""

import io
import json

from rich.console import Console

from gateway.demo.program import ACTS
from gateway.demo.scene import PROMISES, Check, LedgerLine, Promise, Scene, closing, reason
from gateway.demo.telling import ToMachines, ToPeople

TWO = (Promise("first", ("a", "b")), Promise("second", ("c",)))


def scene(name: str, *, step: int = 1, ok: bool = True) -> Scene:
    return Scene(
        step=step,
        name=name,
        title=f"title of {name}",
        words="words",
        merchant=["saw [this] " + "long " * 40],
        processor=["POST /v1/payment_methods  card[number] •••• 0000"],
        ledger=[LedgerLine(7, "authorization.attempted", operation="op", opens=("pan", "cvc"))],
        checks=[Check("it is so", ok)],
        seen=f"seen of {name}",
        seconds=0.1,
        ok=ok,
    )


def test_there_are_seventeen_promises_and_each_step_is_part_of_one() -> None:
    assert len(PROMISES) == 17
    shown = [name for promise in PROMISES for name in promise.scenes]
    assert sorted(shown) == sorted(act.name for act in ACTS)


def test_a_promise_is_kept_when_all_its_steps_are_as_they_should_be() -> None:
    end = closing([scene(name) for name in "abc"], promises=TWO)
    assert end.ok
    assert [kept.seen for kept in end.promises] == ["seen of a; seen of b", "seen of c"]
    assert reason([scene(name) for name in "abc"], end) is None


def test_one_step_that_is_not_breaks_it() -> None:
    scenes = [scene("a"), scene("b", step=2, ok=False), scene("c")]
    end = closing(scenes, promises=TWO)
    assert [kept.ok for kept in end.promises] == [False, True]
    assert not end.ok
    assert reason(scenes, end) == "step 2: it is so"


def test_so_does_one_that_was_not_played() -> None:
    scenes = [scene("a"), scene("b")]
    end = closing(scenes, promises=TWO)
    assert [(kept.ok, kept.seen) for kept in end.promises][1] == (False, "not shown")
    assert reason(scenes, end) == "second"


def test_people_read_whole_lines_within_the_width_of_their_terminal() -> None:
    out = io.StringIO()
    telling = ToPeople(Console(file=out, width=80))
    telling.scene(scene("a", ok=False))
    telling.closing(closing([scene("a", ok=False)], promises=TWO))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    for part in (
        "saw [this] long",  # brackets are no markup here
        "card[number] •••• 0000",
        "7 authorization.attempted op, opens pan and cvc",
        "✗ NOT so: it is so",
        "not shown",
        "0 of 2 promises kept",
    ):
        assert part in text


def test_machines_read_one_object_a_line() -> None:
    out = io.StringIO()
    telling = ToMachines(Console(file=out, width=80))
    telling.scene(scene("a"))
    telling.closing(closing([scene("a")], promises=TWO))
    first, last = (json.loads(line) for line in out.getvalue().splitlines())
    assert {"step", "title", "merchant", "processor", "ledger", "ok"} <= first.keys()
    assert first["ledger"][0]["opens"] == ["pan", "cvc"]
    assert [kept["ok"] for kept in last["promises"]] == [False, False]
