"""What an endpoint must be, and what becomes of its secrets when HashiCorp Vault is in the way."""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

import pytest

from gateway.addresses import NOTHING_PRIVATE
from gateway.config import Route
from gateway.errors import BadField
from gateway.webhook_endpoints import (
    TYPES_MAX,
    URL_CHARACTERS_MAX,
    Wanted,
    WebhookEndpoints,
    schemes_by_route,
)
from tests.cards import VISA
from vault.errors import KeysUnavailable
from vault.webhook_table import WebhookEndpoint, WebhookTable

TENANT = "t_shop00"
AT = datetime(2031, 5, 1, 12, tzinfo=UTC)
URL = "https://shop.example/hook"


class Table(WebhookTable):
    """Rows in memory, as far as making and ending endpoints asks for them."""

    def __init__(self) -> None:
        self.rows: dict[str, WebhookEndpoint] = {}

    async def list(self, tenant: str) -> list[WebhookEndpoint]:
        return [row for row in self.rows.values() if row.tenant == tenant]

    async def add(self, endpoint: WebhookEndpoint) -> None:
        self.rows[endpoint.id] = endpoint

    async def remove(self, tenant: str, endpoint: str, at: datetime) -> bool:
        del tenant, at
        return self.rows.pop(endpoint, None) is not None


class Keys:
    """Secrets in memory; others are always quicker, or it is away."""

    def __init__(self, *, is_away: bool = False, is_lost: bool = False) -> None:
        self.is_away, self.is_lost = is_away, is_lost
        self.put: list[Mapping[str, str | None]] = []

    async def webhook_secrets(self, tenant: str, endpoint: str) -> Mapping[str, str] | None:
        del tenant, endpoint
        if self.is_away:
            raise KeysUnavailable
        return {}

    async def put_webhook_secrets(
        self, tenant: str, endpoint: str, changes: Mapping[str, str | None]
    ) -> bool:
        del tenant, endpoint
        if self.is_away:
            raise KeysUnavailable
        self.put.append(changes)
        return not self.is_lost


def story(keys: Keys, table: Table | None = None) -> WebhookEndpoints:
    return WebhookEndpoints(
        table or Table(),
        keys,
        routes={"stripe": ("stripe",)},
        allow=NOTHING_PRIVATE,
        now=lambda: AT,
    )


@pytest.mark.parametrize("keys", [Keys(is_away=True), Keys(is_lost=True)])
async def test_there_is_no_endpoint_whose_secrets_are_not_kept(keys: Keys) -> None:
    table = Table()
    with pytest.raises(KeysUnavailable):
        await story(keys, table).open(TENANT, Wanted(URL, "events"))
    assert table.rows == {}


async def test_an_endpoint_ends_also_while_its_secrets_cannot_be_reached() -> None:
    table, keys = Table(), Keys()
    made, _ = await story(keys, table).open(TENANT, Wanted(URL, "events"))
    keys.is_away = True
    assert await story(keys, table).remove(TENANT, made.id)
    assert not await story(keys, table).remove(TENANT, made.id)


async def test_what_was_cut_off_is_ended_by_asking_once_more() -> None:
    """What is removed already may still be in an older version of the secret."""
    table, keys = Table(), Keys()
    made, _ = await story(keys, table).open(TENANT, Wanted(URL, "events"))
    keys.put.clear()
    assert not await story(keys, table).remove_secret(made, "standard.x")
    assert keys.put == [{"standard.x": None}]
    for is_there in (True, False):
        assert await story(keys, table).remove(TENANT, made.id) is is_there
    assert len(keys.put) == 3


async def test_a_secret_is_in_nothing_that_is_printed() -> None:
    _, shown = await story(Keys()).open(TENANT, Wanted(URL, "callbacks", "stripe"))
    assert len(shown) == 2
    assert not any(one.text in repr(shown) for one in shown)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (Wanted(URL + "a" * URL_CHARACTERS_MAX, "events"), ("url", "length")),
        (Wanted("https://user@shop.example/", "events"), ("url", "format")),
        (Wanted("https://shop.example?a=b", "events"), ("url", "format")),
        (Wanted("HTTPS://shop.example/", "events"), ("url", "format")),
        (Wanted(f"{URL}?card={VISA}", "events"), ("url", "card_number")),
        (Wanted(URL, "callbacks", "stripe", (f"a.{VISA}",)), ("types", "card_number")),
        (Wanted(URL, "events", types=("*",) * (TYPES_MAX + 1)), ("types", "too_many")),
        (Wanted(URL, "events", types=("",)), ("types", "format")),
        (Wanted(URL, "events", concurrency=0), ("concurrency", "range")),
    ],
)
async def test_what_no_endpoint_can_be(wanted: Wanted, told: tuple[str, str]) -> None:
    with pytest.raises(BadField) as refused:
        await story(Keys()).open(TENANT, wanted)
    assert (refused.value.field, refused.value.reason) == told


async def test_all_types_may_be_named_by_a_star() -> None:
    for form, route in (("events", None), ("callbacks", "stripe")):
        made, _ = await story(Keys()).open(TENANT, Wanted(URL, form, route, ("*",)))  # type: ignore[arg-type]  # a form
        assert made.types == ("*",)


def test_only_routes_whose_callbacks_are_received_count() -> None:
    def route(name: str, *schemes: str) -> Route:
        rules = SimpleNamespace(schemes=schemes) if schemes else None
        return cast(Route, SimpleNamespace(name=name, preset=SimpleNamespace(callbacks=rules)))

    assert schemes_by_route([route("a"), route("b", "stripe")]) == {"b": ("stripe",)}
