"""The auditor's rules that look back: over intents, boots and keys, as pages' summaries come in.

What is remembered grows with the number of intents and of deleted tokens, by 36 bytes each and
less; with all else it does not grow. Pure.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from vault.authorization import MAY_FOLLOW, State
from vault.ledger.compact_index import CompactIndex
from vault.ledger.entry import LEDGER_KEY, KeyRotated
from vault.ledger.pages import INTENT_BYTES, TOKEN_BYTES, Beat, Examined, Step
from vault.ledger.rules import Rule, Violation

LEASE_SECONDS: Final = 30
UNKNOWN_MAX: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class OpenIntent:
    """An intent without a terminal outcome: in flight, or to be reconciled."""

    intent: str
    state: State
    index: int


@dataclass(frozen=True, slots=True)
class UnstoppedBoot:
    """A replica whose last boot has not ended in order: it is running, or was interrupted."""

    replica: str
    boot: str
    n: int


class Intents:
    """V3 and V4, over all intents seen so far."""

    def __init__(self) -> None:
        self._open: dict[bytes, tuple[State, int, str]] = {}
        self._ended = CompactIndex(INTENT_BYTES)  # by the entry of this index
        self._repeats = CompactIndex(INTENT_BYTES)  # later attempts
        self._attempts = CompactIndex(INTENT_BYTES)  # latest of a first intent that was repeated

    def follow(self, page: Examined) -> Iterable[Violation]:
        """Yield what is wrong with the steps of the next page."""
        for place, index in enumerate(page.ended_at):
            intent = page.ended[place * INTENT_BYTES : (place + 1) * INTENT_BYTES]
            if intent in self._open or not self._ended.add(intent, index):
                yield Violation(Rule.V3, index, "there is an earlier intent of this id")
        for step in page.steps:
            broken = self._begin(step) if step.state is State.ATTEMPTED else self._go_on(step)
            if broken is not None:
                yield Violation(Rule.V3, step.index, broken)

    def _go_on(self, step: Step) -> str | None:
        ended_by = self._ended.get(step.intent)
        if ended_by is not None:
            if step.supersedes != ended_by:
                return "the intent has a terminal outcome, which this does not supersede"
            self._ended.put(step.intent, step.index)
            return None
        found = self._open.get(step.intent)
        if found is None:
            return "there is no earlier intent of this outcome"
        if step.state not in MAY_FOLLOW[found[0]]:
            return "this outcome may not follow the intent's state"
        if MAY_FOLLOW[step.state]:
            self._open[step.intent] = (step.state, step.index, step.at)
        else:
            del self._open[step.intent]
            self._ended.put(step.intent, step.index)
        return None if step.supersedes is None else "there is no terminal outcome to supersede"

    def _begin(self, step: Step) -> str | None:
        if self._is_known(step.intent):
            return "there is an earlier intent of this id"
        self._open[step.intent] = (step.state, step.index, step.at)
        if not step.of:
            return None
        self._repeats.put(step.intent, step.index)
        if self._repeats.get(step.of) is not None or not self._is_known(step.of):
            return "a later attempt does not name an earlier first one"
        previous = self._attempts.get(step.of) or 1
        self._attempts.put(step.of, step.attempt)
        return None if step.attempt == previous + 1 else "the attempts do not count up"

    def _is_known(self, intent: bytes) -> bool:
        return intent in self._open or self._ended.get(intent) is not None

    def unfinished(self) -> Iterable[OpenIntent]:
        for intent, (state, index, _) in self._open.items():
            yield OpenIntent(str(UUID(bytes=intent)), state, index)

    def late(self, as_of: datetime, timeout: timedelta) -> Iterable[Violation]:
        """V4: yield what has been open for longer than it may."""
        grace = timeout + timedelta(seconds=LEASE_SECONDS)
        for state, index, at in self._open.values():
            may_last = grace if state is State.ATTEMPTED else UNKNOWN_MAX + grace
            if as_of - _time(at) > may_last:
                yield Violation(Rule.V4, index, f"the intent has been {state.value} for too long")


@dataclass(slots=True)
class _Boot:
    id: str
    n: int  # of its last entry
    started: bool
    stopped: bool = False


class Boots:
    """V5, over all boots of all replicas."""

    def __init__(self) -> None:
        self._last: dict[str, _Boot] = {}  # of each replica
        self._over: set[tuple[str, str]] = set()

    def follow(self, page: Examined) -> Iterable[Violation]:
        """Yield what is wrong with the places of the next page's entries in their boots."""
        for beat in page.beats:
            broken = self._follow(beat)
            if broken is not None:
                yield Violation(Rule.V5, beat.index, broken)

    def _follow(self, beat: Beat) -> str | None:
        boot = self._last.get(beat.replica)
        if boot is None or boot.id != beat.boot:
            return self._begin(beat, boot)
        contiguous = beat.n == boot.n + 1
        first_start = beat.starts != boot.started  # either it starts, or it has started
        after_stop = boot.stopped
        boot.n = beat.n + beat.count - 1
        boot.started = True
        boot.stopped = beat.stops
        if not contiguous:
            return "n does not follow the boot's entry before"
        if after_stop:
            return "the boot has stopped before"
        if not first_start:
            return "a boot begins with gateway.started, once"
        return None if beat.previous is None else _MISNAMED

    def _begin(self, beat: Beat, previous: _Boot | None) -> str | None:
        self._last[beat.replica] = _Boot(beat.boot, beat.n + beat.count - 1, beat.starts)
        if previous is not None:
            self._over.add((beat.replica, previous.id))
        if (beat.replica, beat.boot) in self._over:
            return "the replica has started again before"
        if beat.n != 0:
            return "n does not begin at 0"
        if beat.opens_log:
            return None
        if not beat.starts:
            return "a boot begins with gateway.started, once"
        return _misnamed(beat, previous)

    def unstopped(self) -> Iterable[UnstoppedBoot]:
        for replica, boot in self._last.items():
            if not boot.stopped:
                yield UnstoppedBoot(replica, boot.id, boot.n)


_MISNAMED: Final = "the boot that is named is not the replica's last"


def _misnamed(beat: Beat, previous: _Boot | None) -> str | None:
    if beat.previous is None:
        interrupted = previous is not None and not previous.stopped
        return "the replica's interrupted boot is not named" if interrupted else None
    if previous is None or beat.previous != (previous.id, previous.n):
        return _MISNAMED
    return None


class Keys:
    """V7: tokens that are deleted, and versions of keys.

    HashiCorp Vault rotates card keys by itself, too, and tells nobody: of a key that has ever been
    announced a version that was not is worth a look, no more. The key that signs is only rotated
    on record.
    """

    def __init__(self) -> None:
        self._deleted = CompactIndex(TOKEN_BYTES)
        self._announced: dict[str, int] = {}  # version of each key
        self._early: dict[str, tuple[int, int]] = {}  # a version before its announcement, where
        self._skipped: list[Violation] = []

    def follow(
        self, page: Examined, rotations: Sequence[tuple[int, KeyRotated]]
    ) -> Iterable[Violation]:
        """Yield which intents of the next page open what they must not."""
        for place, index in enumerate(page.deleted):
            token = page.deleted_tokens[place * TOKEN_BYTES : (place + 1) * TOKEN_BYTES]
            self._deleted.add(token, index)
        if self._deleted:
            for place, index in enumerate(page.opened):
                token = page.opened_tokens[place * TOKEN_BYTES : (place + 1) * TOKEN_BYTES]
                deleted = self._deleted.get(token)
                if deleted is not None and deleted < index:
                    yield Violation(Rule.V7, index, "a deleted token is opened")
        for index, rotation in rotations:
            yield from self._rotate(index, rotation)
        for key, version, index in page.versions:
            if version > self._announced.get(key, version):
                self._early.setdefault(key, (version, index))

    def _rotate(self, index: int, rotation: KeyRotated) -> Iterable[Violation]:
        """Follow an announcement; entries may use the version a little before it."""
        key, known = rotation.key, self._announced.get(rotation.key)
        if known not in (None, rotation.from_version):
            skipped = Violation(Rule.V7, index, "the key had another version before")
            if key == LEDGER_KEY:
                yield skipped
            else:
                self._skipped.append(skipped)
        self._announced[key] = rotation.to_version
        if self._early.get(key, (0, 0))[0] <= rotation.to_version:
            self._early.pop(key, None)

    def unannounced(self) -> Sequence[Violation]:
        """Return what is worth a look, at the end of the log."""
        message = "the key's version was not announced"
        early = [Violation(Rule.V7, index, message) for _, index in self._early.values()]
        return [*self._skipped, *early]


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:  # a day that no month has
        return datetime.fromisoformat("1970-01-01T00:00:00Z")
