"""The bench of inbound routes: what it asks for, what it sends, who answers, and its arithmetic."""

import asyncio
import http.client
import os
import re
import ssl
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import trustme

from bench.figures import Load, Run, Spent
from bench.inbound import document, show
from bench.inbound_asked import (
    GATEWAY,
    PEERS,
    Asked,
    Asking,
    Uploaded,
    all_asked,
    cpu_ratio,
    largest_growth,
    middle,
    middle_upload,
    rate_ratio,
)
from bench.inbound_runs import _SCRIPTS, HERE, resident_mib
from bench.inbound_stand import CODE_PATH, FORM_PATH, PLAIN_PATH, routes
from bench.nginx_peer import nginx
from bench.report import console_for
from bench.shop import HEAD_BYTES_MAX, PAGE_BYTES, Serving, answers, page
from bench.stand import free_ports
from bench.upload import BLOCK_BYTES, Content, block_of, pieces
from gateway.inbound.filtering import problems_of, reads
from gateway.inbound.rules import InboundConfig
from gateway.listeners import server_context
from gateway.scan import find_cards
from tests.inbound.front_proxies import until_listening

FORM = "application/x-www-form-urlencoded"

# --- what is asked, and the arithmetic ----------------------------------------------------


def test_every_run_has_a_name_and_a_script_and_ours_comes_last() -> None:
    asked = all_asked()
    assert len({each.name for each in asked}) == len(asked)
    assert all((HERE / script).is_file() for script in _SCRIPTS.values())
    for asking in (Asking.FORM, Asking.ORDER, Asking.PAGE):
        for connections in (1, 64):
            servers = [
                each.server
                for each in asked
                if (each.asking, each.connections) == (asking, connections)
            ]
            assert servers == [*PEERS, GATEWAY]


def run(name: str, rate: float, cpu_seconds: float = 1.0) -> Run:
    server = name.rpartition(".")[2]
    seen = Load(requests=int(rate * 10), seconds=10.0, p50_ms=1.0, p95_ms=2.0, p99_ms=3.0)
    spent = {server: Spent(cpu_seconds, 80.0, 90.0)}
    return Run(
        name=name,
        title="title",
        how="how",
        load=seen,
        server=server,
        spent=spent,
        answered=seen.requests,
        seconds=10.0,
    )


def rounds(*shares: float) -> list[dict[str, Run]]:
    """Give a round for each share: ours does so much of what each peer does."""
    return [
        {
            each.name: run(each.name, (100 if each.server == GATEWAY else 100 / share) * (n + 1))
            for each in all_asked()
        }
        for n, share in enumerate(shares)
    ]


def test_a_ratio_is_the_median_of_each_rounds_own() -> None:
    seen = rounds(0.5, 0.1, 0.25)
    ours, peer = "form.64.gateway", "form.64.proxy"
    assert rate_ratio(seen, ours, peer) == pytest.approx(0.25, rel=0.01)
    assert cpu_ratio(seen, ours, peer) == pytest.approx(4.0, rel=0.01)
    assert middle(seen, ours).load.rate == 200.0
    assert middle(seen[:2], ours).load.rate == 100.0


def test_a_peer_that_is_not_installed_has_no_ratio() -> None:
    seen = [{k: v for k, v in each.items() if "nginx" not in k} for each in rounds(0.5)]
    assert rate_ratio(seen, "form.64.gateway", "form.64.nginx") is None


def uploaded(server: str, speed: float, peak_mib: float) -> Uploaded:
    return Uploaded(
        server=server,
        content=Content.TEXT.value,
        megabytes=1000,
        mb_per_second=speed,
        before_mib=100.0,
        peak_mib=peak_mib,
        after_mib=101.0,
    )


def test_the_growth_that_is_told_is_the_largest() -> None:
    seen = [
        uploaded(GATEWAY, 30.0, 101.0),
        uploaded(GATEWAY, 50.0, 125.0),
        uploaded("nginx", 9.0, 900),
    ]
    assert largest_growth(seen, GATEWAY) == 25.0
    found = middle_upload(seen, GATEWAY, Content.TEXT.value)
    assert found is not None
    assert found.mb_per_second == 30.0
    assert middle_upload(seen, GATEWAY, Content.BINARY.value) is None
    assert largest_growth(seen, "proxy") is None


def test_the_report_has_every_run_the_verdict_and_the_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen, sent = rounds(0.5, 0.1, 0.25), [uploaded(GATEWAY, 30.0, 125.0)]
    show(console_for(), "python -m bench.inbound", seen, sent)
    printed = capsys.readouterr().out
    assert all(each.title in printed for each in all_asked())
    assert "missed" in printed
    assert "python -m bench.inbound: medians of 3 rounds" in printed
    assert all(len(line) <= 160 for line in printed.splitlines())
    read = msgspec.json.decode(msgspec.json.encode(document("python -m bench.inbound", seen, sent)))
    assert read["growth_mib"] == 25.0
    assert read["ratios"]["form.64.proxy"]["rate"] == pytest.approx(0.25, rel=0.01)
    assert "order.64.gateway" not in read["ratios"]


def test_memory_is_read_as_it_is_now_and_as_it_was_at_most() -> None:
    now, peak = resident_mib(os.getpid())
    assert 10 < now <= peak


# --- what is sent -------------------------------------------------------------------------


@pytest.mark.parametrize("content", Content)
@pytest.mark.parametrize("size", [1, BLOCK_BYTES, BLOCK_BYTES * 2 + 300_001])
def test_an_upload_has_its_length_and_no_card(content: Content, size: int) -> None:
    assert sum(map(len, pieces(content, size))) == size
    if content is Content.TEXT:
        assert find_cards(block_of(content)[:70_000]).hits == ()


def test_the_page_has_its_length_and_no_card() -> None:
    assert len(page()) == pytest.approx(PAGE_BYTES, rel=0.01)
    assert find_cards(page()).hits == ()


# --- the endpoint -------------------------------------------------------------------------


class _Transport:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        self.aborted = True


def _serving() -> tuple[Serving, _Transport]:
    protocol, transport = Serving(answers()), _Transport()
    protocol.connection_made(transport)  # type: ignore[arg-type]  # as much of one as it uses
    return protocol, transport


REQUESTS = {
    "length": b"POST /pay HTTP/1.1\r\nHost: a\r\ncontent-length: 13\r\n\r\nname=A+Person",
    "chunks": b"POST /pay HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\na=b\r\n1\r\n0\r\n0\r\n\r\n",
    "nothing": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("kind", REQUESTS)
def test_the_endpoint_answers_when_a_request_is_whole_and_not_before(kind: str, size: int) -> None:
    protocol, transport = _serving()
    said = answers()[kind == "nothing"]
    request = REQUESTS[kind]
    for _ in range(2):
        transport.written.clear()
        for start in range(0, len(request) - 1, size):
            protocol.data_received(request[start : min(start + size, len(request) - 1)])
        assert transport.written == []
        protocol.data_received(request[-1:])
        assert transport.written == [said]


def test_requests_that_come_together_are_all_answered() -> None:
    protocol, transport = _serving()
    protocol.data_received(REQUESTS["length"] * 2 + REQUESTS["nothing"])
    assert transport.written == [answers()[False], answers()[False], answers()[True]]


def test_of_a_long_body_nothing_is_kept() -> None:
    protocol, transport = _serving()
    protocol.data_received(b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
    for _ in range(999):
        protocol.data_received(bytes(1000))
        assert len(protocol._received) <= 1000
    assert transport.written == []
    protocol.data_received(bytes(1000))
    assert len(transport.written) == 1


def test_the_endpoint_hangs_up_on_an_endless_head() -> None:
    protocol, transport = _serving()
    protocol.data_received(b"a" * (HEAD_BYTES_MAX + 1))
    assert transport.aborted


# --- the stand ----------------------------------------------------------------------------


@dataclass
class _Parts:
    tls_ca_file: Path
    ports: dict[str, int]


def test_the_routes_are_good_and_filter_what_their_names_say() -> None:
    written = routes(_Parts(Path("/tls/ca.pem"), {"shop": 1}), "t_bench")  # type: ignore[arg-type]  # as much of them as it uses
    parsed = [msgspec.convert(each, InboundConfig) for each in tomllib.loads(written)["inbound"]]
    by_prefix = {each.path_prefix: each for each in parsed}
    assert not [problem for each in parsed for problem in problems_of(each)]
    for path in (FORM_PATH, CODE_PATH):
        assert reads(by_prefix[path.rpartition("/")[0]], "request", FORM)
    assert by_prefix[CODE_PATH.rpartition("/")[0]].filters[0].cvc == "card_code"
    assert PLAIN_PATH.startswith("/")
    assert not reads(by_prefix["/"], "request", "application/json")


def test_the_form_has_the_fields_that_the_filter_names() -> None:
    script = (HERE / "form.lua").read_text()
    written = routes(_Parts(Path("/tls/ca.pem"), {"shop": 1}), "t_bench")  # type: ignore[arg-type]  # as much of them as it uses
    named = re.findall(r'"(card_[a-z]+)"', written)
    assert set(named) == {"card_number", "card_month", "card_year", "card_code"}
    assert all(f"&{name}=" in script for name in named)


@contextmanager
def running(words: tuple[str, ...], port: int, said: Path) -> Iterator[None]:
    with said.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own words
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        until_listening(process, port, said)
        yield
    finally:
        process.terminate()
        assert process.wait(10) == 0, said.read_text()


async def test_nginx_passes_on_to_the_endpoint_with_tls_on_both_sides(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    ca_file, chain, key = tmp_path / "ca.pem", tmp_path / "server.pem", tmp_path / "server.key"
    authority.cert_pem.write_to_path(str(ca_file))
    issued.cert_chain_pems[0].write_to_path(str(chain))
    issued.private_key_pem.write_to_path(str(key))
    loop, said = asyncio.get_running_loop(), answers()
    shop = await loop.create_server(
        lambda: Serving(said), "127.0.0.1", 0, ssl=server_context(chain, key)
    )
    upstream_port = shop.sockets[0].getsockname()[1]
    port = free_ports(("nginx",))["nginx"]
    words = nginx(
        port,
        upstream_port,
        tmp_path / "nginx",
        certificate=chain,
        private_key=key,
        ca_file=ca_file,
    )

    def asked(method: str, body: bytes | None) -> bytes:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, context=ssl.create_default_context(cafile=ca_file), timeout=10
        )
        connection.request(method, PLAIN_PATH, body)
        answer = connection.getresponse().read()
        connection.close()
        return answer

    async with shop:
        with running(words, port, tmp_path / "nginx.out"):
            assert await asyncio.to_thread(asked, "GET", None) == page()
            answer = await asyncio.to_thread(asked, "POST", bytes(300_000))
            assert msgspec.json.decode(answer)["status"] == "received"


def test_a_run_of_ours_is_told_from_the_peers() -> None:
    ours = Asked(GATEWAY, Asking.FORM, 64)
    assert (ours.who, ours.how, ours.name) == ("panward", "64 connections", "form.64.gateway")
    assert Asked("nginx", Asking.PAGE, 1).who == PEERS["nginx"]
