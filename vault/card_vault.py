"""The custody story: a card becomes a token, and a token opens for one recorded intent.

`CardVault` is what the public side has: it can store and erase, and cannot open. `CardOpener`
opens, and only under the name of an intent: the name goes with each item into HashiCorp
Vault's own audit log.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from secrets import token_bytes
from typing import Final, Literal

from msgspec import UNSET

from vault.card import Card, Expiry, check_cvc, is_published_test_number
from vault.errors import (
    CvcExpired,
    FormatRefused,
    InvalidCard,
    KeyVersionRetired,
    RecordCorrupt,
    TokenInUse,
    TokenUnknown,
)
from vault.ids import new_uuid7
from vault.keys import RevealKeys, Sealed, TokenizeKeys
from vault.ledger.entry import Actor, Opening, TokenCreated, TokenDeleted, TokenUpdated
from vault.ledger.forms import TokenChange, time_text
from vault.ledger.store import Ledger
from vault.ledger.unit import Line, committed
from vault.nonce_table import Nonce
from vault.pan import Cvc, Pan
from vault.token_table import (
    PAGE_MAX,
    ChangeToken,
    CreateToken,
    CvcRow,
    DeleteToken,
    FingerprintValue,
    PanLikeTaken,
    TokenExists,
    TokenRow,
    TokenTable,
)
from vault.tokens import Env, new_id, new_pan_like, new_token

CVC_KEPT: Final = timedelta(minutes=15)
PAN_LIKE_TRIES_MAX: Final = 3

DeleteReason = Literal["request", "customer_erasure", "expired", "used"]


@dataclass(frozen=True, slots=True)
class NewToken:
    """What a caller asks for beside the card; `expires_at` None keeps the token."""

    tenant: str
    actor: Actor
    format: Literal["opaque", "pan_like"] = "opaque"
    reuse: bool = False
    single_use: bool = False
    expires_at: datetime | None = None
    customer_reference: str | None = None
    source_address: str | None = None
    made_from: str | None = None
    nonce: Nonce | None = None
    """Of a card that came sealed."""


@dataclass(frozen=True, slots=True)
class Change:
    """New values of a token's changeable fields."""

    exp_month: int
    exp_year: int
    expires_at: datetime | None
    customer_reference: str | None


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
        if self._env == "live" and is_published_test_number(card.pan):
            raise InvalidCard("number", "test_number")
        token = new_token(self._env)
        kept = await self._keys.protect(card.pan, card.cvc, tenant=wanted.tenant, token=token)
        at = self._now()
        value = FingerprintValue(kept.fingerprint.version, kept.fingerprint.value)
        cvc = _cvc_row(kept.cvc, at) if kept.cvc is not None else None
        for _ in range(PAN_LIKE_TRIES_MAX):
            row = self._row(card, wanted, token, kept.pan, at)
            try:
                await self._ledger.append(
                    CreateToken(row, value, cvc, (_created(row, wanted, at),), wanted.nonce)
                )
            except TokenExists as existing:
                found = existing.row
            except PanLikeTaken:
                continue
            else:
                return row, True
            return await self._reused(found, card, wanted), False
        raise FormatRefused

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
        if not await self._tokens.attach_cvc(row, _cvc_row(sealed, self._now()), nonce):
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

    async def _reused(self, row: TokenRow, card: Card, wanted: NewToken) -> TokenRow:
        """The card's own token: a later expiry date replaces the stored one; so does a CVC."""
        cvc = await self._seal_cvc(card.cvc, wanted.tenant, row.id)
        if (cvc is not None or wanted.nonce is not None) and not await self._tokens.attach_cvc(
            row, cvc, wanted.nonce
        ):
            raise TokenInUse
        if (card.expiry.year, card.expiry.month) > (row.exp_year, row.exp_month):
            change = Change(
                card.expiry.month, card.expiry.year, row.expires_at, row.customer_reference
            )
            row = await self._change(row, change, wanted.actor, reason="reuse")
        return row

    async def _change(
        self, row: TokenRow, change: Change, actor: Actor, *, reason: Literal["patch", "reuse"]
    ) -> TokenRow:
        before, after = _values(row), _values(change)
        changed = tuple(name for name in before if before[name] != after[name])
        if not changed:
            return row
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
        await self._ledger.append(
            ChangeToken(
                tenant=row.tenant,
                token=row.id,
                exp_month=change.exp_month,
                exp_year=change.exp_year,
                expires_at=change.expires_at,
                customer_reference=change.customer_reference,
                lines=(line,),
            )
        )
        return replace(
            row,
            exp_month=change.exp_month,
            exp_year=change.exp_year,
            expires_at=change.expires_at,
            customer_reference=change.customer_reference,
        )

    async def _seal_cvc(self, cvc: Cvc | None, tenant: str, token: str) -> CvcRow | None:
        if cvc is None:
            return None
        sealed = await self._keys.seal_cvc(cvc, tenant=tenant, token=token)
        return _cvc_row(sealed, self._now())

    def _row(
        self, card: Card, wanted: NewToken, token: str, sealed: Sealed, at: datetime
    ) -> TokenRow:
        return TokenRow(
            id=token,
            tenant=wanted.tenant,
            pan_like=new_pan_like(card.pan) if wanted.format == "pan_like" else None,
            format=wanted.format,
            brand=card.brand,
            pan_length=len(card.pan),
            last4=card.pan.last4,
            bin=card.pan.bin,
            exp_month=card.expiry.month,
            exp_year=card.expiry.year,
            ciphertext=sealed.ciphertext,
            key_version=sealed.key_version,
            fingerprint=new_id("fp"),
            reusable=wanted.reuse,
            single_use=wanted.single_use,
            expires_at=wanted.expires_at,
            customer_reference=wanted.customer_reference,
            created_at=at,
            made_from=wanted.made_from,
        )


class CardOpener:
    """Opens cards for an intent that is durable."""

    def __init__(self, keys: RevealKeys) -> None:
        self._keys = keys

    async def open(
        self, rows: Sequence[tuple[Opening, TokenRow]], *, intent: str
    ) -> list[Pan | Cvc]:
        """Open each item, in order, under the reference `<intent>/<n>`.

        One item that does not open fails all: none of the numbers is used. Raises any
        KeysError; CvcExpired; RecordCorrupt when a number is not the one its row describes.
        """
        if len(rows) == 1:  # most intents open one card, and no code: no task for it
            return [await self._open_one(*rows[0], f"{intent}/0")]
        opened = await asyncio.gather(
            *(
                self._open_one(opening, row, f"{intent}/{n}")
                for n, (opening, row) in enumerate(rows)
            ),
            return_exceptions=True,
        )
        cards: list[Pan | Cvc] = []
        for one in opened:
            if isinstance(one, BaseException):
                raise one
            cards.append(one)
        return cards

    async def _open_one(self, opening: Opening, row: TokenRow, reference: str) -> Pan | Cvc:
        if opening.key == "cvc":
            return await self._open_cvc(row, reference)
        sealed = Sealed(row.ciphertext, row.key_version)
        pan = await self._keys.open_pan(
            sealed, tenant=row.tenant, token=row.id, reference=reference
        )
        if len(pan) != row.pan_length or pan.last4 != row.last4:
            raise RecordCorrupt
        return pan

    async def _open_cvc(self, row: TokenRow, reference: str) -> Cvc:
        if row.cvc_ciphertext is None or row.cvc_key_version is None:
            raise CvcExpired
        sealed = Sealed(row.cvc_ciphertext, row.cvc_key_version)
        try:
            return await self._keys.open_cvc(
                sealed, tenant=row.tenant, token=row.id, reference=reference
            )
        except KeyVersionRetired:
            pass  # its key's life is part of the CVC's: no incident
        raise CvcExpired


def _cvc_row(sealed: Sealed, at: datetime) -> CvcRow:
    return CvcRow(sealed.ciphertext, sealed.key_version, at + CVC_KEPT)


def _is_over(row: TokenRow, at: datetime) -> bool:
    return row.expires_at is not None and row.expires_at <= at


def _values(of: TokenRow | Change) -> dict[TokenChange, str | None]:
    return {
        "customer_reference": of.customer_reference,
        "expires_at": time_text(of.expires_at) if of.expires_at else None,
        "expiry": Expiry(of.exp_year, of.exp_month).text(),
    }


def _set_among(
    names: Sequence[TokenChange], values: Mapping[TokenChange, str | None]
) -> dict[str, str]:
    return {name: value for name in names if (value := values[name]) is not None}


def _created(row: TokenRow, wanted: NewToken, at: datetime) -> Line:
    entry = TokenCreated(
        id=str(new_uuid7(at)),
        tenant=row.tenant,
        actor=wanted.actor,
        token=row.id,
        format=wanted.format,
        key_version=row.key_version,
        single_use=row.single_use,
        expires_at=time_text(row.expires_at) if row.expires_at else UNSET,
    )
    words = {
        "customer_reference": wanted.customer_reference,
        "source_address": wanted.source_address,
    }
    return committed(entry, words, salt=token_bytes(32))
