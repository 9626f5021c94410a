"""A shop under load, and its own book of what it was told.

Only what stands in an answer that came whole counts as told. Each card has another number, each
payment another token and another idempotency key, so that whatever arrives anywhere can be traced.
Where there are several gateways it orders at any of them, and pays now and then at two at once.
"""

import asyncio
import itertools
import json
import random
import ssl
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from tests.cards import luhn_completed
from tests.crash.raw_wire import Answer, NoAnswer, RawWire
from tests.flows.merchant import FORM, INTENTS, JSON, form, payment

CLIENTS = 16
PAYING = 0.6  # of the cards that were stored
WITH_CVC = 0.25  # of the payments
AT_ONCE = 0.2  # of the payments: with the same key everywhere, where there are several gateways
LOOKED_UP = 0.5  # of the payments: for their place in the ledger
PAUSE_SECONDS = 0.05  # after a gateway that does not answer
TEST_PREFIX = "424242"  # numbers of this range are approved by the simulated processor


@dataclass
class Payment:
    """One payment: asked for until it is answered for good, each time the same."""

    key: str
    token: str
    body: bytes
    with_cvc: bool
    answer: Answer | None = None

    @property
    def is_settled(self) -> bool:
        """Whether there is no use in asking again, even later: it is done, or will never be."""
        if self.answer is None or self.answer.status == 503:  # a sealed ledger is not for ever
            return False
        return self.answer.headers.get("stripe-should-retry") != "true"

    @property
    def is_in_flight(self) -> bool:
        """Whether the answer was that the first request with this key is under way."""
        return self.answer is not None and self.answer.status == 409

    @property
    def is_approved(self) -> bool:
        return self.answer is not None and self.answer.status == 200


@dataclass(frozen=True)
class ToldState:
    """An authorization as an answer named it."""

    authorization: str
    state: str
    is_pending: bool  # not in the ledger yet, and said so


@dataclass
class Book:
    """What the shop was told, since the beginning."""

    numbers: dict[str, str] = field(default_factory=dict)  # by token
    told: list[ToldState] = field(default_factory=list)
    payments: dict[str, Payment] = field(default_factory=dict)  # by idempotency key
    leaves: dict[int, str] = field(default_factory=dict)  # by index in the ledger

    def unsettled(self) -> list[Payment]:
        return [one for one in self.payments.values() if not one.is_settled]


@dataclass(frozen=True)
class Door:
    """Where a gateway takes a shop's calls."""

    public_url: str
    private_url: str
    ops_url: str


def own_door(folder: Path) -> Door:
    """The door of the gateway that an embedded deployment comes with."""
    credentials = json.loads((folder / "credentials.json").read_bytes())
    return Door(*(credentials[f"{name}_url"] for name in ("public", "private", "ops")))


class Shop:
    """A merchant's servers and its customers' browsers."""

    def __init__(
        self, folder: Path, chance: random.Random | None = None, doors: Sequence[Door] = ()
    ) -> None:
        """Without `doors` there is one gateway, the folder's own."""
        self._credentials = json.loads((folder / "credentials.json").read_bytes())
        self._context = ssl.create_default_context(cafile=self._credentials["ca_file"])
        self._chance = chance or random.Random(0)  # noqa: S311 - a mix of orders, no secrets
        self._doors = doors or (own_door(folder),)
        self._cards = itertools.count()
        self.book = Book()

    async def one_payment(self) -> None:
        """Store a card and pay with it."""
        async with self._wires() as wires:
            private = wires[0].private
            token = await self._tokenize(private, self._credentials["secret_key"], with_cvc=True)
            assert token is not None
            order = f"order-{uuid4()}"
            body = form(payment(token, cvc="000"))
            one = self.book.payments[order] = Payment(order, token, body, with_cvc=True)
            await self._pay(private, one)
            assert one.is_approved, one.answer

    async def busy(self, enough: asyncio.Event) -> None:
        """Take orders on many connections at once, at whatever gateway answers."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._take_orders(enough))

    async def all_ready(self) -> bool:
        """Whether every gateway says that it can do its work."""
        for door in self._doors:
            ops = RawWire(door.ops_url, self._context)
            try:
                answer = await ops("GET", "/readyz")
            except NoAnswer:
                return False
            finally:
                ops.close()
            if answer.status != 200:
                return False
        return True

    async def stored_cards(self, tokens: Iterable[str]) -> dict[str, int]:
        """Ask for each token; give the status of each answer."""
        wanted, found = iter(tokens), {}

        async def ask() -> None:
            async with self._wires() as wires:
                for token in wanted:
                    found[token] = 503
                    while found[token] == 503:  # not lost, only not looked up
                        private = self._chance.choice(wires).private
                        answer = await private("GET", f"/v1/tokens/{token}", headers=self._secret())
                        found[token] = answer.status

        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(ask())
        return found

    async def ask_again(self, payments: Iterable[Payment]) -> None:
        """Repeat requests that were not answered for good: same key, same body, any gateway."""
        left = iter(payments)

        async def ask() -> None:
            async with self._wires() as wires:
                for one in left:
                    await self._pay(self._chance.choice(wires).private, one)

        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(ask())

    # --- orders ------------------------------------------------------------------------------

    async def _take_orders(self, enough: asyncio.Event) -> None:
        async with self._wires() as wires:
            while not enough.is_set():
                try:
                    await self._take_order(wires)
                except NoAnswer:
                    await asyncio.sleep(PAUSE_SECONDS)

    async def _take_order(self, wires: "Sequence[_Wires]") -> None:
        at = self._chance.choice(wires)
        with_cvc = self._chance.random() < WITH_CVC
        by_browser = self._chance.random() < 0.5
        wire, key = (at.public, "publishable_key") if by_browser else (at.private, "secret_key")
        token = await self._tokenize(wire, self._credentials[key], with_cvc=with_cvc)
        if token is not None and self._chance.random() < PAYING:
            order = f"order-{uuid4()}"
            fields = payment(token, cvc="000") if with_cvc else payment(token)
            one = Payment(order, token, form(fields), with_cvc)
            self.book.payments[order] = one
            if self._chance.random() < AT_ONCE:
                await self._pay_everywhere(wires, one)
            else:
                await self._pay(at.private, one)
            if self._chance.random() < LOOKED_UP:
                await self._look_up(self._chance.choice(wires).private, one)

    async def _pay_everywhere(self, wires: "Sequence[_Wires]", one: Payment) -> None:
        """Pay at all gateways at once, as an impatient client does; one answer is enough."""
        calls = (self._pay(each.private, one) for each in wires)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        lost = [outcome for outcome in outcomes if outcome is not None]
        if len(lost) == len(wires) or not all(isinstance(one, NoAnswer) for one in lost):
            raise lost[0]

    async def _look_up(self, wire: RawWire, one: Payment) -> None:
        """Have its place in the ledger shown, as a receipt."""
        name = one.answer.headers.get("panward-authorization") if one.answer else None
        if name is None:
            return
        answer = await wire("GET", f"/v1/authorizations/{name}", headers=self._secret())
        if answer.status == 200:
            ledger = answer.json()["ledger"]
            self.book.leaves[ledger["index"]] = ledger["leaf"]

    async def _tokenize(self, wire: RawWire, key: str, *, with_cvc: bool) -> str | None:
        number = luhn_completed(f"{TEST_PREFIX}{next(self._cards):09d}")
        card = {"number": number, "exp_month": 12, "exp_year": 2034}
        body = {"card": card | ({"cvc": "123"} if with_cvc else {})}
        headers = {"Authorization": f"Bearer {key}", "Content-Type": JSON}
        answer = await wire("POST", "/v1/tokens", json.dumps(body).encode(), headers)
        if answer.status != 201:
            assert answer.status == 503, answer.body
            return None
        token = str(answer.json()["id"])
        self.book.numbers[token] = number
        return token

    async def _pay(self, wire: RawWire, one: Payment) -> None:
        headers = self._secret() | {"Content-Type": FORM, "Idempotency-Key": one.key}
        answer = await wire("POST", f"/out/stripe{INTENTS}", one.body, headers)
        if not one.is_approved:  # the answer of another gateway may have been the better one
            one.answer = answer
        name = answer.headers.get("panward-authorization")
        if name is not None:
            pending = "ledger-pending" in answer.headers
            state = answer.headers["panward-state"]
            self.book.told.append(ToldState(name, state, pending))

    def _secret(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._credentials['secret_key']}"}

    @asynccontextmanager
    async def _wires(self) -> AsyncIterator["Sequence[_Wires]"]:
        wires = [
            _Wires(
                RawWire(door.public_url, self._context), RawWire(door.private_url, self._context)
            )
            for door in self._doors
        ]
        try:
            yield wires
        finally:
            for each in wires:
                each.public.close()
                each.private.close()


@dataclass(frozen=True)
class _Wires:
    """One client's connections to one gateway."""

    public: RawWire
    private: RawWire
