"""Processes: what they use up, and short ones that are waited for.

Read from /proc, so of any process. Only what was started here is ever ended.
"""

import asyncio
import os
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.figures import Usage

ROOT: Final = Path(__file__).parent.parent
_TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_PARENT, _USER, _SYSTEM, _RESIDENT = 1, 11, 12, 21  # after the name: proc(5) counts from 1, and 2
_CHILDREN_USER, _CHILDREN_SYSTEM = 13, 14


class Failed(Exception):
    """A process that measures did not come to its end; the message says which."""


def _fields(pid: int) -> list[bytes]:
    """Fields of /proc/PID/stat after the name, which may hold spaces; none of a process gone."""
    try:
        content = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return content.rpartition(b") ")[2].split()


def usage_of(pid: int) -> Usage:
    """CPU time and memory of a process and of all its children, those that ended too."""
    own = _fields(pid)
    if not own:
        raise Failed(f"process {pid} has ended")
    counted = (_USER, _SYSTEM, _CHILDREN_USER, _CHILDREN_SYSTEM)
    ticks = sum(int(own[place]) for place in counted)
    resident = int(own[_RESIDENT])
    for child in _children(pid):
        fields = _fields(child)
        if fields:
            ticks += sum(int(fields[place]) for place in counted)
            resident += int(fields[_RESIDENT])
    return Usage(ticks * _TICK, resident * _PAGE)


def _children(pid: int) -> list[int]:
    """Processes whose parent it is; servers that we watch have no grandchildren."""
    everybody = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [one for one in everybody if (fields := _fields(one)) and int(fields[_PARENT]) == pid]


def busy_seconds() -> float:
    """CPU time that this machine has spent, or that was stolen from it, since it started."""
    line = Path("/proc/stat").read_text("ascii").partition("\n")[0]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, line.split()[1:9])
    return (user + nice + system + irq + softirq + steal) * _TICK


def generator_seconds() -> float:
    """CPU time of this process and of what it has run to its end: the load."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, who))


def python(module: str, *words: str) -> tuple[str, ...]:
    """How a module of ours is run."""
    return (sys.executable, "-m", module, *words)


async def run_to_end(
    command: Sequence[str], *, seconds_max: float, environment: Mapping[str, str] | None = None
) -> str:
    """Run a command that ends with us at the latest, and return what it printed. Raises Failed."""
    process = await asyncio.create_subprocess_exec(
        *("setpriv", "--pdeathsig", "KILL", *command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", **(environment or {})},
    )
    try:
        async with asyncio.timeout(seconds_max):
            out, err = await process.communicate()
    except TimeoutError:
        raise Failed(f"{_name(command)} took longer than {seconds_max:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise Failed(f"{_name(command)} failed: {err.decode(errors='replace')[-500:]}")
    return out.decode()


def _name(command: Sequence[str]) -> str:
    return command[2] if command[1] == "-m" else Path(command[0]).name
