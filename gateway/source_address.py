"""Whose call it is, behind reverse proxies: the one address that limits and records go by.

What lives here: how far `X-Forwarded-For` is believed. What never may: a header of a peer that is
not in a list of the operator's, and any other header of that kind (`Forwarded`, `X-Real-IP`): two
opinions are one too many.

Each proxy writes the address that it sees at the right end. So it is read from the right, as far
as the hops are proxies of ours; what stands left of the first that is not may be anybody's words.
"""

import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

UNKNOWN: Final = "unknown"
HOPS_MAX: Final = 16

_WITH_PORT: Final = re.compile(r"([0-9.]+):[0-9]{1,5}|\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?")
_IPV4_BITS: Final = 24  # what one customer of a provider can hop about in
_IPV6_BITS: Final = 48  # RFC 6177: what one site may be given


def source_of(
    peer: str, forwarded_for: Sequence[str], trusted: Sequence[IPv4Network | IPv6Network]
) -> str:
    """Give the nearest hop that is no trusted proxy; of the headers, all lines, in order.

    A hop that cannot be read ends the walk at the one before it.
    """
    source = _parsed(peer)
    if source is None:
        return UNKNOWN
    for hop in _from_the_right(forwarded_for):
        before = _parsed(_without_port(hop)) if _is_in(source, trusted) else None
        if before is None:
            break
        source = before
    return str(source)


def network_of(address: str) -> str:
    """Give the network of an address, as far as one party usually holds it."""
    parsed = _parsed(address)
    if parsed is None:
        return UNKNOWN
    bits = _IPV4_BITS if isinstance(parsed, IPv4Address) else _IPV6_BITS
    return str(ip_network((parsed, bits), strict=False))


def is_in(address: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    """Whether an address is one of a list's; what is no address is in none."""
    parsed = _parsed(address)
    return parsed is not None and _is_in(parsed, networks)


def _from_the_right(lines: Sequence[str]) -> Iterator[str]:
    left = HOPS_MAX
    for line in reversed(lines):
        for hop in reversed(line.rsplit(",", left)):
            if left == 0:  # what is further left may hold more than one hop
                return
            left -= 1
            yield hop.strip(" \t")


def _without_port(hop: str) -> str:
    """Some proxies write the port too: `192.0.2.1:1234`, `[2001:db8::1]:1234`."""
    match = _WITH_PORT.fullmatch(hop)
    return hop if match is None else match[1] or match[2]


def _is_in(
    address: IPv4Address | IPv6Address, networks: Sequence[IPv4Network | IPv6Network]
) -> bool:
    return any(address in network for network in networks)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address; an IPv4 address in IPv6 dress is the IPv4 address (RFC 4291 2.5.5.2)."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    if address.scope_id is not None:
        return None
    return address.ipv4_mapped or address
