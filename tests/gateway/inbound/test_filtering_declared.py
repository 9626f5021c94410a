"""Declared fields: what becomes a token, what is left, and what is refused."""

import csv
import io
import json
from email.parser import BytesParser
from email.policy import HTTP
from urllib.parse import parse_qsl

import pytest
from lxml import etree

from gateway.errors import BodyUnreadable, CardFieldRefused, UnsupportedMedia
from gateway.inbound.filtering import is_rows, reads
from gateway.inbound.rules import Filter
from tests import cards
from tests.gateway.inbound import filter_requests as asked
from tests.gateway.inbound.filter_requests import FORM, JSON, MULTIPART, XML, done, planned, route
from vault.tokens import token_of

TOKEN = token_of("test", 1)
OTHER = token_of("test", 2)
SPACED = f"{cards.VISA[:4]} {cards.VISA[4:8]} {cards.VISA[8:12]} {cards.VISA[12:]}"
HYPHENED = SPACED.replace(" ", "-")
ESCAPED = "".join(f"\\u00{ord(digit):02x}" for digit in cards.VISA)

number = Filter("number")
whole_card = Filter("number", exp_month="month", exp_year="year", cvc="cvc")


# --- the number ---------------------------------------------------------------------------


@pytest.mark.parametrize("typed", [cards.VISA, SPACED, HYPHENED, f"  {cards.VISA}\t", ESCAPED])
def test_a_number_as_people_type_it_becomes_a_token(typed: str) -> None:
    body = f'{{"number": "{typed}", "b":1}}'.replace("\t", "\\t").encode()
    plan = planned(route(number), JSON, body)
    assert done(plan).body == f'{{"number": "{TOKEN}", "b":1}}'.encode()
    assert [each.card.pan.reveal() for each in plan.cards] == [cards.VISA]
    assert plan.cards[0].card.expiry is None


def test_a_number_in_a_form_may_be_escaped_and_so_may_its_name() -> None:
    body = f"a=%7E&card%5Bnumber%5D={SPACED.replace(' ', '+')}&b=+".encode()
    assert asked.body_of(route(Filter("card[number]")), FORM, body) == (
        f"a=%7E&card%5Bnumber%5D={TOKEN}&b=+".encode()
    )


def test_a_json_number_becomes_a_quoted_token() -> None:
    body = f'{{"number":{cards.VISA} }}'.encode()
    assert json.loads(asked.body_of(route(number), JSON, body)) == {"number": TOKEN}


def test_a_json_number_stays_one_as_a_token_of_digits() -> None:
    body = f'{{"number":{cards.VISA} }}'.encode()
    written = json.loads(asked.body_of(route(Filter("number", format="pan_like")), JSON, body))
    assert isinstance(written["number"], int)
    assert str(written["number"])[-4:] == cards.VISA[-4:]


@pytest.mark.parametrize(
    "value", ['""', "null", '"  "', f'"{TOKEN}"', '"************1111"', '"4111 11XX XXXX 1111"']
)
def test_what_holds_no_number_is_left_byte_for_byte(value: str) -> None:
    body = f'{{"number": {value}}}'.encode()
    plan = planned(route(number), JSON, body)
    assert not plan.cards
    assert done(plan).body is body


@pytest.mark.guards("T-12")
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (f'"{cards.VISA[:-1]}"', "length"),
        (f'"{cards.luhn_broken(cards.VISA[:-1])}"', "luhn"),
        (f'"{SPACED.replace(" ", chr(0xA0))}"', "not_digits"),
        (
            f'"{cards.VISA.translate({each: each + 0xFEE0 for each in range(48, 58)})}"',
            "not_digits",
        ),
        (f'"{cards.VISA}*"', "not_digits"),
        (f'"*{SPACED}*"', "not_digits"),
        (f'"{cards.VISA} {cards.AMEX}"', "length"),
        (f'"{TOKEN}{cards.VISA}"', "not_digits"),
        ("4.242424242424242e15", "not_digits"),
        ("42e999999999999", "not_digits"),
        (f"-{cards.VISA}", "format"),
        ("true", "not_digits"),
        ('"\\ud83d"', "unreadable"),
        (f'["{cards.VISA}"]', "not_a_value"),
        (f'{{"value": {cards.VISA}}}', "not_a_value"),
    ],
)
def test_what_is_no_card_in_a_declared_field_is_refused_without_a_word_of_it(
    value: str, reason: str
) -> None:
    body = f'{{"number": {value}}}'.encode("utf-8", "surrogatepass")
    with pytest.raises(CardFieldRefused) as caught:
        planned(route(number), JSON, body)
    assert (caught.value.field, caught.value.reason) == ("number", reason)
    assert caught.value.__context__ is None
    assert cards.VISA[-4:] not in str(caught.value)


def test_a_value_below_a_declared_one_is_refused_in_every_format() -> None:
    wide = route(Filter("number"), Filter("$.items[*].pan"), Filter("/order/pan"))
    for content_type, body in (
        (FORM, f"number[]={cards.VISA}"),
        (JSON, f'{{"items":[{{"pan":["{cards.VISA}"]}}]}}'),
        (XML, f"<order><pan><v>{cards.VISA}</v></pan></order>"),
        (XML, f"<number><v>{cards.VISA}</v></number>"),
    ):
        with pytest.raises(CardFieldRefused) as caught:
            planned(wide, content_type, body.encode())
        assert caught.value.reason == "not_a_value"


def test_an_attribute_of_the_number_is_none_of_its_value() -> None:
    body = f'<number brand="visa">{cards.VISA}</number>'.encode()
    assert asked.body_of(route(number), XML, body) == (
        f'<number brand="visa">{TOKEN}</number>'.encode()
    )


def test_every_one_of_several_becomes_a_token_of_its_own() -> None:
    body = f'{{"number":"{cards.VISA}","number":"{cards.AMEX}"}}'.encode()
    assert asked.body_of(route(number), JSON, body) == (
        f'{{"number":"{TOKEN}","number":"{OTHER}"}}'.encode()
    )


def test_json_path_refuses_a_key_given_twice() -> None:
    body = f'{{"number":"{cards.VISA}","number":"{cards.AMEX}"}}'.encode()
    with pytest.raises(BodyUnreadable) as caught:
        planned(route(Filter("$.number")), JSON, body)
    assert caught.value.reason == "duplicate_key"


def test_the_first_filter_has_a_field_that_two_declare() -> None:
    body = f'{{"number":"{cards.VISA}"}}'.encode()
    both = route(Filter("number", operation="remove"), Filter("*"))
    assert asked.body_of(both, JSON, body) == b'{"number":""}'


# --- what is tied to it -------------------------------------------------------------------


def test_date_and_code_go_with_their_number_and_the_code_goes_no_further() -> None:
    body = f"number={cards.VISA}&month=9&year=27&cvc=123&x=1".encode()
    plan = planned(route(whole_card), FORM, body)
    card = plan.cards[0].card
    assert card.expiry is not None
    assert card.expiry.text() == "2027-09"
    assert card.cvc is not None
    assert card.cvc.reveal() == "123"
    assert done(plan).body == f"number={TOKEN}&month=9&year=27&cvc=000&x=1".encode()


@pytest.mark.parametrize(
    "typed", ["09/27", "9/27", "09 / 27", "0927", "09/2027", "09-2027", "2027-09"]
)
def test_month_and_year_may_stand_in_one_field(typed: str) -> None:
    body = json.dumps({"number": cards.VISA, "exp": typed}).encode()
    plan = planned(route(Filter("number", expiry="exp")), JSON, body)
    expiry = plan.cards[0].card.expiry
    assert expiry is not None
    assert expiry.text() == "2027-09"


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({"month": "13", "year": "27"}, "month", "range"),
        ({"month": "9", "year": "26"}, "year", "expired"),
        ({"month": "9"}, "year", "missing"),
        ({"year": "27"}, "month", "missing"),
        ({"month": "9", "year": "27", "cvc": "12345"}, "cvc", "length"),
        ({"month": "9", "year": "27", "cvc": "1234"}, "cvc", "length"),
        ({"cvc": "12a"}, "cvc", "not_digits"),
    ],
)
def test_what_is_wrong_beside_a_number_is_refused_by_its_own_name(
    fields: dict[str, str], field: str, reason: str
) -> None:
    body = json.dumps({"number": cards.VISA, **fields}).encode()
    with pytest.raises(CardFieldRefused) as caught:
        planned(route(whole_card), JSON, body)
    assert (caught.value.field, caught.value.reason) == (field, reason)


def test_an_expiry_that_is_written_in_no_known_way_is_refused() -> None:
    body = json.dumps({"number": cards.VISA, "exp": "092027"}).encode()
    with pytest.raises(CardFieldRefused) as caught:
        planned(route(Filter("number", expiry="exp")), JSON, body)
    assert (caught.value.field, caught.value.reason) == ("exp", "format")


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b'{"cvc":"123"}', b'{"cvc":"000"}'),
        (b'{"cvc":1234}', b'{"cvc":"0000"}'),
        (b'{"number":"","cvc":"123"}', b'{"number":"","cvc":"000"}'),
        (b'{"number":null,"cvc":" 123 "}', b'{"number":null,"cvc":"000"}'),
        (b'{"cvc":"no code"}', b'{"cvc":"0000"}'),
        (b'{"cvc":"123","cvc":"456"}', b'{"cvc":"000","cvc":"000"}'),
        (b'{"cvc":""}', b'{"cvc":""}'),
        (
            f'{{"number":"{TOKEN}","cvc":"123"}}'.encode(),
            f'{{"number":"{TOKEN}","cvc":"000"}}'.encode(),
        ),
    ],
)
def test_a_code_never_goes_on_whatever_it_stands_beside(body: bytes, sent: bytes) -> None:
    plan = planned(route(whole_card), JSON, body)
    assert not plan.cards
    assert done(plan).body == sent


def test_wildcards_say_which_date_and_code_belong_to_which_number() -> None:
    declared = Filter("items[*].pan", expiry="items[*].exp", cvc="items[*].cvc")
    body = json.dumps(
        {
            "items": [
                {"cvc": "111", "pan": cards.VISA, "exp": "01/27"},
                {"pan": ""},
                {"exp": "02/27", "pan": cards.AMEX, "cvc": "2222"},
            ]
        }
    ).encode()
    plan = planned(route(declared), JSON, body)
    kept = [(each.card.brand, each.card.cvc, each.card.expiry) for each in plan.cards]
    assert [
        (brand, code and code.reveal(), expiry and expiry.month) for brand, code, expiry in kept
    ] == [("visa", "111", 1), ("amex", "2222", 2)]
    assert [each["cvc"] for each in json.loads(done(plan).body)["items"] if "cvc" in each] == [
        "000",
        "0000",
    ]


def test_what_stands_once_beside_several_numbers_goes_with_each() -> None:
    body = json.dumps({"cards": [cards.VISA, cards.AMEX], "exp": "0127"}).encode()
    plan = planned(route(Filter("cards[*]", expiry="exp")), JSON, body)
    assert [each.card.expiry.month for each in plan.cards if each.card.expiry] == [1, 1]


def test_fields_given_several_times_go_together_in_their_order() -> None:
    body = f"number={cards.VISA}&cvc=111&number={cards.MASTERCARD}&cvc=222".encode()
    plan = planned(route(Filter("number", cvc="cvc")), FORM, body)
    assert [each.card.cvc.reveal() for each in plan.cards if each.card.cvc] == ["111", "222"]


def test_of_two_codes_for_one_number_nobody_guesses() -> None:
    body = f"number={cards.VISA}&cvc=111&cvc=222".encode()
    with pytest.raises(CardFieldRefused) as caught:
        planned(route(Filter("number", cvc="cvc")), FORM, body)
    assert (caught.value.field, caught.value.reason) == ("cvc", "repeated")


def test_number_and_code_may_stand_in_different_parts_of_a_message() -> None:
    declared = Filter("header:X-Card", cvc="url:code", expiry="exp")
    plan = planned(
        route(declared),
        FORM,
        b"exp=01/27",
        query="a=%20&code=123",
        headers=[("x-card", cards.VISA)],
    )
    sent = done(plan)
    assert sent.query == "a=%20&code=000"
    assert dict(sent.headers) == {"Content-Type": FORM, "x-card": TOKEN}
    assert sent.body == b"exp=01/27"
    assert plan.cards[0].card.cvc is not None
    assert plan.cards[0].card.expiry is not None


def test_a_header_is_treated_where_there_is_no_body() -> None:
    declared = Filter("header:X-Card", cvc="cvc")
    sent = done(planned(route(declared), "", b"", headers=[("X-Card", cards.VISA)]))
    assert sent.headers == (("X-Card", TOKEN),)


# --- other operations ---------------------------------------------------------------------


def test_mask_leaves_the_last_four_and_remove_leaves_nothing() -> None:
    declared = (Filter("a", operation="mask"), Filter("b", operation="remove"))
    body = f'{{"a":"{SPACED}","b":{cards.AMEX},"a":"secret","b":["{cards.VISA}"]}}'.encode()
    assert asked.body_of(route(*declared), JSON, body) == (
        f'{{"a":"************{cards.VISA[-4:]}","b":null,"a":"******","b":[""]}}'.encode()
    )


def test_a_header_that_is_removed_is_gone() -> None:
    config = route(Filter("header:X-Track", operation="remove"))
    sent = done(planned(config, "", b"", headers=[("x-track", cards.VISA), ("A", "b")]))
    assert sent.headers == (("A", "b"),)


# --- formats ------------------------------------------------------------------------------


def test_multipart_fields_files_and_what_stands_in_parts() -> None:
    config = route(Filter("number"), Filter("order:card.number"))
    body = asked.multipart(
        ('name="number"', "", SPACED),
        (
            'name="order"',
            "Content-Type: application/json\r\n",
            f'{{"card":{{"number":{cards.VISA}}}}}',
        ),
        ('name="photo"; filename="a.png"', "Content-Type: image/png\r\n", "\x01\x02"),
    )
    sent = asked.body_of(config, MULTIPART, body)
    head = f"Content-Type: {MULTIPART}\r\n\r\n".encode()
    parts = list(BytesParser(policy=HTTP).parsebytes(head + sent).iter_parts())
    assert [part.get_payload(decode=True) for part in parts] == [
        TOKEN.encode(),
        f'{{"card":{{"number":"{OTHER}"}}}}'.encode(),
        b"\x01\x02",
    ]


def test_a_file_in_the_place_of_a_declared_field_is_refused() -> None:
    body = asked.multipart(('name="number"; filename="n"', "", cards.VISA))
    with pytest.raises(CardFieldRefused) as caught:
        planned(route(number), MULTIPART, body)
    assert caught.value.reason == "unreadable"


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        ("Content-Type: text/csv\r\n", "pan;x\r\n4\r\n"),
        ("Content-Type: application/octet-stream\r\n", "pan\r\n4"),
        ("", "pan\r\n4"),
        (f"Content-Type: text/csv\r\nContent-Length: {len('pan')}\r\n", "pan"),
    ],
)
def test_a_file_whose_columns_are_declared_and_cannot_be_read_is_refused(
    headers: str, content: str
) -> None:
    declared = Filter("file:pan[*]")
    named = 'name="file"; filename="f.csv"'
    with pytest.raises(CardFieldRefused) as caught:
        planned(route(declared), MULTIPART, asked.multipart((named, headers, content)))
    assert (caught.value.field, caught.value.reason) == ("file:pan[*]", "unreadable")
    nothing = asked.multipart(('name="file"; filename=""', headers[: headers.find("\n") + 1], ""))
    assert asked.body_of(route(declared), MULTIPART, nothing) == nothing


def test_xml_text_attributes_and_cdata() -> None:
    config = route(Filter("o.pan"), Filter("o.c.@pan"), Filter("/o/d"))
    body = (
        f"<o><pan> {SPACED}\n</pan><c pan='{cards.AMEX}'/><d><![CDATA[{cards.JCB}]]></d>"
        f"<pan>&#x34;{cards.VISA[1:]}</pan></o>"
    ).encode()
    plan = planned(config, XML, body)
    root = etree.fromstring(done(plan).body)
    tokens = asked.tokens_for(plan)
    assert [each.text for each in root.findall("pan")] == tokens[:2]
    assert [each.get("pan") for each in root.findall("c")] == tokens[2:3]
    assert root.findtext("d") == tokens[3]


def test_a_query_is_written_anew_only_where_it_has_to_be() -> None:
    config = route(Filter("url:card[number]"))
    query = f"a=%7e&card%5bnumber%5D={SPACED.replace(' ', '%20')}&&b"
    plan = planned(config, "", b"", query=query)
    assert done(plan).query == f"a=%7e&card%5bnumber%5D={TOKEN}&&b"
    assert dict(parse_qsl(done(plan).query))["card[number]"] == TOKEN


def test_a_query_that_cannot_be_read_is_refused_where_a_field_of_it_is_declared() -> None:
    with pytest.raises(BodyUnreadable):
        planned(route(Filter("url:n")), "", b"", query="%zz=1")
    assert done(planned(route(), "", b"", query="%zz=1")).query == "%zz=1"


# --- what is not read ---------------------------------------------------------------------


@pytest.mark.guards("T-10")
@pytest.mark.parametrize("body", [b'{"number":', b"\xff\xfe{", b"number=1"])
def test_a_body_that_is_not_what_it_says_is_refused(body: bytes) -> None:
    with pytest.raises(BodyUnreadable):
        planned(route(number), JSON, body)


@pytest.mark.guards("T-10")
@pytest.mark.parametrize(
    "content_type", ["text/html", "", f"{JSON}; charset=utf-7", f"{JSON}, {FORM}", "a/b"]
)
def test_a_body_of_a_type_that_no_filter_reads_is_refused(content_type: str) -> None:
    with pytest.raises(UnsupportedMedia):
        planned(route(number), content_type, b"{}")
    passed = planned(route(number, other_content="scan"), content_type, b"{}")
    assert done(passed).body == b"{}"


def test_a_body_of_two_types_is_refused() -> None:
    with pytest.raises(UnsupportedMedia):
        planned(route(number), JSON, b"{}", headers=[("content-type", FORM)])


def test_only_bodies_that_a_filter_is_for_are_read() -> None:
    config = route(Filter("card[number]"), Filter("$.a", content_type="application/json"))
    assert reads(config, "request", FORM)
    assert reads(config, "request", JSON)
    assert not reads(config, "request", "application/vnd.api+json")
    assert not reads(config, "request", XML)
    assert not reads(config, "response", FORM)
    assert not reads(route(Filter("header:X-Card")), "request", FORM)
    assert reads(route(allow=("order",)), "request", JSON)


def test_rows_are_told_from_other_bodies() -> None:
    config = route(Filter("pan"), fixed_width={"pan": (0, 40)})
    assert [is_rows(config, each) for each in (asked.CSV, asked.LINES, "text/plain", JSON)] == [
        "csv",
        "json_lines",
        "fixed_width",
        None,
    ]
    assert is_rows(route(allow=("pan",)), asked.CSV) is None


def test_a_csv_that_comes_whole_is_read_by_its_columns() -> None:
    body = f'id;"Card no";pan\r\n1;"{SPACED}";\r\n'.encode()
    sent = asked.body_of(route(Filter('["Card no"]'), Filter("pan")), asked.CSV, body)
    assert list(csv.reader(io.StringIO(sent.decode()), delimiter=";"))[1] == ["1", TOKEN, ""]


# --- what is said of it -------------------------------------------------------------------


def test_findings_tell_where_and_how_and_hold_no_digits() -> None:
    body = f'{{"number":"{cards.AMEX}"}}'.encode()
    plan = planned(route(number), JSON, body)
    (found,) = plan.findings
    assert (found.place, found.kind, found.brand, found.length) == ("number", "pan", "amex", 15)
    assert (found.action, found.declared) == ("tokenize", True)
    for shown in (repr(plan), repr(plan.cards), repr(plan.edits), repr(done(plan)), repr(found)):
        assert cards.AMEX[-5:] not in shown


def test_a_short_number_gets_no_token_that_looks_like_one() -> None:
    with pytest.raises(CardFieldRefused) as caught:
        planned(
            route(Filter("number", format="pan_like")),
            JSON,
            f'{{"number":"{cards.DINERS}"}}'.encode(),
        )
    assert caught.value.reason == "pan_like_length"
