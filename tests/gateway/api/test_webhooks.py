"""Webhook endpoints and deliveries, as a merchant's back end manages them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest

from gateway.api.webhooks import delivery_id
from gateway.webhook_endpoints import ENDPOINTS_MAX, SECRETS_MAX
from tests.cards import VISA
from tests.databases import Database
from tests.gateway.api.merchant_desk import Desk, opened_desk
from tests.vault.merchant_queue import MerchantQueue
from tests.vault.stores import migrated, opened
from vault.embedded.bootstrap import EmbeddedParts

pytestmark = pytest.mark.embedded

ENDPOINTS = "/v1/webhook-endpoints"
NOT_FOUND = (404, "not_found", None)


@pytest.fixture
async def desk(database: Database, embedded: EmbeddedParts) -> AsyncIterator[Desk]:
    async with opened(await migrated(database)) as store, opened_desk(store, embedded) as made:
        yield made


def queue_of(desk: Desk) -> MerchantQueue:
    return MerchantQueue(desk.store, desk.tenant)


# --- endpoints ----------------------------------------------------------------------------


async def test_an_endpoint_from_its_making_to_its_end(desk: Desk) -> None:
    made = await desk.endpoint(types=["token.*", "authorization.resolved", "token.*"])
    (secret,) = made.pop("secrets")
    assert secret["secret"].startswith("whsec_")
    assert made["types"] == ["token.*", "authorization.resolved"]
    assert (made["signature"], made["state"], made["route"]) == ("own", "active", None)
    path = f"{ENDPOINTS}/{made['id']}"
    assert (await desk("GET", path)).json() == made
    assert (await desk("GET", ENDPOINTS)).json() == {"data": [made], "next": None}

    changes = {"url": "https://shop.example:8443/in?a=1", "types": [], "concurrency": 7}
    changed = (await desk("PATCH", path, changes)).json()
    assert {name: changed[name] for name in changes} == changes
    off = (await desk("PATCH", path, {"state": "disabled"})).json()
    assert (off["state"], off["disabled_because"]) == ("disabled", "merchant")
    on = (await desk("PATCH", path, {"state": "active"})).json()
    assert (on["state"], on["disabled_because"], on["url"]) == ("active", None, changes["url"])

    assert (await desk("DELETE", path)).status == 204
    for method, body in (("GET", None), ("PATCH", {}), ("DELETE", None)):
        assert (await desk(method, path, body)).refusal == NOT_FOUND
    assert (await desk("GET", ENDPOINTS)).json()["data"] == []
    assert await desk.keys.webhook_secrets(desk.tenant, made["id"]) == {}


async def test_one_that_passes_callbacks_on_can_sign_as_the_processor_does(desk: Desk) -> None:
    for route, schemes in (
        ("stripe", ["standard_webhooks", "stripe"]),
        ("mollie", ["standard_webhooks", "mollie_nextgen"]),
        ("paypal", ["standard_webhooks"]),
    ):
        made = await desk.endpoint(form="callbacks", route=route)
        assert [one["scheme"] for one in made["secrets"]] == schemes
        assert (made["signature"], made["route"]) == ("original", route)
        stored = await desk.keys.webhook_secrets(desk.tenant, made["id"])
        assert stored == {one["name"]: one["secret"] for one in made["secrets"]}


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"url": "http://shop.example/"}, "url.format"),
        ({"url": "https://a:b@shop.example/"}, "url.format"),
        ({"url": "https://shop.example/#here"}, "url.format"),
        ({"url": "https://shop.example/\r\nX: y"}, "url.format"),
        ({"url": "https://127.0.0.1/"}, "url.format"),
        ({"url": "https://10.2.0.1/"}, "url.format"),
        ({"url": "https://169.254.169.254/"}, "url.format"),
        ({"url": "https://localhost/"}, "url.format"),
        ({"url": f"https://shop.example/{VISA}"}, "url.card_number"),
        ({"form": "all"}, "form.type"),
        ({"form": "callbacks"}, "route.required"),
        ({"form": "callbacks", "route": "adyen"}, "route.unknown_value"),
        ({"form": "callbacks", "route": "stripe", "types": ["a b"]}, "types.format"),
        ({"form": "callbacks", "route": "stripe", "types": ["a*b"]}, "types.format"),
        ({"route": "stripe"}, "route.not_for_events"),
        ({"signature": "original"}, "signature.not_for_events"),
        ({"types": ["charge.refunded"]}, "types.unknown_value"),
        ({"types": ["card.*"]}, "types.unknown_value"),
        ({"concurrency": 33}, "concurrency.type"),
    ],
)
async def test_what_no_endpoint_can_be_is_refused(
    desk: Desk, wanted: dict[str, object], told: str
) -> None:
    whole = {"url": "https://shop.example/hook", "form": "events", **wanted}
    reply = await desk("POST", ENDPOINTS, whole)
    status, code, where = reply.refusal
    assert (status, code) == (422, "invalid_field")
    assert where is not None
    assert where == told or (told.endswith(".type") and where.startswith(told.partition(".")[0]))
    assert (await desk("GET", ENDPOINTS)).json()["data"] == []
    if "url" in wanted:  # nor can it become that
        path = f"{ENDPOINTS}/{(await desk.endpoint(url='https://10.1.0.1/'))['id']}"
        assert (await desk("PATCH", path, {"url": wanted["url"]})).refusal == reply.refusal


async def test_only_so_many_also_when_all_come_at_once(desk: Desk) -> None:
    wanted = {"url": "https://shop.example/hook", "form": "events"}
    many = (desk("POST", ENDPOINTS, wanted) for _ in range(ENDPOINTS_MAX + 3))
    found = sorted(reply.status for reply in await asyncio.gather(*many))
    assert found == [201] * ENDPOINTS_MAX + [422] * 3
    other = await desk.other()
    await other.endpoint()


# --- secrets ------------------------------------------------------------------------------


async def test_secrets_are_shown_once_and_rotated_side_by_side(desk: Desk) -> None:
    made = await desk.endpoint(form="callbacks", route="cybersource")
    path = f"{ENDPOINTS}/{made['id']}"
    shown = made["secrets"]
    for kind in ("standard", "callback"):
        reply = await desk("POST", f"{path}/secrets", {"kind": kind})
        assert reply.status == 201
        shown.append(reply.json())
    for one, older in ((shown[2], shown[0]), (shown[3], shown[1])):
        assert one["name"] > older["name"]  # the last by name signs where one alone can
    names = sorted(one["name"] for one in shown)
    listed = await desk("GET", f"{path}/secrets")
    assert [one["name"] for one in listed.json()["data"]] == names
    assert await desk.keys.webhook_secrets(desk.tenant, made["id"]) == {
        one["name"]: one["secret"] for one in shown
    }
    later = [listed, await desk("GET", path), await desk("GET", ENDPOINTS)]
    later.append(await desk("PATCH", path, {"concurrency": 2}))
    for reply in later:
        assert not any(one["secret"].encode() in reply.body for one in shown)

    first, last = shown[0]["name"], shown[2]["name"]
    assert (await desk("DELETE", f"{path}/secrets/{first}")).status == 204
    assert (await desk("DELETE", f"{path}/secrets/{first}")).refusal == NOT_FOUND
    kept = await desk("DELETE", f"{path}/secrets/{last}")
    assert kept.refusal == (422, "invalid_field", "name.last_secret")


async def test_only_so_many_secrets_and_of_a_kind_that_signs(desk: Desk) -> None:
    made = await desk.endpoint()
    path = f"{ENDPOINTS}/{made['id']}/secrets"
    reply = await desk("POST", path, {"kind": "callback"})
    assert reply.refusal == (422, "invalid_field", "kind.not_for_this_endpoint")
    for _ in range(SECRETS_MAX - 1):
        assert (await desk("POST", path, {"kind": "standard"})).status == 201
    reply = await desk("POST", path, {"kind": "standard"})
    assert reply.refusal == (422, "invalid_field", "secrets.too_many")


# --- deliveries ---------------------------------------------------------------------------


async def test_deliveries_are_listed_narrowed_and_replayed(desk: Desk) -> None:
    endpoint, quiet = (await desk.endpoint())["id"], (await desk.endpoint())["id"]
    queue = queue_of(desk)
    ids = [await queue.wait(endpoint) for _ in range(3)]
    dead = ids[1]
    await desk.store.do(
        "UPDATE delivery SET state = 'dead', tries = 12, ended_at = now(), last_status = 500,"
        " last_error = 'status' WHERE id = $1",
        dead,
    )
    first = (await desk("GET", "/v1/deliveries?limit=2")).json()
    rest = (await desk("GET", f"/v1/deliveries?limit=2&cursor={first['next']}")).json()
    found = [row["id"] for row in (*first["data"], *rest["data"])]
    assert sorted(found) == sorted(delivery_id(str(one)) for one in ids)
    assert rest["next"] is None
    assert first["data"][0]["event"].startswith("evt_")

    future = (queue.now + timedelta(days=400)).isoformat().replace("+", "%2B")
    for query, count in (
        (f"endpoint={endpoint}", 3),
        (f"endpoint={quiet}", 0),
        ("state=dead", 1),
        (f"since={future}", 0),
    ):
        assert len((await desk("GET", f"/v1/deliveries?{query}")).json()["data"]) == count, query
    for query in ("endpoint=we_1", "state=gone", "since=today", "tenant=t_1", "cursor=eA"):
        assert (await desk("GET", f"/v1/deliveries?{query}")).status == 422

    path = f"/v1/deliveries/{delivery_id(str(dead))}"
    shown = (await desk("GET", path)).json()
    assert (shown["state"], shown["tries"], shown["last_status"]) == ("dead", 12, 500)
    for _ in range(2):  # one that waits goes on waiting
        again = (await desk("POST", f"{path}/replay")).json()
        assert (again["state"], again["tries"], again["ended_at"]) == ("waiting", 0, None)


async def test_nothing_is_replayed_to_an_endpoint_that_was_removed(desk: Desk) -> None:
    made = await desk.endpoint()
    delivery = await queue_of(desk).wait(made["id"])
    await desk("DELETE", f"{ENDPOINTS}/{made['id']}")
    path = f"/v1/deliveries/{delivery_id(str(delivery))}"
    assert (await desk("GET", path)).json()["last_error"] == "endpoint_removed"
    assert (await desk("POST", f"{path}/replay")).refusal == NOT_FOUND


# --- whose --------------------------------------------------------------------------------


async def calls_of(desk: Desk) -> list[tuple[str, str, object]]:
    """Every call that names something of this tenant's."""
    endpoint = (await desk.endpoint())["id"]
    (name,) = [one["name"] for one in await secrets_of(desk, endpoint)]
    delivery: UUID = await queue_of(desk).wait(endpoint)
    one, sent = f"{ENDPOINTS}/{endpoint}", f"/v1/deliveries/{delivery_id(str(delivery))}"
    return [
        ("GET", one, None),
        ("GET", f"{one}/secrets", None),
        ("GET", sent, None),
        ("PATCH", one, {"url": "https://evil.example/"}),
        ("POST", f"{one}/secrets", {"kind": "standard"}),
        ("DELETE", f"{one}/secrets/{name}", None),
        ("POST", f"{sent}/replay", None),
        ("DELETE", one, None),
    ]


async def secrets_of(desk: Desk, endpoint: str) -> list[dict[str, str]]:
    listed: list[dict[str, str]] = (await desk("GET", f"{ENDPOINTS}/{endpoint}/secrets")).json()[
        "data"
    ]
    return listed


async def test_another_tenant_s_are_not_there(desk: Desk) -> None:
    calls = await calls_of(desk)
    before = [(await desk("GET", path)).body for path in (calls[0][1], calls[1][1], calls[2][1])]
    stranger = await desk.other()
    for method, path, body in calls:
        assert (await stranger(method, path, body)).refusal == NOT_FOUND, (method, path)
    for path in (ENDPOINTS, "/v1/deliveries", f"/v1/deliveries?endpoint={calls[0][1][-29:]}"):
        assert (await stranger("GET", path)).json()["data"] == []
    after = [(await desk("GET", path)).body for path in (calls[0][1], calls[1][1], calls[2][1])]
    assert after == before


async def test_reading_and_changing_need_their_scopes(desk: Desk) -> None:
    calls = await calls_of(desk)
    calls += [("GET", ENDPOINTS, None), ("GET", "/v1/deliveries", None)]
    calls += [("POST", ENDPOINTS, {"url": "https://shop.example/", "form": "events"})]
    reading, changing = await desk.new_key("read"), await desk.new_key("webhooks")
    for method, path, body in calls:
        wrong = changing if method == "GET" else reading
        told = (await desk(method, path, body, key=wrong)).refusal
        assert told == (403, "not_permitted", None), (method, path)
    assert (await desk("GET", ENDPOINTS, key=reading)).status == 200
    assert (await desk("DELETE", calls[0][1], key=changing)).status == 204


async def test_ids_that_are_none_and_parameters_nobody_knows(desk: Desk) -> None:
    for path in (f"{ENDPOINTS}/we_1", "/v1/deliveries/dlv_1", f"/v1/deliveries/{'0' * 30}"):
        assert (await desk("GET", path)).refusal == NOT_FOUND
    made = await desk.endpoint()
    assert (await desk("GET", f"{ENDPOINTS}/{made['id']}?secrets=true")).status == 422
