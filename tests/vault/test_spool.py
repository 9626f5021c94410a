"""The spool: outcomes on disk, whole or not at all, until they are in the ledger."""

import os
import resource
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.vault.ledger.samples import new_uuid
from tests.vault.rows import Sender, now
from vault import spool as module
from vault.authorization import Result, State
from vault.errors import StartRefused
from vault.ids import new_uuid7
from vault.intent_table import SealedAnswer, SettleIntent
from vault.ledger.entry import Outcome
from vault.ledger.unit import committed
from vault.spool import RECORD_BYTES_MAX, RESERVED_BYTES, Spool, read_records


def outcome(state: State = State.COMPLETED, **more: object) -> SettleIntent:
    """An outcome with all that one can have."""
    sender = Sender()
    result = Result.APPROVED if state is State.COMPLETED else None
    row = sender.row(single_use=True)
    burned = [row] if result else []
    unit = sender.settles(sender.opens(row), state, result, burned=burned, **more)
    if state is not State.COMPLETED:
        return unit
    entry = unit.lines[0].entry
    assert isinstance(entry, Outcome)
    line = committed(entry, {"processor_reference": "pi_1"}, salt=secrets.token_bytes(32))
    return replace(unit, lines=(line, *unit.lines[1:]))


def of_boot(unit: SettleIntent, boot: UUID) -> SettleIntent:
    """The same, as another boot appends it."""
    return module._of_this_boot(unit, str(boot))


@pytest.fixture
def boot() -> UUID:
    return new_uuid7(now())


@pytest.fixture
def spool(tmp_path: Path, boot: UUID) -> Spool:
    return Spool(tmp_path / "spool", boot)


def after_restart(spool: Spool) -> Spool:
    """Read it as the next boot does, whose id is of a later time."""
    return Spool(spool._folder, new_uuid7(now() + next(_LATER)))


def without_reserve(spool: Spool, monkeypatch: pytest.MonkeyPatch, size: int = 0) -> Spool:
    """The next boot, with so much room taken before."""
    monkeypatch.setattr(module, "RESERVED_BYTES", size)
    spool._reserve.unlink()
    return after_restart(spool)


_LATER = (timedelta(hours=hours) for hours in count(1))


# --- kept and forgotten ---------------------------------------------------------------------


def test_a_new_spool_is_empty_and_private(spool: Spool) -> None:
    assert not spool.holds_any()
    assert spool.waiting() == []
    assert stat.S_IMODE(spool._folder.stat().st_mode) == 0o700
    assert list(spool._folder.iterdir()) == []
    assert stat.S_IMODE(spool._reserve.stat().st_mode) == 0o600


@pytest.mark.guards("F-18", "F-19")
def test_room_is_taken_before_it_is_needed(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there when the disk is full: blocks of the disk, not only a size."""
    for _ in range(2):  # again, for the next time
        room = spool._reserve.stat()
        assert room.st_size == RESERVED_BYTES
        assert room.st_blocks * 512 >= RESERVED_BYTES
        with no_disk(monkeypatch):
            for _ in range(50):
                assert spool.write(outcome())
        (file,) = spool._folder.iterdir()
        assert file.stat().st_ino == room.st_ino
        assert file.stat().st_size == RESERVED_BYTES
        assert len(after_restart(spool).waiting()) == 50
        for unit in spool.waiting():
            spool.done(unit)


def test_more_than_there_is_room_for_is_kept_too(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = [outcome() for _ in range(20)]
    small = without_reserve(spool, monkeypatch, 1000)
    for unit in units:
        assert small.write(unit)
    assert len(after_restart(small).waiting()) == 20


def test_without_a_reserve_it_does_what_it_can(
    tmp_path: Path, boot: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    with no_disk(monkeypatch):
        spool = Spool(tmp_path / "spool", boot)
        assert spool.write(outcome())
    assert len(after_restart(spool).waiting()) == 1


@contextmanager
def no_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let nobody take room."""

    def refuses(*_words: object) -> None:
        raise OSError(28, "ENOSPC")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", refuses)
        yield


@pytest.mark.guards("F-19")
def test_what_is_kept_is_there_after_a_restart(spool: Spool, boot: UUID) -> None:
    units = [
        outcome(status=200, processor_reference="pi_1", authorization_code="A1"),
        outcome(State.NOT_SENT, phase="connect", reason="upstream_unreachable"),
        outcome(State.UNKNOWN, phase="sent", reason="upstream_timeout", status=500),
    ]
    for unit in units:
        assert spool.write(unit)
    expected = [of_boot(unit, boot) for unit in units]
    assert spool.waiting() == expected
    assert after_restart(spool).waiting() == expected
    file = spool._folder / str(boot)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.guards("F-19")
def test_an_outcome_says_whose_act_it_was(spool: Spool, boot: UUID) -> None:
    spool.write(outcome())
    (unit,) = spool.waiting()
    lines = [line.entry for line in unit.lines]
    assert [getattr(entry, "origin_boot", None) for entry in lines] == [str(boot), None]


@pytest.mark.guards("T-38")
def test_a_sealed_answer_is_not_kept(spool: Spool) -> None:
    spool.write(replace(outcome(), answer=SealedAnswer("t_01", "vault:v1:canary", 1)))
    (file,) = spool._folder.iterdir()
    assert b"canary" not in file.read_bytes()
    assert spool.waiting()[0].answer is None


def test_it_is_synced_before_it_is_kept(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fdatasync

    def watched(file: int) -> None:
        synced.append(os.fstat(file).st_size)
        real(file)

    monkeypatch.setattr(os, "fdatasync", watched)
    assert spool.write(outcome())
    (file,) = spool._folder.iterdir()
    assert synced == [file.stat().st_size]


def test_each_is_forgotten_when_it_is_done_and_the_file_with_the_last(spool: Spool) -> None:
    for _ in range(3):
        spool.write(outcome())
    one, two, three = spool.waiting()
    spool.done(two)
    assert spool.waiting() == [one, three]
    spool.done(two)  # a second time is nothing
    spool.done(one)
    assert spool.holds_any()
    assert len(list(spool._folder.iterdir())) == 1
    spool.done(three)
    assert not spool.holds_any()
    assert list(spool._folder.iterdir()) == []


def test_what_comes_after_an_empty_spool_is_kept_too(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = without_reserve(spool, monkeypatch)
    for _ in range(2):
        assert spool.write(outcome())
        with no_room(spool, 50):
            assert not spool.write(outcome())
        assert spool.write(outcome())
        assert len(after_restart(spool).waiting()) == 2
        for unit in spool.waiting():
            spool.done(unit)
        assert not after_restart(spool).holds_any()


def test_what_earlier_boots_left_comes_first(spool: Spool) -> None:
    spool.write(outcome())
    later = after_restart(spool)
    later.write(outcome())
    latest = after_restart(later)
    assert latest.waiting() == [*spool.waiting(), *later.waiting()[1:]]
    for unit in latest.waiting():
        latest.done(unit)
    assert list(spool._folder.iterdir()) == []


def test_a_file_that_cannot_be_deleted_stops_nothing(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(_path: Path, *, missing_ok: bool) -> None:
        raise PermissionError

    spool = without_reserve(spool, monkeypatch)
    spool.write(outcome())
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuses)
        spool.done(*spool.waiting())
    assert not spool.holds_any()
    assert spool.write(outcome())  # behind what is in the ledger already
    with no_room(spool, 10):
        assert not spool.write(outcome())
    assert len(after_restart(spool).waiting()) == 2


def test_folders_in_it_are_none_of_its_business(spool: Spool) -> None:
    (spool._folder / "lost+found").mkdir()
    assert not after_restart(spool).holds_any()


# --- a disk that fails ----------------------------------------------------------------------


@contextmanager
def no_room(spool: Spool, room: int) -> Iterator[None]:
    """Let its file grow by so many bytes and no more: a write is then cut short, really."""
    size = sum(file.stat().st_size for file in spool._folder.iterdir())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.guards("F-19", "F-20")
@pytest.mark.parametrize("room", [0, 1, 30, 36, 200])
@pytest.mark.parametrize("reserved", [0, 20, 300])
def test_what_could_not_be_written_is_kept_in_memory_and_leaves_no_trace(
    spool: Spool, room: int, reserved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the record would begin in the room that was taken before, or behind it."""
    spool = without_reserve(spool, monkeypatch, reserved)
    kept, lost, later = outcome(), outcome(), outcome()
    assert spool.write(kept)
    with no_room(spool, room):
        assert not spool.write(lost)
    assert spool.write(later)
    assert len(spool.waiting()) == 3
    assert after_restart(spool).waiting() == [spool.waiting()[0], spool.waiting()[2]]


@pytest.mark.guards("F-20")
def test_a_sync_that_fails_is_no_success(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_file: int) -> None:
        raise OSError(5, "EIO")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fails)
        assert not spool.write(outcome())
    assert len(spool.waiting()) == 1
    assert after_restart(spool).waiting() == []
    assert not spool.write(outcome())  # what it then says of the disk is not believed
    assert len(spool.waiting()) == 2
    assert after_restart(spool).waiting() == []


@pytest.mark.guards("F-19")
def test_a_folder_that_is_gone(spool: Spool) -> None:
    shutil.rmtree(spool._folder)
    assert not spool.write(outcome())
    assert len(spool.waiting()) == 1
    spool.done(*spool.waiting())
    assert not spool.holds_any()


def test_a_record_that_could_not_be_read_back_is_not_written(spool: Spool) -> None:
    unit = outcome()
    big = replace(unit, burned=("x" * RECORD_BYTES_MAX,))
    assert not spool.write(big)
    assert list(spool._folder.iterdir()) == []


# --- torn and damaged -----------------------------------------------------------------------


def written(spool: Spool, number: int) -> tuple[Path, list[int]]:
    """Keep so many outcomes; give the file, and where each record ends."""
    ends = []
    for _ in range(number):
        assert spool.write(outcome())
        ends.append(spool._size)
    (file,) = spool._folder.iterdir()
    return file, ends


@pytest.mark.guards("F-20", "F-40")
@pytest.mark.parametrize("zeros", [0, 5000])
def test_a_torn_last_record_is_dropped_wherever_it_is_torn(spool: Spool, zeros: int) -> None:
    file, ends = written(spool, 2)
    content, units = file.read_bytes(), spool.waiting()
    for size in range(ends[0], ends[1]):
        file.write_bytes(content[:size] + bytes(zeros))
        assert read_records(file) == units[:1]
    file.write_bytes(content)
    assert read_records(file) == units


@pytest.mark.guards("F-20", "F-40")
def test_a_torn_record_of_which_later_pages_came_first_is_dropped(spool: Spool) -> None:
    file, ends = written(spool, 2)
    content, units = file.read_bytes(), spool.waiting()
    for size in range(ends[0] + 4, ends[1]):
        file.write_bytes(content[: ends[0]] + bytes(size - ends[0]) + content[size:])
        assert read_records(file) == units[:1]


@pytest.mark.guards("F-20", "F-40")
@pytest.mark.parametrize("zeros", [1, 36, 4096])
def test_a_tail_whose_bytes_never_reached_the_disk_is_dropped(spool: Spool, zeros: int) -> None:
    file, _ = written(spool, 1)
    file.write_bytes(file.read_bytes() + bytes(zeros))
    assert read_records(file) == spool.waiting()


def test_a_last_record_whose_bytes_are_wrong_is_dropped(spool: Spool) -> None:
    file, ends = written(spool, 2)
    content = bytearray(file.read_bytes())
    content[ends[1] - 1] ^= 1
    file.write_bytes(content)
    assert read_records(file) == spool.waiting()[:1]


@pytest.mark.guards("F-20")
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_no_damage_before_the_end_passes_for_health(
    tmp_path: Path, where: float, flipped: int
) -> None:
    spool = Spool(tmp_path / new_uuid(), UUID(new_uuid()))
    file, ends = written(spool, 3)
    content = bytearray(file.read_bytes())
    content[int(where * ends[1])] ^= flipped
    file.write_bytes(content)
    with pytest.raises(StartRefused):
        read_records(file)


@pytest.mark.guards("F-20")
def test_a_length_that_no_record_has_is_damage(spool: Spool) -> None:
    file, _ = written(spool, 2)
    content = bytearray(file.read_bytes())
    content[0] = 0x7F
    file.write_bytes(content)
    with pytest.raises(StartRefused, match=f"{file} is damaged in the middle"):
        after_restart(spool)


@pytest.mark.guards("F-40")
@pytest.mark.parametrize("content", [b"", b"\0", b"\0\0\1\0" + bytes(range(40))])
def test_a_boot_that_died_at_its_first_record_left_nothing(spool: Spool, content: bytes) -> None:
    """Otherwise disclosures would stay stopped for outcomes that nobody can drain."""
    file = spool._folder / new_uuid()
    file.write_bytes(content)
    later = after_restart(spool)
    assert not later.holds_any()
    assert not file.exists()
