"""How upstream gets a connection: a name, checked addresses, TLS, and a wire that is kept honest.

What lives here: everything below one HTTP exchange. What never may: requests, replies, retries,
a certificate that is not verified, and an address that `gateway.addresses` has not passed.

Two checks look at addresses, and each holds alone: the resolver refuses a name if *any* of its
answers is forbidden, and the socket factory looks again at what is dialed in fact (aiohttp asks no
resolver about an address literal).
"""

import asyncio
import functools
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader

from gateway.addresses import AddressAllow, forbidden, own_addresses
from vault.errors import StartRefused

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]

LOOKUP_SECONDS: Final = 2.0  # of the three that connecting may take
FRESH_SECONDS: Final = 60.0  # how long an answer serves without another question
LAST_GOOD_SECONDS: Final = 600.0  # how long it serves while questions fail
ASK_AGAIN_SECONDS: Final = 1.0  # how long after a failure nobody asks
KEEPALIVE_SECONDS: Final = 15.0  # below any processor's own, so that we close first
HAPPY_EYEBALLS_SECONDS: Final = 0.25  # RFC 8305 8
INTERIM_REPLIES_MAX: Final = 10  # 1xx: nobody sends more in earnest
SWITCHING_PROTOCOLS: Final = 101  # is final (RFC 9110 15.2.2), and never asked for
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2; all of 1.3's are AEAD


class AddressDenied(OSError):
    """An address of this host must not be dialed."""


class LookupFailed(OSError):
    """The name has no address now."""


async def system_lookup(host: str, port: int) -> Sequence[str]:
    """Ask the system's resolver, once."""
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in infos]


class CheckedResolver(AbstractResolver):
    """The addresses of one host: asked for once, each checked, the last good ones kept."""

    def __init__(
        self, host: str, allow: AddressAllow, *, lookup: Lookup, clock: Callable[[], float]
    ) -> None:
        self._host = host
        self._allow = allow
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
            if any(forbidden(answer, self._allow) for answer in answers):
                raise AddressDenied  # and what was good before is not used: somebody is at it
            if answers:
                self._known = _first_two(answers)
                self._fresh_until, self._good_until = now + FRESH_SECONDS, now + LAST_GOOD_SECONDS
            else:
                self._fresh_until = now + ASK_AGAIN_SECONDS
        if not self._known or now >= self._good_until:
            raise LookupFailed
        return self._known

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


def tls_context(
    *,
    ca_file: Path | None,
    crl_file: Path | None,
    client_certificate: tuple[Path, Path] | None,
) -> ssl.SSLContext:
    """Build the only kind of context there is: verified by chain, name and date, TLS 1.2 or newer.

    `ca_file` replaces the system's authorities; `crl_file` refuses what is on it, and everything
    once it is out of date; `client_certificate` is a chain and its key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks names and demands certificates
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        if ca_file is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(ca_file)
        if crl_file is not None:
            context.load_verify_locations(crl_file)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        if client_certificate is not None:
            chain, key = client_certificate
            context.load_cert_chain(chain, key, password="")  # refused, never prompted for
    except OSError:  # ssl's errors are OSErrors
        refused = True
    else:
        refused = False
    if refused:
        raise StartRefused("an upstream's ca_file, crl_file or client certificate cannot be loaded")
    return context


class _Wire(ResponseHandler):
    """One connection that takes one reply a request, and hangs up on what it did not ask for.

    aiohttp would queue a stray reply and hand it to the next request, and from then on each
    request would get the answer of the one before.
    """

    _asked = False
    _interim_replies = 0

    def close(self) -> None:
        """Hang up at once: a polite goodbye waits half a minute for a peer who does not answer."""
        self.abort()

    def set_response_params(self, **params: object) -> None:
        """Begin an exchange: aiohttp calls this just before it sends."""
        super().set_response_params(**params)  # type: ignore[arg-type]  # its own, as given
        self._asked = True
        self._interim_replies = 0

    def data_received(self, data: bytes) -> None:
        if data and not self._asked and (self._payload is None or self._payload.is_eof()):
            self.abort()
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
                self._asked = False
                self.abort()
                self.set_exception(HttpProcessingError(message="too many interim replies"))


class CheckedConnector(aiohttp.TCPConnector):
    """Connections to one host whose addresses are looked at again when they are dialed."""

    def __init__(
        self,
        resolver: AbstractResolver,
        context: ssl.SSLContext,
        allow: AddressAllow,
        *,
        limit: int,
        reuse: bool,
        dialed: Callable[[], None],
    ) -> None:
        """`dialed` is called in the sender's context when TCP is there and TLS is not yet."""

        def wire() -> ResponseHandler:
            dialed()
            return _Wire(self._loop)

        super().__init__(
            resolver=resolver,
            use_dns_cache=False,  # the resolver's own can tell stale from forbidden
            ssl=context,
            limit=limit,
            limit_per_host=limit,
            force_close=not reuse,
            keepalive_timeout=KEEPALIVE_SECONDS if reuse else None,
            happy_eyeballs_delay=HAPPY_EYEBALLS_SECONDS,
            socket_factory=functools.partial(_checked_socket, allow),
        )
        self._factory = functools.partial(wire)


def _checked_socket(allow: AddressAllow, info: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, address = info
    if forbidden(str(address[0]), allow) is not None:
        raise AddressDenied
    return socket.socket(family, kind, protocol)
