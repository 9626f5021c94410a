"""Checkout.com's official SDK. `call`: `payments.request_payment`, `tokens.request_card_token`.

`url` is where all its services are; without it, the sandbox's hosts. A proxy and an authority
come from its process's environment. It sends nothing again by itself.
"""

import functools
import inspect
import warnings
from typing import Any

import requests

from tests.sdks.clients.lines import Counted, Json, Order, method, module, serve

CheckoutSdk = module("checkout_sdk.checkout_sdk").CheckoutSdk
Environment = module("checkout_sdk.environment").Environment
CheckoutApiException = module("checkout_sdk.exception").CheckoutApiException

PREFIX = "panwardtest"
"""A merchant's own host: what the SDK puts before the domain unless it is told not to."""


def _environment(url: str) -> Any:  # noqa: ANN401 - it has no types
    services = ("base", "authorization", "files", "transfers", "balances", "forward", "identity")
    return Environment(is_sandbox=True, **{f"{name}_uri": url + "/" for name in services})


@functools.cache
def _api(key: str, public: str, url: str | None) -> Any:  # noqa: ANN401 - it has no types
    builder = CheckoutSdk.builder().secret_key(key).public_key(public)
    if url is None:
        return builder.environment(Environment.sandbox()).environment_subdomain(PREFIX).build()
    with warnings.catch_warnings(action="ignore"):  # it calls this a way for emergencies
        builder = builder.environment(_environment(url)).use_legacy_domain()
    return builder.build()


def _plain(thing: object) -> object:
    """Give what its wrapper objects hold."""
    if isinstance(thing, list | tuple):
        return [_plain(each) for each in thing]
    if type(thing).__name__ != "ResponseWrapper":
        return thing
    return {name: _plain(value) for name, value in vars(thing).items() if name != "http_metadata"}


class Checkout:
    """One process's calls."""

    def __init__(self) -> None:
        self.requests = Counted((requests.adapters.HTTPAdapter, "send"))

    def called(self, order: Order) -> Json:
        api = _api(order.keys["api_key"], order.keys["user"], order.url)
        call = method(api, order.call)
        named = {}
        if "idempotency_key" in inspect.signature(call).parameters:
            named["idempotency_key"] = order.idempotency_key
        answer = call(*order.ids, order.params, **named)
        return {"object": _plain(answer), **_said(answer)}

    def failed(self, error: Exception) -> Json:
        if not isinstance(error, CheckoutApiException):
            return {}
        codes = error.error_details or [None]
        return {
            "code": codes[0],
            "message": error.error_type,
            "body": {"request_id": error.request_id, "error_codes": error.error_details},
            **_said(error),
        }


def _said(thing: Any) -> Json:  # noqa: ANN401 - an answer or an error of its own
    said = thing.http_metadata
    headers = {name.lower(): text for name, text in said.headers.items()}
    return {"status": said.status_code, "headers": headers}


if __name__ == "__main__":
    serve(Checkout())
