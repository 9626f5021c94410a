"""An export: the same files however often and at whatever sizes, or a refusal that says why."""

import asyncio
import os
import stat
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vault.exported_files import expected_paths, files_in, verified_size, without_partials
from tests.vault.ledger import golden
from tests.vault.memory_log import MemoryLog, bodies, memory_log
from vault.export import ExportConflict, ExportRefused, copy_checkpoint, export
from vault.ledger.checkpoint import Checkpoint
from vault.ledger.note import Note, Signature, parse_note
from vault.ledger.tiles import TileName
from vault.ledger.tree import leaf_hash
from vault.proven_log import LogBroken, Pair

SIZE = 600


# --- the files ----------------------------------------------------------------------------


async def test_the_golden_log_is_written_byte_for_byte(tmp_path: Path) -> None:
    exported = await export(memory_log(3), tmp_path)
    assert (exported.size, exported.root, exported.files_written) == (3, golden.ROOT_3, 4)
    assert files_in(tmp_path) == {
        "checkpoint": golden.NOTE_3,
        "checkpoints/3": golden.NOTE_3,
        golden.BUNDLE_PATH: golden.BUNDLE,
        golden.TILE_PATH: b"".join(golden.LEAVES),
    }


@given(st.lists(st.integers(0, 1200), min_size=1, max_size=6).map(sorted))
@settings(max_examples=40, deadline=None)
def test_growing_exports_leave_what_one_export_leaves(sizes: list[int]) -> None:
    log = MemoryLog(bodies(sizes[-1]))
    with TemporaryDirectory() as name:
        grown, at_once = Path(name) / "grown", Path(name) / "at once"
        for size in sizes:
            log.sign(size)
            assert asyncio.run(export(log, grown)).size == size
        asyncio.run(export(log, at_once))
        files = files_in(at_once)
        assert verified_size(at_once) == sizes[-1]
        assert files.keys() == expected_paths(sizes[-1])
        assert without_partials(files_in(grown), of=sizes[-1]) == files
        for size in sizes:  # what a checkpoint needed stays, though wider ones came
            assert expected_paths(size) <= files_in(grown).keys()


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 512, 65_535, 65_536, 65_537, 70_000])
async def test_sizes_where_tiles_fill(tmp_path: Path, size: int) -> None:
    await export(memory_log(size), tmp_path)
    assert verified_size(tmp_path) == size
    assert files_in(tmp_path).keys() == expected_paths(size)


async def test_a_repeat_reads_the_edge_and_writes_nothing(tmp_path: Path) -> None:
    log = memory_log(70_000)
    await export(log, tmp_path)
    before = files_in(tmp_path)
    log.reads = 0
    assert (await export(log, tmp_path)).files_written == 0
    assert log.reads == 3  # one partial tile a level
    assert files_in(tmp_path) == before


async def test_only_what_is_new_is_read(tmp_path: Path) -> None:
    log = MemoryLog(bodies(70_000))
    log.sign(69_990)
    await export(log, tmp_path)
    log.sign()
    log.reads = 0
    exported = await export(log, tmp_path)
    assert log.reads == 4
    assert exported.files_written == 4  # a bundle, its leaves, and two names of the checkpoint


async def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    peaks = []
    for size in (5_000, 40_000):
        log = memory_log(size)
        tracemalloc.start()
        await export(log, tmp_path / str(size))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.5


async def test_progress_ends_with_all_files(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    await export(memory_log(1_000), tmp_path, progress=lambda done, of: seen.append((done, of)))
    assert [done for done, _ in seen] == [2, 4, 6, 8, 9]
    assert {of for _, of in seen} == {9}


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    yield
    os.umask(before)


async def test_auditors_may_read_whatever_the_umask(tmp_path: Path) -> None:
    with umask(0o077):
        await export(memory_log(SIZE), tmp_path / "deep" / "log")
        (tmp_path / "copies").mkdir()
        copy_checkpoint(tmp_path / "copies", memory_log(3).sign())
    for path in (tmp_path / "deep" / "log").rglob("*"):
        if path.name != ".lock":
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == (0o755 if path.is_dir() else 0o644), path
    assert stat.S_IMODE((tmp_path / "copies/checkpoints/3").stat().st_mode) == 0o644


async def test_without_a_checkpoint_there_is_nothing_to_export(tmp_path: Path) -> None:
    with pytest.raises(ExportRefused, match="no checkpoint"):
        await export(MemoryLog(bodies(3)), tmp_path)
    assert files_in(tmp_path) == {}


# --- what is there already ----------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["tile/entries/001", "tile/0/000", "tile/1/000.p/2", f"checkpoints/{SIZE}"]
)
@pytest.mark.parametrize("content", [b"", b"other"])
async def test_a_file_is_never_changed(tmp_path: Path, name: str, content: bytes) -> None:
    log = memory_log(SIZE)
    await export(log, tmp_path)
    (tmp_path / "checkpoint").unlink()  # as if it had been cut off just before its end
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ExportConflict, match="other content") as conflict:
        await export(log, tmp_path)
    assert conflict.value.file == tmp_path / name
    assert (tmp_path / name).read_bytes() == content
    assert not (tmp_path / "checkpoint").exists()


async def test_a_lost_file_is_written_again_by_a_whole_export(tmp_path: Path) -> None:
    log = memory_log(SIZE)
    await export(log, tmp_path)
    (tmp_path / "checkpoint").unlink()
    (tmp_path / "tile/0/001").unlink()
    assert (await export(log, tmp_path)).files_written == 2
    assert verified_size(tmp_path) == SIZE


async def test_later_cosignatures_reach_only_the_file_that_is_replaced(tmp_path: Path) -> None:
    log = memory_log(3)
    await export(log, tmp_path)
    word = parse_note(b"x\n\n" + golden.COSIGNATURE_3.encode()).signatures
    cosigned = log.checkpoints[3].with_signatures(word)
    log.checkpoints[3] = cosigned
    assert (await export(log, tmp_path)).files_written == 1
    assert (tmp_path / "checkpoint").read_bytes() == cosigned.raw
    assert (tmp_path / "checkpoints/3").read_bytes() == golden.NOTE_3


@pytest.mark.guards("T-44")
@pytest.mark.parametrize(
    ("seen", "now"),
    [
        (memory_log(SIZE), MemoryLog([b'{"x":0}', *bodies(SIZE - 1, 1)])),
        (memory_log(SIZE), MemoryLog([*bodies(SIZE - 1), b'{"x":0}', *bodies(9)])),
        (memory_log(SIZE), MemoryLog(bodies(SIZE - 1))),
        (memory_log(SIZE), MemoryLog()),
        (memory_log(SIZE), MemoryLog(bodies(SIZE), "ledger.example/gateway-2")),
    ],
    ids=["other root", "other history", "rolled back", "emptied", "other log"],
)
@pytest.mark.parametrize("cut_off", [False, True])
async def test_a_log_that_does_not_extend_the_folder_is_refused(
    tmp_path: Path, seen: MemoryLog, now: MemoryLog, *, cut_off: bool
) -> None:
    await export(seen, tmp_path)
    if cut_off:
        (tmp_path / "checkpoint").unlink()  # the one that is kept is as good an anchor
    before = files_in(tmp_path)
    now.sign()
    with pytest.raises(LogBroken, match=r"extend|entries, and 600 were|another log"):
        await export(now, tmp_path)
    assert files_in(tmp_path) == before


async def test_a_checkpoint_that_is_none_is_not_built_upon(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_bytes(b"")
    with pytest.raises(ExportRefused, match="is not the checkpoint"):
        await export(memory_log(3), tmp_path)


async def test_only_one_exports_into_a_folder(tmp_path: Path) -> None:
    class Waiting(MemoryLog):
        async def checkpoint(self, size: int | None = None) -> Note | None:
            started.set()
            await asyncio.Event().wait()
            return None

    started = asyncio.Event()
    first = asyncio.create_task(export(Waiting(), tmp_path))
    await started.wait()
    with pytest.raises(ExportRefused, match="by another process"):
        await export(memory_log(3), tmp_path)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await export(memory_log(3), tmp_path)  # the lock went with its holder


async def test_a_folder_that_is_none_is_refused_in_our_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ExportRefused, match=r"Not a directory|File exists"):
        await export(memory_log(3), tmp_path / "file")


# --- what the log gives -------------------------------------------------------------------


def edited_entry(log: MemoryLog) -> None:
    log.bodies[300] = b'{"x":1}'


def edited_entry_and_leaf(log: MemoryLog) -> None:
    log.bodies[300] = b'{"x":1}'
    log.leaves = MemoryLog(log.bodies).leaves


def edited_entry_at_the_edge(log: MemoryLog) -> None:
    edited = MemoryLog([*log.bodies[:-1], b'{"x":1}'])
    log.bodies, log.leaves = edited.bodies, edited.leaves


def swapped_entries(log: MemoryLog) -> None:
    for rows in (log.bodies, log.leaves):
        rows[10], rows[11] = rows[11], rows[10]


def deleted_entry(log: MemoryLog) -> None:
    del log.bodies[300], log.leaves[300]


def lost_tail(log: MemoryLog) -> None:
    del log.bodies[-1], log.leaves[-1]


def false_root(log: MemoryLog) -> None:
    text = Checkpoint(log.origin, log.size, bytes(32)).text
    log.checkpoints[log.size] = Note(text, log.checkpoints[log.size].signatures)


@pytest.mark.guards("T-44")
@pytest.mark.parametrize(
    "edit",
    [
        edited_entry,
        edited_entry_and_leaf,
        edited_entry_at_the_edge,
        swapped_entries,
        deleted_entry,
        lost_tail,
        false_root,
    ],
)
@pytest.mark.parametrize("size", [SIZE, 66_000])
async def test_nothing_is_written_that_the_root_does_not_prove(
    tmp_path: Path, edit: Callable[[MemoryLog], None], size: int
) -> None:
    log = memory_log(size)
    await export(memory_log(size), tmp_path / "true")
    edit(log)
    with pytest.raises(LogBroken):
        await export(log, tmp_path / "edited")
    true = files_in(tmp_path / "true")
    assert files_in(tmp_path / "edited").items() <= true.items()
    assert "checkpoint" not in files_in(tmp_path / "edited")


@pytest.mark.guards("T-44")
@pytest.mark.parametrize("start", [b"", bytes(32)], ids=["too short", "edited"])
@pytest.mark.parametrize("path", ["tile/1/000", "tile/1/001.p/1", "tile/2/000.p/1"])
async def test_a_tile_that_is_not_what_it_must_be(tmp_path: Path, path: str, start: bytes) -> None:
    class Edited(MemoryLog):
        async def tile(self, name: TileName) -> bytes | None:
            raw = await super().tile(name)
            return start + (raw or b"")[32:] if name.path == path else raw

    log = Edited(bodies(66_000))
    log.sign()
    with pytest.raises(LogBroken, match=rf"{path} is|fold"):
        await export(log, tmp_path)


def other_body(pairs: list[Pair], at: int) -> None:
    pairs[at] = (b'{"x":1}', leaf_hash(b'{"x":1}'))


def other_leaf(pairs: list[Pair], at: int) -> None:
    pairs[at] = (pairs[at][0], bytes(32))


def no_pair(pairs: list[Pair], at: int) -> None:
    del pairs[at]


@pytest.mark.guards("T-44")
@pytest.mark.parametrize(
    ("edit", "at", "why"),
    [
        (other_body, 300, "tile/entries/001 is not under the root"),
        (other_body, SIZE - 1, "tile/entries/002.p/88 is not under the root"),
        (other_leaf, 300, "entry 300 does not hash"),
        (other_leaf, SIZE - 1, "entry 599 does not hash"),
        (no_pair, 300, "tile/entries/001 is not under the root"),
        (no_pair, SIZE - 1, "entries are missing at the end"),
    ],
)
async def test_entries_are_proven_by_tiles_that_are_right(
    tmp_path: Path, edit: Callable[[list[Pair], int], None], at: int, why: str
) -> None:
    class Edited(MemoryLog):
        async def bundles(self, first: int, last: int) -> AsyncIterator[Sequence[Pair]]:
            pairs = list(zip(self.bodies, self.leaves, strict=True))
            edit(pairs, at)
            yield pairs[first:last]

    log = Edited(bodies(SIZE))
    log.sign()
    with pytest.raises(LogBroken, match=why):
        await export(log, tmp_path)
    assert "checkpoint" not in files_in(tmp_path)


async def test_entries_in_any_pages(tmp_path: Path) -> None:
    class Pages(MemoryLog):
        async def bundles(self, first: int, last: int) -> AsyncIterator[Sequence[Pair]]:
            async for page in super().bundles(first, last):
                for at in range(0, len(page), 100):
                    yield page[at : at + 100]

    log = Pages(bodies(2_000))
    log.sign()
    await export(log, tmp_path)
    assert verified_size(tmp_path) == 2_000


# --- copies of checkpoints ----------------------------------------------------------------


def test_a_copy_is_written_once(tmp_path: Path) -> None:
    log = MemoryLog(bodies(9))
    notes = [log.sign(size) for size in (3, 5, 9)]
    for note in notes:
        assert copy_checkpoint(tmp_path, note)
        assert not copy_checkpoint(tmp_path, note)
    assert files_in(tmp_path) == {
        f"checkpoints/{size}": note.raw for size, note in zip((3, 5, 9), notes, strict=True)
    }


def test_a_copy_is_never_changed(tmp_path: Path) -> None:
    copy_checkpoint(tmp_path, memory_log(3).sign())
    other = MemoryLog([b"{}"] * 3).sign()
    with pytest.raises(ExportConflict, match="checkpoints/3"):
        copy_checkpoint(tmp_path, other)
    assert (tmp_path / "checkpoints/3").read_bytes() == golden.NOTE_3
    later = parse_note(golden.NOTE_3).with_signatures([Signature("other", b"\0" * 4, b"x")])
    assert not copy_checkpoint(tmp_path, later)
    assert (tmp_path / "checkpoints/3").read_bytes() == golden.NOTE_3


def test_a_torn_copy_is_completed_wherever_it_was_cut(tmp_path: Path) -> None:
    note = parse_note(golden.NOTE_3)
    copy_checkpoint(tmp_path, note)
    copy = tmp_path / "checkpoints/3"
    for cut in range(len(note.raw)):
        copy.write_bytes(note.raw[:cut])
        assert copy_checkpoint(tmp_path, note), cut
        assert copy.read_bytes() == note.raw


def test_an_empty_mount_point_is_not_filled(tmp_path: Path) -> None:
    with pytest.raises(ExportRefused, match="No such file"):
        copy_checkpoint(tmp_path / "mount", memory_log(3).sign())
    assert not (tmp_path / "mount").exists()


async def test_a_folder_that_others_copy_into_can_be_exported_to(tmp_path: Path) -> None:
    log = MemoryLog(bodies(SIZE))
    for size in (200, 400):
        copy_checkpoint(tmp_path, log.sign(size))
    (tmp_path / "checkpoints/500").write_bytes(b"")  # cut off, or being written
    log.sign()
    await export(log, tmp_path)
    assert verified_size(tmp_path) == SIZE
    fork = MemoryLog([b"{}", *bodies(SIZE)])
    fork.sign()
    (tmp_path / "checkpoint").unlink()
    with pytest.raises(LogBroken, match="600"):
        await export(fork, tmp_path)
