"""The program of the demo: which steps, in which order, and what they come to."""

from collections.abc import AsyncIterator
from typing import Final

from gateway.demo import attacks, auditor, behind, bought, called_back, elsewhere, story
from gateway.demo.act import Act, play
from gateway.demo.scene import Scene
from gateway.demo.stage import Stage

ACTS: Final = (
    Act(
        "code",
        "Two lines change",
        "The shop pays through Stripe's official SDK. This is all of its code that changes.",
        story.code,
    ),
    Act(
        "tokens",
        "Cards become tokens",
        "The checkout page sends published test cards to POST /v1/tokens, under its publishable"
        " key. The shop gets tokens.",
        story.tokens,
    ),
    Act(
        "approved",
        "A payment is approved",
        "The SDK makes a PaymentMethod, the token where the number would be, and confirms a"
        " PaymentIntent.",
        story.approved,
    ),
    Act(
        "declined",
        "A payment is declined",
        "The same with a card that its issuer declines.",
        story.declined,
    ),
    Act(
        "old_shop",
        "An old shop, and not one line of it changed",
        "Its form posts card numbers to itself, as in 2005. A route of panward's stands in front.",
        behind.old_shop,
    ),
    Act(
        "strays",
        "A number where nobody expects one",
        "In a comment on the way to the old shop, and in a page of its own on the way back.",
        behind.strays,
    ),
    Act(
        "explained",
        "What would be opened, before anything is",
        "panward explain looks at a recorded call: which fields would be opened, what stays.",
        elsewhere.explained,
    ),
    Act(
        "elsewhere",
        "The same token at another processor",
        "Its client knows Adyen's own address, a proxy, and one more certificate authority.",
        elsewhere.elsewhere,
    ),
    Act(
        "foreign",
        "Another shop's token",
        "A token that was stolen from another merchant of the same gateway.",
        story.foreign,
    ),
    Act(
        "lost",
        "The answer is lost",
        "The processor charges the card, and then the connection breaks: nobody knows whether"
        " the money moved. Twice.",
        story.lost,
    ),
    Act(
        "called_back",
        "The processor calls back",
        "The answer of a purchase is lost, and the shop does not try again. The processor reports"
        " by itself, three times, with a card number in a note; so does a stranger.",
        called_back.called_back,
    ),
    Act(
        "text",
        "A token where no token belongs",
        "Somebody writes a token into a description, and then into a field that is no text.",
        attacks.text,
    ),
    Act(
        "echo",
        "The processor repeats the card number",
        "Real ones have done so, in objects and in error messages.",
        attacks.echo,
    ),
    Act(
        "sealed",
        "Vault is sealed in the middle of a purchase",
        "The card is in, the payment is not: now the operator seals Vault.",
        attacks.sealed,
    ),
    Act(
        "stolen",
        "The database is stolen",
        "Dumped under its owner's login, and searched for every card of this demo.",
        attacks.stolen,
    ),
    Act(
        "ledger",
        "The ledger is changed",
        "Its owner copies it, and turns a decline into a success: one byte.",
        attacks.ledger,
    ),
    Act(
        "published",
        "An auditor reads it",
        "With an address, a credential, and the key that the operator handed over.",
        auditor.published,
    ),
    Act(
        "bought",
        "Somebody buys a print",
        "In the shop that this demo serves: its server pays with a token, and hands out the proof.",
        bought.bought,
    ),
    Act(
        "forged",
        "The record is forged while the shop sells",
        "Its owner writes another root into the head, as if other entries stood before it.",
        auditor.forged,
    ),
    Act(
        "audit",
        "The second witness",
        "Vault writes down each decrypt by itself. Does each have an earlier intent?",
        attacks.audit,
    ),
    Act(
        "heard",
        "Who had the numbers",
        "All that the shop and its back office ever heard, and all that the processor got.",
        attacks.heard,
    ),
)


async def scenes(stage: Stage) -> AsyncIterator[Scene]:
    """Play all steps, and give each when it is over."""
    for step, act in enumerate(ACTS, start=1):
        yield await play(stage, act, step)
