"""How much may leave, and whether anything may: rates, crowds, sizes, and a processor that is down.

Whoever is refused is told so in the processor's shape, and when to come back; nobody else is.
"""

import asyncio
import gzip
from collections.abc import AsyncIterator

import pytest

from tests.flows.conftest import Witness
from tests.flows.deployment import Deployment, eventually
from tests.flows.egress import (
    Egress,
    Way,
    metric,
    new_egress_account,
    until_metric,
    way_of,
)
from tests.flows.merchant import (
    INTENTS,
    METHODS,
    Account,
    Merchant,
    form,
    method,
    new_idempotency_key,
    payment,
)
from tests.flows.processor import ProcessorControl
from tests.flows.wire import Reply
from tests.gateway.raw_servers import Connection, repeating, reply, serving

pytestmark = pytest.mark.embedded

MEGABYTE = 1_048_576
APPROVED = reply(b'{"id":"pi_1","status":"succeeded"}', "Content-Type: application/json")
LEFT_ALONE = "upstream_unavailable"


@pytest.fixture(scope="module")
def neighbor(deployment: Deployment) -> Account:
    return asyncio.run(new_egress_account(deployment))


@pytest.fixture
async def neighbors_way(
    deployment: Deployment, egress: Egress, way: Way, neighbor: Account
) -> AsyncIterator[Way]:
    """Give another tenant that calls the same way."""
    async with way_of(way.kind, deployment, egress, neighbor.secret_key) as other:
        yield other


def is_rate_limited(answer: Reply, state: str = "not_sent") -> bool:
    return (
        (answer.status, answer.error["code"]) == (429, "rate_limited")
        and answer.error["type"] == "invalid_request_error"
        and answer.state == state
        and answer.headers["Stripe-Should-Retry"] == "true"
        and 1 <= int(answer.headers["Retry-After"]) <= 3
        and "Panward-Processor-Status" not in answer.headers
        and "Server-Timing" in answer.headers
    )


# --- rates and crowds ---------------------------------------------------------------------


async def test_a_tenant_s_rate_is_its_own(
    way: Way, neighbors_way: Way, at_egress: Merchant, nothing_happens: Witness
) -> None:
    """Calls that are no operation count as well; a repeat is no exception."""
    route = "rated" if way.kind == "base_url" else "rated_in_tunnel"
    token, key = await at_egress.token(), [("Idempotency-Key", new_idempotency_key())]
    body = form(payment(token))
    assert (await way(route, INTENTS, body, headers=key)).status == 200
    for _ in range(2):
        assert (await way(route, "/v1/events", verb="GET")).status == 404
    async with nothing_happens():
        # Nobody has looked what became of the first with this key: it may be a charge.
        assert is_rate_limited(await way(route, INTENTS, body, headers=key), "unknown")
        assert is_rate_limited(await way(route, METHODS, form(method(token))))
        assert is_rate_limited(await way(route, "/v1/events", verb="GET"))
    assert (await neighbors_way(route, "/v1/events", verb="GET")).status == 404


async def test_a_tenant_s_crowd_is_its_own(
    way: Way, neighbors_way: Way, at_egress: Merchant, processor: ProcessorControl
) -> None:
    """Two at a time here; a third is refused at once, and let in when one of them is done."""
    token, before = await at_egress.token(), processor.counts
    body = form(payment(token))
    processor.do("hold")
    async with asyncio.TaskGroup() as group:
        first = [group.create_task(way("crowded", INTENTS, body)) for _ in range(2)]
        await asyncio.to_thread(processor.until_held, before, calls=2)
        for verb, path, sent in (("POST", INTENTS, body), ("GET", "/v1/events", None)):
            assert is_rate_limited(await way("crowded", path, sent, verb=verb))
        other = group.create_task(neighbors_way("crowded", "/v1/tokens", form({"a": 1})))
        await asyncio.to_thread(processor.until_held, before, calls=3)
        processor.do("release")
    assert [each.result().status for each in first] == [200, 200]
    assert other.result().headers["Panward-Processor-Status"] == str(other.result().status)
    assert (await way("crowded", INTENTS, body)).status == 200
    assert processor.counts.charges == before.charges + 3


# --- a processor that is down -------------------------------------------------------------


def is_left_alone(answer: Reply, state: str) -> bool:
    return (
        (answer.status, answer.error["code"]) == (503, LEFT_ALONE)
        and answer.error["type"] == "api_error"
        and answer.state == state
        and answer.headers["Stripe-Should-Retry"] == "true"
        and int(answer.headers["Retry-After"]) >= 1
        and "Panward-Processor-Status" not in answer.headers
    )


def circuit(route: str, state: str) -> str:
    return f'panward_circuit_state{{route="{route}",state="{state}"}}'


@pytest.mark.guards("F-21")
async def test_a_processor_that_is_down_is_left_alone_and_asked_again(
    egress: Egress, way: Way, at_egress: Merchant, nothing_happens: Witness
) -> None:
    """After five refused connections nothing is opened for it; one probe brings it back."""
    route = "broken" if way.kind == "base_url" else "broken_in_tunnel"
    body = form(payment(await at_egress.token()))
    assert await metric(at_egress, circuit(route, "closed")) == 1
    for number in range(5):
        sent = (INTENTS, body) if number % 2 else ("/v1/customers", form({"name": "x"}))
        answer = await way(route, *sent)
        assert (answer.status, answer.error["code"]) == (502, "upstream_unreachable")
    async with (
        nothing_happens(),
        serving(repeating(APPROVED), egress.context, port=egress.port) as s,
    ):
        for _ in range(2):
            answer = await way(route, INTENTS, body)
            assert is_left_alone(answer, "not_sent")
            assert "Panward-Authorization" not in answer.headers
            assert is_left_alone(await way(route, "/v1/events", verb="GET"), "not_sent")
        assert s.connections == 0
    await until_metric(at_egress, circuit(route, "open"), 1)

    async def probed() -> Reply | None:
        answer = await way(route, "/v1/customers", form({"name": "x"}))
        return None if answer.error["code"] == LEFT_ALONE else answer

    assert (await eventually(probed, "no probe")).error["code"] == "upstream_unreachable"
    assert is_left_alone(await way(route, INTENTS, body), "not_sent")
    async with serving(repeating(APPROVED), egress.context, port=egress.port):

        async def back() -> Reply | None:
            answer = await way(route, INTENTS, body)
            assert answer.status == 200 or is_left_alone(answer, "not_sent")
            return answer if answer.status == 200 else None

        await eventually(back, "it does not come back")
        answers = await asyncio.gather(*(way(route, INTENTS, body) for _ in range(5)))
    assert [answer.status for answer in answers] == [200] * 5
    await until_metric(at_egress, circuit(route, "closed"), 1)
    assert await metric(at_egress, circuit(route, "open")) == 0


@pytest.mark.guards("F-21", "F-24")
@pytest.mark.parametrize("way", ["base_url"], indirect=True)  # it is the same circuit
async def test_what_may_have_been_charged_stays_unknown_while_its_processor_is_left_alone(
    egress: Egress, way: Way, at_egress: Merchant
) -> None:
    """Of the call before, "not sent now" says nothing."""
    token, key = await at_egress.token(), [("Idempotency-Key", new_idempotency_key())]
    body = form(payment(token))

    async def lost(connection: Connection) -> None:
        await connection.request()
        connection.reset()

    async with serving(lost, egress.context, port=egress.port) as server:
        first = await way("broken_later", INTENTS, body, headers=key)
    assert (first.status, first.state, len(server.requests)) == (502, "unknown", 1)
    for _ in range(4):
        await way("broken_later", "/v1/events", verb="GET")
    again = await way("broken_later", INTENTS, body, headers=key)
    assert is_left_alone(again, "unknown")
    assert again.headers["Panward-Authorization"] == first.headers["Panward-Authorization"]
    record = await at_egress.authorization(first)
    assert (record["state"], len(record["attempts"])) == ("unknown", 1)

    async def repeated() -> Reply | None:
        answer = await way("broken_later", INTENTS, body, headers=key)
        assert answer.status == 200 or is_left_alone(answer, "unknown")
        return answer if answer.status == 200 else None

    async with serving(repeating(APPROVED), egress.context, port=egress.port) as server:
        assert (await eventually(repeated, "still left alone")).state == "completed"
        assert len(server.requests) == 1


# --- sizes --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [100_000, MEGABYTE])
async def test_a_large_body_goes_through_and_its_card_is_found(
    egress: Egress, way: Way, at_egress: Merchant, size: int
) -> None:
    token = await at_egress.token()
    start = form(payment(token)) + b"&metadata[note]="
    body = start + b"x" * (size - len(start))
    async with serving(repeating(APPROVED), egress.context, port=egress.port) as server:
        answer = await way("raw", INTENTS, body)
    assert (answer.status, answer.state) == (200, "completed")
    ((_, _, sent),) = [request.partition(b"\r\n\r\n") for request in server.requests]
    assert len(sent) == size - len(token) + 16
    assert token.encode() not in sent


@pytest.mark.guards("F-33")
async def test_a_body_that_is_too_large_is_refused_in_the_processor_s_shape(
    egress: Egress, way: Way, at_egress: Merchant, nothing_happens: Witness
) -> None:
    token = await at_egress.token()
    start = form(payment(token)) + b"&metadata[note]="
    async with (
        nothing_happens(),
        serving(repeating(APPROVED), egress.context, port=egress.port) as server,
    ):
        for path in (INTENTS, "/v1/customers"):
            answer = await way("raw", path, start + b"x" * (MEGABYTE + 1 - len(start)))
            assert answer.error["code"] == "body_too_large"
            assert (answer.status, answer.state) == (400, "not_sent")
            assert "Server-Timing" in answer.headers
        assert server.connections == 0


@pytest.mark.guards("F-29")
@pytest.mark.parametrize("framing", ["declared", "in_chunks"])
async def test_a_reply_that_is_too_large_is_not_read(
    egress: Egress, way: Way, at_egress: Merchant, framing: str
) -> None:
    token = await at_egress.token()

    async def script(connection: Connection) -> None:
        await connection.request()
        if framing == "declared":
            await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MEGABYTE + 1))
            await connection.say(b"x" * 65536)
            return
        await connection.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(64):  # four times what it may be
            await connection.say(b"10000\r\n" + b"x" * 65536 + b"\r\n")

    async with serving(script, egress.context, port=egress.port):
        paid = await way("raw", METHODS, form(method(token)))
        looked = await way("raw", "/v1/events", verb="GET")
    for answer in (paid, looked):
        assert (answer.status, answer.error["code"]) == (502, "upstream_too_large")
        assert answer.state == "unknown"


@pytest.mark.guards("T-45", "F-29")
@pytest.mark.parametrize("status", ["301 A", "302 A", "303 A", "307 A", "308 A"])
async def test_nothing_follows_a_redirect(
    egress: Egress, way: Way, at_egress: Merchant, status: str
) -> None:
    """To the same host or another: it would take the card there."""
    token = await at_egress.token()
    where = f"Location: https://localhost:{egress.port}/sink"
    async with serving(
        repeating(reply(b"", where, status=status)), egress.context, port=egress.port
    ) as server:
        paid = await way("raw", METHODS, form(method(token)))
        looked = await way("raw", "/v1/events", verb="GET")
    for answer in (paid, looked):
        assert (answer.status, answer.error["code"]) == (502, "upstream_redirect")
        assert answer.state == "unknown"
        assert "Location" not in answer.headers
    assert len(server.requests) == 2
    assert not [each for each in server.requests if b"/sink" in each.partition(b"\r\n")[0]]


@pytest.mark.guards("T-09")
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "gzip, gzip"])
async def test_a_compressed_call_is_refused_before_it_is_read(
    way: Way, at_egress: Merchant, nothing_happens: Witness, coding: str
) -> None:
    """Nobody could find the card in it; what it holds is not looked at, by either way in."""
    body = gzip.compress(form(payment(await at_egress.token())))
    async with nothing_happens():
        answer = await way("stripe", INTENTS, body, headers=[("Content-Encoding", coding)])
    assert answer.status == 415
    assert answer.problem["code"] == "unsupported_media_type"
    assert "Panward-Processor-Status" not in answer.headers
