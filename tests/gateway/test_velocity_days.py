"""Simulated days: who tries out cards is stopped, and who only sells is left alone."""

from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random

import pytest

from gateway.errors import CardTesting
from gateway.velocity import Velocity

SHOP = "t_shop"
ATTEMPTS = 4_000_000
DAY_SECONDS = 86_400.0
ANSWER_SECONDS = 2.0  # from token to outcome, on average: so much is under way when we say stop


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def refusal(velocity: Velocity, network: str) -> CardTesting | None:
    try:
        velocity.check(SHOP, network)
    except CardTesting as refused:
        return refused
    return None


@dataclass
class Crowd:
    """Who comes with cards: how many a second, from how many networks, how bad the cards are."""

    name: str
    per_second: float
    networks: int
    declined: float
    came: int = 0
    let_in: int = 0


@dataclass
class World:
    """A shop, its crowds and its processor."""

    crowds: list[Crowd]
    draw: Random
    clock: Clock = field(default_factory=Clock)
    pending: list[tuple[float, bool, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.velocity = Velocity(self.clock)

    def run(self, seconds: float) -> None:
        """Let them come; a refusal of all who come is skipped, for it changes nothing."""
        end = self.clock.seconds + seconds
        while self.clock.seconds < end:
            _, refused = self.step()
            if refused and (refused.scope == "tenant" or len(self.crowds) == 1):
                self.clock.seconds += refused.retry_after_seconds
                for each in self.crowds:
                    each.came += int(refused.retry_after_seconds * each.per_second)

    def run_until_stopped(self, attackers: Crowd) -> None:
        """Let them come until the attackers' only network is refused, or the whole shop."""
        while True:
            crowd, refused = self.step()
            alone = crowd is attackers and crowd.networks == 1
            if refused and (refused.scope == "tenant" or alone):
                return

    def step(self) -> tuple[Crowd, CardTesting | None]:
        rates = [crowd.per_second for crowd in self.crowds]
        self.clock.seconds += self.draw.expovariate(sum(rates))
        self.settle()
        (crowd,) = self.draw.choices(self.crowds, rates)
        return crowd, self.come(crowd)

    def come(self, crowd: Crowd) -> CardTesting | None:
        crowd.came += 1
        network = f"{crowd.name} {self.draw.randrange(crowd.networks)}"
        refused = refusal(self.velocity, network)
        if refused is None:
            crowd.let_in += 1
            self.velocity.tokenized(SHOP, network)
            heappush(self.pending, (self.answered(), self.draw.random() < crowd.declined, network))
        return refused

    def answered(self) -> float:
        return self.clock.seconds + self.draw.uniform(0.5, 1.5) * ANSWER_SECONDS

    def settle(self) -> None:
        while self.pending and self.pending[0][0] <= self.clock.seconds:
            _, declined, network = heappop(self.pending)
            (self.velocity.failed if declined else self.velocity.went_well)(SHOP, network)


def world(*crowds: Crowd) -> World:
    return World(list(crowds), Random(24))  # noqa: S311 - a failure must happen again


@pytest.mark.guards("T-24")
@pytest.mark.parametrize("declined", [0.8, 0.95])
@pytest.mark.parametrize("networks", [1, 20, 1000])
def test_an_attack_of_four_million_attempts_is_stopped(networks: int, declined: float) -> None:
    attackers = Crowd("attacker", ATTEMPTS / DAY_SECONDS, networks, declined)
    here = world(attackers)
    here.run_until_stopped(attackers)
    assert attackers.let_in <= 200
    here.run(DAY_SECONDS)
    assert attackers.came > ATTEMPTS * 0.95
    assert attackers.let_in < ATTEMPTS / 200  # of what comes again and again, for a whole day


@pytest.mark.guards("T-24")
@pytest.mark.parametrize("declined", [0.8, 0.95])
@pytest.mark.parametrize("networks", [1, 1000])
def test_an_attack_among_as_many_shoppers_is_stopped(networks: int, declined: float) -> None:
    rate = ATTEMPTS / DAY_SECONDS
    shoppers = Crowd("shopper", rate, 20_000, 0.05)
    here = world(shoppers)
    here.run(600)  # what went well before hides nothing
    attackers = Crowd("attacker", rate, networks, declined)
    here.crowds.append(attackers)
    here.run_until_stopped(attackers)
    assert attackers.let_in <= 200
    if networks == 1:
        here.run(300)
        assert shoppers.let_in == shoppers.came, "the shop goes on selling"


@dataclass
class Shoppers:
    """Ordinary people: they mistype, try a declined card again, and come in bursts."""

    declined: float
    sales: int = 20_000
    networks: int = 3000
    in_one_network: float = 0.0
    mistyped: float = 0.1
    again: float = 0.4


Coming = list[tuple[float, bool, str, bool]]
"""When, whether it is an answer, from which network, whether of a bad card: a heap."""


def arrivals(shoppers: Shoppers, draw: Random) -> Coming:
    bad = shoppers.declined / (shoppers.declined + (1 - shoppers.declined) / (1 - shoppers.again))
    coming: Coming = []
    at = 1000.0
    while at < 1000 + DAY_SECONDS:
        hour_part = int(at // 600) % 48
        burst = {20: 20, 21: 5}.get(hour_part, 1)  # a sale begins, every eight hours
        at += draw.expovariate(shoppers.sales / DAY_SECONDS * burst)
        big = draw.random() < shoppers.in_one_network
        network = "big" if big else f"net {draw.randrange(shoppers.networks)}"
        heappush(coming, (at, False, network, draw.random() < bad))
    return coming


def ordinary_day(shoppers: Shoppers, draw: Random) -> tuple[int, int]:
    """Give how many cards came, and how many were refused by us."""
    clock = Clock()
    velocity = Velocity(clock)
    coming = arrivals(shoppers, draw)
    came = refused = 0
    while coming:
        clock.seconds, answered, network, bad_card = heappop(coming)
        if answered and not bad_card:
            velocity.went_well(SHOP, network)
            continue
        wait = draw.uniform(5, 60)
        if answered:
            velocity.failed(SHOP, network)
            if draw.random() >= shoppers.again:
                continue
        else:
            came += 1
            if refusal(velocity, network):
                refused += 1
                continue
            if draw.random() < shoppers.mistyped:
                velocity.mistyped(SHOP, network)
            else:
                velocity.tokenized(SHOP, network)
                answer = clock.seconds + draw.uniform(0.5, 1.5) * ANSWER_SECONDS
                heappush(coming, (answer, True, network, bad_card))
                continue
        heappush(coming, (clock.seconds + wait, False, network, bad_card))
    return came, refused


@pytest.mark.guards("T-24")
@pytest.mark.parametrize(
    "shoppers",
    [
        Shoppers(declined=0.05),
        Shoppers(declined=0.12),
        Shoppers(declined=0.2),
        Shoppers(declined=0.2, sales=300, networks=100),
        Shoppers(declined=0.2, in_one_network=0.4),  # a carrier's, or an office's
    ],
    ids=["few", "usual", "many", "small shop", "big network"],
)
def test_an_ordinary_day_is_not_taken_for_an_attack(shoppers: Shoppers) -> None:
    came, refused = ordinary_day(shoppers, Random(24))  # noqa: S311 - as above
    assert came > shoppers.sales
    assert refused / came < 0.001
