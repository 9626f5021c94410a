"""How often ids that are no cards are taken for cards: `python -m tests.false_positives`.

A million ids, as many of each kind, drawn anew each time. Prints a table, or with `--json` one
object.
"""

import json
import secrets
import sys
import uuid
from collections.abc import Callable
from typing import Final

from gateway.scan import find_cards

COUNT: Final = 1_000_000  # in all
_BLOCK: Final = 500  # so many ids a body
_SECONDS: Final = range(1_000_000_000, 2_000_000_000)


def _digits(count: int) -> str:
    return f"{secrets.randbelow(10**count):0{count}}"


def _time(factor: int) -> str:
    return str(
        (_SECONDS[0] + secrets.randbelow(len(_SECONDS))) * factor + secrets.randbelow(factor)
    )


def _iban() -> str:
    bban = _digits(18)
    check = 98 - int(f"{bban}131400") % 97
    text = f"DE{check:02}{bban}"
    return text if secrets.randbelow(2) else " ".join(text[at : at + 4] for at in range(0, 22, 4))


def _phone() -> str:
    number = f"+{_digits(2)} {_digits(3)} {_digits(4)} {_digits(3)}"
    return number if secrets.randbelow(2) else number.replace(" ", "")


def _snowflake() -> str:
    return str(((secrets.randbelow(10**11) + 3 * 10**11) << 22) + secrets.randbelow(1 << 22))


def _run(count: int) -> Callable[[], str]:
    return lambda: _digits(count)


CLASSES: Final[dict[str, Callable[[], str]]] = {
    "order numbers": lambda: f"{20_260_000 + secrets.randbelow(10_000)}-{_digits(7)}",
    "times in ms": lambda: _time(10**3),
    "times in µs": lambda: _time(10**6),
    "times in ns": lambda: _time(10**9),
    "dates and times": lambda: (
        f"2026-11-{_digits(2)} {_digits(2)}:{_digits(2)}:{_digits(2)}.{_digits(6)}"
    ),
    "UUIDs": lambda: str(uuid.uuid4()),
    "phone numbers": _phone,
    "IBANs": _iban,
    "tracking numbers (1Z)": lambda: f"1Z{_digits(6)}{_digits(10)}",
    "tracking numbers (22 digits)": lambda: f"94{_digits(20)}",
    "snowflake ids": _snowflake,
    "SHA-256 in hex": lambda: secrets.token_hex(32),
    "random base64": lambda: secrets.token_urlsafe(32),
    "floats": lambda: f"{secrets.randbelow(180)}.{_digits(14)}",
} | {f"random, {count} digits": _run(count) for count in range(12, 21)}

SHARE_MAX: Final = {
    **dict.fromkeys(CLASSES, 0.002),
    "phone numbers": 0.02,
    "SHA-256 in hex": 0.006,
    "random, 20 digits": 0.0,
    "tracking numbers (1Z)": 0.055,
    "snowflake ids": 0.05,
    **{f"random, {count} digits": 0.055 for count in range(12, 20)},
}
"""With room for chance in a small sample."""


def share_found(name: str, count: int) -> float:
    make = CLASSES[name]
    found = 0
    for _ in range(count // _BLOCK):
        body = "".join(f'{{"id":"{make()}"}}\n' for _ in range(_BLOCK))
        found += len(find_cards(body.encode()).hits)
    return found / (count // _BLOCK * _BLOCK)


def main() -> None:
    each = COUNT // len(CLASSES)
    shares = {name: share_found(name, each) for name in CLASSES}
    if "--json" in sys.argv:
        sys.stdout.write(json.dumps({"ids_of_each": each, "shares": shares}) + "\n")
        return
    for name, share in shares.items():
        sys.stdout.write(f"{name:32}{share:9.4%}\n")


if __name__ == "__main__":
    main()
