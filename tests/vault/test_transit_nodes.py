"""How nodes are reached: pinned, without the environment, in bounded time, and once more."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trustme
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from tests.vault.fake_node import FakeCluster, fake_cluster
from vault.observer import Silent
from vault.transit_answers import Verdict
from vault.transit_items import Request
from vault.transit_nodes import ANSWER_BYTES_MAX, CALL_SECONDS, Nodes, Pins, verdict_on

READ = Request("health", "GET", "/v1/sys/health")
ONCE = Request("login", "GET", "/v1/sys/health", repeatable=False)
SEALED = (503, b'{"errors":["Vault is sealed"]}')
OK = (200, b"{}")


class Calls(Silent):
    """Remembers what was reported."""

    def __init__(self) -> None:
        self.made: list[tuple[str, int, str]] = []
        self.seconds: list[float] = []

    def transit_called(self, operation: str, items: int, seconds: float, result: str) -> None:
        self.made.append((operation, items, result))
        self.seconds.append(seconds)


@asynccontextmanager
async def nodes_of(
    cluster: FakeCluster, *, ca_file: str = "", calls: Silent | None = None, threads: int = 8
) -> AsyncIterator[Nodes]:
    addresses = [node.address for node in cluster.nodes]
    pins = Pins(ca_file or cluster.ca_file, None, None)
    nodes = Nodes(addresses, pins, observer=calls or Silent(), threads=threads, chance=lambda: 0.0)
    try:
        yield nodes
    finally:
        nodes.close()


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as made:
        yield made


@pytest.fixture
def three() -> Iterator[FakeCluster]:
    with fake_cluster(3) as made:
        yield made


async def test_a_call_is_made_once_and_measured(cluster: FakeCluster) -> None:
    calls = Calls()
    async with nodes_of(cluster, calls=calls) as nodes:
        answer = await nodes.send(Request("encrypt", "GET", "/v1/sys/health", items=7), "token")
    assert answer.verdict is Verdict.ANSWERED
    assert calls.made == [("encrypt", 7, "ok")]
    assert 0 < calls.seconds[0] < CALL_SECONDS
    (received,) = cluster.node.received
    assert received.headers["X-Vault-Token"] == "token"
    assert received.headers["X-Vault-Request"] == "true"
    assert received.headers["Accept-Encoding"] == "identity"
    assert len(received.headers["X-Correlation-ID"]) == 16


async def test_without_a_token_none_is_sent(cluster: FakeCluster) -> None:
    async with nodes_of(cluster) as nodes:
        await nodes.send(READ, None)
    assert "X-Vault-Token" not in cluster.node.received[0].headers


async def test_one_connection_serves_many_calls(cluster: FakeCluster) -> None:
    async with nodes_of(cluster, threads=1) as nodes:
        for _ in range(5):
            assert (await nodes.send(READ, None)).verdict is Verdict.ANSWERED
        assert cluster.node.connections == 1


# --- T-70: nobody but the Vault we named --------------------------------------------------


@contextmanager
def sink() -> Iterator[tuple[int, list[bytes]]]:
    """Listen in clear, and remember whatever anybody says."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        ended = threading.Event()

        def listen() -> None:
            while not ended.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(1)
                    heard.append(connection.recv(4096))

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield server.getsockname()[1], heard
        finally:
            ended.set()
            thread.join()


@pytest.mark.guards("T-70")
async def test_a_server_of_another_authority_hears_nothing(cluster: FakeCluster) -> None:
    with fake_cluster() as other:
        async with nodes_of(cluster, ca_file=other.ca_file) as nodes:
            answer = await nodes.send(READ, "token")
    assert answer.verdict is Verdict.BROKEN
    assert cluster.node.received == []


@pytest.mark.guards("T-70")
async def test_a_publicly_trusted_server_hears_nothing_either(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session's `verify` must be ours: its default is every authority of the machine."""
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", cluster.ca_file)
    monkeypatch.setenv("SSL_CERT_FILE", cluster.ca_file)
    with fake_cluster() as other:
        async with nodes_of(cluster, ca_file=other.ca_file) as nodes:
            answer = await nodes.send(READ, "token")
    assert answer.verdict is Verdict.BROKEN
    assert cluster.node.received == []


@pytest.mark.guards("T-70")
async def test_a_certificate_for_another_name_is_refused(cluster: FakeCluster) -> None:
    pins = Pins(cluster.ca_file, None, None)
    nodes = Nodes(
        [f"https://localhost:{cluster.node.port}"],
        pins,
        observer=Silent(),
        threads=1,
        chance=lambda: 0.0,
    )
    assert (await nodes.send(READ, "token")).verdict is Verdict.BROKEN
    nodes.close()
    assert cluster.node.received == []


@pytest.mark.guards("T-70")
async def test_nothing_in_the_environment_has_an_effect(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with sink() as (port, heard), fake_cluster() as other:
        proxy = f"http://127.0.0.1:{port}"
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY"):
            monkeypatch.setenv(name, proxy)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "")
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "VAULT_CACERT"):
            monkeypatch.setenv(name, other.ca_file)
        monkeypatch.setenv("VAULT_ADDR", other.node.address)
        monkeypatch.setenv("VAULT_TOKEN", "token-of-the-environment")
        monkeypatch.setenv("VAULT_NAMESPACE", "elsewhere")
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / ".vault-token").write_text("token-of-a-file")
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password netrc")
        async with nodes_of(cluster) as nodes:
            assert (await nodes.send(READ, None)).verdict is Verdict.ANSWERED
    assert heard == []
    assert other.node.received == []
    headers = cluster.node.received[0].headers
    assert headers.keys().isdisjoint({"X-Vault-Token", "X-Vault-Namespace", "Authorization"})


@pytest.mark.guards("T-70")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(cluster: FakeCluster, status: int) -> None:
    with fake_cluster() as other:
        cluster.node.faults.always = (status, b"")
        cluster.node.faults.location = other.node.address + "/v1/sys/health"
        async with nodes_of(cluster) as nodes:
            answer = await nodes.send(READ, "token")
        assert other.node.received == []
    assert answer.verdict is Verdict.ELSEWHERE
    assert len(cluster.node.received) == 1


@pytest.mark.guards("T-70")
async def test_clear_text_is_not_spoken(cluster: FakeCluster) -> None:
    with sink() as (port, heard):
        nodes = Nodes(
            [f"http://127.0.0.1:{port}"],
            Pins(cluster.ca_file, None, None),
            observer=Silent(),
            threads=1,
            chance=lambda: 0.0,
        )
        assert (await nodes.send(READ, "token")).verdict is Verdict.BROKEN
        nodes.close()
    assert heard == []


async def test_cookies_are_not_kept(cluster: FakeCluster) -> None:
    cluster.node.faults.cookie = "a=b"
    async with nodes_of(cluster) as nodes:
        await nodes.send(READ, None)
        await nodes.send(READ, None)
    assert "Cookie" not in cluster.node.received[1].headers


async def test_a_client_certificate_is_shown(cluster: FakeCluster, tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.configure_trust(cluster.tls)
    cluster.tls.verify_mode = ssl.CERT_REQUIRED
    certificate = ca.issue_cert("panward.test")
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "client.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "client.key"))
    pins = Pins(cluster.ca_file, str(tmp_path / "client.pem"), str(tmp_path / "client.key"))
    with_it = Nodes([cluster.node.address], pins, observer=Silent(), threads=1, chance=lambda: 0.0)
    assert (await with_it.send(READ, None)).verdict is Verdict.ANSWERED
    with_it.close()
    async with nodes_of(cluster) as without:
        assert (await without.send(READ, None)).verdict is Verdict.BROKEN


# --- faults, and the second try ------------------------------------------------------------


@pytest.mark.guards("F-03")
async def test_a_silent_server_costs_one_second_and_frees_the_line(cluster: FakeCluster) -> None:
    cluster.node.faults.silent = True
    async with nodes_of(cluster) as nodes:
        started = time.monotonic()
        assert (await nodes.send(READ, None)).verdict is Verdict.TIMED_OUT
        assert time.monotonic() - started == pytest.approx(CALL_SECONDS, abs=0.8)
        cluster.node.faults.silent = False
        assert (await nodes.send(READ, None)).verdict is Verdict.ANSWERED


@pytest.mark.guards("F-03")
async def test_a_thread_that_hangs_past_the_deadline_holds_up_nobody(
    cluster: FakeCluster,
) -> None:
    """Each byte comes in time for the socket; only the deadline of the call ends this."""
    cluster.node.faults.drips = True
    calls = Calls()
    async with nodes_of(cluster, calls=calls) as nodes:
        started = time.monotonic()
        assert (await nodes.send(READ, None)).verdict is Verdict.TIMED_OUT
        assert time.monotonic() - started == pytest.approx(CALL_SECONDS, abs=0.8)
        cluster.node.faults.drips = False
        assert (await nodes.send(READ, None)).verdict is Verdict.ANSWERED
        cluster.node.faults.healed.set()
    assert [result for _, _, result in calls.made] == ["timeout", "ok"]


@pytest.mark.guards("F-03")
async def test_a_server_that_accepts_and_never_shakes_hands_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, fake_cluster() as cluster:
        address = f"https://127.0.0.1:{server.getsockname()[1]}"
        nodes = Nodes(
            [address, cluster.node.address],
            Pins(cluster.ca_file, None, None),
            observer=Silent(),
            threads=2,
            chance=lambda: 0.0,
        )
        started = time.monotonic()
        assert (await nodes.send(READ, None)).verdict is Verdict.ANSWERED
        assert time.monotonic() - started < CALL_SECONDS + 0.4
        nodes.close()


@pytest.mark.guards("F-05")
async def test_another_node_answers_for_one_that_is_gone_and_is_asked_first_from_then_on(
    three: FakeCluster,
) -> None:
    three.node.down()
    calls = Calls()
    async with nodes_of(three, calls=calls) as nodes:
        assert (await nodes.send(READ, None)).verdict is Verdict.ANSWERED
        assert (await nodes.send(READ, None)).verdict is Verdict.ANSWERED
    assert [result for _, _, result in calls.made] == ["not_connected", "ok", "ok"]
    assert [len(node.received) for node in three.nodes] == [0, 2, 0]


@pytest.mark.parametrize(
    "reply",
    [(307, b""), (412, b""), (429, b""), (472, b""), (473, b""), (500, b""), (502, b""), SEALED],
)
async def test_another_node_is_tried_after(three: FakeCluster, reply: tuple[int, bytes]) -> None:
    three.node.faults.always = reply
    async with nodes_of(three) as nodes:
        assert (await nodes.send(READ, None)).verdict is Verdict.ANSWERED
    assert [len(node.received) for node in three.nodes] == [1, 1, 0]


@pytest.mark.parametrize("status", [400, 403, 404, 405])
async def test_a_refusal_is_not_repeated(three: FakeCluster, status: int) -> None:
    three.node.faults.always = (status, b"")
    async with nodes_of(three) as nodes:
        assert (await nodes.send(READ, None)).verdict is not Verdict.ANSWERED
    assert [len(node.received) for node in three.nodes] == [1, 0, 0]


async def test_there_is_one_second_try_and_no_third(three: FakeCluster) -> None:
    for node in three.nodes:
        node.faults.always = SEALED
    async with nodes_of(three) as nodes:
        assert (await nodes.send(READ, None)).verdict is Verdict.SEALED
    assert [len(node.received) for node in three.nodes] == [1, 1, 0]


@pytest.mark.guards("F-07")
@pytest.mark.parametrize(("status", "tries"), [(429, 2), (502, 2), (503, 2), (500, 1), (473, 1)])
async def test_a_lone_node_is_asked_again_only_where_it_may_help(
    cluster: FakeCluster, status: int, tries: int
) -> None:
    cluster.node.faults.always = (status, b"")
    async with nodes_of(cluster) as nodes:
        await nodes.send(READ, None)
    assert len(cluster.node.received) == tries


async def test_a_lone_node_that_restarts_loses_no_call(cluster: FakeCluster) -> None:
    async with nodes_of(cluster) as nodes:
        await nodes.send(READ, None)
        cluster.node.down()
        cluster.node.up()
        assert (await nodes.send(READ, None)).verdict is Verdict.ANSWERED


async def test_what_must_not_be_repeated_is_not_after_an_answer_was_lost(
    three: FakeCluster,
) -> None:
    for node in three.nodes:
        node.faults.loses_answers = 2
    async with nodes_of(three) as nodes:
        assert (await nodes.send(ONCE, None)).verdict is Verdict.BROKEN
        assert sum(len(node.received) for node in three.nodes) == 1
        assert (await nodes.send(READ, None)).verdict is Verdict.BROKEN
        assert sum(len(node.received) for node in three.nodes) == 3


async def test_what_must_not_be_repeated_is_when_nothing_was_sent(three: FakeCluster) -> None:
    three.node.down()
    async with nodes_of(three) as nodes:
        assert (await nodes.send(ONCE, None)).verdict is Verdict.ANSWERED


async def test_concurrent_failures_of_one_node_do_not_jump_over_the_next(
    three: FakeCluster,
) -> None:
    three.node.faults.always = SEALED
    async with nodes_of(three) as nodes:
        answers = await asyncio.gather(*(nodes.send(READ, None) for _ in range(8)))
    assert {answer.verdict for answer in answers} == {Verdict.ANSWERED}
    assert [len(node.received) for node in three.nodes] == [8, 8, 0]


async def test_an_answer_has_a_limit(cluster: FakeCluster) -> None:
    cluster.node.faults.always = (200, b"{}" + b" " * ANSWER_BYTES_MAX)
    async with nodes_of(cluster) as nodes:
        assert (await nodes.send(READ, None)).verdict is Verdict.GARBLED


async def test_every_node_can_be_asked(three: FakeCluster) -> None:
    three.nodes[1].faults.always = SEALED
    async with nodes_of(three) as nodes:
        answers = await nodes.send_to_each(READ)
    verdicts = [answer.verdict for answer in answers]
    assert verdicts == [Verdict.ANSWERED, Verdict.SEALED, Verdict.ANSWERED]


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (ConnectTimeoutError(), Verdict.NOT_CONNECTED),
        (NewConnectionError(HTTPSConnection("a"), "refused"), Verdict.NOT_CONNECTED),
        (ReadTimeoutError(HTTPSConnectionPool("a"), "/", "slow"), Verdict.TIMED_OUT),
        (TimeoutError(), Verdict.TIMED_OUT),
        (ProtocolError("quotes what was decrypted"), Verdict.BROKEN),
        (SSLError("certificate"), Verdict.BROKEN),
        (OSError("no such CA file"), Verdict.BROKEN),
    ],
    ids=repr,
)
def test_of_an_error_only_its_kind_is_kept(error: Exception, verdict: Verdict) -> None:
    assert verdict_on(error) is verdict
