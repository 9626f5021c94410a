"""Two ordinary shops behind inbound routes, unchanged: their forms work, and they see no number."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.cards import AMEX, MASTERCARD, VISA, luhn_broken
from tests.flows.leaks import first_leak
from tests.inbound.running_shops import csrf_token, running_shop, shown
from tests.inbound.shop_stage import HOSTNAMES, ShopStage
from tests.inbound.stage import InboundStage
from vault.tokens import is_token

pytestmark = pytest.mark.embedded

PHOTOGRAPH = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 64 + b"--boundary--\r\n"
HOLDER = "Zoë O'Neill & Søn"


@pytest.fixture(scope="module")
def flask_shop(
    inbound: InboundStage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ShopStage]:
    with _behind(inbound, "flask", tmp_path_factory.mktemp("flask")) as stage:
        yield stage


@pytest.fixture(scope="module")
def django_shop(
    inbound: InboundStage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ShopStage]:
    with _behind(inbound, "django", tmp_path_factory.mktemp("django")) as stage:
        yield stage


@contextmanager
def _behind(inbound: InboundStage, name: str, folder: Path) -> Iterator[ShopStage]:
    """Run a shop where its route leads."""
    hostname, port = HOSTNAMES[name], inbound.shop_ports[name]
    with running_shop(name, folder / "shop", hostname=hostname, port=port) as shop:
        yield ShopStage(
            shop,
            hostname,
            inbound.port,
            inbound.ca_file,
            inbound.deployment.ca_file,
            inbound.urls.private,
            inbound.account.secret_key,
        )


def _spaced(number: str) -> str:
    return " ".join(number[start : start + 4] for start in range(0, len(number), 4))


@pytest.mark.guards("T-12")
@pytest.mark.parametrize("card", [VISA, MASTERCARD, AMEX], ids=["visa", "mastercard", "amex"])
async def test_a_flask_shop_gets_digits_that_are_no_card(flask_shop: ShopStage, card: str) -> None:
    """It wants digits where the number is: the route's tokens have the form of one."""
    cvc = "1234" if card == AMEX else "123"
    fields = {"holder": HOLDER, "number": _spaced(card), "expiry": "12/34", "cvc": cvc}
    async with flask_shop.browser() as browser:
        async with browser.get("/") as page:
            assert "cc-number" in await page.text()
        async with browser.post("/pay", data=fields) as page:
            text = await page.text()
            assert page.status == 200, text
            assert page.url.path.startswith("/orders/")
    order = shown(text)
    assert order["holder"] == HOLDER
    assert order["expiry"] == "12/34"
    assert order["cvc"] == "0" * len(cvc)
    stored = order["number"]
    assert stored.isdigit()
    assert stored != card
    assert (len(stored), stored[:2], stored[-4:]) == (len(card), "99", card[-4:])
    assert flask_shop.shop.leak() is None


@pytest.mark.guards("T-12")
async def test_a_django_shop_gets_a_token_and_its_photograph(django_shop: ShopStage) -> None:
    async with django_shop.browser() as browser:
        async with browser.get("/checkout/") as page:
            secret = csrf_token(await page.text())
        form = aiohttp.FormData()
        for name, value in {
            "csrfmiddlewaretoken": secret,
            "holder": HOLDER,
            "number": _spaced(VISA),
            "exp_month": "12",
            "exp_year": "2034",
            "cvc": "987",
        }.items():
            form.add_field(name, value)
        form.add_field("photograph", PHOTOGRAPH, filename="me.png", content_type="image/png")
        referer = {"Referer": str(django_shop.url("/checkout/"))}
        async with browser.post("/checkout/", data=form, headers=referer) as page:
            text = await page.text()
            assert page.status == 200, text
    order = shown(text)
    assert order["holder"] == HOLDER
    assert order["expiry"] == "12/2034"
    assert order["cvc"] == "000"
    assert is_token(order["number"], "test")
    assert order["photograph"] == hashlib.sha256(PHOTOGRAPH).hexdigest()
    assert django_shop.shop.leak() is None
    card = await django_shop.masked(order["number"])
    assert (card["brand"], card["last4"]) == ("visa", VISA[-4:])
    assert (card["exp_month"], card["exp_year"]) == (12, 2034)


@pytest.mark.guards("T-12")
@pytest.mark.parametrize("number", [luhn_broken(VISA[:-1]), luhn_broken(VISA), "4242 soon"])
async def test_what_is_no_card_never_gets_to_a_shop(flask_shop: ShopStage, number: str) -> None:
    before = flask_shop.shop.said.read_bytes().count(b"paid with")
    fields = {"holder": HOLDER, "number": number, "expiry": "12/34", "cvc": "123"}
    async with flask_shop.browser() as browser, browser.post("/pay", data=fields) as page:
        assert page.status == 422
        answer = await page.read()
    assert number.encode() not in answer
    assert first_leak(answer) is None
    assert flask_shop.shop.said.read_bytes().count(b"paid with") == before
