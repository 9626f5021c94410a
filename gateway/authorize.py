"""The way out: a token arrives, its card goes to the processor, and the answer comes back.

1. Authenticate, match the operation, read the body, find the tokens: done by `outbound`.
2. Claim the idempotency key. Only `Claimed` goes on.
3. Load the rows of the tokens at declared fields: tenant, expiry, use (begun beside 2).
4. Put the intent in the ledger: durable. Nothing has been decrypted yet.
5. Open the cards and put the numbers in place.
6. Send once.
7. Scrub the reply.
8. Record what became of it, in the ledger, else in the spool, which halts disclosures;
   the same transaction settles the CVC.
9. Answer.

So nothing leaves twice unless the claim table says so, and nothing without a record. A crash
after 4 is `unknown`, for reconciliation to settle.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, Protocol, assert_never

import msgspec

from gateway.breaker import Admission
from gateway.call import Call as WireCall
from gateway.errors import (
    GatewayError,
    IdempotencyKeyOpen,
    IdempotencyKeyReused,
    OutcomeUnknown,
    UpstreamReflectedPan,
)
from gateway.exchange import Failure, NotSent, Outcome, Phase, Replied, Unknown
from gateway.in_flight import InFlight
from gateway.kept_requests import request_to_keep
from gateway.lanes import Lane, Secret
from gateway.metrics import Metrics
from gateway.order import OpenedCard, Opens, Order, fill
from gateway.preset import Operation
from gateway.reply import Reflected, Scrubbed
from gateway.reply_cards import Owner, ReplyCards
from gateway.result import Settled, UnknownOutcome, read_result
from gateway.stopwatch import Stopwatch
from vault.authorization import (
    Claimed,
    Finding,
    KeyReused,
    Kind,
    RepeatRules,
    Result,
    State,
    StillOpen,
    Stored,
    Unsettled,
)
from vault.authorization_table import Attempt
from vault.authorizations import Answer, Authorizations, Call, Ending, Intent
from vault.card_opener import CardOpener
from vault.claim_table import ClaimHold
from vault.doubts import Doubts
from vault.errors import CustodyError, CvcExpired, ExpiryUnknown, Overloaded, TokenUnknown
from vault.ids import authorization_id
from vault.intent_table import ClaimLost
from vault.ledger.entry import Actor, Opening
from vault.milestones import UNWATCHED, Milestone, Milestones
from vault.pan import Cvc, Pan
from vault.token_table import TokenRow, TokenTable

SEND_WITHIN_SECONDS: Final = 20.0
"""An intent's lease is 30 s: what has not been sent by then is not sent, since another replica
may call it unknown and let the merchant repeat it."""


OK: Final = 200
CLIENT_ERRORS: Final = 400

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Submission:
    """A matched request of an authenticated caller: everything but the card."""

    tenant: str
    actor: Actor
    source_address: str
    lane: Lane
    operation: Operation
    call: WireCall
    order: Order
    idempotency_key: bytes | None


@dataclass(frozen=True, slots=True)
class Told:
    """What the merchant hears. `problem` is a code when there is no answer of the processor's."""

    authorization: str
    state: State
    processor_status: int | None
    answer: Answer | None
    problem: str | None = None
    retryable: bool = False
    replayed: bool = False
    pending: bool = False


@dataclass(frozen=True, slots=True)
class _Cards:
    """The rows of an order's tokens, by the text that names them, and what is opened of them."""

    rows: Mapping[str, TokenRow]
    opens: tuple[tuple[Opening, TokenRow], ...]


@dataclass(frozen=True, slots=True)
class _End:
    """How a send ended, and what of the answer may go back."""

    ending: Ending
    answer: Answer | None
    problem: str | None = None
    retryable: bool = False


class CardsOfPages(Protocol):
    """Who watches cards that came from pages and are not kept: by tenant, and where typed."""

    def admit(self, tenant: str, network: str | None, kind: Kind) -> None:
        """Raises CardTesting."""

    def judge(
        self, tenant: str, network: str | None, kind: Kind, result: Result | None
    ) -> None: ...


class Authorize:
    """Carries out submissions; knows neither HTTP servers nor tables."""

    def __init__(  # noqa: PLR0913 - the parts of one wiring
        self,
        *,
        authorizations: Authorizations,
        tokens: TokenTable,
        opener: CardOpener,
        reply_cards: ReplyCards,
        in_flight: InFlight,
        metrics: Metrics,
        monotonic: Callable[[], float],
        doubts: Doubts | None = None,
        milestones: Milestones = UNWATCHED,
        pages: CardsOfPages | None = None,
    ) -> None:
        """Without `doubts` no request is kept that could be sent again."""
        self._authorizations = authorizations
        self._tokens = tokens
        self._opener = opener
        self._reply_cards = reply_cards
        self._in_flight = in_flight
        self._metrics = metrics
        self._monotonic = monotonic
        self._doubts = doubts
        self._milestones = milestones
        self._pages = pages

    async def handle(self, submission: Submission, watch: Stopwatch) -> Told:
        """Carry out one submission and tell what became of it.

        Raises IdempotencyKeyOpen, IdempotencyKeyReused or OutcomeUnknown by the claim table,
        and whatever ends it before its intent: TokenUnknown, CvcExpired, ExpiryUnknown, TokenInUse,
        any KeysError, StoreUnavailable, LedgerUnavailable, LedgerSealed or Overloaded.
        """
        if self._in_flight.is_full:  # before anything is claimed for it
            raise Overloaded
        # The rows need neither digest nor claim; whether they are missed is asked after the claim,
        # for a repeat gets its answer even if its token is gone.
        call, cards = await asyncio.gather(
            self._call(submission, watch), self._looked_up(submission, watch)
        )
        with watch.running("claim"):
            claim, hold = await self._authorizations.claim(call, _rules(submission))  # 2
        match claim:
            case Claimed():
                self._milestones.passed(Milestone.CLAIMED)
                self._metrics.idempotency("replayed" if claim.unsettled else "first")
                if not await self._has_room(hold):
                    return _not_begun(claim)
                work = self._carry_out(submission, call, cards, claim, hold, watch)
                return await self._in_flight.to_its_end(work)
            case Stored(intent):
                self._metrics.idempotency("replayed")
                return await self._stored(call, intent)
            case StillOpen():
                self._metrics.idempotency("in_flight")
                raise IdempotencyKeyOpen
            case Unsettled():
                raise OutcomeUnknown
            case KeyReused():
                self._metrics.idempotency("mismatch")
                raise IdempotencyKeyReused
            case _ as unreachable:
                assert_never(unreachable)

    async def _has_room(self, hold: ClaimHold | None) -> bool:
        """Whether there is still room, since that was asked; else the claim is given back."""
        if not self._in_flight.is_full:  # and nothing is awaited from here on
            return True
        await self._authorizations.free(hold)
        return False

    async def _call(self, submission: Submission, watch: Stopwatch) -> Call:
        order, wire = submission.order, submission.call
        with watch.running("digest"):
            key, request = await self._authorizations.digests(
                submission.tenant,
                key=submission.idempotency_key,
                request=order.identity(wire.method, wire.path, wire.query),
            )
        return Call(
            tenant=submission.tenant,
            actor=submission.actor,
            route=submission.lane.name,
            operation=submission.operation.name,
            kind=submission.operation.kind,
            host=submission.lane.host,
            amount=order.amount,
            currency=order.currency,
            merchant_reference=order.merchant_reference,
            source_address=submission.source_address,
            key_digest=key,
            request_digest=request,
        )

    async def _looked_up(self, submission: Submission, watch: Stopwatch) -> _Cards | CustodyError:
        with watch.running("rows"):
            try:
                return await self._load(submission)  # 3
            except CustodyError as error:
                return error

    async def _carry_out(
        self,
        submission: Submission,
        call: Call,
        cards: _Cards | CustodyError,
        claim: Claimed,
        hold: ClaimHold | None,
        watch: Stopwatch,
    ) -> Told:
        attempted = False
        with ExitStack() as stack:
            try:
                if isinstance(cards, CustodyError):
                    raise cards
                self._admit(submission, cards)
                secret = await submission.lane.secret(submission.tenant)
                # Asked only now: of an earlier send under this key the breaker knows nothing.
                admission = stack.enter_context(submission.lane.breaker.admitted())
                with watch.running("intent"):
                    account = submission.lane.account(secret, submission.call.headers)
                    placed = replace(call, account=account)
                    intent = await self._attempt(placed, cards, claim, hold)  # 4
                attempted = True
                self._milestones.passed(Milestone.INTENDED)
            except (CustodyError, GatewayError) as error:
                if claim.of is None or not claim.unsettled:
                    error.state = State.NOT_SENT  # the claim says so, not this failure
                    raise
                return _still_unknown(claim.of, error)
            finally:
                if not attempted:
                    await self._authorizations.free(hold)
            end = await self._to_the_end(submission, cards, intent, (secret, admission), watch)
        with watch.running("outcome"):
            recorded = await self._authorizations.settle(  # 8
                intent,
                end.ending,
                end.answer if end.ending.state is State.COMPLETED else None,
            )
        if recorded:
            self._milestones.passed(Milestone.RECORDED)
            await self._keep(submission, intent, end.ending)
        self._count(submission, cards, end)
        self._milestones.passed(Milestone.TOLD)
        return Told(  # 9
            authorization=authorization_id(intent.first),
            state=_state(intent, end.ending),
            processor_status=end.ending.status,
            answer=end.answer,
            problem=end.problem,
            retryable=end.retryable,
            pending=not recorded,
        )

    def _admit(self, submission: Submission, cards: _Cards) -> None:
        """Raises CardTesting: a card that was let in may have waited until others were refused."""
        if self._pages is not None:
            for row in cards.rows.values():
                self._pages.admit(submission.tenant, row.made_from, submission.operation.kind)

    async def _keep(self, submission: Submission, intent: Intent, ending: Ending) -> None:
        """Keep a request that is in doubt, where the gateway may send it again by itself."""
        if self._doubts is None or ending.state is not State.UNKNOWN:
            return
        rules = _rules(submission)
        kept = request_to_keep(submission.lane, submission.call, submission.idempotency_key, rules)
        if kept is None:
            return
        lifetime = timedelta(seconds=rules.replay_seconds or 0)
        try:
            await self._doubts.keep(submission.tenant, intent.first, kept, lifetime=lifetime)
        except Exception:  # noqa: BLE001 - the merchant is owed an answer, and can repeat it itself
            return

    async def _attempt(
        self, call: Call, cards: _Cards, claim: Claimed, hold: ClaimHold | None
    ) -> Intent:
        try:
            return await self._authorizations.attempt(call, cards.opens, claim, hold)
        except ClaimLost:
            pass
        raise IdempotencyKeyOpen

    async def _load(self, submission: Submission) -> _Cards:
        """Find every token of the order. Raises TokenUnknown, CvcExpired, ExpiryUnknown."""
        texts = submission.order.tokens
        found = await self._tokens.load_all(submission.tenant, texts)
        rows = {text: row for text, row in zip(texts, found, strict=True) if row is not None}
        if len(rows) < len(texts):
            raise TokenUnknown
        if any(rows[text].expiry is None for text in submission.order.dated):
            raise ExpiryUnknown
        opens = (
            (_opening(one, rows[one.token]), rows[one.token]) for one in submission.order.opens
        )
        return _Cards(rows, tuple(opens))

    async def _to_the_end(
        self,
        submission: Submission,
        cards: _Cards,
        intent: Intent,
        leave: tuple[Secret, Admission],
        watch: Stopwatch,
    ) -> _End:
        """Open and send. An intent ends whatever happens: what is not foreseen is `unknown`."""
        secret, admission = leave
        started = self._monotonic()
        try:
            with watch.running("decrypt"):
                opened = await self._opener.open(cards.opens, intent=intent.id)  # 5
            by_token = _opened_cards(submission.order, cards, opened)
            body = fill(submission.order, by_token, submission.lane.login(secret))
            self._milestones.passed(Milestone.OPENED)
        except CustodyError as error:
            return _not_sent("decrypt", error.code, retryable=error.retryable)
        except Exception:  # noqa: BLE001 - nothing has been sent, and that must be on record
            return _not_sent("prepare", "internal_error", retryable=False)
        if self._monotonic() - started > SEND_WITHIN_SECONDS:
            return _not_sent("prepare", "lease_over", retryable=True)
        try:
            self._milestones.passed(Milestone.LEAVING)
            with watch.running("processor"):
                outcome = await submission.lane.send(  # 6
                    submission.tenant, submission.call, secret, body
                )
            submission.lane.heard(admission, outcome)
            if isinstance(outcome, Replied):
                self._milestones.passed(Milestone.ANSWERED)
            with watch.running("scrub"):
                return await self._end(submission, outcome, tuple(by_token.values()))  # 7
        except Exception:  # noqa: BLE001 - it may have been sent
            return self._unknown(submission, "sending", "internal_error", None)
        finally:
            body[:] = bytes(len(body))  # minimized, not zeroized: the transport had a copy

    async def _end(
        self, submission: Submission, outcome: Outcome, sent: Sequence[OpenedCard]
    ) -> _End:
        match outcome:
            case Replied():
                owner = Owner(submission.tenant, submission.actor)
                cleaned = await self._reply_cards.cleaned(
                    submission.lane.preset, owner, outcome, sent
                )
                return self._read(submission, outcome, cleaned)
            case NotSent(phase, code):
                return _not_sent(_LEDGER_PHASES[phase], code.value, retryable=code in PASSING)
            case Unknown(phase, code, status):
                return self._unknown(submission, phase.value, code.value, status)
            case _ as unreachable:
                assert_never(unreachable)

    def _unknown(self, submission: Submission, phase: str, code: str, status: int | None) -> _End:
        """Whether a repeat is of use is the claim table's: it would be sent under the same key."""
        rules = _rules(submission)
        replayable = rules.replay_seconds is not None and submission.idempotency_key is not None
        ending = Ending(State.UNKNOWN, status=status, phase=phase, reason=code)
        return _End(ending, None, problem=code, retryable=replayable)

    def _read(self, submission: Submission, reply: Replied, cleaned: Scrubbed | Reflected) -> _End:
        """Read from the cleaned answer what happened."""
        lane = submission.lane
        said = read_result(lane.preset, submission.operation, reply.status, cleaned)
        if isinstance(said, UnknownOutcome):
            end = self._unknown(submission, "reply", said.reason, reply.status)
        else:
            end = _End(_completed(said, reply), None)
        if isinstance(cleaned, Reflected):
            self._metrics.scan_hits("out_reply", "echo")
            return _withheld(end)
        self._metrics.scan_hits("out_reply", "echo", cleaned.echoes)
        self._metrics.scan_hits("out_reply", "card_like", cleaned.card_like)
        if end.problem is not None and reply.status < CLIENT_ERRORS:  # a 2xx would read as charged
            return end
        headers = lane.returned(cleaned.headers)
        if end.problem is not None and end.retryable:
            headers = _with_retry(lane, headers)
        return replace(end, answer=Answer(reply.status, headers, cleaned.body), problem=None)

    async def _stored(self, call: Call, intent: str) -> Told:
        """The answer of the first request; of one that was not kept, status and reference."""
        row = await self._authorizations.of_intent(call.tenant, intent)
        ended = next((each for each in row.attempts if each.intent == intent), None)
        if ended is not None and ended.finding == Finding.GIVEN_UP:
            raise OutcomeUnknown
        try:
            answer = await self._authorizations.stored_answer(call.tenant, intent)
        except CustodyError as error:
            error.state = State(row.state)
            raise
        status = next(
            (attempt.status for attempt in reversed(row.attempts) if attempt.status), None
        )
        problem = None if ended is None else _withheld_because(ended, answer)
        if problem is not None:
            return Told(
                authorization=authorization_id(row.first),
                state=State(row.state),
                processor_status=status,
                answer=None,
                problem=problem,
                replayed=True,
            )
        if answer is None or answer.cut:
            body = msgspec.json.encode({"id": row.processor_reference})
            answer = Answer(
                _status_of(ended, status), (("content-type", "application/json"),), body
            )
        return Told(
            authorization=authorization_id(row.first),
            state=State(row.state),
            processor_status=status,
            answer=answer,
            replayed=True,
        )

    def _count(self, submission: Submission, cards: _Cards, end: _End) -> None:
        lane, ending = submission.lane, end.ending
        kind = submission.operation.kind
        self._metrics.authorized(lane.name, kind, ending.state, ending.result)
        if self._pages is not None:
            for row in cards.rows.values():
                self._pages.judge(submission.tenant, row.made_from, kind, ending.result)
        if cards.opens and ending.phase != "decrypt":
            self._metrics.revealed(
                lane.name, len(cards.opens), state=ending.state, tenant=submission.tenant
            )


def _rules(submission: Submission) -> RepeatRules:
    preset, operation = submission.lane.preset, submission.operation
    return RepeatRules(
        replay_seconds=preset.idempotency.replay_seconds or None if operation.replay else None,
        not_executed=frozenset(preset.not_executed_statuses),
    )


def _opening(opens: Opens, row: TokenRow) -> Opening:
    """What the intent records of one item. Raises CvcExpired when there is no code to open."""
    if opens.key == "pan":
        return Opening(key="pan", token=row.id, version=row.key_version)
    if row.cvc_key_version is None:
        raise CvcExpired
    return Opening(key="cvc", token=row.id, version=row.cvc_key_version)


def _opened_cards(
    order: Order, cards: _Cards, opened: Sequence[Pan | Cvc]
) -> dict[str, OpenedCard]:
    """Bring together what was opened, by the text that names each card in the body."""
    pans: dict[str, Pan] = {}
    cvcs: dict[str, Cvc] = {}
    for opens, one in zip(order.opens, opened, strict=True):
        if isinstance(one, Pan):
            pans[opens.token] = one
        else:
            cvcs[opens.token] = one
    return {
        text: OpenedCard(
            token=cards.rows[text].id,
            pan=pan,
            cvc=cvcs.get(text),
            expiry=cards.rows[text].expiry,
        )
        for text, pan in pans.items()
    }


def _not_begun(claim: Claimed) -> Told:
    """Tell that a claimed request found no room after all. Raises Overloaded for a first one."""
    error = Overloaded()
    if claim.of is None or not claim.unsettled:
        error.state = State.NOT_SENT
        raise error
    return _still_unknown(claim.of, error)


def _still_unknown(first: str, error: CustodyError | GatewayError) -> Told:
    """A repeat that was not made: what became of the first request is as unknown as before."""
    return Told(
        authorization=authorization_id(first),
        state=State.UNKNOWN,
        processor_status=None,
        answer=None,
        problem=error.code if error.retryable else OutcomeUnknown.code,
        retryable=error.retryable,
    )


def _state(intent: Intent, ending: Ending) -> State:
    """What is known of the request, not of its latest send: an earlier one may have arrived."""
    settles = ending.state is State.COMPLETED and ending.executed
    return State.UNKNOWN if intent.unsettled and not settles else ending.state


def _completed(said: Settled, reply: Replied) -> Ending:
    return Ending(
        State.COMPLETED,
        result=said.result,
        status=reply.status,
        milliseconds=round(reply.ms),
        processor_reference=said.references.processor_reference,
        decline_code=said.references.decline_code,
        authorization_code=said.references.authorization_code,
        executed=said.executed,
    )


def _withheld(end: _End) -> _End:
    """An answer that nobody may see; a repeat must be told the same, so that is remembered."""
    ending = end.ending
    if ending.state is State.COMPLETED:
        ending = replace(ending, reason=_REFLECTED)
    return replace(end, ending=ending, problem=_REFLECTED, retryable=False)


def _withheld_because(ended: Attempt, answer: Answer | None) -> str | None:
    """Return the code of the problem that a repeat hears in place of a document, if it does.

    Of a refusal that was only found out later there is no document, and one made up here would
    read as a success.
    """
    if ended.reason == _REFLECTED:
        return _REFLECTED
    refused = ended.state == State.RESOLVED and ended.result not in _WENT_WELL
    return RESOLVED_DECLINED if answer is None and refused else None


def _status_of(ended: Attempt | None, status: int | None) -> int:
    """Return the status of an answer that was not kept; of a broken reply it says nothing."""
    found_out = ended is not None and ended.state == State.RESOLVED
    return OK if status is None or (found_out and status >= CLIENT_ERRORS) else status


def _with_retry(lane: Lane, headers: Headers) -> Headers:
    """Say that a repeat is safe, where the processor itself has not said anything."""
    name = lane.preset.errors[-1].retry_header
    if name is None or any(known.lower() == name for known, _ in headers):
        return headers
    return (*headers, (name, "true"))


def _not_sent(phase: str, code: str, *, retryable: bool) -> _End:
    ending = Ending(State.NOT_SENT, phase=phase, reason=code)
    return _End(ending, None, problem=code, retryable=retryable)


_WENT_WELL: Final = frozenset({Result.APPROVED, Result.PENDING, Result.STORED})
RESOLVED_DECLINED: Final = "resolved_declined"
_REFLECTED: Final = UpstreamReflectedPan.code

_LEDGER_PHASES: Final[Mapping[Phase, str]] = {
    Phase.CHECK: "prepare",
    Phase.QUEUE: "prepare",
    Phase.CONNECT: "connect",
    Phase.DNS: "dns",
    Phase.TLS: "tls",
}
PASSING: Final = frozenset(
    {Failure.OVERLOADED, Failure.DNS, Failure.UNREACHABLE, Failure.CONNECT_TIMEOUT}
)
"""Failures before sending that may be gone at the next try."""
