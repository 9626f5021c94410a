"""Stripe's official SDK: in its four styles, by base URL and through a proxy.

`style`: `sync` and `module` speak requests, `httpx` and `aiohttp` are `StripeClient`'s
asynchronous methods. `call`: `payment_intents.create`, whatever the style. A param `file` is the
text of a file to upload.
"""

import asyncio
import functools
import io
from collections.abc import Awaitable, Callable
from typing import Any, cast

import stripe

from tests.sdks.clients.lines import Counted, Json, NoSuchCall, Order, method, serve

MODULE_STYLE = {
    "charges": stripe.Charge,
    "customers": stripe.Customer,
    "files": stripe.File,
    "payment_intents": stripe.PaymentIntent,
    "payment_methods": stripe.PaymentMethod,
    "refunds": stripe.Refund,
    "setup_intents": stripe.SetupIntent,
    "tokens": stripe.Token,
}
ASYNCHRONOUS: dict[str, Callable[..., stripe.HTTPClient]] = {
    "httpx": stripe.HTTPXClient,
    "aiohttp": stripe.AIOHTTPClient,
}
DEFAULT_SECONDS = 80
MODULE_RETRIES = stripe.max_network_retries
API, FILES = stripe.api_base, stripe.upload_api_base


def _http_client(style: str, proxy: str | None, timeout: float) -> stripe.HTTPClient:
    build: Callable[..., stripe.HTTPClient] = ASYNCHRONOUS.get(style, stripe.RequestsClient)
    return build(proxy=proxy, timeout=timeout)


@functools.cache
def _client(
    style: str, key: str, url: str | None, proxy: str | None, retries: int | None, timeout: float
) -> stripe.StripeClient:
    return stripe.StripeClient(
        key,
        base_addresses={} if url is None else {"api": url, "files": url},
        max_network_retries=retries,
        http_client=_http_client(style, proxy, timeout),
    )


def _module_method(order: Order) -> Callable[..., object]:
    """Set the module's globals, as code of the older style does once at its start."""
    stripe.api_key, stripe.proxy = order.keys["api_key"], order.proxy
    stripe.max_network_retries = MODULE_RETRIES if order.retries is None else order.retries
    stripe.api_base = order.url or API
    stripe.upload_api_base = order.url or FILES
    stripe.default_http_client = _http_client("module", order.proxy, _seconds(order))
    resource, _, verb = order.call.partition(".")
    if resource not in MODULE_STYLE:
        raise NoSuchCall(order.call)
    return method(MODULE_STYLE[resource], verb)


def _seconds(order: Order) -> float:
    return order.timeout or DEFAULT_SECONDS


class Stripe:
    """One process's calls; its asynchronous clients live on one event loop."""

    def __init__(self) -> None:
        self.requests = Counted(
            (stripe.RequestsClient, "request"),
            (stripe.HTTPXClient, "request_async"),
            (stripe.AIOHTTPClient, "request_async"),
        )
        self._loop = asyncio.Runner()

    def called(self, order: Order) -> Json:
        stripe.ca_bundle_path = order.ca_file
        params = dict(order.params)
        if "file" in params:
            params["file"] = io.BytesIO(str(params["file"]).encode())
        answer = self._called(order, params)
        return {
            "object": answer.to_dict(),
            "status": answer.last_response.code,
            "headers": {name.lower(): text for name, text in answer.last_response.headers.items()},
        }

    def _called(self, order: Order, params: Json) -> Any:  # noqa: ANN401 - any of its objects
        key: Json = {"headers": order.headers} if order.headers else {}
        if order.idempotency_key is not None:
            key["idempotency_key"] = order.idempotency_key
        if order.style == "module":
            return _module_method(order)(*order.ids, **params, **key)
        if order.style == "sync":
            return self._method(order)(*order.ids, params=params, options=key)
        return self._loop.run(self._awaited(order, params, key))

    async def _awaited(self, order: Order, params: Json, key: Json) -> object:
        call = self._method(order, suffix="_async")(*order.ids, params=params, options=key)
        return await cast("Awaitable[object]", call)

    def _method(self, order: Order, suffix: str = "") -> Callable[..., Any]:
        client = _client(
            order.style,
            order.keys["api_key"],
            order.url,
            order.proxy,
            order.retries,
            _seconds(order),
        )
        return method(client.v1, order.call + suffix)

    def failed(self, error: Exception) -> Json:
        if not isinstance(error, stripe.StripeError):
            return {}
        body = error.json_body.get("error") if isinstance(error.json_body, dict) else None
        return {
            "status": error.http_status,
            "code": error.code,
            "message": error.user_message,
            "body": body or {},
            "headers": {name.lower(): text for name, text in (error.headers or {}).items()},
        }


if __name__ == "__main__":
    serve(Stripe())
