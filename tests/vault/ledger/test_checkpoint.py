"""Checkpoints, requests to witnesses and proofs, byte for byte as C2SP has them."""

from contextlib import suppress
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vault.ledger import golden
from tests.vault.ledger.mutations import mutations
from vault.ledger.checkpoint import (
    PROOF_HASHES_MAX,
    AddCheckpoint,
    Checkpoint,
    TlogProof,
    origin_hash,
    parse_add_checkpoint,
    parse_checkpoint,
    parse_tlog_proof,
)
from vault.ledger.note import (
    Note,
    NoteRefused,
    VerifierKey,
    parse_note,
    parse_signatures,
    signed,
    verified,
)
from vault.ledger.tree import (
    EMPTY_ROOT,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

NOTE = parse_note(golden.NOTE_3)
LOG = VerifierKey.parse(golden.LOG_KEY)
HASH_LINE = "3t8ellaME6WCe7y4TZIK2yHZibXaT2Hea9Bg5SeS2pE=\n"

hashes = st.binary(min_size=32, max_size=32)
proofs = st.lists(hashes, max_size=PROOF_HASHES_MAX).map(tuple)
sizes = st.integers(0, 2**63 - 1)


def test_the_golden_checkpoint() -> None:
    leaves = [leaf_hash(entry) for entry in golden.ENTRIES]
    assert tuple(leaves) == golden.LEAVES
    checkpoint = Checkpoint(golden.ORIGIN, 3, root_of(leaves))
    assert checkpoint.root == golden.ROOT_3
    assert checkpoint.text == golden.CHECKPOINT_3
    assert parse_checkpoint(golden.CHECKPOINT_3) == checkpoint
    assert len(golden.NOTE_3) == 195
    assert sha256(golden.NOTE_3).hexdigest() == golden.NOTE_3_SHA256
    assert origin_hash(golden.ORIGIN) == golden.ORIGIN_HASH


def test_the_golden_signatures() -> None:
    for size, expected in ((2, golden.SIGNATURE_2), (3, golden.SIGNATURE_3)):
        text = Checkpoint(golden.ORIGIN, size, root_of(golden.LEAVES[:size])).text
        raw_signature = golden.LOG_PRIVATE_KEY.sign(text.encode())
        line = signed(text, golden.ORIGIN, golden.LOG_PUBLIC_KEY, raw_signature)
        assert line.line == f"\u2014 {golden.ORIGIN} {expected}\n"


def test_the_golden_request() -> None:
    request = AddCheckpoint(2, golden.CONSISTENCY_2_TO_3, NOTE)
    assert request.body == golden.WITNESS_REQUEST
    assert parse_add_checkpoint(golden.WITNESS_REQUEST) == request
    checkpoint = parse_checkpoint(request.note.text)
    verify_consistency(
        request.proof,
        old_size=2,
        old_root=golden.ROOT_2,
        size=checkpoint.size,
        root=checkpoint.root,
    )


def test_the_golden_proof() -> None:
    proof = TlogProof(1, golden.INCLUSION_1_IN_3, NOTE)
    assert proof.raw == golden.TLOG_PROOF_1
    assert parse_tlog_proof(golden.TLOG_PROOF_1) == proof
    verified(proof.note, [LOG])
    checkpoint = parse_checkpoint(proof.note.text)
    verify_inclusion(
        proof.hashes,
        index=proof.index,
        size=checkpoint.size,
        leaf=leaf_hash(golden.ENTRIES[1]),
        root=checkpoint.root,
    )


def test_the_empty_log() -> None:
    text = f"{golden.ORIGIN}\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
    assert Checkpoint(golden.ORIGIN, 0, EMPTY_ROOT).text == text
    assert parse_checkpoint(text) == Checkpoint(golden.ORIGIN, 0, EMPTY_ROOT)
    with pytest.raises(NoteRefused, match="empty tree"):
        parse_checkpoint(text.replace("47DE", "48DE"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        golden.CHECKPOINT_3.removesuffix("\n"),
        golden.CHECKPOINT_3 + "an extension\n",
        golden.CHECKPOINT_3 + "\n",
        "\n" + golden.CHECKPOINT_3,
        golden.CHECKPOINT_3.replace("\n3\n", "\n03\n"),
        golden.CHECKPOINT_3.replace("\n3\n", "\n-3\n"),
        golden.CHECKPOINT_3.replace("\n3\n", "\n3 \n"),
        golden.CHECKPOINT_3.replace("\n3\n", "\n\u0663\n"),
        golden.CHECKPOINT_3.replace("\n3\n", f"\n{2**63}\n"),
        golden.CHECKPOINT_3.replace("\n3\n", "\n\n"),
        golden.CHECKPOINT_3.replace("MY=", "MZ="),  # stray bits
        golden.CHECKPOINT_3.replace("MY=", "MY"),
        golden.CHECKPOINT_3.replace("AKcK", ""),
        golden.CHECKPOINT_3.replace("AKcK", "AKcKAKcK"),
        golden.CHECKPOINT_3.replace(golden.ORIGIN, ""),
        golden.CHECKPOINT_3.replace("gateway", "gate way"),
        golden.CHECKPOINT_3.replace("gateway", "gate+way"),
        golden.CHECKPOINT_3.replace("gateway", "x" * 250),
    ],
)
def test_what_is_no_checkpoint(text: str) -> None:
    with pytest.raises(NoteRefused):
        parse_checkpoint(text)
    if text.endswith("\n"):
        note = Note(text, NOTE.signatures)
        for raw in (
            AddCheckpoint(2, (), note).body,
            TlogProof(1, (), note).raw,
        ):
            with pytest.raises(NoteRefused):
                parse_add_checkpoint(raw)
            with pytest.raises(NoteRefused):
                parse_tlog_proof(raw)


@pytest.mark.parametrize(
    "head",
    [
        "",
        "\n",
        "\n\n",
        "old 2\n",
        "old\n\n",
        "old \n\n",
        "old 02\n\n",
        "old -2\n\n",
        "old  2\n\n",
        "old 2 \n\n",
        "Old 2\n\n",
        "old 2\r\n\n",
        f"old {2**63}\n\n",
        "old 2\nAAAA\n\n",
        "old 2\n" + HASH_LINE * 64 + "\n",
        "old 2\n\n" + HASH_LINE,
        "old 2\n " + HASH_LINE + "\n",
        "old 2\n" + HASH_LINE.replace("pE=", "pF=") + "\n",
        "old 2\nold 2\n\n",
    ],
)
def test_what_is_no_request(head: str) -> None:
    with pytest.raises(NoteRefused):
        parse_add_checkpoint(head.encode() + golden.NOTE_3)


@pytest.mark.parametrize(
    "head",
    [
        "",
        "c2sp.org/tlog-proof@v1\n\n",
        "c2sp.org/tlog-proof@v2\nindex 1\n\n",
        "index 1\n\n",
        "c2sp.org/tlog-proof@v1\nindex 01\n\n",
        "c2sp.org/tlog-proof@v1\nindex 1\n",
        "c2sp.org/tlog-proof@v1\nindex\n\n",
        "c2sp.org/tlog-proof@v1\nextra AA==\n\n",
        "c2sp.org/tlog-proof@v1\nextra AB==\nindex 1\n\n",
        "c2sp.org/tlog-proof@v1\nextra\nindex 1\n\n",
        "c2sp.org/tlog-proof@v1\nextra AA==\nextra AA==\nindex 1\n\n",
        "c2sp.org/tlog-proof@v1\nindex 1\nextra AA==\n\n",
        "c2sp.org/tlog-proof@v1\nindex 1\n" + HASH_LINE * 64 + "\n",
        "c2sp.org/tlog-proof@v1\nindex 1\nAAAA\n\n",
    ],
)
def test_what_is_no_proof(head: str) -> None:
    with pytest.raises(NoteRefused):
        parse_tlog_proof(head.encode() + golden.NOTE_3)


def test_a_proof_as_high_as_a_log_can_be() -> None:
    proof = TlogProof(2**63 - 1, golden.LEAVES[:1] * PROOF_HASHES_MAX, NOTE, extra=b"")
    assert parse_tlog_proof(proof.raw) == proof
    request = AddCheckpoint(0, proof.hashes, NOTE)
    assert parse_add_checkpoint(request.body) == request


@given(size=sizes, root=hashes)
def test_a_checkpoint_is_read_as_it_is_written(size: int, root: bytes) -> None:
    checkpoint = Checkpoint(golden.ORIGIN, size, root if size else EMPTY_ROOT)
    assert parse_checkpoint(checkpoint.text) == checkpoint


@given(old=sizes, proof=proofs)
def test_a_request_is_read_as_it_is_written(old: int, proof: tuple[bytes, ...]) -> None:
    request = AddCheckpoint(old, proof, NOTE)
    assert parse_add_checkpoint(request.body) == request


@given(index=sizes, proof=proofs, extra=st.none() | st.binary(max_size=40))
def test_a_proof_is_read_as_it_is_written(
    index: int, proof: tuple[bytes, ...], extra: bytes | None
) -> None:
    written = TlogProof(index, proof, NOTE, extra)
    assert parse_tlog_proof(written.raw) == written


def test_every_mutation_of_a_request_is_refused_or_says_something_else() -> None:
    cosigned = NOTE.with_signatures(parse_signatures(golden.COSIGNATURE_3.encode()))
    request = AddCheckpoint(2, golden.CONSISTENCY_1_TO_3, cosigned)
    for mutated in mutations(request.body):
        try:
            read = parse_add_checkpoint(mutated)
        except NoteRefused:
            continue
        assert read.body == mutated
        assert read != request


def test_every_mutation_of_a_proof_is_refused_or_says_something_else() -> None:
    proof = TlogProof(1, golden.INCLUSION_1_IN_3, NOTE, extra=b"extra")
    for mutated in mutations(proof.raw):
        try:
            read = parse_tlog_proof(mutated)
        except NoteRefused:
            continue
        assert read.raw == mutated
        assert read != proof


@pytest.mark.guards("T-60")
def test_no_mutation_of_a_proof_proves() -> None:
    for mutated in mutations(golden.TLOG_PROOF_1):
        with pytest.raises(ValueError, match=r"."):
            proven(mutated)
    proven(golden.TLOG_PROOF_1)


def proven(raw: bytes) -> None:
    proof = parse_tlog_proof(raw)
    verified(proof.note, [LOG])
    checkpoint = parse_checkpoint(proof.note.text)
    leaf = golden.LEAVES[1]
    verify_inclusion(
        proof.hashes, index=proof.index, size=checkpoint.size, leaf=leaf, root=checkpoint.root
    )


@given(st.binary(max_size=120))
def test_anything_is_read_or_refused(raw: bytes) -> None:
    for candidate in (raw, b"old " + raw + golden.NOTE_3, raw + b"\n\n" + golden.NOTE_3):
        with suppress(NoteRefused):
            assert parse_add_checkpoint(candidate).body == candidate
        with suppress(NoteRefused):
            assert parse_tlog_proof(candidate).raw == candidate
