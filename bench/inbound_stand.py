"""The test stand of inbound routes: a deployment in front of one endpoint, and two peers beside it.

The gateway has three routes to the same endpoint: one whose filters read forms, the same for a
form with a code, and one without filters, which passes everything as a stream and scans it.
"""

import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from bench.nginx_peer import NGINX, nginx
from bench.processes import python
from bench.stand import (
    CONFIG,
    PANWARD,
    START_SECONDS,
    UNLIMITED,
    Stand,
    free_ports,
    peer,
    until_listening,
)
from gateway.custody import utc_now
from gateway.embedded import (
    LISTENERS,
    OWN_INBOUND,
    Credentials,
    configuration,
    embedded_deployment,
)
from vault.embedded.bootstrap import EmbeddedParts, StartOptions
from vault.private_files import write_private

PEERS: Final = ("shop", "proxy", "nginx")
PORTS: Final = {"gateway": ("public", "private", "ops", "inbound")}  # of the others: as named
FORM_PATH: Final = "/form/pay"
CODE_PATH: Final = "/code/pay"
PLAIN_PATH: Final = "/orders"

_FILTER: Final = """\
[[inbound.filters]]
content_type = "application/x-www-form-urlencoded"
selector = "card_number"
exp_month = "card_month"
exp_year = "card_year"
"""


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Stand]:
    """Start everything in an empty folder, and end it afterwards. Raises StartRefused."""
    async with AsyncExitStack() as stack:
        deployment = await stack.enter_async_context(
            embedded_deployment(folder, at=utc_now(), options=StartOptions(listeners=LISTENERS))
        )
        ports = {**deployment.parts.ports, **free_ports(PEERS)}
        parts = replace(deployment.parts, ports=ports)
        children = {
            "postgres": deployment.children.postgres.child,
            "openbao": deployment.children.openbao.child,
        }
        credentials = msgspec.json.decode(
            (parts.folder / "credentials.json").read_bytes(), type=Credentials
        )
        write_settings(parts, credentials.tenant)
        for name, command in _commands(parts).items():
            child = peer(name, command, parts)
            child.start()
            stack.push_async_callback(child.stop)
            listening = until_listening([parts.ports[port] for port in PORTS.get(name, (name,))])
            await child.ready(listening, seconds=START_SECONDS, deaths_max=0)
            children[name] = child
        yield Stand(parts, credentials, children)


def write_settings(parts: EmbeddedParts, tenant: str) -> None:
    """Write the configuration of the gateway: no limit that a load from one address would meet."""
    own = parts.folder / OWN_INBOUND
    write_private(own, routes(parts, tenant).encode())
    route = 'preset = "stripe"\n'
    settings = configuration(parts, inbound_of=tenant, own_inbound=True)
    settings = settings.replace(route, route + UNLIMITED)
    assert own.read_text("utf-8") in settings, "the gateway would have other routes"
    limits = r"(?m)^((?:address|key)_(?:per_second|burst)) = .*"
    settings = re.sub(limits, r"\1 = 1_000_000", settings)
    write_private(parts.folder / CONFIG, settings.encode())


def routes(parts: EmbeddedParts, tenant: str) -> str:
    """Write the routes, all to the same endpoint."""

    def route(name: str, prefix: str, filters: str = "") -> str:
        return f"""\
[[inbound]]
name = "{name}"
tenant = "{tenant}"
hosts = ["127.0.0.1"]
path_prefix = "{prefix}"
upstream = "https://127.0.0.1:{parts.ports["shop"]}"
address_allow = ["127.0.0.1/32"]
ca_file = {msgspec.json.encode(str(parts.tls_ca_file)).decode()}
address_per_second = 1_000_000
address_burst = 1_000_000
{filters}
"""

    return (
        route("plain", "/")
        + route("form", "/form", _FILTER)
        + route("code", "/code", _FILTER + 'cvc = "card_code"\n')
    )


def _commands(parts: EmbeddedParts) -> Mapping[str, tuple[str, ...]]:
    """How each server is started; the gateway last."""
    ports = parts.ports
    pair = ("--cert", str(parts.tls_cert_file), "--key", str(parts.tls_key_file))
    upstream = ("--upstream-port", str(ports["shop"]), "--tls", str(parts.folder / "tls"))
    commands = {
        "shop": python("bench.shop", "--port", str(ports["shop"]), *pair),
        "proxy": python("bench.bare", "proxy", "--port", str(ports["proxy"]), *upstream),
    }
    if NGINX is not None:
        commands["nginx"] = nginx(
            ports["nginx"],
            ports["shop"],
            parts.folder / "nginx",
            certificate=parts.tls_cert_file,
            private_key=parts.tls_key_file,
            ca_file=parts.tls_ca_file,
        )
    gateway = (sys.executable, "-c", PANWARD, "up", "--config", str(parts.folder / CONFIG))
    return {**commands, "gateway": gateway}
