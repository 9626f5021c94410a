"""Tenants and their API keys. A key is stored as a digest and found by its id, or by an alias."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from vault.api_keys import KeyKind, NewAlias
from vault.db import Connection, Database, Record


@dataclass(frozen=True, slots=True)
class Tenant:
    """One merchant of this deployment."""

    id: str
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ApiKeyRow:
    """What is kept of an API key: never the key."""

    id: str
    tenant: str
    kind: KeyKind
    digest: bytes
    scopes: frozenset[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    origins: frozenset[str] = frozenset()
    """Of a publishable key: whose pages may use it."""


class TenantTable:
    """Tenants and API keys in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, tenant: Tenant) -> bool:
        """Return False when the name or the id is taken. Raises StoreUnavailable."""

        async def work(connection: Connection) -> bool:
            status = await connection.execute(
                "INSERT INTO tenant (id, name, created_at) VALUES ($1, $2, $3)"
                " ON CONFLICT DO NOTHING",
                tenant.id,
                tenant.name,
                tenant.created_at,
            )
            return status == "INSERT 0 1"

        return await self._database.read(work)

    async def list(self) -> Sequence[Tenant]:
        """Return all tenants, oldest first. Raises StoreUnavailable."""

        async def work(connection: Connection) -> Sequence[Tenant]:
            rows = await connection.fetch(
                "SELECT id, name, created_at FROM tenant ORDER BY created_at, id"
            )
            return [Tenant(row["id"], row["name"], row["created_at"]) for row in rows]

        return await self._database.read(work)

    async def named(self, name: str) -> Tenant | None:
        """Return the tenant of this name or id. Raises StoreUnavailable."""
        return next((one for one in await self.list() if name in (one.name, one.id)), None)

    async def add_key(self, key: ApiKeyRow) -> None:
        """Raises StoreUnavailable."""

        async def work(connection: Connection) -> None:
            await connection.execute(
                "INSERT INTO api_key (id, tenant, kind, digest, scopes, created_at, expires_at,"
                " origins) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                key.id,
                key.tenant,
                key.kind,
                key.digest,
                sorted(key.scopes),
                key.created_at,
                key.expires_at,
                sorted(key.origins),
            )

        await self._database.read(work)

    async def revoke_key(self, key_id: str, *, at: datetime) -> bool:
        """Return False when there is no such key in force. Raises StoreUnavailable."""

        async def work(connection: Connection) -> bool:
            status = await connection.execute(
                "UPDATE api_key SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL",
                key_id,
                at,
            )
            return status == "UPDATE 1"

        return await self._database.read(work)

    async def set_origins(self, key_id: str, origins: Collection[str]) -> bool:
        """Replace whose pages may use a key; False when it is no publishable key in force.

        Raises StoreUnavailable.
        """

        async def work(connection: Connection) -> bool:
            status = await connection.execute(
                "UPDATE api_key SET origins = $2"
                " WHERE id = $1 AND kind = 'publishable_key' AND revoked_at IS NULL",
                key_id,
                sorted(origins),
            )
            return status == "UPDATE 1"

        return await self._database.read(work)

    async def origins(self, tenant: str | None = None) -> frozenset[str]:
        """Return the origins that publishable keys in force list: a tenant's, or all.

        Raises StoreUnavailable.
        """

        async def work(connection: Connection) -> frozenset[str]:
            listed = await connection.fetchval(  # one row: ten thousand would hold the loop up
                "SELECT array_agg(DISTINCT origin) FROM api_key, unnest(origins) AS origin"
                " WHERE kind = 'publishable_key' AND revoked_at IS NULL"
                " AND (expires_at IS NULL OR expires_at > now())"
                " AND ($1::text IS NULL OR tenant = $1)",
                tenant,
            )
            return frozenset(listed or ())

        return await self._database.read(work)

    async def also_listing(self, origins: Collection[str], tenant: str) -> frozenset[str]:
        """Return which of these origins another tenant's key in force lists too.

        Raises StoreUnavailable.
        """

        async def work(connection: Connection) -> frozenset[str]:
            rows = await connection.fetch(
                "SELECT DISTINCT origin FROM api_key, unnest(origins) AS origin"
                " WHERE origin = ANY($1) AND tenant <> $2 AND revoked_at IS NULL",
                list(origins),
                tenant,
            )
            return frozenset(row["origin"] for row in rows)

        return await self._database.read(work)

    async def key(self, key_id: str) -> ApiKeyRow | None:
        """Return a key by its id, in force or not. Raises StoreUnavailable."""

        async def work(connection: Connection) -> ApiKeyRow | None:
            rows = await connection.fetch("SELECT * FROM api_key WHERE id = $1", key_id)
            return _key(rows[0]) if rows else None

        return await self._database.read(work)

    async def add_alias(self, alias: NewAlias, key_id: str, *, at: datetime) -> bool:
        """Return False when the alias is taken, or there is no such secret key in force.

        One whose key was revoked may go to another key of the same tenant: a certificate outlives
        the key that it first stood for.

        Raises StoreUnavailable.
        """

        async def work(connection: Connection) -> bool:
            status = await connection.execute(
                "INSERT INTO key_alias (digest, api_key, form, created_at)"
                " SELECT $1, id, $3, $4 FROM api_key"
                " WHERE id = $2 AND kind = 'secret_key' AND revoked_at IS NULL"
                " ON CONFLICT (digest) DO UPDATE"
                "  SET api_key = excluded.api_key, created_at = excluded.created_at"
                "  WHERE EXISTS (SELECT 1 FROM api_key old JOIN api_key new USING (tenant)"
                "   WHERE old.id = key_alias.api_key AND old.revoked_at IS NOT NULL"
                "    AND new.id = excluded.api_key)",
                alias.digest,
                key_id,
                alias.form,
                at,
            )
            return status == "INSERT 0 1"

        return await self._database.read(work)

    async def key_of_alias(self, digest: bytes) -> ApiKeyRow | None:
        """Return the key of an alias, in force or not. Raises StoreUnavailable."""

        async def work(connection: Connection) -> ApiKeyRow | None:
            rows = await connection.fetch(
                "SELECT api_key.* FROM key_alias JOIN api_key ON api_key.id = key_alias.api_key"
                " WHERE key_alias.digest = $1",
                digest,
            )
            return _key(rows[0]) if rows else None

        return await self._database.read(work)

    async def keys(self, tenant: str) -> Sequence[ApiKeyRow]:
        """Return a tenant's keys, oldest first. Raises StoreUnavailable."""

        async def work(connection: Connection) -> Sequence[ApiKeyRow]:
            rows = await connection.fetch(
                "SELECT * FROM api_key WHERE tenant = $1 ORDER BY created_at, id", tenant
            )
            return [_key(row) for row in rows]

        return await self._database.read(work)


def _key(row: Record) -> ApiKeyRow:
    return ApiKeyRow(
        id=row["id"],
        tenant=row["tenant"],
        kind=row["kind"],
        digest=row["digest"],
        scopes=frozenset(row["scopes"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        origins=frozenset(row["origins"]),
    )
