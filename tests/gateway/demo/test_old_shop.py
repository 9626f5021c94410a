"""The demo's old shop alone, with nothing in front of it: ordinary, careless, and a process."""

import ast
import http.client
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
import pytest_asyncio

from gateway.demo.old_shop.keeping import OldShop, OldShopSettings, old_shop
from gateway.demo.scene import StoryBroke
from tests import cards

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
FILLED_IN = {
    "lamp": "Anchor light, 89.00 EUR",
    "card_number": cards.VISA,
    "card_month": "12",
    "card_year": "2030",
    "card_code": "314",
    "comment": "<b>Twice</b>, & née\nPOST / 200",
}


@dataclass(frozen=True)
class Visitor:
    """A browser with no panward between it and the shop."""

    shop: OldShop

    def call(self, method: str, path: str, body: str | None = None) -> tuple[int, str]:
        at = urlsplit(self.shop.url)
        connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=10)
        try:
            connection.request(method, path, body, FORM if body is not None else {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


def settings(folder: Path) -> OldShopSettings:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return OldShopSettings(port, str(folder / "old_shop"), 2026, cards.MASTERCARD)


@pytest_asyncio.fixture
async def visitor(tmp_path: Path) -> AsyncIterator[Visitor]:
    log_file = tmp_path / "clients.log"
    async with old_shop(settings(tmp_path), log_file) as shop:
        yield Visitor(shop)
    assert log_file.read_text() == ""


async def test_it_keeps_and_logs_whatever_is_typed_in(visitor: Visitor) -> None:
    """Without panward it has the number in three places: what the demo shows is no trick of it."""
    body = urlencode(FILLED_IN)
    status, page = visitor.call("POST", "/", body)
    assert status == 200
    order = visitor.shop.latest()
    assert (order.card_number, order.card_code) == (cards.VISA, "314")
    assert order.comment == FILLED_IN["comment"]
    kept = {path.name: path.read_bytes() for path in visitor.shop.files()}
    assert sorted(kept) == ["access.log", "orders.db", "received.bin"]
    assert all(cards.VISA.encode() in content for content in kept.values())
    assert kept["received.bin"].endswith(b"\r\n\r\n" + body.encode())
    assert visitor.shop.received() == len(kept["received.bin"])
    assert "What this shop has of your card" in page
    assert cards.VISA in page


async def test_what_is_typed_in_is_no_markup_and_no_line_of_the_log(visitor: Visitor) -> None:
    _, page = visitor.call("POST", "/", urlencode(FILLED_IN))
    assert "<b>Twice" not in page
    assert "&lt;b&gt;Twice&lt;/b&gt;, &amp; née" in page
    visitor.call("GET", "/?a=%0Ab")
    log = (visitor.shop.folder / "access.log").read_text()
    assert len(log.splitlines()) == 3
    assert all(line.startswith("127.0.0.1 [") for line in log.splitlines())


def test_it_knows_no_panward() -> None:
    """It is the shop that nobody changed: its program is the standard library's alone."""
    source = ast.parse(Path("gateway/demo/old_shop/server.py").read_text())
    imported = {each.module for each in ast.walk(source) if isinstance(each, ast.ImportFrom)} | {
        alias.name
        for each in ast.walk(source)
        if isinstance(each, ast.Import)
        for alias in each.names
    }
    assert len(imported) > 10
    assert {(name or "").partition(".")[0] for name in imported} <= sys.stdlib_module_names


async def test_its_pages(visitor: Visitor) -> None:
    status, form = visitor.call("GET", "/")
    assert (status, form.count("<option>20")) == (200, 10)
    assert all(f'name="{name}"' in form for name in FILLED_IN)
    assert f"test_card = {cards.MASTERCARD}" in visitor.call("GET", "/debug")[1]
    assert visitor.call("GET", "/orders.db")[0] == 404
    assert visitor.call("POST", "/", "x" * 65_537)[0] == 400
    with pytest.raises(StoryBroke, match="no order"):
        visitor.shop.latest()


async def test_it_ends_with_who_started_it_and_keeps_its_orders(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    for orders in (1, 2):
        async with old_shop(chosen, tmp_path / "clients.log") as shop:
            assert Visitor(shop).call("POST", "/", urlencode(FILLED_IN))[0] == 200
            assert [order.no for order in shop.orders()] == list(range(1, orders + 1))
        with pytest.raises(ConnectionRefusedError):
            Visitor(shop).call("GET", "/")
