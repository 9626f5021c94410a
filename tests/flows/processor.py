"""Steering the simulated processor, which is a process of its own, over its control socket."""

import http.client
import json
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("processor", timeout=5)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


@dataclass(frozen=True)
class Counts:
    """What the processor counted. `charges` are approvals."""

    requests: int
    charges: int
    declines: int
    captures: int
    cancels: int
    refunds: int
    replays: int
    faults: int


class ProcessorControl:
    """What it saw, and what it is to do wrong."""

    def __init__(self, control_socket: Path) -> None:
        self._socket = control_socket

    @property
    def counts(self) -> Counts:
        return Counts(**self._ask("GET", "/state")["counts"])

    @property
    def received(self) -> list[dict[str, Any]]:
        """Every call: method, path, account, idempotency key, masked cards."""
        received: list[dict[str, Any]] = self._ask("GET", "/state")["received"]
        return received

    @property
    def numbers(self) -> list[str]:
        """Every value of a number field, in full, in order."""
        numbers: list[str] = self._ask("GET", "/numbers")["numbers"]
        return numbers

    @property
    def callbacks(self) -> dict[str, int]:
        """What became of its callbacks, counted."""
        counts: dict[str, int] = self._ask("GET", "/state")["callbacks"]["counts"]
        return counts

    @property
    def called_back(self) -> list[dict[str, Any]]:
        """Every callback, as it happened: processor, type, tries, the last status."""
        recent: list[dict[str, Any]] = self._ask("GET", "/state")["callbacks"]["recent"]
        return recent

    def do(self, what: str, **arguments: object) -> None:
        self._ask("POST", "/do", {"do": what, **arguments})

    def behave(self) -> None:
        self.do("behave")

    def until_held(self, before: Counts, *, calls: int = 1) -> None:
        """Wait until so many more calls than `before` have arrived."""
        end = time.monotonic() + 10
        while self.counts.requests < before.requests + calls:
            assert time.monotonic() < end, "no call arrived"
            time.sleep(0.005)

    def _ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        connection = _UnixConnection(self._socket)
        try:
            connection.request(method, path, None if body is None else json.dumps(body).encode())
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        assert answer.status in (200, 204), content
        said: dict[str, Any] = json.loads(content or b"{}")
        return said
