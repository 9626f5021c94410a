"""The workers that bring deliveries to merchants' endpoints: at least once, in order, for days.

What lives here: when something is tried again, what counts as delivered, how many at once. Who
is next, and whose endpoint is paused, the queue knows (`vault/delivery_queue.py`), so that any
replica may go on where another stopped. What never may: a redirect that is followed, and what an
endpoint answers beyond its status and `Retry-After`.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Final, Literal, NamedTuple, Protocol, Self

from gateway.addresses import NOTHING_PRIVATE, AddressAllow, HostRefused, checked_host
from gateway.exchange import Outcome, Replied, Unknown, is_sendable
from gateway.https_client import UrlRefused
from gateway.webhook_form import Forgotten, Unsignable, post_of
from vault.delivery_queue import Claimed, DeliveryQueue, Settled
from vault.errors import CustodyError

TIMEOUT_SECONDS: Final = 15.0
REPLY_BYTES_MAX: Final = 65_536
CLIENTS_MAX: Final = 256
IN_FLIGHT_MAX: Final = 1_024
LINGERING_SECONDS: Final = 1.0
"""What takes longer keeps nobody else waiting: its place is given away."""
TURN_SECONDS: Final = 0.05
LEAVING_SECONDS: Final = 1.0
"""For so long a worker that leaves waits for answers: what has arrived should not come twice."""
POLL_SECONDS: Final = 0.5
PUT_OFF: Final = timedelta(seconds=5)
RETRY_AFTER_MAX: Final = timedelta(hours=24)
JITTER: Final = 0.2

_HALF_DAY: Final = timedelta(hours=12)
RETRIES: Final = (  # after the first try, which is at once; together about three days
    timedelta(seconds=5),
    timedelta(seconds=30),
    timedelta(minutes=2),
    timedelta(minutes=10),
    timedelta(hours=1),
    timedelta(hours=3),
    timedelta(hours=6),
    *(_HALF_DAY,) * 5,
)
_SEND_MAX: Final = timedelta(seconds=TIMEOUT_SECONDS)
_OK: Final = range(200, 300)
_GONE: Final = 410

Ended = Literal["delivered", "failed", "dead", "gone", "put_off"]


class WebhookUrl(NamedTuple):
    """Where a merchant's endpoint is. Unlike other addresses it may have a query."""

    host: str
    port: int
    path: str
    query: str

    @classmethod
    def parse(cls, text: str, allow: AddressAllow = NOTHING_PRIVATE) -> Self:
        """Read an https address as it was written. Raises UrlRefused."""
        authority, slash, rest = text.removeprefix("https://").partition("/")
        path, _, query = (slash + rest or "/").partition("?")
        host = None
        if text.startswith("https://") and is_sendable("POST", path, query, ()):
            with suppress(HostRefused):
                host = checked_host(authority, allow)
        if host is None:
            raise UrlRefused
        return cls(host.name, host.port, path, query)


class Client(Protocol):
    """Posts to one host: `gateway.upstream.Upstream`."""

    async def send(
        self, method: str, path: str, query: str, headers: tuple[tuple[str, str], ...], body: bytes
    ) -> Outcome: ...

    async def close(self) -> None: ...


class WebhookKeys(Protocol):
    """Where the secrets of endpoints are: `vault.keys.RevealKeys`, which keeps them for a bit."""

    async def webhook_secrets(self, tenant: str, endpoint: str) -> Mapping[str, str] | None: ...


class DeliveryObserver(Protocol):
    """Hears how deliveries end. It must not raise."""

    def delivery_tried(self, form: str, outcome: Ended, seconds: float) -> None: ...


@dataclass(slots=True)
class _Reached:
    """A client, and how many deliveries use it now."""

    client: Client
    users: int = 0


@dataclass(slots=True)
class _Work:
    """What this worker has in hand."""

    begun: dict[asyncio.Task[None], tuple[Claimed, float]] = field(default_factory=dict)
    ended: list[Settled] = field(default_factory=list)


class Deliveries:
    """One replica's worker. Entered and left in one task; what is under way then ends there."""

    def __init__(  # noqa: PLR0913 - the parts of one wiring
        self,
        queue: DeliveryQueue,
        keys: WebhookKeys,
        *,
        client: Callable[[WebhookUrl], Client],
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        chance: Callable[[], float],
        metrics: DeliveryObserver,
        address_allow: AddressAllow = NOTHING_PRIVATE,
        concurrency: int = 64,
    ) -> None:
        """`client` makes one for a host; `chance` gives numbers in [0, 1)."""
        self._queue = queue
        self._keys = keys
        self._client = client
        self._now = now
        self._monotonic = monotonic
        self._chance = chance
        self._metrics = metrics
        self._allow = address_allow
        self._concurrency = concurrency
        self._clients: dict[tuple[str, str], _Reached] = {}  # the one not used longest is first
        self._work = _Work()
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Settle what has ended, drop the rest: others take it up when its lease is over."""
        if error is None and self._work.begun:
            await asyncio.wait(self._work.begun, timeout=LEAVING_SECONDS)
        for task in self._work.begun:
            task.cancel()
        try:
            await self._group.__aexit__(kind, error, trace)
        finally:
            with suppress(CustodyError):
                await self._settle()
            for reached in self._clients.values():
                await reached.client.close()

    async def run(self) -> None:
        """Work until there is nothing left for now: a duty, to be repeated every half second."""
        with suppress(CustodyError):  # the store is away: the next turn tries again
            while await self.turn():
                pass

    async def turn(self) -> int:
        """Claim what is due, send it, settle what has ended; 0: nothing to do for now.

        Raises StoreUnavailable; what had ended is settled by a later turn then.
        """
        claimed = await self._claim()
        tasks = [self._begin(one) for one in claimed]
        if tasks:
            await asyncio.wait(tasks, timeout=TURN_SECONDS)
        return len(claimed) + await self._settle()

    async def _claim(self) -> list[Claimed]:
        begun = self._work.begun.values()
        late = self._monotonic() - LINGERING_SECONDS
        young = sum(since > late for _, since in begun)
        room = min(self._concurrency - young, IN_FLIGHT_MAX - len(begun) - len(self._work.ended))
        if room <= 0:
            return []
        busy: dict[str, int] = {}
        for one, _ in begun:
            busy[one.endpoint] = busy.get(one.endpoint, 0) + 1
        return list(await self._queue.claim(self._now(), room, busy))

    async def _settle(self) -> int:
        ended, self._work.ended = self._work.ended, []
        try:
            await self._queue.settle(ended, self._now())
        except BaseException:  # a worker that is told to leave settles them as it leaves
            self._work.ended = ended + self._work.ended
            raise
        return len(ended)

    def _begin(self, claimed: Claimed) -> asyncio.Task[None]:
        task = self._group.create_task(self._deliver(claimed))
        self._work.begun[task] = claimed, self._monotonic()
        task.add_done_callback(self._work.begun.pop)
        return task

    async def _deliver(self, claimed: Claimed) -> None:
        began = self._monotonic()
        try:
            settled = await self._tried(claimed)
        except Exception:  # noqa: BLE001 - one that our code fails at must not end all others
            settled = self._failed(claimed, None, "internal_error")
        self._work.ended.append(settled)
        self._metrics.delivery_tried(claimed.form, settled.outcome, self._monotonic() - began)

    async def _tried(self, claimed: Claimed) -> Settled:
        try:
            secrets = await self._keys.webhook_secrets(claimed.tenant, claimed.endpoint)
        except CustodyError:  # our own trouble, which is not the endpoint's
            return Settled(claimed, "put_off", self._now() + PUT_OFF, error="keys_unavailable")
        try:
            post = post_of(claimed, secrets or {}, at=self._now())
            url = WebhookUrl.parse(claimed.url, self._allow)
        except Forgotten:
            return Settled(claimed, "dead", self._now(), error="body_forgotten")
        except Unsignable:
            return self._failed(claimed, None, "unsignable")
        except UrlRefused:
            return self._failed(claimed, None, "url_refused")
        if claimed.leased_until - self._now() < _SEND_MAX:  # perhaps another's already
            return Settled(claimed, "put_off", self._now(), error="lease_over")
        reached = await self._reached(claimed, url)
        reached.users += 1
        try:
            outcome = await reached.client.send(
                "POST", url.path, url.query, post.headers, post.body
            )
        finally:
            reached.users -= 1
        return self._judged(claimed, outcome)

    def _judged(self, claimed: Claimed, outcome: Outcome) -> Settled:
        """A status says it, however the rest of the reply ends."""
        status = outcome.status if isinstance(outcome, Replied | Unknown) else None
        if status in _OK:
            return Settled(claimed, "delivered", self._now(), status)
        if status == _GONE:
            return Settled(claimed, "gone", self._now(), status, "gone")
        if isinstance(outcome, Replied):
            wait = retry_after(outcome.headers, self._now())
            return self._failed(claimed, status, "status", wait)
        return self._failed(claimed, status, outcome.code)

    def _failed(
        self,
        claimed: Claimed,
        status: int | None,
        error: str,
        wait: timedelta = timedelta(0),
    ) -> Settled:
        now = self._now()
        if claimed.tries >= len(RETRIES):
            return Settled(claimed, "dead", now, status, error)
        spread = 1 - JITTER + 2 * JITTER * self._chance()
        due = now + max(RETRIES[claimed.tries] * spread, wait)
        return Settled(claimed, "failed", due, status, error)

    async def _reached(self, claimed: Claimed, url: WebhookUrl) -> _Reached:
        key = claimed.endpoint, claimed.url
        reached = self._clients.pop(key, None) or _Reached(self._client(url))
        self._clients[key] = reached  # it is the last one now
        if len(self._clients) > CLIENTS_MAX:
            idle = (one for one, of in self._clients.items() if not of.users and of is not reached)
            oldest = next(idle, None)
            if oldest is not None:
                reached.users += 1  # nobody closes it meanwhile
                try:
                    await self._clients.pop(oldest).client.close()
                finally:
                    reached.users -= 1
        return reached


def retry_after(headers: tuple[tuple[str, str], ...], at: datetime) -> timedelta:
    """Read how long an endpoint asks to be left alone (RFC 9110 10.2.3): a day at most."""
    text = next((value.strip() for name, value in headers if name.lower() == "retry-after"), "")
    if text.isascii() and text.isdigit():
        return timedelta(seconds=min(int(text[:9]), RETRY_AFTER_MAX.total_seconds()))
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return timedelta(0)
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return min(max(until - at, timedelta(0)), RETRY_AFTER_MAX)
