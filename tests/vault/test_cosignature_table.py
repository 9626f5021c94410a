"""Cosignatures in PostgreSQL: the latest line of each witness about each checkpoint."""

from datetime import timedelta

import pytest

from tests.gateway.witness.signed_log import SignedLog
from tests.vault.published_logs import publish
from tests.vault.stores import Store
from vault.cosignature_table import CosignatureTable, LastWord
from vault.errors import StoreUnavailable
from vault.published import PublishedLog


async def test_the_latest_line_about_a_checkpoint_is_kept(store: Store) -> None:
    log = SignedLog.of_size(9)
    await publish(store, log, 5, 9)
    table, at = CosignatureTable(store.database), store.clock.at
    assert await table.last_words() == {}
    line = "\u2014 {} AAAAAA==\n"
    await table.keep(5, "w1", line.format("one"), at)
    await table.keep(9, "w1", line.format("two"), at + timedelta(seconds=2))
    await table.keep(9, "w2", line.format("other"), at)
    assert await table.last_words() == {
        "w1": LastWord(9, at + timedelta(seconds=2)),
        "w2": LastWord(9, at),
    }
    await table.keep(9, "w1", line.format("late"), at + timedelta(seconds=3))
    await table.keep(9, "w1", line.format("older"), at + timedelta(seconds=1))
    await table.keep(5, "w2", line.format("smaller"), at + timedelta(seconds=9))
    assert await table.last_words() == {
        "w1": LastWord(9, at + timedelta(seconds=3)),
        "w2": LastWord(9, at + timedelta(seconds=9)),
    }
    rows = await store.rows("SELECT size, witness, line FROM cosignature ORDER BY size, witness")
    assert [(row["size"], row["witness"], row["line"].split()[1]) for row in rows] == [
        (5, "w1", "one"),
        (5, "w2", "smaller"),
        (9, "w1", "late"),
        (9, "w2", "other"),
    ]


async def test_a_line_without_its_checkpoint_is_refused(store: Store) -> None:
    with pytest.raises(StoreUnavailable):
        await CosignatureTable(store.database).keep(5, "w1", "line", store.clock.at)


async def test_what_is_kept_is_served_with_its_checkpoint(store: Store) -> None:
    log = SignedLog.of_size(5)
    await publish(store, log, 5)
    cosigned = "\u2014 witness.example/w1 AAAAAAAB\n"
    await CosignatureTable(store.database).keep(5, "w1", cosigned, store.clock.at)
    note = await PublishedLog(store.database).checkpoint()
    assert note is not None
    assert note.raw.decode() == log.note().raw.decode() + cosigned
