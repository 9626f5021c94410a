"""Whether a checkpoint may be cosigned, by the rules of C2SP tlog-witness. Pure.

1. The request reads as one, and does not claim more than its checkpoint has: else 400.
2. The log is one of ours: else 404.
3. The log signed it, and every line of a key that we know is genuine: else 403.
4. It starts from what we hold: else 409, with the size that we hold.
5. It extends what we hold, or is the same: else 422.

The first three need no memory. The other two are for whoever holds it, in one transaction with
what follows from them. What never may live here: keys that sign, files, the network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from vault.ledger.checkpoint import (
    AddCheckpoint,
    Checkpoint,
    parse_add_checkpoint,
    parse_checkpoint,
)
from vault.ledger.note import Note, NoteRefused, VerifierKey, verified
from vault.ledger.tree import EMPTY_ROOT, InvalidProof, verify_consistency

Logs = Mapping[str, Sequence[VerifierKey]]
"""The keys of each log that is witnessed, by its origin; two while a log changes its key."""


class Refusal(StrEnum):
    """Why nothing is cosigned; each has a status of its own."""

    MALFORMED = "malformed"
    UNKNOWN_LOG = "unknown_log"
    NOT_SIGNED = "not_signed"
    NO_EXTENSION = "no_extension"


@dataclass(frozen=True, slots=True)
class Held:
    """What was last cosigned of a log."""

    size: int
    root: bytes


NOTHING_HELD: Final = Held(0, EMPTY_ROOT)


@dataclass(frozen=True, slots=True)
class Asked:
    """A checkpoint that its log signed, with the proof that it came with; `note` is its own."""

    checkpoint: Checkpoint
    note: Note
    old_size: int
    proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class HeldOther:
    """Another size is held than the request starts from."""

    size: int


@dataclass(frozen=True, slots=True)
class Extends:
    """It may be cosigned."""


def asked(body: bytes, logs: Logs) -> Asked | Refusal:
    """Judge a request by itself."""
    try:
        request = parse_add_checkpoint(body)
        checkpoint = parse_checkpoint(request.note.text)
    except NoteRefused:
        return Refusal.MALFORMED
    if checkpoint.origin not in logs:
        return Refusal.UNKNOWN_LOG
    keys = logs[checkpoint.origin]
    try:
        verified(request.note, keys)
    except NoteRefused:
        return Refusal.NOT_SIGNED
    if request.old_size > checkpoint.size:
        return Refusal.MALFORMED
    return Asked(checkpoint, _own_lines(request, keys), request.old_size, request.proof)


def judged(asking: Asked, held: Held) -> Extends | HeldOther | Refusal:
    """Judge a request by what is held of its log."""
    if asking.old_size != held.size:
        return HeldOther(held.size)
    try:
        verify_consistency(
            asking.proof,
            old_size=held.size,
            old_root=held.root,
            size=asking.checkpoint.size,
            root=asking.checkpoint.root,
        )
    except InvalidProof:
        return Refusal.NO_EXTENSION
    return Extends()


def _own_lines(request: AddCheckpoint, keys: Sequence[VerifierKey]) -> Note:
    """Keep the lines that were checked: whatever else came with them is nobody's word here."""
    known = {(key.name, key.key_id) for key in keys}
    lines = tuple(line for line in request.note.signatures if (line.name, line.key_id) in known)
    return Note(request.note.text, lines)
