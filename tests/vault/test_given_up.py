"""What was given up, or contradicted, is not told as an answer, and never frees its key."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.vault.doubtful import RULES, Court, court
from tests.vault.fake_node import FakeCluster, fake_cluster
from tests.vault.stores import Store
from tests.vault.test_reconciler import APPROVED
from vault.authorization import Claimed, Finding, Result, State, Stored
from vault.authorizations import Answer, Ending
from vault.claim_table import ClaimTable
from vault.doubts import Resolved
from vault.intent_table import AlreadyRecorded, TransitionRefused
from vault.reconciler import Look
from vault.resolutions import RECONCILER, Evidence, Scribe, contradiction

pytestmark = [pytest.mark.embedded, pytest.mark.guards("F-23", "F-40")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as made:
        yield made


@pytest.fixture
async def here(store: Store, cluster: FakeCluster, tmp_path: Path) -> AsyncIterator[Court]:
    async with court(store, cluster, tmp_path / "spool") as made:
        yield made
        assert (await store.report()).violations == ()


async def test_the_key_of_what_was_given_up_outlives_its_answers(here: Court) -> None:
    """Nobody knows to this day whether it charged: under its key it is never sent again."""
    call = await here.call(b"key")
    await here.in_doubt(key=b"key")
    here.oracle.says = Look("not_found")
    assert await here.turn(days=7, seconds=1) == ["given_up"]
    claims = ClaimTable(here.store.database)
    try:
        await claims.sweep(here.store.clock())
    finally:
        await claims.close()
    claim, _ = await here.record.claim(call, RULES)
    assert not isinstance(claim, Claimed)


async def test_an_answer_that_was_contradicted_is_not_told_again(here: Court) -> None:
    """On record it is approved now: a repeat must not hear that it was declined."""
    call = await here.call(b"key")
    intent = await here.attempts(call)
    declined = Answer(402, (), b'{"error":{"code":"card_declined"}}')
    await here.record.settle(intent, Ending(State.COMPLETED, Result.DECLINED, status=402), declined)
    manual = Evidence(
        "manual",
        Finding.ANSWERED,
        Result.APPROVED,
        processor_reference="pi_1",
        words="it was approved",
    )
    assert await here.doubts.contradict(here.tenant, intent.id, manual) is Resolved.DONE
    claim, _ = await here.record.claim(call, RULES)
    assert isinstance(claim, Stored)
    answer = await here.record.stored_answer(here.tenant, claim.intent)
    assert answer is None or answer.status < 400


async def test_of_two_contradictions_at_once_one_counts(here: Court) -> None:
    intent = await here.attempts(await here.call(b"key"))
    by = Scribe(RECONCILER, None, here.store.clock)
    await here.record.settle(intent, Ending(State.COMPLETED, Result.DECLINED, status=402), None)
    ended = await here.table.ended(here.tenant, intent.first)
    assert ended is not None
    units = [contradiction(here.tenant, intent.first, ended, APPROVED, by) for _ in range(2)]
    told = await asyncio.gather(
        *(here.replica.ledger.append(unit) for unit in units), return_exceptions=True
    )
    assert sum(isinstance(one, TransitionRefused) for one in told) == 1
    (won,) = (unit for unit, one in zip(units, told, strict=True) if not isinstance(one, Exception))
    with pytest.raises(AlreadyRecorded):
        await here.replica.ledger.append(won)
