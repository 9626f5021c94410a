"""A constant rate, which wrk has not: `python -m bench.open_loop`, a line of JSON.

Requests are due at fixed times, whether earlier ones have been answered or not, and each is
timed from when it was due: a server that stalls is not given time to recover.
"""

import asyncio
import re
import ssl
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Final, cast

import msgspec
import typer
import uvloop

from bench.figures import Load, load_of

ANSWER_SECONDS: Final = 10.0
WARM_UP_REQUESTS: Final = 50
OK: Final = 200  # what the processor of the bench says
HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\nContent-Length: ?([0-9]{1,7})\r\n", re.IGNORECASE)


class Refused(Exception):
    """A tunnel that was not granted: nothing can be measured."""


class Steady(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen; `late_ms` is the worst delay of the generator itself."""

    load: Load
    late_ms: float
    connections: int


class TunnelPlan(msgspec.Struct, frozen=True):
    """The proxy's port, what CONNECT asks it for, and what a certificate there is verified by."""

    proxy_port: int
    name: str
    port: int
    ca_file: str
    for_each: bool
    """Whether every request gets a tunnel of its own."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to send, to whom, how often. The file that holds it holds a key: it is private."""

    port: int
    ca_file: str
    path: str
    key: str
    tokens_file: str
    start: int
    seed: str
    exp_year: int
    per_second: float
    seconds: float
    tunnel: TunnelPlan | None = None
    posts_file: str = ""
    """Callbacks instead of payments: a signature, a tab and a body a line."""
    connections: int = 0
    """Opened before, and no more are: what is due waits for one. 0: as many as it takes."""

    @property
    def host(self) -> str:
        """What the requests name as theirs."""
        return f"127.0.0.1:{self.port}" if self.tunnel is None else self.tunnel.name


class Line(asyncio.Protocol):
    """One kept connection; one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._received = bytearray()
        self._answer: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is none by type

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(HEAD_END)
        if end < 0 or self._answer is None:
            return
        whole = end + len(HEAD_END)
        if len(self._received) >= whole + content_length(self._received[:whole]):
            status = int(self._received[9:12])
            self._received.clear()
            if not self._answer.done():
                self._answer.set_result(status)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(0)

    async def exchange(self, request: bytes) -> int:
        """Send, and return the status; 0 when there was none."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        async with asyncio.timeout(ANSWER_SECONDS):
            return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Generator:
    """Sends what is due."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._posts = _posts(plan) if plan.posts_file else []
        self._tokens = [] if self._posts else Path(plan.tokens_file).read_text("ascii").split()
        self._room = asyncio.Semaphore(plan.connections) if plan.connections else nullcontext()
        ca_file = plan.ca_file if plan.tunnel is None else plan.tunnel.ca_file
        self._context = ssl.create_default_context(cafile=ca_file)
        self._idle: list[Line] = []
        self._opened = 0
        self._samples: list[float] = []
        self._errors = 0

    async def run(self) -> Steady:
        plan = self._plan
        self._idle = [await self._open() for _ in range(plan.connections)]
        for number in range(WARM_UP_REQUESTS):
            await self._one(number, time.perf_counter())
        self._samples.clear()
        late = 0.0
        total = int(plan.seconds * plan.per_second)
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(total):
                due = started + number / plan.per_second
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                late = max(late, time.perf_counter() - due)
                group.create_task(self._one(WARM_UP_REQUESTS + number, due))
        seconds = time.perf_counter() - started
        for line in self._idle:
            line.close()
        load = load_of(self._samples, seconds=seconds, errors=self._errors)
        return Steady(load=load, late_ms=late * 1000, connections=self._opened)

    async def _one(self, number: int, due: float) -> None:
        async with self._room:
            await self._answered(number, due)

    async def _answered(self, number: int, due: float) -> None:
        # Where they are so many, each has its turn: a server closes what is idle.
        line = self._idle.pop(0 if self._posts else -1) if self._idle else await self._open()
        try:
            status = await line.exchange(self._request(number))
        except TimeoutError:
            status = 0
        self._samples.append((time.perf_counter() - due) * 1000)
        tunnel = self._plan.tunnel
        if status == OK and (tunnel is None or not tunnel.for_each):
            self._idle.append(line)
            return
        self._errors += status != OK
        line.close()

    async def _open(self) -> Line:
        self._opened += 1
        loop = asyncio.get_running_loop()
        if self._plan.tunnel is not None:
            return await self._through(self._plan.tunnel)
        port = self._plan.port
        _, line = await loop.create_connection(Line, "127.0.0.1", port, ssl=self._context)
        return line

    async def _through(self, tunnel: TunnelPlan) -> Line:
        """Open a tunnel, and TLS inside; a proxy's refusal is the answer to the request."""
        loop = asyncio.get_running_loop()
        transport, entrance = await loop.create_connection(Line, "127.0.0.1", tunnel.proxy_port)
        place, key = f"{tunnel.name}:{tunnel.port}", self._plan.key
        head = f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n"
        granted = await entrance.exchange(
            f"{head}Proxy-Authorization: Bearer {key}\r\n\r\n".encode()
        )
        if granted != OK:
            raise Refused(f"the proxy answered CONNECT with {granted}")
        line = Line()
        secured = await loop.start_tls(transport, line, self._context, server_hostname=tunnel.name)
        assert secured is not None
        line.connection_made(secured)
        return line

    def _request(self, number: int) -> bytes:
        plan = self._plan
        if self._posts:
            return self._posts[(plan.start + number) % len(self._posts)]
        token = self._tokens[(plan.start + number) % len(self._tokens)]
        card = "payment_method_data%5Bcard%5D"
        body = (
            "amount=1099&currency=eur&confirm=true&metadata%5Border_id%5D=bench"
            f"&payment_method_data%5Btype%5D=card&{card}%5Bnumber%5D={token}"
            f"&{card}%5Bexp_month%5D=12&{card}%5Bexp_year%5D={plan.exp_year}"
        )
        head = (
            f"POST {plan.path} HTTP/1.1\r\nHost: {plan.host}\r\n"
            f"Authorization: Bearer {plan.key}\r\n"
            f"Idempotency-Key: steady-{plan.seed}-{number}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return (head + body).encode()


def _posts(plan: Plan) -> list[bytes]:
    """Make the requests before the run: what is measured is not the generator."""
    made = []
    for line in Path(plan.posts_file).read_bytes().splitlines():
        signature, _, body = line.partition(b"\t")
        head = (
            f"POST {plan.path} HTTP/1.1\r\nHost: {plan.host}\r\n"
            f"Content-Type: application/json; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
        )
        made.append(head.encode() + b"Stripe-Signature: " + signature + HEAD_END + body)
    return made


def content_length(head: bytes | bytearray) -> int:
    """Read how long the body after a head is; 0 if it does not say."""
    length = _LENGTH.search(head)
    return int(length[1]) if length else 0


async def measure(plan: Plan) -> Steady:
    return await Generator(plan).run()


def main(plan: Annotated[Path, typer.Option()]) -> None:
    """Carry out a plan, and print what was seen."""
    wanted = msgspec.json.decode(plan.read_bytes(), type=Plan)
    sys.stdout.write(msgspec.json.encode(uvloop.run(measure(wanted))).decode() + "\n")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
