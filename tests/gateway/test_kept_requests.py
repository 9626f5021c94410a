"""What is kept to be sent again: no login, and nothing that could not be sent without its own."""

import pytest

from gateway.call import Call
from gateway.kept_requests import request_to_keep
from tests.gateway.asked_processor import world
from vault.authorization import RepeatRules
from vault.doubts import KeptRequest

pytestmark = [pytest.mark.guards("F-23")]

RULES = RepeatRules(replay_seconds=3600)
CALL = Call(
    "POST",
    "/x",
    "",
    [
        ("Authorization", "Bearer pwsk_test_x"),
        ("X-Api-Key", "pwsk_test_x"),
        ("Panward-Key", "pwsk_test_x"),
        ("Cookie", "a=b"),
        ("Stripe-Version", "2026-01-01"),
    ],
    b"",
)


def kept(preset: str, *, credential: str = "injected") -> KeptRequest | None:
    lane = world(preset=preset, unknown_replay="within_lifetime", credential=credential).lane
    return request_to_keep(lane, CALL, b"key", RULES)


def test_no_login_and_nothing_of_ours_is_kept() -> None:
    found = kept("stripe")
    assert found is not None
    assert ("Stripe-Version", "2026-01-01") in found.headers
    names = {name for name, _ in found.headers}
    assert names.isdisjoint({"Authorization", "Panward-Key", "Cookie"})


def test_a_login_in_a_header_of_its_own_is_not_kept() -> None:
    found = kept("adyen")
    assert found is not None
    assert "X-Api-Key" not in dict(found.headers)


@pytest.mark.parametrize("preset", ["authorize_net", "cybersource"])
def test_what_its_caller_signs_or_logs_in_by_its_body_is_not_kept(preset: str) -> None:
    assert kept(preset) is None


def test_what_the_caller_logs_in_for_is_not_kept() -> None:
    assert kept("stripe", credential="own") is None


@pytest.mark.parametrize(("key", "rules"), [(None, RULES), (b"key", RepeatRules())])
def test_what_the_processor_would_not_know_again_is_not_kept(
    key: bytes | None, rules: RepeatRules
) -> None:
    lane = world(preset="stripe", unknown_replay="within_lifetime").lane
    assert request_to_keep(lane, CALL, key, rules) is None


def test_nothing_is_kept_on_a_route_that_sends_nothing_again() -> None:
    assert request_to_keep(world(preset="stripe").lane, CALL, b"key", RULES) is None
