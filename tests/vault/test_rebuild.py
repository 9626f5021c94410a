"""Rows that are made again from the ledger: what differs is found, and becomes what it was."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.vault.ledger.samples import new_uuid
from tests.vault.ledger.test_store import appending
from tests.vault.request_story import EVENTS, Story, telling_stories
from tests.vault.rows import Sender, outcome_entry, statement
from tests.vault.stores import Store
from vault import rebuild
from vault.authorization import Result, State
from vault.db import Record
from vault.derived_rows import REQUESTS, SENDS
from vault.errors import StoreUnavailable
from vault.intent_table import LEASE
from vault.ledger.states import States
from vault.ledger.unit import Line, Statement, Unit
from vault.rebuild import Findings, check_rows, rebuild_rows

pytestmark = pytest.mark.embedded

LIVES = (  # a request each, and between them every column and every state
    ("begin", "approved"),
    ("begin", "declined", "contradicted"),
    ("begin", "not_sent", "again", "approved"),
    ("begin", "unknown", "again", "approved"),
    ("begin", "unknown"),
    ("begin", "unknown", "late"),
    ("begin", "unknown", "not_found", "again"),
    ("begin", "unknown", "again", "unknown", "found"),
)


async def check(store: Store) -> Findings:
    return await check_rows(store.database, on_progress=lambda _done, _total: None)


async def repair(store: Store) -> Findings:
    return await rebuild_rows(store.database, on_progress=lambda _done, _total: None)


async def tables(store: Store) -> tuple[Sequence[Record], Sequence[Record]]:
    return (
        await store.rows("SELECT * FROM intent_state ORDER BY intent"),
        await store.rows("SELECT * FROM authorizations ORDER BY first"),
    )


def is_clean(found: Findings) -> bool:
    assert found.problems == []
    return found.rows_that_differ == 0 and found.false_details == 0


@pytest.fixture
async def story(store: Store, tmp_path: Path) -> AsyncIterator[Story]:
    async with telling_stories(store, tmp_path) as made:
        yield made


async def told(story: Story) -> Story:
    """Let every life of the list be lived."""
    for number, life in enumerate(LIVES):
        for event in life:
            story.store.clock.advance(seconds=0.0123456)
            await story.happens(number, event)
    return story


# --- the same rows --------------------------------------------------------------------------


@pytest.mark.guards("T-61")
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(st.sampled_from(EVENTS), min_size=3, max_size=3), max_size=14))
async def test_any_story_gives_the_rows_that_its_entries_tell(
    shared_store: Store, tmp_path_factory: pytest.TempPathFactory, rounds: list[list[str]]
) -> None:
    async with telling_stories(shared_store, tmp_path_factory.mktemp("spool")) as story:
        await story.tell(rounds)
    found = await check(shared_store)
    assert is_clean(found), (found.sends, found.requests)
    assert (await shared_store.report()).violations == ()


async def test_every_state_is_lived_through(story: Story) -> None:
    await told(story)
    assert is_clean(await check(story.store))
    states = await story.store.rows("SELECT DISTINCT state FROM intent_state")
    assert {row["state"] for row in states} == set(State)


async def test_an_empty_log_has_no_rows(store: Store) -> None:
    found = await check(store)
    assert is_clean(found)
    assert (found.size, found.sends.first) == (0, [])


async def test_pages_make_no_difference(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "PAGE_ENTRIES", 3)
    monkeypatch.setattr(rebuild, "PAGE_REQUESTS", 2)
    await told(story)
    seen: list[tuple[int, int]] = []
    found = await check_rows(
        story.store.database, on_progress=lambda done, total: seen.append((done, total))
    )
    assert is_clean(found)
    assert seen == sorted(seen)
    assert seen[-1] == (2 * found.size, 2 * found.size)
    before = await tables(story.store)
    await story.store.do("UPDATE authorizations SET state = 'unknown', leaf = ''")
    await story.store.do("DELETE FROM intent_state WHERE attempt > 1")
    again = await repair(story.store)
    assert again.requests.altered == len(before[1])
    assert is_clean(await check(story.store))
    assert (await tables(story.store))[1] == before[1]


# --- damage ---------------------------------------------------------------------------------

TEXT = "coalesce({0}, '') || 'x'"
NUMBER = "coalesce({0}, 0) + 1"
TIME = "coalesce({0}, now()) + interval '1 second'"
OTHER: dict[str, str] = {  # a value that a column does not have
    **dict.fromkeys(("first", "boot"), "gen_random_uuid()"),
    **dict.fromkeys(("attempt", "status", "opened_idx", "last_idx", "amount", "idx"), NUMBER),
    **dict.fromkeys(("opened_at", "ended_at", "created_at", "updated_at"), TIME),
    **dict.fromkeys(("tenant", "route", "replica", "operation", "kind", "currency"), TEXT),
    **dict.fromkeys(("result", "finding", "phase", "reason", "merchant_reference"), TEXT),
    **dict.fromkeys(("processor_reference", "decline_code", "authorization_code"), TEXT),
    "tokens": "array_append({0}, 'pwt')",
    "opens_cvc": "NOT {0}",
    "state": "CASE {0} WHEN 'unknown' THEN 'completed' ELSE 'unknown' END",
    "leaf": "decode('00', 'hex') || {0}",
    "key_digest": "coalesce({0}, '') || decode('00', 'hex')",
}
NOT_TOLD = {"phase": "state <> 'resolved'", "reason": "state <> 'resolved'"}


@pytest.mark.guards("T-61")
async def test_an_altered_column_is_found_and_repaired(story: Story) -> None:
    store = (await told(story)).store
    await store.do(  # which says as little
        "UPDATE authorizations SET merchant_reference = NULL WHERE merchant_reference = ''"
    )
    for number, table in enumerate((SENDS, REQUESTS)):
        for column in set(table.columns) - {table.key}:
            before = await tables(store)
            where = NOT_TOLD.get(column, "true")
            other = OTHER[column].format(column)
            await store.do(f"UPDATE {table.name} SET {column} = {other} WHERE {where}")  # noqa: S608
            found = await check(store)
            findings = (found.sends, found.requests)[number]
            untouched = (found.sends, found.requests)[1 - number]
            assert findings.columns == {column}
            assert findings.altered == found.rows_that_differ > 5
            assert len(findings.first) == min(findings.altered, rebuild.IDS_SHOWN_MAX)
            assert untouched.total == 0
            assert found.written == 0
            assert (await repair(store)).written == findings.altered
            assert is_clean(await check(store)), column
            if OTHER[column] is not TIME:  # of which entries have the milliseconds
                assert await tables(store) == before, column


@pytest.mark.guards("T-61")
async def test_what_is_missing_is_made_again(story: Story) -> None:
    store = (await told(story)).store
    sends, requests = await tables(store)
    await store.do("DELETE FROM intent_state WHERE attempt = 1")
    await store.do("DELETE FROM authorizations WHERE state <> 'completed'")
    found = await repair(store)
    gone = [row for row in sends if row["attempt"] == 1]
    hidden = [row for row in requests if row["state"] != "completed"]
    assert (found.sends.missing, found.requests.missing) == (len(gone), len(hidden))
    assert (found.sends.altered, found.requests.altered) == (0, 0)
    assert found.written == len(gone) + len(hidden)
    assert is_clean(await check(store))
    made = {row["intent"]: row for row in (await tables(store))[0]}
    for row in gone:
        again = made[row["intent"]]
        assert again["due"] == again["opened_at"] + LEASE
        assert (again["state"], again["tries"]) == (row["state"], 0)


@pytest.mark.guards("T-61")
async def test_what_no_entry_speaks_of_is_found_and_deleted(story: Story) -> None:
    store = (await told(story)).store
    before = await tables(store)
    repeat = next(row for row in before[0] if row["attempt"] > 1)
    invented = [secrets.token_hex(16), "0" * 32, repeat["intent"].hex]
    for identity, own_send in zip(invented, (True, True, False), strict=True):
        for table in (SENDS, REQUESTS) if own_send else (REQUESTS,):
            names = ", ".join(table.columns)
            values = names.replace(table.key, f"'{identity}'", 1)
            due = (", due", ", now()") if table is SENDS else ("", "")
            await store.do(
                f"INSERT INTO {table.name} ({names}{due[0]})"  # noqa: S608
                f" SELECT {values}{due[1]} FROM {table.name} LIMIT 1"
            )
    found = await check(store)
    assert (found.sends.surplus, found.requests.surplus) == (2, 3)
    assert found.rows_that_differ == 5
    assert found.sends.first[0] == "00000000-0000-0000-0000-000000000000"
    assert (await repair(store)).deleted == 5
    assert await tables(store) == before


@pytest.mark.guards("T-61")
async def test_a_row_under_another_key_is_missing_and_surplus(story: Story) -> None:
    store = (await told(story)).store
    await store.do("UPDATE authorizations SET first = gen_random_uuid()")
    found = await repair(store)
    assert found.requests.missing == found.requests.surplus == found.deleted > 0
    assert is_clean(await check(store))


# --- what entries do not tell ---------------------------------------------------------------


async def test_what_erased_details_said_stays_and_does_not_come_back(story: Story) -> None:
    store = story.store
    for number in (0, 1):
        await story.happens(number, "begin")
        await story.happens(number, "approved")
    await store.do("DELETE FROM detail")
    found = await check(store)
    assert is_clean(found)
    assert found.erased_details >= 4
    await store.do("UPDATE authorizations SET amount = 5, processor_reference = 'pi_9'")
    assert is_clean(await check(store))
    await store.do("UPDATE authorizations SET state = 'declined', currency = 'XXX'")
    assert (await repair(store)).requests.columns == {"state"}
    shown = await store.rows(
        "SELECT DISTINCT state = 'declined' AS wrong, amount, processor_reference, currency"
        " FROM authorizations"
    )
    assert [tuple(row) for row in shown] == [(False, 5, "pi_9", "XXX")]
    await store.do("DELETE FROM authorizations")
    await repair(store)
    (shown_again,) = await store.rows(
        "SELECT DISTINCT amount, currency, merchant_reference, processor_reference,"
        " authorization_code, key_digest FROM authorizations"
    )
    assert set(shown_again.values()) == {None}


@pytest.mark.guards("T-61")
async def test_details_that_were_not_committed_to_are_not_believed(story: Story) -> None:
    store = story.store
    await story.happens(1, "begin")
    await store.do(
        "UPDATE detail SET body = replace(convert_from(body, 'UTF8'), '1999', '1')::bytea"
        " WHERE id::text = $1",
        story.last[1].id,
    )
    await store.do("UPDATE authorizations SET amount = 7, route = 'x' WHERE amount = 1999")
    found = await repair(store)
    assert found.false_details == 1
    assert found.requests.columns >= {"route"}
    assert await store.value("SELECT amount FROM authorizations") == 7


# --- a log that is not sound ----------------------------------------------------------------

OTHER_ROOT = "the entries have another root than the head"
OTHER_COLUMNS = "the columns are not those of the entry"
BREAKING = [
    ("UPDATE head SET root = sha256('x')", OTHER_ROOT),
    ("UPDATE head SET size = size + 1", OTHER_ROOT),
    ("DELETE FROM entry WHERE idx = 4", OTHER_ROOT),
    ("UPDATE entry SET body = '{}' WHERE idx = 3", "the bytes are no entry"),
    ("UPDATE entry SET type = 'x' WHERE idx = 3", OTHER_COLUMNS),
    ("UPDATE entry SET intent = NULL WHERE type = 'authorization.completed'", OTHER_COLUMNS),
    ("UPDATE entry SET id = gen_random_uuid() WHERE idx = 3", OTHER_COLUMNS),
]


@pytest.mark.guards("T-60")
@pytest.mark.parametrize(("breaking", "message"), BREAKING)
async def test_a_log_that_is_not_sound_is_no_source(
    store: Store, tmp_path: Path, breaking: str, message: str
) -> None:
    async with telling_stories(store, tmp_path) as story:
        await story.tell([["begin", "begin"], ["approved", "approved"]])
    await store.do("UPDATE authorizations SET route = 'other'")
    before = await tables(store)
    await store.do("ALTER TABLE entry DISABLE TRIGGER no_rewrite")
    await store.do(breaking)
    found = await repair(store)
    assert message in [one.message for one in found.problems]
    assert not found.is_sound
    assert (found.written, found.deleted) == (0, 0)
    assert await tables(store) == before


@pytest.mark.guards("T-61")
async def test_an_outcome_that_may_not_follow_is_no_source(store: Store, tmp_path: Path) -> None:
    """As one that was appended without asking what is on record."""
    async with telling_stories(store, tmp_path) as story:
        await story.tell([["begin"], ["approved"]])
        first = outcome_entry(story.last[0].id, story.tenant, State.COMPLETED, Result.DECLINED)
        (place,) = await story.replica.ledger.append(Statement((Line(first),)))
    await store.do("UPDATE authorizations SET route = 'other'")
    found = await repair(store)
    assert [one.index for one in found.problems] == [place.idx]
    assert found.written == 0


@pytest.mark.guards("T-61")
async def test_a_repeat_of_nothing_is_no_source(store: Store, tmp_path: Path) -> None:
    async with telling_stories(store, tmp_path) as story:
        unit = Sender(story.tenant).opens(first=new_uuid(), attempt=2)
        await story.replica.ledger.append(Statement(unit.lines))
    found = await repair(store)
    assert [one.message for one in found.problems] == [
        "a later attempt does not name an earlier first one"
    ]


async def test_not_all_problems_are_told(store: Store, tmp_path: Path) -> None:
    async with telling_stories(store, tmp_path) as story:
        lines = [line for _ in range(30) for line in statement().lines]
        await story.replica.ledger.append(Statement(lines))
    await store.do("ALTER TABLE entry DISABLE TRIGGER no_rewrite")
    await store.do("UPDATE entry SET id = gen_random_uuid()")
    found = await check(store)
    assert found.problems_total > len(found.problems) == rebuild.PROBLEMS_SHOWN_MAX


# --- beside a running gateway ---------------------------------------------------------------


async def appended_before_the_repair(
    story: Story, *events: str, units: Sequence[Unit] = ()
) -> Findings:
    """Let the check see the log without what a writer that is in its turn appends."""
    store = story.store
    async with store.head_locked():
        happening = [asyncio.create_task(story.happens(0, event)) for event in events]
        appended = appending(story.replica.ledger, *units)
        await store.until_blocked()
        repairing = asyncio.create_task(repair(store))
        await store.until_blocked(2)
    await asyncio.gather(*happening, *appended)
    return await repairing


@pytest.mark.parametrize("event", ["approved", "unknown", "again", "begin"])
async def test_what_is_appended_meanwhile_is_in_the_rows(
    store: Store, tmp_path: Path, event: str
) -> None:
    async with telling_stories(store, tmp_path) as story:
        await story.tell([["begin", "begin"], ["unknown" if event == "again" else "crash"]])
        if event in {"approved", "unknown"}:
            await story.happens(0, "begin")
        await store.do("UPDATE authorizations SET route = 'other', idx = 0")
        found = await appended_before_the_repair(story, event)
        assert found.is_sound
        assert found.written == found.rows_that_differ > 1
        assert is_clean(await check(store))
        await store.do("DELETE FROM intent_state")
        await repair(store)
        assert is_clean(await check(store))


async def test_what_is_appended_meanwhile_and_is_not_sound_ends_the_repair(
    store: Store, tmp_path: Path
) -> None:
    async with telling_stories(store, tmp_path) as story:
        await story.tell([["begin"], ["approved"]])
        await store.do("UPDATE authorizations SET route = 'other'")
        wrong = outcome_entry(story.last[0].id, story.tenant, State.NOT_SENT)
        unit = Statement((Line(wrong),))
        found = await appended_before_the_repair(story, units=[unit])
        assert (found.rows_that_differ, found.written) == (1, 0)
        assert not found.is_sound


async def test_what_an_entry_speaks_of_by_now_is_not_deleted(store: Store, tmp_path: Path) -> None:
    async with telling_stories(store, tmp_path) as story:
        await story.tell([["begin"]])
        unit = Sender(story.tenant).opens()
        await store.do(
            "INSERT INTO intent_state SELECT (jsonb_populate_record(i,"
            " jsonb_build_object('intent', $1::text))).* FROM intent_state i",
            unit.facts.intent,
        )
        found = await appended_before_the_repair(story, units=[Statement(unit.lines)])
        assert (found.sends.surplus, found.deleted) == (1, 0)


async def test_checking_sees_one_moment(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with telling_stories(store, tmp_path) as story:
        await story.tell([["begin"]])
        entries = rebuild._Rows._fold

        async def folded(
            rows: rebuild._Rows, firsts: Sequence[UUID]
        ) -> tuple[States, rebuild._Told]:
            told = await entries(rows, firsts)
            await story.happens(0, "approved")
            return told

        monkeypatch.setattr(rebuild._Rows, "_fold", folded)
        assert is_clean(await check(store))


async def test_checking_waits_for_nobody(story: Story) -> None:
    await told(story)
    async with story.store.head_locked():
        assert is_clean(await check(story.store))


async def test_a_repair_that_does_not_get_its_turn_says_so(story: Story) -> None:
    await told(story)
    await story.store.do("UPDATE authorizations SET route = 'other'")
    async with story.store.head_locked():
        with pytest.raises(StoreUnavailable) as refused:
            await repair(story.store)
    assert refused.value.__cause__ is refused.value.__context__ is None
    await repair(story.store)
