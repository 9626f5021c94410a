"""How a client program is spoken to: an order a line on its input, an answer a line on its output.

A client program runs in an environment of its own, with one processor's SDK and none of this
project's packages. It makes one call an order and says what the SDK made of it: the object, or
the class of the error that the SDK raised. Keys, tokens and numbers come in orders only; no
text of an error goes out but what a client has picked from its SDK's own fields.
"""

import importlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, repr=False)
class Order:
    """One call: of what, through what, with whose keys."""

    call: str
    ids: list[str]
    params: Json
    idempotency_key: str | None
    url: str | None
    proxy: str | None
    ca_file: str
    keys: dict[str, str]
    style: str
    retries: int | None
    timeout: float | None
    headers: dict[str, str]


class NoSuchCall(Exception):
    """The SDK has no public method of that name."""


class Client(Protocol):
    """What one SDK's program does; `requests` is what went over the wire so far."""

    requests: "Counted"

    def called(self, order: Order) -> Json:
        """Make the call: `object`, and `status` and `headers` where the SDK shows them."""
        ...

    def failed(self, error: Exception) -> Json:
        """Give `status`, `code`, `message` and `body`, where the SDK's error has them."""
        ...


class Counted:
    """Counts the calls of a method of the HTTP library: what the SDK itself sends again too."""

    def __init__(self, *methods: tuple[type, str]) -> None:
        self.calls = 0
        for owner, name in methods:
            setattr(owner, name, self._counting(getattr(owner, name)))

    def _counting(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: object, **named: object) -> object:
            self.calls += 1
            return inner(*args, **named)

        return counting


def module(name: str) -> Any:  # noqa: ANN401 - an SDK without types, in another environment
    """Import what only the environment of this process has."""
    return importlib.import_module(name)


def method(root: object, path: str) -> Callable[..., Any]:
    """Find a public method by its dotted name."""
    found = root
    for name in path.split("."):
        found = None if name.startswith("_") else getattr(found, name, None)
    if not callable(found):
        raise NoSuchCall(path)
    return found


def answered(client: Client, line: str) -> Json:
    before = client.requests.calls
    try:
        answer = client.called(Order(**json.loads(line)))
    except NoSuchCall as unknown:
        answer = {"refused": f"no call {unknown}"}
    except Exception as error:  # noqa: BLE001 - whatever an SDK raises is the answer
        answer = {"error": type(error).__name__, **client.failed(error)}
    return {**answer, "requests": client.requests.calls - before}


def serve(client: Client) -> None:
    """Answer orders until the input ends. What an SDK prints does not come between answers."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        answers.write(json.dumps(answered(client, line), default=str) + "\n")
        answers.flush()
