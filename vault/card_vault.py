"""The custody story: a card becomes a token, which is looked after and erased.

`CardVault` is what the public side has: it can store and erase, and cannot open. What opens is
`vault/card_opener.py`, and only under the name of a recorded intent.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from secrets import token_bytes
from typing import Final, Literal

from vault.card import Card, Expiry, check_cvc, is_published_test_number
from vault.card_opener import CardOpener
from vault.card_slices import in_slices
from vault.errors import FormatRefused, InvalidCard, TokenInUse, TokenUnknown
from vault.ids import new_uuid7
from vault.keys import Protected, TokenizeKeys
from vault.ledger.entry import Actor, TokenDeleted, TokenUpdated
from vault.ledger.forms import TokenChange, time_text
from vault.ledger.store import Ledger
from vault.ledger.unit import Line, committed
from vault.nonce_table import Nonce
from vault.pan import Cvc
from vault.token_creation import CVC_KEPT, NewToken, creation, cvc_row
from vault.token_table import (
    PAGE_MAX,
    ChangeToken,
    CvcRow,
    DeleteToken,
    PanLikeTaken,
    TokenExists,
    TokenRow,
    TokenTable,
)
from vault.tokens import PAN_LIKE_DIGITS_MIN, Env, new_token

__all__ = [
    "CVC_KEPT",
    "PAN_LIKE_TRIES_MAX",
    "CardOpener",
    "CardVault",
    "Change",
    "DeleteReason",
    "NewToken",
]

PAN_LIKE_TRIES_MAX: Final = 3
SLICE_CARDS: Final = 256  # as many as one transaction of the ledger takes
SLICES_AT_ONCE: Final = 4  # two at HashiCorp Vault, one being stored, one that waits for that

DeleteReason = Literal["request", "customer_erasure", "expired", "used"]
ChangeReason = Literal["patch", "reuse"]


@dataclass(frozen=True, slots=True)
class Change:
    """New values of a token's changeable fields."""

    exp_month: int | None
    exp_year: int | None
    expires_at: datetime | None
    customer_reference: str | None

    @property
    def expiry(self) -> Expiry | None:
        if self.exp_month is None or self.exp_year is None:
            return None
        return Expiry(self.exp_year, self.exp_month)


class CardVault:
    """Tokenizes, and looks after tokens; cannot open one."""

    def __init__(
        self,
        keys: TokenizeKeys,
        tokens: TokenTable,
        ledger: Ledger,
        *,
        env: Env,
        now: Callable[[], datetime],
    ) -> None:
        self._keys = keys
        self._tokens = tokens
        self._ledger = ledger
        self._env = env
        self._now = now

    async def tokenize(self, card: Card, wanted: NewToken) -> tuple[TokenRow, bool]:
        """Store a card; return its token's row, and whether the token is new.

        Raises InvalidCard for a published test number in a live deployment; FormatRefused;
        SealedReplayed; any KeysError; LedgerUnavailable, StoreUnavailable or Overloaded, after
        which the card may be stored under a token that nobody knows.
        """
        self._check(card, wanted)
        token = new_token(self._env)
        kept = await self._keys.protect(card.pan, card.cvc, tenant=wanted.tenant, token=token)
        at = self._now()
        for _ in range(PAN_LIKE_TRIES_MAX):
            unit = creation(card, wanted, token, kept, at)
            try:
                await self._ledger.append(unit)
            except TokenExists as existing:
                found = existing.row
            except PanLikeTaken:
                continue
            else:
                return unit.row, True
            return await self._reused(found, card, wanted), False
        raise FormatRefused

    async def tokenize_many(
        self, cards: Sequence[Card], wanted: NewToken, *, turn: asyncio.Lock | None = None
    ) -> list[TokenRow]:
        """Store cards as fast as HashiCorp Vault seals them; return a row for each, in order.

        The rules are those of `tokenize`, which would give the same rows one by one. What no
        card may be is looked for before the first is stored. What fails later (KeysError,
        LedgerUnavailable, StoreUnavailable, Overloaded, TokenInUse) fails all, and any of the
        cards may be stored by then, under tokens that nobody knows: repeated, they get others,
        or with `reuse` those. Who has several of these calls under way at once for the same cards
        gives all of them one `turn`.
        """
        assert wanted.nonce is None, "what is sealed comes one by one"
        for card in cards:
            self._check(card, wanted)
        alone = turn or asyncio.Lock()  # one slice is stored at a time: the later finds the earlier

        async def stored(some: Sequence[Card]) -> list[TokenRow]:
            tokens = [new_token(self._env) for _ in some]
            kept = await self._keys.protect_all(
                [(card.pan, card.cvc, token) for card, token in zip(some, tokens, strict=True)],
                tenant=wanted.tenant,
            )
            async with alone:
                return await self._store(some, wanted, tokens, kept)

        return await in_slices(cards, stored, size=SLICE_CARDS, at_once=SLICES_AT_ONCE)

    async def load(self, tenant: str, token: str) -> TokenRow:
        """Return a tenant's token.

        Raises TokenUnknown when it is unknown, foreign, deleted or expired: all look the same.
        """
        row = await self._tokens.load(tenant, token)
        if row is None or row.id != token or _is_over(row, self._now()):
            raise TokenUnknown
        return row

    async def change(self, row: TokenRow, change: Change, actor: Actor) -> TokenRow:
        """Change a token's expiry date, `customer_reference` or `expires_at`.

        Raises TokenUnknown; LedgerUnavailable, StoreUnavailable or Overloaded.
        """
        return await self._change(row, change, actor, reason="patch")

    async def attach_cvc(self, row: TokenRow, cvc: Cvc, nonce: Nonce | None) -> None:
        """Store a fresh CVC for a stored card, for fifteen minutes; it replaces an unused one.

        Raises InvalidCard when a card of its brand has no such code; TokenInUse while an
        authorization has the one before; SealedReplayed; any KeysError; StoreUnavailable.
        """
        check_cvc(cvc, row.brand)
        sealed = await self._keys.seal_cvc(cvc, tenant=row.tenant, token=row.id)
        if not await self._tokens.attach_cvc(row, cvc_row(sealed, self._now()), nonce):
            raise TokenInUse

    async def delete(self, row_id: tuple[str, str], actor: Actor, *, reason: DeleteReason) -> None:
        """Erase a token, its CVC, and its fingerprint if it was the card's last.

        Raises TokenUnknown; TokenInUse while an authorization with it is under way.
        """
        tenant, token = row_id
        line = Line(
            TokenDeleted(
                id=str(new_uuid7(self._now())),
                tenant=tenant,
                actor=actor,
                token=token,
                reason=reason,
            )
        )
        await self._ledger.append(DeleteToken(tenant, token, (line,)))

    async def of_customer(
        self,
        tenant: str,
        customer_reference: str,
        *,
        limit: int,
        after: tuple[datetime, str] | None,
    ) -> Sequence[TokenRow]:
        """Return a page of a person's cards, newest first."""
        return await self._tokens.of_customer(tenant, customer_reference, limit=limit, after=after)

    async def delete_of_customer(
        self, tenant: str, customer_reference: str, actor: Actor
    ) -> tuple[int, int]:
        """Erase a person's cards; return how many are erased, and how many are in use and stay.

        Raises LedgerUnavailable, StoreUnavailable or Overloaded, after which some may be gone:
        repeat the call.
        """
        erased = in_use = 0
        after: tuple[datetime, str] | None = None
        while rows := await self._tokens.of_customer(
            tenant, customer_reference, limit=PAGE_MAX, after=after
        ):
            after = rows[-1].created_at, rows[-1].id
            for row in rows:
                try:
                    await self.delete((tenant, row.id), actor, reason="customer_erasure")
                except TokenInUse:
                    in_use += 1
                except TokenUnknown:
                    continue  # somebody else erased it
                else:
                    erased += 1
        return erased, in_use

    def _check(self, card: Card, wanted: NewToken) -> None:
        """Raises InvalidCard, FormatRefused."""
        if self._env == "live" and is_published_test_number(card.pan):
            raise InvalidCard("number", "test_number")
        if wanted.format == "pan_like" and len(card.pan) < PAN_LIKE_DIGITS_MIN:
            raise FormatRefused

    async def _store(
        self,
        cards: Sequence[Card],
        wanted: NewToken,
        tokens: Sequence[str],
        kept: Sequence[Protected],
    ) -> list[TokenRow]:
        """Append what is sealed; raise the first thing that stands against one of them."""
        at = self._now()
        rows: dict[int, TokenRow] = {}
        known: list[tuple[TokenRow, Card]] = []
        left: Sequence[int] = range(len(cards))
        for _ in range(PAN_LIKE_TRIES_MAX):
            units = [creation(cards[n], wanted, tokens[n], kept[n], at) for n in left]
            taken = []
            outcomes = await self._ledger.append_all(units)
            for n, unit, outcome in zip(left, units, outcomes, strict=True):
                rows[n] = unit.row
                if isinstance(outcome, TokenExists):
                    rows[n] = outcome.row
                    known.append((outcome.row, cards[n]))
                elif isinstance(outcome, PanLikeTaken):
                    taken.append(n)
                elif isinstance(outcome, BaseException):
                    raise outcome
            left = taken
            if not left:
                now = await self._reused_all(known, wanted)
                return [now.get(rows[n].id, rows[n]) for n in range(len(cards))]
        raise FormatRefused

    async def _reused_all(
        self, known: Sequence[tuple[TokenRow, Card]], wanted: NewToken
    ) -> dict[str, TokenRow]:
        """Of each known card the latest date counts, and its last code; rows by token."""
        rows: dict[str, TokenRow] = {}
        for row, card in known:
            before = rows.get(row.id, row)
            if card.cvc is not None:
                await self._keep_cvc(row, card.cvc, wanted)
            rows[row.id] = _dated(before, card)
        first = {row.id: row for row, _ in reversed(known)}
        units = [
            unit
            for row in first.values()
            if (unit := self._changing(row, _change_to(rows[row.id]), wanted.actor, "reuse"))
        ]
        for outcome in await self._ledger.append_all(units):
            if isinstance(outcome, BaseException):
                raise outcome
        return rows

    async def _reused(self, row: TokenRow, card: Card, wanted: NewToken) -> TokenRow:
        """The card's own token: a later expiry date replaces the stored one; so does a CVC."""
        if card.cvc is not None or wanted.nonce is not None:
            await self._keep_cvc(row, card.cvc, wanted)
        return await self._change(row, _change_to(_dated(row, card)), wanted.actor, reason="reuse")

    async def _keep_cvc(self, row: TokenRow, cvc: Cvc | None, wanted: NewToken) -> None:
        sealed = await self._seal_cvc(cvc, row.tenant, row.id)
        if not await self._tokens.attach_cvc(row, sealed, wanted.nonce):
            raise TokenInUse

    async def _change(
        self, row: TokenRow, change: Change, actor: Actor, *, reason: ChangeReason
    ) -> TokenRow:
        unit = self._changing(row, change, actor, reason)
        if unit is None:
            return row
        await self._ledger.append(unit)
        return replace(
            row,
            exp_month=change.exp_month,
            exp_year=change.exp_year,
            expires_at=change.expires_at,
            customer_reference=change.customer_reference,
        )

    def _changing(
        self, row: TokenRow, change: Change, actor: Actor, reason: ChangeReason
    ) -> ChangeToken | None:
        """Make what changes a row; None if that is nothing."""
        before, after = _values(row), _values(change)
        changed = tuple(name for name in before if before[name] != after[name])
        if not changed:
            return None
        line = committed(
            TokenUpdated(
                id=str(new_uuid7(self._now())),
                tenant=row.tenant,
                actor=actor,
                token=row.id,
                changed=changed,
                reason=reason,
            ),
            {"before": _set_among(changed, before), "after": _set_among(changed, after)},
            salt=token_bytes(32),
        )
        return ChangeToken(
            tenant=row.tenant,
            token=row.id,
            exp_month=change.exp_month,
            exp_year=change.exp_year,
            expires_at=change.expires_at,
            customer_reference=change.customer_reference,
            lines=(line,),
        )

    async def _seal_cvc(self, cvc: Cvc | None, tenant: str, token: str) -> CvcRow | None:
        if cvc is None:
            return None
        sealed = await self._keys.seal_cvc(cvc, tenant=tenant, token=token)
        return cvc_row(sealed, self._now())


def _is_over(row: TokenRow, at: datetime) -> bool:
    return row.expires_at is not None and row.expires_at <= at


def _values(of: TokenRow | Change) -> dict[TokenChange, str | None]:
    return {
        "customer_reference": of.customer_reference,
        "expires_at": time_text(of.expires_at) if of.expires_at else None,
        "expiry": of.expiry.text() if of.expiry else None,
    }


def _dated(row: TokenRow, card: Card) -> TokenRow:
    """The row with the card's date, where that is later or the first."""
    known = row.expiry
    if card.expiry is None or (known is not None and card.expiry <= known):
        return row
    return replace(row, exp_month=card.expiry.month, exp_year=card.expiry.year)


def _change_to(row: TokenRow) -> Change:
    return Change(row.exp_month, row.exp_year, row.expires_at, row.customer_reference)


def _set_among(
    names: Sequence[TokenChange], values: Mapping[TokenChange, str | None]
) -> dict[str, str]:
    return {name: value for name in names if (value := values[name]) is not None}
