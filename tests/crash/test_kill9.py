"""`kill -9` of the real command under load, again and again, on the same folder.

Two gateways on one database, one of them with the children that both need. What a merchant was
told must still be so, whichever of them said it; what a processor received must be on record from
before; asking again must not charge twice; what is signed must be one history. PostgreSQL dies
too: politely, by the signal that it asked for, or in some rounds by `kill -9` of its own, before
its gateway, with it or alone. A gateway that lives on must go on by itself.

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
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest

from gateway.commands.ledger import check_log
from gateway.embedded import control_socket
from tests.crash.panward import panward
from tests.crash.published import published, publishers
from tests.crash.shop import TEST_PREFIX, Door, Shop, own_door
from tests.crash.witnesses import (
    Arrivals,
    Log,
    let_leases_end,
    states_of_intents,
    stored_tokens,
)
from tests.flows.deployment import Gateway, Store, eventually
from tests.flows.processor import ProcessorControl
from tests.flows.replica import free_ports
from vault.embedded.bootstrap import EmbeddedParts, parts_of

LOAD_SECONDS = (0.15, 1.2)
AFTERWARDS_SECONDS = 0.4  # the other gateway goes on, with what is left
DELAYS_SECONDS = (0.0, 0.0, 0.02, 0.1)  # of the processor's answer: more calls are under way
KILL, QUIT = signal.SIGKILL, signal.SIGQUIT
WAYS = {
    "the first": [("first", KILL)],
    "the second": [("second", KILL)],
    "both": [("first", KILL), ("second", KILL)],
    "PostgreSQL, then the first": [("postgres", KILL), ("first", KILL)],
    "PostgreSQL and both": [("postgres", KILL), ("first", KILL), ("second", KILL)],
    "PostgreSQL": [("postgres", KILL)],
    "PostgreSQL, as it says itself (immediate)": [("postgres", QUIT)],
}
RESTART_SECONDS_MAX = 20.0
SETTLED_SECONDS = 30.0  # the spool is drained, leases of the dead are over at their restart
ASKING_MAX = 10  # rounds: a busy machine may answer 503
ARRIVALS = "sandbox-arrivals.jsonl"
SECOND = "second"


@dataclass
class Killed:
    """One deployment that is killed and started again, and what was seen of it.

    The first gateway is the embedded one: PostgreSQL, OpenBao and the simulated processor end
    with it. The second is one beside it, with a configuration file of its own.
    """

    folder: Path
    chance: random.Random
    gateway: Gateway
    second: Gateway
    shop: Shop
    log: Log = field(default_factory=Log)
    restarts: list[float] = field(default_factory=list)
    ways: list[str] = field(default_factory=list)
    deaths: int = 0
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
        if not self.ways:  # each of them, in any order, before any comes again
            self.ways = self.chance.sample(list(WAYS), len(WAYS))
        way = self.ways.pop()
        moment = self.chance.uniform(*LOAD_SECONDS)
        victims = {
            "first": self.gateway.pid,
            "second": self.second.pid,
            "postgres": self.gateway.child("postgres"),
        }
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.shop.busy(enough))
            await asyncio.sleep(moment)
            for victim, number in WAYS[way]:
                os.kill(victims[victim], number)
                await asyncio.sleep(self.chance.choice((0.0, 0.1)))
            await asyncio.sleep(AFTERWARDS_SECONDS)
            enough.set()
        killed = {victim for victim, _ in WAYS[way]}
        self.hard_kills += "postgres" in killed
        self.deaths += bool(killed - {"postgres"})
        print(f"killed {way} after {moment:.3f} s, the processor answering in {delay} s")  # noqa: T201 - shown with a failure
        await asyncio.to_thread(self.start_again, killed)

    def start_again(self, victims: Collection[str]) -> None:
        """Start what was killed; what was not has to come back by itself."""
        if "first" in victims:
            assert self.gateway.wait() == -signal.SIGKILL
            self.gateway = self._timed(started)
        if "second" in victims:
            assert self.second.wait() == -signal.SIGKILL
            self.second = self._timed(started_second)

    def _timed(self, start: Callable[[Path], Gateway]) -> Gateway:
        began = time.monotonic()
        gateway = start(self.folder)
        self.restarts.append(time.monotonic() - began)
        return gateway

    async def until_settled(self) -> None:
        """Wait until both gateways do all their work, and nothing is under way in them."""

        async def is_settled() -> bool:
            with suppress(OSError, asyncpg.PostgresError):
                states = await states_of_intents(self.dsn)
                return "attempted" not in states and await self.shop.all_ready()
            return False

        await eventually(is_settled, "a gateway does not come back", seconds=SETTLED_SECONDS)

    async def check_what_was_told(self, since: int) -> None:
        """Nothing acknowledged is lost; all that arrived was on record before."""
        read = len(self.log.entries)
        await self.log.read_on(self.dsn)
        self.crashed += self.log.crashed(since=read)
        self.log.holds(self.shop.book)
        assert self.log.created == await stored_tokens(self.dsn), "rows and entries differ"
        new = list(self.shop.book.numbers)[since:]
        found = await self.shop.stored_cards(new)
        lost = [token for token in new if found[token] != 200]
        assert not lost, f"{len(lost)} of {len(new)} acknowledged tokens are not there"
        self.log.precedes(Arrivals.read(self.folder / ARRIVALS), self.shop.book)
        verdict = await check_log(self.dsn, [self.parts.vault_audit_log_file])
        assert verdict.is_good, (verdict.report.violations[:3], verdict.join)
        await published(self.dsn)

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
        await self.log.read_on(self.dsn)
        self.log.has_leaves(book)
        store = await asyncpg.connect(self.dsn)
        try:
            await eventually(lambda: one_publishes(store), "there is not one", seconds=20)
        finally:
            await store.close()
        assert (await published(self.dsn)).checkpoints > 1


async def one_publishes(store: Store) -> bool:
    return len(await publishers(store)) == 1


def started(folder: Path) -> Gateway:
    return until_ready(folder, "--embedded", str(folder), "--unsafe-sandbox-remembers")


def started_second(folder: Path) -> Gateway:
    return until_ready(folder, "--config", str(folder / f"{SECOND}.toml"))


def until_ready(folder: Path, *words: str) -> Gateway:
    gateway = Gateway(folder.parent / f"written-{time.monotonic_ns()}", *words)
    gateway.until_ready()
    return gateway


def write_second(folder: Path) -> Door:
    """Configure the second gateway: as the first is, elsewhere."""
    text = (folder / "panward.toml").read_text()
    listeners = ("public", "private", "ops", "connect", "inbound")
    ports = free_ports(len(listeners))
    for listener, port in zip(listeners, ports, strict=True):
        place = rf"(\[listeners.{listener}\].*\nhost = .*\nport = )\d+"
        text, found = re.subn(place, rf"\g<1>{port}", text)
        assert found == 1
    text = text.replace('state_folder = "gateway"', f'state_folder = "{SECOND}"')
    (folder / f"{SECOND}.toml").write_text(text)
    return Door(*(f"https://127.0.0.1:{port}" for port in ports[:3]))


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
    doors = (own_door(folder), write_second(folder))
    second = started_second(folder)
    killed = Killed(folder, chance, gateway, second, Shop(folder, chance, doors))
    try:
        await go_on_killing(killed, rounds)
    finally:
        statuses = (killed.second.stop(), killed.gateway.stop())
    assert statuses == (0, 0)
    assert leaks(folder) == []
    check_how_it_went(killed)


async def go_on_killing(killed: Killed, rounds: int) -> None:
    for _ in range(rounds):
        before = len(killed.shop.book.numbers)
        await killed.kill_under_load()
        await killed.until_settled()
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
        f"{len(book.numbers)} tokens, {len(book.payments)} payments, {len(book.leaves)} receipts,"
        f" {killed.crashed} intents open at a kill; {killed.hard_kills} kills of PostgreSQL too;"
        f" restarts {', '.join(f'{seconds:.1f}' for seconds in killed.restarts)} s"
    )
    assert killed.crashed >= killed.deaths, "hardly anything was under way"
    assert len(book.leaves) >= len(killed.restarts), "hardly any receipt"
    assert max(killed.restarts) < RESTART_SECONDS_MAX
