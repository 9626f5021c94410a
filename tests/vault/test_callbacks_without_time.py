"""Events that do not say when they came about: no late one undoes what came of a payment."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.vault.fake_node import FakeCluster, fake_cluster
from tests.vault.inboxes import Inbox, opened_inbox
from tests.vault.stores import Store
from vault.callback_table import CallbackFilter
from vault.callbacks import Received
from vault.payment_events import Effect

pytestmark = [pytest.mark.embedded, pytest.mark.guards("F-23")]

EVERY = CallbackFilter()
SECOND = timedelta(seconds=1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as made:
        yield made


@pytest.fixture
async def here(store: Store, cluster: FakeCluster, tmp_path: Path) -> AsyncIterator[Inbox]:
    async with opened_inbox(store, cluster, tmp_path / "spool") as made:
        yield made


async def gets(here: Inbox, effect: Effect) -> None:
    said = here.event(effect, event_at=None, action_reference="o-1")
    assert await here.callbacks.receive(said) is Received.NEW
    (row, *_) = await here.table.list(here.court.tenant, EVERY, limit=1, after=None)
    assert not row.has_own_time


@pytest.mark.parametrize(
    "effects", [(Effect.APPROVED, Effect.DECLINED), (Effect.DECLINED, Effect.APPROVED)]
)
async def test_a_refusal_of_an_earlier_try_undoes_no_approval(
    here: Inbox, effects: tuple[Effect, ...]
) -> None:
    intent = await here.answered(name="o-1")
    for effect in effects:
        await gets(here, effect)
        here.court.store.clock.at += SECOND
    assert await here.shows(intent) == ("resolved", "approved")
