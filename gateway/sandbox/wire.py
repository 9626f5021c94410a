"""What every simulated processor is to the edge of the simulation: calls in, answers out. Pure.

One port serves them all, and each knows its own paths. What never lives here: how one of them
decides about a payment.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, repr=False)
class WireCall:
    """One call as it came; headers by their lower-case names."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class WireAnswer:
    """What goes back. `executed` says whether a repeat under the same key gets the same."""

    status: int
    body: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()
    executed: bool = True


@dataclass(frozen=True, slots=True, repr=False)
class SandboxCredential:
    """How one account proves itself, in whatever form its processor asks for it."""

    api_key: str  # a Bearer or header key; with `user` the password of Basic, or a transaction key
    user: str  # a public key, a login name, a key's id
    secret: str  # base64: what signs


class Simulated(Protocol):
    """One simulated processor."""

    name: str

    def takes(self, path: str) -> bool: ...

    def numbers_in(self, call: WireCall) -> tuple[str, ...]:
        """The values of its number fields, whatever they are."""
        ...

    def idempotency_key(self, call: WireCall) -> str | None:
        """None where a call carries none, or the processor honors none."""
        ...

    def account_of(self, call: WireCall) -> str | None:
        """Whose credential it carries; None: nobody's."""
        ...

    def answered(self, call: WireCall) -> WireAnswer:
        """Carry the call out, or refuse it, in this processor's own shape."""
        ...

    def failure(self, status: int) -> WireAnswer:
        """A failure that was asked for, in this processor's own shape."""
        ...
