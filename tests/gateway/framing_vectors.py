"""Requests that two servers may read in two ways; none may reach the application."""

from typing import Final

from tests.gateway.raw_client import HOST, JSON, get

MARKER: Final = get(b"/marker")
CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
TOKENS: Final = b"POST /v1/tokens HTTP/1.1\r\n" + HOST + JSON


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


FRAMING: Final = {
    "length and chunks": TOKENS + CHUNKED + b"Content-Length: 4\r\n\r\n0\r\n\r\n",
    "chunks and length": TOKENS + b"Content-Length: 4\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "two lengths": TOKENS + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "two equal lengths": TOKENS + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "length list": TOKENS + b"Content-Length: 2, 2\r\n\r\n{}",
    "signed length": TOKENS + b"Content-Length: +2\r\n\r\n{}",
    "negative length": TOKENS + b"Content-Length: -2\r\n\r\n{}",
    "hex length": TOKENS + b"Content-Length: 0x2\r\n\r\n{}",
    "length with a space": TOKENS + b"Content-Length: 1 2\r\n\r\n{}",
    "huge length": TOKENS + b"Content-Length: 99999999999999999999999\r\n\r\n{}",
    "empty length": TOKENS + b"Content-Length:\r\n\r\n{}",
    "gzip, chunked": TOKENS + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunked(b"{}"),
    "chunked twice": TOKENS + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + chunked(b"{}"),
    "two encodings": TOKENS + CHUNKED + CHUNKED + b"\r\n" + chunked(b"{}"),
    "identity": TOKENS + b"Transfer-Encoding: identity\r\n\r\n{}",
    "xchunked": TOKENS + b"Transfer-Encoding: xchunked\r\n\r\n" + chunked(b"{}"),
    "upper case": TOKENS + b"Transfer-Encoding: CHUNKED\r\n\r\n" + chunked(b"{}"),
    "quoted": TOKENS + b'Transfer-Encoding: "chunked"\r\n\r\n' + chunked(b"{}"),
    "tab before": TOKENS + b"Transfer-Encoding:\x0bchunked\r\n\r\n" + chunked(b"{}"),
    "space before colon": TOKENS + b"Transfer-Encoding : chunked\r\n\r\n" + chunked(b"{}"),
    "parameter": TOKENS + b"Transfer-Encoding: chunked;a=b\r\n\r\n" + chunked(b"{}"),
    "folded": TOKENS + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + chunked(b"{}"),
    "folded header": TOKENS + b"X-A: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
    "bare line feeds": b"POST /v1/tokens HTTP/1.1\nHost: 127.0.0.1\nContent-Length: 0\n\n",
    "bare carriage return": TOKENS + b"X-A: a\rContent-Length: 2\r\n\r\n{}",
    "NUL in a value": TOKENS + b"X-A: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
    "NUL in a name": TOKENS + b"X\x00A: a\r\nContent-Length: 2\r\n\r\n{}",
    "empty name": TOKENS + b": a\r\nContent-Length: 2\r\n\r\n{}",
    "no colon": TOKENS + b"Content-Length\r\n\r\n{}",
    "space in a name": TOKENS + b"Content Length: 2\r\n\r\n{}",
    "underscore": TOKENS + b"Content_Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "underscore in forwarding": TOKENS + b"X_Forwarded_For: 1.1.1.1\r\n\r\n",
    "chunk extension with line feed": TOKENS + CHUNKED + b"\r\n2;\n{}\r\n0\r\n\r\n",
    "chunk size not hex": TOKENS + CHUNKED + b"\r\nzz\r\n{}\r\n0\r\n\r\n",
    "chunk size signed": TOKENS + CHUNKED + b"\r\n+2\r\n{}\r\n0\r\n\r\n",
    "chunk size prefixed": TOKENS + CHUNKED + b"\r\n0x2\r\n{}\r\n0\r\n\r\n",
    "chunk size too long": TOKENS + CHUNKED + b"\r\nffffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    "chunk too short": TOKENS + CHUNKED + b"\r\n1\r\n{}\r\n0\r\n\r\n",
    "chunk ends in line feed": TOKENS + CHUNKED + b"\r\n2\r\n{}\n0\r\n\r\n",
    "chunk size and line feed": TOKENS + CHUNKED + b"\r\n2\n{}\r\n0\r\n\r\n",
    "GET with a body": get(b"/v1/tokens", b"Content-Length: %d\r\n" % len(MARKER)) + MARKER,
    "GET with chunks": get(b"/v1/tokens", CHUNKED) + chunked(MARKER),
    "HEAD with a body": b"HEAD /v1/tokens HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\n{}",
    "DELETE with a body": b"DELETE /v1/tokens/a HTTP/1.1\r\n"
    + HOST
    + b"Content-Length: 2\r\n\r\n{}",
    "no host": b"GET /v1/tokens HTTP/1.1\r\n\r\n",
    "two hosts": get(b"/v1/tokens", HOST),
    "foreign host": b"GET /v1/tokens HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "empty host": b"GET /v1/tokens HTTP/1.1\r\nHost:\r\n\r\n",
    "host with user": b"GET /v1/tokens HTTP/1.1\r\nHost: a@127.0.0.1\r\n\r\n",
    "host with a bad port": b"GET /v1/tokens HTTP/1.1\r\nHost: 127.0.0.1:x\r\n\r\n",
    "absolute form": b"GET http://evil.example/v1/tokens HTTP/1.1\r\n" + HOST + b"\r\n",
    "absolute form of ours": b"GET https://127.0.0.1/v1/tokens HTTP/1.1\r\n" + HOST + b"\r\n",
    "authority form": b"CONNECT 127.0.0.1:443 HTTP/1.1\r\n" + HOST + b"\r\n",
    "asterisk form": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    "relative target": b"GET v1/tokens HTTP/1.1\r\n" + HOST + b"\r\n",
    "space in the target": b"GET /v1 /tokens HTTP/1.1\r\n" + HOST + b"\r\n",
    "lower-case method": b"get /v1/tokens HTTP/1.1\r\n" + HOST + b"\r\n",
    "unknown method": b"STEAL /v1/tokens HTTP/1.1\r\n" + HOST + b"\r\n",
    "long line": get(b"/" + b"a" * 5000),
    "long name": get(b"/v1/tokens", b"X" * 5000 + b": a\r\n"),
    "long value": get(b"/v1/tokens", b"X-A: " + b"a" * 5000 + b"\r\n"),
    "many headers": get(b"/v1/tokens", *(b"X-%d: a\r\n" % n for n in range(65))),
    "upgrade": get(b"/v1/tokens", b"Upgrade: websocket\r\nConnection: Upgrade\r\n"),
    "upgrade to h2c": get(
        b"/v1/tokens", b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    ),
    "upgrade unnamed": get(b"/v1/tokens", b"Connection: keep-alive, uPgRaDe\r\n"),
    "upgrade alone": get(b"/v1/tokens", b"Upgrade: foo\r\n"),
    "TLS on a plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "binary": bytes(range(256)),
}
VERSIONS: Final = {
    "1.0": b"GET /v1/tokens HTTP/1.0\r\n" + HOST + b"\r\n",
    "1.0 with chunks": b"POST /v1/tokens HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n" + chunked(b"{}"),
    "2.0": b"GET /v1/tokens HTTP/2.0\r\n" + HOST + b"\r\n",
    "0.9": b"GET /v1/tokens HTTP/0.9\r\n" + HOST + b"\r\n",
    "1.2": b"GET /v1/tokens HTTP/1.2\r\n" + HOST + b"\r\n",
    "preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "none": b"GET /v1/tokens\r\n\r\n",
    "lower case": b"GET /v1/tokens http/1.1\r\n" + HOST + b"\r\n",
    "two digits": b"GET /v1/tokens HTTP/1.10\r\n" + HOST + b"\r\n",
}
