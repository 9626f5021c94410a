"""Compressed bodies as plain ones: in pieces, within bounds of size, ratio and time. Pure.

What never may live here: sense read into the bytes, a clock of its own. Whatever comes in, the
memory taken is that of the codings' windows (8 MiB of zstd, 16 MiB of Brotli, 32 KiB of the rest)
and of a piece; between two pieces the caller may let others have their turn.
"""

import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Final, Protocol

import brotli  # type: ignore[import-untyped]  # ships no types, and the stubs know no limit

from gateway.errors import InflationRefused, UnsupportedMedia

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE_BYTES: Final = 64 << 10
"""The most that is given out, or made by one step, at once."""
FLOOR_BYTES: Final = 64 << 10
"""So much may come of however little: short texts repeat themselves."""
_INPUT_BYTES: Final = 8 << 10
"""What a decoder gets at once: how long a step takes that makes nothing hangs on it."""
_TURN_SECONDS: Final = 0.002
"""After so long the caller gets a piece, be it empty, and with it its turn."""
_CODINGS_MAX: Final = 2

_ZLIB: Final = zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS
_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB_HEAD_BYTES: Final = 2
_ZLIB_METHOD_MAX: Final = 0x78
_BROTLI_PIECE_BYTES: Final = (32 << 10) - 64
"""Less than the first block of its output: a larger limit is met a block too late."""
_ZSTD_WINDOW_LOG_MAX: Final = 23
"""RFC 9659, 3: of the content coding, a window is of 8 MiB at most."""


def encodings_of(value: str) -> tuple[str, ...]:
    """Return what a Content-Encoding header names, in the order applied, `identity` left out.

    Raises UnsupportedMedia.
    """
    names = [name.strip(" \t").lower() for name in value.split(",")]
    named = tuple(_ALIASES.get(name, name) for name in names if name not in {"", "identity"})
    if len(named) > _CODINGS_MAX or not all(name in _STREAMS for name in named):
        raise UnsupportedMedia("content_encoding")
    return named


class Inflate:
    """One body, inflated as it arrives.

    The ratio is that of what was made to all that was fed so far, at each of the codings: one
    may expand what the next one swallows. Time is that of the decoders alone, on `clock`, which
    should be one of processor time.
    """

    def __init__(
        self,
        encodings: Sequence[str],
        *,
        wire_bytes_max: int,
        bytes_max: int,
        ratio_max: int = 100,
        seconds_max: float = 2.0,
        clock: Callable[[], float],
    ) -> None:
        """`encodings` are those of `encodings_of`: the last was applied last, and goes first."""
        self._codings = [_Coding(name) for name in reversed(encodings)]
        self._wire_bytes_max = wire_bytes_max
        self._bytes_max = bytes_max
        self._ratio_max = ratio_max
        self._seconds_max = seconds_max
        self._clock = clock
        self._wire_bytes = 0
        self._bytes = 0
        self._seconds = 0.0
        self._closed = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Give what `data` adds, in pieces, some of them empty; to be taken to the last.

        Raises InflationRefused. What follows a refusal, or pieces not taken, is refused too.
        """
        self._close()
        self._wire_bytes += len(data)
        if self._wire_bytes > self._wire_bytes_max:
            raise InflationRefused("size")
        yield from self._gathered(self._bounded(data))
        self._closed = False

    def end(self) -> Iterator[bytes]:
        """See at once that the body is whole, as one of no bytes is; nothing is left to give.

        Raises InflationRefused.
        """
        self._close()
        if self._wire_bytes and not all(coding.is_whole for coding in self._codings):
            raise InflationRefused("broken")
        return iter(())

    def _close(self) -> None:
        if self._closed:
            raise InflationRefused("broken")
        self._closed = True

    def _gathered(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Join small pieces: thousands of members would cost their reader a call for each."""
        gathered = bytearray()
        begun = self._seconds
        for piece in pieces:
            is_full = len(gathered) + len(piece) > PIECE_BYTES
            if is_full or self._seconds - begun > _TURN_SECONDS:
                yield bytes(gathered)
                gathered.clear()
                begun = self._seconds
            gathered += piece
        if gathered:
            yield bytes(gathered)

    def _bounded(self, data: bytes) -> Iterator[bytes]:
        for piece in self._through(0, data):
            self._bytes += len(piece)
            if self._bytes > self._bytes_max:
                raise InflationRefused("size")
            yield piece

    def _through(self, place: int, data: bytes) -> Iterator[bytes]:
        """Give what the codings from `place` on make of `data`."""
        if not data or place == len(self._codings):
            yield from _parts(data, PIECE_BYTES)
            return
        coding = self._codings[place]
        for part in _parts(data, _INPUT_BYTES):
            yield from self._through(place + 1, self._step(coding, part))
            while not coding.is_hungry:
                yield from self._through(place + 1, self._step(coding, b""))

    def _step(self, coding: "_Coding", data: bytes) -> bytes:
        piece: bytes | None = None
        begun = self._clock()
        with suppress(zlib.error, brotli.error, zstd.ZstdError, _NothingMayFollow):
            piece = coding.step(data)
        self._seconds += self._clock() - begun
        if piece is None:
            raise InflationRefused("broken")
        if coding.made > max(FLOOR_BYTES, self._ratio_max * self._wire_bytes):
            raise InflationRefused("ratio")
        if self._seconds > self._seconds_max:
            raise InflationRefused("time")
        return piece


def _parts(data: bytes, part_bytes: int) -> Iterator[bytes]:
    """Cut `data` into parts; of nothing there is one."""
    for at in range(0, len(data) or 1, part_bytes):
        yield data[at : at + part_bytes]


class _NothingMayFollow(Exception):
    """Bytes came behind the end."""


class _Stream(Protocol):
    """One stream, member or frame: from its first byte to its last."""

    @property
    def is_hungry(self) -> bool:
        """Whether all that it can make of what it got has been made."""

    @property
    def is_over(self) -> bool: ...

    @property
    def unused(self) -> bytes:
        """What came behind its end."""

    def step(self, data: bytes) -> bytes:
        """Make at most a piece. With data only when it is hungry."""


class _Coding:
    """One content coding of a body: a stream, or as many as follow each other."""

    def __init__(self, name: str) -> None:
        self._open = _STREAMS[name]
        self._goes_on = name in _SEVERAL
        self._stream: _Stream | None = None
        self._rest = b""
        self._is_begun = False
        self.made = 0

    @property
    def is_hungry(self) -> bool:
        return not self._rest and (self._stream is None or self._stream.is_hungry)

    @property
    def is_whole(self) -> bool:
        return self._is_begun and self._stream is None and not self._rest

    def step(self, data: bytes) -> bytes:
        """Make at most a piece, of at most one stream. With data only when hungry."""
        data = self._rest or data
        self._rest = b""
        if self._stream is None:
            if self._is_begun and not self._goes_on:
                raise _NothingMayFollow
            self._stream = self._open()
            self._is_begun = True
        piece = self._stream.step(data)
        if self._stream.is_over:
            self._rest = self._stream.unused
            self._stream = None
        self.made += len(piece)
        return piece


class _ZlibStream:
    """RFC 1950, 1951 or 1952, as the window bits say."""

    def __init__(self, window_bits: int) -> None:
        self._inner = zlib.decompressobj(window_bits)
        self.is_hungry = True

    @property
    def is_over(self) -> bool:
        return self._inner.eof

    @property
    def unused(self) -> bytes:
        return self._inner.unused_data

    def step(self, data: bytes) -> bytes:
        piece = self._inner.decompress(self._inner.unconsumed_tail or data, PIECE_BYTES)
        # A full piece may have left more inside, though all that came in is gone.
        self.is_hungry = not self._inner.unconsumed_tail and len(piece) < PIECE_BYTES
        return piece


class _DeflateStream:
    """`deflate`, as RFC 9110, 8.4.1.2 has it and as some send it: with zlib's head, or bare.

    The first two bytes tell. A bare stream cannot look like a head, unless it begins with a
    stored block whose padding is not zero: no compressor writes one.
    """

    def __init__(self) -> None:
        self._head = b""
        self._inner: _ZlibStream | None = None

    @property
    def is_hungry(self) -> bool:
        return self._inner is None or self._inner.is_hungry

    @property
    def is_over(self) -> bool:
        return self._inner is not None and self._inner.is_over

    @property
    def unused(self) -> bytes:
        return b"" if self._inner is None else self._inner.unused

    def step(self, data: bytes) -> bytes:
        if self._inner is None:
            data = self._head = self._head + data
            if len(data) < _ZLIB_HEAD_BYTES:
                return b""
            self._inner = _ZlibStream(_ZLIB if _begins_with_zlib_head(data) else _RAW)
        return self._inner.step(data)


def _begins_with_zlib_head(data: bytes) -> bool:
    """RFC 1950, 2.2: deflate with a window of at most 32 KiB, and in all a multiple of 31."""
    method = data[0]
    is_deflate = method & 0x0F == zlib.DEFLATED and method <= _ZLIB_METHOD_MAX
    return is_deflate and int.from_bytes(data[:_ZLIB_HEAD_BYTES]) % 31 == 0


class _BrotliDecoder(Protocol):
    """What is used of `brotli.Decompressor`. It takes no large window (more than 16 MiB)."""

    def process(self, string: bytes, output_buffer_limit: int) -> bytes: ...
    def can_accept_more_data(self) -> bool: ...
    def is_finished(self) -> bool: ...


class _BrotliStream:
    """RFC 7932."""

    def __init__(self) -> None:
        self._inner: _BrotliDecoder = brotli.Decompressor()
        self.is_hungry = True
        self.is_over = False
        self.unused = b""  # it raises its error when anything comes behind its end

    def step(self, data: bytes) -> bytes:
        piece = self._inner.process(data, output_buffer_limit=_BROTLI_PIECE_BYTES)
        # That it accepts more says that its input is gone, not that its output is.
        self.is_hungry = not piece and self._inner.can_accept_more_data()
        self.is_over = self._inner.is_finished()
        return piece


class _ZstdStream:
    """RFC 8878: a frame, or one to be skipped."""

    def __init__(self) -> None:
        options = {int(zstd.DecompressionParameter.window_log_max): _ZSTD_WINDOW_LOG_MAX}
        self._inner = zstd.ZstdDecompressor(options=options)
        self.is_hungry = True

    @property
    def is_over(self) -> bool:
        return self._inner.eof

    @property
    def unused(self) -> bytes:
        return self._inner.unused_data

    def step(self, data: bytes) -> bytes:
        piece = self._inner.decompress(data, PIECE_BYTES)
        self.is_hungry = self._inner.needs_input
        return piece


_STREAMS: Final[Mapping[str, Callable[[], _Stream]]] = MappingProxyType(
    {
        "gzip": lambda: _ZlibStream(_GZIP),
        "deflate": _DeflateStream,
        "br": _BrotliStream,
        "zstd": _ZstdStream,
    }
)
_SEVERAL: Final = frozenset({"gzip", "zstd"})
"""RFC 1952, 2.2 and RFC 8878, 3: members, frames may follow each other."""
_ALIASES: Final = MappingProxyType({"x-gzip": "gzip"})
"""RFC 9110, 8.4.1.3."""
