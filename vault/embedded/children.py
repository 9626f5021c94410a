"""Child processes: started, watched, started again when they die, stopped in order.

Knows nothing of what the children do. Three promises, each the kernel's rather than ours:
- No child outlives this process, not even on `kill -9`: each asks for a parent-death signal.
  That signal fires when the *thread* that forked ends, so only the main thread may start one.
- Ctrl-C in the terminal reaches us alone, for each child has a session of its own: the
  gateway drains first and ends them afterwards.
- Children get an empty environment, so that no VAULT_*, BAO_* or PG* of the caller's reaches
  them, and make no core dumps (those of OpenBao would hold card numbers).

An exit is seen through a process descriptor, by a callback of the running loop: no thread and
no task waits for it, and asyncio's loop and uvloop do the same.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from vault.errors import StartRefused

RESTARTS_MAX: Final = 10
"""Deaths within `_REMEMBERED_SECONDS` after which a child is given up."""

_REMEMBERED_SECONDS: Final = 600.0
_BACK_OFF_SECONDS: Final = (0.1, 0.2, 0.4, 0.8, 1.6, 3.0)
_POLL_SECONDS: Final = 0.02

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENVIRONMENT: Final = {"PATH": _PATH, "LC_ALL": "C", "TZ": "UTC"}

# Asking for the signal comes too late when the parent is dead by then: the shell was told who
# its parent must be, and goes on only if that is so.
_GUARD: Final = 'umask 077; ulimit -c 0; [ "$PPID" = "$0" ] && exec "$@"'


@dataclass(frozen=True, slots=True)
class Identity:
    """As whom a child runs: words for setpriv, and a command before the child's own."""

    setpriv: tuple[str, ...] = ()
    prefix: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Program:
    """What to start, how it writes its log, and how it ends."""

    name: str
    command: tuple[str, ...]
    log_file: Path
    on_parent_death: signal.Signals
    stop: tuple[tuple[signal.Signals, float], ...]
    """Signals to stop it with, politest first, and how long each may take, in seconds."""
    identity: Identity = field(default_factory=Identity)
    folder: Path = Path("/")
    """Its working folder."""


def pause_before_restart(deaths: Sequence[float], now: float) -> float | None:
    """Seconds to wait after these deaths, or None when there were too many of late."""
    recent = sum(1 for at in deaths if now - at <= _REMEMBERED_SECONDS)
    if recent > RESTARTS_MAX:
        return None
    return _BACK_OFF_SECONDS[min(recent, len(_BACK_OFF_SECONDS)) - 1]


class Child:
    """One supervised process."""

    def __init__(self, program: Program, *, given_up: Callable[[str], None]) -> None:
        self.program = program
        self.is_given_up = False
        self._on_given_up = given_up
        self._process: subprocess.Popen[bytes] | None = None
        self._descriptor = -1
        self._gone = asyncio.Event()
        self._wanted = False
        self._deaths: list[float] = []
        self._timer: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        """The process that runs now; None between a death and the restart."""
        return None if self._process is None else self._process.pid

    @property
    def restarts(self) -> int:
        return len(self._deaths)

    def start(self) -> None:
        assert not self._wanted, "started twice"
        self._wanted = True
        self.is_given_up = False
        self._deaths.clear()
        self._spawn()

    async def ready(
        self, is_ready: Callable[[int], Awaitable[bool]], *, seconds: float, deaths_max: int
    ) -> None:
        """Wait until `is_ready(pid)`, or say that it does not start and where to read why."""
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end and len(self._deaths) <= deaths_max:
            if self.pid is not None and await is_ready(self.pid):
                return
            await asyncio.sleep(_POLL_SECONDS)
        raise StartRefused(f"{self.program.name} does not start: see {self.program.log_file}")

    async def stop(self) -> None:
        """End the process, politely as long as it lets us; it is not started again."""
        self._wanted = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for number, seconds in self.program.stop:
            if self._process is None:
                return
            self._process.send_signal(number)
            try:
                async with asyncio.timeout(seconds):
                    await self._gone.wait()
            except TimeoutError:
                continue

    def _spawn(self) -> None:
        self._timer = None
        self._gone.clear()
        self._process = spawn(self.program, stdin=subprocess.DEVNULL)
        self._descriptor = os.pidfd_open(self._process.pid)
        asyncio.get_running_loop().add_reader(self._descriptor, self._exited)

    def _exited(self) -> None:
        assert self._process is not None
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._process.wait()  # it has ended: this only takes its status, and so the zombie, away
        self._process = None
        self._gone.set()
        if self._wanted:
            self._start_again(loop)

    def _start_again(self, loop: asyncio.AbstractEventLoop) -> None:
        self._deaths.append(loop.time())
        pause = pause_before_restart(self._deaths, loop.time())
        if pause is not None:
            self._timer = loop.call_later(pause, self._spawn)
            return
        self._wanted = False
        self.is_given_up = True
        self._on_given_up(self.program.name)


async def run_to_end(program: Program, stdin: bytes = b"") -> bool:
    """Run a short command with this on its standard input (less than a pipe holds)."""
    process = spawn(program, stdin=subprocess.PIPE)
    assert process.stdin is not None
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    descriptor = os.pidfd_open(process.pid)
    loop.add_reader(descriptor, gone.set)
    try:
        try:
            with process.stdin as pipe:
                pipe.write(stdin)
        except BrokenPipeError:
            pass  # it ended before it read: its status says why
        await gone.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        process.kill()  # canceled: nothing half-done may go on; else it has ended
        status = process.wait()
    return status == 0


def spawn(program: Program, *, stdin: int) -> subprocess.Popen[bytes]:
    """Start it so that it ends with us."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("the parent-death signal needs children of the main thread")
    words = (
        *(_tool("setpriv"), *program.identity.setpriv),
        *("--pdeathsig", program.on_parent_death.name.removeprefix("SIG")),
        *(_tool("sh"), "-c", _GUARD, str(os.getpid())),
        *program.identity.prefix,
        *program.command,
    )
    log = os.open(program.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(  # noqa: S603 - our own words, and no shell but the guard
            words,
            stdin=stdin,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_ENVIRONMENT,
            cwd=program.folder,
            start_new_session=True,
        )
    finally:
        os.close(log)


def _tool(name: str) -> str:
    """Find a program of the system's (util-linux, a shell)."""
    path = shutil.which(name, path=_PATH)
    if path is None:
        raise StartRefused(f"an embedded deployment needs the program {name} (Linux, util-linux)")
    return path
