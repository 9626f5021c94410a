"""A shop behind an inbound route, as a shopper's browser and as its owner see it.

What lives here: the routes' text, and a client that finds the shop's name at the listener. What
never may: the shop.
"""

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from tests.inbound.running_shops import Shop

HOSTNAMES: Final = {"flask": "flask.test", "django": "django.test"}
_SETTINGS: Final = {
    "flask": (
        "application/x-www-form-urlencoded",
        'expiry = "expiry"\ncvc = "cvc"\nformat = "pan_like"',
    ),
    "django": (
        "multipart/form-data",
        'exp_month = "exp_month"\nexp_year = "exp_year"\ncvc = "cvc"',
    ),
}


def shop_routes(tenant: str, ports: Mapping[str, int], certificate: tuple[Path, Path]) -> str:
    """Write a route to each shop; `ports` are where the shops will be, by their names."""
    return "".join(
        f"""
[[inbound]]
name = "{name}"
tenant = "{tenant}"
hosts = ["{HOSTNAMES[name]}"]
upstream = "http://127.0.0.1:{port}"
address_allow = ["127.0.0.1/32"]
certificate_file = "{certificate[0]}"
private_key_file = "{certificate[1]}"
address_per_second = 100000
address_burst = 100000
undeclared = "refuse"
[[inbound.filters]]
content_type = "{_SETTINGS[name][0]}"
selector = "number"
{_SETTINGS[name][1]}
"""
        for name, port in ports.items()
    )


class _AtLoopback(AbstractResolver):
    """Finds every name at the listener's address."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = ResolveResult(
            hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0
        )
        return [found]

    async def close(self) -> None:
        pass


@dataclass(frozen=True)
class ShopStage:
    """A shop, the route to it, and the API that knows its tokens."""

    shop: Shop
    hostname: str
    port: int
    """Of the inbound listener."""
    ca_file: Path
    api_ca_file: Path
    """Of the gateway's own listeners."""
    private_url: str
    secret_key: str = field(repr=False)

    def url(self, path: str) -> URL:
        return URL(f"https://{self.hostname}:{self.port}{path}")

    def browser(self) -> aiohttp.ClientSession:
        """Open a client with cookies that follows redirects, at the shop's own name."""
        connector = aiohttp.TCPConnector(ssl=_trusting(self.ca_file), resolver=_AtLoopback())
        return aiohttp.ClientSession(self.url("/"), connector=connector)

    async def masked(self, token: str) -> dict[str, Any]:
        """Ask the gateway's API for the card that a token stands for."""
        url = f"{self.private_url}/v1/tokens/{token}"
        headers = {"Authorization": f"Bearer {self.secret_key}"}
        connector = aiohttp.TCPConnector(ssl=_trusting(self.api_ca_file))
        async with (
            aiohttp.ClientSession(connector=connector, headers=headers) as session,
            session.get(url) as response,
        ):
            assert response.status == 200, await response.text()
            card: dict[str, Any] = await response.json()
            return card


def _trusting(ca_file: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca_file))
