"""`panward ledger verify`: every byte class of every table, and the command itself."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.commands.ledger import ledger
from gateway.commands.options import EX_FAILED
from gateway.commands.verifying import Terms, Verdict, check_log
from tests.crash.panward import Ended, panward
from tests.vault.ledger.samples import ORIGIN, VKEY
from tests.vault.ledger.signed_story import KEY, exported, purchases, put, remember, restore
from tests.vault.ledger.written_log import Log
from tests.vault.stores import Store
from vault.ledger.held import SignedHead, Source, Trust
from vault.ledger.note import ED25519, VerifierKey
from vault.ledger.rules import Rule
from vault.ledger.tree import leaf_hash

pytestmark = pytest.mark.embedded

SIZE = 600
PLACES = (0, 1, 255, 256, 590, SIZE - 1)
SIGNED = (0, 3, 300, 590)  # the last ten entries are not signed yet


@pytest.fixture(scope="module")
def log() -> Log:
    return purchases(SIZE)


@pytest.fixture
async def stored(store: Store, log: Log) -> Store:
    await put(store, log, *SIGNED)
    await remember(store)
    return store


async def verdict_of(store: Store, *held: bytes, pinned: bool = True) -> Verdict:
    terms = Terms(
        trust=lambda: Trust([KEY] if pinned else []),
        held=[SignedHead.parse(raw, Source.HELD) for raw in held],
    )
    return await check_log(store.dsns.runtime_dsn, [], terms=terms)


async def found_in(store: Store, *held: bytes) -> list[tuple[Rule, int | None]]:
    report = (await verdict_of(store, *held)).report
    return [(one.rule, one.index) for one in report.violations]


async def test_a_good_database(stored: Store) -> None:
    verdict = await verdict_of(stored)
    report = verdict.report
    assert verdict.is_good, report.violations
    assert (report.size, report.signed_size, report.checkpoints) == (SIZE, 590, 4)
    assert (
        report.details_missing == sum(b'"detail":' in row.body for row in purchases(0).rows)
        or report.details_missing > 0
    )
    assert await stored.value("SELECT note FROM checkpoint WHERE size = 590") == (
        verdict.latest.decode()
    )
    assert not (await verdict_of(stored, pinned=False)).report.is_pinned


# --- the table of entries -----------------------------------------------------------------


@pytest.mark.guards("T-31")
@pytest.mark.guards("T-60")
async def test_a_flipped_byte_of_an_entry(stored: Store, log: Log) -> None:
    for index in PLACES:
        body = log.rows[index].body
        for place in (0, len(body) // 2, len(body) - 1):
            changed = body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
            await stored.do("UPDATE entry SET body = $1 WHERE idx = $2", changed, index)
            assert (await found_in(stored))[0] == (Rule.LEAF, index)
            await restore(stored)


@pytest.mark.guards("T-31")
@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("leaf_hash = set_bit(leaf_hash, 7, 1 - get_bit(leaf_hash, 7))", Rule.LEAF),
        ("type = 'access.denied'", Rule.COLUMNS),
        ("intent = gen_random_uuid()", Rule.COLUMNS),
        ("tenant = 't_99'", Rule.COLUMNS),
        ("id = gen_random_uuid()", Rule.COLUMNS),
    ],
)
async def test_a_changed_column(stored: Store, change: str, rule: Rule) -> None:
    for index in PLACES:
        await stored.do(f"UPDATE entry SET {change} WHERE idx = $1", index)  # noqa: S608
        assert await found_in(stored) == [(rule, index)]
        await restore(stored)


@pytest.mark.guards("T-60")
async def test_a_deleted_entry(stored: Store) -> None:
    for index in PLACES[:-1]:
        await stored.do("DELETE FROM entry WHERE idx = $1", index)
        assert (await found_in(stored))[0] == (Rule.INDEX, index + 1)
        await restore(stored)
    await stored.do("DELETE FROM entry WHERE idx = $1", SIZE - 1)  # nothing comes after it
    assert (await found_in(stored))[0] == (Rule.HEAD, None)


@pytest.mark.guards("T-60")
async def test_all_entries_deleted(stored: Store) -> None:
    await stored.do("DELETE FROM entry")
    assert {rule for rule, _ in await found_in(stored)} == {Rule.HEAD, Rule.CHECKPOINT}


@pytest.mark.guards("T-60")
async def test_entries_that_changed_places(stored: Store) -> None:
    for old, new in ((300, 9000), (301, 300), (9000, 301)):
        await stored.do("UPDATE entry SET idx = $2 WHERE idx = $1", old, new)
    found = await found_in(stored)
    assert Rule.V5 in {rule for rule, index in found if index in {300, 301}}
    assert (Rule.NODE, 256) in found
    assert (Rule.CHECKPOINT, 300) in found


@pytest.mark.guards("T-31")
async def test_an_entry_that_is_changed_with_its_hash(stored: Store, log: Log) -> None:
    """What was signed says that it is another, from the checkpoint before on."""
    for index, since in ((1, 0), (2, 0), (3, 3), (299, 3), (589, 300)):
        body = log.rows[index].body.replace(b'"ts":"2026-01-02', b'"ts":"2026-01-01')
        leaf = leaf_hash(body)
        await stored.do(
            "UPDATE entry SET body = $1, leaf_hash = $2 WHERE idx = $3", body, leaf, index
        )
        found = await found_in(stored)
        assert (Rule.CHECKPOINT, since) in found
        assert {rule for rule, _ in found} <= {Rule.CHECKPOINT, Rule.HEAD, Rule.NODE}
        await restore(stored)


# --- what stands beside ---------------------------------------------------------------------


@pytest.mark.guards("T-60")
async def test_a_changed_head(stored: Store) -> None:
    for change in ("size = 599", "size = 601", "root = sha256(root)"):
        await stored.do(f"UPDATE head SET {change}")  # noqa: S608
        assert Rule.HEAD in {rule for rule, _ in await found_in(stored)}
        await restore(stored)


@pytest.mark.guards("T-60")
async def test_a_head_that_was_rolled_back(stored: Store, log: Log) -> None:
    """Entries and head of an hour ago, with the checkpoints that were there by now."""
    await stored.do("DELETE FROM entry WHERE idx >= 400")
    rows = Log(rows=log.rows[:400])
    await stored.do("UPDATE head SET size = 400, root = $1", rows.check().root)
    assert await found_in(stored) == [(Rule.CHECKPOINT, 400)]


@pytest.mark.guards("T-60")
async def test_a_changed_checkpoint(stored: Store) -> None:
    for change in CHANGES:
        for size in SIGNED:
            await stored.do(f"UPDATE checkpoint SET {change} WHERE size = $1", size)  # noqa: S608
            found = await found_in(stored)
            assert {rule for rule, _ in found} == {Rule.CHECKPOINT}, (change, size)
            await restore(stored)


CHANGES = (
    "root = sha256(root)",
    "size = 500",
    "note = overlay(note placing 'x' from 5)",
    "note = replace(note, E'\\n\\n', E'\\nx\\n\\n')",
    "note = left(note, length(note) - 1)",
    "note = overlay(note placing 'AAAA' from length(note) - 20)",
    "note = ''",
)


@pytest.mark.guards("T-60")
async def test_a_deleted_checkpoint_is_missed_by_who_kept_it(stored: Store) -> None:
    kept = (await verdict_of(stored)).latest
    await stored.do("DELETE FROM checkpoint WHERE size = 590")
    await stored.do("DELETE FROM entry WHERE idx >= 300")
    await stored.do(
        "UPDATE head SET size = 300, root = (SELECT root FROM checkpoint WHERE size = 300)"
    )
    assert await found_in(stored) == [], "a whole log, and an older one"
    assert await found_in(stored, kept) == [(Rule.CHECKPOINT, 300)]


@pytest.mark.guards("T-31")
async def test_changed_and_missing_nodes(stored: Store) -> None:
    await stored.do("UPDATE node SET hash = sha256(hash) WHERE idx = 1")
    assert await found_in(stored) == [(Rule.NODE, 256)]
    await stored.do("DELETE FROM node WHERE idx = 1")
    assert await found_in(stored) == [(Rule.NODE, 256)]


@pytest.mark.guards("T-31")
async def test_a_changed_detail(stored: Store) -> None:
    index = await stored.value("SELECT idx FROM entry WHERE type = 'token.created' LIMIT 1")
    assert isinstance(index, int)
    await stored.do(
        "INSERT INTO detail SELECT id, $1, '{}' FROM entry WHERE idx = $2", bytes(32), index
    )
    assert await found_in(stored) == [(Rule.DETAIL, index)]
    terms = Terms(trust=lambda: Trust([KEY]), details=False)
    assert (await check_log(stored.dsns.runtime_dsn, [], terms=terms)).is_good


async def test_a_database_of_another_log(stored: Store) -> None:
    other = VerifierKey(ORIGIN, ED25519, bytes(32))
    terms = Terms(trust=lambda: Trust([other]))
    report = (await check_log(stored.dsns.runtime_dsn, [], terms=terms)).report
    assert {one.rule for one in report.violations} == {Rule.CHECKPOINT}


# --- the command --------------------------------------------------------------------------


async def verified(*words: object) -> Ended:
    return await panward("ledger", "verify", *map(str, words))


@pytest.fixture
def dsn_file(stored: Store, tmp_path: Path) -> Path:
    file = tmp_path / "dsn"
    file.write_text(stored.dsns.runtime_dsn + "\n")
    return file


async def test_a_database_in_words_and_for_machines(
    stored: Store, dsn_file: Path, tmp_path: Path
) -> None:
    held = tmp_path / "held"
    said = await verified("--dsn-file", dsn_file, "--hold", held)
    assert (said.status, said.out.splitlines()[-1]) == (0, "good")
    assert "on trust" in said.out
    assert "4 signed checkpoints, 10 entries not signed yet" in said.out
    said = await verified("--dsn-file", dsn_file, "--json", "--held", held, "--vkey", VKEY)
    found = json.loads(said.out)
    assert (said.status, found["good"], found["checkpoints"]) == (0, True, 5)
    assert (found["size"], found["signed_size"], found["key_pinned"]) == (SIZE, 590, True)

    await stored.do("UPDATE entry SET tenant = 't_99' WHERE idx IN (77, 300)")
    before = held.read_bytes()
    said = await verified("--dsn-file", dsn_file, "--vkey", VKEY, "--hold", held)
    assert said.status == EX_FAILED
    assert said.out.splitlines()[0].startswith("entry 77: ")
    assert said.out.splitlines()[-1] == "NOT good"
    assert held.read_bytes() == before
    said = await verified("--dsn-file", dsn_file, "--json")
    found = json.loads(said.out)
    assert (said.status, found["good"]) == (EX_FAILED, False)
    assert [one["index"] for one in found["violations"]] == [77, 300]


async def test_an_export_with_a_key_in_a_file_and_a_policy(tmp_path: Path, log: Log) -> None:
    folder, key, policy = tmp_path / "export", tmp_path / "vkey", tmp_path / "policy"
    await exported(log, folder, 300, SIZE)
    key.write_text(VKEY + "\n")
    policy.write_text(f"log {VKEY}\nquorum none\n")
    words = ("--vkey", key, "--policy", policy, "--held", folder / "checkpoints/300")
    said = await verified("--export", folder, *words)
    assert (said.status, said.out.splitlines()[-1]) == (0, "good"), said
    policy.write_text(f"log {VKEY}\nwitness w {witness()}\nquorum w\n")
    said = await verified("--export", folder, "--policy", policy)
    assert said.status == EX_FAILED
    assert "witnesses" in said.out


def witness() -> str:
    return VerifierKey("w.example/1", 4, bytes(32)).text


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--export", ".", "--origin", "https://x.example"],
        ["--export", ".", "--vkey", "nonsense"],
        ["--export", ".", "--policy", __file__],
        ["--export", ".", "--held", __file__],
        ["--origin", "https://x.example", "--address-allow", "8.8.8.0/24"],
        ["--origin", "http://x.example/ledger"],
    ],
)
def test_what_is_misused(words: Sequence[str]) -> None:
    assert CliRunner().invoke(ledger, ["verify", *words]).exit_code == 2


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--export", "."], "there is no checkpoint"),
        (["--origin", "https://127.0.0.1:1/ledger"], "does not answer"),
    ],
)
async def test_what_is_not_there(words: Sequence[str], why: str) -> None:
    said = await verified(*words)
    assert said.status == EX_FAILED
    assert why in said.err
