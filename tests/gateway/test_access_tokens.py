"""An exchange of a key for an access token: once, shared, and kept no longer than it is good."""

import asyncio
import base64
import json

import pytest

from gateway.access_tokens import LIFE_SECONDS_MAX, AccessTokens, granted_here
from gateway.errors import CredentialsRefused, UpstreamUnavailable
from gateway.exchange import Failure, NotSent, Outcome, Phase, Replied, Unknown

LOGIN = ("client", "secret")


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


class Processor:
    """Gives tokens, numbered; or what it is told to."""

    def __init__(self, expires_in: float = 9000) -> None:
        self.asked: list[tuple[dict[str, str], bytes]] = []
        self.expires_in = expires_in
        self.outcome: Outcome | None = None

    async def __call__(self, headers: tuple[tuple[str, str], ...], body: bytes) -> Outcome:
        self.asked.append((dict(headers), body))
        await asyncio.sleep(0)
        if self.outcome is not None:
            return self.outcome
        granted = {"access_token": f"A{len(self.asked)}", "expires_in": self.expires_in}
        return Replied(200, (), json.dumps(granted).encode(), 1.0, 1.0)


async def test_the_exchange_is_as_the_rfc_has_it() -> None:
    processor = Processor()
    assert await AccessTokens(Clock()).of("t_1", LOGIN, processor) == "A1"
    ((headers, body),) = processor.asked
    assert headers["Authorization"] == "Basic " + base64.b64encode(b"client:secret").decode()
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert body == b"grant_type=client_credentials"


async def test_however_many_ask_one_request_is_made() -> None:
    processor, tokens = Processor(), AccessTokens(Clock())
    found = await asyncio.gather(*(tokens.of("t_1", LOGIN, processor) for _ in range(20)))
    assert set(found) == {"A1"}
    assert len(processor.asked) == 1


@pytest.mark.guards("T-50")
async def test_tenants_and_logins_share_no_token() -> None:
    processor, tokens = Processor(), AccessTokens(Clock())
    assert await tokens.of("t_1", LOGIN, processor) == "A1"
    assert await tokens.of("t_2", LOGIN, processor) == "A2"
    assert await tokens.of("t_1", ("client", "rotated"), processor) == "A3"
    assert await tokens.of("t_2", LOGIN, processor) == "A2"


@pytest.mark.parametrize(("expires_in", "good_for"), [(300, 240), (90_000, LIFE_SECONDS_MAX)])
async def test_a_token_is_asked_for_anew_before_it_ends(expires_in: float, good_for: float) -> None:
    clock, processor = Clock(), Processor(expires_in)
    tokens = AccessTokens(clock)
    assert await tokens.of("t_1", LOGIN, processor) == "A1"
    clock.time += good_for - 0.5
    assert await tokens.of("t_1", LOGIN, processor) == "A1"
    clock.time += 1
    assert await tokens.of("t_1", LOGIN, processor) == "A2"


async def test_one_that_was_not_taken_is_forgotten() -> None:
    processor, tokens = Processor(), AccessTokens(Clock())
    await tokens.of("t_1", LOGIN, processor)
    tokens.forget("t_1")
    assert await tokens.of("t_1", LOGIN, processor) == "A2"


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_login_that_is_refused_is_said_so(status: int) -> None:
    processor = Processor()
    processor.outcome = Replied(status, (), b"{}", 1.0, 1.0)
    with pytest.raises(CredentialsRefused):
        await AccessTokens(Clock()).of("t_1", LOGIN, processor)


@pytest.mark.parametrize(
    "outcome",
    [
        NotSent(Phase.CONNECT, Failure.UNREACHABLE),
        Unknown(Phase.SENT, Failure.TIMEOUT, None),
        Replied(500, (), b"{}", 1.0, 1.0),
        Replied(200, (), b"not json", 1.0, 1.0),
        Replied(200, (), b'{"access_token": ""}', 1.0, 1.0),
        Replied(200, (), b'{"access_token": "a\\nb", "expires_in": 300}', 1.0, 1.0),
    ],
    ids=["down", "timeout", "500", "text", "empty", "split"],
)
async def test_without_an_answer_nothing_is_sent_and_a_repeat_may_help(outcome: Outcome) -> None:
    clock, processor = Clock(), Processor()
    tokens = AccessTokens(clock)
    processor.outcome = outcome
    for _ in range(3):  # those who waited do not fail one after the other
        with pytest.raises(UpstreamUnavailable):
            await tokens.of("t_1", LOGIN, processor)
    assert len(processor.asked) == 1
    processor.outcome = None
    clock.time += 1
    assert await tokens.of("t_1", LOGIN, processor) == "A2"


def test_an_sdk_gets_its_own_key_back() -> None:
    assert granted_here("pwsk_test_x")["access_token"] == "pwsk_test_x"
    assert granted_here("pwsk_test_x")["token_type"] == "Bearer"
