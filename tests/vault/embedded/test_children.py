import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import uvloop

from vault.embedded import children
from vault.embedded.children import Child, Program, pause_before_restart, run_to_end
from vault.errors import StartRefused

Loop = Callable[[], asyncio.AbstractEventLoop]

ROOT = Path(__file__).parents[3]
SLEEPER = ("sleep", "60")
POLITE = ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    """Each of the two loops: an exit must be seen by both."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner


def _program(
    folder: Path, *command: str, stop: Sequence[tuple[signal.Signals, float]] = POLITE
) -> Program:
    return Program(
        name="child",
        command=command,
        log_file=folder / "log",
        on_parent_death=signal.SIGKILL,
        stop=tuple(stop),
    )


def _child(folder: Path, *command: str) -> tuple[Child, list[str]]:
    given_up: list[str] = []
    return Child(_program(folder, *command), given_up=given_up.append), given_up


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what a process does is no event of ours
            await asyncio.sleep(0.01)


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.guards("F-54")
def test_a_child_that_dies_is_started_again(runner: asyncio.Runner, tmp_path: Path) -> None:
    async def scenario() -> None:
        child, given_up = _child(tmp_path, *SLEEPER)
        child.start()
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await _until(lambda: child.pid not in (None, first))
        assert (child.restarts, given_up) == (1, [])
        await child.stop()
        assert child.pid is None

    runner.run(scenario())


@pytest.mark.guards("F-54")
def test_one_that_dies_too_often_is_given_up(
    runner: asyncio.Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "_BACK_OFF_SECONDS", (0.0,))

    async def scenario() -> None:
        child, given_up = _child(tmp_path, "sh", "-c", "echo started")
        child.start()
        await _until(lambda: bool(given_up))
        assert given_up == ["child"]
        assert child.is_given_up
        assert child.pid is None
        await child.stop()

    runner.run(scenario())
    assert (tmp_path / "log").read_text() == "started\n" * (children.RESTARTS_MAX + 1)


def test_the_pause_grows_to_three_seconds_and_ends(tmp_path: Path) -> None:
    pauses = [pause_before_restart([0.0] * n, 1.0) for n in range(1, 13)]

    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, *[3.0] * 5, None, None]


def test_deaths_of_long_ago_do_not_count() -> None:
    assert pause_before_restart([*[0.0] * 50, 1000.0], 1000.0) == 0.1


def test_a_child_that_is_stopped_stays_so(runner: asyncio.Runner, tmp_path: Path) -> None:
    async def scenario() -> None:
        child, _ = _child(tmp_path, "false")
        child.start()
        await _until(lambda: child.restarts > 0 and child.pid is None)
        await child.stop()  # while a restart is due
        assert child._timer is None
        assert child.pid is None

    runner.run(scenario())


def test_one_that_does_not_listen_is_killed(runner: asyncio.Runner, tmp_path: Path) -> None:
    async def scenario() -> None:
        deaf = _program(
            tmp_path,
            *("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"),
            stop=((signal.SIGTERM, 0.1), (signal.SIGKILL, 5.0)),
        )
        child = Child(deaf, given_up=lambda _: None)
        child.start()
        await _until(lambda: "ready" in (tmp_path / "log").read_text())
        pid = child.pid
        assert pid is not None
        await child.stop()
        assert not _is_running(pid)

    runner.run(scenario())


def test_it_has_a_session_of_its_own(runner: asyncio.Runner, tmp_path: Path) -> None:
    """Ctrl-C goes to the terminal's process group: the children must not be in it."""

    async def scenario() -> None:
        child, _ = _child(tmp_path, *SLEEPER)
        child.start()
        assert child.pid is not None
        assert os.getsid(child.pid) == child.pid
        assert os.getpgid(child.pid) != os.getpgid(0)
        await child.stop()

    runner.run(scenario())


def test_it_gets_an_empty_environment_and_makes_no_core(
    runner: asyncio.Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "of-the-caller")

    assert runner.run(run_to_end(_program(tmp_path, "sh", "-c", "env; ulimit -c; umask; pwd")))

    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[-3:] == ["0", "0077", "/"]
    assert {line.partition("=")[0] for line in lines[:-3]} <= {"PATH", "LC_ALL", "TZ", "PWD"}


def test_a_command_reads_what_it_is_given(runner: asyncio.Runner, tmp_path: Path) -> None:
    assert runner.run(run_to_end(_program(tmp_path, "cat"), b"words"))

    assert (tmp_path / "log").read_text() == "words"


def test_a_command_that_fails_says_so(runner: asyncio.Runner, tmp_path: Path) -> None:
    assert not runner.run(run_to_end(_program(tmp_path, "false"), b"unread" * 1000))


def test_a_command_that_is_canceled_is_ended(runner: asyncio.Runner, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(0.3):
            await run_to_end(_program(tmp_path, "sh", "-c", "echo $$; exec sleep 60"))

    with pytest.raises(TimeoutError):
        runner.run(scenario())
    assert not _is_running(int((tmp_path / "log").read_text()))


def test_one_that_never_gets_ready_is_refused(runner: asyncio.Runner, tmp_path: Path) -> None:
    async def never(_pid: int) -> bool:
        return False

    async def scenario() -> None:
        child, _ = _child(tmp_path, "false")
        child.start()
        try:
            await child.ready(never, seconds=5, deaths_max=1)
        finally:
            await child.stop()

    with pytest.raises(StartRefused, match=f"child does not start: see {tmp_path}/log"):
        runner.run(scenario())


def test_only_the_main_thread_may_start_one(tmp_path: Path) -> None:
    """The parent-death signal fires when the thread that forked ends."""
    refused: list[BaseException] = []

    def other_thread() -> None:
        try:
            children.spawn(_program(tmp_path, *SLEEPER), stdin=subprocess.DEVNULL)
        except RuntimeError as error:
            refused.append(error)

    thread = threading.Thread(target=other_thread)
    thread.start()
    thread.join()

    assert len(refused) == 1


def test_a_missing_tool_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_PATH", str(tmp_path))

    with pytest.raises(StartRefused, match="needs the program setpriv"):
        children.spawn(_program(tmp_path, *SLEEPER), stdin=subprocess.DEVNULL)


PARENT = """
import asyncio, os, signal, sys
from pathlib import Path
from vault.embedded.children import Child, Program

async def main() -> None:
    program = Program("child", ("sleep", "60"), Path(sys.argv[1]), signal.SIGKILL, ())
    child = Child(program, given_up=print)
    child.start()
    print(child.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.guards("T-73")
def test_it_ends_with_its_parent_even_on_kill_9(tmp_path: Path) -> None:
    parent = subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-c", PARENT, str(tmp_path / "log")], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert _is_running(pid)
    # The signal is asked for by the first of the programs that become the child.
    end = time.monotonic() + 3
    while Path(f"/proc/{pid}/comm").read_text() != "sleep\n":
        assert time.monotonic() < end

    parent.kill()
    parent.communicate()

    while _is_running(pid):
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.guards("T-73")
def test_one_whose_parent_was_quicker_to_die_does_not_begin(
    runner: asyncio.Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for too late, the signal never comes: the child looks who its parent is."""
    monkeypatch.setattr(os, "getpid", lambda: 1)

    assert not runner.run(run_to_end(_program(tmp_path, "echo", "begun")))

    assert (tmp_path / "log").read_text() == ""
