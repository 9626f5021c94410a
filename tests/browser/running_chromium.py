"""A real Chromium as a process: headless means the same browser as a shopper's, without a window.

It trusts one certificate at most, that of the gateway that the tests have started. What never lives
here: a way to trust any certificate at all. With that the browser would send its CSP reports
nowhere, and a middlebox would never be noticed.
"""

import base64
import hashlib
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PROGRAM = "/usr/bin/chromium"
_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--remote-debugging-port=0",
)
_START_SECONDS_MAX = 60.0
_END_SECONDS_MAX = 20.0


def pin_of(certificate_file: Path) -> str:
    """Name a certificate's key as Chromium does."""
    certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode("ascii")


@contextmanager
def running_chromium(profile: Path, certificate_file: Path | None, *more: str) -> Iterator[str]:
    """Give the address at which Playwright speaks to it; end it at the end."""
    trust = (
        [f"--ignore-certificate-errors-spki-list={pin_of(certificate_file)}"]
        if certificate_file is not None
        else []
    )
    profile.mkdir(parents=True, exist_ok=True)
    with (profile / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own words
            [PROGRAM, *_ARGUMENTS, *more, *trust, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            yield _address_in(profile, process)
        finally:
            process.terminate()
            try:
                process.wait(_END_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address_in(profile: Path, process: subprocess.Popen[bytes]) -> str:
    """Wait for the file in which Chromium writes where it can be spoken to."""
    written = profile / "DevToolsActivePort"
    ends = time.monotonic() + _START_SECONDS_MAX
    while time.monotonic() < ends and process.poll() is None:
        lines = written.read_text().splitlines() if written.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.02)
    raise AssertionError("Chromium did not start: make system-packages installs it")
