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
        tokens = await _token_facts(connection, units, at)
        nonces = await _nonces(connection, [unit.hold for unit in units if unit.hold])
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
        await _take(connection, units)
        facts = [unit.facts for unit in units]
        places = [of_unit[0] for of_unit in placed]
        await connection.execute(
            _OPEN_INTENTS,
            [UUID(one.intent) for one in facts],
            [UUID(one.first) for one in facts],
            [one.attempt for one in facts],
            [one.tenant for one in facts],
            [one.route for one in facts],
            [",".join(one.tokens) for one in facts],
            [any(opening.key == "cvc" for opening in one.opens) for one in facts],
            [place.idx for place in places],
            [unit.replica for unit in units],
            [unit.boot for unit in units],
            [place.at + LEASE for place in places],
            [place.at for place in places],
            [one.operation for one in facts],
            [one.kind for one in facts],
            [one.amount for one in facts],
            [one.currency for one in facts],
            [one.merchant_reference for one in facts],
            [one.key_digest for one in facts],
            [place.leaf for place in places],
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


async def _token_facts(
    connection: Connection, units: Sequence[OpenIntent], at: datetime
) -> dict[str, _TokenFacts]:
    wanted = sorted({opening.token for unit in units for opening in unit.facts.opens})
    if not wanted:
        return {}
    rows = await connection.fetch(
        """
        SELECT t.id, t.tenant, t.single_use, t.held_by, c.token IS NOT NULL AS has_cvc,
          c.claimed_by
        FROM token t LEFT JOIN cvc c ON c.token = t.id AND c.expires_at > $2
        WHERE t.id = ANY($1) AND (t.expires_at IS NULL OR t.expires_at > $2)
        """,
        wanted,
        at,
    )
    return {
        row["id"]: _TokenFacts(
            row["tenant"],
            row["single_use"],
            str(row["held_by"]) if row["held_by"] else None,
            row["has_cvc"],
            str(row["claimed_by"]) if row["claimed_by"] else None,
        )
        for row in rows
    }


async def _nonces(
    connection: Connection, holds: Sequence[ClaimHold]
) -> dict[tuple[str, str, bytes], str]:
    if not holds:
        return {}
    rows = await connection.fetch(
        "SELECT tenant, route, key_digest, nonce FROM claim"
        " WHERE (tenant, route, key_digest) IN"
        " (SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[])) FOR UPDATE",
        [hold.tenant for hold in holds],
        [hold.route for hold in holds],
        [hold.key_digest for hold in holds],
    )
    return {(row["tenant"], row["route"], row["key_digest"]): str(row["nonce"]) for row in rows}


async def _take(connection: Connection, units: Sequence[OpenIntent]) -> None:
    """Claim CVCs and single-use tokens, and end the leases of claims that have an intent now."""
    pans = [(o.token, u.facts.first) for u in units for o in u.facts.opens]
    cvcs = [(o.token, u.facts.first) for u in units for o in u.facts.opens if o.key == "cvc"]
    holds = [(u.hold, u.facts) for u in units if u.hold]
    await connection.execute(
        """
        WITH codes AS (
          UPDATE cvc SET claimed_by = w.first
          FROM unnest($1::text[], $2::uuid[]) AS w (token, first) WHERE cvc.token = w.token
        ), singles AS (
          UPDATE token SET held_by = w.first
          FROM unnest($3::text[], $4::uuid[]) AS w (id, first)
          WHERE token.id = w.id AND token.single_use
        )
        UPDATE claim SET intent = w.intent, first = w.first, lease_until = '-infinity'
        FROM unnest($5::text[], $6::text[], $7::bytea[], $8::uuid[], $9::uuid[])
          AS w (tenant, route, key_digest, intent, first)
        WHERE (claim.tenant, claim.route, claim.key_digest) = (w.tenant, w.route, w.key_digest)
        """,
        [token for token, _ in cvcs],
        [UUID(first) for _, first in cvcs],
        [token for token, _ in pans],
        [UUID(first) for _, first in pans],
        [hold.tenant for hold, _ in holds],
        [hold.route for hold, _ in holds],
        [hold.key_digest for hold, _ in holds],
        [UUID(facts.intent) for _, facts in holds],
        [UUID(facts.first) for _, facts in holds],
    )


_OPEN_INTENTS: Final = """
WITH want AS (
  SELECT intent, first, attempt, tenant, route, string_to_array(tokens, ',') AS tokens,
    opens_cvc, idx, replica, boot, due, at, operation, kind, amount, currency,
    merchant_reference, key_digest, leaf
  FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::text[],
    $7::boolean[], $8::bigint[], $9::text[], $10::uuid[], $11::timestamptz[],
    $12::timestamptz[], $13::text[], $14::text[], $15::bigint[], $16::text[], $17::text[],
    $18::bytea[], $19::bytea[])
  AS w (intent, first, attempt, tenant, route, tokens, opens_cvc, idx, replica, boot, due, at,
    operation, kind, amount, currency, merchant_reference, key_digest, leaf)
), shown AS (
  INSERT INTO authorizations (first, tenant, route, operation, kind, tokens, state, amount,
    currency, merchant_reference, key_digest, idx, leaf, created_at, updated_at)
  SELECT first, tenant, route, operation, kind, tokens, 'attempted', amount, currency,
    merchant_reference, key_digest, idx, leaf, at, at FROM want
  ON CONFLICT (first) DO UPDATE SET state = 'attempted', result = NULL,
    decline_code = NULL, authorization_code = NULL, idx = excluded.idx, leaf = excluded.leaf,
    updated_at = excluded.updated_at
)
INSERT INTO intent_state (intent, first, attempt, tenant, route, tokens, opens_cvc, state,
  opened_idx, last_idx, replica, boot, due, opened_at)
SELECT intent, first, attempt, tenant, route, tokens, opens_cvc, 'attempted', idx, idx, replica,
  boot, due, at FROM want
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
        intents = [UUID(one.intent) for unit in units for one in unit.settlements]
        rows = await connection.fetch(
            "SELECT intent, state FROM intent_state WHERE intent = ANY($1)", intents
        )
        states = {str(row["intent"]): State(row["state"]) for row in rows}
        known = await connection.fetch(
            "SELECT id FROM entry WHERE id = ANY($1)", [unit.lines[0].entry.id for unit in units]
        )
        recorded = {str(row["id"]) for row in known}
        refused: dict[int, CustodyError] = {}
        for position, unit in enumerate(units):
            if str(unit.lines[0].entry.id) in recorded:
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
        await _settle_rows(connection, units, placed)
        await _settle_cards(connection, units)
        answered = [(unit, of_unit[0]) for unit, of_unit in zip(units, placed, strict=True)]
        await _keep_answers(connection, answered)


def _illegal(unit: SettleIntent, states: Mapping[str, State]) -> TransitionRefused | None:
    for one in unit.settlements:
        state = states.get(one.intent)
        if state is None or one.state not in MAY_FOLLOW[state]:
            return TransitionRefused(one.intent, state)
    return None


async def _settle_rows(
    connection: Connection, units: Sequence[SettleIntent], placed: Sequence[Sequence[Placed]]
) -> None:
    last = {  # of what a batch says of one intent: an UPDATE would take any
        one.intent: (one, unit, place)
        for unit, of_unit in zip(units, placed, strict=True)
        for one, place in zip(unit.settlements, of_unit, strict=False)
    }
    each = list(last.values())
    await connection.execute(
        _SETTLE_INTENTS,
        [UUID(one.intent) for one, _, _ in each],
        [one.state.value for one, _, _ in each],
        [one.result.value if one.result else None for one, _, _ in each],
        [one.finding.value if one.finding else None for one, _, _ in each],
        [one.status for one, _, _ in each],
        [one.phase for one, _, _ in each],
        [one.reason for one, _, _ in each],
        [place.idx for _, _, place in each],
        [place.at for _, _, place in each],
        [UUID(unit.first) for _, unit, _ in each],
        [one is unit.settlements[0] for one, unit, _ in each],
        [one.processor_reference for one, _, _ in each],
        [one.decline_code for one, _, _ in each],
        [one.authorization_code for one, _, _ in each],
        [place.leaf for _, _, place in each],
    )


_SETTLE_INTENTS: Final = """
WITH want AS (
  SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::int[], $6::text[],
    $7::text[], $8::bigint[], $9::timestamptz[], $10::uuid[], $11::boolean[], $12::text[],
    $13::text[], $14::text[], $15::bytea[])
  AS w (intent, state, result, finding, status, phase, reason, idx, at, first, own,
    processor_reference, decline_code, authorization_code, leaf)
), ended AS (
  UPDATE intent_state i SET state = w.state, result = w.result, finding = w.finding,
    status = coalesce(w.status, i.status), phase = w.phase, reason = w.reason,
    last_idx = w.idx, ended_at = w.at
  FROM want w WHERE i.intent = w.intent
), sends AS ( -- of each request, as they are now
  SELECT i.first, i.intent, i.attempt, coalesce(w.state, i.state) AS state,
    CASE WHEN w.intent IS NULL THEN i.result ELSE w.result END AS result
  FROM intent_state i LEFT JOIN want w USING (intent)
  WHERE i.first IN (SELECT first FROM want)
), telling AS ( -- one under way or in doubt; else the latest with which something was done
  SELECT DISTINCT ON (first) first, intent, state, result FROM sends
  ORDER BY first, state = 'attempted' DESC, state = 'unknown' DESC,
    state = 'not_sent' OR coalesce(result = 'error', false), attempt DESC
), newest AS (
  SELECT DISTINCT ON (first) * FROM want WHERE own ORDER BY first, idx DESC
)
UPDATE authorizations a SET state = t.state, result = t.result, idx = w.idx, leaf = w.leaf,
  processor_reference = coalesce(w.processor_reference, a.processor_reference),
  decline_code = CASE WHEN t.intent = w.intent THEN w.decline_code ELSE a.decline_code END,
  authorization_code =
    CASE WHEN t.intent = w.intent THEN w.authorization_code ELSE a.authorization_code END,
  updated_at = w.at
FROM newest w JOIN telling t USING (first)
WHERE a.first = w.first
"""


async def _settle_cards(connection: Connection, units: Sequence[SettleIntent]) -> None:
    """Consume, keep or give back: PCI DSS 3.3.1 in the transaction of the outcome.

    Nothing is given back while another send of the same request may have reached the processor.
    """
    consumed = [unit.first for unit in units if unit.settlements[0].result in CONSUMES_CVC]
    released = [
        unit.first
        for unit in units
        if unit.settlements[0].result not in CONSUMES_CVC
        and unit.settlements[0].state not in KEEPS_CVC_CLAIMED
    ]
    await connection.execute(
        """
        WITH gone AS (DELETE FROM cvc WHERE claimed_by = ANY($1)),
        free AS (
          SELECT first FROM unnest($2::uuid[]) AS w (first) WHERE NOT EXISTS (
            SELECT 1 FROM intent_state u
            WHERE u.first = w.first AND u.state IN ('attempted', 'unknown'))
        ),
        back AS (UPDATE cvc SET claimed_by = NULL WHERE claimed_by IN (SELECT first FROM free))
        UPDATE token SET held_by = NULL WHERE held_by IN (SELECT first FROM free)
        """,
        [UUID(first) for first in consumed],
        [UUID(first) for first in released],
    )
    burned = [token for unit in units for token in unit.burned]
    if burned:
        await erase_rows(connection, burned)


async def _keep_answers(
    connection: Connection, units: Sequence[tuple[SettleIntent, Placed]]
) -> None:
    kept = [(unit, unit.answer, place) for unit, place in units if unit.answer]
    if not kept:
        return
    await connection.execute(
        "INSERT INTO answer (intent, tenant, ciphertext, key_version, expires_at)"
        " SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::int[], $5::timestamptz[])"
        " ON CONFLICT (intent) DO NOTHING",
        [UUID(unit.settlements[0].intent) for unit, _, _ in kept],
        [answer.tenant for _, answer, _ in kept],
        [answer.ciphertext for _, answer, _ in kept],
        [answer.key_version for _, answer, _ in kept],
        [place.at + ANSWER_KEPT for _, _, place in kept],
    )
