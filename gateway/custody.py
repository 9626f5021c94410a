"""Opens the vault package's parts for a gateway, in their order, and closes them in reverse.

What is checked before anything is served is checked here: the database, the keys, the log. What
never lives here: listeners, and anything about a request.
"""

import hashlib
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from gateway.config import Config, vault_access
from gateway.config_file import LoginConfig
from gateway.metrics import Metrics
from vault.db import Database, check_server, migrate
from vault.deployment import (
    Boot,
    Pins,
    check_keys,
    check_log,
    check_login,
    put_start_on_record,
    put_stop_on_record,
    recognize,
    replica_name,
)
from vault.errors import CustodyError
from vault.ids import new_uuid7
from vault.keys import RevealKeys, TokenizeKeys
from vault.ledger.forms import base64url
from vault.ledger.store import Ledger
from vault.signed_history import check_history
from vault.signer_memory import SignerMemory
from vault.transit import Transit

VERSION: Final = "0.1.0"


def utc_now() -> datetime:
    """The clock of this process: the one place that reads it."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Custody:
    """The vault package's parts, open."""

    database: Database
    tokenize: Transit
    reveal: Transit
    pins: Pins
    ledger: Ledger
    memory: SignerMemory
    boot: Boot
    tokenize_keys: TokenizeKeys
    reveal_keys: RevealKeys


async def open_custody(config: Config, stack: AsyncExitStack, metrics: Metrics) -> Custody:
    runtime_dsn = config.secret(config.database.runtime_dsn_file)
    if config.database.owner_dsn_file is not None:
        owner_dsn = config.secret(config.database.owner_dsn_file)
        await migrate(owner_dsn, runtime_role=urlsplit(runtime_dsn).username or "")
    await check_server(runtime_dsn)
    tokenize = await _transit(config, config.vault.tokenize, stack, metrics)
    reveal = await _transit(config, config.vault.reveal, stack, metrics)
    await check_login(tokenize)
    keys = await check_keys(tokenize)
    database = await Database.open(runtime_dsn)
    stack.push_async_callback(database.close)
    pins = await recognize(
        database, tokenize, keys, env=config.env, origin=config.ledger.origin, at=utc_now()
    )
    await check_log(database)
    memory = SignerMemory(config.state_folder, reveal, origin=config.ledger.origin)
    await check_history(database, memory, reveal, origin=config.ledger.origin)
    boot = Boot(
        id=new_uuid7(utc_now()),
        replica=replica_name(config.state_folder),
        version=VERSION,
        config_hash=base64url(hashlib.sha256(config.path.read_bytes()).digest()),
    )
    ledger = Ledger(database, replica=boot.replica, boot=boot.id, now=utc_now, observer=metrics)
    ledger.start()
    stack.push_async_callback(ledger.close)
    await put_start_on_record(
        database,
        ledger,
        boot,
        env=config.env,
        origin=config.ledger.origin,
        public_key=await reveal.public_key("ledger"),
        now=utc_now,
    )
    stack.push_async_callback(_put_stop_on_record, ledger)
    tokenize_keys = TokenizeKeys(
        tokenize,
        config.env,
        fingerprint_version=pins.fingerprint_version,
        digest_version=pins.digest_version,
        observer=metrics,
    )
    stack.push_async_callback(tokenize_keys.close)
    reveal_keys = RevealKeys(
        reveal, config.env, digest_version=pins.digest_version, observer=metrics
    )
    stack.push_async_callback(reveal_keys.close)
    return Custody(
        database, tokenize, reveal, pins, ledger, memory, boot, tokenize_keys, reveal_keys
    )


async def _put_stop_on_record(ledger: Ledger) -> None:
    """An orderly end is on record; without a store it is one of the ends that are not."""
    try:
        await put_stop_on_record(ledger, now=utc_now)
    except CustodyError:
        return


async def _transit(
    config: Config, login: LoginConfig, stack: AsyncExitStack, metrics: Metrics
) -> Transit:
    transit = Transit(vault_access(config, login), observer=metrics)
    stack.push_async_callback(transit.close)
    await transit.start()
    return transit
