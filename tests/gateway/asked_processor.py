"""What looks into doubts, over a lane of its own, with a processor that is a function.

What never lives here: connections, and a store.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from gateway import preset as presets
from gateway.addresses import AddressAllow
from gateway.authorize import Authorize, Submission, Told
from gateway.breaker import Breaker
from gateway.config import Route
from gateway.exchange import Outcome, Replied
from gateway.lanes import Guards, Lane, Secret
from gateway.limits import CallLimits
from gateway.reconcile import Reconcile
from gateway.reply_cards import ReplyCards
from gateway.stopwatch import Stopwatch
from gateway.upstream import Upstream
from vault.authorization import State
from vault.card_vault import CardVault
from vault.doubt_table import Doubt, DoubtfulSend, DoubtTable
from vault.doubts import Doubts, KeptRequest
from vault.keys import RevealKeys

SENT = datetime(2026, 5, 4, 12, tzinfo=UTC)
LATER, SOON = timedelta(hours=2), timedelta(minutes=1)
ACCOUNT_A = "sk_account_A"
HOSTS = {"stripe": "api.stripe.com", "checkout_com": "api.checkout.com"}
KEPT = KeptRequest(
    "POST",
    "/v1/payment_intents",
    "",
    (("Content-Type", "application/x-www-form-urlencoded"),),
    b"amount=1999&currency=eur&confirm=true&payment_method=pm_1",
    b"key",
)

Processor = Callable[[str, str], Outcome]
"""Answers any call, by the host and the login that it came with."""


def replied(document: object, status: int = 200) -> Replied:
    return Replied(status, (), json.dumps(document).encode(), 1.0, 1.0)


def listed(*payments: Mapping[str, object]) -> Replied:
    return replied({"total_count": len(payments), "data": payments})


def payment(**others: object) -> Mapping[str, object]:
    """Show the payment that was asked for, as Checkout.com does."""
    shown: dict[str, object] = {
        "id": "pay_1",
        "requested_on": "2026-05-04T12:00:01Z",
        "amount": 1999,
        "currency": "EUR",
        "reference": "order-1",
        "status": "Authorized",
        "approved": True,
    }
    return shown | others


def none(_host: str, _login: str) -> Replied:
    return listed()


class Keys(RevealKeys):
    """One credential, which an operator may replace."""

    def __init__(self) -> None:
        self.key = ACCOUNT_A

    async def processor_secret(self, tenant: str, route: str) -> Mapping[str, str] | None:
        return {"api_key": self.key}


class Wire(Upstream):
    """Has no connections: a function answers."""

    def __init__(self, host: str, answer: Processor) -> None:
        self.answer = answer
        self.seen: list[str] = []
        self._host = host

    async def send(
        self,
        method: str,
        path: str,
        query: str,
        headers: Sequence[tuple[str, str]],
        body: bytes | bytearray,
    ) -> Outcome:
        self.seen.append(f"{method} {path}")
        login = dict(headers)["Authorization"].removeprefix("Bearer ")
        return self.answer(self._host, login)

    async def close(self) -> None: ...


class Table(DoubtTable):
    """Knows of no other request, until it is told of one."""

    def __init__(self) -> None:
        self.rival = False

    async def has_rival(
        self, doubt: Doubt, operations: Sequence[str], *, since: datetime, until: datetime
    ) -> bool:
        return self.rival


class Kept(Doubts):
    """Keeps one request, or none."""

    def __init__(self, request: KeptRequest | None) -> None:
        self._request = request

    async def kept(self, tenant: str, first: str) -> KeptRequest | None:
        return self._request


class Sends(Authorize):
    """Remembers what it was given to send; it ends in the state that a test sets."""

    def __init__(self) -> None:
        self.given: list[Submission] = []
        self.state = State.COMPLETED

    async def handle(self, submission: Submission, watch: Stopwatch) -> Told:
        self.given.append(submission)
        return Told("auth_1", self.state, 200, None)


@dataclass
class World:
    """One route, and what looks into its doubts."""

    reconcile: Reconcile
    lane: Lane
    keys: Keys
    wire: Wire
    table: Table
    sends: Sends


def world(
    answer: Processor = none,
    *,
    preset: str = "checkout_com",
    kept: KeptRequest | None = None,
    after: timedelta = LATER,
    guards: Guards | None = None,
    **route: object,
) -> World:
    """Make one in which that long has passed since the send."""
    served = route_of(preset, **route)
    keys, wire, table, sends = Keys(), Wire(served.host, answer), Table(), Sends()
    clock = time.monotonic
    guards = guards or Guards(CallLimits(clock), Breaker(clock, lambda: 0.5))
    lane = Lane(served, lambda _: wire, keys, guards, now=lambda: SENT, monotonic=clock)
    made = Reconcile(
        {"r": lane},
        table=table,
        doubts=Kept(kept),
        authorize=sends,
        reply_cards=ReplyCards(CardVault.__new__(CardVault), now=lambda: SENT),  # none is stored
        env="test",
        now=lambda: SENT + after,
        monotonic=clock,
    )
    return World(made, lane, keys, wire, table, sends)


def sending_again(answer: Processor = none, *, guards: Guards | None = None) -> World:
    """Make one whose route sends again what was kept, while the processor knows its key."""
    return world(
        answer,
        preset="stripe",
        kept=KEPT,
        after=SOON,
        guards=guards,
        unknown_replay="within_lifetime",
    )


def route_of(preset: str, **more: object) -> Route:
    settings: dict[str, object] = {
        "name": "r",
        "preset": presets.load(preset),
        "host": HOSTS.get(preset, "api.processor.example"),
        "port": 443,
        "credential": "injected",
        "address_allow": AddressAllow.parse(()),
        "ca_file": None,
        "concurrency": 4,
    }
    return Route(**(settings | more))  # type: ignore[arg-type]  # its own fields, as given


def doubt(
    preset: str = "checkout_com",
    *headers: tuple[str, str],
    reference: str | None = "order-1",
    credential: str = "injected",
) -> Doubt:
    """Be in doubt about a payment that was sent with account A's key and these headers."""
    lane = world(preset=preset, credential=credential).lane
    account = lane.account(Secret({"api_key": ACCOUNT_A}), headers)
    return Doubt(
        first="f",
        tenant="t_one",
        route="r",
        operation="payment_intents.create" if preset == "stripe" else "payments.create",
        kind="authorize",
        state="unknown",
        amount=1999,
        currency="EUR",
        merchant_reference=reference,
        processor_reference=None,
        created_at=SENT,
        sends=(DoubtfulSend("f", 1, "b", SENT, account),),
        singles=(),
    )


def to_send_again(**others: str) -> Doubt:
    """Be in doubt about one that no search would find."""
    return replace(doubt("stripe", reference=None), **others)  # type: ignore[arg-type]  # its own
