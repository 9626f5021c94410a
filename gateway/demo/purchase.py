"""One purchase in the demo's shop: what its server does with a token, and what it can prove of it.

The server is an ordinary merchant's: Stripe's SDK with a token where the number would be, the
gateway's API for what is on record, and a check of the ledger's proofs that needs nobody's word
but the log's key. What never lives here: HTTP towards the shopper (`storefront/`), a card number.
"""

import asyncio
import secrets
import shlex
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import msgspec

from gateway.demo.answers import said
from gateway.demo.clients import Client, PlainHttp
from gateway.demo.orders import Heard, Pay, SaveCard
from gateway.demo.processor import ReceivedCall, SandboxProcessor
from gateway.demo.reports import Reports
from gateway.demo.scene import StoryBroke
from vault.ledger.checkpoint import parse_tlog_proof
from vault.ledger.note import NoteRefused, VerifierKey
from vault.ledger.policy import NONE, Policy, PolicyLog
from vault.ledger.tree import InvalidProof, leaf_hash, verify_inclusion
from vault.tokens import is_token

PRICE: Final = 3400  # of one print, in cents
QUANTITY_MAX: Final = 5
PURCHASES_MAX: Final = 1000
OK: Final = 200
DECLINED: Final = "CardError"
LOOK_BACK: Final = 50
"""So many entries before the purchase's first: the token was made just before."""
EVENTS_MAX: Final = 100
WAITED_SECONDS: Final = 15.0
POLL_SECONDS: Final = 0.2
UNHEARD: Final = ("unionpay", "0005")
"""The test card after whose payment the connection breaks."""

THANKS: Final = "Thank you! If this were a shop, your print would be on its way."
REASONS: Final[Mapping[str, str]] = {
    "insufficient_funds": "This card has not enough on it. Nothing was charged; try another.",
    "expired_card": "This card has expired. Nothing was charged; try another.",
    "incorrect_cvc": "The security code is wrong. Nothing was charged; try again.",
}
NO: Final = "The bank said no to this card. Nothing was charged; try another one."
WAITING: Final = "The bank has not answered. Do not pay again: we will hear what became of it."
REPORTED: Final = f"{THANKS} The processor has reported that you paid."
TROUBLE: Final = "The payment did not go through. Please try again in a moment."


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the shopper's page asks for. `attempt` is its own name for this purchase."""

    attempt: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
    token: Annotated[str, msgspec.Meta(max_length=64)]
    quantity: Annotated[int, msgspec.Meta(ge=1, le=QUANTITY_MAX)]


class HeldCard(msgspec.Struct, frozen=True):
    """A masked card: what the shop's server gets for a token."""

    id: str
    brand: str
    last4: str
    exp_month: int
    exp_year: int


class SentCall(msgspec.Struct, frozen=True):
    """A call of the SDK's, with what the shop's server put into it."""

    method: str
    path: str
    fields: Mapping[str, str]


class Attempt(msgspec.Struct, frozen=True):
    """One send of an authorization."""

    intent: str


class Place(msgspec.Struct, frozen=True):
    """Where the latest entry of an authorization is."""

    index: int


class Event(msgspec.Struct, frozen=True):
    """What the processor reported of an authorization."""

    callback: str
    type: str
    effect: str


class Authorization(msgspec.Struct, frozen=True):
    """One of `GET /v1/authorizations/{id}`, as far as the page shows it."""

    id: str
    kind: str
    state: str
    result: str | None
    amount: int | None
    decline_code: str | None
    attempts: Sequence[Attempt]
    events: Sequence[Event]
    ledger: Place


class Purchase(msgspec.Struct, frozen=True):
    """What became of it; `outcome` is paid, waiting, declined or failed."""

    order: str
    outcome: str
    message: str
    milliseconds: int
    card: HeldCard
    sent: Sequence[SentCall]
    received: Sequence[ReceivedCall]
    authorizations: Sequence[Authorization]


class ProvenEntry(msgspec.Struct, frozen=True):
    """An entry of the ledger, and whether its proof holds."""

    index: int
    says: str
    leaf: str
    proven: bool


class Proof(msgspec.Struct, frozen=True):
    """All entries of a purchase; `commands` let anybody check the last call's again."""

    good: bool
    size: int
    entries: Sequence[ProvenEntry]
    commands: str


class PurchaseRefused(Exception):
    """There is no such token for this shop, or the attempt was another purchase's."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What a shop knows of the log: its key by an operator's word, and where to ask a command."""

    vkey: Callable[[], Awaitable[str]]
    command: str
    folder: Path


@dataclass(slots=True)
class Till:
    """The shop's server. One purchase at a time: its clients take one call at a time, too."""

    shop: Client
    office: PlainHttp
    processor: SandboxProcessor
    ledger: Ledger
    reports: Reports
    run: str = field(default_factory=lambda: secrets.token_hex(3))
    _made: dict[str, tuple[Wanted, Purchase]] = field(default_factory=dict)  # by attempt
    _methods: dict[str, str] = field(default_factory=dict)  # a saved card, by attempt
    _orders: dict[str, Purchase] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def buy(self, wanted: Wanted) -> Purchase:
        """Pay for a print, or give what became of this attempt before.

        Raises PurchaseRefused; StoryBroke when something that it needs does not answer.
        """
        async with self._turn:
            before = self._made.get(wanted.attempt)
            if before is not None and before[0] != wanted:
                raise PurchaseRefused
            if before is not None:
                return self._orders.get(before[1].order, before[1])
            made = await self._carry_out(wanted)
            if made.outcome != "failed":  # what failed may be tried again, under the same key
                self._made[wanted.attempt] = wanted, made
            self._orders[made.order] = made
            for kept in (self._made, self._methods, self._orders):
                while len(kept) > PURCHASES_MAX:
                    del kept[next(iter(kept))]
            return made

    async def outcome(self, order: str) -> Purchase | None:
        """Give a purchase as it is now: one that waits, once it is reported; None: no such.

        Raises StoryBroke when the gateway does not answer.
        """
        made = self._orders.get(order)
        if made is None or made.outcome != "waiting" or not await self.reports.awaited(order):
            return made
        known = [await self._authorization(each.id) for each in made.authorizations]
        made = msgspec.structs.replace(made, outcome="paid", message=REPORTED, authorizations=known)
        self._orders[order] = made
        return made

    async def prove(self, order: str) -> Proof | None:
        """Wait until a checkpoint covers a purchase, and check what it proves; None: no such.

        Raises StoryBroke when it takes too long.
        """
        made = self._orders.get(order)
        if made is None or not made.authorizations:
            return None
        vkey = await self.ledger.vkey()
        policy = Policy((PolicyLog(VerifierKey.parse(vkey), None),), {}, {}, NONE)
        checked = [await self._checked(event, policy) for event in await self._events(made)]
        entries = [entry for entry, _ in checked]
        return Proof(
            good=bool(entries) and all(entry.proven for entry in entries),
            size=max((size for _, size in checked), default=0),
            entries=entries,
            commands=self._commands(made.authorizations[-1].id, vkey),
        )

    # --- the purchase ---------------------------------------------------------------------

    async def _carry_out(self, wanted: Wanted) -> Purchase:
        now = asyncio.get_running_loop().time
        card, begun = await self._card(wanted.token), now()
        received = len((await self.processor.state()).received)
        heard = await self._paid(wanted, card)
        seconds = now() - begun
        known = [
            await self._authorization(each.headers["panward-authorization"])
            for each in heard
            if "panward-authorization" in each.headers
        ]
        outcome, message = _outcome(heard[-1], known)
        return Purchase(
            order=self._order(wanted),
            outcome=outcome,
            message=message,
            milliseconds=round(seconds * 1000),
            card=card,
            sent=[SentCall("POST", each.path, each.sent) for each in heard],
            received=(await self.processor.state()).received[received:],
            authorizations=known,
        )

    def _order(self, wanted: Wanted) -> str:
        return f"print-{self.run}-{wanted.attempt[:8]}"

    async def _card(self, token: str) -> HeldCard:
        """Ask the gateway what card this is: a page's word is not taken for it."""
        if not is_token(token, "test"):
            raise PurchaseRefused
        answer = await self.office.get(f"/v1/tokens/{token}")
        if answer.status != OK:
            raise PurchaseRefused
        return msgspec.json.decode(answer.body, type=HeldCard)

    async def _paid(self, wanted: Wanted, card: HeldCard) -> list[Heard]:
        """Let the SDK save the card and pay with it; the first may have been done before."""
        heard = []
        if wanted.attempt not in self._methods:
            order = SaveCard(card.id, card.exp_month, card.exp_year)
            heard.append(await self.shop.tell(order, Heard))
            if heard[0].is_error:
                return heard
            self._methods[wanted.attempt] = said(heard[0]).id
        pay = Pay(
            order_id=self._order(wanted),
            amount=PRICE * wanted.quantity,
            payment_method=self._methods[wanted.attempt],
            idempotency_key=wanted.attempt,
            description=f"The Keeper ({wanted.quantity})",
        )
        if (card.brand, card.last4) != UNHEARD:
            return [*heard, await self.shop.tell(pay, Heard)]
        pay.retries = 0  # the SDK's own would have it settled at once
        return [*heard, await self.reports.unanswered(pay)]

    async def _authorization(self, name: str) -> Authorization:
        answer = await self.office.get(f"/v1/authorizations/{name}")
        if answer.status != OK:
            raise StoryBroke(f"GET /v1/authorizations/… answers {answer.status}")
        return msgspec.json.decode(answer.body, type=Authorization)

    # --- its proof ------------------------------------------------------------------------

    async def _events(self, made: Purchase) -> Sequence["Placed"]:
        """Give the purchase's entries, once a checkpoint covers what became of each call."""
        intents = {attempt.intent for one in made.authorizations for attempt in one.attempts}
        latest = {one.ledger.index for one in made.authorizations}
        since = max(0, min(one.ledger.index for one in made.authorizations) - LOOK_BACK)
        path = f"/v1/ledger/events?since_index={since}&limit={EVENTS_MAX}"
        try:
            async with asyncio.timeout(WAITED_SECONDS):
                while True:
                    events = await self._listed(path)
                    ours = [each for each in events if each.entry.is_of(made.card.id, intents)]
                    if latest <= {each.index for each in ours}:
                        return ours
                    await asyncio.sleep(POLL_SECONDS)  # no checkpoint covers them yet
        except TimeoutError:
            pass
        raise StoryBroke("no checkpoint covers the purchase")

    async def _listed(self, path: str) -> Sequence["Placed"]:
        answer = await self.office.get(path)
        if answer.status != OK:
            raise StoryBroke(f"GET /v1/ledger/events answers {answer.status}")
        return msgspec.json.decode(answer.body, type=_Events).data

    async def _checked(self, event: "Placed", policy: Policy) -> tuple[ProvenEntry, int]:
        """Check the proof of an entry by its own bytes, and give the size of the log it is for."""
        answer = await self.office.get(f"/v1/ledger/proof/{event.id}")
        size = 0
        if answer.status == OK:
            size = proven_size(answer.body.encode(), event.raw, policy, index=event.index)
        leaf = leaf_hash(event.raw).hex()
        return ProvenEntry(event.index, event.entry.says, leaf, proven=size > 0), size

    def _commands(self, authorization: str, vkey: str) -> str:
        proof = f"{self.ledger.command} ledger proof"
        files, folder = "--entry print.json", shlex.quote(str(self.ledger.folder))
        write = f"{proof} {authorization} --embedded {folder} \\\n  {files} --out print.tlog-proof"
        check = f"{proof} --check print.tlog-proof {files} \\\n  --vkey {shlex.quote(vkey)}"
        return f"{write}\n{check}"


def _outcome(heard: Heard, known: Sequence[Authorization]) -> tuple[str, str]:
    if not heard.is_error and said(heard).status == "succeeded":
        return "paid", THANKS
    if heard.kind == DECLINED:
        error = said(heard).error
        return "declined", REASONS.get(error.decline_code or error.code or "", NO)
    if known and known[-1].state == "unknown":
        return "waiting", WAITING
    return "failed", TROUBLE


def proven_size(proof: bytes, body: bytes, policy: Policy, *, index: int) -> int:
    """Check that a signed checkpoint covers these bytes at this index; 0 if it does not."""
    try:
        found = parse_tlog_proof(proof)
        checkpoint = policy.check(found.note).checkpoint
        verify_inclusion(
            found.hashes,
            index=found.index,
            size=checkpoint.size,
            leaf=leaf_hash(body),
            root=checkpoint.root,
        )
    except (NoteRefused, InvalidProof):
        return 0
    return checkpoint.size if found.index == index else 0


# --- entries, as the API gives them -------------------------------------------------------


class Opening(msgspec.Struct, frozen=True):
    """What an intent is to open."""

    key: str


class Entry(msgspec.Struct, frozen=True):
    """What the page says of an entry."""

    type: str
    token: str | None = None
    intent: str | None = None
    operation: str | None = None
    result: str | None = None
    opens: Sequence[Opening] = ()

    @property
    def says(self) -> str:
        opens = " and ".join(each.key for each in self.opens)
        words = (self.type, self.operation, opens and f"opens {opens}", self.result)
        return ", ".join(word for word in words if word)

    def is_of(self, token: str, intents: set[str]) -> bool:
        return self.token == token or self.intent in intents


class Placed(msgspec.Struct, frozen=True):
    """An entry with its place; `raw` is what was hashed."""

    index: int
    id: str
    raw: bytes
    entry: Entry


class _Events(msgspec.Struct):
    data: list[Placed]
