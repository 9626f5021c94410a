"""Checkout.com's official SDK. `call`: `payments.request_payment`, `tokens.request_card_token`.

`url` is where all its services are; without it, the sandbox's hosts: with `prefix` among the keys
the merchant's own, as the SDK wants it, else those that all share. A proxy and an authority come
from its process's environment. It sends nothing again by itself.
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


def _environment(url: str) -> Any:  # noqa: ANN401 - it has no types
    services = ("base", "authorization", "files", "transfers", "balances", "forward", "identity")
    return Environment(is_sandbox=True, **{f"{name}_uri": url + "/" for name in services})


class _Session:
    """The SDK's way to a session of one's own, here one with more headers."""

    def __init__(self, headers: tuple[tuple[str, str], ...]) -> None:
        self._headers = headers

    def get_client(self) -> requests.Session:
        session = requests.Session()
        session.headers.update(self._headers)
        return session


@functools.cache
def _api(
    key: str, public: str, prefix: str, url: str | None, headers: tuple[tuple[str, str], ...]
) -> Any:  # noqa: ANN401 - it has no types
    builder = CheckoutSdk.builder().secret_key(key).public_key(public)
    builder = builder.http_client_builder(_Session(headers))
    if prefix:
        return builder.environment(Environment.sandbox()).environment_subdomain(prefix).build()
    environment = Environment.sandbox() if url is None else _environment(url)
    with warnings.catch_warnings(action="ignore"):  # it calls this a way for emergencies
        builder = builder.environment(environment).use_legacy_domain()
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
        who = (order.keys["api_key"], order.keys["user"], order.keys.get("prefix", ""))
        api = _api(*who, order.url, tuple(order.headers.items()))
        call = method(api, order.call)
        named = {}
        if "idempotency_key" in inspect.signature(call).parameters:
            named["idempotency_key"] = order.idempotency_key
        params = [order.params] if order.params else []
        answer = call(*order.ids, *params, **named)
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
