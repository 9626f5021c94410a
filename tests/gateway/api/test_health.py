"""Liveness asks nobody; readiness does real work, seldom and in bounded time."""

import asyncio
import json

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from gateway.api.health import Health
from gateway.metrics import Metrics
from tests.cards import VISA
from vault.errors import KeysSealed, StoreFull


class Clock:
    """Stands still until told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Dependency:
    """A probe that does as told, and counts."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None
        self.seconds = 0.0

    async def __call__(self) -> None:
        self.asked += 1
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def vault() -> Dependency:
    return Dependency()


@pytest.fixture
def store() -> Dependency:
    return Dependency()


@pytest.fixture
def health(clock: Clock, vault: Dependency, store: Dependency) -> Health:
    return Health(
        {"vault": vault, "store": store},
        metrics=Metrics(),
        monotonic=clock,
        probe_seconds_max=0.2,
    )


REQUEST = make_mocked_request("GET", "/")


def told(response: web.Response) -> tuple[int, dict[str, object]]:
    assert isinstance(response.body, bytes)
    return response.status, json.loads(response.body)


async def test_ready_when_every_probe_works(health: Health) -> None:
    assert told(await health.readyz(REQUEST)) == (
        200,
        {"status": "ready", "checks": {"vault": "ok", "store": "ok", "loop": "ok"}},
    )


@pytest.mark.guards("F-01")
@pytest.mark.guards("F-10")
async def test_a_probe_that_fails_gives_its_reason_and_no_text(
    health: Health, vault: Dependency, store: Dependency
) -> None:
    vault.error, store.error = KeysSealed(), ValueError(VISA)
    status, document = told(await health.readyz(REQUEST))
    assert status == 503
    assert document["checks"] == {"vault": "vault_sealed", "store": "failed", "loop": "ok"}
    assert told(await health.healthz(REQUEST)) == (200, {"status": "alive"})


async def test_a_probe_that_hangs_is_given_up(health: Health, store: Dependency) -> None:
    store.seconds = 60
    status, document = told(await health.readyz(REQUEST))
    assert status == 503
    assert document["checks"] == {"vault": "ok", "store": "timeout", "loop": "ok"}


async def test_many_askers_are_one_probe_in_two_seconds(
    health: Health, vault: Dependency, clock: Clock
) -> None:
    await asyncio.gather(*(health.readyz(REQUEST) for _ in range(20)))
    clock.now += 1.9
    await health.readyz(REQUEST)
    assert vault.asked == 1
    vault.error = StoreFull()
    clock.now += 0.2
    status, _ = told(await health.readyz(REQUEST))
    assert (status, vault.asked) == (503, 2)


async def test_a_process_that_drains_is_not_ready_and_asks_nobody(
    health: Health, vault: Dependency
) -> None:
    health.drain()
    status, document = told(await health.readyz(REQUEST))
    assert (status, document["checks"], vault.asked) == (503, {"process": "draining"}, 0)


async def test_an_event_loop_that_lags_is_not_ready(clock: Clock) -> None:
    metrics = Metrics()
    health = Health({}, metrics=metrics, monotonic=clock, lag_seconds_max=-1.0)
    status, document = told(await health.readyz(REQUEST))
    assert (status, document["checks"]) == (503, {"loop": "timeout"})
    assert metrics.registry.get_sample_value("panward_event_loop_lag_seconds_count") == 1


async def test_metrics_are_in_the_text_format(health: Health) -> None:
    response = await health.metrics(REQUEST)
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert isinstance(response.body, bytes)
    assert b"panward_build_info{version=" in response.body
