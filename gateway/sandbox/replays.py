"""What the simulated processors remember of idempotency keys. Pure: the time is passed in.

A key belongs to an account at one processor. While it lives, the same call gets the first answer
again, and another call is refused; what makes calls the same, how long a key lives and how all
that is said is the processor's. Answers that are not `executed` are not kept.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple, Protocol, runtime_checkable

from gateway.sandbox.wire import WireAnswer, WireCall

KEYS_MAX: Final = 20_000

KeyTrouble = Literal["too_long", "reused", "in_use"]


@runtime_checkable
class HonorsKeys(Protocol):
    """What a simulated processor has to say besides, if it honors idempotency keys."""

    key_lifetime: timedelta
    key_characters_max: int

    def content(self, call: WireCall) -> bytes:
        """What must be the same in a repeat, path and method apart."""
        ...

    def repeated(self, first: WireAnswer) -> WireAnswer:
        """The first answer, given again."""
        ...

    def key_refused(self, trouble: KeyTrouble) -> WireAnswer: ...


class KeyRefused(Exception):
    """A call under a key that it may not have."""

    def __init__(self, trouble: KeyTrouble) -> None:
        super().__init__(trouble)
        self.trouble: KeyTrouble = trouble


class Place(NamedTuple):
    """Whose key it is."""

    processor: str
    account: str
    key: str


@dataclass(slots=True)
class KeptAnswer:
    """What a key stands for: a call, by its digest, and how it was answered."""

    digest: bytes
    until: datetime
    answer: WireAnswer | None = None  # None: still being carried out


class Replays:
    """The keys of all accounts, the oldest first."""

    def __init__(self, digest_key: bytes) -> None:
        self._digest_key = digest_key  # calls carry card numbers: only keyed digests are kept
        self._entries: dict[Place, KeptAnswer] = {}

    def begin(
        self, place: Place, call: WireCall, honors: HonorsKeys, *, at: datetime
    ) -> WireAnswer | None:
        """None: carry it out, then `end` it. Otherwise the first answer, or KeyRefused."""
        if len(place.key) > honors.key_characters_max:
            raise KeyRefused("too_long")
        self._forget_old(place, at)
        digest = self._digest(call, honors.content(call))
        entry = self._entries.get(place)
        if entry is None:
            self._entries[place] = KeptAnswer(digest, at + honors.key_lifetime)
            return None
        if entry.digest != digest:
            raise KeyRefused("reused")
        if entry.answer is None:
            raise KeyRefused("in_use")
        return entry.answer

    def end(self, place: Place, answer: WireAnswer | None) -> KeptAnswer | None:
        """Keep the answer for repeats, or free the key where nothing was carried out."""
        if answer is None or not answer.executed:
            del self._entries[place]
            return None
        kept = self._entries[place]
        kept.answer = answer
        return kept

    def restore(self, place: Place, kept: KeptAnswer) -> None:
        """Put back what an earlier life of the processor kept."""
        self._entries[place] = kept

    def _forget_old(self, place: Place, at: datetime) -> None:
        """Forget this key if its time is over, and the oldest of all where there are too many.

        One whose call is still being carried out is never forgotten.
        """
        entry = self._entries.get(place)
        if entry is not None and entry.answer is not None and entry.until <= at:
            del self._entries[place]
        while self._entries:
            oldest = next(iter(self._entries))
            entry = self._entries[oldest]
            if entry.answer is None:
                return
            if entry.until > at and len(self._entries) < KEYS_MAX:
                return
            del self._entries[oldest]

    def _digest(self, call: WireCall, content: bytes) -> bytes:
        digest = hashlib.blake2b(key=self._digest_key)
        for part in (call.method.encode(), call.path.encode("utf-8", "surrogateescape"), content):
            digest.update(len(part).to_bytes(8))
            digest.update(part)
        return digest.digest()
