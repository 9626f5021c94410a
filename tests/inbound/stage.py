"""A gateway whose inbound routes lead to one application, which keeps all that arrives.

Routes of `shop.test`, by their prefix: `/` has no filters, passes WebSockets and events, and only
reports; `/form` has filters on forms, JSON, multipart and XML and refuses what is undeclared;
`/tokenize`, `/mask` and `/refuse` treat undeclared cards so, and `/fields` tokenizes those in
fields and rows; `/files` treats rows; `/replies` has filters on answers; `/own` goes to the
endpoint under its own name; `/hasty` waits half a second; behind `/down` nobody listens.
`posts.test` has a certificate of its own and takes POST only.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trustme

from tests.flows.deployment import Deployment, Gateway, Urls
from tests.flows.merchant import Account
from tests.flows.replica import free_ports, with_routes
from tests.inbound.merchant_app import MerchantApp, running_merchant
from tests.inbound.shop_stage import HOSTNAMES, shop_routes

HOSTNAME: Final = "shop.test"
POSTS: Final = "posts.test"
BODY_BYTES_MAX: Final = 256 * 1024
Pair = tuple[Path, Path]
CSV: Final = "text/csv"
NDJSON: Final = "application/x-ndjson"

_TYPES: Final = (
    "application/x-www-form-urlencoded",
    "application/json",
    "multipart/form-data",
)
_TIED: Final = 'exp_month = "exp_month"\nexp_year = "exp_year"\ncvc = "cvc"\n'
_FORMS: Final = "".join(
    f'[[inbound.filters]]\ncontent_type = "{type_}"\nselector = "number"\n{_TIED}\n'
    for type_ in _TYPES
)
_XML: Final = (
    '[[inbound.filters]]\ncontent_type = "application/xml"\nselector = "order.card.number"\n'
    'exp_month = "order.card.month"\nexp_year = "order.card.year"\ncvc = "order.card.@cvc"\n'
)
_HEADER: Final = '[[inbound.filters]]\nselector = "header:X-Card-Number"\n'
_QUERY: Final = '[[inbound.filters]]\nselector = "url:card"\n'
_ROWS: Final = (
    f'[[inbound.filters]]\ncontent_type = "{CSV}"\nselector = "pan[*]"\nexpiry = "exp[*]"\n'
    f'cvc = "cvc[*]"\n[[inbound.filters]]\ncontent_type = "{NDJSON}"\n'
    'selector = "[*].card.number"\nexp_month = "[*].card.month"\nexp_year = "[*].card.year"\n'
)
_COLUMNS: Final = (
    '[[inbound.filters]]\ncontent_type = "text/plain"\nselector = "pan[*]"\nformat = "pan_like"\n'
)
_ANSWERS: Final = (
    '[[inbound.filters]]\nphase = "response"\noperation = "reveal-masked"\n'
    'selector = "card.token"\n[[inbound.filters]]\nphase = "response"\n'
    'operation = "remove"\nselector = "card.secret"\n[[inbound.filters]]\n'
    'phase = "response"\noperation = "mask"\nselector = "card.number"\n'
)


@dataclass(frozen=True)
class InboundStage:
    """A running gateway, and the application behind its routes."""

    deployment: Deployment
    gateway: Gateway
    urls: Urls
    account: Account
    merchant: MerchantApp
    port: int
    ca_file: Path
    shop_ports: Mapping[str, int]
    """Where routes to shops lead, by their names."""
    host: str = "127.0.0.1"
    hostname: str = HOSTNAME


def routes(tenant: str, port: int, pairs: Mapping[str, Pair], nobodys_port: int) -> str:
    """Write the routes; `port` is the application's, which speaks plain HTTP."""

    def route(
        name: str,
        prefix: str,
        *settings: str,
        host_header: str = "client",
        host: str = HOSTNAME,
        seconds: float = 5,
        port: int = port,
    ) -> str:
        lines = "\n".join(settings)
        return f"""
[[inbound]]
name = "{name}"
tenant = "{tenant}"
hosts = ["{host}"]
path_prefix = "{prefix}"
upstream = "http://127.0.0.1:{port}"
address_allow = ["127.0.0.1/32"]
certificate_file = "{pairs[host][0]}"
private_key_file = "{pairs[host][1]}"
host_header = "{host_header}"
address_per_second = 100000
address_burst = 100000
body_bytes_max = {BODY_BYTES_MAX}
timeout_seconds = {seconds}
{lines}
"""

    fixed = "fixed_width = { pan = [0, 19], name = [19, 40] }"
    declared = (_FORMS, _XML)
    return "".join(
        (
            route("plain", "/", "websocket = true", "server_sent_events = true"),
            route("form", "/form", 'undeclared = "refuse"', *declared, _HEADER, _QUERY),
            *(
                route(policy, f"/{policy}", f'undeclared = "{policy}"', "websocket = true")
                for policy in ("tokenize", "mask", "refuse")
            ),
            route("fields", "/fields", 'undeclared = "tokenize"', *declared, _ROWS),
            route("files", "/files", fixed, _ROWS, _COLUMNS),
            route("replies", "/replies", _ANSWERS),
            route("own", "/own", host_header="upstream"),
            route("hasty", "/hasty", seconds=0.5),
            route("down", "/down", port=nobodys_port),
            route("posts", "/", 'methods = ["POST"]', host=POSTS),
        )
    )


@contextmanager
def running_inbound(
    deployment: Deployment, account: Account, folder: Path, name: str = "inbound"
) -> Iterator[InboundStage]:
    """Start a gateway of its own on the deployment, with these routes."""
    pairs = _certificates(folder)
    with running_merchant() as merchant:
        ports = free_ports(6 + len(HOSTNAMES))
        shop_ports = dict(zip(HOSTNAMES, ports[6:], strict=True))
        lead = routes(account.tenant, merchant.port, pairs, ports[5])
        lead += shop_routes(account.tenant, shop_ports, pairs[HOSTNAME])
        file = deployment.parts.folder / f"{name}-routes.toml"
        file.write_text(_configuration(deployment, name, ports, lead))
        gateway = Gateway(deployment.gateway.out.parent / name, "--config", str(file))
        urls = Urls(*(f"https://127.0.0.1:{port}" for port in ports[:3]))
        try:
            gateway.until_ready()
            yield InboundStage(
                deployment,
                gateway,
                urls,
                account,
                merchant,
                ports[4],
                folder / "ca.pem",
                shop_ports,
            )
        finally:
            assert gateway.stop() == 0, gateway.err.read_text()


def _certificates(folder: Path) -> dict[str, Pair]:
    """Make chains and their keys: the shops' names have one, `POSTS` another; all of `ca.pem`."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    pairs = {}
    for name, others in ((HOSTNAME, HOSTNAMES.values()), (POSTS, ())):
        issued = authority.issue_cert(name, *others)
        chain, key = folder / f"{name}.pem", folder / f"{name}.key"
        chain.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        pairs[name] = chain, key
    return pairs


def _configuration(deployment: Deployment, name: str, ports: list[int], lead: str) -> str:
    """Write the deployment's configuration with a listener for these routes, which it has not."""
    text = deployment.config.path.read_text()
    way_out = text.partition("[[routes]]")[2].partition("[[inbound]]")[0]
    text = with_routes(deployment, name, ports[:4], f"[[routes]]{way_out}{lead}")
    listener = re.search(r"\[listeners\.public\]\n((?:[a-z_]+ = .*\n)+)", text)
    assert listener is not None
    own = re.sub(r"port = \d+", f"port = {ports[4]}", listener[1])
    own = re.sub(r"connections_per_address_max = .*\n", "", own)
    return text.replace(
        "[listeners.public]\n",
        f'[listeners.inbound]\n{own}trusted_proxies = ["127.0.0.1/32"]\n\n[listeners.public]\n',
    )
