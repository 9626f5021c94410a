"""One HTTP exchange with a processor as values: how far it came, what came of it. Pure.

What lives here: the vocabulary of a send, and what may stand in a request and in the head of a
reply. What never may: connections, clocks, and what a body means.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

RawHeaders = Sequence[tuple[bytes, bytes]]

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_PATH: Final = re.compile(r"/[!\"$->@-~]*")  # visible ASCII up to a `?` or `#`
_QUERY: Final = re.compile(r"[!\"$-~]*")
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2
_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_HOP_BY_HOP: Final = frozenset(  # RFC 9110 7.6.1, and what routes or frames a message
    {
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_OTHERWISE: Final = frozenset(  # another method or path than the one that was judged
    {
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-original-url",
        "x-rewrite-url",
    }
)
_OURS: Final = _HOP_BY_HOP | _OTHERWISE | {"host", "content-length", "accept-encoding"}
_VERSIONS: Final = frozenset({(1, 0), (1, 1)})
_NO_CONTENT: Final = 204


class Phase(StrEnum):
    """How far a send has come."""

    CHECK = "check"
    QUEUE = "queue"
    CONNECT = "connect"
    DNS = "dns"  # a part of connecting
    TLS = "tls"
    SENDING = "sending"  # the first header byte may have been handed to the transport
    SENT = "sent"  # all of the request was
    REPLY = "reply"  # its head has arrived


MAYBE_SENT: Final = frozenset({Phase.SENDING, Phase.SENT, Phase.REPLY})


class Failure(StrEnum):
    """What went wrong: public codes, which tell nothing of the request."""

    REQUEST_INVALID = "request_invalid"
    OVERLOADED = "overloaded"
    DNS = "upstream_dns"
    EGRESS_DENIED = "egress_denied"
    UNREACHABLE = "upstream_unreachable"
    CONNECT_TIMEOUT = "upstream_connect_timeout"
    TLS_ERROR = "upstream_tls_error"
    TIMEOUT = "upstream_timeout"
    RESET = "upstream_reset"
    REDIRECT = "upstream_redirect"
    TOO_LARGE = "upstream_too_large"
    PROTOCOL_ERROR = "upstream_protocol_error"


@dataclass(frozen=True, slots=True)
class Replied:
    """A whole reply, as it came; both times are from the call of `send`."""

    status: int
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)
    first_byte_ms: float
    ms: float


@dataclass(frozen=True, slots=True)
class NotSent:
    """No byte of the request was handed to a transport."""

    phase: Phase
    code: Failure


@dataclass(frozen=True, slots=True)
class Unknown:
    """The request may have arrived, and no whole reply did; `status` is the reply's, if known."""

    phase: Phase
    code: Failure
    status: int | None


Outcome = Replied | NotSent | Unknown


def is_sendable(method: str, path: str, query: str, headers: Sequence[tuple[str, str]]) -> bool:
    """Whether this goes out as it stands, and can be read as one request only."""
    return (
        method in _METHODS
        and _PATH.fullmatch(path) is not None
        and _QUERY.fullmatch(query) is not None
        and all(_NAME.fullmatch(name) and _VALUE.fullmatch(value) for name, value in headers)
    )


def request_headers(headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Leave out what concerns the caller's connection, and ask for a body as it is."""
    kept = [(name, value) for name, value in headers if name.lower() not in _OURS]
    return [*kept, ("Accept-Encoding", "identity")]


def reply_headers(raw: RawHeaders) -> tuple[tuple[str, str], ...]:
    """Keep a reply's own headers with printable values; any other could split an answer."""
    named = b",".join(_values(raw, b"connection")).decode("latin-1")
    dropped = _HOP_BY_HOP.union(option.strip().lower() for option in named.split(","))
    headers = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in raw)
    return tuple(
        (name, value)
        for name, value in headers
        if name.lower() not in dropped and _NAME.fullmatch(name) and _VALUE.fullmatch(value)
    )


def failure_of_head(
    method: str, version: tuple[int, int], status: int, raw: RawHeaders, body_bytes_max: int
) -> Failure | None:
    """Judge a reply by its head, before any of its body is read."""
    if version not in _VERSIONS or not 200 <= status < 600:  # noqa: PLR2004 - RFC 9110 15
        return Failure.PROTOCOL_ERROR
    if 300 <= status < 400:  # noqa: PLR2004 - RFC 9110 15.4
        return Failure.REDIRECT
    if any(coding.strip().lower() != b"identity" for coding in _values(raw, b"content-encoding")):
        return Failure.PROTOCOL_ERROR  # it was asked not to, and nobody downstream can read it
    if method == "HEAD" or status == _NO_CONTENT:
        return None
    return _failure_of_framing(raw, body_bytes_max)


def _failure_of_framing(raw: RawHeaders, body_bytes_max: int) -> Failure | None:
    """Demand that the body's end is told (RFC 9112 6.3): half a reply would look whole."""
    lengths = _values(raw, b"content-length")
    codings = _values(raw, b"transfer-encoding")
    if codings:
        told = not lengths and [coding.strip().lower() for coding in codings] == [b"chunked"]
        return None if told else Failure.PROTOCOL_ERROR
    if len(lengths) != 1 or _LENGTH.fullmatch(lengths[0].decode("latin-1")) is None:
        return Failure.PROTOCOL_ERROR
    return Failure.TOO_LARGE if int(lengths[0]) > body_bytes_max else None


def _values(raw: RawHeaders, wanted: bytes) -> list[bytes]:
    return [value for name, value in raw if name.lower() == wanted]
