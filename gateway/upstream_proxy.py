"""A tunnel through an egress proxy: one CONNECT, and nothing else is ever said to it.

What lives here: a TCP connection to the proxy on which it has agreed to carry bytes to one host.
What never may: a request, its headers or its TLS, and a proxy that anybody but the route names.

TLS with the processor runs inside the tunnel from end to end: the proxy learns the processor's
name and port, and what it could read off any connection. The name is resolved by the proxy, so
what our table of addresses judges is the proxy's own address; where the proxy may go is for its
rules to say. The login of RFC 7617 travels as plain text on the way to it.

aiohttp has a CONNECT of its own. It is not used: it goes through the machinery of requests, and
would have to be kept from looking like one in every hook and limit that upstream has.
"""

import asyncio
import base64
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from gateway.addresses import Host

HEAD_BYTES_MAX: Final = 8_192
_READ_BYTES: Final = 4_096
_END: Final = b"\r\n\r\n"
_OPENED: Final = re.compile(rb"HTTP/1\.[01] 2[0-9]{2}[ \r]")  # RFC 9110 9.3.6: any of these


class TunnelRefused(OSError):
    """The proxy cannot be reached, or does not carry what it is asked to."""


@dataclass(frozen=True, slots=True)
class Tunnel:
    """From whom to whom."""

    proxy: Host
    target: Host
    login: str | None = field(default=None, repr=False)  # user:password

    def request(self) -> bytes:
        name, port = self.target
        authority = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
        if self.login is not None:
            credentials = base64.b64encode(self.login.encode()).decode()
            lines.append(f"Proxy-Authorization: Basic {credentials}")
        return "\r\n".join(lines).encode() + _END


async def open_tunnel(
    tunnel: Tunnel,
    infos: Sequence[aiohttp.AddrInfoType],
    make_socket: Callable[[aiohttp.AddrInfoType], socket.socket],
    seconds: float,
) -> socket.socket:
    """Dial the proxy's addresses in turn, each for its share of the time, until one agrees.

    Raises TunnelRefused or TimeoutError for the last of them, and what `make_socket` raises.
    """
    timed_out = False
    for info in infos:
        sock = make_socket(info)
        opened = False
        try:
            async with asyncio.timeout(seconds / len(infos)):
                await _ask(tunnel, sock, info)
            opened = True
        except OSError as error:
            timed_out = isinstance(error, TimeoutError)
        finally:
            if not opened:
                sock.close()
        if opened:
            return sock
    raise TimeoutError if timed_out else TunnelRefused


async def _ask(tunnel: Tunnel, sock: socket.socket, info: aiohttp.AddrInfoType) -> None:
    loop = asyncio.get_running_loop()
    sock.setblocking(False)  # noqa: FBT003 - the standard library's own
    await loop.sock_connect(sock, info[4])
    await loop.sock_sendall(sock, tunnel.request())
    head = bytearray()
    while _END not in head:
        data = await loop.sock_recv(sock, _READ_BYTES)
        if not data or len(head) + len(data) > HEAD_BYTES_MAX:
            raise TunnelRefused
        head += data
    # The processor never speaks first: what follows the head already is the proxy's invention.
    if not _OPENED.match(head) or head.index(_END) + len(_END) != len(head):
        raise TunnelRefused
