"""What can go wrong in custody: one small tree.

Every message is fixed text. No instance carries card data or a foreign exception's text:
an adapter keeps the class of a foreign error and raises one of these *after* its handler.
`code` is stable and public; `retryable` says whether the same call may succeed later.
"""

from typing import ClassVar

from vault.authorization import State


class CustodyError(Exception):
    """Anything that the vault package refuses or fails to do."""

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False
    state: State | None = None  # of the request it ended, where that is known

    def __init__(self) -> None:
        super().__init__(type(self).__doc__)


# --- the caller's input -------------------------------------------------------------------


class InvalidCard(CustodyError):
    """The card was refused: a field does not hold what it must."""

    code = "card_invalid"

    def __init__(self, field: str, reason: str) -> None:
        """`field` is number, exp_month, exp_year or cvc; `reason` is one of a closed list."""
        super().__init__()
        self.field = field
        self.reason = reason


class TokenUnknown(CustodyError):
    """There is no such token: unknown, another tenant's and deleted look the same."""

    code = "token_unknown"


class TokenInUse(CustodyError):
    """An authorization with this token is under way: try again when it has ended."""

    code = "authorization_open"
    retryable = True


class FormatRefused(CustodyError):
    """A token of this format cannot be made for this card."""

    code = "format_refused"


class CvcExpired(CustodyError):
    """No CVC is stored for this token any more: collect it again."""

    code = "cvc_expired"


class ExpiryUnknown(CustodyError):
    """No expiry date is stored for this token: set it first."""

    code = "expiry_unknown"


class EdgeKeyUnknown(CustodyError):
    """The card is sealed to a key that is not in use any more: fetch the keys, and seal it anew."""

    code = "edge_key_unknown"
    retryable = True


class SealedRefused(CustodyError):
    """What was sealed does not open, or was sealed for something else."""

    code = "sealed_refused"

    def __init__(self, reason: str) -> None:
        """`reason` is box, form, expired, origin, tenant, kid or token."""
        super().__init__()
        self.reason = reason


class SealedReplayed(CustodyError):
    """What was sealed was used before: seal the card anew."""

    code = "sealed_replayed"


# --- keys ---------------------------------------------------------------------------------


class KeysError(CustodyError):
    """The key service did not do what it was asked."""

    code = "vault_error"
    retryable = True


class KeysUnavailable(KeysError):
    """HashiCorp Vault cannot be reached."""

    code = "vault_unavailable"


class KeysTimedOut(KeysError):
    """HashiCorp Vault did not answer in time."""

    code = "vault_timeout"


class KeysThrottled(KeysError):
    """HashiCorp Vault limits the rate of calls."""

    code = "vault_throttled"


class KeysSealed(KeysError):
    """HashiCorp Vault is sealed or not initialized."""

    code = "vault_sealed"


class KeysMisconfigured(KeysError):
    """HashiCorp Vault refuses the call: a policy, a key or a path is not as it must be."""

    code = "vault_misconfigured"
    retryable = False


class KeyVersionRetired(KeysError):
    """The version of the key that sealed this record is no longer allowed to open it."""

    code = "key_version_retired"
    retryable = False


class RecordCorrupt(KeysError):
    """A stored record does not open: it was changed, or belongs to another token."""

    code = "record_corrupt"
    retryable = False


# --- limits -------------------------------------------------------------------------------


class Overloaded(CustodyError):
    """A queue is full: try again in a moment."""

    code = "overloaded"
    retryable = True


# --- the store and the ledger -------------------------------------------------------------


class StoreUnavailable(CustodyError):
    """PostgreSQL cannot be reached, or does not answer in time."""

    code = "store_unavailable"
    retryable = True


class StoreBusy(StoreUnavailable):
    """PostgreSQL has no connection left."""

    code = "store_busy"


class StoreFull(StoreUnavailable):
    """PostgreSQL's disk is full."""

    code = "store_full"


class LogDamaged(StoreUnavailable):
    """What a checkpoint covers is not there: the tables of the ledger were changed."""

    code = "ledger_damaged"
    retryable = False


class LedgerUnavailable(CustodyError):
    """The ledger could not make the entry durable in time."""

    code = "ledger_unavailable"
    retryable = True


class LedgerSealed(CustodyError):
    """The ledger is sealed after a proven inconsistency: no card is disclosed."""

    code = "ledger_sealed"


class StartRefused(Exception):
    """The process must not start like this; the message says what to change (exit 78)."""
