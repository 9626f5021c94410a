"""Events of processors on real tables: each once, in any order, and in the log."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.vault.doubtful import UNKNOWN
from tests.vault.fake_node import FakeCluster, fake_cluster
from tests.vault.inboxes import ENDPOINT, NUMBERS, OTHER, Inbox, inbox_of, opened_inbox
from tests.vault.rows import create, new_cvc
from tests.vault.stores import Store, until
from vault import callback_unit
from vault.authorization import Finding, Kind, Result
from vault.callback_table import COLUMNS, CallbackFilter
from vault.callbacks import Received
from vault.errors import LedgerUnavailable, StoreUnavailable
from vault.ledger.entry import AuthorizationResolved, CallbackReceived, Opening, callback_actor
from vault.payment_events import Effect
from vault.rebuild import rebuild_rows
from vault.resolutions import Evidence

pytestmark = [pytest.mark.embedded, pytest.mark.guards("F-23")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as made:
        yield made


@pytest.fixture
async def here(store: Store, cluster: FakeCluster, tmp_path: Path) -> AsyncIterator[Inbox]:
    async with opened_inbox(store, cluster, tmp_path / "spool") as made:
        yield made


# --- once -----------------------------------------------------------------------------------


async def test_an_event_is_received_with_its_entry(here: Inbox) -> None:
    event = here.event(action_reference="re_9")
    assert await here.callbacks.receive(event) is Received.NEW
    (entry,) = await here.court.store.entries("callback.received")
    assert isinstance(entry, CallbackReceived)
    assert entry.actor == callback_actor(ENDPOINT)
    assert (entry.route, entry.signature, entry.tenant) == ("stripe", "valid", here.court.tenant)
    row = await here.table.get(here.court.tenant, entry.id)
    assert row is not None
    assert (row.event_id, row.headers, row.body) == (event.event_id, event.headers, event.body)
    body = await here.court.store.value("SELECT body FROM detail WHERE id::text = $1", entry.id)
    assert isinstance(body, bytes)
    assert json.loads(body).keys() == {
        *("processor_event", "processor_reference", "body_digest", "source_address")
    }
    assert row.idx == await here.court.store.value(
        "SELECT idx FROM entry WHERE id::text = $1", entry.id
    )
    assert await here.table.get(OTHER, entry.id) is None
    assert await here.table.list(OTHER, CallbackFilter(), limit=9, after=None) == []
    (listed,) = await here.table.list(here.court.tenant, CallbackFilter(), limit=9, after=None)
    assert (listed.id, listed.body) == (row.id, None)


async def test_a_repeat_changes_nothing(here: Inbox) -> None:
    await here.court.in_doubt()
    event = here.event(Effect.APPROVED, merchant_reference="order-1")
    assert await here.callbacks.receive(event) is Received.NEW
    assert await here.callbacks.receive(event) is Received.REPEATED
    assert await here.callbacks.receive(replace(event, body=b"other")) is Received.REPEATED
    assert await here.court.store.types() == [
        *("authorization.attempted", "authorization.unknown"),
        *("callback.received", "authorization.resolved"),
    ]


async def test_200_repeats_at_two_replicas_have_one_effect(here: Inbox) -> None:
    intent = await here.court.in_doubt()
    event = here.event(Effect.APPROVED, action_reference="pi_1", merchant_reference="order-1")
    async with here.court.store.replica() as second:
        there = inbox_of(here.court, second)
        said = await asyncio.gather(
            *((here, there)[number % 2].callbacks.receive(event) for number in range(200)),
            return_exceptions=True,
        )
    assert said.count(Received.NEW) == 1
    others = [one for one in said if not isinstance(one, Received)]
    assert all(isinstance(one, StoreUnavailable | LedgerUnavailable) for one in others)
    assert said.count(Received.REPEATED) == 199 - len(others)
    assert len(await here.court.store.entries("callback.received")) == 1
    assert len(await here.resolved()) == 1
    assert await here.shows(intent) == ("resolved", "approved")


async def test_repeats_in_one_batch_fail_no_neighbor(here: Inbox) -> None:
    event = here.event(Effect.APPROVED)
    ledger = here.court.replica.ledger
    async with here.court.store.head_locked():
        all_at_once = asyncio.gather(*(here.callbacks.receive(event) for _ in range(20)))
        await until(lambda: len(ledger._queue) == 20)
    said = await all_at_once
    assert (said.count(Received.NEW), said.count(Received.REPEATED)) == (1, 19)


# --- what follows ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("effect", "result"),
    [
        (Effect.APPROVED, "approved"),
        (Effect.DECLINED, "declined"),
        (Effect.FAILED, "error"),
        (Effect.CHARGEBACK, "approved"),
    ],
)
async def test_a_doubt_is_resolved(here: Inbox, effect: Effect, result: str) -> None:
    card = await here.court.card()
    intent = await here.court.in_doubt(*card)
    event = here.event(
        effect, payment_reference="pi_1", merchant_reference="order-1", decline_code="stolen_card"
    )
    await here.callbacks.receive(event)
    row = await here.row(intent)
    assert (row.state, row.result, row.processor_reference) == ("resolved", result, "pi_1")
    assert row.decline_code == ("stolen_card" if result == "declined" else None)
    assert [one.effect for one in row.events] == [effect]
    (entry,) = await here.resolved()
    assert isinstance(entry, AuthorizationResolved)
    assert (entry.method, entry.finding) == ("callback", "answered")
    # An issuer has answered: code and token are spent; else both are given back.
    spent = result != "error"
    assert (await here.court.store.count("cvc"), await here.court.store.count("token")) == (
        (0, 0) if spent else (1, 1)
    )
    assert len(await here.court.store.entries("token.deleted")) == spent
    assert await here.court.table.open() == []


@pytest.mark.parametrize("effect", [Effect.APPROVED, Effect.DECLINED])
async def test_what_was_pending_is_decided(here: Inbox, effect: Effect) -> None:
    card = await here.court.card()
    intent = await here.answered(cards=card)
    before = await here.row(intent)
    assert await here.court.store.count("cvc") == 1
    await here.gets(effect, action_reference="pi_1")
    assert await here.shows(intent) == ("resolved", effect.value)
    (entry,) = await here.resolved()
    assert isinstance(entry, AuthorizationResolved)
    assert entry.supersedes == before.idx
    assert await here.court.store.count("cvc") == 0
    assert await here.court.store.count("token") == 0
    assert await here.court.store.count("answer") == 0, "a repeat is not told what is not so"


async def test_a_code_that_was_given_back_is_gone_with_the_decision(here: Inbox) -> None:
    row = here.court.sender.row()
    await here.court.replica.ledger.append(create(row, cvc=new_cvc()), seconds=10)
    code = Opening(key="cvc", token=row.id, version=3), row
    await here.answered(cards=[code])
    assert await here.court.store.count("cvc") == 1
    await here.gets(Effect.APPROVED, action_reference="pi_1")
    assert (await here.court.store.count("cvc"), await here.court.store.count("token")) == (0, 1)


async def test_a_later_event_that_says_the_same_outdates_earlier_ones(here: Inbox) -> None:
    intent = await here.answered()
    for effect, minute in ((Effect.APPROVED, 1), (Effect.APPROVED, 3), (Effect.DECLINED, 2)):
        await here.gets(effect, minute=minute, action_reference="pi_1")
    assert await here.shows(intent) == ("resolved", "approved")


async def test_a_token_that_another_has_taken_since_is_not_burned(here: Inbox) -> None:
    card = await here.court.card()
    intent = await here.answered(cards=card)
    other = await here.court.attempts(await here.court.call(reference="order-2"), *card)
    await here.gets(Effect.APPROVED, action_reference="pi_1")
    assert await here.shows(intent) == ("resolved", "approved")
    assert await here.court.store.count("token") == await here.court.store.count("cvc") == 1
    await here.court.record.settle(other, UNKNOWN, None)


async def test_an_answer_yields_only_to_a_late_decline(here: Inbox) -> None:
    intent = await here.answered(Result.APPROVED)
    await here.gets(Effect.DECLINED, action_reference="pi_1", minute=1)
    assert await here.shows(intent) == ("completed", "approved")
    await here.gets(Effect.LATE_DECLINE, action_reference="pi_1", minute=2)
    assert await here.shows(intent) == ("resolved", "declined")
    await here.gets(Effect.APPROVED, action_reference="pi_1", minute=3)
    assert await here.shows(intent) == ("resolved", "declined")
    assert len((await here.row(intent)).events) == 3


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Kind.CAPTURE, Effect.CAPTURED, Effect.CAPTURE_FAILED),
        (Kind.REFUND, Effect.REFUNDED, Effect.REFUND_FAILED),
        (Kind.VOID, Effect.VOIDED, Effect.VOID_FAILED),
    ],
)
async def test_a_change_is_decided_by_its_own_reference(
    here: Inbox, kind: Kind, good: Effect, bad: Effect
) -> None:
    paid = await here.answered(Result.APPROVED)
    one = await here.answered(name="re_1", kind=kind)
    two = await here.answered(name="re_2", kind=kind)
    await here.gets(good, action_reference="re_1", payment_reference="pi_1")
    await here.gets(bad, action_reference="re_2", payment_reference="pi_1")
    assert await here.shows(one) == ("resolved", "approved")
    assert await here.shows(two) == ("resolved", "declined")
    assert await here.shows(paid) == ("completed", "approved")
    assert len((await here.row(paid)).events) == 2, "it is the payment's history"
    for change, effect in ((one, good), (two, bad)):
        assert [each.effect for each in (await here.row(change)).events] == [effect]
        about = CallbackFilter(authorization=change.first)
        (row,) = await here.table.list(here.court.tenant, about, limit=9, after=None)
        assert (row.first, row.action) == (paid.first, change.first)


async def test_a_refund_proves_a_payment_in_doubt_too(here: Inbox) -> None:
    paid = await here.court.in_doubt()
    refund = await here.answered(name="re_1", kind=Kind.REFUND, reference=None)
    await here.gets(
        Effect.REFUNDED, action_reference="re_1", payment_reference="pi_1",
        merchant_reference="order-1",
    )  # fmt: skip
    assert await here.shows(paid) == await here.shows(refund) == ("resolved", "approved")


async def test_another_s_word_takes_the_event_s_place(here: Inbox) -> None:
    """What an operator put on record yields to no event."""
    intent = await here.answered()
    await here.gets(Effect.APPROVED, action_reference="pi_1")
    ended = await here.court.table.ended(here.court.tenant, intent.first)
    assert ended is not None
    declined = Evidence("manual", Finding.ANSWERED, Result.DECLINED, words="seen")
    await here.court.doubts.contradict(here.court.tenant, intent.first, declined)
    await here.gets(Effect.APPROVED, action_reference="pi_1", minute=9)
    assert await here.shows(intent) == ("resolved", "declined")


# --- at once --------------------------------------------------------------------------------


async def test_an_inquiry_in_the_same_batch_and_an_event_are_not_both_right(here: Inbox) -> None:
    intent = await here.court.in_doubt()
    (doubt,) = await here.court.table.open()
    event = here.event(Effect.DECLINED, merchant_reference="order-1")
    inquiry = Evidence("inquiry", Finding.ANSWERED, Result.APPROVED)
    async with here.court.store.head_locked():
        both = asyncio.gather(
            here.callbacks.receive(event), here.court.doubts.resolve(doubt, inquiry)
        )
        await here.court.store.until_blocked()
    said, _ = await both
    assert said is Received.NEW
    assert await here.shows(intent) == ("resolved", "approved"), "outcomes come first in a batch"
    assert len(await here.resolved()) == 1


async def test_events_of_one_payment_in_one_batch_are_taken_one_by_one(here: Inbox) -> None:
    intent = await here.answered()
    effects = [Effect.APPROVED, Effect.DECLINED, Effect.APPROVED, Effect.FAILED, Effect.DECLINED]
    events = [
        here.event(effect, action_reference="pi_1", minute=minute)
        for minute, effect in enumerate(effects)
    ]
    ledger = here.court.replica.ledger
    async with here.court.store.head_locked():
        all_at_once = asyncio.gather(*map(here.callbacks.receive, events))
        await until(lambda: len(ledger._queue) == len(events))
    assert set(await all_at_once) == {Received.NEW}
    assert await here.shows(intent) == ("resolved", "declined")


async def test_a_confirmation_and_an_earlier_decline_in_one_batch(here: Inbox) -> None:
    intent = await here.answered()
    await here.gets(Effect.APPROVED, minute=1, action_reference="pi_1")
    ledger = here.court.replica.ledger
    async with here.court.store.head_locked():
        confirmed = here.gets(Effect.APPROVED, minute=3, action_reference="pi_1")
        declined = here.gets(Effect.DECLINED, minute=2, action_reference="pi_1")
        both = asyncio.gather(confirmed, declined)
        await until(lambda: len(ledger._queue) == 2)
    await both
    assert await here.shows(intent) == ("resolved", "approved")


async def test_a_value_that_cannot_be_stored_harms_no_neighbor(here: Inbox) -> None:
    odd = here.event(
        Effect.APPROVED, event_type="a\0b\ud800", merchant_reference="\0", amount=2**70,
        currency="\0", decline_code="x" * 300, headers=(("x", "\0\udc80"),),
    )  # fmt: skip
    both = asyncio.gather(here.callbacks.receive(odd), here.gets(Effect.APPROVED))
    assert set(await both) == {Received.NEW}
    rows = await here.table.list(here.court.tenant, CallbackFilter(), limit=9, after=None)
    odd_row = next(row for row in rows if row.event_id == odd.event_id)
    assert (odd_row.event_type, odd_row.amount) == ("a?b?", None)
    full = await here.table.get(here.court.tenant, odd_row.id)
    assert full is not None
    assert full.headers == odd.headers


async def test_large_bodies_of_one_batch_are_stored_in_several_statements(
    here: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement's bodies are in memory twice, and a batch may have 128 of them."""
    monkeypatch.setattr(callback_unit, "STATEMENT_BYTES_MAX", 300)
    sizes = (1, 299, 2, 400, 100, 100, 100, 100)
    events = [here.event(body=b"x" * size) for size in sizes]
    assert set(await asyncio.gather(*map(here.callbacks.receive, events))) == {Received.NEW}
    rows = await here.court.store.rows("SELECT event_id, length(body) AS size FROM callback")
    assert {row["event_id"]: row["size"] for row in rows} == {
        event.event_id: len(event.body) for event in events
    }
    body = COLUMNS.index("body")
    held: list[Sequence[object]] = [
        [b"x" * size if n == body else None for n in range(body + 1)] for size in sizes
    ]
    parts = [[held.index(row) for row in part] for part in callback_unit._bounded(held)]
    assert list(map(len, parts)) == [2, 1, 1, 3, 1]


# --- in any order ---------------------------------------------------------------------------

_EFFECTS = st.sampled_from(
    [Effect.APPROVED, Effect.DECLINED, Effect.FAILED, Effect.LATE_DECLINE, Effect.REFUNDED]
)
_EVENTS = st.lists(st.tuples(_EFFECTS, st.integers(0, 3)), min_size=2, max_size=5)
_ANSWERS = st.sampled_from([None, Result.PENDING, Result.APPROVED, Result.DECLINED])


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(events=_EVENTS, answer=_ANSWERS, data=st.data())
async def test_whatever_the_order_the_end_is_the_same(
    here: Inbox, events: list[tuple[Effect, int]], answer: Result | None, data: st.DataObject
) -> None:
    """None: no answer ever came. The answer itself may come before, between and after events."""
    ends = set()
    steps: list[tuple[Effect, int] | None] = [*events, None]
    for order in (steps, data.draw(st.permutations(steps))):
        number = next(NUMBERS)
        name, order_name = f"pi_{number}", f"order_{number}"
        intent = await here.begins(reference=order_name)
        for step in order:
            if step is None and answer is None:
                assert await here.court.record.settle(intent, UNKNOWN, None)
            elif step is None:
                assert answer is not None
                await here.answers(intent, answer, name=name)
            else:
                effect, minute = step
                await here.gets(
                    effect, minute=minute, payment_reference=name, merchant_reference=order_name
                )
        await here.callbacks.match_late()
        row = await here.row(intent)
        assert len(row.events) == len(events)
        ends.add((row.state, row.result, row.processor_reference == name))
    assert len(ends) == 1, ends
    assert await here.callbacks.match_late() == 0


async def test_of_two_at_one_moment_the_second_leaves_its_time(here: Inbox) -> None:
    """A change clears when evidence came about: the same moment has to be put down again."""
    intent = await here.begins(reference="order_tie")
    for effect, minute in ((Effect.APPROVED, 0), (Effect.DECLINED, 0), (Effect.APPROVED, 1)):
        await here.gets(
            effect, minute=minute, payment_reference="pi_tie", merchant_reference="order_tie"
        )
    assert await here.court.record.settle(intent, UNKNOWN, None)
    assert await here.callbacks.match_late() == 3
    assert await here.shows(intent) == ("resolved", "approved")


# --- afterwards -----------------------------------------------------------------------------


async def test_a_rebuild_keeps_when_evidence_came_about(here: Inbox) -> None:
    intent = await here.answered()
    await here.gets(Effect.APPROVED, action_reference="pi_1", minute=5)
    store = here.court.store
    await store.do("UPDATE authorizations SET result = 'error', decline_code = 'x'")
    found = await rebuild_rows(store.database, on_progress=lambda _done, _of: None)
    assert found.written == 1
    assert await here.shows(intent) == ("resolved", "approved")
    await here.gets(Effect.DECLINED, action_reference="pi_1", minute=4)
    assert await here.shows(intent) == ("resolved", "approved"), "an earlier event"
    await here.gets(Effect.DECLINED, action_reference="pi_1", minute=6)
    assert await here.shows(intent) == ("resolved", "declined")


async def test_bodies_are_forgotten_and_events_are_not(here: Inbox) -> None:
    event = here.event(Effect.APPROVED)
    await here.callbacks.receive(event)
    store = here.court.store
    assert await here.table.forget_bodies(store.clock.advance(days=89)) == 0
    assert await here.table.forget_bodies(store.clock.advance(days=2)) == 1
    assert await store.value("SELECT count(*) FROM callback WHERE body IS NULL") == 1
    assert await here.callbacks.receive(event) is Received.REPEATED
