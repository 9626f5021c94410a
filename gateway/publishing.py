"""Wires what makes the ledger one that an auditor can check: publisher, witnesses, files, watches.

What never may live here: how any of it works, which is custody's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from gateway.addresses import AddressAllow
from gateway.config import Config
from gateway.config_file import WitnessConfig
from gateway.custody import Custody, utc_now
from gateway.https_client import HttpsClient
from gateway.metrics import Metrics
from gateway.request_event import EventLog, Incident, RequestEvent
from gateway.witness_client import REPLY_BYTES_MAX, HttpsWitness, witness_key
from vault.cosignature_table import CosignatureTable
from vault.db import Database
from vault.denials import Denials
from vault.disk_reserve import DiskReserve, Reserve
from vault.errors import CustodyError
from vault.export import ExportConflict, ExportRefused, copy_checkpoint, export
from vault.freshness import CHECK_SECONDS, Freshness, Limits
from vault.ledger.forms import DeniedCause
from vault.ledger.note import ED25519, Note, VerifierKey
from vault.milestones import Milestones
from vault.proven_log import LogBroken
from vault.published import PublishedLog
from vault.publisher import PUBLISH_SECONDS, Publisher
from vault.scrub import Scrub
from vault.seals import Seals
from vault.server_watch import ServerWatch
from vault.witnessing import SHOW_SECONDS, Witnesses

SERVER_LOOK_SECONDS: Final = 60.0
DENIALS_SECONDS: Final = 10.0
SCRUB_SECONDS: Final = 5.0

DENIED: Final[Mapping[str, DeniedCause]] = {
    "not_authenticated": "key",
    "not_permitted": "scope",
    "signature_refused": "signature",
    "callback_refused": "signature",
    "egress_denied": "egress",
}
"""Refusals, by their code, that are put on record."""

Duty = tuple[float, Callable[[], Awaitable[None]]]


@dataclass(frozen=True, slots=True)
class Publishing:
    """The parts, and what they do on a clock."""

    seals: Seals
    log: PublishedLog
    publisher: Publisher
    denials: Denials
    milestones: Milestones
    duties: Sequence[Duty]

    def denied(self, event: RequestEvent, address: str | None) -> None:
        """Count a refusal that belongs on record (PCI DSS 10.2.1.4)."""
        cause = DENIED.get(event.code or "")
        if cause is not None:
            self.denials.note(cause, tenant=event.tenant, source_address=address)

    def foreign_token(self, tenant: str) -> None:
        """Count a tenant's try at a token that is another's."""
        self.denials.note("foreign_token", tenant=tenant, source_address=None)


async def open_publishing(
    config: Config,
    custody: Custody,
    stack: AsyncExitStack,
    log: EventLog,
    metrics: Metrics,
    milestones: Milestones,
) -> Publishing:
    """Open them; nothing is signed before the duties run. Raises StartRefused, StoreUnavailable."""
    seals = Seals(custody.database, custody.ledger, now=utc_now)
    published = PublishedLog(custody.database)
    witnesses = await _witnesses(config, custody, published, seals, stack, metrics)
    publisher = Publisher(
        origin=config.ledger.origin,
        database=custody.database,
        signing=custody.reveal,
        memory=custody.memory,
        seals=seals,
        now=utc_now,
        observer=metrics,
        overlap=timedelta(days=config.ledger.key_overlap_days),
        witnesses=witnesses,
        export=_exporting(config, custody, log),
        milestones=milestones,
    )
    stack.push_async_callback(publisher.close)
    denials = Denials(custody.ledger, now=utc_now)
    stack.push_async_callback(denials.close)
    return Publishing(
        seals,
        published,
        publisher,
        denials,
        milestones,
        (
            *publisher.duties(),
            (PUBLISH_SECONDS, _watched_seals(seals, publisher, metrics)),
            (PUBLISH_SECONDS, DiskReserve(custody.ledger, _reserves(config)).look),
            (CHECK_SECONDS, _freshness(config, custody, seals, log, metrics).check),
            (SERVER_LOOK_SECONDS, ServerWatch(custody.ledger, custody.database.dsn).look),
            (DENIALS_SECONDS, denials.flush),
            (SCRUB_SECONDS, _scrubbing(custody, seals, publisher)),
        ),
    )


def _watched_seals(
    seals: Seals, publisher: Publisher, metrics: Metrics
) -> Callable[[], Awaitable[None]]:
    async def watch() -> None:
        """Every replica stops and goes on with the others."""
        metrics.ledger_publisher(elected=publisher.is_elected)
        try:
            await seals.watch()
        except CustodyError:
            return

    return watch


def _scrubbing(
    custody: Custody, seals: Seals, publisher: Publisher
) -> Callable[[], Awaitable[None]]:
    scrub = Scrub(custody.database, seals, now=utc_now)

    async def turn() -> None:
        """One gateway reads everything again, the one that signs."""
        if publisher.is_elected:
            try:
                await scrub.turn()
            except CustodyError:
                return

    return turn


# --- witnesses ----------------------------------------------------------------------------


async def _witnesses(
    config: Config,
    custody: Custody,
    published: PublishedLog,
    seals: Seals,
    stack: AsyncExitStack,
    metrics: Metrics,
) -> Witnesses:
    clients = [_witness(config, one, metrics) for one in config.ledger.witnesses]
    for client in clients:
        stack.push_async_callback(client.close)

    async def log_keys() -> Sequence[VerifierKey]:
        versions = await custody.reveal.public_keys("ledger")
        return [VerifierKey(config.ledger.origin, ED25519, key) for key in versions.values()]

    witnesses = Witnesses(
        clients,
        published,
        CosignatureTable(custody.database),
        seals,
        quorum=config.ledger.quorum,
        now=utc_now,
        watch=metrics,
        log_keys=log_keys,
    )
    await witnesses.recall()
    return witnesses


def _witness(config: Config, witness: WitnessConfig, metrics: Metrics) -> HttpsWitness:
    client = HttpsClient(
        witness.url,
        metrics,
        name=witness.name,
        ca_file=config.file(witness.ca_file) if witness.ca_file is not None else None,
        address_allow=AddressAllow.parse(witness.address_allow),
        timeout_seconds=SHOW_SECONDS,
        reply_bytes_max=REPLY_BYTES_MAX,
    )
    return HttpsWitness(witness.name, witness_key(witness.vkey), client)


# --- files --------------------------------------------------------------------------------


def _exporting(
    config: Config, custody: Custody, log: EventLog
) -> Callable[[Note], Awaitable[None]]:
    ledger = config.ledger
    folder = config.file(ledger.export_folder) if ledger.export_folder is not None else None
    copies = config.file(ledger.checkpoint_folder) if ledger.checkpoint_folder is not None else None

    async def exporting(note: Note) -> None:
        """Files are for others: what goes wrong there is told, and holds nothing up."""
        try:
            if folder is not None:
                await asyncio.to_thread(asyncio.run, _export(custody.database.dsn, folder))
            if copies is not None:
                await asyncio.to_thread(copy_checkpoint, copies, note)
        except (ExportRefused, ExportConflict, LogBroken) as refused:
            log.incident(Incident("ledger_export_failed", level="error", error=str(refused)))
        except CustodyError as error:
            log.incident(Incident("ledger_export_failed", level="error", error=error.code))

    return exporting


async def _export(dsn: str, folder: Path) -> None:
    """In a thread, with connections of its own: it waits for disks."""
    database = await Database.open(dsn)
    try:
        await export(PublishedLog(database), folder)
    finally:
        await database.close()


# --- watches ------------------------------------------------------------------------------


def _freshness(
    config: Config, custody: Custody, seals: Seals, log: EventLog, metrics: Metrics
) -> Freshness:
    ledger = config.ledger
    return Freshness(
        custody.database,
        seals,
        Limits(
            checkpoint=timedelta(seconds=ledger.stale_checkpoint_seconds),
            cosignature=timedelta(seconds=ledger.stale_cosignature_seconds),
            quorum=max(ledger.quorum, 1) if ledger.witnesses else 0,
            witnesses=frozenset(witness.name for witness in ledger.witnesses),
            seals=ledger.on_stale == "seal",
        ),
        now=utc_now,
        observer=metrics,
        changed=lambda late: log.incident(
            Incident("ledger_stale" if late else "ledger_fresh", level="error" if late else None)
        ),
    )


def _reserves(config: Config) -> Sequence[Reserve]:
    """The spool's volume, and the database's where it is one of this machine."""
    paths = [config.state_folder]
    if config.database.volume is not None:
        paths.append(config.file(config.database.volume))
    return [Reserve(path, config.ledger.reserve_bytes) for path in paths]
