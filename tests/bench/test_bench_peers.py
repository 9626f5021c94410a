"""What the bench sends, and the peers that it measures against."""

import asyncio
from dataclasses import dataclass

import msgspec
import pytest

from bench import mitmproxy_addon, targets
from bench.asked import ASKED, Asked, Asking, Way
from bench.bare_tunnel import HEAD_BYTES_MAX as CONNECT_BYTES_MAX
from bench.bare_tunnel import End, Near
from bench.bodies import FORMATS, TOKEN, sample
from bench.codecs import DIGITS, SIZES, best_seconds, measure, spliced
from bench.open_loop import Plan, TunnelPlan
from bench.processor import HEAD_BYTES_MAX, Answering, answer
from gateway import preset as presets
from gateway.call import Call, ReadCall, read_call
from gateway.codecs.splice import Format
from gateway.order import pass_through_refusal

# --- what is asked ------------------------------------------------------------------------


def test_every_run_has_a_name_of_its_own_and_every_target_a_run() -> None:
    names = [each.name for each in ASKED]
    assert len(set(names)) == len(names)
    assert {each.run for each in targets.TARGETS if each.run} <= set(names)


def test_a_route_is_in_the_path_by_url_alone() -> None:
    def path(server: str, asking: Asking, way: Way = Way.URL) -> str:
        return Asked("name", "title", server, 1, asking, way).path

    assert path("gateway", Asking.PAY) == "/out/stripe/v1/payment_intents"
    assert path("gateway", Asking.PAY, Way.TUNNEL) == path("proxy", Asking.PAY)
    assert path("gateway", Asking.TOKENIZE) == "/v1/tokens"


@pytest.mark.parametrize("asking", [Asking.OTHER, Asking.READ])
def test_what_is_other_to_the_bench_is_so_to_the_preset(asking: Asking) -> None:
    method = "GET" if asking is Asking.READ else "POST"
    path = next(each.path for each in ASKED if each.asking is asking and each.server == "proxy")
    stripe = presets.load("stripe")
    read = read_call(stripe, Call(method, path, "", [], b""))
    assert isinstance(read, ReadCall)
    assert read.operation is None
    assert stripe.passes_through(method, path)
    assert pass_through_refusal(read) is None


def test_what_is_asked_in_a_tunnel_names_the_host_of_the_tunnel() -> None:
    tunnel = TunnelPlan(9, "api.stripe.com", 443, "ca.pem", for_each=False)
    plan = Plan(
        port=8,
        ca_file="ca.pem",
        path="/",
        key="",
        tokens_file="",
        start=0,
        seed="",
        exp_year=2031,
        per_second=1.0,
        seconds=1.0,
    )
    assert plan.host == "127.0.0.1:8"
    assert msgspec.structs.replace(plan, tunnel=tunnel).host == "api.stripe.com"
    read = msgspec.json.decode(msgspec.json.encode(plan), type=Plan)
    assert read == plan


# --- bodies -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("format_", FORMATS)
def test_a_body_has_its_size_and_one_token_that_is_replaced(format_: Format, size: int) -> None:
    given = sample(format_, size)
    assert size * 0.6 < len(given.body) <= size
    assert given.body.count(TOKEN.encode()) == 1
    assert spliced(given) == given.body.replace(TOKEN.encode(), DIGITS)
    assert given.reference(given.body) is not None


def test_every_body_that_a_codec_reads_is_measured() -> None:
    assert set(Format) - set(FORMATS) == {Format.FIXED_WIDTH}
    found = measure(0.001)
    assert {name for name in found if not name.endswith(".times")} == {
        f"splice.{format_}.{size}" for format_ in FORMATS for size in SIZES
    }
    assert all(rate > 0 for rate in found.values())


def test_the_best_round_is_what_counts() -> None:
    calls = []
    assert 0 < best_seconds(lambda: calls.append(1), 0.001) < 0.001
    assert len(calls) > 10


# --- the peers ----------------------------------------------------------------------------


class _Transport:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.aborted = False
        self.closed = False

    def close(self) -> None:
        self.closed = True

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        self.aborted = True


def _answering() -> tuple[Answering, _Transport]:
    protocol, transport = Answering(answer()), _Transport()
    protocol.connection_made(transport)  # type: ignore[arg-type]  # as much of one as it uses
    return protocol, transport


def test_the_processor_answers_when_a_request_is_whole_and_not_before() -> None:
    protocol, transport = _answering()
    request = b"POST /v1 HTTP/1.1\r\ncontent-length: 3\r\n\r\na=b"
    for byte in request[:-1]:
        protocol.data_received(bytes([byte]))
    assert transport.written == []
    protocol.data_received(request[-1:])
    protocol.data_received(request + request[:5])
    assert transport.written == [answer(), answer()]
    assert b'"status":"succeeded"' in answer()


def test_the_processor_hangs_up_on_an_endless_head() -> None:
    protocol, transport = _answering()
    protocol.data_received(b"a" * (HEAD_BYTES_MAX + 1))
    assert transport.aborted


async def test_a_bare_tunnel_carries_what_follows_the_head_both_ways() -> None:
    loop = asyncio.get_running_loop()
    processor = await loop.create_server(lambda: Answering(answer()), "127.0.0.1", 0)
    port = processor.sockets[0].getsockname()[1]
    tunnel = await loop.create_server(lambda: Near(port), "127.0.0.1", 0)
    async with processor, tunnel:
        at = tunnel.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", at)
        writer.write(b"CONNECT 127.0.0.1:443 HTTP/1.1\r\n")
        writer.write(b"\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.write(b"POST /v1 HTTP/1.1\r\ncontent-length: 3\r\n\r\na=b")
        assert await reader.readexactly(len(answer())) == answer()
        writer.close()
        await writer.wait_closed()


def test_a_tunnel_ends_when_one_of_its_ends_does() -> None:
    near, far = End(), End()
    transports = _Transport(), _Transport()
    for end, transport in zip((near, far), transports, strict=True):
        end.connection_made(transport)  # type: ignore[arg-type]  # as much of one as it uses
    near.other, far.other = far, near
    near.connection_lost(None)
    assert [each.closed for each in transports] == [False, True]


def test_a_bare_tunnel_hangs_up_on_an_endless_head() -> None:
    near, transport = Near(1), _Transport()
    near.connection_made(transport)  # type: ignore[arg-type]  # as much of one as it uses
    near.data_received(b"a" * (CONNECT_BYTES_MAX + 1))
    assert transport.aborted


@dataclass
class _Message:
    content: bytes | None


@dataclass
class _Flow:
    request: mitmproxy_addon.Message


def test_the_addon_puts_digits_in_the_place_of_a_token() -> None:
    flow = _Flow(_Message(f"number={TOKEN}&month=12".encode()))
    mitmproxy_addon.request(flow)
    assert flow.request.content == b"number=0000000000000000&month=12"
