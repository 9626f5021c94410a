"""What the tests of the hosted fields share: see `stage.py` and `visit.py`."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import Browser, WebError

from tests.browser.checkout.stage import Stage, opened, strict_gateway
from tests.browser.checkout.visit import Visit
from tests.browser.running_chromium import running_chromium
from tests.flows.leaks import first_leak
from tests.flows.merchant import Account, Merchant
from tests.flows.wire import Wire

TIMEOUT_MILLISECONDS = 30_000.0


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with opened(tmp_path_factory.mktemp("checkout")) as opened_stage:
        yield opened_stage


@pytest.fixture(scope="session")
def chromium_address(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give a browser that trusts the gateway's certificate and no other."""
    certificate = stage.deployment.config.listeners.public.certificate_file
    assert certificate is not None
    with running_chromium(tmp_path_factory.mktemp("shopper"), Path(certificate)) as address:
        yield address


@pytest.fixture(scope="session")
def strict(stage: Stage) -> Iterator[str]:
    """Give a second gateway, whose limits are soon reached."""
    with strict_gateway(stage) as origin:
        stage.pages.gateways = {**stage.pages.gateways, "strict": origin}
        yield origin


@pytest.fixture(scope="module")
def account(stage: Stage) -> Account:
    return asyncio.run(stage.new_account())


@pytest.fixture
async def wire(stage: Stage) -> AsyncIterator[Wire]:
    connector = aiohttp.TCPConnector(ssl=stage.deployment.client_context(), limit=0)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield Wire(session)


@pytest.fixture
def shop(stage: Stage, account: Account, wire: Wire) -> Merchant:
    """Give the merchant's back end."""
    return Merchant(account, stage.urls, wire)


@pytest.fixture
async def visit(
    chromium: Browser, stage: Stage, account: Account, page_errors: list[str]
) -> AsyncIterator[Visit]:
    """Give a shopper; afterwards nothing that left a frame may tell anything of a card."""
    context = await chromium.new_context(locale="en-US", viewport={"width": 800, "height": 700})
    context.set_default_timeout(TIMEOUT_MILLISECONDS)

    def uncaught(error: WebError) -> None:
        page_errors.append(error.error.message)

    context.on("weberror", uncaught)
    visit = Visit(context, stage.pages, account)
    visit.watch()
    yield visit
    await visit.check()
    await context.close()


@pytest.fixture(autouse=True)
def clean_logs(stage: Stage) -> Iterator[None]:
    """After each test: no card number in what the gateway wrote."""
    yield
    assert first_leak(stage.deployment.gateway.log_since_last()) is None, "a card in the log"
