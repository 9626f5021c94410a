"""Everything the demo needs, up and running: a deployment, its gateway, its clients, a witness.

One process starts them and ends them. The gateway in it is the ordinary one, on the ordinary
configuration file; its request log goes into the folder.
"""

import importlib.util
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from gateway.app import Running, running
from gateway.checkout.inventory import load_inventory
from gateway.custody import utc_now
from gateway.demo.cards import DemoCard, Search, demo_cards
from gateway.demo.clients import Client, NewToken, PlainHttp, back_office, checkout_page, client
from gateway.demo.old_shop.keeping import OldShop, OldShopSettings, old_shop
from gateway.demo.orders import Account, Heard, Pay, SaveCard
from gateway.demo.plain_http import HttpAnswer, HttpCall
from gateway.demo.purchase import Ledger, Till
from gateway.demo.reports import Registered, Reports, register, unregister
from gateway.demo.scene import StoryBroke
from gateway.demo.storefront.server import Window, storefront
from gateway.demo.witness import Look, Witness
from gateway.embedded import (
    Credentials,
    EmbeddedDeployment,
    SandboxMemory,
    embedded_deployment,
    new_tenant,
)
from gateway.metrics import Metrics
from gateway.request_event import EventLog, quiet_logging
from vault.authority import Authority
from vault.db import Database
from vault.embedded.bootstrap import EmbeddedParts, StartOptions
from vault.errors import StartRefused
from vault.tenant_table import TenantTable

API_BASE_PATH: Final = "/out/stripe"
SHOP: Final = "gateway.demo.shop"
PLAIN: Final = "gateway.demo.plain_http"


class Hello(msgspec.Struct):
    """The shop's first line."""

    sdk: str


@dataclass(slots=True)
class Stage:
    """What a step may use. `tokens` and `orders` are what earlier steps left."""

    deployment: EmbeddedDeployment
    credentials: Credentials
    cards: Mapping[str, DemoCard]
    search: Search
    sdk: str
    shop: Client
    page: PlainHttp
    office: PlainHttp
    witness: Witness
    begun: Look
    database: Database
    proxy_ca_file: Path
    shop_url: str
    reports: Reports
    old_shop: OldShop
    old_shop_page: PlainHttp
    """A shopper's browser at the old shop, with the inbound route between them."""
    run: str = field(default_factory=lambda: secrets.token_hex(3))
    tokens: dict[str, NewToken] = field(default_factory=dict[str, NewToken])

    @property
    def folder(self) -> Path:
        return self.deployment.parts.folder

    @property
    def old_shop_url(self) -> str:
        """Where shoppers find the old shop: at the inbound route."""
        return _old_shop_url(self.credentials)

    def token(self, name: str) -> str:
        """The token that an earlier step got for this card."""
        if name not in self.tokens:
            raise StoryBroke(f"an earlier step got no token for the {name}")
        return self.tokens[name].id

    async def save_card(
        self, token: str, *, with_cvc: bool = True, retries: int | None = None
    ) -> Heard:
        """Let the shop make a PaymentMethod of a token."""
        card = self.cards["visa"]  # all of the demo's cards expire together
        order = SaveCard(token, card.exp_month, card.exp_year, with_cvc, retries)
        return await self.shop.tell(order, Heard)

    async def pay(self, order: Pay) -> Heard:
        return await self.shop.tell(order, Heard)

    async def through_the_proxy(self, url: str, body: object) -> HttpAnswer:
        """Let the back office call a processor by its own address, through our proxy."""
        text = msgspec.json.encode(body).decode()
        call = HttpCall(
            "POST",
            url,
            str(self.proxy_ca_file),
            self.credentials.secret_key,
            text,
            self.credentials.proxy_url,
        )
        return await self.office.process.tell(call, HttpAnswer)

    def order_id(self, name: str) -> str:
        """An order number that no earlier demo in the same folder had."""
        return f"order-{self.run}-{name}"

    async def another_shops_page(self) -> PlainHttp:
        """Make another tenant, and give the checkout page of its shop."""
        tenant, publishable, _ = await new_tenant(
            TenantTable(self.database), f"other-shop-{self.run}", at=utc_now()
        )
        theirs = msgspec.structs.replace(
            self.credentials, tenant=tenant.id, publishable_key=publishable.text
        )
        return checkout_page(self.page.process, theirs)

    def heard_by_the_shop(self) -> list[bytes]:
        """Every answer that the shop's back end and its back office got, and what it was posted."""
        return [*self.shop.heard, *self.office.process.heard, *self.reports.posts]


@asynccontextmanager
async def set_up(folder: Path, options: StartOptions, *, at: datetime) -> AsyncIterator[Stage]:
    """Start everything in a folder, and end it afterwards.

    Raises StartRefused with what to change; any KeysError or StoreUnavailable.
    """
    if importlib.util.find_spec("stripe") is None:
        raise StartRefused("the demo's shop needs Stripe's SDK: pip install 'panward[demo]'")
    async with AsyncExitStack() as stack:
        deployment = await stack.enter_async_context(
            embedded_deployment(
                folder,
                at=at,
                options=options,
                memory=SandboxMemory.IN_MEMORY,
                own_inbound=False,
            )
        )
        gateway = await _run_gateway(deployment, stack)
        parts, config = deployment.parts, deployment.config
        credentials = msgspec.json.decode(
            (parts.folder / "credentials.json").read_bytes(), type=Credentials
        )
        database = await Database.open(config.secret(config.database.runtime_dsn_file))
        stack.push_async_callback(database.close)
        log_file = _private_log(parts.folder, "clients")
        shop, page, office = [
            await stack.enter_async_context(client(module, log_file))
            for module in (SHOP, PLAIN, PLAIN)
        ]
        witness = Witness(parts, database)
        cards = demo_cards(at.year)
        sdk = await _sdk(shop, credentials)
        buying = back_office(office, credentials)
        public = PlainHttp(page, credentials.public_url, None, credentials.ca_file)
        registered = await _register(stack, deployment, database, buying, credentials)
        reports = Reports(shop, buying, public, witness.processor, credentials, registered)
        till = Till(shop, buying, witness.processor, _ledger(witness, parts.folder), reports)
        shop_url = await _open_shop(stack, till, parts, credentials, cards)
        behind = await _open_old_shop(stack, parts, cards, at.year)
        yield Stage(
            deployment=deployment,
            credentials=credentials,
            cards=cards,
            search=Search([card.number for card in cards.values()]),
            sdk=sdk,
            shop=shop,
            page=checkout_page(page, credentials),
            office=back_office(office, credentials),
            witness=witness,
            begun=await witness.look(),
            database=database,
            proxy_ca_file=await _proxy_ca_file(parts.folder, gateway),
            shop_url=shop_url,
            reports=reports,
            old_shop=behind,
            old_shop_page=PlainHttp(page, _old_shop_url(credentials), None, credentials.ca_file),
        )


async def _register(
    stack: AsyncExitStack,
    deployment: EmbeddedDeployment,
    database: Database,
    office: PlainHttp,
    credentials: Credentials,
) -> Registered:
    """Let the processor's callbacks reach the shop, for as long as there is one."""
    shop_url = _shop_url(deployment.parts)
    registered = await register(
        deployment.config, database, office, tenant=credentials.tenant, shop_url=shop_url
    )

    async def end() -> None:
        with suppress(StoryBroke):
            await unregister(office, shop_url)

    stack.push_async_callback(end)
    return registered


def _shop_url(parts: EmbeddedParts) -> str:
    return f"https://127.0.0.1:{parts.ports['shop']}"


async def _open_shop(
    stack: AsyncExitStack,
    till: Till,
    parts: EmbeddedParts,
    credentials: Credentials,
    cards: Mapping[str, DemoCard],
) -> str:
    """Serve the shop, whose origin `gateway.embedded` has put on the publishable key's list."""
    window = Window(
        port=parts.ports["shop"],
        certificate_file=parts.tls_cert_file,
        private_key_file=parts.tls_key_file,
        publishable_key=credentials.publishable_key,
        gateway=credentials.public_url,
        loader=load_inventory().loader,
        cards=cards,
    )
    log_file = _private_log(parts.folder, "shop")
    return await stack.enter_async_context(storefront(window, till, log_file))


async def _open_old_shop(
    stack: AsyncExitStack, parts: EmbeddedParts, cards: Mapping[str, DemoCard], year: int
) -> OldShop:
    """Its own folder is in the deployment's, which the thief searches like all else in there."""
    folder, test_card = parts.folder / "old_shop", cards["mastercard"].number
    settings = OldShopSettings(parts.ports["old_shop"], str(folder), year, test_card)
    return await stack.enter_async_context(
        old_shop(settings, _private_log(parts.folder, "clients"))
    )


def _old_shop_url(credentials: Credentials) -> str:
    return credentials.inbound_url or ""


def _ledger(witness: Witness, folder: Path) -> Ledger:
    command = Path(sys.executable).with_name("panward")
    return Ledger(witness.log_key, str(command) if command.exists() else "panward", folder)


async def _proxy_ca_file(folder: Path, gateway: Running) -> Path:
    """Write what `panward ca` prints: the root that the shop has to trust at the proxy."""
    roots = await Authority(gateway.custody.reveal.ask).roots(at=utc_now())
    path = folder / "tls" / "proxy-ca.pem"
    path.write_bytes(b"".join(root.certificate for root in roots))
    return path


async def _run_gateway(deployment: EmbeddedDeployment, stack: AsyncExitStack) -> Running:
    config = deployment.config
    log_file = _private_log(deployment.parts.folder, "gateway")
    metrics = Metrics(processor_routes=[route.name for route in config.routes])
    log = EventLog(
        stack.enter_context(log_file.open("ab", buffering=0)), now=utc_now, watch=metrics
    )
    stack.enter_context(quiet_logging(log))
    return await stack.enter_async_context(running(config, log, metrics))


async def _sdk(shop: Client, credentials: Credentials) -> str:
    """Give the shop its settings, and hear which SDK it has."""
    account = Account(
        api_key=credentials.secret_key,
        api_base=credentials.private_url + API_BASE_PATH,
        ca_file=credentials.ca_file,
    )
    return (await shop.tell(account, Hello)).sdk


def _private_log(folder: Path, name: str) -> Path:
    path = folder / "log" / f"{name}.log"
    path.touch(mode=0o600)
    return path
