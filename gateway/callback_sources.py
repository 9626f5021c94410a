"""Whether a caller is a processor's own machine, where its callbacks are not signed.

The name of an address is whatever the holder of that address says. So it counts only if it is
under the processor's domain, and the processor's own name server gives that address for it
(forward-confirmed reverse DNS). Or the caller has shown a client certificate, which the listener
has verified, for such a name.

Anybody can make us ask, and let a name server of his own keep us waiting: so strangers are asked
about in a lane of their own, with threads of its own, one question at a time of an IPv6 network
that one customer has (/64); and who was the processor's before is asked about in another.
What never lives here: how an address is found behind proxies, and which domains there are.
"""

import asyncio
import re
import socket
import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

from aiohttp import web
from cryptography import x509

from gateway.addresses import HTTPS_PORT
from gateway.dialing import Lookup, system_lookup
from gateway.errors import UpstreamUnavailable

ReverseLookup = Callable[[str], Awaitable[Sequence[str]]]
"""Gives the names of an address; raises OSError when there is no telling."""

LOOKUP_SECONDS: Final = 4.0  # all questions about one address, and until it is their turn
OWN_FOR_SECONDS: Final = 300.0
OTHER_FOR_SECONDS: Final = 60.0
AWAY_FOR_SECONDS: Final = 2.0
OWN_MAX: Final = 256
OTHERS_MAX: Final = 1024
NAMES_MAX: Final = 4  # of one address that are looked at
QUESTIONS_MAX: Final = 8  # at the same time, in each lane

_NAME: Final = re.compile(r"(?:(?!-)[a-z0-9-]{1,63}(?<!-)\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]")
_NAME_CHARACTERS_MAX: Final = 253
_NO_SUCH: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
_Address = IPv4Address | IPv6Address
_Key = tuple[_Address | IPv6Network, tuple[str, ...]]


class SystemReverse:
    """Asks the system's resolver for the name of an address, once, in threads of its own.

    It may take many seconds, and cannot be stopped: in the event loop's own threads, the addresses
    of processors could not be looked up meanwhile.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(QUESTIONS_MAX, thread_name_prefix="callback-source")

    async def __call__(self, address: str) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        try:
            name, _ = await loop.run_in_executor(
                self._threads, socket.getnameinfo, (address, 0), socket.NI_NAMEREQD
            )
        except socket.gaierror as error:
            if error.errno not in _NO_SUCH:
                raise
            return ()
        return (name,)


@dataclass(slots=True)
class _Known:
    """What is known, and until when; None: it could not be found out.

    That an address is not the processor's holds for its whole network, that it is for it alone.
    """

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    until: float | None = None
    is_own: bool | None = None
    address: _Address | None = None  # that was asked about


@dataclass(slots=True)
class _Lane:
    """Where some are asked about, however long it takes to ask about others."""

    reverse: ReverseLookup
    questions: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(QUESTIONS_MAX))


class CallbackSources:
    """Tells by DNS whose an address is; what it was told serves for a while."""

    def __init__(
        self,
        monotonic: Callable[[], float],
        *,
        reverse: ReverseLookup | None = None,
        forward: Lookup = system_lookup,
        lookup_seconds: float = LOOKUP_SECONDS,
    ) -> None:
        self._monotonic = monotonic
        self._forward = forward
        self._lookup_seconds = lookup_seconds
        self._own: OrderedDict[_Key, _Known] = OrderedDict()  # addresses that were once
        self._others: OrderedDict[_Key, _Known] = OrderedDict()  # of IPv6: networks
        self._familiar = _Lane(reverse or SystemReverse())
        self._strangers = _Lane(reverse or SystemReverse())

    async def are(self, address: str, suffixes: tuple[str, ...]) -> bool:
        """Whether an address has a confirmed name under one of these, such as `.worldpay.com`.

        Raises UpstreamUnavailable when DNS does not say: the processor posts again.
        """
        parsed = _parsed(address)
        if parsed is None:
            return False
        own = (parsed, suffixes)
        if own in self._own:
            is_own = await self._told(parsed, suffixes, self._own, own, self._familiar)
            if not is_own:
                self._own.pop(own, None)
            return is_own
        is_own = await self._told(
            parsed, suffixes, self._others, (_network(parsed), suffixes), self._strangers
        )
        if is_own:
            self._believe(own)
        return is_own

    def _believe(self, own: tuple[_Address, tuple[str, ...]]) -> None:
        """Know an address from now on."""
        self._others.pop((_network(own[0]), own[1]), None)
        until = self._monotonic() + OWN_FOR_SECONDS
        self._own[own] = _Known(until=until, is_own=True, address=own[0])
        if len(self._own) > OWN_MAX:
            self._own.popitem(last=False)

    async def _told(
        self,
        address: _Address,
        suffixes: tuple[str, ...],
        among: OrderedDict[_Key, _Known],
        key: _Key,
        lane: _Lane,
    ) -> bool:
        """Return what is known, or ask, once for all who wait. Raises UpstreamUnavailable."""
        async with self._entry(among, key) as known, known.lock:
            is_of_another = known.is_own is True and known.address != address
            if known.until is None or self._monotonic() >= known.until or is_of_another:
                await self._ask(address, suffixes, known, lane)
            if known.is_own is None:
                raise UpstreamUnavailable
            return known.is_own

    @asynccontextmanager
    async def _entry(self, among: OrderedDict[_Key, _Known], key: _Key) -> AsyncIterator[_Known]:
        """Hold on to what is known; what nobody waits for may make room for another."""
        known = among.setdefault(key, _Known())
        among.move_to_end(key)
        known.waiting += 1
        try:
            yield known
        finally:
            known.waiting -= 1
            if len(among) > OTHERS_MAX:
                idle = next((one for one, it in among.items() if not it.waiting), None)
                if idle is not None:
                    del among[idle]

    async def _ask(
        self, address: _Address, suffixes: tuple[str, ...], known: _Known, lane: _Lane
    ) -> None:
        known.is_own, known.address, seconds = None, address, AWAY_FOR_SECONDS
        try:
            async with asyncio.timeout(self._lookup_seconds), lane.questions:
                known.is_own = await self._is_own(address, suffixes, lane)
        except (OSError, UnicodeError):  # a timeout is an OSError too
            pass
        else:
            seconds = OWN_FOR_SECONDS if known.is_own else OTHER_FOR_SECONDS
        known.until = self._monotonic() + seconds

    async def _is_own(self, address: _Address, suffixes: tuple[str, ...], lane: _Lane) -> bool:
        names = await lane.reverse(str(address))
        for name in names[:NAMES_MAX]:
            plain = plain_name(name)
            if plain is None or not is_under(plain, suffixes):
                continue
            answers = await self._forward(plain, HTTPS_PORT)
            if address in map(_parsed, answers):
                return True
        return False


def certifies(names: Sequence[str], suffixes: tuple[str, ...]) -> bool:
    """Whether a client certificate that the listener has verified is for a name under these.

    `names` are its subjectAltName's DNS names. A wildcard is none: it names no machine.
    """
    plain = (plain_name(name) for name in names)
    return any(name is not None and is_under(name, suffixes) for name in plain)


def client_certificate(request: web.Request) -> bytes | None:
    """Return the client certificate that the handshake verified, DER."""
    tls: object = request.get_extra_info("ssl_object")
    return tls.getpeercert(binary_form=True) if isinstance(tls, ssl.SSLObject) else None


def names_of(certificate: bytes | None) -> Sequence[str]:
    """Return the DNS names of a client certificate, DER; none of what cannot be read."""
    if certificate is None:
        return ()
    try:
        extensions = x509.load_der_x509_certificate(certificate).extensions
        found = extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return ()
    return found.value.get_values_for_type(x509.DNSName)


def plain_name(text: str) -> str | None:
    """Return a host's name in small letters, without the root's dot; None for any other text."""
    name = text.lower().removesuffix(".")
    is_name = len(name) <= _NAME_CHARACTERS_MAX and _NAME.fullmatch(name)
    return name if is_name else None


def is_under(name: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a name is below a domain; each suffix begins with the dot that makes it one."""
    assert all(each.startswith(".") for each in suffixes), "a suffix that other names end with"
    return name.endswith(suffixes)


def _network(address: _Address) -> _Address | IPv6Network:
    """Return what is one customer's: of IPv6 a /64 (RFC 6177), of IPv4 the address."""
    return (
        address if isinstance(address, IPv4Address) else IPv6Network((int(address) >> 64 << 64, 64))
    )


def _parsed(text: str) -> _Address | None:
    """Read an address; an IPv4 address in IPv6 dress is the IPv4 address (RFC 4291 2.5.5.2)."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    return None if address.scope_id is not None else address.ipv4_mapped or address
