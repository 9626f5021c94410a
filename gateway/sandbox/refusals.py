"""How this processor says no: the error object of its API, and the status it comes with. Pure.

No text here is made from a value that was sent, save ids and field names.
"""

import msgspec

from gateway.sandbox.objects import PaymentIntent


class ErrorBody(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What stands under `error`."""

    type: str
    message: str
    code: str | None = None
    decline_code: str | None = None
    param: str | None = None
    charge: str | None = None
    payment_intent: PaymentIntent | None = None


class Refusal(Exception):
    """A call that gets no object. `executed` says whether its answer is kept for repeats."""

    def __init__(self, status: int, error: ErrorBody, *, executed: bool = True) -> None:
        super().__init__(error.code or error.type)
        self.status = status
        self.error = error
        self.executed = executed


def _request_error(
    status: int,
    message: str,
    *,
    code: str | None = None,
    param: str | None = None,
    executed: bool = False,
) -> Refusal:
    error = ErrorBody(type="invalid_request_error", message=message, code=code, param=param)
    return Refusal(status, error, executed=executed)


def malformed(message: str) -> Refusal:
    return _request_error(400, message)


def too_large() -> Refusal:
    return _request_error(413, "The request body is too large.")


def missing(param: str) -> Refusal:
    message = f"Missing required param: {param}."
    return _request_error(400, message, code="parameter_missing", param=param)


def invalid(param: str, message: str) -> Refusal:
    return _request_error(400, message, code="parameter_invalid", param=param)


def unknown_url() -> Refusal:
    return _request_error(404, "Unrecognized request URL.")


def not_found(kind: str, param: str) -> Refusal:
    """Say so without repeating the id: it is whatever the caller sent."""
    message = f"No such {kind}."
    return _request_error(404, message, code="resource_missing", param=param, executed=True)


def unexpected_state(kind: str, status: str) -> Refusal:
    message = f"This {kind} cannot do that while its status is {status}."
    return _request_error(400, message, code=f"{kind}_unexpected_state", executed=True)


def refund_refused(code: str, message: str) -> Refusal:
    return _request_error(400, message, code=code, executed=True)


def unauthorized(message: str) -> Refusal:
    return _request_error(401, message)


def key_reused() -> Refusal:
    message = "This idempotency key was first used with other parameters, or at another URL."
    error = ErrorBody(type="idempotency_error", message=message)
    return Refusal(400, error, executed=False)


def key_too_long() -> Refusal:
    return malformed("The idempotency key is too long.")


def key_in_use() -> Refusal:
    error = ErrorBody(
        type="idempotency_error",
        code="idempotency_key_in_use",
        message="A request with this idempotency key is still being processed.",
    )
    return Refusal(409, error, executed=False)


def card_error(code: str, message: str, *, param: str | None = None) -> Refusal:
    """Refuse a card that no issuer was asked about: a field is wrong."""
    error = ErrorBody(type="card_error", message=message, code=code, param=param)
    return Refusal(402, error)


def simulated_failure(status: int) -> Refusal:
    """Fail as asked for. A failure of the processor's own (5xx) is kept for repeats."""
    error = ErrorBody(type="api_error", message="The simulated processor was told to fail.")
    return Refusal(status, error, executed=status >= 500)  # noqa: PLR2004 - the class of statuses
