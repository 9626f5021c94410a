"""A frame and its scripts as received, compared with what they must be."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.checkout.document import FieldPage
from gateway.checkout.inventory import Inventory
from gateway.checkout.policy import fields_headers
from gateway.page_check import (
    UNWANTED_HEADERS,
    Finding,
    Received,
    Verdict,
    check_frame,
    check_script,
)
from tests.gateway.checkout.built_folder import PARTS, built_folder

SHOP = "https://shop.example"
URL = "https://pay.example/checkout/v1/fields?key=k"
HSTS = ("Strict-Transport-Security", "max-age=31536000")


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    return built_folder(tmp_path).load()


@pytest.fixture
def frame(inventory: Inventory) -> Received:
    page = FieldPage("number", SHOP, "t_abc", "test", "ledger.example")
    headers = [
        ("Date", "today"),
        ("Server", "proxy"),
        ("content-type", "text/html; charset=utf-8"),
        ("Cache-Control", "no-store"),
        *fields_headers(inventory, SHOP).items(),
        HSTS,
    ]
    return Received("frame number", URL, 200, headers, page.render(inventory))


def wrong(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(each.verdict.value, each.what) for each in findings if each.verdict is not Verdict.OK]


def without(got: Received, name: str) -> Received:
    return replace(got, headers=[pair for pair in got.headers if pair[0].lower() != name])


def test_a_frame_as_it_must_be_has_no_finding(frame: Received, inventory: Inventory) -> None:
    findings = check_frame(frame, inventory, "number", SHOP)
    assert wrong(findings) == []
    assert {each.where for each in findings} == {"frame number"}
    assert [each.detail for each in findings if each.what == "document"] == [
        "t_abc, test, ledger.example"
    ]


@pytest.mark.guards("T-55")
def test_each_header_that_is_gone_is_told(frame: Received, inventory: Inventory) -> None:
    names = [*fields_headers(inventory, SHOP), "Content-Type", "Cache-Control", HSTS[0]]
    for name in map(str.lower, names):
        findings = check_frame(without(frame, name), inventory, "number", SHOP)
        assert wrong(findings) == [("missing", f"header {name}")]


@pytest.mark.guards("T-55")
def test_each_header_that_is_another_is_told(frame: Received, inventory: Inventory) -> None:
    names = [*fields_headers(inventory, SHOP), "Content-Type", "Cache-Control"]
    for name in map(str.lower, names):
        changed = without(frame, name)
        changed = replace(changed, headers=[*changed.headers, (name, "default-src *")])
        findings = check_frame(changed, inventory, "number", SHOP)
        assert wrong(findings) == [("changed", f"header {name}")]


@pytest.mark.guards("T-55")
@pytest.mark.parametrize("name", ["Content-Security-Policy", "permissions-policy"])
def test_a_second_header_is_told(frame: Received, inventory: Inventory, name: str) -> None:
    doubled = replace(frame, headers=[*frame.headers, (name, "x")])
    findings = check_frame(doubled, inventory, "number", SHOP)
    assert wrong(findings) == [("added", f"header {name.lower()}")]


@pytest.mark.guards("T-55")
@pytest.mark.parametrize("name", UNWANTED_HEADERS)
def test_a_header_that_we_never_send_is_told(
    frame: Received, inventory: Inventory, name: str
) -> None:
    more = replace(frame, headers=[*frame.headers, (name.title(), "x")])
    assert wrong(check_frame(more, inventory, "number", SHOP)) == [("added", f"header {name}")]


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        ("max-age=63072000; includeSubDomains; preload", True),
        ('includeSubDomains; MAX-AGE="31536000"', True),
        ("max-age=31535999", False),
        ("max-age=0", False),
        ("x-max-age=63072000", False),
        ("includeSubDomains", False),
    ],
)
def test_a_proxy_may_promise_tls_for_longer(
    frame: Received, inventory: Inventory, value: str, *, holds: bool
) -> None:
    changed = without(frame, HSTS[0].lower())
    changed = replace(changed, headers=[*changed.headers, (HSTS[0], value)])
    findings = wrong(check_frame(changed, inventory, "number", SHOP))
    assert findings == ([] if holds else [("changed", f"header {HSTS[0].lower()}")])


@pytest.mark.guards("T-55")
@pytest.mark.parametrize(
    "added",
    [
        b"<script>1</script>",
        b'<script src="https://evil.example/x.js"></script>',
        b'<script src="/checkout/v1/fields-000000000004.js"></script>',
        b'<img src=x onerror="1">',
        b'<a href=" JavaScript:1">x</a>',
        b'<iframe srcdoc="<script>1</script>"></iframe>',
        b"<svg><script>1</script></svg>",
        b'<svg><script href="https://evil.example/x.js"></script></svg>',
        b'<script type="module">1</script>',
        b'<script type="importmap">{}</script>',
    ],
)
def test_each_script_that_is_added_is_told(
    frame: Received, inventory: Inventory, added: bytes
) -> None:
    changed = replace(frame, body=frame.body.replace(b"</main>", b"</main>" + added))
    findings = wrong(check_frame(changed, inventory, "number", SHOP))
    assert ("added", "script") in findings
    assert ("changed", "document") in findings


@pytest.mark.guards("T-55")
@pytest.mark.parametrize(
    "change",
    [
        (b"</head>", b'<base href="https://evil.example/"></head>'),
        (b"</main>", b"</main><form action=https://evil.example><input></form>"),
        (b"</main>", b"</main> "),
        (b"border:0", b"border:1"),
        (b'data-field="number"', b'data-field="cvc"'),
        (b"https://shop.example", b"https://evil.example"),
        (b"sealing-000000000005.js", b"sealing-000000000006.js"),
        (b"<!doctype html>", b"<!doctype html><!-- -->"),
    ],
)
def test_each_byte_of_the_page_counts(
    frame: Received, inventory: Inventory, change: tuple[bytes, bytes]
) -> None:
    changed = replace(frame, body=frame.body.replace(*change))
    assert changed.body != frame.body
    assert ("changed", "document") in wrong(check_frame(changed, inventory, "number", SHOP))


@pytest.mark.guards("T-55")
def test_a_script_without_its_hash_is_told(frame: Received, inventory: Inventory) -> None:
    own = f"script {PARTS['fields']}"
    bare = replace(frame, body=frame.body.replace(b"integrity=", b"data-was="))
    assert ("changed", own) in wrong(check_frame(bare, inventory, "number", SHOP))
    none = replace(frame, body=frame.body.replace(b"<script", b"<template"))
    assert ("missing", own) in wrong(check_frame(none, inventory, "number", SHOP))


def test_an_answer_that_is_no_page_is_told(inventory: Inventory) -> None:
    for body in (b"", b"\xff\xfe", b"{}", b"<", bytes(100)):
        got = Received("frame cvc", URL, 403, [], body)
        findings = wrong(check_frame(got, inventory, "cvc", SHOP))
        assert ("changed", "status") in findings
        assert ("changed", "document") in findings


# --- scripts ------------------------------------------------------------------------------


def served(inventory: Inventory) -> Received:
    headers = [
        ("Content-Type", "text/javascript; charset=utf-8"),
        ("X-Content-Type-Options", "nosniff"),
        ("Access-Control-Allow-Origin", "*"),
    ]
    return Received("script", "https://pay.example/x", 200, headers, inventory.loader.body)


@pytest.mark.guards("T-55")
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda got: got, []),
        (lambda got: replace(got, body=got.body + b"\n"), [("changed", "content")]),
        (lambda got: replace(got, status=404), [("changed", "status")]),
        (
            lambda got: without(got, "access-control-allow-origin"),
            [("missing", "header access-control-allow-origin")],
        ),
        (
            lambda got: replace(got, headers=[*got.headers, ("SourceMap", "/x")]),
            [("added", "header sourcemap")],
        ),
    ],
)
def test_a_script_is_what_was_approved(
    inventory: Inventory,
    change: Callable[[Received], Received],
    expected: list[tuple[str, str]],
) -> None:
    findings = check_script(change(served(inventory)), inventory.loader, cross_origin=True)
    assert wrong(findings) == expected


def test_a_script_of_the_frame_needs_no_cors(inventory: Inventory) -> None:
    got = without(served(inventory), "access-control-allow-origin")
    assert wrong(check_script(got, inventory.loader, cross_origin=False)) == []
