"""`/v1/edge-keys`: the keys that browsers and apps seal cards to.

PCI scope of this call: none; what is sealed to these keys is card data until it is opened here.
"""

import base64
from collections.abc import Mapping
from typing import Protocol

import msgspec
from aiohttp import hdrs, web

from gateway.api.paging import check_parameters
from gateway.caching import MINUTES, MINUTES_PUBLIC, kept
from gateway.cross_origin import CrossOrigin
from gateway.errors import EdgeKeysUnavailable
from gateway.visits import Visits
from vault.edge_keys import EdgeKey, time_text


class PublishedKeys(Protocol):
    """Who knows the keys."""

    def published(self) -> tuple[EdgeKey, ...]: ...

    def signing_keys(self) -> Mapping[int, bytes]: ...


class EdgeKeyHandlers:
    """Handlers of `/v1/edge-keys`."""

    def __init__(
        self, keys: PublishedKeys, visits: Visits, cross: CrossOrigin, *, origin: str
    ) -> None:
        """`origin` is the ledger's: the deployment's own name, which each signature covers."""
        self._keys = keys
        self._visits = visits
        self._cross = cross
        self._origin = origin

    async def get(self, request: web.Request) -> web.Response:
        """`GET /v1/edge-keys` → the keys, newest first, each signed; with a key, the tenant too.

        It may be kept for five minutes: a key is in use for a day after its successor is there.
        """
        check_parameters(request, set())
        tenant = None
        if hdrs.AUTHORIZATION in request.headers:
            tenant = (await self._visits.authenticate(request)).caller.tenant
        else:
            await self._cross.page_of(request)
        keys = self._keys.published()
        if not keys:
            raise EdgeKeysUnavailable
        response = kept(
            request,
            self._document(keys, tenant),
            "application/json",
            MINUTES_PUBLIC if tenant is None else MINUTES,
        )
        response.headers.add(hdrs.VARY, hdrs.AUTHORIZATION)
        return response

    def _document(self, keys: tuple[EdgeKey, ...], tenant: str | None) -> bytes:
        signing = self._keys.signing_keys()
        document: dict[str, object] = {} if tenant is None else {"tenant": tenant}
        return msgspec.json.encode(
            document
            | {
                "origin": self._origin,
                "keys": [_key(key) for key in keys],
                "signing_keys": [
                    {"version": version, "public_key": _base64(signing[version])}
                    for version in sorted(signing, reverse=True)
                ],
            }
        )


def _key(key: EdgeKey) -> dict[str, object]:
    return {
        "kid": key.kid,
        "public_key": _base64(key.public_key),
        "not_before": time_text(key.not_before),
        "not_after": time_text(key.not_after),
        "signature": _base64(key.signature),
        "signed_by": key.signed_by,
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
