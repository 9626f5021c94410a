"""A gateway whose routes lead to where things go wrong: for tests of the way out, end to end.

It stands on the deployment's database and OpenBao. Its routes lead to the simulated processors or
to `Egress.port`, where nobody listens until a test starts a server. Each can be called by base URL
and through the CONNECT listener: a `Way` is one of the two, in a merchant's hands.
"""

import asyncio
import base64
import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Final, Literal

import aiohttp
import trustme

from gateway import preset as presets
from gateway.config import vault_access
from gateway.embedded import credentials_access, processor_secrets
from gateway.preset import Preset
from gateway.upstream_tls import spki_pin
from tests.flows.deployment import Deployment, Gateway, Urls, eventually
from tests.flows.merchant import EVERYTHING, FORM, Account, Merchant, new_account, new_key
from tests.flows.replica import free_ports, with_routes
from tests.flows.wire import Reply, Wire
from tests.gateway.raw_servers import context_of
from tests.gateway.tls_authority import DAY, NOW, Authority, der_of, serial_of
from vault.api_keys import route_scope
from vault.authority import public_authority
from vault.observer import Silent
from vault.transit import Transit

HOST: Final = "localhost"
PROXIED_HOST: Final = "api.processor.test"
PROXY_LOGIN: Final = "panward:open sesame"
HASTY_SECONDS: Final = 0.4
PATIENT_SECONDS: Final = 4.0
"""An answer that comes at once is heard by then, also on a busy machine: what is not is silence."""
SHAPED: Final = tuple(name for name in presets.names() if name != "cybersource")
"""CyberSource's calls have to be signed."""
TLS_TROUBLES: Final = (
    "expired",
    "wrong_name",
    "self_signed",
    "unknown_ca",
    "tls_1_1",
    "revoked",
    "bad_pin",
    "wants_certificate",
)


@dataclass(frozen=True)
class Lead:
    """Where one route leads, and what its section of the configuration says besides."""

    preset: str = "stripe"
    to_sandbox: bool = False
    lines: tuple[str, ...] = ()
    credential: Literal["injected", "own"] = "injected"


_SLOW: Final = ("rate_per_second = 0.4", "rate_burst = 3")

LEADS: Final[Mapping[str, Lead]] = {
    **{f"tls_{trouble}": Lead() for trouble in TLS_TROUBLES},
    "tls_revoked": Lead(lines=('crl_file = "revoked.pem"',)),
    "tls_bad_pin": Lead(lines=(f'spki_pins = ["{base64.b64encode(bytes(32)).decode()}"]',)),
    "vouched": Lead(lines=('crl_file = "revoked.pem"', 'spki_pins = ["PIN"]')),
    "mutual": Lead(lines=("client_certificate = true",)),
    "proxied": Lead("proxied.toml"),
    "raw": Lead(),
    "raw_own": Lead(credential="own"),
    "raw_braintree": Lead("braintree"),
    "raw_authorize_net": Lead("authorize_net"),
    "hasty": Lead("hasty.toml"),
    "hasty_authorize_net": Lead("hasty_authorize_net.toml", credential="own"),
    "hasty_worldpay_wpg": Lead("hasty_worldpay_wpg.toml", credential="own"),
    "chaos": Lead("patient.toml"),
    "chaos_once": Lead("patient_once.toml"),
    "broken": Lead(),
    "broken_in_tunnel": Lead(),
    "broken_later": Lead(),
    "rated": Lead(to_sandbox=True, lines=_SLOW),
    "rated_in_tunnel": Lead(to_sandbox=True, lines=_SLOW),
    "crowded": Lead(to_sandbox=True, lines=("tenant_concurrency = 2",)),
    "not_set": Lead(to_sandbox=True),
    **{
        name: Lead(name, to_sandbox=True)
        for name in ("stripe", "adyen", "braintree", "authorize_net", "checkout_com")
    },
    **{f"shape_{name}": Lead(name, credential="own") for name in SHAPED},
    **{f"down_{name}": Lead(name, credential="own") for name in SHAPED},
}
"""By route. One that a breaker stops, or whose limits are used up, belongs to one test alone."""


@dataclass(frozen=True)
class Egress:
    """The running gateway, where its raw routes lead, and who vouches for servers there."""

    gateway: Gateway
    urls: Urls
    connect_port: int
    port: int
    proxy_port: int
    processors: trustme.CA
    good: trustme.LeafCert = field(repr=False)
    revoked: trustme.LeafCert = field(repr=False)
    roots: str = field(repr=False)
    """What clients of the proxy have to trust."""

    @property
    def context(self) -> ssl.SSLContext:
        """TLS of a server that the routes trust."""
        return context_of(self.good)


@contextmanager
def running_egress(deployment: Deployment) -> Iterator[Egress]:
    """Start it; stop it at the end."""
    folder, name = deployment.parts.folder, "egress"
    with _held_port() as port, _held_port() as proxy_port:
        processors = trustme.CA()
        authority = Authority.of(processors)
        good, revoked = authority.leaf(name=HOST), authority.leaf(name=HOST)
        processors.cert_pem.write_to_path(str(folder / "processors.pem"))
        crl = authority.revoking(serial_of(revoked), until=NOW + DAY)
        (folder / "revoked.pem").write_bytes(crl)
        (folder / "proxy.login").write_text(PROXY_LOGIN)
        _write_presets(folder)
        ports = free_ports(4)
        routes = _routes(deployment, port, proxy_port, spki_pin(der_of(good)))
        file = folder / f"{name}.toml"
        file.write_text(with_routes(deployment, name, ports, routes))
        gateway = Gateway(deployment.gateway.out.parent / name, "--config", str(file))
        urls = Urls(*(f"https://127.0.0.1:{each}" for each in ports[:3]))
        try:
            gateway.until_ready()
            roots = asyncio.run(_roots(deployment))
            yield Egress(
                gateway, urls, ports[3], port, proxy_port, processors, good, revoked, roots
            )
        finally:
            assert gateway.stop() == 0, gateway.err.read_text()


@contextmanager
def _held_port() -> Iterator[int]:
    """Keep a port from everybody but a server that may take a used address; nobody listens."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def _write_presets(folder: Path) -> None:
    """Write presets with what tells the routes apart: patience, replays, another host."""

    def text_of(name: str) -> str:
        return (files("gateway.processors") / f"{name}.toml").read_text()

    def hasty(text: str, seconds: float = HASTY_SECONDS) -> str:
        text = re.sub("timeout_seconds = .*", f"timeout_seconds = {seconds}", text)
        return re.sub("connect_seconds = .*", f"connect_seconds = {seconds}", text)

    def no_replay(text: str) -> str:
        return text.replace("replay_seconds = 86_400", "replay_seconds = 0")

    stripe = text_of("stripe")
    written = {
        "proxied": stripe.replace("test = []", f'test = ["{PROXIED_HOST}"]'),
        "hasty": hasty(stripe),
        "patient": hasty(stripe, PATIENT_SECONDS),
        "patient_once": no_replay(hasty(stripe, PATIENT_SECONDS)),
        "hasty_authorize_net": hasty(text_of("authorize_net")),
        "hasty_worldpay_wpg": hasty(text_of("worldpay_wpg")),
    }
    for name, text in written.items():
        (folder / f"{name}.toml").write_text(text)


def _routes(deployment: Deployment, port: int, proxy_port: int, pin: bytes) -> str:
    sandbox = deployment.parts.ports["sandbox"]

    def section(route: str, lead: Lead) -> str:
        host = f"127.0.0.1:{sandbox}" if lead.to_sandbox else f"{HOST}:{port}"
        lines = lead.lines
        if route == "proxied":
            host = PROXIED_HOST
            lines = (
                f'egress_proxy = "{HOST}:{proxy_port}"',
                'egress_proxy_login_file = "proxy.login"',
            )
        ca_file = deployment.ca_file if lead.to_sandbox else "processors.pem"
        return "\n".join(
            (
                "[[routes]]",
                f'name = "{route}"',
                f'preset = "{lead.preset}"',
                f'host = "{host}"',
                'address_allow = ["127.0.0.1/32"]',
                f'credential = "{lead.credential}"',
                f'ca_file = "{ca_file}"',
                f'connect_names = ["{name_of(route)}"]',
                *(line.replace("PIN", base64.b64encode(pin).decode()) for line in lines),
                "\n",
            )
        )

    return "".join(section(route, lead) for route, lead in LEADS.items())


def name_of(route: str) -> str:
    """By which name a route is asked for through the proxy."""
    return f"{route.replace('_', '-')}.test"


# --- a merchant ---------------------------------------------------------------------------


async def new_egress_account(deployment: Deployment) -> Account:
    """Add a tenant with a key for all routes, and its processors' keys but for `not_set`."""
    account = await new_account(deployment, routes=())
    scopes = EVERYTHING | {route_scope(route) for route in LEADS}
    key = await new_key(deployment, account.tenant, *scopes)
    known = dict(processor_secrets(deployment.processor_key))
    data = {
        route: known.get(lead.preset, known["stripe"])
        for route, lead in LEADS.items()
        if route not in ("not_set", "mutual") and lead.credential == "injected"
    }
    await write_secrets(deployment, account.tenant, data)
    return Account(account.tenant, account.publishable_key, key)


async def write_secrets(
    deployment: Deployment, tenant: str, data: Mapping[str, Mapping[str, str]]
) -> None:
    """Put a tenant's processor keys into OpenBao, by route."""
    transit = Transit(credentials_access(deployment.config), observer=Silent())
    try:
        await transit.start()
        for route, values in data.items():
            path = f"processor/{tenant}/{route}"
            version = await transit.secret_version(path)
            assert await transit.write_secret(path, dict(values), cas=version) is not None
    finally:
        await transit.close()


async def _roots(deployment: Deployment) -> str:
    config = deployment.config
    async with public_authority(vault_access(config, config.vault.tokenize)) as authority:
        roots = await authority.roots(at=datetime.now(UTC))
    return b"".join(root.certificate for root in roots).decode()


WayKind = Literal["base_url", "tunnel"]


@dataclass(frozen=True)
class Way:
    """How a merchant's SDK is pointed at the gateway, with the merchant's key."""

    kind: WayKind
    egress: Egress
    key: str = field(repr=False)
    wire: Wire

    async def __call__(
        self,
        route: str,
        path: str,
        body: bytes | None = None,
        *,
        verb: str = "POST",
        content_type: str = FORM,
        headers: Sequence[tuple[str, str]] = (),
    ) -> Reply:
        """Call a route's processor, as its SDK would."""
        base = f"{self.egress.urls.private}/out/{route}"
        url = f"{base if self.kind == 'base_url' else f'https://{name_of(route)}'}{path}"
        sent = [*self._login(LEADS[route]), *headers]
        if body is not None:
            sent.append(("Content-Type", content_type))
        return await self.wire(verb, url, body, headers=sent)

    def _login(self, lead: Lead) -> list[tuple[str, str]]:
        preset = _preset_of(lead)
        place = preset.credential.presented[0] if preset.credential.presented else "bearer"
        if lead.credential == "own":
            own = [("Panward-Key", self.key)] if self.kind == "base_url" else []
            return [("Authorization", "Bearer the-merchants-own"), *own]
        # In a tunnel it is the CONNECT that says who calls: what stands here is not looked at.
        key = self.key if self.kind == "base_url" else "whatever_the_sdk_has"
        if place == "basic_password":
            text = base64.b64encode(f"user:{key}".encode()).decode()
            return [("Authorization", f"Basic {text}")]
        if place == "header":
            return [(preset.credential.header or "", key)]
        return [] if place == "body" else [("Authorization", f"Bearer {key}")]


def _preset_of(lead: Lead) -> Preset:
    name = lead.preset.removesuffix(".toml")
    return presets.load(name if name in presets.names() else "stripe")


@asynccontextmanager
async def way_of(
    kind: WayKind, deployment: Deployment, egress: Egress, key: str
) -> AsyncIterator[Way]:
    """Open a client's connections of one kind."""
    proxy, context = None, deployment.client_context()
    if kind == "tunnel":
        proxy = f"http://{key}:@127.0.0.1:{egress.connect_port}"
        context = ssl.create_default_context(cadata=egress.roots)
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, proxy=proxy) as session:
        yield Way(kind, egress, key, Wire(session))


# --- what it says of itself ---------------------------------------------------------------


async def metric(at: Merchant, line: str) -> float:
    """Give the value of one series, named as the text format writes it; 0 before it is there."""
    text = (await at.wire("GET", f"{at.urls.ops}/metrics")).body.decode()
    values = re.findall(rf"^{re.escape(line)} (\S+)$", text, re.MULTILINE)
    return float(values[0]) if values else 0.0


async def until_metric(at: Merchant, line: str, least: float) -> None:
    """Wait until a series is as high: what is shown may be a second old."""

    async def there() -> bool:
        return await metric(at, line) >= least

    await eventually(there, line)
