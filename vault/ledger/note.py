"""Signed notes (C2SP signed-note): a text, and lines by which keys sign it. Pure.

Here live the names of keys, the strict forms that every text of the log shares (base64, decimal
numbers), and the three kinds of signature: a log's (Ed25519) and those of cosigners (C2SP
tlog-cosignature, Ed25519 and ML-DSA-44). What never may: a private key, a clock, or a message
that quotes what was read.

Read more strictly than the specification asks: of each value one spelling is accepted, so that
equal notes are equal bytes.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

from vault.ledger.tree import EMPTY_ROOT, HASH_BYTES, SIZE_MAX

ED25519: Final = 0x01
COSIGNATURE: Final = 0x04
COSIGNATURE_ML_DSA: Final = 0x06

PUBLIC_KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 4
TIME_BYTES: Final = 8
TIME_MAX: Final = 2**63 - 1
NAME_BYTES_MAX: Final = 255  # what a cosigned message can say of a name
# Room for a hundred signatures, post-quantum ones too: the specification asks for 16.
SIGNATURES_MAX: Final = 100
NOTE_BYTES_MAX: Final = 512 * 1024

_KEY_BYTES: Final[Mapping[int, int]] = {
    ED25519: PUBLIC_KEY_BYTES,
    COSIGNATURE: PUBLIC_KEY_BYTES,
    COSIGNATURE_ML_DSA: 1312,
}
_SIGNATURE_BYTES: Final[Mapping[int, int]] = {
    ED25519: 64,
    COSIGNATURE: 64,
    COSIGNATURE_ML_DSA: 2420,
}
_DASH: Final = "\u2014"
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")
_NAME: Final = re.compile(r"[^\s+\x00-\x1f\ud800-\udfff]+")  # \s: Unicode's spaces
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}")


class NoteRefused(ValueError):
    """What was read is not a note, not what it must say, or not signed by whom it must be."""


# --- the forms that all texts share -------------------------------------------------------


def base64_text(raw: bytes) -> str:
    return b64encode(raw).decode("ascii")


def base64_bytes(text: str) -> bytes:
    """Read standard base64 with padding, in its one spelling. Raises NoteRefused."""
    try:
        raw = b64decode(text, validate=True)
    except ValueError:
        raw = None
    if raw is None or base64_text(raw) != text:  # else stray bits would be ignored
        raise NoteRefused("this is not canonical base64")
    return raw


def base64_hash(text: str) -> bytes:
    """Read one SHA-256 hash. Raises NoteRefused."""
    raw = base64_bytes(text)
    if len(raw) != HASH_BYTES:
        raise NoteRefused("a hash does not have 32 bytes")
    return raw


def decimal(text: str) -> int:
    """Read a size or an index, without sign or leading zeros. Raises NoteRefused."""
    if not _DECIMAL.fullmatch(text) or (number := int(text)) > SIZE_MAX:
        raise NoteRefused("this is not a decimal number of the right form")
    return number


def utf8(raw: bytes) -> str:
    """Read the text of a note or around one: no control characters. Raises NoteRefused."""
    if len(raw) > NOTE_BYTES_MAX:
        raise NoteRefused("the text is too long")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = None
    if text is None or _CONTROL.search(text):
        raise NoteRefused("the text is not UTF-8 without control characters")
    return text


def checkpoint_lines(text: str) -> tuple[str, int, bytes]:
    """Read the three lines of a checkpoint: origin, size, root. Raises NoteRefused."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[3]:  # noqa: PLR2004 - extension lines no monitor could audit
        raise NoteRefused("a checkpoint has three lines")
    origin, size, root = key_name(lines[0]), decimal(lines[1]), base64_hash(lines[2])
    if size == 0 and root != EMPTY_ROOT:
        raise NoteRefused("this is not the root of the empty tree")
    return origin, size, root


def key_name(text: str) -> str:
    """Read the name of a key, or the origin of a log. Raises NoteRefused."""
    if not _is_name(text):
        raise NoteRefused("this is not the name of a key")
    return text


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None and len(text.encode()) <= NAME_BYTES_MAX


# --- keys ---------------------------------------------------------------------------------


def key_id(name: str, public_key: bytes) -> bytes:
    """Return the 4 bytes by which a signature line names an Ed25519 key."""
    return _key_id(name, ED25519, public_key)


def verifier_key(name: str, public_key: bytes) -> str:
    """Return the text by which verifiers are given a log's key: `name+id+key`."""
    return VerifierKey(name, ED25519, public_key).text


def _key_id(name: str, kind: int, public_key: bytes) -> bytes:
    named = name.encode() + b"\n" + bytes([kind]) + public_key
    return sha256(named).digest()[:KEY_ID_BYTES]


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key, and the name under which it signs."""

    name: str
    kind: int  # one of the three types above
    public_key: bytes

    def __post_init__(self) -> None:
        assert _is_name(self.name)
        assert len(self.public_key) == _KEY_BYTES.get(self.kind)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `name+id+key`. Raises NoteRefused."""
        name, hex_id, encoded = (*text.split("+", 2), "", "")[:3]  # base64 may hold a "+"
        key_name(name)
        typed = base64_bytes(encoded)
        kind, public_key = typed[0] if typed else 0, typed[1:]
        if len(public_key) != _KEY_BYTES.get(kind):
            raise NoteRefused("the key is of an unknown type, or has another length")
        key = cls(name, kind, public_key)
        if key.key_id.hex() != hex_id:
            raise NoteRefused("the id is not that of the key")
        return key

    @property
    def key_id(self) -> bytes:
        return _key_id(self.name, self.kind, self.public_key)

    @property
    def text(self) -> str:
        typed = bytes([self.kind]) + self.public_key
        return f"{self.name}+{self.key_id.hex()}+{base64_text(typed)}"

    def check(self, text: str, payload: bytes) -> int | None:
        """Check a signature of the text; return when it was made, if it says so.

        Raises NoteRefused.
        """
        timed = self.kind != ED25519
        if len(payload) != timed * TIME_BYTES + _SIGNATURE_BYTES[self.kind]:
            raise NoteRefused("a signature has another length than its kind")
        at = int.from_bytes(payload[:TIME_BYTES]) if timed else None
        if at is not None and at > TIME_MAX:
            raise NoteRefused("a signature's time is out of range")
        self._check(self._message(text, at), payload[TIME_BYTES:] if timed else payload)
        return at

    def _message(self, text: str, at: int | None) -> bytes:
        if at is None:
            return text.encode()
        if self.kind == COSIGNATURE:
            return cosigned_message(text, at)
        return subtree_message(self.name, text, at)

    def _check(self, message: bytes, signature: bytes) -> None:
        genuine = False
        try:
            if self.kind == COSIGNATURE_ML_DSA:
                MLDSA44PublicKey.from_public_bytes(self.public_key).verify(signature, message)
            else:
                Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, message)
            genuine = True
        except (InvalidSignature, UnsupportedAlgorithm, ValueError):
            pass
        if not genuine:
            raise NoteRefused("a signature is not genuine")


def cosigned_message(text: str, at: int) -> bytes:
    """Return what an Ed25519 cosigner signs."""
    return f"cosignature/v1\ntime {at}\n{text}".encode()


def subtree_message(name: str, text: str, at: int) -> bytes:
    """Return what an ML-DSA-44 cosigner signs of a checkpoint. Raises NoteRefused."""
    origin, size, root = checkpoint_lines(text)
    named, logged = name.encode(), origin.encode()
    return b"".join(
        (
            b"subtree/v1\n\0",
            bytes([len(named)]) + named,
            at.to_bytes(TIME_BYTES),
            bytes([len(logged)]) + logged,
            bytes(8),  # the subtree starts with the log
            size.to_bytes(8),
            root,
        )
    )


# --- notes --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Signature:
    """A line under a note, unchecked."""

    name: str
    key_id: bytes
    payload: bytes  # without the key's id

    @property
    def line(self) -> str:
        return f"{_DASH} {self.name} {base64_text(self.key_id + self.payload)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A text with its signatures, unchecked; the text ends with a newline."""

    text: str
    signatures: tuple[Signature, ...]

    @property
    def raw(self) -> bytes:
        assert self.signatures
        return "".join((self.text, "\n", *(each.line for each in self.signatures))).encode()

    def with_signatures(self, more: Iterable[Signature]) -> "Note":
        """Add signatures by keys that have none here: what is here stays."""
        by_key = {(each.name, each.key_id): each for each in self.signatures}
        for each in more:
            by_key.setdefault((each.name, each.key_id), each)
        return replace(self, signatures=tuple(by_key.values()))


@dataclass(frozen=True, slots=True)
class Verified:
    """A key whose signature is genuine; `at` is the cosigner's time, in Unix seconds."""

    key: VerifierKey
    at: int | None


def parse_note(raw: bytes) -> Note:
    """Read a note, whose signatures are still to be checked. Raises NoteRefused."""
    text, empty_line, lines = utf8(raw).rpartition("\n\n")
    if not empty_line:
        raise NoteRefused("a note has an empty line before its signatures")
    return Note(text + "\n", _signatures(lines))


def parse_signatures(raw: bytes) -> tuple[Signature, ...]:
    """Read signature lines without a note, as a witness answers them. Raises NoteRefused."""
    return _signatures(utf8(raw))


def verified(note: Note, keys: Iterable[VerifierKey]) -> tuple[Verified, ...]:
    """Check all signatures of these keys, ignoring those of others.

    One that is not genuine spoils the note. Of a key that signed more than once the latest time
    counts. Raises NoteRefused, also where no key of these signed.
    """
    known: dict[tuple[str, bytes], VerifierKey] = {}
    for key in keys:
        if known.setdefault((key.name, key.key_id), key) != key:
            raise NoteRefused("two keys have one name and id")
    found: dict[VerifierKey, Verified] = {}
    for each in note.signatures:
        signer = known.get((each.name, each.key_id))
        if signer is None:
            continue
        at = signer.check(note.text, each.payload)
        before = found.get(signer)
        if before is None or (at or 0) > (before.at or 0):
            found[signer] = Verified(signer, at)
    if not found:
        raise NoteRefused("no known key signed this")
    return tuple(found.values())


def signed(text: str, name: str, public_key: bytes, raw_signature: bytes) -> Signature:
    """Return the line for an Ed25519 signature, after checking it. Raises NoteRefused."""
    key = VerifierKey(name, ED25519, public_key)
    key.check(text, raw_signature)
    return Signature(name, key.key_id, raw_signature)


def _signatures(lines: str) -> tuple[Signature, ...]:
    *each, rest = lines.split("\n", SIGNATURES_MAX)
    if not each or rest:
        raise NoteRefused("there are no signature lines, too many, or an unfinished one")
    return tuple(map(_signature, each))


def _signature(line: str) -> Signature:
    dash, name, encoded = (*line.split(" "), "", "", "")[:3]
    if dash != _DASH or line.count(" ") != 2:  # noqa: PLR2004 - three words
        raise NoteRefused("this is not a signature line")
    payload = base64_bytes(encoded)
    if len(payload) <= KEY_ID_BYTES:
        raise NoteRefused("there is no signature after the key's id")
    return Signature(key_name(name), payload[:KEY_ID_BYTES], payload[KEY_ID_BYTES:])
