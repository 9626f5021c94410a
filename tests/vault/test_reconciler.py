"""What is not known is looked into until it is, or given up; the first evidence counts."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from tests.vault.doubtful import RULES, UNKNOWN, Court, court
from tests.vault.fake_node import FakeCluster, fake_cluster
from tests.vault.rows import Sender
from tests.vault.stores import Store
from vault.authorization import Claimed, Finding, Result, State, Stored, Unsettled
from vault.authorizations import Answer, Ending
from vault.doubt_table import Doubt, DoubtTable
from vault.doubts import KEPT_BYTES_MAX, KeptRequest, Resolved
from vault.errors import LedgerUnavailable, RecordCorrupt
from vault.keys import Sealed
from vault.ledger.entry import AuthorizationResolved, TokenDeleted
from vault.reconciler import Look
from vault.resolutions import RECONCILER, Evidence, Scribe, contradiction

pytestmark = [pytest.mark.embedded, pytest.mark.guards("F-23", "F-40")]

ANSWER = Answer(201, (("content-type", "application/json"),), b'{"id":"pi_1"}')
APPROVED = Evidence(
    "inquiry",
    Finding.ANSWERED,
    Result.APPROVED,
    processor_reference="pi_1",
    authorization_code="A1",
)
NOT_RECEIVED = Evidence("inquiry", Finding.NOT_RECEIVED)
REQUEST = KeptRequest("POST", "/v1/x", "", (("a", "b"),), b"amount=1999", b"key")


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as made:
        yield made


@pytest.fixture
async def here(store: Store, cluster: FakeCluster, tmp_path: Path) -> AsyncIterator[Court]:
    async with court(store, cluster, tmp_path / "spool") as made:
        yield made
        assert (await store.report()).violations == ()


async def resolved(here: Court) -> AuthorizationResolved:
    (entry,) = await here.store.entries("authorization.resolved")
    assert isinstance(entry, AuthorizationResolved)
    return entry


# --- looking, and when --------------------------------------------------------------------


async def test_evidence_ends_the_doubt(here: Court) -> None:
    cards = await here.card()
    intent = await here.in_doubt(*cards, key=b"key")
    assert await here.turn(seconds=29) == []
    here.oracle.says = Look("answered", APPROVED, ANSWER)
    assert await here.turn(seconds=2) == ["answered"]
    (doubt,) = here.oracle.asked
    assert (doubt.first, doubt.merchant_reference, doubt.amount) == (intent.id, "order-1", 1999)
    assert doubt.singles == (cards[0][1].id,)
    entry = await resolved(here)
    assert (entry.method, entry.finding, entry.result) == ("inquiry", "answered", "approved")
    assert (entry.actor, entry.intent) == (RECONCILER, intent.id)
    assert await here.store.count("cvc") == await here.store.count("token") == 0
    row = await here.authorizations.get(here.tenant, intent.id)
    assert row is not None
    assert (row.state, row.result, row.processor_reference) == ("resolved", "approved", "pi_1")
    assert row.authorization_code == "A1"
    assert row.attempts[0].finding == "answered"
    claim, _ = await here.claims(await here.call(b"key"))
    assert claim == Stored(intent.id)
    assert await here.record.stored_answer(here.tenant, intent.id) == ANSWER
    assert await here.turn(days=1) == []


async def test_it_is_looked_into_less_and_less_often_and_then_given_up(here: Court) -> None:
    cards = await here.card()
    intent = await here.in_doubt(*cards)
    pauses = []
    started = here.store.clock.at
    here.store.clock.advance(seconds=31)
    for _ in range(20):
        words = await here.turn()
        if words == ["given_up"]:
            break
        assert words == ["not_found"]
        pauses.append(await here.due_in(intent))
        assert await here.turn() == []
        here.store.clock.advance(seconds=pauses[-1].total_seconds() + 1)
    assert pauses[:6] == [
        timedelta(minutes=2),
        timedelta(minutes=10),
        timedelta(hours=1),
        timedelta(hours=6),
        timedelta(days=1),
        timedelta(days=1),
    ]
    assert here.store.clock.at - started >= timedelta(days=7)
    assert here.store.clock.at - started < timedelta(days=7, minutes=1)
    entry = await resolved(here)
    assert (entry.method, entry.finding, entry.result) == ("deadline", "given_up", "error")
    deleted = await here.store.entries("token.deleted")
    assert [entry.token for entry in deleted if isinstance(entry, TokenDeleted)] == [
        cards[0][1].id
    ], "nobody knows whether it was used: it is not used again"


async def test_what_is_not_received_frees_the_key(here: Court) -> None:
    cards = await here.card()
    intent = await here.in_doubt(*cards, key=b"key")
    call = await here.call(b"key")
    no_replay = replace(RULES, replay_seconds=None)
    assert await here.record.claim(call, no_replay) == (Unsettled(), None)
    here.oracle.says = Look("not_received", NOT_RECEIVED)
    assert await here.turn(seconds=31) == ["not_received"]
    claim, _ = await here.record.claim(call, no_replay)
    assert isinstance(claim, Claimed)
    assert (claim.of, claim.attempt, claim.unsettled) == (intent.id, 2, ())
    assert await here.store.count("token") == 1
    assert await here.store.value("SELECT claimed_by IS NULL FROM cvc")


async def test_an_orphan_is_called_unknown_and_then_looked_into(here: Court) -> None:
    gone = Sender(here.tenant)
    unit = gone.opens(merchant_reference="order-1")
    await here.replica.ledger.append(unit)
    here.oracle.says = Look("answered", APPROVED)
    assert await here.turn(seconds=31) == []
    assert await here.record.end_orphans() == 1
    assert await here.turn() == ["answered"]
    entry = await resolved(here)
    assert entry.origin_boot == str(gone.boot)
    assert entry.boot == str(here.replica.boot)


async def test_nobody_looks_while_the_merchant_s_own_repeat_is_under_way(here: Court) -> None:
    intent = await here.in_doubt(key=b"key")
    call = await here.call(b"key")
    again = await here.attempts(call)
    assert again.unsettled == (intent.id,)
    assert await here.turn(minutes=1) == []
    assert await here.record.settle(again, UNKNOWN, None)
    here.oracle.says = Look("answered", APPROVED, ANSWER)
    assert await here.turn(minutes=10) == ["answered"]
    (doubt,) = here.oracle.asked
    assert [send.intent for send in doubt.sends] == [again.id, intent.id]
    entries = await here.store.entries("authorization.resolved")
    assert {getattr(entry, "intent", "") for entry in entries} == {intent.id, again.id}
    claim, _ = await here.claims(call)
    assert claim == Stored(again.id)
    assert await here.record.stored_answer(here.tenant, again.id) == ANSWER


async def test_two_replicas_do_not_look_into_the_same(here: Court) -> None:
    for _ in range(20):
        await here.in_doubt(reference=None)
    at = here.store.clock.advance(seconds=31)
    tables = [DoubtTable(here.store.database) for _ in range(4)]
    found = await asyncio.gather(*(table.claim(at, limit=5) for table in tables for _ in range(3)))
    firsts = [doubt.first for doubts in found for doubt in doubts]
    assert sorted(firsts) == sorted(set(firsts))
    assert len(firsts) == 20


async def test_whoever_has_evidence_first_counts(here: Court) -> None:
    intent = await here.in_doubt()
    (doubt,) = await here.table.open()
    here.oracle.says = Look("not_received", NOT_RECEIVED)
    late = Ending(State.COMPLETED, Result.APPROVED, status=200)
    assert await here.record.settle(intent, late, ANSWER)
    assert await here.doubts.resolve(doubt, NOT_RECEIVED) is Resolved.TOO_LATE
    entry = await resolved(here)
    assert (entry.method, entry.result) == ("late_reply", "approved")


async def test_a_store_that_is_away_is_asked_again(
    here: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    await here.in_doubt()
    here.oracle.says = Look("answered", APPROVED)

    async def away(*_: object, **__: object) -> None:
        raise LedgerUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(here.doubts, "resolve", away)
        assert await here.turn(seconds=31) == ["failed"]
    with monkeypatch.context() as patched:
        patched.setattr(here.table, "claim", away)
        assert await here.turn(minutes=3) == []
    assert await here.turn() == ["answered"]


async def test_what_is_settled_by_being_sent_again_needs_no_evidence(here: Court) -> None:
    await here.in_doubt()
    here.oracle.says = Look("replayed")
    assert await here.turn(days=8) == ["replayed"]
    assert await here.store.entries("authorization.resolved") == []


# --- rivals, callbacks, contradictions ----------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "route", "minutes", "is_rival"),
    [
        ("order-1", "stripe", 0, True),
        ("order-1", "quick", 0, True),
        ("order-2", "stripe", 0, False),
        ("order-1", "stripe", 60, False),
    ],
)
async def test_another_with_its_reference_is_a_rival(
    here: Court,
    reference: str,
    route: str,
    minutes: int,
    is_rival: bool,  # noqa: FBT001
) -> None:
    await here.in_doubt()
    (doubt,) = await here.table.open()
    here.store.clock.advance(minutes=minutes)
    await here.attempts(await here.call(reference=reference, route=route))
    since, until = doubt.since - timedelta(minutes=5), doubt.until + timedelta(minutes=5)
    operations = ["payment_intents.create"]
    found = await here.table.has_rival(doubt, operations, since=since, until=until)
    assert found is is_rival
    assert not await here.table.has_rival(doubt, ["charges.create"], since=since, until=until)


async def test_one_that_was_not_sent_is_no_rival(here: Court) -> None:
    await here.in_doubt()
    (doubt,) = await here.table.open()
    other = await here.attempts(await here.call())
    nothing = Ending(State.NOT_SENT, phase="connect", reason="upstream_unreachable")
    await here.record.settle(other, nothing, None)
    window = {"since": doubt.since, "until": doubt.until + timedelta(minutes=5)}
    assert not await here.table.has_rival(doubt, ["payment_intents.create"], **window)


async def test_later_evidence_names_what_it_contradicts(here: Court) -> None:
    intent = await here.in_doubt()
    assert await here.doubts.contradict(here.tenant, intent.id, APPROVED) is Resolved.NOTHING
    assert await here.turn(days=8) == ["given_up"]
    ended = await here.table.ended(here.tenant, intent.id)
    assert ended is not None
    manual = replace(APPROVED, method="manual", words="the processor's back office shows it")
    assert await here.doubts.contradict(here.tenant, intent.id, manual) is Resolved.DONE
    gave_up, entry = await here.store.entries("authorization.resolved")
    assert isinstance(entry, AuthorizationResolved)
    assert entry.supersedes == ended.last_idx
    assert getattr(gave_up, "finding", "") == "given_up"
    row = await here.authorizations.get(here.tenant, intent.id)
    assert row is not None
    assert (row.state, row.result) == ("resolved", "approved")
    by = Scribe(RECONCILER, None, here.store.clock)
    stale = contradiction(here.tenant, intent.id, ended, manual, by)
    with pytest.raises(Exception, match="another outcome"):
        await here.replica.ledger.append(stale)


# --- kept requests ------------------------------------------------------------------------


@pytest.mark.guards("T-38")
async def test_a_request_is_kept_until_its_outcome_is_known(here: Court) -> None:
    intent, other = await here.in_doubt(), await here.in_doubt()
    for each in (intent, other):
        request = REQUEST if each is intent else msgspec.structs.replace(REQUEST, body=b"2")
        for _ in range(2):
            await here.doubts.keep(here.tenant, each.first, request, lifetime=timedelta(hours=1))
    assert await here.doubts.kept(here.tenant, intent.first) == REQUEST
    assert await here.doubts.kept("t_other", intent.first) is None
    stored = await here.store.rows("SELECT * FROM kept_request ORDER BY first")
    assert all(row["ciphertext"].startswith("vault:v1:") for row in stored)
    await here.store.do("UPDATE kept_request SET ciphertext = $1", stored[0]["ciphertext"])
    swapped = intent if str(stored[0]["first"]) != intent.first else other
    with pytest.raises(RecordCorrupt):
        await here.doubts.kept(here.tenant, swapped.first)
    here.oracle.says = Look("answered", APPROVED)
    assert await here.turn(seconds=31) == ["answered", "answered"]
    assert await here.store.count("kept_request") == 0


async def test_a_request_is_kept_for_as_long_as_its_key(here: Court) -> None:
    intent = await here.in_doubt()
    await here.doubts.keep(here.tenant, intent.first, REQUEST, lifetime=timedelta(hours=1))
    await here.turn(minutes=59)
    assert await here.doubts.kept(here.tenant, intent.first) == REQUEST
    here.store.clock.advance(minutes=2)
    assert await here.doubts.kept(here.tenant, intent.first) is None
    await here.turn()
    assert await here.store.count("kept_request") == 0


async def test_a_kept_request_is_not_a_stored_answer(here: Court) -> None:
    """Put in each other's place, neither opens."""
    intent = await here.in_doubt(key=b"key")
    await here.doubts.keep(here.tenant, intent.first, REQUEST, lifetime=timedelta(hours=1))
    here.oracle.says = Look("answered", APPROVED, ANSWER)
    kept = await here.table.kept(here.tenant, intent.first, here.store.clock.at)
    assert isinstance(kept, Sealed)
    await here.turn(seconds=31)
    await here.store.do("UPDATE answer SET ciphertext = $1", kept.ciphertext)
    with pytest.raises(RecordCorrupt):
        await here.record.stored_answer(here.tenant, intent.id)


async def test_a_request_that_is_too_large_is_not_kept(here: Court) -> None:
    intent = await here.in_doubt()
    large = msgspec.structs.replace(REQUEST, body=bytes(KEPT_BYTES_MAX))
    await here.doubts.keep(here.tenant, intent.first, large, lifetime=timedelta(hours=1))
    assert await here.store.count("kept_request") == 0


async def test_an_answer_that_cannot_be_sealed_costs_only_itself(
    here: Court, cluster: FakeCluster
) -> None:
    intent = await here.in_doubt(key=b"key")
    (doubt,) = await here.table.open()
    large = Answer(201, (), bytes(KEPT_BYTES_MAX))
    cluster.vault.sealed = True
    try:
        assert await here.doubts.resolve(doubt, APPROVED, ANSWER) is Resolved.DONE
    finally:
        cluster.vault.sealed = False
    assert await here.record.stored_answer(here.tenant, intent.id) is None
    other = await here.in_doubt()
    again: Doubt | None = await here.table.of(here.tenant, other.id)
    assert again is not None
    assert await here.table.of("t_other", other.id) is None
    assert await here.doubts.resolve(again, APPROVED, large) is Resolved.DONE
    assert await here.table.tenant_of(other.id) == here.tenant
