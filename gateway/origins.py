"""What an origin is, and how one is written: a page's, by scheme, host and port, or an app's name.

What lives here: the one spelling that a list of origins holds, and the comparison with it. What
never may: a guess at what somebody meant, a pattern, looking up names.

Browsers send one spelling only, the serialization of RFC 6454 section 6.2 and of the URL standard:
lower case, no default port, no path. So lists hold that one, and an `Origin` header is compared
with it byte for byte: all that an attacker can vary is then simply another origin.
"""

import re
from collections.abc import Collection
from collections.abc import Set as AbstractSet
from typing import Final

from gateway.addresses import PORT_MAX, AddressAllow, HostRefused, checked_host
from vault.tokens import Env

CHARACTERS_MAX: Final = 267  # https:// + 253 of a name + :65535
APP: Final = "app:"
NOWHERE: Final = "https://host.invalid"
"""An origin that no page has (RFC 6761 section 6.4)."""

_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_LOOPBACKS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_NOTHING_PRIVATE: Final = AddressAllow()
_OWN: Final = AddressAllow.parse(["127.0.0.1/32", "::1/128"])

_WEB: Final = re.compile(
    r"([A-Za-z]+)://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::([1-9][0-9]{0,4}))?"
)
_APP_NAME: Final = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+")
_HOST_HEADER: Final = re.compile(r"([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")

_ADVICE_FORM: Final = (
    "an origin is https://host or https://host:port, without a path, or app: and a name in reverse"
)
_ADVICE_PATH: Final = "an origin ends with the host or the port: no slash, path, query or fragment"
_ADVICE_UNICODE: Final = "write an international name in ASCII, as xn--…: browsers send it so"
_ADVICE_SCHEME: Final = "an origin begins with https:// (http:// on loopback of a test deployment)"
_ADVICE_HOST: Final = "the host is a full DNS name; of addresses, loopback in a test deployment"
_ADVICE_APP: Final = "an app is app: and its name in reverse, lower case, like app:example.shop"


class OriginRefused(ValueError):
    """The text is no origin that a list may hold. What is said is fixed text: advice."""


def parse_origin(text: str, *, env: Env) -> str:
    """Give the canonical form of an origin that somebody lists. Raises OriginRefused."""
    if not text.isascii():
        raise OriginRefused(_ADVICE_UNICODE)
    if len(text) > CHARACTERS_MAX:
        raise OriginRefused(_ADVICE_FORM)
    if text.startswith(APP):
        if not _APP_NAME.fullmatch(text, len(APP)):
            raise OriginRefused(_ADVICE_APP)
        return text
    match = _WEB.fullmatch(text)
    if match is None:
        after_scheme = text.partition("://")[2]
        raise OriginRefused(_ADVICE_PATH if set("/?#") & set(after_scheme) else _ADVICE_FORM)
    scheme, host, port = match.groups()
    return _canonical(scheme.lower(), host, int(port) if port else None, env)


def is_listed(origin: str, listed: Collection[str]) -> bool:
    """Whether a raw `Origin` header is one of these, which `parse_origin` gave."""
    if isinstance(listed, AbstractSet):  # those of all keys may be many, and anybody may ask
        return origin in listed
    return any(origin == each for each in listed)  # never `in`: of one string it finds parts


def own_origin(host_header: str) -> str:
    """Give the origin of our own pages, as a browser that sent this `Host` names it."""
    match = _HOST_HEADER.fullmatch(host_header.lower())
    if match is None or (port := int(match[2] or 443)) > PORT_MAX:
        return NOWHERE
    return f"https://{match[1]}{_port('https', port)}"


def _canonical(scheme: str, host: str, port: int | None, env: Env) -> str:
    if scheme not in _DEFAULT_PORTS:
        raise OriginRefused(_ADVICE_SCHEME)
    name = _name(host, env)
    if scheme == "http" and name not in _LOOPBACKS:  # loopback got past `_name`: it is a test
        raise OriginRefused(_ADVICE_SCHEME)
    if port is not None and port > PORT_MAX:
        raise OriginRefused(_ADVICE_FORM)
    shown = f"[{name}]" if ":" in name else name
    return f"{scheme}://{shown}{_port(scheme, port)}"


def _name(host: str, env: Env) -> str:
    try:
        return checked_host(host, _OWN if env == "test" else _NOTHING_PRIVATE).name
    except HostRefused:
        pass
    raise OriginRefused(_ADVICE_HOST)


def _port(scheme: str, port: int | None) -> str:
    return "" if port is None or port == _DEFAULT_PORTS[scheme] else f":{port}"
