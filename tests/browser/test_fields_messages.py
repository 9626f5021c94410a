"""What a frame believes of a message, what it lets a page style, and how it words a refusal."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.browser.in_node import CHECKOUT, Program, bundled

ORIGIN = "https://shop.example"
NONCE = "0" * 32

PROGRAM = """
import { allowed } from "@/fields/styles.js";
import { believed } from "@/fields/frame.js";
import { failedBy } from "@/fields/failed.js";
import { chooseLanguage } from "@/fields/words.js";

const parent = { name: "parent" };
const page = { source: parent, origin: "https://shop.example", nonce: "0".repeat(32) };
const ASKED = {
  believed: ([source, origin, data]) =>
    believed({ source: source === "parent" ? parent : {}, origin, data }, page) ?? null,
  allowed: (style) => Object.fromEntries(allowed(style)),
  language: ([there, wanted]) => chooseLanguage(there, wanted),
  failed: (problem) => failedBy(problem).told(""),
};

function main([what, cases]) {
  return cases.map((each) => ASKED[what](each));
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return bundled(PROGRAM, tmp_path_factory.mktemp("messages"))


def _message(**members: object) -> dict[str, object]:
    return {"panward": 1, "nonce": NONCE, "type": "clear", **members}


# --- messages -------------------------------------------------------------------------------


def test_a_message_of_the_page_is_believed(program: Program) -> None:
    sent: list[dict[str, Any]] = [
        {"type": "clear"},
        {"type": "focus", "part": "cvc"},
        {"type": "focus"},
        {"type": "tokenize", "id": 1, "milliseconds": 5000},
        {"type": "attach_cvc", "id": 2, "token": "pwt_x", "milliseconds": 5000},
        {"type": "init", "key": "k", "verifyKey": "v", "locale": "de", "disabled": True},
        {"type": "update", "styles": {"base": {"color": "red"}}, "labels": {"cvc": ""}},
    ]
    cases = [["parent", ORIGIN, _message(**each)] for each in sent]
    assert program.run(["believed", cases]) == sent


def test_nobody_else_is(program: Program) -> None:
    cases: list[list[object]] = [
        ["another", ORIGIN, _message()],
        ["parent", "https://evil.example", _message()],
        ["parent", "null", _message()],
        ["parent", ORIGIN, _message(nonce="1" * 32)],
        ["parent", ORIGIN, _message(nonce=None)],
        ["parent", ORIGIN, _message(panward=2)],
    ]
    assert program.run(["believed", cases]) == [None] * len(cases)


@pytest.mark.parametrize(
    "members",
    [
        {"type": "read"},
        {"type": "constructor"},
        {"type": "__proto__"},
        {"type": ["clear"]},
        {"type": "tokenize", "id": -1, "milliseconds": 5000},
        {"type": "tokenize", "id": 1.5, "milliseconds": 5000},
        {"type": "tokenize", "id": 1, "milliseconds": "5000"},
        {"type": "attach_cvc", "id": 1, "token": "x" * 201, "milliseconds": 5000},
        {"type": "focus", "part": "holder"},
        {"type": "init"},
        {"type": "init", "key": 5},
        {"type": "update", "styles": []},
        {"type": "update", "styles": {"base": {"color": 5}}},
        {"type": "update", "styles": {"base": {f"a{n}": "b" for n in range(41)}}},
        {"type": "update", "labels": {"number": {"toString": "x"}}},
        {"type": "update", "disabled": "yes"},
        {"type": "update", "scheme": "sepia"},
    ],
)
def test_a_message_of_another_schema_is_nothing(
    program: Program, members: dict[str, object]
) -> None:
    cases = [["parent", ORIGIN, _message(**members)]]
    assert program.run(["believed", cases]) == [None]


def test_what_is_no_object_is_nothing(program: Program) -> None:
    others: list[object] = [None, 1, "clear", [], True]
    cases = [["parent", ORIGIN, each] for each in others]
    assert program.run(["believed", cases]) == [None] * len(cases)


def test_a_page_cannot_make_a_call_last_for_ever(program: Program) -> None:
    cases = [
        ["parent", ORIGIN, _message(type="tokenize", id=1, milliseconds=milliseconds)]
        for milliseconds in (0, 10**9)
    ]
    assert [each["milliseconds"] for each in program.run(["believed", cases])] == [1, 120_000]


# --- styles ---------------------------------------------------------------------------------


def test_a_merchants_usual_styles_pass(program: Program) -> None:
    style = {
        "color": "#1a2b3c",
        "backgroundColor": "rgb(255 255 255 / 80%)",
        "font-family": "Inter, 'Helvetica Neue', sans-serif",
        "fontSize": "1.125rem",
        "font-weight": "600",
        "letter-spacing": "0.02em",
        "line-height": "1.5",
        "padding": "0 12px",
        "border": "1px solid #ccc",
        "border-radius": "8px",
        "box-shadow": "0 1px 2px rgba(0, 0, 0, 0.1), inset 0 0 0 1px red",
        "caret-color": "blue",
        "opacity": "0.9",
        "text-align": "center",
    }
    names = [re.sub("[A-Z]", lambda found: f"-{found[0].lower()}", name) for name in style]
    expected = dict(zip(names, style.values(), strict=True))
    assert program.run(["allowed", [style]]) == [expected]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("background", "red"),
        ("background-image", "none"),
        ("position", "fixed"),
        ("transform", "none"),
        ("--x", "1"),
        ("constructor", "1"),
        ("color", "url(https://evil.example)"),
        ("color", "red;background:url(x)"),
        ("color", "var(--x)"),
        ("color", "attr(value)"),
        ("color", "rgb(0,0,0"),
        ("color", "r\\65 d"),
        ("color", "red\n"),
        ("color", "red/**/"),
        ("color", "expression(alert)"),
        ("font-family", "x;}"),
        ("font-family", "url(x)"),
        ("box-shadow", "0 0 url(x)"),
        ("border", "1px solid url(x)"),
        ("font-size", "calc(1px + 1px)"),
        ("font-size", "99999px"),
        ("padding", "1px 1px 1px 1px 1px"),
    ],
)
def test_all_else_is_dropped(program: Program, name: str, value: str) -> None:
    assert program.run(["allowed", [{name: value}]]) == [{}]


# --- words ----------------------------------------------------------------------------------


def _shape(words: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _shape(each) if isinstance(each, dict) else type(each).__name__
        for name, each in words.items()
    }


def _languages() -> dict[str, dict[str, Any]]:
    folder: Path = CHECKOUT / "src" / "fields" / "locales"
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def test_every_language_says_all_that_there_is_to_say() -> None:
    languages = _languages()
    assert set(languages) >= {"en", "de", "fr", "es"}
    for words in languages.values():
        assert _shape(words) == _shape(languages["en"])
        assert "{brand}" in words["brand"]
        assert all(text.strip() for text in json.dumps(words).split('"')[1::2])


def test_a_language_is_chosen_by_its_tag_else_its_language_else_english(program: Program) -> None:
    there = sorted(_languages())
    wanted = [["de-AT"], ["pt", "fr-CA"], ["ES"], ["ja"], []]
    chosen = program.run(["language", [[there, each] for each in wanted]])
    assert chosen == ["de", "fr", "es", "en", "en"]


# --- refusals -------------------------------------------------------------------------------


REFUSALS = [
    (422, "card_invalid", "luhn", "card_refused", False),
    (401, "not_authenticated", "", "key_refused", False),
    (403, "origin_not_allowed", "", "origin_refused", False),
    (400, "sealed_refused", "origin", "origin_refused", False),
    (400, "sealed_refused", "form", "unavailable", False),
    (429, "rate_limited", "", "rate_limited", True),
    (429, "card_testing_suspected", "", "rate_limited", True),
    (404, "token_unknown", "", "token_unknown", False),
    (409, "authorization_open", "", "unavailable", True),
    (503, "vault_sealed", "", "unavailable", True),
    (500, "", "", "unavailable", True),
    (418, "constructor", "", "unavailable", False),
]


def test_a_refusal_is_told_in_the_pages_terms(program: Program) -> None:
    problems = [
        {"status": status, "code": code, "field": "", "reason": reason, "requestId": ""}
        for status, code, reason, _, _ in REFUSALS
    ]
    told = [(each["code"], each["retryable"]) for each in program.run(["failed", problems])]
    assert told == [(expected, retryable) for _, _, _, expected, retryable in REFUSALS]


def test_a_refused_field_is_told_by_its_part(program: Program) -> None:
    fields = ["number", "exp_month", "card.exp_year", "cvc", "customer_reference"]
    problems = [
        {"status": 422, "code": "card_invalid", "field": field, "reason": "x", "requestId": "r"}
        for field in fields
    ]
    told = [each.get("field") for each in program.run(["failed", problems])]
    assert told == ["number", "expiry", "expiry", "cvc", None]
