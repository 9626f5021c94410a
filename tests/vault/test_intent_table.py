"""Intents and outcomes under the head lock: what is refused, and which rows follow."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.vault.ledger.test_store import appending, freeze_commits, together
from tests.vault.rows import Sender, create, delete, new_cvc, new_row, new_tenant, now
from tests.vault.stores import Replica, Store
from vault.authorization import MAY_FOLLOW, Result, State
from vault.db import Record
from vault.errors import CvcExpired, LedgerUnavailable, TokenInUse, TokenUnknown
from vault.intent_table import (
    ANSWER_KEPT,
    LEASE,
    AlreadyRecorded,
    OpenIntent,
    SealedAnswer,
    TransitionRefused,
)
from vault.ledger.unit import Placed, Unit
from vault.token_table import TokenRow

pytestmark = pytest.mark.embedded


@pytest.fixture
async def replica(shared_store: Store) -> AsyncIterator[Replica]:
    async with shared_store.replica() as made:
        yield made


async def outcomes_of(replica: Replica, *units: Unit) -> list[Sequence[Placed] | BaseException]:
    return await asyncio.gather(*appending(replica.ledger, *units), return_exceptions=True)


async def append(replica: Replica, *units: Unit) -> None:
    for unit in units:
        await replica.ledger.append(unit, seconds=10)


async def intent_row(store: Store, unit: OpenIntent) -> Record:
    (row,) = await store.rows("SELECT * FROM intent_state WHERE intent = $1", unit.facts.intent)
    return row


async def shown(store: Store, unit: OpenIntent) -> Record:
    (row,) = await store.rows("SELECT * FROM authorizations WHERE first = $1", unit.facts.first)
    return row


async def code_of(store: Store, row: TokenRow) -> str:
    """Say whose the token's code is: nobody's, somebody's first intent, or gone."""
    rows = await store.rows("SELECT claimed_by FROM cvc WHERE token = $1", row.id)
    return "gone" if not rows else str(rows[0]["claimed_by"])


async def holder_of(store: Store, row: TokenRow) -> str:
    rows = await store.rows("SELECT held_by FROM token WHERE id = $1", row.id)
    return "gone" if not rows else str(rows[0]["held_by"])


# --- intents --------------------------------------------------------------------------------


async def test_an_intent_is_on_record_with_what_is_known_of_it(
    shared_store: Store, replica: Replica
) -> None:
    sender = Sender(replica=replica.name, boot=replica.boot)
    one, two = sender.row(), sender.row()
    await append(replica, create(one), create(two))
    digest = secrets.token_bytes(32)
    unit = sender.opens(one, two, key_digest=digest, merchant_reference="order-1")
    (place,) = await replica.ledger.append(unit)
    assert unit.opens_cards
    row = await intent_row(shared_store, unit)
    assert (row["state"], row["attempt"], row["tokens"]) == ("attempted", 1, [one.id, two.id])
    assert (row["opened_idx"], row["last_idx"]) == (place.idx, place.idx)
    assert (row["replica"], row["boot"]) == (replica.name, replica.boot)
    assert (row["due"], row["opened_at"], row["ended_at"]) == (place.at + LEASE, place.at, None)
    assert row["opens_cvc"] is False
    row = await shown(shared_store, unit)
    assert (row["state"], row["result"], row["idx"], row["leaf"]) == (
        "attempted", None, place.idx, place.leaf,
    )  # fmt: skip
    assert (row["amount"], row["currency"], row["merchant_reference"], row["key_digest"]) == (
        1999, "EUR", "order-1", digest,
    )  # fmt: skip


async def test_an_intent_that_opens_nothing_opens_no_card(
    shared_store: Store, replica: Replica
) -> None:
    unit = Sender().opens()
    assert not unit.opens_cards
    await append(replica, unit)
    assert (await intent_row(shared_store, unit))["tokens"] == []


@pytest.mark.guards("T-20", "T-21")
async def test_what_is_not_the_tenant_s_living_token_is_unknown(
    shared_store: Store, replica: Replica
) -> None:
    sender = Sender()
    foreign, over = new_row(new_tenant()), sender.row(expires_at=now() - timedelta(seconds=1))
    gone, live = sender.row(), sender.row()
    await append(replica, create(foreign), create(over), create(gone), create(live), delete(gone))
    units = [sender.opens(row) for row in (foreign, over, gone, sender.row())]
    units.append(sender.opens(live, gone))
    outcomes = await outcomes_of(replica, *units)
    assert {type(one) for one in outcomes} == {TokenUnknown}
    for unit in units:
        assert not await shared_store.rows(
            "SELECT 1 FROM entry WHERE intent = $1", unit.facts.intent
        )


# --- codes ----------------------------------------------------------------------------------


@pytest.mark.guards("T-71")
async def test_a_code_is_one_authorization_s(shared_store: Store, replica: Replica) -> None:
    sender = Sender()
    row = sender.row()
    await append(replica, create(row, cvc=new_cvc()))
    one, two = sender.opens(row, cvc=True), sender.opens(row, cvc=True)
    outcomes = await together(shared_store, replica, one, two)
    assert [type(each) for each in outcomes] == [list, CvcExpired]
    assert await code_of(shared_store, row) == one.facts.first
    assert (await intent_row(shared_store, one))["opens_cvc"]
    assert [type(each) for each in await outcomes_of(replica, sender.opens(row, cvc=True))] == [
        CvcExpired
    ]
    await append(replica, sender.opens(row))  # the number alone is everybody's
    again = sender.opens(row, cvc=True, first=one.facts.first, attempt=2)
    await append(replica, sender.settles(one, State.UNKNOWN), again)
    assert await code_of(shared_store, row) == one.facts.first


@pytest.mark.guards("T-71", "F-51")
async def test_a_code_that_is_gone_or_over_cannot_be_opened(
    shared_store: Store, replica: Replica
) -> None:
    sender = Sender()
    never, over, lost = sender.row(), sender.row(), sender.row()
    await append(replica, create(never), create(over, cvc=new_cvc(-1)), create(lost, cvc=new_cvc()))
    await shared_store.do("DELETE FROM cvc WHERE token = $1", lost.id)  # as crash recovery does
    units = [sender.opens(row, cvc=True) for row in (never, over, lost)]
    assert {type(one) for one in await outcomes_of(replica, *units)} == {CvcExpired}


AFTER: Mapping[tuple[State, Result | None], str] = {
    (State.COMPLETED, Result.APPROVED): "gone",
    (State.COMPLETED, Result.DECLINED): "gone",
    (State.COMPLETED, Result.STORED): "gone",
    (State.COMPLETED, Result.ERROR): "free",
    (State.COMPLETED, Result.PENDING): "free",
    (State.NOT_SENT, None): "free",
    (State.UNKNOWN, None): "kept",
    (State.RESOLVED, Result.APPROVED): "gone",
    (State.RESOLVED, Result.DECLINED): "gone",
    (State.RESOLVED, Result.STORED): "gone",
    (State.RESOLVED, Result.ERROR): "free",
    (State.RESOLVED, Result.PENDING): "free",
}


@pytest.mark.guards("T-71")
@pytest.mark.parametrize(("state", "result"), AFTER)
async def test_what_becomes_of_the_code(
    shared_store: Store, replica: Replica, state: State, result: Result | None
) -> None:
    sender = Sender()
    row = sender.row()
    await append(replica, create(row, cvc=new_cvc()))
    unit = sender.opens(row, cvc=True)
    await append(replica, unit)
    if state is State.RESOLVED:
        await append(replica, sender.settles(unit, State.UNKNOWN))
    await append(replica, sender.settles(unit, state, result))
    kept = {"gone": "gone", "free": "None", "kept": unit.facts.first}[AFTER[state, result]]
    assert await code_of(shared_store, row) == kept
    assert await holder_of(shared_store, row) == "None"


@pytest.mark.guards("T-71")
@pytest.mark.parametrize(("state", "result"), AFTER)
async def test_what_becomes_of_a_token_for_one_use_and_its_code(
    shared_store: Store, replica: Replica, state: State, result: Result | None
) -> None:
    sender = Sender()
    row, other = sender.row(single_use=True), sender.row()
    await append(replica, create(row, cvc=new_cvc()), create(other, cvc=new_cvc()))
    unit = sender.opens(row, cvc=True)
    await append(replica, unit)
    if state is State.RESOLVED:
        await append(replica, sender.settles(unit, State.UNKNOWN))
    expected = AFTER[state, result]
    burned = [row] if expected == "gone" else []
    await append(replica, sender.settles(unit, state, result, burned=burned))
    kept = {"gone": "gone", "free": "None", "kept": unit.facts.first}[expected]
    assert await code_of(shared_store, row) == kept
    assert await holder_of(shared_store, row) == kept
    assert await code_of(shared_store, other) == "None"
    types = [entry.type for entry in await shared_store.entries()]
    assert types.count("token.deleted") >= len(burned)


@pytest.mark.guards("T-71", "T-61")
@pytest.mark.parametrize("second_ends", [State.NOT_SENT, State.COMPLETED, None])
async def test_nothing_is_given_back_while_another_send_may_have_reached_the_processor(
    shared_store: Store, replica: Replica, second_ends: State | None
) -> None:
    sender = Sender()
    row = sender.row(single_use=True)
    await append(replica, create(row, cvc=new_cvc()))
    one = sender.opens(row, cvc=True)
    first = one.facts.first
    two = sender.opens(row, cvc=True, first=first, attempt=2)
    await append(replica, one, sender.settles(one, State.UNKNOWN), two)
    if second_ends is None:  # the second is under way when the first is found to be an error
        await append(replica, sender.settles(one, State.RESOLVED, Result.ERROR))
    else:
        result = Result.ERROR if second_ends is State.COMPLETED else None
        await append(replica, sender.settles(two, second_ends, result))
    assert await code_of(shared_store, row) == first
    assert await holder_of(shared_store, row) == first
    last = two if second_ends is None else one
    state = State.COMPLETED if second_ends is None else State.RESOLVED
    await append(replica, sender.settles(last, state, Result.ERROR))
    assert await code_of(shared_store, row) == "None"
    assert await holder_of(shared_store, row) == "None"


@pytest.mark.guards("T-71")
async def test_of_two_outcomes_in_one_batch_the_one_that_consumes_wins(
    shared_store: Store, replica: Replica
) -> None:
    sender = Sender()
    row = sender.row(single_use=True)
    await append(replica, create(row, cvc=new_cvc()))
    one = sender.opens(row, cvc=True)
    two = sender.opens(row, cvc=True, first=one.facts.first, attempt=2)
    await append(replica, one, sender.settles(one, State.UNKNOWN), two)
    outcomes = await together(
        shared_store,
        replica,
        sender.settles(two, State.COMPLETED, Result.APPROVED, burned=[row]),
        sender.settles(one, State.RESOLVED, Result.ERROR),
    )
    assert [type(each) for each in outcomes] == [list, list]
    assert await code_of(shared_store, row) == "gone"
    assert await holder_of(shared_store, row) == "gone"
    assert (await shown(shared_store, one))["result"] == "approved"


# --- tokens for one use ---------------------------------------------------------------------


async def test_a_token_for_one_use_is_one_authorization_s(
    shared_store: Store, replica: Replica
) -> None:
    sender = Sender()
    row = sender.row(single_use=True)
    await append(replica, create(row))
    one, two = sender.opens(row), sender.opens(row)
    outcomes = await together(shared_store, replica, one, two)
    assert [type(each) for each in outcomes] == [list, TokenInUse]
    assert [type(each) for each in await outcomes_of(replica, sender.opens(row))] == [TokenInUse]
    await append(replica, sender.settles(one, State.NOT_SENT))
    three = sender.opens(row)
    await append(replica, three)
    await append(replica, sender.settles(three, State.COMPLETED, Result.APPROVED, burned=[row]))
    assert [type(each) for each in await outcomes_of(replica, sender.opens(row))] == [TokenUnknown]
    assert (await shared_store.report()).violations == ()


# --- outcomes -------------------------------------------------------------------------------


async def test_an_outcome_is_on_record_and_shown(shared_store: Store, replica: Replica) -> None:
    sender = Sender()
    unit = sender.opens()
    await append(replica, unit)
    settled = sender.settles(
        unit, State.COMPLETED, Result.DECLINED, status=402, processor_reference="pi_1",
        decline_code="insufficient_funds", authorization_code="A1",
    )  # fmt: skip
    settled = replace(settled, answer=SealedAnswer(sender.tenant, "vault:v1:x", 1))
    (place,) = await replica.ledger.append(settled)
    row = await intent_row(shared_store, unit)
    assert (row["state"], row["result"], row["status"], row["last_idx"], row["ended_at"]) == (
        "completed", "declined", 402, place.idx, place.at,
    )  # fmt: skip
    row = await shown(shared_store, unit)
    assert (row["state"], row["result"], row["idx"], row["leaf"]) == (
        "completed", "declined", place.idx, place.leaf,
    )  # fmt: skip
    assert (row["processor_reference"], row["decline_code"], row["authorization_code"]) == (
        "pi_1", "insufficient_funds", "A1",
    )  # fmt: skip
    (answer,) = await shared_store.rows("SELECT * FROM answer WHERE intent = $1", unit.facts.intent)
    assert (answer["ciphertext"], answer["expires_at"]) == ("vault:v1:x", place.at + ANSWER_KEPT)


@pytest.mark.guards("T-61")
@pytest.mark.parametrize("state", State)
async def test_only_what_may_follow_follows(
    shared_store: Store, replica: Replica, state: State
) -> None:
    sender = Sender()
    for following in set(State) - {State.ATTEMPTED}:
        unit = sender.opens()
        await append(replica, unit)
        if state is State.RESOLVED:
            await append(replica, sender.settles(unit, State.UNKNOWN))
        if state is not State.ATTEMPTED:
            await append(replica, sender.settles(unit, state, result_of(state)))
        (outcome,) = await outcomes_of(
            replica, sender.settles(unit, following, result_of(following))
        )
        if following in MAY_FOLLOW[state]:
            assert isinstance(outcome, list)
        else:
            assert isinstance(outcome, TransitionRefused)
            assert (outcome.intent, outcome.state) == (unit.facts.intent, state)
            assert (await intent_row(shared_store, unit))["state"] == state
    assert (await shared_store.report()).violations == ()


def result_of(state: State) -> Result | None:
    return Result.APPROVED if state in {State.COMPLETED, State.RESOLVED} else None


async def test_an_outcome_without_an_intent_is_refused(replica: Replica) -> None:
    sender = Sender()
    (outcome,) = await outcomes_of(replica, sender.settles(sender.opens(), State.UNKNOWN))
    assert isinstance(outcome, TransitionRefused)
    assert outcome.state is None


@pytest.mark.guards("T-61")
async def test_the_same_outcome_twice_is_once(shared_store: Store, replica: Replica) -> None:
    sender = Sender()
    unit = sender.opens()
    settled = sender.settles(unit, State.NOT_SENT)
    await append(replica, unit, settled)
    assert [type(one) for one in await outcomes_of(replica, settled)] == [AlreadyRecorded]
    assert (await shared_store.report()).violations == ()


@pytest.mark.guards("T-61")
async def test_outcomes_of_one_batch_see_each_other(shared_store: Store, replica: Replica) -> None:
    sender = Sender()
    unit = sender.opens()
    outcomes = await together(
        shared_store,
        replica,
        unit,
        sender.settles(unit, State.UNKNOWN),
        sender.settles(unit, State.COMPLETED, Result.APPROVED),
        sender.settles(unit, State.RESOLVED, Result.DECLINED),
        sender.settles(unit, State.RESOLVED, Result.APPROVED),
    )
    kinds = [type(one) for one in outcomes]
    assert kinds == [list, list, TransitionRefused, list, TransitionRefused]
    row = await intent_row(shared_store, unit)
    assert (row["state"], row["result"]) == ("resolved", "declined")
    assert (await shown(shared_store, unit))["state"] == "resolved"
    assert (await shared_store.report()).violations == ()


async def test_an_answer_settles_the_sends_before_it(shared_store: Store, replica: Replica) -> None:
    sender = Sender()
    one = sender.opens()
    two = sender.opens(first=one.facts.first, attempt=2)
    await append(replica, one, sender.settles(one, State.UNKNOWN), two)
    own = sender.settles(two, State.COMPLETED, Result.APPROVED, processor_reference="pi_2")
    earlier = sender.settles(one, State.RESOLVED, Result.APPROVED)
    both = replace(
        own,
        settlements=(*own.settlements, *earlier.settlements),
        lines=(*own.lines, *earlier.lines),
    )
    places = await replica.ledger.append(both)
    assert (await intent_row(shared_store, one))["state"] == "resolved"
    assert (await intent_row(shared_store, two))["state"] == "completed"
    row = await shown(shared_store, one)
    assert (row["state"], row["idx"], row["processor_reference"]) == (
        "completed", places[0].idx, "pi_2",
    )  # fmt: skip


async def test_all_of_an_outcome_is_refused_with_a_part_of_it(
    shared_store: Store, replica: Replica
) -> None:
    sender = Sender()
    one = sender.opens()
    two = sender.opens(first=one.facts.first, attempt=2)
    await append(replica, one, two)
    own = sender.settles(two, State.COMPLETED, Result.APPROVED)
    illegal = sender.settles(one, State.RESOLVED, Result.APPROVED)
    both = replace(
        own,
        settlements=(*own.settlements, *illegal.settlements),
        lines=(*own.lines, *illegal.lines),
    )
    (outcome,) = await outcomes_of(replica, both)
    assert isinstance(outcome, TransitionRefused)
    assert outcome.intent == one.facts.intent
    assert (await intent_row(shared_store, two))["state"] == "attempted"


async def test_what_is_shown_is_the_latest_send_s(shared_store: Store, replica: Replica) -> None:
    sender = Sender()
    one = sender.opens()
    two = sender.opens(first=one.facts.first, attempt=2)
    await append(replica, one, sender.settles(one, State.UNKNOWN))
    assert (await shown(shared_store, one))["state"] == "unknown"
    await append(replica, two)
    assert (await shown(shared_store, one))["state"] == "attempted"
    await append(replica, sender.settles(two, State.NOT_SENT))
    assert (await shown(shared_store, one))["state"] == "unknown"  # the first may have charged
    approved = sender.settles(
        one, State.RESOLVED, Result.APPROVED, processor_reference="pi_1", authorization_code="A1"
    )
    (place,) = await replica.ledger.append(approved)
    row = await shown(shared_store, one)
    assert (row["state"], row["result"], row["idx"]) == ("resolved", "approved", place.idx)
    assert (row["processor_reference"], row["authorization_code"]) == ("pi_1", "A1")
    three = sender.opens(first=one.facts.first, attempt=3)
    await append(replica, three)
    assert (await shown(shared_store, one))["state"] == "attempted"
    refused = sender.settles(three, State.COMPLETED, Result.ERROR, decline_code="too_many")
    await append(replica, refused)
    row = await shown(shared_store, one)
    assert (row["state"], row["result"], row["decline_code"]) == ("resolved", "approved", None)


async def test_a_send_in_doubt_is_shown_whatever_a_later_one_said(
    shared_store: Store, replica: Replica
) -> None:
    sender = Sender()
    one = sender.opens()
    two = sender.opens(first=one.facts.first, attempt=2)
    await append(replica, one, sender.settles(one, State.UNKNOWN), two)
    await append(replica, sender.settles(two, State.COMPLETED, Result.DECLINED, decline_code="no"))
    row = await shown(shared_store, one)
    assert (row["state"], row["result"], row["decline_code"]) == ("unknown", None, None)


async def test_a_late_answer_to_an_earlier_send_does_not_hide_one_under_way(
    shared_store: Store, replica: Replica
) -> None:
    sender = Sender()
    one = sender.opens()
    two = sender.opens(first=one.facts.first, attempt=2)
    three = sender.opens(first=one.facts.first, attempt=3)
    await append(replica, one, sender.settles(one, State.UNKNOWN), two)
    await append(replica, sender.settles(two, State.UNKNOWN), three)
    await append(replica, sender.settles(one, State.RESOLVED, Result.DECLINED))
    assert (await shown(shared_store, one))["state"] == "attempted"
    await append(replica, sender.settles(two, State.RESOLVED, Result.DECLINED))
    await append(replica, sender.settles(three, State.COMPLETED, Result.APPROVED))
    row = await shown(shared_store, one)
    assert (row["state"], row["result"]) == ("completed", "approved")


@pytest.mark.guards("T-61")
async def test_an_intent_that_became_durable_for_nobody_is_not_sent(store: Store) -> None:
    sender = Sender()
    row = sender.row(single_use=True)
    async with store.replica() as replica, store.session(owner=True) as other:
        await append(replica, create(row, cvc=new_cvc()))
        unit = sender.opens(row, cvc=True)
        unit = replace(unit, abandoned=sender.settles(unit, State.NOT_SENT))
        await freeze_commits(store)
        await other.execute("SELECT pg_advisory_lock(1)")
        with pytest.raises(LedgerUnavailable):
            await replica.ledger.append(unit, seconds=0.1)
        await other.execute("SELECT pg_advisory_unlock(1)")
        await store.until("SELECT EXISTS (SELECT 1 FROM intent_state WHERE state = 'not_sent')")
        assert await code_of(store, row) == "None"
        assert await holder_of(store, row) == "None"
        assert (await store.report()).violations == ()


# --- any run of events ----------------------------------------------------------------------


@dataclass
class Story:
    """Three cards, of which one is for one use, and what happens to them."""

    sender: Sender = field(default_factory=Sender)
    rows: dict[int, TokenRow] = field(default_factory=dict)
    opened: dict[int, OpenIntent] = field(default_factory=dict)

    def unit(self, which: int, event: str) -> Unit:
        if event == "create" or which not in self.rows:
            self.rows[which] = self.sender.row(single_use=which == 0)
            return create(self.rows[which], cvc=new_cvc())
        if event == "delete":
            return delete(self.rows[which])
        if event == "open" or which not in self.opened:
            self.opened[which] = self.sender.opens(self.rows[which], cvc=which == 1)
            return self.opened[which]
        state = State(event)
        return self.sender.settles(self.opened[which], state, result_of(state))


EVENTS = ["create", "delete", "open", *(set(State) - {State.ATTEMPTED})]


@pytest.mark.guards("T-61", "T-27")
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(EVENTS)), min_size=5, max_size=40))
async def test_any_run_of_events_leaves_a_log_that_is_true(
    shared_store: Store, events: list[tuple[int, str]]
) -> None:
    """Whatever comes in whatever order and batches: rows and entries tell the same story."""
    story = Story()
    async with shared_store.replica() as one, shared_store.replica() as two:
        tasks = []
        for number, (which, event) in enumerate(events):
            tasks += appending((one, two)[number % 2].ledger, story.unit(which, event))
            if number % 5 == 0:
                await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*tasks, return_exceptions=True)
    assert (await shared_store.report()).violations == ()
    await rows_say_what_the_log_says(shared_store, story.sender.tenant)


async def rows_say_what_the_log_says(store: Store, tenant: str) -> None:
    states = await store.rows(
        "SELECT i.state, e.type FROM intent_state i JOIN entry e ON e.idx = i.last_idx"
        " WHERE i.tenant = $1",
        tenant,
    )
    assert all(row["type"] == f"authorization.{row['state']}" for row in states)
    said = await store.rows(
        "SELECT type, count(*) FROM entry WHERE position($1::bytea IN body) > 0 GROUP BY type",
        tenant.encode(),
    )
    counted = {row["type"]: row["count"] for row in said}
    created, deleted = (counted.get(f"token.{what}", 0) for what in ("created", "deleted"))
    living = await store.value("SELECT count(*) FROM token WHERE tenant = $1", tenant)
    assert living == created - deleted
