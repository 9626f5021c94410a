"""One replica that appends as fast as it can: `python -m bench.append_replica`.

It reads its plan from its standard input, puts its start on record, says `ready`, and goes when
it is told to. What it appends it also makes, as a gateway does: entries with their details.
"""

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from enum import StrEnum
from itertools import cycle
from time import perf_counter
from typing import Final
from uuid import UUID

import msgspec
import uvloop

from gateway.custody import utc_now
from vault.authorization import Kind as CallKind
from vault.authorization import Result, State
from vault.db import Database
from vault.deployment import Boot, put_start_on_record, put_stop_on_record
from vault.ids import crockford_encode, new_uuid7
from vault.intent_table import (
    IntentFacts,
    OpenIntent,
    SealedAnswer,
    SettleIntent,
    Settlement,
)
from vault.ledger.entry import (
    Actor,
    AuthorizationAttempted,
    AuthorizationCompleted,
    Opening,
    TokenCreated,
    TokenDeleted,
)
from vault.ledger.forms import base64url
from vault.ledger.store import Ledger
from vault.ledger.unit import Line, Statement, Unit, committed
from vault.observer import Silent
from vault.token_table import CreateToken, FingerprintValue, TokenRow
from vault.tokens import new_id, new_token

TENANT: Final = "t_bench"
ACTOR: Final = Actor(id="k_bench", kind="secret_key")
TOKENS: Final = 256
SEALED: Final = "vault:v1:" + "x" * 500
"""As long as a short answer under seal."""
APPEND_SECONDS: Final = 30.0


class Kind(StrEnum):
    """What is appended."""

    STATEMENT = "statement"  # an entry, and no row that follows from it
    PAIR = "pair"  # an intent and its outcome, with their rows


class AppendPlan(msgspec.Struct, frozen=True):
    """What one process is to do."""

    dsn: str
    kind: Kind
    callers: int
    seconds: float


class Appended(msgspec.Struct, frozen=True):
    """How long each append took, or each pair of them."""

    samples_ms: list[float]


def new_event() -> str:
    return str(new_uuid7(utc_now()))


def statement() -> Statement:
    entry = TokenDeleted(
        id=new_event(), actor=ACTOR, tenant=TENANT, token=new_token("test"), reason="request"
    )
    return Statement((Line(entry),))


def new_row() -> TokenRow:
    """No card's: what is under seal is made up."""
    return TokenRow(
        id=new_token("test"),
        tenant=TENANT,
        pan_like=None,
        format="opaque",
        brand="visa",
        pan_length=16,
        last4="0000",
        bin=None,
        exp_month=12,
        exp_year=2031,
        ciphertext="vault:v1:" + secrets.token_urlsafe(60),
        key_version=1,
        fingerprint=new_id("fp"),
        reusable=False,
        single_use=False,
        expires_at=None,
        customer_reference=None,
        created_at=utc_now(),
    )


def creating(row: TokenRow) -> CreateToken:
    entry = TokenCreated(
        id=new_event(),
        actor=ACTOR,
        tenant=TENANT,
        token=row.id,
        format="opaque",
        key_version=1,
        single_use=False,
    )
    value = FingerprintValue(1, secrets.token_bytes(32))
    return CreateToken(row, value, None, (Line(entry),))


def opening(token: str, boot: Boot) -> OpenIntent:
    """An intent as /out makes it: one number is opened, and the call is described."""
    intent = new_event()
    opens = (Opening(key="pan", token=token, version=1),)
    entry = AuthorizationAttempted(
        id=intent,
        intent=intent,
        actor=ACTOR,
        tenant=TENANT,
        kind=CallKind.AUTHORIZE,
        attempt=1,
        route="stripe",
        operation="payment_intents.confirm",
        opens=opens,
    )
    words: dict[str, str | int] = {
        "amount": 1099,
        "currency": "EUR",
        "host": "api.stripe.com:443",
        "source_address": "127.0.0.1",
        "request_digest": "1:" + base64url(secrets.token_bytes(32)),
    }
    facts = IntentFacts(
        intent=intent,
        first=intent,
        attempt=1,
        tenant=TENANT,
        route="stripe",
        operation="payment_intents.confirm",
        kind="authorize",
        opens=opens,
        amount=1099,
        currency="EUR",
        merchant_reference=None,
        key_digest=None,
    )
    line = committed(entry, words, salt=secrets.token_bytes(32))
    return OpenIntent(facts, None, boot.replica, boot.id, (line,))


def settling(opened: OpenIntent) -> SettleIntent:
    intent = opened.facts.intent
    entry = AuthorizationCompleted(
        id=new_event(),
        intent=intent,
        actor=ACTOR,
        tenant=TENANT,
        ms=12,
        result=Result.APPROVED,
        status=200,
    )
    reference = "pi_" + secrets.token_hex(12)
    words = {
        "processor_reference": reference,
        "response_digest": "1:" + base64url(secrets.token_bytes(32)),
    }
    line = committed(entry, words, salt=secrets.token_bytes(32))
    settlement = Settlement(
        intent, State.COMPLETED, Result.APPROVED, status=200, processor_reference=reference
    )
    answer = SealedAnswer(TENANT, SEALED, 1)
    return SettleIntent(opened.facts.first, (settlement,), (line,), answer)


class Appending:
    """What its callers do, each as often as there is time for."""

    def __init__(self, ledger: Ledger, boot: Boot, plan: AppendPlan) -> None:
        self._ledger = ledger
        self._boot = boot
        self._plan = plan
        self._tokens: Iterator[str] = iter(())

    async def prepare(self) -> None:
        if self._plan.kind is Kind.PAIR:
            rows = [new_row() for _ in range(TOKENS)]
            await asyncio.gather(*(self._append(creating(row)) for row in rows))
            self._tokens = cycle([row.id for row in rows])

    async def run(self) -> list[float]:
        act = self._pair if self._plan.kind is Kind.PAIR else self._statement
        end = perf_counter() + self._plan.seconds
        samples: list[float] = []
        async with asyncio.TaskGroup() as group:
            for _ in range(self._plan.callers):
                group.create_task(_repeat(act, end, samples))
        return samples

    async def _statement(self) -> None:
        await self._append(statement())

    async def _pair(self) -> None:
        opened = opening(next(self._tokens), self._boot)
        await self._append(opened)
        await self._append(settling(opened))

    async def _append(self, unit: Unit) -> None:
        await self._ledger.append(unit, seconds=APPEND_SECONDS)


async def _repeat(
    act: Callable[[], Coroutine[object, object, None]], end: float, samples: list[float]
) -> None:
    while (started := perf_counter()) < end:
        await act()
        samples.append((perf_counter() - started) * 1000)


@asynccontextmanager
async def started(dsn: str) -> AsyncIterator[tuple[Ledger, Boot]]:
    """Open a ledger as a replica of its own, its start and its end on record."""
    name = f"r_{crockford_encode(secrets.token_bytes(8))[:8]}-0"
    boot = Boot(UUID(new_event()), name, "0.1.0", base64url(secrets.token_bytes(32)))
    database = await Database.open(dsn)
    ledger = Ledger(database, replica=name, boot=boot.id, now=utc_now, observer=Silent())
    ledger.start()
    try:
        await put_start_on_record(
            database, ledger, boot, env="test", origin="bench.example/log", public_key=bytes(32),
            now=utc_now,
        )  # fmt: skip
        yield ledger, boot
        await put_stop_on_record(ledger, now=utc_now)
    finally:
        await ledger.close()
        await database.close()


async def replica() -> None:
    plan = msgspec.json.decode(sys.stdin.buffer.readline(), type=AppendPlan)
    async with started(plan.dsn) as (ledger, boot):
        appending = Appending(ledger, boot, plan)
        await appending.prepare()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.buffer.readline()  # all replicas are: nothing else goes on in this process
        samples = await appending.run()
    sys.stdout.write(msgspec.json.encode(Appended(samples)).decode() + "\n")


if __name__ == "__main__":
    uvloop.run(replica())
