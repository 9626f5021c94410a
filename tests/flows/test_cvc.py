"""The code on a card's back: for one authorization, for fifteen minutes, for nobody to see.

Codes are told apart by their length: an American Express card has four digits, so the simulated
processor takes its card with `000` in the field only if the stored code was put in that place.
"""

import asyncio
from datetime import timedelta

import pytest

from tests.cards import AMEX, DECLINED, THREE_D_SECURE, VISA
from tests.flows.conftest import Witness
from tests.flows.deployment import Deployment, Store, eventually, until
from tests.flows.merchant import (
    INTENTS,
    METHODS,
    Merchant,
    card,
    method,
    new_idempotency_key,
    payment,
)
from tests.flows.processor import ProcessorControl
from tests.flows.replica import Replica
from tests.flows.wire import Reply

pytestmark = [pytest.mark.embedded, pytest.mark.guards("T-71")]


async def kept(store: Store, token: str) -> str | None:
    """`free`, `claimed`, or None when there is no code any more."""
    row = await store.fetchrow("SELECT claimed_by FROM cvc WHERE token = $1", token)
    if row is None:
        return None
    return "free" if row["claimed_by"] is None else "claimed"


def is_over(reply: Reply) -> bool:
    """Whether it says in Stripe's shape that there is no code: collect it again."""
    return (
        reply.status == 400
        and reply.error["code"] == "cvc_expired"
        and reply.state == "not_sent"
        and reply.headers["Stripe-Should-Retry"] == "false"
    )


@pytest.mark.parametrize("standing_for", ["token", "000", "0000"])
async def test_what_stands_for_the_stored_code(
    shop: Merchant, store: Store, deployment: Deployment, standing_for: str
) -> None:
    token = await shop.token(AMEX)
    assert await kept(store, token) == "free"
    code = token if standing_for == "token" else standing_for
    reply = await shop.out(METHODS, method(token, cvc=code))
    assert reply.status == 200
    assert await kept(store, token) is None
    intent = (await shop.authorization(reply))["attempts"][0]["intent"]
    opened = {reference for reference in deployment.decrypts() if reference.startswith(intent)}
    assert opened == {f"{intent}/0", f"{intent}/1"}


async def test_a_payment_without_a_code_leaves_it(shop: Merchant, store: Store) -> None:
    token = await shop.token()
    for fields in (payment(token), payment(token, cvc="")):
        assert (await shop.pay(fields)).status == 200
        assert await kept(store, token) == "free"


async def test_where_no_code_was_given_there_is_none(
    shop: Merchant, nothing_happens: Witness
) -> None:
    token = await shop.token(unusual={"cvc": None})
    async with nothing_happens():
        assert is_over(await shop.pay(payment(token, cvc="000")))
    assert (await shop.pay(payment(token))).status == 200


# --- what becomes of it -------------------------------------------------------------------


@pytest.mark.parametrize("result", ["approved", "declined", "stored"])
async def test_an_issuers_answer_consumes_it(
    shop: Merchant, store: Store, nothing_happens: Witness, result: str
) -> None:
    token = await shop.token(DECLINED if result == "declined" else VISA)
    fields, path = payment(token, cvc=token), INTENTS
    if result == "stored":
        fields, path = method(token, cvc=token), METHODS
    reply = await shop.out(path, fields)
    assert (await shop.authorization(reply))["result"] == result
    assert await kept(store, token) is None
    async with nothing_happens():
        assert is_over(await shop.out(path, fields))
        assert is_over(await shop.out(path, fields, key=new_idempotency_key()))


@pytest.mark.parametrize("result", ["error", "pending", "not_executed"])
async def test_without_an_issuers_answer_it_is_given_back(
    shop: Merchant, store: Store, processor: ProcessorControl, result: str
) -> None:
    token = await shop.token(THREE_D_SECURE if result == "pending" else VISA)
    fields = payment(token, cvc=token)
    if result == "error":
        fields["currency"] = "euro"
    if result == "not_executed":
        processor.do("fail_next", status=429)
    reply = await shop.pay(fields)
    wanted = "pending" if result == "pending" else "error"
    assert (await shop.authorization(reply))["result"] == wanted
    assert await kept(store, token) == "free"
    again = await shop.pay(payment(token, cvc=token))
    assert again.status == 200


@pytest.mark.guards("F-21")
async def test_what_was_not_sent_gives_it_back(
    shop: Merchant, replica: Replica, store: Store
) -> None:
    there = shop.at(replica.urls)
    token = await shop.token()
    reply = await there.pay(payment(token, cvc=token), route="refused")
    assert reply.state == "not_sent"
    assert await kept(store, token) == "free"
    assert (await shop.pay(payment(token, cvc=token))).status == 200
    assert await kept(store, token) is None


async def test_an_unknown_outcome_keeps_it_for_the_replay(
    shop: Merchant, store: Store, processor: ProcessorControl
) -> None:
    token, key = await shop.token(AMEX), new_idempotency_key()
    processor.do("lose_next_answer")
    lost = await shop.pay(payment(token, cvc="000"), key=key)
    assert lost.state == "unknown"
    assert await kept(store, token) == "claimed"

    assert is_over(await shop.pay(payment(token, cvc="000")))
    assert is_over(await shop.pay(payment(token, cvc="000"), key=new_idempotency_key()))
    assert await kept(store, token) == "claimed"


async def test_the_replay_of_an_unknown_outcome_consumes_it(
    shop: Merchant, store: Store, processor: ProcessorControl
) -> None:
    token, key = await shop.token(AMEX), new_idempotency_key()
    before = processor.counts.charges
    processor.do("lose_next_answer")
    await shop.pay(payment(token, cvc="000"), key=key)
    replayed = await shop.pay(payment(token, cvc="000"), key=key)
    assert replayed.status == 200
    assert processor.counts.charges == before + 1
    assert await kept(store, token) is None


# --- races --------------------------------------------------------------------------------


@pytest.mark.guards("T-27")
async def test_of_many_payments_at_once_one_gets_the_code(
    shop: Merchant, store: Store, processor: ProcessorControl
) -> None:
    for _ in range(3):
        token = await shop.token(AMEX)
        before = processor.counts
        replies = await asyncio.gather(*(shop.pay(payment(token, cvc=token)) for _ in range(10)))
        assert sorted(reply.status for reply in replies) == [200] + [400] * 9
        assert all(is_over(reply) for reply in replies if reply.status != 200)
        assert processor.counts.requests == before.requests + 1
        assert await kept(store, token) is None


async def test_while_it_is_claimed_nobody_else_gets_it(
    shop: Merchant, store: Store, processor: ProcessorControl
) -> None:
    token = await shop.token(AMEX, reuse=True)
    before = processor.counts
    processor.do("hold")
    paying = asyncio.create_task(shop.pay(payment(token, cvc=token)))
    await asyncio.to_thread(processor.until_held, before)
    assert await kept(store, token) == "claimed"
    assert is_over(await shop.pay(payment(token, cvc=token)))
    fresh = await shop.api("POST", "/v1/tokens", {"card": card(AMEX), "reuse": True})
    assert fresh.told()[:2] == (409, "authorization_open")
    processor.do("release")
    assert (await paying).status == 200


async def test_a_fresh_code_comes_with_a_reused_token(shop: Merchant, store: Store) -> None:
    token = await shop.token(AMEX, reuse=True)
    assert (await shop.pay(payment(token, cvc=token))).status == 200
    assert await kept(store, token) is None
    assert await shop.token(AMEX, reuse=True) == token
    assert await kept(store, token) == "free"
    assert (await shop.pay(payment(token, cvc=token))).status == 200


@pytest.mark.guards("T-27")
async def test_a_single_use_token_serves_one_of_many(
    shop: Merchant, processor: ProcessorControl
) -> None:
    token = await shop.token(single_use=True)
    before = processor.counts
    replies = await asyncio.gather(*(shop.pay(payment(token)) for _ in range(10)))
    assert sum(reply.status == 200 for reply in replies) == 1
    assert processor.counts.charges == before.charges + 1
    refusals = {reply.error["code"] for reply in replies if reply.status != 200}
    assert refusals <= {"authorization_open", "token_unknown"}
    assert (await shop.api("GET", f"/v1/tokens/{token}")).status == 404


async def test_a_single_use_token_is_used_up_by_an_issuers_answer_only(
    shop: Merchant, processor: ProcessorControl, store: Store
) -> None:
    token = await shop.token(single_use=True)
    wrong = payment(token) | {"currency": "euro"}
    assert (await shop.pay(wrong)).status == 400
    processor.do("fail_next", status=429)
    assert (await shop.pay(payment(token))).status == 429
    key = new_idempotency_key()
    processor.do("lose_next_answer")
    assert (await shop.pay(payment(token), key=key)).state == "unknown"
    taken = await shop.pay(payment(token))
    assert taken.error["code"] == "authorization_open"
    assert (await shop.pay(payment(token), key=key)).status == 200
    assert (await shop.api("GET", f"/v1/tokens/{token}")).status == 404
    assert (await shop.pay(payment(token))).error["code"] == "token_unknown"
    reasons = await store.fetch(
        "SELECT convert_from(body, 'UTF8')::json ->> 'reason' AS reason FROM entry"
        " WHERE type = 'token.deleted' AND position(convert_to($1, 'UTF8') IN body) > 0",
        token,
    )
    assert [row["reason"] for row in reasons] == ["used"]


async def test_a_used_up_token_still_answers_its_key(
    shop: Merchant, processor: ProcessorControl
) -> None:
    token, key = await shop.token(single_use=True), new_idempotency_key()
    first = await shop.pay(payment(token), key=key)
    before = processor.counts
    again = await shop.pay(payment(token), key=key)
    assert (again.status, again.body) == (200, first.body)
    assert processor.counts == before


# --- its time -----------------------------------------------------------------------------


async def test_it_is_over_after_fifteen_minutes(
    shop: Merchant, store: Store, nothing_happens: Witness
) -> None:
    token = await shop.token()
    left = await store.fetchval("SELECT expires_at - now() FROM cvc WHERE token = $1", token)
    assert timedelta(minutes=14, seconds=50) < left <= timedelta(minutes=15)
    await store.execute("UPDATE cvc SET expires_at = now() WHERE token = $1", token)
    async with nothing_happens():
        assert is_over(await shop.pay(payment(token, cvc="000")))
    assert (await shop.pay(payment(token))).status == 200


async def test_it_is_erased_when_its_time_is_up_claimed_or_not(
    shop: Merchant, store: Store, processor: ProcessorControl
) -> None:
    free, claimed = await shop.token(), await shop.token()
    processor.do("lose_next_answer")
    assert (await shop.pay(payment(claimed, cvc="000"))).state == "unknown"
    end = "UPDATE cvc SET expires_at = now() WHERE token = ANY($1)"
    await store.execute(end, [free, claimed])

    async def both_gone() -> bool:
        return not (await kept(store, free) or await kept(store, claimed))

    await eventually(both_gone, "nobody erased them")


async def test_it_is_in_no_log_of_the_database(store: Store) -> None:
    """UNLOGGED: in no write-ahead log, so in no replica and no base backup."""
    kind = "SELECT relpersistence::text FROM pg_class WHERE relname = 'cvc'"
    assert await store.fetchval(kind) == "u"


async def test_a_stored_code_is_sealed(
    shop: Merchant, store: Store, deployment: Deployment
) -> None:
    token = await shop.token(unusual={"cvc": "739"})
    row = await store.fetchrow("SELECT * FROM cvc WHERE token = $1", token)
    assert row is not None
    assert row["ciphertext"].startswith("vault:v")
    assert "739" not in {str(value) for value in row.values()}
    assert until(lambda: deployment.decrypts() or True, "the audit log")
