"""What merchants are told follows from the ledger: nothing is lost, nothing is doubled."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from tests.vault.ledger.samples import new_uuid
from tests.vault.merchant_queue import MerchantQueue
from tests.vault.rows import ACTOR, Sender, create, new_row
from tests.vault.stores import Replica, Store
from vault.authorization import Result, State
from vault.denials import PutDenials
from vault.ids import authorization_id
from vault.ledger.entry import AccessDenied, TokenDeleted
from vault.ledger.unit import Line, Statement
from vault.telling import ENTRIES_A_TURN_MAX, TELLING_LOCK, Telling

pytestmark = pytest.mark.embedded


@pytest.fixture
async def shop(store: Store) -> MerchantQueue:
    return await MerchantQueue(store).open()


@pytest.fixture
async def replica(store: Store) -> AsyncIterator[Replica]:
    async with store.replica() as made:
        yield made


def telling(shop: MerchantQueue) -> Telling:
    return Telling(shop.store.database, now=shop.store.clock)


async def told(shop: MerchantQueue) -> list[dict[str, Any]]:
    while await telling(shop).turn():
        pass
    rows = await shop.store.rows("SELECT body FROM event ORDER BY idx")
    return [json.loads(row["body"]) for row in rows]


async def test_a_payment_s_outcomes_are_told_in_its_order(
    shop: MerchantQueue, replica: Replica
) -> None:
    endpoint = await shop.endpoint()
    sender = Sender(shop.tenant, replica.name, replica.boot)
    opened = sender.opens(merchant_reference="order-1")
    await replica.ledger.append(opened)
    await replica.ledger.append(sender.settles(opened, State.UNKNOWN))
    await replica.ledger.append(sender.settles(opened, State.RESOLVED, Result.APPROVED))
    unknown, resolved = await told(shop)
    assert [unknown["type"], resolved["type"]] == [
        "authorization.unknown",
        "authorization.resolved",
    ]
    assert unknown["id"].startswith("evt_")
    for body, state, result in ((unknown, "unknown", None), (resolved, "resolved", "approved")):
        data = body["data"]
        assert data["id"] == authorization_id(opened.facts.first)
        assert (data["state"], data["result"]) == (state, result)
        assert (data["amount"], data["currency"], data["route"]) == (1999, "EUR", "stripe")
        assert data["merchant_reference"] == "order-1"
    rows = await shop.store.rows("SELECT * FROM delivery ORDER BY idx")
    assert {str(row["subject"]) for row in rows} == {opened.facts.first}
    assert {row["endpoint"] for row in rows} == {endpoint}


async def test_tokens_and_forged_callbacks_are_told_and_other_refusals_not(
    shop: MerchantQueue, replica: Replica
) -> None:
    await shop.endpoint()
    row = new_row(shop.tenant)
    await replica.ledger.append(create(row))
    for cause in ("signature", "scope"):
        entry = AccessDenied(
            id=new_uuid(),
            actor=ACTOR,
            cause=cause,
            count=7,
            tenant=shop.tenant,
        )
        await replica.ledger.append(PutDenials((Line(entry),)))
    created, rejected = await told(shop)
    assert (created["type"], created["data"]["id"]) == ("token.created", row.id)
    assert (rejected["type"], rejected["data"]) == ("callback.rejected", {"count": 7})


async def test_who_hears_what(shop: MerchantQueue, replica: Replica) -> None:
    """Types narrow, other tenants are others, and what was before an endpoint is not for it."""
    await deleted(shop, replica)
    everything = await shop.endpoint()
    await shop.endpoint(types=("authorization.*",))
    disabled = await shop.endpoint(types=("token.*",))
    await shop.table.disable(shop.tenant, disabled, "test", shop.now)
    other = await MerchantQueue(shop.store).open()
    await other.endpoint()
    removed = await shop.endpoint()
    await shop.table.remove(shop.tenant, removed, shop.now)
    await deleted(shop, replica)
    assert len(await told(shop)) == 1
    rows = await shop.store.rows("SELECT endpoint FROM delivery")
    assert {row["endpoint"] for row in rows} == {everything, disabled}


async def test_callbacks_go_to_their_route_and_to_those_who_hear_events(
    shop: MerchantQueue, replica: Replica
) -> None:
    """The ledger's entry and the inbox's row are made by hand: here they are only read."""
    stripe = await shop.endpoint(form="callbacks", route="stripe", types=("charge.*",))
    await shop.endpoint(form="callbacks", route="adyen")
    await shop.endpoint(form="callbacks", route="stripe", types=("payout.paid",))
    events = await shop.endpoint(types=("callback.received",))
    callback = new_uuid()
    idx = await shop.store.value("SELECT size FROM head")
    await shop.store.do(
        "INSERT INTO entry (idx, id, type, tenant, leaf_hash, body)"
        " VALUES ($1, $2, 'callback.received', $3, sha256(''), '{}')",
        *(idx, callback, shop.tenant),
    )
    await shop.store.do("UPDATE head SET size = size + 1")
    await shop.store.do(
        "INSERT INTO callback (id, tenant, route, scheme, event_id, event_type, event_at,"
        " signature, is_scrubbed, headers, body, idx, received_at)"
        " VALUES ($1, $2, 'stripe', 'stripe', 'evt_1', 'charge.refunded', $3, 'valid', false,"
        " '[]', '{}', $4, $3)",
        *(callback, shop.tenant, shop.now, idx),
    )
    (event,) = await told(shop)
    assert event["data"]["event_type"] == "charge.refunded"
    rows = await shop.store.rows("SELECT endpoint, callback, event FROM delivery")
    found = {(row["endpoint"], str(row["callback"]), str(row["event"])) for row in rows}
    assert found == {(stripe, callback, "None"), (events, "None", callback)}


async def test_one_replica_tells_at_a_time(shop: MerchantQueue, replica: Replica) -> None:
    await shop.endpoint()
    await deleted(shop, replica)
    async with shop.store.session() as other, other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock($1)", TELLING_LOCK)
        assert await telling(shop).turn() == 0
    assert len(await told(shop)) == 1


async def test_a_long_log_is_told_in_turns_and_at_once_where_nobody_listens(
    shop: MerchantQueue, replica: Replica
) -> None:
    await deleted(shop, replica, ENTRIES_A_TURN_MAX + 10)
    assert await telling(shop).turn() > ENTRIES_A_TURN_MAX
    await shop.endpoint()
    await deleted(shop, replica, ENTRIES_A_TURN_MAX + 10)
    assert await telling(shop).turn() == ENTRIES_A_TURN_MAX
    assert len(await told(shop)) == ENTRIES_A_TURN_MAX + 10


class Cut(asyncpg.Connection):
    """A connection that is lost before one of the statements of a transaction."""

    left: int | None = None

    def spend(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.terminate()

    async def fetch(self, *values: Any, **more: Any) -> Any:  # noqa: ANN401 - as it is
        self.spend()
        return await super().fetch(*values, **more)

    async def fetchrow(self, *values: Any, **more: Any) -> Any:  # noqa: ANN401
        self.spend()
        return await super().fetchrow(*values, **more)

    async def fetchval(self, *values: Any, **more: Any) -> Any:  # noqa: ANN401
        self.spend()
        return await super().fetchval(*values, **more)

    async def execute(self, *values: Any, **more: Any) -> Any:  # noqa: ANN401
        self.spend()
        return await super().execute(*values, **more)


async def test_a_turn_that_is_cut_between_any_two_statements_loses_and_doubles_nothing(
    shop: MerchantQueue, replica: Replica
) -> None:
    await shop.endpoint()
    sender = Sender(shop.tenant, replica.name, replica.boot)
    cuts = 0
    for left in range(20):
        opened = sender.opens()
        await replica.ledger.append(opened)
        await replica.ledger.append(sender.settles(opened, State.COMPLETED, Result.APPROVED))
        async with cut_after(shop.store, left) as connection:
            try:
                async with connection.transaction():
                    await telling(shop)._tell(connection)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                cuts += 1
            else:
                break
    assert cuts >= 6
    await told(shop)
    assert await shop.store.count("event") == await shop.store.count("delivery") == cuts + 1
    size = await shop.store.value("SELECT size FROM head")
    assert await shop.store.value("SELECT next_idx FROM told") == size


@asynccontextmanager
async def cut_after(store: Store, statements: int) -> AsyncIterator[Cut]:
    connection = await asyncpg.connect(store.dsns.runtime_dsn, connection_class=Cut)
    try:
        connection.left = statements
        yield connection
    finally:
        connection.terminate()


async def deleted(shop: MerchantQueue, replica: Replica, number: int = 1) -> None:
    """Put so many deletions of tokens on record."""
    for begun in range(0, number, 100):
        lines = tuple(
            Line(
                TokenDeleted(
                    id=new_uuid(),
                    actor=ACTOR,
                    tenant=shop.tenant,
                    token=new_row(shop.tenant).id,
                    reason="request",
                )
            )
            for _ in range(min(100, number - begun))
        )
        await replica.ledger.append(Statement(lines))
    shop.store.clock.at += timedelta(milliseconds=1)
