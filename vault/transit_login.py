"""Our token at HashiCorp Vault: how it is got, kept alive, replaced and given back.

One object owns the token. Whoever finds it dead says so and asks for another; however many ask,
one login is made. Renewal begins at two thirds of the token's life, a little earlier by chance,
so that replicas which started together do not come together.

A credential that works once is never presented twice on purpose: a login whose answer was lost
has used it up. The next login takes what the secret-id file holds by then.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from vault.errors import KeysError, KeysMisconfigured
from vault.transit_answers import Answer, Verdict
from vault.transit_items import Request, Unprintable

RENEWAL: Final = 2 / 3  # of what is left of the token's life
RENEWAL_JITTER: Final = 0.1
RENEWAL_SECONDS_MIN: Final = 0.5
RETRY_SECONDS: Final = 1.0  # after a login that failed on its way
REFUSED_SECONDS: Final = 60.0  # after a login that was refused: a few in a row lock the role

Send = Callable[[Request, str | None], Awaitable[Answer]]


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """An AppRole's role-id, and its secret-id or the file it is read from at each login."""

    role_id: str
    secret_id: str | None
    secret_id_file: str | None


@dataclass(frozen=True, slots=True, repr=False)
class _Token:
    """A token, when it ends and whether it can be renewed."""

    text: str
    ends_at: float
    renewable: bool


@dataclass(frozen=True, slots=True, repr=False)
class _Failed:
    """A login that failed: with which secret-id, how, and until when it is not repeated."""

    secret_id: str
    failure: type[KeysError]
    until: float


class Login:
    """The one token of this process for one AppRole."""

    def __init__(
        self, credentials: Credentials, send: Send, *, chance: Callable[[], float]
    ) -> None:
        """Take `chance` from 0 to 1 each time."""
        self._credentials = credentials
        self._send = send
        self._chance = chance
        self._token: _Token | None = None
        self._failed: _Failed | None = None
        self._logging_in: asyncio.Task[type[KeysError] | None] | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Log in, and keep the token alive from now on.

        Only a refusal stops the start. One that is sealed or away may come back while we run.
        """
        if await self._log_in_once() is KeysMisconfigured:
            raise KeysMisconfigured
        self._keeping = asyncio.create_task(self._keep_alive())

    async def close(self) -> None:
        """Stop renewing and give the token back; where that fails, it ends by itself."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait({self._keeping})
        if self._logging_in is not None:
            await asyncio.wait({self._logging_in})
        if self._token is not None:
            token, self._token = self._token, None
            request = Request("revoke", "POST", "/v1/auth/token/revoke-self")
            await self._send(request, token.text)

    async def token(self) -> str:
        """Give the token; a login comes first when there is none."""
        if self._token is None:
            failure = await self._log_in_once()
            if failure is not None:
                raise failure
        assert self._token is not None
        return self._token.text

    async def found_dead(self, text: str) -> bool:
        """After a 403: was it the token? Then `token` will give another one.

        A missing right reads like a dead token, but to look itself up a live one is free.
        """
        if self._token is not None and self._token.text == text:
            answer = await self._send(Request("lookup", "GET", "/v1/auth/token/lookup-self"), text)
            if answer.verdict is not Verdict.FORBIDDEN:
                return False
            self._drop(text)
        return True

    def _drop(self, text: str) -> None:
        if self._token is not None and self._token.text == text:
            self._token = None

    async def _log_in_once(self) -> type[KeysError] | None:
        """Join the login under way, or begin it. It outlives a waiter that gives up."""
        if self._logging_in is None:
            self._logging_in = asyncio.create_task(self._log_in())
            self._logging_in.add_done_callback(self._logged_in)
        return await asyncio.shield(self._logging_in)

    def _logged_in(self, _: asyncio.Task[type[KeysError] | None]) -> None:
        self._logging_in = None

    async def _log_in(self) -> type[KeysError] | None:
        secret_id = await asyncio.to_thread(_secret_id, self._credentials)
        if secret_id is None:
            return KeysMisconfigured
        now = asyncio.get_running_loop().time()
        failed = self._failed
        if failed is not None and failed.secret_id == secret_id and now < failed.until:
            return failed.failure
        body = msgspec.json.encode(_LoginBody(self._credentials.role_id, secret_id))
        path = "/v1/auth/approle/login"
        answer = await self._send(Request("login", "POST", path, body, repeatable=False), None)
        self._token = _token_in(answer, now)
        if self._token is not None:
            self._failed = None
            return None
        failure = KeysError if answer.verdict is Verdict.ANSWERED else answer.failure
        pause = REFUSED_SECONDS if failure is KeysMisconfigured else RETRY_SECONDS
        self._failed = _Failed(secret_id, failure, now + pause)
        return failure

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(self._pause())
            if self._token is not None and self._token.renewable:
                await self._renew(self._token)
            else:
                await self._log_in_once()

    def _pause(self) -> float:
        """After a renewal that failed the rest of the life shrinks, and so does the pause."""
        if self._token is None:
            return RETRY_SECONDS
        left = self._token.ends_at - asyncio.get_running_loop().time()
        return max(left * RENEWAL * (1 - RENEWAL_JITTER * self._chance()), RENEWAL_SECONDS_MIN)

    async def _renew(self, token: _Token) -> None:
        now = asyncio.get_running_loop().time()
        answer = await self._send(Request("renew", "POST", "/v1/auth/token/renew-self"), token.text)
        if answer.verdict is Verdict.FORBIDDEN:
            self._drop(token.text)
            await self._log_in_once()
        elif self._token is token:
            self._token = _token_in(answer, now) or token


class _LoginBody(Unprintable):
    """The body of an AppRole login."""

    role_id: str
    secret_id: str


class _Auth(Unprintable):
    """`auth` of a login or a renewal."""

    client_token: str
    lease_duration: int
    renewable: bool = False


def _token_in(answer: Answer, asked_at: float) -> _Token | None:
    """Read a token. One without an end is none: nobody would notice that it was stolen."""
    if answer.verdict is not Verdict.ANSWERED:
        return None
    try:
        auth = msgspec.json.decode(answer.auth, type=_Auth)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if auth.lease_duration <= 0:
        return None
    return _Token(auth.client_token, asked_at + auth.lease_duration, auth.renewable)


def _secret_id(credentials: Credentials) -> str | None:
    """Read it anew each time: whoever rotates it need not restart us."""
    if credentials.secret_id_file is None:
        return credentials.secret_id
    try:
        text = Path(credentials.secret_id_file).read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return None
    return text.strip() or None
