"""`python -m bench.scanner`: how fast the scanner reads, in MB/s of processor time.

`scan.find.clean` is JSON without long numbers, `scan.find.logs` lines full of ids and times.
`scan.find.worst` is the slowest of the bodies that hold hardly a card and are made to be slow.
Bodies that are cards from end to end come apart from these: each is made into a find, and past
10,000 of them the scanner stops, so that the figure is for the finds and no speed of reading.
"""

import base64
import json
import secrets
import sys
import uuid
from collections.abc import Sequence
from time import process_time
from typing import Final

from bench.card_numbers import numbers
from gateway.scan import find_cards

MEGABYTE: Final = 1 << 20
_PIECE: Final = 64 * 1024
_RUNS: Final = 3

_HOSTILE: Final = {
    "digits": b"4",
    "digits and spaces": b"4 ",
    "rows too short": b"42424242424x",
    "near misses": b"4111111111111112,",
    "near misses in fours": b"4111-1111-1111-1112x",
    "percent": b"%34",
    "percent signs": b"%",
    "ampersands": b"&",
    "base64": b"NDExMTExMTExMTEx",
    "rows of base64": b"NDExMTExMTExMTEx ",
    "backslashes": b"\\",
    "escapes": b"\\u0034",
    "entities": b"&#52;",
    "named entities": b"4&nbsp;",
    "NULs": b"4\0",
    "hex": b"3434353634343536343435363434353a ",
    "other digits": "४".encode() * 16 + b" ",
    "floats": b"4.1e15 ",
    "chips": b"Z\x08A\x11\x11\x11\x11\x11\x11\x12",
}


def _clean() -> bytes:
    rows = []
    for at in range(3000):
        address = {"line1": "Main street 12", "postal_code": "10115", "city": "Berlin"}
        row = {"id": str(uuid.uuid4()), "amount": 1000 + at, "currency": "eur", "address": address}
        rows.append(row | {"created": 1_700_000_000 + at, "description": "Two pairs of shoes"})
    return json.dumps(rows).encode()


def _logs() -> bytes:
    lines = (
        f"2026-11-23T06:12:{at % 60:02}Z {1_700_000_000_000 + at}"
        f" request={secrets.randbelow(10**16)}"
        f" bytes={secrets.randbelow(10**6)} trace={secrets.token_hex(16)}\n"
        for at in range(8000)
    )
    return "".join(lines).encode()


def _dense() -> dict[str, bytes]:
    """Give ordinary data that is nothing but numbers."""
    ids = (b"%d\n" % (10**15 + secrets.randbelow(9 * 10**15)) for _ in range(60_000))
    matrix = (
        b"%d%b" % (secrets.randbelow(10**5), b" \n"[at % 20 == 0 :][:1]) for at in range(170_000)
    )
    return {
        "ids": b"".join(ids),
        "UUIDs": b"".join(b'"%b",' % str(uuid.uuid4()).encode() for _ in range(26_000)),
        "matrix": b"".join(matrix),
        "random base64": base64.b64encode(secrets.token_bytes(780_000)),
        "random bytes": secrets.token_bytes(MEGABYTE),
    }


def _cards() -> dict[str, bytes]:
    """Give bodies of cards: 64 KiB, as much as a stream is scanned at a time."""
    card = next(numbers(1)).encode()
    rows = {
        "plain": card + b"\n",
        "in fours": b" ".join(card[at : at + 4] for at in range(0, 16, 4)) + b"\n",
        "percent": b"".join(b"%%3%c" % digit for digit in card) + b"&",
        "base64": base64.b64encode(b'{"number":"%b"}' % card) + b"\n",
        "hex": card.hex().encode() + b" ",
        "tracks": b"%%B%b^DOE/JOHN^30121011234?\n" % card,
        "chips": b"Z\x08" + bytes.fromhex(card.decode()),
    }
    return {name: (row * (_PIECE // len(row) + 1))[:_PIECE] for name, row in rows.items()}


def _rate(body: bytes) -> float:
    """Give the best of three: what disturbs only makes it slower."""
    taken = []
    for _ in range(_RUNS):
        started = process_time()
        find_cards(body)
        taken.append(process_time() - started)
    return len(body) / 1e6 / min(taken)


def measured() -> dict[str, float]:
    """Measure all of it: MB/s by name."""
    hostile = {
        name: _rate((body * (MEGABYTE // len(body) + 1))[:MEGABYTE])
        for name, body in _HOSTILE.items()
    }
    dense = {name: _rate(body) for name, body in _dense().items()}
    rates = {"scan.find.clean": _rate(_clean()), "scan.find.logs": _rate(_logs())}
    rates["scan.find.worst"] = min((*hostile.values(), *dense.values()))
    rates |= {f"scan.find.hostile.{name}": rate for name, rate in hostile.items()}
    rates |= {f"scan.find.dense.{name}": rate for name, rate in dense.items()}
    return rates | {f"scan.find.cards.{name}": _rate(body) for name, body in _cards().items()}


def main(argv: Sequence[str]) -> None:
    """Print the rates, with `--json` as one object."""
    rates = measured()
    if "--json" in argv:
        sys.stdout.write(json.dumps(rates) + "\n")
        return
    for name, rate in rates.items():
        sys.stdout.write(f"{name:44}{rate:9.1f} MB/s\n")


if __name__ == "__main__":
    main(sys.argv[1:])
