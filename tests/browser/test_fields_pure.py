"""What the fields make of a card as it is typed, beside what the gateway says of the same card."""

from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import cards
from tests.browser.in_node import Program, bundled
from vault.card import UNKNOWN, Brand, Expiry, brand_of, brand_rows
from vault.errors import InvalidCard
from vault.pan import passes_luhn

COUNTS = range(12, 20)
PREFIX_DIGITS_MAX = max(len(prefix) for row in brand_rows() for prefix in row.prefixes)

PROGRAM = """
import { brandAsTyped, brandOf } from "@/fields/brands.js";
import { codeLengthsOf, formatCvc, judgeCvc } from "@/fields/cvc.js";
import { digitsOf, stepOver } from "@/fields/digits.js";
import * as expiry from "@/fields/expiry.js";
import { formatNumber, grouped, isNumberFull, judgeNumber } from "@/fields/number.js";

function edited({ text, caret }, [kind, value]) {
  const put = (from, to, more) =>
    formatNumber(text.slice(0, from) + more + text.slice(to), from + more.length);
  if (kind === "move") return { text, caret: Math.min(value, text.length) };
  if (kind === "paste") return put(caret, caret, value);
  if (kind === "type") return isNumberFull(text) ? { text, caret } : put(caret, caret, value);
  const at = stepOver(text, caret, kind);
  if (kind === "deleteContentBackward") return at === 0 ? { text, caret: at } : put(at - 1, at, "");
  return at === text.length ? { text, caret: at } : put(at, at + 1, "");
}

function typedExpiry(keys) {
  let at = { text: "", caret: 0 };
  for (const key of keys) {
    if (key === "<") {
      const over = stepOver(at.text, at.caret, "deleteContentBackward");
      if (over === 0) continue;
      const text = at.text.slice(0, over - 1) + at.text.slice(over);
      at = expiry.formatExpiry(text, over - 1, true);
    } else {
      const text = at.text.slice(0, at.caret) + key + at.text.slice(at.caret);
      at = expiry.formatExpiry(text, at.caret + key.length, false);
    }
  }
  return at.text;
}

const ASKED = {
  numbers: (digits) => ({
    brand: brandOf(digits).name,
    complete: judgeNumber(digits).complete,
    codes: codeLengthsOf(digits),
    typed: Array.from(digits, (_, at) => brandAsTyped(digits.slice(0, at + 1)).name),
  }),
  edits: (steps) => steps.reduce(edited, { text: "", caret: 0 }),
  grouped,
  pasted: (text) => formatNumber(text, text.length).text,
  dates: ([text, at]) => {
    const read = expiry.parseExpiry(text);
    const verdict = expiry.judgeExpiry(text, at);
    return [read ? (expiry.expiryError(read, at) ?? null) : "unread", verdict.complete];
  },
  reads: (text) => {
    const shown = expiry.formatExpiry(text, text.length, false).text;
    return [shown, expiry.parseExpiry(text) ?? null, expiry.parseExpiry(shown) ?? null];
  },
  typedExpiry,
  left: expiry.leaveExpiry,
  codes: ([digits, lengths]) => [
    judgeCvc(digits, lengths).complete,
    formatCvc(digits, digits.length, lengths).text,
  ],
  luhn: (digits) => judgeNumber(digits).reason ?? null,
};

function main(asked) {
  const [what, cases] = asked;
  return cases.map((each) => ASKED[what](each));
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return bundled(PROGRAM, tmp_path_factory.mktemp("fields"))


# --- brands ---------------------------------------------------------------------------------


def _numbers() -> list[str]:
    """Every published card, and for every row of the table a number of each length."""
    numbers = list(cards.ALL)
    for row in brand_rows():
        for count in COUNTS:
            for prefix in row.prefixes[:2]:
                head = prefix.ljust(count - 1, "0")
                numbers += [cards.luhn_completed(head), cards.luhn_broken(head)]
    return numbers


def _is_accepted(number: str) -> bool:
    brand = brand_of(number)
    return len(number) in brand.lengths and (passes_luhn(number) or not brand.luhn_required)


def test_brand_completeness_and_code_are_as_the_gateway_says(program: Program) -> None:
    numbers = _numbers()
    for number, found in zip(numbers, program.run(["numbers", numbers]), strict=True):
        assert found["brand"] == brand_of(number).name
        assert found["complete"] == _is_accepted(number)
        if found["complete"]:
            assert found["codes"] == list(brand_of(number).cvc_lengths)
            assert found["typed"][-1] == brand_of(number).name


def test_a_published_card_is_told_by_its_sixth_digit_and_never_for_another(
    program: Program,
) -> None:
    for number, found in zip(cards.ALL, program.run(["numbers", cards.ALL]), strict=True):
        assert set(found["typed"][5:]) == {cards.BRANDS[number]}
        assert found["complete"] is True


def test_a_slip_in_the_last_digit_is_told(program: Program) -> None:
    broken = [cards.luhn_broken(number[:-1]) for number in (cards.VISA, cards.AMEX)]
    assert program.run(["luhn", broken]) == ["number_luhn", "number_luhn"]
    assert program.run(["luhn", [cards.VISA[:15], ""]]) == ["incomplete", "incomplete"]
    assert program.run(["luhn", [cards.AMEX + "0"]]) == ["number_length"]


# --- typing, deleting, pasting --------------------------------------------------------------


def _brand_at(digits: str, count: int) -> Brand | None:
    matching = [
        (len(prefix), row.brand)
        for row in brand_rows()
        if count in row.digit_counts
        for prefix in row.prefixes
        if digits.startswith(prefix)
    ]
    return max(matching, key=lambda found: found[0])[1] if matching else None


@cache
def _digits_max_from(head: str) -> int:
    """By brute force: the longest number that may begin so."""
    brands = {count: _brand_at(head, count) for count in COUNTS}
    fitting = [count for count, brand in brands.items() if not brand or count in brand.lengths]
    return max(fitting, default=19)


def _digits_max(digits: str) -> int:
    return _digits_max_from(digits[:PREFIX_DIGITS_MAX])


class _Model:
    """A number's digits, and after how many of them the caret stands: no separators at all."""

    def __init__(self) -> None:
        self.digits, self.count = "", 0

    def put(self, more: str) -> None:
        whole = (self.digits[: self.count] + more + self.digits[self.count :])[:19]
        self.digits = whole[: _digits_max(whole)]
        self.count = min(self.count + len(more), len(self.digits))

    def drop(self, at: int) -> None:
        self.digits = self.digits[:at] + self.digits[at + 1 :]
        self.count = at

    def apply(self, kind: str, value: str) -> None:
        if kind == "type" and len(self.digits) >= _digits_max(self.digits):
            return
        if kind in ("type", "paste"):
            self.put("".join(character for character in value if character in "0123456789"))
        elif kind == "deleteContentBackward" and self.count > 0:
            self.drop(self.count - 1)
        elif kind == "deleteContentForward" and self.count < len(self.digits):
            self.drop(self.count)


_STARTS = st.sampled_from(["", "4", "34", "36", "62", "5018"])
_EDITS = st.one_of(
    st.tuples(st.just("type"), st.sampled_from("0123456789")),
    st.tuples(st.sampled_from(["deleteContentBackward", "deleteContentForward"]), st.just("")),
    st.tuples(st.just("paste"), st.text("0123456789 -\n", min_size=1, max_size=25)),
    st.tuples(st.just("move"), st.integers(0, 23)),
)
_SEQUENCES = st.lists(st.tuples(_STARTS, st.lists(_EDITS, max_size=15)), min_size=1, max_size=10)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sequences=_SEQUENCES)
def test_edits_keep_every_digit_and_the_caret_after_the_same_one(
    program: Program, sequences: list[tuple[str, list[tuple[str, Any]]]]
) -> None:
    steps = [[("paste", start), *edits] for start, edits in sequences]
    prefixes = [each[: end + 1] for each in steps for end in range(len(each))]
    found = iter(program.run(["edits", prefixes]))
    for each in steps:
        model, text = _Model(), ""
        for kind, value in each:
            if kind == "move":
                model.count = _count(text[:value])
            else:
                model.apply(kind, value)
            after = next(found)
            assert after["text"].replace(" ", "") == model.digits
            assert _count(after["text"][: after["caret"]]) == model.count
            text = after["text"]


def _count(text: str) -> int:
    return sum(character != " " for character in text)


def test_numbers_are_grouped_as_on_the_card(program: Program) -> None:
    numbers = [cards.VISA, cards.AMEX, cards.DINERS, cards.VISA_19, cards.VISA_13, cards.AMEX[:11]]
    sizes = [
        [len(group) for group in text.split(" ")] for text in program.run(["grouped", numbers])
    ]
    assert sizes == [[4, 4, 4, 4], [4, 6, 5], [4, 6, 4], [4, 4, 4, 4, 3], [4, 4, 4, 1], [4, 6, 1]]


def test_a_number_may_be_pasted_however_it_was_written(program: Program) -> None:
    number = cards.VISA
    wide = number.translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)})
    arabic = number.translate({ord("0") + digit: 0x660 + digit for digit in range(10)})
    parted = ["-".join(number[at : at + 4] for at in range(0, 16, 4)), "\u00a0".join(number)]
    texts = [number, wide, arabic, *parted, f" {number}\r\n", f"Card: {number}."]
    shown = " ".join(number[at : at + 4] for at in range(0, 16, 4))
    assert program.run(["pasted", texts]) == [shown] * len(texts)


# --- expiry ---------------------------------------------------------------------------------

MOMENTS = [
    datetime(2026, 7, 15, tzinfo=UTC),
    datetime(2026, 8, 1, 11, 59, 59, tzinfo=UTC),  # still July in UTC-12
    datetime(2026, 8, 1, 12, 0, 0, tzinfo=UTC),
    datetime(2027, 1, 1, 0, 0, 0, tzinfo=UTC),
    datetime(2029, 12, 31, 23, 0, 0, tzinfo=UTC),
]


def _expected(month: int, year: int, at: datetime) -> str | None:
    try:
        expiry = Expiry.parse(f"{month:02}", f"{year:04}", at=at)
    except InvalidCard as refused:
        return {"range": "expiry_invalid", "too_far": "expiry_too_far"}[refused.reason]
    return "expiry_past" if expiry.is_over(at) else None


def test_dates_are_judged_as_the_gateway_judges_them(program: Program) -> None:
    asked, expected = [], []
    for at in MOMENTS:
        for month in range(14):
            for year in range(2000, 2100):
                asked.append([f"{month:02} / {year % 100:02}", at.timestamp() * 1000])
                expected.append(_expected(month, year, at))
    found = program.run(["dates", asked])
    assert [error for error, _ in found] == expected
    assert [complete for _, complete in found] == [error is None for error in expected]


def test_a_date_may_be_written_in_many_ways(program: Program) -> None:
    texts = ["12/30", "12 / 30", "1230", "12/2030", "12-2030", "122030", "2030-12", "2030/12"]
    texts += ["203012", " 12.30 ", "12 30", "12 / 2030", "12/30\n"]
    texts.append("12/30".translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)}))
    for shown, read, again in program.run(["reads", texts]):
        assert (shown, read, again) == ("12 / 30", {"month": 12, "year": 2030}, read)
    for text in ("1/30", "1/2030", "01/30", "2030-1", "2030-01"):
        ((shown, read, _),) = program.run(["reads", [text]])
        assert (shown, read) == ("01 / 30", {"month": 1, "year": 2030})


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ("1", "1"),
        ("12", "12 / "),
        ("5", "05 / "),
        ("13", "01 / 3"),
        ("1/", "01 / "),
        ("1230", "12 / 30"),
        ("12/30", "12 / 30"),
        ("122030", "12 / 30"),
        ("12301", "12 / 30"),
        ("12<", "1"),
        ("123<", "12"),
        ("123<4", "12 / 4"),
        ("1230<<<<", ""),
        ("12<<", ""),
    ],
)
def test_a_date_grows_as_it_is_typed(program: Program, keys: str, shown: str) -> None:
    assert program.run(["typedExpiry", [keys]]) == [shown]


def test_a_lone_month_is_completed_when_the_field_is_left(program: Program) -> None:
    left = program.run(["left", ["1", "1 / 30", "12 / 30", "0", ""]])
    assert left == ["01 / ", "01 / 30", "12 / 30", "0", ""]


# --- codes ----------------------------------------------------------------------------------


def test_a_code_is_as_long_as_the_brand_wants_it(program: Program) -> None:
    asked = [["123", [3]], ["1234", [4]], ["123", [4]], ["", [0, 3]], ["", [3]], ["12", [0, 3]]]
    complete = [found[0] for found in program.run(["codes", asked])]
    assert complete == [True, True, False, True, False, False]
    assert program.run(["codes", [["12345", [3]], ["1 2-3", [3, 4]]]])[0][1] == "123"


def test_before_a_brand_is_known_a_code_has_three_or_four_digits(program: Program) -> None:
    (found,) = program.run(["numbers", ["9" * 15]])
    assert found["brand"] == UNKNOWN
    assert found["codes"] == [3, 4]
