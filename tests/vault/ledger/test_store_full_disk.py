"""PostgreSQL on a disk that is really full, and then is not any more."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from tests.embedded_process import EmbeddedProcess
from tests.vault.ledger.test_store import stays_well
from tests.vault.rows import Sender, create, new_row, new_tenant
from tests.vault.stores import Store, opened, shared_database
from vault.authorization import State
from vault.embedded.layout import Layout
from vault.errors import StoreFull
from vault.ledger.store import Ledger
from vault.ledger.unit import Unit

pytestmark = [pytest.mark.embedded, pytest.mark.long]

VOLUME_BYTES = 256 << 20

# In a mount namespace of its own, which ends with it: the data folder becomes a small disk.
_ON_A_SMALL_DISK = """
set -e
mv "$0" "$0.kept"
mkdir -m 700 "$0"
mount -t tmpfs -o size=$1,mode=700 tmpfs "$0"
cp -a "$0.kept/." "$0/"
shift
exec "$@"
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[EmbeddedProcess]:
    process = EmbeddedProcess.started(tmp_path)
    process.do("allow createdb")
    process.close()
    data = Layout(tmp_path).postgres_data
    own = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    words = ("unshare", *own, "--mount", "sh", "-c", _ON_A_SMALL_DISK)
    process = EmbeddedProcess.started(tmp_path, prefix=(*words, str(data), str(VOLUME_BYTES)))
    yield process
    process.close()


@pytest.mark.guards("F-18")
async def test_a_full_disk_refuses_what_is_new_and_is_over_when_there_is_room(
    small_disk: EmbeddedProcess,
) -> None:
    async with (
        opened(await shared_database(small_disk.parts)) as store,
        store.replica() as replica,
    ):
        ledger, sender = replica.ledger, Sender(replica=replica.name, boot=replica.boot)
        under_way = [sender.opens() for _ in range(3)]
        for unit in under_way:
            await ledger.append(unit)
        await fill(store)
        made = 0
        async with asyncio.timeout(60):  # there is room for some in pages that there are
            while await tried(ledger, create(new_row(new_tenant()))) is None:
                made += 1
        with pytest.raises(StoreFull):
            await ledger.append(sender.opens())
        assert ledger.sealed_because is None

        await store.do("DROP TABLE filler")

        async with asyncio.timeout(10):
            while await tried(ledger, sender.opens()):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
        for unit in under_way:
            await ledger.append(sender.settles(unit, State.UNKNOWN))
        assert await store.count("token") == made
        await stays_well(store, replica)


async def tried(ledger: Ledger, unit: Unit) -> StoreFull | None:
    try:
        await ledger.append(unit, seconds=10)
    except StoreFull as full:
        return full
    return None


async def fill(store: Store) -> None:
    """To the last page, and past the write-ahead log."""
    await store.do(
        "CREATE UNLOGGED TABLE filler (x text) WITH (autovacuum_enabled = false);"
        "ALTER TABLE filler ALTER COLUMN x SET STORAGE PLAIN"
    )
    for rows in (1000, 100, 10, 1, 1):
        with suppress(asyncpg.DiskFullError):
            while True:
                await store.do(
                    "INSERT INTO filler SELECT repeat('x', 7000) FROM generate_series(1, $1)", rows
                )
