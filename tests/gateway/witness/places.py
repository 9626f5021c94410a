"""A running witness for tests: in this process, over real TLS, with the real client."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import trustme

from gateway.addresses import AddressAllow
from gateway.https_client import HttpsClient, Unwatched
from gateway.metrics import Metrics
from gateway.request_event import EventLog, quiet_logging
from gateway.witness.service import RunningWitness, WitnessSettings, running_witness
from gateway.witness_client import REPLY_BYTES_MAX, HttpsWitness
from tests.gateway.witness.signed_log import SignedLog

NAME = "witness.example/w1"
LOOPBACK = AddressAllow.parse(["127.0.0.1/32"])
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Tls:
    """An authority, and the certificate of a server at localhost."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        leaf = authority.issue_cert("localhost", "127.0.0.1", "witness.test")
        self.ca_file = folder / "ca.pem"
        self.certificate = folder / "chain.pem"
        self.private_key = folder / "key.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        self.certificate.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(str(self.private_key))


@dataclass
class Place:
    """Where a witness lives, through its starts."""

    folder: Path
    tls: Tls
    logs: list[SignedLog]
    name: str = NAME
    now: Callable[[], datetime] = lambda: START
    told: BytesIO = field(default_factory=BytesIO)

    def settings(self, port: int = 0) -> WitnessSettings:
        return WitnessSettings(
            folder=self.folder,
            name=self.name,
            address=("127.0.0.1", port),
            certificate=self.tls.certificate,
            private_key=self.tls.private_key,
            logs={log.key.name: (log.key,) for log in self.logs},
        )

    def arguments(self, port: int) -> list[str]:
        """Say the same on the command line."""
        told = {
            "--folder": self.folder,
            "--name": self.name,
            "--listen": f"127.0.0.1:{port}",
            "--certificate-file": self.tls.certificate,
            "--private-key-file": self.tls.private_key,
        }
        logs = [part for log in self.logs for part in ("--log", log.key.text)]
        return [*(str(part) for pair in told.items() for part in pair), *logs]

    @asynccontextmanager
    async def started(self, port: int = 0) -> AsyncIterator[RunningWitness]:
        metrics = Metrics()
        log = EventLog(self.told, now=self.now, watch=metrics)
        with quiet_logging(log):
            async with running_witness(self.settings(port), log, metrics, now=self.now) as running:
                yield running

    @asynccontextmanager
    async def https(self, port: int) -> AsyncIterator[HttpsClient]:
        client = HttpsClient(
            f"https://localhost:{port}",
            Unwatched(),
            name="witness",
            ca_file=self.tls.ca_file,
            address_allow=LOOPBACK,
            reply_bytes_max=REPLY_BYTES_MAX,
        )
        try:
            yield client
        finally:
            await client.close()

    @asynccontextmanager
    async def asked(self) -> AsyncIterator[HttpsWitness]:
        """Start it, and give the way to it."""
        async with self.started() as running, self.https(running.port) as client:
            yield HttpsWitness(self.name, running.key, client)
