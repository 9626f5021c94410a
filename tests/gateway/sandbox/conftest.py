"""A simulated processor on TLS, and the official SDK to call it."""

import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
import trustme

from gateway.sandbox.processor import Processor, Running
from tests.gateway.sandbox.harness import API_KEY, OTHER_KEY, Clock, Sdk


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return file


@pytest.fixture(scope="session")
def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@pytest.fixture(scope="session")
def sdk(ca_file: Path) -> Iterator[Sdk]:
    with Sdk(ca_file) as client:
        yield client


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def processor(clock: Clock) -> Processor:
    return Processor([API_KEY, OTHER_KEY], now=clock, remember_numbers=True)


@pytest.fixture
async def running(processor: Processor, server_context: ssl.SSLContext) -> AsyncIterator[Running]:
    async with processor.serve(server_context) as running:
        yield running
    assert processor.counts.faults == 0


@pytest.fixture
async def http(running: Running, ca_file: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """A plain client, for what the SDK would hide."""
    context = ssl.create_default_context(cafile=str(ca_file))
    async with aiohttp.ClientSession(
        running.url,
        connector=aiohttp.TCPConnector(ssl=context),
        headers={"Authorization": f"Bearer {API_KEY}"},
    ) as session:
        yield session
