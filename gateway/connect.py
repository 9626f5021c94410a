"""The CONNECT listener: a merchant's SDK with our address as its proxy, and our certificates.

1. A head of at most 16 KiB, in time: `CONNECT host:port` and nothing behind it (connect_head).
2. The caller's key, from `Proxy-Authorization`, which goes no further: else 407.
3. The place must be one of a route for which the key has the scope: else 403, before any TLS.
4. A certificate for the host, from HashiCorp Vault or from memory: else 503.
5. `200`, then TLS with that certificate. From here on it is HTTP as on any listener: the same
   gate, limits and log.
6. Each request inside must name that host, in SNI and in `Host`: else 421. Who calls is asked
   afresh each time, by `in_tunnel`: a key that was revoked ends with its next request.

What never may live here: what a request means.
"""

import asyncio
import functools
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from gateway.addresses import Host
from gateway.connect_entrance import Entrance
from gateway.connect_head import METHOD, ConnectHead, parse_head
from gateway.connections import Door, Limits, Seat, listen
from gateway.errors import (
    BodyTooSlow,
    Malformed,
    MethodNotAllowed,
    NotAuthenticated,
    NotPermitted,
    VersionRefused,
)
from gateway.lanes import Lane
from gateway.leaf_certificates import LeafCertificates, check_memory_files
from gateway.merchants import Caller, Merchants
from gateway.metrics import Metrics
from gateway.middleware import Denied, Net, new_request_id, nobody
from gateway.problems import Fault, describe
from gateway.request_event import EventLog, Incident, RequestEvent, type_name
from gateway.tunnel import Insides, Tunnel, TunnelCalls, TunnelGate, open_insides
from vault.api_keys import parse_api_key
from vault.errors import KeysMisconfigured, StartRefused

NAME: Final = "connect"
ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
ADVICE_SECONDS: Final = 60.0
SETTLE_SECONDS: Final = 2.0
DISTRUST: Final = (
    "most likely the client does not trust our certificate authority: `panward ca` prints it and"
    " how each SDK is told"
)
NO_AUTHORITY: Final = (
    "listeners.connect: this HashiCorp Vault issues no certificates (engines pki-root and pki,"
    " role gateway, the right to pki/sign/gateway for the reveal login). An embedded deployment"
    " gets them at its first start only: begin with a new folder"
)
_SERVER_ERRORS: Final = 500


@dataclass(frozen=True, slots=True)
class ConnectSettings:
    """Where to listen, and with what; `context` is TLS towards the proxy itself (https://)."""

    address: tuple[str, int]
    context: ssl.SSLContext | None
    limits: Limits


class Tunnels:
    """Turns connections into tunnels."""

    def __init__(  # noqa: PLR0913 - the parts of one wiring
        self,
        places: Mapping[Host, Lane],
        *,
        leaves: LeafCertificates,
        merchants: Merchants,
        insides: Insides,
        limits: Limits,
        log: EventLog,
        metrics: Metrics,
        denied: Denied,
    ) -> None:
        self._denied = denied
        self.limits = limits
        self._places = places
        self._leaves = leaves
        self._merchants = merchants
        self._insides = insides
        self._metrics = metrics
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._entrances: set[Entrance] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._advised_at: dict[str, float] = {}

    def entered(self, entrance: Entrance) -> None:
        self._entrances.add(entrance)

    def left(self, entrance: Entrance) -> None:
        self._entrances.discard(entrance)

    async def settle(self) -> None:
        """Let tunnels that are being opened come to be, and turn all others away."""
        if self._opening:
            await asyncio.wait(self._opening, timeout=SETTLE_SECONDS)
        for task in self._opening:
            task.cancel()
        if self._opening:
            await asyncio.wait(self._opening)
        for entrance in list(self._entrances):
            entrance.abort()

    def read(self, entrance: Entrance, head: bytes | None) -> None:
        """Take over from an entrance: None for a head that did not come in time."""
        task = self._loop.create_task(self._open(entrance, head))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, entrance: Entrance, head: bytes | None) -> None:
        event = RequestEvent(NAME, new_request_id(os.urandom(16)), route=METHOD)
        begun = perf_counter()
        try:
            tunnel = await self._admitted(head, event)
            context = await self._leaves.context_for(tunnel.place.name)
            entrance.refuse_surplus()
        except Exception as error:  # noqa: BLE001 - the one net of what is no HTTP request yet
            address = entrance.address
            entrance.refuse(self._refusal(error, event))
            self._end(event, begun)
            self._denied(event, address)
            return
        event.status = 200
        self._end(event, begun)
        if entrance.is_over:  # the client did not wait for the answer
            return
        transport = entrance.hand_over()
        transport.write(ESTABLISHED)
        await self._secure(transport, context, tunnel, entrance.seat)

    async def _admitted(self, head: bytes | None, event: RequestEvent) -> Tunnel:
        """Say for what the tunnel may be opened; raises why it may not."""
        if head is None:
            raise BodyTooSlow
        if not head:
            raise Malformed("framing")
        asked = parse_head(head)
        event.method = METHOD
        caller, key = await self._authenticated(asked)
        event.tenant, event.key = caller.tenant, caller.key
        lane = self._places.get(asked.place)
        if lane is None:
            raise NotPermitted
        caller.require_route(lane.name)
        return Tunnel(asked.place, lane, key)

    async def _authenticated(self, head: ConnectHead) -> tuple[Caller, str]:
        """The caller, whose key must be the one text that looks like a key."""
        keys = [text for text in head.presented if parse_api_key(text) is not None]
        if len(keys) != 1:
            raise NotAuthenticated
        return await self._merchants.authenticate(keys[0]), keys[0]

    async def _secure(
        self, transport: asyncio.Transport, context: ssl.SSLContext, tunnel: Tunnel, seat: Seat
    ) -> None:
        handler = self._insides.handler(seat, tunnel)
        secured = None
        try:
            # No StreamWriter is involved, which would close the connection when it is collected:
            # TLS holds the transport, and the transport below holds TLS.
            secured = await self._loop.start_tls(
                transport,
                handler,
                context,
                server_side=True,
                ssl_handshake_timeout=self.limits.handshake_seconds,
                ssl_shutdown_timeout=self.limits.write_seconds,
            )
        except OSError as error:  # no TLS, bad TLS, too slow, gone, or no trust in us
            self._not_secured(tunnel.lane.name, error)
        finally:
            if secured is None:
                transport.abort()
                seat.leave()
        if secured is not None and not handler.is_gone:
            handler.connection_made(secured)

    def _not_secured(self, route: str, error: OSError) -> None:
        """Count it, and say once a minute a route what it mostly means."""
        self._metrics.connection_shed("handshake")
        at = self._loop.time()
        if at - self._advised_at.get(route, -ADVICE_SECONDS) >= ADVICE_SECONDS:
            self._advised_at[route] = at
            self._log.incident(
                Incident(
                    "tls_refused_in_tunnel",
                    listener=NAME,
                    where=f"route {route}: {DISTRUST}",
                    error=type_name(error),
                )
            )

    def _refusal(self, error: Exception, event: RequestEvent) -> bytes:
        described = describe(error)
        event.code = described.code
        if not described.foreseen:
            event.error = type_name(error)
        if isinstance(error, NotAuthenticated):
            self._metrics.auth_failure("key")
        if isinstance(error, Malformed):
            self._metrics.protocol_error(error.reason or "")
        event.status, more = _answer(error, described.row.status)
        return (
            f"HTTP/1.1 {event.status} {described.row.title}\r\n{more}Content-Length: 0\r\n"
            f"Panward-Request-Id: {event.request_id}\r\nConnection: close\r\n\r\n"
        ).encode("ascii")

    def _end(self, event: RequestEvent, begun: float) -> None:
        seconds = perf_counter() - begun
        event.ms = round(seconds * 1000, 2)
        if event.status >= 400:  # noqa: PLR2004 - what HTTP calls an error
            ours = event.status >= _SERVER_ERRORS and event.code != VersionRefused.code
            event.fault = Fault.OURS if ours else Fault.CLIENT
        self._metrics.http_request(NAME, METHOD, event.status, seconds, event.fault)
        self._log.request(event)


def _answer(error: Exception, status: int) -> tuple[int, str]:
    """Give the status and the headers by which a proxy's client understands a refusal."""
    match error:
        case NotAuthenticated():  # RFC 9110 15.5.8: a proxy's own 401
            return 407, 'Proxy-Authenticate: Basic realm="panward"\r\n'
        case MethodNotAllowed():
            return status, f"Allow: {METHOD}\r\n"
        case _ if status == 503:  # noqa: PLR2004 - the one that passes
            return status, "Retry-After: 2\r\n"
        case _:
            return status, ""


# --- the listener---------------------------------------------------------------------------


class ConnectListener:
    """A running CONNECT listener: its port, and its end."""

    def __init__(self, door: Door, tunnels: Tunnels, insides: Insides, port: int) -> None:
        self.port = port
        self._door = door
        self._tunnels = tunnels
        self._insides = insides
        self._accepts = True

    def stop_accepting(self) -> None:
        """Let no new connection in; tunnels that are open go on."""
        if self._accepts:
            self._accepts = False
            self._door.close()

    async def close(self) -> None:
        """Let requests under way end, at most `shutdown_seconds`, then close all."""
        self.stop_accepting()
        await self._door.settle()
        await self._tunnels.settle()
        await self._insides.close()


async def start_connect(  # noqa: PLR0913 - the parts of one wiring
    settings: ConnectSettings,
    places: Mapping[Host, Lane],
    *,
    leaves: LeafCertificates,
    merchants: Merchants,
    calls: TunnelCalls,
    log: EventLog,
    metrics: Metrics,
    chance: Callable[[], float],
    denied: Denied = nobody,
) -> ConnectListener:
    """Serve tunnels to `places`, each of which is one route's.

    Raises StartRefused; any KeysError but KeysMisconfigured when HashiCorp Vault is away.
    """
    check_memory_files()
    await _find_authority(leaves)
    gate = TunnelGate(hosts=frozenset(), proxied=("/",))
    net = Net(NAME, gate, log=log, metrics=metrics, chance=chance, denied=denied)
    metrics.declare_templates([METHOD])
    listening = listen(settings.address)
    try:
        insides = await open_insides(calls, leaves.asked, net, settings.limits)
    except BaseException:
        listening.close()
        raise
    tunnels = Tunnels(
        places,
        leaves=leaves,
        merchants=merchants,
        insides=insides,
        limits=settings.limits,
        log=log,
        metrics=metrics,
        denied=denied,
    )
    welcome = functools.partial(Entrance, tunnels)
    door = Door(listening, welcome, settings.context, settings.limits, metrics)
    door.open()
    port: int = listening.getsockname()[1]
    return ConnectListener(door, tunnels, insides, port)


async def _find_authority(leaves: LeafCertificates) -> None:
    try:
        await leaves.start()
    except KeysMisconfigured:
        pass
    else:
        return
    raise StartRefused(NO_AUTHORITY)
