"""The token's life: one login at a time, renewal in time, no second use of what is used up."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from vault.errors import KeysError, KeysMisconfigured, KeysSealed, KeysUnavailable
from vault.transit_answers import Answer, Verdict
from vault.transit_items import Request
from vault.transit_login import REFUSED_SECONDS, RETRY_SECONDS, Credentials, Login

INLINE = Credentials("role", "secret-1", None)


class Clock:
    """Moves the loop's time on, so that tests need not wait for it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        real = loop.time
        self._ahead = 0.0
        monkeypatch.setattr(loop, "time", lambda: real() + self._ahead)

    async def advance(self, seconds: float) -> None:
        await settled()  # who is about to sleep goes to sleep first
        self._ahead += seconds
        await settled()


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class FakeServer:
    """Answers logins, renewals and lookups as it is told."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.secret_ids: list[str] = []
        self.verdicts: dict[str, Verdict] = {}
        self.lease_seconds = 1200
        self.renewable = True
        self.answers = asyncio.Event()
        self.answers.set()
        self.renewals = asyncio.Event()
        self.renewals.set()
        self.auth: Callable[[str], bytes] = self.good_auth
        self._logins = 0
        self._heard = asyncio.Event()

    def count(self, operation: str) -> int:
        return sum(1 for asked, _ in self.asked if asked == operation)

    async def until(self, operation: str, times: int) -> None:
        """Wait until it was asked so many times; other threads may be at work."""
        async with asyncio.timeout(5):
            while self.count(operation) < times:
                self._heard.clear()
                await self._heard.wait()
        assert self.count(operation) == times

    def good_auth(self, token: str) -> bytes:
        return msgspec.json.encode(
            {
                "client_token": token,
                "lease_duration": self.lease_seconds,
                "renewable": self.renewable,
            }
        )

    async def send(self, request: Request, token: str | None) -> Answer:
        self.asked.append((request.operation, token))
        self._heard.set()
        await self.answers.wait()
        if request.operation == "renew":
            await self.renewals.wait()
        if request.operation == "login":
            assert not request.repeatable
            assert request.body is not None
            self.secret_ids.append(msgspec.json.decode(request.body)["secret_id"])
        verdict = self.verdicts.get(request.operation, Verdict.ANSWERED)
        if verdict is not Verdict.ANSWERED:
            return Answer(verdict)
        if request.operation == "login":
            self._logins += 1
            token = f"token-{self._logins}"
        return Answer(Verdict.ANSWERED, auth=msgspec.Raw(self.auth(token or "")))


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def login_at(server: FakeServer, credentials: Credentials = INLINE) -> Login:
    return Login(credentials, server.send, chance=lambda: 0.0)


async def test_the_token_of_the_first_login_serves_all(server: FakeServer) -> None:
    login = login_at(server)
    await login.start()
    assert [await login.token(), await login.token()] == ["token-1", "token-1"]
    assert server.asked == [("login", None)]
    await login.close()


async def test_closing_gives_the_token_back_once(server: FakeServer) -> None:
    login = login_at(server)
    await login.start()
    await login.close()
    await login.close()
    assert server.asked == [("login", None), ("revoke", "token-1")]


async def test_what_was_never_started_has_nothing_to_give_back(server: FakeServer) -> None:
    await login_at(server).close()
    assert server.asked == []


async def test_refused_credentials_stop_the_start(server: FakeServer) -> None:
    server.verdicts["login"] = Verdict.REFUSED
    login = login_at(server)
    with pytest.raises(KeysMisconfigured):
        await login.start()
    await login.close()


@pytest.mark.guards("F-01")
async def test_a_sealed_server_does_not_stop_the_start_and_is_asked_again(
    server: FakeServer, clock: Clock
) -> None:
    server.verdicts["login"] = Verdict.SEALED
    login = login_at(server)
    await login.start()
    with pytest.raises(KeysSealed):
        await login.token()
    del server.verdicts["login"]
    await clock.advance(RETRY_SECONDS + 0.1)
    await server.until("login", 2)
    assert await login.token() == "token-1"
    await login.close()


async def test_a_login_that_failed_is_not_repeated_at_once(
    server: FakeServer, clock: Clock
) -> None:
    server.verdicts["login"] = Verdict.NOT_CONNECTED
    login = login_at(server)
    for _ in range(5):
        with pytest.raises(KeysUnavailable):
            await login.token()
    assert server.count("login") == 1
    await clock.advance(RETRY_SECONDS)
    with pytest.raises(KeysUnavailable):
        await login.token()
    assert server.count("login") == 2


async def test_refused_credentials_are_left_alone_for_a_while(
    server: FakeServer, clock: Clock
) -> None:
    """A few refused logins in a row lock the role."""
    server.verdicts["login"] = Verdict.REFUSED
    login = login_at(server)
    for seconds in (0.0, RETRY_SECONDS, REFUSED_SECONDS / 2):
        await clock.advance(seconds)
        with pytest.raises(KeysMisconfigured):
            await login.token()
    assert server.count("login") == 1
    await clock.advance(REFUSED_SECONDS)
    with pytest.raises(KeysMisconfigured):
        await login.token()
    assert server.count("login") == 2


@pytest.mark.guards("T-63")
async def test_the_file_is_read_again_at_each_login(server: FakeServer, tmp_path: Path) -> None:
    file = tmp_path / "secret-id"
    file.write_text("used-up\n")
    login = login_at(server, Credentials("role", None, str(file)))
    server.verdicts["login"] = Verdict.REFUSED
    with pytest.raises(KeysMisconfigured):
        await login.token()
    file.write_text("fresh\n")
    del server.verdicts["login"]
    assert await login.token() == "token-1"
    assert server.secret_ids == ["used-up", "fresh"]


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe"])
async def test_without_a_secret_id_there_is_no_login(
    server: FakeServer, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "secret-id"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(KeysMisconfigured):
        await login_at(server, Credentials("role", None, str(file))).start()
    assert server.asked == []


@pytest.mark.guards("F-04")
async def test_however_many_find_the_token_dead_one_login_is_made(server: FakeServer) -> None:
    login = login_at(server)
    stale = await login.token()
    server.verdicts["lookup"] = Verdict.FORBIDDEN
    server.answers.clear()

    async def replaced() -> str:
        assert await login.found_dead(stale)
        return await login.token()

    tasks = [asyncio.create_task(replaced()) for _ in range(8)]
    await asyncio.sleep(0)
    server.answers.set()
    assert set(await asyncio.gather(*tasks)) == {"token-2"}
    assert server.count("login") == 2


async def test_who_comes_late_with_a_dead_token_causes_nothing(server: FakeServer) -> None:
    login = login_at(server)
    await login.token()
    assert await login.found_dead("token-of-before")
    assert server.count("lookup") == 0


@pytest.mark.parametrize("verdict", [Verdict.ANSWERED, Verdict.TIMED_OUT])
async def test_a_token_that_is_not_known_to_be_dead_is_kept(
    server: FakeServer, verdict: Verdict
) -> None:
    login = login_at(server)
    token = await login.token()
    server.verdicts["lookup"] = verdict
    assert not await login.found_dead(token)
    assert await login.token() == token
    assert server.count("login") == 1


async def test_a_token_replaced_during_the_lookup_stays(server: FakeServer) -> None:
    login = login_at(server)
    stale = await login.token()
    server.verdicts["lookup"] = Verdict.FORBIDDEN
    server.answers.clear()
    late = asyncio.create_task(login.found_dead(stale))
    await asyncio.sleep(0)
    login._drop(stale)
    other = asyncio.create_task(login.token())
    server.answers.set()
    assert await other == "token-2"
    assert await late
    assert await login.token() == "token-2"


async def test_a_login_outlives_the_waiter_that_began_it(server: FakeServer) -> None:
    """Its secret-id may be used up by now: the answer must not be lost."""
    login = login_at(server)
    server.answers.clear()
    waiter = asyncio.create_task(login.token())
    await server.until("login", 1)
    waiter.cancel()
    server.answers.set()
    assert await login.token() == "token-1"
    assert server.count("login") == 1


async def test_closing_waits_for_a_login_and_gives_its_token_back(server: FakeServer) -> None:
    login = login_at(server)
    server.answers.clear()
    waiter = asyncio.create_task(login.token())
    await server.until("login", 1)
    closing = asyncio.create_task(login.close())
    await asyncio.sleep(0)
    server.answers.set()
    await asyncio.gather(closing, waiter)
    assert server.asked[-1] == ("revoke", "token-1")


@pytest.mark.guards("T-63")
async def test_renewal_comes_at_two_thirds_of_the_life(server: FakeServer, clock: Clock) -> None:
    login = login_at(server)
    await login.start()
    for renewals in (1, 2, 3):
        await clock.advance(790)
        assert server.count("renew") == renewals - 1
        await clock.advance(20)
        await server.until("renew", renewals)
    assert server.count("login") == 1
    await login.close()


async def test_renewals_of_replicas_are_spread(server: FakeServer, clock: Clock) -> None:
    login = Login(INLINE, server.send, chance=lambda: 1.0)
    await login.start()
    await clock.advance(725)
    await server.until("renew", 1)
    await login.close()


async def test_a_renewal_that_fails_is_repeated_while_the_token_lives(
    server: FakeServer, clock: Clock
) -> None:
    server.verdicts["renew"] = Verdict.TIMED_OUT
    login = login_at(server)
    await login.start()
    await clock.advance(801)
    await server.until("renew", 1)
    assert await login.token() == "token-1"
    del server.verdicts["renew"]
    await clock.advance(270)  # two thirds of the remaining 399
    await server.until("renew", 2)
    await clock.advance(400)  # past the end of the first life
    assert server.count("renew") == 2
    await login.close()


@pytest.mark.guards("F-04")
async def test_a_token_that_cannot_be_renewed_any_more_is_replaced(
    server: FakeServer, clock: Clock
) -> None:
    server.verdicts["renew"] = Verdict.FORBIDDEN
    login = login_at(server)
    await login.start()
    await clock.advance(801)
    await server.until("login", 2)
    assert await login.token() == "token-2"
    await login.close()


async def test_a_token_that_is_not_renewable_is_replaced_in_time(
    server: FakeServer, clock: Clock
) -> None:
    server.renewable = False
    login = login_at(server)
    await login.start()
    await clock.advance(801)
    await server.until("login", 2)
    assert server.count("renew") == 0
    assert await login.token() == "token-2"
    await login.close()


async def test_a_renewal_that_comes_back_late_does_not_undo_a_new_login(
    server: FakeServer, clock: Clock
) -> None:
    login = login_at(server)
    await login.start()
    server.renewals.clear()
    await clock.advance(801)
    await server.until("renew", 1)
    login._drop("token-1")
    assert await login.token() == "token-2"
    server.renewals.set()
    await settled()
    assert await login.token() == "token-2"
    await login.close()


@pytest.mark.parametrize(
    "auth",
    [
        b"null",
        b'{"client_token":"t"}',
        b'{"client_token":"t","lease_duration":0}',
        b'{"client_token":"\xff","lease_duration":9}',
    ],
)
async def test_an_answer_without_a_token_that_ends_is_no_login(
    server: FakeServer, auth: bytes
) -> None:
    server.auth = lambda _token: auth
    with pytest.raises(KeysError):
        await login_at(server).token()


def test_credentials_print_nothing() -> None:
    assert "secret-1" not in repr(INLINE)
