"""`verify.go` beside this file, built and run.

It is built against golang.org/x/mod, whose `sumdb` packages compute and check every hash, proof
and signature. A copy of it comes with each Go toolchain (the go command checks its checksum
database with it), and Debian has it as a package.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

SOURCE: Final = Path(__file__).with_name("verify.go")
DEBIAN: Final = Path("/usr/share/gocode/src/golang.org/x/mod")
MISSING: Final = "not checked here: exports by golang.org/x/mod (no `go`: make system-packages)"


@dataclass(frozen=True)
class Verdict:
    """What the program says of an export."""

    accepted: bool
    words: str


@dataclass(frozen=True)
class GoVerifier:
    """The program."""

    path: Path

    def __call__(self, key: str, export: Path, *held: Path) -> Verdict:
        """Check an export against a key and checkpoints that are held."""
        done = _run(str(self.path), key, str(export), *map(str, held))
        assert done.returncode in (0, 1), done.stderr
        return Verdict(done.returncode == 0, done.stdout + done.stderr)


def build(folder: Path) -> GoVerifier:
    """Build it offline, with Go's packages where Go looked for them before there were modules."""
    go = shutil.which("go")
    if go is None:
        assert "CI" not in os.environ, MISSING
        pytest.skip(MISSING)
    shipped = Path(_run(go, "env", "GOROOT").stdout.strip(), "src/cmd/vendor/golang.org/x/mod")
    packages = folder / "src/golang.org/x"
    packages.mkdir(parents=True)
    (packages / "mod").symlink_to(shipped if shipped.is_dir() else DEBIAN)
    built = folder / "verify"
    done = _run(
        *(go, "build", "-o", str(built), str(SOURCE)),
        GO111MODULE="off",
        GOFLAGS="",
        GOPATH=str(folder),
        GOTOOLCHAIN="local",
    )
    assert done.returncode == 0, done.stderr
    return GoVerifier(built)


def _run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - the toolchain, and what it built of our own source
        command,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
