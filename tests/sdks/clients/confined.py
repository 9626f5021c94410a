"""Runs a server program that we did not write, where it can neither listen nor write at large.

`python -m tests.sdks.clients.confined SOCKET MODULE WORD…` runs MODULE as its own `-m` would,
except that what it listens on over IPv6 is the Unix socket SOCKET, that a file it opens for
writing is the null device, and that it may call nobody but loopback. Whatever else it tries of
these is an error. This file knows no program and imports none by name.
"""

import builtins
import os
import runpy
import socket
import sys
from pathlib import Path
from typing import Any, ClassVar, Final

LOOPBACK: Final = ("127.0.0.1", "::1")
WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC

_open = builtins.open


class OnPath(socket.socket):
    """A socket whose IPv6 is a Unix socket at `path`."""

    path: ClassVar[str]

    def __init__(
        self,
        family: int = -1,
        type: int = -1,  # noqa: A002 - its name there
        proto: int = -1,
        fileno: int | None = None,
    ) -> None:
        of_ipv6 = family == socket.AF_INET6 and fileno is None
        super().__init__(socket.AF_UNIX if of_ipv6 else family, type, proto, fileno)

    def bind(self, address: Any) -> None:  # noqa: ANN401 - of any family
        super().bind(self.path if self.family == socket.AF_UNIX else address)


def _watch(event: str, args: tuple[Any, ...]) -> None:
    """Refuse what got past the two replacements below."""
    if event == "open" and isinstance(args[2], int) and args[2] & WRITING:
        allowed = args[0] == os.devnull
    elif event == "socket.bind":
        allowed = isinstance(args[1], str)
    elif event == "socket.connect":
        allowed = isinstance(args[1], str) or args[1][0] in LOOPBACK
    else:
        return
    if not allowed:
        raise PermissionError(event)


def _opened(file: Any, mode: str = "r", *args: Any, **named: Any) -> Any:  # noqa: ANN401 - open's
    return _open(os.devnull if set(mode) & set("wax+") else file, mode, *args, **named)


def confine(path: str) -> None:
    """Put the two replacements in place, and the watch behind them."""
    OnPath.path = path
    socket.socket = OnPath  # type: ignore[misc]  # that is the point
    builtins.open = _opened
    sys.addaudithook(_watch)


def main() -> None:
    path, program, *words = sys.argv[1:]
    confine(str(Path(path).absolute()))
    sys.argv = [program, *words]
    runpy.run_module(program, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
