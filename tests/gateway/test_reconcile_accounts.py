"""Only the account that a request was sent to knows of it: no other is asked, or sent it again."""

import msgspec
import pytest

from gateway.exchange import Replied
from tests.gateway.asked_processor import (
    ACCOUNT_A,
    HOSTS,
    KEPT,
    SENT,
    doubt,
    listed,
    payment,
    replied,
    sending_again,
    to_send_again,
    world,
)

pytestmark = [pytest.mark.guards("F-23")]


async def test_an_account_that_it_was_not_sent_to_does_not_say_not_received() -> None:
    """It was sent with one account's key; an operator then gives the route another's."""

    def answer(host: str, login: str) -> Replied:
        there = (host, login) == (HOSTS["checkout_com"], ACCOUNT_A)
        return listed(payment()) if there else listed()

    here = world(answer)
    assert (await here.reconcile.look_into(doubt())).word == "answered"
    here.keys.key = "sk_account_B"
    assert (await here.reconcile.look_into(doubt())).word == "not_asked"


async def test_a_host_that_it_was_not_sent_to_does_not_say_not_received() -> None:
    here = world(host="other.api.checkout.com")
    assert (await here.reconcile.look_into(doubt())).word == "not_asked"
    assert here.wire.seen == []


async def test_a_kept_request_is_not_sent_to_another_account() -> None:
    here = sending_again()
    here.keys.key = "sk_account_B"
    await here.reconcile.look_into(to_send_again())
    assert here.sends.given == []


async def test_a_platform_is_not_asked_about_what_was_sent_for_its_account() -> None:
    of_the_platform = {
        "id": "pi_of_the_platform",
        "created": int(SENT.timestamp()) + 1,
        "amount": 1999,
        "currency": "eur",
        "metadata": {"order_id": "order-1"},
        "status": "succeeded",
    }
    sent_for = ("Stripe-Account", "acct_7")
    here = world(
        lambda *_: replied({"data": [of_the_platform], "has_more": False}),
        preset="stripe",
        kept=msgspec.structs.replace(KEPT, headers=(sent_for,)),
    )
    assert (await here.reconcile.look_into(doubt("stripe"))).word == "answered"
    assert (await here.reconcile.look_into(doubt("stripe", sent_for))).word == "not_asked"


async def test_one_with_its_reference_that_is_sent_meanwhile_is_a_rival() -> None:
    """The shop pays the same order again, under another key, while the processor is asked."""

    def answer(*_: str) -> Replied:
        here.table.rival = True
        return listed(payment(id="pay_2", requested_on="2026-05-04T12:00:40Z"))

    here = world(answer)
    assert (await here.reconcile.look_into(doubt())).word == "ambiguous"


async def test_a_route_with_the_merchant_s_own_credential_is_not_asked() -> None:
    here = world(credential="own")
    assert (await here.reconcile.look_into(doubt(credential="own"))).word == "not_asked"
    assert here.wire.seen == []
