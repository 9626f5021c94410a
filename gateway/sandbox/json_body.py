"""A JSON body, looked into by path: `paymentMethod.number`. Pure.

Read here by a library and not with the gateway's own codec: what one of them gets wrong the other
must notice.
"""

from collections.abc import Iterable, Mapping
from typing import Self

import msgspec


class JsonBody:
    """The members of an object."""

    def __init__(self, tree: Mapping[str, object]) -> None:
        self._tree = tree

    @classmethod
    def parse(cls, body: bytes) -> Self | None:
        """None where it is not a readable object."""
        try:
            return cls(msgspec.json.decode(body, type=dict[str, object]))
        except (msgspec.DecodeError, RecursionError):
            return None

    def at(self, path: str) -> object:
        """Return what stands there; null and nothing are the same."""
        found: object = self._tree
        for name in path.split("."):
            if not isinstance(found, dict):
                return None
            found = found.get(name)
        return found

    def text(self, path: str) -> str | None:
        """Return a text that is not empty."""
        found = self.at(path)
        return found or None if isinstance(found, str) else None

    def whole(self, path: str) -> int | None:
        found = self.at(path)
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    def within(self, path: str) -> "JsonBody":
        """Return the object there; an empty one where there is none."""
        found = self.at(path)
        return JsonBody(found if isinstance(found, dict) else {})

    def spelled(self, paths: Iterable[str]) -> tuple[str, ...]:
        """Write out what stands at these paths, whatever it is."""
        found = (self.at(path) for path in paths)
        return tuple(
            each if isinstance(each, str) else msgspec.json.encode(each).decode()
            for each in found
            if each is not None and each != ""
        )

    def canonical(self) -> bytes:
        """The same for the same members, in whatever order and spacing they were sent."""
        return msgspec.json.encode(self._tree, order="sorted")


def written(body: Mapping[str, object]) -> bytes:
    return msgspec.json.encode(body)
