"""Claim, intent, outcome, stored answer: and outcomes that the ledger could not take at once."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.vault.fake_node import FakeCluster, fake_cluster
from tests.vault.keyrings import reveal_keys
from tests.vault.ledger.samples import new_uuid
from tests.vault.ledger.test_store import freeze_commits
from tests.vault.places import place_of_cluster
from tests.vault.postgres_relay import AtCommit, Relay, relayed
from tests.vault.rows import ACTOR, Sender, create, new_cvc, new_tenant, outcome_entry
from tests.vault.stores import Replica, Store, until
from vault.authorization import (
    Claimed,
    Finding,
    KeyReused,
    Kind,
    RepeatRules,
    Result,
    State,
    StillOpen,
    Stored,
)
from vault.authorization_table import AuthorizationTable
from vault.authorizations import (
    ANSWER_BYTES_MAX,
    Answer,
    Authorizations,
    Call,
    Ending,
    Intent,
    digest_text,
    resolved_instead,
    without,
)
from vault.claim_table import ClaimTable
from vault.db import Database
from vault.errors import (
    CvcExpired,
    KeysSealed,
    LedgerSealed,
    StoreUnavailable,
    TokenUnknown,
)
from vault.intent_table import ClaimLost, SettleIntent
from vault.keys import Keyed, RevealKeys
from vault.ledger.entry import AuthorizationResolved, Entry, Opening, Outcome, TokenDeleted
from vault.ledger.store import Ledger
from vault.ledger.unit import Line
from vault.resolutions import RECONCILER
from vault.spool import Spool
from vault.token_table import TokenRow

pytestmark = pytest.mark.embedded

REPLAY = RepeatRules(replay_seconds=3600)
APPROVED = Ending(
    State.COMPLETED,
    Result.APPROVED,
    status=200,
    milliseconds=120,
    processor_reference="pi_1",
    authorization_code="A1",
)
UNKNOWN = Ending(State.UNKNOWN, phase="sent", reason="upstream_timeout")
NOT_SENT = Ending(State.NOT_SENT, phase="connect", reason="upstream_unreachable")
ANSWER = Answer(200, (("content-type", "application/json"),), b'{"id":"pi_1"}')


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as made:
        yield made


@dataclass
class Process:
    """One process of a gateway, as far as authorizations go, and a merchant of it."""

    store: Store
    replica: Replica
    record: Authorizations
    spool: Spool
    table: AuthorizationTable
    keys: RevealKeys
    tenant: str = field(default_factory=new_tenant)
    rules: RepeatRules = REPLAY

    async def call(self, key: bytes | None = None, body: bytes = b"amount=1999") -> Call:
        of_key, of_body = await self.record.digests(self.tenant, key=key, request=body)
        return Call(
            tenant=self.tenant,
            actor=ACTOR,
            route="stripe",
            operation="payment_intents.confirm",
            kind=Kind.AUTHORIZE,
            host="api.stripe.com:443",
            amount=1999,
            currency="EUR",
            merchant_reference="order-1",
            source_address="192.0.2.1",
            key_digest=of_key,
            request_digest=of_body,
        )

    async def attempts(self, *cards: tuple[Opening, TokenRow], key: bytes | None = None) -> Intent:
        call = await self.call(key)
        claim, hold = await self.record.claim(call, self.rules)
        assert isinstance(claim, Claimed)
        return await self.record.attempt(call, cards, claim, hold)

    async def card(
        self, *, cvc: bool = False, single_use: bool = False
    ) -> list[tuple[Opening, TokenRow]]:
        row = Sender(self.tenant).row(single_use=single_use)
        await self.replica.ledger.append(create(row, cvc=new_cvc() if cvc else None), seconds=10)
        pan = Opening(key="pan", token=row.id, version=1), row
        code = Opening(key="cvc", token=row.id, version=3), row
        return [pan, code] if cvc else [pan]

    def seal(self) -> str | None:
        return self.replica.ledger.sealed_because

    async def said(self, intent: Intent) -> list[Entry]:
        """What the log says of an intent, in its order."""
        entries = await self.store.entries()
        return [entry for entry in entries if getattr(entry, "intent", None) == intent.id]

    async def state(self, intent: Intent) -> str:
        row = await self.table.get(self.tenant, intent.first)
        assert row is not None
        return next(one.state for one in row.attempts if one.intent == intent.id)

    async def details(self, entry: Entry) -> dict[str, Any]:
        body = await self.store.value("SELECT body FROM detail WHERE id::text = $1", entry.id)
        assert isinstance(body, bytes)
        found: dict[str, Any] = json.loads(body)
        return found


@asynccontextmanager
async def process(
    store: Store,
    cluster: FakeCluster,
    folder: Path,
    *,
    dsn: str | None = None,
    name: str | None = None,
) -> AsyncIterator[Process]:
    async with AsyncExitStack() as stack:
        database = await Database.open(dsn or store.dsns.runtime_dsn)
        stack.push_async_callback(database.close)
        replica = await stack.enter_async_context(store.replica(database=database, name=name))
        transit = await stack.enter_async_context(place_of_cluster(cluster).transit("test"))
        keys = reveal_keys(transit)
        stack.push_async_callback(keys.close)
        claims = ClaimTable(database)
        stack.push_async_callback(claims.close)
        table = AuthorizationTable(database)
        spool = Spool(folder, replica.boot)
        record = Authorizations(
            ledger=replica.ledger,
            claims=claims,
            table=table,
            keys=keys,
            spool=spool,
            replica=replica.name,
            boot=replica.boot,
            now=store.clock,
        )
        yield Process(store, replica, record, spool, table, keys)


@pytest.fixture
async def here(shared_store: Store, cluster: FakeCluster, tmp_path: Path) -> AsyncIterator[Process]:
    async with process(shared_store, cluster, tmp_path / "spool") as made:
        yield made


@pytest.fixture
async def behind(
    store: Store, cluster: FakeCluster, tmp_path: Path
) -> AsyncIterator[tuple[Process, Relay]]:
    """Give a process whose way to PostgreSQL the test has in its hands."""
    async with (
        relayed(store.dsns.runtime_dsn) as relay,
        process(store, cluster, tmp_path / "spool", dsn=relay.dsn) as made,
    ):
        yield made, relay
        relay.refusing = False


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an append give up soon, so that a test need not wait."""
    kwdefaults = Ledger.append.__kwdefaults__
    assert kwdefaults is not None
    monkeypatch.setitem(kwdefaults, "seconds", 0.4)


# --- digests and claims ---------------------------------------------------------------------


@pytest.mark.guards("T-26")
async def test_digests_are_one_tenant_s_and_one_purpose_s(here: Process) -> None:
    key, request = await here.record.digests("t_01", key=b"k", request=b"k")
    assert key is not None
    assert key.value != request.value
    assert key.value == await here.record.key_digest("t_01", b"k")
    assert key.value != await here.record.key_digest("t_02", b"k")
    assert await here.record.digests("t_01", key=None, request=b"k") == (None, request)


def test_a_digest_as_it_stands_in_a_detail() -> None:
    assert digest_text(None) is None
    assert digest_text(Keyed(3, bytes(32))) == "3:" + "A" * 43


async def test_a_call_without_a_key_is_always_the_first(here: Process) -> None:
    call = await here.call()
    for _ in range(2):
        assert await here.record.claim(call, REPLAY) == (Claimed(None, 1, ""), None)
    await here.record.free(None)


@pytest.mark.guards("T-26")
async def test_a_key_is_claimed_given_back_and_refused_for_another_body(here: Process) -> None:
    call, other = await here.call(b"key"), await here.call(b"key", b"amount=1")
    claim, hold = await here.record.claim(call, REPLAY)
    assert isinstance(claim, Claimed)
    assert await here.record.claim(call, REPLAY) == (StillOpen(), None)
    assert await here.record.claim(other, REPLAY) == (KeyReused(), None)
    await here.record.free(hold)
    assert isinstance((await here.record.claim(other, REPLAY))[0], Claimed)


@pytest.mark.guards("F-10")
async def test_a_claim_that_cannot_be_given_back_ends_with_its_lease(
    behind: tuple[Process, Relay],
) -> None:
    here, relay = behind
    _, hold = await here.record.claim(await here.call(b"key"), REPLAY)
    relay.refusing = True
    relay.cut_all()
    await here.record.free(hold)
    assert await here.store.count("claim") == 1


# --- intents --------------------------------------------------------------------------------


@pytest.mark.guards("T-61")
async def test_an_intent_is_durable_before_anything_is_opened(here: Process) -> None:
    cards = await here.card(cvc=True)
    intent = await here.attempts(*cards, key=b"key")
    (entry,) = await here.said(intent)
    assert entry.type == "authorization.attempted"
    assert (intent.first, intent.attempt, intent.unsettled) == (intent.id, 1, ())
    words = await here.details(entry)
    assert words.pop("idempotency_digest").startswith("1:")
    assert words.pop("request_digest").startswith("1:")
    assert words == {
        "amount": 1999,
        "currency": "EUR",
        "merchant_reference": "order-1",
        "host": "api.stripe.com:443",
        "source_address": "192.0.2.1",
    }
    row = await here.record.of_intent(here.tenant, intent.id)
    assert (row.first, row.state, row.tokens) == (intent.id, "attempted", [cards[0][1].id])


async def test_what_forbids_an_intent_is_found_under_the_lock(here: Process) -> None:
    cards = await here.card()
    gone = [(cards[0][0], replace(cards[0][1], id="x"))]
    opening = Opening(key="pan", token=Sender().row().id, version=1)
    with pytest.raises(TokenUnknown):
        await here.attempts((opening, gone[0][1]))
    no_code = Opening(key="cvc", token=cards[0][1].id, version=1), cards[0][1]
    with pytest.raises(CvcExpired):
        await here.attempts(no_code)
    call = await here.call(b"key")
    claim, hold = await here.record.claim(call, REPLAY)
    assert isinstance(claim, Claimed)
    assert hold is not None
    with pytest.raises(ClaimLost):
        await here.record.attempt(call, cards, claim, replace(hold, nonce=new_uuid()))


@pytest.mark.guards("T-61", "F-32")
async def test_an_intent_whose_author_is_gone_is_not_sent(
    store: Store, cluster: FakeCluster, tmp_path: Path
) -> None:
    async with (
        process(store, cluster, tmp_path / "spool") as here,
        store.session(owner=True) as other,
    ):
        cards = await here.card(cvc=True, single_use=True)
        await freeze_commits(store)
        await other.execute("SELECT pg_advisory_lock(1)")
        attempt = asyncio.create_task(here.attempts(*cards, key=b"key"))
        await store.until_blocked()
        attempt.cancel()
        await asyncio.gather(attempt, return_exceptions=True)
        await other.execute("SELECT pg_advisory_unlock(1)")
        await store.until("SELECT EXISTS (SELECT 1 FROM intent_state WHERE state = 'not_sent')")
        (entry,) = await store.entries("authorization.not_sent")
        assert (getattr(entry, "phase", ""), getattr(entry, "reason", "")) == (
            "abandoned",
            "ledger_unavailable",
        )
        again, _ = await here.record.claim(await here.call(b"key"), REPLAY)
        assert isinstance(again, Claimed)
        assert again.attempt == 2


# --- outcomes -------------------------------------------------------------------------------


async def test_an_outcome_is_on_record_with_its_words(here: Process) -> None:
    intent = await here.attempts(key=b"key")
    assert await here.record.settle(intent, APPROVED, ANSWER)
    _, entry = await here.said(intent)
    assert entry.type == "authorization.completed"
    assert (getattr(entry, "status", 0), getattr(entry, "ms", 0)) == (200, 120)
    words = await here.details(entry)
    assert words.pop("response_digest").startswith("1:")
    assert words == {"processor_reference": "pi_1", "authorization_code": "A1"}
    assert await here.record.stored_answer(here.tenant, intent.id) == ANSWER
    claim, _ = await here.record.claim(await here.call(b"key"), REPLAY)
    assert claim == Stored(intent.id)


@pytest.mark.parametrize(
    ("ending", "entry_type"),
    [
        (NOT_SENT, "authorization.not_sent"),
        (UNKNOWN, "authorization.unknown"),
        (replace(UNKNOWN, status=502, processor_reference="pi_2"), "authorization.unknown"),
        (replace(UNKNOWN, reason=None), "authorization.unknown"),
        (replace(NOT_SENT, reason=None), "authorization.not_sent"),
    ],
)
async def test_what_did_not_end_well_is_on_record_too(
    here: Process, ending: Ending, entry_type: str
) -> None:
    intent = await here.attempts()
    assert await here.record.settle(intent, ending, None)
    _, entry = await here.said(intent)
    assert entry.type == entry_type
    assert getattr(entry, "reason", "") == ending.reason or "internal_error"
    assert await here.state(intent) == ending.state
    assert await here.record.stored_answer(here.tenant, intent.id) is None


async def test_an_answer_that_is_too_large_is_kept_without_its_body(here: Process) -> None:
    intent = await here.attempts()
    answer = replace_body(ANSWER, bytes(ANSWER_BYTES_MAX))
    assert await here.record.settle(intent, APPROVED, answer)
    assert await here.record.stored_answer(here.tenant, intent.id) == Answer(200, (), b"", cut=True)


def replace_body(answer: Answer, body: bytes) -> Answer:
    return Answer(answer.status, answer.headers, body)


@pytest.mark.guards("F-02", "T-38")
async def test_a_vault_that_was_sealed_meanwhile_costs_only_the_stored_answer(
    here: Process, cluster: FakeCluster
) -> None:
    intent = await here.attempts()
    cluster.vault.sealed = True
    try:
        assert await here.record.settle(intent, APPROVED, ANSWER)
        with pytest.raises(KeysSealed):
            await here.record.key_digest(here.tenant, b"k")
    finally:
        cluster.vault.sealed = False
    assert await here.state(intent) == "completed"
    assert await here.record.stored_answer(here.tenant, intent.id) is None


@pytest.mark.guards("T-38")
async def test_a_stored_answer_is_sealed_and_one_intent_s(here: Process) -> None:
    one, two = await here.attempts(), await here.attempts()
    for intent in (one, two):
        await here.record.settle(intent, APPROVED, ANSWER)
    rows = await here.store.rows("SELECT ciphertext FROM answer WHERE tenant = $1", here.tenant)
    assert all(row["ciphertext"].startswith("vault:v1:") for row in rows)
    swap = "UPDATE answer SET ciphertext = $2 WHERE intent::text = $1"
    await here.store.do(swap, one.id, rows[0]["ciphertext"])
    await here.store.do(swap, two.id, rows[0]["ciphertext"])
    opened = await asyncio.gather(
        *(here.record.stored_answer(here.tenant, intent.id) for intent in (one, two)),
        return_exceptions=True,
    )
    assert sorted(type(each).__name__ for each in opened) == ["Answer", "RecordCorrupt"]


@pytest.mark.guards("T-71")
async def test_a_token_for_one_use_burns_with_what_consumes_it(here: Process) -> None:
    used = await here.card(cvc=True, single_use=True)
    spared = await here.card(cvc=True, single_use=True)
    one, two = await here.attempts(*used), await here.attempts(*spared)
    assert one.burns == (used[0][1].id,)
    await here.record.settle(one, APPROVED, None)
    await here.record.settle(two, replace(APPROVED, result=Result.ERROR), None)
    left = await here.store.rows("SELECT id FROM token WHERE tenant = $1", here.tenant)
    assert [row["id"] for row in left] == [spared[0][1].id]
    codes = await here.store.rows("SELECT token FROM cvc WHERE tenant = $1", here.tenant)
    assert [row["token"] for row in codes] == [spared[0][1].id]
    burned = (await here.store.entries("token.deleted"))[-1]
    assert isinstance(burned, TokenDeleted)
    assert (burned.token, burned.reason) == (used[0][1].id, "used")


async def test_a_replay_s_answer_settles_what_it_replays(here: Process) -> None:
    one = await here.attempts(key=b"key")
    await here.record.settle(one, UNKNOWN, None)
    two = await here.attempts(key=b"key")
    assert (two.first, two.attempt, two.unsettled) == (one.id, 2, (one.id,))
    await here.record.settle(two, APPROVED, ANSWER)
    resolved = (await here.said(one))[-1]
    assert isinstance(resolved, AuthorizationResolved)
    assert (resolved.method, resolved.finding, resolved.result) == (
        "replay",
        Finding.ANSWERED,
        Result.APPROVED,
    )
    assert await here.state(two) == "completed"
    assert (await here.store.report()).violations == ()


@pytest.mark.parametrize("ending", [NOT_SENT, UNKNOWN, replace(APPROVED, executed=False)])
async def test_a_replay_that_tells_nothing_settles_nothing(here: Process, ending: Ending) -> None:
    one = await here.attempts(key=b"key")
    await here.record.settle(one, UNKNOWN, None)
    two = await here.attempts(key=b"key")
    await here.record.settle(two, ending, None)
    assert await here.state(one) == "unknown"


# --- late outcomes --------------------------------------------------------------------------


async def called_unknown(here: Process, intent: Intent) -> None:
    """A sweeper elsewhere took the process for dead."""
    sender = Sender(here.tenant)
    unknown = Line(outcome_entry(intent.id, here.tenant, State.UNKNOWN))
    opened = sender.opens()
    facts = replace(opened.facts, intent=intent.id, first=intent.first)
    unit = sender.settles(replace(opened, facts=facts), State.UNKNOWN)
    await here.replica.ledger.append(replace(unit, lines=(unknown,)), seconds=10)


@pytest.mark.guards("T-61")
@pytest.mark.parametrize(
    ("ending", "finding", "result"),
    [
        (APPROVED, Finding.ANSWERED, Result.APPROVED),
        (NOT_SENT, Finding.NOT_SENT, Result.ERROR),
    ],
)
async def test_what_comes_after_it_was_called_unknown_resolves_it(
    here: Process, ending: Ending, finding: Finding, result: Result
) -> None:
    cards = await here.card(cvc=True)
    intent = await here.attempts(*cards, key=b"key")
    await called_unknown(here, intent)
    assert await here.record.settle(intent, ending, ANSWER)
    resolved = (await here.said(intent))[-1]
    assert isinstance(resolved, AuthorizationResolved)
    assert (resolved.method, resolved.finding, resolved.result) == ("late_reply", finding, result)
    assert here.seal() is None
    kept = await here.store.rows("SELECT claimed_by FROM cvc WHERE token = $1", cards[0][1].id)
    assert [row["claimed_by"] for row in kept] == ([] if ending is APPROVED else [None])
    assert await here.record.stored_answer(here.tenant, intent.id) == ANSWER
    assert (await here.store.report()).violations == ()


async def test_what_was_called_unknown_and_is_unknown_is_on_record_already(
    here: Process,
) -> None:
    intent = await here.attempts()
    await called_unknown(here, intent)
    assert await here.record.settle(intent, UNKNOWN, None)
    assert len(await here.said(intent)) == 2


async def test_what_comes_when_another_outcome_is_on_record_changes_nothing(
    here: Process,
) -> None:
    intent = await here.attempts()
    assert await here.record.settle(intent, NOT_SENT, None)
    assert await here.record.settle(intent, APPROVED, None)
    assert await here.state(intent) == "not_sent"
    assert (here.seal(), here.spool.holds_any()) == (None, False)


@pytest.mark.guards("T-61")
@pytest.mark.parametrize("late", [False, True])
async def test_an_answer_counts_although_an_earlier_send_was_settled_otherwise(
    here: Process,
    late: bool,  # noqa: FBT001
) -> None:
    """Two answers to one request: each is on record, and neither is lost for the other's sake."""
    one = await here.attempts(key=b"key")
    await called_unknown(here, one)
    two = await here.attempts(key=b"key")
    assert two.unsettled == (one.id,)
    if late:
        await called_unknown(here, two)
    assert await here.record.settle(one, replace(APPROVED, result=Result.DECLINED), None)
    assert await here.record.settle(two, APPROVED, ANSWER)
    assert [entry.type.partition(".")[2] for entry in await here.said(one)] == [
        "attempted",
        "unknown",
        "resolved",
    ]
    assert await here.state(two) == ("resolved" if late else "completed")
    assert not here.spool.holds_any()
    assert (await here.store.report()).violations == ()


# --- the spool ------------------------------------------------------------------------------


@pytest.mark.guards("F-19")
async def test_an_outcome_that_cannot_be_appended_is_kept_and_stops_disclosures(
    behind: tuple[Process, Relay],
) -> None:
    here, relay = behind
    cards = await here.card(cvc=True)
    intent = await here.attempts(*cards)
    relay.refusing = True
    relay.cut_all()

    assert not await here.record.settle(intent, APPROVED, ANSWER)

    assert here.seal() == "spool"
    assert len(here.spool.waiting()) == 1
    with pytest.raises(LedgerSealed):
        await here.attempts(*cards)
    assert await here.record.drain_spool() == 1
    assert here.seal() == "spool"

    relay.refusing = False
    assert await here.record.drain_spool() == 0
    assert here.seal() is None
    outcome = (await here.said(intent))[-1]
    assert isinstance(outcome, Outcome)
    assert (outcome.type, outcome.origin_boot) == (
        "authorization.completed",
        str(here.replica.boot),
    )
    assert await here.store.count("cvc") == 0
    assert (await here.store.report()).violations == ()


@pytest.mark.guards("F-19")
async def test_an_outcome_that_cannot_even_be_spooled_is_kept_in_memory(
    behind: tuple[Process, Relay], tmp_path: Path
) -> None:
    here, relay = behind
    intent = await here.attempts()
    (tmp_path / "spool").rmdir()
    relay.refusing = True
    relay.cut_all()
    assert not await here.record.settle(intent, APPROVED, ANSWER)
    assert here.seal() == "spool"
    relay.refusing = False
    assert await here.record.drain_spool() == 0
    assert here.seal() is None
    assert await here.state(intent) == "completed"


@pytest.mark.guards("F-12", "F-19", "T-61")
@pytest.mark.parametrize("plan", [AtCommit.LOST, AtCommit.ANSWER_LOST])
async def test_an_outcome_in_doubt_is_drained_once(
    behind: tuple[Process, Relay],
    impatient: None,
    plan: AtCommit,
) -> None:
    here, relay = behind
    cards = await here.card(cvc=True, single_use=True)
    intent = await here.attempts(*cards)
    relay.at_commit, relay.then = [plan], relay.refuse
    assert not await here.record.settle(intent, APPROVED, ANSWER)
    assert here.spool.holds_any()
    relay.refusing = False
    await until(lambda: here.replica.ledger._in_doubt is None)
    assert await here.record.drain_spool() == 0
    assert [entry.type for entry in await here.said(intent)] == [
        "authorization.attempted",
        "authorization.completed",
    ]
    assert here.seal() is None
    assert await here.store.count("token") == await here.store.count("cvc") == 0
    kept = await here.record.stored_answer(here.tenant, intent.id)
    assert kept == (ANSWER if plan is AtCommit.ANSWER_LOST else None)
    assert (await here.store.report()).violations == ()


async def spooled(here: Process, relay: Relay, intent: Intent, ending: Ending = APPROVED) -> None:
    relay.refusing = True
    relay.cut_all()
    assert not await here.record.settle(intent, ending, None)
    relay.refusing = False


@pytest.mark.guards("F-19", "F-40")
@pytest.mark.parametrize("first", ["spool", "orphans"])
async def test_what_a_boot_left_is_put_on_record_by_the_next(
    behind: tuple[Process, Relay], cluster: FakeCluster, tmp_path: Path, first: str
) -> None:
    here, relay = behind
    cards = await here.card(cvc=True)
    intent, orphan = await here.attempts(*cards), await here.attempts()
    await spooled(here, relay, intent)
    later_process = process(here.store, cluster, tmp_path / "spool", name=here.replica.name)
    async with later_process as later:
        if first == "spool":
            assert await later.record.drain_spool() == 0
            assert await later.record.end_orphans() == 1
        else:
            assert await later.record.end_orphans() == 2
            assert await later.record.drain_spool() == 0
        outcome = (await here.said(intent))[-1]
        assert isinstance(outcome, Outcome)
        expected = "completed" if first == "spool" else "resolved"
        assert outcome.type == f"authorization.{expected}"
        assert outcome.origin_boot == str(here.replica.boot)
        assert outcome.boot == str(later.replica.boot)
        if isinstance(outcome, AuthorizationResolved):
            assert (outcome.method, outcome.result) == ("spool", Result.APPROVED)
        crashed = (await here.said(orphan))[-1]
        assert isinstance(crashed, Outcome)
        assert (crashed.type, crashed.actor) == ("authorization.unknown", RECONCILER)
        assert crashed.origin_boot == str(here.replica.boot)
        assert await here.store.count("cvc") == 0
        assert list((tmp_path / "spool").iterdir()) == []
        assert (await here.store.report()).violations == ()


@pytest.mark.guards("T-61")
async def test_what_was_found_out_in_another_way_ends_what_is_spooled(
    behind: tuple[Process, Relay],
) -> None:
    here, relay = behind
    intent = await here.attempts()
    await spooled(here, relay, intent)
    await called_unknown(here, intent)
    assert await here.record.settle(intent, replace(APPROVED, result=Result.DECLINED), None)
    assert await here.record.drain_spool() == 0
    assert here.seal() is None
    assert len(await here.said(intent)) == 3


@pytest.mark.guards("T-60", "F-50")
async def test_an_outcome_whose_intent_the_log_has_lost_keeps_disclosures_stopped(
    here: Process,
) -> None:
    """An older copy of the database: nothing that this process did would be known of it."""
    sender = Sender(here.tenant)
    here.spool.write(sender.settles(sender.opens(), State.NOT_SENT))
    here.replica.ledger.seal("spool")
    assert await here.record.drain_spool() == 1
    assert here.seal() == "spool"
    assert here.spool.holds_any()


async def test_an_empty_spool_takes_no_other_seal_away(here: Process) -> None:
    here.replica.ledger.seal("rollback")
    assert await here.record.drain_spool() == 0
    assert here.seal() == "rollback"


# --- orphans --------------------------------------------------------------------------------


@pytest.mark.guards("F-40", "T-61")
async def test_an_orphan_is_unknown_unless_its_outcome_was_quicker(
    here: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Sender(here.tenant, replica=here.replica.name)
    quick, slow = gone.opens(), gone.opens()
    for unit in (quick, slow):
        await here.replica.ledger.append(unit)
    real = here.table.orphans

    async def a_moment_late(**of: Any) -> Sequence[object]:  # noqa: ANN401 - as it comes
        found = await real(**of)
        await here.replica.ledger.append(gone.settles(quick, State.NOT_SENT))
        return found

    monkeypatch.setattr(here.table, "orphans", a_moment_late)
    await here.record.end_orphans()
    rows = await here.store.rows(
        "SELECT intent::text, state FROM intent_state WHERE tenant = $1", here.tenant
    )
    assert {row["intent"]: row["state"] for row in rows} == {
        quick.facts.intent: "not_sent",
        slow.facts.intent: "unknown",
    }
    assert (await here.store.report()).violations == ()


@pytest.mark.guards("F-10")
async def test_without_a_store_orphans_wait(behind: tuple[Process, Relay]) -> None:
    here, relay = behind
    relay.refusing = True
    relay.cut_all()
    with pytest.raises(StoreUnavailable):
        await here.record.end_orphans()


# --- units ----------------------------------------------------------------------------------


def test_what_is_resolved_instead_keeps_its_name_and_its_details() -> None:
    sender = Sender()
    row = sender.row(single_use=True)
    unit = sender.settles(sender.opens(row), State.COMPLETED, Result.STORED, burned=[row])
    resolved = resolved_instead(unit, "spool")
    assert [line.entry.id for line in resolved.lines] == [line.entry.id for line in unit.lines]
    assert resolved.lines[1:] == unit.lines[1:]
    assert resolved.burned == unit.burned
    assert resolved.settlements[0].state is State.RESOLVED
    assert resolved.settlements[0].result is Result.STORED


def test_a_settlement_is_taken_out_with_its_line() -> None:
    sender = Sender()
    row = sender.row(single_use=True)
    one, two, three = (sender.opens() for _ in range(3))
    own = sender.settles(one, State.COMPLETED, Result.APPROVED, burned=[row])
    others = [sender.settles(each, State.RESOLVED, Result.APPROVED) for each in (two, three)]
    unit = SettleIntent(
        own.first,
        (*own.settlements, *(other.settlements[0] for other in others)),
        (own.lines[0], *(other.lines[0] for other in others), own.lines[1]),
        None,
        own.burned,
    )
    left = without(unit, two.facts.intent)
    assert [one.intent for one in left.settlements] == [one.facts.intent, three.facts.intent]
    assert left.lines == (own.lines[0], others[1].lines[0], own.lines[1])
