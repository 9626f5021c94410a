"""`panward explain`: what would be opened in a recorded call, before anything is live."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway import preset as presets
from gateway.call import Call
from gateway.commands.options import EX_FAILED, ConfigOption, JsonOption, fail, show
from gateway.config import load_config
from gateway.explain import SENT, ExplainedField, Explanation, Holds, explain
from gateway.preset import Preset
from gateway.preset_rules import problems_of, remarks_on
from gateway.recorded import RECORD_BYTES_MAX, recorded_calls
from vault.errors import StartRefused

NAME_CHARACTERS: Final = 30  # so that a table fits into 80

_HOLDS: Final[Mapping[Holds, str]] = {
    "nothing": "nothing",
    "token": "token",
    "other_token": "foreign token",
    "pan_like": "token of digits",
    "card_like": "card number",
    "zeros": "zeros",
    "digits": "digits",
    "text_with_token": "token in text",
    "value": "value",
}
_BECOMES: Final = {
    "card_number": "card number",
    "stored_code": "stored code",
    "expiry_date": "expiry date",
    "processor_login": "processor's login",
    "unchanged": "as it is",
}
_STEP: Final = re.compile(r"[.\[]")
_STYLES: Final = {"number": "bold", "cvc": "bold", "undeclared": "yellow", "text": "dim"}


def explain_command(
    request: Annotated[
        str,
        typer.Argument(
            metavar="REQUEST",
            help="A file with a raw HTTP request, a curl command or a HAR; - reads it.",
        ),
    ],
    preset: Annotated[
        str | None,
        typer.Option("--preset", metavar="NAME", help="A preset's name, or a file of your own."),
    ] = None,
    config: ConfigOption = None,
    route: Annotated[str | None, typer.Option("--route", help="With --config: the route.")] = None,
    *,
    live: Annotated[bool, typer.Option("--live", help='Tokens of env = "live".')] = False,
    as_json: JsonOption = False,
) -> None:
    """Show which operation and fields match in a recorded call, and what would change.

    Nothing is sent, and no value of the call is shown. Exit code 0 if it would be sent, or lacks
    nothing but tokens where card numbers and codes stand now; 1 if it would be refused.
    """
    chosen = _preset(preset, config, route)
    ready = True
    for call in _calls(request):
        told = explain(chosen, call, env="live" if live else "test")
        ready = ready and told.is_ready
        if as_json:
            show(told)
        else:
            _print(told, chosen, call)
    if not ready:
        sys.exit(EX_FAILED)


def _preset(name: str | None, config: Path | None, route: str | None) -> Preset:
    if (name is None) == (config is None):
        raise typer.BadParameter(
            f"give --preset NAME or --config F --route NAME; presets: {', '.join(presets.names())}"
        )
    if name is not None and not name.endswith(".toml"):
        return presets.load(name)
    if name is not None:
        return _own(Path(name))
    assert config is not None
    found = {one.name: one.preset for one in load_config(config).routes}
    if route not in found:
        raise typer.BadParameter(f"--route is one of: {', '.join(found)}")
    return found[route]


def _own(path: Path) -> Preset:
    try:
        content = path.read_bytes()
    except OSError:
        content = None
    if content is None:
        raise StartRefused(f"{path} cannot be read")
    preset = presets.parse(content)
    for problem in problems_of(preset):
        raise StartRefused(f"{path}: {problem}")
    return preset


def _calls(request: str) -> list[Call]:
    """Read the record; its name is not quoted, for the call itself may have been given there."""
    try:
        if request == "-":
            data = sys.stdin.buffer.read(RECORD_BYTES_MAX + 1)
        else:
            with Path(request).open("rb") as file:
                data = file.read(RECORD_BYTES_MAX + 1)
    except (OSError, ValueError):
        data = b""
    if not data:
        fail("there is no recorded call: REQUEST is a file with one, or - for standard input")
    if len(data) > RECORD_BYTES_MAX:
        fail(f"the record is larger than {RECORD_BYTES_MAX >> 20} MiB")
    try:
        calls, reason = recorded_calls(data), ""
    except StartRefused as refusal:
        calls, reason = [], str(refusal)
    if not calls:
        fail(reason)
    return calls


# --- for a person -------------------------------------------------------------------------


def _print(told: Explanation, preset: Preset, call: Call) -> None:
    out = Console(highlight=False, markup=False)
    out.print()
    _print_head(out, told, preset, call)
    if told.fields:
        out.print(_table(told))
    if told.headers_dropped:
        out.print(f"headers dropped: {', '.join(told.headers_dropped)}")
    if told.headers_replaced:
        names = ", ".join(told.headers_replaced)
        out.print(f"headers replaced, with credential = injected: {names}")
    if told.operation is not None:
        out.print(_repeats(told))
        out.print(f"time limit: {told.timeout_seconds:g} s")
    if told.card_like:
        places = ", ".join(told.card_like)
        out.print(
            f"looks like a card number where no card is declared, and goes on as it is: {places}",
            style="yellow",
        )
    _print_verdict(out, told)


def _print_head(out: Console, told: Explanation, preset: Preset, call: Call) -> None:
    if told.operation is None:
        out.print(f"{told.method}, no operation of {preset.title}", style="bold")
        for hint in _hints(told, call):
            out.print(hint, style="yellow")
    else:
        out.print(f"{told.method} {told.path}", style="bold")
        out.print(f"{preset.title}: {told.operation}, {told.kind}, on record before it leaves")
    for remark in remarks_on(preset):
        out.print(remark, style="yellow")


def _print_verdict(out: Console, told: Explanation) -> None:
    if told.verdict == SENT:
        passes = "" if told.on_record else ", as it is and not on record"
        out.print(f"sent: {told.words}{passes}", style="green")
        return
    out.print(f"{told.verdict}: {told.words}", style="yellow" if told.is_ready else "red")
    if told.is_ready:
        out.print("sent: with tokens in their places, it would be sent", style="green")
    elif told.with_tokens != told.verdict:
        out.print(f"{told.with_tokens}: with tokens too. {told.with_tokens_words}", style="red")


def _hints(told: Explanation, call: Call) -> list[str]:
    """Name the presets that know this path, for a call that this one does not know."""
    others = {
        name: [each.name for each in presets.load(name).candidates(call.method, call.path)]
        for name in presets.names()
        if name != told.preset
    }
    return [
        f"the preset {name} knows this path: {', '.join(known[:3])}"
        for name, known in others.items()
        if known
    ]


def _repeats(told: Explanation) -> str:
    if told.idempotency is None:
        return "no idempotency key of the processor's; an unknown outcome is not sent again"
    if not told.replay_seconds:
        return f"idempotency: {told.idempotency}; an unknown outcome is not sent again"
    hours = told.replay_seconds / 3600
    return f"idempotency: {told.idempotency}; an unknown outcome is sent again for {hours:g} h"


def _table(told: Explanation) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("field", "is", "holds", "becomes"):
        table.add_column(column, overflow="fold")
    for each in told.fields:
        style = _STYLES.get(each.role, "")
        cells = (_short(each.field), _is(each), _HOLDS[each.holds], _becomes(told, each))
        table.add_row(*(Text(cell) for cell in cells), style=style)
    return table


def _short(name: str) -> str:
    """Cut a long name where it says least: `…creditCard.cardNumber`, `…[card][number]`."""
    steps = [each.start() for each in _STEP.finditer(name)]
    fitting = [at for at in steps if len(name) - at < NAME_CHARACTERS]
    if len(name) <= NAME_CHARACTERS or not steps:
        return name
    return "…" + name[fitting[0] if fitting else steps[-1] :].removeprefix(".")


def _is(each: ExplainedField) -> str:
    return "reference" if each.role == "merchant_reference" else each.role.replace("_", " ")


def _becomes(told: Explanation, each: ExplainedField) -> str:
    if each.becomes is None:
        return "-"
    if told.verdict != SENT and each.role == "number" and each.holds == "card_like":
        return "put its token here"
    if told.verdict != SENT and each.role == "cvc" and each.holds == "digits":
        return "put 000 here"
    return _BECOMES[each.becomes]
