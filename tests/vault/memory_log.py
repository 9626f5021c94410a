"""A log in memory that gives what the published one gives, signed with the golden example's key."""

from collections.abc import AsyncIterator, Sequence

from tests.vault.ledger.golden import LOG_PRIVATE_KEY, LOG_PUBLIC_KEY, ORIGIN
from vault.ledger.checkpoint import Checkpoint
from vault.ledger.note import Note, signed
from vault.ledger.tiles import TILE_WIDTH, TileName, bundle, exists
from vault.ledger.tree import consistency_proof, inclusion_proof, leaf_hash, root_of

STEP = 3 * TILE_WIDTH


class MemoryLog:
    """Give it entries, and it has a checkpoint at any size that was signed."""

    def __init__(self, bodies: Sequence[bytes] = (), origin: str = ORIGIN) -> None:
        self.origin = origin
        self.bodies = list(bodies)
        self.leaves = [leaf_hash(body) for body in bodies]
        self.checkpoints: dict[int, Note] = {}
        self.reads = 0

    def add(self, bodies: Sequence[bytes]) -> None:
        self.bodies += bodies
        self.leaves += [leaf_hash(body) for body in bodies]

    def sign(self, size: int | None = None) -> Note:
        """Sign what there is, or less, as the newest checkpoint."""
        covered = len(self.leaves) if size is None else size
        text = Checkpoint(self.origin, covered, root_of(self.leaves[:covered])).text
        signature = signed(text, self.origin, LOG_PUBLIC_KEY, LOG_PRIVATE_KEY.sign(text.encode()))
        self.checkpoints[covered] = Note(text, (signature,))
        return self.checkpoints[covered]

    @property
    def size(self) -> int:
        return max(self.checkpoints, default=0)

    async def checkpoint(self, size: int | None = None) -> Note | None:
        return self.checkpoints.get(self.size if size is None else size)

    async def tile(self, name: TileName) -> bytes | None:
        if not exists(name, self.size):
            return None
        self.reads += 1
        first = name.index * TILE_WIDTH
        last = first + name.width
        if name.level is None:
            return bundle(self.bodies[first:last])
        step = 1 << name.height
        return b"".join(
            root_of(self.leaves[at * step : (at + 1) * step]) for at in range(first, last)
        )

    async def bundles(self, first: int, last: int) -> AsyncIterator[Sequence[tuple[bytes, bytes]]]:
        for start in range(first, last, STEP):
            self.reads += 1
            end = min(start + STEP, last)
            yield list(zip(self.bodies[start:end], self.leaves[start:end], strict=True))

    async def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        return inclusion_proof(index, self.leaves[:size])

    async def consistency(self, old: int, size: int) -> tuple[bytes, ...]:
        return consistency_proof(old, self.leaves[:size])


def bodies(count: int, first: int = 0) -> list[bytes]:
    return [b'{"i":%d}' % index for index in range(first, first + count)]


def memory_log(count: int) -> MemoryLog:
    log = MemoryLog(bodies(count))
    log.sign()
    return log
