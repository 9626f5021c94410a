"""The nodes of one HashiCorp Vault: a request goes to one of them and, if need be, to another.

The only module that speaks to HashiCorp Vault at run time (urllib3's pool, in a few threads). Here
lives how a connection is made and pinned, how long a call may take and where it is tried again.
What a request says and what an answer means lives elsewhere; no token is kept here.

Nothing is read from the environment: no proxy, authority, token or address. Redirects are not
followed: the token would go with them.
"""

import asyncio
import secrets
import ssl
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Final
from urllib.parse import urlsplit

from urllib3 import BaseHTTPResponse, HTTPSConnectionPool, Timeout
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.exceptions import TimeoutError as Urllib3Timeout

from vault.observer import Observer
from vault.transit_answers import FAILURES, MAY_HAVE_HAPPENED, Again, Answer, Verdict, answer_of
from vault.transit_items import Request

CALL_SECONDS: Final = 1.0
CONNECT_SECONDS: Final = 0.5
READ_SECONDS: Final = 1.0  # for each read of the socket; CALL_SECONDS is for all of them
PAUSE_SECONDS: Final = (0.01, 0.05)  # before a second try, lest all come back at once
ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Pins:
    """Whom we trust, and as whom we come."""

    ca_file: str
    client_cert_file: str | None
    client_key_file: str | None


class Node:
    """One server of HashiCorp Vault; the methods block and are called in threads."""

    def __init__(self, address: str, pins: Pins, *, connections: int) -> None:
        self._address = address
        self._pins = pins
        self._connections = connections
        self._lock = Lock()
        self._pool: HTTPSConnectionPool | None = None

    def exchange(self, request: Request, token: str | None) -> Answer:
        """Send one request; give what became of it. Raises nothing."""
        headers = {
            "Accept-Encoding": "identity",
            "Content-Type": request.content_type,
            "X-Correlation-ID": secrets.token_hex(8),
            "X-Vault-Request": "true",  # a listener may ask for it, against forged requests
        }
        if token is not None:
            headers["X-Vault-Token"] = token
        try:
            response = self._opened().urlopen(
                request.method,
                request.path,
                body=request.body,
                headers=headers,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            content = _content(response)
        except Exception as error:  # noqa: BLE001 - whatever it is, only what kind leaves here
            return Answer(verdict_on(error))
        if content is None:
            return Answer(Verdict.GARBLED)
        return answer_of(response.status, content)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()

    def _opened(self) -> HTTPSConnectionPool:
        """Make the pool when it is first needed: reading its files may fail, as a call may."""
        with self._lock:
            if self._pool is None:
                url = urlsplit(self._address)
                if url.scheme != "https" or url.hostname is None:  # http:// is not spoken
                    raise ValueError
                self._pool = HTTPSConnectionPool(
                    url.hostname,
                    url.port,
                    maxsize=self._connections,
                    block=True,
                    timeout=Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
                    ssl_context=_context(self._pins),
                )
            return self._pool


def _context(pins: Pins) -> ssl.SSLContext:
    """Trust one authority: the system's are not asked, nor those of the environment."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(pins.ca_file)
    if pins.client_cert_file is not None and pins.client_key_file is not None:
        context.load_cert_chain(pins.client_cert_file, pins.client_key_file)
    return context


def _content(response: BaseHTTPResponse) -> bytes | None:
    """Read a body of bounded size; None when it is longer, and then the connection is dropped."""
    content = response.read(ANSWER_BYTES_MAX + 1)
    if len(content) > ANSWER_BYTES_MAX:
        response.close()
        return None
    response.release_conn()
    return content


def verdict_on(error: Exception) -> Verdict:
    """Say what an error of the libraries below means, by its class alone."""
    if isinstance(error, ConnectTimeoutError | NewConnectionError):
        return Verdict.NOT_CONNECTED
    if isinstance(error, TimeoutError | Urllib3Timeout):
        return Verdict.TIMED_OUT
    return Verdict.BROKEN


class Nodes:
    """All nodes of one HashiCorp Vault; the one that answered last is asked first."""

    def __init__(
        self,
        addresses: Sequence[str],
        pins: Pins,
        *,
        observer: Observer,
        threads: int,
        chance: Callable[[], float],
    ) -> None:
        """`chance` gives numbers from 0 to 1."""
        self._nodes = [Node(address, pins, connections=threads) for address in addresses]
        self._preferred = 0
        self._observer = observer
        self._chance = chance
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="transit")

    async def send(self, request: Request, token: str | None) -> Answer:
        """Ask the preferred node and, where that makes sense, once more another one."""
        first = self._preferred
        answer = await self._ask(first, request, token)
        again = FAILURES[answer.verdict][1] if answer.verdict in FAILURES else Again.NOWHERE
        if again is Again.NOWHERE:
            return answer
        if self._preferred == first:
            self.prefer_another()
        if again is Again.ON_ANOTHER_NODE and self._preferred == first:
            return answer  # there is no other
        if answer.verdict in MAY_HAVE_HAPPENED and not request.repeatable:
            return answer
        shortest, longest = PAUSE_SECONDS
        await asyncio.sleep(shortest + (longest - shortest) * self._chance())
        return await self._ask(self._preferred, request, token)

    async def send_to_each(self, request: Request) -> list[Answer]:
        """Ask every node, one after the other."""
        return [await self._ask(n, request, None) for n in range(len(self._nodes))]

    def prefer_another(self) -> None:
        """Leave the preferred node: it lags, or does not work."""
        self._preferred = (self._preferred + 1) % len(self._nodes)

    def close(self) -> None:
        """Let go of threads and connections. A thread that still hangs ends by its own timeout."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for node in self._nodes:
            node.close()

    async def _ask(self, number: int, request: Request, token: str | None) -> Answer:
        """Ask one node. At the deadline the caller goes on; what the thread brings later is lost.

        A thread cannot be canceled. It holds no lock and no place in a queue of ours.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                answer = await loop.run_in_executor(
                    self._threads, self._nodes[number].exchange, request, token
                )
        except TimeoutError:
            answer = Answer(Verdict.TIMED_OUT)
        self._observer.transit_called(
            request.operation, request.items, loop.time() - started, answer.verdict.value
        )
        return answer
