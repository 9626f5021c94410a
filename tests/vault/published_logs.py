"""A log's entries and checkpoints put into a database as its publisher would, for tests."""

from tests.gateway.witness.signed_log import SignedLog
from tests.vault.ledger.samples import new_uuid
from tests.vault.stores import Store


async def publish(store: Store, log: SignedLog, *sizes: int) -> None:
    """Have these entries and these checkpoints, beside what is there."""
    there = await store.count("entry")
    for index, (entry, leaf) in enumerate(zip(log.entries, log.leaves, strict=True)):
        if index >= there:
            await store.do(
                "INSERT INTO entry (idx, id, type, leaf_hash, body) VALUES ($1, $2, $3, $4, $5)",
                index,
                new_uuid(),
                "sample",
                leaf,
                entry,
            )
    for size in sizes:
        await store.do(
            "INSERT INTO checkpoint (size, root, note) VALUES ($1, $2, $3)",
            size,
            log.root(size),
            log.note(size).raw.decode(),
        )
