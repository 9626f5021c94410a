"""Under what conditions the process may hold card numbers at all; otherwise it does not start.

What an interpreter started for debugging prints, dumps or leaves unchecked may be a card number,
and a library below its floor has a published hole. Nothing here can be switched off.
"""

import ctypes
import os
import re
import resource
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Final, Protocol

from aiohttp import http_parser, web_protocol

from vault.errors import StartRefused

PR_SET_DUMPABLE: Final = 4
PR_SET_NO_NEW_PRIVS: Final = 38

PYTHON_FLOOR: Final = (3, 11)
FLOORS: Final[Mapping[str, str]] = {
    "aiohttp": "3.14.5",
    "cryptography": "48.0.1",  # older wheels carry an OpenSSL with GHSA-537c-gmf6-5ccf
    "idna": "3.7",
    "requests": "2.32.4",
    "urllib3": "2.6.0",
}
FLOORS_IF_PRESENT: Final[Mapping[str, str]] = {
    "h11": "0.16",
    "pynacl": "1.6.2",  # CVE-2025-69277
}

_RELEASE = re.compile(r"v?([0-9]+(?:\.[0-9]+)*)(.*)")


class InterpreterFlags(Protocol):
    """The part of `sys.flags` that matters here."""

    @property
    def optimize(self) -> int: ...

    @property
    def dev_mode(self) -> bool: ...


def harden() -> None:
    """Check all conditions, then close the process to debuggers and core dumps.

    Raises StartRefused.
    """
    refuse_unsafe_interpreter(sys.flags, os.environ)
    refuse_slow_parser()
    refuse_old_versions(_installed)
    close_process()


def refuse_unsafe_interpreter(flags: InterpreterFlags, environment: Mapping[str, str]) -> None:
    """Refuse what makes Python check less or print more.

    Raises StartRefused.
    """
    if flags.optimize:
        raise StartRefused("start Python without -O: it removes the assertions we rely on")
    if flags.dev_mode:
        raise StartRefused("start Python without -X dev: it logs arguments, card numbers too")
    if environment.get("PYTHONASYNCIODEBUG"):
        raise StartRefused("unset PYTHONASYNCIODEBUG: it logs arguments, card numbers too")
    if environment.get("AIOHTTP_NO_EXTENSIONS"):
        raise StartRefused("unset AIOHTTP_NO_EXTENSIONS: only the C parser of HTTP is accepted")


def refuse_slow_parser() -> None:
    """Refuse the parser in Python that aiohttp falls back to: most smuggling holes were there.

    Raises StartRefused.
    """
    used = {http_parser.HttpRequestParser, vars(web_protocol)["HttpRequestParser"]}
    if http_parser.HttpRequestParserPy in used:
        raise StartRefused("install an aiohttp with its C extensions: they parse HTTP strictly")


def refuse_old_versions(
    installed: Callable[[str], str | None], python: tuple[int, ...] = sys.version_info[:2]
) -> None:
    """Compare with the floors; a scanner that cannot reach its data would say that all is well.

    Raises StartRefused.
    """
    if python < PYTHON_FLOOR:
        raise StartRefused("Python 3.11 or newer is required")
    for name, floor in {**FLOORS, **FLOORS_IF_PRESENT}.items():
        version = installed(name)
        if version is None and name in FLOORS_IF_PRESENT:
            continue
        if version is None or _precedence(version) < _precedence(floor):
            raise StartRefused(f"{name} {floor} or newer is required, found {version}")


def close_process() -> None:
    """No core file, no debugger, no /proc/PID/mem for others, no gain of privileges.

    Raises StartRefused where the kernel does not do it.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((PR_SET_DUMPABLE, 0), (PR_SET_NO_NEW_PRIVS, 1)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise StartRefused(f"the kernel refuses prctl option {option}")


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _precedence(version: str) -> tuple[tuple[int, ...], bool]:
    """Order by release; a pre-release (PEP 440: a, b, rc, dev) comes before it."""
    found = _RELEASE.match(version)
    if found is None:
        return (), False
    release = tuple(int(part) for part in found[1].split("."))
    while release and release[-1] == 0:  # 3.7 and 3.7.0 are one
        release = release[:-1]
    return release, not found[2] or found[2].startswith((".post", "+"))
