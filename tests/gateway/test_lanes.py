"""A route as it is served: whose key goes along, and whose connections are used."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway import preset as presets
from gateway.addresses import AddressAllow
from gateway.breaker import Breaker
from gateway.call import Call
from gateway.config import Route
from gateway.errors import CredentialsMissing
from gateway.exchange import Outcome, Replied
from gateway.lanes import POOLS_MAX, Guards, Lane
from gateway.limits import CallLimits
from gateway.upstream import Upstream
from vault.keys import RevealKeys

CALL = Call(
    "POST",
    "/v1/refunds",
    "",
    [
        ("Authorization", "Bearer pwsk_test_x"),
        ("Panward-Key", "pwsk_test_x"),
        ("Cookie", "a=b"),
        ("X-Forwarded-For", "192.0.2.1"),
        ("Stripe-Version", "2026-01-01"),
        ("Idempotency-Key", "key-1"),
    ],
    b"",
)


class Recorded(Upstream):
    """Keeps what it was asked to send; answers when it is let go."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Sequence[tuple[str, str]]]] = []
        self.closed = False
        self.go = asyncio.Event()
        self.go.set()

    async def send(
        self,
        method: str,
        path: str,
        query: str,
        headers: Sequence[tuple[str, str]],
        body: bytes | bytearray,
    ) -> Outcome:
        self.sent.append((f"{method} {path}{query}", headers))
        await self.go.wait()
        assert not self.closed, "a connection was closed under a call"
        return Replied(200, (), b"{}", 1.0, 1.0)

    async def close(self) -> None:
        self.closed = True


class Stored(RevealKeys):
    """The credentials of some tenants."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self.secrets = secrets

    async def processor_secret(self, tenant: str, route: str) -> Mapping[str, str] | None:
        key = self.secrets.get(f"{tenant}/{route}")
        return None if key is None else {"api_key": key}


def lane(credential: str = "injected") -> tuple[Lane, list[Recorded]]:
    made: list[Recorded] = []

    def make(_certificate: tuple[str, str] | None) -> Upstream:
        made.append(Recorded())
        return made[-1]

    route = Route(
        name="stripe",
        preset=presets.load("stripe"),
        host="api.stripe.com",
        port=443,
        credential=credential,
        address_allow=AddressAllow.parse(()),
        ca_file=Path("ca.pem"),
        concurrency=4,
    )
    keys = Stored({"t_one/stripe": "sk_of_one", "t_two/stripe": "sk_of_two", "t_one/other": "no"})
    now = lambda: datetime.now(UTC)  # noqa: E731
    guards = Guards(
        CallLimits(time.monotonic, burst=POOLS_MAX * 2), Breaker(time.monotonic, lambda: 0.5)
    )
    return Lane(route, make, keys, guards, now=now, monotonic=time.monotonic), made


async def test_the_processors_key_is_put_in_the_place_of_ours() -> None:
    served, made = lane()
    await served.send("t_one", CALL, await served.secret("t_one"), b"")
    ((target, headers),) = made[0].sent
    assert target == "POST /v1/refunds"
    assert headers == [
        ("Stripe-Version", "2026-01-01"),
        ("Idempotency-Key", "key-1"),
        ("Authorization", "Bearer sk_of_one"),
    ]


async def test_a_caller_with_its_own_key_keeps_it_and_ours_is_taken_away() -> None:
    served, made = lane("own")
    assert not served.injects
    await served.send("t_one", CALL, await served.secret("t_one"), b"")
    ((_, headers),) = made[0].sent
    assert ("Authorization", "Bearer pwsk_test_x") in headers
    assert not [name for name, _ in headers if name.lower().startswith("panward")]


async def test_without_credentials_nothing_is_sent() -> None:
    served, made = lane()
    with pytest.raises(CredentialsMissing):
        await served.secret("t_three")
    assert not made


async def test_a_secret_prints_nothing() -> None:
    served, _ = lane()
    assert "sk_of_one" not in repr(await served.secret("t_one"))


@pytest.mark.guards("T-50")
async def test_tenants_share_no_connection() -> None:
    served, made = lane()
    for tenant in ("t_one", "t_two", "t_one"):
        await served.send(tenant, CALL, await served.secret(tenant), b"")
    credentials = [{dict(headers)["Authorization"] for _, headers in each.sent} for each in made]
    assert credentials == [{"Bearer sk_of_one"}, {"Bearer sk_of_two"}]


async def test_the_longest_unused_connections_make_room_and_none_under_a_call() -> None:
    served, made = lane("own")
    secret = await served.secret("t_0")
    waiting = asyncio.ensure_future(served.send("t_0", CALL, secret, b""))
    await asyncio.sleep(0)
    made[0].go.clear()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(served.send("t_0", CALL, secret, b""))
        await asyncio.sleep(0)
        for number in range(1, POOLS_MAX + 2):
            await served.send(f"t_{number}", CALL, secret, b"")
        assert not made[0].closed, "a call is under way on it"
        assert [each.closed for each in made[1:4]] == [True, True, False]
        made[0].go.set()
    assert isinstance(first.result(), Replied)
    assert isinstance(await waiting, Replied)
    await served.close()
    assert all(each.closed for each in made)


async def test_only_listed_headers_of_a_reply_go_back() -> None:
    served, _ = lane()
    headers = (("Request-Id", "req_1"), ("Set-Cookie", "a=b"), ("Location", "https://x.example"))
    assert served.returned(headers) == (("Request-Id", "req_1"),)
