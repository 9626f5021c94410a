"""The fold: every pair of states, what one entry says of another's request, what is not told."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vault.ledger.samples import new_actor, new_token, new_uuid
from vault.authorization import MAY_FOLLOW, Finding, Kind, Result, State
from vault.ledger.entry import (
    Actor,
    AuthorizationAttempted,
    AuthorizationCompleted,
    AuthorizationNotSent,
    AuthorizationResolved,
    AuthorizationUnknown,
    OfIntent,
    Opening,
    Stamp,
    decode,
    encode,
)
from vault.ledger.forms import base64url
from vault.ledger.states import (
    Illegal,
    Request,
    Send,
    States,
    Words,
    digest_value,
    telling,
    time_of,
)
from vault.ledger.tree import leaf_hash

AT = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
REPLICA = "r_7k2m9x4d-0"
ACTOR = new_actor()
OUTCOMES: Mapping[State, tuple[type[OfIntent], dict[str, Any]]] = {
    State.COMPLETED: (AuthorizationCompleted, {"result": Result.APPROVED, "status": 201, "ms": 1}),
    State.NOT_SENT: (AuthorizationNotSent, {"phase": "dns", "reason": "upstream_dns"}),
    State.UNKNOWN: (AuthorizationUnknown, {"phase": "sent", "reason": "upstream_timeout"}),
    State.RESOLVED: (
        AuthorizationResolved,
        {"method": "inquiry", "finding": Finding.ANSWERED, "result": Result.DECLINED},
    ),
}
ENDED = [state for state in State if not MAY_FOLLOW[state]]


@dataclass
class Log:
    """Entries as they are read, fed as they are written; each batch has its time."""

    states: States = field(default_factory=States)
    boot: str = field(default_factory=new_uuid)
    size: int = 10
    at: datetime = AT

    def feed(self, draft: OfIntent, words: Words | None = None, *, at_once: bool = False) -> int:
        """Append; `at_once` with the entry before."""
        if not at_once:
            self.at += timedelta(seconds=1)
        body = encode(draft, Stamp(self.at, REPLICA, self.boot, self.size))
        entry = decode(body)
        assert isinstance(entry, OfIntent)
        index, self.size = self.size, self.size + 1
        self.states.feed(index, leaf_hash(body), entry, words)
        return index

    def opens(self, words: Words | None = None, **changes: object) -> str:
        intent = new_uuid()
        fields: dict[str, Any] = {
            "id": intent,
            "intent": intent,
            "actor": ACTOR,
            "tenant": "t_01",
            "kind": Kind.CAPTURE,
            "attempt": 1,
            "route": "stripe",
            "operation": "capture",
            "opens": (),
            **changes,
        }
        self.feed(AuthorizationAttempted(**fields), {} if words is None else words)
        return intent

    def repeats(self, first: str, attempt: int) -> str:
        return self.opens(of=first, attempt=attempt)

    def ends(
        self,
        intent: str,
        state: State,
        words: Words | None = None,
        *,
        at_once: bool = False,
        **changes: object,
    ) -> int:
        entry_type, fields = OUTCOMES[state]
        draft = entry_type(
            id=new_uuid(),
            intent=intent,
            tenant="t_01",
            **{"actor": ACTOR, **fields, **changes},
        )
        return self.feed(draft, {} if words is None else words, at_once=at_once)

    def erased(self, intent: str, state: State) -> int:
        entry_type, fields = OUTCOMES[state]
        draft = entry_type(id=new_uuid(), intent=intent, tenant="t_01", actor=ACTOR, **fields)
        return self.feed(draft, None)

    def send(self, intent: str) -> Send:
        return self.states.sends[intent]

    def request(self, first: str) -> Request:
        return self.states.requests[first]


def in_state(log: Log, state: State) -> str:
    intent = log.opens()
    if state is State.RESOLVED:
        log.ends(intent, State.UNKNOWN)
    if state is not State.ATTEMPTED:
        log.ends(intent, state)
    return intent


# --- intents --------------------------------------------------------------------------------


def test_what_an_intent_says() -> None:
    log = Log()
    one, two = new_token(), new_token()
    opens = (
        Opening(key="pan", token=one, version=1),
        Opening(key="cvc", token=one, version=1),
        Opening(key="pan", token=two, version=1),
    )
    digest = bytes(range(32))
    words: Words = {
        "amount": 1999,
        "currency": "EUR",
        "merchant_reference": "order-1",
        "idempotency_digest": f"3:{base64url(digest)}",
        "host": "api.example:443",
    }
    intent = log.opens(words, opens=opens)
    send, request = log.send(intent), log.request(intent)
    assert (send.state, send.attempt, send.tokens, send.opens_cvc) == (
        State.ATTEMPTED, 1, [one, two], True,
    )  # fmt: skip
    assert (send.opened_idx, send.last_idx, send.replica, send.boot) == (10, 10, REPLICA, log.boot)
    milliseconds = log.at.replace(microsecond=678_000)
    assert (send.opened_at, send.ended_at) == (milliseconds, None)
    assert (request.state, request.kind, request.operation, request.idx) == (
        State.ATTEMPTED, "capture", "capture", 10,
    )  # fmt: skip
    assert (request.amount, request.currency, request.merchant_reference, request.key_digest) == (
        1999, "EUR", "order-1", digest,
    )  # fmt: skip
    assert request.created_at == request.updated_at == milliseconds
    assert send.untold == request.untold == set()


def test_a_repeat_begins_again_and_changes_no_word_of_the_first() -> None:
    log = Log()
    first = log.opens({"amount": 1999, "currency": "EUR"})
    log.ends(first, State.COMPLETED, {"decline_code": "x", "processor_reference": "pi_1"})
    created = log.request(first).created_at
    repeat = log.opens({"amount": 5}, of=first, attempt=2, route="other", operation="o")
    request = log.request(first)
    assert (request.state, request.result, request.decline_code) == (State.ATTEMPTED, None, None)
    assert (request.amount, request.route, request.operation) == (1999, "stripe", "capture")
    assert (request.processor_reference, request.created_at) == ("pi_1", created)
    assert (request.idx, request.updated_at) == (12, log.send(repeat).opened_at)
    assert (log.send(repeat).first, log.send(repeat).attempt) == (first, 2)


def test_an_intent_comes_once() -> None:
    log = Log()
    intent = log.opens()
    with pytest.raises(Illegal):
        log.opens(id=intent, intent=intent)


# --- outcomes -------------------------------------------------------------------------------


@pytest.mark.guards("T-61")
@pytest.mark.parametrize(("state", "following"), list(product(State, OUTCOMES)))
def test_only_what_may_follow_follows(state: State, following: State) -> None:
    log = Log()
    intent = in_state(log, state)
    before = repr(log.states.sends), repr(log.states.requests)
    if following in MAY_FOLLOW[state]:
        index = log.ends(intent, following)
        assert (log.send(intent).state, log.send(intent).last_idx) == (following, index)
        assert (log.request(intent).state, log.request(intent).idx) == (following, index)
    else:
        with pytest.raises(Illegal):
            log.ends(intent, following)
        assert (repr(log.states.sends), repr(log.states.requests)) == before


@pytest.mark.guards("T-61")
@pytest.mark.parametrize("state", State)
def test_evidence_against_an_outcome_names_it(state: State) -> None:
    log = Log()
    intent = in_state(log, state)
    last = log.send(intent).last_idx
    for wrong in (last - 1, last + 1):
        with pytest.raises(Illegal):
            log.ends(intent, State.RESOLVED, supersedes=wrong)
    if state not in ENDED:
        with pytest.raises(Illegal):
            log.ends(intent, State.RESOLVED, supersedes=last)
        return
    index = log.ends(intent, State.RESOLVED, supersedes=last)
    assert (log.send(intent).state, log.send(intent).result) == (State.RESOLVED, Result.DECLINED)
    assert log.request(intent).idx == index
    log.ends(intent, State.RESOLVED, supersedes=index, result=Result.APPROVED)
    assert log.request(intent).result == Result.APPROVED


def test_an_outcome_has_an_intent() -> None:
    with pytest.raises(Illegal):
        Log().ends(new_uuid(), State.COMPLETED)


def test_what_outcomes_say_of_a_send() -> None:
    log = Log()
    intent = log.opens()
    log.ends(intent, State.UNKNOWN, status=200)
    send = log.send(intent)
    assert (send.phase, send.reason, send.status, send.result) == (
        "sent", "upstream_timeout", 200, None,
    )  # fmt: skip
    log.ends(intent, State.RESOLVED)
    assert (send.phase, send.reason, send.status) == (None, None, 200)  # it says of no other
    assert (send.finding, send.result) == (Finding.ANSWERED, Result.DECLINED)
    assert send.ended_at == time_of("2026-01-02T03:04:08.678Z")
    other = log.opens()
    log.ends(other, State.NOT_SENT)
    assert (log.send(other).phase, log.send(other).reason) == ("dns", "upstream_dns")
    assert log.send(other).status is None


@pytest.mark.guards("T-61")
@pytest.mark.parametrize(
    ("sends", "told"),
    [
        ("approved attempted", 1),
        ("attempted unknown", 0),
        ("unknown approved", 0),
        ("unknown attempted unknown", 1),
        ("unknown unknown", 1),
        ("not_sent approved", 1),
        ("approved not_sent", 0),
        ("approved error", 0),
        ("error not_sent", 1),
        ("approved declined", 1),
    ],
)
def test_which_send_tells(sends: str, told: int) -> None:
    made = []
    for attempt, word in enumerate(sends.split(), start=1):
        log = Log()
        send = log.send(log.opens())
        send.attempt = attempt
        if word in set(State):
            send.state = State(word)
        else:
            send.state, send.result = State.COMPLETED, Result(word)
        made.append(send)
    assert telling(made) is made[told]
    assert telling(made[::-1]) is made[told]


# --- what is appended at once ---------------------------------------------------------------

WORDS: Words = {"processor_reference": "pi_2", "decline_code": "no", "authorization_code": "A2"}


def doubted(log: Log, sends: int) -> list[str]:
    intents = [log.opens()]
    log.ends(intents[0], State.UNKNOWN)
    for attempt in range(2, sends + 1):
        intents.append(log.repeats(intents[0], attempt))
        log.ends(intents[-1], State.UNKNOWN)
    return intents


@pytest.mark.guards("T-61")
def test_the_answer_to_a_repeat_settles_what_was_in_doubt() -> None:
    log = Log()
    first, second = doubted(log, 2)
    third = log.repeats(first, 3)
    own = log.ends(third, State.COMPLETED, WORDS)
    assert log.request(first).state is State.UNKNOWN
    assert log.request(first).decline_code is None
    for intent in (first, second):
        log.ends(
            intent, State.RESOLVED, {"decline_code": "other"}, at_once=True,
            method="replay", result=Result.APPROVED,
        )  # fmt: skip
    request = log.request(first)
    assert (request.idx, request.state, request.result) == (own, "completed", "approved")
    assert (request.processor_reference, request.decline_code) == ("pi_2", "no")
    assert request.updated_at == log.send(third).ended_at
    assert [log.send(one).state for one in (first, second)] == ["resolved", "resolved"]


@pytest.mark.guards("T-61")
def test_evidence_settles_all_sends_of_a_request() -> None:
    log = Log()
    reconciler = Actor(id="reconciler", kind="system")
    first, second = doubted(log, 2)
    own = log.ends(second, State.RESOLVED, WORDS, actor=reconciler)
    log.ends(first, State.RESOLVED, {"processor_reference": "x"}, actor=reconciler, at_once=True)
    request = log.request(first)
    assert (request.idx, request.state, request.processor_reference) == (own, "resolved", "pi_2")


@pytest.mark.parametrize(
    "changes",
    [
        {"at_once": False},
        {"actor": new_actor()},
        {"method": "callback"},
        {"finding": Finding.NOT_SENT, "result": Result.ERROR},
    ],
)
def test_what_was_not_appended_at_once_speaks_for_itself(changes: dict[str, Any]) -> None:
    log = Log()
    first, second = doubted(log, 2)
    log.ends(second, State.RESOLVED, WORDS)
    words = {"processor_reference": "pi_9"}
    index = log.ends(first, State.RESOLVED, words, **{"at_once": True, **changes})
    request = log.request(first)
    assert (request.idx, request.processor_reference) == (index, "pi_9")


def test_another_request_s_outcome_is_its_own() -> None:
    log = Log()
    (one,), (two,) = doubted(log, 1), doubted(log, 1)
    log.ends(one, State.RESOLVED)
    index = log.ends(two, State.RESOLVED, at_once=True)
    assert log.request(two).idx == index
    assert log.request(one).idx == index - 1


# --- what is not told -----------------------------------------------------------------------


def test_what_erased_details_said_is_not_told() -> None:
    log = Log()
    intent = new_uuid()
    draft = AuthorizationAttempted(
        id=intent, intent=intent, actor=ACTOR, tenant="t_01", kind=Kind.CAPTURE, attempt=1,
        route="stripe", operation="capture", opens=(),
    )  # fmt: skip
    log.feed(draft, None)
    of_call = {"amount", "currency", "merchant_reference", "key_digest"}
    assert log.request(intent).untold == of_call
    log.erased(intent, State.COMPLETED)
    of_reply = {"processor_reference", "decline_code", "authorization_code"}
    assert log.request(intent).untold == of_call | of_reply
    assert log.send(intent).untold == set()
    log.repeats(intent, 2)
    assert log.request(intent).untold == of_call | {"processor_reference"}  # what was known stays


def test_what_is_told_again_is_told() -> None:
    log = Log()
    intent = log.opens()
    log.ends(intent, State.UNKNOWN, {"processor_reference": "pi_1"})
    log.erased(intent, State.RESOLVED)
    request = log.request(intent)
    assert request.untold == {"processor_reference", "decline_code", "authorization_code"}
    assert request.processor_reference is None
    repeat = log.repeats(intent, 2)
    log.ends(repeat, State.COMPLETED, {"authorization_code": "A1"})
    assert request.untold == {"processor_reference"}
    third = log.repeats(intent, 3)
    log.ends(third, State.COMPLETED, {"processor_reference": "pi_3"})
    assert log.request(intent).processor_reference == "pi_3"
    assert not log.request(intent).untold


def test_why_a_resolved_send_had_not_left_is_not_told() -> None:
    log = Log()
    intent = in_state(log, State.RESOLVED)
    assert log.send(intent).untold == {"phase", "reason"}


# --- values ---------------------------------------------------------------------------------


@given(st.binary(min_size=1, max_size=64), st.integers(1, 99))
def test_a_keyed_digest_is_read_back(value: bytes, version: int) -> None:
    assert digest_value(f"{version}:{base64url(value)}") == value


@pytest.mark.parametrize("text", ["1:a", "1:\u20ac"])
def test_what_is_no_digest(text: str) -> None:
    assert digest_value(text) is None


@pytest.mark.parametrize("ts", ["2026-02-30T00:00:00.000Z", "0000-01-01T00:00:00.000Z"])
def test_a_day_that_no_month_has(ts: str) -> None:
    log = Log()
    intent = log.opens()
    body = json.loads(
        encode(
            AuthorizationNotSent(
                id=new_uuid(), intent=intent, tenant="t_01", actor=ACTOR, phase="dns",
                reason="upstream_dns",
            ),
            Stamp(AT, REPLICA, log.boot, 1),
        )
    )  # fmt: skip
    raw = json.dumps(body | {"ts": ts}, separators=(",", ":"), sort_keys=True).encode()
    entry = decode(raw)
    assert isinstance(entry, AuthorizationNotSent)
    with pytest.raises(Illegal):
        log.states.feed(99, leaf_hash(raw), entry, {})
    assert log.send(intent).state is State.ATTEMPTED


def test_words_of_another_kind_say_nothing() -> None:
    log = Log()
    request = log.request(log.opens({"amount": "1999", "currency": 978}))
    assert (request.amount, request.currency, request.key_digest) == (None, None, None)
