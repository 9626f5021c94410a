"""Sends the callbacks of the simulated processors, again and again until they are acknowledged.

By HTTPS from this process, the certificate verified. They are kept in memory: a processor that is
killed forgets them, as one whose callback never comes. What a test or the demo wants done wrong
is asked for here. What never lives here: what a callback says.
"""

import asyncio
import contextlib
import secrets
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, Self

import aiohttp
import msgspec
from yarl import URL

from gateway.sandbox.callbacks import Callback, CallingProcessor, CallsBack, Forgery, others_secret

AGAIN_AFTER_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
"""A simulator's short schedule: real ones go on for days."""
TIMEOUT_SECONDS: Final = 10.0  # as Adyen and Checkout.com have it
ANSWER_BYTES_MAX: Final = 64 * 1024
WAITING_MAX: Final = 20_000  # in all; more are given up at once
RECENT_MAX: Final = 1_000

ReleaseOrder = Literal["as_told", "shuffled", "reversed"]


class Destination(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a processor's callbacks go; those of one account, or of all that have none."""

    processor: CallingProcessor
    url: str
    secret: str
    ca_file: str | None = None  # None: the system's authorities
    account: str | None = None
    authorization: str | None = None  # a header that is sent along
    at_once: int = 1  # how many are under way together, where no order is kept

    def __repr__(self) -> str:
        return "Destination"


class CallbackCounts(msgspec.Struct):
    """What became of callbacks. `sent` counts tries, `told` and those after `sent` callbacks."""

    told: int = 0
    held: int = 0
    waiting: int = 0  # not acknowledged and not given up; those held back too
    sent: int = 0
    refused: int = 0  # tries that got another answer than the expected one
    unanswered: int = 0  # tries that got none: no connection, no proof of who answers, no time
    acknowledged: int = 0
    given_up: int = 0
    faults: int = 0  # bugs of the simulation itself


class SentCallback(msgspec.Struct):
    """One callback, as state tells of it."""

    processor: str
    type: str
    id: str
    payment: str
    tries: int = 0
    status: int | None = None  # of the last answer
    acknowledged: bool = False


@dataclass(slots=True, repr=False)
class _Sending:
    """One callback on its way."""

    line: "_Line"
    callback: Callback
    shown: SentCallback
    forgery: Forgery | None


@dataclass(frozen=True, slots=True, repr=False)
class _Line:
    """What waits for one destination, and how it gets there."""

    simulated: CallsBack
    to: Destination
    url: URL
    context: ssl.SSLContext
    queue: asyncio.Queue[_Sending] = field(default_factory=asyncio.Queue)

    @classmethod
    def to_(cls, destination: Destination, simulated: CallsBack) -> Self:
        """Check it all; a ValueError or an OSError where nothing could ever be sent."""
        url = URL(destination.url)
        if url.scheme != "https" or not url.host:
            raise ValueError("callbacks go by HTTPS")
        if destination.at_once < 1 or (simulated.in_order and destination.at_once > 1):
            raise ValueError("what keeps an order goes one by one")
        simulated.check_secret(destination.secret)
        context = ssl.create_default_context(cafile=destination.ca_file)
        return cls(simulated, destination, url, context)


@dataclass(slots=True)
class _Asked:
    """What was asked for: how the next one is to be, and whether they are held."""

    is_held: bool = False
    repeats: int = 0
    note: str | None = None
    forgery: Forgery | None = None


class CallingBack:
    """Takes what happened at a processor, and sends it where its callbacks go."""

    def __init__(self, processors: Sequence[object], *, now: Callable[[], datetime]) -> None:
        self._processors: Mapping[str, CallsBack] = {
            each.name: each for each in processors if isinstance(each, CallsBack)
        }
        self._now = now
        self._lines: dict[tuple[str, str | None], _Line] = {}
        self._asked = _Asked()
        self._held: list[_Sending] = []
        self._counts = CallbackCounts()
        self._recent: deque[SentCallback] = deque(maxlen=RECENT_MAX)
        self._workers: asyncio.TaskGroup | None = None
        self._running: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None  # noqa: TID251 - as below
        self._one_ended = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send until the block ends; what is not acknowledged by then is forgotten."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        connector = aiohttp.TCPConnector(limit=0)
        session = aiohttp.ClientSession(  # noqa: TID251 - the processor's side of the wire
            connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
        )
        async with session, asyncio.TaskGroup() as workers:
            self._workers, self._session = workers, session
            for line in self._lines.values():
                self._work_on(line)
            try:
                yield
            finally:
                self._workers = None
                for worker in self._running:
                    worker.cancel()
                self._running.clear()

    def _work_on(self, line: _Line) -> None:
        if self._workers is not None:
            for _ in range(line.to.at_once):
                self._running.append(self._workers.create_task(self._work(line)))

    # --- what is asked for ----------------------------------------------------------------

    def call_back_to(self, destination: Destination) -> None:
        """Begin; what waits for an earlier destination still goes there."""
        simulated = self._processors[destination.processor]
        line = _Line.to_(destination, simulated)
        self._lines[simulated.name, destination.account] = line
        self._work_on(line)

    def call_back_no_more(self, processor: CallingProcessor, account: str | None = None) -> None:
        """Report nothing that happens from now on."""
        self._lines.pop((processor, account), None)

    def hold(self) -> None:
        """Keep back what happens from now on."""
        self._asked.is_held = True

    def release(self, order: ReleaseOrder = "as_told") -> None:
        """Send what was held back, and the rest as it happens."""
        self._asked.is_held = False
        held, self._held = _in_order(self._held, order), []
        self._counts.held = 0
        for sending in held:
            sending.line.queue.put_nowait(sending)

    def repeat_next(self, times: int) -> None:
        """Send the next one so many times more, the same each time."""
        self._asked.repeats = times

    def plant_in_next(self, text: str) -> None:
        """Put this in the free text of the next one."""
        self._asked.note = text

    def forge_next(self, forgery: Forgery = "other_secret") -> None:
        """Send the next one as a forger would, who tries once and does not come back."""
        self._asked.forgery = forgery

    def behave(self) -> None:
        """End all of it; the destinations stay."""
        self._asked = _Asked(is_held=True)
        self.release()

    # --- what it tells --------------------------------------------------------------------

    @property
    def counts(self) -> CallbackCounts:
        """A copy, so that before and after can be compared."""
        return msgspec.structs.replace(self._counts)

    @property
    def recent(self) -> tuple[SentCallback, ...]:
        """The last ones, in the order in which they happened."""
        return tuple(self._recent)

    async def settled(self) -> None:
        """Return when nothing waits but what is held back."""
        while self._counts.waiting > self._counts.held:
            self._one_ended.clear()
            await self._one_ended.wait()

    def tell(self, simulated: object, account: str) -> None:
        """Take what just happened at this account."""
        if not isinstance(simulated, CallsBack):
            return
        line = self._lines.get((simulated.name, account), self._lines.get((simulated.name, None)))
        for callback in simulated.take_told(account):
            if line is not None:
                self._take(line, callback)

    def _take(self, line: _Line, callback: Callback) -> None:
        asked, self._asked = self._asked, _Asked(is_held=self._asked.is_held)
        callback = callback if asked.note is None else callback.noting(asked.note)
        for _ in range(1 + asked.repeats):
            shown = SentCallback(line.simulated.name, callback.type, callback.id, callback.payment)
            self._recent.append(shown)
            self._counts.told += 1
            if self._counts.waiting >= WAITING_MAX:
                self._counts.given_up += 1
                continue
            self._counts.waiting += 1
            sending = _Sending(line, callback, shown, asked.forgery)
            if asked.is_held:
                self._held.append(sending)
                self._counts.held += 1
            else:
                line.queue.put_nowait(sending)

    # --- sending --------------------------------------------------------------------------

    async def _work(self, line: _Line) -> None:
        while True:
            sending = await line.queue.get()
            try:
                await self._sent(sending)
            except Exception:  # noqa: BLE001 - the one net: counted, and no words of it go anywhere
                self._counts.faults += 1
                self._end(sending)

    async def _sent(self, sending: _Sending) -> None:
        """Try once; wait here for the next try where those behind it wait as well."""
        while not await self._tried(sending):
            tries = sending.shown.tries
            if sending.forgery is not None or tries > len(AGAIN_AFTER_SECONDS):
                self._counts.given_up += 1
                break
            pause = AGAIN_AFTER_SECONDS[tries - 1]
            if not sending.line.simulated.in_order:
                again = sending.line.queue.put_nowait
                asyncio.get_running_loop().call_later(pause, again, sending)
                return
            await asyncio.sleep(pause)
        self._end(sending)

    def _end(self, sending: _Sending) -> None:
        self._counts.acknowledged += sending.shown.acknowledged
        self._counts.waiting -= 1
        self._one_ended.set()

    async def _tried(self, sending: _Sending) -> bool:
        """Send it once; True when it was acknowledged."""
        shown = sending.shown
        shown.tries += 1
        self._counts.sent += 1
        try:
            shown.status, body = await self._exchanged(sending)
        except (aiohttp.ClientError, OSError, TimeoutError):
            shown.status = None
            self._counts.unanswered += 1
            return False
        shown.acknowledged = sending.line.simulated.acknowledged(shown.status, body)
        self._counts.refused += not shown.acknowledged
        return shown.acknowledged

    async def _exchanged(self, sending: _Sending) -> tuple[int, bytes]:
        assert self._session is not None  # only workers send
        line = sending.line
        post = sending.callback.posted(_secret(sending), at=self._now())
        headers = dict(post.headers)
        if line.to.authorization is not None:
            headers["Authorization"] = line.to.authorization
        async with self._session.post(
            line.url, data=post.body, headers=headers, ssl=line.context, allow_redirects=False
        ) as answer:
            body = b""
            async for piece in answer.content.iter_any():
                body += piece
                if len(body) > ANSWER_BYTES_MAX:
                    answer.close()
                    break
            return answer.status, body


def _in_order(held: list[_Sending], order: ReleaseOrder) -> list[_Sending]:
    match order:
        case "as_told":
            return held
        case "reversed":
            return held[::-1]
        case "shuffled":
            return sorted(held, key=lambda _: secrets.randbits(64))


def _secret(sending: _Sending) -> str | None:
    secret = sending.line.to.secret
    match sending.forgery:
        case None:
            return secret
        case "other_secret":
            return others_secret(secret)
        case "missing":
            return None
