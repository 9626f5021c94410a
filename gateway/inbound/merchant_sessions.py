"""How aiohttp is made to reach a merchant's endpoint: its sessions, and what its failures mean.

What lives here: where a route leads, connections that are checked and used again, and the end of
aiohttp's own repetitions and redirects. What never may: a body, and the text of a foreign
exception (it quotes URLs).
"""

import asyncio
import ssl
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import aiohttp
from aiohttp.client_middlewares import ClientHandlerType

from gateway.addresses import NOTHING_PRIVATE, AddressAllow
from gateway.dialing import CheckedConnector, CheckedResolver
from gateway.errors import (
    MerchantFailed,
    MerchantProtocolError,
    MerchantReplyRefused,
    MerchantTimeout,
    MerchantTlsError,
    MerchantUnreachable,
)
from gateway.inbound.sockets import MerchantSocket

CONNECT_SECONDS: Final = 3.0
KEEPALIVE_SECONDS: Final = 4.0  # Apache httpd and Node close after five
REPLY_LINE_BYTES_MAX: Final = 16_384  # a status line, a header's name, its value
REPLY_HEADERS_MAX: Final = 128

LASTING_SHARE: Final = 0.75
"""Of a route's places, how many may be taken for as long as a client likes (T-08)."""

_SWITCHING: Final = 101
_HANDSHAKE: Final = "sec-websocket-"
_FINAL: Final = range(200, 600)


@dataclass(frozen=True, slots=True, kw_only=True)
class MerchantRoute:
    """One endpoint, and how it is reached and known."""

    name: str
    scheme: Literal["https", "http"]  # http only at an address of `address_allow`
    host: str  # host and port are as gateway.addresses.checked_host returns them
    port: int
    timeout_seconds: float  # until the answer begins, and between two pieces of it
    connect_seconds: float = CONNECT_SECONDS  # waiting for a place is bounded so, too
    address_allow: AddressAllow = NOTHING_PRIVATE
    ca_file: Path | None = None  # instead of the system's authorities
    concurrency: int = 128  # requests and open sockets


class Place:
    """One of a route's places: given back once, whoever is first."""

    def __init__(self, *slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self._held = True

    def release(self) -> None:
        if self._held:
            self._held = False
            for each in self._slots:
                each.release()


class Failed(Exception):
    """What another's exception means, without that exception. It never leaves this module."""

    def __init__(self, kind: type[MerchantFailed]) -> None:
        super().__init__()
        self.kind = kind


@dataclass(slots=True)
class Attempt:
    """What one attempt needs to know of its connection."""

    place: Place | None = None
    protocols: frozenset[str] = frozenset()
    dialed: bool = field(default=False, init=False)


current: ContextVar[Attempt] = ContextVar("current")  # aiohttp's hooks know of no request


def _dialed() -> None:
    current.get().dialed = True


def session_of(
    route: MerchantRoute,
    resolver: CheckedResolver,
    context: ssl.SSLContext | None,
    *,
    reuse: bool,
) -> aiohttp.ClientSession:  # noqa: TID251 - this module dials out
    return aiohttp.ClientSession(  # noqa: TID251
        connector=CheckedConnector(
            resolver,
            context,
            route.address_allow,
            limit=route.concurrency,
            reuse=reuse,
            reply_wire_bytes_max=None,
            dialed=_dialed,
            keepalive_seconds=KEEPALIVE_SECONDS,
            upgrades=not reuse,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        skip_auto_headers=("Accept", "Content-Type", "User-Agent"),
        timeout=aiohttp.ClientTimeout(
            total=None,
            connect=route.connect_seconds,
            sock_connect=route.connect_seconds,
            sock_read=None,  # `Exchange` keeps the time: not while the client is waited for
        ),
        middlewares=(_shake_hands,),
        ws_response_class=MerchantSocket,
        max_line_size=REPLY_LINE_BYTES_MAX,
        max_field_size=REPLY_LINE_BYTES_MAX,
        max_headers=REPLY_HEADERS_MAX,
    )


async def only_once(
    request: aiohttp.ClientRequest, handler: ClientHandlerType
) -> aiohttp.ClientResponse:
    """Hide each failure from aiohttp 3.14, which sends again when a connection breaks."""
    try:
        return await handler(request)
    except Exception as error:  # noqa: BLE001 - all of them, whatever it repeats after
        kind = failure_of(error)
    raise Failed(kind)


async def _shake_hands(
    request: aiohttp.ClientRequest, handler: ClientHandlerType
) -> aiohttp.ClientResponse:
    """Look at the answer to a handshake before aiohttp does: it would follow a redirect."""
    response = await only_once(request, handler)
    attempt = current.get()
    kind = _unfit(response, attempt.protocols)
    if kind is not None:
        response.close()
        raise Failed(kind)
    assert response.connection is not None
    assert attempt.place is not None
    response.connection.add_callback(attempt.place.release)
    return response


def _unfit(
    response: aiohttp.ClientResponse, protocols: frozenset[str]
) -> type[MerchantFailed] | None:
    if response.status != _SWITCHING:
        return MerchantReplyRefused if response.status in _FINAL else MerchantProtocolError
    chosen = {value.strip() for value in response.headers.getall(_HANDSHAKE + "protocol", ())}
    unasked = response.headers.getall(_HANDSHAKE + "extensions", ())
    return MerchantProtocolError if unasked or not chosen <= protocols else None  # RFC 6455 4.1


def is_handshake(name: str) -> bool:
    return name.lower().startswith(_HANDSHAKE) or name.lower() in {"connection", "upgrade"}


def failure_of(error: Exception) -> type[MerchantFailed]:
    if isinstance(error, Failed):
        return error.kind
    if type(error) is TimeoutError:  # ours; the system's own is a broken connection
        return MerchantTimeout
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return MerchantTlsError
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return MerchantUnreachable
    return MerchantProtocolError
