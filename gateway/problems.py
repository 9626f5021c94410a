"""Errors become answers here and nowhere else: one table, RFC 9457 documents.

What is not in the table is a bug of ours: 500, and no words. A document holds fixed texts, a
name of our own schema, a reason from a closed list, and the request id; never a byte of the
request. The processor-shaped errors of `/out` take status, code and retryable from here too.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec
from aiohttp import web

from gateway import errors as edge
from vault import errors as custody

MEDIA_TYPE: Final = "application/problem+json"
REALM: Final = 'Bearer realm="panward"'

CLIENT_CLOSED: Final = 499
"""Not a registered status: what our own log says when nobody was left to hear the answer."""

RETRY_AFTER_SECONDS: Final = (1, 5)
RETRY_AFTER_SEALED_SECONDS: Final = (5, 30)

_OUR_WORD = re.compile(r"(?!.*[0-9]{5})[A-Za-z_][A-Za-z0-9_.\[\]-]{0,127}")
"""A second lock: five digits in a row are no field name of ours, but may be a card's."""


class Fault(StrEnum):
    """Whose fault an answer is, for the error budget."""

    NONE = "none"
    CLIENT = "client"
    OURS = "ours"
    PROCESSOR = "processor"
    MERCHANT = "merchant"
    SHED = "shed"


@dataclass(frozen=True, slots=True)
class Row:
    """How one class of error is answered; its code and whether to retry are the class's own."""

    status: int
    title: str
    fault: Fault = Fault.CLIENT
    sealed: bool = False


_OURS, _PROCESSOR, _MERCHANT = Fault.OURS, Fault.PROCESSOR, Fault.MERCHANT

PROBLEMS: Final[Mapping[type[Exception], Row]] = {
    # the request itself
    edge.GatewayError: Row(500, "Internal error", _OURS),
    edge.Malformed: Row(400, "The request is malformed"),
    edge.VersionRefused: Row(505, "Only HTTP/1.1 is supported"),
    edge.ExpectationRefused: Row(417, "Expect is not supported: send the body at once"),
    edge.NotAuthenticated: Row(401, "A valid API key is required"),
    edge.SignatureRefused: Row(401, "The call's signature is not accepted"),
    edge.NotPermitted: Row(403, "The API key may not do this"),
    edge.NotFound: Row(404, "Not found"),
    edge.MethodNotAllowed: Row(405, "Method not allowed"),
    edge.BodyTooSlow: Row(408, "The body did not arrive in time"),
    edge.TooLarge: Row(413, "The body is too large"),
    edge.UnsupportedMedia: Row(415, "The body's type or encoding is not accepted"),
    edge.ClientGone: Row(CLIENT_CLOSED, "The client closed the connection"),
    edge.BadField: Row(422, "A field is not valid"),
    edge.LedgerNotPublished: Row(409, "No checkpoint covers this event yet"),
    edge.CallbackRefused: Row(401, "The callback's signature is not accepted"),
    # repeats and rates
    edge.IdempotencyKeyReused: Row(422, "The idempotency key was used for another request"),
    edge.IdempotencyKeyOpen: Row(409, "The first request with this idempotency key is running"),
    edge.OutcomeUnknown: Row(502, "What became of the first request is not known", _PROCESSOR),
    edge.ResolvedDeclined: Row(402, "The first request was not approved"),
    edge.RateLimited: Row(429, "Too many requests"),
    edge.CardTesting: Row(429, "Too many cards were refused"),
    edge.OriginRefused: Row(403, "The page's origin is not on the key's list"),
    edge.EdgeKeysUnavailable: Row(503, "There is no sealing key yet", _OURS),
    # the way to the merchant's own endpoints
    edge.CardFieldRefused: Row(422, "A card's field is not valid"),
    edge.UndeclaredCard: Row(422, "A card number stands where none is declared"),
    edge.BodyUnreadable: Row(422, "The body is not what its content type says"),
    edge.InflationRefused: Row(413, "The body is compressed beyond what is accepted"),
    edge.MerchantFailed: Row(502, "The merchant's endpoint could not be used", _MERCHANT),
    edge.MerchantUnreachable: Row(502, "The merchant's endpoint cannot be reached", _MERCHANT),
    edge.MerchantBusy: Row(503, "The merchant's endpoint is busy", _MERCHANT),
    edge.MerchantTimeout: Row(504, "The merchant's endpoint did not answer in time", _MERCHANT),
    edge.MerchantTlsError: Row(502, "The merchant's TLS is not acceptable", _MERCHANT),
    edge.MerchantProtocolError: Row(502, "The merchant's answer is malformed", _MERCHANT),
    edge.MerchantReplyRefused: Row(502, "The merchant's answer was withheld", _MERCHANT),
    # the way out
    edge.CredentialsMissing: Row(503, "The processor's credentials are not set", _OURS),
    edge.CredentialsRefused: Row(502, "The processor refuses the stored credentials", _OURS),
    edge.UpstreamUnavailable: Row(503, "The processor is left alone for a moment", _PROCESSOR),
    edge.UpstreamFailed: Row(502, "The processor could not be used", _PROCESSOR),
    edge.UpstreamUnreachable: Row(502, "The processor cannot be reached", _PROCESSOR),
    edge.UpstreamConnectTimeout: Row(504, "The processor took no connection", _PROCESSOR),
    edge.UpstreamTimeout: Row(504, "The processor did not answer in time", _PROCESSOR),
    edge.UpstreamReset: Row(502, "The processor's answer broke off", _PROCESSOR),
    edge.UpstreamTlsError: Row(502, "The processor's TLS is not acceptable", _PROCESSOR),
    edge.UpstreamDnsFailed: Row(502, "The processor's name does not resolve", _PROCESSOR),
    edge.EgressDenied: Row(502, "The processor's address is not allowed", _OURS),
    edge.UpstreamReflectedPan: Row(502, "The processor's answer was withheld", _PROCESSOR),
    edge.UpstreamRedirect: Row(502, "The processor answered with a redirect", _PROCESSOR),
    edge.UpstreamTooLarge: Row(502, "The processor's answer is too large", _PROCESSOR),
    edge.UpstreamProtocolError: Row(502, "The processor's answer is malformed", _PROCESSOR),
    # custody: the caller's input
    custody.CustodyError: Row(500, "Internal error", _OURS),
    custody.InvalidCard: Row(422, "The card is not valid"),
    custody.TokenUnknown: Row(404, "There is no such token"),
    custody.TokenInUse: Row(409, "An authorization with this token is under way"),
    custody.FormatRefused: Row(422, "A token of this format cannot be made for this card"),
    custody.CvcExpired: Row(422, "No CVC is stored for this token: collect it again"),
    custody.ExpiryUnknown: Row(422, "No expiry date is stored for this token: set it first"),
    custody.EdgeKeyUnknown: Row(409, "The sealing key is not in use any more"),
    custody.SealedRefused: Row(400, "The sealed card is not accepted"),
    custody.SealedReplayed: Row(409, "The sealed card was used before"),
    # custody: keys, limits, store, ledger
    custody.KeysError: Row(503, "The key service failed", _OURS),
    custody.KeysUnavailable: Row(503, "The key service cannot be reached", _OURS),
    custody.KeysTimedOut: Row(503, "The key service did not answer in time", _OURS),
    custody.KeysThrottled: Row(503, "The key service limits the rate", _OURS),
    custody.KeysSealed: Row(503, "The key service is sealed", _OURS, sealed=True),
    custody.KeysMisconfigured: Row(503, "The key service refuses the gateway", _OURS),
    custody.KeyVersionRetired: Row(500, "The key of this record is retired", _OURS),
    custody.RecordCorrupt: Row(500, "The record does not open", _OURS),
    custody.Overloaded: Row(503, "Too much to do at once", Fault.SHED),
    custody.StoreUnavailable: Row(503, "The store cannot be reached", _OURS),
    custody.StoreBusy: Row(503, "The store has no connection left", _OURS),
    custody.StoreFull: Row(503, "The store is full", _OURS),
    custody.LogDamaged: Row(503, "What is published of the ledger cannot be read", _OURS),
    custody.LedgerUnavailable: Row(503, "The ledger could not record this", _OURS),
    custody.LedgerSealed: Row(503, "The ledger is sealed", _OURS, sealed=True),
}

_INTERNAL: Final = PROBLEMS[edge.GatewayError]


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The document, as it goes out."""

    title: str
    status: int
    code: str
    retryable: bool
    request_id: str
    state: str | None = None
    field: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Described:
    """An error, told in the words of the contract; `foreseen` is false for a bug of ours."""

    row: Row
    code: str
    retryable: bool
    foreseen: bool


_encode = msgspec.json.Encoder().encode


def describe(error: Exception) -> Described:
    """Look the error up: by its own class, so that a new one without a row is seen as a bug."""
    row = PROBLEMS.get(type(error))
    if row is None or not isinstance(error, edge.GatewayError | custody.CustodyError):
        return Described(_INTERNAL, edge.GatewayError.code, retryable=False, foreseen=False)
    return Described(row, error.code, retryable=error.retryable, foreseen=True)


def answer(error: Exception, request_id: str, *, draw: float) -> web.Response:
    """Make the problem document for `error`; `draw` in [0, 1) spreads the callers' retries."""
    described = describe(error)
    row = described.row
    state = error.state if isinstance(error, edge.GatewayError) else None
    document = Problem(
        title=row.title,
        status=row.status,
        code=described.code,
        retryable=described.retryable,
        request_id=request_id,
        state=None if state is None else state.value,
        field=_our_word(_field(error)),
        reason=_our_word(_reason(error)),
    )
    response = web.Response(
        status=row.status, body=_encode(document), headers={"Content-Type": MEDIA_TYPE}
    )
    if isinstance(error, edge.NotAuthenticated):
        response.headers["WWW-Authenticate"] = REALM  # RFC 9110 section 11.6.1
    if isinstance(error, edge.MethodNotAllowed):
        response.headers["Allow"] = ", ".join(error.allowed)  # RFC 9110 section 15.5.6
    wait = retry_after(error, draw=draw)
    if wait is not None:
        response.headers["Retry-After"] = str(wait)
    return response


def retry_after(error: Exception, *, draw: float) -> int | None:
    """Whole seconds to wait: on 429, on 503, and on a 409 that will pass by itself."""
    if isinstance(error, edge.RateLimited):
        return max(1, error.retry_after_seconds)
    if isinstance(error, custody.EdgeKeyUnknown):  # another key is there already
        return None
    if isinstance(error, edge.LedgerNotPublished):  # a checkpoint is signed every second
        return 1
    if isinstance(error, edge.UpstreamUnavailable):  # all who wait for it should not come at once
        return max(1, error.retry_after_seconds) + int(draw * RETRY_AFTER_SECONDS[1])
    described = describe(error)
    row = described.row
    if row.status == 503 or (row.status == 409 and described.retryable):  # noqa: PLR2004 - statuses
        least, most = RETRY_AFTER_SEALED_SECONDS if row.sealed else RETRY_AFTER_SECONDS
        return least + int(draw * (most - least + 1))
    return None


def _field(error: Exception) -> str | None:
    if isinstance(error, custody.InvalidCard):
        return f"card.{error.field}"
    return error.field if isinstance(error, edge.GatewayError) else None


def _reason(error: Exception) -> str | None:
    if isinstance(error, edge.GatewayError | custody.InvalidCard | custody.SealedRefused):
        return error.reason
    return None


def _our_word(text: str | None) -> str | None:
    return text if text is not None and _OUR_WORD.fullmatch(text) else None
