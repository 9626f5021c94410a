"""What machines ask about this process: `/healthz`, `/readyz`, `/metrics`, for the ops listener.

`/healthz` asks nobody: a process that answers is alive, and killing it does not open a sealed
Vault. `/readyz` does real work, because a dependency's own health page does not tell whether it
would do ours: OpenBao with a full audit disk calls itself healthy and fails every call.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web

from gateway.api.answers import json_response
from gateway.errors import GatewayError
from gateway.metrics import Metrics
from vault.errors import CustodyError

Probe = Callable[[], Awaitable[None]]
"""Does a small piece of real work, or raises."""

PROBE_SECONDS_MAX: Final = 2.0
VERDICT_SECONDS: Final = 2.0
LAG_SECONDS_MAX: Final = 0.5
LAG_SAMPLE_SECONDS: Final = 0.05
TEXT_FORMAT: Final = "text/plain; version=0.0.4; charset=utf-8"


class Health:
    """The ops listener's handlers, and whether this process can do its work."""

    def __init__(
        self,
        probes: Mapping[str, Probe],
        *,
        metrics: Metrics,
        monotonic: Callable[[], float],
        probe_seconds_max: float = PROBE_SECONDS_MAX,
        lag_seconds_max: float = LAG_SECONDS_MAX,
    ) -> None:
        """`probes` by name; the event loop's lag is probed besides, as `loop`."""
        self._probes = {**probes, "loop": self._loop_lag}
        self._metrics = metrics
        self._monotonic = monotonic
        self._probe_seconds_max = probe_seconds_max
        self._lag_seconds_max = lag_seconds_max
        self._verdict: tuple[float, dict[str, str]] | None = None
        self._asking = asyncio.Lock()
        self._draining = False

    def drain(self) -> None:
        """Say no from now on: who routes to this process must stop before it does."""
        self._draining = True

    async def healthz(self, _request: web.Request) -> web.Response:
        """`GET /healthz`: this process answers."""
        return json_response({"status": "alive"})

    async def readyz(self, _request: web.Request) -> web.Response:
        """`GET /readyz`: 200 or 503, and each probe's word."""
        checks = await self.checks()
        ready = all(word == "ok" for word in checks.values())
        return json_response(
            {"status": "ready" if ready else "not_ready", "checks": checks},
            status=200 if ready else 503,
        )

    async def metrics(self, _request: web.Request) -> web.Response:
        """`GET /metrics`: the text format, made in a thread because it is long."""
        text = await asyncio.to_thread(self._metrics.exposition, at=self._monotonic())
        return web.Response(body=text, headers={"Content-Type": TEXT_FORMAT})

    async def checks(self) -> dict[str, str]:
        """Each probe's name with `ok` or why not, as of at most two seconds ago."""
        if self._draining:
            return {"process": "draining"}
        async with self._asking:  # many may ask, one asks the dependencies
            if self._verdict is None or self._monotonic() - self._verdict[0] >= VERDICT_SECONDS:
                words = await asyncio.gather(*map(self._ask, self._probes.values()))
                found = dict(zip(self._probes, words, strict=True))
                self._verdict = self._monotonic(), found
            return self._verdict[1]

    async def _ask(self, probe: Probe) -> str:
        """Return an error's code, `timeout`, `failed` or `ok`."""
        try:
            async with asyncio.timeout(self._probe_seconds_max):
                await probe()
        except TimeoutError:
            return "timeout"
        except (CustodyError, GatewayError) as error:
            return error.code
        except Exception:  # noqa: BLE001 - any failure is a no, and its text may quote anything
            return "failed"
        return "ok"

    async def _loop_lag(self) -> None:
        """Sleep a little; raise TimeoutError if it was much more."""
        loop = asyncio.get_running_loop()
        due = loop.time() + LAG_SAMPLE_SECONDS
        await asyncio.sleep(LAG_SAMPLE_SECONDS)
        lag = max(0.0, loop.time() - due)
        self._metrics.loop_lagged(lag)
        if lag > self._lag_seconds_max:
            raise TimeoutError
