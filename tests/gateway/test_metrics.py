"""Metrics: closed labels, bounded series, and every name of theirs in use."""

import inspect
import random
import re
from datetime import UTC, datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.breaker import Circuit
from gateway.exchange import Failure, Phase
from gateway.metrics import COUNTERS, GAUGES, HISTOGRAMS, PREFIX, TENANTS_MAX, Metrics
from gateway.problems import PROBLEMS
from tests.cards import VISA
from vault.authorization import Kind, Result, State
from vault.observer import Observer, Silent


@pytest.fixture
def metrics() -> Metrics:
    made = Metrics(processor_routes=["stripe", "adyen"])
    made.declare_templates(["/v1/tokens", "/v1/tokens/{token}", "/out/{route}/{path}"])
    return made


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(PREFIX + name, labels)


def use_all(metrics: Metrics) -> None:
    use_callbacks(metrics)
    use_edge(metrics)
    use_custody(metrics)


def use_callbacks(metrics: Metrics) -> None:
    metrics.called_back("stripe", "duplicate")
    metrics.delivery_tried("events", "delivered", 0.1)
    waiting = {"waiting": 5, "overdue_seconds": 2.0, "dead": 1, "behind": 3}
    metrics.deliveries_open({**waiting, "paused": 1, "disabled": 2})


def use_edge(metrics: Metrics) -> None:
    metrics.http_request("public", "/v1/tokens", 201, 0.02, "none")
    metrics.protocol_error("framing")
    metrics.connection_shed("address")
    metrics.auth_failure("key")
    metrics.log_dropped("write")
    metrics.log_redacted("card_like")
    metrics.loop_lagged(0.001)
    metrics.tokenized("created")
    metrics.page_refused("network")
    metrics.unsealed("replayed")
    metrics.edge_key_refused("signature")
    metrics.edge_key_aged(3600.0)
    metrics.edge_keys_published(2)
    metrics.csp_report("script-src-elem")
    metrics.revealed("stripe", 2, state="completed", tenant="t_abc")
    metrics.authorized("stripe", "authorize", "completed", "approved")
    metrics.authorized("stripe", "authorize", "not_sent", None)
    metrics.refused("raw_card_number")
    metrics.upstream_phase_ended("stripe", Phase.TLS, 0.1)
    metrics.upstream_failed("stripe", Phase.SENT, Failure.TIMEOUT)
    metrics.stage("decrypt", 0.004)
    metrics.forward_overhead("stripe", 0.006)
    metrics.idempotency("replayed")
    metrics.scan_hits("out_reply", "echo", 3)
    metrics.egress_denied("address")
    metrics.circuit_changed("stripe", Circuit.OPEN)
    metrics.unknown_open({"stripe": (2, 61.0)})
    metrics.intents_open(3, 1.5)


def use_custody(metrics: Metrics) -> None:
    metrics.transit_called("encrypt", 5, 0.002, "ok")
    metrics.transit_waited("encrypt", 0.001)
    metrics.transit_item_failed("decrypt", "too_old")
    metrics.transit_mismatched()
    metrics.store_called("insert_token", 0.001, "ok")
    metrics.store_called("insert_token", 0.001, "busy")
    metrics.ledger_appended(3, 0.002, "ok")
    metrics.ledger_size(12)
    metrics.ledger_state(sealed=True, spooled=1)
    metrics.ledger_published(12, datetime(2026, 1, 2, tzinfo=UTC))
    metrics.ledger_witnessed(datetime(2026, 1, 2, tzinfo=UTC))
    metrics.ledger_publish_failed("rollback")
    metrics.ledger_publisher(elected=True)
    metrics.witness_answered("here", "cosigned")
    metrics.reconciled("stripe", "answered")
    metrics.access_denied("key")
    metrics.vault_sealed(sealed=True)
    metrics.vault_canary(1700000000.0)
    metrics.store_canary(1700000000.0)
    metrics.cvc_stored(4)
    metrics.cvc_removed("consumed")


def test_every_metric_has_a_method_that_moves_it(metrics: Metrics) -> None:
    use_all(metrics)
    moved = {
        sample.name
        for family in text_string_to_metric_families(metrics.exposition(at=0.0).decode())
        for sample in family.samples
        if sample.value
    }
    for name in (*COUNTERS, *GAUGES):
        assert PREFIX + name in moved
    for name in HISTOGRAMS:
        assert PREFIX + name + "_count" in moved
    assert "process_resident_memory_bytes" in moved


def test_values_are_where_they_were_put(metrics: Metrics) -> None:
    use_all(metrics)
    labels = {"listener": "public", "route": "/v1/tokens", "code": "201", "fault": "none"}
    assert value(metrics, "http_requests_total", **labels) == 1
    assert value(metrics, "reveals_total", route="stripe", state="completed") == 2
    assert value(metrics, "tenant_reveals_total", tenant="t_abc") == 2
    assert value(metrics, "authorizations_unknown", route="stripe") == 2
    assert value(metrics, "authorizations_unknown_oldest_seconds", route="stripe") == 61.0
    assert value(metrics, "store_errors_total", **{"class": "busy"}) == 1
    assert value(metrics, "ledger_sealed") == 1
    refused = {"route": "stripe", "phase": "sent", "kind": "upstream_timeout"}
    assert value(metrics, "upstream_errors_total", **refused) == 1
    metrics.unknown_open({})
    assert not value(metrics, "authorizations_unknown", route="stripe")


def test_words_of_the_domain_are_labels_letter_for_letter(metrics: Metrics) -> None:
    for kind in Kind:
        for state in State:
            for result in (*Result, None):
                metrics.authorized("stripe", kind, state, result)
    for error in PROBLEMS:
        metrics.refused(getattr(error, "code", ""))
    for family in text_string_to_metric_families(metrics.exposition(at=0.0).decode()):
        if family.name in {PREFIX + "authorizations", PREFIX + "refusals"}:
            for label in ("state", "result", "reason"):
                assert all(sample.labels.get(label) != "other" for sample in family.samples)


@pytest.mark.guards("T-44", "T-45", "T-48")
def test_what_is_stopped_at_the_exit_is_an_alert_of_its_own(metrics: Metrics) -> None:
    for code in Failure:
        metrics.upstream_failed("stripe", Phase.CONNECT, code)

    def counted(reason: str) -> float | None:
        return metrics.registry.get_sample_value("panward_egress_denied_total", {"reason": reason})

    assert [counted(reason) for reason in ("address", "redirect", "tls")] == [1, 1, 1]
    assert sum(counted(reason) or 0 for reason in ("scheme", "field", "other")) == 0


@pytest.mark.guards("T-37")
def test_whatever_comes_from_outside_the_series_stay_few_and_hold_no_number(
    metrics: Metrics,
) -> None:
    use_all(metrics)
    draw = random.Random(7)  # noqa: S311 - a failure must happen again
    strange = [VISA, "pwt_test_x", "https://a.example/?q=1", "", "a" * 500, "é\n", "DROP"]
    takes_words = [
        metrics.protocol_error,
        metrics.connection_shed,
        metrics.auth_failure,
        metrics.tokenized,
        metrics.refused,
        metrics.idempotency,
        metrics.egress_denied,
        metrics.cvc_removed,
        metrics.log_dropped,
    ]
    for number in range(10_000):
        word = draw.choice([*strange, f"word_{chr(97 + number % 26)}", f"{VISA}{number}"])
        metrics.http_request(word, f"/v1/{number}/{VISA}", draw.randrange(1000), 0.1, word)
        metrics.revealed(word, 1, state=word, tenant=f"t_{number:05d}")
        metrics.authorized(word, word, word, word)
        metrics.store_called(word, 0.1, word)
        metrics.transit_called(word, 1, 0.1, word)
        metrics.scan_hits(word, word)
        metrics.circuit_changed(word, draw.choice(list(Circuit)))
        metrics.unknown_open({word: (1, 1.0)})
        draw.choice(takes_words)(word)
    families = list(text_string_to_metric_families(metrics.exposition(at=0.0).decode()))
    series = [sample for family in families for sample in family.samples]
    assert len(series) < 5_000
    for sample in series:
        for label, text in sample.labels.items():
            assert not re.search(r"\d{12,}", text), label
            assert len(text) < 64
    tenants = {sample.labels["tenant"] for sample in series if "tenant" in sample.labels}
    assert len(tenants) == TENANTS_MAX + 1
    assert len(metrics._counters) + len(metrics._histograms) < 5_000


@pytest.mark.guards("T-37")
def test_a_card_number_is_no_tenant(metrics: Metrics) -> None:
    metrics.revealed("stripe", 1, state="completed", tenant=f"t_{VISA}")
    assert value(metrics, "tenant_reveals_total", tenant="other") == 1


def test_the_full_range_of_our_own_words_is_below_the_bound() -> None:
    routes = [f"route_{chr(97 + n)}" for n in range(5)]
    metrics = Metrics(processor_routes=routes)
    use_all(metrics)
    for route in routes:
        for phase in Phase:
            metrics.upstream_phase_ended(route, phase, 0.1)
            for failure in Failure:
                metrics.upstream_failed(route, phase, failure)
    assert metrics.exposition(at=0.0).count(b"\n") < 5_000


def test_each_slo_threshold_is_a_bound_of_a_bucket() -> None:
    _, http, _ = HISTOGRAMS["http_request_duration_seconds"]
    _, overhead, _ = HISTOGRAMS["forward_overhead_seconds"]
    assert 0.05 in http
    assert 0.05 in overhead


def test_a_circuit_is_in_one_state(metrics: Metrics) -> None:
    def states(route: str) -> list[float | None]:
        return [value(metrics, "circuit_state", route=route, state=each) for each in Circuit]

    for circuit in (Circuit.CLOSED, Circuit.OPEN, Circuit.HALF_OPEN):
        metrics.circuit_changed("stripe", circuit)
        assert states("stripe") == [float(each is circuit) for each in Circuit]
    metrics.circuit_changed("adyen", Circuit.CLOSED)
    metrics.circuit_changed(VISA, Circuit.OPEN)
    assert states("stripe") == [0.0, 1.0, 0.0]
    assert states("adyen") == [1.0, 0.0, 0.0]
    assert states("other") == [0.0, 0.0, 1.0]


def test_the_exposition_is_at_most_a_second_old(metrics: Metrics) -> None:
    first = metrics.exposition(at=10.0)
    metrics.tokenized("created")
    assert metrics.exposition(at=10.9) is first
    assert b'panward_tokenize_total{result="created"} 1.0' in metrics.exposition(at=11.0)


def test_it_observes_custody(metrics: Metrics) -> None:
    observer: Observer = metrics
    for name, method in inspect.getmembers(Silent, inspect.isfunction):
        ours = getattr(observer, name)
        assert inspect.signature(ours) == inspect.signature(method.__get__(Silent()))
