"""What browsers get of the checkout, over a listener of the gateway's own."""

import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.checkout.document import FieldPage
from gateway.checkout.inventory import Inventory
from gateway.checkout.pages import REPORT_BYTES_MAX, REPORTS_MAX
from gateway.checkout.policy import fields_headers
from tests.cards import VISA
from tests.gateway.checkout.built_folder import OLDER, PARTS, built_folder
from tests.gateway.checkout.checkout_serving import (
    FIELDS,
    KEY,
    LEDGER,
    SHOP,
    Checkout,
    serving_checkout,
)

ONE, MANY = "application/csp-report", "application/reports+json"


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    return built_folder(tmp_path).load()


@pytest.fixture
async def checkout(inventory: Inventory) -> AsyncIterator[Checkout]:
    async with serving_checkout(inventory, SHOP, "http://localhost:8080", "app:example.shop") as it:
        yield it


# --- the page -----------------------------------------------------------------------------


@pytest.mark.guards("T-55")
@pytest.mark.parametrize("field", ["card", "number", "expiry", "cvc"])
async def test_a_listed_origin_gets_the_page_with_its_policy(
    checkout: Checkout, inventory: Inventory, field: str
) -> None:
    answer, body = await checkout.frame(field=field)
    assert answer.status == 200
    page = FieldPage(field, SHOP, "t_abc123", "test", LEDGER)  # type: ignore[arg-type]
    assert body == page.render(inventory)
    headers = {
        **fields_headers(inventory, SHOP),
        "Content-Type": "text/html; charset=utf-8",
        "Cache-Control": "no-store",
        "Strict-Transport-Security": "max-age=31536000",
    }
    assert {name: answer.headers.getall(name) for name in headers} == {
        name: [value] for name, value in headers.items()
    }
    assert "X-Frame-Options" not in answer.headers


async def test_a_port_of_localhost_is_an_origin_where_cards_are_tests(checkout: Checkout) -> None:
    answer, _ = await checkout.frame(origin="http://localhost:8080")
    assert answer.status == 200
    assert "frame-ancestors http://localhost:8080;" in answer.headers["Content-Security-Policy"]


@pytest.mark.guards("T-14")
@pytest.mark.guards("T-57")
@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://evil.example", 403),
        ("https://shop.example:8443", 403),
        ("https://shop.example.evil.example", 403),
        ("https://evilshop.example", 403),
        ("http://shop.example", 400),
        ("https://shop.example/", 400),
        ("https://shop.example.", 400),
        ("https://SHOP.example", 400),
        ("https://shop.example:443", 400),
        ("https://user@shop.example", 400),
        ("https://*.example", 400),
        ("https://shop.example https://evil.example", 400),
        ("https://shop.example; script-src *", 400),
        ("https://shop.example\r\nX-A: b", 400),
        ("*", 400),
        ("null", 400),
        ("", 400),
        ("app:example.shop", 400),
    ],
)
async def test_an_origin_that_is_not_listed_gets_a_page_that_nobody_frames(
    checkout: Checkout, origin: str, status: int
) -> None:
    answer, body = await checkout.frame(origin=origin)
    assert answer.status == status
    policy = answer.headers.getall("Content-Security-Policy")
    assert len(policy) == 1
    assert "frame-ancestors 'none'" in policy[0]
    assert answer.content_type == "text/html"
    assert answer.headers["Cache-Control"] == "no-store"
    assert b"<script" not in body
    assert not origin or origin.encode() not in body


async def test_a_developer_is_told_what_to_do(checkout: Checkout) -> None:
    _, body = await checkout.frame(origin="https://other.example")
    assert b"panward tenants keys origins" in body
    _, body = await checkout.frame(key="k_zzzzzzzzzzzzzzzz")
    assert b"unknown, revoked" in body


async def test_a_key_that_is_not_in_force_gets_no_page(checkout: Checkout) -> None:
    checkout.keys.known.clear()
    answer, _ = await checkout.frame()
    assert answer.status == 403
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert json.loads(checkout.log.getvalue())["code"] == "not_authenticated"


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "k_short"},
        {"key": "pwpk_test_0123"},
        {"key": ""},
        {"field": "holder"},
        {"field": ""},
        {"field": "Number"},
        {"more": "1"},
    ],
)
async def test_what_the_loader_would_not_ask_is_refused_unseen(
    checkout: Checkout, changes: dict[str, str]
) -> None:
    answer, _ = await checkout.frame(**changes)
    assert answer.status == 400
    assert checkout.keys.asked == []


@pytest.mark.parametrize(
    "query",
    [
        "",
        f"key={KEY}&origin={SHOP}",
        f"key={KEY}&origin={SHOP}&field=cvc&field=number",
        f"key={KEY}&key={KEY}&origin={SHOP}",
    ],
)
async def test_parameters_come_once_each(checkout: Checkout, query: str) -> None:
    answer, _ = await checkout.get(f"{FIELDS}?{query}")
    assert answer.status == 400


async def test_a_store_that_is_away_is_said_to_be(checkout: Checkout) -> None:
    checkout.keys.away = True
    answer, body = await checkout.frame()
    assert (answer.status, json.loads(body)["code"]) == (503, "store_unavailable")


# --- scripts ------------------------------------------------------------------------------


async def test_scripts_are_kept_for_ever_under_the_name_of_their_hash(
    checkout: Checkout, inventory: Inventory
) -> None:
    for file, script in inventory.scripts.items():
        answer, body = await checkout.get(f"/checkout/v1/{file}")
        assert (answer.status, body) == (200, script.body)
        assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        again, nothing = await checkout.get(
            f"/checkout/v1/{file}", {"If-None-Match": answer.headers["ETag"]}
        )
        assert (again.status, nothing) == (304, b"")
        assert again.headers["Vary"] == "Accept-Encoding"


@pytest.mark.guards("T-14")
async def test_only_what_a_shops_page_loads_may_be_read_across_origins(checkout: Checkout) -> None:
    for file in (PARTS["loader"], PARTS["module"], PARTS["seal"], OLDER, "panward.js"):
        answer, _ = await checkout.get(f"/checkout/v1/{file}")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    for file in (PARTS["fields"], PARTS["sealing"]):
        answer, _ = await checkout.get(f"/checkout/v1/{file}", {"Origin": SHOP})
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


async def test_the_loader_of_this_release_has_a_name_that_stays(
    checkout: Checkout, inventory: Inventory
) -> None:
    answer, body = await checkout.get("/checkout/v1/panward.js")
    assert body == inventory.loader.body
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    types, body = await checkout.get("/checkout/v1/panward.d.ts")
    assert (types.content_type, body) == ("text/plain", inventory.types)


async def test_who_takes_gzip_gets_it(checkout: Checkout, inventory: Inventory) -> None:
    path = f"/checkout/v1/{PARTS['sealing']}"
    plain, _ = await checkout.get(path, {"Accept-Encoding": "identity"})
    packed, body = await checkout.get(path, {"Accept-Encoding": "br, gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body) == inventory.sealing.body
    assert packed.headers["ETag"] != plain.headers["ETag"]
    assert "Content-Encoding" not in plain.headers
    again, _ = await checkout.get(
        path, {"Accept-Encoding": "gzip", "If-None-Match": packed.headers["ETag"]}
    )
    assert (again.status, "Content-Encoding" in again.headers) == (304, False)


@pytest.mark.parametrize(
    "file",
    ["scripts.json", "manifest.json", "fields.css", "pages.py", "..%2Fscripts.json", "panward.mjs"],
)
async def test_nothing_else_of_the_folder_is_served(checkout: Checkout, file: str) -> None:
    answer, _ = await checkout.get(f"/checkout/v1/{file}")
    assert answer.status == 404


async def test_files_are_read_at_start_alone(tmp_path: Path) -> None:
    built = built_folder(tmp_path / "other")
    async with serving_checkout(built.load()) as checkout:
        (built.built / PARTS["loader"]).write_bytes(b"changed")
        _, body = await checkout.get(f"/checkout/v1/{PARTS['loader']}")
        assert body.startswith(b"'loader'")


# --- reports ------------------------------------------------------------------------------


def old(directive: str, name: str = "effective-directive") -> bytes:
    report = {name: directive, "blocked-uri": f"https://evil.example/{VISA}", "status-code": 200}
    return json.dumps({"csp-report": report}).encode()


def new(*directives: str) -> bytes:
    return json.dumps(
        [
            {
                "type": "csp-violation",
                "age": 53531,
                "url": f"https://evil.example/{VISA}",
                "user_agent": "x",
                "body": {"effectiveDirective": directive, "sample": VISA, "lineNumber": 1},
            }
            for directive in directives
        ]
    ).encode()


@pytest.mark.guards("T-55")
async def test_reports_are_counted_by_directive_and_nothing_of_them_is_kept(
    checkout: Checkout,
) -> None:
    assert await checkout.report(old("script-src-elem"), ONE) == 204
    assert await checkout.report(old("frame-src 'none'", "violated-directive"), ONE) == 204
    assert await checkout.report(new("base-uri", "form-action"), MANY) == 204
    assert checkout.counted.directives == {
        "script-src-elem": 1,
        "frame-src": 1,
        "base-uri": 1,
        "form-action": 1,
    }
    log = checkout.log.getvalue()
    assert VISA.encode() not in log
    assert b"evil.example" not in log


async def test_directives_are_a_closed_list(checkout: Checkout) -> None:
    assert await checkout.report(old(VISA), ONE) == 204
    assert await checkout.report(b'{"csp-report":{}}', ONE) == 204
    assert await checkout.report(new(*["x" * 30] * 60), MANY) == 204
    assert checkout.counted.directives == {"other": 2 + REPORTS_MAX}


async def test_reports_of_another_kind_are_not_counted(checkout: Checkout) -> None:
    body = b'[{"type":"deprecation","body":{"id":"x"}},{"type":"csp-violation"}]'
    assert await checkout.report(body, MANY) == 204
    assert checkout.counted.directives == {"other": 1}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"[",
        b"[" * 16_000,
        b'{"csp-report":' + b'{"a":' * 3000,
        b'{"csp-report":1}',
        b"\xff",
        b'{"csp-report":{"effective-directive":7}}',
        b"{}",
        b"null",
    ],
)
@pytest.mark.parametrize("kind", [ONE, MANY])
async def test_what_is_no_report_is_refused(checkout: Checkout, body: bytes, kind: str) -> None:
    assert await checkout.report(body, kind) == 400
    assert not checkout.counted.directives


async def test_reports_have_a_size_and_a_type(checkout: Checkout) -> None:
    assert await checkout.report(b" " * (REPORT_BYTES_MAX + 1), ONE) == 413
    assert await checkout.report(old("script-src"), "application/json") == 415
    assert await checkout.report(old("script-src"), "text/plain") == 415
    assert not checkout.counted.directives
