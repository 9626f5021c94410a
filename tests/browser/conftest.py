"""What tests in a browser share: one Chromium process, and a fresh context of it for each test.

The process lives as long as the session; a test speaks to it from its own event loop, so that it
may use whatever else lives in that loop (a database, a server). Headless means the same browser
as a shopper's, without a window.
"""

import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Page, WebError, async_playwright

_PROGRAM = "/usr/bin/chromium"
_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--remote-debugging-port=0",
)
_START_SECONDS_MAX = 60.0
_END_SECONDS_MAX = 20.0
DEFAULT_TIMEOUT_MILLISECONDS = 10_000.0


def _address_in(profile: Path, process: subprocess.Popen[bytes]) -> str:
    """Wait for the file in which Chromium writes where it can be spoken to."""
    written = profile / "DevToolsActivePort"
    ends = time.monotonic() + _START_SECONDS_MAX
    while time.monotonic() < ends and process.poll() is None:
        lines = written.read_text().splitlines() if written.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.02)
    raise AssertionError("Chromium did not start: make system-packages installs it")


@pytest.fixture(scope="session")
def chromium_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the debugging address of a Chromium of this session's own."""
    profile = tmp_path_factory.mktemp("chromium")
    with (profile / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own words
            [_PROGRAM, *_ARGUMENTS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            yield _address_in(profile, process)
        finally:
            process.terminate()
            try:
                process.wait(_END_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


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
