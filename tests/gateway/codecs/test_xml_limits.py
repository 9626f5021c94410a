import gc
import pyexpat
from contextlib import suppress

import pytest

from gateway.codecs import xml
from gateway.errors import Malformed


def _refused(body: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        xml.read(body)
    return caught.value.reason or ""


def test_nothing_of_a_body_outlives_its_reading() -> None:
    gc.collect()
    gc.disable()  # what is held by a ring of references would now stay
    try:
        for body in (b"<a b='4242'>4242</a>", b"<a>4242", b"<!DOCTYPE a []><a/>"):
            with suppress(Malformed):
                xml.read(body)
        left = [each for each in gc.get_objects() if isinstance(each, pyexpat.XMLParserType)]
    finally:
        gc.enable()
    assert not left


@pytest.mark.guards("T-18")
def test_depth_is_limited() -> None:
    deepest = b"<a>" * xml.DEPTH_MAX + b"1" + b"</a>" * xml.DEPTH_MAX
    assert [each.text for each in xml.read(deepest).fields] == ["1"]
    for body in (b"<a>" + deepest + b"</a>", b"<a>" * 10_000, b"<a>" * 300_000):
        assert _refused(body) == "xml_too_large"


@pytest.mark.guards("T-18")
def test_the_number_of_values_is_limited() -> None:
    assert _refused(b"<a>" + b"<b/>" * (xml.VALUES_MAX // 2 + 1) + b"</a>") == "xml_too_large"


@pytest.mark.guards("T-18")
def test_the_number_of_attributes_of_an_element_is_limited() -> None:
    most = b"<a %b/>" % b" ".join(b'b%d="1"' % each for each in range(xml.ATTRIBUTES_MAX))
    assert len(xml.read(most).fields) == xml.ATTRIBUTES_MAX + 1
    for name in (b"b%d", b"xmlns:b%d"):
        body = b"<a %b/>" % b" ".join(name % each + b'="1"' for each in range(20_000))
        assert _refused(body) == "xml_too_large"


@pytest.mark.guards("T-18")
def test_long_names_are_not_repeated_for_each_value_in_them() -> None:
    name = b"a" * 1_000
    assert _refused(b"<%b><b/></%b>" % (name, name)) == "xml_too_large"
    assert _refused(b"<%b/>" % name) == "xml_too_large"
    assert _refused((b"<%b>" % name[:20]) * 40 + (b"</%b>" % name[:20]) * 40) == "xml_too_large"


@pytest.mark.guards("T-18")
@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "body",
    [
        b"<a><b %b/>1</a>" % (b" " * 1_000_000),
        b'<a><b c="%b"/>1</a>' % (b"d" * 1_000_000),
        b'<a><b c="%b"/>1</a>' % (b"'=" * 500_000),
        b'<a><b c="1" %b="2"/>1</a>' % (b"d" * 1_000_000),
        b"<a>%b1</a>" % (b"&amp;" * 200_000),
        b"<a><!--%b-->1</a>" % (b"- " * 500_000),
        b"<a>%b1</a>" % (b"<!-- -->" * 100_000),
        b"<a>%b1</a>" % (b"<?b?>" * 100_000),
        b"<a>%b1</a>" % (b"<![CDATA[]]>" * 80_000),
        b"<a>%b1</a>" % (b"\r" * 1_000_000),
    ],
    ids=range(10),
)
def test_no_body_takes_more_than_its_length(body: bytes) -> None:
    assert len(xml.read(body).fields) <= 4


@pytest.mark.guards("T-18")
@pytest.mark.timeout(20)
def test_nor_does_one_of_long_names() -> None:
    assert _refused(b"<a><%b/>1</a>" % (b"b" * 1_000_000)) == "xml_too_large"
