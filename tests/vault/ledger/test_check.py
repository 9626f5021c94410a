"""The auditor's rules: a true log passes, and each way of being untrue is named with its index."""

from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace as replace_entry

from tests import cards
from tests.vault.ledger.samples import AT, ORIGIN, VKEY, WRITER, new_hash, new_token, new_uuid
from tests.vault.ledger.signed_story import KEY, published, purchases
from tests.vault.ledger.written_log import (
    OTHER_REPLICA,
    REPLICA,
    Log,
    attempted,
    check,
    created,
    deleted,
    opened,
    opened_log,
    outcome,
    started,
    stopped,
)
from tests.vault.memory_log import MemoryLog
from vault.authorization import MAY_FOLLOW, State
from vault.ledger.check import VIOLATIONS_KEPT_MAX, LogCheck, Report, TileRows
from vault.ledger.checkpoint import cosignature, cosigned_text
from vault.ledger.entry import (
    DetailErased,
    KeyRotated,
    OldBoot,
    Opening,
    Stamp,
    decode,
    encode,
)
from vault.ledger.examination import examine
from vault.ledger.held import SignedHead, Source, Trust
from vault.ledger.looking_back import LEASE_SECONDS, OpenIntent, UnstoppedBoot
from vault.ledger.note import COSIGNATURE, ED25519, Note, VerifierKey, signed, verifier_key
from vault.ledger.pages import PAGE_ENTRIES, page_of
from vault.ledger.policy import parse_policy
from vault.ledger.rules import Rule, Violation
from vault.ledger.tiles import TileName
from vault.ledger.tree import EMPTY_ROOT, leaf_hash, root_of

# --- a true log ---------------------------------------------------------------------------


def test_an_empty_log() -> None:
    assert check([], 0, EMPTY_ROOT) == Report(0, EMPTY_ROOT, (), 0, (), ())


def test_a_true_log_with_all_that_may_happen() -> None:
    log = opened_log()
    token, single_use = new_token(), new_token()
    one, two, three, four = (new_uuid() for _ in range(4))
    log.add(created(token))
    log.add(created(single_use))
    log.start(OTHER_REPLICA)
    log.add(attempted(one, token))
    log.add(attempted(two, single_use), replica=OTHER_REPLICA)
    log.add(outcome(one, State.UNKNOWN))
    log.add(attempted(three, token, attempt=2, of=one))
    log.add(outcome(three, State.COMPLETED))
    log.add(outcome(one, State.RESOLVED))
    ended = log.add(outcome(two, State.NOT_SENT), replica=OTHER_REPLICA)
    ended = log.add(outcome(two, State.RESOLVED, supersedes=ended), replica=OTHER_REPLICA)
    log.add(outcome(two, State.RESOLVED, supersedes=ended), replica=OTHER_REPLICA)
    log.add(deleted(single_use))
    log.add(stopped())
    crashed, counted = log.boots[OTHER_REPLICA]
    log.start()  # after an orderly stop nobody need be named
    log.start(OTHER_REPLICA, OldBoot(boot=crashed, n=counted - 1))
    log.add(attempted(four, token, attempt=3, of=one))
    log.add(stopped(), replica=OTHER_REPLICA)

    report = log.check()
    assert report.violations == ()
    assert report.violations_total == 0
    assert report.size == len(log.rows)
    assert report.open_intents == (OpenIntent(four, State.ATTEMPTED, len(log.rows) - 2),)
    assert report.unstopped_boots == (UnstoppedBoot(REPLICA, log.boots[REPLICA][0], 1),)


def test_a_log_longer_than_what_waits_for_the_tree() -> None:
    log = opened_log()
    for _ in range(PAGE_ENTRIES + 1):
        log.add(deleted(new_token()))
    assert log.check().violations == ()
    assert log.check().root == root_of(row.leaf for row in log.rows)


# --- bytes, columns, head -----------------------------------------------------------------


def small_log() -> Log:
    log = opened_log()
    intent = new_uuid()
    log.add(attempted(intent, new_token()))
    log.add(outcome(intent, State.COMPLETED))
    return log


@pytest.mark.guards("T-31")
@pytest.mark.guards("T-60")
def test_every_changed_byte_of_an_entry_is_named_with_its_index() -> None:
    log = small_log()
    head = root_of(row.leaf for row in log.rows)
    for row in log.rows:
        for place in range(len(row.body)):
            changed = bytearray(row.body)
            changed[place] ^= 1
            rows = [*log.rows]
            rows[row.index] = replace(row, body=bytes(changed))
            report = check(rows, len(rows), head)
            assert report.violations[0] == Violation(
                Rule.LEAF, row.index, "the leaf hash is not that of the entry"
            )
            assert Rule.HEAD in {found.rule for found in report.violations}


@pytest.mark.guards("T-31")
def test_every_changed_byte_of_a_leaf_hash_is_named_with_its_index() -> None:
    log = small_log()
    head = root_of(row.leaf for row in log.rows)
    for row in log.rows:
        for place in range(32):
            changed = bytearray(row.leaf)
            changed[place] ^= 1
            rows = [*log.rows]
            rows[row.index] = replace(row, leaf=bytes(changed))
            found = check(rows, len(rows), head).violations
            assert [(one.rule, one.index) for one in found] == [(Rule.LEAF, row.index)]


@pytest.mark.guards("T-31")
def test_an_entry_that_is_changed_with_its_hash_changes_the_root() -> None:
    log = small_log()
    head = root_of(row.leaf for row in log.rows)
    body = log.rows[3].body.replace(b'"status":200', b'"status":402')
    log.rows[3] = replace(log.rows[3], body=body, leaf=leaf_hash(body))
    found = check(log.rows, len(log.rows), head).violations
    assert [(one.rule, one.index) for one in found] == [(Rule.HEAD, None)]


@pytest.mark.guards("T-31")
def test_columns_repeat_the_entry() -> None:
    log = small_log()
    log.rows[1] = replace(log.rows[1], intent=new_uuid())
    log.rows[2] = replace(log.rows[2], intent=None)
    log.rows[3] = replace(log.rows[3], type="authorization.not_sent")
    log.add(stopped())
    log.rows[4] = replace(log.rows[4], type="canary")
    assert log.broken() == [(Rule.COLUMNS, index) for index in (1, 2, 3, 4)]


@pytest.mark.guards("T-60")
def test_an_entry_that_is_missing_is_a_gap() -> None:
    log = small_log()
    head = root_of(row.leaf for row in log.rows)
    del log.rows[2]
    found = check(log.rows, 4, head).violations
    assert [(one.rule, one.index) for one in found] == [
        (Rule.INDEX, 3),
        (Rule.V5, 3),
        (Rule.V3, 3),
        (Rule.HEAD, None),
        (Rule.HEAD, None),
    ]


@pytest.mark.guards("T-60")
def test_a_cut_tail_differs_from_the_head() -> None:
    log = small_log()
    head = root_of(row.leaf for row in log.rows)
    found = check(log.rows[:3], 4, head).violations
    assert [one.rule for one in found] == [Rule.HEAD, Rule.HEAD]


@pytest.mark.guards("T-60")
def test_swapped_entries_are_out_of_order() -> None:
    log = small_log()
    log.rows[2], log.rows[3] = log.rows[3], log.rows[2]
    assert {rule for rule, _ in log.broken()} == {Rule.INDEX, Rule.V3, Rule.V5}


def test_a_head_of_another_size_or_root() -> None:
    log = small_log()
    root = root_of(row.leaf for row in log.rows)
    assert [one.message for one in check(log.rows, 5, root).violations] == [
        "the head counts another number of entries"
    ]
    assert [one.message for one in check(log.rows, 4, bytes(32)).violations] == [
        "the entries have another root than the head"
    ]


def test_findings_are_counted_but_not_all_kept() -> None:
    log = opened_log()
    for _ in range(VIOLATIONS_KEPT_MAX + 5):
        log.add_bytes(b"{}", "log.opened")
    report = log.check()
    assert len(report.violations) == VIOLATIONS_KEPT_MAX
    assert report.violations_total == VIOLATIONS_KEPT_MAX + 5


# --- V1, V2, V9 ---------------------------------------------------------------------------


def test_unreadable_entries() -> None:
    log = opened_log()
    log.add_bytes(log.rows[0].body + b" ", "log.opened")
    log.add_bytes(b"\xff", "log.opened")
    assert log.broken() == [(Rule.V1, 2), (Rule.V1, 3)]


def test_entries_of_a_later_version() -> None:
    log = opened_log()
    log.add_bytes(log.rows[1].body.replace(b'"v":1', b'"v":2'), "gateway.started")
    log.add_bytes(log.rows[1].body.replace(b"started", b"resumed"), "gateway.resumed")
    assert log.broken() == [(Rule.V2, 2), (Rule.V2, 3)]


def test_a_log_is_opened_once_and_first() -> None:
    log = Log()
    log.start()
    assert log.broken() == [(Rule.V1, 0)]
    log = opened_log()
    log.add(opened())
    assert log.broken() == [(Rule.V1, 2)]


@pytest.mark.guards("T-38")
@pytest.mark.parametrize("written", [cards.VISA, cards.VISA.encode().hex()])
def test_a_card_number_is_found_in_readable_and_unreadable_entries(written: str) -> None:
    log = opened_log()
    body = encode(attempted(new_uuid()), Stamp(AT, REPLICA, log.boots[REPLICA][0], 2))
    body = body.replace(b'"stripe"', b'"%b"' % written.encode())
    intent = decode(body).intent_id
    log.add_bytes(body, "authorization.attempted", intent)
    log.add_bytes(body[:-1], "authorization.attempted", intent)
    assert log.broken() == [(Rule.V9, 2), (Rule.V9, 3), (Rule.V1, 3)]
    assert not any(cards.VISA in str(found) for found in log.check().violations)


# --- V3 -----------------------------------------------------------------------------------

OUTCOMES = sorted(set(State) - {State.ATTEMPTED})


@pytest.mark.guards("T-61")
@pytest.mark.parametrize("state", OUTCOMES)
def test_an_outcome_needs_an_earlier_intent(state: State) -> None:
    log = opened_log()
    log.add(outcome(new_uuid(), state))
    assert log.broken() == [(Rule.V3, 2)]


@pytest.mark.guards("T-61")
@pytest.mark.parametrize("second", OUTCOMES)
@pytest.mark.parametrize("first", OUTCOMES)
def test_every_pair_of_outcomes(first: State, second: State) -> None:
    log = opened_log()
    intent = new_uuid()
    log.add(attempted(intent))
    log.add(outcome(intent, first))
    log.add(outcome(intent, second))
    expected = []
    state = State.ATTEMPTED
    for index, following in ((3, first), (4, second)):
        if following in MAY_FOLLOW[state]:
            state = following
        else:
            expected.append((Rule.V3, index))
    assert log.broken() == expected


@pytest.mark.parametrize("ended", [State.COMPLETED, State.NOT_SENT])
def test_a_terminal_outcome_is_superseded_by_its_index(ended: State) -> None:
    log = opened_log()
    intent = new_uuid()
    log.add(attempted(intent))
    index = log.add(outcome(intent, ended))
    log.add(outcome(intent, State.RESOLVED, supersedes=index - 1))
    superseding = log.add(outcome(intent, State.RESOLVED, supersedes=index))
    log.add(outcome(intent, State.RESOLVED, supersedes=index))
    log.add(outcome(intent, State.RESOLVED, supersedes=superseding))
    assert log.broken() == [(Rule.V3, 4), (Rule.V3, 6)]


def test_what_is_not_terminal_cannot_be_superseded() -> None:
    log = opened_log()
    intent = new_uuid()
    log.add(attempted(intent))
    index = log.add(outcome(intent, State.UNKNOWN))
    log.add(outcome(intent, State.RESOLVED, supersedes=index))
    assert log.broken() == [(Rule.V3, 4)]
    assert log.check().open_intents == ()


def test_an_intent_happens_once() -> None:
    log = opened_log()
    intent = new_uuid()
    log.add(attempted(intent))
    log.add(attempted(intent))
    log.add(outcome(intent, State.COMPLETED))
    log.add(attempted(intent))
    assert log.broken() == [(Rule.V3, 3), (Rule.V3, 5)]


def test_attempts_count_up() -> None:
    log = opened_log()
    first, second = new_uuid(), new_uuid()
    log.add(attempted(first))
    log.add(attempted(second, attempt=2, of=first))
    log.add(attempted(new_uuid(), attempt=2, of=first))
    log.add(attempted(new_uuid(), attempt=3, of=first))
    log.add(attempted(new_uuid(), attempt=5, of=first))
    assert log.broken() == [(Rule.V3, 4), (Rule.V3, 6)]


def test_later_attempts_name_the_first() -> None:
    log = opened_log()
    first, second = new_uuid(), new_uuid()
    log.add(attempted(first))
    log.add(outcome(first, State.NOT_SENT))
    log.add(attempted(second, attempt=2, of=first))
    log.add(attempted(new_uuid(), attempt=2, of=second))
    log.add(attempted(new_uuid(), attempt=2, of=new_uuid()))
    assert log.broken() == [(Rule.V3, 5), (Rule.V3, 6)]


def test_open_intents_are_reported_with_their_state() -> None:
    log = opened_log()
    one, two = new_uuid(), new_uuid()
    log.add(attempted(one))
    log.add(attempted(two))
    log.add(outcome(two, State.UNKNOWN))
    assert log.check().open_intents == (
        OpenIntent(one, State.ATTEMPTED, 2),
        OpenIntent(two, State.UNKNOWN, 4),
    )


# --- V5 -----------------------------------------------------------------------------------


def test_n_has_no_gap_and_no_repetition() -> None:
    log = opened_log()
    log.add(deleted(new_token()), n=3)
    log.add(deleted(new_token()))
    log.add(deleted(new_token()), n=4)
    assert log.broken() == [(Rule.V5, 2), (Rule.V5, 4)]


def test_n_begins_at_0() -> None:
    log = opened_log()
    log.boot(OTHER_REPLICA)
    log.add(started(), replica=OTHER_REPLICA, n=1)
    assert log.broken() == [(Rule.V5, 2)]


def test_a_boot_begins_with_its_start() -> None:
    log = opened_log()
    log.boot(OTHER_REPLICA)
    log.add(deleted(new_token()), replica=OTHER_REPLICA)
    assert log.broken() == [(Rule.V5, 2)]
    log = Log()
    log.boot()
    log.add(opened())
    log.add(deleted(new_token()))
    assert log.broken() == [(Rule.V5, 1)]


def test_a_boot_starts_once() -> None:
    log = opened_log()
    log.add(started())
    assert log.broken() == [(Rule.V5, 2)]


def test_nothing_follows_a_stop() -> None:
    log = opened_log()
    log.add(stopped())
    log.add(deleted(new_token()))
    assert log.broken() == [(Rule.V5, 3)]


def test_an_interrupted_boot_is_named_by_the_next() -> None:
    log = opened_log()
    log.start()
    assert log.broken() == [(Rule.V5, 2)]
    log.start(previous=OldBoot(boot=log.boots[REPLICA][0], n=0))
    assert log.broken() == [(Rule.V5, 2)]


@pytest.mark.parametrize("wrong", ["boot", "n"])
def test_an_interrupted_boot_is_named_right(wrong: str) -> None:
    log = opened_log()
    boot, counted = log.boots[REPLICA]
    named = OldBoot(boot=boot, n=counted) if wrong == "n" else OldBoot(boot=new_uuid(), n=1)
    log.start(previous=named)
    assert log.broken() == [(Rule.V5, 2)]


def test_a_stopped_boot_may_be_named() -> None:
    log = opened_log()
    log.add(stopped())
    log.start(previous=OldBoot(boot=log.boots[REPLICA][0], n=2))
    assert log.broken() == []


def test_who_has_no_earlier_boot_names_none() -> None:
    log = opened_log()
    log.start(OTHER_REPLICA, OldBoot(boot=new_uuid(), n=3))
    assert log.broken() == [(Rule.V5, 2)]
    log = Log()
    log.boot()
    log.add(opened())
    log.add(started(OldBoot(boot=new_uuid(), n=3)))
    assert log.broken() == [(Rule.V5, 1)]


def test_a_boot_is_over_when_its_replica_starts_again() -> None:
    """A process that was thought dead, or a copy of the machine, goes on."""
    log = opened_log()
    boot, counted = log.boots[REPLICA]
    log.start(previous=OldBoot(boot=boot, n=counted - 1))
    log.boots[REPLICA] = (boot, counted)
    log.add(deleted(new_token()))
    assert log.broken() == [(Rule.V5, 3)]


def test_a_boot_that_is_over_does_not_begin_anew() -> None:
    log = opened_log()
    first = log.boots[REPLICA][0]
    log.start(previous=OldBoot(boot=first, n=1))
    second = log.boots[REPLICA][0]
    log.boot(REPLICA, first)
    log.add(started(OldBoot(boot=second, n=0)))
    assert log.broken() == [(Rule.V5, 3)]


# --- V7 -----------------------------------------------------------------------------------


def test_a_deleted_token_is_not_opened() -> None:
    log = opened_log()
    token, other = new_token(), new_token()
    log.add(attempted(new_uuid(), token))
    log.add(deleted(token))
    log.add(attempted(new_uuid(), other))
    log.add(attempted(new_uuid(), token))
    assert log.broken() == [(Rule.V7, 5)]


# --- any log ------------------------------------------------------------------------------

steps = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(list(State))), max_size=30)


@given(steps)
@settings(max_examples=200)
def test_any_run_of_events_breaks_v3_exactly_where_the_table_says(
    run: list[tuple[int, State]],
) -> None:
    log = opened_log()
    intents = [new_uuid() for _ in range(4)]
    states: dict[str, State] = {}
    expected = []
    for which, state in run:
        intent = intents[which]
        if state is State.ATTEMPTED:
            legal = intent not in states
            index = log.add(attempted(intent))
        else:
            legal = intent in states and state in MAY_FOLLOW[states[intent]]
            index = log.add(outcome(intent, state))
        if legal:
            states[intent] = state
        else:
            expected.append((Rule.V3, index))
    assert log.broken() == expected
    assert {one.intent for one in log.check().open_intents} == {
        intent for intent, state in states.items() if MAY_FOLLOW[state]
    }


@pytest.mark.guards("T-61")
def test_an_intent_that_began_and_ended_in_an_earlier_page_does_not_begin_again() -> None:
    log = opened_log()
    intent = new_uuid()
    log.add(attempted(intent))
    log.add(outcome(intent, State.COMPLETED))
    while len(log.rows) < PAGE_ENTRIES + 5:
        log.add(deleted(new_token()))
    index = log.add(attempted(intent))
    again = log.add(outcome(intent, State.COMPLETED))
    log.add(outcome(new_uuid(), State.COMPLETED))
    assert log.broken() == [(Rule.V3, again), (Rule.V3, again + 1)]
    del log.rows[again:]
    assert log.broken() == [(Rule.V3, index)]


@pytest.mark.guards("T-61")
@pytest.mark.parametrize("items", [1, 32], ids=["read at once", "read one by one"])
def test_a_later_attempt_does_not_come_before_its_first_in_a_page(items: int) -> None:
    log = opened_log()
    opens = tuple(Opening(key="pan", token=new_token(), version=1) for _ in range(items))
    log.add(replace_entry(attempted(new_uuid()), opens=opens))
    first, later_one = new_uuid(), new_uuid()
    index = log.add(attempted(later_one, attempt=2, of=first))
    log.add(attempted(first))
    log.add(outcome(first, State.COMPLETED))
    assert log.broken() == [(Rule.V3, index)]


# --- V4, V7, V8: what needs a clock, a key's announcement, a cosignature ---------------------

TIMEOUT = timedelta(seconds=75 + LEASE_SECONDS)


@pytest.mark.guards("T-61")
@pytest.mark.parametrize(
    ("state", "after"), [(None, TIMEOUT), (State.UNKNOWN, TIMEOUT + timedelta(days=7))]
)
def test_an_intent_is_not_left_without_its_outcome(state: State | None, after: timedelta) -> None:
    log = opened_log()
    intent = new_uuid()
    log.add(attempted(intent))
    if state is not None:
        log.add(outcome(intent, state))
    at = AT.replace(microsecond=678_000)
    assert finished(log, at + after).violations == ()
    late = finished(log, at + after + timedelta(milliseconds=1)).violations
    assert [(one.rule, one.index) for one in late] == [(Rule.V4, len(log.rows) - 1)]
    assert finished(log, None).violations == ()
    assert finished(log, at + after + timedelta(hours=1), timeout_seconds=7200).violations == ()


def finished(log: Log, as_of: datetime | None, **more: float) -> Report:
    made = LogCheck()
    for row in log.rows:
        made.feed(row.index, row.body, row.leaf, row.type, row.intent)
    return made.finish(None, None, as_of=as_of, **more)


def rotated(key: str, old: int, new: int) -> KeyRotated:
    return KeyRotated(
        actor=WRITER,
        id=new_uuid(),
        key=key,
        from_version=old,
        to_version=new,
        vkey=VKEY if key == "ledger" else UNSET,
    )


def test_versions_follow_their_rotations() -> None:
    log = opened_log()
    log.add(created(new_token()))
    log.add(rotated("pan", 1, 2))
    log.add(replace_entry(created(new_token()), key_version=2))
    log.add(replace_entry(created(new_token()), key_version=3))  # its rotation is on its way
    log.add(rotated("pan", 2, 3))
    assert (log.check().violations, log.check().warnings) == ((), ())
    index = log.add(replace_entry(created(new_token()), key_version=4))
    assert [(one.rule, one.index) for one in log.check().warnings] == [(Rule.V7, index)]
    assert log.check().violations == ()


def test_a_key_that_is_rotated_by_itself_is_no_concern() -> None:
    log = opened_log()
    for version in (1, 5, 9):
        log.add(replace_entry(created(new_token()), key_version=version))
    assert log.check().warnings == ()


def test_rotations_of_the_signing_key_follow_each_other() -> None:
    log = opened_log()
    log.add(rotated("ledger", 1, 2))
    index = log.add(rotated("ledger", 1, 3))
    other = log.add(rotated("pan", 1, 2))
    skipped = log.add(rotated("pan", 3, 4))
    assert log.broken() == [(Rule.V7, index)]
    assert other < skipped
    assert [one.index for one in log.check().warnings] == [skipped]


# --- signed heads -------------------------------------------------------------------------


def headed(log: Log, *heads: SignedHead, trust: Trust | None = None) -> Report:
    made = LogCheck(trust or Trust([KEY]))
    for head in heads:
        made.expect(head)
    for first in range(0, len(log.rows), PAGE_ENTRIES):
        rows = log.rows[first : first + PAGE_ENTRIES]
        page = page_of(first, [row.body for row in rows], [row.leaf for row in rows])
        page.marks = made.marks(first, len(rows))
        made.absorb(examine(page))
    return made.finish(None, None)


def heads_of(log: Log, *sizes: int, source: Source = Source.STORED) -> list[SignedHead]:
    made = published(log, *sizes)
    return [SignedHead.parse(note.raw, source) for note in made.checkpoints.values()]


def test_roots_at_every_size_and_around_pages() -> None:
    log = purchases(2 * PAGE_ENTRIES + 3)
    edges = (PAGE_ENTRIES, 2 * PAGE_ENTRIES)
    sizes = {*range(300), *(edge + by for edge in edges for by in (-257, -1, 0, 1, 2))}
    report = headed(log, *heads_of(log, *sizes, len(log.rows)))
    assert report.violations == ()
    assert (report.checkpoints, report.signed_size) == (len(sizes) + 1, len(log.rows))


@pytest.mark.guards("T-60")
def test_a_head_of_another_log_by_its_root_its_name_or_its_key() -> None:
    log, other = purchases(20), purchases(20)
    (head,) = heads_of(other, 12, source=Source.HELD)
    found = headed(log, head).violations
    assert [(one.rule, one.index) for one in found] == [(Rule.CHECKPOINT, 0)]
    named = MemoryLog([row.body for row in log.rows], origin="ledger.example/other")
    (head,) = [SignedHead.parse(named.sign(12).raw, Source.HELD)]
    assert {one.message for one in headed(log, head).violations} == {
        "the held checkpoint of size 12 is another log's",
        "the held checkpoint of size 12 is not good: no known key signed this",
    }
    unknown = Trust([VerifierKey(ORIGIN, ED25519, bytes(32))])
    found = headed(log, *heads_of(log, 12), trust=unknown).violations
    assert [(one.rule, one.index) for one in found] == [(Rule.CHECKPOINT, None)]


@pytest.mark.guards("T-60")
def test_a_head_of_more_than_there_is() -> None:
    log = purchases(20)
    (head,) = heads_of(log, 20, source=Source.HELD)
    del log.rows[15:]
    found = headed(log, head).violations
    assert [(one.rule, one.index) for one in found] == [(Rule.CHECKPOINT, 15)]


@pytest.mark.guards("T-60")
def test_after_a_missing_entry_no_head_is_right() -> None:
    log = purchases(2 * PAGE_ENTRIES + 5)
    heads = heads_of(log, 3, PAGE_ENTRIES + 7, 2 * PAGE_ENTRIES + 5)
    made = LogCheck(Trust([KEY]))
    for head in heads:
        made.expect(head)
    for first, end in ((0, 100), (101, PAGE_ENTRIES), (PAGE_ENTRIES, 2 * PAGE_ENTRIES)):
        rows = log.rows[first:end]
        page = page_of(first, [row.body for row in rows], [row.leaf for row in rows])
        page.marks = made.marks(first, len(rows))
        made.absorb(examine(page))
    report = made.finish(None, None)
    assert (report.violations[0].rule, report.violations[0].index) == (Rule.INDEX, 101)
    assert report.checkpoints == 1


@pytest.mark.guards("T-60")
@pytest.mark.parametrize(("seconds", "broken"), [(0, []), (-9, []), (-11, [(Rule.V8, 19)])])
def test_a_cosignature_is_not_before_what_it_covers(
    seconds: int, broken: list[tuple[Rule, int]]
) -> None:
    log = purchases(20)
    (head,) = heads_of(log, 20)
    at = int(AT.timestamp()) + seconds
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    line = cosignature("w.example/1", public, at, key.sign(cosigned_text(head.note.text, at)))
    witness = VerifierKey("w.example/1", COSIGNATURE, public)
    policy = parse_policy(f"log {VKEY}\nwitness w {witness.text}\nquorum w\n")
    noted = SignedHead.parse(head.note.with_signatures([line]).raw, Source.LATEST)
    found = headed(log, noted, trust=Trust(policy=policy)).violations
    assert [one.rule for one in found] == [rule for rule, _ in broken]
    unwitnessed = SignedHead.parse(head.note.raw, Source.LATEST)
    assert "witnesses" in headed(log, unwitnessed, trust=Trust(policy=policy)).violations[0].message


def test_a_new_key_counts_from_the_checkpoint_that_covers_its_announcement() -> None:
    log = purchases(20)
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    announced = log.add(replace_entry(rotated("ledger", 1, 2), vkey=verifier_key(ORIGIN, public)))
    for _ in range(9):
        log.add(deleted(new_token()))
    made = published(log, announced, announced + 1, len(log.rows))

    def signed_by_new(size: int) -> SignedHead:
        text = made.checkpoints[size].text
        line = signed(text, ORIGIN, public, key.sign(text.encode()))
        return SignedHead.parse(Note(text, (line,)).raw, Source.STORED)

    last = signed_by_new(len(log.rows))
    assert headed(log, *heads_of(log, announced + 1), last).violations == ()
    for heads in ([last], [*heads_of(log, announced), last]):
        (found,) = headed(log, *heads).violations
        assert (found.rule, found.index) == (Rule.CHECKPOINT, None)
    assert headed(log, last, trust=Trust()).violations_total == 1, "nor by the log's own word"


# --- tiles above --------------------------------------------------------------------------


def test_tiles_above_fill_as_roots_come() -> None:
    roots = [sha256(b"%d" % number).digest() for number in range(256 * 256 + 258)]
    rows = TileRows()
    done = []
    for at in range(0, len(roots), 100):
        rows.extend(b"".join(roots[at : at + 100]))
        done += rows.drain()
    assert len(done) == 257 + 1
    assert dict(done)[TileName(1, 256)] == b"".join(roots[256 * 256 : 257 * 256])
    second = [root_of(roots[at : at + 256]) for at in range(0, 257 * 256, 256)]
    assert dict(done)[TileName(2, 0)] == b"".join(second[:256])
    assert dict(rows.partial()) == {
        TileName(1, 257, 2): b"".join(roots[-2:]),
        TileName(2, 1, 1): second[256],
        TileName(3, 0, 1): root_of(second[:256]),
    }


# --- erased details -----------------------------------------------------------------------


def test_details_that_are_gone_are_counted_unless_their_erasure_is_on_record() -> None:
    log = opened_log()
    for _ in range(3):
        log.add(replace_entry(created(new_token()), detail=new_hash()))
    erased = DetailErased(
        actor=WRITER, id=new_uuid(), entries=(2, 4), reason="retention", tenant="t_01"
    )
    log.add(erased)
    made = LogCheck()
    page = page_of(0, [row.body for row in log.rows], [row.leaf for row in log.rows])
    page.details = []
    made.absorb(examine(page))
    report = made.finish(None, None)
    assert (report.violations, report.details_missing) == ((), 1)
