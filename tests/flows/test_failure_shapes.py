"""What an SDK hears when a call to its processor comes to nothing: for each processor, its own.

Refused by us, not sent, unknown: told apart by status and headers, and by a document where its
SDK reads one. Where every document of a processor's comes with 200, what may have been charged
gets none, for such a document would read as "not charged".
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from gateway.arrival import OWN_IDEMPOTENCY_HEADER
from tests.cards import VISA
from tests.flows.conftest import Witness
from tests.flows.egress import HASTY_SECONDS, SHAPED, Egress, Way
from tests.flows.merchant import JSON, Merchant, new_idempotency_key
from tests.flows.wire import Reply
from tests.gateway.preset_bodies import PRESETS, Case, cases
from tests.gateway.raw_servers import Connection, once, repeating, reply, serving

pytestmark = pytest.mark.embedded

BOM = b"\xef\xbb\xbf"
NO_DOCUMENT = ("authorize_net", "worldpay_wpg")
LATER = ("braintree-xml", "braintree-json")
"""Whose SDK knows no 409, and takes 422 for a final answer."""
EXPIRY = {"exp_month": "12", "exp_year": "2034"}


@dataclass(frozen=True)
class Order:
    """A call with a token, as one processor's clients write it."""

    method: str
    path: str
    content_type: str
    body: Callable[[str], bytes]


def _of(case: Case) -> Order:
    call = case.call(b"")
    return Order(
        call.method,
        call.path,
        case.content_type,
        lambda token: case.body({"number": token, **EXPIRY}),
    )


def _orders() -> dict[str, Order]:
    """One of each processor in each of its formats; where no card is declared, a plain payment."""
    found: dict[str, Order] = {}
    for case in cases():
        if case.preset.name in SHAPED and not case.in_query:
            found.setdefault(f"{case.preset.name}-{case.format.value}", _of(case))
    for name in SHAPED:
        if not any(each.startswith(f"{name}-") for each in found):
            found[f"{name}-json"] = Order("POST", "/v2/payments", JSON, _plain)
    return found


def _plain(_token: str) -> bytes:
    return b'{"amount":{"currency":"EUR","value":"10.00"}}'


ORDERS = _orders()


def _xml(answer: Reply, word: str) -> str:
    document = ET.fromstring(answer.body.decode("utf-8-sig"))  # noqa: S314 - our own
    texts = [each.text or "" for each in document.iter() if each.tag.endswith(word)]
    return texts[0].rpartition("(")[2].rstrip(")")


def _json(answer: Reply) -> Any:  # noqa: ANN401 - any document
    return json.loads(answer.body.decode("utf-8-sig"))


CODES: dict[str, Callable[[Reply], str]] = {
    "adyen-json": lambda a: str(_json(a)["errorCode"]),
    "authorize_net-json": lambda a: str(_json(a)["panward"]),
    "authorize_net-xml": lambda a: _xml(a, "text"),
    "braintree-graphql": lambda a: str(_json(a)["errors"][0]["extensions"]["panward"]),
    "braintree-json": lambda a: str(_json(a)["apiErrorResponse"]["panward"]),
    "braintree-xml": lambda a: _xml(a, "panward"),
    "checkout_com-json": lambda a: str(_json(a)["error_codes"][0]),
    "mollie-json": lambda a: str(_json(a)["title"]),
    "paypal-json": lambda a: str(_json(a)["details"][0]["issue"]),
    "razorpay-form": lambda a: str(_json(a)["error"]["reason"]),
    "razorpay-json": lambda a: str(_json(a)["error"]["reason"]),
    "square-json": lambda a: str(_json(a)["errors"][0]["code"]),
    "stripe-form": lambda a: str(_json(a)["error"]["code"]),
    "worldpay_access-json": lambda a: str(_json(a)["errorName"]),
    "worldpay_wpg-xml": lambda a: _xml(a, "error"),
}
"""Where each processor's document has the code of an error."""

REFUSED = {
    "authorize_net-json": 200,
    "authorize_net-xml": 200,
    "worldpay_wpg-xml": 200,
    "braintree-graphql": 200,
    "stripe-form": 400,
    "worldpay_access-json": 400,
    "razorpay-form": 400,
    "razorpay-json": 400,
    "square-json": 400,
}
"""The status of a refusal, where it is not 422."""


def is_told(answer: Reply, state: str, *, status: int, answered: int | None = None) -> bool:
    """Whether status and headers say this; the time that it took is in every answer."""
    processor = answer.headers.get("Panward-Processor-Status")
    return (
        (answer.status, answer.state) == (status, state)
        and processor == (None if answered is None else str(answered))
        and ";dur=" in answer.headers["Server-Timing"]
        and "Location" not in answer.headers
    )


async def called(
    way: Way, order: str, body: bytes, *, at: str = "shape", headers: Sequence[tuple[str, str]] = ()
) -> Reply:
    one = ORDERS[order]
    return await way(
        f"{at}_{order.partition('-')[0]}",
        one.path,
        body,
        verb=one.method,
        content_type=one.content_type,
        headers=headers,
    )


async def calmed(way: Way, order: str, body: bytes) -> None:
    """End a run of failures, which else would have the processor left alone."""
    refusing = repeating(reply(b"no", "Content-Type: text/plain", status="404 No"))
    async with serving(refusing, way.egress.context, port=way.egress.port):
        answer = await called(way, order, body)
    assert (answer.status, answer.headers["Panward-Processor-Status"]) == (404, "404")


def test_every_shape_is_looked_at() -> None:
    assert set(CODES) == set(ORDERS)
    assert set(REFUSED) < set(ORDERS)


@pytest.mark.parametrize("order", ORDERS)
async def test_a_refusal(
    way: Way, at_egress: Merchant, nothing_happens: Witness, order: str
) -> None:
    token = await at_egress.token()
    body = ORDERS[order].body(VISA)
    code = "raw_card_number"
    if VISA.encode() not in body:
        body, code = f'{{"amount":"{token}"}}'.encode(), "token_undeclared"
    async with nothing_happens():
        answer = await called(way, order, body)
    assert is_told(answer, "not_sent", status=REFUSED.get(order, 422))
    assert CODES[order](answer) == code
    assert answer.body.startswith(BOM) is order.startswith("authorize_net")


@pytest.mark.guards("F-24")
@pytest.mark.parametrize("order", ORDERS)
async def test_what_may_have_been_charged(
    egress: Egress, way: Way, at_egress: Merchant, order: str
) -> None:
    """No answer, half of one, the processor's own failure: nothing that reads as "not charged"."""
    token = await at_egress.token()
    body = ORDERS[order].body(token)

    async def lost(connection: Connection) -> None:
        await connection.request()
        connection.reset()

    half = once(b"HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\n{")
    for script, answered in ((lost, None), (half, 201)):
        async with serving(script, egress.context, port=egress.port) as server:
            answer = await called(way, order, body)
        assert len(server.requests) == 1
        if order.partition("-")[0] in NO_DOCUMENT:
            assert is_told(answer, "unknown", status=504, answered=answered)
            assert answer.body == b""
        else:
            assert is_told(answer, "unknown", status=502, answered=answered)
            assert CODES[order](answer) == "upstream_reset"
        record = await at_egress.authorization(answer)
        assert (record["state"], record["attempts"][0]["reason"]) == ("unknown", "upstream_reset")
    await calmed(way, order, body)
    failed = repeating(reply(b"oh no", "Content-Type: text/plain", status="500 Oh"))
    async with serving(failed, egress.context, port=egress.port):
        answer = await called(way, order, body)
    assert is_told(answer, "unknown", status=500, answered=500)
    assert answer.body == b"oh no"


@pytest.mark.guards("T-26")
@pytest.mark.parametrize("order", ORDERS)
async def test_a_repeat_of_what_is_under_way(
    egress: Egress, way: Way, at_egress: Merchant, order: str
) -> None:
    """Nothing that an SDK takes for a final "no": the first may be charged a moment later."""
    idempotency = PRESETS[order.partition("-")[0]].idempotency
    token = await at_egress.token()
    body, headers = ORDERS[order].body(token), []
    if idempotency.field is None:
        headers = [(idempotency.header or OWN_IDEMPOTENCY_HEADER, new_idempotency_key())]
    else:
        key = {idempotency.field: new_idempotency_key()}
        body = json.dumps(json.loads(body) | key).encode()
    repeated = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await repeated.wait()
        await connection.say(reply(b"no", "Content-Type: text/plain", status="404 No"))

    async with serving(script, egress.context, port=egress.port) as server:
        first = asyncio.create_task(called(way, order, body, headers=headers))
        await server.arrived.wait()
        again = await called(way, order, body, headers=headers)
        repeated.set()
        assert (await first).status == 404
    assert len(server.requests) == 1
    assert is_told(again, "unknown", status=503 if order in LATER else 409)
    assert int(again.headers["Retry-After"]) >= 1
    if order.partition("-")[0] in NO_DOCUMENT:
        assert again.body == b""
    else:
        assert CODES[order](again) == "idempotency_key_in_flight"


@pytest.mark.guards("F-23")
@pytest.mark.parametrize("order", [f"{name}-xml" for name in NO_DOCUMENT] + ["stripe-form"])
async def test_a_processor_that_does_not_answer_in_time(
    egress: Egress, way: Way, at_egress: Merchant, order: str
) -> None:
    token, one = await at_egress.token(), ORDERS[order]
    name = order.partition("-")[0]
    route = "hasty" if name == "stripe" else f"hasty_{name}"

    async def silent(connection: Connection) -> None:
        await connection.request()
        await connection.silence()

    async with serving(silent, egress.context, port=egress.port):
        answer = await way(route, one.path, one.body(token), content_type=one.content_type)
    assert is_told(answer, "unknown", status=504)
    assert (answer.body == b"") is (name in NO_DOCUMENT)
    processor = float(answer.headers["Server-Timing"].partition("processor;dur=")[2].split(",")[0])
    assert HASTY_SECONDS * 900 < processor < HASTY_SECONDS * 3000


ANET_APPROVED = "<messages><resultCode>Ok</resultCode></messages>"
ANET_APPROVED += "<transactionResponse><responseCode>1</responseCode></transactionResponse>"
WPG_APPROVED = "<reply><orderStatus><payment><lastEvent>AUTHORISED</lastEvent></payment>"
APPROVED = {
    "authorize_net-json": '{"transactionResponse":{"responseCode":"1"},"n":"LEAK"}',
    "authorize_net-xml": f"<r>{ANET_APPROVED}<n>LEAK</n></r>",
    "worldpay_wpg-xml": f"<paymentService>{WPG_APPROVED}<n>LEAK</n></orderStatus></reply>"
    "</paymentService>",
    "stripe-form": '{"id":"1","status":"succeeded","n":"LEAK"}',
}
"""What an approval looks like, with a place for what must not come back."""


@pytest.mark.guards("F-28", "T-40")
@pytest.mark.parametrize("order", APPROVED)
async def test_an_approval_that_is_withheld_does_not_read_as_not_charged(
    egress: Egress, way: Way, at_egress: Merchant, order: str
) -> None:
    token = await at_egress.token()
    body, leak = ORDERS[order].body(token), APPROVED[order].replace("LEAK", VISA[::-1])
    content_type = "application/json" if leak[0] == "{" else "text/xml"
    script = repeating(reply(leak.encode(), f"Content-Type: {content_type}"))
    async with serving(script, egress.context, port=egress.port):
        answer = await called(way, order, body)
    assert is_told(answer, "completed", status=502, answered=200)
    assert (answer.body == b"") is (order != "stripe-form")
    assert (await at_egress.authorization(answer))["result"] in ("approved", "stored")


@pytest.mark.guards("F-21")
@pytest.mark.parametrize("order", {each.partition("-")[0]: each for each in ORDERS}.values())
async def test_what_was_not_sent_and_what_is_not_even_tried(
    egress: Egress, way: Way, at_egress: Merchant, order: str
) -> None:
    """Nobody listens; after five times of that, the processor is left alone for a moment."""
    token, first = await at_egress.token(), way.kind == "base_url"
    body = ORDERS[order].body(token)
    is_no_error = order.partition("-")[0] in NO_DOCUMENT
    answers = [await called(way, order, body, at="down") for _ in range(6 if first else 1)]
    *unreachable, left_alone = answers
    assert not first or len(unreachable) == 5
    for answer in unreachable:
        assert is_told(answer, "not_sent", status=200 if is_no_error else 502)
        assert CODES[order](answer) == "upstream_unreachable"
        record = await at_egress.authorization(answer)
        assert (record["state"], len(record["attempts"])) == ("not_sent", 1)
    if CODES[order](left_alone) == "upstream_unavailable":  # else its moment is over
        assert is_told(left_alone, "not_sent", status=200 if is_no_error else 503)
        assert int(left_alone.headers["Retry-After"]) >= 1
        assert "Panward-Authorization" not in left_alone.headers
    assert CODES[order](left_alone) == "upstream_unavailable" or not first
