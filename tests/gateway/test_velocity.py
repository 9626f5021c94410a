"""Declines are weighed against approvals: by network, by tenant, and not for ever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import CardTesting, RateLimited
from gateway.velocity import (
    NETWORK_FAILURES_MAX,
    REFUSAL_MAX_SECONDS,
    REFUSAL_SECONDS,
    TENANT_FAILURES_MAX,
    WINDOW_SECONDS,
    Velocity,
)

SHOP, NET = "t_shop", "198.51.100.0/24"


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def velocity(clock: Clock) -> Velocity:
    return Velocity(clock)


def refusal(
    velocity: Velocity, network: str | None = NET, tenant: str = SHOP
) -> CardTesting | None:
    try:
        velocity.check(tenant, network)
    except CardTesting as refused:
        return refused
    return None


def scope(velocity: Velocity, network: str | None = NET, tenant: str = SHOP) -> str | None:
    refused = refusal(velocity, network, tenant)
    return None if refused is None else refused.scope


def attack(velocity: Velocity, tenant: str = SHOP, declines: int = TENANT_FAILURES_MAX) -> None:
    """Declines, each from a network of its own."""
    for number in range(declines):
        velocity.failed(tenant, f"attacker {number}")


# --- one network ----------------------------------------------------------------------------


def test_a_network_is_refused_after_ten_declines(clock: Clock, velocity: Velocity) -> None:
    for _ in range(NETWORK_FAILURES_MAX - 1):
        velocity.failed(SHOP, NET)
        assert scope(velocity) is None
    velocity.failed(SHOP, NET)
    assert scope(velocity) == "network"
    assert scope(velocity, "another") is None
    assert scope(velocity, None) is None
    assert scope(velocity, NET, "t_other") is None


def test_time_forgets_a_networks_declines(clock: Clock, velocity: Velocity) -> None:
    for _ in range(NETWORK_FAILURES_MAX):
        velocity.failed(SHOP, NET)
    refused = refusal(velocity)
    assert refused is not None
    assert refused.retry_after_seconds == 60
    assert isinstance(refused, RateLimited)
    clock.seconds += 59
    assert scope(velocity) == "network"
    clock.seconds += 1
    assert scope(velocity) is None
    velocity.failed(SHOP, NET)
    assert scope(velocity) == "network"
    clock.seconds += WINDOW_SECONDS
    assert scope(velocity) is None
    assert len(velocity._declined) == 1
    velocity.went_well(SHOP, NET)
    assert len(velocity._declined) == 0


def test_a_network_with_twice_as_many_approvals_goes_on(velocity: Velocity) -> None:
    for _ in range(200):
        velocity.failed(SHOP, NET)
        velocity.went_well(SHOP, NET)
        velocity.went_well(SHOP, NET)
        assert scope(velocity) is None


@pytest.mark.guards("T-24")
def test_a_good_card_of_ones_own_hides_no_attack_and_closes_no_shop(
    clock: Clock, velocity: Velocity
) -> None:
    """Between the stolen ones: checking it costs nothing."""
    tried = 0
    for _ in range(2000):
        clock.seconds += 1
        if scope(velocity) is None:
            velocity.failed(SHOP, NET)
            velocity.went_well(SHOP, NET)
            tried += 1
        assert scope(velocity, "a shopper") is None
    assert tried < 100


@pytest.mark.guards("T-24")
def test_three_networks_keep_no_shop_closed(clock: Clock, velocity: Velocity) -> None:
    closed = 0
    for _ in range(6 * 3600):
        clock.seconds += 1
        closed += scope(velocity, "a shopper") is not None
        for number in range(3):
            if scope(velocity, f"attacker {number}") is None:
                velocity.failed(SHOP, f"attacker {number}")
    assert closed == 0


def test_approvals_are_no_credit(velocity: Velocity) -> None:
    for _ in range(1000):
        velocity.went_well(SHOP, NET)
    for _ in range(NETWORK_FAILURES_MAX):
        velocity.failed(SHOP, NET)
    assert scope(velocity) == "network"


def test_a_flood_shuts_its_network_out_for_minutes_not_for_hours(
    clock: Clock, velocity: Velocity
) -> None:
    for _ in range(100_000):
        velocity.failed(SHOP, NET)
    refused = refusal(velocity)
    assert refused is not None
    assert refused.retry_after_seconds == 660


@pytest.mark.guards("T-24")
def test_one_network_closes_no_shop(velocity: Velocity) -> None:
    for _ in range(10_000):
        velocity.failed(SHOP, NET)
    assert scope(velocity) == "network"
    assert scope(velocity, "a shopper") is None
    assert velocity.tenants_refused == 0


def test_cards_that_are_not_well_formed_are_held_against_their_network(
    velocity: Velocity,
) -> None:
    for number in range(50):
        for _ in range(NETWORK_FAILURES_MAX):
            velocity.mistyped(SHOP, f"script {number}")
        assert scope(velocity, f"script {number}") == "network"
    assert scope(velocity, "a shopper") is None
    assert velocity.tenants_refused == 0


def test_where_most_type_well_nobody_is_refused(velocity: Velocity) -> None:
    """A shop that stores cards and charges them tomorrow has no approvals to show."""
    for _ in range(1000):
        velocity.mistyped(SHOP, NET)
        velocity.tokenized(SHOP, NET)
        velocity.tokenized(SHOP, NET)
        assert scope(velocity) is None


def test_a_token_makes_up_for_no_decline(velocity: Velocity) -> None:
    for _ in range(NETWORK_FAILURES_MAX):
        velocity.failed(SHOP, NET)
        velocity.tokenized(SHOP, NET)
    assert scope(velocity) == "network"


# --- a tenant -------------------------------------------------------------------------------


@pytest.mark.guards("T-24")
def test_a_tenant_is_refused_whole_when_too_much_is_declined(
    clock: Clock, velocity: Velocity
) -> None:
    attack(velocity, declines=TENANT_FAILURES_MAX - 1)
    assert scope(velocity) is None
    velocity.failed(SHOP, None)
    assert scope(velocity) == scope(velocity, None) == "tenant"
    assert scope(velocity, NET, "t_other") is None
    assert velocity.tenants_refused == 1
    refused = refusal(velocity)
    assert refused is not None
    assert refused.retry_after_seconds == REFUSAL_SECONDS
    clock.seconds += REFUSAL_SECONDS
    assert scope(velocity) is None
    assert velocity.tenants_refused == 0


def test_a_quarter_of_declines_tips_no_balance_and_a_third_does(velocity: Velocity) -> None:
    for _ in range(5000):
        velocity.failed(SHOP, None)
        for _ in range(3):
            velocity.went_well(SHOP, None)
    assert scope(velocity) is None
    for _ in range(200):
        velocity.failed(SHOP, None)
        for _ in range(2):
            velocity.went_well(SHOP, None)
    assert scope(velocity) == "tenant"


def test_another_usual_share_may_be_set(clock: Clock) -> None:
    velocity = Velocity(clock, usual_share=0.4)
    for _ in range(5000):
        velocity.failed(SHOP, None)
        velocity.went_well(SHOP, None)
        velocity.failed(SHOP, None)
        velocity.went_well(SHOP, None)
        velocity.went_well(SHOP, None)
    assert scope(velocity) is None


def test_each_relapse_is_refused_for_longer(clock: Clock, velocity: Velocity) -> None:
    attack(velocity)
    waits = []
    for _ in range(7):
        refused = refusal(velocity)
        assert refused is not None
        waits.append(refused.retry_after_seconds)
        clock.seconds += refused.retry_after_seconds
        assert scope(velocity) is None
        attack(velocity, declines=TENANT_FAILURES_MAX // 2)  # half the evidence still stands
    assert waits == [
        60,
        120,
        240,
        480,
        REFUSAL_MAX_SECONDS,
        REFUSAL_MAX_SECONDS,
        REFUSAL_MAX_SECONDS,
    ]


@pytest.mark.parametrize("how", ["approvals", "time"])
def test_who_is_well_again_starts_from_the_beginning(
    clock: Clock, velocity: Velocity, how: str
) -> None:
    attack(velocity)
    clock.seconds += REFUSAL_SECONDS
    if how == "approvals":
        for _ in range(TENANT_FAILURES_MAX * 2):
            velocity.went_well(SHOP, None)
    else:
        clock.seconds += 3600
        velocity.went_well(SHOP, None)
    attack(velocity, declines=TENANT_FAILURES_MAX - 1)
    assert scope(velocity) is None
    velocity.failed(SHOP, None)
    refused = refusal(velocity)
    assert refused is not None
    assert refused.retry_after_seconds == REFUSAL_SECONDS


def test_what_ends_during_a_refusal_counts_for_nothing(clock: Clock, velocity: Velocity) -> None:
    attack(velocity)
    clock.seconds += 30
    attack(velocity, declines=1000)
    for _ in range(1000):
        velocity.went_well(SHOP, None)
    clock.seconds += 30
    assert scope(velocity) is None
    attack(velocity, declines=TENANT_FAILURES_MAX // 2)
    assert scope(velocity) == "tenant"


# --- both -----------------------------------------------------------------------------------


def test_who_is_refused_changes_nothing_by_knocking(clock: Clock, velocity: Velocity) -> None:
    attack(velocity)
    for _ in range(NETWORK_FAILURES_MAX):
        velocity.failed(SHOP, NET)
    before = dict(velocity._declined._levels), dict(velocity._tenants._levels)
    for _ in range(100):
        assert refusal(velocity) is not None
        assert refusal(velocity, "another") is not None
    assert before == (velocity._declined._levels, velocity._tenants._levels)


def test_a_clock_that_falls_back_forgives_nothing_and_adds_nothing(
    clock: Clock, velocity: Velocity
) -> None:
    for _ in range(NETWORK_FAILURES_MAX - 1):
        velocity.failed(SHOP, NET)
    clock.seconds -= 500
    assert scope(velocity) is None
    velocity.failed(SHOP, NET)
    assert scope(velocity) == "network"


def test_networks_and_tenants_without_end_are_not_remembered(clock: Clock) -> None:
    velocity = Velocity(clock, networks_max=50, tenants_max=5)
    for number in range(200):
        attack(velocity, f"t_{number}")
        velocity.mistyped(f"t_{number}", NET)
    assert len(velocity._declined) == 50
    assert len(velocity._mistyped) == 50
    assert len(velocity._tenants) == len(velocity._refusals) == velocity.tenants_refused == 5
    assert scope(velocity, NET, "t_199") == "tenant"
    for number in range(200):
        velocity.went_well(f"t_good_{number}", NET)
    assert len(velocity._tenants) == 5, "who has done nothing wrong takes no room"


events = st.tuples(
    st.sampled_from(["check", "failed", "went_well", "mistyped", "tokenized"]),
    st.sampled_from(["t_one", "t_two", "t_three"]),
    st.sampled_from(["net a", "net b", "net c", "unknown"]),
    st.floats(0, 200),
    st.integers(1, 30),
)


@given(st.lists(events, max_size=60))
def test_whoever_waits_as_told_is_let_in(run: list[tuple[str, str, str, float, int]]) -> None:
    clock = Clock()
    velocity = Velocity(clock, networks_max=5, tenants_max=2)
    for verb, tenant, network, pause, times in run:
        clock.seconds += pause
        for _ in range(times):
            if verb != "check":
                getattr(velocity, verb)(tenant, network)
                continue
            for _ in range(3):  # first its network, then perhaps its tenant
                refused = refusal(velocity, network, tenant)
                if refused is None:
                    break
                assert 1 <= refused.retry_after_seconds <= REFUSAL_MAX_SECONDS
                clock.seconds += refused.retry_after_seconds
            assert refusal(velocity, network, tenant) is None
        assert len(velocity._declined) <= 5
        assert len(velocity._tenants) <= 2
