"""Requests with a card number where none belongs: path, query, headers, and broken bodies.

Raw bytes, because no client writes most of them. What they are answered does not matter here, only
that the number is in no answer and stays nowhere.
"""

import json
from collections.abc import Iterator

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


def requests(number: str, key: str) -> Iterator[bytes]:
    """Give requests for one listener, as the holder of this key would send them."""
    yield from _in_the_head(number, key)
    yield from _in_broken_bodies(number, key)
    yield from _to_the_processor(number, key)
    yield from _malformed(number)


def _in_the_head(number: str, key: str) -> Iterator[bytes]:
    for path in (
        f"/{number}",
        f"/v1/tokens/{number}",
        f"/v1/authorizations/{number}",
        f"/v1/authorizations?idempotency_key={number}&merchant_reference={number}",
        f"/v1/authorizations?token={number}&processor_reference={number}&cursor={number}",
        f"/v1/tokens?customer_reference={number[:6]}.{number}",
        f"/v1/tokens?card={number}#{number}",
        f"/out/{number}/v1/charges",
        f"/healthz/{number}",
    ):
        yield _request("GET", path, key)
        yield _request("DELETE", path, key)
    for name in (
        "X-Card",
        "Cookie",
        "User-Agent",
        "Referer",
        "Forwarded",
        "X-Request-Id",
        "Expect",
    ):
        yield _request("GET", "/v1/tokens", key, more={name: f"card={number}"})
    for name in ("Authorization", "Proxy-Authorization", "Panward-Key"):
        yield _request("GET", "/v1/tokens", None, more={name: f"Bearer {number}"})
    yield _request("GET", "/v1/tokens", f"pwsk_test_{number}")
    yield _request("GET", "/v1/tokens", key, host=f"{number}.example")
    yield _request("POST", "/v1/tokens", key, b"{}", content_type=f"text/{number}")


def _in_broken_bodies(number: str, key: str) -> Iterator[bytes]:
    card = {"number": number, "exp_month": 12, "exp_year": 2034}
    whole = json.dumps({"card": card})
    for body in (
        whole[:-1],
        whole + "}",
        f"{number}{whole}",
        whole.replace(f'"{number}"', number),
        f'{{"card":{{"number":"{number}","number":"{number}"}}}}',
        json.dumps({"card": card | {"holder": number}}),
        json.dumps({"card": card | {"exp_month": number}}),
        json.dumps({"card": card | {"cvc": number}}),
        json.dumps({"card": card, number: number}),
        json.dumps({"card": card, "customer_reference": f"{number}."}),
        json.dumps({"card": card, "format": number}),
        json.dumps({"card": card, "expires_at": number}),
        json.dumps({"card": card | {"number": f"{number}0"}}),
        json.dumps({"card": card | {"number": number[:-1] + "x"}}),
        json.dumps([number]),
        f"{'[' * 500}{number}",
        whole + " " * 5000,
    ):
        yield _request("POST", "/v1/tokens", key, body.encode(), content_type=JSON)
    yield _request("POST", "/v1/tokens", key, whole.encode("utf-16"), content_type=JSON)
    yield _request("POST", "/v1/tokens", key, whole.encode(), content_type=FORM)
    yield _request("PUT", "/v1/tokens", key, whole.encode(), content_type=JSON)


def _to_the_processor(number: str, key: str) -> Iterator[bytes]:
    intents = "/out/stripe/v1/payment_intents"
    field = "payment_method_data[card][number]"
    for body in (
        f"{field}={number}",
        f"{field}={number}&{field}={number}",
        f"{number}={number}",
        f"amount={number}&currency={number}",
        f"payment_method={number}",
        f"{field}=%3{'%3'.join(number)}",
        f"metadata[{number}]=pwt_test_{'0' * 28}",
        f"{field}=99{number[2:]}",
    ):
        yield _request("POST", intents, key, body.encode(), content_type=FORM)
    yield _request("POST", intents, key, b"amount=1", content_type=JSON)
    yield _request("POST", intents, key, f'{{"a":{number}}}'.encode(), content_type=JSON)
    yield _request(
        "POST", intents, key, b"amount=x", content_type=FORM, more={"Idempotency-Key": number}
    )
    yield _request("POST", f"{intents}/{number}/confirm", key, b"", content_type=FORM)
    yield _request("POST", f"{intents}/{number}/{number}", key, b"", content_type=FORM)
    yield _request("GET", f"/out/stripe/v1/charges/{number}?expand[]={number}", key)


def _malformed(number: str) -> Iterator[bytes]:
    yield f"{number}\r\n\r\n".encode()
    yield f"{number} / HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    yield f"GET / HTTP/{number}\r\nHost: x\r\n\r\n".encode()
    yield f"GET / HTTP/1.1\r\nHost: x\r\n{number}\r\n\r\n".encode()
    yield f"GET / HTTP/1.1\r\nHost: x\r\nA{number}\x00: {number}\r\n\r\n".encode()
    yield f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -{number}\r\n\r\n".encode()
    yield f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {number}\r\n\r\n{number}".encode()
    yield f"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: {number}\r\n\r\n{number}".encode()
    yield (
        f"POST /v1/tokens HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{number}\r\n"
    ).encode()
    yield f"GET /{number * 800} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    yield f"GET / HTTP/1.1\r\nHost: x\r\nCookie: {number * 800}\r\n\r\n".encode()


def _request(  # noqa: PLR0913 - what a request is made of
    method: str,
    path: str,
    key: str | None,
    body: bytes = b"",
    *,
    content_type: str | None = None,
    host: str = "127.0.0.1",
    more: dict[str, str] | None = None,
) -> bytes:
    fields = {"Host": host, "Content-Length": str(len(body))}
    if key is not None:
        fields["Authorization"] = f"Bearer {key}"
    if content_type is not None:
        fields["Content-Type"] = content_type
    lines = [f"{method} {path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in (fields | (more or {})).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
