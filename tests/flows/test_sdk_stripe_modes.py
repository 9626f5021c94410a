"""Stripe's SDK in its four styles, by base URL and through the proxy; uploads; plain clients."""

import asyncio
import os
import secrets
import shutil
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from gateway.sandbox.processor import Processor
from tests.cards import VISA_ALT
from tests.flows.deployment import Deployment
from tests.flows.leaks import first_leak
from tests.flows.merchant import INTENTS, Merchant, form, new_idempotency_key, payment
from tests.flows.processor import ProcessorControl
from tests.flows.sdk_story import Story
from tests.flows.sdks import Desk, SdkWay
from tests.sdks.driver import Target

pytestmark = pytest.mark.embedded

STYLES: Final = ("sync", "httpx", "aiohttp", "module")
WAYS: Final = [
    (style, mode)
    for style in STYLES
    for mode in ("base", "proxy", "environment")
    if (style, mode) != ("aiohttp", "environment")  # it looks at none
]
IMPOSSIBLE: Final = ("httpx", "proxy")  # httpx 0.28 knows no `proxies`, which the SDK gives it


def stripe(desk: Desk, style: str, mode: str, *, retries: int | None = None) -> SdkWay:
    if mode == "base":
        return desk.by_base("stripe", style=style, retries=retries)
    if mode == "proxy":
        return desk.by_proxy("stripe", style=style, retries=retries)
    keys = desk.by_proxy("stripe").target.keys
    process = desk.sdks.process("stripe", desk.proxy_url())
    return SdkWay(process, Target(keys, style=style, retries=retries))


@pytest.mark.parametrize(("style", "mode"), WAYS)
async def test_each_style_pays(
    desk: Desk, till: Merchant, style: str, mode: str, processor: ProcessorControl
) -> None:
    story = Story(till, "stripe", stripe(desk, style, mode))
    token, step = await story.payment()
    before = processor.counts
    reply = await story.do(step)
    if (style, mode) == IMPOSSIBLE:
        assert (reply.error, processor.counts) == ("APIConnectionError", before)
        return
    assert story.dialect.word(reply) == story.dialect.words["approved"]
    assert processor.numbers[-1] == VISA_ALT
    assert (await story.record(token))["result"] == "approved"
    assert reply.headers["panward-state"] == "completed"


@pytest.mark.parametrize(("style", "mode"), [way for way in WAYS if way != IMPOSSIBLE])
@pytest.mark.guards("F-24")
async def test_the_sdks_own_retry_after_a_lost_answer(
    desk: Desk, till: Merchant, style: str, mode: str, processor: ProcessorControl
) -> None:
    """It makes its own key and sends twice; there is one charge."""
    story = Story(till, "stripe", stripe(desk, style, mode, retries=1))
    token, step = await story.payment()
    before = processor.counts
    processor.do("lose_next_answer")
    reply = await story.do(step)
    assert story.dialect.word(reply) == story.dialect.words["approved"]
    assert reply.requests == 2
    after = processor.counts
    assert (after.charges - before.charges, after.replays - before.replays) == (1, 1)
    attempts = [each["state"] for each in (await story.record(token))["attempts"]]
    assert attempts == ["resolved", "completed"]


# --- files --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["base", "proxy"])
async def test_a_file_is_uploaded(desk: Desk, till: Merchant, mode: str) -> None:
    """In a tunnel by another host of the same route."""
    text = secrets.token_hex(30_000)
    params = {"purpose": "dispute_evidence", "file": text}
    way = stripe(desk, "sync", mode)
    reply = await way("files.create", params=params)
    assert (reply.error, reply.object["object"]) == (None, "file")
    assert (reply.object["size"], reply.object["purpose"]) == (len(text), "dispute_evidence")
    assert "panward-authorization" not in reply.headers

    token = await till.token()
    refused = await way("files.create", params=params | {"file": f"card {token}"})
    assert (refused.error, refused.body["code"]) == ("InvalidRequestError", "token_undeclared")


async def test_an_upload_arrives_as_it_left(
    desk: Desk, deployment: Deployment, pair: Processor
) -> None:
    """Byte for byte, boundary and all."""
    body = (
        b'--=_edge\r\nContent-Disposition: form-data; name="purpose"\r\n\r\ndispute_evidence'
        b'\r\n--=_edge\r\nContent-Disposition: form-data; name="file"; filename="caf\xc3\xa9.bin"'
        b"\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        + bytes(range(256)) * 500
        + b"\r\n\r\n--=_edge--\r\nepilogue\r\n"
    )
    headers = {
        "Authorization": f"Bearer {desk.seller.key.text}",
        "Content-Type": 'multipart/form-data; boundary="=_edge"',
    }
    url = f"{desk.beside.urls.private}/out/stripe_pair/v1/files"
    async with (
        aiohttp.TCPConnector(ssl=deployment.client_context()) as connector,
        aiohttp.ClientSession(connector=connector) as session,
        session.post(url, data=body, headers=headers) as answer,
    ):
        assert (answer.status, (await answer.json())["object"]) == (200, "file")
    sent = pair.received[-1].sent
    assert sent is not None
    assert sent.body == body
    assert sent.headers["content-type"] == headers["Content-Type"]


# --- clients that are no SDK --------------------------------------------------------------


async def curl(trusted: Path, proxy: str, *words: str) -> str:
    program = shutil.which("curl")
    assert program is not None
    usual = ("-sS", "--cacert", str(trusted), "--proxy", proxy, "--config", "-")
    process = await asyncio.create_subprocess_exec(
        program,
        *usual,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], "NO_PROXY": ""},
    )
    said, _ = await process.communicate("\n".join(words).encode())
    assert first_leak(said) is None
    return said.decode()


async def test_curl_pays_through_the_proxy(
    desk: Desk, till: Merchant, trusted: Path, processor: ProcessorControl
) -> None:
    token, key = await till.token(VISA_ALT), new_idempotency_key()
    body = form(payment(token, cvc="000")).decode()
    words = (
        "url = https://api.stripe.com" + INTENTS,
        f'data = "{body}"',
        f'header = "Idempotency-Key: {key}"',
        r'write-out = "\n%{http_code} %{header_json}"',
    )
    said = await curl(trusted, desk.proxy_url(), *words)
    assert '"status": "succeeded"' in said
    assert "\n200 " in said
    assert "panward-authorization" in said
    assert processor.numbers[-1] == VISA_ALT
    refused = await curl(trusted, desk.proxy_url(desk.revoked.text), *words)
    assert "407" in refused
    elsewhere = await curl(trusted, desk.proxy_url(), "url = https://api.example.com/")
    assert "403" in elsewhere


ASKED: Final[Mapping[str, str]] = {"Accept": "application/json"}


async def test_an_async_client_pays_through_the_proxy(
    desk: Desk, till: Merchant, trusted: Path, processor: ProcessorControl
) -> None:
    """Many calls over one client's tunnels."""
    context = ssl.create_default_context(cafile=str(trusted))
    tokens = await asyncio.gather(*(till.token(VISA_ALT) for _ in range(8)))
    before = processor.counts.charges
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:

        async def pays(token: str) -> int:
            url = "https://api.stripe.com" + INTENTS
            fields = {name: str(value) for name, value in payment(token).items()}
            async with session.post(
                url, data=fields, proxy=desk.proxy_url(), headers=ASKED
            ) as reply:
                assert first_leak(await reply.read()) is None
                return reply.status

        assert await asyncio.gather(*map(pays, tokens)) == [200] * 8
    assert processor.counts.charges == before + 8
