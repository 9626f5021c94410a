"""Vectors of bodies: which header frames one, chunks, bodies where none is expected, upgrades.

What lives here: bytes. What never may: a socket.
"""

from collections.abc import Iterator
from typing import Final

from tests.inbound.framing_pen import (
    BODY,
    BROKEN,
    EITHER,
    LENGTH,
    PASSED,
    REFUSED,
    TE,
    Made,
    Pen,
    chunked,
)

# --- which header frames the body (RFC 9112 6.1 to 6.3) -----------------------------------

LENGTHS: Final = {
    "two": (b"Content-Length: 3", b"Content-Length: 0"),
    "two_equal": (LENGTH, LENGTH),
    "list": (b"Content-Length: 3, 3",),
    "list_unequal": (b"Content-Length: 3, 0",),
    "plus": (b"Content-Length: +3",),
    "minus": (b"Content-Length: -3",),
    "minus_zero": (b"Content-Length: -0",),
    "hex": (b"Content-Length: 0x3",),
    "exponent": (b"Content-Length: 3e0",),
    "fraction": (b"Content-Length: 3.0",),
    "inner_space": (b"Content-Length: 1 3",),
    "underscored_digits": (b"Content-Length: 0_3",),
    "huge": (b"Content-Length: 99999999999999999999999",),
    "two_to_the_64": (b"Content-Length: 18446744073709551619",),
    "empty": (b"Content-Length:",),
    "quoted": (b'Content-Length: "3"',),
    "full_width": (b"Content-Length: \xef\xbc\x93",),
    "superscript": (b"Content-Length: \xb3",),
    "space_before_colon": (b"Content-Length : 3",),
    "tab_before_colon": (b"Content-Length\t: 3",),
    "nul_behind": (b"Content-Length: 3\x00",),
    "vertical_tab": (b"Content-Length: \x0b3",),
    "semicolon": (b"Content-Length: 3;a=b",),
    "folded": (b"Content-Length:\r\n 3",),
    "underscore": (b"Content_Length: 0", LENGTH),
    "beside_underscore": (LENGTH, b"Content_Length: 0"),
}
ENCODINGS: Final = {
    "gzip_chunked": b"Transfer-Encoding: gzip, chunked",
    "chunked_gzip": b"Transfer-Encoding: chunked, gzip",
    "chunked_twice": b"Transfer-Encoding: chunked, chunked",
    "identity": b"Transfer-Encoding: identity",
    "chunked_identity": b"Transfer-Encoding: chunked, identity",
    "identity_chunked": b"Transfer-Encoding: identity, chunked",
    "xchunked": b"Transfer-Encoding: xchunked",
    "chunkedx": b"Transfer-Encoding: chunkedx",
    "chunk": b"Transfer-Encoding: chunk",
    "quoted": b'Transfer-Encoding: "chunked"',
    "single_quoted": b"Transfer-Encoding: 'chunked'",
    "parameter": b"Transfer-Encoding: chunked;a=b",
    "parameter_empty": b"Transfer-Encoding: chunked;",
    "comma_behind": b"Transfer-Encoding: chunked,",
    "comma_before": b"Transfer-Encoding: ,chunked",
    "vertical_tab": b"Transfer-Encoding:\x0bchunked",
    "form_feed": b"Transfer-Encoding: \x0cchunked",
    "nul_before": b"Transfer-Encoding: \x00chunked",
    "nul_behind": b"Transfer-Encoding: chunked\x00",
    "cr_before": b"Transfer-Encoding: \rchunked",
    "line_feed_before": b"Transfer-Encoding: \nchunked",
    "no_break_space": b"Transfer-Encoding: \xa0chunked",
    "high_bit": b"Transfer-Encoding: chunked\xff",
    "space_before_colon": b"Transfer-Encoding : chunked",
    "tab_before_colon": b"Transfer-Encoding\t: chunked",
    "space_before_name": b" Transfer-Encoding: chunked",
    "tab_before_name": b"\tTransfer-Encoding: chunked",
    "folded": b"Transfer-Encoding:\r\n chunked",
    "folded_behind": b"Transfer-Encoding: chunked\r\n , identity",
    "hidden_in_fold": b"X-A: a\r\n Transfer-Encoding: chunked",
    "two_headers": TE + b"\r\n" + TE,
    "two_unequal": TE + b"\r\nTransfer-Encoding: identity",
    "two_unequal_reversed": b"Transfer-Encoding: identity\r\n" + TE,
    "underscore": b"Transfer_Encoding: chunked",
    "empty": b"Transfer-Encoding:",
    "cow": b"Transfer-Encoding: cow",
    "hidden_in_value": b"X-A: a\nTransfer-Encoding: chunked",
    "hidden_behind_cr": b"X-A: a\rTransfer-Encoding: chunked",
    "dotless_i": b"Transfer-Encod\xc4\xb1ng: chunked",
    "nul_in_name": b"Transfer-Encoding\x00: chunked",
}


def of_framing(pen: Pen) -> Iterator[Made]:
    both = b"Content-Length: %d" % (5 + len(pen.marker))
    yield "length_and_chunks", pen.head(both, TE) + b"0\r\n\r\n" + pen.marker, REFUSED
    yield "chunks_and_length", pen.head(TE, both) + b"0\r\n\r\n" + pen.marker, REFUSED
    yield "length_zero_and_chunks", pen.head(b"Content-Length: 0", TE) + chunked(BODY), REFUSED
    yield (
        "short_length_and_chunks",
        pen.head(b"Content-Length: 3", TE) + chunked(pen.marker),
        REFUSED,
    )
    odd = b"Transfer-Encoding: xchunked"
    yield "length_and_odd_chunks", pen.head(both, odd) + b"0\r\n\r\n" + pen.marker, REFUSED
    for name, lines in LENGTHS.items():
        yield f"length_{name}", pen.head(*lines) + BODY + pen.marker, REFUSED
    for name, line in ENCODINGS.items():
        length = b"Content-Length: %d" % (5 + len(pen.marker))
        alone = name not in {"underscore", "hidden_in_value", "hidden_behind_cr", "hidden_in_fold"}
        lines = (line,) if alone else (length, line)
        yield f"encoding_{name}", pen.head(*lines) + b"0\r\n\r\n" + pen.marker, REFUSED
        yield (
            f"encoding_{name}_and_length",
            pen.head(length, line) + b"0\r\n\r\n" + pen.marker,
            REFUSED,
        )
    yield "encoding_upper_case", pen.head(b"Transfer-Encoding: CHUNKED") + chunked(BODY), EITHER
    yield "encoding_tab", pen.head(b"Transfer-Encoding:\tchunked") + chunked(BODY), EITHER
    yield "encoding_spaces", pen.head(b"Transfer-Encoding:  chunked  ") + chunked(BODY), EITHER
    yield (
        "encoding_name_upper_case",
        pen.head(TE.upper()[:17] + b": chunked") + chunked(BODY),
        EITHER,
    )
    yield "length_leading_zeros", pen.head(b"Content-Length: 0003") + BODY, EITHER
    yield "length_spaces", pen.head(b"Content-Length:   3  ") + BODY, EITHER


# --- chunks (RFC 9112 7.1) ----------------------------------------------------------------

SIZES: Final = {
    "not_hex": b"zz",
    "plus": b"+3",
    "minus": b"-3",
    "prefixed": b"0x3",
    "underscored": b"0_3",
    "space_before": b" 3",
    "tab_before": b"\t3",
    "empty": b"",
    "too_long": b"ffffffffffffffffff3",
    "two_to_the_64": b"10000000000000003",
    "full_width": b"\xef\xbc\x93",
    "nul": b"3\x00",
    "dot": b"3.0",
    "h": b"3h",
    "comma": b"3,3",
    "colon": b"3:3",
}
EXTENSIONS: Final = {
    "line_feed": b"3;a\n",
    "cr": b"3;a=\rb\r\n",
    "nul": b"3;a=\x00b\r\n",
    "hidden_chunk": b"3;a=\n0\r\n",
}
ENDS: Final = {
    "line_feed_after_size": b"3\na=1\r\n0\r\n\r\n",
    "line_feed_after_data": b"3\r\na=1\n0\r\n\r\n",
    "cr_after_size": b"3\ra=1\r\n0\r\n\r\n",
    "nothing_after_data": b"3\r\na=10\r\n\r\n",
    "data_longer": b"3\r\na=123\r\n0\r\n\r\n",
    "data_shorter": b"3\r\na=\r\n0\r\n\r\nxx",
    "line_feeds_only": b"3\na=1\n0\n\n",
    "two_bytes_of_rubbish": b"3\r\na=1XX0\r\n\r\n",
    "last_with_line_feed": b"3\r\na=1\r\n0\n\n",
}
TRAILERS: Final = {
    "length": b"Content-Length: 44\r\n",
    "encoding": b"Transfer-Encoding: chunked\r\n",
    "host": b"Host: evil.example\r\n",
    "connection": b"Connection: close\r\n",
    "authorization": b"Authorization: Basic eDp4\r\n",
    "harmless": b"X-Checksum: abc\r\n",
    "two": b"X-A: 1\r\nX-B: 2\r\n",
}
BROKEN_TRAILERS: Final = {
    "no_colon": b"rubbish\r\n",
    "line_feed": b"X-A: 1\n",
    "nul": b"X-A: \x00\r\n",
    "folded": b"X-A: 1\r\n 2\r\n",
    "empty_name": b": 1\r\n",
    "huge": b"X-A: " + b"a" * 20_000 + b"\r\n",
}


def of_chunks(pen: Pen) -> Iterator[Made]:
    head = pen.head(TE)
    for name, size in SIZES.items():
        yield f"size_{name}", head + size + b"\r\na=1\r\n0\r\n\r\n" + pen.marker, BROKEN
    for name, line in EXTENSIONS.items():
        yield f"extension_{name}", head + line + b"a=1\r\n0\r\n\r\n" + pen.marker, BROKEN
    for name, rest in ENDS.items():
        yield f"chunk_{name}", head + rest + pen.marker, BROKEN
    for name, lines in BROKEN_TRAILERS.items():
        yield f"trailer_{name}", head + chunked(BODY, trailers=lines) + pen.marker, BROKEN
    yield "extension_plain", head + b"3;a=b\r\na=1\r\n0\r\n\r\n", EITHER, 1, BODY
    yield "extension_quoted", head + b'3;a="b"\r\na=1\r\n0;c\r\n\r\n', EITHER, 1, BODY
    yield "extension_space", head + b"3 ;a=b\r\na=1\r\n0\r\n\r\n", EITHER, 1, BODY
    yield "size_space_behind", head + b"3 \r\na=1\r\n0\r\n\r\n", EITHER, 1, BODY
    yield "size_leading_zeros", head + b"00000003\r\na=1\r\n000\r\n\r\n", EITHER, 1, BODY
    yield (
        "extension_huge",
        head + b"3;" + b"a" * (1 << 17) + b"\r\na=1\r\n0\r\n\r\n",
        EITHER,
        1,
        BODY,
    )
    for name, lines in TRAILERS.items():
        yield f"trailer_{name}", head + chunked(BODY, trailers=lines), EITHER, 1, BODY
    hidden = head + chunked(b"a=" + pen.marker)
    yield "marker_in_a_chunk", hidden, EITHER, 1, b"a=" + pen.marker
    yield "size_upper_case", head + b"A\r\na=12345678\r\n0\r\n\r\n", PASSED, 1, b"a=12345678"
    yield "chunks_of_one_byte", head + chunked(b"a", b"=", b"1"), PASSED, 1, BODY


# --- bodies where none is expected, expectations, upgrades --------------------------------

EXPECTATIONS: Final = {
    "unknown": b"200-ok",
    "list": b"100-continue, x",
    "obfuscated": b"100-continue;a=b",
    "folded": b"\r\n 100-continue",
    "digits": b"100",
    "twice": b"100-continue\r\nExpect: x",
}
UPGRADES: Final = {
    "h2c": (b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAMAAABk"),
    "h2c_without_connection": (b"Upgrade: h2c",),
    "websocket": (
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ),
    "websocket_wrong_version": (
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Version: 777",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ),
    "tls": (b"Upgrade: TLS/1.0", b"Connection: Upgrade"),
    "list": (b"Upgrade: websocket, h2c", b"Connection: Upgrade"),
    "connection_alone": (b"Connection: keep-alive, uPgRaDe",),
}


def of_bodies(pen: Pen) -> Iterator[Made]:
    size = b"Content-Length: %d" % len(pen.marker)
    for method in (b"GET", b"HEAD", b"DELETE", b"OPTIONS"):
        name = method.decode().lower()
        with_length = pen.head(size, method=method) + pen.marker
        yield f"{name}_with_a_body", with_length, EITHER, 1, pen.marker
        with_chunks = pen.head(TE, method=method) + chunked(pen.marker)
        yield f"{name}_with_chunks", with_chunks, EITHER, 1, pen.marker
        both = pen.head(size, TE, method=method) + chunked(pen.marker)
        yield f"{name}_with_both", both, REFUSED
    for name, value in EXPECTATIONS.items():
        for how, tail in {"waits": b"", "sends": BODY + pen.marker}.items():
            yield f"expect_{name}_{how}", pen.head(LENGTH, b"Expect: " + value) + tail, REFUSED
    for name, value in {"usual": b"100-continue", "upper": b"100-CONTINUE", "none": b""}.items():
        yield f"expect_{name}", pen.head(LENGTH, b"Expect: " + value) + BODY, EITHER, 1, BODY
    no_body = pen.head(b"Expect: 100-continue", method=b"GET")
    yield "expect_on_get", no_body, EITHER
    hidden = pen.head(b"Expect: 100-continue", size) + pen.marker
    yield "expect_marker_as_body", hidden, EITHER, 1, pen.marker
    for name, lines in UPGRADES.items():
        asked = EITHER if name == "websocket" else REFUSED  # a route may pass it
        yield f"upgrade_{name}", pen.head(*lines, method=b"GET") + pen.marker, asked
        posted = pen.head(*lines, size) + pen.marker
        yield f"upgrade_{name}_posted", posted, REFUSED
    yield "override", pen.head(b"X-HTTP-Method-Override: DELETE", LENGTH) + BODY, EITHER, 1, BODY
