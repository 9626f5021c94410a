"""What may stand in a message that is passed on, each way. Pure.

What lives here: the headers of a request on its way to the merchant's endpoint, and the head of
its answer: what belongs to one connection stays behind (RFC 9110 7.6.1), and where a request came
from is told by us. What never may: a socket, a body, what is done about cards.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from gateway.addresses import Host
from gateway.errors import Malformed, MerchantProtocolError

Header = tuple[str, str]
RawHeaders = Sequence[tuple[bytes, bytes]]

REQUEST_ID: Final = "Panward-Request-Id"
VIA: Final = "1.1 panward"

_METHOD: Final = re.compile(r"[A-Z][A-Z_-]{0,31}")
_NO_METHODS: Final = frozenset({"CONNECT", "TRACE"})  # TRACE shows a page what we add
_TARGET: Final = re.compile(r"/[!\"$-~]*")  # visible ASCII without `#`
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2
_VALUE: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]*")
_RAW_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_RAW_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_ORIGIN: Final = re.compile(r"(?:(https?):)?//([^/?#]*)(.*)", re.IGNORECASE)
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:@\[\]]+)(?::([0-9]{1,5}))?")
_PORTS: Final = {"https": 443, "http": 80}

_HOP_BY_HOP: Final = frozenset(  # RFC 9110 7.6.1, and what routes or frames a message
    {
        "connection",
        "expect",
        "http2-settings",
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
_CAME_FROM: Final = frozenset(  # what applications believe of their proxy
    {
        "cf-connecting-ip",
        "client-ip",
        "fastly-client-ip",
        "forwarded",
        "true-client-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-original-url",
        "x-real-ip",
        "x-rewrite-url",
    }
)
_FORWARDED: Final = "x-forwarded-"
_NOT_ONWARD: Final = _HOP_BY_HOP | {
    *("accept-encoding", "content-length", "host", "via", REQUEST_ID.lower())  # set anew
}
DIGESTS: Final = frozenset({"content-digest", "content-md5", "digest", "repr-digest"})
_NOT_BACK: Final = _HOP_BY_HOP | {
    "alt-svc",  # RFC 7838: the way around the gateway
    REQUEST_ID.lower(),
}
_NO_CONTENT: Final = 204
_EMPTY: Final = frozenset({_NO_CONTENT, 304})


# --- the request --------------------------------------------------------------------------


def check_request(method: str, target: str, headers: Iterable[Header]) -> None:
    """Make sure that this reads as one request only. Raises Malformed."""
    if _METHOD.fullmatch(method) is None or method in _NO_METHODS:
        raise Malformed("method")
    if _TARGET.fullmatch(target) is None:
        raise Malformed("target")
    for name, value in headers:
        if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise Malformed("headers")


def request_headers(  # noqa: PLR0913 - what is known of a request, named at the call
    headers: Sequence[Header],
    *,
    host: str,
    peer: str,
    scheme: Literal["https", "http"],
    forwarded_trusted: bool,
    request_id: str,
    rewritten: bool,
    host_sent: str | None = None,
    source: str | None = None,
) -> list[Header]:
    """Give what goes to the merchant's endpoint, `Host` first.

    `host` is what the client asked for, `host_sent` the endpoint's own, where its route says so.
    `peer` is at the other end of the connection; only if it is a proxy of the operator's
    (`forwarded_trusted`) what it tells of those before it is kept, and `source` is the client as
    found in that. `rewritten`: the body is another than the client sent, or not compressed now.
    Its checksums go then: over a body of which only the number is unknown, they tell the number.
    """
    options = _options(value for name, value in headers if _plain(name) == "connection")
    dropped = _NOT_ONWARD | options
    if rewritten:
        dropped |= DIGESTS | {"content-encoding"}
    kept = [(name, value) for name, value in headers if _plain(name) not in dropped]
    ours = _forwarding(
        [(name, value) for name, value in kept if forwarded_trusted and _tells_origin(name)],
        host=host,
        peer=peer,
        scheme=scheme,
        source=source or peer,
    )
    return [
        ("Host", host if host_sent is None else host_sent),
        *_spelled_alike((name, value) for name, value in kept if not _tells_origin(name)),
        *_spelled_alike(ours),
        ("Via", ", ".join([*_values(headers, "via"), VIA])),
        ("Accept-Encoding", "identity"),  # a reply is looked at before it is passed on
        (REQUEST_ID, request_id),
    ]


def _forwarding(
    told: Sequence[Header], *, host: str, peer: str, scheme: str, source: str
) -> list[Header]:
    """Tell where the request came from, after what a trusted proxy told."""
    element = f"for={_node(peer)};host={_quoted(host)};proto={scheme}"
    ours = {
        "X-Forwarded-For": ", ".join([*_values(told, "x-forwarded-for"), peer]),
        "Forwarded": ", ".join([*_values(told, "forwarded"), element]),
    }
    first = {"X-Forwarded-Proto": scheme, "X-Forwarded-Host": host, "X-Real-IP": source}
    for name, value in first.items():  # the first proxy knows what the client used
        ours[name] = next(iter(_values(told, name.lower())), value)
    names = {name.lower() for name in ours}
    return [*ours.items(), *((name, value) for name, value in told if _plain(name) not in names)]


def _tells_origin(name: str) -> bool:
    plain = _plain(name)
    return plain in _CAME_FROM or plain.startswith(_FORWARDED)


def _plain(name: str) -> str:
    """Read a name as an application may: CGI and WSGI make one of `-` and `_`."""
    return name.lower().replace("_", "-")


def _options(values: Iterable[str]) -> frozenset[str]:
    return frozenset(_plain(option.strip(" \t")) for line in values for option in line.split(","))


def _values(headers: Iterable[Header], wanted: str) -> list[str]:
    return [value for name, value in headers if name.lower() == wanted]


def _spelled_alike(headers: Iterable[Header]) -> list[Header]:
    """Write each name as it came first: of `A` and `a` aiohttp would lose the former."""
    first: dict[str, str] = {}
    return [(first.setdefault(name.lower(), name), value) for name, value in headers]


def _node(address: str) -> str:
    return f'"[{address}]"' if ":" in address else address  # RFC 7239 6


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def authority_of(scheme: str, host: Host) -> str:
    """Write a host and its port as `Host` has them (RFC 9110 7.2)."""
    name = f"[{host.name}]" if ":" in host.name else host.name
    return name if host.port == _PORTS[scheme] else f"{name}:{host.port}"


# --- the answer ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReplyHead:
    """The head of an answer, as far as it may be passed on."""

    status: int
    headers: tuple[Header, ...] = field(repr=False)
    length: int | None
    """As it was told; also of an answer to HEAD and of a 304, which have no body."""
    has_body: bool
    encoding: str = field(repr=False)
    """What `Content-Encoding` says, although identity was asked for; mostly nothing."""


def read_reply_head(
    method: str, version: tuple[int, int], status: int, raw: RawHeaders
) -> ReplyHead:
    """Judge an answer by its head. Raises MerchantProtocolError.

    A body of an end that is not told ends with the connection (RFC 9112 6.3): old servers do so.
    """
    lengths, codings = _raw_values(raw, b"content-length"), _raw_values(raw, b"transfer-encoding")
    sound = (
        version in {(1, 0), (1, 1)}
        and 200 <= status < 600  # noqa: PLR2004 - RFC 9110 15; 101 was not asked for
        and len(lengths) <= 1
        and all(_LENGTH.fullmatch(length) for length in lengths)
        and (not codings or _is_chunked(version, lengths, codings))
    )
    if not sound:
        raise MerchantProtocolError
    headers = reply_headers(raw)
    if status == _NO_CONTENT:  # RFC 9110 8.6: it has no length
        headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
    encodings = [value.strip(" \t") for value in _values(headers, "content-encoding")]
    return ReplyHead(
        status=status,
        headers=tuple(headers),
        length=int(lengths[0]) if lengths and status != _NO_CONTENT else None,
        has_body=method != "HEAD" and status not in _EMPTY,
        encoding=", ".join(value for value in encodings if value.lower() not in {"", "identity"}),
    )


def _is_chunked(version: tuple[int, int], lengths: list[bytes], codings: list[bytes]) -> bool:
    """With a length as well, or before HTTP/1.1, two readers find two ends (RFC 9112 6.1)."""
    chunked = [coding.strip(b" \t").lower() for coding in codings] == [b"chunked"]
    return chunked and not lengths and version == (1, 1)


def reply_headers(raw: RawHeaders) -> list[Header]:
    """Keep what is for the client; of several `Set-Cookie` each stays one.

    A value that could end its line is left out.
    """
    named = (value.decode("latin-1") for value in _raw_values(raw, b"connection"))
    dropped = _NOT_BACK | _options(named)
    return [
        (name.decode("ascii"), _text(value))
        for name, value in raw
        if _RAW_NAME.fullmatch(name)
        and _RAW_VALUE.fullmatch(value)
        and _plain(name.decode("ascii")) not in dropped
    ]


def relocated(
    headers: Sequence[Header], *, scheme: str, endpoint: Host, public: str
) -> list[Header]:
    """Make `Location` and `Content-Location` name the host that the client called.

    For a route whose endpoint gets its own name as `Host`: it writes that name into them, and
    whoever followed would be past the gateway. Any other address stays as it is.
    """
    own = {authority_of(scheme, endpoint).lower(), _authority(endpoint)}
    wanted = {"location", "content-location"}
    return [
        (name, _relocated(value, own, public) if name.lower() in wanted else value)
        for name, value in headers
    ]


def _relocated(value: str, own: set[str], public: str) -> str:
    found = _ORIGIN.fullmatch(value)
    if found is None:
        return value
    scheme, authority, rest = found.groups()
    read = _AUTHORITY.fullmatch(authority)
    if read is None:
        return value
    with_port = f"{read[1]}:{read[2] or _PORTS[(scheme or 'https').lower()]}".lower()
    if authority.lower() not in own and with_port not in own:
        return value
    return f"{'https:' if scheme else ''}//{public}{rest}"


def _authority(host: Host) -> str:
    return f"{f'[{host.name}]' if ':' in host.name else host.name}:{host.port}"


def _raw_values(raw: RawHeaders, wanted: bytes) -> list[bytes]:
    return [value for name, value in raw if name.lower() == wanted]


def _text(value: bytes) -> str:
    """Read a value that is written as UTF-8 again: bytes that are none change, their text stays."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
