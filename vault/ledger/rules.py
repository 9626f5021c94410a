"""The auditor's rules by name, and how a broken one is told. Pure.

What never may be here: a message that quotes a leaf, which may be anything.
"""

from dataclasses import dataclass
from enum import StrEnum


class Rule(StrEnum):
    """What was broken; V… are the numbers of the auditor's rules."""

    INDEX = "index"  # dense, in order
    LEAF = "leaf"  # the stored hash is the body's
    COLUMNS = "columns"  # type, intent, tenant and id beside a body repeat it
    DETAIL = "detail"  # what an entry commits to is what is kept
    TILE = "tile"  # entries and leaf hashes are there, as published
    NODE = "node"  # every hash above is that of the tile below; from its first entry on
    HEAD = "head"  # size and root are those of the entries
    CHECKPOINT = "checkpoint"  # what was signed is a beginning of this log; from an entry on
    V1 = "V1"  # readable, canonical, of its schema; log.opened at 0 and only there
    V2 = "V2"  # type and version known
    V3 = "V3"  # outcomes follow intents as the state machine has it, attempts count up
    V4 = "V4"  # no intent is left without its outcome
    V5 = "V5"  # boots are contiguous, and an interrupted one is named by the next
    V7 = "V7"  # nothing opens a deleted token; versions follow their rotations
    V8 = "V8"  # times are in order, and before the cosignatures that cover them
    V9 = "V9"  # no card number


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that an entry breaks, or some entry from that one on; no index: the whole does."""

    rule: Rule
    index: int | None
    message: str
