"""`[[inbound]]` as it was written, checked and looked up: what a start needs of each route.

What never may live here: a connection, and what is done with a request.
"""

import re
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from gateway.addresses import AddressAllow, Host, HostRefused, checked_host
from gateway.inbound.filtering import problems_of
from gateway.inbound.routing import is_doubtful
from gateway.inbound.rules import InboundConfig
from vault.errors import StartRefused

Scheme = Literal["https", "http"]

HTTP_PORT: Final = 80

_HOST: Final = re.compile(r"(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9-]+)*")
_ORIGIN: Final = re.compile(r"(https?)://([^/?#@\s]+)/?")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route, and where it leads."""

    route: InboundConfig
    scheme: Scheme  # http only to an address that the route lists
    host: Host
    address_allow: AddressAllow
    ca_file: Path | None
    certificate: tuple[Path, Path] | None
    """A chain and its key, for this route's hosts alone."""


def endpoints_of(routes: Sequence[InboundConfig], folder: Path) -> tuple[Endpoint, ...]:
    """Check all routes, by themselves and beside each other.

    Raises StartRefused, naming the setting.
    """
    endpoints = tuple(_endpoint(route, folder) for route in routes)
    _check_alike(routes)
    return endpoints


def upstream_of(text: str, allow: AddressAllow) -> tuple[Scheme, Host]:
    """Read `https://host[:port]`; without TLS only what is at an address of the list.

    Raises HostRefused.
    """
    found = _ORIGIN.fullmatch(text)
    if found is None:
        raise HostRefused
    scheme, authority = found.groups()
    host = checked_host(authority, allow)
    if scheme == "https":
        return "https", host
    if not allow.networks:
        raise HostRefused
    return "http", host if urlsplit(text).port else Host(host.name, HTTP_PORT)


def _endpoint(route: InboundConfig, folder: Path) -> Endpoint:
    where = f"inbound.{route.name}"
    for problem in (*_problems(route), *_of_path(route.path_prefix), *problems_of(route)):
        raise StartRefused(f"{where}: {problem}")
    try:
        allow = AddressAllow.parse(route.address_allow)
        scheme, host = upstream_of(route.upstream, allow)
    except HostRefused as refusal:
        problem = str(refusal)
    else:
        ca_file = folder / route.ca_file if route.ca_file else None
        if ca_file is not None:
            check_ca(ca_file, where)
        return Endpoint(route, scheme, host, allow, ca_file, _certificate(route, folder, where))
    raise StartRefused(
        f"{where}: upstream must be https://host[:port], or http:// at an address_allow: {problem}"
    )


def _problems(route: InboundConfig) -> Iterator[str]:
    for host in route.hosts:
        if not _HOST.fullmatch(host):
            yield "hosts are lower-case names, without a port"
    if route.reuse and route.token_hours is not None:
        yield "reuse is for tokens that are kept: leave out token_hours"
    if route.ca_file is not None and route.upstream.startswith("http:"):
        yield "ca_file is for an https:// upstream"
    if (route.certificate_file is None) != (route.private_key_file is None):
        yield "certificate_file and private_key_file go together"
    for name, (start, end) in route.fixed_width.items():
        if end <= start:
            yield f"fixed_width.{name}: a column ends behind its start"


def _of_path(prefix: str) -> Iterator[str]:
    if is_doubtful(prefix):
        yield "path_prefix: servers read it in different ways, so no request has such a path"


def check_ca(path: Path, where: str) -> None:
    try:
        ssl.create_default_context(cafile=str(path))
    except (OSError, ssl.SSLError):
        readable = False
    else:
        readable = True
    if not readable:
        raise StartRefused(f"{where}: {path} holds no certificate authority")


def _certificate(route: InboundConfig, folder: Path, where: str) -> tuple[Path, Path] | None:
    if route.certificate_file is None or route.private_key_file is None:
        return None
    pair = folder / route.certificate_file, folder / route.private_key_file
    for path in pair:
        if not path.is_file():
            raise StartRefused(f"{where}: there is no file {path}")
    return pair


def _check_alike(routes: Sequence[InboundConfig]) -> None:
    """Of two routes that take the same requests one would never be asked."""
    seen: dict[tuple[object, ...], str] = {}
    owners: dict[str, str] = {}
    shown: dict[str, str] = {}
    for route in routes:
        for host in route.hosts:
            if owners.setdefault(host, route.tenant) != route.tenant:
                raise StartRefused(f"inbound.{route.name}: {host} is another tenant's host")
            own = route.certificate_file
            if own is not None and shown.setdefault(host, own) != own:
                raise StartRefused(f"inbound.{route.name}: {host} has another certificate already")
            alike = (host, route.path_prefix.lower(), route.methods, route.content_types)
            other = seen.setdefault(alike, route.name)
            if other != route.name:
                raise StartRefused(f"inbound.{route.name}: takes what {other} takes")
