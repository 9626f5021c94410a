"""What tests of inbound routes share: one deployment, a gateway with routes, an application."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.flows.deployment import Deployment
from tests.flows.leaks import first_leak
from tests.flows.merchant import Account, new_account
from tests.inbound.client import Shopper, shopping
from tests.inbound.stage import InboundStage, running_inbound


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Give a deployment; when it has stopped, no file of it may hold a card number."""
    deployment = Deployment.started(tmp_path_factory.mktemp("inbound") / "deployment")
    yield deployment
    assert deployment.gateway.stop() == 0, deployment.gateway.err.read_text()
    assert deployment.leak_in_the_files() is None


@pytest.fixture(scope="session")
def account(deployment: Deployment) -> Account:
    """Give the tenant whose endpoints the routes lead to."""
    return asyncio.run(new_account(deployment))


@pytest.fixture(scope="session")
def inbound(
    deployment: Deployment, account: Account, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[InboundStage]:
    folder: Path = tmp_path_factory.mktemp("routes")
    with running_inbound(deployment, account, folder) as stage:
        yield stage


@pytest.fixture(autouse=True)
def clean_logs(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test that used the gateway: no card number in what it wrote."""
    yield
    if "inbound" in request.fixturenames:
        stage: InboundStage = request.getfixturevalue("inbound")
        assert first_leak(stage.gateway.log_since_last()) is None, "a card number in the log"


@pytest.fixture
async def shopper(inbound: InboundStage) -> AsyncIterator[Shopper]:
    """Give a client of the merchant's public name; no card number may have got through."""
    inbound.merchant.forget()
    async with shopping(inbound) as shopper:
        yield shopper
    assert inbound.merchant.leak() is None, "the merchant's application got a card number"
