"""What is passed on in a message, each way: headers alone, without a socket."""

import pytest

from gateway.addresses import Host
from gateway.errors import Malformed, MerchantProtocolError
from gateway.inbound.forwarding import (
    authority_of,
    check_request,
    read_reply_head,
    relocated,
    reply_headers,
    request_headers,
)

PEER = "192.0.2.7"
OK = 200


def sent(
    headers: list[tuple[str, str]],
    *,
    peer: str = PEER,
    trusted: bool = False,
    rewritten: bool = False,
    host_sent: str | None = None,
    source: str | None = None,
) -> list[tuple[str, str]]:
    return request_headers(
        headers,
        host="shop.example",
        peer=peer,
        scheme="https",
        forwarded_trusted=trusted,
        request_id="req_1",
        rewritten=rewritten,
        host_sent=host_sent,
        source=source,
    )


def values(headers: list[tuple[str, str]], name: str) -> list[str]:
    return [value for each, value in headers if each.lower() == name.lower()]


# --- the request --------------------------------------------------------------------------


def test_a_plain_request_gets_what_we_know_of_it() -> None:
    assert sent([("Host", "shop.example"), ("Cookie", "a=1"), ("Accept-Encoding", "br")]) == [
        ("Host", "shop.example"),
        ("Cookie", "a=1"),
        ("X-Forwarded-For", PEER),
        ("Forwarded", f'for={PEER};host="shop.example";proto=https'),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "shop.example"),
        ("X-Real-IP", PEER),
        ("Via", "1.1 panward"),
        ("Accept-Encoding", "identity"),
        ("Panward-Request-Id", "req_1"),
    ]


HOP_BY_HOP = [
    ("Connection", "close, X-Secret ,x_other"),
    ("X-Secret", "1"),
    ("X-Other", "1"),
    ("Keep-Alive", "timeout=5"),
    ("Proxy-Authorization", "Basic Zm9v"),
    ("Proxy-Connection", "close"),
    ("TE", "trailers"),
    ("Trailer", "X-Sum"),
    ("Transfer-Encoding", "chunked"),
    ("Transfer_Encoding", "chunked"),
    ("Upgrade", "h2c"),
    ("HTTP2-Settings", "AAMAAABk"),
    ("Expect", "100-continue"),
    ("Content-Length", "3"),
]


@pytest.mark.guards("T-01")
@pytest.mark.parametrize("header", HOP_BY_HOP, ids=lambda each: each[0])
def test_what_belongs_to_the_clients_connection_stays_behind(header: tuple[str, str]) -> None:
    names = {name.lower() for name, _ in sent([*HOP_BY_HOP, ("X-Kept", "1")])}
    assert header[0].lower() not in names
    assert "x-kept" in names


BELIEVED = [
    ("X-Forwarded-For", "203.0.113.9"),
    ("x_forwarded_for", "203.0.113.9"),
    ("X-Forwarded-Proto", "http"),
    ("X-Forwarded-Host", "evil.example"),
    ("X-Forwarded-Prefix", "/evil"),
    ("X-Real-IP", "203.0.113.9"),
    ("X_Real_IP", "203.0.113.9"),
    ("Forwarded", "for=203.0.113.9"),
    ("CF-Connecting-IP", "203.0.113.9"),
    ("True-Client-IP", "203.0.113.9"),
    ("X-Original-URL", "/admin"),
    ("X-Rewrite-URL", "/admin"),
]


@pytest.mark.guards("T-06")
@pytest.mark.parametrize("header", BELIEVED, ids=lambda each: each[0])
def test_what_a_client_says_of_its_origin_is_not_passed_on(header: tuple[str, str]) -> None:
    assert sent([header]) == sent([])


@pytest.mark.guards("T-06")
def test_connection_cannot_take_away_what_we_add() -> None:
    assert sent([("Connection", "x-forwarded-for, host, via, panward-request-id")]) == sent([])


@pytest.mark.guards("T-06")
def test_behind_a_trusted_proxy_its_words_come_first() -> None:
    headers = sent(BELIEVED, peer="10.0.0.1", trusted=True, source="203.0.113.9")
    assert values(headers, "X-Forwarded-For") == ["203.0.113.9, 10.0.0.1"]
    assert values(headers, "Forwarded") == [
        'for=203.0.113.9, for=10.0.0.1;host="shop.example";proto=https'
    ]
    assert values(headers, "X-Forwarded-Proto") == ["http"]
    assert values(headers, "X-Forwarded-Host") == ["evil.example"]
    assert values(headers, "X-Real-IP") == ["203.0.113.9"]
    assert values(headers, "CF-Connecting-IP") == ["203.0.113.9"]
    assert "x_forwarded_for" not in {name.lower() for name, _ in headers}


def test_a_trusted_proxy_that_tells_little_is_completed() -> None:
    headers = sent(
        [("X-Forwarded-For", "203.0.113.9"), ("x-forwarded-for", "198.51.100.2")],
        peer="2001:db8::1",
        trusted=True,
        source="203.0.113.9",
    )
    assert values(headers, "X-Forwarded-For") == ["203.0.113.9, 198.51.100.2, 2001:db8::1"]
    assert values(headers, "Forwarded") == ['for="[2001:db8::1]";host="shop.example";proto=https']
    assert values(headers, "X-Real-IP") == ["203.0.113.9"]


def test_via_tells_of_every_hop() -> None:
    assert values(sent([("Via", "1.1 a"), ("via", "1.0 b")]), "Via") == [
        "1.1 a, 1.0 b, 1.1 panward"
    ]


def test_the_endpoint_may_get_its_own_name() -> None:
    headers = sent([("Host", "shop.example")], host_sent="app.internal:8443")
    assert headers[0] == ("Host", "app.internal:8443")
    assert values(headers, "X-Forwarded-Host") == ["shop.example"]


def test_of_a_rewritten_body_nothing_is_told_that_was_of_the_old_one() -> None:
    old = [
        ("Content-Encoding", "gzip"),
        ("Content-MD5", "x"),
        ("Digest", "sha-256=x"),
        ("Content-Digest", "sha-256=:x:"),
        ("Repr-Digest", "sha-256=:x:"),
    ]
    assert sent(old, rewritten=True) == sent([])
    assert sent(old) == [*sent([])[:1], *old, *sent([])[1:]]


def test_a_header_given_twice_is_spelled_once() -> None:
    """Of a list of pairs aiohttp keeps the last spelling alone."""
    assert sent([("X-A", "1"), ("x-a", "2")])[1:3] == [("X-A", "1"), ("X-A", "2")]


@pytest.mark.parametrize(
    ("method", "target", "header", "reason"),
    [
        ("CONNECT", "/", ("A", "b"), "method"),
        ("TRACE", "/", ("A", "b"), "method"),
        ("get", "/", ("A", "b"), "method"),
        ("GET / HTTP/1.1\r\nX", "/", ("A", "b"), "method"),
        ("GET", "", ("A", "b"), "target"),
        ("GET", "*", ("A", "b"), "target"),
        ("GET", "http://a/", ("A", "b"), "target"),
        ("GET", "/a b", ("A", "b"), "target"),
        ("GET", "/a#b", ("A", "b"), "target"),
        ("GET", "/\n", ("A", "b"), "target"),
        ("GET", "/é", ("A", "b"), "target"),
        ("GET", "/", ("A", "b\r\nX: y"), "headers"),
        ("GET", "/", ("A", "b\n"), "headers"),
        ("GET", "/", ("A", "\x00"), "headers"),
        ("GET", "/", ("A", "\udce9"), "headers"),
        ("GET", "/", ("A:", "b"), "headers"),
        ("GET", "/", ("", "b"), "headers"),
    ],
)
def test_what_is_not_one_request_is_refused(
    method: str, target: str, header: tuple[str, str], reason: str
) -> None:
    with pytest.raises(Malformed) as refused:
        check_request(method, target, [header])
    assert refused.value.reason == reason


def test_what_is_one_request_passes() -> None:
    check_request("PROPFIND", "//a/%2f/../b;c?d=%00&e[]=?", [("X-Name", "Zoë\tx")])


@pytest.mark.parametrize(
    ("scheme", "host", "authority"),
    [
        ("https", Host("a.example", 443), "a.example"),
        ("https", Host("a.example", 80), "a.example:80"),
        ("http", Host("127.0.0.1", 80), "127.0.0.1"),
        ("http", Host("::1", 8080), "[::1]:8080"),
    ],
)
def test_a_host_is_written_with_the_port_that_its_scheme_has_not(
    scheme: str, host: Host, authority: str
) -> None:
    assert authority_of(scheme, host) == authority


# --- the answer ---------------------------------------------------------------------------


@pytest.mark.guards("T-07")
def test_what_belongs_to_the_merchants_connection_stays_behind() -> None:
    raw = [
        (b"Connection", b"keep-alive, X-Secret"),
        (b"X-Secret", b"1"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Trailer", b"X-Sum"),
        (b"Upgrade", b"h2"),
        (b"Proxy-Authenticate", b"Basic"),
        (b"Alt-Svc", b'h2="origin.example:443"'),
        (b"panward-request-id", b"theirs"),
        (b"Content-Type", b"text/html"),
        (b"Set-Cookie", b"a=1; Path=/"),
        (b"Set-Cookie", b"b=2; Path=/"),
        (b"Content-Length", b"5"),
    ]
    assert reply_headers(raw) == [
        ("Content-Type", "text/html"),
        ("Set-Cookie", "a=1; Path=/"),
        ("Set-Cookie", "b=2; Path=/"),
        ("Content-Length", "5"),
    ]


@pytest.mark.guards("T-07")
@pytest.mark.parametrize("value", [b"a\rb", b"a\nb", b"a\x00b", b"\x1b[0m", b"a\x7f"])
def test_a_value_that_could_end_its_line_is_left_out(value: bytes) -> None:
    assert reply_headers([(b"X-A", value), (b"X-B", b"1")]) == [("X-B", "1")]


def test_text_beyond_ascii_stays_what_it_is() -> None:
    name = 'attachment; filename="zoë.csv"'
    for encoding in ("utf-8", "latin-1"):
        raw = [(b"Content-Disposition", name.encode(encoding))]
        assert reply_headers(raw) == [("Content-Disposition", name)]


@pytest.mark.guards("T-01")
@pytest.mark.parametrize(
    ("version", "raw"),
    [
        ((1, 1), [(b"Content-Length", b"5"), (b"Transfer-Encoding", b"chunked")]),
        ((1, 1), [(b"Content-Length", b"5"), (b"Content-Length", b"5")]),
        ((1, 1), [(b"Content-Length", b"5, 5")]),
        ((1, 1), [(b"Content-Length", b"+5")]),
        ((1, 1), [(b"Transfer-Encoding", b"gzip, chunked")]),
        ((1, 1), [(b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"chunked")]),
        ((1, 0), [(b"Transfer-Encoding", b"chunked")]),
        ((0, 9), []),
        ((2, 0), []),
    ],
)
def test_an_answer_with_two_ends_is_none(
    version: tuple[int, int], raw: list[tuple[bytes, bytes]]
) -> None:
    with pytest.raises(MerchantProtocolError):
        read_reply_head("GET", version, OK, raw)


@pytest.mark.parametrize("status", [0, 99, 101, 103, 600, 999])
def test_a_status_that_ends_nothing_is_none(status: int) -> None:
    with pytest.raises(MerchantProtocolError):
        read_reply_head("GET", (1, 1), status, [])


@pytest.mark.parametrize(
    ("method", "status", "raw", "length", "has_body"),
    [
        ("GET", 200, [(b"Content-Length", b"5")], 5, True),
        ("GET", 206, [(b"Content-Length", b"5")], 5, True),
        ("GET", 200, [(b"Transfer-Encoding", b"Chunked")], None, True),
        ("GET", 200, [], None, True),
        ("HEAD", 200, [(b"Content-Length", b"5")], 5, False),
        ("GET", 304, [(b"Content-Length", b"5")], 5, False),
        ("GET", 204, [(b"Content-Length", b"5")], None, False),
        ("POST", 307, [(b"Content-Length", b"0")], 0, True),
    ],
)
def test_the_length_is_told_and_whether_there_is_a_body(
    method: str, status: int, raw: list[tuple[bytes, bytes]], length: int | None, *, has_body: bool
) -> None:
    head = read_reply_head(method, (1, 1), status, raw)
    assert (head.length, head.has_body) == (length, has_body)
    told = [value for name, value in head.headers if name == "Content-Length"]
    assert told == ([] if length is None else [str(length)])


@pytest.mark.parametrize(
    ("raw", "encoding"),
    [
        ([], ""),
        ([(b"Content-Encoding", b"identity")], ""),
        ([(b"content-encoding", b"gzip")], "gzip"),
        ([(b"Content-Encoding", b"gzip"), (b"Content-Encoding", b"br")], "gzip, br"),
    ],
)
def test_an_encoding_that_nobody_asked_for_is_told(
    raw: list[tuple[bytes, bytes]], encoding: str
) -> None:
    assert read_reply_head("GET", (1, 1), OK, raw).encoding == encoding


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("https://app.internal:8443/a?b#c", "https://shop.example/a?b#c"),
        ("HTTPS://APP.internal:8443", "https://shop.example"),
        ("http://app.internal:8443/a", "https://shop.example/a"),
        ("//app.internal:8443/a", "//shop.example/a"),
        ("/a", "/a"),
        ("a/b", "a/b"),
        ("https://app.internal/a", "https://app.internal/a"),
        ("https://app.internal:9/a", "https://app.internal:9/a"),
        ("https://app.internal:8443.evil.example/a", "https://app.internal:8443.evil.example/a"),
        ("https://x@app.internal:8443/", "https://x@app.internal:8443/"),
        ("https://pay.example/a", "https://pay.example/a"),
    ],
)
def test_an_address_of_the_endpoint_becomes_the_clients(location: str, expected: str) -> None:
    endpoint = Host("app.internal", 8443)
    for name in ("Location", "content-location"):
        headers = [(name, location), ("X-Same", location)]
        changed = relocated(headers, scheme="https", endpoint=endpoint, public="shop.example")
        assert changed == [(name, expected), ("X-Same", location)]


def test_a_default_port_may_be_left_out() -> None:
    for location in ("https://app.internal/a", "https://app.internal:443/a"):
        changed = relocated(
            [("Location", location)],
            scheme="https",
            endpoint=Host("app.internal", 443),
            public="shop.example:8443",
        )
        assert changed == [("Location", "https://shop.example:8443/a")]
