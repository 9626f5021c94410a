"""What tests of custody share: a database with our schema."""

from collections.abc import AsyncIterator

import pytest

from tests.databases import Database
from tests.vault.stores import Store, prepared


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    """Give a new database that is migrated, and nothing in it."""
    async with prepared(database) as made:
        yield made
