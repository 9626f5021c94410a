"""A log as the static files that an export has, made from entries alone and kept in memory."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.vault.ledger import golden
from vault.ledger.checkpoint import Checkpoint
from vault.ledger.note import Note, signed
from vault.ledger.tiles import TILE_WIDTH, TileName, bundle, tile_root, tiles_of
from vault.ledger.tree import leaf_hash, root_of

CHECKPOINT: Final = "checkpoint"


def entries(count: int, *, of: str = "log") -> list[bytes]:
    """Entries of many lengths; those of another log differ from the first byte on."""
    return [b'{"%s":%d}' % (of.encode(), number) + b" " * (number % 7) for number in range(count)]


def signed_checkpoint(bodies: Iterable[bytes]) -> Note:
    """Sign what the entries are with the golden key."""
    leaves = [leaf_hash(body) for body in bodies]
    text = Checkpoint(golden.ORIGIN, len(leaves), root_of(leaves)).text
    raw_signature = golden.LOG_PRIVATE_KEY.sign(text.encode())
    line = signed(text, golden.ORIGIN, golden.LOG_PUBLIC_KEY, raw_signature)
    return Note(text, (line,))


def exported(bodies: Sequence[bytes]) -> dict[str, bytes]:
    """Return what each file of the export holds, by its path."""
    levels = [[leaf_hash(body) for body in bodies]]
    while len(levels[-1]) >= TILE_WIDTH:
        below = levels[-1]
        full = range(0, len(below) - TILE_WIDTH + 1, TILE_WIDTH)
        levels.append([tile_root(below[first : first + TILE_WIDTH]) for first in full])

    def content(name: TileName) -> bytes:
        place = slice(name.index * TILE_WIDTH, name.index * TILE_WIDTH + name.width)
        if name.level is None:
            return bundle(bodies[place])
        return b"".join(levels[name.level][place])

    files = {name.path: content(name) for name in tiles_of(len(bodies))}
    return files | {CHECKPOINT: signed_checkpoint(bodies).raw}


def write(files: Mapping[str, bytes], folder: Path) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder
