"""The log as it is stored: all of it, in order, page by page."""

import pytest

from tests.vault.ledger.test_store import appending
from tests.vault.rows import Sender, create, statement
from tests.vault.stores import Store
from vault.errors import StoreUnavailable
from vault.ledger import reading
from vault.ledger.reading import StoredHead, read_entries, read_head
from vault.ledger.tree import EMPTY_ROOT, leaf_hash

pytestmark = pytest.mark.embedded


async def test_an_empty_log(store: Store) -> None:
    assert await read_head(store.database) == StoredHead(0, EMPTY_ROOT)
    assert [page async for page in read_entries(store.database, below=10)] == []


async def test_every_entry_once_and_in_order(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PAGE_ENTRIES", 7)
    sender = Sender()
    row = sender.row()
    async with store.replica() as replica:
        for task in appending(replica.ledger, *(statement() for _ in range(20)), create(row)):
            await task
        opened = sender.opens(row)
        await replica.ledger.append(opened)

    head = await read_head(store.database)
    pages = [page async for page in read_entries(store.database, below=head.size)]
    entries = [entry for page in pages for entry in page]

    assert [len(page) for page in pages] == [7, 7, 7, 3]
    assert [entry.index for entry in entries] == list(range(24)) == list(range(head.size))
    assert all(leaf_hash(entry.body) == entry.leaf for entry in entries)
    assert (entries[-1].type, entries[-1].intent) == (
        "authorization.attempted",
        opened.facts.intent,
    )
    assert entries[-2].intent is None
    below = [entry.index async for page in read_entries(store.database, below=5) for entry in page]
    assert below == [0, 1, 2, 3, 4]


async def test_without_a_database_it_says_so(store: Store) -> None:
    await store.database.close()
    with pytest.raises(StoreUnavailable):
        await read_head(store.database)
    with pytest.raises(StoreUnavailable):
        async for _ in read_entries(store.database, below=1):
            pass
