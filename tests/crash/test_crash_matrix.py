"""Killed at each named moment of a payment: what is left, and what a restart makes of it.

The whole gateway, ended by SIGKILL from inside when it passes a milestone; PostgreSQL, OpenBao and
the simulated processor live on, and say what there is: rows and entries, items that were opened,
calls that arrived. However it went, the processor charges a payment once.
"""

from collections.abc import AsyncIterator, Iterator, Mapping

import pytest

from tests.crash.panward import panward
from tests.crash.paying import HELD_CHARGED, HELD_READ, Paying
from tests.crash.stage import Left, Place, Stage, Witness, wire_to
from tests.crash.witnesses import let_leases_end
from tests.flows.deployment import Store, eventually
from tests.flows.merchant import Merchant, new_account, new_idempotency_key, payment
from vault.ledger.entry import (
    AuthorizationAttempted,
    AuthorizationResolved,
    AuthorizationUnknown,
    GatewayStarted,
    decode,
)

pytestmark = [pytest.mark.embedded, pytest.mark.guards("F-40"), pytest.mark.timeout(300)]

OPENED = 2  # a number and a code

NOTHING = Left(claims=0, entries=(), opened=0, arrived=0, charges=0)
INTENT = Left(claims=1, entries=("attempted",), opened=0, arrived=0, charges=0)
CASES: Mapping[str, Left] = {
    "S1": Left(claims=1, entries=(), opened=0, arrived=0, charges=0),
    "S2": INTENT,
    "S3": Left(claims=1, entries=("attempted",), opened=OPENED, arrived=0, charges=0),
    "S4": Left(claims=1, entries=("attempted",), opened=OPENED, arrived=0, charges=0),
    HELD_READ: Left(claims=1, entries=("attempted",), opened=OPENED, arrived=1, charges=0),
    HELD_CHARGED: Left(claims=1, entries=("attempted",), opened=OPENED, arrived=1, charges=1),
    "S6": Left(claims=1, entries=("attempted",), opened=OPENED, arrived=1, charges=1),
    "S7": Left(claims=1, entries=("attempted", "completed"), opened=2, arrived=1, charges=1),
    "S8": Left(claims=1, entries=("attempted", "completed"), opened=2, arrived=1, charges=1),
}
"""What must be left of a payment with a key; one without has no claim."""

SHORT = {"S1", "S3", "S6", "S7"}
"""Without a key the others end as these do: they take their seconds in `make test-long`."""

IN_DOUBT = [case for case, left in CASES.items() if left.entries == ("attempted",)]


@pytest.fixture(scope="module")
def doomed(stage: Stage) -> Iterator[Place]:
    with stage.placed("doomed") as place:
        yield place


@pytest.fixture(scope="module")
def beside(stage: Stage) -> Iterator[Place]:
    with stage.placed("beside") as place:
        yield place


@pytest.fixture
async def paying(stage: Stage, doomed: Place, store: Store) -> AsyncIterator[Paying]:
    account = await new_account(stage.deployment, routes=("stripe", "once"))
    _ = doomed.gateway
    async with wire_to(stage.deployment.client_context()) as wire:
        merchant = Merchant(account, doomed.urls, wire)
        token = await merchant.token()
        before = stage.deployment.processor.counts
        witness = Witness(stage.deployment, store, account.tenant, before)
        yield Paying(stage, doomed, merchant, witness, token)
    stage.deployment.processor.behave()


# --- with an idempotency key --------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
async def test_a_payment_with_a_key(paying: Paying, store: Store, case: str) -> None:
    key = new_idempotency_key()
    dying = await boot_of(store, paying.place)
    await paying.die(case, key)
    assert await paying.witness.left() == CASES[case]
    paying.processor.behave()
    if case == "S1":
        await nothing_was_begun(paying, key)
    elif case in IN_DOUBT:
        await it_is_unknown(paying, dying)
        await its_repeat_is_sent_under_its_key(paying, key)
    else:
        await its_answer_is_kept(paying, key)
    again = await paying.pay(key)
    assert (again.status, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert (await paying.witness.left()).charges == 1
    assert await paying.witness.codes() == 0, "the code is used"


async def boot_of(store: Store, place: Place) -> str:
    """The boot of the gateway that runs there."""
    _ = place.gateway
    replica = (place.state_folder / "replica").read_text().strip()
    boot = await store.fetchval("SELECT boot FROM replica WHERE id = $1", f"{replica}-0")
    return str(boot)


async def nothing_was_begun(paying: Paying, key: str) -> None:
    early = await paying.pay(key)
    assert (early.status, early.error["type"]) == (409, "idempotency_error")
    assert await paying.witness.left() == CASES["S1"]
    assert await let_leases_end(paying.stage.deployment.parts.runtime_dsn) == 1
    paid = await paying.pay(key)
    assert (paid.status, paid.state) == (200, "completed")
    assert (await paying.witness.left()).entries == ("attempted", "completed")


async def it_is_unknown(paying: Paying, dying: str) -> None:
    """A restart says so before it takes a call, and sends nothing by itself."""
    before = await paying.witness.left()
    record = await paying.on_record()
    assert (record["state"], record["result"]) == ("unknown", None)
    attempted, unknown = await paying.witness.entries()
    assert isinstance(attempted, AuthorizationAttempted)
    assert isinstance(unknown, AuthorizationUnknown)
    assert (unknown.intent, unknown.phase, unknown.reason) == (attempted.intent, "crash", "crash")
    assert (unknown.actor.id, unknown.actor.kind) == ("reconciler", "system")
    assert unknown.origin_boot == attempted.boot == dying != unknown.boot
    left = await paying.witness.left()
    assert (left.arrived, left.opened) == (before.arrived, before.opened)
    assert await paying.witness.codes() == 1, "claimed for as long as it is not known"


async def its_repeat_is_sent_under_its_key(paying: Paying, key: str) -> None:
    before = paying.processor.counts
    charged = (await paying.witness.left()).charges
    paid = await paying.pay(key)
    assert (paid.status, paid.state) == (200, "completed")
    first, _, second, *ends = await paying.witness.entries()
    assert isinstance(first, AuthorizationAttempted)
    assert isinstance(second, AuthorizationAttempted)
    assert (second.attempt, second.of) == (2, first.intent)
    resolved = next(entry for entry in ends if isinstance(entry, AuthorizationResolved))
    assert (resolved.intent, resolved.method, resolved.finding) == (
        *(first.intent, "replay", "answered"),
    )
    assert await paying.witness.states() == ["resolved", "completed"]
    counts = paying.processor.counts
    assert counts.requests == before.requests + 1
    assert counts.replays == before.replays + charged, "the processor knew the key"
    same_keys = {call["idempotency_key"] for call in paying.processor.received[-1 - charged :]}
    assert len(same_keys) == 1


async def its_answer_is_kept(paying: Paying, key: str) -> None:
    before = paying.processor.counts
    heard = await paying.pay(key)
    assert (heard.status, heard.state) == (200, "completed")
    assert heard.headers["Idempotent-Replayed"] == "true"
    assert heard.json()["status"] == "succeeded"
    assert paying.processor.counts.requests == before.requests
    assert (await paying.witness.left()).entries == ("attempted", "completed")


# --- without one --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    [case if case in SHORT else pytest.param(case, marks=pytest.mark.long) for case in CASES],
)
async def test_a_payment_without_a_key(paying: Paying, case: str) -> None:
    """Nobody can repeat it: it is on record as what is known of it, and never sent again."""
    await paying.die(case, None)
    left = await paying.witness.left()
    expected = CASES[case]
    assert (left.claims, left.entries, left.opened) == (0, expected.entries, expected.opened)
    assert (left.arrived, left.charges) == (expected.arrived, expected.charges)
    paying.processor.behave()
    if case == "S1":
        _ = paying.place.gateway
        assert await paying.witness.left() == NOTHING
        return
    record = await paying.on_record()
    states = ["unknown"] if case in IN_DOUBT else ["completed"]
    assert [attempt["state"] for attempt in record["attempts"]] == states
    assert await paying.witness.states() == states
    assert (await paying.witness.left()).arrived == expected.arrived


# --- where a repeat may not be sent -------------------------------------------------------


async def test_a_repeat_that_could_charge_twice_is_not_sent(paying: Paying) -> None:
    key = new_idempotency_key()
    await paying.die("S6", key, "once")
    for _ in range(2):
        told = await paying.pay(key, "once")
        assert told.status in {502, 504}
        assert (told.state, told.error["code"]) == ("unknown", "outcome_unknown")
        assert told.headers["Stripe-Should-Retry"] == "false"
    left = await paying.witness.left()
    assert (left.arrived, left.charges) == (1, 1)
    assert left.entries == ("attempted", "unknown")


# --- nobody starts it again ---------------------------------------------------------------


async def test_another_replica_ends_what_was_begun_once_its_lease_is_over(
    paying: Paying, beside: Place, store: Store
) -> None:
    _ = beside.gateway
    key = new_idempotency_key()
    await paying.die("S4", key)
    there = paying.merchant.at(beside.urls)
    early = await there.pay(payment(paying.token, cvc="000"), key=key)
    assert (early.status, early.error["type"]) == (409, "idempotency_error")
    assert await paying.witness.states() == ["attempted"]
    await store.execute(
        "UPDATE intent_state SET due = now() - interval '1 s' WHERE state = 'attempted'"
    )

    async def is_over() -> bool:
        return await paying.witness.states() == ["unknown"]

    await eventually(is_over, "nobody ends it", seconds=20)
    _, unknown = await paying.witness.entries()
    assert isinstance(unknown, AuthorizationUnknown)
    assert (unknown.phase, unknown.boot) == ("crash", await boot_of(store, beside))
    paid = await there.pay(payment(paying.token, cvc="000"), key=key)
    assert (paid.status, paid.state) == (200, "completed")
    assert (await paying.witness.left()).charges == 1


# --- and the record ---------------------------------------------------------------------


async def test_the_record_of_all_that_is_good(stage: Stage, store: Store) -> None:
    """Each boot that was killed is named by the next one, and every decrypt has its intent."""
    ended = await panward("ledger", "verify", "--embedded", str(stage.deployment.parts.folder))
    assert ended.status == 0, ended.out
    rows = await store.fetch("SELECT body FROM entry WHERE type = 'gateway.started' ORDER BY idx")
    starts = [decode(row["body"]) for row in rows]
    named = [start.previous for start in starts if isinstance(start, GatewayStarted)]
    assert len(named) - named.count(named[0]) >= len(CASES)
