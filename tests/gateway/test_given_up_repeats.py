"""Of a request that was given up a repeat hears that nobody knows, never that it was refused."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateway.authorize import Authorize
from gateway.errors import OutcomeUnknown
from tests.vault.rows import ACTOR
from vault.authorization import Finding, Kind, Result, State
from vault.authorization_table import Attempt, AuthorizationRow
from vault.authorizations import Answer, Authorizations, Call
from vault.keys import Keyed

pytestmark = [pytest.mark.guards("F-23")]

SENT = datetime(2026, 5, 4, 12, tzinfo=UTC)
FIRST = "00000000-0000-7000-8000-000000000000"
CALL = Call(
    tenant="t_one",
    actor=ACTOR,
    route="stripe",
    operation="payment_intents.create",
    kind=Kind.AUTHORIZE,
    host="api.stripe.com:443",
    amount=1999,
    currency="EUR",
    merchant_reference="order-1",
    source_address="192.0.2.1",
    key_digest=None,
    request_digest=Keyed(1, bytes(32)),
)
ATTEMPT = Attempt(
    intent=FIRST,
    attempt=1,
    state=State.RESOLVED,
    result=Result.ERROR,
    status=None,
    reason=None,
    opened_at=SENT,
    ended_at=SENT,
)


class Record(Authorizations):
    """One request on record, of which no answer was kept."""

    def __init__(self, finding: Finding) -> None:
        self._attempt = replace(ATTEMPT, finding=finding)

    async def of_intent(self, tenant: str, intent: str) -> AuthorizationRow:
        return AuthorizationRow(
            first=FIRST,
            tenant=tenant,
            route=CALL.route,
            operation=CALL.operation,
            kind=CALL.kind,
            tokens=(),
            state=State.RESOLVED,
            result=Result.ERROR,
            amount=CALL.amount,
            currency=CALL.currency,
            merchant_reference=CALL.merchant_reference,
            processor_reference=None,
            decline_code=None,
            authorization_code=None,
            idx=1,
            leaf=bytes(32),
            created_at=SENT,
            updated_at=SENT,
            attempts=(self._attempt,),
        )

    async def stored_answer(self, tenant: str, intent: str) -> Answer | None:
        return None


def over(record: Record) -> Authorize:
    made = Authorize.__new__(Authorize)  # reads the record alone
    made._authorizations = record
    return made


async def test_what_was_given_up_is_never_told_as_refused() -> None:
    with pytest.raises(OutcomeUnknown):
        await over(Record(Finding.GIVEN_UP))._stored(CALL, FIRST)


async def test_what_was_found_out_is_told() -> None:
    told = await over(Record(Finding.ANSWERED))._stored(CALL, FIRST)
    assert (told.state, told.replayed) == (State.RESOLVED, True)
