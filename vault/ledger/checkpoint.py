"""What is said of a log's size and root (C2SP tlog-checkpoint), and what carries it. Pure.

Here live checkpoints, cosignatures, the request that a witness is sent (tlog-witness), and the
proof that an auditor keeps of one entry (tlog-proof). What never may: the check of a proof
(`tree`), a private key, a clock.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from vault.ledger.note import (
    COSIGNATURE,
    TIME_BYTES,
    Note,
    NoteRefused,
    Signature,
    VerifierKey,
    base64_bytes,
    base64_hash,
    base64_text,
    checkpoint_lines,
    cosigned_message,
    decimal,
    parse_note,
    utf8,
)

PROOF_HASHES_MAX: Final = 63  # a log of 2^63 entries is as high
TLOG_PROOF: Final = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """That the log `origin` has this root at this size."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64_text(self.root)}\n"


def parse_checkpoint(text: str) -> Checkpoint:
    """Read the text of a checkpoint's note: no extension lines. Raises NoteRefused."""
    return Checkpoint(*checkpoint_lines(text))


def origin_hash(origin: str) -> str:
    """Return how a witness names the log in its addresses."""
    return sha256(origin.encode()).hexdigest()


# --- cosignatures -------------------------------------------------------------------------


def cosigned_text(text: str, at: int) -> bytes:
    """Return what an Ed25519 cosigner signs; `at` in Unix seconds."""
    return cosigned_message(text, at)


def cosignature(name: str, public_key: bytes, at: int, raw: bytes) -> Signature:
    """Return the line for an Ed25519 signature of `cosigned_text`."""
    key = VerifierKey(name, COSIGNATURE, public_key)
    return Signature(name, key.key_id, at.to_bytes(TIME_BYTES) + raw)


# --- what a witness is sent ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A checkpoint, with the proof that it extends the one of `old_size`."""

    old_size: int
    proof: tuple[bytes, ...]
    note: Note

    @property
    def body(self) -> bytes:
        return _lines([f"old {self.old_size}", *map(base64_text, self.proof), ""]) + self.note.raw


def parse_add_checkpoint(body: bytes) -> AddCheckpoint:
    """Read a request's body; whether its proof holds is for `tree`. Raises NoteRefused."""
    head, note = _parted(body)
    old_size = decimal(_after("old ", head[0]))
    return AddCheckpoint(old_size, _hashes(head[1:]), note)


# --- what an auditor keeps ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TlogProof:
    """That a checkpoint covers entry `index`; nobody signs `extra`."""

    index: int
    hashes: tuple[bytes, ...]
    note: Note
    extra: bytes | None = None

    @property
    def raw(self) -> bytes:
        extra = [] if self.extra is None else [f"extra {base64_text(self.extra)}"]
        hashes = map(base64_text, self.hashes)
        return _lines([TLOG_PROOF, *extra, f"index {self.index}", *hashes, ""]) + self.note.raw


def parse_tlog_proof(raw: bytes) -> TlogProof:
    """Read a proof; whether it holds is for `tree`. Raises NoteRefused."""
    head, note = _parted(raw)
    first, *rest = head
    if first != TLOG_PROOF:
        raise NoteRefused("this is not a proof of this version")
    extra = None
    if rest and rest[0].startswith("extra "):
        extra = base64_bytes(_after("extra ", rest.pop(0)))
    if not rest:
        raise NoteRefused("the proof has no index")
    index = decimal(_after("index ", rest[0]))
    return TlogProof(index, _hashes(rest[1:]), note, extra)


def _lines(lines: list[str]) -> bytes:
    return "".join(line + "\n" for line in lines).encode("ascii")


def _parted(raw: bytes) -> tuple[list[str], Note]:
    """Split what stands before the first empty line from the checkpoint after it."""
    head, empty_line, note = utf8(raw).partition("\n\n")
    if not empty_line:
        raise NoteRefused("there is no empty line before the checkpoint")
    parsed = parse_note(note.encode())
    parse_checkpoint(parsed.text)
    return head.split("\n"), parsed


def _after(word: str, line: str) -> str:
    if not line.startswith(word):
        raise NoteRefused("a line does not begin as it must")
    return line.removeprefix(word)


def _hashes(lines: list[str]) -> tuple[bytes, ...]:
    if len(lines) > PROOF_HASHES_MAX:
        raise NoteRefused("the proof has too many hashes")
    return tuple(map(base64_hash, lines))
