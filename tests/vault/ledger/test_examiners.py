"""Several processes come to what one does, in the same order."""

from collections.abc import AsyncIterator, Sequence

import pytest

from tests.vault.ledger.signed_story import purchases, put
from tests.vault.stores import Store
from vault.errors import StoreUnavailable
from vault.ledger import examiners as processes
from vault.ledger.examination import examine
from vault.ledger.examiners import Order, examiners
from vault.ledger.pages import Examined, page_of


async def given(orders: Sequence[Order]) -> AsyncIterator[Order]:
    for order in orders:
        yield order


def orders_of_pages(count: int) -> list[Order]:
    log = purchases(count * 100)
    return [
        Order(
            page=page_of(
                first,
                [row.body for row in log.rows[first : first + 100]],
                [row.leaf for row in log.rows[first : first + 100]],
            ),
            marks=[first + 50, first + 100],
            joins=True,
        )
        for first in range(0, count * 100, 100)
    ]


async def answers(dsn: str | None, entries: int, orders: Sequence[Order]) -> list[Examined]:
    async with examiners(dsn, entries) as examining:
        return [page async for pages in examining.examine(given(orders)) for page in pages]


async def test_pages_that_are_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    orders = orders_of_pages(20)
    alone = await answers(None, 1, orders)
    monkeypatch.setattr(processes, "ALONE_ENTRIES_MAX", 0)
    assert await answers(None, 1, orders) == alone
    assert [page.first for page in alone] == list(range(0, 2000, 100))
    assert orders[3].page is not None
    assert alone[3] == examine(orders[3].page)
    assert [mark.size for mark in alone[3].marks] == [350, 400]


@pytest.mark.embedded
async def test_pages_that_are_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await put(store, purchases(300), 300)
    orders = [
        Order(first, min(first + 64, 300), [100, 300], details=True) for first in range(0, 300, 64)
    ]
    alone = await answers(store.dsns.runtime_dsn, 1, orders)
    monkeypatch.setattr(processes, "ALONE_ENTRIES_MAX", 0)
    assert await answers(store.dsns.runtime_dsn, 1, orders) == alone
    assert [page.count for page in alone] == [64, 64, 64, 64, 44]
    assert not any(page.violations for page in alone)


@pytest.mark.embedded
async def test_a_database_that_is_away(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    dsn = store.dsns.runtime_dsn.replace(store.dsns.name, "no_such_database")
    with pytest.raises(StoreUnavailable):
        await answers(dsn, 1, [Order(0, 10)])
    monkeypatch.setattr(processes, "ALONE_ENTRIES_MAX", 0)
    with pytest.raises(StoreUnavailable):
        await answers(dsn, 1, [Order(0, 10)] * 20)


async def test_an_examiner_that_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "ALONE_ENTRIES_MAX", 0)
    async with examiners(None, 1) as examining:
        for process in examining._processes:
            process.kill()
            await process.wait()
        with pytest.raises(StoreUnavailable):
            async for _ in examining.examine(given(orders_of_pages(3))):
                pass
