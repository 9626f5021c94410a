"""`panward up --embedded DIR` as its operator meets it: ended, started again, started twice.

Each test starts the deployment when it does not run, and may leave it in either state.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.embedded import ROUTES, control_socket
from tests.crash.panward import panward
from tests.crash.shop import Shop
from tests.crash.witnesses import Log
from tests.flows.deployment import Gateway, until
from tests.flows.processor import ProcessorControl
from vault.deployment import state_folder_of_one
from vault.embedded.bootstrap import EmbeddedParts, parts_of
from vault.errors import StartRefused
from vault.ledger.entry import GatewayStarted, GatewayStopped

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(300)]

CHILDREN = ("openbao", "postgres", "gateway.sandbox")
EX_CONFIG = 78


class Operated:
    """One folder, and the gateway on it while there is one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gateway: Gateway | None = None
        self._starts = 0

    @property
    def parts(self) -> EmbeddedParts:
        return parts_of(self.folder)

    @property
    def credentials(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads((self.folder / "credentials.json").read_bytes())
        return said

    def up(self, *words: str) -> Gateway:
        """Have it running; with words, started with them."""
        if self.gateway is not None and not words:
            return self.gateway
        self.down()
        self._starts += 1
        written = self.folder.with_name(f"written-{self._starts}")
        self.gateway = Gateway(
            written, "--embedded", str(self.folder), "--unsafe-sandbox-remembers", *words
        )
        self.gateway.until_ready()
        return self.gateway

    def down(self) -> None:
        if self.gateway is not None:
            gateway, self.gateway = self.gateway, None
            assert gateway.stop() == 0, gateway.err.read_text()


@pytest.fixture(scope="module")
def operated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    operated = Operated(tmp_path_factory.mktemp("operated") / "deployment")
    yield operated
    operated.down()


@pytest.fixture
def shop(operated: Operated) -> Shop:
    operated.up()
    return Shop(operated.folder)


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def children(gateway: Gateway) -> list[int]:
    return [gateway.child(name) for name in CHILDREN]


def ended(pids: list[int]) -> None:
    until(lambda: not any(map(is_alive, pids)), "a child lives on", seconds=20)


def accepts(url: str) -> bool:
    host, port = url.removeprefix("https://").split(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
        return True
    return False


# --- how it ends --------------------------------------------------------------------------


def ctrl_c(gateway: Gateway) -> None:
    """A terminal signals the whole process group."""
    os.killpg(os.getpgid(gateway.pid), signal.SIGINT)


def terminate(gateway: Gateway) -> None:
    os.kill(gateway.pid, signal.SIGTERM)


@pytest.mark.guards("T-73")
@pytest.mark.parametrize("signaled", [ctrl_c, terminate])
async def test_a_signal_lets_payments_end_and_ends_the_children(
    operated: Operated, shop: Shop, signaled: Callable[[Gateway], None]
) -> None:
    gateway = operated.up()
    processor = ProcessorControl(control_socket(operated.parts))
    pids = children(gateway)
    before = processor.counts
    processor.do("hold")
    async with held_payment(shop) as payment:
        await asyncio.to_thread(processor.until_held, before)
        signaled(gateway)
        url = operated.credentials["private_url"]
        await asyncio.to_thread(until, lambda: not accepts(url), "it still takes connections")
        assert is_alive(gateway.pid)
        assert all(map(is_alive, pids)), "a child ended before the payment did"
        processor.do("release")
        await payment
    assert await asyncio.to_thread(gateway.wait) == 0
    operated.gateway = None
    ended(pids)
    log = Log()
    operated.up()
    await log.read_on(operated.parts.runtime_dsn)
    (*_, stopped, started) = log.entries
    assert isinstance(stopped, GatewayStopped)
    assert isinstance(started, GatewayStarted)
    log.holds(shop.book)


@contextlib.asynccontextmanager
async def held_payment(shop: Shop) -> AsyncIterator["asyncio.Task[None]"]:
    async with asyncio.TaskGroup() as group:
        yield group.create_task(shop.one_payment())


@pytest.mark.guards("T-73")
async def test_no_child_outlives_a_kill(operated: Operated) -> None:
    gateway = operated.up()
    pids = children(gateway)
    os.kill(gateway.pid, signal.SIGKILL)
    gateway.wait()
    operated.gateway = None
    ended(pids)


# --- what a restart finds -----------------------------------------------------------------


async def test_a_restart_finds_every_token_and_entry(operated: Operated, shop: Shop) -> None:
    for _ in range(3):
        await shop.one_payment()
    log, later = Log(), Log()
    await log.read_on(operated.parts.runtime_dsn)
    operated.down()
    operated.up()
    tokens = list(shop.book.numbers)
    assert await shop.stored_cards(tokens) == dict.fromkeys(tokens, 200)
    await later.read_on(operated.parts.runtime_dsn)
    assert later.entries[: len(log.entries)] == log.entries
    later.holds(shop.book)


async def test_credentials_are_private_and_stay_valid(operated: Operated, shop: Shop) -> None:
    before = operated.credentials
    operated.down()
    operated.up()
    file = operated.folder / "credentials.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert operated.credentials == before, "ports that are free stay, and keys always do"
    await shop.one_payment()  # with the keys from before


async def test_ports_from_a_base(operated: Operated) -> None:
    operated.up()
    keys = {name: operated.credentials[name] for name in ("publishable_key", "secret_key")}
    base = free_base()
    operated.up("--port-base", str(base))
    ports = {int(operated.credentials[f"{name}_url"].rsplit(":", 1)[1]) for name in URLS}
    assert len(ports) == len(URLS)
    assert ports <= set(range(base, base + 8))
    assert keys.items() <= operated.credentials.items()
    await Shop(operated.folder).one_payment()


async def test_a_taken_port_is_named(operated: Operated) -> None:
    operated.down()
    base = free_base()
    with socket.create_server(("127.0.0.1", base)):
        refused = await panward("up", "--embedded", str(operated.folder), "--port-base", str(base))
    assert (refused.status, refused.out) == (EX_CONFIG, "")
    assert f"port {base} " in refused.err
    assert "Traceback" not in refused.err


URLS = ("public", "private", "ops")


def free_base() -> int:
    """Find ten neighbors that are free, below the range that the kernel hands out."""
    for base in range(21_000, 31_000, 97):
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for port in range(base, base + 10):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
            return base
    raise AssertionError("no free ports")


# --- started twice ------------------------------------------------------------------------


async def test_a_second_start_on_the_folder_is_refused(operated: Operated, shop: Shop) -> None:
    gateway = operated.up()
    refused = await panward("up", "--embedded", str(operated.folder))
    assert (refused.status, refused.out) == (EX_CONFIG, "")
    assert f"{operated.folder} is in use by process {gateway.pid}" in refused.err
    assert "Traceback" not in refused.err
    await shop.one_payment()  # the first goes on


async def test_a_second_gateway_on_the_state_folder_is_refused(
    operated: Operated, shop: Shop
) -> None:
    """Under one replica's name it would take the first one's open intents for orphans."""
    operated.up()
    refused = await panward("up", "--config", str(operated.folder / "panward.toml"))
    assert (refused.status, refused.out) == (EX_CONFIG, "")
    assert f"{operated.folder / 'gateway'} is in use by another gateway" in refused.err
    assert "Traceback" not in refused.err
    await shop.one_payment()  # the first goes on


def test_a_state_folder_is_free_again_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "made yet"
    with state_folder_of_one(folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        with pytest.raises(StartRefused, match="another gateway"), state_folder_of_one(folder):
            raise AssertionError("two at a time")
    with state_folder_of_one(folder):
        pass


# --- commands beside it, and without it ---------------------------------------------------


async def test_commands_need_no_running_gateway(operated: Operated, shop: Shop) -> None:
    await shop.one_payment()
    tenant = operated.credentials["tenant"]
    beside = [await said(operated, *words) for words in COMMANDS]
    operated.down()
    without = [await said(operated, *words) for words in COMMANDS]
    for tenants, credentials, verified in (beside, without):
        assert [one["id"] for one in tenants] == [tenant]
        assert len(tenants[0]["keys"]) == 2
        assert credentials == [
            {"tenant": tenant, "route": route, "version": 1} for route in sorted(ROUTES)
        ]
        assert (verified[0]["good"], verified[0]["violations"], verified[0]["unmatched"]) == (
            *(True, [], []),
        )
        assert verified[0]["decrypts"] > 0
    assert without[2][0]["size"] == beside[2][0]["size"] + 1, "gateway.stopped"
    assert not working_in(operated.folder), "a command left a child"


COMMANDS = (("tenants", "list"), ("credentials", "list"), ("ledger", "verify"))


async def said(operated: Operated, *words: str) -> list[dict[str, Any]]:
    ended = await panward(*words, "--embedded", str(operated.folder), "--json")
    assert ended.status == 0, ended.err
    return [json.loads(line) for line in ended.out.splitlines()]


async def test_a_command_on_an_empty_folder_is_refused(tmp_path: Path) -> None:
    refused = await panward("tenants", "list", "--embedded", str(tmp_path))
    assert (refused.status, refused.out) == (EX_CONFIG, "")
    assert f"{tmp_path} holds no deployment" in refused.err


def working_in(folder: Path) -> list[int]:
    """Find the processes that have this folder in their command or work in it."""
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            words = (process / "cmdline").read_bytes()
            if str(folder).encode() in words and int(process.name) != os.getpid():
                found.append(int(process.name))
    return found
