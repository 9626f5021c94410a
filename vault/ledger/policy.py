"""Whose word on a log counts (C2SP tlog-policy): logs, witnesses, and how many of them. Pure.

An auditor holds such a file: the log's own word is worth as much as the heads that others hold.
What never may be here: addresses being dialed, a clock.
"""

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from vault.ledger.checkpoint import Checkpoint, parse_checkpoint
from vault.ledger.note import (
    COSIGNATURE,
    COSIGNATURE_ML_DSA,
    ED25519,
    Note,
    NoteRefused,
    VerifierKey,
    decimal,
    verified,
)

POLICY_CHARS_MAX: Final = 1024 * 1024
NONE: Final = "none"
LOG_KINDS: Final = frozenset({ED25519, COSIGNATURE_ML_DSA})
WITNESS_KINDS: Final = frozenset({COSIGNATURE, COSIGNATURE_ML_DSA})

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_BLANKS: Final = re.compile(r"[ \t]+")  # other spaces are a part of names


@dataclass(frozen=True, slots=True)
class PolicyLog:
    """A log whose checkpoints are accepted."""

    key: VerifierKey
    url: str | None


@dataclass(frozen=True, slots=True)
class PolicyWitness:
    """A cosigner that may count."""

    key: VerifierKey
    url: str | None


@dataclass(frozen=True, slots=True)
class Group:
    """At least `needed` of these witnesses and groups."""

    needed: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Agreement:
    """A checkpoint by the word of a log and of the witnesses that the policy asks for."""

    checkpoint: Checkpoint
    log_key: VerifierKey
    witnesses: Mapping[str, int]  # all that cosigned, and when (Unix seconds; 0: they do not say)


@dataclass(frozen=True, slots=True)
class Policy:
    """Which notes are believed."""

    logs: tuple[PolicyLog, ...]
    witnesses: Mapping[str, PolicyWitness]
    groups: Mapping[str, Group]  # in the order of definition: members come first
    quorum: str

    def check(self, note: Note) -> Agreement:
        """Check that a log signed the note and enough witnesses cosigned it.

        Raises NoteRefused.
        """
        checkpoint = parse_checkpoint(note.text)
        logs = [log.key for log in self.logs if log.key.name == checkpoint.origin]
        names = {witness.key: name for name, witness in self.witnesses.items()}
        signers = {each.key: each.at for each in verified(note, [*logs, *names])}
        log_key = next((key for key in logs if key in signers), None)
        if log_key is None:
            raise NoteRefused("no log of the policy signed this")
        witnesses = {name: signers[key] or 0 for key, name in names.items() if key in signers}
        if not self._is_met(witnesses.keys()):
            raise NoteRefused("the witnesses that the policy asks for did not cosign this")
        return Agreement(checkpoint, log_key, witnesses)

    def _is_met(self, cosigned: AbstractSet[str]) -> bool:
        witnessing = {NONE, *cosigned}
        for name, group in self.groups.items():
            if len(witnessing.intersection(group.members)) >= group.needed:
                witnessing.add(name)
        return self.quorum in witnessing


def parse_policy(text: str) -> Policy:
    """Read a policy file. Raises NoteRefused."""
    if len(text) > POLICY_CHARS_MAX or _CONTROL.search(text):
        raise NoteRefused("the policy is too long, or has control characters")
    reading = _Reading()
    for line in text.split("\n"):
        words = [word for word in _BLANKS.split(line) if word]
        if words and not words[0].startswith("#"):
            reading.take(words)
    if reading.quorum is None:
        raise NoteRefused("the policy has no quorum")
    return Policy(tuple(reading.logs), reading.witnesses, reading.groups, reading.quorum)


@dataclass(slots=True)
class _Reading:
    """A policy while its lines are read."""

    logs: list[PolicyLog] = field(default_factory=list)
    witnesses: dict[str, PolicyWitness] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    quorum: str | None = None
    members: set[str] = field(default_factory=set)  # of any group

    def take(self, words: Sequence[str]) -> None:
        match words:
            case ["log", key]:
                self._add_log(key, None)
            case ["log", key, url]:
                self._add_log(key, url)
            case ["witness", name, key]:
                self._add_witness(name, key, None)
            case ["witness", name, key, url]:
                self._add_witness(name, key, url)
            case ["group", name, needed, *members] if members:
                self._add_group(name, needed, members)
            case ["quorum", name] if self.quorum is None:
                self.quorum = name if name == NONE else self._defined(name)
            case _:
                raise NoteRefused("a line of the policy is none that it may have")

    def _add_log(self, text: str, url: str | None) -> None:
        key = _key(text, LOG_KINDS)
        if any(log.key.public_key == key.public_key for log in self.logs):
            raise NoteRefused("a log is there twice")
        self.logs.append(PolicyLog(key, url))

    def _add_witness(self, name: str, text: str, url: str | None) -> None:
        key = _key(text, WITNESS_KINDS)
        if any(one.key.public_key == key.public_key for one in self.witnesses.values()):
            raise NoteRefused("a witness is there twice")
        self.witnesses[self._new(name)] = PolicyWitness(key, url)

    def _add_group(self, name: str, needed: str, members: Sequence[str]) -> None:
        for member in members:
            if self._defined(member) in self.members:
                raise NoteRefused("a witness or group counts twice")
            self.members.add(member)
        words = {"any": 1, "all": len(members)}
        count = words[needed] if needed in words else decimal(needed)
        if not 1 <= count <= len(members):
            raise NoteRefused("a group needs more members than it has, or none")
        self.groups[self._new(name)] = Group(count, tuple(members))

    def _new(self, name: str) -> str:
        if name == NONE or name in self.witnesses or name in self.groups:
            raise NoteRefused("a name is defined twice")
        return name

    def _defined(self, name: str) -> str:
        if name not in self.witnesses and name not in self.groups:
            raise NoteRefused("a name is not defined before its use")
        return name


def _key(text: str, kinds: AbstractSet[int]) -> VerifierKey:
    key = VerifierKey.parse(text)
    if key.kind not in kinds:
        raise NoteRefused("a key is of a kind that its owner cannot have")
    return key
