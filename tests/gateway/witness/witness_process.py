"""`panward witness` in processes of their own, for tests: to be killed, and quick to start again.

Run as a program, this file has everything imported. For each line on its standard input, the
arguments as a JSON list, it forks one witness and says its process id; when that has ended, it
says so. One at a time.
"""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import typer

from gateway.commands.witness import witness

ROOT = Path(__file__).parents[3]
ENDED = b"ended\n"


class Nursery:
    """The test's end of it."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def start(self, arguments: Sequence[str]) -> int:
        """Start a witness; return its process id."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(arguments).encode() + b"\n")
        return int(await self._line())

    async def ended(self) -> None:
        assert await self._line() == ENDED

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        async with asyncio.timeout(30):
            return await self._process.stdout.readline()


@asynccontextmanager
async def nursery() -> AsyncIterator[Nursery]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __spec__.name, stdin=PIPE, stdout=PIPE, cwd=ROOT
    )
    try:
        yield Nursery(process)
    finally:
        process.kill()
        await process.communicate()


def be_a_witness(arguments: Sequence[str]) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nowhere, descriptor)
    app = typer.Typer()
    app.command()(witness)
    app(arguments)


def main() -> None:
    while line := os.read(0, 65536):  # nothing is buffered that a fork would copy
        child = os.fork()
        if not child:
            be_a_witness(json.loads(line))
        os.write(1, b"%d\n" % child)
        os.waitpid(child, 0)
        os.write(1, ENDED)


if __name__ == "__main__":
    main()
