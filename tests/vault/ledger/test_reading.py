"""The log as it is stored: all of it, in order, page by page."""

from uuid import UUID

import pytest

from tests.vault.ledger.signed_story import purchases, put
from tests.vault.ledger.test_store import appending
from tests.vault.rows import Sender, create, statement
from tests.vault.stores import Store
from vault.errors import StoreUnavailable
from vault.ledger import reading
from vault.ledger.examination import examine
from vault.ledger.reading import (
    StoredHead,
    read_checkpoints,
    read_entries,
    read_head,
    read_nodes,
    read_pages,
    read_signed_size,
)
from vault.ledger.tree import EMPTY_ROOT, leaf_hash, root_of

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


async def test_pages_of_columns(store: Store) -> None:
    log = purchases(300)
    await put(store, log, 0, 7, 300)
    (page,) = await read_pages(store.database, 100, 250)
    assert (page.first, page.count, page.details) == (100, 150, None)
    found = {}
    for group in page.groups:
        assert group.stored is not None
        for row, place in enumerate(group.places):
            leaf = group.leaves[row * 32 : row * 32 + 32]
            found[100 + place] = (group.type, group.bodies[row], leaf, group.stored.intents[row])
    assert found == {
        row.index: (row.type, row.body, row.leaf, UUID(row.intent).bytes if row.intent else b"")
        for row in log.rows[100:250]
    }
    examined = examine(page)
    assert examined.violations == []
    assert await read_pages(store.database, 300, 400) == []


async def test_pages_end_where_entries_are_missing(store: Store) -> None:
    await put(store, purchases(60), 60)
    await store.do("ALTER TABLE entry DISABLE TRIGGER no_rewrite")
    await store.do("DELETE FROM entry WHERE idx IN (0, 10, 11, 30)")
    await store.do("INSERT INTO detail SELECT id, $1, $1 FROM entry WHERE idx = 31", bytes(32))
    pages = await read_pages(store.database, 0, 60, details=True)
    assert [(page.first, page.count) for page in pages] == [(1, 9), (12, 18), (31, 29)]
    assert [[one.place for one in page.details or ()] for page in pages] == [[], [], [0]]


async def test_what_is_published_of_it(store: Store) -> None:
    made = await put(store, purchases(300), 0, 7, 300)
    assert await read_signed_size(store.database) == 300
    found = await read_checkpoints(store.database, 0, 300)
    assert [one.size for one in found] == [7, 300]
    assert found[1].raw == made.checkpoints[300].raw
    await store.do(
        "INSERT INTO cosignature VALUES (7, 'w', $1, now()), (7, 'v', $2, now())", "two\n", "one\n"
    )
    (first,) = await read_checkpoints(store.database, 0, 7)
    assert first.lines == ("one\n", "two\n")
    assert await read_nodes(store.database, 1, 0, 5) == root_of(made.leaves[:256])
