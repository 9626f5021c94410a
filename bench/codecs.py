"""How fast bodies are read and spliced: `python -m bench.codecs`, a line of JSON.

Of each format: read the body, find the one declared field, put sixteen digits in its place. The
best of several rounds, and how many times as long that takes as reading by who gives no places.
"""

import gc
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from bench.bodies import FORMATS, Sample, sample
from gateway.codecs.bodies import read_as
from gateway.codecs.splice import Replacement, splice
from gateway.selectors import Finder

DIGITS: Final = b"0" * 16
SIZES: Final = {"1k": 1_024, "1m": 1_048_576}
ROUNDS: Final = 5
MEGABYTE: Final = 1_000_000


def spliced(given: Sample) -> bytearray:
    """What the way out does with a body, but for the judging of it."""
    document = read_as(given.format, given.content_type, given.body)
    found = Finder(document, given.body, fold=False).find(given.selector)
    (field,) = (match.field for match in found)
    return splice(given.body, [Replacement(field.start, field.end, DIGITS)])


def best_seconds(call: Callable[[], object], seconds: float) -> float:
    """Return what a call takes in the best of several rounds, each of this part of the time."""
    call()
    started = time.perf_counter()
    call()
    calls = max(1, int(seconds / ROUNDS / max(time.perf_counter() - started, 1e-6)))
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(calls):
            call()
        best = min(best, (time.perf_counter() - started) / calls)
    return best


def measure(seconds: float) -> dict[str, float]:
    """Megabytes a second of each format and size, and the ratio to its reference."""
    found = {}
    each = seconds / (len(FORMATS) * len(SIZES) * 2)
    gc.freeze()
    for format_ in FORMATS:
        for size, length in SIZES.items():
            given = sample(format_, length)
            took = best_seconds(partial(spliced, given), each)
            other = best_seconds(partial(given.reference, given.body), each)
            found[f"splice.{format_}.{size}"] = len(given.body) / took / MEGABYTE
            found[f"splice.{format_}.{size}.times"] = took / other
    return found


def main(
    seconds: Annotated[float, typer.Option()], folder: Annotated[Path | None, typer.Option()] = None
) -> None:
    """Measure, and print rates."""
    del folder  # nothing is started for this
    sys.stdout.write(msgspec.json.encode(measure(seconds)).decode() + "\n")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
