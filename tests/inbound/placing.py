"""Bodies of every format with numbers in their fields, each behind an encoder, and their reading.

What lives here: bytes, and what has to stand in them afterwards. What never may: the gateway's own
codecs, which are what is being tested.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final
from urllib.parse import unquote

from hypothesis import strategies as st
from lxml import etree

from tests import cards
from tests.encoders import BCD, DECODABLE, EMV, ENCODERS
from vault.tokens import TOKEN_PATTERN

TOKEN: Final = re.compile(TOKEN_PATTERN)
NO_TEXT: Final = frozenset({*BCD, *EMV})
"""Encoders in whose place no text stands that a person would read."""
ALONE: Final = frozenset({"base64, wrapped"})
"""Encoders of messages that hold nothing else."""
BOUNDARY: Final = "cut"


@dataclass(frozen=True)
class Hidden:
    """A number behind an encoder."""

    encoder: str
    number: str

    @property
    def raw(self) -> bytes:
        return ENCODERS[self.encoder](self.number)

    def __repr__(self) -> str:
        return f"Hidden({self.encoder!r}, …{self.number[-4:]})"


@dataclass(frozen=True)
class Placed:
    """A body, of `around` and, in the gaps between, what is hidden."""

    content_type: str
    around: tuple[bytes, ...]
    hidden: tuple[Hidden, ...]

    @property
    def body(self) -> bytes:
        pieces = [self.around[0]]
        for hidden, after in zip(self.hidden, self.around[1:], strict=True):
            pieces += [hidden.raw, after]
        return b"".join(pieces)

    def tokens(self, written: bytes) -> Iterator[tuple[Hidden, str]]:
        """Yield each number's token; everything around has to be as it was."""
        found = re.fullmatch(b"(.*?)".join(map(re.escape, self.around)), written, re.DOTALL)
        assert found is not None, "another byte has changed"
        for hidden, raw in zip(self.hidden, found.groups(), strict=True):
            text = _read(hidden.encoder, raw)
            assert hidden.number not in re.sub("[^0-9]", "", text), hidden
            assert hidden.number.encode().hex() not in raw.hex(), hidden
            if hidden.encoder not in NO_TEXT:
                (token,) = TOKEN.findall(text)
                yield hidden, token


def _read(encoder: str, raw: bytes) -> str:
    """Read what stands in the place of a number, as whoever undoes the encoding would."""
    if encoder in NO_TEXT:
        return raw.hex()
    decode = DECODABLE.get(encoder)
    return unquote(raw.decode()) if decode is None else decode(raw)


# --- formats ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Carrier:
    """A format: what stands around so many values, and whether a value can stand in it."""

    content_type: str
    around: Callable[[int], Sequence[bytes]]
    reads: Callable[[bytes], bool]

    def placed(self, hidden: Sequence[Hidden]) -> Placed:
        return Placed(self.content_type, tuple(self.around(len(hidden))), tuple(hidden))

    @property
    def encoders(self) -> list[str]:
        """List those whose spelling may stand in it."""
        readable = (name for name, spell in ENCODERS.items() if self.reads(spell(cards.VISA)))
        return [name for name in readable if name not in ALONE]


def _names(count: int) -> list[str]:
    return [f"f{'x' * at}" for at in range(count)]


def _in_form(count: int) -> list[bytes]:
    first, *more = (f"{name}=".encode() for name in _names(count))
    return [first, *(b"&" + each for each in more), b"&z=a"]


def _form_reads(raw: bytes) -> bool:
    return _is_text(raw) and not set(raw) & set(b"&\r\n") and (b"+" not in raw or b"+4242" in raw)


def _in_json(count: int) -> list[bytes]:
    names = _names(count)
    between = [f'","{name}":"'.encode() for name in names[1:]]
    return [f'{{"{names[0]}":"'.encode(), *between, b'","z":[1.50,null]}']


def _in_lines(count: int) -> list[bytes]:
    between = [f'"}}\n{{"{name}":"'.encode() for name in _names(count)[1:]]
    return [b'{"f":"', *between, b'"}\n']


def _json_reads(raw: bytes) -> bool:
    try:
        return isinstance(json.loads(b'"' + raw + b'"'), str)
    except ValueError:
        return False


def _in_numbers(count: int) -> list[bytes]:
    names = _names(count)
    return [f'{{"{names[0]}":'.encode(), *(f',"{n}":'.encode() for n in names[1:]), b"}"]


def _number_reads(raw: bytes) -> bool:
    try:
        read = json.loads(raw.decode())
    except ValueError:
        return False
    return isinstance(read, dict) or raw == cards.VISA.encode()


def _in_xml(count: int) -> list[bytes]:
    names = _names(count)
    between = [f"</{a}><{b}>".encode() for a, b in pairwise(names)]
    return [b"<o><f>", *between, f"</{names[-1]}></o>".encode()]


def _xml_reads(raw: bytes) -> bool:
    try:
        return bool(etree.fromstring(b"<a>" + raw + b"</a>").text)
    except etree.XMLSyntaxError:
        return False


def _in_parts(count: int) -> list[bytes]:
    head = '--{}\r\nContent-Disposition: form-data; name="{}"\r\n\r\n'
    first, *more = (head.format(BOUNDARY, name).encode() for name in _names(count))
    return [first, *(b"\r\n" + each for each in more), f"\r\n--{BOUNDARY}--\r\n".encode()]


def _in_csv(count: int) -> list[bytes]:
    head = ",".join(("pan", "exp", "cvc", *_names(count)))
    return [f'{head}\r\n,,,"'.encode(), *[b'","'] * (count - 1), b'"\r\n']


def _csv_reads(raw: bytes) -> bool:
    if not _is_text(raw) or b'"' in raw:
        return False
    return len(list(csv.reader(io.StringIO(f'"{raw.decode()}"', newline=""), strict=True))) == 1


def _in_text(count: int) -> list[bytes]:
    return [b"They said:\n", *[b"\n; and then:\n"] * (count - 1), b"\n.\n"]


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in raw


CARRIERS: Final = {
    "form": Carrier("application/x-www-form-urlencoded", _in_form, _form_reads),
    "json": Carrier("application/json", _in_json, _json_reads),
    "json numbers": Carrier("application/json", _in_numbers, _number_reads),
    "multipart": Carrier(f"multipart/form-data; boundary={BOUNDARY}", _in_parts, _is_text),
    "xml": Carrier("application/xml", _in_xml, _xml_reads),
    "csv": Carrier("text/csv", _in_csv, _csv_reads),
    "json lines": Carrier("application/x-ndjson", _in_lines, _json_reads),
    "text": Carrier("text/plain", _in_text, lambda raw: _is_text(raw.replace(b"\0", b""))),
}


def placed_in(name: str) -> st.SearchStrategy[Placed]:
    carrier = CARRIERS[name]
    hidden = st.builds(Hidden, st.sampled_from(carrier.encoders), st.sampled_from(cards.ALL))
    return st.lists(hidden, min_size=1, max_size=4).map(carrier.placed)
