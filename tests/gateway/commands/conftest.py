"""What tests of commands share: a configuration file over the shared deployment's children."""

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from gateway.embedded import configuration
from tests.crash.panward import Ended, panward
from tests.databases import Database
from tests.vault.rows import new_tenant, now
from tests.vault.stores import Store, migrated, opened
from vault.embedded.bootstrap import EmbeddedParts
from vault.private_files import write_private
from vault.tenant_table import Tenant, TenantTable

Command = Callable[..., Awaitable[Ended]]


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    async with opened(await migrated(database)) as made:
        yield made


@pytest.fixture
def table(store: Store) -> TenantTable:
    return TenantTable(store.database)


@pytest.fixture
async def tenant(table: TenantTable) -> Tenant:
    made = Tenant(new_tenant(), "shop", now())
    await table.add(made)
    return made


@pytest.fixture
def command(embedded: EmbeddedParts, store: Store, tmp_path: Path) -> Command:
    """Run `panward …` on the test's own database and the shared key service."""
    numbers = count(1)
    ports = defaultdict(lambda: next(numbers), embedded.ports)
    file = tmp_path / "panward.toml"
    file.write_text(configuration(replace(embedded, ports=ports)))
    (tmp_path / "secrets").mkdir()
    write_private(tmp_path / "secrets" / "runtime.dsn", store.dsns.runtime_dsn.encode())
    write_private(tmp_path / "secrets" / "owner.dsn", store.dsns.owner_dsn.encode())

    async def run(*words: str, stdin: bytes = b"") -> Ended:
        return await panward(*words, "--config", str(file), stdin=stdin)

    return run
