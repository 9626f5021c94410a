"""Bodies of every format that a codec reads, of a size, with one token in each. Pure.

Records as processors get them, and the card behind them: the worst place for who reads on. Beside
each, what else reads such a body, the standard library's or the fastest that is here anyway: it
gives values and no places, and is the measure of what reading costs at all.
"""

import csv
import email
import email.policy
import io
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

import graphql
import msgspec
from lxml import etree

from gateway.codecs.splice import Format

TOKEN: Final = "pwt_test_" + "0" * 28
RECORD_BYTES_MIN: Final = 64

_LINES: Final = msgspec.json.Decoder()
_BOUNDARY: Final = "bench-4b1d0f6a"
_MULTIPART: Final = f"multipart/form-data; boundary={_BOUNDARY}"
_MUTATION: Final = (
    "mutation Tokenize($input: TokenizeCreditCardInput!) {"
    " tokenizeCreditCard(input: $input) { paymentMethod { id usage } } }"
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One body, where its token stands, and who else reads it."""

    format: Format
    content_type: str
    body: bytes
    selector: str
    reference: Callable[[bytes], object]


def sample(format_: Format, size: int) -> Sample:
    """Make a body of about so many bytes, never more."""
    build = _BUILDERS[format_]
    counts = range(size // RECORD_BYTES_MIN)
    return build(bisect_right(counts, size, key=lambda count: len(build(count).body)) - 1)


# --- one of each --------------------------------------------------------------------------


def _record(number: int) -> dict[str, object]:
    return {
        "id": f"li_{number:08}",
        "description": "Two tickets, row 12, seats 7 and 8",
        "amount": 1099 + number,
        "currency": "eur",
        "taxable": True,
        "receipt": "https://shop.example/receipts/CAcaFwoVYWNjdF8xTTJKVGt",
    }


def _form(count: int) -> Sample:
    lines = (
        f"items%5B{n}%5D%5Bdescription%5D=Two+tickets%2C+row+12%2C+seats+7+and+8&"
        f"items%5B{n}%5D%5Bnote%5D={'Rows are counted from the stage. ' * (count // 8)}&"
        for n in range(min(count, _FORM_LINES_MAX))
    )
    body = "".join(lines).replace(" ", "+") + f"card%5Bnumber%5D={TOKEN}"
    return Sample(
        Format.FORM,
        "application/x-www-form-urlencoded",
        body.encode(),
        "card[number]",
        lambda raw: parse_qsl(raw.decode()),
    )


_FORM_LINES_MAX: Final = 400  # a form has 1,000 fields at most: beyond, they get longer


def _json(count: int) -> Sample:
    around = {"items": [_record(n) for n in range(count)], "card": {"number": TOKEN}}
    body = msgspec.json.encode(around)
    return Sample(Format.JSON, "application/json", body, "card.number", msgspec.json.decode)


def _json_lines(count: int) -> Sample:
    lines = [*(_record(n) for n in range(count)), {"card": {"number": TOKEN}}]
    body = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    selector = f"[{count}].card.number"
    return Sample(Format.JSON_LINES, "application/jsonl", body, selector, _LINES.decode_lines)


def _xml(count: int) -> Sample:
    items = "".join(
        f"<item>{''.join(f'<{name}>{value}</{name}>' for name, value in _record(n).items())}</item>"
        for n in range(count)
    )
    card = f"<credit-card><number>{TOKEN}</number></credit-card>"
    body = f"<transaction><items>{items}</items>{card}</transaction>".encode()
    selector = "transaction.credit_card.number"
    return Sample(Format.XML, "application/xml", body, selector, etree.fromstring)


def _multipart(count: int) -> Sample:
    note = "Rows are counted from the stage. " * max(1, count // 8)
    parts = [(f"note_{n}", note) for n in range(min(count, _FORM_LINES_MAX))]
    body = "".join(
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'
        for name, text in (*parts, ("number", TOKEN))
    )
    whole = f"{body}--{_BOUNDARY}--\r\n".encode()
    head = f"Content-Type: {_MULTIPART}\r\n\r\n".encode()

    def read(raw: bytes) -> object:
        return email.message_from_bytes(head + raw, policy=email.policy.HTTP)

    return Sample(Format.MULTIPART, _MULTIPART, whole, "number", read)


def _graphql(count: int) -> Sample:
    given = {"options": [_record(n) for n in range(count)], "creditCard": {"number": TOKEN}}
    body = msgspec.json.encode({"query": _MUTATION, "variables": {"input": given}})

    def read(raw: bytes) -> object:
        return graphql.parse(msgspec.json.decode(raw)["query"])

    selector = "variables.input.creditCard.number"
    return Sample(Format.GRAPHQL, "application/json", body, selector, read)


def _csv(count: int) -> Sample:
    rows = io.StringIO()
    writer = csv.DictWriter(rows, [*_record(0), "number"])
    writer.writeheader()
    for number in range(count):
        writer.writerow({**_record(number), "number": ""})
    writer.writerow({**_record(count), "number": TOKEN})
    selector = f"number[{count}]"

    def read(raw: bytes) -> object:
        return list(csv.reader(io.StringIO(raw.decode(), newline="")))

    return Sample(Format.CSV, "text/csv", rows.getvalue().encode(), selector, read)


_BUILDERS: Final[dict[Format, Callable[[int], Sample]]] = {
    Format.FORM: _form,
    Format.JSON: _json,
    Format.JSON_LINES: _json_lines,
    Format.XML: _xml,
    Format.MULTIPART: _multipart,
    Format.GRAPHQL: _graphql,
    Format.CSV: _csv,
}

FORMATS: Final = tuple(_BUILDERS)
"""Those of bodies; lines of fixed width are in files alone, and are cut by columns."""
