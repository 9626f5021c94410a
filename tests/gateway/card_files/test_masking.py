"""Masking without a deployment: whatever the pieces, no number is left, and all else is."""

import contextlib
from pathlib import Path

import pytest

from gateway.card_files.asked import Asked, AskedWrong, route_of, selector
from gateway.card_files.masking import mask_raw, mask_rows
from gateway.card_files.output import Output, OutputRefused
from gateway.card_files.planning import Manner
from gateway.codecs.splice import Format
from gateway.custody import utc_now
from gateway.errors import Malformed
from tests.cards import AMEX, MASTERCARD, VISA

STARS = "*" * 12


def raw(body: bytes, piece: int) -> bytes:
    written: list[bytes] = []
    mask_raw((body[at : at + piece] for at in range(0, len(body), piece)), written.append)
    return b"".join(written)


@pytest.mark.guards("T-44")
@pytest.mark.parametrize("piece", [1, 7, 4096, 1 << 18])
def test_any_bytes(piece: int) -> None:
    between = bytes(range(256)) * 40
    body = between + f" {VISA} ".encode() + between + f"pan={MASTERCARD}\n".encode() + between
    masked = body.replace(VISA[:-4].encode(), STARS.encode())
    masked = masked.replace(MASTERCARD[:-4].encode(), STARS.encode())
    assert raw(body, piece) == masked


def test_many_numbers() -> None:
    text = "An order like any other, of somebody who paid with %s and nothing else.\n" * 3
    body = (text % (VISA, "cash", MASTERCARD)).encode() * 200
    masked = text % (STARS + VISA[-4:], "cash", STARS + MASTERCARD[-4:])
    assert raw(body, 1 << 18) == masked.encode() * 200


def test_where_the_scanner_gave_up_nothing_is_passed() -> None:
    body = b"".join(f"{n:016} ".encode() for n in range(10**15, 10**15 + 60_000))
    with contextlib.suppress(Malformed):
        assert VISA.encode() not in raw(body + VISA.encode(), 1 << 18)


def test_a_header_that_holds_a_number_is_masked() -> None:
    body = f"a,{VISA}\nb,{AMEX}\nc,{VISA}\n".encode()
    manner = Manner(route_of(Asked(masks=True), Format.CSV), Format.CSV, utc_now, masks_header=True)
    written: list[bytes] = []
    tally = mask_rows(manner, [body], written.append)
    made = b"".join(written)
    assert VISA.encode() not in made
    assert AMEX.encode() not in made
    assert [line.split(b",")[0] for line in made.splitlines()] == [b"a", b"b", b"c"]
    report = tally.report()
    assert report.rows == 2
    assert sum(each.count for each in report.found) == 3
    assert not [each for each in report.found if VISA[:6] in each.found.column]


@pytest.mark.parametrize(
    ("asked", "format_", "expected"),
    [
        ("pan", Format.CSV, "pan[*]"),
        ("Card number", Format.CSV, '["Card number"][*]'),
        ("pan[*]", Format.CSV, "pan[*]"),
        ("card.pan", Format.JSON_LINES, "[*].card.pan"),
        ("[*].pan", Format.JSON_LINES, "[*].pan"),
        ("$[*].pan", Format.JSON_LINES, "$[*].pan"),
        ("pan", Format.FIXED_WIDTH, "pan[*]"),
    ],
)
def test_a_column_is_named_as_it_stands(asked: str, format_: Format, expected: str) -> None:
    assert selector(asked, format_) == expected


@pytest.mark.parametrize(
    ("asked", "format_"),
    [
        (Asked(cvc="cvc"), Format.CSV),
        (Asked(number="pan", columns=("pan=0-16",)), Format.CSV),
        (Asked(number="pan"), Format.FIXED_WIDTH),
        (Asked(number="pan", columns=("pan=16-0",)), Format.FIXED_WIDTH),
        (Asked(number="pan", columns=("pan",)), Format.FIXED_WIDTH),
        (Asked(number="pan", columns=("pan=0-9", "pan=9-18")), Format.FIXED_WIDTH),
        (Asked(number="$[["), Format.JSON_LINES),
    ],
)
def test_what_does_not_go_together_is_said(asked: Asked, format_: Format) -> None:
    with pytest.raises(AskedWrong) as caught:
        route_of(asked, format_)
    assert str(caught.value)


def test_an_output_has_its_name_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with Output(path) as output:
        output.write(b"half")
        assert not path.exists()
    assert list(tmp_path.iterdir()) == []
    with Output(path) as output:
        output.write(b"all")
        output.keep()
    assert path.read_bytes() == b"all"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(OutputRefused):
        Output(path)
    assert list(tmp_path.iterdir()) == [path]
