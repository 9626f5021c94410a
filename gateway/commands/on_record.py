"""An operator's act from the command line that belongs on record.

The command is a boot of its own, under a replica's name of its own: what it appends is placed
and counted like a gateway's. It asks nothing of a running gateway, which must not be able to act
for an operator.
"""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from gateway.config import Config, vault_access
from gateway.custody import VERSION, utc_now
from vault.db import Database, check_server
from vault.deployment import (
    Boot,
    check_log,
    put_start_on_record,
    put_stop_on_record,
    replica_name,
    state_folder_of_one,
)
from vault.ids import new_uuid7
from vault.ledger.entry import Actor
from vault.ledger.forms import base64url
from vault.ledger.store import Ledger
from vault.observer import Silent
from vault.signed_history import check_history
from vault.signer_memory import SignerMemory
from vault.transit import Transit

CONSOLE: Final = Actor(id="op_console", kind="operator")
"""Whoever has the deployment's command line: named operators have ids of their own."""


@dataclass(frozen=True, slots=True)
class OnRecord:
    """What an act is put on record with."""

    config: Config
    database: Database
    ledger: Ledger
    reveal: Transit


@asynccontextmanager
async def on_record(
    config: Config, *, checked: bool = True, folder: str = "console"
) -> AsyncIterator[OnRecord]:
    """Open a ledger's writer for one act; its start and its stop are on record too.

    Like a gateway it does not write to a log that does not extend what was signed; not `checked`
    is for the act that teaches lost memories. One act at a time has a `folder` and its replica's
    name: an act that takes hours has one of its own, so that no other waits for it.

    Raises StartRefused; any KeysError; StoreUnavailable; LedgerUnavailable.
    """
    own = config.state_folder / folder
    with state_folder_of_one(own):
        runtime_dsn = config.secret(config.database.runtime_dsn_file)
        await check_server(runtime_dsn)
        reveal = Transit(vault_access(config, config.vault.reveal), observer=Silent())
        database = await Database.open(runtime_dsn)
        boot = Boot(
            id=new_uuid7(utc_now()),
            replica=replica_name(own),
            version=VERSION,
            config_hash=base64url(hashlib.sha256(config.path.read_bytes()).digest()),
        )
        ledger = Ledger(
            database, replica=boot.replica, boot=boot.id, now=utc_now, observer=Silent()
        )
        try:
            await reveal.start()
            await check_log(database)
            if checked:
                memory = SignerMemory(config.state_folder, reveal, origin=config.ledger.origin)
                await check_history(database, memory, reveal, origin=config.ledger.origin)
            ledger.start()
            await put_start_on_record(
                database,
                ledger,
                boot,
                env=config.env,
                origin=config.ledger.origin,
                public_key=await reveal.public_key("ledger"),
                now=utc_now,
            )
            yield OnRecord(config, database, ledger, reveal)
            await put_stop_on_record(ledger, now=utc_now)
        finally:
            await ledger.close()
            await reveal.close()
            await database.close()
