"""For any message: no card goes on, tokens stand where cards stood, and all else stays."""

import csv
import io
import json
from collections.abc import Mapping
from email.parser import BytesParser
from email.policy import HTTP
from urllib.parse import parse_qsl, urlencode
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from gateway.codecs.splice import Format
from gateway.errors import BodyUnreadable, CardFieldRefused, UndeclaredCard, UnsupportedMedia
from gateway.inbound.filtering import Plan
from gateway.inbound.rules import Filter
from gateway.scan import find_cards
from tests import cards
from tests.gateway.inbound import filter_requests as asked
from tests.gateway.inbound.filter_requests import done, planned, route, rows_of
from vault.tokens import is_token

SETTINGS = settings(max_examples=60, deadline=None)
DECLARED = "number"

_WORDS = (
    st.text(
        st.characters(exclude_categories=["Cs", "Cc", "Nd", "Nl", "No"], exclude_characters="[]:"),
        min_size=1,
        max_size=8,
    )
    .map(str.strip)
    .filter(bool)
)
_NAMES = _WORDS.filter(lambda name: name != DECLARED)
_NUMBERS = st.sampled_from(cards.ALL)
_GROUPED = _NUMBERS.map(lambda each: " ".join(each[at : at + 4] for at in range(0, len(each), 4)))
_HIDDEN = st.tuples(_WORDS, st.one_of(_NUMBERS, _GROUPED), _WORDS).map(" | ".join)
_VALUES = st.one_of(_WORDS, _NUMBERS, _HIDDEN)
_ROWS = st.dictionaries(_NAMES, _VALUES, max_size=5)
_PAIRS = st.tuples(_ROWS, _NUMBERS).map(lambda both: {**both[0], DECLARED: both[1]})

config = route(Filter(DECLARED), undeclared="tokenize")


def _digits(text: str) -> str:
    return "".join(each for each in text if each in "0123456789")


def _expected(text: str, numbers: Mapping[str, list[str]], written: str) -> bool:
    """Whether a value is what it was, a token in the place of its card."""
    card = next((each for each in numbers if each in _digits(text)), None)
    if card is None:
        return text == written
    token = next((each for each in numbers[card] if each in written), None)
    if token is None or not is_token(token, "test"):
        return False
    before, after = written.split(token)
    return text.startswith(before) and text.endswith(after) and _digits(before + after) == ""


def _by_number(plan: Plan) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each, token in zip(plan.cards, asked.tokens_for(plan), strict=True):
        found.setdefault(each.card.pan.reveal(), []).append(token)
    return found


def _check(plan: Plan, sent: Mapping[str, str], was: Mapping[str, str]) -> None:
    numbers = _by_number(plan)
    assert list(sent) == list(was)
    for name, text in was.items():
        assert _expected(text, numbers, sent[name])
    assert is_token(sent[DECLARED], "test")
    assert len(plan.cards) == sum(map(_has_card, was.values()))
    assert not find_cards(done(plan).body).hits


def _has_card(text: str) -> bool:
    return any(each in _digits(text) for each in cards.ALL)


@SETTINGS
@given(_PAIRS)
def test_a_form(fields: dict[str, str]) -> None:
    plan = planned(config, asked.FORM, urlencode(fields).encode())
    _check(plan, dict(parse_qsl(done(plan).body.decode(), keep_blank_values=True)), fields)


@SETTINGS
@given(fields=_PAIRS, in_ascii=st.booleans())
def test_json(fields: dict[str, str], *, in_ascii: bool) -> None:
    plan = planned(config, asked.JSON, json.dumps(fields, ensure_ascii=in_ascii).encode())
    _check(plan, json.loads(done(plan).body), fields)


@SETTINGS
@given(_PAIRS)
def test_json_with_every_character_escaped(fields: dict[str, str]) -> None:
    body = ",".join(f"{_escaped(name)}:{_escaped(text)}" for name, text in fields.items())
    plan = planned(config, asked.JSON, f"{{{body}}}".encode())
    _check(plan, json.loads(done(plan).body), fields)


def _escaped(text: str) -> str:
    units = text.encode("utf-16-be")
    pairs = (units[at : at + 2].hex() for at in range(0, len(units), 2))
    return '"' + "".join(f"\\u{each}" for each in pairs) + '"'


@SETTINGS
@given(st.lists(_VALUES, max_size=5), _NUMBERS)
def test_xml(values: list[str], number: str) -> None:
    fields = {f"f{'x' * at}": text for at, text in enumerate(values)} | {DECLARED: number}
    inside = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in fields.items())
    declared = route(Filter(f"o.{DECLARED}"), undeclared="tokenize")
    plan = planned(declared, asked.XML, f"<o>{inside}</o>".encode())
    root = etree.fromstring(done(plan).body)
    _check(plan, {str(each.tag): each.text or "" for each in root}, fields)


@SETTINGS
@given(st.lists(_VALUES, max_size=5), _NUMBERS)
def test_multipart(values: list[str], number: str) -> None:
    fields = {f"f{'x' * at}": text for at, text in enumerate(values)} | {DECLARED: number}
    body = asked.multipart(*((f'name="{name}"', "", text) for name, text in fields.items()))
    plan = planned(config, asked.MULTIPART, body)
    head = f"Content-Type: {asked.MULTIPART}\r\n\r\n".encode()
    parts = BytesParser(policy=HTTP).parsebytes(head + done(plan).body).iter_parts()
    read = {}
    for part in parts:
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        read[str(part.get_param("name", header="content-disposition"))] = content.decode()
    _check(plan, read, fields)


@SETTINGS
@given(st.lists(_VALUES, max_size=5), _NUMBERS, st.sampled_from(",;\t"))
def test_csv(values: list[str], number: str, separator: str) -> None:
    fields = {f"f{'x' * at}": text for at, text in enumerate(values)} | {DECLARED: number}
    block = io.StringIO()
    writer = csv.writer(block, delimiter=separator, quoting=csv.QUOTE_ALL)
    writer.writerows((fields.keys(), fields.values()))
    plan = rows_of(config, Format.CSV, block.getvalue().encode())
    names, row = csv.reader(io.StringIO(done(plan).body.decode()), delimiter=separator)
    _check(plan, dict(zip(names, row, strict=True)), fields)


@SETTINGS
@given(st.lists(_PAIRS, min_size=1, max_size=4))
def test_json_lines(rows: list[dict[str, str]]) -> None:
    block = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    plan = rows_of(config, Format.JSON_LINES, block)
    numbers = _by_number(plan)
    sent = [json.loads(line) for line in done(plan).body.splitlines()]
    for was, is_now in zip(rows, sent, strict=True):
        assert all(_expected(text, numbers, is_now[name]) for name, text in was.items())
    assert not find_cards(done(plan).body).hits


@SETTINGS
@given(st.dictionaries(_WORDS, _WORDS, max_size=6), st.sampled_from(["report", "mask", "tokenize"]))
def test_what_holds_no_card_is_the_same_object(fields: dict[str, str], undeclared: str) -> None:
    passing = route(Filter("nosuchfield"), undeclared=undeclared)
    query = urlencode(fields)
    for content_type, body in (
        (asked.FORM, query.encode()),
        (asked.JSON, json.dumps(fields, indent=1).encode()),
    ):
        plan = planned(passing, content_type, body, query=query)
        assert done(plan).query is query
        assert done(plan).body is body
        assert not plan.findings


@SETTINGS
@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")),
    ),
    st.sampled_from([asked.FORM, asked.JSON, asked.XML, asked.MULTIPART, asked.CSV, asked.LINES]),
)
def test_any_bytes_are_read_or_refused(body: bytes, content_type: str) -> None:
    whole = route(Filter("*", cvc="cvc"), Filter("o.*"), undeclared="tokenize")
    try:
        plan = planned(whole, content_type, body)
    except (BodyUnreadable, CardFieldRefused, UndeclaredCard, UnsupportedMedia):
        return
    if not plan.edits:
        assert done(plan).body is body


@pytest.mark.parametrize("number", cards.ALL)
def test_every_brand_leaves_and_is_kept(number: str) -> None:
    plan = planned(config, asked.JSON, json.dumps({DECLARED: number, "x": number}).encode())
    assert [each.card.pan.reveal() for each in plan.cards] == [number, number]
    assert {each.card.brand for each in plan.cards} == {cards.BRANDS[number]}
