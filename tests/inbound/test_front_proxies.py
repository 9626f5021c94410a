"""Behind nginx and HAProxy as ops run them: the right client, the right bytes, kept connections."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import aiohttp
import pytest
import trustme

from tests.inbound.framing import Way, direct, exchange
from tests.inbound.front_proxies import FRONTS, Front, running_front, version
from tests.inbound.stage import InboundStage

pytestmark = pytest.mark.embedded

CLIENT = "127.0.0.2"
"""Loopback too, but no reverse proxy that is trusted."""
CLAIMED = "192.0.2.77"
BINARY = bytes(range(256)) * 4096


@pytest.fixture(scope="module", params=FRONTS)
def front(
    request: pytest.FixtureRequest, inbound: InboundStage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    with _in_front(
        request.param, inbound, tmp_path_factory.mktemp("front"), inbound.ca_file
    ) as one:
        yield one


def _in_front(
    kind: str, inbound: InboundStage, folder: Path, ca_file: Path
) -> AbstractContextManager[Front]:
    return running_front(
        kind, folder, upstream_port=inbound.port, hostname=inbound.hostname, ca_file=ca_file
    )


@pytest.mark.parametrize("kind", FRONTS)
def test_it_is_the_distributions(kind: str) -> None:
    assert kind in version(kind).lower()


async def test_everything_passes_as_it_was_sent(inbound: InboundStage, front: Front) -> None:
    headers = {"Host": inbound.hostname, "X-Own": "a; b", "Content-Type": "application/x-own"}
    url = f"http://127.0.0.1:{front.port}/v/a-b/c~d.e/seen?x=%20&y"
    async with aiohttp.ClientSession() as session:
        for _ in range(3):
            async with session.put(url, data=BINARY, headers=headers) as response:
                assert response.status == 200, await response.text()
                told = await response.json()
            assert told["method"] == "PUT"
            assert told["body_sha256"] == hashlib.sha256(BINARY).hexdigest()
            arrived = {name.lower(): value for name, value in told["headers"]}
            assert arrived["host"] == inbound.hostname
            assert arrived["x-own"] == "a; b"
            assert arrived["content-type"] == "application/x-own"


async def test_an_answer_streams_back_whole(inbound: InboundStage, front: Front) -> None:
    url = f"http://127.0.0.1:{front.port}/v/stream?bytes=3000000"
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers={"Host": inbound.hostname}) as response,
    ):
        assert len(await response.read()) == 3_000_000


@pytest.mark.guards("T-06")
async def test_the_application_hears_who_called(inbound: InboundStage, front: Front) -> None:
    """The proxy says who it was; what the client claimed stands left of that."""
    way = Way(front.kind, front.port, source=CLIENT)
    told = _told(await exchange(way, _asking(inbound)))
    hops = [hop.strip() for hop in told["x-forwarded-for"].split(",")]
    assert CLIENT in hops
    assert CLAIMED not in hops[hops.index(CLIENT) :]
    assert told["x-forwarded-proto"] == "https"


@pytest.mark.guards("T-06")
async def test_a_caller_who_is_no_proxy_is_not_believed(inbound: InboundStage) -> None:
    straight = direct(inbound.port, inbound.hostname, inbound.ca_file)
    way = Way("direct", straight.port, straight.context, straight.hostname, source=CLIENT)
    told = _told(await exchange(way, _asking(inbound)))
    assert told["x-forwarded-for"] == CLIENT
    assert CLAIMED not in json.dumps(told)


@pytest.mark.parametrize("kind", FRONTS)
async def test_a_proxy_that_verifies_does_not_talk_to_another_authoritys_listener(
    kind: str, inbound: InboundStage, tmp_path: Path
) -> None:
    """Else the tests above would say nothing of the listener's certificate."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    mark = len(inbound.merchant.requests)
    with _in_front(kind, inbound, tmp_path, tmp_path / "other.pem") as front:
        received = await exchange(Way(kind, front.port), _asking(inbound))
    assert received.startswith((b"HTTP/1.1 502", b"HTTP/1.1 503"))
    assert inbound.merchant.since(mark) == []


def _asking(inbound: InboundStage) -> bytes:
    lines = (
        "GET /v/seen HTTP/1.1",
        f"Host: {inbound.hostname}",
        f"X-Forwarded-For: {CLAIMED}",
        f"Forwarded: for={CLAIMED};proto=http",
        "X-Forwarded-Proto: http",
        "Connection: close",
        "",
        "",
    )
    return "\r\n".join(lines).encode()


def _told(received: bytes) -> dict[str, str]:
    """Read what the application says that it was told."""
    body = received[received.index(b"{") : received.rindex(b"}") + 1]
    return {name.lower(): value for name, value in json.loads(body)["headers"]}
