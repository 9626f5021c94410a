"""What a witness holds: kept before it is told, in one transaction, and whole after anything."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.witness.held_checkpoints import Cosigned, HeldCheckpoints
from gateway.witness.identity import Identity
from gateway.witness.judgment import Asked, HeldOther, Refusal, asked
from tests.gateway.witness.signed_log import SignedLog
from vault.errors import StartRefused, StoreUnavailable
from vault.ledger.checkpoint import AddCheckpoint
from vault.ledger.note import Signature, parse_note

IDENTITY = Identity("witness.example/w1", bytes(32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "held.sqlite3"


@pytest.fixture
def held(path: Path) -> Iterator[HeldCheckpoints]:
    with closing(HeldCheckpoints.open(path)) as opened:
        yield opened


def asking(request: AddCheckpoint, log: SignedLog) -> Asked:
    found = asked(request.body, {log.key.name: (log.key,)})
    assert isinstance(found, Asked)
    return found


def add(
    held: HeldCheckpoints, log: SignedLog, old: int, size: int | None = None
) -> Cosigned | HeldOther | Refusal:
    wanted = asking(log.request(old, size), log)
    return held.add(wanted, lambda: IDENTITY.cosign(wanted.checkpoint.text, 7))


def test_what_is_cosigned_is_held(held: HeldCheckpoints, path: Path) -> None:
    log = SignedLog.of_size(9)
    assert held.is_empty()
    assert held.latest(log.key.name) is None
    assert isinstance(add(held, log, 0, 5), Cosigned)
    assert not held.is_empty()
    assert add(held, log, 0, 9) == HeldOther(5)
    assert isinstance(add(held, log, 5, 9), Cosigned)
    assert add(held, log.forked(3), 9, 9) is Refusal.NO_EXTENSION
    note = held.latest(log.key.name)
    assert note is not None
    assert parse_note(note).text == log.note(9).text
    assert [line.name for line in parse_note(note).signatures] == [log.key.name, IDENTITY.key.name]
    with closing(HeldCheckpoints.open(path)) as another:
        assert another.latest(log.key.name) == note
    assert path.stat().st_mode & 0o777 == 0o600


def test_logs_do_not_touch_each_other(held: HeldCheckpoints) -> None:
    one, other = SignedLog.of_size(5), SignedLog.of_size(7, origin="ledger.example/gateway-2")
    assert isinstance(add(held, one, 0), Cosigned)
    assert isinstance(add(held, other, 0), Cosigned)
    assert add(held, one, 0) == HeldOther(5)
    assert add(held, other, 0) == HeldOther(7)


@pytest.mark.guards("T-75")
def test_it_is_on_the_disk_before_it_is_told(held: HeldCheckpoints, path: Path) -> None:
    """Another connection finds it once there is an answer, and nothing while there is none."""
    log = SignedLog.of_size(5)
    with closing(sqlite3.connect(path)) as other:
        question = "SELECT size FROM held"

        def cosign() -> Signature:
            assert other.execute(question).fetchall() == []
            return IDENTITY.cosign(log.note().text, 7)

        assert isinstance(held.add(asking(log.request(0), log), cosign), Cosigned)
        assert other.execute(question).fetchall() == [(5,)]


@pytest.mark.guards("T-75")
def test_two_at_once_cannot_both_replace_what_they_read(held: HeldCheckpoints, path: Path) -> None:
    """The second waits for the first to have replaced it, and is judged by that."""
    log = SignedLog.of_size(9)
    answers: list[object] = []
    with closing(HeldCheckpoints.open(path)) as other:
        thread = threading.Thread(target=lambda: answers.append(add(other, log.forked(0), 0, 9)))

        def cosign() -> Signature:
            thread.start()
            thread.join(0.2)
            assert answers == []
            return IDENTITY.cosign(log.note().text, 7)

        assert isinstance(held.add(asking(log.request(0), log), cosign), Cosigned)
        thread.join()
    assert answers == [HeldOther(9)]


def test_a_failure_tells_nothing_and_leaves_nothing_open(held: HeldCheckpoints, path: Path) -> None:
    log = SignedLog.of_size(9)
    add(held, log, 0, 5)
    with closing(sqlite3.connect(path, isolation_level=None)) as vandal:
        vandal.execute(
            "CREATE TRIGGER full BEFORE UPDATE ON held"
            " BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
        with pytest.raises(StoreUnavailable) as refused:
            add(held, log, 5, 9)
        assert refused.value.__context__ is None
        vandal.execute("DROP TRIGGER full")
    assert isinstance(add(held, log, 5, 9), Cosigned)


def test_a_signature_that_cannot_be_made_holds_nothing(held: HeldCheckpoints) -> None:
    log = SignedLog.of_size(9)

    def cosign() -> Signature:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        held.add(asking(log.request(0), log), cosign)
    assert held.is_empty()
    assert isinstance(add(held, log, 0), Cosigned)


def test_a_damaged_file_stops_the_start(path: Path) -> None:
    with closing(HeldCheckpoints.open(path)) as held:
        for number in range(40):
            add(held, SignedLog.of_size(1, origin=f"ledger.example/{number}"), 0)
    whole = path.read_bytes()
    assert len(whole) > 3 * 4096
    for damaged in [
        b"no database" * 100,
        whole[: len(whole) // 2],
        whole[:4096] + bytes(4096),
        whole[:-4096] + bytes(4096),  # where nobody looks until it is asked for
    ]:
        path.write_bytes(damaged)
        with pytest.raises(StartRefused):
            HeldCheckpoints.open(path)


def test_a_commit_is_on_the_disk_even_if_the_power_fails(held: HeldCheckpoints) -> None:
    """What `EXTRA` does beyond FULL is SQLite's own affair; that it is set is ours."""
    setting = held._connection.execute("PRAGMA synchronous").fetchone()
    journal = held._connection.execute("PRAGMA journal_mode").fetchone()
    assert (setting, journal) == ((3,), ("delete",))
