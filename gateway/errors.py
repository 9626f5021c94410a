"""What the edge refuses, and what can go wrong on the way out: one small tree.

Messages are fixed text. An instance carries words of ours only (a field of our own schema, a
reason from a closed list), never a byte that came in; `gateway/problems.py` turns it into an
answer. What custody refuses is in `vault/errors.py`.
"""

from collections.abc import Collection
from typing import ClassVar

from vault.authorization import State


class GatewayError(Exception):
    """Anything that the gateway package refuses or fails to do."""

    code: ClassVar[str] = "internal_error"
    retryable: bool = False
    field: str | None = None
    reason: str | None = None
    state: State | None = None

    def __init__(self) -> None:
        super().__init__(type(self).__doc__)


# --- the request itself -------------------------------------------------------------------


class Malformed(GatewayError):
    """The request is not well-formed."""

    code = "malformed_request"

    def __init__(self, reason: str) -> None:
        """`reason` is a word of ours, such as framing, headers, duplicate_key or depth."""
        super().__init__()
        self.reason = reason


class VersionRefused(GatewayError):
    """Only HTTP/1.1 is spoken here."""

    code = "http_version_not_supported"


class ExpectationRefused(GatewayError):
    """An `Expect` header is not honored: send the body without waiting."""

    code = "expectation_failed"


class NotAuthenticated(GatewayError):
    """No valid key came with the request."""

    code = "not_authenticated"


class SignatureRefused(NotAuthenticated):
    """The call's signature does not prove who sent it, or not that it came unchanged."""

    code = "signature_refused"

    def __init__(self, reason: str = "signature_mismatch") -> None:
        """`reason` is one of `gateway.resign.Reason`."""
        super().__init__()
        self.reason = reason


class NotPermitted(GatewayError):
    """The key is valid but may not do this."""

    code = "not_permitted"


class NotFound(GatewayError):
    """There is nothing here: unknown and another tenant's look the same."""

    code = "not_found"


class MethodNotAllowed(GatewayError):
    """The path exists, the method does not."""

    code = "method_not_allowed"

    def __init__(self, allowed: Collection[str]) -> None:
        super().__init__()
        self.allowed = tuple(sorted(allowed))


class BodyTooSlow(GatewayError):
    """The body did not arrive in time."""

    code = "request_timeout"
    retryable = True


class TooLarge(GatewayError):
    """The body is larger than this call accepts."""

    code = "body_too_large"


class UnsupportedMedia(GatewayError):
    """The body is not of a type, or in an encoding, that this call accepts."""

    code = "unsupported_media_type"

    def __init__(self, reason: str) -> None:
        """`reason` is content_type or content_encoding."""
        super().__init__()
        self.reason = reason


class ClientGone(GatewayError):
    """The client left before its request was complete: nothing was done."""

    code = "client_closed_request"


class BadField(GatewayError):
    """A field does not hold what it must."""

    code = "invalid_field"

    def __init__(self, field: str, reason: str) -> None:
        """`field` is a name of our schema, never one that came in."""
        super().__init__()
        self.field = field
        self.reason = reason


class LedgerNotPublished(GatewayError):
    """No checkpoint covers this event yet: ask again in a moment."""

    code = "ledger_not_published"
    retryable = True


# --- repeats and rates --------------------------------------------------------------------


class IdempotencyKeyReused(GatewayError):
    """The idempotency key was used for another request."""

    code = "idempotency_key_reused"


class IdempotencyKeyOpen(GatewayError):
    """The first request with this idempotency key is still under way."""

    code = "idempotency_key_in_flight"
    retryable = True
    state: State | None = State.UNKNOWN  # of that request: it may be with the processor by now


class OutcomeUnknown(GatewayError):
    """The first request with this key may have reached the processor: repeating could charge."""

    code = "outcome_unknown"
    state: State | None = State.UNKNOWN


class ResolvedDeclined(GatewayError):
    """The first request with this key was not approved, as was found out later."""

    code = "resolved_declined"
    state: State | None = State.RESOLVED


class RateLimited(GatewayError):
    """Too many requests: wait before the next one."""

    code = "rate_limited"
    retryable = True

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__()
        self.retry_after_seconds = retry_after_seconds


class CardTesting(RateLimited):
    """Too many cards were refused of late: somebody may be trying them out."""

    code = "card_testing_suspected"

    def __init__(self, retry_after_seconds: int, scope: str) -> None:
        """`scope` is network or tenant: whose cards were refused."""
        super().__init__(retry_after_seconds)
        self.scope = scope


# --- callbacks ----------------------------------------------------------------------------


class CallbackRefused(GatewayError):
    """What came as a processor's callback does not prove that it is one."""

    code = "callback_refused"

    def __init__(self, reason: str) -> None:
        """`reason` is one of `gateway.signatures.Forged`, or source."""
        super().__init__()
        self.reason = reason


# --- the checkout -------------------------------------------------------------------------


class OriginRefused(GatewayError):
    """The page's origin is not on the publishable key's list."""

    code = "origin_not_allowed"


class EdgeKeysUnavailable(GatewayError):
    """There is no key to seal cards to: ask again in a moment."""

    code = "edge_keys_unavailable"
    retryable = True


# --- the way to the merchant's own endpoints ----------------------------------------------


class CardFieldRefused(GatewayError):
    """A declared field does not hold a card that can be stored: nothing was passed on."""

    code = "card_field_refused"

    def __init__(self, field: str, reason: str) -> None:
        """`field` is the filter's selector, `reason` a word of ours."""
        super().__init__()
        self.field = field
        self.reason = reason


class UndeclaredCard(GatewayError):
    """A card number stands where none is declared: nothing was passed on."""

    code = "undeclared_card"

    def __init__(self, field: str) -> None:
        """`field` names the place, as `gateway.strays.shown` does."""
        super().__init__()
        self.field = field


class BodyUnreadable(GatewayError):
    """The body is not what its content type says: nothing was passed on."""

    code = "body_unreadable"

    def __init__(self, reason: str) -> None:
        """`reason` is the one of `Malformed`."""
        super().__init__()
        self.reason = reason


class InflationRefused(GatewayError):
    """The body is compressed beyond what is accepted, or not as it says."""

    code = "inflation_refused"

    def __init__(self, reason: str) -> None:
        """`reason` is ratio, size, time or broken."""
        super().__init__()
        self.reason = reason


class MerchantFailed(GatewayError):
    """The merchant's endpoint could not be asked, or did not answer as it must."""

    code = "merchant_failed"


class MerchantUnreachable(MerchantFailed):
    """The merchant's endpoint refuses connections, or its name does not resolve."""

    code = "merchant_unreachable"
    retryable = True


class MerchantBusy(MerchantFailed):
    """The merchant's endpoint has as many requests as its route allows."""

    code = "merchant_busy"
    retryable = True


class MerchantTimeout(MerchantFailed):
    """The merchant's endpoint did not answer in time."""

    code = "merchant_timeout"


class MerchantTlsError(MerchantFailed):
    """The merchant's certificate or TLS was not acceptable."""

    code = "merchant_tls_error"


class MerchantProtocolError(MerchantFailed):
    """The merchant's answer is not valid HTTP, or broke off."""

    code = "merchant_protocol_error"


class MerchantReplyRefused(MerchantFailed):
    """The merchant's answer is of a kind that its route does not pass, or cannot be read."""

    code = "merchant_reply_refused"


# --- the way out --------------------------------------------------------------------------


class CredentialsMissing(GatewayError):
    """No credentials of the processor are stored for this tenant and route."""

    code = "credentials_missing"
    state: State | None = State.NOT_SENT


class UpstreamUnavailable(GatewayError):
    """The processor has failed several times in a row: it is left alone for a moment."""

    code = "upstream_unavailable"
    retryable = True
    state: State | None = State.NOT_SENT

    def __init__(self, retry_after_seconds: int = 1) -> None:
        super().__init__()
        self.retry_after_seconds = retry_after_seconds


class CredentialsRefused(GatewayError):
    """The processor does not accept the credentials that are stored for this tenant and route."""

    code = "credentials_refused"
    state: State | None = State.NOT_SENT


class UpstreamFailed(GatewayError):
    """The processor could not be asked, or did not answer as it must."""

    code = "upstream_failed"

    def __init__(self, state: State, *, retryable: bool) -> None:
        """Both come from what was recorded and from the preset, never from the failure alone."""
        super().__init__()
        self.state = state
        self.retryable = retryable


class UpstreamUnreachable(UpstreamFailed):
    """The processor refuses connections."""

    code = "upstream_unreachable"


class UpstreamConnectTimeout(UpstreamFailed):
    """The processor did not take the connection in time."""

    code = "upstream_connect_timeout"


class UpstreamTimeout(UpstreamFailed):
    """The processor did not answer in time."""

    code = "upstream_timeout"


class UpstreamReset(UpstreamFailed):
    """The connection to the processor broke before its answer was complete."""

    code = "upstream_reset"


class UpstreamTlsError(UpstreamFailed):
    """The processor's certificate or TLS was not acceptable."""

    code = "upstream_tls_error"


class UpstreamDnsFailed(UpstreamFailed):
    """The processor's name does not resolve."""

    code = "upstream_dns"


class EgressDenied(UpstreamFailed):
    """The processor's address is one that no card may be sent to."""

    code = "egress_denied"


class UpstreamReflectedPan(UpstreamFailed):
    """The processor's answer held the card number and could not be cleaned."""

    code = "upstream_reflected_pan"


class UpstreamRedirect(UpstreamFailed):
    """The processor answered with a redirect, which is never followed."""

    code = "upstream_redirect"


class UpstreamTooLarge(UpstreamFailed):
    """The processor's answer is larger than the route allows."""

    code = "upstream_too_large"


class UpstreamProtocolError(UpstreamFailed):
    """The processor's answer is not valid HTTP."""

    code = "upstream_protocol_error"
