"""What the processor reports later, on its way to the demo's shop: it is set up and heard here.

The shop's server takes what the gateway posts and lets Stripe's SDK say whether it is genuine. What
never lives here: what a callback means (that is the gateway's to say), a secret after this run.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec

from gateway.config import Config
from gateway.custody import utc_now
from gateway.demo.clients import CREATED, Client, PlainHttp
from gateway.demo.orders import Heard, Hook, Pay, Reported
from gateway.demo.plain_http import HttpAnswer
from gateway.demo.processor import SandboxProcessor
from gateway.demo.scene import StoryBroke
from gateway.embedded import Credentials, set_callback_secret
from gateway.sandbox.callback_control import (
    CallBackNoMore,
    CallBackTo,
    HoldCallbacks,
    ReleaseCallbacks,
)
from gateway.sandbox.callbacks import others_secret
from gateway.sandbox.control import LoseNextAnswer
from gateway.sandbox.stripe_callbacks import StripeEvent
from vault.callback_endpoint_table import CallbackEndpointTable
from vault.db import Database

T = TypeVar("T")

ROUTE: Final = "stripe"
SECRET_NAME: Final = "key.demo"  # noqa: S105 - its name in HashiCorp Vault
HOOK: Final = "/hooks/stripe"
PAID: Final = "payment_intent.succeeded"
LATE_SECONDS: Final = 2.0
"""So long a report is on its way where the answer was lost: time enough to see the shop wait."""
HEARD_SECONDS: Final = 15.0
POSTS_MAX: Final = 1000


class _Secret(msgspec.Struct):
    scheme: str
    secret: str


class _Endpoint(msgspec.Struct):
    id: str
    url: str
    secrets: list[_Secret] = []


class _Endpoints(msgspec.Struct):
    data: list[_Endpoint]


class Delivery(msgspec.Struct, frozen=True):
    """One of `GET /v1/deliveries`."""

    state: str
    tries: int


class _Deliveries(msgspec.Struct):
    data: list[Delivery]


@dataclass(frozen=True, slots=True, repr=False)
class Registered:
    """What stands where: at the processor, and at the gateway for the shop."""

    callback_path: str
    """Of the public listener: what one types into the processor's dashboard."""
    secret: str
    """What the processor signs with."""
    endpoint: str
    """The shop's webhook endpoint at the gateway."""
    own_secret: str
    """What the shop gives Stripe's SDK."""


@dataclass(slots=True, repr=False)
class Reports:
    """The shop's hearing. `posts` are the bodies that came; `paid` what the SDK made of them."""

    shop: Client
    office: PlainHttp
    public: PlainHttp
    processor: SandboxProcessor
    credentials: Credentials
    registered: Registered
    posts: list[bytes] = field(default_factory=list[bytes])
    paid: dict[str, Reported] = field(default_factory=dict[str, Reported])  # by order
    _lost_at: float = 0.0
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    # --- at the processor -----------------------------------------------------------------

    @asynccontextmanager
    async def called_back(self) -> AsyncIterator[None]:
        """Have the processor report what happens within the block."""
        url = self.credentials.public_url + self.registered.callback_path
        secret, ca_file = self.registered.secret, self.credentials.ca_file
        await self.processor.do(
            CallBackTo(processor=ROUTE, url=url, secret=secret, ca_file=ca_file)
        )
        try:
            yield
        finally:
            with suppress(StoryBroke, OSError):  # it may have ended before us
                await self.processor.do(CallBackNoMore(ROUTE))

    async def unanswered(self, pay: Pay) -> Heard:
        """Pay, lose the answer, and let the report of it wait until somebody asks."""
        await self.processor.do(HoldCallbacks())
        await self.processor.do(LoseNextAnswer())
        heard = await self.shop.tell(pay, Heard)
        self._lost_at = asyncio.get_running_loop().time()
        return heard

    async def forged(self, order: str) -> HttpAnswer:
        """Say that an order is paid, as somebody who knows all but the secret."""
        at, tag = utc_now(), secrets.token_hex(8)
        about = {"id": f"pi_{tag}", "metadata": {"order_id": order}, "status": "succeeded"}
        event = StripeEvent(f"evt_{tag}", PAID, int(at.timestamp()), f"pi_{tag}", about)
        post = event.posted(others_secret(self.registered.secret), at=at)
        return await self.public.post_raw(
            self.registered.callback_path, post.body.decode(), post.headers
        )

    # --- at the shop ----------------------------------------------------------------------

    async def hear(self, body: bytes, signature: str) -> bool:
        """Take a post; False when Stripe's SDK does not take it for genuine."""
        hook = Hook(body.decode("utf-8", "replace"), signature, self.registered.own_secret)
        said = await self.shop.tell(hook, Reported)
        if not said.is_genuine:
            return False
        async with self._news:
            self.posts.append(body)
            del self.posts[:-POSTS_MAX]
            if said.type == PAID:
                self.paid[said.order_id] = said
            while len(self.paid) > POSTS_MAX:
                del self.paid[next(iter(self.paid))]
            self._news.notify_all()
        return True

    async def awaited(self, order: str) -> bool:
        """Wait until it is reported that an order is paid; False: not in time."""
        now = asyncio.get_running_loop().time
        await asyncio.sleep(max(0.0, self._lost_at + LATE_SECONDS - now()))
        await self.processor.do(ReleaseCallbacks())
        with suppress(TimeoutError):
            async with asyncio.timeout(HEARD_SECONDS), self._news:
                await self._news.wait_for(lambda: order in self.paid)
        return order in self.paid

    async def deliveries(self) -> Sequence[Delivery]:
        """What was on its way to the shop in this run."""
        answer = await self.office.get(f"/v1/deliveries?endpoint={self.registered.endpoint}")
        return _read(answer, _Deliveries).data


# --- setting it up ------------------------------------------------------------------------


async def register(
    config: Config, database: Database, office: PlainHttp, *, tenant: str, shop_url: str
) -> Registered:
    """Make both ends, anew for each run; the URL stays. Raises StoryBroke, any CustodyError."""
    table = CallbackEndpointTable(database)
    found = [one for one in await table.endpoints(tenant) if one.route == ROUTE]
    made = next((one for one in found if one.is_in_force(utc_now())), None)
    made = made or await table.add_endpoint(tenant, ROUTE, "stripe", at=utc_now())
    if made is None:
        raise StoryBroke("there is no room for a callback endpoint")
    secret = f"whsec_{secrets.token_hex(24)}"
    if await set_callback_secret(config, tenant, ROUTE, SECRET_NAME, secret) is None:
        raise StoryBroke("the callback secret cannot be set")
    await unregister(office, shop_url)  # of a demo that was killed
    wanted = {"url": shop_url + HOOK, "form": "callbacks", "route": ROUTE}
    endpoint = _read(await office.post("/v1/webhook-endpoints", wanted), _Endpoint)
    own = next(one.secret for one in endpoint.secrets if one.scheme == "stripe")
    return Registered(f"/callbacks/{made.id}", secret, endpoint.id, own)


async def unregister(office: PlainHttp, shop_url: str) -> None:
    """Remove the shop's webhook endpoint: nobody listens there after the demo."""
    for each in _read(await office.get("/v1/webhook-endpoints"), _Endpoints).data:
        if each.url == shop_url + HOOK:
            await office.delete(f"/v1/webhook-endpoints/{each.id}")


def _read(answer: HttpAnswer, kind: type[T]) -> T:
    if answer.status not in {200, CREATED}:
        raise StoryBroke(f"a call of the back office answers {answer.status}")
    return msgspec.json.decode(answer.body, type=kind)
