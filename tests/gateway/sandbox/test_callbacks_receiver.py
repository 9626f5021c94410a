"""The merchant's receiver of the flow tests: what it is told to do, it does on a real wire."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.flows import receiver as scripts
from tests.flows.receiver import Receiver, Script


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with Receiver.started(tmp_path) as started:
        yield started


@pytest.fixture
async def client(receiver: Receiver) -> AsyncIterator[aiohttp.ClientSession]:
    context = ssl.create_default_context(cafile=str(receiver.ca_file))
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


async def statuses(client: aiohttp.ClientSession, url: str, times: int) -> list[int]:
    found = []
    for _ in range(times):
        async with client.post(url, data=b"event", allow_redirects=False) as reply:
            await reply.read()
            found.append(reply.status)
    return found


async def test_keeps_requests_as_they_came(
    receiver: Receiver, client: aiohttp.ClientSession
) -> None:
    headers = [("X-One", "1"), ("x-tWo", "2")]
    for body in (b"first\r\n\r\n\xff", b"", b"third"):
        url = receiver.url("/hook?a=1")
        async with client.post(url, data=body, headers=headers) as reply:
            assert reply.status == 200
    arrivals = receiver.arrivals("/hook")
    assert [each.body for each in arrivals] == [b"first\r\n\r\n\xff", b"", b"third"]
    assert [each.number for each in arrivals] == [1, 2, 3]
    assert len({each.connection for each in arrivals}) == 1
    first = arrivals[0]
    assert (first.method, first.target, first.path) == ("POST", "/hook?a=1", "/hook")
    names = [name for name, _ in first.headers]
    assert names[names.index("X-One") + 1] == "x-tWo"
    assert first.header("x-two") == "2"
    assert first.header("x-three") is None
    receiver.forget()
    assert receiver.arrivals() == ()


async def test_takes_chunks(receiver: Receiver, client: aiohttp.ClientSession) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    async with client.post(receiver.url(), data=pieces()) as reply:
        assert reply.status == 200
    [arrival] = await receiver.arrived(1)
    assert arrival.body == b"one two"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (scripts.ok(), [200, 200]),
        (scripts.ok(204), [204]),
        (scripts.slow(0.01), [200]),
        (scripts.slow(0.01, scripts.gone()), [410]),
        (scripts.gone(), [410, 410]),
        (scripts.failing(times=2), [500, 500, 200, 200]),
        (scripts.failing(502), [502, 502]),
        (scripts.flapping(down=2, up=1), [503, 503, 200, 503, 503, 200]),
        (scripts.redirect("https://elsewhere.example/"), [307]),
        (scripts.retry_after("1"), [503, 200]),
        (scripts.in_turn(scripts.ok(201), scripts.gone()), [201, 410, 410]),
    ],
)
async def test_statuses(
    receiver: Receiver, client: aiohttp.ClientSession, script: Script, expected: list[int]
) -> None:
    receiver.script("/hook", script)
    assert await statuses(client, receiver.url("/hook"), len(expected)) == expected
    assert await statuses(client, receiver.url("/other"), 1) == [200]


async def test_headers_of_answers(receiver: Receiver, client: aiohttp.ClientSession) -> None:
    receiver.script("/later", scripts.retry_after("7", status=429))
    receiver.script("/away", scripts.redirect("https://elsewhere.example/", 302))
    async with client.post(receiver.url("/later")) as reply:
        assert (reply.status, reply.headers["Retry-After"]) == (429, "7")
    async with client.post(receiver.url("/away"), allow_redirects=False) as reply:
        assert reply.headers["Location"] == "https://elsewhere.example/"


async def test_a_huge_body(receiver: Receiver, client: aiohttp.ClientSession) -> None:
    receiver.script("/huge", scripts.huge(300_000))
    async with client.post(receiver.url("/huge")) as reply:
        assert len(await reply.read()) == 300_000
    receiver.script("/huge", scripts.huge(10**12))
    async with client.post(receiver.url("/huge")) as reply:
        assert len(await reply.content.readexactly(100_000)) == 100_000
        reply.close()


async def test_the_dead_and_those_who_hang_up(
    receiver: Receiver, client: aiohttp.ClientSession
) -> None:
    receiver.script("/dead", scripts.dead())
    receiver.script("/gone", scripts.hung_up())
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await statuses(client, receiver.url("/gone"), 1)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(statuses(client, receiver.url("/dead"), 1))
        await receiver.arrived(1, "/dead")
        assert await statuses(client, receiver.url("/alive"), 1) == [200]  # delays no other
        assert not waiting.done()
        waiting.cancel()


async def test_away_and_back_on_the_same_port(
    receiver: Receiver, client: aiohttp.ClientSession
) -> None:
    assert await statuses(client, receiver.url(), 1) == [200]
    with receiver.away(), pytest.raises(aiohttp.ClientConnectionError):
        await statuses(client, receiver.url(), 2)
    assert await statuses(client, receiver.url(), 1) == [200]


async def test_its_certificate_is_its_own_authoritys(receiver: Receiver) -> None:
    async with aiohttp.ClientSession() as stranger:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await statuses(stranger, receiver.url(), 1)
    assert receiver.arrivals() == ()


def test_says_how_many_came(receiver: Receiver) -> None:
    with pytest.raises(AssertionError, match="0 of 1 came"):
        receiver.until(1, seconds=0.01)
