"""The two shops as processes: each under the server that its framework brings.

What lives here: starting and ending them, and reading what they kept. What never may: what a
shop does; that is its own file, which knows nothing of tests.

Why the frameworks' own servers: they are what `flask run` and `runserver` give anyone, they need
no further package, and they log each request, so that the search for numbers sees URLs too.
"""

import os
import re
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Final

from tests.flows.deployment import until
from tests.flows.leaks import first_leak
from tests.inbound.front_proxies import free_port

SHOPS: Final = Path(__file__).parent / "shops"
STOP_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Shop:
    """A running one."""

    name: str
    port: int
    folder: Path
    said: Path
    """All that it logged."""

    def leak(self) -> tuple[Path, bytes] | None:
        """Look for card numbers in its database, its uploads and its log."""
        for path in (self.said, *self.folder.rglob("*")):
            found = first_leak(path.read_bytes()) if path.is_file() else None
            if found is not None:
                return path, found
        return None


def shown(page: str) -> dict[str, str]:
    """Read the order page: what the shop has stored."""
    found = re.findall(r'<dd id="(\w+)">([^<]*)</dd>', page)
    return {name: unescape(value) for name, value in found}


def csrf_token(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert found is not None, page
    return found[1]


@contextmanager
def running_shop(name: str, folder: Path, *, hostname: str, port: int = 0) -> Iterator[Shop]:
    """Run `flask` or `django` at a port (0: any) for as long as the block lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    said = folder.with_name(f"{folder.name}.log")
    environ = {
        "PATH": os.environ["PATH"],
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(SHOPS),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "SHOP_FOLDER": str(folder),
        "SHOP_HOST": hostname,
        "SHOP_SECRET": secrets.token_hex(32),
    }
    with said.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own words
            [sys.executable, *_words(name, port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            env=environ,
        )
    shop = Shop(name, port, folder, said)
    try:
        until(lambda: _answers(process, shop), f"see {said}", seconds=30.0)
        yield shop
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def _words(name: str, port: int) -> list[str]:
    if name == "flask":
        return ["-m", "flask", "--app", "flask_shop", "run", "--port", str(port)]
    program = str(SHOPS / "django_shop.py")
    return [program, "runserver", "--noreload", "--skip-checks", f"127.0.0.1:{port}"]


def _answers(process: "subprocess.Popen[bytes]", shop: Shop) -> bool:
    assert process.poll() is None, shop.said.read_text()
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{shop.port}/", timeout=2).close()
    except urllib.error.HTTPError as answered:
        answered.close()  # a page that is not there is an answer too
        return True
    except OSError:
        return False
    return True
