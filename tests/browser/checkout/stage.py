"""What the tests of the hosted fields share: one real deployment, its merchants, a real browser."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from tests.browser.checkout.merchant_page import MerchantPages, merchant_pages
from tests.flows.deployment import Deployment, Gateway, Urls
from tests.flows.merchant import Account, new_account
from tests.flows.replica import free_ports
from vault.db import Database
from vault.tenant_table import TenantTable


@dataclass(frozen=True)
class Stage:
    """A deployment and the merchant's pages, which know of each other."""

    deployment: Deployment
    pages: MerchantPages

    @property
    def urls(self) -> Urls:
        return self.deployment.urls

    async def new_account(self, *origins: str) -> Account:
        """Add a merchant; the shop's origin is on the list of its key, unless told otherwise."""
        account = await new_account(self.deployment, routes=("stripe",))
        config = self.deployment.config
        database = await Database.open(config.secret(config.database.runtime_dsn_file))
        try:
            key_id = f"k_{account.publishable_key.removeprefix('pwpk_test_')[:16]}"
            listed = origins or (self.pages.shop,)
            assert await TenantTable(database).set_origins(key_id, listed)
        finally:
            await database.close()
        return account


@contextmanager
def opened(folder: Path) -> Iterator[Stage]:
    """Start both; when the deployment has stopped, no file of it may hold a card number."""
    deployment = Deployment.started(folder / "deployment")
    try:
        with merchant_pages() as pages:
            pages.gateways = {"main": deployment.urls.public}
            pages.loader_integrity = integrity_of("loader")
            yield Stage(deployment, pages)
    finally:
        status = deployment.gateway.stop()
    assert status == 0, deployment.gateway.err.read_text()
    assert deployment.leak_in_the_files() is None


@contextmanager
def strict_gateway(stage: Stage) -> Iterator[str]:
    """Start a gateway that lets one address call once, and then for long not again."""
    deployment = stage.deployment
    text = deployment.config.path.read_text()
    listeners = ("public", "private", "ops", "connect", "inbound")
    ports = free_ports(len(listeners))
    for listener, port in zip(listeners, ports, strict=True):
        text = re.sub(
            rf"(\[listeners.{listener}\].*\nhost = .*\nport = )\d+", rf"\g<1>{port}", text
        )
    text = text.replace('state_folder = "gateway"', 'state_folder = "strict"')
    text, changed = re.subn(
        r"(\[checkout\].*\n)address_per_second = .*\naddress_burst = .*\n",
        r"\1address_per_second = 0.01\naddress_burst = 1\n",
        text,
    )
    assert changed == 1
    file = deployment.parts.folder / "strict.toml"
    file.write_text(text)
    gateway = Gateway(deployment.gateway.out.parent / "strict", "--config", str(file))
    try:
        gateway.until_ready()
        yield f"https://127.0.0.1:{ports[0]}"
    finally:
        assert gateway.stop() == 0, gateway.err.read_text()


def integrity_of(part: str) -> str:
    """Give the hash of a built script, as the inventory has it."""
    folder = files("gateway") / "checkout"
    file = json.loads((folder / "built" / "manifest.json").read_text())[part]
    lines: list[dict[str, Any]] = json.loads((folder / "scripts.json").read_text())
    return str(next(line["sha384"] for line in lines if line["file"] == file))
