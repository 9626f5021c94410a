"""Which processor a call is for."""

import itertools

import pytest

from gateway.sandbox.accounts import credentials_of
from gateway.sandbox.books import Counts
from gateway.sandbox.processors import build, chosen
from gateway.sandbox.wire import Simulated
from tests.gateway.sandbox.harness import API_KEY, Clock

PATHS = {
    "stripe": ["/v1/payment_intents", "/v1/tokens", "/v1/charges/ch_1/capture", "/v2/x", "/", ""],
    "adyen": [
        "/v72/payments",
        "/v1/payments/ABC/captures",
        "/v72/payments/details",
        "/v72/paymentMethods/balance",
        "/v72/storedPaymentMethods",
        "/v72/cardDetails",
        "/v72/sessions",
        "/v72/cancels",
        "/checkout/v72/payments",
        "/pal/servlet/Payment/v68/authorise",
    ],
    "checkout_com": [
        "/payments",
        "/payments/pay_1/captures",
        "/tokens",
        "/instruments",
        "/instruments/src_1",
    ],
    "braintree": ["/merchants/acct_1/transactions", "/graphql"],
    "cybersource": ["/pts/v2/payments", "/tms/v1/instrumentidentifiers"],
    "authorize_net": ["/xml/v1/request.api"],
}


@pytest.fixture
def processors() -> tuple[Simulated, ...]:
    numbers = itertools.count()
    return build(
        credentials_of([API_KEY]),
        new_id=lambda prefix: f"{prefix}{next(numbers):024}",
        now=Clock(),
        counts=Counts(),
        fingerprint_key=b"k",
    )


@pytest.mark.parametrize(
    ("path", "name"), [(path, name) for name, paths in PATHS.items() for path in paths]
)
def test_paths_are_disjoint(processors: tuple[Simulated, ...], path: str, name: str) -> None:
    assert chosen(processors, path).name == name
    taking = [each.name for each in processors if each.takes(path)]
    assert set(taking) == {name, "stripe"}


def test_names_are_unlike(processors: tuple[Simulated, ...]) -> None:
    assert len({each.name for each in processors}) == len(processors)
    assert processors[-1].name == "stripe"
