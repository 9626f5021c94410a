"""The story of a call, with everything that can go wrong on its way."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.vault.fake_node import FakeCluster, fake_cluster
from tests.vault.places import kinds, opened, sealed
from tests.vault.recording import Recorder
from vault import transit as transit_module
from vault.errors import (
    KeysError,
    KeysMisconfigured,
    KeysSealed,
    KeysThrottled,
    KeysTimedOut,
    KeysUnavailable,
    KeyVersionRetired,
    StartRefused,
)
from vault.observer import Silent
from vault.transit import Transit, VaultAccess
from vault.transit_answers import KeyVersionTooNew
from vault.transit_items import DecryptItem, Encrypted, EncryptItem, HmacItem

ITEM = EncryptItem(b"plaintext", b"context")


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as made:
        yield made


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def transit(cluster: FakeCluster, recorder: Recorder) -> AsyncIterator[Transit]:
    async with opened(cluster, recorder) as made:
        yield made


# --- who may come in, and where ------------------------------------------------------------

GOOD: dict[str, Any] = {
    "addresses": ("https://127.0.0.1:8200",),
    "ca_file": "/ca.pem",
    "role_id": "role",
    "secret_id": "secret-of-the-role",
}


@pytest.mark.parametrize(
    "change",
    [
        {"addresses": ()},
        {"addresses": ("http://127.0.0.1:8200",)},
        {"addresses": ("https://127.0.0.1:8200", "127.0.0.1:8200")},
        {"secret_id": None},
        {"secret_id_file": "/secret"},
        {"client_cert_file": "/client.pem"},
        {"client_key_file": "/client.key"},
        {"transit_mount": "../sys"},
        {"kv_mount": "kv/x"},
    ],
    ids=repr,
)
def test_an_access_is_complete_or_refused(change: dict[str, Any]) -> None:
    VaultAccess(**GOOD)
    with pytest.raises(StartRefused, match=r"^vault "):
        VaultAccess(**{**GOOD, **change})


def test_an_access_does_not_print_its_secret() -> None:
    assert "secret-of-the-role" not in repr(VaultAccess(**GOOD))


@pytest.mark.parametrize("name", ["ca_file", "client_cert_file"])
async def test_a_file_that_is_missing_stops_the_start(
    cluster: FakeCluster, tmp_path: Path, name: str
) -> None:
    changes = {"client_cert_file": cluster.ca_file, "client_key_file": cluster.ca_file}
    changes[name] = str(tmp_path / "missing.pem")
    transit = Transit(cluster.access(**changes), observer=Silent())
    with pytest.raises(StartRefused, match=r"missing\.pem"):
        await transit.start()
    await transit.close()
    assert cluster.node.received == []


async def test_refused_credentials_stop_the_start(cluster: FakeCluster) -> None:
    transit = Transit(cluster.access(secret_id="wrong"), observer=Silent())
    with pytest.raises(KeysMisconfigured):
        await transit.start()
    await transit.close()


async def test_the_token_is_given_back_at_the_end(cluster: FakeCluster) -> None:
    async with opened(cluster):
        assert len(cluster.vault.tokens) == 1
    assert cluster.vault.tokens == {}


async def test_the_token_is_renewed_before_it_ends(cluster: FakeCluster) -> None:
    cluster.vault.roles["test"].period_seconds = 1
    async with opened(cluster) as transit:
        await asyncio.sleep(1.5)
        assert isinstance((await transit.encrypt("pan", [ITEM]))[0], Encrypted)
    assert cluster.vault.count("auth/approle/login") == 1
    assert cluster.vault.count("auth/token/renew-self") >= 1


async def test_every_call_is_measured(transit: Transit, recorder: Recorder) -> None:
    await transit.encrypt("pan", [ITEM] * 130)
    await transit.hmac("digest", 1, [HmacItem(b"x")])
    await transit.read_key("pan")
    assert recorder.called == [
        ("login", 1, "ok"),
        ("encrypt", 128, "ok"),
        ("encrypt", 2, "ok"),
        ("hmac", 1, "ok"),
        ("read_key", 1, "ok"),
    ]


async def test_the_whole_outcome_costs_no_call_when_there_is_nothing_to_do(
    transit: Transit, cluster: FakeCluster
) -> None:
    cluster.node.received.clear()
    assert await transit.encrypt("pan", []) == []
    assert cluster.node.received == []


# --- the keys are away ----------------------------------------------------------------------


@pytest.mark.guards("F-01")
async def test_sealed_at_start(cluster: FakeCluster) -> None:
    cluster.vault.sealed = True
    async with opened(cluster) as transit:
        assert kinds(await transit.encrypt("pan", [ITEM])) == {KeysSealed}
        with pytest.raises(KeysSealed):
            await transit.read_key("pan")
        assert await transit.seal_status() is True


@pytest.mark.guards("F-02")
async def test_sealed_while_running_and_back_after_unseal(
    cluster: FakeCluster, transit: Transit
) -> None:
    items = await sealed(transit, 2)
    cluster.vault.sealed = True
    cluster.node.received.clear()
    assert kinds(await transit.decrypt("pan", items)) == {KeysSealed}
    assert len(cluster.node.received) == 1
    cluster.vault.sealed = False
    assert kinds(await transit.decrypt("pan", items)) == {bytes}


@pytest.mark.guards("F-03")
async def test_silence_ends_at_the_deadline_and_the_next_call_goes_through(
    cluster: FakeCluster, transit: Transit
) -> None:
    items = await sealed(transit, 2)
    cluster.node.faults.silent = True
    started = time.monotonic()
    assert kinds(await transit.decrypt("pan", items)) == {KeysTimedOut}
    assert time.monotonic() - started == pytest.approx(1.0, abs=0.8)
    cluster.node.faults.silent = False
    assert kinds(await transit.decrypt("pan", items)) == {bytes}


@pytest.mark.guards("F-03")
async def test_a_silent_node_is_left_for_another_one() -> None:
    with fake_cluster(2) as cluster:
        async with opened(cluster) as transit:
            cluster.node.faults.silent = True
            started = time.monotonic()
            assert kinds(await transit.encrypt("pan", [ITEM])) == {Encrypted}
            assert time.monotonic() - started == pytest.approx(1.0, abs=0.8)
            assert kinds(await transit.encrypt("pan", [ITEM])) == {Encrypted}
            assert time.monotonic() - started == pytest.approx(1.0, abs=0.8)


async def test_all_of_a_call_has_an_end(
    cluster: FakeCluster, transit: Transit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transit_module, "OPERATION_SECONDS_MAX", 0.1)
    cluster.node.faults.silent = True
    started = time.monotonic()
    assert kinds(await transit.encrypt("pan", [ITEM] * 200)) == {KeysTimedOut}
    assert time.monotonic() - started < 0.9
    cluster.node.faults.silent = False


async def test_nobody_there(cluster: FakeCluster, transit: Transit) -> None:
    cluster.node.down()
    assert kinds(await transit.encrypt("pan", [ITEM])) == {KeysUnavailable}
    with pytest.raises(KeysUnavailable):
        await transit.seal_status()


@pytest.mark.guards("F-06")
async def test_a_full_audit_disk(cluster: FakeCluster, transit: Transit) -> None:
    cluster.vault.audit_disk_full = True
    (outcome,) = await transit.encrypt("pan", [ITEM])
    assert type(outcome) is KeysError
    assert await transit.seal_status() is False  # it says that it is well


@pytest.mark.guards("F-07")
async def test_a_quota(cluster: FakeCluster, transit: Transit) -> None:
    reply = (429, b'{"errors":["rate limit quota exceeded"]}')
    cluster.node.faults.replies = [reply]
    assert kinds(await transit.encrypt("pan", [ITEM])) == {Encrypted}
    cluster.node.faults.replies = [reply, reply]
    assert kinds(await transit.encrypt("pan", [ITEM])) == {KeysThrottled}


@pytest.mark.guards("F-04")
async def test_a_dead_token_is_replaced_by_one_login_for_all(
    cluster: FakeCluster, transit: Transit
) -> None:
    cluster.vault.expire_tokens()
    outcomes = await asyncio.gather(*(transit.encrypt("pan", [ITEM]) for _ in range(8)))
    assert kinds([outcome for (outcome,) in outcomes]) == {Encrypted}
    assert cluster.vault.count("auth/approle/login") == 2


@pytest.mark.guards("F-04")
async def test_a_dead_token_that_cannot_be_replaced(cluster: FakeCluster, transit: Transit) -> None:
    cluster.vault.expire_tokens()
    cluster.vault.roles["test"].secret_ids.clear()
    assert kinds(await transit.encrypt("pan", [ITEM])) == {KeysMisconfigured}
    with pytest.raises(KeysMisconfigured):
        await transit.read_key("pan")


@pytest.mark.guards("T-63")
async def test_a_missing_right_is_no_reason_to_log_in(
    cluster: FakeCluster, transit: Transit
) -> None:
    cluster.vault.forbidden.add("transit/encrypt/pan")
    assert kinds(await transit.encrypt("pan", [ITEM])) == {KeysMisconfigured}
    assert cluster.vault.count("auth/approle/login") == 1
    assert cluster.vault.count("transit/encrypt/pan") == 1


@pytest.mark.guards("F-09")
async def test_a_key_that_is_gone_fails_the_batch_in_one_call(
    cluster: FakeCluster, transit: Transit
) -> None:
    del cluster.vault.keys["pan"]
    assert kinds(await transit.encrypt("pan", [ITEM] * 128)) == {KeysMisconfigured}
    assert cluster.vault.count("transit/encrypt/pan") == 1


@pytest.mark.guards("F-08")
async def test_a_pinned_version_that_was_retired(cluster: FakeCluster, transit: Transit) -> None:
    key = cluster.vault.keys["fingerprint"]
    key.rotate()
    key.min_decryption = 2
    assert kinds(await transit.hmac("fingerprint", 1, [HmacItem(b"x")])) == {KeyVersionRetired}


@pytest.mark.guards("F-08")
async def test_a_version_that_one_node_does_not_know_yet_is_asked_of_another() -> None:
    with fake_cluster(2) as cluster:
        recorder = Recorder()
        async with opened(cluster, recorder) as transit:
            (old,) = await sealed(transit, 1)
            cluster.vault.keys["pan"].rotate()
            (new,) = await sealed(transit, 1)
            cluster.nodes[0].faults.lag = 1
            first, second = await transit.decrypt(
                "pan", [new, DecryptItem(old.ciphertext, old.context, "intent/9")]
            )
            assert isinstance(first, KeyVersionTooNew)
            assert second == b"plaintext of 0"
            assert await transit.decrypt("pan", [new]) == [b"plaintext of 0"]
    assert recorder.failed == [("decrypt", "too_new")]


# --- secrets and rights ---------------------------------------------------------------------


async def test_a_secret_that_was_deleted_is_absent(cluster: FakeCluster, transit: Transit) -> None:
    cluster.vault.secrets["processor/t_01/stripe"] = [{"key": "one"}, None]
    assert await transit.read_secret("processor/t_01/stripe") is None


async def test_a_write_whose_answer_was_lost_is_not_repeated(
    cluster: FakeCluster, transit: Transit
) -> None:
    """The second write would find the first, and report somebody else's."""
    cluster.node.faults.loses_answers = 1
    with pytest.raises(KeysUnavailable):
        await transit.write_secret("processor/t_01/stripe", {"key": "one"}, cas=0)
    assert cluster.vault.secrets["processor/t_01/stripe"] == [{"key": "one"}]
    assert await transit.write_secret("processor/t_01/stripe", {"key": "two"}, cas=1) == 2


async def test_an_engine_that_is_not_there_is_no_absent_secret(cluster: FakeCluster) -> None:
    transit = Transit(cluster.access(kv_mount="elsewhere"), observer=Silent())
    await transit.start()
    with pytest.raises(KeysMisconfigured):
        await transit.read_secret("processor/t_01/stripe")
    await transit.close()


async def test_a_signing_key_without_its_latest_version_is_a_misconfiguration(
    cluster: FakeCluster, transit: Transit
) -> None:
    cluster.node.faults.replies = [(200, b'{"data":{"latest_version":2,"keys":{}}}')]
    with pytest.raises(KeysMisconfigured):
        await transit.public_key("ledger")


@pytest.mark.parametrize(
    ("replies", "sealed"),
    [((200, 200), False), ((200, 501), False), ((501, 200), False), ((501, 501), True)],
    ids=repr,
)
async def test_it_is_sealed_when_no_node_is_open(replies: tuple[int, int], *, sealed: bool) -> None:
    with fake_cluster(2) as cluster:
        async with opened(cluster) as transit:
            for node, status in zip(cluster.nodes, replies, strict=True):
                node.faults.always = (status, b"{}")
            assert await transit.seal_status() is sealed
            for node in cluster.nodes:
                node.faults.always = None


async def test_a_secret_of_another_shape_is_a_misconfiguration(
    cluster: FakeCluster, transit: Transit
) -> None:
    cluster.vault.secrets["processor/t_01/stripe"] = [{"key": {"deep": "er"}}]
    with pytest.raises(KeysMisconfigured):
        await transit.read_secret("processor/t_01/stripe")
