"""A small dictionary: the same answers, a fraction of the memory."""

import secrets
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from vault.ledger import compact_index
from vault.ledger.compact_index import CompactIndex

KEYS = st.binary(min_size=2, max_size=2).map(lambda key: key.translate(bytes(range(4)) * 64))
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "add"]), KEYS, st.integers(0, 2**64 - 1)), max_size=60
)


@given(STEPS)
def test_it_is_a_dictionary(steps: list[tuple[str, bytes, int]]) -> None:
    """Few keys of few bytes, so that they lie within each other's records, too."""
    index, model = CompactIndex(2), dict[bytes, int]()
    for what, key, number in steps:
        if what == "put":
            index.put(key, number)
            model[key] = number
        else:
            assert index.add(key, number) == (key not in model)
            model.setdefault(key, number)
        assert {one: index.get(one) for one in model} == model
    assert dict(index.items()) == model
    assert bool(index) == bool(model)
    assert index.get(b"\xff\xff") is None


def test_in_one_bucket_all_are_found() -> None:
    index = CompactIndex(4)
    bucket = compact_index.BUCKETS
    keys = [
        key for key in (secrets.token_bytes(4) for _ in range(200_000)) if not hash(key) % bucket
    ]
    for number, key in enumerate(keys):
        index.put(key, number)
    assert [index.get(key) for key in keys] == list(range(len(keys)))


def test_what_it_takes() -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        index = CompactIndex(16)
        for number in range(200_000):
            index.add(secrets.token_bytes(16), number)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / 200_000 < 90, "with most of the buckets hardly filled"
