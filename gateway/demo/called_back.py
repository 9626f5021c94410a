"""The story of a purchase whose answer never comes: the processor's callback settles it.

All of it goes the way that a visitor's purchase goes: the shop's server, Stripe's SDK, the public
listener of the gateway, and back to the shop. What never lives here: what a callback means.
"""

import asyncio
import re
from typing import Final, TypeVar
from uuid import uuid4

import msgspec

from gateway.demo.act import Acted, calls_shown
from gateway.demo.answers import price
from gateway.demo.clients import PlainHttp
from gateway.demo.plain_http import HttpAnswer
from gateway.demo.purchase import PRICE, Authorization, Purchase
from gateway.demo.scene import Check, StoryBroke
from gateway.demo.stage import Stage
from gateway.sandbox.callback_control import PlantInNextCallback, RepeatNextCallback
from gateway.sandbox.calling_back import CallbackCounts

T = TypeVar("T")

OK: Final = 200
UNAUTHORIZED: Final = 401
POSTS: Final = 3
ACKNOWLEDGED_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.1
SETTLED: Final = ("resolved", "approved", "paid")
STATES: Final = ["attempted", "completed", "attempted", "unknown", "resolved"]


async def called_back(stage: Stage) -> Acted:
    before, reports = await stage.witness.look(), stage.reports
    planted, heard_before = stage.cards["visa"], len(reports.posts)
    async with reports.called_back():
        told = await _callbacks(stage)
        waiting = await _bought(stage, planted=f"paid with {planted.number}")
        forged = await reports.forged(waiting.order)
        between = await _authorization(stage, waiting.authorizations[-1].id)
        made = _read(await _shop(stage).get(f"/purchases/{waiting.order}/outcome"), Purchase)
        acknowledged = await _acknowledged(stage, told.acknowledged)
    settled = made.authorizations[-1]
    posts, deliveries = reports.posts[heard_before:], await reports.deliveries()
    seen = await stage.witness.since(before)
    received = [line for line in seen.ledger if line.type == "callback.received"]
    note = re.search(rb'"note":\s*"([^"]*)"', b"".join(posts))
    return Acted(
        merchant=[
            f"{stage.shop_url}: a print, {price(PRICE)}: {waiting.outcome}, {settled.id}",
            f"a stranger posts that it is paid: {forged.status}, and it is {between.state} still",
            f"the processor posts it: {settled.state}, {settled.result}; the shop: {made.outcome}",
            f"the shop's server got it {_times(len(posts))}; stripe.Webhook.construct_event agrees",
            f"    a note in it: “{note[1].decode() if note else ''}”",
        ],
        processor=[
            *calls_shown(seen),
            f"its callback, sent {POSTS} times: {acknowledged} acknowledged",
        ],
        witnessed=seen,
        checks=[
            Check("without an answer the shop waits, and no result is made up",
                  (waiting.outcome, between.state, between.result) == ("waiting", "unknown", None)),
            Check("who does not have the secret is answered 401, and changes nothing",
                  forged.status == UNAUTHORIZED),
            Check("the callback settles it, and the shop shows it",
                  (settled.state, settled.result, made.outcome) == SETTLED),
            Check("three posts, all acknowledged, are one entry and one delivery",
                  (acknowledged, len(received), [one.state for one in deliveries])
                  == (POSTS, 1, ["delivered"])),
            Check("the shop hears once, and Stripe's SDK takes it for genuine", len(posts) == 1),
            Check("the card number in it is masked before anybody has it",
                  note is not None and _is_masked(note[1].decode(), planted.number)
                  and not stage.search.finds(b"".join(posts))),
            Check("the ledger tells all of it", seen.states() == STATES),
            Check("what resolved it is the callback", "callback" in
                  [line.method for line in seen.ledger if line.state == "resolved"]),
            Check("one charge", seen.counts.charges == 1),
        ],
        result=f"{acknowledged} posts, {len(received)} effect; a forgery: {forged.status}",
    )  # fmt: skip


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


async def _bought(stage: Stage, *, planted: str) -> Purchase:
    """Buy with the card whose answer is lost; the report of it is repeated, and says too much."""
    token = await stage.page.tokenize(stage.cards["unionpay"])
    processor = stage.witness.processor
    await processor.do(RepeatNextCallback(POSTS - 1))
    await processor.do(PlantInNextCallback(planted))
    wanted = {"attempt": str(uuid4()), "token": token.id, "quantity": 1}
    made = _read(await _shop(stage).post("/purchases", wanted), Purchase)
    if not made.authorizations:
        raise StoryBroke("the shop's purchase was refused")
    return made


def _shop(stage: Stage) -> PlainHttp:
    return PlainHttp(stage.page.process, stage.shop_url, None, stage.credentials.ca_file)


async def _authorization(stage: Stage, name: str) -> Authorization:
    return _read(await stage.office.get(f"/v1/authorizations/{name}"), Authorization)


async def _callbacks(stage: Stage) -> CallbackCounts:
    return (await stage.witness.processor.state()).callbacks.counts


async def _acknowledged(stage: Stage, before: int) -> int:
    """Wait until each post is acknowledged; give how many are."""
    now = asyncio.get_running_loop().time
    until, count = now() + ACKNOWLEDGED_SECONDS, 0
    while count < POSTS and now() < until:
        await asyncio.sleep(POLL_SECONDS)
        count = (await _callbacks(stage)).acknowledged - before
    return count


def _read(answer: HttpAnswer, kind: type[T]) -> T:
    if answer.status != OK:
        raise StoryBroke(f"a call of the shop's answers {answer.status}")
    return msgspec.json.decode(answer.body, type=kind)


def _is_masked(text: str, number: str) -> bool:
    return re.search(r"\*{4,}" + number[-4:] + r"\b", text) is not None
