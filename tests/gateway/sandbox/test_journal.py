"""What the simulated processor keeps over its own death."""

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from ssl import SSLContext, create_default_context
from typing import Any

import aiohttp
import pytest

from gateway.sandbox.processor import Processor, Running
from tests.cards import DECLINED, VISA
from tests.gateway.sandbox.harness import API_KEY, Clock, Sdk, card
from tests.gateway.sandbox.test_processor import paid

Lives = Callable[[], Any]


@pytest.fixture
def lives(tmp_path: Path, clock: Clock, server_context: SSLContext) -> Lives:
    """Give what starts the processor, again and again on the same files."""

    @asynccontextmanager
    async def life() -> AsyncIterator[tuple[Processor, Running]]:
        processor = Processor(
            [API_KEY],
            now=clock,
            remember_numbers=True,
            arrivals=tmp_path / "arrivals",
            state=tmp_path / "state",
        )
        async with processor.serve(server_context) as running:
            yield processor, running
        assert processor.counts.faults == 0

    return life


def arrivals(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "arrivals").read_bytes().splitlines()]


async def test_a_repeat_in_another_life_gets_the_first_answer(lives: Lives, sdk: Sdk) -> None:
    async with lives() as (_, running):
        first = await paid(sdk, running, idempotency_key="order-1")
    async with lives() as (processor, running):
        assert processor.counts.charges == 1
        method = first.object["payment_method"]
        again = await sdk(
            running.url,
            "payment_intents.create",
            amount=1099,
            currency="eur",
            confirm=True,
            payment_method=method,
            idempotency_key="order-1",
        )
        assert again.object == first.object
        assert again.headers["idempotent-replayed"] == "true"
        assert (processor.counts.charges, processor.counts.replays) == (1, 1)


async def test_a_charge_can_be_given_back_in_another_life(lives: Lives, sdk: Sdk) -> None:
    async with lives() as (_, running):
        made = await sdk(
            running.url, "charges.create", amount=500, currency="eur", source=card(VISA)
        )
        await sdk(running.url, "refunds.create", charge=made.object["id"], amount=200)
    async with lives() as (_, running):
        kept = await sdk(running.url, "charges.retrieve", made.object["id"])
        assert (kept.object["amount_refunded"], kept.object["refunded"]) == (200, False)
        rest = await sdk(running.url, "refunds.create", charge=made.object["id"])
        assert rest.object["amount"] == 300


async def test_each_number_and_each_charge_is_witnessed(
    lives: Lives, sdk: Sdk, tmp_path: Path
) -> None:
    async with lives() as (_, running):
        await sdk(running.url, "tokens.create", card=card(VISA), idempotency_key="one")
        for number in (VISA, DECLINED):
            await sdk(
                running.url,
                "charges.create",
                amount=500,
                currency="eur",
                source=card(number),
                idempotency_key=f"pay {number[-4:]}",
            )
    seen = arrivals(tmp_path)
    digests = [hashlib.sha256(number.encode()).hexdigest() for number in (VISA, VISA, DECLINED)]
    assert [one["number_sha256"] for one in seen if one["number_sha256"]] == digests
    charged = [one for one in seen if one["charge"]]
    assert [one["idempotency_key"] for one in charged] == [f"pay {VISA[-4:]}"]
    assert seen.index(charged[0]) == 2, "after its number, before the next call"
    assert VISA not in (tmp_path / "arrivals").read_text()
    assert VISA not in (tmp_path / "state").read_text()


async def test_a_charge_is_witnessed_once(lives: Lives, sdk: Sdk, tmp_path: Path) -> None:
    async with lives() as (_, running):
        made = await sdk(
            running.url, "charges.create", amount=500, currency="eur", source=card(VISA)
        )
    async with lives() as (_, running):
        await sdk(running.url, "refunds.create", charge=made.object["id"], amount=200)
    assert len([one for one in arrivals(tmp_path) if one["charge"]]) == 1


async def test_what_was_refused_is_not_kept(lives: Lives, sdk: Sdk) -> None:
    async with lives() as (_, running):
        wrong = await sdk(running.url, "charges.create", amount=5, idempotency_key="order-2")
        assert wrong.status == 400
    async with lives() as (processor, running):
        right = await sdk(
            running.url,
            "charges.create",
            amount=5,
            currency="eur",
            source=card(VISA),
            idempotency_key="order-2",
        )
        assert right.object["paid"]
        assert processor.counts.replays == 0


async def test_a_torn_last_line_is_dropped(lives: Lives, sdk: Sdk, tmp_path: Path) -> None:
    async with lives() as (_, running):
        await paid(sdk, running, idempotency_key="order-3")
    whole = (tmp_path / "state").read_bytes()
    (tmp_path / "state").write_bytes(whole + b'{"account":"acct_1","cou')
    async with lives() as (processor, _):
        assert processor.counts.charges == 1
    assert (tmp_path / "state").read_bytes() == whole


async def test_of_other_processors_answers_and_witnesses_are_kept(
    lives: Lives, tmp_path: Path, ca_file: Path
) -> None:
    order = {
        "amount": {"value": 5, "currency": "EUR"},
        "reference": "order-1",
        "merchantAccount": "Shop",
        "paymentMethod": {
            "type": "scheme",
            "number": VISA,
            "expiryMonth": "3",
            "expiryYear": "2032",
        },
    }
    bodies = []
    for charges in (0, 1):
        async with lives() as (processor, running):
            assert processor.counts.charges == charges
            headers = {"x-api-key": API_KEY, "Idempotency-Key": "order-1"}
            context = create_default_context(cafile=str(ca_file))
            async with (
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as http,
                http.post(f"{running.url}/v72/payments", json=order, headers=headers) as reply,
            ):
                bodies.append(await reply.read())
            assert processor.counts.replays == charges
    assert bodies[0] == bodies[1]
    witnessed = [one["charge"] is not None for one in arrivals(tmp_path)]
    assert witnessed == [False, True, False]
    assert VISA not in (tmp_path / "state").read_text()


def test_files_need_to_be_allowed(tmp_path: Path, clock: Clock) -> None:
    for arrivals_file, state in ((tmp_path / "a", None), (None, tmp_path / "s")):
        with pytest.raises(ValueError, match="remember_numbers"):
            Processor([API_KEY], now=clock, arrivals=arrivals_file, state=state)
    assert not list(tmp_path.iterdir())
