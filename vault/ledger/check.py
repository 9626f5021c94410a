"""The auditor's rules that a sequence of entries can break, checked as they stream by.

What lives here needs nothing but the entries and the head: rule V4 needs clocks and presets, V6
the audit log of HashiCorp Vault, V8 cosignatures, V10 the processor's settlement. What never
may: a message that quotes a leaf, which may be anything.

After an unreadable or missing entry later ones may break rules too: the first finding counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from msgspec import UNSET

from vault.authorization import MAY_FOLLOW, State
from vault.ledger.card_scan import holds_card
from vault.ledger.entry import (
    TYPES,
    AuthorizationAttempted,
    AuthorizationResolved,
    Entry,
    EntryRefused,
    EntryUnknown,
    GatewayStarted,
    GatewayStopped,
    LogOpened,
    OfIntent,
    TokenDeleted,
    decode,
)
from vault.ledger.tree import CompactRange, leaf_hash

VIOLATIONS_KEPT_MAX: Final = 1000
CHUNK_LEAVES: Final = 1024  # leaf hashes that wait for the tree, which grows faster by many


class Rule(StrEnum):
    """What was broken; V… are the numbers of the auditor's rules."""

    INDEX = "index"  # dense, in order
    LEAF = "leaf"  # the stored hash is the body's
    COLUMNS = "columns"  # type and intent beside a body repeat it
    HEAD = "head"  # size and root are those of the entries
    V1 = "V1"  # readable, canonical, of its schema; log.opened at 0 and only there
    V2 = "V2"  # type and version known
    V3 = "V3"  # outcomes follow intents as the state machine has it, attempts count up
    V5 = "V5"  # boots are contiguous, and an interrupted one is named by the next
    V7 = "V7"  # nothing opens a deleted token
    V9 = "V9"  # no card number


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that an entry breaks (no index: the whole does)."""

    rule: Rule
    index: int | None
    message: str


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


@dataclass(frozen=True, slots=True)
class Report:
    """What was found; `violations` are the first of `violations_total`."""

    size: int
    root: bytes
    violations: tuple[Violation, ...]
    violations_total: int
    open_intents: tuple[OpenIntent, ...]
    unstopped_boots: tuple[UnstoppedBoot, ...]


class LogCheck:
    """Fed every entry of a log in order, says which rules they break."""

    def __init__(self) -> None:
        self._next_index = 0
        self._tree = CompactRange()
        self._leaves: list[bytes] = []
        self._violations: list[Violation] = []
        self._violations_total = 0
        self._intents = _Intents()
        self._boots = _Boots()
        self._tokens_deleted: set[str] = set()

    def feed(
        self, index: int, body: bytes, leaf: bytes, type_column: str, intent_column: str | None
    ) -> None:
        """Check the next entry, as it is stored."""
        if index != self._next_index:
            self._add(Rule.INDEX, index, "the index does not follow the one before")
        self._next_index = index + 1
        computed = leaf_hash(body)
        if computed != leaf:
            self._add(Rule.LEAF, index, "the leaf hash is not that of the entry")
        self._leaves.append(computed)  # the root is over what the entries say
        if len(self._leaves) == CHUNK_LEAVES:
            self._grow()
        if holds_card(body):
            self._add(Rule.V9, index, "a card number is in the entry")
        try:
            entry = decode(body)
        except EntryUnknown as unknown:
            self._add(Rule.V2, index, str(unknown))
            return
        except EntryRefused as refused:
            self._add(Rule.V1, index, str(refused))
            return
        if type(entry) is not TYPES.get(type_column) or entry.intent_id != intent_column:
            self._add(Rule.COLUMNS, index, "the columns are not those of the entry")
        self._follow(index, entry)

    def finish(self, head_size: int, head_root: bytes) -> Report:
        """Compare with the head and report."""
        self._grow()
        root = self._tree.root()
        if self._tree.size != head_size:
            self._add(Rule.HEAD, None, "the head counts another number of entries")
        if root != head_root:
            self._add(Rule.HEAD, None, "the entries have another root than the head")
        return Report(
            self._tree.size,
            root,
            tuple(self._violations),
            self._violations_total,
            tuple(self._intents.unfinished()),
            tuple(self._boots.unstopped()),
        )

    def _follow(self, index: int, entry: Entry) -> None:
        """Apply the rules that look back."""
        if isinstance(entry, LogOpened) != (index == 0):
            self._add(Rule.V1, index, "log.opened is entry 0, and no other is")
        broken = self._boots.follow(entry)
        if broken is not None:
            self._add(Rule.V5, index, broken)
        if isinstance(entry, OfIntent):
            broken = self._intents.follow(index, entry)
            if broken is not None:
                self._add(Rule.V3, index, broken)
        if isinstance(entry, TokenDeleted):
            self._tokens_deleted.add(entry.token)
        elif isinstance(entry, AuthorizationAttempted) and any(
            opening.token in self._tokens_deleted for opening in entry.opens
        ):
            self._add(Rule.V7, index, "a deleted token is opened")

    def _grow(self) -> None:
        self._tree.extend(self._leaves)
        self._leaves.clear()

    def _add(self, rule: Rule, index: int | None, message: str) -> None:
        self._violations_total += 1
        if len(self._violations) < VIOLATIONS_KEPT_MAX:
            self._violations.append(Violation(rule, index, message))


class _Intents:
    """V3, over all intents seen so far."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[State, int]] = {}
        self._ended: dict[str, int] = {}  # by the entry of this index
        self._repeats: set[str] = set()
        self._attempts: dict[str, int] = {}  # latest of a first intent that was repeated

    def follow(self, index: int, entry: OfIntent) -> str | None:
        """Return what is wrong with this step, if anything is."""
        if isinstance(entry, AuthorizationAttempted):
            return self._begin(index, entry)
        supersedes = entry.supersedes if isinstance(entry, AuthorizationResolved) else UNSET
        ended_by = self._ended.get(entry.intent)
        if ended_by is not None:
            if supersedes != ended_by:
                return "the intent has a terminal outcome, which this does not supersede"
            self._ended[entry.intent] = index
            return None
        if entry.intent not in self._open:
            return "there is no earlier intent of this outcome"
        state, _ = self._open[entry.intent]
        if entry.state not in MAY_FOLLOW[state]:
            return "this outcome may not follow the intent's state"
        if MAY_FOLLOW[entry.state]:
            self._open[entry.intent] = (entry.state, index)
        else:
            del self._open[entry.intent]
            self._ended[entry.intent] = index
        return None if supersedes is UNSET else "there is no terminal outcome to supersede"

    def _begin(self, index: int, entry: AuthorizationAttempted) -> str | None:
        if self._is_known(entry.intent):
            return "there is an earlier intent of this id"
        self._open[entry.intent] = (entry.state, index)
        if entry.of is UNSET:
            return None
        self._repeats.add(entry.intent)
        if entry.of in self._repeats or not self._is_known(entry.of):
            return "a later attempt does not name an earlier first one"
        previous = self._attempts.get(entry.of, 1)
        self._attempts[entry.of] = entry.attempt
        return None if entry.attempt == previous + 1 else "the attempts do not count up"

    def _is_known(self, intent: str) -> bool:
        return intent in self._open or intent in self._ended

    def unfinished(self) -> Iterable[OpenIntent]:
        for intent, (state, index) in self._open.items():
            yield OpenIntent(intent, state, index)


@dataclass(slots=True)
class _Boot:
    id: str
    n: int  # of its last entry
    started: bool
    stopped: bool = False


class _Boots:
    """V5, over all boots of all replicas."""

    def __init__(self) -> None:
        self._last: dict[str, _Boot] = {}  # of each replica
        self._over: set[tuple[str, str]] = set()

    def follow(self, entry: Entry) -> str | None:
        """Return what is wrong with this entry's place in its boot, if anything is."""
        boot = self._last.get(entry.replica)
        if boot is None or boot.id != entry.boot:
            return self._begin(entry, boot)
        contiguous = entry.n == boot.n + 1
        starts = isinstance(entry, GatewayStarted)
        first_start = starts != boot.started  # either it starts, or it has started
        after_stop = boot.stopped
        boot.n = entry.n
        boot.started = True
        boot.stopped = isinstance(entry, GatewayStopped)
        if not contiguous:
            return "n does not follow the boot's entry before"
        if after_stop:
            return "the boot has stopped before"
        if not first_start:
            return "a boot begins with gateway.started, once"
        if isinstance(entry, GatewayStarted) and entry.previous is not UNSET:
            return "the boot that is named is not the replica's last"
        return None

    def _begin(self, entry: Entry, previous: _Boot | None) -> str | None:
        starts = isinstance(entry, GatewayStarted)
        self._last[entry.replica] = _Boot(entry.boot, entry.n, started=starts)
        if previous is not None:
            self._over.add((entry.replica, previous.id))
        if (entry.replica, entry.boot) in self._over:
            return "the replica has started again before"
        if entry.n != 0:
            return "n does not begin at 0"
        if isinstance(entry, LogOpened):
            return None
        if not isinstance(entry, GatewayStarted):
            return "a boot begins with gateway.started, once"
        return _misnamed(entry, previous)

    def unstopped(self) -> Iterable[UnstoppedBoot]:
        for replica, boot in self._last.items():
            if not boot.stopped:
                yield UnstoppedBoot(replica, boot.id, boot.n)


def _misnamed(entry: GatewayStarted, previous: _Boot | None) -> str | None:
    if entry.previous is UNSET:
        interrupted = previous is not None and not previous.stopped
        return "the replica's interrupted boot is not named" if interrupted else None
    if previous is None or (entry.previous.boot, entry.previous.n) != (previous.id, previous.n):
        return "the boot that is named is not the replica's last"
    return None
