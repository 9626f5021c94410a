"""A shop's page: what it owes, and what changed since a person looked at it."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from gateway.checkout.inventory import Inventory, hash_of
from gateway.page_baseline import UNREADABLE, Baseline, baseline_of, check_page, compare
from gateway.page_check import Finding, Received, Verdict
from tests.gateway.checkout.built_folder import OLDER, PARTS, built_folder

GATEWAY = "https://pay.example"
LOADER = f"{GATEWAY}/checkout/v1/{PARTS['loader']}"
POLICY = "default-src 'self'; script-src 'self' https://pay.example; frame-src https://pay.example"


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    return built_folder(tmp_path).load()


def page(body: str, policy: str | None = POLICY, **headers: str) -> Received:
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    if policy is not None:
        pairs.append(("Content-Security-Policy", policy))
    return Received("page", "https://shop.example/checkout", 200, pairs, body.encode())


def tag(inventory: Inventory, src: str = LOADER, more: str = "crossorigin") -> str:
    return f'<script src="{src}" integrity="{inventory.loader.sha384}" {more}></script>'


def wrong(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(each.verdict.value, each.what) for each in findings if each.verdict is not Verdict.OK]


# --- what the page owes -------------------------------------------------------------------


def test_a_page_that_loads_it_as_documented_has_no_finding(inventory: Inventory) -> None:
    for more in ("crossorigin", 'crossorigin="anonymous" defer', "crossorigin=anonymous async"):
        body = tag(inventory, more=more)
        assert wrong(check_page(page(body), inventory, GATEWAY)) == []
    current = tag(inventory, f"{GATEWAY}/checkout/v1/panward.js")
    assert wrong(check_page(page(current), inventory, GATEWAY)) == []
    older = f'<script src="{GATEWAY}/checkout/v1/{OLDER}" crossorigin integrity="'
    older += inventory.scripts[OLDER].sha384 + '"></script>'
    assert wrong(check_page(page(older), inventory, GATEWAY)) == []


@pytest.mark.guards("T-55")
@pytest.mark.parametrize(
    "body",
    [
        f'<script src="{LOADER}" crossorigin></script>',
        f'<script src="{LOADER}" crossorigin integrity="sha384-x"></script>',
        f'<script src="{GATEWAY}/checkout/v1/panward-9.js" crossorigin></script>',
    ],
)
def test_a_loader_without_its_hash_is_told(inventory: Inventory, body: str) -> None:
    ((verdict, what),) = wrong(check_page(page(body), inventory, GATEWAY))
    assert verdict == "changed"
    assert what.startswith("script panward-")


@pytest.mark.parametrize("more", ["", 'crossorigin="use-credentials"'])
def test_a_loader_that_no_browser_runs_is_told(inventory: Inventory, more: str) -> None:
    findings = wrong(check_page(page(tag(inventory, more=more)), inventory, GATEWAY))
    assert findings == [("changed", f"script {PARTS['loader']}")]


def test_a_second_hash_beside_ours_is_told(inventory: Inventory) -> None:
    body = tag(inventory).replace('integrity="', f'integrity="{hash_of(b"evil")} ')
    findings = wrong(check_page(page(body), inventory, GATEWAY))
    assert findings == [("changed", f"script {PARTS['loader']}")]


@pytest.mark.guards("T-55")
def test_a_loader_from_elsewhere_is_none(inventory: Inventory) -> None:
    for src in (
        f"https://pay.example.evil.example/checkout/v1/{PARTS['loader']}",
        f"http://pay.example/checkout/v1/{PARTS['loader']}",
        f"https://pay.example/other/{PARTS['loader']}",
    ):
        findings = wrong(check_page(page(tag(inventory, src)), inventory, GATEWAY))
        assert findings == [("missing", "script panward.js")]


def test_a_script_of_the_frame_does_not_belong_on_the_page(inventory: Inventory) -> None:
    more = f'<script src="{GATEWAY}/checkout/v1/{PARTS["fields"]}"></script>'
    findings = wrong(check_page(page(tag(inventory) + more), inventory, GATEWAY))
    assert findings == [("added", f"script {PARTS['fields']}")]


@pytest.mark.parametrize(
    ("policy", "confines"),
    [
        ("script-src 'self'", True),
        ("default-src 'self'", True),
        ("script-src 'nonce-abc' 'unsafe-inline'", True),
        ("script-src 'nonce-abc' 'strict-dynamic' https: 'unsafe-inline'", True),
        ("script-src 'none'; script-src *", True),
        ("default-src *, script-src 'self'", True),
        ("script-src 'strict-dynamic' 'unsafe-inline'", False),
        ("script-src 'self' 'unsafe-inline'", False),
        ("script-src *", False),
        ("script-src https:", False),
        ("script-src 'self' data:", False),
        ("SCRIPT-SRC *", False),
        ("default-src 'none'; script-src-elem *", False),
        ("frame-ancestors 'none'", False),
        (";", False),
    ],
)
def test_a_policy_must_confine_scripts(
    inventory: Inventory, policy: str, *, confines: bool
) -> None:
    findings = wrong(check_page(page(tag(inventory), policy), inventory, GATEWAY))
    assert findings == ([] if confines else [("missing", "policy for scripts")])


def test_a_page_without_a_policy_is_told(inventory: Inventory) -> None:
    findings = wrong(check_page(page(tag(inventory), None), inventory, GATEWAY))
    assert findings == [("missing", "header content-security-policy")]
    meta = """<meta http-equiv="Content-Security-Policy" content="script-src 'self'">"""
    assert wrong(check_page(page(meta + tag(inventory), None), inventory, GATEWAY)) == []


# --- what changed -------------------------------------------------------------------------


SHOP_SCRIPT = "https://shop.example/app.js"
BODY = f'<script src="{SHOP_SCRIPT}"></script><script>one()</script><b onclick="two()">x</b>'
BODIES = {SHOP_SCRIPT: b"app"}


def changes(before: Received, now: Received, bodies: dict[str, bytes | None]) -> list[str]:
    one = baseline_of(before, BODIES)
    kept = msgspec.json.decode(msgspec.json.encode(one), type=Baseline)
    found = compare(now, kept, baseline_of(now, bodies))
    return [f"{each.verdict.value} {each.what} {each.detail}".strip() for each in found]


def test_a_page_as_it_was_has_no_finding() -> None:
    assert changes(page(BODY), page(BODY + "<p>new words</p>"), dict(BODIES)) == [
        "ok baseline 3 scripts"
    ]


def test_a_nonce_may_be_another_each_time() -> None:
    one = page(BODY, "script-src 'nonce-YWJj' 'self'")
    two = page(BODY, "script-src 'nonce-ZGVm+/==' 'self'")
    assert changes(one, two, dict(BODIES)) == ["ok baseline 3 scripts"]


@pytest.mark.guards("T-55")
def test_scripts_that_change_come_and_go_are_told() -> None:
    assert changes(page(BODY), page(BODY), {SHOP_SCRIPT: b"app2"}) == [
        f"changed script {SHOP_SCRIPT} {hash_of(b'app2')}"
    ]
    assert changes(page(BODY), page(BODY), {SHOP_SCRIPT: None}) == [
        f"changed script {SHOP_SCRIPT} {UNREADABLE}"
    ]
    assert changes(page(BODY), page(BODY + "<script>evil()</script>"), dict(BODIES)) == [
        f"added script inline {hash_of(b'evil()')}"
    ]
    assert changes(page(BODY), page(BODY.replace("one()", "evil()")), dict(BODIES)) == [
        f"added script inline {hash_of(b'evil()')}",
        f"missing script inline {hash_of(b'one()')}",
    ]
    assert changes(page(BODY), page(BODY + "<script src=data:,1></script>"), dict(BODIES)) == [
        f"added script inline {hash_of(b'data:,1')}"
    ]
    assert changes(page(BODY), page(BODY.replace("two()", "evil()")), dict(BODIES))[0].startswith(
        "added script inline"
    )
    doubled = page(BODY + "<script>one()</script>")
    assert changes(page(BODY), doubled, dict(BODIES)) == [
        f"added script inline {hash_of(b'one()')}"
    ]


@pytest.mark.guards("T-55")
def test_headers_that_change_come_and_go_are_told() -> None:
    before = page(BODY, X_Frame_Options="DENY", Date="monday")
    now = page(BODY, "default-src *", Refresh="0; url=https://evil.example", Date="friday")
    assert changes(before, now, dict(BODIES)) == [
        "changed header content-security-policy default-src *",
        "added header refresh 0; url=https://evil.example",
        "missing header x-frame-options DENY",
    ]


def test_another_page_is_not_the_same_page() -> None:
    other = replace(page(BODY), url="https://shop.example/other")
    assert changes(page(BODY), other, dict(BODIES)) == [
        "changed address https://shop.example/other"
    ]
