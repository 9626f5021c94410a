"""The `panward` command as a process that can be fed, read and killed."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.cli import main

READ_SECONDS = 120.0
LINE_BYTES_MAX = 1 << 16
ROOT = Path(__file__).parent.parent.parent.parent
PIPE = asyncio.subprocess.PIPE


class Running:
    """A command under way."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> bytes:
        """Read one line, or what there is of it at the end."""
        assert self.process.stdout is not None
        async with asyncio.timeout(READ_SECONDS):
            return await self.process.stdout.readline()

    async def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        await self.process.stdin.drain()

    async def ended(self) -> tuple[int, str, str]:
        """Wait for the end; give the status, and what was left on both outputs."""
        async with asyncio.timeout(READ_SECONDS):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def started(*words: str, stdout: int = PIPE) -> AsyncIterator[Running]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.gateway.commands.ledger_program", *words),
        stdin=PIPE, stdout=stdout, stderr=PIPE, limit=LINE_BYTES_MAX, cwd=ROOT,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    try:
        yield Running(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ended(*words: str) -> tuple[int, str, str]:
    async with started(*words) as running:
        return await running.ended()


if __name__ == "__main__":
    main()
