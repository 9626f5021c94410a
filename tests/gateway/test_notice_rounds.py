"""What was acknowledged leaves a trace, whatever the asking comes to; nobody waits for another."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.errors import Malformed
from gateway.notice_rounds import ASKED_AGAIN, ASKED_AT_ONCE, NoticeRounds
from gateway.status_asking import Answer, Later, NotThere, StatusAsking
from tests.gateway.asked_processor import replied, world
from tests.gateway.test_status_asking import ID, notice, payment
from vault.callback_endpoint_table import CallbackEndpointTable, Notice
from vault.callbacks import NewCallback, Received
from vault.errors import Overloaded

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
MOLLIE_TRIES_FOR = timedelta(hours=26)


class Table(CallbackEndpointTable):
    """Gives its notices once."""

    def __init__(self, *due: Notice) -> None:
        self.due: Sequence[Notice] = due
        self.settled: dict[str, datetime | None] = {}

    async def claim_notices(self, at: datetime, limit: int) -> Sequence[Notice]:
        claimed, self.due = self.due[:limit], self.due[limit:]
        return claimed

    async def settle_notice(self, notice: Notice, *, again: datetime | None) -> None:
        self.settled[notice.reference] = again


@dataclass
class Inbox:
    """Keeps events; it may be out of order."""

    received: list[NewCallback] = field(default_factory=list)
    is_away: bool = False

    async def receive(self, new: NewCallback) -> Received:
        if self.is_away:
            raise Overloaded
        self.received.append(new)
        return Received.NEW


@dataclass
class Asking:
    """A processor that answers so; it may need all to be asked before it answers anybody."""

    answer: Answer | Exception
    awaits: int = 1
    asked: int = 0
    at_once: int = 0
    under_way: int = 0
    all_asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, notice: Notice) -> Answer:
        self.asked += 1
        self.under_way += 1
        self.at_once = max(self.at_once, self.under_way)
        if self.asked >= self.awaits:
            self.all_asked.set()
        await self.all_asked.wait()
        self.under_way -= 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def tried(tries: int, reference: str = ID) -> Notice:
    return replace(notice(reference), tries=tries, received_at=NOW - timedelta(minutes=1))


async def round_of(table: Table, asking: Asking, inbox: Inbox) -> None:
    await NoticeRounds(table, asking, inbox, now=lambda: NOW).turn()


@pytest.mark.guards("F-23")
@pytest.mark.parametrize(
    ("answer", "tries", "word"),
    [
        (NotThere(), 1, "not_there"),
        (Later(), len(ASKED_AGAIN) + 1, "given_up"),
        (Malformed("json"), len(ASKED_AGAIN) + 1, "given_up"),
        (RecursionError(), len(ASKED_AGAIN) + 1, "given_up"),
    ],
)
async def test_what_was_acknowledged_is_on_record_without_effect(
    answer: Answer | Exception, tries: int, word: str
) -> None:
    table, inbox = Table(tried(tries)), Inbox()
    await round_of(table, Asking(answer), inbox)
    (new,) = inbox.received
    assert (new.event_id, new.event_type) == (f"{ID}:{word}:2026-05-04", f"notice.{word}")
    assert (new.effect, new.signature, new.scheme) == (None, "unsigned", "mollie_classic")
    assert (new.tenant, new.route, new.action_reference) == ("t_one", "r", ID)
    assert new.body == f"id={ID}".encode()
    assert new.headers == (("Content-Type", "application/x-www-form-urlencoded"),)
    assert table.settled == {ID: None}


async def test_what_the_processor_says_is_on_record() -> None:
    made = world(lambda _host, _login: replied(payment()), preset="mollie")
    table, inbox = Table(tried(1)), Inbox()
    await NoticeRounds(table, StatusAsking({"r": made.lane}), inbox, now=lambda: NOW).turn()
    (new,) = inbox.received
    assert (new.event_id, new.effect) == (f"{ID}:paid", "captured")
    assert (new.action_reference, new.payment_reference) == (ID, ID)
    assert table.settled == {ID: None}


@pytest.mark.parametrize("answer", [Later(), Malformed("json"), RecursionError()])
async def test_it_is_asked_again_for_longer_than_the_processor_would_have_tried(
    answer: Answer | Exception,
) -> None:
    waited = timedelta()
    for tries in range(1, len(ASKED_AGAIN) + 1):
        table, inbox = Table(tried(tries)), Inbox()
        await round_of(table, Asking(answer), inbox)
        again = table.settled[ID]
        assert again is not None
        assert inbox.received == []
        waited += again - NOW
    assert waited >= MOLLIE_TRIES_FOR


@pytest.mark.parametrize("answer", [NotThere(), Later()])
async def test_a_notice_stays_until_it_is_on_record(answer: Answer) -> None:
    table, inbox = Table(tried(99), tried(99, "tr_other")), Inbox(is_away=True)
    await round_of(table, Asking(answer), inbox)
    assert table.settled == {}


async def test_many_are_asked_about_at_once_and_not_too_many() -> None:
    due = [tried(1, f"tr_{number}") for number in range(100)]
    table, inbox, asking = Table(*due), Inbox(), Asking(NotThere(), awaits=ASKED_AT_ONCE)
    await round_of(table, asking, inbox)
    assert asking.at_once == ASKED_AT_ONCE
    assert len(inbox.received) == len(table.settled) == len(due)


async def test_one_that_cannot_be_put_on_record_fails_no_other() -> None:
    class Picky(Inbox):
        async def receive(self, new: NewCallback) -> Received:
            if new.action_reference == ID:
                raise Overloaded
            return await super().receive(new)

    table, inbox = Table(tried(1), tried(1, "tr_other")), Picky()
    await round_of(table, Asking(NotThere()), inbox)
    assert table.settled == {"tr_other": None}
