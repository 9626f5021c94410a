"""Real gateways for flow tests: `panward up` as a process, and what else can be seen of it.

A `Gateway` is one running process. The `Deployment` is the embedded one, whose children (OpenBao,
PostgreSQL, the simulated processor) a test may stop and kill. What the gateway says about itself
is never all that is asserted: OpenBao's audit log tells what was decrypted, the database what was
recorded, the processor what arrived.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias, TypeVar
from urllib.parse import urlsplit

import asyncpg

from gateway.config import Config, load_config
from gateway.embedded import control_socket
from tests.flows.leaks import first_leak
from tests.flows.processor import ProcessorControl
from vault.embedded.bootstrap import EmbeddedParts, parts_of
from vault.embedded.layout import Layout

T = TypeVar("T")
Store: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

START_SECONDS = 90.0
STOP_SECONDS = 60.0
_PANWARD = (sys.executable, "-c", "from gateway.cli import main; main()")
_SETPRIV = shutil.which("setpriv") or "setpriv"
_CLEAN = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}  # no proxy, no VAULT_*, no PG*


def until(what: Callable[[], T | None], why: str, *, seconds: float = 30.0) -> T:
    """Ask again until there is an answer."""
    end = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < end, f"waited {seconds} s: {why}"
        time.sleep(0.01)
    return answer


async def eventually(
    what: Callable[[], Awaitable[T | None]], why: str, *, seconds: float = 30.0
) -> T:
    """Ask again until there is an answer, while everything else goes on."""
    end = time.monotonic() + seconds
    while not (answer := await what()):
        assert time.monotonic() < end, f"waited {seconds} s: {why}"
        await asyncio.sleep(0.02)
    return answer


class Gateway:
    """One `panward up`, from its start to `stop`; what it writes goes to two files."""

    def __init__(self, folder: Path, *words: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.out, self.err = folder / "gateway.out", folder / "gateway.err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self._process = subprocess.Popen(  # noqa: S603 - our own words
                [_SETPRIV, "--pdeathsig", "TERM", *_PANWARD, "up", *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=_CLEAN,
                start_new_session=True,
            )
        self._read_to = {self.out: 0, self.err: 0}

    @property
    def pid(self) -> int:
        return self._process.pid

    def until_ready(self) -> None:
        until(self._is_ready, f"see {self.err}", seconds=START_SECONDS)

    def _is_ready(self) -> bool:
        said = self.err.read_text()
        assert self._process.poll() is None, said
        return "ready:" in said

    def log_since_last(self) -> bytes:
        """Give what it wrote since this was last asked, on both streams."""
        new = b""
        for path, read_to in self._read_to.items():
            written = path.read_bytes()
            new += written[read_to:]
            self._read_to[path] = len(written)
        return new

    def events(self) -> list[dict[str, Any]]:
        """Give its log so far: every line of it is JSON."""
        return [json.loads(line) for line in self.out.read_bytes().splitlines()]

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        return self._process.wait(seconds)

    def stop(self) -> int:
        self.interrupt()
        return self.wait()

    def child(self, word: str) -> int:
        """Give the process id of the child whose command has this word."""
        return until(lambda: _child_of(self.pid, word), f"no child {word}")


@dataclass(frozen=True)
class Urls:
    """Where a gateway's listeners are."""

    public: str
    private: str
    ops: str


class Deployment:
    """The embedded deployment that all flow tests share."""

    def __init__(self, gateway: Gateway, folder: Path) -> None:
        self.gateway = gateway
        self.parts: EmbeddedParts = parts_of(folder)
        self.config: Config = load_config(folder / "panward.toml")
        self.processor = ProcessorControl(control_socket(self.parts))
        self.urls = Urls(
            *(
                f"https://127.0.0.1:{self.parts.ports[name]}"
                for name in ("public", "private", "ops")
            )
        )
        self.ca_file = self.parts.tls_ca_file
        self.processor_key = (folder / "secrets" / "sandbox.api-key").read_text().strip()

    @classmethod
    def started(cls, folder: Path) -> Self:
        gateway = Gateway(
            folder.with_name("written"), "--embedded", str(folder), "--unsafe-sandbox-remembers"
        )
        gateway.until_ready()
        return cls(gateway, folder)

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca_file))

    async def store(self) -> Store:
        """Connect to the database as the gateway does."""
        return await asyncpg.connect(self.parts.runtime_dsn)

    def decrypts(self) -> list[str]:
        """List the references of all card numbers and codes that OpenBao was asked to open."""
        asked = []
        with self.parts.vault_audit_log_file.open("rb") as lines:
            for line in lines:
                if b'"transit/decrypt/pan"' in line or b'"transit/decrypt/cvc"' in line:
                    record = json.loads(line)
                    if record["type"] == "request":
                        items = record["request"]["data"]["batch_input"]
                        asked += [item["reference"] for item in items]
        return asked

    def leak_in_the_logs(self) -> bytes | None:
        """Look through what the gateway and its children have written to logs."""
        layout = Layout(self.parts.folder)
        logs = [self.gateway.out, self.gateway.err, *layout.log.iterdir()]
        return next(filter(None, (first_leak(log.read_bytes()) for log in logs)), None)

    def leak_in_the_files(self) -> tuple[Path, bytes] | None:
        """Look through every file of the deployment: rows, WAL, raft, logs, spool."""
        for path in self.parts.folder.rglob("*"):
            if path.is_file():
                leak = first_leak(path.read_bytes())
                if leak is not None:
                    return path, leak
        return None

    # --- its children ------------------------------------------------------------------------

    @property
    def openbao(self) -> int:
        return self.gateway.child("server -config=")

    @property
    def postgres(self) -> int:
        return self.gateway.child("config_file=")

    @property
    def sandbox(self) -> int:
        return self.gateway.child("gateway.sandbox")

    @contextlib.contextmanager
    def frozen(self, pid: int) -> Iterator[None]:
        """Stop a process and all that it started: connections stay, and nobody answers."""
        os.kill(pid, signal.SIGSTOP)  # first: from now on it starts no other
        family = [pid, *_descendants(pid)]
        try:
            _signal_each(family, signal.SIGSTOP)
            yield
        finally:
            _signal_each(family, signal.SIGCONT)


@contextlib.asynccontextmanager
async def connected(
    deployment: Deployment, url: str
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to a listener, for what no HTTP client would do; hang up at the end."""
    port = urlsplit(url).port
    context = deployment.client_context()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()  # else the loop may end before the socket is closed


def said_by_panward(deployment: Deployment, *words: str) -> str:
    """Run a command on the deployment's configuration to its end, and give what it printed."""
    command = [*_PANWARD, *words, "--config", str(deployment.config.path)]
    done = subprocess.run(  # noqa: S603 - our own words
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=_CLEAN, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _signal_each(processes: list[int], number: signal.Signals) -> None:
    for one in processes:
        with contextlib.suppress(ProcessLookupError):  # a worker that has just ended
            os.kill(one, number)


def _processes() -> Iterator[tuple[int, int, str]]:
    """Give (process, parent, command) of all that run."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            stat = (folder / "stat").read_text()
            state, parent = stat.rpartition(")")[2].split()[:2]
            if state != "Z":
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                yield int(folder.name), int(parent), command


def _child_of(parent: int, word: str) -> int | None:
    for pid, above, command in _processes():
        if above == parent and word in command and "setpriv" not in command:
            return pid
    return None


def _descendants(pid: int) -> list[int]:
    children = [child for child, parent, _ in _processes() if parent == pid]
    return children + [below for child in children for below in _descendants(child)]
