"""The arithmetic of the performance table; nothing here is timed, and nothing is started."""

import msgspec
import pytest
from msgspec import UNSET

from bench import targets
from bench.asked import ASKED
from bench.card_numbers import numbers, tokenize_body
from bench.figures import (
    MIB,
    Figures,
    Load,
    Machine,
    Run,
    Spent,
    Usage,
    WrkRefused,
    elsewhere,
    load_of,
    mean_between,
    percentile,
    read_wrk,
    spent_between,
    stages_between,
)
from bench.gateway_clock import totals_in
from bench.offline import body_without_card
from bench.report import console_for, document, show
from bench.runs import shares
from bench.targets import Mark, Verdict, judge, missed_runs, where_time_goes
from gateway.echoes import count_card_like
from gateway.tokenize import TokenBody
from vault.pan import passes_luhn

PRINTED = """Running 4s test @ https://127.0.0.1:26779/v1/tokens
  1 threads and 64 connections
Requests/sec:   1054.74
{"requests":4247,"seconds":4.000,"p50_ms":56.026,"p95_ms":103.947,"p99_ms":166.072,"errors":3}
"""


def load(rate: float = 100.0, *, p50_ms: float = 1.0, p99_ms: float = 2.0) -> Load:
    return Load(requests=int(rate * 10), seconds=10.0, p50_ms=p50_ms, p95_ms=2.0, p99_ms=p99_ms)


def run(name: str, seen: Load, *, server: str = "gateway", resident_mib: float = 90.0) -> Run:
    spent = {server: Spent(5.0, 80.0, resident_mib), "openbao": Spent(2.5, 60.0, 61.0)}
    return Run(
        name=name,
        title="title",
        how="how",
        load=seen,
        server=server,
        spent=spent,
        answered=seen.requests,
        seconds=seen.seconds,
    )


def figures(*, tokenize_rate: float = 4000.0, out_p99_ms: float = 20.0) -> Figures:
    seen = {
        "json.64": load(15_000),
        "naive.64": load(400),
        "tokenize.1": load(300, p50_ms=3.0),
        "tokenize.64": load(tokenize_rate, p50_ms=15.0),
        "sealed.64": load(tokenize_rate * 0.95),
        "callback.64": load(2500),
        "callback.steady": load(1000, p50_ms=9.0, p99_ms=30.0),
        "proxy.64": load(2000),
        "proxy.steady": load(100),
        "out.64": load(800),
        "out.steady": load(100, p50_ms=6.0, p99_ms=out_p99_ms),
        "mitmproxy.64": load(300),
        "tunnel.steady": load(100),
        "connect.steady": load(100, p50_ms=7.0, p99_ms=21.0),
        "proxy.other.1": load(1000, p50_ms=0.5),
        "other.1": load(1000, p50_ms=0.7),
        "proxy.other.64": load(3000),
        "other.64": load(2500),
        "proxy.read.64": load(3000),
        "read.64": load(2500),
    }
    ours = {each.name for each in ASKED if each.is_ours}
    runs = {
        name: run(name, each, server="gateway" if name in ours else "peer")
        for name, each in seen.items()
    }
    rates = {"vault.card": 8000.0, "scan": 250.0, "verify": 350_000.0}
    rates |= {"append.statement.64": 6_000.0, "commit.1": 1_500.0, "append.pair.1.p50": 3.0}
    rates |= {"unseal_us": 60.0, "deliveries.drained": 900.0, "deliveries.slowest": 1.1}
    codec = {"1k": 6.8, "1k.times": 19.7, "1m": 6.5, "1m.times": 28.0}
    return Figures(runs, rates | {f"splice.xml.{name}": value for name, value in codec.items()})


def verdicts_of(found: Figures) -> dict[str, Verdict]:
    return {verdict.what: verdict for verdict in judge(found)}


# --- what wrk prints ----------------------------------------------------------------------


def test_the_last_line_of_wrk_is_read() -> None:
    seen = read_wrk(PRINTED)
    assert (seen.requests, seen.p50_ms, seen.p95_ms, seen.p99_ms) == (
        4247,
        56.026,
        103.947,
        166.072,
    )
    assert seen.errors == 3
    assert seen.rate == pytest.approx(1061.75)


@pytest.mark.parametrize("printed", ["", "unable to connect\n", '{"requests":1}\n', "{\n"])
def test_no_figures_is_an_error(printed: str) -> None:
    with pytest.raises(WrkRefused):
        read_wrk(printed)


def test_a_run_without_time_has_no_rate() -> None:
    assert Load(requests=0, seconds=0.0, p50_ms=0, p95_ms=0, p99_ms=0).rate == 0.0


# --- percentiles --------------------------------------------------------------------------


def test_percentiles_are_samples_by_nearest_rank() -> None:
    ordered = [float(n) for n in range(1, 101)]
    assert [percentile(ordered, p) for p in (0, 1, 50, 95, 99, 100)] == [1, 1, 50, 95, 99, 100]
    assert percentile([7.0], 99) == 7.0
    assert percentile([], 50) == 0.0


def test_a_load_of_samples_needs_no_order() -> None:
    seen = load_of([3.0, 1.0, 2.0], seconds=2.0, errors=1)
    assert (seen.requests, seen.rate, seen.errors) == (3, 1.5, 1)
    assert (seen.p50_ms, seen.p99_ms) == (2.0, 3.0)


# --- processes ----------------------------------------------------------------------------


def test_what_is_spent_is_the_difference() -> None:
    before = {"gateway": Usage(1.0, 80 * MIB), "gone": Usage(1.0, MIB)}
    spent = spent_between(before, {"gateway": Usage(3.5, 90 * MIB)})
    assert spent == {"gateway": Spent(2.5, 80.0, 90.0)}


def test_others_are_what_is_neither_ours_nor_the_loads() -> None:
    spent = {"gateway": Spent(4.0, 0, 0), "openbao": Spent(1.0, 0, 0)}
    assert elsewhere(Machine(100, 10), Machine(110, 12), spent) == 3.0
    assert elsewhere(Machine(100, 10), Machine(101, 12), spent) == 0.0


def test_cpu_is_told_by_request_and_by_core() -> None:
    busy = run("tokenize.64", load(100))
    assert busy.cpu_ms_per_request == 5.0
    assert targets.cores_of(busy) == {"gateway": 0.5, "openbao": 0.25}


# --- the gateway's own clock --------------------------------------------------------------

EXPOSITION = """\
# HELP panward_stage_duration_seconds Steps of the way out
# TYPE panward_stage_duration_seconds histogram
panward_stage_duration_seconds_bucket{le="+Inf",stage="claim"} %d.0
panward_stage_duration_seconds_count{stage="claim"} %d.0
panward_stage_duration_seconds_sum{stage="claim"} %f
# HELP panward_ledger_batch_entries Entries of one transaction
# TYPE panward_ledger_batch_entries histogram
panward_ledger_batch_entries_bucket{le="+Inf"} %d.0
panward_ledger_batch_entries_count %d.0
panward_ledger_batch_entries_sum %f
# HELP panward_tokenize_total Cards that came in
# TYPE panward_tokenize_total counter
panward_tokenize_total{result="created"} 5.0
"""


def test_stages_are_means_of_what_was_added() -> None:
    before = totals_in(EXPOSITION % (10, 10, 1.0, 4, 4, 8.0))
    after = totals_in(EXPOSITION % (30, 30, 1.1, 6, 6, 20.0))
    assert set(after) == {"stage/claim", "items/ledger"}
    assert stages_between(before, after, "stage/") == {"claim": pytest.approx(5.0)}
    assert mean_between(before, after, "items/ledger") == (6.0, 2.0)
    assert stages_between(after, after, "stage/") == {}


# --- targets ------------------------------------------------------------------------------


def test_all_is_met_when_it_is() -> None:
    found = judge(figures())
    assert {verdict.mark for verdict in found[:-3]} == {Mark.MET}
    assert missed_runs(found) == []


def test_a_missed_target_says_by_how_much_and_names_its_run() -> None:
    found = judge(figures(tokenize_rate=1000.0, out_p99_ms=60.0))
    missed = {verdict.what: verdict for verdict in found if verdict.mark is Mark.MISSED}
    ratios = [verdict.measured for verdict in missed.values()]
    assert ratios == ["0.125 x", "0.0667 x", "2.5 x", "58 ms"]
    assert missed_runs(found) == ["tokenize.64", "out.steady"]


def test_added_latency_is_beyond_the_bare_proxy() -> None:
    measured = [
        verdict.measured
        for verdict in judge(figures(out_p99_ms=20.0))
        if "added to" in verdict.what
    ]
    assert measured == ["5 ms", "18 ms", "6 ms", "19 ms"]


def test_callbacks_that_were_refused_were_not_accepted() -> None:
    found = figures()
    late = load(1000, p50_ms=30.0, p99_ms=70.0)
    seen = run("callback.steady", msgspec.structs.replace(late, errors=500))
    spoiled = msgspec.structs.replace(found, runs={**found.runs, "callback.steady": seen})
    missed = [verdict for verdict in judge(spoiled) if verdict.mark is Mark.MISSED]
    assert [verdict.measured for verdict in missed] == ["950/s", "70 ms"]
    assert missed_runs(missed) == ["callback.steady"]


def test_callbacks_are_compared_with_what_else_the_run_had() -> None:
    runs = figures(tokenize_rate=5000.0).runs
    found = shares(runs)
    assert found == {
        "callback.of_tokenize": pytest.approx(0.5),
        "callback.of_json": pytest.approx(1 / 6),
    }


def test_calls_of_a_request_are_those_of_vault_and_the_ledger() -> None:
    found = figures()
    made = {"vault hmac": 500.0, "ledger append": 250.0, "store keys": 9e9, "queue for hmac": 9e9}
    counted = msgspec.structs.replace(found.runs["other.64"], calls_made=made)
    spent = msgspec.structs.replace(found, runs={**found.runs, "other.64": counted})
    verdict = verdicts_of(spent)["/out/, other, no token: Vault calls and commits a request"]
    assert (verdict.mark, verdict.measured) == (Mark.MISSED, "0.03")


def test_what_was_not_run_is_never_met() -> None:
    found = judge(Figures({}, {}))
    assert {verdict.mark for verdict in found} == {Mark.OPEN}
    assert all(verdict.why for verdict in found)


def test_peers_that_are_not_here_are_named() -> None:
    found = figures()
    runs = {name: each for name, each in found.runs.items() if name != "mitmproxy.64"}
    without = msgspec.structs.replace(found, runs=runs)
    (mitmproxy,) = (one for one in judge(without) if "mitmproxy" in one.what)
    assert mitmproxy.mark is Mark.OPEN
    assert "not measured here" in mitmproxy.why


@pytest.mark.parametrize(
    ("requests", "resident_mib", "mark"),
    [(1000, 90.0, Mark.OPEN), (1000, 130.0, Mark.MISSED), (2_000_000, 90.0, Mark.MET)],
)
def test_memory_is_met_only_after_a_million_requests(
    requests: int, resident_mib: float, mark: Mark
) -> None:
    seen = run("tokenize.64", load(requests / 10), resident_mib=resident_mib)
    assert targets.memory(Figures({"tokenize.64": seen}, {})).mark is mark


def test_where_the_time_goes_begins_with_who_was_busiest() -> None:
    seen = msgspec.structs.replace(
        run("out.64", load(100)),
        stages={"claim": 1.0, "intent": 2.5},
        calls={"vault decrypt": 3.0},
        batches={"decrypt": 4.0},
        elsewhere_seconds=10.0,
    )
    assert where_time_goes(seen) == [
        "cores busy: processes of others 1.00, gateway 0.50, openbao 0.25",
        "CPU ms of a request: gateway 5.00, openbao 2.50",
        "mean ms of a request: intent 2.50, claim 1.00",
        "mean ms of a call, which many requests share: vault decrypt 3.00",
        "items of a call: decrypt 4.0",
    ]


# --- the report ---------------------------------------------------------------------------


def test_the_plain_report_has_every_run_and_every_target(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = figures(tokenize_rate=1000.0)
    verdicts = judge(found)
    show(console_for(), found, verdicts, ["a note"])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert all(verdict.what in printed for verdict in verdicts)
    assert "Where the time goes: title, how" in printed
    assert ["xml", "6.8", "19.7", "6.5", "28.0", "lxml"] in map(str.split, printed.splitlines())
    assert "a note" in printed
    assert all(len(line) <= 160 for line in printed.splitlines())


def test_the_document_is_json() -> None:
    found = figures()
    read = msgspec.json.decode(msgspec.json.encode(document(found, judge(found), [])))
    assert read["runs"]["tokenize.64"]["requests_per_second"] == 4000.0
    assert read["targets"][0]["mark"] == "met"


# --- what is sent -------------------------------------------------------------------------


def test_card_numbers_pass_luhn_and_never_repeat() -> None:
    made = [
        next_one for seed in (1, 2) for next_one, _ in zip(numbers(seed), range(50), strict=False)
    ]
    assert len(set(made)) == len(made) == 100
    assert all(passes_luhn(number) and len(number) == 16 for number in made)


def test_a_body_is_what_the_gateway_reads() -> None:
    number = next(numbers(3))
    body = msgspec.json.decode(tokenize_body(number, 2031), type=TokenBody)
    assert body.card is not UNSET
    assert (body.card.number, body.card.exp_month, body.card.exp_year) == (number, 12, 2031)


def test_the_scanned_body_has_no_card_in_it() -> None:
    body = body_without_card()
    assert len(body) > 60_000
    assert msgspec.json.decode(body)
    assert count_card_like(body) == 0
