"""A second reading of RFC 6962 and the C2SP pages: nothing of ours is used to check ours.

SHA-256, base64, Ed25519 and lines; by recursion where the pages define by recursion.
"""

from base64 import b64decode
from collections.abc import Sequence
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def leaf_of(entry: bytes) -> bytes:
    return sha256(b"\x00" + entry).digest()


def node_of(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def _split(count: int) -> int:
    split = 1
    while split * 2 < count:
        split *= 2
    return split


def tree_of(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962 2.1."""
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256(b"").digest()
    split = _split(len(leaves))
    return node_of(tree_of(leaves[:split]), tree_of(leaves[split:]))


def path_of(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH of RFC 6962 2.1.1."""
    if len(leaves) == 1:
        return []
    split = _split(len(leaves))
    if index < split:
        return [*path_of(index, leaves[:split]), tree_of(leaves[split:])]
    return [*path_of(index - split, leaves[split:]), tree_of(leaves[:split])]


def checked_checkpoint(raw: bytes, vkey: str) -> tuple[int, bytes]:
    """Check the log's signature; return size and root."""
    name, key_id, encoded = vkey.split("+", 2)
    typed = b64decode(encoded)
    assert typed[:1] == b"\x01"
    assert sha256(name.encode() + b"\n" + typed).hexdigest()[:8] == key_id
    text, empty_line, lines = raw.decode().rpartition("\n\n")
    assert empty_line
    origin, size, root = text.split("\n")
    assert origin == name
    signature = next(
        b64decode(line.split(" ")[2])
        for line in lines.splitlines()
        if line.startswith(f"\u2014 {name} ")
    )
    assert signature[:4].hex() == key_id
    Ed25519PublicKey.from_public_bytes(typed[1:]).verify(signature[4:], f"{text}\n".encode())
    return int(size), b64decode(root)


def proves(raw: bytes, entry: bytes, vkey: str) -> int:
    """Check a tlog-proof of an entry (RFC 9162 2.1.3.2), and return its index."""
    head, _, note = raw.partition(b"\n\n")
    version, numbered, *hashes = head.decode().split("\n")
    assert version == "c2sp.org/tlog-proof@v1"
    word, index_text = numbered.split(" ")
    assert word == "index"
    size, root = checked_checkpoint(note, vkey)
    index = node = int(index_text)
    last = size - 1
    assert index <= last
    found = leaf_of(entry)
    for sibling in map(b64decode, hashes):
        assert len(sibling) == 32
        assert last > 0
        if node % 2 or node == last:
            found = node_of(sibling, found)
            while node % 2 == 0 and node:
                node, last = node // 2, last // 2
        else:
            found = node_of(found, sibling)
        node, last = node // 2, last // 2
    assert last == 0
    assert found == root
    return index
