"""The life of one payment, as its processor reports it: in any order it ends on one record.

Payment, capture, a refund of a part, a dispute that is lost and then won, a late decline; answers
to the calls themselves, and looks at what came early, anywhere between them. Real tables.
"""

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.vault.doubtful import UNKNOWN
from tests.vault.fake_node import FakeCluster, fake_cluster
from tests.vault.inboxes import NUMBERS, Inbox, opened_inbox
from tests.vault.merchant_queue import MerchantQueue
from tests.vault.stores import Store
from vault.authorization import Kind, Result
from vault.authorizations import Intent
from vault.callbacks import NewCallback, Received
from vault.ids import authorization_id
from vault.payment_events import Effect
from vault.telling import Telling

pytestmark = [pytest.mark.embedded, pytest.mark.guards("T-53"), pytest.mark.guards("F-23")]

AMOUNTS = {Kind.AUTHORIZE: 1999, Kind.CAPTURE: 1999, Kind.REFUND: 500}
NAMES = {Kind.AUTHORIZE: "pi", Kind.CAPTURE: "cap", Kind.REFUND: "re"}


@dataclass(frozen=True)
class Said:
    """One event: what it says, of which request, so many minutes after noon."""

    effect: Effect
    minute: int
    of: Kind = Kind.AUTHORIZE
    code: str | None = None


LIFE = (
    Said(Effect.DECLINED, 0, code="try_again"),  # another card, say, before this one
    Said(Effect.APPROVED, 1),
    Said(Effect.CAPTURED, 2, Kind.CAPTURE),
    Said(Effect.REFUNDED, 3, Kind.REFUND),
    Said(Effect.DISPUTE_OPENED, 4),
    Said(Effect.CHARGEBACK, 5),
    Said(Effect.CHARGEBACK_REVERSED, 6),
)
LATE = Said(Effect.LATE_DECLINE, 7, code="revoked")
FAILED = Said(Effect.REFUND_FAILED, 8, Kind.REFUND, code="closed")
LOOK = "look at what came early"

Step = Said | Kind | str
"""A kind: that call is answered; or it is known that it never will be."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as made:
        yield made


@pytest.fixture
async def here(store: Store, cluster: FakeCluster, tmp_path: Path) -> AsyncIterator[Inbox]:
    async with opened_inbox(store, cluster, tmp_path / "spool") as made:
        yield made


@dataclass
class Life:
    """One payment with its capture and refund; each life has its own, and its own time."""

    here: Inbox
    number: int
    noon: datetime
    requests: Mapping[Kind, Intent]

    @classmethod
    async def begun(cls, here: Inbox) -> "Life":
        number, requests = next(NUMBERS), {}
        for kind, amount in AMOUNTS.items():
            reference = f"order_{number}" if kind is Kind.AUTHORIZE else None
            call = await here.court.call(reference=reference)
            requests[kind] = await here.court.attempts(replace(call, kind=kind, amount=amount))
        return cls(here, number, here.now, requests)

    def name(self, kind: Kind) -> str:
        return f"{NAMES[kind]}_{self.number}"

    def event(self, said: Said) -> NewCallback:
        event = self.here.event(
            said.effect,
            event_id=f"evt_{self.number}_{said.effect}",
            payment_reference=self.name(Kind.AUTHORIZE),
            action_reference=None if said.of is Kind.AUTHORIZE else self.name(said.of),
            merchant_reference=f"order_{self.number}",
            amount=AMOUNTS[said.of],
            decline_code=said.code,
        )
        return replace(event, event_at=self.noon + timedelta(minutes=said.minute))

    def minute(self, at: datetime | None) -> float | None:
        return None if at is None else (at - self.noon) / timedelta(minutes=1)

    async def goes(self, order: Sequence[Step], answers: Mapping[Kind, Result | None]) -> None:
        for step in order:
            if isinstance(step, Said):
                assert await self.here.callbacks.receive(self.event(step)) is Received.NEW
            elif not isinstance(step, Kind):
                await self.here.callbacks.match_late()
            elif (answer := answers[step]) is None:
                assert await self.here.court.record.settle(self.requests[step], UNKNOWN, None)
            else:
                await self.here.answers(self.requests[step], answer, name=self.name(step))
        self.here.court.store.clock.advance(minutes=2)  # what could not be matched is put off
        await self.here.callbacks.match_late()

    async def record(self) -> list[dict[str, object]]:
        """Give what is on record of the requests, but for what no two lives have in common."""
        found: list[dict[str, object]] = []
        for kind, intent in self.requests.items():
            row = await self.here.row(intent)
            (bare,) = await self.here.court.store.rows(
                "SELECT evidence_at FROM authorizations WHERE first::text = $1", intent.first
            )
            found.append(
                {
                    "state": row.state,
                    "result": row.result,
                    "decline_code": row.decline_code,
                    "is_named": row.processor_reference == self.name(kind),
                    "evidence_at": self.minute(bare["evidence_at"]),
                    "events": sorted(
                        (one.effect, one.amount, self.minute(one.at)) for one in row.events
                    ),
                }
            )
        return found

    async def told(self) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
        """Give what a merchant was told: all events, and of each request the last outcome."""
        ids = {authorization_id(one.first): kind for kind, one in self.requests.items()}
        rows = await self.here.court.store.rows("SELECT type, body FROM event ORDER BY idx")
        events: list[tuple[object, ...]] = []
        last: dict[Kind, tuple[object, ...]] = {}
        for row in rows:
            data: dict[str, Any] = json.loads(row["body"])["data"]
            if row["type"] != "callback.received":
                if data["id"] in ids:
                    last[ids[data["id"]]] = (data["state"], data["result"])
            elif data["merchant_reference"] == f"order_{self.number}":
                events.append((data["effect"], data["amount"], ids[data["authorization"]]))
        return sorted(events), [last[kind] for kind in self.requests]


async def ends(
    here: Inbox, order: Sequence[Step], answers: Mapping[Kind, Result | None]
) -> tuple[object, ...]:
    life = await Life.begun(here)
    await life.goes(order, answers)
    store = here.court.store
    telling = Telling(store.database, now=store.clock)
    while await telling.turn():
        pass
    record, (events, outcomes) = await life.record(), await life.told()
    said = [step for step in order if isinstance(step, Said)]
    assert len(events) == len(said), "each is told, once"
    assert outcomes == [(row["state"], row["result"]) for row in record], "what is told last is so"
    return record, events, outcomes


_ANSWERS = st.sampled_from([None, Result.PENDING, Result.APPROVED])


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    answers=st.fixed_dictionaries(dict.fromkeys(AMOUNTS, _ANSWERS)),
    left_out=st.sets(st.sampled_from([*LIFE, LATE, FAILED]), max_size=6),
    data=st.data(),
)
async def test_the_life_of_a_payment_in_any_order(
    here: Inbox, answers: Mapping[Kind, Result | None], left_out: set[Said], data: st.DataObject
) -> None:
    said = [one for one in (*LIFE, LATE, FAILED) if one not in left_out]
    usual: list[Step] = [*AMOUNTS, *said]
    await listened(here)
    first = await ends(here, usual, answers)
    order = data.draw(st.permutations([*usual, LOOK]))
    assert await ends(here, order, answers) == first, order


async def listened(here: Inbox) -> None:
    """Let the merchant have one endpoint that hears of everything."""
    shop = MerchantQueue(here.court.store, here.court.tenant)
    if not await shop.table.list(shop.tenant):
        await shop.open()
        await shop.endpoint()


@pytest.mark.parametrize("answer", [None, Result.PENDING])
async def test_the_later_of_two_declines_says_why(here: Inbox, answer: Result | None) -> None:
    """They agree on the result, and not on the reason: the order they came in decides nothing."""
    answers = dict.fromkeys(AMOUNTS, Result.PENDING) | {Kind.AUTHORIZE: answer}
    await listened(here)
    declines: list[Step] = [LIFE[0], LATE]
    first = await ends(here, [*AMOUNTS, *declines], answers)
    assert await ends(here, [*AMOUNTS, *declines[::-1]], answers) == first
    assert await ends(here, [*declines[::-1], *AMOUNTS], answers) == first


async def test_the_life_of_a_payment_backward(here: Inbox) -> None:
    """The same, once, for certain: all of it before any answer, the last event first."""
    answers = dict.fromkeys(AMOUNTS, Result.PENDING) | {Kind.AUTHORIZE: None}
    await listened(here)
    usual: list[Step] = [*AMOUNTS, *LIFE, LATE]
    first = await ends(here, usual, answers)
    assert await ends(here, usual[::-1], answers) == first
    record = first[0]
    assert isinstance(record, list)
    assert [(row["state"], row["result"]) for row in record] == [
        ("resolved", "declined"),
        ("resolved", "approved"),
        ("resolved", "approved"),
    ]
