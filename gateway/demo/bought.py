"""A purchase in the demo's shop as a step of the story: no browser, but all that stands behind it.

The token comes from POST /v1/tokens here; by hand it comes from the hosted fields. The shop's web
server, what it does with a token, and what it hands out as proof are those that a shopper meets.
"""

from typing import Final
from uuid import uuid4

import msgspec

from gateway.demo.act import Acted
from gateway.demo.answers import price
from gateway.demo.clients import PlainHttp
from gateway.demo.purchase import PRICE, Proof, Purchase
from gateway.demo.scene import Check, StoryBroke
from gateway.demo.stage import Stage

OK: Final = 200
PRINTS: Final = 2
ENTRIES: Final = 5  # the token, and two calls with an intent and an outcome each


async def bought(stage: Stage) -> Acted:
    before = await stage.witness.look()
    browser = PlainHttp(stage.page.process, stage.shop_url, None, stage.credentials.ca_file)
    token = await stage.page.tokenize(stage.cards["visa"])
    wanted = {"attempt": str(uuid4()), "token": token.id, "quantity": PRINTS}
    answer = await browser.post("/purchases", wanted)
    again = await browser.post("/purchases", wanted)
    if answer.status != OK:
        raise StoryBroke(f"the shop answers {answer.status}")
    made = msgspec.json.decode(answer.body, type=Purchase)
    if not made.authorizations:
        raise StoryBroke("the shop's purchase was refused")
    proven = await browser.get(f"/purchases/{made.order}")
    if proven.status != OK:
        raise StoryBroke(f"the shop has no proof: {proven.status}")
    proof = msgspec.json.decode(proven.body, type=Proof)
    seen = await stage.witness.since(before)
    paid = made.authorizations[-1]
    indices = ", ".join(str(each.index) for each in proof.entries)
    return Acted(
        merchant=[
            f"{stage.shop_url}: {PRINTS} prints, {price(PRINTS * PRICE)}: {made.outcome}",
            f"{made.card.brand} •••• {made.card.last4} is {made.card.id}",
            f"{paid.id}: {paid.state}, {paid.result}",
            f"entries {indices}: proven to be in a signed log of {proof.size}",
        ],
        witnessed=seen,
        checks=[
            Check("the print is paid for", made.outcome == "paid"),
            Check("pressing the button twice is one charge",
                  seen.counts.charges == 1 and again.body == answer.body),
            Check("nothing that the shop tells its page has the number",
                  not stage.search.finds((answer.body + proven.body).encode())),
            Check("each entry of the purchase is proven by the log's key alone",
                  proof.good and len(proof.entries) == ENTRIES),
        ],
        result=f"1 purchase, {len(proof.entries)} entries proven",
    )  # fmt: skip
