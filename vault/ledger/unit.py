"""What is appended at once: entries, and the rows that change with them.

A unit is all or nothing. Its class says, for a whole batch and under the head lock, which units
must be refused (`check`) and which rows follow from the others (`apply`): so a race is settled
by the lock, and a row never says what the ledger does not.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Self

from msgspec.structs import replace

from vault.authorization import State
from vault.db import Connection
from vault.errors import CustodyError
from vault.ledger.detail import DetailValue, commitment, detail_body
from vault.ledger.entry import Draft, Entry, OfIntent, TokenCreated


@dataclass(frozen=True, slots=True)
class Detail:
    """What a leaf commits to and a person may have erased; the salt is 32 random bytes."""

    salt: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Line:
    """One entry as its author leaves it: the writer stamps it."""

    entry: Draft
    detail: Detail | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a line went: durable, and in the root."""

    idx: int
    leaf: bytes
    at: datetime


def committed(entry: Entry, words: Mapping[str, DetailValue | None], *, salt: bytes) -> Line:
    """Return a line whose leaf commits to those of `words` that are known."""
    known = {name: word for name, word in words.items() if word not in (None, "", {})}
    if not known:
        return Line(entry)
    body = detail_body(type(entry), known)
    return Line(replace(entry, detail=commitment(salt, body)), Detail(salt, body))


def _begins(entry: Draft) -> bool:
    if isinstance(entry, OfIntent):
        return entry.state is State.ATTEMPTED
    return isinstance(entry, TokenCreated)


class Unit(ABC):
    """Lines that are appended together."""

    order: ClassVar[int]
    """Kinds of units are checked and applied in this order within a batch."""

    lines: Sequence[Line]

    @property
    def opens_cards(self) -> bool:
        """Whether a card is opened once this is durable: refused while the ledger is sealed."""
        return False

    @property
    def begins(self) -> bool:
        """Whether it is a new intent or token: those are refused while the store lacks room."""
        return any(_begins(line.entry) for line in self.lines)

    @classmethod
    @abstractmethod
    async def check(
        cls, connection: Connection, units: Sequence[Self], at: datetime
    ) -> Mapping[int, CustodyError]:
        """Return what refuses a unit, by its position; under the head lock.

        Nothing is written but what a refusal must see: all of it goes where the batch goes.
        """

    @classmethod
    @abstractmethod
    async def apply(
        cls, connection: Connection, units: Sequence[Self], placed: Sequence[Sequence[Placed]]
    ) -> None:
        """Change the rows of units that were not refused; `placed` has a place for each line."""

    def when_abandoned(self) -> "Unit | None":
        """What must follow if this became durable after its author had given up."""
        return None


@dataclass(frozen=True, slots=True)
class Statement(Unit):
    """Entries that change no row."""

    order: ClassVar[int] = 0
    lines: Sequence[Line]

    @classmethod
    async def check(
        cls,
        connection: Connection,  # noqa: ARG003 - nothing to look up
        units: Sequence[Self],  # noqa: ARG003
        at: datetime,  # noqa: ARG003
    ) -> Mapping[int, CustodyError]:
        return {}

    @classmethod
    async def apply(
        cls, connection: Connection, units: Sequence[Self], placed: Sequence[Sequence[Placed]]
    ) -> None:
        """Change nothing."""
