"""Requests that two servers may read in two ways: none brings a hidden one to the application.

The corpus is sent straight to the listener (to a route whose bodies stream, and to one that reads
them whole) and through nginx and HAProxy. The application behind reads in the one strict way and
says what it could have read otherwise.
"""

import asyncio
from collections.abc import Iterator

import pytest

from tests.inbound.framing import Outcome, Way, direct, exchange, outcome_of, run
from tests.inbound.framing_pen import Vector, Verdict
from tests.inbound.framing_vectors import corpus
from tests.inbound.front_proxies import FRONTS, running_front
from tests.inbound.stage import InboundStage

pytestmark = pytest.mark.embedded

SAMPLE = corpus("shop.test")
STREAMED, WHOLE = "/v", "/form"
"""Path prefixes: of a route without filters, and of one that looks for cards in forms."""
HOP_BY_HOP = {"te", "trailer", "upgrade", "keep-alive", "proxy-connection", "expect"}
FORBIDDEN_TRAILERS = {"content-length", "transfer-encoding", "host", "connection", "authorization"}
CONTROLS = 24
BODY = b"number=&a=1"


@pytest.fixture(scope="module", params=["direct", "whole", *FRONTS])
def way(
    request: pytest.FixtureRequest, inbound: InboundStage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Way]:
    """Give each way to the listener; a proxy runs for as long as its vectors do."""
    name: str = request.param
    if name not in FRONTS:
        yield direct(inbound.port, inbound.hostname, inbound.ca_file, name=name)
        return
    with running_front(
        name,
        tmp_path_factory.mktemp(name),
        upstream_port=inbound.port,
        hostname=inbound.hostname,
        ca_file=inbound.ca_file,
    ) as front:
        yield Way(name, front.port)


@pytest.fixture(scope="module")
def outcomes(way: Way, inbound: InboundStage) -> dict[str, Outcome]:
    """Send the whole corpus once on a way."""
    inbound.merchant.forget()
    prefix = WHOLE if way.name == "whole" else STREAMED
    vectors = corpus(inbound.hostname, prefix=prefix, run=way.name)
    return asyncio.run(run(vectors, way, inbound.merchant))


def test_the_corpus_is_as_large_as_it_should_be() -> None:
    assert len(SAMPLE) >= 150
    for vector in SAMPLE.values():
        assert vector.case.encode() in vector.data


@pytest.mark.guards("T-01")
@pytest.mark.guards("T-02")
@pytest.mark.guards("T-03")
@pytest.mark.guards("T-04")
@pytest.mark.guards("T-05")
@pytest.mark.parametrize("name", SAMPLE)
def test_no_hidden_request_is_ever_counted(
    name: str, way: Way, outcomes: dict[str, Outcome]
) -> None:
    outcome = outcomes[name]
    assert outcome.answers_to_others == set()
    if name != "upgrade_websocket":  # which the route of streams passes
        assert all(_is_clean(seen.headers) for seen in outcome.seen)
    assert all(_is_clean_trailer(seen.trailers) for seen in outcome.seen)
    if way.stamps:
        _passed_by_the_proxy(outcome)
    else:
        assert b"smuggled" not in outcome.received
        assert outcome.markers == []
        _as_said(outcome)
    if outcome.vector.body is not None:
        assert {seen.body for seen in outcome.own} <= {outcome.vector.body}


@pytest.mark.guards("T-01")
def test_what_arrives_can_be_read_in_one_way_only(
    inbound: InboundStage, outcomes: dict[str, Outcome]
) -> None:
    assert outcomes
    assert inbound.merchant.irregular == []


@pytest.mark.guards("T-01")
async def test_after_all_of_them_each_caller_has_its_own_answer(
    inbound: InboundStage, way: Way, outcomes: dict[str, Outcome]
) -> None:
    """Answers that are one behind on a kept connection would be somebody else's."""
    vectors = [
        Vector("control", f"control-{way.name}-{number}", _control(inbound, way, number), PASSED)
        for number in range(CONTROLS)
    ]
    for vector in vectors:
        outcome = await outcome_of(vector, way)
        assert outcome.statuses == [200], outcome.received
        assert outcome.cases == {vector.case.encode()}


@pytest.mark.guards("T-02")
@pytest.mark.parametrize("prefix", [STREAMED, WHOLE])
async def test_a_body_may_wait_for_the_word_to_go_on(
    inbound: InboundStage, way: Way, prefix: str
) -> None:
    mark = len(inbound.merchant.requests)
    head = _head(
        inbound, f"{prefix}/continue", "Expect: 100-continue", f"Content-Length: {len(BODY)}"
    )
    received = await exchange(way, head, BODY)
    assert received.startswith(b"HTTP/1.1 100 ")
    assert received.count(b"HTTP/1.1 200 ") == 1
    assert [seen.body for seen in inbound.merchant.since(mark)] == [BODY]


@pytest.mark.guards("T-02")
async def test_nobody_is_told_to_go_on_who_is_refused(inbound: InboundStage) -> None:
    way = direct(inbound.port, inbound.hostname, inbound.ca_file)
    too_large = _head(inbound, f"{WHOLE}/x", "Expect: 100-continue", f"Content-Length: {1 << 40}")
    elsewhere = too_large.replace(inbound.hostname.encode(), b"evil.example", 1)
    for head in (too_large, elsewhere):
        received = await exchange(way, head)
        assert b"HTTP/1.1 100" not in received
        assert received.startswith(b"HTTP/1.1 4")


# --- what is asked ------------------------------------------------------------------------

PASSED = Verdict.PASSED


def _as_said(outcome: Outcome) -> None:
    """Hold an outcome of the straight way against the vector's verdict."""
    vector, statuses = outcome.vector, outcome.statuses
    good = [status for status in statuses if status < 300]
    match vector.verdict:
        case Verdict.PASSED:
            assert len(good) == len(statuses) == vector.requests == len(outcome.own)
        case Verdict.REFUSED | Verdict.BROKEN | Verdict.TURNED_AWAY:
            assert outcome.own == []
            assert good == []
            assert len(statuses) <= 1
            assert outcome.closed or vector.verdict is Verdict.TURNED_AWAY
            assert statuses or vector.verdict is Verdict.BROKEN
        case Verdict.EITHER:
            assert len(good) <= len(outcome.own) <= 1
            assert len(statuses) <= 1
            assert statuses or outcome.closed


def _passed_by_the_proxy(outcome: Outcome) -> None:
    """Each request that arrived was one to the proxy too: it bears a number that it gave."""
    stamps = [seen.header("X-Front") for seen in outcome.seen]
    assert None not in stamps
    assert len(set(stamps)) == len(stamps)
    if outcome.vector.verdict is Verdict.PASSED:
        assert len(outcome.own) == outcome.vector.requests
        assert outcome.statuses == [200] * outcome.vector.requests


def _is_clean(headers: tuple[tuple[str, str], ...]) -> bool:
    names = [name.lower() for name, _ in headers]
    return not HOP_BY_HOP & set(names) and not any("_" in name for name in names)


def _is_clean_trailer(trailers: tuple[tuple[str, str], ...]) -> bool:
    return not FORBIDDEN_TRAILERS & {name.lower() for name, _ in trailers}


def _head(inbound: InboundStage, target: str, *lines: str) -> bytes:
    kind = "Content-Type: application/x-www-form-urlencoded"
    first = f"POST {target} HTTP/1.1"
    return "\r\n".join((first, f"Host: {inbound.hostname}", kind, *lines, "", "")).encode()


def _control(inbound: InboundStage, way: Way, number: int) -> bytes:
    case = f"control-{way.name}-{number}"
    lines = (f"X-Case: {case}", f"Content-Length: {len(BODY)}", "Connection: close")
    return _head(inbound, f"{STREAMED}/{case}", *lines) + BODY
