"""WebSockets in front of a merchant's endpoint: messages both ways, each looked at.

What lives here: both ends of one socket, with the limits that they share, and the pump between
them. What never may: who may open one, and what is done about a card in a message.

Nothing passes that was not looked at. So pings are answered where they arrive and go on empty,
compression is not offered to either side, and the reason of a close is looked at like a message.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

import aiohttp
from aiohttp import WSCloseCode, WSMsgType, web

from gateway.inbound.rules import Phase

MESSAGE_BYTES_MAX: Final = 1_048_576
CLOSE_SECONDS: Final = 3.0  # until the other side says goodbye, too
REASON_BYTES_MAX: Final = 123  # RFC 6455 5.5, less the code

Look = Callable[[str | bytes, Phase], Awaitable[str | bytes]]
ClientSocket = web.WebSocketResponse[Literal[True]]

_NEVER_SENT: Final = frozenset(
    {0, 1005, 1006, 1015}
)  # RFC 6455 7.4.1: what a side notes for itself
_DATA: Final = frozenset({WSMsgType.TEXT, WSMsgType.BINARY})


class MerchantSocket(aiohttp.ClientWebSocketResponse[Literal[True]]):
    """The end towards the merchant: whichever way it ends, its connection ends with it."""

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"") -> bool:
        try:
            return await super().close(code=code, message=message)
        finally:
            self._response.close()


def client_socket(protocol: str | None) -> ClientSocket:
    """Make the end towards the client, of the protocol that the merchant chose."""
    return web.WebSocketResponse(
        timeout=CLOSE_SECONDS,
        autoclose=False,
        autoping=False,
        protocols=() if protocol is None else (protocol,),
        compress=False,
        max_msg_size=MESSAGE_BYTES_MAX,
    )


End = ClientSocket | MerchantSocket


@dataclass(frozen=True, slots=True)
class _Ended:
    """Why one way ended, and what the two sides are told of it."""

    to_source: int
    to_sink: int
    reason: bytes = b""
    error: Exception | None = None


_QUIET: Final = _Ended(WSCloseCode.GOING_AWAY, WSCloseCode.GOING_AWAY)


async def pump(
    server: ClientSocket, client: MerchantSocket, *, look: Look, idle_seconds: float
) -> None:
    """Pass messages between both ends until one goes away, then close the other alike.

    Both are closed when this returns. Nothing from either side for `idle_seconds` ends it.
    Raises what `look` raises, once both sides were told that something was refused.
    """
    ends: list[_Ended] = []
    try:
        async with asyncio.timeout(idle_seconds) as idle, asyncio.TaskGroup() as group:

            async def one_way(source: End, sink: End, phase: Phase) -> None:
                end = await _Way(source, sink, look, phase, idle, idle_seconds).until_it_ends()
                if not ends:  # the other way ends because of this
                    ends.append(end)
                    await _close(source, end.to_source, end.reason)
                    await _close(sink, end.to_sink, end.reason)

            group.create_task(one_way(server, client, "request"))
            group.create_task(one_way(client, server, "response"))
    except TimeoutError:
        ends.append(_QUIET)
    finally:
        await _close(client, WSCloseCode.GOING_AWAY)
        await _close(server, WSCloseCode.GOING_AWAY)
    if ends and ends[0].error is not None:
        raise ends[0].error


@dataclass(frozen=True, slots=True)
class _Way:
    """One way of a socket."""

    source: End
    sink: End
    look: Look
    phase: Phase
    idle: asyncio.Timeout
    idle_seconds: float

    async def until_it_ends(self) -> _Ended:
        lost = WSCloseCode.GOING_AWAY if self.phase == "request" else WSCloseCode.BAD_GATEWAY
        while True:
            message = await self.source.receive()
            if not self.idle.expired():
                self.idle.reschedule(asyncio.get_running_loop().time() + self.idle_seconds)
            match message.type:
                case WSMsgType.CLOSE:
                    return await self._goodbye(int(message.data), message.extra or "")
                case WSMsgType.ERROR:  # too large, or no WebSocket frame: its side was told
                    return _Ended(WSCloseCode.PROTOCOL_ERROR, lost)
                case WSMsgType.CLOSING | WSMsgType.CLOSED:
                    return _Ended(WSCloseCode.OK, lost)
                case _:
                    error = await self._pass(message.type, message.data)
            if error is not None:
                return error

    async def _pass(self, kind: WSMsgType, data: str | bytes) -> _Ended | None:
        if kind in _DATA:
            data, error = await self._looked_at(data)
            if error is not None:
                return _Ended(WSCloseCode.POLICY_VIOLATION, WSCloseCode.GOING_AWAY, error=error)
        try:
            async with asyncio.timeout(self.idle_seconds):
                await self._send(kind, data)
        except (OSError, aiohttp.ClientError, RuntimeError):  # a timeout is an OSError, too
            return _Ended(WSCloseCode.GOING_AWAY, WSCloseCode.GOING_AWAY)
        return None

    async def _send(self, kind: WSMsgType, data: str | bytes) -> None:
        if isinstance(data, str):
            await self.sink.send_str(data)
        elif kind is WSMsgType.PING:
            await self.source.pong(data)
            await self.sink.ping()  # that somebody is there is news to the other side as well
        elif kind is not WSMsgType.PONG:
            await self.sink.send_bytes(data)

    async def _looked_at(self, data: str | bytes) -> tuple[str | bytes, Exception | None]:
        try:
            return await self.look(data, self.phase), None
        except Exception as error:  # noqa: BLE001 - of ours, and raised when both sides know
            return b"", error

    async def _goodbye(self, code: int, reason: str) -> _Ended:
        """Pass a close on; its reason is a text that may hold anything."""
        said: str | bytes = ""
        error = None
        if reason:
            said, error = await self._looked_at(reason)
        reply = WSCloseCode.OK if code in _NEVER_SENT else code
        if error is not None:
            return _Ended(reply, WSCloseCode.GOING_AWAY, error=error)
        data = said.encode() if isinstance(said, str) else said
        return _Ended(reply, reply, data if len(data) <= REASON_BYTES_MAX else b"")


async def _close(end: End, code: int, reason: bytes = b"") -> None:
    """Say goodbye and hang up; who does not listen is not waited for."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await end.close(code=code, message=reason)
    except (OSError, aiohttp.ClientError, RuntimeError):
        pass  # gone already, or for good now
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # Nobody canceled this: aiohttp 3.14 keeps the wait for a full buffer that was given up,
        # and whoever waits for the same buffer next finds it canceled.
