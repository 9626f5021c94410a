"""CyberSource's official SDK: it signs what it sends. `call`: `PaymentsApi.create_payment`.

`params` go in as a JSON text, with the names in snake_case, since the SDK adds a field of that
spelling and overwrites one in camelCase. It reads neither the proxy nor the authorities of its
environment: the proxy is a setting, and the authority has to stand in certifi's bundle, which is
what a merchant adds it to and this program puts in its place. `style`: `http_signature`, or `jwt`
with the shared secret.
"""

import functools
import json
from typing import Any, cast
from urllib.parse import urlsplit

import certifi
import urllib3

from tests.sdks.clients.lines import Counted, Json, NoSuchCall, Order, method, module, serve

CyberSource = module("CyberSource")
ApiException = module("CyberSource.rest").ApiException

HOST = "apitest.cybersource.com"
STYLES = {
    "http_signature": {"authentication_type": "http_signature"},
    "jwt": {"authentication_type": "jwt", "jwt_key_type": "SHARED_SECRET"},
}


def _proxied(proxy: str | None) -> Json:
    if proxy is None:
        return {}
    parts = urlsplit(proxy)
    return {
        "use_proxy": 1,  # Python's own booleans break it
        "proxy_address": f"http://{parts.hostname}",
        "proxy_port": str(parts.port),
        "proxy_username": parts.username or "",
        "proxy_password": parts.password or "",
    }


@functools.cache
def _configured(
    merchant: str, user: str, secret: str, style: str, url: str | None, proxy: str | None
) -> dict[str, Any]:
    intermediate = {} if url is None else {"IntermediateHost": url}
    return {
        "run_environment": HOST,
        "merchantid": merchant,
        "merchant_keyid": user,
        "merchant_secretkey": secret,
        **STYLES[style],
        **intermediate,
        **_proxied(proxy),
    }


def _body(text: object) -> Json:
    try:
        body = json.loads(text) if isinstance(text, str) else {}
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


class CyberSourceCalls:
    """One process's calls."""

    def __init__(self) -> None:
        self.requests = Counted((urllib3.connectionpool.HTTPConnectionPool, "_make_request"))

    def called(self, order: Order) -> Json:
        certifi.where = lambda: order.ca_file
        service, _, verb = order.call.partition(".")
        build = getattr(CyberSource, service, None)
        if not service.endswith("Api") or build is None:
            raise NoSuchCall(order.call)
        style = "http_signature" if order.style == "sync" else order.style
        who = (order.keys[name] for name in ("merchant", "user", "secret"))
        config = _configured(*who, style, order.url, order.proxy)
        if order.headers:  # the SDK adds its own to the same dict
            config = {**config, "default_headers": dict(order.headers)}
        api = build(config)
        seconds = {} if order.timeout is None else {"_request_timeout": int(order.timeout)}
        call = method(api, verb)
        body = [json.dumps(order.params)] if order.params else []
        _, status, text = call(*body, *order.ids, **seconds)
        return {"object": _body(text), "status": status}

    def failed(self, error: Exception) -> Json:
        if not isinstance(error, ApiException):
            return {}
        body = _body(error.body)
        headers = cast("dict[str, str]", dict(error.headers or {}))
        return {
            "status": error.status,
            "code": body.get("reason"),
            "message": body.get("message"),
            "body": body,
            "headers": {name.lower(): text for name, text in headers.items()},
        }


if __name__ == "__main__":
    serve(CyberSourceCalls())
