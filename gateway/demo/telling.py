"""How the demo is told: to people on a terminal or in a file, to machines in JSON lines."""

from collections.abc import Sequence
from typing import Final, Protocol

import msgspec
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from gateway.demo.scene import Check, Closing, LedgerLine, Scene

WIDTH_MAX: Final = 120


class Telling(Protocol):
    """Who is told what was seen."""

    def scene(self, scene: Scene) -> None: ...

    def closing(self, closing: Closing) -> None: ...


class ToMachines:
    """One JSON object a step."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def scene(self, scene: Scene) -> None:
        self._write(scene)

    def closing(self, closing: Closing) -> None:
        self._write(closing)

    def _write(self, step: Scene | Closing) -> None:
        self._console.file.write(msgspec.json.encode(step).decode() + "\n")
        self._console.file.flush()


class ToPeople:
    """What the merchant saw, what the processor saw, what the ledger has; then the verdict."""

    def __init__(self, console: Console) -> None:
        self._console = console
        console.width = min(console.width, WIDTH_MAX)

    def scene(self, scene: Scene) -> None:
        parts = Table.grid(padding=(0, 2))
        parts.add_column(style="cyan", no_wrap=True)
        parts.add_column(overflow="fold", ratio=1)
        parts.add_row(scene.who, _lines(scene.merchant))
        parts.add_row("processor", _lines(scene.processor))
        parts.add_row("ledger", _entries(scene.ledger))
        parts.add_row("", _checks(scene.checks))
        self._console.print()
        self._console.print(Rule(f"[bold]{scene.step}  {scene.title}", align="left", style="dim"))
        self._console.print(Text(scene.words, style="italic"))
        if scene.code:
            self._console.print(Padding(_source(scene.code), (1, 0, 0, 2)))
        self._console.print()
        self._console.print(parts)

    def closing(self, closing: Closing) -> None:
        table = Table(box=None, padding=(0, 1), pad_edge=False, show_edge=False, expand=True)
        table.add_column("", justify="right", style="dim", no_wrap=True)
        table.add_column("promised", ratio=3)
        table.add_column("seen", ratio=2)
        table.add_column("", no_wrap=True)
        for place, kept in enumerate(closing.promises, start=1):
            verdict = Text("ok", "bold green") if kept.ok else Text("NOT", "bold red")
            table.add_row(str(place), Text(kept.promised), Text(kept.seen), verdict)
        self._console.print()
        self._console.print(Rule(f"[bold]{closing.title}", align="left", style="dim"))
        self._console.print()
        self._console.print(table)
        count = sum(one.ok for one in closing.promises)
        self._console.print()
        self._console.print(f"{count} of {len(closing.promises)} promises kept")
        self._console.print()


def _lines(lines: Sequence[str]) -> RenderableType:
    """Lines with a mark each, so that one that is too long for the terminal stays one."""
    if not lines:
        return Text("nothing", "dim")
    rows = _marked()
    for line in lines:
        within = line.startswith(" ")
        rows.add_row(Text("" if within else "·", "dim"), Padding(Text(line.strip()), _left(within)))
    return rows


def _checks(checks: Sequence[Check]) -> RenderableType:
    rows = _marked()
    for check in checks:
        if check.ok:
            rows.add_row(Text("✓", "green"), Text(check.what, "dim"))
        else:
            rows.add_row(Text("✗", "bold red"), Text(f"NOT so: {check.what}", "bold red"))
    return rows


def _marked() -> Table:
    rows = Table.grid(padding=(0, 1))
    rows.add_column(no_wrap=True)
    rows.add_column(overflow="fold")
    return rows


def _left(within: bool) -> tuple[int, int, int, int]:  # noqa: FBT001
    return (0, 0, 0, 2 if within else 0)


def _entries(lines: Sequence[LedgerLine]) -> RenderableType:
    if not lines:
        return Text("no entry", "dim")
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", style="dim", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for line in lines:
        table.add_row(str(line.index), line.type, Text(_words(line)))
    return table


def _words(line: LedgerLine) -> str:
    """What an entry says, in a few words."""
    words = [
        line.operation,
        f"opens {' and '.join(line.opens)}" if line.opens else None,
        f"attempt {line.attempt} of {line.of}" if line.of is not None else None,
        line.result,
        str(line.status) if line.status is not None else None,
        line.reason,
        f"by {line.method}" if line.method else None,
        line.token if line.type.startswith("token.") else None,
    ]
    return ", ".join(word for word in words if word)


def _source(code: str) -> Syntax:
    return Syntax(code, "python", theme="ansi_dark", background_color="default", word_wrap=True)
