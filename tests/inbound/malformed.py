"""Requests that are wrong somewhere, each with a canary card in it: as many as one likes.

What lives here: the making, the same for the same seed. What never may: a socket; a number that
is not of `tests/cards.py`.
"""

import base64
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from tests.cards import AMEX, MASTERCARD, VISA
from tests.flows.leaks import forms_of

CANARIES: Final = (VISA, MASTERCARD, AMEX)
SEED: Final = 20_260_101
BOUNDARY: Final = b"boundary"
RUBBISH: Final = (b"\0", b"\r", b"\n", b"\xff", b"\x7f", b"{", b'"', b"<", b"%", b";", b"\xc0\x80")

Draw = random.Random
Body = tuple[bytes, bytes]


@dataclass(frozen=True)
class Malformed:
    """One of them."""

    data: bytes
    waits: bool
    """Whether the other side may well wait for more of it."""


# --- where the canary is ------------------------------------------------------------------


def _form(card: bytes) -> Body:
    return b"application/x-www-form-urlencoded", b"number=" + card + b"&cvc=123&exp_month=12"


def _json(card: bytes) -> Body:
    return b"application/json", b'{"number":"' + card + b'","cvc":"123","exp_month":12}'


def _json_number(card: bytes) -> Body:
    return b"application/json", b'{"a":[1,{"number":' + card + b"}]}"


def _xml(card: bytes) -> Body:
    return b"application/xml", b"<order><number>" + card + b"</number><cvc>123</cvc></order>"


def _multipart(card: bytes) -> Body:
    part = b'--boundary\r\nContent-Disposition: form-data; name="number"\r\n\r\n' + card
    return b"multipart/form-data; boundary=boundary", part + b"\r\n--boundary--\r\n"


def _csv(card: bytes) -> Body:
    return b"text/csv", b"id,number\r\n1," + card + b"\r\n"


def _encoded(card: bytes) -> Body:
    return b"application/octet-stream", b"x" + base64.b64encode(card)


def _track(card: bytes) -> Body:
    return b"text/plain", b"%B" + card + b"^DOE/J^34121010000000000?"


BODIES: Final = (_form, _json, _json_number, _xml, _multipart, _csv, _encoded, _track)


# --- what is wrong with the body ----------------------------------------------------------


def _cut(draw: Draw, body: bytes) -> bytes:
    return body[: draw.randrange(1, len(body))]


def _doubled(_draw: Draw, body: bytes) -> bytes:
    return body + body


def _rubbish(draw: Draw, body: bytes) -> bytes:
    at = draw.randrange(len(body))
    return body[:at] + draw.choice(RUBBISH) * draw.randrange(1, 4) + body[at:]


def _swapped(draw: Draw, body: bytes) -> bytes:
    at = draw.randrange(len(body) - 1)
    return body[:at] + body[at + 1 : at + 2] + body[at : at + 1] + body[at + 2 :]


def _deep(draw: Draw, body: bytes) -> bytes:
    return b"[" * draw.randrange(1, 400) + body


def _utf_16(_draw: Draw, body: bytes) -> bytes:
    return body.decode("latin-1").encode("utf-16")


BODY_FAULTS: Final = (_cut, _doubled, _rubbish, _swapped, _deep, _utf_16)


# --- what is wrong with the head ----------------------------------------------------------

HEAD_FAULTS: Final[tuple[Callable[[bytes], bytes], ...]] = (
    lambda card: b"X-" + card + b" : a",
    lambda card: b"X_Card: " + card,
    lambda card: b"X-Card: " + card + b"\0",
    lambda card: b"X-Card: a\r\n " + card,
    lambda card: b"X-Card\x01: " + card,
    lambda card: card,
    lambda card: b"Content-Length: " + card,
    lambda card: b"Transfer-Encoding: " + card,
    lambda card: b"Content-Encoding: " + card,
    lambda card: b"Expect: " + card,
    lambda card: b"Host: " + card,
    lambda card: b"Upgrade: " + card,
    lambda card: b"Content-Type: application/" + card,
    lambda card: b"Content-Type: multipart/form-data; boundary=" + card,
    lambda card: b"Content-Type: text/plain; charset=" + card,
    lambda card: b"Connection: " + card + b", upgrade",
    lambda card: b"Cookie: " + (card + b",") * 400,
    lambda card: b"Range: bytes=" + card + b"-x",
)
LINES: Final[tuple[Callable[[bytes], bytes], ...]] = (
    lambda card: card + b" /form HTTP/1.1",
    lambda card: b"POST " + card + b" HTTP/1.1",
    lambda card: b"POST /form/" + card + b"\0 HTTP/1.1",
    lambda card: b"POST /form/" + card + b" x HTTP/1.1",
    lambda card: b"POST /form?number=" + card + b" HTTP/1." + card,
    lambda card: b"POST /form HTTP/" + card,
    lambda card: b"POST http://" + card + b"/form HTTP/1.1",
    lambda card: b"POST /form/%zz" + card + b" HTTP/1.1",
    lambda card: b"CONNECT " + card + b":443 HTTP/1.1",
    lambda card: b"POST /form/" + (card + b"/") * 300 + b" HTTP/1.1",
    lambda card: b"POST /form#" + card + b" HTTP/1.1",
    lambda card: card,
)
CHUNK_FAULTS: Final[tuple[Callable[[bytes], bytes], ...]] = (
    lambda card: card + b"\r\n",
    lambda card: b"5;" + card + b"\n",
    lambda card: b"zz" + card + b"\r\n",
    lambda card: b"2\r\n" + card + b"\r\n",
    lambda card: b"1\r\na\r\n0\r\n" + card + b"\r\n\r\n",
    lambda card: b"1\r\na\r\n0\r\nX: \0" + card + b"\r\n\r\n",
)


def _head(host: bytes, first: bytes, *lines: bytes) -> bytes:
    return b"\r\n".join((first, b"Host: " + host, *lines, b"", b""))


def _with_bad_body(draw: Draw, host: bytes, card: bytes) -> bytes:
    kind, body = draw.choice(BODIES)(card)
    body = draw.choice(BODY_FAULTS)(draw, body)
    if draw.random() < 0.2:  # said to be something else
        kind = draw.choice(BODIES)(card)[0]
    length = b"Content-Length: %d" % len(body)
    return _head(host, b"POST /form HTTP/1.1", b"Content-Type: " + kind, length) + body


def _with_bad_head(draw: Draw, host: bytes, card: bytes) -> bytes:
    kind, body = draw.choice(BODIES)(card)
    lines = [b"Content-Type: " + kind, b"Content-Length: %d" % len(body)]
    lines.insert(draw.randrange(3), draw.choice(HEAD_FAULTS)(card))
    return _head(host, b"POST /form HTTP/1.1", *lines) + body


def _with_bad_line(draw: Draw, host: bytes, card: bytes) -> bytes:
    return _head(host, draw.choice(LINES)(card), b"Content-Length: 0")


def _with_bad_chunks(draw: Draw, host: bytes, card: bytes) -> bytes:
    kind, _ = draw.choice(BODIES)(card)
    lines = (b"Content-Type: " + kind, b"Transfer-Encoding: chunked")
    return _head(host, b"POST /form HTTP/1.1", *lines) + draw.choice(CHUNK_FAULTS)(card)


def _with_bad_card(draw: Draw, host: bytes, card: bytes) -> bytes:
    """Well written, but the number is not as it must be."""
    odd = draw.choice((card + b"0", card[:-1] + b"x", b"--" + card, card + b"&number=" + card))
    kind, body = draw.choice((_form, _json, _multipart))(odd)
    length = b"Content-Length: %d" % len(body)
    return _head(host, b"POST /form HTTP/1.1", b"Content-Type: " + kind, length) + body


def _unfinished(draw: Draw, host: bytes, card: bytes) -> bytes:
    kind, body = draw.choice(BODIES)(card)
    length = b"Content-Length: %d" % (len(body) + draw.randrange(1, 100))
    return _head(host, b"POST /form HTTP/1.1", b"Content-Type: " + kind, length) + body


KINDS: Final = (
    (_with_bad_body, 0.42),
    (_with_bad_card, 0.15),
    (_with_bad_head, 0.2),
    (_with_bad_line, 0.13),
    (_with_bad_chunks, 0.09),
    (_unfinished, 0.01),
)


def malformed(count: int, hostname: str, *, seed: int = SEED) -> Iterator[Malformed]:
    """Make so many, the same ones for the same seed."""
    draw, host = random.Random(seed), hostname.encode()  # noqa: S311 - the same for everyone
    makers, weights = zip(*KINDS, strict=True)
    for _ in range(count):
        (make,) = draw.choices(makers, weights)
        card = draw.choice(list(forms_of(draw.choice(CANARIES)))[:3])
        yield Malformed(make(draw, host, card), waits=make is _unfinished)
