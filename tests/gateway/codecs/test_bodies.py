import pytest

from gateway.codecs import bodies
from gateway.codecs.splice import Document, Format
from gateway.errors import Malformed


@pytest.mark.parametrize(
    ("content_type", "format_"),
    [
        ("application/x-www-form-urlencoded", Format.FORM),
        ("Application/X-WWW-Form-URLencoded; Charset=UTF-8", Format.FORM),
        ("application/json", Format.JSON),
        (' application/json ; charset="utf-8" ', Format.JSON),
        ("application/json;", Format.JSON),
        ("application/vnd.worldpay.payments-v6+json", Format.JSON),
        ("application/problem+json", Format.JSON),
        ("application/x-ndjson", Format.JSON_LINES),
        ("application/ndjson", Format.JSON_LINES),
        ("application/jsonl", Format.JSON_LINES),
        ("application/json-lines", Format.JSON_LINES),
        ("application/xml", Format.XML),
        ("text/xml; charset=utf-8", Format.XML),
        ('application/soap+xml; charset=utf-8; action="urn:a"', Format.XML),
        ("multipart/form-data; boundary=b0", Format.MULTIPART),
        ("multipart/form-data; boundary=b0; charset=utf-8", Format.MULTIPART),
        ("text/csv", Format.CSV),
        ("text/csv; header=present; charset=utf-8", Format.CSV),
    ],
)
def test_a_content_type_has_a_format(content_type: str, format_: Format) -> None:
    assert bodies.format_of(content_type) is format_


@pytest.mark.guards("T-10")
@pytest.mark.parametrize(
    "content_type",
    [
        "",
        ";",
        "application",
        "application/",
        "/json",
        "application/ json",
        "application/json, application/json",
        "application/json,application/x-www-form-urlencoded",
        "application/json; charset=utf-7",
        "application/json; charset=utf-16",
        "application/json; charset=iso-8859-1",
        "application/json; charset=utf-8; charset=utf-8",
        "application/json; charset=utf-8; Charset=utf-7",
        "application/json; charset='utf-8'",
        "application/json; charset=",
        "application/json; charset",
        "application/json; charset*=utf-8''utf-7",
        "application/json; charset=utf-8 x",
        'application/json; charset="utf-8',
        'application/json; charset="utf\\-8"',
        "application/json charset=utf-7",
        "application/json\r\nX: 1",
        "application/json\x00",
        "application/json; boundary=b0",
        "application/json; x=1",
        "application/x-www-form-urlencoded; boundary=b0",
        "application/\u017fon",
        "text/plain",
        "text/json",
        "text/csv; header=absent",
        "application/octet-stream",
        "application/graphql",
        "application/json-seq",
        "application/x+json+zip",
        "multipart/form-data",
        "multipart/mixed; boundary=b0",
        "multipart/form-data; boundary=b0; boundary=b1",
    ],
)
def test_a_content_type_that_is_doubtful_has_none(content_type: str) -> None:
    assert bodies.format_of(content_type) is None
    with pytest.raises(Malformed) as caught:
        bodies.read_body(content_type, b"")
    assert caught.value.reason == "content_type"


_BODIES = {
    "application/x-www-form-urlencoded": b"a=1",
    "application/json": b'{"a":1}',
    "application/x-ndjson": b'{"a":1}\n',
    "text/xml": b"<a>1</a>",
    "text/csv": b"a\n1\n",
    "multipart/form-data; boundary=b": (
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--b--'
    ),
}


@pytest.mark.parametrize("content_type", _BODIES)
def test_a_body_is_read_by_the_codec_of_its_type(content_type: str) -> None:
    body = _BODIES[content_type]
    document = bodies.read_body(content_type, body)
    assert document.format is bodies.format_of(content_type)
    place = document.fields[-1]
    assert body[place.start : place.end] == b"1"


def test_every_format_has_a_codec() -> None:
    written = {bodies.format_of(content_type): each for content_type, each in _BODIES.items()}
    written[Format.GRAPHQL] = b'{"query":"{ a }"}'
    for format_ in set(Format) - {Format.FIXED_WIDTH}:  # which needs to be told its columns
        document = bodies.read_as(format_, "multipart/form-data; boundary=b", written[format_])
        assert document.format is format_


@pytest.mark.guards("T-11")
@pytest.mark.parametrize("content_type", [each for each in _BODIES if "form-url" not in each])
def test_what_is_not_of_its_type_is_malformed(content_type: str) -> None:
    for body in (b'"', b"\x00", b"\xff\xfea\x00"):
        with pytest.raises(Malformed):
            bodies.read_body(content_type, body)


def test_multipart_within_multipart_is_not_opened() -> None:
    inner = _BODIES["multipart/form-data; boundary=b"]
    head = (
        'Content-Disposition: form-data; name="p"\r\nContent-Type: multipart/form-data; boundary=b'
    )
    body = b"--c\r\n" + head.encode() + b"\r\n\r\n" + inner + b"\r\n--c--"
    document = bodies.read_body("multipart/form-data; boundary=c", body)
    assert _names(document) == [("p", None)]


def _names(document: Document) -> list[tuple[str, str | None]]:
    return [(each.name, each.text) for each in document.fields]
