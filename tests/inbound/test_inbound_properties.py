"""For any body: no card arrives, each token is of its card, and all that is no card is as it was.

The pure planner gets many examples, the running gateway some: it has to do the same on the wire.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gateway.codecs.splice import Format
from gateway.errors import GatewayError
from gateway.inbound.filtering import Plan, plan_raw
from gateway.inbound.rules import Filter
from gateway.scan import Kind, find_cards
from gateway.scan_stream import ScanStream
from tests import cards
from tests.cards import AMEX, VISA, luhn_broken
from tests.gateway.inbound.filter_requests import done, planned, route, rows_of, tokens_for
from tests.inbound.client import Shopper
from tests.inbound.framing import hang_up
from tests.inbound.placing import CARRIERS, Placed, placed_in

FORMAT = pytest.mark.parametrize("name", CARRIERS)
MANY = settings(max_examples=60, deadline=None)
SOME = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FILTERED = route(
    *(Filter(each) for each in ("number", "order.number", "pan[*]", "[*].number")),
    undeclared="tokenize",
)
BARE = route(undeclared="tokenize")
ROWS = {"text/csv": Format.CSV, "application/x-ndjson": Format.JSON_LINES}


def cards_left(body: bytes) -> list[Kind]:
    return [hit.kind for hit in find_cards(body).hits if hit.kind is not Kind.WINDOW]


def numbers_in(body: bytes) -> set[str]:
    """Read all that is found: the hex of a random token looks like some card now and then."""
    return {pan.reveal() for hit in find_cards(body).hits for pan in hit.numbers}


def checked(placed: Placed, written: bytes, made: Mapping[str, tuple[str, str]]) -> None:
    for hidden, token in placed.tokens(written):
        assert made[token] == (hidden.number[-4:], cards.BRANDS[hidden.number]), hidden
    assert not numbers_in(written) & {hidden.number for hidden in placed.hidden}, placed.hidden


def cards_of(plan: Plan) -> dict[str, tuple[str, str]]:
    by_token = {}
    for token, each in zip(tokens_for(plan), plan.cards, strict=True):
        pan = each.card.pan
        by_token[token] = (pan.last4, cards.BRANDS[pan.reveal()])
    return by_token


# --- the planner --------------------------------------------------------------------------


@FORMAT
@MANY
@given(data=st.data())
def test_no_card_is_left_in_fields(name: str, data: st.DataObject) -> None:
    placed = data.draw(placed_in(name))
    config = BARE if name == "text" else FILTERED
    if placed.content_type in ROWS:
        plan = rows_of(config, ROWS[placed.content_type], placed.body)
    else:
        plan = planned(config, placed.content_type, placed.body)
    checked(placed, done(plan).body, cards_of(plan))


@FORMAT
@MANY
@given(data=st.data())
def test_no_card_is_left_in_a_stream(name: str, data: st.DataObject) -> None:
    """Cut anywhere, with much before and after it."""
    placed = data.draw(placed_in(name))
    before, after = (b"." * data.draw(st.integers(0, 9000)) for _ in range(2))
    body = before + b"\n" + placed.body + b"\n" + after
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    plans = list(_plans(body, cuts))
    written = b"".join(done(plan).body for plan in plans)
    start, end = len(before) + 1, len(written) - len(after) - 1
    assert (written[:start], written[end:]) == (before + b"\n", b"\n" + after)
    found = [card for plan in plans for card in cards_of(plan).values()]
    for hidden, _ in placed.tokens(written[start:end]):
        assert (hidden.number[-4:], cards.BRANDS[hidden.number]) in found
    assert not numbers_in(written[start:end]) & {hidden.number for hidden in placed.hidden}


def _plans(body: bytes, cuts: list[int]) -> Iterator[Plan]:
    stream, at = ScanStream(), 0
    for cut in (*cuts, len(body)):
        for piece in stream.feed(body[at:cut]):
            yield plan_raw("tokenize", piece.raw, piece.hits, "body")
        at = cut
    for piece in stream.end():
        yield plan_raw("tokenize", piece.raw, piece.hits, "body")


NEAR_MISSES = st.sampled_from(
    [luhn_broken(number[:-1]) for number in cards.ALL]
    + ["2026-11-23T10:00:00Z", "00000000000000000000", "+49 30 901820", "DE89370400440532013000"]
)
TEXTS = st.one_of(
    st.text(max_size=40), st.lists(NEAR_MISSES, max_size=3).map(" / ".join), st.just("pwt_test_")
)
BODIES = st.one_of(
    st.binary(max_size=300),
    st.lists(TEXTS, max_size=6).map("\n".join).map(str.encode),
    st.lists(st.sampled_from([b"%", b"=", b"\r\n", b"42", b"4", b" ", b"&#", b"\\u00", b"\0"])).map(
        b"".join
    ),
)


@MANY
@given(body=BODIES, kind=st.sampled_from([each.content_type for each in CARRIERS.values()]))
def test_what_has_no_card_in_it_is_as_it_was(body: bytes, kind: str) -> None:
    assume(not cards_left(body))
    assert done(planned(BARE, kind, body)).body is body
    try:
        plan = planned(FILTERED, kind, body)
    except GatewayError:
        return  # what cannot be read is refused, never changed
    assert done(plan).body is body


# --- the gateway --------------------------------------------------------------------------


async def stored(shopper: Shopper, tokens: list[str]) -> dict[str, tuple[str, str]]:
    """Read of what brand these tokens' cards are, and how they end."""
    store = await shopper.stage.deployment.store()
    try:
        asked = "SELECT id, last4, brand FROM token WHERE id = ANY($1)"
        return {row["id"]: (row["last4"], row["brand"]) for row in await store.fetch(asked, tokens)}
    finally:
        await store.close()


@pytest.mark.embedded
@FORMAT
@SOME
@given(data=st.data())
async def test_no_card_arrives(shopper: Shopper, name: str, data: st.DataObject) -> None:
    placed = data.draw(placed_in(name))
    paths = ["/tokenize/x"] if name == "text" else ["/tokenize/x", "/fields/x"]
    for path in paths:
        seen = await shopper.arrives(path, placed.body, placed.content_type)
        tokens = [token for _, token in placed.tokens(seen.body)]
        checked(placed, seen.body, await stored(shopper, tokens))


@pytest.mark.embedded
@settings(SOME, max_examples=40)
@given(body=BODIES, path=st.sampled_from(["/x", "/tokenize/x", "/mask/x", "/refuse/x"]))
async def test_every_other_byte_arrives_unchanged(shopper: Shopper, body: bytes, path: str) -> None:
    assume(not cards_left(body))
    seen = await shopper.arrives(path, body, "text/plain")
    assert seen.body == body


# --- chunks -------------------------------------------------------------------------------

SHORT = f"n=1 card: {VISA[:4]} {VISA[4:8]} {VISA[8:12]} {VISA[12:]}, and\n".encode()
PLAIN = f"card {AMEX} here".encode()
KEPT_BACK = 4096
"""Of a stream, while nobody knows what follows."""


class Line:
    """A connection to the gateway on which chunks are sent as they are said."""

    def __init__(
        self, shopper: Shopper, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._host = shopper.stage.hostname
        self._reader, self._writer = reader, writer

    async def post(self, target: str, *chunks: bytes) -> None:
        lines = (f"POST {target} HTTP/1.1", f"Host: {self._host}", "Content-Type: text/plain")
        head = "\r\n".join((*lines, "Transfer-Encoding: chunked", "", "")).encode()
        self._writer.write(head)
        for chunk in chunks:
            if chunk:
                self._writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                await self._writer.drain()
                await asyncio.sleep(0.001)  # a record, and mostly a reading, of its own
        self._writer.write(b"0\r\n\r\n")
        assert (await self._reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert await self._reader.readexactly(2) == b"ok"

    async def hang_up(self) -> None:
        await hang_up(self._writer)


async def sent(shopper: Shopper, policy: str, bodies: list[tuple[bytes, ...]]) -> list[bytes]:
    """Send each body, in its chunks, on four kept connections; give them as they arrived."""
    lines = [Line(shopper, *await shopper.way().connect()) for _ in range(4)]

    async def some(line: Line, first: int) -> None:
        for number in range(first, len(bodies), len(lines)):
            await line.post(f"/{policy}/{number}", *bodies[number])

    await asyncio.gather(*(some(line, at) for at, line in enumerate(lines)))
    for line in lines:
        await line.hang_up()
    arrived = {seen.path: seen.body for seen in shopper.stage.merchant.requests}
    return [arrived[f"/{policy}/{number}"] for number in range(len(bodies))]


@pytest.mark.embedded
@pytest.mark.parametrize("policy", ["mask", "tokenize"])
@pytest.mark.parametrize("body", [SHORT, PLAIN], ids=["spaces", "plain"])
async def test_a_card_across_two_chunks(shopper: Shopper, policy: str, body: bytes) -> None:
    bodies = [(body[:cut], body[cut:]) for cut in range(len(body))]
    arrived = await sent(shopper, policy, [*bodies, tuple(bytes([each]) for each in body)])
    before, after = re.split(rb"[0-9][0-9 ]{13,}[0-9]", body)
    for each in arrived:
        assert (each.startswith(before), each.endswith(after)) == (True, True)
        assert cards_left(each) == []
        shown = each.removeprefix(before).removesuffix(after)
        assert (b"*" in shown) == (policy == "mask")
        assert shown.startswith(b"pwt_") == (policy == "tokenize")


@pytest.mark.embedded
async def test_a_card_where_the_stream_lets_go(shopper: Shopper) -> None:
    """However much is kept back, the card stands across the edge of it once."""
    bodies: list[tuple[bytes, ...]] = []
    for edge in range(-2, len(SHORT) + 2):
        first = b"." * 6000 + SHORT + b"." * (KEPT_BACK - edge)
        bodies.append((first, b"-" * 300))
    arrived = await sent(shopper, "mask", bodies)
    for chunks, each in zip(bodies, arrived, strict=True):
        start, _, end = b"".join(chunks).partition(VISA[:4].encode())
        assert each.startswith(start)
        assert each.endswith(end[len(VISA) + 3 - 4 :])
        assert re.sub(rb"[^0-9]", b"", each) == b"1" + VISA[-4:].encode()
