import base64
import json
import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import scan
from gateway.scan import HITS_MAX, Kind, find_cards
from gateway.scan_places import BLOCK, MARGIN, PIECE
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
        assert find_cards(masked).hits == ()
        assert number not in masked.decode("latin-1")
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
def test_what_is_hard_to_read_is_read_to_its_end(body: bytes, *, windows: bool) -> None:
    """How long it takes is for the benchmarks; nothing but finds may end it."""
    whole = (body * (_MEGABYTE // 8 // len(body) + 1))[: _MEGABYTE // 8]
    found = find_cards(whole, windows=windows)
    assert found.exhausted == (len(found.hits) == HITS_MAX)


@pytest.mark.guards("T-12")
@pytest.mark.parametrize("around", [b"4 ", b"4242424242424x", b"%34x", b"NDEx ", b"34 ", b"-"])
def test_a_card_behind_much_that_is_nearly_one_is_found(around: bytes) -> None:
    noise = around * (PIECE // len(around))
    body = noise + b'","n":"' + cards.MASTERCARD.encode() + b'","' + noise
    assert cards.MASTERCARD in _numbers(body)


def test_ordinary_rows_of_numbers_do_not_exhaust() -> None:
    rows = {
        "cards": f"{cards.VISA}\n" * (PIECE // 17),
        "near misses": f"{cards.luhn_broken(cards.VISA[:-1])}\n" * 60_000,
        "matrix": "12345 67890 4111 23456 34567\n" * 20_000,
        "ids": "\n".join(str(10**15 + 7_919_104_729 * at) for at in range(60_000)),
    }
    for text in rows.values():
        assert not find_cards(text.encode()).exhausted
    assert len(find_cards(rows["cards"].encode()).hits) == PIECE // 17


_AT_EDGES = ["plain", "spaces", "hyphens", "percent twice", "base64", "hex", "UTF-16", "entities"]


@pytest.mark.guards("T-12")
@pytest.mark.parametrize("name", [*_AT_EDGES, "Devanagari digits", "track 2", "base64 of percent"])
@pytest.mark.parametrize("edge", [PIECE, PIECE - MARGIN, 2 * BLOCK])
def test_a_card_across_the_edge_of_what_is_looked_at_is_found(name: str, edge: int) -> None:
    spelled = ENCODERS[name](cards.VISA)
    for before in range(edge - len(spelled) - 2, edge + 2, 5):
        body = b"<" * before + spelled + b">" * 2 * MARGIN
        assert _numbers(body) == [cards.VISA]


@pytest.mark.parametrize("before", range(4))
def test_hex_is_found_at_any_place(before: int) -> None:
    for separator in ("", "-", " "):
        spelled = encoders.in_fours(cards.VISA, separator).encode().hex().encode()
        assert _numbers(b"<" * before + spelled) == [cards.VISA]


@pytest.mark.parametrize("digits", [20, 25, 40, 3000])
def test_a_long_run_of_digits_is_not_cut_into_a_card(digits: int) -> None:
    """Wherever a piece of the body ends, it does not end the run."""
    run = b"7" * (digits - 16) + cards.VISA.encode()
    for before in (PIECE - 16, PIECE + MARGIN - 16, BLOCK - digits, BLOCK + MARGIN - 8):
        assert find_cards(b"<" * before + run + b">" * PIECE).hits == ()


def test_no_run_is_cut_into_a_card_where_all_is_digits() -> None:
    row = b"1" * 16 + b","
    dense = (row * PIECE)[: PIECE - 17] + b"," + cards.VISA.encode() + b"7" * 8 + b"," + row * 50
    assert find_cards(dense).hits == ()


def test_an_account_number_hides_no_card_beyond_its_own_word() -> None:
    def account(country: str, rest: str) -> str:
        value = "".join(str(int(each, 36)) for each in f"{rest}{country}00")
        return f"{country}{98 - int(value) % 97:02}{rest}"

    own = account("DE", f"{cards.VISA}42")
    assert _numbers(own.encode()) == []
    for text in (
        f"x{own}",
        f"{own}x",
        account("DE", f"{cards.VISA}421X"),
        account("ZZ", f"{cards.VISA}42"),
    ):
        found = [
            each.reveal()
            for hit in find_cards(text.encode(), windows=True).hits
            for each in hit.numbers
        ]
        assert found, text
    spaced = account("DE", f"AB{cards.VISA}")
    assert _numbers(spaced.encode()) == []
    assert _numbers(f"{spaced}Z".encode()) == [cards.VISA]


def test_a_body_of_more_cards_than_it_takes_is_given_up_and_says_so() -> None:
    most = find_cards(f"{cards.VISA},".encode() * HITS_MAX)
    more = find_cards(f"{cards.VISA},".encode() * (HITS_MAX + 1))
    assert (len(most.hits), most.exhausted) == (HITS_MAX, False)
    assert (len(more.hits), more.exhausted) == (HITS_MAX, True)


def test_runs_within_runs_are_decoded_within_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "DECODED_LEAST", 0)
    monkeypatch.setattr(scan, "DECODED_TIMES_MAX", 1)
    assert find_cards(base64.b64encode(base64.b64encode(b"JTM0" * 5000))).exhausted


# --- short texts ----------------------------------------------------------------------------


@pytest.mark.guards("T-12")
@pytest.mark.parametrize("name", ENCODERS)
def test_in_a_header_a_number_is_found_as_in_a_body(name: str) -> None:
    for number in _MADE[:20]:
        body = ENCODERS[name](number)
        behind = b" " + b"\n" * scan.SHORT if name not in {"bcd", "ebcdic"} else b""
        assert _numbers(body) == _numbers(body + behind) or _numbers(body) == [number]


@given(st.binary(max_size=80) | st.text("0123456789-. %&;\\ux#NDE=MTz{}:", max_size=80))
@settings(deadline=None)
def test_the_look_at_a_short_text_misses_nothing(text: bytes | str) -> None:
    body = text.encode() if isinstance(text, str) else text
    if scan._has_none(body):
        assert not find_cards(body + b"\n" * scan.SHORT).hits


def test_what_only_ends_as_a_uuid_does_hides_no_card() -> None:
    visa = cards.VISA
    fours = "-".join(visa[at : at + 4] for at in range(0, 16, 4))
    assert _numbers(f"{fours}-{'1' * 12}".encode()) == _numbers(f"{fours} x".encode())
