"""How upstream gets a connection: a name, checked addresses, and a wire that is kept honest.

What lives here: everything below one HTTP exchange, but TLS itself. What never may: requests,
replies, retries, and an address that `gateway.addresses` has not passed.

Two checks look at addresses, and each holds alone: the resolver refuses a name if *any* of its
answers is forbidden, and the socket factory looks again at what is dialed in fact (aiohttp asks no
resolver about an address literal).
"""

import asyncio
import functools
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader
from aiohttp.tracing import Trace

from gateway.addresses import AddressAllow, Host, forbidden, own_addresses
from gateway.upstream_proxy import Tunnel, open_tunnel

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]

LOOKUP_SECONDS: Final = 2.0  # of the three that connecting may take
FRESH_SECONDS: Final = 60.0  # how long an answer serves without another question
LAST_GOOD_SECONDS: Final = 600.0  # how long it serves while questions fail
ASK_AGAIN_SECONDS: Final = 1.0  # how long after a failure nobody asks
KEEPALIVE_SECONDS: Final = 15.0  # below any processor's own, so that we close first
HAPPY_EYEBALLS_SECONDS: Final = 0.25  # RFC 8305 8
GOODBYE_SECONDS: Final = 2.0  # for what a WebSocket says last
INTERIM_REPLIES_MAX: Final = 10  # 1xx: nobody sends more in earnest
HEAD_WIRE_BYTES_MAX: Final = 1_048_576  # up to a reply's head, where its body has no limit
SWITCHING_PROTOCOLS: Final = 101  # is final (RFC 9110 15.2.2), and never asked for


class AddressDenied(OSError):
    """An address of this host must not be dialed."""


class LookupFailed(OSError):
    """The name has no address now."""


def _is_denied(address: str, allow: AddressAllow, *, listed_only: bool) -> bool:
    """Whether this is not dialed; without TLS nothing but the address tells who answers there."""
    if forbidden(address, allow) is not None:
        return True
    return listed_only and not allow.permits(ip_address(address))


async def system_lookup(host: str, port: int) -> Sequence[str]:
    """Ask the system's resolver, once."""
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in infos]


class CheckedResolver(AbstractResolver):
    """The addresses of one host: asked for once, each checked, the last good ones kept."""

    def __init__(
        self,
        host: str,
        allow: AddressAllow,
        *,
        lookup: Lookup,
        clock: Callable[[], float],
        listed_only: bool = False,
    ) -> None:
        """`listed_only`: every answer has to be in `allow`; a public one will not do."""
        self._host = host
        self._allow = allow
        self._listed_only = listed_only
        self._lookup = lookup
        self._clock = clock
        self._one_question = asyncio.Lock()
        self._known: tuple[str, ...] = ()
        self._fresh_until = self._good_until = clock()

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - both, always
    ) -> list[ResolveResult]:
        if host != self._host:  # pinned: whatever made aiohttp ask for another, it gets none
            raise AddressDenied
        async with self._one_question:
            addresses = await self._addresses(port)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Hold nothing open."""

    async def _addresses(self, port: int) -> tuple[str, ...]:
        now = self._clock()
        if now >= self._fresh_until:
            answers = await self._ask(port)
            if any(self._is_denied(answer) for answer in answers):
                raise AddressDenied  # and what was good before is not used: somebody is at it
            if answers:
                self._known = _first_two(answers)
                self._fresh_until, self._good_until = now + FRESH_SECONDS, now + LAST_GOOD_SECONDS
            else:
                self._fresh_until = now + ASK_AGAIN_SECONDS
        if not self._known or now >= self._good_until:
            raise LookupFailed
        return self._known

    def _is_denied(self, address: str) -> bool:
        return _is_denied(address, self._allow, listed_only=self._listed_only)

    async def _ask(self, port: int) -> Sequence[str]:
        if self._host == "localhost":
            return own_addresses(self._allow)
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                return await self._lookup(self._host, port)
        except OSError:  # a timeout is one too
            return ()


def _first_two(addresses: Sequence[str]) -> tuple[str, ...]:
    """One, and one to try if it fails: of the other family, if there is one."""
    first, *rest = dict.fromkeys(addresses)
    rest.sort(key=lambda address: (":" in address) == (":" in first))
    return (first, *rest[:1])


class _Wire(ResponseHandler):
    """One connection that takes one reply a request, and hangs up on what it did not ask for.

    aiohttp would queue a stray reply and hand it to the next request, and from then on each
    request would get the answer of the one before.
    """

    _asked = False
    _interim_replies = 0
    _bytes_left = 0

    def __init__(
        self, loop: asyncio.AbstractEventLoop, reply_wire_bytes_max: int | None, *, upgrades: bool
    ) -> None:
        super().__init__(loop)
        self._bounds_bodies = reply_wire_bytes_max is not None
        self._reply_wire_bytes_max = reply_wire_bytes_max or HEAD_WIRE_BYTES_MAX
        self._upgrades = upgrades

    def close(self) -> None:
        """Hang up at once: a polite goodbye waits half a minute for a peer who does not answer."""
        transport = self.transport
        if self._upgrades and self.upgraded and transport is not None:
            super().close()  # a WebSocket's last frame says why it ends: it still goes out
            self._loop.call_later(GOODBYE_SECONDS, transport.abort)
            return
        self.abort()

    def set_response_params(self, **params: object) -> None:
        """Begin an exchange: aiohttp calls this just before it sends."""
        super().set_response_params(**params)  # type: ignore[arg-type]  # its own, as given
        self._asked = True
        self._interim_replies = 0
        self._bytes_left = self._reply_wire_bytes_max

    def data_received(self, data: bytes) -> None:
        if self._upgrades and self.upgraded:  # frames of a WebSocket, which has limits of its own
            super().data_received(data)
            return
        if data and not self._asked and (self._payload is None or self._payload.is_eof()):
            self.abort()
            return
        self._bytes_left -= len(data)
        if self._bytes_left < 0 and (self._asked or self._bounds_bodies):
            # the parser skips blank lines and the like without end
            self._refuse("too many bytes for one reply")
            return
        super().data_received(data)
        broken, payload = self.exception(), self._payload
        if broken is not None and payload is not None and payload.exception() is None:
            payload.set_exception(broken)  # else a bad chunk is noticed at the deadline only

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Take the head of a reply."""
        status = data[0].code
        if not self._asked:  # one too many, behind another in the same bytes
            if self.transport is not None:  # else the reason why it was hung up would be lost
                self.abort()
        elif status >= 200 or status == SWITCHING_PROTOCOLS:  # noqa: PLR2004 - final
            self._asked = False
            super().feed_data(data, size)
        else:
            self._interim_replies += 1
            if self._interim_replies > INTERIM_REPLIES_MAX:
                self._refuse("too many interim replies")

    def _refuse(self, message: str) -> None:
        """Hang up, and let the reader of the reply know why."""
        self._asked = False
        payload, broken = self._payload, HttpProcessingError(message=message)
        self.abort()
        self.set_exception(broken)
        if payload is not None and not payload.is_eof() and payload.exception() is None:
            payload.set_exception(broken)


class CheckedConnector(aiohttp.TCPConnector):
    """Connections to one host whose addresses are looked at again when they are dialed."""

    def __init__(  # noqa: PLR0913 - the parts of one wiring
        self,
        resolver: AbstractResolver,
        context: ssl.SSLContext | None,
        allow: AddressAllow,
        *,
        limit: int,
        reuse: bool,
        reply_wire_bytes_max: int | None,
        dialed: Callable[[], None],
        tunnel: Tunnel | None = None,
        keepalive_seconds: float | None = None,
        upgrades: bool = False,
    ) -> None:
        """`dialed` is called in the sender's context when TCP is there and TLS is not yet.

        With a `tunnel`, the resolver and the addresses are its proxy's. Without a `context` only
        plain HTTP is spoken, and only to an address that `allow` lists. With `upgrades` a
        connection may become a WebSocket. `keepalive_seconds`: instead of KEEPALIVE_SECONDS.
        """

        def wire() -> ResponseHandler:
            dialed()
            return _Wire(self._loop, reply_wire_bytes_max, upgrades=upgrades)

        self._tunnel = tunnel
        self._context = context
        self._checked_socket = functools.partial(
            _checked_socket, allow, listed_only=context is None
        )
        super().__init__(
            resolver=resolver,
            use_dns_cache=False,  # the resolver's own can tell stale from forbidden
            ssl=True if context is None else context,
            limit=limit,
            limit_per_host=limit,
            force_close=not reuse,
            keepalive_timeout=(keepalive_seconds or KEEPALIVE_SECONDS) if reuse else None,
            happy_eyeballs_delay=HAPPY_EYEBALLS_SECONDS,
            socket_factory=self._checked_socket,
        )
        self._factory = functools.partial(wire)

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own
    ) -> ResponseHandler:
        """Dial, through the route's proxy where there is one: aiohttp itself knows of none."""
        tunnel = self._tunnel
        if tunnel is None:
            return await super()._create_connection(req, traces, timeout)
        infos = await self._addresses_of(tunnel.proxy, traces)
        assert timeout.sock_connect is not None, "a route bounds its connecting"
        sock = await open_tunnel(tunnel, infos, self._checked_socket, timeout.sock_connect)
        _, wire = await self._loop.create_connection(
            self._factory, ssl=self._context, sock=sock, server_hostname=tunnel.target.name
        )
        return wire

    async def _addresses_of(self, proxy: Host, traces: list[Trace]) -> list[aiohttp.AddrInfoType]:
        for trace in traces:
            await trace.send_dns_resolvehost_start(proxy.name)
        found = await self._resolver.resolve(proxy.name, proxy.port)
        for trace in traces:
            await trace.send_dns_resolvehost_end(proxy.name)
        return self._convert_hosts_to_addr_infos(found)


def _checked_socket(
    allow: AddressAllow, info: aiohttp.AddrInfoType, *, listed_only: bool
) -> socket.socket:
    family, kind, protocol, _, address = info
    if _is_denied(str(address[0]), allow, listed_only=listed_only):
        raise AddressDenied
    return socket.socket(family, kind, protocol)
