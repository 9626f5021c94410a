"""One step of the demo: how it is played, and how what it did becomes what is told."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gateway.demo.processor import ReceivedCall
from gateway.demo.scene import Check, LedgerLine, Scene, StoryBroke
from gateway.demo.stage import Stage
from gateway.demo.witness import Since
from vault.errors import CustodyError


@dataclass(frozen=True, slots=True, kw_only=True)
class Acted:
    """What a step did: what the merchant saw, what must be so, and all of it in a few words."""

    merchant: Sequence[str]
    checks: Sequence[Check]
    result: str
    witnessed: Since | None = None
    processor: Sequence[str] = ()
    """Told in place of the bare calls that it received."""
    ledger: Sequence[LedgerLine] = ()
    """Told where nothing new was to be witnessed."""
    code: str = ""
    who: str = "merchant"


@dataclass(frozen=True, slots=True)
class Act:
    """One step: what it is called, what it is about, and what plays it."""

    name: str
    title: str
    words: str
    play: Callable[[Stage], Awaitable[Acted]]


async def play(stage: Stage, act: Act, step: int) -> Scene:
    """Play one step. One that cannot be played is a step that failed: the story goes on."""
    now = asyncio.get_running_loop().time
    started = now()
    try:
        acted = await act.play(stage)
    except (StoryBroke, CustodyError, OSError) as broken:
        failed = Check(f"it can be shown: {str(broken).rstrip('.')}", ok=False)
        acted = Acted(merchant=[], checks=[failed], result="it broke off")
    witnessed = acted.witnessed
    calls = calls_shown(witnessed) if witnessed is not None else []
    return Scene(
        step=step,
        name=act.name,
        title=act.title,
        words=act.words,
        merchant=acted.merchant,
        processor=acted.processor or calls or ["it was not called"],
        ledger=witnessed.ledger if witnessed is not None else acted.ledger,
        checks=acted.checks,
        seen=acted.result,
        seconds=round(now() - started, 2),
        ok=all(check.ok for check in acted.checks),
        code=acted.code,
        who=acted.who,
    )


def calls_shown(witnessed: Since) -> list[str]:
    """What the processor received: a line a call, its card fields masked."""
    return [_call(call) for call in witnessed.calls]


def _call(call: ReceivedCall) -> str:
    cards = "".join(f"  {field} {value}" for field, value in call.cards.items())
    return f"{call.method} {call.path}{cards}"
