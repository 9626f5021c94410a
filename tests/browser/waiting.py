"""Waiting for something to become true in a page, without asking the page's policy for `eval`."""

import asyncio

from playwright.async_api import Frame, Page

_STEP_SECONDS = 0.02


async def until(where: Page | Frame, expression: str, *, seconds: float = 30.0) -> None:
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds
    while not await where.evaluate(expression):
        assert loop.time() < ends, f"never came true: {expression}"
        await asyncio.sleep(_STEP_SECONDS)
