"""Which processors are simulated, and which of them a call is for. Pure.

One port serves them all: the paths of their APIs are disjoint, and what none of the others takes
is Stripe's. A new one needs a line here and nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from gateway.sandbox.adyen import Adyen
from gateway.sandbox.authorize_net import AuthorizeNet
from gateway.sandbox.books import Counts
from gateway.sandbox.braintree import Braintree
from gateway.sandbox.checkout_com import CheckoutCom
from gateway.sandbox.cybersource import CyberSource
from gateway.sandbox.stripe import Stripe
from gateway.sandbox.wire import SandboxCredential, Simulated

TRANSACTION_KEY_CHARACTERS: Final = 16


def build(
    accounts: Mapping[str, SandboxCredential],
    *,
    new_id: Callable[[str], str],
    now: Callable[[], datetime],
    counts: Counts,
    fingerprint_key: bytes,
) -> tuple[Simulated, ...]:
    """Make one of each; Stripe, which takes the rest, is the last."""
    return (
        Adyen(accounts, new_id=new_id, now=now, counts=counts),
        CheckoutCom(accounts, new_id=new_id, now=now, counts=counts),
        Braintree(accounts, new_id=new_id, now=now, counts=counts),
        CyberSource(accounts, new_id=new_id, now=now, counts=counts),
        AuthorizeNet(_short(accounts), new_id=new_id, now=now, counts=counts),
        Stripe(accounts, new_id=new_id, now=now, counts=counts, fingerprint_key=fingerprint_key),
    )


def _short(accounts: Mapping[str, SandboxCredential]) -> dict[str, SandboxCredential]:
    """Give keys as long as Authorize.Net has them: the last characters of the account's own."""
    return {
        name: replace(account, api_key=transaction_key(account.api_key))
        for name, account in accounts.items()
    }


def transaction_key(api_key: str) -> str:
    """Give an account's key at the simulated Authorize.Net."""
    return api_key[-TRANSACTION_KEY_CHARACTERS:]


def chosen(processors: Sequence[Simulated], path: str) -> Simulated:
    """Find the first that takes this path; the last takes every path."""
    return next(each for each in processors if each.takes(path))
