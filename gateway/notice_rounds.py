"""When and how often processors are asked about notices, and what is put on record of each.

A notice was acknowledged, so its processor will not repeat it for long: whatever the asking comes
to, there is an event on record in the end. Of what the processor does not know, or nobody could
ask about for as long as the processor itself would have tried, the notice alone is that event: of
no effect, and passed on as it came, so that the merchant can look himself.

What never lives here: how a processor is asked, and what its answer means.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final, Literal, Protocol, assert_never

from gateway.status_asking import ASKED_BY, Answer, Later, NotThere, Told, headers_of_a_notice
from vault.callback_endpoint_table import CallbackEndpointTable, Notice
from vault.callbacks import NewCallback, Received
from vault.errors import CustodyError

NOTICES_A_ROUND: Final = 64
ROUNDS_A_TURN: Final = 16
ASKED_AT_ONCE: Final = 16
ASKED_AGAIN: Final = tuple(
    timedelta(minutes=minutes) for minutes in (1, 2, 4, 8, 16, 29, 60, 120, 240, 480, 720)
)
"""28 hours in all: Mollie itself tries for 26."""


class Asking(Protocol):
    """Asks a processor what a notice is about."""

    async def ask(self, notice: Notice) -> Answer: ...


class Receiving(Protocol):
    """Puts events on record."""

    async def receive(self, new: NewCallback) -> Received: ...


class NoticeRounds:
    """Asks about what is due, many at a time, until nothing is."""

    def __init__(
        self,
        endpoints: CallbackEndpointTable,
        asking: Asking,
        callbacks: Receiving,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._endpoints = endpoints
        self._asking = asking
        self._callbacks = callbacks
        self._now = now
        self._places = asyncio.Semaphore(ASKED_AT_ONCE)

    async def turn(self) -> None:
        """Raises StoreUnavailable; what fails of one notice is tried again, and fails no other."""
        for _ in range(ROUNDS_A_TURN):
            claimed = await self._endpoints.claim_notices(self._now(), NOTICES_A_ROUND)
            if not claimed:
                break
            await asyncio.gather(*map(self._settled, claimed))

    async def _settled(self, notice: Notice) -> None:
        async with self._places:
            # The claim ends by itself: then it is due again.
            with suppress(CustodyError):
                await self._ask(notice)

    async def _ask(self, notice: Notice) -> None:
        match await self._answer(notice):
            case Told(new):
                await self._callbacks.receive(new)
            case NotThere():
                await self._callbacks.receive(_alone(notice, "not_there"))
            case Later() if notice.tries <= len(ASKED_AGAIN):
                again = self._now() + ASKED_AGAIN[notice.tries - 1]
                await self._endpoints.settle_notice(notice, again=again)
                return
            case Later():
                await self._callbacks.receive(_alone(notice, "given_up"))
            case _ as unreachable:
                assert_never(unreachable)
        await self._endpoints.settle_notice(notice, again=None)

    async def _answer(self, notice: Notice) -> Answer:
        try:
            return await self._asking.ask(notice)
        except CustodyError:
            raise
        except Exception:  # noqa: BLE001 - an answer that nobody can read, or may keep, is one
            return Later()


def _alone(notice: Notice, word: Literal["not_there", "given_up"]) -> NewCallback:
    """Make an event of a notice that says nothing more; one a day, however often it came."""
    return NewCallback(
        tenant=notice.tenant,
        route=notice.route,
        scheme=ASKED_BY,
        endpoint=notice.endpoint,
        signature="unsigned",
        event_id=f"{notice.reference}:{word}:{notice.received_at:%Y-%m-%d}",
        event_type=f"notice.{word}",
        event_at=notice.received_at,
        effect=None,
        action_reference=notice.reference,
        payment_reference=None,
        merchant_reference=None,
        amount=None,
        currency=None,
        decline_code=None,
        is_scrubbed=False,
        headers=headers_of_a_notice(),
        body=f"id={notice.reference}".encode(),
        source_address=None,
    )
