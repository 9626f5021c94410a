"""A page by itself: read all at once or one by one, the summary is the same."""

from dataclasses import replace
from hashlib import sha256
from uuid import UUID

import pytest
from msgspec import structs, to_builtins

from tests.vault.ledger.samples import new_uuid
from tests.vault.ledger.signed_story import later, purchases
from tests.vault.ledger.written_log import Log, attempted, opened_log, outcome
from vault.authorization import State
from vault.ledger import examination
from vault.ledger.detail import commitment
from vault.ledger.entry import Draft, decode
from vault.ledger.examination import NOT_REPEATED, examine
from vault.ledger.pages import PAGE_ENTRIES, Beat, Examined, Group, Kept, Page, Stored, page_of
from vault.ledger.rules import Rule, Violation
from vault.ledger.summary import GOES_BACK
from vault.ledger.tree import CompactRange, root_of


def page(log: Log, **changes: object) -> Page:
    made = page_of(0, [row.body for row in log.rows], [row.leaf for row in log.rows])
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def stored_page(log: Log) -> Page:
    """With the columns as a database has them."""
    made = page(log)
    for group in made.groups:
        entries = [decode(body) for body in group.bodies]
        group.type = entries[0].type
        group.stored = Stored(
            [UUID(one.intent_id).bytes if one.intent_id else b"" for one in entries],
            [str(getattr(one, "tenant", "")) for one in entries],
            [UUID(one.id).bytes for one in entries],
        )
    return made


def comparable(examined: Examined) -> object:
    """In one order: groups are read as they come."""
    opened = sorted(zip(examined.opened, cut(examined.opened_tokens, 28), strict=True))
    deleted = sorted(zip(examined.deleted, cut(examined.deleted_tokens, 28), strict=True))
    ended = sorted(zip(examined.ended_at, cut(examined.ended, 16), strict=True))
    built = to_builtins(examined, builtin_types=(bytes,))
    plain = [one for one in built if not isinstance(one, bytes)]
    for one in plain:
        if isinstance(one, list):
            one.sort(key=repr)
    return plain, opened, deleted, ended, examined.leaves, examined.tiles


def cut(raw: bytes, width: int) -> list[bytes]:
    return [raw[at : at + width] for at in range(0, len(raw), width)]


def test_all_at_once_and_one_by_one_come_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    made = stored_page(purchases(700))
    made.marks, made.joins, made.details = [3, 256, 300, 700], True, []
    quick = comparable(examine(made))
    read: list[str] = []

    def never(name: str, _bodies: object) -> None:
        read.append(name)

    monkeypatch.setattr(examination, "read_alike", never)
    assert comparable(examine(made)) == quick
    assert "authorization.attempted" in read


@pytest.mark.parametrize("count", [1, 255, 256, 257, 700, PAGE_ENTRIES])
def test_the_tree_of_a_page(count: int) -> None:
    log = purchases(count)
    leaves = [row.leaf for row in log.rows]
    marks = sorted({1, count, *(size for size in (2, 255, 256, 511, 512) if size <= count)})
    found = examine(page(log, marks=marks))
    whole = CompactRange()
    whole.extend(leaves)
    assert tuple(found.peaks) == whole.peaks
    assert [root_of(leaves[at : at + 256]) for at in range(0, count // 256 * 256, 256)] == cut(
        found.tiles, 32
    )
    for mark in found.marks:
        part = CompactRange()
        part.extend(leaves[: mark.size])
        assert tuple(mark.peaks) == part.peaks
    assert bool(found.leaves) == (count != PAGE_ENTRIES)


# --- columns ------------------------------------------------------------------------------


@pytest.mark.guards("T-31")
@pytest.mark.parametrize("column", ["ids", "intents", "tenants"])
@pytest.mark.parametrize("row", [0, 1, 2, 3, 100])
def test_each_column_is_compared(column: str, row: int) -> None:
    made = stored_page(purchases(200))
    group, at = next(
        (group, group.places.index(row)) for group in made.groups if row in group.places
    )
    assert group.stored is not None
    values = list(getattr(group.stored, column))
    values[at] = UUID(new_uuid()).bytes if column != "tenants" else "t_99"
    setattr(group.stored, column, values)
    assert examine(made).violations == [Violation(Rule.COLUMNS, row, NOT_REPEATED)]


@pytest.mark.guards("T-31")
def test_the_type_beside_an_entry_is_compared() -> None:
    made = stored_page(purchases(50))
    one = next(group for group in made.groups if group.type == "token.created")
    made.groups = [
        Group("token.deleted", g.places, g.bodies, g.leaves, g.stored) if g is one else g
        for g in made.groups
    ]
    found = examine(made).violations
    assert {(each.rule, each.index) for each in found} == {
        (Rule.COLUMNS, place) for place in one.places
    }


# --- details ------------------------------------------------------------------------------

SALT, WORDS = bytes(32), b'{"customer_reference":"c-1"}'


def committed_log() -> Log:
    log = opened_log()
    for _ in range(3):
        intent = new_uuid()
        log.add(attempted(intent))
        log.add(with_detail(outcome(intent, State.COMPLETED)))
    return log


def with_detail(draft: Draft) -> Draft:
    return structs.replace(draft, detail=commitment(SALT, WORDS))


@pytest.mark.guards("T-31")
def test_details_are_what_entries_commit_to() -> None:
    kept = [Kept(3, SALT, WORDS), Kept(5, SALT, WORDS + b" "), Kept(2, SALT, WORDS)]
    found = examine(page(committed_log(), details=kept))
    assert [(one.rule, one.index) for one in found.violations] == [
        (Rule.DETAIL, 2),
        (Rule.DETAIL, 5),
    ]
    assert (found.details_kept, found.details_missing) == (1, [7])


def test_details_that_nobody_asked_for() -> None:
    found = examine(page(committed_log()))
    assert (found.details_kept, found.details_missing) == (0, [])


def test_a_salt_that_is_none() -> None:
    found = examine(page(committed_log(), details=[Kept(3, b"", WORDS)]))
    assert [(one.rule, one.index) for one in found.violations] == [(Rule.DETAIL, 3)]


# --- boots and times ----------------------------------------------------------------------


def test_a_boot_without_incident_is_one_beat() -> None:
    log = purchases(300)
    beats = examine(page(log)).beats
    assert [(beat.index, beat.n, beat.count) for beat in beats] == [
        (0, 0, 1),
        (1, 1, 1),
        (2, 2, 298),
    ]
    assert (beats[0].opens_log, beats[1].starts) == (True, True)
    later_page = page_of(256, *zip(*((r.body, r.leaf) for r in log.rows[256:]), strict=True))
    (beat,) = examine(later_page).beats
    assert beat == Beat(256, beat.replica, beat.boot, 256, 44)


def test_a_clock_that_was_set_back_is_noted() -> None:
    log = opened_log()
    for n, seconds in enumerate((0, 60, 50.001, 49, 3600, 0), 2):
        intent = new_uuid()
        log.add(attempted(intent))
        body = later(log.rows[n].body, seconds=seconds)
        log.rows[n] = replace(log.rows[n], body=body, leaf=sha256(b"\0" + body).digest())
    found = examine(page(log))
    assert found.warnings == [Violation(Rule.V8, 7, GOES_BACK)]
    assert found.newest_index == 6
    assert found.violations == []
