"""Gateways that die, on children that live on: what a test of the crash matrix stands on.

A `Stage` is one deployment without a gateway of its own. Gateways of it are whole ones, each with
a configuration file, ports and a folder of state; a seller pays through them; what is left after
a death is read from the database, OpenBao's audit log and the simulated processor.
"""

import re
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Self

import aiohttp

from tests.crash.children import Children, Doomed
from tests.flows.deployment import Deployment, Store, Urls
from tests.flows.processor import Counts
from tests.flows.reconciling import SETTLED_SECONDS
from tests.flows.replica import free_ports, quick_preset, with_routes
from tests.flows.wire import Wire
from vault.ledger.entry import Entry, decode

ROUTES = {"stripe": "stripe", "once": "once.toml", "checkout_com": "hasty_checkout_com.toml"}
"""`once`: a Stripe that cannot be sent to again; `checkout_com`: one that can be asked at once."""


class Place:
    """Where one gateway is: its configuration file, its listeners, and the process while it runs.

    One that has died is started again under the same replica's name.
    """

    def __init__(
        self, deployment: Deployment, name: str, written: Path, module: str = "doomed_gateway"
    ) -> None:
        ports = free_ports(4)
        self.file = deployment.parts.folder / f"{name}.toml"
        self.file.write_text(with_routes(deployment, name, ports, "".join(_routes(deployment))))
        self.urls = Urls(*(f"https://127.0.0.1:{port}" for port in ports[:3]))
        self.state_folder = deployment.parts.folder / name
        self._written = written / name
        self._module = module
        self._starts = 0
        self._gateway: Doomed | None = None

    @property
    def gateway(self) -> Doomed:
        """The process, which is started when there is none."""
        if self._gateway is None:
            self.begin()
            self.until_ready()
        assert self._gateway is not None
        return self._gateway

    def begin(self) -> None:
        """Start it, without waiting."""
        assert self._gateway is None
        self._starts += 1
        self._gateway = Doomed(self._written / str(self._starts), self.file, self._module)

    def until_ready(self) -> None:
        assert self._gateway is not None
        self._gateway.until_ready()

    def died(self) -> None:
        """Wait until it has died."""
        gateway, self._gateway = self._gateway, None
        assert gateway is not None
        gateway.died()

    def stop(self) -> None:
        """End it in order, if it runs."""
        gateway, self._gateway = self._gateway, None
        if gateway is not None:
            assert gateway.stop() == 0, gateway.err.read_text()


@dataclass
class Stage:
    """The children, and places for gateways."""

    deployment: Deployment
    written: Path
    places: list[Place] = field(default_factory=list)

    @classmethod
    def started(cls, folder: Path) -> Self:
        children = Children(folder.with_name(f"{folder.name}-written"), folder)
        children.until_ready()
        stage = cls(Deployment(children, folder), folder.with_name(f"{folder.name}-gateways"))
        _write_presets(folder)
        return stage

    @property
    def children(self) -> Children:
        assert isinstance(self.deployment.gateway, Children)
        return self.deployment.gateway

    def place(self, name: str, module: str = "doomed_gateway") -> Place:
        self.places.append(Place(self.deployment, name, self.written, module))
        return self.places[-1]

    @contextmanager
    def placed(self, name: str, module: str = "doomed_gateway") -> Iterator[Place]:
        """Give a place whose gateway, which is this program, is ended at the end."""
        place = self.place(name, module)
        try:
            yield place
        finally:
            place.stop()

    def stop(self) -> None:
        with ExitStack() as stack:
            stack.callback(self._end_children)
            for place in self.places:
                stack.callback(place.stop)

    def _end_children(self) -> None:
        assert self.children.stop() == 0, self.children.err.read_text()


@contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    """Start the children, and end whatever runs at the end."""
    stage = Stage.started(folder)
    try:
        yield stage
    finally:
        stage.stop()


@asynccontextmanager
async def wire_to(context: ssl.SSLContext) -> AsyncIterator[Wire]:
    """Give one client's connections."""
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield Wire(session)


def _write_presets(folder: Path) -> None:
    stripe = (files("gateway.processors") / "stripe.toml").read_text()
    once = re.sub("replay_seconds = .*", "replay_seconds = 0", stripe)
    checkout = quick_preset("checkout_com")
    settled = f"settled_after_seconds = {SETTLED_SECONDS}"
    hasty = re.sub("settled_after_seconds = .*", settled, checkout)
    assert once != stripe
    assert hasty != checkout
    (folder / "once.toml").write_text(once)
    (folder / "hasty_checkout_com.toml").write_text(hasty)


def _routes(deployment: Deployment) -> Iterator[str]:
    for route, preset in ROUTES.items():
        yield f"""[[routes]]
name = "{route}"
preset = "{preset}"
host = "127.0.0.1:{deployment.parts.ports["sandbox"]}"
address_allow = ["127.0.0.1/32"]
ca_file = "{deployment.ca_file}"
connect_names = []

"""


# --- what is left -------------------------------------------------------------------------


@dataclass(frozen=True)
class Left:
    """What the witnesses of one tenant's requests have, after a death or at any other time."""

    claims: int
    entries: tuple[str, ...]  # of its authorizations, without their common beginning
    opened: int  # items that OpenBao was asked to open for them
    arrived: int
    charges: int


@dataclass
class Witness:
    """Looks at what is left of the one tenant that pays at the moment."""

    deployment: Deployment
    store: Store
    tenant: str
    before: Counts

    async def left(self) -> Left:
        entries = await self.entries()
        intents = {entry.intent for entry in entries if hasattr(entry, "intent")}
        opened = [one for one in self.deployment.decrypts() if one.partition("/")[0] in intents]
        counts = self.deployment.processor.counts
        return Left(
            claims=await self.store.fetchval(
                "SELECT count(*) FROM claim WHERE tenant = $1", self.tenant
            ),
            entries=tuple(entry.type.removeprefix("authorization.") for entry in entries),
            opened=len(set(opened)),
            arrived=counts.requests - self.before.requests,
            charges=counts.charges - self.before.charges,
        )

    async def entries(self) -> list[Entry]:
        """Read the entries of its authorizations, in order."""
        rows = await self.store.fetch(
            "SELECT body FROM entry WHERE tenant = $1 AND type LIKE 'authorization.%' ORDER BY idx",
            self.tenant,
        )
        return [decode(row["body"]) for row in rows]

    async def states(self) -> list[str]:
        """The states of its sends as the derived rows have them."""
        rows = await self.store.fetch(
            "SELECT state FROM intent_state WHERE tenant = $1 ORDER BY opened_at, attempt",
            self.tenant,
        )
        return [row["state"] for row in rows]

    async def codes(self) -> int:
        """How many of its CVCs are stored."""
        count: int = await self.store.fetchval(
            "SELECT count(*) FROM cvc JOIN token ON token.id = cvc.token WHERE token.tenant = $1",
            self.tenant,
        )
        return count
