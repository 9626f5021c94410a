"""The claim table of the design, cell by cell: what a key that was used before gets."""

import asyncio

import pytest

from tests.cards import AMEX, DECLINED
from tests.flows.conftest import Witness
from tests.flows.deployment import Deployment, Store
from tests.flows.merchant import (
    INTENTS,
    METHODS,
    Merchant,
    form,
    method,
    new_idempotency_key,
    payment,
)
from tests.flows.processor import ProcessorControl
from tests.flows.replica import Replica
from tests.flows.wire import Reply

pytestmark = [pytest.mark.embedded, pytest.mark.guards("T-26")]

CODE_IS_CLAIMED = "SELECT claimed_by IS NOT NULL FROM cvc WHERE token = $1"
A_DAY_LATER = (
    "UPDATE intent_state SET opened_at = opened_at - interval '25 hours' WHERE $1 = ANY(tokens)"
)


def is_refused(reply: Reply) -> bool:
    """Whether it is Stripe's answer to a key that was used for something else."""
    return (
        reply.status == 400
        and reply.error["type"] == "idempotency_error"
        and reply.error["code"] == "idempotency_key_reused"
        and reply.headers["Stripe-Should-Retry"] == "false"
    )


async def attempts(shop: Merchant, key: str) -> list[str]:
    """List the states of all attempts under a key."""
    found = (await shop.api("GET", f"/v1/authorizations?idempotency_key={key}")).json()["data"]
    assert len(found) <= 1
    return [each["state"] for one in found for each in one["attempts"]]


# --- open ---------------------------------------------------------------------------------


async def test_while_the_first_is_under_way(shop: Merchant, processor: ProcessorControl) -> None:
    token, key = await shop.token(), new_idempotency_key()
    before = processor.counts
    processor.do("hold")
    first = asyncio.create_task(shop.pay(payment(token), key=key))
    await asyncio.to_thread(processor.until_held, before)

    again = await shop.pay(payment(token), key=key)
    assert (again.status, again.error["type"]) == (409, "idempotency_error")
    assert again.error["code"] == "idempotency_key_in_flight"
    assert again.headers["Stripe-Should-Retry"] == "true"
    assert int(again.headers["Retry-After"]) >= 1
    other = await shop.pay(payment(token) | {"amount": 1}, key=key)
    assert is_refused(other)
    assert await attempts(shop, key) == ["attempted"]

    processor.do("release")
    assert (await first).status == 200
    assert processor.counts.requests == before.requests + 1
    assert (await shop.pay(payment(token), key=key)).body == (await first).body


async def test_while_the_first_is_under_way_at_another_replica(
    shop: Merchant, replica: Replica, processor: ProcessorControl
) -> None:
    token, key = await shop.token(), new_idempotency_key()
    there = shop.at(replica.urls)
    before = processor.counts
    processor.do("hold")
    first = asyncio.create_task(shop.pay(payment(token), key=key))
    await asyncio.to_thread(processor.until_held, before)
    assert (await there.pay(payment(token), key=key)).status == 409
    processor.do("release")
    answer = await first
    replayed = await there.pay(payment(token), key=key)
    assert (replayed.status, replayed.body) == (200, answer.body)
    assert replayed.headers["Idempotent-Replayed"] == "true"
    assert processor.counts.requests == before.requests + 1


@pytest.mark.guards("T-27")
async def test_fifty_at_once_are_one_execution(
    shop: Merchant, processor: ProcessorControl, store: Store
) -> None:
    token, key = await shop.token(), new_idempotency_key()
    before = processor.counts
    replies = await asyncio.gather(*(shop.pay(payment(token), key=key) for _ in range(50)))
    after = processor.counts
    assert (after.requests - before.requests, after.charges - before.charges) == (1, 1)
    assert await attempts(shop, key) == ["completed"]
    answered = [reply for reply in replies if reply.status == 200]
    assert len({reply.body for reply in answered}) == 1
    assert sum("Idempotent-Replayed" not in reply.headers for reply in answered) == 1
    assert {reply.status for reply in replies} <= {200, 409}
    sql = "SELECT count(*) FROM intent_state WHERE $1 = ANY(tokens)"
    assert await store.fetchval(sql, token) == 1


@pytest.mark.guards("T-27")
async def test_fifty_at_once_at_two_replicas_are_one_execution(
    shop: Merchant, replica: Replica, processor: ProcessorControl
) -> None:
    token, key = await shop.token(), new_idempotency_key()
    before = processor.counts
    both = (shop, shop.at(replica.urls)) * 25
    replies = await asyncio.gather(*(each.pay(payment(token), key=key) for each in both))
    assert processor.counts.requests == before.requests + 1
    assert {reply.status for reply in replies} <= {200, 409}


async def test_without_a_key_each_call_is_its_own(
    shop: Merchant, processor: ProcessorControl
) -> None:
    token = await shop.token()
    before = processor.counts
    replies = await asyncio.gather(*(shop.pay(payment(token)) for _ in range(5)))
    assert processor.counts.charges == before.charges + 5
    assert len({reply.headers["Panward-Authorization"] for reply in replies}) == 5


# --- terminal -----------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["approved", "declined", "error", "stored"])
async def test_what_ended_is_answered_again(
    shop: Merchant, processor: ProcessorControl, which: str
) -> None:
    token = await shop.token(*([DECLINED] if which == "declined" else []))
    fields = payment(token)
    path = INTENTS
    if which == "error":
        fields["currency"] = "euro"
    if which == "stored":
        fields, path = method(token), METHODS
    key = new_idempotency_key()
    first = await shop.out(path, fields, key=key)
    before = processor.counts
    again = await shop.out(path, fields, key=key)
    assert processor.counts == before
    assert (again.status, again.body) == (first.status, first.body)
    assert first.status == {"approved": 200, "declined": 402, "error": 400, "stored": 200}[which]
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    for name in ("Panward-Authorization", "Panward-State", "Panward-Processor-Status"):
        assert again.headers[name] == first.headers[name]
    assert again.headers["Request-Id"] == first.headers["Request-Id"]
    assert (await shop.authorization(first))["result"] == which
    other = await shop.out(path, fields | {"metadata[a]": "b"}, key=key)
    assert is_refused(other)
    assert processor.counts == before


async def test_what_makes_two_requests_the_same(shop: Merchant, nothing_happens: Witness) -> None:
    """Method, path, query and body; not the caller's other headers."""
    token, key = await shop.token(), new_idempotency_key()
    assert (await shop.pay(payment(token), key=key)).status == 200
    async with nothing_happens():
        headers = {"Stripe-Version": "2024-06-20", "User-Agent": "another"}
        same = await shop.out(INTENTS, payment(token), key=key, headers=headers)
        assert same.headers["Idempotent-Replayed"] == "true"
        shuffled = dict(reversed(payment(token).items()))
        assert is_refused(await shop.pay(shuffled, key=key))
        assert is_refused(await shop.out(f"{INTENTS}?a=1", payment(token), key=key))
        assert is_refused(await shop.out(METHODS, method(token), key=key))
        encoded = form(payment(token), encode_brackets=True)
        assert is_refused(await shop.out(INTENTS, encoded, key=key))


async def test_a_key_belongs_to_a_route(
    shop: Merchant, replica: Replica, processor: ProcessorControl
) -> None:
    token, key = await shop.token(), new_idempotency_key()
    there = shop.at(replica.urls)
    before = processor.counts.requests
    one = await there.out(METHODS, method(token), key=key)
    two = await there.out(METHODS, method(token), key=key, route="quick")
    assert one.headers["Panward-Authorization"] != two.headers["Panward-Authorization"]
    assert "Idempotent-Replayed" not in two.headers or processor.counts.requests == before + 2
    assert processor.counts.requests == before + 2


async def test_a_stored_answer_is_sealed_and_has_no_card(
    shop: Merchant, store: Store, processor: ProcessorControl
) -> None:
    token, key = await shop.token(), new_idempotency_key()
    processor.do("echo_numbers")
    reply = await shop.pay(payment(token) | {"metadata[mark]": "plain-text-mark"}, key=key)
    intent = (await shop.authorization(reply))["attempts"][0]["intent"]
    row = await store.fetchrow("SELECT * FROM answer WHERE intent = $1::text::uuid", intent)
    assert row is not None
    assert row["ciphertext"].startswith("vault:v")
    assert "plain-text-mark" not in str(dict(row))
    days = (row["expires_at"] - (await store.fetchval("SELECT now()"))).total_seconds() / 86_400
    assert 6.9 < days <= 7


async def test_of_a_large_answer_status_and_reference_are_kept(
    shop: Merchant, processor: ProcessorControl
) -> None:
    token, key = await shop.token(), new_idempotency_key()
    fields = payment(token) | {"metadata[long]": "x" * 70_000}
    first = await shop.pay(fields, key=key)
    assert len(first.body) > 65_536
    before = processor.counts
    again = await shop.pay(fields, key=key)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (again.status, again.json()) == (200, {"id": first.json()["id"]})
    assert processor.counts == before


# --- not executed -------------------------------------------------------------------------


@pytest.mark.guards("F-25")
@pytest.mark.parametrize("status", [401, 403, 429])
async def test_what_the_processor_did_not_execute_frees_the_key(
    shop: Merchant, processor: ProcessorControl, status: int
) -> None:
    token, key = await shop.token(), new_idempotency_key()
    processor.do("fail_next", status=status)
    before = processor.counts
    first = await shop.pay(payment(token), key=key)
    assert first.status == status
    assert first.state == "completed"
    assert is_refused(await shop.pay(payment(token) | {"amount": 1}, key=key))
    again = await shop.pay(payment(token), key=key)
    assert (again.status, again.json()["status"]) == (200, "succeeded")
    assert processor.counts.charges == before.charges + 1
    record = await shop.authorization(again)
    assert again.headers["Panward-Authorization"] == first.headers["Panward-Authorization"]
    assert [each["state"] for each in record["attempts"]] == ["completed", "completed"]
    assert [each["result"] for each in record["attempts"]] == ["error", "approved"]
    third = await shop.pay(payment(token), key=key)
    assert third.headers["Idempotent-Replayed"] == "true"


async def test_what_was_not_sent_frees_the_key(
    shop: Merchant, store: Store, processor: ProcessorControl
) -> None:
    token, good, key = await shop.token(), await shop.token(), new_idempotency_key()
    sealed = await store.fetchval("SELECT ciphertext FROM token WHERE id = $1", token)
    change = "UPDATE token SET ciphertext = $2 WHERE id = $1"
    await store.execute(change, token, "vault:v1:AAAA")
    first = await shop.pay(payment(token), key=key)
    assert first.state == "not_sent"
    assert is_refused(await shop.pay(payment(good), key=key))
    await store.execute(change, token, sealed)
    again = await shop.pay(payment(token), key=key)
    assert again.status == 200
    assert again.headers["Panward-Authorization"] == first.headers["Panward-Authorization"]
    record = await shop.authorization(again)
    assert [each["state"] for each in record["attempts"]] == ["not_sent", "completed"]
    assert record["state"] == "completed"


async def test_what_never_had_an_intent_frees_the_key(
    shop: Merchant, other_shop: Merchant, nothing_happens: Witness
) -> None:
    """Refused before it was on record: the key may even be used for something else."""
    foreign, key = await other_shop.token(), new_idempotency_key()
    async with nothing_happens():
        refused = await shop.pay(payment(foreign), key=key)
    assert refused.error["code"] == "token_unknown"
    assert (await shop.pay(payment(await shop.token()), key=key)).status == 200


# --- unknown ------------------------------------------------------------------------------


@pytest.mark.guards("F-24")
async def test_an_unknown_one_is_sent_again_under_the_same_key(
    shop: Merchant, processor: ProcessorControl, deployment: Deployment
) -> None:
    token, key = await shop.token(), new_idempotency_key()
    before = processor.counts
    processor.do("lose_next_answer")
    first = await shop.pay(payment(token, cvc="000"), key=key)
    assert (first.status, first.error["type"]) == (502, "api_error")
    assert first.error["code"] == "upstream_reset"
    assert first.state == "unknown"
    assert first.headers["Stripe-Should-Retry"] == "true"
    assert "Panward-Processor-Status" not in first.headers
    assert await attempts(shop, key) == ["unknown"]
    assert is_refused(await shop.pay(payment(token, cvc="000") | {"amount": 1}, key=key))

    again = await shop.pay(payment(token, cvc="000"), key=key)
    assert (again.status, again.state) == (200, "completed")
    assert again.headers["Idempotent-Replayed"] == "true"  # the processor's own word
    assert processor.counts.charges == before.charges + 1
    assert [call["idempotency_key"] for call in processor.received[-2:]] == [key, key]
    record = await shop.authorization(again)
    assert [each["state"] for each in record["attempts"]] == ["resolved", "completed"]
    assert [each["attempt"] for each in record["attempts"]] == [1, 2]
    third = await shop.pay(payment(token, cvc="000"), key=key)
    assert (third.status, third.body) == (again.status, again.body)
    assert processor.counts.charges == before.charges + 1


async def test_an_unknown_one_stays_unknown_until_somebody_answers(
    shop: Merchant, processor: ProcessorControl
) -> None:
    token, key = await shop.token(), new_idempotency_key()
    before = processor.counts
    for _ in range(3):
        processor.do("lose_next_answer")
        lost = await shop.pay(payment(token), key=key)
        assert (lost.status, lost.state) == (502, "unknown")
    assert await attempts(shop, key) == ["unknown"] * 3
    assert (await shop.pay(payment(token), key=key)).status == 200
    assert await attempts(shop, key) == ["resolved"] * 3 + ["completed"]
    assert processor.counts.charges == before.charges + 1


async def test_an_unknown_one_is_not_sent_twice_at_once(
    shop: Merchant, processor: ProcessorControl
) -> None:
    token, key = await shop.token(), new_idempotency_key()
    processor.do("lose_next_answer")
    assert (await shop.pay(payment(token), key=key)).state == "unknown"
    before = processor.counts
    replies = await asyncio.gather(*(shop.pay(payment(token), key=key) for _ in range(20)))
    assert processor.counts.requests == before.requests + 1
    assert {reply.status for reply in replies} <= {200, 409}


async def test_an_unknown_one_whose_code_is_over_is_not_sent_again(
    shop: Merchant, store: Store, processor: ProcessorControl, nothing_happens: Witness
) -> None:
    token, key = await shop.token(), new_idempotency_key()
    processor.do("lose_next_answer")
    await shop.pay(payment(token, cvc="000"), key=key)
    await store.execute("UPDATE cvc SET expires_at = now() WHERE token = $1", token)
    async with nothing_happens():
        reply = await shop.pay(payment(token, cvc="000"), key=key)
    assert (reply.status, reply.error["code"]) == (502, "outcome_unknown")
    assert reply.state == "unknown"
    assert reply.headers["Stripe-Should-Retry"] == "false"


@pytest.mark.guards("F-23")
async def test_where_no_replay_is_declared_an_unknown_one_is_not_sent_again(
    shop: Merchant, replica: Replica, processor: ProcessorControl, nothing_happens: Witness
) -> None:
    there = shop.at(replica.urls)
    token, key = await there.token(), new_idempotency_key()
    processor.do("lose_next_answer")
    first = await there.pay(payment(token), key=key, route="once")
    assert (first.status, first.state) == (502, "unknown")
    assert first.headers["Stripe-Should-Retry"] == "false"
    async with nothing_happens():
        again = await there.pay(payment(token), key=key, route="once")
        assert (again.status, again.error["code"]) == (502, "outcome_unknown")
        assert again.headers["Stripe-Should-Retry"] == "false"
        assert is_refused(await there.pay(payment(token) | {"amount": 1}, key=key, route="once"))


async def test_an_unknown_one_without_a_key_is_not_repeatable(
    shop: Merchant, processor: ProcessorControl
) -> None:
    token = await shop.token()
    processor.do("lose_next_answer")
    reply = await shop.pay(payment(token))
    assert (reply.status, reply.state) == (502, "unknown")
    assert reply.headers["Stripe-Should-Retry"] == "false"
    assert (await shop.authorization(reply))["state"] == "unknown"


# --- unknown, and the repeat fares no better -----------------------------------------------
#
# What happens to a repeat says nothing about the first request, which may have been charged.


async def made_unknown(shop: Merchant, processor: ProcessorControl, key: str) -> str:
    """Pay with a code, charge it, lose the answer; give the token."""
    token = await shop.token(AMEX)
    processor.do("lose_next_answer")
    lost = await shop.pay(payment(token, cvc="000"), key=key)
    assert lost.state == "unknown"
    return token


async def test_a_repeat_that_was_not_sent_leaves_it_unknown(
    shop: Merchant, processor: ProcessorControl, store: Store, nothing_happens: Witness
) -> None:
    key, before = new_idempotency_key(), processor.counts.charges
    token = await made_unknown(shop, processor, key)
    sealed = await store.fetchval("SELECT ciphertext FROM token WHERE id = $1", token)
    change = "UPDATE token SET ciphertext = $2 WHERE id = $1"
    await store.execute(change, token, "vault:v1:AAAA")
    repeat = await shop.pay(payment(token, cvc="000"), key=key)
    assert (repeat.status, repeat.state) == (500, "unknown")
    record = await shop.authorization(repeat)
    assert record["state"] == "unknown"
    assert [each["state"] for each in record["attempts"]] == ["unknown", "not_sent"]
    assert await store.fetchval(CODE_IS_CLAIMED, token)

    await store.execute(change, token, sealed)
    refused = await shop.pay(payment(token, cvc="000"))
    assert refused.error["code"] == "cvc_expired"
    replayed = await shop.pay(payment(token, cvc="000"), key=key)
    assert replayed.status == 200
    record = await shop.authorization(replayed)
    assert [each["state"] for each in record["attempts"]] == ["resolved", "not_sent", "completed"]
    assert processor.counts.charges == before + 1
    async with nothing_happens():
        again = await shop.pay(payment(token, cvc="000"), key=key)
    assert (again.status, again.body) == (200, replayed.body)


async def test_a_repeat_that_was_not_sent_does_not_lengthen_the_processors_memory(
    shop: Merchant, processor: ProcessorControl, store: Store, nothing_happens: Witness
) -> None:
    """A day later the processor has forgotten the key: it would charge again."""
    key = new_idempotency_key()
    token = await made_unknown(shop, processor, key)
    sealed = await store.fetchval("SELECT ciphertext FROM token WHERE id = $1", token)
    change = "UPDATE token SET ciphertext = $2 WHERE id = $1"
    await store.execute(change, token, "vault:v1:AAAA")
    await shop.pay(payment(token, cvc="000"), key=key)
    await store.execute(change, token, sealed)
    await store.execute(A_DAY_LATER, token)
    async with nothing_happens():
        late = await shop.pay(payment(token, cvc="000"), key=key)
    assert (late.status, late.error["code"]) == (502, "outcome_unknown")
    assert late.state == "unknown"


async def test_a_repeat_that_was_not_executed_leaves_it_unknown(
    shop: Merchant, processor: ProcessorControl, store: Store
) -> None:
    """The first may have arrived, as far as anybody here knows; "too busy" is about the second."""
    key, token = new_idempotency_key(), await shop.token(AMEX)
    before = processor.counts.charges
    fields = payment(token, cvc="000")
    processor.do("close_before_reading")
    assert (await shop.pay(fields, key=key)).state == "unknown"
    processor.do("fail_next", status=429)
    busy = await shop.pay(fields, key=key)
    assert (busy.status, busy.state) == (429, "unknown")
    record = await shop.authorization(busy)
    assert (record["state"], record["result"]) == ("unknown", None)
    assert [each["state"] for each in record["attempts"]] == ["unknown", "completed"]
    assert await store.fetchval(CODE_IS_CLAIMED, token)
    replayed = await shop.pay(fields, key=key)
    assert (replayed.status, replayed.state) == (200, "completed")
    assert processor.counts.charges == before + 1
    record = await shop.authorization(replayed)
    assert [each["state"] for each in record["attempts"]] == ["resolved", "completed", "completed"]


async def test_a_repeat_whose_token_is_gone_leaves_it_unknown(
    shop: Merchant, processor: ProcessorControl, nothing_happens: Witness
) -> None:
    key, token = new_idempotency_key(), await shop.token()
    processor.do("lose_next_answer")
    assert (await shop.pay(payment(token), key=key)).state == "unknown"
    assert (await shop.api("DELETE", f"/v1/tokens/{token}")).status == 204
    async with nothing_happens():
        repeat = await shop.pay(payment(token), key=key)
    assert (repeat.status, repeat.error["code"]) == (502, "outcome_unknown")
    assert repeat.state == "unknown"
    assert repeat.headers["Stripe-Should-Retry"] == "false"


async def test_a_key_is_each_connected_account_s_own(shop: Merchant) -> None:
    """Stripe keeps keys by account: another one under the same key is another payment."""
    token, key = await shop.token(), new_idempotency_key()

    async def pay(account: str) -> str:
        headers = {"Stripe-Account": account}
        reply = await shop.out(INTENTS, payment(token), key=key, headers=headers)
        assert reply.status == 200, reply.body
        return reply.headers["Panward-Authorization"]

    first = await pay("acct_a")
    assert await pay("acct_b") != first
    assert await pay("acct_a") == first
