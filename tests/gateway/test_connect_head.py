"""The head of a CONNECT: one way to write it, and whose key may be in it."""

import string
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.addresses import Host
from gateway.connect_head import (
    HEAD_BYTES_MAX,
    HEADERS_MAX,
    is_named,
    means,
    parse_head,
    parse_place,
)
from gateway.errors import Malformed, MethodNotAllowed, VersionRefused

GOOD = "CONNECT api.stripe.com:443 HTTP/1.1"
BASIC = b64encode(b"user:word").decode()


def head(*lines: str) -> bytes:
    return "\r\n".join((*lines, "", "")).encode("latin-1")


@pytest.mark.parametrize(
    "lines",
    [
        ("CONNECT api.stripe.com:443 HTTP/1.0",),  # requests, urllib3
        (GOOD, "Host: api.stripe.com:443", "Accept: */*"),  # httpx, curl
        (GOOD, "Host: api.stripe.com"),
        ("CONNECT API.Stripe.COM:443 HTTP/1.1", "Host: api.STRIPE.com:443"),
        (GOOD, "Content-Length: 0", "Proxy-Connection: Keep-Alive", "User-Agent: curl/8.1"),
        (GOOD, "X-Empty:", "X-Tab:\ta\tb "),
    ],
)
def test_what_clients_write_is_read(lines: tuple[str, ...]) -> None:
    assert parse_head(head(*lines)).place == Host("api.stripe.com", 443)


@pytest.mark.guards("T-43")
@pytest.mark.parametrize(
    "target",
    [
        *("api.stripe.com", "api.stripe.com:", ":443", "api.stripe.com:0", "api.stripe.com:00443"),
        *("api.stripe.com:65536", "api.stripe.com:443:443", "api.stripe.com:+443"),
        *("user@api.stripe.com:443", "https://api.stripe.com:443", "/", "*", "api.stripe.com:443/"),
        *("api.stripe.com:443?a", "api.stripe.com:443#a", "api.stripe.com\\@evil:443"),
        *("api_stripe.com:443", "api%2estripe.com:443", "api.stripe.com%00:443", "[::1:443"),
        *("::1:443", "[::1%25eth0]:443", "[api.stripe.com]:443", "a" * 254 + ":443"),
    ],
)
def test_a_target_that_is_no_host_and_port_is_refused(target: str) -> None:
    with pytest.raises(Malformed):
        parse_head(head(f"CONNECT {target} HTTP/1.1"))


@pytest.mark.guards("T-43")
@pytest.mark.parametrize(
    "text",
    [
        *("127.1:443", "0x7f.0.0.1:443", "2130706433:443", "0177.0.0.1:443", "127.0.0.1.:443"),
        *("api.stripe.com.:443", ".api.stripe.com:443", "api..stripe.com:443", "[::]:443"),
        *("[0:0:0:0:0:0:0:1]:443", "[::ffff:127.0.0.1]:443", "-api.stripe.com:443"),
    ],
)
def test_another_spelling_of_a_host_is_another_place(text: str) -> None:
    place = parse_place(text)
    known = {Host("127.0.0.1", 443), Host("::1", 443), Host("api.stripe.com", 443)}
    assert place not in known


@pytest.mark.parametrize(
    ("line", "refusal"),
    [
        ("GET http://api.stripe.com/ HTTP/1.1", MethodNotAllowed),
        ("POST api.stripe.com:443 HTTP/1.1", MethodNotAllowed),
        ("CONNECT api.stripe.com:443 HTTP/2.0", VersionRefused),
        ("CONNECT api.stripe.com:443 HTTP/1.2", VersionRefused),
        ("CONNECT api.stripe.com:443", Malformed),
        ("CONNECT  api.stripe.com:443 HTTP/1.1", Malformed),
        ("CONNECT api.stripe.com:443 HTTP/1.1 ", Malformed),
        (" CONNECT api.stripe.com:443 HTTP/1.1", Malformed),
        ("connect api.stripe.com:443 HTTP/1.1", Malformed),
        ("CONNECT\tapi.stripe.com:443 HTTP/1.1", Malformed),
        ("CONNECT api.stripe.com:443 HTTP/1.1\nX: y", Malformed),
        ("CONNECT \u00e9.stripe.com:443 HTTP/1.1", Malformed),
        ("", Malformed),
    ],
)
def test_a_request_line_is_written_in_one_way(line: str, refusal: type[Exception]) -> None:
    with pytest.raises(refusal):
        parse_head(head(line))


@pytest.mark.guards("T-01")
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (("Transfer-Encoding: chunked",), "te"),
        (("transfer-encoding: identity",), "te"),
        (("Content-Length: 5",), "framing"),
        (("Content-Length: 00",), "framing"),
        (("Content-Length: 0, 5",), "framing"),
        (("Expect: 100-continue",), "expect"),
        (("Upgrade: websocket",), "upgrade"),
        (("Trailer: X",), "te"),
        (("Host: evil.example",), "host"),
        (("Host: api.stripe.com:444",), "host"),
        (("Host: api.stripe.com", "Host: api.stripe.com"), "headers"),
        ((f"Proxy-Authorization: Basic {BASIC}",) * 2, "headers"),
        (("X-A: a", " folded"), "headers"),
        (("X-A : a",), "headers"),
        (("X_A: a",), "headers"),
        ((": a",), "headers"),
        (("no colon",), "headers"),
        (("X-A: a\x00b",), "headers"),
        (("X-A: a\nX-B: b",), "headers"),
        (("X-A: a\rX-B: b",), "headers"),
        (("X-A: a",) * (HEADERS_MAX + 1), "headers"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(fields: tuple[str, ...], reason: str) -> None:
    with pytest.raises(Malformed) as refused:
        parse_head(head(GOOD, *fields))
    assert refused.value.reason == reason


def test_a_head_has_an_end_and_a_limit() -> None:
    with pytest.raises(Malformed):
        parse_head(head(GOOD).removesuffix(b"\r\n"))
    fields = [f"X-{n}: {'a' * 1000}" for n in range(17)]
    assert len(head(GOOD, *fields)) > HEAD_BYTES_MAX
    with pytest.raises(Malformed):
        parse_head(head(GOOD, *fields))


@pytest.mark.parametrize(
    ("value", "presented"),
    [
        ("Basic " + b64encode(b"key:").decode(), ("key", "")),
        ("Basic " + b64encode(b"x:key").decode(), ("x", "key")),
        ("basic " + b64encode(b"x:a:b").decode(), ("x", "a:b")),
        ("Bearer abcdefghijklmnopqrstuvwxyz", ("abcdefghijklmnopqrstuvwxyz",)),
        ("Basic !!!!", ()),
        ("Basic " + b64encode(b"\xff\xff:a").decode(), ()),
        ("Basic abcde", ()),
        ("Digest username=a", ()),
        ("", ()),
    ],
)
def test_a_key_may_stand_where_a_url_or_a_header_has_room(
    value: str, presented: tuple[str, ...]
) -> None:
    read = parse_head(head(GOOD, f"Proxy-Authorization: {value}"))
    assert read.presented == presented
    assert "key" not in repr(read)


def test_a_host_header_means_a_place_with_or_without_its_port() -> None:
    assert means("[::1]:443", Host("::1", 443))
    assert means("[::1]", Host("::1", 443))
    assert not means("::1", Host("::1", 443))
    assert not means("127.0.0.1:44", Host("127.0.0.1", 443))
    assert parse_place("[::1]:443") == Host("::1", 443)
    assert not is_named(Host("::1", 443))
    assert is_named(Host("api.stripe.com", 443))


TEXT = st.text(alphabet=string.printable, max_size=60)


@given(st.lists(TEXT, max_size=5), st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(lines: list[str], tail: bytes) -> None:
    """The head that is read has one place, and no byte that is not printable ASCII."""
    raw = head(GOOD, *lines) + tail
    try:
        read = parse_head(raw)
    except Malformed:
        return
    assert read.place == Host("api.stripe.com", 443)
    assert b"\n" not in raw.replace(b"\r\n", b"")
