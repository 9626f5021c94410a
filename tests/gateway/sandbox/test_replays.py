"""What is remembered of idempotency keys."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from gateway.sandbox import replays as replays_module
from gateway.sandbox.books import Counts
from gateway.sandbox.replays import KeyRefused, KeyTrouble, Place, Replays
from gateway.sandbox.stripe import Stripe
from gateway.sandbox.wire import WireAnswer, WireCall
from tests.cards import VISA
from tests.gateway.sandbox.harness import NOW, Clock

FORM = {"content-type": "application/x-www-form-urlencoded"}
LIFETIME = Stripe.key_lifetime
SECOND = timedelta(seconds=1)
PLACE = Place("stripe", "acct_1", "key")
HONORS = Stripe({}, new_id=str, now=Clock(), counts=Counts(), fingerprint_key=b"k")


def call(body: str, path: str = "/v1/charges") -> WireCall:
    return WireCall("POST", path, "", FORM, body.encode())


CALL = call(f"amount=1&source[number]={VISA}")
DONE = WireAnswer(200, b"{}", "application/json")


@pytest.fixture
def replays() -> Replays:
    return Replays(b"k" * 32)


def begin(
    replays: Replays, call: WireCall = CALL, place: Place = PLACE, at: datetime = NOW
) -> WireAnswer | None:
    return replays.begin(place, call, HONORS, at=at)


def trouble(replays: Replays, call: WireCall = CALL, place: Place = PLACE) -> KeyTrouble:
    with pytest.raises(KeyRefused) as refused:
        begin(replays, call, place)
    return refused.value.trouble


def keyed(key: str) -> Place:
    return PLACE._replace(key=key)


@pytest.mark.parametrize("status", [200, 402, 500])
def test_an_answer_is_given_again(replays: Replays, status: int) -> None:
    answer = WireAnswer(status, b"{}", "application/json")
    assert begin(replays) is None
    replays.end(PLACE, answer)
    assert begin(replays) is answer


def test_the_order_of_fields_does_not_matter(replays: Replays) -> None:
    assert begin(replays) is None
    replays.end(PLACE, DONE)
    assert begin(replays, call(f"source%5Bnumber%5D={VISA}&amount=1")) is DONE


@pytest.mark.parametrize(
    "other",
    [
        call(CALL.body.decode(), "/v1/tokens"),
        call(f"amount=2&source[number]={VISA}"),
        call("amount=1"),
        call(f"amount1=&source[number]={VISA}"),
        call("%FF"),
    ],
    ids=["path", "value", "fewer", "name", "unreadable"],
)
def test_another_call_is_refused(replays: Replays, other: WireCall) -> None:
    assert begin(replays) is None
    assert trouble(replays, other) == "reused"
    replays.end(PLACE, DONE)
    assert trouble(replays, other) == "reused"


def test_in_use(replays: Replays) -> None:
    assert begin(replays) is None
    assert trouble(replays) == "in_use"


@pytest.mark.parametrize("answer", [None, replace(DONE, status=400, executed=False)])
def test_what_was_not_carried_out_frees_the_key(
    replays: Replays, answer: WireAnswer | None
) -> None:
    assert begin(replays) is None
    replays.end(PLACE, answer)
    assert begin(replays) is None


@pytest.mark.parametrize("other", [{"account": "acct_2"}, {"processor": "adyen"}])
def test_a_key_is_its_accounts_own(replays: Replays, other: dict[str, str]) -> None:
    assert begin(replays) is None
    assert begin(replays, place=PLACE._replace(**other)) is None


def test_a_key_too_long(replays: Replays) -> None:
    assert begin(replays, place=keyed("k" * 255)) is None
    assert trouble(replays, place=keyed("k" * 256)) == "too_long"


def test_a_day_and_no_longer(replays: Replays) -> None:
    assert begin(replays) is None
    replays.end(PLACE, DONE)
    assert begin(replays, at=NOW + LIFETIME - SECOND) is DONE
    assert begin(replays, at=NOW + LIFETIME) is None


def test_a_key_ends_behind_one_that_lives_longer(replays: Replays) -> None:
    class Long(Stripe):
        key_lifetime = 2 * LIFETIME

    honors = Long({}, new_id=str, now=Clock(), counts=Counts(), fingerprint_key=b"k")
    assert replays.begin(keyed("long"), CALL, honors, at=NOW) is None
    replays.end(keyed("long"), DONE)
    assert begin(replays) is None
    replays.end(PLACE, DONE)
    assert begin(replays, at=NOW + LIFETIME) is None
    assert begin(replays, place=keyed("long"), at=NOW + LIFETIME) is DONE


def test_one_under_way_is_never_forgotten(replays: Replays) -> None:
    assert begin(replays) is None
    assert begin(replays, place=keyed("other"), at=NOW + 2 * LIFETIME) is None
    assert trouble(replays) == "in_use"


def test_only_so_many_are_kept(replays: Replays, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays_module, "KEYS_MAX", 2)
    for key in ("one", "two", "three"):
        assert begin(replays, place=keyed(key)) is None
        replays.end(keyed(key), DONE)
    assert begin(replays, place=keyed("one")) is None


def test_keeps_no_number(replays: Replays) -> None:
    begin(replays)
    assert VISA not in repr(replays._entries)


def test_what_is_kept_needs_its_key_to_be_compared(replays: Replays) -> None:
    others = Replays(b"o" * 32)
    for memory in (replays, others):
        begin(memory)
    assert replays._entries[PLACE].digest != others._entries[PLACE].digest
