"""An import ends whole, or goes on: nothing twice, nothing missing, nothing of another file."""

import asyncio
import fcntl
import os
import stat
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from gateway.card_files.asked import Asked, AskedWrong, TokenFormat, Undeclared, route_of
from gateway.card_files.journal import ImportRefused, Shape
from gateway.card_files.planning import Manner, RowRefused
from gateway.card_files.report import Refused, Report
from gateway.card_files.run import Job, carry_out, finish
from gateway.codecs.splice import Format
from gateway.inbound.filtering import WantedCard
from tests.cards import AMEX, VISA, luhn_completed
from vault.errors import StoreUnavailable

AT = datetime(2030, 5, 1, tzinfo=UTC)
ROWS = 50
NUMBERS = [luhn_completed(f"42424242{n:07}") for n in range(ROWS)]
BODY = "name,pan,note\n" + "".join(f'"N {n}",{pan},x\n' for n, pan in enumerate(NUMBERS))


class Memory:
    """Stores cards in this process; fails when it is told to."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.tokens: dict[str, str] = {}
        self.fails_at: int | None = None
        self._numbers = count()

    async def store(self, wanted: Sequence[WantedCard]) -> Sequence[str]:
        if self.fails_at is not None and len(self.calls) >= self.fails_at:
            raise StoreUnavailable
        made = []
        for each in wanted:
            number = next(self._numbers)
            token = f"pwt_test_{number:028}" if each.format == "opaque" else f"9{number:015}"
            self.tokens[token] = each.card.pan.reveal()
            made.append(token)
        self.calls.append([self.tokens[token] for token in made])
        return made

    def restored(self, text: str) -> str:
        for token, number in self.tokens.items():
            text = text.replace(token, number)
        return text


@pytest.fixture
def memory() -> Memory:
    return Memory()


def manner(
    format_: Format = Format.CSV,
    *,
    keep_out: bool = False,
    record_length: int | None = None,
    now: Callable[[], datetime] = lambda: AT,
    live: bool = False,
    **asked: str | tuple[str, ...] | TokenFormat | Undeclared,
) -> Manner:
    options = Asked(number="pan")
    for name, value in asked.items():
        object.__setattr__(options, name, value)
    return Manner(
        route_of(options, format_),
        format_,
        now,
        record_length=record_length,
        keep_out=keep_out,
        live=live,
        wants_columns=True,
    )


def job(folder: Path, body: str | bytes = BODY, how: Manner | None = None) -> Job:
    source = folder / "cards.csv"
    if not source.exists():
        source.write_bytes(body if isinstance(body, bytes) else body.encode())
    return Job(source, folder / "out.csv", how or manner(), rows_max=7)


def again(of: Job) -> Job:
    return Job(of.source, of.out, of.manner, resume=True, rows_max=of.rows_max)


async def carried_out(of: Job, memory: Memory) -> Report:
    told: list[tuple[int, int]] = []
    report = await carry_out(of, memory.store, lambda done, size: told.append((done, size)))
    assert told == sorted(told)
    assert told[-1] == (of.source.stat().st_size,) * 2
    finish(of)
    return report


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_numbers_become_tokens_and_all_else_stays(tmp_path: Path, memory: Memory) -> None:
    asked = job(tmp_path)
    report = await carried_out(asked, memory)
    written = asked.out.read_text()
    assert memory.restored(written) == BODY
    assert not [each for each in NUMBERS if each in written]
    assert [stored for call in memory.calls for stored in call] == NUMBERS
    assert (report.rows, report.tokens, report.refused) == (ROWS, ROWS, 0)
    (line,) = [each for each in report.found if each.found.declared]
    assert (line.found.column, line.found.action, line.count) == ("pan", "tokenize", ROWS)
    assert stat.S_IMODE(asked.out.stat().st_mode) == 0o600
    assert left_in(tmp_path) == {"cards.csv", "out.csv"}


async def test_the_next_block_is_planned_while_one_is_stored(
    tmp_path: Path, memory: Memory
) -> None:
    planned = [threading.Event() for _ in range(9)]  # the header is planned too
    plans = iter(planned)

    def now() -> datetime:
        next(plans).set()
        return AT

    async def store(wanted: Sequence[WantedCard]) -> Sequence[str]:
        the_next = planned[min(len(memory.calls) + 2, 8)]
        assert await asyncio.to_thread(the_next.wait, 10)
        return await memory.store(wanted)

    await carry_out(job(tmp_path, how=manner(now=now)), store, lambda *_: None)
    assert len(memory.calls) == 8


@pytest.mark.parametrize("blocks", range(9))
async def test_what_was_stopped_goes_on(tmp_path: Path, memory: Memory, blocks: int) -> None:
    asked = job(tmp_path)
    memory.fails_at = blocks
    if blocks < 8:
        with pytest.raises(StoreUnavailable):
            await carry_out(asked, memory.store, lambda *_: None)
        assert not asked.out.exists()
        again_error = ImportRefused if blocks else StoreUnavailable  # nothing is kept of it
        with pytest.raises(again_error):
            await carry_out(asked, memory.store, lambda *_: None)
    else:  # ended before the journal was removed
        await carry_out(asked, memory.store, lambda *_: None)
    memory.fails_at = None
    report = await carried_out(again(asked), memory)
    assert memory.restored(asked.out.read_text()) == BODY
    assert [stored for call in memory.calls for stored in call] == NUMBERS
    assert (report.rows, report.tokens) == (ROWS, ROWS)
    assert report.resumed is (blocks > 0)
    assert left_in(tmp_path) == {"cards.csv", "out.csv"}


async def stopped(folder: Path, memory: Memory, how: Manner | None = None) -> Job:
    asked = job(folder, how=how)
    memory.fails_at = 3
    with pytest.raises(StoreUnavailable):
        await carry_out(asked, memory.store, lambda *_: None)
    memory.fails_at = None
    return again(asked)


async def test_what_a_crash_left_beyond_the_journal_is_written_anew(
    tmp_path: Path, memory: Memory
) -> None:
    asked = await stopped(tmp_path, memory)
    with (tmp_path / "out.csv.part").open("ab") as part:
        part.write(b"more than there will be" * 1000)
    with (tmp_path / "out.csv.journal").open("ab") as journal:
        journal.write(b'{"read":99')
    await carried_out(asked, memory)
    assert memory.restored(asked.out.read_text()) == BODY


async def test_an_output_with_less_than_its_journal_is_refused(
    tmp_path: Path, memory: Memory
) -> None:
    asked = await stopped(tmp_path, memory)
    os.truncate(tmp_path / "out.csv.part", 20)
    with pytest.raises(ImportRefused, match="less than its journal"):
        await carried_out(asked, memory)


async def test_a_changed_input_is_refused(tmp_path: Path, memory: Memory) -> None:
    asked = await stopped(tmp_path, memory)
    was = asked.source.stat()
    asked.source.write_text(BODY)
    os.utime(asked.source, ns=(was.st_atime_ns, was.st_mtime_ns + 1))
    with pytest.raises(ImportRefused, match="changed"):
        await carried_out(asked, memory)
    asked.source.write_text(BODY + "x,,\n")
    os.utime(asked.source, ns=(was.st_atime_ns, was.st_mtime_ns))
    with pytest.raises(ImportRefused, match="changed"):
        await carried_out(asked, memory)
    asked.source.write_text(BODY.replace('"N 1"', "N 1  "))
    os.utime(asked.source, ns=(was.st_atime_ns, was.st_mtime_ns))
    with pytest.raises(ImportRefused, match="changed"):
        await carried_out(asked, memory)
    asked.source.write_text(BODY)
    os.utime(asked.source, ns=(was.st_atime_ns, was.st_mtime_ns))
    await carried_out(asked, memory)
    assert memory.restored(asked.out.read_text()) == BODY


async def test_an_input_that_changes_meanwhile_gives_no_output(
    tmp_path: Path, memory: Memory
) -> None:
    asked = job(tmp_path)

    async def store(wanted: Sequence[WantedCard]) -> Sequence[str]:
        with asked.source.open("a") as source:
            source.write("x,,\n")
        return await memory.store(wanted)

    with pytest.raises(ImportRefused, match="changed"):
        await carry_out(asked, store, lambda *_: None)
    assert not asked.out.exists()


async def test_other_options_do_not_go_on(tmp_path: Path, memory: Memory) -> None:
    asked = await stopped(tmp_path, memory)
    other = Job(asked.source, asked.out, manner(undeclared=Undeclared.MASK), resume=True)
    with pytest.raises(ImportRefused, match="other options"):
        await carried_out(other, memory)


async def test_nothing_is_written_over(tmp_path: Path, memory: Memory) -> None:
    asked = job(tmp_path)
    asked.out.write_text("mine")
    for each in (asked, again(asked)):
        with pytest.raises(ImportRefused, match="is there already"):
            await carried_out(each, memory)
    assert asked.out.read_text() == "mine"
    assert memory.calls == []


async def test_what_came_to_its_place_meanwhile_is_neither_kept_for_it_nor_written_over(
    tmp_path: Path, memory: Memory
) -> None:
    asked = job(tmp_path)

    async def store(wanted: Sequence[WantedCard]) -> Sequence[str]:
        asked.out.write_text("mine")
        return await memory.store(wanted)

    with pytest.raises(ImportRefused, match="is there already"):
        await carry_out(asked, store, lambda *_: None)
    with pytest.raises(ImportRefused, match="is there already"):
        await carried_out(again(asked), memory)
    assert asked.out.read_text() == "mine"
    asked.out.unlink()
    calls = len(memory.calls)
    await carried_out(again(asked), memory)
    assert memory.restored(asked.out.read_text()) == BODY
    assert len(memory.calls) == calls


@pytest.mark.parametrize("content", ["one line\n", "no line", "two\nlines\n", "\n"])
async def test_a_file_that_is_no_journal_is_left_alone(
    tmp_path: Path, memory: Memory, content: str
) -> None:
    asked = job(tmp_path)
    (tmp_path / "out.csv.journal").write_text(content)
    for each in (asked, again(asked)):
        with pytest.raises(ImportRefused, match="is not the journal"):
            await carried_out(each, memory)
    assert (tmp_path / "out.csv.journal").read_text() == content


@pytest.mark.parametrize("suffix", [".part", ".journal"])
async def test_no_link_leads_elsewhere(tmp_path: Path, memory: Memory, suffix: str) -> None:
    asked = job(tmp_path)
    (tmp_path / "other").write_bytes(b"")
    (tmp_path / f"out.csv{suffix}").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic links"):
        await carried_out(asked, memory)
    assert (tmp_path / "other").read_bytes() == b""
    assert memory.calls == []


@pytest.mark.parametrize("cut", range(12))
async def test_a_journal_that_a_crash_cut_off_in_its_first_line_is_begun_anew(
    tmp_path: Path, memory: Memory, cut: int
) -> None:
    asked = job(tmp_path)
    (tmp_path / "out.csv.journal").write_text('{"size":1234'[:cut])
    await carried_out(asked, memory)
    assert memory.restored(asked.out.read_text()) == BODY


async def test_one_process_at_a_time(tmp_path: Path, memory: Memory) -> None:
    asked = await stopped(tmp_path, memory)
    with (tmp_path / "out.csv.journal").open("rb") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        with pytest.raises(ImportRefused, match="in use"):
            await carried_out(asked, memory)
    await carried_out(asked, memory)


async def test_what_is_no_file_is_refused(tmp_path: Path, memory: Memory) -> None:
    os.mkfifo(tmp_path / "pipe")
    descriptor = os.open(tmp_path / "pipe", os.O_RDWR)
    try:
        with pytest.raises(ImportRefused, match="second time"):
            await carried_out(Job(tmp_path / "pipe", tmp_path / "out", manner()), memory)
    finally:
        os.close(descriptor)


@pytest.mark.guards("T-44")
async def test_the_journal_holds_no_digit_of_a_card(tmp_path: Path, memory: Memory) -> None:
    await stopped(tmp_path, memory)
    journal = (tmp_path / "out.csv.journal").read_text()
    assert not [each for each in NUMBERS if each[-7:] in journal]
    assert stat.S_IMODE((tmp_path / "out.csv.journal").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "out.csv.part").stat().st_mode) == 0o600


def test_a_shape_tells_nothing_of_digits() -> None:
    def of(text: str) -> str:
        shape = Shape()
        shape.add(text.encode())
        return shape.text()

    assert of(f"a,{VISA}") == of(f"b,{NUMBERS[7]}")
    others = ["".join(chr(0x660 + int(digit)) for digit in each) for each in (VISA, NUMBERS[7])]
    assert of(others[0]) == of(others[1])
    assert len({of(each) for each in ("4,2", "42,", "4", "a,4", "4\n2")}) == 5


# --- rows that are refused ----------------------------------------------------------------

WITH_BAD = BODY.replace(NUMBERS[16], "4242").replace(NUMBERS[30], "none")


async def test_a_refused_row_is_the_end_and_is_named(tmp_path: Path, memory: Memory) -> None:
    with pytest.raises(RowRefused, match="row 17 is refused in pan") as caught:
        await carried_out(job(tmp_path, WITH_BAD), memory)
    assert "4242" not in str(caught.value)
    assert len(memory.calls) == 2


async def test_a_refused_row_is_left_out_where_that_is_said(tmp_path: Path, memory: Memory) -> None:
    asked = job(tmp_path, WITH_BAD, manner(keep_out=True))
    report = await carried_out(asked, memory)
    lines = BODY.splitlines(keepends=True)
    expected = "".join(line for at, line in enumerate(lines) if at not in {17, 31})
    assert memory.restored(asked.out.read_text()) == expected
    assert (report.rows, report.tokens, report.refused) == (ROWS, ROWS - 2, 2)
    assert [each.row for each in report.refused_rows] == [17, 31]
    assert {each.column for each in report.refused_rows} == {"pan"}


async def test_a_row_that_is_none_is_left_out_alone(tmp_path: Path, memory: Memory) -> None:
    body = BODY.replace('"N 20"', '"N 20",more')
    report = await carried_out(job(tmp_path, body, manner(keep_out=True)), memory)
    assert report.refused_rows == (Refused(21, "", "csv_row_length"),)
    assert report.tokens == ROWS - 1


@pytest.mark.guards("T-44")
@pytest.mark.parametrize(
    ("how", "name"),
    [
        (manner(keep_out=True, number="Pan"), "Pan"),
        (manner(keep_out=True, cvc="cvv"), "cvv"),
        (manner(keep_out=True, remove=("name", "notes")), "notes"),
        (manner(keep_out=True, expiry="x[*]"), "x"),
    ],
)
async def test_a_column_that_is_not_there_is_the_end(
    tmp_path: Path, memory: Memory, how: Manner, name: str
) -> None:
    asked = job(tmp_path, how=how)
    with pytest.raises(RowRefused, match=f"the header is refused in {name}: no_such_column"):
        await carried_out(asked, memory)
    assert memory.calls == []
    assert not asked.out.exists()


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (Asked(number="pna", columns=("pan=0-16",)), "pna"),
        (Asked(number="pan", cvc="cvv", columns=("pan=0-16", "cvc=16-19")), "cvv"),
        (Asked(masks=True, remove=("cvv",), columns=("pan=0-16",)), "cvv"),
    ],
)
def test_a_column_of_fixed_width_that_has_no_place_is_refused(asked: Asked, name: str) -> None:
    with pytest.raises(AskedWrong, match=f"{name} is no column"):
        route_of(asked, Format.FIXED_WIDTH)


@pytest.mark.parametrize("name", ["Card number", "pan[*]", "a.b", "a[*]"])
async def test_a_column_of_other_characters_is_found(
    tmp_path: Path, memory: Memory, name: str
) -> None:
    column = "pan" if name == "pan[*]" else name.removesuffix("[*]")
    await carried_out(job(tmp_path, f'"{column}",x\n{VISA},1\n', manner(number=name)), memory)
    assert memory.calls == [[VISA]]


@pytest.mark.parametrize("broken", ['b"c,{}\nd,{}\n"e",{}\n', '"b,{}\nd,{}\n"e",{}\n'])
async def test_a_row_that_may_have_taken_in_others_is_not_left_out(
    tmp_path: Path, memory: Memory, broken: str
) -> None:
    body = "name,pan\na,{}\n" + broken
    asked = job(tmp_path, body.replace("{}", VISA), manner(keep_out=True))
    with pytest.raises(RowRefused, match="row 2 is refused: csv_open_quote"):
        await carried_out(asked, memory)
    assert not asked.out.exists()


async def test_a_header_with_a_card_is_no_header(tmp_path: Path, memory: Memory) -> None:
    body = BODY.partition("\n")[2].replace('"N 0"', "pan")
    with pytest.raises(RowRefused) as caught:
        await carried_out(job(tmp_path, body, manner(keep_out=True)), memory)
    assert caught.value.row.reason == "card_in_header"
    assert memory.calls == []


async def test_test_numbers_are_refused_in_a_live_deployment(
    tmp_path: Path, memory: Memory
) -> None:
    body = BODY.replace(NUMBERS[3], VISA)
    report = await carried_out(job(tmp_path, body, manner(live=True, keep_out=True)), memory)
    assert report.refused_rows == (Refused(4, "pan", "test_number"),)
    assert VISA not in memory.tokens.values()


# --- the other formats --------------------------------------------------------------------


async def test_json_lines(tmp_path: Path, memory: Memory) -> None:
    body = "".join(f'{{"a": {{"pan": "{pan}"}}, "n": 1}}\n' for pan in NUMBERS) + "\n"
    asked = job(tmp_path, body, manner(Format.JSON_LINES, number="a.pan"))
    report = await carried_out(asked, memory)
    assert memory.restored(asked.out.read_text()) == body
    assert memory.tokens.keys() == {
        line.split('"')[5] for line in asked.out.read_text().splitlines() if line
    }
    assert report.rows == ROWS
    assert {each.found.column for each in report.found if each.found.declared} == {"[*].a.pan"}


@pytest.mark.parametrize("line_end", ["\n", "\r\n", ""])
async def test_fixed_width(tmp_path: Path, memory: Memory, line_end: str) -> None:
    body = "".join(f"{n:<6}{pan:<19}end{line_end}" for n, pan in enumerate(NUMBERS))
    how = manner(
        Format.FIXED_WIDTH,
        record_length=None if line_end else 28,
        columns=("pan=6-25",),
        token_format=TokenFormat.PAN_LIKE,
    )
    asked = job(tmp_path, body, how)
    await carried_out(asked, memory)
    written = asked.out.read_bytes().decode()
    assert len(written) == len(body)
    assert memory.restored(written) == body
    assert written != body


async def test_a_column_too_narrow_for_a_token_is_refused_before_any_is_made(
    tmp_path: Path, memory: Memory
) -> None:
    body = "".join(f"{n:<6}{pan:<19}end\n" for n, pan in enumerate(NUMBERS))
    how = manner(Format.FIXED_WIDTH, columns=("pan=6-25",))
    with pytest.raises(RowRefused) as caught:
        await carried_out(job(tmp_path, body, how), memory)
    assert caught.value.row == Refused(1, "pan", "too_narrow")
    assert memory.calls == []


async def test_another_brand_keeps_its_width(tmp_path: Path, memory: Memory) -> None:
    how = manner(Format.FIXED_WIDTH, columns=("pan=0-19",), token_format=TokenFormat.OPAQUE)
    wide = manner(Format.FIXED_WIDTH, columns=("pan=0-60",))
    body = f"{AMEX:>60}|\n"
    asked = job(tmp_path, body, wide)
    await carried_out(asked, memory)
    (token,) = memory.tokens
    assert asked.out.read_text() == f"{token:>60}|\n"
    assert how.route.fixed_width == {"pan": (0, 19)}


async def test_an_empty_file_is_imported(tmp_path: Path, memory: Memory) -> None:
    asked = job(tmp_path, "")
    report = await carried_out(asked, memory)
    assert asked.out.read_bytes() == b""
    assert (report.rows, memory.calls) == (0, [])
