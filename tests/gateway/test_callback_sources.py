"""Whose an address is: by its name, and by what that name's own server says."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
import trustme

from gateway.callback_sources import (
    AWAY_FOR_SECONDS,
    OTHER_FOR_SECONDS,
    OTHERS_MAX,
    OWN_FOR_SECONDS,
    OWN_MAX,
    QUESTIONS_MAX,
    CallbackSources,
    SystemReverse,
    certifies,
    names_of,
)
from gateway.errors import UpstreamUnavailable

SUFFIXES = (".worldpay.com",)
V4, V6 = "195.35.90.111", "2a02:26f0::7"
OWN = "mms2.worldpay.com"


@dataclass
class Dns:
    """Names of addresses and addresses of names; counts the questions."""

    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    addresses: Mapping[str, Sequence[str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    is_away: bool = False
    gate: asyncio.Event | None = None

    async def reverse(self, address: str) -> Sequence[str]:
        return await self._answer(address, self.names)

    async def forward(self, name: str, port: int) -> Sequence[str]:
        return await self._answer(name, self.addresses)

    async def _answer(self, asked: str, told: Mapping[str, Sequence[str]]) -> Sequence[str]:
        self.asked.append(asked)
        if self.gate is not None:
            await self.gate.wait()
        if self.is_away:
            raise socket.gaierror(socket.EAI_AGAIN, "canary")
        return told.get(asked, ())


@dataclass
class Clock:
    """Tells the time that a test sets."""

    at: float = 0.0

    def __call__(self) -> float:
        return self.at


def sources(dns: Dns, clock: Clock | None = None, *, seconds: float = 5.0) -> CallbackSources:
    return CallbackSources(
        clock or Clock(), reverse=dns.reverse, forward=dns.forward, lookup_seconds=seconds
    )


def one(name: str, *addresses: str, of: str = V4) -> Dns:
    return Dns({of: [name]}, {name.lower().removesuffix("."): addresses})


@pytest.mark.parametrize(
    ("address", "dns"),
    [
        (V4, one(OWN, V4)),
        (V4, one("MMS2.WorldPay.com.", "192.0.2.1", V4)),
        (V6, one(OWN, V6, of=V6)),
        (V6, one(OWN, "2A02:26F0:0:0::0007", of=V6)),
        (f"::ffff:{V4}", one(OWN, V4)),
        (V4, one(OWN, f"::ffff:{V4}")),
        (V4, Dns({V4: ["other.example", OWN]}, {OWN: [V4]})),
    ],
)
async def test_a_confirmed_name_is_believed(address: str, dns: Dns) -> None:
    assert await sources(dns).are(address, SUFFIXES)


@pytest.mark.guards("T-44")
@pytest.mark.parametrize(
    ("address", "dns"),
    [
        (V4, one("mms2.worldpay.com.evil.example", V4)),
        (V4, one("evilworldpay.com", V4)),
        (V4, one("worldpay.com", V4)),
        (V4, one("mms2.worldpay.co", V4)),
        (V4, one(".worldpay.com", V4)),
        (V4, one("a..worldpay.com", V4)),
        (V4, one("evil.example\0.worldpay.com", V4)),
        (V4, one("evil.example/.worldpay.com", V4)),
        (V4, one("a b.worldpay.com", V4)),
        (V4, one("\u1e98orldpay.worldpay.com", V4)),
        (V4, one(f"{'a.' * 130}worldpay.com", V4)),
        (V4, one(OWN, "192.0.2.1")),  # whoever holds an address can say that name
        (V4, one(OWN)),
        (V4, Dns()),
        (V4, Dns({V4: [*["other.example"] * 4, OWN]}, {OWN: [V4]})),
        (V6, one(OWN, V4, of=V6)),
        (f"{V6}%eth0", one(OWN, f"{V6}%eth0", of=f"{V6}%eth0")),
        ("unknown", one(OWN, V4)),
        ("", one(OWN, V4)),
    ],
)
async def test_any_other_is_not(address: str, dns: Dns) -> None:
    assert not await sources(dns).are(address, SUFFIXES)


async def test_an_answer_serves_for_a_while() -> None:
    clock, dns = Clock(), one(OWN, V4)
    asked = sources(dns, clock)
    for at in (0.0, OWN_FOR_SECONDS - 1):
        clock.at = at
        assert await asked.are(V4, SUFFIXES)
    assert dns.asked == [V4, OWN]
    clock.at, dns.addresses = OWN_FOR_SECONDS, {}
    assert not await asked.are(V4, SUFFIXES)
    clock.at, dns.addresses = OWN_FOR_SECONDS + OTHER_FOR_SECONDS, {OWN: [V4]}
    assert await asked.are(V4, SUFFIXES)
    assert not await asked.are(V4, (".other.example",))  # what is known is of these suffixes


async def test_no_answer_is_neither_yes_nor_no() -> None:
    clock, dns = Clock(), one(OWN, V4)
    asked, dns.is_away = sources(dns, clock), True
    for _ in range(3):
        with pytest.raises(UpstreamUnavailable) as raised:
            await asked.are(V4, SUFFIXES)
        assert raised.value.__context__ is None
    assert dns.asked == [V4]
    clock.at, dns.is_away = AWAY_FOR_SECONDS, False
    assert await asked.are(V4, SUFFIXES)


async def test_a_resolver_that_says_nothing_is_not_waited_for() -> None:
    dns = one(OWN, V4)
    dns.gate = asyncio.Event()
    with pytest.raises(UpstreamUnavailable):
        await sources(dns, seconds=0.01).are(V4, SUFFIXES)


async def test_many_who_wait_ask_once() -> None:
    dns = one(OWN, V4)
    dns.gate = asyncio.Event()
    asked = sources(dns)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(asked.are(V4, SUFFIXES)) for _ in range(20)]
        await asyncio.sleep(0)
        tasks.pop(0).cancel()
        dns.gate.set()
    assert all(task.result() for task in tasks)
    assert len(dns.asked) <= 3  # the first was canceled, and the next one asked in its place


async def test_only_so_many_are_remembered() -> None:
    dns = Dns()
    asked = sources(dns)
    for at in range(OTHERS_MAX + 50):
        assert not await asked.are(f"10.0.{at // 256}.{at % 256}", SUFFIXES)
    assert len(asked._others) == OTHERS_MAX
    every = [f"10.1.{at // 256}.{at % 256}" for at in range(OWN_MAX + 50)]
    dns.names, dns.addresses = {each: [OWN] for each in every}, {OWN: every}
    for address in every:
        assert await asked.are(address, SUFFIXES)
    assert (len(asked._own), len(asked._others)) == (OWN_MAX, OTHERS_MAX - 1)


# --- who wants to keep us busy --------------------------------------------------------------


@dataclass
class Tarpit(Dns):
    """A name server that never answers about strangers; everybody else is told at once."""

    async def reverse(self, address: str) -> Sequence[str]:
        if address not in self.names:
            self.asked.append(address)
            await asyncio.Event().wait()
        return await self._answer(address, self.names)


@asynccontextmanager
async def strangers_asking(asked: CallbackSources, count: int) -> AsyncIterator[None]:
    async def ask(address: str) -> None:
        with suppress(UpstreamUnavailable):
            await asked.are(address, SUFFIXES)

    tasks = [asyncio.create_task(ask(f"10.9.{at // 256}.{at % 256}")) for at in range(count)]
    await asyncio.sleep(0)
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.guards("T-52")
async def test_strangers_do_not_hold_up_who_is_known() -> None:
    clock, dns = Clock(), Tarpit({V4: [OWN]}, {OWN: [V4]})
    asked = sources(dns, clock)
    assert await asked.are(V4, SUFFIXES)
    clock.at = OWN_FOR_SECONDS  # it has to be asked again
    async with strangers_asking(asked, 3 * QUESTIONS_MAX), asyncio.timeout(1):
        assert len(dns.asked) == 2 + QUESTIONS_MAX
        assert await asked.are(V4, SUFFIXES)


@pytest.mark.guards("T-52")
async def test_nobody_waits_for_longer_than_that_until_it_is_his_turn() -> None:
    asked = sources(Tarpit({V4: [OWN]}, {OWN: [V4]}), seconds=0.2)
    async with strangers_asking(asked, 80 * QUESTIONS_MAX), asyncio.timeout(5):
        with suppress(UpstreamUnavailable):  # one after the other, it would be 16 seconds
            await asked.are(V4, SUFFIXES)


@pytest.mark.guards("T-52")
async def test_a_network_of_one_customer_is_asked_about_once() -> None:
    dns = Dns()
    asked = sources(dns)
    for at in range(50):
        assert not await asked.are(f"2001:db8::{at:x}", SUFFIXES)
        assert not await asked.are(f"2001:db8:0:1::{at:x}", SUFFIXES)
    assert dns.asked == ["2001:db8::", "2001:db8:0:1::"]
    assert len(asked._others) == 2


@pytest.mark.guards("T-52")
async def test_an_address_is_believed_for_itself_and_not_for_its_network() -> None:
    beside = "2a02:26f0::8"
    dns = one(OWN, V6, of=V6)
    asked = sources(dns)
    dns.gate = asyncio.Event()
    both = asyncio.gather(asked.are(V6, SUFFIXES), asked.are(beside, SUFFIXES))
    await asyncio.sleep(0)
    dns.gate.set()
    assert list(await both) == [True, False]
    assert not await asked.are(beside, SUFFIXES)
    assert await asked.are(V6, SUFFIXES)


async def test_who_is_no_longer_the_processor_is_a_stranger() -> None:
    clock, dns = Clock(), one(OWN, V4)
    asked = sources(dns, clock)
    assert await asked.are(V4, SUFFIXES)
    clock.at, dns.addresses = OWN_FOR_SECONDS, {}
    assert not await asked.are(V4, SUFFIXES)
    assert not asked._own
    clock.at, dns.is_away, dns.addresses = 2 * OWN_FOR_SECONDS, True, {OWN: [V4]}
    with pytest.raises(UpstreamUnavailable):
        await asked.are(V4, SUFFIXES)


async def test_threads_of_its_own_are_asked() -> None:
    """A lookup that hangs holds up none of the event loop's: processors are looked up there."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(default := ThreadPoolExecutor(1))
    holds, free = threading.Event(), threading.Event()

    def hang() -> None:
        holds.set()
        free.wait()

    default.submit(hang)
    try:
        assert holds.wait(5)
        async with asyncio.timeout(5):
            assert list(await SystemReverse()("127.0.0.1"))
    finally:
        free.set()


async def test_the_systems_own_resolver() -> None:
    assert list(await SystemReverse()("127.0.0.1"))
    asked = CallbackSources(Clock())
    assert not await asked.are("127.0.0.1", SUFFIXES)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["mms.worldpay.com"], True),
        (["other.example", "MMS.worldpay.com"], True),
        (["*.worldpay.com"], False),
        (["worldpay.com"], False),
        (["mms.worldpay.com.evil.example"], False),
        ([], False),
    ],
)
def test_a_client_certificate_is_judged_by_its_names(names: list[str], expected: bool) -> None:  # noqa: FBT001 - a parameter
    assert certifies(names, SUFFIXES) is expected


def test_a_suffix_without_a_dot_is_our_bug() -> None:
    with pytest.raises(AssertionError):
        certifies(["evilworldpay.com"], ("worldpay.com",))


def test_names_are_those_that_the_certificate_is_for() -> None:
    made = trustme.CA().issue_cert("mms.worldpay.com", "b.example", common_name="c.worldpay.com")
    der = ssl.PEM_cert_to_DER_cert(made.cert_chain_pems[0].bytes().decode())
    assert list(names_of(der)) == ["mms.worldpay.com", "b.example"]
    assert list(names_of(None)) == list(names_of(b"0")) == []
