"""Bodies that are more, or worse, than they look: what a hostile client may send compressed.

Each is a small thing on the wire that costs memory, time or sense when it is undone. They are
built here, bit by bit where no compressor would write them.
"""

import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import brotli  # type: ignore[import-untyped]

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1 << 20
SIZE = 16 * MIB
"""What a plain bomb is when it has gone off."""
_CODINGS = ("gzip", "deflate", "br", "zstd")
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_ZSTD_MAGIC = bytes.fromhex("28b52ffd")
_ZSTD_SKIPPED = bytes.fromhex("502a4d18")
_ZSTD_BLOCK = 128 << 10


@dataclass(frozen=True, slots=True)
class Bomb:
    """A body that is to be refused, and for what, where size and time are no matter."""

    name: str
    content_encoding: str
    wire: bytes
    reason: str


# --- the codings, as those who mean well use them ----------------------------------------


def gzip_of(body: bytes, level: int = 6) -> bytes:
    return _zlib_of(body, 31, level)


def zlib_of(body: bytes, level: int = 6) -> bytes:
    return _zlib_of(body, 15, level)


def raw_deflate_of(body: bytes, level: int = 6, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    return _zlib_of(body, -15, level, strategy)


def brotli_of(body: bytes, quality: int = 4, window_log: int = 22) -> bytes:
    compressed: bytes = brotli.compress(body, quality=quality, lgwin=window_log)
    return compressed


def zstd_of(body: bytes, level: int = 3) -> bytes:
    return zstd.compress(body, level)


def _zlib_of(body: bytes, bits: int, level: int, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, bits, 8, strategy)
    return packer.compress(body) + packer.flush()


# --- much from little ---------------------------------------------------------------------


def zeros(compress: Callable[[bytes], bytes], size: int = SIZE) -> bytes:
    return compress(bytes(size))


def zstd_runs(blocks: int, window_log: int = 20) -> bytes:
    """A frame of blocks that say "so many zeros": 128 KiB for each four bytes."""
    last = blocks - 1
    runs = (_zstd_block(1, _ZSTD_BLOCK, b"\x00", is_last=at == last) for at in range(blocks))
    return _ZSTD_MAGIC + bytes([0, (window_log - 10) << 3]) + b"".join(runs)


def members(count: int, body: bytes = b"") -> bytes:
    """So many gzip members, each of `body`."""
    return gzip_of(body) * count


# --- much work, for nothing at all --------------------------------------------------------


def empty_deflate_blocks(count: int) -> bytes:
    """A gzip member of stored blocks that hold nothing: five bytes each."""
    return _GZIP_HEAD + b"\x00\x00\x00\xff\xff" * count + b"\x03\x00" + bytes(8)


def long_name(size: int) -> bytes:
    """A gzip member whose head names a file, at length."""
    return b"\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\xff" + b"n" * size + b"\x00\x03\x00" + bytes(8)


def empty_brotli_blocks(count: int) -> bytes:
    """Metadata blocks that hold nothing (RFC 7932, 9.2): a byte each."""
    return b"\x0c" + b"\x06" * count + b"\x03"


def empty_zstd_blocks(count: int) -> bytes:
    """A frame of raw blocks that hold nothing: three bytes each."""
    head = _ZSTD_MAGIC + bytes([0, 10 << 3])
    return head + _zstd_block(0, 0) * count + _zstd_block(0, 0, is_last=True)


def empty_zstd_frames(count: int) -> bytes:
    """Frames that hold nothing: nine bytes each, and a decoder for each."""
    return zstd.compress(b"") * count


def skipped_zstd_frames(count: int, size: int = 0) -> bytes:
    """Frames that are to be skipped (RFC 8878, 3.1.2)."""
    return (_ZSTD_SKIPPED + size.to_bytes(4, "little") + bytes(size)) * count


# --- much memory --------------------------------------------------------------------------


def zstd_window(window_log: int) -> bytes:
    """A frame of a run of zeros that asks for a window of 2 ** `window_log`."""
    return zstd_runs(1, window_log)


def zstd_single_segment(size: int) -> bytes:
    """A frame that tells its size, which is its window too, and begins with a run of zeros."""
    head = _ZSTD_MAGIC + bytes([0b1110_0000]) + size.to_bytes(8, "little")
    return head + _zstd_block(1, _ZSTD_BLOCK, b"\x00")


def brotli_large_window(window_log: int = 30) -> bytes:
    """An empty body that asks for a "large window", which RFC 7932 does not know."""
    return (0x11 | window_log << 8 | 0b11 << 14).to_bytes(3, "little")


# --- no sense -----------------------------------------------------------------------------


def with_dictionary(body: bytes) -> bytes:
    """A zlib stream that cannot be read without a dictionary (RFC 1950, FDICT)."""
    packer = zlib.compressobj(zdict=b"a dictionary of the sender's own")
    return packer.compress(body) + packer.flush()


def _zstd_block(kind: int, size: int, content: bytes = b"", *, is_last: bool = False) -> bytes:
    return (is_last | kind << 1 | size << 3).to_bytes(3, "little") + content


@cache
def bombs() -> tuple[Bomb, ...]:
    """Give one of each kind."""
    much, broken = "ratio", "broken"
    once = zeros(gzip_of)
    other = zlib.compress(zeros(brotli_of))
    swallowed = brotli_of(members(100_000))
    return (
        Bomb("gzip", "gzip", once, much),
        Bomb("x-gzip", "x-gzip", once, much),
        Bomb("deflate, zlib", "deflate", zeros(zlib_of), much),
        Bomb("deflate, raw", "deflate", zeros(raw_deflate_of), much),
        Bomb("br", "br", zeros(brotli_of), much),
        Bomb("zstd", "zstd", zeros(zstd_of), much),
        Bomb("zstd, runs", "zstd", zstd_runs(4096), much),
        Bomb("gzip, gzip", "gzip, gzip", gzip_of(once), much),
        Bomb("br, deflate", "br, deflate", other, much),
        Bomb("br of empty members", "gzip, br", swallowed, much),
        Bomb("gzip, members", "gzip", members(64, bytes(MIB)), much),
        Bomb("zstd, frames", "zstd", zstd_runs(1) * 1024, much),
        Bomb("zstd, window of 16 MiB", "zstd", zstd_window(24), broken),
        Bomb("zstd, window of 2 GiB", "zstd", zstd_window(31), broken),
        Bomb("zstd, window of a size told", "zstd", zstd_single_segment(1 << 40), broken),
        Bomb("br, large window", "br", brotli_large_window(), broken),
        Bomb("deflate, dictionary", "deflate", with_dictionary(b"body"), broken),
        *(Bomb(f"{name}, cut", coding, wire[:-1], broken) for name, coding, wire in _small()),
        *(Bomb(f"{name}, rubbish", coding, wire + b"!", broken) for name, coding, wire in _small()),
        *(
            Bomb(f"{name}, zeros", coding, wire + bytes(9), broken)
            for name, coding, wire in _small()
        ),
        *(Bomb(f"not {coding}", coding, b"card=none&x=1", broken) for coding in _CODINGS),
    )


@cache
def time_wasters() -> tuple[Bomb, ...]:
    """Give bodies that are whole, and make little or nothing of much work: only time ends it."""
    waste = "time"
    return (
        Bomb("gzip, empty members", "gzip", members(20_000), waste),
        Bomb("gzip, empty blocks", "gzip", empty_deflate_blocks(200_000), waste),
        Bomb("gzip, long name", "gzip", long_name(MIB), waste),
        Bomb("br, empty blocks", "br", empty_brotli_blocks(MIB), waste),
        Bomb("zstd, empty blocks", "zstd", empty_zstd_blocks(300_000), waste),
        Bomb("zstd, empty frames", "zstd", empty_zstd_frames(8000), waste),
        Bomb("zstd, skipped frames", "zstd", skipped_zstd_frames(8000), waste),
        Bomb("zstd, a frame skipped", "zstd", skipped_zstd_frames(1, MIB), waste),
        Bomb("gzip, members of a byte", "gzip", members(20_000, b"x"), waste),
    )


def _small() -> tuple[tuple[str, str, bytes], ...]:
    body = b"one=1&two=2&" * 20
    return (
        ("gzip", "gzip", gzip_of(body)),
        ("zlib", "deflate", zlib_of(body)),
        ("raw deflate", "deflate", raw_deflate_of(body)),
        ("br", "br", brotli_of(body)),
        ("zstd", "zstd", zstd_of(body)),
    )
