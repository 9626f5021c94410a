"""What is in the folder of an export, checked from the formats alone: none of our tree code."""

from base64 import b64decode
from hashlib import sha256
from pathlib import Path

OURS = {".lock", ".new"}


def files_in(folder: Path) -> dict[str, bytes]:
    """Read all files that are there for others."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in OURS
    }


def without_partials(files: dict[str, bytes], *, of: int) -> dict[str, bytes]:
    """Leave out what is there only because of a smaller size than `of`."""
    wanted = expected_paths(of)
    return {name: files[name] for name in files if name in wanted}


def verified_size(folder: Path) -> int:
    """Recompute an export from its entries alone, and return how many there are."""
    files = files_in(folder)
    note = files["checkpoint"].decode()
    _origin, number, root, empty, *signatures = note.split("\n")
    size = int(number)
    assert not empty
    assert signatures
    assert files[f"checkpoints/{size}"].startswith(note.partition("\n\n")[0].encode())
    leaves = []
    for index in range(-(-size // 256)):
        leaves += entries_of(files[f"tile/entries/{place(index, size)}"])
    assert len(leaves) == size
    hashes = [sha256(b"\0" + leaf).digest() for leaf in leaves]
    assert mth(hashes) == b64decode(root)
    level = 0
    while hashes:
        for index in range(-(-len(hashes) // 256)):
            tile = files[f"tile/{level}/{place(index, len(hashes))}"]
            assert tile == b"".join(hashes[index * 256 : index * 256 + 256])
        hashes = [mth(hashes[at : at + 256]) for at in range(0, len(hashes) // 256 * 256, 256)]
        level += 1
    assert expected_paths(size) <= files.keys()
    return size


def expected_paths(size: int) -> set[str]:
    """Name all that a log has that was exported at once."""
    paths = {"checkpoint", f"checkpoints/{size}"}
    for index in range(-(-size // 256)):
        paths.add(f"tile/entries/{place(index, size)}")
    level, nodes = 0, size
    while nodes:
        paths |= {f"tile/{level}/{place(index, nodes)}" for index in range(-(-nodes // 256))}
        level, nodes = level + 1, nodes // 256
    return paths


def place(index: int, nodes: int) -> str:
    """Write N and W of tlog-tiles; enough for a million bundles."""
    group = f"x{index // 1000:03}/" if index >= 1000 else ""
    width = min(256, nodes - index * 256)
    return f"{group}{index % 1000:03}" + (f".p/{width}" if width < 256 else "")


def entries_of(raw: bytes) -> list[bytes]:
    entries = []
    while raw:
        end = 2 + int.from_bytes(raw[:2], "big")
        entries.append(raw[2:end])
        raw = raw[end:]
    return entries


def mth(hashes: list[bytes]) -> bytes:
    """RFC 6962 §2.1, word for word, over leaf hashes."""
    if not hashes:
        return sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1 << (len(hashes) - 1).bit_length() - 1
    return sha256(b"\x01" + mth(hashes[:k]) + mth(hashes[k:])).digest()
