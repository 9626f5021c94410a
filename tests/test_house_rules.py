"""The rules of this house that no linter knows, as checks of our own source.

Each message says what to do instead. An exception is an entry here with its reason: adding one
is a decision.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.problems import PROBLEMS
from tests.cards import luhn_sum
from vault import errors as custody_errors

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("vault/**/*.py"), *ROOT.glob("gateway/**/*.py")])
TESTS = sorted(ROOT.glob("tests/**/*.py"))

MAY_REVEAL = {
    "vault/card.py": "brand, Luhn test and the list of test numbers need the digits once",
    "vault/keys.py": "seals records and hashes digits in HashiCorp Vault",
    "gateway/order.py": "puts the number in place, in memory, just before it is sent",
    "gateway/reply.py": "finds a number that was sent in what comes back",
}
LONG_FILES = {
    "vault/authorizations.py": "one story: claim, intent, outcome, spool",
    "vault/ledger/store.py": "one story: the writer, with what a lost COMMIT answer asks of it",
    "vault/ledger/entry.py": "the registry: a class a type, and their bytes",
    "vault/token_table.py": "units and reads of one table",
    "vault/intent_table.py": "units of intents and outcomes, with their two long statements",
    "gateway/app.py": "the wiring",
    "gateway/authorize.py": "one story: the way out",
    "gateway/upstream.py": "one story: one send, and what is known of it at each moment",
    "gateway/metrics.py": "the table of all metrics",
    "gateway/embedded.py": "from a folder to a deployment",
    "gateway/errors.py": "the one tree of errors, in the order of a request's way",
}
LONG_FUNCTIONS = {
    "gateway/app.py:_open_stories": "the wiring of the edge, a part a line",
    "gateway/commands/card_files.py:import_": "an option a line",
    "gateway/demo/stage.py:set_up": "the wiring of the demo, a part a line",
    "gateway/embedded.py:configuration": "the text of one file",
}
MAY_MAKE_TASKS = {
    "gateway/in_flight.py": "owns what must reach its end",
    "vault/batching.py": "one task a lane",
    "vault/ledger/writer_connection.py": "the writer's COMMIT",
    "vault/ledger/store.py": "the writer",
    "vault/transit_login.py": "a token is renewed for as long as it is used",
}
VAGUE = re.compile(r"(^|_)(utils?|helpers?|common|misc|manager|base)(_|$)")
CARDS_ALLOWED = {
    "tests/cards.py": "the published test cards",
    "vault/published_test_cards.toml": "what a live deployment refuses",
    "gateway/demo/test_cards.toml": "the cards of the demo",
    "requirements.lock": "hashes",
    "tests/vault/sealed_vectors.json": "published test cards, sealed: vectors for other languages",
}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def calls(path: Path, attribute: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr == attribute:
            yield node


@pytest.mark.guards("T-76")
def test_only_the_listed_modules_open_a_card() -> None:
    opening = {name(path) for path in SOURCES for _ in calls(path, "reveal")}
    assert opening == set(MAY_REVEAL), "a new place that reveals is a decision: list it, or move it"


def test_files_and_functions_stay_small() -> None:
    long_files = {name(p) for p in SOURCES if len(p.read_text().splitlines()) > 400}
    assert long_files <= set(LONG_FILES), f"look for a seam: {long_files - set(LONG_FILES)}"
    long_functions = {
        f"{name(path)}:{node.name}"
        for path in SOURCES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= 55
    }
    assert long_functions <= set(LONG_FUNCTIONS), f"cut: {long_functions - set(LONG_FUNCTIONS)}"


def test_every_module_and_class_says_what_it_is() -> None:
    silent = [name(p) for p in SOURCES if not ast.get_docstring(tree(p))]
    silent += [
        f"{name(path)}:{node.name}"
        for path in SOURCES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not silent, f"one sentence each: {silent}"


def test_names_explain_something() -> None:
    vague = [name(p) for p in [*SOURCES, *TESTS] if VAGUE.search(p.stem)]
    assert not vague, f"name what it holds: {vague}"


@pytest.mark.guards("T-32")
def test_no_foreign_error_is_formatted_or_chained() -> None:
    found = []
    for path in SOURCES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr == "exception" and ast.unparse(node.func.value) in {
                    "logger",
                    "logging",
                    "log",
                }:
                    found.append(f"{name(path)}:{node.lineno} logger.exception")
                if any(word.arg == "exc_info" for word in node.keywords):
                    found.append(f"{name(path)}:{node.lineno} exc_info")
    assert not found, f"log the error's type, never its text: {found}"


@pytest.mark.guards("T-32")
@pytest.mark.parametrize(
    "adapter",
    [
        "vault/db.py",
        "vault/transit_nodes.py",
        "vault/ledger/store.py",
        "vault/publisher.py",
        "vault/publication.py",
        "vault/signed_history.py",
        "gateway/inbound/merchant.py",
        "gateway/inbound/merchant_exchange.py",
        "gateway/inbound/merchant_sessions.py",
        "gateway/upstream.py",
        "gateway/upstream_proxy.py",
        "gateway/upstream_tls.py",
        "gateway/witness/held_checkpoints.py",
    ],
)
def test_adapters_raise_after_their_handlers(adapter: str) -> None:
    """A raise inside an `except` keeps the foreign error, plaintext and all, as its context."""
    for node in ast.walk(tree(ROOT / adapter)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        raised = [each for each in ast.walk(node) if isinstance(each, ast.Raise) and each.exc]
        assert not raised, f"{adapter}:{node.lineno}: set a variable, raise after the block"
        for each in ast.walk(node):
            if isinstance(each, ast.Call) and isinstance(each.func, ast.Name):
                named = each.func.id in {"str", "repr", "format"}
                assert not named, f"{adapter}:{each.lineno}: keep the class of the error only"


def test_bare_tasks_are_made_in_few_places() -> None:
    making = {
        name(path)
        for path in SOURCES
        for call in [*calls(path, "create_task"), *calls(path, "ensure_future")]
        if ast.unparse(call.func).startswith("asyncio.")
    }
    assert making == set(MAY_MAKE_TASKS)


@pytest.mark.guards("T-10")
def test_aiohttp_never_parses_a_body_for_us() -> None:
    banned = re.compile(r"\brequest\.(post|json|text|multipart|read)\(")
    found = [name(p) for p in SOURCES if banned.search(p.read_text()) and "sandbox" not in name(p)]
    assert not found, f"read_body, then our own codecs: {found}"


@pytest.mark.guards("T-45")
def test_no_request_follows_a_redirect() -> None:
    senders = ("gateway/upstream.py", "gateway/inbound/merchant.py")
    sent = [(sender, call) for sender in senders for call in calls(ROOT / sender, "request")]
    assert {sender for sender, _ in sent} == set(senders)
    for sender, call in sent:
        said = {word.arg: ast.unparse(word.value) for word in call.keywords}
        assert said.get("allow_redirects") == "False", f"{sender}:{call.lineno}"


def test_what_is_banned_stays_out() -> None:
    banned = re.compile(
        r"add_static|WebSocketResponse|normalize_path_middleware|BasicAuth|\bCookieJar\b"
        r"|import pickle|import marshal|yaml\.load|verify\s*=\s*False|CERT_NONE"
        r"|check_hostname = False"
    )
    found = [f"{name(p)}: {m[0]}" for p in SOURCES if (m := banned.search(p.read_text()))]
    assert found == ["gateway/inbound/sockets.py: WebSocketResponse"], "of routes that say so, only"


TEXTS = {
    *(".py", ".toml", ".md", ".sql", ".hcl", ".lua", ".json", ".lock", ""),
    *(".ts", ".js", ".mjs", ".html", ".css"),
}


def test_no_card_number_is_written_down_outside_the_list() -> None:
    digits = re.compile(r"(?<![0-9A-Za-z_.])[0-9]{13,19}(?![0-9A-Za-z_])")
    texts = [
        path
        for path in ROOT.rglob("*")
        if path.is_file()
        and path.suffix in TEXTS
        and not {".venv", ".git", "node_modules"} & set(path.relative_to(ROOT).parts)
        and not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    ]
    found = [
        name(path)
        for path in texts
        if name(path) not in CARDS_ALLOWED
        for number in digits.findall(path.read_text(errors="replace"))
        if luhn_sum(number) % 10 == 0 and number[0] in "3456"
    ]
    assert not found, f"take it from tests/cards.py: {found}"


def test_every_custody_error_has_an_answer() -> None:
    classes = {
        each
        for each in vars(custody_errors).values()
        if isinstance(each, type) and issubclass(each, custody_errors.CustodyError)
    }
    assert classes <= set(PROBLEMS), f"a row in gateway/problems.py: {classes - set(PROBLEMS)}"


def test_every_module_has_a_test_file() -> None:
    """A mirror of the tree; what is tested through a neighbor is listed with it."""
    tests = {path.stem for path in TESTS}
    missing = [
        name(path)
        for path in SOURCES
        if path.stem not in {"__init__", "__main__"}
        and not {f"test_{path.stem}", TESTED_BY.get(name(path), "")} & tests
        and not name(path).startswith(("gateway/sandbox/", "gateway/commands/", "gateway/demo/"))
    ]
    assert not missing, f"write one, or say in TESTED_BY which covers it: {missing}"


TESTED_BY = {
    "gateway/card_files/asked.py": "test_masking",
    "gateway/card_files/output.py": "test_masking",
    "gateway/card_files/planning.py": "test_run",
    "gateway/card_files/report.py": "test_run",
    "gateway/fronting.py": "test_inbound_story",
    "gateway/inbound/areas.py": "test_filtering_declared",
    "gateway/inbound/declared.py": "test_filtering_declared",
    "gateway/inbound/expiry_fields.py": "test_filtering_declared",
    "gateway/inbound/filter_problems.py": "test_filtering_problems",
    "gateway/inbound/filtering.py": "test_filtering_properties",
    "gateway/inbound/looking.py": "test_filtering_undeclared",
    "gateway/inbound/merchant_exchange.py": "test_merchant",
    "gateway/inbound/merchant_sessions.py": "test_merchant",
    "gateway/inbound/plan.py": "test_filtering_declared",
    "gateway/inbound/rules.py": "test_filtering_problems",
    "gateway/inbound/undeclared.py": "test_filtering_undeclared",
    "gateway/inbound/written.py": "test_filtering_declared",
    "gateway/inbound_bodies.py": "test_inbound_story",
    "gateway/inbound_cards.py": "test_inbound_story",
    "gateway/inbound_proxy.py": "test_inbound_story",
    "gateway/inbound_replies.py": "test_inbound_story",
    "gateway/inbound_sockets.py": "test_inbound_sockets",
    "gateway/scan_coded.py": "test_scan",
    "gateway/scan_containers.py": "test_scan",
    "gateway/scan_hex.py": "test_scan",
    "gateway/scan_luhn.py": "test_scan",
    "gateway/scan_places.py": "test_scan",
    "gateway/scan_hits.py": "test_scan",
    "gateway/scan_packed.py": "test_scan",
    "gateway/scan_rows.py": "test_scan",
    "gateway/scan_spellings.py": "test_scan",
    "gateway/tracks.py": "test_scan",
    "vault/card_opener.py": "test_card_vault",
    "vault/card_slices.py": "test_tokenize_many",
    "vault/key_lanes.py": "test_keys",
    "vault/token_creation.py": "test_card_vault",
    "gateway/api/ledger.py": "test_ledger_api",
    "gateway/bodies.py": "test_middleware_bodies",
    "gateway/caching.py": "test_ledger_api",
    "gateway/card_body.py": "test_sealed",
    "gateway/signatures_adyen.py": "test_signatures_forms",
    "gateway/signatures_braintree.py": "test_signatures_forms",
    "gateway/signatures_layouts.py": "test_signatures_forged",
    "gateway/signatures_macs.py": "test_signatures_forged",
    "gateway/signatures_recipes.py": "test_signatures",
    "gateway/signatures_terms.py": "test_signatures",
    "gateway/callback_payloads.py": "test_callback_scrub",
    "gateway/callback_rules.py": "test_callback_events",
    "gateway/preset_callbacks.py": "test_callback_events",
    "gateway/preset_conditions.py": "test_call",
    "gateway/reporting.py": "test_callbacks_flow",
    "vault/callback_table.py": "test_callbacks",
    "vault/transmission_table.py": "test_callback_transmissions",
    "vault/callback_unit.py": "test_callbacks",
    "vault/delivery_queue.py": "test_webhook_table",
    "vault/secret_shelves.py": "test_keys_on_demand",
    "vault/transit_secrets.py": "test_transit_contract",
    "gateway/checkout/document.py": "test_pages",
    "gateway/config_rules.py": "test_config",
    "gateway/cross_origin.py": "test_checkout_api",
    "gateway/hosting.py": "test_checkout_api",
    "gateway/page_guard.py": "test_card_testing",
    "gateway/visits.py": "test_checkout_api",
    "gateway/kept_requests.py": "test_reconciliation",
    "gateway/known_keys.py": "test_merchants",
    "gateway/preset_patterns.py": "test_preset",
    "gateway/publishing.py": "test_ledger_http",
    "gateway/reconcile.py": "test_reconciliation",
    "vault/derived_rows.py": "test_rebuild",
    "vault/doubt_table.py": "test_reconciler",
    "vault/doubts.py": "test_reconciler",
    "vault/freshness.py": "test_seals",
    "vault/ledger/looking_back.py": "test_check",
    "vault/ledger/pages.py": "test_examination",
    "vault/ledger/summary.py": "test_examination",
    "vault/ledger/rules.py": "test_check",
    "vault/milestones.py": "test_crash_matrix",
    "vault/own_events.py": "test_ledger_api",
    "vault/private_files.py": "test_layout",
    "vault/proven_log.py": "test_export",
    "vault/publication.py": "test_publisher",
    "vault/published.py": "test_publisher",
    "vault/resolutions.py": "test_reconciler",
    "vault/signed_history.py": "test_publisher",
    "vault/signer_memory.py": "test_publisher",
    "gateway/codecs/csv.py": "test_csv_codec",
    "gateway/codecs/graphql.py": "test_graphql_codec",
    "gateway/codecs/json.py": "test_json_codec",
    "gateway/codecs/json_lines.py": "test_json_lines_codec",
    "gateway/codecs/multipart.py": "test_multipart_codec",
    "gateway/codecs/xml.py": "test_xml_codec",
    "gateway/connect_entrance.py": "test_connect",
    "gateway/plain_paths.py": "test_selectors",
    "gateway/reading.py": "test_reply_reading",
    "gateway/applications.py": "test_outbound_stripe",
    "gateway/arrival.py": "test_outbound_stripe",
    "gateway/config_file.py": "test_config",
    "gateway/custody.py": "test_restart",
    "gateway/duties.py": "test_restart",
    "gateway/out_answers.py": "test_outbound_stripe",
    "gateway/api/answers.py": "test_tokenize_api",
    "gateway/api/authorizations.py": "test_authorizations_api",
    "gateway/api/masked_card.py": "test_tokenize_api",
    "gateway/app.py": "test_outbound_stripe",
    "gateway/authorize.py": "test_outbound_stripe",
    "gateway/cli.py": "test_restart",
    "gateway/embedded.py": "test_restart",
    "gateway/errors.py": "test_problems",
    "gateway/outbound.py": "test_outbound_stripe",
    "gateway/tokenize.py": "test_tokenize_api",
    "vault/errors.py": "test_problems",
    "vault/observer.py": "test_metrics",
}
"""Modules that are tested as part of a story, or as a neighbor's subject."""
