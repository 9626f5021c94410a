"""An old shop, as a program of its own: a page, a form that posts to itself, a table, a log.

Deliberately ordinary: it keeps what is typed into its form and logs it too, as shops did before
anybody told them not to. The standard library and nothing else: nothing of panward may be
imported here. Its settings come as a line of JSON on standard input; it answers with a line when
it listens, and ends when that input is closed.
"""

import html
import io
import json
import socket
import sqlite3
import sys
import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from string import Template
from typing import ClassVar, Final
from urllib.parse import parse_qsl, urlencode

HOST: Final = "127.0.0.1"
FORM_BYTES_MAX: Final = 64 * 1024
YEARS: Final = 10
FIELDS: Final = ("lamp", "card_number", "card_month", "card_year", "card_code", "comment")
SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS orders"
    " (no INTEGER PRIMARY KEY, lamp, card_number, card_month, card_year, card_code, comment)"
)
INSERT: Final = "INSERT INTO orders VALUES (NULL, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Settings:
    """What its owner once set up."""

    port: int
    folder: Path
    year: int
    test_card: str
    """What the debug page was tried out with, and prints to this day."""


class OldShop(ThreadingHTTPServer):
    """The shop: its address, its files, its pages."""

    daemon_threads = True

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = settings.folder
        self.folder.mkdir(mode=0o700, exist_ok=True)
        with closing(self.orders()) as orders, orders:
            orders.execute(SCHEMA)
        super().__init__((HOST, settings.port), Visit)

    def orders(self) -> sqlite3.Connection:
        return sqlite3.connect(self.folder / "orders.db")

    def keep(self, fields: Mapping[str, str]) -> int:
        """Write an order down as it came; give its number."""
        with closing(self.orders()) as orders, orders:
            row = orders.execute(INSERT, [fields.get(name, "") for name in FIELDS])
        return row.lastrowid or 0

    def write(self, name: str, line: bytes) -> None:
        with (self.folder / name).open("ab") as file:
            file.write(line)


class Visit(BaseHTTPRequestHandler):
    """One request."""

    timeout: ClassVar[float | None] = 20.0
    server_version = "BeaconBrass/1.3"
    sys_version = ""

    @property
    def _shop(self) -> OldShop:
        assert isinstance(self.server, OldShop)
        return self.server

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(_Recorded(self.connection, self._shop))

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/":
            self._answer(_page("Order a lamp", _form(self._shop.settings.year)))
        elif path == "/debug":
            self._answer(_page("debug", _debug(self._shop.settings)))
        else:
            self._answer(_page("Not found", "<h2>There is no such page here.</h2>"), status=404)

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > FORM_BYTES_MAX:
            self._answer(_page("No", "<h2>That is no form of ours.</h2>"), status=400)
            return
        body = self.rfile.read(int(length)).decode("utf-8", "replace")
        fields = dict(parse_qsl(body, keep_blank_values=True))
        number = self._shop.keep(fields)
        line = self._logged(f"order {number}: {urlencode(fields)}")
        self._answer(_page(f"Order {number}", _order(number, fields, body, line)))

    def _answer(self, page: bytes, *, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        self._logged(format % args)

    def _logged(self, words: str) -> str:
        line = f"{self.client_address[0]} [{self.log_date_time_string()}] {ascii(words)[1:-1]}"
        self._shop.write("access.log", line.encode() + b"\n")
        return line


class _Recorded(io.RawIOBase):
    """Its owner never trusted the network: every byte that arrives is written down."""

    def __init__(self, connection: socket.socket, shop: OldShop) -> None:
        self._connection = connection
        self._shop = shop

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override] # any buffer, there
        size = self._connection.recv_into(buffer)
        self._shop.write("received.bin", bytes(buffer[:size]))
        return size


# --- its pages ----------------------------------------------------------------------------


def _page(title: str, content: str) -> bytes:
    return _filled("page.html", title=html.escape(title), content=content).encode()


def _form(year: int) -> str:
    months = "".join(f"<option>{month:02}</option>" for month in range(1, 12))
    years = "".join(f"<option>{each}</option>" for each in range(year, year + YEARS))
    return _filled("form.html", months=months, years=years)


def _order(number: int, fields: Mapping[str, str], body: str, line: str) -> str:
    rows = "".join(
        f"<tr><th scope=row>{name}</th><td>{html.escape(fields.get(name, '')) or '—'}</td></tr>"
        for name in FIELDS
    )
    return _filled(
        "order.html",
        number=str(number),
        lamp=html.escape(fields.get("lamp") or "Your lamp"),
        rows=rows,
        body=html.escape(body),
        line=html.escape(line),
    )


def _debug(settings: Settings) -> str:
    return _filled("debug.html", folder=html.escape(settings.folder.name), card=settings.test_card)


def _filled(name: str, **words: str) -> str:
    text = (resources.files("gateway.demo.old_shop") / name).read_text("utf-8")
    return Template(text).substitute(words)


def main() -> None:
    words = json.loads(sys.stdin.readline())
    settings = Settings(words["port"], Path(words["folder"]), words["year"], words["test_card"])
    with OldShop(settings) as shop:
        threading.Thread(target=shop.serve_forever, daemon=True).start()
        sys.stdout.write(json.dumps({"url": f"http://{HOST}:{settings.port}"}) + "\n")
        sys.stdout.flush()
        sys.stdin.read()  # until it is closed
        shop.shutdown()


if __name__ == "__main__":
    main()
