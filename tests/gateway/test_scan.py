import base64
import json
import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import scan
from gateway.scan import Kind, find_cards
from gateway.scan_rows import Work
from tests import cards, encoders, false_positives
from tests.encoders import DECODABLE, ENCODERS, TRACKS, made_numbers

_TOKEN = "pwt_test_0123456789abcdefghjkmnpqrs"
_MADE = made_numbers(200)


def _numbers(body: bytes) -> list[str]:
    return [each.reveal() for hit in find_cards(body).hits for each in hit.numbers]


def _with(body: bytes, pieces: Iterator[bytes]) -> bytes:
    parts, at = [], 0
    for hit in find_cards(body).hits:
        parts += [body[at : hit.start], next(pieces)]
        at = hit.end
    return b"".join((*parts, body[at:]))


# --- recall -------------------------------------------------------------------------------


@pytest.mark.guards("T-12")
def test_declared_encoders_hide_no_number() -> None:
    missed = {
        name: lost
        for name, encode in ENCODERS.items()
        if (lost := sum(_numbers(encode(number)) != [number] for number in _MADE))
    }
    assert len(ENCODERS) >= 40
    assert sum(missed.values()) <= len(ENCODERS) * len(_MADE) // 1000, missed
    assert max(missed.values(), default=0) <= 2, missed


@pytest.mark.parametrize("number", cards.ALL)
def test_published_test_cards_are_found(number: str) -> None:
    [hit] = find_cards(f'{{"a":"{number}"}}'.encode()).hits
    assert hit.brand == cards.BRANDS[number]
    assert (hit.kind, hit.encoding, len(hit.numbers)) == (Kind.PAN, "plain", 1)


@pytest.mark.guards("T-12")
@pytest.mark.parametrize("name", DECODABLE)
def test_who_undoes_the_encoding_reads_the_token(name: str) -> None:
    for number in _MADE[:40]:
        body = ENCODERS[name](number)
        texts = iter([hit.spelled([_TOKEN]) for hit in find_cards(body).hits])
        plain = DECODABLE[name](_with(body, texts))
        assert _TOKEN in plain
        assert number not in re.sub("[^0-9]", "", plain)


@pytest.mark.guards("T-12")
@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("same_length", [False, True])
def test_what_is_masked_is_gone(name: str, *, same_length: bool) -> None:
    for number in _MADE[:40]:
        body = ENCODERS[name](number)
        hits = find_cards(body).hits
        masked = _with(body, iter([hit.masked(same_length=same_length) for hit in hits]))
        assert number not in _numbers(masked)
        assert not same_length or len(masked) == len(body)


@given(st.lists(st.sampled_from(_MADE), max_size=5), st.data())
@settings(max_examples=150, deadline=None)
def test_every_card_of_a_text_becomes_its_own_text(numbers: list[str], data: st.DataObject) -> None:
    names = st.sampled_from([*encoders.PLAIN, *encoders.JSON, *encoders.HTML])
    words = st.sampled_from(["", "a", "order", '","', "=", "\n", "é", "Привет"])
    body = b"".join(
        f"<{data.draw(words)}|".encode() + ENCODERS[data.draw(names)](number) + b"|>"
        for number in numbers
    )
    assert _numbers(body) == numbers
    tokens = [f"pwt_{at}_x" for at in range(len(numbers))]
    rewritten = _with(
        body, iter([h.spelled([t]) for h, t in zip(find_cards(body).hits, tokens, strict=True)])
    )
    assert find_cards(rewritten).hits == ()
    assert [rewritten.count(token.encode()) for token in tokens] == [1] * len(tokens)


def test_a_run_of_base64_with_two_numbers_is_one_hit() -> None:
    two = [cards.VISA, cards.AMEX]
    body = b"x=" + base64.b64encode(json.dumps(two).encode()) + b"&y"
    [hit] = find_cards(body).hits
    assert [each.reveal() for each in hit.numbers] == two
    spelled = body[: hit.start] + hit.spelled(["one", "two"]) + body[hit.end :]
    assert json.loads(base64.b64decode(spelled[2:-2])) == ["one", "two"]


# --- tracks, numbers ----------------------------------------------------------------------


@pytest.mark.guards("T-12")
@pytest.mark.parametrize("name", TRACKS)
def test_all_of_a_track_is_a_hit(name: str) -> None:
    body = TRACKS[name](cards.VISA)
    [hit] = find_cards(b"<" + body + b">").hits
    assert hit.kind in {Kind.TRACK_1, Kind.TRACK_2}
    assert (hit.start, hit.end) == (1, 1 + len(body))
    assert set(hit.masked()) == {ord("*")}


@pytest.mark.parametrize(
    ("text", "is_number"),
    [
        ('{"a":%s}', True),
        ("[1, %s , 2]", True),
        ("%s", True),
        ('{"a":%s.0}', True),
        ('"%s"', False),
        ("a=%s&", False),
        ("<n>%s</n>", False),
    ],
)
def test_a_bare_json_number_is_told(text: str, is_number: bool) -> None:  # noqa: FBT001
    [hit] = find_cards((text % cards.VISA).encode()).hits
    assert hit.is_json_number is is_number
    spelled = (text % cards.VISA).encode()
    if is_number:
        json.loads(spelled[: hit.start] + b'"t"' + spelled[hit.end :])


def test_a_number_that_was_written_as_a_float_is_found() -> None:
    [hit] = find_cards(b'{"n":%s.%se15}' % (cards.VISA[:1].encode(), cards.VISA[1:].encode())).hits
    assert (hit.numbers[0].reveal(), hit.encoding, hit.is_json_number) == (
        cards.VISA,
        "exponent",
        True,
    )


@pytest.mark.parametrize("run", ["99{}00", "0{}", "{}7"])
def test_a_longer_run_of_digits_is_searched_only_when_asked(run: str) -> None:
    body = run.format(cards.VISA_ALT).encode()
    assert find_cards(body).hits == ()
    hits = find_cards(body, windows=True).hits
    assert hits
    assert {hit.kind for hit in hits} == {Kind.WINDOW}


def test_an_image_is_searched_for_plain_digits_alone() -> None:
    plain = b"\xff\x00" + cards.VISA.encode() + b"\x00"
    assert len(find_cards(plain, binary=True).hits) == 1
    for name in ("hex", "base64", "packed", "EBCDIC", "chip"):
        assert find_cards(ENCODERS[name](cards.VISA), binary=True).hits == ()


def test_a_hit_prints_nothing() -> None:
    found = find_cards(f"n {cards.VISA}".encode())
    assert cards.VISA[-4:] not in repr(found) + repr(found.hits) + str(found.hits[0])


# --- what is no card ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        cards.luhn_broken(cards.VISA[:-1]),
        "1700000000 1700000000000 1700000000000000 1700000000000000000",
        "9" * 16,
        cards.VISA * 2,
        f"0.{cards.VISA_ALT}",
        f'"12345678-1234-1234-{cards.VISA[:4]}-{cards.VISA[4:]}"',
        "2024-01-02 2024-01-03 12:30:45",
        f"pwt_test_{'4' * 10}abc",
        f"{cards.VISA[:6]}******{cards.VISA[-4:]}",
        f"{cards.VISA[:12]}x{cards.VISA[12:]}",
    ],
)
def test_other_numbers_are_no_cards(text: str) -> None:
    assert find_cards(text.encode()).hits == ()


@pytest.mark.parametrize("name", false_positives.CLASSES)
def test_ids_of_a_class_are_rarely_taken_for_cards(name: str) -> None:
    share = false_positives.share_found(name, 4000)
    assert share <= false_positives.SHARE_MAX[name]


# --- any bytes ----------------------------------------------------------------------------

_PIECES = st.sampled_from(
    [
        b"4111",
        b" ",
        b"%",
        b"%25",
        b"%3",
        b"\\u003",
        b"&#5",
        b";",
        b"=",
        b"\x00",
        b"MTEx",
        b"34",
        b"-",
        b"\xff",
        b"\xef\xbc\x94",
        b"Z\x08",
        b"^",
        b"1",
        b"\n",
        b"e15",
        b".",
    ]
)


@given(st.one_of(st.binary(max_size=300), st.lists(_PIECES, max_size=60).map(b"".join)))
@settings(max_examples=400, deadline=None)
def test_any_bytes_are_read_without_an_error(body: bytes) -> None:
    for windows, binary in ((False, False), (True, False), (True, True)):
        found = find_cards(body, windows=windows, binary=binary)
        at = 0
        for hit in found.hits:
            assert at <= hit.start < hit.end <= len(body)
            assert hit.numbers
            assert len(hit.masked(same_length=True)) == hit.end - hit.start
            hit.spelled(["*"] * len(hit.numbers))
            at = hit.end


@given(st.text(alphabet=st.characters(exclude_categories=["Nd", "No", "Nl", "Cs"]), max_size=200))
def test_a_text_without_digits_is_clean(text: str) -> None:
    assert [hit for hit in find_cards(text.encode()).hits if "base64" not in hit.encoding] == []


# --- work ---------------------------------------------------------------------------------

_MEGABYTE = 1 << 20
_HOSTILE = {
    "digits": b"4",
    "digits and spaces": b"4 ",
    "groups": b"4242 ",
    "rows too short": b"42424242424x",
    "percent": b"%34",
    "percent signs": b"%",
    "base64": b"NDExMTExMTExMTEx",
    "rows of base64": b"NDExMTExMTExMTEx ",
    "backslashes": b"\\",
    "escapes": b"\\u0034",
    "entities": b"&#52;",
    "ampersands": b"&",
    "named": b"4&nbsp;",
    "near misses": b"4111111111111112,",
    "floats": b"4.1e15 ",
    "chips": b"Z\x08A\x11\x11\x11\x11\x11\x11\x12",
    "NULs": b"4\0",
}


@pytest.mark.guards("T-12")
@pytest.mark.parametrize("body", _HOSTILE.values(), ids=_HOSTILE)
@pytest.mark.parametrize("windows", [False, True])
def test_work_is_bounded(body: bytes, *, windows: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in steps: how long one takes is for the benchmarks."""
    made: list[Work] = []

    class Counted(Work):
        def __init__(self, steps: int) -> None:
            super().__init__(steps)
            made.append(self)

    monkeypatch.setattr(scan, "Work", Counted)
    whole = (body * (_MEGABYTE // len(body) + 1))[:_MEGABYTE]
    found = find_cards(whole, windows=windows)
    [work] = made
    assert found.exhausted == work.exhausted
    overdrawn = -min(0, work.steps)
    assert overdrawn <= 3 * _MEGABYTE  # one step may be a long one, and it is the last
    assert len(found.hits) <= scan.HITS_MAX


def test_a_body_of_cards_is_given_up_and_says_so() -> None:
    found = find_cards(f"{cards.VISA},".encode() * 80_000)
    assert found.exhausted
    assert 0 < len(found.hits) <= scan.HITS_MAX
