"""The witness as a server: `POST /add-checkpoint`, and `GET /<log>/checkpoint` for auditors.

It knows nobody who asks: a checkpoint is its log's own word, and what is cosigned is public.
Answers are those of C2SP tlog-witness, in plain text. What never may live here: the rules, and
anything that is told before it is kept.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from secrets import SystemRandom
from typing import Final, TypeVar

from aiohttp import web
from cryptography import x509

from gateway.bodies import read_whole_body
from gateway.connections import Limits
from gateway.listeners import server_context, start_listener
from gateway.metrics import Metrics
from gateway.middleware import Gate, Net
from gateway.request_event import REQUEST_EVENT, EventLog
from gateway.witness.folder import witness_folder
from gateway.witness.held_checkpoints import Cosigned, HeldCheckpoints
from gateway.witness.identity import Identity
from gateway.witness.judgment import HeldOther, Logs, Refusal, asked
from vault.errors import StartRefused
from vault.ledger.checkpoint import origin_hash
from vault.ledger.note import ED25519, NoteRefused, VerifierKey

T = TypeVar("T")

BODY_BYTES_MAX: Final = 32_768  # 63 hashes, and a checkpoint with a few post-quantum signatures
CONNECTIONS_MAX: Final = 256
SHUTDOWN_SECONDS: Final = 5.0
SIZE_TYPE: Final = "text/x.tlog.size"

_STATUS: Final = {
    Refusal.MALFORMED: 400,
    Refusal.NOT_SIGNED: 403,
    Refusal.UNKNOWN_LOG: 404,
    Refusal.NO_EXTENSION: 422,
}


@dataclass(frozen=True, slots=True)
class WitnessSettings:
    """What a witness is started with."""

    folder: Path
    name: str
    address: tuple[str, int]
    certificate: Path
    private_key: Path
    logs: Logs
    hosts: frozenset[str] = frozenset()  # by which it is called, beside those of its certificate


@dataclass(frozen=True, slots=True)
class RunningWitness:
    """A witness that answers."""

    key: VerifierKey
    port: int


class Witness:
    """The handlers. What is held is looked at in a thread of its own, one request at a time."""

    def __init__(
        self,
        identity: Identity,
        held: HeldCheckpoints,
        logs: Logs,
        *,
        now: Callable[[], datetime],
        thread: ThreadPoolExecutor,
    ) -> None:
        self._identity = identity
        self._held = held
        self._logs = logs
        self._origins = {origin_hash(origin): origin for origin in logs}
        self._now = now
        self._thread = thread

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/add-checkpoint", self.add)
        app.router.add_get("/{log:[0-9a-f]{64}}/checkpoint", self.latest, allow_head=False)
        return app

    async def add(self, request: web.Request) -> web.Response:
        """`POST /add-checkpoint`: cosign what extends what is held."""
        asking = asked(await read_whole_body(request, BODY_BYTES_MAX), self._logs)
        if isinstance(asking, Refusal):
            return _refused(request, asking)
        at = int(self._now().timestamp())
        answer = await self._in_thread(
            lambda: self._held.add(
                asking, lambda: self._identity.cosign(asking.checkpoint.text, at)
            )
        )
        match answer:
            case Cosigned(signature):
                return web.Response(text=signature.line)
            case HeldOther(size):
                request[REQUEST_EVENT].code = "held_other"
                headers = {"Content-Type": SIZE_TYPE}  # exactly: clients compare it
                return web.Response(status=409, body=f"{size}\n".encode(), headers=headers)
            case Refusal():
                return _refused(request, answer)

    async def latest(self, request: web.Request) -> web.Response:
        """`GET /<SHA-256 of the origin>/checkpoint`: what was last cosigned of a log."""
        origin = self._origins.get(request.match_info["log"])
        note = None
        if origin is not None:
            note = await self._in_thread(lambda: self._held.latest(origin))
        if note is None:
            return _refused(request, Refusal.UNKNOWN_LOG)
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        return web.Response(body=note, headers=headers)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _refused(request: web.Request, refusal: Refusal) -> web.Response:
    request[REQUEST_EVENT].code = refusal
    return web.Response(status=_STATUS[refusal], text=f"{refusal}\n")


@asynccontextmanager
async def running_witness(
    settings: WitnessSettings, log: EventLog, metrics: Metrics, *, now: Callable[[], datetime]
) -> AsyncIterator[RunningWitness]:
    """Serve until the block ends. Raises StartRefused."""
    context = server_context(settings.certificate, settings.private_key)
    hosts = settings.hosts | {settings.address[0], "localhost"} | names_of(settings.certificate)
    net = Net("witness", Gate(hosts=hosts), log=log, metrics=metrics, chance=SystemRandom().random)
    limits = Limits(shutdown_seconds=SHUTDOWN_SECONDS, connections_max=CONNECTIONS_MAX)
    with (
        witness_folder(settings.folder, settings.name) as (identity, held),
        ThreadPoolExecutor(1, "witness") as thread,
    ):
        witness = Witness(identity, held, settings.logs, now=now, thread=thread)
        listener = await start_listener(
            witness.application(), context, settings.address, net=net, limits=limits
        )
        try:
            yield RunningWitness(identity.key, listener.port)
        finally:
            await listener.close()


def logs_of(texts: Iterable[str]) -> Logs:
    """Read the keys of logs, as they are given on the command line. Raises StartRefused."""
    logs: dict[str, tuple[VerifierKey, ...]] = {}
    for text in texts:
        try:
            key = VerifierKey.parse(text)
        except NoteRefused:
            key = None
        if key is None or key.kind != ED25519:
            raise StartRefused("--log: this is not the key of a log: name+id+key, of Ed25519")
        logs[key.name] = (*logs.get(key.name, ()), key)
    return logs


def names_of(certificate: Path) -> frozenset[str]:
    """Return the names and addresses that a certificate is for: by these the witness is called."""
    try:
        leaf = x509.load_pem_x509_certificate(certificate.read_bytes())
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (OSError, ValueError, x509.ExtensionNotFound):
        return frozenset()
    names = extension.value
    return frozenset(
        {
            *(name.lower() for name in names.get_values_for_type(x509.DNSName)),
            *(str(address) for address in names.get_values_for_type(x509.IPAddress)),
        }
    )
