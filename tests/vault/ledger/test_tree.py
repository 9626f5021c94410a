"""The Merkle tree against RFC 6962: published roots, every small tree, and forged proofs."""

from base64 import b64decode
from functools import cache
from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.ledger.tree import (
    EMPTY_ROOT,
    ROOT_CHUNK_LEAVES,
    SIZE_MAX,
    CompactRange,
    InvalidProof,
    InvalidRange,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

SIZES_MAX = 150

# The inputs and roots that Certificate Transparency implementations test with.
INPUTS = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]

LEAVES = tuple(leaf_hash(number.to_bytes(2, "big")) for number in range(SIZES_MAX))

hashes = st.binary(min_size=32, max_size=32)


@cache
def by_definition(first: int, end: int) -> bytes:
    """MTH of RFC 6962 §2.1, as it is written there."""
    if first == end:
        return sha256(b"").digest()
    if end - first == 1:
        return LEAVES[first]
    split = 1
    while split * 2 < end - first:
        split *= 2
    left, right = by_definition(first, first + split), by_definition(first + split, end)
    return sha256(b"\x01" + left + right).digest()


def root(size: int) -> bytes:
    return by_definition(0, size)


@pytest.mark.parametrize("size", range(9))
def test_published_roots(size: int) -> None:
    assert root_of(map(leaf_hash, INPUTS[:size])).hex() == ROOTS[size]


def test_golden_example() -> None:
    leaves = [leaf_hash(b'{"i":%d}' % number) for number in range(3)]
    assert [leaf.hex() for leaf in leaves] == [
        "d829edd0713a1bb05e3cd0616924a4c5bde21e36e537149a20239edafa8825f1",
        "c2d65499ad89a5ece71f927cc8395c8804bfbf61b2dac475187aa1696fa36047",
        "dedf1e96568c13a5827bbcb84d920adb21d989b5da4f61de6bd060e52792da91",
    ]
    assert root_of(leaves[:1]) == leaves[0]
    two, three = root_of(leaves[:2]), root_of(leaves)
    assert two.hex() == "8d797bb58d61f678047fdf92a390117b16d8718b957303a9231a36cf6e0c5f75"
    assert three.hex() == "00a70ab1951b3920e93bb731381741971d0960c1ae41ce64cb6d5fa330bffcc6"

    first = b64decode("2Cnt0HE6G7BePNBhaSSkxb3iHjblNxSaICOe2vqIJfE=")
    second = b64decode("wtZUma2JpeznH5J8yDlciAS/v2Gy2sR1GHqhaW+jYEc=")
    third = b64decode("3t8ellaME6WCe7y4TZIK2yHZibXaT2Hea9Bg5SeS2pE=")
    assert inclusion_proof(1, leaves) == (first, third)
    assert consistency_proof(2, leaves) == (third,)
    assert consistency_proof(1, leaves) == (second, third)
    verify_inclusion((first, third), index=1, size=3, leaf=leaves[1], root=three)
    verify_consistency((third,), old_size=2, old_root=two, size=3, root=three)
    verify_consistency((second, third), old_size=1, old_root=leaves[0], size=3, root=three)


def test_compact_range_grows_by_one_as_by_many() -> None:
    grown = CompactRange()
    for size in range(SIZES_MAX):
        assert grown.size == size
        assert grown.root() == root(size)
        assert len(grown.peaks) == size.bit_count()
        grown.append(LEAVES[size])
    assert grown.root() == root_of(LEAVES)


@given(st.lists(st.integers(0, SIZES_MAX), max_size=12))
def test_any_split_into_batches_gives_the_same_range(cuts: list[int]) -> None:
    grown = CompactRange()
    for first, end in pairwise(sorted({0, *cuts, SIZES_MAX})):
        grown.extend(LEAVES[first:end])
        assert grown.root() == root(end)
        again = CompactRange.from_bytes(grown.size, grown.peaks_bytes())
        assert (again.size, again.peaks) == (grown.size, grown.peaks)
        grown = again
    assert grown.root() == root(SIZES_MAX)


def test_a_copy_grows_apart() -> None:
    original = CompactRange()
    original.extend(LEAVES[:5])
    copy = CompactRange(original.size, original.peaks)
    copy.append(LEAVES[5])
    assert (original.size, original.root()) == (5, root(5))
    assert (copy.size, copy.root()) == (6, root(6))


def test_root_of_more_leaves_than_are_held_at_a_time() -> None:
    count = ROOT_CHUNK_LEAVES * 2 + 1
    row = [leaf_hash(number.to_bytes(4, "big")) for number in range(count)]
    expected = CompactRange()
    for leaf in row:
        expected.append(leaf)
    assert root_of(iter(row)) == expected.root()


@pytest.mark.parametrize(
    ("size", "peaks"),
    [
        (-1, b""),
        (0, bytes(32)),
        (1, b""),
        (1, bytes(31)),
        (1, bytes(33)),
        (1, bytes(64)),
        (3, bytes(32)),
        (SIZE_MAX + 1, bytes(32)),
    ],
)
def test_peaks_of_another_size_are_refused(size: int, peaks: bytes) -> None:
    with pytest.raises(InvalidRange):
        CompactRange.from_bytes(size, peaks)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_only_hashes_are_appended(length: int) -> None:
    grown = CompactRange()
    with pytest.raises(InvalidRange):
        grown.append(bytes(length))
    with pytest.raises(InvalidRange):
        grown.extend([bytes(32), bytes(length)])
    assert (grown.size, grown.peaks) == (0, ())


# --- proofs -------------------------------------------------------------------------------


def test_every_inclusion_proof_is_accepted_and_none_for_another_index() -> None:
    accepted = 0
    for size in range(1, SIZES_MAX + 1):
        for index in range(size):
            proof = inclusion_proof(index, LEAVES[:size])
            verify_inclusion(proof, index=index, size=size, leaf=LEAVES[index], root=root(size))
            accepted += 1
            for wrong in {(index + 1) % size, index ^ 1, size - 1} - {index}:
                with pytest.raises(InvalidProof):
                    verify_inclusion(
                        proof, index=wrong, size=size, leaf=LEAVES[index], root=root(size)
                    )
    assert accepted == 11_325


def test_every_consistency_proof_is_accepted() -> None:
    accepted = 0
    for size in range(1, SIZES_MAX + 1):
        for old in range(1, size + 1):
            proof = consistency_proof(old, LEAVES[:size])
            verify_consistency(proof, old_size=old, old_root=root(old), size=size, root=root(size))
            accepted += 1
    assert accepted == 11_325


sizes = st.integers(1, SIZES_MAX)


@given(size=sizes, index=st.integers(0, SIZES_MAX - 1), data=st.data())
def test_a_changed_inclusion_proof_is_refused(size: int, index: int, data: st.DataObject) -> None:
    index %= size
    proof = list(inclusion_proof(index, LEAVES[:size]))
    forged = data.draw(forgeries(proof))
    with pytest.raises(InvalidProof):
        verify_inclusion(forged, index=index, size=size, leaf=LEAVES[index], root=root(size))


@pytest.mark.guards("T-60")
@given(size=sizes, old=sizes, data=st.data())
def test_a_changed_consistency_proof_is_refused(size: int, old: int, data: st.DataObject) -> None:
    old = 1 + old % size
    proof = list(consistency_proof(old, LEAVES[:size]))
    forged = data.draw(forgeries(proof))
    with pytest.raises(InvalidProof):
        verify_consistency(forged, old_size=old, old_root=root(old), size=size, root=root(size))


def forgeries(proof: list[bytes]) -> st.SearchStrategy[list[bytes]]:
    """A hash more, one less, or another in the place of one."""
    places = st.integers(0, len(proof))
    longer = st.builds(lambda at, extra: [*proof[:at], extra, *proof[at:]], places, hashes)
    if not proof:
        return longer
    inner = st.integers(0, len(proof) - 1)
    shorter = inner.map(lambda at: [*proof[:at], *proof[at + 1 :]])
    flipped = inner.map(lambda at: [*proof[:at], bytes(32), *proof[at + 1 :]])
    return longer | shorter | flipped


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (4, 3), (0, 0), (1, 1)])
def test_an_index_outside_of_the_tree_is_refused(index: int, size: int) -> None:
    with pytest.raises(InvalidProof, match="index"):
        verify_inclusion((), index=index, size=size, leaf=LEAVES[0], root=root(1))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_proof_of_anything_but_hashes_is_refused(length: int) -> None:
    """A longer "hash" would let one node stand for the data of another."""
    with pytest.raises(InvalidProof, match="32 bytes"):
        verify_inclusion([bytes(length)], index=0, size=2, leaf=LEAVES[0], root=root(2))
    with pytest.raises(InvalidProof, match="32 bytes"):
        verify_inclusion([LEAVES[1]], index=0, size=2, leaf=bytes(length), root=root(2))
    with pytest.raises(InvalidProof, match="32 bytes"):
        verify_consistency([bytes(length)], old_size=1, old_root=root(1), size=2, root=root(2))


def test_a_proof_has_the_length_of_the_way_up() -> None:
    proof = inclusion_proof(4, LEAVES[:7])
    for wrong, reason in ((proof[:-1], "too short"), ((*proof, bytes(32)), "too long")):
        with pytest.raises(InvalidProof, match=reason):
            verify_inclusion(wrong, index=4, size=7, leaf=LEAVES[4], root=root(7))


@pytest.mark.parametrize("old_size", [3, 4])
def test_growth_needs_a_proof(old_size: int) -> None:
    with pytest.raises(InvalidProof, match="empty"):
        verify_consistency((), old_size=old_size, old_root=root(old_size), size=7, root=root(7))


def test_a_node_is_not_accepted_as_a_leaf() -> None:
    """Leaf and node hashes begin differently, or 64 bytes of data could forge a subtree."""
    node = node_hash(LEAVES[0], LEAVES[1])
    assert leaf_hash(LEAVES[0] + LEAVES[1]) != node
    proof = [node_hash(LEAVES[2], LEAVES[3])]
    with pytest.raises(InvalidProof):
        verify_inclusion(proof, index=0, size=4, leaf=node, root=root(4))


def test_the_empty_tree_is_a_part_of_every_tree() -> None:
    verify_consistency((), old_size=0, old_root=EMPTY_ROOT, size=0, root=EMPTY_ROOT)
    verify_consistency((), old_size=0, old_root=EMPTY_ROOT, size=5, root=root(5))
    assert consistency_proof(0, LEAVES[:5]) == ()


@pytest.mark.guards("T-60")
@pytest.mark.parametrize(
    ("old_size", "old_root", "size", "new_root", "proof"),
    [
        (0, root(1), 5, root(5), ()),  # not the empty root
        (0, EMPTY_ROOT, 0, root(1), ()),
        (0, root(1), 0, root(1), ()),
        (0, EMPTY_ROOT, 5, root(5), (LEAVES[0],)),  # nothing to prove, so nothing may be there
        (5, root(5), 5, root(5), (LEAVES[0],)),
        (5, root(5), 5, root(4), ()),  # one size, two roots: a fork
        (4, root(4), 5, root(5), ()),
        (5, root(5), 4, root(4), ()),  # smaller: a rollback
        (-1, root(1), 4, root(4), ()),
        (2, root(2), 4, root(3), consistency_proof(2, LEAVES[:4])),
        (2, root(3), 4, root(4), consistency_proof(2, LEAVES[:4])),
        (3, root(2), 4, root(4), consistency_proof(3, LEAVES[:4])),
        (3, root(3), 4, root(5), consistency_proof(3, LEAVES[:4])),
    ],
)
def test_a_fork_or_rollback_is_refused(
    old_size: int, old_root: bytes, size: int, new_root: bytes, proof: tuple[bytes, ...]
) -> None:
    with pytest.raises(InvalidProof):
        verify_consistency(proof, old_size=old_size, old_root=old_root, size=size, root=new_root)


@pytest.mark.parametrize("index", [-1, 3])
def test_asking_for_a_proof_of_no_leaf_is_a_bug(index: int) -> None:
    with pytest.raises(AssertionError):
        inclusion_proof(index, LEAVES[:3])
    with pytest.raises(AssertionError):
        consistency_proof(index * 2, LEAVES[:3])
