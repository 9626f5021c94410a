"""Who tries out cards on a page is stopped, and only there; who calls too often waits."""

import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from gateway.errors import CardTesting, RateLimited
from gateway.merchants import Caller
from gateway.metrics import PREFIX, Metrics
from gateway.page_guard import PageGuard, PageLimits
from gateway.velocity import Velocity
from tests.cards import DECLINED, VISA
from tests.flows.deployment import Deployment
from tests.flows.merchant import Merchant, card, new_account, payment
from tests.flows.replica import Replica, running_replica
from tests.flows.test_checkout_api import Browser
from tests.flows.wire import Wire
from vault.api_keys import new_api_key
from vault.authorization import Kind, Result
from vault.errors import InvalidCard

pytestmark = pytest.mark.embedded

ATTACKER, OTHER = "192.0.2.7", "198.51.100.7"
PAGE = Caller("t_shop", "k_page", "publishable_key", frozenset())


# --- the guard ----------------------------------------------------------------------------


@dataclass
class Clock:
    at: float = 0.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def guard(clock: Clock, metrics: Metrics, heard: list[str] | None = None) -> PageGuard:
    return PageGuard(
        PageLimits(),
        Velocity(clock),
        metrics=metrics,
        monotonic=clock,
        suspected=(heard if heard is not None else []).append,
    )


def refusals(metrics: Metrics, scope: str) -> float:
    name = PREFIX + "page_refusals_total"
    return metrics.registry.get_sample_value(name, {"scope": scope}) or 0.0


def let_in(
    calls: Iterable[AbstractContextManager[str | None]], held: ExitStack | None = None
) -> int:
    """Count calls up to the first that is refused; hold their places open, if there is a stack."""
    for count, call in enumerate(calls):
        try:
            if held is not None:
                held.enter_context(call)
                continue
            with call:
                pass
        except RateLimited:
            return count
    raise AssertionError("none was refused")


@contextmanager
def refused_card() -> Iterator[None]:
    with pytest.raises(InvalidCard):
        yield


@pytest.mark.guards("T-24")
def test_numbers_that_are_none_stop_their_network_and_nobody_else(
    clock: Clock, metrics: Metrics
) -> None:
    heard: list[str] = []
    page = guard(clock, metrics, heard)
    for _ in range(10):
        with refused_card(), page.card(PAGE.tenant, ATTACKER):
            raise InvalidCard("number", "luhn")
    scopes = set()
    for _ in range(3):
        with pytest.raises(CardTesting) as testing, page.card(PAGE.tenant, ATTACKER):
            pass
        scopes.add(testing.value.scope)
    assert scopes == {"network"}
    assert refusals(metrics, "network") == 3
    assert heard == ["network"]  # a line a minute
    with page.card(PAGE.tenant, OTHER) as network:
        assert network == "198.51.100.0/24"
    clock.at += 601
    with page.card(PAGE.tenant, ATTACKER):
        pass


@pytest.mark.guards("T-24")
def test_declines_stop_cards_that_wait_already_too(clock: Clock, metrics: Metrics) -> None:
    page = guard(clock, metrics)
    network = "192.0.2.0/24"
    for _ in range(10):
        page.admit(PAGE.tenant, network, Kind.AUTHORIZE)
        page.judge(PAGE.tenant, network, Kind.AUTHORIZE, Result.DECLINED)
    with pytest.raises(CardTesting):
        page.admit(PAGE.tenant, network, Kind.AUTHORIZE)
    page.admit(PAGE.tenant, network, Kind.REFUND)  # gives back what was paid
    page.admit(PAGE.tenant, None, Kind.AUTHORIZE)  # a card that is kept, or of a back end
    page.admit(PAGE.tenant, "198.51.100.0/24", Kind.AUTHORIZE)


def test_what_is_no_try_of_a_card_counts_for_nothing(clock: Clock, metrics: Metrics) -> None:
    page = guard(clock, metrics)
    for _ in range(100):
        page.judge(PAGE.tenant, "192.0.2.0/24", Kind.REFUND, Result.DECLINED)
        page.judge(PAGE.tenant, None, Kind.AUTHORIZE, Result.DECLINED)
        page.judge(PAGE.tenant, "192.0.2.0/24", Kind.AUTHORIZE, Result.ERROR)
        page.judge(PAGE.tenant, "192.0.2.0/24", Kind.AUTHORIZE, None)
    page.admit(PAGE.tenant, "192.0.2.0/24", Kind.AUTHORIZE)


@pytest.mark.guards("T-21")
def test_an_address_has_its_share_and_another_its_own(clock: Clock, metrics: Metrics) -> None:
    page = guard(clock, metrics)
    for _ in range(PageLimits().address_burst):
        with page.enter(ATTACKER):
            pass
    with pytest.raises(RateLimited) as limited, page.enter(ATTACKER):
        pass
    assert limited.value.retry_after_seconds >= 1
    assert refusals(metrics, "address") == 1
    with page.enter(OTHER):
        pass


@pytest.mark.guards("T-21")
@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_an_ipv6_caller_is_a_64(
    clock: Clock, metrics: Metrics, first: str, second: str, *, shared: bool
) -> None:
    page = guard(clock, metrics)
    for _ in range(PageLimits().address_burst):
        with page.enter(first):
            pass
    if shared:
        with pytest.raises(RateLimited), page.enter(second):
            pass
    else:
        with page.enter(second):
            pass


@pytest.mark.guards("T-21")
def test_many_addresses_of_one_network_have_few_places(clock: Clock, metrics: Metrics) -> None:
    page = guard(clock, metrics)
    addresses = (f"2001:db8:0:{host:x}::1" for host in range(10_000))
    assert let_in(map(page.enter, addresses)) == PageLimits().address_burst * 8
    assert refusals(metrics, "network_calls") == 1
    with page.enter(OTHER):
        pass


@pytest.mark.guards("T-21")
def test_bodies_that_never_end_hold_none_of_the_keys_places(clock: Clock, metrics: Metrics) -> None:
    page = guard(clock, metrics)
    with ExitStack() as held:
        addresses = (f"2001:db8:0:{host:x}::1" for host in range(1000))
        assert let_in(map(page.enter, addresses), held) == 64
        with page.enter(OTHER), page.key(PAGE, OTHER):
            pass


@pytest.mark.guards("T-21")
def test_who_uses_a_key_up_stops_those_who_flood_and_no_shopper(
    clock: Clock, metrics: Metrics
) -> None:
    heard: list[str] = []
    page = guard(clock, metrics, heard)
    for host in range(PageLimits().key_burst):
        address = f"10.{host // 250}.{host % 250}.1"
        with page.enter(address), page.key(PAGE, address):
            pass
    for _ in range(2):
        with page.enter(ATTACKER):
            pass
    with pytest.raises(RateLimited), page.enter(ATTACKER), page.key(PAGE, ATTACKER):
        pass
    with page.enter(OTHER), page.key(PAGE, OTHER):
        pass
    assert heard == ["key"]
    assert refusals(metrics, "key") == 2


@pytest.mark.guards("T-21")
def test_keys_that_are_none_are_looked_up_a_few_times(clock: Clock, metrics: Metrics) -> None:
    page = guard(clock, metrics)

    @contextmanager
    def guess() -> Iterator[None]:
        page.check_stranger(ATTACKER)
        page.is_strange(ATTACKER)
        yield

    assert let_in(guess() for _ in range(1000)) == 100
    page.check_stranger(OTHER)
    clock.at += 1
    page.check_stranger(ATTACKER)


@pytest.mark.guards("T-21")
def test_the_code_of_one_card_is_not_overwritten_for_ever(clock: Clock, metrics: Metrics) -> None:
    page = guard(clock, metrics)
    codes = (page.code(PAGE, f"10.0.{host}.1", "pwt_one") for host in range(100))
    assert let_in(codes) == 10
    assert refusals(metrics, "code") == 1
    with page.code(PAGE, OTHER, "pwt_other"):
        pass


def test_an_error_under_way_is_no_refusal(clock: Clock, metrics: Metrics) -> None:
    page = guard(clock, metrics)
    with pytest.raises(RateLimited), page.enter(ATTACKER), page.key(PAGE, ATTACKER):
        raise RateLimited(3)
    assert refusals(metrics, "address") == refusals(metrics, "key") == 0


# --- the gateway --------------------------------------------------------------------------


@pytest.fixture
async def target(deployment: Deployment, wire: Wire) -> Merchant:
    """Give a merchant of its own: what it suffers is nobody else's."""
    return Merchant(await new_account(deployment), deployment.urls, wire)


@pytest.mark.guards("T-24")
async def test_declines_at_the_processor_close_the_page_to_that_network(
    target: Merchant, shop: Merchant
) -> None:
    page = Browser(target, None)
    waiting = (await page.tokenize({"card": card()})).json()["id"]
    for _ in range(10):
        made = await page.tokenize({"card": card(DECLINED)})
        await target.pay(payment(made.json()["id"]))
    made = await page.tokenize({"card": card(DECLINED)})
    assert made.told() == (429, "card_testing_suspected", None, None)
    assert int(made.headers["Retry-After"]) >= 1
    stockpiled = await target.pay(payment(waiting))
    assert stockpiled.status == 429
    assert stockpiled.state == "not_sent"
    assert (await target.api("POST", "/v1/tokens", {"card": card()})).status == 201  # a back end
    back_end = await target.token()
    assert (await target.pay(payment(back_end))).status == 200
    assert (await Browser(shop, None).tokenize({"card": card()})).status == 201  # another shop


@pytest.mark.guards("T-24")
async def test_a_card_that_is_kept_first_and_charged_then_counts_too(target: Merchant) -> None:
    page = Browser(target, None)
    for _ in range(10):
        made = (await page.tokenize({"card": card(DECLINED)})).json()["id"]
        await target.api("PATCH", f"/v1/tokens/{made}", {"expires_at": None})
        await target.pay(payment(made))
    assert (await page.tokenize({"card": card(VISA)})).status == 429


async def test_a_back_ends_cards_are_never_counted(target: Merchant) -> None:
    for _ in range(12):
        await target.pay(payment(await target.token(DECLINED)))
    assert (await Browser(target, None).tokenize({"card": card(VISA)})).status == 201


@pytest.mark.guards("T-21")
async def test_a_proxy_that_is_trusted_says_who_calls(
    deployment: Deployment, wire: Wire, behind_a_proxy: Replica
) -> None:
    target = Merchant(await new_account(deployment), behind_a_proxy.urls, wire)
    page = Browser(target, None)

    async def wrong(address: str) -> int:
        body = {"card": card(VISA[:-1] + "3")}
        forwarded = {"X-Forwarded-For": f"203.0.113.9, {address}"}
        return (await page.call("POST", "/v1/tokens", body, **forwarded)).status

    assert [await wrong(ATTACKER) for _ in range(11)] == [422] * 10 + [429]
    assert await wrong(OTHER) == 422


@pytest.mark.guards("T-21")
async def test_guessing_keys_stops_the_guesser_and_nobody_who_was_there(
    deployment: Deployment, wire: Wire, behind_a_proxy: Replica
) -> None:
    async def call(target: Merchant, key: str | None = None) -> int:
        page = Browser(target, None, key=key)
        forwarded = {"X-Forwarded-For": "192.0.2.99"}
        return (await page.call("POST", "/v1/tokens", {"card": card()}, **forwarded)).status

    known = Merchant(await new_account(deployment), behind_a_proxy.urls, wire)
    assert await call(known) == 201
    guesses = [new_api_key("publishable_key", "test").text for _ in range(130)]
    told = [await call(known, guess) for guess in guesses]
    assert told[:100] == [401] * 100
    assert 429 in told[100:]
    assert await call(known) == 201


@pytest.fixture(scope="module")
def behind_a_proxy(deployment: Deployment) -> Iterator[Replica]:
    """Give a gateway that believes the loopback's word of who calls."""

    def trusting(text: str) -> str:
        return re.sub("connections_per_address_max = .*", 'trusted_proxies = ["127.0.0.0/8"]', text)

    with running_replica(deployment, "proxied", change=trusting) as replica:
        yield replica
