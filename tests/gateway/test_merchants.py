"""Who calls: keys in force are let in, and everything else looks the same."""

from base64 import b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from gateway.errors import NotAuthenticated, NotPermitted
from gateway.merchants import CACHE_SECONDS, Merchants, basic_user, bearer_key
from vault.api_keys import KeyKind, NewApiKey, new_api_key
from vault.errors import StoreUnavailable
from vault.tenant_table import ApiKeyRow, TenantTable

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass
class KnownKeys(TenantTable):
    """Keeps the promises of the table that matter here, and can be away."""

    rows: dict[str, ApiKeyRow] = field(default_factory=dict)
    reads: int = 0
    away: bool = False

    async def key(self, key_id: str) -> ApiKeyRow | None:
        self.reads += 1
        if self.away:
            raise StoreUnavailable
        return self.rows.get(key_id)

    def made(self, kind: KeyKind = "secret_key", **changes: datetime) -> NewApiKey:
        key = new_api_key(kind, "test")
        self.rows[key.id] = ApiKeyRow(
            key.id,
            "t_one",
            kind,
            key.digest,
            frozenset({"read", "route:stripe"}),
            NOW,
            changes.get("expires_at"),
            changes.get("revoked_at"),
        )
        return key


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def table() -> KnownKeys:
    return KnownKeys()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def merchants(table: KnownKeys, clock: Clock) -> Merchants:
    return Merchants(table, env="test", now=lambda: NOW, monotonic=clock)


async def test_a_key_in_force_gives_its_tenant(merchants: Merchants, table: KnownKeys) -> None:
    caller = await merchants.authenticate(table.made().text)
    assert caller.tenant == "t_one"
    assert caller.actor.kind == "secret_key"
    caller.require("read")
    caller.require_route("stripe")
    with pytest.raises(NotPermitted):
        caller.require("delete")
    with pytest.raises(NotPermitted):
        caller.require_route("adyen")


async def test_all_other_keys_look_the_same(merchants: Merchants, table: KnownKeys) -> None:
    good = table.made().text
    wrong = good[:-1] + ("0" if good[-1] != "0" else "1")
    second = NOW - timedelta(seconds=1)
    for text in (
        None,
        "",
        "pwsk_test_short",
        wrong,
        new_api_key("secret_key", "test").text,
        new_api_key("secret_key", "live").text,
        good.replace("pwsk_test_", "pwsk_live_"),
        table.made(revoked_at=second).text,
        table.made(expires_at=second).text,
        table.made(expires_at=NOW).text,
    ):
        with pytest.raises(NotAuthenticated):
            await merchants.authenticate(text)


async def test_a_publishable_key_is_known_as_one(merchants: Merchants, table: KnownKeys) -> None:
    caller = await merchants.authenticate(table.made("publishable_key").text)
    assert caller.is_publishable


@pytest.mark.guards("T-29")
async def test_a_revocation_counts_within_five_seconds(
    merchants: Merchants, table: KnownKeys, clock: Clock
) -> None:
    key = table.made()
    await merchants.authenticate(key.text)
    table.made()
    row = table.rows[key.id]
    table.rows[key.id] = ApiKeyRow(
        row.id, row.tenant, row.kind, row.digest, row.scopes, row.created_at, None, NOW
    )
    clock.seconds = CACHE_SECONDS
    with pytest.raises(NotAuthenticated):
        await merchants.authenticate(key.text)


@pytest.mark.guards("T-29")
async def test_without_the_store_a_key_counts_for_five_seconds(
    merchants: Merchants, table: KnownKeys, clock: Clock
) -> None:
    key = table.made()
    await merchants.authenticate(key.text)
    table.away = True
    clock.seconds = CACHE_SECONDS - 0.01
    await merchants.authenticate(key.text)
    clock.seconds = CACHE_SECONDS
    with pytest.raises(StoreUnavailable):
        await merchants.authenticate(key.text)


async def test_guesses_push_no_real_key_out(merchants: Merchants, table: KnownKeys) -> None:
    key = table.made()
    await merchants.authenticate(key.text)
    for _ in range(50):
        with pytest.raises(NotAuthenticated):
            await merchants.authenticate(new_api_key("secret_key", "test").text)
    reads = table.reads
    await merchants.authenticate(key.text)
    assert table.reads == reads


def test_where_a_key_may_stand() -> None:
    key = new_api_key("secret_key", "test").text
    basic = b64encode(f"{key}:".encode()).decode()
    assert bearer_key({"Authorization": f"Bearer {key}"}) == key
    assert bearer_key({"Authorization": f"Basic {basic}"}) is None
    assert bearer_key({}) is None
    assert bearer_key({"Authorization": f"Bearer {key} {key}"}) is None
    assert basic_user({"Authorization": f"Basic {basic}"}) == key
    assert basic_user({"Authorization": f"Bearer {key}"}) is None
    assert basic_user({"Authorization": "Basic " + "=" * 24}) is None
    assert basic_user({"Authorization": "Basic " + b64encode(b"\xff" * 24).decode()}) is None
