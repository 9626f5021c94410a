"""What the processors remember of the calls they received, for tests and for the demo to show.

Memory only: what is written to files is the journal's. Card data is masked before it is kept,
unless the simulation was told to remember numbers, which only a test may do.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from gateway.sandbox.cards import is_card_number
from gateway.sandbox.params import FORM, Params
from gateway.sandbox.refusals import Refusal
from gateway.sandbox.wire import WireCall

REMEMBERED_MAX: Final = 50_000


@dataclass(frozen=True, slots=True)
class Received:
    """One call. `account` is None where its credential is nobody's."""

    at: datetime
    processor: str
    method: str
    path: str
    account: str | None
    idempotency_key: str | None
    masked: Mapping[str, str]  # number and CVC fields, as the demo may show them
    sent: WireCall | None = field(default=None, repr=False)  # all of it, in full


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

    def add(self, call: Received, numbers: Sequence[str]) -> None:
        self._calls.append(call)
        if self._remember_numbers:
            self._numbers.extend(numbers)

    def kept_of(self, call: WireCall) -> WireCall | None:
        return call if self._remember_numbers else None

    def forget(self) -> None:
        self._calls.clear()
        self._numbers.clear()


def masked(call: WireCall, numbers: Sequence[str]) -> dict[str, str]:
    """Only what PCI DSS 3.4.1 lets anyone see of a number, and nothing of a CVC.

    The fields of a form are named; of any other body the numbers are counted.
    """
    if call.headers.get("content-type", "").startswith(FORM):
        return _masked_form(call.body)
    return {f"number {place}": _masked_number(text) for place, text in enumerate(numbers, start=1)}


def _masked_form(body: bytes) -> dict[str, str]:
    try:
        params = Params.parse(body)
    except Refusal:
        return {}
    numbers = {key: _masked_number(value) for key, value in params.ending("number").items()}
    return numbers | dict.fromkeys(params.ending("cvc"), "•••")


def _masked_number(text: str) -> str:
    if is_card_number(text):
        return f"•••• {text[-4:]}"
    return f"not a card number ({len(text)} characters)"
