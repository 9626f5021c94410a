"""Adyen's official SDK. `call`: `checkout.payments_api.payments`, `payment.payments_api.authorise`.

It has no setting for a proxy or an authority: `HTTPS_PROXY` and `REQUESTS_CA_BUNDLE` of its
process do that. It sends nothing again by itself.
"""

import functools
from typing import Any

import requests

from tests.sdks.clients.lines import Counted, Json, Order, method, module, serve

Adyen = module("Adyen")

HOSTS = ("https://checkout-test.adyen.com", "https://pal-test.adyen.com")
"""Where its services are; what follows in their addresses, with the version, is kept."""


@functools.cache
def _adyen(key: str, url: str | None, timeout: float) -> Any:  # noqa: ANN401 - it has no types
    adyen = Adyen.Adyen(xapikey=key, platform="test", http_timeout=timeout)
    if url is not None:
        for service in (adyen.checkout, adyen.payment, adyen.binlookup):
            for api in vars(service).values():
                _move(api, url)
    return adyen


def _move(api: object, url: str) -> None:
    address = vars(api).get("baseUrl") if hasattr(api, "__dict__") else None
    for host in HOSTS:
        if isinstance(address, str) and address.startswith(host):
            vars(api)["baseUrl"] = url + address.removeprefix(host)


class AdyenCalls:
    """One process's calls."""

    def __init__(self) -> None:
        self.requests = Counted((requests.adapters.HTTPAdapter, "send"))

    def called(self, order: Order) -> Json:
        adyen = _adyen(order.keys["api_key"], order.url, order.timeout or 30)
        call = method(adyen, order.call)
        more = {"header_parameters": order.headers} if order.headers else {}
        result = call(order.params, *order.ids, idempotency_key=order.idempotency_key, **more)
        return {"object": result.message, "status": result.status_code}

    def failed(self, error: Exception) -> Json:
        if not isinstance(error, Adyen.exceptions.AdyenError):
            return {}
        body = error.message if isinstance(error.message, dict) else {}
        return {
            "status": error.status_code,
            "code": error.error_code,
            "message": body.get("message"),
            "body": body,
            "headers": {name.lower(): text for name, text in (error.headers or {}).items()},
        }


if __name__ == "__main__":
    serve(AdyenCalls())
