"""When something is away, frozen or broken: a true answer, nothing lost, and back by itself.

Runs after all other flow tests, because it kills and freezes what they share.
"""

import asyncio
import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import pytest
import trustme

from tests.cards import AMEX
from tests.flows.conftest import Witness
from tests.flows.deployment import Deployment, Store, connected, eventually, until
from tests.flows.merchant import (
    FORM,
    INTENTS,
    METHODS,
    Merchant,
    card,
    form,
    method,
    new_idempotency_key,
    new_key,
    payment,
)
from tests.flows.processor import ProcessorControl
from tests.flows.replica import Replica, running_replica
from tests.flows.wire import Reply, Wire
from tests.gateway.raw_servers import Connection, reply, serving
from vault.embedded.sealing import seal

pytestmark = pytest.mark.embedded


async def back(call: Callable[[], Awaitable[Reply]], *, seconds: float, good: int = 200) -> float:
    """Repeat a call until it succeeds; give how long that took. Until then it must say 503."""
    began = time.monotonic()
    while True:
        answer = await call()
        taken = time.monotonic() - began
        if answer.status == good:
            return taken
        assert answer.status == 503, answer.body
        assert taken < seconds, answer.body
        await asyncio.sleep(0.02)


def is_away(answer: Reply, *codes: str) -> bool:
    """Whether an answer of our own API says that something is away, and that trying again helps."""
    problem = answer.problem
    return (
        answer.status == 503
        and problem["code"] in codes
        and problem["retryable"] is True
        and int(answer.headers["Retry-After"]) >= 1
    )


def is_not_sent(answer: Reply, *codes: str) -> bool:
    """Whether an answer of `/out` says, in Stripe's shape, that nothing left for that reason.

    Of a request with an idempotency key it says no more than that: nobody could look whether it
    repeats one that did leave.
    """
    return (
        answer.status == 503
        and answer.error["type"] == "api_error"
        and answer.error["code"] in codes
        and answer.state in {"not_sent", "unknown"}
        and answer.headers["Stripe-Should-Retry"] == "true"
        and int(answer.headers["Retry-After"]) >= 1
    )


# --- the processor is away, slow or broken ------------------------------------------------


@pytest.mark.guards("F-21")
async def test_a_processor_that_refuses_connections(
    shop: Merchant, replica: Replica, processor: ProcessorControl
) -> None:
    there, token = shop.at(replica.urls), await shop.token()
    key = new_idempotency_key()
    for attempt in (1, 2):
        answer = await there.pay(payment(token), route="refused", key=key)
        assert (answer.status, answer.error["code"]) == (502, "upstream_unreachable")
        assert answer.error["type"] == "api_error"
        assert answer.state == "not_sent"
        assert answer.headers["Stripe-Should-Retry"] == "true"
        record = await there.authorization(answer)
        assert [each["state"] for each in record["attempts"]] == ["not_sent"] * attempt


@pytest.mark.guards("F-21", "F-23")
async def test_a_call_that_is_no_operation_fails_as_truly(
    shop: Merchant, replica: Replica, processor: ProcessorControl
) -> None:
    """Nobody records it: only what was never sent may be repeated."""
    there = shop.at(replica.urls)
    away = await there.out("/v1/customers", {"name": "x"}, route="refused")
    assert (away.status, away.error["code"]) == (502, "upstream_unreachable")
    assert (away.state, away.headers["Stripe-Should-Retry"]) == ("not_sent", "true")
    processor.do("lose_next_answer")
    lost = await there.out("/v1/customers", {"name": "x"})
    assert (lost.status, lost.error["code"]) == (502, "upstream_reset")
    assert (lost.state, lost.headers["Stripe-Should-Retry"]) == ("unknown", "false")


@pytest.mark.guards("F-22")
async def test_a_processor_that_accepts_and_says_nothing(shop: Merchant, replica: Replica) -> None:
    there, token = shop.at(replica.urls), await shop.token()
    answer = await there.pay(payment(token), route="silent")
    assert (answer.status, answer.error["code"]) == (504, "upstream_connect_timeout")
    assert answer.state == "not_sent"
    assert answer.headers["Stripe-Should-Retry"] == "true"
    assert (await there.authorization(answer))["state"] == "not_sent"


@pytest.mark.guards("F-23")
async def test_a_processor_that_answers_too_late(
    shop: Merchant, replica: Replica, processor: ProcessorControl
) -> None:
    there, token, key = shop.at(replica.urls), await shop.token(), new_idempotency_key()
    before = processor.counts.charges
    processor.do("delay", seconds=1.5)
    late = await there.pay(payment(token), route="quick", key=key)
    assert (late.status, late.error["code"]) == (504, "upstream_timeout")
    assert late.state == "unknown"
    assert late.headers["Stripe-Should-Retry"] == "true"
    processor.behave()
    again = await there.pay(payment(token), route="quick", key=key)
    assert (again.status, again.state) == (200, "completed")
    assert processor.counts.charges == before + 1


@pytest.mark.guards("F-24")
async def test_an_answer_that_breaks_off(shop: Merchant, processor: ProcessorControl) -> None:
    token = await shop.token()
    for half in (False, True):
        processor.do("lose_next_answer", half=half)
        key = new_idempotency_key()
        lost = await shop.pay(payment(token), key=key)
        assert (lost.status, lost.error["code"]) == (502, "upstream_reset")
        assert lost.state == "unknown"
        assert (await shop.pay(payment(token), key=key)).status == 200


@pytest.mark.guards("F-25")
async def test_a_processors_own_failure_is_passed_on_and_unknown(
    shop: Merchant, processor: ProcessorControl
) -> None:
    """It may have been charged before it failed; and it remembers the failure under the key."""
    token, key = await shop.token(), new_idempotency_key()
    before = processor.counts.charges
    processor.do("fail_next", status=500, after_charge=True)
    answers = [await shop.pay(payment(token), key=key) for _ in range(2)]
    for failed in answers:
        assert failed.status == 500
        assert failed.error["message"] == "The simulated processor was told to fail."
        assert failed.headers["Panward-Processor-Status"] == "500"
        assert failed.state == "unknown"
        assert failed.headers["Stripe-Should-Retry"] == "true"
    assert processor.counts.charges == before + 1
    record = await shop.authorization(answers[1])
    assert [each["reason"] for each in record["attempts"]] == ["upstream_error"] * 2


@pytest.mark.guards("F-25")
async def test_a_busy_processor_is_passed_on(shop: Merchant, processor: ProcessorControl) -> None:
    token = await shop.token()
    processor.do("fail_next", status=429)
    busy = await shop.pay(payment(token))
    assert (busy.status, busy.state) == (429, "completed")
    record = await shop.authorization(busy)
    assert (record["state"], record["result"]) == ("completed", "error")


@pytest.mark.guards("F-27", "T-48")
async def test_a_stranger_in_the_processors_place_gets_nothing(
    shop: Merchant, replica: Replica
) -> None:
    there, token = shop.at(replica.urls), await shop.token()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    async def script(connection: Connection) -> None:
        await connection.request()

    async with serving(script, context, port=replica.stranger_port) as server:
        answer = await there.pay(payment(token, cvc="000"), route="stranger")
        assert server.received == b""
    assert (answer.status, answer.error["code"]) == (502, "upstream_tls_error")
    assert answer.state == "not_sent"
    assert answer.headers["Stripe-Should-Retry"] == "false"


@pytest.fixture
def processors_context(deployment: Deployment) -> ssl.SSLContext:
    """TLS with a certificate that the gateway trusts for its processor."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(deployment.parts.tls_cert_file, deployment.parts.tls_key_file)
    return context


BROKEN = {
    "no_http": (b"NONSENSE\r\n\r\n", "upstream_protocol_error"),
    "no_json": (reply(b"<html>sorry</html>"), "upstream_protocol_error"),
    "no_status_of_ours": (reply(b"{}"), "upstream_protocol_error"),
    "no_end": (b"HTTP/1.1 200 OK\r\n\r\n{}", "upstream_protocol_error"),
    "too_large": (reply(b"x" * 1_048_577), "upstream_too_large"),
    "redirect": (
        reply(b"", "Location: https://evil.example/", status="307 Temporary Redirect"),
        "upstream_redirect",
    ),
    "packed": (reply(b"\x1f\x8b", "Content-Encoding: gzip"), "upstream_protocol_error"),
}


@pytest.mark.guards("F-29", "T-45")
@pytest.mark.parametrize("case", BROKEN)
async def test_a_reply_that_is_none(
    shop: Merchant, replica: Replica, processors_context: ssl.SSLContext, case: str
) -> None:
    said, code = BROKEN[case]
    there, token = shop.at(replica.urls), await shop.token()

    async def script(connection: Connection) -> None:
        await connection.request()
        with contextlib.suppress(ConnectionError):
            await connection.say(said)

    async with serving(script, processors_context, port=replica.stranger_port) as server:
        answer = await there.pay(payment(token), route="stranger", key=new_idempotency_key())
        assert len(server.requests) == 1
    assert (answer.status, answer.error["code"]) == (502, code)
    assert answer.state == "unknown"
    assert answer.headers["Stripe-Should-Retry"] == "true"
    assert "Location" not in answer.headers
    assert b"sorry" not in answer.body


@pytest.mark.guards("T-40", "T-07")
async def test_an_echo_between_the_lines(
    shop: Merchant, replica: Replica, processors_context: ssl.SSLContext
) -> None:
    """In an interim reply, in headers that do not pass, across chunks, in a trailer."""
    there, token = shop.at(replica.urls), await shop.token()
    number = b""

    async def script(connection: Connection) -> None:
        nonlocal number
        request = await connection.request()
        number = request.partition(b"[number]=")[2].partition(b"&")[0]
        body = b'{"id":"pm_1","a":"' + number + b'","b":"' + number[:4] + b"-" + number[4:] + b'"}'
        first, rest = body[:24], body[24:]
        await connection.say(
            b"HTTP/1.1 103 Early Hints\r\nLink: <" + number + b">\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n",
            b"Set-Cookie: n=" + number + b"\r\nLocation: /" + number + b"\r\nServer: s\r\n",
            b"Trailer: X-Number\r\n\r\n",
            b"%x\r\n%s\r\n" % (len(first), first),
            b"%x\r\n%s\r\n" % (len(rest), rest),
            b"0\r\nX-Number: " + number + b"\r\n\r\n",
        )

    async with serving(script, processors_context, port=replica.stranger_port):
        answer = await there.out(METHODS, method(token), route="stranger")
    assert len(number) == 16
    assert answer.status in (200, 502)
    assert number not in answer.body.replace(b"-", b"")
    assert not {"Set-Cookie", "Location", "Server", "X-Number", "Link"} & set(answer.headers)
    assert (await there.authorization(answer))["result"] == "stored"


# --- the client leaves --------------------------------------------------------------------


def raw_payment(shop: Merchant, token: str, key: str) -> bytes:
    body = form(payment(token))
    head = (
        f"POST /out/stripe{INTENTS} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {FORM}\r\n"
        f"Authorization: Bearer {shop.account.secret_key}\r\nIdempotency-Key: {key}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@pytest.mark.guards("F-32")
async def test_a_client_that_leaves_finds_its_answer_later(
    deployment: Deployment, shop: Merchant, processor: ProcessorControl
) -> None:
    token, key = await shop.token(), new_idempotency_key()
    before = processor.counts
    processor.do("hold")
    async with connected(deployment, shop.urls.private) as (_, writer):
        writer.write(raw_payment(shop, token, key))
        await asyncio.to_thread(processor.until_held, before)
    assert (await shop.pay(payment(token), key=key)).status == 409
    processor.do("release")
    answer = await ended(shop, token, key)
    assert (answer.status, answer.json()["status"]) == (200, "succeeded")
    assert answer.headers["Idempotent-Replayed"] == "true"
    assert processor.counts.charges == before.charges + 1
    assert [each["state"] for each in (await shop.authorization(answer))["attempts"]] == [
        "completed"
    ]


async def ended(shop: Merchant, token: str, key: str) -> Reply:
    """Repeat a payment until it is no longer under way."""

    async def repeated() -> Reply | None:
        answer = await shop.pay(payment(token), key=key)
        return None if answer.status == 409 else answer

    return await eventually(repeated, "it is still under way")


@pytest.mark.guards("F-31")
async def test_a_client_that_leaves_before_its_end_did_not_ask(
    deployment: Deployment, shop: Merchant, nothing_happens: Witness
) -> None:
    token, key = await shop.token(), new_idempotency_key()
    seen = len(deployment.gateway.events())
    async with nothing_happens():
        async with connected(deployment, shop.urls.private) as (_, writer):
            writer.write(raw_payment(shop, token, key)[:-10])
            await writer.drain()
        (event,) = await asyncio.to_thread(
            until, lambda: deployment.gateway.events()[seen:], "no event"
        )
    assert (event["status"], event["code"]) == (499, "client_closed_request")
    assert (await shop.pay(payment(token), key=key)).status == 200


@pytest.mark.parametrize("client", ["waits", "left"])
async def test_a_gateway_that_is_stopped_ends_what_is_under_way(
    deployment: Deployment, shop: Merchant, processor: ProcessorControl, client: str
) -> None:
    token, key, before = await shop.token(), new_idempotency_key(), processor.counts
    with running_replica(deployment, f"stopped-{client}") as stopped:
        there = shop.at(stopped.urls)
        processor.do("hold")
        async with connected(deployment, there.urls.private) as (reader, writer):
            writer.write(raw_payment(there, token, key))
            await asyncio.to_thread(processor.until_held, before)
            if client == "left":
                writer.transport.abort()
            stopped.gateway.interrupt()
            await eventually(lambda: refuses(deployment, stopped.urls.private), "it accepts")
            with pytest.raises(subprocess.TimeoutExpired):
                await asyncio.to_thread(stopped.gateway.wait, 1.0)
            processor.do("release")
            if client == "waits":
                assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        assert await asyncio.to_thread(stopped.gateway.wait) == 0
    replayed = await shop.pay(payment(token), key=key)
    assert (replayed.status, replayed.headers["Idempotent-Replayed"]) == (200, "true")
    assert processor.counts.charges == before.charges + 1
    record = await shop.authorization(replayed)
    assert [each["state"] for each in record["attempts"]] == ["completed"]


async def refuses(deployment: Deployment, url: str) -> bool:
    try:
        async with connected(deployment, url):
            return False
    except OSError:
        return True


# --- OpenBao ------------------------------------------------------------------------------


@pytest.mark.guards("F-02")
async def test_openbao_is_sealed_in_the_middle_of_a_purchase(
    deployment: Deployment, shop: Merchant, processor: ProcessorControl, nothing_happens: Witness
) -> None:
    token, code = await shop.token(), await shop.token(AMEX)
    under_way, key = new_idempotency_key(), new_idempotency_key()
    before = processor.counts.charges
    processor.do("hold", at="answer")
    paying = asyncio.create_task(shop.pay(payment(token), key=under_way))
    await asyncio.to_thread(until, lambda: processor.counts.charges > before, "not charged")
    await seal(deployment.parts)

    async with nothing_happens():
        await everything_sealed(shop, token, code, key)
    processor.do("release")  # its card was opened before: it ends as if nothing were
    answer = await paying
    assert (answer.status, answer.state) == (200, "completed")
    assert "Ledger-Pending" not in answer.headers

    os.kill(deployment.openbao, signal.SIGKILL)  # a static seal is opened by a restart
    await back(lambda: shop.pay(payment(code, cvc="000"), key=key), seconds=10)
    replayed = await shop.pay(payment(token), key=under_way)  # its answer could not be sealed
    assert (replayed.status, replayed.json()) == (200, {"id": answer.json()["id"]})
    assert replayed.headers["Idempotent-Replayed"] == "true"
    assert processor.counts.charges == before + 2
    await until_ready(shop)


async def everything_sealed(shop: Merchant, token: str, code: str, key: str) -> None:
    """Ask for all that needs OpenBao, and for what does not."""
    assert is_away(await shop.api("POST", "/v1/tokens", {"card": card()}), "vault_sealed")
    for idempotency_key in (None, key):
        answer = await shop.pay(payment(code, cvc="000"), key=idempotency_key)
        assert is_not_sent(answer, "vault_sealed")
    assert (await shop.api("GET", f"/v1/tokens/{token}")).status == 200
    assert (await shop.api("GET", "/v1/authorizations")).status == 200
    assert (await shop.wire("GET", f"{shop.urls.ops}/healthz")).status == 200

    async def not_ready() -> Reply | None:
        ready = await shop.wire("GET", f"{shop.urls.ops}/readyz")
        return ready if ready.status == 503 else None

    checks = (await eventually(not_ready, "still ready")).json()["checks"]
    assert (checks["vault_tokenize"], checks["vault_reveal"]) == ("vault_sealed", "vault_sealed")
    assert (checks["store"], checks["ledger"]) == ("ok", "ok")


@pytest.mark.guards("F-54")
async def test_openbao_is_killed(shop: Merchant, deployment: Deployment) -> None:
    token = await shop.token()
    old = deployment.openbao
    os.kill(old, signal.SIGKILL)
    away = await shop.pay(payment(token))
    assert is_not_sent(away, "vault_unavailable", "vault_timeout", "vault_sealed")
    await back(lambda: shop.pay(payment(token)), seconds=10)
    assert deployment.openbao != old
    await until_ready(shop)


async def until_ready(shop: Merchant) -> None:
    await back(lambda: shop.wire("GET", f"{shop.urls.ops}/readyz"), seconds=10)


# --- PostgreSQL ---------------------------------------------------------------------------


@pytest.mark.guards("F-10", "T-29")
async def test_postgres_answers_nobody(
    deployment: Deployment, shop: Merchant, nothing_happens: Witness, store: Store
) -> None:
    token, key = await shop.token(), new_idempotency_key()
    stranger = shop.with_key(await new_key(deployment, shop.tenant, "read"))
    away = ("store_unavailable", "ledger_unavailable")
    async with nothing_happens():
        with deployment.frozen(deployment.postgres):
            began = time.monotonic()
            made, paid, again, shown, unknown = await asyncio.gather(
                shop.api("POST", "/v1/tokens", {"card": card()}),
                shop.pay(payment(token, cvc="000")),
                shop.pay(payment(token), key=key),
                shop.api("GET", f"/v1/tokens/{token}"),
                stranger.api("GET", f"/v1/tokens/{token}"),  # its key is in no cache
            )
            # A statement gives up after 2 s; what came while it waited goes with the next batch.
            assert time.monotonic() - began < 12
        assert is_away(made, *away)
        assert is_not_sent(paid, *away)
        assert is_not_sent(again, *away)
        assert is_away(shown, *away)
        assert is_away(unknown, *away)
        assert await back(lambda: shop.api("GET", f"/v1/tokens/{token}"), seconds=2) < 2
    # PostgreSQL may have carried the claim out when it went on: then it stays for its lease.
    assert (await shop.pay(payment(token), key=key)).status in (200, 409)
    await store.execute("UPDATE claim SET lease_until = now() WHERE intent IS NULL")
    assert (await ended(shop, token, key)).status == 200
    await until_ready(shop)


@pytest.mark.guards("F-19")
async def test_postgres_answers_nobody_when_the_processor_has_answered(
    deployment: Deployment, shop: Merchant, processor: ProcessorControl, store: Store
) -> None:
    """The merchant hears the processor's answer; the outcome is on disk until it is on record."""
    token, key = await shop.token(AMEX), new_idempotency_key()
    before = processor.counts
    processor.do("hold")
    paying = asyncio.create_task(shop.pay(payment(token, cvc="000"), key=key))
    await asyncio.to_thread(processor.until_held, before)
    with deployment.frozen(deployment.postgres):
        processor.do("release")
        answer = await paying
        assert (answer.status, answer.state) == (200, "completed")
        assert answer.headers["Ledger-Pending"] == "true"
        spooled = list((deployment.parts.folder / "gateway" / "spool").iterdir())
        assert len(spooled) == 1
    await back(lambda: shop.pay(payment(token)), seconds=10)
    record = await shop.authorization(answer)
    assert (record["state"], record["result"]) == ("completed", "approved")
    assert not await store.fetchval("SELECT count(*) FROM cvc WHERE token = $1", token)
    assert not spooled[0].exists()
    again = await shop.pay(payment(token, cvc="000"), key=key)
    assert (again.status, again.json()["id"]) == (200, answer.json()["id"])
    assert processor.counts.charges == before.charges + 2
    await until_ready(shop)


@pytest.mark.guards("F-10", "F-51", "F-54")
async def test_postgres_is_killed(
    deployment: Deployment, shop: Merchant, processor: ProcessorControl
) -> None:
    """It comes back by itself; codes are gone, everything else is there."""
    token = await shop.token()
    paid = await shop.pay(payment(token), key=(key := new_idempotency_key()))
    before = processor.counts
    old = deployment.postgres
    os.kill(old, signal.SIGKILL)
    answers: list[Reply] = []
    began = time.monotonic()
    while not answers or answers[-1].status != 200:
        assert time.monotonic() - began < 15, answers[-1].body
        answers.append(await shop.pay(payment(token)))
    away = ("store_unavailable", "ledger_unavailable")
    assert all(is_not_sent(each, *away) for each in answers[:-1])
    assert len(answers) > 1
    assert processor.counts.charges == before.charges + 1
    assert deployment.postgres != old

    gone = await shop.pay(payment(token, cvc="000"))
    assert (gone.status, gone.error["code"]) == (400, "cvc_expired")
    assert gone.state == "not_sent"
    assert gone.headers["Stripe-Should-Retry"] == "false"
    replayed = await shop.pay(payment(token), key=key)
    assert (replayed.status, replayed.body) == (200, paid.body)
    await until_ready(shop)


# --- after all of it ----------------------------------------------------------------------


async def test_no_intent_is_left_open(store: Store) -> None:
    assert await store.fetchval("SELECT count(*) FROM intent_state WHERE state = 'attempted'") == 0
    assert (
        await store.fetchval("SELECT count(*) FROM cvc WHERE expires_at < now() - '6 s'::interval")
        == 0
    )


@pytest.mark.guards("T-74")
def test_the_ledger_verifies_and_every_decrypt_has_its_intent(deployment: Deployment) -> None:
    words = ("ledger", "verify", "--json", "--embedded", str(deployment.parts.folder))
    command = (sys.executable, "-c", "from gateway.cli import main; main()", *words)
    done = subprocess.run(  # noqa: S603 - our own words
        command, check=False, capture_output=True, env={"PATH": os.environ["PATH"]}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert (said["good"], said["violations"], said["unmatched"]) == (True, [], [])
    assert said["decrypts"] == len(deployment.decrypts())


def test_the_simulated_processor_has_no_bug(processor: ProcessorControl) -> None:
    assert processor.counts.faults == 0


def test_the_logs_are_closed_records(deployment: Deployment, wire: Wire) -> None:
    """JSON, one event a line, its fields a closed list; no card in any log of any child."""
    known = {"event", "listener", "request_id", "method", "route", "status", "ms", "tenant", "key"}
    known |= {"code", "fault", "state", "authorization", "error", "at"}
    for event in deployment.gateway.events():
        if event["event"] == "request":
            assert set(event) <= known
    assert deployment.leak_in_the_logs() is None
