"""What all tests may share: one real embedded deployment, and a database for each test."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.databases import Database, fresh_database
from tests.embedded_process import EmbeddedProcess
from vault.embedded.bootstrap import EmbeddedParts


@pytest.fixture(scope="session")
def embedded_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedProcess]:
    """Give the process that runs it; whoever stops or seals a child starts it again."""
    process = EmbeddedProcess.started(tmp_path_factory.mktemp("embedded"))
    process.do("allow createdb")
    yield process
    process.close()


@pytest.fixture(scope="session")
def embedded(embedded_process: EmbeddedProcess) -> EmbeddedParts:
    return embedded_process.parts


@pytest.fixture
async def database(embedded: EmbeddedParts) -> AsyncIterator[Database]:
    """Give a new, empty database, which is gone after the test."""
    async with fresh_database(embedded) as made:
        yield made
