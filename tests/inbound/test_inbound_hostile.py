"""Hostile senders in front of a merchant's endpoint: what they try reaches nobody else."""

import asyncio

import pytest

from tests.cards import VISA
from tests.flows.merchant import FORM
from tests.inbound.client import Shopper
from tests.inbound.framing import direct, hang_up

pytestmark = pytest.mark.embedded

LARGE = 6
SERVED_MIN = 2 * LARGE
"""One gets in between two bodies anyway."""
SLOW = 136
"""More than a route has places."""


@pytest.mark.guards("T-08")
async def test_slow_uploads_keep_nobody_from_the_endpoint(shopper: Shopper) -> None:
    inbound = shopper.stage
    way = direct(inbound.port, inbound.hostname, inbound.ca_file)
    head = (
        f"POST /v/upload HTTP/1.1\r\nHost: {inbound.hostname}\r\nContent-Type: text/plain\r\n"
        "Content-Length: 40000000\r\n\r\n"
    )
    writers: list[asyncio.StreamWriter] = []

    async def begin() -> None:
        _, writer = await way.connect()
        writers.append(writer)
        writer.write(head.encode() + b"x" * 20_000)  # enough for twenty seconds
        await writer.drain()

    try:
        for _ in range(SLOW // 8):
            await asyncio.gather(*(begin() for _ in range(8)))
        assert (await shopper.send("GET", "/v/page")).status == 200
    finally:
        await asyncio.gather(*map(hang_up, writers))


@pytest.mark.guards("T-08")
async def test_bodies_that_take_long_to_read_hold_up_nobody(shopper: Shopper) -> None:
    """As many values as a body may have: a third of a second of work each, on a quiet machine."""
    body = b'{"a":[' + b"1," * 99_000 + b"1]}"
    headers = {"Content-Type": "application/json"}
    asking = asyncio.gather(
        *(shopper.send("POST", "/form/pay", body, headers) for _ in range(LARGE))
    )
    served = 0
    while not asking.done():
        assert (await shopper.send("GET", "/v/page")).status == 200
        served += 1
    assert {reply.status for reply in await asking} == {200}
    assert served > SERVED_MIN


@pytest.mark.guards("T-12")
@pytest.mark.parametrize("name", ["Number", "+number", "a=1;number", "number%00x"])
async def test_no_spelling_of_a_declared_name_gets_past_it(shopper: Shopper, name: str) -> None:
    """The route's own policy would refuse it, too: in a query of a bodyless call, say."""
    body = f"{name}={VISA}".encode()
    refusal = await shopper.refusal("/form/pay", body, {"Content-Type": FORM})
    assert refusal[0] == 422
    code = await shopper.refusal("/form/pay", f"{name}=&Cvc=123".encode(), {"Content-Type": FORM})
    assert code == (422, "card_field_refused", "cvc", "spelled_otherwise")


@pytest.mark.guards("T-05")
@pytest.mark.parametrize("path", ["/;x/form/pay", "/;x=1;y/form/pay", "/%3Bx/form/pay"])
async def test_parameters_of_a_path_lead_to_no_other_route(shopper: Shopper, path: str) -> None:
    body = f"number={VISA}".encode()
    refusal = await shopper.refusal(path, body, {"Content-Type": FORM})
    assert refusal[:2] == (400, "malformed_request")
