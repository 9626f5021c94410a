"""What a story needs to be told with any SDK: bills, steps, refusals, and the words for them.

Amounts of a bill are in minor units of EUR. What decides at the simulated processors (a number, a
name, an amount, a zip) is asked for by the bill's verdict.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal, Protocol

from tests.sdks.driver import Reply

Verdict = Literal["approved", "declined", "pending"]
Format = Literal["opaque", "pan_like"]
Params = dict[str, Any]
CHECK: Final = "000"
"""What stands for the stored code where the number field has a token."""
MONTH, YEAR = 12, 2034


@dataclass(frozen=True)
class Bill:
    """What is to be paid, and by which card: `number` is what stands in the number field."""

    number: str
    reference: str
    amount: int = 1099
    verdict: Verdict = "approved"

    @property
    def major(self) -> str:
        return f"{self.amount // 100}.{self.amount % 100:02}"


@dataclass(frozen=True)
class Step:
    """One call of an SDK."""

    call: str
    ids: tuple[str, ...] = ()
    params: Params = field(default_factory=dict)

    def with_field(self, path: str, value: object) -> "Step":
        """The same with one field more, or another in its place."""
        return Step(self.call, self.ids, _with(self.params, path.split("."), value))


def _with(params: Params, path: list[str], value: object) -> Params:
    name, *rest = path
    return params | {name: _with(params.get(name, {}), rest, value) if rest else value}


@dataclass(frozen=True)
class No:
    """How an SDK tells that something went wrong: its error, the status, and the code in it."""

    error: str | None
    status: int | None
    code: str | None


class Dialect(Protocol):
    """One SDK. `misplaced` is a field where no token may stand, `text` one where it stays."""

    format: ClassVar[Format]
    currency: ClassVar[str | None]
    words: ClassVar[Mapping[Verdict, str]]
    numbers: ClassVar[Mapping[Verdict, str]]
    amounts: ClassVar[Mapping[Verdict, int]]
    decline_code: ClassVar[str]
    results: ClassVar[tuple[str, str, str]]  # of capture, void, refund
    misplaced: ClassVar[str]
    text: ClassVar[str]

    def pay(self, bill: Bill) -> Step: ...
    def store(self, bill: Bill) -> Step: ...
    def id_of(self, reply: Reply) -> str: ...
    def word(self, reply: Reply) -> str | None: ...
    def capture(self, id_: str, bill: Bill) -> Step: ...
    def void(self, id_: str, bill: Bill) -> Step: ...
    def refund(self, id_: str, captured: str, bill: Bill) -> Step: ...
    def look(self, id_: str, bill: Bill) -> Step: ...
    def no(self, code: str, status: int) -> No: ...
    def told(self, reply: Reply) -> No: ...
