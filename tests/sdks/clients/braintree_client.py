"""Braintree's official SDK: XML, and GraphQL. `call`: `transaction.sale`, `graphql_client.query`.

`url` is a host and a port, for it takes no path, and speaks TLS only to port 443 unless its
environment object is told otherwise, as here. A proxy comes from its process's environment; its
bundle of authorities is a setting. More headers are for an HTTP strategy of the merchant's own.
It sends nothing again by itself.
"""

import functools
from typing import Any
from urllib.parse import urlsplit

import requests

from tests.sdks.clients.lines import Counted, Json, Order, method, module, serve

braintree = module("braintree")
Http = module("braintree.util.http").Http
BraintreeError = module("braintree.exceptions.braintree_error").BraintreeError

MADE = (
    "transaction",
    "verification",
    "credit_card_verification",
    "credit_card",
    "payment_method",
    "customer",
)
"""What a result may hold."""
SHOWN = (
    "id",
    "token",
    "status",
    "amount",
    "processor_response_code",
    "processor_response_text",
    "processor_authorization_code",
    "gateway_rejection_reason",
    "credit_card",
)


_TlsEverywhere = type("_TlsEverywhere", (braintree.Environment,), {"protocol": "https://"})


def _environment(url: str | None, ca_file: str) -> Any:  # noqa: ANN401 - it has no types
    if url is None:
        braintree.Environment.Sandbox.ssl_certificate = ca_file
        return braintree.Environment.Sandbox
    parts = urlsplit(url)
    at = (parts.hostname, str(parts.port))
    return _TlsEverywhere("panward", *at, url, True, ca_file, *at)  # noqa: FBT003 - its order


def _strategy(headers: tuple[tuple[str, str], ...]) -> type | None:
    """Give the SDK's own way to send, with more headers; None for it as it is."""

    def http_do(self: object, verb: str, path: str, named: Json, body: object) -> object:
        return Http.http_do(self, verb, path, {**named, **dict(headers)}, body)

    return type("_WithHeaders", (Http,), {"http_do": http_do}) if headers else None


@functools.cache
def _gateway(  # noqa: PLR0913, PLR0917 - what it is configured with
    merchant: str,
    user: str,
    key: str,
    url: str | None,
    ca_file: str,
    timeout: float,
    headers: tuple[tuple[str, str], ...],
) -> Any:  # noqa: ANN401 - it has no types
    return braintree.BraintreeGateway(
        braintree.Configuration(
            environment=_environment(url, ca_file),
            merchant_id=merchant,
            public_key=user,
            private_key=key,
            timeout=timeout,
            http_strategy=_strategy(headers),
        )
    )


def _shown(thing: object) -> Json:
    return {name: getattr(thing, name) for name in SHOWN if getattr(thing, name, None) is not None}


class Braintree:
    """One process's calls."""

    def __init__(self) -> None:
        self.requests = Counted((requests.adapters.HTTPAdapter, "send"))

    def called(self, order: Order) -> Json:
        who = (order.keys[name] for name in ("merchant", "user", "api_key"))
        more = (order.timeout or 60, tuple(order.headers.items()))
        gateway = _gateway(*who, order.url, order.ca_file, *more)
        call = method(gateway, order.call)
        if order.call == "graphql_client.query":
            return {"object": call(**order.params)}
        return _result(call(*order.ids, order.params) if order.params else call(*order.ids))

    def failed(self, error: Exception) -> Json:
        """Its errors hold a text and no more; those that requests raised come as they are."""
        return {"message": str(error)} if isinstance(error, BraintreeError) else {}


def _result(result: Any) -> Json:  # noqa: ANN401 - it has no types
    """Tell a result apart: its SDK gives a refusal as an object, not as an error."""
    if not hasattr(result, "is_success"):  # what was found is given as it is
        return {"object": _shown(result)}
    made = [vars(result)[name] for name in MADE if vars(result).get(name) is not None]
    shown = _shown(made[0]) if made else {}
    if result.is_success:
        return {"object": shown}
    codes = [each.code for each in result.errors.deep_errors]
    body = {"message": result.message, "codes": codes, "is_success": False}
    return {"object": {**shown, **body}}


if __name__ == "__main__":
    serve(Braintree())
