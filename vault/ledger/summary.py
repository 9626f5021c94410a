"""A page's entries in short: its part of the tree, its boots, its intents, its times. Pure.

Here columns by place in the page become what `check` needs to know of it. What never may live
here: bytes of an entry.
"""

from binascii import unhexlify
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from typing import Final, NamedTuple

from msgspec import UNSET

from vault.authorization import MAY_FOLLOW, State
from vault.ledger.entry import Entry, GatewayStarted, GatewayStopped, LogOpened
from vault.ledger.pages import PAGE_ENTRIES, Beat, Examined, Mark, Opening, Step
from vault.ledger.rules import Rule, Violation
from vault.ledger.tiles import TILE_WIDTH
from vault.ledger.tree import CompactRange

SKEW: Final = timedelta(seconds=10)  # between clocks
GOES_BACK: Final = "the time is more than 10 s before that of the entry before"

_NODE: Final = b"\x01"
_TERMINAL: Final = frozenset(MAY_FOLLOW[State.ATTEMPTED] - {State.UNKNOWN})


Row = tuple[bytes, bytes, bytes, bytes, bytes]  # leaf hash, n, time, replica, boot


class Stamps(NamedTuple):
    """What every entry has, by place; of an unreadable one nothing but its leaf hash."""

    leaves: Sequence[bytes]
    ns: Sequence[int]
    times: Sequence[bytes]
    replicas: Sequence[bytes]
    boots: Sequence[bytes]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Stamps":
        leaves, ns, times, replicas, boots = zip(*rows, strict=True)
        return cls(leaves, list(map(int, ns)), times, replicas, boots)


def unreadable(leaf: bytes) -> Row:
    return (leaf, b"-1", b"", b"", b"")


class PlainStep(NamedTuple):
    """A step of an intent, by its place in the page and its id as text."""

    place: int
    state: State
    intent: bytes
    attempt: int = 0
    of: bytes = b""
    supersedes: int | None = None


class Steps(NamedTuple):
    """Steps of one kind: first attempts, or outcomes that supersede nothing."""

    state: State
    places: Sequence[int]
    intents: Sequence[bytes]

    def one_by_one(self) -> Iterator[PlainStep]:
        attempt = int(self.state is State.ATTEMPTED)
        for place, intent in zip(self.places, self.intents, strict=True):
            yield PlainStep(place, self.state, intent, attempt)


def summarize_tree(found: Examined, leaves: Sequence[bytes]) -> list[bytes]:
    """Hash the leaves up, to the page's peaks; return the roots of full tiles."""
    full = len(leaves) // TILE_WIDTH
    roots = _tile_roots(leaves[: full * TILE_WIDTH])
    found.tiles = b"".join(roots)
    found.peaks = _peaks(roots, leaves[full * TILE_WIDTH :])
    if found.first % PAGE_ENTRIES or len(leaves) != PAGE_ENTRIES:
        found.leaves = b"".join(leaves)
    return roots


def summarize_marks(
    found: Examined,
    sizes: Sequence[int],
    roots: Sequence[bytes],
    stamps: Stamps,
) -> None:
    """Say what the page is up to each size; `roots`: of its full tiles."""
    for size in sizes:
        count = size - found.first
        tiles = count // TILE_WIDTH
        newest = max(stamps.times[:count])
        found.marks.append(
            Mark(
                size,
                _peaks(roots[:tiles], stamps.leaves[tiles * TILE_WIDTH : count]),
                newest.decode(),
                found.first + stamps.times.index(newest),
            )
        )


def summarize_boots(found: Examined, stamps: Stamps, special: Mapping[int, Entry]) -> None:
    """Make one beat of what is contiguous; `special`: starts and stops."""
    ns, count = stamps.ns, found.count
    is_one = len(set(stamps.boots)) == 1 and len(set(stamps.replicas)) == 1
    if is_one and not special and ns == list(range(ns[0], ns[0] + count)):
        places = {stamps.replicas[0]: [0]} if stamps.replicas[0] else {}
        cuts = [(0, count)]
    else:
        places = {}
        for place, replica in enumerate(stamps.replicas):
            if replica:
                places.setdefault(replica, []).append(place)
        cuts = []
    for of_replica in places.values():
        for first, length in cuts or _cut(of_replica, stamps, special):
            found.beats.append(_beat(found.first, stamps, special.get(first), (first, length)))


def _cut(
    places: Sequence[int], stamps: Stamps, special: Mapping[int, Entry]
) -> list[tuple[int, int]]:
    """Cut a replica's entries where a boot begins or ends, and where `n` jumps."""
    cuts = [0] + [
        row
        for row, (before, place) in enumerate(pairwise(places), 1)
        if stamps.ns[place] != stamps.ns[before] + 1
        or stamps.boots[place] != stamps.boots[before]
        or place in special
        or before in special
    ]
    return [(places[first], end - first) for first, end in pairwise([*cuts, len(places)])]


def _beat(page: int, stamps: Stamps, entry: Entry | None, run: tuple[int, int]) -> Beat:
    first, count = run
    previous = None
    if isinstance(entry, GatewayStarted) and entry.previous is not UNSET:
        previous = (entry.previous.boot, entry.previous.n)
    return Beat(
        page + first,
        stamps.replicas[first].decode(),
        stamps.boots[first].decode(),
        stamps.ns[first],
        count,
        isinstance(entry, GatewayStarted),
        isinstance(entry, GatewayStopped),
        isinstance(entry, LogOpened),
        previous,
    )


def summarize_intents(
    found: Examined, alike: Sequence[Steps], others: Sequence[PlainStep], times: Sequence[bytes]
) -> None:
    """Tell of intents that begin and end here in a word, of others step by step."""
    begun: dict[bytes, int] = {}
    ended: dict[bytes, int] = {}
    counted = Counter([step.intent for step in others])
    for steps in alike:
        counted.update(steps.intents)
        if steps.state is State.ATTEMPTED:
            begun.update(zip(steps.intents, steps.places, strict=True))
        elif steps.state in _TERMINAL:
            ended.update(zip(steps.intents, steps.places, strict=True))
    firsts = {step.of for step in others if step.of}
    pairs = {
        intent: place
        for intent, place in ended.items()
        if counted[intent] == 2  # noqa: PLR2004 - it began and ended
        and begun.get(intent, place) < place
        and intent not in firsts
    }
    found.ended = binary(b"".join(pairs))
    found.ended_at = [found.first + place for place in pairs.values()]
    rest = [step for steps in alike for step in _without(steps, pairs)]
    for step in sorted([*others, *rest]):
        found.steps.append(
            Step(
                found.first + step.place,
                step.state,
                binary(step.intent),
                times[step.place].decode(),
                step.attempt,
                binary(step.of),
                step.supersedes,
            )
        )


def _without(steps: Steps, pairs: Mapping[bytes, int]) -> Iterator[PlainStep]:
    if pairs.keys() >= set(steps.intents):
        return
    for step in steps.one_by_one():
        if step.intent not in pairs:
            yield step


def summarize_joins(
    found: Examined,
    steps: Iterable[PlainStep],
    times: Sequence[bytes],
    openings: Mapping[int, Sequence[str]],
) -> None:
    """Tell of each intent what the audit log of the keys is compared with."""
    for step in sorted(steps):
        intent, at = binary(step.intent), times[step.place].decode()
        if step.state is State.ATTEMPTED:
            keys = "".join(key[0] for key in openings.get(step.place, ()))
            found.intents.append(Opening(intent, at, keys))
        else:
            found.ends.append((intent, at))


def summarize_times(found: Examined, times: Sequence[bytes]) -> None:
    """Note the first, the last and the latest time, and where a clock was set back."""
    known = [at for at in times if at]
    if not known:
        return
    found.first_time, found.last_time = known[0].decode(), known[-1].decode()
    newest = max(known)
    found.newest, found.newest_index = newest.decode(), found.first + times.index(newest)
    if known == sorted(known):
        return
    placed = [(at, place) for place, at in enumerate(times) if at]
    for (before, _), (at, place) in pairwise(placed):
        if at < before and goes_back(before.decode(), at.decode()):
            found.warnings.append(Violation(Rule.V8, found.first + place, GOES_BACK))


def goes_back(before: str, at: str) -> bool:
    """Whether a time lies further before another than clocks may differ."""
    try:
        return datetime.fromisoformat(before) - datetime.fromisoformat(at) > SKEW
    except ValueError:  # a day that no month has
        return True


def binary(uuids: bytes) -> bytes:
    """Read UUIDs one behind the other: 16 bytes each."""
    return unhexlify(uuids.replace(b"-", b""))


def _tile_roots(leaves: Sequence[bytes]) -> list[bytes]:
    row, width = list(leaves), TILE_WIDTH
    while width > 1:
        row = [
            sha256(_NODE + left + right).digest()
            for left, right in zip(row[::2], row[1::2], strict=True)
        ]
        width //= 2
    return row


def _peaks(tiles: Sequence[bytes], leaves: Sequence[bytes]) -> list[bytes]:
    """Return the peaks over full tiles and the leaves behind them."""
    above, below = CompactRange(), CompactRange()
    above.extend(tiles)
    below.extend(leaves)
    return [*above.peaks, *below.peaks]
