"""OpenBao's first start, its listener, its audit log, and what a copy of its data is worth."""

import json
import secrets
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.embedded_process import EmbeddedProcess
from tests.vault.embedded.bao_client import BaoClient
from vault.embedded import certificates, openbao, ports
from vault.embedded.bootstrap import (
    KEYS,
    EmbeddedParts,
    Login,
    first_requests,
    make_secrets,
)
from vault.embedded.layout import LOGINS, Layout
from vault.embedded.openbao import OpenBao, Request, from_file
from vault.errors import StartRefused
from vault.private_files import write_private

pytestmark = pytest.mark.embedded

# base64 of a plaintext that stands for a card number's record.
PLAINTEXT = "dGhlIHBsYWludGV4dCBvZiB0aGUgYXVkaXQgdGVzdA=="
EVERYTHING = 'path "*" { capabilities = ["create", "read", "update", "list", "sudo"] }'


@asynccontextmanager
async def _running(folder: Path, *more: Request) -> AsyncIterator[OpenBao]:
    """Run an OpenBao alone, told what a deployment's is told and more."""
    layout = Layout(folder)
    layout.make_folders()
    make_secrets(layout)
    certificates.keep(layout, at=datetime.now(UTC))
    server = await _server(layout)
    server.start([*first_requests(layout), *more])
    try:
        await server.ready(first=True)
        yield server
    finally:
        await server.stop()


async def _server(layout: Layout) -> OpenBao:
    chosen = await ports.choose(layout, (), None)
    return OpenBao(
        layout,
        port=chosen[ports.OPENBAO],
        cluster_port=chosen[ports.OPENBAO_CLUSTER],
        given_up=lambda _: None,
    )


def _auditor(layout: Layout) -> tuple[Request, ...]:
    """A login that may see everything: it exists in this test only."""
    role = "auth/approle/role/auditor"
    write_private(layout.folder / "auditor", b"a-role-or-secret-id-of-an-auditor")
    value = from_file(layout.folder / "auditor")
    return (
        Request("auditor-policy", "sys/policies/acl/auditor", {"policy": EVERYTHING}),
        Request("auditor-role", role, {"token_policies": ["auditor"]}),
        Request("auditor-role-id", f"{role}/role-id", {"role_id": value}),
        Request("auditor-secret-id", f"{role}/custom-secret-id", {"secret_id": value}),
    )


def _parts(layout: Layout, address: str) -> EmbeddedParts:
    run = layout.openbao_run
    nothing = layout.folder
    return EmbeddedParts(
        folder=layout.folder,
        runtime_dsn="",
        owner_dsn="",
        postgres_binaries=nothing,
        vault_address=address,
        vault_ca_file=run / "ca.pem",
        vault_client_cert_file=run / "client.pem",
        vault_client_key_file=run / "client.key",
        vault_audit_log_file=layout.audit_log,
        logins={},
        tls_ca_file=nothing,
        tls_cert_file=nothing,
        tls_key_file=nothing,
        ports={},
    )


@pytest.mark.guards("T-63")
async def test_a_fresh_one_is_set_up_as_it_must_be(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.make_folders()
    login = Login(tmp_path / "auditor", tmp_path / "auditor")
    async with _running(tmp_path, *_auditor(layout)) as server:
        with BaoClient(_parts(layout, server.address), login) as auditor:
            # A misspelled key name makes no key, whatever the policy says.
            item = {"plaintext": "", "context": "eA=="}
            status, answer = auditor.call("POST", "transit/encrypt/pann", {"batch_input": [item]})
            assert status == 400, answer
            assert auditor.call("GET", "transit/keys/pann")[0] == 404
            _assert_keys(auditor)
            _, mount = auditor.call("GET", "sys/mounts/transit/tune")
            assert mount["data"]["audit_non_hmac_request_keys"] == ["reference"]
            _, kv = auditor.call("GET", "kv/config")
            assert kv["data"]["cas_required"] is True
            _, roles = auditor.call("LIST", "auth/approle/role")
            assert roles["data"]["keys"] == sorted([*LOGINS, "auditor"])
            _, accessors = auditor.call("LIST", "auth/token/accessors")
            assert len(_strings(accessors["data"]["keys"])) == 1  # the auditor's: no root token


def _strings(value: object) -> list[str]:
    assert isinstance(value, list)
    return value


def _assert_keys(auditor: BaoClient) -> None:
    _, listed = auditor.call("LIST", "transit/keys")
    assert sorted(_strings(listed["data"]["keys"])) == sorted(KEYS)
    for name, asked in KEYS.items():
        _, answer = auditor.call("GET", f"transit/keys/{name}")
        key = answer["data"]
        assert key["type"] == asked["type"], name
        assert key["derived"] is asked.get("derived", False), name
        assert not key["exportable"], name
        assert not key["allow_plaintext_backup"], name
        assert not key["deletion_allowed"], name
        period = {"2160h": 7_776_000, "1h": 3600, "None": 0}
        assert key["auto_rotate_period"] == period[str(asked.get("auto_rotate_period"))], name


async def test_a_first_start_that_fails_is_refused_at_once(tmp_path: Path) -> None:
    wrong = Request("wrong", "transit/keys/pan/config", {"min_decryption_version": 99})

    with pytest.raises(StartRefused, match=r"openbao does not start: see .*openbao\.log"):
        async with _running(tmp_path, wrong):
            pass


@pytest.mark.guards("T-73")
async def test_a_copy_of_the_data_without_the_key_opens_nothing(
    tmp_path: Path, embedded: EmbeddedParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openbao, "_READY_SECONDS", 2.0)
    copy = Layout(tmp_path)
    copy.make_folders()
    shutil.copytree(Layout(embedded.folder).openbao_raft, copy.openbao_raft, dirs_exist_ok=True)
    write_private(copy.unseal_key, secrets.token_bytes(32))
    certificates.keep(copy, at=datetime.now(UTC))
    server = await _server(copy)
    server.start()
    try:
        with pytest.raises(StartRefused):
            await server.ready()
        assert server.child.pid is not None  # it runs, and stays sealed
        assert "cipher: message authentication failed" in (copy.log / "openbao.log").read_text()
    finally:
        await server.stop()


@pytest.fixture
def break_glass(embedded: EmbeddedParts) -> Iterator[BaoClient]:
    with BaoClient(embedded, embedded.logins["break-glass"]) as client:
        yield client


def test_a_sealed_one_is_opened_by_a_restart(
    embedded_process: EmbeddedProcess, embedded: EmbeddedParts, break_glass: BaoClient
) -> None:
    status, _ = break_glass.call("POST", "sys/seal", {})
    assert status == 204
    status, _ = break_glass.call("GET", "sys/health")
    assert status == 503

    embedded_process.do("restart openbao")

    with BaoClient(embedded, embedded.logins["tokenize"]):
        pass  # logged in


@pytest.mark.guards("T-73")
def test_it_listens_on_loopback_only(embedded: EmbeddedParts) -> None:
    listening = _listening()

    for name in (ports.OPENBAO, ports.OPENBAO_CLUSTER):
        assert {address for address, port in listening if port == embedded.ports[name]} == {
            "127.0.0.1"
        }


def _listening() -> set[tuple[str, int]]:
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, state = line.split()[1], line.split()[3]
        if state == "0A":
            address, _, port = local.partition(":")
            packed = bytes.fromhex(address)[::-1]
            found.add((socket.inet_ntoa(packed), int(port, 16)))
    any6 = "0" * 32
    for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]:
        local, state = line.split()[1], line.split()[3]
        if state == "0A":
            address, _, port = local.partition(":")
            found.add(("::" if address == any6 else address, int(port, 16)))
    return found


def _handshake(parts: EmbeddedParts, context: ssl.SSLContext) -> str | None:
    """The protocol version; a refused client certificate shows at the first read (TLS 1.3)."""
    port = parts.ports[ports.OPENBAO]
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
    ):
        tls.sendall(b"GET /v1/sys/health HTTP/1.0\r\n\r\n")
        assert tls.recv(8) == b"HTTP/1.0"
        return tls.version()


def _context(parts: EmbeddedParts) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=parts.vault_ca_file)


def test_who_shows_our_certificate_gets_tls_1_3(embedded: EmbeddedParts) -> None:
    context = _context(embedded)
    context.load_cert_chain(embedded.vault_client_cert_file, embedded.vault_client_key_file)

    assert _handshake(embedded, context) == "TLSv1.3"


@pytest.mark.guards("T-73")
def test_who_shows_none_or_another_s_is_refused(embedded: EmbeddedParts) -> None:
    nobody, stranger, old = (_context(embedded) for _ in range(3))
    stranger.load_cert_chain(embedded.tls_cert_file, embedded.tls_key_file)
    old.load_cert_chain(embedded.vault_client_cert_file, embedded.vault_client_key_file)
    old.maximum_version = ssl.TLSVersion.TLSv1_2

    for context in (nobody, stranger, old):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            _handshake(embedded, context)


@pytest.mark.guards("T-64")
def test_the_audit_log_holds_references_and_no_plaintext(embedded: EmbeddedParts) -> None:
    reference = f"audit-{secrets.token_hex(8)}/0"
    item = {"plaintext": PLAINTEXT, "context": "Y29udGV4dA==", "reference": reference}
    with BaoClient(embedded, embedded.logins["tokenize"]) as tokenize:
        assert tokenize.call("POST", "transit/encrypt/pan", {"batch_input": [item]})[0] == 200
    log = embedded.vault_audit_log_file.read_text()

    lines = [json.loads(line) for line in log.splitlines() if reference in line]

    assert {line["type"] for line in lines} >= {"request"}
    assert PLAINTEXT not in log
    for login in embedded.logins.values():
        assert login.secret_id_file.read_text() not in log
        assert login.role_id_file.read_text() not in log


def test_its_secrets_are_in_no_argument_and_no_environment(
    embedded: EmbeddedParts, embedded_process: EmbeddedProcess
) -> None:
    secret_files = list((embedded.folder / "secrets").iterdir())
    assert len(secret_files) == 2 * len(LOGINS) + 2
    for pid in embedded_process.pids().values():
        for name in ("cmdline", "environ"):
            content = Path(f"/proc/{pid}/{name}").read_bytes()
            for path in secret_files:
                assert path.read_bytes().strip().rpartition(b":")[2] not in content
