"""Plain HTTPS calls as a program of its own: the checkout page, and the shop's back office.

The standard library and nothing else: no SDK, nothing of panward. JSON lines both ways.
"""

import http.client
import ssl
import sys
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

TIMEOUT_SECONDS = 20.0


class HttpCall(msgspec.Struct):
    """One call; `body` is the text to be sent, if any. `key` is an API key of panward's.

    With `proxy` it goes through that, and the key is the proxy's.
    """

    method: str
    url: str
    ca_file: str
    key: str | None = None
    body: str | None = None
    proxy: str | None = None
    content_type: str = "application/json"
    headers: Mapping[str, str] = {}


class HttpAnswer(msgspec.Struct):
    """What came back."""

    status: int
    body: str


def call(order: HttpCall) -> HttpAnswer:
    url = urlsplit(order.url)
    headers = {"Content-Type": order.content_type, **order.headers}
    key = {} if order.key is None else {"Authorization": f"Bearer {order.key}"}
    at = url if order.proxy is None else urlsplit(order.proxy)
    connection = http.client.HTTPSConnection(
        at.hostname or "",
        at.port,
        timeout=TIMEOUT_SECONDS,
        context=ssl.create_default_context(cafile=order.ca_file),
    )
    if order.proxy is None:
        headers |= key
    else:
        connection.set_tunnel(
            url.hostname or "",
            url.port or 443,
            headers={f"Proxy-{name}": value for name, value in key.items()},
        )
    try:
        target = f"{url.path}?{url.query}" if url.query else url.path
        connection.request(order.method, target, body=order.body, headers=headers)
        response = connection.getresponse()
        return HttpAnswer(response.status, response.read().decode())
    finally:
        connection.close()


def main() -> None:
    for line in sys.stdin.buffer:
        answer = call(msgspec.json.decode(line, type=HttpCall))
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
