from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import HTTP

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3.fields import RequestField
from urllib3.filepost import encode_multipart_formdata

from gateway.codecs import bodies, multipart
from gateway.codecs.splice import Document, Format, Replacement, Shape, splice
from gateway.errors import Malformed
from tests.cards import VISA

TOKEN = b"pwt_test_0123456789abcdefghjkmnpqrs00"
TYPE = "multipart/form-data; boundary=b0"


def _document(body: bytes, content_type: str = TYPE) -> Document:
    return bodies.read_as(Format.MULTIPART, content_type, body)


def _read(body: bytes, content_type: str = TYPE) -> list[tuple[str, str | None, bytes]]:
    return [
        (each.name, each.text, body[each.start : each.end])
        for each in _document(body, content_type).fields
        if each.shape is not Shape.KEY
    ]


def _reason(body: bytes, content_type: str = TYPE) -> str | None:
    with pytest.raises(Malformed) as caught:
        _document(body, content_type)
    return caught.value.reason


def _body(*parts: bytes) -> bytes:
    return b"".join(b"--b0\r\n%b\r\n" % part for part in parts) + b"--b0--\r\n"


def _part(name: str, content: bytes, *headers: str, more: str = "") -> bytes:
    lines = (f'Content-Disposition: form-data; name="{name}"{more}', *headers)
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + content


# --- parts --------------------------------------------------------------------------------


def test_a_part_of_text_is_a_field_of_its_name() -> None:
    body = _body(
        _part("card[number]", b"x"),
        _part("empty", b""),
        _part("lines", "ä\r\n\r\n-- b0\n".encode(), "Content-Type: text/plain; charset=UTF-8"),
        b"content-disposition: Form-Data ; name=token\r\nX-Other: 1\r\n\r\ny",
        _part("ascii", b"z", 'content-type: text/plain; charset="us-ascii"'),
    )
    assert _read(body) == [
        ("card[number]", "x", b"x"),
        ("empty", "", b""),
        ("lines", "ä\r\n\r\n-- b0\n", "ä\r\n\r\n-- b0\n".encode()),
        ("token", "y", b"y"),
        ("ascii", "z", b"z"),
    ]
    assert _document(body).format is Format.MULTIPART


def test_a_body_may_have_no_parts() -> None:
    assert _read(b"--b0--\r\n") == _read(b"--b0--") == []


@pytest.mark.parametrize(
    ("content_type", "content", "inside"),
    [
        ("application/x-www-form-urlencoded", b"a[b]=x+y", [("p:a[b]", "x y", b"x+y")]),
        ("application/json", b'{"a":{"b":[1]}}', [("p:a.b[0]", "1", b"1")]),
        ("application/vnd.x+json", b'{"a":"x"}', [("p:a", "x", b"x")]),
        (
            "application/x-ndjson",
            b'{"a":1}\n{"a":2}',
            [("p:[0].a", "1", b"1"), ("p:[1].a", "2", b"2")],
        ),
        ("text/csv", b'a\r\n"x"\r\n', [("p:a[0]", "x", b"x")]),
        ("text/xml", b"<a><b>x</b></a>", [("p:a.b", "x", b"x")]),
    ],
)
def test_a_part_of_a_type_with_a_codec_gives_its_fields(
    content_type: str, content: bytes, inside: list[tuple[str, str, bytes]]
) -> None:
    part = _part("p", content, f"Content-Type: {content_type}")
    assert _read(_body(_part("q", b"1"), part)) == [("q", "1", b"1"), *inside]
    file = _part("p", content, f"Content-Type: {content_type}", more='; filename="ä.x"')
    assert _read(_body(file)) == inside


@pytest.mark.parametrize(
    ("content", "header", "more"),
    [
        (b"x", "Content-Type: image/png", ""),
        (b"x", "Content-Type: text/html", ""),
        (b"x", "Content-Type: text/plain", '; filename="a.txt"'),
        (b"x", "X-Other: none", '; filename=""'),
        (b"x", "Content-Type: text/plain; charset=utf-7", ""),
        (b"x", "Content-Type: text/plain; charset=utf-8; charset=utf-8", ""),
        (b"\xff", "Content-Type: text/plain", ""),
        (b"\xc3\xa4", "Content-Type: text/plain; charset=us-ascii", ""),
        (b'{"a":1}', "Content-Type: application/json; charset=utf-16", ""),
        (b"--x--", "Content-Type: multipart/form-data; boundary=x", ""),
        (b"{", "Content-Type: application/json", '; filename="a.json"'),
        (b"x", "Content-Length: 1", ""),
        (b"[1]", "Content-Type: application/json\r\nContent-Length: 3", ""),
        (b"", "Content-Type:", ""),
    ],
)
def test_any_other_part_has_a_place_and_no_text(content: bytes, header: str, more: str) -> None:
    assert _read(_body(_part("p", content, header, more=more))) == [("p", None, content)]


def test_a_part_that_is_not_what_it_says_makes_the_body_malformed() -> None:
    assert _reason(_body(_part("p", b"{", "Content-Type: application/json"))) == "json"


def test_no_name_of_a_part_passes_for_a_field_within_another() -> None:
    body = _body(
        _part("p", b'{"a":1}', "Content-Type: application/json"),
        _part("p:a", b"2"),
        _part("[", b"3"),
    )
    assert [name for name, *_ in _read(body)] == ["p:a", '["p:a"]', "["]


# --- what is given twice ------------------------------------------------------------------


@pytest.mark.guards("T-10")
def test_a_part_given_twice_is_reported() -> None:
    document = _document(_body(_part("a", b"1"), _part("b", b"2"), _part("a", b"3")))
    assert document.repeats("a")
    assert not document.repeats("b")


@pytest.mark.guards("T-10")
def test_what_stands_in_a_part_given_twice_is_reported_whatever_is_in_the_other() -> None:
    document = _document(
        _body(
            _part("a", b'{"n":"1"}', "Content-Type: application/json"),
            _part("a", b'{"m":"2"}', "Content-Type: application/json"),
            _part("b", b'{"n":"1","m":"1","m":"2"}', "Content-Type: application/json"),
        )
    )
    assert document.repeats("a:n")
    assert document.repeats("a:m")
    assert document.repeats("b:m")
    assert not document.repeats("b:n")


# --- what two readers could take differently ----------------------------------------------

_ONE = _part("a", b"1")
_NAMED = "Content-Disposition: form-data; name=a"


@pytest.mark.guards("T-10")
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "multipart_preamble"),
        (b"preamble\r\n" + _body(_ONE), "multipart_preamble"),
        (b"\r\n" + _body(_ONE), "multipart_preamble"),
        (b"--b0", "multipart_end"),
        (b"--b0\r\n" + _ONE, "multipart_end"),
        (b"--b0\r\n" + _ONE + b"\r\n--b0", "multipart_end"),
        (b"--b0\r\n" + _ONE + b"\r\n--b0\r\n", "multipart_end"),
        (_body(_ONE) + b"epilogue", "multipart_end"),
        (_body(_ONE) + b"\r\n", "multipart_end"),
        (b"--b0--\n", "multipart_end"),
        (_body(_ONE) + _body(_ONE), "multipart"),
        (b"--b0 \r\n" + _ONE + b"\r\n--b0--", "multipart"),
        (b"--b0\n" + _ONE + b"\r\n--b0--", "multipart"),
        (b"--b0\r\n" + _ONE + b"\n--b0--", "multipart"),
        (b"--b0\r\n" + _ONE + b"\r--b0--", "multipart"),
        (b"--b0\r\n" + _ONE + b"--b0--", "multipart"),
        (_body(_part("a", b"1\r\n--b0x")), "multipart"),
        (_body(_part("a", b"1--b0--")), "multipart"),
        (_body(b""), "multipart"),
        (_body(b"\r\n1"), "multipart"),
        (_body(b'Content-Disposition: form-data; name="a"'), "multipart"),
        (_body(b'Content-Disposition: form-data; name="a"\r\n'), "multipart"),
        (_body(b'Content-Disposition: form-data; name="a"\n\n1'), "multipart"),
    ],
)
def test_boundaries_stand_on_lines_of_their_own_with_nothing_around_them(
    body: bytes, reason: str
) -> None:
    assert _reason(body) == reason


@pytest.mark.guards("T-10")
@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ("Content-Type: text/plain", "multipart_disposition"),
        ("Content-Disposition: attachment; name=a", "multipart_disposition"),
        ("Content-Disposition: form-data", "multipart_disposition"),
        ("Content-Disposition: form-data; filename=a", "multipart_disposition"),
        ("Content-Disposition: form-data; name=a; name=a", "multipart_disposition"),
        ("Content-Disposition: form-data; name=a; Name=b", "multipart_disposition"),
        ("Content-Disposition: form-data; name=a; filename*=utf-8''b", "multipart_disposition"),
        ("Content-Disposition: form-data; name*=utf-8''a", "multipart_disposition"),
        ("Content-Disposition: form-data; name=a; size=1", "multipart_disposition"),
        ("Content-Disposition: form-data; name=a b", "multipart_disposition"),
        ("Content-Disposition: form-data; name=a[b]", "multipart_disposition"),
        ('Content-Disposition: form-data; name="a', "multipart_disposition"),
        ('Content-Disposition: form-data; name="a"b', "multipart_disposition"),
        (r'Content-Disposition: form-data; name="a\"b"', "multipart_disposition"),
        (r'Content-Disposition: form-data; name="a"; filename="b\"', "multipart_disposition"),
        ('Content-Disposition: form-data; name="_charset_"', "multipart_name"),
        ('Content-Disposition: form-data; name="a%22"', "multipart_name"),
        ('Content-Disposition: form-data; name="=?utf-8?q?a?="', "multipart_name"),
        ("Content-Disposition: form-data;\r\n name=a", "multipart_header"),
        (f"{_NAMED}\r\nno header", "multipart_header"),
        (f"{_NAMED}\r\nX : 1", "multipart_header"),
        (f"{_NAMED}\nX: 1", "multipart_header"),
        (f"{_NAMED}\rX: 1", "multipart_header"),
        (f"{_NAMED}\x00", "multipart_header"),
        (f"{_NAMED}\r\ncontent-disposition: form-data; name=b", "multipart_header_twice"),
        (f"{_NAMED}\r\nContent-Type: a/b\r\ncontent-type: a/b", "multipart_header_twice"),
        (f"{_NAMED}\r\nContent-Transfer-Encoding: base64", "multipart_encoding"),
        (f"{_NAMED}\r\nContent-Transfer-Encoding: quoted-printable", "multipart_encoding"),
        (f"{_NAMED}\r\nContent-Encoding: gzip", "multipart_encoding"),
        (f"{_NAMED}\r\nContent-Length: 2", "multipart_length"),
        (f"{_NAMED}\r\nContent-Length: 01", "multipart_length"),
    ],
)
def test_headers_that_could_be_read_in_two_ways_are_refused(headers: str, reason: str) -> None:
    assert _reason(_body(headers.encode() + b"\r\n\r\n1")) == reason


def test_headers_are_utf_8() -> None:
    assert (
        _reason(_body(b'Content-Disposition: form-data; name="\xff"\r\n\r\n1'))
        == "multipart_header"
    )


@pytest.mark.parametrize("encoding", ["binary", "8BIT", "7bit"])
def test_a_transfer_encoding_that_changes_nothing_passes(encoding: str) -> None:
    body = _body(_part("a", b"1", f"Content-Transfer-Encoding: {encoding}"))
    assert _read(body) == [("a", "1", b"1")]


@pytest.mark.guards("T-10")
@pytest.mark.parametrize(
    "body",
    [
        _body(*[_ONE] * (multipart.PARTS_MAX + 1)),
        _body(_part("a", b"1", *["X-Other: 1"] * multipart.HEADERS_MAX)),
        _body(
            _part("a", b"[" + b"1," * 60_000 + b"1]", "Content-Type: application/json"),
            _part("b", b"[" + b"1," * 60_000 + b"1]", "Content-Type: application/json"),
        ),
    ],
    ids=["parts", "headers", "values"],
)
def test_parts_headers_and_values_are_limited(body: bytes) -> None:
    assert _reason(body) == "multipart_too_large"


@pytest.mark.guards("T-10")
def test_the_headers_of_a_part_end_before_long() -> None:
    assert len(_read(_body(*[_ONE] * multipart.PARTS_MAX))) == multipart.PARTS_MAX
    assert _reason(_body(_part("a", b"1", "X: " + "x" * multipart.HEADER_BYTES_MAX))) == "multipart"


# --- boundaries ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "boundary"),
    [
        ("b0", "b0"),
        ('"b0"', "b0"),
        ('"b 0=?:/"', "b 0=?:/"),
        ("----WebKitFormBoundary7MA4YWxk", "----WebKitFormBoundary7MA4YWxk"),
        ("b" * 70, "b" * 70),
        ("b0; charset=utf-8", "b0"),
    ],
)
def test_a_boundary_may_be_quoted(written: str, boundary: str) -> None:
    body = _body(_ONE).replace(b"b0", boundary.encode())
    assert _read(body, f"multipart/form-data; boundary={written}") == [("a", "1", b"1")]


@pytest.mark.guards("T-10")
@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        'multipart/form-data; boundary="b0 "',
        "multipart/form-data; boundary=b0; boundary=b1",
        "multipart/form-data; boundary=b0, multipart/form-data; boundary=b1",
        "multipart/form-data; boundary=" + "b" * 71,
        'multipart/form-data; boundary="b\\0"',
        "multipart/form-data; boundary=b=0",
        "multipart/form-data boundary=b0",
        "multipart; boundary=b0",
    ],
)
def test_a_boundary_that_is_doubtful_is_refused(content_type: str) -> None:
    assert _reason(_body(_ONE), content_type) == "multipart_boundary"


# --- properties ---------------------------------------------------------------------------

_NAMES = st.text("ab[]_.", min_size=1, max_size=5)
_CONTENTS = st.binary(max_size=20) | st.text(max_size=10).map(
    lambda text: text.encode("utf-8", "replace")
)


@given(st.lists(st.tuples(_NAMES, _CONTENTS), max_size=6), st.data())
def test_it_reads_what_urllib3_writes_and_the_standard_library_agrees(
    parts: list[tuple[str, bytes]], data: st.DataObject
) -> None:
    fields = [RequestField(name, content) for name, content in parts]
    for field in fields:
        field.make_multipart()
    body, content_type = encode_multipart_formdata(fields, boundary="b0")
    read = _read(body, content_type)
    assert [(name, raw) for name, _, raw in read] == parts
    if not read:
        return
    chosen = data.draw(st.integers(0, len(read) - 1))
    place = _document(body, content_type).fields[chosen]
    changed = splice(body, [Replacement(place.start, place.end, b"0123")])
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + bytes(changed))
    assert isinstance(message, EmailMessage)
    texts = [each.get_payload(decode=True) for each in message.iter_parts()]
    assert texts == [b"0123" if at == chosen else raw for at, (_, raw) in enumerate(parts)]


@given(
    st.binary(max_size=60)
    | st.lists(
        st.sampled_from(
            [
                b"--b0",
                b"\r\n",
                b"--",
                b"\n",
                b'Content-Disposition: form-data; name="a"',
                b"x",
                b": ",
            ]
        ),
        max_size=20,
    ).map(b"".join)
)
def test_any_bytes_are_read_in_order_or_refused(body: bytes) -> None:
    try:
        fields = _document(body).fields
    except Malformed:
        return
    at = 0
    for each in fields:
        assert at <= each.start <= each.end <= len(body)
        at = each.end
    same = [Replacement(each.start, each.end, body[each.start : each.end]) for each in fields]
    assert splice(body, same) == body


def test_a_token_becomes_a_number_and_back() -> None:
    body = _body(
        _part("n", TOKEN),
        _part("j", b'{"pan": "%b"}' % TOKEN, "Content-Type: application/json"),
        _part("c", b'"pan"\n"%b"\n' % TOKEN, "Content-Type: text/csv", more="; filename=a.csv"),
        _part("f", b"\x00\xff", "Content-Type: image/png", more="; filename=a.png"),
    )
    filled = bytes(splice(body, _replaced(body, TOKEN, VISA.encode())))
    assert [text for _, text, _ in _read(filled)] == [VISA, VISA, VISA, None]
    assert splice(filled, _replaced(filled, VISA.encode(), TOKEN)) == body


def _replaced(body: bytes, old: bytes, new: bytes) -> list[Replacement]:
    return [
        Replacement(each.start, each.end, new)
        for each in _document(body).fields
        if body[each.start : each.end] == old
    ]
