"""A merchant's webhook endpoints and deliveries in a real database, made without a ledger."""

import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from tests.vault.ledger.samples import drawn
from tests.vault.stores import Store
from vault.delivery_queue import DeliveryQueue
from vault.ids import CROCKFORD
from vault.webhook_table import WebhookEndpoint, WebhookTable

TENANT = "t_shop00"


def new_endpoint_id() -> str:
    return "we_" + "".join(secrets.choice(CROCKFORD) for _ in range(26))


@dataclass
class MerchantQueue:
    """One tenant's queue, as a test fills and reads it."""

    store: Store
    tenant: str = field(default_factory=lambda: "t_" + drawn(12))
    idx: int = 0

    @property
    def table(self) -> WebhookTable:
        return WebhookTable(self.store.database)

    @property
    def queue(self) -> DeliveryQueue:
        return DeliveryQueue(self.store.database)

    @property
    def now(self) -> datetime:
        return self.store.clock()

    async def open(self) -> "MerchantQueue":
        await self.store.do(
            "INSERT INTO tenant (id, name, created_at) VALUES ($1, $2, now())"
            " ON CONFLICT DO NOTHING",
            self.tenant,
            self.tenant,
        )
        return self

    async def endpoint(self, url: str = "https://shop.test/hook", **changes: object) -> str:
        made: dict[str, Any] = {
            "id": new_endpoint_id(),
            "tenant": self.tenant,
            "url": url,
            "form": "events",
            "route": None,
            "types": (),
            "signature": "own",
            "concurrency": 4,
            "created_at": self.now,
            "updated_at": self.now,
        }
        endpoint = WebhookEndpoint(**made | changes)
        await self.table.add(endpoint)
        return endpoint.id

    async def wait(self, endpoint: str, *, subject: UUID | None = None) -> UUID:
        """Let an event wait for an endpoint; return the delivery's id."""
        self.idx += 1
        event, delivery = uuid4(), uuid4()
        await self.store.do(
            "INSERT INTO event VALUES ($1, $2, 'token.created', $3, $4, $5)",
            *(event, self.tenant, b'{"n":%d}' % self.idx, self.idx, self.now),
        )
        await self.store.do(
            "INSERT INTO delivery (id, endpoint, tenant, event, subject, idx, state, due,"
            " created_at) VALUES ($1, $2, $3, $4, $5, $6, 'waiting', $7, $7)",
            *(delivery, endpoint, self.tenant, event, subject or event, self.idx, self.now),
        )
        return delivery

    async def state(self, delivery: UUID) -> str:
        return str(await self.store.value("SELECT state FROM delivery WHERE id = $1", delivery))

    async def waiting(self) -> int:
        found = await self.store.value("SELECT count(*) FROM delivery WHERE state = 'waiting'")
        assert isinstance(found, int)
        return found
