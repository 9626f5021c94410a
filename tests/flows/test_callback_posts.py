"""Posts as they come: many events in one, many at once, and what cannot be kept."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp
import msgspec
import pytest

from tests.cards import luhn_completed
from tests.flows.called_back import (
    _CLEAN,
    _MAIN,
    AMOUNT,
    CALLBACKS,
    SECRETS,
    CalledBackSeller,
    Counter,
    adyen_item,
    new_called_back_seller,
    new_endpoint,
    ordered,
    set_secret,
    stripe_event,
)
from tests.flows.deployment import Deployment, Store
from tests.flows.leaks import first_leak
from tests.flows.merchant import JSON, Merchant, new_idempotency_key
from tests.flows.processor import ProcessorControl
from tests.flows.wire import Reply, Wire

pytestmark = pytest.mark.embedded

ITEMS_MAX = 100
NUMBERS_MAX = 1000
BURST = 200


@pytest.fixture(scope="module")
def called_back(deployment: Deployment) -> CalledBackSeller:
    return asyncio.run(new_called_back_seller(deployment))


@pytest.fixture
def counter(
    deployment: Deployment,
    called_back: CalledBackSeller,
    wire: Wire,
    store: Store,
    processor: ProcessorControl,
) -> Counter:
    merchant = Merchant(called_back.seller.account, deployment.urls, wire)
    return Counter(deployment, called_back.seller, merchant, called_back.paths, store, processor)


@asynccontextmanager
async def strangers(deployment: Deployment) -> AsyncIterator[Wire]:
    """Give a client that opens a connection for each call."""
    context = deployment.client_context()
    connector = aiohttp.TCPConnector(ssl=context, limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield Wire(session)


async def lost_at_adyen(counter: Counter, reference: str) -> Reply:
    """Pay at Adyen, and lose the answer."""
    card = {"type": "scheme", "number": await counter.merchant.token(), "expiryMonth": "12"}
    order = {
        "amount": {"currency": "EUR", "value": AMOUNT},
        "reference": reference,
        "merchantAccount": "ShopCOM",
        "paymentMethod": card | {"expiryYear": "2034", "holderName": "J. Smith"},
        "returnUrl": "https://shop.example/back",
    }
    login = counter.seller.key.logins["adyen"]["api_key"]
    counter.processor.do("lose_next_answer")
    reply = await counter.wire(
        "POST",
        f"{counter.merchant.urls.private}/out/adyen/v72/payments",
        json.dumps(order).encode(),
        headers={"X-API-Key": login, "Content-Type": JSON},
    )
    assert reply.state == "unknown", reply.body
    return reply


def items_of(count: int) -> Sequence[tuple[str, str | None, str]]:
    """Give reference, original and code of items that all speak of one payment, each a new time."""
    payment = new_idempotency_key().removeprefix("order-").upper()
    rest = ((f"{payment}{number:03}", payment, "CAPTURE") for number in range(1, count))
    return ((payment, None, "AUTHORISATION"), *rest)


def adyen_post(reference: str, count: int) -> tuple[bytes, Any]:
    at, parts, headers = datetime.now(UTC), [], None
    for number, (name, original, code) in enumerate(items_of(count)):
        item = msgspec.structs.replace(
            adyen_item(reference),
            psp_reference=name,
            original_reference=original,
            event_code=code,
            event_date=at.replace(microsecond=number * 1000).isoformat(timespec="milliseconds"),
        )
        post = item.posted(SECRETS["adyen"], at=at)
        headers = post.headers
        parts += json.loads(post.body)["notificationItems"]
    return json.dumps({"live": "false", "notificationItems": parts}).encode(), headers


# --- several in one post --------------------------------------------------------------------


@pytest.mark.guards("T-53")
async def test_a_hundred_items_of_one_payment_in_one_post(counter: Counter) -> None:
    """None gets in another's way: all are on record by the one answer, in their order."""
    lost = await lost_at_adyen(counter, reference := new_idempotency_key())
    body, headers = adyen_post(reference, ITEMS_MAX)
    url = counter.merchant.urls.public + counter.paths["adyen"]
    reply = await counter.wire("POST", url, body, headers=headers)
    assert (reply.status, reply.body) == (200, b"[accepted]")
    record = await counter.record(lost)
    assert (record["state"], record["result"]) == ("resolved", "approved")
    assert [each["type"] for each in record["events"]] == ["AUTHORISATION"] + ["CAPTURE"] * 99
    again = await counter.wire("POST", url, body, headers=headers)
    assert (again.status, again.body) == (200, b"[accepted]")
    assert len((await counter.record(lost))["events"]) == ITEMS_MAX


# --- what cannot be kept --------------------------------------------------------------------


@pytest.mark.guards("T-54")
async def test_what_no_card_can_be_taken_out_of_is_on_record_without_its_body(
    deployment: Deployment, counter: Counter
) -> None:
    numbers = [luhn_completed(f"4{n:014}") for n in range(NUMBERS_MAX + 1)]
    event = stripe_event(new_idempotency_key(), lines=numbers)
    entries = await counter.entries()
    replies = [await counter.post("stripe", event) for _ in range(2)]
    assert [reply.status for reply in replies] == [200, 200]
    assert await counter.entries() == entries + 1
    row = await counter.store.fetchrow(
        "SELECT * FROM callback WHERE tenant = $1 ORDER BY received_at DESC LIMIT 1",
        counter.merchant.tenant,
    )
    assert row is not None
    assert (row["event_type"], row["effect"], row["body"]) == ("unknown", None, b"")
    assert (row["headers"], row["is_scrubbed"], row["first"]) == ("[]", True, None)
    assert row["event_id"].startswith("hmac:")
    assert first_leak(repr(dict(row)).encode()) is None
    logged = deployment.gateway.events()[-1]
    assert (logged["status"], logged["reason"]) == (200, "unreadable")
    assert deployment.leak_in_the_logs() is None


@pytest.mark.guards("T-36")
async def test_the_log_says_why_one_was_refused(deployment: Deployment, counter: Counter) -> None:
    event = stripe_event(new_idempotency_key())
    for secret, reason in ((None, "signature_missing"), ("whsec_x", "signature_mismatch")):
        assert (await counter.post("stripe", event, secret=secret)).status == 401
        logged = deployment.gateway.events()[-1]
        assert (logged["code"], logged["reason"]) == ("callback_refused", reason)
        assert "t=" not in json.dumps(logged)


# --- many at once ---------------------------------------------------------------------------


async def test_a_burst_of_connections_from_one_address_is_let_in(
    deployment: Deployment, counter: Counter
) -> None:
    """Processors call back from few addresses, and each call may be a connection of its own."""
    url = deployment.urls.public + counter.paths["stripe"]
    posts = [
        stripe_event(new_idempotency_key()).posted(SECRETS["stripe"], at=datetime.now(UTC))
        for _ in range(BURST)
    ]
    async with strangers(deployment) as many:
        replies = await asyncio.gather(
            *(many("POST", url, post.body, headers=post.headers) for post in posts)
        )
    refused = [reply.body for reply in replies if reply.status != 200]
    assert refused == []


# --- `panward callbacks send-test` ----------------------------------------------------------


def tried(deployment: Deployment, endpoint: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*_MAIN, "callbacks", "send-test", endpoint, *words]
    command += ["--config", str(deployment.config.path), "--ca-file", str(deployment.ca_file)]
    return subprocess.run(  # noqa: S603 - our own words
        command, capture_output=True, text=True, env=_CLEAN, check=False
    )


@pytest.mark.parametrize("route", list(SECRETS))
async def test_a_test_event_is_accepted_and_means_nothing(
    deployment: Deployment, counter: Counter, route: str
) -> None:
    endpoint = counter.paths[route].removeprefix(CALLBACKS)
    done = await asyncio.to_thread(tried, deployment, endpoint)
    type_ = "PANWARD_TEST" if route == "adyen" else "panward.test"
    assert (done.returncode, done.stdout) == (0, f"key.1: accepted, and on record as {type_}\n")
    row = await counter.store.fetchrow(
        "SELECT * FROM callback WHERE tenant = $1 ORDER BY received_at DESC LIMIT 1",
        counter.merchant.tenant,
    )
    assert row is not None
    assert (row["event_type"], row["effect"], row["first"]) == (type_, None, None)
    assert (row["signature"], row["route"]) == ("valid", route)
    assert SECRETS[route] not in done.stdout + done.stderr


async def test_a_secret_that_is_not_in_force_is_named(
    deployment: Deployment, counter: Counter
) -> None:
    seller = await new_called_back_seller(deployment)
    tenant, endpoint = seller.seller.account.tenant, seller.paths["stripe"].removeprefix(CALLBACKS)
    await set_secret(deployment, tenant, "stripe", "authorization", "Basic canary")
    first = await asyncio.to_thread(tried, deployment, endpoint, "--json")
    assert first.returncode == 0, first.stderr
    await set_secret(deployment, tenant, "stripe", "key.2", "whsec_canary")
    done = await asyncio.to_thread(tried, deployment, endpoint, "--json")
    assert done.returncode == 1
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"secret": "key.1", "result": "accepted", "status": 200, "reason": None},
        {
            "secret": "key.2",
            "result": "bad_signature",
            "status": 401,
            "reason": "signature_mismatch",
        },
    ]
    assert "canary" not in done.stdout + done.stderr


async def test_what_cannot_be_tried_is_said(deployment: Deployment, counter: Counter) -> None:
    endpoint = counter.paths["stripe"].removeprefix(CALLBACKS)
    done = await asyncio.to_thread(tried, deployment, "cbe_" + "0" * 32)
    assert done.returncode == 1
    assert "no endpoint" in done.stderr
    bare = await new_endpoint(deployment, counter.merchant.tenant, "stripe")
    ordered(deployment, "endpoints", "end", bare.removeprefix(CALLBACKS))
    done = await asyncio.to_thread(tried, deployment, bare.removeprefix(CALLBACKS))
    assert "no endpoint" in done.stderr
    command = [*_MAIN, "callbacks", "send-test", endpoint, "--config", str(deployment.config.path)]
    done = await asyncio.to_thread(
        lambda: subprocess.run(  # noqa: S603 - our own words
            command, capture_output=True, text=True, env=_CLEAN, check=False
        )
    )
    assert done.returncode == 1
    assert "unreachable (upstream_tls_error)" in done.stderr
    assert "--ca-file" in done.stderr
