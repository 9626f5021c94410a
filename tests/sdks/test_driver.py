"""The harness: what a client's process gets, what it refuses, and that it always ends."""

import asyncio
import contextlib
import os
import select
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cards import VISA
from tests.sdks.conftest import Canned, CannedServer, Sdks
from tests.sdks.driver import ROOT, Sdk, SdkEnded, Target, UnknownCall

KEY = "sk_test_of_nobody"
PARENT = """
import asyncio, sys
from pathlib import Path
from tests.sdks.driver import Sdk, Target
sdk = Sdk("stripe", Path(sys.argv[1]), ca_file=Path(sys.argv[2]))
print(sdk.pid, flush=True)
asyncio.run(sdk(Target({"api_key": "sk_test_of_nobody"}, sys.argv[3]), "customers.list"))
"""


async def test_a_call_goes_out_and_its_answer_comes_back(sdks: Sdks, canned: CannedServer) -> None:
    canned.answer = Canned(200, b'{"id": "cus_1", "object": "customer"}')
    params = {"name": "J. Doe"}
    reply = await sdks["stripe"](
        Target({"api_key": KEY}, canned.url), "customers.create", params=params
    )
    assert (reply.error, reply.status, reply.object["id"]) == (None, 200, "cus_1")
    assert reply.requests == 1
    ((path, headers, body),) = canned.came
    assert (path, body) == ("/v1/customers", b"name=J.+Doe")
    assert headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("call", ["nothing.at_all", "customers._request", "customers"])
async def test_what_the_sdk_cannot_do_is_refused(
    sdks: Sdks, canned: CannedServer, call: str
) -> None:
    with pytest.raises(UnknownCall):
        await sdks["stripe"](Target({"api_key": KEY}, canned.url), call)
    assert canned.came == []


async def test_a_process_knows_what_it_was_told_and_no_more(
    tmp_path: Path, ca_file: Path, canned: CannedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "ALL_PROXY", "STRIPE_API_KEY", "SSLKEYLOGFILE", "PYTHONSTARTUP"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    proxy = "http://merchant@127.0.0.1:9"
    with Sdk("stripe", tmp_path, ca_file=ca_file, https_proxy=proxy) as sdk:
        target = Target({"api_key": KEY}, canned.url)
        reply = await sdk(target, "customers.create")
        process = Path(f"/proc/{sdk.pid}")
        environment = (process / "environ").read_bytes().decode().split("\0")
        words = (process / "cmdline").read_bytes()
    assert (reply.error, canned.came) == ("APIConnectionError", [])  # it went to the proxy
    given = dict(each.split("=", 1) for each in environment if each)
    assert given == {
        "PATH": os.environ["PATH"],
        "LC_ALL": "C.UTF-8",
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "NO_PROXY": "",
        "REQUESTS_CA_BUNDLE": str(ca_file),
        "SSL_CERT_FILE": str(ca_file),
        "HTTPS_PROXY": proxy,
        "https_proxy": proxy,
    }
    assert KEY.encode() not in words


async def test_a_card_number_in_an_answer_fails_the_test(sdks: Sdks, canned: CannedServer) -> None:
    canned.answer = Canned(200, b'{"id": "cus_1", "name": "%s"}' % VISA.encode())
    with pytest.raises(AssertionError, match="a card number in what stripe gave back") as caught:
        await sdks["stripe"](Target({"api_key": KEY}, canned.url), "customers.create")
    assert VISA not in str(caught.value)


class Silent:
    """A server that accepts, and says nothing: not even TLS is begun."""

    def __init__(self) -> None:
        self.called = asyncio.Event()
        self.url = ""

    async def hold(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.called.set()
        while await reader.read(1024):
            pass
        writer.close()


@pytest.fixture
async def silent() -> AsyncIterator[Silent]:
    silent = Silent()
    async with await asyncio.start_server(silent.hold, "127.0.0.1", 0) as server:
        silent.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield silent


async def test_an_sdk_that_never_answers_is_ended(
    tmp_path: Path, ca_file: Path, silent: Silent
) -> None:
    with Sdk("stripe", tmp_path, ca_file=ca_file) as sdk:
        for _ in range(2):  # and stays so
            with pytest.raises(SdkEnded, match=r"stripe, status -9"):
                await sdk(Target({"api_key": KEY}, silent.url), "customers.create", seconds=1)


async def test_it_dies_with_its_parent_in_the_middle_of_a_call(
    tmp_path: Path, ca_file: Path, silent: Silent
) -> None:
    """Its input's end would not be read before Stripe's 80 seconds are over."""
    words = (PARENT, str(tmp_path), str(ca_file), silent.url)
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", *words, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = os.pidfd_open(int(await parent.stdout.readline()))
    try:
        async with asyncio.timeout(10):
            await silent.called.wait()
        parent.kill()
        await parent.communicate()
        ended, _, _ = await asyncio.to_thread(select.select, [child], [], [], 5)
        assert ended, "it lives on"
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(child, signal.SIGKILL)
        os.close(child)
