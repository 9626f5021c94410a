"""The client of flow tests: any request, and answers in which no card number may be."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import aiohttp
from multidict import CIMultiDictProxy

from tests.flows.leaks import first_leak

PROBLEM = "application/problem+json"


@dataclass(frozen=True)
class Reply:
    """An answer, after it was searched for card numbers."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document

    @property
    def problem(self) -> dict[str, Any]:
        """The problem document of one of our own errors (RFC 9457)."""
        assert self.headers["Content-Type"] == PROBLEM, (self.status, self.body)
        document = self.json()
        assert document["status"] == self.status
        assert document["request_id"] == self.headers["Panward-Request-Id"]
        return document

    @property
    def error(self) -> dict[str, Any]:
        """The error object of Stripe's shape."""
        assert self.headers["Content-Type"].startswith("application/json"), self.body
        error: dict[str, Any] = self.json()["error"]
        return error

    @property
    def state(self) -> str:
        return self.headers["Panward-State"]

    def told(self) -> tuple[int, str, object, object]:
        """Status, code, field and reason of a problem document."""
        problem = self.problem
        return self.status, problem["code"], problem.get("field"), problem.get("reason")


class Wire:
    """One client's connections."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def __call__(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        *,
        headers: Mapping[str, str] | list[tuple[str, str]] | None = None,
    ) -> Reply:
        async with self._session.request(
            method,
            url,
            data=None if body is None else BytesIO(body),  # large ones too
            headers=headers,
            allow_redirects=False,
            skip_auto_headers=("Content-Type",),
        ) as response:
            reply = Reply(response.status, response.headers, await response.read())
        head = "\n".join(f"{name}: {value}" for name, value in reply.headers.items())
        leak = first_leak(head.encode() + b"\n\n" + reply.body)
        assert leak is None, "a card number in an answer"
        return reply
