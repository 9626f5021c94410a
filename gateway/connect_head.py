"""What a proxy's client writes before its tunnel: `CONNECT host:port`, and whose key it brings.

Pure: bytes in, a `ConnectHead` or a refusal out. A head that two parsers could read in two ways
is refused, for what follows it is another protocol. Which places there are, and whose a key is,
is not decided here: a place is compared letter by letter with those of the routes, so no second
spelling of a host needs to be understood.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from gateway.addresses import PORT_MAX, Host
from gateway.errors import Malformed, MethodNotAllowed, VersionRefused

HEAD_BYTES_MAX: Final = 16_384
HEADERS_MAX: Final = 64
METHOD: Final = "CONNECT"
END: Final = b"\r\n\r\n"

_PLACE: Final = re.compile(r"([a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\]):([1-9][0-9]{0,4})")
_REQUEST_LINE: Final = re.compile(r"([A-Z]{1,16}) ([!-~]{1,512}) HTTP/([0-9])\.([0-9])")
_FIELD: Final = re.compile(r"([!#$%&'*+.^`|~0-9A-Za-z-]{1,64}):([\t -~]*)")
"""RFC 9110 5.1, 5.5, without `_` in a name: on its way a proxy may have made `-` of it."""
_BASIC: Final = re.compile(r"[Bb]asic +([A-Za-z0-9+/]{4,512}={0,2})")
_BEARER: Final = re.compile(r"[Bb]earer +([A-Za-z0-9_]{20,128})")
_ONCE: Final = ("host", "proxy-authorization")
_REFUSED: Final = {
    "transfer-encoding": "te",
    "trailer": "te",
    "expect": "expect",
    "upgrade": "upgrade",
}
"""What announces more than a head (RFC 9110 9.3.6: nothing follows a CONNECT but the tunnel)."""


@dataclass(frozen=True, slots=True, repr=False)
class ConnectHead:
    """Where to, and the texts that may be the caller's key."""

    place: Host
    presented: tuple[str, ...]


def parse_head(head: bytes) -> ConnectHead:
    """Read a head, its empty line included.

    Raises Malformed, MethodNotAllowed, VersionRefused.
    """
    if len(head) > HEAD_BYTES_MAX or not head.endswith(END):
        raise Malformed("headers")
    try:
        first, *lines = head.removesuffix(END).decode("ascii").split("\r\n")
    except UnicodeDecodeError:
        first, lines = "", []
    target = _target(first)
    fields = _fields(lines)
    place = parse_place(target.lower())
    if place is None:
        raise Malformed("host")
    host = fields.get("host")
    if host is not None and not means(host, place):  # RFC 9112 3.2: it names the same place
        raise Malformed("host")
    return ConnectHead(place, _presented(fields.get("proxy-authorization", "")))


def parse_place(text: str) -> Host | None:
    """Read `host:port` in lower case, IPv6 in brackets; None for anything else."""
    match = _PLACE.fullmatch(text)
    if match is None or int(match[2]) > PORT_MAX:
        return None
    return Host(match[1].strip("[]"), int(match[2]))


def means(value: str, place: Host) -> bool:
    """Whether a `Host` header means this place; the port may be left out (RFC 9112 3.2)."""
    bare = f"[{place.name}]" if ":" in place.name else place.name
    return value.lower() in (bare, f"{bare}:{place.port}")


def is_named(place: Host) -> bool:
    """Whether it has a DNS name: then TLS must ask for it, else it cannot (RFC 6066 3)."""
    try:
        ip_address(place.name)
    except ValueError:
        return True
    return False


def _target(line: str) -> str:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise Malformed("framing")
    if match[3] != "1" or match[4] not in "01":  # urllib3 writes CONNECT in HTTP/1.0
        raise VersionRefused
    if match[1] != METHOD:
        raise MethodNotAllowed([METHOD])
    return match[2]


def _fields(lines: list[str]) -> Mapping[str, str]:
    """Read the headers that matter; refuse what could frame a body or be read in two ways."""
    if len(lines) > HEADERS_MAX:
        raise Malformed("headers")
    fields: dict[str, str] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:  # a folded line, a bare line feed, a blank before the colon
            raise Malformed("headers")
        name, value = match[1].lower(), match[2].strip(" \t")
        if name in _REFUSED:
            raise Malformed(_REFUSED[name])
        if name == "content-length" and value != "0":
            raise Malformed("framing")
        if name in _ONCE and name in fields:
            raise Malformed("headers")
        fields[name] = value
    return fields


def _presented(value: str) -> tuple[str, ...]:
    """Give what may be a key: a Bearer token, or user name and password of Basic.

    In a proxy's URL the key may stand in either place (`http://KEY@gateway`, `http://x:KEY@…`).
    """
    bearer = _BEARER.fullmatch(value)
    if bearer is not None:
        return (bearer[1],)
    basic = _BASIC.fullmatch(value)
    if basic is None:
        return ()
    try:
        text = base64.b64decode(basic[1], validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return ()
    user, _, password = text.partition(":")
    return (user, password)
