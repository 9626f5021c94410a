"""What flow tests share: one real deployment, a second gateway on it, merchants, and witnesses."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
import trustme

from gateway.sandbox.processor import Processor
from tests.flows.deployment import Deployment, Gateway, Store, said_by_panward
from tests.flows.egress import Egress, Way, new_egress_account, running_egress, way_of
from tests.flows.leaks import first_leak
from tests.flows.merchant import Account, Merchant, new_account
from tests.flows.processor import ProcessorControl
from tests.flows.replica import Replica, running_replica
from tests.flows.sdk_gateway import Neighbor, SdkGateway, running_sdk_gateway
from tests.flows.sdk_story import Story
from tests.flows.sdks import Desk, Mode, Sdks
from tests.flows.seller import PAIR_KEYS, keys_of_a_seller
from tests.flows.wire import Wire
from tests.gateway.sandbox.harness import Sdk
from tests.sdks.localstripe import LocalStripe

LAST = "test_faults.py"
"""Kills and freezes what all share: after everything else, so that a failure spoils no other."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name == LAST)


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Give the one deployment; when it has stopped, no file of it may hold a card number."""
    deployment = Deployment.started(tmp_path_factory.mktemp("flows") / "deployment")
    yield deployment
    status = deployment.gateway.stop()
    assert status == 0, deployment.gateway.err.read_text()
    assert deployment.leak_in_the_files() is None


@pytest.fixture(scope="session")
def processor(deployment: Deployment) -> ProcessorControl:
    return deployment.processor


@pytest.fixture(scope="session")
def sdk(deployment: Deployment) -> Iterator[Sdk]:
    """Give the official Stripe SDK, in a process of its own."""
    with Sdk(deployment.ca_file) as client:
        yield client


@pytest.fixture(scope="module")
def account(deployment: Deployment) -> Account:
    return asyncio.run(new_account(deployment))


@pytest.fixture(scope="module")
def other_account(deployment: Deployment) -> Account:
    return asyncio.run(new_account(deployment))


@pytest.fixture
async def wire(deployment: Deployment) -> AsyncIterator[Wire]:
    connector = aiohttp.TCPConnector(ssl=deployment.client_context(), limit=0)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield Wire(session)


@pytest.fixture
def shop(deployment: Deployment, account: Account, wire: Wire) -> Merchant:
    return Merchant(account, deployment.urls, wire)


@pytest.fixture
def other_shop(deployment: Deployment, other_account: Account, wire: Wire) -> Merchant:
    return Merchant(other_account, deployment.urls, wire)


@pytest.fixture
async def store(deployment: Deployment) -> AsyncIterator[Store]:
    """Give a connection to the database, in the gateway's own role."""
    connection = await deployment.store()
    yield connection
    await connection.close(timeout=10)


@dataclass(frozen=True)
class Seen:
    """What independent witnesses have counted so far."""

    sent: int
    decrypted: int
    intents: int
    open: int


Witness = Callable[[], AbstractAsyncContextManager[None]]


@pytest.fixture
def nothing_happens(deployment: Deployment, store: Store) -> Witness:
    """Give a block in which nothing may be sent, decrypted or put on record as an intent."""

    async def seen() -> Seen:
        row = await store.fetchrow(
            "SELECT count(*) AS intents, count(*) FILTER (WHERE state = 'attempted') AS open"
            " FROM intent_state"
        )
        assert row is not None
        sent = deployment.processor.counts.requests
        return Seen(sent, len(deployment.decrypts()), row["intents"], row["open"])

    @asynccontextmanager
    async def nothing() -> AsyncIterator[None]:
        before = await seen()
        yield
        assert await seen() == before

    return nothing


@pytest.fixture(scope="session")
def replica(deployment: Deployment, watched: list[Gateway]) -> Iterator[Replica]:
    """Give the second gateway, which is started when the first test asks for it."""
    with running_replica(deployment) as replica:
        watched.append(replica.gateway)
        yield replica


@pytest.fixture(scope="session")
def watched(deployment: Deployment) -> list[Gateway]:
    """Give the gateways whose logs are looked at after each test."""
    return [deployment.gateway]


@pytest.fixture(autouse=True)
def clean_logs(deployment: Deployment, watched: list[Gateway]) -> Iterator[None]:
    """After each test: no card number in what a gateway wrote, and a processor that behaves."""
    yield
    for gateway in watched:
        assert first_leak(gateway.log_since_last()) is None, "a card number in the log"
    deployment.processor.behave()


@pytest.fixture(autouse=True)
async def no_doubts_left(deployment: Deployment) -> AsyncIterator[None]:
    """After each test: what it left unknown is not looked into while another one counts calls."""
    yield
    connection = await deployment.store()
    try:
        await connection.execute("UPDATE intent_state SET due = 'infinity' WHERE state = 'unknown'")
    finally:
        await connection.close(timeout=10)


# --- the gateway whose routes fail --------------------------------------------------------


@pytest.fixture(scope="session")
def egress(deployment: Deployment, watched: list[Gateway]) -> Iterator[Egress]:
    """Give the gateway of the egress tests, started when the first of them asks for it."""
    with running_egress(deployment) as egress:
        watched.append(egress.gateway)
        yield egress


@pytest.fixture(scope="session")
def buyer(deployment: Deployment) -> Account:
    """Give a tenant with a key for every route of that gateway."""
    return asyncio.run(new_egress_account(deployment))


@pytest.fixture(params=["base_url", "tunnel"])
async def way(
    request: pytest.FixtureRequest, deployment: Deployment, egress: Egress, buyer: Account
) -> AsyncIterator[Way]:
    """Give both ways of calling it, one after the other."""
    async with way_of(request.param, deployment, egress, buyer.secret_key) as way:
        yield way


@pytest.fixture
def at_egress(egress: Egress, buyer: Account, wire: Wire) -> Merchant:
    """Give the same tenant's own API there."""
    return Merchant(buyer, egress.urls, wire)


# --- official SDKs ------------------------------------------------------------------------


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Give an authority that is none of the deployment's: of a processor, and of clients."""
    return trustme.CA()


@pytest.fixture(scope="session")
def localstripe(
    authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Neighbor]:
    """Give the one processor that we did not write."""
    folder = tmp_path_factory.mktemp("localstripe")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with LocalStripe(folder / "at", context) as running:
        yield Neighbor(running.port, folder / "ca.pem")


@pytest.fixture(scope="session")
def beside(
    deployment: Deployment, localstripe: Neighbor, watched: list[Gateway]
) -> Iterator[SdkGateway]:
    """Give the gateway with what SDKs need besides, started when the first test asks for it."""
    with running_sdk_gateway(deployment, localstripe, localstripe.ca_file) as running:
        watched.append(running.gateway)
        yield running


@pytest.fixture(scope="session")
def trusted(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the authorities of the listeners and, as `panward ca` prints them, of tunnels."""
    folder = tmp_path_factory.mktemp("trusted")
    said_by_panward(deployment, "ca", "--out", str(folder / "tunnels.pem"))
    both = deployment.ca_file.read_bytes() + (folder / "tunnels.pem").read_bytes()
    (folder / "ca.pem").write_bytes(both)
    return folder / "ca.pem"


@pytest.fixture(scope="session")
def desk(
    deployment: Deployment,
    beside: SdkGateway,
    trusted: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Desk]:
    """Give a seller's SDKs, each in a process of its own."""
    keys = asyncio.run(keys_of_a_seller(deployment))
    with ExitStack() as stack:
        sdks = Sdks(tmp_path_factory.mktemp("sdks"), trusted, stack)
        yield Desk(sdks, *keys, deployment, beside)


@pytest.fixture
def till(desk: Desk, wire: Wire) -> Merchant:
    """Give the seller's own calls of panward's API."""
    return Merchant(desk.seller.account, desk.deployment.urls, wire)


@pytest.fixture
def story(desk: Desk, till: Merchant, sdk: str, mode: Mode) -> Story:
    """Give an SDK in a mode, for tests that are parametrized so."""
    return Story(till, sdk, desk.way(sdk, mode))


@pytest.fixture
async def pair(deployment: Deployment, beside: SdkGateway) -> AsyncIterator[Processor]:
    """Give a processor with two accounts, which remembers whole calls."""
    private = deployment.config.listeners.private
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(private.certificate_file, private.private_key_file)
    processor = Processor(PAIR_KEYS, now=lambda: datetime.now(UTC), remember_numbers=True)
    async with processor.serve(context, port=beside.pair_port):
        yield processor
