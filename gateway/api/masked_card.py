"""What a caller sees of a stored card (PCI DSS 3.4.1): never more than BIN and last four."""

from collections.abc import Mapping
from datetime import datetime

from gateway.merchants import Caller
from vault.api_keys import Scope
from vault.ledger.forms import time_text
from vault.token_table import TokenRow


def masked_card(row: TokenRow, caller: Caller) -> Mapping[str, object]:
    """Return the masked card; `bin` and `fingerprint` only by the caller's scopes."""
    shown: dict[str, object] = {
        "id": row.id,
        "brand": row.brand,
        "last4": row.last4,
        "exp_month": row.exp_month,
        "exp_year": row.exp_year,
        "created_at": rfc3339(row.created_at),
        "expires_at": rfc3339(row.expires_at),
        "single_use": row.single_use,
        "customer_reference": row.customer_reference,
    }
    if row.pan_like is not None:  # a second name of the token, for clients that insist on digits
        shown["pan_like"] = row.pan_like
    if Scope.BIN in caller.scopes:
        shown["bin"] = row.bin
    if Scope.FINGERPRINT in caller.scopes:
        shown["fingerprint"] = row.fingerprint
    return shown


def rfc3339(at: datetime | None) -> str | None:
    """A time in UTC with milliseconds (RFC 3339), or None."""
    return None if at is None else time_text(at)
