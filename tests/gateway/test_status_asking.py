"""Unsigned notices: the processor itself is asked, and only what it says counts."""

import time
from datetime import UTC, datetime

import pytest

from gateway.breaker import Breaker
from gateway.exchange import Failure, NotSent, Outcome, Phase, Replied
from gateway.lanes import Guards
from gateway.limits import CallLimits
from gateway.status_asking import ASKED_BURST, Answer, Later, NotThere, StatusAsking, Told
from tests.cards import VISA
from tests.gateway.asked_processor import SENT, Processor, World, replied, world
from vault.callback_endpoint_table import Notice
from vault.payment_events import Effect

ID = "tr_7UhSN1zuXS"


def payment(**others: object) -> dict[str, object]:
    shown: dict[str, object] = {
        "resource": "payment",
        "id": ID,
        "status": "paid",
        "createdAt": "2026-05-04T12:00:00+00:00",
        "paidAt": "2026-05-04T12:03:00+00:00",
        "amount": {"value": "19.99", "currency": "EUR"},
        "description": "order-1",
        "metadata": None,
    }
    return shown | others


def notice(reference: str = ID, route: str = "r") -> Notice:
    return Notice("cbe_x", "t_one", route, reference, 0, SENT)


def answering(outcome: Outcome) -> Processor:
    return lambda _host, _login: outcome


def asked(outcome: Outcome, **more: object) -> World:
    return world(answering(outcome), preset="mollie", **more)  # type: ignore[arg-type]  # its own


async def ask(made: World, of: Notice | None = None) -> Answer:
    return await StatusAsking({"r": made.lane}).ask(of or notice())


async def test_what_the_processor_says_is_an_event() -> None:
    made = asked(replied(payment()))
    told = await ask(made)
    assert isinstance(told, Told)
    assert made.wire.seen == [f"GET /v2/payments/{ID}"]
    new = told.new
    assert (new.tenant, new.route, new.endpoint, new.scheme) == (
        *("t_one", "r", "cbe_x"),
        "mollie_classic",
    )
    assert (new.event_id, new.event_type, new.signature) == (
        *(f"{ID}:paid", "payment.paid"),
        "unsigned",
    )
    assert new.event_at == datetime(2026, 5, 4, 12, 3, tzinfo=UTC)
    assert new.effect is Effect.CAPTURED
    assert (new.action_reference, new.payment_reference) == (ID, ID)
    assert (new.merchant_reference, new.amount, new.currency) == ("order-1", 1999, "EUR")
    assert (new.headers, new.body) == (
        (("Content-Type", "application/x-www-form-urlencoded"),),
        f"id={ID}".encode(),
    )


@pytest.mark.parametrize(
    ("others", "event_id"),
    [
        ({"status": "open"}, f"{ID}:open"),
        ({"amountRefunded": {"value": "0.00", "currency": "EUR"}}, f"{ID}:paid"),
        (
            {"amountRefunded": {"value": "5.00", "currency": "EUR"}},
            f"{ID}:paid:amountRefunded=5.00",
        ),
        (
            {"amountChargedBack": {"value": "19.99", "currency": "EUR"}},
            f"{ID}:paid:amountChargedBack=19.99",
        ),
        ({"amountChargedBack": {"value": "x:paid", "currency": "EUR"}}, f"{ID}:paid"),
    ],
)
async def test_each_change_is_an_event_of_its_own(others: dict[str, object], event_id: str) -> None:
    told = await ask(asked(replied(payment(**others))))
    assert isinstance(told, Told)
    assert told.new.event_id == event_id


async def test_what_is_still_open_has_no_effect() -> None:
    told = await ask(asked(replied(payment(status="open"))))
    assert isinstance(told, Told)
    assert told.new.effect is None


@pytest.mark.guards("T-44")
async def test_no_card_number_comes_back_with_it() -> None:
    told = await ask(asked(replied(payment(description=VISA, note=VISA))))
    assert isinstance(told, Told)
    assert told.new.merchant_reference == f"{'*' * 12}4242"
    assert VISA not in str(told.new)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (replied({}, 404), NotThere()),
        (replied({}, 410), NotThere()),
        (replied(payment(), 201), Later()),
        (replied({}, 401), Later()),
        (replied({}, 500), Later()),
        (replied(payment(id="tr_other")), Later()),
        (replied(payment(status=None)), Later()),
        (replied(payment(status="paid:x")), Later()),
        (replied([payment()]), Later()),
        (Replied(200, (), b"\xff", 1.0, 1.0), Later()),
        (NotSent(Phase.CONNECT, Failure.UNREACHABLE), Later()),
    ],
)
async def test_any_other_answer_says_nothing_of_it(outcome: Outcome, expected: Answer) -> None:
    assert await ask(asked(outcome)) == expected


@pytest.mark.guards("T-44")
@pytest.mark.parametrize(
    "of",
    [
        notice("tr_1/../../v2/refunds"),
        notice("tr_"),
        notice("re_4qqhO89gsT"),
        notice("tr_a?x=1"),
        notice(route="other"),
    ],
)
async def test_what_is_no_payments_id_is_not_asked_about(of: Notice) -> None:
    made = asked(replied(payment()))
    assert await ask(made, of) == NotThere()
    assert made.wire.seen == []


async def test_without_a_credential_of_ours_nobody_is_asked() -> None:
    made = asked(replied(payment()), credential="own")
    assert await ask(made) == NotThere()
    assert made.wire.seen == []


async def test_another_processors_route_is_not_asked() -> None:
    made = world(answering(replied(payment())), preset="stripe")
    assert await ask(made) == NotThere()
    assert made.wire.seen == []


async def test_a_processor_that_is_left_alone_is_asked_later() -> None:
    breaker = Breaker(time.monotonic, lambda: 0.5)
    for _ in range(100):
        with breaker.admitted() as admission:
            breaker.settled(admission, ok=False)
        if breaker.circuit.name != "CLOSED":
            break
    made = asked(replied(payment()), guards=Guards(CallLimits(time.monotonic), breaker))
    assert await ask(made) == Later()
    assert made.wire.seen == []


async def test_a_tenant_without_a_key_is_asked_for_later() -> None:
    made = asked(replied(payment()))
    made.keys.key = ""

    async def nothing(tenant: str, route: str) -> None:
        return None

    made.keys.processor_secret = nothing  # type: ignore[method-assign]  # an operator took it away
    assert await ask(made) == Later()
    assert made.wire.seen == []


async def test_a_flood_of_notices_uses_up_its_own_limit_and_none_of_the_payments() -> None:
    def still() -> float:
        return 0.0

    limits = CallLimits(still, per_second=1.0, burst=1)
    guards = Guards(limits, Breaker(time.monotonic, lambda: 0.5))
    made = asked(replied(payment()), guards=guards)
    asking = StatusAsking({"r": made.lane}, still)
    answers = [await asking.ask(notice()) for _ in range(ASKED_BURST + 1)]
    assert [type(each) for each in answers] == [Told] * ASKED_BURST + [Later]
    assert len(made.wire.seen) == ASKED_BURST
    limits.check("t_one")  # a payment may be made
