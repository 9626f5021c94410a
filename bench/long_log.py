"""A long log, made at once: as many entries as somebody wants to check.

As a gateway would have written it, but for the time that takes: entries by the code that writes
leaves, rows, tiles' hashes, and a signed checkpoint for every second at 5,000 entries a second.
Not in a deployment's own log: in a schema of the bench's own.
"""

import secrets
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from vault.authorization import Kind, Result
from vault.db import migrate
from vault.embedded.layout import RUNTIME
from vault.ids import new_uuid7
from vault.ledger.checkpoint import Checkpoint
from vault.ledger.entry import (
    Actor,
    AuthorizationAttempted,
    AuthorizationCompleted,
    Draft,
    Entry,
    GatewayStarted,
    LogOpened,
    Opening,
    Stamp,
    TokenCreated,
    encode,
)
from vault.ledger.forms import base64url
from vault.ledger.note import Note, signed, verifier_key
from vault.ledger.tiles import TILE_WIDTH, tile_root
from vault.ledger.tree import CompactRange, leaf_hash
from vault.tokens import new_token

ORIGIN: Final = "bench.example/log"
TENANT: Final = "t_7k2m9x4dq1"
CHUNK_ENTRIES: Final = 50_000
ENTRIES_A_SECOND: Final = 5_000
_WRITER: Final = Actor(id="writer", kind="system")
_KEY: Final = Actor(id="k_7k2m9x4dq1w8r5t3", kind="secret_key")

Row = tuple[int, UUID, str, UUID | None, bytes, bytes, str | None]


def schema_dsn(dsn: str, schema: str) -> str:
    """Return the address of the same database with another schema in front."""
    return f"{dsn}{'&' if '?' in dsn else '?'}search_path={schema}"


async def write_long_log(owner_dsn: str, schema: str, entries: int) -> None:
    """Make a schema with a log of so many entries."""
    owner = await asyncpg.connect(owner_dsn)
    await owner.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}")
    await owner.execute(f"GRANT USAGE ON SCHEMA {schema} TO {RUNTIME}")
    await migrate(schema_dsn(owner_dsn, schema), runtime_role=RUNTIME)
    await owner.execute(f"SET search_path = {schema}")
    try:
        await _write(owner, entries)
        await owner.execute("ANALYZE")
    finally:
        await owner.close()


async def drop_long_log(owner_dsn: str, schema: str) -> None:
    owner = await asyncpg.connect(owner_dsn)
    try:
        await owner.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
    finally:
        await owner.close()


async def _write(owner: "asyncpg.Connection[asyncpg.Record]", entries: int) -> None:
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    tree, nodes = CompactRange(), _Nodes()
    rows: list[Row] = []
    for row in _rows(entries, verifier_key(ORIGIN, public)):
        rows.append(row)
        index = row[0] + 1
        if index % ENTRIES_A_SECOND and index % CHUNK_ENTRIES and index != entries:
            continue
        unsigned = [one[4] for one in rows[tree.size - rows[0][0] :]]
        tree.extend(unsigned)
        nodes.extend(unsigned)
        text = Checkpoint(ORIGIN, tree.size, tree.root()).text
        note = Note(text, (signed(text, ORIGIN, public, key.sign(text.encode())),))
        await owner.execute(
            "INSERT INTO checkpoint (size, root, note) VALUES ($1, $2, $3)",
            tree.size, tree.root(), note.raw.decode(),
        )  # fmt: skip
        if len(rows) >= CHUNK_ENTRIES or index == entries:
            await owner.copy_records_to_table("entry", records=rows, columns=_COLUMNS)
            rows = []
    await owner.copy_records_to_table("node", records=nodes.rows)
    await owner.execute(
        "UPDATE head SET size = $1, root = $2, peaks = $3",
        tree.size, tree.root(), tree.peaks_bytes(),
    )  # fmt: skip


_COLUMNS: Final = ("idx", "id", "type", "intent", "leaf_hash", "body", "tenant")


class _Nodes:
    """The entries of tiles above level 0."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, bytes]] = []
        self._waiting: list[list[bytes]] = []
        self._made: list[int] = []

    def extend(self, hashes: Sequence[bytes], level: int = 0) -> None:
        if level == len(self._waiting):
            self._waiting.append([])
            self._made.append(0)
        waiting = self._waiting[level]
        for one in hashes:
            waiting.append(one)
            if len(waiting) == TILE_WIDTH:
                root = tile_root(waiting)
                self.rows.append((level + 1, self._made[level], root))
                self._made[level] += 1
                waiting.clear()
                self.extend([root], level + 1)


def _rows(entries: int, vkey: str) -> Iterator[Row]:
    boot = str(new_uuid7(datetime.now(UTC)))
    began = datetime.now(UTC) - timedelta(seconds=entries / ENTRIES_A_SECOND + 60)
    for index, draft in zip(range(entries), _drafts(vkey, entries), strict=False):
        at = began + timedelta(seconds=index / ENTRIES_A_SECOND)
        body = encode(draft, Stamp(at, "r_7k2m9x4d-0", boot, index))
        intent = UUID(draft.intent_id) if draft.intent_id else None
        tenant = getattr(draft, "tenant", None)
        yield index, UUID(draft.id), draft.type, intent, leaf_hash(body), body, tenant


def _drafts(vkey: str, entries: int) -> Iterator[Draft]:
    """Cards come in, and each is charged once; so many entries, or a few more of cards."""
    yield LogOpened(actor=_WRITER, id=_new_id(), env="test", origin=ORIGIN, vkey=vkey)
    yield GatewayStarted(
        actor=_WRITER, id=_new_id(), config=_new_hash(), role="all", version="0.1.0"
    )
    for _ in range((entries - 2) // 3):
        yield from _purchase()
    for _ in range(2):
        yield _created(new_token("test"))


def _created(token: str) -> TokenCreated:
    return TokenCreated(
        actor=_KEY,
        id=_new_id(),
        token=token,
        format="opaque",
        key_version=1,
        single_use=False,
        tenant=TENANT,
    )


def _purchase() -> Iterator[Entry]:
    token, intent = new_token("test"), _new_id()
    yield _created(token)
    yield AuthorizationAttempted(
        actor=_KEY,
        id=intent,
        intent=intent,
        tenant=TENANT,
        kind=Kind.AUTHORIZE,
        attempt=1,
        route="stripe",
        operation="payment_intents.confirm",
        opens=(Opening(key="pan", token=token, version=1),),
        detail=_new_hash(),
    )
    yield AuthorizationCompleted(
        actor=_KEY,
        id=_new_id(),
        intent=intent,
        tenant=TENANT,
        ms=431,
        result=Result.APPROVED,
        status=200,
        detail=_new_hash(),
    )


def _new_id() -> str:
    return str(new_uuid7(datetime.now(UTC)))


def _new_hash() -> str:
    return base64url(secrets.token_bytes(32))
