"""Which runs one `make bench` has: who is asked for what, how often. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

GATEWAY: Final = "gateway"
MITMPROXY: Final = "mitmproxy"


class Asking(StrEnum):
    """What a request asks for."""

    TOKENIZE = "tokenize"
    SEALED = "sealed"  # the same, with a card that a browser sealed
    PAY = "pay"  # one token in it
    OTHER = "other"  # a call that is no declared operation, with a body
    READ = "read"  # the same with GET
    CALLBACK = "callback"  # what a processor reports, signed before the run


class Way(StrEnum):
    """How the load reaches a server."""

    URL = "url"
    TUNNEL = "tunnel"  # kept open, as SDKs keep it
    NEW_TUNNEL = "new tunnel"  # for each request one of its own


PATHS: Final = {
    Asking.TOKENIZE: "/v1/tokens",
    Asking.SEALED: "/v1/tokens",
    Asking.PAY: "/v1/payment_intents",
    Asking.OTHER: "/v1/customers",
    Asking.READ: "/v1/payment_intents/pi_bench",
    Asking.CALLBACK: "",
}

TOKENIZING: Final = frozenset({Asking.TOKENIZE, Asking.SEALED})
OWN_CALLS: Final = TOKENIZING | {Asking.CALLBACK}
"""Of the gateway itself: no route to a processor is in their path."""
STEADY_PER_SECOND: Final = 100.0
CALLBACKS_PER_SECOND: Final = 1000.0
TUNNELS_PER_SECOND: Final = 20.0


@dataclass(frozen=True, slots=True)
class Asked:
    """One run: who is asked, by how many connections (None: at a constant rate)."""

    name: str
    title: str
    server: str
    connections: int | None
    asking: Asking
    way: Way = Way.URL

    @property
    def per_second(self) -> float:
        """The constant rate."""
        if self.asking is Asking.CALLBACK:
            return CALLBACKS_PER_SECOND
        return TUNNELS_PER_SECOND if self.way is Way.NEW_TUNNEL else STEADY_PER_SECOND

    @property
    def how(self) -> str:
        if self.way is Way.NEW_TUNNEL:
            return f"{self.per_second:.0f} tunnels/s"
        if self.connections is None:
            return f"{self.per_second:.0f} requests/s"
        return f"{self.connections} connection{'s' if self.connections > 1 else ''}"

    @property
    def is_ours(self) -> bool:
        return self.server == GATEWAY

    @property
    def opens_a_card(self) -> bool:
        return self.is_ours and self.asking is Asking.PAY

    @property
    def listener(self) -> str:
        """Whose port it is: processors reach the public one alone."""
        if not self.is_ours:
            return self.server
        return "public" if self.asking is Asking.CALLBACK else "private"

    @property
    def path(self) -> str:
        """Of a callback: made with its endpoint, before the run."""
        path = PATHS[self.asking]
        by_route = self.is_ours and self.way is Way.URL and self.asking not in OWN_CALLS
        return f"/out/stripe{path}" if by_route else path


def _asked(
    name: str, title: str, server: str, asking: Asking, *often: int | None
) -> tuple[Asked, ...]:
    return tuple(Asked(f"{name}.{n or 'steady'}", title, server, n, asking) for n in often)


ASKED: Final = (
    *_asked("json", "bare aiohttp JSON handler", "json", Asking.TOKENIZE, 1, 64),
    *_asked("naive", "one call, one commit a card", "naive", Asking.TOKENIZE, 1, 64),
    *_asked("tokenize", "panward tokenize", GATEWAY, Asking.TOKENIZE, 1, 64),
    *_asked("sealed", "panward tokenize, sealed card", GATEWAY, Asking.SEALED, 1, 64),
    *_asked("callback", "panward callbacks", GATEWAY, Asking.CALLBACK, 1, 64, None),
    *_asked("proxy", "bare aiohttp proxy", "proxy", Asking.PAY, 1, 64, None),
    *_asked("mitmproxy", "mitmproxy addon, no crypto", MITMPROXY, Asking.PAY, 64),
    *_asked("out", "panward /out/", GATEWAY, Asking.PAY, 1, 64, None),
    *_asked("proxy.other", "bare aiohttp proxy, POST", "proxy", Asking.OTHER, 1, 64),
    *_asked("other", "panward /out/, other, POST", GATEWAY, Asking.OTHER, 1, 64),
    *_asked("proxy.read", "bare aiohttp proxy, GET", "proxy", Asking.READ, 64),
    *_asked("read", "panward /out/, other, GET", GATEWAY, Asking.READ, 64),
    Asked("tunnel.steady", "bare CONNECT tunnel", "tunnel", None, Asking.PAY, Way.TUNNEL),
    Asked("connect.steady", "panward CONNECT", GATEWAY, None, Asking.PAY, Way.TUNNEL),
    Asked("tunnel.new", "bare CONNECT tunnel", "tunnel", None, Asking.PAY, Way.NEW_TUNNEL),
    Asked("connect.new", "panward CONNECT", GATEWAY, None, Asking.PAY, Way.NEW_TUNNEL),
)
