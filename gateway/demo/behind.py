"""The story of a shop that nobody may touch any more: panward stands in front of it.

An inbound route takes the card out of its form before the shop hears of it. What never lives
here: the shop itself, which is `gateway/demo/old_shop`.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import Final

from gateway.demo.act import Acted
from gateway.demo.answers import said, shown
from gateway.demo.cards import DemoCard
from gateway.demo.clients import PlainHttp
from gateway.demo.orders import Pay
from gateway.demo.scene import Check, StoryBroke
from gateway.demo.stage import Stage
from vault.ledger.entry import TokenCreated, inbound_actor

OK: Final = 200
ROUTE: Final = "old-shop"
LAMP: Final = "Storm lantern, 48.00 EUR"
PRICE: Final = 4800
CODE_IN_PLACE: Final = "000"
ALARM_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.2
_ALARM: Final = re.compile(
    r'^panward_scan_hits_total\{(?=.*place="(\w+)").*\} ([0-9.e+]+)$', re.MULTILINE
)


def filled_in(card: DemoCard) -> Mapping[str, str]:
    """The old shop's form, as a shopper fills it in."""
    return {
        "lamp": LAMP,
        "card_number": card.number,
        "card_month": f"{card.exp_month:02}",
        "card_year": str(card.exp_year),
        "card_code": card.cvc,
        "comment": "Please ring twice.",
    }


async def old_shop(stage: Stage) -> Acted:
    card, shop = stage.cards["mastercard"], stage.old_shop
    before, heard_before = await stage.witness.look(), shop.received()
    answer = await stage.old_shop_page.post_form("/", filled_in(card))
    if answer.status != OK:
        raise StoryBroke(f"the old shop's page answers {answer.status}")
    order, kept = shop.latest(), shop.everything()
    made = await _made_by_the_route(stage, since=before.entries)
    method = await stage.save_card(order.card_number)
    paid = await stage.pay(Pay(stage.order_id(f"lamp-{order.no}"), PRICE, said(method).id))
    seen = await stage.witness.since(before)
    numbers = await stage.witness.processor.numbers()
    found = stage.search.finds(kept) or f"card_code={card.cvc}".encode() in kept
    heard = shop.received() - heard_before
    return Acted(
        merchant=[
            f"a browser sends the shop's form to {stage.old_shop_url}/, with {card.masked}",
            f"its database: card_number {order.card_number}, card_code {order.card_code}",
            f"{', '.join(path.name for path in shop.files())}; number, code: {_verdict(found)}",
            "when the lamp leaves the house, the shop pays with what is in that row:",
            shown(method),
            shown(paid),
        ],
        witnessed=seen,
        checks=[
            Check("the shop got a token for the number, and zeros for the code",
                  order.card_number.startswith("pwt_") and order.card_code == CODE_IN_PLACE),
            Check("the rest of the form arrived as it was",
                  order.lamp == LAMP and order.comment == filled_in(card)["comment"]),
            Check("no file of the shop and no byte that reached it has number or code",
                  heard > 0 and order.card_number.encode() in kept and not found),
            Check("neither has the page that the shopper sees",
                  order.card_number in answer.body
                  and not stage.search.finds(answer.body.encode())),
            Check("the ledger has the token, made by the route", made == [order.card_number]),
            Check("the token pays", said(paid).status == "succeeded" and seen.counts.charges == 1),
            Check("the processor got the very number that the shopper typed in, with its code",
                  list(numbers[-1:]) == [card.number]
                  and any({"pan", "cvc"} <= set(line.opens) for line in seen.ledger)),
        ],
        result="1 form, 1 token, 1 charge",
    )  # fmt: skip


def _verdict(found: bool) -> str:  # noqa: FBT001
    return "FOUND" if found else "none"


async def _made_by_the_route(stage: Stage, *, since: int) -> list[str]:
    """Give the tokens that the ledger says the route has made."""
    route = inbound_actor(ROUTE)
    return [
        entry.token
        for index, entry in await stage.witness.entries()
        if index >= since and isinstance(entry, TokenCreated) and entry.actor == route
    ]


# --- where no card number belongs ---------------------------------------------------------


async def strays(stage: Stage) -> Acted:
    typed, printed, shop = stage.cards["declined"], stage.cards["mastercard"], stage.old_shop
    before, alarms = await stage.witness.look(), await _alarms(stage)
    comment = f"Your form ate my card! It is {'-'.join(re.findall('.{4}', typed.number))}."
    answer = await stage.old_shop_page.post_form("/", {"lamp": LAMP, "comment": comment})
    if answer.status != OK:
        raise StoryBroke(f"the old shop's page answers {answer.status}")
    order = shop.latest()
    debug = await stage.old_shop_page.get("/debug")
    if debug.status != OK:
        raise StoryBroke(f"the old shop's debug page answers {debug.status}")
    on_page = re.search(r"test_card = (.*)", debug.body)
    inbound = await _alarms_beyond(stage, alarms, "inbound")
    reply = await _alarms_beyond(stage, alarms, "merchant_reply")
    seen = await stage.witness.since(before)
    return Acted(
        merchant=[
            f"a shopper types {typed.masked} into the comment; the shop's database has:",
            f"    “{order.comment}”",
            "the shop's own debug page, forgotten since 2005, prints a number; the browser gets:",
            f"    {on_page[0] if on_page else 'nothing'}",
            f"panward_scan_hits_total: +{inbound} on the way in, +{reply} on the way out",
        ],
        witnessed=seen,
        checks=[
            Check("in the comment there are the last four digits, and stars",
                  _is_masked(order.comment, typed)),
            Check("no file of the shop and no byte that reached it has the number",
                  not stage.search.finds(shop.everything())),
            Check("on the page there are the last four digits, and stars",
                  on_page is not None and _is_masked(on_page[1], printed)),
            Check("the number did not leave in any form",
                  not stage.search.finds((answer.body + debug.body).encode())),
            Check("an alarm was counted for each", inbound > 0 and reply > 0),
            Check("nothing was opened, nothing left", seen.nothing_left),
        ],
        result=f"2 numbers, 2 masked, {inbound + reply} alarms",
    )  # fmt: skip


def _is_masked(text: str, card: DemoCard) -> bool:
    return re.search(r"\*{4,}" + card.number[-4:] + r"\b", text) is not None


async def _alarms(stage: Stage) -> Mapping[str, int]:
    """What the gateway has counted of card numbers where none belongs, by where it was."""
    credentials = stage.credentials
    ops = PlainHttp(stage.office.process, credentials.ops_url, None, credentials.ca_file)
    counted: dict[str, int] = {}
    for place, count in _ALARM.findall((await ops.get("/metrics")).body):
        counted[place] = counted.get(place, 0) + int(float(count))
    return counted


async def _alarms_beyond(stage: Stage, before: Mapping[str, int], place: str) -> int:
    """Give how many more there are now; what is exposed is up to a second old."""
    now = asyncio.get_running_loop().time
    until, more = now() + ALARM_SECONDS, 0
    while more == 0 and now() < until:
        await asyncio.sleep(POLL_SECONDS)
        more = (await _alarms(stage)).get(place, 0) - before.get(place, 0)
    return more


# --- nothing can be stored ----------------------------------------------------------------


async def refused_unstored(stage: Stage) -> tuple[int, int]:
    """Send the form while cards cannot be stored: the status, and how much the shop heard."""
    heard_before = stage.old_shop.received()
    answer = await stage.old_shop_page.post_form("/", filled_in(stage.cards["visa"]))
    return answer.status, stage.old_shop.received() - heard_before
