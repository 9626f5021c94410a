"""Seals and starts beside the publisher: nothing is lifted unsaid, no watch ends."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest

from tests.vault.ledger.samples import ORIGIN
from tests.vault.publishing import CONSOLE, Stand, standing
from tests.vault.stores import Replica, Store
from vault.db import Connection
from vault.errors import LedgerUnavailable, StoreUnavailable
from vault.freshness import Freshness, Limits
from vault.ledger.entry import LogUnsealed
from vault.seals import Seals, lift
from vault.signed_history import check_history

pytestmark = pytest.mark.embedded

MINUTE = timedelta(minutes=1)


@pytest.fixture
async def stand(store: Store, tmp_path: Path) -> AsyncIterator[Stand]:
    async with standing(store, tmp_path) as made:
        yield made


async def away(_work: object) -> NoReturn:
    """Answer as a database that cannot be reached."""
    raise StoreUnavailable


# --- seals ----------------------------------------------------------------------------------


@pytest.mark.guards("T-75")
async def test_a_row_deleted_without_a_word_on_record_lifts_nothing(stand: Stand) -> None:
    seals, ledger = stand.own_seals(), stand.replica.ledger
    await seals.seal("corrupt")
    await stand.intrude("DELETE FROM seal")
    await seals.watch()
    assert ledger.sealed_because == "corrupt"
    assert await stand.seals() == ["corrupt"], "the others are told again"
    await stand.lift()
    await seals.watch()
    assert ledger.sealed_because is None


@pytest.mark.guards("T-75")
async def test_an_earlier_word_lifts_no_later_seal(stand: Stand) -> None:
    seals, ledger = stand.own_seals(), stand.replica.ledger
    await seals.seal("corrupt")
    await stand.lift()
    await seals.watch()
    assert ledger.sealed_because is None
    await seals.seal("corrupt")
    await stand.intrude("DELETE FROM seal")
    await seals.watch()
    assert ledger.sealed_because == "corrupt"


@pytest.mark.guards("T-75")
async def test_a_word_about_one_cause_lifts_no_other(stand: Stand) -> None:
    seals, ledger = stand.own_seals(), stand.replica.ledger
    await seals.seal("corrupt")
    await seals.seal("fork")
    await stand.intrude("DELETE FROM seal WHERE cause = 'fork'")
    assert await stand.lift() == ["corrupt"]
    await seals.watch()
    assert ledger.seal_causes == {"fork"}


async def test_a_seal_set_while_others_are_read_stays(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    seals, database = stand.own_seals(), stand.store.database
    read = database.read

    async def read_meanwhile(work: Callable[[Connection], Awaitable[object]]) -> object:
        rows = await read(work)
        monkeypatch.undo()
        await seals.seal("fork")  # by the publisher's duty
        return rows

    monkeypatch.setattr(database, "read", read_meanwhile)
    await seals.watch()
    assert stand.replica.ledger.sealed_because == "fork"
    await seals.watch()
    assert stand.replica.ledger.sealed_because == "fork"
    assert await stand.seals() == ["fork"]


async def test_a_seal_whose_row_cannot_be_written_is_written_later(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    seals = stand.own_seals()
    with monkeypatch.context() as while_away:
        while_away.setattr(stand.store.database, "transact", away)
        await seals.seal("corrupt")
    assert stand.replica.ledger.sealed_because == "corrupt", "at once, here"
    assert await stand.seals() == []
    await seals.watch()
    assert stand.replica.ledger.sealed_because == "corrupt"
    assert await stand.seals() == ["corrupt"]


async def test_a_cause_that_nobody_knows_can_be_lifted(stand: Stand) -> None:
    await stand.intrude("INSERT INTO seal (cause, at) VALUES ('whatever', now())")
    assert await stand.lift() == ["whatever"]
    assert await stand.seals() == []


async def test_what_cannot_be_put_on_record_is_not_lifted(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stand.own_seals().seal("corrupt")

    async def refuse(_unit: object) -> NoReturn:
        raise LedgerUnavailable

    monkeypatch.setattr(stand.replica.ledger, "append", refuse)
    with pytest.raises(LedgerUnavailable):
        await stand.lift()
    assert await stand.seals() == ["corrupt"]


async def test_what_has_no_row_is_lifted_on_record_too(stand: Stand) -> None:
    """For a cause that only refused a start: no gateway ran that could have set the row."""
    lifted = await lift(
        stand.store.database, stand.replica.ledger, CONSOLE, statement="an older copy, known",
        now=stand.store.clock, also=("rollback",),
    )  # fmt: skip
    assert lifted == ["rollback"]
    (entry,) = await stand.store.entries("ledger.unsealed")
    assert isinstance(entry, LogUnsealed)
    assert (entry.cause, entry.actor) == ("rollback", CONSOLE)


# --- lateness -------------------------------------------------------------------------------


class Watch:
    def ledger_published(self, size: int, at: datetime) -> None:
        pass

    def ledger_witnessed(self, at: datetime) -> None:
        pass


def freshness_of(stand: Stand, replica: Replica) -> Freshness:
    """Watch a log whose one witness must have cosigned in the last quarter of an hour."""
    return Freshness(
        stand.store.database,
        Seals(stand.store.database, replica.ledger, now=stand.store.clock),
        Limits(MINUTE, 15 * MINUTE, 1, frozenset({"w"}), seals=True),
        now=stand.store.clock,
        observer=Watch(),
        changed=lambda late: None,
    )


@pytest.mark.guards("F-52")
async def test_a_gateway_that_just_came_does_not_lift_anothers_seal(stand: Stand) -> None:
    old = freshness_of(stand, stand.replica)
    stand.store.clock.advance(minutes=16)  # in which no witness spoke
    async with stand.store.replica() as other:
        young = freshness_of(stand, other)
        await old.check()
        assert await stand.seals() == ["stale"]
        await Seals(stand.store.database, other.ledger, now=stand.store.clock).watch()
        await young.check()
        assert await stand.seals() == ["stale"]


@pytest.mark.guards("F-52")
@pytest.mark.parametrize("gone", ["read", "transact"])
async def test_a_database_that_is_away_ends_no_watch(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    freshness = freshness_of(stand, stand.replica)
    stand.store.clock.advance(minutes=16)
    with monkeypatch.context() as while_away:
        while_away.setattr(stand.store.database, gone, away)
        await freshness.check()
    assert await stand.seals() == []
    await freshness.check()
    assert await stand.seals() == ["stale"]


# --- starts ---------------------------------------------------------------------------------


async def test_a_start_beside_the_first_publication_is_not_refused(
    stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second gateway that looked at the memory before, and at the checkpoints after."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    memory = stand.memory(elsewhere)
    recall = memory.recall
    async with stand.publishing() as first:

        async def recall_just_before() -> object:
            found = await recall()
            monkeypatch.undo()
            await first.publish()
            return found

        monkeypatch.setattr(memory, "recall", recall_just_before)
        await check_history(stand.store.database, memory, stand.service, origin=ORIGIN)
    assert await stand.latest() is not None
