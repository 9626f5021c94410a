"""The control socket of a simulated processor that runs on its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from gateway.sandbox.control import serve_control
from gateway.sandbox.processor import Processor, Running
from tests.cards import VISA
from tests.gateway.sandbox.harness import API_KEY, Clock, Sdk

CARD = {"number": VISA, "exp_month": "12", "exp_year": "2040", "cvc": "123"}


@pytest.fixture
async def control(processor: Processor, tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    socket = tmp_path / "control"
    async with (
        serve_control(processor, socket),
        aiohttp.ClientSession(
            "http://processor", connector=aiohttp.UnixConnector(str(socket))
        ) as session,
    ):
        yield session


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ({"do": "fail_next", "status": 503}, "APIError"),
        ({"do": "lose_next_answer"}, "APIConnectionError"),
        ({"do": "lose_next_answer", "half": True}, "APIConnectionError"),
        ({"do": "close_before_reading"}, "APIConnectionError"),
        ({"do": "echo_numbers", "in": "error"}, "CardError"),
        ({"do": "drip", "piece_bytes": 100, "pause_seconds": 0.001}, None),
        ({"do": "drip", "piece_bytes": None}, None),
        ({"do": "delay", "seconds": 0.01}, None),
    ],
)
async def test_commands(
    sdk: Sdk,
    processor: Processor,
    control: aiohttp.ClientSession,
    running: Running,
    command: dict[str, object],
    error: str | None,
) -> None:
    async with control.post("/do", json=command) as reply:
        assert reply.status == 204
    answer = await sdk(running.url, "tokens.create", card=CARD)
    assert answer.error == error
    async with control.post("/do", json={"do": "behave"}) as reply:
        assert reply.status == 204
    assert (await sdk(running.url, "tokens.create", card=CARD)).error is None


async def test_hold_and_release(
    sdk: Sdk, processor: Processor, control: aiohttp.ClientSession, running: Running
) -> None:
    for command in ({"do": "hold", "at": "answer"}, {"do": "release"}):
        async with control.post("/do", json=command) as reply:
            assert reply.status == 204
    assert (await sdk(running.url, "tokens.create", card=CARD)).error is None


async def test_redirect(http: aiohttp.ClientSession, control: aiohttp.ClientSession) -> None:
    command = {"do": "redirect_next", "url": "https://elsewhere.example/", "status": 302}
    async with control.post("/do", json=command) as reply:
        assert reply.status == 204
    async with http.get("/v1/charges/ch_1", allow_redirects=False) as reply:
        assert (reply.status, reply.headers["Location"]) == (302, "https://elsewhere.example/")


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"do":"explode"}', b'{"do":"fail_next"}', b'{"do":"hold","extra":1}']
)
async def test_no_such_command(control: aiohttp.ClientSession, body: bytes) -> None:
    async with control.post("/do", data=body) as reply:
        assert reply.status == 400


async def test_state_is_masked_numbers_are_not(
    sdk: Sdk, control: aiohttp.ClientSession, running: Running
) -> None:
    await sdk(running.url, "tokens.create", card=CARD, idempotency_key="order-1")
    async with control.get("/state") as reply:
        state = await reply.json()
        assert VISA not in await reply.text()
    assert state["counts"]["requests"] == 1
    [call] = state["received"]
    assert call["cards"] == {"card[number]": f"•••• {VISA[-4:]}", "card[cvc]": "•••"}
    assert (call["path"], call["idempotency_key"]) == ("/v1/tokens", "order-1")
    assert call["processor"] == "stripe"
    async with control.get("/numbers") as reply:
        assert await reply.json() == {"numbers": [VISA]}
    async with control.delete("/received") as reply:
        assert reply.status == 204
    async with control.get("/numbers") as reply:
        assert await reply.json() == {"numbers": []}


async def test_numbers_only_when_told(clock: Clock, tmp_path: Path) -> None:
    processor = Processor([API_KEY], now=clock)
    connector = aiohttp.UnixConnector(str(tmp_path / "control"))
    async with (
        serve_control(processor, tmp_path / "control"),
        aiohttp.ClientSession("http://processor", connector=connector) as session,
        session.get("/numbers") as reply,
    ):
        assert reply.status == 403
