"""Who a processor has to be, and who we are to it: TLS, certificates, and a proxy between.

Whatever is wrong with the other side is found before the first byte of a request; asserted is
what the merchant hears, what is on record, and what the other side got: nothing.
"""

import base64
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import cast

import pytest
import trustme

from gateway.app import _lane
from gateway.call import Call
from gateway.config import load_config, vault_access
from gateway.custody import Custody
from gateway.exchange import Replied
from gateway.metrics import Metrics
from tests.cards import VISA
from tests.flows.conftest import Witness
from tests.flows.deployment import Deployment
from tests.flows.egress import (
    HOST,
    PROXIED_HOST,
    PROXY_LOGIN,
    TLS_TROUBLES,
    Egress,
    Way,
    way_of,
    write_secrets,
)
from tests.flows.merchant import (
    EVERYTHING,
    INTENTS,
    Account,
    Merchant,
    form,
    new_account,
    new_idempotency_key,
    new_key,
    payment,
)
from tests.flows.wire import Reply
from tests.gateway.raw_servers import (
    Connection,
    Script,
    TlsByHand,
    context_of,
    repeating,
    reply,
    serving,
)
from tests.gateway.test_upstream_proxy import carrying
from tests.gateway.tls_authority import NOW, Authority, self_signed
from vault.api_keys import route_scope
from vault.keys import RevealKeys
from vault.observer import Silent
from vault.transit import Transit

pytestmark = pytest.mark.embedded

APPROVED = reply(b'{"id":"pi_1","status":"succeeded"}', "Content-Type: application/json")


def old_tls(egress: Egress) -> ssl.SSLContext:
    context = egress.context
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.deprecated_call():
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.deprecated_call():
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def wanting_certificates(egress: Egress) -> ssl.SSLContext:
    """A server that knows its clients; of TLS 1.2, which judges them before it hears anything."""
    context = egress.context
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    egress.processors.configure_trust(context)
    return context


SERVERS: dict[str, Callable[[Egress], ssl.SSLContext]] = {
    "expired": lambda e: context_of(
        e.processors.issue_cert(HOST, not_after=NOW - timedelta(hours=1))
    ),
    "wrong_name": lambda e: context_of(e.processors.issue_cert("other.test")),
    "self_signed": lambda _: context_of(self_signed(HOST)),
    "unknown_ca": lambda _: context_of(Authority.of(trustme.CA()).leaf(name=HOST)),
    "tls_1_1": old_tls,
    "revoked": lambda e: context_of(e.revoked),
    "bad_pin": lambda e: e.context,
    "wants_certificate": wanting_certificates,
}


def is_tls_error(answer: Reply) -> bool:
    return (
        (answer.status, answer.error["code"]) == (502, "upstream_tls_error")
        and answer.error["type"] == "api_error"
        and answer.state == "not_sent"
        and answer.headers["Stripe-Should-Retry"] == "false"
        and "Panward-Processor-Status" not in answer.headers
        and "Server-Timing" in answer.headers
    )


@pytest.mark.guards("T-48", "F-27")
@pytest.mark.parametrize("trouble", TLS_TROUBLES)
async def test_whoever_does_not_prove_to_be_the_processor_gets_nothing(
    egress: Egress, at_egress: Merchant, way: Way, trouble: str
) -> None:
    token, heard = await at_egress.token(), bytearray()
    route, key = f"tls_{trouble}", new_idempotency_key()
    context = SERVERS[trouble](egress)

    async def script(connection: Connection) -> None:
        tls = TlsByHand(connection, context)  # tells the other side what it does not like
        if await tls.shake_hands():
            heard.extend(await tls.read())

    async with serving(script, None, port=egress.port) as server:
        paid = await way(
            route,
            INTENTS,
            form(payment(token, cvc="000")),
            headers=[("Idempotency-Key", key)],
        )
        looked = await way(route, "/v1/balance", verb="GET")
    assert server.connections == 2
    assert heard == b""
    assert is_tls_error(paid)
    assert is_tls_error(looked)
    record = await at_egress.authorization(paid)
    assert record["state"] == "not_sent"
    (attempt,) = record["attempts"]
    assert (attempt["state"], attempt["reason"]) == ("not_sent", "upstream_tls_error")
    assert "Panward-Authorization" not in looked.headers


@pytest.mark.guards("T-48")
async def test_the_same_server_with_what_is_asked_of_it_is_the_processor(
    egress: Egress, at_egress: Merchant, way: Way
) -> None:
    """Not on the list, and with the pinned key."""
    token = await at_egress.token()
    async with serving(repeating(APPROVED), egress.context, port=egress.port) as server:
        paid = await way("vouched", INTENTS, form(payment(token)))
    assert (paid.status, paid.state) == (200, "completed")
    assert len(server.requests) == 1


# --- who we are ---------------------------------------------------------------------------


def certificate_of(egress: Egress, name: str) -> dict[str, str]:
    """A client's certificate and keys, as they lie in OpenBao."""
    leaf = egress.processors.issue_cert(name, common_name=name)
    return {
        "api_key": f"sk_of_{name}",
        "client_certificate": leaf.cert_chain_pems[0].bytes().decode(),
        "client_key": leaf.private_key_pem.bytes().decode(),
    }


def knowing(clients: list[tuple[str, str]]) -> Script:
    """Answer each request, and write down with whose certificate and with which key it came."""

    async def script(connection: Connection) -> None:
        while True:
            request = await connection.request()
            key = request.partition(b"Authorization: Bearer ")[2].partition(b"\r\n")[0]
            tls = connection._writer.get_extra_info("ssl_object")
            (((_, shown),),) = [x for x in tls.getpeercert()["subject"] if x[0][0] == "commonName"]
            clients.append((shown, key.decode()))
            await connection.say(APPROVED)

    return script


@asynccontextmanager
async def another(deployment: Deployment, way: Way, secrets: dict[str, str]) -> AsyncIterator[Way]:
    """Give a new tenant that calls the same way, with these values for the route `mutual`."""
    account = await new_account(deployment, routes=())
    key = await new_key(deployment, account.tenant, *EVERYTHING, route_scope("mutual"))
    if secrets:
        await write_secrets(deployment, account.tenant, {"mutual": secrets})
    async with way_of(way.kind, deployment, way.egress, key) as other:
        yield other


async def paid_by(way: Way, at: Merchant) -> Reply:
    """Pay with a card that the tenant has just given away a token for."""
    token = await at.with_key(way.key).token()
    return await way("mutual", INTENTS, form(payment(token)))


@pytest.mark.guards("T-50")
async def test_each_tenant_shows_its_own_certificate(
    deployment: Deployment, egress: Egress, at_egress: Merchant, way: Way
) -> None:
    clients: list[tuple[str, str]] = []
    names = ("one.test", "two.test")
    async with (
        serving(knowing(clients), wanting_certificates(egress), port=egress.port),
        another(deployment, way, certificate_of(egress, names[0])) as one,
        another(deployment, way, certificate_of(egress, names[1])) as two,
    ):
        for each in (one, two) * 2:
            assert (await paid_by(each, at_egress)).status == 200
    assert clients == [(name, f"sk_of_{name}") for name in names * 2]


@pytest.mark.parametrize("lacks", ["all", "certificate", "key", "use"])
async def test_without_a_certificate_that_can_be_used_nothing_begins(
    deployment: Deployment,
    egress: Egress,
    at_egress: Merchant,
    way: Way,
    nothing_happens: Witness,
    lacks: str,
) -> None:
    values = certificate_of(egress, "one.test")
    if lacks == "all":
        values = {}
    elif lacks == "use":
        values["client_key"] = certificate_of(egress, "two.test")["client_key"]
    else:
        del values["client_certificate" if lacks == "certificate" else "client_key"]
    async with another(deployment, way, values) as other, nothing_happens():
        async with serving(repeating(APPROVED), egress.context, port=egress.port) as server:
            for _ in range(2):
                answer = await paid_by(other, at_egress)
                assert (answer.status, answer.error["code"]) == (503, "credentials_missing")
                assert answer.state == "not_sent"
                assert answer.headers["Stripe-Should-Retry"] == "false"
                assert "Panward-Authorization" not in answer.headers
        assert server.connections == 0


@pytest.mark.guards("T-50")
async def test_a_certificate_that_is_refused_stops_nobody_else(
    deployment: Deployment, egress: Egress, at_egress: Merchant, way: Way
) -> None:
    """Its own certificate may be what TLS fails for: that says nothing of the processor."""
    stranger = trustme.CA().issue_cert("one.test", common_name="one.test")
    bad = certificate_of(egress, "one.test") | {
        "client_certificate": stranger.cert_chain_pems[0].bytes().decode(),
        "client_key": stranger.private_key_pem.bytes().decode(),
    }
    clients: list[tuple[str, str]] = []
    async with (
        serving(knowing(clients), wanting_certificates(egress), port=egress.port),
        another(deployment, way, bad) as one,
        another(deployment, way, certificate_of(egress, "two.test")) as two,
    ):
        for _ in range(6):
            answer = await paid_by(one, at_egress)
            assert (answer.status, answer.state) == (502, "not_sent")
        assert (await paid_by(two, at_egress)).status == 200
    assert clients == [("two.test", "sk_of_two.test")]


async def test_a_new_certificate_is_shown_within_a_minute(
    deployment: Deployment, egress: Egress, buyer: Account
) -> None:
    """And what is under way with the old one ends as if nothing were."""
    clients: list[tuple[str, str]] = []
    tenant, seconds = f"{buyer.tenant}-rotated", [1000.0]
    config = load_config(deployment.parts.folder / "egress.toml")
    (route,) = [each for each in config.routes if each.name == "mutual"]
    call = Call("POST", INTENTS, "", (), b"")
    async with AsyncExitStack() as stack:
        transit = Transit(vault_access(config, config.vault.reveal), observer=Silent())
        stack.push_async_callback(transit.close)
        await transit.start()
        keys = RevealKeys(
            transit, "test", digest_version=1, observer=Silent(), now=lambda: seconds[0]
        )
        stack.push_async_callback(keys.close)
        custody = cast("Custody", SimpleNamespace(reveal_keys=keys))
        lane = _lane(route, custody, stack, Metrics(), {})
        await stack.enter_async_context(
            serving(knowing(clients), wanting_certificates(egress), port=egress.port)
        )

        async def sent() -> str:
            secret = await lane.secret(tenant)
            assert isinstance(await lane.send(tenant, call, secret, b""), Replied)
            return clients[-1][0]

        for number, name in enumerate(("one.test", "two.test")):
            values = {"mutual": certificate_of(egress, name)}
            before = await lane.secret(tenant) if number else None
            await write_secrets(deployment, tenant, values)
            seconds[0] += 59 if number else 0
            assert await sent() == "one.test"
            if before is not None:
                seconds[0] += 2
                assert await sent() == "two.test"
                assert isinstance(await lane.send(tenant, call, before, b""), Replied)
    assert [shown for shown, _ in clients] == ["one.test", "one.test", "two.test", "one.test"]


# --- a proxy between ----------------------------------------------------------------------


@pytest.mark.guards("T-46", "T-48", "F-21")
async def test_a_proxy_between_carries_what_it_cannot_read(
    egress: Egress, at_egress: Merchant, way: Way
) -> None:
    """It is asked once, with its login; without its agreement nothing of the request leaves."""
    token, key = await at_egress.token(), new_idempotency_key()
    headers = [("Idempotency-Key", key)]
    body = form(payment(token, cvc="000"))

    async def refusing(connection: Connection) -> None:
        await connection.request()
        await connection.say(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    down = await way("proxied", INTENTS, body, headers=headers)
    async with serving(refusing, None, port=egress.proxy_port) as proxy:
        refused = await way("proxied", INTENTS, body, headers=headers)
    assert bytes(proxy.received) == b"".join(proxy.requests)
    for answer in (down, refused):
        assert (answer.status, answer.error["code"]) == (502, "upstream_unreachable")
        assert (answer.state, answer.headers["Stripe-Should-Retry"]) == ("not_sent", "true")
    context = context_of(Authority.of(egress.processors).leaf(name=PROXIED_HOST))
    async with (
        serving(repeating(APPROVED), context) as server,
        serving(carrying(server.port), None, port=egress.proxy_port) as proxy,
    ):
        paid = await way("proxied", INTENTS, body, headers=headers)
        looked = await way("proxied", "/v1/balance", verb="GET")
    assert (paid.status, paid.state, looked.status) == (200, "completed", 200)
    login = base64.b64encode(PROXY_LOGIN.encode())
    asked = f"CONNECT {PROXIED_HOST}:443 HTTP/1.1\r\nHost: {PROXIED_HOST}:443\r\n".encode()
    asked += b"Proxy-Authorization: Basic " + login + b"\r\n\r\n"
    assert proxy.requests == [asked, asked]
    assert len(server.requests) == 2
    assert b"[number]=" + VISA.encode() in server.requests[0]
    for secret in (
        b"[number]",
        b"Bearer",
        b"HTTP/1.1\r\nHost: api.processor.test\r\n",
        VISA.encode(),
    ):
        assert secret not in proxy.received
    for request in server.requests:
        assert b"roxy-" not in request
        assert way.key.encode() not in request
    record = await at_egress.authorization(paid)
    assert [each["state"] for each in record["attempts"]] == ["not_sent", "not_sent", "completed"]
