"""Refusals on record: grouped, counted to the last, bounded, and never twice."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.vault.ledger.samples import new_actor
from tests.vault.ledger.test_store import appending, freeze_commits
from tests.vault.rows import new_tenant, statement
from tests.vault.stores import Replica, Store, settled
from vault.denials import GROUPS_A_MINUTE_MAX, MINUTES_OWED_MAX, Denials
from vault.ledger.entry import AccessDenied
from vault.ledger.forms import DeniedCause

pytestmark = pytest.mark.embedded

KEY = new_actor()


@pytest.fixture
async def replica(shared_store: Store) -> AsyncIterator[Replica]:
    shared_store.clock.at = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    async with shared_store.replica() as made:
        yield made


@pytest.fixture
def denials(replica: Replica, shared_store: Store) -> Denials:
    return Denials(replica.ledger, now=shared_store.clock)


async def said(store: Store, replica: Replica) -> list[AccessDenied]:
    entries = await store.entries("access.denied")
    return [one for one in entries if isinstance(one, AccessDenied) and one.replica == replica.name]


async def address_of(store: Store, entry: AccessDenied) -> object:
    return await store.value(
        "SELECT convert_from(body, 'UTF8')::json ->> 'source_address' FROM detail"
        " WHERE id::text = $1",
        entry.id,
    )


async def test_a_minute_of_refusals_is_one_entry(
    shared_store: Store, replica: Replica, denials: Denials
) -> None:
    tenant = new_tenant()
    for _ in range(5):
        denials.note("scope", tenant=tenant, source_address="192.0.2.1", actor=KEY)
        shared_store.clock.advance(seconds=9)
    await denials.flush()
    assert await said(shared_store, replica) == []
    shared_store.clock.advance(seconds=15)
    await denials.flush()
    (entry,) = await said(shared_store, replica)
    assert (entry.cause, entry.count, entry.tenant, entry.actor) == ("scope", 5, tenant, KEY)
    assert await address_of(shared_store, entry) == "192.0.2.1"
    await denials.flush()
    assert len(await said(shared_store, replica)) == 1
    assert (await shared_store.report()).violations == ()


async def test_what_not_all_of_a_group_share_is_not_said(
    shared_store: Store, replica: Replica, denials: Denials
) -> None:
    denials.note("key", tenant=None, source_address="192.0.2.1")
    denials.note("key", tenant=None, source_address="192.0.2.2", actor=KEY)
    denials.note("key", tenant=None, source_address="192.0.2.2")
    denials.note("signature", tenant=None, source_address=None)
    await denials.close()
    key, signature = sorted(await said(shared_store, replica), key=lambda one: one.cause)
    assert (key.count, key.actor.kind, await address_of(shared_store, key)) == (
        3, "anonymous", None,
    )  # fmt: skip
    assert (signature.count, signature.actor.kind) == (1, "anonymous")
    assert await shared_store.value("SELECT count(*) FROM detail WHERE id::text = $1", key.id) == 0


async def test_a_minute_s_refusals_end_with_it(
    shared_store: Store, replica: Replica, denials: Denials
) -> None:
    for _ in range(3):
        denials.note("egress", tenant=None, source_address=None)
        shared_store.clock.advance(seconds=60)
    await denials.flush()
    assert [one.count for one in await said(shared_store, replica)] == [1, 1, 1]


async def test_no_flood_makes_more_than_so_many_entries(
    shared_store: Store, replica: Replica, denials: Denials
) -> None:
    for _ in range(3):
        for cause in get_args(DeniedCause):
            denials.note(cause, tenant=None, source_address=None)
    for _ in range(500):
        denials.note("foreign_token", tenant=new_tenant(), source_address="192.0.2.1")
    await denials.close()
    entries = await said(shared_store, replica)
    assert len(entries) <= GROUPS_A_MINUTE_MAX + len(get_args(DeniedCause))
    assert sum(one.count for one in entries) == 21 + 500


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(
            st.sampled_from(get_args(DeniedCause)),
            st.sampled_from([None, "t_01", "t_02"]),
            st.integers(0, 40),
            st.booleans(),
        ),
        max_size=40,
    )
)
async def test_every_refusal_is_counted_once(
    shared_store: Store, refusals: list[tuple[DeniedCause, str | None, int, bool]]
) -> None:
    async with shared_store.replica() as replica:
        denials = Denials(replica.ledger, now=shared_store.clock)
        for cause, tenant, seconds, flushes in refusals:
            denials.note(cause, tenant=tenant, source_address=None)
            shared_store.clock.advance(seconds=seconds)
            if flushes:
                await denials.flush()
        await denials.close()
        entries = await said(shared_store, replica)
    counted: dict[tuple[str, str | None], int] = {}
    for cause, tenant, _, _ in refusals:
        counted[cause, tenant] = counted.get((cause, tenant), 0) + 1
    for entry in entries:
        tenant = entry.tenant if isinstance(entry.tenant, str) else None
        counted[entry.cause, tenant] -= entry.count
    assert set(counted.values()) <= {0}


# --- when the ledger is away ------------------------------------------------------------------


async def test_what_the_ledger_cannot_take_is_owed_and_bounded(
    shared_store: Store, replica: Replica, denials: Denials
) -> None:
    await replica.ledger.close()
    for _ in range(MINUTES_OWED_MAX + 5):
        denials.note("key", tenant=None, source_address=None)
        shared_store.clock.advance(seconds=60)
    await denials.flush()
    assert len(denials._owed) == MINUTES_OWED_MAX
    assert await said(shared_store, replica) == []


async def test_what_could_not_be_appended_in_time_is_appended_at_a_later_turn(
    shared_store: Store, replica: Replica, denials: Denials
) -> None:
    causes: tuple[DeniedCause, ...] = ("key", "scope")
    for cause in causes:
        denials.note(cause, tenant=None, source_address=None)
        shared_store.clock.advance(seconds=60)
    async with shared_store.head_locked():
        await denials.flush()
        assert await said(shared_store, replica) == []
    await denials.flush()
    assert [one.cause for one in await said(shared_store, replica)] == ["key", "scope"]


async def test_what_was_appended_without_an_answer_is_not_appended_again(store: Store) -> None:
    async with store.replica() as replica, store.session(owner=True) as other:
        denials = Denials(replica.ledger, now=store.clock)
        denials.note("key", tenant=None, source_address=None)
        store.clock.advance(seconds=60)
        await freeze_commits(store)
        await other.execute("SELECT pg_advisory_lock(1)")
        await denials.flush()  # the author gives up, COMMIT comes through
        await other.execute("SELECT pg_advisory_unlock(1)")
        await denials.flush()
        (entry,) = await said(store, replica)
        assert entry.count == 1
        assert not denials._owed
        assert (await store.report()).violations == ()


async def test_two_turns_at_once_append_once(store: Store) -> None:
    async with store.replica() as replica:
        denials = Denials(replica.ledger, now=store.clock)
        denials.note("key", tenant=None, source_address=None)
        store.clock.advance(seconds=60)
        async with store.head_locked():
            (waiting,) = appending(replica.ledger, statement())
            await store.until_blocked()
            turns = [asyncio.create_task(denials.flush()), asyncio.create_task(denials.close())]
            await settled()
        await asyncio.gather(waiting, *turns)
        assert len(await said(store, replica)) == 1
        assert replica.appends.sizes == [2]
