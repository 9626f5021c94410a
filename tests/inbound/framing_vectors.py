"""Requests that two servers may read in two ways, as data, each with a request hidden in it.

What lives here: the bytes, and what may become of them. What never may: a socket.

Every vector carries its own case (`X-Case`, or in the target), and behind or inside it a second
request whose target is `marker_target`: nobody may ever count that one, unless the vector says
that it stands in the open. The sources are RFC 9110, RFC 9112, RFC 9113 (h2c) and what aiohttp,
nginx and HAProxy have taken in the past.
"""

from typing import Final

from tests.inbound.framing_bodies import of_bodies, of_chunks, of_framing
from tests.inbound.framing_heads import of_first_lines, of_headers, of_paths, of_right
from tests.inbound.framing_pen import Made, Pen, Vector

_PARTS: Final = (
    of_framing,
    of_chunks,
    of_first_lines,
    of_headers,
    of_bodies,
    of_paths,
    of_right,
)
_CASE: Final = b"case-%b-%04d-end"


def corpus(hostname: str, *, prefix: str = "/v", run: str = "r") -> dict[str, Vector]:
    """Write every vector for a host and a path prefix; `run` tells cases of several runs apart."""
    blank = _CASE % (run.encode(), 0)  # as long as every other: lengths are counted with it
    pen = Pen(hostname.encode(), prefix.encode(), blank)
    vectors: dict[str, Vector] = {}
    for number, made in enumerate((made for part in _PARTS for made in part(pen)), start=1):
        vector = _vector(blank, _CASE % (run.encode(), number), made)
        assert vector.name not in vectors, vector.name
        vectors[vector.name] = vector
    return vectors


def _vector(blank: bytes, case: bytes, made: Made) -> Vector:
    name, data, verdict = made[:3]
    requests, body = made[3:] if len(made) == 5 else (1, None)
    if body is not None:
        body = body.replace(blank, case)
    return Vector(name, case.decode(), data.replace(blank, case), verdict, requests, body)
