"""Under what conditions the process does not start, and what it closes when it does."""

import os
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass

import pytest
from aiohttp import http_parser, web_protocol

from gateway import hardening
from gateway.hardening import (
    FLOORS,
    FLOORS_IF_PRESENT,
    refuse_old_versions,
    refuse_slow_parser,
    refuse_unsafe_interpreter,
)
from vault.errors import StartRefused

HARDEN = """
import sys
from vault.errors import StartRefused
try:
    from gateway.hardening import harden
    harden()
except StartRefused as refusal:
    print(refusal, file=sys.stderr)
    sys.exit(78)
"""


def started(
    *options: str, before: str = "", after: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, *options, "-c", before + HARDEN + after],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.guards("T-34")
@pytest.mark.parametrize(
    ("options", "environment", "word"),
    [
        (["-O"], {}, "-O"),
        (["-OO"], {}, "-O"),
        ([], {"PYTHONOPTIMIZE": "1"}, "-O"),
        (["-X", "dev"], {}, "-X dev"),
        ([], {"PYTHONDEVMODE": "1"}, "-X dev"),
        ([], {"PYTHONASYNCIODEBUG": "1"}, "PYTHONASYNCIODEBUG"),
        ([], {"AIOHTTP_NO_EXTENSIONS": "1"}, "AIOHTTP_NO_EXTENSIONS"),
    ],
)
def test_an_unsafe_interpreter_does_not_start(
    options: list[str], environment: dict[str, str], word: str
) -> None:
    ended = started(*options, **environment)
    assert ended.returncode == 78
    assert word in ended.stderr


def test_a_usual_interpreter_starts_and_is_closed() -> None:
    ended = started(after='print(open("/proc/self/status").read())')
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "NoNewPrivs:\t1" in ended.stdout


@pytest.mark.parametrize(
    ("before", "word"),
    [
        (
            "from aiohttp import http_parser as p; p.HttpRequestParser = p.HttpRequestParserPy",
            "C extensions",
        ),
        ("from importlib import metadata; metadata.version = lambda name: '0.1'", "or newer"),
    ],
    ids=["parser", "versions"],
)
def test_an_unsafe_library_does_not_start(before: str, word: str) -> None:
    ended = started(before=before)
    assert ended.returncode == 78
    assert word in ended.stderr


@dataclass
class Flags:
    """As `sys.flags`."""

    optimize: int = 0
    dev_mode: bool = False


def test_each_condition_is_looked_at_by_itself() -> None:
    refuse_unsafe_interpreter(Flags(), {"PYTHONASYNCIODEBUG": ""})
    with pytest.raises(StartRefused):
        refuse_unsafe_interpreter(Flags(optimize=1), {})
    with pytest.raises(StartRefused):
        refuse_unsafe_interpreter(Flags(dev_mode=True), {})
    for name in ("PYTHONASYNCIODEBUG", "AIOHTTP_NO_EXTENSIONS"):
        with pytest.raises(StartRefused):
            refuse_unsafe_interpreter(Flags(), {name: "1"})


@pytest.mark.guards("T-01")
@pytest.mark.parametrize("module", [http_parser, web_protocol])
def test_the_parser_in_python_is_refused(module: object, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_slow_parser()
    monkeypatch.setattr(module, "HttpRequestParser", http_parser.HttpRequestParserPy)
    with pytest.raises(StartRefused):
        refuse_slow_parser()


def floors(**other: str | None) -> dict[str, str | None]:
    return {**FLOORS, **FLOORS_IF_PRESENT, **other}


def test_versions_at_their_floors_are_enough() -> None:
    refuse_old_versions(hardening._installed)
    refuse_old_versions(floors().get)
    refuse_old_versions(floors(h11=None, pynacl=None).get)
    refuse_old_versions(floors(aiohttp="3.14.5.post1", idna="3.7.0", urllib3="10.0").get)


@pytest.mark.parametrize("name", [*FLOORS, *FLOORS_IF_PRESENT])
@pytest.mark.parametrize("version", ["0.9", "0.9.post1", "nonsense", ""])
def test_a_version_below_its_floor_stops_the_start(name: str, version: str) -> None:
    with pytest.raises(StartRefused, match=name):
        refuse_old_versions(floors(**{name: version}).get)


@pytest.mark.parametrize("version", ["3.14.4", "3.14", "3.9.99", "3.14.5rc1", "3.14.5.dev0"])
def test_releases_are_ordered_as_numbers(version: str) -> None:
    with pytest.raises(StartRefused, match="aiohttp"):
        refuse_old_versions(floors(aiohttp=version).get)


def test_what_must_be_there_must_be_there() -> None:
    with pytest.raises(StartRefused, match="cryptography"):
        refuse_old_versions(floors(cryptography=None).get)
    with pytest.raises(StartRefused, match=r"3\.11"):
        refuse_old_versions(floors().get, python=(3, 10))


def test_a_kernel_that_refuses_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardening, "PR_SET_DUMPABLE", 1 << 20)  # no such option
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    with pytest.raises(StartRefused, match="prctl"):
        hardening.close_process()


# --- what is closed ---------------------------------------------------------------------------

UNPRIVILEGED = 65534
AS_SOMEBODY = f"""
import ctypes, os, resource, sys
if os.getuid() == 0:
    os.setgroups([])
    os.setgid({UNPRIVILEGED})
    os.setuid({UNPRIVILEGED})
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # what a process that changed its uid has lost
"""
READ = (
    AS_SOMEBODY
    + """
for name in ("environ", "mem", "maps"):
    try:
        open(f"/proc/{sys.argv[1]}/{name}", "rb").close()
    except OSError:
        print("closed")
    else:
        print("open")
"""
)
HELD = """
print(resource.getrlimit(resource.RLIMIT_CORE)[1], flush=True)
print(open("/proc/self/status").read().split("NoNewPrivs:")[1].split()[0], flush=True)
sys.stdin.read()
"""
CLOSED = "from gateway.hardening import close_process\n" + AS_SOMEBODY + "close_process()\n" + HELD
OPEN = AS_SOMEBODY + HELD


def seen_of(code: str) -> tuple[list[str], list[str], int]:
    """Run `code`; return what it said, what its own user may read of it, and how it died."""
    resource_limit = resource.getrlimit(resource.RLIMIT_CORE)
    with subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as held:
        assert held.stdout is not None
        said = [held.stdout.readline().strip() for _ in range(2)]
        read = subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-c", READ, str(held.pid)],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        held.send_signal(signal.SIGABRT)
        held.wait(30)
    assert resource_limit == resource.getrlimit(resource.RLIMIT_CORE)
    return said, read.stdout.split(), held.returncode


@pytest.mark.guards("T-35")
def test_a_closed_process_shows_its_memory_to_nobody() -> None:
    said, read, died = seen_of(CLOSED)
    assert said == ["0", "1"]
    assert read == ["closed"] * 3
    assert died == -signal.SIGABRT


def test_an_open_process_would() -> None:
    said, read, _ = seen_of(OPEN)
    assert said[1] == "0"
    assert "open" in read
