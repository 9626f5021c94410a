"""A second gateway on the same database and the same OpenBao, with routes that fail.

It is what a second replica is, started with `--config`; its routes besides `stripe`:
- `quick`: the simulated processor, on which this merchant waits for a second only
- `once`: the simulated processor, by a preset that declares no replay
- `own`: the simulated processor, with the merchant's own processor key
- `refused`: a port where nobody listens
- `silent`: a port that accepts and says nothing
- `stranger`: a port for a server that a test starts, whose certificate may be anybody's
"""

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from tests.flows.deployment import Deployment, Gateway, Urls
from tests.flows.merchant import ROUTES

QUICK_SECONDS = 1.0


@dataclass(frozen=True)
class Replica:
    """The second gateway, and the port of the route `stranger`."""

    gateway: Gateway
    urls: Urls
    stranger_port: int


@contextmanager
def running_replica(
    deployment: Deployment,
    name: str = "replica",
    *,
    change: Callable[[str], str] = lambda text: text,
) -> Iterator[Replica]:
    """Start it, with a folder of state of its own; stop it at the end, if nobody has.

    `change` makes of the usual configuration another one.
    """
    folder = deployment.parts.folder
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ports = free_ports(6)
        stranger, refused = ports[4:]
        hosts = {"refused": refused, "silent": silent.getsockname()[1], "stranger": stranger}
        write_presets(folder)
        file = folder / f"{name}.toml"
        file.write_text(change(configuration(deployment, name, ports[:4], hosts)))
        gateway = Gateway(deployment.gateway.out.parent / name, "--config", str(file))
        urls = Urls(*(f"https://127.0.0.1:{port}" for port in ports[:3]))
        try:
            gateway.until_ready()
            yield Replica(gateway, urls, stranger)
        finally:
            assert gateway.stop() == 0, gateway.err.read_text()


def free_ports(count: int) -> list[int]:
    """Find ports that nobody uses; all are held while the last is found."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


def write_presets(folder: Path) -> None:
    """Write Stripe's preset twice, with what tells the routes apart."""
    text = (files("gateway.processors") / "stripe.toml").read_text()
    once = re.sub("replay_seconds = .*", "replay_seconds = 0", text)
    assert text != once
    (folder / "quick.toml").write_text(quick_preset("stripe"))
    (folder / "once.toml").write_text(once)


def quick_preset(name: str) -> str:
    """Give a preset by which a call waits for a second only."""
    text = (files("gateway.processors") / f"{name}.toml").read_text()
    quick = re.sub("timeout_seconds = .*", f"timeout_seconds = {QUICK_SECONDS}", text)
    quick = re.sub("(connect|tls)_seconds = .*", r"\1_seconds = 0.5", quick)
    assert text != quick
    return quick


def configuration(
    deployment: Deployment, name: str, ports: list[int], hosts: dict[str, int]
) -> str:
    sandbox = deployment.parts.ports["sandbox"]
    presets = dict.fromkeys(ROUTES, "quick.toml") | {"stripe": "stripe", "once": "once.toml"}
    presets["own"] = "stripe"
    routes = [
        f"""[[routes]]
name = "{route}"
preset = "{preset}"
host = "127.0.0.1:{hosts.get(route, sandbox)}"
address_allow = ["127.0.0.1/32"]
credential = "{"own" if route == "own" else "injected"}"
ca_file = "{deployment.ca_file}"
connect_names = {["api.stripe.com"] if route == "stripe" else []}

"""
        for route, preset in presets.items()
    ]
    return with_routes(deployment, name, ports, "".join(routes))


def with_routes(deployment: Deployment, name: str, ports: list[int], routes: str) -> str:
    """Write the deployment's configuration, with ports, routes and a folder of state of its own."""
    text = deployment.config.path.read_text()
    for listener, port in zip(("public", "private", "ops", "connect"), ports, strict=True):
        text = re.sub(
            rf"(\[listeners.{listener}\].*\nhost = .*\nport = )\d+", rf"\g<1>{port}", text
        )
    text = re.sub(r"\[listeners\.inbound\]\n(?:[a-z_]+ = .*\n)+", "", text)
    text = text.replace('state_folder = "gateway"', f'state_folder = "{name}"')
    before, _, rest = text.partition("[[routes]]")
    _, _, after = rest.partition("[embedded]")
    return f"{before}{routes}[embedded]{after}"
