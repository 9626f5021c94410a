"""A log with a publisher: a real database, real signatures, and a process that can die anywhere."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.vault.ledger.samples import ORIGIN, new_hash, new_uuid
from tests.vault.signing import KeyService
from tests.vault.stores import Replica, Store
from vault.deployment import Boot, put_start_on_record
from vault.ledger.checkpoint import Checkpoint, parse_checkpoint
from vault.ledger.entry import AccessDenied, Actor, Draft
from vault.ledger.note import Note, VerifierKey, verified, verifier_key
from vault.ledger.tree import CompactRange, leaf_hash
from vault.ledger.unit import Line, Statement
from vault.milestones import UNWATCHED, Milestone, Milestones
from vault.observer import Silent
from vault.published import PublishedLog
from vault.publisher import Publisher
from vault.seals import Seals, lift
from vault.signer_memory import SignerMemory

OVERLAP = timedelta(days=7)
NOBODY = Actor(id="none", kind="anonymous")
CONSOLE = Actor(id="op_console", kind="operator")


class Killed(BaseException):
    """The end of the process at a milestone."""


@dataclass
class KillAt:
    """Ends the process when it gets there."""

    milestone: Milestone

    def passed(self, milestone: Milestone) -> None:
        if milestone is self.milestone:
            raise Killed


@dataclass
class Reasons(Silent):
    """What the publisher says that it did not publish for."""

    seen: list[str] = field(default_factory=list)

    def ledger_publish_failed(self, reason: str) -> None:
        self.seen.append(reason)


@dataclass
class Stand:
    """What a deployment keeps over the deaths of its gateways, and one gateway's ledger."""

    store: Store
    replica: Replica
    service: KeyService
    folder: Path
    reasons: Reasons = field(default_factory=Reasons)

    @property
    def log(self) -> PublishedLog:
        return PublishedLog(self.store.database)

    @property
    def vkeys(self) -> list[VerifierKey]:
        return [
            VerifierKey.parse(verifier_key(ORIGIN, key.public_key().public_bytes_raw()))
            for key in self.service.keys.values()
        ]

    def memory(self, folder: Path | None = None) -> SignerMemory:
        return SignerMemory(folder or self.folder, self.service, origin=ORIGIN)

    def publisher(
        self, *, milestones: Milestones = UNWATCHED, folder: Path | None = None
    ) -> Publisher:
        """Give a gateway's publisher, as after its start."""
        return Publisher(
            origin=ORIGIN,
            database=self.store.database,
            signing=self.service,
            memory=self.memory(folder),
            seals=self.own_seals(),
            now=self.store.clock,
            observer=self.reasons,
            overlap=OVERLAP,
            milestones=milestones,
        )

    def own_seals(self) -> Seals:
        return Seals(self.store.database, self.replica.ledger, now=self.store.clock)

    @asynccontextmanager
    async def publishing(self, milestones: Milestones = UNWATCHED) -> AsyncIterator[Publisher]:
        publisher = self.publisher(milestones=milestones)
        try:
            yield publisher
        finally:
            await publisher.close()

    async def append(self, number: int = 1) -> None:
        """Append so many entries, at once."""
        await self.say(
            *(
                AccessDenied(id=new_uuid(), actor=NOBODY, cause="key", count=1)
                for _ in range(number)
            )
        )

    async def say(self, *entries: Draft) -> None:
        await self.replica.ledger.append(Statement([Line(entry) for entry in entries]))

    async def latest(self) -> Checkpoint | None:
        """Read the latest checkpoint, whose signature must be good."""
        note = await self.log.checkpoint()
        return None if note is None else self.read(note)

    def read(self, note: Note) -> Checkpoint:
        assert verified(note, self.vkeys)
        return parse_checkpoint(note.text)

    async def seals(self) -> list[str]:
        return [row["cause"] for row in await self.store.rows("SELECT cause FROM seal")]

    def signed(self) -> list[Checkpoint]:
        """Every head that was ever signed, published or not."""
        return [parse_checkpoint(message.decode()) for _, message in self.service.signatures]

    async def tamper(self, statement: str, *values: object) -> None:
        """Change the tables as their owner, whom no trigger holds up."""
        for table in ("entry", "checkpoint", "head"):
            await self.store.do(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        await self.store.do(statement, *values)
        for table in ("entry", "checkpoint", "head"):
            await self.store.do(f"ALTER TABLE {table} ENABLE TRIGGER USER")

    async def intrude(self, statement: str, *values: object) -> None:
        """Change the tables as whoever has the gateway's own role can."""
        async with self.store.session() as intruder:
            await intruder.execute(statement, *values)

    async def lift(self, statement: str = "seen to") -> list[str]:
        """End all seals on an operator's word."""
        return await lift(
            self.store.database, self.replica.ledger, CONSOLE, statement=statement,
            now=self.store.clock,
        )  # fmt: skip

    async def set_head(self, bodies: Sequence[bytes]) -> None:
        """Make the head that of these entries."""
        tree = CompactRange()
        tree.extend([leaf_hash(body) for body in bodies])
        await self.tamper(
            "UPDATE head SET size = $1, root = $2, peaks = $3",
            tree.size,
            tree.root(),
            tree.peaks_bytes(),
        )


@asynccontextmanager
async def standing(store: Store, folder: Path) -> AsyncIterator[Stand]:
    """Open a log whose entry 0 names the key service's key."""
    service = KeyService()
    async with store.replica(start=False) as replica:
        boot = Boot(replica.boot, replica.name, "0.1.0", new_hash())
        await put_start_on_record(
            store.database, replica.ledger, boot, env="test", origin=ORIGIN,
            public_key=service.public_key, now=store.clock,
        )  # fmt: skip
        yield Stand(store, replica, service, folder)


def is_signature_of(key: VerifierKey, message: bytes, signature: bytes) -> bool:
    """Check as the library does, without our code."""
    Ed25519PublicKey.from_public_bytes(key.public_key).verify(signature, message)
    return True


def sizes(checkpoints: Sequence[Checkpoint]) -> list[int]:
    return [one.size for one in checkpoints]
