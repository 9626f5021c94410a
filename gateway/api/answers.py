"""JSON answers of our own API."""

from collections.abc import Mapping

import msgspec
from aiohttp import web

_ENCODER = msgspec.json.Encoder()


def json_response(document: Mapping[str, object], *, status: int = 200) -> web.Response:
    """Return `document` as `application/json`."""
    return web.Response(
        status=status,
        body=_ENCODER.encode(document),
        headers={"Content-Type": "application/json"},
    )
