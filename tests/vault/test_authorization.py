"""The tables of what may follow, walked pair by pair, and who may repeat a request."""

from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Final, get_args

import pytest

from vault.authorization import (
    CONSUMES_CVC,
    KEEPS_CVC_CLAIMED,
    MAY_FOLLOW,
    SAME_KEY_SAME_BODY,
    Claim,
    Claimed,
    Earlier,
    Finding,
    KeyReused,
    Kind,
    RepeatRules,
    Result,
    State,
    StillOpen,
    Stored,
    Unsettled,
    repeat,
)

# Every pair that may be, one a line; all others may not.
ALLOWED: Final = {
    (State.ATTEMPTED, State.COMPLETED),
    (State.ATTEMPTED, State.NOT_SENT),
    (State.ATTEMPTED, State.UNKNOWN),
    (State.UNKNOWN, State.RESOLVED),
}


@pytest.mark.parametrize(("state", "following"), list(product(State, State)))
def test_what_may_follow(state: State, following: State) -> None:
    assert (following in MAY_FOLLOW[state]) == ((state, following) in ALLOWED)


def test_every_state_has_its_row_in_both_tables() -> None:
    assert set(MAY_FOLLOW) == set(State)
    assert set(SAME_KEY_SAME_BODY) == set(State)


def test_nothing_is_attempted_twice_and_no_state_follows_itself() -> None:
    assert not any(State.ATTEMPTED in following for following in MAY_FOLLOW.values())
    assert not any(state in following for state, following in MAY_FOLLOW.items())


def test_everything_comes_to_an_end() -> None:
    """From any state, every path ends in one that nothing follows: there is no circle."""
    ended = {state for state, following in MAY_FOLLOW.items() if not following}
    assert ended == {State.COMPLETED, State.NOT_SENT, State.RESOLVED}
    for _ in State:
        ended |= {state for state, following in MAY_FOLLOW.items() if following <= ended}
    assert ended == set(State)


@pytest.mark.parametrize(
    ("state", "claim"),
    [
        (State.ATTEMPTED, StillOpen),
        (State.NOT_SENT, Claimed),
        (State.COMPLETED, Stored),
        (State.RESOLVED, Stored),
        (State.UNKNOWN, Unsettled),
    ],
)
def test_what_the_same_request_gets(state: State, claim: type[Claim]) -> None:
    assert SAME_KEY_SAME_BODY[state] is claim


def test_only_what_was_not_sent_runs_again_by_itself() -> None:
    """Anything else could charge twice; the exceptions are a preset's to declare."""
    running = {state for state, claim in SAME_KEY_SAME_BODY.items() if claim is Claimed}
    assert running == {State.NOT_SENT}
    assert KeyReused not in SAME_KEY_SAME_BODY.values()


def test_a_finished_request_is_answered_and_an_open_one_is_not() -> None:
    stored = {state for state, claim in SAME_KEY_SAME_BODY.items() if claim is Stored}
    finished = {state for state, following in MAY_FOLLOW.items() if not following}
    assert stored == finished - {State.NOT_SENT}


@pytest.mark.parametrize("result", Result)
def test_which_result_consumes_the_code(result: Result) -> None:
    """PCI DSS 3.3.1: gone once the issuer has answered, approval or decline."""
    assert (result in CONSUMES_CVC) == (result in {Result.APPROVED, Result.DECLINED, Result.STORED})


@pytest.mark.parametrize("state", State)
def test_which_state_keeps_the_code_claimed(state: State) -> None:
    assert (state in KEEPS_CVC_CLAIMED) == (state in {State.ATTEMPTED, State.UNKNOWN})
    assert (state in KEEPS_CVC_CLAIMED) == (State.RESOLVED in _reachable(state))


def _reachable(state: State) -> set[State]:
    following = set(MAY_FOLLOW[state])
    return following.union(*(_reachable(after) for after in following))


# --- the same key again ---------------------------------------------------------------------

FIRST_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)
REPLAY: Final = RepeatRules(replay_seconds=60, not_executed=frozenset({401, 429}))
IN_TIME: Final = FIRST_AT + timedelta(seconds=60, microseconds=-1)
LATE: Final = FIRST_AT + timedelta(seconds=60)


@pytest.mark.parametrize("state", [None, *State])
def test_another_body_is_refused_whatever_became_of_the_first(state: State | None) -> None:
    for leased, status, claimable in product((True, False), (None, 429), (True, False)):
        earlier = Earlier(
            same_body=False,
            leased=leased,
            state=state,
            status=status,
            finding=Finding.NOT_RECEIVED,
            first_at=FIRST_AT,
            cvc_claimable=claimable,
        )
        assert repeat(earlier, REPLAY, at=IN_TIME) is KeyReused


@pytest.mark.parametrize("state", [None, *State])
def test_nobody_gets_in_between_claim_and_intent(state: State | None) -> None:
    earlier = Earlier(same_body=True, leased=True, state=state, status=429, first_at=FIRST_AT)
    assert repeat(earlier, REPLAY, at=IN_TIME) is StillOpen


def test_a_key_that_was_never_attempted_runs() -> None:
    assert repeat(Earlier(same_body=True, leased=False), RepeatRules(), at=FIRST_AT) is Claimed


@pytest.mark.parametrize("state", State)
def test_without_a_preset_the_table_decides(state: State) -> None:
    for finding, status in product((None, Finding.ANSWERED, Finding.GIVEN_UP), (None, 200, 429)):
        earlier = Earlier(True, False, state, status, finding, FIRST_AT)  # noqa: FBT003 - in order
        assert repeat(earlier, RepeatRules(), at=FIRST_AT) is SAME_KEY_SAME_BODY[state]


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("status", [None, 200, 401, 402, 429, 500])
def test_a_status_that_was_not_executed_frees_only_what_completed(
    state: State, status: int | None
) -> None:
    earlier = Earlier(same_body=True, leased=False, state=state, status=status)
    freed = state is State.COMPLETED and status in {401, 429}
    assert repeat(earlier, REPLAY, at=LATE) is (Claimed if freed else SAME_KEY_SAME_BODY[state])


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("finding", [None, *Finding])
def test_a_finding_that_nothing_happened_frees_only_what_was_resolved(
    state: State, finding: Finding | None
) -> None:
    earlier = Earlier(same_body=True, leased=False, state=state, finding=finding)
    freed = state is State.RESOLVED and finding in {Finding.NOT_RECEIVED, Finding.NOT_SENT}
    assert repeat(earlier, REPLAY, at=LATE) is (Claimed if freed else SAME_KEY_SAME_BODY[state])


@pytest.mark.parametrize("state", State)
def test_a_replay_needs_a_preset_time_and_the_code(state: State) -> None:
    for rules, first_at, at, claimable in product(
        (REPLAY, RepeatRules()), (None, FIRST_AT), (FIRST_AT, IN_TIME, LATE), (True, False)
    ):
        earlier = Earlier(
            same_body=True,
            leased=False,
            state=state,
            first_at=first_at,
            cvc_claimable=claimable,
        )
        may = (rules is REPLAY, first_at is FIRST_AT, at < LATE, claimable)
        replayed = state is State.UNKNOWN and all(may)
        expected = Claimed if replayed else SAME_KEY_SAME_BODY[state]
        assert repeat(earlier, rules, at=at) is expected


# --- the words ------------------------------------------------------------------------------


def test_claims_are_a_closed_union() -> None:
    assert set(get_args(Claim)) == {Claimed, Stored, StillOpen, Unsettled, KeyReused}
    assert Claimed(of=None, attempt=1, nonce="n").unsettled == ()
    assert Stored("i") == Stored("i")
    assert Stored("i") != Stored("j")


def test_the_words_are_the_ledgers() -> None:
    assert [str(word) for word in Kind] == [
        "authorize",
        "verify",
        "store_card",
        "capture",
        "void",
        "refund",
        "other",
    ]
    assert [str(word) for word in State] == [
        "attempted",
        "completed",
        "not_sent",
        "unknown",
        "resolved",
    ]
    assert [str(word) for word in Result] == ["approved", "declined", "pending", "stored", "error"]
    assert [str(word) for word in Finding] == ["answered", "not_received", "not_sent", "given_up"]
