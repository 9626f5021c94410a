"""The test stand: a deployment of its own in a folder of its own, and the peers beside it.

Each server is a process; all of them end with this one. The gateway is started with
`panward up --config`, as an operator would; its one route goes to the processor that takes no
time.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Final

import msgspec

from bench.figures import Totals, Usage
from bench.gateway_clock import read_totals
from bench.processes import ROOT, Failed, python, usage_of
from gateway.custody import utc_now
from gateway.embedded import LISTENERS, Credentials, configuration, embedded_deployment
from vault.embedded.bootstrap import EmbeddedParts, StartOptions
from vault.embedded.children import Child, Program
from vault.embedded.layout import write_private

SERVERS: Final = ("processor", "json", "proxy", "naive")
PORTS: Final = {"gateway": ("public", "private", "ops")}  # of the others: as they are named
START_SECONDS: Final = 30.0
CONFIG: Final = "bench.toml"
PANWARD: Final = "from gateway.cli import main; main()"


@dataclass(frozen=True, slots=True)
class Stand:
    """Where everything answers, and as whom it is asked."""

    parts: EmbeddedParts
    credentials: Credentials
    children: Mapping[str, Child]

    @property
    def folder(self) -> Path:
        return self.parts.folder

    def url(self, server: str) -> str:
        return f"https://127.0.0.1:{self.parts.ports[server]}"

    def usage(self) -> dict[str, Usage]:
        """What each process has used up by now."""
        found = {}
        for name, child in self.children.items():
            if child.pid is None or child.restarts:
                raise Failed(f"{name} has died: see {child.program.log_file}")
            found[name] = usage_of(child.pid)
        return found

    async def totals(self) -> Totals:
        return await read_totals(self.credentials.ops_url, self.credentials.ca_file)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Stand]:
    """Start everything in an empty folder, and end it afterwards. Raises StartRefused."""
    options = StartOptions(listeners=(*LISTENERS, *SERVERS))
    async with AsyncExitStack() as stack:
        deployment = await stack.enter_async_context(
            embedded_deployment(folder, at=utc_now(), options=options)
        )
        parts = deployment.parts
        children = {
            "postgres": deployment.children.postgres.child,
            "openbao": deployment.children.openbao.child,
        }
        for name, command in _commands(parts).items():
            child = _child(name, command, parts)
            child.start()
            stack.push_async_callback(child.stop)
            ports = [parts.ports[port] for port in PORTS.get(name, (name,))]
            await child.ready(_listening(ports), seconds=START_SECONDS, deaths_max=0)
            children[name] = child
        credentials = msgspec.json.decode(
            (parts.folder / "credentials.json").read_bytes(), type=Credentials
        )
        yield Stand(parts, credentials, children)


def _commands(parts: EmbeddedParts) -> Mapping[str, tuple[str, ...]]:
    """How each server is started; the gateway last, when the processor answers."""
    ports = parts.ports
    # The route of an embedded deployment goes to its simulator: here to the processor of the bench.
    ours = replace(parts, ports={**ports, "sandbox": ports["processor"]})
    write_private(parts.folder / CONFIG, configuration(ours).encode())
    tls = ("--tls", str(parts.folder / "tls"))
    pair = ("--cert", str(parts.tls_cert_file), "--key", str(parts.tls_key_file))

    def on(server: str) -> tuple[str, str]:
        return "--port", str(ports[server])

    upstream = ("--upstream-port", str(ports["processor"]))
    return {
        "processor": python("bench.processor", *on("processor"), *pair),
        "json": python("bench.bare", "json", *on("json"), *tls),
        "proxy": python("bench.bare", "proxy", *on("proxy"), *tls, *upstream),
        "naive": python("bench.naive", "--folder", str(parts.folder), *on("naive")),
        "gateway": (sys.executable, "-c", PANWARD, "up", "--config", str(parts.folder / CONFIG)),
    }


def _child(name: str, command: tuple[str, ...], parts: EmbeddedParts) -> Child:
    return Child(
        Program(
            name=name,
            command=command,
            log_file=parts.folder / "log" / f"{name}.log",
            on_parent_death=SIGKILL,
            stop=((SIGTERM, 5.0), (SIGKILL, 5.0)),
            folder=ROOT,
        ),
        given_up=lambda _name: None,
    )


def _listening(ports: Sequence[int]) -> Callable[[int], Awaitable[bool]]:
    async def answers(_pid: int) -> bool:
        for port in ports:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return False
            writer.close()
        return True

    return answers
