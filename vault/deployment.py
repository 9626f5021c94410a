"""What a start must find, and what it puts on record before any listener opens.

A gateway that is pointed at another environment's database, at another HashiCorp Vault, or at
one whose keys are not as they must be, refuses to start and says what is wrong.
"""

import fcntl
import hmac
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from secrets import token_bytes
from typing import ClassVar, Final, Literal, Self
from uuid import UUID

from msgspec import UNSET

from vault.db import Connection, Database, Record
from vault.errors import CustodyError, StartRefused
from vault.ids import crockford_encode, new_uuid7
from vault.ledger.entry import Actor, GatewayStarted, GatewayStopped, LogOpened, OldBoot
from vault.ledger.note import verifier_key
from vault.ledger.store import Ledger
from vault.ledger.tree import CompactRange, InvalidRange
from vault.ledger.unit import Line, Placed, Statement, Unit
from vault.records import fingerprint_input
from vault.tokens import Env
from vault.transit import KeyDescription, Transit
from vault.transit_items import HmacItem

BOOTSTRAP: Final = Actor(id="bootstrap", kind="system")
WRITER: Final = Actor(id="writer", kind="system")
REPLICA_CHARACTERS: Final = 8

_KNOWN_TENANT: Final = "t_known"
_KNOWN_TEXT: Final = "known answer"
"""No card's, those are digits: fingerprinted at every start, to notice a key of the same name."""

CARD_KEYS: Final = ("pan", "cvc", "reply")
HASH_KEYS: Final = ("fingerprint", "digest")
HASH_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Pins:
    """Versions of the hash keys: pinned, because another version gives another hash."""

    fingerprint_version: int
    digest_version: int


@dataclass(frozen=True, slots=True)
class Boot:
    """One start of one replica, as the ledger names it."""

    id: UUID
    replica: str
    version: str
    config_hash: str
    role: Literal["all", "edge", "processor"] = "all"


@contextmanager
def state_folder_of_one(folder: Path) -> Iterator[None]:
    """Make the folder if need be, and let no other gateway have it.

    A second one under the same replica's name would take what the first has under way for the
    orphans of a crash, and its spool for an earlier boot's. Raises StartRefused.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)  # not for children
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_taken = False
    except BlockingIOError:
        is_taken = True
    try:
        if is_taken:
            raise StartRefused(
                f"{folder} is in use by another gateway: end it first, or give this one a"
                " state_folder of its own"
            )
        yield
    finally:
        os.close(descriptor)  # and so the lock


def replica_name(state_folder: Path, *, worker: int = 0) -> str:
    """Return this replica's name, drawn at its first start and kept beside its spool.

    Raises StartRefused when the file is damaged.
    """
    path = state_folder / "replica"
    if not path.exists():
        drawn = crockford_encode(token_bytes(8))[:REPLICA_CHARACTERS]
        draft = state_folder / "replica.new"  # whole or not there: half a name refuses each start
        draft.touch(0o600)
        draft.write_text(f"r_{drawn}\n", "ascii")
        draft.replace(path)
    name = path.read_text("ascii").strip()
    if len(name) != len("r_") + REPLICA_CHARACTERS:
        raise StartRefused(f"{path} does not hold a replica's name")
    return f"{name}-{worker}"


async def check_keys(transit: Transit) -> Mapping[str, KeyDescription]:
    """Compare the transit keys with what they must be.

    Raises StartRefused naming the key and the setting; any KeysError.
    """
    found = {}
    for name in (*CARD_KEYS, *HASH_KEYS, "ledger"):
        found[name] = await transit.read_key(name)
        for problem in key_problems(name, found[name]):
            raise StartRefused(f"the transit key {name} {problem}")
    return found


def key_problems(name: str, key: KeyDescription) -> list[str]:
    """What is wrong with a key's settings; pure."""
    kind = "aes256-gcm96" if name in CARD_KEYS else "hmac" if name in HASH_KEYS else "ed25519"
    rules = [
        (key.type != kind, f"must be of type {kind}"),
        (key.derived is not (name in CARD_KEYS), "must be derived exactly if it seals"),
        (key.exportable, "must not be exportable"),
        (key.allow_plaintext_backup, "must not allow a plaintext backup"),
        (key.deletion_allowed, "must not allow its deletion"),
    ]
    return [problem for wrong, problem in rules if wrong]


async def recognize(
    database: Database,
    tokenize: Transit,
    keys: Mapping[str, KeyDescription],
    *,
    env: Env,
    origin: str,
    at: datetime,
) -> Pins:
    """Check that this database, this Vault and this configuration belong together.

    The first start writes down what later ones compare: environment, origin, pinned versions,
    and the fingerprint of a constant. Raises StartRefused; StoreUnavailable; any KeysError.
    """

    async def read(connection: Connection) -> Mapping[str, object] | None:
        row = await connection.fetchrow("SELECT * FROM deployment WHERE one = 1")
        return dict(row) if row is not None else None

    row = await database.read(read)
    if row is None:
        pins = Pins(keys["fingerprint"].latest_version, keys["digest"].latest_version)
        known = await _known_fingerprint(tokenize, pins.fingerprint_version)
        await database.read(_remember(env, origin, pins, known, at))
        row = await database.read(read)
        assert row is not None
    if row["env"] != env:
        raise StartRefused(f'this database is of env = "{row["env"]}", not "{env}"')
    if row["origin"] != origin:
        raise StartRefused(f'this database\'s ledger is "{row["origin"]}", not "{origin}"')
    fingerprint_version, digest_version = row["fingerprint_version"], row["digest_version"]
    expected = row["fingerprint_check"]
    assert isinstance(fingerprint_version, int)
    assert isinstance(digest_version, int)
    assert isinstance(expected, bytes)
    if not hmac.compare_digest(await _known_fingerprint(tokenize, fingerprint_version), expected):
        raise StartRefused("this HashiCorp Vault has another fingerprint key than this database")
    return Pins(fingerprint_version, digest_version)


def _remember(
    env: Env, origin: str, pins: Pins, known: bytes, at: datetime
) -> Callable[[Connection], Awaitable[None]]:
    async def work(connection: Connection) -> None:
        await connection.execute(
            "INSERT INTO deployment (one, env, origin, fingerprint_version, digest_version,"
            " fingerprint_check, created_at) VALUES (1, $1, $2, $3, $4, $5, $6)"
            " ON CONFLICT DO NOTHING",
            env,
            origin,
            pins.fingerprint_version,
            pins.digest_version,
            known,
            at,
        )

    return work


async def _known_fingerprint(tokenize: Transit, version: int) -> bytes:
    item = HmacItem(fingerprint_input(_KNOWN_TENANT, _KNOWN_TEXT))
    (value,) = await tokenize.hmac("fingerprint", version, [item])
    if isinstance(value, CustodyError):
        raise value
    return value


async def check_log(database: Database) -> None:
    """Refuse a log with a gap at its end, or a head that contradicts itself.

    Raises StartRefused; StoreUnavailable.
    """

    async def work(connection: Connection) -> Record | None:
        return await connection.fetchrow(
            "SELECT size, root, peaks, coalesce((SELECT max(idx) + 1 FROM entry), 0) AS entries"
            " FROM head WHERE one = 1"
        )

    row = await database.read(work)
    if row is None:
        raise StartRefused("the ledger has no head")
    size, entries = row["size"], row["entries"]
    if size != entries:
        raise StartRefused(f"the ledger's head says {size} entries, the table has {entries}")
    try:
        root = CompactRange.from_bytes(size, row["peaks"]).root()
    except InvalidRange:
        root = b""
    if root != row["root"]:
        raise StartRefused("the ledger's head contradicts itself: its peaks have another root")


async def put_start_on_record(  # noqa: PLR0913 - what a log begins with
    database: Database, ledger: Ledger, boot: Boot, *, env: Env, origin: str, public_key: bytes,
    now: Callable[[], datetime],
) -> None:  # fmt: skip
    """Append `log.opened` if the log is empty, and `gateway.started`; before listeners bind.

    Raises LedgerUnavailable or StoreUnavailable.
    """

    async def work(connection: Connection) -> tuple[bool, OldBoot | None]:
        row = await connection.fetchrow("SELECT boot, n FROM replica WHERE id = $1", boot.replica)
        size = await connection.fetchval("SELECT size FROM head WHERE one = 1")
        return size == 0, OldBoot(boot=str(row["boot"]), n=row["n"]) if row is not None else None

    is_empty, previous = await database.read(work)
    if is_empty:
        opened = LogOpened(
            id=str(new_uuid7(now())),
            actor=BOOTSTRAP,
            env=env,
            origin=origin,
            vkey=verifier_key(origin, public_key),
        )
        with suppress(AlreadyOpened):  # by another gateway's first start
            await ledger.append(_OpenLog([Line(opened)]))
    started = GatewayStarted(
        id=str(new_uuid7(now())),
        actor=WRITER,
        config=boot.config_hash,
        role=boot.role,
        version=boot.version,
        previous=previous if previous is not None else UNSET,
    )
    await ledger.append(Statement([Line(started)]))


class AlreadyOpened(CustodyError):
    """The log has an entry 0 already."""


@dataclass(frozen=True, slots=True)
class _OpenLog(Unit):
    """Entry 0, and no other's: two gateways may be started at once."""

    order: ClassVar[int] = 0
    lines: Sequence[Line]

    @classmethod
    async def check(
        cls,
        connection: Connection,
        units: Sequence[Self],
        at: datetime,  # noqa: ARG003 - no time is too late
    ) -> Mapping[int, CustodyError]:
        is_empty = await connection.fetchval("SELECT size = 0 FROM head WHERE one = 1")
        return {position: AlreadyOpened() for position in range(int(is_empty), len(units))}

    @classmethod
    async def apply(
        cls, connection: Connection, units: Sequence[Self], placed: Sequence[Sequence[Placed]]
    ) -> None:
        """Change no row."""


async def put_stop_on_record(ledger: Ledger, *, now: Callable[[], datetime]) -> None:
    """Append `gateway.stopped`, this boot's last entry.

    Raises LedgerUnavailable or StoreUnavailable.
    """
    stopped = GatewayStopped(id=str(new_uuid7(now())), actor=WRITER)
    await ledger.append(Statement([Line(stopped)]))


async def probe_store(database: Database, replica: str) -> None:
    """Do a small write, as readiness asks for. Raises StoreUnavailable."""

    async def work(connection: Connection) -> None:
        await connection.execute("UPDATE replica SET n = n WHERE id = $1", replica)

    await database.read(work)


def expected_capabilities() -> Sequence[tuple[str, frozenset[str]]]:
    """What the `tokenize` login must not be able to do, whatever else it can."""
    return (
        ("transit/decrypt/pan", frozenset({"deny"})),
        ("transit/decrypt/cvc", frozenset({"deny"})),
        ("transit/export/encryption-key/pan", frozenset({"deny"})),
        ("kv/data/processor/t/r", frozenset({"deny"})),
        ("kv/data/webhook/t/e", frozenset({"deny"})),
    )


async def check_login(tokenize: Transit) -> None:
    """The public side's login must not be able to open a card, nor to act for anybody.

    PCI DSS 7.2.5: no more than its work needs. With a processor's key it could charge, with a
    merchant's webhook secret it could tell him of payments that never were.

    Raises StartRefused; any KeysError.
    """
    expected = expected_capabilities()
    found = await tokenize.capabilities([path for path, _ in expected])
    for path, capabilities in expected:
        if found.get(path) != capabilities:
            raise StartRefused(f"the login `tokenize` may use {path}: it must not")
