"""Events come late, twice and in any order; what is on record after them does not show it."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.authorization import Kind, Result, State
from vault.payment_events import PAYMENTS, Effect, OnRecord, consequence, implied, recorded

START = datetime(2026, 11, 22, 12, tzinfo=UTC)
IN_DOUBT = OnRecord(Kind.AUTHORIZE, State.UNKNOWN, None)
PENDING = OnRecord(Kind.AUTHORIZE, State.COMPLETED, Result.PENDING)
APPROVED = OnRecord(Kind.AUTHORIZE, State.COMPLETED, Result.APPROVED)
FINAL = [result for result in Result if result is not Result.PENDING]

events = st.tuples(
    st.sampled_from(Effect), st.integers(0, 3).map(lambda s: START + timedelta(seconds=s))
)
starts = st.one_of(
    st.builds(OnRecord, st.sampled_from(Kind), st.just(State.UNKNOWN), st.none()),
    st.builds(
        OnRecord,
        st.sampled_from(Kind),
        st.sampled_from([State.COMPLETED, State.RESOLVED]),
        st.sampled_from(Result),
    ),
)


def after(known: OnRecord, *said: tuple[Effect, datetime]) -> OnRecord:
    """Put events on record, one after the other, as they come."""
    for effect, at in said:
        told = consequence(known, effect, at)
        then = recorded(known, effect, at)
        assert (told is not None) is (then.result is not known.result)
        assert told in {None, then.result}
        known = then
    return known


@given(known=starts, said=st.lists(events, max_size=6), data=st.data())
def test_events_end_the_same_in_any_order_and_as_often_as_they_come(
    known: OnRecord, said: list[tuple[Effect, datetime]], data: st.DataObject
) -> None:
    repeated = said + data.draw(st.lists(st.sampled_from(said), max_size=3)) if said else said
    assert after(known, *said) == after(known, *data.draw(st.permutations(repeated)))


@pytest.mark.parametrize("known", [IN_DOUBT, PENDING, APPROVED], ids=["unknown", "pending", "own"])
@pytest.mark.parametrize("seconds", [(0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 2)], ids=str)
def test_any_three_events_about_a_payment_end_the_same_in_every_order(
    known: OnRecord, seconds: tuple[int, int, int]
) -> None:
    told = [Effect.APPROVED, Effect.DECLINED, Effect.FAILED, Effect.CAPTURED, Effect.LATE_DECLINE]
    times = [START + timedelta(seconds=each) for each in seconds]
    for effects in [(a, b, c) for a in told for b in told for c in told]:
        said = list(zip(effects, times, strict=True))
        ends = {after(known, *order) for order in permutations(said)}
        assert len(ends) == 1, effects


def test_an_event_that_agrees_makes_the_evidence_later() -> None:
    first, between, last = (START + timedelta(seconds=each) for each in range(3))
    known = after(IN_DOUBT, (Effect.APPROVED, first), (Effect.CAPTURED, last))
    assert known.evidence_at == last
    assert consequence(known, Effect.DECLINED, between) is None


@given(result=st.sampled_from(FINAL), kind=st.sampled_from(Kind), said=st.lists(events))
def test_what_the_call_itself_was_answered_yields_to_nothing_but_a_late_decline(
    result: Result, kind: Kind, said: list[tuple[Effect, datetime]]
) -> None:
    known = OnRecord(kind, State.COMPLETED, result)
    is_undone = (
        kind in PAYMENTS
        and result is Result.APPROVED
        and any(effect is Effect.LATE_DECLINE for effect, _ in said)
    )
    ended = after(known, *said)
    assert ended.result is (Result.DECLINED if is_undone else result)
    assert ended.evidence_at is None


@pytest.mark.parametrize("known", [IN_DOUBT, PENDING], ids=["unknown", "pending"])
@pytest.mark.parametrize("effect", Effect)
def test_what_is_in_doubt_or_pending_yields_to_what_an_event_proves(
    known: OnRecord, effect: Effect
) -> None:
    proven = implied(effect, known.kind)
    ended = after(known, (effect, START))
    if proven is None:
        assert ended is known
    else:
        assert ended == OnRecord(known.kind, State.RESOLVED, proven, START)


@pytest.mark.parametrize("state", [State.ATTEMPTED, State.NOT_SENT])
@pytest.mark.parametrize("effect", Effect)
def test_what_is_under_way_or_never_left_is_not_settled_by_an_event(
    state: State, effect: Effect
) -> None:
    assert consequence(OnRecord(Kind.AUTHORIZE, state, None), effect, START) is None


@pytest.mark.parametrize(
    "effect",
    [Effect.VOIDED, Effect.VOID_FAILED, Effect.CAPTURE_FAILED, Effect.REFUND_FAILED, Effect.STORED],
)
def test_what_may_happen_to_a_payment_that_was_never_approved_proves_nothing_of_it(
    effect: Effect,
) -> None:
    assert [implied(effect, kind) for kind in sorted(PAYMENTS)] == [None, None]


@pytest.mark.parametrize(
    ("effect", "kind", "result"),
    [
        (Effect.CAPTURED, Kind.CAPTURE, Result.APPROVED),
        (Effect.CAPTURE_FAILED, Kind.CAPTURE, Result.DECLINED),
        (Effect.REFUNDED, Kind.REFUND, Result.APPROVED),
        (Effect.REFUND_FAILED, Kind.REFUND, Result.DECLINED),
        (Effect.VOIDED, Kind.VOID, Result.APPROVED),
        (Effect.VOID_FAILED, Kind.VOID, Result.DECLINED),
        (Effect.STORED, Kind.STORE_CARD, Result.STORED),
        (Effect.CHARGEBACK, Kind.AUTHORIZE, Result.APPROVED),
        (Effect.FAILED, Kind.VERIFY, Result.ERROR),
        (Effect.APPROVED, Kind.CAPTURE, None),
        (Effect.CAPTURED, Kind.REFUND, None),
        (Effect.LATE_DECLINE, Kind.OTHER, None),
    ],
)
def test_what_an_event_proves(effect: Effect, kind: Kind, result: Result | None) -> None:
    assert implied(effect, kind) is result


# --- of those that do not say when ----------------------------------------------------------

STATUSES = [Effect.APPROVED, Effect.DECLINED, Effect.FAILED, Effect.CAPTURED, Effect.REFUNDED]


def as_they_came(known: OnRecord, *effects: Effect) -> OnRecord:
    """Put events without a time of their own on record, in the order in which they come."""
    for second, effect in enumerate(effects):
        at = START + timedelta(seconds=second)
        known = recorded(known, effect, at, has_own_time=False)
    return known


@pytest.mark.parametrize("kind", [Kind.AUTHORIZE, Kind.CAPTURE, Kind.REFUND, Kind.VOID])
def test_without_times_the_end_is_that_of_a_payment_s_life_in_every_order(kind: Kind) -> None:
    known = OnRecord(kind, State.UNKNOWN, None)
    told = [*STATUSES, Effect.CAPTURE_FAILED, Effect.REFUND_FAILED, Effect.VOIDED]
    for effects in [(a, b, c) for a in told for b in told for c in told]:
        ends = {as_they_came(known, *order).result for order in permutations(effects)}
        assert len(ends) == 1, effects


@pytest.mark.parametrize("late", [Effect.DECLINED, Effect.FAILED])
def test_a_refusal_that_comes_late_and_has_no_time_undoes_no_approval(late: Effect) -> None:
    assert as_they_came(IN_DOUBT, Effect.APPROVED, late).result is Result.APPROVED
    assert as_they_came(IN_DOUBT, late, Effect.APPROVED).result is Result.APPROVED
    known = after(IN_DOUBT, (Effect.APPROVED, START), (late, START + timedelta(seconds=1)))
    assert known.result is not Result.APPROVED  # one that says when, is believed


def test_without_times_a_capture_that_failed_after_all_has_failed() -> None:
    known = OnRecord(Kind.CAPTURE, State.UNKNOWN, None)
    said = (Effect.CAPTURED, Effect.CAPTURE_FAILED)
    assert as_they_came(known, *said).result is Result.DECLINED
    assert as_they_came(known, *reversed(said)).result is Result.DECLINED
