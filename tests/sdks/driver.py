"""Official SDKs of processors as their merchants run them: processes with an environment each.

`make` builds the environments into `.venv-sdks/` from the lock files beside this module. A
process is given every variable that it has, so that no proxy, no authority and no key of the
machine gets in; it dies with the process that started it. Keys, tokens and numbers go to it on
its standard input alone.
"""

import asyncio
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from tests.flows.leaks import first_leak

ROOT: Final = Path(__file__).parent.parent.parent
ENVIRONMENTS: Final = {
    "adyen": "shared",
    "authorizenet": "authorizenet",
    "braintree": "shared",
    "checkout": "shared",
    "cybersource": "cybersource",
    "stripe": "shared",
}
"""Which environment each client program runs in."""
ANSWER_SECONDS: Final = 30.0
CLOSING_SECONDS: Final = 5.0
SETPRIV: Final = shutil.which("setpriv") or "setpriv"


class UnknownCall(Exception):
    """The SDK has no such method."""


class SdkEnded(Exception):
    """The process ended, or did not answer in time and was ended."""


@dataclass(frozen=True, slots=True)
class Target:
    """How an SDK is pointed at something: a base URL, or a proxy that its settings know.

    A proxy by `HTTPS_PROXY` is the process's own, not the call's. What `keys` holds: `api_key`,
    and `user`, `secret` and `merchant` where the processor has them. `style` is Stripe's and
    CyberSource's choice of client; `retries` is Stripe's: None leaves the SDK's own number.
    `headers` go out beside the SDK's own, in the way that it has for that; Authorize.Net's has
    none.
    """

    keys: Mapping[str, str] = field(repr=False)
    url: str | None = None
    proxy: str | None = field(default=None, repr=False)
    style: str = "sync"
    retries: int | None = None
    timeout: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """What an SDK made of one call: an object, or the class of the error it raised."""

    object: Any = None
    error: str | None = None
    status: int | None = None
    code: str | None = None
    message: str | None = None
    body: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    requests: int = 0


def python_of(environment: str) -> Path:
    """Give the interpreter of an environment."""
    python = ROOT / ".venv-sdks" / environment / "bin" / "python"
    if not python.exists():
        raise FileNotFoundError(f"no environment {environment}: `make test` builds it")
    return python


def confined(folder: Path) -> dict[str, str]:
    """Give all the variables of a process that may know nothing of this machine."""
    return {
        "PATH": os.environ["PATH"],
        "LC_ALL": "C.UTF-8",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "NO_PROXY": "",
    }


def in_step(*command: str | Path) -> list[str]:
    """Prefix a command so that it ends when its parent does."""
    return [SETPRIV, "--pdeathsig", "KILL", *map(str, command)]


class Sdk:
    """One SDK in its process, started in `folder`; one call at a time."""

    def __init__(
        self, name: str, folder: Path, *, ca_file: Path, https_proxy: str | None = None
    ) -> None:
        self.name = name
        self._ca_file = ca_file
        folder.mkdir(parents=True, exist_ok=True)
        self._said = folder / f"{name}.err"
        variables = confined(folder)
        variables |= {"REQUESTS_CA_BUNDLE": str(ca_file), "SSL_CERT_FILE": str(ca_file)}
        if https_proxy is not None:  # Authorize.Net's reads the lower-case name only
            variables |= {"HTTPS_PROXY": https_proxy, "https_proxy": https_proxy}
        python = python_of(ENVIRONMENTS[name])
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                in_step(python, "-W", "ignore", "-m", f"tests.sdks.clients.{name}_client"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                cwd=folder,
                env=variables,
                text=True,
            )
        self._one_at_a_time = threading.Lock()

    @property
    def pid(self) -> int:
        return self._process.pid

    async def __call__(
        self,
        target: Target,
        call: str,
        *ids: str,
        params: Mapping[str, object] | None = None,
        idempotency_key: str | None = None,
        seconds: float = ANSWER_SECONDS,
    ) -> Reply:
        """Make a call, and give what the SDK made of it; after `seconds` the process is ended."""
        order = _order(target, call, ids, params or {}, idempotency_key)
        line = json.dumps({**order, "ca_file": str(self._ca_file)})
        answer = await asyncio.to_thread(self._exchange, line, seconds)
        return self._read(answer)

    def _exchange(self, order: str, seconds: float) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._one_at_a_time:
            patience = threading.Timer(seconds, self._process.kill)
            patience.start()
            try:
                self._process.stdin.write(order + "\n")
                self._process.stdin.flush()
                return self._process.stdout.readline()
            except BrokenPipeError:
                return ""
            finally:
                patience.cancel()

    def _read(self, line: str) -> Reply:
        assert first_leak(line.encode()) is None, f"a card number in what {self.name} gave back"
        if not line:
            raise SdkEnded(f"{self.name}, status {self._process.wait(CLOSING_SECONDS)}")
        answer = json.loads(line)
        if "refused" in answer:
            raise UnknownCall(answer["refused"])
        return Reply(**answer)

    def close(self) -> None:
        """End it, however it is; nothing that it wrote may hold a card number."""
        try:
            self._process.communicate(timeout=CLOSING_SECONDS)  # closes its input, which ends it
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        assert first_leak(self._said.read_bytes()) is None, f"a card number: see {self._said.name}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _order(
    target: Target,
    call: str,
    ids: Sequence[str],
    params: Mapping[str, object],
    idempotency_key: str | None,
) -> dict[str, object]:
    made = {"call": call, "ids": ids, "params": params, "idempotency_key": idempotency_key}
    return {**asdict(target), **made}
