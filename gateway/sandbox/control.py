"""Steering simulated processors that run as a process of their own: JSON on a Unix socket.

`GET /state` tells what it counted, received (masked) and sent as callbacks; `GET /numbers` the
numbers in full, only where it was started to remember them; `POST /do` asks for a mishap;
`DELETE /received` forgets. The socket's folder decides who may: there is no other check.
"""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web

from gateway.sandbox.behavior import Point
from gateway.sandbox.callback_control import CallbackCommand, obey_about_callbacks
from gateway.sandbox.echo import EchoPlace
from gateway.sandbox.edge import SILENT
from gateway.sandbox.processor import CLOSING_SECONDS, Processor

COMMAND_BYTES_MAX: Final = 16 * 1024


class _Command(msgspec.Struct, frozen=True, tag_field="do", forbid_unknown_fields=True):
    """What `POST /do` takes: `do` and the arguments of the method of that name."""


class LoseNextAnswer(_Command, frozen=True, tag="lose_next_answer"):
    """As `Processor.lose_next_answer`."""

    half: bool = False


class FailNext(_Command, frozen=True, tag="fail_next"):
    """As `Processor.fail_next`."""

    status: int
    after_charge: bool = False


class RedirectNext(_Command, frozen=True, tag="redirect_next"):
    """As `Processor.redirect_next`."""

    url: str
    status: int = 307


class CloseBeforeReadingNext(_Command, frozen=True, tag="close_before_reading"):
    """As `Processor.close_before_reading`."""


class EchoNumbers(_Command, frozen=True, tag="echo_numbers"):
    """As `Processor.echo_numbers`; the place is `in` here."""

    in_: EchoPlace | None = msgspec.field(name="in", default="body")


class DripAnswers(_Command, frozen=True, tag="drip"):
    """As `Processor.drip`."""

    piece_bytes: int | None = 1
    pause_seconds: float = 0.01


class Delay(_Command, frozen=True, tag="delay"):
    """As setting `Processor.delay_seconds`."""

    seconds: float


class Hold(_Command, frozen=True, tag="hold"):
    """As `Processor.hold`."""

    at: Point = "request"


class Release(_Command, frozen=True, tag="release"):
    """As `Processor.release`."""


class Behave(_Command, frozen=True, tag="behave"):
    """As `Processor.behave`."""


Command = (
    LoseNextAnswer
    | FailNext
    | RedirectNext
    | CloseBeforeReadingNext
    | EchoNumbers
    | DripAnswers
    | Delay
    | Hold
    | Release
    | Behave
    | CallbackCommand
)


def obey(processor: Processor, command: Command) -> None:  # noqa: C901 - one case a command
    """Do it; a ValueError, LookupError or OSError where it cannot be done."""
    match command:
        case LoseNextAnswer(half):
            processor.lose_next_answer(half=half)
        case FailNext(status, after_charge):
            processor.fail_next(status, after_charge=after_charge)
        case RedirectNext(url, status):
            processor.redirect_next(url, status=status)
        case CloseBeforeReadingNext():
            processor.close_before_reading()
        case EchoNumbers(in_):
            processor.echo_numbers(in_)
        case DripAnswers(piece_bytes, pause_seconds):
            processor.drip(piece_bytes, pause_seconds=pause_seconds)
        case Delay(seconds):
            processor.delay_seconds = seconds
        case Hold(at):
            processor.hold(at)
        case Release():
            processor.release()
        case Behave():
            processor.behave()
        case _:
            obey_about_callbacks(processor, command)


class Control:
    """The handlers of the control socket."""

    def __init__(self, processor: Processor) -> None:
        self._processor = processor

    def application(self) -> web.Application:
        application = web.Application(client_max_size=COMMAND_BYTES_MAX)
        application.router.add_get("/state", self.state)
        application.router.add_get("/numbers", self.numbers)
        application.router.add_post("/do", self.do)
        application.router.add_delete("/received", self.forget)
        return application

    async def state(self, _request: web.Request) -> web.Response:
        received = [
            {
                "at": call.at,
                "processor": call.processor,
                "method": call.method,
                "path": call.path,
                "account": call.account,
                "idempotency_key": call.idempotency_key,
                "cards": call.masked,
            }
            for call in self._processor.received
        ]
        callbacks = self._processor.callbacks
        told = {"counts": callbacks.counts, "recent": callbacks.recent}
        counts = self._processor.counts
        return _json({"counts": counts, "received": received, "callbacks": told})

    async def numbers(self, _request: web.Request) -> web.Response:
        try:
            numbers = self._processor.numbers_received
        except RuntimeError:
            return _json({"error": "not started with --unsafe-remember-numbers"}, status=403)
        return _json({"numbers": numbers})

    async def do(self, request: web.Request) -> web.Response:
        try:
            command = msgspec.json.decode(await request.read(), type=Command)
        except msgspec.DecodeError:
            return _json({"error": "no such command, or wrong arguments"}, status=400)
        try:
            obey(self._processor, command)
        except (ValueError, LookupError, OSError):
            return _json({"error": "this cannot be done"}, status=400)
        return web.Response(status=204)

    async def forget(self, _request: web.Request) -> web.Response:
        self._processor.forget_received()
        return web.Response(status=204)


@contextlib.asynccontextmanager
async def serve_control(processor: Processor, socket: Path) -> AsyncIterator[None]:
    """Listen on a Unix socket until the block ends; one that was left behind is replaced."""
    runner = web.AppRunner(
        Control(processor).application(),
        access_log=None,
        handle_signals=False,
        logger=SILENT,
        shutdown_timeout=CLOSING_SECONDS,
    )
    await runner.setup()
    try:
        await web.UnixSite(runner, str(socket)).start()
        yield
    finally:
        await runner.cleanup()


def _json(body: object, *, status: int = 200) -> web.Response:
    return web.Response(
        status=status, body=msgspec.json.encode(body), content_type="application/json"
    )
