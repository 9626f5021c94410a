"""A new, empty database for one test, in the deployment that all tests share."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from vault.embedded.bootstrap import EmbeddedParts
from vault.embedded.layout import RUNTIME
from vault.embedded.postgres import DATABASE

DROP_TRIES = 50
DROP_PAUSE_SECONDS = 0.1


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
        await _drop(owner, name)
        await owner.close()


async def _drop(owner: "asyncpg.Connection[asyncpg.Record]", name: str) -> None:
    """Drop a database; an autovacuum worker in it is nobody's to end, and gone in a moment."""
    for tries_left in reversed(range(DROP_TRIES)):
        try:
            await owner.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        except asyncpg.InsufficientPrivilegeError:
            if not tries_left:
                raise
            await asyncio.sleep(DROP_PAUSE_SECONDS)
        else:
            return
