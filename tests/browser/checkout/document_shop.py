"""The shop of docs/checkout.md: its blocks as files, its policy, and the server that it shows.

What lives here: putting real names in the place of the document's placeholders, and serving the
result. What never may: a line of a front end; those are the document's.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gateway.checkout.inventory import Inventory
from gateway.commands.checkout_snippet import GATEWAY, INTEGRITY, KEY, LOADER

DOCUMENT = (Path(__file__).parents[3] / "docs" / "checkout.md").read_text()

_SERVER = """
import sys
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

folder = Path(sys.argv[1])
sys.path.insert(0, str(folder))
from pay import application

TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".mjs": "text/javascript"}


class Quiet(WSGIRequestHandler):
    def log_message(self, *words):
        pass


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # a browser opens connections that it may not use


def shop(environ, start_response):
    if environ["REQUEST_METHOD"] == "POST":
        return application(environ, start_response)
    file = folder / Path(environ["PATH_INFO"]).name
    if file.suffix not in TYPES or not file.is_file():
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b""]
    headers = [("Content-Type", TYPES[file.suffix])]
    if file.suffix == ".html":
        headers.append(("Content-Security-Policy", (folder / "policy").read_text()))
    start_response("200 OK", headers)
    return [file.read_bytes()]


server = make_server("127.0.0.1", 0, shop, Server, Quiet)
print(server.server_port, flush=True)
server.serve_forever()
"""


def block(name: str) -> str:
    """Give the block of the document that names this file."""
    found: list[str] = re.findall(
        rf"^```\w+ {re.escape(name)}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL
    )
    assert len(found) == 1, name
    return found[0]


@dataclass
class DocumentShop:
    """A folder that a server shows, and what stands for the document's placeholders."""

    folder: Path
    gateway: str
    inventory: Inventory
    origin: str = ""
    key: str = field(default="", repr=False)

    def filled(self, text: str) -> str:
        return (
            text.replace(GATEWAY, self.gateway)
            .replace(LOADER, self.inventory.loader.file)
            .replace(INTEGRITY, self.inventory.loader.sha384)
            .replace(KEY, self.key)
        )

    def put(self, *names: str) -> None:
        """Write blocks of the document as files."""
        for name in names:
            (self.folder / name).write_text(self.filled(block(name)))

    def allow(self, changes: dict[str, str] | None = None) -> None:
        """Serve pages under the document's policy, with a directive or two as it says."""
        name, _, policy = self.filled(block("csp")).strip().partition(": ")
        assert name == "Content-Security-Policy"
        for before, after in (changes or {}).items():
            changed = policy.replace(self.filled(before), self.filled(after))
            assert changed != policy, before
            policy = changed
        (self.folder / "policy").write_text(policy)


@contextmanager
def serving(
    shop: DocumentShop, *, private_url: str, ca_file: Path, secret_key: str
) -> Iterator[None]:
    """Run the document's server for as long as the block lasts."""
    shop.put("pay.py")
    environ = {
        "PATH": os.environ["PATH"],
        "PANWARD_URL": private_url,
        "PANWARD_KEY": secret_key,
        "PANWARD_CA_FILE": str(ca_file),
    }
    process = subprocess.Popen(  # noqa: S603 - our own words and the document's
        [sys.executable, "-c", _SERVER, str(shop.folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environ,
        text=True,
    )
    try:
        assert process.stdout is not None
        shop.origin = f"http://localhost:{int(process.stdout.readline())}"
        yield
    finally:
        process.terminate()
        process.communicate(timeout=10)
