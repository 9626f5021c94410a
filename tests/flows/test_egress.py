"""The way out by base URL and through the proxy: whose key goes along, and what comes back.

The same routes, the same record, the same answers, whichever way an SDK was pointed at us.
"""

import asyncio
import base64
import json
import re
from collections import defaultdict

import pytest

from tests.cards import MASTERCARD, VISA_ALT
from tests.flows.conftest import Witness
from tests.flows.deployment import Deployment, Store, eventually
from tests.flows.egress import (
    LEADS,
    Egress,
    Way,
    name_of,
    way_of,
    write_secrets,
)
from tests.flows.merchant import (
    EVERYTHING,
    INTENTS,
    JSON,
    METHODS,
    Merchant,
    form,
    method,
    new_account,
    new_key,
    payment,
)
from tests.flows.processor import ProcessorControl
from tests.flows.wire import Reply
from tests.gateway.raw_servers import Connection, repeating, reply, serving
from vault.api_keys import parse_api_key, route_scope

pytestmark = pytest.mark.embedded

APPROVED = reply(b'{"id":"pi_1","status":"succeeded"}', "Content-Type: application/json")


# --- cards that a processor shows ---------------------------------------------------------

ISSUED = (
    b'\xef\xbb\xbf{ "id": "ic_1", "object":"issuing.card",\n "brand": "MasterCard", "cvc": "123",'
    b'"exp_month":12, "exp_year" : 2034,"number":"%s" ,"last4":"4444","metadata":{} }\n'
    % MASTERCARD.encode()
)
CARD = "/v1/issuing/cards/ic_1?expand[]=number&expand[]=cvc"


def issuing(body: bytes) -> bytes:
    return reply(body, "Content-Type: application/json")


@pytest.mark.guards("T-40")
async def test_an_issued_card_comes_as_a_token_that_can_be_used(
    egress: Egress,
    way: Way,
    at_egress: Merchant,
    other_shop: Merchant,
    processor: ProcessorControl,
) -> None:
    async with serving(repeating(issuing(ISSUED)), egress.context, port=egress.port):
        shown = await way("raw", CARD, verb="GET")
    (token,) = re.findall(rb'"number":"(pwt_test_[0-9a-z]{28})"', shown.body)
    expected = ISSUED.replace(MASTERCARD.encode(), token).replace(b'"123"', b'"000"')
    assert (shown.status, shown.body) == (200, expected)
    card = (await at_egress.api("GET", f"/v1/tokens/{token.decode()}")).json()
    assert (card["brand"], card["last4"]) == ("mastercard", "4444")
    assert (card["exp_month"], card["exp_year"]) == (12, 2034)
    paid = await way("stripe", INTENTS, form(payment(token.decode())))
    assert (paid.status, processor.numbers[-1]) == (200, MASTERCARD)
    assert (await other_shop.api("GET", f"/v1/tokens/{token.decode()}")).status == 404


@pytest.mark.guards("T-40")
async def test_a_list_of_issued_cards_and_one_as_a_number(egress: Egress, way: Way) -> None:
    as_number = ISSUED[3:].replace(b'"%s"' % MASTERCARD.encode(), MASTERCARD.encode())
    body = b'{"object":"list","data":[' + ISSUED[3:] + b"," + as_number + b"]}"
    async with serving(repeating(issuing(body)), egress.context, port=egress.port):
        shown = await way("raw", "/v1/issuing/cards?limit=2", verb="GET")
    first, second = json.loads(shown.body)["data"]
    for each in (first, second):
        assert re.fullmatch("pwt_test_[0-9a-z]{28}", each["number"])
        assert (each["cvc"], each["last4"]) == ("000", "4444")
    assert first["number"] != second["number"]


@pytest.mark.parametrize("way", ["base_url"], indirect=True)
async def test_an_issued_card_that_cannot_be_stored_keeps_its_last_four(
    deployment: Deployment, egress: Egress, way: Way
) -> None:
    bad = ISSUED.replace(b'"exp_month":12', b'"exp_month":13')
    async with serving(repeating(issuing(bad)), egress.context, port=egress.port):
        shown = await way("raw", CARD, verb="GET")
    masked = bad.replace(MASTERCARD.encode(), b"************4444").replace(b'"123"', b'"000"')
    assert (shown.status, shown.body) == (200, masked)
    async with serving(repeating(issuing(ISSUED)), egress.context, port=egress.port):
        with deployment.frozen(deployment.openbao):
            shown = await way("raw", CARD, verb="GET")
    masked = ISSUED.replace(MASTERCARD.encode(), b"************4444").replace(b'"123"', b'"000"')
    assert (shown.status, shown.body) == (200, masked)


# --- whose key goes along -----------------------------------------------------------------


@pytest.mark.guards("T-50")
async def test_our_keys_never_reach_a_processor(
    egress: Egress, way: Way, at_egress: Merchant, deployment: Deployment
) -> None:
    token = await at_egress.token()
    headers = [
        ("Panward-Key", way.key),
        ("Panward-Idempotency-Key", "x"),
        ("Panward-Anything", way.key),
        ("Proxy-Authorization", "Basic " + base64.b64encode(f"{way.key}:".encode()).decode()),
        ("Proxy-Connection", "keep-alive"),
        ("Cookie", f"key={way.key}"),
        ("X-Forwarded-For", "192.0.2.1"),
        ("Stripe-Version", "2026-01-01"),
    ]
    if way.kind == "tunnel":  # by base URL it is refused there: it is another key's place
        headers.append(("Via", "1.1 proxy"))
    async with serving(repeating(APPROVED), egress.context, port=egress.port) as server:
        for route, sent in (("raw", headers), ("raw_own", headers[1:])):
            for path, body in ((INTENTS, form(payment(token))), ("/v1/customers", form({"a": 1}))):
                answer = await way(route, path, body, headers=sent)
                assert answer.status == 200, answer.body
    assert len(server.requests) == 4
    own, injected = server.requests[2:], server.requests[:2]
    for request in server.requests:
        head = request.partition(b"\r\n\r\n")[0].lower()
        assert way.key.encode() not in request
        assert base64.b64encode(way.key.encode())[:40] not in request
        for name in (b"panward", b"proxy-", b"cookie", b"x-forwarded", b"pwsk_"):
            assert name not in head
        assert b"\r\nstripe-version: 2026-01-01" in head
        assert b"\r\nhost: localhost:%d\r\n" % egress.port in head
        assert b"\r\naccept-encoding: identity" in head
        assert head.count(b"\r\nauthorization: ") == 1
    for request in injected:
        assert b"Authorization: Bearer " + deployment.processor_key.encode() + b"\r\n" in request
    for request in own:
        assert b"Authorization: Bearer the-merchants-own\r\n" in request
        assert deployment.processor_key.encode() not in request


@pytest.mark.guards("T-50")
async def test_two_tenants_calls_and_credentials_are_never_mixed(
    deployment: Deployment, egress: Egress, way: Way
) -> None:
    """On one route, at the same time, over connections that are used again: each its own."""
    pairs: list[tuple[str, str]] = []
    carried: dict[Connection, set[str]] = defaultdict(set)

    async def script(connection: Connection) -> None:
        while True:
            request = await connection.request()
            key = request.partition(b"Authorization: Bearer ")[2].partition(b"\r\n")[0].decode()
            pairs.append((key, request.rpartition(b"name=")[2].decode()))
            carried[connection].add(key)
            await connection.say(reply(b"{}", "Content-Type: application/json"))

    ways = {}
    for name in ("sk_of_one", "sk_of_two"):
        account = await new_account(deployment, routes=())
        await write_secrets(deployment, account.tenant, {"raw": {"api_key": name}})
        ways[name] = await new_key(deployment, account.tenant, route_scope("raw"))
    async with (
        serving(script, egress.context, port=egress.port),
        way_of(way.kind, deployment, egress, ways["sk_of_one"]) as one,
        way_of(way.kind, deployment, egress, ways["sk_of_two"]) as two,
    ):
        both = {"sk_of_one": one, "sk_of_two": two}
        for _ in range(4):
            calls = [
                each("raw", "/v1/customers", form({"name": name}))
                for name, each in [*both.items()] * 8
            ]
            assert {answer.status for answer in await asyncio.gather(*calls)} == {200}
    assert len(pairs) == 64
    assert all(key == name for key, name in pairs)
    assert all(len(keys) == 1 for keys in carried.values())
    assert len(carried) < 64


async def test_one_client_uses_two_processors(
    way: Way, at_egress: Merchant, processor: ProcessorControl
) -> None:
    token = await at_egress.token(VISA_ALT)
    order = {
        "amount": {"currency": "EUR", "value": 1099},
        "reference": "order-1",
        "merchantAccount": "ShopCOM",
        "paymentMethod": {"type": "scheme", "number": token, "expiryMonth": "12"}
        | {"expiryYear": "2034", "holderName": "J. Smith"},
        "returnUrl": "https://shop.example/back",
    }
    for _ in range(2):
        stripe = await way("stripe", INTENTS, form(payment(token)))
        adyen = await way("adyen", "/v72/payments", json.dumps(order).encode(), content_type=JSON)
        assert (stripe.status, adyen.status) == (200, 200)
        assert [each["processor"] for each in processor.received[-2:]] == ["stripe", "adyen"]
        assert {each["account"] for each in processor.received[-2:]} == {"acct_1"}
        for answer, route in ((stripe, "stripe"), (adyen, "adyen")):
            assert (await at_egress.authorization(answer))["route"] == route


@pytest.mark.guards("T-41", "T-42")
async def test_a_token_where_none_belongs_is_refused(
    way: Way, at_egress: Merchant, nothing_happens: Witness
) -> None:
    """Also in the name of a field whose value is text, and where the call is no operation."""
    token = await at_egress.token()
    good = form(payment(token))
    async with nothing_happens():
        for path, body, field in (
            (INTENTS, good + f"&metadata[{token}]=x".encode(), None),
            (INTENTS, good + f"&receipt_email={token}".encode(), "receipt_email"),
            (f"{INTENTS}?expand[]={token}", good, "expand[]"),
            (f"/v1/customers/{token}", form({"name": "x"}), "path"),
            ("/v1/customers", form({"description": token}), "description"),
        ):
            answer = await way("stripe", path, body)
            assert (answer.status, answer.error["code"]) == (400, "token_undeclared"), path
            assert field is None or answer.error["param"] == field
            assert token not in answer.body.decode()


async def test_a_route_without_credentials_is_told_before_anything_is_on_record(
    way: Way, at_egress: Merchant, nothing_happens: Witness
) -> None:
    token = await at_egress.token()
    async with nothing_happens():
        for path, body in ((METHODS, form(method(token))), ("/v1/customers", form({"a": 1}))):
            answer = await way("not_set", path, body)
            assert (answer.status, answer.error["code"]) == (503, "credentials_missing")
            assert "Server-Timing" in answer.headers


# --- through the proxy alone --------------------------------------------------------------


async def asked(egress: Egress, place: str, *fields: str) -> bytes:
    """Ask for a tunnel, and give the first line of the answer; it must end the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", egress.connect_port)
    try:
        head = "\r\n".join((f"CONNECT {place} HTTP/1.1", f"Host: {place}", *fields))
        writer.write(head.encode() + b"\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()
        await writer.wait_closed()
    assert b"Panward-Request-Id: " in answer
    return answer.partition(b"\r\n")[0]


def login(key: str) -> str:
    return "Proxy-Authorization: Basic " + base64.b64encode(f"{key}:".encode()).decode()


@pytest.mark.guards("T-43", "T-50")
async def test_no_tunnel_but_to_a_route_and_for_a_key_of_it(
    deployment: Deployment, egress: Egress, at_egress: Merchant, nothing_happens: Witness
) -> None:
    """Decided before any TLS: who is turned away never hears which certificate we would show."""
    good = login(at_egress.account.secret_key)
    stripes_alone = login(await new_key(deployment, at_egress.tenant, route_scope("stripe")))
    nobodys = login("pwsk_test_" + "0" * 52)
    async with nothing_happens():
        for place in (
            "api.evil.test:443",
            "api.stripe.com:443",  # no name of this gateway's routes
            f"{name_of('stripe')}:8443",
            f"127.0.0.1:{deployment.parts.ports['sandbox']}",
            f"localhost:{egress.port}",
            "169.254.169.254:80",
        ):
            assert await asked(egress, place, good) == b"HTTP/1.1 403 The API key may not do this"
        for route in LEADS:
            if route != "stripe":
                answer = await asked(egress, f"{name_of(route)}:443", stripes_alone)
                assert answer.startswith(b"HTTP/1.1 403 ")
        for refused, status in (((), b"407"), ((nobodys,), b"407"), ((good, nobodys), b"400")):
            answer = await asked(egress, f"{name_of('stripe')}:443", *refused)
            assert answer.startswith(b"HTTP/1.1 " + status)


@pytest.mark.guards("T-29", "T-50")
async def test_a_key_that_is_revoked_ends_within_its_tunnel(
    deployment: Deployment, egress: Egress, at_egress: Merchant, store: Store
) -> None:
    key = await new_key(deployment, at_egress.tenant, *EVERYTHING, route_scope("stripe"))
    async with way_of("tunnel", deployment, egress, key) as way:
        assert (await way("stripe", "/v1/events", verb="GET")).status == 404
        parsed = parse_api_key(key)
        assert parsed is not None
        revoked = await store.execute(
            "UPDATE api_key SET revoked_at = now() WHERE id = $1", parsed.id
        )
        assert revoked == "UPDATE 1"

        async def refused() -> Reply | None:
            answer = await way("stripe", "/v1/events", verb="GET")
            return answer if answer.status == 401 else None

        answer = await eventually(refused, "it still calls", seconds=7)
        assert answer.error["code"] == "not_authenticated"
        assert "Server-Timing" in answer.headers


# --- what costs nothing -------------------------------------------------------------------


async def test_a_call_without_a_card_asks_nobody_and_writes_nothing(
    deployment: Deployment, way: Way, store: Store, processor: ProcessorControl
) -> None:
    """No call to OpenBao, no transaction that writes: with a credential that was just used.

    Others work on the same deployment now and then (a sweep, a renewal); what each call cost
    would be there every time.
    """

    async def seen() -> tuple[int, object, object]:
        log = await asyncio.to_thread(deployment.parts.vault_audit_log_file.read_bytes)
        row = await store.fetchrow(
            "SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS xid,"
            " pg_current_wal_insert_lsn()::text AS wal"
        )
        assert row is not None
        return log.count(b"\n"), row["xid"], row["wal"]

    async def one() -> None:
        answer = await way("stripe", "/v1/customers", form({"name": "x"}))
        assert answer.headers["Panward-Processor-Status"] == str(answer.status)
        assert "Panward-Authorization" not in answer.headers

    await one()
    arrived = processor.counts.requests
    for tries in range(1, 6):
        before = await seen()
        for _ in range(10):
            await one()
        assert processor.counts.requests == arrived + 10 * tries
        if await seen() == before:
            return
    raise AssertionError("each time somebody was asked, or something was written")


# --- in every answer ----------------------------------------------------------------------


async def test_the_time_it_took_is_in_errors_too(
    deployment: Deployment, egress: Egress, at_egress: Merchant
) -> None:
    """Who has no key, or none for this route, is told in the processor's shape."""
    no_scope = await new_key(deployment, at_egress.tenant, route_scope("adyen"))
    for key, status, code in (
        ("pwsk_test_" + "0" * 52, 401, "not_authenticated"),
        (no_scope, 403, "not_permitted"),
    ):
        async with way_of("base_url", deployment, egress, key) as way:
            answer = await way("stripe", INTENTS, form({"a": 1}))
        assert (answer.status, answer.error["code"]) == (status, code)
        assert answer.state == "not_sent"
        assert "Server-Timing" in answer.headers
