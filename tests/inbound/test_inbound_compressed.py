"""Compressed bodies are inflated within bounds, and looked at like all others (T-09)."""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable
from urllib.parse import parse_qs, urlencode

import aiohttp
import pytest

from tests.cards import MASTERCARD, VISA
from tests.flows.merchant import FORM, JSON
from tests.flows.wire import PROBLEM
from tests.gateway.inbound.bombs import (
    Bomb,
    bombs,
    brotli_of,
    gzip_of,
    raw_deflate_of,
    time_wasters,
    zeros,
    zlib_of,
    zstd_of,
)
from tests.inbound.client import Shopper
from tests.inbound.framing import settled

pytestmark = [pytest.mark.embedded, pytest.mark.guards("T-09")]

FIELDS = {"number": VISA, "exp_month": "12", "exp_year": "2034", "cvc": "123", "note": "é" * 40}
CODINGS = {
    "gzip": ("gzip", gzip_of),
    "x-gzip": ("X-GZip", gzip_of),
    "zlib": ("deflate", zlib_of),
    "raw deflate": ("deflate", raw_deflate_of),
    "br": ("br", brotli_of),
    "zstd": ("zstd", zstd_of),
    "gzip, gzip": ("gzip, gzip", lambda body: gzip_of(gzip_of(body))),
    "br, gzip": ("br, gzip", lambda body: gzip_of(brotli_of(body))),
    "identity, zstd": ("identity, zstd", zstd_of),
}
CODING = pytest.mark.parametrize(("encoding", "compress"), CODINGS.values(), ids=CODINGS)
LETTERS = str.maketrans("0123456789", "ghijklmnop")
Compress = Callable[[bytes], bytes]
LAG_SECONDS_MAX = 0.05
LATE_MAX = 0.05
"""Of the probes: two cores that others use as well run late by themselves now and then."""


def prose(lines: int) -> str:
    """Make words without a digit, of which no coding makes a hundredth."""
    made = (hashlib.sha256(b"%d" % at).hexdigest().translate(LETTERS) for at in range(lines))
    return "".join(f"{each[:9]} {each[9:20]} {each[20:31]} {each[31:36]}\n" for each in made)


@CODING
async def test_a_field_of_a_compressed_form(
    shopper: Shopper, encoding: str, compress: Compress
) -> None:
    body = compress(urlencode(FIELDS).encode())
    digest = {"Content-Encoding": encoding, "Content-MD5": "x", "Digest": "x"}
    seen = await shopper.arrives("/form/x", body, FORM, digest)
    got = {name: value for name, (value,) in parse_qs(seen.body.decode()).items()}
    assert got == FIELDS | {"number": got["number"], "cvc": "000"}
    assert (await shopper.card(got["number"]))["last4"] == VISA[-4:]
    assert not seen.all("Content-Encoding") + seen.all("Content-MD5") + seen.all("Digest")
    assert seen.all("Content-Length") == [str(len(seen.body))]


@CODING
@pytest.mark.parametrize("policy", ["tokenize", "mask"])
async def test_a_card_in_a_compressed_stream(
    shopper: Shopper, encoding: str, compress: Compress, policy: str
) -> None:
    before, after = prose(3000), prose(900)
    body = f"{before}said {VISA}, he\n{after}".encode()
    seen = await shopper.arrives(
        f"/{policy}/x", compress(body), "text/plain", {"Content-Encoding": encoding}
    )
    start, _, rest = seen.body.decode().partition("said ")
    shown, _, end = rest.partition(", he\n")
    assert (start, end) == (before, after)
    if policy == "mask":
        assert shown == f"{'*' * 12}{VISA[-4:]}"
    else:
        assert (await shopper.card(shown))["last4"] == VISA[-4:]
    assert not seen.all("Content-Encoding")


@pytest.mark.parametrize(
    "encoding", ["lzma", "compress", "gzip, gzip, gzip", "gzip, lzma", "gzip;q=1", "chunked"]
)
@pytest.mark.parametrize("path", ["/x", "/form/x", "/mask/x"])
async def test_an_encoding_that_nobody_inflates(shopper: Shopper, path: str, encoding: str) -> None:
    headers = {"Content-Encoding": encoding, "Content-Type": FORM}
    refusal = await shopper.refusal(path, gzip_of(b"number=1"), headers)
    assert refusal == (415, "unsupported_media_type", None, "content_encoding")


# --- bombs --------------------------------------------------------------------------------


async def probed(shopper: Shopper, until: "asyncio.Future[None]") -> list[float]:
    """Ask whether the process lives, again and again; give how long each answer took."""
    took, url = [], f"{shopper.office.urls.ops}/healthz"
    while not until.done():
        began = time.perf_counter()
        reply = await shopper.office.wire("GET", url)
        took.append(time.perf_counter() - began)
        assert reply.status == 200
        await asyncio.sleep(0.002)
    return took


async def refused(shopper: Shopper, path: str, bomb: Bomb) -> None:
    """Send one: refused, or hung up on once the answer to it would come too late."""
    kind = FORM if path.startswith("/form") else "text/plain"
    headers = {"Content-Encoding": bomb.content_encoding, "Content-Type": kind}
    reply = await shopper.send("POST", path, bomb.wire, headers)
    assert reply.headers["Content-Type"] == PROBLEM, (bomb.name, reply.status)
    assert reply.status in {413, 422}, bomb.name


@pytest.mark.parametrize("path", ["/form/x", "/x", "/mask/x"])
async def test_no_bomb_goes_off(shopper: Shopper, path: str) -> None:
    """Each is refused, none arrives whole, and meanwhile everybody else is answered."""

    ready = bombs() * 3

    async def all_of_them() -> None:
        for bomb in ready:
            await refused(shopper, path, bomb)

    sending = asyncio.ensure_future(all_of_them())
    took = await probed(shopper, sending)
    await sending
    await settled(shopper.stage.merchant)
    assert not shopper.stage.merchant.requests
    assert len(took) >= 20
    late = [each for each in took if each > LAG_SECONDS_MAX]
    assert len(late) <= LATE_MAX * len(took), late


async def test_work_for_nothing_does_not_hold_the_others_up(shopper: Shopper) -> None:
    """What makes little of much work ends by itself or is cut off; its neighbors do not wait."""

    ready = time_wasters()

    async def all_of_them() -> None:
        for bomb in ready:
            headers = {"Content-Encoding": bomb.content_encoding, "Content-Type": FORM}
            reply = await shopper.send("POST", "/form/x", bomb.wire, headers)
            assert reply.status in {200, 413, 415, 422}, bomb.name

    sending = asyncio.ensure_future(all_of_them())
    took = await probed(shopper, sending)
    await sending
    late = [each for each in took if each > LAG_SECONDS_MAX]
    assert len(late) <= LATE_MAX * len(took), late


# --- answers ------------------------------------------------------------------------------


@CODING
@pytest.mark.parametrize("path", ["/packed", "/replies/packed"])
async def test_an_answer_that_came_compressed_is_looked_at(
    shopper: Shopper, path: str, encoding: str, compress: Compress
) -> None:
    told = {"card": {"number": MASTERCARD}, "see": f"x {VISA}", "more": "m" * 3000}
    body = compress(json.dumps(told).encode())
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {JSON}\r\nContent-Encoding: {encoding}\r\n"
    raw = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    shopper.stage.merchant.answers[path] = raw
    reply = await shopper.send("GET", path, headers={"Accept-Encoding": "gzip, br, zstd"})
    assert "Content-Encoding" not in reply.headers
    assert reply.json() == {
        "card": {"number": f"{'*' * 12}{MASTERCARD[-4:]}"},
        "see": f"x {'*' * 12}{VISA[-4:]}",
        "more": "m" * 3000,
    }


@pytest.mark.parametrize("path", ["/packed", "/replies/packed"])
async def test_an_answer_that_is_a_bomb_is_withheld(shopper: Shopper, path: str) -> None:
    merchant = shopper.stage.merchant
    for encoding, body in (
        ("gzip", zeros(gzip_of)),
        ("br", zeros(brotli_of)),
        ("lzma", b"x"),
        ("gzip", b"no gzip"),
    ):
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {JSON}\r\nContent-Encoding: {encoding}\r\n"
        raw = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        merchant.answers[path] = raw
        try:
            reply = await shopper.send("GET", path)
        except aiohttp.ClientPayloadError:  # it began well
            continue
        assert reply.status >= 400, (encoding, reply.status)
        assert reply.headers["Content-Type"] == PROBLEM
