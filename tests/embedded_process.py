"""A real embedded deployment in a process of its own, for tests.

Its own process, so that tests in any event loop can share one, and so that a test can kill it.
`EmbeddedProcess` is the test's end. Run as a program, this file is the other end: it starts the
deployment in the folder it is given, says what it does in JSON lines, obeys words on its
standard input, and stops when that is closed.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import uvloop

from vault.embedded.bootstrap import Embedded, EmbeddedParts, StartOptions, parts_of
from vault.errors import StartRefused

ROOT = Path(__file__).parent.parent


class EmbeddedProcess:
    """Starts a deployment and keeps it until `close`, `kill` or the end of the tests."""

    def __init__(self, folder: Path, *flags: str, prefix: Sequence[str] = ()) -> None:
        """`flags`: `--uvloop`, `--port-base=N`. Does not wait: see `until`."""
        self.folder = folder
        self.seen: list[dict[str, object]] = []
        self._process = subprocess.Popen(  # noqa: S603 - our own words
            [*prefix, sys.executable, "-m", "tests.embedded_process", str(folder), *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            process_group=0,
        )

    @classmethod
    def started(cls, folder: Path, *flags: str, prefix: Sequence[str] = ()) -> Self:
        process = cls(folder, *flags, prefix=prefix)
        try:
            process.until("ready")
        except AssertionError:
            process.close()
            raise
        return process

    @property
    def parts(self) -> EmbeddedParts:
        return parts_of(self.folder)

    @property
    def pid(self) -> int:
        return self._process.pid

    def until(self, event: str, text: str = "") -> dict[str, object]:
        """Read events to the first of this name whose text holds this one."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said: dict[str, object] = json.loads(line)
            self.seen.append(said)
            if said["event"] == event and text in str(said.get("text", "")):
                return said
            if said["event"] == "refused":
                break
        raise AssertionError(f"no {event!r} in {self.seen}")

    def do(self, word: str) -> dict[str, object]:
        """One of `pids`, `restart openbao`, `restart postgres`, `allow createdb`."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n".encode())
        self._process.stdin.flush()
        return self.until("done")

    def pids(self) -> dict[str, int]:
        """The children's process ids; none for one that is just being restarted."""
        said = self.do("pids")["pids"]
        assert isinstance(said, dict)
        return {name: pid for name, pid in said.items() if pid is not None}

    def until_restarted(self, name: str, old: int, *, seconds: float = 5.0) -> int:
        """Wait until the child has another process, and give its id."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if (new := self.pids().get(name)) not in (None, old):
                return int(new or 0)
        raise AssertionError(f"{name} was not started again")

    def interrupt_group(self) -> None:
        """What Ctrl-C in a terminal does: a signal to the whole process group."""
        os.killpg(os.getpgid(self.pid), signal.SIGINT)

    def kill(self) -> None:
        self._process.kill()
        self.close()

    def close(self) -> int:
        """Let it stop, and give its exit status."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        status = self._process.wait()
        self._process.stdout.close()
        return status


def _say(event: str, **more: object) -> None:
    sys.stdout.write(json.dumps({"event": event, **more}) + "\n")
    sys.stdout.flush()


async def _obey(embedded: Embedded, word: str) -> None:
    answer: dict[str, object] = {}
    match word.strip():
        case "pids":
            children = (embedded.openbao.child, embedded.postgres.child)
            answer["pids"] = {child.program.name: child.pid for child in children}
        case "restart openbao":
            await embedded.openbao.restart()
        case "restart postgres":
            await embedded.postgres.restart()
        case "allow createdb":  # never in a deployment: tests make a database each
            await embedded.postgres.stop()
            await embedded.postgres.run_alone(["ALTER ROLE panward_owner CREATEDB;"])
            await embedded.postgres.start()
            await embedded.postgres.ready()
        case _:
            raise ValueError(word)
    _say("done", **answer)


async def _run(folder: Path, options: StartOptions) -> int:
    try:
        embedded = await Embedded.start(folder, at=datetime.now(UTC), options=options)
    except StartRefused as refusal:
        _say("refused", text=str(refusal))
        return 1
    _say("ready")
    words = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(words), sys.stdin
    )
    async for line in words:
        await _obey(embedded, line.decode())
    await embedded.stop()
    return 0


def main(folder: str, *flags: str) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    bases = [int(flag.partition("=")[2]) for flag in flags if flag.startswith("--port-base=")]
    options = StartOptions(
        port_base=bases[0] if bases else None,
        listeners=("public", "private"),
        progress=lambda text: _say("progress", text=text),
        given_up=lambda name: _say("given up", text=name),
    )
    loop = uvloop.new_event_loop if "--uvloop" in flags else None
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(_run(Path(folder), options))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
