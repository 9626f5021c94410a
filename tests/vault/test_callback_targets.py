"""Which request an event means: the one that it names, or none, and later if not now."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.vault.fake_node import FakeCluster, fake_cluster
from tests.vault.inboxes import OTHER, Inbox, inbox_of, opened_inbox
from tests.vault.stores import Store
from vault.authorization import Kind, Result
from vault.payment_events import Effect

pytestmark = [pytest.mark.embedded, pytest.mark.guards("F-23")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as made:
        yield made


@pytest.fixture
async def here(store: Store, cluster: FakeCluster, tmp_path: Path) -> AsyncIterator[Inbox]:
    async with opened_inbox(store, cluster, tmp_path / "spool") as made:
        yield made


# --- which is meant -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        {"tenant": OTHER},
        {"route": "adyen"},
        {"amount": 1998},
        {"currency": "USD"},
        {"merchant_reference": "order-2"},
        {"merchant_reference": None},
        {"effect": None},
    ],
)
async def test_what_does_not_fit_changes_nothing(here: Inbox, said: dict[str, object]) -> None:
    intent = await here.court.in_doubt()
    fits = here.event(
        Effect.APPROVED, payment_reference="pi_1", merchant_reference="order-1", amount=1999,
        currency="EUR",
    )  # fmt: skip
    await here.callbacks.receive(replace(fits, **said))  # type: ignore[arg-type]
    assert await here.shows(intent) == ("unknown", None)
    await here.callbacks.receive(replace(fits, event_id="evt_fits"))
    assert await here.shows(intent) == ("resolved", "approved")


async def test_of_two_with_one_reference_none_is_meant(here: Inbox) -> None:
    one, two = await here.court.in_doubt(), await here.court.in_doubt()
    await here.gets(Effect.APPROVED, merchant_reference="order-1")
    assert await here.shows(one) == await here.shows(two) == ("unknown", None)
    assert await here.callbacks.match_late() == 0


async def test_another_payment_of_the_same_order_is_not_meant(here: Inbox) -> None:
    intent = await here.answered(name="pi_1")
    await here.gets(Effect.DECLINED, payment_reference="pi_2", merchant_reference="order-1")
    assert await here.shows(intent) == ("completed", "pending")


async def test_a_payment_begun_after_the_event_is_not_meant(here: Inbox) -> None:
    await here.gets(Effect.DECLINED, payment_reference="pi_elsewhere", merchant_reference="order-1")
    here.court.store.clock.advance(minutes=5)
    intent = await here.court.in_doubt()
    assert await here.callbacks.match_late() == 0
    assert await here.shows(intent) == ("unknown", None)


async def test_of_two_confirmations_the_open_one_is_meant(here: Inbox) -> None:
    declined = await here.answered(Result.DECLINED)
    pending = await here.answered(Result.PENDING)
    await here.gets(Effect.APPROVED, action_reference="pi_1")
    assert await here.shows(declined) == ("completed", "declined")
    assert await here.shows(pending) == ("resolved", "approved")


# --- before the answer ----------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["order-1", None])
async def test_an_event_may_come_before_the_answer(here: Inbox, reference: str | None) -> None:
    intent = await here.begins()
    said = {"action_reference": "pi_1", "merchant_reference": reference}
    await here.gets(Effect.DECLINED, **said)
    assert await here.shows(intent) == ("attempted", None)
    assert await here.callbacks.match_late() == 0
    await here.answers(intent, Result.PENDING)
    assert await here.callbacks.match_late() == 1
    assert await here.shows(intent) == ("resolved", "declined")
    assert [one.effect for one in (await here.row(intent)).events] == ["declined"]
    assert await here.callbacks.match_late() == 0
    (entry,) = await here.resolved()
    body = await here.court.store.value("SELECT body FROM detail WHERE id::text = $1", entry.id)
    (received,) = await here.court.store.entries("callback.received")
    assert isinstance(body, bytes)
    assert json.loads(body)["evidence"].startswith(received.id)


async def test_a_capture_may_be_reported_before_it_is_answered(here: Inbox) -> None:
    await here.answered(Result.APPROVED)
    capture = await here.begins(kind=Kind.CAPTURE, reference=None)
    await here.gets(Effect.CAPTURE_FAILED, action_reference="ca_1", payment_reference="pi_1")
    await here.answers(capture, Result.PENDING, name="ca_1")
    assert await here.callbacks.match_late() == 1
    assert await here.shows(capture) == ("resolved", "declined")
    assert [one.effect for one in (await here.row(capture)).events] == ["capture_failed"]


async def test_a_change_that_was_answered_already_shows_what_is_matched_later(here: Inbox) -> None:
    paid = await here.answered(Result.APPROVED)
    refund = await here.begins(kind=Kind.REFUND, reference=None)
    await here.gets(Effect.REFUNDED, action_reference="re_1", payment_reference="pi_1")
    assert list((await here.row(refund)).events) == []
    await here.answers(refund, Result.APPROVED, name="re_1")
    assert await here.callbacks.match_late() == 1
    for one in (paid, refund):
        assert [each.effect for each in (await here.row(one)).events] == ["refunded"]


async def test_two_replicas_match_an_event_once(here: Inbox) -> None:
    intent = await here.begins()
    await here.gets(Effect.APPROVED, action_reference="pi_1")
    await here.answers(intent, Result.PENDING)
    async with here.court.store.replica() as second:
        there = inbox_of(here.court, second)
        found = await asyncio.gather(here.callbacks.match_late(), there.callbacks.match_late())
    assert sorted(found) == [0, 1]
    assert len(await here.resolved()) == 1


async def test_what_changes_nothing_is_matched_too(here: Inbox) -> None:
    intent = await here.begins()
    await here.gets(Effect.APPROVED, action_reference="pi_1")
    await here.answers(intent, Result.APPROVED)
    assert await here.callbacks.match_late() == 1
    assert await here.shows(intent) == ("completed", "approved")
    assert len((await here.row(intent)).events) == 1
