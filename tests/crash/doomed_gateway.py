"""A whole gateway that ends itself with SIGKILL at a named moment, when a test says which.

Run as a program with a configuration file it serves as `panward up --config` does, and obeys
lines on its standard input: `doom S3 1` is "die when S3 is passed for the first time from now on",
`clock 3600` is "from now on it is an hour later than it is". What never lives here: a way of its
own to wire a gateway.
"""

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

import gateway.custody
from vault.milestones import Milestone


class Clock:
    """The clock of this process, which a test may set wrong."""

    def __init__(self) -> None:
        self.off = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.off


CLOCK = Clock()
gateway.custody.utc_now = CLOCK  # before anybody has imported it from there

from gateway.app import running  # noqa: E402 - see above
from gateway.commands.options import console, run  # noqa: E402
from gateway.config import Config, load_config  # noqa: E402
from gateway.metrics import Metrics  # noqa: E402
from gateway.request_event import EventLog, quiet_logging  # noqa: E402


class Doom:
    """Milestones, or steps by any other name, that end the process at one of them."""

    def __init__(self, names: type[StrEnum] = Milestone) -> None:
        self._names = names
        self._at: StrEnum | None = None
        self._left = 0

    def set(self, name: str, nth: int) -> None:
        self._at, self._left = self._names(name), nth

    def passed(self, milestone: StrEnum) -> None:
        if milestone is self._at:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


async def obey(doom: Doom) -> None:
    """Do what is said on standard input, until it ends."""
    words = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(words), sys.stdin
    )
    async for line in words:
        match line.decode().split():
            case ["doom", milestone, nth]:
                doom.set(milestone, int(nth))
            case ["clock", seconds]:
                CLOCK.off = timedelta(seconds=float(seconds))
            case _:
                raise ValueError(line)
        sys.stdout.flush()
        console.print("done")


async def serve(config: Config, doom: Doom) -> None:
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    metrics = Metrics(processor_routes=[route.name for route in config.routes])
    log = EventLog(sys.stdout.buffer, now=CLOCK, watch=metrics)
    with quiet_logging(log):
        async with running(config, log, metrics, doom), asyncio.TaskGroup() as group:
            obeying = group.create_task(obey(doom))
            console.print("ready:")
            await asked.wait()
            obeying.cancel()


if __name__ == "__main__":
    run(serve(load_config(Path(sys.argv[1])), Doom()))
