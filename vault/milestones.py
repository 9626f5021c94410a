"""Named moments of the stories that must survive a crash at any of them.

Nothing happens here: a test that wants to see what a crash leaves behind gives an object that
ends the process. The names are those of the crash matrix in docs/ledger.md.
"""

from enum import StrEnum
from typing import Final, Protocol


class Milestone(StrEnum):
    """S: an authorization; P: the publishing of a checkpoint. Each has just been reached."""

    CLAIMED = "S1"  # the idempotency key's claim is committed
    INTENDED = "S2"  # the intent is committed
    OPENED = "S3"  # the cards are decrypted and in place
    LEAVING = "S4"  # about to connect and send
    SENDING = "S5"  # sent, not answered: told by nobody, seen where a processor holds its answer
    ANSWERED = "S6"  # the whole reply is there
    RECORDED = "S7"  # the outcome is committed
    TOLD = "S8"  # about to answer the merchant
    HEAD_READ = "P1"
    EXTENDED = "P2"  # the leaves lead from what was signed to the head
    REMEMBERED = "P3"  # outside the database, before it is signed
    SIGNED = "P4"
    PUBLISHED = "P5"  # the checkpoint is stored
    WITNESSED = "P6"
    EXPORTED = "P7"


class Milestones(Protocol):
    """Whoever wants to know of them."""

    def passed(self, milestone: Milestone) -> None: ...


class _Unwatched:
    """Nobody."""

    def passed(self, milestone: Milestone) -> None:
        pass


UNWATCHED: Final[Milestones] = _Unwatched()
