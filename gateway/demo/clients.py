"""The demo's clients as processes of their own: the checkout page, the shop, its back office.

Each has an environment without anything of ours (a CA bundle, a proxy), gets what it needs on
its standard input, and ends when that is closed, so also when the demo is killed.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlencode

import msgspec

from gateway.demo.cards import DemoCard
from gateway.demo.plain_http import HttpAnswer, HttpCall
from gateway.demo.scene import StoryBroke
from gateway.embedded import Credentials

T = TypeVar("T")

ANSWER_SECONDS: Final = 60.0
ENDING_SECONDS: Final = 5.0
LINE_BYTES_MAX: Final = 1024 * 1024
FORM: Final = "application/x-www-form-urlencoded"
ENVIRONMENT: Final = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


class Client:
    """One of them: a JSON line in, a JSON line out. What it heard is kept, to be searched."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.heard: list[bytes] = []
        self._turn = asyncio.Lock()

    async def tell(self, order: msgspec.Struct, kind: type[T]) -> T:
        """Raises StoryBroke when the process does not answer."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            async with self._turn, asyncio.timeout(ANSWER_SECONDS):
                stdin.write(msgspec.json.encode(order) + b"\n")
                line = await stdout.readline()
        except (OSError, RuntimeError):  # uvloop has the second for a pipe without a reader
            line = b""
        if not line:
            raise StoryBroke("a client's process gave up: --embedded DIR keeps its log/clients.log")
        self.heard.append(line)
        return msgspec.json.decode(line, type=kind)

    async def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(ENDING_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def client(module: str, log_file: Path) -> AsyncIterator[Client]:
    """Start one; isolated (-I), so that no PYTHON* of the caller's reaches it either."""
    with log_file.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-m", module),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env=ENVIRONMENT,
            cwd="/",
            limit=LINE_BYTES_MAX,
            start_new_session=True,  # Ctrl-C is for the demo, which ends them
        )
    started = Client(process)
    try:
        yield started
    finally:
        await started.end()


class NewToken(msgspec.Struct):
    """The masked card that answers a card number."""

    id: str
    brand: str
    last4: str
    exp_month: int
    exp_year: int


class PlainHttp:
    """A client without any SDK, under one API key."""

    def __init__(self, process: Client, base_url: str, key: str | None, ca_file: str) -> None:
        self.process = process
        self._base_url = base_url
        self._key = key
        self._ca_file = ca_file

    async def get(self, path: str) -> HttpAnswer:
        call = HttpCall("GET", self._base_url + path, self._ca_file, self._key)
        return await self.process.tell(call, HttpAnswer)

    async def post(self, path: str, body: object) -> HttpAnswer:
        text = msgspec.json.encode(body).decode()
        call = HttpCall("POST", self._base_url + path, self._ca_file, self._key, text)
        return await self.process.tell(call, HttpAnswer)

    async def post_raw(self, path: str, text: str, headers: Mapping[str, str]) -> HttpAnswer:
        """Send these very characters, under no key."""
        call = HttpCall("POST", self._base_url + path, self._ca_file, body=text, headers=headers)
        return await self.process.tell(call, HttpAnswer)

    async def delete(self, path: str) -> HttpAnswer:
        call = HttpCall("DELETE", self._base_url + path, self._ca_file, self._key)
        return await self.process.tell(call, HttpAnswer)

    async def post_form(self, path: str, fields: Mapping[str, str]) -> HttpAnswer:
        """Send a form as a browser does."""
        call = HttpCall("POST", self._base_url + path, self._ca_file, body=urlencode(fields))
        call.content_type = FORM
        return await self.process.tell(call, HttpAnswer)

    async def tokenize(self, card: DemoCard) -> NewToken:
        """Raises StoryBroke when there is no token to be had."""
        answer = await self.post("/v1/tokens", {"card": typed_in(card)})
        if answer.status != CREATED:
            raise StoryBroke(f"POST /v1/tokens answers {answer.status}")
        return msgspec.json.decode(answer.body, type=NewToken)


CREATED: Final = 201


def typed_in(card: DemoCard) -> dict[str, object]:
    return {
        "number": card.number,
        "exp_month": card.exp_month,
        "exp_year": card.exp_year,
        "cvc": card.cvc,
    }


def checkout_page(process: Client, credentials: Credentials) -> PlainHttp:
    """A shopper's browser: it has the publishable key, which can only make tokens."""
    key = credentials.publishable_key
    return PlainHttp(process, credentials.public_url, key, credentials.ca_file)


def back_office(process: Client, credentials: Credentials) -> PlainHttp:
    key = credentials.secret_key
    return PlainHttp(process, credentials.private_url, key, credentials.ca_file)
