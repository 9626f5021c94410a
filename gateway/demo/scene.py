"""What one step of the demo showed, and what its promises come to in the end. Pure values.

Everything in here may be printed: card numbers are masked before they get here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec


class StoryBroke(Exception):
    """The demo could not go on; the text says where. It is no verdict on a promise."""


class LedgerLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """An entry, as far as the demo shows it."""

    index: int
    type: str
    operation: str | None = None
    opens: tuple[str, ...] = ()
    attempt: int = 1
    of: int | None = None  # index of the first attempt
    state: str | None = None
    result: str | None = None
    status: int | None = None
    reason: str | None = None
    method: str | None = None
    token: str | None = None


class Check(msgspec.Struct, frozen=True):
    """One thing that has to be so."""

    what: str
    ok: bool


class Scene(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step as it is told, to people and to machines."""

    step: int
    name: str
    title: str
    words: str
    merchant: Sequence[str]
    processor: Sequence[str]
    ledger: Sequence[LedgerLine]
    checks: Sequence[Check]
    seen: str
    seconds: float
    ok: bool
    code: str = ""
    who: str = "merchant"
    """Who saw what is under `merchant`, where it is somebody else."""


class Kept(msgspec.Struct, frozen=True):
    """A promise, and what was seen of it."""

    promised: str
    seen: str
    ok: bool


class Closing(msgspec.Struct, frozen=True):
    """The last step: all promises."""

    step: int
    title: str
    promises: Sequence[Kept]
    ok: bool


@dataclass(frozen=True, slots=True)
class Promise:
    """What a user is told, and the steps that show it."""

    text: str
    scenes: tuple[str, ...]


PROMISES: Final = (
    Promise(
        "Two lines of shop code change; Stripe's own SDK does the rest as before",
        ("code", "approved", "declined"),
    ),
    Promise("The shop holds tokens: no answer to it has a number", ("tokens", "heard")),
    Promise("An old shop keeps its form and its code, and gets tokens", ("old_shop",)),
    Promise("A stray number is masked, to a shop and from it, with an alarm", ("strays",)),
    Promise("What would be opened is told before going live", ("explained",)),
    Promise("One token, any processor: by base URL or by proxy", ("elsewhere",)),
    Promise("Another shop's token is worth nothing here", ("foreign",)),
    Promise("A retry after a lost answer cannot charge twice", ("lost",)),
    Promise("The processor's callback settles what was unknown, once", ("called_back",)),
    Promise("A token in a text field stays text", ("text",)),
    Promise("A card number that the processor sends back arrives as its token", ("echo",)),
    Promise("With Vault sealed nothing leaves, and afterwards nothing is lost", ("sealed",)),
    Promise("Who steals the database has no card number", ("stolen",)),
    Promise("Who changes one byte of the ledger is found out", ("ledger",)),
    Promise(
        "An auditor checks all of it over HTTPS, and a merchant its receipt",
        ("published", "bought"),
    ),
    Promise("On a forged record no card is opened until an operator has said why", ("forged",)),
    Promise("Vault's audit log: no card was opened without an earlier intent", ("audit",)),
)


def closing(scenes: Sequence[Scene], *, promises: Sequence[Promise] = PROMISES) -> Closing:
    """Hold each promise against the steps that show it; one that was not played is not kept."""
    played: Mapping[str, Scene] = {scene.name: scene for scene in scenes}
    kept = []
    for promise in promises:
        shown = [played[name] for name in promise.scenes if name in played]
        seen = "; ".join(scene.seen for scene in shown if scene.seen)
        ok = len(shown) == len(promise.scenes) and all(scene.ok for scene in shown)
        kept.append(Kept(promise.text, seen or "not shown", ok))
    return Closing(
        step=len(scenes) + 1,
        title="What was promised, and what was seen",
        promises=kept,
        ok=all(one.ok for one in kept),
    )


def reason(scenes: Sequence[Scene], end: Closing) -> str | None:
    """Say what was not as it should be; None when all was."""
    failed = [
        f"step {scene.step}: {check.what}"
        for scene in scenes
        for check in scene.checks
        if not check.ok
    ]
    missing = [one.promised for one in end.promises if one.seen == "not shown"]
    return "; ".join(failed + missing) or (None if end.ok else "a promise was not kept")
