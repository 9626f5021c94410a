"""The table that browsers get is the gateway's own, and says the same of every number."""

import json
import subprocess
import sys
from pathlib import Path

from gateway.checkout.brand_table import brand_table
from tests import cards
from vault.card import UNKNOWN, brand_of, brand_rows

SHIPPED = Path(__file__).parent.parent.parent.parent / "checkout" / "src" / "brands.json"


def test_the_shipped_table_is_the_one_that_the_gateway_uses() -> None:
    assert SHIPPED.read_text() == brand_table()


def test_the_module_prints_it() -> None:
    command = [sys.executable, "-m", "gateway.checkout.brand_table"]
    printed = subprocess.run(  # noqa: S603 - our own interpreter
        command, check=True, capture_output=True, timeout=60
    )
    assert printed.stdout.decode() == brand_table()


def test_no_row_is_lost() -> None:
    rows = json.loads(brand_table())
    assert len(rows) == len(brand_rows())
    assert sum(len(row[5].split(" ")) for row in rows) == sum(
        len(row.prefixes) for row in brand_rows()
    )


def test_a_second_reading_of_it_finds_every_published_card() -> None:
    rows = json.loads(brand_table())
    for number in cards.ALL:
        matching = [
            (len(prefix), name)
            for name, _, _, _, counts, prefixes in rows
            if not counts or len(number) in counts
            for prefix in prefixes.split(" ")
            if number.startswith(prefix)
        ]
        assert max(matching, default=(0, UNKNOWN))[1] == brand_of(number).name
