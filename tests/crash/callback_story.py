"""A callback of which a gateway dies: a processor that goes on until it is heard, a merchant who
takes whatever comes, and what is on record of it.

The gateway is the only one, so that nobody else tells or delivers what the dead one has begun.
"""

import asyncio
import json
from collections import Counter as Tally
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from aiohttp import web

from gateway.sandbox.callbacks import Callback
from tests.crash.stage import Place, Stage, wire_to
from tests.flows.called_back import CalledBackSeller, Counter, new_called_back_seller, stripe_event
from tests.flows.deployment import Store, eventually, said_by_panward
from tests.flows.merchant import Merchant, new_idempotency_key
from tests.flows.receiver import Receiver
from tests.flows.wire import Reply
from vault.telling import callback_id, event_id

OWN, EVENTS = "/own", "/events"
TELLS = ("callback.received", "authorization.resolved")
AGAIN_SECONDS = 0.05


@dataclass(frozen=True)
class Left:
    """What there is of a callback after a death."""

    entries: int
    queued: int = 0
    arrived: bool = False
    settled: bool = False


@dataclass
class Post:
    """One event of a payment whose answer was lost, and whether the processor was answered."""

    lost: Reply
    event: Callback
    is_acknowledged: bool = False
    refused: list[bytes] = field(default_factory=list)


@dataclass
class CallbackStory:
    """One merchant with two webhook endpoints: the processor's own posts, and panward's events."""

    place: Place
    counter: Counter
    receiver: Receiver
    posts: list[Post] = field(default_factory=list)
    off: timedelta = timedelta()
    _posting: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return self.counter.store

    # --- what happens -----------------------------------------------------------------------

    async def begin(self, count: int = 1) -> None:
        """Lose the answers of payments; nothing is left to be told of before."""
        _ = self.place.gateway
        for _ in range(count):
            await self.counter.pay(new_idempotency_key())  # so that the route is not left alone
            lost = await self.counter.lost(reference := new_idempotency_key())
            self.posts.append(Post(lost, stripe_event(reference)))
        # Nobody else looks into them meanwhile.
        await self.store.execute("UPDATE intent_state SET due = 'infinity' WHERE state = 'unknown'")
        await eventually(self.all_told, "something is not told", seconds=20)

    def call_back(self) -> None:
        """Post each as a processor does: again and again, until it is answered well."""
        self._posting = [asyncio.create_task(self._until_heard(post)) for post in self.posts]

    async def _until_heard(self, post: Post) -> None:
        while not post.is_acknowledged:
            with suppress(aiohttp.ClientError, TimeoutError):
                reply = await self._post(post)
                post.is_acknowledged = reply.status == web.HTTPOk.status_code
                post.refused += [] if post.is_acknowledged else [reply.body]
            if not post.is_acknowledged:
                await asyncio.sleep(AGAIN_SECONDS)

    async def _post(self, post: Post) -> Reply:
        return await self.counter.post("stripe", post.event, at=datetime.now(UTC) + self.off)

    async def goes_by(self, *, hours: float) -> None:
        """Let time pass, for the gateway and for the processor, which signs each try anew."""
        self.off = timedelta(hours=hours)
        await asyncio.to_thread(self.place.gateway.tell, f"clock {self.off.total_seconds()}")

    async def dies(self) -> None:
        await asyncio.to_thread(self.place.died)
        for post in self.posts:
            if post.is_acknowledged:
                assert len(await self._rows(post)) == 1, "acknowledged, and not on record"

    async def goes_on(self) -> None:
        """Start the gateway again; what the dead one had claimed is nobody's any more."""
        await self.store.execute("UPDATE delivery SET due = now() WHERE state = 'waiting'")
        self.place.begin()
        await asyncio.to_thread(self.place.until_ready)
        await self.drains()

    async def drains(self) -> None:
        """Wait until everybody has heard everything."""
        async with asyncio.timeout(30):
            await asyncio.gather(*self._posting)
        await eventually(self.all_told, "something is never told", seconds=30)
        await eventually(self.all_delivered, "something is never delivered", seconds=30)

    # --- what there is ----------------------------------------------------------------------

    async def all_told(self) -> bool:
        told = await self.store.fetchval("SELECT next_idx = size FROM told, head")
        return bool(told)

    async def all_delivered(self) -> bool:
        states = await self.store.fetch(
            "SELECT state FROM delivery WHERE tenant = $1", self.counter.merchant.tenant
        )
        return all(row["state"] == "delivered" for row in states)

    async def left(self) -> Left:
        entries = [await self._entries(post) for post in self.posts]
        rows = [row for post in self.posts for row in await self._rows(post)]
        assert len(rows) == sum(entries), "an entry without its row, or a row without its entry"
        ids = [row["id"] for row in rows]
        queued = await self.store.fetch(
            "SELECT d.state FROM delivery d WHERE callback = ANY($1) OR event = ANY($1)"
            " OR event IN (SELECT e.id FROM entry e WHERE e.type = 'authorization.resolved'"
            " AND e.intent = ANY(SELECT i.intent FROM intent_state i JOIN callback c"
            " USING (first) WHERE c.id = ANY($1)))",
            ids,
        )
        return Left(
            entries=sum(entries),
            queued=len(queued),
            arrived=bool(self.receiver.arrivals()),
            settled=any(row["state"] == "delivered" for row in queued),
        )

    async def _rows(self, post: Post) -> Sequence[Mapping[str, Any]]:
        return await self.counter.inbox(str(post.event.id))

    async def _entries(self, post: Post) -> int:
        found = await self.store.fetchval(
            "SELECT count(*) FROM entry e JOIN detail d USING (id)"
            " WHERE e.type = 'callback.received' AND position($1::bytea IN d.body) > 0",
            f'"{post.event.id}"'.encode(),
        )
        return int(found)

    # --- what must hold in the end ----------------------------------------------------------

    async def check(self) -> None:
        """Nothing is lost and nothing doubled, whatever was died of."""
        for post in self.posts:
            again = await self._post(post)
            assert again.status == web.HTTPOk.status_code, again.body
        await eventually(self.all_told, "something is never told", seconds=30)
        for post in self.posts:
            await self._check(post)
        self.receiver.forget()
        self.posts.clear()

    async def _check(self, post: Post) -> None:
        (row,) = await self.counter.inbox(str(post.event.id))
        assert await self._entries(post) == 1
        assert await self.counter.resolutions(post.lost) == [("callback", "answered")]
        record = await self.counter.record(post.lost)
        assert (record["state"], record["result"]) == ("resolved", "approved")
        assert [event["type"] for event in record["events"]] == [row["event_type"]]
        resolved = await self.store.fetchval(
            "SELECT id FROM entry WHERE type = 'authorization.resolved' AND intent = $1",
            row["first"],
        )
        own = await self.store.fetch("SELECT state FROM delivery WHERE callback = $1", row["id"])
        assert [one["state"] for one in own] == ["delivered"]
        told = await self.store.fetch(
            "SELECT e.id, e.type, d.state FROM event e JOIN delivery d ON d.event = e.id"
            " WHERE d.subject = $1 AND e.type = ANY($2) ORDER BY e.idx",
            row["first"],
            list(TELLS),
        )
        assert [tuple(one) for one in told] == [
            (row["id"], TELLS[0], "delivered"),
            (resolved, TELLS[1], "delivered"),
        ]
        self._check_arrivals(str(post.event.id), callback_id(row["id"]), OWN)
        heard = [self._check_arrivals(event_id(one["id"]), event_id(one["id"]), EVENTS)
                 for one in told]  # fmt: skip
        assert heard == sorted(heard), "not in the order of the record"

    def _check_arrivals(self, said: str, message: str, path: str) -> int:
        """Whatever says this came under one id, at least once; return when it was first."""
        came = [one for one in self.receiver.arrivals(path) if _id(one.body) == said]
        assert came, f"{message} never arrived"
        assert {one.header("webhook-id") for one in came} == {message}
        assert Tally(one.body for one in came).keys() == {came[0].body}
        return came[0].number


def _id(body: bytes) -> str:
    said = json.loads(body)["id"]
    assert isinstance(said, str)
    return said


@contextmanager
def only_gateway(stage: Stage, receiver: Receiver) -> Iterator[Place]:
    """Give a place for a gateway that delivers to that receiver."""
    with stage.placed("called_back", "doomed_callbacks") as place:
        text = place.file.read_text()
        own = json.dumps(str(stage.deployment.ca_file))
        before, mark, after = text.partition("[deliveries]")
        assert own in after
        after = after.replace(own, json.dumps(str(receiver.ca_file)), 1)
        place.file.write_text(before + mark + after)
        yield place


async def new_listening_seller(stage: Stage, receiver: Receiver) -> CalledBackSeller:
    """Add a seller whose merchant hears of both forms."""
    seller = await new_called_back_seller(stage.deployment)
    add = ("webhooks", "endpoints", "add", seller.seller.account.tenant)
    own = ("--form", "callbacks", "--route", "stripe")
    said_by_panward(stage.deployment, *add, receiver.url(OWN), *own)
    types = (word for one in TELLS for word in ("--type", one))
    said_by_panward(stage.deployment, *add, receiver.url(EVENTS), "--form", "events", *types)
    return seller


@asynccontextmanager
async def told_story(
    stage: Stage, place: Place, seller: CalledBackSeller, receiver: Receiver, store: Store
) -> AsyncIterator[CallbackStory]:
    async with wire_to(stage.deployment.client_context()) as wire:
        merchant = Merchant(seller.seller.account, place.urls, wire)
        counter = Counter(
            stage.deployment, seller.seller, merchant, seller.paths, store,
            stage.deployment.processor,
        )  # fmt: skip
        story = CallbackStory(place, counter, receiver)
        yield story
        for one in story._posting:
            one.cancel()
        await asyncio.gather(*story._posting, return_exceptions=True)
    stage.deployment.processor.behave()
