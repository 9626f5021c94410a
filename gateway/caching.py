"""Answers that whoever asked may keep: for how long, and how a kept one is asked for again.

Every other answer of ours is `no-store`, which the listener writes over anything that a handler or
a processor said. What may be kept is said here by a name of its own, so that no header that came
from elsewhere can say it. What never may be kept: anything about a card, even masked.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

from aiohttp import hdrs, web

KEEP: Final = web.ResponseKey("keep", str)
"""The `Cache-Control` of an answer that may be kept; `private`, if it was asked for by key."""

FOREVER: Final = "private, max-age=31536000, immutable"
FOREVER_PUBLIC: Final = "public, max-age=31536000, immutable"
"""For what nobody needs a key for, under a name that changes with every byte of it."""
A_SECOND: Final = "private, max-age=1"
MINUTES: Final = "private, max-age=300"
MINUTES_PUBLIC: Final = "public, max-age=300"


def kept(request: web.Request, body: bytes, content_type: str, keep: str) -> web.Response:
    """Return `body`, to be kept as `keep` says; 304 for who has it already (RFC 9110 13.1.2)."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    if _has(request.headers, tag):
        response = web.Response(status=304)
    else:
        response = web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})
    response.headers[hdrs.ETAG] = tag
    response[KEEP] = keep
    return response


def _has(headers: Mapping[str, str], tag: str) -> bool:
    asked = headers.get(hdrs.IF_NONE_MATCH, "").split(",")
    return any(each.strip().removeprefix("W/") == tag for each in asked)
