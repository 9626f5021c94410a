"""Small calls to servers that keep or check copies of the log: over verified TLS, sent once.

What lives here: one https address with its path, `get` and `post`, and what they bring back. What
never may: anything about a card's way out, a redirect that is followed, a second attempt, and
another's words in an error. All of it goes out by `gateway/upstream.py`, so names, addresses, TLS,
deadlines and sizes are looked at as for a processor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Self

from gateway.addresses import NOTHING_PRIVATE, AddressAllow, HostRefused, checked_host
from gateway.dialing import Lookup, system_lookup
from gateway.exchange import Failure, Phase, Replied, Unknown, is_sendable
from gateway.upstream import Upstream, UpstreamObserver, UpstreamRoute

TIMEOUT_SECONDS: Final = 10.0
REPLY_BYTES_MAX: Final = 256 * (2 + 65_535)  # the largest entry bundle there is (C2SP tlog-tiles)
TEXT: Final = "text/plain; charset=utf-8"

_SCHEME: Final = "https://"


class UrlRefused(HostRefused):
    """The address is not a plain https://host[:port][/path], or its host is not one to call."""


class Unreachable(Exception):
    """There is no definite answer: nobody may be there, or the call may have been carried out."""

    def __init__(self, failure: Failure, *, maybe_sent: bool) -> None:
        super().__init__(type(self).__doc__)
        self.failure = failure
        self.maybe_sent = maybe_sent


class Unwatched:
    """Who observes calls where nobody does: a command that ends with its answer."""

    def upstream_phase_ended(self, route: str, phase: Phase, seconds: float) -> None:
        pass

    def upstream_failed(self, route: str, phase: Phase, code: Failure) -> None:
        pass


class HttpsUrl(NamedTuple):
    """Where a server is; `path` is empty, or begins with a slash and does not end with one."""

    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, text: str, allow: AddressAllow = NOTHING_PRIVATE) -> Self:
        """Read an address from a configuration. Raises UrlRefused.

        Without a login, a query or a fragment: none of the servers called so has any.
        """
        authority, slash, path = text.removeprefix(_SCHEME).partition("/")
        path = (slash + path).rstrip("/")
        host = None
        if text.startswith(_SCHEME) and (not path or is_sendable("GET", path, "", ())):
            try:
                host = checked_host(authority, allow)
            except HostRefused:
                host = None
        if host is None:
            raise UrlRefused
        return cls(host.name, host.port, path)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole answer; a status that says no is one, too."""

    status: int
    content_type: str
    body: bytes


class HttpsClient:
    """Calls one server. Made inside the running loop, closed by its owner."""

    def __init__(  # noqa: PLR0913 - how a server is reached, named at the call
        self,
        url: str,
        metrics: UpstreamObserver,
        *,
        name: str,
        ca_file: Path | None = None,
        address_allow: AddressAllow = NOTHING_PRIVATE,
        headers: Sequence[tuple[str, str]] = (),
        timeout_seconds: float = TIMEOUT_SECONDS,
        reply_bytes_max: int = REPLY_BYTES_MAX,
        lookup: Lookup = system_lookup,
    ) -> None:
        """`name` is for metrics. Raises UrlRefused; StartRefused for the authority's file."""
        address = HttpsUrl.parse(url, address_allow)
        self._path = address.path
        self._headers = tuple(headers)
        route = UpstreamRoute(
            name=name,
            host=address.host,
            port=address.port,
            timeout_seconds=timeout_seconds,
            address_allow=address_allow,
            ca_file=ca_file,
            reply_bytes_max=reply_bytes_max,
        )
        self._upstream = Upstream(route, metrics, lookup=lookup)

    async def close(self) -> None:
        await self._upstream.close()

    async def get(self, path: str) -> Fetched:
        """Ask for what is at `path` below the address. Raises Unreachable."""
        return await self._send("GET", path, self._headers, b"")

    async def post(self, path: str, body: bytes, content_type: str = TEXT) -> Fetched:
        """Send `body` once. Raises Unreachable: then it may have been acted upon."""
        return await self._send(
            "POST", path, (*self._headers, ("Content-Type", content_type)), body
        )

    async def _send(
        self, method: str, path: str, headers: Sequence[tuple[str, str]], body: bytes
    ) -> Fetched:
        outcome = await self._upstream.send(method, self._path + path, "", headers, body)
        if not isinstance(outcome, Replied):
            raise Unreachable(outcome.code, maybe_sent=isinstance(outcome, Unknown))
        kinds = [value for name, value in outcome.headers if name.lower() == "content-type"]
        return Fetched(outcome.status, kinds[0] if len(kinds) == 1 else "", outcome.body)
