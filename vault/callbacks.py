"""Callbacks received: each event once, with what it proves of its payment, all or nothing.

1. Look up whether it is on record, and which requests have its references.
2. Decide which it means, and what follows for each (`vault/payment_events.py`).
3. Append inbox row, entry and resolutions as one unit; what has changed meanwhile is looked up
   again. Only then may a processor hear that its event was received.

An event that comes before the answer to the call itself finds no request, or one under way: it
stays unmatched, and has its effect as soon as that answer is on record. What never lives here:
whether a post is genuine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from secrets import token_bytes
from typing import Final, Literal
from uuid import UUID

from msgspec import UNSET

from vault.authorization import CONSUMES_CVC, Finding, Result, State
from vault.callback_table import CallbackRow, CallbackTable, Candidate, Found
from vault.callback_targets import Targets, kind_of_change, processor_reference, targets
from vault.callback_unit import AlreadyReceived, Effects, MatchCallback, Moved, ReceiveCallback
from vault.doubt_table import DoubtTable
from vault.errors import Overloaded
from vault.ids import new_uuid7_text
from vault.intent_table import SettleIntent
from vault.ledger.entry import Actor, CallbackReceived, callback_actor
from vault.ledger.forms import INTEGER_MAX
from vault.ledger.store import Ledger
from vault.ledger.unit import Line, committed
from vault.payment_events import Effect, OnRecord, recorded
from vault.resolutions import RECONCILER, Evidence, Scribe, contradiction, resolution

LOOKS_MAX: Final = 5
MATCHED_FOR: Final = timedelta(days=7)  # by then what was in doubt has been given up
PAGE_EVENTS: Final = 1000
AHEAD_MAX: Final = timedelta(minutes=10)
"""How far a processor's clock may be ahead: from a time to come, no later event would count."""
PUT_OFF: Final = timedelta(minutes=1)
PUT_OFF_MAX: Final = 10_000
TEXT_CHARACTERS_MAX: Final = 255


class Received(StrEnum):
    """What came of an event. Both are a reason to acknowledge it."""

    NEW = "new"
    REPEATED = "repeated"


@dataclass(frozen=True, slots=True, repr=False)
class NewCallback:
    """An event that was proven and scrubbed; `endpoint` is the id in the URL it came to."""

    tenant: str
    route: str
    scheme: str
    endpoint: str
    signature: Literal["valid", "unsigned"]
    event_id: str
    event_type: str
    event_at: datetime | None
    effect: Effect | None
    action_reference: str | None
    payment_reference: str | None
    merchant_reference: str | None
    amount: int | None
    currency: str | None
    decline_code: str | None
    is_scrubbed: bool
    headers: tuple[tuple[str, str], ...]
    body: bytes
    source_address: str | None


class Callbacks:
    """Puts events on record."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        table: CallbackTable,
        doubts: DoubtTable,
        boot: UUID | None,
        now: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._table = table
        self._doubts = doubts
        self._boot = boot
        self._now = now
        self._later: dict[str, datetime] = {}
        self._place: tuple[datetime, str] | None = None  # in the older ones without a request

    async def receive(self, new: NewCallback) -> Received:
        """Put an event on record. When this returns, it is durable: new, or by an earlier post.

        Raises StoreUnavailable, LedgerUnavailable, Overloaded, or whatever refuses new entries.
        """
        row = _row(new, new_uuid7_text(self._now()), self._now())
        actor = callback_actor(new.endpoint)
        for _ in range(LOOKS_MAX):
            found = await self._table.look_up(row, kind_of_change(row.effect))
            if found.is_known:
                return Received.REPEATED
            meant = targets(row, found.candidates)
            must_wait = _must_wait(found, meant)
            effects = await self._effects(row, meant, actor)
            if effects is None:
                continue
            named = row
            if not must_wait:
                named = replace(row, first=meant.first, action=meant.changed)
            own = _line(new, row.id, meant.first, actor)
            try:
                await self._ledger.append(ReceiveCallback(named, effects, (own, *effects.lines)))
            except AlreadyReceived:
                return Received.REPEATED
            except Moved:
                continue
            return Received.NEW
        raise Overloaded

    async def match_late(self, limit: int = 100) -> int:
        """Give events their effect whose requests are there by now; return how many.

        The newest are looked at each time, the older ones a page after the other. Raises what
        `receive` does.
        """
        since = self._now() - MATCHED_FOR
        newest = await self._table.unmatched(since, None, limit=PAGE_EVENTS)
        older = (
            newest
            if self._place is None
            else (await self._table.unmatched(since, self._place, limit=PAGE_EVENTS))
        )
        self._place = older.last
        due = {row.id: row for row in (*newest.due, *older.due)}
        matched = 0
        # Oldest first: so it is seldom that one replaces what another has just said.
        for row in sorted(due.values(), key=lambda row: row.event_at):
            if matched >= limit:
                break
            if self._later.get(row.id, since) > self._now():
                continue
            if await self._match(row):
                matched += 1
                self._later.pop(row.id, None)
            else:  # what cannot be matched holds up nobody
                self._put_off(row.id)
        return matched

    def _put_off(self, row: str) -> None:
        if len(self._later) >= PUT_OFF_MAX:
            self._later.clear()
        self._later[row] = self._now() + PUT_OFF

    async def _match(self, row: CallbackRow) -> bool:
        for _ in range(LOOKS_MAX):
            found = await self._table.look_up(row, kind_of_change(row.effect))
            meant = targets(row, found.candidates)
            if meant.first is None or _must_wait(found, meant):
                return False
            effects = await self._effects(row, meant, RECONCILER)
            if effects is None:
                continue
            if not effects.changes:
                evidence = dict(effects.evidence)
                named = meant.first, meant.changed
                return await self._table.link(row.id, named, meant.all, evidence)
            try:
                unit = MatchCallback(row, effects, effects.lines, meant.first, meant.changed)
                await self._ledger.append(unit)
            except Moved:
                continue
            return True
        return False

    async def _effects(self, row: CallbackRow, meant: Targets, actor: Actor) -> Effects | None:
        """Return what follows; None if what was looked up has changed since."""
        changes: list[SettleIntent] = []
        evidence: dict[str, datetime] = {}
        codes_of: list[str] = []
        for one in meant.all if row.effect else ():
            assert row.effect is not None
            known = OnRecord(one.kind, one.state, one.result, one.evidence_at)
            after = recorded(known, row.effect, row.event_at, has_own_time=row.has_own_time)
            if after.evidence_at is not None and after != known:  # any settlement clears it
                evidence[one.first] = after.evidence_at
            result = after.result
            if result is None or (result is known.result and not _says_why(row, one, after)):
                continue
            change = await self._change(row, one, result, actor)
            if change is None:
                return None
            changes.append(change)
            if one.result is Result.PENDING and result in CONSUMES_CVC:
                codes_of.append(one.first)
        return Effects(meant.all, tuple(changes), tuple(evidence.items()), tuple(codes_of))

    async def _change(
        self, row: CallbackRow, one: Candidate, result: Result, actor: Actor
    ) -> SettleIntent | None:
        by = Scribe(actor, self._boot, self._now)
        said = Evidence(
            "callback",
            Finding.ANSWERED,
            result,
            processor_reference=processor_reference(row, one),
            decline_code=row.decline_code if result is Result.DECLINED else None,
            words=f"{row.id} {row.event_id}",
        )
        if one.state is State.UNKNOWN:
            doubt = await self._doubts.of(row.tenant, one.first)
            return None if doubt is None else resolution(doubt, said, None, by)
        telling = await self._table.telling(row.tenant, one.first)
        if telling is None:
            return None
        ended, singles = telling
        return contradiction(row.tenant, one.first, ended, said, by, singles=singles)


def _must_wait(found: Found, meant: Targets) -> bool:
    """Whether an answer that is awaited may change what the event means."""
    if meant.must_wait:
        return True
    return meant.missing is not None and meant.first is not None and found.is_under_way


def _line(new: NewCallback, identity: str, first: str | None, actor: Actor) -> Line:
    entry = CallbackReceived(
        id=identity,
        actor=actor,
        tenant=new.tenant,
        route=new.route,
        signature=new.signature,
        intent=first or UNSET,
    )
    words = {
        "processor_event": new.event_id,
        "processor_reference": _plain(new.action_reference or new.payment_reference),
        "body_digest": f"sha256:{sha256(new.body).hexdigest()}",
        "source_address": new.source_address,
    }
    return committed(entry, words, salt=token_bytes(32))


def _row(new: NewCallback, identity: str, at: datetime) -> CallbackRow:
    """One odd value must not fail the transaction, in which others' events are too."""
    fits = new.amount is not None and abs(new.amount) <= INTEGER_MAX
    return CallbackRow(
        id=identity,
        tenant=new.tenant,
        route=new.route,
        scheme=new.scheme,
        event_id=new.event_id,
        event_type=_shown(new.event_type),
        event_at=at if new.event_at is None else min(new.event_at, at + AHEAD_MAX),
        effect=new.effect,
        action_reference=_plain(new.action_reference),
        payment_reference=_plain(new.payment_reference),
        merchant_reference=_plain(new.merchant_reference),
        amount=new.amount if fits else None,
        currency=_plain(new.currency),
        decline_code=_plain(new.decline_code),
        signature=new.signature,
        is_scrubbed=new.is_scrubbed,
        headers=new.headers,
        body=new.body,
        first=None,
        action=None,
        idx=-1,
        received_at=at,
    )


def _says_why(row: CallbackRow, one: Candidate, after: OnRecord) -> bool:
    """Whether a decline that counts has another reason than the one that counted before."""
    if after.result is not Result.DECLINED or after.evidence_at == one.evidence_at:
        return False
    return row.decline_code != one.decline_code


def _plain(text: str | None) -> str | None:
    """A text that can be stored; PostgreSQL has no NUL, and UTF-8 no lone surrogates."""
    is_plain = text is not None and text.isprintable() and 0 < len(text) <= TEXT_CHARACTERS_MAX
    return text if is_plain else None


def _shown(characters: Sequence[str]) -> str:
    return "".join(each if each.isprintable() else "?" for each in characters)[:TEXT_CHARACTERS_MAX]
