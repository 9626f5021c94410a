"""How the simulated Braintree says no: its validation errors, with the codes it publishes. Pure.

No text here is made from a value that was sent.
"""

from dataclasses import dataclass

from gateway.sandbox.braintree_document import Listed, Shown

Place = tuple[str, ...]
"""Where an error stands in the error tree: `("transaction", "credit_card")`."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One validation error: the attribute it is about, and its published code."""

    attribute: str
    code: str
    message: str


class Invalid(Exception):
    """A call that is refused before any issuer is asked."""

    def __init__(self, place: Place, problem: Problem) -> None:
        super().__init__(problem.code)
        self.place = place
        self.problem = problem


class NotFound(Exception):
    """A path that leads nowhere, or to nothing of this merchant."""


AMOUNT_REQUIRED = Problem("amount", "81502", "Amount is required.")
AMOUNT_FORMAT = Problem("amount", "81503", "Amount is an invalid format.")
AMOUNT_ZERO = Problem("amount", "81531", "Amount must be greater than zero.")
TYPE_REQUIRED = Problem("type", "91524", "Type is required.")
TYPE_INVALID = Problem("type", "91523", "Transaction type is invalid.")
CARD_REQUIRED = Problem(
    "base", "91508", "Cannot determine payment method. Please provide a credit card."
)
PAYMENT_METHOD_TOKEN = Problem("payment_method_token", "91518", "Payment method token is invalid.")
NONCE_UNKNOWN = Problem("payment_method_nonce", "91565", "Unknown or expired payment_method_nonce.")
NONCE_CONSUMED = Problem(
    "payment_method_nonce", "91564", "Cannot use a payment_method_nonce more than once."
)
CUSTOMER_INVALID = Problem("customer_id", "91510", "Customer ID is invalid.")
NOT_VOIDABLE = Problem(
    "base", "91504", "Transaction can only be voided if status is authorized or submitted."
)
NOT_SETTLEABLE = Problem(
    "base", "91507", "Cannot submit for settlement unless status is authorized."
)
NOT_PARTLY_SETTLEABLE = Problem(
    "base", "915103", "Cannot submit for partial settlement in this status."
)
SETTLEMENT_TOO_LARGE = Problem("amount", "91522", "Settlement amount is too large.")
NOT_REFUNDABLE = Problem("base", "91506", "Cannot refund transaction unless it is settled.")
REFUNDED_ALREADY = Problem("base", "91512", "Transaction has already been completely refunded.")
REFUND_TOO_LARGE = Problem("amount", "91521", "Refund amount is too large.")
CREDIT_NOT_REFUNDABLE = Problem("base", "91505", "Cannot refund a credit.")
NOT_SETTLED_YET = Problem("base", "91575", "Cannot settle this transaction in its status.")

NUMBER_REQUIRED = Problem("number", "81714", "Credit card number is required.")
NUMBER_INVALID = Problem("number", "81715", "Credit card number is invalid.")
NUMBER_LENGTH = Problem("number", "81716", "Credit card number must be 12-19 digits.")
NUMBER_NO_TEST = Problem("number", "81717", "Credit card number is not an accepted test number.")
EXPIRY_REQUIRED = Problem("expiration_date", "81709", "Expiration date is required.")
EXPIRY_INVALID = Problem("expiration_date", "81710", "Expiration date is invalid.")
MONTH_INVALID = Problem("expiration_month", "81712", "Expiration month is invalid.")
YEAR_INVALID = Problem("expiration_year", "81713", "Expiration year is invalid.")
CVV_INVALID = Problem(
    "cvv", "81707", "CVV must be 4 digits for American Express and 3 digits for other card types."
)
CUSTOMER_REQUIRED = Problem("customer_id", "91704", "Customer ID is required.")
CARD_CUSTOMER_INVALID = Problem("customer_id", "91705", "Customer ID is invalid.")
CARD_NONCE_UNKNOWN = Problem(
    "payment_method_nonce", "91732", "Unknown or expired payment_method_nonce."
)
CARD_NONCE_CONSUMED = Problem(
    "payment_method_nonce", "91731", "Cannot use a payment_method_nonce more than once."
)
CUSTOMER_ID_IN_USE = Problem("id", "91609", "Customer ID has already been taken.")


def shown_error(message: str, inside: dict[str, Shown] | None = None) -> dict[str, Shown]:
    """Show an error without a field to blame: an issuer's no, with what was tried inside."""
    shown: dict[str, Shown] = {"errors": {"errors": Listed("error")}, "message": message}
    return shown | (inside or {})


def shown_invalid(invalid: Invalid) -> dict[str, Shown]:
    problem = invalid.problem
    told: dict[str, Shown] = {
        "attribute": problem.attribute,
        "code": problem.code,
        "message": problem.message,
    }
    tree: dict[str, Shown] = {"errors": Listed("error", (told,))}
    for step in reversed(invalid.place):
        tree = {"errors": Listed("error"), step: tree}
    return {"errors": tree, "message": problem.message}
