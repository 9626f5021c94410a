"""OAuth 2 client credentials (RFC 6749 4.4) towards a processor, for its tenants' routes.

Some processors take a key only once, in exchange for an access token of some hours. In
`injected` the exchange with the SDK is ours (its token is panward's key), and the exchange with
the processor happens here. What never lives here: what a token is used for.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from gateway.errors import CredentialsRefused, UpstreamUnavailable
from gateway.exchange import Outcome, Replied

LIFE_SECONDS_MAX: Final = 3600.0  # whatever the processor says: a revoked key is noticed sooner
MARGIN_SECONDS: Final = 60.0  # a token that ends while a call is under way is of no use
FAILED_SECONDS: Final = 1.0
GRANT: Final = b"grant_type=client_credentials"
GRANT_TYPE: Final = "application/x-www-form-urlencoded"

Send = Callable[[tuple[tuple[str, str], ...], bytes], Awaitable[Outcome]]
"""Asks the processor for a token with these headers and this body."""


class _Granted(msgspec.Struct, frozen=True):
    """What RFC 6749 5.1 has of a token."""

    access_token: str
    expires_in: float = 0.0

    def __repr__(self) -> str:
        return "_Granted"


@dataclass(slots=True, repr=False)
class _Held:
    """A tenant's token, the login that it was given for, and when it is asked for anew."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    login: tuple[str, str] = ("", "")
    token: str = ""
    until: float = 0.0
    failed: type[CredentialsRefused | UpstreamUnavailable] | None = None
    failed_until: float = 0.0


class AccessTokens:
    """The tokens of one route's tenants."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._held: dict[str, _Held] = {}

    async def of(self, tenant: str, login: tuple[str, str], send: Send) -> str:
        """Return a token in force for this login. However many ask, one request is made.

        Raises CredentialsRefused when the processor does not know the login, UpstreamUnavailable
        when it cannot be asked.
        """
        held = self._held.setdefault(tenant, _Held())
        async with held.lock:
            if held.login != login or self._monotonic() >= held.until:
                granted = await self._granted(held, login, send)
                life = min(granted.expires_in - MARGIN_SECONDS, LIFE_SECONDS_MAX)
                held.login, held.token = login, granted.access_token
                held.until = self._monotonic() + life
            return held.token

    async def _granted(self, held: _Held, login: tuple[str, str], send: Send) -> "_Granted":
        """Ask, unless it has just failed: those who waited do not fail one after the other."""
        just_now = held.login == login and self._monotonic() < held.failed_until
        if held.failed is not None and just_now:
            raise held.failed
        held.login, held.until = login, 0.0
        try:
            granted = await _asked(login, send)
        except (CredentialsRefused, UpstreamUnavailable) as error:
            held.failed, held.failed_until = type(error), self._monotonic() + FAILED_SECONDS
            raise
        held.failed = None
        return granted

    def forget(self, tenant: str) -> None:
        """Ask anew at the next call: the processor did not take the token."""
        self._held.pop(tenant, None)


async def _asked(login: tuple[str, str], send: Send) -> _Granted:
    name, secret = login
    basic = base64.b64encode(f"{name}:{secret}".encode()).decode()
    headers = (("Authorization", f"Basic {basic}"), ("Content-Type", GRANT_TYPE))
    outcome = await send(headers, GRANT)
    if not isinstance(outcome, Replied):
        raise UpstreamUnavailable
    if outcome.status in {400, 401, 403}:  # RFC 6749 5.2
        raise CredentialsRefused
    granted = _read(outcome)
    if granted is None:
        raise UpstreamUnavailable
    return granted


def _read(reply: Replied) -> _Granted | None:
    if reply.status != 200:  # noqa: PLR2004 - RFC 6749 5.1
        return None
    try:
        granted = msgspec.json.decode(reply.body, type=_Granted)
    except msgspec.DecodeError:
        return None
    fits = granted.access_token.isascii() and granted.access_token.isprintable()
    return granted if fits and granted.access_token else None


def granted_here(key: str) -> Mapping[str, object]:
    """What an SDK is told that exchanges panward's key for a token: it is the key itself."""
    return {"access_token": key, "token_type": "Bearer", "expires_in": 3600, "scope": ""}
