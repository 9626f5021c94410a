"""The `panward` command, run to its end as a user runs it."""

import asyncio
import os
import sys
from dataclasses import dataclass

COMMAND_SECONDS = 120.0
_CLEAN = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it wrote."""

    status: int
    out: str
    err: str


async def panward(*words: str, stdin: bytes = b"") -> Ended:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", "from gateway.cli import main; main()", *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_CLEAN,
    )
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            out, err = await process.communicate(stdin)
    finally:
        if process.returncode is None:  # a gateway, say, that was to refuse to start
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())
