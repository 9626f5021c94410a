"""Runs the checkout's own TypeScript in node: for what is pure, and needs no browser.

A program is bundled once, by the esbuild of the build. Cases go in by standard input, since an
argument, and an id of a test, is printed by whoever lists processes or tests.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

CHECKOUT: Final = Path(__file__).parent.parent.parent / "checkout"
_SECONDS_MAX: Final = 60

_FRAME: Final = """
import {{ readFileSync, writeSync }} from "node:fs";
{program}
const cases = JSON.parse(readFileSync(0, "utf8"));
writeSync(1, JSON.stringify(await main(cases)));
"""


@dataclass(frozen=True)
class Program:
    """A bundled program: takes JSON, gives JSON."""

    path: Path

    def run(self, cases: object) -> Any:  # noqa: ANN401 - JSON, of whatever the program makes
        ended = subprocess.run(  # noqa: S603 - our own program
            ["node", str(self.path)],  # noqa: S607 - as `make` finds it
            input=json.dumps(cases).encode(),
            capture_output=True,
            timeout=_SECONDS_MAX,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr.decode()
        return json.loads(ended.stdout)


def bundled(program: str, folder: Path) -> Program:
    """Bundle a program that has a function `main` and imports `@/…` from the checkout's source."""
    source, target = folder / "program.ts", folder / "program.mjs"
    source.write_text(_FRAME.format(program=program))
    subprocess.run(  # noqa: S603 - the lock file's own esbuild
        [
            str(CHECKOUT / "node_modules" / ".bin" / "esbuild"),
            str(source),
            "--bundle",
            "--format=esm",
            "--platform=node",
            f"--alias:@={CHECKOUT / 'src'}",
            f"--outfile={target}",
            "--log-level=error",
        ],
        env={**os.environ, "NODE_PATH": str(CHECKOUT / "node_modules")},
        timeout=_SECONDS_MAX,
        check=True,
    )
    return Program(target)
