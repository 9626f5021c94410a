"""One more gateway on the same database, whose calls in doubt are looked into when a test says so.

Its routes, by names that a seller has credentials for:
- `checkout_com`: asked as the preset says, but an empty list counts after two seconds
- `cybersource`: asked in the preset's own way
- `stripe`: sends again what is in doubt
- `stripe_quick`: does not
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.flows.deployment import Deployment, Gateway, Store, Urls, eventually
from tests.flows.replica import free_ports, quick_preset, with_routes
from tests.flows.wire import Wire

SETTLED_SECONDS = 2
ROUTES = {
    "checkout_com": ("hasty_checkout_com.toml", "never"),
    "cybersource": ("hasty_cybersource.toml", "never"),
    "stripe": ("hasty_stripe.toml", "within_lifetime"),
    "stripe_quick": ("hasty_stripe.toml", "never"),
}
SECONDS = 60.0
_COUNTED = re.compile(r"^panward_reconciliations_total\{.*\} ([0-9.e+]+)$", re.MULTILINE)


@dataclass
class Reconciling:
    """That gateway, which a test may kill and start again."""

    deployment: Deployment
    file: Path
    folder: Path
    gateway: Gateway
    urls: Urls

    def start(self) -> None:
        self.gateway = Gateway(self.folder, "--config", str(self.file))
        self.gateway.until_ready()


@contextmanager
def running_reconciling(deployment: Deployment) -> Iterator[Reconciling]:
    """Start it; stop it at the end."""
    name, folder = "reconciling", deployment.parts.folder
    for processor in ("checkout_com", "cybersource", "stripe"):
        quick = quick_preset(processor)
        hasty = re.sub(
            "settled_after_seconds = .*", f"settled_after_seconds = {SETTLED_SECONDS}", quick
        )
        assert hasty != quick
        (folder / f"hasty_{processor}.toml").write_text(hasty)
    ports = free_ports(4)
    file = folder / f"{name}.toml"
    file.write_text(with_routes(deployment, name, ports, "".join(_routes(deployment))))
    place = deployment.gateway.out.parent / name
    gateway = Gateway(place, "--config", str(file))
    urls = Urls(*(f"https://127.0.0.1:{port}" for port in ports[:3]))
    made = Reconciling(deployment, file, place, gateway, urls)
    try:
        gateway.until_ready()
        yield made
    finally:
        assert made.gateway.stop() == 0, made.gateway.err.read_text()


def _routes(deployment: Deployment) -> Iterator[str]:
    for route, (preset, replay) in ROUTES.items():
        yield f"""[[routes]]
name = "{route}"
preset = "{preset}"
host = "127.0.0.1:{deployment.parts.ports["sandbox"]}"
address_allow = ["127.0.0.1/32"]
ca_file = "{deployment.ca_file}"
connect_names = []
unknown_replay = "{replay}"

"""


async def looked_into(store: Store, authorization: str, *, until: str = "resolved") -> str:
    """Let an authorization be due until it is in a state, as days would; give its result."""

    async def state() -> str | None:
        await _due(store, authorization)
        row = await store.fetchrow(
            "SELECT state, result FROM authorizations WHERE first = $1", authorization
        )
        return str(row["result"]) if row is not None and row["state"] == until else None

    return await eventually(state, f"it is never {until}", seconds=SECONDS)


async def looks(gateway: Reconciling, wire: Wire, store: Store, authorization: str) -> None:
    """Let an authorization be due until this gateway, not only the other, has looked into it."""

    async def so_far() -> float:
        page = await wire("GET", f"{gateway.urls.ops}/metrics")
        counted = _COUNTED.findall(page.body.decode())
        return sum(float(count) for count in counted)

    before = await so_far()

    async def looked() -> bool:
        await _due(store, authorization)
        return await so_far() >= before + 2

    await eventually(looked, "nobody looks into it", seconds=SECONDS)


async def _due(store: Store, authorization: str) -> None:
    await store.execute(
        "UPDATE intent_state SET due = $2 WHERE state = 'unknown' AND first = $1",
        authorization,
        datetime(2020, 1, 1, tzinfo=UTC),
    )
