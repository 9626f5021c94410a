"""What this processor remembers of idempotency keys. Pure: the time is passed in.

A key belongs to an account. It lives for 24 hours; while it does, the same call gets the first
answer again, a 5xx included, and another call is refused. Answers of calls that were not carried
out (wrong parameters, no authorization, a limit) are not kept.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from gateway.sandbox.refusals import key_in_use, key_reused, malformed
from gateway.sandbox.stripe_api import Answer, Call

LIFETIME: Final = timedelta(hours=24)
KEY_CHARACTERS_MAX: Final = 255
KEYS_MAX: Final = 20_000


@dataclass(slots=True)
class KeptAnswer:
    """What a key stands for: a call, by its digest, and how it was answered."""

    digest: bytes
    since: datetime
    answer: Answer | None = None  # None: still being carried out


class Replays:
    """The keys of all accounts, the oldest first."""

    def __init__(self, digest_key: bytes) -> None:
        self._digest_key = digest_key  # calls carry card numbers: only keyed digests are kept
        self._entries: dict[tuple[str, str], KeptAnswer] = {}

    def begin(self, account: str, key: str, call: Call, *, at: datetime) -> Answer | None:
        """None: carry it out, then `end` it. Otherwise the first answer, or a Refusal."""
        if len(key) > KEY_CHARACTERS_MAX:
            raise malformed("The idempotency key is too long.")
        self._forget_old(at)
        digest = self._digest(call)
        entry = self._entries.get((account, key))
        if entry is None:
            self._entries[account, key] = KeptAnswer(digest, at)
            return None
        if entry.digest != digest:
            raise key_reused()
        if entry.answer is None:
            raise key_in_use()
        return entry.answer

    def end(self, account: str, key: str, answer: Answer | None) -> KeptAnswer | None:
        """Keep the answer for repeats, or free the key where nothing was carried out."""
        if answer is None or not answer.executed:
            del self._entries[account, key]
            return None
        kept = self._entries[account, key]
        kept.answer = answer
        return kept

    def restore(self, account: str, key: str, kept: KeptAnswer) -> None:
        """Put back what an earlier life of the processor kept."""
        self._entries[account, key] = kept

    def _forget_old(self, at: datetime) -> None:
        while self._entries:
            oldest = next(iter(self._entries))
            entry = self._entries[oldest]
            if entry.answer is None:
                return
            if entry.since + LIFETIME > at and len(self._entries) < KEYS_MAX:
                return
            del self._entries[oldest]

    def _digest(self, call: Call) -> bytes:
        digest = hashlib.blake2b(key=self._digest_key)
        parts = [call.method, call.path]
        for pair in call.params.in_order():
            parts += pair
        for part in parts:
            encoded = part.encode()
            digest.update(len(encoded).to_bytes(8))
            digest.update(encoded)
        return digest.digest()
