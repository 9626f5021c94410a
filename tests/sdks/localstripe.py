"""localstripe as one processor that we did not write, contained, with TLS in front of it.

It is started as a process of its own and never imported. By itself it listens on every
interface and writes each card that it is sent to `/tmp/localstripe.pickle`, wherever `TMPDIR`
points: so it runs under `clients/confined.py`, which gives it a Unix socket to listen on and no
file to write. It speaks plain HTTP; the front, a thread of the tests' process, ends the TLS.
"""

import asyncio
import contextlib
import shutil
import ssl
import subprocess
import threading
import time
from pathlib import Path
from typing import Final, Self

from tests.flows.leaks import first_leak
from tests.sdks.driver import confined, in_step, python_of

LOOPBACK: Final = "127.0.0.1"
START_SECONDS: Final = 60.0
PIECE_BYTES: Final = 64 * 1024


class LocalStripe:
    """It, running in `folder`, which is removed at the end."""

    def __init__(self, folder: Path, context: ssl.SSLContext) -> None:
        folder.mkdir(mode=0o700, parents=True)
        self._folder = folder
        self.socket = folder / "http"
        self._said = folder / "said"
        python = python_of("localstripe")
        launch = (python, "-u", "-W", "ignore", "-m", "tests.sdks.clients.confined", self.socket)
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(  # noqa: S603 - our own words
                in_step(*launch, "localstripe", "--from-scratch"),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=confined(folder),
            )
        try:
            self._until_it_listens()
            self._front = TlsFront(self.socket, context)
        except BaseException:
            self._end()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def port(self) -> int:
        return self._front.port

    @property
    def url(self) -> str:
        return f"https://{LOOPBACK}:{self.port}"

    def _until_it_listens(self) -> None:
        end = time.monotonic() + START_SECONDS
        while "Running on" not in (said := self._said.read_text()):
            assert self._process.poll() is None, said
            assert time.monotonic() < end, said
            time.sleep(0.02)

    def close(self) -> None:
        """End both, and remove what is left; no card number may be in what it said."""
        self._front.close()
        leak = first_leak(self._said.read_bytes())
        self._end()
        assert leak is None, "localstripe printed a card number"

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TlsFront:
    """TLS on a port of loopback, in a thread of its own; behind it a plain server's socket."""

    def __init__(self, behind: Path, context: ssl.SSLContext) -> None:
        self._behind = behind
        self._context = context
        self._started = threading.Event()
        self._relays: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._started.wait(START_SECONDS), "the front did not start"

    async def _serve(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._relay, LOOPBACK, 0, ssl=self._context)
        self.port: int = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._ended.wait()
        server.close()
        relays = [task for task in self._relays.values() if task is not None]
        for writer in self._relays:
            writer.transport.abort()
        await asyncio.gather(*relays, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._relays[writer] = asyncio.current_task()
        try:
            behind_reader, behind_writer = await asyncio.open_unix_connection(self._behind)
            await asyncio.gather(_pump(reader, behind_writer), _pump(behind_reader, writer))
        except OSError:
            writer.transport.abort()
        finally:
            del self._relays[writer]

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(START_SECONDS)
        assert not self._thread.is_alive()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass everything on; when either side ends, end the other."""
    with contextlib.suppress(OSError):
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    writer.close()
