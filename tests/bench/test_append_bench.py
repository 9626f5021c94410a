"""The bench of appends: its figures are there, and what it appends is a good log."""

from pathlib import Path

import pytest

from bench.append import appending, committing, syncing
from bench.append_replica import Kind
from tests.databases import Database
from tests.vault.stores import migrated, opened

pytestmark = pytest.mark.embedded


@pytest.mark.parametrize("kind", Kind)
async def test_replicas_append_what_a_gateway_would(database: Database, kind: Kind) -> None:
    async with opened(await migrated(database)) as store, store.replica():
        dsn = database.runtime_dsn
        figures = await appending(dsn, kind, replicas=2, callers=4, seconds=0.3)
        name = f"append.{kind}.4.x2"
        assert set(figures) == {name, *(f"{name}.{what}" for what in ("p50", "p95", "p99", "max"))}
        assert 0 < figures[f"{name}.p50"] <= figures[f"{name}.max"]
        report = await store.report()
        assert report.violations == ()
        assert report.size >= figures[name] * 0.3
        assert (
            await store.value("SELECT count(*) FROM intent_state WHERE state <> 'completed'") == 0
        )


async def test_a_commit_for_each_entry_is_measured_beside(database: Database) -> None:
    figures = await committing(database.owner_dsn, 0.1)
    assert figures["commit.1"] > 0
    assert figures["commit.64.p50"] >= figures["commit.1.p50"] > 0


def test_the_disk_is_measured_beside(tmp_path: Path) -> None:
    figures = syncing(tmp_path, 0.05)
    assert figures["fdatasync"] > 0
    assert list(tmp_path.iterdir()) == []
