"""One server of the test Vault: real HTTPS on loopback, in threads, with faults of its own."""

import json
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import trustme

from tests.vault.fake_transit import FakeVault, Refused, as_json
from vault.transit import VaultAccess


@dataclass(frozen=True)
class Received:
    """A request as it came over the wire."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Faults:
    """What is wrong with one node; all of it can be changed while it runs."""

    silent: bool = False  # takes the request, and says nothing until it is healed
    drips: bool = False  # answers one byte at a time
    loses_answers: int = 0  # so many requests are carried out, and the connection then closed
    replies: list[tuple[int, bytes]] = field(
        default_factory=list
    )  # instead of the truth, once each
    always: tuple[int, bytes] | None = None
    location: str = ""  # of those replies, where they redirect
    cookie: str = ""
    lag: int = 0  # key versions that have not reached it yet
    healed: threading.Event = field(default_factory=threading.Event)


class FakeNode:
    """A server in front of a `FakeVault`; several of them make a cluster."""

    def __init__(self, vault: FakeVault, tls: ssl.SSLContext) -> None:
        self.vault = vault
        self.faults = Faults()
        self.received: list[Received] = []
        self.connections = 0
        self._tls = tls
        self._server: _Server | None = None
        self.port = 0
        self.up()

    @property
    def address(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def up(self) -> None:
        self._server = _Server(self, self.port, self._tls)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def down(self) -> None:
        """End listening, and every connection with it."""
        self.faults.healed.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.hang_up()
            self._server.server_close()
            self._thread.join()
            self._server = None

    def paths(self) -> list[str]:
        return [received.path for received in self.received]


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, node: FakeNode, port: int, tls: ssl.SSLContext) -> None:
        self.node = node
        self._live: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)
        self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def process_request_thread(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        assert isinstance(request, socket.socket)
        self.node.connections += 1
        self._live.add(request)
        super().process_request_thread(request, client_address)
        self._live.discard(request)

    def hang_up(self) -> None:
        for connection in list(self._live):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that breaks off is what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    @property
    def _node(self) -> FakeNode:
        assert isinstance(self.server, _Server)
        return self.server.node

    def do_GET(self) -> None:
        self._handle()

    do_POST = do_PUT = do_PATCH = do_LIST = do_GET  # noqa: N815 - names of the library

    def _handle(self) -> None:
        reply = self._decide()
        if reply is None:
            self.close_connection = True
        else:
            self._reply(*reply)

    def _decide(self) -> tuple[int, bytes] | None:
        node = self._node
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        node.received.append(Received(self.command, self.path, dict(self.headers), body))
        faults = node.faults
        if faults.silent:
            faults.healed.wait(30)
            return None
        if faults.replies:
            return faults.replies.pop(0)
        if faults.always is not None:
            return faults.always
        reply = self._truth(body)
        if faults.loses_answers:
            faults.loses_answers -= 1
            return None
        return reply

    def _truth(self, body: bytes) -> tuple[int, bytes]:
        node = self._node
        url = urlsplit(self.path)
        path = url.path.removeprefix("/v1/")
        token = self.headers.get("X-Vault-Token", "")
        try:
            said = json.loads(body or b"{}") | dict(parse_qsl(url.query))
            answer = node.vault.answer(self.command, path, token, said, lag=node.faults.lag)
        except Refused as refusal:
            return refusal.status, json.dumps({"errors": refusal.errors}).encode()
        return answer.pop("status", 200 if answer else 204), as_json(answer) if answer else b""

    def _reply(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        if self._node.faults.location:
            self.send_header("Location", self._node.faults.location)
        if self._node.faults.cookie:
            self.send_header("Set-Cookie", self._node.faults.cookie)
        self.end_headers()
        if not self._node.faults.drips:
            self.wfile.write(content)
            return
        for n in range(len(content)):
            self.wfile.write(content[n : n + 1])
            self.wfile.flush()
            if self._node.faults.healed.wait(0.2):
                break

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the library
        pass


@dataclass
class FakeCluster:
    """A Vault for tests, its nodes, and how to get in."""

    vault: FakeVault
    nodes: list[FakeNode]
    ca_file: str
    tls: ssl.SSLContext
    folder: Path

    @property
    def node(self) -> FakeNode:
        return self.nodes[0]

    def access(self, role: str = "test", **changes: object) -> VaultAccess:
        """How to log in under a role: `tokenize`, `reveal`, or `test`, which may do anything."""
        settings: dict[str, object] = {
            "addresses": tuple(node.address for node in self.nodes),
            "ca_file": self.ca_file,
            "role_id": f"role-{role}",
            "secret_id": f"secret-{role}",
        }
        return VaultAccess(**{**settings, **changes})  # type: ignore[arg-type]


@contextmanager
def fake_cluster(nodes: int = 1) -> Iterator[FakeCluster]:
    """Run a test Vault of so many nodes under a certificate authority of its own."""
    ca = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(tls)
    vault = FakeVault()
    with tempfile.TemporaryDirectory() as folder:
        ca_file = Path(folder) / "ca.pem"
        ca.cert_pem.write_to_path(str(ca_file))
        cluster = FakeCluster(
            vault, [FakeNode(vault, tls) for _ in range(nodes)], str(ca_file), tls, Path(folder)
        )
        try:
            yield cluster
        finally:
            for node in cluster.nodes:
                node.down()
