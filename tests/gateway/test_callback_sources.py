"""Whose an address is: by its name, and by what that name's own server says."""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from gateway.callback_sources import (
    ADDRESSES_MAX,
    AWAY_FOR_SECONDS,
    OTHER_FOR_SECONDS,
    OWN_FOR_SECONDS,
    CallbackSources,
    certifies,
    system_reverse_lookup,
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
    for at in range(ADDRESSES_MAX + 50):
        assert not await asked.are(f"10.0.{at // 256}.{at % 256}", SUFFIXES)
    assert len(asked._known) == ADDRESSES_MAX


async def test_the_systems_own_resolver() -> None:
    assert list(await system_reverse_lookup("127.0.0.1"))
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
