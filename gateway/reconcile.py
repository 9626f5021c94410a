"""Looks into requests whose outcome is not known: asks the processor, or sends them again.

1. Ask, where the route's preset says how, with the tenant's own credential. One payment that fits
   in everything is the answer; that there is none is one only where the preset says so.
2. Where the route allows it, send the request again as its merchant would: the same bytes under
   the same key, through the same claim table, within the time that the processor keeps the key.

A call that asks opens no card and moves no money. What never lives here: a second send that the
claim table would not let the merchant make, and what counts as evidence.
"""

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Final, assert_never

from gateway.authorize import Authorize, Submission
from gateway.breaker import Circuit
from gateway.call import Call, CallRefused, read_call
from gateway.errors import CredentialsMissing, GatewayError
from gateway.exchange import Replied
from gateway.inquiry import (
    CLOCK_SKEW,
    NO_ANSWER,
    Found,
    NotReceived,
    Question,
    Said,
    Unclear,
    read_answer,
    request_of,
)
from gateway.lanes import Lane, Lanes, Secret
from gateway.order import read_order
from gateway.preset import Inquiry
from gateway.reply import Reflected
from gateway.reply_cards import Owner, ReplyCards
from gateway.resign import ALGORITHM, SignedCall, SigningKey, Verified, verified
from gateway.stopwatch import Stopwatch
from vault.authorization import Finding, Result, State
from vault.authorizations import Answer
from vault.doubt_table import Doubt, DoubtTable
from vault.doubts import Doubts, KeptRequest
from vault.errors import CustodyError
from vault.reconciler import Look
from vault.resolutions import RECONCILER, Evidence
from vault.tokens import Env

REPLAY_MARGIN: Final = timedelta(minutes=10)
"""Before the processor forgets a key: its clock is not ours, and the call takes its time."""

_HAS_AN_ANSWER: Final = frozenset({Result.APPROVED, Result.PENDING, Result.STORED})
"""Results of which a payment's own document is an answer. Of a refusal it is none: with the
status of a success it would read as one."""


class Reconcile:
    """An inquirer over the routes."""

    def __init__(  # noqa: PLR0913 - the parts of one wiring
        self,
        lanes: Lanes,
        *,
        table: DoubtTable,
        doubts: Doubts,
        authorize: Authorize,
        reply_cards: ReplyCards,
        env: Env,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._lanes = lanes
        self._table = table
        self._doubts = doubts
        self._authorize = authorize
        self._reply_cards = reply_cards
        self._env: Env = env
        self._now = now
        self._monotonic = monotonic

    async def look_into(self, doubt: Doubt) -> Look:
        """Say what can be found out about a request just now."""
        lane = self._lanes.get(doubt.route)
        if lane is None or not lane.injects:  # without a credential of ours nobody is asked
            return Look("not_asked")
        try:
            look = await self._ask(lane, doubt)
            if look.evidence is None and await self._sent_again(lane, doubt):
                return Look("replayed")
        except (CustodyError, GatewayError):
            return Look("failed")
        except Exception:  # noqa: BLE001 - one that cannot be looked into must not end the duty
            return Look("failed")
        return look

    # --- asking -------------------------------------------------------------------------------

    async def _ask(self, lane: Lane, doubt: Doubt) -> Look:
        inquiry = lane.preset.inquiry_about(doubt.operation)
        question = _question(doubt)
        call = None if inquiry is None else request_of(inquiry, question)
        if inquiry is None or call is None:
            return Look("not_asked")
        last = question.until + timedelta(seconds=lane.preset.timeout_seconds) + CLOCK_SKEW
        first = question.since - CLOCK_SKEW
        if await self._table.has_rival(doubt, inquiry.operations, since=first, until=last):
            return Look("ambiguous")
        secret = await lane.secret(doubt.tenant)
        if not _is_of(doubt, lane.account(secret, call.headers)):
            return Look("not_asked")
        said = await self._said(lane, doubt, inquiry, question, call)
        if await self._table.has_rival(doubt, inquiry.operations, since=first, until=last):
            return Look("ambiguous")  # it was sent while we asked
        return _concluded(said)

    async def _said(
        self, lane: Lane, doubt: Doubt, inquiry: Inquiry, question: Question, call: Call
    ) -> Said:
        with lane.limits.enter(doubt.tenant):
            secret = await lane.secret(doubt.tenant)
            if lane.preset.credential.sent == "signature":
                call = self._signed(lane, secret, call)
            # A search neither takes the place of the probe nor speaks for or against payments.
            if lane.breaker.circuit is not Circuit.CLOSED:
                return NO_ANSWER
            outcome = await lane.send(doubt.tenant, call, secret, call.body)
        if not isinstance(outcome, Replied):
            return NO_ANSWER
        owner = Owner(doubt.tenant, RECONCILER)
        cleaned = await self._reply_cards.cleaned(lane.preset, owner, outcome, ())
        if isinstance(cleaned, Reflected):
            return NO_ANSWER
        return read_answer(
            lane.preset,
            inquiry,
            question,
            status=outcome.status,
            body=cleaned.body,
            at=self._now(),
        )

    def _signed(self, lane: Lane, secret: Secret, call: Call) -> Call:
        """Sign a call of our own, as the processor's clients do; it is signed again as it leaves.

        Raises CredentialsMissing.
        """
        key = lane.signing_key(secret)
        headers = (*call.headers, *signature_of(call, key, lane.host, now=self._now()))
        signed = SignedCall(call.method, _target(call), headers, call.body)
        proof = verified(signed, key, now=self._now())
        if not isinstance(proof, Verified):
            raise CredentialsMissing
        return replace(call, headers=headers, proof=proof)

    # --- sending again ------------------------------------------------------------------------

    async def _sent_again(self, lane: Lane, doubt: Doubt) -> bool:
        """Send a kept request again, if that may be done, and say whether it is settled now.

        Whether it may is the claim table's to say: the merchant's own repeat may be under way.
        """
        lifetime = timedelta(seconds=lane.preset.idempotency.replay_seconds)
        if not lane.replays_unknown or self._now() >= doubt.created_at + lifetime - REPLAY_MARGIN:
            return False
        kept = await self._doubts.kept(doubt.tenant, doubt.first)
        submission = None if kept is None else self._submission(lane, doubt, kept)
        if kept is None or submission is None:
            return False
        secret = await lane.secret(doubt.tenant)
        if not _is_of(doubt, lane.account(secret, kept.headers)):
            return False  # there its key is not known, and it would be another payment
        with lane.limits.enter(doubt.tenant):
            told = await self._authorize.handle(submission, Stopwatch(self._monotonic))
        return told.state is State.COMPLETED

    def _submission(self, lane: Lane, doubt: Doubt, kept: KeptRequest) -> Submission | None:
        """Read a kept request again; None where the preset reads it otherwise than before."""
        call = Call(kept.method, kept.path, kept.query, kept.headers, kept.body)
        read = read_call(lane.preset, call)
        if isinstance(read, CallRefused) or read.operation is None:
            return None
        order = read_order(read, read.operation, env=self._env)
        if isinstance(order, CallRefused) or order.operation.name != doubt.operation:
            return None
        return Submission(
            tenant=doubt.tenant,
            actor=RECONCILER,
            source_address="",
            lane=lane,
            operation=order.operation,
            call=read.call,
            order=order,
            idempotency_key=kept.idempotency_key,
        )


def _is_of(doubt: Doubt, account: bytes) -> bool:
    """Whether all that may have arrived went where this account is, by the same login."""
    return all(send.account == account for send in doubt.sends)


def _question(doubt: Doubt) -> Question:
    return Question(
        operation=doubt.operation,
        merchant_reference=doubt.merchant_reference,
        processor_reference=doubt.processor_reference,
        amount=doubt.amount,
        currency=doubt.currency,
        since=doubt.since,
        until=doubt.until,
    )


def _concluded(said: Said) -> Look:
    match said:
        case Found():
            return _look(said)
        case NotReceived():
            return Look("not_received", Evidence("inquiry", Finding.NOT_RECEIVED))
        case Unclear(why):
            return Look(why)
        case _ as unreachable:
            assert_never(unreachable)


def _look(found: Found) -> Look:
    references = found.references
    evidence = Evidence(
        "inquiry",
        Finding.ANSWERED,
        found.result,
        processor_reference=references.processor_reference,
        decline_code=references.decline_code,
        authorization_code=references.authorization_code,
    )
    answer = None
    if found.result in _HAS_AN_ANSWER:
        answer = Answer(found.status, (("content-type", "application/json"),), found.body)
    return Look("answered", evidence, answer)


def _target(call: Call) -> str:
    return f"{call.path}?{call.query}" if call.query else call.path


def signature_of(
    call: Call, key: SigningKey, host: str, *, now: datetime
) -> tuple[tuple[str, str], ...]:
    """Give the headers with which a client of CyberSource's would sign this call."""
    digest = base64.b64encode(hashlib.sha256(call.body).digest()).decode()
    values = {
        "host": host,
        "date": format_datetime(now, usegmt=True),
        "request-target": f"{call.method.lower()} {_target(call)}",
        "digest": f"SHA-256={digest}",
        "v-c-merchant-id": key.merchant_id or "",
    }
    text = "\n".join(f"{name}: {value}" for name, value in values.items())
    made = base64.b64encode(hmac.digest(key.secret, text.encode("ascii"), "sha256")).decode()
    signature = (
        f'keyid="{key.id}", algorithm="{ALGORITHM}", headers="{" ".join(values)}",'
        f' signature="{made}"'
    )
    sent = {name: value for name, value in values.items() if name != "request-target"}
    return (*sent.items(), ("signature", signature))
