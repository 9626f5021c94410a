"""The reserve: what is new is refused while there is room left, what ends something never is."""

import asyncio
import os
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.vault.rows import Sender, create, new_row, new_tenant, statement
from tests.vault.stores import Replica, Store
from vault import disk_reserve
from vault.authorization import State
from vault.disk_reserve import DiskReserve, Reserve, free_bytes
from vault.errors import LedgerUnavailable, StoreFull

pytestmark = pytest.mark.embedded

FILLER_BYTES = 16 << 20


@pytest.fixture
async def replica(shared_store: Store) -> AsyncIterator[Replica]:
    async with shared_store.replica() as made:
        yield made


@pytest.fixture
def volume() -> Iterator[Path]:
    """A folder on a disk that nobody else fills meanwhile."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="reserve-") as folder:
        yield Path(folder)


def fill(file: Path) -> None:
    with file.open("wb") as content:
        os.posix_fallocate(content.fileno(), 0, FILLER_BYTES)


@pytest.mark.guards("F-18")
async def test_below_the_reserve_nothing_new_begins_and_everything_ends(
    replica: Replica, volume: Path
) -> None:
    sender = Sender(replica=replica.name, boot=replica.boot)
    row = new_row(sender.tenant)
    under_way = sender.opens(row)
    await replica.ledger.append(create(row))
    await replica.ledger.append(under_way)
    enough = free_bytes(volume) - FILLER_BYTES // 2
    reserve = DiskReserve(replica.ledger, [Reserve(volume, enough)])
    await reserve.look()
    await replica.ledger.append(sender.opens(row))
    filler = volume / "filler"
    fill(filler)

    await reserve.look()

    assert list(reserve.short) == [volume]
    for refused in (sender.opens(row), sender.opens(), create(new_row(new_tenant()))):
        with pytest.raises(StoreFull):
            await replica.ledger.append(refused)
    await replica.ledger.append(sender.settles(under_way, State.UNKNOWN))
    await replica.ledger.append(statement())
    assert replica.ledger.sealed_because is None

    filler.unlink()
    await reserve.look()
    assert not reserve.short
    await replica.ledger.append(sender.opens(row))


@pytest.mark.guards("F-18")
async def test_what_waits_for_the_lock_when_the_room_ends_is_refused_too(
    shared_store: Store, replica: Replica
) -> None:
    reserve = DiskReserve(replica.ledger, [Reserve(Path("/"), 1 << 62)])
    async with shared_store.head_locked():
        waiting = asyncio.create_task(replica.ledger.append(Sender().opens(), seconds=10))
        other = asyncio.create_task(replica.ledger.append(statement(), seconds=10))
        await shared_store.until_blocked()
        await reserve.look()
    with pytest.raises(StoreFull):
        await waiting
    await other


async def test_each_volume_counts(replica: Replica, volume: Path) -> None:
    reserve = DiskReserve(replica.ledger, [Reserve(volume, 1), Reserve(volume, 1 << 62)])
    await reserve.look()
    with pytest.raises(StoreFull):
        await replica.ledger.append(Sender().opens())


async def test_a_volume_that_is_gone_counts_as_full(replica: Replica, tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "gone") == 0
    reserve = DiskReserve(replica.ledger, [Reserve(tmp_path / "gone", 1)])
    await reserve.look()
    with pytest.raises(StoreFull):
        await replica.ledger.append(Sender().opens())
    (tmp_path / "gone").mkdir()
    await reserve.look()
    await replica.ledger.append(Sender().opens())


async def test_a_volume_that_hangs_counts_as_full_and_holds_nobody(
    replica: Replica, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, asked, real = threading.Event(), [0], os.statvfs

    def hangs(path: Path) -> os.statvfs_result:
        asked[0] += 1
        answers.wait(30)
        return real(path)

    monkeypatch.setattr(disk_reserve, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(os, "statvfs", hangs)
    reserve = DiskReserve(replica.ledger, [Reserve(tmp_path, 1)])
    for _ in range(3):
        await reserve.look()
    assert list(reserve.short) == [tmp_path]
    assert asked == [1]
    with pytest.raises(StoreFull):
        await replica.ledger.append(Sender().opens())
    answers.set()
    monkeypatch.setattr(disk_reserve, "LOOK_SECONDS", 5)
    await reserve.look()
    assert not reserve.short
    await replica.ledger.append(Sender().opens())


async def test_one_reason_to_refuse_does_not_lift_another(replica: Replica) -> None:
    replica.ledger.refuse_intents("another", LedgerUnavailable)
    await DiskReserve(replica.ledger, []).look()
    with pytest.raises(LedgerUnavailable):
        await replica.ledger.append(Sender().opens())
    replica.ledger.refuse_intents("another", None)
    await replica.ledger.append(Sender().opens())
