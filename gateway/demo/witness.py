"""Who looks on while the demo plays: into the ledger, Vault's audit log, the processor, a dump.

It reads what anybody could who has the folder, and trusts nothing that the gateway says of itself.
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from gateway.demo.processor import ReceivedCall, SandboxProcessor
from gateway.demo.scene import LedgerLine, StoryBroke
from gateway.embedded import control_socket
from gateway.sandbox.books import Counts
from vault.db import Database
from vault.embedded.bootstrap import EmbeddedParts
from vault.ledger.audit_join import AuditJoin
from vault.ledger.entry import (
    AuthorizationAttempted,
    Entry,
    EntryRefused,
    LogOpened,
    OfIntent,
    decode,
)
from vault.ledger.reading import read_entries, read_head

TOOL_SECONDS: Final = 60.0
ENVIRONMENT: Final = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


@dataclass(frozen=True, slots=True)
class Look:
    """How far everything is at one moment."""

    entries: int
    calls: int
    counts: Counts
    decrypts: int


@dataclass(frozen=True, slots=True)
class Since:
    """What happened between two moments."""

    ledger: Sequence[LedgerLine]
    calls: Sequence[ReceivedCall]
    counts: Counts
    decrypts: int

    @property
    def nothing_left(self) -> bool:
        """Whether no card was opened and the processor heard nothing."""
        return not self.calls and self.counts.requests == 0 and self.decrypts == 0

    @property
    def last(self) -> LedgerLine:
        """The latest entry; one of no type where there is none."""
        return self.ledger[-1] if self.ledger else LedgerLine(-1, "")

    def states(self) -> list[str]:
        """The steps of the authorizations in their order, from `attempted` on."""
        return [line.state for line in self.ledger if line.state is not None]


class Findings(msgspec.Struct):
    """What `panward ledger verify --json` prints, as far as it matters here."""

    good: bool
    size: int
    violations: Sequence["Finding"]
    key_pinned: bool = False
    decrypts: int | None = None
    unmatched: Sequence[object] | None = None


class Finding(msgspec.Struct):
    """One violation."""

    index: int | None
    rule: str
    message: str

    @property
    def where(self) -> str:
        return "the log" if self.index is None else f"entry {self.index}"


@dataclass(frozen=True, slots=True)
class Opened:
    """A decrypt in Vault's audit log, and the intent that came before it."""

    key: str
    index: int
    ms: float  # from the intent to the decrypt


class Witness:
    """Looks on. The database is read as the runtime role, which can change no entry."""

    def __init__(self, parts: EmbeddedParts, database: Database) -> None:
        self.parts = parts
        self.processor = SandboxProcessor(control_socket(parts))
        self._database = database

    # --- before and after -----------------------------------------------------------------

    async def look(self) -> Look:
        state = await self.processor.state()
        head = await read_head(self._database)
        return Look(head.size, len(state.received), state.counts, self.decrypts())

    async def since(self, before: Look) -> Since:
        state = await self.processor.state()
        counts = {
            name: getattr(state.counts, name) - getattr(before.counts, name)
            for name in Counts.__struct_fields__
        }
        return Since(
            ledger=(await self.ledger())[before.entries :],
            calls=state.received[before.calls :],
            counts=Counts(**counts),
            decrypts=self.decrypts() - before.decrypts,
        )

    def decrypts(self) -> int:
        """How many items Vault was asked to decrypt, by its own audit log."""
        join = AuditJoin()
        with self.parts.vault_audit_log_file.open("rb") as lines:
            join.add_lines(lines)
        return join.decrypts

    async def entries(self) -> Sequence[tuple[int, Entry]]:
        """Read the whole ledger. Raises StoryBroke when there is something else in it."""
        head = await read_head(self._database)
        found = []
        async for page in read_entries(self._database, below=head.size):
            for stored in page:
                try:
                    found.append((stored.index, decode(stored.body)))
                except EntryRefused:
                    raise StoryBroke(f"entry {stored.index} of the ledger is none") from None
        return found

    async def ledger(self) -> Sequence[LedgerLine]:
        """The whole ledger, a line an entry."""
        entries = await self.entries()
        at = {entry.id: index for index, entry in entries}
        return [_line(index, entry, at) for index, entry in entries]

    async def log_key(self) -> str:
        """The key that an operator hands out: the one that the log was opened with."""
        async for page in read_entries(self._database, below=1):
            for stored in page:
                opened = decode(stored.body)
                if isinstance(opened, LogOpened):
                    return opened.vkey
        raise StoryBroke("the ledger does not begin with its opening")

    # --- tools, as anybody would use them -------------------------------------------------

    async def dump(self, *options: str) -> bytes:
        """What `pg_dump` writes of the database, under its owner's login."""
        command = (str(self.parts.postgres_binaries / "pg_dump"), *options)
        status, output = await _run(*command, "--dbname", self.parts.owner_dsn)
        if status != 0:
            raise StoryBroke("pg_dump fails")
        return output

    async def psql(self, script: bytes) -> str:
        """Run SQL as the owner of the database: what a thief of that password could do."""
        command = (str(self.parts.postgres_binaries / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1")
        status, output = await _run(*command, "-d", self.parts.owner_dsn, stdin=script)
        if status != 0:
            raise StoryBroke("psql fails")
        return output.decode().strip()

    async def verify(self, *options: str) -> tuple[int, Findings]:
        """Run `panward ledger verify` as a command of its own: its exit code, and what it found."""
        status, output = await self.panward("ledger", "verify", "--json", *options)
        try:
            return status, msgspec.json.decode(output, type=Findings)
        except msgspec.DecodeError:
            pass
        raise StoryBroke(f"panward ledger verify ends with {status} and says nothing")

    async def panward(self, *words: str) -> tuple[int, bytes]:
        """Run our own command, as anybody would: its exit code, and what it printed."""
        command = (sys.executable, "-I", "-c", "from gateway.cli import main; main()")
        return await _run(*command, *words)

    # --- the second witness ---------------------------------------------------------------

    async def opened(self) -> Sequence[Opened]:
        """Hold each decrypt of this start in the audit log beside the intent that it names."""
        intents = {
            entry.intent: (index, datetime.fromisoformat(entry.ts))
            for index, entry in await self.entries()
            if isinstance(entry, AuthorizationAttempted)
        }
        found = []
        with self.parts.vault_audit_log_file.open("rb") as lines:
            for line in lines:
                if b'"transit/decrypt/' in line:
                    found += _opened(msgspec.json.decode(line, type=_Record), intents)
        return found


class _Item(msgspec.Struct):
    reference: str = ""


class _Data(msgspec.Struct):
    batch_input: list[_Item] = []


class _Request(msgspec.Struct):
    path: str
    data: _Data = msgspec.field(default_factory=_Data)


class _Record(msgspec.Struct):
    type: str
    time: datetime
    request: _Request


def _opened(record: _Record, intents: Mapping[str, tuple[int, datetime]]) -> list[Opened]:
    key = record.request.path.removeprefix("transit/decrypt/")
    if record.type != "request" or key not in ("pan", "cvc"):
        return []
    found = []
    for item in record.request.data.batch_input:
        intent = intents.get(item.reference.partition("/")[0])
        if intent is not None:
            index, at = intent
            found.append(Opened(key, index, (record.time - at).total_seconds() * 1000))
    return found


def _line(index: int, entry: Entry, at: Mapping[str, int]) -> LedgerLine:
    fields: dict[str, object] = msgspec.to_builtins(entry)
    opens = [each.key for each in entry.opens] if isinstance(entry, AuthorizationAttempted) else []
    first = fields.get("of")
    shown: dict[str, object] = {name: fields[name] for name in _SHOWN if name in fields}
    shown |= {
        "index": index,
        "type": entry.type,
        "opens": opens,
        "of": at[first] if isinstance(first, str) else None,
        "state": entry.state.value if isinstance(entry, OfIntent) else None,
    }
    return msgspec.convert(shown, type=LedgerLine)


_SHOWN: Final = ("operation", "attempt", "result", "status", "reason", "method", "token")


async def _run(*command: str, stdin: bytes = b"") -> tuple[int, bytes]:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=ENVIRONMENT,
        cwd=Path("/"),
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(TOOL_SECONDS):
            output, _ = await process.communicate(stdin)
    except TimeoutError:
        output = b""
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode or await process.wait(), output
