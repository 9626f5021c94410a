"""What a framing vector is made of: its verdict, its pen, and the words that all of them share.

What lives here: types and bytes. What never may: a socket.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Verdict(StrEnum):
    """What may become of a vector on the straight way."""

    PASSED = "passed"
    """Arrives, exactly as many requests as it has, each with its own answer."""
    REFUSED = "refused"
    """One answer of 4xx or 5xx, the connection closed, nothing arrives."""
    BROKEN = "broken"
    """Wrong in its body: at most one answer, none of 2xx; nothing arrives that looks whole."""
    TURNED_AWAY = "turned away"
    """Plain in its framing, and refused: one answer of 4xx or 5xx, and nothing arrives."""
    EITHER = "either"
    """Refused, or passed on as one request that reads in one way only."""


@dataclass(frozen=True)
class Vector:
    """One of them."""

    name: str
    case: str
    data: bytes
    verdict: Verdict
    requests: int = 1
    """How many there are, where they are to be passed on."""
    body: bytes | None = None
    """What must arrive, where it does arrive."""

    @property
    def marker_target(self) -> str:
        return f"/marker/{self.case}"


@dataclass(frozen=True)
class Pen:
    """Writes the vectors of one case."""

    host: bytes
    prefix: bytes
    case: bytes

    @property
    def target(self) -> bytes:
        return self.prefix + b"/" + self.case

    @property
    def own(self) -> bytes:
        """The header lines that every vector has."""
        return b"Host: " + self.host + b"\r\nX-Case: " + self.case + b"\r\n"

    @property
    def marker(self) -> bytes:
        return b"GET /marker/%b HTTP/1.1\r\nHost: %b\r\n\r\n" % (self.case, self.host)

    def head(self, *lines: bytes, method: bytes = b"POST", version: bytes = b"HTTP/1.1") -> bytes:
        """Write a whole head: the kind of body is one that a route with filters reads."""
        kind = b"Content-Type: application/x-www-form-urlencoded" if method == b"POST" else b""
        given = [line for line in (kind, *lines) if line]
        first = method + b" " + self.target + b" " + version + b"\r\n"
        return first + self.own + b"".join(line + b"\r\n" for line in given) + b"\r\n"


Made = tuple[str, bytes, Verdict] | tuple[str, bytes, Verdict, int, bytes | None]

TE: Final = b"Transfer-Encoding: chunked"
BODY: Final = b"a=1"
LENGTH: Final = b"Content-Length: 3"
PASSED, REFUSED, BROKEN, TURNED_AWAY, EITHER = Verdict


def chunked(*pieces: bytes, trailers: bytes = b"") -> bytes:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return chunks + b"0\r\n" + trailers + b"\r\n"
