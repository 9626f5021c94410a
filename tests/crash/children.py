"""The children of an embedded deployment without its gateway: they live on when gateways die.

Run as a program with a folder it starts PostgreSQL, OpenBao and the simulated processor there, and
obeys lines on its standard input: `stop postgres`, `start postgres`, and between these `alone` and
a statement for its superuser. `Program` is a test's end of
this one and of `doomed_gateway.py`.
"""

import asyncio
import signal
import subprocess
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

import uvloop

from gateway.embedded import LISTENERS, EmbeddedDeployment, SandboxMemory, embedded_deployment
from tests.flows.deployment import _CLEAN, _SETPRIV, Gateway, until
from vault.embedded.bootstrap import StartOptions

ROOT: Final = Path(__file__).parent.parent.parent


class Program(Gateway):
    """One of these two programs, which takes lines on its standard input."""

    def __init__(self, folder: Path, module: str, *words: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.out, self.err = folder / f"{module}.out", folder / f"{module}.err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self._process = subprocess.Popen(  # noqa: S603 - our own words
                [
                    *(_SETPRIV, "--pdeathsig", "TERM"),
                    *(sys.executable, "-m", f"tests.crash.{module}", *words),
                ],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                env=_CLEAN,
                cwd=ROOT,
                start_new_session=True,
            )
        self._read_to = {self.out: 0, self.err: 0}
        self._told = 0

    def tell(self, line: str) -> None:
        """Say a line, and wait until it is done."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()
        self._told += 1
        until(self._is_done, f"not done: {line}", seconds=60)

    def _is_done(self) -> bool:
        said = self.err.read_text()
        assert self._process.poll() is None, said
        return said.count("done\n") >= self._told

    def wait(self, seconds: float = 60.0) -> int:
        status = super().wait(seconds)
        if self._process.stdin is not None:
            self._process.stdin.close()
        return status


class Children(Program):
    """The children; `stop` ends them in order."""

    def __init__(self, folder: Path, deployment: Path) -> None:
        super().__init__(folder, "children", str(deployment))


class Doomed(Program):
    """A gateway that dies at a milestone."""

    def __init__(self, folder: Path, config: Path, module: str = "doomed_gateway") -> None:
        super().__init__(folder, module, str(config))

    def doom(self, milestone: StrEnum, *, nth: int = 1) -> None:
        self.tell(f"doom {milestone} {nth}")

    def kill(self) -> None:
        """End it from outside."""
        self._process.kill()

    def died(self) -> None:
        """Wait until it has."""
        assert self.wait() == -signal.SIGKILL, self.err.read_text()


async def _obey(deployment: EmbeddedDeployment, line: str) -> None:
    postgres = deployment.children.postgres
    match line.split():
        case ["stop", "postgres"]:
            await postgres.stop()
        case ["start", "postgres"]:
            await postgres.start()
            await postgres.ready()
        case ["alone", *words]:
            await postgres.run_alone([" ".join(words)])
        case _:
            raise ValueError(line)


async def _listen(deployment: EmbeddedDeployment) -> None:
    words = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(words), sys.stdin
    )
    async for line in words:
        await _obey(deployment, line.decode())
        _say("done")


def _say(word: str) -> None:
    sys.stderr.write(f"{word}\n")
    sys.stderr.flush()


async def _run(folder: Path) -> None:
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    options = StartOptions(listeners=LISTENERS, given_up=lambda name: _say(f"given up: {name}"))
    async with (
        embedded_deployment(
            folder, at=datetime.now(UTC), options=options, memory=SandboxMemory.ON_DISK
        ) as deployment,
        asyncio.TaskGroup() as group,
    ):
        listening = group.create_task(_listen(deployment))
        _say("ready:")
        await asked.wait()
        listening.cancel()


if __name__ == "__main__":
    uvloop.run(_run(Path(sys.argv[1])))
