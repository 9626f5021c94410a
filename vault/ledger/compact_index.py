"""Numbers by key for as many intents as a log has: a few bytes each, found in a bucket. Pure.

A dictionary takes some 200 bytes for an intent; here it is the key, eight bytes, and a share of
the buckets: 36 bytes at a million intents, 28 at ten million.
"""

from collections.abc import Iterator
from typing import Final

NUMBER_BYTES: Final = 8
BUCKETS: Final = 1 << 16


class CompactIndex:
    """Keys of one length, each with a number below 2^64."""

    __slots__ = ("_buckets", "_key_bytes", "_width")

    def __init__(self, key_bytes: int) -> None:
        self._key_bytes = key_bytes
        self._width = key_bytes + NUMBER_BYTES
        self._buckets: dict[int, bytearray] = {}

    def __bool__(self) -> bool:
        return bool(self._buckets)

    def get(self, key: bytes) -> int | None:
        bucket = self._buckets.get(hash(key) % BUCKETS)
        at = -1 if bucket is None else self._find(bucket, key)
        if bucket is None or at < 0:
            return None
        return int.from_bytes(bucket[at + self._key_bytes : at + self._width])

    def put(self, key: bytes, number: int) -> None:
        """Set the number of a key, old or new."""
        assert len(key) == self._key_bytes
        bucket = self._buckets.setdefault(hash(key) % BUCKETS, bytearray())
        at = self._find(bucket, key)
        record = key + number.to_bytes(NUMBER_BYTES)
        if at < 0:
            bucket += record
        else:
            bucket[at : at + self._width] = record

    def add(self, key: bytes, number: int) -> bool:
        """Set the number of a new key; say whether it was new."""
        bucket = self._buckets.get(hash(key) % BUCKETS)
        if bucket is None:
            bucket = self._buckets[hash(key) % BUCKETS] = bytearray()
        elif key in bucket and self._find(bucket, key) >= 0:
            return False
        bucket += key + number.to_bytes(NUMBER_BYTES)
        return True

    def items(self) -> Iterator[tuple[bytes, int]]:
        """Yield keys and their numbers, in no order."""
        for bucket in self._buckets.values():
            for at in range(0, len(bucket), self._width):
                number = bucket[at + self._key_bytes : at + self._width]
                yield bytes(bucket[at : at + self._key_bytes]), int.from_bytes(number)

    def _find(self, bucket: bytearray, key: bytes) -> int:
        """Return where its record begins: keys stand at multiples of a record's width only."""
        at = bucket.find(key)
        while at > 0 and at % self._width:
            at = bucket.find(key, at + 1)
        return at
