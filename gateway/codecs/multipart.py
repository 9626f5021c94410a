r"""multipart/form-data (RFC 7578, RFC 2046), each part by its own type, with places. Pure.

A part of text is a field of the part's name. A part of a type that has a codec gives its fields
as `part:name`; any other part, a file, is one field without a text. A part name that could pass
for one of those is quoted as a JSON key is (`["a:b"]`); none has a quote in it.

What two readers could take differently is refused: bytes before the first boundary or after the
last, a boundary that is not a line of its own, a body without its last boundary, lines that do
not end with CRLF, folded headers, a header or a parameter given twice, `filename*`, `_charset_`,
a backslash or an escape in a name, a transfer encoding that would have to be undone.

What never lives here: what the codecs of the parts know, and which parts matter.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.codecs.json import below
from gateway.codecs.splice import Document, Field, Format
from gateway.errors import Malformed

PARTS_MAX: Final = 1000
HEADERS_MAX: Final = 16
HEADER_BYTES_MAX: Final = 4096  # of one part
VALUES_MAX: Final = 100_000
NAME_CHARACTERS_MAX: Final = 100

ReadPart = Callable[[str, bytes], Document | None]
"""Reads the content of a part by its content type, or gives None for a type without a codec."""

_MEDIA_TYPE: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+)")
_PARAMETER: Final = re.compile(
    r"""[ \t]*;[ \t]*([!#$%&'+.^_`|~0-9A-Za-z-]+)=
    (?:"([^"\\\x00-\x1f\x7f]*)"|([!#$%&'*+.^_`|~0-9A-Za-z-]+))""",
    re.VERBOSE,
)
_LAST_SEMICOLON: Final = re.compile(r"[ \t]*;?[ \t]*")
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_ESCAPE: Final = re.compile(r"%[0-9A-Fa-f]{2}|=\?")  # of a browser; of RFC 2047
_TRANSFER_ENCODINGS: Final = frozenset({"binary", "8bit", "7bit"})
_TEXT_CHARSETS: Final = frozenset({"utf-8", "us-ascii"})
_READ: Final = frozenset(
    {
        "content-disposition",
        "content-type",
        "content-transfer-encoding",
        "content-length",
        "content-encoding",
    }
)


# --- header values that have parameters ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class MediaType:
    """A content type: lower case, save the values of its parameters."""

    name: str
    parameters: Mapping[str, str]


def media_type(value: str) -> MediaType | None:
    """Read a Content-Type; None if two readers could differ over it."""
    value = value.strip(" \t")
    found = _MEDIA_TYPE.match(value)
    parameters = None if found is None else _parameters(value[found.end() :])
    if found is None or parameters is None:
        return None
    return MediaType(found[1].lower(), parameters)


def _parameters(raw: str) -> Mapping[str, str] | None:
    parameters: dict[str, str] = {}
    at = 0
    while found := _PARAMETER.match(raw, at):
        name = found[1].lower()
        if name in parameters:
            return None
        parameters[name] = found[2] if found[3] is None else found[3]
        at = found.end()
    return parameters if _LAST_SEMICOLON.fullmatch(raw, at) else None


# --- the body -----------------------------------------------------------------------------


def read(content_type: str, body: bytes, read_part: ReadPart) -> Document:
    """Return the fields of all parts in their order."""
    fields: list[Field] = []
    names: list[str] = []
    inside: dict[str, list[Field]] = defaultdict(list)
    for part in _parts(content_type, body):
        found, repeated = part.fields(body, read_part)
        fields += found
        inside[part.name] += found
        names += (part.name, *repeated, *repeated)
        if len(fields) > VALUES_MAX:
            raise Malformed("multipart_too_large")
    counts = Counter(names)
    for part_name, found in inside.items():
        if counts[part_name] > 1:  # all that stands in it was given twice, at least once elsewhere
            names += (each.name for each in (*found, *found))
    return Document.of(Format.MULTIPART, fields, names)


def _parts(content_type: str, body: bytes) -> Iterator["_Part"]:
    found = media_type(content_type)
    boundary = found.parameters.get("boundary", "") if found else ""
    if not _BOUNDARY.fullmatch(boundary):
        raise Malformed("multipart_boundary")
    delimiter = b"--" + boundary.encode()
    if body.count(delimiter) > PARTS_MAX + 1:
        raise Malformed("multipart_too_large")
    if not body.startswith(delimiter):
        raise Malformed("multipart_preamble")
    at = len(delimiter)
    while (end := body.find(delimiter, at)) >= 0:
        yield _part(body, at, end)
        at = end + len(delimiter)
    if body[at:] not in {b"--", b"--\r\n"}:
        raise Malformed("multipart_end")


@dataclass(frozen=True, slots=True)
class _Part:
    """The headers of one part, and where its content stands."""

    name: str
    is_file: bool
    content_type: str | None
    is_fixed: bool  # its length is written beside it: other bytes would not fit
    start: int
    end: int

    def fields(self, body: bytes, read_part: ReadPart) -> tuple[list[Field], Iterable[str]]:
        """Return the values of this part, and the names that it holds twice."""
        content = body[self.start : self.end]
        document = self._document(content, read_part)
        if document is None:
            return [Field(self.name, self._text(content), self.start, self.end)], ()
        prefix = f"{self.name}:"
        fields = [
            Field(
                prefix + each.name,
                each.text,
                self.start + each.start,
                self.start + each.end,
                each.shape,
            )
            for each in document.fields
        ]
        return fields, [prefix + each for each in document.repeated]

    def _document(self, content: bytes, read_part: ReadPart) -> Document | None:
        if self.content_type is None or self.is_fixed:
            return None
        if not self.is_file:
            return read_part(self.content_type, content)
        try:
            return read_part(self.content_type, content)
        except Malformed:
            return None  # a file may be anything; what it says of itself is not for us to refuse

    def _text(self, content: bytes) -> str | None:
        if self.is_file or self.is_fixed:
            return None
        found = media_type("text/plain" if self.content_type is None else self.content_type)
        charset = found.parameters.get("charset", "utf-8").lower() if found else ""
        if found is None or found.name != "text/plain" or charset not in _TEXT_CHARSETS:
            return None
        try:
            return content.decode("ascii" if charset == "us-ascii" else "utf-8")
        except UnicodeDecodeError:
            return None


def _part(body: bytes, start: int, end: int) -> _Part:
    """Read what stands between two delimiters, their line ends included."""
    head_at = start + len(b"\r\n")
    content_at = body.find(b"\r\n\r\n", head_at, min(end, head_at + HEADER_BYTES_MAX)) + 4
    content_end = end - len(b"\r\n")
    if not (
        body.startswith(b"\r\n", start)
        and body.endswith(b"\r\n", start, end)
        and head_at + 4 < content_at <= content_end
    ):
        raise Malformed("multipart")
    headers = _headers(body[head_at : content_at - 4])
    name, is_file = _disposition(headers.get("content-disposition", ""))
    if headers.get("content-transfer-encoding", "binary").lower() not in _TRANSFER_ENCODINGS:
        raise Malformed("multipart_encoding")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Malformed("multipart_encoding")
    length = headers.get("content-length")
    if length not in {None, str(content_end - content_at)}:
        raise Malformed("multipart_length")
    return _Part(
        name=name,
        is_file=is_file,
        content_type=headers.get("content-type"),
        is_fixed=length is not None,
        start=content_at,
        end=content_end,
    )


def _headers(head: bytes) -> Mapping[str, str]:
    """Return the headers that decide how a part is read; the others must only be well-formed."""
    lines = head.split(b"\r\n")
    if len(lines) > HEADERS_MAX:
        raise Malformed("multipart_too_large")
    headers: dict[str, str] = {}
    for line in lines:
        found = _HEADER.fullmatch(line)
        value = None if found is None else _decoded(found[2])
        if found is None or value is None:
            raise Malformed("multipart_header")
        name = found[1].decode().lower()
        if name in headers and name in _READ:
            raise Malformed("multipart_header_twice")
        headers[name] = value.strip(" \t")
    return headers


def _disposition(value: str) -> tuple[str, bool]:
    """Return a part's name, and whether it is a file."""
    kind, semicolon, rest = value.partition(";")
    parameters = _parameters(semicolon + rest)
    if kind.strip(" \t").lower() != "form-data" or parameters is None:
        raise Malformed("multipart_disposition")
    if "name" not in parameters or parameters.keys() - {"name", "filename"}:
        raise Malformed("multipart_disposition")
    name = parameters["name"]
    if len(name) > NAME_CHARACTERS_MAX:  # it is part of the name of every value in the part
        raise Malformed("multipart_too_large")
    if name == "_charset_" or _ESCAPE.search(name):  # T-10: it would say how the others are read
        raise Malformed("multipart_name")
    if ":" in name:
        name = below("", name)
    return name, "filename" in parameters


def _decoded(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None
