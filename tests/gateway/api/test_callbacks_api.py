"""What processors have reported, as a merchant reads it."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest

from tests.databases import Database
from tests.gateway.api.merchant_desk import Desk, opened_desk
from tests.vault.ledger.samples import new_uuid
from tests.vault.rows import now
from tests.vault.stores import migrated, opened
from vault.embedded.bootstrap import EmbeddedParts
from vault.ids import authorization_id
from vault.telling import callback_id

pytestmark = pytest.mark.embedded

CALLBACKS = "/v1/callbacks"
NOT_FOUND = (404, "not_found", None)


@pytest.fixture
async def desk(database: Database, embedded: EmbeddedParts) -> AsyncIterator[Desk]:
    async with opened(await migrated(database)) as store, opened_desk(store, embedded) as made:
        yield made


def path_of(callback: str) -> str:
    return f"{CALLBACKS}/{callback_id(UUID(callback))}"


async def test_a_callback_is_shown_and_its_body_only_when_asked_for(desk: Desk) -> None:
    first = new_uuid()
    callback = await desk.callback(
        first=UUID(first), amount=1999, currency="EUR", body=b'{"canary": 1}'
    )
    reply = await desk("GET", path_of(callback))
    shown = reply.json()
    assert shown["id"] == path_of(callback).removeprefix(f"{CALLBACKS}/")
    assert shown["authorization"] == authorization_id(first)
    assert (shown["effect"], shown["event_type"]) == ("refunded", "charge.refunded")
    assert (shown["amount"], shown["currency"], shown["ledger"]) == (1999, "EUR", {"index": 7})
    listed = await desk("GET", CALLBACKS)
    assert listed.json() == {"data": [shown], "next": None}
    assert b"canary" not in reply.body + listed.body

    body = await desk("GET", f"{path_of(callback)}/body")
    assert (body.status, body.body) == (200, b'{"canary": 1}')
    assert body.headers["content-type"] == "application/json; charset=utf-8"
    assert body.headers["content-disposition"] == "attachment"
    assert body.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [["Content-Type", "text/html\r\nSet-Cookie: a=b"]],
        [["Content-Type", "html"]],
        [["Content-Type", "text/xml"], ["content-type", "text/html"]],
    ],
)
async def test_a_type_that_is_none_is_not_passed_on(desk: Desk, headers: list[object]) -> None:
    callback = await desk.callback(headers=json.dumps(headers))
    body = await desk("GET", f"{path_of(callback)}/body")
    assert (body.status, body.headers["content-type"]) == (200, "application/octet-stream")


async def test_a_body_that_is_forgotten_is_not_there(desk: Desk) -> None:
    callback = await desk.callback(headers=None, body=None)
    assert (await desk("GET", f"{path_of(callback)}/body")).refusal == NOT_FOUND
    assert (await desk("GET", path_of(callback))).status == 200


async def test_a_list_is_narrowed_and_comes_in_pages(desk: Desk) -> None:
    first = new_uuid()
    old = await desk.callback(received_at=now() - timedelta(days=9), route="adyen")
    ids = [await desk.callback(first=UUID(first), event_type="payout.paid", effect=None)]
    ids += [await desk.callback() for _ in range(2)]
    page = (await desk("GET", f"{CALLBACKS}?limit=3")).json()
    rest = (await desk("GET", f"{CALLBACKS}?limit=3&cursor={page['next']}")).json()
    assert {row["id"] for row in page["data"]} == {callback_id(UUID(one)) for one in ids}
    assert [row["id"] for row in rest["data"]] == [callback_id(UUID(old))]
    since = (now() - timedelta(days=1)).isoformat().replace("+", "%2B")
    for query, count in (
        ("route=adyen", 1),
        ("type=payout.paid", 1),
        ("effect=refunded", 3),
        (f"authorization={authorization_id(first)}", 1),
        (f"since={since}", 3),
        (f"since={since}&route=adyen", 0),
    ):
        assert len((await desk("GET", f"{CALLBACKS}?{query}")).json()["data"]) == count, query
    for query in (
        *("route=A/B", "type=%00", "effect=none", "authorization=aut_1", "since=today"),
        *("limit=0", "cursor=MSB4", "tenant=t_1", "route=adyen&route=stripe"),
    ):
        assert (await desk("GET", f"{CALLBACKS}?{query}")).refusal[:2] == (422, "invalid_field")


async def test_another_tenant_s_are_not_there(desk: Desk) -> None:
    callback = await desk.callback()
    stranger = await desk.other()
    for path in (path_of(callback), f"{path_of(callback)}/body", f"{CALLBACKS}/cb_1"):
        assert (await stranger("GET", path)).refusal == NOT_FOUND
    assert (await stranger("GET", CALLBACKS)).json()["data"] == []


async def test_reading_needs_its_scope(desk: Desk) -> None:
    callback = await desk.callback()
    key = await desk.new_key("webhooks", "ledger", "route:stripe")
    for path in (CALLBACKS, path_of(callback), f"{path_of(callback)}/body"):
        assert (await desk("GET", path, key=key)).refusal == (403, "not_permitted", None)
