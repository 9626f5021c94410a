"""What the simulated processors keep over their own death, for tests that kill them: two files.

The state is what a real processor has on disk: the answers of idempotency keys, and charges, of a
processor that `KeepsCharges`. The arrivals are a witness of which card numbers came, and when.
Both hold digests that a search of all numbers undoes, so they are written only where numbers may
be remembered. A line is handed to the kernel before the processor goes on, so `kill -9` loses
none; a torn last one is dropped.
"""

import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol, Self, runtime_checkable

import msgspec

from gateway.sandbox.books import Counts
from gateway.sandbox.objects import Charge
from gateway.sandbox.replays import KeptAnswer

KEY_BYTES: Final = 32


class Keys(msgspec.Struct, frozen=True):
    """What makes digests of two lives of the processor comparable."""

    replays: bytes
    fingerprint: bytes

    def __repr__(self) -> str:
        return "Keys"


def new_keys() -> Keys:
    return Keys(secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES))


@runtime_checkable
class KeepsCharges(Protocol):
    """A simulated processor whose charges outlive it."""

    def take_changed(self, account: str) -> tuple[Charge, ...]:
        """Return the charges that were made or changed since this was last asked."""
        ...

    def restore(self, account: str, charges: Iterable[Charge]) -> None: ...


class Carried(msgspec.Struct, frozen=True):
    """One call that was carried out, and what follows from it."""

    processor: str
    account: str
    counts: Counts
    charges: tuple[Charge, ...] = ()  # made or changed by it
    charge_ids: tuple[str, ...] = ()  # of new ones that are not kept
    key: str | None = None
    kept: KeptAnswer | None = None


class Arrival(msgspec.Struct, frozen=True):
    """A card number that was received, or a charge that was made; `at` in Unix seconds."""

    at: float
    path: str
    idempotency_key: str | None
    number_sha256: str | None = None
    charge: str | None = None


class Journal:
    """Writes the two files; either may be left out."""

    def __init__(
        self, state: "StateFile | None", arrivals: Path | None, *, now: Callable[[], datetime]
    ) -> None:
        self._state = state
        self._arrivals = None if arrivals is None else _Lines(arrivals)
        self._now = now
        self._charged = {
            charge.id for carried in self.earlier() for charge in carried.charges if charge.paid
        }

    def earlier(self) -> Iterable[Carried]:
        """What earlier lives carried out, in order."""
        return () if self._state is None else self._state.earlier

    def arrived(self, path: str, key: str | None, numbers: Iterable[str]) -> None:
        """Write down what came, before anything is decided."""
        for number in numbers:
            digest = hashlib.sha256(number.encode()).hexdigest()
            self._witness(path, key, number_sha256=digest)

    def carried_out(self, path: str, carried: Carried) -> None:
        """Write down what was done, before it is answered.

        The state first: a charge that is witnessed is one that a repeat of its call finds.
        """
        if self._state is not None:
            self._state.add(carried)
        for charge in carried.charges:
            if charge.paid and charge.id not in self._charged:
                self._charged.add(charge.id)
                self._witness(path, carried.key, charge=charge.id)
        for id_ in carried.charge_ids:
            self._witness(path, carried.key, charge=id_)

    def close(self) -> None:
        if self._state is not None:
            self._state.close()
        if self._arrivals is not None:
            self._arrivals.close()

    def _witness(
        self,
        path: str,
        key: str | None,
        *,
        number_sha256: str | None = None,
        charge: str | None = None,
    ) -> None:
        if self._arrivals is not None:
            at = self._now().timestamp()
            self._arrivals.add(Arrival(at, path, key, number_sha256, charge))


class StateFile:
    """The state of earlier lives, and the place for more."""

    def __init__(self, lines: "_Lines", keys: Keys, earlier: tuple[Carried, ...]) -> None:
        self._lines = lines
        self.keys = keys
        self.earlier = earlier

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read the file, and begin it if it is new."""
        lines = _Lines(path)
        written = iter(_whole_lines(path))
        first = next(written, None)
        if first is None:
            keys = new_keys()
            lines.add(keys)
            return cls(lines, keys, ())
        keys = msgspec.json.decode(first, type=Keys)
        return cls(lines, keys, tuple(msgspec.json.decode(line, type=Carried) for line in written))

    def add(self, carried: Carried) -> None:
        self._lines.add(carried)

    def close(self) -> None:
        self._lines.close()


class _Lines:
    """A file of JSON lines, each written by one call to the kernel."""

    def __init__(self, path: Path) -> None:
        """Open it to append, after cutting off what a kill left of its last line."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._file, path.read_bytes().rfind(b"\n") + 1)

    def add(self, record: msgspec.Struct) -> None:
        os.write(self._file, msgspec.json.encode(record) + b"\n")

    def close(self) -> None:
        os.close(self._file)


def _whole_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as lines:
        yield from lines
