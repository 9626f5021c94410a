"""The test stand: a deployment of its own in a folder of its own, and the peers beside it.

Each server is a process; all of them end with this one. The gateway is started with
`panward up --config`, as an operator would; its one route goes to the processor that takes no
time.
"""

import asyncio
import re
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Final

import msgspec

from bench.figures import Totals, Usage
from bench.gateway_clock import read_totals
from bench.mitmproxy_peer import MITMDUMP, mitmdump
from bench.processes import ROOT, Failed, python, usage_of
from gateway.config import load_config, vault_access
from gateway.custody import utc_now
from gateway.embedded import LISTENERS, ROUTES, Credentials, configuration, embedded_deployment
from vault.authority import public_authority
from vault.embedded.bootstrap import EmbeddedParts, StartOptions
from vault.embedded.children import Child, Program
from vault.private_files import write_private

PEERS: Final = ("processor", "json", "proxy", "tunnel", "naive", "mitmproxy")
PORTS: Final = {"gateway": ("public", "private", "ops", "connect")}  # of the others: as named
FIRST_PORT, PORTS_COUNT = 20_000, 12_000  # below those that the kernel gives to clients
START_SECONDS: Final = 30.0
CONFIG: Final = "bench.toml"
CONNECT_CA: Final = "connect-ca.pem"
CONNECT_NAME: Final = ROUTES["stripe"][0]
UNLIMITED: Final = "rate_per_second = 1_000_000\nrate_burst = 1_000_000\n"
"""Of the tenant that makes all of the load."""
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

    @property
    def ports(self) -> Mapping[str, int]:
        return self.parts.ports

    @property
    def connect_ca_file(self) -> Path:
        """What a client in a tunnel of ours has to trust."""
        return self.folder / CONNECT_CA

    def url(self, server: str) -> str:
        return f"https://127.0.0.1:{self.ports[server]}"

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
    options = StartOptions(listeners=LISTENERS)
    async with AsyncExitStack() as stack:
        deployment = await stack.enter_async_context(
            embedded_deployment(folder, at=utc_now(), options=options)
        )
        ports = {**deployment.parts.ports, **free_ports(PEERS)}
        parts = replace(deployment.parts, ports=ports)
        children = {
            "postgres": deployment.children.postgres.child,
            "openbao": deployment.children.openbao.child,
        }
        for name, command in _commands(parts).items():
            child = peer(name, command, parts)
            child.start()
            stack.push_async_callback(child.stop)
            listening = until_listening([parts.ports[port] for port in PORTS.get(name, (name,))])
            await child.ready(listening, seconds=START_SECONDS, deaths_max=0)
            children[name] = child
        credentials = msgspec.json.decode(
            (parts.folder / "credentials.json").read_bytes(), type=Credentials
        )
        stand = Stand(parts, credentials, children)
        await _keep_authority(stand)
        yield stand


def _commands(parts: EmbeddedParts) -> Mapping[str, tuple[str, ...]]:
    """How each server is started; the gateway last, when the processor answers."""
    ports = parts.ports
    # The route of an embedded deployment goes to its simulator: here to the processor of the bench.
    ours = replace(parts, ports={**ports, "sandbox": ports["processor"]})
    route = 'preset = "stripe"\n'
    settings = configuration(ours).replace(route, route + UNLIMITED)
    limits = r"(?m)^((?:address|key)_(?:per_second|burst)) = .*"
    settings = re.sub(limits, r"\1 = 1_000_000", settings)
    # Processors have more addresses than the load.
    settings = re.sub(r"(connections_per_address_max) = \d+", r"\1 = 1_000_000", settings)
    write_private(parts.folder / CONFIG, settings.encode())
    tls = ("--tls", str(parts.folder / "tls"))
    pair = ("--cert", str(parts.tls_cert_file), "--key", str(parts.tls_key_file))

    def on(server: str) -> tuple[str, str]:
        return "--port", str(ports[server])

    upstream = ("--upstream-port", str(ports["processor"]))
    peers = {
        "processor": python("bench.processor", *on("processor"), *pair),
        "json": python("bench.bare", "json", *on("json"), *tls),
        "proxy": python("bench.bare", "proxy", *on("proxy"), *tls, *upstream),
        "tunnel": python("bench.bare_tunnel", *on("tunnel"), *upstream),
        "naive": python("bench.naive", "--folder", str(parts.folder), *on("naive")),
    }
    if MITMDUMP.exists():
        peers["mitmproxy"] = mitmdump(ports["mitmproxy"], ports["processor"], parts)
    gateway = (sys.executable, "-c", PANWARD, "up", "--config", str(parts.folder / CONFIG))
    return {**peers, "gateway": gateway}


def peer(name: str, command: tuple[str, ...], parts: EmbeddedParts) -> Child:
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


async def _keep_authority(stand: Stand) -> None:
    """Write down the authority of the CONNECT listener, which is public."""
    config = load_config(stand.folder / CONFIG)
    async with public_authority(vault_access(config, config.vault.reveal)) as authority:
        roots = await authority.roots(at=datetime.now(UTC))
    stand.connect_ca_file.write_bytes(b"".join(root.certificate for root in roots))


def free_ports(names: Sequence[str]) -> dict[str, int]:
    """Find a port for each of the peers; those of the deployment are taken by now."""
    found: dict[str, int] = {}
    with ExitStack() as held:
        while len(found) < len(names):
            port = FIRST_PORT + secrets.randbelow(PORTS_COUNT)
            probe = held.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found[names[len(found)]] = port
    return found


def until_listening(ports: Sequence[int]) -> Callable[[int], Awaitable[bool]]:
    async def answers(_pid: int) -> bool:
        for port in ports:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return False
            writer.close()
        return True

    return answers
