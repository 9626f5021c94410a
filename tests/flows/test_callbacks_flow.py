"""What a processor reports later settles what its answer did not: once, and only if it is true.

Over the real listeners, with the simulated processors, which sign and repeat as the real ones do.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from gateway.sandbox.callbacks import Callback, others_secret
from tests.cards import VISA
from tests.flows.called_back import (
    CALLBACKS,
    SECRETS,
    CalledBackSeller,
    Counter,
    OtherGateway,
    adyen_item,
    checkout_event,
    new_called_back_seller,
    new_endpoint,
    ordered,
    running_other,
    set_secret,
    stripe_event,
)
from tests.flows.deployment import Deployment, Gateway, Store, Urls, connected, eventually
from tests.flows.leaks import first_leak
from tests.flows.merchant import Merchant, new_idempotency_key
from tests.flows.processor import ProcessorControl
from tests.flows.replica import running_replica
from tests.flows.test_denials_flow import denied_by_its_gateway
from tests.flows.wire import Reply, Wire
from vault.ids import intent_of

pytestmark = pytest.mark.embedded

BODY_BYTES_MAX = 512 * 1024
REPEATS = 1000
BUSY = {"overloaded", "store_unavailable", "ledger_unavailable"}
MADE: Mapping[str, Callable[[str], Callback]] = {
    "stripe": stripe_event,
    "adyen": adyen_item,
    "checkout_com": checkout_event,
}


@pytest.fixture(scope="module")
def called_back(deployment: Deployment) -> Iterator[CalledBackSeller]:
    """Give the seller; afterwards nobody is called back any more."""
    yield asyncio.run(new_called_back_seller(deployment))
    for processor in SECRETS:
        deployment.processor.do("call_back_no_more", processor=processor)


@pytest.fixture(scope="module")
def other(deployment: Deployment, watched: list[Gateway]) -> Iterator[OtherGateway]:
    with running_other(deployment) as running:
        watched.append(running.gateway)
        yield running


@pytest.fixture
def counter(
    deployment: Deployment,
    called_back: CalledBackSeller,
    wire: Wire,
    store: Store,
    processor: ProcessorControl,
) -> Counter:
    merchant = Merchant(called_back.seller.account, deployment.urls, wire)
    counter = Counter(deployment, called_back.seller, merchant, called_back.paths, store, processor)
    for route in SECRETS:
        counter.call_back(route, deployment.urls)
    return counter


@asynccontextmanager
async def many(deployment: Deployment) -> AsyncIterator[Wire]:
    """Give as many connections as one address may have, and a few fewer."""
    context = deployment.client_context()
    connector = aiohttp.TCPConnector(ssl=context, limit=0, limit_per_host=48)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield Wire(session)


def told(record: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((event["type"], event["effect"]) for event in record["events"])


# --- what it settles ----------------------------------------------------------------------


@pytest.mark.guards("F-23")
async def test_a_payment_whose_answer_was_lost_is_resolved_by_the_callback(
    counter: Counter,
) -> None:
    """Once, however often the processor says it."""
    key, before = new_idempotency_key(), counter.processor.counts
    entries, callbacks = await counter.entries(), counter.processor.callbacks
    counter.processor.do("hold_callbacks")
    counter.processor.do("repeat_next_callback", times=3)
    lost = await counter.lost(reference := new_idempotency_key(), key=key)
    assert (await counter.record(lost))["events"] == []
    counter.processor.do("release_callbacks")
    record = await counter.until(lost, "resolved")
    await counter.acknowledged(callbacks, 4)
    record = await counter.record(lost)
    assert (record["result"], record["merchant_reference"]) == ("approved", reference)
    assert record["processor_reference"].startswith("pi_")
    assert told(record) == [("payment_intent.succeeded", "captured")]
    (event,) = record["events"]
    assert (event["amount"], event["currency"]) == (1999, "EUR")
    assert await counter.resolutions(lost) == [("callback", "answered")]
    assert await counter.entries() == entries + 1
    codes = "SELECT count(*) FROM cvc WHERE token = $1"
    assert await counter.store.fetchval(codes, record["tokens"][0]) == 0
    assert counter.processor.counts.charges == before.charges + 1


@pytest.mark.parametrize("answer", ["comes", "is lost"])
async def test_a_callback_that_comes_before_the_answer(counter: Counter, answer: str) -> None:
    """It ends as if they had come in the usual order."""
    callbacks, entries = counter.processor.callbacks, await counter.entries()
    if answer == "is lost":
        counter.processor.do("lose_next_answer")
    counter.processor.do("hold", at="answer")
    paying = asyncio.create_task(counter.pay(new_idempotency_key()))
    await counter.acknowledged(callbacks)
    assert await counter.entries() == entries + 1
    early = await counter.store.fetchrow(
        "SELECT first, effect FROM callback WHERE tenant = $1 ORDER BY received_at DESC LIMIT 1",
        counter.merchant.tenant,
    )
    assert early is not None
    assert (early["first"], early["effect"]) == (None, "captured")
    counter.processor.do("release")
    reply = await paying
    record = await counter.until(reply, "completed" if answer == "comes" else "resolved")
    assert record["result"] == "approved"
    assert told(record) == [("payment_intent.succeeded", "captured")]
    usual = [] if answer == "comes" else [("callback", "answered")]
    assert await counter.resolutions(reply) == usual
    assert await counter.entries() == entries + 1
    codes = "SELECT count(*) FROM cvc WHERE token = $1"
    assert await counter.store.fetchval(codes, record["tokens"][0]) == 0


async def until_heard(counter: Counter, event: Callback, urls: Urls) -> list[str]:
    """Post as a processor does, which tries again while a gateway has no room; what it was told."""
    refused: list[str] = []
    while (reply := await counter.post("stripe", event, urls=urls)).status != 200:
        assert reply.status == 503, reply.body
        refused.append(reply.problem["code"])
    return refused


@pytest.mark.guards("T-53", "F-48")
async def test_one_callback_a_thousand_times_at_once_over_two_gateways(
    deployment: Deployment, counter: Counter, other: OtherGateway
) -> None:
    counter.processor.do("call_back_no_more", processor="stripe")
    lost = await counter.lost(reference := new_idempotency_key())
    event, entries = stripe_event(reference), await counter.entries()
    places = (counter.merchant.urls, other.urls)
    async with many(deployment) as wire:
        posting = replace(counter, merchant=Merchant(counter.seller.account, places[0], wire))
        refused = await asyncio.gather(
            *(until_heard(posting, event, places[number % 2]) for number in range(REPEATS))
        )
    assert {code for codes in refused for code in codes} <= BUSY
    (row,) = await counter.inbox(event.id)
    assert str(row["first"]) == intent_of(lost.headers["Panward-Authorization"])
    assert await counter.entries() == entries + 1
    assert await counter.resolutions(lost) == [("callback", "answered")]
    assert told(await counter.record(lost)) == [("payment_intent.succeeded", "captured")]


ORDERS = ("as_told", "reversed", "shuffled")


@pytest.mark.guards("T-53")
@pytest.mark.parametrize("order", ORDERS)
async def test_payment_capture_and_refund_in_any_order(counter: Counter, order: str) -> None:
    """Each event settles its own request; what is on record after all is the same."""
    callbacks = counter.processor.callbacks
    counter.processor.do("hold_callbacks")
    token = await counter.merchant.token()
    source = {"type": "card", "number": token, "expiry_month": 12, "expiry_year": 2034}
    price = {"amount": 1999, "currency": "EUR", "reference": new_idempotency_key()}
    counter.processor.do("lose_next_answer")
    body = {"source": source | {"cvv": token}, "capture": False} | price
    paid = await counter.checkout("/payments", body)
    assert paid.state == "unknown"
    id_ = counter.processor.called_back[-1]["payment"]
    captured = await counter.checkout(f"/payments/{id_}/captures", {"amount": 1999})
    refunded = await counter.checkout(f"/payments/{id_}/refunds", {"amount": 500})
    assert (captured.status, refunded.status) == (202, 202)
    for reply in (captured, refunded):
        assert (await counter.record(reply))["result"] == "pending"
    counter.processor.do("release_callbacks", order=order)
    await counter.acknowledged(callbacks, 3)
    for reply in (captured, refunded, paid):
        record = await counter.until(reply, "resolved", events=0)
        assert record["result"] == "approved"
        assert await counter.resolutions(reply) == [("callback", "answered")]
    record = await counter.until(paid, "resolved", events=3)
    assert record["processor_reference"] == id_
    assert told(record) == [
        ("payment_approved", "approved"),
        ("payment_captured", "captured"),
        ("payment_refunded", "refunded"),
    ]


# --- what it is answered ------------------------------------------------------------------


async def test_each_processor_hears_what_it_expects(counter: Counter) -> None:
    accepted = await counter.post("adyen", adyen_item(new_idempotency_key()))
    assert (accepted.status, accepted.body) == (200, b"[accepted]")
    for route, callback in (
        ("checkout_com", checkout_event(new_idempotency_key())),
        ("stripe", stripe_event(new_idempotency_key())),
    ):
        assert 200 <= (await counter.post(route, callback)).status < 300


async def test_an_endpoint_that_nobody_has(counter: Counter) -> None:
    known = counter.paths["stripe"]
    entries, event = await counter.entries(), stripe_event(new_idempotency_key())
    unknown = known[:-1] + ("0" if known[-1] != "0" else "1")
    for path in (unknown, CALLBACKS + "cbe_", CALLBACKS + "%00", known + "/x"):
        reply = await counter.post("stripe", event, path=path)
        assert reply.status == 404, path
    assert await counter.inbox(event.id) == []
    assert await counter.entries() == entries


async def test_a_body_may_have_512_kib(counter: Counter) -> None:
    reference = new_idempotency_key()
    empty = stripe_event(reference).noting("")
    size = len(empty.posted("whsec_" + "0" * 32, at=datetime.now(UTC)).body)
    largest = empty.noting("x" * (BODY_BYTES_MAX - size))
    assert (await counter.post("stripe", largest)).status == 200
    (row,) = await counter.inbox(largest.id)
    assert len(row["body"]) == BODY_BYTES_MAX
    larger = stripe_event(reference).noting("x" * (BODY_BYTES_MAX - size + 1024))
    refused = await counter.post("stripe", larger)
    assert refused.problem["status"] == 413
    assert await counter.inbox(larger.id) == []


# --- what is refused ----------------------------------------------------------------------


async def forged(counter: Counter, reference: str, urls: Urls) -> list[Reply]:
    """Post as somebody would who has not the secret, or an old post of somebody who has."""
    event, at = stripe_event(reference), datetime.now(UTC)
    post = event.posted(SECRETS["stripe"], at=at)
    url = urls.public + counter.paths["stripe"]
    signed = list(post.headers.items())
    changed = post.body.replace(b"1999", b"1998")
    assert changed != post.body
    return [
        await counter.post("stripe", event, secret=others_secret("x"), urls=urls),
        await counter.post("stripe", event, secret=None, urls=urls),
        await counter.post("stripe", event, at=at - timedelta(minutes=6), urls=urls),
        await counter.post("stripe", event, at=at + timedelta(minutes=6), urls=urls),
        await counter.wire("POST", url, changed, headers=signed),
        await counter.wire("POST", url, post.body, headers=[*signed, signed[-1]]),
    ]


@pytest.mark.guards("T-52", "F-42")
async def test_what_is_forged_or_stale_leaves_nothing_but_its_count(
    deployment: Deployment, counter: Counter
) -> None:
    counter.processor.do("call_back_no_more", processor="stripe")
    lost = await counter.lost(reference := new_idempotency_key())
    entries = await counter.entries()
    rows = "SELECT count(*) FROM callback WHERE tenant = $1"
    before = await counter.store.fetchval(rows, counter.merchant.tenant)
    since = await counter.store.fetchval("SELECT max(idx) FROM entry")
    with running_replica(deployment, "forged") as replica:
        replies = await forged(counter, reference, replica.urls)
    assert {reply.told()[:3] for reply in replies} == {(401, "callback_refused", None)}
    assert [reply.problem["reason"] for reply in replies] == [
        "signature_mismatch",
        "signature_missing",
        "signature_stale",
        "signature_stale",
        "signature_mismatch",
        "signature_malformed",
    ]
    assert await counter.entries() == entries
    assert await counter.store.fetchval(rows, counter.merchant.tenant) == before
    record = await counter.record(lost)
    assert (record["state"], record["events"]) == ("unknown", [])
    denied = await denied_by_its_gateway(counter.store, since)
    assert {(each.cause, each.tenant) for each in denied} == {
        ("signature", counter.merchant.tenant)
    }
    assert sum(each.count for each in denied) == len(replies)


@pytest.mark.guards("T-52")
async def test_a_simulated_forger_is_refused_and_the_genuine_one_heard(counter: Counter) -> None:
    callbacks = counter.processor.callbacks
    counter.processor.do("forge_next_callback", forgery="other_secret")
    paid = await counter.pay(new_idempotency_key())

    async def refused() -> bool:
        return counter.processor.callbacks["given_up"] > callbacks["given_up"]

    await eventually(refused, "it is never refused")
    assert counter.processor.called_back[-1]["status"] == 401
    assert (await counter.record(paid))["events"] == []
    heard = await counter.until(await counter.pay(new_idempotency_key()), "completed")
    assert told(heard) == [("payment_intent.succeeded", "captured")]


# --- card numbers -------------------------------------------------------------------------


@pytest.mark.guards("T-54")
@pytest.mark.parametrize("route", list(SECRETS))
async def test_a_card_number_in_a_callback_is_nowhere(counter: Counter, route: str) -> None:
    """The rest of it is as it came."""
    token = await counter.merchant.token()
    card = await counter.merchant.api("GET", f"/v1/tokens/{token}")
    reference = new_idempotency_key()
    callback = MADE[route](reference).noting(f"paid with {VISA}, thank you")
    posted = callback.posted(SECRETS[route], at=datetime.now(UTC))
    reply = await counter.post(route, callback)
    assert reply.status == 200
    row = await counter.store.fetchrow(
        "SELECT * FROM callback WHERE tenant = $1 ORDER BY received_at DESC LIMIT 1",
        counter.merchant.tenant,
    )
    assert row is not None
    assert (row["merchant_reference"], row["is_scrubbed"]) == (reference, True)
    assert first_leak(repr(dict(row)).encode()) is None
    kept, sent = json.loads(row["body"]), json.loads(posted.body)
    assert kept != sent
    masked = row["body"].replace(b"*" * 12 + VISA[-4:].encode(), VISA.encode())
    assert json.loads(masked) == sent
    assert (await counter.merchant.api("GET", f"/v1/tokens/{token}")).json() == card.json()
    assert counter.deployment.leak_in_the_logs() is None


@pytest.mark.guards("T-54")
async def test_a_card_number_that_the_processor_itself_repeats(counter: Counter) -> None:
    before = counter.processor.callbacks
    counter.processor.do("plant_in_next_callback", text=VISA)
    paid = await counter.pay(new_idempotency_key())
    await counter.acknowledged(before)
    record = await counter.until(paid, "completed")
    assert told(record) == [("payment_intent.succeeded", "captured")]
    assert counter.deployment.leak_in_the_files() is None


# --- rotation -----------------------------------------------------------------------------


async def test_an_endpoint_that_was_rotated(counter: Counter) -> None:
    old = await new_endpoint(counter.deployment, counter.merchant.tenant, "stripe")
    identity = old.removeprefix(CALLBACKS)

    async def answered(path: str) -> int:
        reply = await counter.post("stripe", stripe_event(new_idempotency_key()), path=path)
        return reply.status

    said = ordered(counter.deployment, "endpoints", "rotate", identity)
    new = CALLBACKS + said.strip().rpartition("/")[2]
    assert new != old
    assert [await answered(path) for path in (old, new)] == [200, 200]
    ordered(counter.deployment, "endpoints", "end", identity)
    assert [await answered(path) for path in (old, new)] == [404, 200]


@pytest.mark.guards("T-52")
async def test_two_secrets_are_in_force_during_a_rotation(
    deployment: Deployment, counter: Counter
) -> None:
    seller = await new_called_back_seller(deployment)
    tenant, path = seller.seller.account.tenant, seller.paths["stripe"]
    newer, event = "whsec_" + "b2" * 16, stripe_event(new_idempotency_key())
    await set_secret(deployment, tenant, "stripe", "key.2", newer)
    for secret in (SECRETS["stripe"], newer):
        assert (await counter.post("stripe", event, secret=secret, path=path)).status == 200
    stranger = others_secret(newer)
    assert (await counter.post("stripe", event, secret=stranger, path=path)).status == 401
    mine = counter.paths["stripe"]
    assert (await counter.post("stripe", event, secret=newer, path=mine)).status == 401


# --- trouble ------------------------------------------------------------------------------


async def has_one_effect(
    counter: Counter, urls: Urls, event: Callback, lost: Reply, entries: int
) -> None:
    """Try again, as a processor does that has not heard, and see what came of it in all."""

    async def heard() -> bool:
        with suppress(aiohttp.ClientError):  # on a connection that died with its gateway
            return (await counter.post("stripe", event, urls=urls)).status == 200
        return False

    await eventually(heard, "it is never heard", seconds=20)
    assert len(await counter.inbox(event.id)) == 1
    assert await counter.entries() == entries + 1
    assert (await counter.until(lost, "resolved"))["result"] == "approved"
    assert await counter.resolutions(lost) == [("callback", "answered")]


@pytest.mark.guards("T-53", "F-48")
@pytest.mark.parametrize("moment", ["before it is on record", "before it is answered"])
async def test_a_gateway_that_is_killed_while_it_is_called_back(
    counter: Counter, other: OtherGateway, moment: str
) -> None:
    """The processor hears nothing, and tries again: one effect, whenever it was."""
    counter.processor.do("call_back_no_more", processor="stripe")
    lost = await counter.lost(reference := new_idempotency_key())
    event, entries = stripe_event(reference), await counter.entries()

    async def row() -> bool:
        return bool(await counter.inbox(event.id))

    async def waits() -> bool:
        waiting = await counter.store.fetchval(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'callback'::regclass"
        )
        return bool(waiting)

    def posting() -> list[asyncio.Task[Reply]]:
        posts = (counter.post("stripe", event, urls=other.urls) for _ in range(20))
        return [asyncio.create_task(post) for post in posts]

    if moment == "before it is on record":
        async with counter.store.transaction():
            await counter.store.execute("LOCK TABLE callback IN EXCLUSIVE MODE")
            posts = posting()
            await eventually(waits, "nothing waits for the lock")
            other.kill()
            unheard = await asyncio.gather(*posts, return_exceptions=True)
        assert all(isinstance(one, aiohttp.ClientError) for one in unheard)
        assert await counter.inbox(event.id) == []
        assert (await counter.record(lost))["state"] == "unknown"
    else:
        posts = posting()
        await eventually(row, "it is never on record")
        other.kill()
        await asyncio.gather(*posts, return_exceptions=True)
    other.start()  # from this thread: what it starts ends with the one that started it
    await has_one_effect(counter, other.urls, event, lost, entries)


async def exchanged(
    deployment: Deployment, url: str, head: bytes, body: bytes, *, waits: bool = False
) -> tuple[bytes, bytes]:
    """Speak as an old client would; give what came before the body, and the answer."""
    async with connected(deployment, url) as (reader, writer):
        writer.write(head)
        interim = await reader.readuntil(b"\r\n\r\n") if waits else b""
        writer.write(body)
        return interim, await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)


def head_of(path: str, version: str, body: bytes, *more: str) -> bytes:
    lines = [f"POST {path} HTTP/{version}", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *more, "", ""]).encode()


async def test_old_clients_may_call_back_and_nothing_else(
    deployment: Deployment, counter: Counter
) -> None:
    public = deployment.urls.public
    for version, header in (("1.0", ""), ("1.1", "Expect: 100-continue")):
        event = stripe_event(new_idempotency_key())
        post = event.posted(SECRETS["stripe"], at=datetime.now(UTC))
        headers = [f"{name}: {value}" for name, value in post.headers.items()]
        headers += [header] if header else []
        head = head_of(counter.paths["stripe"], version, post.body, *headers)
        interim, answer = await exchanged(deployment, public, head, post.body, waits=bool(header))
        assert b" 100 " in interim or not header
        assert b" 200 " in answer.splitlines()[0], answer
        assert len(await counter.inbox(event.id)) == 1
        elsewhere = head_of("/v1/tokens", version, b"{}", *([header] if header else []))
        _, refused = await exchanged(deployment, public, elsewhere, b"{}")
        assert refused.split()[1] in {b"505", b"417"}, refused


@pytest.mark.guards("T-53", "F-48")
@pytest.mark.parametrize("trouble", ["it is busy", "it is frozen"])
async def test_a_store_that_does_not_answer(
    deployment: Deployment, counter: Counter, trouble: str
) -> None:
    """503, and nothing is promised; the processor's next try finds it there again."""
    counter.processor.do("call_back_no_more", processor="stripe")
    lost = await counter.lost(reference := new_idempotency_key())
    event, entries = stripe_event(reference), await counter.entries()
    began = time.monotonic()
    if trouble == "it is busy":  # the endpoint is found, but nothing can be put on record
        async with counter.store.transaction():
            await counter.store.execute("LOCK TABLE callback IN EXCLUSIVE MODE")
            away = await counter.post("stripe", event)
            assert await counter.inbox(event.id) == []
    else:
        with deployment.frozen(deployment.postgres):
            away = await counter.post("stripe", event)
    assert time.monotonic() - began < 12
    assert away.problem["status"] == 503
    assert int(away.headers["Retry-After"]) >= 1

    await has_one_effect(counter, deployment.urls, event, lost, entries)
