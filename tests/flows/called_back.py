"""A merchant whose processors call back, and the posts that a test makes in a processor's name.

The simulated processors sign by code of their own, not by the gateway's; a test that posts itself
borrows that. One more gateway stands on the same database: the other replica, and the one that a
test may kill.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.embedded import FIRST_ACCOUNT, set_callback_secret
from gateway.sandbox.adyen_callbacks import AdyenItem, Amount
from gateway.sandbox.callbacks import Callback
from gateway.sandbox.checkout_com_callbacks import CheckoutEvent
from gateway.sandbox.stripe_callbacks import StripeEvent
from tests.flows.deployment import Deployment, Gateway, Store, Urls, eventually
from tests.flows.merchant import JSON, Merchant, new_idempotency_key, payment
from tests.flows.processor import ProcessorControl
from tests.flows.replica import free_ports, with_routes
from tests.flows.seller import Seller, new_seller
from tests.flows.wire import Reply, Wire
from vault.callback_endpoint_table import CallbackEndpointTable
from vault.db import Database
from vault.ids import intent_of

SCHEMES = {"stripe": "stripe", "adyen": "adyen_item", "checkout_com": "checkout"}
SECRETS = {
    "stripe": "whsec_" + "a1" * 16,
    "adyen": "0123456789ABCDEF" * 4,
    "checkout_com": "0f2d" * 8,
}
CALLBACKS = "/callbacks/"
AMOUNT = 1999  # of `payment`
_CLEAN = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
_MAIN = (sys.executable, "-c", "from gateway.cli import main; main()")


# --- the other gateway --------------------------------------------------------------------


@dataclass
class OtherGateway:
    """The second gateway on the same database, which a test may kill and start again."""

    file: Path
    folder: Path
    gateway: Gateway
    urls: Urls

    def kill(self) -> None:
        os.kill(self.gateway.pid, signal.SIGKILL)
        self.gateway.wait()

    def start(self) -> None:
        self.gateway = Gateway(self.folder, "--config", str(self.file))
        self.gateway.until_ready()


@contextmanager
def running_other(deployment: Deployment, name: str = "called_back") -> Iterator[OtherGateway]:
    """Start it; stop it at the end."""
    ports = free_ports(4)
    file = deployment.parts.folder / f"{name}.toml"
    file.write_text(with_routes(deployment, name, ports, "".join(_routes(deployment))))
    place = deployment.gateway.out.parent / name
    urls = Urls(*(f"https://127.0.0.1:{port}" for port in ports[:3]))
    made = OtherGateway(file, place, Gateway(place, "--config", str(file)), urls)
    try:
        made.gateway.until_ready()
        yield made
    finally:
        assert made.gateway.stop() == 0, made.gateway.err.read_text()


def _routes(deployment: Deployment) -> Iterator[str]:
    for route in SCHEMES:
        yield f"""[[routes]]
name = "{route}"
preset = "{route}"
host = "127.0.0.1:{deployment.parts.ports["sandbox"]}"
address_allow = ["127.0.0.1/32"]
ca_file = "{deployment.ca_file}"
connect_names = []

"""


# --- whom processors call back ------------------------------------------------------------


@dataclass(frozen=True)
class CalledBackSeller:
    """A seller, and the paths that its processors post to, by route."""

    seller: Seller
    paths: Mapping[str, str]


async def new_called_back_seller(deployment: Deployment) -> CalledBackSeller:
    """Add a tenant with an endpoint and a secret for each route; Stripe's by the commands."""
    seller = await new_seller(deployment)
    tenant, paths = seller.account.tenant, dict[str, str]()
    said = ordered(deployment, "endpoints", "add", tenant, "stripe")
    paths["stripe"] = urlsplit(said.strip()).path
    ordered(deployment, "secrets", "set", tenant, "stripe", "key.1", typed=SECRETS["stripe"])
    for route in ("adyen", "checkout_com"):
        paths[route] = await new_endpoint(deployment, tenant, route)
        await set_secret(deployment, tenant, route, "key.1", SECRETS[route])
    return CalledBackSeller(seller, paths)


async def new_endpoint(deployment: Deployment, tenant: str, route: str) -> str:
    """Add an endpoint, and give its path."""
    database = await Database.open(
        deployment.config.secret(deployment.config.database.runtime_dsn_file)
    )
    try:
        made = await CallbackEndpointTable(database).add_endpoint(
            tenant, route, SCHEMES[route], at=datetime.now(UTC)
        )
    finally:
        await database.close()
    assert made is not None
    return CALLBACKS + made.id


async def set_secret(
    deployment: Deployment, tenant: str, route: str, name: str, secret: str
) -> None:
    assert await set_callback_secret(deployment.config, tenant, route, name, secret) is not None


def ordered(deployment: Deployment, *words: str, typed: str = "") -> str:
    """Run `panward callbacks` to its end, with this as its standard input; what it printed."""
    command = [*_MAIN, "callbacks", *words, "--config", str(deployment.config.path)]
    done = subprocess.run(  # noqa: S603 - our own words
        command, input=typed, capture_output=True, text=True, env=_CLEAN, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not typed or typed not in done.stdout + done.stderr
    return done.stdout


# --- what a test posts itself -------------------------------------------------------------


def stripe_event(reference: str, **more: object) -> StripeEvent:
    """Report that a payment of `payment` succeeded; it is known by the merchant's reference."""
    tag, at = new_idempotency_key().removeprefix("order-"), int(datetime.now(UTC).timestamp())
    about = {
        "id": f"pi_{tag}",
        "object": "payment_intent",
        "amount": AMOUNT,
        "currency": "eur",
        "status": "succeeded",
        "metadata": {"order_id": reference},
    }
    return StripeEvent(f"evt_{tag}", "payment_intent.succeeded", at, f"pi_{tag}", about | more)


def adyen_item(reference: str) -> AdyenItem:
    return AdyenItem(
        amount=Amount(currency="EUR", value=AMOUNT),
        event_code="AUTHORISATION",
        event_date="2026-01-02T03:04:05+01:00",
        merchant_account_code=FIRST_ACCOUNT,
        merchant_reference=reference,
        payment_method="visa",
        psp_reference=new_idempotency_key().removeprefix("order-").upper(),
        success="true",
    )


def checkout_event(reference: str) -> CheckoutEvent:
    tag = new_idempotency_key().removeprefix("order-")
    data = {"id": f"pay_{tag}", "action_id": f"act_{tag}", "reference": reference}
    price = {"amount": AMOUNT, "currency": "EUR"}
    at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return CheckoutEvent(f"evt_{tag}", "payment_approved", at, f"pay_{tag}", data | price)


# --- the seller at work -------------------------------------------------------------------


@dataclass(frozen=True)
class Counter:
    """A seller's back end, its processors, and what is on record of it."""

    deployment: Deployment
    seller: Seller
    merchant: Merchant
    paths: Mapping[str, str]
    store: Store
    processor: ProcessorControl

    @property
    def wire(self) -> Wire:
        return self.merchant.wire

    def call_back(self, route: str, urls: Urls, **more: object) -> None:
        """Have a processor post here what happens from now on."""
        self.processor.do(
            "call_back_to",
            processor=route,
            url=urls.public + self.paths[route],
            secret=SECRETS[route],
            ca_file=str(self.deployment.ca_file),
            **more,
        )

    async def post(
        self,
        route: str,
        callback: Callback,
        *,
        secret: str | None = "",
        at: datetime | None = None,
        urls: Urls | None = None,
        path: str | None = None,
    ) -> Reply:
        """Post in a processor's name; by its own secret and now, unless told otherwise."""
        post = callback.posted(
            SECRETS[route] if secret == "" else secret,  # None: unsigned
            at=at or datetime.now(UTC),
        )
        url = (urls or self.merchant.urls).public + (path or self.paths[route])
        return await self.wire("POST", url, post.body, headers=post.headers)

    async def pay(self, reference: str, *, key: str | None = None, **more: object) -> Reply:
        """Pay at Stripe."""
        fields = payment(await self.merchant.token(), cvc="000")
        return await self.merchant.pay(fields | {"metadata[order_id]": reference, **more}, key=key)

    async def checkout(self, path: str, body: object) -> Reply:
        login = self.seller.key.logins["checkout"]["api_key"]
        headers = {"Authorization": f"Bearer {login}", "Content-Type": JSON}
        url = f"{self.merchant.urls.private}/out/checkout_com{path}"
        return await self.wire("POST", url, json.dumps(body).encode(), headers=headers)

    async def lost(self, reference: str, *, key: str | None = None) -> Reply:
        """Pay, and lose the answer."""
        self.processor.do("lose_next_answer")
        reply = await self.pay(reference, key=key)
        assert reply.state == "unknown", reply.body
        return reply

    async def record(self, reply: Reply) -> dict[str, Any]:
        return await self.merchant.authorization(reply)

    async def until(self, reply: Reply, state: str, events: int = 1) -> dict[str, Any]:
        """Wait until it is in this state, with so many events."""

        async def shown() -> dict[str, Any] | None:
            record = await self.record(reply)
            is_there = record["state"] == state and len(record["events"]) >= events
            return record if is_there else None

        return await eventually(shown, f"it is never {state}")

    async def acknowledged(self, before: Mapping[str, int], count: int = 1) -> None:
        """Wait until the processor has so many more acknowledgements."""

        async def there() -> bool:
            now = await asyncio.to_thread(lambda: self.processor.callbacks)
            return now["acknowledged"] >= before["acknowledged"] + count

        await eventually(there, "nothing is acknowledged", seconds=20)

    async def resolutions(self, reply: Reply) -> Sequence[tuple[str, str]]:
        """How and with what finding it was resolved."""
        first = intent_of(reply.headers["Panward-Authorization"])
        rows = await self.store.fetch(
            "SELECT body FROM entry WHERE type = 'authorization.resolved' AND intent IN"
            " (SELECT intent FROM intent_state WHERE first = $1) ORDER BY idx",
            first,
        )
        entries = [json.loads(row["body"]) for row in rows]
        return [(entry["method"], entry["finding"]) for entry in entries]

    async def inbox(self, event_id: str) -> Sequence[Mapping[str, Any]]:
        """The rows of an event, whatever else came."""
        rows = await self.store.fetch(
            "SELECT * FROM callback WHERE tenant = $1 AND event_id = $2",
            self.merchant.tenant,
            event_id,
        )
        return [dict(row) for row in rows]

    async def entries(self) -> int:
        """How many events of this tenant's are in the ledger."""
        count = await self.store.fetchval(
            "SELECT count(*) FROM entry WHERE type = 'callback.received'"
            " AND position($1::bytea IN body) > 0",
            self.merchant.tenant.encode(),
        )
        return int(count)
