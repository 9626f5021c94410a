"""What becomes of a card once it is sealed: its row, its stored code and its entry.

What never may live here: input or output, and a card that is not sealed yet.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from secrets import token_bytes
from typing import Final, Literal

from msgspec import UNSET

from vault.card import Card
from vault.ids import new_uuid7_text
from vault.keys import Protected, Sealed
from vault.ledger.entry import Actor, TokenCreated
from vault.ledger.forms import time_text
from vault.ledger.unit import Line, committed
from vault.nonce_table import Nonce
from vault.token_table import CreateToken, CvcRow, FingerprintValue, TokenRow
from vault.tokens import new_id, new_pan_like

CVC_KEPT: Final = timedelta(minutes=15)


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


def creation(
    card: Card, wanted: NewToken, token: str, kept: Protected, at: datetime
) -> CreateToken:
    """Bring together what becomes of a card; at another try with another pan_like name."""
    row = TokenRow(
        id=token,
        tenant=wanted.tenant,
        pan_like=new_pan_like(card.pan) if wanted.format == "pan_like" else None,
        format=wanted.format,
        brand=card.brand,
        pan_length=len(card.pan),
        last4=card.pan.last4,
        bin=card.pan.bin,
        exp_month=card.expiry.month if card.expiry else None,
        exp_year=card.expiry.year if card.expiry else None,
        ciphertext=kept.pan.ciphertext,
        key_version=kept.pan.key_version,
        fingerprint=new_id("fp"),
        reusable=wanted.reuse,
        single_use=wanted.single_use,
        expires_at=wanted.expires_at,
        customer_reference=wanted.customer_reference,
        created_at=at,
        made_from=wanted.made_from,
    )
    value = FingerprintValue(kept.fingerprint.version, kept.fingerprint.value)
    cvc = cvc_row(kept.cvc, at) if kept.cvc is not None else None
    return CreateToken(row, value, cvc, (_created(row, wanted, at),), wanted.nonce)


def cvc_row(sealed: Sealed, at: datetime) -> CvcRow:
    return CvcRow(sealed.ciphertext, sealed.key_version, at + CVC_KEPT)


def _created(row: TokenRow, wanted: NewToken, at: datetime) -> Line:
    entry = TokenCreated(
        id=new_uuid7_text(at),
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
    if not any(words.values()):
        return Line(entry)
    return committed(entry, words, salt=token_bytes(32))
