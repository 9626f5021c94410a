"""What is counted and timed, for Prometheus: names, buckets and labels, all of them closed.

A label's value is a word of ours; whatever else is offered becomes `other`: a path, a tenant too
many, a card number. So this file bounds the series: below 5,000 a process.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from importlib.metadata import version
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from gateway.breaker import Circuit
from gateway.exchange import Failure, Phase
from gateway.problems import CLIENT_CLOSED, PROBLEMS, Fault
from gateway.scan import Kind as ScanKind
from vault.authorization import Kind, Result, State

PREFIX: Final = "panward_"
OTHER: Final = "other"
EXPOSITION_SECONDS: Final = 1.0
TENANTS_MAX: Final = 200
VERSION: Final = version("panward")

_MANY_DIGITS: Final = re.compile(r"[0-9]{12}")


@dataclass(frozen=True, eq=False)
class Label:
    """What a label may say: words declared here, and the first few of a form that is ours."""

    name: str
    known: frozenset[str] = frozenset()
    learned_max: int = 0
    form: re.Pattern[str] = re.compile(r"[a-z][a-z_]{0,31}")


def _label(name: str, *known: str, learned_max: int = 0) -> Label:
    return Label(name, frozenset(known), learned_max)


_STATUSES = frozenset(str(int(status)) for status in HTTPStatus) | {str(CLIENT_CLOSED)}
_CODES = frozenset(str(getattr(kind, "code", OTHER)) for kind in PROBLEMS)
_DENIED: Final = {
    Failure.EGRESS_DENIED: "address",
    Failure.REDIRECT: "redirect",
    Failure.TLS_ERROR: "tls",
}
_STORE_ERRORS = ("connection", "read_only", "timeout", "full", "busy", "conflict", "corrupt")

LISTENER: Final = _label("listener", "public", "private", "ops", "connect", "inbound", "callbacks")
TEMPLATE: Final = _label("route", "unmatched", "refused")  # more by `declare_templates`
ROUTE: Final = _label("route")  # a processor's, by the constructor
CODE: Final = Label("code", _STATUSES)
FAULT: Final = _label("fault", *Fault)
STATE: Final = _label("state", *State)
PROTOCOL: Final = _label(
    "kind", "framing", "te", "version", "expect", "upgrade", "headers", "encoding", "host", "slow"
)
STAGE: Final = _label(
    "stage",
    *("auth", "limit", "digest", "claim", "rows", "intent", "decrypt"),
    *("processor", "scrub", "seal", "outcome"),
)
PHASE: Final = _label("phase", *Phase)
OPERATION: Final = _label("op", learned_max=24)
TENANT: Final = Label("tenant", learned_max=TENANTS_MAX, form=re.compile("t_[0-9a-z]{2,26}"))
CLAIM: Final = _label("result", "first", "replayed", "in_flight", "mismatch", "unsettled")
RESULT: Final = _label("result", "none", *Result)
FORM: Final = _label("form", "callbacks", "events")
PLACE: Final = _label("place", "out_reply", "inbound", "callback", "merchant_reply")

COUNTERS: Final[Mapping[str, tuple[str, tuple[Label, ...]]]] = {
    "http_requests_total": ("Requests answered", (LISTENER, TEMPLATE, CODE, FAULT)),
    "http_protocol_errors_total": ("Requests refused for how they were written", (PROTOCOL,)),
    "requests_shed_total": (
        "What was refused for lack of room",
        (
            _label("class", "connection"),
            _label("reason", "connections", "address", "handshake", "accept"),
        ),
    ),
    "auth_failures_total": ("Callers not let in", (_label("kind", learned_max=8),)),
    "log_dropped_total": ("Log lines lost", (_label("reason", "write"),)),
    "log_redactions_total": (
        "Log lines withheld: a card-like number was in them",
        (_label("reason", "card_like"),),
    ),
    "tokenize_total": (
        "Cards that came in",
        (_label("result", "created", "reused", "refused", "error"),),
    ),
    "reveals_total": ("Cards opened, and the state of their call", (ROUTE, STATE)),
    "tenant_reveals_total": ("Cards opened, by tenant", (TENANT,)),
    "authorizations_total": (
        "Processor calls and what became of them",
        (ROUTE, _label("kind", *Kind), STATE, RESULT),
    ),
    "refusals_total": (
        "Requests refused before anything left, by their code",
        (Label("reason", _CODES, learned_max=32),),
    ),
    "idempotency_total": ("What a claim found", (CLAIM,)),
    "upstream_errors_total": (
        "Processor calls without a good answer",
        (ROUTE, PHASE, _label("kind", *Failure)),
    ),
    "egress_denied_total": (
        "Sends stopped at the exit",
        (_label("reason", "address", "redirect", "tls", "scheme", "field"),),
    ),
    "scan_hits_total": (
        "Card numbers seen where none belongs",
        (PLACE, _label("kind", "echo", "card_like", *ScanKind)),
    ),
    "transit_item_errors_total": (
        "Items that failed in a call that did not",
        (OPERATION, _label("kind", "context", "too_new", "too_old", "base64", learned_max=8)),
    ),
    "transit_mismatch_total": ("Answers that did not fit their questions", ()),
    "store_errors_total": (
        "Failed calls of PostgreSQL",
        (_label("class", *_STORE_ERRORS, learned_max=8),),
    ),
    "ledger_appends_total": (
        "Transactions that appended to the ledger",
        (_label("result", "ok", "doubtful", "failed", learned_max=4),),
    ),
    "ledger_publish_failures_total": (
        "Checkpoints that were not published",
        (_label("reason", learned_max=32),),
    ),
    "ledger_verify_failures_total": ("Proven inconsistencies of the ledger", ()),
    "witness_answers_total": (
        "What witnesses said of checkpoints",
        (_label("witness", learned_max=32), _label("result", learned_max=16)),
    ),
    "reconciliations_total": (
        "Attempts to find out what became of an unknown call",
        (ROUTE, _label("result", learned_max=16)),
    ),
    "access_denied_total": (
        "Refusals that are put on record",
        (_label("cause", "key", "scope", "foreign_token", learned_max=8),),
    ),
    "page_refusals_total": (
        "Calls of pages refused: too many, or too many bad cards",
        (
            _label(
                "scope",
                *("stranger", "address", "network_calls", "key", "code"),
                *("network", "tenant"),
            ),
        ),
    ),
    "sealed_cards_total": (
        "What browsers and apps sealed, and what became of it",
        (
            _label(
                "result",
                *("opened", "replayed", "key_unknown", "box", "form"),
                *("expired", "origin", "tenant", "kid", "token"),
            ),
        ),
    ),
    "edge_keys_refused_total": (
        "Edge keys that were not used: their record does not hold",
        (_label("reason", learned_max=8),),
    ),
    "csp_reports_total": (
        "Violations of the hosted fields' policy, as browsers report them",
        (Label("directive", learned_max=32, form=re.compile("[a-z][a-z-]{2,31}")),),
    ),
    "callbacks_total": (
        "Callbacks of processors, and what became of them",
        (
            ROUTE,
            _label(
                "result",
                *("ok", "duplicate", "bad_signature", "stale", "source", "error", "unreadable"),
            ),
        ),
    ),
    "deliveries_total": (
        "Attempts to tell merchants",
        (
            FORM,
            _label("result", "delivered", "failed", "dead", "gone", "put_off"),
        ),
    ),
    "cvc_removed_total": ("CVCs gone", (_label("reason", "consumed", "expired", "lost"),)),
}

FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
HTTP: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 3, 5, 10, 30, 75)
UPSTREAM: Final = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 9, 13, 20, 28, 55, 75)
ITEMS: Final = (1, 2, 4, 8, 16, 32, 64, 96, 128)

HISTOGRAMS: Final[Mapping[str, tuple[str, tuple[float, ...], tuple[Label, ...]]]] = {
    "http_request_duration_seconds": ("From head to answer", HTTP, (LISTENER, TEMPLATE)),
    "forward_overhead_seconds": ("A processor call without the processor's part", FAST, (ROUTE,)),
    "stage_duration_seconds": ("Steps of the way out", FAST, (STAGE,)),
    "upstream_request_duration_seconds": ("The processor's part", UPSTREAM, (ROUTE, PHASE)),
    "transit_request_duration_seconds": (
        "Calls of HashiCorp Vault",
        FAST,
        (OPERATION, _label("result", "ok", learned_max=24)),
    ),
    "transit_batch_items": ("Items of a call", ITEMS, (OPERATION,)),
    "transit_queue_wait_seconds": ("How long an item waited for its call", FAST, (OPERATION,)),
    "store_duration_seconds": (
        "Calls of PostgreSQL",
        FAST,
        (_label("op", learned_max=32), _label("result", "ok", *_STORE_ERRORS, learned_max=8)),
    ),
    "ledger_append_duration_seconds": ("How long an append took", FAST, ()),
    "ledger_batch_entries": ("Entries of one transaction", ITEMS, ()),
    "delivery_duration_seconds": ("One attempt to tell a merchant", HTTP, (FORM,)),
    "event_loop_lag_seconds": ("How late the loop runs what is due", FAST, ()),
}

GAUGES: Final[Mapping[str, tuple[str, tuple[Label, ...]]]] = {
    "authorizations_unknown": ("Calls that are unknown and not resolved", (ROUTE,)),
    "authorizations_unknown_oldest_seconds": ("Age of the oldest of them", (ROUTE,)),
    "circuit_state": (
        "1 for the state that a route's circuit is in",
        (ROUTE, _label("state", *Circuit)),
    ),
    "authorizations_open": ("Intents without an outcome", ()),
    "authorizations_open_oldest_seconds": ("Age of the oldest of them", ()),
    "vault_sealed": ("1 while HashiCorp Vault is sealed", ()),
    "vault_canary_success_timestamp_seconds": ("The last good round trip", ()),
    "store_canary_success_timestamp_seconds": ("The last good write", ()),
    "ledger_size": ("Entries in the ledger", ()),
    "ledger_sealed": ("1 while no card is disclosed", ()),
    "ledger_checkpoint_timestamp_seconds": ("When the ledger was last signed", ()),
    "ledger_checkpoint_size": ("Entries that the last checkpoint covers", ()),
    "ledger_witness_timestamp_seconds": ("When a witness last cosigned", ()),
    "ledger_publisher": ("1 on the gateway that signs", ()),
    "ledger_spool_entries": ("Outcomes not yet in the ledger", ()),
    "cvc_stored": ("CVCs held", ()),
    "deliveries_waiting": ("What merchants are still to be told", ()),
    "deliveries_overdue_seconds": ("How long the oldest of it has been due", ()),
    "deliveries_dead": ("What was given up", ()),
    "deliveries_paused": ("Endpoints left alone for a moment", ()),
    "deliveries_disabled": ("Endpoints that said they are gone, or were turned off", ()),
    "deliveries_behind": ("Entries of the ledger that are not told yet", ()),
    "edge_key_age_seconds": ("Age of the newest edge key", ()),
    "edge_keys": ("Edge keys in use: without one no card is sealed", ()),
    "build_info": ("What runs here", (_label("version", VERSION),)),
}


PROVEN: Final = frozenset({"root_mismatch", "rollback", "fork", "signer", "corrupt"})
"""Reasons not to publish that are no accident."""


class Words:
    """The values that one label of one process has taken, and may take."""

    def __init__(self, label: Label) -> None:
        self._known = {OTHER, *label.known}
        self._room = label.learned_max
        self._form = label.form

    def declare(self, words: Iterable[str]) -> None:
        self._known.update(words)

    def closed(self, word: str) -> str:
        if word in self._known:
            return word
        if self._room == 0 or not self._form.fullmatch(word) or _MANY_DIGITS.search(word):
            return OTHER
        self._known.add(word)
        self._room -= 1
        return word


class Metrics:
    """Everything this process counts: the observer of custody and of the way out, among others."""

    def __init__(self, *, processor_routes: Iterable[str] = ()) -> None:
        """`processor_routes` are the names of the configured routes."""
        self.registry = CollectorRegistry(auto_describe=True)
        self._words: dict[Label, Words] = {}
        self._metrics: dict[str, tuple[Counter | Gauge | Histogram, tuple[Words, ...]]] = {}
        self._counters: dict[tuple[str, ...], Counter] = {}
        self._histograms: dict[tuple[str, ...], Histogram] = {}
        self._exposed: tuple[float, bytes] | None = None
        for name, (told, labels) in COUNTERS.items():
            counter = Counter(PREFIX + name, told, _names(labels), registry=self.registry)
            self._metrics[name] = counter, self._closing(labels)
        for name, (told, labels) in GAUGES.items():
            gauge = Gauge(PREFIX + name, told, _names(labels), registry=self.registry)
            self._metrics[name] = gauge, self._closing(labels)
        for name, (told, buckets, labels) in HISTOGRAMS.items():
            histogram = Histogram(
                PREFIX + name, told, _names(labels), buckets=buckets, registry=self.registry
            )
            self._metrics[name] = histogram, self._closing(labels)
        ProcessCollector(registry=self.registry)
        build, _ = self._gauge("build_info")
        build.labels(VERSION).set(1)
        self._words_of(ROUTE).declare(processor_routes)

    # --- the edge ---------------------------------------------------------------------------

    def declare_templates(self, templates: Iterable[str]) -> None:
        """Make known the route templates of a listener; a path that is none is `unmatched`."""
        self._words_of(TEMPLATE).declare(templates)

    def http_request(
        self, listener: str, route: str, status: int, seconds: float, fault: str
    ) -> None:
        self._count("http_requests_total", listener, route, str(status), fault)
        self._time("http_request_duration_seconds", seconds, listener, route)

    def protocol_error(self, kind: str) -> None:
        self._count("http_protocol_errors_total", kind)

    def connection_shed(self, reason: str) -> None:
        self._count("requests_shed_total", "connection", reason)

    def auth_failure(self, kind: str) -> None:
        self._count("auth_failures_total", kind)

    def log_dropped(self, reason: str) -> None:
        self._count("log_dropped_total", reason)

    def log_redacted(self, reason: str) -> None:
        self._count("log_redactions_total", reason)

    def loop_lagged(self, seconds: float) -> None:
        self._time("event_loop_lag_seconds", seconds)

    # --- the money path ---------------------------------------------------------------------

    def tokenized(self, result: str) -> None:
        self._count("tokenize_total", result)

    def page_refused(self, scope: str) -> None:
        self._count("page_refusals_total", scope)

    def unsealed(self, result: str) -> None:
        self._count("sealed_cards_total", result)

    def edge_key_refused(self, reason: str) -> None:
        self._count("edge_keys_refused_total", reason)

    def csp_report(self, directive: str) -> None:
        self._count("csp_reports_total", directive)

    def called_back(self, route: str, result: str) -> None:
        self._count("callbacks_total", route, result)

    def delivery_tried(self, form: str, outcome: str, seconds: float) -> None:
        self._count("deliveries_total", form, outcome)
        self._time("delivery_duration_seconds", seconds, form)

    def deliveries_open(self, open_now: Mapping[str, float]) -> None:
        """Set what is known of the queue, each by the name of its gauge."""
        for name, value in open_now.items():
            self._set(f"deliveries_{name}", value)

    def edge_keys_published(self, count: int) -> None:
        self._set("edge_keys", count)

    def edge_key_aged(self, seconds: float) -> None:
        self._set("edge_key_age_seconds", seconds)

    def revealed(self, route: str, count: int, *, state: str, tenant: str) -> None:
        self._count("reveals_total", route, state, amount=count)
        self._count("tenant_reveals_total", tenant, amount=count)

    def authorized(self, route: str, kind: str, state: str, result: str | None) -> None:
        self._count("authorizations_total", route, kind, state, result or "none")

    def refused(self, reason: str) -> None:
        self._count("refusals_total", reason)

    def upstream_phase_ended(self, route: str, phase: Phase, seconds: float) -> None:
        self._time("upstream_request_duration_seconds", seconds, route, phase)

    def upstream_failed(self, route: str, phase: Phase, code: Failure) -> None:
        self._count("upstream_errors_total", route, phase, code)
        denied = _DENIED.get(code)
        if denied is not None:
            self.egress_denied(denied)

    def stage(self, stage: str, seconds: float) -> None:
        self._time("stage_duration_seconds", seconds, stage)

    def forward_overhead(self, route: str, seconds: float) -> None:
        self._time("forward_overhead_seconds", seconds, route)

    def idempotency(self, result: str) -> None:
        self._count("idempotency_total", result)

    def scan_hits(self, place: str, kind: str, count: int = 1) -> None:
        self._count("scan_hits_total", place, kind, amount=count)

    def egress_denied(self, reason: str) -> None:
        self._count("egress_denied_total", reason)

    def circuit_changed(self, route: str, circuit: Circuit) -> None:
        """Say which of its states the circuit of a route is in."""
        gauge, (routes, states) = self._gauge("circuit_state")
        for each in Circuit:
            gauge.labels(routes.closed(route), states.closed(each)).set(each is circuit)

    def unknown_open(self, by_route: Mapping[str, tuple[int, float]]) -> None:
        """Set count and age of the oldest for all routes: one that is not named has none."""
        count, words = self._gauge("authorizations_unknown")
        oldest, _ = self._gauge("authorizations_unknown_oldest_seconds")
        count.clear()
        oldest.clear()
        for route, (open_now, oldest_seconds) in by_route.items():
            name = words[0].closed(route)
            count.labels(name).set(open_now)
            oldest.labels(name).set(oldest_seconds)

    def intents_open(self, count: int, oldest_seconds: float) -> None:
        self._set("authorizations_open", count)
        self._set("authorizations_open_oldest_seconds", oldest_seconds)

    # --- custody ----------------------------------------------------------------------------

    def transit_called(self, operation: str, items: int, seconds: float, result: str) -> None:
        self._time("transit_request_duration_seconds", seconds, operation, result)
        self._time("transit_batch_items", items, operation)

    def transit_waited(self, operation: str, seconds: float) -> None:
        self._time("transit_queue_wait_seconds", seconds, operation)

    def transit_item_failed(self, operation: str, kind: str) -> None:
        self._count("transit_item_errors_total", operation, kind)

    def transit_mismatched(self) -> None:
        self._count("transit_mismatch_total")

    def store_called(self, operation: str, seconds: float, result: str) -> None:
        self._time("store_duration_seconds", seconds, operation, result)
        if result != "ok":
            self._count("store_errors_total", result)

    def ledger_appended(self, entries: int, seconds: float, result: str) -> None:
        self._count("ledger_appends_total", result)
        self._time("ledger_append_duration_seconds", seconds)
        self._time("ledger_batch_entries", entries)

    def ledger_published(self, size: int, at: datetime) -> None:
        self._set("ledger_checkpoint_size", size)
        self._set("ledger_checkpoint_timestamp_seconds", at.timestamp())

    def ledger_publish_failed(self, reason: str) -> None:
        self._count("ledger_publish_failures_total", reason)
        if reason in PROVEN:
            self._count("ledger_verify_failures_total")

    def ledger_witnessed(self, at: datetime) -> None:
        self._set("ledger_witness_timestamp_seconds", at.timestamp())

    def ledger_publisher(self, *, elected: bool) -> None:
        self._set("ledger_publisher", elected)

    def witness_answered(self, name: str, result: str) -> None:
        self._count("witness_answers_total", name, result)

    def reconciled(self, route: str, result: str) -> None:
        self._count("reconciliations_total", route, result)

    def access_denied(self, cause: str) -> None:
        self._count("access_denied_total", cause)

    def ledger_size(self, entries: int) -> None:
        self._set("ledger_size", entries)

    def ledger_state(self, *, sealed: bool, spooled: int) -> None:
        self._set("ledger_sealed", sealed)
        self._set("ledger_spool_entries", spooled)

    def vault_sealed(self, *, sealed: bool) -> None:
        self._set("vault_sealed", sealed)

    def vault_canary(self, at_seconds: float) -> None:
        self._set("vault_canary_success_timestamp_seconds", at_seconds)

    def store_canary(self, at_seconds: float) -> None:
        self._set("store_canary_success_timestamp_seconds", at_seconds)

    def cvc_stored(self, count: int) -> None:
        self._set("cvc_stored", count)

    def cvc_removed(self, reason: str, count: int = 1) -> None:
        self._count("cvc_removed_total", reason, amount=count)

    # --- the way to Prometheus --------------------------------------------------------------

    def exposition(self, *, at: float) -> bytes:
        """Return the text format as of `at` (monotonic seconds), at most a second old."""
        if self._exposed is None or at - self._exposed[0] >= EXPOSITION_SECONDS:
            self._exposed = (at, generate_latest(self.registry))
        return self._exposed[1]

    # --- children are kept: finding one costs more than adding to it ------------------------

    def _count(self, *series: str, amount: float = 1) -> None:
        """`series` is a metric's name and its labels' values."""
        child = self._counters.get(series)
        if child is None:
            counter, words = self._metrics[series[0]]
            assert isinstance(counter, Counter)
            closed = _closed(words, series[1:])
            child = counter.labels(*closed) if closed else counter
            if closed == series[1:]:  # so what comes from outside cannot fill the memory
                self._counters[series] = child
        child.inc(amount)

    def _time(self, name: str, amount: float, *values: str) -> None:
        series = (name, *values)
        child = self._histograms.get(series)
        if child is None:
            histogram, words = self._metrics[name]
            assert isinstance(histogram, Histogram)
            closed = _closed(words, values)
            child = histogram.labels(*closed) if closed else histogram
            if closed == values:
                self._histograms[series] = child
        child.observe(amount)

    def _set(self, name: str, value: float) -> None:
        gauge, _ = self._gauge(name)
        gauge.set(value)

    def _gauge(self, name: str) -> tuple[Gauge, tuple[Words, ...]]:
        gauge, words = self._metrics[name]
        assert isinstance(gauge, Gauge)
        return gauge, words

    def _closing(self, labels: tuple[Label, ...]) -> tuple[Words, ...]:
        return tuple(self._words_of(label) for label in labels)

    def _words_of(self, label: Label) -> Words:
        return self._words.setdefault(label, Words(label))


def _closed(words: tuple[Words, ...], values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word.closed(value) for word, value in zip(words, values, strict=True))


def _names(labels: tuple[Label, ...]) -> list[str]:
    return [label.name for label in labels]
