"""A certificate authority, and a server that answers what it is told, for every SDK's client."""

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from tests.sdks.driver import ENVIRONMENTS, Sdk
from tests.sdks.localstripe import LocalStripe


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
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@dataclass(frozen=True, slots=True)
class Canned:
    """An answer; None for its status closes the connection in place of one."""

    status: int | None
    body: bytes = b""
    content_type: str = "application/json"


@dataclass
class CannedServer:
    """Gives the same answer until it is told another, and remembers what came."""

    answer: Canned = field(default_factory=lambda: Canned(200, b"{}"))
    came: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        headers = {name.lower(): text for name, text in request.headers.items()}
        self.came.append((request.path, headers, await request.read()))
        if self.answer.status is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return web.Response(
            status=self.answer.status,
            body=self.answer.body,
            headers={"Content-Type": self.answer.content_type},
        )


@pytest.fixture
async def canned(server_context: ssl.SSLContext) -> AsyncIterator[CannedServer]:
    server = CannedServer()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context).start()
    server.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    assert runner.server is not None
    kept_alive = [each.transport for each in runner.server.connections if each.transport]
    await runner.cleanup()
    for transport in kept_alive:
        transport.abort()


class Sdks:
    """Each SDK's process, started when it is first asked for."""

    def __init__(self, folder: Path, ca_file: Path, stack: ExitStack) -> None:
        self._folder, self._ca_file, self._stack = folder, ca_file, stack
        self._started: dict[str, Sdk] = {}

    def __getitem__(self, name: str) -> Sdk:
        assert name in ENVIRONMENTS
        if name not in self._started:
            sdk = Sdk(name, self._folder / name, ca_file=self._ca_file)
            self._started[name] = self._stack.enter_context(sdk)
        return self._started[name]


@pytest.fixture(scope="session")
def sdks(ca_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sdks]:
    with ExitStack() as stack:
        yield Sdks(tmp_path_factory.mktemp("sdks"), ca_file, stack)


@pytest.fixture(scope="session")
def localstripe(
    server_context: ssl.SSLContext, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalStripe]:
    with LocalStripe(tmp_path_factory.mktemp("ls") / "at", server_context) as running:
        yield running
