"""`panward ledger rebuild`: what it says, what it repairs, how it ends."""

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from gateway.commands import ledger_rebuild
from tests.gateway.commands.conftest import Command
from tests.vault.request_story import telling_stories
from tests.vault.stores import Store

pytestmark = pytest.mark.embedded


@pytest.fixture
async def damaged(store: Store, tmp_path: Path) -> Store:
    """Give a store in which three rows are not as the record has them."""
    async with telling_stories(store, tmp_path / "spool") as story:
        await story.tell([["begin", "begin"], ["approved", "unknown"]])
    await store.do("UPDATE authorizations SET state = 'declined' WHERE state = 'completed'")
    await store.do("DELETE FROM intent_state WHERE state = 'completed'")
    await store.do(
        "INSERT INTO authorizations SELECT (jsonb_populate_record(a, jsonb_build_object("
        "'first', gen_random_uuid()))).* FROM authorizations a LIMIT 1"
    )
    return store


async def test_rows_are_repaired(command: Command, damaged: Store) -> None:
    checked = await command("ledger", "rebuild", "--check")
    assert checked.status == 1
    assert "sends: 0 altered, 1 missing, 0 that no entry speaks of" in checked.out
    assert "authorizations: 1 altered (state), 0 missing, 1 that no entry speaks of" in checked.out
    assert "written" not in checked.out
    repaired = await command("ledger", "rebuild")
    assert (repaired.status, repaired.err) == (0, "")
    assert "2 rows written, 1 deleted" in repaired.out
    assert await damaged.count("authorizations") == 2
    again = await command("ledger", "rebuild", "--check")
    assert again.status == 0
    assert "every row is as the record has it" in again.out


async def test_findings_for_machines(command: Command, damaged: Store) -> None:
    checked = await command("ledger", "rebuild", "--check", "--json")
    assert checked.status == 1
    said = json.loads(checked.out)
    assert (said["sound"], said["written"], said["deleted"]) == (True, 0, 0)
    assert said["authorizations"]["columns"] == ["state"]
    assert (said["sends"]["missing"], len(said["sends"]["first"])) == (1, 1)
    repaired = await command("ledger", "rebuild", "--json")
    assert repaired.status == 0
    said = json.loads(repaired.out)
    assert (said["written"], said["deleted"], said["authorizations"]["surplus"]) == (2, 1, 1)
    assert said["size"] == await damaged.count("entry")


async def test_a_record_that_is_not_sound_is_no_source(command: Command, damaged: Store) -> None:
    await damaged.do("UPDATE head SET root = sha256('x')")
    for words in ((), ("--json",), ("--check",)):
        ended = await command("ledger", "rebuild", *words)
        assert ended.status == 1
        assert "the entries have another root than the head" in ended.out
    assert await damaged.count("authorizations") == 3


async def test_details_that_were_not_committed_to_are_told(
    command: Command, damaged: Store
) -> None:
    await damaged.do("UPDATE detail SET body = '{}'")
    ended = await command("ledger", "rebuild")
    assert ended.status == 1
    assert "details are not what their entries commit to" in ended.out
    assert await damaged.count("authorizations") == 2


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = StringIO()
    monkeypatch.setattr(ledger_rebuild, "console", Console(file=shown, force_terminal=True))
    with ledger_rebuild._progress() as on_progress:
        on_progress(1, 2)
        on_progress(2, 2)
    assert "comparing" in shown.getvalue()
    assert "100%" in shown.getvalue()
