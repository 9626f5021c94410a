"""Which route a request is for: by host, path, method and content type. Pure.

What the gateway decides by a path, the merchant's server must not read as another one: where more
than the host decides, a path that servers read in different ways is refused (T-05). So `/pay` is
found in `/%70ay` and in `/PAY` as well, `/x/../pay` is no path, and `/x;a/pay` is one only where
`/x/pay` leads to the same route, for servers of Java read that. Where a content type decides, one
that two readers could take differently is refused, and a body without any: Rack reads it as a form.
What never may live here: what is done with the request.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Generic, Protocol, TypeVar

from gateway.codecs.multipart import media_type
from gateway.errors import Malformed, MethodNotAllowed, NotFound, UnsupportedMedia
from gateway.inbound.rules import InboundConfig

_UNRESERVED: Final = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"  # RFC 3986 2.3
)
_ESCAPE: Final = re.compile("%([0-9A-Fa-f]{2})")
_DOUBTFUL: Final = re.compile(r"//|\\|%2f|%5c|%00|%25|[\x00-\x20\x7f]|/\.\.?(?:[/;]|\Z)")
_PARAMETERS: Final = re.compile("(?:;|%3b)[^/]*")  # of a part of a path: RFC 3986 3.3


class HasRoute(Protocol):
    """Whatever stands for a route."""

    @property
    def route(self) -> InboundConfig: ...


Routed = TypeVar("Routed", bound=HasRoute)


class Routing(Generic[Routed]):
    """The routes of all hosts, the longest prefix first."""

    def __init__(self, routed: Iterable[Routed]) -> None:
        by_host: defaultdict[str, list[Routed]] = defaultdict(list)
        for each in routed:
            for host in each.route.hosts:
                by_host[host].append(each)
        self._by_host: Mapping[str, Sequence[Routed]] = {
            host: sorted(found, key=_precedence) for host, found in by_host.items()
        }

    @property
    def hosts(self) -> frozenset[str]:
        return frozenset(self._by_host)

    def find(
        self, host: str, path: str, method: str, content_type: str, *, has_body: bool = False
    ) -> Routed:
        """Give the route of a request; `path` is as it was sent, without its query.

        `content_type` is all that was said of it. Raises NotFound, MethodNotAllowed, Malformed,
        UnsupportedMedia.
        """
        routes = self._by_host.get(host.lower().partition(":")[0], ())
        here = _routes_of(routes, _plain(path))
        if not here:
            raise NotFound
        allowed = [each for each in here if not each.route.methods or method in each.route.methods]
        if not allowed:
            raise MethodNotAllowed({name for each in here for name in each.route.methods})
        return _by_type(allowed, content_type, told=bool(content_type) or has_body)


def _routes_of(routes: Sequence[Routed], plain: str) -> Sequence[Routed]:
    """Give those whose prefix a path has, however it is read. Raises Malformed."""
    here = _under(routes, plain)
    if len(routes) > 1 or any(each.route.path_prefix != "/" for each in routes):
        bare = _PARAMETERS.sub("", plain)
        if is_doubtful(plain) or is_doubtful(bare) or _under(routes, bare) != here:
            raise Malformed("path")
    return here


def _by_type(routes: Sequence[Routed], content_type: str, *, told: bool) -> Routed:
    """Give the first that takes such a body. Raises UnsupportedMedia, NotFound."""
    type_ = media_type(content_type)
    for each in routes:
        if not each.route.content_types:
            return each
        if type_ is None and told:
            raise UnsupportedMedia("content_type")
        if type_ is not None and type_.name in each.route.content_types:
            return each
    raise NotFound


def _under(routes: Sequence[Routed], plain: str) -> Sequence[Routed]:
    return [each for each in routes if plain.startswith(each.route.path_prefix.lower())]


def _precedence(routed: HasRoute) -> tuple[int, bool, bool]:
    route = routed.route
    return -len(route.path_prefix), not route.methods, not route.content_types


def _plain(path: str) -> str:
    """Undo the escapes that mean nothing (RFC 3986 6.2.2.2), in lower case."""

    def character(escape: re.Match[str]) -> str:
        found = chr(int(escape[1], 16))
        return found if found in _UNRESERVED else escape[0]

    return _ESCAPE.sub(character, path).lower()


def is_doubtful(path: str) -> bool:
    """Whether servers read a path in different ways."""
    return _DOUBTFUL.search(path) is not None
