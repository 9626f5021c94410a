"""What pages and apps use: sealing keys, sealed cards, fresh codes, and who may call from where."""

import asyncio
import base64
import json
import re
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from nacl.bindings import sodium_pad
from nacl.public import PublicKey, SealedBox
from nacl.signing import VerifyKey

from gateway.sealed import PADDED_BYTES
from tests.cards import AMEX, MASTERCARD, VISA
from tests.flows.deployment import Deployment, Store, eventually
from tests.flows.merchant import (
    APP,
    JSON,
    ORIGIN,
    Merchant,
    card,
    new_account,
    new_key,
    payment,
)
from tests.flows.replica import Replica
from tests.flows.wire import Reply
from vault.tokens import new_token

pytestmark = pytest.mark.embedded

EVIL = "https://evil.example"


class Browser:
    """A page or an app: the publishable key, the public listener, an `Origin` or none."""

    def __init__(self, shop: Merchant, origin: str | None = ORIGIN, key: str | None = None) -> None:
        self.shop = shop
        self.origin = origin
        self.key = key or shop.account.publishable_key

    async def call(
        self, verb: str, path: str, body: object = None, *, at: str | None = None, **headers: str
    ) -> Reply:
        sent = {"Authorization": f"Bearer {self.key}"} | headers
        if body is not None:
            sent["Content-Type"] = JSON
        if self.origin is not None:
            sent["Origin"] = self.origin
        content = None if body is None else json.dumps(body).encode()
        return await self.shop.wire(
            verb, (at or self.shop.urls.public) + path, content, headers=sent
        )

    async def edge_keys(self) -> dict[str, Any]:
        reply = await self.call("GET", "/v1/edge-keys")
        assert reply.status == 200, reply.body
        return reply.json()

    async def sealed(self, **changes: object) -> dict[str, str]:
        """Seal a card as `panward.js` does."""
        keys = await self.edge_keys()
        newest = keys["keys"][0]
        message = {
            "card": card(),
            "expires_at": int(time.time()) + 300,
            "kid": newest["kid"],
            "nonce": base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode(),
            "origin": ORIGIN,
            "tenant": keys["tenant"],
            "v": 1,
        } | changes
        message = {name: value for name, value in message.items() if value is not None}
        return seal(newest["public_key"], newest["kid"], message)

    async def tokenize(self, body: object, *, at: str | None = None) -> Reply:
        return await self.call("POST", "/v1/tokens", body, at=at)


def seal(public_key: str, kid: str, message: Mapping[str, object]) -> dict[str, str]:
    text = json.dumps(message, sort_keys=True, separators=(",", ":")).encode()
    box = SealedBox(PublicKey(base64.b64decode(public_key)))
    sealed = box.encrypt(sodium_pad(text, PADDED_BYTES))
    return {"sealed": base64.b64encode(sealed).decode("ascii"), "kid": kid}


@pytest.fixture
def page(shop: Merchant) -> Browser:
    return Browser(shop)


# --- the keys -----------------------------------------------------------------------------


async def test_the_keys_are_signed_with_a_key_of_their_own(page: Browser) -> None:
    document = await page.edge_keys()
    assert document["tenant"] == page.shop.tenant
    key = document["keys"][0]
    signers = {one["version"]: one["public_key"] for one in document["signing_keys"]}
    lines = (
        "panward/edge-key/v1",
        document["origin"],
        key["kid"],
        key["public_key"],
        key["not_before"],
        key["not_after"],
    )
    text = "".join(f"{line}\n" for line in lines).encode()
    verify = VerifyKey(base64.b64decode(signers[key["signed_by"]]))
    verify.verify(text, base64.b64decode(key["signature"]))
    ends = datetime.fromisoformat(key["not_after"])
    assert ends > datetime.now(UTC) + timedelta(hours=23)


async def test_the_keys_may_be_kept_for_five_minutes(page: Browser) -> None:
    reply = await page.call("GET", "/v1/edge-keys")
    assert reply.headers["Cache-Control"] == "private, max-age=300"
    assert {"Authorization", "Origin"} <= set(", ".join(reply.headers.getall("Vary")).split(", "))
    again = await page.call("GET", "/v1/edge-keys", **{"If-None-Match": reply.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    anybody = await page.shop.wire("GET", page.shop.urls.public + "/v1/edge-keys")
    assert anybody.headers["Cache-Control"] == "public, max-age=300"
    assert "tenant" not in anybody.json()
    assert anybody.json()["keys"] == reply.json()["keys"]


async def test_a_key_that_is_made_is_on_record(store: Store) -> None:
    bodies = await store.fetch("SELECT body FROM entry WHERE type = 'edge_key.created'")
    entries = [json.loads(bytes(row["body"])) for row in bodies]
    assert entries
    assert all(each["actor"] == {"id": "rotation", "kind": "system"} for each in entries)


# --- sealed cards -------------------------------------------------------------------------


async def test_a_sealed_card_becomes_a_token_like_any_other(page: Browser) -> None:
    reply = await page.tokenize(await page.sealed())
    made = reply.json()
    assert reply.status == 201, reply.body
    assert (made["brand"], made["last4"], made["exp_month"]) == ("visa", VISA[-4:], 12)
    assert "bin" not in made
    assert "fingerprint" not in made
    left = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=23) < left <= timedelta(hours=24)
    paid = await page.shop.pay(payment(made["id"], cvc=made["id"]))
    assert paid.status == 200, paid.body
    kept = await page.shop.api("PATCH", f"/v1/tokens/{made['id']}", {"expires_at": None})
    assert kept.json()["expires_at"] is None


@pytest.mark.guards("T-77")
async def test_a_sealed_card_is_good_once(page: Browser) -> None:
    body = await page.sealed()
    replies = await asyncio.gather(*(page.tokenize(body) for _ in range(12)))
    assert sorted(reply.status for reply in replies) == [201] + [409] * 11
    told = {reply.problem["code"] for reply in replies if reply.status != 201}
    assert told == {"sealed_replayed"}


@pytest.mark.guards("T-77")
async def test_a_sealed_card_is_good_once_on_two_gateways(page: Browser, replica: Replica) -> None:
    body = await page.sealed()
    other = replica.urls.public
    replies = await asyncio.gather(
        *(page.tokenize(body, at=at) for at in (page.shop.urls.public, other) for _ in range(6))
    )
    assert [reply.status for reply in replies].count(201) == 1


@pytest.mark.guards("T-77")
async def test_a_sealed_card_is_good_for_its_tenant_its_page_and_its_time(
    page: Browser, deployment: Deployment
) -> None:
    theirs = await new_account(deployment)
    refused: dict[str, dict[str, object]] = {
        "tenant": {"tenant": theirs.tenant},
        "origin": {"origin": EVIL},
        "expired": {"expires_at": int(time.time()) - 1},
        "form": {"v": 2},
    }
    for reason, changes in refused.items():
        reply = await page.tokenize(await page.sealed(**changes))
        assert reply.told() == (400, "sealed_refused", None, reason)
    stolen = await page.sealed()
    another = Browser(page.shop, key=theirs.publishable_key)
    assert (await another.tokenize(stolen)).told() == (400, "sealed_refused", None, "tenant")
    assert (await page.tokenize(stolen)).status == 201  # a refusal has used nothing up


async def test_a_key_that_nobody_has_is_told_apart(page: Browser) -> None:
    body = await page.sealed() | {"kid": "ek_01" + "a" * 24}
    reply = await page.tokenize(body)
    assert reply.told() == (409, "edge_key_unknown", None, None)
    assert reply.problem["retryable"] is True
    form = await page.tokenize(body | {"kid": "../processor"})
    assert form.told()[:3] == (422, "invalid_field", "kid")


async def test_it_is_sealed_or_in_the_clear_and_one_of_them(page: Browser) -> None:
    body = await page.sealed()
    both = await page.tokenize(body | {"card": card()})
    assert both.told() == (422, "invalid_field", "sealed", "not_in_the_clear_too")
    assert (await page.tokenize({})).told() == (422, "invalid_field", "card", "missing")
    alone = await page.tokenize({"sealed": body["sealed"]})
    assert alone.told() == (422, "invalid_field", "kid", "missing")


async def test_what_is_wrong_with_a_sealed_card_is_told_by_its_field(page: Browser) -> None:
    reply = await page.tokenize(await page.sealed(card=card(VISA[:-1] + "3")))
    assert reply.told() == (422, "card_invalid", "card.number", "luhn")


async def test_a_back_end_relays_what_its_pages_sealed(page: Browser) -> None:
    once = await page.shop.api("POST", "/v1/tokens", await page.sealed() | {"reuse": True})
    assert once.status == 201, once.body
    body = await page.sealed()
    again = await page.shop.api("POST", "/v1/tokens", body | {"reuse": True})
    assert again.json()["id"] == once.json()["id"]
    replayed = await page.shop.api("POST", "/v1/tokens", body | {"reuse": True})
    assert replayed.told() == (409, "sealed_replayed", None, None)
    refused = await page.shop.api("POST", "/v1/tokens", await page.sealed(origin=EVIL))
    assert refused.told() == (400, "sealed_refused", None, "origin")


async def test_an_app_seals_under_its_own_name(shop: Merchant) -> None:
    app = Browser(shop, origin=None)
    assert (await app.tokenize(await app.sealed(origin=APP))).status == 201
    other = await app.tokenize(await app.sealed(origin="app:example.other"))
    assert other.told() == (400, "sealed_refused", None, "origin")


# --- codes --------------------------------------------------------------------------------


async def stored(shop: Merchant, number: str = VISA) -> str:
    return await shop.token(number, unusual={"cvc": None})


async def test_a_page_gives_a_stored_card_a_fresh_code(page: Browser) -> None:
    token = await stored(page.shop)
    path = f"/v1/tokens/{token}/cvc"
    reply = await page.call("POST", path, {"cvc": "321"})
    assert (reply.status, reply.body) == (204, b"")
    paid = await page.shop.pay(payment(token, cvc=token))
    assert paid.status == 200, paid.body
    sealed = await page.sealed(card=None, cvc="321", token=token)
    assert (await page.call("POST", path, sealed)).status == 204
    replayed = await page.call("POST", path, sealed)
    assert replayed.told() == (409, "sealed_replayed", None, None)


async def test_replays_are_counted_of_cards_and_of_codes(page: Browser) -> None:
    async def counted() -> float:
        exposed = await page.shop.wire("GET", page.shop.urls.ops + "/metrics")
        line = r'^panward_sealed_cards_total\{result="replayed"\} (\S+)$'
        found = re.findall(line, exposed.body.decode(), re.MULTILINE)
        return float(found[0]) if found else 0.0

    token = await stored(page.shop)
    path, before = f"/v1/tokens/{token}/cvc", await counted()
    boxes = {
        "/v1/tokens": await page.sealed(),
        path: await page.sealed(card=None, cvc="321", token=token),
    }
    for at, box in boxes.items():
        assert (await page.call("POST", at, box)).status in (201, 204)
        assert (await page.call("POST", at, box)).status == 409

    async def both() -> bool:
        return await counted() == before + len(boxes)

    await eventually(both, "a replay is not counted")


@pytest.mark.guards("T-77")
async def test_a_code_is_sealed_for_one_card(page: Browser) -> None:
    one, other = await stored(page.shop), await stored(page.shop, MASTERCARD)
    sealed = await page.sealed(card=None, cvc="321", token=one)
    reply = await page.call("POST", f"/v1/tokens/{other}/cvc", sealed)
    assert reply.told() == (400, "sealed_refused", None, "token")


async def test_a_code_fits_its_brand_and_its_owner(page: Browser, deployment: Deployment) -> None:
    amex = await stored(page.shop, AMEX)
    short = await page.call("POST", f"/v1/tokens/{amex}/cvc", {"cvc": "123"})
    assert short.told() == (422, "card_invalid", "card.cvc", "length")
    assert (await page.call("POST", f"/v1/tokens/{amex}/cvc", {"cvc": "1234"})).status == 204
    theirs = Browser(page.shop, key=(await new_account(deployment)).publishable_key)
    for token in (amex, new_token("test"), "pwt_test_nonsense"):
        reply = await theirs.call("POST", f"/v1/tokens/{token}/cvc", {"cvc": "1234"})
        assert reply.told() == (404, "token_unknown", None, None)
    reads_only = await new_key(deployment, page.shop.tenant, "read")
    reply = await page.shop.with_key(reads_only).api(
        "POST", f"/v1/tokens/{amex}/cvc", {"cvc": "1234"}
    )
    assert reply.told() == (403, "not_permitted", None, None)


async def test_a_code_is_not_replaced_while_a_payment_has_it(page: Browser, store: Store) -> None:
    token = await stored(page.shop)
    path = f"/v1/tokens/{token}/cvc"
    assert (await page.call("POST", path, {"cvc": "321"})).status == 204
    await store.execute("UPDATE cvc SET claimed_by = gen_random_uuid() WHERE token = $1", token)
    reply = await page.call("POST", path, {"cvc": "321"})
    assert reply.told() == (409, "authorization_open", None, None)


# --- pages --------------------------------------------------------------------------------


async def test_a_listed_page_may_read_the_answers(page: Browser) -> None:
    for reply in (
        await page.call("GET", "/v1/edge-keys"),
        await page.tokenize(await page.sealed()),
        await page.tokenize({"card": card("1" * 16)}),
    ):
        assert reply.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "Origin" in ", ".join(reply.headers.getall("Vary"))
        assert "Access-Control-Allow-Credentials" not in reply.headers


async def preflight(page: Browser, path: str, origin: str) -> Reply:
    return await page.shop.wire(
        "OPTIONS",
        page.shop.urls.public + path,
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        },
    )


async def test_a_preflight_is_answered_to_listed_pages_alone(page: Browser) -> None:
    for path in ("/v1/tokens", "/v1/edge-keys", f"/v1/tokens/{new_token('test')}/cvc"):
        reply = await preflight(page, path, ORIGIN)
        assert reply.status == 204
        assert reply.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert reply.headers["Access-Control-Allow-Headers"] == "authorization, content-type"
        refused = await preflight(page, path, EVIL)
        assert refused.status == 404
        assert "Access-Control-Allow-Origin" not in refused.headers


@pytest.mark.guards("T-14")
@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "https://shop.example.evil.example",
        "https://evilshop.example",
        "https://shop.example:444",
        "https://shop.example:443",
        "http://shop.example",
        "https://shop.example.",
        "https://shop.example/",
        "https://SHOP.example",
        "https://shop.example@evil.example",
        "https://evil.example",
        "https://a.shop.example",
        "https://shop.exampl",
        "*",
        "https://*.example",
        "shop.example",
        "https://shop.example https://evil.example",
        "app:example.shop.evil",
        "",
        "https://xn--shop.example",
    ],
)
async def test_no_other_origin_gets_in_or_reads_anything(page: Browser, origin: str) -> None:
    hostile = Browser(page.shop, origin)
    reply = await hostile.tokenize({"card": card()})
    assert reply.told() == (403, "origin_not_allowed", None, None)
    assert "Access-Control-Allow-Origin" not in reply.headers


@pytest.mark.guards("T-14")
async def test_a_page_of_another_key_gets_in_with_neither(
    page: Browser, deployment: Deployment
) -> None:
    theirs = await new_key(deployment, page.shop.tenant, kind="publishable_key")
    reply = await Browser(page.shop, key=theirs).tokenize({"card": card()})
    assert reply.told() == (403, "origin_not_allowed", None, None)
    assert "Access-Control-Allow-Origin" not in reply.headers


@pytest.mark.guards("T-14")
async def test_a_secret_key_is_of_no_use_in_a_page(page: Browser) -> None:
    browser = Browser(page.shop, key=page.shop.account.secret_key)
    for at in (page.shop.urls.public, page.shop.urls.private):
        reply = await browser.call("POST", "/v1/tokens", {"card": card()}, at=at)
        assert reply.told() == (403, "origin_not_allowed", None, None)
        assert "Access-Control-Allow-Origin" not in reply.headers


async def test_the_network_of_a_page_is_known_for_a_day(page: Browser, store: Store) -> None:
    made = (await page.tokenize(await page.sealed())).json()
    query = "SELECT made_from FROM token WHERE id = $1"
    assert await store.fetchval(query, made["id"]) == "127.0.0.0/24"
    kept = await page.shop.api("PATCH", f"/v1/tokens/{made['id']}", {"expires_at": None})
    assert kept.status == 200
    assert await store.fetchval(query, made["id"]) == "127.0.0.0/24"
    back_end = await page.shop.token()
    assert await store.fetchval(query, back_end) is None
