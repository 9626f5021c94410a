"""The old shop from outside: starting it, and reading all that it keeps, as a thief of it could.

What never lives here: anything that the shop does itself.
"""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from gateway.demo.clients import client
from gateway.demo.scene import StoryBroke

OLD_SHOP: Final = "gateway.demo.old_shop.server"


class OldShopSettings(msgspec.Struct):
    """The line that its process reads; `test_card` is what its debug page prints."""

    port: int
    folder: str
    year: int
    test_card: str

    def __repr__(self) -> str:
        return "OldShopSettings"


class OldShopOpen(msgspec.Struct):
    """The line that says that it listens."""

    url: str


class Order(msgspec.Struct, frozen=True):
    """A row of its table, as it stands there."""

    no: int
    lamp: str
    card_number: str
    card_month: str
    card_year: str
    card_code: str
    comment: str


@dataclass(frozen=True, slots=True)
class OldShop:
    """Where it listens, without panward in front of it, and what it keeps."""

    url: str
    folder: Path

    def orders(self) -> Sequence[Order]:
        with closing(
            sqlite3.connect(f"{(self.folder / 'orders.db').as_uri()}?mode=ro", uri=True)
        ) as db:
            rows = db.execute("SELECT * FROM orders ORDER BY no").fetchall()
        return [Order(*row) for row in rows]

    def latest(self) -> Order:
        """Raises StoryBroke when it has none."""
        orders = self.orders()
        if not orders:
            raise StoryBroke("the old shop has no order")
        return orders[-1]

    def files(self) -> Sequence[Path]:
        """Its database, its log, and every byte that came over its connections."""
        return sorted(path for path in self.folder.iterdir() if path.is_file())

    def everything(self) -> bytes:
        return b"\n".join(path.read_bytes() for path in self.files())

    def received(self) -> int:
        """How many bytes have ever come in."""
        path = self.folder / "received.bin"
        return path.stat().st_size if path.exists() else 0


@asynccontextmanager
async def old_shop(settings: OldShopSettings, log_file: Path) -> AsyncIterator[OldShop]:
    """Start it as a process of its own, and end it afterwards. Raises StoryBroke."""
    async with client(OLD_SHOP, log_file) as process:
        opened = await process.tell(settings, OldShopOpen)
        yield OldShop(opened.url, Path(settings.folder))
