"""`/v1/tokens` on the running gateway: make, show, change, list, erase; who may do what."""

import asyncio
import re
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cards import AMEX, MASTERCARD, VISA, VISA_13, VISA_ALT, luhn_sum
from tests.flows.conftest import Witness
from tests.flows.deployment import Deployment, Store
from tests.flows.merchant import Merchant, card, method, new_account, new_key, payment
from tests.flows.processor import ProcessorControl
from tests.flows.wire import Reply
from vault.api_keys import parse_api_key
from vault.db import Database
from vault.tenant_table import TenantTable
from vault.tokens import is_token, new_token

pytestmark = pytest.mark.embedded

MASKED = {
    "id",
    "brand",
    "last4",
    "exp_month",
    "exp_year",
    "created_at",
    "expires_at",
    "single_use",
    "customer_reference",
}
NOT_THERE = (404, "token_unknown", None, None)


async def from_a_page(shop: Merchant, body: dict[str, Any], *, private: bool = False) -> Reply:
    """Call as a checkout page does: publishable key, public listener."""
    urls = shop.urls
    page = shop.with_key(shop.account.publishable_key)
    if not private:
        page = page.at(type(urls)(urls.public, urls.public, urls.ops))
    return await page.api("POST", "/v1/tokens", body)


def in_days(days: float) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


# --- making one ---------------------------------------------------------------------------


async def test_a_back_end_gets_a_token_and_a_masked_card(shop: Merchant) -> None:
    reply = await shop.api("POST", "/v1/tokens", {"card": card()})
    made = reply.json()
    assert reply.status == 201
    assert set(made) == MASKED | {"bin", "fingerprint"}
    assert is_token(made["id"], "test")
    assert (made["brand"], made["last4"], made["bin"]) == ("visa", VISA[-4:], VISA[:6])
    assert (made["exp_month"], made["exp_year"]) == (12, 2034)
    assert made["expires_at"] is None
    assert made["single_use"] is False
    assert made["customer_reference"] is None
    assert re.fullmatch("fp_[0-9a-z]{26}", made["fingerprint"])
    assert reply.headers["Cache-Control"] == "no-store"


async def test_a_page_gets_a_token_for_a_day_and_no_bin_or_fingerprint(shop: Merchant) -> None:
    for private in (False, True):
        reply = await from_a_page(shop, {"card": card()}, private=private)
        made = reply.json()
        assert reply.status == 201
        assert set(made) == MASKED
        left = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
        assert timedelta(hours=23, minutes=59) < left <= timedelta(hours=24)


async def test_a_page_may_shorten_the_day_and_not_lengthen_it(shop: Merchant) -> None:
    short = (await from_a_page(shop, {"card": card(), "expires_at": in_days(0.1)})).json()
    long = (await from_a_page(shop, {"card": card(), "expires_at": in_days(9)})).json()
    assert datetime.fromisoformat(short["expires_at"]) < datetime.now(UTC) + timedelta(days=0.2)
    assert datetime.fromisoformat(long["expires_at"]) < datetime.now(UTC) + timedelta(days=1.01)


@pytest.mark.parametrize(
    ("more", "field"),
    [({"reuse": True}, "reuse"), ({"customer_reference": "c1"}, "customer_reference")],
)
async def test_a_page_cannot_ask_about_other_cards(
    shop: Merchant, more: dict[str, Any], field: str
) -> None:
    reply = await from_a_page(shop, {"card": card()} | more)
    assert reply.told() == (422, "invalid_field", field, "secret_key_only")


async def test_a_page_can_do_nothing_else(shop: Merchant) -> None:
    token = await shop.token()
    page = shop.with_key(shop.account.publishable_key)
    for verb, path, body in (
        ("GET", f"/v1/tokens/{token}", None),
        ("PATCH", f"/v1/tokens/{token}", {"customer_reference": "c"}),
        ("DELETE", f"/v1/tokens/{token}", None),
        ("GET", "/v1/tokens?customer_reference=c", None),
        ("DELETE", "/v1/tokens?customer_reference=c", None),
        ("GET", "/v1/authorizations", None),
    ):
        assert (await page.api(verb, path, body)).told() == (403, "not_permitted", None, None)
        on_public = page.at(type(page.urls)(page.urls.public, page.urls.public, page.urls.ops))
        assert (await on_public.api(verb, path, body)).status in (404, 405)
    refused = await page.out("/v1/payment_methods", method(token))
    assert refused.status == 403
    assert refused.error["code"] == "not_permitted"


async def test_what_a_page_made_the_back_end_keeps(shop: Merchant) -> None:
    made = (await from_a_page(shop, {"card": card()})).json()
    kept = await shop.api("PATCH", f"/v1/tokens/{made['id']}", {"expires_at": None})
    assert kept.status == 200
    assert kept.json()["expires_at"] is None


@pytest.mark.parametrize("scope", ["bin", "fingerprint"])
async def test_bin_and_fingerprint_are_shown_by_scope(
    deployment: Deployment, shop: Merchant, scope: str
) -> None:
    key = await new_key(deployment, shop.tenant, "tokenize", "read", scope)
    some = shop.with_key(key)
    made = await some.tokenize()
    assert set(made) == MASKED | {scope}
    shown = (await some.api("GET", f"/v1/tokens/{made['id']}")).json()
    assert shown == made


async def test_a_card_has_one_fingerprint_and_each_call_a_token(
    shop: Merchant, other_shop: Merchant
) -> None:
    one, two = await shop.tokenize(), await shop.tokenize()
    assert one["id"] != two["id"]
    assert one["fingerprint"] == two["fingerprint"]
    assert (await shop.tokenize(AMEX))["fingerprint"] != one["fingerprint"]
    assert (await other_shop.tokenize())["fingerprint"] != one["fingerprint"]


async def test_separators_and_short_years_are_read(shop: Merchant) -> None:
    for number in ("4242 4242 4242 4242", "4242-4242-4242-4242", "4242 4242-42424242"):
        made = await shop.tokenize(number, unusual={"exp_month": "7", "exp_year": "34"})
        assert (made["last4"], made["exp_month"], made["exp_year"]) == (VISA[-4:], 7, 2034)


async def test_a_pan_like_token_looks_like_a_card_and_is_none(shop: Merchant) -> None:
    made = await shop.tokenize(MASTERCARD, format="pan_like")
    name = made["pan_like"]
    assert re.fullmatch(f"99[0-9]{{10}}{MASTERCARD[-4:]}", name)
    assert luhn_sum(name) % 10
    assert is_token(made["id"], "test")
    assert (await shop.api("GET", f"/v1/tokens/{made['id']}")).json() == made
    assert (await shop.api("GET", f"/v1/tokens/{name}")).told() == NOT_THERE  # declared fields only


async def test_a_format_that_cannot_be_honored_is_refused(shop: Merchant) -> None:
    body = {"card": card(VISA_13), "format": "pan_like"}
    reply = await shop.api("POST", "/v1/tokens", body)
    assert reply.told() == (422, "format_refused", None, None)


@pytest.mark.parametrize(
    ("expires_at", "reason"),
    [("2020-01-01T00:00:00Z", "not_ahead"), ("2099-01-01T00:00:00Z", "not_ahead")],
)
async def test_a_token_ends_in_the_future(shop: Merchant, expires_at: str, reason: str) -> None:
    reply = await shop.api("POST", "/v1/tokens", {"card": card(), "expires_at": expires_at})
    assert reply.told() == (422, "invalid_field", "expires_at", reason)


async def test_a_time_without_a_zone_is_refused(shop: Merchant) -> None:
    body = {"card": card(), "expires_at": "2030-01-01T00:00:00"}
    reply = await shop.api("POST", "/v1/tokens", body)
    assert reply.told() == (422, "invalid_field", "expires_at", "zone_missing")


# --- reuse --------------------------------------------------------------------------------


async def test_reuse_finds_the_cards_own_token(shop: Merchant) -> None:
    plain = await shop.tokenize(VISA_ALT)
    one = await shop.tokenize(VISA_ALT, reuse=True)
    two = await shop.tokenize(VISA_ALT, reuse=True)
    named = await shop.tokenize(VISA_ALT, reuse=True, format="pan_like")
    assert one["id"] == two["id"]
    assert len({plain["id"], one["id"], named["id"]}) == 3  # per format, and only with reuse
    assert len({made["fingerprint"] for made in (plain, one, two, named)}) == 1


async def test_a_later_expiry_date_replaces_the_stored_one(shop: Merchant, store: Store) -> None:
    first = await shop.token(MASTERCARD, reuse=True, unusual={"exp_year": 2033})
    later = await shop.tokenize(MASTERCARD, reuse=True, unusual={"exp_year": 2035})
    earlier = await shop.tokenize(MASTERCARD, reuse=True, unusual={"exp_year": 2031})
    assert (later["id"], later["exp_year"]) == (first, 2035)
    assert (earlier["id"], earlier["exp_year"]) == (first, 2035)
    assert await entries_about(store, first) == ["token.created", "token.updated"]


@pytest.mark.parametrize("more", [{"single_use": True}, {"expires_at": in_days(3)}])
async def test_a_token_for_once_or_for_a_while_is_never_shared(
    shop: Merchant, more: dict[str, Any]
) -> None:
    reply = await shop.api("POST", "/v1/tokens", {"card": card(), "reuse": True} | more)
    reason = "not_with_single_use_or_expires_at"
    assert reply.told() == (422, "invalid_field", "reuse", reason)


@pytest.mark.guards("T-27")
async def test_fifty_at_once_that_ask_for_reuse_get_one_token(
    deployment: Deployment, shop: Merchant, store: Store
) -> None:
    fresh = Merchant(await new_account(deployment, routes=()), shop.urls, shop.wire)
    made = await asyncio.gather(*(fresh.tokenize(AMEX, reuse=True) for _ in range(50)))
    assert len({each["id"] for each in made}) == 1
    assert await entries_about(store, made[0]["id"]) == ["token.created"]
    kept = "SELECT count(*) FROM token WHERE tenant = $1"
    assert await store.fetchval(kept, fresh.tenant) == 1


async def test_fifty_at_once_without_reuse_get_fifty(shop: Merchant) -> None:
    made = await asyncio.gather(*(shop.tokenize() for _ in range(50)))
    assert len({each["id"] for each in made}) == 50
    assert len({each["fingerprint"] for each in made}) == 1


# --- changing -----------------------------------------------------------------------------


async def test_what_may_be_changed_is_changed_and_on_record(shop: Merchant, store: Store) -> None:
    made = await shop.tokenize()
    path = f"/v1/tokens/{made['id']}"
    changes: list[dict[str, Any]] = [
        {"exp_month": 1, "exp_year": 2035},
        {"customer_reference": "c-17"},
        {"expires_at": "2040-01-02T03:04:05.678Z"},
        {"expires_at": None, "customer_reference": None},
    ]
    for change in changes:
        reply = await shop.api("PATCH", path, change)
        assert reply.status == 200
        made |= change
        assert reply.json() == made
        assert (await shop.api("GET", path)).json() == made
    assert await entries_about(store, made["id"]) == ["token.created"] + ["token.updated"] * 4


async def test_a_change_of_nothing_changes_nothing(shop: Merchant, store: Store) -> None:
    made = await shop.tokenize()
    path = f"/v1/tokens/{made['id']}"
    assert (await shop.api("PATCH", path, {})).json() == made
    assert (await shop.api("PATCH", path, {"exp_month": 12, "exp_year": 2034})).json() == made
    assert await entries_about(store, made["id"]) == ["token.created"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"exp_month": 3}, (422, "invalid_field", "exp_month", "together_with_exp_year")),
        ({"exp_year": 2035}, (422, "invalid_field", "exp_month", "together_with_exp_year")),
        ({"exp_month": 13, "exp_year": 2035}, (422, "invalid_field", "exp_month", "not_allowed")),
        ({"exp_month": 1, "exp_year": 1999}, (422, "invalid_field", "exp_year", "not_allowed")),
        ({"exp_month": 1, "exp_year": 2098}, (422, "card_invalid", "card.exp_year", "too_far")),
        ({"exp_month": "1", "exp_year": 2035}, (422, "invalid_field", "exp_month", "wrong_type")),
        ({"expires_at": "2020-01-01T00:00:00Z"}, (422, "invalid_field", "expires_at", "not_ahead")),
        ({"expires_at": "tomorrow"}, (422, "invalid_field", "expires_at", "not_allowed")),
        (
            {"customer_reference": "a b"},
            (422, "invalid_field", "customer_reference", "not_allowed"),
        ),
        (
            {"customer_reference": "c" * 65},
            (422, "invalid_field", "customer_reference", "not_allowed"),
        ),
        ({"number": VISA}, (400, "malformed_request", None, "unknown_field")),
        ({"single_use": True}, (400, "malformed_request", None, "unknown_field")),
        ([], (400, "malformed_request", None, "not_an_object")),
    ],
    ids=lambda value: value[2] or value[3] if isinstance(value, tuple) else None,
)
async def test_what_may_not_be_changed_is_refused(
    shop: Merchant, change: object, told: tuple[int, str, str | None, str]
) -> None:
    made = await shop.tokenize()
    path = f"/v1/tokens/{made['id']}"
    assert (await shop.api("PATCH", path, change)).told() == told
    assert (await shop.api("GET", path)).json() == made


async def test_a_token_that_ends_is_nobodys_to_reuse(shop: Merchant) -> None:
    token = await shop.token(AMEX, reuse=True)
    await shop.api("PATCH", f"/v1/tokens/{token}", {"expires_at": in_days(1)})
    assert await shop.token(AMEX, reuse=True) != token


# --- erasing ------------------------------------------------------------------------------


async def test_an_erased_token_is_gone(shop: Merchant, store: Store) -> None:
    token = await shop.token()
    path = f"/v1/tokens/{token}"
    erased = await shop.api("DELETE", path)
    assert (erased.status, erased.body) == (204, b"")
    for verb, body in (("GET", None), ("PATCH", {}), ("DELETE", None)):
        assert (await shop.api(verb, path, body)).told() == NOT_THERE
    for table, column in (("token", "id"), ("cvc", "token")):
        assert not await store.fetchval(f"SELECT count(*) FROM {table} WHERE {column} = $1", token)  # noqa: S608 - our own words
    assert await entries_about(store, token) == ["token.created", "token.deleted"]


async def test_a_fingerprint_is_erased_with_the_cards_last_token(
    deployment: Deployment, shop: Merchant
) -> None:
    fresh = Merchant(await new_account(deployment, routes=()), shop.urls, shop.wire)
    one, two = await fresh.tokenize(), await fresh.tokenize()
    await fresh.api("DELETE", f"/v1/tokens/{one['id']}")
    three = await fresh.tokenize()
    assert three["fingerprint"] == two["fingerprint"]
    for made in (two, three):
        await fresh.api("DELETE", f"/v1/tokens/{made['id']}")
    assert (await fresh.tokenize())["fingerprint"] != two["fingerprint"]


async def test_a_person_is_listed_in_pages_and_erased_in_one_call(
    shop: Merchant, other_shop: Merchant
) -> None:
    person = "person-1"
    made = [await shop.token(number, customer_reference=person) for number in (VISA, AMEX, VISA)]
    kept = await shop.token(customer_reference="person-2")
    foreign = await other_shop.token(customer_reference=person)
    path = f"/v1/tokens?customer_reference={person}"

    whole = (await shop.api("GET", path)).json()
    assert [each["id"] for each in whole["data"]] == made[::-1]
    assert whole["next"] is None
    assert set(whole["data"][0]) == MASKED | {"bin", "fingerprint"}
    page = (await shop.api("GET", f"{path}&limit=2")).json()
    rest = (await shop.api("GET", f"{path}&limit=2&cursor={page['next']}")).json()
    assert page["data"] + rest["data"] == whole["data"]
    assert rest["next"] is None

    erased = await shop.api("DELETE", path)
    assert (erased.status, erased.json()) == (200, {"erased": 3, "in_use": 0})
    assert (await shop.api("GET", path)).json() == {"data": [], "next": None}
    assert (await shop.api("DELETE", path)).json() == {"erased": 0, "in_use": 0}
    assert (await shop.api("GET", f"/v1/tokens/{kept}")).status == 200
    assert (await other_shop.api("GET", f"/v1/tokens/{foreign}")).status == 200


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "customer_reference"),
        ("?customer_reference=", "customer_reference"),
        ("?customer_reference=a%20b", "customer_reference"),
        ("?customer_reference=c&customer_reference=d", "query"),
        ("?customer_reference=c&last4=4242", "query"),
        ("?customer_reference=c&limit=0", "limit"),
        ("?customer_reference=c&limit=101", "limit"),
        ("?customer_reference=c&limit=x", "limit"),
        ("?customer_reference=c&cursor=!", "cursor"),
        ("?customer_reference=c&cursor=AAAA", "cursor"),
    ],
)
async def test_a_list_that_is_asked_for_wrongly_is_refused(
    shop: Merchant, query: str, field: str
) -> None:
    reply = await shop.api("GET", f"/v1/tokens{query}")
    assert reply.told()[:3] == (422, "invalid_field", field)


@pytest.mark.parametrize(
    "query", ["", "?customer_reference=c&limit=1", "?customer_reference=c&x=1"]
)
async def test_an_erasure_that_could_mean_less_or_more_is_refused(
    shop: Merchant, query: str
) -> None:
    await shop.token(customer_reference="c")
    assert (await shop.api("DELETE", f"/v1/tokens{query}")).status == 422
    assert (await shop.api("GET", "/v1/tokens?customer_reference=c")).json()["data"]


@pytest.mark.guards("T-27")
async def test_a_token_stays_while_an_authorization_is_under_way(
    shop: Merchant, processor: ProcessorControl
) -> None:
    token = await shop.token(customer_reference="busy")
    free = await shop.token(customer_reference="busy")
    before = processor.counts
    processor.do("hold")
    paying = asyncio.create_task(shop.pay(payment(token)))
    await asyncio.to_thread(processor.until_held, before)

    refused = await shop.api("DELETE", f"/v1/tokens/{token}")
    assert refused.told() == (409, "authorization_open", None, None)
    assert int(refused.headers["Retry-After"]) >= 1
    some = await shop.api("DELETE", "/v1/tokens?customer_reference=busy")
    assert (some.status, some.json()) == (409, {"erased": 1, "in_use": 1})
    assert (await shop.api("GET", f"/v1/tokens/{token}")).status == 200
    assert (await shop.api("GET", f"/v1/tokens/{free}")).status == 404

    processor.do("release")
    assert (await paying).status == 200
    assert (await shop.api("DELETE", f"/v1/tokens/{token}")).status == 204


# --- the end of a token's time ------------------------------------------------------------


async def test_a_token_is_over_at_its_end_and_then_erased(shop: Merchant, store: Store) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=1)
    token = await shop.token(expires_at=ends.isoformat())
    assert (await shop.api("GET", f"/v1/tokens/{token}")).status == 200
    await asyncio.sleep((ends - datetime.now(UTC)).total_seconds())
    assert (await shop.api("GET", f"/v1/tokens/{token}")).told() == NOT_THERE
    assert (await shop.pay(payment(token))).error["code"] == "token_unknown"
    while "token.deleted" not in await entries_about(store, token):
        assert datetime.now(UTC) < ends + timedelta(seconds=8), "nobody erased it"
        await asyncio.sleep(0.1)


# --- who may what -------------------------------------------------------------------------

CALLS: dict[str, Callable[[Merchant, str], Coroutine[Any, Any, Reply]]] = {
    "tokenize": lambda shop, _: shop.api("POST", "/v1/tokens", {"card": card()}),
    "read": lambda shop, token: shop.api("GET", f"/v1/tokens/{token}"),
    "update": lambda shop, token: shop.api("PATCH", f"/v1/tokens/{token}", {}),
    "delete": lambda shop, _: shop.api("DELETE", "/v1/tokens?customer_reference=nobody"),
    "route:stripe": lambda shop, _: shop.out("/v1/payment_methods/pm_none", verb="GET"),
}
SAME_SCOPE: dict[str, Callable[[Merchant, str], Coroutine[Any, Any, Reply]]] = {
    "read": lambda shop, _: shop.api("GET", "/v1/authorizations"),
    "delete": lambda shop, token: shop.api("DELETE", f"/v1/tokens/{token}"),
}


@pytest.mark.guards("T-29")
@pytest.mark.parametrize("scope", [*CALLS, "bin", "fingerprint", "ledger", "route:other"])
async def test_a_key_may_do_what_its_scopes_say(
    deployment: Deployment, shop: Merchant, scope: str
) -> None:
    token = await shop.token()
    narrow = shop.with_key(await new_key(deployment, shop.tenant, scope))
    for needed, call in (*CALLS.items(), *SAME_SCOPE.items()):
        reply = await call(narrow, token)
        if needed == scope:
            assert reply.status not in (401, 403), (needed, reply.body)
        else:
            said = reply.error if needed.startswith("route:") else reply.problem
            assert (reply.status, said["code"]) == (403, "not_permitted"), needed


async def test_who_is_not_known_gets_nothing(
    deployment: Deployment, shop: Merchant, nothing_happens: Witness
) -> None:
    """Unknown, wrong, of another environment or no key at all: all look the same."""
    good = shop.account.secret_key
    wrong = [
        "",
        "nonsense",
        good[:-1] + ("0" if good[-1] != "0" else "1"),
        good.replace("_test_", "_live_"),
        good.replace("pwsk_", "pwpk_"),
        good.upper(),
        await new_key(deployment, shop.tenant, kind="publishable_key") + "0",
    ]
    token = await shop.token()
    async with nothing_happens():
        for text in wrong:
            stranger = shop.with_key(text)
            for reply in (
                await stranger.api("POST", "/v1/tokens", {"card": card()}),
                await stranger.api("GET", f"/v1/tokens/{token}"),
                await stranger.api("GET", "/v1/authorizations"),
            ):
                assert reply.told() == (401, "not_authenticated", None, None)
                assert reply.headers["WWW-Authenticate"].startswith("Bearer")
            outward = await stranger.pay(payment(token))
            assert outward.status == 401
            assert outward.error["code"] == "not_authenticated"


@pytest.mark.guards("T-29")
async def test_a_revoked_key_is_refused_within_five_seconds(
    deployment: Deployment, shop: Merchant
) -> None:
    text = await new_key(deployment, shop.tenant, "read")
    narrow = shop.with_key(text)
    path = "/v1/authorizations?limit=1"
    assert (await narrow.api("GET", path)).status == 200
    presented = parse_api_key(text)
    assert presented is not None
    database = await Database.open(deployment.parts.runtime_dsn)
    assert await TenantTable(database).revoke_key(presented.id, at=datetime.now(UTC))
    await database.close()
    revoked = time.monotonic()
    while (await narrow.api("GET", path)).status == 200:
        assert time.monotonic() < revoked + 5.5
        await asyncio.sleep(0.1)
    assert (await narrow.api("GET", path)).told()[:2] == (401, "not_authenticated")


# --- what is not there --------------------------------------------------------------------


@pytest.mark.guards("T-21")
async def test_unknown_foreign_erased_and_malformed_look_the_same(
    shop: Merchant, other_shop: Merchant
) -> None:
    foreign, erased = await other_shop.token(), await shop.token()
    await shop.api("DELETE", f"/v1/tokens/{erased}")
    answers = []
    for token in (new_token("test"), new_token("live"), foreign, erased, "x", erased[:-1] + "~"):
        for verb, body in (("GET", None), ("PATCH", {}), ("DELETE", None)):
            reply = await shop.api(verb, f"/v1/tokens/{token}", body)
            answers.append({k: v for k, v in reply.problem.items() if k != "request_id"})
    is_none = {"title": "There is no such token", "status": 404, "code": "token_unknown"}
    assert {**is_none, "retryable": False} in answers
    not_a_path = [each for each in answers if each["code"] != "token_unknown"]
    assert len(not_a_path) == 3  # `~` is in no path of ours
    assert len({tuple(each.items()) for each in answers}) == 2


async def test_what_the_api_does_not_have_is_told_in_our_words(shop: Merchant) -> None:
    assert (await shop.api("GET", "/v1/nothing")).told()[:2] == (404, "not_found")
    wrong = await shop.api("PUT", "/v1/tokens", {})
    assert wrong.told()[:2] == (405, "method_not_allowed")
    assert wrong.headers["Allow"] == "DELETE, GET, POST"
    assert "Server" not in wrong.headers


async def entries_about(store: Store, token: str) -> list[str]:
    """List the types of the ledger's entries about a token, in order."""
    rows = await store.fetch(
        "SELECT type FROM entry WHERE position(convert_to($1, 'UTF8') IN body) > 0"
        " AND type LIKE 'token.%' ORDER BY idx",
        token,
    )
    return [row["type"] for row in rows]
