"""The auditor's rules: a true log passes, and each way of being untrue is named with its index."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import cards
from tests.vault.ledger.samples import AT, new_token, new_uuid
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
from vault.authorization import MAY_FOLLOW, State
from vault.ledger.check import (
    CHUNK_LEAVES,
    VIOLATIONS_KEPT_MAX,
    OpenIntent,
    Report,
    Rule,
    UnstoppedBoot,
    Violation,
)
from vault.ledger.entry import OldBoot, Stamp, decode, encode
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
    for _ in range(CHUNK_LEAVES + 1):
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
