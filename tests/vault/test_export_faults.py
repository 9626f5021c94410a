"""An export that is killed, or whose disk fails, at any of its system calls: it is done again."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.vault.export_once import REFUSED
from tests.vault.exported_files import expected_paths, files_in, verified_size
from tests.vault.memory_log import MemoryLog, bodies
from vault.export import copy_checkpoint, export

BEFORE, AFTER = 200, 600
CALLS = ("mkdir", "chmod", "openat", "fchmod", "write", "fsync", "link", "unlink", "rename")
KILL = "signal=KILL"
NO_BYTECODE = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}  # so that all runs begin alike
RUN_SECONDS = 30
_CALL = re.compile(r"\d+ +(\w+)\((.*)")
_PATH = re.compile(r'[<"]([^<">]*)[>"]')


@dataclass(frozen=True)
class Call:
    """A system call about the folder: which one of its kind it is in the process, from 1."""

    kind: str
    number: int
    arguments: str

    @property
    def paths(self) -> list[str]:
        return _PATH.findall(self.arguments)


def traced(act: str, folder: Path, sizes: Sequence[int], *inject: str) -> tuple[int, list[Call]]:
    """Export in a process under strace; return how it ended and what it did to the folder."""
    words = [sys.executable, "-m", "tests.vault.export_once", act, str(folder), *map(str, sizes)]
    with TemporaryDirectory() as logs:
        strace = ["strace", "-f", "-y", "-o", f"{logs}/calls"]
        ended = subprocess.run(  # noqa: S603 - strace, and words of our own
            [*strace, "-e", "trace=" + ",".join(CALLS), *inject, *words],
            env=NO_BYTECODE,
            cwd=Path(__file__).parent.parent.parent,
            timeout=RUN_SECONDS,
            capture_output=True,
            check=False,
        )
        lines = Path(f"{logs}/calls").read_text().splitlines()
    numbers: dict[str, int] = defaultdict(int)
    calls = []
    for line in lines:
        if found := _CALL.match(line):
            numbers[found[1]] += 1
            if str(folder) in found[2]:
                calls.append(Call(found[1], numbers[found[1]], found[2]))
    return ended.returncode, calls


def failed(kind: str, how: str, number: int) -> list[str]:
    return ["-e", f"inject={kind}:{how}:when={number}"]


def logged() -> MemoryLog:
    log = MemoryLog(bodies(AFTER))
    log.sign(BEFORE)
    return log


def started_folder(folder: Path) -> Path:
    """Export a smaller log there, so that there is something to extend."""
    asyncio.run(export(logged(), folder))
    return folder


@cache
def finished() -> dict[str, bytes]:
    """Return what both exports leave."""
    with TemporaryDirectory() as name:
        log = logged()
        started_folder(Path(name))
        log.sign()
        asyncio.run(export(log, Path(name)))
        return files_in(Path(name))


@cache
def undisturbed(act: str) -> list[Call]:
    """Return the calls of a run that nothing happens to."""
    with TemporaryDirectory() as name:
        folder = started_folder(Path(name))
        sizes = (BEFORE, AFTER) if act == "copy" else (AFTER,)
        if act == "copy":
            (folder / "checkpoints" / str(BEFORE)).unlink()
        status, calls = traced(act, folder, sizes)
        assert status == 0
        return calls


def numbers_of(kind: str, act: str = "export") -> list[int]:
    numbers = [call.number for call in undisturbed(act) if call.kind == kind]
    assert numbers, f"the run has no {kind}: its test would try nothing"
    return numbers


def check_what_is_left(folder: Path) -> None:
    """All that is there is whole, and nothing lies over what is not there."""
    files = files_in(folder)
    whole = finished()
    for name, content in files.items():
        assert name == "checkpoint" or content == whole[name], name
    size = verified_size(folder)  # of what `checkpoint` says
    assert size in (BEFORE, AFTER)
    if f"checkpoints/{AFTER}" in files:
        assert expected_paths(AFTER) <= files.keys()
    for index in (0, 1):  # each tile comes after its bundle
        assert f"tile/entries/00{index}" in files or f"tile/0/00{index}" not in files
    if "tile/1/000.p/2" in files:
        assert {"tile/0/000", "tile/0/001"} <= files.keys()


def fail_and_repeat(folder: Path, kind: str, how: str, number: int) -> None:
    started_folder(folder)
    status, _ = traced("export", folder, (AFTER,), *failed(kind, how, number))
    wanted = {-signal.SIGKILL} if how == KILL else {REFUSED}
    if kind == "mkdir" and how != KILL:
        wanted.add(0)  # a folder that is there need not be made
    assert status in wanted, (kind, number)
    check_what_is_left(folder)
    log = logged()
    log.sign()
    assert asyncio.run(export(log, folder)).size == AFTER
    assert files_in(folder) == finished(), (kind, number)
    assert not (folder / ".new").exists()


QUICK = {"fsync": 2, "link": 1, "rename": 1, "unlink": 2}  # every so many are tried


@pytest.mark.guards("P7")
@pytest.mark.parametrize("kind", CALLS)
def test_a_killed_export_is_completed(tmp_path: Path, kind: str) -> None:
    for number in numbers_of(kind)[:: QUICK.get(kind, 8)]:
        fail_and_repeat(tmp_path / str(number), kind, KILL, number)


@pytest.mark.guards("P7")
@pytest.mark.parametrize("how", ["error=EIO", "error=ENOSPC"])
@pytest.mark.parametrize("kind", ["mkdir", "openat", "write", "fsync", "link", "unlink", "rename"])
def test_an_export_whose_disk_fails_is_completed(tmp_path: Path, kind: str, how: str) -> None:
    shift = how == "error=EIO"  # between them, twice as many
    for number in numbers_of(kind)[shift::9] or numbers_of(kind):
        fail_and_repeat(tmp_path / str(number), kind, how, number)


@pytest.mark.long
@pytest.mark.parametrize("how", [KILL, "error=EIO", "error=ENOSPC"])
@pytest.mark.parametrize("kind", CALLS)
def test_every_call_may_fail(tmp_path: Path, kind: str, how: str) -> None:
    for number in numbers_of(kind):
        fail_and_repeat(tmp_path / str(number), kind, how, number)


@pytest.mark.guards("P7")
@pytest.mark.parametrize("how", [KILL, "error=ENOSPC"])
@pytest.mark.parametrize("kind", ["openat", "fchmod", "write", "fsync"])
def test_a_copy_that_is_cut_off_is_completed(tmp_path: Path, kind: str, how: str) -> None:
    log = logged()
    notes = [log.sign(BEFORE), log.sign(AFTER)]
    for number in numbers_of(kind, "copy"):
        folder = tmp_path / str(number)
        folder.mkdir()
        status, _ = traced("copy", folder, (BEFORE, AFTER), *failed(kind, how, number))
        assert status in (-signal.SIGKILL, REFUSED, 0)
        for note in notes:
            copy_checkpoint(folder, note)
        copies = {f"checkpoints/{size}": finished()[f"checkpoints/{size}"] for size in SIZES}
        assert files_in(folder) == copies


SIZES = (BEFORE, AFTER)


@pytest.mark.guards("P7")
def test_a_power_cut_finds_no_name_without_its_content() -> None:
    """A file is synced before it is named, each name before the checkpoint, that one at last."""
    unsynced_content = True
    unsynced_names: set[str] = set()
    for call in undisturbed("export"):
        path = call.paths[-1] if call.paths else ""
        match call.kind:
            case "write":
                unsynced_content = True
            case "fsync" if path.endswith("/.new"):
                unsynced_content = False
            case "fsync":
                unsynced_names.discard(path)
            case "link" | "rename":
                assert not unsynced_content
                if call.kind == "rename":
                    assert not unsynced_names
                unsynced_names.add(str(Path(path).parent))
            case "mkdir":
                unsynced_names.add(str(Path(path).parent))
            case _:
                pass  # opens, and what gives no name
    assert not unsynced_names
