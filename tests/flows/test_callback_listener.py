"""A listener for processors that show a client certificate: no browser is asked for one at ours."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
import trustme

from tests.flows.deployment import Deployment, Gateway
from tests.flows.replica import free_ports, running_replica
from tests.flows.seller import Seller, new_seller
from tests.flows.wire import Wire
from vault.callback_endpoint_table import CallbackEndpointTable
from vault.db import Database

pytestmark = [pytest.mark.embedded, pytest.mark.guards("T-52")]

ROUTE = "worldpay_wpg"
ORDER = b"""<?xml version="1.0"?><paymentService><notify><orderStatusEvent orderCode="o-1">
<journal journalType="AUTHORISED"/></orderStatusEvent></notify></paymentService>"""


@dataclass(frozen=True)
class Ways:
    """The two listeners of one gateway, and who vouches for clients at one of them."""

    public: str
    callbacks: str
    clients: trustme.CA


@contextmanager
def running(deployment: Deployment, folder: Path, watched: list[Gateway]) -> Iterator[Ways]:
    clients = trustme.CA()
    clients.cert_pem.write_to_path(str(folder / "clients.pem"))
    (port,) = free_ports(1)
    public = deployment.config.listeners.public
    more = f"""
[[routes]]
name = "{ROUTE}"
preset = "{ROUTE}"
host = "127.0.0.1:{deployment.parts.ports["sandbox"]}"
address_allow = ["127.0.0.1/32"]
ca_file = "{deployment.ca_file}"
connect_names = []

[listeners.callbacks]
port = {port}
certificate_file = "{public.certificate_file}"
private_key_file = "{public.private_key_file}"
client_ca_file = "{folder / "clients.pem"}"
"""
    with running_replica(deployment, "certified", change=lambda text: text + more) as replica:
        watched.append(replica.gateway)
        yield Ways(replica.urls.public, f"https://127.0.0.1:{port}", clients)


@pytest.fixture(scope="module")
def ways(
    deployment: Deployment, watched: list[Gateway], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ways]:
    with running(deployment, tmp_path_factory.mktemp("clients"), watched) as made:
        yield made


@pytest.fixture
async def path(deployment: Deployment) -> str:
    seller: Seller = await new_seller(deployment)
    dsn = deployment.config.secret(deployment.config.database.runtime_dsn_file)
    database = await Database.open(dsn)
    try:
        made = await CallbackEndpointTable(database).add_endpoint(
            seller.account.tenant, ROUTE, ROUTE, at=datetime.now(UTC)
        )
    finally:
        await database.close()
    assert made is not None
    return f"/callbacks/{made.id}"


async def post(deployment: Deployment, url: str, certificate: trustme.LeafCert | None) -> int:
    context: ssl.SSLContext = deployment.client_context()
    if certificate is not None:
        certificate.configure_cert(context)
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector) as session:
        reply = await Wire(session)("POST", url, ORDER, headers={"Content-Type": "text/xml"})
        assert reply.status != 200 or reply.body == b"[OK]"
        return reply.status


async def test_who_shows_the_processor_s_certificate_is_believed(
    deployment: Deployment, ways: Ways, path: str
) -> None:
    own = ways.clients.issue_cert("notify.worldpay.com")
    assert await post(deployment, ways.callbacks + path, own) == 200
    assert await post(deployment, ways.callbacks + path, None) == 401
    stranger = ways.clients.issue_cert("shop.example")
    assert await post(deployment, ways.callbacks + path, stranger) == 401


async def test_at_the_public_listener_nobody_is_asked_for_one(
    deployment: Deployment, ways: Ways, path: str
) -> None:
    for authority in (ways.clients, trustme.CA()):
        own = authority.issue_cert("notify.worldpay.com")
        assert await post(deployment, ways.public + path, own) == 401


async def test_nothing_else_is_there(deployment: Deployment, ways: Ways) -> None:
    own = ways.clients.issue_cert("notify.worldpay.com")
    for other in ("/v1/tokens", "/checkout/v1/fields", "/out/stripe/v1/charges", "/metrics"):
        assert await post(deployment, ways.callbacks + other, own) == 404
