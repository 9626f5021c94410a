"""The parameters of one call: a form body with bracketed keys, read. Pure.

Read here with the standard library and not with the gateway's own codec: what one of them gets
wrong the other must notice.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl

from gateway.sandbox.refusals import invalid, malformed, missing

FORM: Final = "application/x-www-form-urlencoded"
FIELDS_MAX: Final = 500
AMOUNT_MAX: Final = 99_999_999


class Params:
    """Fields by their decoded key. The last of a repeated key counts."""

    def __init__(self, pairs: Sequence[tuple[str, str]] = ()) -> None:
        self._pairs = tuple(pairs)
        self._by_key = dict(pairs)

    @classmethod
    def parse(cls, form: bytes) -> "Params":
        try:
            text = form.decode("utf-8")
            pairs = parse_qsl(
                text, keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX
            )
        except ValueError:  # its text would quote the body
            pairs = None
        if pairs is None:
            raise malformed("The request body is not a readable form.")
        return cls(pairs)

    def text(self, key: str) -> str | None:
        """Return the value; an empty one is an absent one, as at the real API."""
        return self._by_key.get(key) or None

    def required(self, key: str) -> str:
        text = self.text(key)
        if text is None:
            raise missing(key)
        return text

    def amount(self, key: str) -> int | None:
        """Whole minor units."""
        text = self.text(key)
        if text is None:
            return None
        if not (text.isascii() and text.isdecimal() and len(text) <= len(str(AMOUNT_MAX))):
            raise invalid(key, "Invalid integer.")
        amount = int(text)
        if not 1 <= amount <= AMOUNT_MAX:
            raise invalid(key, "This amount is out of range.")
        return amount

    def flag(self, key: str, *, unless_given: bool = False) -> bool:
        match self.text(key):
            case None:
                return unless_given
            case "true":
                return True
            case "false":
                return False
            case _:
                raise invalid(key, "Invalid boolean.")

    def under(self, parent: str) -> dict[str, str]:
        """Collect the direct members of `parent`, by their own name: `metadata[a]` is `a`."""
        opening = f"{parent}["
        return {
            key[len(opening) : -1]: value
            for key, value in self._pairs
            if key.startswith(opening) and key.endswith("]") and "[" not in key[len(opening) :]
        }

    def listed(self, parent: str) -> frozenset[str]:
        """Collect the members of a list, whether its keys are numbered or empty."""
        return frozenset(self.under(parent).values())

    def ending(self, name: str) -> Mapping[str, str]:
        """Collect each field, wherever it stands, whose last part is `name`."""
        return {
            key: value
            for key, value in self._pairs
            if value and (key == name or key.endswith(f"[{name}]"))
        }

    def in_order(self) -> Iterator[tuple[str, str]]:
        """Iterate in an order that is not the sender's: the same fields are the same call."""
        return iter(sorted(self._pairs))
