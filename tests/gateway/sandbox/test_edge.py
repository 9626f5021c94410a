"""The network side: repeated keys, mishaps on request, what is remembered and never said."""

import asyncio
import json
import logging
import ssl
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qsl

import aiohttp
import pytest
import yarl
from multidict import CIMultiDict

from gateway.sandbox.processor import Processor, Running
from tests.cards import (
    DECLINED,
    VISA,
)
from tests.gateway.sandbox.harness import (
    INTENTS,
    OTHER_KEY,
    Clock,
    Reply,
    Sdk,
    card,
    payment,
)

# --- idempotency keys ---------------------------------------------------------------------


async def test_the_sdks_own_retry_after_a_lost_answer_charges_once(
    sdk: Sdk, running: Running, processor: Processor
) -> None:
    method = await sdk(running.url, "payment_methods.create", type="card", card=card())
    processor.lose_next_answer()
    reply = await sdk(
        running.url,
        "payment_intents.create",
        retries=2,
        amount=1099,
        currency="eur",
        confirm=True,
        payment_method=method.object["id"],
    )
    assert reply.object["status"] == "succeeded"
    assert reply.headers["idempotent-replayed"] == "true"
    assert (processor.counts.charges, processor.counts.replays) == (1, 1)


async def test_same_key_other_parameters(sdk: Sdk, running: Running, processor: Processor) -> None:
    async def pay(amount: int) -> Reply:
        return await sdk(
            running.url,
            "payment_intents.create",
            amount=amount,
            currency="eur",
            idempotency_key="order-1",
        )

    first = await pay(100)
    assert (await pay(100)).object == first.object
    other = await pay(101)
    assert (other.error, other.status) == ("IdempotencyError", 400)
    assert other.body["type"] == "idempotency_error"
    assert (await pay(100)).object == first.object


async def test_a_decline_is_kept_a_wrong_parameter_is_not(
    http: aiohttp.ClientSession, processor: Processor
) -> None:
    headers = {"Idempotency-Key": "order-2"}
    wrong = payment(DECLINED) | {"amount": "none"}
    async with http.post(INTENTS, data=wrong, headers=headers) as reply:
        assert reply.status == 400
    bodies = []
    for _ in range(2):
        async with http.post(INTENTS, data=payment(DECLINED), headers=headers) as reply:
            assert reply.status == 402
            bodies.append(await reply.read())
    assert bodies[0] == bodies[1]
    assert processor.counts.declines == 1


async def test_a_key_in_use(http: aiohttp.ClientSession, processor: Processor) -> None:
    async def post() -> tuple[int, str | None]:
        headers = {"Idempotency-Key": "order-3"}
        async with http.post(INTENTS, data=payment(), headers=headers) as reply:
            body = await reply.json()
            return reply.status, body.get("error", {}).get("code")

    processor.hold()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(post())
        await processor.holding(1)
        assert await post() == (409, "idempotency_key_in_use")
        assert processor.counts.charges == 0
        processor.release()
    assert first.result() == (200, None)
    assert await post() == (200, None)
    assert processor.counts.charges == 1


async def test_a_failure_of_its_own_is_kept_too(
    http: aiohttp.ClientSession, processor: Processor
) -> None:
    processor.fail_next(500)
    processor.fail_next(429)
    statuses = []
    for key in ("order-4", "order-5", "order-4", "order-5"):
        headers = {"Idempotency-Key": key}
        async with http.post(INTENTS, data=payment(), headers=headers) as reply:
            statuses.append(reply.status)
    assert statuses == [500, 429, 500, 200]
    assert processor.counts.charges == 1


async def test_keys_live_for_a_day(
    http: aiohttp.ClientSession, processor: Processor, clock: Clock
) -> None:
    charges = []
    for wait in (timedelta(0), timedelta(hours=23, minutes=59), timedelta(minutes=1)):
        clock.advance(wait)
        headers = {"Idempotency-Key": "order-6"}
        async with http.post(INTENTS, data=payment(), headers=headers) as reply:
            assert reply.status == 200
        charges.append(processor.counts.charges)
    assert charges == [1, 1, 2]


async def test_a_key_means_nothing_where_nothing_is_changed(
    http: aiohttp.ClientSession, processor: Processor
) -> None:
    headers = {"Idempotency-Key": "order-0"}
    async with http.post("/v1/customers", headers=headers) as reply:
        made = await reply.json()
    for _ in range(2):
        async with http.get(f"/v1/customers/{made['id']}", headers=headers) as reply:
            assert reply.status == 200
    assert processor.counts.replays == 0


async def test_a_repeat_names_the_first_request(http: aiohttp.ClientSession) -> None:
    ids, originals = [], []
    for _ in range(2):
        headers = {"Idempotency-Key": "order-9"}
        async with http.post(INTENTS, data=payment(), headers=headers) as reply:
            ids.append(reply.headers["Request-Id"])
            originals.append(reply.headers.get("Original-Request"))
    assert originals == [None, ids[0]]
    assert ids[0] != ids[1]


async def test_a_key_at_one_processor_means_nothing_at_another(
    http: aiohttp.ClientSession, processor: Processor
) -> None:
    async with http.post(INTENTS, data=payment(), headers={"Idempotency-Key": "order-1"}) as reply:
        assert reply.status == 200
    headers = {"Cko-Idempotency-Key": "order-1"}
    order = {"source": card() | {"type": "card"}, "amount": 5, "currency": "EUR"}
    async with http.post("/payments", json=order, headers=headers) as reply:
        assert reply.status == 422  # it was carried out: its month is a text
    assert processor.counts.replays == 0


async def test_a_call_is_remembered_as_it_was_sent(
    http: aiohttp.ClientSession, processor: Processor, running: Running
) -> None:
    """Down to the escapes of its path: a signature may be over them."""
    url = yarl.URL(f"{running.url}/v1/a%2Fb?c=%7e&d", encoded=True)
    headers = CIMultiDict([("X-Two", "1"), ("X-Two", "2")])
    async with http.get(url, headers=headers) as reply:
        assert reply.status == 404
    [call] = processor.received
    assert call.sent is not None
    assert (call.sent.path, call.sent.query) == ("/v1/a%2Fb", "c=%7e&d")
    assert call.sent.headers["x-two"] == "1, 2"


async def test_masked_whatever_the_body(http: aiohttp.ClientSession, processor: Processor) -> None:
    async with http.post("/tokens", json={"number": VISA, "type": "card"}) as reply:
        assert reply.status == 422
    [call] = processor.received
    assert (call.processor, call.masked) == ("checkout_com", {"number 1": f"•••• {VISA[-4:]}"})
    assert VISA not in repr(call)


async def test_a_key_is_its_accounts_own(http: aiohttp.ClientSession, processor: Processor) -> None:
    for authorization in ({}, {"Authorization": f"Bearer {OTHER_KEY}"}):
        headers = {"Idempotency-Key": "order-7"} | authorization
        async with http.post(INTENTS, data=payment(), headers=headers) as reply:
            assert reply.status == 200
    assert (processor.counts.charges, processor.counts.replays) == (2, 0)


# --- mishaps ------------------------------------------------------------------------------


@pytest.mark.parametrize("half", [False, True])
async def test_a_lost_answer(
    http: aiohttp.ClientSession, processor: Processor, *, half: bool
) -> None:
    processor.lose_next_answer(half=half)
    expected = aiohttp.ClientPayloadError if half else aiohttp.ServerDisconnectedError
    with pytest.raises(expected):
        async with http.post(INTENTS, data=payment()) as reply:
            await reply.read()
    assert processor.counts.charges == 1
    async with http.post(INTENTS, data=payment()) as reply:
        assert reply.status == 200


async def test_a_caller_that_hangs_up_amid_its_body_is_no_fault(
    processor: Processor, running: Running, ca_file: Path
) -> None:
    context = ssl.create_default_context(cafile=str(ca_file))
    for _ in range(2):
        _reader, writer = await asyncio.open_connection(running.host, running.port, ssl=context)
        head = f"POST /v1/tokens HTTP/1.1\r\nHost: {running.host}\r\nContent-Length: 99\r\n\r\n"
        writer.write(f"{head}card[number]={VISA}".encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    async with asyncio.timeout(10):
        while processor.counts.requests < 2:  # noqa: ASYNC110 - the other side tells no one
            await asyncio.sleep(0.01)
    assert (processor.received, processor.counts.faults) == ((), 0)


async def test_closed_before_reading(http: aiohttp.ClientSession, processor: Processor) -> None:
    processor.close_before_reading()
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await http.post(INTENTS, data=payment())
    assert processor.counts.charges == 0
    assert processor.received == ()


@pytest.mark.parametrize("after_charge", [False, True])
async def test_a_failure(
    http: aiohttp.ClientSession, processor: Processor, *, after_charge: bool
) -> None:
    processor.fail_next(503, after_charge=after_charge)
    async with http.post(INTENTS, data=payment()) as reply:
        assert reply.status == 503
        assert (await reply.json())["error"]["type"] == "api_error"
    assert processor.counts.charges == after_charge


async def test_a_redirect(http: aiohttp.ClientSession, processor: Processor) -> None:
    processor.redirect_next("https://elsewhere.example/v1/payment_intents")
    async with http.post(INTENTS, data=payment(), allow_redirects=False) as reply:
        assert reply.status == 307
        assert reply.headers["Location"] == "https://elsewhere.example/v1/payment_intents"
    assert processor.counts.charges == 0


async def test_held_at_the_answer_the_charge_is_made(
    http: aiohttp.ClientSession, processor: Processor
) -> None:
    async def post() -> int:
        async with http.post(INTENTS, data=payment()) as reply:
            return reply.status

    processor.hold(at="answer")
    async with asyncio.TaskGroup() as group:
        call = group.create_task(post())
        await processor.holding(1)
        assert processor.counts.charges == 1
        assert not call.done()
        processor.release()
    assert call.result() == 200


async def test_a_held_call_outlives_its_caller(
    http: aiohttp.ClientSession, processor: Processor
) -> None:
    processor.hold()
    caller = asyncio.create_task(http.post(INTENTS, data=payment()))
    await processor.holding(1)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    processor.release()
    async with http.post(INTENTS, data=payment()) as reply:
        assert reply.status == 200
    assert processor.counts.charges == 2


async def test_slow_answers_arrive_whole(http: aiohttp.ClientSession, processor: Processor) -> None:
    processor.delay_seconds = 0.05
    processor.drip(200, pause_seconds=0.001)
    async with http.post(INTENTS, data=payment()) as reply:
        assert (await reply.json())["status"] == "succeeded"
    assert processor.delay_seconds == 0.05
    processor.drip(None)


async def test_echo(http: aiohttp.ClientSession, processor: Processor) -> None:
    processor.echo_numbers(in_="body")
    async with http.post(INTENTS, data=payment()) as reply:
        assert VISA in await reply.text()
    processor.echo_numbers(in_="header")
    async with http.post(INTENTS, data=payment()) as reply:
        assert VISA in reply.headers["Request-Id"]
        assert VISA not in await reply.text()
    processor.echo_numbers(in_="error")
    async with http.post(INTENTS, data=payment()) as reply:
        assert reply.status == 402
        assert VISA in (await reply.json())["error"]["message"]
    processor.behave()
    async with http.post(INTENTS, data=payment()) as reply:
        assert VISA not in await reply.text()


# --- what is remembered, and what is not --------------------------------------------------


async def test_remembers_masked(http: aiohttp.ClientSession, processor: Processor) -> None:
    async with http.post(INTENTS, data=payment(), headers={"Idempotency-Key": "order-8"}):
        pass
    [call] = processor.received
    assert (call.account, call.idempotency_key) == ("acct_1", "order-8")
    assert call.masked == {
        "payment_method_data[card][number]": f"•••• {VISA[-4:]}",
        "payment_method_data[card][cvc]": "•••",
    }
    assert call.processor == "stripe"
    assert call.sent is not None
    assert dict(parse_qsl(call.sent.body.decode())) == payment()
    processor.forget_received()
    assert (processor.received, processor.numbers_received) == ((), ())


async def test_keeps_no_number_unless_told(
    server_context: ssl.SSLContext, sdk: Sdk, clock: Clock
) -> None:
    processor = Processor(["sk_test_first_shop"], now=clock)
    async with processor.serve(server_context) as running:
        await sdk(running.url, "tokens.create", card=card())
    [call] = processor.received
    assert call.sent is None
    assert VISA not in str(call.masked)
    with pytest.raises(RuntimeError):
        _ = processor.numbers_received


async def test_logs_nothing(
    http: aiohttp.ClientSession,
    processor: Processor,
    running: Running,
    ca_file: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    processor.lose_next_answer()
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await http.post(INTENTS, data=payment())
    async with http.post(INTENTS, data=payment(DECLINED)) as reply:
        assert reply.status == 402
    context = ssl.create_default_context(cafile=str(ca_file))
    reader, writer = await asyncio.open_connection(running.host, running.port, ssl=context)
    writer.write(f"POST {VISA} HTTP/9.9 {VISA}\r\nHost: {VISA}\r\n\r\n".encode())
    await reader.read()
    writer.close()
    await writer.wait_closed()
    assert VISA not in caplog.text
    assert DECLINED not in caplog.text


async def test_a_bug_of_its_own_says_nothing(
    server_context: ssl.SSLContext, sdk: Sdk, ca_file: Path
) -> None:
    def broken_clock() -> None:
        raise LookupError(VISA)

    processor = Processor(["sk_test_first_shop"], now=broken_clock)  # type: ignore[arg-type]  # on purpose
    async with processor.serve(server_context) as running:
        reply = await sdk(running.url, "tokens.create", card=card())
    assert (reply.error, reply.status) == ("APIError", 500)
    assert VISA not in json.dumps(reply.body)
    assert processor.counts.faults == 1


async def test_listens_on_loopback_only(running: Running) -> None:
    assert running.host == "127.0.0.1"
    assert running.url == f"https://127.0.0.1:{running.port}"


async def test_ends_although_a_call_is_held(
    server_context: ssl.SSLContext, clock: Clock, ca_file: Path
) -> None:
    processor = Processor(["sk_test_first_shop"], now=clock)
    context = ssl.create_default_context(cafile=str(ca_file))
    headers = {"Authorization": "Bearer sk_test_first_shop"}
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context), headers=headers
    ) as http:
        async with asyncio.timeout(10), processor.serve(server_context) as running:
            processor.hold()
            call = asyncio.create_task(http.post(f"{running.url}{INTENTS}", data=payment()))
            await processor.holding(1)
        async with await call as reply:
            assert reply.status == 200
