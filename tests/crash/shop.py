"""A shop under load, and its own book of what it was told.

Only what stands in an answer that came whole counts as told. Each card has another number, each
payment another token and another idempotency key, so that whatever arrives anywhere can be traced.
"""

import asyncio
import itertools
import json
import random
import ssl
from collections.abc import AsyncIterator, Iterable
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

    def unsettled(self) -> list[Payment]:
        return [one for one in self.payments.values() if not one.is_settled]


class Shop:
    """A merchant's servers and its customers' browsers."""

    def __init__(self, folder: Path, chance: random.Random | None = None) -> None:
        self._credentials = json.loads((folder / "credentials.json").read_bytes())
        self._context = ssl.create_default_context(cafile=self._credentials["ca_file"])
        self._chance = chance or random.Random(0)  # noqa: S311 - a mix of orders, no secrets
        self._cards = itertools.count()
        self.book = Book()

    async def one_payment(self) -> None:
        """Store a card and pay with it."""
        async with self._wires() as (_, private):
            token = await self._tokenize(private, self._credentials["secret_key"], with_cvc=True)
            assert token is not None
            order = f"order-{uuid4()}"
            body = form(payment(token, cvc="000"))
            one = self.book.payments[order] = Payment(order, token, body, with_cvc=True)
            await self._pay(private, one)
            assert one.is_approved, one.answer

    async def busy(self) -> None:
        """Take orders on many connections at once, until nobody answers any more."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._take_orders())

    async def stored_cards(self, tokens: Iterable[str]) -> dict[str, int]:
        """Ask for each token; give the status of each answer."""
        wanted, found = iter(tokens), {}

        async def ask() -> None:
            async with self._wires() as (_, private):
                for token in wanted:
                    found[token] = 503
                    while found[token] == 503:  # not lost, only not looked up
                        answer = await private("GET", f"/v1/tokens/{token}", headers=self._secret())
                        found[token] = answer.status

        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(ask())
        return found

    async def ask_again(self, payments: Iterable[Payment]) -> None:
        """Repeat requests that were not answered for good: same key, same body."""
        left = iter(payments)

        async def ask() -> None:
            async with self._wires() as (_, private):
                for one in left:
                    await self._pay(private, one)

        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(ask())

    # --- orders ------------------------------------------------------------------------------

    async def _take_orders(self) -> None:
        async with self._wires() as (public, private):
            while True:
                try:
                    await self._take_order(public, private)
                except NoAnswer:
                    return

    async def _take_order(self, public: RawWire, private: RawWire) -> None:
        with_cvc = self._chance.random() < WITH_CVC
        by_browser = self._chance.random() < 0.5
        wire, key = (public, "publishable_key") if by_browser else (private, "secret_key")
        token = await self._tokenize(wire, self._credentials[key], with_cvc=with_cvc)
        if token is not None and self._chance.random() < PAYING:
            order = f"order-{uuid4()}"
            fields = payment(token, cvc="000") if with_cvc else payment(token)
            one = Payment(order, token, form(fields), with_cvc)
            self.book.payments[order] = one
            await self._pay(private, one)

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
        one.answer = answer
        name = answer.headers.get("panward-authorization")
        if name is not None:
            pending = "ledger-pending" in answer.headers
            state = answer.headers["panward-state"]
            self.book.told.append(ToldState(name, state, pending))

    def _secret(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._credentials['secret_key']}"}

    @asynccontextmanager
    async def _wires(self) -> AsyncIterator[tuple[RawWire, RawWire]]:
        names = ("public_url", "private_url")
        public, private = (RawWire(self._credentials[name], self._context) for name in names)
        try:
            yield public, private
        finally:
            public.close()
            private.close()
