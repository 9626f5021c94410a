"""How commands take a secret: from standard input, never as an argument, which `ps` would show.

What is wrong with one is said without quoting it.
"""

import sys
from typing import Final

import typer

SECRET_CHARACTERS_MAX: Final = 4096
INPUT_CHARACTERS_MAX: Final = 1 << 16


def secret_line(prompt: str) -> str:
    """Read one; at a terminal, what is typed is not shown. Raises BadParameter."""
    if sys.stdin.isatty():
        return str(typer.prompt(prompt, hide_input=True)).strip()
    return secret_input().strip()


def secret_input() -> str:
    """Read all of standard input. Raises BadParameter when it is too long."""
    text = sys.stdin.read(INPUT_CHARACTERS_MAX + 1)
    if len(text) > INPUT_CHARACTERS_MAX:
        raise typer.BadParameter("standard input is too long")
    return text


def is_secret_line(text: str) -> bool:
    """Whether it is one line that can stand in a header."""
    return 0 < len(text) <= SECRET_CHARACTERS_MAX and text.isascii() and text.isprintable()
