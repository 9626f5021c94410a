"""`kill -9` of the real command under load, again and again, on the same folder.

What a merchant was told must still be so, what a processor received must be on record from before,
and asking again must not charge twice. PostgreSQL dies too: politely, by the signal that it asked
for, or in some rounds by `kill -9` of its own, before the gateway or with it.

The moments come from a seed, which a failure shows; PANWARD_CRASH_SEED repeats it.
"""

import asyncio
import json
import os
import random
import re
import secrets
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.commands.ledger import check_log
from gateway.embedded import control_socket
from tests.crash.panward import panward
from tests.crash.shop import TEST_PREFIX, Shop
from tests.crash.witnesses import (
    Arrivals,
    Log,
    let_leases_end,
    states_of_intents,
    stored_tokens,
)
from tests.flows.deployment import Gateway
from tests.flows.processor import ProcessorControl
from vault.embedded.bootstrap import EmbeddedParts, parts_of

LOAD_SECONDS = (0.15, 1.2)
DELAYS_SECONDS = (0.0, 0.0, 0.02, 0.1)  # of the processor's answer: more calls are under way
WAYS = ("gateway", "gateway", "both", "postgres first")
RESTART_SECONDS_MAX = 15.0
ASKING_MAX = 10  # rounds: a busy machine may answer 503
ARRIVALS = "sandbox-arrivals.jsonl"


@dataclass
class Killed:
    """One deployment that is killed and started again, and what was seen of it."""

    folder: Path
    chance: random.Random
    gateway: Gateway
    shop: Shop
    log: Log = field(default_factory=Log)
    restarts: list[float] = field(default_factory=list)
    crashed: int = 0
    hard_kills: int = 0

    @property
    def parts(self) -> EmbeddedParts:
        return parts_of(self.folder)

    @property
    def dsn(self) -> str:
        return self.parts.runtime_dsn

    @property
    def processor(self) -> ProcessorControl:
        return ProcessorControl(control_socket(self.parts))

    async def kill_under_load(self) -> None:
        delay = self.chance.choice(DELAYS_SECONDS)
        self.processor.do("delay", seconds=delay)
        way = self.chance.choice(WAYS)
        moment = self.chance.uniform(*LOAD_SECONDS)
        postgres = self.gateway.child("postgres")
        async with asyncio.TaskGroup() as group:
            group.create_task(self.shop.busy())
            await asyncio.sleep(moment)
            if way != "gateway":
                self.hard_kills += 1
                os.kill(postgres, signal.SIGKILL)
            if way == "postgres first":
                await asyncio.sleep(self.chance.uniform(0, 0.2))
            os.kill(self.gateway.pid, signal.SIGKILL)
        assert self.gateway.wait() == -signal.SIGKILL
        print(f"killed after {moment:.3f} s ({way}), the processor answering in {delay} s")  # noqa: T201 - shown with a failure

    def start_again(self) -> None:
        began = time.monotonic()
        self.gateway = started(self.folder)
        self.restarts.append(time.monotonic() - began)

    async def check_what_was_told(self, since: int) -> None:
        """Nothing acknowledged is lost; all that arrived was on record before."""
        await self.log.read_on(self.dsn)
        self.crashed += self.log.crashed()
        assert "attempted" not in await states_of_intents(self.dsn), "of an earlier boot"
        self.log.holds(self.shop.book)
        assert self.log.created == await stored_tokens(self.dsn), "rows and entries differ"
        new = list(self.shop.book.numbers)[since:]
        found = await self.shop.stored_cards(new)
        lost = [token for token in new if found[token] != 200]
        assert not lost, f"{len(lost)} of {len(new)} acknowledged tokens are not there"
        self.log.precedes(Arrivals.read(self.folder / ARRIVALS), self.shop.book)
        verdict = await check_log(self.dsn, [self.parts.vault_audit_log_file])
        assert verdict.is_good, (verdict.report.violations[:3], verdict.join)

    async def settle_all(self) -> None:
        """Ask again for whatever was not answered for good, as the claim table says."""
        unsettled = self.shop.book.unsettled()
        for _ in range(ASKING_MAX):
            await self.shop.ask_again(unsettled)
            unsettled = self.shop.book.unsettled()
            if all(one.is_in_flight for one in unsettled):
                break
        assert await let_leases_end(self.dsn) == len(unsettled), "409 without a claim, or a claim"
        await self.shop.ask_again(unsettled)
        assert not self.shop.book.unsettled()

    async def check_the_end(self) -> None:
        """Each key was carried out once or not at all, and every intent has an end."""
        book = self.shop.book
        arrivals = Arrivals.read(self.folder / ARRIVALS)
        twice = {key: charges for key, charges in arrivals.charges.items() if charges > 1}
        assert not twice
        approved = {key for key, one in book.payments.items() if one.is_approved}
        refused = [one for one in book.payments.values() if not one.is_approved]
        for one in refused:  # its code died with an UNLOGGED table: nobody can send it again
            assert one.with_cvc, one.answer
            assert self.hard_kills, one.answer
        counts = self.processor.counts
        assert len(approved) <= counts.charges <= len(book.payments)
        if not refused:
            assert counts.charges == len(approved)
        assert counts.faults == 0
        states = await states_of_intents(self.dsn)
        assert states.keys() <= {"completed", "not_sent", "resolved", "unknown"}, states
        assert states.get("unknown", 0) <= len(refused), states


def started(folder: Path) -> Gateway:
    written = folder.parent / f"written-{time.monotonic_ns()}"
    gateway = Gateway(written, "--embedded", str(folder), "--unsafe-sandbox-remembers")
    gateway.until_ready()
    return gateway


@pytest.mark.embedded
@pytest.mark.guards("F-40")
@pytest.mark.guards("F-41")
@pytest.mark.guards("T-61")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("rounds", [10, pytest.param(100, marks=pytest.mark.long)])
async def test_nothing_told_is_lost_and_nothing_done_twice(tmp_path: Path, rounds: int) -> None:
    seed = int(os.environ.get("PANWARD_CRASH_SEED") or secrets.randbits(32))
    print(f"PANWARD_CRASH_SEED={seed}")  # noqa: T201 - shown with a failure
    chance = random.Random(seed)  # noqa: S311 - moments, not secrets
    folder = tmp_path / "deployment"
    gateway = started(folder)
    killed = Killed(folder, chance, gateway, Shop(folder, chance))
    try:
        await go_on_killing(killed, rounds)
    finally:
        status = killed.gateway.stop()
    assert status == 0
    assert leaks(folder) == []
    check_how_it_went(killed)


async def go_on_killing(killed: Killed, rounds: int) -> None:
    for _ in range(rounds):
        before = len(killed.shop.book.numbers)
        await killed.kill_under_load()
        killed.start_again()
        await killed.check_what_was_told(before)
        await killed.settle_all()
    await killed.check_the_end()
    verified = await panward("ledger", "verify", "--embedded", str(killed.folder), "--json")
    assert (verified.status, json.loads(verified.out)["good"]) == (0, True), verified


def leaks(folder: Path) -> list[Path]:
    """Find the shop's card numbers, all of one range, in the files that are left."""
    number = re.compile(TEST_PREFIX.encode() + rb"[0-9]{10}")
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if number.search(path.read_bytes())]


def check_how_it_went(killed: Killed) -> None:
    """The rounds must have been worth something: work was under way when it was killed."""
    book = killed.shop.book
    print(  # noqa: T201 - shown with -s
        f"{len(book.numbers)} tokens, {len(book.payments)} payments, {killed.crashed} intents open"
        f" at a kill; {killed.hard_kills} kills of PostgreSQL too; restarts"
        f" {', '.join(f'{seconds:.1f}' for seconds in killed.restarts)} s"
    )
    assert killed.crashed >= len(killed.restarts), "hardly anything was under way"
    assert max(killed.restarts) < RESTART_SECONDS_MAX
