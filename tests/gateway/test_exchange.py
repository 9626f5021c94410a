"""What may stand in a request and in the head of a reply: rules alone, no connection."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.exchange import (
    MAYBE_SENT,
    Failure,
    NotSent,
    Phase,
    Replied,
    Unknown,
    failure_of_head,
    is_sendable,
    reply_headers,
    request_headers,
)

LENGTH = (b"Content-Length", b"10")
CHUNKED = (b"Transfer-Encoding", b"chunked")


def judge(
    *headers: tuple[bytes, bytes],
    method: str = "POST",
    version: tuple[int, int] = (1, 1),
    status: int = 200,
) -> Failure | None:
    return failure_of_head(method, version, status, headers, body_bytes_max=10)


def test_the_line_is_drawn_by_phases() -> None:
    before = [Phase.CHECK, Phase.QUEUE, Phase.CONNECT, Phase.DNS, Phase.TLS]
    assert [phase for phase in Phase if phase not in MAYBE_SENT] == before


def test_nothing_that_came_in_is_printed() -> None:
    replied = Replied(200, (("X-Echo", "canary"),), b"canary", 1.0, 2.0)
    assert "canary" not in repr(replied)
    assert repr(NotSent(Phase.TLS, Failure.TLS_ERROR))
    assert repr(Unknown(Phase.SENT, Failure.RESET, None))


@pytest.mark.parametrize(
    "headers",
    [
        [LENGTH],
        [(b"content-length", b"0")],
        [CHUNKED],
        [(b"TRANSFER-ENCODING", b" Chunked ")],
        [LENGTH, (b"Content-Encoding", b"identity")],
        [LENGTH, (b"content-encoding", b" Identity ")],
    ],
)
def test_a_head_that_tells_its_end_is_accepted(headers: list[tuple[bytes, bytes]]) -> None:
    assert judge(*headers) is None


@pytest.mark.guards("F-29")
@pytest.mark.parametrize(
    ("headers", "failure"),
    [
        ([], Failure.PROTOCOL_ERROR),
        ([LENGTH, LENGTH], Failure.PROTOCOL_ERROR),
        ([LENGTH, CHUNKED], Failure.PROTOCOL_ERROR),
        ([CHUNKED, CHUNKED], Failure.PROTOCOL_ERROR),
        ([(b"Transfer-Encoding", b"gzip, chunked")], Failure.PROTOCOL_ERROR),
        ([(b"Transfer-Encoding", b"chunked, identity")], Failure.PROTOCOL_ERROR),
        ([(b"Transfer-Encoding", b"identity"), LENGTH], Failure.PROTOCOL_ERROR),
        ([(b"Content-Length", b"")], Failure.PROTOCOL_ERROR),
        ([(b"Content-Length", b"+5")], Failure.PROTOCOL_ERROR),
        ([(b"Content-Length", b"5, 5")], Failure.PROTOCOL_ERROR),
        ([(b"Content-Length", b"0x5")], Failure.PROTOCOL_ERROR),
        ([(b"Content-Length", b"\xb2")], Failure.PROTOCOL_ERROR),
        ([(b"Content-Length", b"5\n")], Failure.PROTOCOL_ERROR),
        ([(b"Content-Length", b"9" * 19)], Failure.PROTOCOL_ERROR),
        ([(b"Content-Length", b"11")], Failure.TOO_LARGE),
        ([(b"Content-Length", b"9" * 18)], Failure.TOO_LARGE),
        ([LENGTH, (b"Content-Encoding", b"gzip")], Failure.PROTOCOL_ERROR),
        ([LENGTH, (b"Content-Encoding", b"identity, gzip")], Failure.PROTOCOL_ERROR),
        ([LENGTH, (b"Content-Encoding", b"")], Failure.PROTOCOL_ERROR),
        (
            [LENGTH, (b"Content-Encoding", b"identity"), (b"content-encoding", b"br")],
            Failure.PROTOCOL_ERROR,
        ),
    ],
)
def test_a_head_that_leaves_its_body_in_doubt_is_refused(
    headers: list[tuple[bytes, bytes]], failure: Failure
) -> None:
    assert judge(*headers) is failure


def test_a_reply_without_a_body_needs_no_length() -> None:
    assert judge(status=204) is None
    assert judge(method="HEAD") is None
    assert judge((b"Content-Length", b"5000"), method="HEAD") is None
    assert judge((b"Content-Encoding", b"gzip"), method="HEAD") is Failure.PROTOCOL_ERROR


@pytest.mark.guards("T-45")
def test_every_redirect_is_refused() -> None:
    assert {judge(LENGTH, status=status) for status in range(300, 400)} == {Failure.REDIRECT}
    assert judge(status=304, method="HEAD") is Failure.REDIRECT


def test_a_status_that_http_does_not_have_is_refused() -> None:
    for status in (0, 100, 101, 103, 199, 600, 999):
        assert judge(LENGTH, status=status) is Failure.PROTOCOL_ERROR
    for status in (200, 299, 400, 499, 500, 599):
        assert judge(LENGTH, status=status) is None


def test_a_version_that_is_not_ours_is_refused() -> None:
    assert judge(LENGTH, version=(1, 0)) is None
    for version in ((0, 9), (1, 2), (2, 0)):
        assert judge(LENGTH, version=version) is Failure.PROTOCOL_ERROR


# --- headers ------------------------------------------------------------------------------


def test_a_request_asks_for_a_body_as_it_is() -> None:
    given_headers = [("accept-encoding", "br"), ("A", "b"), ("HOST", "x"), ("a", "c")]
    assert request_headers(given_headers) == [
        ("A", "b"),
        ("a", "c"),
        ("Accept-Encoding", "identity"),
    ]


@pytest.mark.guards("T-07")
@given(st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=20))))
@example([(b"A", b"b\r\nC: d"), (b"A\r\n", b"b"), (b"A", b"b\x00"), (b"A", b"\xc3\xa9")])
def test_a_kept_header_splits_nothing(raw: list[tuple[bytes, bytes]]) -> None:
    for name, value in reply_headers(raw):
        assert name.isascii()
        assert not set(name) & set("\r\n\0 :")
        assert not any(ord(character) < 32 and character != "\t" for character in value)
        assert (name.encode(), value.encode()) in raw


@pytest.mark.guards("T-07")
def test_what_connection_names_is_dropped() -> None:
    raw = [
        (b"Connection", b"X-One , x-two"),
        (b"connection", b"X-Three"),
        (b"X-One", b"1"),
        (b"X-TWO", b"2"),
        (b"x-three", b"3"),
        (b"X-Four", b"4"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Proxy-Authenticate", b"Basic"),
    ]
    assert reply_headers(raw) == (("X-Four", "4"),)


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_what_is_sendable_is_one_line_each(path: str, query: str, name: str, value: str) -> None:
    if is_sendable("POST", "/" + path, query, [(name, value)]):
        line = f"/{path}?{query}"
        assert line.isascii()
        assert not set(line) & set(" #\r\n\0\t")
        assert line.count("?") == 1 + query.count("?")
        assert not set(name + value) & set("\r\n\0")
