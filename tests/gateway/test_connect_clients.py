"""The CONNECT listener as real clients use it, each in a process of its own."""

import asyncio
import os
import shutil
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
import uvloop

from gateway.listeners import server_context
from tests.gateway.connect_harness import USUAL, ConnectShell, connect_serving
from tests.vault.places import place_of_openbao
from vault.embedded.bootstrap import EmbeddedParts

pytestmark = pytest.mark.embedded

URL = "https://api.stripe.com/v1/charges"
REQUESTS = """
import requests, sys
session = requests.Session()
session.proxies, session.verify = {"https": sys.argv[1]}, sys.argv[2]
for body in (b"x" * 70_000, b"y" * 1_000_000):
    print(session.post(sys.argv[3], data=body, timeout=20).json())
"""
URLLIB3 = """
import ssl, sys, urllib3
from urllib.parse import urlsplit
parts = urlsplit(sys.argv[1])
proxy = urllib3.ProxyManager(
    f"{parts.scheme}://{parts.hostname}:{parts.port}", ca_certs=sys.argv[2],
    proxy_headers=urllib3.make_headers(proxy_basic_auth=f"{parts.username}:{parts.password or ''}"),
)
for body in (b"x" * 70_000, b"y" * 1_000_000):
    print(proxy.request("POST", sys.argv[3], body=body, timeout=20, retries=False).json())
"""
HTTPX = """
import httpx, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
with httpx.Client(proxy=sys.argv[1], verify=context, timeout=20) as client:
    for body in (b"x" * 70_000, b"y" * 1_000_000):
        print(client.post(sys.argv[3], content=body).json())
"""
AIOHTTP = """
import aiohttp, asyncio, ssl, sys
async def main():
    context = ssl.create_default_context(cafile=sys.argv[2])
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        for body in (b"x" * 70_000, b"y" * 1_000_000):
            async with session.post(sys.argv[3], data=body, proxy=sys.argv[1]) as answer:
                print(await answer.json())
asyncio.run(main())
"""
PYTHON = {"requests": REQUESTS, "urllib3": URLLIB3, "httpx": HTTPX, "aiohttp": AIOHTTP}


@pytest.fixture
async def shell(embedded: EmbeddedParts, tmp_path: Path) -> AsyncIterator[ConnectShell]:
    async with connect_serving(place_of_openbao(embedded), tmp_path) as made:
        yield made


async def said_by(*command: str) -> str:
    """Run a client to its end, without a proxy or a CA bundle of the environment."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], "NO_PROXY": ""},
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


BOTH = "{'route': 'stripe', 'bytes': 70000}\n{'route': 'stripe', 'bytes': 1000000}\n"


@pytest.mark.parametrize("form", ["{key}:", "x:{key}"], ids=["as user", "as password"])
@pytest.mark.parametrize("client", PYTHON)
async def test_a_client_that_is_given_our_proxy_and_our_root_works(
    shell: ConnectShell, client: str, form: str
) -> None:
    proxy = f"http://{form.format(key=shell.key.text)}@127.0.0.1:{shell.port}"

    said = await said_by(sys.executable, "-c", PYTHON[client], proxy, str(shell.ca_file), URL)

    assert said == BOTH
    assert [(seen[:3], len(seen[3])) for seen in shell.calls.seen] == [
        (("stripe", "POST", "/v1/charges"), 70_000),
        (("stripe", "POST", "/v1/charges"), 1_000_000),
    ]
    assert all("proxy-authorization" not in headers for headers in shell.calls.headers)
    opened = [event for event in shell.events() if event["method"] == "CONNECT"]
    assert [event["status"] for event in opened] == [200], "one tunnel for both requests"


async def test_curl_works(shell: ConnectShell, tmp_path: Path) -> None:
    curl = shutil.which("curl")
    assert curl is not None
    (tmp_path / "body").write_bytes(b"z" * 70_000)
    post = ("--data-binary", f"@{tmp_path / 'body'}", "-H", "Expect:", URL)
    proxy = f"http://x:{shell.key.text}@127.0.0.1:{shell.port}"

    said = await said_by(
        curl, "-sS", "--cacert", str(shell.ca_file), "--proxy", proxy, *post, "--next", "-sS",
        "--cacert", str(shell.ca_file), "--proxy", proxy, *post,
    )  # fmt: skip

    assert said == '{"route": "stripe", "bytes": 70000}' * 2


async def test_a_client_without_our_root_gives_up_and_the_log_says_why(
    shell: ConnectShell, tmp_path: Path
) -> None:
    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(str(stranger))
    proxy = f"http://x:{shell.key.text}@127.0.0.1:{shell.port}"
    script = f"import requests\ntry:\n exec({REQUESTS!r})\nexcept requests.exceptions.SSLError:\n"
    script += " print('not trusted')"

    for _ in range(2):
        said = await said_by(sys.executable, "-c", script, proxy, str(stranger), URL)
        assert said == "not trusted\n"

    assert shell.calls.seen == []
    labels = {"class": "connection", "reason": "handshake"}
    assert shell.count("requests_shed_total", **labels) == 2
    (advice,) = [line for line in shell.lines() if line["event"] == "tls_refused_in_tunnel"]
    assert "panward ca" in advice["where"]
    assert advice["where"].startswith("route stripe: ")


@pytest.mark.parametrize(
    "loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
async def test_the_proxy_itself_may_speak_tls(
    embedded: EmbeddedParts, tmp_path: Path, loop: object
) -> None:
    """TLS within TLS: the key is not in clear between client and proxy."""
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    leaf.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    (tmp_path / "chain.pem").write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))

    async def story() -> str:
        context = server_context(tmp_path / "chain.pem", tmp_path / "key.pem")
        place = place_of_openbao(embedded)
        async with connect_serving(place, tmp_path, USUAL, context=context) as shell:
            both = tmp_path / "both.pem"
            both.write_bytes(shell.ca_file.read_bytes() + authority.cert_pem.bytes())
            proxy = f"https://x:{shell.key.text}@127.0.0.1:{shell.port}"
            return await said_by(sys.executable, "-c", REQUESTS, proxy, str(both), URL)

    def on_loop() -> str:
        with asyncio.Runner(loop_factory=loop) as runner:  # type: ignore[arg-type]  # two kinds
            return runner.run(story())

    assert await asyncio.to_thread(on_loop) == BOTH


async def test_on_uvloop_all_is_the_same(embedded: EmbeddedParts, tmp_path: Path) -> None:
    async def story() -> str:
        async with connect_serving(place_of_openbao(embedded), tmp_path) as shell:
            proxy = f"http://x:{shell.key.text}@127.0.0.1:{shell.port}"
            return await said_by(sys.executable, "-c", REQUESTS, proxy, str(shell.ca_file), URL)

    def on_uvloop() -> str:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(story())

    assert await asyncio.to_thread(on_uvloop) == BOTH


async def test_the_chain_passes_strict_verification(shell: ConnectShell) -> None:
    """As Python 3.13 does by default (RFC 5280: key identifiers, key usage, constraints)."""
    _, writer = await shell.tunnel()
    channel = writer.get_extra_info("ssl_object")
    assert channel.context.verify_flags & ssl.VERIFY_X509_STRICT
    assert channel.selected_alpn_protocol() is None
    assert channel.version() == "TLSv1.3"
    found = channel.getpeercert()
    assert found["subjectAltName"] == (("DNS", "api.stripe.com"),)
    writer.transport.abort()
