"""Signed heads of a log: who may have signed them, and those that were seen before. Pure.

A complete rewrite that is signed again is right in itself: what tells it from the log that was
is a head that somebody kept. Here live such heads and the keys that count. What never may: a
file, and the root of the log, which `check` recomputes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from vault.ledger.checkpoint import Checkpoint, parse_checkpoint
from vault.ledger.note import Note, NoteRefused, VerifierKey, parse_note, verified
from vault.ledger.policy import Policy, PolicyLog

HELD_BYTES_MAX: Final = 1 << 20


class Source(StrEnum):
    """Where a head comes from."""

    HELD = "held"  # kept by the auditor from an earlier time
    STORED = "stored"  # beside the log, with all others
    LATEST = "latest"  # what the log says of itself now


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A checkpoint with its signatures, unchecked."""

    checkpoint: Checkpoint
    note: Note
    source: Source

    @classmethod
    def parse(cls, raw: bytes, source: Source) -> "SignedHead":
        """Raises NoteRefused."""
        note = parse_note(raw)
        return cls(parse_checkpoint(note.text), note, source)


class Trust:
    """Whose signatures count.

    The keys an auditor pins; after them those that `key.rotated` announces, from the first
    checkpoint on that covers the announcement and has the signature of a key that counted before.
    Where none is pinned, the log's own first key is taken on trust.
    """

    def __init__(self, keys: Iterable[VerifierKey] = (), policy: Policy | None = None) -> None:
        self._policy = policy
        self._witnesses = [] if policy is None else [w.key for w in policy.witnesses.values()]
        self._keys = [*keys, *(log.key for log in (() if policy is None else policy.logs))]
        self.is_pinned = bool(self._keys)
        self._announced: list[tuple[int, VerifierKey]] = []

    @property
    def keys(self) -> Sequence[VerifierKey]:
        return self._keys

    def announce(self, index: int, vkey: str) -> None:
        """Take note of a key that entry `index` names. Raises NoteRefused."""
        key = VerifierKey.parse(vkey)
        if index == 0:
            if not self.is_pinned:
                self._keys.append(key)
            return
        self._announced.append((index, key))

    def check(self, head: SignedHead) -> Sequence[int]:
        """Check a head's signatures; return the times of its cosignatures, in Unix seconds.

        Raises NoteRefused.
        """
        checkpoint = head.checkpoint
        logs = [key for key in self._keys if key.name == checkpoint.origin]
        signers = verified(head.note, [*logs, *self._witnesses])
        if not any(signer.key in logs for signer in signers):
            raise NoteRefused("no known key of the log signed this")
        if self._policy is not None and head.source is Source.LATEST:
            self._check_quorum(self._policy, head.note, logs)
        self._keys += [key for index, key in self._announced if index < checkpoint.size]
        self._announced = [one for one in self._announced if one[0] >= checkpoint.size]
        return [signer.at for signer in signers if signer.at is not None]

    def _check_quorum(self, policy: Policy, note: Note, logs: Sequence[VerifierKey]) -> None:
        """Ask the policy about witnesses; the log's key may be a later one than it knows."""
        known = [log.key for log in policy.logs]
        later = tuple(PolicyLog(key, None) for key in logs if key not in known)
        replace(policy, logs=(*policy.logs, *later)).check(note)
