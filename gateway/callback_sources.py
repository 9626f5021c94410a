"""Whether a caller is a processor's own machine, where its callbacks are not signed.

The name of an address is whatever the holder of that address says. So it counts only if it is
under the processor's domain, and the processor's own name server gives that address for it
(forward-confirmed reverse DNS). Or the caller has shown a client certificate, which the listener
has verified, for such a name. What never lives here: how an address is found behind proxies, and
which domains there are.
"""

import asyncio
import re
import socket
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from gateway.addresses import HTTPS_PORT
from gateway.dialing import Lookup, system_lookup
from gateway.errors import UpstreamUnavailable

ReverseLookup = Callable[[str], Awaitable[Sequence[str]]]
"""Gives the names of an address; raises OSError when there is no telling."""

LOOKUP_SECONDS: Final = 2.0  # each of the two questions
OWN_FOR_SECONDS: Final = 300.0
OTHER_FOR_SECONDS: Final = 60.0
AWAY_FOR_SECONDS: Final = 2.0
ADDRESSES_MAX: Final = 1024
NAMES_MAX: Final = 4  # of one address that are looked at
QUESTIONS_MAX: Final = 8  # at the same time: anybody can make us ask

_NAME: Final = re.compile(r"(?:(?!-)[a-z0-9-]{1,63}(?<!-)\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]")
_NAME_CHARACTERS_MAX: Final = 253
_NO_SUCH: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
_Address = IPv4Address | IPv6Address
_Key = tuple[_Address, tuple[str, ...]]


async def system_reverse_lookup(address: str) -> Sequence[str]:
    """Ask the system's resolver for the name of an address, once."""
    loop = asyncio.get_running_loop()
    try:
        name, _ = await loop.getnameinfo((address, 0), socket.NI_NAMEREQD)
    except socket.gaierror as error:
        if error.errno not in _NO_SUCH:
            raise
        return ()
    return (name,)


@dataclass(slots=True)
class _Known:
    """What is known of one address, and until when; None: it could not be found out."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    until: float | None = None
    is_own: bool | None = None


class CallbackSources:
    """Tells by DNS whose an address is; what it was told serves for a while."""

    def __init__(
        self,
        monotonic: Callable[[], float],
        *,
        reverse: ReverseLookup = system_reverse_lookup,
        forward: Lookup = system_lookup,
        lookup_seconds: float = LOOKUP_SECONDS,
    ) -> None:
        self._monotonic = monotonic
        self._reverse = reverse
        self._forward = forward
        self._lookup_seconds = lookup_seconds
        self._known: OrderedDict[_Key, _Known] = OrderedDict()
        self._questions = asyncio.Semaphore(QUESTIONS_MAX)

    async def are(self, address: str, suffixes: tuple[str, ...]) -> bool:
        """Whether an address has a confirmed name under one of these, such as `.worldpay.com`.

        Raises UpstreamUnavailable when DNS does not say: the processor posts again.
        """
        parsed = _parsed(address)
        if parsed is None:
            return False
        async with self._entry((parsed, suffixes)) as known, known.lock:
            if known.until is None or self._monotonic() >= known.until:
                await self._ask(parsed, suffixes, known)
            if known.is_own is None:
                raise UpstreamUnavailable
            return known.is_own

    @asynccontextmanager
    async def _entry(self, key: _Key) -> AsyncIterator[_Known]:
        """Hold on to what is known; what nobody waits for may make room for another."""
        known = self._known.setdefault(key, _Known())
        self._known.move_to_end(key)
        known.waiting += 1
        try:
            yield known
        finally:
            known.waiting -= 1
            if len(self._known) > ADDRESSES_MAX:
                idle = next((one for one, it in self._known.items() if not it.waiting), None)
                if idle is not None:
                    del self._known[idle]

    async def _ask(self, address: _Address, suffixes: tuple[str, ...], known: _Known) -> None:
        known.is_own, seconds = None, AWAY_FOR_SECONDS
        try:
            async with self._questions:
                known.is_own = await self._is_own(address, suffixes)
        except (OSError, UnicodeError):  # a timeout is an OSError too
            pass
        else:
            seconds = OWN_FOR_SECONDS if known.is_own else OTHER_FOR_SECONDS
        known.until = self._monotonic() + seconds

    async def _is_own(self, address: _Address, suffixes: tuple[str, ...]) -> bool:
        async with asyncio.timeout(self._lookup_seconds):
            names = await self._reverse(str(address))
        for name in names[:NAMES_MAX]:
            plain = plain_name(name)
            if plain is None or not is_under(plain, suffixes):
                continue
            async with asyncio.timeout(self._lookup_seconds):
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


def plain_name(text: str) -> str | None:
    """Return a host's name in small letters, without the root's dot; None for any other text."""
    name = text.lower().removesuffix(".")
    is_name = len(name) <= _NAME_CHARACTERS_MAX and _NAME.fullmatch(name)
    return name if is_name else None


def is_under(name: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a name is below a domain; each suffix begins with the dot that makes it one."""
    assert all(each.startswith(".") for each in suffixes), "a suffix that other names end with"
    return name.endswith(suffixes)


def _parsed(text: str) -> _Address | None:
    """Read an address; an IPv4 address in IPv6 dress is the IPv4 address (RFC 4291 2.5.5.2)."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    return None if address.scope_id is not None else address.ipv4_mapped or address
