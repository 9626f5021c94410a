"""Vectors of heads: first lines, header lines, paths; and requests that are right.

What lives here: bytes. What never may: a socket.
"""

from collections.abc import Iterator
from typing import Final

from tests.inbound.framing_pen import (
    BODY,
    EITHER,
    LENGTH,
    PASSED,
    REFUSED,
    TE,
    TURNED_AWAY,
    Made,
    Pen,
    chunked,
)

# --- the first line (RFC 9112 3) ----------------------------------------------------------

VERSIONS: Final = {
    "1_0": b"HTTP/1.0",
    "2_0": b"HTTP/2.0",
    "2": b"HTTP/2",
    "0_9": b"HTTP/0.9",
    "1_2": b"HTTP/1.2",
    "3_0": b"HTTP/3.0",
    "two_digits": b"HTTP/1.10",
    "zeros": b"HTTP/01.1",
    "lower_case": b"http/1.1",
    "no_minor": b"HTTP/1",
    "comma": b"HTTP/1,1",
    "minus": b"HTTP/1.-1",
    "space_behind": b"HTTP/1.1 ",
    "words_behind": b"HTTP/1.1 x",
    "icy": b"ICY/1.1",
    "full_width": b"HTTP/1.\xef\xbc\x91",
}


def of_first_lines(pen: Pen) -> Iterator[Made]:
    for name, version in VERSIONS.items():
        yield f"version_{name}", pen.head(method=b"GET", version=version) + pen.marker, REFUSED
        chunks = pen.head(TE, version=version) + chunked(BODY) + pen.marker
        yield f"version_{name}_with_chunks", chunks, REFUSED
    yield "version_none", b"GET " + pen.target + b"\r\n\r\n" + pen.marker, REFUSED
    yield "preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + pen.marker, REFUSED
    rest = pen.own + b"\r\n" + pen.marker
    for name, first in _odd_first_lines(pen).items():
        yield f"line_{name}", first + b"\r\n" + rest, REFUSED
    yield "line_feeds", b"GET " + pen.target + b" HTTP/1.1\nHost: " + pen.host + b"\n\n", REFUSED
    for name, before in {"crlf": b"\r\n", "two_crlf": b"\r\n\r\n", "line_feed": b"\n"}.items():
        yield f"line_after_{name}", before + pen.head(method=b"GET"), EITHER
    yield "line_after_cr", b"\r" + pen.head(method=b"GET"), EITHER
    spaced = pen.head(method=b"GET").replace(b"GET ", b"GET  ", 1)
    yield "line_two_spaces", spaced, EITHER
    spaced = pen.head(method=b"GET").replace(b" HTTP/", b"  HTTP/", 1)
    yield "line_two_spaces_before_version", spaced, EITHER
    for name, before in {"nul": b"\0", "space": b" "}.items():
        yield f"line_after_{name}", before + pen.head(method=b"GET") + pen.marker, REFUSED
    yield "line_trace", pen.head(method=b"TRACE"), TURNED_AWAY
    yield "tls_inside", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + pen.head(), REFUSED
    yield "binary", bytes(range(256)) + pen.head(), REFUSED


def _odd_first_lines(pen: Pen) -> dict[str, bytes]:
    target, end = pen.target, b" HTTP/1.1"
    return {
        "method_lower_case": b"get " + target + end,
        "method_unknown": b"STEAL " + target + end,
        "method_with_colon": b"GE:T " + target + end,
        "method_with_nul": b"GE\0T " + target + end,
        "method_long": b"G" * 5000 + b" " + target + end,
        "method_quoted": b'"GET" ' + target + end,
        "no_method": b" " + target + end,
        "tab": b"GET\t" + target + end,
        "tab_before_version": b"GET " + target + b"\tHTTP/1.1",
        "vertical_tab": b"GET\x0b" + target + end,
        "space_in_target": b"GET " + target + b" x" + end,
        "connect": b"CONNECT " + pen.host + b":443" + end,
        "connect_with_path": b"CONNECT " + target + end,
        "absolute": b"GET https://" + pen.host + target + end,
        "absolute_plain": b"GET http://" + pen.host + target + end,
        "absolute_elsewhere": b"GET http://evil.example" + target + end,
        "absolute_no_path": b"GET http://evil.example" + end,
        "absolute_other_scheme": b"GET ftp://" + pen.host + target + end,
        "absolute_with_user": b"GET http://a@" + pen.host + target + end,
        "authority": b"GET " + pen.host + end,
        "relative": b"GET " + target[1:] + end,
        "empty_target": b"GET " + end,
        "query_only": b"GET ?" + pen.case + end,
        "asterisk": b"OPTIONS *" + end,
        "asterisk_get": b"GET *" + end,
        "nul_in_target": b"GET " + target + b"\0" + end,
        "cr_in_target": b"GET " + target + b"\rx" + end,
        "del_in_target": b"GET " + target + b"\x7f" + end,
        "long_target": b"GET " + target + b"/" + b"a" * (1 << 16) + end,
    }


# --- header lines (RFC 9112 5, RFC 9110 5) ------------------------------------------------


def _odd_headers(pen: Pen) -> dict[str, bytes]:
    return {
        "obs_fold": b"X-A: a\r\n b",
        "obs_fold_tab": b"X-A: a\r\n\tb",
        "obs_fold_first": b" X-A: a",
        "obs_fold_marker": b"X-A: a\r\n\r\t" + pen.marker.partition(b"\r\n")[0],
        "bare_line_feed": b"X-A: a\nX-B: b",
        "bare_cr": b"X-A: a\rX-B: b",
        "cr_cr_lf": b"X-A: a\r",
        "nul_in_value": b"X-A: a\0b",
        "nul_in_name": b"X\0A: a",
        "bell": b"X-A: a\x07b",
        "del": b"X-A: a\x7fb",
        "escape": b"X-A: \x1b[2J",
        "empty_name": b": a",
        "no_colon": b"X-A",
        "no_colon_at_all": b"rubbish rubbish",
        "space_in_name": b"X A: a",
        "space_before_colon": b"X-A : a",
        "tab_before_colon": b"X-A\t: a",
        "quote_in_name": b'X"A": a',
        "bracket_in_name": b"X[A]: a",
        "at_in_name": b"X@A: a",
        "utf8_name": b"X-\xc3\xa4: a",
        "underscore": b"X_Forwarded_For: 192.0.2.1",
        "underscore_host": b"X_Host: evil.example",
        "http_prefix": b"HTTP_HOST: evil.example",
        "long_name": b"X" * 40_000 + b": a",
        "long_value": b"X-A: " + b"a" * 40_000,
        "many": b"\r\n".join(b"X-%d: a" % number for number in range(300)),
        "many_long": b"\r\n".join(b"X-%d: %b" % (number, b"a" * 2000) for number in range(120)),
    }


def _hosts(pen: Pen) -> dict[str, bytes]:
    host = pen.host
    return {
        "missing": b"",
        "empty": b"Host:\r\n",
        "twice": b"Host: " + host + b"\r\nHost: " + host + b"\r\n",
        "twice_unequal": b"Host: " + host + b"\r\nHost: evil.example\r\n",
        "twice_other_case": b"Host: " + host + b"\r\nhost: evil.example\r\n",
        "user": b"Host: a@" + host + b"\r\n",
        "user_behind": b"Host: " + host + b"@evil.example\r\n",
        "bad_port": b"Host: " + host + b":x\r\n",
        "huge_port": b"Host: " + host + b":99999999\r\n",
        "two_ports": b"Host: " + host + b":443:80\r\n",
        "path": b"Host: " + host + b"/x\r\n",
        "query": b"Host: " + host + b"?x\r\n",
        "list": b"Host: " + host + b", evil.example\r\n",
        "space": b"Host: " + host + b" evil.example\r\n",
        "nul": b"Host: " + host + b"\0.evil.example\r\n",
        "percent": b"Host: " + host.replace(b".", b"%2e") + b"\r\n",
        "folded": b"Host:\r\n " + host + b"\r\n",
        "space_before_colon": b"Host : " + host + b"\r\n",
        "brackets": b"Host: [" + host + b"]\r\n",
    }


def of_headers(pen: Pen) -> Iterator[Made]:
    for name, line in _odd_headers(pen).items():
        yield f"header_{name}", pen.head(line, method=b"GET") + pen.marker, REFUSED
    case = b"X-Case: " + pen.case + b"\r\n\r\n"
    for name, line in _hosts(pen).items():
        head = b"GET " + pen.target + b" HTTP/1.1\r\n" + line + case
        yield f"host_{name}", head + pen.marker, REFUSED
    elsewhere = {"foreign": b"evil.example", "suffix": pen.host + b".evil.example"}
    for name, line in (elsewhere | {"prefix": b"evil" + pen.host}).items():
        head = b"GET " + pen.target + b" HTTP/1.1\r\nHost: " + line + b"\r\n" + case
        yield f"host_{name}", head, TURNED_AWAY
    for name, line in {"port": pen.host + b":443", "upper_case": pen.host.upper()}.items():
        head = b"GET " + pen.target + b" HTTP/1.1\r\nHost: " + line + b"\r\n" + case
        yield f"host_{name}", head, PASSED
    trailing = b"GET " + pen.target + b" HTTP/1.1\r\nHost: " + pen.host + b".\r\n" + case
    yield "host_trailing_dot", trailing, EITHER
    yield "header_empty_value", pen.head(b"X-A:", method=b"GET"), PASSED
    yield "header_high_bytes", pen.head(b"X-A: \xc3\xa4\xff", method=b"GET"), EITHER
    nominated = pen.head(b"Connection: close, Content-Length", LENGTH) + BODY
    yield "connection_names_the_length", nominated, EITHER, 1, BODY
    nominated = pen.head(b"Connection: Transfer-Encoding", TE) + chunked(b"a=" + pen.marker)
    yield "connection_names_the_encoding", nominated, EITHER, 1, b"a=" + pen.marker
    yield "connection_names_the_host", pen.head(b"Connection: Host", method=b"GET"), EITHER
    yield "keep_alive_and_close", pen.head(b"Connection: keep-alive, close", LENGTH) + BODY, EITHER


# --- paths (T-05) and what is right -------------------------------------------------------

PATHS: Final = {
    "dots": b"/../marker/",
    "encoded_dots": b"/%2e%2e/marker/",
    "double_encoded_dots": b"/%252e%252e/marker/",
    "half_encoded_dots": b"/.%2e/marker/",
    "encoded_slash": b"/..%2fmarker%2f",
    "two_slashes": b"//marker/",
    "backslash": b"/..\\marker\\",
    "encoded_backslash": b"/..%5cmarker%5c",
    "parameter": b"/..;/marker/",
    "parameter_behind": b"/x;/../marker/",
    "encoded_nul": b"/x%00/../marker/",
    "overlong": b"/%c0%ae%c0%ae/marker/",
    "full_width_dots": b"/%ef%bc%8e%ef%bc%8e/marker/",
    "bad_percent": b"/%zz/",
    "cut_percent": b"/%2",
    "encoded_crlf": b"/x%0d%0aX-A:%20b",
    "fragment": b"/x#/../marker/",
    "dot": b"/./",
}


def of_paths(pen: Pen) -> Iterator[Made]:
    for name, path in PATHS.items():
        target = pen.prefix + path + pen.case
        yield f"path_{name}", b"GET " + target + b" HTTP/1.1\r\n" + pen.own + b"\r\n", EITHER
    first = b"GET //evil.example" + pen.target + b" HTTP/1.1\r\n"
    yield "path_looks_like_a_host", first + pen.own + b"\r\n", EITHER


def of_right(pen: Pen) -> Iterator[Made]:
    get, post = pen.head(method=b"GET"), pen.head(LENGTH) + BODY
    yield "right_get", get, PASSED
    yield "right_post", post, PASSED, 1, BODY
    yield "right_chunks", pen.head(TE) + chunked(BODY), PASSED, 1, BODY
    yield "right_put", pen.head(LENGTH, b"Content-Type: text/plain", method=b"PUT") + BODY, EITHER
    yield "right_head", pen.head(method=b"HEAD"), PASSED
    yield "right_delete", pen.head(method=b"DELETE"), PASSED
    yield "pipeline_of_two", get + get, PASSED, 2, None
    yield "pipeline_of_posts", post * 3, PASSED, 3, BODY
    yield "pipeline_mixed", post + get + pen.head(TE) + chunked(BODY), PASSED, 3, None
    size = b"Content-Length: %d" % (len(pen.marker) + 2)
    yield "right_marker_as_body", pen.head(size) + b"a=" + pen.marker, EITHER, 1, b"a=" + pen.marker
    closing = pen.head(b"Connection: close", LENGTH) + BODY
    yield "marker_after_close", closing + pen.marker, EITHER, 1, BODY
