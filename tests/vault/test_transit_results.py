"""Whose result is whose, over the wire; and that no plaintext gets out in an error."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from tests.vault.fake_node import FakeCluster, fake_cluster
from tests.vault.places import kinds, opened, sealed
from tests.vault.recording import Recorder, assert_nowhere, listen_to_everything
from vault.errors import (
    CustodyError,
    KeysError,
    KeysMisconfigured,
    KeysSealed,
    KeysUnavailable,
    RecordCorrupt,
)
from vault.transit import Transit
from vault.transit_items import DecryptItem, EncryptItem, HmacItem

CANARY = b"canary-4242-plaintext"
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


# --- whose result is whose ------------------------------------------------------------------

Results = list[dict[str, Any]]


@pytest.mark.guards("T-66")
async def test_results_in_another_order_reach_their_own_items(
    cluster: FakeCluster, transit: Transit, recorder: Recorder
) -> None:
    items = await sealed(transit, 20)
    cluster.vault.rearrange = lambda results: results[::-1]
    outcomes = await transit.decrypt("pan", items)
    assert outcomes == [b"plaintext of %d" % n for n in range(20)]
    assert recorder.mismatched == 0


@pytest.mark.guards("T-66")
@pytest.mark.parametrize(
    "rearrange",
    [
        lambda results: results[1:],
        lambda results: results[:-5],
        lambda results: [*results, results[3]],
        lambda results: [results[1], *results[1:]],
        lambda results: [],
        lambda results: [{**results[0], "reference": "intent/77"}, *results[1:]],
    ],
    ids=["dropped", "cut", "added", "doubled", "none", "foreign"],
)
async def test_results_that_do_not_fit_reach_nobody(
    cluster: FakeCluster,
    transit: Transit,
    recorder: Recorder,
    rearrange: Callable[[Results], Results],
) -> None:
    items = await sealed(transit, 20)
    macs = [HmacItem(b"%d" % n) for n in range(20)]
    cluster.vault.rearrange = rearrange
    for outcomes in (
        await transit.decrypt("pan", items),
        await transit.encrypt("pan", [ITEM] * 20),
        await transit.hmac("digest", 1, macs),
    ):
        assert kinds(outcomes) == {KeysError}
    assert recorder.mismatched == 3


@pytest.mark.guards("T-69")
async def test_a_poisonous_item_among_good_ones_fails_alone(
    cluster: FakeCluster, transit: Transit
) -> None:
    items = await sealed(transit, 128)
    cluster.vault.poison = items[99].ciphertext.encode()
    before = cluster.vault.count("transit/decrypt/pan")
    outcomes = await transit.decrypt("pan", items)
    assert isinstance(outcomes.pop(99), RecordCorrupt)
    assert outcomes == [b"plaintext of %d" % n for n in range(128) if n != 99]
    assert cluster.vault.count("transit/decrypt/pan") - before == 15


@pytest.mark.guards("T-69")
async def test_a_fault_during_halving_ends_it(cluster: FakeCluster, transit: Transit) -> None:
    cluster.node.faults.replies = [
        (500, b'{"errors":["failed to parse batch input"]}'),
        (503, b'{"errors":["Vault is sealed"]}'),
    ]
    assert kinds(await transit.encrypt("pan", [ITEM] * 8)) == {KeysSealed}
    assert cluster.vault.count("transit/encrypt/pan") == 0


async def test_a_failed_item_is_reported_by_kind(
    cluster: FakeCluster, transit: Transit, recorder: Recorder
) -> None:
    items = await sealed(transit, 2)
    moved = DecryptItem(items[1].ciphertext, b"elsewhere", "intent/1")
    assert isinstance((await transit.decrypt("pan", [items[0], moved]))[1], RecordCorrupt)
    assert recorder.failed == [("decrypt", "context")]


# --- a canary -------------------------------------------------------------------------------


def broken_answer(listed: str) -> tuple[int, bytes]:
    return 400, b'{"data":{"batch_results":%s}}' % listed.encode()


def seal_it(cluster: FakeCluster) -> None:
    cluster.vault.sealed = True


def lose_one(cluster: FakeCluster) -> None:
    cluster.vault.rearrange = lambda results: results[1:]


def answer_nonsense(cluster: FakeCluster) -> None:
    results = [{"plaintext": "Y2FuYXJ5LTQyNDItcGxhaW50ZXh0", "reference": 7}]
    cluster.node.faults.always = broken_answer(json.dumps(results))


def answer_in_words(cluster: FakeCluster) -> None:
    cluster.node.faults.always = (500, b'{"errors":["%s"]}' % CANARY)


def answer_half(cluster: FakeCluster) -> None:
    cluster.node.faults.always = (200, b'{"data":{"batch_results":[{"plaintext":"%s' % CANARY)


def break_off(cluster: FakeCluster) -> None:
    cluster.node.faults.loses_answers = 2


def retire(cluster: FakeCluster) -> None:
    cluster.vault.keys["pan"].rotate()
    cluster.vault.keys["pan"].min_decryption = 2


@pytest.mark.guards("T-67")
@pytest.mark.parametrize(
    "fault",
    [seal_it, lose_one, answer_nonsense, answer_in_words, answer_half, break_off, retire],
    ids=lambda fault: fault.__name__,
)
async def test_no_error_drags_a_plaintext_along(
    cluster: FakeCluster,
    recorder: Recorder,
    caplog: pytest.LogCaptureFixture,
    fault: Callable[[FakeCluster], None],
) -> None:
    listen_to_everything(caplog)
    async with opened(cluster, recorder) as transit:
        items = await sealed(transit, 3, CANARY)
        fault(cluster)
        outcomes: list[object] = [*await transit.decrypt("pan", items)]
        outcomes += await transit.encrypt("pan", [EncryptItem(CANARY, CANARY)])
        cluster.node.faults.always = None
    errors = [outcome for outcome in outcomes if isinstance(outcome, CustodyError)]
    assert len(errors) >= 3
    for error in errors:
        try:
            raise error
        except CustodyError as raised:
            assert_nowhere(CANARY, raised, caplog)
    assert CANARY.decode() not in recorder.words()


@pytest.mark.guards("T-67")
async def test_no_error_about_a_secret_drags_it_along(
    cluster: FakeCluster, transit: Transit, caplog: pytest.LogCaptureFixture
) -> None:
    listen_to_everything(caplog)
    cluster.vault.secrets["processor/t_01/stripe"] = [{"key": {"not": CANARY.decode()}}]
    with pytest.raises(KeysMisconfigured) as caught:
        await transit.read_secret("processor/t_01/stripe")
    assert_nowhere(CANARY, caught.value, caplog)
    assert caught.value.__context__ is None
    cluster.node.down()
    with pytest.raises(KeysUnavailable) as away:
        await transit.write_secret("processor/t_01/stripe", {"key": CANARY.decode()}, cas=1)
    assert away.value.__context__ is None
