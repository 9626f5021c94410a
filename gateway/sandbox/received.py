"""What the processor remembers of the calls it received, for tests and for the demo to show.

Memory only: what is written to files is the journal's. Card data is masked before it is kept,
unless the simulation was told to remember numbers, which only a test may do.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from gateway.sandbox.cards import is_card_number
from gateway.sandbox.params import Params

REMEMBERED_MAX: Final = 50_000


@dataclass(frozen=True, slots=True)
class Received:
    """One call. `account` is None where its key is nobody's."""

    at: datetime
    method: str
    path: str
    account: str | None
    idempotency_key: str | None
    masked: Mapping[str, str]  # number and CVC fields, as the demo may show them
    params: Mapping[str, str] | None = field(default=None, repr=False)  # every field, in full


class Memory:
    """The calls received, the last ones of many."""

    def __init__(self, *, remember_numbers: bool) -> None:
        self._remember_numbers = remember_numbers
        self._calls: deque[Received] = deque(maxlen=REMEMBERED_MAX)
        self._numbers: deque[str] = deque(maxlen=REMEMBERED_MAX)

    @property
    def calls(self) -> tuple[Received, ...]:
        return tuple(self._calls)

    def numbers_in_full(self) -> tuple[str, ...]:
        """Return the value of every number field received, in order."""
        if not self._remember_numbers:
            raise RuntimeError("the simulated processor was not told to remember numbers")
        return tuple(self._numbers)

    def add(self, call: Received, params: Params) -> None:
        self._calls.append(call)
        if self._remember_numbers:
            self._numbers.extend(params.ending("number").values())

    def kept_of(self, params: Params) -> Mapping[str, str] | None:
        return params.everything() if self._remember_numbers else None

    def forget(self) -> None:
        self._calls.clear()
        self._numbers.clear()


def masked(params: Params) -> dict[str, str]:
    """Only what PCI DSS 3.4.1 lets anyone see of a number, and nothing of a CVC."""
    numbers = {key: _masked_number(value) for key, value in params.ending("number").items()}
    return numbers | dict.fromkeys(params.ending("cvc"), "•••")


def _masked_number(text: str) -> str:
    if is_card_number(text):
        return f"•••• {text[-4:]}"
    return f"not a card number ({len(text)} characters)"
