"""Every byte of an input flipped, deleted, doubled, or with another before it.

A parser that is strict accepts none of them for what they were: it refuses, or reads another
value of which they are the one spelling.
"""

from collections.abc import Iterator

INSERTED = b"\x00\t\n\r +0=x\x7f\xff"


def mutations(raw: bytes) -> Iterator[bytes]:
    for at, byte in enumerate(raw):
        before, after = raw[:at], raw[at + 1 :]
        yield before + after
        yield raw[: at + 1] + raw[at:]
        for bit in range(8):
            yield before + bytes([byte ^ 1 << bit]) + after
        for other in INSERTED:
            yield before + bytes([other]) + raw[at:]
    for other in INSERTED:
        yield raw + bytes([other])
