"""Profiles and subscriptions at the simulated Authorize.Net."""

from typing import Any

import pytest

from gateway.sandbox.books import Counts
from tests.cards import MASTERCARD, VISA, VISA_ALT, luhn_broken
from tests.gateway.sandbox.test_authorize_net import Shop, card, reason

TOKEN = "pwt_test_0123456789abcdefghjkmnpqrstv"
PAN_LIKE = luhn_broken("991111111111111")
SCHEDULE = {"interval": {"length": "1", "unit": "months"}, "startDate": "2031-06-01"}


@pytest.fixture
def shop() -> Shop:
    return Shop()


def created(shop: Shop, number: str = VISA_ALT, **others: Any) -> tuple[str, str]:  # noqa: ANN401 - any field
    sent = {"merchantCustomerId": "m1", "paymentProfiles": {"payment": card(number)} | others}
    told = shop.ask("createCustomerProfileRequest", {"profile": sent})
    assert told["messages"]["resultCode"] == "Ok", told
    (payment_profile,) = told["customerPaymentProfileIdList"]
    return told["customerProfileId"], payment_profile


def paid(shop: Shop, profile: str, payment_profile: str) -> dict[str, Any]:
    chosen = {
        "customerProfileId": profile,
        "paymentProfile": {"paymentProfileId": payment_profile, "cardCode": "900"},
    }
    return shop.transact("authCaptureTransaction", amount="7.00", profile=chosen)


def test_stores_a_card_and_charges_it(shop: Shop) -> None:
    response = paid(shop, *created(shop))
    assert reason(response) == ("1", "1")
    assert response["accountNumber"] == f"XXXX{VISA_ALT[-4:]}"
    assert response["cvvResultCode"] == "M"


def test_the_stored_zip_decides(shop: Shop) -> None:
    sent = {"billTo": {"zip": "46282"}, "payment": card()}
    told = shop.ask(
        "createCustomerProfileRequest", {"profile": {"email": "a@b", "paymentProfiles": sent}}
    )
    profile, (payment_profile,) = told["customerProfileId"], told["customerPaymentProfileIdList"]
    assert reason(paid(shop, profile, payment_profile)) == ("2", "2")


def test_no_such_profile_to_charge(shop: Shop) -> None:
    profile, _ = created(shop)
    assert reason(paid(shop, profile, "1")) == ("3", "33")
    assert reason(paid(shop, "1", "1")) == ("3", "33")


def test_a_profile_holds_something_and_comes_once(shop: Shop) -> None:
    assert shop.refused("createCustomerProfileRequest", {"profile": {}})[0] == "E00041"
    profile, _ = created(shop)
    sent = {"profile": {"merchantCustomerId": "m1"}}
    code, text = shop.refused("createCustomerProfileRequest", sent)
    assert (code, text) == ("E00039", f"A duplicate record with ID {profile} already exists.")


@pytest.mark.parametrize(
    ("payment", "code"),
    [
        (card(TOKEN), "E00003"),
        (card(PAN_LIKE), "E00013"),
        (card(expirationDate="13/30"), "E00013"),
        (card(expirationDate="2031-04"), "E00013"),
        ({}, "E00014"),
    ],
    ids=["token", "pan_like", "no_month", "expired", "none"],
)
def test_stores_nothing_but_a_card(shop: Shop, payment: dict[str, Any], code: str) -> None:
    profile, _ = created(shop)
    wanted = {"customerProfileId": profile, "paymentProfile": {"payment": payment}}
    assert shop.refused("createCustomerPaymentProfileRequest", wanted)[0] == code
    subscription = {"paymentSchedule": SCHEDULE, "amount": "5.00", "payment": payment}
    assert shop.refused("ARBCreateSubscriptionRequest", {"subscription": subscription})[0] == code
    assert shop.counts == Counts()


def test_adds_a_card_to_a_profile_but_not_twice(shop: Shop) -> None:
    profile, _ = created(shop)
    wanted = {"customerProfileId": profile, "paymentProfile": {"payment": card(MASTERCARD)}}
    told = shop.ask("createCustomerPaymentProfileRequest", wanted)
    assert reason(paid(shop, profile, told["customerPaymentProfileId"])) == ("1", "1")
    assert shop.refused("createCustomerPaymentProfileRequest", wanted)[0] == "E00039"
    other = wanted | {"customerProfileId": "1"}
    assert shop.refused("createCustomerPaymentProfileRequest", other)[0] == "E00040"


def test_asks_the_issuer_where_that_is_wanted(shop: Shop) -> None:
    profile, _ = created(shop)
    stored = {"billTo": {"zip": "46282"}, "payment": card(MASTERCARD)}
    wanted = {"customerProfileId": profile, "paymentProfile": stored, "validationMode": "liveMode"}
    assert shop.refused("createCustomerPaymentProfileRequest", wanted)[0] == "E00027"
    assert shop.counts.declines == 1
    told = shop.ask("createCustomerPaymentProfileRequest", wanted | {"validationMode": "testMode"})
    assert told["messages"]["resultCode"] == "Ok"


@pytest.mark.parametrize(
    ("number", "last_four"),
    [(VISA, VISA[-4:]), (f"XXXX{VISA_ALT[-4:]}", VISA_ALT[-4:])],
    ids=["new_number", "masked_number"],
)
def test_updates_a_stored_card(shop: Shop, number: str, last_four: str) -> None:
    profile, stored = created(shop)
    payment = {"creditCard": {"cardNumber": number, "expirationDate": "2035-01"}}
    wanted = {
        "customerProfileId": profile,
        "paymentProfile": {"payment": payment, "customerPaymentProfileId": stored},
    }
    told = shop.ask("updateCustomerPaymentProfileRequest", wanted)
    assert told["messages"]["resultCode"] == "Ok"
    assert paid(shop, profile, stored)["accountNumber"] == f"XXXX{last_four}"


def test_a_mask_over_another_number_updates_nothing(shop: Shop) -> None:
    profile, stored = created(shop)
    payment = {"creditCard": {"cardNumber": "XXXX9999", "expirationDate": "2035-01"}}
    chosen = {"payment": payment, "customerPaymentProfileId": stored}
    wanted = {"customerProfileId": profile, "paymentProfile": chosen}
    assert shop.refused("updateCustomerPaymentProfileRequest", wanted)[0] == "E00013"
    chosen["customerPaymentProfileId"] = "1"
    assert shop.refused("updateCustomerPaymentProfileRequest", wanted)[0] == "E00040"


def test_a_subscription_leaves_a_profile(shop: Shop) -> None:
    sent = {"paymentSchedule": SCHEDULE, "amount": "5.00", "payment": card()}
    told = shop.ask("ARBCreateSubscriptionRequest", {"subscription": sent})
    assert told["subscriptionId"].isdecimal()
    made = told["profile"]
    response = paid(shop, made["customerProfileId"], made["customerPaymentProfileId"])
    assert reason(response) == ("1", "1")
    without = {"subscription": {"payment": card()}}
    assert shop.refused("ARBCreateSubscriptionRequest", without)[0] == "E00014"
