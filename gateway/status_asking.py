"""Notices that prove nothing are answered by asking: the processor itself, with our credential.

Mollie's classic callbacks are an id without a signature. Nobody is believed: the payment's status
is read by its API, and what it says is an event as if it had been posted, in the form of the next
generation's events, so that one set of rules in the preset says what a status means. The merchant
gets the notice as it is always posted, and reads the status himself, as his code does now.

What never lives here: when and how often is asked, and what follows from an event.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.breaker import Circuit
from gateway.call import Call
from gateway.callback_events import read_events
from gateway.callback_scrub import masked_also, scrubbed
from gateway.errors import GatewayError
from gateway.exchange import Outcome, Replied
from gateway.lanes import Lane, Lanes
from gateway.limits import CallLimits
from gateway.preset import FORM, JSON
from gateway.preset_callbacks import CallbackEvents
from gateway.signatures import SCHEMES
from vault.callback_endpoint_table import Notice
from vault.callbacks import NewCallback
from vault.errors import CustodyError

ASKED_BY: Final = "mollie_classic"
READ_AS: Final = "mollie_nextgen"
PATH: Final = "/v2/payments/"
ASKED_PER_SECOND: Final = 20.0
ASKED_BURST: Final = 60
ASKED_AT_ONCE_OF_A_TENANT: Final = 8
"""Limits of their own: anybody who learns a URL can post notices, and must use up no payments'."""

_OK: Final = 200
_NOT_THERE: Final = frozenset({404, 410})
_REFERENCE: Final = re.compile("tr_[A-Za-z0-9]{1,64}")
_STATUS: Final = re.compile("[a-z_]{1,32}")
_VALUE: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,4})?")
_MOVED: Final = ("amountRefunded", "amountChargedBack")
"""What changes without another status, and is told in a notice of its own."""


@dataclass(frozen=True, slots=True)
class Told:
    """The processor has said how it stands."""

    new: NewCallback


@dataclass(frozen=True, slots=True)
class NotThere:
    """There is nothing of this id that this tenant could ask about: a forger's, or another's."""


@dataclass(frozen=True, slots=True)
class Later:
    """Nobody could say: ask again."""


Answer = Told | NotThere | Later


class StatusAsking:
    """Asks about notices, over the routes' own lanes."""

    def __init__(self, lanes: Lanes, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._lanes = lanes
        self._limits = CallLimits(
            monotonic,
            per_second=ASKED_PER_SECOND,
            burst=ASKED_BURST,
            concurrency=ASKED_AT_ONCE_OF_A_TENANT,
        )

    async def ask(self, notice: Notice) -> Answer:
        """Ask once what has become of what a notice names."""
        lane = self._lanes.get(notice.route)
        rules = None if lane is None else lane.preset.callbacks
        if lane is None or rules is None or not lane.injects:
            return NotThere()
        if ASKED_BY not in rules.schemes or not _REFERENCE.fullmatch(notice.reference):
            return NotThere()
        try:
            outcome = await self._sent(lane, notice)
        except (CustodyError, GatewayError):
            return Later()
        if not isinstance(outcome, Replied):
            return Later()
        if outcome.status in _NOT_THERE:
            return NotThere()
        new = _read(rules, notice, outcome.body) if outcome.status == _OK else None
        return Later() if new is None else Told(new)

    async def _sent(self, lane: Lane, notice: Notice) -> Outcome | None:
        """Send the question; as any search, it neither probes a breaker nor speaks to it."""
        headers = (("Accept", JSON),)
        call = Call("GET", f"{PATH}{notice.reference}", "", headers, b"")
        secret = await lane.secret(notice.tenant)
        with self._limits.enter(notice.tenant):
            if lane.breaker.circuit is not Circuit.CLOSED:
                return None
            return await lane.send(notice.tenant, call, secret, b"")


def _read(rules: CallbackEvents, notice: Notice, body: bytes) -> NewCallback | None:
    """Make an event of a payment, if it is the one that was asked about."""
    payment = _payment(body)
    status = payment.get("status")
    if payment.get("id") != notice.reference or not isinstance(status, str):
        return None
    if not _STATUS.fullmatch(status):
        return None
    post = {
        "type": f"payment.{status}",
        "entityId": notice.reference,
        "createdAt": payment.get(f"{status}At", payment.get("createdAt")),
        "_embedded": {"entity": payment},
    }
    written_as = SCHEMES[READ_AS]
    cleaned = scrubbed(rules, written_as, (), msgspec.json.encode(post))
    # Nobody needs a reference that looks like a card here: the payment's own id is enough.
    cleaned = masked_also(cleaned, [True] * len(cleaned.doubtful))
    (event,) = read_events(rules, written_as, (), cleaned.body)
    return NewCallback(
        tenant=notice.tenant,
        route=notice.route,
        scheme=ASKED_BY,
        endpoint=notice.endpoint,
        signature="unsigned",
        event_id=_event_id(notice.reference, status, payment),
        event_type=event.type,
        event_at=event.at,
        effect=event.effect,
        action_reference=notice.reference,
        payment_reference=rules.payment_of(event),
        merchant_reference=event.merchant_reference,
        amount=event.amount,
        currency=event.currency,
        decline_code=event.decline_code,
        is_scrubbed=False,  # the notice itself is as it was posted
        headers=headers_of_a_notice(),
        body=f"id={notice.reference}".encode(),
        source_address=None,
    )


def headers_of_a_notice() -> tuple[tuple[str, str], ...]:
    return (("Content-Type", FORM),)


def _payment(body: bytes) -> Mapping[str, object]:
    try:
        return msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _event_id(reference: str, status: str, payment: Mapping[str, object]) -> str:
    """Name what has changed: the status, or how much was moved under the same status."""
    parts = [reference, status]
    for name in _MOVED:
        amount = payment.get(name)
        value = amount.get("value") if isinstance(amount, dict) else None
        if isinstance(value, str) and _VALUE.fullmatch(value) and value.strip("0."):
            parts.append(f"{name}={value}")
    return ":".join(parts)
