"""The items of one call on their way: what is still to be sent, and what became of the rest. Pure.

Here it is settled which result belongs to which item. It is done by `reference`, never by
position: the wrong result would be another tenant's card number. If the results of a request do
not fit its items one to one, none of them is believed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic

from vault.errors import CustodyError, KeysError
from vault.transit_answers import Answer, item_failure, results_in
from vault.transit_items import Item, ItemResult, Operation, Value

ITEMS_MAX: Final = 128  # in one request; 170 items of three fields are refused

MISMATCH: Final = "mismatch"
"""What `settle` reports when the results do not fit the items."""


@dataclass(frozen=True, slots=True, repr=False)
class Part(Generic[Item]):
    """The items of one request, with their places in the call and their references."""

    places: Sequence[int]
    items: Sequence[Item]
    references: Sequence[str]

    def halves(self) -> tuple["Part[Item]", "Part[Item]"]:
        end = len(self.items)
        return self._cut(0, end // 2), self._cut(end // 2, end)

    def _cut(self, start: int, end: int) -> "Part[Item]":
        return Part(self.places[start:end], self.items[start:end], self.references[start:end])


class Batch(Generic[Item, Value]):
    """Outcomes of one call's items, one each, whatever happens to the requests."""

    def __init__(
        self, operation: Operation[Item, Value], items: Sequence[Item], numbers: Iterator[int]
    ) -> None:
        """Name the items by `numbers` where they bring no reference of their own."""
        self._operation = operation
        self._outcomes: list[Value | CustodyError | None] = [None] * len(items)
        self._parts: list[Part[Item]] = []
        fresh: dict[str, tuple[int, Item]] = {}
        for place, item in enumerate(items):
            reference = operation.reference(item, next(numbers))
            if reference in fresh:  # one act in the audit log stands for one disclosure
                self._outcomes[place] = KeysError()
            else:
                fresh[reference] = (place, item)
        references = list(fresh)
        for start in range(0, len(references), ITEMS_MAX):
            names = references[start : start + ITEMS_MAX]
            places, these = zip(*(fresh[name] for name in names), strict=True)
            self._parts.append(Part(places, these, names))
        self._parts.reverse()

    def next_part(self) -> Part[Item] | None:
        """Take what is to be sent next; None when all is sent."""
        return self._parts.pop() if self._parts else None

    def halve(self, part: Part[Item]) -> bool:
        """Send it again in two halves; False if it is a single item already."""
        if len(part.items) == 1:
            return False
        first, second = part.halves()
        self._parts += [second, first]
        return True

    def settle(self, part: Part[Item], answer: Answer) -> list[str]:
        """Give each item of `part` its outcome; report the kind of each that failed."""
        results = _by_reference(results_in(answer.data) or (), part.references)
        if results is None:
            self.fail(part, KeysError)
            return [MISMATCH]
        kinds = []
        for place, result in zip(part.places, results, strict=True):
            value = None if result.error else self._operation.value(result)
            if value is None:
                failure, kind = item_failure(result.error)
                self._outcomes[place] = failure()
                kinds.append(kind)
            else:
                self._outcomes[place] = value
        return kinds

    def fail(self, part: Part[Item], failure: type[CustodyError]) -> None:
        for place in part.places:
            self._outcomes[place] = failure()

    def outcomes(self, otherwise: type[CustodyError]) -> list[Value | CustodyError]:
        """Give all outcomes in the order of the items; an error of its own to each without one."""
        return [otherwise() if outcome is None else outcome for outcome in self._outcomes]


def _by_reference(
    results: Sequence[ItemResult], references: Sequence[str]
) -> list[ItemResult] | None:
    found = {result.reference: result for result in results}
    if len(results) != len(references) or found.keys() != set(references):
        return None
    return [found[reference] for reference in references]
