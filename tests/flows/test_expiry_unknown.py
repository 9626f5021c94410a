"""A card without an expiry date: shown as such, not sent where its date is asked for, mended."""

import pytest

from tests.flows.conftest import Witness
from tests.flows.deployment import Store
from tests.flows.merchant import METHODS, Merchant, method, payment

pytestmark = pytest.mark.embedded


async def number_only(shop: Merchant, store: Store) -> str:
    """Make a token as a partner's feed would: there is no call that brings a number alone."""
    token = await shop.token()
    undated = "UPDATE token SET exp_month = NULL, exp_year = NULL WHERE id = $1"
    assert await store.execute(undated, token) == "UPDATE 1"
    return token


async def test_its_masked_card_has_no_date_until_one_is_set(shop: Merchant, store: Store) -> None:
    path = f"/v1/tokens/{await number_only(shop, store)}"
    shown = (await shop.api("GET", path)).json()
    assert (shown["exp_month"], shown["exp_year"], shown["last4"]) == (None, None, "4242")

    for half in ({"exp_month": 3}, {"exp_year": 2033}):
        assert (await shop.api("PATCH", path, half)).status == 422
    named = await shop.api("PATCH", path, {"customer_reference": "person-1"})
    assert (named.status, named.json()["exp_year"]) == (200, None)
    dated = await shop.api("PATCH", path, {"exp_month": 3, "exp_year": 2033})
    assert (dated.json()["exp_month"], dated.json()["exp_year"]) == (3, 2033)
    assert (await shop.api("GET", path)).json() == dated.json()


@pytest.mark.parametrize("field", ["exp_month", "exp_year"])
async def test_nothing_leaves_where_its_date_is_asked_for(
    shop: Merchant, store: Store, nothing_happens: Witness, field: str
) -> None:
    token = await number_only(shop, store)
    asked = method(token, **{field: token})
    async with nothing_happens():
        refused = await shop.out(METHODS, asked)
    assert (refused.error["code"], refused.state) == ("expiry_unknown", "not_sent")
    assert refused.status == 400  # as Stripe would say it
    assert refused.headers["Stripe-Should-Retry"] == "false"

    mended = {"exp_month": 3, "exp_year": 2033}
    await shop.api("PATCH", f"/v1/tokens/{token}", mended)
    assert (await shop.out(METHODS, asked)).status == 200


async def test_with_a_date_from_elsewhere_it_is_sent(shop: Merchant, store: Store) -> None:
    assert (await shop.pay(payment(await number_only(shop, store)))).status == 200
