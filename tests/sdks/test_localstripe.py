"""localstripe, contained: what it can reach, what is left of it, and that it pays."""

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cards import STORED_THEN_DECLINED, VISA
from tests.sdks.conftest import Sdks
from tests.sdks.driver import ROOT, Reply, Target
from tests.sdks.localstripe import LocalStripe

PICKLE = Path("/tmp/localstripe.pickle")  # noqa: S108 - where it would write its cards
KEYS = {"api_key": "sk_test_of_nobody"}


def listening(pid: int) -> Iterator[str]:
    """Name the sockets of a process that listen on a network."""
    own = {link.readlink().name for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in own:
                yield fields[1]


def files(localstripe: LocalStripe) -> list[str]:
    """Name what it has written, to its folder and where it would by itself."""
    folder = localstripe.socket.parent
    assert folder.stat().st_mode & 0o077 == 0
    return sorted(each.name for each in [*folder.iterdir(), PICKLE] if each.exists())


def card(number: str) -> dict[str, object]:
    details = {"number": number, "exp_month": 12, "exp_year": 2034, "cvc": "123"}
    return {"type": "card", "card": details}


async def paid(sdks: Sdks, localstripe: LocalStripe, number: str) -> Reply:
    target = Target(KEYS, localstripe.url)
    stored = await sdks["stripe"](target, "payment_methods.create", params=card(number))
    assert stored.error is None
    method = stored.object["id"]
    payment = {"amount": 1099, "currency": "eur", "payment_method": method, "confirm": True}
    return await sdks["stripe"](target, "payment_intents.create", params=payment)


async def test_stripes_sdk_pays_at_it(sdks: Sdks, localstripe: LocalStripe) -> None:
    reply = await paid(sdks, localstripe, VISA)
    assert (reply.error, reply.object["status"]) == (None, "succeeded")
    reply = await paid(sdks, localstripe, STORED_THEN_DECLINED)
    assert (reply.error, reply.status, reply.code) == ("CardError", 402, "card_declined")


async def test_it_takes_a_number_of_sixteen_and_nothing_longer(
    sdks: Sdks, localstripe: LocalStripe
) -> None:
    """So what it takes is no opaque token: a payment proves that one was opened."""
    target = Target(KEYS, localstripe.url)
    token = "pwt_test_" + "0" * 28
    reply = await sdks["stripe"](target, "payment_methods.create", params=card(token))
    assert (reply.error, reply.status) == ("InvalidRequestError", 400)


async def test_it_listens_on_no_network_and_keeps_no_card(
    sdks: Sdks, localstripe: LocalStripe
) -> None:
    await paid(sdks, localstripe, VISA)
    assert list(listening(localstripe.pid)) == []
    assert files(localstripe) == ["http", "said"]


def test_nothing_is_left_of_it(tmp_path: Path, server_context: ssl.SSLContext) -> None:
    with LocalStripe(tmp_path / "at", server_context) as running:
        pid = running.pid
    assert not (tmp_path / "at").exists()
    assert not Path(f"/proc/{pid}").exists()


TRIES = {
    "writes a file past open()": "os.open('written', os.O_CREAT | os.O_WRONLY)",
    "listens over IPv4": "socket.socket().bind(('0.0.0.0', 0))",
    "calls a network": "socket.socket().connect(('192.0.2.1', 80))",
    "asks a name server": "socket.socket(type=socket.SOCK_DGRAM).connect(('192.0.2.1', 53))",
}


@pytest.mark.parametrize("trial", TRIES.values(), ids=TRIES)
def test_what_it_may_not_do_it_cannot(tmp_path: Path, trial: str) -> None:
    """Behind the two replacements there is a watch, which refuses the rest."""
    (tmp_path / "program.py").write_text(f"import os, socket\n{trial}\n")
    ended = subprocess.run(
        [sys.executable, "-m", "tests.sdks.clients.confined", "http", "program"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{tmp_path}"},
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("PermissionError: ")
    assert not (tmp_path / "written").exists()
