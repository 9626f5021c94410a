"""Networks that are slow, lossy, or in an attacker's hands; keys that change in mid-session."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.async_api import Request, Route

from tests import cards
from tests.browser.checkout.stage import Stage
from tests.browser.checkout.visit import Form, Visit
from tests.flows.deployment import Store, said_by_panward
from tests.flows.merchant import Merchant
from tests.flows.wire import Reply, Wire
from vault.edge_keys import kid_of
from vault.ids import new_uuid7

pytestmark = pytest.mark.embedded

TOKENS = "**/v1/tokens"
KEYS = "**/v1/edge-keys"


async def filled(visit: Visit, **more: Any) -> Form:  # noqa: ANN401 - as `Visit.form` has them
    form = await visit.form(**more)
    await form.type(cards.VISA)
    return form


async def answered(wire: Wire, request: Request) -> Reply:
    """Ask the gateway what a page asked it, as whoever sits between the two does."""
    passed = ("authorization", "content-type", "origin")
    headers = {name: value for name, value in request.headers.items() if name in passed}
    body = request.post_data_buffer
    return await wire(request.method, request.url, body, headers=headers)


async def fulfilled(route: Route, answer: Reply, body: bytes) -> None:
    kept = ("Content-Type", "Date", "Access-Control-Allow-Origin", "Cross-Origin-Resource-Policy")
    headers = {name: answer.headers[name] for name in kept if name in answer.headers}
    await route.fulfill(status=answer.status, headers=headers, body=body)


def sent_to(visit: Visit, path: str) -> list[str]:
    return [body for url, body in visit.requests if url.endswith(path)]


async def test_a_lost_request_is_sent_again_sealed_anew(visit: Visit) -> None:
    form = await filled(visit)
    lost: list[Request] = []

    async def lose_two(route: Route) -> None:
        lost.append(route.request)
        if len(lost) <= 2:
            await route.abort("connectionreset")
        else:
            await route.fallback()

    await visit.context.route(TOKENS, lose_two)
    assert (await form.tokenize())["last4"] == cards.VISA[-4:]
    bodies = [json.loads(body)["sealed"] for body in sent_to(visit, "/v1/tokens")]
    assert len(set(bodies)) == len(bodies) == 3


async def test_a_lost_answer_leaves_a_token_behind_and_the_shopper_pays(
    visit: Visit, stage: Stage, wire: Wire
) -> None:
    form = await filled(visit)
    left_behind: list[str] = []

    async def lose_the_answer(route: Route) -> None:
        if left_behind:
            await route.fallback()
            return
        answer = await answered(wire, route.request)
        assert answer.status == 201
        left_behind.append(answer.json()["id"])
        await route.abort("connectionreset")

    await visit.context.route(TOKENS, lose_the_answer)
    card = await form.tokenize()
    assert left_behind[0] != card["id"]
    store: Store = await stage.deployment.store()
    query = "SELECT expires_at - created_at FROM token WHERE id = $1"
    try:
        life = await store.fetchval(query, left_behind[0])
    finally:
        await store.close(timeout=10)
    assert life.total_seconds() <= 24 * 3600


async def test_offline_and_back(visit: Visit) -> None:
    form = await filled(visit)
    await visit.context.set_offline(True)
    error = await form.refusal()
    assert (error["code"], error["retryable"]) == ("network", True)
    await visit.context.set_offline(False)
    assert (await form.tokenize())["last4"] == cards.VISA[-4:]


async def test_no_answer_at_all_is_a_timeout(visit: Visit) -> None:
    form = await filled(visit, options={"timeoutMilliseconds": 1500})

    async def never(route: Route) -> None:
        """Leave it open; it ends with the page."""

    await visit.context.route(TOKENS, never)
    error = await form.refusal()
    assert (error["code"], error["retryable"]) == ("timeout", True)
    await visit.context.unroute(TOKENS)
    assert (await form.tokenize())["last4"] == cards.VISA[-4:]


async def test_a_balancer_without_a_gateway_is_asked_again(visit: Visit) -> None:
    form = await filled(visit)
    asked: list[str] = []

    async def unavailable_at_first(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) == 1:
            await route.fulfill(status=503, body="<h1>503</h1>", content_type="text/html")
        else:
            await route.fallback()

    await visit.context.route(TOKENS, unavailable_at_first)
    await visit.context.route(KEYS, unavailable_at_first)
    assert (await form.tokenize())["last4"] == cards.VISA[-4:]


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (503, b"", "unavailable"),
        (200, b"<html>a portal</html>", "unavailable"),
        (201, b'{"id": "<b>", "last4": "1"}', "unavailable"),
        (302, b"", "network"),
        (401, b"{}", "key_refused"),
    ],
)
async def test_what_a_middlebox_answers_is_told_by_its_code(
    visit: Visit, status: int, body: bytes, code: str
) -> None:
    form = await filled(visit)

    async def other(route: Route) -> None:
        headers = {"Location": "https://127.0.0.1:1/"} if status == 302 else {}
        await route.fulfill(status=status, body=body, headers=headers)

    await visit.context.route(TOKENS, other)
    assert (await form.refusal())["code"] == code


async def test_a_frame_that_does_not_load_says_so(visit: Visit) -> None:
    await visit.context.route("**/fields-*.js", lambda route: route.abort())
    form = await visit.begin(await visit.page())
    assert (await form.event("failure"))["code"] == "not_ready"


async def test_a_changed_script_does_not_run(visit: Visit, wire: Wire) -> None:
    """Whoever sits in the middle changes one byte: integrity and the policy's hash both hold."""

    async def changed(route: Route) -> None:
        answer = await answered(wire, route.request)
        await fulfilled(route, answer, answer.body + b"\n" * changes)

    await visit.context.route("**/fields-*.js", changed)
    changes = 0
    await visit.form()  # what stands between them does no harm by itself
    changes = 1
    form = await visit.begin(await visit.page())
    assert (await form.event("failure"))["code"] == "not_ready"


async def test_the_sealing_script_is_fetched_again(visit: Visit) -> None:
    await visit.context.route("**/sealing-*.js", lambda route: route.abort())
    form = await filled(visit)
    assert (await form.refusal())["code"] == "network"
    await visit.context.unroute("**/sealing-*.js")
    assert (await form.tokenize())["last4"] == cards.VISA[-4:]


async def test_too_many_calls_are_told(visit: Visit, strict: str) -> None:
    form = await filled(visit, gateway="strict")
    assert (await form.tokenize())["last4"] == cards.VISA[-4:]
    error = await form.refusal()
    assert (error["code"], error["retryable"]) == ("rate_limited", True)


async def test_a_refused_card_is_told_by_its_part(visit: Visit) -> None:
    form = await filled(visit)
    problem = {"code": "card_invalid", "status": 422, "field": "card.exp_year", "reason": "past"}

    async def refused(route: Route) -> None:
        await route.fulfill(status=422, json=problem)

    await visit.context.route(TOKENS, refused)
    error = await form.refusal()
    told = (error["code"], error["field"], error["reason"], error["retryable"])
    assert told == ("card_refused", "expiry", "past", False)


# --- keys ---------------------------------------------------------------------------------


async def edge_keys(shop: Merchant) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {shop.account.publishable_key}"}
    reply = await shop.wire("GET", f"{shop.urls.public}/v1/edge-keys", headers=headers)
    assert reply.status == 200
    return reply.json()


async def refreshed(shop: Merchant) -> None:
    """Have the gateway look for new keys: it does so when it is shown one that it does not know."""
    headers = {
        "Authorization": f"Bearer {shop.account.publishable_key}",
        "Content-Type": "application/json",
    }
    junk = base64.b64encode(bytes(600)).decode()
    body = json.dumps({"sealed": junk, "kid": kid_of(new_uuid7(datetime.now(UTC)))}).encode()
    await shop.wire("POST", f"{shop.urls.public}/v1/tokens", body, headers=headers)


@pytest.mark.guards("T-77")
async def test_keys_are_replaced_while_one_types(
    visit: Visit, shop: Merchant, stage: Stage
) -> None:
    """The shopper's network still has the old ones: refused once, the card is sealed anew."""
    form = await filled(visit)
    old = await edge_keys(shop)
    said_by_panward(stage.deployment, "edge-keys", "replace", "--yes")
    await refreshed(shop)
    new = await edge_keys(shop)
    assert not {key["kid"] for key in old["keys"]} & {key["kid"] for key in new["keys"]}
    given: list[str] = []

    async def stale_at_first(route: Route) -> None:
        if given:
            await route.fallback()
        else:
            given.append(old["keys"][0]["kid"])
            await route.fulfill(json=old)

    await visit.context.route(KEYS, stale_at_first)
    assert (await form.tokenize())["last4"] == cards.VISA[-4:]
    kids = [json.loads(body)["kid"] for body in sent_to(visit, "/v1/tokens")]
    assert kids == [old["keys"][0]["kid"], new["keys"][0]["kid"]]


@pytest.mark.guards("T-55")
async def test_a_pinned_key_notices_a_middlebox(visit: Visit, shop: Merchant) -> None:
    published = await edge_keys(shop)
    right = published["signing_keys"][-1]["public_key"]
    wrong = base64.b64encode(bytes(31) + b"\1").decode()
    page = await visit.page()
    one = await visit.form(page, "one", options={"verifyKey": right})
    two = await visit.form(page, "two", options={"verifyKey": wrong})
    for form in (one, two):
        await form.type(cards.VISA)
    assert (await one.tokenize())["brand"] == "visa"
    before = len(sent_to(visit, "/v1/tokens"))
    error = await two.refusal()
    assert (error["code"], error["retryable"]) == ("tampered", False)

    async def swapped(route: Route) -> None:
        answer = await answered(shop.wire, route.request)
        document = answer.json()
        for key in document["keys"]:
            key["public_key"] = base64.b64encode(b"\1" * 32).decode()
        await fulfilled(route, answer, json.dumps(document).encode())

    await visit.context.route(KEYS, swapped)
    assert (await one.refusal())["code"] == "tampered"
    assert len(sent_to(visit, "/v1/tokens")) == before
