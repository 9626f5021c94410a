"""The merchant's own processor login, by SDK; and two merchants of one processor at once.

The processor is one that the test runs, with two accounts: it remembers calls whole.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from gateway.sandbox.processor import Processor
from tests.cards import MASTERCARD, VISA_ALT
from tests.flows.conftest import Witness
from tests.flows.deployment import Deployment
from tests.flows.dialects import DIALECTS
from tests.flows.merchant import Merchant
from tests.flows.sdk_story import Story
from tests.flows.sdks import ROUTE_OF, Desk, Sdks
from tests.flows.seller import new_seller
from tests.flows.wire import Wire

pytestmark = pytest.mark.embedded

WITH_HEADERS: Final = [sdk for sdk in DIALECTS if sdk != "authorizenet"]
PRIVATE: Final = ("panward-", "proxy-")
"""How headers begin that end at panward."""


def came_untouched(pair: Processor, account: str) -> None:
    """Assert whose login came last, and that nothing between the merchant and us came with it."""
    last = pair.received[-1]
    assert last.sent is not None
    assert last.account == account
    assert [name for name in last.sent.headers if name.startswith(PRIVATE)] == []


@pytest.mark.parametrize("sdk", WITH_HEADERS)
@pytest.mark.guards("T-07")
async def test_an_own_login_by_base_url(
    desk: Desk, till: Merchant, sdk: str, pair: Processor, nothing_happens: Witness
) -> None:
    own = desk.seller.own[sdk]
    headers = {"Panward-Key": desk.seller.key.text, "Panward-Note": "for us"}
    story = Story(till, sdk, desk.by_base(sdk, "_own", keys=own, headers=headers), kind="_own")
    token, step = await story.payment()
    reply = await story.do(step)
    assert story.dialect.word(reply) == story.dialect.words["approved"]
    assert pair.numbers_received == (VISA_ALT,)
    came_untouched(pair, desk.seller.pair_account)
    assert (await story.record(token))["result"] == "approved"

    _, step = await story.payment()
    async with nothing_happens():
        nobody = await story.by(desk.by_base(sdk, "_own", keys=own)).do(step)
        assert story.dialect.told(nobody) == story.dialect.no("not_authenticated", 401)
        wrong = desk.by_base(sdk, "_own", keys=own, headers={"Panward-Key": desk.revoked.text})
        assert (await story.by(wrong).do(step)).error == nobody.error


@pytest.mark.parametrize("sdk", DIALECTS)
@pytest.mark.guards("T-50")
async def test_an_own_login_in_a_tunnel(
    desk: Desk, till: Merchant, sdk: str, pair: Processor
) -> None:
    """Checkout.com's SDK asks for the merchant's own host."""
    way = desk.by_proxy(sdk, beside=True)
    story = Story(till, sdk, way, kind="_own")
    token, step = await story.payment()
    reply = await story.do(step)
    assert story.dialect.word(reply) == story.dialect.words["approved"]
    assert pair.numbers_received == (VISA_ALT,)
    came_untouched(pair, desk.seller.pair_account)
    assert (await story.record(token))["result"] == "approved"


# --- two merchants ------------------------------------------------------------------------


@pytest.fixture
async def rival(
    deployment: Deployment, desk: Desk, trusted: Path, tmp_path: Path
) -> AsyncIterator[Desk]:
    """Give a second seller, with processes of its own."""
    seller = await new_seller(deployment, "acct_2")
    with ExitStack() as stack:
        sdks = Sdks(tmp_path / "rival", trusted, stack)
        yield Desk(sdks, seller, desk.revoked, desk.unscoped, deployment, desk.beside)


@pytest.mark.guards("T-50")
async def test_two_merchants_at_once_each_with_its_own_login(
    desk: Desk, rival: Desk, wire: Wire, pair: Processor
) -> None:
    """One pays with Visa, the other with Mastercard: the processor tells whose calls came."""
    rounds = 4

    async def pays(one: Desk, sdk: str, number: str) -> None:
        till = Merchant(one.seller.account, one.deployment.urls, wire)
        story = Story(till, sdk, one.by_base(sdk, "_pair"), kind="_pair")
        for _ in range(rounds):
            made = await till.tokenize(number, format=story.dialect.format)
            name = made["pan_like" if story.dialect.format == "pan_like" else "id"]
            reply = await story.do(story.dialect.pay(story.bill(name)))
            assert story.dialect.word(reply) == story.dialect.words["approved"]

    async with asyncio.TaskGroup() as group:
        for sdk in DIALECTS:
            group.create_task(pays(desk, sdk, VISA_ALT))
            group.create_task(pays(rival, sdk, MASTERCARD))
    came = {(each.processor, each.account, *each.masked.values()) for each in pair.received}
    shown = {"acct_1": VISA_ALT, "acct_2": MASTERCARD}
    assert {(processor, account) for processor, account, *_ in came} == {
        (ROUTE_OF[sdk], account) for sdk in DIALECTS for account in shown
    }
    for _, account, *masked in came:
        assert f"•••• {shown[str(account)][-4:]}" in masked
    assert len(pair.received) == rounds * len(DIALECTS) * len(shown)
