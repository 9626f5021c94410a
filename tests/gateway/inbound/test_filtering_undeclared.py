"""Cards where none is declared, by each policy; and rows, answers and pieces of streams."""

import base64
import json
import re

import pytest
from lxml import etree

from gateway.codecs.splice import Format
from gateway.errors import BodyUnreadable, CardFieldRefused, UndeclaredCard
from gateway.inbound.filtering import Plan, plan_raw, plan_reply
from gateway.inbound.rules import Filter, Undeclared
from gateway.scan import Kind, find_cards
from tests import cards
from tests.gateway.inbound import filter_requests as asked
from tests.gateway.inbound.filter_requests import (
    FORM,
    JSON,
    MULTIPART,
    XML,
    done,
    planned,
    route,
    rows_of,
)
from vault.tokens import token_of

TOKEN, OTHER = token_of("test", 1), token_of("test", 2)
SPACED = f"{cards.VISA[:4]} {cards.VISA[4:8]} {cards.VISA[8:12]} {cards.VISA[12:]}"
MASK = f"{'*' * 12}{cards.VISA[-4:]}"
STRICT: tuple[Undeclared, ...] = ("mask", "tokenize", "refuse")

number = Filter("number")


def _clean(message: bytes | str) -> bool:
    raw = message if isinstance(message, bytes) else message.encode()
    return not find_cards(raw).hits


# --- policies -----------------------------------------------------------------------------


def test_report_changes_nothing_and_tells_where() -> None:
    body = f'{{"note":"{SPACED}","n":{cards.AMEX}}}'.encode()
    plan = planned(route(number), JSON, body)
    assert done(plan).body is body
    found = [(each.place, each.brand, each.action, each.declared) for each in plan.findings]
    assert found == [("note", "visa", "report", False), ("n", "amex", "report", False)]


def test_mask_leaves_the_last_four() -> None:
    body = f'{{"note":"a {SPACED} b","n": {cards.VISA} }}'.encode()
    sent = asked.body_of(route(number, undeclared="mask"), JSON, body)
    assert sent == f'{{"note":"a {MASK} b","n": "{MASK}" }}'.encode()


def test_tokenize_stores_a_card_without_a_date() -> None:
    body = f'{{"number":"{cards.AMEX}","note":"a {SPACED} b"}}'.encode()
    plan = planned(route(number, undeclared="tokenize"), JSON, body)
    assert done(plan).body == f'{{"number":"{TOKEN}","note":"a {OTHER} b"}}'.encode()
    card = plan.cards[1].card
    assert (card.pan.reveal(), card.brand, card.expiry, card.cvc) == (
        cards.VISA,
        "visa",
        None,
        None,
    )
    assert plan.cards[1].field == "note"


@pytest.mark.parametrize("name", ["note", "a_9-b", "9" * 9, "a b", cards.VISA, "n" * 101])
def test_refuse_names_the_field_if_its_name_can_be_no_more_than_a_name(name: str) -> None:
    body = json.dumps({name: cards.VISA}).encode()
    with pytest.raises(UndeclaredCard) as caught:
        planned(route(number, undeclared="refuse"), JSON, body)
    assert caught.value.field == (name if name in {"note", "a_9-b"} else "body")
    assert cards.VISA not in str(caught.value)


@pytest.mark.parametrize("undeclared", ["report", *STRICT])
def test_what_lies_within_longer_rows_of_digits_is_never_changed(undeclared: Undeclared) -> None:
    body = f'{{"id":"77{cards.VISA}77"}}'.encode()
    assert done(planned(route(number, undeclared=undeclared), JSON, body)).body is body


# --- places -------------------------------------------------------------------------------


@pytest.mark.guards("T-12")
@pytest.mark.parametrize(
    "value",
    [
        f"{cards.VISA}",
        f"{cards.VISA}.0",
        f"{cards.VISA[0]}.{cards.VISA[1:]}e15",
        f"{cards.VISA[0]}.{cards.VISA[1:]}E+0015",
        f"{cards.VISA}000e-3",
        f"-{cards.VISA}",
    ],
)
def test_a_number_of_json_is_replaced_as_a_whole_by_a_text(value: str) -> None:
    body = f'{{"n":[{value}, 1]}}'.encode()
    sent = asked.body_of(route(number, undeclared="tokenize"), JSON, body)
    assert json.loads(sent) == {"n": [TOKEN, 1]}
    masked = asked.body_of(route(number, undeclared="mask"), JSON, body)
    assert json.loads(masked) == {"n": [MASK, 1]}


@pytest.mark.parametrize("value", ["42e999999999999999999", "1e-99999999999", "4.2e15", "1e11"])
def test_numbers_that_are_no_cards_stay(value: str) -> None:
    body = f'{{"n":{value}}}'.encode()
    assert done(planned(route(number, undeclared="refuse"), JSON, body)).body is body


@pytest.mark.guards("T-12")
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (XML, f"<o><a>{cards.VISA[:4]}<![CDATA[{cards.VISA[4:8]}]]>{cards.VISA[8:]}</a></o>"),
        (XML, f"<o><a>&#000000000052;{cards.VISA[1:]}</a></o>"),
        (XML, f"<o><a x='&#x0000000034;{cards.VISA[1:]} &amp; &lt;&#10;'/></o>"),
        (XML, f"<o><a>&#x0034;{cards.VISA[1:]}&amp;&quot;</a></o>"),
    ],
)
def test_what_only_a_reader_of_the_format_sees_is_found(content_type: str, body: str) -> None:
    config = route(number, undeclared="tokenize")
    sent = asked.body_of(config, content_type, body.encode())
    before, after = etree.fromstring(body.encode()), etree.fromstring(sent)
    assert _texts(after) == [each.replace(cards.VISA, TOKEN) for each in _texts(before)]
    with pytest.raises(UndeclaredCard):
        planned(route(number, undeclared="refuse"), content_type, body.encode())


def _texts(root: etree._Element) -> list[str]:
    return [text for each in root.iter() for text in (each.text or "", *map(str, each.values()))]


def test_names_are_looked_at_as_values_are() -> None:
    config = route(number, undeclared="tokenize")
    assert json.loads(asked.body_of(config, JSON, f'{{"{cards.VISA}":1}}'.encode())) == {TOKEN: 1}
    assert asked.body_of(config, FORM, f"{cards.VISA}=1".encode()) == f"{TOKEN}=1".encode()
    body = asked.multipart((f'name="f"; filename="{cards.VISA}.pdf"', "", "x"))
    assert f'filename="{TOKEN}.pdf"'.encode() in asked.body_of(config, MULTIPART, body)


@pytest.mark.parametrize("undeclared", STRICT)
def test_a_name_of_xml_cannot_be_changed_and_is_refused(undeclared: Undeclared) -> None:
    for body in (f"<o><a{cards.VISA}>1</a{cards.VISA}></o>", f"<o xmlns='u:{cards.VISA}'/>"):
        with pytest.raises(UndeclaredCard):
            planned(route(number, undeclared=undeclared), XML, body.encode())


def test_a_comment_of_xml_is_treated_as_a_text() -> None:
    body = f"<o><!-- {cards.VISA} --><a>1</a></o>".encode()
    sent = asked.body_of(route(number, undeclared="tokenize"), XML, body)
    assert sent == f"<o><!-- {TOKEN} --><a>1</a></o>".encode()


def test_query_headers_and_cookies() -> None:
    config = route(undeclared="tokenize")
    basic = base64.b64encode(f"shop:{cards.JCB}:x".encode()).decode()
    plan = planned(
        config,
        "",
        b"",
        query=f"a=1&q={cards.VISA}&b=%2B",
        headers=[
            ("Cookie", f"a=b; last={cards.AMEX}; c=d"),
            ("Referer", f"https://x.example/?n={cards.VISA}"),
            ("Authorization", f"Basic {basic}"),
            ("ETag", f'"{cards.VISA}"'),
        ],
    )
    sent = done(plan)
    tokens = asked.tokens_for(plan)
    headers = dict(sent.headers)
    assert sent.query == f"a=1&q={tokens[0]}&b=%2B"
    assert headers["Cookie"] == f"a=b; last={tokens[1]}; c=d"
    assert headers["Referer"] == f"https://x.example/?n={tokens[2]}"
    assert base64.b64decode(headers["Authorization"][6:]) == f"shop:{tokens[3]}:x".encode()
    assert headers["ETag"] == f'"{cards.VISA}"'
    assert [each.place for each in plan.findings] == [
        "query",
        "header:cookie",
        "header:referer",
        "header:authorization",
    ]


@pytest.mark.parametrize("undeclared", STRICT)
def test_a_card_in_the_path_or_in_the_name_of_a_header_is_refused(undeclared: Undeclared) -> None:
    config = route(undeclared=undeclared)
    with pytest.raises(UndeclaredCard) as caught:
        planned(config, "", b"", path=f"/cards/{cards.VISA}")
    assert caught.value.field == "path"
    with pytest.raises(UndeclaredCard) as caught:
        planned(config, "", b"", headers=[(f"X-{cards.VISA}", "1")])
    assert caught.value.field == "header"
    assert not planned(
        route(undeclared=undeclared, allow=("path:",)), "", b"", path=f"/orders/{cards.VISA}"
    ).findings


def test_the_boundary_of_a_multipart_body_is_no_data() -> None:
    content_type = f"multipart/form-data; boundary={cards.VISA}"
    body = asked.multipart(('name="a"', "", "b")).replace(b"--cut", cards.VISA.encode())
    plan = planned(route(number, undeclared="tokenize"), content_type, body)
    assert done(plan).body is body
    assert done(plan).headers == (("Content-Type", content_type),)
    assert [(each.place, each.action) for each in plan.findings] == [
        ("header:content-type", "report")
    ]


def test_in_images_only_plain_digits_count_and_their_length_stays() -> None:
    packed = bytes.fromhex(cards.VISA) + b"\xff" + bytes.fromhex(cards.VISA)
    picture = packed.decode("latin-1") + cards.VISA
    body = asked.multipart(
        ('name="photo"; filename="a.jpg"', "Content-Type: image/jpeg\r\n", "@@")
    ).replace(b"@@", picture.encode("latin-1"))
    sent = asked.body_of(route(number, undeclared="tokenize"), MULTIPART, body)
    assert sent == body.replace(cards.VISA.encode(), MASK.encode())


def test_a_part_whose_length_is_told_keeps_it() -> None:
    headers = f"Content-Length: {len(cards.VISA)}\r\n"
    body = asked.multipart(('name="note"', headers, cards.VISA))
    assert asked.body_of(route(number, undeclared="mask"), MULTIPART, body) == body.replace(
        cards.VISA.encode(), MASK.encode()
    )
    with pytest.raises(UndeclaredCard):
        planned(route(number, undeclared="tokenize"), MULTIPART, body)


def test_a_declared_number_takes_nothing_of_its_neighbors() -> None:
    """A tab between two columns is none between two groups of a number."""
    tail = next(
        each for each in map(str, range(100, 1000)) if cards.luhn_sum(cards.VISA + each) % 10 == 0
    )
    block = f"pan\tcode\n{cards.VISA}\t{tail}\n".encode()
    config = route(undeclared="tokenize")
    assert done(rows_of(config, Format.CSV, block)).body == (
        f"pan\tcode\n{TOKEN}\t{tail}\n".encode()
    )


# --- allowed fields -----------------------------------------------------------------------


def test_allowed_fields_are_not_looked_at_and_all_others_are() -> None:
    config = route(
        number, undeclared="tokenize", allow=("order", "url:order", "header:X-Order", "items[*].id")
    )
    body = f'{{"order":"{cards.VISA}","items":[{{"id":{cards.JCB}}}],"x":"{cards.VISA}"}}'.encode()
    plan = planned(
        config, JSON, body, query=f"order={cards.VISA}", headers=[("x-order", cards.VISA)]
    )
    sent = done(plan)
    assert sent.body == body.replace(f'"x":"{cards.VISA}"'.encode(), f'"x":"{TOKEN}"'.encode())
    assert sent.query == f"order={cards.VISA}"
    assert dict(sent.headers)["x-order"] == cards.VISA


def test_a_body_that_only_allowed_fields_would_be_read_for_may_be_anything() -> None:
    config = route(undeclared="tokenize", allow=("order",))
    body = f'{{"order": {cards.VISA}'.encode()
    assert asked.body_of(config, JSON, body) == f'{{"order": {TOKEN}'.encode()


# --- rows ---------------------------------------------------------------------------------


def test_rows_of_csv_are_named_from_the_first() -> None:
    config = route(Filter("pan", expiry="exp"), undeclared="mask")
    block = f"id,pan,exp,note\r\n1,{cards.VISA},01/27,\r\n2,{cards.AMEX},02/27,{SPACED}\r\n"
    plan = rows_of(config, Format.CSV, block.encode(), first_row=500)
    assert [each.field for each in plan.cards] == ["pan[500]", "pan[501]"]
    assert [each.place for each in plan.findings] == ["pan[500]", "pan[501]", "note[501]"]
    tokens = asked.tokens_for(plan)
    assert done(plan).body.decode() == (
        f"id,pan,exp,note\r\n1,{tokens[0]},01/27,\r\n2,{tokens[1]},02/27,{MASK}\r\n"
    )


@pytest.mark.parametrize(
    ("format_", "selector", "block", "field"),
    [
        (Format.CSV, "pan", "id,pan\n1,\n2,4\n", "pan[8]"),
        (Format.CSV, "pan[*]", "id,pan\n1,\n2,4\n", "pan[8]"),
        (Format.CSV, '["Card no"]', "id,Card no\n1,\n2,4\n", '["Card no"][8]'),
        (Format.JSON_LINES, "card.pan", '{}\n{"card":{"pan":"4"}}\n', "[8].card.pan"),
        (Format.JSON_LINES, "[*].card.pan", '{}\n{"card":{"pan":"4"}}\n', "[8].card.pan"),
        (Format.FIXED_WIDTH, "pan", "    \n   4\n", "pan[8]"),
    ],
)
def test_a_row_that_is_refused_is_named(
    format_: Format, selector: str, block: str, field: str
) -> None:
    config = route(Filter(selector), fixed_width={"pan": (0, 4)})
    with pytest.raises(CardFieldRefused) as caught:
        rows_of(config, format_, block.encode(), first_row=7)
    assert (caught.value.field, caught.value.reason) == (field, "length")


def test_json_lines_are_named_by_their_rows() -> None:
    block = f'{{"a":1}}\n{{"card":{{"pan":"{cards.VISA}"}},"x y":"{cards.VISA}"}}\n'.encode()
    config = route(Filter("card.pan"), undeclared="mask")
    plan = rows_of(config, Format.JSON_LINES, block, first_row=3)
    assert [each.place for each in plan.findings] == ["[4].card.pan", "[4]"]
    assert [json.loads(line) for line in done(plan).body.splitlines()] == [
        {"a": 1},
        {"card": {"pan": TOKEN}, "x y": MASK},
    ]


def test_a_header_of_csv_is_looked_at_without_rows_too() -> None:
    plan = rows_of(route(undeclared="mask"), Format.CSV, f"id,{cards.VISA}\n".encode())
    assert done(plan).body == f"id,{MASK}\n".encode()
    assert [each.place for each in plan.findings] == ["body"]


def test_rows_of_fixed_width_keep_it() -> None:
    columns = {"pan": (0, 19), "exp": (19, 23), "note": (23, 43)}
    config = route(
        Filter("pan", expiry="exp", format="pan_like"), undeclared="tokenize", fixed_width=columns
    )
    row = f"{cards.VISA:<19}0127{cards.JCB:>20}\n"
    plan = rows_of(config, Format.FIXED_WIDTH, row.encode())
    sent = done(plan).body.decode()
    tokens = asked.tokens_for(plan)
    assert sent == f"{tokens[0]:<19}0127{tokens[1]:>20}\n"
    masked = route(Filter("pan", operation="mask"), undeclared="mask", fixed_width=columns)
    assert done(rows_of(masked, Format.FIXED_WIDTH, row.encode())).body.decode() == (
        f"{MASK:<19}0127{'*' * 12 + cards.JCB[-4:]:>20}\n"
    )


def test_a_column_too_narrow_for_a_token_is_refused_before_anything_is_stored() -> None:
    config = route(Filter("pan"), fixed_width={"pan": (0, 19)})
    with pytest.raises(CardFieldRefused) as caught:
        rows_of(config, Format.FIXED_WIDTH, f"{cards.VISA:<19}\n".encode())
    assert (caught.value.field, caught.value.reason) == ("pan[0]", "too_narrow")


def test_rows_that_cannot_be_read_are_refused() -> None:
    with pytest.raises(BodyUnreadable):
        rows_of(route(Filter("pan")), Format.CSV, b"a,pan\n1\n")


# --- answers ------------------------------------------------------------------------------


def _reply(plan: Plan) -> bytes:
    return plan.apply((), {TOKEN: MASK}).body


def test_an_answer_is_masked_and_its_tokens_are_shown_as_masks() -> None:
    config = route(
        Filter("token", operation="reveal-masked", phase="response"),
        Filter("secret", operation="remove", phase="response"),
        Filter("pan", operation="mask", phase="response"),
    )
    body = (
        f'{{"token":"{TOKEN}","secret":123,"pan":"{cards.VISA}","x":"{SPACED}","token":"hello"}}'
    ).encode()
    plan = plan_reply(config, JSON, (("X-Echo", cards.VISA), ("A", "b")), body)
    assert plan.tokens == (TOKEN,)
    assert not plan.cards
    assert (
        _reply(plan)
        == (
            f'{{"token":"{MASK}","secret":null,"pan":"{MASK}","x":"{MASK}","token":"hello"}}'
        ).encode()
    )
    assert plan.apply((), {}).headers == (("X-Echo", MASK), ("A", "b"))
    assert [each.place for each in plan.findings if not each.declared] == ["x", "header:x-echo"]


def test_a_token_that_nobody_knows_is_stars() -> None:
    config = route(Filter("token", operation="reveal-masked", phase="response"))
    plan = plan_reply(config, JSON, (), f'{{"token":"{TOKEN}"}}'.encode())
    assert json.loads(plan.apply(()).body) == {"token": "*" * 16}


def test_an_answer_without_a_card_is_the_same_object() -> None:
    headers, body = (("A", "b"),), b'{"a":1}'
    sent = plan_reply(route(), JSON, headers, body).apply(())
    assert sent.body is body
    assert sent.headers is headers


def test_an_answer_may_be_reported_only() -> None:
    body = f'{{"x":"{SPACED}"}}'.encode()
    plan = plan_reply(route(replies="report"), JSON, (), body)
    assert plan.apply(()).body is body
    assert [each.action for each in plan.findings] == ["report"]


# --- pieces of streams --------------------------------------------------------------------


def test_pieces_of_a_stream_are_treated_by_what_was_found() -> None:
    raw = f'data {SPACED}, [{cards.VISA}] {{"n":{cards.VISA}}}'.encode()
    hits = find_cards(raw).hits
    plan = plan_raw("tokenize", raw, hits, "body")
    sent = done(plan).body
    assert _clean(sent)
    assert len(re.findall(b"pwt_test", sent)) == 3
    assert sent.endswith(f'{{"n":"{asked.tokens_for(plan)[2]}"}}'.encode())
    assert plan_raw("report", raw, hits, "body").apply(()).body is raw
    with pytest.raises(UndeclaredCard) as caught:
        plan_raw("refuse", raw, hits, "body")
    assert caught.value.field == "body"
    assert _clean(plan_raw("mask", raw, hits, "reply").apply(()).body)


def test_what_was_not_looked_at_to_its_end_is_refused() -> None:
    body = f"[{','.join([cards.VISA] * 10_001)}]".encode()
    with pytest.raises(UndeclaredCard):
        planned(route(number, undeclared="tokenize"), JSON, body)
    assert done(planned(route(number), JSON, body)).body is body


@pytest.mark.parametrize("undeclared", ["report", *STRICT])
def test_windows_are_only_told_of(undeclared: Undeclared) -> None:
    raw = f"77{cards.VISA}77".encode()
    hits = find_cards(raw, windows=True).hits
    assert {each.kind for each in hits} == {Kind.WINDOW}
    plan = plan_raw(undeclared, raw, hits, "body")
    assert done(plan).body is raw
    assert {each.action for each in plan.findings} == {"report"}


def test_in_a_row_of_fixed_width_no_token_is_as_short_as_a_short_number() -> None:
    config = route(undeclared="tokenize", fixed_width={"note": (0, 20)})
    with pytest.raises(UndeclaredCard) as caught:
        rows_of(config, Format.FIXED_WIDTH, f"{cards.DINERS:<20}\n".encode(), first_row=4)
    assert caught.value.field == "note[4]"
