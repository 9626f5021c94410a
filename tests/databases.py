"""A new, empty database for one test, in the deployment that all tests share."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from vault.embedded.bootstrap import EmbeddedParts
from vault.embedded.layout import RUNTIME
from vault.embedded.postgres import DATABASE


@dataclass(frozen=True, slots=True)
class Database:
    """How its owner and the runtime role reach it."""

    name: str
    owner_dsn: str
    runtime_dsn: str


@asynccontextmanager
async def fresh_database(parts: EmbeddedParts) -> AsyncIterator[Database]:
    """Make a database with the rights of a deployment's own, and drop it afterwards."""
    name = f"{DATABASE}_{secrets.token_hex(6)}"
    owner = await asyncpg.connect(parts.owner_dsn)
    try:
        await owner.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        await owner.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
        await owner.execute(f"GRANT CONNECT ON DATABASE {name} TO {RUNTIME}")
        yield Database(
            name,
            *(
                dsn.replace(f"/{DATABASE}?", f"/{name}?")
                for dsn in (parts.owner_dsn, parts.runtime_dsn)
            ),
        )
    finally:
        await owner.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await owner.close()
