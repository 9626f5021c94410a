"""The story, step by step: what changes in a shop, what goes well, what goes wrong.

Each step acts through the demo's clients, lets the witness look on, and says what must be so.
What somebody does to the parts instead is in `attacks.py`.
"""

import ast
from collections.abc import Mapping
from importlib import resources
from typing import Final

import msgspec

from gateway.demo.act import Acted, calls_shown
from gateway.demo.answers import said, shown
from gateway.demo.orders import Pay
from gateway.demo.scene import Check, StoryBroke
from gateway.demo.stage import Stage
from gateway.sandbox.control import LoseNextAnswer
from vault.tokens import new_token

OK: Final = 200

# --- the steps ----------------------------------------------------------------------------


async def code(stage: Stage) -> Acted:
    latest = (await stage.witness.ledger())[-4:]  # keys may have been made since
    opened = [line for line in latest if line.type in ("log.opened", "gateway.started")]
    return Acted(
        merchant=[
            f"the shop runs {stage.sdk}, unchanged",
            "1 is a key of panward's; Stripe's own is no longer in the shop, but in Vault",
            f"2 is {stage.credentials.private_url}/out/stripe",
            "the third line is there because the certificate authority is the demo's own",
        ],
        ledger=opened,
        checks=[Check("the official SDK runs in the shop", stage.sdk.startswith("stripe "))],
        result=stage.sdk,
        code=_source("shop.py", "stripe_client"),
    )


async def tokens(stage: Stage) -> Acted:
    before = await stage.witness.look()
    merchant = []
    for name in ("visa", "declined", "mastercard", "amex"):
        token = await stage.page.tokenize(stage.cards[name])
        stage.tokens[name] = token
        merchant.append(f"{token.brand} {stage.cards[name].masked} → {token.id}")
    seen = await stage.witness.since(before)
    created = [line.token for line in seen.ledger if line.type == "token.created"]
    ids = [token.id for token in stage.tokens.values()]
    last4 = [token.last4 for token in stage.tokens.values()]
    return Acted(
        merchant=merchant,
        witnessed=seen,
        checks=[
            Check("each card has a token of its own", len(set(ids)) == len(merchant)),
            Check("the ledger has each token", created == ids),
            Check("the page gets the last four digits back, and no more",
                  last4 == [stage.cards[name].number[-4:] for name in stage.tokens]
                  and not stage.search.finds("\n".join(map(str, ids)).encode())),
            Check("nothing was opened, nothing left", seen.nothing_left),
        ],
        result=f"{len(ids)} cards, {len(ids)} tokens",
    )  # fmt: skip


async def approved(stage: Stage) -> Acted:
    before = await stage.witness.look()
    method = await stage.save_card(stage.token("visa"))
    order = Pay(stage.order_id("1001"), 1999, said(method).id)
    intent = await stage.pay(order)
    seen = await stage.witness.since(before)
    numbers = await stage.witness.processor.numbers()
    return Acted(
        merchant=[shown(method), shown(intent)],
        witnessed=seen,
        checks=[
            Check("the payment succeeded", said(intent).status == "succeeded"),
            Check("one charge", seen.counts.charges == 1),
            Check(
                "the processor got the very number that the shopper typed in",
                list(numbers[-1:]) == [stage.cards["visa"].number],
            ),
            Check(
                "each call was on record before it left, its result before the shop heard it",
                seen.states() == ["attempted", "completed"] * 2,
            ),
        ],
        result="1 approved",
    )


async def declined(stage: Stage) -> Acted:
    before = await stage.witness.look()
    method = await stage.save_card(stage.token("declined"))
    intent = await stage.pay(Pay(stage.order_id("1002"), 4900, said(method).id))
    seen = await stage.witness.since(before)
    return Acted(
        merchant=[shown(method), shown(intent)],
        witnessed=seen,
        checks=[
            Check("the SDK raises its CardError", intent.kind == "CardError"),
            Check("the issuer's reason is there", said(intent).error.decline_code is not None),
            Check("one decline, no charge", (seen.counts.declines, seen.counts.charges) == (1, 0)),
            Check("the ledger says declined", seen.last.result == "declined"),
        ],
        result=f"1 stripe.{intent.kind}",
    )


async def foreign(stage: Stage) -> Acted:
    start = await stage.witness.look()
    theirs = await (await stage.another_shops_page()).tokenize(stage.cards["discover"])
    before = await stage.witness.look()
    refused = await stage.save_card(theirs.id)
    nobodys = await stage.save_card(new_token("test"))
    seen = await stage.witness.since(before)
    return Acted(
        merchant=[
            f"the other shop's {theirs.brand} {stage.cards['discover'].masked} is {theirs.id}",
            f"our shop tries it: {shown(refused)}",
            f"and a token of nobody's: {shown(nobodys)}",
        ],
        witnessed=await stage.witness.since(start),
        checks=[
            Check("the SDK raises its InvalidRequestError", refused.kind == "InvalidRequestError"),
            Check("the refusal is token_unknown", said(refused).error.code == "token_unknown"),
            Check(
                "it cannot be told from a token that never was",
                (refused.http_status, refused.body) == (nobodys.http_status, nobodys.body),
            ),
            Check("nothing was opened, nothing left", seen.nothing_left),
            Check("so there is nothing to record", not seen.ledger),
        ],
        result=f"stripe.{refused.kind}, {seen.decrypts} opened, {len(seen.calls)} sent",
    )


# --- the lost answer ----------------------------------------------------------------------

REPLAYED: Final = [
    *("attempted", "completed"),  # the card, saved
    *("attempted", "unknown"),
    *("attempted", "unknown"),
    *("attempted", "completed"),
    *("resolved", "resolved"),  # both of the unknown ones, by what the third heard
]


class Authorization(msgspec.Struct):
    """What the steps look at in one of `GET /v1/authorizations`."""

    state: str
    result: str | None
    attempts: list[Mapping[str, object]]

    @property
    def shown(self) -> str:
        times = len(self.attempts)
        attempts = "1 attempt" if times == 1 else f"{times} attempts"
        return f"{self.state}, {self.result or 'no result'}, {attempts}"


class Authorizations(msgspec.Struct):
    """A list of them."""

    data: list[Authorization]


async def lost(stage: Stage) -> Acted:
    before = await stage.witness.look()
    method = await stage.save_card(stage.token("mastercard"))
    order = Pay(stage.order_id("1003"), 2500, said(method).id)
    order.idempotency_key, order.retries = order.order_id, 0
    await stage.witness.processor.do(LoseNextAnswer())
    first = await stage.pay(order)
    between = await _authorization(stage, order.order_id)
    await stage.witness.processor.do(LoseNextAnswer())
    order.retries = 2
    second = await stage.pay(order)
    after = await _authorization(stage, order.order_id)
    seen = await stage.witness.since(before)
    retry = first.headers.get("stripe-should-retry")
    sends = [call.idempotency_key for call in seen.calls if call.path == "/v1/payment_intents"]
    counted = (len(sends), len(set(sends)), seen.counts.charges)
    return Acted(
        merchant=[
            shown(method),
            f"1st call, no retries: {shown(first)}, Stripe-Should-Retry: {retry}",
            f"meanwhile /v1/authorizations says: {between.shown}",
            f"2nd call, max_network_retries=2, answer lost once more: {shown(second)}",
            f"now /v1/authorizations says: {after.shown}",
        ],
        processor=[
            *calls_shown(seen),
            "{} payments under {} idempotency key: {} charge".format(*counted),
        ],
        witnessed=seen,
        checks=[
            Check(
                "a lost answer is a 502 that asks for a retry",
                (first.http_status, retry) == (502, "true"),
            ),
            Check(
                "in between the state is unknown, and no result is made up",
                (between.state, between.result) == ("unknown", None),
            ),
            Check("the SDK's own retry ends well", said(second).status == "succeeded"),
            Check("three sends under one key, one charge", counted == (3, 1, 1)),
            Check("the ledger tells all of it", seen.states() == REPLAYED),
            Check("what resolved it is the replay", seen.last.method == "replay"),
        ],
        result="{0} sends, {2} charge".format(*counted),
    )


async def _authorization(stage: Stage, key: str) -> Authorization:
    answer = await stage.office.get(f"/v1/authorizations?idempotency_key={key}")
    if answer.status == OK:
        for one in msgspec.json.decode(answer.body, type=Authorizations).data:
            return one
    raise StoryBroke(f"GET /v1/authorizations answers {answer.status}, or nothing")


def _source(name: str, function: str) -> str:
    """The text of one function of a module beside this one: what is shown is what runs."""
    text = (resources.files("gateway.demo") / name).read_text("utf-8")
    found = next(
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef) and node.name == function
    )
    return ast.get_source_segment(text, found) or ""
