"""What has to stand where, in the words of a preset: selectors and conditions. Pure."""

import msgspec

Selectors = tuple[str, ...]
Scalar = str | int | bool


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"equals": "is"}):
    """What has to stand at a path, or at any of several; null counts as nothing."""

    path: str | tuple[str, ...]
    equals: tuple[Scalar, ...] = ()
    exists: bool | None = None

    @property
    def paths(self) -> Selectors:
        return (self.path,) if isinstance(self.path, str) else self.path
