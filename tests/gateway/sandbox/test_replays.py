"""What is remembered of idempotency keys."""

from datetime import timedelta

import pytest

from gateway.sandbox import replays as replays_module
from gateway.sandbox.params import Params
from gateway.sandbox.refusals import Refusal
from gateway.sandbox.replays import LIFETIME, Replays
from gateway.sandbox.stripe_api import Answer, Call
from tests.cards import VISA
from tests.gateway.sandbox.harness import NOW

CALL = Call("POST", "/v1/charges", Params([("amount", "1"), ("source[number]", VISA)]))
DONE = Answer(200, b"{}")
SECOND = timedelta(seconds=1)


@pytest.fixture
def replays() -> Replays:
    return Replays(b"k" * 32)


def status_of(replays: Replays, call: Call, key: str = "key") -> tuple[int, str]:
    with pytest.raises(Refusal) as refused:
        replays.begin("acct_1", key, call, at=NOW)
    assert not refused.value.executed
    return refused.value.status, refused.value.error.type


@pytest.mark.parametrize("status", [200, 402, 500])
def test_an_answer_is_given_again(replays: Replays, status: int) -> None:
    answer = Answer(status, b"{}")
    assert replays.begin("acct_1", "key", CALL, at=NOW) is None
    replays.end("acct_1", "key", answer)
    assert replays.begin("acct_1", "key", CALL, at=NOW) is answer


def test_the_order_of_fields_does_not_matter(replays: Replays) -> None:
    assert replays.begin("acct_1", "key", CALL, at=NOW) is None
    replays.end("acct_1", "key", DONE)
    turned = Params([("source[number]", VISA), ("amount", "1")])
    again = Call("POST", "/v1/charges", turned)
    assert replays.begin("acct_1", "key", again, at=NOW) is DONE


@pytest.mark.parametrize(
    "other",
    [
        Call("POST", "/v1/tokens", CALL.params),
        Call("POST", "/v1/charges", Params([("amount", "2"), ("source[number]", VISA)])),
        Call("POST", "/v1/charges", Params([("amount", "1")])),
        Call("POST", "/v1/charges", Params([("amount1", ""), ("source[number]", VISA)])),
    ],
)
def test_another_call_is_refused(replays: Replays, other: Call) -> None:
    assert replays.begin("acct_1", "key", CALL, at=NOW) is None
    assert status_of(replays, other) == (400, "idempotency_error")
    replays.end("acct_1", "key", DONE)
    assert status_of(replays, other) == (400, "idempotency_error")


def test_in_use(replays: Replays) -> None:
    assert replays.begin("acct_1", "key", CALL, at=NOW) is None
    assert status_of(replays, CALL) == (409, "idempotency_error")


@pytest.mark.parametrize("answer", [None, Answer(400, b"{}", executed=False)])
def test_what_was_not_carried_out_frees_the_key(replays: Replays, answer: Answer | None) -> None:
    assert replays.begin("acct_1", "key", CALL, at=NOW) is None
    replays.end("acct_1", "key", answer)
    assert replays.begin("acct_1", "key", CALL, at=NOW) is None


def test_a_key_is_its_accounts_own(replays: Replays) -> None:
    assert replays.begin("acct_1", "key", CALL, at=NOW) is None
    assert replays.begin("acct_2", "key", CALL, at=NOW) is None


def test_a_key_too_long(replays: Replays) -> None:
    assert replays.begin("acct_1", "k" * 255, CALL, at=NOW) is None
    assert status_of(replays, CALL, "k" * 256)[0] == 400


def test_a_day_and_no_longer(replays: Replays) -> None:
    assert replays.begin("acct_1", "key", CALL, at=NOW) is None
    replays.end("acct_1", "key", DONE)
    assert replays.begin("acct_1", "key", CALL, at=NOW + LIFETIME - SECOND) is DONE
    assert replays.begin("acct_1", "key", CALL, at=NOW + LIFETIME) is None


def test_one_under_way_is_never_forgotten(replays: Replays) -> None:
    assert replays.begin("acct_1", "key", CALL, at=NOW) is None
    assert replays.begin("acct_1", "other", CALL, at=NOW + 2 * LIFETIME) is None
    assert status_of(replays, CALL)[0] == 409


def test_only_so_many_are_kept(replays: Replays, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays_module, "KEYS_MAX", 2)
    for key in ("one", "two", "three"):
        assert replays.begin("acct_1", key, CALL, at=NOW) is None
        replays.end("acct_1", key, DONE)
    assert replays.begin("acct_1", "one", CALL, at=NOW) is None


def test_keeps_no_number(replays: Replays) -> None:
    replays.begin("acct_1", "key", CALL, at=NOW)
    assert VISA not in repr(replays._entries)


def test_what_is_kept_needs_its_key_to_be_compared(replays: Replays) -> None:
    others = Replays(b"o" * 32)
    for memory in (replays, others):
        memory.begin("acct_1", "key", CALL, at=NOW)
    place = ("acct_1", "key")
    assert replays._entries[place].digest != others._entries[place].digest
