"""What tests of custody share: databases with our schema."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.databases import Database
from tests.vault.card_custody import Custody, opened_custody
from tests.vault.stores import Store, migrated, opened, shared_database
from vault.embedded.bootstrap import EmbeddedParts


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    """Give a new database that is migrated, and nothing in it."""
    async with opened(await migrated(database)) as made:
        yield made


@pytest.fixture(scope="module")
def module_database(embedded: EmbeddedParts) -> Database:
    return asyncio.run(shared_database(embedded))


@pytest.fixture
async def shared_store(module_database: Database) -> AsyncIterator[Store]:
    """Give a database that has what other tests of the module left: quicker than a new one."""
    async with opened(module_database) as made:
        yield made


@pytest.fixture
async def custody(shared_store: Store, embedded: EmbeddedParts) -> AsyncIterator[Custody]:
    """Give one tenant's view of a card vault over a real database and a real key service."""
    async with opened_custody(shared_store, embedded) as made:
        yield made
