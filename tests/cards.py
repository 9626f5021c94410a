"""Card numbers for tests: published by processors for that purpose, and issued to nobody.

Every card literal of the tests stands here, under a name. Numbers that only have to fit a
brand's range are made by `luhn_completed` out of a prefix.
"""

from typing import Final

VISA: Final = "4242424242424242"
VISA_ALT: Final = "4111111111111111"
VISA_13: Final = "4222222222222"
VISA_19: Final = "4917610000000000003"  # begins like a Visa Electron, which has 16
MASTERCARD: Final = "5555555555554444"
MASTERCARD_2: Final = "2223003122003222"  # of the newer range
AMEX: Final = "378282246310005"
DISCOVER: Final = "6011111111111117"
DINERS: Final = "36227206271667"
DINERS_16: Final = "3056930009020004"
JCB: Final = "3566002020360505"
UNIONPAY: Final = "6200000000000005"
UNIONPAY_19: Final = "6205500000000000004"
MAESTRO: Final = "6771798021000008"
ELO: Final = "5066991111111118"
HIPERCARD: Final = "6062828888666688"
DANKORT: Final = "5019555544445555"

# What Stripe's test mode does with these, and so our simulated processor.
DECLINED: Final = "4000000000000002"
FUNDS: Final = "4000000000009995"
EXPIRED: Final = "4000000000000069"
CVC_WRONG: Final = "4000000000000127"
PROCESSING: Final = "4000000000000119"
STORED_THEN_DECLINED: Final = "4000000000000341"
THREE_D_SECURE: Final = "4000002500003155"

CHECKOUT_FUNDS: Final = "4544249167673670"  # Checkout.com's sandbox: response code 20051

BRANDS: Final = {
    VISA: "visa",
    VISA_ALT: "visa",
    VISA_13: "visa",
    VISA_19: "visa",
    MASTERCARD: "mastercard",
    MASTERCARD_2: "mastercard",
    AMEX: "amex",
    DISCOVER: "discover",
    DINERS: "diners",
    DINERS_16: "diners",
    JCB: "jcb",
    UNIONPAY: "unionpay",
    UNIONPAY_19: "unionpay",
    MAESTRO: "maestro",
    ELO: "elo",
    HIPERCARD: "hipercard",
    DANKORT: "dankort",
    DECLINED: "visa",
    FUNDS: "visa",
    EXPIRED: "visa",
    CVC_WRONG: "visa",
    PROCESSING: "visa",
    STORED_THEN_DECLINED: "visa",
    THREE_D_SECURE: "visa",
    CHECKOUT_FUNDS: "visa",
}
"""Each of them with its brand."""

ALL: Final = tuple(BRANDS)


def luhn_sum(digits: str) -> int:
    """Add up by the book, one digit at a time: the oracle of the fast way."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total


def luhn_completed(head: str) -> str:
    """Append the check digit."""
    return head + str(-luhn_sum(head + "0") % 10)


def luhn_broken(head: str) -> str:
    """Append a digit that is not the check digit."""
    return head + str((1 - luhn_sum(head + "0")) % 10)
