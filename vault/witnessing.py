"""Checkpoints are shown to witnesses: somebody else holds what the log has said of itself.

1. Every witness is asked at once, each for itself, and none for longer than a few seconds.
2. It is told a proof from the checkpoint that it is known to hold; if it holds another one, it
   says which, and is given a proof from there.
3. Its line is checked by its own key, and kept beside the checkpoint.
4. What it says may prove that our history is not the one that it saw: then no card is disclosed
   any more. A larger log than ours: we were rolled back. No extension: two histories are signed.
5. Anything else is only told, and silence is measured: a rewrite behind the last head that a
   witness holds cannot be seen by anybody.

What never may live here: how a witness is reached, and anything that keeps a checkpoint from
being published.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, Literal, Protocol, assert_never

from vault.cosignature_table import CosignatureTable
from vault.errors import CustodyError
from vault.ledger.checkpoint import AddCheckpoint, parse_checkpoint
from vault.ledger.forms import SealCause
from vault.ledger.note import (
    Note,
    NoteRefused,
    VerifierKey,
    parse_note,
    parse_signatures,
    verified,
)
from vault.ledger.tree import InvalidProof, verify_consistency
from vault.published import PublishedLog

SHOW_SECONDS: Final = 5.0
CALLS_MAX: Final = 4  # from what we know; told what it holds; doubted; from what it holds
REST_SECONDS: Final = (1, 2, 5, 10, 30, 60)  # after so many bad answers in a row


class Result(StrEnum):
    """How it went with one witness: a closed list, for metrics and operators."""

    COSIGNED = "cosigned"
    AHEAD = "ahead"  # it holds a later checkpoint, which is ours too
    UNREACHABLE = "unreachable"
    NOT_ACCEPTED = "not_accepted"  # it does not know this log or its key: a configuration
    INVALID = "invalid"  # a line that is not genuine, or what is no answer at all
    UNDONE = "undone"  # our own store did not answer
    ROLLBACK = "rollback"
    FORK = "fork"


# --- what a witness may answer ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cosigned:
    """It says that it vouches for the checkpoint, by these signature lines, unchecked."""

    lines: bytes


@dataclass(frozen=True, slots=True)
class HoldsOther:
    """It holds a checkpoint of another size than the proof starts from."""

    size: int


@dataclass(frozen=True, slots=True)
class NoExtension:
    """It says that the checkpoint does not extend what it holds."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """Nobody answered, or nothing that the protocol has."""

    result: Literal[Result.UNREACHABLE, Result.NOT_ACCEPTED, Result.INVALID]


WitnessAnswer = Cosigned | HoldsOther | NoExtension | Unusable


class WitnessClient(Protocol):
    """The way to one witness."""

    @property
    def name(self) -> str: ...

    @property
    def key(self) -> VerifierKey: ...

    async def add(self, request: AddCheckpoint) -> WitnessAnswer: ...

    async def held(self, origin: str) -> bytes | None: ...


# --- what comes of it ---------------------------------------------------------------------


LogKeys = Callable[[], Awaitable[Sequence[VerifierKey]]]
"""Gives all keys that this log has signed with. Raises a CustodyError."""


class WitnessWatch(Protocol):
    """Who is told how it went."""

    def witness_answered(self, name: str, result: str) -> None: ...


class Sealing(Protocol):
    """What stops disclosures. It raises nothing."""

    async def seal(self, cause: SealCause) -> None: ...


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of one witness. `result` is of this process, None before it was asked."""

    name: str
    key: VerifierKey
    size: int
    cosigned_at: datetime | None
    result: Result | None


@dataclass(slots=True)
class _Acquaintance:
    client: WitnessClient
    size: int = 0
    at: datetime | None = None
    result: Result | None = None
    is_asked: bool = False
    bad_answers: int = 0
    rests_until: datetime = field(default=datetime.min.replace(tzinfo=UTC))

    def heard(self, size: int, at: datetime) -> None:
        self.size = max(self.size, size)
        self.at = at if self.at is None else max(self.at, at)


class Witnesses:
    """The witnesses of this log. Several checkpoints may be shown at once."""

    def __init__(  # noqa: PLR0913 - its neighbors, named at the call
        self,
        clients: Sequence[WitnessClient],
        log: PublishedLog,
        table: CosignatureTable,
        seals: Sealing,
        *,
        quorum: int,
        now: Callable[[], datetime],
        watch: WitnessWatch,
        log_keys: LogKeys,
        seconds: float = SHOW_SECONDS,
    ) -> None:
        """`quorum`: how many must have spoken for a checkpoint's age to count; at least one."""
        self._known = {client.name: _Acquaintance(client) for client in clients}
        assert len(self._known) == len(clients), "each witness has a name of its own"
        self._log = log
        self._table = table
        self._seals = seals
        self._needed = max(1, quorum)
        self._now = now
        self._watch = watch
        self._seconds = seconds
        self._log_keys = log_keys
        self._since = now()
        self._has_recalled = False

    @property
    def last_cosigned_at(self) -> datetime | None:
        """Since when the needed number of witnesses has not spoken; None: they never have."""
        times = sorted((one.at for one in self._known.values() if one.at is not None), reverse=True)
        return times[self._needed - 1] if len(times) >= self._needed else None

    @property
    def silent_since(self) -> datetime | None:
        """What the alarm counts from, with a start at the latest; None without witnesses."""
        if not self._known:
            return None
        return self.last_cosigned_at or self._since

    @property
    def standings(self) -> Sequence[Standing]:
        return [
            Standing(name, one.client.key, one.size, one.at, one.result)
            for name, one in self._known.items()
        ]

    async def recall(self) -> None:
        """Learn what witnesses told this deployment, any of its replicas.

        Raises StoreUnavailable.
        """
        words = await self._table.last_words()
        for name, one in self._known.items():
            if name in words:
                one.heard(words[name].size, words[name].at)
        self._has_recalled = True

    async def show(self, note: Note) -> None:
        """Show a checkpoint that is published; returns when each has answered, or is too slow.

        A witness that is still being asked, or answered badly just now, is left out.
        """
        now = self._now()
        if not self._has_recalled:
            try:
                await self.recall()
            except CustodyError:
                return  # the next one is soon
        async with asyncio.TaskGroup() as tasks:
            for one in self._known.values():
                if not one.is_asked and one.rests_until <= now:
                    tasks.create_task(self._show(one, note))

    async def _show(self, one: _Acquaintance, note: Note) -> None:
        one.is_asked = True
        try:
            async with asyncio.timeout(self._seconds):
                result = await self._ask(one, note)
        except TimeoutError:
            result = Result.UNREACHABLE
        except CustodyError:
            result = Result.UNDONE
        finally:
            one.is_asked = False
        one.result = result
        if result in (Result.COSIGNED, Result.AHEAD):
            one.bad_answers = 0
        else:
            rest = REST_SECONDS[min(one.bad_answers, len(REST_SECONDS) - 1)]
            one.rests_until = self._now() + timedelta(seconds=rest)
            one.bad_answers += 1
        self._watch.witness_answered(one.client.name, result)

    async def _ask(self, one: _Acquaintance, note: Note) -> Result:
        """Raises CustodyError when our own store does not answer."""
        size = parse_checkpoint(note.text).size
        old, named = min(one.size, size), 0  # as we remember, and as it says
        for _ in range(CALLS_MAX):
            match await self._add(one.client, note, old, size):
                case HoldsOther(held) if held <= size and held != old:
                    old = named = held
                case NoExtension() if old != named:
                    old = 0  # does it hold what we remember at all? It says so now
                case answer:
                    return await self._conclude(one, note, answer, old)
        return Result.INVALID

    async def _conclude(
        self, one: _Acquaintance, note: Note, answer: WitnessAnswer, old: int
    ) -> Result:
        match answer:
            case Cosigned(lines):
                return await self._keep(one, note, lines)
            case HoldsOther(held) if held > parse_checkpoint(note.text).size:
                return await self._larger(one.client, note, held)
            case NoExtension() if old:  # it holds something, says how much, and refuses us
                if not await self._is_proven(one.client, note):
                    return Result.INVALID  # its word alone stops nobody's payments
                await self._seals.seal("fork")
                return Result.FORK
            case Unusable(result):
                return result
            case HoldsOther() | NoExtension():
                return Result.INVALID
            case _ as unreachable:
                assert_never(unreachable)

    async def _add(self, client: WitnessClient, note: Note, old: int, size: int) -> WitnessAnswer:
        proof = await self._log.consistency(old, size) if 0 < old < size else ()
        return await client.add(AddCheckpoint(old, proof, note))

    async def _larger(self, client: WitnessClient, note: Note, held: int) -> Result:
        """Another replica may have shown it a later one: then that is in the database by now."""
        if held <= await self._log.size():
            return Result.AHEAD
        if not await self._is_proven(client, note):
            return Result.INVALID
        await self._seals.seal("rollback")
        return Result.ROLLBACK

    async def _is_proven(self, client: WitnessClient, note: Note) -> bool:
        """Whether our own log signed a checkpoint that is not of the history which we have.

        Any witness can claim one; only our key can have made one.
        """
        ours = parse_checkpoint(note.text)
        raw = await client.held(ours.origin)
        try:
            other = parse_note(raw or b"")
            theirs = parse_checkpoint(other.text)
            verified(other, await self._log_keys())
        except NoteRefused:
            return False
        if theirs.origin != ours.origin:
            return False
        if theirs.size > ours.size:
            return theirs.size > await self._log.size()
        proof: tuple[bytes, ...] = ()
        if 0 < theirs.size < ours.size:
            proof = await self._log.consistency(theirs.size, ours.size)
        try:
            verify_consistency(
                proof,
                old_size=theirs.size,
                old_root=theirs.root,
                size=ours.size,
                root=ours.root,
            )
        except InvalidProof:
            return True
        return False

    async def _keep(self, one: _Acquaintance, note: Note, lines: bytes) -> Result:
        key, size = one.client.key, parse_checkpoint(note.text).size
        try:
            found = [
                line
                for line in parse_signatures(lines)
                if (line.name, line.key_id) == (key.name, key.key_id)
            ]
            times = {key.check(note.text, line.payload): line for line in found}
        except NoteRefused:
            return Result.INVALID
        latest = max((at for at in times if at is not None), default=None)
        if latest is None:
            return Result.INVALID
        # A witness's clock that is ahead must not put off the alarm.
        at = datetime.fromtimestamp(min(latest, self._now().timestamp()), UTC)
        await self._table.keep(size, one.client.name, times[latest].line, at)
        one.heard(size, at)
        return Result.COSIGNED
