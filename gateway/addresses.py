"""Which addresses the way out may dial, and how a processor's host may be spelled. Pure rules.

What lives here: the table of networks that no processor can have, the exceptions a route may list,
and the one spelling of a host. What never may: looking up names, sockets, a second opinion on any
of it elsewhere (the resolver and the dialing socket both ask here).

An address passes only if nothing is known against it. `ipaddress.is_global` alone is not enough:
it holds for multicast, for NAT64 and for 6to4 of a loopback address.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final, NamedTuple

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

HTTPS_PORT: Final = 443
HOST_CHARACTERS_MAX: Final = 253  # RFC 1035 2.3.4, without the root's dot
PORT_MAX: Final = 65_535


class Denial(StrEnum):
    """Why an address is not dialed: a closed list, for metrics."""

    NOT_AN_ADDRESS = "not_an_address"
    LOOPBACK = "loopback"
    PRIVATE = "private"
    LINK_LOCAL = "link_local"
    MULTICAST = "multicast"
    TRANSLATED = "translated"  # an IPv4 address dressed as IPv6: it would be judged by its dress
    RESERVED = "reserved"
    NOT_GLOBAL = "not_global"


_DENIED: Final[tuple[tuple[IPNetwork, Denial], ...]] = tuple(
    (ip_network(network), denial)
    for network, denial in (
        ("0.0.0.0/8", Denial.RESERVED),  # RFC 1122 3.2.1.3: "this network"; Linux dials itself
        ("10.0.0.0/8", Denial.PRIVATE),
        ("100.64.0.0/10", Denial.PRIVATE),  # RFC 6598: shared with the carrier
        ("127.0.0.0/8", Denial.LOOPBACK),
        ("169.254.0.0/16", Denial.LINK_LOCAL),  # where clouds keep their credentials
        ("172.16.0.0/12", Denial.PRIVATE),
        ("192.0.0.0/24", Denial.RESERVED),  # RFC 6890; .8, .9 and .10 count as global
        ("192.88.99.0/24", Denial.TRANSLATED),  # RFC 7526: 6to4 relays
        ("192.168.0.0/16", Denial.PRIVATE),
        ("224.0.0.0/4", Denial.MULTICAST),
        ("240.0.0.0/4", Denial.RESERVED),
        ("::/128", Denial.RESERVED),
        ("::1/128", Denial.LOOPBACK),
        ("::/96", Denial.TRANSLATED),  # RFC 4291 2.5.5.1: IPv4-compatible
        ("::ffff:0:0/96", Denial.TRANSLATED),  # RFC 4291 2.5.5.2: IPv4-mapped
        ("::ffff:0:0:0/96", Denial.TRANSLATED),  # RFC 2765: IPv4-translated
        ("64:ff9b::/96", Denial.TRANSLATED),  # RFC 6052: NAT64
        ("64:ff9b:1::/48", Denial.TRANSLATED),  # RFC 8215: NAT64 of one's own
        ("2001::/32", Denial.TRANSLATED),  # RFC 4380: Teredo
        ("2001::/23", Denial.RESERVED),  # RFC 2928
        ("2001:db8::/32", Denial.RESERVED),  # RFC 3849: documentation
        ("2002::/16", Denial.TRANSLATED),  # RFC 3056: 6to4
        ("3fff::/20", Denial.RESERVED),  # RFC 9637: documentation
        ("5f00::/16", Denial.RESERVED),  # RFC 9602: segment routing
        ("fc00::/7", Denial.PRIVATE),
        ("fe80::/10", Denial.LINK_LOCAL),
        ("fec0::/10", Denial.PRIVATE),  # RFC 3879: site-local, retired and still routed
        ("ff00::/8", Denial.MULTICAST),
    )
)
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")  # all that IANA has given out so far
_ALLOWABLE: Final = tuple(
    ip_network(network)
    for network in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::1/128",
        "fc00::/7",
    )
)
_LOOPBACKS: Final = (IPv4Address("127.0.0.1"), IPv6Address("::1"))

_AUTHORITY: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9A-Za-z.-]+))(?::([1-9][0-9]{0,4}))?")
_LABEL: Final = re.compile(r"(?!(?!xn)..--)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")  # RFC 5890 2.3.1
_TOP_LABEL: Final = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])")  # never a number: RFC 3696 2


class HostRefused(ValueError):
    """The host is not a plain DNS name, nor an address that the route's address_allow lists."""

    def __init__(self) -> None:
        super().__init__(type(self).__doc__)


class AddressAllowRefused(HostRefused):
    """A network in an address_allow list is not private, or is not written as a network."""


@dataclass(frozen=True, slots=True)
class AddressAllow:
    """The private networks that one route may dial: exactly these, and nothing else private."""

    networks: tuple[IPNetwork, ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> "AddressAllow":
        """Read a route's list; a network that reaches beyond the private ones is refused."""
        networks = []
        for text in texts:
            try:
                network = ip_network(text)
            except ValueError:
                network = None
            if network is None or not any(_within(network, outer) for outer in _ALLOWABLE):
                raise AddressAllowRefused
            networks.append(network)
        return cls(tuple(networks))

    def permits(self, address: IPAddress) -> bool:
        return any(address in network for network in self.networks)


NOTHING_PRIVATE: Final = AddressAllow()


def is_proxy_network(text: str) -> bool:
    """Whether a reverse proxy of ours can be named so; everybody is none."""
    try:
        return ip_network(text).prefixlen > 0
    except ValueError:
        return False


class Host(NamedTuple):
    """Whom a route calls: a lower-case DNS name (or an address it lists) and a port."""

    name: str
    port: int


def forbidden(address: str, allow: AddressAllow = NOTHING_PRIVATE) -> Denial | None:
    """Why this address must not be dialed, or None if it may be."""
    parsed = _parsed(address)
    if parsed is None:
        return Denial.NOT_AN_ADDRESS
    if allow.permits(parsed):
        return None
    for network, denial in _DENIED:
        if parsed in network:
            return denial
    unassigned = parsed.version == 6 and parsed not in _GLOBAL_UNICAST  # noqa: PLR2004 - IPv6
    return Denial.NOT_GLOBAL if unassigned or not parsed.is_global else None


def checked_host(text: str, allow: AddressAllow = NOTHING_PRIVATE) -> Host:
    """Read `name` or `name:port`. What another parser could read as something else is refused."""
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        raise HostRefused
    bracketed, plain, port_text = match.groups()
    port = int(port_text or HTTPS_PORT)
    name: str = (bracketed or plain).lower()
    literal = _parsed(name)
    if port > PORT_MAX or isinstance(literal, IPv6Address) is not (bracketed is not None):
        raise HostRefused
    if literal is not None:
        accepted = allow.permits(literal)
    elif name == "localhost":
        accepted = bool(own_addresses(allow))
    else:
        accepted = _is_dns_name(name)
    if not accepted:
        raise HostRefused
    return Host(name if literal is None else str(literal), port)


def own_addresses(allow: AddressAllow) -> tuple[str, ...]:
    """Answer for `localhost` what the route allows of it (RFC 6761 6.3: DNS is never asked)."""
    return tuple(str(address) for address in _LOOPBACKS if allow.permits(address))


def _is_dns_name(name: str) -> bool:
    *labels, top = name.split(".")
    return (
        len(name) <= HOST_CHARACTERS_MAX
        and bool(labels)
        and all(_LABEL.fullmatch(label) for label in (*labels, top))
        and _TOP_LABEL.fullmatch(top) is not None
    )


def _parsed(text: str) -> IPAddress | None:
    """Read an address in a canonical form; one with a zone (`%eth0`) is none of ours."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return None if isinstance(address, IPv6Address) and address.scope_id else address


def _within(network: IPNetwork, outer: IPNetwork) -> bool:
    if isinstance(network, IPv4Network) and isinstance(outer, IPv4Network):
        return network.subnet_of(outer)
    if isinstance(network, IPv6Network) and isinstance(outer, IPv6Network):
        return network.subnet_of(outer)
    return False
