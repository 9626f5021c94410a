"""Which loopback ports an embedded deployment uses: the same ones at each start, if they are free.

Chosen below the range the kernel hands out to clients, so that no outgoing connection can sit
on a remembered port. Nothing here listens.
"""

import asyncio
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from vault.embedded.layout import Layout
from vault.errors import StartRefused
from vault.private_files import write_private

OPENBAO: Final = "openbao"
OPENBAO_CLUSTER: Final = "openbao_cluster"

LISTENERS_MAX: Final = 8
"""From `--port-base N` on, N to N+7 are the gateway's listeners, then come OpenBao's two."""

_FIRST: Final = 20_000
_COUNT: Final = 12_000
_PREDECESSOR_SECONDS: Final = 3.0
_POLL_SECONDS: Final = 0.05


async def choose(
    layout: Layout,
    listeners: Sequence[str],
    port_base: int | None,
    *,
    keep: Callable[[socket.socket], None] = socket.socket.close,
) -> Mapping[str, int]:
    """Find a port for each listener and for OpenBao, and remember them in the folder.

    `keep` gets what holds each of them until it is closed: there are seconds from here until
    something listens, and another deployment that starts meanwhile must not find it free.
    """
    assert len(listeners) <= LISTENERS_MAX, "more listeners than --port-base has room for"
    wanted = _fixed(listeners, port_base) if port_base is not None else remembered(layout)
    await _wait_for_predecessor(wanted)
    ports: dict[str, int] = {}
    for name in (*listeners, OPENBAO, OPENBAO_CLUSTER):
        port = wanted.get(name)
        held = None if port is None else _held(port)
        if port is not None and held is not None:
            ports[name] = port
        elif port_base is not None:
            raise StartRefused(f"port {port} ({name}) is taken: choose another --port-base")
        else:
            ports[name], held = _any_free(taken={*wanted.values(), *ports.values()})
        keep(held)
    write_private(layout.ports, msgspec.json.encode(ports))
    return ports


def remembered(layout: Layout) -> Mapping[str, int]:
    """Read the ports of the last start; none before the first."""
    try:
        content = layout.ports.read_bytes()
    except FileNotFoundError:
        return {}
    return msgspec.json.decode(content, type=dict[str, int])


def _fixed(listeners: Sequence[str], port_base: int) -> Mapping[str, int]:
    if not 1 <= port_base <= 65_535 - LISTENERS_MAX - 1:
        raise StartRefused(f"--port-base {port_base} leaves no room for ten ports")
    ports = {name: port_base + n for n, name in enumerate(listeners)}
    ports[OPENBAO] = port_base + LISTENERS_MAX
    ports[OPENBAO_CLUSTER] = port_base + LISTENERS_MAX + 1
    return ports


async def _wait_for_predecessor(wanted: Mapping[str, int]) -> None:
    """After `kill -9` of the last process its OpenBao may need a moment to go."""
    end = asyncio.get_running_loop().time() + _PREDECESSOR_SECONDS
    while not all(map(_is_free, wanted.values())):
        if asyncio.get_running_loop().time() > end:
            return
        await asyncio.sleep(_POLL_SECONDS)


def _any_free(taken: set[int]) -> tuple[int, socket.socket]:
    while True:
        port = _FIRST + secrets.randbelow(_COUNT)
        held = None if port in taken else _held(port)
        if held is not None:
            return port, held


def _held(port: int) -> socket.socket | None:
    """Take a port that nobody listens on, by a name that the kernel gives to one alone.

    It is free again when this is closed, or with its process.
    """
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0panward port {port}")
    except OSError:
        name.close()
        return None
    if not _is_free(port):
        name.close()
        return None
    return name


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
