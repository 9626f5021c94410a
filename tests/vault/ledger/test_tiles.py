"""Tiles against their definition, for every small log and around each new level."""

from contextlib import suppress
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vault.ledger import golden
from tests.vault.ledger.mutations import mutations
from vault.ledger.note import NoteRefused
from vault.ledger.tiles import (
    ENTRY_BYTES_MAX,
    TILE_WIDTH,
    Span,
    TileName,
    bundle,
    consistency_spans,
    exists,
    fold,
    inclusion_spans,
    parse_bundle,
    parse_tile,
    parse_tile_path,
    span_tile,
    tile_root,
    tiles_of,
)
from vault.ledger.tree import (
    SIZE_MAX,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

SIZES = [*range(601), 65_535, 65_536, 65_537, 70_000]
LARGEST = 70_000


def leaf(index: int) -> bytes:
    return leaf_hash(index.to_bytes(4))


@cache
def node(level: int, index: int) -> bytes:
    """MTH of a full subtree, as RFC 6962 §2.1 has it."""
    if level == 0:
        return leaf(index)
    return node_hash(node(level - 1, index * 2), node(level - 1, index * 2 + 1))


def content(name: TileName) -> list[bytes]:
    """The hashes of a tile after C2SP's definition: nodes of tree level 8·L, side by side."""
    first = name.index * TILE_WIDTH
    return [node(8 * (name.level or 0), first + at) for at in range(name.width)]


def by_definition(size: int) -> set[TileName]:
    """Floor(s / 256^(L+1)) full tiles of each level, and one of floor(s / 256^L) mod 256."""
    names = set()
    for level in (None, 0, 1, 2):
        power = 256 ** (level or 0)
        names |= {TileName(level, index) for index in range(size // (power * 256))}
        if width := size // power % 256:
            names.add(TileName(level, size // (power * 256), width))
    return names


# --- which there are ----------------------------------------------------------------------


@pytest.mark.parametrize("since", [0, 1, 255, 256, 257, 512, 599, 65_535, 65_536, 65_537])
def test_the_tiles_of_every_size(since: int) -> None:
    before = by_definition(since)
    for size in SIZES:
        if size < since:
            continue
        names = list(tiles_of(size, since=since))
        assert set(names) == by_definition(size) - before
        assert len(names) == len(set(names))
        assert names == sorted(names)


def test_the_examples_of_the_specification() -> None:
    assert [name.path for name in tiles_of(256)] == [
        "tile/entries/000",
        "tile/0/000",
        "tile/1/000.p/1",
    ]
    names = [name for name in tiles_of(70_000) if name.level is not None]
    full = [name.level for name in names if name.width == 256]
    assert (full.count(0), full.count(1), full.count(2)) == (273, 1, 0)
    assert [name.path for name in names if name.width < 256] == [
        "tile/0/273.p/112",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
    ]
    assert [name.path for name in tiles_of(65_537) if name.width < 256] == [
        "tile/entries/256.p/1",
        "tile/0/256.p/1",
        "tile/2/000.p/1",
    ]
    assert list(tiles_of(0)) == []


def test_a_log_that_has_not_grown_has_no_new_tiles() -> None:
    for size in SIZES:
        assert list(tiles_of(size, since=size)) == []


def test_a_log_does_not_shrink() -> None:
    with pytest.raises(AssertionError):
        list(tiles_of(3, since=4))
    with pytest.raises(AssertionError):
        list(tiles_of(-1))


def test_the_largest_log_has_eight_levels() -> None:
    since = SIZE_MAX - 1
    assert [name.level for name in tiles_of(SIZE_MAX, since=since)] == [None, 0]
    assert exists(TileName(7, 0, 127), SIZE_MAX)
    assert not exists(TileName(7, 0, 128), SIZE_MAX)
    assert not exists(TileName(8, 0, 1), SIZE_MAX)
    assert not exists(TileName(63, 0, 1), SIZE_MAX)


def test_a_tile_exists_as_soon_as_its_nodes_do() -> None:
    for size in SIZES:
        for name in by_definition(size):
            assert exists(name, size)
            unit = 256 ** (name.level or 0)
            assert not exists(name, (name.index * 256 + name.width) * unit - 1)
            for width in (1, name.width - 1):
                assert exists(TileName(name.level, name.index, max(width, 1)), size)
            if name.width < 256:
                assert not exists(TileName(name.level, name.index, name.width + 1), size)
                assert not exists(TileName(name.level, name.index), size)
            assert not exists(TileName(name.level, name.index + size, 1), size)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (TileName(0, 0), "tile/0/000"),
        (TileName(0, 273, 112), "tile/0/273.p/112"),
        (TileName(1, 1000), "tile/1/x001/000"),
        (TileName(0, 1_234_067), "tile/0/x001/x234/067"),
        (TileName(63, 1_234_067, 8), "tile/63/x001/x234/067.p/8"),
        (TileName(None, 0, 3), golden.BUNDLE_PATH),
        (TileName(0, 0, 3), golden.TILE_PATH),
        (TileName(None, 1_000_000), "tile/entries/x001/x000/000"),
        (TileName(10, 999, 255), "tile/10/999.p/255"),
        (
            TileName(None, SIZE_MAX // 256, 255),
            "tile/entries/x036/x028/x797/x018/x963/967.p/255",
        ),
    ],
)
def test_paths(name: TileName, path: str) -> None:
    assert name.path == path
    assert parse_tile_path(path) == name


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile",
        "tile/0",
        "tile/0/",
        "/tile/0/000",
        "tile/0/000/",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/x000/000",
        "tile/0/x000",
        "tile/0/001/000",
        "tile/0/x001/x000",
        "tile/0/X001/000",
        "tile/00/000",
        "tile/01/000",
        "tile/64/000",
        "tile/99/000",
        "tile/-1/000",
        "tile/data/000",
        "tile/entries",
        "tile/entries/000.p/",
        "tile/8/0/000/",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/1000",
        "tile/0/000.p",
        "tile/0/000.p/1/",
        "tile/0/000.p/+1",
        "tile/0/000\n",
        "tile/0/000.p/1\n",
        "tile/0/\u0660\u0660\u0660",
        "tile/0/../0/000",
        "tile/0/x036/x028/x797/x018/x963/968",  # beyond the largest log
        "tile/0/" + "x999/" * 6 + "999",
        "tile/0/" + "x999/" * 1000 + "999",
        "checkpoint",
    ],
)
def test_what_is_no_path(path: str) -> None:
    assert parse_tile_path(path) is None


names = st.builds(
    TileName,
    st.none() | st.integers(0, 63),
    st.integers(0, 3000) | st.integers(0, SIZE_MAX // 256),
    st.integers(1, 256),
)


@given(names)
def test_a_path_is_read_as_it_is_written(name: TileName) -> None:
    assert parse_tile_path(name.path) == name


@given(st.text("tile/nrs0123456789x.p", max_size=24))
def test_anything_is_a_path_or_none(text: str) -> None:
    for path in (text, "tile/" + text, "tile/0/" + text, "tile/entries/" + text):
        name = parse_tile_path(path)
        assert name is None or name.path == path


def test_every_mutation_of_a_path_is_none_or_another() -> None:
    for path in ("tile/12/x001/234.p/56", "tile/entries/x001/234"):
        for mutated in mutations(path.encode()):
            text = mutated.decode("utf-8", "surrogateescape")
            name = parse_tile_path(text)
            assert name is None or name.path == text


@pytest.mark.parametrize(
    ("level", "index", "width"),
    [(-1, 0, 256), (64, 0, 256), (0, -1, 256), (0, 0, 0), (0, 0, 257), (0, SIZE_MAX, 256)],
)
def test_a_name_is_of_a_tile(level: int, index: int, width: int) -> None:
    with pytest.raises(AssertionError):
        TileName(level, index, width)


def test_bundles_come_first() -> None:
    assert sorted([TileName(1, 0), TileName(0, 5), TileName(0, 4, 256), TileName(None, 9)]) == [
        TileName(None, 9),
        TileName(0, 4),
        TileName(0, 5),
        TileName(1, 0),
    ]


# --- what they hold -----------------------------------------------------------------------


def test_the_golden_tiles() -> None:
    assert [name.path for name in tiles_of(3)] == [golden.BUNDLE_PATH, golden.TILE_PATH]
    assert bundle(golden.ENTRIES) == golden.BUNDLE
    assert parse_bundle(golden.BUNDLE, 3) == list(golden.ENTRIES)
    assert parse_tile(b"".join(golden.LEAVES), 3) == list(golden.LEAVES)


def test_a_full_tile_goes_up() -> None:
    """Tile entry i of level L is the root of full tile i one level down."""
    for name in (TileName(1, 0), TileName(1, 1, 17), TileName(2, 0, 1)):
        assert name.level is not None
        for at, above in enumerate(content(name)):
            below = TileName(name.level - 1, name.index * TILE_WIDTH + at)
            assert tile_root(content(below)) == above


def test_all_tiles_of_a_log_make_its_root() -> None:
    for size in SIZES:
        peaks = []
        for level in (2, 1, 0):
            for name in by_definition(size):
                if name.level == level and name.width < 256:
                    peaks += _peaks(content(name))
        if size:
            assert fold(peaks) == root_of(map(leaf, range(size)))


def _peaks(hashes: list[bytes]) -> list[bytes]:
    """The roots of the full subtrees in a partial tile, the biggest first."""
    peaks = []
    while hashes:
        width = 1 << len(hashes).bit_length() - 1
        peaks.append(tile_root(hashes[:width]))
        hashes = hashes[width:]
    return peaks


@pytest.mark.parametrize("width", [0, 3, 255, 257])
def test_only_a_full_subtree_has_a_root(width: int) -> None:
    with pytest.raises(AssertionError):
        tile_root([bytes(32)] * width)


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_a_bundle_is_read_as_it_is_written(bodies: list[bytes]) -> None:
    raw = bundle(bodies)
    assert parse_bundle(raw, len(bodies)) == bodies
    for width in (len(bodies) - 1, len(bodies) + 1):
        with pytest.raises(NoteRefused):
            parse_bundle(raw, width)


def test_the_longest_entry() -> None:
    body = bytes(ENTRY_BYTES_MAX)
    assert parse_bundle(bundle([body, body]), 2) == [body, body]
    with pytest.raises(OverflowError):
        bundle([body + b"x"])


@pytest.mark.parametrize(
    "raw", [b"", b"\0", b"\0\x01", b"\0\x01ab", b"\0\x01a\0", b"\xff\xff" + bytes(65_534)]
)
def test_what_is_no_bundle(raw: bytes) -> None:
    with pytest.raises(NoteRefused):
        parse_bundle(raw, 1)


def test_every_mutation_of_a_bundle_is_refused_or_another() -> None:
    for mutated in mutations(golden.BUNDLE):
        with suppress(NoteRefused):
            bodies = parse_bundle(mutated, 3)
            assert bundle(bodies) == mutated
            assert [leaf_hash(body) for body in bodies] != list(golden.LEAVES)


@pytest.mark.parametrize("length", [0, 1, 31, 63, 65, 96])
def test_what_is_no_tile(length: int) -> None:
    with pytest.raises(NoteRefused):
        parse_tile(bytes(length), 2)


# --- from proofs to tiles -----------------------------------------------------------------


def hash_of(spans: list[Span], size: int) -> bytes:
    """Made from tiles alone, which a log of that size must have."""
    assert all(exists(span_tile(span)[0], size) for span in spans)
    return fold([hash_of_span(span) for span in spans])


@cache
def hash_of_span(span: Span) -> bytes:
    name, first, end = span_tile(span)
    return tile_root(content(name)[first:end])


def proof_of(spans: list[list[Span]], size: int) -> tuple[bytes, ...]:
    return tuple(hash_of(each, size) for each in spans)


LEAVES = tuple(map(leaf, range(150)))


def test_every_inclusion_proof_is_made_of_tiles() -> None:
    for size in range(1, 151):
        for index in range(size):
            assert proof_of(inclusion_spans(index, size), size) == inclusion_proof(
                index, LEAVES[:size]
            )


def test_every_consistency_proof_is_made_of_tiles() -> None:
    for size in range(151):
        for old in range(size + 1):
            assert proof_of(consistency_spans(old, size), size) == consistency_proof(
                old, LEAVES[:size]
            )


LARGE = [255, 256, 257, 511, 513, 600, 65_535, 65_536, 65_537, 69_999, LARGEST]


@cache
def root(size: int) -> bytes:
    return root_of(map(leaf, range(size)))


@pytest.mark.parametrize("size", LARGE)
def test_proofs_across_tiles_and_levels(size: int) -> None:
    for index in {0, 1, 254, 255, 256, 257, 511, 512, 65_535, 65_536, 65_792, size - 1}:
        if index < size:
            proof = proof_of(inclusion_spans(index, size), size)
            verify_inclusion(proof, index=index, size=size, leaf=leaf(index), root=root(size))
    for old in (1, 2, 3, *LARGE):
        if old <= size:
            verify_consistency(
                proof_of(consistency_spans(old, size), size),
                old_size=old,
                old_root=root(old),
                size=size,
                root=root(size),
            )


def test_a_span_is_in_one_tile() -> None:
    assert span_tile(Span(0, 0)) == (TileName(0, 0, 1), 0, 1)
    assert span_tile(Span(0, 256)) == (TileName(0, 1, 1), 0, 1)
    assert span_tile(Span(7, 1)) == (TileName(0, 0, 256), 128, 256)
    assert span_tile(Span(7, 2)) == (TileName(0, 1, 128), 0, 128)
    assert span_tile(Span(8, 3)) == (TileName(1, 0, 4), 3, 4)
    assert span_tile(Span(15, 1)) == (TileName(1, 0, 256), 128, 256)
    assert span_tile(Span(16, 0)) == (TileName(2, 0, 1), 0, 1)


@given(level=st.integers(0, 62), data=st.data())
def test_a_span_covers_its_leaves(level: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, (SIZE_MAX >> level) - 1))
    name, first, end = span_tile(Span(level, index))
    assert name.level is not None
    unit = 256**name.level
    start = (name.index * 256 + first) * unit
    assert (start, start + (end - first) * unit) == (index << level, (index + 1) << level)
    assert end == name.width


@given(st.integers(1, SIZE_MAX), st.data())
def test_a_proof_in_a_log_of_any_size_is_short(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    for spans in (inclusion_spans(index, size), consistency_spans(index + 1, size)):
        assert len(spans) <= 64
        for each in spans:
            assert len(each) <= 63
            levels = [span.level for span in each]
            assert levels == sorted(levels, reverse=True)
            assert len(set(levels)) == len(levels)
            for span in each:
                assert exists(span_tile(span)[0], size)


@pytest.mark.parametrize("index", [-1, 3])
def test_asking_for_a_proof_of_no_leaf_is_a_bug(index: int) -> None:
    with pytest.raises(AssertionError):
        inclusion_spans(index, 3)
    with pytest.raises(AssertionError):
        consistency_spans(index * 2, 3)
