"""What flow tests share: one real deployment, a second gateway on it, merchants, and witnesses."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest

from tests.flows.deployment import Deployment, Gateway, Store
from tests.flows.leaks import first_leak
from tests.flows.merchant import Account, Merchant, new_account
from tests.flows.processor import ProcessorControl
from tests.flows.replica import Replica, running_replica
from tests.flows.wire import Wire
from tests.gateway.sandbox.harness import Sdk

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
