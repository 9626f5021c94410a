"""The Merkle tree of RFC 6962 §2.1 (unchanged in RFC 9162 §2.1) over SHA-256: hashes and proofs.

Here live leaf and node hashes, the compact range that grows by a leaf without knowing the
others, and proofs with their verification. What never may: what a leaf says, where it is kept,
and any input or output.

Written by ourselves after the RFCs: a home-made variant of this tree once made a verifier accept
a false proof (GHSA-672p-m5jq-mrh8), so nothing here departs from them.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from itertools import islice
from typing import Final, Self

HASH_BYTES: Final = 32
SIZE_MAX: Final = 2**63 - 1  # what a bigint holds
EMPTY_ROOT: Final = sha256(b"").digest()
ROOT_CHUNK_LEAVES: Final = 4096  # how many leaf hashes `root_of` holds at a time

_LEAF: Final = b"\x00"  # the two prefixes keep a node from being passed off as a leaf
_NODE: Final = b"\x01"


class InvalidRange(ValueError):
    """The peaks cannot be those of a tree of that size."""


class InvalidProof(ValueError):
    """The proof does not prove it."""


def leaf_hash(data: bytes) -> bytes:
    return sha256(_LEAF + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(_NODE + left + right).digest()


class CompactRange:
    """A tree as what it takes to append to it: its size, and the roots of its full subtrees.

    One peak for each 1-bit of `size`, the biggest subtree first. `peaks` is a tuple, so
    `CompactRange(other.size, other.peaks)` is a copy that grows apart from the original.
    """

    __slots__ = ("_peaks", "size")

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        self.size = size
        self._peaks = list(peaks)
        if not 0 <= size <= SIZE_MAX or len(self._peaks) != size.bit_count():
            raise InvalidRange("a tree of this size has another number of peaks")
        if not _are_hashes(self._peaks):
            raise InvalidRange("a peak is not a hash")

    @classmethod
    def from_bytes(cls, size: int, peaks: bytes) -> Self:
        """Read the peaks as `peaks_bytes` writes them. Raises InvalidRange."""
        return cls(size, (peaks[at : at + HASH_BYTES] for at in range(0, len(peaks), HASH_BYTES)))

    @property
    def peaks(self) -> tuple[bytes, ...]:
        return tuple(self._peaks)

    def peaks_bytes(self) -> bytes:
        return b"".join(self._peaks)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash. Raises InvalidRange if it is not a hash."""
        if len(leaf) != HASH_BYTES:
            raise InvalidRange("a leaf hash is not a hash")
        waiting = self.size
        while waiting & 1:
            leaf = node_hash(self._peaks.pop(), leaf)
            waiting >>= 1
        self._peaks.append(leaf)
        self.size += 1

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Add leaf hashes in order, level by level. Raises InvalidRange if one is not a hash.

        A row holds the subtree roots of one level: the peak that waits there, then those that
        were made below. Pairs go up; an odd one out stays as this level's peak.
        """
        if not _are_hashes(leaves):
            raise InvalidRange("a leaf hash is not a hash")
        row = list(leaves)
        waiting = self.size
        self.size += len(row)
        made: list[bytes] = []  # new peaks, the smallest subtree first
        while row:
            if waiting & 1:
                row.insert(0, self._peaks.pop())
            waiting >>= 1
            if len(row) & 1:
                made.append(row.pop())
            row = [
                sha256(_NODE + left + right).digest()
                for left, right in zip(row[::2], row[1::2], strict=True)
            ]
        self._peaks.extend(reversed(made))

    def root(self) -> bytes:
        """Fold the peaks from the smallest subtree to the biggest."""
        if not self._peaks:
            return EMPTY_ROOT
        root = self._peaks[-1]
        for peak in self._peaks[-2::-1]:
            root = node_hash(peak, root)
        return root


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Return the root over leaf hashes, in constant memory."""
    tree = CompactRange()
    remaining = iter(leaves)
    while chunk := list(islice(remaining, ROOT_CHUNK_LEAVES)):
        tree.extend(chunk)
    return tree.root()


# --- proofs, made from all leaf hashes ----------------------------------------------------


def inclusion_proof(index: int, leaves: Sequence[bytes]) -> tuple[bytes, ...]:
    """PATH of RFC 6962 §2.1.1: the siblings on the way up, the leaf's own first."""
    assert 0 <= index < len(leaves)
    siblings: list[bytes] = []
    first, end = 0, len(leaves)
    while end - first > 1:
        middle = first + _left_size(end - first)
        if index < middle:
            siblings.append(root_of(leaves[middle:end]))
            end = middle
        else:
            siblings.append(root_of(leaves[first:middle]))
            first = middle
    return tuple(reversed(siblings))


def consistency_proof(old_size: int, leaves: Sequence[bytes]) -> tuple[bytes, ...]:
    """PROOF of RFC 6962 §2.1.2: that the tree of the first `old_size` leaves is a part of this."""
    assert 0 <= old_size <= len(leaves)
    if old_size in (0, len(leaves)):
        return ()
    hashes: list[bytes] = []
    first, end = 0, len(leaves)
    while end != old_size:
        middle = first + _left_size(end - first)
        if old_size <= middle:
            hashes.append(root_of(leaves[middle:end]))
            end = middle
        else:
            hashes.append(root_of(leaves[first:middle]))
            first = middle
    if first:  # else this subtree is the old tree itself, whose root the verifier has
        hashes.append(root_of(leaves[first:end]))
    return tuple(reversed(hashes))


# --- verification -------------------------------------------------------------------------


def verify_inclusion(
    proof: Sequence[bytes], *, index: int, size: int, leaf: bytes, root: bytes
) -> None:
    """Check that `leaf` is leaf number `index` of the tree (RFC 9162 §2.1.3.2).

    Raises InvalidProof.
    """
    if not 0 <= index < size:
        raise InvalidProof("the index is not in the tree")
    _require_hashes((leaf, root, *proof))
    if _climb(proof, index, size - 1, leaf)[1] != root:
        raise InvalidProof("the proof leads to another root")


def verify_consistency(
    proof: Sequence[bytes], *, old_size: int, old_root: bytes, size: int, root: bytes
) -> None:
    """Check that the tree is the old one with leaves appended (RFC 9162 §2.1.4.2).

    Raises InvalidProof.
    """
    if not 0 <= old_size <= size:
        raise InvalidProof("the tree is smaller than the old one")
    _require_hashes((old_root, root, *proof))
    for empty, its_root in ((old_size == 0, old_root), (size == 0, root)):
        if empty and its_root != EMPTY_ROOT:
            raise InvalidProof("this is not the root of the empty tree")
    if old_size in (0, size):
        if proof or (old_size == size and old_root != root):
            raise InvalidProof("trees of these sizes need equal roots and an empty proof")
        return
    if not proof:
        raise InvalidProof("the proof is empty")
    # The subtree with which the old tree ends: its root starts the climb. Where it is the whole
    # old tree, its root is known and so not in the proof.
    whole = old_size & (old_size - 1) == 0
    start, *rest = (old_root, *proof) if whole else proof
    skipped = (old_size & -old_size).bit_length() - 1
    old_end, new_end = _climb(rest, (old_size - 1) >> skipped, (size - 1) >> skipped, start)
    if (old_end, new_end) != (old_root, root):
        raise InvalidProof("the proof leads to another root")


def _climb(proof: Sequence[bytes], node: int, last: int, start: bytes) -> tuple[bytes, bytes]:
    """Go from a node up to the root: the loop that both verifications share.

    Returns the root of what lies at and left of the node, and the root of the whole tree.
    `node` and `last` are the numbers of the node and of the last one of its level.
    """
    left = whole = start
    for sibling in proof:
        if last == 0:
            raise InvalidProof("the proof is too long")
        if node & 1 or node == last:
            left = node_hash(sibling, left)
            whole = node_hash(sibling, whole)
            while not node & 1 and node:  # a last node without sibling rises unchanged
                node >>= 1
                last >>= 1
        else:
            whole = node_hash(whole, sibling)
        node >>= 1
        last >>= 1
    if last:
        raise InvalidProof("the proof is too short")
    return left, whole


def _require_hashes(hashes: Iterable[bytes]) -> None:
    if not _are_hashes(hashes):
        raise InvalidProof("a hash does not have 32 bytes")


def _are_hashes(hashes: Iterable[bytes]) -> bool:
    return all(map(HASH_BYTES.__eq__, map(len, hashes)))


def _left_size(size: int) -> int:
    """Return the largest power of two below `size`: where RFC 6962 splits a tree."""
    return 1 << ((size - 1).bit_length() - 1)
