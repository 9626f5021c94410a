"""`panward witness` as a merchant runs one: a process with a folder that nobody puts back."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.flows.deployment import _CLEAN, _PANWARD, _SETPRIV, until
from vault.embedded.bootstrap import EmbeddedParts

NAME = "example.test/elsewhere"


@dataclass(frozen=True)
class Elsewhere:
    """A witness that runs: where, and the key that it cosigns with."""

    url: str
    vkey: str
    ca_file: Path

    def write_into(self, file: Path) -> None:
        """Name it in a gateway's configuration."""
        text = file.read_text()
        line = (
            f'witnesses = [{{ name = "elsewhere", vkey = "{self.vkey}", url = "{self.url}",'
            f' ca_file = "{self.ca_file}", address_allow = ["127.0.0.1/32"] }}]'
        )
        named = text.replace("[ledger]\n", f"[ledger]\n{line}\n")
        assert named != text
        file.write_text(named)


@contextmanager
def witnessing(folder: Path, parts: EmbeddedParts, log: str) -> Iterator[Elsewhere]:
    """Start one for a log, by the log's key; end it at the end."""
    folder.mkdir()
    for file in (parts.tls_ca_file, parts.tls_cert_file, parts.tls_key_file):
        shutil.copy2(file, folder)
    err = folder / "witness.err"
    with err.open("wb") as said:
        process = subprocess.Popen(  # noqa: S603 - our own words
            [
                *(_SETPRIV, "--pdeathsig", "TERM", *_PANWARD, "witness"),
                *("--folder", str(folder / "held"), "--name", NAME),
                *("--listen", "127.0.0.1:0", "--log", log),
                *("--certificate-file", str(folder / parts.tls_cert_file.name)),
                *("--private-key-file", str(folder / parts.tls_key_file.name)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            env=_CLEAN,
        )
    try:
        told = until(
            lambda: re.search(r"on (https://\S+)\n.*\nwitness \S+ (\S+)\n", err.read_text()),
            "the witness does not start",
            seconds=30,
        )
        yield Elsewhere(told[1], told[2], folder / parts.tls_ca_file.name)
    finally:
        process.terminate()
        assert process.wait(30) == 0, err.read_text()
