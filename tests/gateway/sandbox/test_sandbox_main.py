"""The simulated processor as a process of its own."""

import asyncio
import contextlib
import json
import os
import signal
import ssl
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import trustme

from gateway.sandbox import __main__ as main_module
from gateway.sandbox.processor import Running
from tests.cards import VISA
from tests.gateway.sandbox.harness import API_KEY, Sdk


@pytest.fixture
def folder(tmp_path: Path, authority: trustme.CA) -> Path:
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (tmp_path / "keys").write_text(f"{API_KEY}\nsk_test_second_shop\n")
    return tmp_path


def arguments(folder: Path) -> list[str]:
    files = {
        "cert": "cert.pem",
        "key": "key.pem",
        "api-key-file": "keys",
        "control-socket": "control",
    }
    return [f"--{name}={folder / file}" for name, file in files.items()]


@contextlib.asynccontextmanager
async def started(folder: Path, *more: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "gateway.sandbox", *arguments(folder), *more),
        env={"PATH": os.environ["PATH"]},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def numbers(folder: Path) -> tuple[int, object]:
    connector = aiohttp.UnixConnector(str(folder / "control"))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get("http://processor/numbers") as reply,
    ):
        return reply.status, (await reply.json()).get("numbers")


async def test_serves_until_told_to_stop(folder: Path, sdk: Sdk) -> None:
    card = {"number": VISA, "exp_month": "12", "exp_year": "2040", "cvc": "123"}
    async with asyncio.timeout(30), started(folder, "--unsafe-remember-numbers") as process:
        assert process.stdout is not None
        ready = json.loads(await process.stdout.readline())
        assert ready["url"] == f"https://127.0.0.1:{ready['port']}"
        reply = await sdk(ready["url"], "tokens.create", card=card)
        assert reply.object["card"]["last4"] == VISA[-4:]
        assert stat.S_IMODE((folder / "control").stat().st_mode) & 0o077 == 0
        assert await numbers(folder) == (200, [VISA])
        process.send_signal(signal.SIGTERM)
        output, errors = await process.communicate()
        assert (process.returncode, output, errors) == (0, b"", b"")


async def test_other_credentials_than_those_that_follow_from_the_keys(folder: Path) -> None:
    file = folder / "credentials.json"
    mine = {"acct_1": {"api_key": "test_other_key", "user": "merchant", "secret": "c2VjcmV0"}}
    file.write_text(json.dumps(mine))
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    async with (
        asyncio.timeout(30),
        started(folder, f"--credentials-file={file}") as process,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as http,
    ):
        assert process.stdout is not None
        url = json.loads(await process.stdout.readline())["url"]
        statuses = {}
        for key in ("test_other_key", API_KEY, "sk_test_second_shop"):
            headers = {"Authorization": f"Bearer {key}"}
            async with http.post(f"{url}/v1/customers", headers=headers) as reply:
                statuses[key] = reply.status
    assert statuses == {"test_other_key": 200, API_KEY: 401, "sk_test_second_shop": 200}


async def test_remembers_no_numbers_by_itself(folder: Path) -> None:
    async with asyncio.timeout(30), started(folder) as process:
        assert process.stdout is not None
        await process.stdout.readline()
        assert await numbers(folder) == (403, None)


async def test_charges_outlive_a_kill(folder: Path, sdk: Sdk) -> None:
    files = (f"--arrivals={folder / 'arrivals'}", f"--state={folder / 'state'}")
    source = {"number": VISA, "exp_month": "12", "exp_year": "2040", "cvc": "123"}
    charges = []
    for _ in range(2):
        async with (
            asyncio.timeout(30),
            started(folder, "--unsafe-remember-numbers", *files) as process,
        ):
            assert process.stdout is not None
            url = json.loads(await process.stdout.readline())["url"]
            reply = await sdk(
                url,
                "charges.create",
                amount=5,
                currency="eur",
                source=source,
                idempotency_key="order-1",
            )
            charges.append(reply.object["id"])
            process.kill()
    assert charges[0] == charges[1]
    written = (folder / "arrivals").read_bytes().splitlines()
    witnessed = [json.loads(line)["charge"] for line in written]
    assert witnessed == [None, charges[0], None]


@pytest.mark.parametrize("name", ["arrivals", "state"])
def test_files_need_to_be_allowed(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main_module.parse([*arguments(folder), f"--{name}={folder / name}"])
    assert "--unsafe-remember-numbers" in capsys.readouterr().err


async def test_without_a_control_socket(folder: Path, sdk: Sdk) -> None:
    parsed = main_module.parse(
        [name for name in arguments(folder) if not name.startswith("--control")]
    )
    announced: asyncio.Queue[Running] = asyncio.Queue()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(main_module.run(parsed, announce=announced.put_nowait))
        running = await announced.get()
        reply = await sdk(running.url, "customers.create")
        assert reply.object["object"] == "customer"
        os.kill(os.getpid(), signal.SIGTERM)
    assert not (folder / "control").exists()
