"""What tests in a browser share: one Chromium process, and a fresh context of it for each test.

The process lives as long as the session; a test speaks to it from its own event loop, so that it
may use whatever else lives in that loop (a database, a server).
"""

from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import (
    Browser,
    BrowserContext,
    Page,
    WebError,
    async_playwright,
    expect,
)

from tests.browser.running_chromium import running_chromium

DEFAULT_TIMEOUT_MILLISECONDS = 30_000.0

expect.set_options(timeout=DEFAULT_TIMEOUT_MILLISECONDS)


@pytest.fixture(scope="session")
def chromium_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the debugging address of a Chromium of this session's own."""
    with running_chromium(tmp_path_factory.mktemp("chromium"), None) as address:
        yield address


@pytest.fixture
async def chromium(chromium_address: str) -> AsyncIterator[Browser]:
    """Give the session's browser, as seen from this test's event loop."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(chromium_address)
        yield browser
        await browser.close()  # of a browser connected to: hangs up, and it stays


@pytest.fixture
def page_errors() -> Iterator[list[str]]:
    """Hold what pages threw and nobody caught: a test that means it to happen empties the list."""
    errors: list[str] = []
    yield errors
    assert not errors, f"uncaught in a page: {errors}"


@pytest.fixture
async def context(chromium: Browser, page_errors: list[str]) -> AsyncIterator[BrowserContext]:
    """Give a browser profile of this test's own: no cookies, no cache, no pages of another's."""

    def uncaught(error: WebError) -> None:
        page_errors.append(error.error.message)

    made = await chromium.new_context()
    made.set_default_timeout(DEFAULT_TIMEOUT_MILLISECONDS)
    made.on("weberror", uncaught)
    yield made
    await made.close()


@pytest.fixture
async def page(context: BrowserContext) -> Page:
    return await context.new_page()
