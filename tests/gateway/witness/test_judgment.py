"""What a witness cosigns and what it refuses, without its memory or its key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.witness.judgment import (
    NOTHING_HELD,
    Asked,
    Extends,
    Held,
    HeldOther,
    Refusal,
    asked,
    judged,
)
from tests.gateway.witness.signed_log import SignedLog
from vault.ledger.checkpoint import AddCheckpoint
from vault.ledger.note import Note, Signature

LOG = SignedLog.of_size(20)
LOGS = {LOG.key.name: (LOG.key,)}


def asking(request: AddCheckpoint) -> Asked:
    found = asked(request.body, LOGS)
    assert isinstance(found, Asked)
    return found


def held(size: int, log: SignedLog = LOG) -> Held:
    return Held(size, log.root(size))


def test_the_request_of_the_reference_reads() -> None:
    three = SignedLog.of_size(3)
    body = (
        "old 2\n3t8ellaME6WCe7y4TZIK2yHZibXaT2Hea9Bg5SeS2pE=\n\n"
        "ledger.example/gateway-1\n3\nAKcKsZUbOSDpO7cxOBdBlx0JYMGuQc5ky21fozC//MY=\n\n"
        "\u2014 ledger.example/gateway-1 AxBGberNqP53Ox8yxdbBZKEYmPFyUSYkPlfuXRRDF74hQAG4L5oWEEv"
        "TMgrO8phhX6Zj/FODI9WyNMjjZYjYd3lvlw8=\n"
    ).encode()
    assert body == three.request(2).body
    found = asked(body, LOGS)
    assert isinstance(found, Asked)
    assert judged(found, held(2, three)) == Extends()


# --- without memory -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 2",
        LOG.note().raw,
        LOG.request(2).body.replace(b"old 2", b"old 02"),
        LOG.request(2).body.replace(b"old 2", b"old -2"),
        LOG.request(2).body.replace(b"old 2", b"old 2 "),
        LOG.request(2).body.replace(b"old 2\n", b""),
        LOG.request(2).body.replace(b"\n", b"\r\n"),
        LOG.request(2).body[:-1],
        LOG.request(2).body + b"\n",
        b"old 2\n" + b"AAAA\n" + b"\n" + LOG.note().raw,
        b"old 2\n" + LOG.request(10).body.split(b"\n")[1] * 2 + b"\n\n" + LOG.note().raw,
        AddCheckpoint(2, (bytes(32),) * 64, LOG.note()).body,
        AddCheckpoint(21, (), LOG.note()).body,
        AddCheckpoint(0, (), LOG.signed(f"{LOG.key.name}\n020\n{'A' * 43}=\n")).body,
        AddCheckpoint(0, (), LOG.signed(f"{LOG.key.name}\n0\n{'A' * 43}=\n")).body,
        AddCheckpoint(0, (), LOG.signed(f"{LOG.checkpoint().text}extension\n")).body,
    ],
)
def test_what_does_not_read_as_a_request_is_malformed(body: bytes) -> None:
    assert asked(body, LOGS) is Refusal.MALFORMED


def test_a_log_that_nobody_told_us_of_is_unknown() -> None:
    other = SignedLog.of_size(5, origin="ledger.example/gateway-2")
    assert asked(other.request(0).body, LOGS) is Refusal.UNKNOWN_LOG


@pytest.mark.guards("T-75")
def test_only_the_logs_own_key_speaks_for_it() -> None:
    impostor = SignedLog.of_size(5, seed=bytes(32))
    assert asked(impostor.request(0).body, LOGS) is Refusal.NOT_SIGNED
    genuine = LOG.request(0)
    line = genuine.note.signatures[0]
    wrong = Signature(line.name, line.key_id, bytes(64))
    for lines in [(wrong,), (line, wrong), (wrong, line)]:
        body = AddCheckpoint(0, (), Note(genuine.note.text, lines)).body
        assert asked(body, LOGS) is Refusal.NOT_SIGNED


def test_while_a_log_changes_its_key_either_will_do() -> None:
    new = SignedLog.of_size(5, seed=bytes(32))
    both = {LOG.key.name: (LOG.key, new.key)}
    assert isinstance(asked(new.request(0).body, both), Asked)
    assert isinstance(asked(LOG.request(0).body, both), Asked)


def test_what_else_was_signed_on_is_left_behind() -> None:
    foreign = Signature("witness.example/other", bytes(4), bytes(72))
    note = LOG.note().with_signatures([foreign])
    assert asking(AddCheckpoint(0, (), note)).note == LOG.note()


# --- with memory --------------------------------------------------------------------------


@pytest.mark.parametrize("old", range(21))
@pytest.mark.parametrize("size", [0, 1, 7, 8, 20])
def test_whatever_extends_what_is_held_is_cosigned(old: int, size: int) -> None:
    if old <= size:
        assert judged(asking(LOG.request(old, size)), held(old)) == Extends()


@pytest.mark.guards("T-75")
@pytest.mark.parametrize(("old", "holds"), [(0, 5), (4, 5), (6, 5), (20, 5), (5, 0), (5, 20)])
def test_another_size_than_the_one_held_is_told_which(old: int, holds: int) -> None:
    assert judged(asking(LOG.request(old)), held(holds)) == HeldOther(holds)


@pytest.mark.guards("T-75")
@pytest.mark.parametrize("at", [0, 1, 4, 7])
@pytest.mark.parametrize("size", [8, 9, 20])
def test_a_fork_is_never_cosigned(at: int, size: int) -> None:
    fork = LOG.forked(at)
    assert judged(asking(fork.request(8, size)), held(8)) is Refusal.NO_EXTENSION


def test_a_proof_that_is_not_one_is_refused() -> None:
    good = LOG.request(6)
    proofs = [
        (),
        good.proof[:-1],
        (*good.proof, bytes(32)),
        tuple(reversed(good.proof)),
        (bytes(32), *good.proof[1:]),
    ]
    for proof in proofs:
        wrong = asking(AddCheckpoint(6, proof, good.note))
        assert judged(wrong, held(6)) is Refusal.NO_EXTENSION
    for old, proof in [(0, (bytes(32),)), (20, (bytes(32),))]:
        wrong = asking(AddCheckpoint(old, proof, good.note))
        assert judged(wrong, held(old)) is Refusal.NO_EXTENSION


def test_nothing_held_is_the_empty_log() -> None:
    assert held(0) == NOTHING_HELD
    assert judged(asking(LOG.request(0, 0)), NOTHING_HELD) == Extends()


@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused(noise: bytes) -> None:
    assert isinstance(asked(noise, LOGS), Refusal)
    spliced = LOG.request(6).body.replace(b"\n", noise, 1)
    if noise != b"\n":
        assert isinstance(asked(spliced, LOGS), Refusal | Asked)
