"""A client that knows exactly what it was told: HTTP/1.1 on one TLS connection, no retries.

An answer exists only when its last byte has come. Whatever else happens is `NoAnswer`: the
request may or may not have been carried out, as a merchant has to assume.
"""

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

ANSWER_SECONDS = 30.0


class NoAnswer(Exception):
    """The connection ended before the whole answer was there."""


@dataclass(frozen=True)
class Answer:
    """One whole answer; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document


class RawWire:
    """One connection to one listener, opened when it is needed."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), int(parts.port or 0)
        self._context = context
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __call__(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        return await self.exchange("\r\n".join([*lines, "", ""]).encode() + body)

    async def exchange(self, request: bytes, *, seconds: float = ANSWER_SECONDS) -> Answer:
        """Send any bytes, and read what comes back."""
        try:
            async with asyncio.timeout(seconds):
                return await self._exchange(request)
        except (OSError, EOFError, asyncio.LimitOverrunError, TimeoutError):
            self.close()
        raise NoAnswer

    async def _exchange(self, request: bytes) -> Answer:
        if self._writer is None or self._reader is None:
            self._reader, self._writer = await asyncio.open_connection(
                self._host, self._port, ssl=self._context
            )
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        status_line, *fields = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (field.partition(":") for field in fields if field)
        }
        body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Answer(int(status_line.split(" ")[1]), headers, body)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None
