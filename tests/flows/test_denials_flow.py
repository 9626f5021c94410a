"""Refusals of access at a gateway: what the ledger has of them once it has stopped in order."""

import json
from collections import Counter
from collections.abc import Sequence

import pytest

from tests.flows.deployment import Deployment, Store
from tests.flows.merchant import METHODS, Merchant, method, new_key
from tests.flows.replica import running_replica
from vault.api_keys import Scope, new_api_key
from vault.ledger.entry import AccessDenied, GatewayStarted, decode

pytestmark = pytest.mark.embedded

ADDRESS = "127.0.0.1"
STRANGERS, WITHOUT_SCOPE, FOREIGN = 3, 2, 4


async def leaves_since(store: Store, index: int) -> Sequence[bytes]:
    rows = await store.fetch("SELECT body FROM entry WHERE idx > $1 ORDER BY idx", index)
    return [row["body"] for row in rows]


async def denied_by_its_gateway(store: Store, since: int) -> Sequence[AccessDenied]:
    """Give the refusals of the one gateway that started since then; others go on meanwhile."""
    entries = [decode(body) for body in await leaves_since(store, since)]
    (started,) = [each for each in entries if isinstance(each, GatewayStarted)]
    return [
        each
        for each in entries
        if isinstance(each, AccessDenied) and each.replica == started.replica
    ]


async def test_refusals_of_a_gateway_that_stops_are_on_record_to_the_last(
    deployment: Deployment, shop: Merchant, other_shop: Merchant, store: Store
) -> None:
    """Counted by cause and tenant; the ledger is public, so it says neither who nor with what."""
    token = await shop.token()
    strangers_key = new_api_key("secret_key", "test").text
    narrow_key = await new_key(deployment, shop.tenant, Scope.READ)
    since = await store.fetchval("SELECT max(idx) FROM entry")
    with running_replica(deployment, "denials") as replica:
        stranger = shop.at(replica.urls).with_key(strangers_key)
        narrow = shop.at(replica.urls).with_key(narrow_key)
        other = other_shop.at(replica.urls)
        for _ in range(STRANGERS):
            refused = await stranger.api("GET", f"/v1/tokens/{token}")
            assert refused.told()[:2] == (401, "not_authenticated")
        for _ in range(WITHOUT_SCOPE):
            refused = await narrow.api("DELETE", f"/v1/tokens/{token}")
            assert refused.told()[:2] == (403, "not_permitted")
        for _ in range(FOREIGN):
            refused = await other.out(METHODS, method(token))
            assert refused.error["code"] == "token_unknown"
    denied = await denied_by_its_gateway(store, since)
    counts = Counter[tuple[str, object]]()
    for entry in denied:  # a minute may have ended in between
        counts[entry.cause, entry.tenant or None] += entry.count
    assert counts == {
        ("key", None): STRANGERS,
        ("scope", shop.tenant): WITHOUT_SCOPE,
        ("foreign_token", other_shop.tenant): FOREIGN,
    }
    leaves = b"\n".join(await leaves_since(store, since))
    for told in (ADDRESS, token, strangers_key, narrow_key, other.account.secret_key):
        assert told.encode() not in leaves
    details = await store.fetch(
        "SELECT body FROM detail WHERE id = ANY($1::uuid[])", [entry.id for entry in denied]
    )
    found = {json.loads(row["body"])["source_address"] for row in details}
    assert found == {ADDRESS}, "kept beside the ledger, where it can be erased"
