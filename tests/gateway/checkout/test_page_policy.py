"""The headers of the fields page."""

from pathlib import Path

import pytest

from gateway.checkout.document import FIELD_NAMES, FieldPage, read_page
from gateway.checkout.inventory import Inventory
from gateway.checkout.policy import DENIED_FEATURES, fields_headers, refusal_headers
from tests.gateway.checkout.built_folder import built_folder

SHOP = "https://shop.example"
PAGE = FieldPage("number", SHOP, "t_abc123", "test", "ledger.example/pay")


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    return built_folder(tmp_path).load()


def policy(inventory: Inventory) -> dict[str, str]:
    text = fields_headers(inventory, SHOP)["Content-Security-Policy"]
    return dict(part.split(" ", 1) for part in text.split("; "))


@pytest.mark.guards("T-55")
def test_nothing_runs_or_loads_but_what_was_approved(inventory: Inventory) -> None:
    found = policy(inventory)
    assert found["default-src"] == "'none'"
    assert set(found["script-src"].split()) == {
        f"'{inventory.fields.sha384}'",
        f"'{inventory.sealing.sha384}'",
        "'wasm-unsafe-eval'",
    }
    assert found["style-src"] == f"'{inventory.style_hash}'"
    assert found["connect-src"] == "'self'"
    for name in ("form-action", "base-uri"):
        assert found[name] == "'none'"
    assert found["require-trusted-types-for"] == "'script'"
    assert found["trusted-types"] == "panward"
    text = str(found)
    assert "unsafe-inline" not in text
    assert "'unsafe-eval'" not in text


@pytest.mark.guards("T-57")
def test_one_origin_may_frame_it(inventory: Inventory) -> None:
    assert policy(inventory)["frame-ancestors"] == SHOP
    assert "frame-ancestors 'none'" in refusal_headers()["Content-Security-Policy"]
    assert "X-Frame-Options" not in {**fields_headers(inventory, SHOP), **refusal_headers()}


def test_violations_are_reported_where_we_listen(inventory: Inventory) -> None:
    headers = fields_headers(inventory, SHOP)
    assert policy(inventory)["report-uri"] == "/checkout/v1/csp-reports"
    group = policy(inventory)["report-to"]
    assert headers["Reporting-Endpoints"] == f'{group}="/checkout/v1/csp-reports"'


def test_a_shop_that_isolates_itself_can_frame_it(inventory: Inventory) -> None:
    headers = fields_headers(inventory, SHOP)
    assert headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"


def test_no_feature_of_the_browser_is_left_to_it(inventory: Inventory) -> None:
    value = fields_headers(inventory, SHOP)["Permissions-Policy"]
    assert value.split(", ") == [f"{name}=()" for name in DENIED_FEATURES]
    assert {"camera", "geolocation", "payment", "usb"} <= set(DENIED_FEATURES)


@pytest.mark.parametrize("field", FIELD_NAMES)
def test_a_page_is_read_back_as_it_was_written(inventory: Inventory, field: str) -> None:
    page = FieldPage(field, SHOP, "t_abc123", "test", "ledger.example/pay")  # type: ignore[arg-type]
    body = page.render(inventory)
    assert read_page(body, page.field, SHOP) == page
    assert f'<html lang="en" data-field="{field}">'.encode() in body
    assert body.count(b"<script") == 1


def test_values_cannot_become_markup(inventory: Inventory) -> None:
    page = FieldPage("cvc", 'https://"><script>x</script>', "t_a", "test", "<b>&'")
    body = page.render(inventory)
    assert body.count(b"<script") == 1
    assert b"<b>" not in body


@pytest.mark.parametrize(
    "change",
    [
        (b"t_abc123", b"t abc"),
        (b'"test"', b'"prod"'),
        (b"ledger.example/pay", b"https://evil.example"),
        (b"panward-env", b"panward-other"),
        (b"</head>", b'<meta name="panward-env" content="live"></head>'),
    ],
)
def test_a_page_that_says_something_else_of_itself_is_none(
    inventory: Inventory, change: tuple[bytes, bytes]
) -> None:
    body = PAGE.render(inventory).replace(*change)
    assert read_page(body, "number", SHOP) is None
