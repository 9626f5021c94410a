"""How long a shopper waits for the card fields: `python -m bench.checkout_page`, a line of JSON.

From `mount` in the shop's page to its event `ready`, with nothing cached and a processor slowed
down four times, in a real Chromium against a real gateway. Frames share the page's process here,
since a slow processor can be asked for by process only; a shopper's browser gives them their own.
"""

import asyncio
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Final

import msgspec
from playwright.async_api import Browser, async_playwright

from tests.browser.checkout.stage import Stage, opened
from tests.browser.running_chromium import running_chromium
from tests.browser.waiting import until

VISITS: Final = 7
SLOWED: Final = 4
LAYOUTS: Final = ("combined", "separate")
SEALING: Final = "/checkout/v1/sealing-"
IN_ONE_PROCESS: Final = (
    "--disable-site-isolation-trials",
    "--disable-features=IsolateOrigins,site-per-process",
)
_MOUNT: Final = """([key, layout]) => new Promise((resolve) => {
  const from = performance.now();
  const fields = Panward(key).fields({ layout });
  fields.on("ready", () => resolve(performance.now() - from));
  fields.mount("#one");
})"""


async def visited(stage: Stage, browser: Browser, key: str, layout: str) -> tuple[float, bool]:
    """Give the milliseconds, and whether the sealing library was asked for within them."""
    context = await browser.new_context()
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page = await context.new_page()
    await page.goto(f"{stage.pages.shop}/?gateway=main")
    await until(page, "window.Panward !== undefined")
    session = await context.new_cdp_session(page)
    await session.send("Emulation.setCPUThrottlingRate", {"rate": SLOWED})
    milliseconds: float = await page.evaluate(_MOUNT, [key, layout])
    early = any(SEALING in url for url in asked)
    await context.close()
    return milliseconds, early


async def measure(stage: Stage, address: str) -> dict[str, object]:
    figures: dict[str, object] = {}
    account = await stage.new_account()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(address)
        for layout in LAYOUTS:
            key = account.publishable_key
            visits = [await visited(stage, browser, key, layout) for _ in range(VISITS)]
            figures[f"fields.{layout}.ms"] = round(statistics.median(ms for ms, _ in visits), 1)
            figures[f"fields.{layout}.sealing_early"] = sum(early for _, early in visits)
    return figures


def main() -> None:
    """Start a deployment and a browser in a temporary folder, and leave nothing behind."""
    with tempfile.TemporaryDirectory(prefix="panward-bench-") as folder:
        with opened(Path(folder)) as stage:
            certificate = stage.deployment.config.listeners.public.certificate_file
            assert certificate is not None
            profile = Path(folder) / "profile"
            with running_chromium(profile, Path(certificate), *IN_ONE_PROCESS) as address:
                figures = asyncio.run(measure(stage, address))
        sys.stdout.write(msgspec.json.encode(figures).decode() + "\n")


if __name__ == "__main__":
    main()
