"""A third gateway on the same database and OpenBao, with what the official SDKs need besides.

Its routes, for each simulated processor P:
- `P`: as in the embedded deployment, where the tunnels to it end
- `P_quick`: the same, on which this merchant waits for a second only
- `P_pair`: a port for a processor with two accounts, which a test runs itself
- `P_own`: that one, with the merchant's own processor key; tunnels to P's names end here
and `localstripe`. Braintree's have a port each, since its SDK takes no path. The private listener
and those ports take client certificates.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.embedded import ROUTES as NAMES
from tests.flows.deployment import Deployment, Gateway, Urls
from tests.flows.replica import free_ports, quick_preset, with_routes

PROCESSORS: Final = tuple(NAMES)
KINDS: Final = ("", "_quick", "_pair", "_own")
LOCALSTRIPE: Final = "localstripe"
ROUTES: Final = (*(name + kind for name in PROCESSORS for kind in KINDS), LOCALSTRIPE)
OF_ROUTE: Final = tuple(f"braintree{kind}" for kind in KINDS)

CHECKOUT_PREFIX: Final = "panwardtest"
"""A merchant's own host, as Checkout.com gives each merchant one."""
PREFIXED: Final = f"{CHECKOUT_PREFIX}.api.sandbox.checkout.com"
LOCALSTRIPE_NAME: Final = "localstripe.panward.test"


@dataclass(frozen=True)
class SdkGateway:
    """That gateway: `roots` are the ports' addresses by route."""

    gateway: Gateway
    urls: Urls
    connect_port: int
    roots: dict[str, str]
    pair_port: int


@dataclass(frozen=True)
class Neighbor:
    """A processor that is none of ours: its port on loopback, and the authority of its TLS."""

    port: int
    ca_file: Path


@contextmanager
def running_sdk_gateway(
    deployment: Deployment, localstripe: Neighbor, client_ca_file: Path
) -> Iterator[SdkGateway]:
    """Start it; stop it at the end."""
    name, folder = "sdks", deployment.parts.folder
    ports = free_ports(5 + len(OF_ROUTE))
    own, pair, roots = ports[:4], ports[4], dict(zip(OF_ROUTE, ports[5:], strict=True))
    for processor in PROCESSORS:
        (folder / f"quick_{processor}.toml").write_text(quick_preset(processor))
    routes = _of_routes(deployment, roots, client_ca_file)
    routes += "".join(_routes(deployment, pair))
    routes += _route(LOCALSTRIPE, "stripe", localstripe.port, localstripe.ca_file, LOCALSTRIPE_NAME)
    text = with_routes(deployment, name, own, routes)
    before, _, after = text.partition("[listeners.private]\n")
    file = folder / f"{name}.toml"
    file.write_text(f'{before}[listeners.private]\nclient_ca_file = "{client_ca_file}"\n{after}')
    gateway = Gateway(deployment.gateway.out.parent / name, "--config", str(file))
    urls = Urls(*(f"https://127.0.0.1:{port}" for port in own[:3]))
    try:
        gateway.until_ready()
        at = {route: f"https://127.0.0.1:{port}" for route, port in roots.items()}
        yield SdkGateway(gateway, urls, own[3], at, pair)
    finally:
        assert gateway.stop() == 0, gateway.err.read_text()


def _of_routes(deployment: Deployment, ports: dict[str, int], client_ca_file: Path) -> str:
    private = deployment.config.listeners.private
    return "".join(
        f"""
[listeners.of_route.{route}]
port = {port}
certificate_file = "{private.certificate_file}"
private_key_file = "{private.private_key_file}"
client_ca_file = "{client_ca_file}"
"""
        for route, port in ports.items()
    )


def _routes(deployment: Deployment, pair_port: int) -> Iterator[str]:
    sandbox, ca_file = deployment.parts.ports["sandbox"], deployment.ca_file
    for name in PROCESSORS:
        yield _route(name, name, sandbox, ca_file)
        yield _route(f"{name}_quick", f"quick_{name}.toml", sandbox, ca_file)
        names = (*NAMES[name], PREFIXED) if name == "checkout_com" else NAMES[name]
        yield _route(f"{name}_own", name, pair_port, ca_file, *names, credential="own")
        yield _route(f"{name}_pair", name, pair_port, ca_file)


def _route(  # a table of the configuration
    name: str, preset: str, port: int, ca_file: Path, *names: str, credential: str = "injected"
) -> str:
    return f"""
[[routes]]
name = "{name}"
preset = "{preset}"
host = "127.0.0.1:{port}"
address_allow = ["127.0.0.1/32"]
credential = "{credential}"
ca_file = "{ca_file}"
connect_names = {list(names)}
"""
