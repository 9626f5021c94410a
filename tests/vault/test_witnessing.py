"""Showing checkpoints to witnesses: honest ones, and those that lie, hang or know another log."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import cycle, pairwise
from pathlib import Path

import pytest

from gateway.witness.folder import witness_folder
from gateway.witness.held_checkpoints import Cosigned as Held
from gateway.witness.held_checkpoints import HeldCheckpoints
from gateway.witness.identity import Identity
from gateway.witness.judgment import Asked, HeldOther, asked
from tests.gateway.witness.places import Place, Tls
from tests.gateway.witness.signed_log import SignedLog
from tests.vault.published_logs import publish
from tests.vault.stores import Clock, Store, until
from vault.cosignature_table import CosignatureTable
from vault.db import Database
from vault.ledger.checkpoint import AddCheckpoint
from vault.ledger.forms import SealCause
from vault.ledger.note import Note, Signature, VerifierKey, verified
from vault.published import PublishedLog
from vault.witnessing import (
    CALLS_MAX,
    REST_SECONDS,
    Cosigned,
    HoldsOther,
    NoExtension,
    Result,
    Unusable,
    WitnessAnswer,
    WitnessClient,
    Witnesses,
)

IDENTITY = Identity("witness.example/w9", bytes(range(32)))
OTHER = Identity("witness.example/w9", bytes(32))


@pytest.fixture
def log() -> SignedLog:
    return SignedLog.of_size(20)


class Honest:
    """A witness by its own rules, without the network between."""

    def __init__(
        self, log: SignedLog, name: str, identity: Identity, held: HeldCheckpoints, clock: Clock
    ) -> None:
        self.name = name
        self.key = identity.key
        self.clock: Callable[[], datetime] = clock
        self.calls: list[tuple[int, str]] = []
        self._log = log
        self._identity = identity
        self._held = held

    async def add(self, request: AddCheckpoint) -> WitnessAnswer:
        asking = asked(request.body, {self._log.key.name: (self._log.key,)})
        assert isinstance(asking, Asked)
        at = int(self.clock().timestamp())
        answer = self._held.add(asking, lambda: self._identity.cosign(request.note.text, at))
        self.calls.append((request.old_size, type(answer).__name__))
        match answer:
            case Held(signature):
                return Cosigned(signature.line.encode())
            case HeldOther(size):
                return HoldsOther(size)
            case _:
                return NoExtension()

    async def held(self, origin: str) -> bytes | None:
        return self._held.latest(origin)

    def already_holds(self, log: SignedLog, size: int) -> None:
        """Have cosigned this, in another life."""
        asking = asked(log.request(0, size).body, {log.key.name: (log.key,)})
        assert isinstance(asking, Asked)
        self._held.add(asking, lambda: self._identity.cosign(log.note(size).text, 7))


@pytest.fixture
def honest(tmp_path: Path, log: SignedLog, store: Store) -> Iterator[Honest]:
    with ExitStack() as stack:
        identity, held = stack.enter_context(witness_folder(tmp_path / "w1", "witness.example/w1"))
        yield Honest(log, "w1", identity, held, store.clock)


class Liar:
    """A witness that answers as it is told, over and over."""

    def __init__(self, *answers: WitnessAnswer | Callable[[Note], Sequence[Signature]]) -> None:
        self.name = "w9"
        self.key = IDENTITY.key
        self.calls: list[int] = []
        self._answers = cycle(answers)

    async def add(self, request: AddCheckpoint) -> WitnessAnswer:
        self.calls.append(request.old_size)
        answer = next(self._answers)
        if callable(answer):
            return Cosigned("".join(line.line for line in answer(request.note)).encode())
        return answer

    async def held(self, origin: str) -> bytes | None:
        return f"{origin}\n9\n".encode()  # whatever it says: nobody signed it


class Hanging(Liar):
    """A witness that does not answer."""

    async def add(self, request: AddCheckpoint) -> WitnessAnswer:
        self.calls.append(request.old_size)
        await asyncio.Event().wait()
        raise AssertionError


@dataclass
class Around:
    """What the story is told beside, and what it told."""

    witnesses: Witnesses
    sealed: list[SealCause]
    answers: list[tuple[str, str]]


@dataclass
class Ears:
    """Who is told of answers, and who seals."""

    sealed: list[SealCause] = field(default_factory=list)
    answers: list[tuple[str, str]] = field(default_factory=list)

    def witness_answered(self, name: str, result: str) -> None:
        self.answers.append((name, result))

    async def seal(self, cause: SealCause) -> None:
        self.sealed.append(cause)


def around(
    store: Store,
    *clients: WitnessClient,
    quorum: int = 0,
    database: Database | None = None,
    seconds: float = 30.0,
) -> Around:
    ears = Ears()

    async def log_keys() -> Sequence[VerifierKey]:
        return [SignedLog.of_size(1).key]

    made = Witnesses(
        clients,
        PublishedLog(database or store.database),
        CosignatureTable(database or store.database),
        ears,
        quorum=quorum,
        now=store.clock,
        watch=ears,
        log_keys=log_keys,
        seconds=seconds,
    )
    return Around(made, ears.sealed, ears.answers)


async def lines(store: Store) -> list[str]:
    return [row["line"] for row in await store.rows("SELECT line FROM cosignature ORDER BY size")]


# --- with an honest witness ---------------------------------------------------------------


async def test_a_checkpoint_is_cosigned_and_the_line_is_served(
    store: Store, log: SignedLog, honest: Honest
) -> None:
    await publish(store, log, 5)
    story = around(store, honest)
    await story.witnesses.show(log.note(5))
    assert story.answers == [("w1", "cosigned")]
    assert honest.calls == [(0, "Cosigned")]
    note = await PublishedLog(store.database).checkpoint()
    assert note is not None
    found = {each.key: each.at for each in verified(note, [log.key, honest.key])}
    assert found == {log.key: None, honest.key: int(store.clock.at.timestamp())}
    (standing,) = story.witnesses.standings
    assert (standing.name, standing.size, standing.result) == ("w1", 5, Result.COSIGNED)
    assert standing.cosigned_at == story.witnesses.last_cosigned_at == store.clock.at


async def test_the_next_one_is_proven_from_it_also_by_another_process(
    store: Store, log: SignedLog, honest: Honest
) -> None:
    await publish(store, log, 5, 9, 20)
    story = around(store, honest)
    await story.witnesses.show(log.note(5))
    await story.witnesses.show(log.note(9))
    another = around(store, honest)
    await another.witnesses.show(log.note(20))
    assert honest.calls == [(0, "Cosigned"), (5, "Cosigned"), (9, "Cosigned")]
    assert len(await lines(store)) == 3


async def test_the_same_one_again_brings_a_newer_time(
    store: Store, log: SignedLog, honest: Honest
) -> None:
    await publish(store, log, 5)
    story = around(store, honest)
    await story.witnesses.show(log.note(5))
    before = await lines(store)
    store.clock.advance(seconds=60)
    await story.witnesses.show(log.note(5))
    assert honest.calls == [(0, "Cosigned"), (5, "Cosigned")]
    assert story.witnesses.last_cosigned_at == store.clock.at
    after = await lines(store)
    assert len(after) == 1
    assert after != before


@pytest.mark.parametrize("remembered", [0, 9])
async def test_a_witness_that_holds_another_one_is_given_a_proof_from_there(
    store: Store, log: SignedLog, honest: Honest, remembered: int
) -> None:
    await publish(store, log, 5, 9, 20)
    honest.already_holds(log, 5)
    if remembered:
        table = CosignatureTable(store.database)
        await table.keep(remembered, "w1", "\u2014 a AAAAAAAB\n", store.clock.at)
    story = around(store, honest)
    await story.witnesses.show(log.note(20))
    assert honest.calls == [(remembered, "HeldOther"), (5, "Cosigned")]
    assert story.answers == [("w1", "cosigned")]
    assert story.sealed == []


async def test_what_another_replica_showed_in_the_meantime_is_no_rollback(
    store: Store, log: SignedLog, honest: Honest
) -> None:
    await publish(store, log, 5, 9)
    honest.already_holds(log, 9)
    story = around(store, honest)
    await story.witnesses.show(log.note(5))
    assert story.answers == [("w1", "ahead")]
    assert story.sealed == []


class Unheard:
    """The way to a witness whose first answer is lost, after it did or did not get the request."""

    def __init__(self, honest: Honest, *, arrives: bool) -> None:
        self.name = honest.name
        self.key = honest.key
        self._honest = honest
        self._arrives = arrives
        self._is_lost = True

    async def held(self, origin: str) -> bytes | None:
        return await self._honest.held(origin)

    async def add(self, request: AddCheckpoint) -> WitnessAnswer:
        lost, self._is_lost = self._is_lost, False
        answer = await self._honest.add(request) if self._arrives or not lost else None
        return Unusable(Result.UNREACHABLE) if lost or answer is None else answer


@pytest.mark.parametrize("arrives", [True, False], ids=["persisted", "not persisted"])
@pytest.mark.parametrize("held", [0, 5])
async def test_an_answer_that_is_lost_is_asked_for_again(
    store: Store, log: SignedLog, honest: Honest, held: int, *, arrives: bool
) -> None:
    await publish(store, log, 5, 9)
    story = around(store, Unheard(honest, arrives=arrives))
    if held:
        honest.already_holds(log, held)
    await story.witnesses.show(log.note(9))
    assert await lines(store) == []
    store.clock.advance(seconds=REST_SECONDS[0])
    await story.witnesses.show(log.note(9))
    assert story.answers == [("w1", "unreachable"), ("w1", "cosigned")]
    assert story.sealed == []
    assert len(await lines(store)) == 1


# --- what a witness proves ----------------------------------------------------------------


@pytest.mark.guards("T-75")
async def test_a_log_that_was_rolled_back_is_sealed(
    store: Store, log: SignedLog, honest: Honest
) -> None:
    honest.already_holds(log, 9)
    await publish(store, log, 5)
    story = around(store, honest)
    await story.witnesses.show(log.note(5))
    assert story.answers == [("w1", "rollback")]
    assert story.sealed == ["rollback"]
    assert await lines(store) == []


@pytest.mark.guards("T-75")
@pytest.mark.parametrize("held", [5, 9])
@pytest.mark.parametrize("remembered", [0, 5, 9])
async def test_a_second_history_is_sealed(
    store: Store, log: SignedLog, honest: Honest, held: int, remembered: int
) -> None:
    """Rolled back and grown again, or signed by a copy elsewhere: smaller or of the same size."""
    honest.already_holds(log.forked(3), held)
    await publish(store, log, 5, 9)
    if remembered:
        table = CosignatureTable(store.database)
        await table.keep(remembered, "w1", "\u2014 a AAAAAAAB\n", store.clock.at)
    story = around(store, honest)
    await story.witnesses.show(log.note(9))
    assert story.answers == [("w1", "fork")]
    assert story.sealed == ["fork"]
    assert honest.calls[-1] == (held, "Refusal")


@pytest.mark.parametrize("remembered", [0, 5])
async def test_a_refusal_that_names_nothing_held_proves_nothing(
    store: Store, log: SignedLog, remembered: int
) -> None:
    await publish(store, log, 5, 9)
    if remembered:
        table = CosignatureTable(store.database)
        await table.keep(remembered, "w9", "\u2014 a AAAAAAAB\n", store.clock.at)
    for answers in [
        (NoExtension(),),
        (NoExtension(), Unusable(Result.INVALID)),
        (NoExtension(), HoldsOther(0)),
    ]:
        liar = Liar(*answers)
        story = around(store, liar)
        await story.witnesses.show(log.note(9))
        assert story.answers == [("w9", "invalid")]
        assert story.sealed == []


# --- witnesses that lie, hang or talk nonsense --------------------------------------------


def flipped(signature: Signature) -> Signature:
    payload = signature.payload[:-1] + bytes([signature.payload[-1] ^ 1])
    return Signature(signature.name, signature.key_id, payload)


def genuine(note: Note, at: int = 7) -> Signature:
    return IDENTITY.cosign(note.text, at)


LIES: dict[str, Liar] = {
    "nothing": Liar(Cosigned(b"")),
    "garbage": Liar(Cosigned(b"\xff\x00garbage")),
    "half a line": Liar(Cosigned("\u2014 witness.example/w9 AAAA".encode())),
    "flipped": Liar(lambda note: [flipped(genuine(note))]),
    "another's": Liar(lambda note: [OTHER.cosign(note.text, 7)]),
    "of another text": Liar(lambda note: [IDENTITY.cosign(note.text + "more\n", 7)]),
    "good and flipped": Liar(lambda note: [genuine(note), flipped(genuine(note))]),
    "the log's": Liar(lambda note: note.signatures),
    "same size": Liar(HoldsOther(0)),
    "here and there": Liar(HoldsOther(3), HoldsOther(4)),
    "nonsense": Liar(Unusable(Result.INVALID)),
}


@pytest.mark.guards("T-75")
@pytest.mark.parametrize("liar", LIES.values(), ids=LIES)
async def test_a_lie_is_not_kept_and_proves_nothing(
    shared_store: Store, log: SignedLog, liar: Liar
) -> None:
    if not await shared_store.count("checkpoint"):
        await publish(shared_store, log, 5)
    story = around(shared_store, liar)
    await story.witnesses.show(log.note(5))
    assert story.answers == [("w9", "invalid")]
    assert story.sealed == []
    assert story.witnesses.last_cosigned_at is None
    assert await lines(shared_store) == []
    assert len(liar.calls) <= CALLS_MAX


async def test_lines_of_others_are_left_out_and_the_latest_counts(
    store: Store, log: SignedLog
) -> None:
    await publish(store, log, 5)
    liar = Liar(lambda note: [OTHER.cosign(note.text, 9), genuine(note, 7), genuine(note, 8)])
    story = around(store, liar)
    await story.witnesses.show(log.note(5))
    assert story.answers == [("w9", "cosigned")]
    assert await lines(store) == [genuine(log.note(5), 8).line]


@pytest.mark.guards("T-75")
async def test_neither_a_replayed_line_nor_a_clock_ahead_puts_off_the_alarm(
    store: Store, log: SignedLog
) -> None:
    await publish(store, log, 5)
    old = int(store.clock.at.timestamp()) - 3600
    story = around(store, Liar(lambda note: [genuine(note, old)]))
    await story.witnesses.show(log.note(5))
    assert story.witnesses.silent_since == store.clock.at - timedelta(hours=1)
    ahead = iter([old + 7200, 2**63 - 1])
    story = around(store, Liar(lambda note: [genuine(note, next(ahead))]))
    for _ in range(2):
        await story.witnesses.show(log.note(5))
        assert story.witnesses.silent_since == store.clock.at
    assert await store.value("SELECT max(at) <= $1 FROM cosignature", store.clock.at)


@pytest.mark.guards("T-75")
async def test_one_that_hangs_holds_nobody_up(store: Store, log: SignedLog, honest: Honest) -> None:
    await publish(store, log, 5)
    hanging = Hanging()
    story = around(store, hanging, honest, seconds=0.2)
    async with asyncio.timeout(5):
        await story.witnesses.show(log.note(5))
    assert story.answers == [("w1", "cosigned"), ("w9", "unreachable")]
    assert story.sealed == []


async def test_one_that_is_still_asked_is_not_asked_again(
    store: Store, log: SignedLog, honest: Honest
) -> None:
    await publish(store, log, 5, 9)
    hanging = Hanging()
    story = around(store, hanging, honest)
    first = asyncio.create_task(story.witnesses.show(log.note(5)))
    await until(lambda: len(story.answers) == 1)
    await story.witnesses.show(log.note(9))
    assert story.answers == [("w1", "cosigned")] * 2
    assert len(hanging.calls) == 1
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_one_that_fails_rests_longer_and_longer(store: Store, log: SignedLog) -> None:
    await publish(store, log, 5)
    liar = Liar(Unusable(Result.UNREACHABLE))
    story = around(store, liar)
    asked_at = []
    for second in range(300):
        calls = len(liar.calls)
        await story.witnesses.show(log.note(5))
        if len(liar.calls) > calls:
            asked_at.append(second)
        store.clock.advance(seconds=1)
    rests = [after - before for before, after in pairwise(asked_at)]
    assert rests[: len(REST_SECONDS)] == list(REST_SECONDS)
    assert set(rests[len(REST_SECONDS) :]) == {REST_SECONDS[-1]}


@pytest.mark.parametrize("result", [Result.UNREACHABLE, Result.NOT_ACCEPTED])
async def test_after_a_rest_it_is_asked_and_cosigns(
    store: Store, log: SignedLog, result: Result
) -> None:
    await publish(store, log, 5)
    assert result is Result.UNREACHABLE or result is Result.NOT_ACCEPTED
    liar = Liar(Unusable(result), lambda note: [genuine(note)])
    story = around(store, liar)
    await story.witnesses.show(log.note(5))
    await story.witnesses.show(log.note(5))
    store.clock.advance(seconds=REST_SECONDS[0])
    await story.witnesses.show(log.note(5))
    assert story.answers == [("w9", str(result)), ("w9", "cosigned")]


# --- silence, and our own store -----------------------------------------------------------


async def test_silence_is_counted_from_the_start_and_from_the_last_word(
    store: Store, log: SignedLog, honest: Honest
) -> None:
    await publish(store, log, 5)
    start = store.clock.at
    assert around(store).witnesses.silent_since is None
    story = around(store, honest)
    assert (story.witnesses.last_cosigned_at, story.witnesses.silent_since) == (None, start)
    later = store.clock.advance(seconds=5)
    await story.witnesses.show(log.note(5))
    store.clock.advance(seconds=5)
    assert story.witnesses.last_cosigned_at == story.witnesses.silent_since == later
    another = around(store, honest)
    await another.witnesses.recall()
    assert another.witnesses.last_cosigned_at == later
    assert [each.result for each in another.witnesses.standings] == [None]


async def test_with_a_quorum_as_many_must_have_spoken(
    store: Store, log: SignedLog, honest: Honest
) -> None:
    await publish(store, log, 5)
    start = store.clock.at
    liar = Liar(Unusable(Result.UNREACHABLE), lambda note: [genuine(note, 2**40)])
    story = around(store, honest, liar, quorum=2)
    store.clock.advance(seconds=60)
    await story.witnesses.show(log.note(5))
    assert (story.witnesses.last_cosigned_at, story.witnesses.silent_since) == (None, start)
    first = store.clock.at
    store.clock.advance(seconds=60)
    honest.clock = lambda: first  # and so its word is the older of two
    await story.witnesses.show(log.note(5))
    assert story.witnesses.last_cosigned_at == first


async def test_our_own_store_away_is_nobodys_lie(
    store: Store, log: SignedLog, honest: Honest
) -> None:
    await publish(store, log, 5, 9)
    database = await Database.open(store.dsns.runtime_dsn)
    story = around(store, honest, database=database)
    await story.witnesses.show(log.note(5))
    await database.close()
    await story.witnesses.show(log.note(9))
    assert story.answers == [("w1", "cosigned"), ("w1", "undone")]
    unknowing = around(store, honest, database=database)
    await unknowing.witnesses.show(log.note(9))
    assert unknowing.answers == []
    assert story.sealed == unknowing.sealed == []


# --- over the network, to the real one ----------------------------------------------------


@asynccontextmanager
async def real(tmp_path: Path, log: SignedLog, clock: Clock) -> AsyncIterator[WitnessClient]:
    place = Place(tmp_path / "real", Tls(tmp_path), [log], now=clock)
    async with place.asked() as witness:
        yield witness


@pytest.mark.guards("T-75")
async def test_the_real_witness_over_tls_sees_growth_rollback_and_fork(
    store: Store, tmp_path: Path, log: SignedLog
) -> None:
    await publish(store, log, 5, 9)
    async with real(tmp_path, log, store.clock) as witness:
        for size in (5, 9):
            story = around(store, witness)
            await story.witnesses.show(log.note(size))
            assert story.answers == [(witness.name, "cosigned")]
        await store.do("TRUNCATE cosignature")
        await store.do("ALTER TABLE checkpoint DISABLE TRIGGER USER")
        await store.do("DELETE FROM checkpoint WHERE size = 9")
        rolled_back = around(store, witness)
        await rolled_back.witnesses.show(log.note(5))
        assert rolled_back.sealed == ["rollback"]
        fork = log.forked(7)
        await store.do("ALTER TABLE entry DISABLE TRIGGER USER")
        await store.do("DELETE FROM entry")
        await publish(store, fork, 9, 20)
        for size in (9, 20):
            forked = around(store, witness)
            await forked.witnesses.show(fork.note(size))
            assert forked.sealed == ["fork"]
