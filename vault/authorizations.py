"""The record of every authorization: claim, intent, outcome, stored answer.

Nothing here opens a card or speaks to a processor. What the way out must not get wrong is here
once: an intent is durable before it is acted on, an outcome that cannot be appended goes to the
spool and stops disclosures, and what a sweeper has called unknown is resolved, not overwritten.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from secrets import token_bytes
from typing import Final
from uuid import UUID

import msgspec
from msgspec import UNSET, convert

from vault.authorization import (
    CONSUMES_CVC,
    Claim,
    Claimed,
    Finding,
    Kind,
    RepeatRules,
    Result,
    State,
)
from vault.authorization_table import AuthorizationRow, AuthorizationTable
from vault.claim_table import ClaimHold, ClaimRequest, ClaimTable
from vault.errors import CustodyError, KeysError, Overloaded
from vault.ids import new_uuid7
from vault.intent_table import (
    AlreadyRecorded,
    IntentFacts,
    OpenIntent,
    SealedAnswer,
    SettleIntent,
    Settlement,
    TransitionRefused,
)
from vault.keys import Keyed, RevealKeys, Sealed
from vault.ledger.entry import (
    Actor,
    AuthorizationAttempted,
    AuthorizationCompleted,
    AuthorizationNotSent,
    AuthorizationResolved,
    AuthorizationUnknown,
    Opening,
    TokenDeleted,
)
from vault.ledger.forms import Method, NotSentPhase, UnknownPhase, base64url
from vault.ledger.store import Ledger
from vault.ledger.unit import Line, committed
from vault.resolutions import RECONCILER
from vault.spool import Spool
from vault.token_table import TokenRow

ANSWER_BYTES_MAX: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Call:
    """A processor call that must be on record before it leaves. Amounts are in minor units."""

    tenant: str
    actor: Actor
    route: str
    operation: str
    kind: Kind
    host: str
    amount: int | None
    currency: str | None
    merchant_reference: str | None
    source_address: str
    key_digest: Keyed | None
    request_digest: Keyed
    account: bytes | None = None


@dataclass(frozen=True, slots=True)
class Intent:
    """A call that is on record: `burns` are its single-use tokens."""

    call: Call
    id: str
    first: str
    attempt: int
    opens: tuple[Opening, ...]
    burns: tuple[str, ...]
    unsettled: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a send ended, in the design's words; `milliseconds` from first byte out to last in."""

    state: State
    result: Result | None = None
    status: int | None = None
    phase: str | None = None
    reason: str | None = None
    milliseconds: int = 0
    processor_reference: str | None = None
    decline_code: str | None = None
    authorization_code: str | None = None
    executed: bool = True  # False: the processor refused it unseen, which settles nothing earlier


class Answer(msgspec.Struct, frozen=True):
    """What the merchant heard, as a repeat of the request is answered."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    cut: bool = False  # too large to keep: status and references only


class Authorizations:
    """Claims, intents and outcomes."""

    def __init__(  # noqa: PLR0913 - the parts of one wiring
        self,
        *,
        ledger: Ledger,
        claims: ClaimTable,
        table: AuthorizationTable,
        keys: RevealKeys,
        spool: Spool,
        replica: str,
        boot: UUID,
        now: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._claims = claims
        self._table = table
        self._keys = keys
        self._spool = spool
        self._replica = replica
        self._boot = boot
        self._now = now

    async def digests(
        self, tenant: str, *, key: bytes | None, request: bytes
    ) -> tuple[Keyed | None, Keyed]:
        """Return the keyed digests of an idempotency key and of a request with tokens in place.

        Raises any KeysError.
        """
        if key is None:
            return None, await self._keys.digest("request", tenant, request)
        of_key, of_request = await self._keys.digests(
            tenant, [("idempotency", key), ("request", request)]
        )
        return of_key, of_request

    async def key_digest(self, tenant: str, key: bytes) -> bytes:
        """Return the digest under which an idempotency key is on record. Raises any KeysError."""
        return (await self._keys.digest("idempotency", tenant, key)).value

    async def claim(self, call: Call, rules: RepeatRules) -> tuple[Claim, ClaimHold | None]:
        """Claim a call's idempotency key; a call without one is always the first.

        Raises StoreUnavailable or Overloaded: nothing was claimed that outlives its lease.
        """
        if call.key_digest is None:
            return Claimed(of=None, attempt=1, nonce=""), None
        claim = await self._claims.claim(
            ClaimRequest(
                tenant=call.tenant,
                route=call.route,
                key_digest=call.key_digest.value,
                body_digest=call.request_digest.value,
                rules=rules,
                at=self._now(),
            )
        )
        if not isinstance(claim, Claimed):
            return claim, None
        return claim, ClaimHold(call.tenant, call.route, call.key_digest.value, claim.nonce)

    async def free(self, hold: ClaimHold | None) -> None:
        """Give back a claim that led to no intent; if that fails, its lease ends it."""
        if hold is None:
            return
        try:
            await self._claims.free(hold)
        except CustodyError:
            return

    async def attempt(
        self,
        call: Call,
        cards: Sequence[tuple[Opening, TokenRow]],
        claimed: Claimed,
        hold: ClaimHold | None,
    ) -> Intent:
        """Put the intent on record, durably; nothing has been decrypted yet.

        Raises TokenUnknown, TokenInUse, CvcExpired or ClaimLost when that is found under the
        lock; LedgerUnavailable, LedgerSealed, StoreUnavailable or Overloaded. Whatever is
        raised, the caller must neither decrypt nor send.
        """
        identity = str(new_uuid7(self._now()))
        burns = dict.fromkeys(row.id for _, row in cards if row.single_use)
        intent = Intent(
            call=call,
            id=identity,
            first=claimed.of or identity,
            attempt=claimed.attempt,
            opens=tuple(opening for opening, _ in cards),
            burns=tuple(burns),
            unsettled=claimed.unsettled,
        )
        nothing = Ending(State.NOT_SENT, phase="abandoned", reason="ledger_unavailable")
        unit = OpenIntent(
            facts=_facts(intent),
            hold=hold,
            replica=self._replica,
            boot=self._boot,
            lines=(_attempted_line(intent),),
            abandoned=self._unit(intent, nothing, None, None),
        )
        await self._ledger.append(unit)
        return intent

    async def settle(self, intent: Intent, ending: Ending, answer: Answer | None) -> bool:
        """Put the outcome on record, with all that follows from it; True when it is durable.

        False: it is in the spool (or nowhere, when that failed too) and disclosures have
        stopped. Never raises for a store that is away: the processor's answer must still reach
        the merchant.
        """
        sealed, digest = None, None
        if answer is not None:
            sealed, digest = await self._sealed(intent, answer)
        unit = self._unit(intent, ending, sealed, digest)
        try:
            await self._append_outcome(unit)
        except AlreadyRecorded:
            return True
        except CustodyError as error:
            if isinstance(error, TransitionRefused) and error.state is not None:
                return True  # too late: another outcome is on record, which only evidence changes
            self._ledger.seal("spool")
            self._spool.write(unit)
            return False
        return True

    async def of_intent(self, tenant: str, intent: str) -> AuthorizationRow:
        """Return the authorization that an attempt belongs to. Raises StoreUnavailable."""
        first = await self._table.first_of(tenant, intent)
        row = await self._table.get(tenant, first) if first is not None else None
        assert row is not None, "a claim names an intent that is on record"
        return row

    async def stored_answer(self, tenant: str, intent: str) -> Answer | None:
        """Return what the merchant heard before, or None when it was not kept.

        Raises StoreUnavailable; any KeysError.
        """
        sealed = await self._table.answer(tenant, intent)
        if sealed is None:
            return None
        body = await self._keys.open_reply(
            Sealed(sealed.ciphertext, sealed.key_version), tenant=tenant, intent=intent
        )
        return msgspec.msgpack.decode(body, type=Answer)

    async def drain_spool(self) -> int:
        """Append what the spool holds; return how many outcomes are left in it.

        Disclosures go on when nothing is left. Raises nothing of the store's.
        """
        left = 0
        for unit in self._spool.waiting():
            try:
                await self._append_outcome(unit, method="spool")
            except AlreadyRecorded:
                self._spool.done(unit)
            except TransitionRefused as refusal:
                if refusal.state is None:  # the log has lost the intent: that is no small thing
                    left += 1
                else:
                    self._spool.done(unit)
            except CustodyError:
                left += 1
            else:
                self._spool.done(unit)
        if left == 0 and not self._spool.holds_any():
            self._ledger.unseal("spool")
        return left

    async def end_orphans(self) -> int:
        """Call unknown what was under way in a process that is gone; return how many.

        Raises StoreUnavailable, LedgerUnavailable or Overloaded.
        """
        orphans = await self._table.orphans(replica=self._replica, boot=self._boot, at=self._now())
        for orphan in orphans:
            line = Line(
                AuthorizationUnknown(
                    id=str(new_uuid7(self._now())),
                    tenant=orphan.tenant,
                    actor=RECONCILER,
                    origin_boot=orphan.boot,
                    intent=orphan.intent,
                    phase="crash",
                    reason="crash",
                )
            )
            settlement = Settlement(orphan.intent, State.UNKNOWN, phase="crash", reason="crash")
            try:
                await self._ledger.append(SettleIntent(orphan.first, (settlement,), (line,)))
            except TransitionRefused:
                continue  # its outcome arrived in the meantime
        return len(orphans)

    # --- how outcomes are written -------------------------------------------------------------

    async def _append_outcome(self, unit: SettleIntent, *, method: Method = "late_reply") -> None:
        try:
            await self._ledger.append(unit)
        except TransitionRefused as found:
            refusal = found
        else:
            return
        if refusal.intent != unit.settlements[0].intent:
            await self._append_outcome(without(unit, refusal.intent), method=method)
            return
        if refusal.state is not State.UNKNOWN:
            raise refusal
        if unit.settlements[0].state is State.UNKNOWN:
            raise AlreadyRecorded  # a sweeper said so before us
        await self._append_outcome(resolved_instead(unit, method), method=method)

    def _unit(
        self,
        intent: Intent,
        ending: Ending,
        answer: SealedAnswer | None,
        response_digest: Keyed | None,
    ) -> SettleIntent:
        settlements = [_settlement(intent.id, ending)]
        lines = [self._outcome_line(intent, ending, response_digest)]
        if ending.state is State.COMPLETED and ending.executed:
            for earlier in intent.unsettled:
                settlements.append(
                    replace(
                        _settlement(earlier, ending),
                        state=State.RESOLVED,
                        finding=Finding.ANSWERED,
                    )
                )
                lines.append(self._replayed_line(intent, earlier, ending))
        burned = intent.burns if ending.result in CONSUMES_CVC else ()
        lines.extend(self._burned_line(intent, token) for token in burned)
        return SettleIntent(intent.first, tuple(settlements), tuple(lines), answer, burned)

    def _outcome_line(self, intent: Intent, ending: Ending, response_digest: Keyed | None) -> Line:
        words = _reply_words(ending, response_digest)
        identity = str(new_uuid7(self._now()))
        call = intent.call
        match ending.state:
            case State.COMPLETED:
                assert ending.result is not None
                assert ending.status is not None
                completed = AuthorizationCompleted(
                    id=identity,
                    tenant=call.tenant,
                    actor=call.actor,
                    intent=intent.id,
                    result=ending.result,
                    status=ending.status,
                    ms=ending.milliseconds,
                )
                return committed(completed, words, salt=token_bytes(32))
            case State.NOT_SENT:
                not_sent = AuthorizationNotSent(
                    id=identity,
                    tenant=call.tenant,
                    actor=call.actor,
                    intent=intent.id,
                    phase=convert(ending.phase, NotSentPhase),
                    reason=ending.reason or "internal_error",
                )
                return Line(not_sent)
            case _:
                unknown = AuthorizationUnknown(
                    id=identity,
                    tenant=call.tenant,
                    actor=call.actor,
                    intent=intent.id,
                    phase=convert(ending.phase, UnknownPhase),
                    reason=ending.reason or "internal_error",
                    status=ending.status or UNSET,
                )
                return committed(unknown, words, salt=token_bytes(32))

    def _replayed_line(self, intent: Intent, earlier: str, ending: Ending) -> Line:
        assert ending.result is not None
        resolved = AuthorizationResolved(
            id=str(new_uuid7(self._now())),
            tenant=intent.call.tenant,
            actor=intent.call.actor,
            intent=earlier,
            method="replay",
            finding=Finding.ANSWERED,
            result=ending.result,
            status=ending.status or UNSET,
        )
        return committed(resolved, _reply_words(ending, None), salt=token_bytes(32))

    def _burned_line(self, intent: Intent, token: str) -> Line:
        return Line(
            TokenDeleted(
                id=str(new_uuid7(self._now())),
                tenant=intent.call.tenant,
                actor=intent.call.actor,
                token=token,
                reason="used",
            )
        )

    async def _sealed(
        self, intent: Intent, answer: Answer
    ) -> tuple[SealedAnswer | None, Keyed | None]:
        """Seal the answer for a repeat; if that fails, the outcome is committed all the same."""
        content = msgspec.msgpack.encode(answer)
        tenant = intent.call.tenant
        if len(content) > ANSWER_BYTES_MAX:
            content = msgspec.msgpack.encode(Answer(answer.status, (), b"", cut=True))
        try:
            sealed, digest = await asyncio.gather(
                self._keys.seal_reply(content, tenant=tenant, intent=intent.id),
                self._keys.digest("response", tenant, answer.body),
            )
        except (KeysError, Overloaded):
            return None, None
        return SealedAnswer(tenant, sealed.ciphertext, sealed.key_version), digest


def resolved_instead(unit: SettleIntent, method: Method) -> SettleIntent:
    """The same outcome, after the intent was called unknown: a `resolved`, not an edit."""
    late, line = unit.settlements[0], unit.lines[0]
    entry = line.entry
    assert isinstance(entry, AuthorizationCompleted | AuthorizationNotSent)
    was_answered = isinstance(entry, AuthorizationCompleted)
    finding = Finding.ANSWERED if was_answered else Finding.NOT_SENT
    resolved = AuthorizationResolved(
        id=entry.id,
        tenant=entry.tenant,
        actor=entry.actor,
        origin_boot=entry.origin_boot,
        intent=entry.intent,
        method=method,
        finding=finding,
        result=entry.result if isinstance(entry, AuthorizationCompleted) else Result.ERROR,
        status=entry.status if isinstance(entry, AuthorizationCompleted) else UNSET,
        detail=entry.detail if isinstance(entry, AuthorizationCompleted) else UNSET,
    )
    settled = replace(
        late, state=State.RESOLVED, finding=finding, result=late.result or Result.ERROR
    )
    return replace(
        unit,
        settlements=(settled, *unit.settlements[1:]),
        lines=(Line(resolved, line.detail), *unit.lines[1:]),
    )


def without(unit: SettleIntent, intent: str) -> SettleIntent:
    """The same outcome, less what it said of an earlier send: that was settled otherwise."""
    place = [one.intent for one in unit.settlements].index(intent)
    return replace(
        unit,
        settlements=(*unit.settlements[:place], *unit.settlements[place + 1 :]),
        lines=(*unit.lines[:place], *unit.lines[place + 1 :]),
    )


def _settlement(intent: str, ending: Ending) -> Settlement:
    return Settlement(
        intent=intent,
        state=ending.state,
        result=ending.result,
        status=ending.status,
        phase=ending.phase,
        reason=ending.reason,
        processor_reference=ending.processor_reference,
        decline_code=ending.decline_code,
        authorization_code=ending.authorization_code,
    )


def _facts(intent: Intent) -> IntentFacts:
    call = intent.call
    return IntentFacts(
        intent=intent.id,
        first=intent.first,
        attempt=intent.attempt,
        tenant=call.tenant,
        route=call.route,
        operation=call.operation,
        kind=call.kind,
        opens=intent.opens,
        amount=call.amount,
        currency=call.currency,
        merchant_reference=call.merchant_reference,
        key_digest=call.key_digest.value if call.key_digest else None,
        account=call.account,
    )


def _attempted_line(intent: Intent) -> Line:
    call = intent.call
    entry = AuthorizationAttempted(
        id=intent.id,
        tenant=call.tenant,
        actor=call.actor,
        intent=intent.id,
        kind=call.kind,
        attempt=intent.attempt,
        of=intent.first if intent.first != intent.id else UNSET,
        route=call.route,
        operation=call.operation,
        opens=intent.opens,
    )
    return committed(entry, _attempted_words(call), salt=token_bytes(32))


def _attempted_words(call: Call) -> dict[str, str | int | None]:
    return {
        "amount": call.amount,
        "currency": call.currency,
        "merchant_reference": call.merchant_reference,
        "host": call.host,
        "source_address": call.source_address,
        "idempotency_digest": digest_text(call.key_digest),
        "request_digest": digest_text(call.request_digest),
    }


def _reply_words(ending: Ending, response_digest: Keyed | None) -> dict[str, str | None]:
    return {
        "processor_reference": ending.processor_reference,
        "authorization_code": ending.authorization_code,
        "decline_code": ending.decline_code,
        "response_digest": digest_text(response_digest),
    }


def digest_text(digest: Keyed | None) -> str | None:
    """A keyed digest as it stands in a detail: `<key version>:<base64url>`."""
    if digest is None:
        return None
    return f"{digest.version}:{base64url(digest.value)}"
