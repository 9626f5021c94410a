import gzip
import hashlib
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InflationRefused, UnsupportedMedia
from gateway.inbound.inflate import FLOOR_BYTES, PIECE_BYTES, Inflate, encodings_of
from tests.gateway.inbound import bombs
from tests.gateway.inbound.bombs import MIB, Bomb

pytestmark = pytest.mark.guards("T-09")
WIDE = 1 << 40
HELD_SECONDS_MAX = 0.05
COMPRESS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", bombs.gzip_of),
    "gzip, stored": ("gzip", lambda body: bombs.gzip_of(body, 0)),
    "zlib": ("deflate", bombs.zlib_of),
    "zlib, stored": ("deflate", lambda body: bombs.zlib_of(body, 0)),
    "raw": ("deflate", bombs.raw_deflate_of),
    "raw, best": ("deflate", lambda body: bombs.raw_deflate_of(body, 9)),
    "raw, stored": ("deflate", lambda body: bombs.raw_deflate_of(body, 0)),
    "raw, fixed": ("deflate", lambda body: bombs.raw_deflate_of(body, 6, zlib.Z_FIXED)),
    "raw, Huffman": ("deflate", lambda body: bombs.raw_deflate_of(body, 6, zlib.Z_RLE)),
    "br": ("br", bombs.brotli_of),
    "br, least": ("br", lambda body: bombs.brotli_of(body, 0)),
    "br, widest": ("br", lambda body: bombs.brotli_of(body, 4, 24)),
    "zstd": ("zstd", bombs.zstd_of),
    "zstd, widest": ("zstd", lambda body: bombs.zstd_of(body, 19)),
}
ALL_BOMBS = pytest.mark.parametrize("bomb", bombs.bombs(), ids=lambda bomb: bomb.name)
TIME_WASTERS = pytest.mark.parametrize("bomb", bombs.time_wasters(), ids=lambda bomb: bomb.name)


def noise(seed: int, size: int) -> bytes:
    """Bytes that no coding makes smaller, the same each time."""
    return hashlib.shake_128(bytes([seed])).digest(size)


bodies = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda part, times: part * times, st.binary(max_size=40), st.integers(0, 3000)),
    st.builds(noise, st.integers(0, 99), st.integers(0, 3 * PIECE_BYTES)),
)
compressions = st.lists(st.sampled_from(sorted(COMPRESS)), max_size=2)


@dataclass
class TickingClock:
    """Moves on by `tick` each time that it is read: two of them are a step."""

    tick: float = 0.0
    now: float = 0.0

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def inflating(
    content_encoding: str,
    *,
    wire_bytes_max: int = WIDE,
    bytes_max: int = WIDE,
    ratio_max: int = WIDE,
    seconds_max: float = 1e9,
    clock: Callable[[], float] = time.thread_time,
) -> Inflate:
    return Inflate(
        encodings_of(content_encoding),
        wire_bytes_max=wire_bytes_max,
        bytes_max=bytes_max,
        ratio_max=ratio_max,
        seconds_max=seconds_max,
        clock=clock,
    )


def pieces_of(inflate: Inflate, chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        for piece in inflate.feed(chunk):
            assert len(piece) <= PIECE_BYTES
            yield piece
    yield from inflate.end()


@dataclass
class Taken:
    """How a body was taken: what came of it, and how long nobody else had a turn."""

    inflate: Inflate
    fed: int = 0
    made: int = 0
    longest_seconds: float = 0.0

    def take(self, wire: bytes, chunk_bytes: int = WIDE) -> None:
        begun = time.thread_time()
        for piece in pieces_of(self.inflate, self._chunks(wire, chunk_bytes)):
            self.made += len(piece)
            now = time.thread_time()
            self.longest_seconds = max(self.longest_seconds, now - begun)
            begun = now

    def _chunks(self, wire: bytes, chunk_bytes: int) -> Iterator[bytes]:
        for at in range(0, len(wire), chunk_bytes):
            self.fed += len(wire[at : at + chunk_bytes])
            yield wire[at : at + chunk_bytes]


def inflated(inflate: Inflate, *chunks: bytes) -> bytes:
    return b"".join(pieces_of(inflate, chunks))


def compressed(body: bytes, by: list[str]) -> tuple[str, bytes]:
    wire = reduce(lambda inner, name: COMPRESS[name][1](inner), by, body)
    return ", ".join(COMPRESS[name][0] for name in by), wire


def cut_at(wire: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut `wire` at these places, each told in thousandths of it."""
    at = sorted({0, len(wire), *(place * len(wire) // 1000 for place in places)})
    return [wire[begin:end] for begin, end in pairwise(at)]


def reason_of(inflate: Inflate, *chunks: bytes) -> str | None:
    with pytest.raises(InflationRefused) as refused:
        inflated(inflate, *chunks)
    return refused.value.reason


# --- whole bodies -------------------------------------------------------------------------


@given(bodies, compressions, st.lists(st.integers(0, 1000), max_size=8))
def test_any_body_comes_back_however_it_is_compressed_and_cut(
    body: bytes, by: list[str], places: list[int]
) -> None:
    content_encoding, wire = compressed(body, by)
    assert inflated(inflating(content_encoding), *cut_at(wire, places)) == body


@pytest.mark.parametrize("by", [[one] for one in COMPRESS] + [["zlib", "gzip"], ["br", "zstd"]])
def test_a_body_may_be_cut_anywhere(by: list[str]) -> None:
    body = b"number=none&name=Anna&" * 9
    content_encoding, wire = compressed(body, by)
    assert inflated(inflating(content_encoding), *(bytes([byte]) for byte in wire)) == body
    for place in range(len(wire) + 1):
        assert inflated(inflating(content_encoding), wire[:place], wire[place:]) == body


@pytest.mark.parametrize("by", [["gzip"], ["raw"], ["br"], ["zstd"], ["br", "gzip"]])
@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_bodies_around_a_piece_are_whole(by: list[str], beyond: int) -> None:
    for size in (1 << 13, 32_752, 1 << 15, PIECE_BYTES, 2 * PIECE_BYTES, MIB):
        for body in (bytes(size + beyond), noise(1, size + beyond)):
            content_encoding, wire = compressed(body, by)
            assert inflated(inflating(content_encoding), wire) == body


@pytest.mark.parametrize("name", COMPRESS)
def test_ordinary_rows_pass_within_the_default_ratio(name: str) -> None:
    ids = noise(4, 40_000).hex()
    rows = (f'{{"id": "{ids[at : at + 8]}", "paid": true}},' for at in range(0, len(ids), 8))
    body = "".join(rows).encode()
    content_encoding, wire = compressed(body, [name])
    inflate = Inflate(
        encodings_of(content_encoding),
        wire_bytes_max=MIB,
        bytes_max=len(body),
        clock=time.thread_time,
    )
    assert inflated(inflate, *cut_at(wire, range(0, 1000, 50))) == body


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=40), st.lists(st.integers(0, 1000)))
def test_gzip_members_and_zstd_frames_follow_each_other(
    bodies: list[bytes], places: list[int]
) -> None:
    wire = b"".join(map(bombs.gzip_of, bodies))
    assert inflated(inflating("gzip"), *cut_at(wire, places)) == gzip.decompress(wire)
    frames = bombs.skipped_zstd_frames(1, 9).join(map(bombs.zstd_of, bodies))
    assert inflated(inflating("zstd"), *cut_at(frames, places)) == b"".join(bodies)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "br, gzip", ""])
def test_a_body_of_no_bytes_is_whole(coding: str) -> None:
    assert inflated(inflating(coding)) == b""
    assert inflated(inflating(coding), b"", b"") == b""


def test_a_window_of_eight_mebibytes_is_the_last_that_is_accepted() -> None:
    assert inflated(inflating("zstd"), bombs.zstd_window(23)) == bytes(128 << 10)
    assert reason_of(inflating("zstd"), bombs.zstd_window(24)) == "broken"


# --- what is refused ----------------------------------------------------------------------


@ALL_BOMBS
@pytest.mark.parametrize("chunk_bytes", [1000, MIB])
def test_a_bomb_is_refused_before_much_came_of_it(bomb: Bomb, chunk_bytes: int) -> None:
    taken = Taken(inflating(bomb.content_encoding, ratio_max=100))
    with pytest.raises(InflationRefused) as refused:
        taken.take(bomb.wire, chunk_bytes)
    assert taken.made <= max(FLOOR_BYTES, 100 * taken.fed)
    assert refused.value.reason == bomb.reason
    assert refused.value.__context__ is None, "a decoder's words may quote the body"


@ALL_BOMBS
def test_no_more_is_given_than_a_body_may_have(bomb: Bomb) -> None:
    taken = Taken(inflating(bomb.content_encoding, bytes_max=100_000, ratio_max=1000))
    with pytest.raises(InflationRefused) as refused:
        taken.take(bomb.wire)
    assert refused.value.reason in {"size", "ratio", "broken"}
    assert taken.made <= 100_000


@pytest.mark.parametrize("name", COMPRESS)
def test_the_last_byte_that_is_allowed_is_given(name: str) -> None:
    body = noise(2, 200_000)
    coding, wire = compressed(body, [name])
    assert inflated(inflating(coding, bytes_max=len(body)), wire) == body
    assert reason_of(inflating(coding, bytes_max=len(body) - 1), wire) == "size"
    assert inflated(inflating(coding, wire_bytes_max=len(wire)), wire) == body
    assert reason_of(inflating(coding, wire_bytes_max=len(wire) - 1), wire) == "size"
    assert reason_of(inflating(coding, wire_bytes_max=len(wire) - 1), *cut_at(wire, [1])) == "size"


def test_a_body_that_is_not_compressed_has_the_same_bounds() -> None:
    pieces = list(inflating("identity").feed(bytes(3 * PIECE_BYTES + 1)))
    assert [len(piece) for piece in pieces] == [*[PIECE_BYTES] * 3, 1]
    assert reason_of(inflating("", bytes_max=9), b"0123456789") == "size"


def test_short_bodies_may_repeat_themselves() -> None:
    wire = bombs.gzip_of(bytes(FLOOR_BYTES))
    assert inflated(inflating("gzip", ratio_max=1), wire) == bytes(FLOOR_BYTES)
    wire = bombs.gzip_of(bytes(FLOOR_BYTES + 1))
    assert reason_of(inflating("gzip", ratio_max=1), wire) == "ratio"


@pytest.mark.parametrize("by", [[one] for one in COMPRESS] + [["zlib", "gzip"], ["gzip", "br"]])
def test_a_body_cut_off_anywhere_is_no_body(by: list[str]) -> None:
    content_encoding, wire = compressed(b"number=none&name=Anna&" * 5, by)
    for place in range(1, len(wire)):
        assert reason_of(inflating(content_encoding), wire[:place]) == "broken"


@given(st.sampled_from(["gzip", "deflate", "br", "zstd", "gzip, br"]), st.binary(min_size=1))
def test_garbage_is_refused_or_read_and_nothing_else(coding: str, garbage: bytes) -> None:
    with suppress(InflationRefused):
        Taken(inflating(coding, ratio_max=100, bytes_max=MIB)).take(garbage)


@pytest.mark.parametrize("name", ["gzip", "zlib"])
def test_no_bit_that_was_turned_changes_the_body(name: str) -> None:
    body = b"number=none&name=Anna&" * 5
    content_encoding, wire = compressed(body, [name])
    for bit in range(8 * len(wire)):
        turned = bytearray(wire)
        turned[bit // 8] ^= 1 << bit % 8
        with suppress(InflationRefused):  # of the head and the padding, some bits mean nothing
            assert inflated(inflating(content_encoding, ratio_max=100), bytes(turned)) == body


@pytest.mark.parametrize("name", ["zlib", "raw", "br"])
def test_a_second_stream_may_not_follow(name: str) -> None:
    """Whoever reads behind us would stop at the first: what is scanned must be what is read."""
    content_encoding, wire = compressed(b"body", [name])
    assert reason_of(inflating(content_encoding), wire + wire) == "broken"
    assert reason_of(inflating(content_encoding), wire, wire) == "broken"


def test_nothing_follows_a_refusal() -> None:
    inflate = inflating("gzip", bytes_max=10)
    assert reason_of(inflate, bombs.gzip_of(bytes(11))) == "size"
    assert reason_of(inflate, bombs.gzip_of(b"")) == "broken"
    with pytest.raises(InflationRefused):
        inflate.end()


def test_nothing_follows_pieces_that_were_not_taken() -> None:
    inflate = inflating("gzip")
    wire = bombs.gzip_of(bytes(3 * PIECE_BYTES))
    assert next(inflate.feed(wire[:-1]))
    assert reason_of(inflate, wire[-1:]) == "broken"


def test_nothing_follows_the_end() -> None:
    inflate = inflating("gzip")
    assert inflated(inflate, bombs.gzip_of(b"body")) == b"body"
    assert reason_of(inflate, bombs.gzip_of(b"")) == "broken"


# --- time ---------------------------------------------------------------------------------


@TIME_WASTERS
def test_work_for_nothing_ends_with_its_time(bomb: Bomb) -> None:
    clock = TickingClock(tick=0.001)
    inflate = inflating(bomb.content_encoding, seconds_max=0.0155, clock=clock)
    assert reason_of(inflate, bomb.wire) == "time"
    assert clock.now == pytest.approx(0.032), "sixteen steps, each with two looks at the clock"


@TIME_WASTERS
def test_others_get_their_turn_while_nothing_comes(bomb: Bomb) -> None:
    taken = Taken(inflating(bomb.content_encoding))
    taken.take(bomb.wire)
    assert taken.longest_seconds < HELD_SECONDS_MAX


@ALL_BOMBS
def test_others_get_their_turn_while_much_comes(bomb: Bomb) -> None:
    """Brotli fills its window, 16 MiB at most, before it gives the first byte of it."""
    taken = Taken(inflating(bomb.content_encoding, bytes_max=8 * MIB, ratio_max=1000))
    with pytest.raises(InflationRefused):
        taken.take(bomb.wire)
    assert taken.longest_seconds < HELD_SECONDS_MAX


def test_a_turn_comes_with_the_time_spent_whatever_was_made() -> None:
    wire = bombs.members(30)
    slow = inflating("gzip", clock=TickingClock(tick=0.0025))
    assert list(slow.feed(wire)) == [b""] * 30
    fast = inflating("gzip", clock=TickingClock())
    assert list(fast.feed(wire)) == []


def test_the_time_of_others_is_not_counted() -> None:
    clock = TickingClock()
    inflate = inflating("gzip", seconds_max=0.1, clock=clock)
    body = noise(3, 4 * PIECE_BYTES)
    wire = bombs.gzip_of(body)
    made = b""
    for chunk in cut_at(wire, range(0, 1000, 100)):
        clock.now += 60  # the client takes its time
        for piece in inflate.feed(chunk):
            clock.now += 60  # and so does whoever reads
            made += piece
    assert made == body


# --- memory -------------------------------------------------------------------------------

_MEASURED = """
import sys, time
from gateway.inbound.inflate import Inflate, encodings_of
def peak_bytes():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) << 10
coding, wire = sys.argv[1], sys.stdin.buffer.read()
inflate = Inflate(encodings_of(coding), wire_bytes_max=1 << 40, bytes_max=1 << 40,
    ratio_max=1 << 40, seconds_max=1e9, clock=time.thread_time)
before = peak_bytes()
made = sum(len(piece) for piece in inflate.feed(wire))
inflate.end()
print(made, peak_bytes() - before)
"""


@pytest.mark.parametrize(
    ("by", "growth_max"),
    [
        (["gzip"], MIB),
        (["raw"], MIB),
        (["br, widest"], 18 * MIB),
        (["zstd, widest"], 10 * MIB),
        (["gzip", "gzip"], MIB),
        (["br, widest", "zstd"], 20 * MIB),
    ],
)
def test_memory_grows_by_the_window_alone(by: list[str], growth_max: int) -> None:
    """With every other bound out of the way, much goes through. Measured in a process apart."""
    size = 4 * bombs.SIZE
    content_encoding, wire = compressed(bytes(size), by)
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", _MEASURED, content_encoding],
        input=wire,
        capture_output=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    made, growth = map(int, done.stdout.split())
    assert made == size
    assert growth <= growth_max


@TIME_WASTERS
def test_what_makes_nothing_keeps_nothing(bomb: Bomb) -> None:
    inflate = inflating(bomb.content_encoding)
    chunks = [bomb.wire[at : at + PIECE_BYTES] for at in range(0, len(bomb.wire), PIECE_BYTES)]
    tracemalloc.start()
    try:
        for _ in pieces_of(inflate, chunks):
            pass
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < MIB


# --- the header ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "encodings"),
    [
        ("", ()),
        ("identity", ()),
        ("gzip", ("gzip",)),
        ("GZip", ("gzip",)),
        ("x-gzip", ("gzip",)),
        (" deflate\t", ("deflate",)),
        ("br", ("br",)),
        ("zstd", ("zstd",)),
        ("deflate, gzip", ("deflate", "gzip")),
        ("gzip,gzip", ("gzip", "gzip")),
        (", gzip,, identity,", ("gzip",)),
    ],
)
def test_codings_are_named_in_the_order_applied(value: str, encodings: tuple[str, ...]) -> None:
    assert encodings_of(value) == encodings


@pytest.mark.parametrize(
    "value",
    [
        "compress",
        "x-compress",
        "x-deflate",
        "dcb",
        "aws-chunked",
        "chunked",
        "*",
        '"gzip"',
        "gzip;q=1",
        "gzip deflate",
        "gzip\x0b",
        "gzip\xa0",
        "gzi\u212a",
        "gzip, compress",
        "gzip, gzip, gzip",
        "br, identity, gzip, zstd",
    ],
)
def test_other_codings_are_not_supported(value: str) -> None:
    with pytest.raises(UnsupportedMedia) as refused:
        encodings_of(value)
    assert refused.value.reason == "content_encoding"
