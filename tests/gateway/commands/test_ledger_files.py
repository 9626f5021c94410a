"""`panward ledger export|follow|proof`: the record as others get it."""

import json
import os
import select
import signal
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from tests.gateway.commands.conftest import Command
from tests.gateway.commands.ledger_program import ended, started
from tests.vault.exported_files import files_in, verified_size
from tests.vault.ledger import golden
from tests.vault.ledger.samples import new_uuid
from tests.vault.memory_log import MemoryLog, bodies
from tests.vault.stores import Store, until
from vault.export import export
from vault.ids import authorization_id
from vault.ledger.tiles import TILE_WIDTH
from vault.ledger.tree import root_of

pytestmark = pytest.mark.embedded

Words = Callable[..., list[str]]


class Published:
    """A log in the test's database, as the writer and the publisher leave it."""

    def __init__(self, store: Store) -> None:
        self.log = MemoryLog()
        self.ids: list[str] = []
        self._store = store
        self._nodes = 0

    async def grow(self, count: int) -> None:
        """Append, and sign a checkpoint."""
        first = len(self.log.bodies)
        self.log.add(bodies(count, first))
        self.ids += [new_uuid() for _ in range(count)]
        await self._store.do(
            "INSERT INTO entry (idx, id, type, leaf_hash, body)"
            " SELECT i, u, 'sample', l, b FROM unnest($1::bigint[], $2::uuid[], $3::bytea[],"
            " $4::bytea[]) AS rows (i, u, l, b)",
            *([*range(first, first + count)], [UUID(each) for each in self.ids[first:]]),
            *(self.log.leaves[first:], self.log.bodies[first:]),
        )
        while (end := (self._nodes + 1) * TILE_WIDTH) <= len(self.log.leaves):
            leaves = self.log.leaves[end - TILE_WIDTH : end]
            await self._store.do(
                "INSERT INTO node VALUES (1, $1, $2)", self._nodes, root_of(leaves)
            )
            self._nodes += 1
        await self.sign()

    async def sign(self) -> None:
        note, size = self.log.sign(), len(self.log.leaves)
        await self._store.do(
            "INSERT INTO checkpoint (size, root, note) VALUES ($1, $2, $3)",
            *(size, root_of(self.log.leaves), note.raw.decode()),
        )


@pytest.fixture
def published(store: Store) -> Published:
    return Published(store)


@pytest.fixture
def words(command: Command, tmp_path: Path) -> "Words":
    """Write a command of `panward ledger` on the test's database."""
    return lambda *said: ["ledger", *map(str, said), "--config", f"{tmp_path}/panward.toml"]


# --- export -------------------------------------------------------------------------------


async def test_an_export_of_a_database_is_complete(
    published: Published, words: Words, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    for count in (3, 597):
        await published.grow(count)
        status, out, err = await ended(*words("export", folder, "--json"))
        assert (status, err) == (0, "")
        said = json.loads(out)
        assert said["size"] == verified_size(folder) == published.log.size
        assert said["root"] == root_of(published.log.leaves).hex()
    at_once = tmp_path / "memory"
    await export(published.log, at_once)
    assert files_in(at_once).items() <= files_in(folder).items()
    assert files_in(folder)[golden.BUNDLE_PATH] == golden.BUNDLE
    assert files_in(folder)["checkpoints/3"] == golden.NOTE_3
    before = files_in(folder)
    status, out, _ = await ended(*words("export", folder))
    assert (status, out.splitlines()[1]) == (0, "0 files written")
    assert files_in(folder) == before


@pytest.mark.guards("T-44")
async def test_a_database_that_was_edited_is_not_exported(
    published: Published, words: Words, store: Store, tmp_path: Path
) -> None:
    await published.grow(300)
    await store.do("ALTER TABLE entry DISABLE TRIGGER no_rewrite")
    await store.do("UPDATE entry SET body = '{}' WHERE idx = 270")
    status, out, err = await ended(*words("export", tmp_path / "files"))
    assert (status, out) == (1, "")
    assert "entry 270" in err
    assert "checkpoint" not in files_in(tmp_path / "files")


async def test_another_log_in_the_folder_is_a_refusal(
    published: Published, words: Words, tmp_path: Path
) -> None:
    await published.grow(4)
    other = MemoryLog([b"{}"] * 3)
    other.sign()
    await export(other, tmp_path / "files")
    status, _, err = await ended(*words("export", tmp_path / "files"))
    assert status == 1
    assert "does not extend the checkpoint of 3 entries" in err


# --- follow -------------------------------------------------------------------------------


async def test_what_a_checkpoint_covers_is_told_until_a_signal(
    published: Published, words: Words, store: Store
) -> None:
    await published.grow(3)
    async with started(*words("follow", "--json", "--from", 1)) as running:
        for index in (1, 2):
            leaf = golden.LEAVES[index].hex()
            told = f'{{"index":{index},"leaf":"{leaf}","entry":{{"i":{index}}}}}\n'
            assert await running.line() == told.encode()
        said = json.loads(await running.line())["checkpoint"]
        assert said["note"].encode() == golden.NOTE_3
        assert (said["size"], said["root"]) == (3, golden.ROOT_3.hex())
        await published.grow(300)
        indices = [json.loads(await running.line())["index"] for _ in range(300)]
        assert indices == list(range(3, 303))
        assert json.loads(await running.line())["checkpoint"]["size"] == 303
        running.process.send_signal(signal.SIGTERM)
        assert await running.ended() == (0, "", "")


async def test_entries_without_a_checkpoint_are_not_told(
    published: Published, words: Words, store: Store
) -> None:
    await published.grow(2)
    await store.do(
        "INSERT INTO entry (idx, id, type, leaf_hash, body) VALUES (2, $1, 'x', $2, $3)",
        *(new_uuid(), golden.LEAVES[2], golden.ENTRIES[2]),
    )
    status, out, _ = await ended(*words("follow", "--json", "--once"))
    assert status == 0
    assert [json.loads(line).get("index") for line in out.splitlines()] == [0, 1, None]


async def test_for_people_there_are_words(published: Published, words: Words) -> None:
    await published.grow(1)
    status, out, _ = await ended(*words("follow", "--once"))
    assert status == 0
    assert out.startswith("0  None  None  None\ncheckpoint of 1 entries, root d829edd0")


async def test_a_position_is_resumed_from(
    published: Published, words: Words, tmp_path: Path
) -> None:
    position = tmp_path / "position"
    follow = words("follow", "--json", "--once", "--from", 2, "--position", position)
    for first, count in ((2, 5), (5, 300), (305, 1)):
        await published.grow(count)
        status, out, _ = await ended(*follow)
        indices = [json.loads(line)["index"] for line in out.splitlines()[:-1]]
        assert (status, indices) == (0, list(range(first, published.log.size)))
        assert position.read_text() == f"{published.log.size}\n"
        assert position.stat().st_mode & 0o777 == 0o600


async def test_a_reader_that_leaves_ends_it_and_loses_nothing(
    published: Published, words: Words, tmp_path: Path
) -> None:
    position = tmp_path / "position"
    await published.grow(5_000)
    async with started(*words("follow", "--json", "--position", position)) as running:
        seen = [json.loads(await running.line())["index"] for _ in range(700)]
        assert running.process.stdout is not None
        running.process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
        assert running.process.stderr is not None
        err = (await running.process.stderr.read()).decode()
        assert await running.process.wait() == 1
    assert "nobody reads standard output" in err
    assert seen == list(range(700))
    kept = int(position.read_text())
    assert 256 <= kept < 5_000  # whole bundles that are out, perhaps in the pipe
    assert f"the next entry is {kept}" in err


async def test_a_reader_that_leaves_while_nothing_happens_is_noticed(
    published: Published, words: Words
) -> None:
    await published.grow(1)
    async with started(*words("follow", "--json")) as running:
        await running.line()
        await running.line()
        running.process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
        assert await running.process.wait() == 1


async def test_what_stalls_in_a_pipe_does_not_count_and_holds_up_no_signal(
    published: Published, words: Words, tmp_path: Path
) -> None:
    position = tmp_path / "position"
    await published.grow(2_000)
    reader, writer = os.pipe()
    follow = words("follow", "--json", "--position", position)
    async with started(*follow, stdout=writer) as running:
        await until(lambda: not select.select([], [writer], [], 0)[1])  # the pipe is full
        running.process.send_signal(signal.SIGINT)
        assert await running.process.wait() == 0
    os.close(writer)
    with os.fdopen(reader, "rb") as piped:
        lines = piped.read().splitlines(keepends=True)
    told = [json.loads(line)["index"] for line in lines if line.endswith(b"\n")]
    assert told == list(range(len(told)))
    assert len(told) - TILE_WIDTH <= int(position.read_text()) <= len(told)


# --- acknowledgements ---------------------------------------------------------------------


async def test_only_what_was_acknowledged_counts(
    published: Published, words: Words, tmp_path: Path
) -> None:
    position = tmp_path / "position"
    await published.grow(3)
    follow = words("follow", "--json", "--ack", "--position", position)
    async with started(*follow) as running:
        for _ in range(4):
            await running.line()
        assert not position.exists()
        await running.say("0\n")
        await told(position, 1)
        running.process.kill()
    async with started(*follow) as running:
        assert json.loads(await running.line())["index"] == 1
        await running.say("2\n")  # and all before it
        await told(position, 3)


async def told(position: Path, index: int) -> None:
    await until(lambda: position.exists() and position.read_text() == f"{index}\n")


@pytest.mark.guards("P7")
async def test_a_collector_and_a_follower_that_die_at_any_time_skip_nothing(
    published: Published, words: Words, tmp_path: Path
) -> None:
    position = tmp_path / "position"
    await published.grow(600)
    collected: list[int] = []
    for kill_after in (1, 255, 257, 1_000):
        follow = words("follow", "--json", "--once", "--ack", "--position", position)
        async with started(*follow) as running:
            begun = int(position.read_text()) if position.exists() else 0
            assert begun <= len(set(collected))  # what counts is here
            for _ in range(kill_after):
                line = await running.line()
                if not line or b"checkpoint" in line:
                    break
                collected.append(json.loads(line)["index"])
                await running.say(f"{collected[-1]}\n")
            if kill_after == 1_000:
                assert (await running.ended())[0] == 0
            else:
                running.process.kill()
    assert sorted(set(collected)) == list(range(600))
    assert position.read_text() == "600\n"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("3\n", "was not told"),
        ("x\n", "not an index"),
        ("1" * 30, "not an index"),
        (None, "no more acknowledgements"),
    ],
)
async def test_a_collector_that_makes_no_sense_ends_it(
    published: Published, words: Words, tmp_path: Path, said: str | None, why: str
) -> None:
    position = tmp_path / "position"
    await published.grow(3)
    follow = words("follow", "--json", "--ack", "--position", position)
    async with started(*follow) as running:
        for _ in range(4):
            await running.line()
        if said is not None:
            await running.say(said)
        else:
            assert running.process.stdin is not None
            running.process.stdin.close()
        assert running.process.stderr is not None
        err = (await running.process.stderr.read()).decode()
        assert await running.process.wait() == 1
    assert why in err
    assert not position.exists()


async def test_a_log_that_is_shorter_than_what_was_told_is_refused(
    published: Published, words: Words, tmp_path: Path
) -> None:
    position = tmp_path / "position"
    position.write_text("9\n")
    await published.grow(3)
    follow = words("follow", "--json", "--position", position)
    status, out, err = await ended(*follow)
    assert (status, out) == (1, "")
    assert "fewer entries" in err
    position.write_text("nine")
    status, _, err = await ended(*follow)
    assert status == 78
    assert "does not hold the position" in err


# --- proof --------------------------------------------------------------------------------


async def test_a_proof_of_the_golden_log(
    published: Published, words: Words, tmp_path: Path
) -> None:
    await published.grow(3)
    entry, file = tmp_path / "entry", tmp_path / "event.tlog-proof"
    for name in (published.ids[1], authorization_id(published.ids[1])):
        status, out, _ = await ended(*words("proof", name))
        assert (status, out.encode()) == (0, golden.TLOG_PROOF_1)
    status, out, _ = await ended(*words("proof", "1", "--out", file, "--entry", entry))
    assert (status, out) == (0, "")
    assert file.read_bytes() == golden.TLOG_PROOF_1
    assert entry.read_bytes() == golden.ENTRIES[1]
    check = ("ledger", "proof", "--check", str(file), "--vkey", golden.LOG_KEY)
    status, out, _ = await ended(*check, "--entry", str(entry))
    assert (status, out.splitlines()[-1]) == (0, "good")


@pytest.mark.parametrize(
    ("name", "why"),
    [("01936b2e-7c00-7abc-8def-0123456789ab", "no such event"), ("3", "no checkpoint covers")],
)
async def test_no_proof_of_what_is_not_covered(
    published: Published, words: Words, name: str, why: str
) -> None:
    await published.grow(3)
    status, out, err = await ended(*words("proof", name))
    assert (status, out) == (1, "")
    assert why in err


POLICY = f"""\
log {golden.LOG_KEY}
witness w1 {golden.WITNESS_KEY}
quorum w1
"""


def checked(tmp_path: Path, raw: bytes, *more: str) -> tuple[int, str]:
    """Check a proof that someone was given; no deployment is anywhere."""
    (tmp_path / "proof").write_bytes(raw)
    (tmp_path / "policy").write_text(POLICY)
    (tmp_path / "entry").write_bytes(golden.ENTRIES[1])
    named = [word.replace("@", f"{tmp_path}/") for word in more]
    done = CliRunner().invoke(app, ["ledger", "proof", "--check", f"{tmp_path}/proof", *named])
    return done.exit_code, done.output


VKEY = ("--vkey", golden.LOG_KEY)
ENTRY = ("--entry", "@entry")


def test_a_proof_is_checked_with_a_key_or_a_policy(tmp_path: Path) -> None:
    cosigned = golden.TLOG_PROOF_1 + golden.COSIGNATURE_3.encode()
    leaf = golden.LEAVES[1].hex()
    for raw, more in (
        (golden.TLOG_PROOF_1, (*VKEY, *ENTRY)),
        (golden.TLOG_PROOF_1, (*VKEY, "--leaf", leaf)),
        (cosigned, ("--policy", "@policy", *ENTRY)),
        (cosigned, (*VKEY, *ENTRY)),
    ):
        status, out = checked(tmp_path, raw, *more)
        assert status == 0, out
    status, out = checked(tmp_path, cosigned, "--policy", "@policy", *ENTRY, "--json")
    assert json.loads(out) == {
        "good": True,
        "index": 1,
        "leaf": leaf,
        "origin": golden.ORIGIN,
        "size": 3,
        "root": golden.ROOT_3.hex(),
        "witnesses": {"w1": golden.COSIGNED_AT},
    }
    assert (
        "seen by w1 on 2025-12-29" in checked(tmp_path, cosigned, "--policy", "@policy", *ENTRY)[1]
    )


@pytest.mark.guards("T-44")
def test_a_proof_of_something_else_is_refused(tmp_path: Path) -> None:
    raw = golden.TLOG_PROOF_1
    other = golden.WITNESS_KEY.replace("witness.example/w1", "x")
    for proof, more in (
        (raw.replace(b"index 1", b"index 0"), (*VKEY, *ENTRY)),
        (raw.replace(b"index 1", b"index 7"), (*VKEY, *ENTRY)),
        (raw.replace(b"3t8ell", b"3t8elm"), (*VKEY, *ENTRY)),
        (raw.replace(b"\n3\n", b"\n4\n"), (*VKEY, *ENTRY)),
        (raw[:-10], (*VKEY, *ENTRY)),
        (b"", (*VKEY, *ENTRY)),
        (raw, (*VKEY, "--leaf", golden.LEAVES[2].hex())),
        (raw, ("--policy", "@policy", *ENTRY)),  # the witness it asks for has not signed
    ):
        status, out = checked(tmp_path, proof, *more)
        assert status == 1, out
        assert "good" not in out
    status, _ = checked(tmp_path, raw, "--vkey", other, *ENTRY)
    assert status == 2


@pytest.mark.parametrize(
    "more",
    [
        VKEY,
        ENTRY,
        (*VKEY, "--policy", "@policy", *ENTRY),
        (*VKEY, *ENTRY, "--leaf", "00"),
        (*VKEY, "--leaf", "00"),
        (*VKEY, "--entry", "@nothing"),
        (*VKEY, *ENTRY, "--config", "@policy"),
        ("--policy", "@entry", *ENTRY),
    ],
)
def test_what_a_check_needs(tmp_path: Path, more: tuple[str, ...]) -> None:
    assert checked(tmp_path, golden.TLOG_PROOF_1, *more)[0] == 2


def test_a_proof_may_bring_its_entry_along(tmp_path: Path) -> None:
    with_extra = golden.TLOG_PROOF_1.replace(b"index 1", b"extra eyJpIjoxfQ==\nindex 1")
    assert checked(tmp_path, with_extra, *VKEY)[0] == 0
    another = golden.TLOG_PROOF_1.replace(b"index 1", b"extra eyJpIjoyfQ==\nindex 1")
    assert checked(tmp_path, another, *VKEY)[0] == 1
