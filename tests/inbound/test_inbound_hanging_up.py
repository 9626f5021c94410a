"""Who goes away half-way, and bodies that are larger than what is kept of them."""

import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.flows.deployment import eventually
from tests.flows.merchant import FORM
from tests.inbound.client import Shopper
from tests.inbound.framing import hang_up
from tests.inbound.stage import InboundStage

pytestmark = pytest.mark.embedded

UPLOAD_BYTES = 64 << 20
GROWTH_BYTES_MAX = 20 << 20
DOWNLOAD_BYTES = 256 << 20
PIECE = bytes(range(256)) * 256


def resident_bytes(stage: InboundStage, name: str) -> int:
    """Read what the gateway holds (`VmRSS`), or held at most (`VmHWM`)."""
    status = Path(f"/proc/{stage.gateway.pid}/status").read_text()
    found = re.search(rf"{name}:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) << 10


def forget_the_peak(stage: InboundStage) -> None:
    Path(f"/proc/{stage.gateway.pid}/clear_refs").write_text("5")  # proc(5)


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/x", "image/png"), ("/tokenize/x", "text/plain"), ("/form/x", FORM)],
)
@pytest.mark.parametrize("chunked", [False, True])
async def test_an_upload_that_breaks_off_is_never_complete(
    shopper: Shopper, path: str, kind: str, *, chunked: bool
) -> None:
    merchant = shopper.stage.merchant
    _, writer = await shopper.way().connect()
    framing = "Transfer-Encoding: chunked" if chunked else "Content-Length: 120000"
    lines = (f"POST {path} HTTP/1.1", f"Host: {shopper.stage.hostname}", f"Content-Type: {kind}")
    writer.write("\r\n".join((*lines, framing, "", "")).encode())
    writer.write(b"fde8\r\n" * chunked + b"a=" + b"x" * 64_998 + b"\r\n" * chunked)
    await writer.drain()
    if not path.startswith("/form"):  # which is read whole before anything is sent

        async def begun() -> bool:
            return b"x" * 1000 in merchant.received

        await eventually(begun, "the upload has not begun")
    await hang_up(writer)

    async def broken() -> bool:
        return len(merchant.broken_off) == 1

    if not path.startswith("/form"):
        await eventually(broken, "nobody told the application")
    assert (await shopper.send("GET", "/after")).status == 200
    assert [seen.path for seen in merchant.requests] == ["/after"]


async def test_a_download_that_nobody_hears_is_not_sent(shopper: Shopper) -> None:
    reader, writer = await shopper.way().connect()
    first = f"GET /stream?bytes={DOWNLOAD_BYTES}&length=1 HTTP/1.1"
    writer.write(f"{first}\r\nHost: {shopper.stage.hostname}\r\n\r\n".encode())
    assert await reader.readexactly(300_000)
    await hang_up(writer)

    async def told() -> bool:
        return shopper.stage.merchant.unheard == ["/stream"]

    await eventually(told, "the application sends on and on")
    assert (await shopper.send("GET", "/after")).status == 200


async def pieces(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield PIECE


@pytest.mark.parametrize("path", ["/discard", "/tokenize/discard"])
async def test_a_large_upload_passes_in_constant_memory(shopper: Shopper, path: str) -> None:
    stage, url = shopper.stage, shopper.base
    headers = {"Content-Type": "image/png"}
    async with shopper.session.post(f"{url}{path}", data=pieces(64), headers=headers) as reply:
        assert reply.status == 200  # what is made once, is made
    forget_the_peak(stage)
    before = resident_bytes(stage, "VmRSS")
    count = UPLOAD_BYTES // len(PIECE)
    async with shopper.session.post(f"{url}{path}", data=pieces(count), headers=headers) as reply:
        assert reply.status == 200
    seen = stage.merchant.requests[-1]
    assert seen.body_bytes == UPLOAD_BYTES
    assert seen.body_sha256 == hashlib.sha256(PIECE * count).hexdigest()
    assert resident_bytes(stage, "VmHWM") - before < GROWTH_BYTES_MAX


async def test_a_large_download_passes_in_constant_memory(shopper: Shopper) -> None:
    stage, received = shopper.stage, 0
    forget_the_peak(stage)
    before = resident_bytes(stage, "VmRSS")
    async with shopper.session.get(f"{shopper.base}/stream?bytes={UPLOAD_BYTES}") as reply:
        async for piece in reply.content.iter_any():
            received += len(piece)
    assert received == UPLOAD_BYTES
    assert resident_bytes(stage, "VmHWM") - before < GROWTH_BYTES_MAX
