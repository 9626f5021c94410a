"""Whose result is whose: settled by reference, and not believed when it does not fit."""

from collections.abc import Callable, Sequence
from itertools import count

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.errors import CustodyError, KeysError, KeysSealed, KeysTimedOut, RecordCorrupt
from vault.transit_answers import Answer, Verdict
from vault.transit_batches import MISMATCH, Batch
from vault.transit_items import Decrypt, DecryptItem, Encrypt, EncryptItem

Result = dict[str, str]


def items(number: int) -> list[DecryptItem]:
    return [DecryptItem("vault:v1:AAAA", b"c", f"intent/{n}") for n in range(number)]


def batch_of(number: int) -> Batch[DecryptItem, bytes]:
    return Batch(Decrypt("pan"), items(number), count())


def plaintext(n: int) -> bytes:
    return b"plaintext of %d" % n


def results(number: int, *, failed: Sequence[int] = ()) -> list[Result]:
    return [
        {"reference": f"intent/{n}", "error": "cipher: message authentication failed"}
        if n in failed
        else {"reference": f"intent/{n}", "plaintext": as_base64(plaintext(n))}
        for n in range(number)
    ]


def as_base64(value: bytes) -> str:
    return msgspec.json.decode(msgspec.json.encode(value), type=str)


def answer(listed: Sequence[Result]) -> Answer:
    return Answer(Verdict.ANSWERED, msgspec.Raw(msgspec.json.encode({"batch_results": listed})))


def settle(batch: Batch[DecryptItem, bytes], listed: Sequence[Result]) -> list[str]:
    part = batch.next_part()
    assert part is not None
    return batch.settle(part, answer(listed))


def test_a_call_travels_in_parts_of_128_in_order() -> None:
    batch = batch_of(300)
    parts = []
    while (part := batch.next_part()) is not None:
        parts.append(part)
    assert [len(part.items) for part in parts] == [128, 128, 44]
    assert [place for part in parts for place in part.places] == list(range(300))


def test_no_items_need_no_request() -> None:
    batch = batch_of(0)
    assert batch.next_part() is None
    assert batch.outcomes(KeysTimedOut) == []


def test_each_item_gets_its_value_or_its_error() -> None:
    batch = batch_of(4)
    assert settle(batch, results(4, failed=[2])) == ["context"]
    outcomes = batch.outcomes(KeysTimedOut)
    assert [type(outcome) for outcome in outcomes] == [bytes, bytes, RecordCorrupt, bytes]
    assert outcomes[3] == plaintext(3)


@pytest.mark.guards("T-66")
@given(st.permutations(range(8)))
def test_the_order_of_results_does_not_matter(order: list[int]) -> None:
    batch = batch_of(8)
    listed = results(8)
    assert settle(batch, [listed[n] for n in order]) == []
    assert batch.outcomes(KeysTimedOut) == [plaintext(n) for n in range(8)]


@pytest.mark.guards("T-66")
@pytest.mark.parametrize(
    "change",
    [
        lambda listed: listed[:-1],
        lambda listed: [],
        lambda listed: [*listed, listed[0]],
        lambda listed: [listed[0], listed[0], *listed[2:]],
        lambda listed: [{**listed[0], "reference": "intent/9"}, *listed[1:]],
        lambda listed: [{**listed[0], "reference": ""}, *listed[1:]],
        lambda listed: [{"plaintext": listed[0]["plaintext"]}, *listed[1:]],
    ],
    ids=["cut", "none", "one more", "twice", "foreign", "empty", "nameless"],
)
def test_results_that_do_not_fit_are_not_believed(
    change: Callable[[list[Result]], list[Result]],
) -> None:
    batch = batch_of(4)
    assert settle(batch, change(results(4))) == [MISMATCH]
    assert {type(outcome) for outcome in batch.outcomes(KeysTimedOut)} == {KeysError}


@pytest.mark.guards("T-66")
@given(st.data())
def test_nobody_ever_gets_the_value_of_another(data: st.DataObject) -> None:
    """Results are dropped, doubled, renamed and moved at will."""
    listed = results(5)
    made = data.draw(st.lists(st.sampled_from(listed), max_size=7))
    batch = batch_of(5)
    settle(batch, made)
    for n, outcome in enumerate(batch.outcomes(KeysTimedOut)):
        assert isinstance(outcome, CustodyError) or outcome == plaintext(n)


@pytest.mark.guards("T-66")
def test_a_reference_used_twice_opens_once() -> None:
    twice = items(2)
    batch = Batch(Decrypt("pan"), [*twice, twice[0]], count())
    part = batch.next_part()
    assert part is not None
    assert part.references == ["intent/0", "intent/1"]
    batch.settle(part, answer(results(2)))
    outcomes = batch.outcomes(KeysTimedOut)
    assert outcomes[:2] == [plaintext(0), plaintext(1)]
    assert isinstance(outcomes[2], KeysError)


def test_items_without_a_reference_get_a_fresh_number() -> None:
    numbers = count(5)
    for expected in (["5", "6"], ["7", "8"]):
        part = Batch(Encrypt("pan"), [EncryptItem(b"p", b"c")] * 2, numbers).next_part()
        assert part is not None
        assert part.references == expected


def test_a_value_that_is_not_as_it_must_be_is_an_error() -> None:
    batch = batch_of(1)
    assert settle(batch, [{"reference": "intent/0"}]) == ["other"]
    assert [type(outcome) for outcome in batch.outcomes(KeysTimedOut)] == [KeysError]


@pytest.mark.guards("T-69")
@given(number=st.integers(1, 128), data=st.data())
def test_halving_isolates_the_culprits_and_saves_the_rest(number: int, data: st.DataObject) -> None:
    culprits = data.draw(st.sets(st.integers(0, number - 1), max_size=3))
    batch = batch_of(number)
    requests = 0
    while (part := batch.next_part()) is not None:
        requests += 1
        if not culprits & set(part.places):
            batch.settle(part, answer([results(number)[place] for place in part.places]))
        elif not batch.halve(part):
            batch.fail(part, RecordCorrupt)
    for place, outcome in enumerate(batch.outcomes(KeysTimedOut)):
        if place in culprits:
            assert isinstance(outcome, RecordCorrupt)
        else:
            assert outcome == plaintext(place)
    assert requests <= 1 + len(culprits) * 2 * 7


def test_what_was_never_settled_ends_as_the_given_error_each_with_its_own() -> None:
    first, second = batch_of(2).outcomes(KeysSealed)
    assert isinstance(first, KeysSealed)
    assert isinstance(second, KeysSealed)
    assert first is not second
