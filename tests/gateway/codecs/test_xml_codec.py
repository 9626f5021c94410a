import pytest

from gateway.codecs import xml
from gateway.codecs.splice import BOM, Replacement, Shape, splice
from gateway.errors import Malformed


def _read(body: bytes) -> list[tuple[str, str | None, bytes]]:
    return [(each.name, each.text, body[each.start : each.end]) for each in xml.read(body).fields]


def _refused(body: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        xml.read(body)
    return caught.value.reason or ""


WORLDPAY = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE paymentService PUBLIC "-//WorldPay//DTD '
    b'WorldPay PaymentService v1//EN" "http://dtd.worldpay.com/paymentService_v1.dtd">\n'
    b'<paymentService version="1.4"><submit><order orderCode="order-1"><paymentDetails>\n'
    b"  <CARD-SSL><cardNumber>number</cardNumber>\n"
    b'  <expiryDate><date month="12" year="2030"/></expiryDate></CARD-SSL>'
    b"</paymentDetails></order></submit></paymentService>"
)
SOAP = (
    b'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Header>{}</s:Header>'
    b"<s:Body><n>number</n></s:Body></s:Envelope>"
)
WS_SECURITY = b"http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"


def test_every_text_and_attribute_has_its_path_and_its_place() -> None:
    card = "paymentService.submit.order.paymentDetails.CARD-SSL"
    document = xml.read(WORLDPAY)
    assert document.roots == ("paymentService",)
    assert _read(WORLDPAY) == [
        ("paymentService.@version", "1.4", b"1.4"),
        ("paymentService.submit.order.@orderCode", "order-1", b"order-1"),
        (f"{card}.cardNumber", "number", b"number"),
        (f"{card}.expiryDate.date.@month", "12", b"12"),
        (f"{card}.expiryDate.date.@year", "2030", b"2030"),
        (f"{card}.expiryDate.date", "", b""),
    ]


def test_the_doctype_and_all_else_stays_when_a_value_is_put_in_place() -> None:
    number = next(each for each in xml.read(WORLDPAY).fields if each.text == "number")
    spliced = splice(WORLDPAY, [Replacement(number.start, number.end, b"0123")])
    assert spliced == WORLDPAY.replace(b">number<", b">0123<")


# --- names --------------------------------------------------------------------------------


def test_siblings_of_one_name_have_an_index_on_each_and_on_what_is_in_them() -> None:
    body = b'<a><b><n>1</n></b><c>2</c><b n="3"><n>4</n></b></a>'
    names = [name for name, *_ in _read(body)]
    assert names == ["a.b[0].n", "a.c", "a.b[1].@n", "a.b[1].n"]


def test_prefixes_are_dropped_and_declarations_are_no_values() -> None:
    body = b'<s:a xmlns:s="u" xmlns="v"><s:b s:c="1">2</s:b><d xml:lang="en">3</d></s:a>'
    assert xml.read(body).roots == ("a",)
    assert [name for name, *_ in _read(body)] == ["a.b.@c", "a.b", "a.d.@lang", "a.d"]


def test_names_of_two_namespaces_count_as_one() -> None:
    body = b'<a xmlns:x="u" xmlns:y="v"><x:n>1</x:n><y:n>2</y:n><m x:k="3" y:k="4" k="5"/></a>'
    names = [name for name, *_ in _read(body)]
    assert names == ["a.n[0]", "a.n[1]", "a.m.@k", "a.m.@k", "a.m.@k", "a.m"]
    assert xml.read(body).repeats("a.m.@k")


def test_no_name_passes_for_a_path() -> None:
    body = '<a><b.c b.d="1">2</b.c><é>3</é><b.c/></a>'.encode()
    names = [name for name, *_ in _read(body)]
    assert names == ['a["b.c"][0]["@b.d"]', 'a["b.c"][0]', 'a["é"]', 'a["b.c"][1]']
    assert [name for name, *_ in _read(b"<a.b>1</a.b>")] == ['["a.b"]']


# --- text ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inside", "text", "place"),
    [
        (b"4&#50;", "42", b"4&#50;"),
        (b"&lt;&#x5F;&amp;&quot;&apos;&gt;", "<_&\"'>", b"&lt;&#x5F;&amp;&quot;&apos;&gt;"),
        (b" \n x ", " \n x ", b" \n x "),
        (b"a\r\nb\rc", "a\nb\nc", b"a\r\nb\rc"),
        ("é\U0001f600".encode(), "é\U0001f600", "é\U0001f600".encode()),
        (b"", "", b""),
        (b" ", " ", b" "),
        (b"<![CDATA[x]]>", "x", b"x"),
        (b"<![CDATA[]]>", "", b""),
        (b"<![CDATA[<b>&amp;]]>", "<b>&amp;", b"<b>&amp;"),
        (b"<![CDATA[]] >]]]>", "]] >]", b"]] >]"),
        (b"x<![CDATA[y]]>", "xy", b"x<![CDATA[y]]>"),
        (b" <![CDATA[y]]>", " y", b" <![CDATA[y]]>"),
        (b"<![CDATA[x]]>y", "xy", b"<![CDATA[x]]>y"),
        (b"<![CDATA[x]]]]><![CDATA[>]]>", "x]]>", b"<![CDATA[x]]]]><![CDATA[>]]>"),
        (b"x<!-- y -->", "x", b"x"),
        (b"<!---->x", "x", b"x"),
        (b"<?y z?>x", "x", b"x"),
        (b"\n<!-- > -->x<?y > ?>\n", "x", b"x"),
        (b"<!-- x --><![CDATA[y]]><!-- z -->", "y", b"y"),
        (b"<!-- x -->", "", b""),
    ],
)
def test_an_element_without_elements_is_one_value(inside: bytes, text: str, place: bytes) -> None:
    body = b"<a><n>" + inside + b"</n ></a>"
    assert _read(body) == [("a.n", text, place)]
    field = xml.read(body).fields[0]
    spliced = bytes(splice(body, [Replacement(field.start, field.end, b"12/2030")]))
    assert [text for _, text, _ in _read(spliced)] == ["12/2030"]


def test_an_empty_tag_has_a_value_that_is_no_text_to_replace() -> None:
    body = b"<a><b/><c /></a>"
    fields = xml.read(body).fields
    assert [(each.name, each.text, each.shape) for each in fields] == [
        ("a.b", "", Shape.WORD),
        ("a.c", "", Shape.WORD),
    ]
    assert [body[each.start :][:2] for each in fields] == [b"/>", b"/>"]


def test_what_stands_outside_of_the_root_is_no_value() -> None:
    body = b'<?xml version="1.0"?>\n<!-- 1 --><?x 2?><a>3</a>\n<!-- 4 --><?x 5?>\n'
    assert _read(body) == [("a", "3", b"3")]


def test_text_beside_elements_is_a_value_for_each_run_of_it() -> None:
    body = b"<a> x <b/>\n<!-- --> <b/>y<c>z</c></a>"
    assert [(name, text) for name, text, _ in _read(body) if text] == [
        ("a", " x "),
        ("a", "y"),
        ("a.c", "z"),
    ]
    assert xml.read(body).repeats("a")


@pytest.mark.guards("T-18")
@pytest.mark.parametrize("cut", [b"<!-- -->", b"<?y z?>", b"\n<!----> <?y?>"])
def test_text_that_is_cut_in_two_is_refused(cut: bytes) -> None:
    assert _refused(b"<a>4242" + cut + b"4242</a>") == "xml_split"
    assert _refused(b"<a><b/>4242" + cut + b"<![CDATA[4242]]></a>") == "xml_split"


# --- attributes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "values"),
    [
        (b' m="12"', [("12", b"12")]),
        (b" m='12' ", [("12", b"12")]),
        (b'\n m\t=\r\n "12"', [("12", b"12")]),
        (b""" m="a>'/>b" n='"'""", [("a>'/>b", b"a>'/>b"), ('"', b'"')]),
        (b' m="&quot;&#49;2" n=""', [('"12', b"&quot;&#49;2"), ("", b"")]),
        (b' m="x=y" n="m=&apos;z&apos;"', [("x=y", b"x=y"), ("m='z'", b"m=&apos;z&apos;")]),
        (b' m="a\tb\nc"', [("a b c", b"a\tb\nc")]),
        (b' xmlns="u" m="1" xmlns:p="m=2" p:m="3"', [("1", b"1"), ("3", b"3")]),
        ('\n\nm="é"'.encode(), [("é", "é".encode())]),
    ],
)
@pytest.mark.parametrize("end", [b"/>", b" />", b"></e>", b"\n></e>"])
def test_attributes_have_places_within_their_quotes(
    attributes: bytes, values: list[tuple[str, bytes]], end: bytes
) -> None:
    body = b"<e" + attributes + end
    found = [each for each in xml.read(body).fields if each.shape is Shape.ATTRIBUTE]
    assert [(each.text, body[each.start : each.end]) for each in found] == values


# --- what is refused ----------------------------------------------------------------------


@pytest.mark.guards("T-18")
@pytest.mark.parametrize(
    "doctype",
    [
        b'<!DOCTYPE a [<!ENTITY n "4242">]>',
        b'<!DOCTYPE a [<!ENTITY n SYSTEM "file:///etc/passwd">]>',
        b'<!DOCTYPE a SYSTEM "http://127.0.0.1/a.dtd" [<!ENTITY % p SYSTEM "b.dtd">%p;]>',
        b'<!DOCTYPE a [<!ENTITY m "mm"><!ENTITY n "&m;&m;&m;&m;&m;&m;&m;&m;&m;&m;">]>',
        b'<!DOCTYPE a [<!ATTLIST a b CDATA "4242">]>',
        b"<!DOCTYPE a []>",
        b'<!DOCTYPE a SYSTEM "a.dtd">',
        b'<!DOCTYPE a PUBLIC "-//A//DTD//EN" "a.dtd">',
        b"",
    ],
)
@pytest.mark.parametrize(
    "body",
    [b"<a>&n;</a>", b'<a b="&n;"/>', b'<a xmlns="&n;"/>', b"<a><b>4&n;4</b></a>"],
)
def test_entities_are_neither_declared_nor_used(doctype: bytes, body: bytes) -> None:
    assert _refused(doctype + body) == "xml_entity"


@pytest.mark.guards("T-18")
def test_a_doctype_with_an_internal_subset_is_refused_without_its_use() -> None:
    assert _refused(b'<!DOCTYPE a [<!ENTITY n "4242">]><a/>') == "xml_entity"
    assert _refused(b"<!DOCTYPE a []><a/>") == "xml_entity"


@pytest.mark.guards("T-18")
def test_a_thousand_million_laughs_are_refused_at_the_first() -> None:
    laughs = b"".join(
        b'<!ENTITY l%d "%s">' % (step, b"&l%d;" % (step - 1) * 10) for step in range(1, 10)
    )
    body = b'<!DOCTYPE a [<!ENTITY l0 "lol">' + laughs + b"]><a>&l9;</a>"
    assert _refused(body) == "xml_entity"


@pytest.mark.guards("T-18")
def test_what_the_doctype_points_to_is_never_fetched() -> None:
    # pytest-socket refuses every address but this host's; here nobody listens, and nobody asks.
    body = b'<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd"><a>1</a>'
    assert _read(body) == [("a", "1", b"1")]


@pytest.mark.parametrize("encoding", ["utf-8", "UTF-8", "us-ascii", "US-ASCII", "ASCII"])
def test_utf_8_and_ascii_are_read(encoding: str) -> None:
    body = f"<?xml version='1.0' encoding='{encoding}' standalone='no'?><a>1</a>".encode()
    assert _read(body) == [("a", "1", b"1")]


@pytest.mark.parametrize("declared", [b"", b"<?xml version='1.0' encoding='utf-8'?>"])
def test_a_byte_order_mark_is_counted_in_the_places(declared: bytes) -> None:
    assert _read(BOM + declared + b'<a b="1"><c>2</c></a>') == [
        ("a.@b", "1", b"1"),
        ("a.c", "2", b"2"),
    ]


@pytest.mark.guards("T-18")
@pytest.mark.parametrize(
    "body",
    [
        "<a>1</a>".encode("utf-16"),
        "<a>1</a>".encode("utf-16-le"),
        "<a>1</a>".encode("utf-16-be"),
        "<a>1</a>".encode("utf-32"),
        '<?xml version="1.0" encoding="UTF-16"?><a>1</a>'.encode("utf-16"),
        b'<?xml version="1.0" encoding="UTF-16"?><a>1</a>',
        b'<?xml version="1.0" encoding="ISO-8859-1"?><a>\xe9</a>',
        b'<?xml version="1.0" encoding="UTF-7"?><a>+ADQ-</a>',
        b'<?xml version="1.0" encoding="utf8"?><a/>',
        b'<?xml version="1.0" encoding="us-ascii"?><a>\xc3\xa9</a>',
        BOM + b'<?xml version="1.0" encoding="us-ascii"?><a/>',
        b"<a>\x00</a>",
    ],
)
def test_other_encodings_are_refused(body: bytes) -> None:
    assert _refused(body) == "xml_encoding"


@pytest.mark.guards("T-18")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"a",
        b"<a>",
        b"<a></b>",
        b"<a/>x",
        b"<a/><a/>",
        b"<a>1",
        b"<a b='1'",
        b"<a b=1/>",
        b"<a b/>",
        b"<a b='1'c='2'/>",
        b"<a b='<'/>",
        b"<a b='1' b='2'/>",
        b"<a xmlns:x='u' xmlns:y='u' x:b='1' y:b='2'/>",
        b"<x:a/>",
        b"<a x:b='1'/>",
        b"<a>]]></a>",
        b"<a><![CDATA[1</a>",
        b"<a><![CDATA[1]]>]]></a>",
        b"<![CDATA[1]]><a/>",
        b"<a><!-- -- --></a>",
        b"<a>&</a>",
        b"<a>&#0;</a>",
        b"<a>&#xD800;</a>",
        b"<a>&#x110000;</a>",
        b"<a>\x01</a>",
        b"<a>\xff</a>",
        b"<a>\xed\xa0\x80</a>",
        b"<a>\xc0\xbc/a>",
        b"<a>\xf4\x90\x80\x80</a>",
        b"<a>\xef\xbf\xbe</a>",
        b"\xff\xfe<a/>",
        b" <?xml version='1.0'?><a/>",
        b"<?xml version='1.1'?><a/>",
        b"<?xml encoding='utf-8'?><a/>",
        b"<a/><?xml version='1.0'?>",
        b"<a>{}</a>".replace(b"{}", b"<?xml version='1.0'?>"),
        b"<!DOCTYPE a><!DOCTYPE a><a/>",
    ],
)
def test_what_is_no_xml_is_refused(body: bytes) -> None:
    assert _refused(body) == "xml"


@pytest.mark.parametrize(
    "body",
    [
        b'<e><ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"/></e>',
        b'<e xmlns:x="http://www.w3.org/2000/09/xmldsig&#35;"><a><x:Signature>1</x:Signature></a></e>',
        b'<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"/>',
        SOAP.replace(b"{}", b"<w:Security xmlns:w='" + WS_SECURITY + b"'/>"),
    ],
)
def test_a_signed_body_is_refused(body: bytes) -> None:
    assert _refused(body) == "xml_signed"


def test_soap_is_read_like_any_other() -> None:
    body = SOAP.replace(b"{}", b"<h>1</h>")
    assert _read(body) == [
        ("Envelope.Header.h", "1", b"1"),
        ("Envelope.Body.n", "number", b"number"),
    ]


def test_what_only_sounds_signed_is_read() -> None:
    body = b'<e xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><Signature>1</Signature></e>'
    assert _read(body) == [("e.Signature", "1", b"1")]
