"""What processors say back: a number that was sent never returns, and all else is left as it is.

That no card number is in an answer, in any encoding that a test can think of, is asserted for
every answer of these tests (`Wire`). Here is what stands in its place, byte for byte.
"""

import base64
import json
from collections.abc import Callable
from itertools import product
from typing import get_args

import aiohttp
import pytest

from gateway.sandbox.echo import EchoPlace
from tests.cards import VISA, VISA_ALT, luhn_completed
from tests.flows.deployment import Deployment
from tests.flows.egress import Egress, Way, metric, until_metric
from tests.flows.merchant import (
    FORM,
    INTENTS,
    JSON,
    METHODS,
    Merchant,
    form,
    method,
    new_idempotency_key,
    payment,
)
from tests.flows.processor import ProcessorControl
from tests.gateway.raw_servers import Connection, Script, repeating, serving
from tests.gateway.raw_servers import reply as written

pytestmark = [pytest.mark.embedded, pytest.mark.guards("T-40", "F-28")]

XML = "application/xml"
BOM = b"\xef\xbb\xbf"
ECHO = 'panward_scan_hits_total{kind="echo",place="out_reply"}'
CARD_LIKE = 'panward_scan_hits_total{kind="card_like",place="out_reply"}'
ANET = "AnetApi/xml/v1/schema/AnetApiSchema.xsd"

# --- calls of several processors ----------------------------------------------------------


def braintree_xml(token: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<transaction><type>sale</type>'
        f"<amount>10.00</amount><credit-card><number>{token}</number><cvv>000</cvv>"
        "<expiration-date>12/2034</expiration-date></credit-card></transaction>"
    ).encode()


def braintree_json(token: str) -> bytes:
    card = {"number": token, "expiration_date": "12/2034", "cvv": "000"}
    order = {"type": "sale", "amount": "10.00", "credit_card": card}
    return json.dumps({"transaction": order}).encode()


def graphql(token: str) -> bytes:
    query = """mutation Store($input: TokenizeCreditCardInput!) {
      tokenizeCreditCard(input: $input) { paymentMethod { id } } }"""
    card = {"number": token, "expirationMonth": "12", "expirationYear": "2034", "cvv": "000"}
    return json.dumps({"query": query, "variables": {"input": {"creditCard": card}}}).encode()


def authorize_net_xml(key: str, token: str) -> bytes:
    return (
        f'<?xml version="1.0" encoding="utf-8"?><createTransactionRequest xmlns="{ANET}">'
        f"<merchantAuthentication><name>shop</name><transactionKey>{key}</transactionKey>"
        "</merchantAuthentication><transactionRequest>"
        "<transactionType>authCaptureTransaction</transactionType><amount>5</amount>"
        f"<payment><creditCard><cardNumber>{token}</cardNumber>"
        "<expirationDate>2034-12</expirationDate><cardCode>000</cardCode></creditCard></payment>"
        "</transactionRequest></createTransactionRequest>"
    ).encode()


def authorize_net_json(key: str, token: str) -> bytes:
    card = {"cardNumber": token, "expirationDate": "2034-12", "cardCode": "000"}
    order = {
        "merchantAuthentication": {"name": "shop", "transactionKey": key},
        "transactionRequest": {
            "transactionType": "authCaptureTransaction",
            "amount": "5",
            "payment": {"creditCard": card},
        },
    }
    return json.dumps({"createTransactionRequest": order}).encode()


def adyen(token: str) -> bytes:
    card = {"type": "scheme", "number": token, "expiryMonth": "12", "expiryYear": "2034"}
    order = {
        "amount": {"currency": "EUR", "value": 1099},
        "reference": "order-1",
        "merchantAccount": "ShopCOM",
        "paymentMethod": card | {"cvc": "000", "holderName": "J. Smith"},
        "returnUrl": "https://shop.example/back",
    }
    return json.dumps(order).encode()


def checkout_com(token: str) -> bytes:
    card = {"type": "card", "number": token, "expiry_month": 12, "expiry_year": 2034, "cvv": "000"}
    return json.dumps({"source": card, "amount": 1099, "currency": "EUR"}).encode()


Body = Callable[[str, str], bytes]  # of a key and a token
MERCHANT = "/merchants/acct_1/transactions"
ANET_URL = "/xml/v1/request.api"
CALLS: dict[str, tuple[str, str, str, Body]] = {
    "stripe": ("stripe", INTENTS, FORM, lambda _, token: form(payment(token, cvc="000"))),
    "adyen": ("adyen", "/v72/payments", JSON, lambda _, token: adyen(token)),
    "checkout_com": ("checkout_com", "/payments", JSON, lambda _, token: checkout_com(token)),
    "braintree_xml": ("braintree", MERCHANT, XML, lambda _, token: braintree_xml(token)),
    "braintree_json": ("braintree", MERCHANT, JSON, lambda _, token: braintree_json(token)),
    "braintree_graphql": ("braintree", "/graphql", JSON, lambda _, token: graphql(token)),
    "authorize_net_xml": ("authorize_net", ANET_URL, XML, authorize_net_xml),
    "authorize_net_json": ("authorize_net", ANET_URL, JSON, authorize_net_json),
}
VERSIONS = [("X-ApiVersion", "6"), ("Braintree-Version", "2018-09-10")]


async def test_no_processor_s_echo_comes_back_in_any_spelling(
    way: Way, at_egress: Merchant, processor: ProcessorControl
) -> None:
    """Each place and each spelling that the simulated processors know, in each of their formats."""
    echoes, expected = await metric(at_egress, ECHO), 0.0
    for call, place in product(CALLS, get_args(EchoPlace)):
        route, path, content_type, body = CALLS[call]
        token = await at_egress.token(VISA_ALT)
        processor.do("echo_numbers", **{"in": place})
        answer = await way(
            route, path, body(way.key, token), content_type=content_type, headers=VERSIONS
        )
        processor.behave()
        assert processor.numbers[-1] == VISA_ALT, (call, answer.body)
        head = "".join(value for value in answer.headers.values())
        has_token = token.encode() in answer.body or token in head
        if place.startswith("base64"):
            assert (answer.status, has_token) == (502, False), (call, place)
            assert answer.state == "completed"
            assert answer.headers["Panward-Processor-Status"] in ("200", "201")
        else:
            assert answer.status in ((402,) if place == "error" else (200, 201)), (call, place)
            is_gone = (place == "header" and route != "stripe") or not answer.body
            assert has_token is not is_gone, (call, place)
        expected += place != "error" or bool(answer.body)
    await until_metric(at_egress, ECHO, echoes + expected)


async def test_only_the_number_s_bytes_are_others_than_the_processor_s_own(
    deployment: Deployment, way: Way, at_egress: Merchant, processor: ProcessorControl
) -> None:
    """Asked by itself under the same idempotency key, it gives the same answer once more."""
    token, key = await at_egress.token(VISA), new_idempotency_key()
    headers = [("Idempotency-Key", key)]
    processor.do("echo_numbers", **{"in": "body"})
    answer = await way("stripe", INTENTS, form(payment(token)), headers=headers)
    connector = aiohttp.TCPConnector(ssl=deployment.client_context())
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(
            f"https://127.0.0.1:{deployment.parts.ports['sandbox']}{INTENTS}",
            data=form(payment(VISA)),
            headers={
                "Authorization": f"Bearer {deployment.processor_key}",
                "Content-Type": FORM,
                "Idempotency-Key": key,
            },
        ) as own,
    ):
        processors = await own.read()
    assert own.headers["Idempotent-Replayed"] == "true"
    assert processors.count(VISA.encode()) == 1
    assert answer.body == processors.replace(VISA.encode(), token.encode())


# --- byte for byte ------------------------------------------------------------------------

OTHER = luhn_completed("400011112222333")  # a card that nobody sent
NUMBER, CODE = b"{n}", b"{c}"
SPELLED = "".join(f"\\u{ord(digit):04x}" for digit in VISA).encode()
ENTITIES = "".join(f"&#x{ord(digit):x};" for digit in VISA).encode()
FOURS = " ".join(VISA[start : start + 4] for start in range(0, 16, 4)).encode()

CASES: dict[str, tuple[str, bytes, bytes]] = {
    "json, its white space and order": (
        JSON,
        BOM
        + b'{ "status" :"succeeded",\r\n\t"b":"{n}", "b":1.50e1,"a":"\\u00e9 {n}","id":"x" }\n ',
        BOM
        + b'{ "status" :"succeeded",\r\n\t"b":"{t}", "b":1.50e1,"a":"\\u00e9 {t}","id":"x" }\n ',
    ),
    "json, a number": (
        JSON,
        b'{"id":"x","status":"succeeded","card":[{n}, -1, {n}]}',
        b'{"id":"x","status":"succeeded","card":["{t}", -1, "{t}"]}',
    ),
    "json, escaped and in groups": (
        JSON,
        b'{"id":"x","status":"succeeded","a":"' + SPELLED + b'","b":"no. ' + FOURS + b'."}',
        b'{"id":"x","status":"succeeded","a":"{t}","b":"no. {t}."}',
    ),
    "json, with its code": (
        JSON,
        b'{"id":"x","status":"succeeded","cvc":{c},"cvv2":"{c}","amount":{c},"m":"{n} ({c})"}',
        b'{"id":"x","status":"succeeded","cvc":0,"cvv2":"000","amount":{c},"m":"{t} (000)"}',
    ),
    "graphql errors": (
        JSON,
        b'{"data":null,"errors":[{"message":"{n} with {c} is bad"}],"extensions":{"n":"{n}"}}',
        b'{"data":null,"errors":[{"message":"{t} with 000 is bad"}],"extensions":{"n":"{t}"}}',
    ),
    "xml, everywhere": (
        XML,
        BOM + b"<?xml version='1.0'?>\r\n<r  a=\"{n}\" >\n<!-- {n} --><n><![CDATA[{n}]]></n>\t"
        b"<cvv>{c}</cvv><e>" + ENTITIES + b"</e><m>Card {n}, {c}.</m><id>1</id></r >\n",
        BOM + b"<?xml version='1.0'?>\r\n<r  a=\"{t}\" >\n<!-- {t} --><n><![CDATA[{t}]]></n>\t"
        b"<cvv>000</cvv><e>{t}</e><m>Card {t}, 000.</m><id>1</id></r >\n",
    ),
    "a page": (
        "text/html",
        b"<p>{n}&nbsp;{n}%20" + FOURS + b"</p>\x80\xff",
        b"<p>{t}&nbsp;{t}%20{t}</p>\x80\xff",
    ),
}


def saying(body: bytes, *headers: str, chunk: int = 0, status: str = "200 OK") -> Script:
    """Answer with the number and the code that came, where the body has their places."""

    async def script(connection: Connection) -> None:
        request = await connection.request()
        assert VISA.encode() in request
        said = body.replace(NUMBER, VISA.encode()).replace(CODE, b"123")
        named = [each.replace("{n}", VISA) for each in headers]
        if not chunk:
            await connection.say(written(said, *named, status=status))
            return
        head = "\r\n".join((f"HTTP/1.1 {status}", "Transfer-Encoding: chunked", *named))
        await connection.say(head.encode() + b"\r\n\r\n")
        for start in range(0, len(said), chunk):
            piece = said[start : start + chunk]
            await connection.say(b"%x\r\n%s\r\n" % (len(piece), piece))
        await connection.say(b"0\r\n\r\n")

    return script


@pytest.mark.parametrize("chunk", [0, 7], ids=["whole", "in_chunks"])
@pytest.mark.parametrize("case", CASES)
async def test_every_other_byte_of_a_reply_stays(
    egress: Egress, way: Way, at_egress: Merchant, case: str, chunk: int
) -> None:
    content_type, body, expected = CASES[case]
    token = await at_egress.token(VISA)
    # An answer that says nothing of the outcome passes as an error only.
    status = "200 OK" if b"succeeded" in body else "422 No"
    headers = (f"Content-Type: {content_type}", "Request-Id: r {n}")
    script = saying(body, *headers, chunk=chunk, status=status)
    async with serving(script, egress.context, port=egress.port):
        answer = await way("raw", INTENTS, form(payment(token, cvc="000")))
    assert answer.body == expected.replace(b"{t}", token.encode()).replace(CODE, b"123")
    assert answer.headers["Request-Id"] == f"r {token}"
    assert answer.headers["Content-Type"] == content_type
    assert answer.status == int(status[:3])


@pytest.mark.parametrize("status", ["400 Bad Request", "402 Payment Required", "500 Oh"])
async def test_an_error_of_the_processor_s_is_cleaned_as_well(
    egress: Egress, way: Way, at_egress: Merchant, status: str
) -> None:
    token = await at_egress.token(VISA)
    body = b'{"error": {"type":"card_error","message":"{n}: no"}}\n'
    script = saying(body, "Content-Type: application/json", status=status)
    async with serving(script, egress.context, port=egress.port):
        answer = await way("raw", METHODS, form(method(token)))
    assert f"{answer.status} " == status[:4]
    assert answer.body == body.replace(NUMBER, token.encode())
    assert answer.headers["Panward-Processor-Status"] == status[:3]


HIDDEN = {
    "base64": base64.b64encode(VISA.encode()),
    "hex": VISA.encode().hex().encode(),
    "reversed": VISA[::-1].encode(),
    "over two values": b'a","b":"'.join((VISA[:9].encode(), VISA[9:].encode())),
}


@pytest.mark.parametrize("spelling", HIDDEN)
async def test_what_cannot_be_replaced_is_withheld_for_good(
    egress: Egress, way: Way, at_egress: Merchant, spelling: str
) -> None:
    """With its outcome, however: it was paid; and whoever asks again is told the same."""
    token, key = await at_egress.token(VISA), new_idempotency_key()
    body = b'{"id":"pi_1","status":"succeeded","x":"' + HIDDEN[spelling] + b'"}'
    script = saying(body, "Content-Type: application/json")
    async with serving(script, egress.context, port=egress.port) as server:
        answers = [
            await way("raw", INTENTS, form(payment(token)), headers=[("Idempotency-Key", key)])
            for _ in range(2)
        ]
    assert len(server.requests) == 1
    for answer in answers:
        assert (answer.status, answer.error["code"]) == (502, "upstream_reflected_pan")
        assert (answer.state, answer.headers["Panward-Processor-Status"]) == ("completed", "200")
        assert answer.headers["Stripe-Should-Retry"] == "false"
    assert answers[1].headers["Idempotent-Replayed"] == "true"
    record = await at_egress.authorization(answers[0])
    assert (record["state"], record["result"]) == ("completed", "approved")


async def test_a_number_that_was_not_sent_is_counted_and_stays(
    egress: Egress, way: Way, at_egress: Merchant
) -> None:
    before = await metric(at_egress, CARD_LIKE)
    body = BOM + b' {"b":[],"data" :[{"id":"' + OTHER.encode() + b'"}],\t"b":1e3, "c":{}}\r\n\n'
    script = repeating(written(body, "Content-Type: application/json"))
    async with serving(script, egress.context, port=egress.port):
        answer = await way("raw", "/v1/events", verb="GET")
    assert (answer.status, answer.body) == (200, body)
    await until_metric(at_egress, CARD_LIKE, before + 1)
