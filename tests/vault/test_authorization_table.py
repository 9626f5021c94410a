"""Authorizations as they are read; leases, orphans, and answers that end."""

import secrets
from collections.abc import Sequence
from datetime import timedelta

import pytest

from tests.vault.rows import Sender, create, new_tenant
from tests.vault.stores import Replica, Store
from vault import authorization_table
from vault.authorization import Result, State
from vault.authorization_table import (
    AuthorizationFilter,
    AuthorizationRow,
    AuthorizationTable,
    Orphan,
)
from vault.intent_table import ANSWER_KEPT, LEASE, OpenIntent, SealedAnswer, SettleIntent
from vault.ledger.unit import Unit

pytestmark = pytest.mark.embedded


async def append(replica: Replica, *units: Unit) -> None:
    for unit in units:
        await replica.ledger.append(unit, seconds=10)


async def listed(
    table: AuthorizationTable, tenant: str, **narrowed: object
) -> Sequence[AuthorizationRow]:
    by = AuthorizationFilter(**narrowed)  # type: ignore[arg-type]
    return await table.list(tenant, by, limit=100, after=None)


# --- reading --------------------------------------------------------------------------------


async def test_an_authorization_with_its_sends(shared_store: Store) -> None:
    table = AuthorizationTable(shared_store.database)
    sender = Sender()
    row = sender.row()
    async with shared_store.replica() as replica:
        one = sender.opens(row, merchant_reference="order-1")
        first = one.facts.first
        two = sender.opens(row, first=first, attempt=2)
        await append(replica, create(row), one, sender.settles(one, State.UNKNOWN), two)
        settled = sender.settles(
            two, State.COMPLETED, Result.DECLINED, status=402, decline_code="no_funds"
        )
        (place,) = await replica.ledger.append(settled)

    found = await table.get(sender.tenant, first)

    assert found is not None
    assert (found.first, found.tenant, found.route) == (first, sender.tenant, "stripe")
    assert (found.operation, found.kind) == ("payment_intents.confirm", "authorize")
    assert (found.tokens, found.amount, found.currency) == ([row.id], 1999, "EUR")
    assert (found.idx, found.leaf) == (place.idx, place.leaf)
    assert found.merchant_reference == "order-1"
    assert [(one.attempt, one.state, one.result, one.status) for one in found.attempts] == [
        (1, "unknown", None, None),
        (2, "completed", "declined", 402),
    ]
    assert found.attempts[0].intent == first
    assert found.attempts[1].ended_at is not None
    assert await listed(table, sender.tenant) == [found]


@pytest.mark.guards("T-20")
async def test_a_stranger_reads_nothing(shared_store: Store) -> None:
    table = AuthorizationTable(shared_store.database)
    sender, stranger = Sender(), new_tenant()
    async with shared_store.replica() as replica:
        unit = sender.opens()
        await append(replica, unit, answered(sender, unit))
    first = unit.facts.first
    assert await table.get(stranger, first) is None
    assert await table.first_of(stranger, first) is None
    assert await table.answer(stranger, first) is None
    assert await listed(table, stranger) == []
    assert await table.first_of(sender.tenant, first) == first
    assert await table.answer(sender.tenant, first) is not None


async def test_an_attempt_leads_to_the_first(shared_store: Store) -> None:
    table = AuthorizationTable(shared_store.database)
    sender = Sender()
    async with shared_store.replica() as replica:
        one = sender.opens()
        two = sender.opens(first=one.facts.first, attempt=2)
        await append(replica, one, two)
    assert await table.first_of(sender.tenant, two.facts.intent) == one.facts.first
    assert await table.first_of(sender.tenant, sender.opens().facts.intent) is None
    assert await table.get(sender.tenant, two.facts.intent) is None


async def test_a_list_is_narrowed_by_each_of_its_filters(shared_store: Store) -> None:
    table = AuthorizationTable(shared_store.database)
    sender = Sender()
    row, digest = sender.row(), secrets.token_bytes(32)
    async with shared_store.replica() as replica:
        plain = sender.opens()
        await append(replica, create(row), plain)
        shared_store.clock.advance(hours=1)
        since = shared_store.clock.at
        marked = sender.opens(row, route="adyen", key_digest=digest, merchant_reference="order-2")
        reference = "pi_" + secrets.token_hex(4)
        await append(
            replica,
            marked,
            sender.settles(marked, State.COMPLETED, Result.APPROVED, processor_reference=reference),
        )
    shared_store.clock.advance(hours=-1)
    for narrowed in (
        {"token": row.id},
        {"route": "adyen"},
        {"state": "completed"},
        {"result": "approved"},
        {"since": since},
        {"key_digest": digest},
        {"processor_reference": reference},
        {"merchant_reference": "order-2"},
        {"token": row.id, "state": "completed", "result": "approved"},
    ):
        found = await listed(table, sender.tenant, **narrowed)
        assert [one.first for one in found] == [marked.facts.first]
    assert len(await listed(table, sender.tenant)) == 2
    assert await listed(table, sender.tenant, route="adyen", state="unknown") == []


async def test_lists_are_read_page_by_page_newest_first(shared_store: Store) -> None:
    table = AuthorizationTable(shared_store.database)
    sender = Sender()
    async with shared_store.replica() as replica:
        await append(replica, *(sender.opens() for _ in range(7)))
    pages = []
    after = None
    while page := await table.list(sender.tenant, AuthorizationFilter(), limit=3, after=after):
        pages.append(page)
        after = page[-1].created_at, page[-1].first
    assert [len(page) for page in pages] == [3, 3, 1]
    keys = [(one.created_at, one.first) for page in pages for one in page]
    assert keys == sorted(keys, reverse=True)
    assert len(set(keys)) == 7


def answered(sender: Sender, unit: OpenIntent) -> SettleIntent:
    settled = sender.settles(unit, State.COMPLETED, Result.APPROVED, status=200)
    answer = SealedAnswer(sender.tenant, "vault:v1:answer", 4)
    return SettleIntent(settled.first, settled.settlements, settled.lines, answer)


@pytest.mark.guards("T-26")
async def test_an_answer_is_kept_for_its_days(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authorization_table, "SWEEP_ROWS_MAX", 2)
    table = AuthorizationTable(store.database)
    sender = Sender()
    async with store.replica() as replica:
        units = [sender.opens() for _ in range(3)]
        for unit in units:
            await append(replica, unit, answered(sender, unit))
    intent = units[0].facts.intent
    assert await table.answer(sender.tenant, intent) == SealedAnswer(
        sender.tenant, "vault:v1:answer", 4
    )
    at = store.clock.at + ANSWER_KEPT
    assert await table.sweep_answers(at - timedelta(seconds=1)) == 0
    assert [await table.sweep_answers(at) for _ in range(3)] == [2, 1, 0]
    assert await table.answer(sender.tenant, intent) is None


async def test_an_answer_whose_time_is_over_is_not_given(store: Store) -> None:
    table = AuthorizationTable(store.database)
    sender = Sender()
    async with store.replica() as replica:
        unit = sender.opens()
        await append(replica, unit, answered(sender, unit))
    await store.do("UPDATE answer SET expires_at = now()")
    assert await table.answer(sender.tenant, unit.facts.intent) is None


# --- leases and orphans ---------------------------------------------------------------------


@pytest.mark.guards("T-61", "F-40")
async def test_who_is_gone_is_told_from_who_is_alive(store: Store) -> None:
    table = AuthorizationTable(store.database)
    async with store.replica() as mine, store.replica() as other:
        before = Sender(replica=mine.name)  # an earlier boot of the same replica
        now = Sender(replica=mine.name, boot=mine.boot)
        neighbor = Sender(replica=other.name, boot=other.boot)
        units = [sender.opens() for sender in (before, now, neighbor)]
        ended = before.opens()
        await append(mine, *units, ended, before.settles(ended, State.UNKNOWN))
        left, own, theirs = units

        at = store.clock.at
        found = await table.orphans(replica=mine.name, boot=mine.boot, at=at)
        expected = Orphan(left.facts.intent, left.facts.first, before.tenant, str(before.boot))
        assert found == [expected]

        at += LEASE
        assert await table.orphans(replica=mine.name, boot=mine.boot, at=at) == [expected]
        at += timedelta(seconds=1)
        found = await table.orphans(replica=mine.name, boot=mine.boot, at=at)
        assert {one.intent for one in found} == {left.facts.intent, theirs.facts.intent}
        found = await table.orphans(replica=other.name, boot=other.boot, at=at)
        assert {one.intent for one in found} == {left.facts.intent, own.facts.intent}


@pytest.mark.guards("F-42")
async def test_a_lease_that_is_renewed_protects_what_is_open(store: Store) -> None:
    table = AuthorizationTable(store.database)
    async with store.replica() as mine, store.replica() as other:
        sender = Sender(replica=mine.name, boot=mine.boot)
        open_, ended = sender.opens(), sender.opens()
        await append(mine, open_, ended, sender.settles(ended, State.NOT_SENT))
        at = store.clock.at
        for _ in range(4):
            at += timedelta(seconds=10)
            assert await table.renew_leases(mine.boot, at=at) == 1
        assert await table.renew_leases(other.boot, at=at) == 0
        assert await table.orphans(replica=other.name, boot=other.boot, at=at + LEASE) == []
        late = at + LEASE + timedelta(seconds=1)
        assert len(await table.orphans(replica=other.name, boot=other.boot, at=late)) == 1


async def test_orphans_come_oldest_first_and_not_all_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authorization_table, "SWEEP_ROWS_MAX", 2)
    table = AuthorizationTable(store.database)
    async with store.replica() as replica:
        sender = Sender()
        units = []
        for _ in range(3):
            units.append(sender.opens())
            await append(replica, units[-1])
            store.clock.advance(seconds=1)
        at = store.clock.at + LEASE
        found = await table.orphans(replica=replica.name, boot=replica.boot, at=at)
    assert [one.intent for one in found] == [unit.facts.intent for unit in units[:2]]


async def test_what_is_open_is_counted_by_route(store: Store) -> None:
    table = AuthorizationTable(store.database)
    assert await table.open_counts() == {}
    sender = Sender()
    store.clock.advance(seconds=-90)
    async with store.replica() as replica:
        units = [sender.opens(), sender.opens(), sender.opens(route="adyen"), sender.opens()]
        await append(replica, *units)
        await append(replica, sender.settles(units[1], State.UNKNOWN))
        await append(replica, sender.settles(units[3], State.NOT_SENT))
        store.clock.advance(days=1)
        await append(replica, sender.opens(route="clock"))  # one that runs ahead
    counts = await table.open_counts()
    by_state = {route: {one.state: one for one in ones} for route, ones in counts.items()}
    assert set(by_state) == {"stripe", "adyen", "clock"}
    assert by_state["stripe"]["attempted"].count == by_state["stripe"]["unknown"].count == 1
    assert 80 < by_state["stripe"]["attempted"].oldest_seconds < 300
    assert by_state["clock"]["attempted"].oldest_seconds == 0
