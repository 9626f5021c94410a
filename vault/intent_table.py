"""Intents and outcomes as units of the ledger, and the rows that follow from them.

A send is a row of `intent_state`; all sends of one request together are a row of
`authorizations`. Both are written with the entries they repeat, under the head lock; so is what
becomes of the CVC and of single-use tokens. Reading is `vault/authorization_table.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Final, Self
from uuid import UUID

from vault.authorization import (
    CONSUMES_CVC,
    KEEPS_CVC_CLAIMED,
    MAY_FOLLOW,
    Finding,
    Result,
    State,
)
from vault.claim_table import ClaimHold
from vault.db import Connection
from vault.errors import CustodyError, CvcExpired, TokenInUse, TokenUnknown
from vault.ledger.entry import Opening
from vault.ledger.unit import Line, Placed, Unit
from vault.token_table import erase_rows

LEASE: Final = timedelta(seconds=30)
ANSWER_KEPT: Final = timedelta(days=7)


class ClaimLost(CustodyError):
    """The idempotency key was claimed by another request in the meantime."""

    code = "idempotency_key_in_use"
    retryable = True


class TransitionRefused(CustodyError):
    """The ledger has another outcome of this intent already."""

    def __init__(self, intent: str, state: State | None) -> None:
        super().__init__()
        self.intent = intent
        self.state = state


class AlreadyRecorded(CustodyError):
    """This very outcome is in the ledger already."""


@dataclass(frozen=True, slots=True)
class IntentFacts:
    """What is known of a call before it leaves."""

    intent: str
    first: str
    attempt: int
    tenant: str
    route: str
    operation: str
    kind: str
    opens: tuple[Opening, ...]
    amount: int | None
    currency: str | None
    merchant_reference: str | None
    key_digest: bytes | None
    account: bytes | None = None

    @property
    def tokens(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(opening.token for opening in self.opens))


@dataclass(frozen=True, slots=True)
class OpenIntent(Unit):
    """An intent becomes durable; its CVC and its single-use tokens become its own."""

    order: ClassVar[int] = 40
    facts: IntentFacts
    hold: ClaimHold | None
    replica: str
    boot: UUID
    lines: Sequence[Line]
    abandoned: "SettleIntent | None" = None

    @property
    def opens_cards(self) -> bool:
        return bool(self.facts.opens)

    def when_abandoned(self) -> "Unit | None":
        return self.abandoned

    @classmethod
    async def check(
        cls, connection: Connection, units: Sequence[Self], at: datetime
    ) -> Mapping[int, CustodyError]:
        refused: dict[int, CustodyError] = {}
        tokens, nonces = await _known(connection, units, at)
        taken: dict[tuple[str, str], str] = {}
        for position, unit in enumerate(units):
            error = _refusal(unit, tokens, nonces, taken)
            if error is not None:
                refused[position] = error
            else:
                for opening in unit.facts.opens:
                    taken[opening.key, opening.token] = unit.facts.first
        return refused

    @classmethod
    async def apply(
        cls, connection: Connection, units: Sequence[Self], placed: Sequence[Sequence[Placed]]
    ) -> None:
        facts = [unit.facts for unit in units]
        places = [of_unit[0] for of_unit in placed]
        opened = [(opening, one.first) for one in facts for opening in one.opens]
        codes = [(opening, first) for opening, first in opened if opening.key == "cvc"]
        held = [(unit.hold, unit.facts) for unit in units if unit.hold]
        at = places[0].at  # of the batch
        await connection.execute(
            _OPEN_INTENTS,
            [one.intent for one in facts],
            [one.first for one in facts],
            [one.attempt for one in facts],
            [one.tenant for one in facts],
            [one.route for one in facts],
            [",".join(one.tokens) for one in facts],
            [any(opening.key == "cvc" for opening in one.opens) for one in facts],
            [place.idx for place in places],
            [unit.replica for unit in units],
            [unit.boot for unit in units],
            at + LEASE,
            at,
            [one.operation for one in facts],
            [one.kind for one in facts],
            [one.amount for one in facts],
            [one.currency for one in facts],
            [one.merchant_reference for one in facts],
            [one.key_digest for one in facts],
            [place.leaf for place in places],
            [opening.token for opening, _ in codes],
            [first for _, first in codes],
            [opening.token for opening, _ in opened],
            [first for _, first in opened],
            [hold.tenant for hold, _ in held],
            [hold.route for hold, _ in held],
            [hold.key_digest for hold, _ in held],
            [one.intent for _, one in held],
            [one.first for _, one in held],
            [one.account for one in facts],
        )


@dataclass(frozen=True, slots=True)
class _TokenFacts:
    tenant: str
    single_use: bool
    held_by: str | None
    has_cvc: bool
    cvc_claimed_by: str | None


def _refusal(
    unit: OpenIntent,
    tokens: Mapping[str, _TokenFacts],
    nonces: Mapping[tuple[str, str, bytes], str],
    taken: Mapping[tuple[str, str], str],
) -> CustodyError | None:
    """What forbids this intent, given what earlier ones of the batch have taken."""
    hold = unit.hold
    if hold and nonces.get((hold.tenant, hold.route, hold.key_digest)) != hold.nonce:
        return ClaimLost()
    first = unit.facts.first
    for opening in unit.facts.opens:
        token = tokens.get(opening.token)
        if token is None or token.tenant != unit.facts.tenant:
            return TokenUnknown()
        holders = {taken.get((opening.key, opening.token), first), first}
        if token.single_use and holders | {token.held_by or first} != {first}:
            return TokenInUse()
        if opening.key == "cvc" and not token.has_cvc:
            return CvcExpired()
        if opening.key == "cvc" and holders | {token.cvc_claimed_by or first} != {first}:
            return CvcExpired()
    return None


async def _known(
    connection: Connection, units: Sequence[OpenIntent], at: datetime
) -> tuple[dict[str, _TokenFacts], dict[tuple[str, str, bytes], str]]:
    """Look up the tokens that are to be opened, and whose the claims are."""
    tokens = {opening.token for unit in units for opening in unit.facts.opens}
    holds = [unit.hold for unit in units if unit.hold]
    rows = await connection.fetch(
        _KNOWN,
        sorted(tokens),
        at,
        [hold.tenant for hold in holds],
        [hold.route for hold in holds],
        [hold.key_digest for hold in holds],
    )
    facts: dict[str, _TokenFacts] = {}
    nonces: dict[tuple[str, str, bytes], str] = {}
    for token, tenant, single_use, held_by, has_cvc, claimed_by, route, digest, nonce in rows:
        if token is None:
            nonces[tenant, route, digest] = str(nonce)
        else:
            facts[token] = _TokenFacts(
                tenant,
                single_use,
                str(held_by) if held_by else None,
                has_cvc,
                str(claimed_by) if claimed_by else None,
            )
    return facts, nonces


# A claim's holder may change outside of the ledger: its row stays locked until COMMIT.
_KNOWN: Final = """
WITH held AS (
  SELECT c.tenant, c.route, c.key_digest, c.nonce
  FROM unnest($3::text[], $4::text[], $5::bytea[]) AS w (tenant, route, key_digest)
  JOIN claim c USING (tenant, route, key_digest) FOR UPDATE OF c
)
SELECT t.id, t.tenant, t.single_use, t.held_by, c.token IS NOT NULL, c.claimed_by,
  NULL::text, NULL::bytea, NULL::uuid
FROM token t LEFT JOIN cvc c ON c.token = t.id AND c.expires_at > $2
WHERE t.id = ANY($1) AND (t.expires_at IS NULL OR t.expires_at > $2)
UNION ALL
SELECT NULL, tenant, NULL, NULL, NULL, NULL, route, key_digest, nonce FROM held
"""


_OPEN_INTENTS: Final = """
WITH want AS (
  SELECT intent, first, attempt, tenant, route, string_to_array(tokens, ',') AS tokens,
    opens_cvc, idx, replica, boot, operation, kind, amount, currency, merchant_reference,
    key_digest, leaf, account
  FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::text[],
    $7::boolean[], $8::bigint[], $9::text[], $10::uuid[], $13::text[], $14::text[],
    $15::bigint[], $16::text[], $17::text[], $18::bytea[], $19::bytea[], $29::bytea[])
  AS w (intent, first, attempt, tenant, route, tokens, opens_cvc, idx, replica, boot,
    operation, kind, amount, currency, merchant_reference, key_digest, leaf, account)
), shown AS (
  INSERT INTO authorizations (first, tenant, route, operation, kind, tokens, state, amount,
    currency, merchant_reference, key_digest, idx, leaf, created_at, updated_at)
  SELECT first, tenant, route, operation, kind, tokens, 'attempted', amount, currency,
    merchant_reference, key_digest, idx, leaf, $12, $12 FROM want
  ON CONFLICT (first) DO UPDATE SET state = 'attempted', result = NULL,
    decline_code = NULL, authorization_code = NULL, idx = excluded.idx, leaf = excluded.leaf,
    updated_at = excluded.updated_at
), codes AS ( -- a code is its authorization's own from here on
  UPDATE cvc SET claimed_by = w.first
  FROM unnest($20::text[], $21::uuid[]) AS w (token, first) WHERE cvc.token = w.token
), singles AS (
  UPDATE token SET held_by = w.first
  FROM unnest($22::text[], $23::uuid[]) AS w (id, first)
  WHERE token.id = w.id AND token.single_use
), claims AS ( -- one with an intent has no lease any more
  UPDATE claim SET intent = w.intent, first = w.first, lease_until = '-infinity'
  FROM unnest($24::text[], $25::text[], $26::bytea[], $27::uuid[], $28::uuid[])
    AS w (tenant, route, key_digest, intent, first)
  WHERE (claim.tenant, claim.route, claim.key_digest) = (w.tenant, w.route, w.key_digest)
)
INSERT INTO intent_state (intent, first, attempt, tenant, route, tokens, opens_cvc, state,
  opened_idx, last_idx, replica, boot, due, opened_at, account)
SELECT intent, first, attempt, tenant, route, tokens, opens_cvc, 'attempted', idx, idx, replica,
  boot, $11, $12, account FROM want
"""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of one send."""

    intent: str
    state: State
    result: Result | None = None
    finding: Finding | None = None
    status: int | None = None
    phase: str | None = None
    reason: str | None = None
    processor_reference: str | None = None
    decline_code: str | None = None
    authorization_code: str | None = None


@dataclass(frozen=True, slots=True)
class SealedAnswer:
    """The answer that a repeat of the request gets."""

    tenant: str
    ciphertext: str
    key_version: int


@dataclass(frozen=True, slots=True)
class SettleIntent(Unit):
    """Outcomes become durable: of one send, and of the earlier ones that its answer settles.

    The first settlement is the send's own. `burned` are single-use tokens that its result burns;
    their `token.deleted` entries are among the lines.
    """

    order: ClassVar[int] = 50
    first: str
    settlements: tuple[Settlement, ...]
    lines: Sequence[Line]
    answer: SealedAnswer | None = None
    burned: tuple[str, ...] = ()

    @classmethod
    async def check(
        cls,
        connection: Connection,
        units: Sequence[Self],
        at: datetime,  # noqa: ARG003 - an outcome is never too late
    ) -> Mapping[int, CustodyError]:
        rows = await connection.fetch(
            "SELECT intent, state FROM intent_state WHERE intent = ANY($1)"
            " UNION ALL SELECT id, NULL FROM entry WHERE id = ANY($2)",
            [one.intent for unit in units for one in unit.settlements],
            [unit.lines[0].entry.id for unit in units],
        )
        recorded = {str(identity) for identity, state in rows if state is None}
        states = {str(intent): State(state) for intent, state in rows if state is not None}
        refused: dict[int, CustodyError] = {}
        for position, unit in enumerate(units):
            if unit.lines[0].entry.id in recorded:
                refused[position] = AlreadyRecorded()
                continue
            illegal = _illegal(unit, states)
            if illegal is not None:
                refused[position] = illegal
                continue
            states.update({one.intent: one.state for one in unit.settlements})
        return refused

    @classmethod
    async def apply(
        cls, connection: Connection, units: Sequence[Self], placed: Sequence[Sequence[Placed]]
    ) -> None:
        last = {  # of what a batch says of one intent: an UPDATE would take any
            one.intent: (one, unit, place)
            for unit, of_unit in zip(units, placed, strict=True)
            for one, place in zip(unit.settlements, of_unit, strict=False)
        }
        own = {  # of what it says of a request: the latest
            unit.first: (one, place)
            for one, unit, place in sorted(last.values(), key=lambda said: said[2].idx)
            if one is unit.settlements[0]
        }
        await _settle_sends(connection, [(one, place) for one, _, place in last.values()])
        await _settle_requests(connection, units, list(own.items()))
        burned = [token for unit in units for token in unit.burned]
        if burned:
            await erase_rows(connection, burned)


def _illegal(unit: SettleIntent, states: Mapping[str, State]) -> TransitionRefused | None:
    for one in unit.settlements:
        state = states.get(one.intent)
        if state is None or one.state not in MAY_FOLLOW[state]:
            return TransitionRefused(one.intent, state)
    return None


async def _settle_sends(
    connection: Connection, settled: Sequence[tuple[Settlement, Placed]]
) -> None:
    each = [one for one, _ in settled]
    await connection.execute(
        _SETTLE_SENDS,
        [one.intent for one in each],
        [one.state.value for one in each],
        [one.result.value if one.result else None for one in each],
        [one.finding.value if one.finding else None for one in each],
        [one.status for one in each],
        [one.phase for one in each],
        [one.reason for one in each],
        [place.idx for _, place in settled],
        settled[0][1].at,  # of the batch
    )


_SETTLE_SENDS: Final = """
UPDATE intent_state i SET state = w.state, result = w.result, finding = w.finding,
  status = coalesce(w.status, i.status), phase = w.phase, reason = w.reason,
  last_idx = w.idx, ended_at = $9
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::int[], $6::text[], $7::text[],
  $8::bigint[])
AS w (intent, state, result, finding, status, phase, reason, idx) WHERE i.intent = w.intent
"""


async def _settle_requests(
    connection: Connection,
    units: Sequence[SettleIntent],
    own: Sequence[tuple[str, tuple[Settlement, Placed]]],
) -> None:
    """Show what became of each request, do right by its cards, and keep its answer."""
    shown = [(first, one, place) for first, (one, place) in own]
    consumed = {unit.first for unit in units if _consumes(unit.settlements[0])}
    released = {unit.first for unit in units if _releases(unit.settlements[0])} - consumed
    answers = [(unit.settlements[0].intent, unit.answer) for unit in units if unit.answer]
    at = shown[0][2].at  # of the batch
    await connection.execute(
        _SETTLE_REQUESTS,
        [first for first, _, _ in shown],
        [one.intent for _, one, _ in shown],
        [place.idx for _, _, place in shown],
        [place.leaf for _, _, place in shown],
        at,
        [one.processor_reference for _, one, _ in shown],
        [one.decline_code for _, one, _ in shown],
        [one.authorization_code for _, one, _ in shown],
        list(consumed),
        list(released),
        [intent for intent, _ in answers],
        [answer.tenant for _, answer in answers],
        [answer.ciphertext for _, answer in answers],
        [answer.key_version for _, answer in answers],
        at + ANSWER_KEPT,
    )


def _consumes(settlement: Settlement) -> bool:
    return settlement.result in CONSUMES_CVC


def _releases(settlement: Settlement) -> bool:
    return settlement.state not in KEEPS_CVC_CLAIMED


# PCI DSS 3.3.1: what becomes of the codes is in the transaction of the outcome. Nothing is given
# back while another send of the same request may have reached the processor.
_SETTLE_REQUESTS: Final = """
WITH shown AS (
  UPDATE authorizations a SET state = t.state, result = t.result, idx = w.idx, leaf = w.leaf,
    processor_reference = coalesce(w.processor_reference, a.processor_reference),
    decline_code = CASE WHEN t.intent = w.intent THEN w.decline_code ELSE a.decline_code END,
    authorization_code =
      CASE WHEN t.intent = w.intent THEN w.authorization_code ELSE a.authorization_code END,
    evidence_at = NULL, updated_at = $5 -- a callback says so itself (vault/callback_unit.py)
  FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bytea[], $6::text[], $7::text[],
      $8::text[])
    AS w (first, intent, idx, leaf, processor_reference, decline_code, authorization_code)
  CROSS JOIN LATERAL ( -- one under way or in doubt; else the latest with which something was done
    SELECT s.intent, s.state, s.result FROM intent_state s WHERE s.first = w.first
    ORDER BY s.state = 'attempted' DESC, s.state = 'unknown' DESC,
      s.state = 'not_sent' OR coalesce(s.result = 'error', false), s.attempt DESC
    LIMIT 1) t
  WHERE a.first = w.first
), gone AS (
  DELETE FROM cvc USING unnest($9::uuid[]) AS w (first) WHERE cvc.claimed_by = w.first
), free AS (
  SELECT w.first FROM unnest($10::uuid[]) AS w (first) WHERE (
    SELECT bool_and(u.state NOT IN ('attempted', 'unknown')) -- by `first`, not among all open ones
    FROM intent_state u WHERE u.first = w.first)
), back AS (
  UPDATE cvc SET claimed_by = NULL FROM free WHERE cvc.claimed_by = free.first
), singles AS (
  UPDATE token SET held_by = NULL WHERE held_by IN (SELECT first FROM free)
    AND id = ANY (ARRAY(SELECT unnest(i.tokens) FROM free JOIN intent_state i USING (first)))
)
INSERT INTO answer (intent, tenant, ciphertext, key_version, expires_at)
SELECT intent, tenant, ciphertext, version, $15
FROM unnest($11::uuid[], $12::text[], $13::text[], $14::int[])
  AS w (intent, tenant, ciphertext, version)
ON CONFLICT (intent) DO NOTHING
"""
