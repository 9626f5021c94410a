"""Idempotency keys: every cell of the claim table, and races of who claims with who sends."""

import asyncio
import secrets
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.vault.rows import Sender, create, new_cvc, new_tenant
from tests.vault.stores import Replica, Store
from vault import claim_table, db
from vault.authorization import (
    Claim,
    Claimed,
    Finding,
    KeyReused,
    RepeatRules,
    Result,
    State,
    StillOpen,
    Stored,
    Unsettled,
)
from vault.claim_table import KEPT, LEASE, ClaimHold, ClaimRequest, ClaimTable
from vault.db import Database
from vault.errors import StoreUnavailable
from vault.intent_table import ClaimLost, OpenIntent
from vault.ledger.unit import Placed
from vault.token_table import TokenRow

pytestmark = pytest.mark.embedded

NO_REPLAY = RepeatRules()
REPLAY = RepeatRules(replay_seconds=24 * 3600, not_executed=frozenset({429, 401}))


@dataclass
class Merchant:
    """Who sends one request again and again, under one key."""

    store: Store
    replica: Replica
    table: ClaimTable
    rules: RepeatRules = NO_REPLAY
    sender: Sender = field(default_factory=Sender)
    key_digest: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    body_digest: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    at: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.at = self.store.clock.at

    def request(self, **changes: Any) -> ClaimRequest:  # noqa: ANN401 - fields by their names
        request = ClaimRequest(
            self.sender.tenant, "stripe", self.key_digest, self.body_digest, self.rules, self.at
        )
        return replace(request, **changes)

    async def claims(self, **changes: Any) -> Claim:  # noqa: ANN401 - as above
        return await self.table.claim(self.request(**changes))

    async def must_claim(self) -> Claimed:
        claim = await self.claims()
        assert isinstance(claim, Claimed)
        return claim

    def hold(self, claim: Claimed) -> ClaimHold:
        return ClaimHold(self.sender.tenant, "stripe", self.key_digest, claim.nonce)

    def intent(self, claim: Claimed, *rows: TokenRow, cvc: bool = False) -> OpenIntent:
        return self.sender.opens(
            *rows, cvc=cvc, hold=self.hold(claim), first=claim.of, attempt=claim.attempt
        )

    async def attempts(self, *rows: TokenRow, cvc: bool = False) -> OpenIntent:
        unit = self.intent(await self.must_claim(), *rows, cvc=cvc)
        await self.replica.ledger.append(unit, seconds=10)
        return unit

    async def ends(
        self,
        unit: OpenIntent,
        state: State,
        result: Result | None = None,
        **more: Any,  # noqa: ANN401 - as above
    ) -> None:
        await self.replica.ledger.append(
            self.sender.settles(unit, state, result, **more), seconds=10
        )


@pytest.fixture
async def merchant(shared_store: Store) -> Any:  # noqa: ANN401 - pytest's
    table = ClaimTable(shared_store.database)
    async with shared_store.replica() as replica:
        yield Merchant(shared_store, replica, table)
    await table.close()


# --- the table ------------------------------------------------------------------------------


async def test_the_first_runs_and_the_next_waits(merchant: Merchant) -> None:
    claim = await merchant.must_claim()
    assert (claim.of, claim.attempt, claim.unsettled) == (None, 1, ())
    assert await merchant.claims() == StillOpen()


@pytest.mark.guards("T-26")
async def test_another_body_is_refused_in_every_state(merchant: Merchant) -> None:
    other = secrets.token_bytes(32)
    claim = await merchant.must_claim()
    assert await merchant.claims(body_digest=other) == KeyReused()
    unit = merchant.intent(claim)
    await merchant.replica.ledger.append(unit)
    assert await merchant.claims(body_digest=other) == KeyReused()
    await merchant.ends(unit, State.UNKNOWN)
    assert await merchant.claims(body_digest=other) == KeyReused()
    await merchant.ends(unit, State.RESOLVED, Result.DECLINED)
    assert await merchant.claims(body_digest=other) == KeyReused()


@pytest.mark.guards("T-26")
@pytest.mark.parametrize("other", ["tenant", "route", "key"])
async def test_a_key_is_one_tenant_s_on_one_route(merchant: Merchant, other: str) -> None:
    await merchant.must_claim()
    changes: dict[str, dict[str, Any]] = {
        "tenant": {"tenant": new_tenant()},
        "route": {"route": "adyen"},
        "key": {"key_digest": secrets.token_bytes(32)},
    }
    assert isinstance(await merchant.claims(**changes[other]), Claimed)


async def test_one_that_is_under_way_is_waited_for(merchant: Merchant) -> None:
    await merchant.attempts()
    merchant.at += timedelta(days=1)  # a claim with an intent never expires
    assert await merchant.claims() == StillOpen()


@pytest.mark.parametrize(
    ("state", "result"),
    [
        (State.COMPLETED, Result.APPROVED),
        (State.COMPLETED, Result.DECLINED),
        (State.COMPLETED, Result.ERROR),
        (State.COMPLETED, Result.PENDING),
        (State.RESOLVED, Result.APPROVED),
    ],
)
async def test_one_that_has_ended_has_an_answer(
    merchant: Merchant, state: State, result: Result
) -> None:
    unit = await merchant.attempts()
    if state is State.RESOLVED:
        await merchant.ends(unit, State.UNKNOWN)
    await merchant.ends(unit, state, result, status=200)
    assert await merchant.claims() == Stored(unit.facts.intent)
    merchant.rules = REPLAY
    assert await merchant.claims() == Stored(unit.facts.intent)


async def test_what_was_not_sent_runs_again(merchant: Merchant) -> None:
    unit = await merchant.attempts()
    await merchant.ends(unit, State.NOT_SENT)
    claim = await merchant.must_claim()
    assert (claim.of, claim.attempt, claim.unsettled) == (unit.facts.intent, 2, ())
    assert await merchant.claims() == StillOpen()  # the new lease


@pytest.mark.parametrize("status", [429, 401, 402])
async def test_what_was_not_executed_runs_again(merchant: Merchant, status: int) -> None:
    unit = await merchant.attempts()
    await merchant.ends(unit, State.COMPLETED, Result.ERROR, status=status)
    assert await merchant.claims() == Stored(unit.facts.intent)
    merchant.rules = REPLAY
    claim = await merchant.claims()
    assert isinstance(claim, Claimed) is (status in REPLAY.not_executed)


@pytest.mark.parametrize("finding", Finding)
async def test_what_is_found_never_to_have_arrived_runs_again(
    merchant: Merchant, finding: Finding
) -> None:
    unit = await merchant.attempts()
    await merchant.ends(unit, State.UNKNOWN)
    await merchant.ends(unit, State.RESOLVED, Result.ERROR, finding=finding)
    frees = finding in {Finding.NOT_RECEIVED, Finding.NOT_SENT}
    assert isinstance(await merchant.claims(), Claimed) is frees


@pytest.mark.guards("T-26")
async def test_an_unknown_outcome_is_replayed_only_where_the_processor_keeps_keys(
    merchant: Merchant,
) -> None:
    unit = await merchant.attempts()
    await merchant.ends(unit, State.UNKNOWN)
    assert await merchant.claims() == Unsettled()
    merchant.rules = REPLAY
    merchant.at += timedelta(hours=24)
    assert await merchant.claims() == Unsettled()  # the processor has forgotten the key
    merchant.at -= timedelta(minutes=1)
    claim = await merchant.must_claim()
    first = unit.facts.intent
    assert (claim.of, claim.attempt, claim.unsettled) == (first, 2, (first,))


@pytest.mark.guards("T-71", "T-26")
async def test_an_unknown_outcome_is_replayed_only_while_its_code_is_there(
    merchant: Merchant,
) -> None:
    merchant.rules = REPLAY
    row = merchant.sender.row()
    await merchant.replica.ledger.append(create(row, cvc=new_cvc()))
    unit = await merchant.attempts(row, cvc=True)
    await merchant.ends(unit, State.UNKNOWN)
    store = merchant.store
    await store.do(
        "UPDATE cvc SET expires_at = now() - interval '1 second' WHERE token = $1", row.id
    )
    assert await merchant.claims() == Unsettled()
    await store.do(
        "UPDATE cvc SET expires_at = now() + interval '1 minute' WHERE token = $1", row.id
    )
    assert isinstance(await merchant.claims(), Claimed)


@pytest.mark.guards("T-26")
async def test_a_replay_that_came_to_nothing_settles_nothing(merchant: Merchant) -> None:
    """Only the attempt before may have charged: its doubt decides, with its own time."""
    merchant.rules = REPLAY
    first = await merchant.attempts()
    await merchant.ends(first, State.UNKNOWN)
    second = await merchant.attempts()
    await merchant.ends(second, State.NOT_SENT)
    third = await merchant.attempts()
    await merchant.ends(third, State.COMPLETED, Result.ERROR, status=429)
    claim = await merchant.must_claim()
    assert (claim.of, claim.attempt) == (first.facts.intent, 4)
    assert claim.unsettled == (first.facts.intent,)
    await merchant.table.free(merchant.hold(claim))
    merchant.at += timedelta(hours=25)
    assert await merchant.claims() == Unsettled()
    merchant.at -= timedelta(hours=25)
    merchant.rules = replace(REPLAY, replay_seconds=None)
    assert await merchant.claims() == Unsettled()


@pytest.mark.guards("T-26")
@pytest.mark.parametrize("nothing", [State.NOT_SENT, State.COMPLETED, State.RESOLVED])
async def test_what_was_found_out_about_an_earlier_send_outlives_a_replay_that_came_to_nothing(
    merchant: Merchant, nothing: State
) -> None:
    """To run it again, after the processor has forgotten the key, would charge twice."""
    merchant.rules = REPLAY
    first = await merchant.attempts()
    await merchant.ends(first, State.UNKNOWN)
    second = await merchant.attempts()
    if nothing is State.RESOLVED:
        await merchant.ends(second, State.UNKNOWN)
        await merchant.ends(second, nothing, Result.ERROR, finding=Finding.NOT_RECEIVED)
    else:
        result = Result.ERROR if nothing is State.COMPLETED else None
        await merchant.ends(second, nothing, result, status=429)
    await merchant.ends(first, State.RESOLVED, Result.APPROVED)
    merchant.at += timedelta(hours=25)
    assert await merchant.claims() == Stored(first.facts.intent)


# --- leases ---------------------------------------------------------------------------------


@pytest.mark.guards("T-26")
async def test_a_claim_that_led_to_no_intent_is_taken_over_after_its_lease(
    merchant: Merchant,
) -> None:
    first = await merchant.must_claim()
    merchant.at += LEASE - timedelta(seconds=1)
    assert await merchant.claims() == StillOpen()
    merchant.at += timedelta(seconds=1)
    second = await merchant.must_claim()
    assert (second.of, second.attempt) == (None, 1)
    assert second.nonce != first.nonce
    assert await merchant.claims() == StillOpen()


@pytest.mark.guards("T-26")
async def test_who_comes_back_too_late_cannot_send(merchant: Merchant) -> None:
    late = merchant.intent(await merchant.must_claim())
    merchant.at += LEASE
    soon = merchant.intent(await merchant.must_claim())
    with pytest.raises(ClaimLost):
        await merchant.replica.ledger.append(late)
    await merchant.replica.ledger.append(soon)
    with pytest.raises(ClaimLost):
        await merchant.replica.ledger.append(late)


@pytest.mark.guards("T-26")
async def test_who_sends_just_in_time_cannot_be_taken_over(merchant: Merchant) -> None:
    unit = merchant.intent(await merchant.must_claim())
    await merchant.replica.ledger.append(unit)
    merchant.at += LEASE * 2
    assert await merchant.claims() == StillOpen()


@pytest.mark.guards("T-26", "T-61")
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.integers(0, 5), min_size=2, max_size=8), st.booleans())
async def test_whatever_the_order_one_intent_is_opened(
    merchant: Merchant,
    delays: list[int],
    late: bool,  # noqa: FBT001
) -> None:
    """The first holder comes back at its lease's end, while others take over."""
    merchant = replace(merchant, key_digest=secrets.token_bytes(32))
    first = await merchant.must_claim()
    merchant.at += LEASE if late else timedelta(0)

    async def takes_over(turns: int) -> object:
        for _ in range(turns):
            await asyncio.sleep(0)
        claim = await merchant.claims()
        if not isinstance(claim, Claimed):
            return claim
        return await opens(claim)

    async def opens(claim: Claimed) -> object:
        try:
            return await merchant.replica.ledger.append(merchant.intent(claim), seconds=10)
        except ClaimLost as lost:
            return lost

    outcomes = await asyncio.gather(opens(first), *(takes_over(turns) for turns in delays))
    assert len([one for one in outcomes if isinstance(one, list)]) == 1
    intents = await merchant.store.value(
        "SELECT count(*) FROM authorizations WHERE key_digest = $1", merchant.key_digest
    )
    assert intents == 1


@pytest.mark.guards("T-26")
async def test_who_waits_for_the_claim_sees_the_intent_that_came_meanwhile(
    merchant: Merchant,
) -> None:
    """One statement that waits and joins would see the claim as it is beside no intent."""
    store = merchant.store
    claim = await merchant.must_claim()
    merchant.at += LEASE
    unit = merchant.intent(claim)
    async with store.session() as writer:
        transaction = writer.transaction()
        await transaction.start()
        assert await OpenIntent.check(writer, [unit], merchant.at) == {}
        # From where it has seen that the key was claimed before: until then, that alone waits.
        repeated = asyncio.create_task(merchant.table._repeat(merchant.request(), uuid4()))
        await store.until_blocked()
        await OpenIntent.apply(writer, [unit], [[Placed(0, bytes(32), merchant.at)]])
        await transaction.commit()
    assert await repeated == StillOpen()


# --- many at once ---------------------------------------------------------------------------


@pytest.mark.guards("T-26", "T-27")
async def test_fifty_at_once_are_one(merchant: Merchant) -> None:
    neighbor = replace(merchant, table=ClaimTable(merchant.store.database))
    for _ in range(5):
        merchant.key_digest = neighbor.key_digest = secrets.token_bytes(32)
        claims = await asyncio.gather(
            *((merchant, neighbor)[n % 2].claims() for n in range(50)),
        )
        assert sorted(type(one).__name__ for one in claims) == ["Claimed", *["StillOpen"] * 49]


async def test_a_batch_with_the_same_key_twice_and_with_others(merchant: Merchant) -> None:
    other = merchant.request(key_digest=secrets.token_bytes(32))
    answers = await merchant.table._claim_batch(
        [
            merchant.request(),
            other,
            merchant.request(),
            merchant.request(body_digest=secrets.token_bytes(32)),
        ]
    )
    kinds = [type(answer) for answer in answers]
    assert kinds[1] is Claimed
    assert kinds.count(Claimed) == 2
    assert isinstance(await merchant.claims(), StillOpen | KeyReused)


@pytest.mark.guards("F-11")
async def test_a_repeat_that_fails_leaves_its_neighbors_their_claims(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim that was made and not told would keep its merchant waiting for its lease."""
    await merchant.must_claim()
    monkeypatch.setitem(db.SETTINGS, "lock_timeout", "50ms")
    database = await Database.open(merchant.store.dsns.runtime_dsn)
    merchant.table = ClaimTable(database)
    other = merchant.request(key_digest=secrets.token_bytes(32))
    async with merchant.store.session() as holder, holder.transaction():
        await holder.execute(
            "SELECT 1 FROM claim WHERE key_digest = $1 FOR UPDATE", merchant.key_digest
        )
        one, two = await asyncio.gather(
            merchant.claims(), merchant.table.claim(other), return_exceptions=True
        )
    assert isinstance(one, StoreUnavailable)
    assert isinstance(two, Claimed)
    await database.close()


# --- given back and swept -------------------------------------------------------------------


async def test_a_claim_that_is_given_back_is_free_at_once(merchant: Merchant) -> None:
    claim = await merchant.must_claim()
    await merchant.table.free(merchant.hold(claim))
    assert isinstance(await merchant.claims(), Claimed)


@pytest.mark.guards("T-26")
async def test_only_its_holder_gives_a_claim_back(merchant: Merchant) -> None:
    late = await merchant.must_claim()
    merchant.at += LEASE
    await merchant.must_claim()
    await merchant.table.free(merchant.hold(late))
    assert await merchant.claims() == StillOpen()


@pytest.mark.guards("T-26")
async def test_a_claim_with_an_intent_is_not_given_back(merchant: Merchant) -> None:
    claim = await merchant.must_claim()
    await merchant.replica.ledger.append(merchant.intent(claim))
    await merchant.table.free(merchant.hold(claim))
    assert await merchant.claims() == StillOpen()


async def test_a_repeat_that_is_given_back_leaves_what_was_before(merchant: Merchant) -> None:
    merchant.rules = REPLAY
    unit = await merchant.attempts()
    await merchant.ends(unit, State.UNKNOWN)
    claim = await merchant.must_claim()
    assert await merchant.claims() == StillOpen()
    await merchant.table.free(merchant.hold(claim))
    again = await merchant.must_claim()
    assert (again.of, again.attempt) == (unit.facts.intent, 2)


async def test_who_comes_while_a_claim_is_given_back_may_run(merchant: Merchant) -> None:
    await merchant.must_claim()
    store = merchant.store
    async with store.session() as holder:
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("DELETE FROM claim WHERE key_digest = $1", merchant.key_digest)
        repeated = asyncio.create_task(merchant.claims())
        await store.until_blocked()
        await transaction.commit()
    assert isinstance(await repeated, Claimed)


async def test_a_claim_that_was_given_back_before_a_repeat_could_look(merchant: Merchant) -> None:
    assert await merchant.table._repeat(merchant.request(), uuid4()) == StillOpen()


@pytest.mark.guards("T-26")
async def test_claims_are_forgotten_with_their_answers_and_never_while_in_doubt(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = ClaimTable(store.database)
    async with store.replica() as replica:
        bare, ended, open_, doubtful, leased = (
            Merchant(store, replica, table, rules=REPLAY) for _ in range(5)
        )
        await bare.must_claim()
        await leased.must_claim()
        await ended.ends(await ended.attempts(), State.COMPLETED, Result.APPROVED)
        await open_.attempts()
        await doubtful.ends(await doubtful.attempts(), State.UNKNOWN)
        at = store.clock.at + KEPT
        assert await table.sweep(at) == 0
        at += timedelta(seconds=1)
        leased.at = at
        await leased.must_claim()
        monkeypatch.setattr(claim_table, "SWEEP_ROWS_MAX", 1)
        assert [await table.sweep(at) for _ in range(3)] == [1, 1, 0]
        left = {row["key_digest"] for row in await store.rows("SELECT key_digest FROM claim")}
        assert left == {open_.key_digest, doubtful.key_digest, leased.key_digest}
