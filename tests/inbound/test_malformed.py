"""Ten thousand malformed requests with a card number in each: it is in no answer and in no log."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.flows.leaks import first_leak
from tests.inbound.framing import Way, direct, hang_up
from tests.inbound.malformed import Malformed, malformed
from tests.inbound.stage import InboundStage

pytestmark = pytest.mark.embedded

COUNT = 10_000
LANES = 24
ANSWER_SECONDS = 15.0
SHORT_SECONDS = 0.3
"""For those that the other side may rightly wait on."""
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *([0-9]+)\r\n")
_CLOSE = re.compile(rb"(?i)\r\nconnection: *close\r\n")


class Lane:
    """A client that keeps its connection for as long as the other side does."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.answers: list[bytes] = []
        self.statuses: Counter[int] = Counter()

    async def send(self, request: Malformed) -> None:
        reader, writer = self._open or await self._way.connect()
        self._open = (reader, writer)
        seconds = SHORT_SECONDS if request.waits else ANSWER_SECONDS
        try:
            async with asyncio.timeout(seconds):
                writer.write(request.data)
                keeps = await self._answer(reader)
        except TimeoutError:
            assert request.waits, "no answer"
            keeps = False
        except (OSError, asyncio.IncompleteReadError) as end:
            self.answers.append(getattr(end, "partial", b""))
            keeps = False
        if not keeps:
            await self.close()

    async def _answer(self, reader: asyncio.StreamReader) -> bool:
        """Read one answer; tell whether another request may follow."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        body = await (reader.readexactly(int(length[1])) if length else reader.read(1 << 20))
        self.answers.append(head + body)
        self.statuses[int(head[9:12])] += 1
        return (
            length is not None
            and _CLOSE.search(head) is None
            and not head.startswith(b"HTTP/1.1 1")
        )

    async def close(self) -> None:
        if self._open is not None:
            await hang_up(self._open[1])
            self._open = None


async def sent(way: Way, requests: Iterator[Malformed]) -> list[Lane]:
    """Send all, some at a time."""
    lanes = [Lane(way) for _ in range(LANES)]

    async def run(lane: Lane) -> None:
        for request in requests:
            await lane.send(request)
        await lane.close()

    async with asyncio.TaskGroup() as group:
        for lane in lanes:
            group.create_task(run(lane))
    return lanes


@pytest.mark.guards("T-15")
async def test_no_answer_and_no_log_says_the_number_of_a_malformed_request(
    inbound: InboundStage,
) -> None:
    way = direct(inbound.port, inbound.hostname, inbound.ca_file)
    lanes = await sent(way, malformed(COUNT, inbound.hostname))
    answers = [answer for lane in lanes for answer in lane.answers]
    statuses: Counter[int] = sum((lane.statuses for lane in lanes), Counter())
    assert len(answers) > 0.95 * COUNT
    assert {status for status in statuses if status >= 500} <= {501, 505}
    assert len(statuses) > 3, statuses  # refused for many reasons, not all at the door
    for answer in answers:
        assert first_leak(answer) is None
    for log in (inbound.gateway.out, inbound.gateway.err):
        assert first_leak(log.read_bytes()) is None
    assert inbound.deployment.leak_in_the_logs() is None  # its children: OpenBao, PostgreSQL
    assert inbound.merchant.leak() is None
