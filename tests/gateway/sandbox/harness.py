"""What the tests of the simulated processor share: a clock, API keys, the SDK's process."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from tests.cards import AMEX, BRANDS, VISA

API_KEY = "sk_test_first_shop"
OTHER_KEY = "sk_test_second_shop"
INTENTS = "/v1/payment_intents"
NOW = datetime(2031, 5, 15, 12, tzinfo=UTC)


def case_name(value: object) -> str | None:
    """Name a test's case without its card number: by the last four, as anyone may."""
    text = str(value)
    brand = BRANDS.get(text)
    return brand and f"{brand}_{len(text)}_ends_{text[-4:]}"


def card(number: str = VISA) -> dict[str, Any]:
    cvc = "1234" if number == AMEX else "123"
    return {"number": number, "exp_month": "12", "exp_year": "2034", "cvc": cvc}


def bracketed(number: str = VISA, parent: str = "card") -> dict[str, str]:
    return {f"{parent}[{name}]": str(value) for name, value in card(number).items()}


def payment(number: str = VISA) -> dict[str, str]:
    fields = {"amount": "1099", "currency": "eur", "confirm": "true"}
    fields["payment_method_data[type]"] = "card"
    return fields | bracketed(number, "payment_method_data[card]")


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> datetime:
        return self.time

    def advance(self, duration: timedelta) -> None:
        self.time += duration


@dataclass
class Reply:
    """What the SDK made of an answer: an object, or the class of the error it raised."""

    object: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    status: int | None = None
    body: dict[str, Any] = field(default_factory=dict)
    request_id: str | None = None


class Sdk:
    """The official SDK, in a process that trusts one certificate authority."""

    def __init__(self, ca_file: Path) -> None:
        script = Path(__file__).with_name("sdk_client.py")
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, str(script), str(ca_file)],
            env={"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._one_at_a_time = threading.Lock()

    async def __call__(
        self,
        url: str,
        call: str,
        *ids: str,
        key: str = API_KEY,
        retries: int = 0,
        idempotency_key: str | None = None,
        **params: object,
    ) -> Reply:
        options = {} if idempotency_key is None else {"idempotency_key": idempotency_key}
        order = {
            "url": url,
            "call": f"v1.{call}",
            "ids": ids,
            "key": key,
            "retries": retries,
            "params": params,
            "options": options,
        }
        answer = await asyncio.to_thread(self._exchange, json.dumps(order))
        return Reply(**json.loads(answer))

    def _exchange(self, order: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._one_at_a_time:
            self._process.stdin.write(order + "\n")
            self._process.stdin.flush()
            return self._process.stdout.readline()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=10)  # closes its input, which ends it
