"""Whatever a processor does and however a merchant repeats: no number leaves unrecorded or twice.

A processor that misbehaves by chance, merchants that repeat, hang up and change their minds. The
processor itself looks, at each number that arrives, whether its intent is in the database; each
number belongs to one idempotency key, so that it is the number that tells the calls apart.
"""

import asyncio
import contextlib
import json
import random
from dataclasses import dataclass, field

import asyncpg
import pytest

from tests.cards import luhn_completed
from tests.flows.deployment import Deployment
from tests.flows.egress import Egress, Way
from tests.flows.merchant import INTENTS, Merchant, form, new_idempotency_key, payment
from tests.flows.wire import Reply
from tests.gateway.raw_servers import Connection, reply, serving

pytestmark = pytest.mark.embedded

STORIES = 60
AT_ONCE = 6
SEED = 20261122
JSON = "Content-Type: application/json"
CHARGED = "charged"
NOT_EXECUTED = "not_executed"
IN_DOUBT = "in_doubt"
"""What an arrival means: the last is not known to the gateway either."""

ANSWERS: dict[str, tuple[str, bytes]] = {
    "approved": (CHARGED, reply(b'{"id":"pi_1","status":"succeeded"}', JSON)),
    "declined": (CHARGED, reply(b'{"error":{"type":"card_error"}}', JSON, status="402 No")),
    "busy": (NOT_EXECUTED, reply(b'{"error":{}}', JSON, status="429 Busy")),
    "broken": (IN_DOUBT, reply(b'{"error":{}}', JSON, status="500 Oh")),
    "moved": (IN_DOUBT, reply(b"", "Location: https://evil.test/", status="307 There")),
    "half": (IN_DOUBT, b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"),
    "nonsense": (IN_DOUBT, b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    "no json": (IN_DOUBT, reply(b"<p>thanks</p>")),
}
BEHAVIOR = ("approved",) * 6 + ("declined", "busy") * 2 + tuple(ANSWERS) + ("reset", "silent")


@dataclass
class Story:
    """One idempotency key: its number, and what arrived of it."""

    number: str
    token: str
    route: str
    key: str = field(default_factory=new_idempotency_key)
    arrivals: list[str] = field(default_factory=list)
    answers: list[Reply] = field(default_factory=list)


class Chaos:
    """The processor, and what it finds wrong with what arrives."""

    def __init__(self, database: "asyncpg.Pool[asyncpg.Record]", chance: random.Random) -> None:
        self._database = database
        self._chance = chance
        self.stories: dict[str, Story] = {}
        self.wrong: list[str] = []

    async def serve(self, connection: Connection) -> None:
        while True:
            if self._chance.random() < 0.03:
                connection.reset()  # before it has heard anything
                return
            request = await connection.request()
            story = self.stories[request.partition(b"[number]=")[2][:16].decode()]
            behavior = self._chance.choice(BEHAVIOR)
            await self._look_at(story, request)
            story.arrivals.append(ANSWERS.get(behavior, (IN_DOUBT, b""))[0])
            await asyncio.sleep(self._chance.choice((0, 0, 0.01, 0.03)))
            if behavior == "silent":
                await connection.silence()
            if behavior not in ANSWERS:
                connection.reset()
                return
            await connection.say(ANSWERS[behavior][1])
            if behavior in ("half", "nonsense"):
                return

    async def _look_at(self, story: Story, request: bytes) -> None:
        """What the number's arrival proves, and must not disprove."""
        opened = await self._database.fetchval(
            "SELECT count(*) FROM intent_state WHERE $1 = ANY(tokens) AND state = 'attempted'",
            story.token,
        )
        if opened != 1:
            self.wrong.append(f"{opened} open intents at an arrival")
        if f"Idempotency-Key: {story.key}".lower().encode() not in request.lower():
            self.wrong.append("it came under another key")
        if CHARGED in story.arrivals:
            self.wrong.append("it came again after it had been answered")
        if story.route == "chaos_once" and IN_DOUBT in story.arrivals:
            self.wrong.append("it came again where no replay is declared")


async def tell(story: Story, way: Way, chance: random.Random) -> None:
    """Call, repeat, repeat at the same time, hang up, ask for something else under the key."""
    headers = [("Idempotency-Key", story.key)]
    fields = payment(story.token)
    for _ in range(chance.randint(2, 4)):
        calls = [
            asyncio.ensure_future(way(story.route, INTENTS, form(fields), headers=headers))
            for _ in range(chance.choice((1, 1, 2, 3)))
        ]
        if chance.random() < 0.2:
            other = form(fields | {"amount": 1})
            calls.append(asyncio.ensure_future(way(story.route, INTENTS, other, headers=headers)))
        if chance.random() < 0.2:
            await asyncio.sleep(chance.random() * 0.03)
            calls[0].cancel()
        for call in calls:
            with contextlib.suppress(asyncio.CancelledError):
                story.answers.append(await call)
        if story.answers and b"upstream_unavailable" in story.answers[-1].body:
            await asyncio.sleep(0.2)  # as it was told to, so that not all are told so


@pytest.mark.guards("T-47", "T-61", "F-23", "F-24", "F-25", "F-32", "T-26")
async def test_no_number_leaves_without_an_intent_and_none_twice(
    deployment: Deployment, egress: Egress, way: Way, at_egress: Merchant
) -> None:
    chance = random.Random(SEED)  # noqa: S311 - the same chances each time
    pool = await asyncpg.create_pool(deployment.parts.runtime_dsn, min_size=2, max_size=4)
    chaos = Chaos(pool, chance)
    numbers = iter(chance.sample(range(10**10), STORIES))

    async def merchant() -> None:
        for middle in numbers:  # all take from the same
            number = luhn_completed(f"45678{middle:010d}")
            token = await at_egress.token(number)
            story = Story(number, token, chance.choice(("chaos", "chaos", "chaos_once")))
            chaos.stories[number] = story
            await tell(story, way, chance)

    try:
        async with serving(chaos.serve, egress.context, port=egress.port):
            await asyncio.gather(*(merchant() for _ in range(AT_ONCE)))
            await asyncio.sleep(1)  # until what was left alone has come to its end
        assert not chaos.wrong
        arrivals = [one for story in chaos.stories.values() for one in story.arrivals]
        assert {CHARGED, NOT_EXECUTED, IN_DOUBT} == set(arrivals)
        assert len(arrivals) > STORIES / 2
        for story in chaos.stories.values():
            await check(story, at_egress)
    finally:
        await pool.close()


async def check(story: Story, at: Merchant) -> None:
    """Compare what is on record, what was told and what arrived."""
    query = f"/v1/authorizations?idempotency_key={story.key}"
    found = (await at.api("GET", query)).json()["data"]
    attempts = [each["state"] for one in found for each in one["attempts"]]
    assert set(attempts) <= {"completed", "unknown", "resolved"}  # all were sent
    assert attempts.count("completed") <= len(story.arrivals) <= len(attempts)
    assert story.arrivals.count(CHARGED) <= 1
    for answer in story.answers:
        assert story.number.encode() not in answer.body
        if answer.status == 200:
            assert CHARGED in story.arrivals
            assert json.loads(answer.body)["id"] == "pi_1"
